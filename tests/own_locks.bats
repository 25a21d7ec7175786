#!/usr/bin/env bats
# own_locks.bats: programs that lock their image themselves: the same results bare and wrapped, and imglock sees their locks.
# shellcheck disable=SC2016,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    MOUNTED=
}

teardown() {
    [ -z "$MOUNTED" ] || umount -l "$MOUNTED" 2>/dev/null || true
    common_teardown
}

# with wrapped|bare: WITH is what a command is to be begun with.
with() {
    WITH=(env -u LD_PRELOAD)
    [ "$1" = bare ] || WITH=(env LD_PRELOAD="$SHIM")
}

# not_here wrapped|bare WHY: without the library it is this machine's doing.
not_here() {
    [ "$1" = wrapped ] || skip "$2"
    fail "$2"
}

# on_it DIRECTORY: what one does with a mounted file system, and what comes of it.
on_it() {
    echo text >"$1/file" && cat "$1/file"
    mkdir "$1/directory" && head -c 100000 /dev/zero >"$1/directory/zeros" && sha1sum <"$1/directory/zeros"
    mv "$1/file" "$1/directory" && ls -R "$1" | tail -n +2
    sync "$1/directory/zeros"
}

@test "ntfs-3g: mounts, works, keeps a second one out and unmounts as without the library; a wrapped dd stays out" {
    needs ntfs-3g mkntfs
    # For others it is a set-user-ID program.
    needs_root
    [ -r /dev/fuse ] || skip "no FUSE here"
    local how who end
    mkdir mnt other
    for how in bare wrapped; do
        with $how
        rm -f disk.img
        truncate -s 8M disk.img
        "${WITH[@]}" mkntfs -q -F disk.img >mkntfs.$how 2>&1
        # In the foreground: its lock does not survive becoming a daemon.
        "${WITH[@]}" ntfs-3g -o no_detach "$PWD/disk.img" mnt >ntfs.$how 2>&1 3>&- &
        HOLDER=$!
        HOLDERS+=("$HOLDER")
        eventually is_mounted mnt "$HOLDER"
        mountpoint -q mnt || not_here $how "nothing can be mounted here: $(cat ntfs.$how)"
        MOUNTED=$PWD/mnt
        end=$((SECONDS + ${MOUNTED_SECONDS:-0}))
        # Nothing of it moves while others try: what it has not written yet, it writes now.
        on_it mnt >did.$how 2>&1
        eventually is_quiet disk.img
        who="in use by ntfs-3g (pid $HOLDER, user $(id -un)): it has locked the file for itself"
        [ $how = bare ] || who="locked exclusively by ntfs-3g (pid $HOLDER, user $(id -un)"
        while :; do
            stays_out disk.img "$who" dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
            stays_out disk.img "$who" dd if=/dev/zero of=disk.img bs=512 count=1 status=none
            stays_out disk.img "$who" dd if=disk.img of=/dev/null status=none
            [ "$SECONDS" -lt "$end" ] || break
            read -rt 1 <> <(:) || true
        done
        # Without the library, its lock alone keeps these out.
        { ntfs-3g "$PWD/disk.img" other 2>&1 || echo "status $?"; } >second.$how
        run qemu-io -f raw -c 'write -q 0 512' disk.img
        echo "$output" | sed 's/^qemu-io: [^:]*: //' >>second.$how
        umount mnt
        MOUNTED=
        wait "$HOLDER"
        run wrapped dd if=/dev/zero of=disk.img bs=512 count=1 seek=10000 conv=notrunc status=none
        assert_success
        assert_output ''
        "${WITH[@]}" ntfsls disk.img >>did.$how
    done
    diff did.bare did.wrapped
    diff second.bare second.wrapped
    grep -q zeros did.bare
    grep -qi 'lock' second.bare
}

# is_mounted AT PID: or that one has given up.
is_mounted() { mountpoint -q "$1" || is_gone "$2"; }

# is_quiet FILE: has it stayed as it is, for a second?
is_quiet() {
    local before i
    before=$(fingerprint "$1")
    for ((i = 0; i < 10; i++)); do
        read -rt 0.1 <> <(:) || true
        [ "$(fingerprint "$1")" = "$before" ] || return
    done
}

@test "cryptsetup: makes a volume, adds and removes a passphrase, tests it and keeps its header as without the library" {
    needs cryptsetup
    local how quickly=(--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode)
    step() {
        local status=0
        "${WITH[@]}" cryptsetup "${@:2}" || status=$?
        echo "$1 $status"
    }
    echo one >one
    echo two >two
    for how in bare wrapped; do
        with $how
        rm -f disk.img header
        truncate -s 20M disk.img
        {
            step format luksFormat "${quickly[@]}" disk.img one
            step add luksAddKey "${quickly[@]}" --key-file one disk.img two
            step test open --test-passphrase --key-file two disk.img
            step backup luksHeaderBackup disk.img --header-backup-file header
            step remove luksRemoveKey disk.img one
            step 'test again' open --test-passphrase --key-file one disk.img
            step restore luksHeaderRestore --batch-mode disk.img --header-backup-file header
            step 'and again' open --test-passphrase --key-file one disk.img
            step is isLuks disk.img
            "${WITH[@]}" cryptsetup luksDump disk.img | grep -v 'UUID\|Salt\|Digest\|^[[:space:]]*[0-9a-f ]*$'
        } >results.$how 2>&1
    done
    grep -qx 'test 0' results.bare || skip "cryptsetup opens no volume here"
    diff results.bare results.wrapped
    grep -qx 'and again 0' results.bare
    hold disk.img write
    stays_out disk.img "locked exclusively by holder (pid $HOLDER" \
        cryptsetup luksAddKey "${quickly[@]}" --key-file one disk.img two
}

# Two processes that lock an image for themselves, by turns, as a script says: whole and by single bytes, exclusively and
# shared, waiting and not.
TWO='
import fcntl, os, struct, sys
def lock(image, kind, start, length, wait=False):
    try:
        fcntl.lockf(image, kind | (0 if wait else fcntl.LOCK_NB), length, start)
        return "locked"
    except OSError as error:
        return error.strerror
def seen(image, kind, start, length):
    got = struct.unpack("hhqqi4x", fcntl.fcntl(image, fcntl.F_GETLK, struct.pack("hhqqi4x", kind, 0, start, length, 0)))
    return "free" if got[0] == fcntl.F_UNLCK else (got[0], got[2], got[3], got[4] == os.getppid())
go, came = os.pipe(), os.pipe()
image = os.open("disk.img", os.O_RDWR)
# Whoever has asked has no marks, nor have its children: a lock of its own is set beside those of relatives, not over them.
seen(image, fcntl.F_WRLCK, 0, 0)
child = os.fork()
if child == 0:
    os.close(image)
    image = os.open("disk.img", os.O_RDWR)
    for kind, start, length in eval(sys.argv[1]):
        os.read(go[0], 1)
        for mine, at, size in ((fcntl.LOCK_SH, 0, 0), (fcntl.LOCK_EX, 0, 0), (fcntl.LOCK_SH, 101, 1), (fcntl.LOCK_EX, 203, 1), (fcntl.LOCK_EX, 0, 1)):
            print(kind, start, length, mine, at, size, lock(image, mine, at, size), flush=True)
            fcntl.lockf(image, fcntl.LOCK_UN)
        print(kind, start, length, [seen(image, mine, at, size) for mine in (fcntl.F_RDLCK, fcntl.F_WRLCK) for at, size in ((0, 0), (1, 1), (100, 1), (203, 1), (500, 0))], flush=True)
        os.write(came[1], b"x")
        # Until the other lets it go.
        print(lock(image, fcntl.LOCK_EX, start, length, True), flush=True)
        fcntl.lockf(image, fcntl.LOCK_UN)
        os.write(came[1], b"x")
    os._exit(0)
for kind, start, length in eval(sys.argv[1]):
    print(kind, start, length, lock(image, kind, start, length), flush=True)
    os.write(go[1], b"x")
    os.read(came[0], 1)
    fcntl.lockf(image, fcntl.LOCK_UN)
    os.read(came[0], 1)
os.waitpid(child, 0)'
LOCKS='[(kind, start, length) for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH) for start, length in ((0, 0), (0, 1), (1, 1), (100, 1), (101, 1), (201, 1), (203, 1), (500, 1))]'

@test "python: two processes that lock a whole image and single bytes of it, by turns, do so as without the library" {
    needs python3
    local mode
    truncate -s 64K disk.img
    timeout 300 python3 -c "$TWO" "$LOCKS" >bare 2>&1
    for mode in auto shared; do
        IMGLOCK_MODE=$mode wrapped timeout 300 python3 -c "$TWO" "$LOCKS" >wrapped 2>&1
        diff bare wrapped
    done
    grep -q 'Resource temporarily unavailable' bare
    [ "$(grep -c . bare)" = 128 ]
}

# What the machine of user-mode Linux does with its disk: nothing, until it is told to end.
uml_machine() {
    mkdir -p root/dev
    cp "$(command -v busybox)" root/busybox
    cat >root/init <<'END'
#!/busybox sh
/busybox mount -t devtmpfs none /dev
exec 3<>/dev/ubda && echo "the disk is open"
read line
exec 3>&-
/busybox poweroff -f
END
    chmod +x root/init
    (cd root && find . | cpio -o -H newc --quiet >../initrd)
    UML=(linux.uml ubda=disk.img mem=64M initrd=initrd con=null 'con0=fd:0,fd:1' quiet)
}

@test "user-mode Linux: has its disk, and keeps a second one out, as without the library; a wrapped dd stays out" {
    needs linux.uml cpio
    file -L "$(command -v busybox)" | grep -q 'statically linked' || skip "there is no static busybox"
    local how who
    export HOME=$PWD
    uml_machine
    truncate -s 4M disk.img
    mkfifo stdin
    exec 8<>stdin
    for how in bare wrapped; do
        with $how
        : >machine
        "${WITH[@]}" "${UML[@]}" <stdin >machine 2>&1 3>&- 8>&- &
        HOLDER=$!
        HOLDERS+=("$HOLDER")
        eventually is_up "$HOLDER"
        grep -q 'the disk is open' machine || not_here $how "user-mode Linux does not run here: $(cat machine)"
        who="in use by linux.uml (pid $HOLDER, user $(id -un)): it has locked the file for itself"
        [ $how = bare ] || who="locked exclusively by linux.uml (pid $HOLDER, user $(id -un)"
        stays_out disk.img "$who" dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
        stays_out disk.img "$who" dd if=disk.img of=/dev/null status=none
        timeout 300 "${UML[@]}" </dev/null >second 2>&1 3>&- 8>&- || true
        { grep -c 'the disk is open' second; grep -o 'F_SETLK failed\|Failed to open .*' second; } >results.$how || true
        echo end >&8
        wait "$HOLDER"
        run wrapped dd if=/dev/zero of=disk.img bs=512 count=1 conv=notrunc status=none
        assert_success
        assert_output ''
    done
    diff results.bare results.wrapped
    grep -q 'F_SETLK failed' results.bare
}

is_up() { grep -q 'the disk is open' machine || is_gone "$1"; }
