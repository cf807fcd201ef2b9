/* SPDX-License-Identifier: Apache-2.0 */
/* lane: the one inbox of a worker. Whatever another thread wants of it is a message in this list, and its kind says what: an
 * actor to activate, a slot or a block that comes home, a task, the stop, or a message to deliver. One list, so that one word
 * says whether the worker may sleep (worker.h, Parking), and so that what one thread sends stays in order.
 *
 * What one worker pushes wakes the other only at the next border of its turn. Otherwise a worker that deals out what came in one
 * receive wakes a sleeper for the first message, which handles it and sleeps again, and wakes it for the second: a write and
 * two switches a message.
 */
#include "runtime/worker_internal.h"

void lane_push(struct worker *from, struct worker *to, struct msg *newest, struct msg *oldest)
{
    if (inbox_push(&to->lane, newest, oldest) != INBOX_UNPARKED)
        return;
    /* The ring was set before the worker parked for the first time; the push acquired it. */
    if (!from) {
        ring_wake(to->ring);
        return;
    }
    counter_add(&from->counters.wakes, 1);
    from->wakes_due |= UINT64_C(1) << to->index;
}

void lane_wake_due(struct worker *worker)
{
    for (; worker->wakes_due; worker->wakes_due &= worker->wakes_due - 1)
        ring_wake(worker->runtime->workers[__builtin_ctzll(worker->wakes_due)]->ring);
}

static void activate(struct worker *worker, struct actor *actor)
{
    ASSERT(actor->state == ACTOR_PARKED && atomic_load_relaxed(&actor->home) == worker->index);
    counter_add(&worker->counters.activations, 1);
    actor_make_runnable(worker, actor);
}

static void run_task(struct worker *worker, struct msg *link)
{
    struct worker_task *task = container_of(link, struct worker_task, link);
    task->run(worker, task);
}

static void drop_task(struct msg *link)
{
    struct worker_task *task = container_of(link, struct worker_task, link);
    if (task->drop)
        task->drop(task);
}

bool lane_drain(struct worker *worker)
{
    struct msg *item = msg_chain_reverse(inbox_take(&worker->lane));
    if (!item)
        return false;
    for (struct msg *next; item; item = next) {
        next = item->next;
        switch (item->kind) {
        case LANE_ACTIVATE: activate(worker, container_of(item, struct actor, link)); break;
        case LANE_SLOT: slab_take_back(&worker->slab, container_of(item, struct actor, link)); break;
        case LANE_BLOCK: msg_take_home(worker, item); break;
        case LANE_TASK: run_task(worker, item); break;
        case LANE_STOP: worker->is_stopping = true; break;
        default: /* kinds are an open number space */ actor_deliver(worker, item);
        }
    }
    return true;
}

bool lane_discard(struct worker *worker)
{
    struct msg *item = msg_chain_reverse(inbox_take(&worker->lane));
    if (!item)
        return false;
    for (struct msg *next; item; item = next) {
        next = item->next;
        if (item->kind == LANE_BLOCK)
            msg_take_home(worker, item);
        else if (item->kind == LANE_TASK)
            drop_task(item);
        else if (item->kind < LANE_FIRST || item->kind > LANE_LAST)
            msg_drop(worker, item);
        /* actors and slots lie in slabs */
    }
    return true;
}

void worker_deliver(struct worker *worker, struct msg *first, struct msg *last)
{
    ASSERT_SLOW(!last->next || first != last);
    last->next = NULL;
    struct msg *newest = msg_chain_reverse(first);
    ASSERT_SLOW(newest == last);
    lane_push(worker_current_, worker, newest, first);
}

void worker_post(struct worker *worker, struct worker_task *task)
{
    task->link.kind = LANE_TASK;
    lane_push(worker_current_, worker, &task->link, &task->link);
}
