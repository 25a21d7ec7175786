/* report_picture.h: what the picture of a report is made of: a group of rows for each image, a row for each process or
 * program, pieces in each row, time from left to right. */
#ifndef IMGLOCK_REPORT_PICTURE_H
#define IMGLOCK_REPORT_PICTURE_H

#include "report_verdict.h"
#include "report_write.h"

/* In the picture's unit, the pixel. */
enum {
    PICTURE_WIDTH = 1000,
    MARGIN = 20,
    LABEL_X = 32,
    PLOT_X = 290,
    PLOT_RIGHT = 976,
    ROW_HEIGHT = 20,
    BAR_HEIGHT = 12,
    HEADER_HEIGHT = 26,
    CALLOUT_HEIGHT = 22,
    GROUP_GAP = 10,
    TITLE_SIZE = 16,
    TEXT_SIZE = 11,
    AXIS_SIZE = 10,
};

/* Later kinds are drawn on earlier ones. */
enum piece_kind {
    PIECE_NONE,
    PIECE_SHARED,
    PIECE_EXCLUSIVE,
    PIECE_WAIT,
    PIECE_MIXTURE,
    PIECE_CORRUPT,
    PIECE_REFUSED,
    PIECE_PASSED,
    PIECE_KINDS
};

/* Something that happened in a row, or several of a kind that lie so close that they are drawn as one. */
struct piece {
    enum piece_kind kind;
    double left, right;
    int64_t from, to;
    size_t count;
    bool open_ended;
    const struct report_process *process; /* NULL: of several */
    const struct report_name *cmdline;    /* NULL: of several */
};

struct row {
    const struct report_process *process; /* NULL: of a program */
    const struct report_name *comm;       /* NULL: of all other programs */
    const struct report_name *cmdline;    /* NULL: several */
    struct piece *pieces;
    size_t count, room;
    size_t last[PIECE_KINDS]; /* one more than the index of the last piece of a kind */
    size_t processes;
    const struct report_process *only; /* where it is one */
    bool corrupts, mixes;              /* has part in an overlap of that kind */
    size_t order;
};

struct group {
    bool worst; /* the verdict is about it */
    const struct report_image *image;
    struct row **rows;
    size_t count, room;
    size_t order;
    const struct overlap *culprit; /* the first overlap that corrupts, which is named; or NULL */
    int top;                       /* of the header */
};

struct picture {
    const struct report *report;
    FILE *stream;
    int64_t from, to;
    struct group *groups;
    size_t count;
    size_t images_left_out, clashes_left_out, system_files;
    bool by_program;
    bool date;
    bool has[PIECE_KINDS];
    bool has_possible, has_open_end;
    int axis_y, bottom;
};

/* ---- report_picture.c: from the model to rows ---------------------------------------------------------------- */

void picture_fill(struct picture *picture);

/* The x of a time. */
double picture_x(const struct picture *picture, int64_t time);

/* ---- report_label.c: names that a reader understands ----------------------------------------------------------- */

/* A command as people know it: a guest by its name, a script without its interpreter, files without their directories.
 * The caller frees it. */
char *label_of(const struct report_name *cmdline);

/* ---- report_svg_group.c --------------------------------------------------------------------------------------- */

int group_height(const struct group *group);
void draw_group(const struct picture *picture, const struct group *group);
void draw_tick(const struct picture *picture, double x, double y);
void draw_diamond(const struct picture *picture, double x, double y);
void draw_bar(const struct picture *picture, const char *class, double x, double y, double width, bool open_ended);
void draw_flag(const struct picture *picture, double x, double y);
void draw_band(const struct picture *picture, const char *class, double left, double right, int top, int bottom);

/* ---- report_svg.c ---------------------------------------------------------------------------------------------- */

void put_escaped(FILE *stream, const char *text);
void put_text(const struct picture *picture, double x, double y, const char *class, const char *anchor,
              const char *text);

#endif
