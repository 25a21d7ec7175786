#!/usr/bin/env bats
# wait.bats: IMGLOCK_WAIT.  Times are taken inside the program, with a monotonic clock.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031,SC2153

load common
load calls

setup() {
    common_setup
    new_image
}

# milliseconds: what the last run's timed call took.
milliseconds() {
    sed -n '/^imglock:/d; s/.* \([0-9]*\) ms$/\1/p' <<<"$output"
}

# soon MS: the last run's timed call took less than that, and what this machine is late by.
soon() { [ "$(milliseconds)" -lt $(($1 + $(late))) ]; }

# takes_between FROM TO COMMAND...: the command's timed call took from FROM to TO ms, and what this machine is late by; tried
# three times.
takes_between() {
    local from=$1 to=$2 try took
    shift 2
    for try in 1 2 3; do
        run "$@"
        took=$(milliseconds)
        [ "$took" -lt "$from" ] || [ "$took" -gt $((to + $(late))) ] || return 0
        [ "$took" -ge "$from" ] || break
    done
    fail "took $took ms, not $from to $to, in try $try: $output"
}

# gets_in_soon: as gets_in, sooner than a quarter of a second, after which a waiter that has missed the end looks again.
# Tried three times: it misses what it misses each time, and a busy machine is late now and then.
gets_in_soon() {
    local try
    for try in 1 2 3; do
        gets_in "$@"
        ! soon 200 || return 0
    done
    fail "took $(milliseconds) ms in try $try: $*"
}

@test "without IMGLOCK_WAIT, and with 0, an open is refused at once" {
    hold disk.qcow2 write
    takes_between 0 250 calls timed open rw disk.qcow2
    assert_line --regexp '^open: ETXTBSY'
    IMGLOCK_WAIT=0 takes_between 0 250 calls timed open r disk.qcow2
    assert_line --regexp '^open: ETXTBSY'
}

@test "IMGLOCK_WAIT=0.5: refused after half a second, to within 50 ms, and untouched" {
    local before
    hold disk.qcow2 write
    before=$(fingerprint disk.qcow2)
    export IMGLOCK_WAIT=0.5
    takes_between 500 550 calls timed open rw disk.qcow2
    assert_line --regexp '^open: ETXTBSY '
    assert_one_line 'cannot open for writing: locked exclusively by holder'
    takes_between 500 550 calls timed open r disk.qcow2
    assert_line --regexp '^open: ETXTBSY '
    takes_between 500 550 calls timed fopen w disk.qcow2
    assert_line --regexp '^fopen: ETXTBSY '
    IMGLOCK_WAIT=.125 takes_between 125 175 calls timed creat disk.qcow2
    assert_line --regexp '^creat: ETXTBSY '
    assert_equal "$(fingerprint disk.qcow2)" "$before"
    # No lock, and above all no gate, is left behind.
    release
    assert_locks disk.qcow2 none
}

# gets_in MODE ACTION EVENT:COUNT OPERATION...: a holder has the image; the program waits for it, and at the event
# ACTION ends the holder.
gets_in() {
    local mode=$1 action=$2 event=$3
    shift 3
    hold disk.qcow2 "$mode"
    run between "$event" "${!#}" "$action $HOLDER" "$HELPERS/input_call" timed "$@"
    assert_success
    assert_silent
    wait "$HOLDER" || true
}

@test "a waiter gets in as soon as the holder has closed, been killed, or was killed before the waiter slept" {
    export IMGLOCK_WAIT=200
    local action event
    for action in kill 'kill -9'; do
        # The first poll, and just before the gate is locked: nothing may be missed in between.
        for event in poll:1 lock:2; do
            gets_in_soon write "$action" "$event" open rw disk.qcow2
        done
        gets_in_soon write "$action" poll:1 open r disk.qcow2
        gets_in_soon read "$action" poll:1 creat disk.qcow2
        new_image
    done
}

@test "a program that waited in vain and tries again at once, as qemu-img does, does not wait again" {
    local try waits
    hold disk.qcow2 write
    for try in 1 2 3; do
        rm -f log.jsonl
        IMGLOCK_WAIT=0.2 IMGLOCK_ON_CONFLICT=deny IMGLOCK_AUDIT=$PWD/log.jsonl run wrapped qemu-img info disk.qcow2
        assert_failure
        assert_equal "$(grep -c '"event":"conflict"' log.jsonl)" 2
        waits=$(grep -c '"event":"wait"' log.jsonl)
        # On a busy machine the second open may come late.
        [ "$waits" != 1 ] || return 0
    done
    fail "it waited $waits times"
}

@test "IMGLOCK_WAIT=forever: a waiter goes on waiting, and gets in" {
    export IMGLOCK_WAIT=forever
    # Each poll that ends without an event has lasted a quarter of a second.
    gets_in write kill poll:4 open rw disk.qcow2
    [ "$(milliseconds)" -ge 700 ]
    assert_line --regexp '^open: 3 '
}

@test "a waiter that gets in holds the lock, and no gate" {
    export IMGLOCK_WAIT=200
    hold disk.qcow2 write
    begin_command between poll:1 disk.qcow2 "kill $HOLDER" "$HELPERS/input_call" open rw disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'open: 3'
    assert_locks disk.qcow2 write
}

@test "a signal whose handler does not restart calls ends the wait with EINTR" {
    export IMGLOCK_WAIT=200
    hold disk.qcow2 write
    local how
    for how in 'open rw' 'open r' creat 'fopen w'; do
        # shellcheck disable=SC2086 # the words of the operation
        run calls alarms interrupt , timed $how disk.qcow2 , signals
        assert_line --regexp ': EINTR [0-9]+ ms$'
        assert_line 'signals: 1'
        assert_silent
        soon 1000
    done
    release
    assert_locks disk.qcow2 none
    [ -s disk.qcow2 ]
}

@test "a signal whose handler restarts calls does not end the wait" {
    export IMGLOCK_WAIT=0.5
    hold disk.qcow2 write
    takes_between 500 550 calls alarms restart , timed open rw disk.qcow2 , signals
    assert_line --regexp '^open: ETXTBSY '
    assert_line 'signals: 1'
}

@test "a writer gets in among readers that come and go without end" {
    mkfifo to from
    export IMGLOCK_WAIT=200
    LD_PRELOAD=$SHIM "$HELPERS/lock_stream" disk.qcow2 4 <to >from 3>&- &
    HOLDERS+=("$!")
    exec 9>to
    read -r -t 120 line <from
    assert_equal "$line" ready
    IMGLOCK_WAIT=200 run calls timed open rw disk.qcow2
    exec 9>&-
    assert_success
    soon 2000
}

@test "a reader that does not wait is not kept out by a writer that does" {
    export IMGLOCK_WAIT=200
    hold disk.qcow2 read
    run between poll:1 disk.qcow2 "IMGLOCK_WAIT=0 LD_PRELOAD=$SHIM $HELPERS/input_call open r disk.qcow2 >reader 2>&1
        IMGLOCK_WAIT=0.1 LD_PRELOAD=$SHIM $HELPERS/input_call open r disk.qcow2 >patient 2>&1
        kill $HOLDER" "$HELPERS/input_call" open rw disk.qcow2
    assert_success
    assert_equal "$(cat reader)" 'open: 3'
    # One that may wait queues behind the writer.
    grep -q '^open: ETXTBSY' patient
}

@test "two readers that both want to write do not wait for each other for ever" {
    # Long enough for a busy machine's first try, which comes before the poll.
    export IMGLOCK_WAIT=3
    begin open r disk.qcow2 , step , timed open rw disk.qcow2 , step
    # When the second waits, the first begins to.
    # shellcheck disable=SC2016 # for the action's shell
    run between poll:1 disk.qcow2 'echo >"$STEP_WAY"' "$HELPERS/input_call" open r disk.qcow2 , \
        timed open rw disk.qcow2 , \
        close 3
    assert_line 'open: 3'
    assert_line --regexp '^open: ETXTBSY [0-9]+ ms$'
    assert_line 'close: 0'
    soon 6000
    # The first may have got in when the second had given up.
    await_step
    grep -q '^open: [4E]' "$STEPS"
}

# on_terminal ACTION: another process waits for the image, and its standard error is a terminal.  Prints what comes there
# and, in a line "MS ms", when the first of it came.  ACTION is run by sh at that time; at the latest after 120 s.
on_terminal() {
    python3 - "$HELPERS/input_call" "$SHIM" "$1" <<'SCRIPT'
import os, pty, select, subprocess, sys, time
master, slave = pty.openpty()
start = time.monotonic()
waiter = subprocess.Popen([sys.argv[1], "open", "rw", "disk.qcow2"], stdout=subprocess.DEVNULL, stderr=slave,
                          env={**os.environ, "LD_PRELOAD": sys.argv[2]})
os.close(slave)
said = b""
if select.select([master], [], [], 120)[0]:
    took = time.monotonic() - start
    said = os.read(master, 4096)
    print("%d ms" % (1000 * took))
subprocess.run(["sh", "-c", sys.argv[3]], check=True)
waiter.wait()
try:
    while True:
        more = os.read(master, 4096)
        if not more:
            break
        said += more
except OSError:
    pass
print(said.decode().replace("\r", ""), end="")
sys.exit(waiter.returncode)
SCRIPT
}

@test "on a terminal a waiter says after a second whom it waits for, once" {
    export IMGLOCK_WAIT=200
    hold disk.qcow2 write
    run on_terminal "kill $HOLDER"
    assert_success
    assert_one_line "imglock: $PWD/disk.qcow2: waiting; locked exclusively by holder (pid $HOLDER, user $(id -un)) for "
    [ "$(sed -n 's/ ms$//p' <<<"$output")" -ge 1000 ]
    [ "$(sed -n 's/ ms$//p' <<<"$output")" -lt $((2000 + $(late))) ]
    # Several readers are in the way of a writer.
    hold disk.qcow2 read
    local first=$HOLDER
    hold disk.qcow2 read
    run on_terminal "kill $first $HOLDER"
    assert_success
    assert_one_line 'waiting; locked shared by holder (pid ' ' and 1 other for '
}

@test "a waiter says nothing that has the lock within a second, or is told to be quiet" {
    hold disk.qcow2 write
    IMGLOCK_WAIT=0.3 run on_terminal true
    assert_failure
    refute_output --partial waiting
    IMGLOCK_LOG=quiet IMGLOCK_WAIT=1.3 run on_terminal true
    assert_failure
    refute_output --partial imglock:
}

has_lines() {
    local lines
    mapfile -t lines <"$2"
    [ ${#lines[@]} -ge "$1" ]
}

@test "where standard error is no terminal a waiter says whom it waits for after ten seconds, and again each minute" {
    export IMGLOCK_WAIT=600
    hold disk.qcow2 write
    local started=$SECONDS said
    said="imglock: $PWD/disk.qcow2: waiting; locked exclusively by holder (pid $HOLDER, user $(id -un)) for "
    LD_PRELOAD=$SHIM "$HELPERS/input_call" open r disk.qcow2 >opened 2>messages 3>&- &
    HOLDERS+=("$!")
    "$IMGLOCK" hold disk.qcow2 -- true 2>hold_messages 3>&- &
    HOLDERS+=("$!")
    eventually has_lines 1 messages
    eventually has_lines 1 hold_messages
    [ $((SECONDS - started)) -ge 10 ]
    eventually has_lines 2 messages
    eventually has_lines 2 hold_messages
    [ $((SECONDS - started)) -ge 60 ]
    [ "$(grep -cF "$said" messages)" = 2 ]
    [ "$(grep -cF "$said" hold_messages)" = 2 ]
}

@test "... and after a second with IMGLOCK_LOG=debug; not at all while nobody waits for it" {
    export IMGLOCK_WAIT=1.3
    hold disk.qcow2 write
    run calls open r disk.qcow2
    assert_failure
    assert_one_line 'cannot open for reading: locked exclusively by holder'
    IMGLOCK_LOG=debug run calls open r disk.qcow2
    assert_failure
    assert_line --regexp "^imglock: $PWD/disk.qcow2: waiting; locked exclusively by holder \(pid $HOLDER, user $(id -un)\) for "
    IMGLOCK_LOG=debug,$PWD/messages run calls open r disk.qcow2
    assert_silent
    assert_equal "$(grep -c ': waiting; locked exclusively by holder ' messages)" 1
}

@test "IMGLOCK_KEY=inode: a waiter for the second lock gets in promptly, too" {
    export IMGLOCK_WAIT=200 IMGLOCK_KEY=inode
    ln disk.qcow2 link.qcow2
    gets_in_soon write kill poll:1 open rw link.qcow2
}

# calls_while_waiting: how many calls of fcntl a second of waiting for the other name of disk.qcow2 takes; each try makes a
# few.
calls_while_waiting() {
    (IMGLOCK_WAIT=1 alone strace -o trace -E LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw link.qcow2 >out 2>&1) \
        || true
    grep -q '^open: ETXTBSY' out
    sed -n '/^openat(.*link.qcow2/,$ p' trace | grep -c ^fcntl
}

@test "a waiter sleeps: it does not wake itself up" {
    ln disk.qcow2 link.qcow2
    hold link.qcow2 write
    local calls
    calls=$(calls_while_waiting)
    release
    [ "$calls" -gt 10 ]
    [ "$calls" -lt 300 ]
    export IMGLOCK_KEY=inode
    hold disk.qcow2 write
    calls=$(calls_while_waiting)
    [ "$calls" -gt 10 ]
    [ "$calls" -lt 300 ]
}

@test "who has waited in vain does not wait again at once; another thread and a child do" {
    hold disk.qcow2 write
    IMGLOCK_WAIT=0.4 run wrapped python3 -c '
import os, threading, time
took = []
def tries():
    start = time.monotonic()
    try:
        os.open("disk.qcow2", os.O_RDWR)
    except OSError:
        took.append(time.monotonic() - start)
def child():
    tries()
    os._exit(took[-1] < 0.4)
tries()
tries()
thread = threading.Thread(target=tries)
thread.start()
thread.join()
tries()
child_waited = os.fork() or child()
print(took[0] >= 0.4, took[2] >= 0.4, os.waitpid(child_waited, 0)[1], len(took))'
    assert_line 'True True 0 4'
}
