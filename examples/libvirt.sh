#!/bin/bash
# libvirt.sh: a machine that libvirt starts has its disk; meanwhile another machine, and dd, want to write to it.  Needs
# libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients, qemu-system-x86, qemu-utils and e2fsprogs.
#
# The domain is libvirt.xml beside this script.  It runs in a libvirtd of its own, which keeps all it has in a scratch directory
# and ends with this script: nothing of this machine's libvirt is touched.
set -eu
here=$(dirname "$(realpath "$0")")
# Where mkfs.ext4 is, for who is not root.
PATH=$PATH:/usr/sbin
for program in virsh qemu-system-x86_64 qemu-img mkfs.ext4; do
    command -v "$program" >/dev/null || { echo "$0: $program is not installed" >&2; exit 1; }
done
folder=$(mktemp -d)
cd "$folder"
if [ -x "$here/../build/imglock" ]; then
    PATH=$here/../build:$PATH
fi
# A copy, since the one who runs the machine might not reach the original.
cp "$(imglock printenv LD_PRELOAD)" libimglock.so
library=$folder/libimglock.so

# libvirt's session mode is for users; root lends itself the name of one.
as_user=(env HOME="$folder" XDG_CONFIG_HOME="$folder/home" XDG_CACHE_HOME="$folder/home" XDG_RUNTIME_DIR="$folder/run")
[ "$(id -u)" != 0 ] || as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups "${as_user[@]}")

# clean_up: ends the machines, then the libvirtd that virsh has started.
clean_up() {
    local name pid
    for name in first second; do virsh destroy "$name" >/dev/null 2>&1 || true; done
    pid=$(cat run/libvirt/libvirtd.pid 2>/dev/null || true)
    if [ "$pid" ] && kill "$pid" 2>/dev/null; then
        # A process that has ended, and that nobody has waited for yet, is a zombie.
        while grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null; do sleep 0.05; done
    fi
    cd /
    rm -rf "$folder"
}
trap clean_up EXIT

virsh() { "${as_user[@]}" virsh -q -c qemu:///session "$@"; }
show() {
    printf '$ %s\n' "$*"
    "$@" 2>&1 || printf '(exit status %s)\n' "$?"
}

# domain NAME: libvirt.xml with another name, and with the paths of this scratch directory.
domain() {
    local directory=
    [ -z "${IMGLOCK_DIR-}" ] || directory="<qemu:env name='IMGLOCK_DIR' value='$IMGLOCK_DIR'/>"
    sed -e "s,imglock-example,$1," -e "s,/srv/vm/disk.img,$folder/disk.img," \
        -e "s,/usr/local/lib/imglock/libimglock.so,$library," -e "s,<qemu:commandline>,&$directory," \
        "$here/libvirt.xml" >"$1.xml"
}

mkdir -p home/libvirt run
echo 'stdio_handler = "file"' >home/libvirt/qemu.conf
qemu-img create -q -f raw disk.img 8M
# The machine's program: it halts.
printf '\xf4\xeb\xfd' | dd of=disk.img conv=notrunc status=none
printf '\x55\xaa' | dd of=disk.img bs=1 seek=510 conv=notrunc status=none
domain first
domain second
[ "$(id -u)" != 0 ] || chown -R nobody:nogroup .
before=$(sha1sum <disk.img)

echo "A machine is started through libvirt.  QEMU has the lock:"
show virsh create first.xml
show imglock status disk.img

echo
echo "Others that would write to its disk are refused, and are told why:"
show imglock dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
show imglock mkfs.ext4 -q -F disk.img

echo
echo "So is another machine, by the same domain with another name:"
show virsh create second.xml
[ "$(sha1sum <disk.img)" = "$before" ] || { echo "this must not happen: the disk has changed"; exit 1; }

echo
echo "The machine ends, and with it the lock:"
show virsh destroy first
show imglock status disk.img
show imglock dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
