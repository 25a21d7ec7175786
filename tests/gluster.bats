#!/usr/bin/env bats
# gluster.bats: two hosts with images and lock directory on a GlusterFS (gluster.bash).  What takes longer is in
# tests/long/hosts.bats.

load common
load gluster

# An open for writing that changes nothing if it may.
WRITES=(qemu-io -c 'read 0 512')

@test "what one host writes another may not open, and hears from whom" {
    hold_on alpha write "$IMAGE"
    before=$(on beta stat -c '%i %s %Y' "$IMAGE"; on beta sha1sum "$IMAGE")
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "imglock: $IMAGE: cannot open for reading, to write to it: locked exclusively on alpha by holder (pid $(inner_pid), user root) for "
    refute_output --partial "PID namespace"
    run imglock_on beta hold -x "$IMAGE" -- true
    assert_failure 1
    assert_line --partial "$IMAGE: cannot hold exclusively: locked exclusively on alpha by holder (pid $(inner_pid), "
    assert_equal "$(on beta stat -c '%i %s %Y' "$IMAGE"; on beta sha1sum "$IMAGE")" "$before"
    # Its own host says it without.
    run try_on alpha "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "to write to it: locked exclusively by holder (pid $(inner_pid), user root) for "
    end_last_holder
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_success
    refute_output --partial imglock:
}

@test "readers of two hosts go together, and keep a writer out" {
    hold_on alpha read "$IMAGE"
    run try_on beta qemu-img info "$IMAGE"
    assert_success
    refute_output --partial imglock:
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked shared on alpha by holder (pid $(inner_pid), "
    end_holder
}

@test "status names the holder with its pid on its own host, and the host first on another" {
    hold_on alpha write "$IMAGE"
    run imglock_on alpha status -n -r -o KIND,MODE,HOST,PID,COMMAND "$IMAGE"
    assert_success
    assert_output "holder exclusive alpha $(inner_pid) holder"
    run imglock_on alpha status "$IMAGE"
    assert_success
    refute_output --partial HOST
    run imglock_on beta status -n -r -o KIND,MODE,HOST,PID,COMMAND "$IMAGE"
    assert_success
    assert_output "foreign exclusive alpha $(inner_pid) holder"
    run imglock_on beta status "$IMAGE"
    assert_success
    assert_line --regexp '^IMAGE +MODE +KIND +HOST +PID +USER +COMMAND +SINCE'
    assert_line --regexp " exclusive +foreign +alpha +$(inner_pid) +root +holder "
    end_holder
    run imglock_on beta status "$IMAGE"
    assert_failure 1
}

@test "status on FUSE tells who only waits" {
    hold_on alpha write "$IMAGE"
    try_on alpha IMGLOCK_WAIT=300 "$HELPERS/holder" write "$IMAGE" >waiter.out 2>&1 3>&- &
    HOLDERS+=("$!")
    eventually bash -c 'nsenter -t "$1" -n -m -p -u env IMGLOCK_DIR="$2" "$3" status -n -r -o KIND,MODE "$4" | sort | tr "\n" , | grep -qx "holder exclusive,waiting none,"' \
        - "$(cat "$GLUSTER/host.alpha")" "$STORE/locks" "$IMGLOCK" "$IMAGE"
    end_holder
    eventually grep -q ready waiter.out
    run imglock_on alpha status -n -r -o KIND,MODE "$IMAGE"
    assert_output "holder exclusive"
}

# polls TRACE: how many pauses there were in it so far.
polls() { grep -c ppoll "$1"; }
has_polled() { [ "$(polls "$1")" -ge "$2" ]; }

# traced_waiter HOST TRACE: waits for the image there, its pauses and questions in the trace.
traced_waiter() {
    on "$1" env IMGLOCK_DIR="$STORE/locks" IMGLOCK_WAIT=300 strace -f -e trace=ppoll,fcntl -o "$2" \
        env LD_PRELOAD="$SHIM" "$HELPERS/holder" write "$IMAGE" >"$2.out" 2>&1 3>&- &
    HOLDERS+=("$!")
}

@test "who waits for another host looks again at growing intervals, each look is one question, and gets in" {
    needs strace
    hold_on alpha write "$IMAGE"
    traced_waiter beta "$PWD/trace"
    eventually has_polled trace 14
    end_holder
    eventually grep -q ready trace.out
    # The pauses: twice as long each, to a quarter of a second.
    sed -n 's/.*ppoll(.*{tv_sec=\([0-9]*\), tv_nsec=\([0-9]*\)}.*/\1 \2/p' trace >pauses
    assert_equal "$(head -n 9 pauses)" "$(printf '0 %s\n' 4000000 8000000 16000000 32000000 64000000 128000000 250000000 250000000 250000000)"
    assert_equal "$(awk '$1 > 0 || $2 > 250000000' pauses)" ""
    # Between two of the long ones: whose turn it is, and whether the lock is held.
    awk '/ppoll/ {n++} n >= 8 && n < 12' trace | sed 's/.*\(ppoll\|F_OFD_[A-Z]*\).*/\1/' >round
    assert_equal "$(sort round | uniq -c | awk '{print $1, $2}')" $'4 F_OFD_GETLK\n4 F_OFD_SETLK\n4 ppoll'
}

@test "of those who wait on one host, one asks the server" {
    needs strace
    hold_on alpha write "$IMAGE"
    traced_waiter beta "$PWD/first"
    eventually has_polled first 8
    traced_waiter beta "$PWD/second"
    eventually has_polled second 16
    # From the seventh pause on, when they are long, nothing but the question whose turn it is, in this host's /dev/null.
    awk '/ppoll/ {n++} n >= 8 && n < 16' second >rounds
    refute grep -q F_OFD_GETLK rounds
    assert_equal "$(grep -c F_OFD_SETLK rounds)" 8
    grep -q F_OFD_GETLK <(awk '/ppoll/ {n++} n >= 8' first)
    # The first one gets in, and when it is killed the second.
    end_holder
    eventually grep -q ready first.out
    kill -9 "$(program_of "${HOLDERS[1]}")"
    eventually grep -q ready second.out
}

# helper_on HOST O_RDONLY|O_RDWR: a program there has the image open, and so does what it starts, for writing.
HELPED='
import os, subprocess, sys
os.open(sys.argv[1], getattr(os, sys.argv[2]))
sys.exit(subprocess.call(["env", "IMGLOCK_MODE=auto", "dd", "if=/dev/null", "conv=notrunc", "of=" + sys.argv[1]]))'
helper_on() {
    try_on "$1" "${SETTINGS[@]}" /usr/bin/python3 -c "$HELPED" "$IMAGE" "$2"
}

@test "a helper is let past its parent's lock, and never past another host's" {
    local way
    for way in O_RDONLY O_RDWR; do
        run helper_on beta "$way"
        assert_success
        refute_output --partial imglock:
    done
    # Another image: what beta has read of a lock file it knows for a second.
    IMAGE=$IMAGE.first.qcow2
    on alpha qemu-img create -q -f qcow2 "$IMAGE" 1M
    hold_on alpha read "$IMAGE"
    run helper_on beta O_RDONLY
    assert_failure
    assert_line --partial "cannot open for writing: locked shared on alpha by holder"
    end_holder
    # Its parent has the lock file open, and no lock.  Another image again.
    IMAGE=$IMAGE.second.qcow2
    on alpha qemu-img create -q -f qcow2 "$IMAGE" 1M
    hold_on alpha write "$IMAGE"
    SETTINGS=(IMGLOCK_MODE=force-share)
    run helper_on beta O_RDONLY
    assert_failure
    assert_line --partial "cannot open for writing: locked exclusively on alpha by holder"
    end_holder
}

@test "kill -9 of a holder, or of its host's client, frees the image for others" {
    hold_on alpha write "$IMAGE"
    end_holder KILL
    hold_on alpha write "$IMAGE"
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    on alpha sh -c 'kill -9 "$(cat "$1")"' - "$GLUSTER/client.alpha"
    eventually try_on beta "${WRITES[@]}" "$IMAGE"
    end_holder KILL
    on alpha umount -l "$STORE"
    mount_store alpha
    run imglock_on alpha status "$IMAGE"
    assert_failure 1
}

@test "gc on one host leaves what another host holds" {
    gc_leaves_what_another_host_holds
    end_holder
}

@test "doctor says whose locks they are" {
    run on alpha env IMGLOCK_LIBRARY="$SHIM" IMGLOCK_DIR="$STORE/locks" "$IMGLOCK" doctor
    assert_line --partial "warning  file system of $STORE/locks: FUSE, whose server keeps the locks"
    refute_line --partial "keeps no locks"
    refute_line --partial mandatory
    run on alpha sh -c 'cd "$1" && IMGLOCK_LIBRARY="$2" IMGLOCK_DIR=/var/tmp "$3" doctor' - "$STORE/vm" "$SHIM" "$IMGLOCK"
    assert_line --partial "warning  images in $STORE/vm: on FUSE, which other hosts may see, while the lock directory /var/tmp is this host's own"
}

# ---- libgfapi ------------------------------------------------------------------------------------------------------

# hold_gfapi HOST OPERATION IMAGE: a program there has the image open by libgfapi.  Sets HOLDER.
hold_gfapi() { background by_gfapi "$@"; }

# assert_taken: the last run was refused by what somebody has announced on the image itself.
assert_taken() {
    assert_failure
    assert_line --regexp "^imglock: .*: in use by a program that cannot be seen from here: another user's, a container's, or on another host"
    assert_equal "$(grep -c '^imglock: ' <<<"$output")" 1
}

@test "gfapi: two of one lock directory exclude each other, and name each other" {
    hold_gfapi alpha write "$IMAGE"
    run try_gfapi beta write "$IMAGE"
    assert_failure
    assert_line --partial "imglock: $(gfapi_url "$IMAGE"): cannot open for writing: locked exclusively on alpha by gluster (pid $(inner_pid), user root) for "
    assert_line --partial "Text file busy"
    run try_gfapi alpha read "$IMAGE"
    assert_line --partial "imglock: $(gfapi_url "$IMAGE"): cannot open for reading: locked exclusively by gluster (pid $(inner_pid), user root) for "
    run imglock_on beta status -n -r -o KIND,MODE,HOST,PID,IMAGE "$(gfapi_url "$IMAGE")"
    assert_output "foreign exclusive alpha $(inner_pid) $(gfapi_url "$IMAGE")"
    run imglock_on beta status -n -r -o MODE,IMAGE
    assert_line "exclusive $(gfapi_url "$IMAGE")"
    run imglock_on alpha status -n -r -o KIND,MODE,PID "$(gfapi_url "$IMAGE")"
    assert_output "holder exclusive $(inner_pid)"
    end_last_holder
    run imglock_on beta status "$(gfapi_url "$IMAGE")"
    assert_failure 1
    hold_gfapi beta write "$IMAGE"
    end_last_holder
}

@test "gfapi: the mark excludes whoever has another lock directory, or the image through a mount" {
    hold_gfapi alpha write "$IMAGE"
    SETTINGS=("IMGLOCK_DIR=$STORE/others")
    run try_gfapi beta write "$IMAGE"
    assert_taken
    run try_gfapi beta read "$IMAGE"
    assert_taken
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_taken
    run try_on alpha qemu-img check "$IMAGE"
    assert_taken
    end_last_holder
    hold_on beta write "$IMAGE"
    run try_gfapi alpha write "$IMAGE"
    assert_taken
    run try_gfapi alpha read "$IMAGE"
    assert_taken
    end_last_holder
    hold_gfapi alpha write "$IMAGE"
    end_last_holder
}

@test "gfapi: it excludes QEMU on a mount that has not imglock, and the other way round" {
    hold_gfapi alpha write "$IMAGE"
    run on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial 'Failed to get "write" lock'
    end_last_holder
    background on beta bash -c '(echo "read 0 512"; exec sleep 600) | qemu-io "$0" | sed -un "s/.*read 512.*/ready/p"' "$IMAGE"
    run try_gfapi alpha write "$IMAGE"
    assert_taken
    run try_gfapi alpha read "$IMAGE"
    assert_taken
}

@test "gfapi: readers go together, and keep writers out" {
    hold_gfapi alpha read "$IMAGE"
    hold_gfapi beta read "$IMAGE"
    run on beta qemu-img check "$IMAGE"
    assert_success
    SETTINGS=("IMGLOCK_DIR=$STORE/others")
    run try_gfapi beta write "$IMAGE"
    assert_taken
    run on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
}

@test "gfapi: whatever opens is seen: creat, a handle, for writing alone, a copy, twice" {
    local way before
    for way in handle made only copy twice create; do
        SETTINGS=()
        hold_gfapi alpha "$way" "$IMAGE"
        SETTINGS=("IMGLOCK_DIR=$STORE/others")
        run try_gfapi beta write "$IMAGE"
        assert_taken
        end_last_holder
        on alpha qemu-img create -q -f qcow2 "$IMAGE" 1M
        hold_gfapi beta write "$IMAGE"
        SETTINGS=()
        # What a client remembers of it is not asked, nor when the server has last noted something beside it.
        before=$(stat -c '%i %s %Y' "$GLUSTER/brick${IMAGE#"$STORE"}")
        run try_gfapi alpha "$way" "$IMAGE"
        assert_taken
        assert_equal "$(stat -c '%i %s %Y' "$GLUSTER/brick${IMAGE#"$STORE"}")" "$before"
        end_last_holder
    done
}

@test "gfapi: what is created is locked by its name first" {
    try_on alpha "$IMGLOCK" --version >/dev/null
    background imglock_on alpha hold "$(gfapi_url "$IMAGE.new.img")" -- sh -c 'echo ready; exec sleep 600'
    run try_gfapi beta create "$IMAGE.new.img"
    assert_failure
    assert_line --partial "cannot truncate: locked exclusively on alpha by "
    refute on beta test -e "$IMAGE.new.img"
}

@test "gfapi: a program that locks its image itself meets no mark of ours" {
    hold_gfapi alpha lock "$IMAGE"
    assert_equal "$(on beta "$HELPERS/lock_query" "$IMAGE")" "write 200-200"
}

@test "gfapi: threads of one program that open an image beside each other keep none of them out" {
    run try_gfapi alpha crowd "$IMAGE"
    assert_success
    assert_output ready
}

@test "gfapi: who waits for a server that is slow keeps no thread that has an image elsewhere" {
    needs strace
    start_slow 1000
    mkfifo turn
    on alpha env LD_PRELOAD="$SHIM:libgfapi.so.0" IMGLOCK_DIR="$STORE/locks" \
        strace -f --seccomp-bpf -e trace=nanosleep -o "$PWD/pauses" \
        "$HELPERS/gluster" beside "$SLOW" "$(gfapi_url "$IMAGE")" <>turn >said 2>&1 3>&- &
    HOLDERS+=("$!")
    eventually slow_is_asked
    echo >turn
    eventually grep -q . said
    assert_equal "$(cat said)" second
    # Nor has it waited, for as long as a turn may last at the most.
    refute grep nanosleep pauses
    stop_slow
}

@test "gfapi: who is in the way by a mark is named where it has the lock shared" {
    SETTINGS=(IMGLOCK_MODE=shared)
    hold_gfapi alpha write "$IMAGE"
    SETTINGS=()
    run try_gfapi beta read "$IMAGE"
    assert_failure
    assert_line --partial "cannot open for reading: locked shared on alpha by gluster (pid $(inner_pid), user root)"
}

@test "gfapi: waits for a mark, and rules and the audit know it by its name" {
    local log=$PWD/log
    hold_on alpha write "$IMAGE"
    SETTINGS=("IMGLOCK_DIR=$STORE/others" IMGLOCK_WAIT=300 IMGLOCK_ON_CONFLICT=deny "IMGLOCK_AUDIT=$log")
    by_gfapi beta write "$IMAGE" >waiter.out 2>waiter.err 3>&- &
    HOLDERS+=("$!")
    eventually test -s "$log"
    SETTINGS=("IMGLOCK_RULES=gluster://$STORE_ADDRESS/store/vm/*=nolock")
    background by_gfapi beta write "$IMAGE"
    kill "$(program_of "$HOLDER")"
    assert_equal "$(cat waiter.out)" ""
    kill "$(program_of "${HOLDERS[0]}")"
    eventually grep -q ready waiter.out
    kill "$(program_of "${HOLDERS[1]}")"
    wait "${HOLDERS[1]}" || true
    assert_equal "$(jq -r 'select(.event == "open") | [.image, .mode, .flags] | join(" ")' "$log")" \
        "$(gfapi_url "$IMAGE") exclusive O_RDWR"
}

@test "who locks the file for reading came beside the marks, and nothing is lost" {
    told_on alpha "$IMAGE"
    background on beta /usr/bin/python3 -c 'import fcntl, sys, time
image = open(sys.argv[1])
fcntl.lockf(image, fcntl.LOCK_SH)
print("ready", flush=True)
time.sleep(600)' "$IMAGE"
    # What was asked within a second is not asked again.
    read -rt 1.1 <> <(:) || true
    assert_equal "$(tell "$IMAGE" look)" None
    assert_equal "$(cat "${IMAGE##*/}.said")" ""
}

@test "a program that has an image open may cut it off, though the kernel tells of no lock of its own there" {
    told_on alpha "$IMAGE"
    assert_equal "$(tell "$IMAGE" cut)" None
    assert_equal "$(tell "$IMAGE" size)" 0
}

# is_kept_out IMAGE: a writer of the other host with another lock directory, by the marks alone.
is_kept_out() { ! try_on beta IMGLOCK_DIR="$STORE/others" "${WRITES[@]}" "$1"; }

@test "a brick that restarts: its locks are had again, or who has them is told, and with IMGLOCK_ON_LOST=fail writes fail" {
    local kept=$IMAGE taken=$IMAGE.taken.qcow2 failing=$IMAGE.failing.qcow2 marked=$IMAGE.marked.qcow2
    local passing=$IMAGE.passing.qcow2 asked=$IMAGE.asked.qcow2 held=$IMAGE.held.qcow2 image
    for image in "$taken" "$failing" "$marked" "$passing" "$asked" "$held"; do on alpha cp "$kept" "$image"; done
    told_on alpha "$kept"
    told_on alpha "$passing"
    told_on alpha "$asked"
    told_on alpha "$taken"
    told_on alpha "$marked"
    SETTINGS=(IMGLOCK_ON_LOST=fail)
    told_on alpha "$failing"
    # Nothing is lost: nothing is said, by whichever host somebody is refused.
    run try_on beta "${WRITES[@]}" "$failing"
    assert_failure
    assert_equal "$(tell "$failing" look)" None
    background imglock_on alpha hold "$held" -- sh -c 'echo ready; exec sleep 600'
    restart_brick
    assert_equal "$(on beta "$HELPERS/lock_query" "$kept")" ""
    SETTINGS=()
    hold_on beta write "$passing"
    end_holder
    # It sets no marks.
    background imglock_on beta hold "$taken" -- sh -c 'echo ready; exec sleep 600'
    hold_on beta write "$failing"
    SETTINGS=("IMGLOCK_DIR=$STORE/others")
    hold_on beta write "$marked"
    SETTINGS=()

    # Had again by who looks, without a word of the program.
    run imglock_on beta status "$asked"
    assert_failure 1
    run imglock_on alpha status -n -r -o KIND,MODE,COMMAND "$asked"
    assert_output "holder exclusive python3"
    run imglock_on beta status -n -r -o KIND,MODE,HOST "$asked"
    assert_output "foreign exclusive alpha"
    # What others have stays theirs.
    run imglock_on alpha status -n -r -o KIND,MODE,HOST "$taken"
    assert_line "foreign exclusive beta"
    assert_line --regexp "^open unlocked "

    # Had again by the program itself, and marked.
    eventually is_told_of "$kept"
    run try_on beta IMGLOCK_DIR="$STORE/others" "${WRITES[@]}" "$kept"
    assert_failure
    assert_equal "$(cat "${kept##*/}.said")" ""
    # So is a lock that somebody else had meanwhile; for a second a host may remember whose record there was.
    eventually is_told_of "$passing"
    assert_equal "$(cat "${passing##*/}.said")" ""

    # imglock hold asks each ten seconds, and marks the image as well.
    eventually is_kept_out "$held"

    # Others have it: told once, however often it is asked, which is once a second.
    eventually tells_of_loss "$taken"
    assert_equal "$ANSWER" ETXTBSY
    read -rt 1.1 <> <(:) || true
    assert_equal "$(tell "$taken" look)" ETXTBSY
    assert_equal "$(grep -c 'its lock is lost' "${taken##*/}.said")" 1
    assert_regex "$(head -n 1 "${taken##*/}.said")" "^imglock: $taken: its lock is lost, its server has forgotten it; now locked exclusively on beta by hold:sh \(pid [0-9]+, user root\) for [0-9]+ s\$"
    assert_equal "$(tell "$taken" write)" 1

    # A mark in the way has to be there for a second.
    eventually tells_of_loss "$marked"
    assert_equal "$ANSWER" ETXTBSY
    assert_regex "$(cat "${marked##*/}.said")" "its lock is lost, its server has forgotten it; now in use by a program that cannot be seen"

    assert_equal "$(tell "$failing" write)" 1
    eventually tells_of_loss "$failing"
    assert_equal "$ANSWER" ETXTBSY
    assert_regex "$(cat "${failing##*/}.said")" "user root\) for [0-9]+ s; writing to it fails from now on"
    assert_equal "$(tell "$failing" write)" EBADF
    assert_equal "$(tell "$failing" read)" "b'QFI'"
    assert_equal "$(tell "$failing" place)" 100
    end_holder
    assert_equal "$(tell "$failing" close)" None
}
