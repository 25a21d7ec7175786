#!/usr/bin/env python3
"""run.py [--quick] [ROW[,ROW...]]: measures what imglock costs.  "make bench" runs it.

Prints a table, writes build/bench/results.json, and for a run of all rows adds a line to bench/history.jsonl.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

from measure import TOP
from rows import GROUPS, Bench, Row


def commit() -> str:
    """The commit that is measured; with "-dirty" where files differ from it."""
    found = subprocess.run(["git", "-C", TOP, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"],
                           capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "CPU part"):
                return value.strip()
    return platform.machine()


def machine(directory: str) -> dict[str, object]:
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=False)
    return {"processor": processor(), "cores": os.cpu_count(), "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()), "file_system": kind.stdout.strip(), "load": round(os.getloadavg()[0], 2)}


def described(row: Row) -> dict[str, object]:
    return {"row": row.key, "what": row.what, "unit": row.unit, "subject": row.subject.summary(),
            "floor": row.floor.summary(), "value": row.value, "kind": "difference" if row.difference else "ratio",
            "limit": row.limit, "verdict": row.verdict}


def printed(row: Row) -> str:
    sign = f" {row.unit}" if row.difference else "x"
    limit = "" if row.limit is None else f"{row.limit:g}{sign}"
    subject, floor = row.subject.summary()["median"], row.floor.summary()["median"]
    return (f"{row.key:<18} {subject:>12,} {floor:>12,} {row.unit:<16}{row.value:>8.2f}{sign:<4} {limit:>7} {row.verdict:<5}"
            f" {row.subject.name} : {row.floor.name}")


def room_for_images(directory: str) -> str:
    """Memory, where there are 4 GiB of it, so that a disk's moods are not measured."""
    shm = "/dev/shm"
    return shm if os.path.isdir(shm) and shutil.disk_usage(shm).free > 4 << 30 else directory


def measure_rows(groups: list[str], quick: bool) -> tuple[list[Row], dict[str, object]]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="imglock-bench.", dir=os.environ.get("TMPDIR", "/var/tmp")) as directory, \
            tempfile.TemporaryDirectory(prefix="imglock-bench.", dir=room_for_images(directory)) as big:
        os.chmod(directory, 0o755)
        bench = Bench(directory, quick, big=big)
        about = machine(directory)
        bench.prepare()
        for group in groups:
            for row in GROUPS[group](bench):
                print(printed(row), flush=True)
                rows.append(row)
        # One is this run's own.  More of it means that others ran beside it, and that the figures are not to be used.
        about["load"] = {"before": about["load"], "after": round(os.getloadavg()[0], 2)}
        return rows, about


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples")
    parser.add_argument("rows", nargs="?", default="", help=f"of {','.join(GROUPS)}")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.rows.split(",") if name] or list(GROUPS)
    if unknown := set(wanted) - set(GROUPS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    rows, about = measure_rows(wanted, arguments.quick)
    result = {"commit": commit(), "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "quick": arguments.quick, "machine": about, "rows": [described(row) for row in rows]}
    with open(f"{TOP}/build/bench/results.json", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    if wanted == list(GROUPS) and not arguments.quick:
        with open(f"{TOP}/bench/history.jsonl", "a", encoding="utf-8") as file:
            values = {row.key: row.value for row in rows}
            file.write(json.dumps({"commit": result["commit"], "time": result["time"], "machine": about,
                                   "values": values}) + "\n")
    over = [row.key for row in rows if row.verdict == "over"]
    print(f"over its limit: {', '.join(over)}" if over else "every row within its limit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
