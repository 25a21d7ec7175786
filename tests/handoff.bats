#!/usr/bin/env bats
# imglock handoff, inactivate and activate: the lock passed from one process to another.

# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    IMAGE=$PWD/disk.img
}

# ends: SOURCE holds the image, TARGET is inactive on it.
ends() {
    hold disk.img write
    SOURCE=$HOLDER
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
}

finish() {
    local pid
    for pid in "$@"; do
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

fresh_ends() {
    finish "${HOLDERS[@]}"
    HOLDERS=()
    rm -rf "$IMGLOCK_DIR"
    mkdir -m 1777 "$IMGLOCK_DIR"
    ends
}

# owned_bytes PID [LOCK_FILE]: which of the bytes 0 and 1 the process holds exclusively, by the kernel's word: "01", "0", "1"
# or nothing.
owned_bytes() {
    local file=${2:-$(lock_file disk.img)} descriptor type access start end bytes=
    for descriptor in "/proc/$1/fd/"*; do
        [ "$descriptor" -ef "$file" ] || continue
        while read -r _ _ type _ access _ _ start end; do
            [ "$type $access" = "OFDLCK WRITE" ] || continue
            if ((start <= 0)); then bytes+=0; fi
            if ((start <= 1 && end >= 1)); then bytes+=1; fi
        done < <(grep '^lock:' "/proc/$1/fdinfo/${descriptor##*/}")
    done
    printf '%s' "$bytes"
}

# record_mode PID: what its record says.
record_mode() { records disk.img | sed -n "s/.* pid=$1 .* mode=\([a-z-]*\) .*/\1/p"; }

# status_owner: the pids that imglock status calls exclusive.
status_owner() {
    "$IMGLOCK" status -rn -o MODE,PID "$IMAGE" | sed -n 's/^exclusive \([0-9]*\)$/\1/p'
}

third_party() { wrapped dd if=/dev/zero of="$IMAGE" bs=1 count=1 conv=notrunc status=none; }

# owner_is PID: it alone has the lock, by the kernel and by status, and a stranger is refused.
owner_is() {
    local pid
    assert_equal "$(owned_bytes "$1")" 01
    for pid in "$SOURCE" "$TARGET"; do
        [ "$pid" = "$1" ] || [ ! -e "/proc/$pid/fd" ] || assert_equal "$pid: $(owned_bytes "$pid")" "$pid: "
    done
    assert_equal "$(status_owner)" "$1"
    run third_party
    assert_failure
    assert_output --partial "cannot open for writing: locked exclusively by holder (pid $1, user "
}

nobody_has_a_byte() { assert_equal "$(owned_bytes "$SOURCE")$(owned_bytes "$TARGET")" ''; }

nobody_owns() {
    assert_equal "$(status_owner)" ""
    run third_party
    assert_success
}

# fails STATUS TEXT ARGUMENT...: imglock fails in one line that names the image and has the text.
fails() {
    local status_wanted=$1 text=$2
    shift 2
    run "$IMGLOCK" "$@"
    assert_equal "$status" "$status_wanted"
    assert_equal "${#lines[@]}" 1
    assert_output --partial "imglock: $IMAGE: cannot "
    assert_output --partial "$text"
}

@test "activate asks who has come meanwhile outside imglock or by another name, as an open does" {
    ends
    ln disk.img hard.img
    "$IMGLOCK" inactivate disk.img
    background "$HELPERS/outsider" write disk.img
    local to who
    to="cannot give the lock to holder (pid $TARGET):"
    who="outsider (pid $HOLDER, user $(id -un)) has it open for writing"
    fails 1 "$to $who, outside imglock" activate disk.img --to "$TARGET"
    nobody_has_a_byte
    IMGLOCK_OUTSIDERS=warn run "$IMGLOCK" activate disk.img --to "$TARGET"
    assert_success
    assert_line --partial "$who, outside imglock"
    owner_is "$TARGET"
    "$IMGLOCK" inactivate disk.img
    finish "$HOLDER"
    hold hard.img write
    fails 1 "$to locked exclusively by holder (pid $HOLDER, user $(id -un)) as $PWD/hard.img" activate disk.img --to "$TARGET"
    nobody_has_a_byte
    finish "$HOLDER"
    "$IMGLOCK" activate disk.img --to "$TARGET"
    owner_is "$TARGET"
}

# ---- what it does ----------------------------------------------------------------------------------------------------

@test "handoff passes the lock on, and says so" {
    ends
    owner_is "$SOURCE"
    run --separate-stderr "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_output "$IMAGE: handed over from holder (pid $SOURCE) to holder (pid $TARGET)"
    assert_equal "$stderr" ""
    owner_is "$TARGET"
    assert_equal "$(record_mode "$SOURCE") $(record_mode "$TARGET")" "inactive exclusive"
    finish "$SOURCE"
    owner_is "$TARGET"
    finish "$TARGET"
    nobody_owns
}

@test "handoff goes back and forth" {
    ends
    for _ in 1 2 3; do
        run "$IMGLOCK" handoff --to "$TARGET" disk.img
        assert_success
        owner_is "$TARGET"
        run "$IMGLOCK" handoff --from "$TARGET" --to "$SOURCE" disk.img
        assert_success
        owner_is "$SOURCE"
    done
    finish "$TARGET"
    owner_is "$SOURCE"
}

@test "inactivate frees the lock, activate gives it to one that is inactive" {
    ends
    run --separate-stderr "$IMGLOCK" inactivate disk.img
    assert_success
    assert_output "$IMAGE: holder (pid $SOURCE) is inactive, and nobody holds the lock"
    assert_equal "$(record_mode "$SOURCE")" inactive
    nobody_owns
    run --separate-stderr "$IMGLOCK" activate disk.img --to "$TARGET"
    assert_success
    assert_output "$IMAGE: holder (pid $TARGET) holds the lock"
    owner_is "$TARGET"
    run "$IMGLOCK" inactivate disk.img --from "$TARGET"
    assert_success
    nobody_owns
    run "$IMGLOCK" activate disk.img --to "$SOURCE"
    assert_success
    owner_is "$SOURCE"
}

@test "activate is refused while anybody else has the image" {
    ends
    fails 1 "cannot give the lock to holder (pid $TARGET): locked exclusively by holder (pid $SOURCE, user $(id -un)) for" \
        activate disk.img --to "$TARGET"
    owner_is "$SOURCE"
    run "$IMGLOCK" inactivate disk.img
    assert_success
    hold disk.img read
    fails 1 "locked shared by holder (pid $HOLDER, user $(id -un)) for" activate disk.img --to "$TARGET"
    assert_equal "$(owned_bytes "$TARGET")$(record_mode "$TARGET")" inactive
    release
    run "$IMGLOCK" activate disk.img --to "$TARGET"
    assert_success
    owner_is "$TARGET"
}

@test "activate is refused while a helper of a process that had the lock is at work" {
    ends
    run "$IMGLOCK" inactivate disk.img
    assert_success
    # The byte of a relative, as a helper holds them whose ancestor has gone.
    "$HELPERS/status_lock" "$(lock_file disk.img)" x:1048580:1 >ready 3>&- &
    HOLDERS+=("$!")
    eventually [ -s ready ]
    fails 1 "cannot give the lock to holder (pid $TARGET): locked " activate disk.img --to "$TARGET"
    assert_equal "$(owned_bytes "$TARGET")$(record_mode "$TARGET")" inactive
}

@test "with the lock by inode both locks are passed on" {
    export IMGLOCK_KEY=inode
    ends
    local inode_lock
    inode_lock=$("$IMGLOCK" path disk.img | tail -n 1)
    assert_equal "$(owned_bytes "$SOURCE" "$inode_lock")" 01
    run env -u IMGLOCK_KEY "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_equal "$(owned_bytes "$SOURCE" "$inode_lock")" ""
    assert_equal "$(owned_bytes "$TARGET" "$inode_lock")" 01
    assert_equal "$(owned_bytes "$TARGET")" 01
    ln disk.img link.img
    run wrapped dd if=/dev/zero of=link.img count=1 conv=notrunc status=none
    assert_failure
    assert_output --partial "link.img: cannot open for writing: locked exclusively by holder (pid $TARGET"
    run "$IMGLOCK" inactivate disk.img
    assert_success
    assert_equal "$(owned_bytes "$TARGET" "$inode_lock")$(owned_bytes "$TARGET")" ""
    run "$IMGLOCK" activate disk.img --to "$SOURCE"
    assert_success
    assert_equal "$(owned_bytes "$SOURCE" "$inode_lock") $(owned_bytes "$SOURCE")" "01 01"
}

@test "a destination without the lock by inode is refused where the source has it" {
    IMGLOCK_KEY=inode hold disk.img write
    SOURCE=$HOLDER
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
    fails 1 "it has to be started with IMGLOCK_KEY=inode; holder (pid $SOURCE) holds the lock" handoff disk.img --to "$TARGET"
    owner_is "$SOURCE"
}

# change_record PID SED_SCRIPT: changes the record of a process, and its checksum.
change_record() {
    local file offset text
    file=$(lock_file disk.img)
    offset=$(LC_ALL=C grep -abo "sum=........ pid=$1 " "$file" | cut -d: -f1)
    text=$(dd if="$file" bs=1 skip=$((offset + 13)) count=242 status=none | sed "$2")
    : >changed
    "$HELPERS/status_lock" "$file" "record:$(((offset - 4096) / 256)):${text%"${text##*[! ]}"} " >changed 3>&- &
    local changer=$!
    HOLDERS+=("$changer")
    eventually [ -s changed ]
    finish "$changer"
}

@test "the descriptor's number in a record is a hint, and where it is wrong the right one is found" {
    ends
    change_record "$SOURCE" 's/ fd=[0-9]* / fd=0 /'
    change_record "$TARGET" 's/ fd=[0-9]* / fd=3 /'
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    owner_is "$TARGET"
}

# ---- what it refuses -------------------------------------------------------------------------------------------------

@test "words that are missing, too many or senseless: 125, with a pointer to --help" {
    while IFS='|' read -r text arguments; do
        # shellcheck disable=SC2086 # words
        run "$IMGLOCK" $arguments
        assert_equal "$arguments: $status" "$arguments: 125"
        assert_output --partial "$text"
        assert_output --partial "--help' for more information"
    done <<'END'
handoff: no image given|handoff
handoff: give the process that is to have the lock, with --to|handoff disk.img
handoff: --to takes the pid of a process, and '0' is none|handoff disk.img --to 0
handoff: --to takes the pid of a process, and '1x' is none|handoff disk.img --to 1x
handoff: --to takes the pid of a process, and '99999999999' is none|handoff disk.img --to 99999999999
handoff: it takes one image, and 'b' is one more|handoff a b --to 1
handoff: --from and --to are the same process, 7|handoff disk.img --from 7 --to 7
activate: give the process that is to have the lock, with --to|activate disk.img
unrecognized option '--from'|activate disk.img --from 1
inactivate: no image given|inactivate
inactivate: --from takes the pid of a process, and '-1' is none|inactivate disk.img --from -1
unrecognized option '--to'|inactivate disk.img --to 1
END
}

@test "an image, or a lock directory, that is not there" {
    for arguments in "handoff %s --to $$" "activate %s --to $$" "inactivate %s"; do
        # shellcheck disable=SC2059 # the image
        read -ra words < <(printf "$arguments\n" none.img)
        run "$IMGLOCK" "${words[@]}"
        assert_equal "$status" 125
        assert_output --regexp "^imglock: $PWD/none.img: cannot .*: the image does not exist\$"
        # shellcheck disable=SC2059 # the image
        read -ra words < <(printf "$arguments\n" disk.img)
        IMGLOCK_DIR=$PWD/nowhere run "$IMGLOCK" "${words[@]}"
        assert_equal "$status" 125
        assert_output --regexp "^imglock: $IMAGE: cannot .*: the lock directory $PWD/nowhere does not exist\$"
    done
    run "$IMGLOCK" inactivate ''
    assert_equal "$status" 125
    assert_output --partial "imglock: '': cannot inactivate: "
}

@test "an image that nobody ever locked, and one that nobody holds" {
    for arguments in "handoff disk.img --to $$" "activate disk.img --to $$" "inactivate disk.img"; do
        # shellcheck disable=SC2086 # words
        fails 1 "in the lock directory $IMGLOCK_DIR nobody has ever locked it; nobody holds the lock" $arguments
    done
    IMGLOCK_MODE=inactive hold disk.img write
    fails 1 "there is no lock to pass on; nobody holds the lock" handoff disk.img --to "$HOLDER"
    fails 1 "there is no lock to pass on; nobody holds the lock" inactivate disk.img
}

@test "a destination that is not there, is no process, or has another image open" {
    ends
    sh -c 'echo $$' >gone
    fails 1 "there is no process $(cat gone), or it has just ended; holder (pid $SOURCE) holds the lock" handoff disk.img \
        --to "$(cat gone)"
    fails 1 "does not have this image open under imglock with the lock directory $IMGLOCK_DIR; holder (pid $SOURCE) holds" \
        handoff disk.img --to $$
    truncate -s 1M other.img
    IMGLOCK_MODE=inactive hold other.img write
    fails 1 "holder (pid $HOLDER) does not have this image open under imglock" handoff disk.img --to "$HOLDER"
    mkfifo thread
    python3 -c 'import threading, time
threading.Thread(target=lambda: (print(threading.get_native_id(), flush=True), time.sleep(1000)), daemon=True).start()
time.sleep(1000)' >thread 3>&- &
    HOLDERS+=("$!")
    read -r number <thread
    fails 1 "$number is no process but one of its threads" handoff disk.img --to "$number"
    owner_is "$SOURCE"
}

@test "a destination that is not inactive" {
    ends
    IMGLOCK_MODE=force-share hold disk.img read
    fails 1 "holder (pid $HOLDER) is not inactive on this image, its record says force-share; it has to be started with IMGLOCK_MODE=inactive" \
        handoff disk.img --to "$HOLDER"
    IMGLOCK_ON_CONFLICT=warn hold disk.img write
    fails 1 "its record says none" handoff disk.img --to "$HOLDER"
    owner_is "$SOURCE"
    fails 1 "process $SOURCE has the lock already; holder (pid $SOURCE) holds the lock" handoff disk.img --to "$SOURCE"
    fails 1 "process $SOURCE has the lock already; holder (pid $SOURCE) holds the lock" activate disk.img --to "$SOURCE"
    owner_is "$SOURCE"
}

@test "a source that is not the holder" {
    ends
    IMGLOCK_MODE=inactive hold disk.img write
    fails 1 "holder (pid $HOLDER) does not hold the lock; holder (pid $SOURCE) holds the lock" handoff disk.img \
        --from "$HOLDER" --to "$TARGET"
    fails 1 "holder (pid $HOLDER) does not hold the lock" inactivate disk.img --from "$HOLDER"
    owner_is "$SOURCE"
}

@test "a shared lock is passed on, and is exclusive then; not where another has it, too" {
    hold disk.img read
    SOURCE=$HOLDER
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
    hold disk.img read
    fails 1 "several programs hold it shared; holder (pid $SOURCE) holds the lock shared" handoff disk.img --to "$TARGET"
    fails 1 "cannot hand over to holder (pid $TARGET): locked shared by holder (pid $SOURCE, user $(id -un)) and 1 other for" \
        handoff disk.img --from "$SOURCE" --to "$TARGET"
    run "$HELPERS/lock_query" "$(lock_file disk.img)"
    assert_line "read 0-1"
    assert_equal "$(record_mode "$SOURCE") $(record_mode "$TARGET")" "shared inactive"
    release
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    owner_is "$TARGET"
    run "$IMGLOCK" handoff disk.img --to "$SOURCE"
    assert_success
    owner_is "$SOURCE"
}

@test "shared holders of another user: one is out of reach, two are several" {
    needs_root
    chmod 666 disk.img
    # For writing: another user cannot tell a reader from somebody who shares its writers with nobody.
    IMGLOCK_MODE=shared hold disk.img write
    SOURCE=$HOLDER
    user_holds "$HELPERS/holder" inactive
    TARGET=$!
    local unreachable="holder (pid $SOURCE) runs as another user: this needs root or the same user; holder (pid $SOURCE) holds the lock shared"
    for arguments in "handoff disk.img --to $TARGET" "inactivate disk.img"; do
        # shellcheck disable=SC2086 # words
        run "${NOBODY[@]}" "$IMGLOCK" $arguments
        assert_equal "$status" 125
        assert_output --partial "$unreachable"
    done
    # One that is out of reach and one that is not.
    IMGLOCK_MODE=shared user_holds "$HELPERS/holder" shared
    run "${NOBODY[@]}" "$IMGLOCK" inactivate disk.img
    assert_equal "$status" 1
    assert_output --partial "several programs hold it shared; "
    finish "$!"
    hold disk.img read
    run "${NOBODY[@]}" "$IMGLOCK" inactivate disk.img
    assert_equal "$status" 1
    assert_output --partial "several programs hold it shared; "
}

@test "a shared lock that another program than imglock's has" {
    hold disk.img read
    finish "$HOLDER"
    "$HELPERS/status_lock" "$(lock_file disk.img)" r:0:2 >ready 3>&- &
    HOLDERS+=("$!")
    eventually [ -s ready ]
    fails 1 "a program that left no record of itself holds the lock; a program that left no record of itself holds the lock shared" \
        inactivate disk.img
}

@test "a source that is no program of imglock's" {
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
    "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 >ready 3>&- &
    HOLDERS+=("$!")
    eventually [ -s ready ]
    fails 1 "a program that left no record of itself holds the lock" handoff disk.img --to "$TARGET"
    fails 1 "a program that left no record of itself holds the lock" inactivate disk.img
}

@test "a lock beside an ancestor's is not passed on, and keeps the ancestor's where it is" {
    mkfifo out
    "$IMGLOCK" hold disk.img -- env LD_PRELOAD="$SHIM" "$HELPERS/holder" write disk.img >out 3>&- &
    HOLDERS+=("$!")
    SOURCE=$!
    read -r _ <out
    local helper
    helper=$(pgrep -P "$SOURCE")
    HOLDERS+=("$helper")
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
    fails 1 "a descendant of the holder was let past the lock and uses the image; let it end; hold:env (pid $SOURCE) holds" \
        handoff disk.img --to "$TARGET"
    fails 1 "a descendant of the holder was let past" handoff disk.img --from "$SOURCE" --to "$TARGET"
    assert_equal "$(owned_bytes "$SOURCE")" 01
    assert_equal "$(record_mode "$SOURCE") $(record_mode "$TARGET")" "exclusive inactive"
}

@test "a record with a pid that is another process's by now" {
    needs_root
    ends
    # Of a process that is there, and was started at another time.
    change_record "$SOURCE" "s/^pid=[0-9]* start=[0-9]* /pid=$$ start=1 /"
    run "${NOBODY[@]}" "$IMGLOCK" inactivate disk.img
    assert_failure 1
    assert_output --partial "cannot inactivate: holder (pid $$) has ended, and a process that inherited the lock from it holds it"
    assert_equal "$(owned_bytes "$SOURCE")" 01
    # Who may look at all processes finds the one that holds it.
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_output --partial "handed over from holder (pid $SOURCE) to"
    assert_equal "$(owned_bytes "$SOURCE")$(owned_bytes "$TARGET")" 01
}

@test "a lock that a child inherited" {
    begin_end source
    SOURCE=$source
    assert_equal "$(tell source write disk.img)" open
    local child
    child=$(tell source fork)
    HOLDERS+=("$child")
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
    finish "$SOURCE"
    assert_equal "$(owned_bytes "$child")" 01
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_output --partial "handed over from handoff_end (pid $child) to"
    assert_equal "$(owned_bytes "$child")$(owned_bytes "$TARGET")" 01
}

@test "a holder from before the last boot" {
    needs_root
    ends
    change_record "$SOURCE" 's/ boot=[0-9a-f]* / boot=0123456789abcdef /'
    run "${NOBODY[@]}" "$IMGLOCK" inactivate disk.img
    assert_failure 1
    assert_output --partial "holder (pid $SOURCE) was recorded on another host or before the last boot; holder (pid $SOURCE) holds"
    assert_equal "$(owned_bytes "$SOURCE")" 01
}

@test "a command that sees the /proc of another PID namespace finds nobody, and says how it would" {
    unshare --pid --fork true 2>/dev/null || skip "no PID namespaces here"
    local words
    for words in 'handoff disk.img --to 1' 'inactivate disk.img'; do
        # shellcheck disable=SC2086
        run unshare --pid --fork "$IMGLOCK" $words
        assert_failure 125
        assert_output "imglock: ${words%% *}: /proc does not have the PID namespace of this process, so nobody is found \
in it; give it one: unshare --mount sh -c 'mount -t proc proc /proc && imglock ...'"
    done
}

@test "ends in another PID namespace" {
    unshare --pid --fork --mount-proc true 2>/dev/null || skip "no PID namespaces here"
    IMGLOCK_MODE=inactive hold disk.img write
    TARGET=$HOLDER
    mkfifo inside
    LD_PRELOAD=$SHIM unshare --pid --fork --mount-proc "$HELPERS/holder" write disk.img >inside 3>&- &
    HOLDERS+=("$!")
    read -r _ <inside
    SOURCE=$(pgrep -P "$!")
    HOLDERS+=("$SOURCE")
    run "${NOBODY[@]}" "$IMGLOCK" inactivate disk.img
    assert_failure 1
    assert_output --partial "holder (pid 1) was recorded in another PID namespace: run this command there, or as root"
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_output --partial "handed over from holder (pid $SOURCE) to holder (pid $TARGET)"
    assert_equal "$(owned_bytes "$SOURCE")$(owned_bytes "$TARGET")" 01
    run "$IMGLOCK" handoff disk.img --from "$TARGET" --to "$SOURCE"
    assert_success
    assert_equal "$(owned_bytes "$SOURCE")$(owned_bytes "$TARGET")" 01
}

@test "a process of another user is out of reach, and the line says what is needed" {
    needs_root
    ends
    run "${NOBODY[@]}" env IMGLOCK_DIR="$IMGLOCK_DIR" "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_equal "$status" 125
    assert_output --partial "holder (pid $TARGET) runs as another user: this needs root or the same user; holder (pid $SOURCE) holds"
    run "${NOBODY[@]}" "$IMGLOCK" inactivate disk.img
    assert_equal "$status" 125
    assert_output --partial "holder (pid $SOURCE) runs as another user: this needs root or the same user; holder (pid $SOURCE) holds"
    owner_is "$SOURCE"
}

# user_holds PROGRAM MODE: the holder, as nobody.
user_holds() {
    rm -f user
    mkfifo user
    "${NOBODY[@]}" env IMGLOCK_MODE="$2" LD_PRELOAD="$SHIM" "$1" write disk.img >user 3>&- &
    HOLDERS+=("$!")
    read -r _ <user
}

@test "an ordinary user passes on what is the user's own, and root what is anybody's" {
    needs_root
    chmod 666 disk.img
    user_holds "$HELPERS/holder" auto
    SOURCE=$!
    user_holds "$HELPERS/holder" inactive
    TARGET=$!
    run "${NOBODY[@]}" "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    owner_is "$TARGET"
    run "$IMGLOCK" handoff disk.img --to "$SOURCE"
    assert_success
    owner_is "$SOURCE"
    # A program that its user may not read is not dumpable.
    install -m 711 "$HELPERS/holder" closed
    user_holds "$PWD/closed" inactive
    run "${NOBODY[@]}" "$IMGLOCK" handoff disk.img --to "$!"
    assert_equal "$status" 125
    assert_output --partial "does not let itself be traced (PR_SET_DUMPABLE, a setuid program, or a security module): this needs root"
    owner_is "$SOURCE"
    run "$IMGLOCK" handoff disk.img --to "$!"
    assert_success
    assert_equal "$(owned_bytes "$!")" 01
}

@test "two at once: the second is refused" {
    ends
    # Before the first step of the first one.
    run "$HELPERS/lock_between" lock:2 "$IMGLOCK handoff disk.img --to $TARGET 2>second; echo \$? >>second" \
        "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_equal "$(sed 's/imglock (pid [0-9]*, /imglock (pid N, /' second)" "imglock: $IMAGE: cannot hand over: imglock (pid N, user $(id -un)) is passing this lock on just now; holder (pid $SOURCE) holds the lock
1"
    owner_is "$TARGET"
}

# ---- killed, or failing, at each step ----------------------------------------------------------------------------------

# The locks that a hand-over sets: 1 keeps others of its kind out; 2 and 3 lie around the writing of the source's record,
# which says inactive from then on, 4 gives its former slot back; 5 to 8 are the four steps; 9 to 11 are the destination's
# record.
STEPS="2 3 4 5 6 7 8 9 10 11"

# between STEP ACTION ARGUMENT...: imglock, and the action just before that step.
between() {
    local step=$1 action=$2
    shift 2
    run "$HELPERS/lock_between" "lock:$step" "$action" "$IMGLOCK" "$@"
}

# killing PID: a command that kills it and returns when it holds nothing any more.
killing() { printf 'kill -9 %s; while grep -qs "^State:.[^Z]" /proc/%s/status; do sleep 0.01; done' "$1" "$1"; }

# By the rule: who has byte 0, or byte 1 while nobody has that.
owner_by_rule() {
    local byte pid
    for byte in 0 1; do
        for pid in "$SOURCE" "$TARGET"; do
            [[ $(owned_bytes "$pid") != *$byte* ]] || { echo "$pid" && return; }
        done
    done
}

@test "imglock killed at each step: one owner, whom status tells; the same command again completes it" {
    for step in $STEPS; do
        countable_ends
        # shellcheck disable=SC2016 # for the action's shell
        between "$step" 'kill -9 $(pgrep -P $PPID -x imglock)' handoff disk.img --to "$TARGET"
        assert_failure
        if ((step <= 7)); then owner=$SOURCE; else owner=$TARGET; fi
        assert_equal "$step: $(owner_by_rule)" "$step: $owner"
        assert_equal "$step: $(status_owner)" "$step: $owner"
        # A record that was not written anew is no user without a pid.
        assert_equal "$step: $("$IMGLOCK" status -rn -o PID "$IMAGE" | sort -n | xargs)" \
            "$step: $(printf '%s\n' "$SOURCE" "$TARGET" | sort -n | xargs)"
        run third_party
        assert_failure
        assert_output --partial "cannot open for writing: locked"
        run "$IMGLOCK" handoff disk.img --to "$TARGET"
        # Nothing is left to do once the last record is written.
        if ((step < 11)); then assert_success; else assert_failure 1; fi
        owner_is "$TARGET"
    done
}

@test "imglock killed at each step: the way back is open as well" {
    for step in $STEPS; do
        countable_ends
        # shellcheck disable=SC2016 # for the action's shell
        between "$step" 'kill -9 $(pgrep -P $PPID -x imglock)' handoff disk.img --to "$TARGET"
        run "$IMGLOCK" handoff disk.img --to "$SOURCE"
        if ((step > 2)); then assert_success; else assert_failure 1; fi
        owner_is "$SOURCE"
        assert_equal "$(record_mode "$SOURCE") $(record_mode "$TARGET")" "exclusive inactive"
    done
}

@test "imglock killed at each step, and the owner after it: nobody's; the other one: the owner's still" {
    for step in $STEPS; do
        countable_ends
        # shellcheck disable=SC2016 # for the action's shell
        between "$step" 'kill -9 $(pgrep -P $PPID -x imglock)' handoff disk.img --to "$TARGET"
        owner=$(owner_by_rule)
        if ((step % 2)); then
            finish "$([ "$owner" = "$SOURCE" ] && echo "$TARGET" || echo "$SOURCE")"
            assert_equal "$step: $(status_owner)" "$step: $owner"
            run third_party
            assert_failure
            # The same owner once more: what is missing is completed.
            run "$IMGLOCK" handoff disk.img --to "$owner"
            owner_is "$owner"
        else
            finish "$SOURCE" "$TARGET"
            nobody_owns
        fi
    done
}

@test "the source killed at each step: the destination has the lock" {
    for step in $STEPS; do
        countable_ends
        between "$step" "$(killing "$SOURCE")" handoff disk.img --to "$TARGET"
        assert_equal "$step: $status $output" \
            "$step: 0 $IMAGE: handed over from holder (pid $SOURCE) to holder (pid $TARGET)"
        wait "$SOURCE" || true
        owner_is "$TARGET"
        finish "$TARGET"
        nobody_owns
    done
}

@test "the destination killed at each step: the source has the lock again" {
    for step in $STEPS; do
        countable_ends
        between "$step" "$(killing "$TARGET")" handoff disk.img --to "$TARGET"
        assert_equal "$step: $status $output" "$step: 1 imglock: $IMAGE: cannot hand over: the destination has ended or \
closed the image meanwhile; holder (pid $SOURCE) holds the lock"
        wait "$TARGET" || true
        owner_is "$SOURCE"
        assert_equal "$(record_mode "$SOURCE")" exclusive
        finish "$SOURCE"
        nobody_owns
    done
}

@test "both killed at each step: nobody has the lock, and the line says so" {
    for step in $STEPS; do
        countable_ends
        between "$step" "$(killing "$SOURCE"); $(killing "$TARGET")" handoff disk.img --to "$TARGET"
        assert_equal "$step: $status" "$step: 1"
        assert_output --partial "the destination has ended or closed the image meanwhile; nobody holds the lock"
        wait "$SOURCE" "$TARGET" || true
        nobody_owns
    done
}

# The numbers, among all calls of fcntl on the lock file, of those that set a lock.
locking_calls() {
    strace -qq -o calls -P "$(lock_file disk.img)" -e trace=fcntl "$IMGLOCK" "$@" >calls.out 2>&1
    grep -n F_OFD_SETLK calls | cut -d: -f1
}

# As fresh_ends, and how often the command locks does not depend on the slots of the records.
countable_ends() {
    fresh_ends
    until ((SOURCE % 8 > 1 && TARGET % 8 > 1 && SOURCE % 8 != TARGET % 8)); do fresh_ends; done
}

# failing NUMBER ARGUMENT...: imglock; its call of fcntl of this number, "7+": and all after it, fails, and sets a lock.
failing() {
    local number=$1
    shift
    run strace -qq -o injected -P "$(lock_file disk.img)" -e trace=fcntl -e "inject=fcntl:error=ENOLCK:when=$number" \
        "$IMGLOCK" "$@"
    grep -m 1 INJECTED injected | grep -q F_OFD_SETLK || fail "another call failed: $(grep INJECTED injected)"
}

# failing_step INDEX [+]: between fresh ends, imglock handoff in which the step of this index among those that set a lock
# fails, with "+" and all calls after it.  How many other calls come before it depends on the slots of the records and
# on the descriptors that imglock inherits, so a try that missed says where the next one aims.
failing_step() {
    local index=$1 suffix=${2:-} number=${calls[$1]} try seen hit
    for ((try = 0; try < 40; try++)); do
        countable_ends
        run strace -qq -o injected -P "$(lock_file disk.img)" -e trace=fcntl \
            -e "inject=fcntl:error=ENOLCK:when=$number$suffix" "$IMGLOCK" handoff disk.img --to "$TARGET"
        hit=$(awk '/F_OFD_SETLK/ {steps++} /INJECTED/ {if (/F_OFD_SETLK/) print steps; exit}' injected)
        if [ "$hit" = $((index + 1)) ]; then return 0; fi
        seen=$(grep -n F_OFD_SETLK injected | sed -n "$((index + 1))p" | cut -d: -f1)
        if [ -n "$seen" ] && [ "$seen" != "$number" ]; then number=$seen; else number=$((number + 1)); fi
    done
    fail "another call failed: $(grep INJECTED injected)"
}

@test "each step that fails is rolled back, and the source has the lock still" {
    countable_ends
    mapfile -t calls < <(locking_calls handoff disk.img --to "$TARGET")
    assert_equal "${#calls[@]}" 11
    for index in 4 5 6 7; do
        failing_step "$index"
        assert_equal "$index: $status $output" "$index: 125 imglock: $IMAGE: cannot hand over: the kernel refused a step: \
No locks available; holder (pid $SOURCE) holds the lock"
        owner_is "$SOURCE"
        assert_equal "$(record_mode "$SOURCE") $(record_mode "$TARGET")" "exclusive inactive"
        run "$IMGLOCK" handoff disk.img --to "$TARGET"
        assert_success
        owner_is "$TARGET"
    done
}

@test "where the way back fails as well, the line tells of the half, and the same command completes it" {
    countable_ends
    mapfile -t calls < <(locking_calls handoff disk.img --to "$TARGET")
    for index in 5 6 7; do
        failing_step "$index" +
        assert_equal "$status" 125
        owner=$(owner_by_rule)
        if ((index < 7)); then assert_equal "$owner" "$SOURCE"; else assert_equal "$owner" "$TARGET"; fi
        run third_party
        assert_failure
        run "$IMGLOCK" handoff disk.img --to "$TARGET"
        assert_success
        owner_is "$TARGET"
    done
}

@test "inactivate and activate killed, or failing, at each step" {
    # 2 to 4 are the record of inactivate, 5 gives the lock up; 2 of activate takes it.
    for step in 2 3 4 5; do
        countable_ends
        # shellcheck disable=SC2016 # for the action's shell
        between "$step" 'kill -9 $(pgrep -P $PPID -x imglock)' inactivate disk.img
        assert_equal "$step: $(owner_by_rule)" "$step: $SOURCE"
        assert_equal "$step: $(status_owner)" "$step: $SOURCE"
        run third_party
        assert_failure
        run "$IMGLOCK" inactivate disk.img --from "$SOURCE"
        assert_success
        nobody_owns
        between 3 "$(killing "$TARGET")" activate disk.img --to "$TARGET"
        assert_failure 1
        assert_output --partial "the destination has ended or closed the image meanwhile; nobody holds the lock"
        nobody_owns
    done
    for step in 2 3 4; do
        fresh_ends
        "$IMGLOCK" inactivate disk.img
        # shellcheck disable=SC2016 # for the action's shell
        between "$step" 'kill -9 $(pgrep -P $PPID -x imglock)' activate disk.img --to "$TARGET"
        if ((step == 2)); then assert_equal "$(owner_by_rule)" ""; else assert_equal "$(owner_by_rule)" "$TARGET"; fi
        run "$IMGLOCK" activate disk.img --to "$TARGET"
        owner_is "$TARGET"
    done
    countable_ends
    mapfile -t calls < <(locking_calls inactivate disk.img)
    countable_ends
    failing "${calls[4]}" inactivate disk.img
    assert_equal "$status" 125
    assert_output --partial "the kernel refused a step: No locks available; holder (pid $SOURCE) holds the lock"
    owner_is "$SOURCE"
    assert_equal "$(record_mode "$SOURCE")" exclusive
}

# marks_of PID: how many locks it has on the image itself.
marks_of() {
    cat "/proc/$1/fdinfo"/* | grep -c ":$(stat -c %i disk.img) [0-9]* [0-9]*$" || true
}

@test "a descriptor that cannot be reached: nothing is handed over, or the marks that stay are told of" {
    local number count told=false
    fresh_ends
    strace -qq -o calls -e trace=pidfd_getfd "$IMGLOCK" handoff disk.img --to "$TARGET"
    count=$(grep -c pidfd_getfd calls)
    for ((number = 1; number <= count; number++)); do
        fresh_ends
        run strace -qq -o injected -e trace=pidfd_getfd -e "inject=pidfd_getfd:error=EMFILE:when=$number" \
            "$IMGLOCK" handoff disk.img --to "$TARGET"
        [[ $output != *'cannot mark the image for the destination: Too many open files'* ]] || told=true
        if [ "$status" != 0 ]; then
            assert_output --partial "imglock: $IMAGE: cannot "
            owner_is "$SOURCE"
        else
            [ "$(marks_of "$SOURCE") $(marks_of "$TARGET")" = '0 2' ] ||
                assert_output --regexp 'cannot (take the source.s marks off the image|mark the image for the destination): Too many open files'
            owner_is "$TARGET"
        fi
    done
    # The last ones are of the marks.
    "$told"
}

@test "each call that a hand-over makes fails in turn: one end has the lock, the line says which, and the same command completes it" {
    needs_root
    unshare --fork --pid --mount-proc true 2>/dev/null || skip "no PID namespaces here"
    # In a PID namespace, where few processes are to be looked at.  Back and forth between two ends.  make test-long tries all of
    # the 250 calls, else it is each fourth.
    cat >faults.sh <<'SCRIPT'
calls='openat|newfstatat|fstat|statx|fcntl|getdents64|read|pread64|pwrite64|readlinkat|fstatfs|poll|ppoll|pidfd_open|pidfd_getfd|kcmp'
# One each: the first one still has its end open when the second is waited for.
mkfifo ready.source ready.target
LD_PRELOAD=$SHIM "$HELPERS/holder" write disk.img >ready.source &
source=$!
read -r _ <ready.source
IMGLOCK_MODE=inactive LD_PRELOAD=$SHIM "$HELPERS/holder" write disk.img >ready.target &
target=$!
read -r _ <ready.target
lock=("$IMGLOCK_DIR"/.qemu-*)

swap() { local other=$source; source=$target target=$other; }

strace -qq -o trace "$IMGLOCK" handoff disk.img --to "$target" >/dev/null
awk -v calls="^($calls)\$" -v each="${FAULTS_ALL:-4}" '/disk\.img/ && !/execve/ { on = 1 }
    { name = $0; sub(/\(.*/, "", name); turn[name]++ }
    on && name ~ calls && made++ % each == 0 { print name, turn[name] }' trace >made
swap
while read -r call turn; do
    said=$(strace -qq -o trace -e "trace=$call" -e "inject=$call:error=ENOMEM:when=$turn" \
        "$IMGLOCK" handoff disk.img --to "$target" 2>&1 </dev/null)
    status=$? held="$(owned_bytes "$source" "${lock[0]}") $(owned_bytes "$target" "${lock[0]}")"
    grep -q INJECTED trace && injected=$((injected + 1))
    case $status:$held in
    0:' 01') ;;
    0:*) echo "$call $turn: said to be done, and it is '$held': $(grep INJECTED trace)" ;;
    *:'01 ') [[ $said != *"(pid $target) holds the lock"* ]] || echo "$call $turn: the source has it: $said" ;;
    *:' 01') [[ $said != *"(pid $source) holds the lock"* ]] || echo "$call $turn: the destination has it: $said" ;;
    *:'0 1' | *:'1 0') ;;
    *) echo "$call $turn: '$held': $said: $(grep INJECTED trace)" ;;
    esac
    if ((status != 0)); then
        [[ $said == *"imglock: "* ]] || echo "$call $turn: no reason is told: $said"
        [ "$held" = ' 01' ] || "$IMGLOCK" handoff disk.img --to "$target" >/dev/null || echo "$call $turn: not completed"
        [ "$(owned_bytes "$source" "${lock[0]}") $(owned_bytes "$target" "${lock[0]}")" = ' 01' ] || echo "$call $turn: not completed, after: $said"
    fi
    swap
done <made
((injected > 30)) || echo "hardly any calls: $injected"
kill "$source" "$target"
SCRIPT
    export -f owned_bytes
    run unshare --fork --pid --mount-proc bash faults.sh
    assert_success
    assert_output ''
}

# ---- what the two ends see -------------------------------------------------------------------------------------------

# begin_end NAME [SETTING...]: a program that opens and closes as it is told; tell NAME WORDS answers what it says.
begin_end() {
    local name=$1
    shift
    mkfifo "$name.in" "$name.out"
    env "$@" LD_PRELOAD="$SHIM" "$HELPERS/handoff_end" <"$name.in" >"$name.out" 2>"$name.err" 3>&- &
    HOLDERS+=("$!")
    eval "exec {${name}_in}>$name.in {${name}_out}<$name.out"
    declare -g "$name=$!"
}

tell() {
    local in=$1_in out=$1_out answer
    shift
    echo "$*" >&"${!in}"
    read -r answer <&"${!out}"
    echo "$answer"
}

two_ends() {
    begin_end source
    begin_end target IMGLOCK_RULES='*/disk.img=inactive'
    SOURCE=$source TARGET=$target
    assert_equal "$(tell source write disk.img)" open
    assert_equal "$(tell target write disk.img)" open
}

@test "the source's opens go through when it is inactive, and take nothing back" {
    two_ends
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_equal "$(tell source read disk.img)" open
    assert_equal "$(tell source write disk.img)" open
    assert_equal "$(tell source truncate disk.img)" ETXTBSY
    assert_equal "$(tell source close) $(tell source close)" "closed closed"
    assert_equal "$(stat -c %s disk.img)" 1048576
    assert_equal "$(owned_bytes "$SOURCE") $(owned_bytes "$TARGET")" " 01"
    # Nobody has it: a stranger gets in beside the inactive ends, whatever they open.
    run "$IMGLOCK" inactivate disk.img
    assert_success
    assert_equal "$(tell source write disk.img)" open
    assert_equal "$(tell source read disk.img)" open
    assert_equal "$(tell target write disk.img)" open
    assert_equal "$(owned_bytes "$SOURCE")$(owned_bytes "$TARGET")" ""
    run "$IMGLOCK" activate disk.img --to "$TARGET"
    assert_success
    # It has the lock again, and goes on as before.
    run "$IMGLOCK" handoff disk.img --to "$SOURCE"
    assert_success
    assert_equal "$(tell source truncate disk.img)" open
    assert_equal "$(tell target truncate disk.img)" ETXTBSY
    assert_equal "$(cat source.err target.err | grep -c .)" 2
}

@test "an inactive source that closes what it had for writing, and reads on, takes nothing back" {
    begin_end source
    SOURCE=$source TARGET=$source
    assert_equal "$(tell source read disk.img)" open
    assert_equal "$(tell source write disk.img)" open
    run "$IMGLOCK" inactivate disk.img
    assert_success
    assert_equal "$(tell source close)" closed
    nobody_owns
    assert_equal "$(record_mode "$SOURCE")" inactive
}

@test "a source that opens the image in the middle of a hand-over gets in" {
    for step in 3 4 5 6 7 8 9; do
        rm -f ./*.in ./*.out
        finish "${HOLDERS[@]}"
        HOLDERS=()
        rm -rf "$IMGLOCK_DIR"
        mkdir -m 1777 "$IMGLOCK_DIR"
        two_ends
        # The answer is not waited for: it may come when the hand-over is over.
        between "$step" "echo read disk.img >source.in" handoff disk.img --to "$TARGET"
        assert_success
        read -r answer <&"$source_out"
        assert_equal "$step: $answer" "$step: open"
        assert_equal "$(owned_bytes "$SOURCE") $(owned_bytes "$TARGET")" " 01"
    done
}

@test "the lock follows the destination's descriptors" {
    two_ends
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    assert_equal "$(tell target read disk.img)" open
    assert_equal "$(tell target close)" closed
    run third_party
    assert_failure
    assert_equal "$(tell target close)" closed
    run third_party
    assert_success
}

# ---- no moment in between --------------------------------------------------------------------------------------------

@test "hundreds of hand-overs under two programs that open the image all the time: none gets in" {
    ends
    for number in 1 2; do
        IMGLOCK_LOG=quiet LD_PRELOAD=$SHIM "$HELPERS/handoff_hammer" disk.img >"hammer.$number" 3>&- &
        hammers[number]=$!
        HOLDERS+=("$!")
    done
    eventually [ -s hammer.1 ]
    eventually [ -s hammer.2 ]
    for ((turn = 0; turn < ${HANDOVERS:-250}; turn += 2)); do
        "$IMGLOCK" handoff disk.img --to "$TARGET" >/dev/null || fail "turn $turn, there"
        "$IMGLOCK" handoff disk.img --to "$SOURCE" >/dev/null || fail "turn $turn, back"
    done
    kill "${hammers[@]}"
    for number in 1 2; do
        wait "${hammers[number]}"
        read -r tries successes < <(tail -n 1 "hammer.$number")
        ((tries > 100)) || fail "only $tries tries"
        assert_equal "$successes" 0
    done
    owner_is "$SOURCE"
}

@test "the marks go with the lock: an unwrapped QEMU is kept out by the destination, and by the source no more" {
    needs qemu-io
    fresh_ends
    run "$IMGLOCK" handoff disk.img --to "$TARGET"
    assert_success
    run env -u LD_PRELOAD qemu-io -f raw -c 'write 0 512' disk.img
    assert_failure
    assert_output --partial 'lock'
    finish "$TARGET"
    run env -u LD_PRELOAD qemu-io -f raw -c 'write 0 512' disk.img
    assert_success
    finish "$SOURCE"
    fresh_ends
    run "$IMGLOCK" inactivate disk.img
    assert_success
    run env -u LD_PRELOAD qemu-io -f raw -c 'write 0 512' disk.img
    assert_success
}
