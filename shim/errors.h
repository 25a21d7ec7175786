/* errors.h: errors by name and in words, as strerrorname_np(3) and strerrordesc_np(3), which glibc has since 2.32 and
 * musl has not at all.  strerror(3) allocates. */
#ifndef IMGLOCK_ERRORS_H
#define IMGLOCK_ERRORS_H

/* "ENOENT"; NULL for a number that is none. */
const char *error_name(int error);

/* "No such file or directory", in English whatever the locale is; "unknown error". */
const char *error_description(int error);

#endif
