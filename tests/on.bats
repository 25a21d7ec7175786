#!/usr/bin/env bats
# imglock on, off, shell and explain: locks without imglock before each command, and what imglock makes of an image.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    export HOME=$BATS_TEST_TMPDIR/home XDG_CONFIG_HOME='' SHELL=/bin/bash
    mkdir "$HOME"
    LINKS=$HOME/.local/lib/imglock/bin
    truncate -s 1M disk.img
}

# ---- on and off -------------------------------------------------------------------------------------------------------

@test "a program that is on locks its images, as soon as the directory comes first in PATH" {
    run "$IMGLOCK" on dd
    assert_success
    assert_line --index 0 "on: dd ($(command -v dd))"
    assert_line --index 1 "$LINKS is not in PATH.  Add to ~/.bashrc the line"
    assert_line --index 2 "    PATH=$LINKS:\$PATH"
    # What it says is what helps.
    echo "${lines[2]# *}" >rc
    hold disk.img
    run bash -c 'dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none && . ./rc && dd if=/dev/zero of=disk.img count=1'
    assert_failure
    assert_output --partial "imglock: $PWD/disk.img: cannot truncate: locked exclusively by holder (pid $HOLDER"
    release
    PATH=$LINKS:$PATH run dd if=disk.img of=/dev/null count=1 status=none
    assert_success
    PATH=$LINKS:$PATH run dd --bogus
    assert_output --partial "dd: "
    refute_output --partial "imglock"
}

@test "a link passes arguments, exit status and the name on, and is itself not run again" {
    printf '#!/bin/sh\necho "$0|$1|$2|$LD_PRELOAD"\nexit 7\n' >"$BATS_TEST_TMPDIR/tool"
    chmod 755 tool
    PATH=$PWD:$PATH "$IMGLOCK" on tool
    PATH=$LINKS:$LINKS:$PWD:$PATH run tool 'a b' ''
    assert_equal "$status" 7
    assert_output "$PWD/tool|a b||$SHIM"
    # argv[0] is the name that was typed.
    cp "$(command -v bash)" own-shell
    PATH=$PWD:$PATH "$IMGLOCK" on own-shell
    PATH=$LINKS:$PWD:$PATH run own-shell -c 'echo $0'
    assert_output own-shell
    rm own-shell
    PATH=$LINKS:$PATH run -127 own-shell -c true
    assert_output "imglock: own-shell: No such file or directory, but for imglock's link"
}

@test "IMGLOCK_MODE=nolock before a command is the way out for that one" {
    "$IMGLOCK" on dd
    hold disk.img
    PATH=$LINKS:$PATH run dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_failure
    PATH=$LINKS:$PATH IMGLOCK_MODE=nolock run dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_success
    assert_output ""
    # Also where the library cannot be preloaded any more, which is refused else.
    printf '#!/bin/sh\n' >tool
    chmod 755 tool
    PATH=$PWD:$PATH "$IMGLOCK" on tool
    cp "$(command -v busybox)" tool
    PATH=$LINKS:$PWD:$PATH run tool true
    assert_equal "$status" 125
    PATH=$LINKS:$PWD:$PATH IMGLOCK_MODE=nolock run -127 tool
    refute_output --partial "statically linked"
}

@test "on alone lists what is on, and says where the directory stands in PATH" {
    run "$IMGLOCK" on
    assert_success
    assert_output --partial "nothing is on"
    "$IMGLOCK" on dd truncate
    PATH=$LINKS:$PATH run "$IMGLOCK" on
    assert_output "on: dd ($(command -v dd))"$'\n'"on: truncate ($(command -v truncate))"
    PATH=$PATH:$LINKS run "$IMGLOCK" on
    assert_line --index 2 --partial "$LINKS comes behind $(dirname "$(command -v dd)") in PATH"
    SHELL=/usr/bin/fish run "$IMGLOCK" on
    assert_line "    fish_add_path --prepend --move $LINKS"
}

@test "installed below ~/.local, what is on is told once" {
    mkdir -p "$HOME/.local/lib/imglock"
    ln -s "$SHIM" "$HOME/.local/lib/imglock"
    export IMGLOCK_LIBRARY=$HOME/.local/lib/imglock/libimglock.so
    "$IMGLOCK" on dd
    PATH=$LINKS:$PATH run "$IMGLOCK" on
    assert_output "on: dd ($(command -v dd))"
    PATH=$LINKS:$PATH run "$IMGLOCK" doctor
    assert_equal "$(grep -c 'on for good' <<<"$output")" 1
}

@test "off takes back what on has done, and nothing else" {
    "$IMGLOCK" on dd truncate cp
    ln -s /bin/true "$LINKS/mine"
    touch "$LINKS/file"
    run "$IMGLOCK" off dd
    assert_output "off: dd"
    run "$IMGLOCK" off dd
    assert_equal "$status" 1
    assert_output "imglock: dd: it is not on in $LINKS"
    run "$IMGLOCK" off mine
    assert_equal "$status" 1
    run "$IMGLOCK" off
    assert_output $'off: cp\noff: truncate'
    assert_equal "$(ls "$LINKS")" $'file\nmine'
    rm "$LINKS"/*
    "$IMGLOCK" on dd
    "$IMGLOCK" off
    assert [ ! -e "$LINKS" ]
}

@test "on refuses what cannot be wrapped, what is not there, and what is no name" {
    # An ordinary user's PATH on Debian.
    PATH=/usr/bin:/bin run "$IMGLOCK" on mkfs.ext4
    assert_equal "$status" 1
    assert_output "imglock: mkfs.ext4: No such file or directory; it is in /usr/sbin, which is not in PATH"
    run "$IMGLOCK" on dd busybox no-such-program
    assert_equal "$status" 1
    assert_line --partial "busybox: it is statically linked"
    assert_line "imglock: no-such-program: No such file or directory"
    assert_equal "$(ls "$LINKS")" dd
    for name in /bin/dd ./dd '' imglock; do
        run "$IMGLOCK" on "$name"
        assert_equal "$status" 125
        assert_line --index 0 "imglock: on: it takes the names of programs, as one types them, and '$name' is none"
    done
}

@test "on --system is for all users: beside the installed library" {
    make -s -C "$TOP" install DESTDIR="$PWD/root" PREFIX=/usr >/dev/null
    run root/usr/bin/imglock on --system dd
    assert_success
    assert_line --index 1 "$PWD/root/usr/lib/imglock/bin is not in PATH.  Add to /etc/profile.d/imglock.sh, for login shells, the line"
    hold disk.img
    PATH=$PWD/root/usr/lib/imglock/bin:$PATH run dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_failure
    assert_output --partial "locked exclusively by holder"
    run root/usr/bin/imglock off --system dd
    assert_output "off: dd"
}

@test "on --login writes a file that systemd's user manager reads, and off --login removes it" {
    local file=$HOME/.config/environment.d/90-imglock.conf
    run "$IMGLOCK" on --login
    assert_success
    assert_line --index 0 "on: this user's session, from the next login on ($file)"
    run "$IMGLOCK" on
    assert_output "on: this user's session, from the login on ($file)"
    # As the manager reads it.
    run env -i HOME="$HOME" PATH="$PATH" /usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator
    assert_line "LD_PRELOAD=$SHIM"
    run "$IMGLOCK" off --login
    assert_success
    assert [ ! -e "$file" ]
    echo 'LD_PRELOAD=mine' >"$file"
    run "$IMGLOCK" off --login
    assert_equal "$status" 125
    run "$IMGLOCK" on --login
    assert_equal "$status" 125
    assert_equal "$(cat "$file")" 'LD_PRELOAD=mine'
}

@test "doctor says what is on here" {
    run "$IMGLOCK" doctor
    assert_line "ok       on for good: nothing; see 'imglock help on'"
    "$IMGLOCK" on dd
    run "$IMGLOCK" doctor
    assert_line "warning  on for good: dd, and without effect: $LINKS is not in PATH; 'imglock on' tells what to add"
    PATH=$LINKS:$PATH run "$IMGLOCK" doctor
    assert_line "ok       on for good: dd, by $LINKS"
    # It looks at the program itself, and not at the link.
    PATH=$LINKS:$PATH run "$IMGLOCK" doctor dd
    assert_line "ok       command $(command -v dd): the library can be preloaded into it"
    PATH=$LINKS:$PATH run "$IMGLOCK" explain disk.img -- dd
    assert_line "command   $(command -v dd): the library can be preloaded into it"
    run "$IMGLOCK" "$IMGLOCK" doctor
    assert_line "ok       on here: LD_PRELOAD=$SHIM"
}

@test "imglock shell: every program of that shell locks its images" {
    hold disk.img
    run "$IMGLOCK" shell -- -c 'dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none'
    assert_failure
    assert_output --partial "locked exclusively by holder"
    run "$IMGLOCK" shell --mode nolock -- -c 'dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none; echo $0'
    assert_success
    assert_output /bin/bash
}

# ---- explain ----------------------------------------------------------------------------------------------------------

@test "explain: what is an image, and why" {
    run "$IMGLOCK" explain disk.img
    assert_success
    assert_line "path      $PWD/disk.img"
    assert_line "image     yes: its name is that of the format 'raw'"
    assert_line "lock      $(lock_file disk.img)"
    qemu-img create -q -f qcow2 plain 1M
    run "$IMGLOCK" explain plain
    assert_line "image     yes: its content is that of the format 'qcow'"
    IMGLOCK_MAGIC=off run "$IMGLOCK" explain plain
    assert_line --partial "image     no: neither its name (IMGLOCK_MAGIC=off"
    IMGLOCK_IMAGES="+$PWD/notes" run "$IMGLOCK" explain notes
    assert_line "path      $PWD/notes (there is no such file yet)"
    assert_line "image     yes: IMGLOCK_IMAGES=+$PWD/notes says so"
    run "$IMGLOCK" explain /etc/passwd
    assert_line --partial "image     no: "
    refute_line --partial "lock "
    run "$IMGLOCK" explain /dev/null
    assert_line "image     no: it is neither a regular file nor a block device"
    run "$IMGLOCK" explain ''
    assert_equal "$status" 125
}

@test "explain: which mode, who has it, and what would happen, as it then does" {
    run "$IMGLOCK" explain disk.img
    assert_line "mode      auto: reading takes the lock shared, writing exclusively"
    assert_line "used      by nobody"
    assert_line "reading   takes a shared lock"
    assert_line "writing   takes an exclusive lock"
    hold disk.img read
    run "$IMGLOCK" explain disk.img -- busybox dd
    assert_line "used      shared, holder: holder (pid $HOLDER)"
    assert_line "reading   takes a shared lock"
    assert_line "writing   refused at once: the lock is held"
    assert_line --partial "command   refused: $(command -v busybox): it is statically linked"
    IMGLOCK_WAIT=1.5 run "$IMGLOCK" explain disk.img -- dd
    assert_line "writing   waits up to 1.5 s for an exclusive lock: the lock is held"
    assert_line "command   $(command -v dd): the library can be preloaded into it"
    IMGLOCK_ON_CONFLICT=read-only run "$IMGLOCK" explain disk.img
    assert_line "writing   becomes an open for reading: the lock is held"
    IMGLOCK_RULES='*.img=shared' run "$IMGLOCK" explain disk.img
    assert_line "mode      shared, by IMGLOCK_RULES=*.img=shared"
    assert_line "writing   takes a shared lock"
    IMGLOCK_MODE=nolock run "$IMGLOCK" explain disk.img
    assert_line "writing   goes through without a lock"
    IMGLOCK_MODE=force-share run "$IMGLOCK" explain disk.img
    assert_line "writing   refused: mode force-share is for reading beside a writer"
}

@test "explain: who has marks on the image, and what they come to, as they then do" {
    command -v qemu-nbd >/dev/null || skip "qemu-nbd is not installed"
    qemu-img create -q -f qcow2 disk.qcow2 1M
    qemu-nbd --fork --persistent --pid-file=nbd.pid --socket="$PWD/socket" -f qcow2 disk.qcow2 3>&-
    HOLDERS+=("$(cat nbd.pid)")
    run "$IMGLOCK" explain disk.qcow2
    assert_success
    assert_line "used      exclusive, qemu: qemu-nbd (pid $(cat nbd.pid)): QEMU's own lock: writes, shares nothing"
    assert_line "reading   refused at once: somebody outside imglock has locked it"
    assert_line "writing   refused at once: somebody outside imglock has locked it"
    run wrapped cat disk.qcow2
    assert_failure
    IMGLOCK_WAIT=1.5 run "$IMGLOCK" explain disk.qcow2
    assert_line "writing   waits up to 1.5 s for an exclusive lock: somebody outside imglock has locked it"
    kill "$(cat nbd.pid)"
    ln disk.img link.img
    hold disk.img read
    run "$IMGLOCK" explain link.img
    assert_line "used      shared, marked: holder (pid $HOLDER): imglock's marks, locked as $PWD/disk.img"
    assert_line "reading   takes a shared lock"
    assert_line "writing   refused at once: it is locked by another name or elsewhere"
    # Between two who write in mode shared the lock has decided, whatever their marks say.
    release
    IMGLOCK_MODE=shared hold disk.img write
    run "$IMGLOCK" explain disk.img
    assert_line "reading   takes a shared lock"
    assert_line "writing   refused at once: the lock is held"
}

@test "explain opens nothing for writing, and makes nothing" {
    hold disk.img read
    strace -f -qq -e trace=open,openat,creat -o trace "$IMGLOCK" explain disk.img -- dd
    grep -q 'disk.img", O_RDONLY' trace
    run grep -E 'O_WRONLY|O_RDWR|O_CREAT' trace
    assert_output ""
    truncate -s 1M other.img
    "$IMGLOCK" explain other.img
    assert [ ! -e "$(lock_file other.img)" ]
}
