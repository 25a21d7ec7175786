#!/usr/bin/env python3
"""report_log.py: writes audit logs for the tests of imglock report.

report_log.py lines     each line of standard input, "SECONDS EVENT PID [KEY=VALUE...]", becomes a line of a log.  Values
                        are JSON or else words; comm, cmdline and image have defaults; boot=N is the Nth boot, id=WORD
                        names it in the line.
report_log.py many N    N events of a busy host, the same ones each time.
"""
import datetime
import hashlib
import json
import random
import sys

EPOCH = datetime.datetime(2026, 11, 22, 2, 0, 0, tzinfo=datetime.timezone.utc)


def rfc3339(seconds):
    moment = EPOCH + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + "%06dZ" % moment.microsecond


def line(seconds, event, pid, **fields):
    # A boot begins an hour after the one before it; the monotonic clock then begins anew.
    boot = fields.pop("boot", 0)
    wall = seconds + 3600 * boot
    about = {
        "v": 1, "time": rfc3339(wall), "mono_ns": int((100 + seconds) * 1e9), "event": event,
        "pid": pid, "tid": pid, "ppid": 1, "start": 10 * pid, "uid": 0, "comm": "program", "cmdline": "program disk.img",
    }
    if "id" in fields:
        about["boot"] = str(fields.pop("id"))
    if event != "exit":
        about["image"] = "/srv/disk.img"
    about.update(fields)
    if "image" in about:
        about["lock"] = hashlib.sha1(about["image"].encode()).hexdigest()
    return json.dumps(about, ensure_ascii=False)


def value_of(word):
    try:
        return json.loads(word)
    except ValueError:
        return word


def lines():
    for words in map(str.split, sys.stdin):
        if words:
            fields = dict(word.split("=", 1) for word in words[3:])
            yield line(float(words[0]), words[1], int(words[2]), **{key: value_of(fields[key]) for key in fields})


COMMANDS = [
    ("qemu-img", "qemu-img convert -O qcow2 %s /backup/nightly.qcow2", "shared"),
    ("qemu-img", "qemu-img info %s", "shared"),
    ("dd", "dd if=%s of=/dev/null bs=1M", "shared"),
    ("mkfs.ext4", "/sbin/mkfs.ext4 -F %s", "exclusive"),
    ("mcopy", "mcopy -i %s täglich-äöü.txt ::", "exclusive"),
]


def many(count):
    chance = random.Random(1)
    images = ["/var/lib/images" + 9 * "/a-directory-with-a-long-name" + "/server-0001.qcow2",
              "/srv/<vm>&\"1\".qcow2", "/srv/虚拟机磁盘.img"]
    events = []
    held = {image: [] for image in images}
    pid = 1000
    while len(events) < count:
        pid += 1
        image = chance.choice(images)
        comm, command, mode = chance.choice(COMMANDS)
        begin = chance.uniform(1, 3000)
        end = begin + chance.expovariate(1 / 100)
        fields = {"image": image, "comm": comm, "cmdline": command % image, "mode": mode}
        others = [other for other in held[image] if other[0] <= begin < other[1] and "exclusive" in (mode, other[2])]
        if others:
            result = chance.choice(["refused", "let through", "let through"])
            events.append((begin, line(begin, "conflict", pid, flags="O_RDWR", result=result, holders=[], **fields)))
            if result == "refused":
                continue
            events.append((begin, line(begin, "open", pid, fd=3, flags="O_RDWR", **fields)))
        else:
            if chance.random() < 0.2:
                events.append((begin - 20, line(begin - 20, "wait", pid, **fields)))
            events.append((begin, line(begin, "acquire", pid, wait_ns=0, **fields)))
            held[image].append((begin, end, mode))
        if chance.random() < 0.9:
            events.append((end, line(end, "release", pid, held_ns=int((end - begin) * 1e9), **fields)))
    return (text for _, text in sorted(events, key=lambda event: event[0])[:count])


for text in many(int(sys.argv[2])) if sys.argv[1] == "many" else lines():
    print(text)
