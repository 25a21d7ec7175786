/* go_note.h: is a program written in Go?  Such a program makes its system calls itself, so no library sees them. */
#ifndef IMGLOCK_GO_NOTE_H
#define IMGLOCK_GO_NOTE_H

#include <link.h>
#include <stdbool.h>
#include <string.h>

/* Is Go's build id among these notes of an ELF program?  Its linker writes it always (cmd/link/internal/ld/elf.go). */
static inline bool go_note_is_in(const char *notes, size_t size)
{
    for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= size;) {
        ElfW(Nhdr) note;
        memcpy(&note, notes + at, sizeof note);
        at += sizeof note;
        if (note.n_namesz > size - at || note.n_descsz > size - at) return false;
        if (note.n_namesz == 4 && memcmp(notes + at, "Go\0", 4) == 0) return true;
        at += (note.n_namesz + 3u) / 4 * 4 + (note.n_descsz + 3u) / 4 * 4;
    }
    return false;
}

#endif
