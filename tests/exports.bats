# shellcheck shell=bash
# What the library defines, and what it does not: every function of libc's that opens, copies, closes or hands down a
# descriptor has a row in shim/wrap/symbols.def.  A new one turns this red.
load common

exports() {
    nm -D --defined-only "$SHIM" | awk '{ print $3 }' | sort -u
}

# rows KIND...: the names of these kinds in shim/wrap/symbols.def.
rows() {
    "$HELPERS/symbols" | awk -v kinds=" $* " 'index(kinds, " " $1 " ") { print $2 }' | sort -u
}

# What this libc defines for others than its own libraries.  libc_symbols versions: a line for each version of a name,
# with its minor number.
libc_symbols() {
    local libc
    libc=$(ldd "$SHIM" | awk '$1 == "libc.so.6" { print $3 }')
    if [ "${1-}" = versions ]; then
        nm -D --defined-only "$libc" | sed -nE 's/^.* [TWi] ([^@]+)@@?GLIBC_2\.([0-9]+).*/\1 \2/p'
    else
        nm -D --defined-only "$libc" | awk '$2 ~ /[TWi]/ && !/@GLIBC_PRIVATE/ { sub(/@.*/, "", $3); print $3 }' | sort -u
    fi
}

# libc's functions of the families in question.
libc_families() {
    libc_symbols |
        grep -E '^_*(IO_)?(open|creat|close|dup|fcntl|fdopen|fopen|freopen|fclose|fcloseall|pclose|popen|mk[a-z]*temp|tmpfile)|^_*(rename|unlink|remove$|truncate|ftruncate|exec|fexec|posix_spawn|pidfd|v?fork|Fork|clone|ioctl|readdir|syscall$|system$|daemon|login_tty|openpty|forkpty|lockf|fallocate|posix_fallocate)'
}

@test "every libc function of the families has a row in symbols.def" {
    [ "$(libc_families | wc -l)" -gt 100 ] || fail "libc's symbols cannot be read"
    assert_equal "$(comm -23 <(libc_families) <(rows wrapped composed called left))" ""
}

@test "the library defines what symbols.def says, and nothing else" {
    [ "$(exports | wc -l)" -gt 70 ] || fail "the exports cannot be read"
    run diff <(exports) <(rows wrapped composed elsewhere)
    assert_output ""
}

@test "no name has two rows" {
    run sh -c '"$HELPERS/symbols" | cut -d" " -f2 | sort | uniq -d'
    assert_output ""
}

# A libc before that one lacks the function, and a later one has it.
@test "symbols.def knows since which glibc there is each function" {
    local minor
    minor=$(getconf GNU_LIBC_VERSION | sed 's/.*\.//')
    run comm -23 <("$HELPERS/symbols" | awk -v minor="$minor" '$4 && $4 <= minor { print $2 }' | sort) <(libc_symbols)
    assert_output ""
    run comm -12 <("$HELPERS/symbols" | awk -v minor="$minor" '$4 > minor { print $2 }' | sort) <(libc_symbols)
    assert_output ""
    [ "$(libc_symbols versions | wc -l)" -gt 1000 ] || fail "the versions cannot be read"
    # Up to 2.17 the architectures differ; what is newer has to be left out on older releases.  Two versions has what came
    # from another library, libutil.
    run awk 'FILENAME == "/dev/stdin" { has[$1, $2] = 1; if (!($1 in first) || $2 < first[$1]) first[$1] = $2; next }
             $2 in first && (first[$2] > 17 || $4 > 17) && !(($2, $4) in has) { print $2, first[$2], $4 }' \
        /dev/stdin <("$HELPERS/symbols") < <(libc_symbols versions)
    assert_output ""
}

@test "what is wrapped and a system call of its name is met by syscall(2) as well" {
    local name numbers missing=
    # shellcheck disable=SC2016 # the compiler's own
    numbers=$(echo '#include <sys/syscall.h>' | "${CC:-cc}" -E -dM -xc - | sed -n 's/^#define SYS_\([^ ]*\) .*/\1/p')
    [ "$(wc -l <<<"$numbers")" -gt 200 ] || fail "the system calls cannot be read"
    while read -r name; do
        grep -q "^ *case SYS_$name:" "$TOP/shim/wrap/syscall.c" || missing+=" $name"
    done < <(comm -12 <(rows wrapped composed) <(sort -u <<<"$numbers"))
    assert_equal "$missing" ""
}

# What the functions of a family do is tried by these files in tests/.
tries() {
    case $1 in
    OPEN | TEMPORARY | COPY | CLOSE) echo helpers/descriptors.c ;; # descriptors.bats asks for each of them
    NAME) echo helpers/input_call.c ;;
    SIZE) echo helpers/block_resize.c ;;
    PROCESS) echo helpers/processes.c helpers/child_made.c ;;
    SPAWN | EXEC) echo helpers/processes.c ;;
    DIRECTORY) echo helpers/private.c helpers/sizes.c ;;
    CONTROL) echo helpers/processes.c helpers/sizes.c ;;
    ANY) echo helpers/descriptors.c ;;
    esac
}

@test "what each wrapped function does is tried where its family's is" {
    local name family missing=
    while read -r name family; do
        case $name in
        # By the same lines as the one that is tried: clone, vfork, login_tty, readdir_r, fcntl, ioctl.
        __clone | __vfork | forkpty | readdir_r | readdir64_r | pclose | __ioctl_time64) continue ;;
        esac
        # shellcheck disable=SC2046 # a list of words
        (cd "$TOP/tests" && grep -Eq "(^|[^a-zA-Z0-9_\"])$name\b" $(tries "$family")) || missing+=" $name"
    done < <("$HELPERS/symbols" | awk '$1 == "wrapped" || $1 == "composed" { print $2, $3 }')
    assert_equal "$missing" ""
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
    [ "$(nm -D --undefined-only "$SHIM" | wc -l)" -gt 5 ] || fail "the symbols cannot be read"
    run comm -12 <(exports) <(nm -D --undefined-only "$SHIM" | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u)
    assert_output ""
}
