#!/bin/bash
# cross.sh ARCHITECTURE [MAKE ARGUMENT...]: builds for another of Debian's architectures: arm64, s390x, i386; by default its
# library and the helpers that tests/architectures.bats runs.  In build/ARCHITECTURE.  What the compiler has not, OpenSSL,
# is downloaded and unpacked there; dpkg knows nothing of it.  Exit status 3: it cannot be downloaded.
set -eu
cd "$(dirname "$0")/.."
architecture=$1
shift
case $architecture in
arm64) triplet=aarch64-linux-gnu ;;
s390x) triplet=s390x-linux-gnu ;;
i386) triplet=i686-linux-gnu ;;
*) echo "cross.sh: arm64, s390x or i386" >&2 && exit 2 ;;
esac
build=build/$architecture
root=$PWD/$build/root
command -v "$triplet-gcc" >/dev/null || { echo "cross.sh: $triplet-gcc is not installed" >&2 && exit 3; }

if [ ! -d "$root/usr" ]; then
    mkdir -p "$root/apt/lists/partial" "$root/apt/archives/partial"
    : >"$root/apt/status"
    sources=/etc/apt/sources.list.d/debian.sources
    [ -e "$sources" ] || sources=/etc/apt/sources.list
    options=(-qq -o "Dir::State::Lists=$root/apt/lists" -o "Dir::State::status=$root/apt/status" -o "Dir::Cache=$root/apt"
        -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::Etc::SourceList=$sources" -o APT::Sandbox::User=root)
    # A mirror that is being written to has some indexes that do not fit; the others do.
    apt-get "${options[@]}" update || true
    (cd "$root/apt" && apt-get "${options[@]}" download libssl-dev) || exit 3
    dpkg-deb --extract "$root"/apt/libssl-dev_*.deb "$root/new"
    mv "$root/new/usr" "$root/usr"
fi
multiarch=$(basename "$(dirname "$(echo "$root"/usr/lib/*/libcrypto.a)")")
[ $# -gt 0 ] || set -- "$build/libimglock.so" "$build/tests/holder" "$build/tests/cli_open" "$build/tests/errno" \
    "$build/tests/identify" "$build/tests/sizes"
exec make -s "BUILD=$build" "CC=$triplet-gcc" "AR=$triplet-ar" \
    "CPPFLAGS=-isystem $root/usr/include/$multiarch -isystem $root/usr/include" "LDFLAGS=-L$root/usr/lib/$multiarch" "$@"
