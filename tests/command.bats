#!/usr/bin/env bats
# imglock(1): wrapping a command, hold, path, doctor, and make install.

# shellcheck disable=SC2016,SC2020,SC2030,SC2031,SC2153,SC2154,SC2209 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
}

teardown() {
    umount "$BATS_TEST_TMPDIR/mounted" 2>/dev/null || true
    common_teardown
}

# failed_125 TEXT ARGUMENT...: imglock with these arguments fails with status 125 and a line that has the text.
failed_125() {
    local text=$1
    shift
    run "$IMGLOCK" "$@"
    assert_equal "$status" 125
    assert_line --index 0 --partial "$text"
    refute_line ran
}

# background COMMAND...: starts a command that writes a line when it is ready.  BACKGROUND is its pid, READY the line.
background() {
    local ready=$BATS_TEST_TMPDIR/background.$RANDOM.$RANDOM
    mkfifo "$ready"
    "$@" >"$ready" 2>"$BATS_TEST_TMPDIR/background.err" 3>&- </dev/null &
    BACKGROUND=$!
    HOLDERS+=("$BACKGROUND")
    READY=
    read -r READY <"$ready" || true
    rm -f "$ready"
    [ -n "$READY" ] || fail "not ready: $(cat "$BATS_TEST_TMPDIR/background.err")"
}

# is_locked IMAGE / is_free IMAGE: would another program get the image for writing?
is_locked() {
    run wrapped "$HELPERS/cli_open" "$1"
    assert_failure
    assert_output --partial "cannot open for writing: locked"
}
is_free() {
    run wrapped "$HELPERS/cli_open" "$1"
    assert_success
    assert_output opened
}

# gate_is_held IMAGE: does a writer wait for its lock, that is, hold byte 2 of the lock file?
gate_is_held() {
    grep -q "OFDLCK.*WRITE.*:$(stat -c %i "$(lock_file "$1")") 2 2$" /proc/locks
}

gone() {
    [ ! -e "/proc/$1" ]
}

# ---- wrapping a command ----------------------------------------------------------------------------------------------

@test "a wrapped command locks the image it opens, and a second one is refused" {
    hold disk.img
    run "$IMGLOCK" "$HELPERS/cli_open" disk.img
    assert_equal "$status" 1
    assert_output --partial "imglock: $PWD/disk.img: cannot open for writing: locked exclusively by holder (pid $HOLDER"
    release
    background "$IMGLOCK" "$HELPERS/holder" write disk.img
    is_locked disk.img
    kill "$BACKGROUND"
    wait "$BACKGROUND" || true
    is_free disk.img
}

@test "the command has imglock's pid, since imglock does not fork" {
    run sh -c 'echo $$; exec "$0" sh -c "echo \$\$"' "$IMGLOCK"
    assert_success
    assert_equal "${lines[0]}" "${lines[1]}"
}

@test "no process is made on the way: a limit of none for the user does not matter" {
    needs_root
    run setpriv --reuid=4294901 --regid=4294901 --clear-groups bash -c 'ulimit -u 1; exec "$0" "$1"' "$IMGLOCK" "$HELPERS/cli_open"
    assert_success
    assert_output ran
}

@test "the exit status is the command's" {
    for status_wanted in 0 1 7 124 125 255; do
        run "$IMGLOCK" sh -c "exit $status_wanted"
        assert_equal "$status" "$status_wanted"
    done
    run "$IMGLOCK" sh -c 'kill -9 $$'
    assert_equal "$status" 137
}

@test "standard input, arguments, environment and open descriptors reach the command as they are" {
    run env VALUE=kept sh -c 'echo input | "$0" sh -c "cat; echo \"\$VALUE|\$1|\$2\" >&7" name "" "a  b" 7>&1' "$IMGLOCK"
    assert_output $'input\nkept||a  b'
}

@test "options end at the first word that is none, and at --" {
    run "$IMGLOCK" -s printf '%s ' -x --mode
    assert_output -- '-x --mode '
    run "$IMGLOCK" -- printf '%s ' -x
    assert_output -- '-x '
}

@test "options become settings" {
    while IFS='|' read -r options variable value; do
        # shellcheck disable=SC2086 # words
        run "$IMGLOCK" $options printenv "$variable"
        assert_equal "$options: $output" "$options: $value"
    done <<'END'
-s|IMGLOCK_MODE|shared
--shared|IMGLOCK_MODE|shared
-x|IMGLOCK_MODE|exclusive
--exclusive|IMGLOCK_MODE|exclusive
--mode nolock|IMGLOCK_MODE|nolock
--mode=auto|IMGLOCK_MODE|auto
-n|IMGLOCK_WAIT|0
--nonblock|IMGLOCK_WAIT|0
-w 2.5|IMGLOCK_WAIT|2.5
-wforever|IMGLOCK_WAIT|forever
--wait 3|IMGLOCK_WAIT|3
-v|IMGLOCK_LOG|debug
--verbose|IMGLOCK_LOG|debug
-sv -n|IMGLOCK_WAIT|0
-x --mode exclusive|IMGLOCK_MODE|exclusive
-n -w 0|IMGLOCK_WAIT|0
END
    IMGLOCK_MODE=exclusive run "$IMGLOCK" -s printenv IMGLOCK_MODE
    assert_output shared
    IMGLOCK_LOG=quiet run "$IMGLOCK" -v printenv IMGLOCK_LOG
    assert_output quiet
}

@test "without options the environment's settings stay, and none is added" {
    IMGLOCK_WAIT=3 run "$IMGLOCK" sh -c 'env | grep ^IMGLOCK_ | sort'
    assert_output "IMGLOCK_DIR=$IMGLOCK_DIR"$'\n'"IMGLOCK_WAIT=3"
}

@test "-s, -x and --mode do what they say to a lock" {
    background "$IMGLOCK" -s "$HELPERS/holder" write disk.img
    run "$IMGLOCK" -s "$HELPERS/cli_open" disk.img
    assert_output opened
    run "$IMGLOCK" "$HELPERS/cli_open" disk.img
    assert_failure
    run "$IMGLOCK" --mode nolock "$HELPERS/cli_open" disk.img
    assert_output opened
    truncate -s 1M other.img
    background "$IMGLOCK" -x "$HELPERS/holder" read other.img
    run "$IMGLOCK" cat other.img
    assert_failure
}

@test "-w waits until the lock is free" {
    hold disk.img
    background sh -c '{ echo started; exec "$0" -w 30 "$1" disk.img >opened; }' "$IMGLOCK" "$HELPERS/cli_open"
    eventually gate_is_held disk.img
    assert_equal "$(cat opened)" ""
    release
    wait "$BACKGROUND"
    assert_equal "$(cat opened)" opened
}

@test "-w refuses when the time is over" {
    hold disk.img
    before=${EPOCHREALTIME/./}
    run "$IMGLOCK" -w 0.3 "$HELPERS/cli_open" disk.img
    took=$((${EPOCHREALTIME/./} - before))
    assert_failure
    [ "$took" -ge 300000 ]
}

@test "options that contradict each other are an error" {
    failed_125 "options -s and -x contradict each other" -s -x "$HELPERS/cli_open"
    failed_125 "options -x and --mode contradict each other" -x --mode shared "$HELPERS/cli_open"
    failed_125 "options -n and -w contradict each other" -n -w 3 "$HELPERS/cli_open"
    failed_125 "option -w is given twice" -w 2 -w 3 "$HELPERS/cli_open"
    failed_125 "option --mode is given twice" --mode auto --mode shared "$HELPERS/cli_open"
    failed_125 "option --mode needs a value" --mode '' "$HELPERS/cli_open"
    failed_125 "option -w needs a value" -w '' "$HELPERS/cli_open"
}

@test "unknown options and missing words are an error, with a pointer to --help" {
    failed_125 "unrecognized option '--nonsense'" --nonsense "$HELPERS/cli_open"
    assert_line --partial "Try 'imglock --help'"
    failed_125 "invalid option -- 'q'" -q "$HELPERS/cli_open"
    failed_125 "option requires an argument" -w
    failed_125 "no command given"
    failed_125 "no command given" -s
    failed_125 "no command given" --
}

@test "a setting that makes no sense is refused before anything runs, each with its own line" {
    IMGLOCK_GUARD=everything IMGLOCK_KEY=name failed_125 "makes no sense" "$HELPERS/cli_open"
    assert_line "imglock: IMGLOCK_GUARD=everything makes no sense; it takes none, or any of truncate,unlink,rename"
    assert_line "imglock: IMGLOCK_KEY=name makes no sense; it takes path or inode"
    IMGLOCK_WAIT=soon failed_125 "IMGLOCK_WAIT=soon makes no sense; it takes seconds" "$HELPERS/cli_open"
    # An option is named as it was typed.
    failed_125 "imglock: -w '-1' makes no sense; it takes seconds" -w -1 "$HELPERS/cli_open"
    failed_125 "imglock: --mode 'rw' makes no sense; it takes auto" --mode rw "$HELPERS/cli_open"
    IMGLOCK_WAIT=soon run "$IMGLOCK" -w 1 "$HELPERS/cli_open" disk.img
    assert_output opened
    IMGLOCK_DIR=relative failed_125 "IMGLOCK_DIR=relative makes no sense" "$HELPERS/cli_open"
    IMGLOCK_BLOCK=read failed_125 "IMGLOCK_BLOCK=read makes no sense" "$HELPERS/cli_open"
}

@test "what imglock says stays on one line and drives no terminal" {
    IMGLOCK_MODE=$'x\n\033[31mimglock: y' run "$IMGLOCK" "$HELPERS/cli_open"
    assert_equal "${#lines[@]}" 1
    assert_output --partial 'IMGLOCK_MODE=x\n\x1b[31mimglock: y makes no sense'
}

@test "--help and --version go to standard output" {
    for option in -h --help; do
        run --separate-stderr "$IMGLOCK" "$option"
        assert_success
        assert_line --index 0 "Usage:"
        assert_equal "$stderr" ""
    done
    for option in -V --version; do
        run --separate-stderr "$IMGLOCK" "$option"
        assert_success
        assert_output --regexp '^imglock [0-9]+\.[0-9]+\.[0-9]+$'
        assert_equal "$stderr" ""
    done
    run "$IMGLOCK" -s --version
    assert_success
    for subcommand in hold path doctor; do
        run "$IMGLOCK" "$subcommand" --help
        assert_success
        assert_line --index 0 "Usage:"
    done
    run sh -c '"$0" --version >/dev/full' "$IMGLOCK"
    assert_equal "$status" 125
    assert_output "imglock: cannot write to standard output: No space left on device"
}

# in_all_three SUBCOMMAND...: what bash, zsh and fish offer as options of the subcommand.  bash gets the answer by a file, since
# it completes only at a prompt.
offered_by_bash() {
    # shellcheck disable=SC1091,SC2034 # bash-completion's own names
    (
        source "$TOP/cli/completion/imglock.bash"
        compopt() { :; }
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _imglock
        [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
    )
}
offered_by_fish() {
    PATH=$TOP/build:$PATH HOME=$PWD XDG_CONFIG_HOME=$PWD/config fish --no-config -c 'source $argv[1]; complete -C $argv[2]' \
        "$TOP/cli/completion/imglock.fish" "$1" | cut -f 1
}
offered_by_zsh() {
    PATH=$TOP/build:$PATH timeout 300 zsh -f "$TOP/tests/helpers/complete.zsh" "$TOP/cli/completion" "$1" | tr -d '\r'
}

@test "every option of every subcommand is in its help, in the manual, and in the completion of bash, zsh and fish" {
    "$IMGLOCK" __options >table
    [ "$(wc -l <table)" -ge 50 ]
    for page in imglock imglock-report; do
        groff -mdoc -Tascii -P-c -rLL=500n "$TOP/man/$page.1" | col -b
    done | grep -oE -- '(^|[[ ,])--?[A-Za-z0-9][a-z-]*' | tr -d '[ ,' | sort -u >explained
    while read -r subcommand; do
        local word=${subcommand#-}
        # shellcheck disable=SC2086 # no word for the command itself
        "$IMGLOCK" $word --help | grep -oE -- '(^ *|, )--?[A-Za-z0-9][a-z-]*' | tr -d ' ,' | sort -u >helped
        awk -v name="$subcommand" '$1 == name {print $3; if ($2 != "-") print $2}' table | sort -u >listed
        # shellcheck disable=SC2086
        offered_by_bash "$IMGLOCK" $word - | grep -v = | sort -u >bash
        offered_by_zsh "imglock ${word:+$word }-" | grep -v = | sort -u >zsh
        { offered_by_fish "imglock ${word:+$word }--"; offered_by_fish "imglock ${word:+$word }-"; } | grep -v = | sort -u >fish
        for place in helped bash zsh fish; do
            run diff listed "$place"
            assert_equal "$subcommand, $place: $output" "$subcommand, $place: "
        done
        run comm -23 listed explained
        assert_equal "$subcommand, manual: $output" "$subcommand, manual: "
    done < <(cut -d ' ' -f 1 table | sort -u)
}

@test "each subcommand has a help of its own, of one screen, and imglock help SUBCOMMAND is the same" {
    for subcommand in $("$IMGLOCK" --help | sed -n '/^Subcommands/,/^$/ s/^ \([a-z]*\) .*/\1/p'); do
        run "$IMGLOCK" "$subcommand" --help
        assert_success
        assert_line --index 1 --partial " imglock $subcommand"
        local own=$output
        [ "$(wc -l <<<"$own")" -le 24 ] || fail "$subcommand: more than a screen"
        [ "$(wc -L <<<"$own")" -le 100 ] || fail "$subcommand: too wide"
        run "$IMGLOCK" help "$subcommand"
        assert_output "$own"
    done
    "$IMGLOCK" --help >all
    run "$IMGLOCK" help
    assert_output "$(cat all)"
    run "$IMGLOCK" gc --bogus
    assert_line --partial "Try 'imglock gc --help'"
}

@test "a mistyped subcommand gets a suggestion" {
    run -127 env PATH=/nonexistent "$IMGLOCK" statu
    assert_output "imglock: statu: No such file or directory; did you mean the subcommand status?"
    run -127 env PATH=/nonexistent "$IMGLOCK" stauts disk.img
    assert_output --partial "did you mean the subcommand status?"
    run -127 env PATH=/nonexistent "$IMGLOCK" something
    refute_output --partial "did you mean"
    run -125 "$IMGLOCK" help dotcor
    assert_line --index 0 "imglock: help: there is no subcommand dotcor; did you mean doctor?"
}

@test "--help, the man page and the completion name the modes that --mode takes" {
    run "$IMGLOCK" --mode bogus true
    local modes=${output##*it takes }
    assert_equal "$(wc -w <<<"$modes")" 7
    "$IMGLOCK" --help >help
    assert_equal "$(sed -n 's/^ *--mode <mode> *//p' help)" "$modes"
    assert_equal "$(groff -mdoc -Tascii -P-c -rLL=500n "$TOP/man/imglock.1" | col -b |
        sed -n 's/.*One of \(.*\); see IMGLOCK_MODE in.*/\1/p' | sed 's/ and / or /')" "$modes"
    assert_equal "$(offered_by_bash "$IMGLOCK" --mode '' | xargs)" "$(sed 's/,//g; s/ or / /' <<<"$modes")"
}

# ---- finding the command ---------------------------------------------------------------------------------------------

@test "a command that is not there: 127; that cannot be executed: 126" {
    run -127 "$IMGLOCK" no-such-command
    assert_output "imglock: no-such-command: No such file or directory"
    # An ordinary user's PATH on Debian.
    PATH=/usr/bin:/bin run -127 "$IMGLOCK" mkfs.ext4
    assert_output "imglock: mkfs.ext4: No such file or directory; it is in /usr/sbin, which is not in PATH"
    run -127 "$IMGLOCK" ./no-such-command
    assert_equal "${#lines[@]}" 1
    run -127 "$IMGLOCK" ''
    assert_output "imglock: '': No such file or directory"
    run "$IMGLOCK" ./disk.img
    assert_equal "$status" 126
    assert_output "imglock: ./disk.img: Permission denied"
    run "$IMGLOCK" .
    assert_equal "$status" 126
    run "$IMGLOCK" /etc/passwd/file
    assert_equal "$status" 126
}

@test "PATH is searched as env searches it" {
    mkdir one two three three/tool
    printf '#!/bin/sh\necho one\n' >one/tool
    printf '#!/bin/sh\necho two\n' >two/tool
    printf '#!/bin/sh\necho here\n' >tool
    chmod 644 one/tool
    chmod 755 two/tool tool
    for path in "$PWD/one:$PWD/two" "$PWD/three:$PWD/two" "$PWD/one" "$PWD/no:$PWD/two" ":$PWD/two" "$PWD/no:" "$PWD/no" \
        "$PWD/one/tool:$PWD/two" "two" ""; do
        wanted=0 got=0
        /usr/bin/env PATH="$path" tool >wanted 2>&1 || wanted=$?
        PATH=$path "$IMGLOCK" tool >got 2>&1 || got=$?
        assert_equal "$path: $got" "$path: $wanted"
        assert_equal "$path: $(sed 's/.*: //' got)" "$path: $(sed 's/.*: //' wanted)"
    done
}

# ---- LD_PRELOAD ------------------------------------------------------------------------------------------------------

@test "other libraries in LD_PRELOAD are kept, behind imglock's" {
    library=$(echo /usr/lib/*/libeatmydata.so)
    LD_PRELOAD=$library run "$IMGLOCK" printenv LD_PRELOAD
    assert_output "$SHIM:$library"
    run eatmydata "$IMGLOCK" grep -c -e libeatmydata.so -e libimglock.so /proc/self/maps
    [ "$output" -ge 8 ]
    run "$IMGLOCK" eatmydata cat /proc/self/maps
    assert_output --partial libeatmydata.so
    assert_output --partial "$SHIM"
    LD_PRELOAD=" $library:$library " run "$IMGLOCK" printenv LD_PRELOAD
    assert_output "$SHIM:$library:$library"
}

@test "nested, the library is there once" {
    run "$IMGLOCK" "$IMGLOCK" "$IMGLOCK" printenv LD_PRELOAD
    assert_output "$SHIM"
    run "$IMGLOCK" eatmydata "$IMGLOCK" printenv LD_PRELOAD
    assert_equal "$(tr ': ' '\n\n' <<<"$output" | grep -c libimglock)" 1
    assert_output --partial libeatmydata
}

@test "the library under another spelling is the same library" {
    ln -s "$SHIM" other-name.so
    ln "$SHIM" hard-link.so 2>/dev/null || ln -s "$SHIM" hard-link.so
    for spelling in ./other-name.so "$PWD/other-name.so" "$PWD/hard-link.so" "${SHIM%/*}/../build/libimglock.so" \
        "${SHIM%/*}//libimglock.so"; do
        LD_PRELOAD=$spelling run "$IMGLOCK" printenv LD_PRELOAD
        assert_equal "$spelling: $output" "$spelling: $SHIM"
    done
}

@test "nested, the inner command's images are locked, and not against the outer" {
    background "$IMGLOCK" "$IMGLOCK" "$HELPERS/holder" write disk.img
    is_locked disk.img
}

# ---- the library -----------------------------------------------------------------------------------------------------

# not_run_with LIBRARY TEXT [COMMAND...]: with this library the command is not run.
not_run_with() {
    local library=$1 text=$2
    shift 2
    IMGLOCK_LIBRARY=$library run "$@" "$IMGLOCK" "$HELPERS/cli_open"
    assert_equal "$library: $status" "$library: 125"
    assert_output --partial "$text"
    refute_line ran
}

@test "no run without locks: a library that is not there, or not readable, or none" {
    needs_root
    not_run_with "$PWD/no.so" "no.so: the library cannot be preloaded: cannot read it: No such file or directory"
    cp "$SHIM" secret.so
    chmod 600 secret.so
    not_run_with "$PWD/secret.so" "cannot read it: Permission denied" "${NOBODY[@]}"
    echo text >text.so
    not_run_with "$PWD/text.so" "it is no ELF file"
    mkdir directory.so
    not_run_with "$PWD/directory.so" "it is no regular file"
    cp "$HELPERS/cli_static" program.so
    not_run_with "$PWD/program.so" "it is no shared library"
    cp "$SHIM" foreign.so
    printf '\267' | dd of=foreign.so bs=1 seek=18 conv=notrunc status=none
    not_run_with "$PWD/foreign.so" "it is for another architecture"
}

@test "no run without locks: a library on a file system that is mounted noexec" {
    mkdir mounted
    mount -t tmpfs -o noexec,mode=755 tmpfs mounted || skip "mount is not allowed here"
    cp "$SHIM" mounted/
    not_run_with "$PWD/mounted/libimglock.so" "its file system is mounted noexec"
}

@test "no run without locks: what only the dynamic loader can tell" {
    echo 'void missing_dependency(void) {}' >dependency.c
    echo 'void missing_dependency(void); void f(void) { missing_dependency(); }' >library.c
    gcc -shared -fPIC -o libdependency.so dependency.c
    gcc -shared -fPIC -o needs.so library.c -L. -ldependency
    rm libdependency.so
    not_run_with "$PWD/needs.so" "libdependency.so: cannot open shared object file: No such file or directory"
    echo 'void not_anywhere(void); void f(void) { not_anywhere(); }' >library.c
    gcc -shared -fPIC -o undefined.so library.c
    not_run_with "$PWD/undefined.so" "undefined symbol: not_anywhere"
    for size in 64 1000 4096 100000; do
        head -c "$size" "$SHIM" >cut.so
        not_run_with "$PWD/cut.so" "the library cannot be preloaded: "
    done
    not_run_with "$(echo /usr/lib/*/libeatmydata.so)" "it is not imglock's"
}

@test "a library path with a blank or a colon is refused with the reason" {
    for name in 'with blank' 'with:colon'; do
        mkdir "$name"
        cp "$SHIM" "$name/libimglock.so"
        not_run_with "$PWD/$name/libimglock.so" "the dynamic loader splits LD_PRELOAD at blanks and colons"
        ln -s "$PWD/$name" "link${#name}"
        IMGLOCK_LIBRARY=$PWD/link${#name}/libimglock.so run "$IMGLOCK" "$HELPERS/cli_open"
        assert_output ran
    done
}

@test "IMGLOCK_LIBRARY by a relative path still counts after a change of directory" {
    cp "$SHIM" own.so
    IMGLOCK_LIBRARY=own.so run "$IMGLOCK" sh -c 'cd /; "$0" printenv LD_PRELOAD' "$IMGLOCK"
    assert_output "$PWD/own.so"
}

@test "an image that arrives by inheritance is locked, through imglock" {
    background bash -c 'exec 9<>disk.img; exec "$0" sh -c "echo ready; exec sleep 1000"' "$IMGLOCK"
    is_locked disk.img
    kill "$BACKGROUND"
    wait "$BACKGROUND" || true
    is_free disk.img
    hold disk.img
    run bash -c 'exec 9<>disk.img; exec "$0" "$1"' "$IMGLOCK" "$HELPERS/cli_open"
    assert_equal "$status" 125
    assert_output --partial "locked exclusively by holder"
}

# ---- subcommands -----------------------------------------------------------------------------------------------------

@test "a subcommand after options is an error, and a program of that name is run after --" {
    mkdir bin
    while read -r name; do
        printf '#!/bin/sh\necho ran\n' >"bin/$name"
        chmod 755 "bin/$name"
        PATH=$PWD/bin:$PATH failed_125 "'$name' after options is neither the subcommand" -s "$name"
        PATH=$PWD/bin:$PATH run "$IMGLOCK" -- "$name"
        assert_output ran
    done < <("$IMGLOCK" --help | sed -n '/^Subcommands/,/^$/ s/^ \([a-z]*\) .*/\1/p')
    [ "$(find bin -type f | wc -l)" -ge 11 ]
}

@test "a program called hold is run after --" {
    mkdir bin
    printf '#!/bin/sh\necho "program $*"\n' >bin/hold
    chmod 755 bin/hold
    PATH=$PWD/bin:$PATH run "$IMGLOCK" -- hold x
    assert_output "program x"
    PATH=$PWD/bin:$PATH run "$IMGLOCK" -s -- hold x
    assert_output "program x"
}

# ---- hold ------------------------------------------------------------------------------------------------------------

@test "hold: an exclusive lock around a command, and free afterwards" {
    background "$IMGLOCK" hold disk.img -- sh -c 'echo ready; exec sleep 1000'
    run wrapped "$HELPERS/cli_open" disk.img
    assert_failure
    assert_output --partial "locked exclusively by hold:sh (pid $BACKGROUND, user "
    run wrapped cat disk.img
    assert_failure
    kill "$BACKGROUND"
    wait "$BACKGROUND" || true
    is_free disk.img
}

@test "hold -s: readers go together, writers stay out" {
    background "$IMGLOCK" hold -s disk.img -- sh -c 'echo ready; exec sleep 1000'
    run wrapped sh -c 'cat disk.img | wc -c'
    assert_output 1048576
    is_locked disk.img
    run "$IMGLOCK" hold -s disk.img -- echo ran
    assert_output ran
    run "$IMGLOCK" hold -x disk.img -- echo ran
    assert_equal "$status" 1
    refute_line ran
}

@test "hold: a conflict is refused at once, with the library's line and status 1, or what -E says" {
    hold disk.img
    run "$IMGLOCK" hold disk.img -- echo ran
    assert_equal "$status" 1
    assert_output --partial "imglock: $PWD/disk.img: cannot hold exclusively: locked exclusively by holder (pid $HOLDER, user "
    assert_equal "${#lines[@]}" 1
    "$IMGLOCK" hold disk.img -- echo ran 2>errors >/dev/null || true
    read -r line <errors
    # "for 0 s", which the next look may say otherwise, stands before the advice.
    assert_equal "${line/ for [0-9]* s;/;}" "${output/ for [0-9]* s;/;}"
    run "$IMGLOCK" hold -s -E 75 disk.img -- echo ran
    assert_equal "$status" 75
    assert_output --partial "cannot hold shared: locked exclusively by holder"
    run "$IMGLOCK" hold --conflict-exit-code=0 disk.img -- echo ran
    assert_equal "$status" 0
    refute_line ran
}

@test "hold -w waits for the lock, and no longer than that" {
    hold disk.img
    before=${EPOCHREALTIME/./}
    run "$IMGLOCK" hold -w 0.3 disk.img -- echo ran
    took=$((${EPOCHREALTIME/./} - before))
    assert_equal "$status" 1
    [ "$took" -ge 300000 ]
    [ "$took" -lt $((2000000 + 1000 * $(late))) ]
    "$IMGLOCK" hold -w 200 disk.img -- echo ran >result 2>&1 3>&- &
    waiter=$!
    HOLDERS+=("$waiter")
    eventually gate_is_held disk.img
    release
    wait "$waiter"
    assert_equal "$(cat result)" ran
}

# hold_on_terminal ARGUMENT...: imglock hold, standard error being a terminal.  Prints what comes there.
hold_on_terminal() {
    python3 - "$IMGLOCK" hold "$@" <<'SCRIPT'
import os, pty, subprocess, sys
master, slave = pty.openpty()
hold = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=slave)
os.close(slave)
said = b""
try:
    while more := os.read(master, 4096):
        said += more
except OSError:
    pass
print(said.decode().replace("\r", ""), end="")
sys.exit(hold.wait())
SCRIPT
}

@test "hold -w: on a terminal, and with IMGLOCK_LOG=debug, it says after a second whom it waits for, once" {
    hold disk.img
    run hold_on_terminal -w 1.7 disk.img -- echo ran
    assert_equal "$status" 1
    assert_equal "${#lines[@]}" 2
    assert_line --index 0 --partial "imglock: $PWD/disk.img: waiting; locked exclusively by holder (pid $HOLDER, user "
    assert_line --index 1 --partial "imglock: $PWD/disk.img: cannot hold exclusively: locked exclusively by holder (pid $HOLDER, user "
    run hold_on_terminal -w 0.5 disk.img -- echo ran
    assert_equal "${#lines[@]}" 1
    refute_output --partial waiting
    IMGLOCK_LOG=debug run "$IMGLOCK" hold -w 1.3 disk.img -- echo ran
    assert_equal "$(grep -c ': waiting; locked exclusively by holder ' <<<"$output")" 1
    run "$IMGLOCK" hold -w 1.3 disk.img -- echo ran
    assert_equal "$status" 1
    refute_output --partial waiting
}

@test "hold: records, messages and status name it by the command" {
    background "$IMGLOCK" hold disk.img -- /bin/sh -c 'echo "$$"; cat /proc/$$/comm >comm; exec sleep 1000'
    eventually [ -s comm ]
    assert_equal "$(cat "/proc/$BACKGROUND/comm") $(cat comm)" "hold:sh sh"
    grep -aq "pid=$BACKGROUND .* cmd=hold:sh " "$(lock_file disk.img)"
    assert_equal "$("$IMGLOCK" status -rn -o PID,KIND,COMMAND disk.img | head -n 1)" "$BACKGROUND holder hold:sh"
    run "$IMGLOCK" hold disk.img -- true
    assert_output --partial "locked exclusively by hold:sh (pid $BACKGROUND, user "
    # A name that is too long is cut.
    printf '#!/bin/sh\necho ready\nexec sleep 1000\n' >nightly-backup.sh
    chmod +x nightly-backup.sh
    background "$IMGLOCK" hold other.img -- ./nightly-backup.sh
    assert_equal "$(cat "/proc/$BACKGROUND/comm")" "hold:nightly-ba"
}

@test "hold: IMGLOCK_WAIT counts, options come first, and neither is left in the command's environment" {
    hold disk.img
    before=${EPOCHREALTIME/./}
    IMGLOCK_WAIT=0.3 run "$IMGLOCK" hold disk.img -- echo ran
    assert_equal "$status" 1
    assert_output --partial "locked exclusively by holder"
    [ $((${EPOCHREALTIME/./} - before)) -ge 300000 ]
    IMGLOCK_WAIT=forever run timeout 300 "$IMGLOCK" hold -n disk.img -- echo ran
    assert_equal "$status" 1
    release
    run "$IMGLOCK" hold -s -w 5 disk.img -- sh -c 'env | grep -E "^(IMGLOCK_(WAIT|MODE)|LD_PRELOAD)="'
    assert_output ""
}

@test "hold: several images, and on a conflict all are given back" {
    truncate -s 1M a.img b.img c.img
    background "$IMGLOCK" hold a.img b.img c.img -- sh -c 'echo ready; exec sleep 1000'
    for image in a b c; do is_locked $image.img; done
    kill "$BACKGROUND"
    wait "$BACKGROUND" || true
    hold b.img
    background sh -c '"$0" hold -w 30 a.img b.img c.img -- sh -c "echo ran >ran" & echo ready; wait' "$IMGLOCK"
    eventually gate_is_held b.img
    # While it waits for b, it holds neither a nor c.
    is_free a.img
    is_free c.img
    release
    wait "$BACKGROUND"
    assert_equal "$(cat ran)" ran
}

@test "hold: two that want the same images in opposite order both get them" {
    truncate -s 1M a.img b.img
    for _ in 1 2 3 4 5; do
        "$IMGLOCK" hold -w 20 a.img b.img -- sh -c 'echo 1 >>log' 3>&- &
        first=$!
        "$IMGLOCK" hold -w 20 b.img a.img -- sh -c 'echo 2 >>log' 3>&- &
        wait "$first" "$!"
    done
    assert_equal "$(wc -l <log)" 10
}

@test "hold: one image under two names is one lock" {
    ln -s disk.img link.img
    run "$IMGLOCK" hold disk.img ./disk.img link.img -- echo ran
    assert_success
    assert_output ran
    ln disk.img hard.img
    IMGLOCK_KEY=inode run "$IMGLOCK" hold disk.img hard.img -- echo ran
    assert_output ran
}

@test "hold: IMGLOCK_KEY=inode locks a hard link, too" {
    ln disk.img hard.img
    export IMGLOCK_KEY=inode
    background "$IMGLOCK" hold disk.img -- sh -c 'echo ready; exec sleep 1000'
    is_locked hard.img
}

@test "hold: the image need not exist, and is not made" {
    background "$IMGLOCK" hold new.img -- sh -c 'echo ready; exec sleep 1000'
    assert [ ! -e new.img ]
    run wrapped sh -c ': >new.img'
    assert_failure
    assert [ ! -e new.img ]
}

@test "hold: a static program runs under it" {
    run "$IMGLOCK" hold disk.img -- "$HELPERS/cli_static" disk.img
    assert_success
    assert_output opened
    background "$IMGLOCK" hold disk.img -- busybox sh -c 'echo ready; exec busybox sleep 1000'
    is_locked disk.img
}

@test "hold: the exit status is the command's, and 128 plus a signal's number" {
    for wanted in 0 3 255; do
        run "$IMGLOCK" hold disk.img -- sh -c "exit $wanted"
        assert_equal "$status" "$wanted"
    done
    run "$IMGLOCK" hold disk.img -- sh -c 'kill -9 $$'
    assert_equal "$status" 137
    run "$IMGLOCK" hold disk.img -- sh -c 'kill -TERM $$'
    assert_equal "$status" 143
    run -127 "$IMGLOCK" hold disk.img -- no-such-command
    assert_output "imglock: no-such-command: No such file or directory"
    run "$IMGLOCK" hold disk.img -- ./disk.img
    assert_equal "$status" 126
    run bash -c 'trap "" CHLD; "$0" hold disk.img -- sh -c "exit 3"' "$IMGLOCK"
    assert_equal "$status" 3
}

@test "hold: killed, it leaves the lock to its command" {
    background "$IMGLOCK" hold disk.img -- sh -c 'echo $$; exec sleep 1000'
    command=$READY
    kill -9 "$BACKGROUND"
    wait "$BACKGROUND" || true
    is_locked disk.img
    kill -9 "$command"
    eventually gone "$command"
    is_free disk.img
}

@test "hold: killed, it leaves the lock to a wrapped command, too" {
    background "$IMGLOCK" hold disk.img -- "$IMGLOCK" sh -c 'echo $$; exec sleep 1000'
    command=$READY
    kill -9 "$BACKGROUND"
    wait "$BACKGROUND" || true
    is_locked disk.img
    kill -9 "$command"
    eventually gone "$command"
    is_free disk.img
}

@test "hold: a signal to it reaches the command, whose status it returns" {
    # The command waits without a child of its own, which would have the lock a moment longer than it.
    mkfifo never
    for signal in TERM HUP INT QUIT USR1 USR2 ALRM; do
        background env --default-signal "$IMGLOCK" hold disk.img -- \
            bash -c 'trap "exit 42" '$signal'; exec 9<>never; echo ready; while :; do read -rt 60 -u 9; done'
        kill -"$signal" "$BACKGROUND"
        code=0
        wait "$BACKGROUND" || code=$?
        assert_equal "$signal: $code" "$signal: 42"
    done
}

@test "hold: a wrapped command below it may open the image, as a descendant" {
    run "$IMGLOCK" hold disk.img -- "$IMGLOCK" "$HELPERS/cli_open" disk.img
    assert_success
    assert_output opened
    run "$IMGLOCK" hold disk.img -- sh -c 'sh -c "\"\$0\" \"\$1\" disk.img; :" "$0" "$1"' "$IMGLOCK" "$HELPERS/cli_open"
    assert_output opened
    run "$IMGLOCK" hold disk.img -- "$IMGLOCK" hold disk.img -- echo ran
    assert_success
    assert_output ran
    IMGLOCK_FAMILY=off run "$IMGLOCK" hold disk.img -- "$IMGLOCK" hold disk.img -- echo ran
    assert_equal "$status" 1
    IMGLOCK_FAMILY=off run "$IMGLOCK" hold disk.img -- "$IMGLOCK" "$HELPERS/cli_open" disk.img
    assert_failure
    assert_output --partial "locked exclusively by hold:imglock (pid "
}

@test "hold: IMGLOCK_ON_CONFLICT=warn and IMGLOCK_ON_ERROR=allow let the command run, with the line" {
    hold disk.img
    truncate -s 1M other.img
    IMGLOCK_ON_CONFLICT=warn run "$IMGLOCK" hold disk.img other.img -- echo ran
    assert_success
    assert_line ran
    assert_line --partial "locked exclusively by holder"
    IMGLOCK_DIR=/no/such/directory run "$IMGLOCK" hold disk.img -- echo ran
    assert_equal "$status" 125
    assert_output --partial "the lock directory has to exist"
    refute_line ran
    IMGLOCK_DIR=/no/such/directory IMGLOCK_ON_ERROR=allow run "$IMGLOCK" hold disk.img -- echo ran
    assert_success
    assert_line ran
}

@test "hold: mistakes in its arguments" {
    failed_125 "unrecognized option '--no-such-option'" hold --no-such-option disk.img -- echo ran
    failed_125 "give the images, then --, then the command" hold
    failed_125 "give the images, then --, then the command" hold disk.img echo ran
    failed_125 "no image given before --" hold -s -- -- echo ran
    failed_125 "no command given after --" hold disk.img --
    failed_125 "options come before the images; an image of that name is ./-s" hold disk.img -s -- echo ran
    failed_125 "-E takes an exit status from 0 to 255" hold -E 256 disk.img -- echo ran
    failed_125 "-E takes an exit status from 0 to 255" hold -E 1x disk.img -- echo ran
    failed_125 "options -s and -x contradict each other" hold -s -x disk.img -- echo ran
    failed_125 "hold: -w 'soon' makes no sense; it takes seconds" hold -w soon disk.img -- echo ran
    failed_125 "it is neither a regular file nor a block device" hold / -- echo ran
    failed_125 "cannot tell its lock's path: No such file or directory" hold /no/such/disk.img -- echo ran
    failed_125 "imglock: '': cannot tell its lock's path: No such file or directory" hold "" -- echo ran
    IMGLOCK_KEY=x failed_125 "IMGLOCK_KEY=x makes no sense" hold disk.img -- echo ran
}

@test "hold: images whose names begin with a dash, after --" {
    truncate -s 1M ./-s
    run "$IMGLOCK" hold -s -- -s -- echo ran
    assert_output ran
    assert [ -e "$(lock_file ./-s)" ]
}

# ---- path ------------------------------------------------------------------------------------------------------------

@test "path: what sha1sum says, for names of all kinds" {
    mkdir directory
    for name in disk.img "with blank.img" $'new\nline.img' $'\xff\xfe.img' ./directory/../disk.img not-there.img; do
        [ "$name" = not-there.img ] || touch -- "$name"
        run "$IMGLOCK" path "$name"
        assert_success
        assert_output "$(lock_file "$name")"
    done
    ln -s disk.img link.img
    run "$IMGLOCK" path link.img
    assert_output "$(lock_file disk.img)"
    ln -s not-there.img dangling.img
    run "$IMGLOCK" path dangling.img
    assert_output "$(lock_file not-there.img)"
    run bash -c 'exec 9<disk.img; "$0" path /dev/fd/9' "$IMGLOCK"
    assert_output "$(lock_file disk.img)"
}

@test "path: is where the library's lock really is" {
    hold disk.img
    path=$("$IMGLOCK" path disk.img)
    assert [ -e "$path" ]
    # Reading /proc/locks while others lock and unlock can miss a line.
    eventually grep -q "OFDLCK.*WRITE.*:$(stat -c %i "$path") 0 1$" /proc/locks
}

@test "path: several images, one a line, or ended by NUL" {
    touch a.img b.img
    run "$IMGLOCK" path a.img b.img
    assert_output "$(lock_file a.img)"$'\n'"$(lock_file b.img)"
    for option in -0 --null; do
        assert_equal "$("$IMGLOCK" path $option a.img b.img | tr '\0' '|')" "$(lock_file a.img)|$(lock_file b.img)|"
    done
}

@test "path: with IMGLOCK_KEY=inode the second lock follows, which hard links share" {
    ln disk.img hard.img
    export IMGLOCK_KEY=inode
    run "$IMGLOCK" path disk.img
    assert_line --index 0 "$(lock_file disk.img)"
    second=${lines[1]}
    run "$IMGLOCK" path hard.img
    assert_line --index 0 "$(lock_file hard.img)"
    assert_line --index 1 "$second"
    hold disk.img
    assert [ -e "$second" ]
    run "$IMGLOCK" path not-there.img
    assert_equal "${#lines[@]}" 1
}

@test "path: what cannot be told fails, and the others are printed" {
    ln -s loop.img loop.img
    run --separate-stderr "$IMGLOCK" path /no/such/directory/disk.img disk.img loop.img
    assert_equal "$status" 1
    assert_output "$(lock_file disk.img)"
    assert_equal "${stderr_lines[0]}" "imglock: /no/such/directory/disk.img: cannot tell its lock's path: No such file or directory"
    assert_equal "${stderr_lines[1]}" "imglock: loop.img: cannot tell its lock's path: Too many levels of symbolic links"
    failed_125 "path: no image given" path
    failed_125 "unrecognized option" path --nonsense disk.img
    IMGLOCK_DIR=x failed_125 "IMGLOCK_DIR=x makes no sense" path disk.img
}

# ---- doctor ----------------------------------------------------------------------------------------------------------

@test "doctor: all is well" {
    run "$IMGLOCK" doctor qemu-img
    assert_success
    assert_line "ok       setting IMGLOCK_DIR=$IMGLOCK_DIR"
    assert_line "ok       library $SHIM: the dynamic loader loads it"
    assert_line --partial "ok       directory $IMGLOCK_DIR: exists"
    assert_line "ok       locks in $IMGLOCK_DIR: open file description locks exclude each other"
    assert_line --regexp '^ok       file system of '
    assert_line "ok       images in $PWD: have marks, which QEMU and those who know them by another name see"
    assert_line "ok       command $(command -v qemu-img): the library can be preloaded into it"
    refute_output --partial warning
    refute_output --partial problem
    assert_equal "$(ls -A "$IMGLOCK_DIR")" ""
}

@test "doctor: settings, good, bad and mistyped" {
    IMGLOCK_MODE=shared IMGLOCK_WAIT=soon IMGLOCK_MDOE=auto IMGLOCK_ABCDEFGHIJK=1 run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line "ok       setting IMGLOCK_MODE=shared"
    assert_line --partial "problem  setting IMGLOCK_WAIT=soon makes no sense; it takes seconds"
    assert_line "warning  setting IMGLOCK_MDOE: nothing reads a variable of this name; did you mean IMGLOCK_MODE?"
    assert_line "warning  setting IMGLOCK_ABCDEFGHIJK: nothing reads a variable of this name"
    IMGLOCK_MDOE=auto run "$IMGLOCK" doctor
    assert_success
}

@test "doctor: the settings it knows are the library's" {
    names=$("$HELPERS/settings" | cut -f1)
    [ "$(wc -l <<<"$names")" -gt 15 ]
    for name in $names; do
        run env "$name=" "$IMGLOCK" doctor
        refute_output --partial "nothing reads"
    done
}

@test "doctor: lock directories that are not fit" {
    needs_root
    IMGLOCK_DIR=$PWD/none run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "problem  directory $PWD/none: No such file or directory; create it"
    touch file
    IMGLOCK_DIR=$PWD/file run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "it is no directory"
    mkdir -m 777 open
    IMGLOCK_DIR=$PWD/open run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "others may delete lock files in it and so void locks; 'chmod +t' forbids it"
    mkdir -m 755 closed
    IMGLOCK_DIR=$PWD/closed run "${NOBODY[@]}" "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "this user cannot create lock files in it: Permission denied"
    IMGLOCK_DIR=/proc run "$IMGLOCK" doctor
    assert_equal "$status" 1
}

@test "doctor: a file system that is read-only, full, or without inodes" {
    mkdir mounted
    mount -t tmpfs -o size=64k,nr_inodes=3,mode=1777 tmpfs mounted || skip "mount is not allowed here"
    export IMGLOCK_DIR=$PWD/mounted
    run "$IMGLOCK" doctor
    assert_success
    touch mounted/1 mounted/2
    run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "cannot create a file in it: No space left on device"
    rm mounted/2
    dd if=/dev/zero of=mounted/1 bs=1k 2>/dev/null || true
    run "$IMGLOCK" doctor
    assert_line --partial "warning  file system of $PWD/mounted: full"
    mount -o remount,ro mounted
    run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "this user cannot create lock files in it: Read-only file system"
}

@test "doctor: commands that cannot be wrapped" {
    run "$IMGLOCK" doctor "$HELPERS/cli_static"
    assert_equal "$status" 1
    assert_line --partial "problem  command $HELPERS/cli_static: it is statically linked"
    run "$IMGLOCK" doctor no-such-command
    assert_equal "$status" 1
    assert_line --partial "problem  command no-such-command: No such file or directory"
    printf '#!/usr/bin/env sh\n' >script
    chmod 755 script
    run "$IMGLOCK" doctor ./script
    assert_success
    assert_line --partial "ok       command ./script, run by /usr/bin/env, run by it "
}

@test "doctor: a library that does not load, with the loader's own words" {
    echo 'void missing_dependency(void) {}' >dependency.c
    echo 'void missing_dependency(void); void f(void) { missing_dependency(); }' >library.c
    gcc -shared -fPIC -o libdependency.so dependency.c
    gcc -shared -fPIC -o needs.so library.c -L. -ldependency
    rm libdependency.so
    IMGLOCK_LIBRARY=$PWD/needs.so run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "problem  library $PWD/needs.so: libdependency.so: cannot open shared object file"
    IMGLOCK_LIBRARY=$PWD/none.so run "$IMGLOCK" doctor
    assert_equal "$status" 1
    assert_line --partial "problem  library $PWD/none.so: cannot read it: No such file or directory"
}

@test "doctor: colours on a terminal only, and not with NO_COLOR" {
    on_terminal() { script -qec "$*" /dev/null </dev/null; }
    TERM=xterm run on_terminal "$IMGLOCK" doctor
    assert_output --partial $'\033[32mok'
    TERM=xterm NO_COLOR=1 run on_terminal "$IMGLOCK" doctor
    refute_output --partial $'\033'
    TERM=dumb run on_terminal "$IMGLOCK" doctor
    refute_output --partial $'\033'
    TERM=xterm run "$IMGLOCK" doctor
    refute_output --partial $'\033'
}

# ---- installing ------------------------------------------------------------------------------------------------------

@test "make install and uninstall, with DESTDIR and PREFIX" {
    make -s -C "$TOP" install DESTDIR="$PWD/root" PREFIX=/usr >/dev/null
    run bash -c 'cd root && find . -type f | sort'
    assert_output "$(
        {
            cd "$TOP"
            printf './usr/%s\n' bin/imglock lib/imglock/libimglock.so lib/tmpfiles.d/imglock.conf \
                share/bash-completion/completions/imglock share/fish/vendor_completions.d/imglock.fish \
                share/zsh/vendor-completions/_imglock
            find config -type f ! -name imglock.tmpfiles.conf -printf './usr/share/imglock/%f\n'
            find examples -name '*.sh' -printf './usr/share/doc/imglock/examples/%f\n' -o -name '*.xml' \
                -printf './usr/share/doc/imglock/examples/%f\n'
            find man -name '*.1' -printf './usr/share/man/man1/%f\n' -o -name '*.7' -printf './usr/share/man/man7/%f\n'
        } | sort
    )"
    # Without IMGLOCK_LIBRARY and away from the build directory: the installed library and the installed presets.
    run root/usr/bin/imglock printenv LD_PRELOAD
    assert_output "$PWD/root/usr/lib/imglock/libimglock.so"
    run root/usr/bin/imglock --config scripts printenv IMGLOCK_WAIT
    assert_output 600
    # Through a symbolic link, too.
    ln -s "$PWD/root/usr/bin/imglock" linked
    run ./linked printenv LD_PRELOAD
    assert_output "$PWD/root/usr/lib/imglock/libimglock.so"
    # From the built one to the installed one: one library, the inner one's.
    run "$IMGLOCK" root/usr/bin/imglock printenv LD_PRELOAD
    assert_output "$PWD/root/usr/lib/imglock/libimglock.so"
    rm root/usr/lib/imglock/libimglock.so
    run root/usr/bin/imglock "$HELPERS/cli_open"
    assert_equal "$status" 125
    make -s -C "$TOP" uninstall DESTDIR="$PWD/root" PREFIX=/usr
    run find root -type f
    assert_output ""
}

@test "the completion offers subcommands, words, lists, presets, files and what a command offers itself" {
    local line
    while IFS='|' read -r line wanted; do
        # shellcheck disable=SC2086 # words
        assert_equal "bash: $line: $(offered_by_bash "$IMGLOCK" $line | sort | paste -sd " ")" "bash: $line: $wanted"
        assert_equal "zsh: $line: $(offered_by_zsh "imglock $line" | sort | paste -sd " ")" "zsh: $line: $wanted"
        assert_equal "fish: $line: $(offered_by_fish "imglock $line" | sort | paste -sd " ")" "fish: $line: $wanted"
    done <<'END'
--mode sh|shared
docto|doctor
audit --v|--version
hold --block write,re|write,rename write,resize
hold --block resize,write,re|resize,write,rename
status -o +ki|
status -o PID,STA|PID,START
--config em|emulators
help inac|inactivate
END
    assert_equal "$(offered_by_bash "$IMGLOCK" status --color = al)" always
    touch some.qcow2
    assert_equal "$(offered_by_bash "$IMGLOCK" path some)" some.qcow2
    assert_equal "$(offered_by_zsh 'imglock path some')" some.qcow2
    assert_equal "$(offered_by_fish 'imglock path some')" some.qcow2
    # What stands behind an option with an argument, and behind --, is completed as that command has it.
    for line in '-w 5 grep --line-n' '-- grep --line-n' 'hold x -- grep --line-n' 'doctor grep --line-n'; do
        assert_equal "$(offered_by_zsh "imglock $line")" --line-number
    done
}

@test "the synopsis of the man page has every line of --help's usage" {
    "$IMGLOCK" __options | cut -d ' ' -f 1 | grep -v -e - | sort -u >helped
    awk '/^\.Sh/ {on = /SYNOPSIS/} on && /^\.Cm/ {print $2}' "$TOP/man/imglock.1" | sort >explained
    [ "$(wc -l <helped)" -ge 10 ]
    run diff helped explained
    assert_output ""
}

@test "the man pages have no errors" {
    for page in "$TOP"/man/*.[1-8]; do
        run groff -ww -mdoc -Tutf8 -z "$page"
        assert_success
        assert_output ""
        # As apropos and whatis read it.
        run lexgrog "$page"
        assert_success
        assert_output --regexp "^$page: \"$(basename "${page%.*}") - .+\"$"
        # Which other pages are installed is the machine's.
        run sh -c 'mandoc -Tlint "$1" 2>&1 | grep -v -e mandoc.db -e "referenced manual not found"' sh "$page"
        assert_output ""
    done
}
