# shellcheck shell=bash
# A lock ends with the last descriptor of the image and not before, whatever opens, copies and closes; and no program
# meets the descriptors that imglock keeps for itself.
load common

setup() {
    common_setup
    truncate -s 1M disk.img
}

# descriptors CASE, private CASE: that case of the program, wrapped; it looks at the lock itself.
descriptors() {
    LOCK_FILE=$(lock_file disk.img) run helper descriptors "$1" disk.img
    assert_success
    assert_output ""
}

# bare_and_wrapped CASE: what the program prints is the same without the library and with it.
bare_and_wrapped() {
    local bare
    bare=$(timeout 300 "$HELPERS/private" "$1" disk.img)
    [ "${#bare}" -gt 10 ] || fail "the bare run says nothing"
    LOCK_FILE=$(lock_file disk.img) run helper private "$1" disk.img
    assert_success
    assert_output "$bare"
}

# private CASE: a case that is about imglock's descriptor alone.
private() {
    LOCK_FILE=$(lock_file disk.img) run helper private "$1" disk.img
    assert_success
}

@test "every way to open, with every way to close" {
    descriptors openers
}

@test "every way to copy a descriptor, with every way to close, the copy or the original first" {
    descriptors copiers
}

@test "closefrom closes what it says" {
    descriptors closefrom
}

@test "calls that fail or do nothing neither add to a lock nor end it" {
    descriptors no-effect
}

@test "the mode goes up for a second, stronger open and down when that is closed" {
    descriptors mode
}

@test "the mode stays up where a forked child may still be writing" {
    descriptors mode-after-fork
}

@test "freopen and fclose: another file, another mode, a refused mode" {
    descriptors stream
}

@test "a number that was closed behind imglock's back and has another file is no image any more" {
    descriptors reuse
}

@test "what mkstemp and its kind make is locked while it is open" {
    IMGLOCK_IMAGES="+$PWD/new*" descriptors temporary
}

@test "every opener with every closer, with what a later libc brings" {
    export NEWER=1 BEHIND=$HELPERS/newer
    descriptors openers
}

@test "every function of the families that open, copy and close is among those that are tried" {
    local name
    "$HELPERS/descriptors" list >tried
    while read -r name; do
        case $name in
        pclose) continue ;; # a pipe's end
        esac
        grep -qx "$name" tried || fail "$name is not among them"
    done < <("$HELPERS/symbols" | awk '$3 ~ /^(OPEN|TEMPORARY|COPY|CLOSE)$/ { print $2 }')
}

@test "close of 3 to 4096" {
    bare_and_wrapped close-loop
}

@test "every operation on the number of a private descriptor says what a closed number says" {
    bare_and_wrapped operations
}

@test "closefrom(3)" {
    bare_and_wrapped closefrom
}

@test "close_range with and without flags, to ~0U, with nonsense" {
    # CLOSE_RANGE_UNSHARE leaves what it closes to the process's other threads.
    [[ ${ARCHITECTURE-i386} = i386 ]] || skip "qemu-user has a thread of its own"
    bare_and_wrapped close_range
}

@test "dup2 and dup3 onto every number, one after the other" {
    bare_and_wrapped dup2-every-number
}

@test "dup2 onto every number, all of them staying open" {
    bare_and_wrapped fill-every-number
}

@test "dup2 of the image and of other files onto the private descriptor" {
    private dup2-the-number
}

@test "F_DUPFD from the private descriptor's number, and from the one below" {
    private fcntl-the-number
}

@test "the limit of open files lowered to 8 while the image is open" {
    bare_and_wrapped low-limit
}

@test "no number is left for the lock file: EMFILE, and nothing is left behind" {
    private no-number-left
    assert_output --regexp '^imglock: [^ ]*/disk.img: cannot open for writing: .*Too many open files'
}

@test "no number is left to move to: dup2 still does what it should" {
    bare_and_wrapped full
}

@test "numbers far above a thousand" {
    bare_and_wrapped far
}

@test "a limit of 1073741816 open files" {
    bare_and_wrapped huge-limit
    [[ $output != *"cannot be raised"* ]] || skip "fs.nr_open or a missing capability keeps the limit low"
}

@test "programs that close what /proc/self/fd shows see the same numbers" {
    bare_and_wrapped walkers
}

@test "the first open gives 3, the next 4" {
    bare_and_wrapped lowest
}
