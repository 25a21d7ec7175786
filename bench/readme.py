#!/usr/bin/env python3
"""readme.py [README]: writes the table of build/bench/results.json between the two marks of bench/README.md, and those of
its rows that users notice between README's."""

import json
import sys

from measure import TOP

BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"

# What users notice, and what a row is called that leans on the one before it.
NOTICED = ["open", "exec-bare", "memory-image", "asking-adds", "convert", "random", "mkfs", "loop", "rm"]
ALONE = {"memory-image": "private memory of a process, after an image's open and close"}


def figure(row: dict) -> str:
    if row["kind"] == "difference":
        return f"{row['value']:.0f} {row['unit']}"
    # 1.054 is over 1.05, and has to look so.
    decimals = 3 if row["verdict"] == "over" else 2
    return f"{row['value']:.{decimals}f}x"


def limit(row: dict) -> str:
    if row["limit"] is None:
        return ""
    return f"{row['limit']:g} {row['unit']}" if row["kind"] == "difference" else f"{row['limit']:g}x"


def table(result: dict, noticed: bool) -> str:
    about = result["machine"]
    lines = [f"Measured at {result['commit']} on {about['processor']}, {about['cores']} cores, Linux {about['kernel']}, "
             f"{about['libc']}, {about['file_system']}: medians of runs in turn.", "",
             "| what | beside | cost | at most | |", "|---|---|---|---|---|"]
    rows = result["rows"]
    if noticed:
        # Not every machine has a GlusterFS.
        rows = [row for key in NOTICED for row in rows if row["row"] == key]
    for row in rows:
        name = row["subject"]["name"]
        subject = "" if name.startswith("imglock") or name in row["what"] else f" ({name})"
        what = ALONE.get(row["row"], row["what"]) if noticed else row["what"]
        lines.append(f"| {what}{subject} | {row['floor']['name']} | {figure(row)} | {limit(row)} | "
                     f"{'' if row['verdict'] == 'peer' else row['verdict']} |")
    return "\n".join(lines)


def write(path: str, lines: str) -> bool:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{path} has no {BEGIN} and {END}", file=sys.stderr)
        return False
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{lines}\n{END}{after}")
    return True


def main() -> int:
    with open(f"{TOP}/build/bench/results.json", encoding="utf-8") as file:
        result = json.load(file)
    path = sys.argv[1] if len(sys.argv) > 1 else f"{TOP}/README.md"
    return 0 if write(path, table(result, True)) and write(f"{TOP}/bench/README.md", table(result, False)) else 1


if __name__ == "__main__":
    sys.exit(main())
