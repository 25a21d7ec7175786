# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2154 # scripts in quotes; what bats sets
# Programs with locks, files and sandboxes of their own: the same results bare, wrapped, and wrapped with every file an
# image (IMGLOCK_IMAGES='+*').
bats_require_minimum_version 1.5.0
load common

# same_results SCRIPT [SETTING...]: bash runs it, in a directory of its own, in the three ways.  What it prints and its
# status are the same, and no word of ours is in it.  The settings are for where every file is an image: several programs have
# one file on purpose, or are where the lock directory is not.
same_results() {
    local script=$1 way setting
    shift
    for way in bare wrapped all; do
        mkdir $way
        setting=()
        [ $way = bare ] || setting+=(LD_PRELOAD="$SHIM")
        [ $way != all ] || setting+=(IMGLOCK_IMAGES='+*' "$@")
        (
            cd $way || exit
            status=0
            env "${setting[@]}" timeout 300 bash -c "$script" >../$way.output 2>&1 3>&- </dev/null || status=$?
            echo "status $status" >>../$way.output
        )
    done
    assert_equal "$(tail -n 1 bare.output)" "status 0"
    for way in wrapped all; do diff bare.output $way.output >differs || fail "$way: $(cat differs)"; done
}

@test "s6-setlock: exclusive, shared, with a time limit, and the lock goes through exec" {
    same_results '
        mkfifo go said
        s6-setlock -n lock sh -c "echo in; read -r go" <go >said &
        exec 8>go 9<said
        read -r line <&9
        echo "$line"
        s6-setlock -n lock echo second; echo $?
        s6-setlock -r -n lock echo reader; echo $?
        s6-setlock -t 100 lock echo patient; echo $?
        echo go >&8
        wait
        s6-setlock -n lock echo after; echo $?
        s6-setlock -r -n lock s6-setlock -r -n lock echo two readers; echo $?' IMGLOCK_ON_CONFLICT=warn IMGLOCK_LOG=quiet
}

@test "git: clone, commit, branch, gc and fsck" {
    same_results '
        export GIT_AUTHOR_DATE="1500000000 +0000" GIT_COMMITTER_DATE="1500000000 +0000" HOME=$PWD
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main one
        cd one
        for i in {1..30}; do
            printf "%s\n" $i >>file
            head -c 3000 /dev/zero | tr "\0" $((i % 10)) >disk$i.img
            git add . && git commit -qm "commit $i"
        done
        cd ..
        git clone -q one two && cd two
        git checkout -q -b other HEAD~5 && echo x >new.img && git add . && git commit -qm other
        git rebase -q main && git push -q origin other
        git gc -q --aggressive --prune=now && git repack -qad && git fsck --strict && git -C ../one gc -q
        git -C ../one fsck
        git log --format=%H --all
        git count-objects -v | grep -v size
        git status --porcelain
        git worktree add -q ../three main~3 && git worktree list | wc -l'
}

@test "sqlite3: four writers at once, with a journal and with a write-ahead log" {
    same_results '
        for mode in delete wal truncate; do
            sqlite3 $mode.db "pragma journal_mode=$mode; create table numbers (writer, number);"
            for writer in 1 2 3 4; do
                for number in {1..12}; do
                    echo "insert into numbers values ($writer, $number);"
                done | sqlite3 -cmd ".timeout 200000" $mode.db &
            done
            wait
            sqlite3 $mode.db "select writer, count(*), sum(number) from numbers group by writer; pragma integrity_check;"
        done' IMGLOCK_ON_CONFLICT=warn IMGLOCK_LOG=quiet
}

@test "bwrap: a sandbox with directories, data and lock files of its own" {
    bwrap --ro-bind / / true 2>/dev/null || skip "bwrap cannot make namespaces here"
    same_results '
        echo data >data.img
        sandbox() { bwrap --ro-bind / / --bind "$PWD" "$PWD" --bind "$IMGLOCK_DIR" "$IMGLOCK_DIR" "$@"; }
        sandbox sh -c "echo inside >new.img; cat data.img new.img"
        cat new.img
        sandbox --dev /dev --proc /proc --unshare-pid sh -c "cat data.img; echo \$\$"
        sandbox --tmpfs /mnt --file 9 /mnt/from cat /mnt/from 9<data.img
        sandbox --tmpfs /mnt --bind-data 9 /mnt/from cat /mnt/from 9<data.img
        : >lock
        sandbox --lock-file "$PWD/lock" --unshare-pid sh -c "echo locked"
        sandbox --ro-bind-data 9 "$PWD/data.img" cat data.img 9<new.img
        sandbox --ro-bind "$PWD/new.img" "$PWD/data.img" sh -c "cat data.img; echo x >data.img" 2>/dev/null; echo $?
        sandbox --chdir / sh -c "exec 3<>$PWD/data.img; echo 12 >&3; cat $PWD/data.img"' IMGLOCK_ON_ERROR=allow IMGLOCK_LOG=quiet
}

@test "tracefs: acts on O_TRUNC" {
    needs_root
    mkdir tracing
    # In a namespace of its own, so that nothing is left; not on this machine's own tracing but for an instance.
    unshare -m mount -t tracefs none tracing 2>/dev/null || skip "no tracefs here"
    export TRACING=$PWD/tracing
    unshare -m sh -c 'mount -t tracefs none "$TRACING" && mkdir "$TRACING/instances/imglock-test"' || skip "no instances here"
    local result=0
    same_results 'exec unshare -m bash -c "
        mount -t tracefs none \"$TRACING\"
        cd \"$TRACING/instances/imglock-test\"
        echo one >trace_marker
        echo two >trace_marker
        grep -c tracing_mark_write trace
        : >trace
        grep -c tracing_mark_write trace
        echo 1 >tracing_on; cat tracing_on
        echo three >trace_marker
        cp /dev/null trace
        grep -c tracing_mark_write trace
        echo nop >current_tracer; cat current_tracer
        echo hist >/dev/null; true"' || result=$?
    unshare -m sh -c 'mount -t tracefs none "$TRACING" && rmdir "$TRACING/instances/imglock-test"'
    [ "$result" = 0 ]
}

@test "creat08: owner, group and set-group-ID bit of a new file" {
    needs_root
    export HELPERS
    same_results '
        chmod 755 . ..
        mkdir plain setgid other
        chown nobody:65533 plain; chmod 777 plain
        chown nobody:daemon setgid; chmod 2777 setgid
        chown root:daemon other; chmod 3777 other
        "$HELPERS/peers_creat" plain setgid other'
}
