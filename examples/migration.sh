#!/bin/bash
# migration.sh: a machine moves from one QEMU to another while both have its image open.  The lock goes with it, and nobody else
# gets the image at any moment.
set -eu
here=$(dirname "$(realpath "$0")")
[ ! -x "$here/../build/imglock" ] || PATH=$here/../build:$PATH
folder=$(mktemp -d)
source='' target=''
cleanup() {
    # shellcheck disable=SC2086 # none, one or two
    kill $source $target 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"

say() { printf '\n%s\n' "$*"; }
show() {
    printf '$ %s\n' "$*"
    "$@" 2>&1 || printf '(exit status %s)\n' "$?"
}

# monitor SOCKET COMMAND...: gives a machine commands, each in JSON, and prints the status that the last one answers with.
monitor() {
    python3 - "$@" <<'END'
import json, socket, sys, time
connection = socket.socket(socket.AF_UNIX)
for _ in range(500):
    try:
        connection.connect(sys.argv[1])
        break
    except OSError:
        time.sleep(0.02)
stream = connection.makefile("rw")
stream.readline()
for command in ['{"execute": "qmp_capabilities"}'] + sys.argv[2:]:
    stream.write(command + "\n")
    stream.flush()
    answer = {}
    while not answer.keys() & {"return", "error"}:
        answer = json.loads(stream.readline())
    if "error" in answer:
        sys.exit(answer["error"]["desc"])
print(answer["return"].get("status", ""))
END
}

# reaches SOCKET COMMAND STATUS: waits until the machine has it.
reaches() {
    for _ in $(seq 100); do
        [ "$(monitor "$1" "{\"execute\": \"$2\"}")" != "$3" ] || return 0
        sleep 0.05
    done
    echo "the machine does not come to $3" >&2
    exit 1
}

stranger() { show imglock dd if=/dev/zero of=disk.qcow2 bs=64k count=1 conv=notrunc status=none; }

# auto-read-only=off: the source has the image for writing until it ends, and so its lock.
# shellcheck disable=SC2054 # commas of QEMU's
machine=(qemu-system-x86_64 -M pc -m 16 -accel tcg -nodefaults -display none
    -blockdev driver=file,filename=disk.qcow2,node-name=file,auto-read-only=off
    -blockdev driver=qcow2,file=file,node-name=disk -device virtio-blk-pci,drive=disk)

qemu-img create -q -f qcow2 disk.qcow2 64M

say "The source runs, and has the lock. The destination opens the image beside it as an inactive one, and waits:"
imglock "${machine[@]}" -qmp unix:source,server=on,wait=off &
source=$!
monitor source >/dev/null
IMGLOCK_RULES='*/disk.qcow2=inactive' imglock "${machine[@]}" -S -incoming unix:move -qmp unix:target,server=on,wait=off &
target=$!
# The destination leaves the image alone until it is told to go on.
monitor target '{"execute": "migrate-set-capabilities", "arguments": {"capabilities":
    [{"capability": "late-block-activate", "state": true}]}}' >/dev/null
show imglock status disk.qcow2
stranger

say "The machine moves. The source still has the lock, and a stranger is refused:"
monitor source '{"execute": "migrate", "arguments": {"uri": "unix:move"}}' >/dev/null
reaches source query-migrate completed
stranger

say "The lock is handed over. Only now does the destination go on:"
show imglock handoff disk.qcow2 --to "$target"
monitor target '{"execute": "cont"}' >/dev/null
reaches target query-status running
show imglock status disk.qcow2
stranger

say "The source ends, and the lock stays where it is:"
monitor source '{"execute": "quit"}' >/dev/null
wait "$source" || true
source=''
show imglock status disk.qcow2
stranger

say "The destination ends, and the image is free:"
monitor target '{"execute": "quit"}' >/dev/null
wait "$target" || true
target=''
stranger
