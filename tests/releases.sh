#!/bin/bash
# releases.sh [RELEASE...]: builds and tests imglock on releases of Debian, by default on all that it is to run on: with
# each release's own compilers and libc, in a folder that debootstrap fills, below a private home and as an ordinary user.
# As root.  Ends with one line a release.
#
#   RELEASES    where the folders are, and stay: build/releases.  Some 3 GB each.
#   TESTS       the test files that run; "all" for the whole suite
#   VARIANTS, VARIANT_TESTS
#               the builds beside the release's own, by the names below, "none" for none; the test files that run on them
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- bullseye bookworm trixie sid
releases=${RELEASES:-$PWD/build/releases}
tests=${TESTS:-tests/lock.bats tests/errno.bats tests/descriptors.bats tests/processes.bats tests/threads.bats
    tests/start.bats tests/exports.bats tests/formats.bats tests/clients_emulators.bats tests/packaging.bats}
tests=${tests//$'\n'/ }
[ "$tests" != all ] || tests=
# What a variant runs: whatever depends on how libc's functions are called.
variant_tests=${VARIANT_TESTS:-tests/lock.bats tests/errno.bats tests/threads.bats}
# What comes before make.
declare -A variants=(
    [clang]='export CC=clang'
    [O0]='export CFLAGS=-O0'
    [O3]='export CFLAGS=-O3'
    [lto]='export CFLAGS="-O2 -flto=auto"'
    [fortify]='export CFLAGS="-O2 -D_FORTIFY_SOURCE=3"'
    [debian]="eval \"\$(dpkg-buildflags --export=sh)\""
)
chosen=${VARIANTS:-clang O0 O3 lto fortify debian}
[ "$chosen" != none ] || chosen=
mirror=$(sed -n 's/^URIs: *//p; s/^deb *\(\[[^]]*\] *\)\?\(http[^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources \
    /etc/apt/sources.list 2>/dev/null | head -n 1)
build_packages='gcc libc6-dev make libssl-dev libsmartcols-dev libjansson-dev libsystemd-dev clang llvm dpkg-dev debhelper git uidmap'

# inside FOLDER USER COMMAND: in a mount namespace that ends with the command, so that no mount is left.  The folder is its
# root, and no chroot, in which nobody may make a user namespace.
# shellcheck disable=SC2016 # for the inner shells
inside() {
    unshare --mount --propagation private sh -c '
        mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount -t sysfs sysfs "$1/sys" &&
            mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/run" && cd "$1" && pivot_root . . &&
            umount --lazy . || exit
        home=/root
        [ "$2" = root ] || home=/home/$2
        cd /
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=$home USER="$2" LC_ALL=C.UTF-8 \
            TERM=dumb DEBIAN_FRONTEND=noninteractive setpriv --reuid="$2" --regid="$2" --init-groups sh -c "$3"
        ' sh "$@" </dev/null
}

# fill RELEASE FOLDER: what is not there yet.
fill() {
    local release=$1 folder=$2
    [ -e "$folder/etc/debian_version" ] || debootstrap --variant=minbase "$release" "$folder" "${mirror:?}" || return
    printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d" && chmod +x "$folder/usr/sbin/policy-rc.d"
    # sid's mirror may be older than its release file allows.
    echo 'Acquire::Check-Valid-Until "false";' >"$folder/etc/apt/apt.conf.d/99imglock"
    rm -rf "$folder/home/tester/imglock"
    inside "$folder" root "id tester >/dev/null 2>&1 || useradd -m -k /dev/null tester; chmod 700 /home/tester" || return
    mkdir -p "$folder/home/tester/imglock"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$folder/home/tester/imglock" || return
    inside "$folder" root "cd /home/tester/imglock && apt-get -q update &&
        apt-get -qq install -y --no-install-recommends $build_packages && sh tests/packages.sh test &&
        { apt-get -qq install -y --no-install-recommends libclang-rt-dev 2>/dev/null || true; } &&
        chown -R tester: /home/tester/imglock" || return
    # A bats that knows libraries is younger than Debian 11; it is made of scripts, and this machine's does.
    [ -d "$folder/usr/lib/bats/bats-support" ] ||
        dpkg -L bats bats-support bats-assert | grep -E '^/usr/(bin|lib|libexec)/' | sed 's,^/,,' |
        tar -C / -cf - --no-recursion -T - | tar -C "$folder" -xf -
}

# build_and_test FOLDER FLAGS TESTS: the last line that the tests print.
build_and_test() {
    inside "$1" tester "cd ~/imglock && make -s clean && $2 make -s -j\$(nproc) all helpers &&
        (tests/own_root.sh tests/run.sh $3; true)" >"$1.out" 2>&1
    cat "$1.out" >>"$1.log"
    grep -E '^[0-9]+ passed' "$1.out" || echo "does not build"
}

lines=()
for release; do
    folder=$releases/$release
    mkdir -p "$releases"
    : >"$folder.log"
    if ! fill "$release" "$folder" >>"$folder.log" 2>&1; then
        lines+=("$release: cannot be made, see $folder.log")
        continue
    fi
    absent=$(sed -n 's/^Not in this release://p' "$folder.log" | sed 's/ bats-[a-z]*//g' | sort -u)
    about=$(inside "$folder" tester 'ldd --version | sed -n "1s/.* //p"; gcc -dumpversion; clang --version |
        sed -n "s/.*clang version \([0-9]*\).*/\1/p"' | xargs printf 'glibc %s, gcc %s, clang %s')
    result=$(build_and_test "$folder" '' "$tests")
    others=
    for variant in $chosen; do
        others+="; $variant $(build_and_test "$folder" "${variants[$variant]} &&" "$variant_tests")"
    done
    lines+=("$release ($about): $result$others${absent:+; not there:$absent}")
    echo "${lines[-1]}"
done
printf '\n'
printf '%s\n' "${lines[@]}"
! printf '%s\n' "${lines[@]}" | grep -qE '[1-9][0-9]* failed|does not build|cannot be made'
