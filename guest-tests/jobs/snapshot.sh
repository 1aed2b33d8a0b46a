# jobs/snapshot.sh SERIAL AREA_MIB COPY_MIB: snapshots and clones of a disk in use.
#
# The first half of the area holds still while fio writes the second; a snapshot is taken in the
# midst. It must hold the first half as it was, must not change while the volume does, and must
# refuse writes; a clone of it must be writable without either seeing the other. Then COPY_MIB are
# cloned by the standard Copy command, timed, and both sides are changed. Prints MARK lines on which
# the host measures the image file, and waits for one line of input after each.
suite=snapshot
. "$(dirname "$0")/lib.sh"
serial=$1 area=$(($2 << 20)) copy=$(($3 << 20))
device=$(namespace_of "$serial") && controller=$(controller_of "$serial") || { fail device "not there"; finish; }
lba=$(cat "/sys/block/${device#/dev/}/queue/logical_block_size")
suite=snapshot-$lba
head -c "$lba" /dev/zero > /run/zeroes
# Read from the device itself, not from the page cache, so that a second hash means something.
hash() { dd if="$1" bs=1M count=$((area >> 20)) iflag=direct status=none | sha256sum; }
mark() { echo "MARK $1"; read -r _; }

half=$((area / 2))
check fill guest-blocks fill "$device" 0 "$area" --generation 1

if [ "$COPPICE_DEVICE" = stock ]; then
    skip vendor-commands "QEMU's own nvme has no snapshots"
else
    fio --name=busy --filename="$device" --direct=1 --offset=$half --size=$half --rw=randwrite --bs=4k \
        --ioengine=psync --time_based --runtime=600 --minimal --output=/run/busy.out < /dev/null & busy=$!
    sleep 2
    take() { guest-nvme snapshot-create "$controller" 1 first > /run/created; local code=$?; cat /run/created; return $code; }
    check create take || finish
    id=$(sed -n 's/^id //p' /run/created)
    check list-names-it sh -c "guest-nvme snapshot-list $controller 1 | grep -q '^snapshot $id volume 1 .* name first\$'"
    check list-all sh -c "guest-nvme snapshot-list $controller all | grep -q '^snapshot $id '"
    check allocated sh -c "guest-nvme namespaces $controller allocated | grep -qx $id"
    refuse not-active sh -c "guest-nvme namespaces $controller active | grep -qx $id"
    check attach guest-nvme attach "$controller" "$id"
    snapshot=$(namespace_of "$serial" "$id") || { nvme ns-rescan "$controller"; snapshot=$(namespace_of "$serial" "$id"); } ||
        { fail attached "the driver shows no namespace $id"; kill $busy; finish; }
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
    clone=$(namespace_of "$serial" "$clone_id") || { nvme ns-rescan "$controller"; clone=$(namespace_of "$serial" "$clone_id"); }
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
    blockdev --flushbufs "$device"
    check rolled-back guest-blocks check "$device" 0 $half --generation 1
    check detach-clone guest-nvme detach "$controller" "$clone_id"
    # As Namespace Management deletes: what is attached is detached by it.
    check delete-while-attached guest-nvme snapshot-delete "$controller" "$id"
    refuse deleted-is-not-active sh -c "guest-nvme namespaces $controller active | grep -qx $id"
    refuse deleted-cannot-be-attached guest-nvme attach "$controller" "$id"
    refuse deleted-is-gone sh -c "guest-nvme snapshot-list $controller all | grep -q '^snapshot $id '"
    check content-after-delete guest-blocks check "$device" 0 $half --generation 1
fi

# ---- Copy as a clone of a range --------------------------------------------------------------------
source=$area; target=$((area + copy))
check copy-source guest-blocks fill "$device" $source $copy --generation 5
check copy-flush nvme flush "$device"
mark before-copy
check copy guest-nvme copy "$device" $source $target $copy
check copy-flush-after nvme flush "$device"
mark after-copy
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
