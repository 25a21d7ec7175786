#!/usr/bin/env bats
# pairs.bats: the cells of pairs.table: a program that has an image open, with imglock or without, and another that comes.
# All of them are tried by long/pairs.bats, here for each holder some of each kind.

bats_require_minimum_version 1.5.0
load common
load libvirt
load pairs

setup() {
    common_setup
    pairs_setup
}

teardown() {
    libvirt_teardown
    pairs_teardown
}

@test "README.md and the tests below are what pairs.table says" {
    run "$BATS_TEST_DIRNAME/pairs_table.py" --check
    assert_success
    assert_output ""
}

@test "virtlockd, which keeps the disk of a machine of libvirt, is named in a refusal and by status" {
    local keeper how
    for how in bare wrapped; do
        holds libvirt $how
        keeper=$(cat run/libvirt/virtlockd.pid)
        run wrapped dd if=/dev/zero of="$IMAGE" count=1 conv=notrunc status=none
        assert_failure
        assert_output --partial "by qemu-system-x86 (pid $HOLDER, "
        assert_output --partial "; kept by virtlockd (pid $keeper), too"
        run --separate-stderr "$IMGLOCK" status -rn -o PID,COMMAND,KIND,HAS "$IMAGE"
        assert_line "$keeper virtlockd locked virtlockd's\\x20lock,\\x20for\\x20a\\x20machine\\x20of\\x20libvirt"
        assert_equal "${#lines[@]}" 2
        virsh destroy holder
        run wrapped dd if=/dev/zero of="$IMAGE" count=1 conv=notrunc status=none
        assert_success
        assert_output ''
    done
}

# Made by pairs_table.py:
@test "qemu-system-x86_64, wrapped, has it" { row qemu-system-x86_64 wrapped most; }
@test "qemu-system-x86_64, bare, has it" { row qemu-system-x86_64 bare most; }
@test "qemu-nbd, wrapped, has it" { row qemu-nbd wrapped quick; }
@test "qemu-nbd, bare, has it" { row qemu-nbd bare quick; }
@test "qemu-storage-daemon, wrapped, has it" { row qemu-storage-daemon wrapped quick; }
@test "qemu-storage-daemon, bare, has it" { row qemu-storage-daemon bare quick; }
@test "qemu-img, wrapped, has it" { row qemu-img wrapped quick; }
@test "qemu-img, bare, has it" { row qemu-img bare quick; }
@test "qemu-io, wrapped, has it" { row qemu-io wrapped quick; }
@test "qemu-io, bare, has it" { row qemu-io bare quick; }
@test "libvirt, wrapped, has it" { row libvirt wrapped quick; }
@test "libvirt, bare, has it" { row libvirt bare quick; }
@test "dosbox, wrapped, has it" { row dosbox wrapped quick; }
@test "dosbox, bare, has it" { row dosbox bare quick; }
@test "dd, wrapped, has it" { row dd wrapped most; }
@test "dd, bare, has it" { row dd bare most; }
@test "mkfs, wrapped, has it" { row mkfs wrapped quick; }
@test "mkfs, bare, has it" { row mkfs bare quick; }
@test "cp, wrapped, has it" { row cp wrapped quick; }
@test "cp, bare, has it" { row cp bare quick; }
@test "losetup, wrapped, has it" { row losetup wrapped quick; }
@test "losetup, bare, has it" { row losetup bare quick; }
@test "static, wrapped, has it" { row static wrapped quick; }
@test "static, bare, has it" { row static bare quick; }
@test "qemu-io-reads, wrapped, has it" { row qemu-io-reads wrapped quick; }
@test "qemu-io-reads, bare, has it" { row qemu-io-reads bare quick; }
@test "dd-reads, wrapped, has it" { row dd-reads wrapped quick; }
@test "dd-reads, bare, has it" { row dd-reads bare quick; }
@test "losetup-reads, wrapped, has it" { row losetup-reads wrapped quick; }
@test "losetup-reads, bare, has it" { row losetup-reads bare quick; }
@test "static-reads, wrapped, has it" { row static-reads wrapped quick; }
@test "static-reads, bare, has it" { row static-reads bare quick; }
# The end of what pairs_table.py makes.
