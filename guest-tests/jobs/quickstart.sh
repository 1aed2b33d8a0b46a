# jobs/quickstart.sh first|second SERIAL …: the guest's side of ./quickstart.
#
# first SERIAL TREE.tar TREE.sha256 SEED: works on the disk until the host kills QEMU.
# second SERIAL TREE.sha256 SEED SNAPSHOT: looks at everything in a new QEMU.
# The layout: partition 1 a file system, partition 2 written all the time; from 2 GiB 1 GiB of
# content and from 3 GiB its clone. `SAY PASS|FAIL text` are lines for people; on `MARK` the host
# measures its file, and answers.
suite=quickstart
. "$(dirname "$0")/lib.sh"
what=$1 serial=$2; shift 2
gib=$((1 << 30)) source=$((2 * (1 << 30))) clone=$((3 * (1 << 30)))

# step TEXT COMMAND…: TEXT may use $ms, how long the command took.
step() {
    local text=$1 output code start ms; shift
    start=$(now_ms)
    output=$("$@" 2>&1 < /dev/null); code=$?
    ms=$(($(now_ms) - start))
    printf '%s\n' "== $*" "$output" >> "$commands_log"
    if [ $code = 0 ]; then echo "SAY PASS ${text//\$ms/$ms}"; return; fi
    echo "SAY FAIL ${text//\$ms/$ms}: exit code $code: $(tail -n 2 <<< "$output" | tr '\n' ' ')"
    exit 1
}
hash_tree() { (cd "$1" && sha256sum --quiet -c "$2"); }
short_figure_of() { figure_of "$1" "$2" | xargs -r printf "%.3g\n"; }
# Behind a checkpoint the host's file holds the whole of a state, and not what waits in memory.
mark() {
    if ! guest-nvme checkpoint "$controller" > /run/checkpoint 2>&1; then echo "SAY FAIL no checkpoint: $(tail -n 1 /run/checkpoint)"; exit 1; fi
    echo "MARK $1"; read -r _
}

device=$(namespace_of "$serial") && controller=$(controller_of "$serial") || { echo "SAY FAIL the guest sees no disk"; exit 1; }
mkdir -p /mnt/disk /mnt/old

if [ "$what" = first ]; then
    tar=$1 hashes=$2 seed=$3
    files=$(wc -l < "$hashes")
    step "the guest's own NVMe driver found it: $(nvme id-ctrl "$controller" | sed -n 's/^mn *: *//p' | sed 's/ *$//'), blocks of $(cat "/sys/block/${device#/dev/}/queue/logical_block_size") bytes" true
    make_fs() {
        printf 'label: gpt\nstart=1MiB, size=1022MiB\nstart=1024MiB, size=64MiB\n' > /run/layout
        sfdisk -q --wipe always "$device" < /run/layout || return
        for try in $(seq 50); do [ -b "${device}p2" ] && break; sleep 0.1; done
        mkfs.ext4 -q -F "${device}p1" && mount -t ext4 "${device}p1" /mnt/disk
    }
    step "partitions and ext4 made and mounted in \$ms ms" make_fs
    copy_tree() { mkdir /mnt/disk/tree && tar -C /mnt/disk/tree -xf "$tar" && echo before > /mnt/disk/state && sync; }
    step "$files files ($(du -m "$tar" | cut -f1) MB) copied onto it and synced in \$ms ms" copy_tree
    echo 3 > /proc/sys/vm/drop_caches
    step "read back and hashed: all $files right, \$ms ms" hash_tree /mnt/disk/tree "$hashes"

    fio --name=busy --filename="${device}p2" --direct=1 --rw=randwrite --bs=4k --ioengine=psync --size=64m \
        --time_based --runtime=600 --minimal --output=/run/busy.out < /dev/null & busy=$!
    sleep 1
    before=$(awk '{ print $7 }' "/sys/block/${device#/dev/}/stat")
    snapshot() {
        fsfreeze -f /mnt/disk && guest-nvme snapshot-create "$controller" 1 first > /run/created; local code=$?
        fsfreeze -u /mnt/disk
        return $code
    }
    snapshot_and_on() { snapshot || return; sleep 0.5; kill -0 $busy; }
    if ! snapshot_and_on > /run/said 2>&1; then echo "SAY FAIL no snapshot: $(cat /run/said /run/created)"; exit 1; fi
    id=$(sed -n 's/^id //p' /run/created)
    written=$(($(awk '{ print $7 }' "/sys/block/${device#/dev/}/stat") - before))
    echo "SAY PASS a snapshot of the disk taken in $(short_figure_of snapshot_create_time /run/created) ms, while it was written ($((written / 2048)) MiB around it)"
    echo "SNAPSHOT $id"
    kill -TERM $busy; wait $busy 2>/dev/null
    change() { rm -rf "/mnt/disk/tree/usr/share" && echo after > /mnt/disk/state && sync; }
    step "half of the tree removed, and a file changed, behind the snapshot" change

    step "1 GiB written in \$ms ms" guest-blocks fill "$device" $source $gib --generation 5
    mark before-copy
    if ! guest-nvme copy "$device" $source $clone $gib > /run/copy 2>&1; then echo "SAY FAIL no copy: $(tail -n 1 /run/copy)"; exit 1; fi
    echo "SAY PASS 1 GiB cloned by the standard Copy command in $(short_figure_of copy_time /run/copy) ms (in $(short_figure_of copy_commands /run/copy) command)"
    mark after-copy

    dd if=/dev/zero of=/mnt/disk/synced bs=1M count=8 conv=fsync 2>/dev/null
    exec guest-blocks sync-write /mnt/disk/synced 1 --seed "$seed"
fi

hashes=$1 seed=$2 id=$3
step "a new QEMU: ext4 mounted in \$ms ms, its own journal replayed" mount -t ext4 "${device}p1" /mnt/disk
grep -v ' usr/share/' "$hashes" > /run/remaining
step "$(wc -l < /run/remaining) files hashed: all right" hash_tree /mnt/disk/tree /run/remaining
step "every one of the $(awk '{ print $2 }' "$COPPICE_SHARE/history") acknowledged syncs is there" \
    guest-blocks sync-check /mnt/disk/synced "$COPPICE_SHARE/history" --seed "$seed"
look_back() {
    local old
    guest-nvme attach "$controller" "$id" || return
    old=$(namespace_of "$serial" "$id") || return
    for try in $(seq 50); do [ -b "${old}p1" ] && break; sleep 0.1; done
    [ "$(cat "/sys/block/${old#/dev/}/ro")" = 1 ] || { echo "$old can be written"; return 1; }
    mount -t ext4 -o ro,noload "${old}p1" /mnt/old && [ "$(cat /mnt/old/state)" = before ] &&
        [ "$(cat /mnt/disk/state)" = after ] && hash_tree /mnt/old/tree "$hashes"
}
step "the snapshot as a second, read-only disk: all $(wc -l < "$hashes") files are in it as they were" look_back
step "the clone reads back right, 256 MiB of it" guest-blocks check "$device" $clone $((gib / 4)) --generation 5 --place $source
change_clone() {
    guest-blocks fill "$device" $clone 16m --generation 6 && nvme flush "$device" &&
        guest-blocks check "$device" $source 32m --generation 5
}
step "16 MiB written into the clone: the original does not change" change_clone
umount /mnt/old /mnt/disk
exit 0
