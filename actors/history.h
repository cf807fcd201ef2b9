/* SPDX-License-Identifier: Apache-2.0 */
/* history: the window of what was said last, in one block of memory: what a model is told. Not the record of it: that is the
 * journal.
 *
 * Entries stand one behind the other (size, speaker, text), oldest first; the oldest leave when count or bytes go over the
 * limits, the newest always stays. Life: zeroed -> history_push ... -> history_deinit.
 */
#ifndef CIRANDA_ACTORS_HISTORY_H
#define CIRANDA_ACTORS_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

enum speaker { SPEAKER_CUSTOMER, SPEAKER_AGENT, SPEAKER_HUMAN };

/* Fields are private but `count`. Zeroed is valid and empty. */
struct history {
    char *memory;
    uint32_t begin, end, capacity;
    uint32_t count;
};

struct history_entry {
    enum speaker speaker;
    struct slice text; /* lent until the next push */
};

void history_deinit(struct history *history);
/* Limits: at most count_max entries and bytes_max of text, the new one excepted. Returns: ERR_NO_MEMORY: not
 * pushed, though older entries may have gone. */
MUST_USE enum err history_push(struct history *history, enum speaker speaker, struct slice text, uint32_t count_max,
                               uint32_t bytes_max);
/* From the oldest on: `*position` starts at 0. Returns: false at the end. */
bool history_next(const struct history *history, uint32_t *position, struct history_entry *ret_entry);

#endif
