# clients.bash: what the tests of real clients share.
#
# A client runs in a directory of its own, "work", in which the test's function "prepare" has put its files.  What is
# asked of each client:
#
#   works_as_before IMAGE COMMAND...   nobody has the image: bare and wrapped the client prints the same on stdout and
#                                      stderr, ends with the same status, leaves the same files, and leaves no lock
#   refused IMAGE COMMAND...           another process has it: the client fails, one line says why, nothing in the
#                                      directory has changed; it gets in when the other has gone
#   begins COMMAND... and the rest     for clients that keep an image open while they run

bats_require_minimum_version 1.5.0

# prepare: puts the files of one client in the current directory.
prepare() { :; }

# normalise: a filter for what a client prints that really differs from run to run.
normalise() { cat; }

fresh_directory() {
    cd "$BATS_TEST_TMPDIR" || return
    rm -rf work
    mkdir work
    cd work || return
    prepare
}

# raw FILE SIZE: a raw image with something in it.
raw() {
    truncate -s "$2" "$1"
    printf 'a line of the image\n' | dd of="$1" bs=512 seek=3 conv=notrunc status=none
}

# wait_until COMMAND...: until it succeeds, whatever it prints.
wait_until() { eventually silently "$@"; }
silently() { "$@" >/dev/null 2>&1; }

# ---- locks --------------------------------------------------------------------------------------------------

# lock_state IMAGE: free, shared or exclusive.  Fails where the image never had a lock.
lock_state() { "$HELPERS/client_lock" "$(lock_file "$1")"; }

lock_is() { [ "$(lock_state "$1")" = "$2" ]; }

# assert_unlocked IMAGE: it had a lock, and nobody has it now.
assert_unlocked() { assert_equal "$(lock_state "$1")" free; }

was_locked() { [ -f "$(lock_file "$1")" ]; }

# assert_no_lock_left: of all that were ever locked in this test.
assert_no_lock_left() {
    local file
    for file in "$IMGLOCK_DIR"/.qemu-*.lock; do
        assert_equal "$(basename "$file") $("$HELPERS/client_lock" "$file")" "$(basename "$file") free"
    done
}

# second_writer IMAGE: somebody else, wrapped, who writes a sector.
second_writer() { wrapped dd if=/dev/zero of="$1" bs=512 count=1 seek=7 conv=notrunc status=none; }

# keeps_others_out IMAGE COMMAND: the client, which shows up by this name, has the image for writing.
keeps_others_out() {
    local refusal
    refusal="imglock: $(realpath "$1"): cannot open for writing: locked exclusively by $2 (pid "
    run second_writer "$1"
    assert_failure
    assert_line --index 0 --partial "$refusal"
    run wrapped cat "$1"
    assert_failure
    assert_line --index 0 --partial "imglock: $(realpath "$1"): cannot open for reading: locked exclusively by $2 (pid "
}

admits_others() {
    assert_unlocked "$1"
    run second_writer "$1"
    assert_success
    assert_output ""
}

# ---- clients that run and end -------------------------------------------------------------------------------

# observe NAME COMMAND...: runs it in a fresh directory; what it printed, its status and its files go to NAME.
observe() {
    local name=$1 status=0
    shift
    fresh_directory
    rm -rf "../${name:?}"
    mkdir "../$name"
    timeout -k 1 300 "$@" </dev/null 3>&- >../stdout 2>../stderr || status=$?
    normalise <../stdout >"../$name/stdout"
    normalise <../stderr >"../$name/stderr"
    echo "$status" >"../$name/status"
}

# Some clients end well with another status than 0: CLIENT_STATUS.  What they write may have times or random numbers in
# it: VARIES names the file.
works_as_before() {
    local image=$1
    shift
    observe bare "$@"
    mv ../work ../bare/files
    observe wrapped env LD_PRELOAD="$SHIM" "$@"
    assert_equal "$(cat ../bare/status)" "${CLIENT_STATUS:-0}"
    assert_unlocked "$image"
    assert_no_lock_left
    cd ..
    mv work wrapped/files
    run diff -r --exclude="${VARIES-}" bare wrapped
    assert_success
    cd wrapped/files || return
}

# A client that should have been refused may run for ever.
wrapped_for_a_while() { timeout -k 1 300 env LD_PRELOAD="$SHIM" "$@" </dev/null 3>&-; }

# while_held IMAGE COMMAND...: runs the client while another process has the image, which stays as it was; no file comes
# or goes, except those that match CLIENT_LEAVES.
while_held() {
    local image=$1 before after
    shift
    fresh_directory
    hold "$image" write
    before=$(fingerprint "$image" && list_files)
    run --separate-stderr wrapped_for_a_while "$@"
    after=$(fingerprint "$image" && list_files)
    release
    assert_equal "$after" "$before"
    # shellcheck disable=SC2154 # run sets it
    [ "$status" -ne 124 ] || fail "went on for fifteen seconds: $*"
    # shellcheck disable=SC2154
    assert_refusals "$image" "$stderr"
}

list_files() { find . ! -name "${CLIENT_LEAVES-}" | sort; }

# assert_refusals IMAGE TEXT: as many lines of imglock's as REFUSALS says, one by default, each about this image and the
# process that holds it.  On a busy machine a program's second try may come a second later than the first, and is told of
# again: then the line says that the image is held for longer.
assert_refusals() {
    local line count=0 later=0 real seconds before=
    real=$(realpath "$1")
    # shellcheck disable=SC2153 # hold sets HOLDER
    while read -r line; do
        if [[ $line != *imglock:* ]]; then continue; fi
        [[ $line == *"imglock: $real: cannot "*": locked exclusively by holder (pid $HOLDER, user "* ]] ||
            fail "not a refusal of $1: $line"
        count=$((count + 1))
        seconds=${line##*) for }
        seconds=${seconds%% s*}
        [ -z "$before" ] || [ "$seconds" = "$before" ] || later=$((later + 1))
        before=$seconds
    done <<<"$2"
    ((count >= ${REFUSALS:-1} && count - later <= ${REFUSALS:-1})) || fail "$count lines of imglock's in: $2"
}

refused() {
    while_held "$@"
    assert_failure
    gets_in "$@"
}

# gets_in IMAGE COMMAND...: the client that was refused gets in now.
gets_in() {
    local image=$1
    shift
    run wrapped_for_a_while "$@"
    assert_equal "$status" "${CLIENT_STATUS:-0}"
    refute_output --partial imglock:
}

# ---- clients that run until they are told to end ------------------------------------------------------------

# begins COMMAND...: the client, wrapped, in the background; says writes to its standard input.  CLIENT is its pid.
begins() {
    rm -f ../stdin
    mkfifo ../stdin
    exec 8<>../stdin
    # What an earlier one has said there is not to be waited for.
    : >../stdout
    LD_PRELOAD=$SHIM "$@" <../stdin >../stdout 2>../stderr 3>&- 8>&- &
    CLIENT=$!
    HOLDERS+=("$CLIENT")
}

says() { printf '%s\n' "$@" >&8; }

# ends STATUS: waits for its end.
ends() {
    local status=0
    wait "$CLIENT" || status=$?
    exec 8>&-
    assert_equal "$status" "$1"
}

# ---- a machine to start -------------------------------------------------------------------------------------

# boot_sector FILE [stay]: 512 bytes that any PC boots from.  They write a line to the sector behind them through the
# BIOS, say so on the first serial port and on port 0xe9, and switch the machine off, or with "stay" halt.
boot_sector() {
    as --32 --defsym STAY="$([ "${2-}" = stay ] && echo 1 || echo 0)" -o "$BATS_TEST_TMPDIR/boot.o" \
        "$BATS_TEST_DIRNAME/helpers/client_boot.s"
    ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$1" "$BATS_TEST_TMPDIR/boot.o"
}

# assert_guest_wrote IMAGE: the line is there.
assert_guest_wrote() {
    assert_equal "$(dd if="$1" bs=512 skip=1 count=1 status=none | head -n 1)" "a line from the guest"
}
