#!/usr/bin/env bats
# nfs.bats: how the tests of tests/nfs/nfs.bats went, which run in a virtual machine (tests/nfs/machine.bash): a real NFS
# server and its clients.  It takes ten minutes, and the first time two more for the machine's disk.

load ../common
load ../nfs/machine

setup_file() {
    [ -z "$(missing_for_machine)" ] || return 0
    make_disk >"$BATS_FILE_TMPDIR/disk.log" 2>&1 || fail "no disk: $(tail -n 5 "$BATS_FILE_TMPDIR/disk.log")"
    make_initrd "$BATS_FILE_TMPDIR/initrd"
    run_machine "$BATS_FILE_TMPDIR/initrd.img" "$BATS_FILE_TMPDIR/console" || true
    tr -d '\r' <"$BATS_FILE_TMPDIR/console" >"$BATS_FILE_TMPDIR/came"
    grep '^# .* ms: ' "$BATS_FILE_TMPDIR/came" >&3 || true
}

setup() {
    [ -z "$(missing_for_machine)" ] || skip "$(missing_for_machine | head -n 1)"
    common_setup
}

# The test of this name in the machine.
in_machine() {
    local came=$BATS_FILE_TMPDIR/came
    awk -v name="$BATS_TEST_DESCRIPTION" '
        /^(not )?ok [0-9]+ / {named = $0; sub(/^(not )?ok [0-9]+ /, "", named); shown = named == name}
        shown' "$came" >came
    grep -q '^ok ' came && return
    [ -s came ] || tail -n 30 "$came" >came
    fail "$(cat came)"
}

@test "what one host writes another may not open, and hears from whom" { in_machine; }
@test "readers of two hosts go together, and keep a writer out" { in_machine; }
@test "marks: QEMU without imglock, and programs with another lock directory, are kept out, both ways" { in_machine; }
@test "status names the holder with its pid on its own host, and the host first on another; blockers as well" { in_machine; }
@test "who waits for another host gets in" { in_machine; }
@test "imglock hold, and a hand-over on one host, are seen by the other" { in_machine; }
@test "a helper is let past its parent's lock, and never past another host's" { in_machine; }
@test "kill -9 of a holder frees the image for others at once" { in_machine; }
@test "gc on one host leaves what another host holds" { in_machine; }
@test "a host that dies keeps its locks until the lease is over, and not longer" { in_machine; }
@test "a server that restarts has clients claim their locks again, and gives them to nobody meanwhile" { in_machine; }
@test "a server that has forgotten its clients loses locks, and the holder's writes and reads fail" { in_machine; }
@test "a host that is cut off for longer than the lease keeps its locks until another asks" { in_machine; }
@test "a host that is cut off and whose lock another has taken gets errors, and writes nothing" { in_machine; }
@test "doctor: NFS 4.2 promises what it takes; soft does not" { in_machine; }
@test "doctor: NFS 3 with its lock daemon, and with locks that no server knows of" { in_machine; }

@test "none is missing here" {
    assert_equal "$(sed -n 's/^@test "\(.*\)" {.*/\1/p' "$BATS_TEST_FILENAME" | grep -vx "$BATS_TEST_DESCRIPTION")" \
        "$(sed -n 's/^@test "\(.*\)" {.*/\1/p' "$TOP/tests/nfs/nfs.bats")"
    grep -qx '== end' "$BATS_FILE_TMPDIR/came"
}
