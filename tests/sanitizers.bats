#!/usr/bin/env bats
# The library built with the sanitizers, and the ordinary one under valgrind, while threads and processes work on images.

load common

setup_file() {
    cd "$BATS_TEST_DIRNAME/.."
    make -s BUILD=build/asan build/asan/libimglock.so \
        CFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer'
    make -s BUILD=build/tsan build/tsan/libimglock.so CFLAGS='-O1 -g -fsanitize=thread'
    gcc -std=gnu11 -D_GNU_SOURCE -O1 -g -fsanitize=thread -o build/tsan/hammer tests/helpers/hammer.c
}

sanitized() {
    local address undefined
    address=$(gcc -print-file-name=libasan.so)
    undefined=$(gcc -print-file-name=libubsan.so)
    ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$address $undefined $TOP/build/asan/libimglock.so" "$@"
}

assert_every_lock_free() {
    local file
    for file in "$IMGLOCK_DIR"/.qemu-*.lock; do
        assert [ -e "$file" ] # one at least
        assert_equal "$("$HELPERS/probe" "$file")" free
    done
}

@test "AddressSanitizer and UndefinedBehaviorSanitizer: threads that open, dup, fork and close" {
    run sanitized timeout -k 5 300 "$HELPERS/hammer" 1000 fork
    assert_success
    assert_output done
    assert_every_lock_free
}

@test "AddressSanitizer and UndefinedBehaviorSanitizer: refusals, waits, bad settings, garbage records" {
    truncate -s 1M disk.img
    hold disk.img write
    # Garbage in the records that a refusal reads.
    printf 'sum=%0200d' 7 | dd of="$(lock_file disk.img)" bs=1 seek=4096 conv=notrunc status=none
    run sanitized cat disk.img
    assert_failure
    assert_output --partial "imglock: $BATS_TEST_TMPDIR/disk.img: cannot open for reading: locked"
    refute_output --partial Sanitizer
    IMGLOCK_WAIT=0.05 run sanitized cat disk.img
    assert_failure
    refute_output --partial Sanitizer
    IMGLOCK_RULES=':::=[' run sanitized cat disk.img
    assert_failure
    assert_output --partial IMGLOCK_RULES
    refute_output --partial Sanitizer
}

@test "AddressSanitizer and UndefinedBehaviorSanitizer: the torture run" {
    IMGLOCK_LOG=quiet ASAN_OPTIONS=detect_leaks=0 run timeout -k 5 300 "$HELPERS/torture" 4 7 \
        "$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so) $TOP/build/asan/libimglock.so" "$BATS_TEST_TMPDIR"
    assert_success
    refute_output --partial Sanitizer
}

# Without forks: ThreadSanitizer hangs in the child of a process with threads.
@test "ThreadSanitizer: threads that open, dup and close" {
    LD_PRELOAD=$TOP/build/tsan/libimglock.so run timeout -k 5 300 "$TOP/build/tsan/hammer" 300
    assert_success
    refute_output --partial "WARNING: ThreadSanitizer"
}

@test "valgrind: threads that open, dup and close" {
    LD_PRELOAD=$SHIM run timeout -k 5 600 valgrind -q --error-exitcode=9 --trace-children=no "$HELPERS/hammer" 100 fork
    assert_success
    refute_output --partial "=="
}

# The dynamic linker has relocated the addresses in its dynamic section; valgrind loads a program at 0x108000, where such
# an address may be taken for one that is still to be relocated.
@test "valgrind: a program that is larger than the address it is loaded at" {
    image=$BATS_TEST_TMPDIR/x.qcow2
    qemu-img create -q -f qcow2 "$image" 1M
    LD_PRELOAD=$SHIM run timeout -k 5 600 valgrind -q --error-exitcode=9 qemu-img info "$image"
    assert_success
    assert_output --partial "file format: qcow2"
    refute_output --partial "=="
}
