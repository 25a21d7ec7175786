#!/usr/bin/env bats
# force_share.bats: mode force-share, and QEMU's programs that ask for it themselves.

# What clients.bash calls and reads is not seen here, and each test runs in a subshell of its own:
# shellcheck disable=SC2030,SC2031,SC2034,SC2317

load common
load clients
load modes

setup() {
    common_setup
    mkdir work
    cd work || return
    qemu-img create -q -f qcow2 disk.qcow2 4M
    cp disk.qcow2 copy.qcow2
}

# reads_beside COMMAND...: it succeeds, without a line, while another process has disk.qcow2 for writing.
reads_beside() {
    run wrapped "$@"
    assert_success
    refute_output --partial imglock:
}

# refused_beside COMMAND...: it fails, and a line says that it may not read disk.qcow2 beside the other.
refused_beside() {
    run wrapped "$@"
    assert_failure
    assert_output --regexp \
        "imglock: $PWD/disk.qcow2: cannot open for reading(, to [a-z ]*)?: locked exclusively by holder \\(pid $HOLDER,"
}

# ---- the mode ------------------------------------------------------------------------------------------------

@test "a reader gets in beside a writer, is on record and holds nothing; a writer gets in beside it" {
    hold disk.qcow2 write
    IMGLOCK_MODE=force-share opens read disk.qcow2
    assert_equal "$OPENED" reads
    assert_equal "$(seen disk.qcow2)" "exclusive force-share"
    release
    assert_equal "$(seen disk.qcow2)" "free force-share"
    run "$IMGLOCK" status -rn -o PID disk.qcow2
    assert_output "$OPENER"
    hold disk.qcow2 write
    assert_equal "$(seen disk.qcow2)" "exclusive force-share"
    run "$IMGLOCK" status -rn -o PID disk.qcow2
    assert_line "$HOLDER"
    assert_line "$OPENER"
    closes
    run "$IMGLOCK" status -rn -o PID disk.qcow2
    assert_output "$HOLDER"
    assert_equal "$(cat said)" ""
}

@test "who only reads so is not in the way of rm, mv and truncate either" {
    IMGLOCK_MODE=force-share opens read disk.qcow2
    wrapped truncate -s 5M disk.qcow2
    wrapped mv disk.qcow2 other.qcow2
    wrapped rm other.qcow2
    closes
}

@test "an open for writing is refused, and the line says why" {
    local how before
    export IMGLOCK_MODE=force-share
    before=$(fingerprint disk.qcow2)
    for how in read-write write append truncate; do
        opens "$how" disk.qcow2
        closes
        assert_equal "$OPENED" "refused ETXTBSY"
        run cat said
        assert_output --regexp "^imglock: $PWD/disk.qcow2: cannot (open for writing|truncate): mode force-share is for\
 reading beside a writer; IMGLOCK_MODE or IMGLOCK_RULES sets the mode\$"
    done
    assert_equal "$(fingerprint disk.qcow2)" "$before"
    run wrapped dd if=/dev/zero of=new.img bs=512 count=1
    assert_failure
    [ ! -e new.img ]
    IMGLOCK_ERRNO=EPERM opens read-write disk.qcow2
    assert_equal "$OPENED" "refused EPERM"
    closes
    run wrapped qemu-io -c 'write -q 0 512' disk.qcow2
    assert_failure
    assert_output --partial "cannot open for writing: mode force-share"
}

@test "IMGLOCK_RULES: for one image, and not for the others" {
    local rules='*/copy.qcow2=force-share'
    qemu-img create -q -f qcow2 -b copy.qcow2 -F qcow2 overlay.qcow2
    hold copy.qcow2 write
    # The overlay for writing, its backing file beside a writer.
    run wrapped qemu-io -c 'write -q -P 3 0 64k' overlay.qcow2
    assert_failure
    assert_line --index 0 --partial "/copy.qcow2: cannot open for reading: locked exclusively by holder"
    IMGLOCK_RULES=$rules run wrapped qemu-io -c 'write -q -P 3 0 64k' overlay.qcow2
    assert_success
    assert_output ""
    IMGLOCK_RULES=$rules run wrapped qemu-io -c 'write -q 0 64k' copy.qcow2
    assert_failure
    assert_output --partial "/copy.qcow2: cannot open for writing: mode force-share is for reading beside a writer"
    hold overlay.qcow2 read
    IMGLOCK_RULES=$rules run wrapped qemu-io -c 'write -q -P 4 0 64k' overlay.qcow2
    assert_failure
    assert_output --partial "/overlay.qcow2: cannot open for writing: locked shared by holder"
}

@test "through the command: --mode force-share" {
    hold disk.qcow2 write
    run "$IMGLOCK" --mode force-share qemu-img info -U disk.qcow2
    assert_success
    run "$IMGLOCK" --mode force-share cat disk.qcow2
    assert_success
    run "$IMGLOCK" cat disk.qcow2
    assert_failure
}

# ---- QEMU's own word for it ----------------------------------------------------------------------------------

@test "the arguments end where the environment begins" {
    hold disk.qcow2 write
    run env -i "A=driver=qcow2,force-share=on" "PATH=$PATH" "IMGLOCK_DIR=$IMGLOCK_DIR" "LD_PRELOAD=$SHIM" qemu-img info disk.qcow2
    assert_failure
    assert_output --partial "imglock: $PWD/disk.qcow2: cannot open for reading: locked exclusively by holder"
}

@test "qemu-img's arguments are found, too, when its environment or its name has moved before it is asked" {
    hold disk.qcow2 write
    for setting in A=b MOVE=name; do
        run timeout 300 env "$setting" "LD_PRELOAD=$HELPERS/first_variable:$SHIM" qemu-img info -U disk.qcow2
        assert_success
        assert_line moved
        refute_output --partial imglock:
        run timeout 300 env "$setting" "LD_PRELOAD=$HELPERS/first_variable:$SHIM" qemu-img info disk.qcow2
        assert_failure
        assert_output --partial "imglock: $PWD/disk.qcow2: cannot open for reading: locked exclusively by holder"
    done
}

@test "qemu-img told -U reads beside a writer" {
    hold disk.qcow2 write
    reads_beside qemu-img info -U disk.qcow2
    assert_line 'file format: qcow2'
    reads_beside qemu-img info disk.qcow2 -U
    reads_beside qemu-img info -f qcow2 -U disk.qcow2
    reads_beside qemu-img info -fqcow2 -U disk.qcow2
    reads_beside qemu-img check -qU disk.qcow2
    reads_beside qemu-img check -Uq disk.qcow2
    reads_beside qemu-img map -U disk.qcow2
    reads_beside qemu-img measure -U -O raw disk.qcow2
    reads_beside qemu-img compare -psU disk.qcow2 copy.qcow2
    reads_beside qemu-img snapshot -lU disk.qcow2
    reads_beside qemu-img snapshot -Ul disk.qcow2
    reads_beside qemu-img dd -U if=disk.qcow2 of=out.img
    reads_beside qemu-img convert -CWpU -O raw disk.qcow2 out.raw
    reads_beside qemu-img convert -nU -O raw disk.qcow2 out.raw
    reads_beside qemu-img convert -cU -O qcow2 disk.qcow2 out.qcow2
    reads_beside qemu-img bench -qU -c 1 disk.qcow2
    reads_beside qemu-img -T 'bdrv_open_common' info -U disk.qcow2
}

@test "qemu-img told --force-share, or what getopt takes for it" {
    hold disk.qcow2 write
    reads_beside qemu-img info --force-share disk.qcow2
    reads_beside qemu-img info --force-sh disk.qcow2
    reads_beside qemu-img map --forc disk.qcow2
    reads_beside qemu-img check -q disk.qcow2 --forc
    reads_beside qemu-img measure --f -O raw disk.qcow2
    reads_beside qemu-img compare --f disk.qcow2 copy.qcow2
    # Another command has another option of that beginning.
    refused_beside qemu-img amend --force -o compat=1.1 disk.qcow2
}

@test "force-share=on in an image's options" {
    local file=file.driver=file,file.filename=disk.qcow2 value
    hold disk.qcow2 write
    for value in on yes true y; do
        reads_beside qemu-img info --image-opts "driver=qcow2,force-share=$value,$file"
        reads_beside qemu-img info --image-opts "driver=qcow2,$file,force-share=$value"
    done
    reads_beside qemu-img info --image-opts -- "force-share=on,driver=qcow2,$file"
    refused_beside qemu-img info --image-opts "driver=qcow2,force-share=off,$file"
    refused_beside qemu-img info --image-opts "driver=qcow2,$file"
    file='"file":{"driver":"file","filename":"disk.qcow2"}'
    reads_beside qemu-img info 'json:{"driver":"qcow2","force-share":true,'"$file}"
    reads_beside qemu-img info 'json:{"driver": "qcow2", '"$file"', "force-share" : true}'
    reads_beside qemu-img info 'json:{"driver":"qcow2","force-share":"on",'"$file}"
    refused_beside qemu-img info 'json:{"driver":"qcow2","force-share":false,'"$file}"
    refused_beside qemu-img info 'json:{"driver":"qcow2","force-share":"off",'"$file}"
}

@test "qemu-io" {
    local file=driver=qcow2,file.driver=file,file.filename=disk.qcow2
    hold disk.qcow2 write
    reads_beside qemu-io -r -U -c 'read -q 0 512' disk.qcow2
    reads_beside qemu-io -rU -c 'read -q 0 512' disk.qcow2
    reads_beside qemu-io -Ur -c 'read -q 0 512' disk.qcow2
    reads_beside qemu-io -rsmnkU -c 'read -q 0 512' disk.qcow2
    reads_beside qemu-io -r --force-sh -c 'read -q 0 512' disk.qcow2
    reads_beside qemu-io -r --image-opts -c 'read -q 0 512' "$file,force-share=on"
    reads_beside qemu-io -c 'open -r -o force-share=on disk.qcow2' -c 'read -q 0 512'
    reads_beside qemu-io -c "open -r -o driver=qcow2,force-share=on disk.qcow2" -c 'read -q 0 512'
    refused_beside qemu-io -r -c 'read -q 0 512' disk.qcow2
    refused_beside qemu-io -r -c -U disk.qcow2
    # For writing it is no more let in than anybody else.
    run wrapped qemu-io --image-opts -c 'write -q 0 512' "$file"
    assert_failure
    assert_output --partial "locked exclusively by holder"
}

@test "qemu-io -rU holds nothing: a writer gets in beside it" {
    begins qemu-io -rU disk.qcow2
    says 'read 0 512'
    wait_until grep -q 'read 512' ../stdout
    assert_equal "$("$HELPERS/mode_seen" "$(lock_file disk.qcow2)" "$CLIENT")" "free force-share"
    second_writer disk.qcow2
    hold disk.qcow2 write
    # One command at a time: qemu-io does not see a second one that came with the first.
    has_read_twice() { [ "$(grep -c 'read 512' ../stdout)" = 2 ]; }
    says 'read 0 512'
    wait_until has_read_twice
    says quit
    ends 0
    assert_equal "$(cat ../stderr)" ""
}

@test "qemu-nbd" {
    local file=driver=qcow2,file.driver=file,file.filename=disk.qcow2
    hold disk.qcow2 write
    run wrapped timeout -k 1 300 qemu-nbd -r -k "$PWD/socket" --image-opts "$file"
    assert_failure 1
    assert_output --partial "cannot open for reading: locked exclusively by holder"
    begins qemu-nbd -r -k "$PWD/socket" --image-opts "$file,force-share=on"
    # The socket is there a moment before it is listened to.
    wait_until qemu-img info -f raw "nbd+unix:///?socket=$PWD/socket"
    # It ends with its only client.
    ends 0
    refute [ -s ../stderr ]
}

# storage_daemon BLOCKDEV: starts it, and has it quit.
storage_daemon() {
    printf '%s\n' '{"execute": "qmp_capabilities"}' '{"execute": "quit"}' |
        LD_PRELOAD=$SHIM timeout -k 1 300 qemu-storage-daemon --chardev stdio,id=monitor --monitor chardev=monitor \
            --blockdev "$1"
}

@test "qemu-storage-daemon" {
    local file=file.driver=file,file.filename=disk.qcow2
    hold disk.qcow2 write
    run storage_daemon "driver=qcow2,node-name=disk,read-only=on,$file"
    assert_failure
    assert_output --partial "cannot open for reading: locked exclusively by holder"
    run storage_daemon "driver=qcow2,node-name=disk,read-only=on,force-share=on,$file"
    assert_success
    refute_output --partial imglock:
    run storage_daemon '{"driver":"qcow2","node-name":"disk","read-only":true,"force-share":true,
        "file":{"driver":"file","filename":"disk.qcow2"}}'
    assert_success
    refute_output --partial imglock:
}

@test "a machine is told so of one of its disks, or of backing files, and not of the others" {
    local machine=qemu-system-x86_64
    hold disk.qcow2 write
    words reads $machine -drive if=none,file=disk.qcow2,read-only=on,force-share=on
    words reads qemu-kvm -blockdev driver=file,filename=/srv/disk.qcow2,force-share=on,node-name=a
    words reads $machine -blockdev '{"driver":"file","filename":"disk.qcow2","force-share":true,"node-name":"a"}'
    words ETXTBSY $machine -drive file=other.qcow2,read-only=on,force-share=on -drive file=disk.qcow2
    words ETXTBSY $machine -drive file=other.qcow2,read-only=on,force-share=on
    words ETXTBSY $machine -drive file=disk.qcow2,force-share=off
    words ETXTBSY $machine -drive file=disk.qcow2,file.locking=off
    # What no word names is a backing file, for all that can be told.
    words reads $machine -drive file=overlay.qcow2,backing.file.locking=off
    words reads $machine -drive file.file.filename=overlay.qcow2,file.driver=qcow2,file.backing.file.locking=off,cache=unsafe
    words reads qemu-img map --image-opts driver=qcow2,file.filename=overlay.qcow2,backing.file.locking=off
    words reads $machine -drive file=overlay.qcow2,backing.force-share=on
    words ETXTBSY $machine -drive file=overlay.qcow2,backing.file.locking=off -drive file=disk.qcow2
    words ETXTBSY $machine -drive file=disk.qcow2,backing.file.locking=off
    words ETXTBSY $machine -drive file=disk.qcow2,backing.force-share=on
    words ETXTBSY $machine -drive file=overlay.qcow2,file.locking=off
    words ETXTBSY $machine -drive file=overlay.qcow2,backing.file.locking=offline
    words ETXTBSY $machine -drive file=overlay.qcow2,backing.file.locking=on
    words ETXTBSY $machine -drive file=overlay.qcow2,,backing.file.locking=off
    words ETXTBSY $machine-old -drive file=overlay.qcow2
}

@test "a second machine on an overlay of a running machine's disk, as guestfish --ro starts it" {
    machine qcow2 on
    run wrapped qemu-img create -q -f qcow2 -o backing_file=disk.qcow2,backing_fmt=qcow2 overlay.qcow2
    assert_success
    # libguestfs 1.48, of Debian 12.
    run wrapped timeout -k 1 300 qemu-system-x86_64 -S -accel tcg -nodefaults -display none -monitor stdio \
        -drive file.file.filename=overlay.qcow2,file.driver=qcow2,file.backing.file.locking=off,cache=unsafe,id=hd0,if=none \
        <<<"$(printf '%s\n' 'qemu-io hd0 "write -P 7 0 64k"' quit)"
    assert_success
    refute_output --partial imglock:
    assert_output --partial 'wrote 65536/65536'
    # Without that word it is refused, as QEMU would.
    run wrapped timeout -k 1 300 qemu-system-x86_64 -S -accel tcg -nodefaults -display none \
        -drive file.file.filename=overlay.qcow2,file.driver=qcow2,id=hd0,if=none
    assert_failure
    assert_output --partial "imglock: $PWD/disk.qcow2: cannot open for reading: locked exclusively by qemu-system"
    # What it writes to is locked as ever, its base too.
    run wrapped timeout -k 1 300 qemu-system-x86_64 -S -accel tcg -nodefaults -display none \
        -drive file=disk.qcow2,backing.file.locking=off
    assert_failure
    assert_output --partial "imglock: $PWD/disk.qcow2: cannot open for reading, to run a machine with it: locked exclusively"
    says quit
    ends 0
    assert_no_lock_left
}

@test "qemu-img convert -U: what it writes to is locked as ever" {
    local target before
    hold disk.qcow2 write
    for target in out.raw out.qcow2; do
        IMGLOCK_LOG=debug run wrapped qemu-img convert -U -O "${target#*.}" disk.qcow2 "$target"
        assert_success
        assert_line "imglock: $PWD/$target: locked exclusively"
        refute_line "imglock: $PWD/disk.qcow2: locked shared"
        assert_line "imglock: $PWD/disk.qcow2: open by force-share, without a lock"
        hold "$target" read
        before=$(fingerprint "$target")
        run wrapped qemu-img convert -U -O "${target#*.}" disk.qcow2 "$target"
        assert_failure
        assert_output --regexp "imglock: $PWD/$target: cannot [a-z ]+: locked shared by holder \(pid $HOLDER,"
        assert_equal "$(fingerprint "$target")" "$before"
        release
    done
}

# ---- what is no word of QEMU's for it ------------------------------------------------------------------------

@test "qemu-img create with a backing file that is in use, as QEMU lets it; nothing else of create" {
    hold disk.qcow2 write
    run wrapped qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 one.qcow2
    assert_success
    refute_output
    assert_equal "$(qemu-img info -U --output=json one.qcow2 | jq -r '."backing-filename"')" disk.qcow2
    run wrapped qemu-img create -q -f qcow2 -o backing_file=disk.qcow2,backing_fmt=qcow2 two.qcow2
    assert_success
    cp disk.qcow2 before
    run wrapped qemu-img create -q -f qcow2 -b one.qcow2 -F qcow2 disk.qcow2
    assert_failure
    assert_output --partial "imglock: $PWD/disk.qcow2: cannot open for writing: locked exclusively by holder"
    run wrapped qemu-img create -q -f qcow2 disk.qcow2 1M
    assert_failure
    cmp before disk.qcow2
    # What the overlay is used for afterwards reads its base.
    refused_beside qemu-img map one.qcow2
}

@test "a U that belongs to another option" {
    hold disk.qcow2 write
    refused_beside qemu-img convert -O raw -lU disk.qcow2 out.raw
    refused_beside qemu-img convert -O raw -l U disk.qcow2 out.raw
    refused_beside qemu-img convert -O raw -l -U disk.qcow2 out.raw
    refused_beside qemu-img convert -O qcow2 -o backing_file=-U disk.qcow2 out.qcow2
    refused_beside qemu-img convert -O qcow2 -obacking_file=U disk.qcow2 out.qcow2
    refused_beside qemu-img convert -pO qcow2 -obacking_file=U disk.qcow2 out.qcow2
    refused_beside qemu-img measure -O qcow2 -l -U disk.qcow2
}

@test "a file of that name, behind --" {
    mv disk.qcow2 ./-U
    hold ./-U write
    run wrapped qemu-img info -- -U
    assert_failure
    assert_output --partial "imglock: $PWD/-U: cannot open for reading: locked exclusively by holder"
}

@test "file.locking=off is said to QEMU about its own locks" {
    hold disk.qcow2 write
    refused_beside qemu-img info --image-opts driver=qcow2,file.driver=file,file.filename=disk.qcow2,file.locking=off
    refused_beside qemu-io -r -c 'open -r -o file.locking=off disk.qcow2'
}

@test "another program, and QEMU under another name" {
    hold disk.qcow2 write
    refused_beside bash -c 'exec -a qemu-info qemu-img info -U disk.qcow2'
    refused_beside bash -c 'exec -a /usr/bin/qemu-img.real qemu-img info -U disk.qcow2'
    reads_beside bash -c 'exec -a /opt/qemu/bin/qemu-img qemu-img info -U disk.qcow2'
    refused_beside /usr/bin/python3 -c 'open("disk.qcow2")' -U --force-share force-share=on
}

# A program of QEMU's name says alike what the library makes of words that no QEMU would take.
# words EXPECTED PROGRAM WORD...
words() {
    local expected=$1 program=$2
    shift 2
    # shellcheck disable=SC2016 # for the inner shell
    run env IMAGE=disk.qcow2 LD_PRELOAD="$SHIM" bash -c \
        'program=$1; shift; exec -a "$program" "$HELPERS/mode_read" "$@"' bash "$program" "$@"
    assert_equal "$program $*: ${lines[-1]-}" "$program $*: $expected"
}

@test "of the words: every option of every command that takes an argument has it, others go before U" {
    local program command options at letter
    local -a names
    hold disk.qcow2 write
    # As getopt is told by each of them.
    while read -r program command options; do
        names=("$program")
        [ "$command" = - ] || names+=("$command")
        words reads "${names[@]}" -U
        words reads "${names[@]}" x.img --force-share
        words ETXTBSY "${names[@]}" -- -U
        for ((at = 0; at < ${#options}; at++)); do
            letter=${options:at:1}
            if [ "${options:at+1:1}" = : ]; then
                words ETXTBSY "${names[@]}" "-${letter}U"
                words ETXTBSY "${names[@]}" "-$letter" -U x.img
                words reads "${names[@]}" "-$letter" U -U
                at=$((at + 1))
            else
                words reads "${names[@]}" "-${letter}U"
                words reads "${names[@]}" "-$letter" -U
            fi
        done
    done <<'END'
qemu-img bench hc:d:f:ni:o:qs:S:t:w
qemu-img check hf:r:T:q
qemu-img compare hf:F:T:pqs
qemu-img convert hf:O:B:CcF:o:l:S:pt:T:qnm:Wr:
qemu-img dd hf:O:
qemu-img info hf:
qemu-img map f:s:l:h
qemu-img measure hf:O:o:l:
qemu-img rebase hf:F:b:upt:T:q
qemu-img snapshot la:c:d:hq
qemu-io - hVc:d:f:rsnCmki:t:T:
END
}

@test "of the words: the rest" {
    hold disk.qcow2 write
    # These have no such option.
    local command
    for command in create commit amend resize bitmap unknown; do
        words ETXTBSY qemu-img "$command" -U
        words ETXTBSY qemu-img "$command" --force-share
        words reads qemu-img "$command" --image-opts driver=raw,force-share=on
    done
    words ETXTBSY qemu-nbd -U
    words ETXTBSY qemu-nbd -r --force-share
    words ETXTBSY qemu-nbd --f
    words ETXTBSY qemu-storage-daemon -U
    words ETXTBSY qemu-img
    words ETXTBSY qemu-img -U
    words ETXTBSY qemu-img -T -U info
    words reads qemu-img -T -U info -U
    words ETXTBSY qemu-img -U info
    words ETXTBSY qemu-img info -ZU
    words ETXTBSY qemu-img info - -- -U
    words reads qemu-img info - -U
    words ETXTBSY qemu-img info --force-shared
    words ETXTBSY qemu-img info --force-share=
    words ETXTBSY qemu-img info --
    words ETXTBSY qemu-img info -- --force-share
    words ETXTBSY qemu-img info -
    words ETXTBSY qemu-img info ''
    words reads qemu-img info '' -U
    words ETXTBSY qemu-img-old info -U
    words ETXTBSY -qemu-img info -U
    words ETXTBSY qemu-im info -U
    # In image options: as a name of an option, with a value that QEMU takes for on.
    words reads qemu-img info file.force-share=on
    words reads qemu-img info -- x=,,,force-share=on
    words ETXTBSY qemu-img info file.filename=a,,force-share=on
    words ETXTBSY qemu-img info no-force-share=on
    words ETXTBSY qemu-img info driver=raw,force-share=once
    words ETXTBSY qemu-img info driver=raw,force-share=
    words ETXTBSY qemu-img info driver=raw,force-share=ON
    words ETXTBSY qemu-img info 'json:{"force-share"}'
    words ETXTBSY qemu-img info 'json:{"force-share":'
    words ETXTBSY qemu-img info 'json:{"x":"force-share"}'
    # Words longer than what is looked at, and very many of them.
    words reads qemu-img info "$(printf '%5000s' x)" -U
    words ETXTBSY qemu-img info "-$(printf '%05000d' 0)U"
    # shellcheck disable=SC2046 # many words
    words reads qemu-img info $(seq 3000) -U
    # shellcheck disable=SC2046
    words ETXTBSY qemu-img info $(seq 3000) -- -U
}

# ---- beside a running machine --------------------------------------------------------------------------------

# machine FORMAT LOCKING: a machine with disk.FORMAT as its disk, under imglock, stopped before its first instruction.
# QEMU's own locks on the image are on or off.
machine() {
    begins qemu-system-x86_64 -S -accel tcg -nodefaults -display none -monitor stdio \
        -blockdev "driver=$1,node-name=disk,file.driver=file,file.filename=disk.$1,file.locking=$2" \
        -device virtio-blk-pci,drive=disk
    wait_until grep -q QEMU ../stdout
    assert_equal "$(lock_state "disk.$1")" exclusive
}

# images_read FORMAT: qemu-img -U reads the machine's disk in every way, and without -U is refused.
images_read() {
    local image=disk.$1
    reads_beside qemu-img info -U "$image"
    reads_beside qemu-img map -U -f "$1" "$image"
    reads_beside qemu-img measure -U -O qcow2 -f "$1" "$image"
    reads_beside qemu-img compare -U -f "$1" -F raw "$image" copy.raw
    assert_output "Images are identical."
    if [ "$1" = qcow2 ]; then reads_beside qemu-img check -U "$image"; fi
    run wrapped qemu-img info "$image"
    assert_failure
    assert_line --index 0 --partial "imglock: $PWD/$image: cannot open for reading: locked exclusively by qemu-system"
    run wrapped qemu-io -U -c 'write 0 512' "$image"
    assert_failure
}

beside_a_machine() {
    truncate -s 4M disk.raw copy.raw
    machine "$1" "$2"
    images_read "$1"
    says quit
    ends 0
    assert_no_lock_left
}

@test "qemu-img -U beside a running machine: raw" { beside_a_machine raw on; }
@test "qemu-img -U beside a running machine: raw, QEMU's own locks off" { beside_a_machine raw off; }
@test "qemu-img -U beside a running machine: qcow2" { beside_a_machine qcow2 on; }
@test "qemu-img -U beside a running machine: qcow2, QEMU's own locks off" { beside_a_machine qcow2 off; }
