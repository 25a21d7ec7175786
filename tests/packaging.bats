# shellcheck shell=bash
# Building and installing: the order of the sources, what the build takes and what it leaves, and one binary for all
# releases.
load common

# What make was called with to run this file is not for the makes that are tested here.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL WERROR CPPFLAGS CFLAGS LDFLAGS

# sources FOLDER: a copy of what is under version control, or of everything but what was built.
sources() {
    mkdir -p "$1"
    if git -C "$TOP" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$TOP" && git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null | tar -cf - -T -) | tar -C "$1" -xf -
    else
        tar -C "$TOP" -cf - --exclude=./build . | tar -C "$1" -xf -
    fi
}

# Programs that tests skip without, and that make images of formats.
programs() {
    sed -nE 's/^ *needs ([^#"$]*).*/\1/p' "$TOP"/tests/*.bats "$TOP"/tests/*.bash | tr ' ' '\n'
    sed -nE 's/^ *quiet ([^ "$]+) .*/\1/p' "$TOP/tests/formats.bats" | grep -v '\.$'
}

@test "what a test skips without comes with a package of tests/packages.sh" {
    command -v dpkg-query >/dev/null || skip "no Debian"
    local listed program name package absent='' paths=()
    listed=" $(sh "$TOP/tests/packages.sh" test list | xargs) "
    [[ $listed = *" gcc "*" xorriso "* ]] || fail "the packages cannot be read: $listed"
    for program in $(programs | sort -u); do
        case $program in
        python3) continue ;; # Debian's own need it
        go) continue ;;      # half a gigabyte for one test
        linux.uml | cpio) continue ;; # with "make test-long"
        esac
        if ! command -v "$program" >/dev/null; then
            absent+=" $program"
            continue
        fi
        name=$(realpath "$(command -v "$program")")
        # Some packages have their files in /bin still, which is /usr/bin.
        for name in "$name" "$(command -v "$program")"; do
            paths+=("$name" "${name#/usr}" "/usr$name")
            printf '%s %s\n' "$program" "${name##*/}"
        done
    done >names
    dpkg -S "${paths[@]}" 2>/dev/null | sed -nE 's/^([^:]*):.*bin\/(.*)/\2 \1/p' >owners
    while read -r program; do
        awk -v program="$program" 'NR == FNR { if ($1 == program) is[$2]; next } $1 in is { print $2 }' names owners >packages
        [ -s packages ] || continue # made here
        while read -r package; do
            [[ $listed != *" $package "* ]] || continue 2
        done <packages
        fail "$program: no list has $(xargs <packages)"
    done < <(cut -d' ' -f1 names | sort -u)
    # Where all of them are there, nothing brings what is not.
    for package in $listed; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || return 0
    done
    assert_equal "$absent" ""
}

@test "HACKING.md's table has each file of the library and of the command, and nothing includes what stands below it" {
    run python3 "$TOP/tests/house.py" "$TOP"
    assert_success
    assert_output ""
}

@test "the library asks for no version of glibc later than 2.17, and for no symbol that it could do without" {
    run sh -c 'objdump -T "$SHIM" | grep -oE "GLIBC_2\.[0-9]+" | sort -u | awk -F. "\$2 > 17"'
    assert_output ""
    run sh -c 'objdump -T "$SHIM" | grep -c GLIBC_'
    [ "$output" -gt 10 ] || fail "the symbols cannot be read"
    # What glibc alone has; a weak one may be missing.
    run sh -c 'objdump -T "$SHIM" | grep UND | grep -v " w " | grep -oE "(__register_atfork|_dl_[a-z_]*|__[a-z]*_chk|dlsym|__libc_[a-z_]*)$"'
    assert_output ""
}

@test "the same sources give the same bytes in two directories" {
    sources one
    sources a/longer/directory
    local folder
    for folder in one a/longer/directory; do
        make -s -j2 -C "$folder" CFLAGS='-O0 -g' >/dev/null
    done
    cmp one/build/libimglock.so a/longer/directory/build/libimglock.so
    cmp one/build/imglock a/longer/directory/build/imglock
    run grep -c "$PWD" one/build/libimglock.so one/build/imglock
    assert_line one/build/libimglock.so:0
    assert_line one/build/imglock:0
}

@test "CPPFLAGS, CFLAGS and LDFLAGS reach the compiler, a warning ends the build with WERROR=1 only" {
    sources here
    cd here
    run make -n V=1 CPPFLAGS=-DMARK_CPP CFLAGS=-O3 LDFLAGS=-Wl,-z,mark all
    assert_equal "$(grep -cE -- '-DMARK_CPP.* -O3 .* shim/lock\.c$' <<<"$output")" 1
    assert_equal "$(grep -c -- '-DMARK_CPP.*cli/main.c' <<<"$output")" 1
    assert_equal "$(grep -c -- '-Wl,-z,mark' <<<"$output")" 2
    refute_output --partial -Werror
    run make -n V=1 WERROR=1 all
    assert_output --partial -Werror
    run make -n V=1 CC=aarch64-linux-gnu-gcc all
    assert_line --regexp '^gcc .*make_formats.c$'
}

@test "BINDIR, LIBDIR, DATADIR and MANDIR are respected, and what is installed names what is installed" {
    local places=(PREFIX=/opt/x BINDIR=/opt/x/sbin LIBDIR=/opt/x/lib/special DATADIR=/opt/x/data MANDIR=/opt/x/man) root=$PWD/root
    objects build
    make -s -C "$TOP" "BUILD=$PWD/build" "DESTDIR=$root" "${places[@]}" install >/dev/null
    [ -x root/opt/x/sbin/imglock ]
    [ -f root/opt/x/lib/special/imglock/libimglock.so ]
    [ -f root/opt/x/data/imglock/scripts.conf ]
    [ -f root/opt/x/man/man7/libimglock.7 ]
    run grep -rl /usr/local root
    assert_output ""
    grep -q 'LD_PRELOAD Ns = Ns Pa /opt/x/lib/special/imglock/libimglock.so' root/opt/x/man/man7/libimglock.7
    grep -q '^\.It Pa lib/special/imglock/libimglock.so' root/opt/x/man/man1/imglock.1
    # Moved or where it was meant to be, the program finds its library and its presets.
    run root/opt/x/sbin/imglock --config scripts printenv LD_PRELOAD IMGLOCK_WAIT
    assert_output "$root/opt/x/lib/special/imglock/libimglock.so"$'\n'600
    run grep -c '^/opt/x/lib/special/imglock' <(strings root/opt/x/sbin/imglock)
    make -s -C "$TOP" "BUILD=$PWD/build" "DESTDIR=$root" "${places[@]}" uninstall
    run find root -type f
    assert_output ""
}

@test "make check installs nothing, and says how many passed" {
    run make -n -C "$TOP" check
    refute_output --partial packages.sh
    assert_output --partial tests/run.sh
    run make -n -C "$TOP" test
    assert_output --partial packages.sh
}

@test "make dist: the same archive from the same commit, which builds" {
    git -C "$TOP" rev-parse HEAD >/dev/null 2>&1 || skip "no commits here, or somebody else's"
    local archive
    for archive in one two; do
        make -s -C "$TOP" "BUILD=$PWD/$archive" dist >/dev/null
    done
    cmp one/*.tar.gz two/*.tar.gz
    tar -xzf one/*.tar.gz
    cd imglock-*
    [ -f Makefile ] && [ -f LICENSE ] && [ -f debian/control ]
    make -s CFLAGS=-O0 all >/dev/null
    run build/imglock --version
    assert_success
}

@test "the RPM spec names what is installed" {
    needs rpmspec
    run rpmspec -P "$TOP/examples/imglock.spec"
    assert_success
    objects build
    make -s -C "$TOP" "BUILD=$PWD/build" "DESTDIR=$PWD/root" PREFIX=/usr LIBDIR=/usr/lib64 install >/dev/null
    local file listed pattern
    mapfile -t listed < <(sed -n '/^%files/,/^%changelog/ s,^\(/[^ ]*\)$,\1,p' <<<"$output")
    while read -r file; do
        for pattern in "${listed[@]}"; do
            # shellcheck disable=SC2053 # a pattern
            if [[ $file == $pattern || $file == $pattern/* ]]; then continue 2; fi
        done
        fail "the spec does not list $file"
    done < <(cd root && find . -type f | sed 's/^\.//')
}
