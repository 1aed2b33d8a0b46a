# jobs/fio-verify.sh SIZE DEPTH SERIAL…: fio's own verification, and a random mix against a model.
#
# fio 3.33 aborts on trim_percentage, and its mixed trims at depth above 1 fail on any device (a race
# of its own), so TRIM is verified by randtrimwrite at depth 1, and by `guest-blocks model`, which
# also covers write-zeroes, FUA and lengths that are no multiple of 4 KiB.
suite=fio
. "$(dirname "$0")/lib.sh"
size=$1 depth=$2; shift 2
engine=psync
[ "$depth" = 1 ] || engine=libaio

run_fio() {  # run_fio NAME WORD…
    local name=$1; shift
    fio --name="$name" --filename="$device" --direct=1 --size="$size" --minimal --terse-version=3 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=42 --output=/run/fio.out "$@"
}

for serial in "$@"; do
    device=$(namespace_of "$serial") || { fail "$serial" "no device"; continue; }
    lba=$(cat "/sys/block/${device#/dev/}/queue/logical_block_size")
    check "random-$lba" run_fio random --ioengine=$engine --iodepth="$depth" --rw=randwrite --bs=4k
    check "sequential-$lba" run_fio sequential --ioengine=$engine --iodepth="$depth" --rw=write --bs=128k
    check "mixed-sizes-$lba" run_fio mixed --ioengine=$engine --iodepth="$depth" --rw=randwrite --bsrange="$lba-64k" --blockalign="$lba"
    check "trim-$lba" run_fio trim --ioengine=psync --iodepth=1 --rw=randtrimwrite --bs=4k
    check "model-$lba" guest-blocks model "$device" --operations 3000 --seed "${COPPICE_SEED:-1}"
done
finish
