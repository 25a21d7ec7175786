#!/usr/bin/env bats
# Block devices: what is locked, by what name, and what of the kernel's own use is seen.

load common
load calls

setup() {
    common_setup
    needs_root
    LOOP=''
    MOUNTED=()
    truncate -s 64M disk
    LOOP=$(losetup --find --show disk 2>losetup.log) || skip "no loop devices here: $(cat losetup.log)"
    # shellcheck disable=SC2046
    mknod node b $(stat -c '0x%t 0x%T' "$LOOP") || skip "no devices here"
    mkdir mnt
}

teardown() {
    local at
    for at in "${MOUNTED[@]}"; do umount "$at" 2>/dev/null || true; done
    # The holders first: a device that is open is detached later.
    common_teardown
    [ -z "$LOOP" ] || losetup -d "$LOOP"
}

# mounted DEVICE: on mnt.
mounted() {
    mount "$1" mnt || skip "cannot mount here"
    MOUNTED+=("$PWD/mnt")
}

# partitioned: two partitions on the loop device, as the nodes p1 and p2.  There may be nobody who makes nodes in /dev,
# and the kernel may not know the table.
partitioned() {
    local number name=${LOOP#/dev/}
    printf 'label: dos\n,16M\n,16M\n' | sfdisk -q "$LOOP" 2>sfdisk.log || fail "$(cat sfdisk.log)"
    [ -e "/sys/class/block/${name}p1" ] || partx -a "$LOOP" 2>/dev/null || skip "no partitions here"
    for number in 1 2; do
        # shellcheck disable=SC2046
        mknod p$number b $(tr : ' ' <"/sys/class/block/${name}p$number/dev")
    done
}

# refused_to_holder DEVICE: it is not opened for writing, and the holder is named.
refused_to_holder() {
    run calls open rw "$1"
    assert_line 'open: ETXTBSY'
    assert_one_line "$(realpath "$1"): cannot open for writing: locked exclusively by holder (pid $HOLDER"
}

# goes_through CALL...: without a line.
goes_through() {
    run calls "$@"
    assert_line --regexp '^open: [0-9]'
    refute_output --partial imglock:
}

# Has anybody tried to lock the device?
is_locked_once() {
    [ -e "$("$IMGLOCK" path "$LOOP")" ]
}

no_lock_file() {
    run ls -A "$IMGLOCK_DIR"
    assert_output ''
}

@test "whatever is on it: a device that is open for writing is locked, an empty one, a table, a file system, a raw guest" {
    local fill
    for fill in true 'sfdisk -q' 'mkfs.ext4 -q -F' 'dd if=/dev/urandom count=64 status=none conv=notrunc of='; do
        case $fill in
        sfdisk*) echo 'label: gpt' | $fill "$LOOP" ;;
        *of=) $fill"$LOOP" ;;
        *) $fill "$LOOP" ;;
        esac
        hold "$LOOP" write
        refused_to_holder "$LOOP"
        run wrapped dd if=/dev/zero of="$LOOP" count=1
        assert_failure 1
        assert_output --partial "dd: failed to open '$LOOP': Text file busy"
        release
    done
    goes_through open rw "$LOOP"
}

@test "a device is locked by its number: two nodes are one lock, for every subcommand too" {
    hold "$LOOP" write
    refused_to_holder node
    run "$IMGLOCK" status -rn -o PID,MODE node
    assert_output "$HOLDER exclusive"
    assert_equal "$("$IMGLOCK" path node)" "$("$IMGLOCK" path "$LOOP")"
    assert_equal "$("$IMGLOCK" path node)" \
        "$IMGLOCK_DIR/.qemu-$(printf 'device:%d:%d' "$(stat -c 0x%t node)" "$(stat -c 0x%T node)" | sha1sum | cut -d' ' -f1).lock"
    run "$IMGLOCK" hold node -- true
    assert_failure
    assert_output --partial "(pid $HOLDER"
    run "$IMGLOCK" explain node
    assert_line --regexp '^image +yes, for writing, whatever is on it: it is a block device$'
    assert_line --regexp '^reading +goes through without a lock$'
    assert_line --regexp '^writing +refused at once: the lock is held$'
    release
    background "$IMGLOCK" hold node -- sh -c 'echo ready; exec sleep 1000'
    run calls open rw "$LOOP"
    assert_line 'open: ETXTBSY'
}

@test "the node of a device that somebody has is not taken away" {
    local device=/dev/imglock-test.$$
    cp -a node "$device"
    hold "$device" write
    run wrapped rm -f "$device"
    local removed=$status said=$output
    release
    run wrapped rm -f "$device"
    rm -f "$device"
    assert_success
    assert_equal "$removed" 1
    assert_equal "$(grep -c "imglock: $device: cannot delete: locked exclusively by holder (pid $HOLDER" <<<"$said")" 1
}

@test "IMGLOCK_KEY=inode takes no second lock for a device" {
    export IMGLOCK_KEY=inode
    hold "$LOOP" write
    assert_equal "$("$IMGLOCK" path node | wc -l)" 1
    refused_to_holder node
}

@test "to look at a device is never refused, and holds nothing" {
    bats_require_minimum_version 1.5.0
    local tool
    mkfs.ext4 -q "$LOOP"
    hold "$LOOP" write
    for tool in "blkid -p $LOOP" "file -s $LOOP" "lsblk -no FSTYPE $LOOP" "sfdisk -l $LOOP" "wipefs $LOOP" "blockdev --getsize64 $LOOP"; do
        # shellcheck disable=SC2086
        run --separate-stderr wrapped $tool
        assert_success
        assert_equal "$stderr" ''
    done
    release
    rm "$IMGLOCK_DIR"/.qemu-*
    # A container as well, which is an image in a file.
    if command -v qemu-img >/dev/null; then
        qemu-img create -q -f qcow2 image 8M
        dd if=image of="$LOOP" conv=notrunc status=none
    fi
    hold "$LOOP" read
    no_lock_file
    goes_through open rw "$LOOP"
}

@test "IMGLOCK_IMAGES makes the reading of a device an image's" {
    export IMGLOCK_IMAGES="+$PWD/node:-$LOOP"
    hold node read
    run calls open rw node
    assert_line 'open: ETXTBSY'
    goes_through open rw "$LOOP"
}

@test "a loop device without a file is nothing to lock" {
    local empty
    losetup -d "$LOOP"
    empty=$LOOP LOOP=''
    goes_through open rw "$empty"
    no_lock_file
}

@test "writing to a device that is mounted is refused, and the mount is named" {
    mkfs.ext4 -q "$LOOP"
    mounted "$LOOP"
    local call
    for call in rw w w+creat rw+trunc; do
        run calls open $call node
        assert_line 'open: ETXTBSY'
        assert_line --regexp "^imglock: $PWD/node: cannot (open for writing|truncate): mounted on $PWD/mnt\b"
    done
    run "$IMGLOCK" explain node
    assert_line --regexp '^writing +refused at once: it is mounted$'
    goes_through open r node
    run "$IMGLOCK" status -rn -o MODE,KIND,COMMAND,HAS "$LOOP"
    assert_output --regexp "^exclusive mounted kernel mounted.*on.*/mnt$"
    run "$IMGLOCK" hold node -- true
    assert_failure
    assert_output --regexp "^imglock: $PWD/node: cannot hold exclusively: mounted on $PWD/mnt\\b"
    run "$IMGLOCK" hold -s node -- true
    assert_success
    IMGLOCK_OUTSIDERS=ignore goes_through open rw node
    IMGLOCK_OUTSIDERS=warn run calls open rw node
    assert_line --regexp '^open: [0-9]'
    assert_line "imglock: $PWD/node: opened all the same: mounted on $PWD/mnt"
    run wrapped cat mnt/lost+found/none
    assert_output --partial 'No such file'
    export IMGLOCK_ON_CONFLICT=warn
    run calls open rw node
    assert_line --regexp '^open: [0-9]'
    assert_line --partial "mounted on $PWD/mnt"
    unset IMGLOCK_ON_CONFLICT
    umount mnt
    goes_through open rw node
}

@test "who waits gets a device that is unmounted" {
    mkfs.ext4 -q "$LOOP"
    mounted "$LOOP"
    IMGLOCK_WAIT=300 alone timeout 300 env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw "$LOOP" >waited 2>&1 &
    local waiter=$!
    eventually is_locked_once
    umount mnt
    wait "$waiter"
    run cat waited
    assert_line --regexp '^open: [0-9]'
}

@test "a device that swap, a device mapper or a program has for itself is refused; not the program's own open" {
    needs python3
    background python3 -c '
import os, sys, time
os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)
print("ready", flush=True)
time.sleep(1000)' "$LOOP"
    run calls open rw "$LOOP"
    assert_line 'open: ETXTBSY'
    assert_line --partial 'in use by the kernel (swap, part of another device, mounted elsewhere), or by a program that has it for itself'
    kill "$HOLDER"
    wait "$HOLDER" || true
    run wrapped python3 -c '
import os, sys
for first in (os.O_RDONLY | os.O_EXCL, os.O_RDWR | os.O_EXCL):
    held = os.open(sys.argv[1], first)
    os.close(os.open(sys.argv[1], os.O_RDWR))
    os.close(held)' "$LOOP"
    assert_success
    assert_output ''
}

@test "the whole disk and its partitions exclude each other, partitions do not" {
    partitioned
    hold p1 write
    refused_to_holder p1
    run calls open rw "$LOOP"
    assert_line 'open: ETXTBSY'
    assert_one_line "$LOOP: cannot open for writing: locked exclusively by holder (pid $HOLDER"
    goes_through open rw p2
    goes_through open r "$LOOP"
    release
    hold "$LOOP" write
    refused_to_holder p1
    refused_to_holder p2
    run "$IMGLOCK" explain p1
    assert_line --regexp '^writing +refused at once: the lock of its whole disk, or of a partition, is held$'
    run "$IMGLOCK" hold p1 -- true
    assert_failure
    assert_output --partial "cannot hold exclusively: locked exclusively by holder (pid $HOLDER"
    release
    goes_through open rw p2
    hold p2 write
    run "$IMGLOCK" hold "$LOOP" -- true
    assert_failure
    assert_output --partial "cannot hold exclusively: locked exclusively by holder (pid $HOLDER"
    run "$IMGLOCK" hold p1 -- true
    assert_success
    "$IMGLOCK" hold -w 300 "$LOOP" -- echo held >held 3>&- &
    local waiter=$!
    HOLDERS+=("$waiter")
    release
    wait "$waiter"
    assert_equal "$(cat held)" held
    goes_through open rw p2
    # Of one process, and of its children, they are no strangers.
    run wrapped sh -c "exec 8<>p1 9<>$LOOP; dd if=/dev/zero of=p2 count=1 status=none"
    assert_success
    assert_output ''
}

@test "who waits for the whole disk gets it when the partition is closed" {
    partitioned
    hold p1 write
    IMGLOCK_WAIT=300 alone timeout 300 env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw "$LOOP" >waited 2>&1 &
    local waiter=$!
    eventually is_locked_once
    release
    wait "$waiter"
    run cat waited
    assert_line --regexp '^open: [0-9]'
}

@test "with a partition mounted its disk is refused, and the other partition is not" {
    partitioned
    mkfs.ext4 -q p1
    mounted p1
    run calls open rw "$LOOP"
    assert_line 'open: ETXTBSY'
    assert_line --partial "mounted on $PWD/mnt"
    goes_through open rw p2
    umount mnt
    mkfs.ext4 -q -F "$LOOP"
    mounted "$LOOP"
    run calls open rw p2
    assert_line 'open: ETXTBSY'
    assert_line --partial "mounted on $PWD/mnt"
}

@test "losetup, mount -o loop, mkfs, sfdisk and dd have the same results as without the library" {
    local how other
    for how in bare wrapped; do
        truncate -s 0 one
        truncate -s 32M one
        bare() { "$@"; }
        other=$($how losetup --find --show one)
        {
            printf 'label: dos\nlabel-id: 0x12345678\n,16M\n' | $how sfdisk "$other" | grep -v "^Disk $other"
            $how blockdev --rereadpt "$other" || true
            $how dd if=disk of="$other" bs=1M count=2 seek=20 conv=notrunc,fsync status=none
            $how sfdisk -d "$other"
            $how wipefs -qa "$other"
            $how mkfs.ext4 -q -F -U 01234567-89ab-cdef-0123-456789abcdef -E hash_seed=01234567-89ab-cdef-0123-456789abcdef "$other"
            $how fsck.ext4 -fp "$other"
            $how mount "$other" mnt && $how touch mnt/file && ls mnt
            $how umount mnt
            $how mount -o loop one mnt && ls mnt
            $how umount mnt
            $how losetup -j one
            echo "$?"
        } >results.$how 2>&1
        losetup -d "$other"
        sed -i "s|$other|LOOP|g" results.$how
    done
    run cat results.wrapped
    assert_output "$(cat results.bare)"
    assert_line file
}
