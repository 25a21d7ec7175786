#!/bin/bash
# run.sh [FILE...]: runs test files (all of tests/*.bats by default) and ends with one line, "N passed, N failed".  Exit status 0
# when nothing failed and something passed.
set -u
cd "$(dirname "$0")/.." || exit 1
# The longest first: at the end one would keep a processor to itself for minutes.
if [ $# -eq 0 ]; then
    set -- tests/architectures.bats tests/torture.bats
    for file in tests/*.bats; do
        case $file in "$1" | "$2") ;; *) set -- "$@" "$file" ;; esac
    done
fi
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# Files run side by side, tests of one file one after the other: a file may share a mount or a server.
# One more than there are processors, since much of the time is spent in waits: by two, 1,080 s of processor time took 1,110 s.
jobs=$(($(nproc) + 1))
results=$(mktemp -d)
# shellcheck disable=SC2016 # for the inner shell
printf '%s\0' "$@" | xargs -0 -P "$jobs" -I{} sh -c '
    name=$(basename "$2" .bats)
    start=$(date +%s)
    timeout -k 10 $((3600 + 4 * ${TORTURE_SECONDS:-0})) bats --tap "$2" >"$1/$name.tap" 2>&1 </dev/null || echo "# exit status $?" >>"$1/$name.tap"
    grep -E "^not ok" "$1/$name.tap" >/dev/null && state=FAILED || state=ok
    printf "%-28s %s, %s tests, %s s\n" "$name" "$state" "$(grep -cE "^(not )?ok" "$1/$name.tap")" $(($(date +%s) - start))
' sh "$results" {}

passed=0 failed=0 skipped=0
for tap in "$results"/*.tap; do
    planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$tap" | head -n 1)
    skips=$(grep -cE '^ok .* # skip' "$tap")
    oks=$(($(grep -cE '^ok ' "$tap") - skips))
    bad=$(grep -cE '^not ok ' "$tap")
    # A file that broke off, or did not start, has tests without a result: those failed.
    lost=$((${planned:-1} - oks - skips - bad))
    [ "$lost" -gt 0 ] || lost=0
    if [ $((bad + lost)) -gt 0 ]; then
        printf '\n== %s\n' "$(basename "$tap" .tap)"
        awk '/^not ok/ {show = 1} /^ok/ {show = 0} show || /^bats|^# exit|rror/' "$tap" | head -n 200
    fi
    grep -E '^ok .* # skip' "$tap" | sed "s/^ok [0-9]*/skipped: $(basename "$tap" .tap):/"
    passed=$((passed + oks)) failed=$((failed + bad + lost)) skipped=$((skipped + skips))
done
rm -rf "$results"
echo
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
