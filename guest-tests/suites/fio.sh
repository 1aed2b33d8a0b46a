# fio's verification and a random mix against a model, on both LBA sizes; one of the two devices
# works in the main loop, the other in an iothread.
suite=fio
. "$(dirname "$0")/../lib.sh"
size=16m
case $COPPICE_LEVEL in quick) size=4m ;; long) size=256m ;; esac
# QEMU 7.2's own nvme stalls under emulation at depth above 1.
depth=16
[ "$COPPICE_DEVICE" != stock ] || depth=1
disk_create "$work/a" 512M 512 && disk_create "$work/b" 512M 4096 || { fail disks "cannot be created"; finish; }
guest verify --disk "file=$work/a,serial=fio-512,lba=512" --disk "file=$work/b,serial=fio-4096,lba=4096,iothread=yes" \
    --time-limit 1800 -- fio-verify.sh $size $depth fio-512 fio-4096
host_check check-512 disk_check "$work/a"
host_check check-4096 disk_check "$work/b"
finish
