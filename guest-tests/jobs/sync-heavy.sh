# jobs/sync-heavy.sh ROUND SEED RAW_SERIAL FS_SERIAL: checks what earlier rounds acknowledged, then
# writes and syncs until the host kills QEMU.
#
# Two writers at once: on the raw device (FUA writes and flushes), and in a file of an ext4 file
# system (fsync and O_DSYNC). `raw ACK n` and `file ACK n` go straight to the host. The share holds
# raw-history and file-history (`START LAST_ACKNOWLEDGED` a round) and next-raw, next-file.
# ROUND 0 makes the file system; ROUND `end` only checks.
suite=sync-heavy
. "$(dirname "$0")/lib.sh"
round=$1 seed=$2
raw=$(namespace_of "$3") && disk=$(namespace_of "$4") || { fail device "not there"; finish; }
mkdir -p /mnt/sync
if [ "$round" = 0 ]; then
    check zero blkdiscard -f "$raw"
    check mkfs mkfs.ext4 -q -F "$disk"
fi
check "mount-$round" mount -t ext4 "$disk" /mnt/sync || finish
if [ "$round" = 0 ]; then
    check file-made sh -c "dd if=/dev/zero of=/mnt/sync/file bs=1M count=32 conv=fsync 2>&1"
else
    check "raw-$round" guest-blocks sync-check "$raw" "$COPPICE_SHARE/raw-history" --seed "$seed" --prefix
    check "file-$round" guest-blocks sync-check /mnt/sync/file "$COPPICE_SHARE/file-history" --seed "$seed"
fi
if [ "$round" = end ]; then
    umount /mnt/sync
    check fsck e2fsck -fn "$disk"
    finish
fi
echo "WRITING $round"
guest-blocks sync-write "$raw" "$(cat "$COPPICE_SHARE/next-raw")" --seed "$seed" --label 'raw ' &
guest-blocks sync-write /mnt/sync/file "$(cat "$COPPICE_SHARE/next-file")" --seed "$seed" --label 'file ' &
wait -n
fail "writer-$round" "a writer ended by itself"
finish
