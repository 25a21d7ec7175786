# shellcheck shell=bash disable=SC2153
# Early and late, beside others, and where rules are narrow: other libraries' constructors, malloc's own start, other
# preloads in both orders, seccomp, AddressSanitizer, chroot, directories that are gone, mount namespaces.
bats_require_minimum_version 1.5.0
load common

setup() {
    common_setup
    truncate -s 1M disk.img
    LOCK_FILE=$(lock_file disk.img)
    IMAGE=$PWD/disk.img
    export LOCK_FILE IMAGE
    MOUNTED=()
}

teardown() {
    local mounted
    for mounted in "${MOUNTED[@]}"; do umount "$mounted"; done
    common_teardown
}

# library NAME: where the loader finds it.
library() {
    local found
    found=$(find /usr/lib -name "$1" -print -quit)
    [ -n "$found" ] || fail "$1 is not installed"
    printf %s "$found"
}

# both_orders LIBRARY COMMAND...: with the other library before imglock and after it, the same output.
both_orders() {
    local other=$1 first
    shift
    run timeout 300 env "LD_PRELOAD=$other:$SHIM" "$@"
    assert_success
    first=$output
    run timeout 300 env "LD_PRELOAD=$SHIM:$other" "$@"
    assert_success
    assert_output "$first"
}

# A shell that opens, hands down and closes the image, and says what the lock is each time.
# shellcheck disable=SC2016
ROUND='
    exec 3>&- 4>&-
    probe() { env -u LD_PRELOAD "$HELPERS/probe" "$LOCK_FILE"; }
    probe
    exec 9<>disk.img
    probe
    (probe) 9>&-
    cat disk.img | wc -c
    exec 9>&-
    probe'
ROUND_SAYS=$(printf '%s\n' free exclusive exclusive 1048576 free)

round_beside() {
    both_orders "$1" bash -c "$ROUND"
    assert_output "$ROUND_SAYS"
}

@test "opens in another library's constructor, in exit handlers and in destructors" {
    both_orders "$HELPERS/early" bash -c :
    assert_output "$(printf '%s\n' constructor destructor 'exit handler')"
    run "$HELPERS/probe" "$LOCK_FILE"
    assert_output free
}

@test "a library's constructor is refused an image that another process holds" {
    hold disk.img write
    run timeout 300 env "LD_PRELOAD=$SHIM:$HELPERS/early" bash -c :
    assert_failure 9
    assert_output --partial "cannot open for writing: locked exclusively by holder (pid $HOLDER"
}

@test "a malloc that opens files when it is first called" {
    both_orders "$HELPERS/allocator" bash -c "$ROUND"
    assert_output "$ROUND_SAYS"
}

@test "beside jemalloc" {
    round_beside "$(library 'libjemalloc.so.2')"
}

@test "beside libeatmydata" {
    round_beside "$(library libeatmydata.so)"
}

@test "beside libfaketime" {
    FAKETIME='2030-01-01 00:00:00' round_beside "$(library libfaketime.so.1)"
    LD_PRELOAD="$SHIM:$(library libfaketime.so.1)" FAKETIME='2030-01-01 00:00:00' run date +%Y
    assert_output 2030
}

@test "beside fakeroot" {
    local order
    # shellcheck disable=SC2016
    for order in '$SHIM:$LD_PRELOAD' '$LD_PRELOAD:$SHIM'; do
        run timeout 300 fakeroot -- bash -c "export LD_PRELOAD=$order; exec setpriv --reuid=nobody --clear-groups true"
        assert_success
        assert_output ""
        run timeout 300 fakeroot -- bash -c "export LD_PRELOAD=$order; exec bash -c '$ROUND; chown 1234 disk.img; stat -c %u disk.img'"
        assert_output "$ROUND_SAYS"$'\n'1234
    done
}

@test "seccomp: files that are no images need no other call than the program's own" {
    local file
    printf 'hello\n' >small
    seq 30000 >text
    head -c 100000 /dev/urandom >noise
    for file in small text noise; do
        touch -a -d '1 hour' "$file" # so that a look at the header moves no time
        run wrapped "$HELPERS/filtered" kill "$file"
        assert_equal "${output%%$'\n'*}" read
    done
}

@test "seccomp: a filter that refuses calls instead of killing" {
    printf 'hello\n' >plain
    seq 300 >longer
    run wrapped "$HELPERS/filtered" refuse plain longer
    assert_success
    assert_output "$(printf '%s\n' read read created)"
}

@test "a program with AddressSanitizer, imglock first and last" {
    local asan
    asan=$(gcc -print-file-name=libasan.so)
    ASAN_OPTIONS=verify_asan_link_order=0 run wrapped timeout 300 "$HELPERS/sanitized" disk.img
    assert_success
    assert_output ""
    run timeout 300 env "LD_PRELOAD=$(realpath "$asan"):$SHIM" "$HELPERS/sanitized" disk.img
    assert_success
    assert_output ""
}

# small_root: a directory to chroot to, with nothing but what the helpers need, and no /proc.
small_root() {
    local file
    mkdir -p root/locks root/dev
    chmod 1777 root/locks
    for file in $(ldd "$HELPERS/holder" "$HELPERS/probe" /bin/cat /usr/bin/env | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do
        mkdir -p "root$(dirname "$file")"
        cp -L "$file" "root$file"
    done
    cp "$SHIM" root/libimglock.so
    cp "$HELPERS/holder" "$HELPERS/probe" /bin/cat /usr/bin/env root/
    truncate -s 1M root/disk.img
}

in_root() {
    chroot root "$@"
}

wrapped_in_root() {
    chroot root /env LD_PRELOAD=/libimglock.so IMGLOCK_DIR=/locks "$@"
}

@test "chroot without /proc: the lock is there, and its name is that of the path inside" {
    needs_root
    local inside
    small_root
    inside=/locks/.qemu-$(printf %s /disk.img | sha1sum | cut -d' ' -f1).lock
    mkfifo ready
    chroot root /env LD_PRELOAD=/libimglock.so IMGLOCK_DIR=/locks /holder write disk.img >ready 3>&- 4>&- &
    HOLDERS+=($!)
    read -r line <ready
    assert_equal "$line" ready
    run in_root /probe "$inside"
    assert_output exclusive
    run wrapped_in_root /holder write /disk.img
    assert_failure 1
    assert_line --index 0 --regexp '^imglock: /disk\.img: cannot open for writing: locked exclusively by '
    run wrapped_in_root /cat /dev/../disk.img
    assert_failure
    kill "$!"
    wait "$!" || true
    run in_root /probe "$inside"
    assert_output free
}

@test "chroot without /proc: an image that is handed down cannot be named, and is refused" {
    needs_root
    small_root
    qemu-img create -q -f qcow2 root/disk.qcow2 1M
    run wrapped_in_root /cat <>root/disk.qcow2
    assert_failure 125
    assert_output --regexp '^imglock: .*cannot open for writing: cannot tell its real path: .*; is /proc mounted, for this'
    assert_equal "${#lines[@]}" 1
}

@test "a program that calls chroot itself" {
    needs_root
    small_root
    mkdir -p "root$IMGLOCK_DIR"
    run wrapped /usr/bin/python3 - <<'END'
import os
before = open("disk.img", "r+b")
os.chroot("root")
os.chdir("/")
inside = open("disk.img", "r+b")
again = open("/disk.img", "rb")
print(sorted(os.listdir(os.environ["IMGLOCK_DIR"])) != [])
before.close()
inside.close()
again.close()
END
    assert_success
    assert_output True
    # No lock directory inside: no lock, and it says so.
    rm -r "root${IMGLOCK_DIR:?}"
    run wrapped /usr/bin/python3 -c 'import os; os.chroot("root"); os.open("/disk.img", os.O_RDWR)'
    assert_failure
    assert_output --regexp 'imglock: /disk.img: cannot open for writing: .*No such file or directory'
}

@test "a working directory that changes, and one that is renamed" {
    mkdir -p one/two
    mv disk.img one/two/
    LOCK_FILE=$(lock_file one/two/disk.img)
    run wrapped /usr/bin/python3 - <<'END'
import os, subprocess
def probe():
    print(subprocess.run([os.environ["HELPERS"] + "/probe", os.environ["LOCK_FILE"]], stdout=subprocess.PIPE).stdout.decode().strip())
os.chdir("one")
first = os.open("two/disk.img", os.O_RDWR)
probe()
os.chdir("two")
second = os.open("disk.img", os.O_RDONLY)
os.chdir("../..")
os.close(first)
probe()
directory = os.open("one", os.O_PATH)
os.close(second)
probe()
third = os.open("two/disk.img", os.O_RDWR, dir_fd=directory)
probe()
os.rename("one", "three")
os.close(third)
END
    assert_success
    assert_output "$(printf '%s\n' exclusive exclusive free exclusive)"
    run "$HELPERS/probe" "$LOCK_FILE"
    assert_output free
}

@test "a working directory that is gone" {
    local bare
    # shellcheck disable=SC2016
    local round='mkdir gone && cd gone && rmdir ../gone
        cat disk.img; cat ../disk.img; : >new.img; cat <./x.img
        cat "$IMAGE" | wc -c; exec 9<>"$IMAGE"; echo $?'
    bare=$(bash -c "$round" 2>&1)
    run wrapped bash -c "$round"
    assert_output "$bare"
    assert_output --partial 1048576
}

@test "an unshared mount namespace" {
    unshare -m true || skip "no mount namespaces here"
    hold disk.img write
    run wrapped unshare -m cat disk.img
    assert_failure
    assert_output --partial "locked exclusively by holder (pid $HOLDER"
    # Another file lies at the same place there.
    mkdir other
    truncate -s 1M other/disk.img
    release
    # shellcheck disable=SC2016
    run unshare -m sh -c 'mount --bind other/disk.img disk.img && LD_PRELOAD=$SHIM exec wc -c disk.img'
    assert_output "1048576 disk.img"
}

@test "a lock by F_SETLK that came through exec on standard input is still there" {
    echo data >data.txt
    mkfifo ready
    LIBRARY=$SHIM python3 -c '
import fcntl, os
data = os.open("data.txt", os.O_RDWR)
os.dup2(data, 0)
os.close(data)
fcntl.lockf(0, fcntl.LOCK_EX)
os.environ["LD_PRELOAD"] = os.environ["LIBRARY"]
os.execvp("sh", ["sh", "-c", "echo ready; exec sleep 1000"])' >ready 3>&- &
    HOLDERS+=("$!")
    read -r _ <ready
    run python3 -c 'import fcntl; fcntl.lockf(open("data.txt", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)'
    assert_failure
    assert_output --partial BlockingIOError
}

@test "a symbol's next definition is the one that dlsym finds, in small programs and large, beside other preloads" {
    local program other
    # python3 is linked for fixed addresses.
    for program in /usr/bin/true "$(command -v qemu-img)" "$(command -v qemu-system-x86_64)" /bin/bash \
        /usr/bin/python3; do
        for other in '' "$HELPERS/chosen" libeatmydata.so libfaketime.so.1 libfakeroot-sysv.so; do
            case $other in
            '') ;;
            /*) other=:$other ;;
            *) other=:$(library "$other") ;;
            esac
            run timeout 300 env "LD_PRELOAD=$HELPERS/lookup$other" "$program" --version
            assert_line --index 0 'all the same, 0 missing'
        done
    done
}

@test "what libc lacks is called in the library behind libc that has it" {
    cat >late.c <<'END'
#include <stddef.h>
int openat2(int directory, const char *path, const void *how, size_t size) { return directory + (path && how) + (int)size; }
END
    cat >program.c <<'END'
#include <stddef.h>
#include <stdio.h>
int openat2(int directory, const char *path, const void *how, size_t size);
int main(void) { return printf("%d\n", openat2(4000, NULL, NULL, 711)) < 0; }
END
    gcc -shared -fPIC -o liblate.so late.c
    gcc -o program program.c -Wl,--no-as-needed -lc "$PWD/liblate.so"
    run wrapped ./program
    assert_output "$(./program)"
}

@test "symbols are found in a program that the dynamic linker gets as an argument" {
    run timeout 300 env "LD_PRELOAD=$HELPERS/lookup" /lib64/ld-linux-x86-64.so.2 /usr/bin/true
    # Older ones leave the program's headers to be guessed.
    assert_output 'all the same, 0 missing'
    hold disk.img write
    run timeout 300 env "LD_PRELOAD=$SHIM" /lib64/ld-linux-x86-64.so.2 "$HELPERS/cli_open" disk.img
    assert_failure
    assert_output --partial 'disk.img: cannot open for writing: locked'
    # And in one that does not say where its headers are.
    run timeout 300 env "LD_PRELOAD=$SHIM" /lib64/ld-linux-x86-64.so.2 "$HELPERS/without_headers"
    assert_output --partial 'disk.img: cannot open for writing: locked'
    release
    run timeout 300 env "LD_PRELOAD=$SHIM" /lib64/ld-linux-x86-64.so.2 "$HELPERS/without_headers"
    assert_success
}

@test "libraries that could not be mapped as high as they were linked for are searched, too" {
    cp "$HELPERS/linked_high" second.so
    run timeout 300 env "LD_PRELOAD=$HELPERS/lookup:$HELPERS/linked_high:$PWD/second.so" /usr/bin/true
    assert_success
    assert_output 'all the same, 0 missing'
}

@test "a library with an old symbol table is searched, too" {
    LD_PRELOAD=$SHIM:$HELPERS/old_hash run --separate-stderr timeout 300 "$HELPERS/cli_open" disk.img
    assert_success
    assert_output opened
    # shellcheck disable=SC2154 # what bats sets
    assert_equal "$stderr" 'old: disk.img'
    hold disk.img write
    LD_PRELOAD=$SHIM:$HELPERS/old_hash run timeout 300 "$HELPERS/cli_open" disk.img
    assert_failure
    assert_output --partial 'disk.img: cannot open for writing: locked'
}
