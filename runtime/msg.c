/* SPDX-License-Identifier: Apache-2.0 */
/* msg: blocks from the worker's pool. A block that dies on another worker than its home is gathered there with others of the
 * same home and carried back through that worker's lane, 32 at a time and before the worker sleeps: given to the pool where
 * it dies, blocks would flow one way for ever and the sender's pool never be warm (ponyc#5768).
 */
#include <string.h>

#include "runtime/worker_internal.h"

_Static_assert(MSG_CLEARED_BYTES % POOL_UNIT_BYTES == 0, "cleared in units, of which every block has whole ones");

/* By units, since for a size known only at run time the compiler takes `rep stos`, whose start costs more than a message's
 * whole way (measured: 15 of 38 ns). */
static void clear(struct msg *msg, uint32_t size)
{
    uint32_t bytes = size < MSG_CLEARED_BYTES ? size : MSG_CLEARED_BYTES;
    for (uint32_t offset = 0; offset < bytes; offset += POOL_UNIT_BYTES)
        memset((char *)msg + offset, 0, POOL_UNIT_BYTES);
}

static inline struct msg *fill(const struct worker *worker, struct msg *msg, uint16_t kind, uint8_t flags, uint32_t size)
{
    clear(msg, size);
    msg->size = size;
    msg->kind = kind;
    msg->flags = flags;
    msg->home = (uint8_t)worker->index;
    return msg;
}

/* Apart, so that the usual way needs no registers saved. */
static __attribute__((noinline)) struct msg *create_slow(struct worker *worker, uint16_t kind, uint8_t flags,
                                                         uint32_t size, enum account_cap cap)
{
    struct msg *msg = pool_acquire_slow(&worker->pool, size, cap);
    return msg ? fill(worker, msg, kind, flags, size) : NULL;
}

struct msg *msg_create(struct worker *worker, uint16_t kind, uint8_t flags, uint32_t size)
{
    ASSERT_CURRENT(worker);
    ASSERT(size >= sizeof(struct msg) && (kind < LANE_FIRST || kind > LANE_LAST));
    struct msg *msg = pool_try_acquire(&worker->pool, size);
    return msg ? fill(worker, msg, kind, flags, size) : create_slow(worker, kind, flags, size, ACCOUNT_CAPPED);
}

struct msg *msg_create_for_end(struct worker *worker, uint16_t kind, uint32_t size)
{
    ASSERT_CURRENT(worker);
    struct msg *msg = create_slow(worker, kind, MSG_URGENT | MSG_CONTROL, size, ACCOUNT_UNCAPPED);
    ASSERT(msg); /* the system itself has no memory left; half an end is worse than none */
    return msg;
}

static void flush_foreign_home(struct worker *worker, uint32_t home)
{
    struct foreign_blocks *blocks = &worker->foreign[home];
    if (!blocks->count)
        return;
    counter_add(&worker->counters.foreign_frees, blocks->count);
    struct foreign_blocks batch = *blocks;
    *blocks = (struct foreign_blocks){0};
    lane_push(worker, worker->runtime->workers[home], batch.newest, batch.oldest);
}

void msg_flush_foreign(struct worker *worker)
{
    for (uint32_t home = 0; home < worker->runtime->worker_count; home++)
        flush_foreign_home(worker, home);
}

static void gather_foreign(struct worker *worker, struct msg *msg)
{
    struct foreign_blocks *blocks = &worker->foreign[msg->home];
    msg->kind = LANE_BLOCK;
    msg->next = blocks->newest;
    blocks->newest = msg;
    if (blocks->count++ == 0)
        blocks->oldest = msg;
    if (blocks->count == FOREIGN_BATCH)
        flush_foreign_home(worker, msg->home);
}

void msg_destroy(struct worker *worker, struct msg **msg_)
{
    struct msg *msg = *msg_;
    *msg_ = NULL;
    if (!msg)
        return;
    ASSERT_CURRENT(worker);
    if (msg->home == worker->index || msg->size > POOL_BLOCK_BYTES_MAX)
        pool_release(&worker->pool, msg, msg->size);
    else
        gather_foreign(worker, msg);
}

void msg_take_home(struct worker *worker, struct msg *msg)
{
    ASSERT_SLOW(msg->home == worker->index);
    pool_release(&worker->pool, msg, msg->size);
}

void msg_drop(struct worker *worker, struct msg *msg)
{
    counter_add(&worker->counters.dead_letters, 1);
    if (msg->kind == MSG_EXIT) {
        struct msg_exit *exit_notice = (struct msg_exit *)(void *)msg;
        if (exit_notice->crash_msg)
            msg_drop(worker, exit_notice->crash_msg);
        msg_drop_chain(worker, exit_notice->undelivered);
    }
    if (worker->runtime->options.on_drop)
        worker->runtime->options.on_drop(worker, msg);
    msg_destroy(worker, &msg);
}

void msg_drop_chain(struct worker *worker, struct msg *chain)
{
    while (chain) {
        struct msg *next = chain->next;
        msg_drop(worker, chain);
        chain = next;
    }
}
