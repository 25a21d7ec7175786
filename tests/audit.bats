#!/usr/bin/env bats
# audit.bats: IMGLOCK_AUDIT: what the library writes, and that writing it costs nobody an open.  What is made of it:
# report.bats.

# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # scripts for another bash; tests are subshells
bats_require_minimum_version 1.5.0
load common
load calls

setup() {
    common_setup
    truncate -s 1M disk.img
    LOG=$PWD/log.jsonl
}

teardown() {
    common_teardown
    umount "$BATS_TEST_TMPDIR/small" 2>/dev/null || true
}

# audited COMMAND...: with the library, the log, and no descriptors but 0, 1 and 2.
audited() { (alone env IMGLOCK_AUDIT="$LOG" LD_PRELOAD="$SHIM" "$@"); }

# asked EXPRESSION: prints what a Python expression makes of the lines of the log, l.  Each must be whole and JSON.
asked() {
    python3 -c 'import json, sys
text = open(sys.argv[1], "rb").read()
assert text == b"" or text.endswith(b"\n"), text[-100:]
l = [json.loads(line) for line in text.decode("utf-8").split("\n")[:-1]]
print(eval(sys.argv[2]))' "$LOG" "$1"
}

# events: their names, in order.
events() { asked '" ".join(e["event"] for e in l)'; }

# small_disk OPTIONS: a tmpfs in the directory small; the log is there.
small_disk() {
    mkdir -p small
    mount -t tmpfs -o "mode=1777,$1" tmpfs small 2>/dev/null || skip "no mounts here"
    LOG=$PWD/small/log.jsonl
}

# ---- what is written ------------------------------------------------------------------------------------------------------

@test "an open, from the lock to its end: three lines, with who, what, and when" {
    audited "$HELPERS/input_call" open r disk.img , close 3 >/dev/null
    assert_equal "$(events)" 'acquire open release'
    local boot
    boot=$(tr -d - </proc/sys/kernel/random/boot_id | head -c 16)
    assert_equal "$(asked '{(e["v"], e["boot"], e["uid"], e["comm"], e["image"], e["mode"]) for e in l}')" \
        "{(1, '$boot', $(id -u), 'input_call', '$PWD/disk.img', 'shared')}"
    assert_equal "$(asked '{(e["exe"], e["cmdline"]) for e in l}')" \
        "{('$HELPERS/input_call', '$HELPERS/input_call open r disk.img , close 3')}"
    assert_equal "$(asked '{(e["lock"], e["ino"]) for e in l}')" \
        "{('$(printf %s "$PWD/disk.img" | sha1sum | cut -d' ' -f1)', $(stat -c %i disk.img))}"
    assert_equal "$(asked 'l[1]["fd"], l[1]["flags"]')" "(3, 'O_RDONLY')"
    assert_equal "$(asked 'len({(e["pid"], e["tid"], e["ppid"], e["start"]) for e in l})')" 1
    # Both clocks are now's and go on.
    assert_equal "$(asked 'l[0]["mono_ns"] < l[1]["mono_ns"] < l[2]["mono_ns"]')" True
    assert_equal "$(asked '0 < l[2]["held_ns"] <= l[2]["mono_ns"]')" True
    assert_equal "$(asked '0 <= __import__("time").monotonic_ns() - l[2]["mono_ns"] < 600 * 10**9')" True
    assert_equal "$(asked 'abs(__import__("datetime").datetime.fromisoformat(l[0]["time"].replace("Z", "+00:00")).timestamp() - __import__("time").time()) < 60')" True
}

@test "conflict: let through, with the holder's name; nothing is said" {
    hold disk.img write
    run audited "$HELPERS/input_call" open rw disk.img , close 3
    assert_output $'open: 3\nclose: 0'
    assert_equal "$(events)" 'conflict open release'
    assert_equal "$(asked 'l[0]["result"], l[0]["mode"], l[0]["flags"], "errno" in l[0]')" \
        "('let through', 'exclusive', 'O_RDWR', False)"
    assert_equal "$(asked '[(h["pid"], h["comm"], h["uid"], h["mode"], h["host"]) for h in l[0]["holders"]]')" \
        "[($HOLDER, 'holder', $(id -u), 'exclusive', '$(uname -n)')]"
    assert_equal "$(asked 'l[2]["unlocked"]')" True
}

@test "conflict: who is in the way without a record is told by what he has" {
    background "$HELPERS/outsider" write disk.img
    run audited "$HELPERS/input_call" open rw disk.img , close 3
    assert_output $'open: 3\nclose: 0'
    assert_equal "$(events)" 'conflict acquire open release'
    assert_equal "$(asked '[(h["pid"], h["comm"], h["uid"], h["mode"], h["has"]) for h in l[0]["holders"]]')" \
        "[($HOLDER, 'outsider', $(id -u), 'exclusive', 'has it open for writing, outside imglock')]"
    run "$IMGLOCK" report "$LOG"
    assert_output --partial "in use by outsider (pid $HOLDER, $(id -un)): has it open for writing, outside imglock"
    release
    : >"$LOG"
    background python3 -c '
import fcntl, os, struct, time
image = os.open("disk.img", os.O_RDONLY)
for start, length in ((100, 2), (103, 1), (201, 3)):
    fcntl.fcntl(image, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))
print("ready", flush=True)
time.sleep(1000)'
    IMGLOCK_OUTSIDERS=deny IMGLOCK_ON_CONFLICT=deny run audited "$HELPERS/input_call" open rw disk.img
    audited rm -f disk.img
    assert_equal "$(asked '[(e["event"], h["pid"], h["comm"], h["has"]) for e in l for h in e.get("holders", [])]')" \
        "[('conflict', $HOLDER, 'python3', \"QEMU's own lock: writes, shares nothing\"), ('guard', $HOLDER, 'python3', \"QEMU's own lock: writes, shares nothing\")]"
}

@test "conflict, refused, where the audit is told to refuse" {
    hold disk.img write
    IMGLOCK_ON_CONFLICT=deny run audited "$HELPERS/input_call" open rw disk.img
    assert_failure
    assert_equal "$(events)" conflict
    assert_equal "$(asked 'l[0]["result"], l[0]["errno"]')" "('refused', 'ETXTBSY')"
}

@test "wait: who is waited for, and how long the lock took" {
    export IMGLOCK_WAIT=200
    hold disk.img write
    IMGLOCK_AUDIT=$LOG run between poll:2 disk.img "kill $HOLDER" "$HELPERS/input_call" open r disk.img , close 3
    assert_success
    assert_equal "$(events)" 'wait acquire open release'
    assert_equal "$(asked 'l[0]["mode"], [h["pid"] for h in l[0]["holders"]]')" "('shared', [$HOLDER])"
    # One poll has lasted a quarter of a second.
    assert_equal "$(asked '240 * 10**6 < l[1]["wait_ns"] <= l[1]["mono_ns"] - l[0]["mono_ns"] + 10**9')" True
}

@test "convert: up with the writer, and down when it has closed" {
    audited "$HELPERS/input_call" open r disk.img , open rw disk.img , close 4 , close 3 >/dev/null
    assert_equal "$(events)" 'acquire open convert open convert release'
    assert_equal "$(asked '[(e["from"], e["mode"]) for e in l if e["event"] == "convert"]')" \
        "[('shared', 'exclusive'), ('exclusive', 'shared')]"
}

@test "lost: a lock whose descriptor was closed behind the library's back, and taken anew or not" {
    audited "$HELPERS/audit_lost" disk.img
    assert_equal "$(asked '[(e["mode"], e["regained"]) for e in l if e["event"] == "lost"]')" "[('exclusive', True)]"
    : >"$LOG"
    # Another process gets it in between.
    mkfifo ready
    run audited "$HELPERS/audit_lost" disk.img \
        "unset IMGLOCK_AUDIT; $HELPERS/holder write disk.img >ready 2>&1 3>&- & echo \$! >pid; read line <ready; [ \"\$line\" = ready ]"
    HOLDERS+=("$(cat pid)")
    kill "$(cat pid)"
    assert_success
    assert_equal "$(asked '[(e["mode"], e["regained"]) for e in l if e["event"] == "lost"]')" "[('exclusive', False)]"
}

@test "guard: names that are taken away from a holder" {
    hold disk.img write
    ln disk.img other.img
    audited rm disk.img
    ln other.img disk.img
    audited mv disk.img third.img
    assert_equal "$(asked '[(e["comm"], e["event"], e["operation"], e["result"]) for e in l]')" \
        "[('rm', 'guard', 'unlink', 'let through'), ('mv', 'guard', 'rename', 'let through')]"
    assert_equal "$(asked '{h["pid"] for e in l for h in e["holders"]}')" "{$HOLDER}"
    [ -e third.img ] && [ ! -e disk.img ]
}

@test "error: a lock that cannot be evaluated" {
    IMGLOCK_DIR=$PWD/none run audited "$HELPERS/input_call" open rw disk.img
    assert_success
    assert_output 'open: 3'
    assert_equal "$(asked 'l[0]["event"], l[0]["result"], l[0]["cause"], l[0]["image"]')" \
        "('error', 'let through', 'ENOENT', '$PWD/disk.img')"
}

@test "exit: written by imglock audit for who did not close, in the same form" {
    "$IMGLOCK" audit -o "$LOG" -- bash -c 'exec 9<>disk.img; kill -9 $$' || [ $? = 137 ]
    assert_equal "$(asked 'l[-1]["event"], l[-1]["about_pid"] == l[0]["pid"], l[-1]["about_start"] == l[0]["start"]')" \
        "('exit', True, True)"
    assert_equal "$(asked 'len({e["boot"] for e in l}), {e["v"] for e in l}')" '(1, {1})'
}

@test "exit: nobody has ended only because /proc is another PID namespace's" {
    unshare --pid --fork true 2>/dev/null || skip "no PID namespaces here"
    truncate -s 1M other.img
    # shellcheck disable=SC2016
    unshare --pid --fork "$IMGLOCK" audit -o "$LOG" -- bash -c '
        exec 9<>disk.img
        for _ in {1..20}; do cat other.img >/dev/null; done
        exec 9>&-'
    assert_equal "$(asked '" ".join(e["event"] for e in l if l[0]["pid"] in (e.get("pid"), e.get("about_pid")))')" \
        "acquire open release exit"
}

@test "a name of any bytes is whole, and the line is JSON" {
    local name=$'a\xff"\\\e\n\t\x7f\xc3\xa4\xed\xa0\x80.img'
    mv disk.img "$name"
    audited head -c 1 "$name" >/dev/null
    assert_equal "$(asked '{bytes(e["image_raw"]) == sys.argv[1].encode("utf-8", "surrogateescape").replace(b"log.jsonl", b"") + b"a\xff\"\\\x1b\n\t\x7f\xc3\xa4\xed\xa0\x80.img" for e in l}')" '{True}'
    assert_equal "$(asked 'l[0]["image"].split("/")[-1]')" "$(asked '"a\ufffd\"\\\x1b\n\t\x7fä\ufffd\ufffd\ufffd.img"')"
    # And one that is UTF-8 has no array.
    truncate -s 1M ä.img
    : >"$LOG"
    audited head -c 1 ä.img >/dev/null
    assert_equal "$(asked '{e["image"] for e in l}, any("image_raw" in e for e in l)')" "({'$PWD/ä.img'}, False)"
}

@test "the longest path of bytes that are no UTF-8, of an image and of the program, fits into a line" {
    local directory part
    # A control character takes ten bytes in the line: six in the string, and four in the array.
    part=$(printf '\x7f%.0s' {1..252})$'\xff'
    directory=$PWD
    # 4,095 bytes are the most; the file's name is to have room.
    while [ ${#directory} -lt 1 ] || [ "$(printf %s "$directory/$part" | wc -c)" -lt 4070 ]; do
        directory=$directory/$part
        mkdir "$directory"
    done
    mv disk.img "$directory/disk.img"
    cp "$HELPERS/input_call" "$directory/program"
    (cd "$directory" && audited ./program open r disk.img , close 3) >/dev/null
    assert_equal "$(events)" 'acquire open release'
    assert_equal "$(asked '{(len(e["image_raw"]) - len(b"disk.img"), len(e["exe_raw"]) - len(b"program")) for e in l}')" \
        "{($(printf %s "$directory/" | wc -c), $(printf %s "$directory/" | wc -c))}"
}

# ---- many writers, and no room ----------------------------------------------------------------------------------------------

@test "40 processes with 200 opens each write one log: every line is whole, and there are as many as there should be" {
    audited "$HELPERS/audit_crowd" 40 200 disk.img
    assert_equal "$(asked 'len(l), len({e["pid"] for e in l})')" '(24000, 40)'
    assert_equal "$(asked 'sorted({(kind, sum(e["event"] == kind for e in l)) for kind in {e["event"] for e in l}})')" \
        "[('acquire', 8000), ('open', 8000), ('release', 8000)]"
    # As another parser sees it.
    assert_equal "$(jq -c .v "$LOG" | wc -l)" 24000
}

@test "a log on a full disk costs lines, never an open" {
    small_disk size=16k
    run audited "$HELPERS/audit_crowd" 4 100 disk.img
    assert_success
    refute_output
    run audited head -c 1 disk.img
    assert_success
    # The last line is cut off, and no other.
    [ "$(stat -c %s "$LOG")" -gt 15000 ]
    assert_equal "$(head -n -1 "$LOG" | jq -c .v | sort | uniq -c | awk '{ print $2 }')" 1
    rm "$LOG"
    audited head -c 1 disk.img >/dev/null
    assert_equal "$(events)" 'acquire open release'
}

@test "a disk that fills up in the middle of a line costs that line and the next" {
    needs_root
    small_disk size=8k
    head -c 8000 /dev/zero | tr '\0' ' ' >"$LOG"
    echo >>"$LOG"
    audited head -c 1 disk.img >/dev/null
    # All that is left of the disk is a line's beginning.
    assert_equal "$(stat -c %s "$LOG")" 8192
    mount -o remount,size=64k small
    audited head -c 1 disk.img >/dev/null
    run jq -R -c 'fromjson? | .event' "$LOG"
    assert_line --index 0 '"open"'
    assert_line --index 1 '"release"'
}

# unwritten COMMAND...: goes as it would without a log, and says nothing.
unwritten() {
    run audited "$@"
    assert_success
    assert_output 'open: 3'
}

@test "a log that cannot be written: no directory, a directory, read-only, no descriptor left" {
    needs_root
    LOG=$PWD/none/log.jsonl unwritten "$HELPERS/input_call" open rw disk.img
    [ ! -e none ]
    LOG=$PWD unwritten "$HELPERS/input_call" open rw disk.img
    LOG=/dev/full unwritten "$HELPERS/input_call" open rw disk.img
    mkdir -m 755 below
    : >below/log.jsonl
    chmod 644 below/log.jsonl
    chmod 666 disk.img
    IMGLOCK_AUDIT=$PWD/below/log.jsonl run nobody_calls open rw disk.img
    assert_success
    assert_output 'open: 3'
    [ ! -s below/log.jsonl ]
    small_disk size=64k
    mount -o remount,ro small
    unwritten "$HELPERS/input_call" open rw disk.img
    # Descriptor 3 is the last one, and the image's.
    LOG=$PWD/other.jsonl
    run bash -c 'exec 3>&- 4>&- 5>&-; ulimit -n 4; IMGLOCK_AUDIT=$1 LD_PRELOAD=$SHIM exec "$HELPERS/input_call" open rw disk.img' - "$LOG"
    assert_success
    assert_output 'open: 3'
}

@test "a limit on the size of files ends the log, and no program" {
    run bash -c 'exec 3>&- 4>&- 5>&-; ulimit -f 1; IMGLOCK_AUDIT=$1 LD_PRELOAD=$SHIM exec "$HELPERS/input_call" open r disk.img , close 3 , open r disk.img , close 3' - "$LOG"
    assert_success
    assert_output $'open: 3\nclose: 0\nopen: 3\nclose: 0'
    assert_equal "$(stat -c %s "$LOG")" 1024
    # imglock audit itself writes to it, too.
    rm "$LOG"
    run bash -c 'ulimit -f 1; exec "$IMGLOCK" audit -o "$1" -- bash -c "exec 9<>disk.img; exit 7"' - "$LOG"
    assert_equal "$status" 7
    refute_output
    # The signal is the program's where it is the program's own write that is too large.
    run bash -c 'ulimit -f 1; IMGLOCK_AUDIT=$1 LD_PRELOAD=$SHIM exec dd if=/dev/zero of=disk.img bs=4k count=1 conv=notrunc status=none oflag=append' - "$LOG"
    assert_equal "$status" 153
}

@test "a log that is a pipe: without a reader, with one that does not read, and with one that leaves" {
    LOG=$PWD/pipe
    mkfifo "$LOG"
    unwritten timeout 300 "$HELPERS/input_call" open rw disk.img
    # Full: 64 KiB.
    exec 8<>"$LOG"
    run audited timeout 300 "$HELPERS/audit_crowd" 1 300 disk.img 8>&-
    assert_success
    refute_output
    exec 8>&-
    run alone env IMGLOCK_AUDIT="$LOG" "$HELPERS/audit_pipe" "$LOG" env LD_PRELOAD="$SHIM" "$HELPERS/input_call" open rw disk.img , close 3
    assert_success
    assert_output $'open: 3\nclose: 0'
}

# ---- it changes nothing -------------------------------------------------------------------------------------------------------

# What two programs, one of which is a writer of long standing, do to an image; with all that they say and return.
conflicting() {
    rm -rf scene
    mkdir scene
    cd scene || return
    head -c 1M /dev/zero >disk.img
    cat >night.sh <<'NIGHT'
mkfifo way back
python3 -c 'import os, sys
descriptor = os.open("disk.img", os.O_RDWR)
print("writer has", descriptor, flush=True)
sys.stdin.readline()
print("wrote", os.pwrite(descriptor, b"W" * 4096, 4096))' <way >back &
exec 3>way 4<back
read -r line <&4
echo "$line"
try() { "$@" 4<&- 3>&-; echo "$1: $?"; }
try python3 -c 'import os
print(os.open("disk.img", os.O_RDWR), os.open("disk.img", os.O_RDONLY), os.listdir("/proc/self/fd"))'
try dd if=/dev/zero of=disk.img bs=4k seek=1 count=2 conv=notrunc
try qemu-img convert -U -f raw -O raw disk.img copy.img
try qemu-img info -f raw disk.img
try cp disk.img no/such/place.img
try cp disk.img other.img
try mv other.img third.img
try mkfs.ext2 -q -F -U 5bf8bb9d-6a5e-4f4a-8c6e-0d4b1f3c2a10 -E hash_seed=5bf8bb9d-6a5e-4f4a-8c6e-0d4b1f3c2a10 third.img
try cmp disk.img copy.img
try rm third.img
echo >&3
cat <&4
wait
sha1sum disk.img copy.img
ls
NIGHT
    "$@" bash night.sh 2>&1 | sed 's/, [0-9.e-]* s, .*//'
    echo "status ${PIPESTATUS[0]}"
    cd ..
}

@test "what two programs in conflict say, return and leave behind is the same without the library and with an audit" {
    local bare seen
    bare=$(conflicting env 3>&-)
    seen=$(IMGLOCK_AUDIT=$LOG conflicting env LD_PRELOAD="$SHIM" 3>&-)
    assert_equal "$seen" "$bare"
    grep -q '"event":"conflict"' "$LOG"
    rm "$LOG"
    seen=$(conflicting "$IMGLOCK" audit -o "$LOG" -- 3>&-)
    assert_equal "$seen" "$bare"
    grep -q '"event":"conflict"' "$LOG"
    # It would not be the same with locks.
    seen=$(conflicting env LD_PRELOAD="$SHIM" 3>&-)
    refute [ "$seen" = "$bare" ]
}

# ---- imglock audit ------------------------------------------------------------------------------------------------------------

# audit ARGUMENT...: imglock audit with the log, in a process of its own that may ignore signals.
audit() { run timeout 300 "$IMGLOCK" audit -o "$LOG" "$@"; }

@test "audit: the exit status is the command's, whatever becomes of SIGCHLD, and the command gets it as it was" {
    run python3 -c 'import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])' "$IMGLOCK" audit -o "$LOG" -- python3 -c 'import signal, sys
print(signal.getsignal(signal.SIGCHLD))
sys.exit(7)'
    assert_equal "$status" 7
    assert_output "$(python3 -c 'import signal; print(signal.SIG_IGN)')"
}

@test "audit: signals that are ignored stay ignored, blocked ones blocked, others have their defaults" {
    # Beside what the test was started with, which is another machine's business.
    cat >signals.py <<'SIGNALS'
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1):
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGUSR1])
os.execvp(sys.argv[1], sys.argv[1:])
SIGNALS
    local asked=(grep -E '^Sig(Ign|Blk):' /proc/self/status) bare
    bare=$(python3 signals.py "${asked[@]}")
    # HUP and INT are the lowest bits, USR2 is the twelfth.
    assert_regex "$bare" $'SigBlk:\t.*[89a-f]..\nSigIgn:\t.*[3b]$'
    run python3 signals.py "$IMGLOCK" audit -o "$LOG" -- "${asked[@]}"
    assert_success
    assert_output "$bare"
}

@test "audit: what ends a program is passed on to the command, and its status comes back" {
    local signal
    mkfifo ready
    for signal in TERM HUP INT QUIT USR1 USR2 ALRM; do
        env --default-signal timeout -s KILL 60 "$IMGLOCK" audit -o "$LOG" -- \
            bash -c 'trap "exit 9" "$1"; echo $PPID; while :; do read -t 1 -u 0 || :; done' - "$signal" >ready 3>&- 0<>/dev/null &
        read -r audit <ready
        kill -"$signal" "$audit"
        status=0
        wait $! || status=$?
        assert_equal "$signal $status" "$signal 9"
    done
}

@test "audit: a log that is no regular file, or cannot be written, is one line and no hang" {
    mkfifo pipe
    small_disk size=64k
    local log
    for log in pipe /dev/full /dev/null . none/log; do
        run timeout 300 "$IMGLOCK" audit -o "$log" -- touch started
        assert_equal "$log $status" "$log 125"
        assert_equal "${#lines[@]}" 1
        assert_output --regexp '^imglock: .*: cannot write the audit log: '
    done
    [ ! -e started ]
}

@test "audit: a disk that is full costs lines, and no memory" {
    small_disk size=8k
    head -c 8192 /dev/zero >small/filler || true
    run timeout 300 bash -c 'ulimit -v 200000; exec "$IMGLOCK" audit -o "$1" -- bash -c "cat disk.img >/dev/null; exit 3"' - "$LOG"
    assert_equal "$status" 3
    refute_output
}

@test "audit: what is no line in the log takes no memory, and hides no line behind it" {
    cat >night.sh <<'NIGHT'
head -c 300000000 /dev/zero >>"$1"
echo >>"$1"
bash -c 'exec 9<>disk.img; kill -9 $$'
exit 4
NIGHT
    run timeout 300 bash -c 'ulimit -v 100000; exec "$IMGLOCK" audit -o "$1" -- bash night.sh "$1"' - "$LOG"
    assert_equal "$status" 4
    refute_output --partial 'memory'
    assert_equal "$(tail -n 1 "$LOG" | jq -r .event)" exit
    rm "$LOG"
}

@test "audit -V: the version" {
    run "$IMGLOCK" audit -V
    assert_success
    assert_output --regexp '^imglock [0-9.]+$'
    run "$IMGLOCK" audit --version
    assert_success
}

@test "audit: a second night has a log of its own, and one that is named is said to have lines already" {
    for _ in 1 2 3; do
        run "$IMGLOCK" audit cat disk.img
        assert_success
    done
    assert_equal "$(ls imglock-audit*)" $'imglock-audit-2.jsonl\nimglock-audit-3.jsonl\nimglock-audit.jsonl'
    assert_equal "$(cat imglock-audit*.jsonl | grep -c '"acquire"')" 3
    # A gap is not filled: the latest has the greatest number.
    rm imglock-audit-2.jsonl
    "$IMGLOCK" audit cat disk.img >/dev/null
    [ -e imglock-audit-4.jsonl ]
    audit true
    refute_output
    audit cat disk.img
    audit true
    assert_output "imglock: $LOG: the log of an earlier audit is in it; this one's lines come after those"
}

@test "audit: 300 processes at once, with a limit of 100 descriptors for the command: each has an exit" {
    cat >crowd.py <<'CROWD'
import os, resource
here, there = os.pipe(), os.pipe()
for _ in range(300):
    if os.fork() == 0:
        os.close(there[1])
        descriptor = os.open("disk.img", os.O_RDONLY)
        os.write(here[1], b"x")
        os.read(there[0], 1)
        os.kill(os.getpid(), 9)
for _ in range(300):
    os.read(here[0], 1)
os.close(there[1])
for _ in range(300):
    os.wait()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
CROWD
    run bash -c 'ulimit -Sn 100; exec timeout 300 "$IMGLOCK" audit -o "$1" -- python3 crowd.py' - "$LOG"
    assert_success
    assert_output 100
    assert_equal "$(asked 'len({e["pid"] for e in l if e["event"] == "open"} & {e["about_pid"] for e in l if e["event"] == "exit"})')" 300
}

# ---- logs in directories that everybody may write ---------------------------------------------------------------------------------

# planted NAME COMMAND...: in a sticky directory and in one that is not, with the file victim, the name is planted by COMMAND; then
# all logs of that name, one after the other, must leave the victim alone, and be no reason to refuse an image.
planted() {
    local name=$1 mode
    shift
    for mode in 1777 0777; do
        rm -rf open
        mkdir -m "$mode" open
        echo precious >victim
        "$@"
        run alone env IMGLOCK_AUDIT="$PWD/open/$name" LD_PRELOAD="$SHIM" "$HELPERS/input_call" open r disk.img
        assert_output 'open: 3'
        run alone env IMGLOCK_LOG="debug,$PWD/open/$name" LD_PRELOAD="$SHIM" "$HELPERS/input_call" open r disk.img
        assert_output 'open: 3'
        run "$IMGLOCK" audit -o "open/$name" -- touch started
        assert_equal "$status" 125
        assert_equal "${#lines[@]}" 1
        assert_output --partial 'directory that everybody may write'
        run "$IMGLOCK" report -o "open/$name" /dev/null
        assert_equal "$status" 125
        assert_output --partial 'directory that everybody may write'
        assert_equal "$(cat victim)" precious
        [ ! -e started ]
    done
}

plant_link() { ln -s "$PWD/victim" open/log; }
plant_hard_link() { ln "$PWD/victim" open/log; }
plant_file() { install -o nobody -m 666 victim open/log; }
plant_dangling() { ln -s "$PWD/absent" open/log; }

@test "no log follows a link, or is written to another user's file, where everybody may write" {
    needs_root
    planted log plant_link
    planted log plant_hard_link
    planted log plant_file
    assert_equal "$(cat open/log)" precious
    planted log plant_dangling
    [ ! -e absent ]
}

@test "links of those who alone may write a directory are followed, and so is /dev/stdout" {
    needs_root
    mkdir -m 755 own
    ln -s "$PWD/there.jsonl" own/log
    IMGLOCK_AUDIT=$PWD/own/log wrapped cat disk.img >/dev/null
    grep -q '"acquire"' there.jsonl
    "$IMGLOCK" audit -o own/log cat disk.img >/dev/null 2>&1
    assert_equal "$(grep -c '"acquire"' there.jsonl)" 2
    "$IMGLOCK" report -o own/text there.jsonl
    run "$IMGLOCK" report -o /dev/stdout there.jsonl
    assert_success
    assert_output "$(cat own/text)"
    # One's own file, and the directory owner's, in a sticky directory.
    mkdir -m 1777 open
    : >open/log
    IMGLOCK_AUDIT=$PWD/open/log wrapped cat disk.img >/dev/null
    [ -s open/log ]
    : >open/log
    chmod 666 open/log disk.img
    IMGLOCK_AUDIT=$PWD/open/log run nobody_calls open r disk.img
    assert_success
}

# ---- what is not watched --------------------------------------------------------------------------------------------------------

@test "a program into which the library does not get has one line for its file, however often it is started" {
    needs_root
    cp "$HELPERS/cli_open" changes_user
    chown nobody changes_user
    chmod 4755 changes_user
    # For another machine: it is not executed, and who would have run it by an emulator would not have been watched.
    python3 -c 'import sys
program = bytearray(open(sys.argv[1], "rb").read())
program[18:20] = b"\x28\x00"
open("arm", "wb").write(program)' "$HELPERS/cli_static"
    printf '#! %s -x\n' "$HELPERS/cli_static_pie" >script
    chmod +x arm script
    audit -- bash -c 'set +e
        for i in {1..20}; do "$HELPERS/cli_static" disk.img; done
        for i in {1..3}; do env -i cat disk.img; done
        "$HELPERS/cli_go"; ./script; ./changes_user disk.img; ./arm
        cat disk.img; ./absent; . /dev/null; true' >/dev/null 2>&1
    assert_equal "$(asked '"\n".join(sorted(e["why"] + " " + e["program"].split("/")[-1] for e in l if e["event"] == "unwatched"))')" \
        $'Go cli_go\nenvironment cat\nforeign arm\nset-user-ID changes_user\nstatic cli_static\nstatic cli_static_pie'
    run "$IMGLOCK" report "$LOG"
    assert_success
    assert_line --index 1 --regexp '^6 programs were not watched: .*/cli_static \(static\), '
}

@test "not watched: found as each of the exec functions finds it" {
    cat >exec.py <<'EXEC'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def text(word): return ctypes.c_char_p(word.encode())
def array(words): return (ctypes.c_char_p * (len(words) + 1))(*[w.encode() for w in words], None)
path, directory = sys.argv[2], os.path.dirname(sys.argv[2])
arguments, environment = array(["x"]), array(["LD_PRELOAD=" + os.environ["LD_PRELOAD"]])
os.makedirs("passed_over", exist_ok=True)
open("passed_over/" + os.path.basename(path), "w").close()
os.environ["PATH"] = "/nowhere::passed_over:" + directory
descriptor = os.open(path, os.O_RDONLY)
execve, execveat = {"x86_64": (59, 322), "aarch64": (221, 281), "s390x": (11, 354)}[os.uname().machine]
calls = {
    "execve": lambda: libc.execve(text(path), arguments, environment),
    "execv": lambda: libc.execv(text(path), arguments),
    "execvp": lambda: libc.execvp(text(os.path.basename(path)), arguments),
    "execvpe": lambda: libc.execvpe(text(os.path.basename(path)), arguments, environment),
    "execl": lambda: libc.execl(text(path), text("x"), None),
    "execlp": lambda: libc.execlp(text(os.path.basename(path)), text("x"), None),
    "fexecve": lambda: libc.fexecve(descriptor, arguments, environment),
    "execveat": lambda: libc.execveat(descriptor, text(""), arguments, environment, 0x1000),
    "syscall": lambda: libc.syscall(execve, text(path), arguments, environment),
    "syscall_at": lambda: libc.syscall(execveat, descriptor, text(""), arguments, environment, 0x1000),
    "posix_spawn": lambda: os.waitpid(os.posix_spawn(path, ["x"], dict(os.environ)), 0),
    "posix_spawnp": lambda: os.waitpid(os.posix_spawnp(os.path.basename(path), ["x"], dict(os.environ)), 0),
}
calls[sys.argv[1]]()
EXEC
    local call
    for call in execve execv execvp execvpe execl execlp fexecve execveat syscall syscall_at posix_spawn \
        posix_spawnp; do
        : >"$LOG"
        audited python3 exec.py "$call" "$HELPERS/cli_static" >/dev/null
        assert_equal "$call $(asked '[(e["why"], e["program"]) for e in l if e["event"] == "unwatched"]')" \
            "$call [('static', '$HELPERS/cli_static')]"
    done
    # A call that fails goes on as it would, and an array that is none is the kernel's to find.
    : >"$LOG"
    run audited python3 -c 'import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((b"/bin/true", None, ctypes.c_void_p(8)), (ctypes.c_void_p(8), None, None), (b"absent", None, None)):
    libc.execve(*arguments)
    print(ctypes.get_errno())'
    assert_output $'14\n14\n2'
}

@test "not watched: a program of musl is watched, by a library that needs libc alone" {
    needs musl-gcc
    echo '#include <fcntl.h>
int main(void) { return open("disk.img", O_RDWR) < 0; }' >program.c
    musl-gcc -o program program.c
    audit -- sh -c './program; true'
    assert_equal "$(asked '[(e["event"], e["comm"]) for e in l if e["event"] in ("open", "unwatched")]')" "[('open', 'program')]"
    # With one that needs another as well it is not, and is said not to be.
    objects build
    make -s -C "$TOP" "BUILD=$PWD/build" OPENSSL=shared "$PWD/build/libimglock.so" >/dev/null
    : >"$LOG"
    run env IMGLOCK_AUDIT="$LOG" LD_PRELOAD="$PWD/build/libimglock.so" sh -c './program; true'
    assert_equal "$(asked '[(e["event"], e["why"]) for e in l if e["event"] in ("open", "unwatched")]')" "[('unwatched', 'foreign')]"
}

@test "a program in Go is run, with one line and one event; without an audit no exec is looked at" {
    audit "$HELPERS/cli_go"
    assert_output --regexp "^imglock: $HELPERS/cli_go: it is written in Go .* neither locked nor seen"
    assert_equal "$(asked '[e["why"] for e in l if e["event"] == "unwatched"]')" "['Go']"
    run "$IMGLOCK" "$HELPERS/cli_go"
    assert_output --partial 'it is written in Go'
    strace -f -o trace -e trace=openat,open env LD_PRELOAD="$SHIM" sh -c "$HELPERS/cli_static disk.img; true" >/dev/null 2>&1 || true
    [ -s trace ]
    refute grep -q '"[^"]*/cli_static"' trace
}

@test "an audit refuses no command, whatever it is: one line, one event, and what it does goes on" {
    needs_root
    chmod 666 disk.img
    cp "$HELPERS/cli_open" changes_user
    chown nobody changes_user
    chmod 4755 changes_user
    printf '#! %s\n' "$HELPERS/cli_static" >script
    # Linked for another loader: the same one, at another place.
    python3 -c 'import re, sys
program = open(sys.argv[1], "rb").read()
loader = re.search(rb"/lib[^\0]*/ld-linux[^\0]*", program).group()
open("loader", "wb").write(open(loader, "rb").read())
open("foreign", "wb").write(program.replace(loader, b"/proc/self/cwd/loader".ljust(len(loader), b"\0")))' "$HELPERS/cli_open"
    chmod +x script foreign loader
    while read -r why program command; do
        rm -f "$LOG"
        # shellcheck disable=SC2086 # words
        run "$IMGLOCK" audit -o "$LOG" -- $command disk.img
        assert_equal "$command $status" "$command 0"
        assert_equal "$(grep -c 'imglock: .*; what it opens is neither locked nor seen; ' <<<"$output")" 1
        assert_equal "$command $(asked '[(e["why"], e["program"].split("/")[-1]) for e in l if e["event"] == "unwatched"]')" \
            "$command [('$why', '$program')]"
        # Without an audit, and with one that is to fail closed, it is refused as ever.
        # shellcheck disable=SC2086
        IMGLOCK_ON_ERROR=deny run "$IMGLOCK" audit -o "$LOG" -- $command disk.img
        assert_equal "$command $status" "$command 125"
        # shellcheck disable=SC2086
        run "$IMGLOCK" $command disk.img
        assert_equal "$command $status" "$command 125"
    done <<END
static cli_static $HELPERS/cli_static
static cli_static ./script
set-user-ID changes_user ./changes_user
foreign foreign ./foreign
environment cli_open env -i $HELPERS/cli_open
END
}
