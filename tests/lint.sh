#!/bin/bash
# lint.sh [CHECK...]: what can be said of the sources without running them; by default everything: format tidy cppcheck
# shell manuals spelling.  Ends with 0 when nobody has anything to say.
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- format tidy cppcheck shell manuals spelling
mapfile -t sources < <(git ls-files 'shim/*.c' 'cli/*.c')
mapfile -t all_c < <(git ls-files '*.c' '*.h')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run debian/tests/installed)
mapfile -t tests < <(git ls-files '*.bats' 'tests/*.bash')
flags=(-D_GNU_SOURCE '-DIMGLOCK_VERSION=""' '-DIMGLOCK_PREFIX=""' '-DIMGLOCK_LIBRARY_BELOW=""'
    '-DIMGLOCK_PRESETS_BELOW=""' -Ibuild -Ishim)
failed=()

check_format() {
    clang-format --dry-run --Werror "${all_c[@]}"
}

check_tidy() {
    make -s build/formats_index.h || return
    printf '%s\0' "${sources[@]}" | xargs -0 -n 8 -P "$(nproc)" sh -c '
        clang-tidy --quiet "$@" -- -std=gnu11 '"$(printf '%q ' "${flags[@]}")"' 2>/dev/null' sh
}

check_cppcheck() {
    # The macros of the wrappers are more than it can follow; what is inside is checked where it stands.
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,portability \
        --suppress=unknownMacro --suppress=internalAstError --suppress=missingInclude --suppress=syntaxError \
        --suppress=preprocessorErrorDirective -j "$(nproc)" "${flags[@]}" shim cli
}

check_shell() {
    # In a test bats sets variables, indirection reads them, and set -e is on.
    shellcheck -x --severity=warning "${scripts[@]}" &&
        shellcheck -x --severity=warning --exclude=SC1010,SC2034,SC2154,SC2164 "${tests[@]}"
}

check_manuals() {
    # Links to each other, and to what this machine has not, are no faults.
    # Which other pages are installed is the machine's.
    ! mandoc -Tlint man/*.[1-8] 2>&1 | grep -v -e mandoc.db -e 'referenced manual not found'
}

check_spelling() {
    # Names of formats and programs, and short words of assembly and tests.
    git ls-files -z '*.md' '*.[ch]' '*.[1-8]' '*.sh' '*.bats' '*.def' '*.conf' debian |
        xargs -0 codespell --builtin clear --ignore-words-list=ans,statu,conectix,msdos,ba,fle,fo,hda,nd,ot,parms,te,wit
}

for check; do
    echo "== $check"
    "check_$check" || failed+=("$check")
done
[ ${#failed[@]} -eq 0 ] || { echo "lint: ${failed[*]}" && exit 1; }
echo "lint: nothing to say"
