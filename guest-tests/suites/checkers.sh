# The checkers themselves: each must see the damage that it is there for. On files of the host.
suite=checkers
. "$(dirname "$0")/../lib.sh"
blocks=$COPPICE_BIN/guest-blocks
must_see() {  # must_see TEST COMMAND…: exit code 1, "wrong data"
    local test=$1 code; shift
    "$@" > "$work/out" 2>&1; code=$?
    if [ $code = 1 ]; then pass "$test"; else fail "$test" "exit code $code instead of 1: $(tail -n 1 "$work/out")"; fi
}
poke() { printf '\x55' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
copy_block() { dd if="$1" of="$2" bs="$5" skip="$3" seek="$4" count=1 conv=notrunc status=none; }

file=$work/file
truncate -s 8M "$file"
host_check fill "$blocks" fill "$file" 0 8m
host_check check "$blocks" check "$file" 0 8m
must_see check-generation "$blocks" check "$file" 0 8m --generation 2
must_see check-zero "$blocks" check "$file" 0 8m --zero
must_see check-place "$blocks" check "$file" 0 4m --place 4096
cp "$file" "$work/bad"; poke "$work/bad" $((5 * 4096 + 4000))
must_see check-one-byte "$blocks" check "$work/bad" 0 8m
cp "$file" "$work/bad"; copy_block "$file" "$work/bad" 7 9 4096
must_see check-misplaced "$blocks" check "$work/bad" 0 8m

# 100 acknowledged batches; the state of batch 40 is what a lost sync would leave.
truncate -s 0 "$file"; truncate -s 1M "$file"
"$blocks" sync-write "$file" 1 --batches 40 > /dev/null; cp "$file" "$work/old"
"$blocks" sync-write "$file" 41 --batches 60 > "$work/acks"
host_check sync-acknowledged grep -qx 'ACK 100' "$work/acks"
echo "1 100" > "$work/history"
host_check sync "$blocks" sync-check "$file" "$work/history" --prefix
must_see sync-lost "$blocks" sync-check "$work/old" "$work/history"
echo "1 40" > "$work/history"
must_see sync-from-the-future "$blocks" sync-check "$file" "$work/history"
# The last even batch without its first block: not a prefix. Batch 100 has several blocks or one;
# take its blocks one at a time out of the file, and demand that some are seen.
echo "1 99" > "$work/history"
"$blocks" sync-write "$work/old" 41 --batches 59 > /dev/null
host_check sync-before "$blocks" sync-check "$work/old" "$work/history" --prefix
host_check sync-under-way "$blocks" sync-check "$file" "$work/history" --prefix
seen=0 differing=0
for block in $(cmp -l "$file" "$work/old" | awk '{ b = int(($1 - 1) / 4096); if (!(b in s)) { s[b] = 1; print b } }'); do
    differing=$((differing + 1))
    cp "$file" "$work/bad"; copy_block "$work/old" "$work/bad" "$block" "$block" 4096
    "$blocks" sync-check "$work/bad" "$work/history" --prefix > /dev/null 2>&1 || seen=$((seen + 1))
done
# All but the last written block.
if [ $seen = $((differing - 1)) ]; then pass sync-prefix; else fail sync-prefix "$seen of $differing holes were seen"; fi

truncate -s 0 "$file"; truncate -s 4M "$file"
"$blocks" atomic-write "$file" --plain --writes 100 --length 4m > "$work/syncs"; cp "$file" "$work/old"
"$blocks" atomic-write "$file" --plain --writes 200 --length 4m > "$work/syncs"
host_check atomic "$blocks" atomic-verify "$file" --length 4m --synced 192 --prefix
must_see atomic-lost "$blocks" atomic-verify "$work/old" --length 4m --synced 192
torn=0 units=0
for unit in $(seq 0 63); do
    cmp -s <(dd if="$file" bs=64k skip="$unit" count=1 status=none) <(dd if="$work/old" bs=64k skip="$unit" count=1 status=none) && continue
    units=$((units + 1))
    cp "$file" "$work/bad"; copy_block "$work/old" "$work/bad" $((unit * 128 + RANDOM % 128)) $((unit * 128 + 64)) 512
    "$blocks" atomic-verify "$work/bad" --length 4m > /dev/null 2>&1 || torn=$((torn + 1))
done
if [ $torn = $units ] && [ $units -gt 10 ]; then pass atomic-torn; else fail atomic-torn "$torn of $units torn units were seen"; fi
finish
