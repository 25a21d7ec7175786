# shellcheck shell=bash
# Programs that are linked with musl: the library loads into them, too, and locks what they open.
load common

setup() {
    common_setup
    needs musl-gcc
    [ ! -e "$TOP/build/openssl-shared" ] || skip "built with OPENSSL=shared, which musl has none of"
    truncate -s 1M disk.img
}

# built HELPER: made by musl-gcc.
built() {
    musl-gcc -D_GNU_SOURCE -w -o "$1" "$TOP/tests/helpers/$1.c" || fail "musl-gcc does not build $1"
}

@test "musl: opens, stdio, copies, threads and children are locked and refused" {
    cat >musl.c <<'END'
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
static void *in_thread(void *path) { printf("thread %d\n", close(open(path, O_RDWR))); return NULL; }
int main(int count, char **arguments)
{
    char *path = arguments[1], *query[] = {arguments[2], arguments[3], NULL};
    int descriptor = open(path, O_RDWR);
    printf("open %s\n", descriptor < 0 ? strerror(errno) : "0");
    FILE *stream = fopen(path, "r+");
    printf("fopen %s\n", stream ? "0" : strerror(errno));
    if (!stream || descriptor < 0) return 1;
    fclose(stream);
    int copy = dup(descriptor);
    close(descriptor);
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, path);
    pthread_join(thread, NULL);
    pid_t child;
    posix_spawn_file_actions_t actions;
    memset(&actions, 1, sizeof actions);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, copy, 20);
    fflush(stdout);
    if (posix_spawn(&child, query[0], &actions, NULL, query, environ) != 0) return 1;
    waitpid(child, NULL, 0);
    if (fork() == 0) _exit(close(copy));
    wait(NULL);
    posix_spawn(&child, query[0], NULL, NULL, query, environ);
    waitpid(child, NULL, 0);
    close(copy);
    posix_spawn(&child, query[0], NULL, NULL, query, environ);
    waitpid(child, NULL, 0);
    return 0;
}
END
    musl-gcc -o musl musl.c
    local bare
    bare=$(./musl disk.img /bin/echo probed)
    run wrapped ./musl disk.img "$HELPERS/probe" "$(lock_file disk.img)"
    assert_success
    assert_output "$(sed 's/^probed$/exclusive/' <<<"$bare" | sed '$ s/.*/free/')"
    hold disk.img write
    run wrapped ./musl disk.img /bin/true x
    assert_failure
    assert_output --partial "disk.img: cannot open for writing: locked exclusively by holder (pid $HOLDER"
    assert_line "open Text file busy"
    assert_line "fopen Text file busy"
}

@test "musl: holds against glibc, and the lock ends with kill -9" {
    built holder
    background env LD_PRELOAD="$SHIM" ./holder write disk.img
    run wrapped "$HELPERS/cli_open" disk.img
    assert_failure
    assert_output --partial "locked exclusively by holder (pid $HOLDER"
    kill -9 "$HOLDER"
    wait "$HOLDER" 2>/dev/null || true
    run wrapped "$HELPERS/cli_open" disk.img
    assert_output opened
}

@test "musl: imglock starts what the library loads into, and doctor says so" {
    built cli_open
    hold disk.img write
    run "$IMGLOCK" ./cli_open disk.img
    assert_failure
    assert_output --partial "disk.img: cannot open for writing: locked exclusively by holder"
    release
    run "$IMGLOCK" ./cli_open disk.img
    assert_output opened
    run "$IMGLOCK" doctor ./cli_open
    assert_output --partial "cli_open: the library can be preloaded into it"
}

@test "musl: a library that its loader does not load is told by doctor, and refused" {
    built cli_open
    # What musl has not.
    printf 'const char *gnu_get_libc_version(void);\nvoid closefrom(int from) { gnu_get_libc_version(); }\n' >library.c
    gcc -w -shared -fPIC -o libimglock.so library.c
    IMGLOCK_LIBRARY=$PWD/libimglock.so run "$IMGLOCK" doctor ./cli_open
    assert_failure
    assert_output --partial "it is linked with musl, whose loader does not load the library: Error relocating $PWD/libimglock.so: gnu_get_libc_version: symbol not found"
}
