# The image under QEMU's other devices, one guest with all of them; then a second QEMU, in which each
# image is under another device than before. virtio-blk is attached as the README says.
suite=other-devices
. "$(dirname "$0")/../lib.sh"
size=32m
[ "$COPPICE_LEVEL" != long ] || size=256m
# virtio-blk and scsi-hd take the block size of the volume by themselves; IDE has 512-byte blocks only.
disk_create "$work/a" 512M 4096 && disk_create "$work/b" 512M 512 && disk_create "$work/c" 512M 4096 ||
    { fail disks "cannot be created"; finish; }
disks() { printf '%s\n' --disk "file=$work/$1,serial=none,device=virtio-drive" --disk "file=$work/$2,serial=on-scsi,device=scsi-hd" --disk "file=$work/$3,serial=on-ide,device=ide-hd,with=logical_block_size=512;physical_block_size=4096"; }
mapfile -t words < <(disks a b c)
guest write "${words[@]}" --time-limit 600 -- other-devices.sh write $size a b c
mapfile -t words < <(disks b c a)
guest read "${words[@]}" --time-limit 600 -- other-devices.sh read $size b c a
for image in a b c; do
    if [ "$COPPICE_DEVICE" = stock ]; then continue; fi
    host_check "check-$image" disk_check "$work/$image"
    "$COPPICE_BIN/coppice" check --data "$work/$image" > "$work/check.log" 2>&1; code=$?
    if [ $code = 0 ]; then pass "check-data-$image"; else fail "check-data-$image" "exit code $code: $(tail -n 2 "$work/check.log" | tr '\n' ' ')"; fi
done
finish
