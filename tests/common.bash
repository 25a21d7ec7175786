# common.bash: what every test file loads.
#
# Each test gets a directory of its own, $BATS_TEST_TMPDIR, is in it, and has a lock directory of its own, so that tests
# can run side by side and leave nothing in /var/tmp.

TOP=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
export TOP
export LC_ALL=C.UTF-8

# What the tests run is a copy, made once a run, where every user may read it and whose path has no blank: some tests
# become another user, who gets into no clone in root's home (mode 0700), and LD_PRELOAD takes a blank for the end of a
# name.
PUBLIC=$BATS_RUN_TMPDIR/public
if [ ! -d "$PUBLIC" ]; then
    mkdir -p "$PUBLIC/build" "$PUBLIC/bin"
    cp -r "$TOP/config" "$TOP/examples" "$PUBLIC"
    cp -r "$TOP/build/libimglock.so" "$TOP/build/imglock" "$TOP/build/tests" "$TOP/build/bench" "$PUBLIC/build"
    ln -s /usr/bin/python3 "$PUBLIC/bin"
    # The functions of the assertions in one file: to load their own starts 16 programs, for each test.
    known=$(compgen -A function | sort)
    bats_load_library bats-support
    bats_load_library bats-assert
    mapfile -t known < <(comm -13 <(printf '%s\n' "$known") <(compgen -A function | sort))
    declare -f "${known[@]}" >"$PUBLIC/assert.bash"
    chmod -R a+rX "$PUBLIC"
    chmod a+x "$BATS_RUN_TMPDIR"
fi
# shellcheck disable=SC1091 # what is written above
source "$PUBLIC/assert.bash"
# The system's Python: the one that is first in PATH may be a script that looks for the right one, 0.1 s each time.
export PATH=$PUBLIC/bin:$PATH
export SHIM=$PUBLIC/build/libimglock.so
export IMGLOCK=$PUBLIC/build/imglock
export HELPERS=$PUBLIC/build/tests
# Files that tests/architectures.bats runs once more: with the library of another architecture and its helpers.
if [ -n "${ARCHITECTURE-}" ]; then
    # shellcheck disable=SC2016 # the loaders' own: the programs' children are of this machine
    SHIM=$TOP/build/$ARCHITECTURE/'$LIB/libimglock.so' HELPERS=$TOP/build/$ARCHITECTURE/run
fi

# What makes a command another user's, who has no privileges.
# shellcheck disable=SC2034 # for the tests
NOBODY=(setpriv --reuid=nobody --regid=nogroup --clear-groups)

# needs_root: the first line of a test that becomes another user, mounts, or makes what only root may make.
needs_root() {
    [ "$(id -u)" = 0 ] || skip "needs root"
}

common_setup() {
    chmod a+rx "$BATS_TEST_TMPDIR" "${BATS_TEST_TMPDIR%/*}"
    cd "$BATS_TEST_TMPDIR" || return
    export IMGLOCK_DIR=$BATS_TEST_TMPDIR/locks
    mkdir -m 1777 "$IMGLOCK_DIR"
    HOLDERS=()
}

common_teardown() {
    local pid
    for pid in "${HOLDERS[@]}"; do
        # imglock hold's command first, which outlives it.
        pkill -9 -P "$pid" || true
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

setup() { common_setup; }
teardown() { common_teardown; }

# background COMMAND...: starts a command that writes a line when it is ready.  Sets HOLDER to its pid.
background() {
    local ready=$BATS_TEST_TMPDIR/background.$RANDOM.$RANDOM line=
    mkfifo "$ready"
    "$@" >"$ready" 2>"$BATS_TEST_TMPDIR/background.err" 3>&- </dev/null &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    read -r line <"$ready" || true
    rm -f "$ready"
    [ "$line" = ready ] || fail "not ready: $(cat "$BATS_TEST_TMPDIR/background.err")"
}

# eventually COMMAND...: waits until it succeeds.  The limit is for what never comes, not for what is slow.
eventually() {
    local end=$((SECONDS + 120)) never naps=0
    ! "$@" || return 0
    # One program, and not one for each nap.
    exec {never}<> <(:)
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "this did not happen: $*"
        # What takes long comes no sooner for being asked often.
        if ((naps++ < 50)); then read -rt 0.02 -u "$never"; else read -rt 0.1 -u "$never"; fi || true
    done
    exec {never}>&-
}

# late: by how many milliseconds a bare sleep ends too late on this machine just now, ten times over: what a limit on time
# has to allow for where other programs have the processor.
late() { echo $((10 * $("$HELPERS/lateness"))); }

# wrapped COMMAND...: runs a command with the library, as "LD_PRELOAD=libimglock.so COMMAND" does for a user.
wrapped() {
    LD_PRELOAD=$SHIM "$@"
}

# helper NAME ARGUMENT...: one of the helpers, wrapped, and no other program on the way; BEHIND: a library that is preloaded
# behind the library.  It ends after 300 s.
helper() {
    timeout 300 env "LD_PRELOAD=$SHIM${BEHIND:+:$BEHIND}" "$HELPERS/$1" "${@:2}"
}

# needs PROGRAM...: skips the test where a client is not there: not every release has each of them.
needs() {
    local program
    for program in "$@"; do command -v "$program" >/dev/null || skip "$program is not installed"; done
}

# objects DIRECTORY: what this build has compiled, as old as it is: with BUILD=DIRECTORY make compiles what differs, and links.
objects() {
    mkdir "$1"
    cp -a "$TOP/build/shim" "$TOP/build/cli" "$TOP/build/make_formats" "$TOP"/build/*_index.h "$1"
}

# lock_file IMAGE: the path of its lock file, made by hand and not by imglock.
lock_file() {
    printf '%s/.qemu-%s.lock' "$IMGLOCK_DIR" "$(printf %s "$(realpath "$1")" | sha1sum | cut -d' ' -f1)"
}

# records IMAGE: the records that count: those whose slots are claimed.
records() {
    local file byte
    file=$(lock_file "$1")
    "$TOP/build/tests/lock_query" "$file" | sed -n 's/^read \([0-9]*\)-\1$/\1/p' | while read -r byte; do
        ((byte < 1024 || byte >= 5120)) || tail -c +$((4097 + 256 * (byte - 1024))) "$file" | head -n 1
    done
}

# hold IMAGE [read|write]: another process, wrapped, opens the image and keeps it open until release or the test's end.
# Returns when it has it.  Sets HOLDER to its pid.
hold() {
    local ready=$BATS_TEST_TMPDIR/ready.$RANDOM.$RANDOM
    mkfifo "$ready"
    LD_PRELOAD=$SHIM "$HELPERS/holder" "${2:-write}" "$1" >"$ready" 2>"$BATS_TEST_TMPDIR/holder.err" 3>&- </dev/null &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    local line=
    read -r line <"$ready" || true
    rm -f "$ready"
    [ "$line" = ready ] || fail "the holder could not open $1: $(cat "$BATS_TEST_TMPDIR/holder.err")"
}

# release: ends the holder that hold started last, as a program ends that is told to (SIGTERM), and waits for it.
release() {
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
}

# fingerprint FILE: everything about it that a refused open must not change.  Reads without moving the access time.
fingerprint() {
    stat -c '%n inode %i size %s mode %a links %h atime %x mtime %y ctime %z' -- "$1"
    dd if="$1" iflag=noatime bs=1M status=none | sha1sum
}

# refused_untouched IMAGE COMMAND...: another process holds the image for writing; the command, wrapped, must fail, say so in
# one line that names the image and the holder, and leave the image as it was.
refused_untouched() {
    local image=$1 before after
    shift
    hold "$image" write
    before=$(fingerprint "$image")
    run wrapped "$@"
    after=$(fingerprint "$image")
    release
    assert_failure
    assert_output --partial "imglock: $(realpath "$image"): cannot "
    assert_output --partial "locked exclusively by holder (pid $HOLDER, user "
    assert_equal "$after" "$before"
}

# is_gone PID: as a zombie it has its files no longer.
is_gone() {
    case $(ps -o stat= -p "$1") in '' | Z*) return 0 ;; esac
    return 1
}

# stays_out IMAGE WHO COMMAND...: wrapped, refused beside WHO in one line, and the image is as it was.
stays_out() {
    local image=$1 who=$2 before
    shift 2
    before=$(fingerprint "$image")
    run wrapped "$@"
    assert_failure
    assert_output --partial "imglock: $(realpath "$image"): cannot "
    assert_output --partial "$who"
    assert_equal "$(grep -c imglock: <<<"$output")" 1
    assert_equal "$(fingerprint "$image")" "$before"
}
