/* SPDX-License-Identifier: Apache-2.0 */
/* pool: the blocks of one worker, by size class; and the account, the runtime's one cap on memory.
 *
 * A class takes chunks of 64 KiB, aligned to their size, so that a block's address names its chunk. Each chunk has its own
 * free list and counts the blocks that are out: an empty chunk can go to another class or back to the system, and a burst
 * of one size does not starve the others for ever. Only chunks touch the shared account, so an acquire does not.
 *
 * Not for other threads: a block that dies elsewhere is carried home first (msg_destroy). Blocks larger than
 * POOL_BLOCK_BYTES_MAX come from malloc, one by one, under the same account, and may be freed anywhere.
 *
 * Invariants
 *  P1  A chunk is on its class's partial list exactly when it has a free block; on the spare list exactly when it has no
 *      class. The last partial chunk of a class stays, also when empty, so that one block to and fro costs no chunk.
 *  P2  The sum of all chunks and large blocks is what the account has given out.
 */
#ifndef CIRANDA_RUNTIME_POOL_H
#define CIRANDA_RUNTIME_POOL_H

#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/assert.h"
#include "runtime/atomic.h"
#include "runtime/error.h"

struct account {
    uint64_t bytes_max;          /* fixed */
    ATOMIC(uint64_t) used_bytes; /* relaxed: a sum, it orders nothing; any thread writes */
    ATOMIC(uint64_t) peak_bytes; /* relaxed, advisory: statistics */
};

/* Whether a request may pass the cap: those that end something (exit notices, kills) must, or memory is never given back.
 * Their number is bounded by that of the actors. */
enum account_cap { ACCOUNT_CAPPED, ACCOUNT_UNCAPPED };

/* Thread: any. Returns: false when over the cap. */
MUST_USE bool account_take(struct account *account, uint64_t bytes, enum account_cap cap);
void account_give(struct account *account, uint64_t bytes);

enum {
    POOL_CHUNK_BYTES = 64 * 1024,
    POOL_CLASSES = 17,
    POOL_BLOCK_BYTES_MAX = 16320, /* four to a chunk beside its header */
    POOL_UNIT_BYTES = 32,         /* every class is a multiple; blocks are aligned to it */
    POOL_SPARES_MAX = 4,
};

struct pool_block {
    struct pool_block *next;
};

/* The head of a chunk; blocks behind it. Fields are private: here so that acquire and release are inline. */
struct pool_chunk {
    struct pool_chunk *next, **previous_next;         /* partial list of its class, or spares (next only) */
    struct pool_chunk *all_next, **all_previous_next; /* pool->chunks */
    struct pool_block *free;
    uint16_t class_index;
    uint16_t block_bytes;
    uint32_t live;   /* blocks that are out */
    uint32_t virgin; /* offset of the first block never given out */
};

struct pool {
    struct account *account;
    struct pool_chunk *partial[POOL_CLASSES];
    struct pool_chunk *spares;
    struct pool_chunk *chunks; /* all of them */
    uint32_t spare_count;
    ATOMIC(uint64_t) acquired, released;                          /* relaxed, owner writes: blocks, statistics */
    ATOMIC(uint64_t) misses;                                      /* relaxed, owner writes: calls of malloc */
    uint8_t class_of[POOL_BLOCK_BYTES_MAX / POOL_UNIT_BYTES + 1]; /* by size in units, rounded up */
};

void pool_init(struct pool *pool, struct account *account);
/* Gives back all chunks, blocks still out or not. Accepts zeroed. */
void pool_deinit(struct pool *pool);

/* What of a block of `size` bytes may be written: whole units. */
static inline uint32_t pool_usable_bytes(uint32_t size)
{
    return (size + POOL_UNIT_BYTES - 1) / POOL_UNIT_BYTES * POOL_UNIT_BYTES;
}

static inline uint8_t pool_class(const struct pool *pool, uint32_t size)
{
    return pool->class_of[(size + POOL_UNIT_BYTES - 1) / POOL_UNIT_BYTES];
}

static inline struct pool_chunk *pool_chunk_of(void *block)
{
    return (struct pool_chunk *)(void *)((uintptr_t)block & ~(uintptr_t)(POOL_CHUNK_BYTES - 1));
}

/* What the two below do when a list of chunks changes, the block is large or virgin, or nothing is there. */
void *pool_acquire_slow(struct pool *pool, uint32_t size, enum account_cap cap);
void pool_release_slow(struct pool *pool, void *block, uint32_t size);

/* Thread: the pool's. Returns: as pool_acquire; NULL: it takes pool_acquire_slow to know. */
MUST_USE static inline void *pool_try_acquire(struct pool *pool, uint32_t size)
{
    struct pool_chunk *chunk = size <= POOL_BLOCK_BYTES_MAX ? pool->partial[pool_class(pool, size)] : NULL;
    /* The last free block is the slow way's: the chunk may leave its list. */
    if (!chunk || !chunk->free || !chunk->free->next)
        return NULL;
    struct pool_block *block = chunk->free;
    chunk->free = block->next;
    chunk->live++;
    counter_add(&pool->acquired, 1);
    ASAN_UNPOISON_MEMORY_REGION(block, pool_usable_bytes(size));
    return block;
}

/* Thread: the pool's. Returns: pool_usable_bytes(size), not cleared; NULL: over the cap. */
MUST_USE static inline void *pool_acquire(struct pool *pool, uint32_t size, enum account_cap cap)
{
    void *block = pool_try_acquire(pool, size);
    return block ? block : pool_acquire_slow(pool, size, cap);
}

/* Thread: the pool's; any pool's for large blocks. `size` is what acquire was given. */
static inline void pool_release(struct pool *pool, void *memory, uint32_t size)
{
    struct pool_chunk *chunk = size <= POOL_BLOCK_BYTES_MAX ? pool_chunk_of(memory) : NULL;
    /* The first free block and the last live one are the slow way's: the chunk enters its list, or leaves its class. */
    if (!chunk || !chunk->free || chunk->live == 1) {
        pool_release_slow(pool, memory, size);
        return;
    }
    struct pool_block *block = memory;
    block->next = chunk->free;
    chunk->free = block;
    chunk->live--;
    counter_add(&pool->released, 1);
    ASAN_POISON_MEMORY_REGION((char *)memory + sizeof *block, chunk->block_bytes - sizeof *block);
}

#endif
