# jobs/cuts.sh SERIAL BATCHES SEED: the run whose host writes are recorded.
#
# Two writers that wait for every sync: in a file of ext4 on the first partition, and on the second
# partition itself. Beside them ordinary life of a file system: files made, removed, trimmed; where
# the disk can, a snapshot in the midst of it. The layout is the suite's too.
suite=cuts
. "$(dirname "$0")/lib.sh"
serial=$1 batches=$2 seed=$3
device=$(namespace_of "$serial") && controller=$(controller_of "$serial") || { fail device "not there"; finish; }
printf 'label: gpt\nstart=1MiB, size=32MiB, name=file\nstart=33MiB, size=4MiB, name=raw\n' > /run/layout
check partition sh -c "sfdisk -q --wipe always $device < /run/layout" || finish
for try in $(seq 50); do [ -b "${device}p2" ] && break; sleep 0.1; done
check mkfs mkfs.ext4 -q -F -b 4096 "${device}p1"
mkdir -p /mnt/cuts
check mount mount -t ext4 "${device}p1" /mnt/cuts || finish
check file-made sh -c "dd if=/dev/zero of=/mnt/cuts/file bs=1M count=4 conv=fsync 2>&1"
guest-blocks sync-write /mnt/cuts/file 1000001 --batches "$batches" --seed "$seed" > "$COPPICE_SHARE/file-acks" & file=$!
guest-blocks sync-write "${device}p2" 1 --batches "$batches" --seed "$seed" > "$COPPICE_SHARE/raw-acks" & raw=$!
life() {
    local n=0
    while kill -0 $file 2>/dev/null || kill -0 $raw 2>/dev/null; do
        n=$((n + 1))
        mkdir -p "/mnt/cuts/d$((n % 4))"
        head -c $((n % 7 * 3000 + 100)) /usr/bin/lsblk > "/mnt/cuts/d$((n % 4))/f$n"
        [ $n -lt 20 ] || rm -f "/mnt/cuts/d$(((n - 20) % 4))/f$((n - 20))"
        [ $((n % 25)) != 0 ] || fstrim /mnt/cuts
        sleep 0.2
    done
}
life & life=$!
if [ "$COPPICE_DEVICE" = coppice ]; then
    sleep 1
    check snapshot guest-nvme snapshot-create "$controller" 1 midway
fi
wait $file; check file-writer test $? = 0
wait $raw; check raw-writer test $? = 0
wait $life
check unmount umount /mnt/cuts
check acknowledged test "$(tail -n 1 "$COPPICE_SHARE/raw-acks")" = "ACK $batches"
finish
