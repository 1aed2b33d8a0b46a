# lib.sh: what the suites share on the host; sourced. A suite is run by ./run, with
#   COPPICE_LEVEL    quick | all | long
#   COPPICE_RESULTS  the file that PASS, FAIL, SKIP and FIGURE lines are added to
# and its name as $suite.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/devices.sh"
: "${COPPICE_LEVEL:=all}" "${COPPICE_RESULTS:=/dev/null}"
work=$build_root/guest-runs/$suite-$COPPICE_DEVICE
rm -rf "$work"
mkdir -p "$work"

result() { echo "$*"; echo "$*" >> "$COPPICE_RESULTS"; }
pass() { result "PASS $suite/$1"; }
fail() { result "FAIL $suite/$1: $2"; }
skip() { result "SKIP $suite/$1: $2"; }

# host_check TEST COMMAND…: the command must succeed.
host_check() {
    local test=$1 output code; shift
    output=$("$@" 2>&1); code=$?
    if [ $code = 0 ]; then pass "$test"; else fail "$test" "exit code $code: $(tail -n 2 <<< "$output" | tr '\n' ' ')"; fi
    return $code
}

# need_kernel VERSION TEST: false without it, and says why: a SKIP only where ./setup found that no
# archive of this machine has it.
need_kernel() {
    local unavailable=$COPPICE_GUESTS/$1/unavailable
    if have_kernel "$1"; then return 0; fi
    if [ -s "$unavailable" ]; then skip "$2" "no Linux $1: $(cat "$unavailable")"
    else fail "$2" "there is no guest kernel $1; run ./setup"; fi
    return 1
}
have_kernel() { [ -s "$COPPICE_GUESTS/$1/vmlinux" ] && [ -s "$COPPICE_GUESTS/$1/initramfs" ]; }

# The words that start a job file in the guest.
job_words() { printf '%s\n' env "COPPICE_DEVICE=$COPPICE_DEVICE" "COPPICE_BIN=$COPPICE_BIN" bash "$guest_tests/jobs/$1"; }

# Adds a run's result lines to the results; a run that failed without saying so is a failure.
collect() {  # collect RUN EXIT_CODE
    grep -aE '^(PASS|FAIL|SKIP|FIGURE) ' "$work/$1/job.log" | tr -d '\r' >> "$COPPICE_RESULTS"
    if [ "$2" != 0 ] && ! grep -aq '^FAIL ' "$work/$1/job.log"; then
        fail "$1" "the guest's run ended with exit code $2; see $work/$1"
    fi
}

# guest RUN BOOT-OPTION… -- JOB ARGUMENT…: one guest with one job to its end; shown and collected.
guest() {
    local run=$1 options=() words code; shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    mapfile -t words < <(job_words "$1"); shift
    "$guest_tests/boot" --run "$work/$run" "${options[@]}" -- "${words[@]}" "$@" < /dev/null
    code=$?
    collect "$run" $code
    return $code
}

# Disks are removed after a suite that went well; all is kept after one that did not.
finish() {
    if ! grep -q "^FAIL $suite" "$COPPICE_RESULTS" 2>/dev/null; then rm -rf "$work"; fi
    exit 0
}
