# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2154 # what bats sets
# Who descends from a holder, or has its very description, is let past its lock: in any number, at any depth, beside threads and
# waiters, and whatever stands in the records.  Nobody else is.
bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    LOCK_FILE=$(lock_file disk.img)
    export LOCK_FILE
}

# relatives CASE [ARGUMENT]: that case of the program, wrapped, finds nothing wrong, and leaves no lock.
relatives() {
    IMGLOCK_LOG=quiet run wrapped timeout 300 "$HELPERS/relatives" "$1" disk.img "${2-}"
    assert_success
    assert_output ""
    run "$HELPERS/probe" "$LOCK_FILE"
    assert_output free
}

# commands NAME MODE [VARIABLE=VALUE...]: a holder, wrapped, that runs what order tells it.  Sets HOLDER.
commands() {
    local name=$1 mode=$2 line=
    shift 2
    mkfifo "$name.orders" "$name.answers"
    env "$@" LD_PRELOAD="$SHIM" "$HELPERS/commands" "$mode" disk.img <"$name.orders" >"$name.answers" 2>"$name.err" 3>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    eval "exec {${name}_orders}>$name.orders {${name}_answers}<$name.answers"
    local -n answers=${name}_answers
    read -r line <&"$answers" || true
    [ "$line" = ready ] || fail "not ready: $(cat "$name.err")"
}

# order NAME COMMAND: the holder runs it with sh, as a child.  The status is the command's; what it prints is in NAME.err.
order() {
    local -n orders=${1}_orders answers=${1}_answers
    local line=
    echo "{ $2; } >&2" >&"$orders"
    read -r line <&"$answers" || fail "the holder has ended"
    return "${line#status }"
}

# dismiss PID: ends a holder and waits for it.
dismiss() {
    kill -9 "$1"
    wait "$1" 2>/dev/null || true
}

writes='dd if=/dev/zero of=disk.img bs=1 count=1 conv=notrunc status=none'
reads='dd if=disk.img of=/dev/null bs=1 count=1 status=none'

stranger() { wrapped sh -c "$1"; }

# ---- any number ------------------------------------------------------------------------------------------------------

@test "a parent opens an image beside eight workers that have it, and beside thirty" {
    relatives workers-write 8
    relatives workers-write 30
    relatives workers-read 30
}

@test "eight generations, and thirty, open one image for writing" {
    relatives nest 8
    relatives nest 30
}

@test "of two helpers that open an image at the same instant exactly one gets in" {
    relatives siblings 60
}

@test "thirty helpers in turn, and each finds the one before it gone" {
    commands holder write
    local i
    for i in {1..30}; do order holder "$writes" || fail "helper $i is refused: $(cat holder.err)"; done
}

# ---- a description that several have ---------------------------------------------------------------------------------

@test "a child that raises for itself leaves the reader a reader, and what it raised ends with it" {
    relatives raised-and-kept
    relatives raised-and-ended
}

@test "what a child raised ends with the child's close" {
    relatives raised-and-closed
}

@test "what a parent raised beside a child ends with the parent's close" {
    relatives raised-by-parent
}

@test "who raised its lock beside a child has bytes 0-1, for which scripts ask, when the child has ended" {
    relatives raised-after-child
    relatives raised-beside-child
    relatives raised-beside-child open
}

@test "exec 3<image; dd of=image conv=notrunc: the shell is a reader still, and others read beside it" {
    commands holder read
    # The shell has the image by a descriptor that its children inherit.
    order holder "exec 3<disk.img; $writes && LD_PRELOAD= $HELPERS/probe $LOCK_FILE"
    assert_equal "$(cat holder.err)" shared
    run stranger "$reads"
    assert_success
    run stranger "$writes"
    assert_failure
    dismiss "$HOLDER"
    # In one process: bash reads, its child writes and ends, and a stranger reads.
    mkfifo go said
    # shellcheck disable=SC2016
    wrapped bash -c 'exec 3<disk.img; dd if=/dev/zero of=disk.img bs=1 count=1 conv=notrunc status=none; echo $?; read -r' \
        <go >said 3>&- &
    HOLDERS+=("$!")
    exec {GO}>go {SAID}<said
    read -r line <&"$SAID"
    assert_equal "$line" 0
    run stranger "$reads"
    assert_success
    run stranger "$writes"
    assert_failure
    exec {GO}>&- {SAID}<&-
}

@test "the helper of a daemon is let past, and of one whose parent has just ended" {
    relatives helper-of-daemon
    relatives helper-of-orphan
}

# ---- threads and spawns ----------------------------------------------------------------------------------------------

@test "sixteen threads are never refused by their own process's children, nor children that open the image" {
    relatives threads-fork
    relatives threads-raw-fork
    relatives threads-spawn
}

@test "an image that is opened while posix_spawn is under way stays the child's" {
    LD_PRELOAD=$SHIM:$HELPERS/relatives_spawn run timeout 300 "$HELPERS/relatives" spawn-under-way disk.img
    assert_success
    assert_output ""
}

@test "a task that shares descriptors (CLONE_VM|CLONE_FILES) opens and closes: no lock is left, none is lost" {
    relatives shared-files
}

# ---- the gate --------------------------------------------------------------------------------------------------------

gate_is_closed() { [ "$("$HELPERS/probe" "$LOCK_FILE" 2)" = exclusive ]; }

# a_writer_waits: for the image that HOLDER has; returns when it has closed the gate.
a_writer_waits() {
    IMGLOCK_WAIT=forever LD_PRELOAD=$SHIM "$HELPERS/holder" write disk.img >writer 2>writer.err 3>&- </dev/null &
    HOLDERS+=("$!")
    eventually gate_is_closed
}

@test "a helper of a reader gets in while a writer waits at the gate" {
    export IMGLOCK_WAIT=200
    commands holder read
    a_writer_waits
    # With the lock in the hand of its parent it gets in, and the writer waits still.
    order holder "$reads" || fail "the helper is kept out: $(cat holder.err)"
    order holder "exec 3<disk.img; $reads"
    gate_is_closed
    [ ! -s writer ]
    # A stranger that may wait queues behind the writer.
    IMGLOCK_WAIT=0.2 run stranger "$reads"
    assert_failure
    kill "$HOLDER"
    eventually [ -s writer ]
}

@test "what imglock hold -s runs reads the image while a writer waits at the gate" {
    export IMGLOCK_WAIT=200
    mkfifo go said
    "$IMGLOCK" hold -s disk.img -- sh -c "echo ready; read -r go; LD_PRELOAD=$SHIM $reads; echo \$?" <go >said 3>&- &
    HOLDERS+=("$!")
    exec {GO}>go {SAID}<said
    read -r line <&"$SAID"
    a_writer_waits
    echo go >&"$GO"
    read -r line <&"$SAID"
    assert_equal "$line" 0
    exec {GO}>&- {SAID}<&-
    eventually [ -s writer ]
}

# ---- hand-over ---------------------------------------------------------------------------------------------------------

# byte_owner: the name of the process of two that has byte 0, or byte 1 while nobody has that, by the kernel's word.
byte_owner() {
    local byte name pid descriptor
    for byte in 0 1; do
        for name in SOURCE TARGET; do
            pid=${!name}
            for descriptor in "/proc/$pid/fd/"*; do
                [ "$descriptor" -ef "$LOCK_FILE" ] || continue
                awk -v byte=$byte '$1 == "lock:" && $3 == "OFDLCK" && $5 == "WRITE" {
                        if ($8 <= byte && ($9 == "EOF" || $9 >= byte)) found = 1 } END {exit !found}' \
                    "/proc/$pid/fdinfo/${descriptor##*/}" && echo $name && return
            done
        done
    done
    echo nobody
}

@test "hand-over killed between any two changes: nobody, of either side, gets in beside the one owner" {
    local step=0 more=true got
    while $more; do
        step=$((step + 1))
        rm -f source.* target.* "$LOCK_FILE"
        commands source write
        SOURCE=$HOLDER
        commands target write IMGLOCK_MODE=inactive
        TARGET=$HOLDER
        # shellcheck disable=SC2016 # for the action's shell
        run "$HELPERS/lock_between" "change:$step" 'kill -9 $(pgrep -P $PPID -x imglock)' \
            "$IMGLOCK" handoff disk.img --to "$TARGET"
        [[ $output != *"never came to"* ]] || more=false
        # What they started is no child of theirs when it writes, but for the time of its write.
        got=
        run order source "$writes"
        [ "$status" != 0 ] || got+=SOURCE
        run order target "IMGLOCK_MODE=auto $writes"
        [ "$status" != 0 ] || got+=TARGET
        run stranger "$writes"
        [ "$status" != 0 ] || got+=stranger
        # Nobody gets in while each has one of the two bytes.
        [ -z "$got" ] || assert_equal "$step: $got" "$step: $(byte_owner)"
        kill -9 "$SOURCE" "$TARGET"
        wait "$SOURCE" "$TARGET" 2>/dev/null || true
    done
    assert_equal "$got" TARGET
    [ "$step" -gt 5 ]
}

# ---- records are text ----------------------------------------------------------------------------------------------------

# forged SLOT PID [MODE]: a record that says so, with everything else right.
forged() {
    local boot space start
    boot=$(tr -d - </proc/sys/kernel/random/boot_id)
    space=$(readlink /proc/self/ns/pid | tr -dc 0-9)
    start=$(sed 's/.*) //' "/proc/$2/stat" | cut -d' ' -f20)
    printf 'record:%s:pid=%s start=%s boot=%s pidns=%s uid=0 mode=%s since=1790000000000 fd=500 host=%s cmd=init ' \
        "$1" "$2" "$start" "${boot:0:16}" "$space" "${3:-exclusive}" "$(uname -n)"
}

# slot_of_holder: the slot whose record it is.
slot_of_holder() { echo $(($("$HELPERS/lock_query" "$LOCK_FILE" | sed -n 's/^read \([0-9]*\)-.*/\1/p' | tail -n 1) - 1024)); }

@test "a record that says pid 1, or a stranger's own parent, lets nobody past" {
    local pid
    for pid in 1 "$PPID" "$$"; do
        hold disk.img write
        # Over the holder's record, and in a slot of the forger's own.
        background "$HELPERS/status_lock" "$LOCK_FILE" "$(forged "$(slot_of_holder)" "$pid")"
        run stranger "$writes"
        assert_failure
        background "$HELPERS/status_lock" "$LOCK_FILE" "$(forged 100 "$pid")" s:1124:1
        run stranger "$writes"
        assert_failure
        common_teardown
        HOLDERS=()
    done
}

@test "records that are forged, wiped, torn or swapped keep no relative out" {
    local damage slot
    for damage in forged wiped torn stale; do
        commands "$damage" write
        slot=$(slot_of_holder)
        case $damage in
        forged) background "$HELPERS/status_lock" "$LOCK_FILE" "$(forged "$slot" 1)" ;;
        wiped) dd if=/dev/zero of="$LOCK_FILE" bs=256 seek=$((16 + slot)) count=1 conv=notrunc status=none ;;
        torn) dd if=/dev/zero of="$LOCK_FILE" bs=1 seek=$((4096 + 256 * slot + 40)) count=100 conv=notrunc status=none ;;
        stale) background "$HELPERS/status_lock" "$LOCK_FILE" "$(forged "$slot" "$$" inactive)" ;;
        esac
        order "$damage" "$writes" || fail "$damage: the helper is kept out: $(cat "$damage.err")"
        order "$damage" "$reads"
        run stranger "$writes"
        assert_failure
        common_teardown
        HOLDERS=()
    done
}

@test "a slot that is being written keeps no relative out" {
    # As in the middle of a claim: the byte is locked exclusively.  Here by somebody who never ends it.
    commands holder write
    background "$HELPERS/status_lock" "$LOCK_FILE" x:1200:1
    order holder "$writes" || fail "the helper is kept out: $(cat holder.err)"
    run stranger "$writes"
    assert_failure
}

@test "a number that is now the lock file, now another file that an ancestor has locked, lets nobody past" {
    background wrapped "$HELPERS/holder" write disk.img
    IMGLOCK_LOG=quiet run wrapped timeout 300 "$HELPERS/relatives" shuffle disk.img
    assert_success
    assert_output ""
}

# ---- the list of all locks -------------------------------------------------------------------------------------------

@test "strange readers are seen in a list of locks that changes all the time" {
    # The kernel names one reader alone when it is asked, so they are counted in /proc/locks, which it gives a page at a
    # time; a lock that goes between two pages hides another.
    local attempt
    commands stranger read
    commands holder read
    mkfifo churning
    "$HELPERS/lock_churn" churn.lock >churning 3>&- &
    HOLDERS+=("$!")
    read -r <churning
    for attempt in {1..25}; do
        run ! order holder "$writes"
    done
    # And nobody is made a stranger by a row that is counted twice.
    dismiss "${HOLDERS[0]}"
    for attempt in {1..5}; do
        order holder "$writes" || fail "the helper is kept out: $(cat holder.err)"
    done
}

@test "locks are counted right beside programs that lock all the time, wherever a page of the list ends" {
    # The readers' rows are behind up to eighty others, so that a page of 4 KiB may end at them.  Whatever locks on the
    # first processor comes first in the list.
    local cpus churn low high
    cpus=$(taskset -cp $$ | sed 's/.*: //; s/[,-]/ /g')
    [[ $cpus = *' '* ]] || skip "on one processor nobody locks while another reads"
    mkfifo churning
    for churn in '1 0' '60 0' '1 30' '60 30'; do
        # shellcheck disable=SC2086 # two words
        taskset -c "${cpus%% *}" "$HELPERS/lock_churn" churn.lock $churn >churning 3>&- &
        HOLDERS+=("$!")
        read -r <churning
        run taskset -c "${cpus##* }" "$HELPERS/locks_counted" counted 3 20 0 20 {30..54..6} {60..80}
        assert_success
        assert_equal "${#lines[@]}" 28
        # Too few would let a stranger in.
        while read -r low high; do
            ((low == 0 && high <= 2)) || fail "beside $churn: $output"
        done <<<"$output"
        dismiss "${HOLDERS[-1]}"
    done
}

@test "a strange reader is seen whose row is behind the end of a page when locks before it go" {
    # Whatever locks last on a processor comes first in its list.
    local cpu before
    cpu=$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')
    background taskset -c "$cpu" env LD_PRELOAD="$SHIM" "$HELPERS/holder" read disk.img
    for before in 0 1 3; do
        IMGLOCK_LOG=quiet run taskset -c "$cpu" env LD_PRELOAD="$SHIM" timeout 300 "$HELPERS/hiding" page disk.img $before
        assert_failure 1
        assert_output $before
    done
    # And without it the child gets in.
    dismiss "$HOLDER"
    run taskset -c "$cpu" env LD_PRELOAD="$SHIM" timeout 300 "$HELPERS/hiding" page disk.img 0
    assert_success
}

@test "a lock that nobody has any more is waited for, if somebody was just looking at it when it was closed" {
    # The kernel lets the locks go when the one who looks returns, on a busy machine after a fifth of a second.
    local turns
    for turns in 1 6; do
        IMGLOCK_LOG=quiet run wrapped timeout 300 "$HELPERS/hiding" linger disk.img $turns
        assert_success
        assert_output $turns
        # Nothing tells whose it was.
        IMGLOCK_LOG=quiet run wrapped timeout 300 "$HELPERS/hiding" wiped disk.img $turns
        assert_success
        assert_output $turns
    done
}

@test "a holder whom the mount of /proc hides has its lock all the same, and a refusal waits for nobody" {
    needs_root
    local hide='mount -t proc -o hidepid=2 proc /proc'
    unshare --mount sh -c "$hide" 2>/dev/null || skip "/proc cannot be mounted here"
    hold disk.img write
    chown nobody disk.img "$LOCK_FILE"
    chmod 777 .
    # Only for a lock that nobody has, others are let go first.
    run unshare --mount sh -c "$hide; "'exec "$@"' sh "${NOBODY[@]}" \
        strace -o trace -e trace=sched_yield,fcntl env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.img
    assert_failure
    grep -q F_OFD_GETLK trace || fail "strace saw nothing: $output"
    run grep sched_yield trace
    assert_failure 1
}

@test "where the list of locks is hidden a strange reader is seen, and a relative gets in" {
    needs_root
    local hide in_hiding
    for hide in 'mount --bind /dev/null /proc/locks' 'mount -t proc -o subset=pid proc /proc'; do
        unshare --mount sh -c "$hide" 2>/dev/null || skip "/proc cannot be mounted here"
        in_hiding=(unshare --mount sh -c "$hide; "'LD_PRELOAD=$SHIM exec "$@"' sh "$HELPERS/commands" read disk.img)
        background env LD_PRELOAD="$SHIM" "$HELPERS/holder" read disk.img
        IMGLOCK_LOG=quiet run "${in_hiding[@]}" <<<"$writes 2>/dev/null"
        assert_output $'ready\nstatus 1'
        dismiss "$HOLDER"
        run "${in_hiding[@]}" <<<"$writes"
        assert_output $'ready\nstatus 0'
    done
}

@test "where the list of locks is hidden a handler that jumps away leaves no copy of a relative's descriptor" {
    needs_root
    needs strace
    local hide='mount --bind /dev/null /proc/locks'
    unshare --mount sh -c "$hide" 2>/dev/null || skip "/proc cannot be mounted here"
    cat >jump <<'JUMP'
set -- "$HELPERS/signals" jump-from-guard disk.img
export IMGLOCK_LOG=quiet
unset LOCK_FILE
strace -qq -o trace "$@" >bare
first=$(sed '/getppid/,$d' trace | grep -c pidfd_getfd)
strace -qq -o trace -e inject=pidfd_getfd:signal=URG:when=$((first + 1)) "$@"
JUMP
    export HELPERS
    run unshare --mount sh -c "$hide; "'LD_PRELOAD=$SHIM exec "$@"' sh "$HELPERS/commands" read disk.img <<<'sh jump'
    assert_output $'ready\njumped 1\nstatus 0'
}

@test "where the list of locks is hidden the second of two generations that read keeps the third out" {
    needs_root
    local hide='mount --bind /dev/null /proc/locks'
    unshare --mount sh -c "$hide" 2>/dev/null || skip "/proc cannot be mounted here"
    # Through neither description nobody else is seen: it might be a stranger.
    echo "$writes 2>/dev/null; echo third \$?" >third
    run unshare --mount sh -c "$hide; "'LD_PRELOAD=$SHIM exec "$@"' sh "$HELPERS/commands" read disk.img \
        <<<"'$HELPERS/commands' read disk.img <third"
    assert_output $'ready\nready\nthird 1\nstatus 0\nstatus 0'
    # With the list they are told apart.
    LD_PRELOAD=$SHIM run "$HELPERS/commands" read disk.img <<<"'$HELPERS/commands' read disk.img <third"
    assert_output $'ready\nready\nthird 0\nstatus 0\nstatus 0'
}
