#!/usr/bin/env bats
# imglock status: who uses which image.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    LOOP=
}

teardown() {
    [ -z "$LOOP" ] || losetup -d "$LOOP" || true
    common_teardown
    umount "$BATS_TEST_TMPDIR/mounted" 2>/dev/null || true
}

# rows COLUMNS [ARGUMENT...]: status prints these columns, raw and without a heading, into $output.
rows() {
    local columns=$1
    shift
    run --separate-stderr "$IMGLOCK" status -rn -o "$columns" "$@"
}

# start_time PID: field 22 of its stat.
start_time() {
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20
}

# record_of PID START [KEY=VALUE...]: the text of a record, of this boot and pid namespace unless said otherwise.
record_of() {
    local pid=$1 start=$2 boot namespace mode=exclusive command=forged host
    boot=$(tr -d - </proc/sys/kernel/random/boot_id | head -c 16)
    namespace=$(stat -L -c %i /proc/self/ns/pid)
    host=$(uname -n)
    shift 2
    [ $# -eq 0 ] || local "$@"
    printf 'pid=%s start=%s boot=%s pidns=%s uid=0 mode=%s family=0 since=1700000000000 fd=9 host=%s cmd=%s ' \
        "$pid" "$start" "$boot" "$namespace" "$mode" "$host" "$command"
}

assert_no_control_bytes() {
    assert_equal "$(printf %s "$output$stderr" | tr -d '\n' | LC_ALL=C tr -cd '\000-\037\177' | od -An -c)" ""
}

# ---- columns and options ----------------------------------------------------------------------------------------------

@test "a table of image, mode, kind, pid, user, command and since" {
    hold disk.img
    run "$IMGLOCK" status
    assert_success
    assert_equal "$(echo "${lines[0]}" | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE"
    assert_line --index 1 --regexp "^$PWD/disk.img +exclusive +holder +$HOLDER +$(id -un) +holder +[0-9]{2}:[0-9]{2}:[0-9]{2}\$"
    assert_equal "${#lines[@]}" 2
}

@test "a holder that has become another user since its first open is told as who it is now" {
    truncate -s 1M disk.img
    mkfifo -m 666 go end
    needs_root
    LD_PRELOAD=$SHIM python3 -c '
import os
os.close(os.open("disk.img", os.O_RDONLY))
os.seteuid(65534)
os.open("disk.img", os.O_RDONLY)
open("go", "w").write("ready\n")
os.read(0, 1)' 0<>end 3>&- &
    HOLDERS+=($!)
    read -r _ <go
    rows PID,USER,UID
    assert_output "$! nobody 65534"
    run wrapped dd if=/dev/null of=disk.img conv=notrunc
    assert_output --partial "locked shared by python3 (pid $!, user nobody)"
    IMGLOCK_AUDIT=$PWD/log run wrapped dd if=/dev/null of=disk.img conv=notrunc
    assert_equal "$(jq -r 'select(.event == "conflict").holders[] | "\(.pid) \(.uid)"' log)" "$! 65534"
}

@test "every column tells the truth" {
    local before after
    before=$(date +%s)
    hold disk.img
    after=$(date +%s)
    rows PID,USER,UID,COMMAND,HOST,LOCKFILE,START,PIDNS,BOOT,IMAGE
    assert_success
    assert_output "$HOLDER $(id -un) $(id -u) holder $(uname -n) $(lock_file disk.img) $(start_time "$HOLDER") $(stat -L -c %i /proc/self/ns/pid) $(tr -d - </proc/sys/kernel/random/boot_id | head -c 16) $PWD/disk.img"
    rows FD
    assert_equal "$(readlink "/proc/$HOLDER/fd/$output")" "$(lock_file disk.img)"
    rows LOCKED-SINCE
    assert [ "$(date -d "$output" +%s)" -ge "$before" ]
    assert [ "$(date -d "$output" +%s)" -le "$after" ]
    rows HELD
    assert [ "$output" -ge 0 ]
    assert [ "$output" -le $(($(date +%s) - before)) ]
}

@test "-o takes a list, +list adds to the default, case does not matter, and an unknown column is an error" {
    hold disk.img
    rows pid,Mode
    assert_output "$HOLDER exclusive"
    run "$IMGLOCK" status -r -o +UID,fd
    assert_line --index 0 "IMAGE MODE KIND PID USER COMMAND SINCE UID FD"
    run "$IMGLOCK" status -r --output-all
    assert_line --index 0 "$("$IMGLOCK" status --list-columns | awk '{print $1}' | xargs)"
    for list in SIZE PID,SIZE "" + "PID,"; do
        run "$IMGLOCK" status -o "$list"
        assert_equal "$status" 125
        assert_line --index 0 --partial "there is no column"
    done
}

@test "--list-columns lists every column that -o takes" {
    local name rest
    run "$IMGLOCK" status --list-columns
    assert_success
    # Scripts may rely on the default ones, which stand first, in their order.
    assert_equal "$(awk '{print $1}' <<<"$output" | head -n 7 | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE"
    hold disk.img
    while read -r name rest; do
        [ -n "$rest" ] || fail "$name is not explained"
        "$IMGLOCK" status -o "$name" | head -n 1 | grep -qx " *$name *" || fail "$name is not printed"
        grep -Eq "(rows|status .*-o|watch .*-o) [+A-Z,-]*\b$name\b" "$TOP"/tests/*.bats || fail "no test asks what $name says"
    done <<<"$output"
    run "$IMGLOCK" status -H
    assert_success
}

@test "-n leaves out the heading, and -J and -r contradict each other" {
    hold disk.img
    run "$IMGLOCK" status -n -o PID
    assert_equal "$(xargs <<<"$output")" "$HOLDER"
    run "$IMGLOCK" status -J -r
    assert_equal "$status" 125
    run "$IMGLOCK" status --no-such-option
    assert_equal "$status" 125
}

@test "-J prints JSON: numbers are numbers, what is not known is null" {
    hold disk.img
    background "$HELPERS/status_lock" "$(lock_file other.img)" x:0:2
    run --separate-stderr "$IMGLOCK" status -J --output-all
    assert_success
    assert_equal "$(jq -r '.locks | length' <<<"$output")" 2
    assert_equal "$(jq -r '.locks[0] | .pid, .image, .mode, (.uid|type), (.held|type), (.start|type), (.boot|type)' <<<"$output" | xargs)" \
        "${HOLDERS[0]} $PWD/disk.img exclusive number number number string"
    assert_equal "$(jq -r '.locks[1] | .pid, .since, .held' <<<"$output" | xargs)" "$HOLDER null null"
    # A time has its date, with and without the other columns.
    assert_equal "$(jq -r '.locks[0].since' <<<"$output")" "$(jq -r '.locks[0]."locked-since"' <<<"$output")"
    assert_equal "$(date -d "$("$IMGLOCK" status -J disk.img | jq -r '.locks[0].since')" +%F)" "$(date +%F)"
    [[ $("$IMGLOCK" status -J disk.img | jq -r '.locks[0].since') == 20*-*T*:* ]]
    run --separate-stderr "$IMGLOCK" status -J "$(mktemp -p . XXXXXX.img)"
    assert_equal "$status" 1
    assert_equal "$(jq -c . <<<"$output")" '{"locks":[]}'
}

@test "-r prints a dash for what is not known, so that fields stay where they are" {
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2
    rows SINCE,PID,HELD disk.img
    assert_output "- $HOLDER -"
}

# ---- what is listed ---------------------------------------------------------------------------------------------------

@test "exit status: 0 in use, 1 free, 125 for what is no answer" {
    touch free.img
    hold disk.img
    for arguments in "" disk.img "free.img disk.img" .; do
        # shellcheck disable=SC2086 # words
        run "$IMGLOCK" status $arguments
        assert_equal "$arguments: $status" "$arguments: 0"
    done
    run "$IMGLOCK" status free.img
    assert_equal "$status" 1
    assert_output ""
    release
    for arguments in "" disk.img "free.img disk.img" .; do
        # shellcheck disable=SC2086
        run "$IMGLOCK" status $arguments
        assert_equal "$arguments: $status" "$arguments: 1"
    done
    run "$IMGLOCK" status no-such.img
    assert_equal "$status" 125
    assert_output "imglock: $PWD/no-such.img: No such file or directory"
    run "$IMGLOCK" status disk.img no-such.img
    assert_equal "$status" 125
    run "$IMGLOCK" status /dev/null
    assert_equal "$status" 125
    IMGLOCK_WAIT=maybe run "$IMGLOCK" status
    assert_equal "$status" 125
    IMGLOCK_DIR=$PWD/none run "$IMGLOCK" status
    assert_equal "$status" 125
    run sh -c '"$0" status --output-all -J >/dev/full' "$IMGLOCK"
    assert_equal "$status" 125
}

@test "an image names its own lock, a directory those of the images below it" {
    mkdir vm vm/deep vm2
    for image in vm/a.img vm/deep/b.img vm2/c.img; do
        truncate -s 4096 "$image"
        hold "$image"
    done
    rows IMAGE vm
    assert_output "$PWD/vm/a.img"$'\n'"$PWD/vm/deep/b.img"
    rows IMAGE vm/a.img
    assert_output "$PWD/vm/a.img"
    rows IMAGE vm2 vm/deep/../a.img
    assert_output "$PWD/vm/a.img"$'\n'"$PWD/vm2/c.img"
    rows IMAGE vm vm/a.img vm/a.img vm/deep
    assert_equal "${#lines[@]}" 2
    ln -s vm/a.img link.img
    rows IMAGE link.img
    assert_output "$PWD/vm/a.img"
    rows IMAGE /
    assert_equal "${#lines[@]}" 3
}

@test "two holders" {
    local first
    hold disk.img read
    first=$HOLDER
    hold disk.img read
    rows MODE,KIND,PID
    assert_success
    assert_equal "$(sort <<<"$output")" "$(printf 'shared holder %s\n' "$first" "$HOLDER" | sort)"
}

@test "300 holders, each listed once" {
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_crowd" 300 read disk.img
    rows PID,MODE,KIND
    assert_success
    assert_equal "$(sort -n <<<"$output")" "$(pgrep -P "$HOLDER" | sort -n | sed 's/$/ shared holder/')"
    assert_equal "${#lines[@]}" 300
}

@test "a holder killed with -9 is gone at once, though its record is still in the file" {
    hold disk.img
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    grep -aq "pid=$HOLDER " "$(lock_file disk.img)"
    run "$IMGLOCK" status
    assert_equal "$status" 1
    assert_output ""
}

@test "a child that inherited the image is found after its parent's death" {
    background "$IMGLOCK" hold disk.img -- sh -c 'echo ready; exec sleep 1000'
    local child
    child=$(pgrep -P "$HOLDER")
    HOLDERS+=("$child")
    # One lock in two processes is one row.
    rows PID,KIND,COMMAND,SHARERS
    assert_output "$HOLDER holder hold:sh 1"
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    rows PID,KIND,MODE,COMMAND,USER disk.img
    assert_success
    assert_output "$child inherited exclusive sleep $(id -un)"
    kill "$child"
    tail --pid="$child" -f /dev/null
}

@test "a pid used again: the record's process is alive and another one" {
    needs_root
    sleep 1000 3>&- &
    local stranger=$!
    HOLDERS+=("$stranger")
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 s:1024:1 \
        "record:0:$(record_of "$stranger" $(($(start_time "$stranger") - 100)))"
    rows PID,COMMAND,KIND,MODE disk.img
    assert_success
    assert_output "$HOLDER status_lock inherited exclusive"
    # Who may not look into processes is not told the stranger's pid, either.
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,COMMAND,KIND,MODE disk.img
    assert_success
    assert_output "- - inherited exclusive"
    # And where the lock came to a process that by chance has the pid, it has not taken it, either.
    truncate -s 4096 other.img
    background bash -c 'exec "$0" "$1" x:0:2 s:1024:1 "record:0:${2/pid=77 /pid=$$ }"' "$HELPERS/status_lock" \
        "$(lock_file other.img)" "$(record_of 77 88)"
    rows PID,KIND other.img
    assert_output "$HOLDER inherited"
}

@test "a record that names a process which does not hold the lock is not believed" {
    needs_root
    sleep 1000 3>&- &
    local stranger=$!
    HOLDERS+=("$stranger")
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 s:1024:1 \
        "record:0:$(record_of "$stranger" "$(start_time "$stranger")")"
    rows PID disk.img
    assert_output "$HOLDER"
    # Who cannot see who holds it still sees that a process of his own does not.
    truncate -s 4096 other.img
    "${NOBODY[@]}" sleep 1000 3>&- &
    HOLDERS+=($!)
    until [ "$(cat "/proc/$!/comm")" = sleep ]; do :; done
    background "$HELPERS/status_lock" "$(lock_file other.img)" x:0:2 s:1024:1 "record:0:$(record_of $! "$(start_time $!)")"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,KIND other.img
    assert_output "- inherited"
}

@test "a slot that is locked beside a free lock is no holder" {
    needs_root
    background "$HELPERS/status_lock" "$(lock_file disk.img)" s:1024:1 "record:0:$(record_of $$ "$(start_time $$)")"
    run "$IMGLOCK" status
    assert_equal "$status" 1
    assert_output ""
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status
    assert_equal "$status" 125
    assert_output ""
}

@test "a holder is told to a user who cannot look into it, though a process of that user shares its slot" {
    needs_root
    hold disk.img
    local holder=$HOLDER file slot
    file=$(lock_file disk.img)
    slot=$(sed -n "s/^lock:.*OFDLCK.* READ .* \(1[0-9]*\) \1\$/\1/p" "/proc/$holder/fdinfo/"*)
    background "${NOBODY[@]}" "$HELPERS/status_lock" "$file" "s:$slot:1"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND disk.img
    assert_line "$holder exclusive holder"
    refute_line --partial "$HOLDER "
}

@test "a holder in another pid namespace is told by the pid that it has here" {
    unshare -pf --mount-proc true || skip "no pid namespaces here"
    background unshare -pf --kill-child --mount-proc env LD_PRELOAD="$SHIM" "$HELPERS/holder" write disk.img
    local child
    child=$(pgrep -P "$HOLDER")
    rows PID,KIND,PIDNS,COMMAND disk.img
    assert_output "$child holder $(stat -L -c %i "/proc/$child/ns/pid") holder"
    assert [ "$(stat -L -c %i "/proc/$child/ns/pid")" != "$(stat -L -c %i /proc/self/ns/pid)" ]
    # From a third one, where no process of it is to be seen, the record is all there is.
    run --separate-stderr unshare -pf --mount-proc "$IMGLOCK" status -rn -o MODE,PID,KIND,PIDNS disk.img
    assert_success
    assert_output "exclusive 1 foreign $(stat -L -c %i "/proc/$child/ns/pid")"
}

@test "a holder in another pid namespace that is in a thousand groups" {
    unshare -pf --mount-proc setpriv --groups "$(seq -s, 1 1000)" true || skip "no pid namespaces, or no groups, here"
    background unshare -pf --kill-child --mount-proc setpriv --groups "$(seq -s, 1 1000)" \
        env LD_PRELOAD="$SHIM" "$HELPERS/holder" write disk.img
    rows PID,KIND,COMMAND disk.img
    assert_output "$(pgrep -P "$HOLDER") holder holder"
}

@test "a holder of another host or before the last boot is told as recorded, and marked" {
    needs_root
    background "$HELPERS/status_lock" "$(lock_file disk.img)" s:0:2 s:1024:1 s:1030:1 \
        "record:0:$(record_of 77 88 boot=00112233445566aa host=elsewhere mode=shared command=qemu)" \
        "record:6:$(record_of 78 89 boot=00112233445566aa host=elsewhere mode=shared command=qemu)"
    # As root the locks are seen to be this process's; others have the record alone.
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,KIND,HOST,BOOT,START,COMMAND disk.img
    assert_success
    assert_line "77 foreign elsewhere 00112233445566aa 88 qemu"
    assert_line "78 foreign elsewhere 00112233445566aa 89 qemu"
    rows PID,KIND disk.img
    assert_output "$HOLDER unrecorded"
}

@test "a lock without a record: the lock directory is full" {
    mkdir mounted
    mount -t tmpfs -o size=16k,mode=1777 tmpfs mounted || skip "no mounts here"
    dd if=/dev/zero of=mounted/filler bs=4k count=100 2>/dev/null || true
    export IMGLOCK_DIR=$PWD/mounted
    hold disk.img
    assert_equal "$(stat -c %s "$(lock_file disk.img)")" 0
    rows PID,MODE,KIND,COMMAND disk.img
    assert_success
    assert_output "$HOLDER exclusive unrecorded holder"
    rows PID,IMAGE
    assert_output "$HOLDER sha1:$(printf %s "$PWD/disk.img" | sha1sum | cut -d' ' -f1)"
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
}

@test "a lock file that is read-only for the holder: locked, without a record" {
    needs_root
    chmod 666 disk.img
    install -m 644 /dev/null "$(lock_file disk.img)"
    background "${NOBODY[@]}" env LD_PRELOAD="$SHIM" "$HELPERS/holder" read disk.img
    rows PID,USER,MODE,KIND disk.img
    assert_success
    assert_output "$HOLDER nobody shared unrecorded"
}

@test "a lock file that this user may not read is an error, unless something else is in use" {
    needs_root
    install -m 600 /dev/null "$(lock_file disk.img)"
    run "${NOBODY[@]}" "$IMGLOCK" status disk.img
    assert_equal "$status" 125
    assert_line --index 0 "imglock: $(lock_file disk.img): cannot open the lock file: Permission denied"
    truncate -s 4096 other.img
    hold other.img
    run "${NOBODY[@]}" "$IMGLOCK" status
    assert_success
    assert_line --partial "cannot open the lock file"
    assert_line --partial "$PWD/other.img"
}

@test "locks that scripts take are found, with open file description locks and with F_SETLK" {
    needs_root
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2
    rows PID,MODE,KIND disk.img
    assert_output "$HOLDER exclusive unrecorded"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    background "$HELPERS/status_lock" "$(lock_file disk.img)" px:0:0
    rows PID,MODE,KIND disk.img
    assert_output "$HOLDER exclusive unrecorded"
    # For F_SETLK the kernel tells everybody the pid.
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND disk.img
    assert_output "$HOLDER exclusive unrecorded"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    local first
    background "$HELPERS/status_lock" "$(lock_file disk.img)" ps:0:0
    first=$HOLDER
    background "$HELPERS/status_lock" "$(lock_file disk.img)" s:0:0
    rows PID,MODE,KIND disk.img
    assert_equal "$(sort <<<"$output")" "$(printf '%s shared unrecorded\n' "$first" "$HOLDER" | sort)"
}

@test "a lock on the whole file does not bring old records to life" {
    needs_root
    hold disk.img
    release
    grep -aq "pid=$HOLDER " "$(lock_file disk.img)"
    for kind in x:0:0 s:0:0; do
        background "$HELPERS/status_lock" "$(lock_file disk.img)" "$kind"
        rows PID,KIND disk.img
        assert_output "$HOLDER unrecorded"
        run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,KIND disk.img
        assert_output "- unrecorded"
        kill "$HOLDER"
        wait "$HOLDER" 2>/dev/null || true
    done
    # Beside a living shared holder, it shows both; what the one lock hides of the other the kernel does not tell.
    hold disk.img read
    local reader=$HOLDER
    background "$HELPERS/status_lock" "$(lock_file disk.img)" s:0:0
    rows PID,KIND disk.img
    assert_line --regexp "^$reader (holder|unrecorded)\$"
    assert_line "$HOLDER unrecorded"
    assert_equal "${#lines[@]}" 2
}

@test "a descendant that is let past the holder is listed as its helper" {
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_parent" disk.img "$HELPERS/holder" write disk.img
    local child
    child=$(pgrep -P "$HOLDER")
    rows PID,KIND,MODE disk.img
    assert_line "$HOLDER holder exclusive"
    assert_line "$child helper exclusive"
    kill "$child"
}

@test "with IMGLOCK_KEY=inode a holder is listed once, by both names of the image" {
    export IMGLOCK_KEY=inode
    ln disk.img link.img
    hold disk.img
    rows IMAGE,PID
    assert_output "$PWD/disk.img $HOLDER"
    unset IMGLOCK_KEY
    rows PID,KIND,MODE link.img
    assert_output "$HOLDER holder exclusive"
}

# ---- without a lock ---------------------------------------------------------------------------------------------------

@test "a process that has the image open without a lock is listed, clearly marked" {
    background "$HELPERS/holder" read disk.img
    run --separate-stderr "$IMGLOCK" status -rn disk.img
    assert_success
    assert_output "$PWD/disk.img unlocked open $HOLDER $(id -un) holder -"
    assert_equal "$stderr" ""
    # A path is enough to have it listed among all, once the image has had a lock.
    run "$IMGLOCK" status
    assert_equal "$status" 1
    "$IMGLOCK" hold -s disk.img -- true
    rows PID,MODE,KIND
    assert_output "$HOLDER unlocked open"
    # Through a hard link, it is the same image.
    ln disk.img link.img
    rows PID,MODE,IMAGE link.img
    assert_output "$HOLDER unlocked $PWD/link.img"
}

@test "one holds the lock and another does not: the holder is not listed as unlocked as well" {
    hold disk.img
    local locked=$HOLDER
    background "$HELPERS/holder" write disk.img
    rows PID,MODE,KIND disk.img
    assert_output "$locked exclusive holder"$'\n'"$HOLDER unlocked open"
}

@test "what was let through with a warning is listed with its record, to every user" {
    needs_root
    hold disk.img
    local locked=$HOLDER
    IMGLOCK_ON_CONFLICT=warn hold disk.img
    rows PID,MODE,KIND disk.img
    assert_output "$locked exclusive holder"$'\n'"$HOLDER none open"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND disk.img
    assert_output "$locked exclusive holder"$'\n'"$HOLDER none open"
    kill "$locked"
    wait "$locked" 2>/dev/null || true
    rows PID,MODE,KIND disk.img
    assert_success
    assert_output "$HOLDER none open"
}

# open_without_lock: four who have the image open without its lock, each for another reason.
open_without_lock() {
    IMGLOCK_MODE=inactive hold disk.img
    INACTIVE=$HOLDER
    IMGLOCK_MODE=force-share hold disk.img read
    READER=$HOLDER
    hold disk.img
    EXCLUSIVE=$HOLDER
    IMGLOCK_ON_CONFLICT=warn hold disk.img
    ADMITTED=$HOLDER
    background "$HELPERS/holder" read disk.img
    BARE=$HOLDER
}

@test "an inactive process, a force-share reader, one that was let through and one without imglock are told apart" {
    needs_root
    open_without_lock
    local recorded="$EXCLUSIVE exclusive holder
$INACTIVE inactive open
$READER force-share open
$ADMITTED none open"
    rows PID,MODE,KIND disk.img
    assert_output "$recorded"$'\n'"$BARE unlocked open"
    # Who may not look into the processes reads the records.
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND disk.img
    assert_output "$recorded"
    # Each has a colour of its own.
    run "$IMGLOCK" status --color=always -n -o MODE disk.img
    assert_equal "$(sed $'s/ *\e\\[0m//; s/\e//' <<<"$output" | xargs)" \
        '[31mexclusive [1;34minactive [36mforce-share [35mnone [1;33munlocked'
    # What any of them is alone is in use: it is not safe to touch the image.
    kill "$EXCLUSIVE" "$ADMITTED" "$BARE" "$READER"
    wait "$EXCLUSIVE" "$ADMITTED" "$BARE" "$READER" 2>/dev/null || true
    rows PID,MODE disk.img
    assert_success
    assert_output "$INACTIVE inactive"
    rows PID,MODE
    assert_success
    assert_output "$INACTIVE inactive"
    kill "$INACTIVE"
    wait "$INACTIVE" 2>/dev/null || true
    IMGLOCK_MODE=force-share hold disk.img read
    rows PID,MODE
    assert_success
    assert_output "$HOLDER force-share"
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    run "$IMGLOCK" status
    assert_equal "$status" 1
    assert_output ''
}

@test "a mode without a lock is listed once with IMGLOCK_KEY=inode, and its children, who note it for themselves, by their own" {
    export IMGLOCK_KEY=inode
    IMGLOCK_MODE=force-share hold disk.img read
    rows PID,MODE,KIND disk.img
    assert_output "$HOLDER force-share open"
    kill "$HOLDER"
    background env LD_PRELOAD="$SHIM" IMGLOCK_MODE=force-share bash -c 'exec 5<disk.img; sleep 1000 & echo ready; wait'
    local child
    child=$(pgrep -P "$HOLDER")
    HOLDERS+=("$child")
    rows PID,MODE,KIND,SHARERS disk.img
    assert_equal "$(sort <<<"$output")" "$(printf '%s\n' "$HOLDER force-share open 1" "$child force-share open 0" | sort)"
}

# ---- blockers and reasons ---------------------------------------------------------------------------------------------

# reasoned WORD...: imglock hold with these options, on disk.img.
reasoned() {
    background "$IMGLOCK" hold "$@" disk.img -- sh -c 'echo ready; exec sleep 1000'
}

@test "what is blocked and why: columns of their own, in the table where there is something to say, in JSON always" {
    needs_root
    hold disk.img read
    run "$IMGLOCK" status
    assert_equal "$(head -n 1 <<<"$output" | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE"
    assert_equal "$("$IMGLOCK" status -J | jq -c '.locks[0] | [.blocks, .reason]')" '[null,null]'
    reasoned -s --reason 'a reason'
    run "$IMGLOCK" status
    assert_equal "$(head -n 1 <<<"$output" | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE REASON"
    kill "$HOLDER"
    wait "$HOLDER" || true
    reasoned -s --block unlink,resize --reason 'a reason'
    run "$IMGLOCK" status
    assert_equal "$(head -n 1 <<<"$output" | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE BLOCKS REASON"
    assert_line --regexp "shared +holder +$HOLDER +root +hold:sh +[0-9:]{8} +resize,unlink +a reason\$"
    # To every user.
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status
    assert_line --regexp "shared +holder +$HOLDER +root +hold:sh +[0-9:]{8} +resize,unlink +a reason\$"
    rows PID,BLOCKS,REASON
    assert_line "$HOLDER resize,unlink a\\x20reason"
    # Raw lines, and columns that were asked for, are what they are.
    run "$IMGLOCK" status -r
    assert_line --index 0 "IMAGE MODE KIND PID USER COMMAND SINCE"
    run "$IMGLOCK" status -o PID
    assert_line --index 0 --regexp '^ *PID$'
    assert_equal "$("$IMGLOCK" status -J | jq -c ".locks[] | select(.pid == $HOLDER) | [.blocks, .reason]")" \
        '["resize,unlink","a reason"]'
}

@test "who blocks without a lock is a blocker, and the image is in use" {
    needs_root
    reasoned --no-lock --block write
    rows PID,MODE,KIND,BLOCKS,REASON
    assert_success
    assert_line "$HOLDER none blocker write -"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND,BLOCKS
    assert_output "$HOLDER none blocker write"
    # A command that reads the image is told as well.
    background "$IMGLOCK" hold --no-lock --block write disk.img -- "$HELPERS/holder" read disk.img
    local reader
    reader=$(pgrep -P "$HOLDER")
    HOLDERS+=("$reader")
    kill "${HOLDERS[0]}"
    wait "${HOLDERS[0]}" || true
    rows PID,MODE,KIND disk.img
    assert_output "$HOLDER none blocker"$'\n'"$reader unlocked open"
}

@test "blockers that no record explains are told, without a name" {
    background "$HELPERS/status_lock" "$(lock_file disk.img)" s:18:1 "header:$PWD/disk.img"
    rows PID,MODE,KIND,BLOCKS
    assert_success
    assert_output "- none unrecorded resize"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 s:18:1
    rows PID,MODE,KIND,BLOCKS
    assert_output "$HOLDER exclusive unrecorded resize"
    # An operation that somebody performs is none.
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:18:1
    run "$IMGLOCK" status
    assert_equal "$status" 1
}

@test "a record blocks what the lock file's bytes say, and no more" {
    needs_root
    background "$HELPERS/status_lock" "$(lock_file disk.img)" s:18:1 s:1024:1 \
        "record:0:$(record_of 77 88 boot=00112233445566aa host=elsewhere mode=none) block=write,resize,unlink reason=forged mode=shared"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND,BLOCKS,REASON disk.img
    assert_output "77 none foreign resize forged\\x20mode=shared"
}

@test "a reason cannot drive a terminal, break a line or a JSON document" {
    needs_root
    local evil=$'q\e]0;owned\a\x9b31m\x7f\r x' format
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 s:1024:1 "header:$PWD/disk.img" \
        "record:0:$(record_of 77 88 boot=00112233445566aa) reason=$evil"
    for format in -n -rn -J; do
        run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status $format -o REASON,KIND
        assert_success
        assert_no_control_bytes
        assert_output --partial "x1b]0;owned"
        assert_output --partial foreign
    done
    jq . <<<"$output" >/dev/null
}

@test "--watch tells of a blocker that comes and goes" {
    watch -J -o MODE,BLOCKS,REASON
    next_is .locks '[]'
    background "$IMGLOCK" hold --no-lock --block rename --reason why disk.img -- sh -c 'echo ready; exec sleep 1000'
    next_is '.locks[0] | [.mode, .blocks, .reason]' '["none","rename","why"]'
    kill "$HOLDER"
    local document
    while read -r -t 120 document <&7; do [ "$(jq -c .locks <<<"$document")" != '[]' ] || break; done
    assert_equal "$(jq -c .locks <<<"$document")" '[]'
    # One that comes a moment after the lock, where nothing else changes.
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 pause:60 s:18:1
    while read -r -t 120 document <&7; do [ "$(jq -c .locks[0].blocks <<<"$document")" = null ] || break; done
    assert_equal "$(jq -c '.locks[0] | [.mode, .blocks]' <<<"$document")" '["exclusive","resize"]'
    kill -INT "$WATCH"
    wait "$WATCH" || true
}

@test "an image that is mapped, and no longer open, is in use" {
    background "$HELPERS/status_map" disk.img
    rows PID,MODE,KIND disk.img
    assert_success
    assert_output "$HOLDER unlocked open"
}

@test "a loop device on the image is in use without a lock" {
    LOOP=$(losetup -f --show disk.img 2>/dev/null) || skip "no loop devices here"
    rows COMMAND,MODE,KIND,PID disk.img
    assert_success
    assert_output "${LOOP#/dev/} unlocked open -"
}

# bare_qemu ARGUMENT...: an unwrapped qemu-io that has the image open until it is killed, or the next one runs.
bare_qemu() {
    local mark=$BATS_TEST_TMPDIR/qemu.$RANDOM
    mkfifo "$mark.in"
    exec 8<>"$mark.in"
    qemu-io "$@" <"$mark.in" >"$mark.out" 2>&1 3>&- 8>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    echo 'read 0 512' >&8
    eventually grep -q 'read 512' "$mark.out"
}

@test "an unwrapped QEMU is told by its own lock, and never as unlocked" {
    command -v qemu-io >/dev/null || skip "qemu-io is not installed"
    local image=disk.qcow2
    qemu-img create -q -f qcow2 $image 1M
    bare_qemu -f qcow2 $image
    rows PID,MODE,KIND,HAS $image
    assert_success
    assert_output "$HOLDER exclusive qemu QEMU's\\x20own\\x20lock:\\x20writes,\\x20shares\\x20nothing"
    run "$IMGLOCK" status $image
    assert_equal "$(head -n 1 <<<"$output" | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE HAS"
    assert_equal "$("$IMGLOCK" status -J $image | jq -c '.locks[0] | [.mode, .kind, .pid, .has]')" \
        '["exclusive","qemu",'"$HOLDER"',"QEMU'"'"'s own lock: writes, shares nothing"]'
    kill "$HOLDER"
    bare_qemu -r -f qcow2 $image
    rows PID,MODE,KIND,HAS $image
    assert_output "$HOLDER shared qemu QEMU's\\x20own\\x20lock:\\x20reads,\\x20shares\\x20no\\x20writing"
    # A reader that is wrapped is a holder beside it.
    local qemu=$HOLDER
    hold $image read
    rows PID,MODE,KIND $image
    assert_output "$HOLDER shared holder"$'\n'"$qemu shared qemu"
    kill "$HOLDER" "$qemu"
    # Who writes meanwhile does not disturb it.
    bare_qemu -U -r -f qcow2 $image
    rows PID,MODE,KIND,HAS $image
    assert_output "$HOLDER force-share qemu QEMU's\\x20own\\x20lock:\\x20reads"
    kill "$HOLDER"
    bare_qemu -f raw disk.img
    rows PID,MODE,KIND,HAS disk.img
    assert_output "$HOLDER shared qemu QEMU's\\x20own\\x20lock:\\x20writes"
}

@test "qemu-nbd and qemu-storage-daemon, unwrapped, are told by QEMU's lock" {
    command -v qemu-nbd >/dev/null || skip "qemu-nbd is not installed"
    command -v qemu-storage-daemon >/dev/null || skip "qemu-storage-daemon is not installed"
    qemu-img create -q -f qcow2 disk.qcow2 1M
    qemu-nbd --fork --persistent --pid-file=nbd.pid --socket="$PWD/socket" -f qcow2 disk.qcow2 3>&-
    HOLDERS+=("$(cat nbd.pid)")
    rows PID,COMMAND,MODE,KIND disk.qcow2
    assert_output "$(cat nbd.pid) qemu-nbd exclusive qemu"
    kill "$(cat nbd.pid)"
    eventually_rows '^$' PID disk.qcow2
    qemu-storage-daemon --daemonize --pidfile daemon.pid --blockdev driver=file,filename=disk.qcow2,node-name=file \
        --blockdev driver=qcow2,file=file,node-name=disk 3>&-
    HOLDERS+=("$(cat daemon.pid)")
    rows PID,COMMAND,KIND disk.qcow2
    assert_output "$(cat daemon.pid) qemu-storage-da qemu"
}

@test "a user who sees nothing of a QEMU, and one in another pid namespace, is told that QEMU's lock is there" {
    needs_root
    command -v qemu-io >/dev/null || skip "qemu-io is not installed"
    qemu-img create -q -f qcow2 disk.qcow2 1M
    chmod 644 disk.qcow2
    bare_qemu -f qcow2 disk.qcow2
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND disk.qcow2
    assert_success
    assert_output "- exclusive qemu"
    run unshare --pid --fork --mount-proc "$IMGLOCK" status -rn -o PID,MODE,KIND disk.qcow2
    assert_success
    assert_output "- exclusive qemu"
    kill "$HOLDER"
    hold disk.qcow2 read
    rm "$(lock_file disk.qcow2)"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE,KIND,HAS disk.qcow2
    assert_success
    assert_output "- shared marked imglock's\\x20marks"
}

@test "a holder is found by another name of the image, after a rename above it, and when its lock file is gone" {
    mkdir above
    mv disk.img above/
    ln above/disk.img link.img
    hold above/disk.img
    rows PID,MODE,KIND,HAS link.img
    assert_success
    assert_output "$HOLDER exclusive marked imglock's\\x20marks,\\x20locked\\x20as\\x20$PWD/above/disk.img"
    mv above below
    rows PID,MODE,KIND,HAS below/disk.img
    assert_success
    assert_output "$HOLDER exclusive marked imglock's\\x20marks,\\x20locked\\x20as\\x20$PWD/above/disk.img"
    mv below above
    rows PID,MODE,KIND above/disk.img
    assert_output "$HOLDER exclusive holder"
    mkdir -m 1777 elsewhere
    IMGLOCK_DIR=$PWD/elsewhere rows PID,MODE,KIND,HAS above/disk.img
    assert_output "$HOLDER exclusive marked imglock's\\x20marks,\\x20locked\\x20in\\x20$IMGLOCK_DIR"
    rm "$(lock_file above/disk.img)"
    rows PID,MODE,KIND,HAS above/disk.img
    assert_output "$HOLDER exclusive marked imglock's\\x20marks,\\x20locked\\x20in\\x20a\\x20lock\\x20file\\x20that\\x20was\\x20deleted"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    run "$IMGLOCK" status above/disk.img
    assert_equal "$status" 1
}

@test "a program that has locked the image for itself is told so: whole, in part, and by flock" {
    command -v python3 >/dev/null || skip "python3 is not installed"
    local how
    for how in 'exclusive|lockf(image, fcntl.LOCK_EX)|it\x20has\x20locked\x20the\x20file\x20for\x20itself' \
        'shared|lockf(image, fcntl.LOCK_SH, 1, 5)|it\x20has\x20locked\x20the\x20file' \
        'shared|flock(image, fcntl.LOCK_SH)|it\x20has\x20locked\x20the\x20file\x20by\x20flock'; do
        local mode=${how%%|*} rest=${how#*|}
        background python3 -c "import fcntl, os, signal
image = os.open('disk.img', os.O_RDWR)
fcntl.${rest%%|*}
print('ready', flush=True)
signal.pause()"
        rows PID,MODE,KIND,HAS disk.img
        assert_output "$HOLDER $mode locked ${rest#*|}"
        kill "$HOLDER"
        wait "$HOLDER" 2>/dev/null || true
    done
}

@test "who has it open without any lock: for reading, for writing, mapped, or as a loop device" {
    background "$HELPERS/holder" write disk.img
    rows PID,MODE,KIND,HAS disk.img
    assert_output "$HOLDER unlocked open open\\x20for\\x20writing"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    background "$HELPERS/holder" read disk.img
    rows PID,MODE,KIND,HAS disk.img
    assert_output "$HOLDER unlocked open open\\x20for\\x20reading"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    background "$HELPERS/status_map" disk.img
    rows PID,MODE,KIND,HAS disk.img
    assert_output --regexp "^$HOLDER unlocked open mapped\\\\x20for\\\\x20(reading|writing)\$"
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    LOOP=$(losetup -r -f --show disk.img 2>/dev/null) || skip "no loop devices here"
    rows COMMAND,KIND,HAS disk.img
    assert_output "${LOOP#/dev/} open loop\\x20device,\\x20for\\x20reading"
    losetup -d "$LOOP"
    LOOP=$(losetup -f --show disk.img)
    rows COMMAND,KIND,HAS disk.img
    assert_output "${LOOP#/dev/} open loop\\x20device,\\x20for\\x20writing"
}

# watches PID: it is told of something by inotify.
watches() { grep -qs ^inotify "/proc/$1"/fdinfo/*; }

@test "who waits for a QEMU is told as waiting, and a program that only watches the image is not" {
    command -v qemu-io >/dev/null || skip "qemu-io is not installed"
    bare_qemu -f raw disk.img
    local qemu=$HOLDER other
    env LD_PRELOAD="$SHIM" IMGLOCK_WAIT=forever "$HELPERS/holder" write disk.img >/dev/null 2>&1 3>&- &
    other=$!
    HOLDERS+=("$other")
    eventually_rows "^$other none waiting -\$" PID,MODE,KIND,HAS disk.img
    kill "$other"
    wait "$other" 2>/dev/null || true
    tail -f disk.img >/dev/null 2>&1 3>&- &
    other=$!
    HOLDERS+=("$other")
    eventually watches "$other"
    rows PID,MODE,KIND disk.img
    assert_equal "$(sort <<<"$output")" "$(printf '%s\n' "$other unlocked open" "$qemu shared qemu" | sort)"
}

@test "a descriptor that is only a path does not use the image" {
    command -v python3 >/dev/null || skip "python3 is not installed"
    background python3 -c 'import os, time; os.open("disk.img", os.O_PATH); print("ready", flush=True); time.sleep(1000)'
    run "$IMGLOCK" status disk.img
    assert_equal "$status" 1
}

@test "processes that cannot be looked into are counted, in one line on standard error" {
    needs_root
    truncate -s 4096 own.img
    chmod 666 own.img
    background "${NOBODY[@]}" "$HELPERS/holder" write own.img
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o PID,MODE own.img
    assert_output "$HOLDER unlocked"
    assert_equal "$(wc -l <<<"$stderr")" 1
    assert_regex "$stderr" '^imglock: [0-9]+ process(es)? of (an)?other users? could not be looked into'
}

@test "an image is never called free to a user who could not look at everybody, unless the kernel knows that nobody has it" {
    truncate -s 4096 own.img
    chown nobody own.img
    # Nobody's own file: the kernel tells.
    run "${NOBODY[@]}" "$IMGLOCK" status own.img
    assert_equal "$status" 1
    assert_output ""
    # Open for writing by somebody of whom this user sees nothing.
    background "$HELPERS/holder" write own.img
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status -rn -o IMAGE,MODE,KIND,PID own.img
    assert_success
    assert_output "$PWD/own.img unlocked open -"
    # A file of somebody else, of which the kernel tells nothing.
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status disk.img
    assert_equal "$status" 125
    assert_output ""
    assert_equal "$(wc -l <<<"$stderr")" 1
    assert_regex "$stderr" '^imglock: [0-9]+ process(es)? of (an)?other users? could not be looked into'
    # The same for a directory, and for all, of images that had a lock.
    wrapped "$HELPERS/cli_open" disk.img
    kill "$HOLDER"
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status .
    assert_equal "$status" 125
    run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status
    assert_equal "$status" 125
    run "$IMGLOCK" status disk.img
    assert_equal "$status" 1
}

@test "a process in another pid namespace, which not even root sees from its own, is told to have the image open" {
    background "$HELPERS/holder" write disk.img
    run unshare --pid --fork --mount-proc "$IMGLOCK" status -rn -o MODE,KIND,PID disk.img
    assert_success
    assert_output "unlocked open -"
}

@test "who waits is told as waiting, the next writer first" {
    local first second
    hold disk.img
    local holder=$HOLDER
    env LD_PRELOAD="$SHIM" IMGLOCK_WAIT=forever "$HELPERS/holder" read disk.img >/dev/null 2>&1 3>&- &
    second=$!
    HOLDERS+=("$second")
    eventually_rows '^'"$second none waiting"'$' PID,MODE,KIND disk.img
    env LD_PRELOAD="$SHIM" IMGLOCK_WAIT=forever "$HELPERS/holder" write disk.img >/dev/null 2>&1 3>&- &
    first=$!
    HOLDERS+=("$first")
    eventually_rows '^'"$first none waiting"'$' PID,MODE,KIND disk.img
    rows PID,MODE,KIND disk.img
    assert_output "$holder exclusive holder"$'\n'"$first none waiting"$'\n'"$second none waiting"
    "$IMGLOCK" hold -w forever disk.img -- sleep 1000 2>/dev/null 3>&- &
    HOLDERS+=("$!")
    eventually_rows "^$! hold:sleep none waiting" PID,COMMAND,MODE,KIND disk.img
    # Who watches, and who only has the lock file open, does not wait.
    "$IMGLOCK" status --watch disk.img >/dev/null 3>&- &
    HOLDERS+=("$!")
    exec 6<"$(lock_file disk.img)"
    rows KIND disk.img
    assert_equal "$(sort <<<"$output" | uniq -c | xargs)" "1 holder 3 waiting"
    exec 6<&-
}

# eventually_rows PATTERN COLUMNS IMAGE: waits until status prints such a row.
eventually_rows() { eventually has_row "$@"; }
has_row() { rows "${@:2}" && grep -q "$1" <<<"$output"; }

@test "-r escapes once: a blank is \\x20, a backslash two, and the rest as everywhere" {
    local name=$'a b\\c\nd.img'
    truncate -s 4096 "$name"
    hold "$name"
    rows IMAGE,MODE
    assert_output "$PWD/a\\x20b\\\\c\\nd.img exclusive"
}

@test "a column given twice is an error" {
    for list in PID,pid +MODE PID,MODE,PID; do
        run "$IMGLOCK" status -o "$list"
        assert_equal "$status" 125
        assert_line --index 0 --regexp '^imglock: status: the column (PID|MODE) is given twice$'
    done
    run "$IMGLOCK" status ''
    assert_equal "$status" 125
    assert_output "imglock: '': No such file or directory"
}

# ---- what nobody can be trusted with ----------------------------------------------------------------------------------

@test "records cannot drive a terminal, break a line or a JSON document" {
    needs_root
    local evil=$'q\e]0;owned\a\x9b31m\x7f\rx' format
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 s:1024:1 "header:$PWD/disk.img" \
        "record:0:$(record_of 77 88 boot=00112233445566aa host="$evil" command="$evil")"
    for format in -n -rn -J; do
        run --separate-stderr "${NOBODY[@]}" "$IMGLOCK" status $format -o HOST,COMMAND,KIND
        assert_success
        assert_no_control_bytes
        assert_output --partial "x1b]0;owned"
        assert_output --partial foreign
    done
    jq . <<<"$output" >/dev/null
}

@test "the name of a process cannot, either" {
    local name=$'h\e]0;\nx'
    cp "$HELPERS/holder" "$name"
    background env LD_PRELOAD="$SHIM" "./$name" write disk.img
    run --separate-stderr "$IMGLOCK" status -n -o PID,COMMAND
    assert_equal "$(xargs -d '\n' <<<"$output" | sed 's/^ *//')" "$HOLDER h\\x1b]0;\\nx"
    run --separate-stderr "$IMGLOCK" status -J -o COMMAND
    assert_equal "$(jq -r '.locks[0].command' <<<"$output")" 'h\x1b]0;\nx'
}

@test "an image's name is printed escaped, and the original can be had from it" {
    local name=$'a\e[31m\n"b\\x41 c\xff.img'
    truncate -s 4096 "$name"
    hold "$name"
    run --separate-stderr "$IMGLOCK" status -n -o IMAGE
    assert_no_control_bytes
    assert_equal "$(printf %b "${output//\"/\\042}")" "$PWD/$name"
    run --separate-stderr "$IMGLOCK" status -J -o IMAGE
    assert_no_control_bytes
    assert_equal "$(printf %b "$(jq -r '.locks[0].image' <<<"$output")")" "$PWD/$name"
}

@test "a header that names another image is not believed" {
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 header:/etc/passwd
    local digits
    digits=$(printf %s "$PWD/disk.img" | sha1sum | cut -d' ' -f1)
    rows IMAGE
    assert_output "sha1:$digits"
    rows IMAGE /etc/
    assert_equal "$status" 1
    rows IMAGE disk.img
    assert_output "$PWD/disk.img"
}

@test "a record whose checksum is wrong is none" {
    hold disk.img
    printf 'pid=1 ' | dd of="$(lock_file disk.img)" bs=1 seek=$((4096 + 13)) conv=notrunc status=none
    rows PID,KIND disk.img
    assert_output "$HOLDER unrecorded"
}

@test "what lies in the lock directory and is no lock file neither stops nor blocks anything" {
    hold disk.img
    local zeros=0000000000000000000000000000000000000
    mkfifo "$IMGLOCK_DIR/.qemu-${zeros}000.lock"
    ln -s /etc/passwd "$IMGLOCK_DIR/.qemu-${zeros}001.lock"
    mkdir "$IMGLOCK_DIR/.qemu-${zeros}002.lock"
    echo "not a lock" >"$IMGLOCK_DIR/.qemu-${zeros}003.lock"
    head -c 100000 /dev/urandom >"$IMGLOCK_DIR/.qemu-${zeros}004.lock"
    touch "$IMGLOCK_DIR/other" "$IMGLOCK_DIR/.qemu-xyz.lock"
    run --separate-stderr timeout 300 "$IMGLOCK" status -rn -o PID
    assert_success
    assert_output "$HOLDER"
    assert_no_control_bytes
    release
    run timeout 300 "$IMGLOCK" status
    assert_equal "$status" 125
    assert_line --partial "${zeros}001.lock: the lock file is a symbolic link"
}

# ---- the terminal -----------------------------------------------------------------------------------------------------

# on_terminal COLUMNS COMMAND: what it prints on a terminal of that width.
on_terminal() {
    run script -qec "stty cols $1; exec $2" /dev/null
    output=${output//$'\r'/}
}

@test "on a terminal an answer is given, too, when nothing is in use" {
    run env TERM=xterm script -qec "'$IMGLOCK' status disk.img" /dev/null
    assert_failure 1
    assert_output --regexp '^Nothing is in use\..?$'
    run "$IMGLOCK" status disk.img
    assert_output ""
    run env TERM=xterm script -qec "'$IMGLOCK' status no-such.img" /dev/null
    refute_output --partial 'in use'
}

@test "colours on a terminal alone, and not when NO_COLOR or --color says so" {
    hold disk.img
    unset NO_COLOR
    export TERM=xterm
    on_terminal 200 "'$IMGLOCK' status -n"
    assert_output --partial $'\e[31mexclusive'
    NO_COLOR=1 on_terminal 200 "'$IMGLOCK' status -n"
    refute_output --partial $'\e'
    NO_COLOR='' on_terminal 200 "'$IMGLOCK' status -n"
    assert_output --partial $'\e[31mexclusive'
    TERM=dumb on_terminal 200 "'$IMGLOCK' status -n"
    refute_output --partial $'\e'
    on_terminal 200 "'$IMGLOCK' status -n --color=never"
    refute_output --partial $'\e'
    run "$IMGLOCK" status
    refute_output --partial $'\e'
    run "$IMGLOCK" status --color=always
    assert_output --partial $'\e[31mexclusive'
    run "$IMGLOCK" status --color=always -J
    refute_output --partial $'\e'
    run "$IMGLOCK" status --color=blue
    assert_equal "$status" 125
    release
    hold disk.img read
    run "$IMGLOCK" status --color
    assert_output --partial $'\e[32mshared'
}

@test "on a narrow terminal a long path goes on in the next line, and -u leaves it whole" {
    local long=long-name-of-a-directory-$RANDOM/and-another-below-it/and-a-third
    mkdir -p "$long"
    truncate -s 4096 "$long/disk.img"
    hold "$long/disk.img"
    export NO_COLOR=1 TERM=xterm
    on_terminal 80 "'$IMGLOCK' status -n"
    refute_output --partial "$PWD/$long/disk.img"
    assert_equal "$(cut -c 1-30 <<<"$output" | tr -d ' \n' | head -c 25)" "$(printf %s "$PWD" | head -c 25)"
    while read -r line; do assert [ "${#line}" -le 80 ]; done <<<"$output"
    on_terminal 80 "'$IMGLOCK' status -nu"
    assert_output --partial "$PWD/$long/disk.img"
}

# ---- watching ---------------------------------------------------------------------------------------------------------

# watch ARGUMENT...: starts status --watch, whose lines come from descriptor 7.  Sets WATCH to its pid.
watch() {
    mkfifo watched
    "$IMGLOCK" status --watch "$@" >watched 2>watch.err 3>&- </dev/null &
    WATCH=$!
    HOLDERS+=("$WATCH")
    exec 7<watched
}

# next_is FILTER VALUE: the next document, through jq.
next_is() {
    local document
    read -r -t 120 document <&7 || fail "nothing came; $(cat watch.err)"
    assert_equal "$(jq -c "$1" <<<"$document")" "$2"
}

@test "--watch shows a lock with its record, which comes a moment later" {
    watch -J -o IMAGE,MODE,KIND
    next_is .locks '[]'
    # Each write of the holder 40 ms late: the header's and the record's.
    background strace -qq -o /dev/null -e trace=pwrite64,pwritev -e inject=pwrite64,pwritev:delay_enter=40000 \
        env "LD_PRELOAD=$SHIM" "$HELPERS/holder" write disk.img
    # On a machine that is late by more than --watch gives a record to come, the lock comes first.
    next_is '[.locks[] | .mode, .kind]' '["exclusive","holder"]' ||
        { [ "$(late)" -gt 100 ] && next_is '[.locks[] | .mode, .kind]' '["exclusive","holder"]'; }
}

@test "--watch prints a document for each change, and ends on SIGINT" {
    watch -J -o IMAGE,PID,MODE,KIND
    next_is .locks '[]'
    hold disk.img
    next_is '[.locks[] | .pid, .mode, .kind]' "[$HOLDER,\"exclusive\",\"holder\"]"
    local locked=$HOLDER
    background "$HELPERS/holder" read disk.img
    next_is '[.locks[] | .pid, .mode]' "[$locked,\"exclusive\",$HOLDER,\"unlocked\"]"
    kill "$HOLDER"
    next_is '[.locks[] | .pid]' "[$locked]"
    kill -9 "$locked"
    next_is .locks '[]'
    # A lock that is taken without a record, a moment after the open, is no event.
    background "$HELPERS/status_lock" "$(lock_file disk.img)" pause:60 s:0:2
    next_is '[.locks[] | .pid, .mode, .kind]' "[$HOLDER,\"shared\",\"unrecorded\"]"
    kill -INT "$WATCH"
    local status=0
    wait "$WATCH" || status=$?
    assert_equal "$status" 0
    run timeout 300 cat <&7
    assert_success
    assert_output ""
}

@test "--watch of one image passes over the others, and sees its unlocked opens from the start" {
    truncate -s 4096 other.img
    watch -J -o PID,MODE disk.img
    next_is .locks '[]'
    hold other.img
    background "$HELPERS/holder" read disk.img
    next_is '[.locks[] | .pid, .mode]' "[$HOLDER,\"unlocked\"]"
    kill "$HOLDER"
    next_is .locks '[]'
    kill -TERM "$WATCH"
    local status=0
    wait "$WATCH" || status=$?
    assert_equal "$status" 1
}

@test "--watch does nothing while nothing happens" {
    hold disk.img
    watch -J -o PID
    next_is '[.locks[] | .pid]' "[$HOLDER]"
    truncate -s 4096 other.img
    hold other.img
    next_is '[.locks[] | .pid] | length' 2
    # Its own looks at the lock files are over when it has slept through a second.
    woken() { awk '/^voluntary/ {print $2}' "/proc/$WATCH/status"; }
    slept() { local before; before=$(woken) && sleep 1 && [ "$(woken)" = "$before" ]; }
    eventually slept
    # What happens beside the lock files is no reason to look.
    local before
    before=$(woken)
    touch "$IMGLOCK_DIR/file" "$IMGLOCK_DIR"
    sleep 1.5
    assert [ "$(woken)" -le $((before + 10)) ]
    kill -INT "$WATCH"
    wait "$WATCH"
}

@test "--watch prints tables with a blank line between them" {
    truncate -s 1M other.img
    hold other.img
    watch -n -o IMAGE,MODE
    local line
    # Before the first table it may not have looked yet.
    read -r -t 120 line <&7
    assert_equal "$line" "$PWD/other.img exclusive"
    hold disk.img
    read -r -t 120 line <&7
    assert_equal "$line" ""
    read -r -t 120 line <&7
    assert_equal "$line" "$PWD/disk.img  exclusive"
    kill -INT "$WATCH"
    wait "$WATCH"
}

# ---- many -------------------------------------------------------------------------------------------------------------

# calls_about_ours: how many system calls imglock status does about what is in this directory and the holders' processes; what it
# does about other programs' does not count.
calls_about_ours() {
    local holder
    strace -f -y --seccomp-bpf -e 'trace=!ioctl' -o calls "$IMGLOCK" status >/dev/null
    (echo "$PWD/" && for holder in "${HOLDERS[@]}"; do pgrep -P "$holder"; done | sed 's,.*,/proc/&/\n/proc/&>,') >ours
    grep -cFf ours calls
}

# instructions COMMAND...: how many it takes.
instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 >/dev/null | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

@test "1,000 held images take as much work each as 250, and at most 120 system calls" {
    needs strace valgrind
    mkdir few more
    (seq -f few/%g.img 0 249 && seq -f more/%g.img 0 749) | xargs touch
    local few many few_instructions many_instructions
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_crowd" 250 write "few/%d.img"
    few=$(calls_about_ours)
    few_instructions=$(instructions "$IMGLOCK" status)
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_crowd" 750 write "more/%d.img"
    rows IMAGE,MODE,KIND
    assert_equal "${#lines[@]}" 1000
    assert_equal "$(cut -d' ' -f2,3 <<<"$output" | sort | uniq -c | xargs)" "1000 exclusive holder"
    many=$(calls_about_ours)
    many_instructions=$(instructions "$IMGLOCK" status)
    echo "$few and $many system calls, $few_instructions and $many_instructions instructions"
    assert [ "$few" -gt $((250 * 30)) ]
    assert [ "$few" -le $((250 * 120)) ]
    assert [ $((10 * many)) -ge $((9 * 4 * few)) ]
    assert [ $((10 * many)) -le $((11 * 4 * few)) ]
    assert [ "$few_instructions" -gt 1000000 ]
    # Four times as much, 16 if it grew with the square; what other programs have open meanwhile is in it.
    assert [ "$many_instructions" -le $((6 * few_instructions)) ]
}

@test "1,000 shared holders of one image are listed" {
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_crowd" 1000 read disk.img
    rows PID,MODE,KIND disk.img
    assert_equal "$(sort -n <<<"$output")" "$(pgrep -P "$HOLDER" | sort -n | sed 's/$/ shared holder/')"
    assert_equal "${#lines[@]}" 1000
}

# ---- what cannot be asked --------------------------------------------------------------------------------------------

# asked_in_turn WHO HOLDER...: in a PID namespace, where few processes are to be looked at, somebody has the image; and status
# is asked while one of the calls that it looks with fails, each in its turn.  What it says is never "nothing", and of who has a
# lock never that he has none.  make test-long tries all calls, else it is each second.
asked_in_turn() {
    cat >asked.sh <<'SCRIPT'
who=$1 image=$2
shift 2
mkfifo ready
case $image in ram/*) mount -t ramfs none ram && chmod 755 ram && : >"$image" ;; esac
"$@" "$image" >ready &
read -r _ <ready
asked=(strace -qq -o trace)
status=("$IMGLOCK" status -rn -o PID,MODE,KIND "$image")
[ "$who" = root ] || status=(setpriv --reuid=nobody --regid=nogroup --clear-groups "${status[@]}")
looks='openat|newfstatat|fstat|statx|fcntl|getdents64|read|pread64|readlinkat|fstatfs|statfs|faccessat'
"${asked[@]}" "${status[@]}" 2>&1
echo "without a fault: $?"
awk -v looks="^($looks)\$" -v each="${FAULTS_ALL:-2}" '/disk\.img/ && !/execve/ { on = 1 }
    { name = $0; sub(/\(.*/, "", name); turn[name]++ }
    on && name ~ looks && made++ % each == 0 { print name, turn[name] }' trace >calls
while read -r call turn; do
    said=$("${asked[@]}" -e "trace=$call" -e "inject=$call:error=ENOMEM:when=$turn" "${status[@]}" 2>&1 </dev/null)
    case $?:$said in
    *unlocked*) [ "$1" = "$HELPERS/outsider" ] || echo "$call $turn: $said: $(grep INJECTED trace)" ;;
    0:* | 125:*) ;;
    *) echo "$call $turn: $said: $(grep INJECTED trace)" ;;
    esac
    grep INJECTED trace >>injected
done <calls
[ "$(wc -l <injected)" -gt 30 ] || echo 'hardly any calls'
kill %1
SCRIPT
    run unshare --fork --pid --mount-proc bash asked.sh "$@"
    assert_success
    rm ready injected
}

@test "status does not say that nobody has an image while a call that it asks with fails" {
    needs_root
    unshare --fork --pid --mount-proc true 2>/dev/null || skip "no PID namespaces here"
    # The kernel does not tell whether anybody has a file of a ramfs open.
    mkdir ram
    asked_in_turn root ram/disk.img "$HELPERS/outsider" write
    assert_output --regexp '^[0-9]+ unlocked open.without a fault: 0$'
    # Nor does it tell anybody but a file's owner and root, and shows them alone who it is.
    asked_in_turn nobody disk.img env LD_PRELOAD="$SHIM" "$HELPERS/holder" write
    assert_output --regexp '^[0-9]+ exclusive holder.*without a fault: 0$'
    asked_in_turn nobody disk.img "$HELPERS/outsider" write
    assert_line --index 1 'without a fault: 125'
    assert_equal "${#lines[@]}" 2
}

@test "status is not made to fail by a lock file that tells of an image where none can be" {
    local path planted
    "$IMGLOCK" hold disk.img -- true
    ln -s there here
    ln -s here there
    for path in "$PWD/here/x.img" "$PWD/$(printf %0300d 0).img"; do
        planted=$IMGLOCK_DIR/.qemu-$(printf %s "$path" | sha1sum | cut -d' ' -f1).lock
        cp "$(lock_file disk.img)" "$planted"
        printf 'imglock lock file, version 1\nimage %s\0' "$path" | dd of="$planted" conv=notrunc status=none
    done
    run "$IMGLOCK" status
    assert_failure 1
    assert_output ''
}
