#!/usr/bin/env bats
# shellcheck shell=bash disable=SC2016
# no_proc.bats: programs that see no /proc, as in a chroot or a sandbox: paths are found without it, and two programs are
# not taken for one.
load common
load calls

setup() {
    common_setup
    unshare --pid --fork --mount true 2>/dev/null || skip "no namespaces here"
    new_image
}

# without_proc [--pid] COMMAND...: the command, wrapped; --pid: as the first process of a PID namespace.
without_proc() {
    local spaces=(--mount)
    if [ "$1" = --pid ]; then
        spaces+=(--pid --fork --kill-child)
        shift
    fi
    unshare "${spaces[@]}" sh -c 'mount -t tmpfs none /proc && LD_PRELOAD=$SHIM exec "$@"' sh "$@"
}

# hold_without_proc [--pid] IMAGE: in the background.
hold_without_proc() {
    local spaces=()
    if [ "$1" = --pid ]; then
        spaces+=(--pid)
        shift
    fi
    mkfifo ready
    without_proc "${spaces[@]}" "$HELPERS/holder" write "$1" >ready 3>&- &
    HOLDERS+=("$!")
    local line
    read -r line <ready
    assert_equal "$line" ready
}

@test "two programs with the same pid, of which /proc tells nothing, are two" {
    hold_without_proc --pid disk.qcow2
    run without_proc --pid dd if=/dev/null of=disk.qcow2 conv=notrunc
    assert_failure 1
    assert_line --index 0 "imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder (pid 1, user $(id -un)) for 0 s; 'imglock -w 60' waits for it"
}

@test "a program that has /proc is told of a holder in another PID namespace" {
    mkfifo ready
    unshare --pid --fork --kill-child --mount-proc env LD_PRELOAD="$SHIM" "$HELPERS/holder" write disk.qcow2 >ready 3>&- &
    HOLDERS+=("$!")
    read -r _ <ready
    run calls open rw disk.qcow2
    assert_one_line "$PWD/disk.qcow2: cannot open for writing: locked exclusively by holder (pid 1, user $(id -un), in another PID namespace) for "
}

@test "an image by the number of its directory: opened, made, and removed with the directory" {
    mkdir -p one/two
    new_image one/two/disk.qcow2
    hold one/two/disk.qcow2 write
    local program='
import os, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
try:
    descriptor = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory)
except OSError as error:
    print(error.strerror)
else:
    print("ready", flush=True)
    os.read(0, 1)'
    # As deep as it is, and with a part of the path behind the number.
    local directory name
    while read -r directory name; do
        run without_proc python3 -c "$program" "$directory" "$name"
        assert_line 'Text file busy'
        assert_line --partial "$PWD/one/two/disk.qcow2: cannot truncate: locked exclusively by holder (pid $HOLDER"
    done <<<'one/two disk.qcow2
one two/disk.qcow2
one ../one/./two/disk.qcow2'
    run without_proc rm -r one/two
    assert_failure
    assert_output --partial "$PWD/one/two/disk.qcow2: cannot delete: locked exclusively by holder (pid $HOLDER"
    release
    # One that is made is locked as well.
    mkfifo go ready
    without_proc python3 -c "$program" one new.qcow2 <go >ready 3>&- &
    exec {GO}>go
    local line
    read -r line <ready
    assert_equal "$line" ready
    assert_locks one/new.qcow2 write
    exec {GO}>&-
    wait "$!"
    assert_locks one/new.qcow2 none
}

@test "a directory at a mount point, and one that lies outside of a chroot: named as /proc would name them" {
    needs_root
    mkdir -p one/two root
    local program='
import os, sys
inside = os.open("one/two", os.O_RDONLY)
os.close(os.open("disk.qcow2", os.O_RDWR | os.O_CREAT, 0o644, dir_fd=inside))
print(*os.listdir(os.environ["IMGLOCK_DIR"]))
os.chroot("root")
os.makedirs(os.environ["IMGLOCK_DIR"])
os.open("disk.qcow2", os.O_RDWR, dir_fd=inside)
print(*os.listdir(os.environ["IMGLOCK_DIR"]))'
    run unshare --mount sh -c 'mount -t tmpfs none one/two && mount -t tmpfs none /proc &&
        LD_PRELOAD=$SHIM exec python3 -c "$0"' "$program"
    assert_success
    local name
    name=$(sha1_name "$PWD/one/two/disk.qcow2")
    assert_output "$name"$'\n'"$name"
}

@test "an image that a wrapped program hands down keeps its name and its lock" {
    run without_proc sh -c 'cat disk.qcow2 >copy; exec 5<>disk.qcow2; cat <&5 | cmp - copy && cat <disk.qcow2 | cmp - copy'
    assert_success
    assert_output ''
    assert_locks disk.qcow2 none
    hold_without_proc disk.qcow2
    run without_proc sh -c 'cat <disk.qcow2'
    assert_failure
    assert_output --partial "$PWD/disk.qcow2: cannot open for reading: locked exclusively by holder (pid "
}

@test "an image that is handed down beside its lock stays locked in the program that it is handed to" {
    truncate -s 1M other.img
    mkfifo ready
    without_proc sh -c 'exec 5<>disk.qcow2; exec "$HELPERS/holder" write other.img >ready' 3>&- &
    HOLDERS+=("$!")
    read -r _ <ready
    assert_locks disk.qcow2 write
    pkill -P "$!"
    wait "$!" || true
    assert_locks disk.qcow2 none
    # And goes when that program closes it.
    run without_proc sh -c 'exec 5<>disk.qcow2; exec sh -c "exec 5>&-; \"\$HELPERS/lock_query\" \"$1\""' sh "$(lock_file disk.qcow2)"
    assert_output ''
}
