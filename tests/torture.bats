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

@test "every system call of the library fails once: no half state, no lost lock, one line" {
    truncate -s 1M disk.img
    run timeout 600 "$HELPERS/faults" "$HELPERS/libimglock-fault.so" "$BATS_TEST_TMPDIR" "$(lock_file disk.img)"
    assert_success
    assert_output --partial " 0 failed"
    assert_every_lock_free
}
