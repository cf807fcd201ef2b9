/* SPDX-License-Identifier: Apache-2.0 */
/* request_lane: the way of requests from any thread to the journal's thread that serves them: an inbox, and an event count to
 * sleep on. Not bounded by itself: every request is a message of a pool with a cap, and an actor has only so many in flight.
 *
 * Life: zeroed is open and empty; push from anywhere; take by the owner; close by the owner, once.
 * Invariants: L1 requests of one thread come out in the order pushed. L2 after close nothing enters: who pushes keeps the
 * message. L3 no wake is lost: the owner prepares, then parks the inbox; the push that unparks it notifies (event_count.h E1).
 */
#ifndef CIRANDA_STORAGE_REQUEST_LANE_H
#define CIRANDA_STORAGE_REQUEST_LANE_H

#include "runtime/event_count.h"
#include "runtime/inbox.h"
#include "runtime/msg_list.h"

struct request_lane {
    struct inbox inbox;
    struct event_count arrivals;
};

/* Thread: any. Owns: takes `msg` when true. Returns: false when the lane is closed. */
static inline bool request_lane_push(struct request_lane *lane, struct msg *msg)
{
    switch (inbox_push(&lane->inbox, msg, msg)) {
    case INBOX_REFUSED: return false;
    case INBOX_UNPARKED: event_count_notify(&lane->arrivals); return true;
    case INBOX_PUSHED: return true;
    }
    return true;
}

static inline uint32_t request_lane_append(struct msg *newest, struct msg_list *list)
{
    uint32_t count = 0;
    for (struct msg *msg = msg_chain_reverse(newest), *next; msg; msg = next, count++) {
        next = msg->next;
        msg_list_append(list, msg);
    }
    return count;
}

/* Thread: owner. Appends all that has come, in the order of arrival. Returns: how many. */
static inline uint32_t request_lane_take(struct request_lane *lane, struct msg_list *list)
{
    return request_lane_append(inbox_take(&lane->inbox), list);
}

/* Thread: owner. As take, and nothing comes any more. */
static inline uint32_t request_lane_close(struct request_lane *lane, struct msg_list *list)
{
    return request_lane_append(inbox_close(&lane->inbox), list);
}

/* Thread: owner. Sleeps until something comes or request_lane_wake is called; not at all when `is_done`, which is looked at
 * after the preparation, so that a wake in between is not lost: who prepares late enough has seen the flag with the wake. */
static inline void request_lane_wait(struct request_lane *lane, const ATOMIC(bool) * is_done)
{
    uint32_t seen = event_count_prepare(&lane->arrivals);
    if (!atomic_load_relaxed(is_done) && inbox_try_park(&lane->inbox))
        (void)event_count_wait(&lane->arrivals, seen, UINT64_MAX);
}

/* Thread: any, after what the owner is to see was stored. */
static inline void request_lane_wake(struct request_lane *lane)
{
    event_count_notify(&lane->arrivals);
}

#endif
