# machine.bash: a virtual machine that has what this host's kernel may lack: an NFS server and clients of it.
#
# It runs Debian's cloud kernel under qemu-system-x86_64, emulated (TCG), since few hosts of tests give KVM.  Its disk is
# a Debian of this host's release, made once and kept in build/nfs; what a run writes to it is thrown away.  The library,
# the command and the tests come with the initial RAM disk.  It ends by itself when the tests in it have.

MACHINE=$TOP/build/nfs
MACHINE_PACKAGES=nfs-kernel-server,nfs-common,qemu-utils,iproute2,procps,kmod,strace,attr,libjansson4,libsmartcols1
MACHINE_PACKAGES+=,bats,bats-support,bats-assert

# missing_for_machine: what there has to be and is not; nothing where all is there.
missing_for_machine() {
    local program
    [ "$(id -u)" = 0 ] || echo "needs root, for debootstrap"
    [ "$(uname -m)" = x86_64 ] || echo "the machine is of another architecture"
    for program in qemu-system-x86_64 debootstrap mkfs.ext4 cpio busybox modprobe; do
        command -v "$program" >/dev/null || echo "$program is not installed"
    done
    file -L "$(command -v busybox)" | grep -q 'statically linked' || echo "there is no static busybox"
}

# make_disk: $MACHINE with disk.img, vmlinuz and drivers, where it is not there yet.
make_disk() {
    local mirror release root=$MACHINE.new/root kernel driver number=100
    [ ! -d "$MACHINE" ] || return 0
    mirror=$(sed -n 's/^URIs: *//p; s/^deb *\(\[[^]]*\] *\)\?\(http[^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources \
        /etc/apt/sources.list 2>/dev/null | head -n 1)
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    rm -rf "$MACHINE.new"
    mkdir -p "$MACHINE.new/drivers"
    debootstrap --variant=minbase --include="$MACHINE_PACKAGES" "$release" "$root" "${mirror:?}" || return
    # The kernel as it lies in its package, without what installing it does to make a machine start.
    (cd "$MACHINE.new" && apt-get -q download "${kernel:?}" &&
        dpkg --fsys-tarfile linux-image-*.deb | tar -C root -xf - --keep-directory-symlink) || return
    kernel=$(ls "$root/lib/modules")
    depmod -b "$root" "$kernel" || return
    # In the order in which they are to be loaded.
    for driver in $(modprobe -d "$root" -S "$kernel" --show-depends -a virtio_pci virtio_blk | sed -n 's/^insmod //p' |
        awk '!seen[$0]++'); do
        number=$((number + 1))
        cp "$driver" "$MACHINE.new/drivers/$number.ko"
    done
    mv "$root/boot/vmlinuz-$kernel" "$MACHINE.new/vmlinuz"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root/usr/share/doc" "$root/usr/share/locale"
    truncate -s 2G "$MACHINE.new/disk.img"
    mkfs.ext4 -q -d "$root" "$MACHINE.new/disk.img" || return
    rm -rf "$root" "$MACHINE.new"/*.deb
    mv "$MACHINE.new" "$MACHINE"
}

# make_initrd FOLDER: FOLDER.img.  The disk's driver, and what is to be tested.
make_initrd() {
    local folder=$1
    mkdir -p "$folder"/{bin,dev,proc,disk,imglock/build}
    cp "$(command -v busybox)" "$folder/bin/busybox"
    cp "$TOP/tests/nfs/init" "$folder/init"
    cp -r "$MACHINE/drivers" "$folder"
    cp -r "$TOP/tests" "$TOP/config" "$TOP/examples" "$folder/imglock"
    cp -r "$TOP/build/libimglock.so" "$TOP/build/imglock" "$TOP/build/tests" "$TOP/build/bench" "$folder/imglock/build"
    (cd "$folder" && find . | cpio -o -H newc --quiet) >"$folder.img"
}

# run_machine INITRD CONSOLE: returns when it has ended; what it has said is in CONSOLE.
run_machine() {
    timeout -k 10 3000 qemu-system-x86_64 -accel tcg -m 1024 -smp 1 -display none -no-reboot -nodefaults \
        -serial "file:$2" -kernel "$MACHINE/vmlinuz" -initrd "$1" \
        -append "console=ttyS0 quiet panic=-1 edd=off mitigations=off" \
        -drive "file=$MACHINE/disk.img,format=raw,if=virtio,snapshot=on" </dev/null
}
