/* SPDX-License-Identifier: Apache-2.0 */
/* check: what must hold of every actor and mailbox between two steps of a simulation. Costs a walk over all slots ever used, so
 * it is called by tests alone; the cheap half of it are the assertions on the way. */
#include "runtime/worker_internal.h"

static uint32_t counted_in(const struct msg_list *list)
{
    uint32_t count = 0;
    for (const struct msg *msg = list->first; msg; msg = msg->next)
        count += msg_is_counted(msg);
    return count;
}

static void check_actor(const struct actor *actor, bool is_at_rest)
{
    const struct mailbox *mailbox = &actor->mailbox;
    switch ((enum actor_state)actor->state) {
    case ACTOR_FREE: return;
    case ACTOR_PARKED:
        /* Else its activation was lost; as long as there is work, it may lie in a lane. */
        ASSERT(!is_at_rest || (inbox_is_parked(&mailbox->inbox) && !mailbox_is_runnable(mailbox, actor->is_suspended)));
        break;
    case ACTOR_QUEUED: ASSERT(!is_at_rest); break;
    case ACTOR_LINGERING:
    case ACTOR_RUNNING:
    case ACTOR_ENDED: ASSERT(actor->state == ACTOR_FREE); break; /* none of them outlives a step */
    }
    ASSERT(counted_in(&mailbox->urgent) + counted_in(&mailbox->normal) == atomic_load_relaxed(&mailbox->private_count));
}

void runtime_check(const struct runtime *runtime, bool is_at_rest)
{
    for (uint32_t i = 0; i < runtime->worker_count;
         i++) /* blocks that an idle worker sent home may still be on their way */
        is_at_rest &= inbox_is_empty(&runtime->workers[i]->lane);
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        const struct worker *worker = runtime->workers[i];
        ASSERT(!is_at_rest || worker->run_queue.count == 0);
        for (uint32_t j = 1; j < worker->slab.virgin; j++)
            check_actor(&atomic_load_acquire(&worker->slab.chunks[j >> SLAB_CHUNK_BITS])[j % SLAB_CHUNK_ACTORS],
                        is_at_rest);
    }
    ASSERT(atomic_load_relaxed(&runtime->account.used_bytes) <= runtime->account.bytes_max);
}
