/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime on real threads: parking, order under donation, foreign threads, start,
 * stop and the watchdog. Everything is bounded by counts; a wake-up that is lost hangs, and the watchdog of the test (ctest's
 * time limit) says so. Built twice:
 * over the kernel's ring, and over sleeping_ring.c, which ThreadSanitizer can follow. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/clock.h"
#include "runtime/worker_internal.h"

enum { MSG_NUMBER = MSG_KIND_TEST, MSG_GO };

struct number {
    struct msg msg;
    uint32_t sender, value;
};

static struct runtime *runtime;
static ATOMIC(uint32_t) finished; /* actors that have done their part; the last one stops the runtime */
static uint32_t finished_goal;

static void finish_one(void)
{
    if (atomic_add_acq_rel(&finished, 1) + 1 == finished_goal)
        runtime_stop(runtime);
}

static void run_to_end(const struct runtime_options *options, uint32_t goal)
{
    atomic_store_relaxed(&finished, 0);
    finished_goal = goal;
    struct error error = {0};
    assert_int_equal(runtime_create(options, &runtime, &error), OK);
    assert_int_equal(runtime_start(runtime, &error), OK);
    runtime_join(runtime);
}

static void assert_nothing_lost_and_destroy(void)
{
    runtime_end(runtime);
    assert_int_equal(runtime_blocks_alive(runtime), 0);
    runtime_destroy(runtime);
}

static struct worker_stats total_stats(void)
{
    struct worker_stats total = {0};
    for (uint32_t i = 0; i < runtime_worker_count(runtime); i++) {
        struct worker_stats stats;
        worker_get_stats(runtime_worker(runtime, i), &stats);
        total.donations += stats.donations;
        total.wakes += stats.wakes;
        total.sleeps += stats.sleeps;
        total.crashes += stats.crashes;
        total.dead_letters += stats.dead_letters;
        total.spawned += stats.spawned;
        total.ended += stats.ended;
    }
    return total;
}

/* ---- parking ----------------------------------------------------------------------------------------------------------- */

/* Tokens go from worker to worker, few enough that workers sleep all the time: each hop is a race of a push with a park. */
enum { RING_WORKERS = 4, RING_TOKENS = 3, RING_HOPS = 3000 };
static struct actor_id ring_ids[RING_WORKERS];
static ATOMIC(uint32_t) ring_started;

static enum err on_token(struct actor_context *context, struct msg **msg)
{
    struct number *number = (struct number *)(void *)*msg;
    if (number->value-- == 0) {
        finish_one();
        return OK;
    }
    uint32_t next = (worker_index(context->worker) + 1 + number->value % (RING_WORKERS - 1)) % RING_WORKERS;
    return actor_send(context->worker, ring_ids[next], msg);
}
static const struct actor_type token_type = {"token", on_token, NULL, 0, true};

static void inject_tokens(struct worker *worker)
{
    for (uint32_t i = 0; i < RING_TOKENS; i++) {
        struct number *number = MSG_CREATE(worker, struct number, MSG_NUMBER, 0);
        number->value = RING_HOPS;
        struct msg *msg = &number->msg;
        assert_int_equal(actor_send(worker, ring_ids[0], &msg), OK);
    }
}

static enum err start_ring(struct worker *worker, void *user, struct error *error)
{
    (void)user, (void)error;
    enum err code = actor_spawn(worker, &token_type, NULL, NULL, &ring_ids[worker_index(worker)]);
    /* The last to come has all ids before it (acq_rel), the others read them after the gate. */
    if (code == OK && atomic_add_acq_rel(&ring_started, 1) + 1 == RING_WORKERS)
        inject_tokens(worker);
    return code;
}

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (uint32_t spin_us = 0; spin_us <= 20; spin_us += 20) {
            atomic_store_relaxed(&ring_started, 0);
            run_to_end(
                &(struct runtime_options){.worker_count = RING_WORKERS, .spin_us = spin_us, .on_start = start_ring},
                RING_TOKENS);
            struct worker_stats stats = total_stats();
            assert_true(stats.sleeps > 0);
            assert_true(stats.wakes <= stats.sleeps); /* one a sleep */
            assert_int_equal(stats.dead_letters, 0);
            assert_nothing_lost_and_destroy();
        }
    }
}

/* ---- order under donation ----------------------------------------------------------------------------------------------- */

/* All actors are born on worker 0; the other one asks for work. Senders and receivers move while they talk. */
enum { ORDER_SENDERS = 24, ORDER_RECEIVERS = 8, ORDER_MESSAGES = 4000, ORDER_BURST = 5 };

struct sender {
    uint32_t index, sent;
    uint32_t value_to[ORDER_RECEIVERS];
};
struct receiver {
    uint32_t expected[ORDER_SENDERS];
    uint32_t received;
    ATOMIC(uint32_t) running; /* I1 */
};
static struct sender senders[ORDER_SENDERS];
static struct receiver receivers[ORDER_RECEIVERS];
static struct actor_id receiver_ids[ORDER_RECEIVERS];
static ATOMIC(uint32_t) violations;

static enum err on_order_send(struct actor_context *context, struct msg **msg)
{
    struct sender *sender = context->state;
    for (int i = 0; i < ORDER_BURST && sender->sent < ORDER_MESSAGES; i++) {
        uint32_t to = (sender->sent / 3 + sender->index) % ORDER_RECEIVERS;
        struct number *number = MSG_CREATE(context->worker, struct number, MSG_NUMBER, 0);
        number->sender = sender->index;
        number->value = sender->value_to[to];
        struct msg *out = &number->msg;
        if (actor_send(context->worker, receiver_ids[to], &out) != OK) { /* full: later */
            msg_destroy(context->worker, &out);
            break;
        }
        sender->value_to[to]++;
        sender->sent++;
    }
    if (sender->sent < ORDER_MESSAGES)
        return actor_send(context->worker, context->self, msg);
    finish_one();
    return OK;
}

static enum err on_order_receive(struct actor_context *context, struct msg **msg)
{
    struct receiver *receiver = context->state;
    if (atomic_add_acq_rel(&receiver->running, 1) != 0)
        atomic_add_relaxed(&violations, 1);
    const struct number *number = (const struct number *)(const void *)*msg;
    if (number->value != receiver->expected[number->sender]++)
        atomic_add_relaxed(&violations, 1);
    receiver->received++;
    for (int i = 0; i < 50; i++)
        cpu_pause();
    atomic_store_release(&receiver->running, 0);
    return OK;
}
static const struct actor_type sender_type = {"sender", on_order_send, NULL, 0, false};
static const struct actor_type receiver_type = {"receiver", on_order_receive, NULL, 256, false};

static enum err start_order(struct worker *worker, void *user, struct error *error)
{
    (void)user, (void)error;
    if (worker_index(worker) != 0)
        return OK;
    for (uint32_t i = 0; i < ORDER_RECEIVERS; i++) {
        if (actor_spawn(worker, &receiver_type, &receivers[i], NULL, &receiver_ids[i]) != OK)
            return ERR_LIMIT;
    }
    for (uint32_t i = 0; i < ORDER_SENDERS; i++) {
        struct actor_id id;
        senders[i].index = i;
        if (actor_spawn(worker, &sender_type, &senders[i], NULL, &id) != OK)
            return ERR_LIMIT;
        struct msg *go = msg_create(worker, MSG_GO, 0, sizeof(struct msg));
        if (actor_send(worker, id, &go) != OK)
            return ERR_LIMIT;
    }
    return OK;
}

static void the_order_of_each_sender_survives_donations(void **state)
{
    (void)state;
    uint64_t donations = 0;
    for (uint32_t round = 0; round < 3; round++) {
        memset(senders, 0, sizeof senders);
        memset(receivers, 0, sizeof receivers);
        run_to_end(&(struct runtime_options){.worker_count = 3, .on_start = start_order, .donation_message_ns_min = 1},
                   ORDER_SENDERS);
        assert_int_equal(atomic_load_relaxed(&violations), 0);
        uint32_t sent = 0;
        for (uint32_t i = 0; i < ORDER_SENDERS; i++)
            sent += senders[i].sent;
        assert_int_equal(sent, ORDER_SENDERS * ORDER_MESSAGES);
        donations += total_stats().donations;
        assert_nothing_lost_and_destroy();
    }
    assert_true(donations > 0); /* else this has tested nothing */
}

static void actors_whose_messages_are_cheap_stay_where_they_are(void **state)
{
    (void)state;
    memset(senders, 0, sizeof senders);
    memset(receivers, 0, sizeof receivers);
    struct runtime_options options = {.worker_count = 3, .on_start = start_order, .donation_message_ns_min = 1000000000};
    run_to_end(&options, ORDER_SENDERS);
    assert_int_equal(total_stats().donations, 0);
    assert_nothing_lost_and_destroy();
}

/* The narrowest places, each with two threads and no loop between them. */
enum { MOVE_BEFORE = 20, MOVE_AFTER = 20, MOVE_ROUNDS = 200 };
static struct actor_id moving_id;
static struct worker *w0, *w1;

static void send_number(struct worker *worker, struct actor_id to, uint32_t value)
{
    struct number *number = MSG_CREATE(worker, struct number, MSG_NUMBER, 0);
    number->value = value;
    struct msg *msg = &number->msg;
    if (actor_send(worker, to, &msg) != OK)
        msg_destroy(worker, &msg);
}

static void *give_away(void *argument)
{
    (void)argument;
    worker_current_ = w0;
    for (uint32_t value = 0; value < MOVE_BEFORE; value++)
        send_number(w0, moving_id, value);
    struct actor *actor = container_of(msg_list_pop(&w0->run_queue.list), struct actor, link);
    w0->run_queue.count--;
    donation_move(w0, actor, w1);
    return NULL;
}

static void *send_on_arrival(void *argument)
{
    (void)argument;
    worker_current_ = w1;
    while (atomic_load_relaxed(&slab_find(runtime, moving_id.slot)->home) != 1)
        cpu_pause();
    for (uint32_t value = 0; value < MOVE_AFTER; value++)
        send_number(w1, moving_id, MOVE_BEFORE + value); /* it has not yet come out of our lane */
    return NULL;
}

static void settle(void)
{
    bool did;
    do {
        did = worker_step(w0);
        did |= worker_step(w1);
    } while (did);
}

static void run_two(void *(*first)(void *), void *(*second)(void *))
{
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, first, NULL), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, second, NULL), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    settle();
}

static void start_stepped(void)
{
    assert_int_equal(runtime_create(&(struct runtime_options){.worker_count = 2}, &runtime, NULL), OK);
    w0 = runtime_worker(runtime, 0);
    w1 = runtime_worker(runtime, 1);
    assert_int_equal(worker_start(w0, NULL), OK);
    assert_int_equal(worker_start(w1, NULL), OK);
}

static void one_may_send_to_an_actor_that_is_on_its_way_to_him(void **state)
{
    (void)state;
    start_stepped();
    for (int round = 0; round < MOVE_ROUNDS; round++) {
        struct receiver receiver = {0};
        assert_int_equal(actor_spawn(w0, &receiver_type, &receiver, NULL, &moving_id), OK);
        run_two(give_away, send_on_arrival);
        assert_int_equal(receiver.received, MOVE_BEFORE + MOVE_AFTER);
        assert_int_equal(atomic_load_relaxed(&violations), 0);
        actor_kill(w0, moving_id, OK);
        settle();
    }
    assert_nothing_lost_and_destroy();
}

enum { GUESSED = 4 * SLAB_CHUNK_ACTORS };
static void *spawn_many(void *argument)
{
    (void)argument;
    worker_current_ = w0;
    for (uint32_t i = 0; i < GUESSED; i++) {
        struct actor_id id;
        if (actor_spawn(w0, &token_type, NULL, NULL, &id) != OK)
            return NULL;
    }
    return NULL;
}

static void *send_to_guessed_ids(void *argument)
{
    (void)argument;
    worker_current_ = w1;
    for (uint32_t i = 0; i < GUESSED; i++)
        send_number(w1, (struct actor_id){.slot = i, .generation = 2}, 1);
    return NULL;
}

static void an_id_that_nobody_gave_may_be_looked_up_while_slots_are_made(void **state)
{
    (void)state;
    start_stepped();
    run_two(spawn_many, send_to_guessed_ids);
    struct worker_stats stats = total_stats();
    assert_int_equal(stats.spawned, GUESSED);
    assert_int_equal(stats.dead_letters, 0); /* generation 2 is nobody's yet: each send was refused */
    assert_nothing_lost_and_destroy();
}

/* ---- lives cross workers ------------------------------------------------------------------------------------------------ */

/* Each worker spawns short-lived actors, tells another worker's pinned actor their ids, which writes to them and kills them
 * while they end by themselves: ids go stale at every moment. Conservation: blocks and actors balance at the end. */
enum { CHURN_WORKERS = 3, CHURN_ROUNDS = 2000 };
static struct actor_id churn_ids[CHURN_WORKERS];

struct churn_note {
    struct msg msg;
    struct actor_id child;
};
struct churner {
    uint32_t rounds;
};
static struct churner churners[CHURN_WORKERS];

static enum err on_child(struct actor_context *context, struct msg **msg)
{
    if ((*msg)->kind == MSG_GO)
        actor_stop(context);
    return (*msg)->home % 2 ? OK : ERR_CRASHED;
}
static const struct actor_type child_type = {"child", on_child, NULL, 2, false};

static void send_kind(struct worker *worker, struct actor_id to, uint16_t kind)
{
    struct msg *msg = msg_create(worker, kind, 0, 100);
    if (msg && actor_send(worker, to, &msg) != OK)
        msg_destroy(worker, &msg);
}

static enum err on_churn(struct actor_context *context, struct msg **msg)
{
    struct churner *churner = context->state;
    struct worker *worker = context->worker;
    if ((*msg)->kind == MSG_EXIT) {
        struct msg_exit *notice = (struct msg_exit *)(void *)*msg;
        if (notice->crash_msg)
            msg_destroy(worker, &notice->crash_msg);
        for (struct msg *next; notice->undelivered; notice->undelivered = next) {
            next = notice->undelivered->next;
            msg_destroy(worker, &notice->undelivered);
        }
        return OK;
    }
    if ((*msg)->kind == MSG_NUMBER) { /* somebody's child */
        struct actor_id child = ((struct churn_note *)(void *)*msg)->child;
        send_kind(worker, child, MSG_NUMBER);
        send_kind(worker, child, MSG_GO);
        actor_kill(worker, child, ERR_CANCELLED);
        return OK;
    }
    struct actor_options options = {.supervisor = context->self};
    struct churn_note *note = MSG_CREATE(worker, struct churn_note, MSG_NUMBER, MSG_CONTROL);
    if (!note || actor_spawn(worker, &child_type, NULL, &options, &note->child) != OK)
        return ERR_NO_MEMORY;
    if (churner->rounds % 3 == 0)
        send_kind(worker, note->child, MSG_NUMBER);
    struct msg *out = &note->msg;
    uint32_t to = (worker_index(worker) + 1 + churner->rounds % (CHURN_WORKERS - 1)) % CHURN_WORKERS;
    if (actor_send(worker, churn_ids[to], &out) != OK)
        return ERR_ACTOR_GONE;
    if (++churner->rounds < CHURN_ROUNDS)
        return actor_send(worker, context->self, msg);
    finish_one();
    return OK;
}
static const struct actor_type churn_type = {"churn", on_churn, NULL, 0, true};

static enum err start_churn(struct worker *worker, void *user, struct error *error)
{
    (void)user, (void)error;
    uint32_t index = worker_index(worker);
    enum err code = actor_spawn(worker, &churn_type, &churners[index], NULL, &churn_ids[index]);
    if (code == OK)
        send_kind(worker, churn_ids[index], MSG_GO);
    return code;
}

static void spawns_messages_and_kills_that_cross_workers_lose_nothing(void **state)
{
    (void)state;
    memset(churners, 0, sizeof churners);
    run_to_end(&(struct runtime_options){.worker_count = CHURN_WORKERS, .on_start = start_churn}, CHURN_WORKERS);
    struct worker_stats stats = total_stats();
    assert_int_equal(stats.spawned, CHURN_WORKERS + CHURN_WORKERS * CHURN_ROUNDS);
    assert_int_equal(stats.ended, stats.spawned);
    assert_true(stats.crashes > 0);
    assert_nothing_lost_and_destroy();
}

/* ---- other threads ------------------------------------------------------------------------------------------------------ */

/* As the journal's thread: requests come to it through an inbox of its own, and go back in chains. */
enum { SERVICE_REQUESTS = 3000 };
static struct inbox service_inbox;
static struct event_count service_event;
static ATOMIC(bool) service_is_done;

static void *service_main(void *argument)
{
    (void)argument;
    for (;;) {
        uint32_t seen = event_count_prepare(&service_event);
        struct msg *first = msg_chain_reverse(inbox_take(&service_inbox));
        if (first) {
            struct msg *last = first;
            while (last->next)
                last = last->next;
            worker_deliver(runtime_worker(runtime, 1), first, last);
        } else if (atomic_load_acquire(&service_is_done)) {
            return NULL;
        } else {
            (void)event_count_wait(&service_event, seen, UINT64_MAX);
        }
    }
}

struct client {
    uint32_t asked, answered;
    uint32_t violations;
};

static enum err on_client(struct actor_context *context, struct msg **msg)
{
    struct client *client = context->state;
    if ((*msg)->kind == MSG_NUMBER && ((struct number *)(void *)*msg)->value != client->answered++)
        client->violations++;
    if (client->answered == SERVICE_REQUESTS) {
        finish_one();
        return OK;
    }
    for (int i = 0; i < 3 && client->asked < SERVICE_REQUESTS; i++) {
        struct number *request = MSG_CREATE(context->worker, struct number, MSG_NUMBER, MSG_URGENT | MSG_CONTROL);
        request->value = client->asked++;
        request->msg.to = context->self;
        (void)inbox_push(&service_inbox, &request->msg, &request->msg);
        event_count_notify(&service_event);
    }
    return OK;
}
static const struct actor_type client_type = {"client", on_client, NULL, 0, false};

static enum err start_client(struct worker *worker, void *user, struct error *error)
{
    (void)error;
    if (worker_index(worker) != 0)
        return OK;
    struct actor_id id;
    enum err code = actor_spawn(worker, &client_type, user, NULL, &id);
    if (code == OK)
        send_kind(worker, id, MSG_GO);
    return code;
}

static void a_thread_without_a_ring_answers_in_order(void **state)
{
    (void)state;
    struct client client = {0};
    atomic_store_relaxed(&finished, 0);
    finished_goal = 1;
    struct runtime_options options = {.worker_count = 2, .on_start = start_client, .user = &client};
    assert_int_equal(runtime_create(&options, &runtime, NULL), OK);
    atomic_store_relaxed(&service_is_done, false);
    pthread_t service;
    assert_int_equal(pthread_create(&service, NULL, service_main, NULL), 0);
    assert_int_equal(runtime_start(runtime, NULL), OK);
    runtime_join(runtime);
    atomic_store_release(&service_is_done, true);
    event_count_notify(&service_event);
    pthread_join(service, NULL);
    assert_int_equal(client.answered, SERVICE_REQUESTS);
    assert_int_equal(client.violations, 0);
    assert_nothing_lost_and_destroy();
}

struct stop_task {
    struct worker_task task;
    uint32_t *runs;
};
static void run_stop(struct worker *worker, struct worker_task *task)
{
    ++*container_of(task, struct stop_task, task)->runs;
    runtime_stop(worker_runtime(worker));
}

static void a_task_posted_from_outside_wakes_its_worker(void **state)
{
    (void)state;
    uint32_t runs = 0;
    struct stop_task task = {.task.run = run_stop, .runs = &runs};
    assert_int_equal(runtime_create(&(struct runtime_options){.worker_count = 2}, &runtime, NULL), OK);
    assert_int_equal(runtime_start(runtime, NULL), OK);
    worker_post(runtime_worker(runtime, 1), &task.task);
    runtime_join(runtime);
    assert_int_equal(runs, 1);
    runtime_destroy(runtime);
}

/* ---- start, end --------------------------------------------------------------------------------------------------------- */

static ATOMIC(uint32_t) stops;
static enum err start_but_one(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    if (worker_index(worker) == 2)
        return error_set(error, ERR_SYSTEM, "no such thing");
    return OK;
}
static void count_stop(struct worker *worker, void *user)
{
    (void)worker, (void)user;
    atomic_add_relaxed(&stops, 1);
}

static void a_start_that_fails_names_the_worker_and_stops_the_others(void **state)
{
    (void)state;
    atomic_store_relaxed(&stops, 0);
    struct error error = {0};
    struct runtime_options options = {.worker_count = 4, .on_start = start_but_one, .on_stop = count_stop};
    assert_int_equal(runtime_create(&options, &runtime, &error), OK);
    assert_int_equal(runtime_start(runtime, &error), ERR_SYSTEM);
    assert_string_equal(error.text, "start worker 2: no such thing");
    assert_int_equal(atomic_load_relaxed(&stops), 4); /* on_stop also where on_start failed half way */
    runtime_destroy(runtime);
}

static void too_many_workers_are_refused(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(runtime_create(&(struct runtime_options){.worker_count = 65}, &runtime, &error), ERR_INVALID);
    assert_true(strlen(error.text) > 0);
    runtime_destroy(NULL);
}

static void a_runtime_that_runs_may_be_destroyed(void **state)
{
    (void)state;
    struct client client = {0};
    struct runtime_options options = {.worker_count = 2, .on_start = start_client, .user = &client};
    assert_int_equal(runtime_create(&options, &runtime, NULL), OK);
    assert_int_equal(runtime_start(runtime, NULL), OK);
    runtime_destroy(runtime);
    (void)inbox_take(&service_inbox); /* requests that nobody served: their pool is gone */
    assert_int_equal(runtime_create(&options, &runtime, NULL), OK);
    runtime_destroy(runtime); /* and one that never ran */
}

/* ---- time --------------------------------------------------------------------------------------------------------------- */

static enum err exit_reason;
static enum err on_slow(struct actor_context *context, struct msg **msg)
{
    (void)context, (void)msg;
    for (uint64_t began_ns = clock_mono_ns(); clock_mono_ns() - began_ns < 400000000;)
        cpu_pause();
    return OK;
}
static void on_slow_exit(struct actor_context *context, enum err reason)
{
    (void)context;
    exit_reason = reason;
    finish_one();
}
static const struct actor_type slow_type = {"slow_one", on_slow, on_slow_exit, 0, false};

static enum err start_slow(struct worker *worker, void *user, struct error *error)
{
    (void)user, (void)error;
    if (worker_index(worker) != 0)
        return OK;
    struct actor_id id;
    enum err code = actor_spawn(worker, &slow_type, NULL, NULL, &id);
    if (code == OK)
        send_kind(worker, id, MSG_GO);
    return code;
}

static void a_handler_over_its_budget_is_a_crash_once_it_returns(void **state)
{
    (void)state;
    exit_reason = OK;
    run_to_end(&(struct runtime_options){.worker_count = 1, .handler_ns_max = 20000000, .on_start = start_slow}, 1);
    assert_int_equal(exit_reason, ERR_BUDGET);
    assert_nothing_lost_and_destroy();
}

/* The child's runtime must abort and say which worker, which actor type, how long. */
static void a_handler_that_does_not_return_stops_the_process(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        struct runtime_options options = {.worker_count = 2, .watchdog_ns = 100000000, .on_start = start_slow};
        if (runtime_create(&options, &runtime, NULL) == OK && runtime_start(runtime, NULL) == OK)
            runtime_join(runtime);
        _exit(0);
    }
    close(pipe_fds[1]);
    char text[4096];
    size_t size = 0;
    for (ssize_t got; size < sizeof text - 1 && (got = read(pipe_fds[0], text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)got;
    text[size] = 0;
    close(pipe_fds[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(
        strstr(text, "\"event\":\"worker_stalled\",\"worker\":0,\"actor_type\":\"slow_one\",\"stalled_ms\":1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(the_order_of_each_sender_survives_donations),
        cmocka_unit_test(actors_whose_messages_are_cheap_stay_where_they_are),
        cmocka_unit_test(one_may_send_to_an_actor_that_is_on_its_way_to_him),
        cmocka_unit_test(an_id_that_nobody_gave_may_be_looked_up_while_slots_are_made),
        cmocka_unit_test(spawns_messages_and_kills_that_cross_workers_lose_nothing),
        cmocka_unit_test(a_thread_without_a_ring_answers_in_order),
        cmocka_unit_test(a_task_posted_from_outside_wakes_its_worker),
        cmocka_unit_test(a_start_that_fails_names_the_worker_and_stops_the_others),
        cmocka_unit_test(too_many_workers_are_refused),
        cmocka_unit_test(a_runtime_that_runs_may_be_destroyed),
        cmocka_unit_test(a_handler_over_its_budget_is_a_crash_once_it_returns),
        cmocka_unit_test(a_handler_that_does_not_return_stops_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
