# The standard commands by nvme-cli, on both LBA sizes; in the long run also under Linux 6.12.
suite=nvme-cli
. "$(dirname "$0")/../lib.sh"
kernels=$default_kernel
[ "$COPPICE_LEVEL" != long ] || kernels="6.1 6.12"
for kernel in $kernels; do
    need_kernel $kernel "kernel-$kernel" || continue
    for lba in 512 4096; do
        [ "$COPPICE_LEVEL" != quick ] || [ $lba = 4096 ] || continue
        disk_create "$work/disk" 256M $lba || { fail "disk-$lba" "cannot be created"; continue; }
        guest "$kernel-$lba" --kernel $kernel --disk "file=$work/disk,serial=cli-$lba,lba=$lba" -- nvme-cli.sh "cli-$lba"
        host_check "check-$kernel-$lba" disk_check "$work/disk"
    done
done
finish
