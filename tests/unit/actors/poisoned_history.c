/* SPDX-License-Identifier: Apache-2.0 */
/* history.c with a flaw that a test turns on: stands before the library's object in the link, which is then not taken. */
#define history_push sound_history_push
#include "actors/history.c"
#undef history_push

#include "tests/unit/actors/world.h"

static char poison[64];
static uint32_t poison_left;

void world_poison(const char *text, uint32_t count)
{
    snprintf(poison, sizeof poison, "%s", text);
    poison_left = count;
}

MUST_USE enum err history_push(struct history *history, enum speaker speaker, struct slice text, uint32_t count_max,
                               uint32_t bytes_max);

enum err history_push(struct history *history, enum speaker speaker, struct slice text, uint32_t count_max,
                      uint32_t bytes_max)
{
    if (poison_left > 0 && memmem(text.data, text.size, poison, strlen(poison))) {
        poison_left--;
        return ERR_NO_MEMORY;
    }
    return sound_history_push(history, speaker, text, count_max, bytes_max);
}
