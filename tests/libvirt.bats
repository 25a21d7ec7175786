#!/usr/bin/env bats
# Machines that libvirt starts: the domain of examples/libvirt.xml in a libvirtd of the test's own.
# shellcheck disable=SC2154 # what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    mkdir -p home/libvirt run
    echo 'stdio_handler = "file"' >home/libvirt/qemu.conf
    cp "$SHIM" libimglock.so
    qemu-img create -q -f raw disk.img 8M
    # A boot sector that halts.
    printf '\xf4\xeb\xfd' | dd of=disk.img conv=notrunc status=none
    printf '\x55\xaa' | dd of=disk.img bs=1 seek=510 conv=notrunc status=none
    AS_USER=(env -u LD_PRELOAD HOME="$PWD" XDG_CONFIG_HOME="$PWD/home" XDG_CACHE_HOME="$PWD/home" XDG_RUNTIME_DIR="$PWD/run")
    # The session mode of libvirt is not for root.
    if [ "$(id -u)" = 0 ]; then
        AS_USER=("${NOBODY[@]}" "${AS_USER[@]}")
        chown -R nobody:nogroup home run disk.img
    fi
}

# Every process of the server has written its pid below run/.
teardown() {
    local file pid
    for file in run/libvirt/qemu/run/*.pid run/libvirt/*.pid; do
        case $file in *'*'* | */driver.pid) continue ;; esac
        pid=$(cat "$file") || continue
        kill "$pid" 2>/dev/null || continue
        wait_until_gone "$pid"
    done
    common_teardown
}

# wait_until_gone PID: the process has ended, whether its parent has noticed or not.
wait_until_gone() { eventually is_gone "$1"; }

virsh() { "${AS_USER[@]}" timeout 300 virsh -q -c qemu:///session "$@" 3>&-; }

# domain NAME [SCRIPT]: NAME.xml, the example with this test's paths and what the sed script changes.
domain() {
    sed -e "s,imglock-example,$1," -e "s,/srv/vm/disk.img,$PWD/disk.img," \
        -e "s,/usr/local/lib/imglock/libimglock.so,$PWD/libimglock.so," \
        -e "s,<qemu:commandline>,&<qemu:env name='IMGLOCK_DIR' value='$IMGLOCK_DIR'/>," -e "${2-}" \
        "$TOP/examples/libvirt.xml" >"$1.xml"
}

pid_of() { cat "run/libvirt/qemu/run/$1.pid"; }

# running_in DIRECTORY: processes, other than zombies, whose environment has a directory below this one.
running_in() {
    local file
    for file in /proc/[0-9]*/environ; do
        grep -qaF "=$1/" "$file" 2>/dev/null || continue
        cat "${file%environ}comm"
    done
}

# Machines may share such a disk, as far as libvirt's and QEMU's own locks go.
SHAREABLE="s,<disk .*,&<shareable/>,; s,type='raw'/>,type='raw' cache='writeback'/>,"

@test "a machine holds its disk until it ends; nobody else writes to it, not even a machine for which QEMU's locks are open" {
    domain first "$SHAREABLE"
    domain second "$SHAREABLE"
    domain bare "$SHAREABLE; /<qemu:commandline>/,/<.qemu:commandline>/d"

    # virsh would start it, but without this environment.
    "${AS_USER[@]}" PATH="$PATH:/usr/sbin" libvirtd --daemon --timeout 300 3>&-
    virsh create first.xml
    holder=$(pid_of first)
    run --separate-stderr "$IMGLOCK" status -rno PID,COMMAND,MODE,KIND disk.img
    assert_success
    assert_output "$holder qemu-system-x86 exclusive holder"

    before=$(fingerprint disk.img)
    for command in "dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none" "mkfs.ext4 -q -F disk.img"; do
        # shellcheck disable=SC2086 # a command line
        run "$IMGLOCK" -- $command
        assert_failure
        assert_line --partial "imglock: $PWD/disk.img: cannot open for "
        assert_line --partial "locked exclusively by qemu-system-x86 (pid $holder, user "
    done
    # libvirt passes on what the second machine's QEMU says.
    run virsh create second.xml
    assert_failure
    assert_output --partial "imglock: $PWD/disk.img: cannot open for "
    assert_output --partial "locked exclusively by qemu-system-x86 (pid $holder, user "
    assert_equal "$(fingerprint disk.img)" "$before"

    # What happens without the domain's last element: QEMU lets it in, and nothing of the server's environment is there.
    virsh create bare.xml
    run grep -zc ^IMGLOCK_DIR= "/proc/$(cat run/libvirt/libvirtd.pid)/environ"
    assert_output 1
    run grep -zcE '^(IMGLOCK_|LD_PRELOAD)' "/proc/$(pid_of bare)/environ"
    assert_output 0
    bare=$(pid_of bare)
    kill "$bare"
    wait_until_gone "$bare"

    virsh destroy first
    run "$IMGLOCK" status disk.img
    assert_equal "$status" 1
    run "$IMGLOCK" -- mkfs.ext4 -q -F disk.img
    assert_success
}

@test "the example shows it, and leaves nothing behind" {
    export TMPDIR=$PWD/scratch
    mkdir -m 755 "$TMPDIR"
    run timeout 300 "$PUBLIC/examples/libvirt.sh" 3>&-
    assert_success
    image="$TMPDIR/tmp\\.[A-Za-z0-9]+/disk\\.img"
    assert_line --regexp "^$image +exclusive +holder +[0-9]+ +[^ ]+ +qemu-system-x86 "
    refusal="imglock: $image: cannot open for (reading|writing)(, to [a-z ]*)?: locked exclusively by qemu-system-x86 \\(pid [0-9]+, user "
    assert_equal "$(grep -cE "^$refusal" <<<"$output")" 2
    assert_line --regexp "^error: internal error: .*$refusal"
    assert_equal "$(grep -c '^(exit status' <<<"$output")" 4
    # Free: dd, after the machine's end, says nothing.
    assert_line --index -1 '$ imglock dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none'
    run ls -A "$TMPDIR"
    assert_output ""
    run running_in "$TMPDIR"
    assert_output ""
}

@test "the example's settings are the preset's for QEMU, and the README and the manual show them" {
    settings=$(sed -n "s,.*<qemu:env name='\(IMGLOCK_.*\)' value='\(.*\)'/>,\1=\2,p" "$TOP/examples/libvirt.xml")
    [ -n "$settings" ]
    while read -r setting; do
        grep -qxF "$setting" "$TOP/config/qemu.conf" || fail "qemu.conf has no $setting"
    done <<<"$settings"
    shown=$(sed -n 's/^ *\(<qemu:env .*\)/\1/p; s/.*\(xmlns:qemu=.*\)>$/\1/p' "$TOP/examples/libvirt.xml")
    [ "$(wc -l <<<"$shown")" -gt 1 ]
    while read -r line; do
        grep -qF "$line" "$TOP/README.md" || fail "README.md has no $line"
        grep -qF "$line" "$TOP/man/libimglock.7" || fail "libimglock(7) has no $line"
    done <<<"$shown"
    run virt-xml-validate "$TOP/examples/libvirt.xml" domain
    assert_success
}

@test "an emulator for all machines: config/qemu-imglock takes the lock, in domains that know nothing of imglock" {
    make -s -C "$TOP" install DESTDIR="$PWD/root" PREFIX=/usr >/dev/null
    local bare="/<qemu:commandline>/,/<.qemu:commandline>/d"
    domain first "$bare; s,/usr/bin/qemu-system-x86_64,$PWD/root/usr/share/imglock/qemu-imglock,"
    # Without the domain's environment, the lock directory can only come from the emulator's.
    echo "IMGLOCK_DIR=$IMGLOCK_DIR" >>root/usr/share/imglock/qemu.conf
    "${AS_USER[@]}" PATH="$PATH:/usr/sbin" libvirtd --daemon --timeout 60 3>&-
    virsh create first.xml
    run "$IMGLOCK" status -rn -o PID,MODE,KIND disk.img
    assert_output "$(pid_of first) exclusive holder"
    run wrapped dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_failure
    assert_output --partial "locked exclusively by qemu-system-x86"
    virsh destroy first
}

@test "the snippets for AppArmor and SELinux are what those read, and name the files that are needed" {
    {
        printf '#include <tunables/global>\nprofile libvirt-test {\n'
        cat "$TOP/config/apparmor-libvirt-qemu"
        echo '}'
    } >profile
    run apparmor_parser --skip-kernel-load --skip-cache --base /etc/apparmor.d profile
    assert_success
    for file in lib/imglock/libimglock.so bin/imglock share/imglock/qemu-imglock; do
        grep -qF "$file" profile
    done
    run checkmodule -M -m -o imglock-libvirt.mod "$TOP/config/imglock-libvirt.te"
    assert_success
}
