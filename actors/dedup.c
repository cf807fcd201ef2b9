/* SPDX-License-Identifier: Apache-2.0 */
/* Ring and index grow together by doubling up to count_max, so that a short conversation stays small; the chains are indexes, so
 * that growing is a copy and a new index. */
#include "actors/dedup.h"

#include <stdlib.h>

#include "runtime/assert.h"

enum { CAPACITY_MIN = 4 };

void dedup_init(struct dedup *dedup, uint32_t count_max)
{
    *dedup = (struct dedup){.count_max = count_max ? count_max : 1};
}

void dedup_deinit(struct dedup *dedup)
{
    free(dedup->entries);
    free(dedup->chains);
    free(dedup->buckets);
    *dedup = (struct dedup){.count_max = dedup->count_max};
}

struct hash128 dedup_message_hash(struct slice message_id)
{
    return hash_bytes(message_id, (struct hash128){0, 0}); /* a collision can only hurt the conversation that made it */
}

static uint32_t slot_of(const struct dedup *dedup, uint32_t i)
{
    uint32_t slot = dedup->first + i;
    return slot < dedup->capacity ? slot : slot - dedup->capacity;
}

static uint32_t *bucket_of(const struct dedup *dedup, struct hash128 message)
{
    return &dedup->buckets[message.low % dedup->capacity];
}

static void link_entry(struct dedup *dedup, uint32_t slot)
{
    uint32_t *bucket = bucket_of(dedup, dedup->entries[slot].message);
    dedup->chains[slot] = *bucket;
    *bucket = slot + 1;
}

static void unlink_entry(struct dedup *dedup, uint32_t slot)
{
    uint32_t *link = bucket_of(dedup, dedup->entries[slot].message);
    while (*link != slot + 1) {
        ASSERT(*link != 0);
        link = &dedup->chains[*link - 1];
    }
    *link = dedup->chains[slot];
}

static enum err grow(struct dedup *dedup)
{
    uint64_t capacity = dedup->capacity ? (uint64_t)dedup->capacity * 2 : CAPACITY_MIN;
    if (capacity > dedup->count_max)
        capacity = dedup->count_max;
    struct dedup grown = {.entries = malloc(capacity * sizeof *grown.entries),
                          .chains = malloc(capacity * sizeof *grown.chains),
                          .buckets = calloc(capacity, sizeof *grown.buckets),
                          .capacity = (uint32_t)capacity,
                          .count = dedup->count,
                          .count_max = dedup->count_max};
    if (!grown.entries || !grown.chains || !grown.buckets) {
        dedup_deinit(&grown);
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < dedup->count; i++) {
        grown.entries[i] = *dedup_at(dedup, i);
        link_entry(&grown, i);
    }
    dedup_deinit(dedup);
    *dedup = grown;
    return OK;
}

enum err dedup_add(struct dedup *dedup, const struct dedup_entry *entry)
{
    if (dedup->count == dedup->count_max) {
        unlink_entry(dedup, dedup->first);
        dedup->first = slot_of(dedup, 1);
        dedup->count--;
    } else if (dedup->count == dedup->capacity) {
        enum err code = grow(dedup);
        if (code != OK)
            return code;
    }
    uint32_t slot = slot_of(dedup, dedup->count++);
    dedup->entries[slot] = *entry;
    link_entry(dedup, slot);
    return OK;
}

const struct dedup_entry *dedup_find(const struct dedup *dedup, struct hash128 message)
{
    if (dedup->count == 0)
        return NULL;
    for (uint32_t link = *bucket_of(dedup, message); link != 0; link = dedup->chains[link - 1])
        if (hash128_is_equal(dedup->entries[link - 1].message, message))
            return &dedup->entries[link - 1];
    return NULL;
}

struct dedup_entry *dedup_find_turn(const struct dedup *dedup, const uint8_t turn_id[UUID_BYTES])
{
    for (uint32_t i = dedup->count; i-- > 0;) {
        struct dedup_entry *entry = &dedup->entries[slot_of(dedup, i)];
        if (memcmp(entry->turn_id, turn_id, UUID_BYTES) == 0)
            return entry;
    }
    return NULL;
}

const struct dedup_entry *dedup_at(const struct dedup *dedup, uint32_t i)
{
    ASSERT(i < dedup->count);
    return &dedup->entries[slot_of(dedup, i)];
}
