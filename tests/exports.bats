# shellcheck shell=bash
# What the library defines, and what it does not: every function of libc's that opens, copies, closes or hands down a
# descriptor is either wrapped or named here with the reason why not.  A new one turns this red.
load common

exports() {
    nm -D --defined-only "$SHIM" | awk '{ print $3 }' | sort -u
}

# libc's functions of the families in question.
libc_families() {
    local libc
    libc=$(ldd "$SHIM" | awk '$1 == "libc.so.6" { print $3 }')
    nm -D --defined-only "$libc" | awk '$2 ~ /[TWi]/ { sub(/@.*/, "", $3); print $3 }' | sort -u |
        grep -E '^_*(IO_)?(open|creat|close|dup|fcntl|fdopen|fopen|freopen|fclose|fcloseall|pclose|popen|mk[a-z]*temp|tmpfile)|^_*(rename|unlink|remove$|truncate|ftruncate|exec|fexec|posix_spawn|pidfd|v?fork|Fork|clone|ioctl|readdir|syscall$|system$|daemon|login_tty|openpty)'
}

# Not wrapped, and why.
not_wrapped() {
    sed 's/ *#.*//; /^$/d' <<'END'
fork                # the handlers that the library registers run
__fork              # the same
fdopen              # opens nothing
_IO_fdopen          # the same
fdopendir           # a directory
opendir             # a directory
closedir            # a directory
openlog             # a socket, no file
closelog            # the same
openpty             # terminals
open_memstream      # no file
open_wmemstream     # no file
fopencookie         # no file
fcloseall           # flushes, and closes no descriptor
open_tree           # a path handle, without content
tmpfile             # never has a name
tmpfile64           # the same
mktemp              # opens nothing
__mktemp            # the same
mkdtemp             # a directory
create_module       # modules of the kernel
duplocale           # locales
__duplocale         # the same
pidfd_open          # a process
pidfd_getfd         # the caller's own means to reach into another process
pidfd_send_signal   # a process
__open_catalog      # messages
__open_nocancel     # libc's own
__open64_nocancel   # libc's own
__close_nocancel    # libc's own
posix_spawn_file_actions_addchdir_np     # the actions are read when posix_spawn is called
posix_spawn_file_actions_addclose        # the same
posix_spawn_file_actions_addclosefrom_np # the same
posix_spawn_file_actions_adddup2         # the same
posix_spawn_file_actions_addfchdir_np    # the same
posix_spawn_file_actions_addopen         # the same
posix_spawn_file_actions_addtcsetpgrp_np # the same
posix_spawn_file_actions_destroy         # the same
posix_spawn_file_actions_init            # the same
posix_spawnattr_destroy                  # attributes have no descriptors
posix_spawnattr_getflags                 # the same
posix_spawnattr_getpgroup                # the same
posix_spawnattr_getschedparam            # the same
posix_spawnattr_getschedpolicy           # the same
posix_spawnattr_getsigdefault            # the same
posix_spawnattr_getsigmask               # the same
posix_spawnattr_init                     # the same
posix_spawnattr_setflags                 # the same
posix_spawnattr_setpgroup                # the same
posix_spawnattr_setschedparam            # the same
posix_spawnattr_setschedpolicy           # the same
posix_spawnattr_setsigdefault            # the same
posix_spawnattr_setsigmask               # the same
END
}

@test "every libc function of the families is wrapped, or named with a reason" {
    local missing
    [ "$(libc_families | wc -l)" -gt 100 ] || fail "libc's symbols cannot be read"
    missing=$(comm -23 <(libc_families) <(sort -u <(exports) <(not_wrapped)))
    assert_equal "$missing" ""
}

@test "nothing is both wrapped and excused, and nothing excused is unknown to libc" {
    assert_equal "$(comm -12 <(exports) <(not_wrapped | sort -u))" ""
    assert_equal "$(comm -13 <(libc_families) <(not_wrapped | sort -u))" ""
}

@test "nothing is exported but wrappers of libc's functions" {
    local libc
    libc=$(ldd "$SHIM" | awk '$1 == "libc.so.6" { print $3 }')
    run comm -23 <(exports) <(nm -D --defined-only "$libc" | awk '{ sub(/@.*/, "", $3); print $3 }' | sort -u)
    assert_output ""
    [ "$(exports | wc -l)" -gt 70 ] || fail "the exports cannot be read"
}

@test "libc is the only library that is needed" {
    [ ! -e "$TOP/build/openssl-shared" ] || skip "built with OPENSSL=shared"
    run sh -c 'readelf -d "$SHIM" | sed -n "s/.*(NEEDED).*\[\(.*\)\]/\1/p"'
    assert_output libc.so.6
}

@test "the library has no destructor" {
    run readelf -d "$SHIM"
    assert_output --partial INIT_ARRAY
    refute_output --partial FINI
}

@test "the library calls none of the functions that it wraps from inside" {
    # What it needs from libc by name would come back to its own wrappers.
    run comm -12 <(exports) <(nm -D --undefined-only "$SHIM" | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u)
    assert_output ""
}
