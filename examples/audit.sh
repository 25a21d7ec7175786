#!/bin/bash
# audit.sh: what a night on a busy host looks like: a virtual machine runs, a backup converts its image, and somebody's script
# formats the same image by mistake.  Nothing is refused; the report shows who met whom.  Needs qemu-utils, qemu-system-x86,
# e2fsprogs.
#
# audit.sh [DIRECTORY]: leaves night.jsonl and night.svg in DIRECTORY.  The picture in README is that of night.jsonl beside this
# script, a night of nine minutes with two machines, a backup of each, and an mkfs.
set -eu
here=$(dirname "$(realpath "$0")")
[ ! -x "$here/../build/imglock" ] || PATH=$here/../build:$PATH
result=$(realpath "${1:-.}")
# Where mkfs.ext4 is, for who is not root.
PATH=$PATH:/usr/sbin
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
rm -f "$result/night.jsonl"

qemu-img create -q -f raw web01.img 64M

# The night, as a script that knows nothing of imglock.
cat >night.sh <<'NIGHT'
mkfifo monitor
qemu-system-x86_64 -name web01 -accel tcg -m 32 -nodefaults -display none -monitor stdio -device virtio-blk,drive=d \
    -drive if=none,id=d,file=web01.img,format=raw,file.locking=off <monitor >answers &
exec 3>monitor
echo 'info block' >&3
until grep -qs web01.img answers; do sleep 0.05; done

qemu-img convert -f raw -O qcow2 web01.img backup.qcow2
mkfs.ext4 -q -F web01.img
qemu-img info -U backup.qcow2 >/dev/null

echo quit >&3
exec 3>&-
wait
NIGHT

imglock audit -o "$result/night.jsonl" -- bash night.sh
imglock report --svg -o "$result/night.svg" "$result/night.jsonl" || true
imglock report "$result/night.jsonl" && echo "no conflict" || echo "(exit status $?: there were conflicts)"
