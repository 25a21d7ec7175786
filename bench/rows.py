"""The rows of the table: what is measured, beside what, and how much more it may cost."""

import contextlib
import hashlib
import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from measure import (BY_HAND, COMMAND, EMPTY, HANDOVER, LIBRARY, RUNNER, TOP, Runner, Samples, Side, calls_in_turn,
                     commands_in_turn, environment, in_turn, program)

NS = "ns an operation"
MS = "ms a run"
WRAPPED = {"LD_PRELOAD": LIBRARY}


@dataclass
class Row:
    """A line of the table.  limit None: a peer, or a floor of another kind, for comparison."""

    key: str
    what: str
    unit: str
    subject: Samples
    floor: Samples
    limit: float | None
    difference: bool = False  # the subject less the floor is what is limited, not the ratio

    @property
    def value(self) -> float:
        subject, floor = median(self.subject.values), median(self.floor.values)
        return round(subject - floor if self.difference else subject / floor, 3)

    @property
    def verdict(self) -> str:
        return "peer" if self.limit is None else "pass" if self.value <= self.limit else "over"


@dataclass
class Bench:
    """Where to measure, and how long."""

    directory: str
    quick: bool
    locks: str = ""
    big: str = ""  # a directory with room for the large images, in memory where there is some
    files: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        os.sync()  # what was built just now would count as private memory of who maps it
        self.locks = f"{self.directory}/locks"
        os.mkdir(self.locks)
        os.chmod(self.locks, 0o1777)
        now = time.time()
        # Read since it was written, and not: relatime moves the access time of the second one.
        for name, written in (("notes.txt", now - 3600), ("fresh.txt", now + 3600)):
            with open(f"{self.directory}/{name}", "wb") as file:
                file.write(b"This is no image.\n" * 400)
            os.utime(f"{self.directory}/{name}", (now + 60, written))
        image = f"{self.directory}/disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
        self.make_lock_file(image)
        self.files = {"notes": f"{self.directory}/notes.txt", "fresh": f"{self.directory}/fresh.txt", "image": image}

    def make_lock_file(self, image: str) -> None:
        """It is made by the first who opens the image."""
        subprocess.run([RUNNER, "open-write", image], input=b"1\n", check=True, stdout=subprocess.DEVNULL,
                       env=environment(self.locks, WRAPPED))

    def lock_file(self, image: str) -> str:
        return f"{self.locks}/.qemu-{hashlib.sha1(os.path.realpath(image).encode()).hexdigest()}.lock"

    def calls(self, *sides: Side, batch_ns: float = 2e6, batches: int = 60) -> list[Samples]:
        if self.quick:
            return calls_in_turn(sides, self.locks, batches // 4, 2, batch_ns / 2)
        # Where a process's pages happen to lie makes a hundredth: many processes, with few batches each.
        return calls_in_turn(sides, self.locks, batches // 3, 27, batch_ns)

    def programs(self, words: Sequence[str], times: int, prepare: Callable[[], None] = lambda: None,
                 input_path: str = os.devnull, locked: str = "") -> list[Samples]:
        """A program under the library beside the same program bare; locked, an image: and under an empty library, and
        under one that makes the calls for this image's lock, and nothing else."""
        sides = {"imglock": WRAPPED, "bare": {}}
        if locked:
            sides |= {"an empty preload library": {"LD_PRELOAD": EMPTY},
                      "the same calls by hand": {"LD_PRELOAD": BY_HAND, "BY_HAND_IMAGE": locked,
                                                 "BY_HAND_LOCK": self.lock_file(locked)}}
        return commands_in_turn(list(sides), [program(words, environment(self.locks, settings), input_path)
                                              for settings in sides.values()],
                                prepare, 3 if self.quick else times)


def under(words: Sequence[str], **settings: str) -> Side:
    return Side("imglock", words, WRAPPED | settings)


# ---- single calls ---------------------------------------------------------------------------------------------------

def plain_open(bench: Bench) -> Iterator[Row]:
    words = ["open", bench.files["notes"]]
    subject, floor = bench.calls(under(words, IMGLOCK_MAGIC="off"), Side("bare", words))
    yield Row("open", "open+close of what is no image, IMGLOCK_MAGIC=off", NS, subject, floor, 1.03)


def look(bench: Bench) -> Iterator[Row]:
    for key, file, what, limit in (("header", "notes", "the same, its header looked at", 1.05),
                                   ("header-fresh", "fresh", "the same of a file not read since it was written", None)):
        path = bench.files[file]
        subject, floor = bench.calls(under(["open", path]), Side("open, fstat, pread, close by hand",
                                                                 ["look-by-hand", path]))
        yield Row(key, what, NS, subject, floor, limit)


def untracked(bench: Bench) -> Iterator[Row]:
    for operation, what in (("dup", "dup+close"), ("fcntl", "fcntl(F_GETFL)"), ("close-bad", "close of a bad descriptor")):
        subject, floor = bench.calls(under([operation]), Side("bare", [operation]))
        yield Row(operation, f"{what}, no image", NS, subject, floor, 1.05)


def image_open(bench: Bench) -> Iterator[Row]:
    image = bench.files["image"]
    hand = [image, bench.lock_file(image), "9"]
    subject, floor, low, lock_only, bare = bench.calls(
        under(["open-write", image]), Side("the same calls by hand", ["write-by-hand", *hand]),
        Side("the same but for the lock's descriptor, left at a low number", ["write-by-hand-low", *hand]),
        Side("the lock's calls alone, by hand", ["write-lock-by-hand", *hand]), Side("bare", ["open-write", image]))
    what = "open+close of an image, exclusive lock and record"
    yield Row("image", what, NS, subject, floor, 1.25)
    yield Row("image-low", what, NS, subject, low, None)
    yield Row("image-lock", what, NS, subject, lock_only, None)
    yield Row("image-bare", what, NS, subject, bare, None)


@contextlib.contextmanager
def holders(bench: Bench, count: int) -> Iterator[None]:
    """That many other processes hold the image shared."""
    if count == 0:
        yield
        return
    with subprocess.Popen([RUNNER, "hold", str(count), bench.files["image"]], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=environment(bench.locks, WRAPPED)) as process:
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the holders do not hold")
        yield
        process.stdin.close()


def shared_open(bench: Bench) -> Iterator[Row]:
    image = bench.files["image"]
    for count in (0, 10, 100, 1000):
        with holders(bench, count):
            subject, floor = bench.calls(under(["open", image]),
                                         Side("the same calls by hand", ["read-by-hand", image,
                                                                         bench.lock_file(image), "4000"]))
        yield Row(f"shared-{count}", f"shared open+close, {count:,} other holders", NS, subject, floor, 1.25)


def crowd(bench: Bench) -> Iterator[Row]:
    image = bench.files["image"]
    subject, floor = bench.calls(
        under(["crowd", "64", "open", image]),
        Side("the same calls by hand", ["crowd", "64", "read-by-hand", image, bench.lock_file(image), "3000"]),
        batch_ns=20e6, batches=20)
    yield Row("crowd", "64 processes opening one image, shared", NS, subject, floor, 1.25)


def many(bench: Bench) -> Iterator[Row]:
    directory = f"{bench.directory}/many"
    # An image takes two descriptors, and not every container's root may raise its limit.
    most = min(10000, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2)
    os.mkdir(directory)
    for number in range(most):
        # What is in them does not matter: their names say that they are images.
        with open(f"{directory}/{number}.qcow2", "wb"):
            pass
    words = ["many", directory]
    scale: dict[str, tuple[Samples, Samples]] = {}
    runners: dict[str, Runner] = {}
    for side in (under(words), Side("bare", words)):
        scale[side.name] = Samples(f"{side.name}, {most:,}"), Samples(f"{most // 10:,}")
        runners[side.name] = Runner(side.words, side.settings, bench.locks)
        runners[side.name].batch(most)  # makes the lock files
    for _ in range(2 if bench.quick else 15):
        for name, runner in runners.items():
            scale[name][0].values.append(runner.batch(most))
            scale[name][1].values.extend(runner.batch(most // 10) for _ in range(3))
    for runner in runners.values():
        runner.end()
    # Other rows are not about a directory with ten thousand lock files.
    for number in range(most):
        os.unlink(bench.lock_file(f"{directory}/{number}.qcow2"))
    shutil.rmtree(directory)
    what = f"{most:,} images open in one process, an open+close of theirs beside one of {most // 10:,}"
    # Linear: an image costs no more among many.  Caches make it a little more, bare as well.
    yield Row("many", what, NS, *scale["imglock"], 1.25)
    yield Row("many-bare", f"{what}, bare", NS, *scale["bare"], None)


# ---- a shared file system -------------------------------------------------------------------------------------------

@contextlib.contextmanager
def gluster(bench: Bench) -> Iterator[tuple[list[str], str] | None]:
    """What runs a command where a GlusterFS is mounted, and the mount; None where there is none to be had."""
    directory = f"{bench.directory}/gluster"
    os.mkdir(directory)
    with subprocess.Popen([f"{TOP}/bench/gluster.sh", directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:
        line = process.stdout.readline().strip()
        if line.startswith("ready "):
            _, pid, store = line.split(" ", 2)
            yield ["nsenter", "-t", pid, "-n", "-m", "-p", "-u", "--"], store
        else:
            print(f"asking: skipped, no GlusterFS here: {line or 'it does not start'}", flush=True)
            yield None


def asking_samples(bench: Bench, host: Sequence[str]) -> tuple[list[Samples], list[Samples]]:
    """imglock and the floor, when it is time to ask again; and both within the second after that."""
    runners, files = {}, []
    for name in ("imglock", "ask", "trust"):
        image = f"{bench.directory}/{name}.qcow2"  # each has one for itself, open for writing
        lock_file = bench.lock_file(image)
        files += [image, lock_file]
        subprocess.run([*host, "qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
        maker = Runner(["open-write", image], WRAPPED, bench.locks, host)
        maker.batch(1)
        maker.end()
        words = ["open-again", image] if name == "imglock" else [f"{name}-by-hand", image, lock_file, "9"]
        runners[name] = Runner(words, WRAPPED if name == "imglock" else {}, bench.locks, host)
        runners[name].batch(2)
    turns = [(runners["imglock"], runners["ask"]), (runners["imglock"], runners["trust"])]
    results = tuple([Samples("imglock"), Samples("the same calls by hand")] for _ in turns)
    for number in range(5 if bench.quick else 40):
        time.sleep(1.1)  # the library asks at most once a second
        # Or who comes first pays for what a client has forgotten meanwhile: it remembers a file's status for a second.
        subprocess.run([*host, "stat", *files], stdout=subprocess.DEVNULL, check=True)
        for pair, samples in zip(turns, results):
            for index in in_turn(2, number):
                samples[index].values.append(pair[index].batch(1))
    for runner in runners.values():
        runner.end()
    return results


def asking(bench: Bench) -> Iterator[Row]:
    with gluster(bench) as found:
        if not found:
            return
        host, store = found
        asked, trusted = asking_samples(replace(bench, directory=store, locks=f"{store}/locks"), host)
    what = "open+close of an image that is open already, on GlusterFS"
    yield Row("asking", f"{what}, its lock asked for again", NS, *asked, None)
    yield Row("asking-not", f"{what}, within a second of that", NS, *trusted, None)
    asked, trusted = (Samples(name, [value / 1000 for value in samples[0].values])
                      for name, samples in (("imglock", asked), ("nothing asked", trusted)))
    yield Row("asking-adds", f"{what}, what asking adds", "us", asked, trusted, None, difference=True)


# ---- processes ------------------------------------------------------------------------------------------------------

def execution(bench: Bench) -> Iterator[Row]:
    true = shutil.which("true")
    subject, floor, bare = bench.calls(Side("imglock", ["start", true], {"PRELOAD": LIBRARY}),
                                       Side("an empty preload library", ["start", true], {"PRELOAD": EMPTY}),
                                       Side("bare", ["start", true]), batch_ns=10e6)
    yield Row("exec", "start of a small program", NS, subject, floor, 1.15)
    yield Row("exec-bare", "start of a small program", NS, subject, bare, None)


def private_memory(words: Sequence[str], settings: dict[str, str], bench: Bench) -> float:
    """KiB that no other process shares, of a process that waits."""
    runner = Runner(words, settings, bench.locks)
    runner.batch(1)
    with open(f"/proc/{runner.process.pid}/smaps_rollup", encoding="ascii") as report:
        sizes = dict(line.split(":", 1) for line in report if line.startswith("Private_"))
    runner.end()
    return sum(int(size.split()[0]) for name, size in sizes.items() if name == "Private_Dirty")


def memory(bench: Bench) -> Iterator[Row]:
    for key, what, words in (("memory", "private memory of a process", ["fcntl"]),
                             ("memory-image", "the same, after an image's open and close",
                              ["open-write", bench.files["image"]])):
        subject, floor = Samples("imglock"), Samples("an empty preload library")
        for _ in range(5 if bench.quick else 15):
            subject.values.append(private_memory(words, WRAPPED, bench))
            floor.values.append(private_memory(words, {"LD_PRELOAD": EMPTY}, bench))
        yield Row(key, what, "KiB", subject, floor, 64, difference=True)


# ---- programs -------------------------------------------------------------------------------------------------------

# QEMU's threads wake each other up for each request, and where the scheduler puts them makes a run of writes take six
# times as long as another, and a conversion a quarter longer.
ONE_PROCESSOR = ["taskset", "-c", "0"]


def convert(bench: Bench) -> Iterator[Row]:
    source, target = f"{bench.big}/source.raw", f"{bench.big}/target.qcow2"
    with open(source, "wb") as file:
        block = os.urandom(1 << 20)
        for number in range(0, 1024, 2):
            file.seek(number << 20)
            file.write(block)
        file.truncate(1 << 30)

    def prepare() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)

    subject, floor = bench.programs([*ONE_PROCESSOR, "qemu-img", "convert", "-O", "qcow2", source, target], 15, prepare)
    yield Row("convert", "qemu-img convert of 1 GiB, on one processor", MS, subject, floor, 1.02)

    def by_locking(locking: str) -> Callable[[], None]:
        options = f"driver=raw,file.driver=file,file.filename={source},file.locking={locking}"
        return program([*ONE_PROCESSOR, "qemu-img", "convert", "--image-opts", "-O", "qcow2", options, target],
                       environment(bench.locks, {}))

    subject, floor = commands_in_turn(["QEMU locking=on", "QEMU locking=off"], [by_locking("on"), by_locking("off")],
                                      prepare, 3 if bench.quick else 7)
    yield Row("convert-qemu", "the same, source with QEMU's own locking", MS, subject, floor, None)
    prepare()
    os.unlink(source)


def random_writes(bench: Bench) -> Iterator[Row]:
    image, script = f"{bench.big}/random.qcow2", f"{bench.directory}/random.qemu-io"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "256M"], check=True)
    place = 1
    with open(script, "w", encoding="ascii") as file:
        for _ in range(5000 if bench.quick else 20000):
            place = (place * 1103515245 + 12345) % (1 << 31)
            file.write(f"write -q {place % 65536 * 4096} 4k\n")
        file.write("quit\n")
    subject, floor = bench.programs([*ONE_PROCESSOR, "qemu-io", "-f", "qcow2", image], 25, input_path=script)
    yield Row("random", "qemu-io, random writes of 4 KiB, on one processor", MS, subject, floor, 1.02)
    os.unlink(image)


def make_file_system(bench: Bench) -> Iterator[Row]:
    # On the disk: in memory there is nothing to do, and the start of the program is all that is measured.
    image = f"{bench.directory}/file-system.img"
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    # The library takes the same time whatever the size is: a small file system shows it, a large one what it matters.
    for key, size, times in (("mkfs", 16, 151), ("mkfs-large", 256, 101)):
        def prepare(length: int = size << 30) -> None:
            with open(image, "wb") as file:
                file.truncate(length)

        prepare()
        bench.make_lock_file(image)
        subject, floor, empty, by_hand = bench.programs([mkfs, "-q", "-F", image], times, prepare, locked=image)
        yield Row(key, f"mkfs.ext4 of {size} GiB", MS, subject, floor, 1.02)
        yield Row(f"{key}-empty", "the same", MS, empty, floor, None)
        yield Row(f"{key}-by-hand", "the same", MS, by_hand, floor, None)
        os.unlink(image)


def shell_loop(bench: Bench) -> Iterator[Row]:
    times = 20 if bench.quick else 100
    loop = f"for i in $(seq {times}); do qemu-img info \"$1\" >/dev/null || exit; done"
    image = bench.files["image"]
    subject, floor, empty, by_hand = bench.programs(["bash", "-c", loop, "-", image], 30, locked=image)
    yield Row("loop", f"a shell loop of {times} qemu-img info, thirty times", MS, subject, floor, 1.05)
    yield Row("loop-empty", "the same", MS, empty, floor, None)
    yield Row("loop-by-hand", "the same", MS, by_hand, floor, None)

    def by_locking(locking: str) -> Callable[[], None]:
        options = f"driver=qcow2,file.driver=file,file.filename={image},file.locking={locking}"
        return program(["bash", "-c", loop.replace("info", "info --image-opts"), "-", options],
                       environment(bench.locks, {}))

    subject, floor = commands_in_turn(["QEMU locking=on", "QEMU locking=off"], [by_locking("on"), by_locking("off")],
                                      lambda: None, 3 if bench.quick else 5)
    yield Row("loop-qemu", "the same, with QEMU's own locking", MS, subject, floor, None)


def remove_tree(bench: Bench) -> Iterator[Row]:
    tree = f"{bench.directory}/tree"

    def prepare() -> None:
        for directory in range(20):
            os.makedirs(f"{tree}/{directory}")
            for number in range(1000):
                with open(f"{tree}/{directory}/{number}.o", "wb") as file:
                    file.write(b"small\n")

    subject, floor = bench.programs(["rm", "-rf", tree], 9, prepare)
    yield Row("rm", "rm -rf of 20,000 small files under the guard", MS, subject, floor, 1.35)


def hand_over(bench: Bench) -> Iterator[Row]:
    subject, floor = Samples("imglock"), Samples("F_OFD_SETLKW")
    for _ in range(1 if bench.quick else 7):
        # Its status says whether the ratio is within 2, which is for us to judge.
        lines = subprocess.run([HANDOVER], env=environment(bench.locks, WRAPPED), stdout=subprocess.PIPE, check=False,
                               text=True).stdout
        for samples in (subject, floor):
            samples.values.append(float(re.search(rf"^{samples.name} +median +([0-9.]+) us", lines, re.M)[1]) * 1000)
    yield Row("handover", "from a release to the return of the open that waited", NS, subject, floor, 2)


# ---- peers ----------------------------------------------------------------------------------------------------------

PEERS = {"libeatmydata": ["eatmydata"], "nocache": ["nocache"], "fakeroot": ["fakeroot"],
         "libfaketime": ["faketime", "-f", "+0"]}


def preload_peers(bench: Bench) -> Iterator[Row]:
    true = shutil.which("true")
    for operation, argument, key, what in (("open", bench.files["notes"], "open", "open+close of what is no image"),
                                           ("start", true, "exec", "start of a small program")):
        words = [operation, argument]
        sides = [Side(name, words, wrapper=wrapper) for name, wrapper in PEERS.items() if shutil.which(wrapper[0])]
        *peers, bare = bench.calls(*sides, Side("bare", words), batches=30, batch_ns=4e6)
        for peer in peers:
            yield Row(f"{key}-{peer.name}", f"{what}, {peer.name}", NS, peer, bare, None)


def watching(bench: Bench) -> Iterator[Row]:
    log = f"{bench.directory}/audit.jsonl"
    words = ["open", bench.files["image"]]
    # strace and what it watches wake each other up: on two processors that takes up to ten times as long, by chance.
    ours, strace, bare = bench.calls(
        Side("imglock", words, WRAPPED | {"IMGLOCK_AUDIT": log}, wrapper=ONE_PROCESSOR),
        Side("strace", words, wrapper=[
            *ONE_PROCESSOR, "strace", "-f", "--seccomp-bpf", "-e", "trace=open,openat,close", "-o", f"{bench.directory}/strace.out"]),
        Side("bare", words, wrapper=ONE_PROCESSOR), batches=20, batch_ns=4e6)
    yield Row("audit", "watching the opens of an image, IMGLOCK_AUDIT", NS, ours, bare, None)
    yield Row("audit-strace", "watching the opens of an image, strace", NS, strace, bare, None)
    for path in (log, f"{bench.directory}/strace.out"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def hold_command(bench: Bench) -> Iterator[Row]:
    image, true = bench.files["image"], shutil.which("true")
    env = environment(bench.locks, {})
    acts = [program([COMMAND, "hold", image, "--", true], env),
            program(["flock", f"{bench.directory}/flock", true], env), program([true], env)]
    ours, flock, bare = commands_in_turn(["imglock hold", "flock", "bare"], acts, lambda: None,
                                         20 if bench.quick else 60)
    yield Row("hold", "imglock hold around a command", MS, ours, flock, None)
    yield Row("hold-bare", "imglock hold around a command", MS, ours, bare, None)


GROUPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "open": plain_open, "header": look, "dup": untracked, "image": image_open, "shared": shared_open,
    "crowd": crowd, "many": many, "asking": asking, "exec": execution, "memory": memory, "convert": convert,
    "random": random_writes, "mkfs": make_file_system, "loop": shell_loop, "rm": remove_tree, "handover": hand_over,
    "peers": preload_peers, "audit": watching, "hold": hold_command,
}
