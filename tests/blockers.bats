#!/usr/bin/env bats
# blockers.bats: operations that a holder forbids others: imglock hold --block, IMGLOCK_BLOCK.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

bats_require_minimum_version 1.5.0
load common
load calls

REASON='nightly backup'
ALL=write,truncate,resize,rename,unlink

setup() {
    common_setup
    new_image
    qemu-img create -q -f raw disk.img 1M
    printf content | dd of=disk.img bs=1 seek=4096 conv=notrunc status=none
    echo other >other
}

# block OPERATIONS IMAGE [REASON]: somebody blocks these operations, and holds no lock.
block() {
    background "$IMGLOCK" hold --no-lock --block "$1" --reason "${3:-$REASON}" "$2" -- sh -c 'echo ready; exec sleep 1000'
    BLOCKER=hold:sh
}

# block_wrapped OPERATIONS IMAGE: a program under the library does, which has the image open and a shared lock.  From
# then on everybody is a shared writer, and the guard is off: what is left in the way is the blocker.
block_wrapped() {
    IMGLOCK_BLOCK=$1 IMGLOCK_REASON=$REASON hold "$2" read
    BLOCKER=holder
    export IMGLOCK_MODE=shared IMGLOCK_GUARD=none
}

# unblock: kills who blocks; imglock hold ends with its command.
unblock() {
    kill -9 "$(pgrep -P "$HOLDER" || echo "$HOLDER")"
    wait "$HOLDER" 2>/dev/null || true
}

# blocked ACTION ERROR IMAGE COMMAND...: the command fails with the errno, says so in one line with the reason, and
# leaves the image as it was; not so when the blocker is gone.
blocked() {
    local action=$1 error=$2 image=$3 before
    shift 3
    before=$(fingerprint "$image")
    run wrapped "$@"
    assert_failure
    assert_one_line "imglock: $PWD/$image: cannot $action: blocked by $BLOCKER (pid $HOLDER, user $(id -un)) for " ": $REASON"
    [ -z "$error" ] || assert_output --partial "$error"
    assert_equal "$(fingerprint "$image")" "$before"
}

# passes COMMAND...: it succeeds, and nothing is said.
passes() {
    run wrapped "$@"
    assert_success
    assert_silent
}

# waits PID: until the process waits for a lock.
waits() { eventually has_inotify "$1"; }
has_inotify() { grep -q inotify "/proc/$1/"fdinfo/* 2>/dev/null; }

# ---- the five operations ----------------------------------------------------------------------------------------------

@test "write: dd and qemu-io do not open the image for writing, readers do" {
    local how
    for how in block block_wrapped; do
        $how write disk.img
        blocked 'open for writing' 'Text file busy' disk.img dd if=/dev/zero of=disk.img conv=notrunc count=1 status=none
        IMGLOCK_MODE=shared blocked 'open for writing' 'Text file busy' disk.img qemu-io -f raw -c 'write 0 512' disk.img
        IMGLOCK_ERRNO=EACCES blocked 'open for writing' 'Permission denied' disk.img python3 -c 'open("disk.img", "r+")'
        passes cat disk.img
        passes qemu-io -r -f raw -c 'read 0 512' disk.img
        unblock
        passes dd if=/dev/zero of=disk.img conv=notrunc count=1 status=none
    done
}

@test "write: a writer that is in already stays" {
    IMGLOCK_MODE=shared begin open rw disk.img , step , write 3 more , open rw disk.img
    block write disk.img
    IMGLOCK_MODE=shared blocked 'open for writing' '' disk.img dd if=other of=disk.img conv=notrunc status=none
    next_step
    # What is open goes on, and another open of the same program does not come to it.
    assert_equal "$(cat "$STEPS")" "open: 3"$'\n'"write: 4"$'\n'"open: ETXTBSY"
}

@test "truncate: the shell's >, dd, cp and fopen" {
    local how
    for how in block block_wrapped; do
        $how truncate disk.img
        blocked truncate 'Device or resource busy' disk.img bash -c ': >disk.img'
        blocked truncate 'Device or resource busy' disk.img dd if=other of=disk.img status=none
        blocked truncate 'Device or resource busy' disk.img cp other disk.img
        IMGLOCK_ERRNO=EACCES blocked truncate 'resource busy' disk.img python3 -c 'open("disk.img", "w")'
        blocked truncate EBUSY disk.img "$HELPERS/input_call" fopen w disk.img
        blocked truncate EBUSY disk.img "$HELPERS/input_call" creat disk.img
        # A change of size is another operation, and so is writing.
        passes dd if=other of=disk.img conv=notrunc status=none
        passes truncate -s 1M disk.img
        unblock
        passes bash -c ': >disk.img'
        qemu-img create -q -f raw disk.img 1M
    done
}

@test "resize: truncate, fallocate, qemu-img resize and create, python" {
    local how
    for how in block block_wrapped; do
        $how resize disk.img
        blocked resize 'Device or resource busy' disk.img truncate -s 2M disk.img
        blocked resize 'Device or resource busy' disk.img fallocate -l 2M disk.img
        blocked resize 'Could not resize file: Device or resource busy' disk.img qemu-img resize -f raw disk.img 2M
        # It makes a file new by ftruncate(2).
        blocked resize 'Could not resize file: Device or resource busy' disk.img qemu-img create -f raw disk.img 2M
        blocked resize 'Errno 16' disk.img python3 -c 'import os; os.ftruncate(os.open("disk.img", os.O_RDWR), 0)'
        blocked truncate 'Errno 16' disk.img python3 -c 'import os; os.truncate("disk.img", 0)'
        passes fallocate -n -l 2M disk.img
        passes fallocate -p -l 4096 disk.img
        passes fallocate -l 1M disk.img
        blocked resize 'Device or resource busy' disk.img fallocate -o 4096 -l 1M disk.img
        passes dd if=other of=disk.img conv=notrunc status=none
        unblock
        passes truncate -s 1M disk.img
    done
}

@test "resize: every call that changes a size, and none that does not" {
    local calls=(ftruncate ftruncate64 truncate truncate64 fallocate fallocate64 posix_fallocate posix_fallocate64
        'syscall ftruncate' 'syscall truncate' 'syscall fallocate' 'fallocate one byte on'
        'posix_fallocate one byte on' 'collapse range')
    local bare others
    cp disk.img copy.img
    local name
    for name in $("$HELPERS/symbols" | awk '$3 == "SIZE" { print $2 }'); do
        [[ " ${calls[*]} " = *" $name "* ]] || fail "$name is not among them"
    done
    # Not every file system collapses and zeroes ranges.
    bare=$("$HELPERS/block_resize" copy.img 2097152)
    others=$(grep -A9 '^keep size' <<<"$bare")
    assert_equal "$(wc -l <<<"$others")" 6
    block resize disk.img
    run --separate-stderr wrapped "$HELPERS/block_resize" disk.img 2097152
    assert_equal "$output" "$(printf '%s: EBUSY\n' "${calls[@]}")"$'\n'"$others"
    assert_equal "$(stat -c %s disk.img)" 1048576
    unblock
    run --separate-stderr wrapped "$HELPERS/block_resize" disk.img 2097152
    assert_equal "$output" "$bare"
    assert_equal "$stderr" ''
    cmp disk.img copy.img
}

@test "resize: a block device has its size" {
    local loop
    loop=$(losetup --find --show disk.img 2>/dev/null) || skip "no loop devices here"
    export IMGLOCK_IMAGES="+$loop"
    block resize "$loop"
    run wrapped fallocate -z -o 4096 -l 4096 "$loop"
    losetup -d "$loop"
    assert_success
    assert_silent
}

@test "rename: mv, and what would be moved over the image" {
    local how
    for how in block block_wrapped; do
        $how rename disk.img
        blocked rename 'Device or resource busy' disk.img mv disk.img elsewhere
        blocked rename 'Device or resource busy' disk.img mv other disk.img
        blocked rename 'Errno 16' disk.img python3 -c 'import os; os.replace("other", "disk.img")'
        blocked rename EBUSY disk.img "$HELPERS/input_call" exchange other disk.img
        [ ! -e elsewhere ]
        [ -e other ]
        unblock
        passes mv disk.img elsewhere
        mv elsewhere disk.img
    done
}

@test "unlink: rm, and what would be moved over the image" {
    local how
    for how in block block_wrapped; do
        $how unlink disk.img
        blocked delete 'Device or resource busy' disk.img rm disk.img
        blocked delete 'Errno 16' disk.img python3 -c 'import os; os.remove("disk.img")'
        blocked rename 'Device or resource busy' disk.img mv other disk.img
        [ -e other ]
        # It keeps its content under another name.
        passes mv disk.img elsewhere
        mv elsewhere disk.img
        unblock
        passes rm disk.img
        qemu-img create -q -f raw disk.img 1M
    done
}

@test "all five at once, by the names in any order" {
    block unlink,resize,write,rename,truncate disk.img
    blocked delete '' disk.img rm disk.img
    blocked rename '' disk.img mv disk.img elsewhere
    blocked truncate '' disk.img python3 -c 'import os; os.truncate("disk.img", 0)'
    blocked truncate '' disk.img bash -c ': >disk.img'
    blocked 'open for writing' '' disk.img truncate -s 0 disk.img
}

# ---- QEMU -------------------------------------------------------------------------------------------------------------

# block_resize PROGRAM ARGUMENT...: the running QEMU is told to give its image, the node "disk", another size.
block_resize() {
    printf '%s\n' '{"execute":"qmp_capabilities"}' \
        '{"execute":"block_resize","arguments":{"node-name":"disk","size":2097152}}' '{"execute":"quit"}' |
        wrapped timeout 300 "$@" --blockdev driver=raw,node-name=disk,file.driver=file,file.filename=disk.img
}

@test "a running qemu-system and a qemu-storage-daemon that hold the image are not to resize it" {
    local before
    local machine=(qemu-system-x86_64 -machine none -display none -qmp stdio)
    # shellcheck disable=SC2054
    local daemon=(qemu-storage-daemon --chardev stdio,id=here --monitor chardev=here)
    block resize disk.img
    before=$(fingerprint disk.img | grep -o 'size [0-9]*')
    run block_resize "${machine[@]}"
    assert_line --partial '"desc": "Could not resize file: Device or resource busy"'
    assert_one_line "$PWD/disk.img: cannot resize: blocked by hold:sh (pid $HOLDER, user $(id -un)) for " ": $REASON"
    run block_resize "${daemon[@]}"
    assert_line --partial '"desc": "Could not resize file: Device or resource busy"'
    assert_one_line "$PWD/disk.img: cannot resize: blocked by hold:sh (pid $HOLDER, user $(id -un)) for " ": $REASON"
    assert_equal "$(fingerprint disk.img | grep -o 'size [0-9]*')" "$before"
    unblock
    run block_resize "${machine[@]}"
    refute_output --partial error
    assert_silent
    assert_equal "$(stat -c %s disk.img)" 2097152
}

@test "a blocker comes beside a machine that runs and holds the image exclusively" {
    mkfifo requests
    local answer
    LD_PRELOAD=$SHIM timeout 300 qemu-system-x86_64 -machine none -display none -qmp stdio \
        -blockdev driver=raw,node-name=disk,file.driver=file,file.filename=disk.img <requests >answers 2>errors 3>&- &
    HOLDERS+=($!)
    exec 8>requests
    echo '{"execute":"qmp_capabilities"}' >&8
    timeout 300 sh -c 'tail -f answers | grep -q -m 1 return'
    assert_equal "$("$IMGLOCK" status -rn -o MODE disk.img)" exclusive
    block resize disk.img
    echo '{"execute":"block_resize","arguments":{"node-name":"disk","size":2097152}}' >&8
    timeout 300 sh -c 'tail -f answers | grep -q -m 1 error'
    answer=$(grep error answers)
    assert_regex "$answer" 'Could not resize file: Device or resource busy'
    assert_regex "$(cat errors)" "cannot resize: blocked by hold:sh \(pid $HOLDER, user $(id -un)\) for .*: $REASON"
    unblock
    echo '{"execute":"block_resize","arguments":{"node-name":"disk","size":2097152}} {"execute":"quit"}' >&8
    exec 8>&-
    wait "${HOLDERS[0]}"
    assert_equal "$(stat -c %s disk.img)" 2097152
}

@test "a qcow2 image's virtual size is a number in the file, and growing it no change of the file's size" {
    # What libimglock(7) says of it.
    block resize disk.qcow2
    passes qemu-img resize -q disk.qcow2 2M
    blocked resize 'Could not resize file' disk.qcow2 qemu-img create -q -f qcow2 disk.qcow2 4M
}

# ---- race-free --------------------------------------------------------------------------------------------------------

@test "no ftruncate succeeds, or ends, between a blocker's coming and its going, hundreds of times" {
    IMGLOCK_MODE=shared IMGLOCK_LOG=quiet wrapped timeout 300 "$HELPERS/block_race" resize disk.img state 3>&- &
    local resizer=$! status=0
    HOLDERS+=("$resizer")
    IMGLOCK_BLOCK=resize IMGLOCK_WAIT=200 run wrapped timeout 300 "$HELPERS/block_race" block disk.img state "${BLOCKS:-250}"
    assert_success
    wait "$resizer" || status=$?
    assert_equal "$status" 0
}

@test "a blocker that cannot be set, since the operation is under way, waits for it or is refused" {
    # Who performs an operation has its byte, 16 and on, exclusively.
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:18:1
    local command
    for command in "$IMGLOCK hold --block resize disk.img" "$IMGLOCK hold --no-lock --block unlink,resize disk.img"; do
        # shellcheck disable=SC2086 # words
        run $command -- echo ran
        assert_equal "$status" 1
        refute_line ran
        assert_one_line "$PWD/disk.img: cannot block resize: " 'performs it just now'
        # shellcheck disable=SC2086
        run $command -- true
        # Nothing is left of it: not the lock, and not the other blocker.
        assert_equal "$("$HELPERS/lock_query" "$(lock_file disk.img)")" 'write 18-18'
    done
    run "$IMGLOCK" hold -E 75 --block resize disk.img -- echo ran
    assert_equal "$status" 75
    IMGLOCK_BLOCK=resize run wrapped cat disk.img
    assert_failure
    assert_one_line "$PWD/disk.img: cannot open for reading: " 'performs it just now'
    "$IMGLOCK" hold -w 20 --block resize disk.img -- echo yes >ran 2>&1 3>&- &
    local waiter=$!
    HOLDERS+=("$waiter")
    waits "$waiter"
    [ ! -s ran ]
    kill "$HOLDER"
    wait "$waiter"
    assert_equal "$(cat ran)" yes
}

@test "IMGLOCK_WAIT waits for a write blocker to go" {
    block write disk.img
    IMGLOCK_WAIT=0.3 run wrapped dd if=other of=disk.img conv=notrunc status=none
    assert_failure
    assert_one_line "blocked by hold:sh (pid $HOLDER"
    IMGLOCK_WAIT=200 LD_PRELOAD=$SHIM dd if=other of=disk.img conv=notrunc status=none 3>&- &
    local waiter=$!
    HOLDERS+=("$waiter")
    waits "$waiter"
    assert_equal "$(head -c 5 disk.img | tr -d '\0')" ''
    unblock
    wait "$waiter"
    assert_equal "$(head -c 5 disk.img)" other
}

# ---- whom a blocker concerns ------------------------------------------------------------------------------------------

@test "who is killed with -9 blocks nothing any more, though the record is still there" {
    block_wrapped $ALL disk.img
    blocked delete '' disk.img rm disk.img
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    grep -aq "pid=$HOLDER .*block=$ALL reason=$REASON" "$(lock_file disk.img)"
    passes truncate -s 2M disk.img
    passes bash -c ': >disk.img'
    passes mv disk.img elsewhere.img
    passes rm elsewhere.img
}

@test "hold that is killed with -9 leaves the blocker to its command, and both go together" {
    background "$IMGLOCK" hold --no-lock --block unlink disk.img -- sh -c 'echo ready; exec sleep 1000'
    local command
    command=$(pgrep -P "$HOLDER")
    HOLDERS+=("$command")
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    run wrapped rm disk.img
    assert_failure
    assert_one_line 'cannot delete: blocked by '
    assert_equal "$("$IMGLOCK" status -rn -o PID,MODE,KIND,BLOCKS disk.img)" "$command none inherited unlink"
    kill -9 "$command"
    tail -s 0.02 --pid="$command" -f /dev/null
    passes rm disk.img
}

@test "a holder does not block itself, nor a child with the image it inherited; it does block what it starts" {
    export IMGLOCK_MODE=shared IMGLOCK_BLOCK=$ALL IMGLOCK_REASON=$REASON IMGLOCK_GUARD=none
    run wrapped python3 -c '
import os, subprocess
image = os.open("disk.img", os.O_RDWR)
os.ftruncate(image, 4096)
os.close(os.open("disk.img", os.O_RDWR | os.O_TRUNC))
os.truncate("disk.img", 8192)
os.rename("disk.img", "moved.img")
os.rename("moved.img", "disk.img")
os.link("disk.img", "saved")
os.unlink("disk.img")
os.rename("saved", "disk.img")
child = os.fork()
if child == 0:
    os.ftruncate(image, 12288)
    os.close(os.open("disk.img", os.O_RDWR))
    os._exit(0)
print("child", os.waitpid(child, 0)[1], os.fstat(image).st_size)
for command in ["truncate -s 0 disk.img", "rm disk.img", "mv disk.img moved.img"]:
    print(command, subprocess.run(command.split(), stderr=subprocess.DEVNULL).returncode)
# Descended from the holder, it gets in to read.
print("cat", subprocess.run(["cat", "disk.img"], stdout=subprocess.DEVNULL).returncode)
print(os.fstat(image).st_size)
'
    assert_success
    assert_output "child 0 12288
truncate -s 0 disk.img 1
rm disk.img 1
mv disk.img moved.img 1
cat 0
12288"
}

@test "a program below imglock hold is blocked as everybody is" {
    run "$IMGLOCK" hold --block resize --reason "$REASON" disk.img -- "$IMGLOCK" truncate -s 0 disk.img
    assert_failure
    assert_one_line "$PWD/disk.img: cannot resize: blocked by hold:imglock (pid " ": $REASON"
    assert_equal "$(stat -c %s disk.img)" 1048576
    run "$IMGLOCK" hold --block resize disk.img -- "$IMGLOCK" dd if=other of=disk.img conv=notrunc status=none
    assert_success
}

@test "two who block for different reasons: each line has the right one" {
    block resize disk.img 'a snapshot'
    local first=$HOLDER
    block unlink,resize disk.img 'a backup'
    run wrapped rm disk.img
    assert_one_line "cannot delete: blocked by hold:sh (pid $HOLDER, user $(id -un)) for " ': a backup'
    run wrapped truncate -s 0 disk.img
    assert_failure
    assert_one_line "cannot resize: blocked by hold:sh (pid "
    assert_output --regexp ': a (snapshot|backup)'
    # One of them goes, and the other still blocks.
    unblock
    passes mv disk.img moved.img
    mv moved.img disk.img
    run wrapped truncate -s 0 disk.img
    assert_failure
    assert_one_line "cannot resize: blocked by hold:sh (pid $first, user $(id -un)) for " ': a snapshot'
}

@test "IMGLOCK_GUARD=none does not lift a blocker" {
    export IMGLOCK_GUARD=none
    block truncate,rename,unlink,resize disk.img
    blocked delete '' disk.img rm disk.img
    blocked rename '' disk.img mv disk.img elsewhere
    blocked truncate '' disk.img bash -c ': >disk.img'
    blocked truncate '' disk.img python3 -c 'import os; os.truncate("disk.img", 0)'
}

@test "IMGLOCK_ON_CONFLICT=warn lets the operation through, and says what was in its way" {
    export IMGLOCK_ON_CONFLICT=warn
    block $ALL disk.img
    run wrapped truncate -s 2M disk.img
    assert_success
    assert_line --partial "blocked by hold:sh (pid $HOLDER, user $(id -un)) for "
    assert_equal "$(stat -c %s disk.img)" 2097152
    run wrapped dd if=other of=disk.img status=none
    assert_success
    assert_output --partial "cannot truncate: blocked by"
    assert_equal "$(cat disk.img)" other
    run wrapped mv disk.img elsewhere
    assert_success
    assert_one_line "cannot rename: blocked by hold:sh" ": $REASON"
    mv elsewhere disk.img
    run wrapped rm disk.img
    assert_success
    assert_one_line "cannot delete: blocked by hold:sh" ": $REASON"
    [ ! -e disk.img ]
}

@test "a program that is replaced through exec takes its blockers along" {
    export IMGLOCK_MODE=shared IMGLOCK_GUARD=none
    background env IMGLOCK_BLOCK=resize IMGLOCK_REASON="$REASON" LD_PRELOAD="$SHIM" \
        bash -c 'exec 5<disk.img; exec sh -c "echo ready; exec sleep 1000"'
    eventually grep -q '^sleep$' "/proc/$HOLDER/comm"
    run wrapped truncate -s 0 disk.img
    assert_failure
    assert_one_line 'cannot resize: blocked by ' "(pid $HOLDER, user $(id -un)) for " ": $REASON"
    assert_equal "$("$IMGLOCK" status -rn -o PID,KIND,BLOCKS disk.img)" "$HOLDER holder resize"
    # A bare program keeps the descriptor, and so the blocker.
    unblock
    background env IMGLOCK_BLOCK=resize IMGLOCK_REASON="$REASON" LD_PRELOAD="$SHIM" \
        bash -c 'exec 5<disk.img; exec env -u LD_PRELOAD sh -c "echo ready; exec sleep 1000"'
    run wrapped truncate -s 0 disk.img
    assert_failure
    assert_one_line "(pid $HOLDER, user $(id -un)) for " ": $REASON"
}

@test "a lock file that this user may only read: a look at the byte has to do" {
    needs_root
    chmod 666 disk.img
    install -m 644 /dev/null "$(lock_file disk.img)"
    block resize,unlink disk.img
    chmod 777 .
    export IMGLOCK_MODE=shared IMGLOCK_GUARD=none
    run nobody_calls truncate disk.img 0 , unlink disk.img
    assert_line 'truncate: EBUSY'
    assert_line 'unlink: EBUSY'
    run as_nobody env LD_PRELOAD="$SHIM" "$HELPERS/block_resize" disk.img 2097152
    assert_line 'ftruncate: EBUSY'
    assert_equal "$(stat -c %s disk.img)" 1048576
    unblock
    run as_nobody env LD_PRELOAD="$SHIM" "$HELPERS/block_resize" disk.img 2097152
    assert_line 'ftruncate: 0'
}

@test "an operation on an image that nobody blocks leaves nothing locked" {
    block write disk.img
    begin open r disk.img , truncate disk.img 4096 , rename disk.img moved.img , rename moved.img disk.img , step
    unblock
    assert_equal "$(cat "$STEPS")" 'open: 3
truncate: 0
rename: 0
rename: 0'
    assert_equal "$("$HELPERS/lock_query" "$(lock_file disk.img)" | grep -c ' 1[6-9]-')" 0
}

# ---- settings ---------------------------------------------------------------------------------------------------------

@test "IMGLOCK_BLOCK does not go together with a mode that holds nothing" {
    local mode
    for mode in nolock force-share inactive; do
        IMGLOCK_MODE=$mode IMGLOCK_BLOCK=resize run wrapped cat disk.img
        assert_failure
        assert_one_line "cannot open for reading: IMGLOCK_BLOCK=resize makes no sense; it takes no value with IMGLOCK_MODE=$mode"
        IMGLOCK_MODE=$mode IMGLOCK_BLOCK=resize run "$IMGLOCK" cat disk.img
        assert_equal "$status" 125
        IMGLOCK_MODE=$mode IMGLOCK_BLOCK=resize run "$IMGLOCK" hold disk.img -- echo ran
        assert_equal "$status" 125
        # The option is about imglock hold's own lock, and the mode is not.
        IMGLOCK_MODE=$mode run "$IMGLOCK" hold --block resize disk.img -- echo ran
        assert_output ran
    done
    IMGLOCK_BLOCK=resize,format run wrapped cat disk.img
    assert_failure
    assert_one_line 'IMGLOCK_BLOCK=resize,format makes no sense; it takes any of write,truncate,resize,rename,unlink'
}

# ---- imglock hold -----------------------------------------------------------------------------------------------------

@test "hold --block: what it does not take is an error that names what it takes" {
    local operations
    for operations in format write,format write,,resize 'write,' ,write WRITE 'write resize' none all; do
        run "$IMGLOCK" hold --block "$operations" disk.img -- echo ran
        assert_equal "$operations: $status" "$operations: 125"
        assert_output "imglock: hold: --block '$operations' makes no sense; it takes any of write,truncate,resize,rename,unlink"
    done
    run "$IMGLOCK" hold --block '' disk.img -- echo ran
    assert_equal "$status" 125
    assert_line --index 0 'imglock: option --block needs a value'
    run "$IMGLOCK" hold --block write --block resize disk.img -- echo ran
    assert_equal "$status" 125
    assert_line --index 0 "imglock: option --block is given twice, with 'write' and 'resize'"
}

@test "hold --no-lock goes with --block alone, and not with -s or -x" {
    run "$IMGLOCK" hold --no-lock --reason x disk.img -- echo ran
    assert_equal "$status" 125
    assert_line --index 0 'imglock: hold: --no-lock goes with --block: without either there is nothing to hold'
    local option
    for option in -s -x; do
        run "$IMGLOCK" hold $option --no-lock --block write disk.img -- echo ran
        assert_equal "$status" 125
        assert_line --index 0 "imglock: options $option and --no-lock contradict each other"
    done
    IMGLOCK_BLOCK='write' run "$IMGLOCK" hold --no-lock disk.img -- echo ran
    assert_output ran
}

@test "hold --block takes the lock as well, hold --no-lock does not" {
    background "$IMGLOCK" hold --block resize --reason "$REASON" disk.img -- sh -c 'echo ready; exec sleep 1000'
    assert_equal "$(locks disk.img | grep -v 1024)" $'write 0-1\nread 18-18'
    run wrapped cat disk.img
    assert_one_line "cannot open for reading: locked exclusively by hold:sh (pid $HOLDER, user $(id -un)) for " ": $REASON"
    unblock
    background "$IMGLOCK" hold -s --block rename,unlink disk.img -- sh -c 'echo ready; exec sleep 1000'
    assert_equal "$(locks disk.img | grep -v 1024)" $'read 0-1\nread 19-20'
    unblock
    hold disk.img write
    local locked=$HOLDER
    block write,truncate disk.img
    assert_equal "$(locks disk.img | grep -vE ' [0-9]{4,}-')" $'write 0-1\nread 16-17'
    assert_equal "$("$IMGLOCK" status -rn -o PID,MODE,KIND,BLOCKS disk.img | grep -v inherited)" \
        "$locked exclusive holder -"$'\n'"$HOLDER none blocker write,truncate"
}

@test "hold: the reason without a blocker is in the line of a refusal, too" {
    background "$IMGLOCK" hold --reason "$REASON" disk.img -- sh -c 'echo ready; exec sleep 1000'
    run wrapped cat disk.img
    assert_one_line "locked exclusively by hold:sh (pid $HOLDER, user $(id -un)) for " ": $REASON"
    run "$IMGLOCK" hold -s disk.img -- echo ran
    assert_one_line "cannot hold shared: locked exclusively by hold:sh (pid $HOLDER, user $(id -un)) for " ": $REASON"
}

@test "hold: IMGLOCK_BLOCK and IMGLOCK_REASON are the defaults, and the command's environment stays as it is" {
    export IMGLOCK_BLOCK=resize IMGLOCK_REASON='of the environment'
    background "$IMGLOCK" hold -s disk.img -- sh -c 'echo ready; exec sleep 1000'
    assert_equal "$("$IMGLOCK" status -n -o BLOCKS,REASON disk.img | head -n 1 | xargs)" 'resize of the environment'
    unblock
    background "$IMGLOCK" hold -s --block unlink --reason option disk.img -- sh -c 'echo ready; exec sleep 1000'
    assert_equal "$("$IMGLOCK" status -n -o BLOCKS,REASON disk.img | head -n 1 | xargs)" 'unlink option'
    unblock
    run "$IMGLOCK" hold --block unlink --reason option disk.img -- sh -c 'echo "$IMGLOCK_BLOCK, $IMGLOCK_REASON"'
    assert_output 'resize, of the environment'
    unset IMGLOCK_BLOCK IMGLOCK_REASON
    run "$IMGLOCK" hold --block unlink --reason option disk.img -- sh -c 'env | grep IMGLOCK_[BR]'
    assert_output ''
}

@test "hold --block on several images, with IMGLOCK_KEY=inode, and on one that is not there yet" {
    export IMGLOCK_KEY=inode
    background "$IMGLOCK" hold --no-lock --block unlink disk.img disk.qcow2 new.img -- \
        sh -c 'echo ready; exec sleep 1000'
    local image
    for image in disk.img disk.qcow2; do
        run wrapped rm $image
        assert_failure
        assert_one_line "$PWD/$image: cannot delete: blocked by hold:sh"
    done
    passes bash -c 'echo >new.img'
    run wrapped rm new.img
    assert_failure
    [ -e new.img ]
}

@test "hold --no-lock keeps imglock gc from the lock file" {
    block unlink disk.img
    run "$IMGLOCK" gc
    assert_success
    [ -e "$(lock_file disk.img)" ]
    run wrapped rm disk.img
    assert_failure
}

# ---- a reason that nobody can trust -----------------------------------------------------------------------------------

# one_safe_line: the last run's output is one line, and nothing in it drives a terminal.
one_safe_line() {
    assert_equal "$(grep -ac ^ <<<"$output")" 1
    assert_equal "$(LC_ALL=C tr -d '\n' <<<"$output" | LC_ALL=C tr -cd '\000-\037\177' | od -An -c)" ''
    printf %s "$output" | iconv -f UTF-8 -t UTF-8 >/dev/null
}

@test "whatever a reason holds, it is one line, drives nothing, and forges nothing" {
    local reason reasons=($'a\nimglock: forged line' $'\e]0;owned\a\e[2J' $'tab\there' $'\x9b31m\xff\xfe' $'line\u2028\u202eend'
        'x mode=shared pid=1 uid=99 block=write,unlink reason=other' "$(printf 'r%.0s' {1..300})" '   ' '%s%n%d' '"quoted" \ {'
        $'\u00fc\u4e2d\U1f512')
    for reason in "${reasons[@]}"; do
        block unlink disk.img "$reason"
        run --separate-stderr wrapped "$HELPERS/input_call" unlink disk.img
        assert_output 'unlink: EBUSY'
        output=$stderr
        one_safe_line
        assert_output --partial "cannot delete: blocked by hold:sh (pid $HOLDER, user $(id -un)) for "
        run --separate-stderr "$IMGLOCK" status -rn -o MODE,PID,BLOCKS,KIND,UID disk.img
        assert_line "none $HOLDER unlink blocker $(id -u)"
        run --separate-stderr "$IMGLOCK" status -n -o PID,REASON disk.img
        assert_equal "${#lines[@]}" 1
        output=${lines[0]}
        one_safe_line
        "$IMGLOCK" status -J disk.img >status.json
        assert_equal "$(LC_ALL=C tr -d '\n' <status.json | LC_ALL=C tr -cd '\000-\037\177' | od -An -c)" ''
        assert_equal "$(jq -r '.locks[] | select(.kind == "blocker") | .blocks, (.reason | type)' status.json | xargs)" \
            "unlink $([ "$reason" = '   ' ] && echo null || echo string)"
        unblock
    done
}

@test "a long reason is cut between characters, and its first 50 bytes are kept" {
    local reason
    reason=$(printf '\u00e4%.0s' {1..150})
    block unlink disk.img "$reason"
    run --separate-stderr "$IMGLOCK" status -J disk.img
    output=$(jq -r '[.locks[] | select(.kind == "blocker")][0].reason' <<<"$output")
    assert_output --regexp '^ä{25,}\.\.\.$'
}

@test "a record that says it blocks what is not blocked is not believed" {
    local record
    record="pid=77 start=88 boot=00112233445566aa pidns=1 uid=0 mode=none since=1700000000000 fd=9 host=h cmd=evil block=$ALL reason=forged"
    background "$HELPERS/status_lock" "$(lock_file disk.img)" x:1024:1 "header:$PWD/disk.img" "record:0:$record" s:1024:1
    passes truncate -s 2M disk.img
    run --separate-stderr "$IMGLOCK" status -rn -o BLOCKS disk.img
    refute_output --partial write
}
