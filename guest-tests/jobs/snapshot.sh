# jobs/snapshot.sh SERIAL AREA_MIB COPY_MIB: snapshots and clones of a disk in use.
#
# The first half of the area holds still while fio writes the second, and a writer whose every write
# is timed has a part of its own behind everything else; a snapshot is taken in the midst. It must
# hold the first half as it was and the timed writes as a prefix that ends at the snapshot, must not
# change while the volume does, and must refuse writes; a clone of it must be writable without
# either seeing the other. Then COPY_MIB are cloned by the standard Copy command, timed, once by our
# own program and once by nvme-cli, and both sides are changed. Prints MARK lines, each behind a
# checkpoint, on which the host measures the image file, and waits for one line of input after each.
suite=snapshot
. "$(dirname "$0")/lib.sh"
serial=$1 area=$(($2 << 20)) copy=$(($3 << 20))
device=$(namespace_of "$serial") && controller=$(controller_of "$serial") || { fail device "not there"; finish; }
lba=$(cat "/sys/block/${device#/dev/}/queue/logical_block_size")
suite=snapshot-$lba
head -c "$lba" /dev/zero > /run/zeroes
# Read from the device itself, not from the page cache, so that a second hash means something.
hash() { dd if="$1" bs=1M count=$((area >> 20)) iflag=direct status=none | sha256sum; }
# What the host sees of the file is then the whole of a state, and not what waits in memory.
# $used is what the disk itself counts as in use: the file need not grow for what fits into space
# that has become free.
mark() {
    [ "$COPPICE_DEVICE" = stock ] || check "checkpoint-$1" guest-nvme checkpoint "$controller"
    guest-nvme info "$device" > /run/info && used=$(limit used_bytes) || fail "info-$1" "guest-nvme info failed"
    echo "MARK $1"; read -r _
}
limit() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" /run/info; }
most_used_kib=1024
used_little() {  # used_little TEST BEFORE: since $used was BEFORE
    local kib=$(((used - $2) / 1024))
    echo "FIGURE $suite/$1-uses $kib KiB"
    if [ "$COPPICE_DEVICE" = stock ]; then skip "$1-uses-little" "QEMU's own nvme copies the data"
    elif [ $kib -lt $most_used_kib ]; then pass "$1-uses-little"
    else fail "$1-uses-little" "$kib KiB are in use now that were not before"; fi
}
# Emulation on a busy machine; measured there: under 1 ms.
slowest_copy_ms=100

half=$((area / 2))
check fill guest-blocks fill "$device" 0 "$area" --generation 1

if [ "$COPPICE_DEVICE" = stock ]; then
    skip vendor-commands "QEMU's own nvme has no snapshots"
else
    fio --name=busy --filename="$device" --direct=1 --offset=$half --size=$half --rw=randwrite --bs=4k \
        --ioengine=psync --time_based --runtime=600 --minimal --output=/run/busy.out < /dev/null & busy=$!
    timed_part=(--offset $((area + 3 * copy)) --length 4m)
    guest-blocks sync-write "$device" 1 --times "${timed_part[@]}" > /run/times < /dev/null & timed=$!
    sleep 2
    take() { guest-nvme snapshot-create "$controller" 1 first > /run/created; local code=$?; cat /run/created; return $code; }
    check create take || finish
    sleep 0.5
    check busy-goes-on kill -0 $busy
    check timed-goes-on kill -0 $timed
    kill -TERM $timed; wait $timed 2>/dev/null
    id=$(sed -n 's/^id //p' /run/created)
    read -r _ sent _ answered < <(grep '^sent ' /run/created)
    says list-names-it "^snapshot $id volume 1 .* name first\$" guest-nvme snapshot-list "$controller" 1
    says list-all "^snapshot $id " guest-nvme snapshot-list "$controller" all
    says allocated "^$id\$" guest-nvme namespaces "$controller" allocated
    says_not not-active "^$id\$" guest-nvme namespaces "$controller" active
    check watch-events watch_events
    check attach guest-nvme attach "$controller" "$id"
    check attach-event event_seen $namespaces_changed
    # Within 5 seconds and with no `nvme ns-rescan`.
    snapshot=$(namespace_of "$serial" "$id") || { fail attached "the driver shows no namespace $id"; kill $busy; finish; }
    check prefix-of-timed-writes guest-blocks moment-check "$snapshot" /run/times "$sent" "$answered" "${timed_part[@]}"
    check read-only test "$(cat "/sys/block/${snapshot#/dev/}/ro")" = 1
    # The still half now, twice while fio goes on; then the volume changes there too.
    check still-half guest-blocks check "$snapshot" 0 $half
    hash "$snapshot" > /run/hash-1
    check change guest-blocks fill "$device" 0 $half --generation 2
    hash "$snapshot" > /run/hash-2
    kill -TERM $busy; wait $busy 2>/dev/null
    check unchanged-while-volume-changes cmp /run/hash-1 /run/hash-2
    check old-content guest-blocks check "$snapshot" 0 $half --generation 1
    check new-content guest-blocks check "$device" 0 $half --generation 2
    refuse write guest-blocks fill "$snapshot" 0 4096
    refuse_with 'write.protected' write-passthrough nvme write "$snapshot" -s 0 -c 0 -z "$lba" -d /run/zeroes -n "$id"
    refuse_with 'write.protected' write-zeroes-passthrough nvme write-zeroes "$snapshot" -s 0 -c 0 -n "$id"
    refuse_with 'write.protected' dsm-passthrough nvme dsm "$snapshot" --ad --slbs=0 --blocks=8 -n "$id"
    refuse_with 'write.protected' copy-onto-snapshot guest-nvme copy "$snapshot" 0 $half $half

    clone() { guest-nvme clone "$controller" "$id" second > /run/cloned; local code=$?; cat /run/cloned; return $code; }
    check clone clone
    clone_id=$(sed -n 's/^id //p' /run/cloned)
    check attach-clone guest-nvme attach "$controller" "$clone_id"
    check attach-clone-event event_seen $namespaces_changed
    clone=$(namespace_of "$serial" "$clone_id") || { fail attached-clone "the driver shows no namespace $clone_id"; finish; }
    check clone-content guest-blocks check "$clone" 0 $half --generation 1
    check clone-write guest-blocks fill "$clone" 0 $((half / 2)) --generation 3
    check clone-diverged guest-blocks check "$clone" 0 $((half / 2)) --generation 3
    check clone-rest guest-blocks check "$clone" $((half / 2)) $((half / 2)) --generation 1
    check volume-untouched guest-blocks check "$device" 0 $half --generation 2
    hash "$snapshot" > /run/hash-3
    check snapshot-untouched cmp /run/hash-1 /run/hash-3

    # A range of the snapshot, cloned into the volume behind the area: Copy with a source namespace.
    refuse copy-format-2-before-it-is-enabled guest-nvme copy "$device" 0 "$area" $half "$id"
    check enable-copy-formats guest-nvme enable-copy-formats "$controller"
    check copy-from-snapshot guest-nvme copy "$device" 0 "$area" $half "$id"
    check copy-from-snapshot-content guest-blocks check "$device" "$area" $half --generation 1 --place 0
    refuse rollback-of-attached-needs-force guest-nvme rollback "$controller" 1 "$id"
    check rollback guest-nvme rollback "$controller" 1 "$id" force
    check rollback-event event_seen $namespaces_changed
    blockdev --flushbufs "$device"
    check rolled-back guest-blocks check "$device" 0 $half --generation 1
    check detach-clone guest-nvme detach "$controller" "$clone_id"
    # As Namespace Management deletes: what is attached is detached by it.
    check detach-clone-event event_seen $namespaces_changed
    check delete-while-attached guest-nvme snapshot-delete "$controller" "$id"
    check delete-event event_seen $namespaces_changed
    says_not deleted-is-not-active "^$id\$" guest-nvme namespaces "$controller" active
    refuse deleted-cannot-be-attached guest-nvme attach "$controller" "$id"
    says_not deleted-is-gone "^snapshot $id " guest-nvme snapshot-list "$controller" all
    check content-after-delete guest-blocks check "$device" 0 $half --generation 1
fi

# ---- Copy as a clone of a range --------------------------------------------------------------------
source=$area target=$((area + copy)) second=$((area + 2 * copy))
check copy-source guest-blocks fill "$device" $source $copy --generation 5
check copy-flush nvme flush "$device"
mark before-copy
before=$used
copy() { guest-nvme copy "$device" $source $target $copy > /run/copy; local code=$?; cat /run/copy; return $code; }
check copy copy
mark after-copy
used_little copy $before
before=$used
# The same by nvme-cli, in as few commands as the limits that the namespace reports allow.
copy_by_nvme_cli() {
    local blocks=$((copy / lba)) done=0 at now most starts lengths ms start
    [ "$(limit mcl)" -gt 0 ] || { echo "the namespace reports no copy limits"; return 1; }
    commands=0 slowest=0
    while [ $done -lt $blocks ]; do
        starts= lengths= at=$done most=$((done + $(limit mcl)))
        [ $most -lt $blocks ] || most=$blocks
        for ((i = 0; i <= $(limit msrc) && at < most; i++)); do
            now=$((most - at < $(limit mssrl) ? most - at : $(limit mssrl)))
            starts+=,$((source / lba + at)) lengths+=,$((now - 1))
            at=$((at + now))
        done
        start=$(now_ms)
        nvme copy "$device" --sdlba=$((second / lba + done)) --slbs="${starts#,}" --blocks="${lengths#,}" || return
        ms=$(($(now_ms) - start))
        [ $ms -le $slowest ] || slowest=$ms
        done=$at commands=$((commands + 1))
    done
}
check nvme-cli-copy copy_by_nvme_cli
mark after-nvme-cli-copy
used_little nvme-cli-copy $before
if [ "$COPPICE_DEVICE" = stock ]; then
    skip copy-at-once "QEMU's own nvme copies the data"
else
    check copy-at-once at_most "$(figure_of copy_slowest_command /run/copy)" $slowest_copy_ms
    echo "FIGURE $suite/nvme-cli-copy/commands $commands commands"
    # With the start of a program, which is most of it.
    echo "FIGURE $suite/nvme-cli-copy/slowest_command $slowest ms"
fi
check nvme-cli-copy-begin guest-blocks check "$device" $second 64m --generation 5 --place $source
check nvme-cli-copy-end guest-blocks check "$device" $((second + copy - (64 << 20))) 64m --generation 5 --place $((source + copy - (64 << 20)))
check copy-content guest-blocks check "$device" $target $copy --generation 5 --place $source
quarter=$((copy / 4))
check change-source guest-blocks fill "$device" $source $quarter --generation 6
check change-target guest-blocks fill "$device" $((target + 2 * quarter)) $quarter --generation 7
check source-changed guest-blocks check "$device" $source $quarter --generation 6
check source-rest guest-blocks check "$device" $((source + quarter)) $((3 * quarter)) --generation 5
check target-first guest-blocks check "$device" $target $((2 * quarter)) --generation 5 --place $source
check target-changed guest-blocks check "$device" $((target + 2 * quarter)) $quarter --generation 7
check target-last guest-blocks check "$device" $((target + 3 * quarter)) $quarter --generation 5 --place $((source + 3 * quarter))
finish
