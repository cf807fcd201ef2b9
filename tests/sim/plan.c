/* SPDX-License-Identifier: Apache-2.0 */
/* plan: draws from a generator of its own (splitmix64), apart from the world's, so that a new kind of fault does not change
 * what the old ones of the same seed do in the network. */
#include "tests/sim/plan.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t state;

static uint64_t draw(void)
{
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static uint32_t between(uint32_t low, uint32_t high)
{
    return low + (uint32_t)(draw() % (high - low + 1));
}

/* With `chance` per mille a value of 1..high, else 0: the fault does not exist in this run. */
static uint32_t perhaps(uint32_t chance, uint32_t high)
{
    return between(0, 999) < chance ? between(1, high) : 0;
}

void plan_draw(struct plan *plan, uint64_t seed)
{
    state = seed * 0x2545F4914F6CDD1Dull + 1;
    bool is_quiet = between(0, 9) == 0; /* a tenth of the runs meet no fault: the plain bugs */
    uint32_t chance = is_quiet ? 0 : 500;
    *plan = (struct plan){
        .seed = seed,
        .workers = between(1, 3),
        .conversations = between(1, CONVERSATIONS_MAX),
        .customers = between(1, CUSTOMERS_MAX),
        .messages = between(2, MESSAGES_MAX),
        .model_per_mille = perhaps(600, 1000),
        .copy_per_mille = perhaps(500, 400),
        .forge_per_mille = perhaps(500, 300),
        .ahead_per_mille = perhaps(500, 500),
        .async_per_mille = perhaps(500, 500),
        .reject_per_mille = perhaps(300, 300),
        .leave_per_mille = perhaps(chance, 3),
        .deaf_per_mille = perhaps(chance, 3),
        .takeover_per_mille = perhaps(400, 700),
        .provider_fault_per_mille = perhaps(chance, 500),
        .observers = between(0, 3),
        .crashes = perhaps(is_quiet ? 0 : 600, 4),
        .io_crash_per_mille = between(0, 1000),
        .kill_per_mille = between(0, 1000),
        .full_disks = perhaps(is_quiet ? 0 : 250, 2),
        .rots = perhaps(is_quiet ? 0 : 120, 1),
        .hold_per_mille = perhaps(chance, 300),
        .hold_ms_max = between(0, 2) ? between(1, 100) : between(100, 2000),
        .flush_ms_max = perhaps(chance, between(0, 1) ? 20 : 200),
        .stuck_per_mille = perhaps(is_quiet ? 0 : 100, 50),
        .stuck_ms_max = 30000,
        .outage_ms = perhaps(is_quiet ? 0 : 100, 20000),
        .acts = perhaps(350, 16),
        .erasures = perhaps(300, 4),
        .think_ms_max = between(0, 1) ? between(1, 20) : between(20, 3000),
        .idle_ms = between(0, 1) ? between(1, 50) : between(50, 60000),
        .dedup_messages = between(16, 64),
        .history_messages = between(1, 20),
        .queued_turns = between(0, 3) ? 64 : between(1, 4),
        .mailbox_messages = between(0, 3) ? 256 : between(1, 8),
        .retry_attempts = between(1, 4),
        .breaker_failures = between(1, 8),
        .pipeline = between(1, 32),
        .records_waiting = perhaps(250, 6),
    };
    plan->is_drill = !is_quiet && !plan->outage_ms && between(0, 14) == 0;
    if (plan->is_drill) { /* each is a matter of chance elsewhere, and all of them at once too rare: V7 */
        plan->model_per_mille = plan->model_per_mille < 500 ? 500 : plan->model_per_mille;
        plan->provider_fault_per_mille = between(200, 600);
        plan->retry_attempts = between(3, 4);
        plan->breaker_failures = 8;
        plan->flush_ms_max = between(100, 500);
        plan->crashes = between(1, 4);
    }
    if (plan->outage_ms) { /* many who want a model at once, and nothing that ends a call but the provider: V7 */
        plan->conversations = plan->customers = CONVERSATIONS_MAX;
        plan->model_per_mille = 1000;
        plan->acts = plan->full_disks = 0;
        plan->outage_ms += 10000;
    }
    /* A copy that comes later than the window is long is a new message, and rightly so; nobody could tell it from a bug. */
    uint32_t messages = (plan->customers + plan->conversations - 1) / plan->conversations * plan->messages;
    plan->dedup_messages = plan->dedup_messages > messages ? plan->dedup_messages : messages;
    plan->network = (struct sim_options){
        .latency_ns_min = 1000,
        .latency_ns_max = between(1, 50) * 1000000ull,
        .segment_bytes_max = perhaps(500, 200),
        .stall_per_mille = perhaps(chance, 50),
        .stall_ns_max = between(1, 2000) * 1000000ull,
        .reset_per_mille = perhaps(chance, 10),
        .socket_buffer_bytes = between(0, 1) ? 0 : between(512, 16384),
        .reorder_per_mille = perhaps(chance, 1000),
        .delay_per_mille = perhaps(chance, 200),
        .delay_ns_max = between(1, 100) * 1000000ull,
        .transient_per_mille = perhaps(chance, 100),
        .multishot_end_per_mille = perhaps(chance, 200),
        .short_send_per_mille = perhaps(chance, 500),
        .no_buffer_per_mille = perhaps(chance, 100),
        .idle_no_buffer_per_mille = perhaps(chance, 500),
        .emfile_per_mille = perhaps(chance, 100),
        .cancel_race_per_mille = perhaps(chance, 500),
        .cancel_lost_per_mille = perhaps(chance, 300),
        .late_per_mille = perhaps(chance, 100),
        .busy_per_mille = perhaps(chance, 100),
    };
}

void plan_print(const struct plan *plan)
{
    printf("plan seed=%" PRIu64
           " workers=%u conversations=%u customers=%u messages=%u model=%u copy=%u forge=%u ahead=%u async=%u "
           "reject=%u leave=%u takeover=%u provider_fault=%u observers=%u crashes=%u drill=%d io_crash=%u kill=%u "
           "full=%u rots=%u "
           "idle_ms=%u "
           "dedup=%u queued=%u mailbox=%u retry=%u breaker=%u pipeline=%u hold=%u flush_ms=%u stuck=%u outage=%u acts=%u "
           "erasures=%u records_waiting=%u\n",
           plan->seed, plan->workers, plan->conversations, plan->customers, plan->messages, plan->model_per_mille,
           plan->copy_per_mille, plan->forge_per_mille, plan->ahead_per_mille, plan->async_per_mille,
           plan->reject_per_mille, plan->leave_per_mille, plan->takeover_per_mille, plan->provider_fault_per_mille,
           plan->observers, plan->crashes, plan->is_drill, plan->io_crash_per_mille, plan->kill_per_mille,
           plan->full_disks, plan->rots, plan->idle_ms, plan->dedup_messages, plan->queued_turns, plan->mailbox_messages,
           plan->retry_attempts, plan->breaker_failures, plan->pipeline, plan->hold_per_mille, plan->flush_ms_max,
           plan->stuck_per_mille, plan->outage_ms, plan->acts, plan->erasures, plan->records_waiting);
}
