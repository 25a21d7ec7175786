#!/usr/bin/env bats
# What imglock sees in a target before it starts it: static, setuid, foreign, scripts.

# shellcheck disable=SC2016,SC2020,SC2030,SC2031,SC2153,SC2154,SC2209 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    cp "$HELPERS/cli_open" dynamic
    # A dynamic loader's path for "dynamic", which has room for a short one only.
    LOADER=/tmp/ld.$$
}

teardown() {
    rm -f "$LOADER"
    umount "$BATS_TEST_TMPDIR/nosuid" 2>/dev/null || true
    common_teardown
}

# refused TEXT COMMAND...: imglock refuses to start it, with status 125, one line that has the text, and nothing run.
refused() {
    local text=$1
    shift
    run "$IMGLOCK" "$@"
    assert_equal "$status" 125
    assert_output --partial "$text"
    assert_equal "${#lines[@]}" 1
    refute_output --partial ran
}

# as_nobody_refused TEXT COMMAND...: the same for a user who is not root.
as_nobody_refused() {
    local text=$1
    shift
    run "${NOBODY[@]}" "$IMGLOCK" "$@"
    assert_equal "$status" 125
    assert_output --partial "$text"
    assert_equal "${#lines[@]}" 1
}

# script NAME LINE: an executable script with this first line.
script() {
    printf '%s\necho ran\n' "$2" >"$1"
    chmod 755 "$1"
}

# patch FILE OFFSET BYTES: overwrites bytes of a file, in printf's notation.
patch() {
    # shellcheck disable=SC2059 # the bytes are the format
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# give_loader FILE: makes LOADER its PT_INTERP.
give_loader() {
    local old=/lib64/ld-linux-x86-64.so.2 offset padding
    offset=$(grep -abo "$old" "$1" | head -n 1 | cut -d: -f1)
    padding=$(printf '%*s' $((${#old} - ${#LOADER})) '' | sed 's/ /\\0/g')
    patch "$1" "$offset" "$LOADER$padding"
}

@test "a dynamically linked program runs" {
    run "$IMGLOCK" ./dynamic
    assert_success
    assert_output ran
}

@test "a static program is refused, with the way out" {
    refused "it is statically linked" "$HELPERS/cli_static"
    assert_output --partial "'imglock hold IMAGE -- COMMAND'"
}

@test "a static-pie program is refused" {
    file "$HELPERS/cli_static_pie" | grep -q 'pie executable.*static-pie'
    refused "it is statically linked" "$HELPERS/cli_static_pie"
}

@test "busybox-static, found through PATH, is refused" {
    refused "/busybox: it is statically linked" busybox true
}

@test "the dynamic loader itself is refused" {
    loader=$(readlink -f /lib64/ld-linux-x86-64.so.2)
    refused "it is the dynamic loader; name the program itself" "$loader" "$PWD/dynamic"
}

@test "another architecture is refused by name" {
    cp dynamic aarch64
    patch aarch64 18 '\267\000' # e_machine = EM_AARCH64
    refused "it is a 64-bit program for aarch64, and the library is 64-bit x86-64" ./aarch64
    cp dynamic machine
    patch machine 18 '\377\177'
    refused "ELF machine 32767" ./machine
}

@test "another ELF class is refused" {
    cp dynamic i386
    patch i386 4 '\001' # EI_CLASS = ELFCLASS32
    patch i386 18 '\003\000'
    refused "it is a 32-bit program for i386" ./i386
    cp dynamic big
    patch big 5 '\002' # EI_DATA = ELFDATA2MSB
    patch big 18 '\000\025'
    refused "it is a 64-bit program for ppc64" ./big
}

@test "a program with another dynamic loader is refused" {
    refused "its dynamic loader /opt/other/ld-linux-x86-64.so.2: No such file" "$HELPERS/cli_other_loader"
    cp /lib64/ld-linux-x86-64.so.2 loader
    ln -s "$PWD/loader" "$LOADER"
    give_loader dynamic
    run ./dynamic
    assert_output ran
    refused "its dynamic loader is $LOADER" ./dynamic
}

@test "a loader that is the same file under another name is fine" {
    ln -s /lib64/ld-linux-x86-64.so.2 "$LOADER"
    give_loader dynamic
    run "$IMGLOCK" ./dynamic
    assert_success
    assert_output ran
}

@test "setuid and setgid are refused exactly where the kernel sets AT_SECURE" {
    needs_root
    for mode in 755 4755 2755 2745 6755; do
        for owner in root:root nobody:nogroup daemon:daemon; do
            cp "$HELPERS/cli_secure" secure
            chown "$owner" secure
            chmod "$mode" secure
            for user in root nobody; do
                as=()
                [ "$user" = root ] || as=("${NOBODY[@]}")
                for privileges in '' 'setpriv --no-new-privs'; do
                    # shellcheck disable=SC2086 # words
                    really=$("${as[@]}" $privileges ./secure || true)
                    # shellcheck disable=SC2086
                    run "${as[@]}" $privileges "$IMGLOCK" ./secure
                    case $really in
                    secure) assert_equal "$mode $owner $user $privileges: $status" "$mode $owner $user $privileges: 125" ;;
                    plain) assert_equal "$mode $owner $user $privileges: $output" "$mode $owner $user $privileges: plain" ;;
                    *) assert_equal "$mode $owner $user $privileges: $status" "$mode $owner $user $privileges: 126" ;;
                    esac
                done
            done
        done
    done
}

@test "a setuid program is refused for nobody, with the reason and the way out, and runs for root" {
    needs_root
    cp "$HELPERS/cli_secure" secure
    chmod 4755 secure
    as_nobody_refused "it is setuid, so the dynamic loader ignores preloaded libraries for this user; run it as root" ./secure
    run "$IMGLOCK" ./secure
    assert_success
    assert_output plain
}

@test "setuid counts for nothing on a file system that is mounted nosuid" {
    mkdir nosuid
    mount -t tmpfs -o nosuid,mode=755 tmpfs nosuid || skip "mount is not allowed here"
    cp "$HELPERS/cli_secure" nosuid/secure
    chmod 4755 nosuid/secure
    run "${NOBODY[@]}" "$IMGLOCK" ./nosuid/secure
    assert_success
    assert_output plain
}

@test "file capabilities are refused for nobody, and fine for root" {
    needs_root
    cp "$HELPERS/cli_secure" capable
    chmod 755 capable
    setcap cap_net_raw=ep capable
    assert_equal "$("${NOBODY[@]}" ./capable)" secure
    as_nobody_refused "it has file capabilities" ./capable
    run "$IMGLOCK" ./capable
    assert_success
    assert_output plain
}

@test "a program that nobody may read cannot be looked at, and is refused" {
    needs_root
    chmod 711 dynamic
    as_nobody_refused "cannot read it to see whether the library can be preloaded: Permission denied" ./dynamic
}

@test "a script runs, with its arguments" {
    printf '#!/bin/sh\necho "$0 $*"\n' >script
    chmod 755 script
    run "$IMGLOCK" ./script one two
    assert_success
    assert_output "./script one two"
}

@test "a script of a static interpreter is refused, and says which" {
    script script '#!/usr/bin/busybox sh'
    refused "/usr/bin/busybox: it is statically linked" ./script
}

@test "a script of a script of a static interpreter is refused" {
    script third '#!/usr/bin/busybox sh'
    script second "#!$PWD/third"
    script first "#! 	$PWD/second 	-x  "
    refused "/usr/bin/busybox: it is statically linked" ./first
}

@test "scripts of scripts run as deep as the kernel lets them" {
    script script1 '#!/bin/sh'
    for depth in 2 3 4 5 6 7; do script "script$depth" "#!$PWD/script$((depth - 1))"; done
    for depth in 1 2 3 4 5 6 7; do
        run "./script$depth"
        bare=$status
        run "$IMGLOCK" "./script$depth"
        if [ "$bare" -eq 0 ]; then
            assert_success
            assert_output ran
        else
            assert_equal "$depth: $status" "$depth: 126"
            assert_output --partial "Too many levels of symbolic links"
        fi
    done
}

@test "an interpreter by a relative path is found from the current directory" {
    cp "$HELPERS/cli_static" interpreter
    script script '#!interpreter'
    refused "interpreter: it is statically linked" ./script
}

@test "an interpreter that is not there, or cannot be executed" {
    script script '#!/no/such/interpreter'
    run -127 "$IMGLOCK" ./script
    assert_output "imglock: ./script: its interpreter /no/such/interpreter: No such file or directory"
    script script '#!/etc/passwd'
    run "$IMGLOCK" ./script
    assert_equal "$status" 126
    assert_output "imglock: ./script: its interpreter /etc/passwd: Permission denied"
    script script '#!'
    run "$IMGLOCK" ./script
    assert_equal "$status" 126
    assert_output "imglock: ./script: its first line names no interpreter"
}

@test "an interpreter that the kernel's 256 bytes cut off is refused" {
    script script "#!/$(printf 'x%.0s' {1..300})"
    run "$IMGLOCK" ./script
    assert_equal "$status" 126
    assert_output "imglock: ./script: its first line names no interpreter"
}

@test "env in a script's first line: the program it runs is looked at" {
    mkdir bin
    cp "$HELPERS/cli_static" bin/tool
    script script '#!/usr/bin/env tool'
    PATH=$PWD/bin:$PATH refused "/bin/tool: it is statically linked" ./script
    cp dynamic bin/tool
    PATH=$PWD/bin:$PATH run "$IMGLOCK" ./script
    assert_output opened
}

@test "env -S in a script's first line, with settings and options" {
    mkdir bin
    cp "$HELPERS/cli_static" bin/tool
    script script '#!/usr/bin/env -S -u NOTHING VALUE=1 tool --option'
    PATH=$PWD/bin:$PATH refused "/bin/tool: it is statically linked" ./script
    script script "#!/usr/bin/env -S PATH=$PWD/bin tool"
    refused "/bin/tool: it is statically linked" ./script
    script script '#!/usr/bin/env -S sh -e'
    run "$IMGLOCK" ./script
    assert_success
    assert_output ran
}

@test "env that takes the library away is refused, as a command too" {
    script script '#!/usr/bin/env -S -i sh'
    refused "env: -i takes the library out of the environment" ./script
    refused "env: -i takes" env -i ./dynamic
    refused "env: -u LD_PRELOAD takes" env -u LD_PRELOAD ./dynamic
    refused "env: LD_PRELOAD=x takes" env LD_PRELOAD=x ./dynamic
    refused "statically linked" env VALUE=1 "$HELPERS/cli_static"
}

@test "env whose program is not there: 127, as env has it" {
    script script '#!/usr/bin/env no-such-program'
    run -127 "$IMGLOCK" ./script
    assert_output "imglock: no-such-program: No such file or directory"
}

@test "scripts that have env run each other do not hang the look" {
    mkdir bin
    script bin/circle '#!/usr/bin/env circle'
    PATH=$PWD/bin:$PATH run timeout 300 "$IMGLOCK" circle
    assert_equal "$status" 125
    assert_output --partial "too many scripts that env runs one from the other"
}

@test "a text file without a first line is the shell's, as execvp has it" {
    printf 'echo ran by a shell\n' >text
    chmod 755 text
    run "$IMGLOCK" ./text
    assert_success
    assert_output "ran by a shell"
    : >empty
    chmod 755 empty
    run "$IMGLOCK" ./empty
    assert_success
}

@test "a file that is neither ELF nor text is refused" {
    printf '\312\376\272\276\000\000\000\064 class\n' >binary
    chmod 755 binary
    refused "it is neither an ELF program nor a script" ./binary
}

@test "broken ELF files are refused and crash nothing" {
    for size in 4 16 63 64 100 200; do
        head -c "$size" dynamic >broken
        chmod 755 broken
        run "$IMGLOCK" ./broken
        assert_equal "$size: $status" "$size: 126"
        assert_output "imglock: ./broken: Exec format error"
    done
    cp dynamic huge
    patch huge 32 '\377\377\377\377\377\377\377\177' # e_phoff
    run "$IMGLOCK" ./huge
    assert_equal "$status" 126
}

@test "doctor warns of a program written in Go" {
    run "$IMGLOCK" doctor "$HELPERS/cli_go"
    assert_success
    assert_output --partial "it is written in Go"
    run "$IMGLOCK" doctor "$HELPERS/cli_open"
    refute_output --partial "Go"
}
