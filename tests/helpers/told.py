"""told.py IMAGE FIFO ANSWERS: has the image open for writing, says "ready", and does what it reads from the FIFO, a word each:

look    opens the image for reading once more, and closes it
cut     opens it for writing once more, truncated, and closes it
write   writes a byte of it, as it was
read    reads from its start
size    asks the server how long it is
place   says where the file's position is, which it has put at 100
close   closes it
Each time ANSWERS has the result, or the name of the error."""
import errno
import os
import sys

path, fifo, answers = sys.argv[1:]
image = os.open(path, os.O_RDWR)
os.lseek(image, 100, os.SEEK_SET)


def look():
    os.close(os.open(path, os.O_RDONLY))


def cut():
    os.close(os.open(path, os.O_RDWR | os.O_TRUNC))


WORDS = {
    "cut": cut,
    "look": look,
    "write": lambda: os.pwrite(image, os.pread(image, 1, 0), 0),
    "read": lambda: os.pread(image, 3, 0),
    "size": lambda: os.fstat(image).st_size,
    "place": lambda: os.lseek(image, 0, os.SEEK_CUR),
    "close": lambda: os.close(image),
}
print("ready", flush=True)
while True:
    with open(fifo) as told:
        word = told.read().strip()
    try:
        answer = WORDS[word]()
    except OSError as error:
        answer = errno.errorcode[error.errno]
    with open(answers + ".new", "w") as file:
        print(answer, file=file)
    os.rename(answers + ".new", answers)
