/* report_index.h: finds images, processes, and what each process has to do with each image, in the same time however
 * many there are. */
#ifndef IMGLOCK_REPORT_INDEX_H
#define IMGLOCK_REPORT_INDEX_H

#include "report_model.h"

/* A process and an image, while the events are gone through. */
struct report_holder {
    struct report_image *image;
    struct report_process *process;
    struct span *span; /* the image is open */
    struct report_wait *waits;
    struct report_holder *next; /* of the process */
    int64_t since;
    int64_t ended; /* the last span */
    int8_t mode;
    bool let_through; /* a conflict or an error was, and the open is still to follow */
    bool problem;     /* it was an error */
};

/* Each makes what is not there yet. */
struct report_image *find_image(struct report *report, const struct report_name *path);
struct report_process *find_process(struct report *report, unsigned boot, pid_t pid, uint64_t start);
struct report_holder *find_holder(struct report_image *image, struct report_process *process);

/* start 0: the latest of that pid.  NULL: the logs know of none. */
struct report_process *look_for_process(unsigned boot, pid_t pid, uint64_t start);

/* Had this process ever to do with the image? */
bool had_image(const struct report_process *process, const struct report_image *image);

/* The one object for the file that a line names; NULL: it does not tell. */
const struct file *file_of(const struct event *event);

/* What a line says besides who and when: of lines that say the same, one object. */
const struct detail *detail_of(const struct event *event);

/* The program that a line says was not watched.  *new: no line did before. */
struct unwatched *find_unwatched(const struct event *event, bool *new);

/* Sets the process that started this one, as far as the logs know it; all lines have been read. */
void find_parent(struct report_process *process);

#endif
