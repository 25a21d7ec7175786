#!/usr/bin/env bats
# lock.bats: the lock as other programs see it, and what must always hold.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031

load common
load calls

teardown() {
    umount "$BATS_TEST_TMPDIR/there" 2>/dev/null || true
    common_teardown
}

# ---- the name --------------------------------------------------------------------------------------------------------

# opens_lock_file NAME PATH: an open of this name leaves exactly the lock file for this real path.
opens_lock_file() {
    rm -rf "${IMGLOCK_DIR:?}"/.qemu-*
    run calls open rw "$1"
    assert_success
    assert_equal "$(the_lock_files)" "$(sha1_name "$2")"
}

@test "the name is the sha1 of the real path, whatever path the program uses" {
    mkdir -p real/below
    new_image real/disk.qcow2
    ln -s real linked
    ln -s real/disk.qcow2 other-name.qcow2
    ln -s "$PWD/linked/disk.qcow2" twice.qcow2
    local path name
    path=$(realpath real/disk.qcow2)
    for name in real/disk.qcow2 "$path" ./real//disk.qcow2 real/below/../disk.qcow2 linked/disk.qcow2 other-name.qcow2 \
        twice.qcow2 /proc/self/cwd/real/disk.qcow2; do
        opens_lock_file "$name" "$path"
    done
}

@test "the name is the sha1 of any bytes: blanks, newlines, bytes that are no UTF-8" {
    local name
    for name in 'a disk.qcow2' $'a\ndisk.qcow2' $'a\xff\xfedisk.qcow2' $' \t.qcow2' 'täglich.qcow2' '*?[].qcow2'; do
        new_image "$name"
        opens_lock_file "$name" "$PWD/$name"
        # And as a shell script finds it.
        [ -f "$(lock_file "$name")" ]
    done
}

@test "the name for a file that the open creates is its directory's real path and its name" {
    mkdir real
    ln -s real linked
    local how
    for how in 'open rw+creat' 'open w+creat+trunc' 'open rw+creat+excl' creat 'fopen w' 'fopen w+x'; do
        rm -rf real/new.qcow2 "${IMGLOCK_DIR:?}"/.qemu-*
        # shellcheck disable=SC2086 # the words of the operation
        run calls $how linked/new.qcow2
        assert_success
        assert_equal "$(the_lock_files)" "$(sha1_name "$PWD/real/new.qcow2")"
    done
}

# ---- the bytes -------------------------------------------------------------------------------------------------------

@test "a reader holds bytes 0 and 1 shared, a writer exclusive, and each one byte for its record" {
    new_image
    hold disk.qcow2 read
    assert_locks disk.qcow2 read
    release
    hold disk.qcow2 write
    assert_locks disk.qcow2 write
}

@test "bytes 0 and 1 are taken in one call, and nothing is ever unlocked" {
    new_image
    run alone strace -o trace -e trace=fcntl -E LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2 , \
        close 3 , \
        open r disk.qcow2 , close 3
    assert_success
    # The image has descriptor 3.
    run grep -E 'fcntl\([^3][0-9]*, F_OFD_SETLK,' trace
    assert_line --index 0 --partial '{l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=2}'
    assert_line --index 1 --partial '{l_type=F_WRLCK, l_whence=SEEK_SET, l_start=1024, l_len=1}'
    assert_line --index 2 --partial '{l_type=F_RDLCK, l_whence=SEEK_SET, l_start=1024, l_len=1}'
    assert_line --index 3 --partial '{l_type=F_RDLCK, l_whence=SEEK_SET, l_start=0, l_len=2}'
    refute_output --partial F_UNLCK
}

# script_meets HOLDER-MODE TYPE EXPECTED: what a fcntl script gets on a held image, with both kinds of lock.
script_meets() {
    local command
    hold disk.qcow2 "$1"
    for command in F_SETLK F_OFD_SETLK; do
        run try_by_script "$(lock_file disk.qcow2)" "$command" "$2" 0 2
        assert_output "$3"
        # One of the two bytes is enough to be in the way.
        run try_by_script "$(lock_file disk.qcow2)" "$command" "$2" 1 1
        assert_output "$3"
    done
    release
}

@test "a fcntl script sees the holder: shared with a reader, nothing with a writer" {
    new_image
    script_meets read F_RDLCK taken
    script_meets read F_WRLCK EAGAIN
    script_meets write F_RDLCK EAGAIN
    script_meets write F_WRLCK EAGAIN
}

# script_stops COMMAND TYPE FLAGS: a script that holds the lock keeps this open out.
script_stops() {
    hold_by_script "$(lock_file disk.qcow2)" "$1" "$2" 0 2
    run calls open "$3" disk.qcow2
    assert_failure
    assert_line 'open: ETXTBSY'
    if [ "$1" = F_SETLK ]; then
        # The kernel knows whose such a lock is.
        assert_one_line "$PWD/disk.qcow2: cannot open for " "by python3 (pid $HOLDER)"
    else
        assert_one_line "$PWD/disk.qcow2: cannot open for " 'by a program that left no record of itself'
    fi
    release
}

@test "a fcntl script makes conflicts: shared keeps writers out, exclusive everybody" {
    new_image
    local command
    for command in F_SETLK F_OFD_SETLK; do
        script_stops "$command" F_WRLCK r
        script_stops "$command" F_WRLCK rw
        script_stops "$command" F_RDLCK w
        hold_by_script "$(lock_file disk.qcow2)" "$command" F_RDLCK 0 2
        run calls open r disk.qcow2
        assert_success
        assert_silent
        release
    done
}

@test "a shared lock on the whole file goes together with readers, both ways" {
    new_image
    hold disk.qcow2 read
    run try_by_script "$(lock_file disk.qcow2)" F_OFD_SETLK F_RDLCK 0 0
    assert_output taken
    run try_by_script "$(lock_file disk.qcow2)" F_OFD_SETLK F_WRLCK 0 0
    assert_output EAGAIN
    release
    hold_by_script "$(lock_file disk.qcow2)" F_OFD_SETLK F_RDLCK 0 0
    run calls open r disk.qcow2
    assert_success
    assert_silent
    run calls open rw disk.qcow2
    assert_failure
    assert_one_line 'cannot open for writing: locked shared by '
}

@test "the range from byte 1048576, where relatives lock beside a holder, keeps strangers out as well" {
    new_image
    hold_by_script "$(lock_file disk.qcow2)" F_OFD_SETLK F_RDLCK 1048580 1
    run calls open r disk.qcow2
    assert_success
    run calls open rw disk.qcow2
    assert_line 'open: ETXTBSY'
    release
    hold_by_script "$(lock_file disk.qcow2)" F_OFD_SETLK F_WRLCK 1048580 1
    run calls open r disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line 'cannot open for reading: locked'
    release
    assert_locks disk.qcow2 none
}

@test "two readers share an image; a writer and a reader do not, whoever is first" {
    new_image
    hold disk.qcow2 read
    hold disk.qcow2 read
    run calls open r disk.qcow2
    assert_success
    run calls open rw disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line 'cannot open for writing: locked shared by holder (pid ' ' and 1 other '
    kill -9 "${HOLDERS[@]}"
    wait "${HOLDERS[@]}" || true
    hold disk.qcow2 write
    run calls open r disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line 'cannot open for reading: locked exclusively by holder '
}

# ---- the lock file ---------------------------------------------------------------------------------------------------

@test "the lock file is a regular file of mode 1666 with one link, whatever the umask" {
    needs_root
    new_image
    local mask
    for mask in 0000 0077 0777; do
        rm -f "$(lock_file disk.qcow2)"
        (umask "$mask" && calls open rw disk.qcow2 >out)
        assert_equal "$(stat -c '%F %a %u %h' "$(lock_file disk.qcow2)")" "regular file 1666 $(id -u) 1"
    done
    rm -f "$(lock_file disk.qcow2)"
    chmod 666 disk.qcow2
    run nobody_calls open rw disk.qcow2
    assert_success
    assert_equal "$(stat -c '%F %a %U %h' "$(lock_file disk.qcow2)")" 'regular file 1666 nobody 1'
}

@test "the lock file's header names the image" {
    local name=$'a\xff disk.qcow2'
    new_image "$name"
    run calls open rw "$name"
    assert_success
    printf 'imglock lock file, version 1\nimage %s\0' "$PWD/$name" >expected
    cmp -n "$(stat -c %s expected)" expected "$(lock_file "$name")"
}

@test "the lock file's times move at every acquisition" {
    new_image
    local flags file
    file=$(lock_file disk.qcow2)
    for flags in r rw; do
        calls open rw disk.qcow2 >out
        touch -d '60 days ago' "$file"
        touch now
        calls open "$flags" disk.qcow2 >out
        [ "$(stat -c %X "$file")" -ge "$(stat -c %X now)" ]
        [ "$(stat -c %Y "$file")" -ge "$(stat -c %Y now)" ]
    done
}

@test "the lock file stays when the lock is given back, and is the same at the next open" {
    new_image
    hold disk.qcow2 write
    local before
    before=$(stat -c %i "$(lock_file disk.qcow2)")
    release
    assert_locks disk.qcow2 none
    hold disk.qcow2 read
    assert_equal "$(stat -c %i "$(lock_file disk.qcow2)")" "$before"
}

@test "a new lock file's header is written by one call" {
    # A second holder that finds a file with a size and no header takes it for somebody else's.
    truncate -s 1M disk.img
    strace -o trace -e trace=pwrite64,pwritev -E LD_PRELOAD="$SHIM" cat disk.img >/dev/null
    assert_equal "$(grep -cE ', 0\) += [0-9]+$|imglock lock file' trace)" 1
    assert_equal "$(grep -c "^pwrite" trace)" 2
}

@test "the record can be read by cat: pid, user, mode, command" {
    new_image
    hold disk.qcow2 write
    run grep -a -c "sum=[0-9a-f]\{8\} pid=$HOLDER start=[0-9]* .* uid=$(id -u) mode=exclusive .* cmd=holder " \
        "$(lock_file disk.qcow2)"
    assert_output 1
    release
    hold disk.qcow2 read
    run grep -a -c "pid=$HOLDER .* mode=shared .* cmd=holder " "$(lock_file disk.qcow2)"
    assert_output 1
}

@test "a lock file that a user may only read gives a shared lock without a record, and no exclusive one" {
    needs_root
    new_image
    chmod 666 disk.qcow2
    calls open rw disk.qcow2 >out
    chmod 644 "$(lock_file disk.qcow2)"
    begin_command as_nobody env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open r disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'open: 3'
    assert_equal "$(locks disk.qcow2)" 'read 0-1'
    next_step
    local before
    before=$(fingerprint disk.qcow2)
    run nobody_calls open rw disk.qcow2
    assert_line 'open: ENOLCK'
    assert_one_line "$PWD/disk.qcow2: cannot open for writing: " 'read-only' "$(lock_file disk.qcow2)"
    assert_equal "$(fingerprint disk.qcow2)" "$before"
}

# ---- the inode check -------------------------------------------------------------------------------------------------

@test "no two owners while the lock file is deleted all the time: 4000 acquisitions" {
    new_image
    IMGLOCK_LOG=quiet IMGLOCK_WAIT=forever IMGLOCK_GUARD=none run timeout -s KILL 1500 env LD_PRELOAD="$SHIM" "$HELPERS/lock_race" \
        "$(lock_file disk.qcow2)" disk.qcow2 4 4000
    assert_success
    # On a busy machine some wait for more than a second, and say so.
    assert_line --regexp '^acquisitions 4000, violations 0, deletions [0-9]{3,}$'
}

# replaced_by ACTION: the lock file goes that way, and another process makes and locks a new one, just before our lock.
replaced_by() {
    # shellcheck disable=SC2016 # for the action's shell
    run between lock:1 disk.qcow2 "$1"'; mkfifo ready
        LD_PRELOAD=$SHIM "$HELPERS/holder" write disk.qcow2 >ready 2>/dev/null 3>&- &
        echo $! >holder.pid; read line <ready; rm ready' "$HELPERS/input_call" open rw disk.qcow2
    HOLDER=$(cat holder.pid)
    HOLDERS+=("$HOLDER")
    assert_failure
    assert_line 'open: ETXTBSY'
    assert_one_line "locked exclusively by holder (pid $HOLDER, user $(id -un))"
    kill -9 "$HOLDER"
}

@test "a lock file that is replaced between its open and its lock counts for nothing" {
    new_image
    # shellcheck disable=SC2016
    replaced_by 'rm "$LOCK"'
    # shellcheck disable=SC2016
    replaced_by 'mv "$LOCK" elsewhere'
}

@test "a lock file that is deleted between its open and its lock is made anew" {
    new_image
    calls open rw disk.qcow2 >out
    # shellcheck disable=SC2016
    begin_command between lock:1 disk.qcow2 'rm "$LOCK"' "$HELPERS/input_call" open rw disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'open: 3'
    assert_locks disk.qcow2 write
    # The header is there, too.
    grep -a -q "^image $PWD/disk.qcow2" "$(lock_file disk.qcow2)"
}

@test "an image that is replaced between its open and its lock is opened anew" {
    new_image
    begin_command between lock:1 disk.qcow2 'cp disk.qcow2 new && mv new disk.qcow2' \
        "$HELPERS/input_call" open rw disk.qcow2 , inode 3 , step
    assert_equal "$(cat "$STEPS")" "open: 3
inode: $(stat -c %i disk.qcow2)"
    assert_locks disk.qcow2 write
}

# ---- release ---------------------------------------------------------------------------------------------------------

@test "the lock is free at once when its holder is killed" {
    new_image
    hold disk.qcow2 write
    kill -9 "$HOLDER"
    wait "$HOLDER" || true
    assert_locks disk.qcow2 none
    run calls open rw disk.qcow2
    assert_success
    assert_silent
}

@test "a child that closes its copy takes nothing from its parent" {
    new_image
    begin open rw disk.qcow2 , fork , close 3 , step
    assert_locks disk.qcow2 write
    run calls open r disk.qcow2
    assert_failure
}

# ---- IMGLOCK_KEY=inode -----------------------------------------------------------------------------------------------

# inode_lock_name FILE: of the lock file by device and inode.
inode_lock_name() {
    local device inode
    read -r device inode < <(stat -c '%d %i' "$1")
    sha1_name "inode:$((device >> 8 & 0xfff | device >> 32 & ~0xfff)):$((device & 0xff | device >> 12 & ~0xff)):$inode"
}

@test "IMGLOCK_KEY=inode takes two locks, by path and by device and inode" {
    new_image
    export IMGLOCK_KEY=inode
    begin open rw disk.qcow2 , step
    local inode_lock
    inode_lock=$IMGLOCK_DIR/$(inode_lock_name disk.qcow2)
    assert_locks disk.qcow2 write
    assert_equal "$("$HELPERS/lock_query" "$inode_lock")" 'write 0-1
read 1024-1024'
    assert_equal "$(the_lock_files | wc -l)" 2
    next_step
    assert_equal "$("$HELPERS/lock_query" "$inode_lock")" ''
    # One that is created has its inode only afterwards.
    begin open rw+creat new.qcow2 , step
    inode_lock=$IMGLOCK_DIR/$(inode_lock_name new.qcow2)
    assert_locks new.qcow2 write
    assert_equal "$("$HELPERS/lock_query" "$inode_lock" | head -n 1)" 'write 0-1'
}

@test "IMGLOCK_KEY=inode: two hard links are one image by their locks, by default by their marks" {
    new_image
    ln disk.qcow2 link.qcow2
    hold disk.qcow2 write
    run calls open rw link.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/link.qcow2: cannot open for writing: locked exclusively by holder (pid $HOLDER, user root) as $PWD/disk.qcow2"
    release
    export IMGLOCK_KEY=inode
    refused_untouched disk.qcow2 "$HELPERS/input_call" open rw disk.qcow2
    hold disk.qcow2 write
    local before
    before=$(fingerprint link.qcow2)
    run calls open rw+trunc link.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/link.qcow2: cannot truncate: locked exclusively by holder (pid $HOLDER"
    assert_equal "$(fingerprint link.qcow2)" "$before"
    # What was refused by the second lock has given the first one back.
    assert_locks link.qcow2 none
    release
    run calls open rw link.qcow2
    assert_success
}

@test "IMGLOCK_KEY=inode: one process opens both hard links, and the lock ends with the last" {
    new_image
    ln disk.qcow2 link.qcow2
    export IMGLOCK_KEY=inode
    local inode_lock
    inode_lock=$IMGLOCK_DIR/$(inode_lock_name disk.qcow2)
    begin open rw disk.qcow2 , open rw link.qcow2 , open r link.qcow2 , step , close 3 , step , close 4 , step , \
        close 5 , step
    assert_equal "$(cat "$STEPS")" 'open: 3
open: 4
open: 5'
    next_step
    assert_locks disk.qcow2 none
    assert_equal "$("$HELPERS/lock_query" "$inode_lock" | head -n 1)" 'write 0-1'
    next_step
    assert_equal "$("$HELPERS/lock_query" "$inode_lock" | head -n 1)" 'read 0-1'
    next_step
    assert_equal "$("$HELPERS/lock_query" "$inode_lock")" ''
}

@test "IMGLOCK_KEY=inode: a bind mount shows the same image" {
    mkdir here there
    mount --bind here there 2>/dev/null || skip "no mounts here"
    new_image here/disk.qcow2
    export IMGLOCK_KEY=inode
    hold here/disk.qcow2 write
    run calls open r there/disk.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/there/disk.qcow2: cannot open for reading: locked exclusively by holder (pid $HOLDER"
}

@test "IMGLOCK_KEY=inode: two nodes of one block device are one image" {
    local loop
    truncate -s 1M disk.img
    loop=$(losetup --find --show disk.img 2>/dev/null) || skip "no loop devices here"
    # shellcheck disable=SC2046
    mknod node b $(stat -c '%Hr %Lr' "$loop") || { losetup -d "$loop"; skip "no devices here"; }
    export IMGLOCK_KEY=inode IMGLOCK_IMAGES="+$loop:+$PWD/node"
    hold "$loop" write
    run "$IMGLOCK" status -rn -o PID,MODE node
    local listed=$output
    run calls open r node
    release
    losetup -d "$loop"
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/node: cannot open for reading: locked exclusively by holder (pid $HOLDER"
    assert_equal "$listed" "$HOLDER exclusive"
}

@test "IMGLOCK_KEY=inode: another file under the path of one that is open, renamed, is locked as itself" {
    new_image
    export IMGLOCK_KEY=inode
    local old new name
    old=$IMGLOCK_DIR/$(inode_lock_name disk.qcow2)
    cp disk.qcow2 new.qcow2
    new=$IMGLOCK_DIR/$(inode_lock_name new.qcow2)
    begin open rw disk.qcow2 , step , open rw disk.qcow2 , step , close 3 , step , open r disk.qcow2 , close 4 , step , close 3 , step
    mv disk.qcow2 old.qcow2
    ln new.qcow2 disk.qcow2
    next_step
    for name in old new; do assert_equal "$("$HELPERS/lock_query" "${!name}" | head -n 1)" 'write 0-1'; done
    run calls open r new.qcow2
    assert_line 'open: ETXTBSY'
    assert_one_line "$PWD/new.qcow2: cannot open for reading: locked exclusively by input_call (pid $CALLER"
    # The old one is closed, and its lock stays with the path's.
    next_step
    assert_equal "$("$HELPERS/lock_query" "$new" | head -n 1)" 'write 0-1'
    next_step
    assert_equal "$("$HELPERS/lock_query" "$new" | head -n 1)" 'read 0-1'
    next_step
    for name in old new; do assert_equal "$("$HELPERS/lock_query" "${!name}")" ''; done
    assert_locks disk.qcow2 none
}

# ---- files without a name -----------------------------------------------------------------------------------------------

@test "memory files of the same name are two images, and one is one" {
    local program='
import os, sys
memory = os.memfd_create("disk.img", 0)
os.write(memory, b"QFI\xfb\0\0\0\3" + bytes(4096))
try:
    os.close(os.open("/proc/self/fd/%d" % memory, os.O_RDWR))
except OSError as error:
    print(error)
os.execvp("sh", ["sh", "-c", "echo ready; exec sleep 1000"])'
    background env LD_PRELOAD="$SHIM" python3 -c "$program"
    background env LD_PRELOAD="$SHIM" python3 -c "$program"
    # Seen from outside, under the name that is made up for it.
    run wrapped dd if=/dev/null of="/proc/$HOLDER/fd/3" conv=notrunc
    assert_failure
    assert_one_line "/memfd:disk.img:" "cannot open for writing: locked exclusively by sleep (pid $HOLDER"
}

@test "images that are opened by handle before anybody asked for their names are two" {
    local program='
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_char * 128)]
handle, mount = Handle(size=128), ctypes.c_int()
if libc.name_to_handle_at(-100, sys.argv[1].encode(), ctypes.byref(handle), ctypes.byref(mount), 0) != 0:
    sys.exit("no handles")
os.sync()
with open("/proc/sys/vm/drop_caches", "w") as caches:
    caches.write("2")
descriptor = libc.open_by_handle_at(os.open(".", os.O_RDONLY), ctypes.byref(handle), os.O_RDWR)
if descriptor < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready" if os.readlink("/proc/self/fd/%d" % descriptor) == "/" else "it has a name", flush=True)
if sys.argv[2:]:
    os.read(0, 1)'
    [ -w /proc/sys/vm/drop_caches ] || skip "no way to have the kernel forget a name here"
    new_image one.qcow2 two.qcow2
    run python3 -c "$program" one.qcow2
    [ "$output" != "it has a name" ] || skip "the kernel does not forget the name"
    assert_output ready
    mkfifo go
    background sh -c 'LD_PRELOAD=$SHIM exec python3 -c "$1" one.qcow2 stay <>go' sh "$program"
    run wrapped python3 -c "$program" two.qcow2
    assert_success
    assert_output ready
    run wrapped python3 -c "$program" one.qcow2
    assert_failure
    assert_output --partial "imglock: /(no name):"
    assert_output --partial "cannot open for writing: locked exclusively by python3 (pid $HOLDER"
}

# ---- what must always hold -------------------------------------------------------------------------------------------

# refuses_quietly IMAGE OPERATION...: refused while another holds the image, which stays as it is, times and all.
refuses_quietly() {
    local image=$1 before
    shift
    hold "$image" read
    # Times that any read or write would move.
    touch -a -d '2020-01-01' "$image"
    touch -m -d '2021-01-01' "$image"
    before=$(fingerprint "$image")
    run calls "$@" "$image"
    release
    assert_failure
    assert_output --partial ': ETXTBSY'
    assert_one_line "$PWD/$image: cannot " 'locked shared by holder'
    assert_equal "$(fingerprint "$image")" "$before"
}

@test "point 1: a refused open changes nothing in an image that is there" {
    new_image disk.qcow2 known-by-content
    local image
    for image in disk.qcow2 known-by-content; do
        refuses_quietly "$image" open w+creat+trunc
        refuses_quietly "$image" open rw+trunc
        refuses_quietly "$image" open r+trunc
        refuses_quietly "$image" open w+append
        refuses_quietly "$image" creat
        refuses_quietly "$image" fopen w
        refuses_quietly "$image" fopen w+
        refuses_quietly "$image" fopen a
        refuses_quietly "$image" fopen r+
    done
}

@test "point 1: a refused open creates nothing" {
    local how before
    mkdir directory
    hold_by_script "$IMGLOCK_DIR/$(sha1_name "$PWD/directory/new.qcow2")" F_OFD_SETLK F_RDLCK 0 2
    before=$(stat -c '%y %z' directory)
    for how in 'open w+creat' 'open rw+creat+excl' 'open w+creat+trunc' creat 'fopen w' 'fopen a+' 'fopen wx'; do
        # shellcheck disable=SC2086
        run calls $how directory/new.qcow2
        assert_output --partial ': ETXTBSY'
        assert_one_line "$PWD/directory/new.qcow2: cannot "
        assert_equal "$(ls -A directory)" ''
        assert_equal "$(stat -c '%y %z' directory)" "$before"
    done
}

@test "point 1: the lock comes before the truncation, which is all there is to see until then" {
    new_image disk.qcow2 known-by-content
    cp disk.qcow2 copy
    run between lock:1 disk.qcow2 'cmp disk.qcow2 copy' "$HELPERS/input_call" creat disk.qcow2
    assert_success
    assert_equal "$(stat -c %s disk.qcow2)" 0
    run between lock:1 disk.qcow2 'cmp known-by-content copy' "$HELPERS/input_call" fopen w known-by-content
    assert_success
    assert_equal "$(stat -c %s known-by-content)" 0
    run between lock:1 disk.qcow2 '[ ! -e new.qcow2 ]' "$HELPERS/input_call" open rw+creat new.qcow2
    assert_success
}

@test "point 2: the lock lives until the last descriptor is gone: dup, close, fork, exec" {
    new_image
    begin open rw disk.qcow2 , step , dup 3 , close 3 , step , leave-to-child , step , exec , step , close 4 , step
    assert_locks disk.qcow2 write
    next_step # a copy is left
    assert_locks disk.qcow2 write
    next_step # the parent has ended, its child goes on
    wait "$CALLER"
    assert_locks disk.qcow2 write
    next_step # another program, with the descriptor
    assert_locks disk.qcow2 write
    next_step # closed
    assert_locks disk.qcow2 none
    next_step
}

@test "point 2: the lock ends with every kind of end" {
    new_image
    local signal
    for signal in TERM KILL SEGV; do
        begin open rw disk.qcow2 , step
        assert_locks disk.qcow2 write
        kill "-$signal" "$CALLER"
        wait "$CALLER" || true
        assert_locks disk.qcow2 none
    done
    run calls fopen r+ disk.qcow2
    assert_success
    assert_locks disk.qcow2 none
}

@test "point 2: a program that is executed gets the lock with the image, and not without it" {
    new_image
    local how
    for how in exec exec-bare; do
        begin open rw disk.qcow2 , "$how" , step
        assert_locks disk.qcow2 write
        next_step
        begin open rw+cloexec disk.qcow2 , "$how" , step
        assert_locks disk.qcow2 none
        next_step
        # The last descriptor that is passed on decides.
        begin open rw disk.qcow2 , open rw+cloexec disk.qcow2 , close 3 , "$how" , step
        assert_locks disk.qcow2 none
        next_step
    done
}

# same_as_bare OPERATION...: every line and the status are the same with the library and without, and there is no other
# output.
same_as_bare() {
    local bare wrapped
    bare=$(bare_calls "$@" 2>&1; echo "status $?")
    [ -z "$AGAIN" ] || $AGAIN
    wrapped=$(calls "$@" 2>&1; echo "status $?")
    assert_equal "$wrapped" "$bare"
}

@test "point 3: the program cannot tell: numbers, results and errno are the same" {
    AGAIN=
    new_image disk.qcow2 known-by-content
    mkdir directory.qcow2
    ln -s loop.qcow2 loop.qcow2
    same_as_bare open rw disk.qcow2 , open r disk.qcow2 , close 3 , open r known-by-content , dup 4 , read 5 , close 9
    same_as_bare open r none.qcow2 , open rw+creat none/none.qcow2 , open r disk.qcow2/x , open rw directory.qcow2 , \
        open r loop.qcow2 , open rw+creat+excl disk.qcow2 , open r '' , creat directory.qcow2 , fopen zz disk.qcow2 , \
        fopen wx disk.qcow2 , open w+nofollow loop.qcow2 , open r+directory disk.qcow2 , bad-pointer
    same_as_bare open path disk.qcow2 , read 3 , fopen r disk.qcow2 , fopen r+ disk.qcow2 , read 4 , open r /dev/null
    same_as_bare open w known-by-content , read 3 , open r+nonblock disk.qcow2 , read 4 , write 4 x
    AGAIN='rm new.qcow2' same_as_bare open rw+creat+excl new.qcow2 , write 3 text , close 3 , open r new.qcow2 , read 3
}

@test "point 3: a program that closes every descriptor keeps the locks of those it opens then, and sees no error" {
    AGAIN=
    new_image disk.qcow2 other.qcow2
    same_as_bare open rw disk.qcow2 , closefrom 3 , close 3 , open rw other.qcow2 , close 3 , close 3
    begin open rw disk.qcow2 , fork , closefrom 3 , step
    assert_locks disk.qcow2 write # the parent's
}

@test "point 3: a program that duplicates onto the library's own descriptor loses no lock" {
    AGAIN=
    new_image
    begin open rw disk.qcow2 , step
    local private
    private=$(grep -a -o ' fd=[0-9]*' "$(lock_file disk.qcow2)" | cut -d= -f2)
    next_step
    same_as_bare open rw disk.qcow2 , dup2 0 "$private" , close "$private" , close "$private"
    begin open rw disk.qcow2 , dup2 0 "$private" , step , dup2 3 "$private" , close 3 , step , close "$private" , step
    assert_equal "$(cat "$STEPS")" "open: 3
dup2: $private"
    assert_locks disk.qcow2 write
    next_step
    assert_locks disk.qcow2 write
    next_step
    assert_locks disk.qcow2 none
}

@test "point 4: a program never locks itself out, and holds the strongest mode that it needs" {
    new_image
    begin open r disk.qcow2 , step , open rw disk.qcow2 , open r disk.qcow2 , step , close 4 , step , close 3 , step
    assert_locks disk.qcow2 read
    next_step
    assert_equal "$(cat "$STEPS")" 'open: 3
open: 4
open: 5'
    assert_locks disk.qcow2 write
    next_step
    assert_locks disk.qcow2 read
    next_step
    assert_locks disk.qcow2 read
}

@test "point 4: a forked child opens what its parent has open" {
    new_image
    run calls open rw disk.qcow2 , fork , open rw disk.qcow2 , open r+trunc disk.qcow2 , creat disk.qcow2
    assert_success
    assert_silent
}

@test "point 4: a program that cannot get the stronger mode keeps the weaker" {
    new_image
    hold disk.qcow2 read
    begin open r disk.qcow2 , open rw disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'open: 3
open: ETXTBSY'
    release
    assert_equal "$(locks disk.qcow2 | head -n 1)" 'read 0-1'
    run calls open rw disk.qcow2
    assert_failure
}

@test "point 5: nothing hangs: not on a holder that is stopped, not on what lies at the lock's name" {
    new_image
    hold disk.qcow2 write
    kill -STOP "$HOLDER"
    run calls timed open rw disk.qcow2
    kill -CONT "$HOLDER"
    release
    assert_output --regexp 'open: ETXTBSY [0-9]{1,4} ms'
    rm "$(lock_file disk.qcow2)"
    mkfifo "$(lock_file disk.qcow2)"
    run calls timed open rw disk.qcow2
    assert_output --regexp 'open: ENOLCK [0-9]{1,4} ms'
}

# refuses_for_want_of_a_lock PART OPERATION...
refuses_for_want_of_a_lock() {
    local part=$1 before
    shift
    before=$(fingerprint disk.qcow2)
    run calls "$@"
    assert_failure
    assert_output --partial ': ENOLCK'
    assert_one_line "disk.qcow2: cannot " "$part"
    assert_equal "$(fingerprint disk.qcow2)" "$before"
    # A file that is no image is none of our business.
    run calls "${@:1:$#-1}" notes.txt
    assert_success
    assert_silent
}

@test "point 6: a lock that cannot be evaluated refuses, in one line that says why" {
    new_image
    echo text >notes.txt
    refuses_for_want_of_a_lock 'gives no lock' fail lock ENOLCK , open rw disk.qcow2
    refuses_for_want_of_a_lock 'gives no lock' fail probe ENOSYS , creat disk.qcow2
    IMGLOCK_DIR=$PWD/none refuses_for_want_of_a_lock 'lock directory has to exist' open r disk.qcow2
    IMGLOCK_MODE=Shared refuses_for_want_of_a_lock 'IMGLOCK_MODE=Shared makes no sense' fopen w disk.qcow2
    IMGLOCK_ON_ERROR=allow IMGLOCK_DIR=$PWD/none run calls open rw disk.qcow2
    assert_success
    assert_one_line 'lock directory has to exist'
}

# kernel_calls COMMAND...: the names of the system calls of one process between its open of notes.txt and its end.
kernel_calls() {
    (alone strace -o trace "$@" >/dev/null) || true # the last call fails, and is meant to
    sed -n '/^openat(.*notes/,$ s/(.*//p' trace
}

# costs CALL...: the system calls that the library adds to an open of notes.txt; to reading, copying and closing it
# none.
costs() {
    # shellcheck disable=SC2054 # the commas are operands
    local script=(open r notes.txt , read 3 , dup 3 , dup2 3 9 , close 3 , close 4 , close 9 , close 9)
    kernel_calls "$HELPERS/input_call" "${script[@]}" >bare
    kernel_calls -E LD_PRELOAD="$SHIM" "$HELPERS/input_call" "${script[@]}" >wrapped
    assert_equal "$(diff bare wrapped | sed -n 's/newfstatat/fstat/; s/^[<>] //p' | xargs)" "$*"
    assert_equal "$(diff bare wrapped | grep -c '^[0-9]')" 1
    assert_equal "$(diff bare wrapped | head -n 1 | cut -d, -f1)" 1a2
}

@test "point 7: what is not an image costs one fstat and one pread at its open, and nothing afterwards" {
    seq 1000 >notes.txt
    # As it is after a first read: a second does not move the access time.
    touch -a -d '+1 minute' notes.txt
    costs fstat pread64
    # What is too small to be an image is not looked at.
    echo text >notes.txt
    costs fstat
}

@test "point 7: a program that opens no image has no descriptor more, and leaves the lock directory alone" {
    echo text >notes.txt
    begin open rw notes.txt , step
    run ls "/proc/$CALLER/fd"
    assert_equal "${lines[*]}" '0 1 2 3'
    assert_equal "$(the_lock_files)" ''
}

@test "point 8: nothing that is planted at the lock's name is followed, truncated, waited for or believed" {
    needs_root
    new_image
    chmod 666 disk.qcow2
    echo precious >victim
    local lock plant who
    lock=$(lock_file disk.qcow2)
    for plant in "ln -s $PWD/victim" "ln -s $PWD/none" "ln $PWD/victim" 'mkfifo -m 666' 'mkfifo -m 644' mkdir; do
        $plant "$lock"
        for who in calls nobody_calls; do
            run "$who" open r disk.qcow2
            assert_output --partial 'open: ENOLCK'
            assert_one_line "$PWD/disk.qcow2: cannot open for reading: " "$lock"
            if [[ $plant == 'ln -s'* ]]; then assert_one_line 'symbolic link'; fi
        done
        assert_equal "$(cat victim)" precious
        [ ! -e none ]
        rm -rf "$lock"
    done
}

@test "a limit on the size of files costs the record, not the program" {
    new_image
    run bash -c 'ulimit -f 1; LD_PRELOAD=$SHIM exec head -c 4 disk.qcow2'
    assert_success
    rm -f "$IMGLOCK_DIR"/.qemu-*.lock
    run bash -c 'ulimit -f 1; LD_PRELOAD=$SHIM exec "$HELPERS/input_call" open rw disk.qcow2'
    assert_success
    assert_line --regexp '^open: [0-9]+$'
}
