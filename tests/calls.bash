# calls.bash: for tests that look at single calls and single locks: what a call returns, which bytes are locked.

# A real image, made once a file and copied by each test.
setup_file() {
    qemu-img create -q -f qcow2 "$BATS_FILE_TMPDIR/disk.qcow2" 1M
    # The same where the name does not say so.
    cp "$BATS_FILE_TMPDIR/disk.qcow2" "$BATS_FILE_TMPDIR/content"
}

# new_image [NAME]...: an image under each name; disk.qcow2 by default.
new_image() {
    local name
    for name in "${@:-disk.qcow2}"; do cp -- "$BATS_FILE_TMPDIR/disk.qcow2" "$name"; done
}

# alone COMMAND...: with descriptors 0, 1 and 2 and no others, so that the first open gives 3.  Replaces the shell,
# so it is for subshells: run, &, ().
alone() {
    local descriptor
    for descriptor in "/proc/$BASHPID/fd/"*; do
        descriptor=${descriptor##*/}
        [ "$descriptor" -le 2 ] || [ "$descriptor" = 255 ] || eval "exec $descriptor>&-"
    done
    if declare -F "$1" >/dev/null; then "$@"; else exec "$@"; fi
}

# calls OPERATION...: makes these calls in one process, with the library; what it prints is checked by the caller.
# Status 137: it hung.
calls() {
    (alone timeout -s KILL 300 env LD_PRELOAD="$SHIM" "$HELPERS/input_call" "$@")
}

bare_calls() {
    (alone timeout -s KILL 300 "$HELPERS/input_call" "$@")
}

# as_nobody COMMAND...: without any privilege, and alone, so it replaces the shell.
as_nobody() {
    alone "${NOBODY[@]}" "$@"
}

nobody_calls() {
    as_nobody timeout -s KILL 300 env LD_PRELOAD="$SHIM" "$HELPERS/input_call" "$@"
}

# locks IMAGE: the locks on its lock file, as another process sees them, a line each: "write 0-1".  Without tokens, by which
# processes know their descriptions again: they exclude nobody.
locks() {
    "$HELPERS/lock_query" "$(lock_file "$1")" | sed '/^read [0-9]\{13,\}-/d'
}

# assert_locks IMAGE read|write|none: the image is locked in that mode by one holder with a record, and nothing else.
assert_locks() {
    if [ "$2" = none ]; then
        assert_equal "$(locks "$1")" ''
    else
        assert_equal "$(locks "$1" | sed 's/^read \(1[0-9]\{3\}\|[2-4][0-9]\{3\}\)-\1$/a slot/')" "$2 0-1"$'\n'"a slot"
    fi
}

# the_lock_files: the names of what is in the lock directory.
the_lock_files() {
    find "$IMGLOCK_DIR" -mindepth 1 -printf '%f\n' | sort
}

# sha1_name TEXT: the lock file's name for a text.
sha1_name() {
    printf '.qemu-%s.lock' "$(printf %s "$1" | sha1sum | cut -d' ' -f1)"
}

# begin OPERATION...: as calls, in the background; returns when the operation "step" is reached.  Sets CALLER, its pid.
# Further steps: next_step, or a line into $STEP_WAY.  What it prints is in the file $STEPS.
begin() {
    begin_command env LD_PRELOAD="$SHIM" "$HELPERS/input_call" "$@"
}

begin_command() {
    local way=$BATS_TEST_TMPDIR/way.$RANDOM.$RANDOM
    STEPS=$way.lines
    export STEP_WAY=$way.to
    mkfifo "$way.to" "$way.from"
    alone "$@" <"$way.to" >"$way.from" 2>"$way.err" &
    CALLER=$!
    HOLDERS+=("$CALLER")
    [ -z "${STEP_TO-}" ] || exec {STEP_TO}>&- {STEP_FROM}<&-
    exec {STEP_TO}>"$way.to" {STEP_FROM}<"$way.from"
    : >"$STEPS"
    await_step
}

# Reads what the caller prints until it says "step" or ends.
await_step() {
    local line
    while read -r -t 120 -u "$STEP_FROM" line; do
        [ "$line" != step ] || return 0
        printf '%s\n' "$line" >>"$STEPS"
    done
    return 0
}

next_step() {
    echo >&"$STEP_TO"
    await_step
}

# between EVENT:COUNT IMAGE ACTION COMMAND...: the command, wrapped; ACTION just before its COUNTth lock or poll, with
# the path of the image's lock file in $LOCK.  Replaces the shell.
between() {
    local event=$1 image=$2 action=$3
    shift 3
    LOCK=$(lock_file "$image") alone timeout -s KILL 300 "$HELPERS/lock_between" "$event" "$action" \
        env LD_PRELOAD="$SHIM" "$@"
}

# hold_by_script FILE COMMAND TYPE START LENGTH: a python program, without the library, takes a lock and keeps it:
# F_SETLK or F_OFD_SETLK, F_RDLCK or F_WRLCK.  Sets HOLDER.
hold_by_script() {
    local ready=$BATS_TEST_TMPDIR/ready.$RANDOM.$RANDOM line=
    mkfifo "$ready"
    /usr/bin/python3 -c "$LOCK_SCRIPT"$'\nprint("ready", flush=True)\nsignal.pause()' "$@" >"$ready" 3>&- </dev/null &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    read -r line <"$ready" || true
    [ "$line" = ready ] || fail "the script could not take its lock"
}

# try_by_script FILE COMMAND TYPE START LENGTH: takes a lock the same way and gives it back at once.  Prints "taken" or
# the errno.
try_by_script() {
    /usr/bin/python3 -c "$LOCK_SCRIPT"$'\nprint("taken")' "$@"
}

# shellcheck disable=SC2034
LOCK_SCRIPT='
import errno, fcntl, os, signal, struct, sys
path, command, kind, start, length = sys.argv[1:6]
command = {"F_SETLK": fcntl.F_SETLK, "F_OFD_SETLK": 37}[command]
descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
try:
    fcntl.fcntl(descriptor, command,
                struct.pack("hhqqi4x", getattr(fcntl, kind), 0, int(start), int(length), 0))
except OSError as error:
    sys.exit(print(errno.errorcode[error.errno]))
'

# assert_one_line PART...: the output of the last run has exactly one line of the library's, and each part is in it.
assert_one_line() {
    local part line
    # shellcheck disable=SC2154 # run sets output
    line=$(grep -a '^imglock: ' <<<"$output" || true)
    assert_equal "$(grep -c . <<<"$line")" 1
    for part in "$@"; do
        [[ $line == *"$part"* ]] || fail "the line
$line
does not have
$part"
    done
}

# assert_silent: the last run had no line of the library's.
assert_silent() {
    refute_output --partial imglock:
}
