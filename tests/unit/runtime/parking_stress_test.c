/* SPDX-License-Identifier: Apache-2.0 */
/* Parking, waking and moving on real threads, with delays of random length before each step where a wake-up could be lost or an
 * order broken. The explorer (tests/explore) tries all schedules of small programs on one thread; this tries few schedules of
 * large ones, on what the processor and the kernel really do.
 *
 * Bounded by counts. A wake-up that is lost leaves its thread asleep for ever: the wait for the end has a deadline, long beyond
 * what a slow machine takes. CIRANDA_STRESS_SEED chooses the delays; a failure says which it was. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/clock.h"
#include "runtime/worker_internal.h"

enum { MSG_NUMBER = MSG_KIND_TEST, MSG_GO };

static const uint64_t DEADLINE_NS = 30 * 1000000000ull;
static uint64_t base_seed = 1;

struct delays {
    uint64_t state;
};

static uint64_t delays_next(struct delays *delays) /* xorshift */
{
    delays->state ^= delays->state << 13;
    delays->state ^= delays->state >> 7;
    return delays->state ^= delays->state << 17;
}

/* Mostly none, now and then longer than the other side's whole step. */
static void delay(struct delays *delays)
{
    uint64_t chosen = delays_next(delays);
    uint64_t rounds = chosen % 4 ? chosen / 4 % 16 : chosen / 4 % 1024;
    for (; rounds > 0; rounds--)
        cpu_pause();
}

static struct delays delays_of(uint64_t thread)
{
    return (struct delays){.state = (base_seed + thread) * 0x9E3779B97F4A7C15u | 1};
}

struct number {
    struct msg msg;
    uint32_t sender, value;
};

/* ---- one owner parks in an inbox, others push -------------------------------------------------------------------------------- */

enum { PUSHERS = 3, PUSHES = 30000 };

static struct {
    struct inbox inbox;
    struct event_count wake, end;
    struct number numbers[PUSHERS][PUSHES];
    uint32_t unparked[PUSHERS];
    uint32_t received, parks, violations;
    ATOMIC(bool) is_done;
} stress;

static void *push_all(void *index_)
{
    const uint32_t index = (uint32_t)(uintptr_t)index_;
    struct delays delays = delays_of(index);
    for (uint32_t i = 0; i < PUSHES; i++) {
        struct number *number = &stress.numbers[index][i];
        delay(&delays);
        number->sender = index;
        number->value = i;
        if (inbox_push(&stress.inbox, &number->msg, &number->msg) != INBOX_UNPARKED)
            continue;
        stress.unparked[index]++;
        delay(&delays);
        event_count_notify(&stress.wake);
    }
    return NULL;
}

static void take_all(uint32_t *expected)
{
    for (struct msg *msg = msg_chain_reverse(inbox_take(&stress.inbox)); msg; msg = msg->next) {
        const struct number *number = container_of(msg, struct number, msg);
        stress.violations += number->value != expected[number->sender]++;
        stress.received++;
    }
}

static void *own_inbox(void *unused)
{
    (void)unused;
    struct delays delays = delays_of(PUSHERS);
    uint32_t expected[PUSHERS] = {0};
    while (stress.received < PUSHERS * PUSHES) {
        take_all(expected);
        delay(&delays);
        uint32_t seen = event_count_prepare(&stress.wake);
        delay(&delays);
        if (!inbox_try_park(&stress.inbox))
            continue;
        if (stress.received == PUSHERS * PUSHES)
            break;
        stress.parks++;
        delay(&delays);
        (void)event_count_wait(&stress.wake, seen, UINT64_MAX);
    }
    atomic_store_release(&stress.is_done, true);
    event_count_notify(&stress.end);
    return NULL;
}

/* Returns: whether the owner has seen everything in time. */
static bool wait_for_end(void)
{
    const uint64_t deadline_ns = clock_mono_ns() + DEADLINE_NS;
    for (;;) {
        uint32_t seen = event_count_prepare(&stress.end);
        if (atomic_load_acquire(&stress.is_done))
            return true;
        if (!event_count_wait(&stress.end, seen, deadline_ns))
            return atomic_load_acquire(&stress.is_done);
    }
}

static void each_park_is_ended_by_one_push_and_none_is_lost(void **state)
{
    (void)state;
    memset(&stress, 0, sizeof stress);
    pthread_t owner, pushers[PUSHERS];
    assert_int_equal(pthread_create(&owner, NULL, own_inbox, NULL), 0);
    for (uintptr_t i = 0; i < PUSHERS; i++)
        assert_int_equal(pthread_create(&pushers[i], NULL, push_all, (void *)i), 0);
    assert_true(wait_for_end()); /* else the owner sleeps and cannot be joined */
    for (uint32_t i = 0; i < PUSHERS; i++)
        pthread_join(pushers[i], NULL);
    pthread_join(owner, NULL);
    assert_int_equal(stress.violations, 0);
    assert_int_equal(stress.unparked[0] + stress.unparked[1] + stress.unparked[2], stress.parks);
    assert_true(stress.parks > 0);
}

/* ---- senders and receivers move between workers while they talk ----------------------------------------------------------------- */

enum { WORKERS = 3, SENDERS = 12, RECEIVERS = 6, MESSAGES = 2000, BURST = 4 };

struct sender {
    struct delays delays;
    uint32_t index, sent;
    uint32_t value_to[RECEIVERS];
};
struct receiver {
    struct delays delays;
    uint32_t expected[SENDERS];
    ATOMIC(uint32_t) runs_now;
};
static struct runtime *runtime;
static struct sender senders[SENDERS];
static struct receiver receivers[RECEIVERS];
static struct actor_id receiver_ids[RECEIVERS];
static ATOMIC(uint32_t) received, violations;

static void count_received(void)
{
    if (atomic_add_relaxed(&received, 1) + 1 == SENDERS * MESSAGES) {
        atomic_store_release(&stress.is_done, true);
        event_count_notify(&stress.end);
    }
}

static enum err on_receive(struct actor_context *context, struct msg **msg)
{
    struct receiver *receiver = context->state;
    const struct number *number = container_of(*msg, struct number, msg);
    if (atomic_add_acq_rel(&receiver->runs_now, 1) != 0 || number->value != receiver->expected[number->sender]++)
        atomic_add_relaxed(&violations, 1);
    delay(&receiver->delays);
    atomic_store_release(&receiver->runs_now, 0);
    count_received();
    return OK;
}

static enum err on_send(struct actor_context *context, struct msg **msg)
{
    struct sender *sender = context->state;
    for (int i = 0; i < BURST && sender->sent < MESSAGES; i++) {
        const uint32_t to = (uint32_t)(delays_next(&sender->delays) % RECEIVERS);
        struct number *number = MSG_CREATE(context->worker, struct number, MSG_NUMBER, MSG_CONTROL);
        number->sender = sender->index;
        number->value = sender->value_to[to]++;
        struct msg *out = &number->msg;
        if (actor_send(context->worker, receiver_ids[to], &out) != OK)
            return ERR_ACTOR_GONE;
        sender->sent++;
        delay(&sender->delays);
    }
    return sender->sent < MESSAGES ? actor_send(context->worker, context->self, msg) : OK;
}
static const struct actor_type sender_type = {"sender", on_send, NULL, 0, false};
static const struct actor_type receiver_type = {"receiver", on_receive, NULL, 0, false};

static enum err start_on_first_worker(struct worker *worker, void *user, struct error *error)
{
    (void)user, (void)error;
    if (worker_index(worker) != 0)
        return OK;
    for (uint32_t i = 0; i < RECEIVERS; i++) {
        receivers[i].delays = delays_of(100 + i);
        if (actor_spawn(worker, &receiver_type, &receivers[i], NULL, &receiver_ids[i]) != OK)
            return ERR_LIMIT;
    }
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i].delays = delays_of(200 + i);
        senders[i].index = i;
        struct actor_id id;
        struct msg *go = msg_create(worker, MSG_GO, 0, sizeof(struct msg));
        if (actor_spawn(worker, &sender_type, &senders[i], NULL, &id) != OK || actor_send(worker, id, &go) != OK)
            return ERR_LIMIT;
    }
    return OK;
}

static void the_order_of_each_sender_survives_moves_with_delays(void **state)
{
    (void)state;
    uint64_t donations = 0, sleeps = 0;
    for (int round = 0; round < 3; round++) {
        memset(&stress, 0, sizeof stress);
        memset(senders, 0, sizeof senders);
        memset(receivers, 0, sizeof receivers);
        atomic_store_relaxed(&received, 0);
        const struct runtime_options options = {
            .worker_count = WORKERS, .donation_message_ns_min = 1, .on_start = start_on_first_worker};
        assert_int_equal(runtime_create(&options, &runtime, NULL), OK);
        assert_int_equal(runtime_start(runtime, NULL), OK);
        assert_true(wait_for_end());
        runtime_end(runtime);
        for (uint32_t i = 0; i < WORKERS; i++) {
            struct worker_stats stats;
            worker_get_stats(runtime_worker(runtime, i), &stats);
            donations += stats.donations;
            sleeps += stats.sleeps;
            assert_int_equal(stats.dead_letters, 0);
        }
        assert_int_equal(atomic_load_relaxed(&violations), 0);
        assert_int_equal(runtime_blocks_alive(runtime), 0);
        runtime_destroy(runtime);
    }
    assert_true(donations > 0 && sleeps > 0); /* else this has tested nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_park_is_ended_by_one_push_and_none_is_lost),
        cmocka_unit_test(the_order_of_each_sender_survives_moves_with_delays),
    };
    const char *seed = getenv("CIRANDA_STRESS_SEED");
    base_seed = seed ? strtoull(seed, NULL, 10) : 1;
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0)
        printf("CIRANDA_STRESS_SEED=%llu\n", (unsigned long long)base_seed);
    return failures;
}
