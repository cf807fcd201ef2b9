/* SPDX-License-Identifier: Apache-2.0 */
/* lane: the way of requests from any thread to the one that serves them: a stack that everybody pushes to and the owner takes
 * whole with one exchange, then turns into arrival order. Not bounded by itself: every request is a message of a pool with a
 * cap, and a conversation has only so many appends in flight.
 *
 * Life: zeroed is open and empty; lane_push from anywhere; lane_take by the owner; lane_close by the owner, once.
 * Invariants: L1 messages of one thread come out in the order pushed. L2 after lane_close nothing enters: who pushes keeps
 * the message. L3 a push wakes a waiting owner (event_count.h E1).
 */
#ifndef CIRANDA_STORAGE_LANE_H
#define CIRANDA_STORAGE_LANE_H

#include "runtime/atomic.h"
#include "runtime/event_count.h"
#include "runtime/msg.h"

/* A FIFO list by msg.next. Zeroed is empty. */
struct msg_queue {
    struct msg *first, *last;
};

static inline void msg_queue_push(struct msg_queue *queue, struct msg *msg)
{
    msg->next = NULL;
    if (queue->first)
        queue->last->next = msg;
    else
        queue->first = msg;
    queue->last = msg;
}

static inline struct msg *msg_queue_pop(struct msg_queue *queue)
{
    struct msg *msg = queue->first;
    if (msg) {
        queue->first = msg->next;
        msg->next = NULL;
    }
    return msg;
}

struct lane {
    /* Newest first, linked by msg.next; or LANE_CLOSED. Push: release, pairs with the acquire of the exchange in lane_take:
     * without it the owner could read the request's fields before they were written. */
    ATOMIC(struct msg *) top;
    struct event_count arrivals;
};

#define LANE_CLOSED ((struct msg *)(uintptr_t)1)

/* Thread: any. Owns: takes `msg` when true. Returns: false when the lane is closed. */
static inline bool lane_push(struct lane *lane, struct msg *msg)
{
    struct msg *top = atomic_load_relaxed(&lane->top);
    do {
        if (top == LANE_CLOSED)
            return false;
        msg->next = top;
    } while (!atomic_cas_weak_acq_rel(&lane->top, &top, msg));
    event_count_notify(&lane->arrivals);
    return true;
}

/* A whole stack, newest first, to the end of `queue` in the order of arrival. Returns: how many. */
static inline uint32_t lane_append_reversed(struct msg *top, struct msg_queue *queue)
{
    struct msg *first = NULL, *last = top;
    uint32_t count = 0;
    while (top) {
        struct msg *below = top->next;
        top->next = first;
        first = top;
        top = below;
        count++;
    }
    if (count == 0)
        return 0;
    if (queue->first)
        queue->last->next = first;
    else
        queue->first = first;
    queue->last = last;
    return count;
}

/* Thread: owner. Appends all that has come. Returns: how many. */
static inline uint32_t lane_take(struct lane *lane, struct msg_queue *queue)
{
    struct msg *top = atomic_load_relaxed(&lane->top);
    if (!top || top == LANE_CLOSED)
        return 0;
    return lane_append_reversed(atomic_exchange_acq_rel(&lane->top, NULL), queue);
}

/* Thread: owner. As lane_take, and nothing comes any more. */
static inline uint32_t lane_close(struct lane *lane, struct msg_queue *queue)
{
    struct msg *top = atomic_exchange_acq_rel(&lane->top, LANE_CLOSED);
    return top == LANE_CLOSED ? 0 : lane_append_reversed(top, queue);
}

/* Thread: owner. Sleeps until something comes or somebody calls lane_wake. `is_done` is looked at after the announcement that
 * we wait, so that a wake between the look and the sleep is not lost. */
static inline void lane_wait(struct lane *lane, const ATOMIC(bool) * is_done)
{
    uint32_t seen = event_count_prepare(&lane->arrivals);
    if (!atomic_load_acquire(&lane->top) && !atomic_load_acquire(is_done))
        (void)event_count_wait(&lane->arrivals, seen, UINT64_MAX);
}

static inline void lane_wake(struct lane *lane)
{
    event_count_notify(&lane->arrivals);
}

#endif
