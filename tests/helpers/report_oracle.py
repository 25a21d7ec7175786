#!/usr/bin/env python3
"""report_oracle.py IMGLOCK: of random nights, does imglock report find who met whom as a look at all pairs does?"""
import json
import random
import subprocess
import sys

from report_log import line


def night(chance):
    events, spans = [], []
    for pid in range(10, 10 + chance.randrange(2, 40)):
        begin, image = chance.randrange(1, 60), "/srv/%d.img" % chance.randrange(2)
        end, mode = begin + chance.randrange(1, 12), chance.choice(["shared", "shared", "exclusive"])
        about = {"image": image, "mode": mode}
        events += [(begin, line(begin, "conflict", pid, result="let through", holders=[], **about)),
                   (begin, line(begin, "open", pid, flags="O_RDWR", **about)),
                   (end, line(end, "release", pid, unlocked=True, image=image))]
        spans.append((pid, image, begin, end, mode == "exclusive"))
    with open("log.jsonl", "w") as log:
        print(*[text for _, text in sorted(events, key=lambda event: event[0])], sep="\n", file=log)
    return spans


for seed in range(60):
    spans = night(random.Random(seed))
    report = json.loads(subprocess.run([sys.argv[1], "report", "--json", "log.jsonl"], stdout=subprocess.PIPE).stdout)
    meet = [(a, b) for a in spans for b in spans if a[0] != b[0] and a[1] == b[1] and max(a[2], b[2]) < min(a[3], b[3])]
    # Each reader that met a writer, and each writer that came while another was there.
    writes = {span[0]: span[4] for span in spans}
    readers = {a[0] for a, b in meet if b[4] and not a[4]}
    writers = {frozenset((a[0], b[0])) for a, b in meet if a[4] and b[4]}
    overlaps = [overlap for image in report["images"] for overlap in image["overlaps"]]
    told = [[side["pid"] for side in overlap["between"]] for overlap in overlaps]
    assert {pid for pids in told for pid in pids if not writes[pid]} == readers, seed
    late = {max(pair, key=lambda pid: [(s[2], s[0]) for s in spans if s[0] == pid]) for pair in writers}
    assert len([o for o in overlaps if o["kind"] == "corrupts"]) == len(late), (seed, late, told)
    for pids in told:
        assert any({a[0], b[0]} == set(pids) for a, b in meet), (seed, pids)
