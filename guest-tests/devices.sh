# devices.sh: how a test's disk is made and attached; sourced. The only place that knows the devices.
#
#   stock    QEMU's own nvme over a raw file
#   coppice  coppice-nvme over a Coppice image
#
# COPPICE_DEVICE chooses (default: coppice). COPPICE_QEMU_RUN is the prefix that runs a QEMU program
# (for coppice: build/release/bin/coppice-qemu; `COPPICE_QEMU_RUN= ` means none).

guest_tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build_root=$(cd "$guest_tests/.." && pwd)/build
: "${COPPICE_DEVICE:=coppice}"
: "${COPPICE_BIN:=$build_root/release/bin}"
: "${COPPICE_GUESTS:=$build_root/guests}"
: "${COPPICE_LBA_OPTION:=lba_size}"   # the create option of the image format for the LBA size
export COPPICE_DEVICE COPPICE_BIN COPPICE_GUESTS COPPICE_LBA_OPTION

# The kernel of a test that does not ask for one: 6.1, or what there is.
default_kernel=6.1
[ -s "$COPPICE_GUESTS/6.1/stamp" ] || [ ! -s "$COPPICE_GUESTS/6.12/stamp" ] || default_kernel=6.12

qemu_run=()   # the words before a QEMU program's name
case $COPPICE_DEVICE in
    stock)   read -ra qemu_run <<< "${COPPICE_QEMU_RUN-}" ;;
    coppice) read -ra qemu_run <<< "${COPPICE_QEMU_RUN-$COPPICE_BIN/coppice-qemu}" ;;
    *) echo "COPPICE_DEVICE is '$COPPICE_DEVICE'; it must be stock or coppice" >&2; exit 2 ;;
esac

disk_extension() { [ "$COPPICE_DEVICE" = stock ] && echo raw || echo coppice; }
disk_format()    { disk_extension; }

# Makes an empty disk. The LBA size belongs to the volume of a Coppice image, to the device of stock.
disk_create() {  # disk_create FILE SIZE LBA_BYTES
    local options=()
    [ "$COPPICE_DEVICE" = stock ] || options=(-o "$COPPICE_LBA_OPTION=$3")
    rm -f "$1"
    "${qemu_run[@]}" qemu-img create -q -f "$(disk_format)" "${options[@]}" "$1" "$2"
}

# Writes a raw file's content into a new disk.
disk_from_raw() {  # disk_from_raw RAW FILE LBA_BYTES
    disk_create "$2" "$(stat -c %s "$1")" "$3" &&
        "${qemu_run[@]}" qemu-img convert -n -f raw -O "$(disk_format)" "$1" "$2"
}

# A disk's content as a raw file.
disk_to_raw() {  # disk_to_raw FILE RAW
    "${qemu_run[@]}" qemu-img convert -f "$(disk_format)" -O raw "$1" "$2"
}

# The host's checker over a disk that no QEMU holds; stock has none.
disk_check() {  # disk_check FILE
    [ "$COPPICE_DEVICE" = stock ] || "${qemu_run[@]}" qemu-img check -q -f coppice "$1"
}

# QEMU's arguments for one disk, one a line. SPEC is comma-separated:
#   file=PATH serial=S [lba=512|4096] [device=stock|coppice|virtio|scsi-hd|ide-hd|virtio-drive]
#   [node=QEMU -drive options, separated by ';'] [with=QEMU -device properties, separated by ';']
#   [boot=N] [iothread=yes: the device works in a thread of its own, named IO ID-io under
#   -name debug-threads=on; stock cannot] [log=PATH: QEMU records there what is written to the file,
#   below the format (blklogwrites); PATH is made empty]
# virtio is over a raw file: a disk that is neither device. virtio-drive is as people write it,
# `-drive if=virtio`, which has no serial.
disk_arguments() {  # disk_arguments SPEC ID
    local spec=$1 id=$2 file= serial= lba=512 device=$COPPICE_DEVICE drive="cache=writeback" with= boot= log= iothread=no pair image
    local IFS=,
    for pair in $spec; do
        case $pair in
            file=*) file=${pair#*=} ;;
            serial=*) serial=${pair#*=} ;;
            lba=*) lba=${pair#*=} ;;
            device=*) device=${pair#*=} ;;
            node=*) drive=${pair#*=}; drive=${drive//;/,} ;;
            with=*) with=,${pair#*=}; with=${with//;/,} ;;
            log=*) log=${pair#*=} ;;
            boot=*) boot=,bootindex=${pair#*=} ;;
            iothread=*) iothread=${pair#*=} ;;
            *) echo "boot: a disk has no property '$pair'" >&2; return 2 ;;
        esac
    done
    [ -n "$file" ] && [ -n "$serial" ] || { echo "boot: a disk needs file= and serial=: $spec" >&2; return 2; }
    image=file=$file
    if [ -n "$log" ]; then
        : > "$log" || return 2
        image=file.driver=blklogwrites,file.file.driver=file,file.file.filename=$file
        image+=,file.log.driver=file,file.log.filename=$log
    fi
    case $device in
        # One controller in a subsystem of its own, so that namespaces can be attached and detached;
        # copy limits are raised so that the same jobs run on both devices.
        stock)
            printf '%s\n' -drive "if=none,id=$id,$image,format=raw,discard=unmap,$drive" \
                -device "nvme-subsys,id=$id-subsystem,nqn=$id" \
                -device "nvme,id=$id-controller,serial=$serial,subsys=$id-subsystem$boot$with" \
                -device "nvme-ns,drive=$id,bus=$id-controller,nsid=1,logical_block_size=$lba,physical_block_size=$lba,mssrl=65535,mcl=4194304,msrc=127" ;;
        coppice)
            if [ "$iothread" = yes ]; then
                printf '%s\n' -object "iothread,id=$id-io"
                with+=,iothread=$id-io
            fi
            printf '%s\n' -drive "if=none,id=$id,$image,format=coppice,$drive" \
                -device "coppice-nvme,id=$id-controller,drive=$id,serial=$serial$boot$with" ;;
        virtio)
            printf '%s\n' -drive "if=none,id=$id,$image,format=raw,$drive" \
                -device "virtio-blk-pci,drive=$id,serial=$serial$boot$with" ;;
        virtio-drive)
            printf '%s\n' -drive "if=virtio,$image,format=$(disk_format)" ;;
        scsi-hd)
            printf '%s\n' -drive "if=none,id=$id,$image,format=$(disk_format),discard=unmap,$drive" \
                -device "virtio-scsi-pci,id=$id-bus" -device "scsi-hd,bus=$id-bus.0,drive=$id,serial=$serial$boot$with" ;;
        ide-hd)
            printf '%s\n' -drive "if=none,id=$id,$image,format=$(disk_format),discard=unmap,$drive" \
                -device "ahci,id=$id-bus" -device "ide-hd,bus=$id-bus.0,drive=$id,serial=$serial$boot$with" ;;
        *) echo "boot: no device '$device'" >&2; return 2 ;;
    esac
}
