#!/usr/bin/env python3
"""report_log.py: writes audit logs for the tests of imglock report.

report_log.py lines     each line of standard input, "SECONDS EVENT PID [KEY=VALUE...]", becomes a line of a log.  Values
                        are JSON or else words; comm, cmdline and image have defaults; boot=N is the Nth boot, id=WORD
                        names it in the line.
report_log.py many N    N events of a busy host, the same ones each time.
report_log.py planted N N lines: many programs, 200 readers of an image that a machine writes, and one mkfs on it.
report_log.py writers N, readers N, family N, unended N
                        N processes that have one image open together; children of one; those whose end is not there.
report_log.py size N    N bytes of log, as of an audit that went well.
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


def planted(count):
    image = "/srv/vm/web01.img"
    machine = {"image": image, "comm": "qemu-system-x86", "cmdline": "qemu-system-x86_64 -name web01 -drive file=" + image}
    mkfs = {"image": image, "comm": "mkfs.ext4", "cmdline": "/sbin/mkfs.ext4 -q -F " + image}
    events = [(10, line(10, "acquire", 1200, mode="exclusive", wait_ns=0, **machine)),
              (3500, line(3500, "release", 1200, mode="exclusive", **machine)),
              (2467, line(2467, "conflict", 4711, mode="exclusive", result="let through", holders=[], **mkfs)),
              (2467, line(2467, "open", 4711, mode="exclusive", flags="O_RDWR", **mkfs)),
              (2469, line(2469, "release", 4711, mode="exclusive", unlocked=True, **mkfs))]
    for number in range(200):
        begin, pid = 20 + 12 * number, 10000 + number
        about = {"image": image, "comm": "rsync", "cmdline": "rsync %s /backup/%d/" % (image, number), "mode": "shared"}
        events += [(begin, line(begin, "conflict", pid, result="let through", holders=[], **about)),
                   (begin, line(begin, "open", pid, flags="O_RDONLY", **about)),
                   (begin + 9, line(begin + 9, "release", pid, unlocked=True, **about))]
    for number in range(count - len(events)):
        begin, pid = 1 + number // 2 * 0.7, 20000 + number // 2
        about = {"image": "/srv/vm/other%d.img" % (pid % 40), "comm": "qemu-img", "cmdline": "qemu-img check", "mode": "shared"}
        events.append((begin, line(begin, "acquire", pid, **about)) if number % 2 == 0 else
                      (begin + 0.5, line(begin + 0.5, "release", pid, **about)))
    return (text for _, text in sorted(events, key=lambda event: event[0]))


def crowd(kind, count):
    if kind == "family":
        yield line(0.5, "acquire", 999999, mode="exclusive")
    for number in range(count):
        about = {"cmdline": "program%d disk.img" % (number % 7), "mode": "shared" if kind == "readers" else "exclusive"}
        if kind == "family":
            about["ppid"] = 999999
        elif kind != "readers" or number == 0:
            yield line(1 + number * 0.001, "conflict", 1000 + number, result="let through", holders=[], **about)
        yield line(1 + number * 0.001, "open", 1000 + number, flags="O_RDWR", **about)
    for number in range(count if kind != "unended" else 0):
        yield line(1000 + number * 0.001, "release", 1000 + number)


def of_size(size):
    written = number = 0
    while written < size:
        begin, pid = 1 + number * 0.01, 10 + number
        image = "/var/lib/libvirt/images/guest-%03d.qcow2" % (number % 200)
        about = {"start": 100 + number, "exe": "/usr/bin/qemu-img", "comm": "qemu-img", "cmdline": "qemu-img info " + image,
                 "image": image, "mode": "shared", "dev": "fe:00", "ino": 11059457 + number % 200, "id": "df2be29b4b5447a5"}
        for after, event in ((0, "acquire"), (0.001, "open"), (0.002, "release")):
            text = line(begin + after, event, pid, flags="O_RDONLY", **about)
            written += len(text) + 1
            yield text
        text = line(begin + 0.003, "exit", 2, about_pid=pid, about_start=100 + number, id="df2be29b4b5447a5")
        written += len(text) + 1
        yield text
        number += 1


def main(kind, count=None):
    if kind == "lines":
        return lines()
    if kind in ("many", "planted"):
        return globals()[kind](int(count))
    return of_size(int(count)) if kind == "size" else crowd(kind, int(count))


if __name__ == "__main__":
    for text in main(*sys.argv[1:]):
        print(text)
