#!/usr/bin/env bats
# input.bats: names and files that are odd, or no images at all.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031

load common
load calls

# as_bare OPERATION...: the library makes no difference: same lines, same status, and nothing locked.
as_bare() {
    local bare wrapped
    bare=$(bare_calls "$@" 2>&1; echo "status $?")
    wrapped=$(calls "$@" 2>&1; echo "status $?")
    assert_equal "$wrapped" "$bare"
    assert_equal "$(the_lock_files)" ''
    # Nor when no lock is to be had.
    wrapped=$(IMGLOCK_DIR=$PWD/none calls "$@" 2>&1; echo "status $?")
    assert_equal "$wrapped" "$bare"
}

# ---- names -----------------------------------------------------------------------------------------------------------

# padded LENGTH: a path of that length to disk.qcow2.
padded() {
    local path=$PWD
    [ $((($1 - ${#path}) % 2)) = 1 ] || path+=/
    while [ "${#path}" -lt $(($1 - 11)) ]; do path+=/.; done
    printf %s "$path/disk.qcow2"
}

@test "a path of 4095 bytes is an image's like any other; one of 4096 is the kernel's to refuse" {
    new_image
    local path
    path=$(padded 4095)
    assert_equal "${#path}" 4095
    hold disk.qcow2 write
    run calls open rw "$path"
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/disk.qcow2: cannot open for writing: locked exclusively by holder"
    release
    run calls open rw "$path"
    assert_success
    assert_silent
    path=$(padded 4096)
    assert_equal "${#path}" 4096
    local how
    rm -f "${IMGLOCK_DIR:?}"/.qemu-*
    for how in 'open rw' 'open rw+creat+trunc' creat 'fopen w' unlink; do
        # shellcheck disable=SC2086 # the words of the operation
        as_bare $how "$path"
    done
    [ -s disk.qcow2 ]
}

@test "a real path of some 3800 bytes is locked and named in full" {
    local path=$PWD directory level
    directory=$(printf 'd%.0s' {1..250})
    # shellcheck disable=SC2034 # a counter
    for level in {1..15}; do path+=/$directory; done
    path+=/disk.qcow2
    run bare_calls deep 15 , open rw+creat+excl disk.qcow2
    assert_success
    begin deep 15 , open rw disk.qcow2 , step
    assert_equal "$("$HELPERS/lock_query" "$IMGLOCK_DIR/$(sha1_name "$path")" | head -n 1)" 'write 0-1'
    run calls deep 15 , open r disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line "imglock: $path: cannot open for reading: locked exclusively by input_call (pid $CALLER"
}

@test "an image deeper than any path can say is refused, and left as it is" {
    run bare_calls deep 17 , open rw+creat disk.qcow2 , write 3 content
    assert_success
    run calls deep 17 , open rw+trunc disk.qcow2
    assert_line 'open: ENOLCK'
    assert_one_line 'imglock: disk.qcow2: cannot truncate: cannot tell its real path: File name too long'
    run calls deep 17 , creat disk.qcow2
    assert_line 'creat: ENOLCK'
    assert_one_line 'cannot tell its real path'
    run bare_calls deep 17 , open r disk.qcow2 , read 3
    assert_line 'read: 7'
    IMGLOCK_ON_ERROR=allow run calls deep 17 , open rw disk.qcow2
    assert_success
    assert_one_line 'cannot tell its real path'
}

@test "a name of newlines, escape sequences and bytes that are no UTF-8 is one harmless line in a message" {
    local name=$'a\nimglock: b\t\xff\xc3(\033[31m\\täg\u202e.qcow2'
    new_image "$name"
    hold "$name" write
    run calls open rw "$name"
    assert_line 'open: ETXTBSY'
    assert_equal "$(wc -l <<<"$output")" 2
    # shellcheck disable=SC1003 # a backslash, no quote
    assert_one_line \
        'a\nimglock: b\t\xff\xc3(\x1b[31m\\täg\xe2\x80\xae.qcow2: cannot open for writing: locked exclusively by '
}

# ---- symbolic links --------------------------------------------------------------------------------------------------

# creates_through LINK TARGET: a file that is created through a dangling link is locked under the target's name.
creates_through() {
    local how
    ln -s "$2" "$1"
    for how in 'open rw+creat' 'open w+creat+trunc' creat 'fopen w' 'fopen a+'; do
        # Somebody has it: nothing is created.
        rm -rf "${IMGLOCK_DIR:?}"/.qemu-*
        hold_by_script "$IMGLOCK_DIR/$(sha1_name "$PWD/$2")" F_OFD_SETLK F_WRLCK 0 2
        # shellcheck disable=SC2086
        run calls $how "$1"
        assert_output --partial ': ETXTBSY'
        assert_one_line "$PWD/$2: cannot "
        [ ! -e "$2" ]
        release
        # shellcheck disable=SC2086
        begin $how "$1" , step
        [ -f "$2" ]
        assert_locks "$2" write
        assert_equal "$(the_lock_files)" "$(sha1_name "$PWD/$2")"
        rm "$2"
        next_step
    done
}

@test "a file created through a dangling link to an image's name is locked there" {
    creates_through x.qcow2 y.qcow2
    creates_through plain z.qcow2
}

@test "a file created through a dangling link with an image's name, to a name without one, is locked there" {
    creates_through x.qcow2 y
}

@test "O_EXCL follows no dangling link, and what it would lead to is not asked about" {
    ln -s y.qcow2 x.qcow2
    as_bare open rw+creat+excl x.qcow2
    as_bare fopen wx x.qcow2
    [ ! -e y.qcow2 ]
}

@test "a loop of symbolic links is the kernel's ELOOP" {
    ln -s x.qcow2 y.qcow2
    ln -s y.qcow2 x.qcow2
    as_bare open r x.qcow2 , open rw+creat x.qcow2 , creat x.qcow2 , fopen w x.qcow2 , fopen r x.qcow2
}

@test "a raw image is found through a link without a telling name, /dev/fd and /proc/self/fd" {
    truncate -s 1M disk.img
    ln -s disk.img link
    ln -s "$PWD/link" further
    hold disk.img write
    local before
    before=$(fingerprint disk.img)
    run calls open path disk.img , open rw link , open r further , open rw /dev/fd/3 , open r /proc/self/fd/3 , \
        fopen w link , creat further , fopen r+ /dev/fd/3
    assert_equal "$(grep -v '^imglock: ' <<<"$output")" 'open: 3
open: ETXTBSY
open: ETXTBSY
open: ETXTBSY
open: ETXTBSY
fopen: ETXTBSY
creat: ETXTBSY
fopen: ETXTBSY'
    assert_line --partial "imglock: $PWD/disk.img: cannot open for writing: locked exclusively by holder"
    assert_equal "$(fingerprint disk.img)" "$before"
    release
    begin open path disk.img , open rw /dev/fd/3 , step
    assert_locks disk.img write
}

# ---- files of other kinds --------------------------------------------------------------------------------------------

@test "a directory with an image's name opens, and fails to open, as ever" {
    mkdir x.qcow2 x.img
    as_bare open r x.qcow2 , read 3 , open r+directory x.img , open rw x.qcow2 , open r+trunc x.qcow2 , creat x.img , \
        fopen r x.qcow2 , fopen w x.qcow2 , rename x.img x.img , unlink x.qcow2 , rename x.img x.qcow2/x , \
            truncate x.qcow2 0 , \
        rename x.qcow2/x x.img
    [ -d x.qcow2 ] && [ -d x.img ]
}

@test "a FIFO with an image's name: no wait that was not there, and none less" {
    mkfifo x.qcow2
    as_bare open w+nonblock x.qcow2 , open r+nonblock x.qcow2 , open rw x.qcow2 , write 4 x , read 3 , fopen r+ x.qcow2
    # A reader waits for a writer, and each gets the other.
    LD_PRELOAD=$SHIM "$HELPERS/input_call" open r x.qcow2 , read 3 >reader 2>&1 3>&- &
    local reader=$!
    HOLDERS+=("$reader")
    run calls open w+creat+trunc x.qcow2 , write 3 words
    assert_success
    wait "$reader"
    assert_equal "$(cat reader)" 'open: 3
read: 5'
    LD_PRELOAD=$SHIM "$HELPERS/input_call" fopen w x.qcow2 , write 3 words >writer 2>&1 3>&- &
    local writer=$!
    HOLDERS+=("$writer")
    run calls fopen r x.qcow2 , read 3
    assert_output 'fopen: 3
read: 5'
    wait "$writer"
    assert_equal "$(the_lock_files)" ''
}

@test "a socket and a character device with an image's name" {
    /usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("x.qcow2")'
    as_bare open r x.qcow2 , open rw+creat x.qcow2 , creat x.qcow2 , fopen w x.qcow2
    mknod null.img c 1 3 2>/dev/null || skip "no devices here"
    as_bare open rw null.img , write 3 x , creat null.img , fopen r+ null.img , read 3 , open r+trunc null.img
}

@test "what lies under /proc and /sys is not read for its content" {
    as_bare open r /proc/self/status , read 3 , open w /proc/self/comm , open r /proc/self/mem , open r /dev/zero , \
        open rw /dev/null
    local file
    file=$(find /sys/kernel /sys/class/ -maxdepth 2 -type f -size +1 -perm -444 -print -quit)
    [ -n "$file" ] || skip "no /sys here"
    (alone strace -o trace -E LD_PRELOAD="$SHIM" "$HELPERS/input_call" open r "$file" >out)
    grep -q '^open: 3' out
    sed -n "\\|^openat(.*$file|,\$ p" trace >behind
    [ -s behind ]
    run grep -c pread64 behind
    assert_output 0
}

# ---- permissions and flags -------------------------------------------------------------------------------------------

@test "an image that a user may not open is EACCES, with no line and no lock, held or not" {
    needs_root
    new_image
    chmod 600 disk.qcow2
    local how
    for how in 'open r' 'open rw' 'open w+trunc' 'open rw+creat' creat 'fopen r' 'fopen r+' 'fopen w' 'fopen a'; do
        # shellcheck disable=SC2086 # the words of the operation
        run nobody_calls $how disk.qcow2
        assert_output "${how%% *}: EACCES"
        assert_equal "$(the_lock_files)" ''
    done
    hold disk.qcow2 write
    run nobody_calls open r disk.qcow2 , creat disk.qcow2 , fopen w disk.qcow2
    assert_output 'open: EACCES
creat: EACCES
fopen: EACCES'
}

@test "an image that a user may only write to is refused and locked as any other" {
    needs_root
    new_image
    chmod 622 disk.qcow2
    hold disk.qcow2 write
    run nobody_calls open w disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line 'cannot open for writing: locked exclusively by holder'
    release
    run nobody_calls open w disk.qcow2
    assert_success
    assert_silent
}

@test "an open for writing only is refused, by name and by content, and holds the lock when it is not" {
    local image
    new_image disk.qcow2 known-by-content
    for image in disk.qcow2 known-by-content; do
        refused_untouched "$image" "$HELPERS/input_call" open w "$image"
        refused_untouched "$image" "$HELPERS/input_call" open w+append "$image"
        refused_untouched "$image" "$HELPERS/input_call" open w+creat "$image"
        begin open w "$image" , step
        assert_locks "$image" write
        next_step
    done
}

@test "O_RDONLY with O_TRUNC truncates, so it is a writer" {
    new_image disk.qcow2 known-by-content
    local image
    for image in disk.qcow2 known-by-content; do
        hold "$image" read
        run calls open r+trunc "$image"
        assert_line 'open: ETXTBSY'
        assert_one_line "$PWD/$image: cannot truncate: locked shared by "
        release
        [ -s "$image" ]
        begin open r+trunc "$image" , read 3 , step
        assert_equal "$(cat "$STEPS")" 'open: 3
read: 0'
        assert_locks "$image" write
        assert_equal "$(stat -c %s "$image")" 0
        next_step
    done
}

@test "no descriptor left for the image: the program's own EMFILE, and the image as it was" {
    new_image
    local before
    before=$(fingerprint disk.qcow2)
    run calls leave 0 , open rw disk.qcow2 , creat disk.qcow2 , fopen w disk.qcow2 , open rw+creat new.qcow2
    assert_equal "$(grep -c 'EMFILE$' <<<"$output")" 4
    assert_equal "$(fingerprint disk.qcow2)" "$before"
    [ ! -e new.qcow2 ]
    # One left: the lock would need a second.
    run calls leave 1 , creat disk.qcow2
    assert_line 'creat: EMFILE'
    assert_one_line "$PWD/disk.qcow2: cannot truncate: cannot open the lock file"
    run calls leave 1 , fopen w disk.qcow2
    assert_line 'fopen: EMFILE'
    assert_equal "$(fingerprint disk.qcow2)" "$before"
    assert_locks disk.qcow2 none
    # With two left both work.
    run calls leave 2 , fopen w disk.qcow2
    assert_line --regexp '^fopen: [0-9]'
    refute_output --partial imglock:
    assert [ ! -s disk.qcow2 ]
}

@test "flags and values that make no sense are the kernel's to refuse" {
    new_image
    as_bare open path+trunc none.qcow2 , open r '' , open rw+creat '' , bad-pointer , open w+creat none/x.qcow2 , \
        creat disk.qcow2/x , fopen q disk.qcow2 , fopen '' disk.qcow2 , truncate disk.qcow2 -1 , truncate '' 0
    [ -s disk.qcow2 ]
}
