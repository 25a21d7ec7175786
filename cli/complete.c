/* complete.c: what the shells offer, from the tables of the subcommands.
 *
 * The scripts in cli/completion only pass the words on and show the answer, so bash, zsh and fish know the same. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "preset.h"
#include "status_columns.h"
#include "subcommand.h"

struct cursor {
    const struct subcommand *const *all;
    const char *word;   /* that is completed */
    const char *prefix; /* of it, what stays: "write," */
};

/* ---- words -------------------------------------------------------------------------------------------------- */

static void offer(const struct cursor *cursor, const char *word, size_t length, const char *help)
{
    const char *rest = cursor->word + strlen(cursor->prefix);
    if (strncmp(word, rest, strlen(rest)) != 0 || strlen(rest) > length) return;
    printf("%s%.*s\t%.*s\n", cursor->prefix, (int)length, word, (int)strcspn(help, "\n"), help);
}

static void offer_words(const struct cursor *cursor, const char *words)
{
    for (const char *at = words; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        /* In a list, each once. */
        bool again = false;
        for (const char *given = cursor->prefix; *given;) {
            size_t given_length = strcspn(given, ",+");
            again |= given_length == length && strncasecmp(given, at, length) == 0;
            given += given_length;
            if (*given) given++;
        }
        if (!again) offer(cursor, at, length, "");
        at += length;
    }
}

static void offer_presets(const struct cursor *cursor)
{
    struct dirent **entries;
    int count = preset_list(&entries);
    for (int i = 0; i < count; i++) {
        offer(cursor, entries[i]->d_name, strlen(entries[i]->d_name) - strlen(".conf"), "");
        free(entries[i]);
    }
    if (count >= 0) free(entries);
}

static void offer_processes(const struct cursor *cursor)
{
    DIR *stream = opendir("/proc");
    for (const struct dirent *entry; stream && (entry = readdir(stream));) {
        char name[300], command[64] = "";
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        snprintf(name, sizeof name, "/proc/%s/comm", entry->d_name);
        FILE *file = fopen(name, "re");
        if (file && fgets(command, sizeof command, file)) command[strcspn(command, "\n\t")] = '\0';
        if (file) fclose(file);
        offer(cursor, entry->d_name, strlen(entry->d_name), command);
    }
    if (stream) closedir(stream);
}

static void offer_subcommands(const struct cursor *cursor)
{
    for (const struct subcommand *const *one = cursor->all; *one; one++)
        if (!(*one)->hidden) offer(cursor, (*one)->name, strlen((*one)->name), (*one)->summary);
}

static void offer_option(const struct cursor *cursor, const struct option_row *row)
{
    char word[64];
    if (row->code < OPTION_LONG) {
        snprintf(word, sizeof word, "-%c", row->code);
        offer(cursor, word, strlen(word), row->help);
    }
    snprintf(word, sizeof word, "--%s", row->name);
    offer(cursor, word, strlen(word), row->help);
    if (!row->optional || row->completes != COMPLETES_WORD) return;
    for (const char *at = row->words; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        snprintf(word, sizeof word, "--%s=%.*s", row->name, (int)length, at);
        offer(cursor, word, strlen(word), row->help);
        at += length;
    }
}

static int offer_options(const struct cursor *cursor, const struct subcommand *subcommand)
{
    puts("words");
    for (const struct option_row *row = subcommand->options; row && row->name; row++) offer_option(cursor, row);
    for (const struct option_row *row = options_of_all; row->name; row++) offer_option(cursor, row);
    return EXIT_SUCCESS;
}

/* ---- what a word is ----------------------------------------------------------------------------------------- */

static int offer_kind(struct cursor *cursor, enum completes kind, const char *words)
{
    char start[256] = "";
    const char *const before = cursor->prefix;
    bool list = kind == COMPLETES_WORD_LIST || kind == COMPLETES_COLUMN_LIST;
    if (list) {
        const char *comma = strrchr(cursor->word, ',');
        size_t length = comma ? (size_t)(comma - cursor->word) + 1 : cursor->word[0] == '+';
        snprintf(start, sizeof start, "%.*s", (int)length, cursor->word);
        cursor->prefix = start;
    }
    const char *file = kind == COMPLETES_PRESET && strchr(cursor->word, '/') ? "files" : NULL;
    puts(kind == COMPLETES_FILE      ? "files"
         : kind == COMPLETES_PROGRAM ? "programs"
         : list                      ? "list"
         : file                      ? file
                                     : "words");
    switch (kind) {
    case COMPLETES_WORD:
    case COMPLETES_WORD_LIST:
        offer_words(cursor, words);
        break;
    case COMPLETES_COLUMN_LIST:
        offer_words(cursor, table_column_names());
        break;
    case COMPLETES_PRESET:
        if (!file) offer_presets(cursor);
        break;
    case COMPLETES_PROCESS:
        offer_processes(cursor);
        break;
    case COMPLETES_SUBCOMMAND:
        offer_subcommands(cursor);
        break;
    case COMPLETES_NOTHING:
    case COMPLETES_FILE:
    case COMPLETES_PROGRAM:
        break;
    }
    cursor->prefix = before;
    return EXIT_SUCCESS;
}

static const struct option_row *find_option(const struct subcommand *subcommand, const char *word)
{
    for (const struct option_row *row = subcommand->options; row && row->name; row++) {
        if (strncmp(word, "--", 2) == 0 ? strcmp(word + 2, row->name) == 0
                                        : row->code < OPTION_LONG && word[1] == row->code && !word[2])
            return row;
    }
    return NULL;
}

/* Completes the last of the words; word 0 is the first behind the subcommand.  shift: what is to be added to a number
 * of a word for the shell. */
static int complete_subcommand(struct cursor *cursor, const struct subcommand *subcommand, int count, char **words,
                               int shift)
{
    bool options = true;
    int i = 0;
    /* bash takes --color=always apart at the equals sign. */
    const struct option_row *equalled =
        count > 2 && strcmp(words[count - 2], "=") == 0 ? find_option(subcommand, words[count - 3]) : NULL;
    if (equalled) return offer_kind(cursor, equalled->completes, equalled->words);
    for (; i < count - 1; i++) {
        if ((options || subcommand->separated) && strcmp(words[i], "--") == 0) {
            if (subcommand->command) return printf("command %d\n", i + 1 + shift) < 0;
            options = false;
        } else if (options && words[i][0] == '-' && words[i][1]) {
            const struct option_row *row = find_option(subcommand, words[i]);
            if (!row || !row->argument || row->optional) continue;
            if (++i == count - 1) return offer_kind(cursor, row->completes, row->words);
        } else if (subcommand->command && !subcommand->separated) {
            return printf("command %d\n", i + shift) < 0;
        } else {
            options &= subcommand->anywhere;
        }
    }
    if (cursor->word[0] == '-' && options) return offer_options(cursor, subcommand);
    return offer_kind(cursor, subcommand->operands, "");
}

int complete_print(const struct subcommand *run, const struct subcommand *const *all, int argc, char **argv)
{
    if (argc < 2) return complain("the words to complete are missing");
    struct cursor cursor = {.all = all, .word = argv[argc - 1], .prefix = ""};
    int status = EXIT_SUCCESS;
    for (const struct subcommand *const *one = all; argc > 2 && *one; one++)
        if (strcmp((*one)->name, argv[1]) == 0)
            return finish_output(complete_subcommand(&cursor, *one, argc - 2, argv + 2, 2));
    if (argc == 2 && cursor.word[0] != '-') {
        puts("programs");
        offer_subcommands(&cursor);
    } else {
        status = complete_subcommand(&cursor, run, argc - 1, argv + 1, 1);
    }
    return finish_output(status);
}
