# modes.bash: for tests of modes: one open in one mode, and what another process sees of it.

# set_mode MODE: the settings that modes.table calls so.
set_mode() {
    unset IMGLOCK_MODE IMGLOCK_ON_CONFLICT
    case $1 in
    read-only | warn) export IMGLOCK_ON_CONFLICT=$1 ;;
    *) export IMGLOCK_MODE=$1 ;;
    esac
}

# opens HOW IMAGE: a process, wrapped, opens the image that way (helpers/mode_open.c) and keeps it.  Sets OPENED to what
# it says came of it and OPENER to its pid; what the library says is in the file said.  closes ends it.
opens() {
    rm -f opened
    mkfifo opened
    LD_PRELOAD=$SHIM "$HELPERS/mode_open" "$1" "$2" >opened 2>said 3>&- </dev/null &
    OPENER=$!
    HOLDERS+=("$OPENER")
    OPENED=
    # shellcheck disable=SC2034 # for the tests
    read -r OPENED <opened || true
}

closes() {
    kill "$OPENER" 2>/dev/null || true
    wait "$OPENER" || true
}

# seen IMAGE: the lock, and the mode that the opener is on record with: "exclusive exclusive", "free unseen".
seen() { "$HELPERS/mode_seen" "$(lock_file "$1")" "$OPENER"; }
