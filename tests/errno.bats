# shellcheck shell=bash
# errno and results are libc's own: at the start, after success, after failure, and for arguments that make no sense.
load common

# bare_and_wrapped PROGRAM ARGUMENTS...: each in a new directory; what it prints is the same, and nothing else is said.
# BEHIND: a library that is preloaded in both, behind imglock's.
bare_and_wrapped() {
    rm -rf bare wrapped
    mkdir bare wrapped
    (cd bare && timeout 300 env "LD_PRELOAD=${BEHIND-}" "$HELPERS/$1" "${@:2}") >bare.output 2>bare.said
    [ "$(wc -l <bare.output)" -gt 500 ] || fail "the bare run says nothing"
    (cd wrapped && helper "$@") >wrapped.output 2>wrapped.said
    run diff -a bare.output wrapped.output
    assert_output ""
    # qemu-user tells of each program that faults.
    run diff -a bare.said wrapped.said
    assert_output ""
}

@test "errno is 0 at main" {
    run helper errno start
    assert_output 0
}

@test "errno is 0 at main when an image was inherited" {
    truncate -s 1M disk.img
    run helper errno start 9<>disk.img
    assert_output 0
}

@test "errno survives every call that succeeds" {
    truncate -s 1M disk.img
    run helper errno success disk.img
    assert_success
    assert_output ""
}

@test "calls that fail say what bare libc says" {
    bare_and_wrapped errno failure
}

# No failure to be had, or another's name.
UNFAILING=(_Fork vfork __vfork daemon forkpty login_tty __clone _IO_popen)
# Streams and directories are libc's own, processes take no numbers and no names.
NO_GARBAGE=(_IO_fclose pclose readdir readdir64 readdir_r readdir64_r
    _Fork vfork __vfork clone __clone system _IO_popen daemon login_tty forkpty)

# assert_called FILE [NAME...]: each function that the library defines and this libc has, by itself or by the library that
# stands in for a later one, is called in what a helper printed, but for these.
assert_called() {
    local name minor
    minor=$(getconf GNU_LIBC_VERSION | sed 's/.*\.//')
    while read -r name; do
        [[ " ${*:2} " != *" $name "* ]] || continue
        grep -Eaq "(^|[^a-zA-Z0-9_])$name\(" "$1" || fail "$name is not among them"
    done < <("$HELPERS/symbols" | awk -v minor="${NEWER:+99}" -v libc="$minor" \
        '$1 ~ /^(wrapped|composed)$/ && $4 <= (minor ? minor : libc) { print $2 }')
}

@test "every function that the library defines is called so that it fails" {
    mkdir failure
    (cd failure && "$HELPERS/errno" failure) >failures
    assert_called failures "${UNFAILING[@]}"
}

@test "every function that the library defines is given garbage" {
    mkdir garbage
    (cd garbage && "$HELPERS/garbage") >garbage/output
    assert_called garbage/output "${NO_GARBAGE[@]}"
}

@test "what this libc lacks fails as on a kernel without it" {
    run helper errno lacking
    assert_success
    assert_output ""
}

@test "calls that fail say what a libc says that has the functions of later ones" {
    export NEWER=1 BEHIND=$HELPERS/newer
    bare_and_wrapped errno failure
    assert_called bare.output "${UNFAILING[@]}"
    bare_and_wrapped garbage
    assert_called bare.output "${NO_GARBAGE[@]}"
}

@test "garbage for arguments gives what bare libc gives" {
    bare_and_wrapped garbage
}
