// link: -Ishim build/shim/children.o build/shim/bytes.o
/* children.c: what is counted and remembered of children (shim/children.h), called as the library calls it. */
#include <fcntl.h>

#include "check.h"

#include "../../shim/bytes.h"
#include "../../shim/children.h"

static const struct lock_name one = {"0123456789012345678901234567890123456789"};
static const struct lock_name other = {"9876543210987654321098765432109876543210"};

static void counts(void)
{
    children_moment opened = children_now();
    check(!children_may_have(opened), "nothing was made");
    children_note();
    check(children_may_have(opened), "a child was made since");
    opened = children_now();
    check(!children_may_have(opened), "none was made since");
    children_begin();
    check(children_may_have(opened), "one is being made");
    const children_moment meanwhile = children_now();
    check(children_may_have(meanwhile), "opened while one is being made");
    children_end();
    check(children_may_have(opened), "one was made");
    check(children_may_have(meanwhile), "one was being made then");
    check(!children_may_have(children_now()), "opened after it");

    /* Two threads that make one each; the second's end is not the first's. */
    children_begin();
    children_begin();
    children_end();
    check(children_may_have(children_now()), "one of two is still being made");
    children_end();
    check(!children_may_have(children_now()), "both are made");
    children_end();
    children_begin();
    check(children_may_have(children_now()), "an end without a begin takes nothing away");
    children_forget();
    check(!children_may_have(children_now()), "a fork child makes none yet");
}

static void memory(void)
{
    struct relatives_known known = {.descriptor = -1, .given_count = 9};
    int descriptors[6];
    children_given(&one, &known);
    check(known.given_count == 0, "nothing was closed, and %d are told", known.given_count);
    for (int i = 0; i < 6; i++) {
        descriptors[i] = open("a_lock_file", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
        children_keep(&one, descriptors[i]);
        children_keep(&other, descriptors[i]);
    }
    children_keep(&one, -1); /* nothing that a token could be set on */
    children_given(&one, &known);
    check(known.given_count == 6, "%d are told", known.given_count);
    for (int i = 0; i < known.given_count; i++) {
        struct bytes_found found;
        check(known.given[i].number == descriptors[5 - i], "%d: number %d", i, known.given[i].number);
        check(bytes_own(known.given[i].number, known.given[i].token, 1, &found) == 1, "%d has no token", i);
        for (int j = 0; j < i; j++) check(known.given[i].token != known.given[j].token, "a token is given twice");
    }
    for (int i = 0; i < 4096; i++) children_keep(&other, descriptors[0]);
    children_given(&one, &known);
    check(known.given_count == 0, "the oldest have made room, and %d are told", known.given_count);
    children_given(&other, &known);
    check(known.given_count == 4096 && known.given[0].number == descriptors[0], "the latest comes first");
    children_forget();
    children_given(&other, &known);
    check(known.given_count == 0, "a fork child has closed nothing yet");
}

int main(void)
{
    counts();
    memory();
    return checked();
}
