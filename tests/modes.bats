#!/usr/bin/env bats
# modes.bats: every cell of modes.table: an open, in a mode, of an image that another process has or has not.

load common
load modes

# The columns, in their order.
COLUMNS=(free shared exclusive force-share inactive nolock)

# somebody_has IMAGE COLUMN: another process has the image as the column says.
somebody_has() {
    case $2 in
    free) ;;
    shared) hold "$1" read ;;
    exclusive) hold "$1" write ;;
    force-share) IMGLOCK_MODE=force-share hold "$1" read ;;
    inactive | nolock) IMGLOCK_MODE=$2 hold "$1" write ;;
    esac
}

# stronger A B: of two locks.
stronger() {
    case "$1 $2" in
    *exclusive*) echo exclusive ;;
    *shared*) echo shared ;;
    *) echo free ;;
    esac
}

# The lock that others see where somebody has an image as a column says, or an open went as a cell says.
lock_of() {
    case $1 in
    shared | exclusive) echo "$1" ;;
    read-only) echo shared ;;
    *) echo free ;;
    esac
}

# said_once: what was said.  The same line again, where a busy machine takes more than a second for the program's next open,
# is no other.
said_once() { sed 's, for [0-9]* s,,' said | sort -u; }

# expected OPEN COLUMN CELL: what the open says, what others then see, and how many lines the library wrote.
expected() {
    local lock lines=0 result=writes record=$3
    [ "$1" != read ] || result=reads
    case $3 in
    ETXTBSY) result="refused ETXTBSY" lines=1 record=unseen ;;
    read-only) result=reads-only lines=1 record=shared ;;
    none) lines=1 ;;
    esac
    lock=$(stronger "$(lock_of "$2")" "$(lock_of "$3")")
    echo "$result; lock: $lock; record: $record; lines: $lines"
}

# unchanged IMAGE FINGERPRINT: no fingerprint for an image that is not there.
unchanged() {
    if [ "$2" ]; then [ "$(fingerprint "$1")" = "$2" ]; else [ ! -e "$1" ]; fi
}

# cell MODE OPEN COLUMN CELL: tries it, on an image of its own.
cell() {
    local image=$PWD/$3.img before='' lock record outcome wanted
    truncate -s 64K "$image"
    somebody_has "$image" "$3"
    if [ "$2" = create ]; then
        rm "$image"
    elif [ "$4" = ETXTBSY ]; then
        before=$(fingerprint "$image")
    fi
    set_mode "$1"
    opens "$2" "$image"
    read -r lock record < <(seen "$image")
    outcome="$OPENED; lock: $lock; record: $record; lines: $(said_once | grep -c "^imglock: $image: " || true)"
    [ "$4" != ETXTBSY ] || unchanged "$image" "$before" || fail "mode $1, $2, $3: refused, but changed"
    closes
    set_mode auto
    wanted=$(expected "$2" "$3" "$4")
    [ "$outcome" = "$wanted" ] || fail "mode $1, $2, $3: \"$4\" in modes.table, which is
$wanted
but it went
$outcome
$(cat said)"
    [ "$(said_once | wc -l)" -le 1 ] || fail "mode $1, $2, $3: more than one line: $(cat said)"
    if [ "$3" != free ]; then release; fi
    assert_equal "$3: $(seen "$image")" "$3: free unseen"
}

# line MODE OPEN: all cells of that line of modes.table.
line() {
    local cells i
    read -r -a cells < <(awk -v mode="$1" -v how="$2" '$1 == mode && $2 == how' "$BATS_TEST_DIRNAME/modes.table")
    assert_equal "${#cells[@]}" 8
    for i in "${!COLUMNS[@]}"; do cell "$1" "$2" "${COLUMNS[i]}" "${cells[i + 2]}"; done
}

@test "README.md and the tests below are what modes.table says" {
    run "$BATS_TEST_DIRNAME/modes_table.py" --check
    assert_success
    assert_output ""
}

# Made by modes_table.py:
@test "mode auto: read" { line auto read; }
@test "mode auto: read-write" { line auto read-write; }
@test "mode auto: write" { line auto write; }
@test "mode auto: append" { line auto append; }
@test "mode auto: truncate" { line auto truncate; }
@test "mode auto: create" { line auto create; }
@test "mode shared: read" { line shared read; }
@test "mode shared: read-write" { line shared read-write; }
@test "mode shared: write" { line shared write; }
@test "mode shared: append" { line shared append; }
@test "mode shared: truncate" { line shared truncate; }
@test "mode shared: create" { line shared create; }
@test "mode exclusive: read" { line exclusive read; }
@test "mode exclusive: read-write" { line exclusive read-write; }
@test "mode exclusive: write" { line exclusive write; }
@test "mode exclusive: append" { line exclusive append; }
@test "mode exclusive: truncate" { line exclusive truncate; }
@test "mode exclusive: create" { line exclusive create; }
@test "mode nolock: read" { line nolock read; }
@test "mode nolock: read-write" { line nolock read-write; }
@test "mode nolock: write" { line nolock write; }
@test "mode nolock: append" { line nolock append; }
@test "mode nolock: truncate" { line nolock truncate; }
@test "mode nolock: create" { line nolock create; }
@test "mode force-share: read" { line force-share read; }
@test "mode force-share: read-write" { line force-share read-write; }
@test "mode force-share: write" { line force-share write; }
@test "mode force-share: append" { line force-share append; }
@test "mode force-share: truncate" { line force-share truncate; }
@test "mode force-share: create" { line force-share create; }
@test "mode inactive: read" { line inactive read; }
@test "mode inactive: read-write" { line inactive read-write; }
@test "mode inactive: write" { line inactive write; }
@test "mode inactive: append" { line inactive append; }
@test "mode inactive: truncate" { line inactive truncate; }
@test "mode inactive: create" { line inactive create; }
@test "mode read-only: read" { line read-only read; }
@test "mode read-only: read-write" { line read-only read-write; }
@test "mode read-only: write" { line read-only write; }
@test "mode read-only: append" { line read-only append; }
@test "mode read-only: truncate" { line read-only truncate; }
@test "mode read-only: create" { line read-only create; }
@test "mode warn: read" { line warn read; }
@test "mode warn: read-write" { line warn read-write; }
@test "mode warn: write" { line warn write; }
@test "mode warn: append" { line warn append; }
@test "mode warn: truncate" { line warn truncate; }
@test "mode warn: create" { line warn create; }
# The end of what modes_table.py makes.
