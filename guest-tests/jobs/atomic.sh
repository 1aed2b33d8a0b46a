# jobs/atomic.sh limits|write|plain [--writes=N] SERIAL…: 64 KiB atomic writes (Linux 6.12).
#
# limits: what the kernel made of the disk's AWUPF and NAWUPF. write: 64 KiB RWF_ATOMIC writes, each
# SYNC announced. plain: the same without the flag (to prove the programs on a disk without atomics).
suite=atomic
. "$(dirname "$0")/lib.sh"
what=$1 writes=600; shift
case $1 in --writes=*) writes=${1#*=}; shift ;; esac
for serial in "$@"; do
    device=$(namespace_of "$serial") || { fail "$serial" "no device"; continue; }
    queue=/sys/block/${device#/dev/}/queue
    lba=$(cat "$queue/logical_block_size")
    case $what in
        limits)
            most=$(cat "$queue/atomic_write_unit_max_bytes" 2>/dev/null || echo 0)
            echo "FIGURE $suite/sysfs-atomic_write_unit_max_bytes-$lba $most bytes"
            if [ "$most" = 0 ] && [ "$COPPICE_DEVICE" = stock ]; then
                skip "limits-$lba" "QEMU's own nvme reports no atomic writes"
                continue
            fi
            check "sysfs-unit-max-$lba" test "$most" -ge 65536
            check "sysfs-no-boundary-$lba" test "$(cat "$queue/atomic_write_boundary_bytes")" = 0
            check "statx-$lba" guest-blocks atomic-limits "$device" --at-least 64k ;;
        write|plain)
            flag=; [ $what = write ] || flag=--plain
            guest-blocks atomic-write "$device" --writes "$writes" $flag > "$COPPICE_SHARE/atomic-$serial" &&
                pass "$what-$lba" || fail "$what-$lba" "exit code $?"
            sed -n "s|^FIGURE |FIGURE $suite/$what-$lba/|p" "$COPPICE_SHARE/atomic-$serial"
            check "read-back-$what-$lba" guest-blocks atomic-verify "$device" \
                --synced "$(sed -n 's/^SYNC //p' "$COPPICE_SHARE/atomic-$serial" | tail -n 1)" --prefix ;;
    esac
done
finish
