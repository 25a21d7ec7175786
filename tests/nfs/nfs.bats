#!/usr/bin/env bats
# nfs.bats: two hosts with images and lock directory on an NFS server, all in one virtual machine (machine.bash), by NFS 4.2
# where a test says no other.  tests/long/nfs.bats runs it.

load ../common
load ../gluster
load nfs

setup_file() {
    start_server
    add_host alpha 1
    add_host beta 2
    on alpha mkdir -m 1777 "$STORE/locks" "$STORE/others"
    on alpha mkdir "$STORE/vm"
}

# The machine ends with the tests.
teardown_file() { :; }

setup() {
    common_setup
    SETTINGS=()
    IMAGE=$STORE/vm/disk$BATS_TEST_NUMBER.qcow2
    on alpha qemu-img create -q -f qcow2 "$IMAGE" 1M
}

# An open for writing that changes nothing if it may.
WRITES=(qemu-io -c 'read 0 512')

# may_write HOST: without a word.
may_write() { try_on "$1" "${WRITES[@]}" "$IMAGE" >/dev/null 2>&1; }

# shows HOST: what status says there, on one line.
shows() {
    imglock_on "$1" status -n -r -o KIND,MODE,HOST,PID "$IMAGE" | paste -sd, || true
}

@test "what one host writes another may not open, and hears from whom" {
    local before
    hold_on alpha write "$IMAGE"
    before=$(on beta stat -c '%i %s %Y' "$IMAGE"; on beta sha1sum "$IMAGE")
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "imglock: $IMAGE: cannot open for reading, to write to it: locked exclusively on alpha by holder (pid $(inner_pid), user root) for "
    run imglock_on beta hold -x "$IMAGE" -- true
    assert_failure 1
    assert_line --partial "$IMAGE: cannot hold exclusively: locked exclusively on alpha by holder (pid $(inner_pid), "
    run try_on beta truncate -s 0 "$IMAGE"
    assert_failure
    assert_equal "$(on beta stat -c '%i %s %Y' "$IMAGE"; on beta sha1sum "$IMAGE")" "$before"
    run try_on alpha "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "to write to it: locked exclusively by holder (pid $(inner_pid), user root) for "
    end_holder
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
}

@test "marks: QEMU without imglock, and programs with another lock directory, are kept out, both ways" {
    local how
    for how in read write; do
        hold_on alpha "$how" "$IMAGE"
        run on beta "${WRITES[@]}" "$IMAGE"
        assert_failure
        assert_line --partial 'Failed to get "write" lock'
        # QEMU's own locks would be first to say no.
        run try_on beta IMGLOCK_DIR="$STORE/others" dd if=/dev/null conv=notrunc status=none of="$IMAGE"
        assert_failure
        assert_line --partial "in use by a program that cannot be seen from here"
        end_holder
    done
    background on alpha bash -c '(echo "read 0 512"; exec sleep 600) | qemu-io "$0" | sed -un "s/.*read 512.*/ready/p"' "$IMAGE"
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "in use by a program that cannot be seen from here"
    run try_on beta qemu-img check "$IMAGE"
    assert_failure
    assert_line --partial "in use by a program that cannot be seen from here"
}

@test "status names the holder with its pid on its own host, and the host first on another; blockers as well" {
    hold_on alpha write "$IMAGE"
    assert_equal "$(shows alpha)" "holder exclusive alpha $(inner_pid)"
    assert_equal "$(shows beta)" "foreign exclusive alpha $(inner_pid)"
    run imglock_on beta status "$IMAGE"
    assert_line --regexp " exclusive +foreign +alpha +$(inner_pid) +root +holder "
    end_holder
    run imglock_on beta status "$IMAGE"
    assert_failure 1
    background imglock_on alpha hold --no-lock --block resize --reason 'a copy runs' "$IMAGE" -- sh -c 'echo ready; exec sleep 600'
    run try_on beta truncate -s 2M "$IMAGE"
    assert_failure
    assert_line --partial "a copy runs"
}

@test "who waits for another host gets in" {
    local start times=()
    for _ in {1..5}; do
        hold_on alpha write "$IMAGE"
        rm -f waiter.out
        mkfifo waiter.out
        : >trace
        exec 8<>waiter.out
        on beta env IMGLOCK_DIR="$STORE/locks" IMGLOCK_WAIT=300 strace -f -e trace=ppoll -o "$PWD/trace" \
            env LD_PRELOAD="$SHIM" "$HELPERS/holder" write "$IMAGE" >&8 2>waiter.err 3>&- &
        HOLDERS+=("$!")
        eventually sh -c '[ "$(grep -c ppoll trace)" -ge 9 ]'
        start=$(date +%s%N)
        kill "$(program_of "$HOLDER")"
        read -ru 8 line
        assert_equal "$line" ready
        times+=($((($(date +%s%N) - start) / 1000000)))
        sed -n 's/.*ppoll(.*{tv_sec=\([0-9]*\), tv_nsec=\([0-9]*\)}.*/\1 \2/p' trace >pauses
        assert_equal "$(head -n 9 pauses)" "$(printf '0 %s\n' 4000000 8000000 16000000 32000000 64000000 128000000 250000000 250000000 250000000)"
        assert_equal "$(awk '$1 > 0 || $2 > 250000000' pauses)" ""
        end_all "${HOLDERS[-1]}"
        wait "${HOLDERS[-1]}" || true
    done
    mapfile -t times < <(printf '%s\n' "${times[@]}" | sort -n)
    # Ten times slower than a machine, and under strace: a number to look at.
    echo "# hand-over between hosts, emulated, ms: median ${times[2]}, most ${times[4]}" >&3
}

@test "imglock hold, and a hand-over on one host, are seen by the other" {
    background imglock_on alpha hold -x --reason 'moved house' "$IMAGE" -- sh -c 'echo ready; exec sleep 600'
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked exclusively on alpha by hold:sh (pid "
    assert_line --partial "moved house"
    # The command under it passes.
    end_all "$HOLDER"
    run imglock_on alpha hold -x "$IMAGE" -- env LD_PRELOAD="$SHIM" "${WRITES[@]}" "$IMAGE"
    assert_success
    hold_on alpha write "$IMAGE"
    local source target
    source=$(inner_pid)
    SETTINGS=(IMGLOCK_MODE=inactive)
    hold_on alpha write "$IMAGE"
    target=$(inner_pid)
    run imglock_on alpha handoff "$IMAGE" --to "$target"
    assert_success
    assert_equal "$(shows beta | tr , '\n' | grep exclusive)" "foreign exclusive alpha $target"
    [ "$source" != "$target" ]
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked exclusively on alpha by holder (pid $target, "
}

@test "a helper is let past its parent's lock, and never past another host's" {
    local helper='exec 3<>"$0"; qemu-io -U -c "read 0 512" "$0"; dd if=/dev/null conv=notrunc of="$0"'
    run try_on beta bash -c "$helper" "$IMAGE"
    assert_success
    refute_output --partial imglock:
    hold_on alpha read "$IMAGE"
    run try_on beta bash -c "exec 3<\"\$0\"; dd if=/dev/null conv=notrunc of=\"\$0\"" "$IMAGE"
    assert_failure
    assert_line --partial "cannot open for writing: locked shared on alpha by holder"
}

@test "kill -9 of a holder frees the image for others at once" {
    hold_on alpha write "$IMAGE"
    end_holder KILL
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_success
    assert_equal "$(shows alpha)" ""
}

@test "gc on one host leaves what another host holds" { gc_leaves_what_another_host_holds; }

@test "a host that dies keeps its locks until the lease is over, and not longer" {
    # A host of its own.
    add_host gamma 3
    hold_on gamma write "$IMAGE"
    link gamma down
    local down=$SECONDS
    run try_on beta "${WRITES[@]}" "$IMAGE"
    # An emulated qemu-io on a busy machine may be at its second open when the lease is over, which counts from when the
    # host last renewed it.
    ((SECONDS - down > LEASE_SECONDS / 3)) || assert_failure
    assert_line --partial "locked exclusively on gamma by holder"
    kill -9 "$(cat "$GLUSTER/host.gamma")"
    eventually may_write beta
    assert_equal "$(shows beta)" ""
}

# ---- servers that restart, cables that are cut -----------------------------------------------------------------------

# What opens the image for writing, and at each SIGUSR1 writes to it, says in a file what came of it, and of reading.
# shellcheck disable=SC2016 # for perl
WRITER='use IO::Handle; use Fcntl;
    sysopen(my $image, $ARGV[0], O_RDWR) or die "$!\n";
    $SIG{USR1} = sub {
        open(my $told, ">", "$ARGV[1].new");
        my @came;
        for (sub { syswrite($image, "x" x 512) }, sub { $image->sync }, sub { sysread($image, my $bytes, 4) }) {
            # Read is what nobody has read before, so that no memory has it.
            sysseek($image, @came < 2 ? 4096 : 131072, 0);
            push @came, $_->() ? "ok" : "$!";
        }
        print $told "write: $came[0], sync: $came[1], read: $came[2]\n";
        close $told;
        rename "$ARGV[1].new", $ARGV[1];
    };
    $| = 1;
    print "ready\n";
    sleep 600 while 1'

hold_writing() {
    background on alpha env LD_PRELOAD="$SHIM" IMGLOCK_DIR="$STORE/locks" perl -e "$WRITER" "$IMAGE" "$PWD/told"
}

# write_now: sets TOLD.
write_now() {
    rm -f told
    kill -USR1 "$(program_of "$HOLDER")"
    eventually test -e told
    TOLD=$(cat told)
}

WRITTEN="write: ok, sync: ok, read: ok"

@test "a server that restarts has clients claim their locks again, and gives them to nobody meanwhile" {
    hold_writing
    stop_nfsd
    start_nfsd
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked exclusively on alpha by perl (pid $(inner_pid), "
    assert_equal "$(shows alpha)" "holder exclusive alpha $(inner_pid)"
    assert_equal "$(shows beta)" "foreign exclusive alpha $(inner_pid)"
    run on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial 'Failed to get "write" lock'
    write_now
    assert_equal "$TOLD" "$WRITTEN"
    end_holder
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_success
}

@test "a server that has forgotten its clients loses locks, and the holder's writes and reads fail" {
    hold_writing
    stop_nfsd
    local pid
    pid=$(pidof nfsdcld)
    kill "$pid"
    eventually is_gone "$pid"
    rm /var/lib/nfs/nfsdcld/*
    start_nfsdcld
    start_nfsd
    eventually may_write beta
    write_now
    assert_regex "$TOLD" 'Input/output error.*, read: Input/output error$'
    assert_equal "$(shows beta)" ""
    end_holder
}

@test "a host that is cut off for longer than the lease keeps its locks until another asks" {
    hold_writing
    link alpha down
    # Twice the lease, and what the server takes to look.
    read -rt $((2 * LEASE_SECONDS + 5)) <> <(:) || true
    link alpha up
    on alpha stat "$IMAGE" >/dev/null
    write_now
    assert_equal "$TOLD" "$WRITTEN"
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked exclusively on alpha by perl"
    assert_equal "$(shows alpha)" "holder exclusive alpha $(inner_pid)"
}

@test "a host that is cut off and whose lock another has taken gets errors, and writes nothing" {
    hold_writing
    link alpha down
    eventually may_write beta
    local writer=$HOLDER
    hold_on beta write "$IMAGE"
    local other=$HOLDER
    HOLDER=$writer
    link alpha up
    on alpha stat "$IMAGE" >/dev/null
    write_now
    assert_regex "$TOLD" 'Input/output error.*, read: Input/output error$'
    run try_on alpha "${WRITES[@]}" "$IMAGE"
    assert_failure
    # What it wrote has not arrived.
    assert_equal "$(on beta tail -c +4097 "$IMAGE" | head -c 1 | tr -d '\0')" ""
    end_holder
    HOLDER=$other
    assert_equal "$(shows beta)" "holder exclusive beta $(inner_pid)"
}

# ---- what mounts promise -----------------------------------------------------------------------------------------------

# doctor_on HOST
doctor_on() { run imglock_on "$1" doctor; }

# with_statd HOST: what NFS 3 needs there.
with_statd() {
    on "$1" sh -c 'mount -t tmpfs tmpfs /run && cp -r /var/lib/nfs /run/nfs && mount --bind /run/nfs /var/lib/nfs && rpcbind && rpc.statd' 3>&-
}

@test "doctor: NFS 4.2 promises what it takes; soft does not" {
    doctor_on alpha
    assert_success
    assert_line --partial "warning  file system of $STORE/locks: NFS, whose server keeps the locks"
    refute_line --partial "mount of"
    run on alpha sh -c 'cd "$1" && IMGLOCK_LIBRARY="$2" IMGLOCK_DIR=/var/tmp "$3" doctor' - "$STORE/vm" "$SHIM" "$IMGLOCK"
    assert_line --partial "warning  images in $STORE/vm: on NFS, which other hosts may see, while the lock directory /var/tmp is this host's own"
    add_host delta 4
    for option in soft softerr; do
        on delta umount "$STORE"
        mount_store delta "vers=4.2,$option"
        doctor_on delta
        assert_success
        assert_line --partial "warning  mount of $STORE/locks: by soft a server"
    done
}

@test "doctor: NFS 3 with its lock daemon, and with locks that no server knows of" {
    local option
    add_host epsilon 5
    on epsilon umount "$STORE"
    with_statd epsilon
    mount_store epsilon vers=3 /srv/store
    doctor_on epsilon
    assert_success
    assert_line --partial "warning  mount of $STORE/locks: NFS 3 keeps the locks of a host that died until that host is back, and does not tell of shared locks"
    # It excludes NFS 4, and names it.
    hold_on epsilon write "$IMAGE"
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked exclusively on epsilon by holder (pid $(inner_pid), "
    end_holder
    # It is kept out by it, though it hears of no shared lock (Linux 6.1), and that is what says who.
    hold_on beta write "$IMAGE"
    run try_on epsilon "${WRITES[@]}" "$IMAGE"
    assert_failure
    assert_line --partial "locked exclusively"
    for option in nolock local_lock=all local_lock=posix; do
        on epsilon umount "$STORE"
        mount_store epsilon "vers=3,$option" /srv/store
        doctor_on epsilon
        assert_failure
        assert_line --partial "problem  mount of $STORE/locks: with nolock or local_lock its locks are this host's own"
        run on epsilon sh -c 'cd "$1" && IMGLOCK_LIBRARY="$2" IMGLOCK_DIR=/var/tmp "$3" doctor' - "$STORE/vm" "$SHIM" "$IMGLOCK"
        assert_line --partial "problem  mount of $STORE/vm: with nolock or local_lock"
        # So it is.
        try_on epsilon "${WRITES[@]}" "$IMAGE"
    done
    on epsilon umount "$STORE"
    mount_store epsilon "vers=3,local_lock=flock" /srv/store
    doctor_on epsilon
    assert_success
}
