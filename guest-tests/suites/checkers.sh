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

# A moment in timed writes. Three copies of the file: after 40 batches, after 60, after 100; the
# times say that a command came between two batches.
truncate -s 0 "$file"; truncate -s 1M "$file"
"$blocks" sync-write "$file" 1 --times --batches 40 > /dev/null; cp "$file" "$work/at-40"
"$blocks" sync-write "$file" 41 --batches 20 > /dev/null; cp "$file" "$work/at-60"
"$blocks" sync-write "$file" 61 --batches 40 > /dev/null
for n in $(seq 100); do echo "TIME $n ${n}00 ${n}50"; done > "$work/times"
moment() { "$blocks" moment-check "$1" "$work/times" "$2" "$3"; }   # moment FILE SENT ANSWERED
host_check moment moment "$work/at-60" 6060 6070
host_check moment-under-way moment "$work/at-60" 5910 6120
host_check moment-before-what-is-under-way moment "$work/at-60" 6060 6110
must_see moment-lost moment "$work/at-60" 6160 6170
must_see moment-from-the-future moment "$work/at-60" 5960 5970
# Any one block older than it should be, or newer: the command said that nothing was under way.
sees_each() {  # sees_each TEST OTHER ANSWERED: blocks of OTHER one at a time in the state of batch 60
    local block seen=0 differing=0
    for block in $(cmp -l "$work/at-60" "$2" | awk '{ b = int(($1 - 1) / 4096); if (!(b in s)) { s[b] = 1; print b } }'); do
        differing=$((differing + 1))
        cp "$work/at-60" "$work/bad"; copy_block "$2" "$work/bad" "$block" "$block" 4096
        moment "$work/bad" 6060 "$3" > "$work/out" 2>&1
        [ $? != 1 ] || seen=$((seen + 1))
    done
    if [ $seen = $differing ] && [ $seen -gt 10 ]; then pass "$1"; else fail "$1" "$seen of $differing were seen"; fi
}
sees_each moment-holes "$work/at-40" 6070
sees_each moment-out-of-order "$file" 9550

# ./prepare-guests: a kernel that no archive has is a gap; one that could not be fetched is a failure.
# Archives are folders, and a port where nobody listens.
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
archive=$work/archive suite_folder=$work/archive/dists/$codename-backports
prepare() {  # prepare SOURCE: leaves $code, and $work/guests
    mkdir -p "$work/etc/sources.list.d" "$work/etc/apt.conf.d"
    printf '%s\n' 'Acquire::Retries "0";' 'Acquire::http::Proxy "DIRECT";' > "$work/etc/apt.conf.d/zzz-test"
    echo "deb [trusted=yes] $1 $codename main" > "$work/etc/sources.list.d/test.list"
    rm -rf "$work/guests"
    COPPICE_APT_ETC=$work/etc COPPICE_GUESTS=$work/guests "$guest_tests/prepare-guests" 6.12 > "$work/out" 2>&1; code=$?
}
gap() {  # gap TEST: it was left out as not offered; a kernel at all was wanted, so it is an error here
    if [ $code = 1 ] && grep -q 'no archive of this machine' "$work/guests/6.12/unavailable"; then pass "$1"
    else fail "$1" "exit code $code: $(tail -n 2 "$work/out" | tr '\n' ' ')"; fi
}
failure() {  # failure TEST PATTERN: an error that says so, and no gap
    if [ $code = 1 ] && [ ! -e "$work/guests/6.12/unavailable" ] && grep -q "$2" "$work/out"; then pass "$1"
    else fail "$1" "exit code $code: $(tail -n 2 "$work/out" | tr '\n' ' ')"; fi
}
if [ "$codename" != bookworm ]; then skip prepare "6.12 is of the backports on Debian 12 only"; finish; fi
mkdir -p "$archive"
prepare "file:$archive"; gap prepare-no-such-suite
mkdir -p "$suite_folder/main/binary-amd64"
: > "$suite_folder/main/binary-amd64/Packages"
prepare "file:$archive"; gap prepare-no-such-package
printf '%s\n' 'Package: linux-image-6.12.1-amd64' 'Version: 1' 'Architecture: amd64' 'Filename: pool/none.deb' 'Size: 10' \
    "SHA256: $(printf '0%.0s' $(seq 64))" > "$suite_folder/main/binary-amd64/Packages"
prepare "file:$archive"; failure prepare-download-fails 'cannot be downloaded'
prepare "http://127.0.0.1:1/debian"; failure prepare-network-fails 'cannot be read'
finish
