#!/usr/bin/env bats
# read_only.bats: IMGLOCK_ON_CONFLICT=read-only: who cannot have an image for writing gets it for reading.

# What clients.bash calls and reads is not seen here, and each test runs in a subshell of its own:
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2317

load common
load calls
load clients
load modes

setup() {
    common_setup
    mkdir work
    cd work || return
    yes i | head -c 1M >disk.img
    export IMGLOCK_ON_CONFLICT=read-only
}

teardown() {
    common_teardown
    umount "$BATS_TEST_TMPDIR/work/there" 2>/dev/null || true
}

# degrades CASE: helpers/mode_degrade.c finds all as it should be, and one line tells of the holder.
degrades() {
    LOCK_FILE=$(lock_file disk.img) run wrapped "$HELPERS/mode_degrade" "$1" disk.img
    assert_success
    assert_output --regexp "^imglock: $PWD/disk.img: opened read-only instead of for writing: locked shared by holder\
 \(pid $HOLDER, user $(id -un)\) for [0-9]+ s\$"
}

# ---- the descriptor ------------------------------------------------------------------------------------------

@test "open: a descriptor under the same number, which reads and does not write" {
    local before
    hold disk.img read
    before=$(sha1sum disk.img)
    degrades open
    degrades create
    degrades copies
    assert_equal "$(sha1sum disk.img)" "$before"
}

@test "O_CLOEXEC, O_DIRECT, O_NONBLOCK, O_SYNC, O_NOATIME and O_NOFOLLOW are kept" {
    hold disk.img read
    degrades flags
}

@test "openat, openat64" {
    hold disk.img read
    degrades openat
}

@test "syscall: open, openat, openat2" {
    hold disk.img read
    degrades syscalls
}

@test "fopen and freopen with r+" {
    hold disk.img read
    degrades fopen
    degrades freopen
}

@test "without the setting none of these is degraded" {
    local how
    unset IMGLOCK_ON_CONFLICT
    hold disk.img read
    for how in open create openat syscalls fopen freopen; do
        run wrapped "$HELPERS/mode_degrade" "$how" disk.img
        assert_failure
        refute_output --partial "read-only"
    done
}

@test "who truncates, appends, only writes, or asks for O_EXCL is refused, and nothing is changed" {
    local before
    hold disk.img read
    before=$(fingerprint disk.img)
    run wrapped "$HELPERS/mode_degrade" refused disk.img
    assert_success
    refute_output --partial "read-only"
    assert_output --partial "imglock: $PWD/disk.img: cannot open for writing: locked shared by holder (pid $HOLDER"
    assert_equal "$(fingerprint disk.img)" "$before"
}

@test "a program that has locked the image by F_SETLK is refused: a descriptor that is replaced would cost it its locks" {
    hold disk.img read
    run wrapped "$HELPERS/mode_degrade" posix-locks disk.img
    assert_success
}

# ---- the lock ------------------------------------------------------------------------------------------------

@test "it holds a shared lock: beside the first holder, and after it" {
    hold disk.img read
    opens read-write disk.img
    assert_equal "$OPENED" reads-only
    release
    assert_equal "$(seen disk.img)" "shared shared"
    # Readers get in, writers do not.
    opener=$OPENER
    opens read disk.img
    assert_equal "$OPENED" reads
    closes
    IMGLOCK_ON_CONFLICT=deny opens read-write disk.img
    assert_equal "$OPENED" "refused ETXTBSY"
    closes
    OPENER=$opener
    closes
    assert_unlocked disk.img
    opens read-write disk.img
    assert_equal "$OPENED" writes
    closes
}

@test "beside a writer it is refused: a shared lock is not to be had either" {
    local before
    hold disk.img write
    before=$(fingerprint disk.img)
    opens read-write disk.img
    assert_equal "$OPENED" "refused ETXTBSY"
    run cat said
    assert_output --partial "cannot open for writing: locked exclusively by holder (pid $HOLDER"
    assert_equal "$(wc -l <said)" 1
    assert_equal "$(fingerprint disk.img)" "$before"
}

@test "in mode exclusive by a rule it is refused: a shared lock will not do" {
    hold disk.img read
    IMGLOCK_RULES='*/disk.img=exclusive' opens read-write disk.img
    assert_equal "$OPENED" "refused ETXTBSY"
    closes
    IMGLOCK_RULES='*/other.img=exclusive' opens read-write disk.img
    assert_equal "$OPENED" reads-only
}

@test "a holder in mode shared that blocks writes: who shares the lock gets it for reading" {
    local mode
    IMGLOCK_ON_CONFLICT='' IMGLOCK_MODE=shared IMGLOCK_BLOCK=write IMGLOCK_REASON='nightly backup' hold disk.img read
    for mode in shared auto; do
        IMGLOCK_MODE=$mode opens read-write disk.img
        assert_equal "$OPENED" reads-only
        assert_equal "$(seen disk.img)" "shared shared"
        closes
        run cat said
        assert_output --partial "imglock: $PWD/disk.img: opened read-only instead of for writing: "
    done
    IMGLOCK_MODE=shared opens write disk.img
    assert_equal "$OPENED" "refused ETXTBSY"
    closes
    run cat said
    assert_output --partial "nightly backup"
}

@test "a name that is not there yet: nothing to read, so it is refused" {
    hold disk.img read
    rm disk.img
    opens create disk.img
    assert_equal "$OPENED" "refused ETXTBSY"
    [ ! -e disk.img ]
}

@test "IMGLOCK_WAIT: the lock is waited for first" {
    local before after
    hold disk.img read
    before=$(date +%s%N)
    IMGLOCK_WAIT=0.3 opens read-write disk.img
    after=$(date +%s%N)
    assert_equal "$OPENED" reads-only
    [ $(((after - before) / 1000000)) -ge 300 ]
    closes
    # And had, should the holder go meanwhile.
    rm opened
    mkfifo opened
    IMGLOCK_WAIT=forever LD_PRELOAD=$SHIM "$HELPERS/mode_open" read-write disk.img >opened 2>said 3>&- </dev/null &
    HOLDERS+=("$!")
    gate_is_closed() { [ "$("$HELPERS/probe" "$(lock_file disk.img)" 2)" = exclusive ]; }
    exec 9<>opened
    wait_until gate_is_closed
    release
    read -r -t 120 -u 9 OPENED
    exec 9>&-
    assert_equal "$OPENED" writes
    assert_equal "$(cat said)" ""
}

# ---- read-only storage ---------------------------------------------------------------------------------------

# read_only_directory: "there" shows the current directory's images, read-only.
read_only_directory() {
    mkdir there images
    mv disk.img images
    echo text >images/notes.txt
    mount --bind images there 2>/dev/null || skip "no mounts here"
    mount -o remount,bind,ro there
}

@test "EROFS: an image on a read-only file system is opened for reading, with a shared lock" {
    read_only_directory
    opens read-write there/disk.img
    assert_equal "$OPENED" reads-only
    assert_equal "$(seen there/disk.img)" "shared shared"
    closes
    assert_equal "$(cat said)" \
        "imglock: $PWD/there/disk.img: opened read-only instead of for writing: Read-only file system"
    # By each of the calls, O_CREAT among them.
    for how in open create openat syscalls fopen flags; do
        run wrapped "$HELPERS/mode_degrade" "$how" there/disk.img
        assert_success
    done
}

@test "EROFS stays what it is: without the setting, for other files, for who would do more than read" {
    local how
    read_only_directory
    IMGLOCK_ON_CONFLICT=deny opens read-write there/disk.img
    assert_equal "$OPENED" "refused EROFS"
    for how in write append truncate; do
        opens "$how" there/disk.img
        assert_equal "$OPENED" "refused EROFS"
    done
    for how in read-write write truncate; do
        opens "$how" there/notes.txt
        assert_equal "$OPENED" "refused EROFS"
    done
    opens create there/new.img
    assert_equal "$OPENED" "refused EROFS"
    assert_equal "$(cat said)" ""
}

@test "EROFS: beside a holder it is the lock that decides" {
    read_only_directory
    hold there/disk.img read
    opens read-write there/disk.img
    assert_equal "$OPENED" reads-only
    closes
    release
    # In mode exclusive a reader keeps others out.
    IMGLOCK_ON_CONFLICT='' IMGLOCK_MODE=exclusive hold there/disk.img read
    opens read-write there/disk.img
    assert_equal "$OPENED" "refused ETXTBSY"
    assert_equal "$(wc -l <said)" 1
}

@test "EACCES: likewise" {
    needs_root
    chmod 0444 disk.img
    echo text >notes.txt
    chmod 0444 notes.txt
    cp disk.img content # not by its name
    printf 'QFI\373\0\0\0\3' | dd of=content conv=notrunc status=none
    chmod 0444 content
    run nobody_calls open rw disk.img
    assert_line 'open: 3'
    assert_line --regexp '^imglock: .*disk.img: opened read-only instead of for writing: Permission denied$'
    run nobody_calls open rw notes.txt , open w disk.img , open rw+append disk.img , fopen a disk.img
    assert_output "open: EACCES
open: EACCES
open: EACCES
fopen: EACCES"
    run nobody_calls fopen r+ disk.img
    assert_line 'fopen: 3'
    IMGLOCK_ON_CONFLICT=deny run nobody_calls open rw disk.img
    assert_output 'open: EACCES'
    chmod 0 disk.img
    run nobody_calls open rw disk.img
    assert_output 'open: EACCES'
    chmod 0444 disk.img
    hold disk.img write
    run nobody_calls open rw disk.img
    assert_line 'open: ETXTBSY'
}

# ---- real programs -------------------------------------------------------------------------------------------

@test "qemu-io: reads, and cannot write" {
    local before format image
    qemu-img create -q -f qcow2 disk.qcow2 1M
    for format in raw qcow2; do
        image=disk.${format/raw/img}
        hold "$image" read
        before=$(sha1sum "$image")
        run wrapped qemu-io -f "$format" -c 'read 0 64k' "$image"
        assert_success
        assert_line --partial 'read 65536/65536 bytes'
        assert_line --partial "$image: opened read-only instead of for writing: locked shared by holder"
        run wrapped qemu-io -f "$format" -c 'write 0 64k' "$image"
        assert_line "write failed: Bad file descriptor"
        assert_equal "$(sha1sum "$image")" "$before"
        release
    done
}

@test "qemu-system-x86_64 starts with an image that somebody reads" {
    local locking
    hold disk.img read
    for locking in on off; do
        begins qemu-system-x86_64 -S -accel tcg -nodefaults -display none -monitor stdio \
            -blockdev "driver=raw,node-name=disk,file.driver=file,file.filename=disk.img,file.locking=$locking" \
            -device virtio-blk-pci,drive=disk,id=device
        says 'qemu-io -d device/virtio-backend "read 0 512"' 'qemu-io -d device/virtio-backend "write 0 512"'
        wait_until grep -q 'write failed: Bad file descriptor' ../stdout
        run grep -c 'read 512/512' ../stdout
        assert_success
        assert_equal "$("$HELPERS/mode_seen" "$(lock_file disk.img)" "$CLIENT")" "shared shared"
        says quit
        ends 0
        run cat ../stderr
        assert_output --partial "disk.img: opened read-only instead of for writing: locked shared by holder"
    done
}

@test "python: writing fails with EBADF" {
    hold disk.img read
    run wrapped /usr/bin/python3 -c '
import os
with open("disk.img", "r+b", buffering=0) as image:
    print(image.read(2))
    try:
        image.write(b"x")
    except OSError as error:
        print(error)'
    assert_success
    assert_line "b'i\\n'"
    assert_line '[Errno 9] Bad file descriptor'
}

@test "dd conv=notrunc opens for writing alone and is refused; mcopy reads on and cannot write" {
    local before
    mkfs.vfat -C floppy.img 1440 >/dev/null
    echo a file >file
    hold floppy.img read
    before=$(sha1sum floppy.img)
    run wrapped dd if=/dev/zero of=floppy.img bs=512 count=1 conv=notrunc
    assert_failure
    assert_line --partial "dd: failed to open 'floppy.img': Text file busy"
    # It ends with 0 all the same, as it does on other errors of a write.
    run wrapped mcopy -i floppy.img file ::
    assert_output --partial "Bad file descriptor"
    assert_equal "$(sha1sum floppy.img)" "$before"
    run wrapped mdir -b -i floppy.img ::
    assert_success
    refute_output --partial imglock:
}
