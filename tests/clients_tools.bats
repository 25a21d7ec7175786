#!/usr/bin/env bats
# Tools that make, check, change, copy and delete disk images, and shells and languages that open them.

# What clients.bash calls and reads is not seen here:
# shellcheck disable=SC2034,SC2154,SC2317

load common
load clients

# Fixed times and numbers, so that what they write can be compared.
export E2FSPROGS_FAKE_TIME=1500000000 E2FSCK_TIME=1500000000
export SOURCE_DATE_EPOCH=1500000000
ext4=(mkfs.ext4 -q -F -U 11111111-2222-3333-4444-555555555555 -E hash_seed=11111111-2222-3333-4444-555555555555)

teardown() {
    # What a test that failed has left mounted or set up.
    if mountpoint -q "$BATS_TEST_TMPDIR/work/mnt"; then umount -l "$BATS_TEST_TMPDIR/work/mnt"; fi
    losetup -n -O NAME -j "$BATS_TEST_TMPDIR/work/disk.img" | xargs -r losetup -d
    common_teardown
}

# used_image FILE: a raw image that a program under imglock has had open before, so that it has a lock file.
used_image() {
    raw "$1" 1M
    second_writer "$1"
}

# ---- file systems -------------------------------------------------------------------------------------------

@test "mkfs.ext4" {
    prepare() { raw disk.img 8M; }
    works_as_before disk.img "${ext4[@]}" disk.img
    refused disk.img "${ext4[@]}" disk.img
}

@test "resize2fs" {
    prepare() { truncate -s 8M disk.img; "${ext4[@]}" disk.img; truncate -s 16M disk.img; }
    works_as_before disk.img resize2fs disk.img
    refused disk.img resize2fs disk.img
}

@test "e2fsck, on an image whose name says nothing" {
    prepare() {
        truncate -s 8M disk
        "${ext4[@]}" disk
        debugfs -w -R 'set_inode_field <11> links_count 9' disk 2>/dev/null
    }
    CLIENT_STATUS=1
    works_as_before disk e2fsck -f -y disk
    refused disk e2fsck -f -y disk
}

@test "debugfs" {
    prepare() { truncate -s 8M disk.img; "${ext4[@]}" disk.img; echo text >file; }
    works_as_before disk.img debugfs -w -R 'write file file' disk.img
    works_as_before disk.img debugfs -R 'ls -l' disk.img
    # Where it cannot open an image, debugfs says so, and goes on without one.
    while_held disk.img debugfs -w -R 'write file file' disk.img
    assert_regex "$stderr" 'debugfs: Text file busy while trying to open disk.img'
    gets_in disk.img debugfs -w -R 'write file file' disk.img
    assert_equal "$(debugfs -R 'cat file' disk.img 2>/dev/null)" text
}

@test "tune2fs" {
    prepare() { truncate -s 8M disk.img; "${ext4[@]}" disk.img; }
    works_as_before disk.img tune2fs -L name disk.img
    refused disk.img tune2fs -L name disk.img
}

# The image has a name of its own: mkfs.vfat refuses what has the name of something mounted.
@test "fuse2fs: holds the image while it is mounted" {
    [ -c /dev/fuse ] || skip "needs /dev/fuse"
    prepare() { truncate -s 8M fuse2fs.img; "${ext4[@]}" fuse2fs.img; mkdir mnt; }
    VARIES=fuse2fs.img
    works_as_before fuse2fs.img bash -c '
        fuse2fs -f fuse2fs.img mnt -o fakeroot &
        until mountpoint -q mnt; do sleep 0.02; done
        echo text >mnt/file && ls mnt && umount mnt && wait $!'
    fresh_directory
    run wrapped fuse2fs fuse2fs.img mnt -o fakeroot 3>&-
    assert_success
    echo text >mnt/file
    keeps_others_out fuse2fs.img fuse2fs
    umount mnt
    wait_until lock_is fuse2fs.img free
    admits_others fuse2fs.img
    while_held fuse2fs.img fuse2fs fuse2fs.img mnt -o fakeroot
    assert_failure
    run mountpoint -q mnt
    assert_failure
}

@test "mkfs.vfat" {
    prepare() { raw disk.img 8M; }
    works_as_before disk.img mkfs.vfat -i 12345678 disk.img
    refused disk.img mkfs.vfat -i 12345678 disk.img
}

floppy() {
    truncate -s 1474560 "$1"
    mformat -f 1440 -N 12345678 -i "$1" ::
    echo text >file
}

@test "mformat" {
    prepare() { floppy disk.img; }
    works_as_before disk.img mformat -f 1440 -N 87654321 -i disk.img ::
    refused disk.img mformat -f 1440 -N 87654321 -i disk.img ::
}

@test "mcopy, mdir and mdel, on an image whose name says nothing" {
    prepare() { floppy disk; mcopy -i disk file ::old; }
    works_as_before disk mcopy -i disk file ::new
    works_as_before disk mdir -i disk ::
    works_as_before disk mdel -i disk ::old
    refused disk mcopy -i disk file ::new
    refused disk mdir -i disk ::
    refused disk mdel -i disk ::old
}

@test "syslinux: its mtools children open the image that it holds" {
    prepare() { floppy disk.img; }
    works_as_before disk.img syslinux --install disk.img
    assert_equal "$(mdir -b -a -i disk.img ::/ldlinux.sys)" ::/ldlinux.sys
    refused disk.img syslinux --install disk.img
}

# ---- partitions ---------------------------------------------------------------------------------------------

partitioned() {
    truncate -s 16M disk.img
    printf 'label: dos\nlabel-id: 0x12345678\n' | sfdisk -q disk.img
}

@test "sfdisk" {
    prepare() { partitioned; printf 'label-id: 0x12345678\n2048,4096,c\n' >table; }
    works_as_before disk.img bash -c 'sfdisk disk.img <table'
    works_as_before disk.img sfdisk -d disk.img
    refused disk.img bash -c 'sfdisk disk.img <table'
}

@test "fdisk" {
    prepare() { partitioned; printf 'n\np\n1\n2048\n+1M\nw\n' >commands; }
    works_as_before disk.img bash -c 'fdisk disk.img <commands'
    refused disk.img bash -c 'fdisk disk.img <commands'
}

@test "parted" {
    prepare() { partitioned; }
    # It gives the disk a new number.
    VARIES=disk.img
    works_as_before disk.img parted -s disk.img mkpart primary 1MiB 4MiB
    assert_equal "$(sfdisk -q -l -o start,size disk.img | tail -n 1)" " 2048   3M"
    VARIES=
    works_as_before disk.img parted -s disk.img unit s print
    refused disk.img parted -s disk.img mkpart primary 1MiB 4MiB
}

# ---- optical and compressed images, encryption --------------------------------------------------------------

tree() { mkdir tree; echo text >tree/file; touch -d @1500000000 tree/file tree; }

@test "genisoimage" {
    prepare() { tree; }
    VARIES=disk.iso
    works_as_before disk.iso genisoimage -quiet -o disk.iso tree
    prepare() { tree; genisoimage -quiet -o disk.iso tree; }
    refused disk.iso genisoimage -quiet -o disk.iso tree
}

@test "xorriso" {
    prepare() { tree; xorriso -outdev disk.iso -map tree /tree -commit >/dev/null 2>&1; echo text >new; }
    normalise() { sed -e '/^Media summary/d' -e '/UPDATE/d'; }
    VARIES=disk.iso
    works_as_before disk.iso xorriso -dev disk.iso -map new /new -commit
    refused disk.iso xorriso -dev disk.iso -map new /new -commit
}

@test "mksquashfs" {
    local command=(mksquashfs tree disk.squashfs -noappend -quiet -no-progress -processors 1)
    prepare() { tree; }
    works_as_before disk.squashfs "${command[@]}"
    prepare() { tree; raw disk.squashfs 1M; }
    refused disk.squashfs "${command[@]}"
}

@test "cryptsetup luksFormat" {
    local command=(cryptsetup luksFormat --batch-mode --type luks1 --pbkdf-force-iterations 1000 disk.img key)
    prepare() { truncate -s 8M disk.img; echo secret >key; }
    VARIES=disk.img
    works_as_before disk.img "${command[@]}"
    refused disk.img "${command[@]}"
}

# ---- copying, moving, deleting ------------------------------------------------------------------------------

@test "dd: truncating, and not" {
    prepare() { raw disk.img 1M; echo text >file; }
    works_as_before disk.img dd if=file of=disk.img status=none
    works_as_before disk.img dd if=file of=disk.img conv=notrunc status=none
    works_as_before disk.img dd if=disk.img of=copy status=none
    refused disk.img dd if=file of=disk.img status=none
    refused disk.img dd if=file of=disk.img conv=notrunc status=none
    refused disk.img dd if=disk.img of=/dev/null status=none
}

@test "dd: truncating an image whose name says nothing" {
    prepare() { truncate -s 8M disk; "${ext4[@]}" disk; echo text >file; }
    works_as_before disk dd if=file of=disk status=none
    refused disk dd if=file of=disk status=none
}

@test "cp" {
    prepare() { raw disk.img 1M; raw new.img 2M; }
    works_as_before disk.img cp new.img disk.img
    refused disk.img cp new.img disk.img
    refused disk.img cp disk.img copy.img
}

@test "cp -f, which deletes what it may not open" {
    prepare() { used_image disk.img; raw new.img 2M; }
    works_as_before disk.img cp -f new.img disk.img
    refused disk.img cp -f new.img disk.img
}

@test "cp --remove-destination" {
    prepare() { used_image disk.img; raw new.img 2M; }
    works_as_before disk.img cp --remove-destination new.img disk.img
    refused disk.img cp --remove-destination new.img disk.img
}

@test "install" {
    prepare() { used_image disk.img; raw new.img 2M; }
    works_as_before disk.img install new.img disk.img
    refused disk.img install new.img disk.img
}

@test "mv: over an image, and an image away" {
    prepare() { used_image disk.img; raw new.img 2M; }
    works_as_before disk.img mv new.img disk.img
    works_as_before disk.img mv disk.img other.img
    refused disk.img mv new.img disk.img
    refused disk.img mv disk.img other.img
}

@test "rm, and rm -rf of its directory" {
    prepare() { mkdir vm; used_image vm/disk.img; }
    works_as_before vm/disk.img rm vm/disk.img
    works_as_before vm/disk.img bash -c 'rm -rf vm && mkdir vm'
    refused vm/disk.img rm vm/disk.img
    refused vm/disk.img rm -f vm/disk.img
    refused vm/disk.img rm -rf vm
}

@test "rsync, which replaces an image without opening it" {
    prepare() { used_image disk.img; mkdir new; raw new/disk.img 2M; }
    works_as_before disk.img rsync new/disk.img disk.img
    refused disk.img rsync new/disk.img disk.img
}

@test "rsync --inplace" {
    prepare() { raw disk.img 1M; mkdir new; raw new/disk.img 2M; }
    works_as_before disk.img rsync --inplace new/disk.img disk.img
    refused disk.img rsync --inplace new/disk.img disk.img
}

@test "truncate" {
    prepare() { raw disk.img 1M; }
    works_as_before disk.img truncate -s 64K disk.img
    refused disk.img truncate -s 64K disk.img
}

@test "fallocate" {
    prepare() { raw disk.img 1M; }
    works_as_before disk.img fallocate -l 2M disk.img
    refused disk.img fallocate -l 2M disk.img
}

@test "shred, and shred -u" {
    prepare() { raw disk.img 1M; }
    works_as_before disk.img shred -n 0 -z disk.img
    works_as_before disk.img shred -n 0 -z -u disk.img
    refused disk.img shred -n 0 -z disk.img
    refused disk.img shred -n 0 -z -u disk.img
}

@test "tar: an archive written over an image, and an image unpacked over one" {
    prepare() {
        used_image disk.img
        mkdir new
        raw new/disk.img 2M
        touch -d @1500000000 new/disk.img
        tar -cf new.tar -C new disk.img
        touch -d @1500000000 new.tar
    }
    works_as_before disk.img tar -cf disk.img new.tar
    works_as_before disk.img tar -xf new.tar
    refused disk.img tar -cf disk.img new.tar
    refused disk.img tar -xf new.tar
    refused disk.img tar -xf new.tar --overwrite
}

@test "gzip, gunzip -f" {
    prepare() { used_image disk.img; touch -d @1500000000 disk.img; }
    works_as_before disk.img gzip disk.img
    refused disk.img gzip disk.img
    prepare() { used_image disk.img; gzip -k disk.img; }
    works_as_before disk.img gzip -d -f disk.img.gz
    refused disk.img gzip -d -f disk.img.gz
}

@test "git: a checkout over an image" {
    export GIT_AUTHOR_DATE='1500000000 +0000' GIT_COMMITTER_DATE='1500000000 +0000' GIT_CONFIG_NOSYSTEM=1 HOME=$PWD
    prepare() {
        git init -q -b main .
        raw disk.img 1M
        git add disk.img
        git -c user.name=Somebody -c user.email=somebody@example.org commit -q -m image
        used_image disk.img
        truncate -s 2M disk.img
    }
    VARIES=index
    works_as_before disk.img git checkout disk.img
    refused disk.img git checkout disk.img
}

@test "sqlite3: a database that has the name of an image" {
    prepare() { sqlite3 disk.img 'create table t (x); insert into t values (1)'; }
    works_as_before disk.img sqlite3 disk.img 'insert into t values (2); select * from t'
    refused disk.img sqlite3 disk.img 'insert into t values (2)'
}

# ---- shells -------------------------------------------------------------------------------------------------

redirections() {
    local shell=$1
    prepare() { raw disk.img 1M; }
    works_as_before disk.img "$shell" -c 'echo text >disk.img'
    works_as_before disk.img "$shell" -c 'echo text >>disk.img'
    works_as_before disk.img "$shell" -c 'echo text 1<>disk.img'
    works_as_before disk.img "$shell" -c 'exec 9<>disk.img; echo text >&9; exec 9>&-'
    works_as_before disk.img "$shell" -c '{ echo text; cat file; } >disk.img 2>&1; echo end'
    refused disk.img "$shell" -c 'echo text >disk.img'
    refused disk.img "$shell" -c 'echo text >>disk.img'
    refused disk.img "$shell" -c 'echo text 1<>disk.img'
    refused disk.img "$shell" -c 'exec 9<>disk.img'
    refused disk.img "$shell" -c 'cat <disk.img >/dev/null'

    fresh_directory
    begins "$shell" -c 'exec 7<>disk.img; echo open; read -r _; exec 7>&-; echo closed; read -r _'
    wait_until grep -q open ../stdout
    keeps_others_out disk.img "$shell"
    says ''
    wait_until grep -q closed ../stdout
    admits_others disk.img
    says ''
    ends 0
}

@test "sh: redirections" { redirections sh; }

@test "dash: redirections" { redirections dash; }

@test "bash: redirections" { redirections bash; }

@test "bash: an image that a command of it has inherited" {
    prepare() { raw disk.img 1M; }
    fresh_directory
    # The shell has closed the image; cat, which the shell started, still has it.
    begins bash -c 'exec 9<>disk.img; cat <&0 & exec 9>&-; echo closed; wait'
    wait_until grep -q closed ../stdout
    assert_equal "$(lock_state disk.img)" exclusive
    run second_writer disk.img
    assert_failure
    exec 8>&-
    ends 0
    admits_others disk.img
}

# ---- languages ----------------------------------------------------------------------------------------------

# opens_and_closes NAME COMMAND...: a program that opens disk.img, says so, waits for a line, closes it, says so, waits.
opens_and_closes() {
    local name=$1
    shift
    fresh_directory
    begins "$@"
    wait_until grep -q open ../stdout
    keeps_others_out disk.img "$name"
    says ''
    wait_until grep -q closed ../stdout
    admits_others disk.img
    says ''
    ends 0
}

@test "python3" {
    prepare() { raw disk.img 1M; }
    works_as_before disk.img /usr/bin/python3 -c 'f = open("disk.img", "r+b"); print(f.fileno()); f.write(b"text")'
    refused disk.img /usr/bin/python3 -c 'open("disk.img", "wb")'
    refused disk.img /usr/bin/python3 -c 'import os; os.truncate("disk.img", 0)'
    refused disk.img /usr/bin/python3 -c 'import shutil; shutil.copy("disk.img", "copy.img")'
    opens_and_closes python3 /usr/bin/python3 -u -c '
f = open("disk.img", "r+b")
print("open")
input()
f.close()
print("closed")
input()'
}

@test "perl" {
    prepare() { raw disk.img 1M; }
    # shellcheck disable=SC2016 # Perl's variables
    works_as_before disk.img perl -e 'open(F, "+<", "disk.img") or die "$!\n"; print fileno(F), "\n"; print F "text"'
    # shellcheck disable=SC2016
    refused disk.img perl -e 'open(F, ">", "disk.img") or die "$!\n"'
    # shellcheck disable=SC2016
    refused disk.img perl -e 'unlink("disk.img") or die "$!\n"; open(F, ">", "disk.img")'
    # shellcheck disable=SC2016
    opens_and_closes perl perl -e '
$| = 1;
open(F, "+<", "disk.img") or die;
print "open\n";
<STDIN>;
close(F);
print "closed\n";
<STDIN>;'
}

@test "node" {
    prepare() { raw disk.img 1M; }
    works_as_before disk.img node -e 'const fs = require("fs"); const f = fs.openSync("disk.img", "r+");
        fs.writeSync(f, "text"); fs.closeSync(f); console.log(fs.statSync("disk.img").size)'
    refused disk.img node -e 'require("fs").writeFileSync("disk.img", "text")'
    refused disk.img node -e 'require("fs").promises.open("disk.img", "w")'
    opens_and_closes node node -e '
const fs = require("fs");
const image = fs.openSync("disk.img", "r+");
const lines = require("readline").createInterface({input: process.stdin});
const next = () => new Promise(done => lines.once("line", done));
(async () => {
    console.log("open");
    await next();
    fs.closeSync(image);
    console.log("closed");
    await next();
    process.exit(0);
})();'
}

# ---- the kernel's own ---------------------------------------------------------------------------------------

@test "losetup and mount -o loop give up, and do not try for ever" {
    needs_root
    [ -c /dev/loop-control ] || skip "needs loop devices"
    prepare() { truncate -s 8M disk.img; "${ext4[@]}" disk.img; mkdir mnt; }
    while_held disk.img losetup -f disk.img
    assert_failure 1
    while_held disk.img mount -o loop disk.img mnt
    assert_failure 32
}
