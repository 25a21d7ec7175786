#!/bin/bash
# emulators.sh: an emulator that has no locks of its own, DOSBox, keeps a floppy image mounted; meanwhile other programs want to
# write to it.  Needs dosbox and mtools (apt-get install dosbox mtools).
set -eu
here=$(dirname "$(realpath "$0")")
[ ! -x "$here/../build/imglock" ] || PATH=$here/../build:$PATH
folder=$(mktemp -d)
cd "$folder"
emulator=
trap '[ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true; rm -rf "$folder"' EXIT

# No window: this is a demonstration.
export SDL_VIDEODRIVER=dummy SDL_AUDIODRIVER=dummy HOME=$folder

show() {
    printf '$ %s\n' "$*"
    "$@" 2>&1 || printf '(exit status %s)\n' "$?"
}

# wait_until COMMAND...: until it succeeds, at most ten seconds.
wait_until() {
    local end=$((SECONDS + 10))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "gave up waiting for: $*" >&2; exit 1; }
        sleep 0.1
    done
}
# By a look that takes nothing: a lock taken to try, however short, may be the one that refuses the emulator its image.
is_locked() { imglock status --raw --noheadings --output MODE "$1" | grep -q exclusive; }

truncate -s 1440K floppy.img
mformat -i floppy.img -f 1440 ::

echo "DOSBox mounts floppy.img and keeps it open:"
echo "\$ imglock --config emulators dosbox -c 'imgmount a floppy.img -t floppy' &"
imglock --config emulators dosbox -noconsole -conf /dev/null -c 'imgmount a floppy.img -t floppy' >/dev/null 2>&1 &
emulator=$!
wait_until is_locked floppy.img

echo
echo "Everything that would write to it meanwhile is refused, and is told why:"
show imglock mcopy -i floppy.img /etc/hostname ::
show imglock dd if=/dev/zero of=floppy.img bs=512 count=1 conv=notrunc status=none
show imglock rm -f floppy.img

echo
echo "DOSBox ends.  The lock ends with it, and the image is nobody's again:"
kill "$emulator"
wait "$emulator" || true
emulator=
show imglock mcopy -i floppy.img /etc/hostname ::
show mdir -b -i floppy.img ::
