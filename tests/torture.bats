#!/usr/bin/env bats
# Many processes, random steps, random kills; and every system call of the library failing once.
# TORTURE_SECONDS and TORTURE_SEED in the environment make the run longer, or the same again.

load common

assert_every_lock_free() {
    local file
    for file in "$IMGLOCK_DIR"/.qemu-*.lock; do
        assert [ -e "$file" ] # one at least
        assert_equal "$("$HELPERS/probe" "$file")" free
    done
}

@test "torture: sixteen groups of processes, killed at random, never meet in an image" {
    IMGLOCK_LOG=quiet run timeout $((${TORTURE_SECONDS:-20} + 300)) \
        "$HELPERS/torture" "${TORTURE_SECONDS:-20}" "${TORTURE_SEED:-1}" "$SHIM" "$BATS_TEST_TMPDIR"
    echo "$output"
    assert_success
    assert_output --partial " 0 violations"
    assert_every_lock_free
}

@test "torture: without the library the same run finds violations" {
    # The oracle has to be able to see them.
    printf '' | gcc -shared -fPIC -x c -o empty.so -
    IMGLOCK_LOG=quiet run timeout 300 "$HELPERS/torture" 5 "${TORTURE_SEED:-1}" "$BATS_TEST_TMPDIR/empty.so" "$BATS_TEST_TMPDIR"
    assert_failure
    refute_output --partial " 0 violations"
}

@test "torture: families of helpers, generations and daemons, beside lies and killed hand-overs" {
    # IMGLOCK_LOG=quiet: the refusals are the oracle's to judge.
    IMGLOCK_LOG=quiet run timeout $((${TORTURE_SECONDS:-20} + 300)) "$HELPERS/torture_relatives" \
        "${TORTURE_SECONDS:-20}" "${TORTURE_SEED:-1}" "$SHIM" "$IMGLOCK" "$BATS_TEST_TMPDIR"
    echo "$output"
    assert_success
    assert_output --partial " 0 violations, 0 wrong refusals"
    assert_every_lock_free
}

@test "torture: without the library the families meet strangers" {
    printf '' | gcc -shared -fPIC -x c -o empty.so -
    IMGLOCK_LOG=quiet run timeout 300 "$HELPERS/torture_relatives" \
        5 "${TORTURE_SEED:-1}" "$BATS_TEST_TMPDIR/empty.so" "$IMGLOCK" "$BATS_TEST_TMPDIR"
    assert_failure
    assert_output --regexp '[1-9][0-9]* violations'
}

@test "torture: beside a writer with QEMU's locks and a static one that knows of none" {
    IMGLOCK_LOG=quiet run timeout $((${TORTURE_SECONDS:-8} + 300)) "$HELPERS/torture_outside" \
        "${TORTURE_SECONDS:-8}" "${TORTURE_SEED:-1}" "$SHIM" "$HELPERS/torture_static" "$BATS_TEST_TMPDIR"
    echo "$output"
    assert_success
    assert_output --partial " 0 violations"
    assert_every_lock_free
}

@test "torture: without the library they meet those outside" {
    printf '' | gcc -shared -fPIC -x c -o empty.so -
    IMGLOCK_LOG=quiet run timeout 300 "$HELPERS/torture_outside" \
        5 "${TORTURE_SEED:-1}" "$BATS_TEST_TMPDIR/empty.so" "$HELPERS/torture_static" "$BATS_TEST_TMPDIR"
    assert_failure
    assert_output --regexp '[1-9][0-9]* violations'
}

# fails_in_places SHARES WHO [COMMAND...]: each place of the library that an operation comes through has failed, while the
# command has the image.  So many run side by side, each with an image of its own: mostly they wait.
fails_in_places() {
    local shares=$1 who=$2 share pids=()
    shift 2
    for ((share = 0; share < shares; share++)); do
        mkdir "$share"
        cd "$share" || return
        truncate -s 64K disk.img
        # So it can be taken away, and stays what others have.
        ln disk.img kept.img
        [ $# = 0 ] || background "$@"
        timeout 600 env LD_PRELOAD="$HELPERS/libimglock-fault.so" \
            "$HELPERS/fault_places" "$who" "$(lock_file disk.img)" "$share" "$shares" >../"said.$share" 2>&1 3>&- &
        pids+=("$!")
        HOLDERS+=("$!")
        cd ..
    done
    for ((share = 0; share < shares; share++)); do
        wait "${pids[share]}" || fail "$(cat "said.$share")"
        grep -q ' 0 failed' "said.$share"
    done
    cat said.*
}

@test "every system call fails, wherever it is made: nobody else has the image" {
    fails_in_places 1 ALONE
}

@test "every system call fails, wherever it is made: a static program writes to the image" {
    fails_in_places 6 OUTSIDER "$HELPERS/outsider" write disk.img
}

@test "every system call fails, wherever it is made: somebody has QEMU's locks on the image" {
    # By a description for reading, which the count does not find.
    fails_in_places 12 MARKED python3 -c '
import fcntl, os, struct, time
image = os.open("disk.img", os.O_RDONLY)
for start, length in ((100, 4), (201, 3)):
    fcntl.fcntl(image, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))
print("ready", flush=True)
time.sleep(1000)'
}

@test "every system call of the library fails once: no half state, no lost lock, one line" {
    truncate -s 1M disk.img
    run timeout 600 "$HELPERS/faults" "$HELPERS/libimglock-fault.so" "$BATS_TEST_TMPDIR" "$(lock_file disk.img)"
    assert_success
    assert_output --partial " 0 failed"
    assert_every_lock_free
}
