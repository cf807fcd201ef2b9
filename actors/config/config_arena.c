/* SPDX-License-Identifier: Apache-2.0 */
/* config_arena: a list of malloc'ed blocks, newest first; small takes share a block. Called by the loader only, so that its
 * error paths have nothing to free one by one. */
#include "actors/config/config_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16384 };

struct block {
    struct block *next;
    size_t size, used; /* of `bytes` */
    alignas(max_align_t) char bytes[];
};

struct config_arena {
    struct block *blocks;
};

struct config_arena *config_arena_create(void)
{
    return calloc(1, sizeof(struct config_arena));
}

void config_arena_destroy(struct config_arena *arena)
{
    if (!arena)
        return;
    for (struct block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        explicit_bzero(block->bytes, block->used);
        free(block);
    }
    free(arena);
}

void *config_arena_take(struct config_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (!arena->blocks || arena->blocks->size - arena->blocks->used < bytes) {
        size_t block_bytes = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        struct block *block = calloc(1, sizeof *block + block_bytes);
        if (!block)
            return NULL;
        block->size = block_bytes;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *memory = arena->blocks->bytes + arena->blocks->used;
    arena->blocks->used += bytes;
    return memory;
}

enum err config_arena_copy(struct config_arena *arena, struct slice text, struct slice *ret_copy)
{
    char *copy = config_arena_take(arena, text.size + 1, 1);
    if (!copy)
        return ERR_NO_MEMORY;
    if (text.size)
        memcpy(copy, text.data, text.size);
    *ret_copy = slice_of(copy, text.size);
    return OK;
}
