#!/usr/bin/env bats
# Two real machines that share one image, and the lock that follows the migration.

# shellcheck disable=SC2030,SC2031,SC2153,SC2154 # what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    declare -gA MACHINES=()
}

qmp() {
    local name=$1
    shift
    python3 "$TOP/tests/helpers/qmp.py" "$name.qmp" "$@"
}

# machine NAME SETTING ARGUMENT...: a machine with the image, under imglock, that does not run yet.
machine() {
    local name=$1 setting=$2
    shift 2
    env "$setting" "$IMGLOCK" qemu-system-x86_64 -M pc -m 16 -accel tcg -nodefaults -display none -S \
        -qmp "unix:$name.qmp,server=on,wait=off" "$@" >"$name.err" 2>&1 3>&- </dev/null &
    MACHINES[$name]=$!
    HOLDERS+=("$!")
    until qmp "$name" query-status >/dev/null 2>&1; do
        kill -0 "${MACHINES[$name]}" || fail "$name: $(cat "$name.err")"
    done
}

# two_machines DISK_ARGUMENT...: source, which runs, and target, which waits for it.  A stranger tries to open the image
# all the time.
two_machines() {
    machine source "IMGLOCK_RULES=*/$IMAGE=${SOURCE_MODE:-auto}" "$@"
    machine target "IMGLOCK_RULES=*/$IMAGE=inactive" -incoming unix:migration "$@"
    qmp source migrate-set-capabilities '{"capabilities": [{"capability": "pause-before-switchover", "state": true}]}'
    qmp target migrate-set-capabilities '{"capabilities": [{"capability": "late-block-activate", "state": true}]}'
    qmp source cont
    SOURCE=${MACHINES[source]} TARGET=${MACHINES[target]}
    IMGLOCK_LOG=quiet LD_PRELOAD=$SHIM nice -n 19 "$HELPERS/handoff_hammer" "$IMAGE" >stranger 3>&- &
    STRANGER=$!
    HOLDERS+=("$!")
    until grep -q ready stranger; do kill -0 "$STRANGER"; done
    owner_is "$SOURCE"
}

# new_image FORMAT: IMAGE.
new_image() {
    IMAGE=disk.$1
    qemu-img create -q -f "$1" "$IMAGE" 16M
}

blockdev() { # FORMAT LOCKING
    printf '%s\n' -blockdev "driver=file,filename=$IMAGE,node-name=file,locking=$2" -blockdev \
        "driver=$1,file=file,node-name=disk" -device ide-hd,drive=disk,id=guest
}

# owner_is PID: imglock status says so, and a stranger is refused.
owner_is() {
    assert_equal "$("$IMGLOCK" status -rn -o MODE,PID "$PWD/$IMAGE" | sed -n 's/^exclusive \([0-9]*\)$/\1/p')" "$1"
    run wrapped dd if=/dev/zero of="$IMAGE" bs=1 count=1 conv=notrunc status=none
    assert_failure
    assert_output --partial "$IMAGE: cannot open for writing: locked exclusively by qemu-system-x86 (pid $1, user "
}

hand_over() { # TO
    run --separate-stderr "$IMGLOCK" handoff "$IMAGE" --to "$1"
    assert_success
    assert_equal "$stderr" ""
    owner_is "$1"
}

migrate_until() {
    qmp source migrate '{"uri": "unix:migration"}'
    assert_equal "$(qmp source until pre-switchover failed)" pre-switchover
    owner_is "$SOURCE"
    [ "$1" != pre-switchover ] || return 0
    qmp source migrate-continue '{"state": "pre-switchover"}'
    assert_equal "$(qmp source until completed failed)" completed
    assert_equal "$(qmp target until completed failed)" completed
}

# writes NAME: the machine writes to its disk.
writes() {
    qmp "$1" human-monitor-command '{"command-line": "qemu-io -d guest \"write -P 7 64k 64k\""}' >written
    assert_equal "$(cat written)" '""'
}

quits() {
    qmp "$1" quit
    wait "${MACHINES[$1]}" || true
}

# nobody_slipped_in: until now; and neither machine was refused anything.
nobody_slipped_in() {
    kill "$STRANGER"
    wait "$STRANGER"
    local tries successes
    read -r tries successes < <(tail -n 1 stranger)
    ((tries >= 100)) || fail "only $tries tries"
    assert_equal "$successes" 0
    run cat source.err target.err
    refute_output --partial imglock:
}

# The sequence that the manual page recommends.
migration() { # FORMAT LOCKING
    new_image "$1"
    mapfile -t disk < <(blockdev "$1" "$2")
    two_machines "${disk[@]}"
    writes source
    migrate_until completed
    owner_is "$SOURCE"
    hand_over "$TARGET"
    qmp target cont
    assert_equal "$(qmp target until running)" running
    writes target
    quits source
    owner_is "$TARGET"
    writes target
    nobody_slipped_in
    quits target
    run wrapped qemu-img check "$IMAGE"
    [ "$1" = raw ] || assert_output --partial "No errors were found"
}

@test "qcow2, with QEMU's own locking: the lock follows the machine" {
    migration qcow2 auto
}

@test "qcow2, without QEMU's own locking: the lock follows the machine" {
    migration qcow2 off
}

@test "raw, with QEMU's own locking: the lock follows the machine" {
    migration raw auto
}

@test "raw, without QEMU's own locking: the lock follows the machine" {
    migration raw off
}

@test "handed over before the switch: the source ends its writes as an inactive one, and is not refused" {
    new_image qcow2
    mapfile -t disk < <(blockdev qcow2 auto)
    two_machines "${disk[@]}"
    migrate_until pre-switchover
    hand_over "$TARGET"
    qmp source migrate-continue '{"state": "pre-switchover"}'
    assert_equal "$(qmp source until completed failed)" completed
    owner_is "$TARGET"
    qmp target cont
    assert_equal "$(qmp target until running)" running
    quits source
    owner_is "$TARGET"
    writes target
    nobody_slipped_in
}

# At the switch the source opens the image read-only instead, and its lock is a shared one from then on.
@test "-drive, opened read-only at the switch: the shared lock is handed over as well" {
    new_image qcow2
    two_machines -drive "file=$IMAGE,format=qcow2,if=none,id=disk" -device ide-hd,drive=disk,id=guest
    # Readers would get in until the hand-over.
    nobody_slipped_in
    migrate_until completed
    hand_over "$TARGET"
    qmp target cont
    assert_equal "$(qmp target until running)" running
    writes target
    quits source
    owner_is "$TARGET"
}

@test "-drive, opened read-only at the switch: a source whose mode is exclusive keeps everybody out" {
    new_image qcow2
    SOURCE_MODE=exclusive two_machines -drive "file=$IMAGE,format=qcow2,if=none,id=disk" \
        -device ide-hd,drive=disk,id=guest
    migrate_until completed
    owner_is "$SOURCE"
    hand_over "$TARGET"
    qmp target cont
    assert_equal "$(qmp target until running)" running
    writes target
    quits source
    owner_is "$TARGET"
    nobody_slipped_in
}

@test "-drive, opened read-only at the switch: handed over before it" {
    new_image qcow2
    two_machines -drive "file=$IMAGE,format=qcow2,if=none,id=disk" -device ide-hd,drive=disk,id=guest
    migrate_until pre-switchover
    hand_over "$TARGET"
    qmp source migrate-continue '{"state": "pre-switchover"}'
    assert_equal "$(qmp source until completed failed)" completed
    owner_is "$TARGET"
    qmp target cont
    assert_equal "$(qmp target until running)" running
    writes target
    quits source
    owner_is "$TARGET"
    nobody_slipped_in
}

@test "the migration is cancelled: the lock stays with the source" {
    new_image qcow2
    mapfile -t disk < <(blockdev qcow2 auto)
    two_machines "${disk[@]}"
    migrate_until pre-switchover
    qmp source migrate_cancel
    assert_equal "$(qmp source until cancelled)" cancelled
    owner_is "$SOURCE"
    qmp source cont
    assert_equal "$(qmp source until running)" running
    writes source
    owner_is "$SOURCE"
    nobody_slipped_in
}

@test "the migration is cancelled after the hand-over: the lock goes back first" {
    new_image qcow2
    mapfile -t disk < <(blockdev qcow2 auto)
    two_machines "${disk[@]}"
    migrate_until pre-switchover
    hand_over "$TARGET"
    hand_over "$SOURCE"
    qmp source migrate_cancel
    assert_equal "$(qmp source until cancelled)" cancelled
    qmp source cont
    assert_equal "$(qmp source until running)" running
    writes source
    owner_is "$SOURCE"
    nobody_slipped_in
}

@test "the destination is killed before the hand-over: the source has the lock, and goes on" {
    new_image qcow2
    mapfile -t disk < <(blockdev qcow2 auto)
    two_machines "${disk[@]}"
    migrate_until completed
    kill -9 "$TARGET"
    wait "$TARGET" || true
    run "$IMGLOCK" handoff "$IMAGE" --to "$TARGET"
    assert_failure 1
    assert_output --partial "qemu-system-x86 (pid $SOURCE) holds the lock"
    owner_is "$SOURCE"
    qmp source cont
    assert_equal "$(qmp source until running)" running
    writes source
    nobody_slipped_in
}

@test "the destination is killed after the hand-over: activate gives the lock to the source" {
    new_image qcow2
    mapfile -t disk < <(blockdev qcow2 auto)
    two_machines "${disk[@]}"
    migrate_until completed
    hand_over "$TARGET"
    nobody_slipped_in
    kill -9 "$TARGET"
    wait "$TARGET" || true
    run "$IMGLOCK" activate "$IMAGE" --to "$SOURCE"
    assert_success
    owner_is "$SOURCE"
    qmp source cont
    assert_equal "$(qmp source until running)" running
    writes source
}

@test "a second machine that is not inactive is refused, as ever" {
    new_image qcow2
    mapfile -t disk < <(blockdev qcow2 off)
    machine source IMGLOCK_MODE=auto "${disk[@]}"
    run timeout 300 "$IMGLOCK" qemu-system-x86_64 -M none -display none -S "${disk[@]:0:4}"
    assert_failure
    assert_output --partial "$IMAGE: cannot open for writing: locked exclusively by qemu-system-x86 (pid ${MACHINES[source]}"
}
