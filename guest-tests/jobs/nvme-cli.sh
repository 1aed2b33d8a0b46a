# jobs/nvme-cli.sh SERIAL: the standard commands as nvme-cli sends them. The disk's content is lost.
suite=nvme-cli
. "$(dirname "$0")/lib.sh"
serial=$1
device=$(namespace_of "$serial") && controller=$(controller_of "$serial") || { fail device "not there"; finish; }
lba=$(cat "/sys/block/${device#/dev/}/queue/logical_block_size")
blocks=$(($(cat "/sys/block/${device#/dev/}/size") * 512 / lba))
suite=nvme-cli-$lba
facts=$(guest-nvme info "$device") && note "$facts" || fail info "guest-nvme info failed"
value() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" <<< " $facts"; }
oncs=$(($(value oncs)))
optional() {  # optional BIT TEST COMMAND…: skipped if ONCS lacks the bit
    local bit=$1; shift
    if [ $((oncs >> bit & 1)) = 1 ]; then check "$@"; else skip "$1" "the controller reports no support (ONCS bit $bit)"; fi
}

nvme list > /run/list 2>&1
check list grep -q "$serial" /run/list
check id-ctrl nvme id-ctrl "$controller"
check id-ns nvme id-ns "$device"
check ns-descs nvme ns-descs "$device"
check list-ns nvme list-ns "$controller"
check list-ns-all nvme list-ns "$controller" --all
check list-ctrl nvme list-ctrl "$controller"
check smart-log nvme smart-log "$controller"
check error-log nvme error-log "$controller"
check fw-log nvme fw-log "$controller"
check effects-log nvme effects-log "$controller"
for feature in 1 2 4 6 7 8 9 11; do
    check "get-feature-$feature" nvme get-feature "$controller" -f $feature
done
check get-feature-5 nvme get-feature "$device" -f 5 -n 1   # error recovery belongs to the namespace
check set-feature-temperature nvme set-feature "$controller" -f 4 -v 0x160
nvme get-feature "$controller" -f 4 > /run/feature 2>&1
check get-feature-temperature grep -qi '0x0*160' /run/feature
check set-feature-write-cache-off nvme set-feature "$controller" -f 6 -v 0
check set-feature-write-cache-on nvme set-feature "$controller" -f 6 -v 1
refuse get-feature-unknown nvme get-feature "$controller" -f 0xbf
refuse get-log-unknown nvme get-log "$controller" -i 0xbe -l 512
refuse admin-unknown nvme admin-passthru "$controller" --opcode=0x7f
refuse io-unknown nvme io-passthru "$device" --opcode=0x7f --namespace-id=1
check flush nvme flush "$device"

# Data by passthrough: what is written, zeroed, deallocated and copied is read back by the kernel.
piece=$((16 * lba))
check fill guest-blocks fill "$device" 0 $((4 * piece)) --unit "$lba"
check nvme-read nvme read "$device" -s 0 -c 15 -z $piece -d /run/read
check nvme-read-content guest-blocks check /run/read 0 $piece --unit "$lba"
check nvme-write nvme write "$device" -s 64 -c 15 -z $piece -d /run/read
check nvme-write-content guest-blocks check "$device" $((64 * lba)) $piece --unit "$lba" --place 0
optional 0 compare nvme compare "$device" -s 64 -c 15 -z $piece -d /run/read
optional 3 write-zeroes nvme write-zeroes "$device" -s 16 -c 15
[ $((oncs >> 3 & 1)) = 0 ] || check write-zeroes-content guest-blocks check "$device" $piece $piece --unit "$lba" --zero
optional 2 dsm nvme dsm "$device" --ad --slbs=32 --blocks=16
if [ $((oncs >> 2 & 1)) = 1 ] && [ $(($(value dlfeat) & 7)) = 1 ]; then
    check dsm-content guest-blocks check "$device" $((2 * piece)) $piece --unit "$lba" --zero
fi
optional 8 copy nvme copy "$device" --sdlba=128 --slbs=0,48 --blocks=15,15
if [ $((oncs >> 8 & 1)) = 1 ]; then
    check copy-content-1 guest-blocks check "$device" $((128 * lba)) $piece --unit "$lba" --place 0
    check copy-content-2 guest-blocks check "$device" $((144 * lba)) $piece --unit "$lba" --place $((3 * piece))
fi
check neighbours guest-blocks check "$device" 0 $piece --unit "$lba"

refuse read-past-the-end nvme read "$device" -s "$blocks" -c 0 -z "$lba" -d /run/none
refuse read-across-the-end nvme read "$device" -s $((blocks - 1)) -c 1 -z $((2 * lba)) -d /run/none
refuse write-past-the-end nvme write "$device" -s "$blocks" -c 0 -z "$lba" -d /run/read
refuse write-at-2^63 nvme write "$device" -s $((1 << 62)) -c 0 -z "$lba" -d /run/read
check reset nvme reset "$controller"
device=$(namespace_of "$serial") || fail device-after-reset "gone"
check content-after-reset guest-blocks check "$device" 0 $piece --unit "$lba"
finish
