# shellcheck shell=bash
# Threads, signal handlers and cancellation: no lock is lost, none is left, nothing hangs.
bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    LOCK_FILE=$(lock_file disk.img)
    export LOCK_FILE
}

# in_the_midst CASE: something happens just before or just after the kernel closes an image.
in_the_midst() {
    BEHIND=$HELPERS/closing_hook run helper closing "$1" disk.img
    assert_success
    assert_output ""
}

# same_numbers CASE: threads and vfork children use the same numbers.
same_numbers() {
    run helper same_numbers "$1" disk.img
    assert_success
    assert_output ""
}

@test "sixteen threads open, copy and close one image while another thread forks" {
    run helper threads disk.img 2
    assert_success
    assert_output ""
}

@test "a handler opens, copies and closes the image every 100 us" {
    run helper signals handlers disk.img
    assert_success
    assert_output ""
}

@test "a handler jumps out of open, dup and close every 100 us" {
    run helper signals jumps disk.img
    assert_success
    assert_output ""
}

@test "a handler jumps out of copies onto another descriptor of the image" {
    run helper signals jump-from-copies disk.img
    assert_success
    assert_output ""
}

@test "a handler jumps out of the wait for a lock" {
    hold disk.img write
    IMGLOCK_WAIT=forever run helper signals jump-from-wait disk.img
    assert_success
    assert_output ""
}

@test "another thread gets the number of an image that is being closed, for something else" {
    in_the_midst copy-of-next
}

@test "a descriptor of an image is closed while another image's private descriptor gets its number" {
    in_the_midst private-of-next
}

@test "another thread takes the number that a private descriptor is about to have" {
    same_numbers stolen
}

@test "a vfork child of a program with threads copies to high numbers, and onto a private descriptor's" {
    same_numbers vforked
}

@test "an open does not wait for another thread's dup2, which waits for what it closes" {
    same_numbers slow
}

@test "an image's private descriptor is closed unseen, and another's gets its number" {
    same_numbers taken
}

@test "two threads copy an image to the same numbers" {
    same_numbers shared
}

@test "another thread gets the number of an image that is being closed, for the image, and closes that" {
    in_the_midst closed-anew
}

@test "another thread's dup2 onto an image that is being closed fails" {
    in_the_midst failed-dup2
}

@test "another thread forks just before the kernel closes an image: the child's copy keeps the lock" {
    in_the_midst forked-before
}

@test "another thread forks just after the kernel has closed an image: the child has no lock" {
    in_the_midst forked-behind
}

@test "a descriptor that is being closed is copied: the copy keeps the lock" {
    in_the_midst copied-before
}

@test "a close_range that is refused closes nothing, and keeps the lock" {
    getconf GNU_LIBC_VERSION | awk '{ sub(/.*\./, "", $2); exit $2 < 34 }' || skip "this libc has no close_range"
    in_the_midst close_range-refused
}

@test "a signal ends the wait for a lock exactly when it would end a blocking open" {
    hold disk.img write
    IMGLOCK_WAIT=2 run helper signals wait disk.img
    assert_success
    assert_output --regexp "^imglock: $PWD/disk.img: cannot open for writing: locked exclusively by holder \(pid $HOLDER, "
    assert_equal "${#lines[@]}" 1
}

@test "threads are cancelled in the midst of open, dup and close" {
    run helper cancel midst disk.img
    assert_success
    assert_output ""
}

@test "a cancellation that is pending acts in open and close as it does in bare libc" {
    local bare
    bare=$(env -u LOCK_FILE timeout 300 "$HELPERS/cancel" pending disk.img)
    rm -f other.img
    assert_equal "$(wc -l <<<"$bare")" 8
    run helper cancel pending disk.img
    assert_success
    assert_output "$bare"
}

@test "a thread is cancelled while it waits for a lock" {
    hold disk.img write
    IMGLOCK_WAIT=forever run helper cancel wait disk.img
    assert_success
    assert_output ""
    release
    run "$HELPERS/probe" "$LOCK_FILE"
    assert_output free
}

# On a busy machine it takes them seconds, and the library says so once a second.
@test "sixteen threads are refused: one line a second, each one write" {
    truncate -s 1M disk.img
    hold disk.img write
    local before=$SECONDS
    run --separate-stderr strace -f -o trace -e trace=write,writev,pwrite64,pwritev -E LD_PRELOAD="$SHIM" python3 -c '
import os, threading, time
start = threading.Barrier(16)
refused = []
def attempt():
    start.wait()
    try:
        os.open("disk.img", os.O_RDWR)
    except OSError as error:
        refused.append(error.errno)
threads = [threading.Thread(target=attempt) for _ in range(16)]
begin = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(refused), int(time.monotonic() - begin))'
    assert_success
    local refused seconds writes
    read -r refused seconds <<<"$output"
    assert_equal "$refused" 16
    writes=$(grep -c 'imglock: ' trace)
    [ "$writes" -ge 1 ] && [ "$writes" -le $((seconds + 1)) ] || fail "$writes lines in $seconds s"
    # shellcheck disable=SC2154 # what bats sets
    assert_equal "$(grep -c . <<<"$stderr")" "$writes"
    assert_equal "$stderr" "$(grep '^imglock: ' <<<"$stderr")"
}

@test "a process's first image, opened in the midst of another thread's fork, keeps its lock for the child" {
    [ -z "${ARCHITECTURE-}" ] || skip "not built for $ARCHITECTURE"
    export IMAGE=$PWD/disk.img
    run timeout 300 env "LD_PRELOAD=$SHIM:$HELPERS/fork_race" /usr/bin/true
    assert_success
    assert_output raced
}

@test "what must be called in the critical section says so in the library that the tests build" {
    [ -z "${ARCHITECTURE-}" ] || skip "not built for $ARCHITECTURE"
    LD_PRELOAD=$HELPERS/libimglock-fault.so run timeout 300 python3 -c '
import ctypes
ctypes.CDLL(None).imglock_fault_outside_section()
print("went on")'
    assert_failure 70
    assert_output 'imglock: must be called in the section: images_count'
}
