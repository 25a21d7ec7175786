# pairs.bash: for the tests of pairs.table: programs that keep an image open, and programs that come to it, each with and
# without the library.
#
# shellcheck disable=SC2034 # what tests read

# ---- who has it ---------------------------------------------------------------------------------------------

# pairs_setup: an image, and what those who copy to it copy.
pairs_setup() {
    IMAGE=$BATS_TEST_TMPDIR/disk.img
    LOOPS=()
    # A boot sector that halts, for libvirt's machines.
    printf '\xf4\xeb\xfd' >"$IMAGE"
    truncate -s 510 "$IMAGE"
    printf '\x55\xaa' >>"$IMAGE"
    head -c 1048064 /dev/urandom >>"$IMAGE"
    # Reading moves no time stamp, so that a guest that boots changes nothing.
    touch -a -d tomorrow "$IMAGE"
    head -c 1M /dev/urandom >source
    mkfifo stdin endless
    : >stdout
    exec 8<>stdin 7<>endless
    export SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy HOME=$BATS_TEST_TMPDIR
}

pairs_teardown() {
    local loop
    common_teardown
    for loop in "${LOOPS[@]}"; do losetup -d "$loop" 2>/dev/null || true; done
}

# programs NAME: what a line or a column of pairs.table needs.
programs() {
    case $1 in
    system | qemu-system-x86_64) echo qemu-system-x86_64 ;;
    nbd) echo qemu-nbd ;;
    daemon) echo qemu-storage-daemon ;;
    img | info) echo qemu-img ;;
    io | qemu-io-reads) echo qemu-io ;;
    mkfs) echo mkfs.ext4 ;;
    static*) echo busybox ;;
    libvirt) echo qemu-system-x86_64 libvirtd virtlockd virsh ;;
    *) echo "${1%-reads}" ;;
    esac
}

# are_here PROGRAM...
are_here() {
    local program
    for program in "$@"; do PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || return; done
}

# with wrapped|bare: WITH is what a command is to be begun with.
with() {
    WITH=(env -u LD_PRELOAD)
    [ "$1" = bare ] || WITH=(env LD_PRELOAD="$SHIM")
}

# keeps COMMAND...: in the background, and nothing comes on its standard input but by "tells".  Sets HOLDER.
keeps() {
    "${WITH[@]}" "$@" <stdin >stdout 2>stderr 3>&- 7>&- 8>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
}

tells() { printf '%s\n' "$@" >&8; }

# is_open read|write FILE: the holder has it open.
is_open() {
    local mode=u=r
    [ "$1" = read ] || mode=u=w
    [ -n "$(find "/proc/$HOLDER/fd" -lname "$2" -perm "-$mode" 2>/dev/null)" ]
}

# has_it read|write: open, and with the library locked and marked, too.
has_it() {
    is_open "$1" "$IMAGE" || return
    [ "${WITH[1]}" != -u ] || return 0
    [ "$("$HELPERS/client_lock" "$(lock_file "$IMAGE")" 2>/dev/null)" = "$([ "$1" = read ] && echo shared || echo exclusive)" ] &&
        [ -n "$("$HELPERS/lock_query" "$IMAGE")" ]
}

machine=(qemu-system-x86_64 -machine pc -accel tcg -m 32 -nodefaults -no-user-config -display none -S -monitor stdio)
dosbox=(dosbox -noconsole -conf /dev/null -c 'imgmount 2 disk.img -t hdd -fs none -size 512,63,16,2')

# daemon SOCKET: what qemu-storage-daemon is called with.
daemon() {
    DAEMON=(qemu-storage-daemon --blockdev "driver=file,filename=$IMAGE,node-name=disk"
        --nbd-server "addr.type=unix,addr.path=$PWD/$1" --export 'type=nbd,id=export,node-name=disk,writable=on'
        --chardev 'stdio,id=qmp' --monitor chardev=qmp)
}

# holds HOLDER wrapped|bare: the program has the image when this returns.  WHO is what it is called in a refusal.
holds() {
    local how='write' read_only=()
    # shellcheck disable=SC2046 # words
    are_here $(programs "$1") || skip "not installed: one of $(programs "$1")"
    with "$2"
    case $1 in *-reads) how='read' read_only=(-r) ;; esac
    case $1 in
    qemu-system-x86_64)
        keeps "${machine[@]}" -drive "file=$IMAGE,format=raw,if=ide"
        eventually grep -q '(qemu)' stdout
        ;;
    qemu-nbd)
        keeps qemu-nbd -f raw -k "$PWD/socket" --persistent "$IMAGE"
        eventually test -S socket
        ;;
    qemu-storage-daemon)
        daemon socket
        keeps "${DAEMON[@]}"
        eventually grep -q '"QMP"' stdout
        ;;
    qemu-img)
        # A byte a second, after the first 2 MiB.
        head -c 4M /dev/urandom >source
        truncate -s 4M "$IMAGE"
        keeps qemu-img convert -n -f raw -O raw -r 1 source "$IMAGE"
        eventually cmp -s -n 2M source "$IMAGE"
        ;;
    qemu-io | qemu-io-reads)
        keeps qemu-io "${read_only[@]}" -f raw "$IMAGE"
        tells 'read 0 512'
        eventually grep -q 'read 512' stdout
        ;;
    dosbox) keeps "${dosbox[@]}" ;;
    dd) keeps dd of="$IMAGE" conv=notrunc status=none ;;
    dd-reads) keeps dd if="$IMAGE" of=endless status=none ;;
    mkfs)
        # It has the image when it asks which blocks are bad.
        keeps mkfs.ext4 -q -F -l endless "$IMAGE"
        eventually is_open read "$PWD/endless"
        ;;
    cp) keeps cp endless "$IMAGE" ;;
    losetup | losetup-reads)
        LOOP=$("${WITH[@]}" losetup "${read_only[@]}" --find --show "$IMAGE" 2>losetup.log) ||
            skip "no loop devices here: $(cat losetup.log)"
        LOOPS+=("$LOOP")
        WHO="loop device $LOOP"
        return
        ;;
    static | static-reads)
        if [ "$2" = bare ]; then
            background "$HELPERS/outsider" "$how" "$IMAGE"
        else
            background "$IMGLOCK" hold "$([ "$how" = read ] && echo -s || echo -x)" "$IMAGE" -- "$HELPERS/outsider" "$how" "$IMAGE"
        fi
        WHO="$(cat "/proc/$HOLDER/comm") (pid $HOLDER, user "
        return
        ;;
    libvirt)
        libvirt_machine holder "$2"
        HOLDER=$(libvirt_pid holder)
        ;;
    esac
    eventually has_it "$how"
    WHO="$(cat "/proc/$HOLDER/comm") (pid $HOLDER, user "
}

# ---- who comes ----------------------------------------------------------------------------------------------

# comer NAME: runs it, by WITH.
comer() {
    case $1 in
    system) echo quit | "${WITH[@]}" "${machine[@]}" -drive "file=$IMAGE,format=raw,if=ide" ;;
    nbd)
        "${WITH[@]}" qemu-nbd -f raw -k "$PWD/second" --fork --pid-file="$PWD/nbd.pid" "$IMAGE" || return
        # It has no ear for SIGTERM yet.
        kill -9 "$(cat nbd.pid)"
        eventually is_gone "$(cat nbd.pid)"
        ;;
    daemon)
        daemon second
        printf '%s\n' '{"execute": "qmp_capabilities"}' '{"execute": "quit"}' | "${WITH[@]}" "${DAEMON[@]}"
        ;;
    img) "${WITH[@]}" qemu-img resize -q -f raw "$IMAGE" "$(stat -c %s "$IMAGE")" ;;
    info) "${WITH[@]}" qemu-img info -f raw "$IMAGE" ;;
    io) "${WITH[@]}" qemu-io -f raw -c 'write -q 0 512' "$IMAGE" ;;
    dosbox)
        # It ends well in any case, and says so on its own screen.
        "${WITH[@]}" IMGLOCK_LOG=debug "${dosbox[@]}" -c exit 2>&1 | tee dosbox.out
        grep -q "imglock: $IMAGE: locked exclusively" dosbox.out
        ;;
    dd) "${WITH[@]}" dd if=source of="$IMAGE" bs=1M status=none ;;
    dd-reads) "${WITH[@]}" dd if="$IMAGE" of=/dev/null bs=1M status=none ;;
    mkfs) "${WITH[@]}" mkfs.ext4 -q -F "$IMAGE" ;;
    cp) "${WITH[@]}" cp source "$IMAGE" ;;
    cp-reads) "${WITH[@]}" cp "$IMAGE" copy ;;
    losetup)
        local loop
        loop=$("${WITH[@]}" losetup --find --show "$IMAGE") || return
        losetup -d "$loop"
        ;;
    static) "$IMGLOCK" hold "$IMAGE" -- busybox dd if=/dev/zero of="$IMAGE" count=1 conv=notrunc ;;
    libvirt)
        libvirt_machine comer "$RUNS" || return
        virsh destroy comer
        ;;
    esac
}

# outcome COMER STATUS: what came of it, as pairs.table says it, by what it said, in the file said.
outcome() {
    local lines
    lines=$(grep -o "imglock: $IMAGE: cannot .*" said || true)
    # On a busy machine a program that tries twice is told twice.
    case $(sed -E 's/: cannot [^:]*:/:/; s/ for [0-9].*//; s/; .*//' <<<"$lines" | sort -u | grep -c .) in
    1)
        case $1:$(head -n 1 <<<"$lines") in
        # Machines of libvirt are another user's, who cannot see root's programs.
        libvirt:*" in use by a program that cannot be seen from here"*) echo mark ;;
        libvirt:*": a program of another user has it open for writing, outside imglock"*) echo count ;;
        *" locked "*" by $WHO"*) echo lock ;;
        *" in use by $WHO"*"QEMU's own lock"*) echo mark ;;
        *": $WHO"*"has it open for writing, outside imglock"*) echo count ;;
        *": $WHO"*"has it open for reading, outside imglock"*) echo mark ;;
        *) echo "refused for something else" ;;
        esac
        [ "$2" != 0 ] || echo "and went in"
        ;;
    0)
        if [ "$2" = 0 ]; then
            echo in
        elif grep -qE 'Failed to (get|lock)' said; then
            echo qemu
        else
            echo "failed with status $2"
        fi
        ;;
    *) echo "more than one line" ;;
    esac
}

# pair COMER wrapped|bare CELL: tries it.  What differs from the cell is noted in WRONG.
pair() {
    local status=0 after got
    RUNS=$2
    with "$2"
    WITH=(timeout -k 1 300 "${WITH[@]}")
    comer "$1" >said 2>&1 </dev/null 3>&- || status=$?
    got=$(outcome "$1" "$status")
    after=$(fingerprint "$IMAGE")
    [ "$got" = "$3" ] || WRONG+="$2 $1: \"$3\" in pairs.table, and it was: $got"$'\n'"$(cat said)"$'\n'
    [ "$3" = in ] || [ "$after" = "$BEFORE" ] || WRONG+="$2 $1: refused, and the image is not what it was"$'\n'
    BEFORE=$after
}

# The comers that start quickly and of each kind one, and those that take a second.
QUICK=' io info dd dd-reads mkfs static '
SLOW=' dosbox libvirt '

# row HOLDER wrapped|bare quick|most|all: those comers of that row of pairs.table; most are all but the slow ones.
row() {
    local holder=$1 how=$2 which=$3 runs comer cell
    # It gives the image to the user that it runs as.
    # shellcheck disable=SC2046 # words
    if [ "$which" = all ] && are_here $(programs libvirt); then libvirt_start; fi
    holds "$holder" "$how"
    BEFORE=$(fingerprint "$IMAGE")
    WRONG=
    while read -r runs comer cell; do
        case $which in
        quick) [[ $QUICK == *" $comer "* ]] || continue ;;
        most) [[ $SLOW != *" $comer "* ]] || continue ;;
        esac
        # Not every release has each of them.
        # shellcheck disable=SC2046 # words
        if are_here $(programs "$comer"); then pair "$comer" "$runs" "$cell" 7>&- 8>&-; fi
    done < <(pairs_of "$holder" "$how")
    [ -z "$WRONG" ] || fail "$WRONG"
}

# pairs_of HOLDER wrapped|bare: "RUNS COMER CELL", a line for each cell of the row.
pairs_of() {
    awk -v holder="$1" -v how="$2" '
        { sub(/#.*/, "") }
        $1 == "comes" { runs = $2; for (i = 3; i <= NF; i++) names[i] = $i }
        $1 == holder && $2 == how { for (i = 3; i <= NF; i++) print runs, names[i], $i }' "$TOP/tests/pairs.table"
}
