#!/bin/bash
# own_root.sh COMMAND...: an ordinary user runs a command as root of a user namespace, with all the ids that /etc/subuid
# gives him.  To the kernel outside he stays who he is; inside tests may mount, chroot and become another user.
set -eu
[ "$(id -u)" != 0 ] || exec "$@"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkfifo "$folder/inside" "$folder/go"
read -r first count < <(awk -F: -v user="$(id -un)" '$1 == user { print $2, $3; exit }' /etc/subuid) ||
    { echo "own_root.sh: /etc/subuid has nothing for $(id -un)" >&2 && exit 1; }
# The first program behind unshare has no privileges any more, since its user is nobody yet; the next has.
# shellcheck disable=SC2016 # for the inner shell
unshare --user --mount sh -c 'folder=$1; shift; echo $$ >"$folder/inside"; read -r line <"$folder/go"; exec "$@"' \
    sh "$folder" "$@" &
read -r pid <"$folder/inside"
newuidmap "$pid" 0 "$(id -u)" 1 1 "$first" "$count"
newgidmap "$pid" 0 "$(id -g)" 1 1 "$first" "$count"
echo >"$folder/go"
wait "$!"
