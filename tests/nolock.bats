#!/usr/bin/env bats
# nolock.bats: mode nolock, what the option -L was to qemu-img, qemu-io and qemu-nbd.

# Each test runs in a subshell of its own, which is meant:
# shellcheck disable=SC2030,SC2031

load common
load clients
load modes

setup() {
    common_setup
    mkdir work
    cd work || return
    qemu-img create -q -f qcow2 disk.qcow2 4M
}

# through COMMAND...: imglock --mode nolock; it succeeds and says nothing of its own.
through() {
    run "$IMGLOCK" --mode nolock "$@"
    assert_success
    refute_output --partial imglock:
}

# assert_nobody_locked: there is not so much as a lock file.
assert_nobody_locked() { assert_equal "$(find "$IMGLOCK_DIR" -type f)" ""; }

@test "imglock --mode nolock qemu-img takes no lock and leaves no record" {
    through qemu-img info disk.qcow2
    through qemu-img resize disk.qcow2 8M
    through qemu-img create -q -f qcow2 new.qcow2 1M
    through qemu-img convert -O raw disk.qcow2 copy.raw
    through qemu-io -c 'write -q 0 64k' disk.qcow2
    assert_nobody_locked
    # While it runs, too.
    begins "$IMGLOCK" --mode nolock python3 -c 'image = open("disk.qcow2", "r+b"); print("open", flush=True); input()'
    wait_until grep -q open ../stdout
    assert_nobody_locked
    hold disk.qcow2 write
    release
    says quit
    ends 0
    # QEMU's own lock is there all the same, and counts as a stranger's.
    begins "$IMGLOCK" --mode nolock qemu-io disk.qcow2
    says 'write 0 64k'
    wait_until grep -q wrote ../stdout
    run wrapped "$HELPERS/holder" write disk.qcow2
    assert_failure
    assert_line --index 0 --partial "in use by qemu-io (pid $CLIENT, user root): QEMU's own lock: writes, shares nothing"
    says quit
    ends 0
}

@test "imglock --mode nolock qemu-img beside a writer" {
    hold disk.qcow2 write
    through qemu-img info disk.qcow2
    through qemu-img resize disk.qcow2 8M
    through qemu-io -c 'write -q 0 64k' disk.qcow2
    through qemu-img create -q -f qcow2 disk.qcow2 1M
    assert_equal "$("$HELPERS/mode_seen" "$(lock_file disk.qcow2)" "$HOLDER")" "exclusive exclusive"
    run "$IMGLOCK" qemu-img info disk.qcow2
    assert_failure
}

@test "the guard leaves the image alone: truncate, mv and rm of a held image" {
    hold disk.qcow2 write
    run "$IMGLOCK" truncate -s 8M disk.qcow2
    assert_failure
    run "$IMGLOCK" mv disk.qcow2 other.qcow2
    assert_failure
    run "$IMGLOCK" rm -f disk.qcow2
    assert_failure
    through truncate -s 8M disk.qcow2
    through mv disk.qcow2 other.qcow2
    through mv other.qcow2 disk.qcow2
    through rm disk.qcow2
    [ ! -e disk.qcow2 ]
}

@test "so by IMGLOCK_RULES for one image, and not for the others" {
    cp disk.qcow2 other.qcow2
    hold disk.qcow2 write
    hold other.qcow2 write
    export IMGLOCK_RULES='*/disk.qcow2=nolock'
    opens read-write disk.qcow2
    assert_equal "$OPENED, $(seen disk.qcow2)" "writes, exclusive unseen"
    closes
    opens read-write other.qcow2
    assert_equal "$OPENED" "refused ETXTBSY"
    closes
    run wrapped rm other.qcow2
    assert_failure
    run wrapped rm disk.qcow2
    assert_success
    # It may not take the place of an image that somebody holds.
    qemu-img create -q -f qcow2 disk.qcow2 1M
    run wrapped mv disk.qcow2 other.qcow2
    assert_failure
}
