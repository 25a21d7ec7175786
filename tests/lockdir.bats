#!/usr/bin/env bats
# lockdir.bats: the lock directory when it fails, and when somebody attacks it.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031,SC2153

load common
load calls

PROTECTED=/proc/sys/fs/protected_regular

setup() {
    common_setup
    new_image
    LOCK=$(lock_file disk.qcow2)
    BEFORE=$(fingerprint disk.qcow2)
    PROTECTED_BEFORE=$(cat "$PROTECTED")
}

teardown() {
    common_teardown
    umount "$BATS_TEST_TMPDIR/small" 2>/dev/null || true
    [ "$(cat "$PROTECTED")" = "$PROTECTED_BEFORE" ] || echo "$PROTECTED_BEFORE" >"$PROTECTED"
}

# refused_for PART...: an open for writing, one for reading and one that truncates are refused with ENOLCK, each with
# one line that names the image and has the parts; the image stays as it was.  CALLS makes them, "calls" if unset.
refused_for() {
    local how
    for how in 'open rw' 'open r' creat 'fopen w'; do
        # shellcheck disable=SC2086 # the words of the operation
        run ${CALLS:-calls} $how disk.qcow2
        assert_failure 1
        assert_output --partial ': ENOLCK'
        assert_one_line "imglock: $PWD/disk.qcow2: cannot " "$@"
        refute_output --partial 'names another'
    done
    assert_equal "$(fingerprint disk.qcow2)" "$BEFORE"
}

# tmpfs OPTIONS: a small file system of that kind becomes the lock directory.
tmpfs() {
    mkdir -p small
    mount -t tmpfs -o "mode=1777,$1" tmpfs small 2>/dev/null || skip "no mounts here"
    export IMGLOCK_DIR=$PWD/small
    LOCK=$(lock_file disk.qcow2)
}

# ---- it fails --------------------------------------------------------------------------------------------------------

@test "a lock directory that does not exist" {
    export IMGLOCK_DIR=$PWD/none
    refused_for "cannot create the lock file $(lock_file disk.qcow2): No such file or directory" \
        'the lock directory has to exist'
    [ ! -e none ]
}

@test "a lock directory that is a file" {
    touch file
    export IMGLOCK_DIR=$PWD/file
    refused_for "$(lock_file disk.qcow2): Not a directory" 'the lock directory has to exist'
}

@test "a lock directory on a file system that is read-only" {
    tmpfs size=64k,ro
    refused_for "cannot create the lock file $LOCK: Read-only file system"
}

@test "a lock file on a file system that has become read-only: shared locks still work, exclusive ones do not" {
    needs_root
    tmpfs size=64k
    calls open rw disk.qcow2 >out
    mount -o remount,ro small
    begin open r disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'open: 3'
    assert_equal "$(locks disk.qcow2)" 'read 0-1'
    next_step
    run calls open rw disk.qcow2
    assert_line 'open: ENOLCK'
    assert_one_line "$PWD/disk.qcow2: cannot open for writing: " "$LOCK"
    assert_equal "$(fingerprint disk.qcow2)" "$BEFORE"
}

@test "a lock directory without an inode left" {
    tmpfs size=64k,nr_inodes=2
    touch small/last 2>/dev/null || true
    run touch small/none
    assert_failure
    refused_for "cannot create the lock file $LOCK: No space left on device"
}

@test "a lock directory without a byte left: the lock holds, without its record" {
    tmpfs size=4k
    head -c 4096 /dev/zero >small/full
    begin open rw disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'open: 3'
    assert_equal "$(locks disk.qcow2 | head -n 1)" 'write 0-1'
    assert_equal "$(stat -c %b "$LOCK")" 0
    run calls open r disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/disk.qcow2: cannot open for reading: locked "
    assert_equal "$(fingerprint disk.qcow2)" "$BEFORE"
}

@test "a lock directory that a user may not write to, or not even enter" {
    needs_root
    chmod 666 disk.qcow2
    BEFORE=$(fingerprint disk.qcow2)
    chmod 755 "$IMGLOCK_DIR"
    CALLS=nobody_calls refused_for "cannot create the lock file $LOCK: Permission denied"
    chmod 700 "$IMGLOCK_DIR"
    CALLS=nobody_calls refused_for "cannot open the lock file $LOCK: Permission denied"
}

@test "a file system that gives no locks" {
    local error
    for error in ENOLCK EINVAL ENOSYS EOPNOTSUPP EIO; do
        CALLS="calls fail lock $error ," refused_for "gives no lock" "$LOCK"
    done
}

@test "running out of descriptors while the lock is taken is EMFILE or ENFILE, and says so" {
    run calls leave 1 , open rw disk.qcow2
    assert_line 'open: EMFILE'
    assert_one_line "$PWD/disk.qcow2: cannot open for writing: cannot open the lock file $LOCK: Too many open files"
    run calls fail lock-file ENFILE , open rw disk.qcow2
    assert_line 'open: ENFILE'
    assert_one_line \
        "$PWD/disk.qcow2: cannot open for writing: cannot open the lock file $LOCK: Too many open files in system"
    assert_equal "$(fingerprint disk.qcow2)" "$BEFORE"
    # With none left at all it is the program's own failure.
    run calls leave 0 , open rw disk.qcow2
    assert_line 'open: EMFILE'
    assert_silent
    # With two there is one for the image and one for its lock.
    begin leave 2 , open rw disk.qcow2 , step
    assert_line 'open: EMFILE'
    assert_locks disk.qcow2 write
}

@test "IMGLOCK_ON_ERROR=allow lets all of these through, with the line" {
    export IMGLOCK_ON_ERROR=allow
    IMGLOCK_DIR=$PWD/none run calls open rw disk.qcow2 , close 3 , fopen r disk.qcow2
    assert_success
    assert_equal "$(grep -c "^imglock: $PWD/disk.qcow2: cannot open for .*: No such file" <<<"$output")" 2
    run calls fail lock ENOLCK , open rw disk.qcow2
    assert_success
    assert_one_line 'gives no lock'
    rm "$LOCK"
    mkfifo "$LOCK"
    run calls open rw disk.qcow2
    assert_success
    assert_one_line 'no regular file'
    # A conflict is no error.
    rm "$LOCK"
    hold disk.qcow2 write
    run calls open r disk.qcow2
    assert_line 'open: ETXTBSY'
}

# ---- it is attacked --------------------------------------------------------------------------------------------------

@test "a symbolic link at the lock's name is not followed" {
    echo precious >victim
    local before
    before=$(fingerprint victim)
    ln -s "$PWD/victim" "$LOCK"
    refused_for "the lock file is a symbolic link" "$LOCK" 'have its owner remove it'
    assert_equal "$(fingerprint victim)" "$before"
    assert_equal "$("$HELPERS/lock_query" victim)" ''
    rm "$LOCK"
    ln -s "$PWD/none" "$LOCK"
    refused_for "the lock file is a symbolic link" "$LOCK" 'have its owner remove it'
    [ ! -e none ]
    rm "$LOCK"
    ln -s "$LOCK" "$LOCK"
    refused_for "the lock file is a symbolic link" "$LOCK" 'have its owner remove it'
}

@test "a hard link at the lock's name is no lock file" {
    echo precious >victim
    ln victim "$LOCK"
    local before
    before=$(fingerprint victim)
    refused_for "the lock file has a second hard link $LOCK"
    assert_equal "$(fingerprint victim)" "$before"
}

@test "a FIFO at the lock's name makes nobody wait" {
    needs_root
    mkfifo "$LOCK"
    refused_for "the lock file is no regular file $LOCK" 'have its owner remove it'
    # With somebody at its other end neither.
    cat "$LOCK" >out &
    HOLDERS+=("$!")
    refused_for "the lock file is no regular file $LOCK"
    [ ! -s out ]
    # One that may only be read, which is where an open waits.
    rm "$LOCK"
    mkfifo -m 644 "$LOCK"
    chmod 666 disk.qcow2
    BEFORE=$(fingerprint disk.qcow2)
    CALLS=nobody_calls refused_for "the lock file is no regular file $LOCK"
}

@test "a directory, a socket and a device at the lock's name" {
    mkdir "$LOCK"
    refused_for "cannot open the lock file $LOCK: Is a directory" 'have its owner remove it'
    rmdir "$LOCK"
    (cd "$IMGLOCK_DIR" && /usr/bin/python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "${LOCK##*/}")
    refused_for "cannot open the lock file $LOCK: No such device or address" 'have its owner remove it'
    rm "$LOCK"
    mknod "$LOCK" c 1 3 2>/dev/null || skip "no devices here"
    refused_for "the lock file is no regular file $LOCK"
}

@test "another user's private file at the lock's name" {
    needs_root
    touch "$LOCK"
    chmod 600 "$LOCK"
    chmod 666 disk.qcow2
    BEFORE=$(fingerprint disk.qcow2)
    CALLS=nobody_calls refused_for "cannot open the lock file $LOCK: Permission denied; it belongs to user root"
    assert_equal "$(stat -c '%a %U %s' "$LOCK")" '600 root 0'
}

@test "a lock file that another user made, under fs.protected_regular 0, 1 and 2" {
    local level
    (echo "$PROTECTED_BEFORE" >"$PROTECTED") 2>/dev/null || skip "$PROTECTED cannot be set here"
    chmod 666 disk.qcow2
    for level in 0 1 2; do
        echo "$level" >"$PROTECTED"
        # The kernel's rule is for sticky directories that belong to neither of the two.
        chown daemon "$IMGLOCK_DIR"
        rm -f "$LOCK"
        run nobody_calls open rw disk.qcow2
        assert_success
        assert_equal "$(stat -c %U "$LOCK")" nobody
        hold disk.qcow2 write
        run nobody_calls open r disk.qcow2
        assert_line 'open: ETXTBSY'
        assert_one_line "locked exclusively by holder (pid $HOLDER, user $(id -un))"
        release
        run calls open rw disk.qcow2
        assert_success
        assert_silent
    done
    echo 2 >"$PROTECTED"
    # The case exists: an open with O_CREAT fails here, for root, too.
    run bare_calls open rw+creat "$LOCK"
    assert_line 'open: EACCES'
}

@test "what the records say is printed as text that nobody trusts" {
    hold disk.qcow2 read
    # The holder itself rewrites its record: a forged command with a terminal's escape sequence.
    printf 'sum=........ pid=1 cmd=\033[2J' | dd of="$LOCK" bs=1 seek=4096 conv=notrunc status=none
    run calls open rw disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line 'locked shared by a program that left no record of itself'
    refute_output --partial $'\033'
}
