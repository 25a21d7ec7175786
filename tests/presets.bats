#!/usr/bin/env bats
# Presets: the files in config/, and how imglock --config reads files of settings.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

PRESETS=(emulators scripts audit)

# refused_at LINE TEXT: --config refuses the file "settings", names it and the line, and runs nothing.
refused_at() {
    run "$IMGLOCK" --config ./settings "$HELPERS/cli_open"
    assert_equal "$status" 125
    assert_output "imglock: ./settings:$1: $2"
}

# value_of VARIABLE: what the file "settings" makes of it.
value_of() {
    "$IMGLOCK" --config ./settings printenv "$1"
}

@test "each preset is accepted by name, with and without its ending, and by path" {
    for preset in "${PRESETS[@]}"; do
        for name in "$preset" "$preset.conf" "$TOP/config/$preset.conf"; do
            run "$IMGLOCK" --config "$name" "$HELPERS/cli_open"
            assert_success
            assert_output ran
        done
    done
}

@test "a preset means the same to imglock, to a shell, to systemd and to docker" {
    for preset in "${PRESETS[@]}"; do
        file=$TOP/config/$preset.conf
        env -i PATH="$PATH" "$IMGLOCK" --config "$preset" env | grep ^IMGLOCK_ | sort >by_imglock
        env -i PATH="$PATH" sh -c 'set -a; . "$0"; env' "$file" | grep ^IMGLOCK_ | sort >by_shell
        # docker --env-file takes everything behind the = as it is, quotes too; systemd takes quotes off.
        grep -v '^#' "$file" | grep . | sort >as_it_stands
        assert [ -s by_imglock ]
        diff by_imglock by_shell
        diff by_imglock as_it_stands
        run grep -E '["'\''\\ ]' as_it_stands
        assert_failure
    done
}

@test "each line of a preset is explained above it, and is a setting of the library" {
    for preset in "${PRESETS[@]}"; do
        awk '/^IMGLOCK_/ { if (before !~ /^#/) exit 1 } { before = $0 }' "$TOP/config/$preset.conf" ||
            fail "$preset.conf has a line without a comment"
        while read -r name; do
            grep -q "{\"$name\"," "$TOP/shim/policy.c" || fail "$preset.conf: $name"
        done < <(grep -oE '^IMGLOCK_[A-Z_]+' "$TOP/config/$preset.conf")
    done
}

@test "emulators: a second one is refused cleanly, and the image cannot be replaced meanwhile" {
    truncate -s 1M disk.img
    hold disk.img
    run "$IMGLOCK" --config emulators dd if=/dev/zero of=disk.img conv=notrunc count=1
    assert_failure
    assert_output --partial "Text file busy"
    touch other
    run "$IMGLOCK" --config emulators mv -f other disk.img
    assert_failure
    assert_output --partial "imglock: $PWD/disk.img: cannot rename: locked exclusively by holder"
    assert_equal "$(stat -c %s disk.img)" 1048576
}

@test "scripts: a step waits for the image" {
    truncate -s 1M disk.img
    hold disk.img
    run -124 timeout 0.5 "$IMGLOCK" --config scripts "$HELPERS/cli_open" disk.img
    release
    run "$IMGLOCK" --config scripts "$HELPERS/cli_open" disk.img
    assert_output opened
}

@test "audit: nothing is refused, and what would have been is told" {
    qemu-img create -q -f qcow2 disk.qcow2 1M
    hold disk.qcow2
    run "$IMGLOCK" --config audit "$HELPERS/cli_open" disk.qcow2
    assert_success
    assert_line opened
    assert_line --partial "imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder"
    run "$IMGLOCK" --config audit rm disk.qcow2
    assert_success
    assert_output --partial "cannot delete: locked exclusively by holder"
    assert [ ! -e disk.qcow2 ]
    IMGLOCK_DIR=/no/such/directory run "$IMGLOCK" --config audit "$HELPERS/cli_open" "$PWD/disk.qcow2"
    assert_output --partial "No such file"
}

@test "settings of a file replace the environment's, and options replace both; the later file wins" {
    printf 'IMGLOCK_MODE=shared\nIMGLOCK_WAIT=4\n' >settings
    printf 'IMGLOCK_WAIT=5\n' >more.conf
    IMGLOCK_MODE=exclusive run "$IMGLOCK" --config ./settings printenv IMGLOCK_MODE
    assert_output shared
    run "$IMGLOCK" -x --config ./settings printenv IMGLOCK_MODE
    assert_output exclusive
    run "$IMGLOCK" --config ./settings -n printenv IMGLOCK_WAIT
    assert_output 0
    run "$IMGLOCK" --config ./settings --config ./more.conf printenv IMGLOCK_WAIT
    assert_output 5
    run "$IMGLOCK" --config=./more.conf --config=./settings printenv IMGLOCK_WAIT
    assert_output 4
    printf 'IMGLOCK_LOG=quiet\n' >settings
    run "$IMGLOCK" -v --config ./settings printenv IMGLOCK_LOG
    assert_output quiet
}

@test "quotes, as a shell and systemd take them off" {
    cat >settings <<'END'
# a comment

  	# another
IMGLOCK_DIR='/srv/with blank/$dollar/"quote"'
IMGLOCK_RULES="/a b/*=shared:/c\"d/*=nolock"
IMGLOCK_IMAGES=+/srv/'a b'/*:-"/x y/"*
  IMGLOCK_WAIT=2  
IMGLOCK_MODE=
IMGLOCK_LOG=debug,/var/log/a\ b
END
    # Blanks before a name and behind a value are the only ones that a shell would not take.
    sed 's/^ *//; s/ *$//' settings >for_shell
    for name in IMGLOCK_DIR IMGLOCK_RULES IMGLOCK_IMAGES IMGLOCK_WAIT IMGLOCK_LOG; do
        by_shell=$(sh -c 'set -a; . ./for_shell; printenv "$0"' "$name")
        assert_equal "$(value_of "$name")" "$by_shell"
    done
    assert_equal "$(value_of IMGLOCK_DIR)" '/srv/with blank/$dollar/"quote"'
    assert_equal "$(value_of IMGLOCK_RULES)" '/a b/*=shared:/c"d/*=nolock'
    assert_equal "$(value_of IMGLOCK_IMAGES)" '+/srv/a b/*:-/x y/*'
    assert_equal "$(value_of IMGLOCK_WAIT)" 2
    assert_equal "$(value_of IMGLOCK_LOG)" 'debug,/var/log/a b'
}

@test "a file from another system, and one without a newline at its end" {
    printf '# x\r\nIMGLOCK_MODE=shared\r\nIMGLOCK_WAIT=3' >settings
    assert_equal "$(value_of IMGLOCK_MODE)" shared
    assert_equal "$(value_of IMGLOCK_WAIT)" 3
    : >settings
    run "$IMGLOCK" --config ./settings "$HELPERS/cli_open"
    assert_success
}

@test "a line that makes no sense is refused, with the file and the line" {
    printf '# x\n\nIMGLOCK_MODE=rw\n' >settings
    refused_at 3 "IMGLOCK_MODE=rw makes no sense; it takes auto, shared, exclusive, nolock, force-share or inactive"
    printf 'IMGLOCK_MDOE=auto\n' >settings
    refused_at 1 "there is no setting IMGLOCK_MDOE; did you mean IMGLOCK_MODE?"
    printf 'IMGLOCK_MODE=auto\nLD_PRELOAD=/x.so\n' >settings
    refused_at 2 "there is no setting LD_PRELOAD"
    printf 'IMGLOCK_LIBRARY=/x.so\n' >settings
    refused_at 1 "there is no setting IMGLOCK_LIBRARY"
    printf 'IMGLOCK_MODE auto\n' >settings
    refused_at 1 "this is no KEY=value line"
    printf 'IMGLOCK_MODE = auto\n' >settings
    refused_at 1 "this is no name of a setting before the ="
    printf 'export IMGLOCK_MODE=auto\n' >settings
    refused_at 1 "this is no name of a setting before the ="
    printf 'IMGLOCK_MODE=auto # why\n' >settings
    refused_at 1 "a value with blanks needs quotes, and a comment a line of its own"
    printf "IMGLOCK_DIR='/srv\n" >settings
    refused_at 1 "a single quote is not closed on its line"
    printf 'IMGLOCK_DIR="/srv\n' >settings
    refused_at 1 "a double quote is not closed on its line"
    printf 'IMGLOCK_DIR=/srv\\\n/x\n' >settings
    refused_at 1 "a line cannot be continued on the next one"
    printf 'IMGLOCK_DIR=$HOME\n' >settings
    refused_at 1 "a value with a character that shells treat specially needs '...'"
    printf 'IMGLOCK_DIR="$HOME"\n' >settings
    refused_at 1 "a shell would replace what follows \$ or \`; use '...'"
    printf '; comment\n' >settings
    refused_at 1 "this is no KEY=value line"
    printf 'IMGLOCK_MODE=auto\0\n' >settings
    refused_at 1 "a NUL byte: this is no text file"
}

@test "a file that cannot be read is refused by name" {
    run "$IMGLOCK" --config ./none "$HELPERS/cli_open"
    assert_equal "$status" 125
    assert_output "imglock: ./none: cannot read the settings: No such file or directory"
    run "$IMGLOCK" --config / "$HELPERS/cli_open"
    assert_equal "$status" 125
    assert_output --partial "cannot read the settings: Is a directory"
    chmod 755 "$BATS_TEST_TMPDIR" "$BATS_RUN_TMPDIR"
    printf 'IMGLOCK_MODE=auto\n' >settings
    chmod 600 settings
    run setpriv --reuid=nobody --regid=nogroup --clear-groups "$IMGLOCK" --config ./settings "$HELPERS/cli_open"
    assert_equal "$status" 125
    assert_output "imglock: ./settings: cannot read the settings: Permission denied"
}

@test "a preset that is not there: what there is, and that a file needs a slash" {
    printf 'IMGLOCK_MODE=auto\n' >settings
    run "$IMGLOCK" --config settings "$HELPERS/cli_open"
    assert_equal "$status" 125
    assert_output "imglock: there is no preset 'settings' in $TOP/config, which has: audit, emulators, scripts; a file of your own is ./settings"
}

@test "the line for systemd-tmpfiles spares lock files" {
    command -v systemd-tmpfiles >/dev/null || skip "systemd-tmpfiles is not installed"
    mkdir -p root/var/tmp
    printf 'q /var/tmp 1777 root root 1s\n' >clean.conf
    touch -d '60 days ago' root/var/tmp/.qemu-0000000000000000000000000000000000000000.lock root/var/tmp/other
    # The age of a file counts all its time stamps, and the change time is of now.
    read -rt 2.2 <> <(:) || true
    SYSTEMD_LOG_LEVEL=err systemd-tmpfiles --root="$PWD/root" --clean "$PWD/clean.conf" "$TOP/config/imglock.tmpfiles.conf"
    assert [ -e root/var/tmp/.qemu-0000000000000000000000000000000000000000.lock ]
    assert [ ! -e root/var/tmp/other ]
}
