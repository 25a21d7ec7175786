#!/usr/bin/env python3
"""readme.py [README]: writes the table of build/bench/results.json between README's two marks."""

import json
import sys

from measure import TOP

BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"


def figure(row: dict) -> str:
    if row["kind"] == "difference":
        return f"{row['value']:.0f} KiB"
    # 1.054 is over 1.05, and has to look so.
    decimals = 3 if row["verdict"] == "over" else 2
    return f"{row['value']:.{decimals}f}x"


def limit(row: dict) -> str:
    if row["limit"] is None:
        return ""
    return f"{row['limit']:g} KiB" if row["kind"] == "difference" else f"{row['limit']:g}x"


def table(result: dict) -> str:
    about = result["machine"]
    lines = [f"Measured at {result['commit']} on {about['processor']}, {about['cores']} cores, Linux {about['kernel']}, "
             f"{about['libc']}, {about['file_system']}: medians of runs in turn.", "",
             "| what | beside | cost | at most | |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        name = row["subject"]["name"]
        subject = "" if name.startswith("imglock") or name in row["what"] else f" ({name})"
        lines.append(f"| {row['what']}{subject} | {row['floor']['name']} | {figure(row)} | {limit(row)} | "
                     f"{'' if row['verdict'] == 'peer' else row['verdict']} |")
    return "\n".join(lines)


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else f"{TOP}/README.md"
    with open(f"{TOP}/build/bench/results.json", encoding="utf-8") as file:
        result = json.load(file)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{path} has no {BEGIN} and {END}", file=sys.stderr)
        return 1
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{table(result)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
