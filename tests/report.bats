#!/usr/bin/env bats
# report.bats: imglock report: what it makes of audit logs, those of real programs first.

# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # scripts for another bash; tests are subshells
bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 4M disk.img
    export TZ=UTC
}

# audited SCRIPT: runs a bash script under imglock audit; its log is log.jsonl.  In it, "held read|write IMAGE" starts a
# program that has the image open, and returns when it has; its pid is in $holder.
audited() {
    cat >script.sh <<'SCRIPT'
held() {
    local ready=ready.$RANDOM
    mkfifo "$ready"
    "$HELPERS/holder" "$1" "$2" >"$ready" 3>&- &
    holder=$!
    read -r _ <"$ready"
}
SCRIPT
    printf '%s\n' "$1" >>script.sh
    timeout 300 "$IMGLOCK" audit -o log.jsonl -- bash script.sh 3>&-
}

# logged [FILE]: makes a log of the lines on standard input, see report_log.py.
logged() { python3 "$TOP/tests/helpers/report_log.py" lines >"${1:-log.jsonl}"; }

report() { run "$IMGLOCK" report "$@"; }

# asked EXPRESSION [LOG...]: prints what a Python expression makes of the JSON report r.
asked() {
    local expression=$1
    shift
    [ $# -gt 0 ] || set -- log.jsonl
    "$IMGLOCK" report --json "$@" 2>/dev/null | python3 -c 'import json, sys
r = json.load(sys.stdin)
totals = r["totals"]
spans = [s for i in r["images"] for s in i["spans"]]
overlaps = [o for i in r["images"] for o in i["overlaps"]]
print(eval(sys.argv[1]))' "$expression"
}

# picture LOG...: picture.svg, checked.  COUNTS has how often each class of element occurs.
picture() {
    "$IMGLOCK" report --svg -o picture.svg "$@" 2>/dev/null || [ $? -le 2 ]
    COUNTS=$(python3 "$TOP/tests/helpers/report_svg.py" picture.svg count) || fail "$COUNTS"
}

count_of() { sed -n "s/^$1 //p" <<<"$COUNTS"; }

# traced LOG...: the events of the trace, checked.
traced() {
    "$IMGLOCK" report --trace -o trace.json "$@" 2>/dev/null || [ $? -le 2 ]
    run python3 "$TOP/tests/helpers/report_trace.py" trace.json
    assert_success
}

# ---- real programs -----------------------------------------------------------------------------------------------------

@test "a backup and a mkfs beside a writer: both overlaps, the commands side by side, exit status 1" {
    audited 'held write disk.img
        qemu-img convert -f raw -O qcow2 disk.img backup.qcow2
        mkfs.ext4 -q -F disk.img
        kill $holder; wait'
    report log.jsonl
    assert_equal "$status" 1
    assert_line --index 0 --regexp "^Two writers at once: mkfs.ext4 -q -F disk.img \(pid [0-9]+, root\) opened $PWD/disk.img for writing at [0-9:]+, while holder write disk.img \(pid [0-9]+, root\) had it open for writing since [0-9:]+\.$"
    assert_line --index 2 "$PWD/disk.img"
    assert_line --index 3 "  Overlaps that corrupt (two writers at once): 1"
    assert_line --regexp "^    write, let through .* $(id -un) +mkfs.ext4 -q -F disk.img$"
    assert_line "  Readers beside a writer (may have read a mixture): 1"
    assert_line --regexp "^ +holder write disk.img +\| qemu-img convert -f raw -O qcow2 disk.img$"
    assert_line --regexp "^ +holder write disk.img +\| mkfs.ext4 -q -F disk.img$"
    assert_line --regexp "mkfs.ext4 \(pid [0-9]+, $(id -un)\) for writing, O_RDWR.*; locked exclusively by holder \(pid [0-9]+, $(id -un)\)"
    assert_line "$PWD/backup.qcow2"
    assert_line --regexp "^Total: 2 images, 3 processes, .* 1 overlap that corrupts, 1 reader that may have read a mixture, 0 refused, [0-9]+ let through, "
    assert_equal "$(asked '[s["comm"] for s in spans if s["overlaps"] and s["mode"] == "exclusive"]')" \
        "['holder', 'mkfs.ext4']"
    assert_equal "$(asked '[o["kind"] for o in overlaps if not o["repeated"]]')" "['mixture', 'corrupts']"
    picture log.jsonl
    [ "$(count_of band)" -ge 2 ] # one is the legend's
    [ "$(count_of strip)" -ge 2 ]
    [ "$(count_of mixed)" -ge 2 ]
}

@test "one after the other: no conflict, exit status 0, nothing red" {
    audited 'mkfs.ext4 -q -F disk.img
        qemu-img convert -f raw -O qcow2 disk.img backup.qcow2'
    report log.jsonl
    assert_success
    refute_output --partial Overlaps
    assert_line --regexp "^    write +.* mkfs.ext4 -q -F disk.img$"
    assert_line --regexp "^    read +.* qemu-img convert"
    assert_line --partial "0 overlaps that corrupt, 0 readers that may have read a mixture, 0 refused, 0 let through, 0 waits, 0 lost, 0 errors"
    picture log.jsonl
    refute [ "$(count_of band)$(count_of haze)$(count_of strip)$(count_of tick)$(count_of passed)" ]
}

@test "readers beside one another are no conflict" {
    audited 'held read disk.img; first=$holder
        held read disk.img
        kill $first $holder; wait'
    report log.jsonl
    assert_success
    assert_equal "$(asked 'len(spans), len(overlaps)')" "(2, 0)"
}

@test "a holder's child that works on its image is family, and not red" {
    audited 'exec 9<>disk.img
        dd if=/dev/zero of=disk.img bs=4k count=1 conv=notrunc status=none
        exec 9>&-'
    report log.jsonl
    assert_success
    assert_line "  Overlaps in a family, harmless: 1"
    assert_equal "$(asked '[o["kind"] for o in overlaps]')" "['family']"
    picture log.jsonl
    refute [ "$(count_of band)" ]
}

@test "a holder that is killed ends with its exit line, and who comes next does not overlap" {
    audited 'held write disk.img
        kill -9 $holder; wait
        mkfs.ext4 -q -F disk.img'
    report log.jsonl
    assert_success
    assert_equal "$(asked '[s["end"] for s in spans if s["comm"] == "holder"]')" "['exit']"
}

@test "without exit lines an end is unknown, and at the latest where another got the lock" {
    IMGLOCK_AUDIT=$PWD/log.jsonl hold disk.img
    kill -9 "$HOLDER"
    wait "$HOLDER" || true
    IMGLOCK_AUDIT=$PWD/log.jsonl wrapped mkfs.ext4 -q -F disk.img
    report log.jsonl
    assert_success
    assert_line --regexp "^    write .*\?  +1  $HOLDER "
    assert_equal "$(asked '[s["open_ended"] for s in spans][0], spans[0]["to"] <= spans[1]["from"]')" "(True, True)"
}

@test "what was refused, and by whom it was held" {
    export IMGLOCK_AUDIT=$PWD/log.jsonl IMGLOCK_ON_CONFLICT=deny
    hold disk.img
    run wrapped mkfs.ext4 -q -F disk.img
    assert_failure
    report log.jsonl
    assert_equal "$status" 1
    refute_output --partial "Overlaps"
    assert_line --regexp "^  Refused: [0-9]+$"
    assert_line --regexp "mkfs.ext4 \(pid [0-9]+, $(id -un)\) for .*: ETXTBSY; locked exclusively by holder \(pid $HOLDER, $(id -un)\)"
    picture log.jsonl
    [ "$(count_of tick)" -ge 1 ]
    refute [ "$(count_of band)" ]
}

@test "a wait is told with its length and its end" {
    export IMGLOCK_AUDIT=$PWD/log.jsonl
    hold disk.img
    IMGLOCK_WAIT=200 wrapped dd if=disk.img of=/dev/null status=none 3>&- &
    local reader=$!
    HOLDERS+=("$reader")
    # The lines that follow end the tail.
    grep -qm 1 '"event":"wait"' <(timeout 300 tail -n +1 -f log.jsonl)
    release
    wait "$reader"
    report log.jsonl
    assert_success
    assert_line "  Waits: 1"
    assert_line --regexp "^    longest: .* dd \(pid [0-9]+\) to read; then it had the lock$"
    traced log.jsonl
    assert_line --regexp "disk.img \| dd, pid [0-9]+ \| wait for shared [0-9]+ [0-9]+$"
    picture log.jsonl
    [ "$(count_of wait)" -ge 1 ]
}

@test "one file under two names: locks by path do not see it, the report does" {
    ln disk.img other.img
    audited 'held write disk.img
        mkfs.ext4 -q -F other.img
        kill $holder; wait'
    report log.jsonl
    assert_equal "$status" 1
    assert_line --index 0 --partial "opened $PWD/other.img for writing"
    assert_line --index 0 --partial ", as $PWD/disk.img."
    assert_line "  Overlaps that corrupt (two writers at once): 1"
    assert_line --regexp "^ +holder write disk.img +\| mkfs.ext4 -q -F other.img$"
    assert_equal "$(asked '[side.get("image") for side in overlaps[0]["between"]]')" "[None, '$PWD/other.img']"
    # What mkfs read before it wrote is the lesser harm, and no second one.
    assert_line --partial "1 overlap that corrupts, 0 readers that may have read a mixture, 0 refused, 0 let through"
    picture log.jsonl
    [ "$(count_of strip)" -ge 2 ]
}

@test "names of any bytes: escaped in the text, whole in JSON, and the picture and the trace stay well-formed" {
    local name=$'a\xff\e[31m"<&>\n\xef\xbf\xbe.img'
    mv disk.img "$name"
    NAME=$name audited 'held write "$NAME"
        mkfs.ext4 -q -F "$NAME"
        kill $holder; wait'
    report log.jsonl
    assert_equal "$status" 1
    assert_line --partial "$PWD/a\\xff\\x1b[31m\"<&>\\n"
    refute_output --partial $'\e'
    assert_equal "$(asked 'bytes(r["images"][0]["image_raw"]).split(b"/")[-1]')" "b'a\\xff\\x1b[31m\"<&>\\n\\xef\\xbf\\xbe.img'"
    picture log.jsonl
    [ "$(count_of band)" -ge 1 ]
    traced log.jsonl
    assert_output --partial "overlap that corrupts"
}

# ---- what a log may look like --------------------------------------------------------------------------------------------

@test "lines that are cut off or foreign are skipped, counted, and told with their number" {
    printf '1 acquire 7 mode=exclusive\n2 release 7 mode=exclusive\n' | logged good.jsonl
    {
        head -n 1 good.jsonl
        echo 'Nov 22 02:08:41 host kernel: hello'
        echo '{"v":2,"event":"acquire"}'
        echo '[1,2,3]'
        head -n 1 good.jsonl | sed 's/"acquire"/"dance"/'
        head -n 1 good.jsonl | sed 's/T0/ 0/'
        head -n 1 good.jsonl | sed 's/"mono_ns": 1/"mono_ns": -1/'
        printf 'a\0b\xff\e[31m\n\n'
        tail -n 1 good.jsonl
        head -n 1 good.jsonl | head -c 100
    } >mixed.jsonl
    run --separate-stderr "$IMGLOCK" report mixed.jsonl
    # Nothing was found, in what could be read.
    assert_equal "$status" 2
    assert_line --index 0 --partial "8 lines could not be read, so this is not all."
    assert_line --partial "opened 1 time,"
    assert_line --partial "0 errors, 8 lines skipped"
    local number
    for number in 2 3 4 5 6 7 8 11; do
        grep "^imglock: mixed.jsonl:$number: line skipped: " <<<"$stderr"
    done
    assert_equal "$(wc -l <<<"$stderr")" 8
    refute [ "$(grep -c $'\e' <<<"$stderr")" != 0 ]
    assert_equal "$(asked 'r["logs"][0]["lines"], r["logs"][0]["skipped"], spans[0]["duration_ns"]' mixed.jsonl)" \
        "(11, 8, 1000000000)"
}

@test "of very many bad lines the first are told, and then their number" {
    echo '1 acquire 7 mode=shared' | logged
    seq 5000 >>log.jsonl
    run --separate-stderr "$IMGLOCK" report log.jsonl
    assert_equal "$status" 2
    assert_equal "$(wc -l <<<"$stderr")" 21
    [ "$(tail -n 1 <<<"$stderr")" = "imglock: log.jsonl: 4980 more lines skipped, 5000 of 5001 in all" ]
}

@test "an empty log is a report of nothing; what is no log at all is an error" {
    : >log.jsonl
    report log.jsonl
    assert_success
    assert_output --partial "Total: 0 images, 0 processes, "
    picture log.jsonl
    traced log.jsonl
    assert_equal "$(asked 'r["images"], totals["conflict"]')" "([], False)"
    report "$TOP/Makefile"
    assert_equal "$status" 125
    assert_line --partial "nothing here is a line of an audit log"
    report absent.jsonl
    assert_equal "$status" 125
    report .
    assert_equal "$status" 125
}

@test "standard input is a log, and several logs are one, in any order" {
    printf '%s\n' '1 acquire 7 mode=exclusive' '2 conflict 8 mode=exclusive result="let\u0020through"' \
        '2.1 open 8 mode=exclusive' '3 release 8 unlocked=true' '4 release 7' | logged
    sed -n '1p;3p;5p' log.jsonl >odd.jsonl
    sed -n '2p;4p' log.jsonl >even.jsonl
    local whole
    whole=$(asked 'r["images"], totals')
    assert_equal "$(asked 'r["images"], totals' odd.jsonl even.jsonl)" "$whole"
    assert_equal "$(asked 'r["images"], totals' even.jsonl - <odd.jsonl)" "$whole"
    assert_equal "$(asked '[(o["kind"], o["duration_ns"]) for o in overlaps]')" "[('corrupts', 1000000000)]"
}

@test "who did not end before the machine went down is no holder after the boot" {
    printf '%s\n' '1000 acquire 7 mode=exclusive' '1001 open 7 mode=exclusive' '5 acquire 8 mode=exclusive boot=1' \
        '6 release 8 boot=1' | logged
    report log.jsonl
    assert_success
    assert_equal "$(asked '[(s["duration_ns"], s["open_ended"]) for s in spans]')" "[(1000000000, True), (1000000000, False)]"
    # The same from two files.
    head -n 2 log.jsonl >first.jsonl
    tail -n 2 log.jsonl >second.jsonl
    report second.jsonl first.jsonl
    assert_success
}

@test "two machines with one path, one pid and one time are two: nothing overlaps" {
    printf '%s\n' '1 acquire 7 mode=exclusive id=aa' '2 acquire 7 mode=exclusive id=bb' '3 release 7 id=aa' \
        '4 release 7 id=bb' | logged
    report log.jsonl
    assert_success
    assert_line --index 1 --partial ', of 2 boots'
    assert_equal "$(asked '[(s["boot"], s["duration_ns"] // 10**9) for s in spans], totals["boots"], totals["processes"]')" \
        "([('aa', 2), ('bb', 2)], 2, 2)"
    # On one machine it would be a conflict.
    printf '%s\n' '1 acquire 7 mode=exclusive id=aa' '2 conflict 8 mode=exclusive result="let\u0020through" id=aa' \
        '2 open 8 mode=exclusive id=aa' '3 release 7 id=aa' '4 release 8 unlocked=true id=aa' | logged
    report log.jsonl
    assert_equal "$status" 1
    refute_output --partial boots
}

@test "what another machine does in between hides no overlap, whether in one log or in two" {
    printf '%s\n' '1 acquire 7 mode=exclusive id=aa' '2 acquire 8 mode=exclusive id=bb' '3 release 8 id=bb' \
        '4 conflict 9 mode=exclusive result="let\u0020through" id=aa' '4 open 9 mode=exclusive id=aa' \
        '5 release 9 unlocked=true id=aa' '6 release 7 id=aa' | logged
    report log.jsonl
    assert_equal "$status" 1
    assert_line "  Overlaps that corrupt (two writers at once): 1"
    assert_equal "$(asked '[[side["pid"] for side in o["between"]] for o in overlaps]')" '[[7, 9]]'
    grep aa log.jsonl >one.jsonl
    grep bb log.jsonl >other.jsonl
    assert_equal "$(asked 'r["images"], totals' one.jsonl other.jsonl)" "$(asked 'r["images"], totals')"
    picture log.jsonl
    traced log.jsonl
}

@test "a boot that is named is a boot, though the clock seems to go on" {
    printf '%s\n' '1 acquire 7 mode=exclusive id=aa' '2 open 7 mode=exclusive id=aa' \
        '3 acquire 8 mode=exclusive id=bb boot=1' '4 release 8 id=bb boot=1' | logged
    report log.jsonl
    assert_success
    assert_equal "$(asked '[(s["duration_ns"] // 10**9, s["open_ended"]) for s in spans]')" "[(1, True), (1, False)]"
}

@test "lines that cannot name their boot belong to the one whose clocks they have" {
    printf '%s\n' '1 acquire 7 mode=exclusive id=aa' '2 conflict 8 mode=exclusive result="let\u0020through"' \
        '2 open 8 mode=exclusive' '3 release 8 unlocked=true' '4 release 7 id=aa' '5 acquire 9 mode=shared id=bb boot=3' |
        logged
    assert_equal "$(asked '[o["kind"] for o in overlaps], totals["boots"]')" "(['corrupts'], 2)"
    grep -v '"boot"' log.jsonl >without.jsonl
    grep '"boot"' log.jsonl >with.jsonl
    assert_equal "$(asked '[o["kind"] for o in overlaps], totals["boots"]' without.jsonl with.jsonl)" "(['corrupts'], 2)"
}

@test "a wall clock that is set back turns nothing round" {
    printf '%s\n' '10 acquire 7 mode=exclusive' '11 conflict 8 mode=shared result=refused time="2026-11-22T01:00:00.000000Z"' \
        '12 release 7 time="2026-11-22T01:00:01.000000Z"' | logged
    assert_equal "$(asked '[s["duration_ns"] for s in spans]')" "[2000000000]"
    assert_equal "$(asked 'r["images"][0]["incidents"][0]["time"]')" "2026-11-22T02:00:11.000000Z"
}

# ---- the model -------------------------------------------------------------------------------------------------------------

@test "an upgrade, a downgrade and a lost lock are parts of one span; readers meet its exclusive part alone" {
    printf '%s\n' '1 acquire 7 mode=shared' '1 open 7 mode=shared' '2 acquire 8 mode=shared' '3 release 8' \
        '4 convert 7 from=shared mode=exclusive' '6 convert 7 from=exclusive mode=shared' '7 acquire 9 mode=shared' \
        '8 release 9' '9 lost 7 mode=shared regained=false' '10 release 7' | logged
    report log.jsonl
    assert_success
    assert_line "  Locks lost: 1"
    assert_equal "$(asked '[(p["mode"], p["locked"], p["duration_ns"] // 10**9) for p in spans[0]["segments"]]')" \
        "[('shared', True, 3), ('exclusive', True, 2), ('shared', True, 3), ('shared', False, 1)]"
}

@test "who reads by force-share beside a writer may have read a mixture, as a backup by qemu-img convert -U" {
    printf '%s\n' '1 acquire 7 mode=exclusive' '2 acquire 8 mode=force-share' '2 open 8 mode=force-share flags=O_RDONLY' \
        '4 release 8 mode=force-share unlocked=true' '6 release 7 mode=exclusive' '7 acquire 9 mode=force-share' \
        '8 release 9 mode=force-share unlocked=true' | logged
    assert_equal "$(asked '(totals["readers_beside_a_writer"], totals["overlaps_that_corrupt"], overlaps[0]["duration_ns"])')" \
        "(1, 0, 2000000000)"
    report log.jsonl
    assert_failure 1
    assert_line --index 0 --partial 'No two writers at once, but 1 reader may have read a mixture: program disk.img (pid 8,'
    assert_line --partial 'read, no lock'
    # A log that begins with its end.
    printf '%s\n' '1 acquire 7 mode=exclusive' '4 release 8 mode=force-share unlocked=true held_ns=1000000000' \
        '6 release 7 mode=exclusive' | logged
    assert_equal "$(asked 'totals["readers_beside_a_writer"]')" 1
}

@test "an overlap with a span whose end is not in the log is only possible" {
    printf '%s\n' '1 conflict 7 mode=exclusive result="let\u0020through"' '1 open 7 mode=exclusive' \
        '5 acquire 8 mode=exclusive' '6 release 8' | logged
    assert_equal "$(asked '[o["kind"] for o in overlaps]')" "['possible']"
    picture log.jsonl
    assert_equal "$(count_of maybe)" 2 # one is the legend's
    report log.jsonl
    assert_line --index 0 --regexp '^Perhaps two writers at once: .*, if it had not ended before\.$'
    refute [ "$(count_of band)" ]
}

@test "a lock that fork handed on is one lock: two children of its holder do not overlap" {
    printf '%s\n' '1 acquire 7 mode=exclusive' '2 open 8 mode=exclusive ppid=7' '3 open 9 mode=exclusive ppid=7' \
        '4 release 8' '5 release 9' '6 release 7' | logged
    report log.jsonl
    assert_success
    assert_equal "$(asked 'sorted({o["kind"] for o in overlaps})')" "['family']"
    # Strangers are not let off.
    sed -i 's/"ppid": 7/"ppid": 1/' log.jsonl
    report log.jsonl
    assert_equal "$status" 1
}

@test "a holder that wrote no line is known from those who met it" {
    printf '%s\n' '1 acquire 6 mode=shared image=/srv/other.img' \
        '5 conflict 7 mode=shared result="let\u0020through" holders=[{"pid":44,"start":440,"comm":"qemu","uid":0,"mode":"exclusive","since":"2026-11-22T02:00:03.000000Z"}]' \
        '5 open 7 mode=shared' '6 release 7 unlocked=true' | logged
    report log.jsonl
    assert_equal "$status" 1
    assert_line "  Readers beside a writer (may have read a mixture): 1"
    assert_line --index 0 --partial "while qemu (pid 44, root) had it open for writing."
    assert_equal "$(asked '[(s["pid"], s["named_by_others_only"], s["duration_ns"] // 10**9) for s in spans]')" \
        "[(6, False, 5), (44, True, 2), (7, False, 1)]"
}

@test "waits of several threads and of an upgrade stay apart in the trace" {
    printf '%s\n' '1 wait 7 mode=shared tid=70' '2 wait 7 mode=shared tid=71' '3 acquire 7 mode=shared tid=70' \
        '4 conflict 7 mode=shared tid=71 result=refused' '5 wait 7 mode=exclusive tid=70' \
        '6 convert 7 from=shared mode=exclusive tid=70' '8 release 7' | logged
    traced log.jsonl
    assert_line --partial "wait for shared 0 2000000"
    assert_line --partial "wait for shared 1000000 2000000"
    assert_line --partial "wait for exclusive 4000000 1000000"
    assert_line --partial "exclusive 5000000 2000000"
    assert_line --partial "conflict, refused 3000000"
}

# ---- the picture --------------------------------------------------------------------------------------------------------------

@test "the picture of 1, 5, 40 and 1000 events: no text on another, nothing outside, no more than can be read" {
    local count
    for count in 1 5 40 1000; do
        python3 "$TOP/tests/helpers/report_log.py" many "$count" >log.jsonl
        picture log.jsonl
        [ "$(count_of elements)" -lt 4000 ]
        [ "$(sed -n 's/^<svg .* height="\([0-9]*\)".*/\1/p' picture.svg)" -lt 1800 ]
    done
    # However long the image's path is: who had it already, and since when.
    grep -q '>[^<]*server-0001.qcow2</text>' picture.svg
    grep -q 'while mcopy .* had it open for writing since 02:' picture.svg
    # The image of the verdict is the first.
    run sed -n 's/.*class="image">.*\/\(.*\)<.*/\1/p' picture.svg
    assert_line --index 0 server-0001.qcow2
    grep -q 'class="worst">.*: server-0001.qcow2<' picture.svg
    # A row for each program, not for each process.
    refute grep -q 'other programs' picture.svg
    [ "$(count_of faint)" -le 40 ]
    rsvg-convert picture.svg -o picture.png
    [ -s picture.png ]
}

# rendered PICTURE: draws it with librsvg, and prints its size and how many of its pixels are red, light and dark.
rendered() {
    rsvg-convert "$1" -o "$1.png" && python3 "$TOP/tests/helpers/report_pixels.py" "$1.png"
}

# dark PICTURE: the picture as it is where the reader prefers a dark one, which librsvg cannot be told.
dark() {
    python3 -c 'import re, sys
text = open(sys.argv[1], encoding="utf-8").read()
print(re.sub(r"@media \(prefers-color-scheme:dark\)\{\n(.*?)\n\}\n(?=</style>)", r"\1\n", text, count=1, flags=re.S))' "$1"
}

@test "the picture as a renderer draws it, light and dark: overlaps are red, and the rest can be seen" {
    local form size red light dark
    printf '%s\n' '1 acquire 7 mode=exclusive' '2 conflict 8 mode=exclusive result="let\u0020through"' \
        '2 open 8 mode=exclusive' '4 release 8 unlocked=true' '6 release 7' | logged
    picture log.jsonl
    xmllint --noout picture.svg
    dark picture.svg >dark.svg
    refute cmp -s picture.svg dark.svg
    for form in picture dark; do
        read -r size red light dark < <(rendered "$form.svg")
        assert_equal "$size" "1000x$(sed -n 's/^<svg .* height="\([0-9]*\)".*/\1/p' picture.svg)"
        # A band of a fifth of the plot's width and two rows.
        [ "$red" -gt 5000 ]
        [ "$red" -lt 30000 ]
        # The background, and what stands on it.
        [ "$form" = picture ] || read -r light dark <<<"$dark $light"
        [ "$light" -gt 100000 ]
        [ "$dark" -gt 7500 ]
        [ "$dark" -lt 30000 ]
    done
    # Where nothing overlaps nothing is red.
    printf '%s\n' '1 acquire 7 mode=exclusive' '2 release 7' | logged
    picture log.jsonl
    read -r size red light dark < <(rendered picture.svg)
    assert_equal "$red" 0
}

@test "the picture of 300 images, of many programs, of a microsecond, of three days and of ten years" {
    local number
    for number in {1..300}; do
        echo "$number acquire $number mode=shared image=/srv/disk$number.img"
    done | logged
    picture log.jsonl
    grep -q 'more images not drawn, with no overlap' picture.svg
    for number in {1..60}; do
        echo "$number acquire $number mode=shared comm=program$((number % 20)) cmdline=program$((number % 20))"
    done | logged
    picture log.jsonl
    grep -q 'other programs' picture.svg
    for number in 1.000001 259200 315360000; do
        printf '%s\n' '1 acquire 7 mode=shared' "$number release 7" | logged
        picture log.jsonl
        # Each line of the grid has its label, above and below, but for those at the edge.
        [ "$(count_of axis)" -ge 4 ]
        [ "$(count_of grid)" -le $(($(count_of axis) / 2 + 1)) ]
    done
}

@test "Chromium draws it as librsvg does, light and dark, with 3, 300 and 10,000 opens: no text on another" {
    command -v chromium >/dev/null || skip "no Chromium here"
    local log form size red light dark
    printf '%s\n' '1 acquire 7 mode=exclusive' '900 conflict 8 mode=exclusive result="let\u0020through"' \
        '900 open 8 mode=exclusive' '1400 release 8 unlocked=true' '2600 open 9 mode=shared image=/srv/other.img' '2700 release 7' |
        logged few.jsonl
    python3 "$TOP/tests/helpers/report_log.py" many 900 >some.jsonl
    python3 "$TOP/tests/helpers/report_log.py" planted 10000 >many.jsonl
    for log in few some many; do
        picture "$log.jsonl"
        read -r size red light dark < <(rendered picture.svg)
        for form in light dark; do
            run timeout 300 "$TOP/tests/helpers/report_chromium.sh" picture.svg "$form" drawn.png
            assert_success
            refute_output
            read -r drawn_size drawn_red drawn_light drawn_dark < <(python3 "$TOP/tests/helpers/report_pixels.py" drawn.png)
            assert_equal "$drawn_size" "$size"
            # What is red in one is in the other.
            [ $((10 * drawn_red)) -gt $((8 * red)) ] && [ $((10 * drawn_red)) -lt $((13 * red)) ] ||
                fail "$log, $form: $drawn_red red pixels, and $red by librsvg"
            if [ "$form" = light ]; then [ "$drawn_light" -gt "$drawn_dark" ]; else [ "$drawn_dark" -gt "$drawn_light" ]; fi
        done
    done
}

# ---- the command ---------------------------------------------------------------------------------------------------------------

@test "-o writes a file; one that cannot be written is an error, and so are two forms at once" {
    echo '1 acquire 7 mode=shared' | logged
    report -o out log.jsonl
    assert_success
    refute_output
    grep -q '^Total: ' out
    report -o absent/out log.jsonl
    assert_equal "$status" 125
    report -o /dev/full log.jsonl
    assert_equal "$status" 125
    report --json --svg log.jsonl
    assert_equal "$status" 125
    assert_line --index 0 "imglock: --json and --svg contradict each other"
}

@test "colours are for terminals, and NO_COLOR is heeded" {
    printf '%s\n' '1 conflict 7 mode=shared result=refused' | logged
    run env -u NO_COLOR TERM=xterm script -qec "'$IMGLOCK' report log.jsonl" /dev/null
    assert_equal "$status" 1
    assert_output --partial $'\e[33mNo two programs met: 1 operation was refused.'
    run env NO_COLOR=1 TERM=xterm script -qec "'$IMGLOCK' report log.jsonl" /dev/null
    refute_output --partial $'\e'
    report log.jsonl
    refute_output --partial $'\e'
}

@test "in the text, too, who read beside a writer has another colour than two writers" {
    python3 "$TOP/tests/helpers/report_log.py" planted 1000 >log.jsonl
    run env -u NO_COLOR TERM=xterm script -qec "stty cols 200; '$IMGLOCK' report log.jsonl" /dev/null
    assert_line --regexp $'\e\\[1;31m    write, let through .*mkfs.ext4'
    assert_line --regexp $'\e\\[1;31m    write .*qemu-system-x86'
    assert_line --regexp $'\e\\[33m    read, let through .*rsync'
    refute_line --regexp $'\e\\[1;31m    read.*rsync'
}

@test "a damaged log of any kind is read to its end" {
    python3 "$TOP/tests/helpers/report_log.py" many 300 >log.jsonl
    python3 - <<'DAMAGE'
import random
chance = random.Random(7)
lines = open("log.jsonl", "rb").read().splitlines(True)
chance.shuffle(lines)
damaged = bytearray(b"".join(line for line in lines if chance.random() < 0.7))
for _ in range(150):
    damaged[chance.randrange(len(damaged))] = chance.randrange(256)
open("damaged.jsonl", "wb").write(damaged)
DAMAGE
    local form
    for form in "" --json --svg --trace; do
        run timeout 300 "$IMGLOCK" report $form damaged.jsonl
        [ "$status" -le 2 ]
    done
    picture damaged.jsonl
    traced damaged.jsonl
}

# ---- what it comes to, and what it takes -------------------------------------------------------------------------------------------

@test "one corruption among 200 readers, in a log of 10,000 lines: the first line names it" {
    python3 "$TOP/tests/helpers/report_log.py" planted 10000 >log.jsonl
    assert_equal "$(wc -l <log.jsonl)" 10000
    report log.jsonl
    assert_equal "$status" 1
    assert_line --index 0 "Two writers at once: mkfs.ext4 -q -F /srv/vm/web01.img (pid 4711, root) opened /srv/vm/web01.img for writing at 02:41:07, while qemu-system-x86_64 -name web01 -drive file=/srv/vm/web01.img (pid 1200, root) had it open for writing since 02:00:10."
    # The image comes first, and the readers behind the writers.
    assert_line --index 2 /srv/vm/web01.img
    assert_line --index 3 "  Overlaps that corrupt (two writers at once): 1"
    assert_line "  Readers beside a writer (may have read a mixture): 200"
    assert_equal "$(asked 'r["verdict"], totals["overlaps_that_corrupt"], totals["readers_beside_a_writer"]')" "('corrupts', 1, 200)"
    picture log.jsonl
    grep -q '>mkfs.ext4 -q -F web01.img, pid 4711, opened it for writing at 02:41:07</text>' picture.svg
    # In another colour than the writers, and nothing red for the readers.
    assert_equal "$(count_of flag)" 2 # one is the legend's
    [ "$(count_of mixed)" -ge 3 ]
    # Without it, the readers alone are no corruption.
    grep -v '"pid": 4711,' log.jsonl >without.jsonl
    report without.jsonl
    assert_equal "$status" 1
    assert_line --index 0 --regexp '^No two writers at once, but 200 readers may have read a mixture: the first, '
    refute_output --partial 'Overlaps that corrupt'
    picture without.jsonl
    refute [ "$(count_of band)$(count_of flag)$(count_of strip)$(count_of bad)" ]
}

@test "without a log: the one that imglock audit named last" {
    report
    assert_equal "$status" 125
    assert_line --index 0 --partial 'no log given'
    "$IMGLOCK" audit -- cat disk.img >/dev/null
    truncate -s 1M second.img
    "$IMGLOCK" audit -- cat second.img >/dev/null
    report
    assert_success
    assert_line "$PWD/second.img"
    refute_line "$PWD/disk.img"
    : >imglock-audit-99x.jsonl
    assert_equal "$(asked 'r["logs"][0]["log"]' imglock-audit-2.jsonl)" imglock-audit-2.jsonl
}

# instructions KIND COUNT: what a report of so many processes takes, of the one image that they have open together.
instructions() {
    python3 "$TOP/tests/helpers/report_log.py" "$1" "$2" >"crowd$2.jsonl"
    { valgrind --tool=callgrind --callgrind-out-file=/dev/null "$IMGLOCK" report "crowd$2.jsonl" >/dev/null || true; } 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

@test "twice as many processes that have one image open together take twice the work" {
    local kind few many
    for kind in writers readers family unended; do
        few=$(instructions "$kind" 250)
        many=$(instructions "$kind" 500)
        [ "$few" -gt 1000000 ]
        # Pairs would be four times as many.
        [ $((10 * many)) -lt $((22 * few)) ] || fail "$kind: $few instructions for 250, $many for 500"
    done
}

@test "10,000 processes that have one image open together: every form" {
    local form
    for kind in writers unended; do
        python3 "$TOP/tests/helpers/report_log.py" "$kind" 10000 >log.jsonl
        for form in "" --json --svg --trace; do
            run timeout 300 "$IMGLOCK" report $form -o out log.jsonl
            [ "$status" -le 1 ]
        done
        picture log.jsonl
        [ "$(count_of elements)" -lt 4000 ]
    done
    python3 "$TOP/tests/helpers/report_log.py" writers 10000 >log.jsonl
    assert_equal "$(asked 'totals["overlaps_that_corrupt"], len(spans)')" "(9999, 10000)"
}

@test "a log of 1 GB within 256 MB: memory grows by a quarter of the log at most" {
    # The address space that a log of nothing takes, in KiB.
    : >log.jsonl
    local limit=4000 form
    until (ulimit -v $limit && "$IMGLOCK" report --svg log.jsonl) >/dev/null 2>&1; do limit=$((limit + 1000)); done
    python3 "$TOP/tests/helpers/report_log.py" size 16000000 >log.jsonl
    # A quarter of its size is 4 MB.
    limit=$((limit + 4000))
    for form in "" --json --svg --trace; do
        run bash -c 'ulimit -v "$1" && exec "$IMGLOCK" report $2 -o out log.jsonl' - $limit "$form"
        assert_success
        refute_output
    done
    # It is the log that takes it: where every line were kept, it would not do.
    run bash -c 'ulimit -v "$1" && exec "$IMGLOCK" report log.jsonl' - $((limit - 3000))
    assert_equal "$status" 125
}

@test "a long log says on a terminal how far the reading is, and takes the line back" {
    local clock
    clock=$(find /usr/lib -name libfaketime.so.1 -print -quit)
    [ -n "$clock" ] || fail "libfaketime is not installed"
    python3 "$TOP/tests/helpers/report_log.py" size 1000000 >log.jsonl
    # It is long for a clock that is a thousand times as fast.
    run env -u NO_COLOR TERM=xterm script -qec "LD_PRELOAD='$clock' FAKETIME='+0 x1000' '$IMGLOCK' report -o out log.jsonl" /dev/null
    assert_output --partial $'\rimglock: reading the log: '
    [ "${output: -4}" = $'\r\e[K' ]
    LD_PRELOAD=$clock FAKETIME='+0 x1000' run "$IMGLOCK" report -o out log.jsonl
    refute_output
}

@test "programs that were not watched have a sentence, and no part in the exit status" {
    printf '%s\n' '1 acquire 7 mode=shared' '2 unwatched 8 program=/usr/bin/restic why=Go' \
        '3 unwatched 8 program=/bin/busybox why=static' '4 unwatched 9 program=/bin/busybox why=static' '5 release 7' | logged
    sed -i '/"unwatched"/s/, "image": [^,]*, "lock": [^}]*//' log.jsonl
    report log.jsonl
    assert_success
    assert_line --index 1 "2 programs were not watched: /usr/bin/restic (Go), /bin/busybox (static)."
    assert_equal "$(asked '[(u["program"], u["times"]) for u in r["not_watched"]], totals["programs_not_watched"]')" \
        "([('/usr/bin/restic', 1), ('/bin/busybox', 2)], 2)"
    picture log.jsonl
    grep -q '2 programs were not watched' picture.svg
}

@test "firmware that an emulator reads is counted, and not listed among the images" {
    truncate -s 1M disk.img
    "$IMGLOCK" audit -o log.jsonl -- qemu-system-x86_64 -accel tcg -m 16 -nodefaults -display none -S -device virtio-blk,drive=d \
        -drive if=none,id=d,file=disk.img,format=raw -monitor stdio < <(echo quit) >/dev/null
    grep -q '"image":"/usr/share/' log.jsonl
    run "$IMGLOCK" report log.jsonl
    assert_success
    assert_line "$PWD/disk.img"
    refute_line --regexp '^/usr/'
    assert_line --regexp '^Not listed: [0-9]+ files? of the system that nobody wrote\.$'
    assert_equal "$("$IMGLOCK" report --json log.jsonl | jq '[.images[].image | select(startswith("/usr/"))] | length > 0')" true
}

@test "who met whom is what a look at all pairs says, of random nights" {
    run python3 "$TOP/tests/helpers/report_oracle.py" "$IMGLOCK"
    assert_success
    refute_output
}
