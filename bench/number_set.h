/* SPDX-License-Identifier: Apache-2.0 */
/* number_set: small numbers, a bit each: which messages of a talker were accepted, when not all were. Zeroed, it is empty. */
#ifndef CIRANDA_BENCH_NUMBER_SET_H
#define CIRANDA_BENCH_NUMBER_SET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct number_set {
    uint64_t *words;
    uint32_t word_count;
};

/* Returns: false when there is no memory for it. Limits: grows to twice what it had, at least. */
static inline bool number_set_add(struct number_set *set, uint32_t number)
{
    uint32_t at = number / 64;
    if (at >= set->word_count) {
        uint32_t word_count = 2 * at + 2;
        uint64_t *words = realloc(set->words, word_count * sizeof *words);
        if (!words)
            return false;
        memset(words + set->word_count, 0, (word_count - set->word_count) * sizeof *words);
        *set = (struct number_set){.words = words, .word_count = word_count};
    }
    set->words[at] |= (uint64_t)1 << number % 64;
    return true;
}

static inline bool number_set_has(const struct number_set *set, uint32_t number)
{
    return number / 64 < set->word_count && (set->words[number / 64] >> number % 64 & 1) != 0;
}

static inline void number_set_clear(struct number_set *set)
{
    if (set->word_count > 0)
        memset(set->words, 0, set->word_count * sizeof *set->words);
}

static inline void number_set_deinit(struct number_set *set)
{
    free(set->words);
    *set = (struct number_set){0};
}

#endif
