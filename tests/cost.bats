#!/usr/bin/env bats
# cost.bats: what the library adds to a call, counted and never timed: system calls by strace, instructions by valgrind.
# "make bench" measures the time.  A number here that has to grow needs a reason; one that can fall is lowered.

load common
load calls

RUNNER=$PUBLIC/build/bench/runner
EMPTY=$PUBLIC/build/bench/empty.so

setup() {
    common_setup
    yes 'This is no image.' | head -n 400 >notes.txt
    # Read since it was written: else relatime would move its access time, and the look at it has to prevent that.
    touch -m -d '1 hour ago' notes.txt
    touch -a -d 'now + 1 minute' notes.txt
    new_image
    # The lock file is made by the first open.
    echo 1 | wrapped "$RUNNER" open-write disk.qcow2 >/dev/null
}

# system_calls COUNT COMMAND...: "name times" of all the system calls of a run of bench/runner that does COUNT operations.
system_calls() {
    local count=$1
    shift
    rm -f trace
    (alone timeout 300 strace -f -o trace "$@" <<<"$count") >/dev/null || return
    sed -nE 's/^[0-9]+ +([a-z0-9_]+)\(.*/\1/p' trace | sort | uniq -c | awk '{print $2, $1}'
}

# each_operation COMMAND...: "name times" of what one operation takes: what 150 take more than 50, by 100.
each_operation() {
    system_calls 50 "$@" >few
    system_calls 150 "$@" >many
    awk 'FILENAME == "few" { few[$1] = $2; next }
         $2 != few[$1] { print $1, ($2 - few[$1]) / 100 }' few many
}

# added OPERATION...: what the library adds to one; nothing where it adds nothing.  SETTINGS: IMGLOCK_ variables.
added() {
    each_operation "$RUNNER" "$@" >bare
    each_operation env LD_PRELOAD="$SHIM" "${SETTINGS[@]}" "$RUNNER" "$@" >with
    [ -s bare ] || fail "strace saw no operation: $(head -c 2000 trace)"
    awk 'FILENAME == "bare" { bare[$1] = $2; next }
         { more = $2 - bare[$1]; delete bare[$1]; if (more) print $1, more }
         END { for (name in bare) print name, -bare[name] }' bare with | sort
}

# assert_total_at_most LIMIT LINES: the times in the lines add up to no more.
assert_total_at_most() {
    local total
    total=$(awk '{total += $2} END {print total + 0}' <<<"$2")
    [ "$(awk -v a="$total" -v b="$1" 'BEGIN {print (a > 0 && a <= b)}')" = 1 ] ||
        fail "$total system calls added, where at most $1 are expected:
$2"
}

# instructions COUNT LIBRARY OPERATION...
instructions() {
    local count=$1 library=$2
    shift 2
    (alone timeout 300 env LD_PRELOAD="$library" "${SETTINGS[@]}" valgrind --tool=callgrind \
        --callgrind-out-file=/dev/null "$RUNNER" "$@" <<<"$count") 2>&1 >/dev/null |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# assert_instructions_at_most LIMIT OPERATION...: the library adds no more to one operation.
assert_instructions_at_most() {
    local limit=$1 library few many added=0
    shift
    for library in "$SHIM" "$EMPTY"; do
        few=$(instructions 200 "$library" "$@")
        many=$(instructions 1200 "$library" "$@")
        if [ -z "$few" ] || [ "${many:-0}" -le "$few" ]; then fail "valgrind counted '$few' and '$many' instructions"; fi
        added=$(((many - few) / 1000 - added))
    done
    added=$((-added))
    if [ "$added" -le 0 ] || [ "$added" -gt "$limit" ]; then
        fail "$added instructions added to $*, where at most $limit are expected"
    fi
}

@test "names alone decide: an open and close of what is no image take no system call more" {
    SETTINGS=(IMGLOCK_MAGIC=off)
    assert_equal "$(added open notes.txt)" ''
}

@test "a look at the header takes one fstat and one pread" {
    SETTINGS=()
    assert_equal "$(added open notes.txt)" $'fstat 1\npread64 1'
}

@test "dup, fcntl and close of what is no image, and close of a bad descriptor, take no system call more" {
    SETTINGS=()
    assert_equal "$(added dup)" ''
    assert_equal "$(added fcntl)" ''
    assert_equal "$(added close-bad)" ''
}

@test "the system calls of an image's open and close" {
    SETTINGS=()
    # The mark is two of them to set, and one to ask, for a reader two.  Seven ask the kernel who else has the image open for
    # writing: whom a broken lease is told to and by which signal, set and reset, the lease itself, and back, and the queue.
    assert_total_at_most 31 "$(added open-write disk.qcow2)"
    assert_total_at_most 32 "$(added open disk.qcow2)"
}

@test "a shared open beside other holders takes a try more for each slot that is taken" {
    SETTINGS=()
    local ready line
    ready=$BATS_TEST_TMPDIR/holding
    mkfifo "$ready" go
    LD_PRELOAD=$SHIM "$RUNNER" hold 20 disk.qcow2 <go >"$ready" 3>&- &
    HOLDERS+=("$!")
    exec {GO}>go
    read -r line <"$ready"
    assert_equal "$line" ready
    local lines
    lines=$(added open disk.qcow2)
    assert_total_at_most 21 "$(grep -v '^fcntl ' <<<"$lines")"
    # Five, the mark, six for the lease, and a try for each slot that is taken: at most six before the search.
    assert_total_at_most 17 "$(grep '^fcntl ' <<<"$lines")"
    exec {GO}>&-
}

# start_calls LIBRARY: the system calls of a small program with it, which inherits three descriptors that are no files.
start_calls() {
    rm -f trace
    (alone strace -E LD_PRELOAD="$1" -o trace /usr/bin/true </dev/null >/dev/null 2>&1) || return
    sed -nE 's/^([a-z0-9_]+)\(.*/\1/p' trace
}

@test "the system calls of a program's start" {
    start_calls "$EMPTY" >bare
    start_calls "$SHIM" >with
    assert_total_at_most 14 "$(awk '{n[$1] += FILENAME == "with" ? 1 : -1} END {for (i in n) if (n[i]) print i, n[i]}' bare with)"
}

# page_faults LIBRARY: those of a program that opens one image, the fewest of 60 runs: where the kernel puts things makes
# a difference of three.
page_faults() {
    alone python3 - "$1" "$RUNNER" open-write disk.qcow2 <<'PYTHON'
import os, sys

def page_faults():
    counts, write = os.pipe()
    os.write(write, b"1\n")
    os.close(write)
    process = os.posix_spawn(sys.argv[2], sys.argv[2:], dict(os.environ, LD_PRELOAD=sys.argv[1]),
                             file_actions=[(os.POSIX_SPAWN_DUP2, counts, 0),
                                           (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    os.close(counts)
    _, status, usage = os.wait4(process, 0)
    assert status == 0
    return usage.ru_minflt

print(min(page_faults() for _ in range(60)))
PYTHON
}

@test "the pages that a program with an image touches" {
    local bare with
    bare=$(page_faults "$EMPTY")
    with=$(page_faults "$SHIM")
    # Six of its code, with that of the marks, two of what the linker fills in, three of its own, one of the stack; up to
    # four more by chance: the kernel maps sixteen pages at a fault only where it has them at hand.
    if [ "$with" -le "$bare" ] || [ "$with" -gt $((bare + 16)) ]; then fail "$with page faults, where an empty library has $bare"; fi
}

# deleted COUNT LIBRARY: the system calls of rm on that many files.
deleted() {
    rm -rf trace doomed
    mkdir doomed
    (cd doomed && for ((i = 0; i < $1; i++)); do : >"$i.o"; done)
    (alone strace -E LD_PRELOAD="$2" -o trace rm -rf doomed </dev/null >/dev/null 2>&1) || return
    wc -l <trace
}

@test "the system calls of the guard on a name that nobody locked" {
    local bare with
    bare=$(($(deleted 300 "$EMPTY") - $(deleted 100 "$EMPTY")))
    with=$(($(deleted 300 "$SHIM") - $(deleted 100 "$SHIM")))
    # May the name be read; a look at the directory, and for the lock file; and at each tick of the clock one for the directory's path.
    [ "$bare" -gt 0 ]
    if [ $((with - bare)) -gt 640 ]; then fail "$((with - bare)) system calls added to 200 deletions"; fi
}

@test "the symbols that the dynamic linker looks up for the library" {
    [ ! -e "$TOP/build/openssl-shared" ] || skip "built with OPENSSL=shared"
    local symbols
    symbols=$(readelf -rW "$SHIM" | grep -cE 'R_[A-Z0-9_]+_(GLOB_DAT|JUMP_SLOT?) ')
    if [ "$symbols" -eq 0 ] || [ "$symbols" -gt 24 ]; then fail "$symbols symbols, where at most 24 are expected"; fi
}

@test "the instructions of an open and close where names alone decide" {
    SETTINGS=(IMGLOCK_MAGIC=off)
    assert_instructions_at_most 130 open notes.txt
}

@test "the instructions of a look at a header" {
    SETTINGS=()
    # Six of them ask whether the program has record locks, and whether the library is switched off.
    assert_instructions_at_most 328 open notes.txt
}

@test "the instructions of dup and close, and of fcntl" {
    SETTINGS=()
    assert_instructions_at_most 68 dup
    assert_instructions_at_most 50 fcntl
}

@test "the instructions of an image's open and close" {
    SETTINGS=()
    # 3,014 before the question whether a child may have the description, and the one deadline of an open; 3,260 without
    # the mark; 3,640 without the handler that cleans up when the program jumps out of the first try; some 180 are for the
    # question who else has the image open for writing, 20 for whether it is a block device, 15 for whether it is still the
    # file that was asked about.
    assert_instructions_at_most 4050 open-write disk.qcow2
}
