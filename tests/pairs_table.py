#!/usr/bin/python3
"""pairs_table.py [--check]: makes the table of README.md and the tests of pairs.bats and long/pairs.bats from pairs.table.

--check changes nothing: it says which of them differs from pairs.table, and fails."""
import sys

from modes_table import TESTS, group, put_between, row, write_or_check

HOLDERS = {
    "qemu-system-x86_64": "`qemu-system-x86_64`",
    "qemu-nbd": "`qemu-nbd`",
    "qemu-storage-daemon": "`qemu-storage-daemon`",
    "qemu-img": "`qemu-img`",
    "qemu-io": "`qemu-io`",
    "libvirt": "a machine of libvirt",
    "dosbox": "`dosbox`",
    "dd": "`dd`",
    "mkfs": "`mkfs`",
    "cp": "`cp`",
    "losetup": "`losetup`",
    "static": "a static program",
    "qemu-io-reads": "`qemu-io -r`",
    "dd-reads": "`dd`",
    "losetup-reads": "`losetup -r`",
    "static-reads": "a static program",
}
COMERS = {
    "system": "`qemu-system-x86_64`",
    "nbd": "`qemu-nbd`",
    "daemon": "`qemu-storage-daemon`",
    "img": "`qemu-img`",
    "io": "`qemu-io`",
    "libvirt": "libvirt",
    "dosbox": "`dosbox`",
    "dd": "`dd`",
    "mkfs": "`mkfs`",
    "cp": "`cp`",
    "losetup": "`losetup`",
    "static": "static",
    "info": "`qemu-img info`",
    "dd-reads": "`dd`",
    "cp-reads": "`cp`",
}
# What several of them are called together.
WRITERS = {"system", "nbd", "daemon", "img", "io", "libvirt", "dosbox", "dd", "mkfs", "cp", "losetup"}
COMERS_TOGETHER = {
    "wrapped": [(WRITERS, "wrapped, to write"), ({"info", "dd-reads", "cp-reads"}, "wrapped, to read"),
                ({"static"}, "a static one by `imglock hold`")],
    "bare": [({"dd"}, "any other")],
}
HOLDERS_TOGETHER = [
    ({name for name in HOLDERS if not name.endswith("-reads")}, "any program"),
    ({"qemu-io-reads", "dd-reads", "losetup-reads", "static-reads"}, "any program"),
]
RUNS = ("wrapped", "bare")
# Whose rows "make test" goes through with all but the slowest; the others' with some, and tests/long all with all.
WHOLE = ("qemu-system-x86_64", "dd")
CELLS = {"lock": "refused", "mark": "refused", "count": "refused", "qemu": "refused", "in": "in"}


def read_table():
    """{(holder, how it runs): {(comer, how it runs): cell}}, complete, or an error that names the line."""
    table, comers = {}, []
    for number, line in enumerate((TESTS / "pairs.table").read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "comes":
            comers = [(name, words[1]) for name in words[2:]]
            if words[1] not in RUNS or any(name not in COMERS for name, _ in comers):
                sys.exit(f"pairs.table:{number}: no such comers")
            continue
        if words[0] not in HOLDERS or words[1] not in RUNS or len(words) != 2 + len(comers):
            sys.exit(f"pairs.table:{number}: not a program, how it runs and {len(comers)} cells")
        for cell in words[2:]:
            if cell not in CELLS:
                sys.exit(f"pairs.table:{number}: no such cell: {cell}")
        cells = table.setdefault((words[0], words[1]), {})
        for comer, cell in zip(comers, words[2:]):
            if comer in cells:
                sys.exit(f"pairs.table:{number}: a second line for {words[0]} {words[1]}")
            cells[comer] = cell
    for holder in HOLDERS:
        for how in RUNS:
            wanted = {(name, "wrapped") for name in COMERS}
            given = table.get((holder, how), {}).keys()
            if not wanted <= given or (how == "wrapped") != any(runs == "bare" for _, runs in given):
                sys.exit(f"pairs.table: {holder} {how} has not all comers")
    return table


def together(names, sets, words):
    """What these names are called: sets of them by their word, the rest one by one."""
    called, left = [], list(names)
    for members, word in sets:
        if members <= set(left):
            called.append(word)
            left = [name for name in left if name not in members]
    return ", ".join(called + [words[name] for name in left])


def make_readme(table):
    comers = [(name, runs) for runs in RUNS for name in COMERS if any((name, runs) in cells for cells in table.values())]
    lines = [(holder, how) for how in RUNS for holder in HOLDERS]
    shown = {line: [CELLS.get(table[line].get(comer), "") for comer in comers] for line in lines}
    columns = group((comer, [shown[line][index] for line in lines]) for index, comer in enumerate(comers))
    headings, indexes = [], []
    for members, _ in columns:
        of = [(runs, [name for name, other in members if other == runs]) for runs in RUNS]
        words = [(runs, together(names, COMERS_TOGETHER[runs], COMERS)) for runs, names in of if names]
        headings.append(", ".join(word if runs == "wrapped" else "unwrapped: " + word for runs, word in words))
        indexes.append(comers.index(members[0]))
    out = [row(["who has it", *headings]), "|---" * (1 + len(columns)) + "|"]
    for how in RUNS:
        for reads in (False, True):
            of = [(holder, shown[holder, how]) for holder in HOLDERS if holder.endswith("-reads") == reads]
            for holders, cells in group(of):
                name = f"{'wrapped' if how == 'wrapped' else 'unwrapped'}, to {'read' if reads else 'write'}: "
                name += together(holders, HOLDERS_TOGETHER, HOLDERS)
                if how == "wrapped":
                    name = name.replace("a static program", "a static one by `imglock hold`")
                out.append(row([name, *(cells[index] for index in indexes)]))
    return out


def make_tests(which):
    return [f'@test "{holder}, {how}, has it" {{ row {holder} {how} {which(holder)}; }}'
            for holder in HOLDERS for how in RUNS]


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    table = read_table()
    readme, tests, long = TESTS.parent / "README.md", TESTS / "pairs.bats", TESTS / "long" / "pairs.bats"
    first, last = "# Made by pairs_table.py:", "# The end of what pairs_table.py makes."
    made = {
        readme: put_between(readme, "<!-- pairs: made by tests/pairs_table.py -->", "<!-- end of pairs -->",
                            ["", *make_readme(table), ""]),
        tests: put_between(tests, first, last, make_tests(lambda holder: "most" if holder in WHOLE else "quick")),
        long: put_between(long, first, last, make_tests(lambda holder: "all")),
    }
    write_or_check(made, "pairs.table", "tests/pairs_table.py")


if __name__ == "__main__":
    main()
