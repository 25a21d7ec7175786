#!/usr/bin/env bats
# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2154 # scripts in quotes; what bats sets
# Marks on the image itself: unwrapped QEMU and imglock see each other, and so do two who know an image by two names.
bats_require_minimum_version 1.5.0
load common
load clients

setup() {
    common_setup
    mkdir work
    cd work || return
    raw disk.img 4M
    qemu-img create -q -f qcow2 disk.qcow2 4M
}

# bare_qemu ARGUMENT...: an unwrapped qemu-io that has the image open, until it is told to quit by "says quit".
bare_qemu() {
    rm -f ../stdin ../stdout
    mkfifo ../stdin
    exec 8<>../stdin
    env -u LD_PRELOAD qemu-io "$@" <../stdin >../stdout 2>../stderr 3>&- 8>&- &
    CLIENT=$!
    HOLDERS+=("$CLIENT")
    says 'read 0 512'
    wait_until grep -q 'read 512' ../stdout
}

# rows IMAGE: the locks on the image itself, without those of virtlockd.
rows() { "$HELPERS/lock_query" "$1" | grep -v ' 0-0$' || true; }

@test "what a reader, a writer and a writer without reading announce, as long as they have the image" {
    hold disk.img read
    assert_equal "$(rows disk.img)" $'read 100-100\nread 201-203'
    release
    hold disk.img write
    assert_equal "$(rows disk.img)" $'read 100-103\nread 201-203'
    release
    begins python3 -c 'import os; os.open("disk.img", os.O_WRONLY); print("open", flush=True); input()'
    wait_until grep -q open ../stdout
    assert_equal "$(rows disk.img)" 'write 201-203'
    says quit
    ends 0
    assert_equal "$(rows disk.img)" ''
    IMGLOCK_MODE=shared hold disk.img write
    assert_equal "$(rows disk.img)" 'read 100-103'
    release
    IMGLOCK_MODE=nolock hold disk.img write
    assert_equal "$(rows disk.img)" ''
    release
    IMGLOCK_MODE=inactive hold disk.img write
    assert_equal "$(rows disk.img)" ''
    release
    IMGLOCK_MODE=force-share hold disk.img read
    assert_equal "$(rows disk.img)" ''
}

@test "imglock hold keeps out who comes by another name or lock directory, and its command may be a QEMU" {
    ln disk.img hard.img
    mkdir other
    background "$IMGLOCK" hold disk.img -- sh -c 'echo ready; exec sleep 1000'
    assert_equal "$(rows disk.img)" 'read 150-150'
    local who
    who="locked exclusively by hold:sh (pid $HOLDER, user $(id -un))"
    stays_out hard.img "cannot open for writing: $who as $PWD/disk.img" dd if=/dev/zero of=hard.img count=1 conv=notrunc
    stays_out hard.img "cannot open for reading: $who as $PWD/disk.img" dd if=hard.img of=/dev/null
    IMGLOCK_MODE=shared stays_out hard.img "cannot open for writing: $who" dd if=/dev/zero of=hard.img conv=notrunc count=1
    IMGLOCK_DIR=$PWD/other stays_out disk.img "cannot open for writing: $who" dd if=/dev/zero of=disk.img conv=notrunc count=1
    run "$IMGLOCK" hold hard.img -- echo ran
    assert_failure 1
    assert_line --partial "imglock: $PWD/hard.img: cannot hold exclusively: $who as $PWD/disk.img"
    IMGLOCK_DIR=$PWD/other run "$IMGLOCK" hold -s disk.img -- echo ran
    assert_failure 1
    assert_equal "$(IMGLOCK_DIR=$PWD/other "$IMGLOCK" status -rn -o PID,KIND,MODE disk.img)" "$HOLDER marked exclusive"
    release
    assert_equal "$(rows disk.img)" ''
    # Its own command may: by another directory, by QEMU's bytes, by a lock of the whole file that is wrapped.
    run "$IMGLOCK" hold disk.img hard.img -- sh -c 'qemu-io -f raw -c "write -q 0 512" disk.img &&
        qemu-io -r -f raw -c "read 0 512" disk.img >/dev/null &&
        "$0" dd if=/dev/zero of=hard.img conv=notrunc count=1 status=none &&
        IMGLOCK_DIR=$PWD/other "$0" dd if=/dev/zero of=disk.img conv=notrunc count=1 status=none &&
        "$0" python3 -c "import fcntl; fcntl.lockf(open(\"disk.img\", \"r+b\"), fcntl.LOCK_EX | fcntl.LOCK_NB)"' "$IMGLOCK"
    assert_success
    assert_output ''
}

@test "mode shared: a writer beside another user's reader is refused, and told who has it shared" {
    needs_root
    chmod a+rwX . disk.img
    IMGLOCK_MODE=shared hold disk.img read
    # Root sees whose the mark is.
    IMGLOCK_MODE=shared run wrapped dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_success
    assert_output ''
    IMGLOCK_MODE=shared run "${NOBODY[@]}" env LD_PRELOAD="$SHIM" dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_failure
    assert_output --partial "imglock: $PWD/disk.img: cannot open for writing: in use by a program that cannot be seen from here: another user's, a container's, or on another host; it is locked shared by holder (pid $HOLDER, user root) for "
}

@test "imglock hold -s by another name keeps writers out, and no reader" {
    ln disk.img hard.img
    background "$IMGLOCK" hold -s disk.img -- sh -c 'echo ready; exec sleep 1000'
    assert_equal "$(rows disk.img)" 'read 210-210'
    stays_out hard.img "locked shared by hold:sh (pid $HOLDER, user $(id -un)) as $PWD/disk.img" \
        dd if=/dev/zero of=hard.img count=1 conv=notrunc
    wrapped cat hard.img >/dev/null
    IMGLOCK_MODE=shared wrapped dd if=/dev/zero of=hard.img count=1 conv=notrunc status=none
    run "$IMGLOCK" hold -s hard.img -- echo ran
    assert_output ran
    IMGLOCK_ON_CONFLICT=warn run "$IMGLOCK" hold hard.img -- "$HELPERS/lock_query" "$(lock_file hard.img)"
    assert_success
    assert_line --partial 'locked shared by hold:sh'
    # It has the lock that is to be had.
    assert_line 'write 0-1'
}

@test "an unwrapped QEMU keeps imglock hold out, by IMGLOCK_OUTSIDERS, and is waited for" {
    bare_qemu -f qcow2 disk.qcow2
    local who how
    who="in use by qemu-io (pid $CLIENT, user $(id -un)): QEMU's own lock: writes, shares nothing"
    for how in 'x exclusively' 's shared'; do
        run "$IMGLOCK" hold "-${how% *}" disk.qcow2 -- echo ran
        assert_failure 1
        assert_output --partial "imglock: $PWD/disk.qcow2: cannot hold ${how#* }: $who"
        IMGLOCK_OUTSIDERS=warn run "$IMGLOCK" hold "-${how% *}" disk.qcow2 -- echo ran
        assert_success
        assert_line --index 0 --partial "imglock: $PWD/disk.qcow2: held all the same: $who"
        IMGLOCK_OUTSIDERS=ignore run "$IMGLOCK" hold "-${how% *}" disk.qcow2 -- echo ran
        assert_success
        assert_output ran
    done
    "$IMGLOCK" hold -w 200 disk.qcow2 -- echo ran >result 2>&1 3>&- &
    local waiter=$!
    wait_until eval 'grep -qs inotify.wd /proc/$waiter/fdinfo/*'
    says quit
    ends 0
    wait "$waiter"
    assert_equal "$(cat result)" ran
}

@test "new images are marked, by whatever call they are made" {
    local how
    for how in 'os.open("new.img", os.O_RDWR | os.O_CREAT | os.O_EXCL)' 'os.open("new.img", os.O_RDWR | os.O_CREAT | os.O_TRUNC)' \
        'open("new.img", "w+b")' 'os.open("disk.img", os.O_RDWR | os.O_TRUNC)'; do
        begins python3 -c "import os; image = $how; print('open', flush=True); input()"
        wait_until grep -q open ../stdout
        local image=new.img
        [ -e new.img ] || image=disk.img
        assert_equal "$how: $(rows $image)" "$how: "$'read 100-103\nread 201-203'
        says quit
        ends 0
        rm -f new.img
    done
}

@test "an unwrapped QEMU keeps wrapped writers and readers out, raw and qcow2, and they change nothing" {
    local format
    for format in raw qcow2; do
        local image=disk.qcow2 says="QEMU's own lock: writes, shares nothing"
        [ $format = qcow2 ] || image=disk.img says="QEMU's own lock: writes"
        bare_qemu -f $format $image
        stays_out $image "cannot open for writing: in use by qemu-io (pid $CLIENT, user root): $says" \
            dd if=/dev/zero of=$image count=1 conv=notrunc status=none
        stays_out $image "cannot truncate: in use by qemu-io (pid $CLIENT" dd if=/dev/zero of=$image count=1 status=none
        stays_out $image "cannot truncate: in use by qemu-io (pid $CLIENT" bash -c "echo >$image"
        stays_out $image "cannot truncate: in use by qemu-io (pid $CLIENT" python3 -c "open('$image', 'w')"
        stays_out $image "cannot truncate: in use by qemu-io (pid $CLIENT" awk "BEGIN { print > \"$image\" }"
        stays_out $image "cannot open for reading: in use by qemu-io (pid $CLIENT" cat $image
        stays_out $image "in use by qemu-io (pid $CLIENT" mkfs.ext4 -F $image
        stays_out $image "in use by qemu-io (pid $CLIENT" qemu-img info -f $format $image
        says quit
        ends 0
        run wrapped cat $image
        assert_success
    done
}

@test "an unwrapped QEMU that reads lets wrapped readers in, and no writer" {
    bare_qemu -r -f qcow2 disk.qcow2
    wrapped cat disk.qcow2 >/dev/null
    stays_out disk.qcow2 "in use by qemu-io (pid $CLIENT, user root): QEMU's own lock: reads, shares no writing" \
        dd if=/dev/zero of=disk.qcow2 count=1 conv=notrunc status=none
    says quit
    ends 0
}

@test "a wrapped program keeps an unwrapped QEMU out, raw and qcow2, for writing beside a reader and for reading beside a writer" {
    local image format
    for image in disk.img disk.qcow2; do
        format=raw
        [ $image = disk.img ] || format=qcow2
        hold $image read
        run qemu-io -f $format -c 'write 0 512' $image
        assert_failure
        assert_output --partial 'Failed to get "write" lock'
        qemu-img info -f $format $image >/dev/null
        release
        hold $image write
        run qemu-io -f $format -c 'write 0 512' $image
        assert_failure
        assert_output --partial 'Failed to get "write" lock'
        release
        qemu-io -f $format -c 'write -q 0 512' $image
    done
    hold disk.qcow2 write
    run qemu-img info disk.qcow2
    assert_failure
    # A raw image can be looked at.
    hold disk.img write
    qemu-img info -f raw disk.img >/dev/null
}

@test "an image is the same by every name: a hard link, a bind mount, another lock directory, a deleted lock file" {
    needs_root
    mkdir other bound
    ln disk.img other/link.img
    hold disk.img write
    stays_out other/link.img "cannot open for writing: locked exclusively by holder (pid $HOLDER, user root) as $PWD/disk.img" \
        dd if=/dev/zero of=other/link.img count=1 conv=notrunc status=none
    stays_out other/link.img "cannot open for reading: locked exclusively by holder (pid $HOLDER" cat other/link.img
    mount --bind . bound
    run wrapped dd if=/dev/zero of=bound/disk.img count=1 conv=notrunc status=none
    umount bound
    assert_failure
    assert_line --partial "cannot open for writing: locked exclusively by holder (pid $HOLDER, user root)"
    mkdir -m 1777 elsewhere
    IMGLOCK_DIR=$PWD/elsewhere stays_out disk.img "locked exclusively by holder (pid $HOLDER, user root)" \
        dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    rm "$(lock_file disk.img)"
    stays_out disk.img "locked exclusively by holder (pid $HOLDER, user root)" \
        dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    release
    wrapped dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    # Readers go together.
    hold disk.img read
    wrapped cat other/link.img >/dev/null
    stays_out other/link.img "locked shared by holder (pid $HOLDER" dd if=/dev/zero of=other/link.img count=1 conv=notrunc status=none
}

@test "an image that an unwrapped QEMU has is not truncated, renamed, replaced or deleted, and a free one is" {
    local image
    for image in disk.qcow2 disk.img; do
        bare_qemu -f "$([ $image = disk.img ] && echo raw || echo qcow2)" $image
        stays_out $image "cannot truncate: in use by qemu-io (pid $CLIENT" \
            python3 -c "import os; os.truncate('$image', 0)"
        stays_out $image "cannot rename: in use by qemu-io (pid $CLIENT" mv $image other.img
        stays_out $image "cannot delete: in use by qemu-io (pid $CLIENT" rm -f $image
        echo text >text
        stays_out $image "in use by qemu-io (pid $CLIENT" mv text $image
        # truncate(2) takes what shows its content alone for an image, too.
        ln $image content
        run wrapped python3 -c 'import os; os.truncate("content", 0)'
        [ $image = disk.img ] || assert_output --partial 'content: cannot truncate: in use by qemu-io'
        rm content
        says quit
        ends 0
        run wrapped mv $image other.img
        assert_success
        assert_output ''
        run wrapped rm other.img
        assert_success
        assert_output ''
    done
}

@test "one process and its children open an image by two names" {
    ln disk.img link.img
    run wrapped python3 -c '
import os, subprocess
first = os.open("disk.img", os.O_RDWR)
second = os.open("link.img", os.O_RDWR)
third = os.open("link.img", os.O_WRONLY)
fourth = os.open("disk.img", os.O_RDONLY)
subprocess.check_call(["dd", "if=/dev/zero", "of=link.img", "count=1", "conv=notrunc", "status=none"])
subprocess.check_call(["dd", "if=/dev/zero", "of=disk.img", "count=1", "conv=notrunc", "status=none"])
'
    assert_success
    assert_output ''
}

@test "a reader that opens the image for writing as well is refused beside a QEMU that reads, and stays a reader" {
    bare_qemu -r -f qcow2 disk.qcow2
    run wrapped python3 -c '
import os, subprocess
reader = os.open("disk.qcow2", os.O_RDONLY)
for flags in os.O_RDWR, os.O_WRONLY:
    try:
        os.open("disk.qcow2", flags)
        print("opened", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
print(open("/proc/self/fdinfo/%d" % reader).read())
'
    assert_success
    assert_equal "$(grep -c '^Text file busy' <<<"$output")" 2
    assert_output --regexp 'READ .* 100 100'
    assert_output --regexp 'READ .* 201 203'
    says quit
    ends 0
}

@test "a second description for writing alone is marked when the first one is closed" {
    begins python3 -c '
import os, sys
first = os.open("disk.img", os.O_WRONLY)
second = os.open("disk.img", os.O_WRONLY)
third = os.open("disk.img", os.O_RDONLY)
os.close(first)
print("one", flush=True)
input()
os.close(second)
print("two", flush=True)
input()'
    wait_until grep -q one ../stdout
    assert_equal "$(rows disk.img)" $'read 100-100\nwrite 201-203'
    says next
    wait_until grep -q two ../stdout
    assert_equal "$(rows disk.img)" $'read 100-100\nread 201-203'
    says quit
    ends 0
}

# is_watching PID: it waits by inotify.
is_watching() { grep -qs ^inotify "/proc/$1"/fdinfo/*; }

no_row() { ! rows disk.img | grep -q "$1"; }

@test "IMGLOCK_WAIT gets in when an unwrapped QEMU ends, and when it closes the image" {
    local how
    for how in quit 'close'; do
        bare_qemu -f raw disk.img
        IMGLOCK_WAIT=300 LD_PRELOAD=$SHIM dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none 3>&- 8>&- &
        local waiter=$!
        # It does not lock others out meanwhile, nor is it marked.
        wait_until is_watching "$waiter"
        wait_until no_row 'read 201-203'
        wait_until lock_is disk.img free
        says "$how"
        wait "$waiter"
        says quit
        ends 0
    done
}

@test "IMGLOCK_ON_CONFLICT=warn lets a writer in beside an unwrapped QEMU and says so" {
    bare_qemu -f raw disk.img
    IMGLOCK_ON_CONFLICT=warn run wrapped dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_success
    assert_output --partial "disk.img: cannot open for writing: in use by qemu-io (pid $CLIENT"
    says quit
    ends 0
}

@test "virtlockd's byte counts for nobody" {
    background python3 -c '
import fcntl, os
image = os.open("disk.img", os.O_RDWR)
fcntl.lockf(image, fcntl.LOCK_EX, 1, 0)
print("ready", flush=True)
import signal; signal.pause()'
    wrapped dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    hold disk.img write
}

@test "a program that locks a whole image for itself is seen, a plain read lock lets readers in" {
    background python3 -c '
import fcntl, os
image = os.open("disk.img", os.O_RDONLY)
fcntl.lockf(image, fcntl.LOCK_SH)
print("ready", flush=True)
import signal; signal.pause()'
    wrapped cat disk.img >/dev/null
    stays_out disk.img "in use by python3 (pid $HOLDER, user root): it has locked the file" \
        dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
}

@test "the locks of a program's own are what they are without us, alone and beside a reader who is marked" {
    python3 "$TOP/tests/helpers/own_locks.py" disk.img >bare
    wrapped python3 "$TOP/tests/helpers/own_locks.py" disk.img >wrapped
    diff bare wrapped
    python3 "$TOP/tests/helpers/own_locks.py" disk.img reader >bare
    hold disk.img read
    wrapped python3 "$TOP/tests/helpers/own_locks.py" disk.img reader >wrapped
    diff bare wrapped
}

@test "wrapped QEMU with its own locking on, off and auto: as bare, and it keeps an unwrapped one out and is kept out" {
    local locking options
    for locking in on off auto; do
        options="driver=qcow2,file.driver=file,file.filename=disk.qcow2,file.locking=$locking"
        run wrapped qemu-io --image-opts -c 'write -P 5 0 64k' -c 'read -P 5 0 64k' "$options"
        assert_success
        refute_output --partial imglock:
        begins qemu-io --image-opts "$options"
        says 'read 0 512'
        wait_until grep -q 'read 512' ../stdout
        run qemu-io -f qcow2 -c 'write 0 512' disk.qcow2
        assert_failure
        assert_output --partial 'Failed to get'
        says quit
        ends 0
        bare_qemu -f qcow2 disk.qcow2
        stays_out disk.qcow2 "in use by qemu-io (pid $CLIENT" qemu-io --image-opts -c 'write 0 512' "$options"
        says quit
        ends 0
    done
}

@test "sqlite3 on an image's name: as bare" {
    needs sqlite3
    local script='create table t(x); insert into t values (1); insert into t select x + 1 from t; select * from t;'
    rm -f new.img
    run sqlite3 new.img "$script"
    local bare=$output
    rm -f new.img
    run wrapped sqlite3 new.img "$script"
    assert_success
    assert_output "$bare"
}

@test "a helper of the program that has the image runs QEMU with its own lock on it" {
    run wrapped python3 -c '
import os, subprocess
for flags in os.O_RDWR, os.O_WRONLY:
    image = os.open("disk.qcow2", flags)
    subprocess.check_call(["qemu-img", "resize", "-q", "disk.qcow2", "8M"])
    subprocess.check_call(["qemu-io", "-c", "write -q 0 512", "disk.qcow2"])
    os.close(image)
'
    assert_success
    assert_output ''
}

@test "a shell that has an image open exports LD_PRELOAD: no pipeline breaks, and the image is marked as long as it has it" {
    local flags
    for flags in '<' '<>'; do
        run bash -c "exec 3$flags disk.img; export LD_PRELOAD=\$SHIM"'
            for i in {1..10}; do
                head -c 100000 /dev/zero | cat | cat | cat | sha1sum >/dev/null
                echo "${PIPESTATUS[@]}"
            done
            LD_PRELOAD= "$HELPERS/lock_query" disk.img | tail -n 1
            (LD_PRELOAD= exec qemu-io -f raw -c "write 0 512" disk.img) 2>&1'
        assert_equal "$(head -n 10 <<<"$output" | sort -u)" '0 0 0 0 0'
        assert_line --index 10 'read 201-203'
        assert_line --partial 'Failed to get "write" lock'
    done
    qemu-io -f raw -c 'write -q 0 512' disk.img
}

@test "what a shell hands to QEMU by exec is protected, whether or not the shell is wrapped" {
    local shell
    for shell in '' "$SHIM"; do
        begins env LD_PRELOAD="$shell" bash -c "exec 9<>disk.img; LD_PRELOAD=\$SHIM exec qemu-system-x86_64 -M none -nodefaults \
            -display none -monitor stdio -add-fd fd=9,set=1 -blockdev driver=raw,file.driver=file,file.filename=/dev/fdset/1,node-name=a"
        wait_until grep -q qemu ../stdout
        run second_writer disk.img
        assert_failure
        run qemu-io -f raw -c 'write 0 512' disk.img
        assert_failure
        says quit
        ends 0
    done
}

@test "imglock status says of a mark what the refusal says, and of a holder by another name that name" {
    local has
    bare_qemu -f qcow2 disk.qcow2
    has=$("$IMGLOCK" status -J disk.qcow2 | jq -r '.locks[] | select(.pid == '"$CLIENT"') | .has')
    assert_equal "$has" "QEMU's own lock: writes, shares nothing"
    stays_out disk.qcow2 ": $has" cat disk.qcow2
    says quit
    ends 0
    ln disk.img link.img
    hold disk.img write
    has=$("$IMGLOCK" status -J link.img | jq -r '.locks[] | select(.pid == '"$HOLDER"') | .has')
    assert_equal "$has" "imglock's marks, locked as $PWD/disk.img"
    stays_out link.img " ${has#*locked }" cat link.img
}

@test "imglock status: an unwrapped child that has the image and not the lock has its marks, and is not called unlocked" {
    begins bash -c 'exec 5<>disk.img; LD_PRELOAD= bash -c "
        for name in /proc/\$\$/fd/*; do
            case \$(readlink \$name) in *.lock) eval \"exec \${name##*/}>&-\" ;; esac
        done
        echo open
        read -r line"; :'
    wait_until grep -q open ../stdout
    run "$IMGLOCK" status -rn -o MODE,KIND disk.img
    assert_output $'exclusive holder\nexclusive marked'
    says quit
    ends 0
}

@test "a refused fopen for writing leaves no descriptor of the image" {
    bare_qemu -f raw disk.img
    run wrapped python3 -c '
import ctypes, os
libc = ctypes.CDLL(None)
for _ in range(3): print(libc.fopen(b"disk.img", b"w"))
print([link for link in (os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.exists(entry)) if "disk.img" in link])'
    assert_success
    refute_line --regexp '^[1-9]'
    assert_line '[]'
    says quit
}

@test "another file under the name of an image that the process has is asked about as well" {
    cp disk.img other.img
    bare_qemu -f raw other.img
    run wrapped python3 -c '
import os
os.open("disk.img", os.O_RDWR)
os.environ.pop("LD_PRELOAD")
os.system("mv other.img disk.img")
os.open("disk.img", os.O_RDWR)'
    assert_failure
    assert_line --partial "cannot open for writing: in use by qemu-io (pid $CLIENT"
    says quit
}

@test "a program that locks a hundred images itself meets no mark of its own" {
    run wrapped python3 -c '
import fcntl, os
images = [os.open("%d.img" % number, os.O_RDWR | os.O_CREAT) for number in range(100)]
for image in images: fcntl.lockf(image, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked")'
    assert_success
    assert_output locked
}

@test "a lease that somebody has on a marked image opens no way to truncate, rename or delete it" {
    local name
    # With imglock's marks, by a description for reading, since a lease goes with no other; who wants the lease back gets it.
    begins env -u LD_PRELOAD python3 -c '
import fcntl, os, signal, struct
image = os.open("disk.img", os.O_RDONLY)
for start, length in ((100, 4), (201, 3)):
    fcntl.fcntl(image, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))
signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(image, fcntl.F_SETLEASE, fcntl.F_UNLCK))
signal.signal(signal.SIGUSR1, lambda *_: fcntl.fcntl(image, fcntl.F_SETLEASE, fcntl.F_RDLCK))
os.kill(os.getpid(), signal.SIGUSR1)
print("open", flush=True)
input()'
    wait_until grep -q open ../stdout
    stays_out disk.img "cannot truncate: locked exclusively by python3 (pid $CLIENT" python3 -c '
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
raise SystemExit(0 if libc.fopen(b"disk.img", b"w") else 1)'
    for name in 'rm -f disk.img' 'mv disk.img other.img'; do
        kill -USR1 "$CLIENT"
        wait_until grep -q LEASE /proc/locks
        # shellcheck disable=SC2086 # a command line
        run wrapped_for_a_while $name
        assert_failure
        assert [ -s disk.img ]
    done
    says quit
}

@test "a name whose marks cannot be looked at is not taken away, IMGLOCK_ON_ERROR=allow is the way out" {
    needs_root
    chmod 777 .
    chmod 600 disk.img
    local command
    for command in 'rm -f disk.img' 'mv disk.img other.img'; do
        # shellcheck disable=SC2086 # a command line
        run "${NOBODY[@]}" env LD_PRELOAD="$SHIM" $command
        assert_failure
        assert_line --regexp "^imglock: $PWD/disk.img: cannot (delete|rename): cannot look at who else has it: Permission denied"
        assert [ -e disk.img ]
    done
    run "${NOBODY[@]}" env LD_PRELOAD="$SHIM" IMGLOCK_ON_ERROR=allow rm -f disk.img
    assert_success
    assert [ ! -e disk.img ]
}

@test "a shell that has an image open beside a stranger exports LD_PRELOAD: nothing that it runs is ended or waits" {
    local flags
    for flags in '<' '<>'; do
        hold disk.img write
        IMGLOCK_WAIT=300 run bash -c "exec 3$flags disk.img; export LD_PRELOAD=\$SHIM"'
            head -c 1000 /dev/zero | cat | sha1sum >/dev/null
            echo "status ${PIPESTATUS[*]}"
            cat <&3 >/dev/null
            echo "status $?"
            kill '"$HOLDER"'
            while kill -0 '"$HOLDER"' 2>/dev/null; do :; done
            LD_PRELOAD= "$HELPERS/lock_query" disk.img | tail -n 1
            true'
        wait "$HOLDER" || true
        assert_success
        assert_line 'status 0 0 0'
        assert_line 'status 0'
        assert_line --partial "disk.img: goes on without a lock, as its parent has it open, too: locked exclusively by holder (pid $HOLDER"
        # The shell has it, and its children have marked it.
        assert_line 'read 201-203'
    done
}

@test "IMGLOCK_OUTSIDERS says what QEMU's locks of others do; imglock's marks by another name are in the way" {
    bare_qemu -r -f qcow2 disk.qcow2
    IMGLOCK_OUTSIDERS=warn run wrapped dd if=/dev/zero of=disk.qcow2 count=1 conv=notrunc status=none
    assert_success
    assert_output "imglock: $PWD/disk.qcow2: opened all the same: in use by qemu-io (pid $CLIENT, user $(id -un)): QEMU's own lock: reads, shares no writing"
    IMGLOCK_OUTSIDERS=ignore run wrapped dd if=/dev/zero of=disk.qcow2 count=1 conv=notrunc status=none
    assert_success
    assert_output ''
    IMGLOCK_OUTSIDERS=ignore run wrapped mv disk.qcow2 other.qcow2
    assert_success
    assert_output ''
    IMGLOCK_OUTSIDERS=warn run wrapped mv other.qcow2 disk.qcow2
    assert_success
    assert_output --partial "cannot rename: in use by qemu-io (pid $CLIENT"
    stays_out disk.qcow2 "in use by qemu-io (pid $CLIENT" dd if=/dev/zero of=disk.qcow2 count=1 conv=notrunc status=none
    says quit
    ends 0
    ln disk.img link.img
    hold link.img write
    IMGLOCK_OUTSIDERS=ignore stays_out disk.img "locked exclusively by holder (pid $HOLDER, user root) as $PWD/link.img" \
        dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
}

@test "a reader that has locked the image by F_SETLK in another PID namespace keeps writers out" {
    needs_root
    truncate -s 1M disk.img
    # As QEMU does that reads.  /proc/locks in the other namespace shows nothing of it, and the byte before is in nobody's way.
    background python3 -c 'if True:
        import fcntl, signal
        image = open("disk.img")
        fcntl.lockf(image, fcntl.LOCK_SH, 1, 100)
        fcntl.lockf(image, fcntl.LOCK_SH, 3, 201)
        print("ready", flush=True)
        signal.pause()'
    run unshare --pid --fork --mount-proc env LD_PRELOAD="$SHIM" dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
    assert_failure
    assert_line --partial "imglock: $PWD/disk.img: cannot open for writing: "
    run unshare --pid --fork --mount-proc env LD_PRELOAD="$SHIM" dd if=disk.img of=/dev/null status=none
    assert_success
}

# hides_nobody HOW TIMES: the child is refused, though its parent has hidden the stranger.
hides_nobody() {
    IMGLOCK_LOG=quiet run wrapped timeout 300 "$HELPERS/hiding" "$1" disk.img "$2"
    assert_failure 1
    [ "$output" -gt 0 ] || fail "nobody was hidden"
}

@test "a parent that has the image when it is looked at, and not when locks are counted, hides no stranger's marks" {
    mkdir -m 1777 ../other
    IMGLOCK_DIR=$PWD/../other hold disk.img read
    for times in 1 4 1000; do
        IMGLOCK_MODE=shared hides_nobody open $times
        hides_nobody truncate $times
    done
    # And its child is kept out by nobody else.
    release
    for times in 1 4; do
        IMGLOCK_MODE=shared run wrapped timeout 300 "$HELPERS/hiding" open disk.img $times
        assert_success
    done
}

@test "a parent that gives its marks back without a close, or has them off for a moment, hides no stranger's marks" {
    mkdir -m 1777 ../other
    IMGLOCK_DIR=$PWD/../other hold disk.img read
    IMGLOCK_MODE=shared hides_nobody unlock 1
    IMGLOCK_MODE=shared hides_nobody raise 1
    IMGLOCK_MODE=shared hides_nobody moment 1
    # And its child is kept out by nobody else.
    release
    for how in unlock raise moment; do
        IMGLOCK_MODE=shared run wrapped timeout 300 "$HELPERS/hiding" $how disk.img 1
        assert_success
    done
}

@test "where nobody can be told who closes an image, a stranger is seen and a child gets in" {
    local no_watch=(unshare --user --map-root-user sh -c 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"' sh)
    "${no_watch[@]}" true 2>/dev/null || skip "no user namespaces here"
    mkdir -m 1777 ../other
    IMGLOCK_DIR=$PWD/../other hold disk.img read
    for how in 'open 0' 'open 1' 'open 2' 'open 4' 'open 6' 'truncate 0' 'truncate 4' 'half 1000' 'unlock 1' 'raise 1' 'moment 1'; do
        # shellcheck disable=SC2086 # two words
        IMGLOCK_MODE=shared IMGLOCK_LOG=quiet run "${no_watch[@]}" \
            env LD_PRELOAD="$SHIM" timeout 300 "$HELPERS/hiding" ${how% *} disk.img ${how#* }
        assert_failure 1
        [ "$output" = "${how#* }" ] || [ "$how" = 'half 1000' ] || fail "$how: $output times"
    done
    release
    IMGLOCK_MODE=shared run "${no_watch[@]}" env LD_PRELOAD="$SHIM" timeout 300 "$HELPERS/hiding" open disk.img 0
    assert_success
}
