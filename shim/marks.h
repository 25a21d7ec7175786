/* marks.h: which descriptors of this process carry marks (mark.h), and what the process as a whole may do.
 *
 * Each open of an image marks its own description.  Others are asked once, by the first open, and again by one that
 * needs more than the process has asked for: then the marks of the process's other descriptions, which would be seen as
 * everybody else's are, are taken off for the question.  A description that another process may have is never changed;
 * whoever has one has relatives beside it, and is not told apart from them here: its process does not ask.
 *
 * A program that locks its image itself, or asks who has, must not meet our marks: they go before its first such call,
 * and it gets none any more on that file.
 *
 * Everything here is for the section, but marks_are_given_up. */
#ifndef IMGLOCK_MARKS_H
#define IMGLOCK_MARKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mark.h"

struct marks_request {
    int descriptor; /* of the program, or one that is open as its own will be */
    int access;     /* O_ACCMODE of its open */
    dev_t device;   /* what it is open on */
    ino_t inode;
    bool set;       /* false: only ask */
    bool inherited; /* it came through exec, or was there before the library */
    bool inside;    /* let past a relative's lock: who else is there was decided with the lock */
};

enum marks_answer {
    MARKS_FREE,
    MARKS_TAKEN,        /* somebody announces what does not go with this, and may be a stranger */
    MARKS_TAKEN_BESIDE, /* the same, and this process has other marks on the file */
};

/* Marks a descriptor of the image, and asks where that is due. */
enum marks_answer marks_put(uint32_t image, enum lock_mode mode, const struct marks_request *request,
                            struct bytes_found *found);

/* MARKS_TAKEN was nothing after all: the image needs not be asked about again. */
void marks_accept(uint32_t image, enum lock_mode mode);

/* Sets the marks of all the process's descriptors of the image once more, which changes nothing where they are there,
 * and asks whether others have announced what does not go with them.  True: nobody has; or *descriptor, open with this
 * access, is one that was asked through, and *mode is its mode. */
bool marks_ask_again(uint32_t image, int *descriptor, int *access, enum lock_mode *mode);

/* Is the process about to close a descriptor of this file?  Its marks stay until the kernel lets its description go,
 * when nothing in /proc shows it any more. */
bool marks_are_closing(dev_t device, ino_t inode);

/* A descriptor of the image is gone.  What could not be marked beside it is marked now. */
void marks_renew(uint32_t image);

/* The program is about to lock this file itself. */
void marks_give_up(dev_t device, ino_t inode);
bool marks_are_given_up(dev_t device, ino_t inode);

#endif
