# nfs.bash: a real NFS server, which is the machine itself (machine.bash), and hosts that are its clients: namespaces, as
# gluster.bash makes them.

# Short, so that tests need not wait for minutes: how long the server waits for a client that does not answer, and after a
# start for those who had locks before.
LEASE_SECONDS=15

# start_server: NFS 3 and 4.  Sets GLUSTER, the folder of what gluster.bash notes, and STORE, where hosts mount it.
start_server() {
    export GLUSTER=$BATS_FILE_TMPDIR/hosts STORE=/mnt/store
    mkdir -p "$GLUSTER/log" "$STORE" /srv/store /run/rpc_pipefs /var/lib/nfs/nfsdcld
    echo 1 >"$GLUSTER/host.server"
    modprobe -a nfsd nfs nfsv3 nfsv4 veth
    mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
    mount -t nfsd nfsd /proc/fs/nfsd
    ip address add "$STORE_ADDRESS/32" dev lo
    rpcbind 3>&-
    rpc.statd 3>&-
    start_nfsdcld
    echo '/srv/store *(rw,no_root_squash,no_subtree_check,fsid=0)' >/etc/exports
    rpc.mountd 3>&-
    start_nfsd
}

# start_nfsdcld: who remembers which clients there were.  The server does not wait for it, and goes on without.
start_nfsdcld() {
    nfsdcld 3>&-
    eventually sh -c 'ls -l "/proc/$(pidof nfsdcld)/fd" | grep -q inotify'
}

start_nfsd() {
    echo "$LEASE_SECONDS" >/proc/fs/nfsd/nfsv4leasetime
    echo "$LEASE_SECONDS" >/proc/fs/nfsd/nfsv4gracetime
    # By that of NFS 3, 50 seconds, locks of NFS 4 wait as well.
    echo "$LEASE_SECONDS" >/proc/sys/fs/nfs/nlm_grace_period
    exportfs -r
    rpc.nfsd 4 3>&-
}

# stop_nfsd: as "systemctl stop nfs-server" does: all that clients have is forgotten.
stop_nfsd() {
    rpc.nfsd 0
    exportfs -au
}

# mount_store HOST [OPTIONS]
mount_store() {
    on "$1" mount -t nfs -o "${2:-vers=4.2,timeo=50}" "$STORE_ADDRESS:${3:-/}" "$STORE"
}

# has_mounted HOST NUMBER: a host (gluster.bash) with state of its own for what NFS 3 needs.
add_client() {
    add_host "$@"
}

# link HOST up|down: the cable between it and the server.
link() { ip link set "to-$1" "$2"; }
