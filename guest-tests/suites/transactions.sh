# Streams, transactions and Write Ranges from the guest; kill -9 of QEMU between and in them: each is
# there whole or not at all, and there when it was acknowledged.
suite=transactions
. "$(dirname "$0")/../lib.sh"
if [ "$COPPICE_DEVICE" = stock ]; then skip all "QEMU's own nvme has no transactions"; finish; fi
rounds=2
case $COPPICE_LEVEL in quick) rounds=1 ;; long) rounds=20 ;; esac
disk_create "$work/a" 64M 512 && disk_create "$work/b" 64M 4096 || { fail disks "cannot be created"; finish; }
serials=(order-512 order-4096)
disks=(--disk "file=$work/a,serial=order-512,lba=512" --disk "file=$work/b,serial=order-4096,lba=4096")
run=$work/run
mkdir -p "$run/share"
mapfile -t words < <(job_words transactions.sh)
for serial in "${serials[@]}"; do echo 1 > "$run/share/acknowledged-$serial"; done
for round in $(seq 0 $((rounds - 1))); do
    "$guest_tests/boot" --run "$run" "${disks[@]}" --time-limit 180 --quiet --kill-at '^order-[0-9]* ACK ' \
        --kill-after-ms $((500 + RANDOM % 2000)) -- "${words[@]}" $round "${serials[@]}" < /dev/null
    code=$?
    grep -aE '^(PASS|FAIL|SKIP) ' "$run/job.log"
    collect run $code
    [ $code = 0 ] || break
    for serial in "${serials[@]}"; do
        last=$(sed -n "s/^$serial ACK \([0-9]*\)\r\{0,1\}\$/\1/p" "$run/job.log" | tail -n 1)
        [ -z "$last" ] || echo "$last" > "$run/share/acknowledged-$serial"
        result "FIGURE $suite/$serial-$round $(grep -ac "^$serial ACK " "$run/job.log") acknowledged"
    done
    for disk in a b; do host_check "check-$disk-$round" disk_check "$work/$disk"; done
done
guest run "${disks[@]}" --time-limit 180 -- transactions.sh end "${serials[@]}"
finish
