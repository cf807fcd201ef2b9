/* SPDX-License-Identifier: Apache-2.0 */
/* dedup: the messages that a conversation remembers having taken, so that a copy is known as one (design.md, rule 2).
 *
 * A ring of the last `count_max` messages, each with the hash of its id and of its payload, its turn and where the turn's events
 * begin and end, and a hash index over them. A copy of a message that has left the ring is taken for a new one; the window
 * is the promise (docs/CONVERSATION.md). Part of the fold: pure, and encoded in snapshots.
 *
 * Invariants: D1 an entry is in exactly one chain of the index. D2 entries stand in the order received.
 */
#ifndef CIRANDA_ACTORS_DEDUP_H
#define CIRANDA_ACTORS_DEDUP_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/hash.h"
#include "actors/uuid.h"
#include "runtime/error.h"
#include "runtime/slice.h"

struct dedup_entry {
    struct hash128 message;
    uint64_t payload_hash;
    uint8_t turn_id[UUID_BYTES];
    uint64_t received_version;
    uint64_t finished_version; /* of the turn's last event; 0: not finished */
};

/* Fields are private but `count`. */
struct dedup {
    struct dedup_entry *entries; /* a ring */
    uint32_t *chains;            /* next entry's index + 1 in the chain of its bucket */
    uint32_t *buckets;           /* first entry's index + 1 */
    uint32_t capacity, first, count, count_max;
};

void dedup_init(struct dedup *dedup, uint32_t count_max);
void dedup_deinit(struct dedup *dedup); /* accepts zeroed */
struct hash128 dedup_message_hash(struct slice message_id);
/* Forgets the oldest when full. Returns: ERR_NO_MEMORY. */
MUST_USE enum err dedup_add(struct dedup *dedup, const struct dedup_entry *entry);
/* Lent until the next add; NULL: not in the window. By turn: newest first, linear. */
const struct dedup_entry *dedup_find(const struct dedup *dedup, struct hash128 message);
struct dedup_entry *dedup_find_turn(const struct dedup *dedup, const uint8_t turn_id[UUID_BYTES]);
/* The i-th, oldest first. */
const struct dedup_entry *dedup_at(const struct dedup *dedup, uint32_t i);

#endif
