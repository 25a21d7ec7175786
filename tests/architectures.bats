# shellcheck shell=bash
# Other architectures: built by cross compilers (tests/cross.sh), run under qemu-user, and those of 32 bits on the processor
# itself.  Their locks and x86-64's are the same, and each reads the other's records.
load common

# built ARCHITECTURE [unused]: skips the test where it cannot be built, or what is built cannot be run; sets BUILT to its
# directory.  unused: nothing is to be run.
built() {
    local status=0
    case $1 in
    arm64) needs aarch64-linux-gnu-gcc qemu-aarch64-static busybox ;;
    s390x) needs s390x-linux-gnu-gcc qemu-s390x-static busybox ;;
    i386) needs i686-linux-gnu-gcc ;;
    esac
    BUILT=$TOP/build/$1
    "$TOP/tests/cross.sh" "$1" >cross.log 2>&1 || status=$?
    [ "$status" != 3 ] || skip "OpenSSL for $1 cannot be downloaded"
    [ "$status" = 0 ] || fail "$(tail -n 20 cross.log)"
    [[ $1 = i386 && ${2-} != unused ]] || return 0
    [ -e /lib/ld-linux.so.2 ] || skip "libc6-i386 is not installed"
    /lib/ld-linux.so.2 --version >/dev/null 2>&1 || skip "this kernel runs no programs of 32 bits"
}

# there HELPER ARGUMENT...: a helper of that architecture, wrapped.
there() {
    env "LD_PRELOAD=$BUILT/libimglock.so" "$BUILT/run/$1" "${@:2}"
}

bare_there() {
    "$BUILT/run/$1" "${@:2}"
}

# What has to hold between an architecture and this one.
excludes() {
    built "$1"
    truncate -s 1M disk.img
    # Here, there.
    hold disk.img write
    run there cli_open disk.img
    assert_failure
    assert_output --partial "disk.img: cannot open for writing: locked exclusively by holder (pid $HOLDER, user $(id -un))"
    release
    run there cli_open disk.img
    assert_success
    assert_output opened
    # There, here: the lock, its name and the record.
    # QEMU makes up /proc/self/stat, so the line has the name of either program.
    background env "LD_PRELOAD=$BUILT/libimglock.so" "$BUILT/run/holder" write disk.img
    run wrapped "$HELPERS/cli_open" disk.img
    assert_failure
    assert_output --regexp "disk.img: cannot open for writing: locked exclusively by (holder|qemu-[^ ]+) \\(pid $HOLDER, user $(id -un)\\)"
    run "$HELPERS/lock_query" "$(lock_file disk.img)"
    assert_line --index 0 'write 0-1'
    run tr -d '\0' <"$(lock_file disk.img)"
    assert_output --partial "image $PWD/disk.img"
    run "$IMGLOCK" status disk.img
    assert_success
    assert_output --partial exclusive
    run there cli_open disk.img
    assert_failure
    assert_output --regexp "locked exclusively by (holder|qemu-[^ ]+) \\(pid $HOLDER"
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    run "$HELPERS/probe" "$(lock_file disk.img)"
    assert_output free
}

# Offsets, structures and system calls of both sizes; and nothing else changes.
calls() {
    built "$1"
    truncate -s 5G size3.img
    run bare_there sizes size1.img size2 size3.img
    assert_output "all right"
    rm size1.img size2
    # After a record lock the content of a file is looked at by a child with a table of descriptors of its own, and
    # qemu-user makes none.  There names decide.
    [ "$1" = i386 ] || export IMGLOCK_MAGIC=off
    run there sizes size1.img size2 size3.img
    assert_output "all right"
    assert_equal "$("$HELPERS/probe" "$(lock_file size1.img)")" free
    run bash -c 'ls -A "$IMGLOCK_DIR" | wc -l'
    assert_output 2
}

# The table of formats, whatever the order of bytes.
knows_formats() {
    built "$1"
    local format
    for format in qcow2 vdi vmdk vhdx qed; do qemu-img create -q -f "$format" "a-$format" 2M; done
    truncate -s 2M plain.img new.D64
    printf 'text\n' >text
    for format in ./*; do "$HELPERS/identify" "$format"; done >here
    for format in ./*; do [ "$format" = ./here ] || bare_there identify "$format"; done >there
    grep -v ' ./here$' here >expected
    run diff expected <(grep -v ' ./there$' there)
    assert_output ""
}

# as_here ARCHITECTURE FILE...: these tests pass with its library and its helpers as well.
as_here() {
    built "$1"
    local file architecture=$1
    shift
    for file; do
        # A run of its own, which knows nothing of this one.
        run env -i PATH="${PATH//"$BATS_LIBEXEC":/}" HOME="$HOME" TMPDIR="$BATS_TEST_TMPDIR" "ARCHITECTURE=$architecture" \
            bats --tap "$TOP/tests/$file.bats"
        assert_success
        [ "$(grep -c '^ok' <<<"$output")" -gt "$(grep -c '^ok .* # skip' <<<"$output")" ] || fail "nothing was run"
    done
}

@test "arm64: its locks and x86-64's exclude each other" { excludes arm64; }
@test "arm64: calls" { calls arm64; }
@test "arm64: errno and descriptors as on x86-64" { as_here arm64 errno descriptors; }
@test "s390x, big-endian: its locks and x86-64's exclude each other" { excludes s390x; }
@test "s390x: calls" { calls s390x; }
@test "s390x: formats" { knows_formats s390x; }
@test "s390x: errno and descriptors as on x86-64" { as_here s390x errno descriptors; }
@test "i386: its locks and x86-64's exclude each other" { excludes i386; }
@test "i386: calls, with narrow offsets and wide" { calls i386; }
@test "i386: formats" { knows_formats i386; }

@test "i386: errno, descriptors and threads as on x86-64" { as_here i386 errno descriptors threads; }

@test "each library needs nothing but libc, and no version later than 2.17" {
    local architecture
    for architecture in arm64 s390x i386; do
        built "$architecture" unused
        run sh -c 'readelf -d "$1" | sed -n "s/.*(NEEDED).*\[\(.*\)\]/\1/p"' sh "$BUILT/libimglock.so"
        # There the stack protector's value, which OpenSSL was built with, is the dynamic linker's.
        assert_output "libc.so.6$([ "$architecture" != arm64 ] || printf '\nld-linux-aarch64.so.1')"
        run sh -c 'readelf -W --dyn-syms "$1" | grep -o "@GLIBC_2\.[0-9]*" | sort -u | awk -F. "\$2 > 17"' sh "$BUILT/libimglock.so"
        assert_output ""
        run sh -c 'readelf -W -d "$1" | grep -E "INIT_ARRAYSZ|TEXTREL|FINI_ARRAY"' sh "$BUILT/libimglock.so"
        assert_output --regexp 'INIT_ARRAYSZ\) +[48] \(bytes\)$'
    done
}

@test "one value of LD_PRELOAD serves programs of 64 and of 32 bits, and imglock finds it" {
    built i386
    local root=$PWD/root wide narrow
    # Where each loader looks for $LIB: the directory that it lies in itself.
    wide=$(dirname "$(realpath /lib64/ld-linux-x86-64.so.2)") narrow=$(dirname "$(realpath /lib/ld-linux.so.2)")
    wide=$root/usr/${wide#/usr/} narrow=$root/usr/${narrow#/usr/}
    objects build
    make -s -C "$TOP" BUILD="$PWD/build" install DESTDIR="$root" PREFIX=/usr LIBDIR="${wide#"$root"}" >/dev/null
    run "$root/usr/bin/imglock" printenv LD_PRELOAD
    assert_output "$wide/imglock/libimglock.so"
    run "$root/usr/bin/imglock" "$BUILT/tests/cli_open"
    assert_failure 125
    assert_output --partial "it is a 32-bit program for i386"
    mkdir -p "$narrow/imglock"
    cp "$BUILT/libimglock.so" "$narrow/imglock/"
    run "$root/usr/bin/imglock" printenv LD_PRELOAD
    # shellcheck disable=SC2016 # the loader's own
    assert_output "$root/usr/"'$LIB/imglock/libimglock.so'
    truncate -s 1M disk.img
    hold disk.img write
    local program
    for program in "$HELPERS/cli_open" "$BUILT/tests/cli_open"; do
        run "$root/usr/bin/imglock" "$program" disk.img
        assert_failure
        assert_output --partial 'disk.img: cannot open for writing: locked exclusively by holder'
        # shellcheck disable=SC2016 # for the inner shell
        run "$root/usr/bin/imglock" sh -c '"$1" disk.img; exit $?' sh "$program"
        assert_failure
        assert_output --partial 'disk.img: cannot open for writing: locked exclusively by holder'
        refute_output --partial ld.so
    done
    release
    run "$root/usr/bin/imglock" "$BUILT/tests/cli_open" disk.img
    assert_output opened
    # Nor does an audit call one of them unwatched, whichever starts the other.
    printf '#include <unistd.h>\nint main(int count, char **words) { return execv(words[1], words + 1) + count; }\n' >start.c
    i686-linux-gnu-gcc -o narrow start.c
    gcc -o wide start.c
    # shellcheck disable=SC2016 # for the inner shell
    "$root/usr/bin/imglock" audit -o log.jsonl -- sh -c './wide "$1" disk.img; ./narrow "$2" disk.img' sh \
        "$BUILT/tests/cli_open" "$HELPERS/cli_open"
    assert_equal "$(grep -c '"event":"acquire"' log.jsonl)" 2
    run grep '"event":"unwatched"' log.jsonl
    assert_output ""
    # Where its library is not, one is.
    rm "$narrow/imglock/libimglock.so"
    # shellcheck disable=SC2016
    IMGLOCK_AUDIT=$PWD/log.jsonl LD_PRELOAD="$root/usr/"'$LIB/imglock/libimglock.so' run sh -c './wide "$1" disk.img' sh \
        "$BUILT/tests/cli_open"
    assert_equal "$(grep -c '"event":"unwatched".*"why":"foreign"' log.jsonl)" 1
}
