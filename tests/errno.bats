# shellcheck shell=bash
# errno and results are libc's own: at the start, after success, after failure, and for arguments that make no sense.
load common

# bare_and_wrapped PROGRAM ARGUMENTS...: each in a new directory; what it prints is the same, and nothing else is said.
bare_and_wrapped() {
    mkdir bare wrapped
    (cd bare && timeout 300 "$HELPERS/$1" "${@:2}") >bare.output
    [ "$(wc -l <bare.output)" -gt 500 ] || fail "the bare run says nothing"
    run bash -c 'cd wrapped && LD_PRELOAD=$SHIM exec timeout 300 "$HELPERS/$@" 2>&1' - "$@"
    assert_success
    printf '%s\n' "$output" >wrapped.output
    run diff -a bare.output wrapped.output
    assert_output ""
}

@test "errno is 0 at main" {
    run wrapped "$HELPERS/errno" start
    assert_output 0
}

@test "errno is 0 at main when an image was inherited" {
    truncate -s 1M disk.img
    run wrapped "$HELPERS/errno" start 9<>disk.img
    assert_output 0
}

@test "errno survives every call that succeeds" {
    truncate -s 1M disk.img
    run wrapped timeout 300 "$HELPERS/errno" success disk.img
    assert_success
    assert_output ""
}

@test "calls that fail say what bare libc says" {
    bare_and_wrapped errno failure
}

@test "every function that the library defines is called so that it fails" {
    local name
    mkdir failure
    (cd failure && "$HELPERS/errno" failure) >failures
    while read -r name; do
        case $name in
        _Fork | daemon | forkpty | login_tty | __clone | _IO_popen) continue ;; # no failure to be had, or another's name
        esac
        grep -Eq "(^|[^a-zA-Z0-9_])$name\(" failures || fail "$name is not among them"
    done < <(nm -D --defined-only "$SHIM" | awk '{ print $3 }')
}

@test "garbage for arguments gives what bare libc gives" {
    bare_and_wrapped garbage
}
