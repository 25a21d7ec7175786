#!/bin/sh
# packages.sh run|test|long|fuzz|bench|lint|releases: installs the Debian packages that "make run", "make test", "make
# test-long", "make fuzz", "make bench", "make lint", or "make releases" and tests/installed.sh need and that are not there
# yet, and says which.  As root, or through sudo.  POSIX sh: nothing else is certain to be there yet.
# packages.sh ... list: prints which they are, and installs nothing.
set -eu

build='gcc libc6-dev make libssl-dev libsmartcols-dev libjansson-dev libsystemd-dev'
run="$build qemu-utils"
test="$run $(sed 's/#.*//' "$(dirname "$0")/packages.txt" | tr '\n' ' ')"

case ${1-} in
run) wanted=$run ;;
test) wanted=$test ;;
long) wanted="$test libpython3-testsuite libglib2.0-tests stress-ng user-mode-linux cpio debootstrap kmod file" ;;
fuzz) wanted="$build clang" ;;
bench) wanted="$run python3 git util-linux e2fsprogs strace eatmydata nocache fakeroot faketime \
    attr glusterfs-client glusterfs-server iproute2 procps" ;;
lint) wanted="$build git clang-format clang-tidy cppcheck shellcheck mandoc codespell libseccomp-dev liburing-dev" ;;
releases) wanted="$build git debootstrap bats bats-support bats-assert dpkg-dev debhelper lintian" ;;
*) echo "usage: $0 run|test|long|fuzz|bench|lint|releases [list]" >&2; exit 2 ;;
esac

[ "${2-}" != list ] || { echo "$wanted" && exit; }
command -v dpkg-query >/dev/null || {
    echo "packages.sh: this is no Debian; install what corresponds to: $wanted" >&2
    exit 0
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

missing=
for package in $wanted; do is_installed "$package" || missing="$missing $package"; done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "packages.sh: run this as root, or install sudo; missing:$missing" >&2
        exit 1
    }
    as_root=sudo
fi
$as_root apt-get -q update >/dev/null
# Not every release has every client; the tests skip what is not there.
missing='' absent=''
for package in $wanted; do
    if is_installed "$package"; then continue; fi
    if apt-cache policy "$package" | grep -q 'Candidate: [0-9]'; then
        missing="$missing $package"
    else
        absent="$absent $package"
    fi
done
[ -z "$absent" ] || echo "Not in this release:$absent"
[ -n "$missing" ] || exit 0
echo "Installing:$missing"
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
