#!/usr/bin/env bats
# libguestfs beside a machine that runs.  Its appliance takes half a minute to start without KVM, and needs a kernel in /boot:
# apt-get install guestfish libguestfs-tools linux-image-cloud-amd64.

bats_load_library bats-support
bats_load_library bats-assert

setup() {
    TOP=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    export IMGLOCK_DIR=$BATS_TEST_TMPDIR LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg
    cd "$BATS_TEST_TMPDIR" || return
}

teardown() {
    [ -z "${MACHINE-}" ] || kill "$MACHINE" 2>/dev/null || true
}

@test "guestfish --ro and virt-df look into the disk of a machine that runs, guestfish --rw does not" {
    command -v guestfish virt-df >/dev/null && compgen -G '/boot/vmlinuz*' >/dev/null || skip "libguestfs is not installed"
    qemu-img create -q -f qcow2 disk.qcow2 64M
    guestfish --rw -a disk.qcow2 run : part-disk /dev/sda mbr : mkfs ext4 /dev/sda1 : mount /dev/sda1 / : write /hello words
    mkfifo monitor
    "$TOP/build/imglock" qemu-system-x86_64 -S -accel tcg -nodefaults -display none -monitor stdio \
        -drive if=virtio,file=disk.qcow2 <monitor >answers 3>&- &
    MACHINE=$!
    exec 9>monitor
    echo 'info block' >&9
    until grep -q 'disk.qcow2' answers; do
        kill -0 "$MACHINE"
        read -rt 0.1 <> <(:) || true
    done
    local how
    for how in "$TOP/build/imglock" env; do
        run "$how" guestfish --ro -a disk.qcow2 run : mount-ro /dev/sda1 / : cat /hello
        assert_success
        assert_output words
    done
    run "$TOP/build/imglock" virt-df -a disk.qcow2
    assert_success
    run "$TOP/build/imglock" guestfish --rw -a disk.qcow2 run
    assert_failure
    echo quit >&9
    wait "$MACHINE"
}
