# The guest boots from the disk: firmware, GRUB, kernel and root all read it. SeaBIOS and OVMF, both
# LBA sizes; the second firmware finds what the first boot wrote.
suite=boot-from-disk
. "$(dirname "$0")/../lib.sh"
for lba in 512 4096; do
    [ "$COPPICE_LEVEL" != quick ] || [ $lba = 512 ] || continue
    host_check "make-$lba" "$guest_tests/make-boot-disk" "$default_kernel" $lba "$work/raw" || continue
    host_check "convert-$lba" disk_from_raw "$work/raw" "$work/disk" $lba || continue
    count=0
    for firmware in seabios ovmf; do
        count=$((count + 1))
        started=$SECONDS
        "$guest_tests/boot" --firmware $firmware --run "$work/$firmware-$lba" --time-limit 120 \
            --disk "file=$work/disk,serial=boot-$lba,lba=$lba" -- /check-boot "$suite/$firmware-$lba" $count < /dev/null
        collect "$firmware-$lba" $?
        result "FIGURE $suite/$firmware-$lba $((SECONDS - started)) s"
    done
    host_check "check-$lba" disk_check "$work/disk"
done
finish
