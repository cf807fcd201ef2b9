/* SPDX-License-Identifier: Apache-2.0 */
/* slab: the slots of actors. A slot keeps its address and its type for the life of the runtime: another thread that holds an
 * old id finds a closed inbox, or a later actor whose generation differs; never something else.
 *
 * A slot goes back to the worker it was born on, wherever its actor died: otherwise the workers that receive donations would
 * gather free slots for ever, and the others make new ones.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/worker_internal.h"

/* Aligned to a page: else jemalloc begins a block of this size at a random line of one page more, which made resident costs each
 * actor four bytes. */
enum { CHUNK_BYTES = SLAB_CHUNK_ACTORS * (int)sizeof(struct actor), CHUNK_ALIGNMENT = 4096 };

enum err slab_init(struct slab *slab)
{
    slab->chunks = calloc(SLAB_CHUNKS_MAX, sizeof slab->chunks[0]);
    return slab->chunks ? OK : ERR_NO_MEMORY;
}

void slab_deinit(struct slab *slab, struct account *account)
{
    for (uint32_t i = 0; slab->chunks && i < SLAB_CHUNKS_MAX; i++) {
        struct actor *chunk = atomic_load_relaxed(&slab->chunks[i]);
        if (!chunk)
            break;
        free(chunk);
        account_give(account, CHUNK_BYTES);
    }
    free(slab->chunks);
    *slab = (struct slab){0};
}

/* The next slot never used; makes its chunk when it is the first there. */
static enum err take_virgin(struct worker *worker, struct actor **ret_actor)
{
    struct slab *slab = &worker->slab;
    if (slab->virgin == SLAB_CHUNKS_MAX * SLAB_CHUNK_ACTORS)
        return ERR_LIMIT;
    uint32_t chunk_index = slab->virgin >> SLAB_CHUNK_BITS;
    struct actor *chunk = atomic_load_relaxed(&slab->chunks[chunk_index]);
    if (!chunk) {
        struct account *account = &worker->runtime->account;
        if (!account_take(account, CHUNK_BYTES, ACCOUNT_CAPPED))
            return ERR_NO_MEMORY;
        chunk = aligned_alloc(CHUNK_ALIGNMENT, CHUNK_BYTES);
        if (!chunk) {
            account_give(account, CHUNK_BYTES);
            return ERR_NO_MEMORY;
        }
        memset(chunk, 0, CHUNK_BYTES); /* ACTOR_FREE, generation 0: no id names it */
        atomic_store_release(&slab->chunks[chunk_index], chunk);
    }
    struct actor *actor = &chunk[slab->virgin % SLAB_CHUNK_ACTORS];
    actor->link.to.slot = worker->index << SLAB_INDEX_BITS | slab->virgin;
    atomic_store_relaxed(&actor->generation, 1);
    slab->virgin++;
    *ret_actor = actor;
    return OK;
}

enum err slab_acquire(struct worker *worker, struct actor **ret_actor)
{
    struct slab *slab = &worker->slab;
    if (slab->free) {
        *ret_actor = container_of(slab->free, struct actor, link);
        slab->free = slab->free->next;
    } else {
        enum err code = take_virgin(worker, ret_actor);
        if (code != OK)
            return code;
    }
    (*ret_actor)->link.to.generation = atomic_load_relaxed(&(*ret_actor)->generation);
    return OK;
}

void slab_take_back(struct slab *slab, struct actor *actor)
{
    actor->link.next = slab->free;
    slab->free = &actor->link;
}

void slab_release(struct worker *worker, struct actor *actor)
{
    actor->state = ACTOR_FREE;
    uint32_t birth = actor->link.to.slot >> SLAB_INDEX_BITS;
    if (birth == worker->index) {
        slab_take_back(&worker->slab, actor);
        return;
    }
    actor->link.kind = LANE_SLOT;
    lane_push(worker, worker->runtime->workers[birth], &actor->link, &actor->link);
}
