# Snapshot, clone and rollback of a disk in use; 1 GiB cloned by Copy, and what that adds to the file.
# With 4096-byte blocks the device works in an iothread.
suite=snapshot
. "$(dirname "$0")/../lib.sh"
copy_mib=1024
[ "$COPPICE_LEVEL" != quick ] || copy_mib=256
most_added_kib=1024
# Jiffies that a guest's GiB of writes cost the thread that does them at the very least.
least_iothread_ticks=10

# The processor time of QEMU's iothread, in jiffies.
iothread_ticks() {
    local task
    for task in /proc/"$(cat "$run/pid")"/task/*; do
        if [[ $(cat "$task/comm") = IO\ * ]]; then awk '{ print $14 + $15 }' "$task/stat"; fi
    done
}

# Of one step between two marks: what it added to the file.
added_little() {  # added_little TEST BEFORE AFTER
    [ -n "${used_kib[$2]-}" ] && [ -n "${used_kib[$3]-}" ] || return
    local added=$((used_kib[$3] - used_kib[$2]))
    result "FIGURE $suite/$1-${copy_mib}MiB-adds-$lba $added KiB"
    if [ "$COPPICE_DEVICE" = stock ]; then skip "$1-adds-little-$lba" "QEMU's own nvme copies the data"
    elif [ $added -lt $most_added_kib ]; then pass "$1-adds-little-$lba"
    else fail "$1-adds-little-$lba" "the image file grew by $added KiB"; fi
}

for lba in 512 4096; do
    [ "$COPPICE_LEVEL" != quick ] || [ $lba = 4096 ] || continue
    disk_create "$work/disk" 4G $lba || { fail "disk-$lba" "cannot be created"; continue; }
    mapfile -t words < <(job_words snapshot.sh)
    run=$work/$lba
    mkdir -p "$run"
    iothread=no
    [ $lba != 4096 ] || [ "$COPPICE_DEVICE" = stock ] || iothread=yes
    coproc guest { "$guest_tests/boot" --run "$run" --time-limit 1200 --qemu -name --qemu debug-threads=on \
        --disk "file=$work/disk,serial=snap,lba=$lba,iothread=$iothread" -- "${words[@]}" snap 64 $copy_mib; }
    guest_id=$guest_PID from=${guest[0]} to=${guest[1]}
    exec 7<&"$from" 8>&"$to"
    declare -A used_kib=()
    ticks=
    while IFS= read -r line <&7; do
        echo "$line"
        [[ $line == MARK\ * ]] || continue
        # The guest asked for a checkpoint before: this is all that the file needs for what is in it.
        used_kib[${line#MARK }]=$(du -k "$work/disk" | cut -f1)
        [ $iothread = no ] || ticks=$(iothread_ticks)
        echo go >&8
    done
    exec 7<&- 8>&-
    wait $guest_id; code=$?
    collect $lba $code
    added_little copy before-copy after-copy
    added_little nvme-cli-copy after-copy after-nvme-cli-copy
    if [ $iothread = yes ]; then
        if [ "${ticks:-0}" -ge $least_iothread_ticks ]; then pass "works-in-the-iothread-$lba"
        else fail "works-in-the-iothread-$lba" "its thread has used '$ticks' jiffies"; fi
    fi
    host_check "check-$lba" disk_check "$work/disk"
done
finish
