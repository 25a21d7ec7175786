#!/usr/bin/python3
"""modes_table.py [--check]: makes the table of README.md and the tests of modes.bats from modes.table.

--check changes nothing: it says which of the two differs from modes.table, and fails."""
import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parent
COLUMNS = {
    "free": "nobody has it",
    "shared": "held shared",
    "exclusive": "held exclusively",
    "force-share": "open by `force-share`",
    "inactive": "`inactive`",
    "nolock": "`nolock`",
}
MODES = {
    "auto": "`auto`",
    "shared": "`shared`",
    "exclusive": "`exclusive`",
    "nolock": "`nolock`",
    "force-share": "`force-share`",
    "inactive": "`inactive`",
    "read-only": "`auto`, `IMGLOCK_ON_CONFLICT=read-only`",
    "warn": "`auto`, `IMGLOCK_ON_CONFLICT=warn`",
}
OPENS = {
    "read": "read",
    "read-write": "read and write",
    "write": "write",
    "append": "append",
    "truncate": "truncate",
    "create": "create",
}
CELLS = {
    "shared": "shared",
    "exclusive": "exclusive",
    "force-share": "no lock, on record",
    "inactive": "no lock, on record",
    "none": "no lock, on record, with a line",
    "unseen": "no lock",
    "read-only": "shared, for reading alone",
    "ETXTBSY": "**refused**",
}


def read_table():
    """[(mode, open, [cell, ...])], complete, or an error that names the line."""
    lines = []
    for number, line in enumerate((TESTS / "modes.table").read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 + len(COLUMNS) or words[0] not in MODES or words[1] not in OPENS:
            sys.exit(f"modes.table:{number}: not a mode, an open and {len(COLUMNS)} cells")
        for cell in words[2:]:
            if cell not in CELLS:
                sys.exit(f"modes.table:{number}: no such cell: {cell}")
        lines.append((words[0], words[1], words[2:]))
    named = [(mode, how) for mode, how, _ in lines]
    for mode in MODES:
        for how in OPENS:
            if named.count((mode, how)) != 1:
                sys.exit(f"modes.table: {named.count((mode, how))} lines for {mode} {how}")
    return lines


def group(pairs):
    """[([name, ...], value)] of [(name, value)]: equal values together, in the order of the first."""
    groups = []
    for name, value in pairs:
        for names, known in groups:
            if known == value:
                names.append(name)
                break
        else:
            groups.append(([name], value))
    return groups


def enumerated(names):
    return ", ".join(names[:-1]) + (" or " if names[1:] else "") + names[-1]


def row(cells):
    return "| " + " | ".join(cells) + " |"


def make_readme(lines):
    headings = list(COLUMNS.values())
    columns = group((heading, [cells[index] for _, _, cells in lines]) for index, heading in enumerate(headings))
    out = [row(["mode", "open", *(enumerated(names) for names, _ in columns)]), "|---" * (2 + len(columns)) + "|"]
    indexes = [headings.index(names[0]) for names, _ in columns]
    for mode, shown in MODES.items():
        for opens, cells in group((OPENS[how], cells) for name, how, cells in lines if name == mode):
            what = "any" if len(opens) == len(OPENS) else ", ".join(opens)
            out.append(row([shown, what, *(CELLS[cells[index]] for index in indexes)]))
            shown = ""
    return out


def make_tests(lines):
    return [f'@test "mode {mode}: {how}" {{ line {mode} {how}; }}' for mode, how, _ in lines]


def put_between(path, first, last, lines):
    """The file's text with these lines between those two."""
    text = path.read_text().splitlines()
    if text.count(first) != 1 or text.count(last) != 1:
        sys.exit(f"{path.name}: not one line each of:\n{first}\n{last}")
    return "\n".join(text[: text.index(first) + 1] + lines + text[text.index(last) :]) + "\n"


def write_or_check(made, source, maker):
    """Writes those files that differ from the text made for them; with --check says which do, and fails."""
    differing = [path for path, text in made.items() if path.read_text() != text]
    for path in differing:
        if sys.argv[1:]:
            print(f"{path.name} is not what {source} says: run {maker}")
        else:
            path.write_text(made[path])
    sys.exit(bool(differing and sys.argv[1:]))


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    lines = read_table()
    readme, tests = TESTS.parent / "README.md", TESTS / "modes.bats"
    made = {
        readme: put_between(readme, "<!-- modes: made by tests/modes_table.py -->", "<!-- end of modes -->",
                            ["", *make_readme(lines), ""]),
        tests: put_between(tests, "# Made by modes_table.py:", "# The end of what modes_table.py makes.",
                           make_tests(lines)),
    }
    write_or_check(made, "modes.table", "tests/modes_table.py")


if __name__ == "__main__":
    main()
