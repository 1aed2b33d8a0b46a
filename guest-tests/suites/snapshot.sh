# Snapshot, clone and rollback of a disk in use; 1 GiB cloned by Copy, and what that adds to the file.
suite=snapshot
. "$(dirname "$0")/../lib.sh"
copy_mib=1024
[ "$COPPICE_LEVEL" != quick ] || copy_mib=256
most_added_kib=1024
for lba in 512 4096; do
    [ "$COPPICE_LEVEL" != quick ] || [ $lba = 4096 ] || continue
    disk_create "$work/disk" 4G $lba || { fail "disk-$lba" "cannot be created"; continue; }
    mapfile -t words < <(job_words snapshot.sh)
    run=$work/$lba
    mkdir -p "$run"
    coproc guest { "$guest_tests/boot" --run "$run" --time-limit 1200 --disk "file=$work/disk,serial=snap,lba=$lba" \
        -- "${words[@]}" snap 64 $copy_mib; }
    guest_id=$guest_PID from=${guest[0]} to=${guest[1]}
    exec 7<&"$from" 8>&"$to"
    declare -A used_kib=()
    while IFS= read -r line <&7; do
        echo "$line"
        [[ $line == MARK\ * ]] || continue
        # What the copy will write, it writes with the flush before and a checkpoint soon after.
        sleep "${COPPICE_CHECKPOINT_SECONDS:-6}"
        used_kib[${line#MARK }]=$(du -k "$work/disk" | cut -f1)
        echo go >&8
    done
    exec 7<&- 8>&-
    wait $guest_id; code=$?
    collect $lba $code
    if [ -n "${used_kib[after-copy]-}" ]; then
        added=$((used_kib[after-copy] - used_kib[before-copy]))
        result "FIGURE $suite/copy-${copy_mib}MiB-adds-$lba $added KiB"
        if [ "$COPPICE_DEVICE" = stock ]; then skip "copy-adds-little-$lba" "QEMU's own nvme copies the data"
        elif [ $added -lt $most_added_kib ]; then pass "copy-adds-little-$lba"
        else fail "copy-adds-little-$lba" "the image file grew by $added KiB"; fi
    fi
    host_check "check-$lba" disk_check "$work/disk"
done
finish
