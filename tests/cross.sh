#!/bin/bash
# cross.sh ARCHITECTURE [MAKE ARGUMENT...]: builds for another of Debian's architectures: arm64, s390x, i386; by default its
# library and the helpers that tests/architectures.bats runs.  In build/ARCHITECTURE, and in run there what runs them.  What
# the compiler has not, OpenSSL, is downloaded and unpacked there; dpkg knows nothing of it.  Exit status 3: the compiler is
# not there, or OpenSSL cannot be downloaded.
set -eu
cd "$(dirname "$0")/.."
architecture=$1
shift
case $architecture in
arm64) triplet=aarch64-linux-gnu emulator=qemu-aarch64-static ;;
s390x) triplet=s390x-linux-gnu emulator=qemu-s390x-static ;;
i386) triplet=i686-linux-gnu emulator='' ;;
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
if [ $# = 0 ]; then
    # shellcheck disable=SC2046 # names
    set -- "$build/libimglock.so" $(printf "$build/tests/%s " cancel cli_open closing closing_hook descriptors errno garbage \
        holder identify newer private probe same_numbers signals sizes symbols threads)
fi
make -s "BUILD=$build" "CC=$triplet-gcc" "AR=$triplet-ar" \
    "CPPFLAGS=-isystem $root/usr/include/$multiarch -isystem $root/usr/include" "LDFLAGS=-L$root/usr/lib/$multiarch" "$@"

# For a program and its children of this machine's own: LD_PRELOAD=build/ARCHITECTURE/$LIB/libimglock.so.
case $architecture in
i386) places='lib32 lib/i386-linux-gnu' ;;
*) places=lib/$triplet ;;
esac
for place in $places; do
    mkdir -p "$build/$place"
    ln -sf "$PWD/$build/libimglock.so" "$build/$place"
done
mkdir -p "$build/lib/x86_64-linux-gnu"
ln -sf "$PWD/build/libimglock.so" "$build/lib/x86_64-linux-gnu"

# What runs them here.  busybox and qemu-user are linked statically: LD_PRELOAD is for the program alone.
[ -d "$build/tests" ] || exit 0
mkdir -p "$build/run"
for program in "$build"/tests/*; do
    # A library has no interpreter.
    if [ -z "$emulator" ] || ! readelf -lW "$program" 2>/dev/null | grep -q INTERP; then
        ln -sf "../tests/${program##*/}" "$build/run"
    else
        printf '#!/bin/busybox sh\nexec %s -L /usr/%s %s "$@"\n' "$emulator" "$triplet" "$PWD/$program" \
            >"$build/run/${program##*/}.new"
        chmod +x "$build/run/${program##*/}.new"
        mv "$build/run/${program##*/}.new" "$build/run/${program##*/}"
    fi
done
