# jobs/lib.sh: what every job says and asks; sourced by bash in the guest, $suite set before.
#
# A job's output has these lines, which ./run counts and collects:
#     PASS suite/test
#     FAIL suite/test: why
#     SKIP suite/test: why
#     FIGURE name value unit
# Everything else is for people. What a command says goes to $COPPICE_SHARE/commands.log.
commands_log=$COPPICE_SHARE/commands.log
failed=0
PATH=$COPPICE_BIN:$PATH

pass() { echo "PASS $suite/$1"; }
fail() { echo "FAIL $suite/$1: $2"; failed=1; }
skip() { echo "SKIP $suite/$1: $2"; }
note() { echo "# $*"; }
# The job's last line.
finish() { exit "$failed"; }

# check TEST COMMAND…: the command must succeed. Its FIGURE lines become the job's.
check() {
    local test=$1 output code; shift
    output=$(mktemp)
    echo "== $suite/$test: $*" >> "$commands_log"
    "$@" > "$output" 2>&1 < /dev/null; code=$?
    cat "$output" >> "$commands_log"
    sed -n "s|^FIGURE |FIGURE $suite/$test/|p" "$output"
    if [ $code = 0 ]; then
        pass "$test"
    else
        fail "$test" "exit code $code: $(grep -av '^FIGURE ' "$output" | tail -n 3 | tr '\n' ' ')"
    fi
    rm -f "$output"
    return $code
}

# refuse TEST COMMAND…: the command must be refused, by an error of its own (not a signal).
refuse() { local test=$1; shift; refuse_with . "$test" "$@"; }

# refuse_with PATTERN TEST COMMAND…: … and what it says must match (extended regex, any case).
refuse_with() {
    local pattern=$1 test=$2 output code; shift 2
    output=$(mktemp)
    echo "== $suite/$test must be refused: $*" >> "$commands_log"
    "$@" > "$output" 2>&1 < /dev/null; code=$?
    cat "$output" >> "$commands_log"
    if [ $code = 0 ]; then fail "$test" "was not refused: $*"
    elif [ $code -ge 126 ]; then fail "$test" "ended with exit code $code: $*"
    elif [ "$pattern" != . ] && ! grep -aqiE "$pattern" "$output"; then
        fail "$test" "was refused, but not as '$pattern': $(tail -n 1 "$output")"
    else pass "$test"; fi
    rm -f "$output"
}

# says TEST PATTERN COMMAND…: the command must succeed, and a line of its output match (extended
# regex). says_not: … and no line match. What the command itself does wrong is never taken for an
# answer.
says() { said_or_not yes "$@"; }
says_not() { said_or_not no "$@"; }
said_or_not() {
    local wanted=$1 test=$2 pattern=$3 output code said=no; shift 3
    output=$(mktemp)
    echo "== $suite/$test: $*" >> "$commands_log"
    "$@" > "$output" 2>&1 < /dev/null; code=$?
    cat "$output" >> "$commands_log"
    ! grep -aqE -- "$pattern" "$output" || said=yes
    if [ $code != 0 ]; then fail "$test" "exit code $code: $(tail -n 1 "$output")"
    elif [ $said = $wanted ]; then pass "$test"
    elif [ $wanted = yes ]; then fail "$test" "'$pattern' is not in what it says: $(tail -n 1 "$output")"
    else fail "$test" "it says '$(grep -aE -m 1 -- "$pattern" "$output")'"; fi
    rm -f "$output"
}

# The value of a FIGURE line in a file.
figure_of() { sed -n "s|^FIGURE $1 \([0-9.e+-]*\) .*|\1|p" "$2"; }
# True if a number (also 1.5e-05, as FIGURE may say) is there and at most the other one.
at_most() { awk -v value="$1" -v most="$2" 'BEGIN { exit !(value != "" && value + 0 <= most + 0) }'; }

# The kernel's own record of the events that controllers sent: a command that changes namespaces
# makes Linux look at them anyway, so that only this shows that the controller told.
watch_events() {
    local tracing=/sys/kernel/tracing
    [ -d $tracing/events ] || mount -t tracefs tracefs $tracing || return
    echo 1 > $tracing/events/nvme/nvme_async_event/enable && echo > $tracing/trace
}
# Completion dword 0 of the event "namespace attribute changed": log page 4, information 0, a notice.
namespaces_changed=0x040002
event_seen() {  # event_seen DWORD0: within 5 seconds; what was seen is forgotten
    local try
    for try in $(seq 50); do
        if grep -q "nvme_async_event:.*NVME_AEN=$1 " /sys/kernel/tracing/trace; then echo > /sys/kernel/tracing/trace; return 0; fi
        sleep 0.1
    done
    echo "no event $1 within 5 s"
    return 1
}

# Devices are found by serial: their numbers change between boots.
controller_of() {  # controller_of SERIAL → /dev/nvme0
    local file
    for file in /sys/class/nvme/nvme*/serial; do
        if [ "$(tr -d ' ' < "$file")" = "$1" ]; then
            file=${file%/serial}; echo "/dev/${file##*/}"; return 0
        fi
    done
    echo "there is no controller with serial $1" >&2
    return 1
}

namespace_of() {  # namespace_of SERIAL [NSID] → /dev/nvme0n1, waiting a little for a rescan
    local controller entry name nsid=${2:-1} try
    controller=$(controller_of "$1") || return 1
    for try in $(seq 50); do
        # nvme1n1, or nvme1c2n1 (a path) where the kernel puts nvme1n1 above it.
        for entry in "/sys/class/nvme/${controller#/dev/}"/nvme*n*; do
            name=$(sed 's/c[0-9]*n/n/' <<< "${entry##*/}")
            if [ "$(cat "$entry/nsid" 2>/dev/null)" = "$nsid" ] && [ -b "/dev/$name" ]; then
                echo "/dev/$name"; return 0
            fi
        done
        sleep 0.1
    done
    echo "controller $1 shows no namespace $nsid" >&2
    return 1
}

# milliseconds now
now_ms() { local t=${EPOCHREALTIME/./}; echo $((t / 1000)); }

# timed NAME COMMAND…: runs it and says how long it took.
timed() {
    local name=$1 start code; shift
    start=$(now_ms)
    "$@"; code=$?
    echo "FIGURE $suite/$name $(($(now_ms) - start)) ms"
    return $code
}
