#!/usr/bin/env bats
# settings.bats: every setting: each value it takes, and what it does with others.

# Each test runs in a subshell of its own, which is meant.
# shellcheck disable=SC2030,SC2031,SC2153

load common
load calls

setup() {
    common_setup
    new_image
}

teardown() {
    [ -z "${LOG_SOCKET-}" ] || rm -f "$LOG_SOCKET"
    common_teardown
}

# garbage VARIABLE TAKES VALUE...: each value refuses image opens with one line that names variable, value and what it
# takes; what is no image is untouched.
garbage() {
    local variable=$1 takes=$2 value before
    shift 2
    before=$(fingerprint disk.qcow2)
    for value in "$@"; do
        run env "$variable=$value" timeout -s KILL 300 env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw \
            disk.qcow2 , \
            creat disk.qcow2 , fopen w new.qcow2 , open w+creat notes.txt
        assert_line 'open: ENOLCK'
        assert_line 'creat: ENOLCK'
        assert_line 'fopen: ENOLCK'
        assert_line --regexp '^open: [0-9]+$'
        assert_equal "$(grep -a -c '^imglock: .*disk.qcow2: cannot open for writing: '"$variable=" <<<"$output")" 1
        [[ $output == *" makes no sense; it takes $takes"* ]] || fail "no '$takes' in: $output"
        assert_equal "$(fingerprint disk.qcow2)" "$before"
        [ ! -e new.qcow2 ]
    done
    # Empty is unset.
    run env "$variable=" env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2
    assert_success
    assert_silent
    # The way out.
    [ "$variable" != IMGLOCK_ON_ERROR ] || return 0
    run env IMGLOCK_ON_ERROR=allow "$variable=$1" LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2
    assert_success
}

LONG=$(printf 'x%.0s' {1..5000})

# settings [words]: the names of all settings, or a line for each that takes a word: its name and the words.
settings() {
    if [ "${1-}" = words ]; then
        "$HELPERS/settings" | awk -F '\t' '$2 { print $1, $2 }'
    else
        "$HELPERS/settings" | cut -f1
    fi
}

# accepted VARIABLE VALUE: image opens go through with it.
accepted() {
    run env "$1=$2" IMGLOCK_LOG=quiet LD_PRELOAD="$SHIM" "$HELPERS/input_call" open r disk.qcow2
    assert_output --regexp '^open: [0-9]+$'
}

@test "every setting that takes a word takes its words and no others, and says which" {
    local name words word takes
    [ "$(settings words | wc -l)" -gt 5 ]
    while read -r name words; do
        read -ra words <<<"$words"
        takes=$(printf ', %s' "${words[@]:0:${#words[@]}-1}")
        takes="${takes:2} or ${words[-1]}"
        for word in "${words[@]}"; do accepted "$name" "$word"; done
        word=${words[0]}
        garbage "$name" "$takes" "${word~}" "$word " " $word" "${word%?}" "$word$word" "$word,${words[1]}" 1 yes \
            "$word"$'\n' "$LONG"
    done < <(settings words)
}

# Of the settings that take more than a word: a value that makes sense, what the message says, and values that make none.
@test "every other setting takes what makes sense and nothing else, and says what that is" {
    local name
    while read -r name; do
        case $name in
        IMGLOCK_RULES)
            accepted "$name" '*/a*=shared:*=exclusive'
            garbage "$name" 'GLOB=MODE' '*' '*=' '=shared' '*=Shared' '*=shared:' ':*=shared' '*=shared::*=auto' \
                '*=shared ' '*=auto,*=Shared' '*=shared:x' '*=auto:*=shared' "$LONG"
            ;;
        IMGLOCK_WAIT)
            accepted "$name" 0.25
            accepted "$name" forever
            garbage "$name" 'seconds' -1 +1 1s 0x10 1e3 ' 1' '1 ' . 1. 1.. 1.2.3 Forever 'forever ' never 1,5 \
                99999999999999999999 10000000000 0.0000000001 "$LONG"
            ;;
        IMGLOCK_GUARD)
            accepted "$name" unlink,rename
            accepted "$name" none
            garbage "$name" 'none, or any of truncate,unlink,rename' Truncate truncate, ,truncate , 'truncate, unlink' \
                all none,unlink unlink,none open "$LONG"
            ;;
        IMGLOCK_DIR)
            accepted "$name" "$PWD"
            garbage "$name" 'an absolute path' relative . ./locks ' /tmp' "/$LONG" "$LONG"
            ;;
        IMGLOCK_IMAGES)
            accepted "$name" '+*/a\:'
            accepted "$name" '-*.txt:+*.disk'
            garbage "$name" '+GLOB and -GLOB' '*' + - '+*:' ':+*' '+*::-*' ' +*' '+*:x' '+:-' '+*:-' "$LONG"
            ;;
        IMGLOCK_BLOCK)
            accepted "$name" resize,write
            garbage "$name" 'any of write,truncate,resize,rename,unlink' Write write, ,write , 'write, resize' all none \
                open "$LONG"
            ;;
        IMGLOCK_LOG)
            accepted "$name" debug,/dev/null
            accepted "$name" notify,debug
            garbage "$name" 'conflicts, quiet or debug' Quiet 'quiet ' relative.log conflicts, , stderr,quiet,debug \
                stdout "$LONG"
            ;;
        IMGLOCK_AUDIT)
            accepted "$name" "$PWD/audit"
            # It lets everything through, but not with a value that makes no sense.
            garbage "$name" "a file's absolute path" audit ./audit ' /tmp/audit' "$LONG"
            ;;
        IMGLOCK_REASON)
            accepted "$name" "$LONG"
            ;;
        *) fail "no values are known here that $name takes" ;;
        esac
    done < <(comm -23 <(settings | sort) <(settings words | cut -d' ' -f1 | sort))
}

# parsed VARIABLE=VALUE...: what the settings of one word mean then, "NAME word" a line.
parsed() { env "$@" "$HELPERS/parsed"; }

@test "the first word is the default, each word means itself, and an audit has defaults of its own" {
    local name words word
    parsed >defaults
    while read -r name words; do
        name=${name#IMGLOCK_}
        assert_equal "$(grep "^$name " defaults)" "$name ${words%% *}"
        for word in $words; do
            assert_equal "$(parsed "IMGLOCK_$name=$word" | diff defaults - | sed -n 's/^> //p')" \
                "$([ "$word" = "${words%% *}" ] || echo "$name $word")"
        done
    done < <(settings words)
    run diff defaults <(parsed IMGLOCK_AUDIT=/tmp/log)
    assert_equal "$(sed -n 's/^> //p' <<<"$output")" $'ON_CONFLICT warn\nOUTSIDERS warn\nON_ERROR allow'
    run diff defaults <(parsed IMGLOCK_AUDIT=/tmp/log IMGLOCK_OUTSIDERS=deny IMGLOCK_ON_CONFLICT=deny IMGLOCK_ON_ERROR=deny)
    assert_output ""
}

@test "each field of the settings has a row, and is asked for somewhere" {
    local field fields
    # What is no setting: set-user-ID, the program's own arguments, and what made no sense.
    fields=$(sed -n '/^struct settings {/,/^};/s/^    [a-z][^;]*[ *]\([a-z_]*\);.*/\1/p' "$TOP/shim/settings.h" |
        grep -vxE 'off|sharing|bad_(variable|value|expects)')
    [ "$(wc -l <<<"$fields")" -gt 15 ] || fail "the fields cannot be read"
    for field in $fields; do
        grep -qE "^WORD\([A-Z_]+, $field," "$TOP/shim/settings.def" || grep -q "settings->$field = \|&settings->$field)" \
            "$TOP/shim/settings.c" || fail "no row and no parser gives $field"
        grep -qrE --include='*.[ch]' --exclude='settings.*' "(->|\.)$field\b" "$TOP/shim" || fail "nothing reads $field"
    done
}

@test "what each setting does is tested somewhere" {
    local name
    # Here a line "garbage" or "accepted" says only what it takes.
    for name in $(settings); do
        grep -qE "^[^#]*\b$name=[^ ]" "$TOP"/tests/*.bats || fail "no test sets $name"
    done
}

@test "README.md has the table of the settings as they are, and libimglock(7) each of them" {
    local name words
    run "$TOP/tests/settings_table.py" --check
    assert_success
    while read -r name; do
        words=$(settings words | sed -n "s/^$name //p" | sed 's/ / | /g')
        grep -qF ".It Ev $name Ns = Ns ${words:+Cm $words}" "$TOP/man/libimglock.7" ||
            fail "libimglock(7) has not: .It Ev $name Ns = Ns ${words:+Cm $words}"
    done < <(settings)
}

@test "of two values of one variable the first counts, as for getenv" {
    hold disk.qcow2 write
    # exec with a list that has it twice, which a shell cannot make.
    run /usr/bin/python3 -c 'import ctypes, os, sys
libc = ctypes.CDLL(None)
def strings(*texts):
    return (ctypes.c_char_p * (len(texts) + 1))(*(text.encode() for text in texts), None)
libc.execve(sys.argv[1].encode(), strings(*sys.argv[1:]),
            strings("LD_PRELOAD=" + os.environ["SHIM"], "IMGLOCK_DIR=" + os.environ["IMGLOCK_DIR"],
                    "IMGLOCK_ERRNO=EIO", "IMGLOCK_ERRNO=EBUSY"))' "$HELPERS/input_call" open rw disk.qcow2
    assert_line 'open: EIO'
}

@test "of several values that make no sense, one is named" {
    IMGLOCK_MODE=x IMGLOCK_WAIT=y run calls open rw disk.qcow2
    assert_line 'open: ENOLCK'
    assert_one_line ' makes no sense; it takes '
}

@test "a value of newlines and escape sequences is one harmless line" {
    IMGLOCK_MODE=$'a\nimglock: \033[31m\xff' run calls open rw disk.qcow2
    # shellcheck disable=SC1003 # backslashes
    assert_one_line 'IMGLOCK_MODE=a\nimglock: \x1b[31m\xff makes no sense'
}

@test "settings are read when the program starts; what it does to its environment later changes nothing" {
    IMGLOCK_ERRNO=EBUSY hold disk.qcow2 write
    IMGLOCK_ERRNO=EBUSY run wrapped /usr/bin/python3 -c 'import os
os.environ.clear()
os.environ["IMGLOCK_ERRNO"] = "EIO"
try:
    open("disk.qcow2", "rb")
except OSError as error:
    print(error.errno)'
    assert_line 16
}

# ---- IMGLOCK_MODE, IMGLOCK_RULES -------------------------------------------------------------------------------------

# locked_as FLAGS EXPECTED [IMAGE]: an open with these flags locks the image so.
locked_as() {
    begin open "$1" "${3:-disk.qcow2}" , step
    assert_equal "$(cat "$STEPS")" 'open: 3'
    if [ "$2" = none ]; then
        [ ! -e "$(lock_file "${3:-disk.qcow2}")" ] || assert_locks "${3:-disk.qcow2}" none
    else
        assert_locks "${3:-disk.qcow2}" "$2"
    fi
    next_step
}

@test "IMGLOCK_MODE: auto, shared, exclusive, nolock" {
    unset IMGLOCK_MODE
    locked_as r read
    locked_as rw write
    export IMGLOCK_MODE
    IMGLOCK_MODE=auto
    locked_as r read
    locked_as rw write
    locked_as w write
    IMGLOCK_MODE=shared
    locked_as r read
    locked_as rw read
    IMGLOCK_MODE=exclusive
    locked_as r write
    locked_as rw write
    IMGLOCK_MODE=nolock
    locked_as r none
    locked_as rw none
    hold disk.qcow2 write
    run calls open rw disk.qcow2
    assert_success
}

@test "IMGLOCK_RULES: the first match wins, on the real path, before IMGLOCK_MODE" {
    mkdir vm iso
    new_image vm/a.qcow2 'iso/b=c.qcow2' vm/colon:d.qcow2
    ln -s vm/a.qcow2 linked.qcow2
    export IMGLOCK_MODE=nolock \
        IMGLOCK_RULES="$PWD/vm/a*=exclusive:*/vm/*=shared:*/iso/b=c.qcow2=exclusive:$PWD/vm/a.*=nolock"
    locked_as r write vm/a.qcow2
    locked_as r write linked.qcow2
    locked_as rw read vm/colon:d.qcow2
    locked_as r write 'iso/b=c.qcow2'
    locked_as rw none disk.qcow2
    IMGLOCK_RULES='*/vm/colon\:d.qcow2=exclusive:*=shared'
    locked_as r write vm/colon:d.qcow2
    locked_as rw read vm/a.qcow2
    IMGLOCK_RULES='*/[ab].qcow2=exclusive:*/dis?.qcow2=shared:*/[!x]*=auto'
    locked_as r write vm/a.qcow2
    locked_as rw read disk.qcow2
    locked_as rw write 'iso/b=c.qcow2'
    locked_as r read vm/colon:d.qcow2
    # A glob has to match the whole path.
    IMGLOCK_RULES='disk.qcow2=exclusive'
    locked_as rw none disk.qcow2
}

# ---- settings that contradict each other -----------------------------------------------------------------------------

# contradict LINE VARIABLE=VALUE...: settings that make sense alone and none together.  The library refuses image opens
# with that line and leaves other files alone, the command ends with 125 before anything runs: with the settings in the
# environment, in a file, and the mode as an option.
contradict() {
    local line=$1 before setting mode=
    shift
    before=$(fingerprint disk.qcow2)
    run env "$@" timeout -s KILL 300 env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2 , \
        open r disk.qcow2 , creat disk.qcow2 , open w+creat notes.txt
    assert_equal "$(grep -c '^open: ENOLCK$' <<<"$output")" 2
    assert_line 'creat: ENOLCK'
    assert_line --regexp '^open: [0-9]+$'
    assert_output --partial "imglock: disk.qcow2: cannot open for writing: $line"
    assert_equal "$(fingerprint disk.qcow2)" "$before"
    run env IMGLOCK_ON_ERROR=allow "$@" LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2
    assert_success
    run env "$@" "$IMGLOCK" touch ran
    assert_equal "$status: $output" "125: imglock: $line"
    for setting in "$@"; do printf "%s='%s'\n" "${setting%%=*}" "${setting#*=}"; done >both.conf
    run "$IMGLOCK" --config ./both.conf touch ran
    # A value that makes no sense alone is named with its line.
    assert_equal "$status: ${output/ .\/both.conf:1:/}" "125: imglock: $line"
    for setting in "$@"; do
        [[ $setting != IMGLOCK_MODE=* ]] || mode=${setting#*=}
    done
    if [ "$mode" ]; then
        grep -v '^IMGLOCK_MODE=' both.conf >one.conf
        run "$IMGLOCK" --config ./one.conf --mode "$mode" touch ran
        assert_equal "$status: $output" "125: imglock: $line"
        run env "$@" IMGLOCK_MODE= "$IMGLOCK" --mode "$mode" touch ran
        assert_equal "$status: $output" "125: imglock: $line"
    fi
    [ ! -e ran ]
}

# agree VARIABLE=VALUE...
agree() {
    run env "$@" LD_PRELOAD="$SHIM" "$HELPERS/input_call" open r disk.qcow2
    assert_output --regexp '^open: [0-9]+$'
    run env "$@" "$IMGLOCK" echo ran
    assert_output ran
}

@test "IMGLOCK_ON_CONFLICT=read-only and a mode in which reading is no way out contradict each other" {
    local mode why
    local -A whys=([exclusive]='in which a reader is no way out'
        [nolock]='in which nothing conflicts'
        [force-share]='in which opens for writing are refused'
        [inactive]='in which nothing conflicts')
    for mode in "${!whys[@]}"; do
        why="deny or warn with IMGLOCK_MODE=$mode, ${whys[$mode]}"
        contradict "IMGLOCK_ON_CONFLICT=read-only makes no sense; it takes $why" IMGLOCK_ON_CONFLICT=read-only \
            IMGLOCK_MODE="$mode"
        agree IMGLOCK_MODE="$mode" IMGLOCK_ON_CONFLICT=deny
        agree IMGLOCK_MODE="$mode" IMGLOCK_ON_CONFLICT=warn
        # For one image it says nothing of the others.
        agree IMGLOCK_RULES="*/disk.qcow2=$mode" IMGLOCK_ON_CONFLICT=read-only
    done
    agree IMGLOCK_MODE=auto IMGLOCK_ON_CONFLICT=read-only
    agree IMGLOCK_MODE=shared IMGLOCK_ON_CONFLICT=read-only
    run env IMGLOCK_ON_CONFLICT=read-only "$IMGLOCK" -x touch ran
    assert_equal "$status" 125
    [ ! -e ran ]
}

@test "IMGLOCK_BLOCK and a mode that holds nothing contradict each other" {
    local mode
    for mode in nolock force-share inactive; do
        contradict "IMGLOCK_BLOCK=resize makes no sense; it takes no value with IMGLOCK_MODE=$mode: only a holder\
 blocks operations" IMGLOCK_BLOCK=resize IMGLOCK_MODE="$mode"
    done
    for mode in auto shared exclusive; do agree IMGLOCK_MODE="$mode" IMGLOCK_BLOCK=resize; done
}

@test "IMGLOCK_RULES with two modes for one GLOB contradicts itself" {
    local rules takes='GLOB=MODE[:GLOB=MODE...], no GLOB with two modes, MODE being auto, shared, exclusive, nolock,'
    takes+=' force-share or inactive'
    for rules in '*=shared:*=exclusive' '*.img=auto:/srv/*=shared:*.img=nolock' 'a\:b=auto:a\:b=shared' \
        'a=b=auto:*=auto:a=b=shared' '*=auto:*=auto:*=shared'; do
        contradict "IMGLOCK_RULES=${rules//\\/\\\\} makes no sense; it takes $takes" IMGLOCK_RULES="$rules"
    done
    agree IMGLOCK_RULES='*=shared:*=shared'
    agree IMGLOCK_RULES='*.img=auto:*.im=shared:*.img2=exclusive:.img=nolock'
    agree IMGLOCK_RULES='a=b=auto:a=shared'
}

# ---- IMGLOCK_IMAGES, IMGLOCK_MAGIC -----------------------------------------------------------------------------------

@test "IMGLOCK_IMAGES: + adds, - takes away, the last match wins" {
    seq 1000 >plain.txt
    new_image known-by-content
    locked_as rw none plain.txt
    export IMGLOCK_IMAGES='+*.txt'
    locked_as rw write plain.txt
    locked_as r read plain.txt
    locked_as rw write disk.qcow2
    IMGLOCK_IMAGES='-*.qcow2:-*content'
    locked_as rw none disk.qcow2
    locked_as rw none known-by-content
    IMGLOCK_IMAGES="-*:+$PWD/*.qcow2"
    locked_as rw write disk.qcow2
    locked_as rw none known-by-content
    IMGLOCK_IMAGES="+$PWD/*:-*.qcow2:-*.txt:+*plain*"
    locked_as rw none disk.qcow2
    locked_as rw write plain.txt
    locked_as r read known-by-content
    IMGLOCK_IMAGES='+*/with\:colon'
    seq 1000 >with:colon
    locked_as rw write with:colon
    locked_as rw none plain.txt
    # One that is created, too, and before it is.
    IMGLOCK_IMAGES='+*.txt:-*.qcow2'
    locked_as rw+creat write new.txt
    locked_as rw+creat none new.qcow2
    hold_by_script "$(lock_file other.txt)" F_OFD_SETLK F_WRLCK 0 2
    run calls creat other.txt , fopen w other.txt , open w+creat+excl other.txt
    assert_equal "$(grep -c ': ETXTBSY$' <<<"$output")" 3
    [ ! -e other.txt ]
}

@test "IMGLOCK_MAGIC: off leaves it to the names" {
    new_image known-by-content
    export IMGLOCK_MAGIC=on
    locked_as rw write known-by-content
    rm "$(lock_file known-by-content)"
    IMGLOCK_MAGIC=off
    locked_as rw none known-by-content
    locked_as r none known-by-content
    locked_as rw write disk.qcow2
    export IMGLOCK_IMAGES='+*.other'
    locked_as rw none known-by-content
    locked_as r none known-by-content
    run calls fopen r+ known-by-content , fopen w known-by-content
    assert_success
    assert_equal "$(the_lock_files)" "$(printf '%s\n' "$(sha1_name "$PWD/disk.qcow2")" | sort)"
    IMGLOCK_IMAGES='+*known*'
    locked_as rw write known-by-content
}

# ---- what a refusal is -----------------------------------------------------------------------------------------------

@test "IMGLOCK_ERRNO: each value" {
    hold disk.qcow2 write
    local name
    for name in ETXTBSY EBUSY EAGAIN EACCES EPERM EROFS EIO ENOLCK EDEADLK ENXIO; do
        IMGLOCK_ERRNO=$name run calls open rw disk.qcow2 , fopen w disk.qcow2
        assert_line "open: $name"
        assert_line "fopen: $name"
    done
    run calls open rw disk.qcow2
    assert_line 'open: ETXTBSY'
}

@test "IMGLOCK_ON_CONFLICT: deny refuses, warn says so and lets through" {
    hold disk.qcow2 write
    IMGLOCK_ON_CONFLICT=deny run calls open rw disk.qcow2
    assert_line 'open: ETXTBSY'
    IMGLOCK_ON_CONFLICT=warn run calls open rw disk.qcow2
    assert_success
    assert_one_line "locked exclusively by holder (pid $HOLDER"
    IMGLOCK_ON_CONFLICT=warn run calls rename disk.qcow2 moved
    assert_success
    assert_one_line 'cannot rename'
}

@test "IMGLOCK_FAMILY: a helper is let past its ancestor, unless off" {
    run calls open rw+cloexec disk.qcow2 , fork , exec , open rw disk.qcow2
    assert_success
    assert_silent
    export IMGLOCK_FAMILY=off
    run calls open rw+cloexec disk.qcow2 , fork , exec , open rw disk.qcow2
    assert_failure
    assert_one_line 'cannot open for writing: locked exclusively by input_call'
}

# ---- IMGLOCK_DIR -----------------------------------------------------------------------------------------------------

@test "IMGLOCK_DIR: blanks, slashes at the end, /var/tmp by default" {
    mkdir -m 1777 'a dir'
    IMGLOCK_DIR=$PWD/'a dir'// run calls open rw disk.qcow2
    assert_success
    assert_equal "$(ls -A 'a dir')" "$(sha1_name "$PWD/disk.qcow2")"
    run env -u IMGLOCK_DIR LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.qcow2
    assert_success
    [ -f "/var/tmp/$(sha1_name "$PWD/disk.qcow2")" ]
    rm "/var/tmp/$(sha1_name "$PWD/disk.qcow2")"
}

# ---- IMGLOCK_LOG -----------------------------------------------------------------------------------------------------

@test "IMGLOCK_LOG: conflicts, quiet, debug, stderr" {
    hold disk.qcow2 write
    local value
    for value in conflicts stderr debug debug,stderr stderr,conflicts; do
        IMGLOCK_LOG=$value run calls open rw disk.qcow2
        assert_line 'open: ETXTBSY'
        assert_line --regexp "^imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder"
    done
    for value in quiet quiet,stderr stderr,quiet; do
        IMGLOCK_LOG=$value run calls open rw disk.qcow2
        assert_output 'open: ETXTBSY'
    done
    # A setting that makes no sense is not heard of either, and refuses.
    IMGLOCK_LOG=quiet IMGLOCK_MODE=x run calls open rw disk.qcow2
    assert_output 'open: ENOLCK'
}

@test "IMGLOCK_LOG: a file, to which lines are added" {
    hold disk.qcow2 write
    echo before >'a, log'
    IMGLOCK_LOG="$PWD/a, log" run calls open rw disk.qcow2
    assert_output 'open: ETXTBSY'
    IMGLOCK_LOG="debug,$PWD/a, log" run calls open r disk.qcow2
    assert_output 'open: ETXTBSY'
    run cat 'a, log'
    assert_line --index 0 before
    assert_line --regexp \
        "^imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder .* for [0-9]+ s; 'imglock -w 60' waits for it$"
    assert_line --regexp "^imglock: $PWD/disk.qcow2: cannot open for reading: "
    # A file that cannot be had, or that makes others wait, is no reason to let an open through, nor to hang.
    mkfifo pipe
    local file
    for file in "$PWD/none/log" "$PWD" "$PWD/pipe" /dev/full; do
        IMGLOCK_LOG=$file run calls open rw disk.qcow2
        assert_output 'open: ETXTBSY'
    done
}

@test "IMGLOCK_LOG=syslog: a line for user.warning, and none is no reason to hang or to say it elsewhere" {
    hold disk.qcow2 write
    if [ ! -e /dev/log ]; then
        IMGLOCK_LOG=syslog run calls open rw disk.qcow2
        assert_output 'open: ETXTBSY'
    fi
    [ ! -e /dev/log ] && [ -w /dev ] || skip "a logger runs here"
    LOG_SOCKET=/dev/log
    mkfifo ready
    /usr/bin/python3 -c 'import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
s.settimeout(10)
print("ready", flush=True)
print(s.recv(65536).decode())' >ready 2>/dev/null 3>&- &
    local logger=$!
    HOLDERS+=("$logger")
    exec 9<ready
    read -r -u 9 line
    IMGLOCK_LOG=syslog run calls open rw disk.qcow2
    assert_output 'open: ETXTBSY'
    read -r -u 9 line
    exec 9<&-
    [[ $line == "<12>imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder "* ]]
}

# ---- stderr ----------------------------------------------------------------------------------------------------------

@test "stderr closed: the line goes nowhere, least of all into a file that got number 2" {
    new_image other.qcow2
    hold disk.qcow2 write
    echo data >notes.txt
    local file before
    for file in other.qcow2 notes.txt; do
        before=$(sha1sum <"$file")
        run bash -c 'exec 2>&-; LD_PRELOAD=$SHIM exec "$HELPERS/input_call" open rw "$1" , open rw disk.qcow2' - "$file"
        assert_line 'open: 2'
        assert_line 'open: ETXTBSY'
        assert_silent
        assert_equal "$(sha1sum <"$file")" "$before"
    done
}

@test "stderr a pipe that nobody reads: no SIGPIPE, and none left pending" {
    hold disk.qcow2 write
    run /usr/bin/python3 -c 'import os, subprocess, sys
reader, writer = os.pipe()
os.close(reader)
print(subprocess.run(sys.argv[1:], stderr=writer, env=dict(os.environ, LD_PRELOAD=os.environ["SHIM"])).returncode)' \
        "$HELPERS/input_call" open rw disk.qcow2 , open r disk.qcow2
    assert_output 'open: ETXTBSY
open: ETXTBSY
1'
}

@test "stderr full: the refusal is the same" {
    hold disk.qcow2 write
    run bash -c 'LD_PRELOAD=$SHIM exec "$HELPERS/input_call" open rw disk.qcow2 2>/dev/full'
    assert_output 'open: ETXTBSY'
}
