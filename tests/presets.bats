#!/usr/bin/env bats
# Presets: the files in config/, and how imglock --config reads files of settings.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

PRESETS=(audit emulators migration qemu scripts shared-storage strict)

# The program through which systemd's own code reads a file of KEY=value lines, where it is installed.
export SYSTEMD_READER=/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator

preset_file() {
    case $1 in
    */*) printf %s "$1" ;;
    *) printf %s "$TOP/config/$1.conf" ;;
    esac
}

# read_by READER FILE: the settings of a preset as one of those that read such files understands them, one a line, sorted.
# docker takes everything behind the = as it stands.
read_by() {
    local reader=$1 file=$2 folder
    case $reader in
    imglock) env -i PATH="$PATH" "$IMGLOCK" --config "$file" env ;;
    shell) env -i PATH="$PATH" sh -c 'set -a; . "$0"; env' "$file" ;;
    docker) grep -v '^#' "$file" ;;
    systemd)
        folder=$(mktemp -d -p "$BATS_TEST_TMPDIR")
        mkdir "$folder/environment.d"
        cp "$file" "$folder/environment.d/preset.conf"
        # It quotes what it prints, for a shell.
        env -i PATH="$PATH" sh -c 'set -a; eval "$(XDG_CONFIG_HOME=$0 "$1")"; env' "$folder" "$SYSTEMD_READER"
        ;;
    esac | grep ^IMGLOCK_ | sort
}

readers() {
    printf '%s\n' imglock shell docker
    [ ! -x "$SYSTEMD_READER" ] || echo systemd
}

# under READER PRESET COMMAND...: runs a command with a preset's settings, as read by one of those.  All but imglock itself take
# the library as a user of it does.
under() {
    local reader=$1 file settings
    file=$(preset_file "$2")
    shift 2
    if [ "$reader" = imglock ]; then
        "$IMGLOCK" --config "$file" "$@"
    else
        mapfile -t settings < <(read_by "$reader" "$file")
        [ "${#settings[@]}" -gt 0 ] || return
        env "${settings[@]}" LD_PRELOAD="$SHIM" "$@"
    fi
}

# hold_under PRESET COMMAND...: a command that runs until release, wrapped with a preset.  Returns when the image that it was
# given, $IMAGE, is in use.
hold_under() {
    local preset=$1
    shift
    "$IMGLOCK" --config "$preset" "$@" >holder.out 2>holder.err 3>&- </dev/null &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    wait_for_holder
}

wait_for_holder() {
    eventually holds_or_ended
    kill -0 "$HOLDER" || fail "it ended: $(cat holder.err)"
}
holds_or_ended() { "$IMGLOCK" status "$IMAGE" 2>/dev/null | grep -q " $HOLDER " || is_gone "$HOLDER"; }

# wait_for_waiter PID: returns when it, or what it started, has an inotify instance to wait with.
wait_for_waiter() {
    eventually waits_or_ended "$1"
    kill -0 "$1" || fail "it did not wait: $(cat waiter.out)"
}
waits_or_ended() {
    local pid
    for pid in "$1" $(pgrep -P "$1"); do
        ! grep -qs inotify "/proc/$pid/"fdinfo/* || return 0
    done
    is_gone "$1"
}

# writes_to IMAGE: a command line that writes one sector, for under.
writes_to() { WRITES=(dd if=/dev/zero of="$1" bs=512 count=1 conv=notrunc status=none); }

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

@test "these are the presets, and the README and the manual name each of them" {
    run find "$TOP/config" -name '*.conf' ! -name '*.tmpfiles.conf' -printf '%f\n'
    assert_equal "$(sort <<<"$output")" "$(printf '%s.conf\n' "${PRESETS[@]}")"
    for preset in "${PRESETS[@]}"; do
        grep -qF "\`$preset\`" "$TOP/README.md" || fail "README.md does not name $preset"
        grep -qE "^\.(Cm|It Cm) $preset( |$)" "$TOP/man/imglock.1" || fail "imglock(1) does not name $preset"
    done
}

@test "a preset means the same to imglock, to a shell, to systemd and to docker" {
    for preset in "${PRESETS[@]}"; do
        file=$(preset_file "$preset")
        read_by docker "$file" >as_it_stands
        assert [ -s as_it_stands ]
        for reader in $(readers); do
            diff <(read_by "$reader" "$file") as_it_stands || fail "$preset.conf means something else to $reader"
        done
        # A shell would split or expand one, systemd take a quote off that docker leaves there.
        run grep -E '["'\''\\ $`~]|^export' as_it_stands
        assert_failure
        run grep -vE '^(#.*|IMGLOCK_[A-Z_]+=[^#]+|)$' "$file"
        assert_failure
        assert_equal "$(cut -d= -f1 as_it_stands | uniq -d)" ""
    done
}

@test "each line of a preset is explained above it, and is a setting that the manual has" {
    for preset in "${PRESETS[@]}"; do
        file=$(preset_file "$preset")
        awk '/^IMGLOCK_/ { if (before !~ /^# /) exit 1 } { before = $0 }' "$file" ||
            fail "$preset.conf has a line without a comment"
        grep -q "^# $preset.conf: " "$file" || fail "$preset.conf does not say what it is for"
        grep -qE "^# ([0-9]\. )?imglock --config (\./mine.conf|$preset) " "$file" ||
            fail "$preset.conf does not say how to use it"
        names=0
        while read -r name; do
            names=$((names + 1))
            grep -qE "^\.It Ev $name Ns = " "$TOP/man/libimglock.7" || fail "$preset.conf: $name is not in libimglock(7)"
            "$HELPERS/settings" | grep -q "^$name"$'\t' || fail "$preset.conf: $name is no setting"
        done < <(grep -oE '^IMGLOCK_[A-Z_]+' "$file")
        assert [ "$names" -gt 4 ]
    done
}

# refused_by PRESET TEXT COMMAND...: it fails, with a line that has the text, and disk.img stays as it is.
refused_by() {
    local preset=$1 text=$2 before
    shift 2
    before=$(fingerprint disk.img)
    run "$IMGLOCK" -n --config "$preset" "$@"
    [ "$status" -ne 0 ] || fail "$preset lets through: $*"
    assert_line --partial "$text"
    assert_equal "$(fingerprint disk.img)" "$before"
}

@test "each preset but audit: writers, readers beside one, and what takes an image away are refused; readers share" {
    sed "s,/srv/imglock,$IMGLOCK_DIR," "$TOP/config/shared-storage.conf" >shared-storage.conf
    qemu-img create -q -f raw disk.img 1M
    qemu-img create -q -f raw other.img 1M
    writes_to disk.img
    for preset in emulators scripts qemu strict migration ./shared-storage.conf; do
        hold disk.img
        for command in "${WRITES[*]}" "cat disk.img" "cp other.img disk.img"; do
            # shellcheck disable=SC2086 # a command line
            refused_by "$preset" "Text file busy" $command
            assert_line --regexp "^imglock: $PWD/disk.img: cannot .*: locked exclusively by holder \\(pid $HOLDER, "
        done
        for command in "truncate -s 0 disk.img" "rm -f disk.img" "mv -f other.img disk.img"; do
            # shellcheck disable=SC2086
            refused_by "$preset" "imglock: $PWD/disk.img: cannot " $command
        done
        release
        hold disk.img read
        refused_by "$preset" "Text file busy" "${WRITES[@]}"
        run "$IMGLOCK" -n --config "$preset" cmp disk.img other.img
        assert_success
        release
        # The child of a holder, which does not have its lock.
        run "$IMGLOCK" -n --config "$preset" bash -c 'exec 5<>disk.img; cmp disk.img other.img 5>&-; exit $?'
        if [ "$preset" = strict ]; then assert_failure; else assert_success; fi
        if [ "$preset" != ./shared-storage.conf ]; then
            IMGLOCK_DIR=/no/such/directory refused_by "$preset" "No locks available" cat disk.img
        fi
    done
}

@test "strict: a hard link, a helper, an unnamed image and a missing lock directory are refused, too" {
    qemu-img create -q -f raw disk.img 1M
    qemu-img create -q -f qcow2 disk 1M
    ln disk.img link.img
    IMAGE=disk.img
    hold_under strict qemu-nbd -k "$PWD/nbd.socket" -f raw disk.img
    for reader in $(readers); do
        for name in disk.img link.img; do
            before=$(fingerprint disk.img)
            writes_to "$name"
            run under "$reader" strict "${WRITES[@]}"
            assert_failure
            assert_line --partial "imglock: $PWD/$name: cannot open for writing: locked exclusively by qemu-nbd (pid $HOLDER"
            assert_line --partial "Text file busy"
            assert_equal "$(fingerprint disk.img)" "$before"
        done
        # By default another name has another lock, and QEMU's own is in the way.
        run wrapped cmp -n 512 link.img /dev/zero
        assert_failure
        assert_line --partial "imglock: $PWD/link.img: cannot open for reading: in use by qemu-nbd (pid $HOLDER"
        for operation in "truncate -s 0 disk.img" "rm -f disk.img" "mv -f disk disk.img"; do
            # shellcheck disable=SC2086 # a command line
            run under "$reader" strict $operation
            assert_failure
            assert_line --partial "imglock: $PWD/disk.img: cannot "
        done
        # The content tells that this is an image, and the one who holds it has started the one who is refused.
        run under "$reader" strict bash -c 'exec 5<>disk; qemu-img resize -q disk 2M 5>&-; exit $?'
        assert_failure
        assert_line --partial "imglock: $PWD/disk: cannot open for "
        run wrapped bash -c 'exec 5<>disk; qemu-img resize -q disk 2M 5>&-; exit $?'
        assert_success
        IMGLOCK_DIR=/no/such/directory run under "$reader" strict cat disk
        assert_failure
        assert_line --partial "No locks available"
    done
    release
    run "$IMGLOCK" --config strict "${WRITES[@]}"
    assert_success
}

@test "strict: readers share, and with -x they do not" {
    qemu-img create -q -f qcow2 disk.qcow2 1M
    IMAGE=disk.qcow2
    hold_under strict qemu-nbd -r -k "$PWD/nbd.socket" disk.qcow2
    run "$IMGLOCK" --config strict qemu-img info disk.qcow2
    assert_success
    run "$IMGLOCK" --config strict -x qemu-img info disk.qcow2
    assert_failure
    assert_line --partial "locked shared by qemu-nbd"
}

@test "qemu: overlays run on one base, which nobody writes to meanwhile" {
    qemu-img create -q -f qcow2 base.qcow2 1M
    for name in one two; do qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 "$name.qcow2"; done
    IMAGE=one.qcow2
    hold_under qemu qemu-nbd -k "$PWD/nbd.socket" one.qcow2
    writes_to base.qcow2
    for reader in $(readers); do
        run under "$reader" qemu qemu-io -c 'write -P 3 0 4k' two.qcow2
        assert_success
        # QEMU refuses its own programs here; imglock refuses dd as well.
        before=$(fingerprint base.qcow2)
        run under "$reader" qemu "${WRITES[@]}"
        assert_failure
        assert_line --partial "imglock: $PWD/base.qcow2: cannot open for writing: locked shared by qemu-nbd (pid $HOLDER"
        assert_line --partial "Text file busy"
        assert_equal "$(fingerprint base.qcow2)" "$before"
    done
    run "$IMGLOCK" --config qemu qemu-io -c 'write -P 3 0 4k' one.qcow2
    assert_failure
    assert_line --partial "imglock: $PWD/one.qcow2: cannot open for "
    assert_line --partial "locked exclusively by qemu-nbd (pid $HOLDER"
    # Up and down again in one process: the base is read, then written.
    release
    run "$IMGLOCK" --config qemu qemu-img commit -q one.qcow2
    assert_success
}

@test "qemu: two that write to one raw image, under two names" {
    qemu-img create -q -f raw disk.img 1M
    ln disk.img link.img
    IMAGE=disk.img
    hold_under qemu qemu-nbd -k "$PWD/nbd.socket" -f raw disk.img
    # QEMU alone lets them.
    run qemu-io -f raw -c 'write -P 2 0 4k' link.img
    assert_success
    run wrapped qemu-io -f raw -c 'write -P 4 0 4k' link.img
    assert_failure
    assert_line --partial "in use by qemu-nbd (pid $HOLDER"
    run "$IMGLOCK" --config qemu qemu-io -f raw -c 'write -P 4 0 4k' link.img
    assert_failure
    assert_line --partial "imglock: $PWD/link.img: cannot open for "
    assert_line --partial "locked exclusively by qemu-nbd (pid $HOLDER"
    run qemu-io -r -f raw -c 'read -P 2 0 4k' link.img
    assert_output --partial "read 4096/4096"
    refute_output --partial "verification failed"
}

@test "qemu: what looks at an image for an instant does not stop a machine from starting" {
    qemu-img create -q -f qcow2 disk.qcow2 1M
    # Longer than the preset waits, so that a machine under load has time to let go.
    sed 's/^IMGLOCK_WAIT=0.5$/IMGLOCK_WAIT=60/' "$(preset_file qemu)" >qemu.conf
    assert_equal "$(diff "$(preset_file qemu)" qemu.conf | grep -c '^>')" 1
    for reader in $(readers); do
        hold disk.qcow2 read
        under "$reader" ./qemu.conf qemu-io -c 'write -P 5 0 4k' disk.qcow2 >waiter.out 2>&1 3>&- &
        waiter=$!
        HOLDERS+=("$waiter")
        wait_for_waiter "$waiter"
        release
        wait "$waiter" || fail "$(cat waiter.out)"
        run cat waiter.out
        refute_line --partial imglock:
        assert_line --partial "wrote 4096/4096"
    done
}

@test "qemu: firmware is no image, and has no lock" {
    firmware=$(find /usr/share/seabios /usr/share/qemu -name '*.bin' | head -n 1)
    [ -n "$firmware" ] || fail "no firmware in /usr/share"
    for reader in $(readers); do
        IMGLOCK_MODE=exclusive run under "$reader" qemu cat "$firmware" disk.img
        assert [ ! -e "$(lock_file "$firmware")" ]
    done
}

# on_host NAME COMMAND...: as on another host: a name and a /var/tmp of its own.  What else there is, is shared.
on_host() {
    exec unshare -m -u sh -c 'hostname "$0"; mount -t tmpfs -o mode=1777 none /var/tmp; exec "$@"' "$@"
}

@test "shared-storage: the lock is seen on each host" {
    unshare -m -u true 2>/dev/null || skip "no namespaces here"
    mkdir -m 1777 shared
    sed "s,/srv/imglock,$PWD/shared," "$TOP/config/shared-storage.conf" >mine.conf
    run diff "$TOP/config/shared-storage.conf" mine.conf
    assert_line "> IMGLOCK_DIR=$PWD/shared"
    qemu-img create -q -f raw disk.img 1M
    unset IMGLOCK_DIR
    IMAGE=disk.img
    on_host one "$IMGLOCK" --config ./mine.conf qemu-nbd -k "$PWD/nbd.socket" -f raw disk.img \
        >holder.out 2>holder.err 3>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    export IMGLOCK_DIR=$PWD/shared
    wait_for_holder
    unset IMGLOCK_DIR
    writes_to disk.img
    functions=$(declare -f under preset_file read_by)
    for reader in $(readers); do
        before=$(fingerprint disk.img)
        run on_host two bash -c "$functions; under \"\$@\"" - "$reader" ./mine.conf "${WRITES[@]}"
        assert_failure
        assert_line --partial "imglock: $PWD/disk.img: cannot open for writing: locked exclusively on one by qemu-nbd"
        assert_equal "$(fingerprint disk.img)" "$before"
    done
    # One lock, by path: no number of a device, which is each host's own, in another one.
    assert_equal "$(find shared -type f)" "$(IMGLOCK_DIR=$PWD/shared "$IMGLOCK" path disk.img | sed "s,^$PWD/,,")"
    # Without the preset each host has lock files of its own.  QEMU's locks are on the image, where hosts share those.
    run on_host two env LD_PRELOAD="$SHIM" "${WRITES[@]}"
    assert_failure
    assert_line --partial "in use by qemu-nbd"
    release
    run on_host two "$IMGLOCK" --config ./mine.conf "${WRITES[@]}"
    assert_success
}

@test "shared-storage: as it stands it refuses, where there is no such directory" {
    [ ! -e /srv/imglock ] || skip "this machine has /srv/imglock"
    qemu-img create -q -f raw disk.img 1M
    before=$(fingerprint disk.img)
    writes_to disk.img
    for reader in $(readers); do
        run under "$reader" shared-storage "${WRITES[@]}"
        assert_failure
        assert_line --partial "/srv/imglock"
        assert_equal "$(fingerprint disk.img)" "$before"
    done
}

# machine NAME PRESET FD IMAGE... -- ARGUMENT...: a virtual machine, wrapped with a preset, that does not run yet; its monitor
# reads what is written to FD, and answers in NAME.out.  Sets HOLDER to its pid.  Returns when the monitor answers.
machine() {
    local name=$1 preset=$2 monitor=$3 disks=()
    shift 3
    while [ "$1" != -- ]; do
        disks+=(-device "virtio-blk,drive=d${#disks[@]}" -drive "if=none,id=d${#disks[@]},file=$1")
        shift
    done
    shift
    mkfifo "$name.in"
    eval "exec $monitor<>$name.in"
    "$IMGLOCK" --config "$preset" qemu-system-x86_64 -accel tcg -m 16 -nodefaults -display none -S -monitor stdio \
        "${disks[@]}" "$@" <"$name.in" >"$name.out" 2>"$name.err" 3>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    monitor_says "$name" "$monitor" "info status" "VM status:"
}

# monitor_says NAME FD COMMAND TEXT: gives the command to a machine's monitor, and returns when it has answered the text.
monitor_says() {
    echo "$3" >&"$2"
    eventually says_or_ended "$1" "$4"
    grep -qF "$4" "$1.out" || fail "$1 ended: $(cat "$1.err")"
}
says_or_ended() { grep -qF "$2" "$1.out" || is_gone "$HOLDER"; }

# mine: migration.conf with the image that is to move, as the file itself says to make it.
mine() {
    sed "s,/srv/vm/disk.qcow2,$(realpath disk.qcow2)," "$TOP/config/migration.conf" >mine.conf
    run diff "$TOP/config/migration.conf" mine.conf
    assert_line "> IMGLOCK_RULES=$PWD/disk.qcow2=inactive"
    assert_equal "$(grep -c '^> [^#]' <<<"$output")" 1
}

@test "migration: the destination opens the image beside the source, and locks others" {
    for name in disk other; do qemu-img create -q -f qcow2 "$name.qcow2" 1M; done
    mine
    IMAGE=disk.qcow2
    hold_under qemu qemu-nbd -k "$PWD/nbd.socket" disk.qcow2
    # As it stands, the rule is about another image.
    run "$IMGLOCK" --config migration qemu-io -c info disk.qcow2
    assert_failure
    assert_line --partial "imglock: $PWD/disk.qcow2: cannot open for "
    writes_to disk.qcow2
    for reader in $(readers); do
        before=$(fingerprint disk.qcow2)
        run under "$reader" ./mine.conf bash -c 'exec 5<>disk.qcow2 6<>other.qcow2; "$@" 5>&- 6>&-; exit $?' - \
            env -u LD_PRELOAD "$IMGLOCK" status -rno COMMAND,MODE,KIND disk.qcow2 other.qcow2
        assert_success
        assert_line "qemu-nbd exclusive holder"
        assert_line --regexp "^bash inactive "
        assert_line --regexp "^bash exclusive "
        # Nobody else profits from it.
        run wrapped "${WRITES[@]}"
        assert_failure
        assert_equal "$(fingerprint disk.qcow2)" "$before"
    done
}

@test "migration: a machine moves, and takes the lock with it" {
    qemu-img create -q -f qcow2 disk.qcow2 1M
    mine
    machine source qemu 7 disk.qcow2,auto-read-only=off --
    source=$HOLDER
    machine destination ./mine.conf 8 disk.qcow2 -- -incoming unix:move
    destination=$HOLDER
    monitor_says source 7 "migrate unix:move" "migrate unix:move"
    monitor_says source 7 "info migrate" "Migration status: completed"
    writes_to disk.qcow2
    run wrapped "${WRITES[@]}"
    assert_failure
    assert_line --partial "cannot open for writing: locked exclusively by qemu-system-x86 (pid $source"
    # QEMU's own wish, after which it would only read, is what auto-read-only=off is against.
    run wrapped qemu-img info disk.qcow2
    assert_failure
    run "$IMGLOCK" handoff disk.qcow2 --to "$destination"
    assert_success
    run wrapped "${WRITES[@]}"
    assert_failure
    assert_line --partial "locked exclusively by qemu-system-x86 (pid $destination"
    kill "$source"
    wait "$source" || true
    for name in disk.qcow2 link.qcow2; do
        [ -e "$name" ] || ln disk.qcow2 "$name"
        writes_to "$name"
        run "$IMGLOCK" -n --config qemu "${WRITES[@]}"
        assert_equal "$name: $status" "$name: 1"
    done
    kill "$destination"
    wait "$destination" || true
    run wrapped "${WRITES[@]}"
    assert_success
}

@test "emulators: a second one is refused cleanly, and the image cannot be replaced meanwhile" {
    truncate -s 1M disk.img
    hold disk.img
    for reader in $(readers); do
        before=$(fingerprint disk.img)
        run under "$reader" emulators mkfs.ext4 -q -F disk.img
        assert_failure
        assert_output --partial "Text file busy"
        touch other
        run under "$reader" emulators mv -f other disk.img
        assert_failure
        assert_output --partial "imglock: $PWD/disk.img: cannot rename: locked exclusively by holder"
        assert_equal "$(fingerprint disk.img)" "$before"
    done
}

@test "scripts: a step waits for the image" {
    truncate -s 1M disk.img
    for reader in $(readers); do
        hold disk.img
        under "$reader" scripts "$HELPERS/cli_open" disk.img >waiter.out 2>&1 3>&- &
        waiter=$!
        HOLDERS+=("$waiter")
        wait_for_waiter "$waiter"
        release
        wait "$waiter"
        run cat waiter.out
        assert_output opened
    done
}

@test "audit: nothing is refused, and what would have been is told" {
    for reader in $(readers); do
        qemu-img create -q -f qcow2 disk.qcow2 1M
        hold disk.qcow2
        writes_to disk.qcow2
        run under "$reader" audit "${WRITES[@]}"
        assert_success
        assert_line --partial "imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder"
        run under "$reader" audit rm disk.qcow2
        assert_success
        assert_output --partial "cannot delete: locked exclusively by holder"
        assert [ ! -e disk.qcow2 ]
        release
        qemu-img create -q -f qcow2 disk.qcow2 1M
        IMGLOCK_DIR=/no/such/directory run under "$reader" audit qemu-img info disk.qcow2
        assert_success
        assert_output --partial "No such file"
    done
}

@test "audit: with a log of events, which can be reported" {
    qemu-img create -q -f raw disk.img 1M
    hold disk.img
    writes_to disk.img
    run "$IMGLOCK" --config audit --audit "$PWD/log.jsonl" "${WRITES[@]}"
    assert_success
    assert_line --partial "cannot open for writing: locked exclusively by holder"
    run -1 "$IMGLOCK" report log.jsonl
    assert_output --partial "Let through, would have been refused"
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
    assert_output "imglock: there is no preset settings in $(realpath "$(dirname "$IMGLOCK")/../config"), which has: audit, emulators, migration, qemu, scripts, shared-storage, strict; a file of your own is ./settings"
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

@test "emulators, audit and qemu: the firmware of an emulator is no image" {
    qemu-img create -q -f raw disk.img 1M
    for preset in emulators audit qemu; do
        run "$IMGLOCK" --config "$preset" --audit "$PWD/$preset.jsonl" qemu-system-x86_64 -accel tcg -m 16 -nodefaults \
            -display none -S -device virtio-blk,drive=d -drive if=none,id=d,file=disk.img,format=raw -monitor stdio < <(echo quit)
        grep -q "disk.img" "$preset.jsonl"
        run grep -E '/usr/share/' "$preset.jsonl"
        assert_output ""
    done
}
