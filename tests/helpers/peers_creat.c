/* peers_creat.c: peers_creat DIRECTORY...: what the Linux Test Project's creat08 asks: who owns a new file, and which
 * bits it keeps, in directories with and without the set-group-ID bit, with and without that bit asked for, for root
 * and for a user who is not in the directory's group.  Prints a line for each; by creat, open and fopen. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int create(int way, const char *path, mode_t mode)
{
    switch (way) {
    case 0:
        return creat(path, mode);
    case 1:
        return open(path, O_RDWR | O_CREAT | O_TRUNC, mode);
    case 2:
        return open(path, O_RDWR | O_CREAT | O_EXCL, mode);
    default:
        return openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, mode);
    }
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"file", "disk.img"};
    static const mode_t modes[] = {0777, 02777, 04777, 06710};
    umask(0);
    for (int user = 0; user < 2; user++) {
        if (user && (setegid(65533) < 0 || seteuid(65534) < 0)) return 2;
        for (int directory = 1; directory < argc; directory++)
            for (int way = 0; way < 4; way++)
                for (int mode = 0; mode < 4; mode++)
                    for (int name = 0; name < 2; name++) {
                        char path[4096];
                        struct stat status;
                        snprintf(path, sizeof path, "%s/%s", argv[directory], names[name]);
                        int descriptor = create(way, path, modes[mode]);
                        if (descriptor < 0 || fstat(descriptor, &status) < 0) {
                            perror(path);
                            return 1;
                        }
                        printf("%d %s %d %o: mode %o owner %u:%u\n", user, path, way, modes[mode], status.st_mode,
                               status.st_uid, status.st_gid);
                        close(descriptor);
                        unlink(path);
                    }
    }
    return 0;
}
