#!/usr/bin/env bats
# What QEMU's own locks let through and refuse, beside what imglock does: each pair of programs bare, then under imglock.

bats_load_library bats-support
bats_load_library bats-assert

setup() {
    TOP=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    export IMGLOCK_DIR=$BATS_TEST_TMPDIR IMGLOCK_LOG=quiet
    cd "$BATS_TEST_TMPDIR" || return
    MACHINE='qemu-system-x86_64 -S -accel tcg -nodefaults -display none -monitor stdio'
}

teardown() {
    [ -z "${HOLDER-}" ] || kill "$HOLDER" 2>/dev/null || true
}

fresh_images() {
    rm -f ./*.qcow2 ./*.raw monitor answers
    qemu-img create -q -f qcow2 base.qcow2 8M
    qemu-img create -q -f raw disk.raw 8M
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 sibling.qcow2
    cp base.qcow2 disk.qcow2
}

# answers HOW HOLDER COMMAND...: which of the commands succeed beside the holder; HOW runs all of them.
answers() {
    local how=$1 holder=$2 command
    shift 2
    fresh_images
    mkfifo monitor
    # shellcheck disable=SC2086 # words
    $how $holder <monitor >answers 2>&1 3>&- &
    HOLDER=$!
    exec 9>monitor
    # It has all its locks when it answers.
    if [ "${holder%% *}" = qemu-io ]; then echo length; else echo 'info status'; fi >&9
    until grep -qE 'VM status|MiB' answers; do
        kill -0 "$HOLDER"
        read -rt 0.05 <> <(:) || true
    done
    for command; do
        # shellcheck disable=SC2086 # words
        if timeout 300 $how sh -c "$command" >/dev/null 2>said </dev/null 9>&- 3>&-; then echo "lets $command"; else echo "refuses $command"; fi
    done
    echo quit >&9
    exec 9>&-
    wait "$HOLDER" || true
    HOLDER=
}

# alike HOLDER COMMAND...: they do, bare and under imglock.
alike() {
    answers env "$@" >bare
    answers "$TOP/build/imglock" "$@" >wrapped
    run diff bare wrapped
    assert_output ""
    grep -q '^lets' bare
    grep -q '^refuses' bare
}

@test "beside a machine on a qcow2" {
    alike "$MACHINE -drive if=virtio,format=qcow2,file=disk.qcow2" \
        'qemu-img info disk.qcow2' 'qemu-img info -U disk.qcow2' 'qemu-img convert -O raw disk.qcow2 o.raw' \
        'qemu-img convert -U -O raw disk.qcow2 o.raw' 'qemu-img check disk.qcow2' 'qemu-img map disk.qcow2' \
        'qemu-img snapshot -l disk.qcow2' 'qemu-img resize disk.qcow2 16M' 'qemu-img amend -o compat=1.1 disk.qcow2' \
        'qemu-img create -f qcow2 disk.qcow2 8M' 'qemu-img create -f qcow2 -b disk.qcow2 -F qcow2 n.qcow2' \
        'qemu-img create -f qcow2 -o backing_file=disk.qcow2,backing_fmt=qcow2 n.qcow2' 'qemu-img rebase -u -b "" disk.qcow2' \
        'qemu-io -r -c quit disk.qcow2' 'qemu-io -c quit disk.qcow2' 'qemu-io -rU -c quit disk.qcow2' 'qemu-img info n.qcow2' \
        'qemu-img map n.qcow2' 'qemu-img convert -U -O raw n.qcow2 o.raw' \
        "echo quit | $MACHINE -drive if=virtio,format=qcow2,file=n.qcow2,backing.file.locking=off" \
        "echo quit | $MACHINE -drive if=virtio,format=qcow2,file=n.qcow2" \
        "echo quit | $MACHINE -drive if=none,format=qcow2,file=disk.qcow2,read-only=on,force-share=on" \
        "echo quit | $MACHINE -drive if=none,format=qcow2,file=disk.qcow2,snapshot=on"
}

@test "beside a machine on an overlay" {
    alike "$MACHINE -drive if=virtio,format=qcow2,file=over.qcow2" \
        'qemu-io -c quit sibling.qcow2' 'qemu-io -r -c quit base.qcow2' 'qemu-img info base.qcow2' 'qemu-io -c quit base.qcow2' \
        'qemu-img commit sibling.qcow2' 'qemu-img convert -O raw base.qcow2 o.raw' 'qemu-img info over.qcow2' \
        'qemu-img create -f qcow2 -b base.qcow2 -F qcow2 n.qcow2' 'qemu-img create -f qcow2 -b over.qcow2 -F qcow2 n.qcow2' \
        'qemu-img rebase -u -b base.qcow2 -F qcow2 sibling.qcow2'
}

@test "beside a reader" {
    alike "qemu-io -r disk.qcow2" 'qemu-img info disk.qcow2' 'qemu-img convert -O raw disk.qcow2 o.raw' \
        'qemu-img resize disk.qcow2 16M' 'qemu-io -c quit disk.qcow2' 'qemu-img snapshot -c a disk.qcow2'
}

# What imglock is there for: QEMU lets two write, and others read.
@test "raw: what a machine keeps others from is kept, and reading beside it needs -U" {
    set -- "$MACHINE -drive if=virtio,format=raw,file=disk.raw" 'qemu-img info -f raw disk.raw' \
        'qemu-img info -U -f raw disk.raw' 'qemu-io -f raw -c quit disk.raw' 'qemu-img resize -f raw disk.raw 16M' \
        'qemu-img create -f qcow2 -b disk.raw -F raw n.qcow2'
    answers env "$@" >bare
    answers "$TOP/build/imglock" "$@" >wrapped
    run diff bare wrapped
    assert_output $'1c1\n< lets qemu-img info -f raw disk.raw\n---\n> refuses qemu-img info -f raw disk.raw'
}
