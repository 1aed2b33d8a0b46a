# jobs/atomic-endless.sh SERIAL [--plain]: atomic writes until the host kills the guest; SYNC lines
# go straight to the host.
suite=atomic
. "$(dirname "$0")/lib.sh"
device=$(namespace_of "$1") || { fail "$1" "no device"; finish; }
exec guest-blocks atomic-write "$device" --writes 1000000 $2
