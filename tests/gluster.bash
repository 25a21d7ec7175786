# gluster.bash: a real GlusterFS on this machine, and hosts that are its clients.
#
# A host is network, mount, PID and UTS namespaces of its own with a mount of the volume at $STORE, and so is the server,
# which keeps to itself what glusterd writes below /var and /run: nothing of this machine's own GlusterFS is touched.  The
# volume has one brick.  Each test file has a server of its own.

STORE_ADDRESS=10.77.0.1

# missing_for_gluster: what there has to be and is not; nothing where all is there.
missing_for_gluster() {
    local program
    [ "$(id -u)" = 0 ] || echo "needs root"
    if [ ! -c /dev/fuse ]; then
        echo "needs /dev/fuse"
    elif ! (: <>/dev/fuse) 2>/dev/null; then
        echo "/dev/fuse cannot be opened here"
    fi
    : >"${BATS_FILE_TMPDIR:?}/brick"
    setfattr -n trusted.imglock -v 1 "$BATS_FILE_TMPDIR/brick" 2>/dev/null || echo "no trusted attributes here, which a brick needs"
    for program in glusterd gluster glusterfs ip nsenter; do
        command -v "$program" >/dev/null || echo "$program is not installed"
    done
    unshare --net --mount --pid --uts --fork ip link add one type veth peer name other 2>/dev/null ||
        echo "no namespaces here, or no veth"
}

gluster_is_here() { [ -z "$(missing_for_gluster)" ]; }

# needs_gluster: the first line of a file's setup.
needs_gluster() {
    gluster_is_here || skip "$(missing_for_gluster | head -n 1)"
}

# The first process of a server's or host's namespaces: NAME FILE.  A shell, which waits for those who lose their parent.
# shellcheck disable=SC2016 # for the inner shell
GLUSTER_INIT='
hostname "$0"
ip link set lo up
mount --make-rprivate /
echo "$0" >"$1"
while :; do sleep 1000 & wait $!; done'

# start_namespaces NAME: sets STARTED to the pid of its first process, as seen from here.
start_namespaces() {
    local name=$1 ready=$GLUSTER/ready.$1
    rm -f "$ready"
    unshare --net --mount --pid --uts --fork --kill-child --mount-proc \
        sh -c "$GLUSTER_INIT" "$name" "$ready" </dev/null >/dev/null 2>&1 3>&- &
    echo "$!" >>"$GLUSTER/pids"
    local outer=$!
    eventually test -s "$ready"
    STARTED=$(pgrep -P "$outer")
}

# on HOST COMMAND...: runs it there.
on() {
    local pid
    pid=$(cat "$GLUSTER/host.$1")
    shift
    nsenter -t "$pid" -n -m -p -u -- "$@"
}

# add_host NAME NUMBER: a host, connected to the server, with the volume mounted.
add_host() {
    local name=$1 number=$2 server
    server=$(cat "$GLUSTER/host.server")
    start_namespaces "$name"
    echo "$STARTED" >"$GLUSTER/host.$name"
    # A pid of this machine's own namespace.
    nsenter -t "$server" -n ip link add "to-$name" type veth peer name eth0 netns "$STARTED"
    on server ip address add "10.77.$number.1/24" dev "to-$name"
    on server ip link set "to-$name" up
    on "$name" ip address add "10.77.$number.2/24" dev eth0
    on "$name" ip link set eth0 up
    on "$name" ip route add default via "10.77.$number.1"
    mount_store "$name"
}

# mount_store HOST: returns when the volume is there.
mount_store() {
    on "$1" glusterfs --volfile-server="$STORE_ADDRESS" --volfile-id=store --log-file="$GLUSTER/log/$1.log" \
        --pid-file="$GLUSTER/client.$1" "$STORE" 3>&- || fail "$1 cannot mount: $(tail -n 5 "$GLUSTER/log/$1.log")"
    eventually on "$1" mountpoint -q "$STORE"
}

# start_gluster: the server and its volume.  Sets GLUSTER, its folder, and STORE, where hosts mount it.
start_gluster() {
    export GLUSTER=$BATS_FILE_TMPDIR/gluster STORE=$BATS_FILE_TMPDIR/store
    mkdir -p "$GLUSTER/log" "$GLUSTER/brick" "$GLUSTER/lib" "$STORE"
    chmod a+rx "$BATS_FILE_TMPDIR"
    start_namespaces server
    echo "$STARTED" >"$GLUSTER/host.server"
    on server ip address add "$STORE_ADDRESS/32" dev lo
    # Two servers that have one /run have one socket for the command.
    on server sh -c 'mkdir -p /var/lib/glusterd && mount -t tmpfs run /run && mkdir /run/gluster &&
        mount --bind "$0/lib" /var/lib/glusterd && mount --bind "$0/log" /var/log/glusterfs' "$GLUSTER"
    on server glusterd -p "$GLUSTER/glusterd.pid" -l "$GLUSTER/log/glusterd.log" 3>&- ||
        fail "glusterd: $(tail -n 5 "$GLUSTER/log/glusterd.log")"
    eventually on server gluster --mode=script volume list >/dev/null 2>&1
    on server gluster --mode=script volume create store "$STORE_ADDRESS:$GLUSTER/brick" force >"$GLUSTER/log/create" ||
        fail "no volume: $(cat "$GLUSTER/log/create")"
    on server gluster --mode=script volume start store >/dev/null
}

# stop_gluster: ends everything that start_gluster and add_host have started.
stop_gluster() {
    local pid
    [ -s "$GLUSTER/pids" ] || return 0
    # The first process of a PID namespace takes all others with it.
    for pid in $(tac "$GLUSTER/pids"); do pkill -9 -P "$pid" || true; done
    for pid in $(tac "$GLUSTER/pids"); do
        kill -9 "$pid" 2>/dev/null || true
        timeout 60 tail --pid="$pid" -f /dev/null || true
    done
    rm -f "$GLUSTER/pids"
}

# start_slow SECONDS: a second volume, whose brick takes so long to answer a question about locks.  Sets SLOW, an image there.
start_slow() {
    local setting
    SLOW=gluster://$STORE_ADDRESS/slow/disk.qcow2
    mkdir -p "$GLUSTER/slow"
    qemu-img create -q -f qcow2 "$GLUSTER/slow/disk.qcow2" 1M
    on server gluster --mode=script volume create slow "$STORE_ADDRESS:$GLUSTER/slow" force
    for setting in "debug.delay-gen locks" "delay-gen.enable lk" "delay-gen.delay-percentage 100" \
        "delay-gen.delay-duration $(($1 * 1000000))"; do
        # shellcheck disable=SC2086 # a name and a value
        on server gluster --mode=script volume set slow $setting
    done
    on server gluster --mode=script volume start slow
}

# slow_is_asked [COUNT]: are there so many questions about locks, or one, that the brick has not answered yet?
# shellcheck disable=SC2120 # one is enough for most
slow_is_asked() {
    on server sh -c 'rm -f /run/gluster/*.dump.*; gluster --mode=script volume statedump slow callpool >/dev/null &&
        [ "$(cat /run/gluster/*.dump.* | grep -cx op=LK)" = "$0" ]' "${1:-1}"
}

stop_slow() {
    on server gluster --mode=script volume stop slow force
    on server gluster --mode=script volume delete slow
    rm -r "$GLUSTER/slow"
}

# restart_brick: kills it, which loses all locks, and returns when both hosts have it again.  Glusterd starts it at times only
# when it is told once more.
restart_brick() {
    local host try
    kill -9 "$(pgrep -f "glusterfsd .*--volfile-id store\..*$BATS_FILE_TMPDIR")"
    for host in alpha beta; do
        for ((try = 0; try < 3000; try++)); do
            on "$host" "$HELPERS/lock_query" "$IMAGE" >/dev/null 2>&1 && break
            [ $((try % 50)) -ne 0 ] || on server gluster --mode=script volume start store force >/dev/null 2>&1 || true
            read -rt 0.02 <> <(:) || true
        done
        on "$host" "$HELPERS/lock_query" "$IMAGE" >/dev/null || fail "$host has no brick"
    done
}

# told_on HOST IMAGE: a program there has the image open for writing, and does what it is told by `tell` (helpers/told.py).  Sets
# HOLDER.  Its messages are in IMAGE's name with .said.
told_on() {
    local name=${2##*/}
    rm -f "$name.told"
    mkfifo "$name.told"
    SETTINGS+=("IMGLOCK_LOG=$PWD/$name.said")
    : >"$name.said"
    # Open for reading as well, so that it stays open between two words.
    background on "$1" env LD_PRELOAD="$SHIM" IMGLOCK_DIR="$STORE/locks" "${SETTINGS[@]}" \
        /usr/bin/python3 "$TOP/tests/helpers/told.py" "$2" "$PWD/$name.told" "$PWD/$name.answers"
}

# tell IMAGE WORD: what the program says to it.
tell() {
    local name=${1##*/}
    rm -f "$name.answers"
    echo "$2" >"$name.told"
    eventually grep -q . "$name.answers"
    cat "$name.answers"
}

# is_told_of IMAGE: is the program that `told_on alpha` has started named to another host, after it has asked for its lock?
is_told_of() {
    [ "$(tell "$1" look)" = None ] &&
        try_on beta qemu-io -c "read 0 512" "$1" 2>&1 | grep -q 'locked exclusively on alpha by python3'
}

# tells_of_loss IMAGE: has it said that it lost its lock, after it has asked?  Sets ANSWER, of the open that asked.
tells_of_loss() {
    ANSWER=$(tell "$1" look)
    grep -q 'its lock is lost' "${1##*/}.said"
}

# hold_on HOST read|write IMAGE: a program there has the image open.  Sets HOLDER.  SETTINGS: IMGLOCK_ variables.
hold_on() {
    local host=$1
    shift
    background on "$host" env LD_PRELOAD="$SHIM" IMGLOCK_DIR="$STORE/locks" "${SETTINGS[@]}" "$HELPERS/holder" "$@"
}

# program_of PID: what runs at the end of a chain of shells and nsenter.
program_of() {
    local pid=$1 child
    while child=$(pgrep -P "$pid" | head -n 1) && [ -n "$child" ]; do pid=$child; done
    echo "$pid"
}

# end_all PID: ends it with all that it has started.
end_all() {
    local child
    for child in $(pgrep -P "$1"); do end_all "$child"; done
    kill -9 "$1" 2>/dev/null || true
}

# end_holder [SIGNAL]: ends the program that hold_on has started last, and waits for it.
end_holder() {
    kill "-${1:-TERM}" "$(program_of "$HOLDER")"
    wait "$HOLDER" 2>/dev/null || true
}

# image_is_free: has the brick no lock on $IMAGE left?  It hears of a close only when the client comes to it.
image_is_free() { [ -z "$(on beta "$HELPERS/lock_query" "$IMAGE")" ]; }

# end_last_holder [SIGNAL]: the same, and its locks are gone.
end_last_holder() {
    end_holder "$@"
    eventually image_is_free
}

# inner_pid: the holder's pid on its host.
inner_pid() {
    awk '/^NSpid:/ {print $NF}' "/proc/$(program_of "$HOLDER")/status"
}

# try_on HOST [VARIABLE=VALUE]... PROGRAM...: run it there with imglock.
try_on() {
    local host=$1
    shift
    on "$host" env LD_PRELOAD="$SHIM" IMGLOCK_DIR="$STORE/locks" "$@"
}

# imglock_on HOST ARGUMENT...: the command.
imglock_on() {
    local host=$1
    shift
    on "$host" env IMGLOCK_LIBRARY="$SHIM" IMGLOCK_DIR="$STORE/locks" "$IMGLOCK" "$@"
}

# gfapi_url IMAGE: what QEMU calls it.
gfapi_url() { echo "gluster://$STORE_ADDRESS/store${1#"$STORE"}"; }

# by_gfapi HOST OPERATION IMAGE: tests/helpers/gluster.c there, with imglock.  SETTINGS: IMGLOCK_ variables.
by_gfapi() {
    on "$1" env LD_PRELOAD="$SHIM:libgfapi.so.0" IMGLOCK_DIR="$STORE/locks" "${SETTINGS[@]}" \
        "$HELPERS/gluster" "$2" "$(gfapi_url "$3")"
}

# try_gfapi HOST OPERATION IMAGE: the same, ending when the image is open.
try_gfapi() {
    ONCE=1 by_gfapi "$@"
}

# ---- what each test file with two hosts has ----------------------------------------------------------------------------

setup_file() {
    gluster_is_here || return 0
    start_gluster
    add_host alpha 1
    add_host beta 2
    on alpha mkdir -m 1777 "$STORE/locks"
    on alpha mkdir -m 1777 "$STORE/others"
    on alpha mkdir "$STORE/vm"
}

teardown() {
    local pid
    for pid in "${HOLDERS[@]}"; do end_all "$pid"; done
    common_teardown
}

teardown_file() {
    stop_gluster
}

setup() {
    needs_gluster
    common_setup
    SETTINGS=()
    IMAGE=$STORE/vm/disk$BATS_TEST_NUMBER.qcow2
    on alpha qemu-img create -q -f qcow2 "$IMAGE" 1M
}

# ---- what holds on each shared file system -----------------------------------------------------------------------------

gc_leaves_what_another_host_holds() {
    local held free
    hold_on alpha write "$IMAGE"
    on alpha cp "$IMAGE" "$IMAGE.other.qcow2"
    try_on alpha "${WRITES[@]}" "$IMAGE.other.qcow2"
    held=$(imglock_on beta path "$IMAGE")
    free=$(imglock_on beta path "$IMAGE.other.qcow2")
    on beta test -e "$held" -a -e "$free"
    run imglock_on beta gc
    assert_success
    on beta test -e "$held"
    refute on beta test -e "$free"
    run try_on beta "${WRITES[@]}" "$IMAGE"
    assert_failure
}
