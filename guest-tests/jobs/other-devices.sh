# jobs/other-devices.sh write|read SIZE VIRTIO SCSI IDE: three images under devices that are not ours;
# the words name what is behind each.
#
# write: fio's verification, a random mix against a model, and a range of known blocks. read: all of
# it again in a new QEMU. TRIM is left out: these devices promise no zeroes behind it.
suite=other-devices
. "$(dirname "$0")/lib.sh"
what=$1 size=$2; shift 2
known=$((256 << 20)) known_bytes=$((32 << 20))   # the range of known blocks
model=$((320 << 20))

disk_of() {  # disk_of virtio|SERIAL → /dev/sda: virtio as the README has it is the only one of its kind
    local try disk
    for try in $(seq 50); do
        for disk in /sys/block/vd* /sys/block/sd*; do
            if { [ "$1" = virtio ] && [[ $disk == */vda ]] && [ -e "$disk" ]; } || grep -aqs "$1 *\$" "$disk/device/vpd_pg80"; then
                echo "/dev/${disk##*/}"; return 0
            fi
        done
        sleep 0.1
    done
    echo "there is no disk $1" >&2
    return 1
}
fio_verify() {
    fio --name=verify --filename="$device" --direct=1 --size="$size" --rw=randwrite --bs=4k --ioengine=libaio --iodepth=16 \
        --verify=crc32c --verify_fatal=1 --randseed=42 --minimal --terse-version=3 --output=/run/fio.out "$@"
}

for kind in virtio on-scsi on-ide; do
    image=$1; shift
    device=$(disk_of $kind) || { fail "$kind" "no device"; continue; }
    note "$kind: $device with image $image"
    if [ "$what" = write ]; then
        check "fio-$kind" fio_verify --do_verify=1
        check "fill-$kind" guest-blocks fill "$device" $known $known_bytes --generation 3
        check "model-$kind" guest-blocks model "$device" --operations 500 --offset $model --length 16m --no-trim
        check "flush-$kind" blockdev --flushbufs "$device"
    else
        check "fio-again-$kind" fio_verify --verify_only
        check "known-$kind" guest-blocks check "$device" $known $known_bytes --generation 3
    fi
done
finish
