/* SPDX-License-Identifier: Apache-2.0 */
/* inbox: one word through which any thread hands messages to one owner. The only lock-free structure of the runtime; an
 * actor's mailbox and a worker's lane are both made of it.
 *
 * The word is CAF's (actor-framework, intrusive/lifo_inbox.hpp):
 *
 *            push                    push
 *   EMPTY ---------> newest message -------> newest message ...      takers exchange the word for EMPTY and
 *     |  ^                  |                                        get the whole list, newest first
 *     |  +------ take ------+
 *     | try_park                        push: newest message, and the pusher is told that it UNPARKED the owner
 *     +---------> PARKED -------------> (it alone must activate the owner: make it runnable, or wake its thread)
 *
 *   any ---close---> CLOSED: pushes are refused
 *
 * Invariants
 *  N1  Messages of one pusher come out in the order pushed (take gives them newest first: reverse).
 *  N2  Between one try_park that succeeded and the next, exactly one push (or the owner itself) unparks: no activation is
 *      lost, none is doubled. The idle mark lies in the word that the push changes, hence no fence, no second look.
 *  N3  Nodes are only taken all at once, never one by one: a recycled node cannot be mistaken for its former self (ABA).
 *
 * Orders. Push is release: what the pusher wrote is seen by the taker's acquire, for every message of the list, since each
 * push is a read-modify-write and so continues the release sequences of those below it. Push is acquire too, for the one
 * that unparks: it reads what the owner wrote before it parked (home worker, ring). try_park and open are release for the same
 * reason. Weaken one, and the taker reads a message that is not yet written, or the pusher an owner that is not yet set up.
 * EMPTY and CLOSED publish nothing: who pushes onto the one or is refused by the other reads nothing of the owner's.
 */
#ifndef CIRANDA_RUNTIME_INBOX_H
#define CIRANDA_RUNTIME_INBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/atomic.h"
#include "runtime/msg.h"

/* Embed it. Zeroed is EMPTY. The field is private. */
struct inbox {
    ATOMIC(struct msg *) word;
};

/* Marks that no message can have as its address: blocks are aligned. */
#define INBOX_EMPTY ((struct msg *)NULL)
#define INBOX_PARKED ((struct msg *)1)
#define INBOX_CLOSED ((struct msg *)2)

enum inbox_push { INBOX_PUSHED, INBOX_UNPARKED, INBOX_REFUSED };

/* Pushes a chain, linked from `newest` to `oldest` by msg.next, as if one by one. Thread: any. Owns: takes the chain unless
 * INBOX_REFUSED (closed); from then on the owner may free it at once. */
static inline enum inbox_push inbox_push(struct inbox *inbox, struct msg *newest, struct msg *oldest)
{
    struct msg *head = atomic_load_relaxed(&inbox->word);
    do {
        if (head == INBOX_CLOSED)
            return INBOX_REFUSED;
        oldest->next = head == INBOX_PARKED ? NULL : head;
    } while (!atomic_cas_weak_acq_rel(&inbox->word, &head, newest));
    return head == INBOX_PARKED ? INBOX_UNPARKED : INBOX_PUSHED;
}

/* Thread: owner's. Returns: everything, newest first; NULL when there was nothing. Also unparks. Not after close. */
static inline struct msg *inbox_take(struct inbox *inbox)
{
    if (atomic_load_relaxed(&inbox->word) == INBOX_EMPTY)
        return NULL; /* a push that is not yet seen is not lost: try_park fails on it */
    struct msg *newest = atomic_exchange_acquire(&inbox->word, INBOX_EMPTY);
    return newest == INBOX_PARKED ? NULL : newest;
}

/* Thread: owner's. Returns: false when something came: take it instead of going to sleep. */
static inline bool inbox_try_park(struct inbox *inbox)
{
    struct msg *expected = INBOX_EMPTY;
    return atomic_cas_release(&inbox->word, &expected, INBOX_PARKED);
}

/* Thread: owner's. Returns: true when the owner was parked and now is not; false when it was not, or when a pusher was first
 * and its activation is on its way. */
static inline bool inbox_unpark(struct inbox *inbox)
{
    struct msg *expected = INBOX_PARKED;
    if (atomic_load_relaxed(&inbox->word) != INBOX_PARKED)
        return false;
    return atomic_cas_relaxed(&inbox->word, &expected, INBOX_EMPTY); /* PARKED is the owner's own store */
}

/* Thread: owner's. Returns: what was still in it, newest first. */
static inline struct msg *inbox_close(struct inbox *inbox)
{
    struct msg *newest = atomic_exchange_acquire(&inbox->word, INBOX_CLOSED);
    return newest == INBOX_PARKED || newest == INBOX_CLOSED ? NULL : newest;
}

/* Thread: owner's. A closed inbox serves a new owner, parked. */
static inline void inbox_open(struct inbox *inbox)
{
    atomic_store_release(&inbox->word, INBOX_PARKED);
}

/* Advisory: asserts, and the watchdog, which looks again. */
static inline bool inbox_is_parked(const struct inbox *inbox)
{
    return atomic_load_relaxed(&inbox->word) == INBOX_PARKED;
}
static inline bool inbox_is_closed(const struct inbox *inbox)
{
    return atomic_load_relaxed(&inbox->word) == INBOX_CLOSED;
}
static inline bool inbox_is_empty(const struct inbox *inbox)
{
    return atomic_load_relaxed(&inbox->word) == INBOX_EMPTY;
}

#endif
