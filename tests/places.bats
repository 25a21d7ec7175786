#!/usr/bin/env bats
# places.bats: every line of places.table: an image that somebody has by another name, in another mount or another
# namespace, or on this or that file system.
# shellcheck disable=SC2016,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    MOUNTS=()
    LOOP=
    THERE=$PWD/disk.img HERE=$PWD/disk.img
    raw "$THERE"
    # What the one who comes is begun with, and calls it: its real path is HERE.
    comes=()
    NAME=
}

teardown() {
    local at
    common_teardown
    for at in "${MOUNTS[@]}"; do umount -l "$at" 2>/dev/null || true; done
    [ -z "$LOOP" ] || losetup -d "$LOOP" 2>/dev/null || true
}

# raw FILE: as an image, but without anything that tells.  Reading moves no time stamp of it.
raw() {
    head -c 64K /dev/urandom >"$1"
    touch -a -d tomorrow "$1"
}

# mounted AT ARGUMENT...: for this test.
mounted() {
    needs_root
    mkdir -p "$1"
    mount "${@:2}" "$1" 2>mount.log || skip "this cannot be mounted here: $(cat mount.log)"
    MOUNTS=("$PWD/$1" "${MOUNTS[@]}")
}

# somebody wrapped|qemu|static: it has THERE, for writing, when this returns.
somebody() {
    case $1 in
    wrapped) hold "$THERE" write ;;
    static) background "$HELPERS/outsider" write "$THERE" ;;
    qemu)
        rm -f stdin
        mkfifo stdin
        : >stdout
        exec 8<>stdin
        qemu-io -f raw "$THERE" <stdin >stdout 2>stderr 3>&- 8>&- &
        HOLDER=$!
        HOLDERS+=("$HOLDER")
        echo 'read 0 512' >&8
        eventually grep -q 'read 512' stdout
        ;;
    esac
}

# answer: what keeps a wrapped program from HERE: lock, mark, count, or - where it goes in.
answer() {
    local status=0
    "${comes[@]}" env LD_PRELOAD="$SHIM" dd if=/dev/zero of="${NAME:-$HERE}" bs=512 count=1 conv=notrunc status=none >said 2>&1 3>&- 8>&- ||
        status=$?
    case $status$(cat said) in
    0) echo - ;;
    1*"imglock: $HERE: cannot open for writing: locked exclusively by holder (pid "*") for "*) echo lock ;;
    1*"imglock: $HERE: cannot open for writing: locked exclusively by holder (pid "*) echo mark ;;
    1*"imglock: $HERE: cannot open for writing: in use by "*) echo mark ;;
    1*"imglock: $HERE: cannot open for writing: "*"has it open for writing, outside imglock"*) echo count ;;
    *) echo "something else: status $status, $(cat said)" ;;
    esac
}

# place NAME: its line, in which HERE is the other's THERE, seen from where "comes" runs a program.
place() {
    local who cells before got=() wanted
    read -r -a cells < <(sed -n "s/^$1 //p" "$BATS_TEST_DIRNAME/places.table")
    wanted=${cells[*]:0:3}
    for who in wrapped qemu static; do
        somebody $who
        before=$(fingerprint "$THERE")
        got+=("$(answer)")
        [ "${got[-1]}" = - ] || assert_equal "$(fingerprint "$THERE")" "$before"
        kill "$HOLDER"
        wait "$HOLDER" 2>/dev/null || true
        [ "$(answer)" = - ] || fail "$1: refused beside nobody: $(cat said)"
    done
    assert_equal "$1 ${got[*]}" "$1 $wanted"
}

@test "libimglock(7) has what places.table says" {
    local name wrapped qemu static words
    says() { [ "$1" = - ] && echo no || echo yes; }
    while read -r name wrapped qemu static words; do
        grep -qxF ".It $words Ta $(says "$wrapped") Ta $(says "$qemu") Ta $(says "$static")" "$TOP/man/libimglock.7" ||
            fail "libimglock(7) does not have: $words"
        grep -qE "^ *(place|in_there) $name\$|other_file_system $name; }\$" "$BATS_TEST_FILENAME" || fail "$name is not tried"
    done < <(sed 's/#.*//; /^ *$/d' "$BATS_TEST_DIRNAME/places.table")
}

@test "a symbolic link" {
    ln -s disk.img link
    NAME=$PWD/link
    place link
}

@test "a hard link" {
    ln disk.img link.img
    HERE=$PWD/link.img
    place hard-link
}

@test "a bind mount" {
    mounted bound --bind .
    HERE=$PWD/bound/disk.img
    place bind-mount
}

@test "another lock directory" {
    mkdir -m 1777 elsewhere
    comes=(env IMGLOCK_DIR="$PWD/elsewhere")
    place directory
}

@test "a private /var/tmp" {
    needs_root
    comes=(unshare --mount sh -c 'mount -t tmpfs none "$IMGLOCK_DIR" && chmod 1777 "$IMGLOCK_DIR" && exec "$@"' sh)
    "${comes[@]}" true || skip "no mount namespaces here"
    place private
}

@test "a user namespace" {
    comes=(unshare --user --map-root-user)
    "${comes[@]}" true || skip "no user namespaces here"
    place userns
}

@test "bubblewrap" {
    needs bwrap
    comes=(bwrap --ro-bind / / --dev-bind /dev /dev --bind "$PWD" "$PWD" --tmpfs /var/tmp --dir /var/tmp/locks
        --chmod 1777 /var/tmp/locks --setenv IMGLOCK_DIR /var/tmp/locks --unshare-pid --proc /proc)
    "${comes[@]}" true || skip "bwrap cannot make namespaces here"
    place bwrap
}

@test "overlayfs" {
    mounted ram -t tmpfs none
    mkdir ram/lower ram/upper ram/work
    raw ram/lower/below.img
    raw ram/upper/disk.img
    mounted over -t overlay -o "lowerdir=ram/lower,upperdir=ram/upper,workdir=ram/work" none
    mkdir -m 1777 elsewhere
    comes=(env IMGLOCK_DIR="$PWD/elsewhere")
    THERE=$PWD/over/disk.img HERE=$THERE
    place overlay
    HERE=$PWD/ram/upper/disk.img
    place overlay-upper
    # Whoever writes to it there gets a file of his own.
    THERE=$PWD/over/below.img HERE=$PWD/ram/lower/below.img
    place overlay-lower
}

# other_file_system TYPE: a place there, from another lock directory.
other_file_system() {
    needs "mkfs.$1"
    needs_root
    truncate -s 300M volume
    "mkfs.$1" -q volume
    LOOP=$(losetup --find --show volume 2>losetup.log) || skip "no loop devices here: $(cat losetup.log)"
    mounted there "$LOOP"
    in_there "$1"
}

# in_there PLACE: an image below there, and somebody with another lock directory.
in_there() {
    raw there/disk.img
    THERE=$PWD/there/disk.img HERE=$THERE
    mkdir -m 1777 elsewhere
    comes=(env IMGLOCK_DIR="$PWD/elsewhere")
    place "$1"
}

@test "tmpfs" {
    mounted there -t tmpfs none
    in_there tmpfs
}

@test "ext4" { other_file_system ext4; }

@test "XFS" { other_file_system xfs; }

@test "Btrfs" { other_file_system btrfs; }

@test "FUSE" {
    needs fuse2fs
    [ -r /dev/fuse ] || skip "no FUSE here"
    truncate -s 8M volume
    mkfs.ext4 -qF volume
    mkdir there
    fuse2fs -o fakeroot volume there 3>&- || skip "fuse2fs cannot mount here"
    MOUNTS=("$PWD/there")
    in_there fuse
}
