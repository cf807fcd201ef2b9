/* SPDX-License-Identifier: Apache-2.0 */
/* pool: see pool.h. Blocks of a fresh chunk are handed out in address order (`virgin`), so that a chunk costs no pass over
 * its memory before the first use. Under AddressSanitizer free blocks are poisoned but for their link. */
#include "runtime/pool.h"

#include <stdlib.h>

static const uint16_t class_bytes[POOL_CLASSES] = {64,   96,   128,  192,  256,  384,  512,   768,  1024,
                                                   1536, 2048, 3072, 4096, 6144, 8192, 10880, 16320};
_Static_assert(POOL_BLOCK_BYTES_MAX % POOL_UNIT_BYTES == 0, "the class table is indexed by units");

enum { CHUNK_HEADER_BYTES = 64 };
_Static_assert(sizeof(struct pool_chunk) <= CHUNK_HEADER_BYTES, "blocks begin on the second cache line");
_Static_assert(CHUNK_HEADER_BYTES + 4 * POOL_BLOCK_BYTES_MAX <= POOL_CHUNK_BYTES, "four of the largest fit");

bool account_take(struct account *account, uint64_t bytes, enum account_cap cap)
{
    uint64_t used = atomic_add_relaxed(&account->used_bytes, bytes) + bytes;
    if (used > account->bytes_max && cap == ACCOUNT_CAPPED) {
        atomic_sub_relaxed(&account->used_bytes, bytes);
        return false;
    }
    if (used > atomic_load_relaxed(&account->peak_bytes))
        atomic_store_relaxed(&account->peak_bytes, used);
    return true;
}

void account_give(struct account *account, uint64_t bytes)
{
    atomic_sub_relaxed(&account->used_bytes, bytes);
}

void pool_init(struct pool *pool, struct account *account)
{
    *pool = (struct pool){.account = account};
    uint8_t class_index = 0;
    for (uint32_t units = 0; units < sizeof pool->class_of; units++) {
        if (units * POOL_UNIT_BYTES > class_bytes[class_index])
            class_index++;
        pool->class_of[units] = class_index;
    }
}

/* ---- chunks ----------------------------------------------------------------------------------------------------------- */

static void link_partial(struct pool *pool, struct pool_chunk *chunk)
{
    struct pool_chunk **head = &pool->partial[chunk->class_index];
    chunk->next = *head;
    chunk->previous_next = head;
    if (chunk->next)
        chunk->next->previous_next = &chunk->next;
    *head = chunk;
}

static void unlink_partial(struct pool_chunk *chunk)
{
    *chunk->previous_next = chunk->next;
    if (chunk->next)
        chunk->next->previous_next = chunk->previous_next;
    chunk->previous_next = NULL;
}

static bool chunk_has_free(const struct pool_chunk *chunk)
{
    return chunk->free || chunk->virgin + chunk->block_bytes <= POOL_CHUNK_BYTES;
}

static struct pool_chunk *chunk_create(struct pool *pool, enum account_cap cap)
{
    if (!account_take(pool->account, POOL_CHUNK_BYTES, cap))
        return NULL;
    struct pool_chunk *chunk = aligned_alloc(POOL_CHUNK_BYTES, POOL_CHUNK_BYTES);
    if (!chunk) {
        account_give(pool->account, POOL_CHUNK_BYTES);
        return NULL;
    }
    counter_add(&pool->misses, 1);
    chunk->all_next = pool->chunks;
    chunk->all_previous_next = &pool->chunks;
    if (chunk->all_next)
        chunk->all_next->all_previous_next = &chunk->all_next;
    pool->chunks = chunk;
    return chunk;
}

static void chunk_destroy(struct pool *pool, struct pool_chunk *chunk)
{
    *chunk->all_previous_next = chunk->all_next;
    if (chunk->all_next)
        chunk->all_next->all_previous_next = chunk->all_previous_next;
    ASAN_UNPOISON_MEMORY_REGION(chunk, POOL_CHUNK_BYTES);
    free(chunk);
    account_give(pool->account, POOL_CHUNK_BYTES);
}

/* Gives `class_index` a chunk with free blocks. Returns: NULL when over the cap. */
static struct pool_chunk *chunk_for_class(struct pool *pool, uint8_t class_index, enum account_cap cap)
{
    struct pool_chunk *chunk = pool->spares;
    if (chunk) {
        pool->spares = chunk->next;
        pool->spare_count--;
    } else {
        chunk = chunk_create(pool, cap);
        if (!chunk)
            return NULL;
    }
    chunk->class_index = class_index;
    chunk->block_bytes = class_bytes[class_index];
    chunk->free = NULL;
    chunk->live = 0;
    chunk->virgin = CHUNK_HEADER_BYTES;
    link_partial(pool, chunk);
    return chunk;
}

/* An empty chunk leaves its class. */
static void chunk_retire(struct pool *pool, struct pool_chunk *chunk)
{
    unlink_partial(chunk);
    if (pool->spare_count >= POOL_SPARES_MAX) {
        chunk_destroy(pool, chunk);
        return;
    }
    chunk->next = pool->spares;
    pool->spares = chunk;
    pool->spare_count++;
}

void pool_deinit(struct pool *pool)
{
    while (pool->chunks)
        chunk_destroy(pool, pool->chunks);
    *pool = (struct pool){0};
}

/* ---- blocks ----------------------------------------------------------------------------------------------------------- */

static void *acquire_large(struct pool *pool, uint32_t size, enum account_cap cap)
{
    if (!account_take(pool->account, size, cap))
        return NULL;
    void *block = malloc(pool_usable_bytes(size));
    if (!block) {
        account_give(pool->account, size);
        return NULL;
    }
    counter_add(&pool->misses, 1);
    counter_add(&pool->acquired, 1);
    return block;
}

void *pool_acquire_slow(struct pool *pool, uint32_t size, enum account_cap cap)
{
    if (size > POOL_BLOCK_BYTES_MAX)
        return acquire_large(pool, size, cap);

    uint8_t class_index = pool_class(pool, size);
    struct pool_chunk *chunk = pool->partial[class_index];
    if (!chunk) {
        chunk = chunk_for_class(pool, class_index, cap);
        if (!chunk)
            return NULL;
    }
    struct pool_block *block = chunk->free;
    if (block) {
        chunk->free = block->next;
    } else {
        block = (struct pool_block *)(void *)((char *)chunk + chunk->virgin);
        chunk->virgin += chunk->block_bytes;
    }
    chunk->live++;
    if (!chunk_has_free(chunk))
        unlink_partial(chunk);
    counter_add(&pool->acquired, 1);
    ASAN_UNPOISON_MEMORY_REGION(block, pool_usable_bytes(size));
    return block;
}

void pool_release_slow(struct pool *pool, void *memory, uint32_t size)
{
    counter_add(&pool->released, 1);
    if (size > POOL_BLOCK_BYTES_MAX) {
        free(memory);
        account_give(pool->account, size);
        return;
    }
    struct pool_chunk *chunk = pool_chunk_of(memory);
    ASSERT_SLOW(chunk->live > 0 && size <= chunk->block_bytes);
    if (!chunk_has_free(chunk))
        link_partial(pool, chunk);
    struct pool_block *block = memory;
    block->next = chunk->free;
    chunk->free = block;
    ASAN_POISON_MEMORY_REGION((char *)memory + sizeof *block, chunk->block_bytes - sizeof *block);
    chunk->live--;
    bool is_last_partial = pool->partial[chunk->class_index] == chunk && !chunk->next;
    if (chunk->live == 0 && !is_last_partial)
        chunk_retire(pool, chunk);
}
