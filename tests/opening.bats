#!/usr/bin/env bats
# opening.bats: every way in is the same way, and what is no image gets the very call that it made.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031

load common
load calls

# all_refused FILE [LOCKED]: every way to open the file for writing is refused, and it stays as it was.
all_refused() {
    local before
    before=$(fingerprint "$(realpath "$1")")
    run wrapped timeout 300 "$HELPERS/opening_ways" "$@"
    assert_success
    refute_output --partial opened
    [ "$(grep -c ': ETXTBSY$' <<<"$output")" -ge 70 ] || fail "$output"
    assert_equal "$(fingerprint "$(realpath "$1")")" "$before"
}

# ---- every way ----------------------------------------------------------------------------------------------------

@test "a held image that its content tells is refused by every way in" {
    new_image content
    hold content write
    all_refused content
}

@test "so is one through a link whose name tells nothing, whatever its size, with names alone as well" {
    local size
    for size in 1000 70000; do
        head -c "$size" /dev/zero >disk.img
        ln -sf disk.img link
        hold disk.img write
        all_refused link
        IMGLOCK_MAGIC=off all_refused link
        release
    done
}

@test "so is one to a program that has locked another file by F_SETLK" {
    new_image content
    hold content write
    all_refused content program.pid
}

@test "posix_spawn opens no held image, in another directory either" {
    local before how
    mkdir below
    new_image below/disk.qcow2
    hold below/disk.qcow2 write
    before=$(fingerprint below/disk.qcow2)
    for how in open chdir fchdir; do
        run wrapped "$HELPERS/opening_spawn" "$how" below disk.qcow2
        assert_failure
        assert_output --partial 'ETXTBSY'
        assert_equal "$(fingerprint below/disk.qcow2)" "$before"
    done
    release
    run wrapped "$HELPERS/opening_spawn" chdir below disk.qcow2
    assert_success
    assert_equal "$(cat below/disk.qcow2)" written
}

@test "a file that may be written and not be read is refused, since nobody can tell what it is, unless IMGLOCK_ON_ERROR lets it" {
    echo 'A text of some length, by a name that tells nothing.' >secret
    chmod 222 secret
    run nobody_calls open w secret
    assert_failure
    assert_line 'open: ENOLCK'
    assert_one_line "imglock: secret: cannot open for writing: cannot look at its content" 'Permission denied'
    run nobody_calls open w+trunc secret
    assert_line 'open: ENOLCK'
    [ -s secret ]
    IMGLOCK_ON_ERROR=allow run nobody_calls open w secret
    assert_success
    # What is too short to be an image takes no look.
    echo short >secret
    run nobody_calls open w+trunc secret
    assert_success
    assert_silent
}

@test "nothing under /proc, /sys and /dev is an image, whatever IMGLOCK_IMAGES says" {
    export IMGLOCK_IMAGES='+*'
    [ -w /sys/kernel/mm/transparent_hugepage/defrag ] || skip "no file of /sys that could be written to"
    run calls open rw /proc/self/comm , open rw /sys/kernel/mm/transparent_hugepage/defrag , open rw /dev/null
    assert_success
    assert_equal "$(find "$IMGLOCK_DIR" -type f)" ''
    echo text >notes
    run calls open rw notes
    assert_equal "$(find "$IMGLOCK_DIR" -type f | wc -l)" 1
}

# ---- record locks -------------------------------------------------------------------------------------------------

@test "a refused open keeps the record locks that the program has on the file" {
    new_image content
    hold content read
    run wrapped timeout 300 "$HELPERS/opening_locks" refused content
    assert_success
    assert_output --partial 'cannot open for writing'
}

@test "so does one that is only looked at, through whatever descriptor the file was locked" {
    echo 'A text of some length, by a name that tells nothing.' >text
    local case
    for case in looked unreadable; do
        run wrapped timeout 300 "$HELPERS/opening_locks" "$case" text
        assert_success
        assert_output ''
    done
}

@test "an image in a file that the program has locked, and cannot read, is still an image" {
    new_image content
    run wrapped timeout 300 "$HELPERS/opening_locks" unreadable content
    assert_success
    [ -e "$(lock_file content)" ]
}

@test "record locks that came through exec are still there, for a descriptor for writing alone as well" {
    echo 'A text of some length, by a name that tells nothing.' >text
    run env CHILD_PRELOAD="$SHIM" "$HELPERS/opening_locks" exec text
    assert_success
    assert_output ''
}

# ---- as it was asked ----------------------------------------------------------------------------------------------

# opens_of FILE OPERATION...: the flags of the opens of that file that the call came to, but for path descriptors and
# descriptors to read from; and whether it was truncated otherwise.
opens_of() {
    local file=$1
    shift
    (alone strace -E LD_PRELOAD="$SHIM" -e trace=openat,ftruncate,truncate -o trace "$HELPERS/input_call" "$@") >/dev/null
    sed -nE "s,^openat\([^\"]*\"$file\"\, ([A-Z_|]*).*,\1,p; s,^(f?truncate)\(.*,\1,p" trace |
        grep -vE 'O_PATH|^O_RDONLY'
}

@test "O_TRUNC and O_CREAT reach the file system, once, wherever the file is no image" {
    echo 'A text of some length, by a name that tells nothing.' >text
    ln -s text link
    : >empty
    mkfifo fifo
    assert_equal "$(opens_of text open w+trunc text)" 'O_WRONLY|O_TRUNC'
    [ ! -s text ]
    echo 'A text of some length, by a name that tells nothing.' >text
    assert_equal "$(opens_of link open rw+creat+trunc link)" 'O_RDWR|O_CREAT|O_TRUNC'
    [ ! -s text ]
    assert_equal "$(opens_of link open w+creat+append link)" 'O_WRONLY|O_CREAT|O_APPEND'
    assert_equal "$(opens_of empty open w+creat+trunc empty)" 'O_WRONLY|O_CREAT|O_TRUNC'
    assert_equal "$(opens_of new open w+creat+trunc new)" 'O_WRONLY|O_CREAT|O_TRUNC'
    assert_equal "$(opens_of fifo open rw+creat+trunc+nonblock fifo)" 'O_RDWR|O_CREAT|O_TRUNC|O_NONBLOCK'
    assert_equal "$(opens_of /dev/null open w+trunc /dev/null)" 'O_WRONLY|O_TRUNC'
    # An image is truncated when it is known to be the locked one, an empty one too.
    new_image
    assert_equal "$(opens_of disk.qcow2 open w+trunc disk.qcow2)" $'O_WRONLY\nftruncate'
    assert_equal "$(opens_of disk.qcow2 open w+trunc disk.qcow2)" $'O_WRONLY\nftruncate'
    assert_equal "$(opens_of new.qcow2 open w+creat+trunc new.qcow2)" 'O_WRONLY|O_CREAT|O_TRUNC'
}

@test "a file system that acts on O_TRUNC at the open sees it (FUSE)" {
    [ -c /dev/fuse ] || skip "needs /dev/fuse"
    truncate -s 8M served
    mke2fs -q -t ext4 served
    mkdir there
    fuse2fs served there -o fakeroot,atomic_o_trunc -d 3>&- 2>debug &
    HOLDERS+=("$!")
    until mountpoint -q there; do
        kill -0 "$!" 2>/dev/null || mountpoint -q there || break
        read -rt 0.02 <> <(:) || true
    done
    if ! mountpoint -q there; then
        grep -qE 'not permitted|Permission denied' debug && skip "no mounts here"
        fail "fuse2fs: $(tail -n 3 debug)"
    fi
    seq 100 >there/text
    : >debug
    run calls open w+trunc there/text
    umount there
    assert_success
    run grep -aE 'opcode: (OPEN|SETATTR)|open flags' debug
    assert_output --partial 'open flags: 0x8201'
    refute_output --partial SETATTR
}

# events FILE FLAGS MODE: what a watcher is told, and the mode, bare and wrapped, are the same.
same_events() {
    local bare wrapped
    bare=$(eval "$PREPARE"; "$HELPERS/opening_events" "$@" 2>&1)
    wrapped=$(eval "$PREPARE"; LD_PRELOAD=$SHIM "$HELPERS/opening_events" "$@" 2>&1)
    assert_equal "$wrapped" "$bare"
    [ -n "$bare" ]
}

@test "nobody is told of a modification, and the bits of set-user-ID and set-group-ID stay, as without the library" {
    PREPARE='rm -f new new.img' same_events new creat+trunc 6777
    PREPARE='rm -f new new.img' same_events new.img creat+trunc 6777
    PREPARE='rm -f new new.img' same_events new creat+excl+trunc 6755
    PREPARE=': >new' same_events new creat+trunc 600
    PREPARE='echo "This is a text and no image." >new' same_events new trunc 600
    PREPARE='echo "This is a text and no image." >new' same_events new creat 600
    # LTP's creat08: in a directory that hands its group down.
    mkdir -m 2777 group
    chgrp daemon group
    for name in file file.img; do
        for mode in 2755 2644; do
            (as_nobody "$HELPERS/opening_events" "group/$name" creat+trunc "$mode") >bare
            stat -c '%a %G' "group/$name" >>bare
            rm -f "group/$name"
            (as_nobody env LD_PRELOAD="$SHIM" "$HELPERS/opening_events" "group/$name" creat+trunc "$mode") >wrapped
            stat -c '%a %G' "group/$name" >>wrapped
            rm -f "group/$name"
            assert_equal "$(cat wrapped)" "$(cat bare)"
        done
    done
}

@test "tracefs: who empties the trace empties it" {
    unshare --mount sh -c 'mkdir t && mount -t tracefs none t' 2>/dev/null || skip "no tracefs here"
    # shellcheck disable=SC2016
    run unshare --mount sh -c 'mount -t tracefs none t && for library in "" "$SHIM"; do
        echo mark >t/trace_marker; LD_PRELOAD=$library sh -c ": >t/trace"; grep -c mark t/trace; done'
    assert_output $'0\n0'
}

# ---- the stack ----------------------------------------------------------------------------------------------------

@test "no call on what is no image takes more than 3 KiB of stack" {
    local images levels
    for images in '' '+*/none' '-*'; do
        for levels in 0 4 10; do
            IMGLOCK_IMAGES=$images run wrapped "$HELPERS/opening_stack" . "$levels"
            assert_success
            [ "$(wc -l <<<"$output")" -ge 20 ]
            run awk '$2 > 3072' <<<"$output"
            assert_output ''
        done
    done
}

@test "a handler on a signal stack of 8 KiB may open, rename, truncate and delete" {
    run wrapped "$HELPERS/opening_handler" .
    assert_success
    assert_output $'open\ncreate\ntruncate\nrename\nunlink'
}

# ---- AT_SECURE ----------------------------------------------------------------------------------------------------

# With a copy of /etc over the real one in a mount namespace, so that the machine's own ld.so.preload stays.
@test "in a set-user-ID program the library passes every call on, and reads no setting" {
    unshare --mount true 2>/dev/null || skip "no namespaces here"
    mkdir -m 755 upper work
    local directory=$BATS_TEST_TMPDIR
    while [ "$directory" != / ] && [ "$directory" != /tmp ]; do
        chmod go+x "$directory" # its group is still root
        directory=$(dirname "$directory")
    done
    cp "$SHIM" libimglock.so
    cp "$HELPERS/input_call" plain
    cp "$HELPERS/input_call" secure
    chown daemon secure
    chmod 4755 secure
    new_image
    chmod 666 disk.qcow2
    hold disk.qcow2 write
    cat >inside <<'END'
mount -t overlay none -o lowerdir=/etc,upperdir=upper,workdir=work /etc || exit 77
export IMGLOCK_LOG=$PWD/log
echo "$PWD/libimglock.so" >/etc/ld.so.preload
echo plain; ./plain open rw disk.qcow2 , truncate disk.qcow2 100000 , rename disk.qcow2 moved
echo secure; ./secure open rw disk.qcow2 , dup 3 , fopen r disk.qcow2 , open w+trunc disk.qcow2 , creat disk.qcow2
: >/etc/ld.so.preload
END
    run alone unshare --mount bash inside
    [ "$status" -ne 77 ] || skip "no overlay here"
    assert_output 'plain
open: ETXTBSY
truncate: EBUSY
rename: EBUSY
secure
open: 3
dup: 4
fopen: 5
open: 6
creat: 7'
    [ "$(wc -l <log)" -ge 1 ]
    run grep -c secure log
    assert_output 0
}
