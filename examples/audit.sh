#!/bin/bash
# audit.sh: what a night on a busy host looks like: a virtual machine runs, a backup converts its image, and somebody's script
# formats the same image by mistake.  Nothing is refused; the report shows who met whom.  Needs qemu-utils, qemu-system-x86,
# e2fsprogs.
#
# audit.sh [DIRECTORY]: leaves night.jsonl and night.svg in DIRECTORY.
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

qemu-img create -q -f raw vm.img 64M

# The night, as a script that knows nothing of imglock.
cat >night.sh <<'NIGHT'
mkfifo monitor
qemu-system-x86_64 -accel tcg -m 32 -nodefaults -display none -monitor stdio -device virtio-blk,drive=d \
    -drive if=none,id=d,file=vm.img,format=raw,file.locking=off <monitor >answers &
exec 3>monitor
echo 'info block' >&3
until grep -q vm.img answers; do sleep 0.05; done

qemu-img convert -f raw -O qcow2 vm.img backup.qcow2
mkfs.ext4 -q -F vm.img
qemu-img info -U backup.qcow2 >/dev/null

echo quit >&3
exec 3>&-
wait
NIGHT

imglock audit -o "$result/night.jsonl" -- bash night.sh
imglock report --svg -o "$result/night.svg" "$result/night.jsonl" || true
imglock report "$result/night.jsonl" && echo "no conflict" || echo "(exit status $?: there were conflicts)"
