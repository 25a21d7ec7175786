#!/bin/bash
# two-writers.sh: the main job on two real images.  One program holds an image, a second one wants to write to it; first as it is
# today, then under imglock.  "make run" runs this.
set -eu
here=$(dirname "$(realpath "$0")")
[ ! -x "$here/../build/imglock" ] || PATH=$here/../build:$PATH
folder=$(mktemp -d)
trap 'exec 3>&- 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

say() { printf '\n%s\n' "$*"; }
show() {
    printf '$ %s\n' "$*"
    "$@" 2>&1 || printf '(exit status %s)\n' "$?"
}

# start_holder COMMAND...: starts qemu-io on an image in the background; it holds the image until its input ends.
start_holder() {
    printf '$ %s &\n' "$*"
    mkfifo input output
    "$@" <input >output 2>&1 &
    holder=$!
    exec 3>input
    # qemu-io answers once the image is open.
    echo 'length' >&3
    head -n 1 output >/dev/null
}
end_holder() {
    echo quit >&3 || true
    exec 3>&-
    wait "$holder" || true
    rm -f input output
}

qemu-img create -q -f raw disk.img 64M
qemu-img create -q -f qcow2 disk.qcow2 64M

say "Two programs write to one raw image. QEMU's own locking lets them:"
start_holder qemu-io -f raw disk.img
show qemu-io -f raw -c 'write -P 2 0 64k' disk.img
end_holder

for image in disk.img disk.qcow2; do
    format=${image#disk.}
    [ "$format" = img ] && format=raw
    say "Under imglock, $image: the second writer is refused, and told who holds the image:"
    start_holder imglock qemu-io -f "$format" "$image"
    show imglock qemu-io -f "$format" -c 'write -P 2 0 64k' "$image"
    show imglock dd if=/dev/zero of="$image" bs=64k count=1 status=none
    end_holder
    say "The first has closed $image. Now the second gets in:"
    show imglock qemu-io -f "$format" -c 'write -P 2 0 64k' "$image"
done
