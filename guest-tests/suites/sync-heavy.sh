# kill -9 of QEMU in the midst of writes and syncs: every acknowledged sync is there, with no repair.
suite=sync-heavy
. "$(dirname "$0")/../lib.sh"
rounds=5
case $COPPICE_LEVEL in quick) rounds=1 ;; long) rounds=50 ;; esac
rounds=${COPPICE_ROUNDS:-$rounds}
seed=${COPPICE_SEED:-$RANDOM}
echo "# seed $seed (COPPICE_SEED repeats the writes; the moment of a kill is random)"
disk_create "$work/raw" 32M 512 && disk_create "$work/fs" 256M 4096 || { fail disks "cannot be created"; finish; }
disks=(--disk "file=$work/raw,serial=sync-raw,lba=512" --disk "file=$work/fs,serial=sync-fs,lba=4096")
run=$work/run
mkdir -p "$run/share"
mapfile -t words < <(job_words sync-heavy.sh)
declare -A next=([raw]=1 [file]=1)
total=0
for round in $(seq 0 $((rounds - 1))); do
    for kind in raw file; do echo "${next[$kind]}" > "$run/share/next-$kind"; done
    "$guest_tests/boot" --run "$run" "${disks[@]}" --time-limit 180 --quiet --kill-at '^(raw|file) ACK ' \
        --kill-after-ms $((RANDOM % 2500)) -- "${words[@]}" $round "$seed" sync-raw sync-fs < /dev/null
    code=$?
    grep -aE '^(PASS|FAIL|SKIP) ' "$run/job.log"
    collect run $code
    [ $code = 0 ] || break
    for kind in raw file; do
        last=$(sed -n "s/^$kind ACK \([0-9]*\)\r\{0,1\}\$/\1/p" "$run/job.log" | tail -n 1)
        : "${last:=$((next[$kind] - 1))}"
        echo "${next[$kind]} $last" >> "$run/share/$kind-history"
        echo "# round $round: $kind acknowledged $((last - next[$kind] + 1)) syncs"
        total=$((total + last - next[$kind] + 1))
        next[$kind]=$((last + 10))
    done
    host_check "check-raw-$round" disk_check "$work/raw"
    host_check "check-fs-$round" disk_check "$work/fs"
done
guest run "${disks[@]}" --time-limit 180 -- sync-heavy.sh end "$seed" sync-raw sync-fs
result "FIGURE $suite/acknowledged_syncs $total syncs"
finish
