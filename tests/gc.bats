#!/usr/bin/env bats
# imglock gc: removes idle lock files.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    GC=()
}

# idle IMAGE...: leaves a lock file that nobody uses.
idle() {
    local image
    for image in "$@"; do "$IMGLOCK" hold "$image" -- true; done
}

@test "idle lock files are removed, and those in use stay" {
    idle a.img b.img disk.img
    hold disk.img
    run "$IMGLOCK" gc
    assert_success
    assert_output "removed: 2, kept: 1, could not be removed: 0"
    assert [ ! -e "$(lock_file a.img)" ]
    assert [ ! -e "$(lock_file b.img)" ]
    assert [ -e "$(lock_file disk.img)" ]
    # The holder's lock is as good as before.
    run wrapped "$HELPERS/holder" write disk.img
    assert_failure
    assert_output --partial "locked exclusively by holder (pid $HOLDER"
    release
    run "$IMGLOCK" gc
    assert_success
    assert_output "removed: 1, kept: 0, could not be removed: 0"
    assert_equal "$(ls -A "$IMGLOCK_DIR")" ""
    # And the next lock makes its file anew.
    hold disk.img
    run "$IMGLOCK" status disk.img
    assert_success
}

@test "-v names each lock file, and the image where it is told" {
    local name=$'e\e[31m.img'
    idle a.img "$name"
    hold disk.img
    run "$IMGLOCK" gc -v
    assert_success
    assert_line "removed $(lock_file a.img) ($PWD/a.img)"
    assert_line "removed $(lock_file "$name") ($PWD/e\\x1b[31m.img)"
    assert_line "kept $(lock_file disk.img) ($PWD/disk.img): in use"
}

@test "--dry-run says what would happen, and removes nothing" {
    local before
    idle a.img b.img
    hold disk.img
    before=$(ls -A "$IMGLOCK_DIR")
    for option in -n --dry-run; do
        run "$IMGLOCK" gc "$option" -v
        assert_success
        assert_line "would remove $(lock_file a.img) ($PWD/a.img)"
        assert_line "would be removed: 2, kept: 1, could not be removed: 0"
        assert_equal "$(ls -A "$IMGLOCK_DIR")" "$before"
    done
}

@test "a lock file is in use whatever byte of it is locked, and however" {
    # exclusive, shared, half, the gate, a descendant's, a blocker's, a slot, a far one, the whole; with F_SETLK
    for range in x:0:2 s:0:2 s:1:1 x:2:1 s:4:2 s:20:1 s:1024:1 s:1000000:1 s:0:0 px:0:2 ps:0:0; do
        idle disk.img
        background "$HELPERS/status_lock" "$(lock_file disk.img)" "$range"
        run "$IMGLOCK" gc
        assert_equal "$range: $status $output" "$range: 0 removed: 0, kept: 1, could not be removed: 0"
        assert [ -e "$(lock_file disk.img)" ]
        kill "$HOLDER"
        wait "$HOLDER" 2>/dev/null || true
    done
    run "$IMGLOCK" gc
    assert_output "removed: 1, kept: 0, could not be removed: 0"
}

@test "what was let through with a warning keeps the lock file" {
    hold disk.img
    local locked=$HOLDER
    IMGLOCK_ON_CONFLICT=warn hold disk.img
    kill "$locked"
    wait "$locked" 2>/dev/null || true
    run "$IMGLOCK" gc
    assert_output "removed: 0, kept: 1, could not be removed: 0"
}

@test "nothing is removed that is no lock file" {
    local zeros=0000000000000000000000000000000000000 before kept
    cd "$IMGLOCK_DIR"
    touch ../target .qemu-.lock .qemu-xyz.lock ".qemu-${zeros}00.lock" ".qemu-${zeros}0000.lock" \
        ".qemu-${zeros}00A.lock" ".qemu-${zeros}00g.lock" ".qemu-${zeros}000.lock~" "qemu-${zeros}000.lock" \
        ".qemu-${zeros}000.who" file
    mkfifo ".qemu-${zeros}000.lock"
    ln -s ../target ".qemu-${zeros}001.lock"
    mkdir ".qemu-${zeros}002.lock"
    touch ".qemu-${zeros}003.lock"
    ln ".qemu-${zeros}003.lock" ".qemu-${zeros}004.lock"
    ln -s missing ".qemu-${zeros}005.lock"
    python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' ".qemu-${zeros}006.lock" || touch none
    before=$(ls -A)
    run timeout 300 "$IMGLOCK" gc -v
    assert_success
    assert_equal "$(ls -A)" "$before"
    assert [ -e ../target ]
    kept=$(find . -name ".qemu-${zeros}00[0-9].lock" | wc -l)
    assert_line "removed: 0, kept: $kept, could not be removed: 0"
    assert_line "kept $IMGLOCK_DIR/.qemu-${zeros}003.lock: it has a second hard link"
    assert_line "kept $IMGLOCK_DIR/.qemu-${zeros}001.lock: it is no regular file"
}

@test "a file of somebody else with the name of a lock file stays, and an empty one goes" {
    local zeros=0000000000000000000000000000000000000
    echo 'my notes' >"$IMGLOCK_DIR/.qemu-${zeros}000.lock"
    touch "$IMGLOCK_DIR/.qemu-${zeros}001.lock"
    run "$IMGLOCK" gc -v
    assert_success
    assert_line "kept $IMGLOCK_DIR/.qemu-${zeros}000.lock: it is not imglock's"
    assert_line "removed: 1, kept: 1, could not be removed: 0"
    assert_equal "$(cat "$IMGLOCK_DIR/.qemu-${zeros}000.lock")" 'my notes'
}

@test "a lock file that this user may not remove is counted, not locked, and the status is 1" {
    needs_root
    idle a.img
    install -m 600 /dev/null "$(lock_file b.img)"
    chmod 666 disk.img
    "${NOBODY[@]}" env LD_PRELOAD="$SHIM" dd if=disk.img of=/dev/null status=none
    run "${NOBODY[@]}" "$IMGLOCK" gc -v
    assert_equal "$status" 1
    assert_line "removed: 1, kept: 0, could not be removed: 2"
    assert_line "cannot remove $(lock_file a.img) ($PWD/a.img): this user may not remove it"
    assert_line "cannot remove $(lock_file b.img): Permission denied"
    assert_line "removed $(lock_file disk.img) ($PWD/disk.img)"
    assert [ -e "$(lock_file a.img)" ]
}

@test "mistakes are errors" {
    run "$IMGLOCK" gc disk.img
    assert_equal "$status" 125
    IMGLOCK_DIR=$PWD/none run "$IMGLOCK" gc
    assert_equal "$status" 125
    assert_output --partial "none: No such file or directory"
    IMGLOCK_WAIT=maybe run "$IMGLOCK" gc
    assert_equal "$status" 125
    run "$IMGLOCK" gc --no-such-option
    assert_equal "$status" 125
    run sh -c '"$0" gc >/dev/full' "$IMGLOCK"
    assert_equal "$status" 125
}

gate_is_held() { [ "$("$HELPERS/probe" "$(lock_file disk.img)" 2)" = exclusive ]; }

@test "a waiting program gets its lock, though gc runs meanwhile" {
    local line='' locked
    hold disk.img
    locked=$HOLDER
    mkfifo ready
    IMGLOCK_WAIT=200 LD_PRELOAD=$SHIM "$HELPERS/holder" write disk.img >ready 2>/dev/null 3>&- </dev/null &
    HOLDERS+=($!)
    exec 7<ready
    # It waits once it holds the gate.
    eventually gate_is_held
    run "$IMGLOCK" gc
    assert_output "removed: 0, kept: 1, could not be removed: 0"
    kill "$locked"
    for _ in $(seq 20); do "$IMGLOCK" gc >>gc.out; done
    read -r -t 120 line <&7
    assert_equal "$line" ready
    assert_equal "$("$HELPERS/probe" "$(lock_file disk.img)")" exclusive
}

# gc_in_a_loop COUNT: so many run gc all the time, until stop_gc, which sets REMOVED to the number of lock files removed.
gc_in_a_loop() {
    local i
    for ((i = 0; i < $1; i++)); do
        sh -c 'while :; do "$0" gc; done' "$IMGLOCK" >"gc.$i" 3>&- &
        HOLDERS+=($!)
        GC+=($!)
    done
}
# removed_often: the loops have removed the lock file twenty times, and say so.
removed_often() { [ "$(cat gc.* | awk -F'[ ,]' '{sum += $2} END {print sum + 0}')" -ge 20 ]; }
stop_gc() {
    kill "${GC[@]}"
    wait "${GC[@]}" 2>/dev/null || true
    REMOVED=$(cat gc.* | awk -F'[ ,]' '{sum += $2} END {print sum + 0}')
    echo "removed: $REMOVED"
}

@test "gc in a loop beside the torture run: no image has two owners" {
    export IMGLOCK_LOG=quiet
    gc_in_a_loop 1
    run timeout $((${TORTURE_SECONDS:-8} + 300)) "$HELPERS/torture" "${TORTURE_SECONDS:-8}" "${TORTURE_SEED:-1}" "$SHIM" "$BATS_TEST_TMPDIR"
    stop_gc
    echo "$output"
    assert_success
    assert_output --partial " 0 violations"
    run "$IMGLOCK" gc
    assert_output --partial "kept: 0, could not be removed: 0"
}

@test "gc in a loop beside processes that take turns: the lock file is removed often, and no image has two owners" {
    export IMGLOCK_LOG=quiet
    # Before there is the descriptor that nobody but this shell may have.
    gc_in_a_loop 3
    mkfifo go
    LD_PRELOAD=$SHIM "$HELPERS/status_turns" 3 disk.img <go >turns 3>&- &
    local turns=$!
    HOLDERS+=("$turns")
    exec {GO}>go
    eventually removed_often
    exec {GO}>&-
    wait "$turns"
    stop_gc
    cat turns
    grep -q ', violations 0$' turns
}
