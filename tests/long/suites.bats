#!/usr/bin/env bats
# Other programs' own test suites and stressors: bare, wrapped, and wrapped with every regular file tracked.  The results have to be
# the same.  Takes some minutes: make test-long.

bats_load_library bats-support
bats_load_library bats-assert

setup() {
    TOP=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    SHIM=$TOP/build/libimglock.so
    # Quiet, since the suites' own output is what is compared.
    export LC_ALL=C.UTF-8 IMGLOCK_LOG=quiet
    # Where a suite's child that became another user can reach it, too.
    IMGLOCK_DIR=$(mktemp -d /tmp/imglock-suites.XXXXXX)
    export IMGLOCK_DIR
    chmod 1777 "$IMGLOCK_DIR"
    cd "$BATS_TEST_TMPDIR" || return
}

teardown() {
    rm -rf "$IMGLOCK_DIR"
}

# in_three_ways COMMAND...: runs it bare, wrapped and tracked; its results, one line each, have to be the same.
in_three_ways() {
    "$@" >bare 2>bare.err
    LD_PRELOAD=$SHIM "$@" >wrapped 2>wrapped.err
    assert_equal "$(cat wrapped)" "$(cat bare)"
    LD_PRELOAD=$SHIM IMGLOCK_IMAGES='+*' IMGLOCK_ON_CONFLICT=warn "$@" >tracked 2>tracked.err
    assert_equal "$(cat tracked)" "$(cat bare)"
    # The third way has to have tracked something.
    [ "$(find "$IMGLOCK_DIR" -name '.qemu-*.lock' | wc -l)" -gt 50 ]
}

cpython_results() {
    /usr/bin/python3 -m test -v "test_$1" 2>&1 | sed -n -E 's/^(test[^ ]* \([^)]*\)).* \.\.\. (ok|FAIL|ERROR|skipped.*|expected failure)$/\1 \2/p' |
        sed 's/skipped.*/skipped/' | sort
}

@test "CPython's own tests" {
    local name
    for name in os posix subprocess io fileio file mmap fcntl; do
        find "$IMGLOCK_DIR" -name '.qemu-*.lock' -delete
        cpython_results "$name" >bare
        [ "$(wc -l <bare)" -gt 5 ]
        LD_PRELOAD=$SHIM cpython_results "$name" >wrapped
        diff bare wrapped
        LD_PRELOAD=$SHIM IMGLOCK_IMAGES='+*' IMGLOCK_ON_CONFLICT=warn cpython_results "$name" >tracked
        diff bare tracked
        [ -n "$(find "$IMGLOCK_DIR" -name '.qemu-*.lock')" ]
    done
}

glib_results() {
    local folder=/usr/libexec/installed-tests/glib name status
    for name in file fileutils io-channel io-stream mappedfile keyfile dir g-file g-file-info filter-streams \
        buffered-input-stream converter-stream gsubprocess spawn-multithreaded spawn-singlethread spawn-test unix unix-fd \
        unix-streams pollable; do
        status=0
        G_TEST_SRCDIR=$folder G_TEST_BUILDDIR=$folder timeout 100 "$folder/$name" >one 2>&1 || status=$?
        echo "$name: status $status, $(grep -c '^ok' one || true) ok, $(grep -c '^not ok' one || true) not ok"
    done
}

@test "GLib's own tests of files, descriptors, spawning and streams" {
    in_three_ways glib_results
}

stress_results() {
    local name status
    for name in open close dup fork vfork exec dev file-ioctl fd-fork fcntl; do
        status=0
        timeout 60 stress-ng --temp-path "$BATS_TEST_TMPDIR" "--$name" 2 -t 3 >one 2>&1 || status=$?
        echo "$name: $status"
    done
}

@test "stress-ng: open, close, dup, fork, vfork, exec, dev, file-ioctl, fd-fork, fcntl" {
    in_three_ways stress_results
}
