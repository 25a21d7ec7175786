#!/bin/bash
# qemu-img-script.sh: a nightly job around qemu-img that must not meet a running machine, nor itself.  Three lines of it are about
# imglock.  Needs qemu-utils.
set -eu
here=$(dirname "$(realpath "$0")")
[ ! -x "$here/../build/imglock" ] || PATH=$here/../build:$PATH

# 1. The script wraps itself: from here on every command in it takes locks, and waits up to a minute for them.
[ "${WRAPPED-}" ] || WRAPPED=1 exec imglock --config scripts -w 60 -- bash "$0" "$@"

folder=$(mktemp -d)
machine=
trap '[ -z "$machine" ] || kill "$machine" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
qemu-img create -q -f qcow2 disk.qcow2 64M
qemu-io -f qcow2 -c 'write -q -P 7 0 1M' disk.qcow2

# 2. One lock around several commands: nobody changes the image between them.  The commands inside are let past it, since
# imglock hold started them.
imglock hold disk.qcow2 -- bash -eu -c '
    qemu-img convert -O qcow2 disk.qcow2 backup.qcow2
    qemu-img check -q backup.qcow2
    qemu-img compare disk.qcow2 backup.qcow2
'

# 3. Where waiting makes no sense, the job says so for one command and goes on without it.
mkfifo ready
qemu-io -f qcow2 disk.qcow2 < <(echo length; cat ready) >answer &
machine=$!
until [ -s answer ]; do sleep 0.05; done
if IMGLOCK_WAIT=0 qemu-img convert -O qcow2 disk.qcow2 second.qcow2 2>&1; then
    echo "this must not happen: the image was in use"
    exit 1
fi
echo "the machine is running; tonight's second backup is skipped"
echo quit >ready
wait "$machine"
machine=
qemu-img convert -O qcow2 disk.qcow2 second.qcow2
echo "the machine has ended; the second backup is made"
