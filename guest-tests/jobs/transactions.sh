# jobs/transactions.sh ROUND SERIAL…: streams, transactions and Write Ranges on each disk.
#
# ROUND 0 goes through what they promise; each round checks what earlier ones acknowledged (share:
# acknowledged-SERIAL), then writes until the host kills QEMU. ROUND `end` only checks.
suite=transactions
. "$(dirname "$0")/lib.sh"
round=$1; shift
for serial in "$@"; do
    disk=$(namespace_of "$serial") || { fail "device-$serial" "not there"; finish; }
    if [ "$round" = 0 ]; then check "show-$serial" guest-transactions show "$disk"
    else check "whole-$serial-$round" guest-transactions check "$disk" "$(cat "$COPPICE_SHARE/acknowledged-$serial")"; fi
done
[ "$round" != end ] || finish
for serial in "$@"; do
    disk=$(namespace_of "$serial")
    guest-transactions write "$disk" $(($(cat "$COPPICE_SHARE/acknowledged-$serial") + 1000)) | sed -u "s/^/$serial /" &
done
wait -n
fail "writer-$round" "a writer ended by itself"
finish
