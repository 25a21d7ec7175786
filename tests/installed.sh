#!/bin/bash
# installed.sh [RELEASE]: builds the packages, installs them in a clean folder of that release (bookworm) that debootstrap
# fills, uses them as README says, removes them, and compares the folder with what it was.  As root.
set -eu
cd "$(dirname "$0")/.."
release=${1:-bookworm}
sh tests/packages.sh releases
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(sed -n 's/^URIs: *//p; s/^deb *\(\[[^]]*\] *\)\?\(http[^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources \
    /etc/apt/sources.list 2>/dev/null | head -n 1)

mkdir "$work/source"
git ls-files -z | xargs -0 cp --parents -t "$work/source"
(cd "$work/source" && DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS-nocheck} dpkg-buildpackage -us -uc -b) >"$work/build.log" 2>&1 ||
    { tail -n 30 "$work/build.log" && exit 1; }
lintian --fail-on error,warning "$work"/*.changes

debootstrap --variant=minbase --include=libjansson4,libsmartcols1,libssl3,libsystemd0 "$release" "$work/root" "${mirror:?}" \
    >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log" && exit 1; }
cp "$work"/libimglock_*.deb "$work"/imglock_*.deb "$work/root/opt"
cp debian/tests/installed "$work/root/opt"

# shellcheck disable=SC2016 # for the inner shell
inside() {
    unshare --mount --propagation private sh -c '
        mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" sh -c "$2"' sh "$work/root" "$1"
}
everything() {
    # What dpkg writes down of every installation, and what the run itself leaves in /tmp, is not ours.
    (cd "$work/root" && find . -path ./proc -prune -o -path ./dev -prune -o -path ./tmp -prune -o \
        -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o -path ./var/cache -prune -o -printf '%p %m %u %s\n' | sort)
}
everything >"$work/before"
inside 'dpkg -i /opt/*.deb >/dev/null && /opt/installed && dpkg --purge imglock libimglock >/dev/null'
everything >"$work/after"
diff "$work/before" "$work/after"
# shellcheck disable=SC2016
inside '! dpkg -l | grep -q imglock && ! ls -A /var/tmp | grep -q .'
echo "installed, used and removed without a trace"
