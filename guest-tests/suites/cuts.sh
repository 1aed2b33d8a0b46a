# A real guest's run is recorded below the format, and the power cut at 1,000 of its host writes:
# each time all of what was not yet synced, nothing of it, and 10 random subsets, torn ones among
# them. Each image must open, the checker be silent, every acknowledged sync be there. Then the same
# with atomic writes.
suite=cuts
. "$(dirname "$0")/../lib.sh"
subsets=12   # all, nothing, and 10 random ones
batches=500 cuts=1000 atomic_cuts=250 writes=1000
case $COPPICE_LEVEL in
    quick) batches=100 cuts=60 atomic_cuts=40 writes=250 ;;
    long) batches=5000 cuts=10000 atomic_cuts=4000 writes=16000 ;;
esac
seed=${COPPICE_SEED:-$RANDOM}
echo "# seed $seed (COPPICE_SEED chooses it)"
program=$COPPICE_BIN/coppice-cuts
[ -x "$program" ] || { fail program "$program is missing"; finish; }
file_stream=file:1m:32m:1000001:$seed:4m raw_stream=raw:33m:4m:1:$seed
export_range=(skip=1 count=32 bs=1M)   # the partition of the file
format=$COPPICE_DEVICE; [ $format = coppice ] || format=raw
jobs=$(nproc); [ "$jobs" -le 4 ] || jobs=4

# judge TEST DISK OPTION…: over DISK-before and DISK-log, in as many processes as there are CPUs; what they say goes to a log.
judge() {
    local test=$1 disk=$2 part pids=() bad=0 started=$SECONDS; shift 2
    for part in $(seq $jobs); do
        timeout 3600 "$program" "$disk-before" "$disk-log" --length "$(stat -c %s "$disk")" --format $format --part "$part/$jobs" --seed "$seed" "$@" \
            > "$work/judge-$part" 2>&1 & pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || bad=$?; done
    cat "$work"/judge-* > "$work/$test.log"
    rm -f "$work"/judge-*
    grep -E ' images of ' "$work/$test.log" | sed 's/^/# /'
    read -r judged_images judged_cuts < <(awk '/ images of / { images += $1; cuts += $4 } END { print images + 0, cuts + 0 }' "$work/$test.log")
    judged="$judged_images images, $judged_cuts cuts, $(awk '/ images of / { failures += $(NF - 1) } END { print failures + 0 }' "$work/$test.log") failures, $((SECONDS - started)) s"
    return $bad
}
must_hold() {  # must_hold TEST DISK CUTS OPTION…: all that many cuts, each with all its subsets
    local test=$1 disk=$2 wanted=$3; shift 3
    set -- "$test" "$disk" --cuts "$wanted" --subsets $subsets "$@"
    if judge "$@"; then
        result "FIGURE $suite/$1 $judged"
        if [ "$judged_cuts" = "$wanted" ] && [ "$judged_images" = $((wanted * subsets)) ]; then pass "$1"
        else fail "$1" "$wanted cuts of $subsets images were wanted: $judged"; fi
    else fail "$1" "$({ grep -A1 '^FAIL cut' "$work/$1.log" || tail -n 3 "$work/$1.log"; } | head -n 3 | tr '\n' ' '); see $work/$1.log"; fi
}
# A judge that never finds fault proves nothing: with no flush honoured it must.
must_see() {
    if judge "$@"; then fail "$1" "nothing was found in $judged"
    elif grep -q '^FAIL cut' "$work/$1.log"; then pass "$1"
    else fail "$1" "the judge itself failed; see $work/$1.log"; fi
}

# ---- ext4 and raw writes, each waiting for its sync -----------------------------------------------
for lba in 4096 512; do
    [ "$COPPICE_LEVEL" != quick ] || [ $lba = 4096 ] || continue
    disk_create "$work/disk" 48M $lba || { fail "disk-$lba" "cannot be created"; continue; }
    cp --sparse=always "$work/disk" "$work/disk-before"
    guest "record-$lba" --disk "file=$work/disk,serial=cuts,lba=$lba,log=$work/disk-log" -- cuts.sh cuts $batches "$seed" || continue
    host_check "check-$lba" disk_check "$work/disk"
    mkdir -p "$work/exports"
    if [ $format = raw ]; then
        # A raw disk promises no order and no whole blocks: the judge must see that.
        must_see "raw-disk-$lba" "$work/disk" --stream "$raw_stream" --cuts $cuts --all-if-fewer
    else
        must_hold "cut-$lba" "$work/disk" $((lba == 4096 ? cuts : cuts / 4)) \
            --stream "$file_stream" --stream "$raw_stream" --export "$work/exports" --exports 10
        # A file system after such a cut: its journal is replayed, then it must be whole.
        for raw in "$work"/exports/cut-*.raw; do
            dd if="$raw" of="$work/ext4" "${export_range[@]}" status=none
            name=fsck-$lba-$(basename "$raw" .raw)
            e2fsck -p "$work/ext4" > "$work/fsck.log" 2>&1; code=$?
            if [ $code -le 1 ]; then host_check "$name" e2fsck -fn "$work/ext4"
            else fail "$name" "e2fsck -p ended with $code: $(tail -n 2 "$work/fsck.log" | tr '\n' ' ')"; fi
        done
    fi
    rm -rf "$work/exports"
    must_see "no-flushes-$lba" "$work/disk" --ignore-flushes --stream "$file_stream" --cuts 50
done

# ---- 64 KiB atomic writes -----------------------------------------------------------------------
need_kernel 6.12 atomic || finish
what=write; [ $format = coppice ] || what=plain
for lba in 512 4096; do
    disk_create "$work/atomic-$lba" 8M $lba || { fail "atomic-disk-$lba" "cannot be created"; finish; }
    cp --sparse=always "$work/atomic-$lba" "$work/atomic-$lba-before"
done
guest record-atomic --kernel 6.12 --disk "file=$work/atomic-512,serial=atomic-512,lba=512,log=$work/atomic-512-log" \
    --disk "file=$work/atomic-4096,serial=atomic-4096,lba=4096,log=$work/atomic-4096-log" \
    -- atomic.sh $what --writes=$writes atomic-512 atomic-4096 || finish
for lba in 512 4096; do
    stream=atomic:0:8m:1:1:$lba
    if [ $format = raw ]; then must_see "atomic-torn-$lba" "$work/atomic-$lba" --stream $stream --cuts $atomic_cuts --all-if-fewer
    else must_hold "atomic-$lba" "$work/atomic-$lba" $atomic_cuts --stream $stream; fi
done
finish
