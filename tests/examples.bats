#!/usr/bin/env bats
# The examples run as they stand, and show what they say; so does "make run".

load common

example() {
    run timeout 600 "$PUBLIC/examples/$1.sh" "${@:2}"
}

@test "two-writers: stock QEMU lets two writers in, imglock does not" {
    example two-writers
    assert_success
    # Once bare, and once for each image after the first program has closed it.
    assert_equal "$(grep -c '^wrote 65536/65536' <<<"$output")" 3
    assert_equal "$(grep -c '^imglock: .*disk.img: cannot .*: locked exclusively by qemu-io (pid ' <<<"$output")" 2
    assert_equal "$(grep -c '^imglock: .*disk.qcow2: cannot .*: locked exclusively by qemu-io (pid ' <<<"$output")" 2
}

@test "emulators: what DOSBox has mounted is refused to others until it ends" {
    example emulators
    assert_success
    assert_equal "$(grep -c '^imglock: .*floppy.img: cannot .*: locked exclusively by dosbox (pid ' <<<"$output")" 3
    assert_line '::/hostname'
}

@test "qemu-img-script: a backup that waits, holds, and skips what is in use" {
    example qemu-img-script
    assert_success
    assert_line 'Images are identical.'
    assert_line --partial 'disk.qcow2: cannot open for reading: locked exclusively by qemu-io'
    assert_line "the machine is running; tonight's second backup is skipped"
    assert_line 'the machine has ended; the second backup is made'
}

@test "audit: the report shows the machine, the backup and the stray mkfs" {
    example audit "$BATS_TEST_TMPDIR"
    assert_success
    assert_line --regexp '^Two writers at once: mkfs.ext4 -q -F web01.img \(pid [0-9]+, .*, while qemu-system-x86_64 -name web01 '
    assert_line --partial 'Overlaps that corrupt (two writers at once): 1'
    assert_line --partial 'Readers beside a writer (may have read a mixture): 1'
    assert_line --regexp 'Let through, would have been refused: [0-9]+'
    assert_output --partial 'mkfs.ext4 -q -F web01.img'
    assert_output --partial 'qemu-img convert -f raw -O qcow2 web01.img'
    [ -s night.jsonl ]
    run xmllint --noout night.svg
    assert_success
}

@test "the picture in README is that of the night beside it" {
    TZ=Pacific/Auckland run "$IMGLOCK" report --svg -o night.svg "$TOP/examples/night.jsonl"
    assert_equal "$status" 1
    cmp night.svg "$TOP/examples/night.svg"
}

@test "migration: the lock goes with the machine, and no third program gets the image" {
    example migration
    assert_success
    assert_line --regexp 'cannot .*: locked exclusively by qemu-system-x86 \(pid '
    refute_output --partial 'No such file'
}

@test "installed, the examples run for an ordinary user, in whose PATH /usr/sbin is not" {
    chmod 755 "$BATS_RUN_TMPDIR" "$BATS_TEST_TMPDIR"
    make -s -C "$TOP" install DESTDIR="$PWD/root" PREFIX=/usr >/dev/null
    install -d -o nobody home
    user=(setpriv --reuid=nobody --regid=nogroup --clear-groups env -i HOME="$PWD/home" TMPDIR="$PWD/home"
        PATH="$PWD/root/usr/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games" IMGLOCK_DIR="$IMGLOCK_DIR")
    cd home
    for example in two-writers emulators qemu-img-script audit migration libvirt; do
        run timeout 300 "${user[@]}" ../root/usr/share/doc/imglock/examples/"$example".sh
        [ "$status" -eq 0 ] || fail "$example.sh: $output"
        refute_output --partial "not found"
        refute_output --partial "No such file"
        assert_output --regexp "cannot |would have been refused"
    done
}

@test "make run wraps the command that it is given" {
    [[ $TOP != *[[:space:]:]* ]] || skip "the dynamic loader takes no library below $TOP"
    qemu-img create -q -f qcow2 x.qcow2 1M
    run make --no-print-directory -C "$TOP" run CMD="qemu-img info $PWD/x.qcow2"
    assert_success
    assert_output --partial 'file format: qcow2'
    [ -e "$(lock_file x.qcow2)" ]
    hold x.qcow2 write
    run make --no-print-directory -C "$TOP" run CMD="qemu-img info $PWD/x.qcow2"
    assert_failure
    assert_output --partial "x.qcow2: cannot open for reading: locked exclusively by holder (pid $HOLDER"
}

@test "make OPENSSL=shared builds a library that works" {
    objects build
    run make -s -C "$TOP" BUILD="$BATS_TEST_TMPDIR/build" OPENSSL=shared "$BATS_TEST_TMPDIR/build/libimglock.so"
    assert_success
    run objdump -p build/libimglock.so
    assert_output --partial 'NEEDED               libcrypto.so.3'
    truncate -s 1M disk.img
    hold disk.img write
    run env LD_PRELOAD="$PWD/build/libimglock.so" cat disk.img
    assert_failure
    assert_output --partial "disk.img: cannot open for reading: locked exclusively by holder (pid $HOLDER"
}
