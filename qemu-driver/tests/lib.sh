# lib.sh: what the tests of the image format share; sourced with the build folder as $1.
# Each test is a line `ok NAME` or `FAIL NAME` with the output of what failed. A line `SKIP NAME: why`
# or `GAP NAME` goes into the summary of run-tests.
build=$(cd "$1" && pwd)
run=$build/bin/coppice-qemu
scratch=$(mktemp -d)
mounted=
cleanup() {
    [ -z "$mounted" ] || umount "$mounted"
    rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch"
failures=0

check() { # NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$scratch/log" 2>&1; then
        printf 'ok    %s\n' "$name"
    else
        printf 'FAIL  %s\n' "$name"
        sed 's/^/      /' "$scratch/log"
        failures=$((failures + 1))
    fi
}
# What is known to be missing: neither passed nor failed, until it works and should become a check.
gap() { # NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$scratch/log" 2>&1; then
        printf 'FAIL  %s: works now, make it a check\n' "$name"
        failures=$((failures + 1))
    else
        printf 'GAP  %s\n' "$name"
    fi
}
# In front of a command. Root without capabilities is held back by the permissions of files as anybody
# is, and can still read a build folder that is root's alone.
unprivileged=()
[ "$(id -u)" != 0 ] || unprivileged=(setpriv --bounding-set=-all --inh-caps=-all)
# The command must print a line that matches, to stdout or stderr; its exit code is checked if given.
says() { # PATTERN [CODE] -- COMMAND…
    local pattern=$1 want=- code=0 text
    shift
    if [ "$1" != -- ]; then want=$1; shift; fi
    shift
    text=$("$@" 2>&1 </dev/null) || code=$?
    printf '%s\n[exit code %s]\n' "$text" "$code"
    [[ $want == - || $want == "$code" ]] && grep -qE -- "$pattern" <<<"$text"
}
not() { ! "$@"; }
img() { "$run" qemu-img "$@"; }
# Each further argument is a command of qemu-io; none may say that something failed or differs.
io() { # OPTIONS-AND-FILE… -- COMMAND…
    local target=() commands=() text code=0
    while [ "$1" != -- ]; do target+=("$1"); shift; done
    shift
    for command; do commands+=(-c "$command"); done
    text=$("$run" qemu-io "${commands[@]}" "${target[@]}" 2>&1 </dev/null) || code=$?
    printf '%s\n' "$text"
    [ $code = 0 ] && ! grep -qiE 'failed|error|mismatch' <<<"$text"
}
finish() {
    [ $failures -eq 0 ] || { echo "$failures failed"; exit 1; }
    exit 0
}
