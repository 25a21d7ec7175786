"""Two things in turn, as medians: what one costs, as a multiple of the other."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNNER = f"{TOP}/build/bench/runner"
LIBRARY = f"{TOP}/build/libimglock.so"
HANDOVER = f"{TOP}/build/bench/handover"
EMPTY = f"{TOP}/build/bench/empty.so"
BY_HAND = f"{TOP}/build/bench/by_hand.so"
COMMAND = f"{TOP}/build/imglock"


@dataclass
class Samples:
    """What was measured of one thing."""

    name: str
    values: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        low, _, high = quantiles(self.values, n=4) if len(self.values) > 1 else self.values * 3
        return {"name": self.name, "median": round(median(self.values), 1), "quartiles": [round(low, 1), round(high, 1)],
                "samples": len(self.values)}


def environment(lock_directory: str, settings: dict[str, str]) -> dict[str, str]:
    """The caller's environment without its own preloads and settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("IMGLOCK_", "LD_"))}
    return clean | {"LC_ALL": "C.UTF-8", "IMGLOCK_DIR": lock_directory} | settings


class Runner:
    """A process of bench/runner.c, asked for batch after batch."""

    def __init__(self, words: Sequence[str], settings: dict[str, str], lock_directory: str,
                 wrapper: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen([*wrapper, RUNNER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment(lock_directory, settings), text=True, bufsize=1)

    def batch(self, count: int) -> float:
        """Nanoseconds an operation."""
        self.process.stdin.write(f"{count}\n")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended")
        return int(line) / count

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Side:
    """One side of a comparison: an operation of the runner."""

    name: str
    words: Sequence[str]
    settings: dict[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()


def calls_in_turn(sides: Sequence[Side], lock_directory: str, batches: int, processes: int,
                  batch_ns: float) -> list[Samples]:
    """Small batches of each side in turn, in several sets of processes: where a process's memory happens to lie
    counts, too."""
    results = [Samples(side.name) for side in sides]
    for _ in range(processes):
        runners = [Runner(side.words, side.settings, lock_directory, side.wrapper) for side in sides]
        first = [runner.batch(2) for runner in runners]
        del first
        cost = max(runner.batch(20) for runner in runners)
        count = max(2, int(batch_ns / cost))
        for number in range(batches):
            for index in in_turn(len(sides), number):
                results[index].values.append(runners[index].batch(count))
        for runner in runners:
            runner.end()
    return results


def in_turn(count: int, number: int) -> list[int]:
    """A B, B A, A B: a drift within a pair hits both as well."""
    order = list(range(count))
    return order if number % 2 == 0 else order[::-1]


def commands_in_turn(names: Sequence[str], acts: Sequence[Callable[[], None]], prepare: Callable[[], None],
                     times: int) -> list[Samples]:
    """Whole programs in turn, each after a run that does not count; in milliseconds."""
    results = [Samples(name) for name in names]
    for number in range(-1, times):
        for index in in_turn(len(acts), number):
            prepare()
            start = time.perf_counter_ns()
            acts[index]()
            took = (time.perf_counter_ns() - start) / 1e6
            if number >= 0:
                results[index].values.append(took)
    return results


def program(words: Sequence[str], env: dict[str, str], input_path: str = os.devnull) -> Callable[[], None]:
    """Runs it, and insists that it succeeds."""
    def run() -> None:
        with open(input_path, "rb") as source:
            subprocess.run(words, stdin=source, stdout=subprocess.DEVNULL, env=env, check=True)
    return run
