#!/usr/bin/python3
"""house.py [FOLDER]: does the table of rooms in HACKING.md have each file of shim/ and cli/, and do arrows run one way?

Prints what is wrong, a line each."""
import os
import re
import sys


def read(name):
    with open(name, encoding='utf-8') as file:
        return file.read()


def files_below(folder):
    return sorted(os.path.normpath(os.path.join(where, name)) for where, _, names in os.walk(folder)
                  for name in names if name.endswith(('.c', '.h', '.def')))


def table():
    """The names in the first column, in the table's order: [[NAME...]...]; the folder stands before the first only."""
    rows = []
    for line in read('HACKING.md').splitlines():
        names = re.findall(r'`([^`]*)`', line.split('|')[1]) if line.startswith('| `') else []
        if names and names[0].startswith(('shim/', 'cli/')):
            folder = names[0].rpartition('/')[0] + '/'
            rows.append([name if name.startswith(folder) else folder + name for name in names])
    return rows


def is_of(file, name):
    """A folder, a name with both its endings, or a file."""
    return file.startswith(name) if name.endswith('/') else room(file) == name[:-2] if name.endswith('.*') else file == name


def room(file):
    return os.path.splitext(file)[0]


def places(files, complain):
    """Which row a file is in: the one that has its name, else the one that has its folder."""
    row_of, folder_of = {}, {}
    for number, names in enumerate(table()):
        for name in names:
            found = [file for file in files if is_of(file, name)]
            if not found and name != 'cli/NAME.c':
                complain(f'{name}: there is no such file')
            for file in found:
                if name.endswith('/'):
                    folder_of[file] = number
                elif file in row_of:
                    complain(f'{file}: stands twice')
                else:
                    row_of[file] = number
    for file in files:
        if file not in row_of and file not in folder_of:
            complain(f'{file}: no row has it')
    # The files that cli/ has no name for are the subcommands, too: only what is named has a place above or below.
    return {**{file: row for file, row in folder_of.items() if file.startswith('shim/')}, **row_of}


def includes(file, files):
    for name in re.findall(r'^#include "([^"]*)"', read(file), re.M):
        for folder in (os.path.dirname(file), 'shim'):
            found = os.path.normpath(os.path.join(folder, name))
            if found in files:
                yield found
                break


def circles(arrows, complain):
    done, path = set(), []

    def walk(one):
        if one in path:
            complain('a circle: ' + ' '.join(path[path.index(one):] + [one]))
        elif one not in done:
            path.append(one)
            for other in sorted(arrows.get(one, ())):
                walk(other)
            path.pop()
            done.add(one)

    for one in sorted(arrows):
        walk(one)


def main():
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else '.')
    files = files_below('shim') + files_below('cli')
    place = places(files, print)
    arrows = {}
    for file in files:
        for other in includes(file, files):
            if place.get(other, -1) > place.get(file, len(files)):
                print(f'{file}: includes {other}, which stands below it')
            if file.startswith('shim/') and other.startswith('cli/'):
                print(f'{file}: includes {other} of the command')
            if file.startswith('cli/') and other.startswith('shim/wrap/') and not other.endswith('.def'):
                print(f'{file}: includes {other} of the wrappers')
            if room(file) != room(other):
                arrows.setdefault(room(file), set()).add(room(other))
    circles(arrows, print)


main()
