/* SPDX-License-Identifier: Apache-2.0 */
/* dialogues: what customers say, read from a gzipped file of JSON lines
 * {"id", "turns":[{"from":"customer"|"agent","text"}...]}; only the customers' texts are kept. */
#ifndef CIRANDA_BENCH_DIALOGUES_H
#define CIRANDA_BENCH_DIALOGUES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/slice.h"

struct dialogue {
    uint32_t first_text, text_count; /* of dialogues.texts */
};

struct dialogues {
    struct dialogue *items;
    uint32_t count;
    struct slice *texts;
    uint32_t text_count;
};

/* Exits with a message when the file cannot be read or a line is not what it should be. Kept until the process ends. */
void dialogues_load(struct dialogues *dialogues, const char *path);

#endif
