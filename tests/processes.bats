# shellcheck shell=bash disable=SC2153
# The lock is there while any process has the image, whoever opened it, and gone with the last.
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    LOCK_FILE=$(lock_file disk.img)
    export LOCK_FILE
}

# processes CASE [COMMAND...]: that case of the program, wrapped; it looks at the lock itself.
processes() {
    local name=$1
    shift
    run helper processes "$name" disk.img "$@"
}

silently() {
    processes "$@"
    assert_success
    assert_output ""
}

lock_is() {
    run "$HELPERS/probe" "$LOCK_FILE"
    assert_output "$1"
}

byte_is_free() { [ "$("$HELPERS/probe" "$LOCK_FILE" "$1")" = free ]; }

# after_exec CASE STATE: the program that it becomes, not wrapped any more, finds the lock in that state.
after_exec() {
    BARE=1 processes "$1" "$HELPERS/probe" "$LOCK_FILE"
    assert_success
    assert_output "$2"
    lock_is free
}

# same_after_exec CASE: the program that it becomes is wrapped, too, and has the image and its lock as if it had opened
# it.
same_after_exec() {
    silently "$1" "$HELPERS/processes" after-exec disk.img
    lock_is free
}

@test "a child that is the first to open an image has a lock of its own, and gives it back" {
    for way in fork _Fork raw-fork raw-clone raw-clone3 clone; do
        silently "first-in-$way"
        lock_is free
    done
}

@test "fork: the parent closes first, the child has it" {
    silently parent-first
}

@test "fork: the child closes, closes everything, replaces, ends or is killed first, the parent has it" {
    silently child-first
}

@test "fork: the child opens the image again" {
    silently child-opens
}

@test "fork: what a child raises ends with the child" {
    silently child-raises
}

@test "fork: what a parent raises beside a child ends with its last writer" {
    silently parent-raises
}

@test "fork: a child that writes for a moment is not in its parent's way" {
    silently child-for-a-moment
}

@test "a process that wants more beside a child and a stranger is told of the stranger alone" {
    hold disk.img read
    # shellcheck disable=SC2016
    run wrapped bash -c 'exec 3<disk.img; : | read -r _; exec 4<>disk.img'
    assert_failure
    assert_line --index 0 --regexp "^imglock: $PWD/disk.img: cannot open for writing: locked shared by holder \(pid $HOLDER, user [^ ]*\) for [0-9]+ s; 'imglock -w 60' waits for it$"
}

@test "children are counted from before they are made, and what they may keep is remembered" {
    run "$HELPERS/children"
    assert_success
    assert_output ""
}

@test "a shell that reads an image and writes to it by a child is a reader again" {
    local shell
    for shell in bash dash; do
        # shellcheck disable=SC2016
        run wrapped "$shell" -c '
            exec 3>&- 4>&-
            exec 3<disk.img
            echo x | dd of=disk.img conv=notrunc status=none
            env -u LD_PRELOAD "$HELPERS/probe" "$LOCK_FILE"
            exec 3<&-
            env -u LD_PRELOAD "$HELPERS/probe" "$LOCK_FILE"'
        assert_output "$(printf '%s\n' shared free)"
    done
}

@test "fork: five generations, of which the last has it" {
    silently generations
}

@test "daemon(3)" {
    silently daemon
}

@test "daemon(3) closes an image that was its standard input" {
    silently daemon-closes
}

@test "vfork: nothing the child does to its descriptors touches the parent's lock" {
    silently vfork
}

@test "vfork and every exec" {
    silently vfork-exec
}

@test "posix_spawn with file actions, system, popen" {
    silently spawn
    # And those that come with a later libc.
    NEWER=1 BEHIND=$HELPERS/newer silently spawn
}

@test "posix_spawn hands an image to a program that is not wrapped: the lock goes with it" {
    silently spawn-image
}

@test "clone with and without shared memory" {
    silently clone
}

@test "clone of a task that shares memory and descriptors: its opens and closes are the process's" {
    silently sharing-tasks
}

@test "an image that is opened while a child is being made counts as the child's" {
    local way
    for way in posix_spawn posix_spawnp system popen _Fork clone syscall; do
        LD_PRELOAD=$SHIM:$HELPERS/child_hook run timeout 300 "$HELPERS/child_made" "$way" disk.img
        assert_success
        assert_output ""
        lock_is free
    done
}

@test "an image that another thread closes before a vfork child runs its program stays locked for the child" {
    LD_PRELOAD=$SHIM:$HELPERS/child_hook run timeout 300 "$HELPERS/child_made" vfork disk.img
    assert_success
    assert_output ""
}

@test "exec: an image that stays open keeps its lock" {
    local way
    for way in exec exec-clearfd exec-fionclex exec-copy exec-stream; do
        after_exec "$way" exclusive
    done
}

@test "exec: an image that is closed by it gives its lock back" {
    local way
    for way in exec-cloexec exec-setfd exec-fioclex exec-copy-cloexec exec-close_range exec-stream-cloexec; do
        after_exec "$way" free
    done
}

@test "exec: a wrapped program takes over the lock with the image" {
    same_after_exec exec
    IMAGE_FD=3 same_after_exec exec-fionclex
    same_after_exec exec-clearfd
}

@test "exec: a copy that a vfork child makes keeps the lock in the program that it becomes" {
    BARE=1 processes exec-vfork-copy "$HELPERS/probe" "$LOCK_FILE"
    assert_output exclusive
    IMAGE_FD=30 silently exec-vfork-copy "$HELPERS/processes" after-exec disk.img
}

@test "exec that fails changes nothing" {
    silently exec-fails
}

@test "an image that a shell hands down, which is not wrapped itself" {
    # shellcheck disable=SC2016
    run bash -c 'exec 3<>disk.img; LD_PRELOAD=$SHIM exec "$HELPERS/processes" after-exec disk.img'
    assert_success
    assert_output ""
    run bash -c 'LD_PRELOAD=$SHIM exec "$HELPERS/probe" "$LOCK_FILE" 3<>disk.img'
    assert_output exclusive
    run bash -c 'LD_PRELOAD=$SHIM exec "$HELPERS/probe" "$LOCK_FILE" <disk.img'
    assert_output shared
    lock_is free
}

@test "an image that a shell hands down and another process holds: status 125, one line, nothing is run" {
    hold disk.img write
    # shellcheck disable=SC2016
    run bash -c 'exec 3<>disk.img; LD_PRELOAD=$SHIM exec touch ran'
    assert_equal "$status" 125
    assert_output --regexp "^imglock: $PWD/disk.img: cannot open for writing: locked exclusively by holder \(pid $HOLDER, "
    assert_equal "${#lines[@]}" 1
    [ ! -e ran ]
}

@test "bash: redirections, their children, and exec with a number" {
    # shellcheck disable=SC2016
    run wrapped bash -c '
        exec 3>&- 4>&-
        probe() { env -u LD_PRELOAD "$HELPERS/probe" "$LOCK_FILE"; }
        probe
        exec 9<>disk.img
        probe
        (probe)
        sh -c "exec 9>&-"
        probe
        { :; } 9>&-
        probe
        exec 8>&9 9>&-
        probe
        exec 8>&-
        probe
        probe <disk.img
        { probe; } 5<>disk.img
        probe'
    assert_output "$(printf '%s\n' free exclusive exclusive exclusive exclusive exclusive free shared exclusive free)"
}

@test "dash: redirections of commands that it starts by vfork" {
    # shellcheck disable=SC2016
    run wrapped dash -c '
        exec 3>&- 4>&-
        probe() { env -u LD_PRELOAD "$HELPERS/probe" "$LOCK_FILE"; }
        probe
        exec 9<>disk.img
        probe
        /bin/true 9>&-
        probe
        exec 9>&-
        probe
        env -u LD_PRELOAD "$HELPERS/probe" "$LOCK_FILE" <disk.img
        cat <disk.img >/dev/null
        probe
        :'
    assert_output "$(printf '%s\n' free exclusive exclusive free shared free)"
}

@test "a child of a wrapped shell goes on when the shell has ended" {
    mkfifo gate
    # shellcheck disable=SC2016
    wrapped bash -c 'exec 9<>disk.img; env -u LD_PRELOAD cat gate >/dev/null 3>&- 4>&- & exit' 3>&-
    lock_is exclusive
    : >gate
    eventually byte_is_free 0
}

@test "python: subprocess and os.fork while the image is open" {
    run wrapped /usr/bin/python3 - <<'END'
import os, subprocess
def probe():
    clean = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(pipe[1], 1)
        os.execve(os.environ["HELPERS"] + "/probe", ["probe", os.environ["LOCK_FILE"]], clean)
    os.close(pipe[1])
    print(os.read(pipe[0], 100).decode().strip(), flush=True)
    os.close(pipe[0])
    os.waitpid(child, 0)
probe()
image = open("disk.img", "r+b")
probe()
subprocess.run(["/bin/true"])
probe()
subprocess.run(["/bin/true"], stdin=image, close_fds=True)
probe()
subprocess.run(["/bin/true"], stdin=image, close_fds=False, start_new_session=True)
probe()
os.system("true")
os.posix_spawn("/bin/true", ["true"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, image.fileno(), 0)])
os.wait()
probe()
image.close()
probe()
END
    assert_success
    assert_output "$(printf '%s\n' free exclusive exclusive exclusive exclusive exclusive free)"
}

@test "a wrapped child that gets the image as its input shares its parent's lock" {
    run wrapped /usr/bin/python3 - <<'END'
import os, subprocess
image = open("disk.img", "r+b")
print(subprocess.run(["wc", "-c"], stdin=image, capture_output=True).stdout.decode().strip())
END
    assert_success
    assert_output 1048576
}

@test "node: closes every file by syscall(2)" {
    run wrapped timeout 300 node -e '
        const fs = require("fs")
        const { execFileSync } = require("child_process")
        const { LD_PRELOAD, ...bare } = process.env
        const probe = () => process.stdout.write(execFileSync(bare.HELPERS + "/probe", [bare.LOCK_FILE], { env: bare }))
        probe()
        const image = fs.openSync("disk.img", "r+")
        probe()
        fs.readSync(image, Buffer.alloc(512))
        fs.closeSync(image)
        probe()
        fs.promises.open("disk.img", "r").then(async handle => {
            probe()
            await handle.close()
            probe()
        })'
    assert_success
    assert_output "$(printf '%s\n' free exclusive free shared free)"
}

@test "make: a recipe that opens the image, and one that gets it" {
    # shellcheck disable=SC2016
    printf 'all:\n\t@exec 9<>disk.img; env -u LD_PRELOAD "$$HELPERS/probe" "$$LOCK_FILE"\n\t@env -u LD_PRELOAD "$$HELPERS/probe" "$$LOCK_FILE"\n' >Makefile
    run wrapped make -s
    assert_output "$(printf '%s\n' exclusive free)"
    run wrapped bash -c 'exec 9<>disk.img; make -s'
    assert_output "$(printf '%s\n' exclusive exclusive)"
    lock_is free
}

@test "descendants are let past what their ancestor holds, and exclude each other" {
    processes family
    assert_success
    refute_output --partial wrong
    lock_is free
}

@test "a lock that a relative has raised is not lowered by another's refused open" {
    processes raised-by-sibling
    assert_success
    refute_output --partial wrong
    lock_is free
}

# in_pid_space OPTION... -- COMMAND...: the command, wrapped, in a PID namespace of its own; its /proc is the old one, unless
# the options say otherwise.
in_pid_space() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    unshare --pid --fork --kill-child "${options[@]}" env LD_PRELOAD="$SHIM" "$@"
}

@test "a family in a PID namespace of its own: as its first process, as a later one, and under the old /proc" {
    unshare --pid --fork --mount-proc true 2>/dev/null || skip "no PID namespaces here"
    local proc
    for proc in --mount-proc ''; do
        # timeout of coreutils 9.10 runs nothing as a first process.
        # shellcheck disable=SC2016 # for the inner shell
        run in_pid_space $proc -- sh -c '"$@"; exit $?' sh "$HELPERS/processes" family disk.img
        assert_success
        refute_output --partial wrong
        run in_pid_space $proc -- "$HELPERS/processes" family disk.img
        assert_success
        refute_output --partial wrong
        lock_is free
    done
}

@test "a PID namespace under the old /proc: its pids are others' there, and a stranger is no relative by them" {
    unshare --pid --fork true 2>/dev/null || skip "no PID namespaces here"
    # The second process holds the image.  In the old /proc the numbers behind 2 are the kernel's threads, whose parent
    # is 2.
    mkfifo ready
    # shellcheck disable=SC2016
    run in_pid_space -- bash -c '"$HELPERS/holder" write disk.img >ready 3>&- &
        read -r _ <ready
        for _ in {1..12}; do dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none; done'
    assert_failure 1
    assert_equal "$(grep -c "locked exclusively by holder (pid 2, user $(id -un))" <<<"$output")" 12
    # Nor is a program that left no record named by its pid there.
    # shellcheck disable=SC2016
    run unshare --pid --fork --kill-child bash -c '
        exec 3< <(exec python3 -c "
import fcntl, os, signal
file = open(os.environ[\"LOCK_FILE\"], \"r+b\")
fcntl.lockf(file, fcntl.LOCK_EX, 2)
os.write(1, b\"ready\\n\")
signal.pause()")
        read -r _ <&3
        LD_PRELOAD=$SHIM dd if=/dev/zero of=disk.img count=1'
    assert_output --partial "disk.img: cannot truncate: locked exclusively by a program that left no record of itself"
}

@test "two children with the pid of their parent, each the first of a PID namespace, are two strangers" {
    unshare --pid --fork --mount-proc true 2>/dev/null || skip "no PID namespaces here"
    run in_pid_space --mount-proc -- "$HELPERS/processes" nested-spaces disk.img
    assert_success
    refute_output --partial wrong
}

@test "a /proc that does not have this process names nobody" {
    unshare --mount --pid --fork --mount-proc true 2>/dev/null || skip "no PID namespaces here"
    python3 -c '
import fcntl, os, time
file = open(os.environ["LOCK_FILE"], "w+b")
fcntl.lockf(file, fcntl.LOCK_EX, 2)
open("locked", "w").close()
time.sleep(1000)' &
    HOLDERS+=("$!")
    local holder=$!
    eventually [ -e locked ]
    # In there, a program that has nothing to do with it has the holder's number.
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child --mount-proc sh -c 'echo $(($0 - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 1000 & echo $! >number; wait' "$holder" 3>&- &
    local container=$!
    HOLDERS+=("$container")
    eventually [ -s number ]
    [ "$(cat number)" = "$holder" ] || skip "pids cannot be chosen here"
    run wrapped nsenter --target "$(pgrep -P "$container")" --mount dd if=/dev/null of="$PWD/disk.img" conv=notrunc
    assert_output --partial "locked exclusively by a program that left no record of itself"
}

@test "descendants are strangers with IMGLOCK_FAMILY=off" {
    IMGLOCK_FAMILY=off processes no-family
    assert_success
    assert_output --regexp '^imglock: [^ ]*/disk.img: cannot open for writing: locked exclusively by processes \(pid'
    assert_equal "${#lines[@]}" 1
}

@test "a stranger stays out while a helper of an ancestor that has ended is still at work" {
    # shellcheck disable=SC2016
    wrapped bash -c 'exec 9<>disk.img
        "$HELPERS/holder" write disk.img 9>&- >ready &
        echo $! >helper
        until [ -s ready ]; do read -rt 0.01 <> <(:) || :; done' 3>&-
    HOLDERS+=("$(cat helper)")
    run "$HELPERS/probe" "$LOCK_FILE" beside
    assert_output exclusive
    run wrapped "$HELPERS/holder" write disk.img
    assert_failure 1
    assert_output --partial "locked exclusively by holder (pid $(cat helper)"
    kill -9 "$(cat helper)"
    eventually byte_is_free beside
    hold disk.img write
}

@test "no lock outlives its holder's death" {
    hold disk.img write
    kill -9 "$HOLDER"
    wait "$HOLDER" || true
    lock_is free
}

@test "a vfork child that opens an image before its parent does leaves the parent's locks the parent's" {
    truncate -s 1M disk.img other.img
    mkfifo go said
    LD_PRELOAD=$SHIM "$HELPERS/vfork_first" other.img disk.img <go >said 3>&- &
    HOLDERS+=("$!")
    exec {GO}>go {SAID}<said
    read -r line <&"$SAID"
    assert_equal "$line" open
    run wrapped sh -c 'exec 5<>disk.img'
    assert_failure
    printf x >&"$GO"
    read -r line <&"$SAID"
    assert_equal "$line" closed
    run wrapped sh -c 'exec 5<>disk.img'
    assert_success
    exec {GO}>&- {SAID}<&-
}
