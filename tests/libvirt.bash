# libvirt.bash: a libvirtd of the test's own, with virtlockd, whose machines have the one disk.

# libvirt_start: once a test.  The session mode of libvirt is not for root.
libvirt_start() {
    [ ! -d run ] || return 0
    compgen -G '/usr/lib*/libvirt/lock-driver/lockd.so' >/dev/null ||
        compgen -G '/usr/lib/*/libvirt/lock-driver/lockd.so' >/dev/null || skip "libvirt's lock driver is not installed"
    mkdir -p home/libvirt run
    printf '%s\n' 'stdio_handler = "file"' 'lock_manager = "lockd"' >home/libvirt/qemu.conf
    cp "$SHIM" libimglock.so
    AS_USER=(env -u LD_PRELOAD HOME="$PWD" XDG_CONFIG_HOME="$PWD/home" XDG_CACHE_HOME="$PWD/home" XDG_RUNTIME_DIR="$PWD/run")
    if [ "$(id -u)" = 0 ]; then
        AS_USER=("${NOBODY[@]}" "${AS_USER[@]}")
        chown -R nobody:nogroup home run "$IMAGE"
        touch -a -d tomorrow "$IMAGE"
    fi
    "${AS_USER[@]}" PATH="$PATH:/usr/sbin" libvirtd --daemon --timeout 300 3>&-
}

virsh() { "${AS_USER[@]}" timeout 300 virsh -q -c qemu:///session "$@" 3>&-; }

# libvirt_machine NAME wrapped|bare: starts it.
libvirt_machine() {
    local without=
    libvirt_start
    [ "$2" = wrapped ] || without='/<qemu:commandline>/,/<.qemu:commandline>/d'
    sed -e "s,imglock-example,$1," -e "s,/srv/vm/disk.img,$IMAGE," -e '/IMGLOCK_WAIT/d' \
        -e "s,/usr/local/lib/imglock/libimglock.so,$PWD/libimglock.so," \
        -e "s,<qemu:commandline>,&<qemu:env name='IMGLOCK_DIR' value='$IMGLOCK_DIR'/>," -e "$without" \
        "$TOP/examples/libvirt.xml" >"$1.xml"
    virsh create "$1.xml"
}

libvirt_pid() { cat "run/libvirt/qemu/run/$1.pid"; }

# libvirt_teardown: every process of the server has written its pid below run/.
libvirt_teardown() {
    local file pid
    for file in run/libvirt/qemu/run/*.pid run/libvirt/*.pid; do
        case $file in *'*'* | */driver.pid) continue ;; esac
        pid=$(cat "$file") || continue
        kill "$pid" 2>/dev/null || continue
        eventually is_gone "$pid"
    done
}
