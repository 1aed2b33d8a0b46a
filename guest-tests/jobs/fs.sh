# jobs/fs.sh make|verify TREE.tar TREE.sha256 SERIAL…: ext4 and XFS with a tree of real files.
#
# make: on each disk two partitions, ext4 and XFS; the tree is unpacked on both and hashed, at once,
# after unmount and mount, and the file systems' own checkers run. verify: the same in a new guest.
suite=fs
. "$(dirname "$0")/lib.sh"
what=$1 tar=$2 hashes=$3; shift 3

hash_tree() { (cd "$1" && sha256sum --quiet -c "$hashes"); }

mount_it() { mkdir -p /mnt/tree && mount -t "$1" "$2" /mnt/tree; }

verify_tree() {  # verify_tree LABEL TYPE DEVICE
    mount_it "$2" "$3" || { fail "$1" "$3 cannot be mounted"; return 1; }
    check "$1" hash_tree /mnt/tree
    umount /mnt/tree || fail "$1" "cannot be unmounted"
}

checker() {  # checker LABEL TYPE DEVICE
    case $2 in
        ext4) check "$1" e2fsck -fn "$3" ;;
        xfs)  check "$1" xfs_repair -n "$3" ;;
    esac
}

for serial in "$@"; do
    device=$(namespace_of "$serial") || { fail "$serial" "no device"; continue; }
    lba=$(cat "/sys/block/${device#/dev/}/queue/logical_block_size")
    if [ "$what" = make ]; then
        printf 'label: gpt\nsize=700MiB, name=one\nname=two\n' > /run/layout
        check "partition-$lba" sh -c "sfdisk -q --wipe always $device < /run/layout" || continue
        for try in $(seq 50); do [ -b "${device}p2" ] && break; sleep 0.1; done
        check "mkfs-ext4-$lba" mkfs.ext4 -q -F "${device}p1"
        check "mkfs-xfs-$lba" mkfs.xfs -q -f "${device}p2"
    fi
    part=1
    for type in ext4 xfs; do
        partition=${device}p$part; part=$((part + 1))
        if [ "$what" = make ]; then
            mount_it $type "$partition" || { fail "$type-$lba" "cannot be mounted"; continue; }
            timed "copy-$type-$lba" tar -C /mnt/tree -xf "$tar" || fail "copy-$type-$lba" "tar ended with $?"
            check "hash-$type-$lba" hash_tree /mnt/tree
            umount /mnt/tree || fail "unmount-$type-$lba" "busy"
            verify_tree "remount-$type-$lba" $type "$partition"
        else
            verify_tree "second-boot-$type-$lba" $type "$partition"
        fi
        checker "checker-$what-$type-$lba" $type "$partition"
    done
done
finish
