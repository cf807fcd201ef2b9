/* SPDX-License-Identifier: Apache-2.0 */
/* ring_slots: the table behind user_data. A slot stands for one submission that the kernel has not finished; it is acquired
 * when the submission is prepared and released at its last completion, so an operation that is armed again gets another.
 *
 * user_data = generation (32 bits) | kind (12) | index (20). A completion whose generation is not the slot's is late: it
 * belongs to a submission that is over, and finds nobody.
 *
 * Invariants: S1 an index is in use or in the free list, never both. S2 the generation changes at each release. S3 slots do
 * not move: the table grows by whole chunks, and index 0 is nobody's.
 * Thread: the ring's. Limits: RING_SLOTS_MAX submissions at a time; one calloc a chunk, none once warm.
 */
#ifndef CIRANDA_RUNTIME_RING_SLOTS_H
#define CIRANDA_RUNTIME_RING_SLOTS_H

#include <stdint.h>
#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/planted.h"

struct ring_op;

enum {
    RING_SLOTS_CHUNK = 4096,
    RING_SLOTS_CHUNKS_MAX = 256,
    RING_SLOTS_MAX = RING_SLOTS_CHUNK * RING_SLOTS_CHUNKS_MAX,
};
_Static_assert(RING_SLOTS_MAX == 1 << 20, "an index has 20 bits in user_data, and each of its values is in bounds");

struct ring_slot {
    struct ring_op *op; /* NULL when free */
    uint32_t generation;
    uint32_t next_free;
};

struct ring_slots {
    uint32_t first_free; /* 0: none */
    uint32_t count;      /* slots that exist, slot 0 included */
    struct ring_slot *chunks[RING_SLOTS_CHUNKS_MAX];
};

static inline struct ring_slot *ring_slots_at(const struct ring_slots *slots, uint32_t index)
{
    return &slots->chunks[index / RING_SLOTS_CHUNK][index % RING_SLOTS_CHUNK];
}

static inline void ring_slots_deinit(struct ring_slots *slots)
{
    for (uint32_t i = 0; i < RING_SLOTS_CHUNKS_MAX; i++)
        free(slots->chunks[i]);
    *slots = (struct ring_slots){0};
}

/* Returns: the index; 0 when the table is full or memory is out. */
static inline uint32_t ring_slots_acquire(struct ring_slots *slots, struct ring_op *op)
{
    uint32_t index = slots->first_free;
    if (index != 0) {
        slots->first_free = ring_slots_at(slots, index)->next_free;
    } else {
        if (slots->count >= RING_SLOTS_MAX)
            return 0;
        if (slots->count % RING_SLOTS_CHUNK == 0) {
            struct ring_slot *chunk = calloc(RING_SLOTS_CHUNK, sizeof *chunk);
            if (!chunk)
                return 0;
            slots->chunks[slots->count / RING_SLOTS_CHUNK] = chunk;
            slots->count += slots->count == 0;
        }
        index = slots->count++;
    }
    struct ring_slot *slot = ring_slots_at(slots, index);
    ASSERT(slot->op == NULL);
    slot->op = op;
    return index;
}

static inline void ring_slots_release(struct ring_slots *slots, uint32_t index)
{
    struct ring_slot *slot = ring_slots_at(slots, index);
    ASSERT(slot->op != NULL);
    slot->op = NULL;
    slot->generation++;
    slot->next_free = slots->first_free;
    slots->first_free = index;
}

static inline uint64_t ring_slots_user_data(const struct ring_slots *slots, uint32_t index, uint8_t kind)
{
    return (uint64_t)ring_slots_at(slots, index)->generation << 32 | (uint64_t)kind << 20 | index;
}

static inline uint8_t ring_slots_kind(uint64_t user_data)
{
    return (uint8_t)(user_data >> 20);
}

/* Returns: the operation whose submission this is; NULL when that is over. */
static inline struct ring_op *ring_slots_find(const struct ring_slots *slots, uint64_t user_data)
{
    uint32_t index = (uint32_t)user_data & (RING_SLOTS_MAX - 1);
    if (index == 0 || index >= slots->count)
        return NULL;
    const struct ring_slot *slot = ring_slots_at(slots, index);
    bool is_late = slot->generation != (uint32_t)(user_data >> 32);
    return is_late && !PLANTED(LATE_COMPLETION_ACCEPTED) ? NULL : slot->op;
}

#endif
