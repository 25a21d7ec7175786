#!/usr/bin/env bash
# gluster.sh DIRECTORY: a GlusterFS of one brick, and a host that has it mounted, as tests/gluster.bash starts them, until
# the standard input ends.  Says "ready", the pid of that host's first process and where the mount is; or else one line that
# says why not.
set -eu

TOP=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
export BATS_FILE_TMPDIR=$1
# That one line, and nothing that the programs say.
exec 3>&1 >&2

# Both are in tests/common.bash as well, which needs bats.
fail() {
    echo "$*" >&3
    exit 1
}

eventually() {
    local end=$((SECONDS + 120))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "this did not happen: $*"
        sleep 0.1
    done
}

# shellcheck source=tests/gluster.bash
. "$TOP/tests/gluster.bash"

missing=$(missing_for_gluster)
[ -z "$missing" ] || fail "${missing%%$'\n'*}"
trap stop_gluster EXIT
start_gluster
add_host alpha 1
on alpha mkdir -m 1777 "$STORE/locks"
echo "ready $(cat "$GLUSTER/host.alpha") $STORE" >&3
read -r _ || true
