# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2154 # scripts in quotes; what bats sets
# What a second look at the first version found: waits, ways in, what is no image, and what a hostile user may do.  Who is a
# relative is in relatives.bats.
bats_require_minimum_version 1.5.0
load common
load calls

setup() {
    common_setup
    new_image disk.qcow2 content
    LOCK_FILE=$(lock_file disk.qcow2)
}

# ---- waiting ---------------------------------------------------------------------------------------------------------

@test "IMGLOCK_WAIT holds on a busy machine, and with somebody who tries for the lock a thousand times a second" {
    local program
    hold disk.qcow2 write
    mkfifo end
    # Open for writing too, so that nobody waits for the other end; those below read nothing from it until it is closed.
    # shellcheck disable=SC2034 # keeps it open
    exec {END}<>end
    for program in knock knock hog hog hog hog hog hog; do
        LD_PRELOAD=$SHIM IMGLOCK_LOG=quiet "$HELPERS/second_look" $program disk.qcow2 <end >/dev/null 3>&- &
        HOLDERS+=("$!")
    done
    IMGLOCK_WAIT=1 IMGLOCK_LOG=quiet run wrapped timeout 200 "$HELPERS/second_look" wait-as-told disk.qcow2 1
    assert_success
    assert_output ""
    # One that queues behind a waiting writer, too.
    IMGLOCK_WAIT=forever LD_PRELOAD=$SHIM "$HELPERS/holder" write disk.qcow2 >/dev/null 3>&- </dev/null &
    HOLDERS+=("$!")
    IMGLOCK_WAIT=0.5 IMGLOCK_LOG=quiet run wrapped timeout 200 "$HELPERS/second_look" wait-as-told disk.qcow2 0.5
    assert_success
    assert_output ""
}

@test "an image that is replaced while it is waited for starts no new wait" {
    local first
    hold disk.qcow2 write
    first=$HOLDER
    # What takes its place is another program's image: the open, which has the lock of the name by then, waits once more.
    cp disk.qcow2 other.qcow2
    ln other.qcow2 new
    IMGLOCK_KEY=inode hold other.qcow2 write
    # Each poll that ends without an event has lasted a quarter of a second, and on a busy machine more.  A new wait would
    # end two seconds too late.
    IMGLOCK_KEY=inode IMGLOCK_LOG=quiet IMGLOCK_WAIT=8 run between poll:8 disk.qcow2 "mv new disk.qcow2; kill $first" \
        "$HELPERS/second_look" wait-as-told disk.qcow2 8
    assert_success
    assert_output ""
    assert_equal "$("$HELPERS/probe" "$(lock_file disk.qcow2)")" free
}

# ---- every way in is the same way --------------------------------------------------------------------------------------

# nothing_gets_in IMAGE: the image is held; no way changes it, whatever its name says and however the library may look.
nothing_gets_in() {
    local image=$1 way before through=
    cp "$image" "$image.kept"
    while read -r way; do
        [ -n "${HOLDER-}" ] || hold "$image" write
        before=$(fingerprint "$image")
        echo other >other
        rm -f a-name another-name gone
        ! IMGLOCK_LOG=quiet wrapped "$HELPERS/ways_in" "$way" "$PWD/$image" >/dev/null 2>refused || through+=" $way"
        [ "$(fingerprint "$image" 2>/dev/null)" = "$before" ] && continue
        through+=" $way:changed"
        release
        HOLDER=
        rm -f "$image"
        cp "$image.kept" "$image"
    done < <("$HELPERS/ways_in" list)
    [ -z "$HOLDER" ] || release
    HOLDER=
    assert_equal "went through:$through" "went through:"
}

@test "no way into a held image, for writing, through links, by truncation or by name" {
    nothing_gets_in disk.qcow2
}

@test "no way into a held image whose name says nothing" {
    nothing_gets_in content
}

@test "no way into a held image that no header tells, with IMGLOCK_MAGIC=off as well, and of any size" {
    local size
    for size in 1048576 100 1000; do
        truncate -s 0 plain.img
        truncate -s $size plain.img
        nothing_gets_in plain.img
        IMGLOCK_MAGIC=off nothing_gets_in plain.img
    done
    IMGLOCK_MAGIC=off nothing_gets_in disk.qcow2
}

@test "a directory above a held image that is renamed, by anybody, does not free it" {
    local before way
    mkdir -p one/deep
    for way in disk.qcow2 plain.img; do
        cp content one/deep/$way
        hold one/deep/$way write
        mv one two
        before=$(fingerprint two/deep/$way)
        for command in "dd if=/dev/zero of=two/deep/$way count=1 conv=notrunc" "dd if=/dev/zero of=two/deep/$way count=1" \
            "truncate -s 0 two/deep/$way" "mv two/deep/$way other" "rm -f two/deep/$way" "cat two/deep/$way"; do
            # shellcheck disable=SC2086 # its words
            run wrapped $command
            assert_failure
            assert_output --partial "locked exclusively by holder (pid $HOLDER, user root)"
            assert_equal "$command: $(fingerprint two/deep/$way)" "$command: $before"
        done
        release
        run wrapped rm two/deep/$way
        assert_success
        mv two one
    done
}

@test "a look that cannot be made is not 'no image'" {
    # The header cannot be read through a descriptor for writing alone, and another open fails.
    needs_root
    cp content secret
    chmod 222 secret
    chown nobody secret
    chmod 777 .
    hold secret write
    local before how
    before=$(fingerprint secret)
    for how in 'open w+trunc' 'open w' 'open w+creat+trunc' creat 'fopen w'; do
        # shellcheck disable=SC2086 # the words of the operation
        run nobody_calls $how secret
        assert_failure
        assert_equal "$how: $(fingerprint secret)" "$how: $before"
    done
}

@test "a refused open costs the program no record lock that it has on the file" {
    hold disk.qcow2 read
    IMGLOCK_LOG=quiet run wrapped "$HELPERS/second_look" refused-beside-lock disk.qcow2
    assert_success
    assert_output ""
    release
    hold content read
    IMGLOCK_LOG=quiet run wrapped "$HELPERS/second_look" refused-beside-lock content
    assert_success
    assert_output ""
}

@test "record locks that came through exec are there after our start" {
    local file flags
    export SHIM
    : >empty
    echo 1234 >own.pid
    truncate -s 1M state
    truncate -s 1M state.img
    for file in empty own.pid state state.img content; do
        for flags in w rw; do
            run "$HELPERS/second_look" through-exec $file $flags
            assert_equal "$file $flags: $output" "$file $flags: "
            IMGLOCK_IMAGES='+*' run "$HELPERS/second_look" through-exec $file $flags
            assert_equal "all, $file $flags: $output" "all, $file $flags: "
        done
    done
}

@test "/proc and /sys are never images" {
    local file
    for file in /proc/self/maps /proc/uptime /sys/kernel/mm/transparent_hugepage/enabled /proc/self/oom_score_adj; do
        [ -e "$file" ] || continue
        IMGLOCK_IMAGES='+*' run calls open r "$file"
        assert_success
    done
    IMGLOCK_IMAGES='+*' run calls open rw /proc/self/oom_score_adj
    assert_success
    assert_equal "$(the_lock_files)" ""
}

# ---- what is no image gets the call that it made -----------------------------------------------------------------------

# last_call FLAGS FILE: what the kernel is asked for in the end, when a program opens the file so.
last_call() {
    (alone strace -qq -o trace -e trace=open,openat,openat2,ftruncate,truncate -E LD_PRELOAD="$SHIM" \
        "$HELPERS/input_call" open "$1" "$2" >/dev/null) || return
    tail -n 1 trace | sed 's/^open[^ ]* "[^"]*", \([^,)]*\).*/\1/; s/^openat(.*, "[^"]*", \([^,)]*\).*/\1/'
    ! grep truncate trace
}

@test "O_TRUNC and O_CREAT reach the file system" {
    echo text >file
    # A look may come first.  The last open is the one that was asked for, and nothing is truncated in its stead.
    assert_equal "$(last_call w+trunc file)" "O_WRONLY|O_TRUNC"
    echo text >file
    assert_equal "$(last_call w+creat+trunc file)" "O_WRONLY|O_CREAT|O_TRUNC"
    assert_equal "$(last_call w+creat+trunc new)" "O_WRONLY|O_CREAT|O_TRUNC"
    : >empty
    assert_equal "$(last_call w+trunc empty)" "O_WRONLY|O_TRUNC"
    head -c 4M /dev/urandom >large
    assert_equal "$(last_call w+trunc large)" "O_WRONLY|O_TRUNC"
    echo text >file
    ln -s file link
    assert_equal "$(last_call w+trunc link)" "O_WRONLY|O_TRUNC"
}

@test "a new file keeps its mode bits, and a watcher is told what it is told without us" {
    local name bare
    for name in new new.img; do
        bare=$(cd "$(mktemp -d -p .)" && "$HELPERS/second_look" create $name)
        run bash -c 'cd "$(mktemp -d -p .)" && LD_PRELOAD=$SHIM "$HELPERS/second_look" create '$name
        assert_success
        assert_output "$bare"
        grep -q 'mode 106777' <<<"$bare"
    done
}

@test "the kernel's rules of sticky directories hold as if we were not there" {
    needs_root
    mkdir -m 1777 sticky
    local name how bare
    for name in file disk.img fifo; do
        case $name in fifo) mkfifo -m 666 sticky/fifo ;; *) install -m 666 -T content sticky/$name ;; esac
        chown nobody sticky/$name
        for how in rw+creat+nonblock rw+creat+trunc+nonblock; do
            bare=$(bare_calls open $how sticky/$name || true)
            [ $name = fifo ] || install -m 666 -o nobody -T content sticky/$name
            assert_equal "$name $how: $(calls open $how sticky/$name 2>&1 || true)" "$name $how: $bare"
        done
    done
}

@test "a handler on a signal stack of 8 KiB unlinks, renames, opens and truncates" {
    local call setting
    for setting in '' '+*.never'; do
        for call in unlink rename create truncate open-truncate read openat; do
            echo text >program.pid
            IMGLOCK_IMAGES=$setting run wrapped "$HELPERS/second_look" small-stack "$PWD/program.pid" $call
            assert_success
            assert_output ""
        done
    done
}

# ---- a hostile user ------------------------------------------------------------------------------------------------------

# as_user COMMAND...: in the background, as nobody, who owns the lock file; returns when it is ready.
as_user() {
    [ ! -e "$LOCK_FILE" ] || chown nobody "$LOCK_FILE"
    background "${NOBODY[@]}" "$@"
}

# seconds_of COMMAND...: the processor time that it takes, the least of three runs.
seconds_of() {
    /usr/bin/python3 - "$@" <<'SCRIPT'
import resource, subprocess, sys
def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
best = 1e9
for _ in range(3):
    before = used()
    subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    best = min(best, used() - before)
print("%.6f" % best)
SCRIPT
}

# not_slower WHAT BEFORE AFTER SECONDS: by so many at most, which may be a sum.
not_slower() {
    awk -v before="$2" -v after="$3" "BEGIN {exit !(after <= before + $4)}" || fail "$1: $2 s before, $3 s after, more than $4"
}

@test "4,096 slots that a hostile user holds make a refusal and status little slower, and both say that there are more" {
    needs_root
    local refused status kind look=
    hold disk.qcow2 write
    refused=$(seconds_of env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2)
    status=$(seconds_of "$IMGLOCK" status disk.qcow2)
    release
    for kind in shared-up shared-down exclusive-up exclusive-down; do
        background bash -c 'ulimit -n 5000; exec "$@"' - "${NOBODY[@]}" "$HELPERS/second_look" hold-slots "$LOCK_FILE" $kind
        # 0.2 s at most, and what this machine takes: for a refusal before, and to read of each of the user's descriptors what the
        # kernel says of it, which status does as well.
        [ -n "$look" ] || look=$(seconds_of sh -c 'exec cat /proc/"$0"/fdinfo/*' "$HOLDER")
        not_slower "refusal, $kind" "$refused" "$(seconds_of env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2)" \
            "0.2 + $refused"
        not_slower "status, $kind" "$status" "$(seconds_of "$IMGLOCK" status disk.qcow2)" "0.2 + 1.5 * $look"
        run calls open rw disk.qcow2
        assert_failure
        assert_one_line 'cannot open for writing: locked'
        # In the order that the kernel looks, a fast machine sees all of them in time; against it, in a second.
        if [[ $kind = *-down ]]; then
            assert_output --partial 'and more'
            run "$IMGLOCK" status disk.qcow2
            assert_output --partial 'and more'
        fi
        kill -9 "$HOLDER"
        wait "$HOLDER" 2>/dev/null || true
    done
}

# guarded WHAT: rename, unlink and truncate are refused as an open is, and the image stays as it is.
guarded() {
    local before operation
    before=$(fingerprint disk.qcow2)
    for operation in 'open rw disk.qcow2' 'unlink disk.qcow2' 'remove disk.qcow2' 'unlinkat . disk.qcow2' \
        'rename disk.qcow2 gone' 'rename other.qcow2 disk.qcow2' 'exchange other.qcow2 disk.qcow2' 'truncate disk.qcow2 0'; do
        # shellcheck disable=SC2086 # the words of the operation
        run ${CALLS-calls} $operation
        [ "$status" != 0 ] || fail "$1: $operation went through"
        assert_equal "$1: $(fingerprint disk.qcow2)" "$1: $before"
        refute_output --partial 'IMGLOCK_DIR names another'
    done
}

@test "the guard refuses where the lock file cannot be opened or locked, as an open does" {
    new_image other.qcow2
    mkfifo "$LOCK_FILE"
    guarded 'a FIFO'
    rm "$LOCK_FILE"
    mkdir "$LOCK_FILE"
    guarded 'a directory'
    rmdir "$LOCK_FILE"
    ln -s /dev/null "$LOCK_FILE"
    guarded 'a symbolic link'
    rm "$LOCK_FILE"
    # The way out.
    mkdir "$LOCK_FILE"
    IMGLOCK_ON_ERROR=allow IMGLOCK_LOG=quiet run calls truncate disk.qcow2 7 , rename disk.qcow2 moved , unlink moved
    assert_success
    rmdir "$LOCK_FILE"
}

@test "the guard refuses where the lock file is not the user's to open" {
    needs_root
    new_image other.qcow2
    chmod 777 .
    chmod 666 disk.qcow2 other.qcow2
    install -m 600 /dev/null "$LOCK_FILE"
    CALLS=nobody_calls guarded "root's own lock file"
}

# denied: an open is refused within its time, with a line that says whose file is in the way, and gives no bad advice.
denied() {
    local how
    for how in 'open rw' 'open r' creat; do
        # shellcheck disable=SC2086 # the words of the operation
        IMGLOCK_WAIT=0.3 run calls $how disk.qcow2
        assert_failure
        refute_output --partial 'IMGLOCK_DIR names another'
        assert_one_line "imglock: $PWD/disk.qcow2: cannot " 'user nobody'
    done
}

@test "a lease on the lock file: refused in time, and the line names whose it is" {
    needs_root
    as_user "$HELPERS/second_look" hold-lease "$LOCK_FILE"
    denied
}

@test "a lock that lies in a socket: refused in time, and the line names whose file it is" {
    needs_root
    as_user "$HELPERS/second_look" hold-in-flight "$LOCK_FILE"
    denied
}

@test "a lock file that its owner has closed to all: refused, and the line names whose it is" {
    needs_root
    chmod 777 .
    chmod 666 disk.qcow2
    install -m 600 -o daemon /dev/null "$LOCK_FILE"
    run nobody_calls open rw disk.qcow2
    assert_failure
    assert_one_line "imglock: $PWD/disk.qcow2: cannot " 'user daemon'
    refute_output --partial 'IMGLOCK_DIR names another'
}

@test "byte 3 of the lock file, held for ever: a hand-over is refused in time, and the line names who holds it" {
    needs_root
    hold disk.qcow2 write
    IMGLOCK_MODE=inactive hold disk.qcow2 write
    local target=$HOLDER
    background "${NOBODY[@]}" "$HELPERS/status_lock" "$LOCK_FILE" x:3:1
    run timeout 600 "$IMGLOCK" handoff disk.qcow2 --to "$target"
    assert_equal "$status" 1
    assert_output --partial "pid $HOLDER, user nobody"
}

@test "a set-user-ID program that has the library: no reading of settings, no locks, every call passed on" {
    needs_root
    printf '#include <fcntl.h>\nint main(int c, char **v) { return open(v[c - 1], O_RDWR) < 0; }\n' >secure.c
    gcc -o secure secure.c -Wl,--no-as-needed "$SHIM" -Wl,-rpath,"${SHIM%/*}"
    chmod 777 .
    chmod 666 disk.qcow2
    hold disk.qcow2 write
    # Without the bit the library is at work.
    run "${NOBODY[@]}" ./secure disk.qcow2
    assert_failure
    assert_output --partial 'disk.qcow2: cannot open for writing: locked'
    chmod 4755 secure
    IMGLOCK_LOG="debug,$PWD/messages" IMGLOCK_AUDIT=$PWD/audit IMGLOCK_IMAGES='+*' IMGLOCK_MODE=nonsense \
        run "${NOBODY[@]}" ./secure disk.qcow2
    assert_success
    assert_output ""
    [ ! -e messages ]
    [ ! -e audit ]
    assert_equal "$(the_lock_files)" "${LOCK_FILE##*/}"
}
