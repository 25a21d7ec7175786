#!/usr/bin/env bats
# Who it is, in words: guest, unit, container; times; a watch on a terminal; a line for each change; notifications.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

# How long something took, whatever the machine does meanwhile.
DURATION='[0-9]* (s|min)'

setup() {
    common_setup
    unset TMUX
    export SHELL=/bin/bash TERM=xterm-256color
    truncate -s 1M disk.img
    GROUPS_MADE=()
    REGISTERED=
}

teardown() {
    [ -n "${BATS_TEST_COMPLETED-}" ] || screen 2>/dev/null || true
    tmux -S terminal kill-server 2>/dev/null || true
    common_teardown
    [ -z "$REGISTERED" ] || rm -f "$REGISTERED"
    local group
    for group in "${GROUPS_MADE[@]}"; do rmdir "$group" 2>/dev/null || true; done
}

# ---- who --------------------------------------------------------------------------------------------------------------

# guest_holds ARGUMENT...: something that is called as QEMU is, with these arguments, holds disk.img.
guest_holds() {
    local ready=$BATS_TEST_TMPDIR/ready
    mkfifo "$ready"
    LD_PRELOAD=$SHIM bash -c 'exec -a /usr/bin/qemu-system-x86_64 perl -e "open(F, q(+<), q(disk.img)); \$| = 1; print qq(ready\n); sleep 1000" -- "$@"' \
        bash "$@" >"$ready" 3>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    read -r _ <"$ready"
    rm "$ready"
}

@test "a virtual machine is told by the name of its guest" {
    while IFS='|' read -r wanted arguments; do
        # shellcheck disable=SC2086 # words
        guest_holds $arguments
        assert_equal "$("$HELPERS/who" "$HOLDER")" "${wanted:+, guest $wanted}"
        run "$IMGLOCK" status -rn -o GUEST disk.img
        assert_equal "$output" "${wanted:--}"
        run ! wrapped bash -c ': >>disk.img'
        assert_output --partial "(pid $HOLDER, user $(id -un)${wanted:+, guest $wanted}) for "
        kill -9 "$HOLDER"
        wait "$HOLDER" 2>/dev/null || true
    done <<END
web|-name web -m 1
web|-m 1 -name guest=web,debug-threads=on
web|-m 1 --name debug-threads=on,guest=web
a,b|-name guest=a,,b,process=x
|-m 1
|-name
far|$(printf 'x%.0s' {1..5000}) -name far
END
    guest_holds -name $'e\e[31mvil'
    assert_equal "$("$HELPERS/who" "$HOLDER")" ', guest e\x1b[31mvil'
    # Other programs have a -name of another meaning.
    run "$HELPERS/who" $$
    refute_output --partial guest
}

# in_group NAME PID: puts the process into a control group of that name, as systemd and docker do.
in_group() {
    local tree any=
    for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [ -w "$tree/cgroup.procs" ] || continue
        mkdir -p "$tree$1" && echo "$2" >"$tree$1/cgroup.procs" || continue
        GROUPS_MADE=("$tree$1" "${GROUPS_MADE[@]}")
        any=yes
    done
    [ "$any" ] || skip "no control groups can be made here"
}

@test "a service, a scope and a container are told by their names, a login session is not" {
    local id=3f2a99d0c1b73f2a99d0c1b73f2a99d0c1b73f2a99d0c1b73f2a99d0c1b73f2a
    hold disk.img
    while read -r group wanted; do
        in_group "/$group" "$HOLDER"
        assert_equal "$group$("$HELPERS/who" "$HOLDER")" "$group${wanted:+, ${wanted/=/ }}"
        run "$IMGLOCK" status -J disk.img
        assert_equal "$(jq -r '.locks[0] | .unit // .machine' <<<"$output")" "$([ -z "$wanted" ] && echo null || echo "${wanted#*=}")"
        run ! wrapped bash -c ': >>disk.img'
        assert_output --partial ", user $(id -un)${wanted:+, ${wanted/=/ }}) for "
    done <<END
imglock-nightly.service unit=imglock-nightly.service
session-7.scope
$id container=3f2a99d0c1b7
lxc.payload.imglock-web container=imglock-web
END
    run "$IMGLOCK" status
    assert_equal "$(head -n 1 <<<"$output" | xargs)" "IMAGE MODE KIND PID USER COMMAND SINCE MACHINE"
}

@test "a machine that is registered with systemd is told by its name, as a column" {
    hold disk.img
    in_group /imglock-test.scope "$HOLDER"
    # As systemd-machined keeps it, and sd_pid_get_machine_name(3) reads it.
    REGISTERED=/run/systemd/machines/unit:imglock-test.scope
    mkdir -p "${REGISTERED%/*}"
    ln -s web01 "$REGISTERED"
    run "$IMGLOCK" status -rn -o UNIT,MACHINE disk.img
    assert_output 'imglock-test.scope web01'
    run "$IMGLOCK" status -J disk.img
    assert_equal "$(jq -r '.locks[0].machine' <<<"$output")" web01
}

# ---- what to do next --------------------------------------------------------------------------------------------------

@test "a refusal says what to do next: to wait, or to read it as it is; and how long it has waited" {
    # A busy machine makes a short wait long: half a second is told in seconds.
    local short="([1-4][0-9]{2} ms|[1-9]$DURATION)"
    local line wait="; 'imglock -w 60' waits for it" read="'--mode force-share' reads it as it is, perhaps torn"
    hold disk.img
    line="locked exclusively by holder .pid $HOLDER, user $(id -un). for $DURATION"
    run "$IMGLOCK" dd if=/dev/zero of=disk.img count=1
    assert_line --regexp "^imglock: $PWD/disk.img: cannot truncate: $line$wait$"
    run "$IMGLOCK" cat disk.img
    assert_line --regexp "^imglock: $PWD/disk.img: cannot open for reading: $line$wait, $read$"
    run "$IMGLOCK" -w 0.2 cat disk.img
    assert_line --regexp "for $DURATION; waited $short; $read$"
    run "$IMGLOCK" -w 1.4 dd if=/dev/zero of=disk.img count=1
    assert_line --regexp "for $DURATION; waited [1-9]$DURATION$"
    run "$IMGLOCK" hold disk.img -- true
    assert_line --regexp "cannot hold exclusively: .* for $DURATION$wait$"
    run "$IMGLOCK" hold -w 0.2 disk.img -- true
    assert_line --regexp "cannot hold exclusively: .* for $DURATION; waited $short$"
    # What does not wait is not told to, what is let through has nothing to do, and who asked for a mode has it.
    run "$IMGLOCK" rm disk.img
    assert_line --regexp "cannot delete: .* for $DURATION$"
    IMGLOCK_ON_CONFLICT=warn run "$IMGLOCK" cat disk.img
    assert_line --regexp "cannot open for reading: .* for $DURATION$"
    run "$IMGLOCK" --mode shared cat disk.img
    refute_output --partial force-share
    # It does what it says.
    "$IMGLOCK" --mode force-share cat disk.img | cmp - disk.img
}

@test "a refusal names the service to stop, when that would do, and never one's own" {
    local stop="'systemctl stop imglock-nightly.service' ends the other"
    hold disk.img read
    in_group /imglock-nightly.service "$HOLDER"
    run "$IMGLOCK" dd if=/dev/zero of=disk.img count=1
    assert_line --regexp "unit imglock-nightly.service\) for $DURATION; 'imglock -w 60' waits for it, $stop$"
    run "$IMGLOCK" rm disk.img
    assert_line --regexp "for $DURATION; $stop$"
    run bash -c 'for file in "$@"; do echo $$ >"$file"; done; exec "$IMGLOCK" rm disk.img' bash \
        "${GROUPS_MADE[@]/%//cgroup.procs}"
    assert_line --partial "cannot delete: "
    refute_output --partial "systemctl"
    # Another is there as well.
    local first=$HOLDER
    hold disk.img read
    run "$IMGLOCK" rm disk.img
    assert_line --partial "and 1 other"
    refute_output --partial "systemctl"
    kill "$HOLDER"
    wait "$HOLDER" || true
    in_group /user@1000.service/app.slice/imglock-nightly.service "$first"
    run "$IMGLOCK" rm disk.img
    assert_output --partial "; 'systemctl --user stop imglock-nightly.service' ends the other"
    in_group "/$(printf '3f2a99d0%.0s' {1..8})/imglock-nightly.service" "$first"
    run "$IMGLOCK" rm disk.img
    assert_line --partial "container 3f2a99d03f2a"
    refute_output --partial "systemctl"
}

@test "where the first open is for reading, a refusal says what the program is about to do" {
    qemu-img create -q -f qcow2 disk.qcow2 1M
    local command purpose
    hold disk.img
    hold disk.qcow2
    while IFS='|' read -r command purpose; do
        # shellcheck disable=SC2086 # words
        run timeout 300 "$IMGLOCK" $command
        assert_failure
        assert_line --partial "cannot open for reading${purpose:+, $purpose}: locked exclusively by holder"
        [ -z "$purpose" ] || refute_output --partial force-share
    done <<END
qemu-img resize disk.qcow2 2M|to resize it
qemu-img resize -f raw $PWD/disk.img 2M|to resize it
qemu-img commit disk.qcow2|to commit it
qemu-img amend -f qcow2 -o compat=1.1 disk.qcow2|to amend it
qemu-img rebase -u -b disk.img -F raw disk.qcow2|to rebase it
qemu-img create -f qcow2 disk.qcow2 1M|to create it
qemu-img snapshot -l disk.qcow2|
qemu-img snapshot -c now disk.qcow2|to change its snapshots
qemu-img check disk.qcow2|
qemu-img check -r all disk.qcow2|to repair it
qemu-img check --repair=all disk.qcow2|to repair it
qemu-img info disk.qcow2|
qemu-img convert -O raw disk.qcow2 resize|
qemu-io -c quit disk.qcow2|to write to it
qemu-io -r -c quit disk.qcow2|
qemu-io --read-only -c quit disk.qcow2|
qemu-nbd -k $PWD/socket disk.qcow2|to serve it for writing
qemu-nbd -k $PWD/socket -r disk.qcow2|
qemu-system-x86_64 -display none disk.qcow2|to run a machine with it
/sbin/mkfs.ext4 -q -F disk.img|to make a file system on it
END
    # Arguments that do not name the image tell nothing of it.
    qemu-img create -q -f qcow2 -u -b disk.qcow2 -F qcow2 other.qcow2 1M
    run "$IMGLOCK" qemu-img resize other.qcow2 2M
    assert_line --partial "$PWD/disk.qcow2: cannot open for reading: locked"
}

# ---- times ------------------------------------------------------------------------------------------------------------

# screen: what stands on the terminal.
screen() {
    tmux -S terminal capture-pane -p
}
# shows PATTERN: does it stand there?
shows() {
    screen | grep -qE -- "$1"
}
# not COMMAND...
not() {
    ! "$@"
}

@test "times are in words on a terminal, and exact elsewhere" {
    # Whoever may not look into the holder has its record, which may be of any time.
    local user=(setpriv --reuid=nobody --regid=nogroup --clear-groups "$IMGLOCK" status)
    chmod 755 "$BATS_TEST_TMPDIR" "$BATS_RUN_TMPDIR"
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:0:2 s:1024:1 "header:$PWD/disk.img" \
        "record:0:pid=77 start=88 boot=00112233445566aa pidns=1 uid=0 mode=exclusive family=0 since=$((($(date +%s) - 11400) * 1000)) fd=9 host=far cmd=old "
    "$TOP/tests/helpers/terminal.sh" terminal "${user[@]}" -o PID,SINCE
    eventually shows '^ *77 3 h 10 min'
    run --separate-stderr "${user[@]}" -n -o SINCE
    assert_output --regexp '^([0-9]{2}:[0-9]{2}:[0-9]{2}|[A-Z][a-z]{2} [0-9]{2} [0-9]{2}:[0-9]{2})$'
    run --separate-stderr "${user[@]}" -rn -o SINCE
    assert_output --regexp '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:+-]+$'
    run --separate-stderr "${user[@]}" -J -o SINCE
    assert_output --regexp '"[0-9]{4}-[0-9]{2}-[0-9]{2}T'
}

# ---- watching ---------------------------------------------------------------------------------------------------------

@test "--watch draws in place, marks what is new and what went, has a clock, and leaves the screen as it was" {
    "$TOP/tests/helpers/terminal.sh" terminal bash -c 'echo "before"; "$@"' bash "$IMGLOCK" status --watch -o PID,KIND
    eventually shows '^nothing is in use'
    eventually shows '^imglock status: 0 in use, [A-Z][a-z]{2} [A-Z][a-z]{2} +[0-9]+ [0-9:]{8} [0-9]{4}'
    not shows before
    hold disk.img
    eventually shows "^\\+ +$HOLDER holder"
    shows '^imglock status: 1 in use'
    local first=$HOLDER
    truncate -s 1M other.img
    hold other.img
    eventually shows "^\\+ +$HOLDER holder"
    # What was new before is not any more.
    shows "^  +$first holder"
    kill "$first"
    eventually shows "^- +$first holder"
    shows "^  +$HOLDER holder"
    # One table, not several.
    assert_equal "$(screen | grep -c KIND)" 1
    # The clock goes on while nothing happens.
    local clock
    clock=$(screen | head -n 1)
    eventually not shows "^${clock//[()]/.}"
    tmux -S terminal resize-window -x 60 -y 10
    eventually shows "holder"
    tmux -S terminal send-keys q
    eventually shows '^ended 0'
    shows '^before'
    not shows KIND
}

@test "--watch on a terminal ends on ^C with the screen as it was, and shows how many lines there is no room for" {
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_crowd" 30 read disk.img
    "$TOP/tests/helpers/terminal.sh" terminal "$IMGLOCK" status --watch -o PID
    eventually shows '^\.\.\. and 1[0-9] more'
    eventually shows '^imglock status: 30 in use'
    tmux -S terminal send-keys C-c
    eventually shows '^ended 0'
    not shows 'more'
}

@test "--follow prints a line for each change" {
    hold disk.img
    local first=$HOLDER
    "$IMGLOCK" status --follow -o PID,MODE,KIND >changes 3>&- &
    HOLDERS+=("$!")
    local follower=$!
    eventually grep -q "$first" changes
    truncate -s 1M other.img
    hold other.img read
    eventually grep -q "+ $HOLDER" changes
    kill "$first"
    eventually grep -q -- "- $first" changes
    kill "$follower"
    local status=0
    wait "$follower" || status=$?
    assert_equal "$status" 0
    # Who ends has no descriptors in /proc a moment before his lock goes; then it is nobody's.
    assert_equal "$(cut -d ' ' -f 2- changes | grep -v ' exclusive inherited$')" "+ $first exclusive holder"$'\n'"+ $HOLDER shared holder"$'\n'"- $first exclusive holder"
    run grep -vE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2} ' changes
    assert_output ""
    run "$IMGLOCK" status --follow -J
    assert_equal "$status" 125
    # The columns are as with -r on a terminal, too.
    script -qfec "exec '$IMGLOCK' status --follow -o SINCE other.img" typescript >/dev/null 3>&- &
    HOLDERS+=("$!")
    eventually grep -qE '\+ [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:+-]+.?$' typescript
}

# ---- notifications ----------------------------------------------------------------------------------------------------

@test "IMGLOCK_LOG=notify shows a refusal as a notification, too, and leaves nothing behind" {
    mkdir bin temporary
    export TMPDIR=$PWD/temporary
    # What notify-send of a desktop is given; there is no desktop here.
    printf '#!/bin/sh\nfor word; do :; done\necho "$word" >>"%s"\n' "$PWD/notified" >bin/notify-send
    chmod 755 bin/notify-send
    hold disk.img
    PATH=$PWD/bin:$PATH IMGLOCK_LOG=notify run "$IMGLOCK" dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_equal "$status" 1
    eventually test -s notified
    run cat notified
    assert_output --partial "imglock: $PWD/disk.img: cannot open for writing: locked exclusively by holder (pid $HOLDER"
    eventually not bash -c 'ls -d temporary/imglock-notify-* 2>/dev/null'
    # The command has no child that it did not make, and standard error gets the line.
    PATH=$PWD/bin:$PATH IMGLOCK_LOG=conflicts,notify run "$IMGLOCK" bash -c 'wait; ps -o comm= --ppid $$ | grep -cvE "^(ps|grep)\$"; cat disk.img >/dev/null; sleep 0.5'
    assert_line --index 0 0
    eventually test "$(wc -l <notified)" = 2
    # Without notify-send it is the line alone.
    PATH=/usr/bin:/bin IMGLOCK_LOG=debug,notify run "$IMGLOCK" bash -c 'cat disk.img; sleep 0.5'
    assert_output --partial "cannot open for reading: locked exclusively by holder"
    IMGLOCK_LOG=notify run "$IMGLOCK" hold disk.img -- true
    assert_equal "$status" 1
    # To the library it is standard error, and a file of settings may say it.
    IMGLOCK_LOG=notify run wrapped cat disk.img
    assert_output --partial "cannot open for reading: locked exclusively by holder"
    echo IMGLOCK_LOG=notify >settings
    PATH=$PWD/bin:$PATH run "$IMGLOCK" --config ./settings dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_equal "$status" 1
    eventually test "$(wc -l <notified)" = 3
}
