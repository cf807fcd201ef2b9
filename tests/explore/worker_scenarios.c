/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's workers: two or three of them, each on a thread of the schedule, with the product's own loop. Only the ring
 * beneath them is the explorer's. */
#include <string.h>

#include "runtime/worker_internal.h"
#include "tests/explore/scenario.h"
#include "tests/explore/world.h"

enum { WORKERS = 3, SENDERS = 4, CRASH = 99 };
enum { MSG_NOTE = MSG_KIND_TEST, MSG_GO };

struct note {
    struct msg msg;
    uint32_t sender, value;
};

struct life {
    uint32_t expected[SENDERS];
    uint32_t received;
    bool is_running;
};

static struct {
    struct runtime *runtime;
    struct worker *workers[WORKERS];
    struct actor_id id;
    struct life life;
    struct worker_task tasks[2];
    uint32_t task_value[2];
    uint32_t tasks_run;
    /* the worker's */
    uint32_t dropped[WORKERS], refused[WORKERS];
} s;

static void on_drop(struct worker *worker, struct msg *msg)
{
    s.dropped[worker->index] += msg->kind == MSG_NOTE;
}

static void begin(uint32_t worker_count)
{
    world_reset(&(struct model_bounds){.stale = 1});
    memset(&s, 0, sizeof s);
    struct runtime_options options = {.worker_count = worker_count, .on_drop = on_drop};
    SCHEDULE_CHECK(runtime_create(&options, &s.runtime, NULL) == OK);
    for (uint32_t i = 0; i < worker_count; i++) {
        s.workers[i] = runtime_worker(s.runtime, i);
        SCHEDULE_CHECK(worker_start(s.workers[i], NULL) == OK);
    }
}

/* From here on each worker is its thread's alone. */
static void share(void)
{
    s.runtime->is_threaded = true;
    s.runtime->thread_count = 1; /* no matter which: they are never joined */
}

static void *run_worker(void *worker)
{
    worker_current_ = worker;
    worker_run(worker);
    return NULL;
}

/* What a worker that is only these few lines does at the border of its turn. */
static void *end_turn(struct worker *worker)
{
    lane_wake_due(worker);
    return NULL;
}

static uint32_t sum(const uint32_t *counts)
{
    return counts[0] + counts[1] + counts[2];
}

/* ---- an actor that checks the order of each sender, and that it runs on one worker at a time ------------------------------------ */

static enum err on_note(struct actor_context *context, struct msg **msg)
{
    struct life *life = context->state;
    struct note *note = (struct note *)(void *)*msg;
    if (note->value == CRASH)
        return ERR_CRASHED;
    SCHEDULE_CHECK(!life->is_running);
    life->is_running = true;
    SCHEDULE_CHECK(note->value == life->expected[note->sender]++);
    life->received++;
    life->is_running = false;
    return OK;
}
static const struct actor_type note_type = {"note", on_note, NULL, 0, false};

static void spawn_receiver(struct worker *worker)
{
    SCHEDULE_CHECK(actor_spawn(worker, &note_type, &s.life, NULL, &s.id) == OK);
}

static void send(struct worker *worker, uint32_t sender, uint32_t value)
{
    struct note *note = MSG_CREATE(worker, struct note, MSG_NOTE, MSG_CONTROL);
    note->sender = sender;
    note->value = value;
    struct msg *msg = &note->msg;
    if (actor_send(worker, s.id, &msg) != OK) {
        s.refused[worker->index]++;
        msg_destroy(worker, &msg);
    }
}

static void *send_two(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    send(worker, worker->index, 0);
    send(worker, worker->index, 1);
    return end_turn(worker);
}

static void *send_one(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    send(worker, worker->index, 0);
    return end_turn(worker);
}

static void begin_messages(void)
{
    begin(2);
    spawn_receiver(s.workers[0]);
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(send_two, s.workers[1]);
}

static void end_messages(void)
{
    SCHEDULE_CHECK(s.life.received == 2);
}

static void begin_two_senders(void)
{
    begin(3);
    spawn_receiver(s.workers[0]);
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(send_one, s.workers[1]);
    schedule_spawn(send_one, s.workers[2]);
}

/* ---- tasks from a thread that is no worker ------------------------------------------------------------------------------------ */

static void run_task(struct worker *worker, struct worker_task *task)
{
    (void)worker;
    uint32_t index = (uint32_t)(task - s.tasks);
    SCHEDULE_CHECK(s.task_value[index] == 7);
    s.tasks_run++;
}

static void *post_two(void *worker)
{
    for (int i = 0; i < 2; i++) {
        s.tasks[i].run = run_task;
        s.task_value[i] = 7;
        worker_post(worker, &s.tasks[i]);
    }
    return NULL;
}

static void begin_tasks(void)
{
    begin(1);
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(post_two, s.workers[0]);
}

static void end_tasks(void)
{
    SCHEDULE_CHECK(s.tasks_run == 2);
}

/* As the journal answers: a chain of messages, by a thread that is no worker. */
static struct note *answers[2];

static void *answer(void *worker)
{
    for (uint32_t i = 0; i < 2; i++) {
        answers[i]->sender = 0;
        answers[i]->value = i;
    }
    answers[0]->msg.next = &answers[1]->msg;
    worker_deliver(worker, &answers[0]->msg, &answers[1]->msg);
    return NULL;
}

static void begin_answers(void)
{
    begin(2);
    spawn_receiver(s.workers[0]);
    for (uint32_t i = 0; i < 2; i++) {
        answers[i] = MSG_CREATE(s.workers[0], struct note, MSG_NOTE, MSG_CONTROL);
        answers[i]->msg.to = s.id;
    }
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(answer, s.workers[0]);
    schedule_spawn(send_one, s.workers[1]);
}

static void end_answers(void)
{
    SCHEDULE_CHECK(s.life.received == 3);
}

static void *stop_runtime(void *unused)
{
    (void)unused;
    runtime_stop(s.runtime);
    return NULL;
}

static void begin_stop(void)
{
    begin(1);
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(stop_runtime, NULL);
    schedule_spawn(stop_runtime, NULL);
}

static void end_stop(void)
{
    SCHEDULE_CHECK(*schedule_finished_flag(0));
}

/* ---- start, run, end: all threads of a runtime ------------------------------------------------------------------------------ */

static uint32_t on_start_value[2];

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user, (void)error;
    on_start_value[worker->index] = 7;
    return OK;
}

/* Both workers' on_start have answered before one of them runs it. */
static void look_and_stop(struct worker *worker, struct worker_task *task)
{
    (void)task;
    SCHEDULE_CHECK(on_start_value[0] == 7 && on_start_value[1] == 7);
    runtime_stop(worker->runtime);
}

static void *start_and_join(void *unused)
{
    (void)unused;
    SCHEDULE_CHECK(runtime_start(s.runtime, NULL) == OK);
    SCHEDULE_CHECK(on_start_value[0] == 7 && on_start_value[1] == 7);
    runtime_join(s.runtime);
    runtime_end(s.runtime); /* what destroy does beyond it is memory */
    return NULL;
}

static void begin_start(void)
{
    world_reset(&(struct model_bounds){.stale = 2});
    memset(&s, 0, sizeof s);
    memset(on_start_value, 0, sizeof on_start_value);
    struct runtime_options options = {.worker_count = 2, .on_start = on_start};
    SCHEDULE_CHECK(runtime_create(&options, &s.runtime, NULL) == OK);
    s.tasks[0].run = look_and_stop; /* posted before the start: the gate alone orders it after the other's on_start */
    worker_post(runtime_worker(s.runtime, 1), &s.tasks[0]);
    schedule_spawn(start_and_join, NULL);
}

static void end_start(void)
{
    for (uint32_t thread = 0; thread < 4; thread++) /* the caller, two workers, the watchdog */
        SCHEDULE_CHECK(*schedule_finished_flag(thread));
}

/* ---- donation ---------------------------------------------------------------------------------------------------------------- */

static struct actor *receiver(void)
{
    return slab_find(s.runtime, s.id.slot);
}

/* The receiver stands in worker 0's run queue; it gives it away. */
static void *give_away(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    struct actor *actor = container_of(msg_list_pop(&worker->run_queue.list), struct actor, link);
    worker->run_queue.count--;
    donation_move(worker, actor, s.workers[1]);
    return end_turn(worker);
}

static void *give_away_and_send(void *worker)
{
    (void)give_away(worker);
    send(worker, 0, 1);
    return end_turn(worker);
}

static void begin_queued(uint32_t worker_count)
{
    begin(worker_count);
    spawn_receiver(s.workers[0]);
    send(s.workers[0], 0, 0);
    share();
}

static void *send_and_run(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    send(worker, 1, 0); /* far away, on its way here, or here already */
    worker_run(worker);
    return end_turn(worker);
}

static void begin_donation(void)
{
    begin_queued(2);
    schedule_spawn(give_away_and_send, s.workers[0]);
    schedule_spawn(send_and_run, s.workers[1]);
}

static void end_donation(void)
{
    SCHEDULE_CHECK(s.life.received == 3);
    SCHEDULE_CHECK(receiver()->state == ACTOR_PARKED && receiver()->home == 1);
}

static void begin_donation_among_sends(void)
{
    begin_queued(3);
    schedule_spawn(give_away_and_send, s.workers[0]);
    schedule_spawn(run_worker, s.workers[1]);
    schedule_spawn(send_one, s.workers[2]);
}

/* A sender that moves: its first message is pushed from worker 2, its second one is sent where the receiver is or will be. */
static void run_moved_sender(struct worker *worker, struct worker_task *task)
{
    (void)task;
    send(worker, 2, 1);
}

static void *send_and_move(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    send(worker, 2, 0);
    s.tasks[0].run = run_moved_sender;
    worker_post(s.workers[1], &s.tasks[0]);
    return end_turn(worker);
}

static void begin_moving_sender(void)
{
    begin_queued(3);
    schedule_spawn(give_away, s.workers[0]);
    schedule_spawn(run_worker, s.workers[1]);
    schedule_spawn(send_and_move, s.workers[2]);
}

/* Two workers have too much, one asks. */
enum { CROWD = 4 };
static struct life crowd[2 * CROWD];

static void crowd_worker(struct worker *worker, struct life *lives)
{
    for (uint32_t i = 0; i < CROWD; i++) {
        lives[i] = (struct life){0};
        SCHEDULE_CHECK(actor_spawn(worker, &note_type, &lives[i], NULL, &s.id) == OK);
        send(worker, 0, 0);
    }
    worker->backlog_turns = 1000;
    worker->message_ns = 1000000000; /* slow ones: worth a move */
}

static void *give(void *worker)
{
    worker_current_ = worker;
    donation_give(worker);
    return end_turn(worker);
}

static void *ask_and_withdraw(void *worker)
{
    worker_current_ = worker;
    donation_ask(worker);
    donation_withdraw(worker);
    return end_turn(worker);
}

static void begin_claim(void)
{
    begin(3);
    crowd_worker(s.workers[0], crowd);
    crowd_worker(s.workers[2], crowd + CROWD);
    share();
    schedule_spawn(give, s.workers[0]);
    schedule_spawn(ask_and_withdraw, s.workers[1]);
    schedule_spawn(give, s.workers[2]);
}

static void end_claim(void)
{
    worker_current_ = s.workers[1];
    (void)lane_drain(s.workers[1]);
    worker_current_ = NULL;
    const uint32_t given = s.workers[1]->run_queue.count;
    SCHEDULE_CHECK(given == 0 || given == CROWD / 2); /* by one of them */
    SCHEDULE_CHECK(given + s.workers[0]->run_queue.count + s.workers[2]->run_queue.count == 2 * CROWD);
}

/* ---- many actors that move while they talk: large ------------------------------------------------------------------------------- */

enum { TALKERS = 2, LISTENERS = 4, TALKS = 3 };

struct talker {
    uint32_t index, said;
};
static struct talker talkers[TALKERS];
static struct life listeners[LISTENERS];
static struct actor_id listener_ids[LISTENERS];

/* Short turns, and at the end of each it is time to give: more borders where an actor can move. */
static void hurry(struct worker *worker)
{
    worker->turn_messages_max = 4;
    worker->backlog_turns = 1000;
    worker->message_ns = 1000000000;
}

/* Says one thing to each listener, then goes on in its next run. */
static enum err on_talk(struct actor_context *context, struct msg **msg)
{
    struct talker *talker = context->state;
    hurry(context->worker);
    for (uint32_t i = 0; i < LISTENERS; i++) {
        struct note *note = MSG_CREATE(context->worker, struct note, MSG_NOTE, MSG_CONTROL);
        note->sender = talker->index;
        note->value = talker->said;
        struct msg *out = &note->msg;
        SCHEDULE_CHECK(actor_send(context->worker, listener_ids[i], &out) == OK);
    }
    return ++talker->said < TALKS ? actor_send(context->worker, context->self, msg) : OK;
}
static const struct actor_type talker_type = {"talker", on_talk, NULL, 0, false};

static void begin_crowd(void)
{
    world_reset(&(struct model_bounds){.stale = 4, .spurious = 2});
    memset(&s, 0, sizeof s);
    memset(listeners, 0, sizeof listeners);
    struct runtime_options options = {.worker_count = WORKERS};
    SCHEDULE_CHECK(runtime_create(&options, &s.runtime, NULL) == OK);
    for (uint32_t i = 0; i < WORKERS; i++) {
        s.workers[i] = runtime_worker(s.runtime, i);
        SCHEDULE_CHECK(worker_start(s.workers[i], NULL) == OK);
    }
    for (uint32_t i = 0; i < LISTENERS; i++)
        SCHEDULE_CHECK(actor_spawn(s.workers[0], &note_type, &listeners[i], NULL, &listener_ids[i]) == OK);
    for (uint32_t i = 0; i < TALKERS; i++) {
        talkers[i] = (struct talker){.index = i};
        struct actor_id id;
        struct msg *go = msg_create(s.workers[0], MSG_GO, 0, sizeof(struct msg));
        SCHEDULE_CHECK(actor_spawn(s.workers[0], &talker_type, &talkers[i], NULL, &id) == OK);
        SCHEDULE_CHECK(actor_send(s.workers[0], id, &go) == OK);
    }
    share();
    for (uint32_t i = 0; i < WORKERS; i++)
        schedule_spawn(run_worker, s.workers[i]);
}

static void end_crowd(void)
{
    for (uint32_t i = 0; i < LISTENERS; i++)
        SCHEDULE_CHECK(listeners[i].received == TALKERS * TALKS);
}

/* ---- slots and blocks come home ---------------------------------------------------------------------------------------------- */

static struct life second_life;

static void spawn_in_the_slot(struct worker *worker, struct worker_task *task)
{
    (void)task;
    uint32_t slot = s.id.slot;
    SCHEDULE_CHECK(actor_spawn(worker, &note_type, &second_life, NULL, &s.id) == OK);
    SCHEDULE_CHECK(s.id.slot == slot);
}

static void *end_abroad(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    actor_end(worker, receiver(), OK, NULL);
    s.tasks[0].run = spawn_in_the_slot;
    worker_post(s.workers[0], &s.tasks[0]);
    return end_turn(worker);
}

static void begin_slot(void)
{
    begin(2);
    second_life = (struct life){0};
    spawn_receiver(s.workers[0]);
    atomic_store_relaxed(&receiver()->home, 1);
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(end_abroad, s.workers[1]);
}

static void end_slot(void)
{
    SCHEDULE_CHECK(s.id.generation == 2);
}

static struct msg *block;

static void use_the_block(struct worker *worker, struct worker_task *task)
{
    (void)task;
    struct note *note = MSG_CREATE(worker, struct note, MSG_NOTE, 0);
    SCHEDULE_CHECK(&note->msg == block);
    note->value = 3;
}

static void *free_abroad(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    ((struct note *)(void *)block)->value = 2;
    struct msg *msg = block;
    msg_destroy(worker, &msg);
    msg_flush_foreign(worker);
    s.tasks[0].run = use_the_block;
    worker_post(s.workers[0], &s.tasks[0]);
    return end_turn(worker);
}

static void begin_block(void)
{
    begin(2);
    block = &MSG_CREATE(s.workers[0], struct note, MSG_NOTE, 0)->msg;
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(free_abroad, s.workers[1]);
}

static void end_block(void)
{
    SCHEDULE_CHECK(((struct note *)(void *)block)->value == 3);
}

/* ---- ids that are old, or nobody's yet ---------------------------------------------------------------------------------------- */

static enum err on_exit_notice(struct actor_context *context, struct msg **msg)
{
    struct msg_exit *notice = (struct msg_exit *)(void *)*msg;
    uint32_t *undelivered = context->state;
    msg_destroy(context->worker, &notice->crash_msg);
    for (struct msg *next; notice->undelivered; notice->undelivered = next) {
        next = notice->undelivered->next;
        msg_destroy(context->worker, &notice->undelivered);
        ++*undelivered;
    }
    struct actor_id id;
    SCHEDULE_CHECK(actor_spawn(context->worker, &note_type, &second_life, NULL, &id) == OK);
    SCHEDULE_CHECK(id.slot == s.id.slot && id.generation == s.id.generation + 1);
    return OK;
}
static const struct actor_type supervisor_type = {"supervisor", on_exit_notice, NULL, 0, true};
static uint32_t undelivered;

static void begin_old_id(void)
{
    begin(2);
    second_life = (struct life){0};
    undelivered = 0;
    struct actor_options options = {0};
    SCHEDULE_CHECK(actor_spawn(s.workers[0], &supervisor_type, &undelivered, NULL, &options.supervisor) == OK);
    SCHEDULE_CHECK(actor_spawn(s.workers[0], &note_type, &s.life, &options, &s.id) == OK);
    send(s.workers[0], 0, CRASH);
    share();
    schedule_spawn(run_worker, s.workers[0]);
    schedule_spawn(send_two, s.workers[1]);
}

static void end_old_id(void)
{
    SCHEDULE_CHECK(second_life.received == 0);
    SCHEDULE_CHECK(s.life.received + undelivered + sum(s.dropped) + sum(s.refused) == 2);
}

static void *spawn_first(void *worker_)
{
    struct worker *worker = worker_current_ = worker_;
    struct actor_id id;
    SCHEDULE_CHECK(actor_spawn(worker, &note_type, &s.life, NULL, &id) == OK);
    return end_turn(worker);
}

static void begin_guessed_id(void)
{
    begin(2);
    s.id = (struct actor_id){.slot = 0, .generation = 5};
    share();
    schedule_spawn(spawn_first, s.workers[0]);
    schedule_spawn(send_one, s.workers[1]);
}

static void end_guessed_id(void)
{
    SCHEDULE_CHECK(s.refused[1] == 1);
}

const struct scenario worker_scenarios[] = {
    {"worker_messages", {begin_messages, end_messages}, false},
    {"worker_two_senders", {begin_two_senders, end_messages}, false},
    {"worker_tasks", {begin_tasks, end_tasks}, false},
    {"worker_answers", {begin_answers, end_answers}, false},
    {"worker_stop", {begin_stop, end_stop}, false},
    {"worker_start", {begin_start, end_start}, true},
    {"worker_donation", {begin_donation, end_donation}, false},
    {"worker_donation_among_sends", {begin_donation_among_sends, end_donation}, false},
    {"worker_moving_sender", {begin_moving_sender, end_donation}, false},
    {"worker_crowd", {begin_crowd, end_crowd}, true},
    {"worker_claim", {begin_claim, end_claim}, false},
    {"worker_slot_comes_home", {begin_slot, end_slot}, false},
    {"worker_block_comes_home", {begin_block, end_block}, false},
    {"worker_old_id", {begin_old_id, end_old_id}, false},
    {"worker_guessed_id", {begin_guessed_id, end_guessed_id}, false},
};
const size_t worker_scenario_count = sizeof worker_scenarios / sizeof worker_scenarios[0];
