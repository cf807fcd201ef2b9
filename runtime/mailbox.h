/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox: what waits for one actor. An inbox that any thread pushes to, and behind it two private lists, urgent and normal,
 * that the actor's home worker alone touches.
 *
 * Life: zeroed; mailbox_open; senders push (other threads) or append (the home worker); the home worker takes what the inbox
 * holds, pops message by message, and parks it when dry; mailbox_close gives back what was undelivered; mailbox_open again.
 *
 * Invariants
 *  B1  Messages of one sender are popped in the order sent, urgent ones apart. Hence append first takes the inbox: an earlier
 *      message of the same sender may lie there, sent when it ran on another worker.
 *  B2  inbox_count never goes below the number of counted messages in the inbox: it is raised before the push, lowered after
 *      the take. It survives close and open, since a late pusher may be between its two steps.
 *  B3  Control messages are neither counted nor refused; the cap may be passed by at most one chain for each sending worker
 *      that looked at the same moment.
 */
#ifndef CIRANDA_RUNTIME_MAILBOX_H
#define CIRANDA_RUNTIME_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/assert.h"
#include "runtime/atomic.h"
#include "runtime/error.h"
#include "runtime/inbox.h"
#include "runtime/msg_list.h"

/* Embed it. Fields are private. */
struct mailbox {
    /* shared */
    struct inbox inbox;
    ATOMIC(uint32_t) inbox_count;   /* relaxed: see B2; any thread writes */
    ATOMIC(uint32_t) private_count; /* relaxed, advisory: home worker writes, senders compare with the cap */
    ATOMIC(uint32_t) count_max;     /* relaxed: a stale sender may read the cap of the slot's next actor */
    uint32_t reserved;
    /* home worker */
    struct msg_list urgent;
    struct msg_list normal;
};

static inline bool msg_is_counted(const struct msg *msg)
{
    return !(msg->flags & MSG_CONTROL);
}

/* Thread: home worker's. The mailbox is fresh or closed; it starts parked. */
void mailbox_open(struct mailbox *mailbox, uint32_t count_max);

/* Thread: any; advisory. How many counted messages fit. */
static inline uint32_t mailbox_room(const struct mailbox *mailbox)
{
    uint32_t count = atomic_load_relaxed(&mailbox->inbox_count) + atomic_load_relaxed(&mailbox->private_count);
    uint32_t count_max = atomic_load_relaxed(&mailbox->count_max);
    return count < count_max ? count_max - count : 0;
}

/* Thread: any. As inbox_push; `counted` of the chain's messages are not control ones. Knows no cap: ask mailbox_room first. */
enum inbox_push mailbox_push(struct mailbox *mailbox, struct msg *newest, struct msg *oldest, uint32_t counted);

/* Thread: home worker's. Moves what the inbox holds to the private lists. */
void mailbox_take_some(struct mailbox *mailbox);
static inline void mailbox_take(struct mailbox *mailbox)
{
    if (!inbox_is_empty(&mailbox->inbox))
        mailbox_take_some(mailbox);
}

/* Private: the inbox is empty or taken. */
static inline void mailbox_append_private(struct mailbox *mailbox, struct msg *msg)
{
    if (msg_is_counted(msg))
        counter_add(&mailbox->private_count, 1);
    msg_list_append(msg->flags & MSG_URGENT ? &mailbox->urgent : &mailbox->normal, msg);
}

/* Thread: home worker's. Puts `msg` behind all that came before it. Owns: takes it. Not when closed.
 * Returns: whether the mailbox was parked, and the caller must make its actor runnable. */
MUST_USE static inline bool mailbox_append(struct mailbox *mailbox, struct msg *msg)
{
    ASSERT_SLOW(!inbox_is_closed(&mailbox->inbox));
    bool was_parked = inbox_unpark(&mailbox->inbox);
    if (!was_parked)
        mailbox_take(mailbox); /* B1 */
    mailbox_append_private(mailbox, msg);
    return was_parked;
}

/* Thread: home worker's. As mailbox_append of a mailbox that is not parked and has nothing in its inbox, without a call on the
 * way. Owns: takes `msg` on true. Returns: false for any other mailbox. */
MUST_USE static inline bool mailbox_try_append(struct mailbox *mailbox, struct msg *msg)
{
    if (!inbox_is_empty(&mailbox->inbox))
        return false;
    mailbox_append_private(mailbox, msg);
    return true;
}

/* Thread: home worker's. Returns: the oldest urgent message, else the oldest normal one, unless `only_urgent`; NULL: none.
 * Owns: the caller gets it. Looks at the private lists alone. */
static inline struct msg *mailbox_pop(struct mailbox *mailbox, bool only_urgent)
{
    struct msg *msg = msg_list_pop(&mailbox->urgent);
    if (!msg && !only_urgent)
        msg = msg_list_pop(&mailbox->normal);
    if (msg && msg_is_counted(msg))
        counter_add(&mailbox->private_count, UINT32_MAX); /* minus one */
    return msg;
}

/* Thread: home worker's. Whether pop would return something. */
static inline bool mailbox_is_runnable(const struct mailbox *mailbox, bool only_urgent)
{
    return mailbox->urgent.first || (!only_urgent && mailbox->normal.first);
}

/* Thread: home worker's. Returns: false when something came meanwhile: take it. */
MUST_USE static inline bool mailbox_try_park(struct mailbox *mailbox)
{
    return inbox_try_park(&mailbox->inbox);
}

/* Thread: home worker's. Refuses all pushes from now on. Returns: what was undelivered, as a FIFO chain, urgent first.
 * Owns: the caller gets the chain. */
struct msg *mailbox_close(struct mailbox *mailbox);

#endif
