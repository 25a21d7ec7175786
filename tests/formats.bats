#!/usr/bin/env bats
# Which files are disk images: every row of shim/formats.def, by name and by content.
#
# Images come from the programs that make them wherever Debian has one, else from the bytes of the format's description.
# Their names have no extension, so that the content decides alone.

load common

setup() {
    common_setup
    LOOPS=()
    mkdir tree
    echo content >tree/file
}

teardown() {
    local loop
    for loop in "${LOOPS[@]}"; do losetup -d "$loop"; done
    common_teardown
}

# quiet COMMAND...: a tool's words are of interest only when it fails.  One of an older release may not know the format.
quiet() {
    local status
    "$@" >tool.log 2>&1 </dev/null && return
    status=$?
    ! grep -qE "^Unknown (command|option)\b|: Unknown file format '" tool.log || skip "this $1 cannot do: $*"
    fail "$*: exit status $status: $(tail -c 600 tool.log)"
}

# recognised NAME FILE: the content of FILE, and not its name, shows the format NAME, and does not once the first byte of
# its magic is another one.
recognised() {
    run "$HELPERS/identify" "$2"
    [ "$status" -eq 0 ] || fail "$1: $output"
    [ "$output" = "by name: -  by content: $1  $2" ] || fail "expected $1, found $output"
    run "$HELPERS/identify" -m "$1" "$2"
    [ "$status" -eq 0 ] || fail "$1: $output"
    # What has no magic is left as it is.
    [[ $output != *"  by content: $1  "* ]] || grep -qE "^FORMAT\(\"$1\", .*, \"\", [a-z0-9_]+\)" "$TOP/shim/formats.def" ||
        fail "$1 is found without its magic"
}

unrecognised() {
    run "$HELPERS/identify" "$1"
    [ "$status" -eq 0 ] || fail "$output"
    [ "$output" = "by name: -  by content: -  $1" ] || fail "no image is found to be one: $output"
}

# put FILE OFFSET BYTES: a negative offset counts from the end.  BYTES as printf(1) %b has them.
put() {
    local at=$2
    [ "$at" -ge 0 ] || at=$(($(stat -c %s "$1") + at))
    printf %b "$3" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

# written NAME SIZE OFFSET BYTES [OFFSET BYTES]...: a file of zeros with these bytes is of the format NAME.
written() {
    local name=$1
    truncate -s 0 written
    truncate -s "$2" written
    shift 2
    while [ $# -gt 0 ]; do
        put written "$1" "$2"
        shift 2
    done
    recognised "$name" written
    rm written
}

# looped FILE [LOSETUP OPTION...]: sets LOOP to a block device that is the file.
looped() {
    local file=$1
    shift
    LOOP=$(losetup --find --show "$@" "$file" 2>tool.log) || skip "no loop devices here: $(cat tool.log)"
    LOOPS+=("$LOOP")
}

unlooped() {
    losetup -d "$LOOP"
    unset 'LOOPS[-1]'
}

# ---- virtual machines ------------------------------------------------------------------------------------------------

@test "qemu-img: qcow, qcow2 of both versions, qed" {
    quiet qemu-img create -f qcow a 8M
    recognised qcow a
    quiet qemu-img create -f qcow2 -o compat=0.10 b 8M
    recognised qcow b
    quiet qemu-img create -f qcow2 -o compat=1.1 c 8M
    recognised qcow c
    quiet qemu-img create -f qed d 8M
    recognised qed d
    put b 7 '\4'
    unrecognised b
}

@test "qemu-img: vmdk in five flavours" {
    local flavour
    for flavour in monolithicSparse streamOptimized; do
        quiet qemu-img create -f vmdk -o subformat=$flavour $flavour 8M
        recognised vmdk $flavour
    done
    # A descriptor of less than a sector, and its extents beside it.
    for flavour in monolithicFlat twoGbMaxExtentFlat twoGbMaxExtentSparse; do
        quiet qemu-img create -f vmdk -o subformat=$flavour $flavour 8M
        recognised "vmdk descriptor" $flavour
    done
    recognised vmdk twoGbMaxExtentSparse-s001
    put monolithicSparse 4 '\11'
    unrecognised monolithicSparse
}

@test "vmdk flavours that only VMware makes" {
    written "vmdk esx" 4096 0 'COWD\1\0\0\0\3\0\0\0'
    written "vmdk sesparse" 4096 0 '\0276\0272\0376\0312\0\0\0\0\1\0\0\0\2\0\0\0'
}

@test "qemu-img: vdi, vhdx, parallels, vpc dynamic and fixed" {
    quiet qemu-img create -f vdi a 8M
    recognised vdi a
    quiet qemu-img create -f vhdx b 8M
    recognised vhdx b
    quiet qemu-img create -f parallels c 8M
    recognised "parallels extended" c
    quiet qemu-img create -f vpc -o subformat=dynamic d 8M
    recognised "vhd dynamic" d
    quiet qemu-img create -f vpc -o subformat=fixed e 8M
    recognised "vhd fixed" e
}

@test "parallels and vhd as old programs wrote them" {
    written parallels 4096 0 'WithoutFreeSpace\2\0\0\0'
    written "vhd fixed, 511 byte footer" $((65536 + 511)) -511 'conectix\0\0\0\2\0\1\0\0'
}

@test "a vmstate of QEMU" {
    printf '%s\n' 'migrate "exec:cat >state"' quit |
        qemu-system-x86_64 -accel tcg -M isapc -m 1 -nodefaults -display none -S -monitor stdio >tool.log 2>&1
    recognised "qemu vmstate" state
}

@test "bximage: growing and sparse" {
    quiet bximage -q -func=create -hd=10M -imgmode=growing a
    recognised "bochs growing" a
    quiet bximage -q -func=create -hd=10M -imgmode=sparse b
    recognised "bochs sparse" b
    # A flat one is all zeros: only its name can tell.
    quiet bximage -q -func=create -hd=10M -imgmode=flat c
    unrecognised c
}

@test "create_compressed_fs: cloop" {
    needs create_compressed_fs
    truncate -s 1M raw
    quiet create_compressed_fs -q -t 1 -B 65536 raw a
    recognised cloop a
}

# ---- Apple -----------------------------------------------------------------------------------------------------------

@test "images of Apple's programs" {
    written dmg 65536 -512 'koly\0\0\0\4\0\0\2\0\0\0\0\1'
    written "dmg encrypted" 4096 0 'encrcdsa\0\0\0\2'
    written sparseimage 4096 0 'sprs\0\0\0\3'
    written asif 4096 0 'shdw\0\0\0\1'
}

@test "dmg: the deflated driver descriptor map that stands first" {
    local level name
    for level in 1 9; do
        python3 -c 'import sys, zlib
sys.stdout.buffer.write(zlib.compress(b"ER\2\0" + b"\0\0\x50\0" + bytes(504), int(sys.argv[1])))' $level >a
        [ $level = 1 ] && name="dmg, compressed" || name="dmg, compressed well"
        recognised "$name" a
    done
}

@test "floptool: diskcopy 4.2, 2img, woz, moof, prodos" {
    quiet floptool flopcreate dc42 prodos_800k a
    recognised "diskcopy 4.2" a
    quiet floptool flopcreate apple_2mg prodos_800k b
    recognised 2img b
    quiet floptool flopcreate woz prodos_800k c
    recognised "woz 2" c
    quiet floptool flopcreate moof prodos_800k d
    recognised moof d
    quiet floptool flopcreate apple_gcr prodos_800k e
    recognised prodos e
    put a 67 '\1'
    unrecognised a
    local change
    for change in '1028 \0340' '1059 \050' '1060 \014'; do
        cp e changed
        put changed "${change%% *}" "${change#* }"
        unrecognised changed
    done
}

@test "flux images of Apple floppies" {
    written "woz 1" 1536 0 'WOZ1\0377\n\r\n'
    written "a2r 1" 1536 0 'A2R1\0377\n\r\n'
    written "a2r 2" 1536 0 'A2R2\0377\n\r\n'
    written "a2r 3" 1536 0 'A2R3\0377\n\r\n'
}

@test "Apple II floppies: by size and extension, or by the table of contents of DOS 3.3" {
    truncate -s 143360 a.po a.do a.PO
    truncate -s 143361 b.po
    local file
    for file in a.po a.do a.PO; do
        run "$HELPERS/identify" $file
        assert_output "by name: -  by content: apple floppy  $file"
    done
    unrecognised b.po
    truncate -s 232960 c.do
    run "$HELPERS/identify" c.do
    assert_output "by name: -  by content: apple floppy  c.do"
    # Track 17, sector 0: the catalog is in track 17, sector 15.
    written "apple dos 3.3" 143360 69633 '\0021\0017\3\0\0\0376'
}

# ---- encryption ------------------------------------------------------------------------------------------------------

@test "qemu-img and cryptsetup: luks 1 and 2, and the second header" {
    # It measures the processor first, which fails now and then on a busy machine.
    local attempts=0
    while ((attempts++ < 5)); do
        qemu-img create -f luks --object secret,id=key,data=x -o key-secret=key,iter-time=10 a 4M >tool.log 2>&1 &&
            break
        grep -q 'accurate CPU usage' tool.log || break
    done
    recognised luks a
    truncate -s 4M b
    printf x >key
    quiet cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 b key
    recognised luks b
    local size name
    for size in 16k 32k 64k; do
        rm -f c
        truncate -s 20M c
        quiet cryptsetup luksFormat -q --type luks2 --luks2-metadata-size $size \
            --pbkdf pbkdf2 --pbkdf-force-iterations 1000 c key
        recognised luks c
        # The first one wiped, as a slip of dd does it: the second still says what it is.
        dd if=/dev/zero of=c bs=4096 count=1 conv=notrunc status=none
        [ $size = 16k ] && name="luks second header" || name="luks second header, ${size%k} KiB metadata"
        recognised "$name" c
    done
    put b 7 '\3'
    unrecognised b
}

@test "bitlocker" {
    written bitlocker 65536 3 '-FVE-FS-\0\2\10' 0 '\0353\0130\0220' 510 '\0125\0252'
}

# ---- optical media ---------------------------------------------------------------------------------------------------

@test "xorriso, genisoimage, mkudffs: iso 9660 and udf" {
    quiet xorriso -as mkisofs -o a tree
    recognised "iso 9660" a
    quiet genisoimage -quiet -o b tree
    recognised "iso 9660" b
    quiet genisoimage -quiet -udf -o c tree
    recognised "iso 9660" c
    truncate -s 4M d e
    quiet mkudffs d
    recognised udf d
    quiet mkudffs --media-type=cdr e
    recognised udf e
}

@test "xorriso: an iso that also boots from a USB stick has a partition table first" {
    head -c 432 /dev/zero | tr '\0' '\220' >boot
    quiet xorriso -as mkisofs -G boot --protective-msdos-label -o a tree
    recognised mbr a
    # As Debian's installation images have it: active, of type 0.
    put a 450 '\0'
    recognised mbr a
}

@test "other discs and their containers" {
    written "high sierra" 65536 32777 'CDROM\1'
    written "raw cd" 4704 1 '\0377\0377\0377\0377\0377\0377\0377\0377\0377\0377' 11 '\0\0\2\0\1'
    written nero 65536 -12 'NER5\0\0\0\0\0\1\0\0'
    written "nero 5.0" 65536 -8 'NERO\0\1\0\0'
    written mds 512 0 'MEDIA DESCRIPTOR\1\3'
    written rvz 4096 0 'RVZ\1\1\0\0\0'
}

@test "wit: ciso, wbfs, wia" {
    # The header of a GameCube disc is all that wit asks for.
    truncate -s 1459978240 disc
    put disc 0 'GTSTXX'
    put disc 28 '\0302\0063\0237\0075'
    quiet wit copy --ciso disc a
    recognised ciso a
    quiet wit copy --wbfs disc b
    recognised wbfs b
    quiet wit copy --wia disc c
    recognised wia c
    put a 4 '\1\2\3\4'
    unrecognised a
}

@test "compressed discs of the PSP" {
    written ciso 4096 0 'CISO\0030\0\0\0\0\0\1\0\0\0\0\0\0\10\0\0\1'
    written ziso 4096 0 'ZISO\0030\0\0\0\0\0\1\0\0\0\0\0\0\10\0\0\1'
    local name
    for name in CISO ZISO; do
        echo "$name: words of a text" >text
        unrecognised text
    done
}

# ---- file systems ----------------------------------------------------------------------------------------------------

@test "mke2fs: ext2, ext3, ext4, blocks of 1 KiB to 64 KiB" {
    local type block
    for type in ext2 ext3 ext4; do
        rm -f a
        truncate -s 8M a
        quiet mkfs.$type -q -F a
        recognised "ext2, ext3 or ext4" a
    done
    for block in 1024 65536; do
        rm -f a
        truncate -s 8M a
        quiet mkfs.ext4 -q -F -b $block -O ^has_journal a
        recognised "ext2, ext3 or ext4" a
    done
    put a 1048 '\7'
    unrecognised a
}

@test "mkfs.vfat, mformat: fat12, fat16, fat32" {
    truncate -s 4M a
    quiet mkfs.vfat -F 12 a
    recognised fat12 a
    truncate -s 16M b
    quiet mkfs.vfat -F 16 b
    recognised fat16 b
    truncate -s 40M c
    quiet mkfs.vfat -F 32 c
    recognised fat32 c
    quiet mformat -C -f 1440 -i d ::
    recognised fat12 d
    # Linux asks for neither the jump nor the name.
    put a 0 '\0\0\0'
    recognised "fat without a name" a
    put b 510 '\0\0'
    recognised "fat without a name" b
    put c 0 '\0\0\0'
    recognised mbr c
}

@test "mkfs.vfat, hmsa, floptool: floppies that do not name their file system" {
    truncate -s 720K a
    quiet mkfs.vfat -A a
    recognised "fat without a name" a
    quiet hmsa b.st DS
    mv b.st b
    recognised "fat without a name" b
    quiet mformat -C -f 1440 -i c ::
    put c 54 'XXXXXXXX'
    put c 446 'no table here'
    recognised "fat without a name" c
    # Any field that makes no sense, or a file that ends before the file system does.
    local change
    for change in '12 \3' '13 \3' '14 \0\0' '16 \3' '17 \1\0' '17 \0\0' '21 \0125' '22 \0\0' '22 \0377\0377'; do
        cp a changed
        put changed "${change%% *}" "${change#* }"
        unrecognised changed
    done
    truncate -s 719K a
    unrecognised a
}

@test "floppies of DOS 1, without any parameters" {
    local byte size
    for byte in 374:184320 375:368640 376:163840 377:327680; do
        size=${byte#*:}
        written "fat floppy of DOS 1" "$size" 513 '\0377\0377' 512 "\\0${byte%:*}"
    done
    truncate -s 163840 a
    put a 512 '\0377\0377\0377'
    unrecognised a
}

@test "mkfs.exfat, mkntfs, mkfs.xfs, mkfs.btrfs, mkfs.f2fs, mkfs.erofs, mksquashfs" {
    truncate -s 16M a b
    quiet mkfs.exfat a
    recognised exfat a
    quiet mkntfs -F -Q -q b
    recognised ntfs b
    truncate -s 320M c
    quiet mkfs.xfs -q -f c
    recognised xfs c
    truncate -s 120M d
    quiet mkfs.btrfs -q d
    recognised btrfs d
    truncate -s 64M e
    quiet mkfs.f2fs -q e
    recognised f2fs e
    quiet mkfs.erofs f tree
    recognised erofs f
    quiet mksquashfs tree g -quiet
    recognised squashfs g
    written "squashfs, big-endian" 4096 0 'sqsh\0\0\0\1'
}

@test "hformat" {
    needs hformat
    truncate -s 3M a
    quiet hformat -l test -f a 0
    recognised hfs a
    local change
    for change in '1039 \4' '1042 \0\0' '1044 \0\0\0\0' '1047 \1'; do
        cp a changed
        put changed "${change%% *}" "${change#* }"
        unrecognised changed
    done
    rm -f .hcwd
}

@test "mkapfs" {
    needs mkapfs
    truncate -s 600M b
    quiet mkapfs b
    recognised apfs b
}

@test "the Apple file systems that Debian makes no more" {
    written hfs+ 65536 1024 'H+\0\4'
    written hfsx 65536 1024 'HX\0\5'
}

@test "file systems of minicomputers" {
    written ods-1 65536 1008 'DECFILE11A  '
    written ods-2 65536 1008 'DECFILE11B  '
    written rt-11 65536 1008 'DECRT11A    '
}

# ---- partition tables ------------------------------------------------------------------------------------------------

@test "sfdisk and parted: mbr, with partitions and empty" {
    truncate -s 8M a b c
    echo 'label: dos' | sfdisk -q a
    recognised mbr a
    printf 'label: dos\n,4M,L\n' | sfdisk -q b
    recognised mbr b
    quiet parted -s c mklabel msdos
    recognised mbr c
    put b 450 '\0' # no type
    put b 446 '\1' # no flag that there is
    recognised "boot sector" b
    printf x >>b # and no whole sectors
    unrecognised b
}

@test "a boot sector without a table: whole sectors, and no program" {
    head -c 510 /bin/bash >code
    printf '\353\076\220' | cat - code | head -c 510 >a
    printf '\125\252' >>a
    recognised "boot sector" a
    cp a b
    printf x >>b
    unrecognised b
    put a 0 MZ
    unrecognised a
}

@test "sfdisk: gpt, its backup, and sectors of 4 KiB" {
    truncate -s 8M a
    echo 'label: gpt' | sfdisk -q a
    recognised gpt a
    dd if=/dev/zero of=a bs=64K count=1 conv=notrunc status=none
    recognised "gpt backup" a
    truncate -s 8M b
    looped b --sector-size 4096
    echo 'label: gpt' | sfdisk -q "$LOOP"
    unlooped
    recognised mbr b
    dd if=/dev/zero of=b bs=4096 count=1 conv=notrunc status=none
    recognised "gpt, 4 KiB sectors" b
}

@test "parted and sfdisk: the tables of Apple, Sun, SGI, BSD and Atari" {
    truncate -s 64M a b c d e
    quiet parted -s a mklabel mac
    recognised "apple partition map" a
    echo 'label: sun' | sfdisk -q b
    recognised "sun label" b
    echo 'label: sgi' | sfdisk -q c
    recognised "sgi label" c
    quiet parted -s d mklabel bsd
    recognised "bsd label in sector 0" d
    quiet parted -s e mklabel atari mkpart primary fat16 1M 8M
    local kind name
    while read -r kind name; do
        put e 454 "\\1$kind"
        recognised "$name" e
        put e 454 '\0'
        unrecognised e
    done <<'KINDS'
GEM atari partition table
BGM atari partition table, big
XGM atari partition table, extended
KINDS
    put e 454 '\1'
    put e 450 '\0\0\0\0'
    unrecognised e
    # What parted wrote, where i386 has it.
    truncate -s 64M f
    dd if=d of=f bs=1 skip=64 seek=512 count=276 conv=notrunc status=none
    recognised "bsd label" f
    put b 300 '\1' # the checksum is no longer right
    unrecognised b
    put a 512 XX
    unrecognised a
}

@test "an Apple map in blocks of 2 KiB, as on a CD-ROM" {
    written "apple partition map" 65536 0 'ER\10\0\0\0\0\040'
    truncate -s 65537 a
    put a 0 'ER\10\0'
    unrecognised a
}

@test "parted: amiga rdb, in any of the first 16 sectors" {
    truncate -s 16M a
    quiet parted -s a mklabel amiga
    local sector at name
    at=$(grep -obam1 RDSK a)
    dd if=a of=block bs=512 skip=$((${at%%:*} / 512)) count=1 status=none
    for sector in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        truncate -s 0 b
        truncate -s 64K b
        dd if=block of=b bs=512 seek=$sector conv=notrunc status=none
        [ $sector = 0 ] && name="amiga rdb" || name="amiga rdb in sector $sector"
        recognised "$name" b
    done
}

@test "pvcreate: lvm2, in any of the first four sectors" {
    truncate -s 16M a
    looped a
    local sector name
    for sector in 0 1 2 3; do
        dd if=/dev/zero of=a bs=4096 count=1 conv=notrunc status=none
        LVM_SUPPRESS_FD_WARNINGS=1 quiet pvcreate -q -y -ff --labelsector $sector \
            --config 'devices{use_devicesfile=0}' "$LOOP"
        sync a
        [ $sector = 1 ] && name=lvm2 || name="lvm2 in sector $sector"
        recognised "$name" a
    done
    unlooped
}

@test "mkswap: pages of 4 KiB to 64 KiB" {
    local pages name
    for pages in 4 8 16 64; do
        rm -f a
        truncate -s 8M a
        quiet mkswap -p $((pages * 1024)) a
        [ $pages = 4 ] && name=swap || name="swap, $pages KiB pages"
        recognised "$name" a
    done
}

# ---- emulators -------------------------------------------------------------------------------------------------------

@test "a disk that SIMH 4 has marked" {
    written "simh container" $((2494464 + 512)) -512 'simh\0\0\0\1'
}

@test "hercules: disks, plain, compressed and shadowed, and tapes" {
    quiet dasdinit -a a 3330-1 MVS001
    recognised "ckd disk" a
    quiet dasdinit -z b 3330-1 MVS002
    recognised "ckd disk, compressed" b
    quiet dasdinit c 3370-1 FBA001 100
    recognised "fba disk" c
    quiet dasdinit -z d 3370-1 FBA001 100
    recognised "fba disk, compressed" d
    quiet hetinit -d f VOL001
    recognised "aws tape" f
    quiet hetinit g VOL002
    recognised "het tape, zlib" g
    written "ckd disk, shadow" 1536 0 CKD_S370
    written "ckd disk, large" 1536 0 CKD_P064
    written "ckd disk, large, compressed" 1536 0 CKD_C064
    written "ckd disk, large, shadow" 1536 0 CKD_S064
    written "fba disk, shadow" 1536 0 FBA_S370
    written "fba disk, large, compressed" 1536 0 FBA_C064
    written "fba disk, large, shadow" 1536 0 FBA_S064
    # What only begins like a tape is none: the second block has to fit the first.
    printf '\x50\0\0\0\xa0\0%0106d' 0 >h
    unrecognised h
    printf '\x03\0\0\0\xa0\0abc\x03\0\x04\0\xa0\0abc' >h
    unrecognised h
    printf '\x03\0\0\0\xa2\0abc\x03\0\x03\0\xa2\0abc' >i
    recognised "het tape, bzip2" i
}

@test "user mode linux: a copy-on-write file, of whatever name" {
    truncate -s 1M back
    quiet uml_mkcow a back
    recognised "uml cow" a
    written "uml cow" 8192 0 'OOOM\0\0\0\2'
    written "uml cow 1" 8192 0 'MOOO\1\0\0\0'
    printf 'OOOM\0\0\0\x09%0500d' 0 >b
    unrecognised b
}

@test "bochs: an undoable disk's redolog" {
    quiet bximage -q -func=create -hd=10M -imgmode=growing growing
    recognised "bochs growing" growing
    cp growing a.redolog
    run "$HELPERS/identify" a.redolog
    assert_output "by name: bochs growing  by content: bochs growing  a.redolog"
}

@test "openmsx: a floppy and a hard disk of its disk manipulator" {
    printf 'diskmanipulator create %s/a 720\ndiskmanipulator create %s/b 32M 32M\nexit\n' "$PWD" "$PWD" >make.tcl
    SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy HOME=$PWD timeout 60 openmsx -script make.tcl >tool.log 2>&1 </dev/null || true
    recognised "fat without a name" a
    recognised mbr b
    written "msx floppy, packed" 2048 0 'PCK\x08'
}

@test "what file(1) knows besides: Famicom, Spectrum, DiscFerret, T98, HxC" {
    written "famicom disk" 65516 0 'FDS\x1a'
    written "spectrum hard disk" 65536 0 'RS-IDE\x1a'
    written "spectrum floppy" 4096 0 SINCLAIR
    written discferret 4096 0 DFE2
    written "t98 floppy" 4096 0 T98FDDIMAGE.R0
    written "t98 hard disk" 4096 0 T98HDDIMAGE.R0
    written "hxc floppy" 4096 0 'HXCMFM\0'
}

@test "imgtool: an Amiga floppy, and what else begins with DOS" {
    quiet imgtool create amiga_floppy a
    recognised adf a
    put a 3 '\7'
    recognised adf a
    put a 3 '\10'
    unrecognised a
    printf 'DOS\1 and something more' >b
    unrecognised b
}

@test "other containers of Amiga floppies" {
    written "adf, extended" 4096 0 'UAE-1ADF'
    written "adf, extended, old" 4096 0 'UAE--ADF'
    written dms 4096 0 'DMS!'
    written ipf 4096 0 'CAPS\0\0\0\014'
    echo 'CAPS LOCK IS STILL ON' >a
    unrecognised a
}

@test "cc1541 and floptool: d64, d71, d81, g64" {
    quiet cc1541 -n test a.d64
    mv a.d64 a
    recognised d64 a
    quiet cc1541 -4 -n test b.d64 # 40 tracks
    mv b.d64 b
    recognised d64 b
    quiet cc1541 -n test c.d71
    mv c.d71 c
    recognised d71 c
    quiet cc1541 -n test d.d81
    mv d.d81 d
    recognised d81 d
    quiet floptool flopconvert d64 g64 a e
    recognised g64 e
    # With error bytes, and the 42 tracks of some drives.
    local size
    for size in 175531 197376 205312 206114; do
        cp a f
        truncate -s $size f
        recognised d64 f
    done
    truncate -s 351062 c
    recognised d71 c
    truncate -s 822400 d
    recognised d81 d
    printf x >>b
    unrecognised b
}

@test "other containers of Commodore floppies" {
    written g71 4096 0 'GCR-1571\0'
    written p64 4096 0 'P64-1541\0'
    written nib 4096 0 'MNIB-1541-RAW\1'
    written x64 4096 0 '\0103\0025\0101\0144\1'
}

@test "hmsa, floptool: msa; other containers of Atari floppies" {
    quiet hmsa a.msa DS
    mv a.msa a
    recognised msa a
    quiet hmsa b.st DS
    quiet floptool flopconvert st msa b.st c
    recognised msa c
    written stx 4096 0 'RSY\0\3\0'
    written atx 4096 0 'AT8X\1\0'
    local size
    for size in '\0200\0' '\0\1' '\0\2'; do
        written atr 92176 0 '\0226\2' 4 "$size"
    done
    local change
    for change in '2 \0\0' '2 \0\045' '4 \0\2' '6 \0\0127' '8 \0\0127'; do
        cp a changed
        put changed "${change%% *}" "${change#* }"
        unrecognised changed
    done
    truncate -s 92176 d
    put d 0 '\0226\2\0\0\0\3'
    unrecognised d
}

@test "chdman: chd" {
    truncate -s 1M raw
    quiet chdman createhd -i raw -o a
    recognised chd a
}

@test "dskform: cpc dsk and edsk, imagedisk, teledisk, copyqm, ldbs, qrst, sap, yaze" {
    local type name
    while read -r type name; do
        quiet dskform -type "$type" -format ibm720 "$type"
        recognised "$name" "$type"
    done <<'TYPES'
dsk cpc dsk
edsk cpc edsk
imd imagedisk
tele teledisk
copyqm copyqm
ldbs libdsk block store
qrst qrst
sap sap
ydsk yaze
TYPES
    put tele 0 td
    recognised "teledisk, compressed" tele
    put tele 4 '\026'
    unrecognised tele
    put tele 0 TD
    unrecognised tele
    printf 'IMD 1.18: 22/11/2026 01:48:35\r\n\032' >plain
    recognised imagedisk plain
    echo 'IMD is: an abbreviation' >text
    unrecognised text
}

@test "floptool: a MAME floppy; other containers of floppies" {
    quiet floptool flopcreate mfi u35dsdd a
    recognised "mame floppy" a
    written "mess floppy" 4096 0 'MESSFLOPPYIMAGE\0'
    written apridisk 4096 0 'ACT Apricot disk image\032\4'
    written hfe 4096 0 'HXCPICFE\0'
    written "hfe 3" 4096 0 'HXCHFEV3\0'
    written "86box floppy" 4096 0 '86BF\014\2'
    written scp 4096 0 'SCP\0030\0200\5\0\0247\0\0\0'
    local change
    for change in '5 \0' '5 A' '6 \5' '7 \0250' '10 \3'; do
        truncate -s 0 b
        truncate -s 4096 b
        put b 0 'SCP\0030\0200\5\0\4\0\0\0'
        recognised scp b
        put b "${change%% *}" "${change#* }"
        unrecognised b
    done
}

@test "d88: no magic, but a size that is right and a track table behind it" {
    # 344032 is 0x53fe0.
    written d88 344032 28 '\0340\077\5\0' 0 'a disk' 32 '\0240\2\0\0'
    written d88 344048 28 '\0360\077\5\0' 0 'a disk' 27 '\020' 32 '\0260\2\0\0'
    local change
    for change in '16 x' '25 x' '26 \1' '27 \5' '27 \0120' '32 \0241'; do
        truncate -s 0 a
        truncate -s 344032 a
        put a 28 '\0340\077\5\0\0240\2\0\0'
        recognised d88 a
        put a "${change%% *}" "${change#* }"
        unrecognised a
    done
}

@test "d88 and d64 where no other byte makes anybody look" {
    # Zeros begin what many rows look for further in.
    head -c 174848 /dev/zero | tr '\0' '\345' >a
    unrecognised a
    put a 91392 '\022\001A'
    recognised d64 a
    # 1261744 is 0x1340b0, and no floppy's size.
    head -c 1261744 /dev/zero | tr '\0' '\345' >b
    put b 16 '\0\0\0\0\0\0\0\0\0\0\0\040'
    unrecognised b
    put b 28 '\0260\0100\023\0\0240\2\0\0'
    recognised d88 b
}

# ---- archives and forensics ------------------------------------------------------------------------------------------

@test "wimcapture: wim, esd, and the one for pipes" {
    quiet wimcapture tree a
    recognised wim a
    quiet wimcapture --solid tree b
    recognised wim b
    quiet wimcapture --pipable tree c
    recognised "wim, pipable" c
}

@test "ewfacquire, affconvert: ewf, aff" {
    truncate -s 1M "$PWD/disk.raw"
    quiet ewfacquire -u -q -t "$PWD/disk" -f encase6 "$PWD/disk.raw"
    mv disk.E01 a
    recognised ewf a
    written "ewf 2" 4096 0 'EVF2\r\n\0201\0\2\1'
    quiet affconvert disk.raw
    mv disk.aff b
    recognised aff b
}

@test "aaruformat" {
    written aaruformat 4096 0 'AARUFRMT'
    written "aaruformat, old" 4096 0 'DICMFRMT'
}

# ---- names -----------------------------------------------------------------------------------------------------------

# Every extension, beside the format that it tells.
names() {
    cat <<'NAMES'
qcow: qcow qcow2 qcow3 cow
qed: qed
vmdk: vmdk
vdi: vdi
vhd dynamic: vhd vpc avhd
vhdx: vhdx avhdx
parallels: hdd hds
cloop: cloop
raw: img raw bin dd image
dmg: dmg
sparseimage: sparseimage
asif: asif
diskcopy 4.2: dc42
luks: luks
iso 9660: iso
udf: udf
raw cd: mdf
nero: nrg
mds: mds
ciso: cso ciso
ziso: zso
wbfs: wbfs
rvz: rvz
wia: wia
fat12: ima flp vfd vfat
fat without a name: st
exfat: exfat
ntfs: ntfs
ext2, ext3 or ext4: ext2 ext3 ext4
xfs: xfs
btrfs: btrfs
f2fs: f2fs
erofs: erofs
squashfs: sqsh squashfs sqfs snap
hfs: hfv
prodos: hdv
amiga rdb: hdf
simh disk: rm03 rm05 rm80 rp03 rp05 rp07 ra60 ra70 ra80 ra82 ra90 ra92 rd31 rd32 rd51 rd53 rx33
tape: tap tpc dt8 dt10 dt11 t64 tzx cas
ckd disk: ckd
ckd disk, compressed: cckd
ckd disk, large: ckd64
ckd disk, large, compressed: cckd64
fba disk, compressed: cfba
fba disk, large, compressed: cfba64
fba disk: fba fba64
aws tape: aws
het tape, zlib: het
floppy of other machines: 1dd ufi jfd di1 di2 hdi
msx floppy, packed: xsa
famicom disk: fds
spectrum floppy: scl
discferret: dfi
t98 floppy: nfd
t98 hard disk: nhd
hxc floppy: hxcmfm
bochs growing: redolog
simh container: rk05 rk06 rk07 rl01 rl02 rp04 rp06 rx01 rx02 rx50 ra81 rd54
disk: dsk
floppy: ssd dsd adl trd mgt opd dmk jvc vdk xdf hdm dim fdi fdd d67 d80 d82
adf: adf
dms: dms
ipf: ipf
d64: d64
d71: d71
d81: d81
g64: g64
g71: g71
p64: p64
nib: nib
x64: x64
2img: 2mg 2img
woz 1: woz
a2r 1: a2r
moof: moof
msa: msa
stx: stx
atx: atx
atr: atr
chd: chd
imagedisk: imd
teledisk: td0
copyqm: cqm
libdsk block store: ldbs
sap: sap
yaze: ydsk
hfe: hfe
cpc edsk: edsk
scp: scp
mame floppy: mfi
86box floppy: 86f
d88: d88 d77
wim: wim esd
aaruformat: aif dicf aaruf
ewf: e01
ewf 2: ex01
aff: aff
NAMES
}

# named LINE FILE...: identify's answer for files that are empty.
named() {
    local name=$1 file
    shift
    touch -- "$@"
    "$HELPERS/identify" "$@" >answers
    for file; do printf 'by name: %s  by content: -  %s\n' "$name" "$file"; done >expected
    diff expected answers >differences || fail "$(cat differences)"
}

@test "every extension, in small and capital letters, tells the format by name" {
    local line extension files
    while IFS= read -r line; do
        files=()
        for extension in ${line##*: }; do
            files+=("a.$extension" "b.${extension^^}" "c.d.${extension^}")
        done
        named "${line%: *}" "${files[@]}"
    done < <(names)
}

@test "no extension of the table is missing from this file, and no format" {
    local listed tabled name missing=
    listed=$(names | sed 's/.*: //' | tr ' ' '\n' | sort)
    # "do" and "po" need a size as well.
    tabled=$(sed -n 's/^FORMAT("[^"]*", "\([^"]*\)".*/\1/p' "$TOP/shim/formats.def" | tr ' ' '\n' | sed '/^$/d' |
        grep -vxE 'do|po' | sort)
    assert_equal "$listed" "$tabled"
    while IFS= read -r name; do
        case $name in
        # Told by their names alone.
        raw | disk | floppy | "simh disk" | tape | "floppy of other machines") continue ;;
        # Named with a number in a loop above.
        "amiga rdb in sector "* | "lvm2 in sector "* | "swap, "*" KiB pages" | "luks second header, "*) continue ;;
        esac
        grep -qE "(recognised|written|name=|content:) *\"?$(printf %s "$name" | sed 's/[.+]/\\&/g')(\"| )" \
            "$BATS_TEST_FILENAME" || grep -qE "^[A-Za-z]+ $name$" "$BATS_TEST_FILENAME" || missing+="$name; "
    done < <(sed -n 's/^FORMAT("\([^"]*\)".*/\1/p' "$TOP/shim/formats.def")
    assert_equal "$missing" ""
}

# refuses NAME: a test of this file in which the format occurs has something that is none.
refuses() {
    awk -v name="$1" '/^@test/ { here = none = 0 }
        index($0, name) { here = 1 }
        $1 == "unrecognised" { none = 1 }
        /^}/ && here && none { found = 1 }
        END { exit !found }' "$BATS_TEST_FILENAME"
}

@test "each closer look of the table has something here that it refuses" {
    local check name checks found missing=
    checks=$(sed -n 's/^FORMAT(.*, \([a-z0-9_]*\)).*/\1/p' "$TOP/shim/formats.def" | grep -vx always | sort -u)
    [ "$(wc -l <<<"$checks")" -gt 20 ] || fail "the table cannot be read"
    for check in $checks; do
        found=
        while IFS= read -r name; do
            ! refuses "$name" || found=yes
        done < <(sed -n "s/^FORMAT(\"\([^\"]*\)\".*, $check).*/\1/p" "$TOP/shim/formats.def")
        [ "$found" ] || missing+=" $check"
    done
    assert_equal "$missing" ""
}

@test "names that tell nothing" {
    mkdir a.img disk.sparsebundle
    named - qcow2 img a.img2 a.qcow2x a.xqcow2 a. .a a.qcow2. a.qcow2~ 'a.img ' a..b a.img/file \
        $'a.\303\266mg' a.123456789012img a.overlylongextension disk.sparsebundle/token
}

@test "a band of a sparse bundle is told by its directory" {
    mkdir -p disk.sparsebundle/bands other/bands
    named "sparsebundle band" disk.sparsebundle/bands/0 disk.sparsebundle/bands/1f
    named - other/bands/0 disk.sparsebundle/bands/lock disk.sparsebundle/bands/ca-fe
}

# ---- what is no image ------------------------------------------------------------------------------------------------

@test "ordinary files are no images" {
    python3 - <<'PYTHON'
import gzip, lzma, marshal, os, py_compile, random, sqlite3, struct, tarfile, zipfile, zlib, bz2
text = b'# Description of a disk\nEvery line is text.\n' * 200
def write(name, content):
    with open(name, 'wb') as file: file.write(content)
write('text', text)
write('script', b'#!/bin/sh\necho "QFI"\n' * 50)
write('gzip', gzip.compress(text))
write('xz', lzma.compress(text))
write('bzip2', bz2.compress(text))
write('zlib', zlib.compress(text, 9))
with tarfile.open('tar', 'w') as tar: tar.add('text')
with zipfile.ZipFile('zip', 'w') as archive: archive.write('text')
database = sqlite3.connect('sqlite')
database.execute('create table t (a)')
database.commit()
chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
write('png', b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 64, 64, 8, 2, 0, 0, 0)) +
      chunk(b'IDAT', zlib.compress(bytes(64 * 193))) + chunk(b'IEND', b''))
write('jpeg', b'\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0' + bytes(range(256)) * 8)
write('pdf', b'%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n' * 20)
random.seed(1)
for i in range(100): write('random%d' % i, random.randbytes(4096 + i % 3))
# Compiled modules of few lines have a size in their headers, as D88 does.
os.mkdir('modules')
for i in range(100):
    write('modules/m%d.py' % i, b'a%d = %d\n' % (i, i) + b'"""' + b'x' * i + b'"""\n')
    py_compile.compile('modules/m%d.py' % i, 'module%d' % i)
# The setup header of a Linux kernel looks like a partition table; with and without the head of an EFI program.
header = bytes(497 - 2) + struct.pack('<BHIHHHH', 39, 1, 600000, 0, 0xffff, 0x801, 0xaa55) + b'\xeb\x6aHdrS'
write('kernel', (b'MZ' + header).ljust(8192, b'\0'))
write('kernel1', (b'\xea\x05' + header).ljust(8192, b'\0'))
write('efi', (b'MZ' + bytes(508) + b'\x55\xaa').ljust(8192, b'\0'))
write('no_label', bytes(510) + b'\xda\xbe' + bytes(range(1, 200)))
PYTHON
    cp /bin/bash elf
    cp /usr/bin/ldd script2
    : >empty
    head -c 511 random0 >random.511
    mv random.511 random_511
    truncate -s 511 zeros_511
    # Zeros of floppies' sizes, and of any.
    local size
    for size in 512 143360 163840 174848 349696 737280 819200 901120 1048576 1474560; do
        truncate -s $size zeros_$size
    done
    local file files=()
    for file in *; do [ -d "$file" ] || files+=("$file"); done
    [ ${#files[@]} -gt 220 ] || fail "only ${#files[@]} files"
    run "$HELPERS/identify" "${files[@]}"
    assert_success
    refute_output --regexp 'by content: [^-]'
    assert_equal "${#lines[@]}" "${#files[@]}"
}

@test "the programs and documents of this machine are no images" {
    local count
    find /usr/bin /usr/sbin /etc /usr/lib/python3* /usr/share/doc -xdev -type f -size +0 -readable -print0 2>/dev/null |
        head -z -n 8000 | xargs -0 "$HELPERS/identify" >answers
    count=$(wc -l <answers)
    [ "$count" -gt 500 ] || fail "only $count files"
    run grep -v 'by content: -' answers
    assert_output ""
}

# ---- how it looks ----------------------------------------------------------------------------------------------------

# reads FILE: how often identify reads its content.
reads() {
    strace -y -o trace -e trace=pread64 "$HELPERS/identify" "$1" >/dev/null
    grep -c "pread64([0-9]*<$(realpath "$1")>" trace || true
}

@test "a file that is no image is read once, and one that is all zeros a few times more" {
    cp /bin/bash program
    truncate -s 1M zeros
    cp program "$(printf 'floppy')"
    truncate -s 174848 floppy
    assert_equal "$(reads program)" 1
    assert_equal "$(reads floppy)" 2
    [ "$(reads zeros)" -le 12 ] || fail "$(grep -c pread64 trace) reads"
    : >empty
    head -c 15 program >tiny
    assert_equal "$(reads empty)" 0
    assert_equal "$(reads tiny)" 0
}

@test "files of proc and sysfs are never read" {
    local file none=yes
    for file in /proc/kcore /proc/self/mem /proc/version /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/notes \
        /sys/kernel/vmcoreinfo /sys/power/state; do
        [ -r "$file" ] || continue
        none=
        strace -f -y -o trace -e trace=read,pread64,readv,preadv,preadv2 "$HELPERS/identify" $file >/dev/null
        run grep -F "<$(realpath -s $file)>" trace
        assert_output ""
        # Under the library; opened for writing, too, where the look takes a second descriptor.
        # shellcheck disable=SC2016
        strace -f -y -o trace -E LD_PRELOAD="$SHIM" -e trace=pread64 sh -c ': <"$1"; : >>"$1"' sh $file 2>errors || true
        run grep -E "pread64\([0-9]+<(/proc|/sys)" trace
        assert_output ""
    done
    [ -z "$none" ] || skip "no such files here"
    # The same look does read a file on disk.
    cp /bin/bash program
    strace -f -y -o trace -E LD_PRELOAD="$SHIM" -e trace=pread64 sh -c ': <program'
    run grep -cE "pread64\([0-9]+<$(realpath program)>" trace
    assert_output 1
}

@test "the look at a fresh file leaves its access time alone" {
    quiet qemu-img create -f qcow2 image 8M
    cp /bin/bash program
    truncate -s 1M zeros
    printf x >control
    local file before
    for file in image program zeros control; do touch -a -d '1 hour ago' $file; done
    before=$(stat -c %x control)
    cat control >/dev/null
    [ "$(stat -c %x control)" != "$before" ] || skip "a read moves no access time on this file system"
    for file in image program zeros; do
        before=$(stat -c %x $file)
        "$HELPERS/identify" $file >/dev/null
        assert_equal "$(stat -c %x $file)" "$before"
        # With O_DIRECT, and of a file that a day has passed by.
        "$HELPERS/identify" -d $file >/dev/null
        assert_equal "$(stat -c %x $file)" "$before"
        touch -d '2 days ago' $file
        before=$(stat -c %x $file)
        "$HELPERS/identify" $file >/dev/null
        assert_equal "$(stat -c %x $file)" "$before"
    done
}

@test "O_DIRECT" {
    quiet qemu-img create -f qcow2 image 8M
    truncate -s 8M vhd
    put vhd -512 'conectix'
    sync vhd
    run "$HELPERS/identify" -d image
    assert_output "by name: -  by content: qcow  image"
    # The zeros at the start are a hole, so that the last read is the first one to ask for alignment.  Where the stack is
    # differs from run to run.
    for _ in {1..50}; do
        run "$HELPERS/identify" -d vhd
        assert_output "by name: -  by content: vhd fixed  vhd"
    done
}

# ---- under the library -----------------------------------------------------------------------------------------------

@test "an image without an extension is refused to the second program" {
    quiet qemu-img create -f qcow2 disk 8M
    refused_untouched disk dd if=/dev/zero of=disk bs=1 count=1 conv=notrunc
    refused_untouched disk cat disk
    refused_untouched disk sh -c ': >disk'
    run wrapped qemu-img info disk
    assert_success
}

@test "so are one told by its end, one behind zeros, and one told by its size" {
    quiet qemu-img create -f vpc -o subformat=fixed vhd 8M
    truncate -s 8M swap
    quiet mkswap swap
    quiet cc1541 -n test a.d64
    mv a.d64 floppy
    local file
    for file in vhd swap floppy; do
        refused_untouched $file dd if=/dev/zero of=$file bs=1 count=1 conv=notrunc
    done
}

@test "a file that only looks like an image costs a lock and nothing else" {
    { echo COWD, the word; seq 1000; } >letter
    cp letter copy
    run wrapped cat letter
    assert_success
    assert_equal "$output" "$(cat copy)"
    wrapped sh -c 'echo more >>letter'
    echo more >>copy
    cmp letter copy
    [ -e "$(lock_file letter)" ] || fail "no lock was taken"
    wrapped cat /usr/bin/ldd >/dev/null
    [ ! -e "$(lock_file /usr/bin/ldd)" ] || fail "a lock was taken for an ordinary file"
}
