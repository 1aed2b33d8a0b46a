# 64 KiB atomic writes under Linux 6.12, read back in the guest, on the host, and after kill -9.
suite=atomic
. "$(dirname "$0")/../lib.sh"
need_kernel 6.12 all || finish
disk_create "$work/a" 64M 512 && disk_create "$work/b" 64M 4096 || { fail disks "cannot be created"; finish; }
disks=(--disk "file=$work/a,serial=atomic-512,lba=512" --disk "file=$work/b,serial=atomic-4096,lba=4096")
guest limits --kernel 6.12 "${disks[@]}" -- atomic.sh limits atomic-512 atomic-4096
what=write; flag=
[ "$COPPICE_DEVICE" != stock ] || { what=plain; flag=--plain; }
guest $what --kernel 6.12 "${disks[@]}" -- atomic.sh $what atomic-512 atomic-4096

verify() {  # verify TEST DISK BLOCK_BYTES SYNCED
    disk_to_raw "$2" "$work/raw" || { fail "$1" "the disk cannot be read"; return; }
    host_check "$1" "$COPPICE_BIN/guest-blocks" atomic-verify "$work/raw" --block "$3" --synced "$4" --prefix
    rm -f "$work/raw"
}
last_sync() { sed -n 's/^SYNC //p' "$1" 2>/dev/null | tail -n 1 | grep . || echo 0; }
verify host-512 "$work/a" 512 "$(last_sync "$work/$what/share/atomic-atomic-512")"
verify host-4096 "$work/b" 4096 "$(last_sync "$work/$what/share/atomic-atomic-4096")"

rounds=1
[ "$COPPICE_LEVEL" != quick ] || rounds=0
[ "$COPPICE_LEVEL" != long ] || rounds=10
for round in $(seq $rounds); do
    for lba in 512 4096; do
        disk_create "$work/kill" 64M $lba
        mapfile -t words < <(job_words atomic-endless.sh)
        "$guest_tests/boot" --kernel 6.12 --run "$work/kill-$lba" --disk "file=$work/kill,serial=kill,lba=$lba" --quiet \
            --kill-at '^SYNC ' --kill-after-ms $((RANDOM % 3000)) -- "${words[@]}" kill $flag < /dev/null ||
            { fail "kill-$lba-$round" "was not killed"; continue; }
        host_check "kill-check-$lba-$round" disk_check "$work/kill"
        verify "kill-$lba-$round" "$work/kill" $lba "$(last_sync "$work/kill-$lba/job.log")"
    done
done
finish
