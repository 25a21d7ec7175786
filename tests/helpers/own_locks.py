"""own_locks.py IMAGE [reader]: sets locks on the image, by F_SETLK, F_OFD_SETLK and F_SETLKW, whole and in parts, on the bytes
of imglock's marks and beside them, and prints whether that went well and what a child sees of them."""
import fcntl
import os
import struct
import sys

OFD_GETLK, OFD_SETLK = 36, 37


def pack(kind, start, length):
    return struct.pack("hhqqi4x", kind, 0, start, length, 0)


def seen(descriptor, command, kind, start, length):
    got = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, command, pack(kind, start, length)))
    return got[0], got[2:4] if got[0] != fcntl.F_UNLCK else ()


image = os.open(sys.argv[1], os.O_RDWR if len(sys.argv) < 3 else os.O_RDONLY)
kinds = [fcntl.F_RDLCK, fcntl.F_WRLCK] if len(sys.argv) < 3 else [fcntl.F_RDLCK]
for setting in fcntl.F_SETLK, OFD_SETLK, fcntl.F_SETLKW:
    for start, length in (0, 0), (1, 1), (100, 1), (103, 1), (150, 10), (201, 3), (203, 1), (300, 1), (50, 100), (90, 400):
        for kind in kinds:
            try:
                fcntl.fcntl(image, setting, pack(kind, start, length))
                done = "set"
            except OSError as error:
                done = error.strerror
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                answers = []
                for at, size in (0, 0), (start, 1), (203, 1), (500, 0):
                    for kind2 in fcntl.F_RDLCK, fcntl.F_WRLCK:
                        answers.append(seen(image, fcntl.F_GETLK, kind2, at, size))
                os.write(write, repr(answers).encode())
                os._exit(0)
            os.waitpid(child, 0)
            print(setting, start, length, kind, done, os.read(read, 4096).decode())
            os.close(read)
            os.close(write)
            fcntl.fcntl(image, OFD_SETLK if setting == OFD_SETLK else fcntl.F_SETLK, pack(fcntl.F_UNLCK, 0, 0))
