#!/usr/bin/env bats
# pairs.bats: every cell of pairs.table; tests/pairs.bats tries those that are quick.

bats_require_minimum_version 1.5.0
load ../common
load ../libvirt
load ../pairs

setup() {
    common_setup
    pairs_setup
}

teardown() {
    libvirt_teardown
    pairs_teardown
}

# Made by pairs_table.py:
@test "qemu-system-x86_64, wrapped, has it" { row qemu-system-x86_64 wrapped all; }
@test "qemu-system-x86_64, bare, has it" { row qemu-system-x86_64 bare all; }
@test "qemu-nbd, wrapped, has it" { row qemu-nbd wrapped all; }
@test "qemu-nbd, bare, has it" { row qemu-nbd bare all; }
@test "qemu-storage-daemon, wrapped, has it" { row qemu-storage-daemon wrapped all; }
@test "qemu-storage-daemon, bare, has it" { row qemu-storage-daemon bare all; }
@test "qemu-img, wrapped, has it" { row qemu-img wrapped all; }
@test "qemu-img, bare, has it" { row qemu-img bare all; }
@test "qemu-io, wrapped, has it" { row qemu-io wrapped all; }
@test "qemu-io, bare, has it" { row qemu-io bare all; }
@test "libvirt, wrapped, has it" { row libvirt wrapped all; }
@test "libvirt, bare, has it" { row libvirt bare all; }
@test "dosbox, wrapped, has it" { row dosbox wrapped all; }
@test "dosbox, bare, has it" { row dosbox bare all; }
@test "dd, wrapped, has it" { row dd wrapped all; }
@test "dd, bare, has it" { row dd bare all; }
@test "mkfs, wrapped, has it" { row mkfs wrapped all; }
@test "mkfs, bare, has it" { row mkfs bare all; }
@test "cp, wrapped, has it" { row cp wrapped all; }
@test "cp, bare, has it" { row cp bare all; }
@test "losetup, wrapped, has it" { row losetup wrapped all; }
@test "losetup, bare, has it" { row losetup bare all; }
@test "static, wrapped, has it" { row static wrapped all; }
@test "static, bare, has it" { row static bare all; }
@test "qemu-io-reads, wrapped, has it" { row qemu-io-reads wrapped all; }
@test "qemu-io-reads, bare, has it" { row qemu-io-reads bare all; }
@test "dd-reads, wrapped, has it" { row dd-reads wrapped all; }
@test "dd-reads, bare, has it" { row dd-reads bare all; }
@test "losetup-reads, wrapped, has it" { row losetup-reads wrapped all; }
@test "losetup-reads, bare, has it" { row losetup-reads bare all; }
@test "static-reads, wrapped, has it" { row static-reads wrapped all; }
@test "static-reads, bare, has it" { row static-reads bare all; }
# The end of what pairs_table.py makes.
