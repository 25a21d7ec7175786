#!/usr/bin/env bats
# guard.bats: IMGLOCK_GUARD: operations on names that would take an image away from its holder.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031

load common
load calls

# refused OPERATION ACTION [MODE]: another process has the image $IMAGE; the operation is EBUSY and changes nothing.
refused() {
    local before
    hold "$IMAGE" "${3:-read}"
    before=$(fingerprint "$IMAGE")
    # shellcheck disable=SC2086 # the words of the operation
    run calls $1
    release
    assert_failure
    assert_line "${1%% *}: EBUSY"
    assert_one_line "imglock: $PWD/$IMAGE: cannot $2: locked " "by holder (pid $HOLDER, user $(id -un))"
    assert_equal "$(fingerprint "$IMAGE")" "$before"
}

# refused_all: every operation there is, on $IMAGE.
refused_all() {
    echo other >other
    refused "truncate $IMAGE 0" truncate
    refused "truncate64 $IMAGE 4096" truncate
    refused "unlink $IMAGE" delete
    refused "unlinkat . $IMAGE" delete
    refused "remove $IMAGE" delete write
    refused "rename $IMAGE moved" rename
    refused "rename other $IMAGE" rename
    refused "renameat $IMAGE moved" rename write
    refused "renameat other $IMAGE" rename
    refused "renameat2 $IMAGE moved" rename
    refused "exchange $IMAGE other" rename
    refused "exchange other $IMAGE" rename write
    assert_equal "$(cat other)" other
    [ ! -e moved ]
}

# Deletes 100 names and held.qcow2, says so, and deletes disk.qcow2 when it is told to.
delete_many() {
    IMGLOCK_DIR=$IMGLOCK_DIR LD_PRELOAD=$SHIM exec /usr/bin/python3 -c '
import os, sys

def delete(image):
    try:
        os.unlink(image)
        print(image, "deleted", file=sys.stderr)
    except OSError as error:
        print(image, os.strerror(error.errno), file=sys.stderr)

for number in range(100):
    open(f"{number}.o", "w").close()
    os.unlink(f"{number}.o")
delete("held.qcow2")
print("ready", flush=True)
sys.stdin.readline()
delete("disk.qcow2")
'
}

@test "an image that is locked before many names are deleted, and one that is locked for the first time meanwhile" {
    local before deleting
    new_image disk.qcow2 held.qcow2
    hold held.qcow2 read
    before=$(date -d '1 minute ago')
    touch -d "$before" "$IMGLOCK_DIR"
    mkfifo ready go
    delete_many >ready <go 2>result 3>&- &
    deleting=$!
    HOLDERS+=("$deleting")
    exec 5<>go
    read -r _ <ready
    [ ! -e "$(lock_file disk.qcow2)" ] || fail "the image has been locked before"
    hold disk.qcow2 write
    # What a backup does to directories that it has restored.
    touch -d "$before" "$IMGLOCK_DIR"
    echo >&5
    exec 5>&-
    wait "$deleting"
    run cat result
    assert_line 'held.qcow2 Device or resource busy'
    assert_line 'disk.qcow2 Device or resource busy'
    [ -e held.qcow2 ] && [ -e disk.qcow2 ]
}

@test "every function of the family is among those that are refused" {
    local name tried
    tried=$(declare -f refused_all)
    for name in $("$HELPERS/symbols" | awk '$3 == "NAME" { print $2 }'); do
        [[ $tried = *"refused \"$name "* ]] || fail "$name is not among them"
    done
}

@test "an image that another process holds is not truncated, deleted, renamed or replaced" {
    IMAGE=disk.qcow2
    new_image "$IMAGE"
    refused_all
}

@test "a name that is held and no longer there is missing, as bare libc says" {
    new_image
    hold disk.qcow2 read
    command mv disk.qcow2 elsewhere
    run calls unlink disk.qcow2
    assert_output "unlink: ENOENT"
    run calls truncate disk.qcow2 0
    assert_output "truncate: ENOENT"
    run calls rename disk.qcow2 moved
    assert_output "rename: ENOENT"
}

@test "so with one that is known by its content alone" {
    IMAGE=known-by-content
    new_image "$IMAGE"
    refused_all
}

@test "so with a name that IMGLOCK_IMAGES adds" {
    IMAGE=plain.txt
    seq 1000 >"$IMAGE"
    export IMGLOCK_IMAGES='+*/plain.txt'
    refused_all
}

@test "the guard asks who holds the lock, not what the file is called" {
    # The holder alone knows that this is an image.
    seq 1000 >plain.txt
    IMGLOCK_IMAGES='+*/plain.txt' hold plain.txt write
    run calls unlink plain.txt
    assert_line 'unlink: EBUSY'
    [ -s plain.txt ]
}

@test "python: os.unlink, os.replace and os.truncate raise EBUSY" {
    new_image
    echo other >other
    hold disk.qcow2 write
    local call before
    before=$(fingerprint disk.qcow2)
    for call in 'os.unlink("disk.qcow2")' 'os.remove("disk.qcow2")' 'os.replace("other", "disk.qcow2")' \
        'os.rename("disk.qcow2", "moved")' 'os.truncate("disk.qcow2", 0)' 'pathlib.Path("disk.qcow2").unlink()'; do
        run wrapped /usr/bin/python3 -c "import os, pathlib
try:
    $call
except OSError as error:
    print(error.errno == 16)"
        assert_line True
        assert_one_line "$PWD/disk.qcow2: cannot "
        assert_equal "$(fingerprint disk.qcow2)" "$before"
    done
}

@test "a symbolic link to the image: truncate follows it, the others work on the link" {
    new_image
    ln -s disk.qcow2 link
    hold disk.qcow2 write
    run calls truncate link 0
    assert_line 'truncate: EBUSY'
    assert_one_line "$PWD/disk.qcow2: cannot truncate: "
    run calls rename link other-link , unlink other-link
    assert_success
    assert_silent
    [ -s disk.qcow2 ]
}

@test "by another directory's name, too" {
    mkdir real
    new_image real/disk.qcow2
    ln -s real linked
    hold real/disk.qcow2 write
    run calls unlink linked/disk.qcow2 , unlinkat linked disk.qcow2 , rename real/../linked/disk.qcow2 moved , \
        unlink "$PWD/real/disk.qcow2"
    assert_equal "$(grep -c ': EBUSY$' <<<"$output")" 4
    [ -s real/disk.qcow2 ]
}

@test "the holder itself is not refused" {
    new_image disk.qcow2 other.qcow2
    export IMGLOCK_FAMILY=off # which would let it past itself
    run calls open rw disk.qcow2 , truncate disk.qcow2 4096 , rename disk.qcow2 moved.qcow2 , \
        rename moved.qcow2 disk.qcow2 , \
        exchange disk.qcow2 other.qcow2 , unlink disk.qcow2
    assert_success
    assert_silent
    run calls open r other.qcow2 , truncate other.qcow2 0 , unlink other.qcow2
    assert_success
    assert_silent
}

@test "a holder among other readers is refused" {
    new_image
    hold disk.qcow2 read
    run calls open r disk.qcow2 , unlink disk.qcow2 , truncate disk.qcow2 0
    assert_line 'unlink: EBUSY'
    assert_line 'truncate: EBUSY'
    [ -s disk.qcow2 ]
}

@test "an image that nobody holds is free to go, locked before or not, and the guard leaves no lock behind" {
    new_image
    run calls truncate disk.qcow2 4096 , rename disk.qcow2 other.qcow2 , exchange other.qcow2 other.qcow2 , \
        unlink other.qcow2
    assert_success
    assert_silent
    # The guard makes no lock files.
    assert_equal "$(the_lock_files)" ''
    new_image
    calls open rw disk.qcow2 >out
    begin truncate disk.qcow2 4096 , rename disk.qcow2 other.qcow2 , rename other.qcow2 disk.qcow2 , \
        unlink disk.qcow2 , step
    assert_equal "$(cat "$STEPS")" 'truncate: 0
rename: 0
rename: 0
unlink: 0'
    assert_locks disk.qcow2 none
    run ls "/proc/$CALLER/fd"
    assert_equal "${lines[*]}" '0 1 2'
}

@test "IMGLOCK_GUARD: each operation by itself, two, none" {
    local guard operation expected
    echo other >other
    for guard in truncate unlink rename truncate,rename none; do
        for operation in truncate unlink rename; do
            new_image
            hold disk.qcow2 write
            case $operation in
            truncate) set -- truncate disk.qcow2 0 ;;
            unlink) set -- unlink disk.qcow2 ;;
            rename) set -- rename disk.qcow2 moved ;;
            esac
            IMGLOCK_GUARD=$guard run calls "$@"
            release
            expected=0
            [[ ,$guard, != *,$operation,* ]] || expected=EBUSY
            assert_line "$operation: $expected"
            [ "$expected" = EBUSY ] || assert_silent
        done
    done
}

@test "directories, missing files and files of other users: the kernel's errno" {
    needs_root
    mkdir directory directory.qcow2
    touch directory.qcow2/file
    local bare
    # shellcheck disable=SC2054 # the commas are operands
    local script=(unlink directory , unlink directory.qcow2 , remove directory.qcow2 , unlink none.qcow2 ,
        truncate none.qcow2 0 , truncate directory.qcow2 0 , rename none.qcow2 moved ,
        rename directory.qcow2 directory.qcow2/below , unlink directory.qcow2/file/x , remove directory ,
        unlinkat none x , unlink '' , renameat2 directory.qcow2 directory.qcow2)
    bare=$(bare_calls "${script[@]}" || true)
    assert_equal "$(grep -c ': E[A-Z]*$' <<<"$bare")" 12
    mkdir directory
    assert_equal "$(calls "${script[@]}" 2>&1 || true)" "$bare"
    new_image
    chmod 755 .
    chmod 644 disk.qcow2
    hold disk.qcow2 read
    run nobody_calls rename disk.qcow2 moved , unlink disk.qcow2 , truncate disk.qcow2 0
    assert_failure
    [ -s disk.qcow2 ]
}

@test "a name is guarded while its file is not there: nothing is renamed onto what a holder has locked" {
    new_image
    echo other >other
    hold disk.qcow2 write
    rm disk.qcow2
    run calls rename other disk.qcow2
    assert_line 'rename: EBUSY'
    [ ! -e disk.qcow2 ]
    # What is not there cannot be deleted or truncated in the first place.
    run calls unlink disk.qcow2 , truncate disk.qcow2 0 , rename disk.qcow2 other
    assert_output 'unlink: ENOENT
truncate: ENOENT
rename: ENOENT'
}

@test "no lock directory: there is no holder to take an image from" {
    new_image
    IMGLOCK_DIR=$PWD/none run calls truncate disk.qcow2 0 , rename disk.qcow2 moved , unlink moved
    assert_success
    assert_silent
}

@test "beside a holder, who blocks the operation is told as well, and why" {
    new_image
    hold disk.qcow2 write
    mkfifo ready
    "$IMGLOCK" hold --no-lock --block unlink,rename,resize,truncate --reason 'nightly backup' disk.qcow2 -- \
        sh -c 'echo ready; exec sleep 1000' >ready 3>&- &
    HOLDERS+=("$!")
    read -r _ <ready
    for command in 'rm -f disk.qcow2' 'mv disk.qcow2 away' ': >disk.qcow2' \
        "python3 -c 'import os; os.truncate(\"disk.qcow2\", 0)'"; do
        run wrapped sh -c "$command"
        assert_output --regexp "disk.qcow2: cannot .*: locked exclusively by holder .*; blocked by .*: nightly backup"
    done
    [ -s disk.qcow2 ]
}

@test "a holder's helper that has the image open may truncate and rename it as its holder may" {
    new_image
    run wrapped python3 -c '
import os, subprocess, sys
os.open("disk.qcow2", os.O_RDWR)
sys.exit(subprocess.run(["python3", "-c", """
import os
os.open("disk.qcow2", os.O_RDWR)
os.truncate("disk.qcow2", 4096)
os.rename("disk.qcow2", "away.qcow2")
"""]).returncode)'
    assert_success
    assert_output ''
}

@test "a directory that the program has just renamed is not taken for the one it was" {
    mkdir here
    cp "$BATS_FILE_TMPDIR/disk.qcow2" here/disk.qcow2
    hold here/disk.qcow2 read
    # Many times, since the clock may tick in between.
    run wrapped python3 -c '
import os
here = os.open("here", os.O_RDONLY)
for i in range(200):
    os.rename("here", "there")
    try:
        os.unlink("nothing", dir_fd=here)
    except FileNotFoundError:
        pass
    open("there/nothing", "w").close()
    os.unlink("nothing", dir_fd=here)
    os.rename("there", "here")
    try:
        os.unlink("disk.qcow2", dir_fd=here)
        print("deleted")
        break
    except OSError:
        pass'
    refute_line deleted
    [ -e here/disk.qcow2 ]
}

# ---- closed by default -----------------------------------------------------------------------------------------------

# doubted PART...: whoever deletes, renames or truncates disk.qcow2 as nobody is refused with ENOLCK and one line that has the parts;
# IMGLOCK_ON_ERROR=allow lets it go, with the same line.
doubted() {
    local how
    for how in 'unlink disk.qcow2' 'rename disk.qcow2 moved' 'rename other disk.qcow2' 'truncate disk.qcow2 0'; do
        # shellcheck disable=SC2086 # the words of the operation
        run nobody_calls $how
        assert_line "${how%% *}: ENOLCK"
        assert_one_line "imglock: $PWD/disk.qcow2: cannot " "$@"
        refute_output --partial 'names another'
        [ -s disk.qcow2 ]
    done
    IMGLOCK_ON_ERROR=allow run nobody_calls truncate disk.qcow2 200000
    assert_success
    assert_one_line "imglock: $PWD/disk.qcow2: cannot truncate: " "$@"
}

@test "a lock file that cannot be opened refuses the operation, as it does an open" {
    new_image
    chmod 777 .
    chmod 666 disk.qcow2
    : >other
    chown nobody disk.qcow2 other
    (umask 077 && : >"$(lock_file disk.qcow2)")
    chmod 600 "$(lock_file disk.qcow2)"
    doubted "cannot open the lock file $(lock_file disk.qcow2): Permission denied; it belongs to user root"
    # One that may be read and not be locked exclusively says nothing of who comes next.
    chmod 644 "$(lock_file disk.qcow2)"
    doubted "cannot lock exclusively" "$(lock_file disk.qcow2)"
    rm "$(lock_file disk.qcow2)"
    ln -s elsewhere "$(lock_file disk.qcow2)"
    doubted "the lock file is a symbolic link"
}

@test "a lock directory that may not be searched leaves alone what is no image, and refuses what is one" {
    new_image disk.qcow2 content
    chmod 777 .
    echo text >notes
    : >other
    chown nobody disk.qcow2 content notes other
    chmod 700 "$IMGLOCK_DIR"
    doubted "cannot open the lock file $(lock_file disk.qcow2): Permission denied"
    run nobody_calls unlink content
    assert_output --partial 'unlink: ENOLCK'
    run nobody_calls rename notes text , truncate text 2 , unlink text
    assert_success
    assert_silent
}

@test "whoever locks an image for an instant is waited for before a name is refused" {
    truncate -s 1M disk.img
    background env LD_PRELOAD= /usr/bin/python3 -c 'import fcntl, signal
image = open("disk.img", "r+")
fcntl.lockf(image, fcntl.LOCK_EX, 1, 201)
print("ready", flush=True)
signal.pause()'
    run wrapped mv disk.img other.img
    assert_failure
    assert_line --partial "in use by python3 (pid $HOLDER, "
    # Between two looks he is gone, with his lock.
    run "$HELPERS/lock_between" sleep:1 "kill -9 $HOLDER; while '$HELPERS/lock_query' disk.img | grep -q 201; do :; done" \
        env LD_PRELOAD="$SHIM" mv disk.img other.img
    assert_success
    assert_output ''
    [ -e other.img ]
}

# jumps_out_of_guard COUNT CALLS [+]: a handler jumps out of truncate, at each of its first calls of these names in turn, which
# are so many at least: nothing stays locked.  With a + at the next of that name, where it is not the same number each time.
jumps_out_of_guard() {
    local traced=(strace -qq -e signal=none -o trace) call number jumps=0
    local program=(-E LD_PRELOAD="$SHIM" "$HELPERS/signals" jump-from-guard disk.img)
    export LOCK_FILE
    LOCK_FILE=$(lock_file disk.img)
    run "${traced[@]}" "${program[@]}"
    assert_line 'jumped 0'
    # strace counts the calls of each name.
    while read -r call number; do
        run "${traced[@]}" -e "inject=$call:signal=URG:when=$number$3" "${program[@]}"
        [[ $output != *wrong* ]] || fail "at $call $number: $output"
        ! grep -q 'jumped [1-9]' <<<"$output" || jumps=$((jumps + 1))
    done < <(sed 's/(.*//' trace | awk -v calls="$2" '{seen[$1]++} /getppid/ {inside = !inside} inside && $1 ~ calls && ++here[$1] <= 5 {print $1, seen[$1]}')
    [ "$jumps" -ge "$1" ] || fail "$jumps jumps"
}

@test "a handler jumps out of truncate anywhere, and nothing stays locked" {
    needs strace
    truncate -s 1M disk.img
    # Without a lock file, and with one.
    IMGLOCK_LOG=quiet jumps_out_of_guard 10 .
    wrapped sh -c ': <>disk.img'
    IMGLOCK_LOG=quiet jumps_out_of_guard 15 .
    # And with somebody who is waited for, in case that he has locked it for an instant.
    background env LD_PRELOAD= /usr/bin/python3 -c 'import fcntl, signal
image = open("disk.img", "r+")
fcntl.lockf(image, fcntl.LOCK_EX, 1, 201)
print("ready", flush=True)
signal.pause()'
    IMGLOCK_LOG=quiet jumps_out_of_guard 2 nanosleep +
}
