#!/usr/bin/env bats
# Real QEMU: every program of it that opens images, as a user starts it.

# What clients.bash calls and reads is not seen here:
# shellcheck disable=SC2030,SC2031,SC2034,SC2317

load common
load clients

qcow2() { qemu-img create -q -f qcow2 "$1" "$2"; }

# ---- qemu-img -----------------------------------------------------------------------------------------------

@test "qemu-img create" {
    works_as_before disk.qcow2 qemu-img create -f qcow2 disk.qcow2 8M
    prepare() { qcow2 disk.qcow2 4M; }
    refused disk.qcow2 qemu-img create -f qcow2 disk.qcow2 8M
}

@test "qemu-img info, which only reads: refused beside a writer, and lets other readers in" {
    prepare() { qcow2 disk.qcow2 8M; }
    works_as_before disk.qcow2 qemu-img info disk.qcow2
    refused disk.qcow2 qemu-img info disk.qcow2
    hold disk.qcow2 read
    gets_in disk.qcow2 qemu-img info disk.qcow2
}

@test "qemu-img convert: its source" {
    prepare() { raw disk.img 8M; }
    works_as_before disk.img qemu-img convert -f raw -O qcow2 disk.img copy.qcow2
    # The copy has been moved away; its lock file is still there, and free.
    rm copy.qcow2
    assert_equal "$(find "$IMGLOCK_DIR" -type f | wc -l)" 2
    refused disk.img qemu-img convert -f raw -O qcow2 disk.img copy.qcow2
}

@test "qemu-img convert: its target" {
    prepare() { raw source.img 8M; qcow2 disk.qcow2 4M; }
    works_as_before disk.qcow2 qemu-img convert -f raw -O qcow2 source.img disk.qcow2
    refused disk.qcow2 qemu-img convert -f raw -O qcow2 source.img disk.qcow2
}

@test "qemu-img resize" {
    prepare() { raw disk.img 8M; }
    works_as_before disk.img qemu-img resize -f raw disk.img 16M
    refused disk.img qemu-img resize -f raw disk.img 16M
}

@test "qemu-img check -r all" {
    prepare() { qcow2 disk.qcow2 8M; }
    works_as_before disk.qcow2 qemu-img check -r all disk.qcow2
    refused disk.qcow2 qemu-img check -r all disk.qcow2
}

@test "qemu-img snapshot" {
    # A snapshot has its date in it.
    VARIES=disk.qcow2
    prepare() { qcow2 disk.qcow2 8M; qemu-img snapshot -c first disk.qcow2; }
    works_as_before disk.qcow2 sh -c 'qemu-img snapshot -a first disk.qcow2 && qemu-img snapshot -d first disk.qcow2'
    refused disk.qcow2 qemu-img snapshot -c second disk.qcow2
}

with_backing_file() {
    raw base.img 8M
    qemu-img create -q -f qcow2 -b base.img -F raw disk.qcow2
    qemu-io -c 'write -q -P 7 64k 64k' disk.qcow2
}

@test "qemu-img commit: the overlay and its backing file" {
    prepare() { with_backing_file; }
    works_as_before disk.qcow2 qemu-img commit disk.qcow2
    refused disk.qcow2 qemu-img commit disk.qcow2
    refused base.img qemu-img commit disk.qcow2
}

# What keeps the image open for writing and has qemu-img work on it, as image builders do.
builder='
import subprocess, sys
with open("disk.img", "r+b"):
    sys.exit(subprocess.call(["qemu-img", "resize", "-f", "raw", "disk.img", "16M"]))'

@test "qemu-img resize, run by a program that holds the image itself" {
    prepare() { raw disk.img 8M; }
    works_as_before disk.img /usr/bin/python3 -c "$builder"
    refused disk.img /usr/bin/python3 -c "$builder"
    fresh_directory
    IMGLOCK_FAMILY=off run wrapped /usr/bin/python3 -c "$builder"
    assert_failure 1
    assert_line --index 0 --partial "/disk.img: cannot open for reading, to resize it: locked exclusively by python3 (pid "
    assert_equal "$(stat -c %s disk.img)" $((8 << 20))
}

# ---- qemu-io ------------------------------------------------------------------------------------------------

@test "qemu-io" {
    prepare() { raw disk.img 8M; }
    normalise() { sed -E 's/[0-9.]+ sec(onds)?|[0-9.]+ [KMG]?i?B\/sec|[0-9.]+ ops\/sec/N/g'; }
    works_as_before disk.img qemu-io -f raw -c 'write -P 5 0 64k' -c 'read -v 1536 16' disk.img
    refused disk.img qemu-io -f raw -c 'write -P 5 0 64k' disk.img
}

@test "qemu-io: a writer is refused beside a reader, too" {
    prepare() { raw disk.img 8M; }
    fresh_directory
    begins qemu-io -r -f raw disk.img
    says 'read 0 512'
    wait_until grep -q 'read 512' ../stdout
    assert_equal "$(lock_state disk.img)" shared
    gets_in disk.img qemu-io -r -f raw -c 'read 0 512' disk.img
    run wrapped qemu-io -f raw -c 'write 0 512' disk.img
    assert_failure 1
    assert_line --index 0 --partial "/disk.img: cannot open for writing: locked shared by qemu-io (pid $CLIENT, "
    says quit
    ends 0
    gets_in disk.img qemu-io -f raw -c 'write 0 512' disk.img
}

@test "stock qemu-io lets two writers into one raw image, under imglock the second is refused" {
    local before refusal="cannot open for [a-z]+(, to write to it)?: locked exclusively by qemu-io"
    prepare() { raw disk.img 8M; }
    fresh_directory
    mkfifo ../open
    qemu-io -f raw disk.img <../open >../first 2>&1 3>&- &
    HOLDERS+=("$!")
    exec 8>../open
    echo 'write -P 1 0 64k' >&8
    wait_until grep -q wrote ../first
    run qemu-io -f raw -c 'write -q -P 2 0 64k' disk.img
    assert_success
    assert_equal "$(od -An -tx1 -N1 disk.img)" " 02"
    exec 8>&-
    wait "${HOLDERS[-1]}"

    fresh_directory
    begins qemu-io -f raw disk.img
    says 'write -P 1 0 64k'
    wait_until grep -q wrote ../stdout
    before=$(fingerprint disk.img)
    run wrapped qemu-io -f raw -c 'write -q -P 2 0 64k' disk.img
    assert_failure
    assert_line --index 0 --regexp "^imglock: .*/disk\.img: $refusal \(pid $CLIENT, "
    assert_equal "$(fingerprint disk.img)" "$before"
    assert_equal "$(od -An -tx1 -N1 disk.img)" " 01"
    says quit
    ends 0
    gets_in disk.img qemu-io -f raw -c 'write -q -P 2 0 64k' disk.img
    assert_equal "$(od -An -tx1 -N1 disk.img)" " 02"
}

# ---- qemu-nbd -----------------------------------------------------------------------------------------------

@test "qemu-nbd: serves over a unix socket, holds the image until it ends" {
    prepare() { raw disk.img 1M; }
    # shellcheck disable=SC2016
    works_as_before disk.img sh -c 'qemu-nbd -f raw -k "$PWD/../nbd" -r --fork disk.img &&
        nbdcopy "nbd+unix:///?socket=$PWD/../nbd" copy && cmp disk.img copy'
    fresh_directory
    begins qemu-nbd -f raw -k "$PWD/../nbd" --persistent disk.img
    wait_until test -S ../nbd
    keeps_others_out disk.img qemu-nbd
    # Bare: the copy of what is served is no second opener of the image.
    run qemu-img compare -f raw -F raw "nbd+unix:///?socket=$PWD/../nbd" "$(cp disk.img ../copy && echo ../copy)"
    assert_success
    run wrapped qemu-io -f raw -c 'write -P 6 0 512' "nbd+unix:///?socket=$PWD/../nbd"
    assert_success
    kill "$CLIENT"
    ends 0
    admits_others disk.img
    assert_equal "$(od -An -tx1 -N1 disk.img)" " 06"
}

@test "qemu-nbd --fork: the daemon holds the image when the command has returned" {
    prepare() { raw disk.img 1M; }
    fresh_directory
    run wrapped qemu-nbd -f raw -k "$PWD/../nbd" --pid-file="$PWD/../nbd.pid" --fork --persistent disk.img 3>&-
    HOLDERS+=("$(cat ../nbd.pid)")
    assert_success
    assert_output ""
    keeps_others_out disk.img qemu-nbd
    kill "$(cat ../nbd.pid)"
    wait_until lock_is disk.img free
    admits_others disk.img
}

@test "qemu-nbd: refused" {
    prepare() { raw disk.img 1M; }
    while_held disk.img qemu-nbd -f raw -k "$BATS_TEST_TMPDIR/nbd" disk.img
    assert_failure 1
}

# ---- qemu-storage-daemon ------------------------------------------------------------------------------------

@test "qemu-storage-daemon" {
    prepare() { raw disk.img 1M; }
    fresh_directory
    local arguments=(--blockdev "driver=file,filename=disk.img,node-name=node")
    arguments+=(--chardev "stdio,id=qmp" --monitor chardev=qmp)
    begins qemu-storage-daemon "${arguments[@]}"
    wait_until grep -q '"QMP"' ../stdout
    keeps_others_out disk.img qemu-storage-da
    says '{"execute": "qmp_capabilities"}' '{"execute": "quit"}'
    ends 0
    admits_others disk.img
    while_held disk.img qemu-storage-daemon "${arguments[@]}"
    assert_failure 1
}

# ---- qemu-system-x86_64 -------------------------------------------------------------------------------------

machine=(qemu-system-x86_64 -machine pc -accel tcg -m 32 -nodefaults -no-user-config -display none)

@test "qemu-system-x86_64 boots from a raw disk, writes to it and switches off" {
    prepare() { boot_sector disk.img; truncate -s 1M disk.img; }
    works_as_before disk.img "${machine[@]}" -drive file=disk.img,format=raw -serial file:serial.txt
    assert_guest_wrote disk.img
    assert_equal "$(cat serial.txt)" $'the guest wrote its line\r'
    CLIENT_LEAVES=serial.txt
    refused disk.img "${machine[@]}" -drive file=disk.img,format=raw -serial file:serial.txt
}

@test "qemu-system-x86_64 boots from a qcow2 disk" {
    prepare() {
        boot_sector boot
        truncate -s 1M boot
        qemu-img convert -f raw -O qcow2 boot disk.qcow2
    }
    works_as_before disk.qcow2 "${machine[@]}" -drive file=disk.qcow2,format=qcow2 -serial stdio
    qemu-img convert -O raw disk.qcow2 raw
    assert_guest_wrote raw
    refused disk.qcow2 "${machine[@]}" -drive file=disk.qcow2,format=qcow2 -serial stdio
}

@test "qemu-system-x86_64 holds its disk while the machine runs" {
    local drive=file=disk.img,format=raw,file.locking=off before
    prepare() { boot_sector disk.img stay; truncate -s 1M disk.img; }
    fresh_directory
    begins "${machine[@]}" -drive "$drive" -serial file:serial.txt -qmp stdio
    wait_until grep -q wrote serial.txt
    before=$(fingerprint disk.img)
    keeps_others_out disk.img qemu-system-x86
    run wrapped_for_a_while "${machine[@]}" -drive "$drive"
    assert_failure
    assert_line --index 0 --partial "locked exclusively by qemu-system-x86 (pid $CLIENT, "
    run wrapped mkfs.ext4 -q -F disk.img
    assert_failure
    assert_equal "$(fingerprint disk.img)" "$before"
    says '{"execute": "qmp_capabilities"}' '{"execute": "quit"}'
    ends 0
    assert_guest_wrote disk.img
    admits_others disk.img
}

@test "qemu-system-x86_64: readonly=on is a reader among readers" {
    prepare() { boot_sector disk.img stay; truncate -s 1M disk.img; }
    fresh_directory
    local arguments=(-drive "file=disk.img,format=raw,if=none,id=disk,readonly=on")
    arguments+=(-device "virtio-blk-pci,drive=disk" -qmp stdio)
    begins "${machine[@]}" "${arguments[@]}"
    wait_until grep -q '"QMP"' ../stdout
    assert_equal "$(lock_state disk.img)" shared
    run wrapped cmp disk.img disk.img
    assert_success
    run second_writer disk.img
    assert_failure
    assert_line --index 0 --partial "locked shared by qemu-system-x86 (pid $CLIENT, "
    says '{"execute": "qmp_capabilities"}' '{"execute": "quit"}'
    ends 0
    admits_others disk.img
}

@test "qemu-system-x86_64 -daemonize: the daemon holds the disk" {
    prepare() { boot_sector disk.img stay; truncate -s 1M disk.img; }
    fresh_directory
    run wrapped "${machine[@]}" -drive "file=$PWD/disk.img,format=raw" -daemonize -pidfile "$PWD/../pid" 3>&-
    HOLDERS+=("$(cat ../pid)")
    assert_success
    assert_output ""
    keeps_others_out disk.img qemu-system-x86
    kill "$(cat ../pid)"
    wait_until lock_is disk.img free
    admits_others disk.img
}

# The shell opens the disk and becomes the machine, which never opens it by its path.
# shellcheck disable=SC2016
given_disk='exec 9<>disk.img
exec "$0" "$@" -add-fd fd=9,set=1 -device ide-hd,drive=disk -serial stdio -blockdev \
    driver=raw,node-name=disk,file.driver=file,file.filename=/dev/fdset/1,file.auto-read-only=off'

catches_sigterm() { ((16#$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$CLIENT/status") & 1 << 14)); }

@test "qemu-system-x86_64 -add-fd: a disk that the shell opened" {
    prepare() { boot_sector disk.img; truncate -s 1M disk.img; }
    works_as_before disk.img bash -c "$given_disk" "${machine[@]}"
    assert_guest_wrote disk.img
    assert_equal "$(cat ../stdout)" $'the guest wrote its line\r'
    refused disk.img bash -e -c "$given_disk" "${machine[@]}"
    prepare() { boot_sector disk.img stay; truncate -s 1M disk.img; }
    fresh_directory
    begins bash -c "$given_disk" "${machine[@]}"
    wait_until grep -q 'the guest wrote' ../stdout
    assert_equal "$(cat "/proc/$CLIENT/comm")" qemu-system-x86
    keeps_others_out disk.img qemu-system-x86
    # The guest runs before QEMU has its handlers.
    wait_until catches_sigterm
    kill "$CLIENT"
    ends 0
    admits_others disk.img
}

@test "qemu-system-x86_64: overlays share their backing file, which nobody may write meanwhile" {
    prepare() {
        boot_sector base.img stay
        truncate -s 1M base.img
        qemu-img create -q -f qcow2 -b base.img -F raw first.qcow2
        qemu-img create -q -f qcow2 -b base.img -F raw second.qcow2
    }
    fresh_directory
    begins "${machine[@]}" -drive file=first.qcow2,format=qcow2 -serial file:serial.txt -qmp stdio
    wait_until grep -q wrote serial.txt
    keeps_others_out first.qcow2 qemu-system-x86
    assert_equal "$(lock_state base.img)" shared
    run wrapped qemu-io -c 'write -q 0 512' second.qcow2
    assert_success
    run wrapped qemu-img commit -q second.qcow2
    assert_failure
    assert_line --partial "/base.img: cannot open for writing: locked shared by qemu-system-x86 (pid $CLIENT, "
    says '{"execute": "qmp_capabilities"}' '{"execute": "quit"}'
    ends 0
    admits_others first.qcow2
    run wrapped qemu-img commit -q second.qcow2
    assert_success
}
