/* SPDX-License-Identifier: Apache-2.0 */
/* actor and worker, stepped on one thread: what a message, a crash, a kill, a donation and the end of the runtime mean. The
 * same code on threads is in runtime_threads_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/clock.h"
#include "runtime/worker_internal.h"

enum {
    MSG_NUMBER = MSG_KIND_TEST,
    MSG_STOP_YOURSELF,
    MSG_CRASH,
    MSG_SUSPEND,
    MSG_RESUME,
    MSG_KEEP,
    MSG_FORWARD,
    MSG_SPEND,
    MSG_AGAIN,
    MSG_FLOOD,
    MSG_PIN,
    MSG_UNPIN
};

struct number {
    struct msg msg;
    uint32_t value;
    struct actor_id to; /* MSG_FORWARD */
};

/* An actor that writes down what happens to it. */
struct recorder {
    uint32_t values[512];
    uint32_t count;
    uint32_t refused;
    uint32_t exits;
    enum err exit_reason;
    struct msg *kept;
    struct worker *last_worker;
    struct actor_context *context; /* of the present call */
    /* as a supervisor */
    uint32_t exit_notices;
    struct actor_id exit_actor;
    void *exit_key;
    enum err exit_notice_reason;
    uint32_t crash_value;
    uint32_t undelivered[64];
    uint32_t undelivered_count;
};

static void note_exit(struct recorder *recorder, struct actor_context *context, struct msg_exit *notice)
{
    recorder->exit_notices++;
    recorder->exit_actor = notice->actor;
    recorder->exit_key = notice->child_key;
    recorder->exit_notice_reason = notice->reason;
    if (notice->crash_msg) {
        recorder->crash_value = ((struct number *)(void *)notice->crash_msg)->value;
        msg_destroy(context->worker, &notice->crash_msg);
    }
    for (struct msg *msg = notice->undelivered, *next; msg; msg = next) {
        next = msg->next;
        recorder->undelivered[recorder->undelivered_count++] = ((struct number *)(void *)msg)->value;
        msg_destroy(context->worker, &msg);
    }
}

/* Sends until refused. */
static void flood(struct recorder *recorder, struct worker *worker, struct actor_id to, uint32_t count)
{
    for (uint32_t value = 0; value < count; value++) {
        struct number *number = MSG_CREATE(worker, struct number, MSG_NUMBER, 0);
        number->value = value;
        struct msg *msg = &number->msg;
        if (actor_send(worker, to, &msg) == ERR_MAILBOX_FULL) {
            recorder->refused++;
            msg_destroy(worker, &msg);
        }
    }
}

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct recorder *recorder = context->state;
    recorder->last_worker = context->worker;
    if ((*msg)->kind == MSG_EXIT) {
        note_exit(recorder, context, (struct msg_exit *)(void *)*msg);
        return OK;
    }
    struct number *number = (struct number *)(void *)*msg;
    if (recorder->count < 512)
        recorder->values[recorder->count] = number->value;
    recorder->count++;
    switch ((*msg)->kind) {
    case MSG_STOP_YOURSELF: actor_stop(context); break;
    case MSG_CRASH: return ERR_CRASHED;
    case MSG_SUSPEND: actor_suspend(context); break;
    case MSG_RESUME: actor_resume(context); break;
    case MSG_KEEP:
        recorder->kept = *msg;
        *msg = NULL;
        break;
    case MSG_FORWARD: (*msg)->kind = MSG_NUMBER; return actor_send(context->worker, number->to, msg);
    case MSG_SPEND:
        for (uint64_t began_ns = clock_mono_ns(); clock_mono_ns() - began_ns < number->value;)
            ;
        break;
    case MSG_AGAIN: return actor_send(context->worker, context->self, msg);
    case MSG_PIN: actor_pin(context); break;
    case MSG_UNPIN: actor_unpin(context); break;
    case MSG_FLOOD: flood(recorder, context->worker, number->to, number->value); break;
    }
    return OK;
}

static void on_exit_recorded(struct actor_context *context, enum err reason)
{
    struct recorder *recorder = context->state;
    recorder->exits++;
    recorder->exit_reason = reason;
    if (recorder->kept)
        msg_destroy(context->worker, &recorder->kept);
}

static const struct actor_type recorder_type = {"recorder", on_message, on_exit_recorded, 0, false};
static const struct actor_type pinned_type = {"pinned", on_message, on_exit_recorded, 0, true};
static const struct actor_type small_type = {"small", on_message, on_exit_recorded, 3, false};

/* ---- a stepped runtime of two workers ---------------------------------------------------------------------------------- */

static struct runtime *runtime;
static struct worker *w0, *w1;
static struct recorder a, b, supervisor;

static int start(const struct runtime_options *options)
{
    a = b = supervisor = (struct recorder){0};
    if (runtime_create(options, &runtime, NULL) != OK)
        return -1;
    w0 = runtime_worker(runtime, 0);
    w1 = runtime_worker(runtime, 1);
    return worker_start(w0, NULL) == OK && worker_start(w1, NULL) == OK ? 0 : -1;
}

static int setup(void **state)
{
    (void)state;
    return start(&(struct runtime_options){.worker_count = 2});
}

static int teardown(void **state)
{
    (void)state;
    runtime_end(runtime);
    uint64_t alive = runtime_blocks_alive(runtime);
    runtime_destroy(runtime);
    return alive == 0 ? 0 : -1; /* no message is lost track of, whatever the test did */
}

static void settle(void)
{
    bool did;
    do {
        did = worker_step(w0);
        did |= worker_step(w1);
    } while (did);
}

static struct actor_id spawn(struct worker *worker, const struct actor_type *type, struct recorder *recorder)
{
    struct actor_id id;
    assert_int_equal(actor_spawn(worker, type, recorder, NULL, &id), OK);
    return id;
}

static struct actor_id spawn_supervised(struct worker *worker, struct recorder *recorder, void *key)
{
    struct actor_id id, boss = spawn(w0, &recorder_type, &supervisor);
    struct actor_options options = {.supervisor = boss, .child_key = key};
    assert_int_equal(actor_spawn(worker, &recorder_type, recorder, &options, &id), OK);
    return id;
}

static struct msg *number(struct worker *worker, uint16_t kind, uint8_t flags, uint32_t value)
{
    struct number *number = MSG_CREATE(worker, struct number, kind, flags);
    assert_non_null(number);
    number->value = value;
    return &number->msg;
}

static void send(struct worker *worker, struct actor_id to, uint16_t kind, uint8_t flags, uint32_t value)
{
    struct msg *msg = number(worker, kind, flags, value);
    assert_int_equal(actor_send(worker, to, &msg), OK);
    assert_null(msg);
}

static struct worker_stats stats_of(const struct worker *worker)
{
    struct worker_stats stats;
    worker_get_stats(worker, &stats);
    return stats;
}

static void assert_values(const struct recorder *recorder, const uint32_t *values, uint32_t count)
{
    assert_int_equal(recorder->count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(recorder->values[i], values[i]);
}
#define ASSERT_VALUES(recorder, ...)                                                                                     \
    assert_values((recorder), (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

/* ---- messages ---------------------------------------------------------------------------------------------------------- */

static void messages_of_one_sender_keep_their_order_urgent_ones_first(void **state)
{
    (void)state;
    struct actor_id id = spawn(w0, &recorder_type, &a);
    for (struct worker *from = w0;; from = w1) {
        a.count = 0;
        send(from, id, MSG_NUMBER, 0, 1);
        send(from, id, MSG_NUMBER, MSG_URGENT, 2);
        send(from, id, MSG_NUMBER, 0, 3);
        settle();
        ASSERT_VALUES(&a, 2, 1, 3);
        if (from == w1)
            break;
    }
}

static void a_message_may_be_kept_or_sent_on_by_its_receiver(void **state)
{
    (void)state;
    struct actor_id first = spawn(w0, &recorder_type, &a), second = spawn(w1, &recorder_type, &b);
    struct msg *msg = number(w0, MSG_FORWARD, 0, 7);
    ((struct number *)(void *)msg)->to = second;
    assert_int_equal(actor_send(w0, first, &msg), OK);
    send(w0, first, MSG_KEEP, 0, 8);
    settle();
    ASSERT_VALUES(&b, 7);
    assert_non_null(a.kept); /* freed by on_exit */
}

static void a_full_mailbox_refuses_and_the_sender_keeps_its_message(void **state)
{
    (void)state;
    struct actor_id id = spawn(w0, &small_type, &a);
    struct worker *const senders[] = {w0, w1};
    for (int i = 0; i < 2; i++) {
        for (uint32_t value = 0; value < 3; value++)
            send(senders[i], id, MSG_NUMBER, 0, value);
        struct msg *refused = number(senders[i], MSG_NUMBER, 0, 99);
        assert_int_equal(actor_send(senders[i], id, &refused), ERR_MAILBOX_FULL);
        assert_non_null(refused);
        send(senders[i], id, MSG_NUMBER, MSG_CONTROL, 3); /* never refused */
        assert_int_equal(stats_of(senders[i]).refusals, 1);
        settle();
        assert_int_equal(actor_send(senders[i], id, &refused), OK); /* room again */
        settle();
    }
    ASSERT_VALUES(&a, 0, 1, 2, 3, 99, 0, 1, 2, 3, 99);
}

static void the_cap_holds_for_what_is_chained_for_another_worker_too(void **state)
{
    (void)state;
    struct actor_id small = spawn(w1, &small_type, &a), flooder = spawn(w0, &recorder_type, &b);
    for (int round = 0; round < 2; round++) { /* room again after the first */
        struct msg *msg = number(w0, MSG_FLOOD, 0, 10);
        ((struct number *)(void *)msg)->to = small;
        assert_int_equal(actor_send(w0, flooder, &msg), OK);
        settle();
    }
    ASSERT_VALUES(&a, 0, 1, 2, 0, 1, 2);
    assert_int_equal(b.refused, 14);
}

static void a_suspended_actor_runs_urgent_messages_only(void **state)
{
    (void)state;
    struct actor_id id = spawn(w0, &recorder_type, &a);
    send(w0, id, MSG_SUSPEND, 0, 1);
    send(w0, id, MSG_NUMBER, 0, 2);
    send(w1, id, MSG_NUMBER, 0, 3);
    settle();
    ASSERT_VALUES(&a, 1);
    send(w1, id, MSG_NUMBER, MSG_URGENT, 4); /* it was parked with messages waiting */
    settle();
    ASSERT_VALUES(&a, 1, 4);
    send(w0, id, MSG_RESUME, MSG_URGENT, 5);
    settle();
    ASSERT_VALUES(&a, 1, 4, 5, 2, 3);
}

static void one_that_sends_to_itself_lets_others_run(void **state)
{
    (void)state;
    struct actor_id selfish = spawn(w0, &recorder_type, &a), other = spawn(w0, &recorder_type, &b);
    send(w0, selfish, MSG_AGAIN, 0, 1);
    worker_step(w0);
    uint32_t before = a.count;
    send(w0, other, MSG_NUMBER, 0, 1);
    worker_step(w0);
    assert_int_equal(b.count, 1);
    assert_true(a.count > before && a.count - before <= 64);
}

static void slow_messages_end_a_run_by_time(void **state)
{
    (void)state;
    struct actor_id slow = spawn(w0, &recorder_type, &a), other = spawn(w0, &recorder_type, &b);
    for (int i = 0; i < 20; i++)
        send(w0, slow, MSG_SPEND, 0, 60000);
    send(w0, other, MSG_NUMBER, 0, 1);
    while (b.count == 0)
        worker_step(w0);
    assert_true(a.count < 10);
    settle();
    assert_int_equal(a.count, 20);
}

static void what_arrives_by_deliver_keeps_its_order_and_nobodys_is_a_dead_letter(void **state)
{
    (void)state;
    struct actor_id id = spawn(w1, &recorder_type, &a);
    struct msg_list chain = {0};
    for (uint32_t value = 0; value < 5; value++) {
        struct msg *msg = number(w0, MSG_NUMBER, MSG_CONTROL, value);
        msg->to = value == 3 ? (struct actor_id){0} : id;
        msg_list_append(&chain, msg);
    }
    worker_deliver(w1, chain.first, chain.last);
    settle();
    ASSERT_VALUES(&a, 0, 1, 2, 4);
    assert_int_equal(stats_of(w1).dead_letters, 1);
}

static void a_delayed_message_comes_in_its_time_and_not_before(void **state)
{
    (void)state;
    struct actor_id id = spawn(w0, &recorder_type, &a);
    struct msg *soon = number(w0, MSG_NUMBER, 0, 1), *late = number(w0, MSG_NUMBER, 0, 2);
    uint64_t began_ns = clock_mono_ns();
    actor_send_after(w0, id, &late, 3600ull * 1000000000u); /* freed by the end of the runtime */
    actor_send_after(w0, id, &soon, 2000000);
    assert_null(soon);
    while (a.count == 0 && clock_mono_ns() - began_ns < 5000000000ull)
        worker_step(w0);
    ASSERT_VALUES(&a, 1);
    assert_true(clock_mono_ns() - began_ns >= 2000000);
    assert_true(worker_next_deadline_ns(w0) != UINT64_MAX);
}

struct counted_task {
    struct worker_task task;
    struct worker *ran_on;
};
static void run_counted(struct worker *worker, struct worker_task *task)
{
    container_of(task, struct counted_task, task)->ran_on = worker;
    assert_ptr_equal(worker_current(), worker);
}

static void a_task_runs_on_its_worker(void **state)
{
    (void)state;
    struct counted_task task = {.task.run = run_counted};
    worker_post(w1, &task.task);
    worker_step(w0);
    assert_null(task.ran_on);
    worker_step(w1);
    assert_ptr_equal(task.ran_on, w1);
    assert_null(worker_current());
}

/* ---- ends -------------------------------------------------------------------------------------------------------------- */

static void a_crash_tells_the_supervisor_with_the_message_and_what_stood_behind_it(void **state)
{
    (void)state;
    int key;
    struct actor_id id = spawn_supervised(w1, &a, &key);
    for (uint32_t value = 1; value <= 5; value++)
        send(w0, id, value == 2 ? MSG_CRASH : MSG_NUMBER, 0, value);
    settle();
    ASSERT_VALUES(&a, 1, 2);
    assert_int_equal(a.exits, 1);
    assert_int_equal(a.exit_reason, ERR_CRASHED);
    assert_int_equal(supervisor.exit_notices, 1);
    assert_true(actor_id_is_equal(supervisor.exit_actor, id));
    assert_ptr_equal(supervisor.exit_key, &key);
    assert_int_equal(supervisor.exit_notice_reason, ERR_CRASHED);
    assert_int_equal(supervisor.crash_value, 2);
    assert_int_equal(supervisor.undelivered_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(supervisor.undelivered[i], i + 3);
    assert_int_equal(stats_of(w1).crashes, 1);
}

static void a_stop_is_normal_and_final(void **state)
{
    (void)state;
    struct actor_id id = spawn_supervised(w0, &a, NULL);
    send(w0, id, MSG_STOP_YOURSELF, 0, 1);
    send(w0, id, MSG_NUMBER, 0, 2);
    settle();
    ASSERT_VALUES(&a, 1);
    assert_int_equal(a.exit_reason, OK);
    assert_int_equal(supervisor.exit_notice_reason, OK);
    assert_int_equal(supervisor.undelivered_count, 1);
    assert_int_equal(stats_of(w0).crashes, 0);
    struct msg *msg = number(w0, MSG_NUMBER, 0, 3);
    assert_int_equal(actor_send(w0, id, &msg), ERR_ACTOR_GONE);
    msg_destroy(w0, &msg);
}

static void a_kill_overtakes_what_waits_even_in_a_suspended_actor(void **state)
{
    (void)state;
    struct actor_id id = spawn_supervised(w1, &a, NULL);
    send(w0, id, MSG_SUSPEND, 0, 1);
    send(w0, id, MSG_NUMBER, 0, 2);
    settle();
    actor_kill(w0, id, ERR_TIMEOUT);
    actor_kill(w0, id, ERR_CANCELLED); /* too late; freed, and not shown to the supervisor */
    settle();
    assert_int_equal(a.exit_reason, ERR_TIMEOUT);
    assert_int_equal(supervisor.exit_notices, 1);
    assert_int_equal(supervisor.undelivered_count, 1);
    actor_kill(w0, id, ERR_CANCELLED); /* gone: nothing */
    settle();
    assert_int_equal(supervisor.exit_notices, 1);
}

static void a_slot_used_again_does_not_answer_to_its_old_id(void **state)
{
    (void)state;
    struct actor_id old = spawn(w0, &recorder_type, &a);
    send(w0, old, MSG_STOP_YOURSELF, 0, 1);
    settle();
    struct actor_id new = spawn(w0, &recorder_type, &b);
    assert_int_equal(new.slot, old.slot);
    assert_int_not_equal(new.generation, old.generation);
    struct msg *msg = number(w0, MSG_NUMBER, 0, 2);
    assert_int_equal(actor_send(w0, old, &msg), ERR_ACTOR_GONE);

    /* A sender of another thread that had looked before the slot changed hands pushes all the same. */
    msg->to = old;
    struct actor *slot = slab_find(runtime, old.slot);
    assert_int_equal(mailbox_push(&slot->mailbox, msg, msg, 1), INBOX_UNPARKED);
    slot->link.kind = LANE_ACTIVATE;
    lane_push(NULL, w0, &slot->link, &slot->link);
    send(w0, new, MSG_NUMBER, 0, 3);
    settle();
    ASSERT_VALUES(&b, 3);
    assert_int_equal(stats_of(w0).dead_letters, 1);
}

static void ids_that_never_were_reach_nobody(void **state)
{
    (void)state;
    const struct actor_id strangers[] = {{0, 0}, {0, 1}, {1u << 24, 1}, {63u << 24 | 77, 1}, {UINT32_MAX, UINT32_MAX}};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        struct msg *msg = number(w0, MSG_NUMBER, 0, 1);
        assert_int_equal(actor_send(w0, strangers[i], &msg), ERR_ACTOR_GONE);
        msg_destroy(w0, &msg);
        actor_kill(w0, strangers[i], ERR_CANCELLED);
    }
}

static void an_exit_notice_that_reaches_nobody_is_freed_with_all_it_carries(void **state)
{
    (void)state;
    struct actor_id id = spawn_supervised(w1, &a, NULL);
    actor_kill(w0, slab_find(runtime, id.slot)->supervisor, ERR_CANCELLED);
    settle();
    send(w0, id, MSG_CRASH, 0, 1);
    send(w0, id, MSG_NUMBER, 0, 2);
    settle();
    assert_int_equal(a.exits, 1);
    assert_int_equal(supervisor.exit_notices, 0);
    assert_int_equal(stats_of(w1).dead_letters,
                     3); /* the notice, the crash message, the undelivered one; teardown counts blocks */
}

static void a_handler_over_its_budget_is_a_crash(void **state)
{
    (void)state;
    runtime_destroy(runtime);
    assert_int_equal(start(&(struct runtime_options){.worker_count = 2, .handler_ns_max = 2000000}), 0);
    struct actor_id slow = spawn(w0, &recorder_type, &a), quick = spawn(w0, &recorder_type, &b);
    send(w0, quick, MSG_SPEND, 0, 100000);
    send(w0, slow, MSG_SPEND, 0, 6000000);
    settle();
    assert_int_equal(a.exits, 1);
    assert_int_equal(a.exit_reason, ERR_BUDGET);
    assert_int_equal(b.exits, 0);
}

static void the_end_of_the_runtime_ends_every_actor_and_frees_what_waits(void **state)
{
    (void)state;
    struct actor_id first = spawn(w0, &recorder_type, &a), second = spawn(w1, &recorder_type, &b);
    send(w0, first, MSG_SUSPEND, 0, 1);
    send(w0, first, MSG_KEEP, MSG_URGENT, 1);
    settle();
    for (uint32_t i = 0; i < 50; i++) {
        send(w0, first, MSG_NUMBER, 0, i);
        send(w0, second, MSG_NUMBER, 0, i); /* in an inbox, its activation in a lane */
        struct msg *msg = number(w1, MSG_NUMBER, 0, i);
        msg->to = first;
        worker_deliver(w0, msg, msg); /* in a lane */
        msg = msg_create(w1, MSG_NUMBER, 0, 40000);
        assert_int_equal(actor_send(w1, first, &msg), OK);
    }
    runtime_end(runtime);
    assert_int_equal(a.exits, 1);
    assert_int_equal(a.exit_reason, ERR_SHUTDOWN);
    assert_int_equal(b.exits, 1);
    assert_int_equal(runtime_blocks_alive(runtime), 0);
}

static uint32_t dropped_count;

static void count_dropped(struct worker *worker, struct msg *msg)
{
    assert_ptr_equal(worker_current(), worker);
    dropped_count += msg->kind == MSG_NUMBER;
}

static void what_reaches_nobody_is_shown_before_it_goes(void **state)
{
    (void)state;
    runtime_destroy(runtime);
    assert_int_equal(start(&(struct runtime_options){.worker_count = 2, .on_drop = count_dropped}), 0);
    dropped_count = 0;
    struct actor_id id = spawn(w0, &recorder_type, &a);
    send(w0, id, MSG_SUSPEND, 0, 1);
    settle();
    for (uint32_t i = 0; i < 5; i++)
        send(i % 2 ? w1 : w0, id, MSG_NUMBER, 0, i);
    settle();
    assert_int_equal(dropped_count, 0);
    struct msg *msg = number(w1, MSG_NUMBER, 0, 5); /* still in a lane at the end */
    msg->to = id;
    worker_deliver(w0, msg, msg);
    runtime_end(runtime);
    assert_int_equal(dropped_count, 6);
}

struct late_task {
    struct worker_task task;
    uint32_t runs, drops;
};

static void run_late(struct worker *worker, struct worker_task *task)
{
    (void)worker;
    ((struct late_task *)(void *)task)->runs++;
}

static void drop_late(struct worker_task *task)
{
    ((struct late_task *)(void *)task)->drops++;
}

static void a_task_that_its_worker_did_not_live_to_run_is_dropped(void **state)
{
    (void)state;
    struct late_task done = {.task = {.run = run_late, .drop = drop_late}}, late = done;
    worker_post(w1, &done.task);
    settle();
    worker_post(w1, &late.task);
    runtime_end(runtime);
    assert_int_equal(done.runs, 1);
    assert_int_equal(done.drops, 0);
    assert_int_equal(late.runs, 0);
    assert_int_equal(late.drops, 1);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

static void warm_work_takes_nothing_from_the_system_and_blocks_come_home(void **state)
{
    (void)state;
    struct actor_id here = spawn(w0, &recorder_type, &a), there = spawn(w1, &recorder_type, &b);
    uint64_t misses = 0;
    for (int round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < 100; i++) {
            send(w0, there, MSG_NUMBER, 0, i);
            send(w0, here, MSG_NUMBER, 0, i);
        }
        settle();
        if (round == 0)
            misses = stats_of(w0).pool_misses + stats_of(w1).pool_misses;
    }
    assert_int_equal(stats_of(w0).pool_misses + stats_of(w1).pool_misses, misses);
    assert_int_equal(stats_of(w1).foreign_frees, 20000);
    assert_int_equal(stats_of(w0).blocks_acquired, stats_of(w0).blocks_released);
}

static void over_the_memory_cap_work_is_refused_but_an_end_is_not(void **state)
{
    (void)state;
    runtime_destroy(runtime);
    assert_int_equal(start(&(struct runtime_options){.worker_count = 2, .memory_bytes_max = 1 << 20}), 0);
    struct actor_id id = spawn_supervised(w0, &a, NULL);
    struct msg_list taken = {0};
    struct msg *msg;
    while ((msg = msg_create(w0, MSG_NUMBER, 0, 2000)))
        msg_list_append(&taken, msg);
    assert_null(msg_create(w0, MSG_NUMBER, 0, 30000));
    actor_kill(w0, id, ERR_CANCELLED);
    settle();
    assert_int_equal(supervisor.exit_notices, 1);
    while ((msg = msg_list_pop(&taken)))
        msg_destroy(w0, &msg);
    assert_non_null(msg = msg_create(w0, MSG_NUMBER, 0, 30000));
    msg_destroy(w0, &msg);
}

static void slots_of_actors_that_died_elsewhere_come_home(void **state)
{
    (void)state;
    uint32_t slot = 0;
    for (int round = 0; round < 20; round++) {
        struct actor_id id = spawn(w0, &recorder_type, &a);
        if (round > 0)
            assert_int_equal(id.slot, slot);
        slot = id.slot;
        /* As after a donation. */
        struct actor *actor = slab_find(runtime, slot);
        atomic_store_release(&actor->home, 1);
        send(w0, id, MSG_STOP_YOURSELF, 0, 1);
        settle();
    }
    assert_int_equal(a.exits, 20);
}

/* ---- donation ---------------------------------------------------------------------------------------------------------- */

enum { CROWD = 40 };

static void step_both(int count)
{
    for (int i = 0; i < count; i++) {
        worker_step(w0);
        worker_step(w1);
    }
}

/* A third is free to move, a third is pinned by type, a third has pinned itself. */
static void an_idle_worker_is_given_runnable_actors_but_no_pinned_ones(void **state)
{
    (void)state;
    static struct recorder crowd[CROWD];
    static struct actor_id ids[CROWD];
    memset(crowd, 0, sizeof crowd);
    for (int i = 0; i < CROWD; i++) {
        ids[i] = spawn(w0, i % 3 == 1 ? &pinned_type : &recorder_type, &crowd[i]);
        if (i % 3 == 2)
            send(w0, ids[i], MSG_PIN, 0, 0);
        send(w0, ids[i], MSG_AGAIN, 0, 1);
    }
    worker_step(w1);
    assert_int_equal(stats_of(w0).donations, 0);
    step_both(50);
    assert_true(stats_of(w0).donations > 0 && stats_of(w0).donations <= CROWD / 3 + 1);
    uint32_t moved = 0;
    for (int i = 0; i < CROWD; i++) {
        moved += crowd[i].last_worker == w1;
        assert_true(i % 3 == 0 || crowd[i].last_worker == w0);
    }
    assert_int_equal(moved, stats_of(w0).donations - stats_of(w1).donations);

    /* What is no longer pinned may go. */
    for (int i = 0; i < CROWD; i++)
        send(w0, ids[i], i % 3 == 2 ? MSG_UNPIN : MSG_STOP_YOURSELF, 0, 0);
    step_both(50);
    moved = 0;
    for (int i = 2; i < CROWD; i += 3)
        moved += crowd[i].last_worker == w1;
    assert_true(moved > 0);
}

static void an_idle_worker_that_could_be_given_nothing_is_not_forgotten(void **state)
{
    (void)state;
    static struct recorder few[8];
    struct actor_id ids[8];
    memset(few, 0, sizeof few);
    for (int i = 0; i < 8; i++) {
        ids[i] = spawn(w0, &recorder_type, &few[i]);
        send(w0, ids[i], MSG_PIN, 0, 0);
        send(w0, ids[i], MSG_AGAIN, 0, 1);
    }
    worker_step(w1); /* asks, and sleeps from here on */
    for (int i = 0; i < 20; i++)
        worker_step(w0);
    assert_int_equal(stats_of(w0).donations, 0);
    for (int i = 0; i < 8; i++)
        send(w0, ids[i], MSG_UNPIN, 0, 0);
    for (int i = 0; i < 20; i++)
        worker_step(w0);
    assert_true(stats_of(w0).donations > 0);
}

static void the_order_of_one_sender_survives_a_move_of_the_receiver(void **state)
{
    (void)state;
    struct actor_id id = spawn(w0, &recorder_type, &a);
    struct actor *actor = slab_find(runtime, id.slot);
    uint32_t value = 0;
    for (int move = 0; move < 20; move++) {
        struct worker *from = move % 2 ? w1 : w0, *to = move % 2 ? w0 : w1;
        send(w0, id, MSG_NUMBER, 0, value++);
        worker_step(w1); /* its activation, when the home is w1 */
        worker_step(w0);
        send(w0, id, MSG_NUMBER, 0, value++);
        worker_current_ = from;
        (void)lane_drain(from);
        worker_current_ = NULL;
        if (actor->state == ACTOR_QUEUED) { /* what donation.c does to it */
            assert_ptr_equal(msg_list_pop(&from->run_queue.list), &actor->link);
            from->run_queue.count--;
            donation_move(from, actor, to);
            send(w0, id, MSG_NUMBER, 0, value++); /* under way */
        }
        send(w0, id, MSG_NUMBER, 0, value++);
    }
    settle();
    assert_int_equal(a.count, value);
    for (uint32_t i = 0; i < value; i++)
        assert_int_equal(a.values[i], i);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_of_one_sender_keep_their_order_urgent_ones_first),
        TEST(a_message_may_be_kept_or_sent_on_by_its_receiver),
        TEST(a_full_mailbox_refuses_and_the_sender_keeps_its_message),
        TEST(a_suspended_actor_runs_urgent_messages_only),
        TEST(one_that_sends_to_itself_lets_others_run),
        TEST(the_cap_holds_for_what_is_chained_for_another_worker_too),
        TEST(slow_messages_end_a_run_by_time),
        TEST(what_arrives_by_deliver_keeps_its_order_and_nobodys_is_a_dead_letter),
        TEST(a_delayed_message_comes_in_its_time_and_not_before),
        TEST(a_task_runs_on_its_worker),
        TEST(a_crash_tells_the_supervisor_with_the_message_and_what_stood_behind_it),
        TEST(a_stop_is_normal_and_final),
        TEST(a_kill_overtakes_what_waits_even_in_a_suspended_actor),
        TEST(a_slot_used_again_does_not_answer_to_its_old_id),
        TEST(ids_that_never_were_reach_nobody),
        TEST(an_exit_notice_that_reaches_nobody_is_freed_with_all_it_carries),
        TEST(a_handler_over_its_budget_is_a_crash),
        TEST(the_end_of_the_runtime_ends_every_actor_and_frees_what_waits),
        TEST(what_reaches_nobody_is_shown_before_it_goes),
        TEST(a_task_that_its_worker_did_not_live_to_run_is_dropped),
        TEST(warm_work_takes_nothing_from_the_system_and_blocks_come_home),
        TEST(over_the_memory_cap_work_is_refused_but_an_end_is_not),
        TEST(slots_of_actors_that_died_elsewhere_come_home),
        TEST(an_idle_worker_is_given_runnable_actors_but_no_pinned_ones),
        TEST(an_idle_worker_that_could_be_given_nothing_is_not_forgotten),
        TEST(the_order_of_one_sender_survives_a_move_of_the_receiver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
