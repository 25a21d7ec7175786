#!/usr/bin/python3
"""settings_table.py [--check]: makes README.md's table of settings from shim/settings.def.

Needs build/tests/settings (make helpers).  --check changes nothing: it says whether README.md differs, and fails."""
import subprocess
import sys

sys.dont_write_bytecode = True
from modes_table import TESTS, put_between, row, write_or_check  # noqa: E402

BEGIN, END = "<!-- settings: made by tests/settings_table.py -->", "<!-- end of settings -->"


def make_table(settings):
    lines = ["", row(["variable", "values, default first", "meaning"]), "|---|---|---|"]
    for name, words, values, meaning, _ in settings:
        lines.append(row([f"`{name}`", values or " ".join(f"`{word}`" for word in words.split()), meaning]))
    return lines + [""]


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    listed = subprocess.run([TESTS.parent / "build/tests/settings"], check=True, text=True, stdout=subprocess.PIPE).stdout
    readme = TESTS.parent / "README.md"
    table = make_table(line.split("\t") for line in listed.splitlines())
    write_or_check({readme: put_between(readme, BEGIN, END, table)}, "shim/settings.def", "tests/settings_table.py")


main()
