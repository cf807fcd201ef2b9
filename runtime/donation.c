/* SPDX-License-Identifier: Apache-2.0 */
/* donation: actors move from a worker that has too many to one that has none. They are given, never stolen: the owner alone
 * touches its run queue and its actors' private lists, so no lock and no atomic deque is needed.
 *
 * A worker asks by setting its bit before it sleeps. One that ends several turns in a row with a backlog clears such a bit
 * (the clear decides who gives) and pushes a few actors into the sleeper's lane, which wakes it.
 *
 * Hysteresis, since moving back and forth costs more than it gains (zio#637: 50,000 tasks a second in circles): only to a
 * worker that is idle, only after DONATION_TURNS turns of backlog (each is up to 200 us), at most half of the queue. And only
 * when a message takes long enough: one that crosses workers costs both of them some hundreds of nanoseconds, one that stays
 * some tens, so that actors with little to do for a message are the slower the more workers share them, two to eight times
 * in bench/actors.
 */
#include "runtime/worker_internal.h"

enum {
    DONATION_BACKLOG = 4, /* runnable actors at the end of a turn; fewer are sooner run than moved */
    DONATION_TURNS = 5,
    DONATION_ACTORS_MAX = 8,
    DONATION_LOOKS_MAX = 64, /* the queue may hold a million */
};

void donation_ask(struct worker *worker)
{
    atomic_or_relaxed(&worker->runtime->idle_workers, 1ull << worker->index);
}

void donation_withdraw(struct worker *worker)
{
    atomic_and_relaxed(&worker->runtime->idle_workers, ~(1ull << worker->index));
}

/* Returns: an idle worker whose request is now ours to fulfil; NULL: nobody asks. */
static struct worker *claim_request(struct worker *worker)
{
    uint64_t idle = atomic_load_relaxed(&worker->runtime->idle_workers) & ~(1ull << worker->index);
    if (!idle)
        return NULL;
    uint32_t index = (uint32_t)__builtin_ctzll(idle);
    /* Relaxed: one alone clears the bit, and what it gives goes through the lane, which orders it. */
    uint64_t before = atomic_and_relaxed(&worker->runtime->idle_workers, ~(1ull << index));
    return before & 1ull << index ? worker->runtime->workers[index] : NULL;
}

static bool may_move(const struct actor *actor)
{
    return !actor->type->is_pinned && actor->pin_count == 0;
}

void donation_move(struct worker *worker, struct actor *actor, struct worker *receiver)
{
    actor->state = ACTOR_PARKED;
    actor->link.kind = LANE_ACTIVATE;
    /* Release, pairs with the load in actor_send: an actor of the receiver that already sees its new home appends to the
     * private lists, and must see them as we left them. The link stays ours until it is pushed. */
    atomic_store_release(&actor->home, (uint8_t)receiver->index);
    lane_push(worker, receiver, &actor->link, &actor->link);
    counter_add(&worker->counters.donations, 1);
}

/* Stepped, time stands still: then every backlog counts. */
static bool has_backlog(const struct worker *worker)
{
    const struct runtime *runtime = worker->runtime;
    return worker->run_queue.count >= DONATION_BACKLOG &&
           (!runtime->is_threaded || worker->message_ns >= runtime->options.donation_message_ns_min);
}

void donation_give(struct worker *worker)
{
    worker->backlog_turns = has_backlog(worker) ? worker->backlog_turns + 1 : 0;
    if (worker->backlog_turns < DONATION_TURNS)
        return;
    struct worker *receiver = claim_request(worker);
    if (!receiver)
        return;
    worker->backlog_turns = 0;

    uint32_t count = worker->run_queue.count;
    uint32_t to_give = count / 2 < DONATION_ACTORS_MAX ? count / 2 : DONATION_ACTORS_MAX;
    uint32_t looks = count < DONATION_LOOKS_MAX ? count : DONATION_LOOKS_MAX;
    bool has_given = false;
    for (; looks > 0; looks--) {
        struct msg *link = msg_list_pop(&worker->run_queue.list);
        struct actor *actor = container_of(link, struct actor, link);
        if (to_give > 0 && may_move(actor)) {
            worker->run_queue.count--;
            to_give--;
            has_given = true;
            donation_move(worker, actor, receiver);
        } else {
            msg_list_append(&worker->run_queue.list, link); /* the next look begins with others */
        }
    }
    if (!has_given) /* all are pinned just now; who sleeps does not ask a second time */
        donation_ask(receiver);
}
