# shellcheck shell=bash
# io_uring: a ring opens files without a call that the library sees, so it may not (IMGLOCK_IO_URING).
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    local raw
    raw=$("$HELPERS/uring" raw)
    [[ $raw != *': '@(ENOSYS|EPERM) ]] || skip "the kernel has no io_uring, or forbids it: $raw"
}

# ring wrapped|command: what a ring can do, a line each.
ring() {
    rm -f other
    truncate -s 1M disk.img
    "$@" "$HELPERS/uring" disk.img other
}

@test "a ring of liburing's can do everything but open, rename, unlink and change sizes" {
    local how bare
    for how in flags polled disabled; do
        export HOW=$how
        bare=$(ring command)
        run grep -cE '^(openat|openat2|renameat|fallocate|write): 0$' <<<"$bare"
        assert_output 5
        run ring wrapped
        assert_success
        assert_output "$(sed -E 's/^(openat|openat2|renameat|unlinkat|fallocate): .*/\1: EACCES/' <<<"$bare")"
        [ -e disk.img ]
    done
}

@test "a ring by syscall(2) is none" {
    run wrapped "$HELPERS/uring" raw
    assert_output "io_uring_setup: ENOSYS"
}

@test "IMGLOCK_IO_URING: off has no rings, allow has all that they can do" {
    IMGLOCK_IO_URING=off run ring wrapped
    assert_output "no ring: ENOSYS"
    IMGLOCK_IO_URING=off run wrapped "$HELPERS/uring" raw
    assert_output "io_uring_setup: ENOSYS"
    local bare
    bare=$(ring command)
    IMGLOCK_IO_URING=allow run ring wrapped
    assert_output "$bare"
    IMGLOCK_IO_URING=allow run wrapped "$HELPERS/uring" raw
    assert_output "io_uring_setup: 0"
}

@test "qemu-io and qemu-img read and write by io_uring as before, and are refused what is held" {
    local options=(-f raw -i io_uring -t none)
    run wrapped qemu-io "${options[@]}" -c 'write -P 7 4k 64k' -c 'read -P 7 4k 64k' -c 'discard 4k 4k' -c flush disk.img
    assert_success
    refute_output --partial failed
    run strace -f -o trace -e trace=io_uring_enter env "LD_PRELOAD=$SHIM" \
        qemu-img bench -c 64 -d 8 -f raw -i io_uring -t none -w disk.img
    assert_success
    grep -q 'io_uring_enter(.*= 1' trace
    hold disk.img write
    run wrapped qemu-io "${options[@]}" -c 'write 0 4k' disk.img
    assert_failure
    assert_output --partial 'disk.img: cannot open'
}

@test "node goes without io_uring, and is refused what is held" {
    # shellcheck disable=SC2016 # node's own
    local program='require("fs").promises.open(process.argv[1], "r+").then(f => f.close()).then(() => console.log("opened"),
        e => console.log(e.code))'
    export UV_USE_IO_URING=1
    run wrapped node -e "$program" disk.img
    assert_output opened
    hold disk.img write
    run wrapped node -e "$program" disk.img
    assert_line --partial 'disk.img: cannot open for writing: locked exclusively by holder'
    assert_line ETXTBSY
}
