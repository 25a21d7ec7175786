#!/usr/bin/env bats
# handed_on.bats: an image's descriptor that a wrapped program sends over a socket, and ends: to a program without the
# library, to one with it, to nobody yet, and to a helper that makes a loop device of it, as udisks does.
# shellcheck disable=SC2016,SC2154 # scripts in quotes; what bats sets

bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    LOOP=
    head -c 64K /dev/urandom >disk.img
    needs python3
}

teardown() {
    common_teardown
    [ -z "$LOOP" ] || losetup -d "$LOOP" 2>/dev/null || true
}

# Receives a descriptor as soon as somebody connects, says so, and does what its arguments say: keep it; never take it from
# the socket; or make a loop device of it.
RECEIVER='
import array, errno, fcntl, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind("socket.new")
server.listen()
os.rename("socket.new", "socket")
peer = server.accept()[0]
if sys.argv[1] == "leave":
    peer.recv(1, socket.MSG_PEEK)
else:
    image = socket.recv_fds(peer, 1, 1)[1][0]
if sys.argv[1] == "loop":
    control = os.open("/dev/loop-control", os.O_RDWR)
    # Whoever else looks for a free one may be faster.
    while True:
        number = fcntl.ioctl(control, 0x4c82)
        try:
            fcntl.ioctl(os.open("/dev/loop%d" % number, os.O_RDWR), 0x4c00, image)
            break
        except OSError as error:
            if error.errno != errno.EBUSY: raise
    print("ready /dev/loop%d" % number, flush=True)
    raise SystemExit
print("ready", flush=True)
os.close(1)
signal.pause()'

# sends FLAGS wrapped|bare keep|leave|loop: a wrapped program opens disk.img, sends it to a receiver, and has ended when this
# returns.  HOLDER is the receiver, ANSWER what it said.
sends() {
    local preload=
    [ "$2" = bare ] || preload=$SHIM
    rm -f socket
    LD_PRELOAD=$preload python3 -c "$RECEIVER" "$3" >answer 2>answer.err 3>&- &
    HOLDER=$!
    HOLDERS+=("$HOLDER")
    eventually test -S socket
    wrapped python3 -c '
import os, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect("socket")
socket.send_fds(peer, [b"x"], [os.open("disk.img", eval(sys.argv[1], vars(os)))])' "$1" 3>&-
    eventually grep -q ready answer
    ANSWER=$(cat answer)
}

# keeps_out WHO: writers, readers, those that truncate, rename and delete, and an unwrapped QEMU.
keeps_out() {
    stays_out disk.img "$1" dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    stays_out disk.img "$1" dd if=disk.img of=/dev/null status=none
    stays_out disk.img "$1" sh -c 'echo >disk.img'
    stays_out disk.img "$1" mv disk.img other.img
    stays_out disk.img "$1" rm -f disk.img
    run qemu-io -f raw -c 'write -q 0 512' disk.img
    assert_failure
    assert_output --partial 'Failed to get "write" lock'
}

admits() {
    run wrapped dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    assert_success
    assert_output ''
}

release() {
    kill "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
}

# status_is ROW: PID, MODE, KIND and COMMAND of the only one who has it.
status_is() {
    run --separate-stderr "$IMGLOCK" status -rn -o PID,MODE,KIND,COMMAND disk.img
    assert_success
    assert_output "$1"
}

@test "a program without the library gets an image over a socket: it is locked until that program ends, and named" {
    local flags
    for flags in O_RDWR O_WRONLY; do
        sends $flags bare keep
        keeps_out "locked exclusively by python3 (pid $HOLDER, user $(id -un))"
        status_is "$HOLDER exclusive marked python3"
        release
        admits
    done
}

@test "a program with the library gets an image over a socket: the same" {
    sends O_RDWR wrapped keep
    keeps_out "locked exclusively by python3 (pid $HOLDER, user $(id -un))"
    status_is "$HOLDER exclusive marked python3"
    release
    admits
}

@test "an image that was sent for reading lets readers in, and no writer" {
    sends O_RDONLY bare keep
    stays_out disk.img "locked shared by python3 (pid $HOLDER, user $(id -un))" \
        dd if=/dev/zero of=disk.img count=1 conv=notrunc status=none
    status_is "$HOLDER shared marked python3"
    run wrapped cmp disk.img disk.img
    assert_success
    release
    admits
}

@test "an image that nobody has taken from the socket yet is locked until the socket is gone" {
    sends O_RDWR bare leave
    keeps_out 'in use by a program that cannot be seen from here'
    status_is "- exclusive marked -"
    release
    admits
}

@test "a helper gets an image over a socket and makes a loop device of it: locked, and named, until that is detached" {
    needs_root
    losetup --find >/dev/null 2>&1 || skip "no loop devices here"
    sends O_RDWR bare loop
    LOOP=${ANSWER#ready }
    wait "$HOLDER"
    keeps_out "loop device $LOOP has it open for writing, outside imglock"
    run --separate-stderr "$IMGLOCK" status -rn -o COMMAND,MODE,KIND,HAS disk.img
    assert_output "${LOOP#/dev/} exclusive marked loop\\x20device,\\x20for\\x20writing,\\x20with\\x20imglock's\\x20marks"
    losetup -d "$LOOP"
    admits
}

@test "a mapping that a program keeps when it has closed the image: locked until it is unmapped, and named" {
    background env LD_PRELOAD="$SHIM" "$HELPERS/status_map" disk.img
    keeps_out "status_map (pid $HOLDER, user $(id -un)) has it mapped"
    run --separate-stderr "$IMGLOCK" status -rn -o PID,MODE,KIND,HAS disk.img
    assert_output "$HOLDER exclusive marked mapped\\x20for\\x20reading,\\x20with\\x20imglock's\\x20marks"
    release
    admits
}

@test "a program, and its children, beside a mapping that it keeps: nothing is refused" {
    for access in r w many; do
        if [ $access = many ]; then
            # The kernel gives the list of all locks in pieces now.
            background python3 -c 'if True:
                import fcntl, os, signal, struct
                other = os.open("other", os.O_RDWR | os.O_CREAT)
                for byte in range(0, 240, 2):
                    fcntl.fcntl(other, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
                print("ready", flush=True)
                signal.pause()'
            access=r
        fi
        head -c 64K /dev/zero >disk.img
        run wrapped "$HELPERS/mapped" "$access" disk.img
        assert_success
        assert_output "read: done
write: done
child: done
system: done
truncate: done
lengthen: done
rename: done
unlink: done"
    done
}

# beside_mappings COMMAND...: what follows it maps disk.img for reading, may read it beside HOLDER's mapping, and not write.
beside_mappings() {
    run wrapped "$@" disk.img 'cat disk.img >/dev/null && echo read; : >>disk.img'
    assert_failure
    assert_output --partial read
    assert_output --partial "cannot open for writing: "
}

@test "two programs that each keep a mapping of one image: neither writes beside the other's" {
    background env LD_PRELOAD="$SHIM" "$HELPERS/mapped" r disk.img 'echo ready; exec sleep 1000'
    beside_mappings "$HELPERS/mapped" rr
    assert_output --partial "has it mapped"
}

@test "the same beside another user's, and one of another PID namespace, whose mappings cannot be seen" {
    [ "$(id -u)" -eq 0 ] || skip "becomes another user"
    local how
    background env LD_PRELOAD="$SHIM" "$HELPERS/mapped" r disk.img 'echo ready; exec sleep 1000'
    for how in r rr; do beside_mappings unshare --pid --fork --mount-proc "$HELPERS/mapped" "$how"; done
    chown nobody disk.img
    beside_mappings "${NOBODY[@]}" "$HELPERS/mapped" rr
    # A mapping of a descriptor that is open still is none beside that one.
    run wrapped "${NOBODY[@]}" "$HELPERS/mapped" rk disk.img
    assert_line 'write: Text file busy'
}
