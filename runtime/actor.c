/* SPDX-License-Identifier: Apache-2.0 */
/* actor: spawn, send, run, end.
 *
 * A message to an actor of the same worker goes straight to its private list. One to another worker's is chained with others
 * that the running actor sends to the same receiver, and pushed to the receiver's own inbox, not through a lane of workers:
 * what lies in the actor moves with it, so that its order survives a donation.
 *
 * An actor that ran dry lingers: its inbox stays unparked until the end of the turn. Two actors that talk to each other on one
 * worker thus need no atomic read-modify-write a message; parking and unparking them each time would cost two.
 */
#include "runtime/clock.h"
#include "runtime/planted.h"
#include "runtime/worker_internal.h"

enum {
    QUANTUM_NS = 50 * 1000,
    TURN_NS = 200 * 1000, /* then the ring gets its chance */
    CLOCK_STEP_MAX = 32,  /* a look costs as much as two fast messages */
    CLOCK_STEP_NS = 5 * 1000,
};

static struct actor *actor_of(struct msg *link)
{
    return container_of(link, struct actor, link);
}

/* ---- sending ---------------------------------------------------------------------------------------------------------- */

static inline void make_runnable(struct worker *worker, struct actor *actor)
{
    ASSERT_SLOW(actor->state == ACTOR_PARKED || actor->state == ACTOR_LINGERING || actor->state == ACTOR_RUNNING);
    actor->state = ACTOR_QUEUED;
    msg_list_append(&worker->run_queue.list, &actor->link);
    worker->run_queue.count++;
}

void actor_make_runnable(struct worker *worker, struct actor *actor)
{
    make_runnable(worker, actor);
}

/* send_local, send_behind and send_remote stand apart, not inline: a message to a receiver of the same worker that is busy or
 * lingers calls nothing on its way, and needs few registers. */
static __attribute__((noinline)) void send_local(struct worker *worker, struct actor *actor, struct msg *msg)
{
    /* Parked in the state but not in the word: its activation is in our lane, and it is queued when that comes. */
    if (mailbox_append(&actor->mailbox, msg) || actor->state == ACTOR_LINGERING)
        make_runnable(worker, actor);
}

static void push(struct worker *worker, struct actor *actor, const struct outgoing *chain)
{
    switch (mailbox_push(&actor->mailbox, chain->newest, chain->oldest, chain->counted)) {
    case INBOX_PUSHED: break;
    case INBOX_UNPARKED:
        if (PLANTED(DROPPED_WAKE_UP))
            break;
        /* Parked, so it cannot move before we activate it: its home is what it was when it parked, as the push acquired. */
        actor->link.kind = LANE_ACTIVATE;
        lane_push(worker, worker->runtime->workers[atomic_load_relaxed(&actor->home)], &actor->link, &actor->link);
        break;
    case INBOX_REFUSED: /* ended since the sender looked */
        chain->oldest->next = NULL;
        msg_drop_chain(worker, chain->newest);
        break;
    }
}

static void push_outgoing(struct worker *worker)
{
    struct outgoing chain = worker->outgoing;
    worker->outgoing = (struct outgoing){0};
    push(worker, chain.actor, &chain);
}

static inline void flush_outgoing(struct worker *worker)
{
    if (worker->outgoing.actor)
        push_outgoing(worker);
}

static void chain(struct outgoing *outgoing, struct msg *msg)
{
    msg->next = outgoing->newest;
    outgoing->newest = msg;
    outgoing->counted += msg_is_counted(msg);
}

static __attribute__((noinline)) void send_remote(struct worker *worker, struct actor *actor, struct msg *msg,
                                                  uint32_t room)
{
    struct outgoing begun = {.actor = actor, .to = msg->to, .oldest = msg, .room_for = room};
    chain(&begun, msg);
    if (worker->running) {
        flush_outgoing(worker);
        worker->outgoing = begun;
    } else { /* a callback of the ring, a timer, a task: no end of a run to wait for */
        push(worker, actor, &begun);
    }
}

static __attribute__((noinline)) enum err refuse(struct worker *worker)
{
    counter_add(&worker->counters.refusals, 1);
    return ERR_MAILBOX_FULL;
}

/* For other threads a guess, which handle() checks again (I3). */
static bool is_addressed(const struct actor *actor, struct actor_id to)
{
    return atomic_load_relaxed(&actor->generation) == to.generation;
}

/* Behind what is chained already, even if the receiver has been donated to us meanwhile. */
static __attribute__((noinline)) enum err send_behind(struct worker *worker, struct actor_id to, struct msg **msg_)
{
    struct outgoing *outgoing = &worker->outgoing;
    struct msg *msg = *msg_;
    if (msg_is_counted(msg) && outgoing->counted >= outgoing->room_for)
        return refuse(worker);
    *msg_ = NULL;
    msg->to = to;
    chain(outgoing, msg);
    return OK;
}

enum err actor_send(struct worker *worker, struct actor_id to, struct msg **msg_)
{
    ASSERT_CURRENT(worker);
    if (worker->outgoing.actor && actor_id_is_equal(worker->outgoing.to, to))
        return send_behind(worker, to, msg_);

    struct msg *msg = *msg_;
    struct actor *actor = slab_find(worker->runtime, to.slot);
    if (!actor || !is_addressed(actor, to))
        return ERR_ACTOR_GONE;
    uint32_t room = mailbox_room(&actor->mailbox);
    if (msg_is_counted(msg) && room == 0)
        return refuse(worker);
    *msg_ = NULL;
    msg->to = to;
    if (atomic_load_acquire(&actor->home) != worker->index)
        send_remote(worker, actor, msg, room);
    else if (!mailbox_try_append(&actor->mailbox, msg))
        send_local(worker, actor, msg);
    else if (actor->state == ACTOR_LINGERING)
        make_runnable(worker, actor);
    return OK;
}

void actor_deliver(struct worker *worker, struct msg *msg)
{
    if (actor_id_is_none(msg->to) || actor_send(worker, msg->to, &msg) != OK)
        msg_drop(worker, msg);
}

/* ---- sending later ---------------------------------------------------------------------------------------------------- */

struct delayed_send {
    struct timer timer;
    struct msg *msg;
    struct delayed_send *next, **previous_next; /* worker.delayed */
};

static struct msg *delayed_take(struct worker *worker, struct delayed_send *delayed)
{
    struct msg *msg = delayed->msg;
    *delayed->previous_next = delayed->next;
    if (delayed->next)
        delayed->next->previous_next = delayed->previous_next;
    pool_release(&worker->pool, delayed, sizeof *delayed);
    return msg;
}

static void on_delayed(struct worker *worker, struct timer *timer)
{
    actor_deliver(worker, delayed_take(worker, container_of(timer, struct delayed_send, timer)));
}

void actor_send_after(struct worker *worker, struct actor_id to, struct msg **msg, uint64_t delay_ns)
{
    ASSERT_CURRENT(worker);
    /* Uncapped: at most one for each message, and messages are capped. */
    struct delayed_send *delayed = pool_acquire(&worker->pool, sizeof *delayed, ACCOUNT_UNCAPPED);
    ASSERT(delayed);
    *delayed = (struct delayed_send){.timer.on_fire = on_delayed, .msg = *msg, .next = worker->delayed};
    *msg = NULL;
    delayed->msg->to = to;
    delayed->previous_next = &worker->delayed;
    if (delayed->next)
        delayed->next->previous_next = &delayed->next;
    worker->delayed = delayed;

    uint64_t now_ns = clock_mono_ns(); /* not the turn's: a delay is never shortened by the time the turn has used */
    timer_start(worker, &delayed->timer, delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX);
}

void actor_drop_delayed(struct worker *worker)
{
    while (worker->delayed) {
        struct delayed_send *delayed = worker->delayed;
        timer_cancel(worker, &delayed->timer);
        msg_drop(worker, delayed_take(worker, delayed));
    }
}

/* ---- birth and end ---------------------------------------------------------------------------------------------------- */

enum err actor_spawn(struct worker *worker, const struct actor_type *type, void *state,
                     const struct actor_options *options, struct actor_id *ret_id)
{
    ASSERT_CURRENT(worker);
    if (worker->is_ending)
        return ERR_SHUTDOWN;
    struct actor *actor;
    enum err code = slab_acquire(worker, &actor);
    if (code != OK)
        return code;
    ASSERT_SLOW(actor->state == ACTOR_FREE);
    atomic_store_relaxed(&actor->home, (uint8_t)worker->index);
    actor->state = ACTOR_PARKED;
    actor->is_suspended = actor->is_stopping = false;
    actor->pin_count = 0;
    actor->type = type;
    actor->private_state = state;
    actor->supervisor = options ? options->supervisor : (struct actor_id){0};
    actor->child_key = options ? options->child_key : NULL;
    uint32_t count_max = type->mailbox_count_max;
    mailbox_open(&actor->mailbox, count_max ? count_max : worker->runtime->options.mailbox_count_max);
    counter_add(&worker->counters.spawned, 1);
    *ret_id = actor->link.to;
    return OK;
}

void actor_kill(struct worker *worker, struct actor_id id, enum err reason)
{
    struct msg *msg = msg_create_for_end(worker, MSG_STOP, sizeof(struct msg_stop));
    ((struct msg_stop *)(void *)msg)->reason = reason;
    if (actor_send(worker, id, &msg) != OK)
        msg_destroy(worker, &msg); /* it is gone, as was wanted */
}

/* Takes out what is not for the supervisor to see: stops, and messages to an earlier actor of this slot (I3). */
static struct msg *keep_own(struct worker *worker, struct actor *actor, struct msg *chain)
{
    struct msg_list own = {0};
    for (struct msg *next; chain; chain = next) {
        next = chain->next;
        if (chain->kind == MSG_STOP)
            msg_destroy(worker, &chain);
        else if (chain->to.generation != actor->link.to.generation)
            msg_drop(worker, chain);
        else
            msg_list_append(&own, chain);
    }
    return own.first;
}

static void tell_supervisor(struct worker *worker, const struct actor *actor, enum err reason, struct msg *crash_msg,
                            struct msg *undelivered)
{
    struct msg *msg = msg_create_for_end(worker, MSG_EXIT, sizeof(struct msg_exit));
    struct msg_exit *notice = (struct msg_exit *)(void *)msg;
    notice->actor = actor->link.to;
    notice->type = actor->type;
    notice->child_key = actor->child_key;
    notice->reason = reason;
    notice->crash_msg = crash_msg;
    notice->undelivered = undelivered;
    if (actor_send(worker, actor->supervisor, &msg) != OK)
        msg_drop(worker, msg);
}

void actor_end(struct worker *worker, struct actor *actor, enum err reason, struct msg *crash_msg)
{
    /* First nobody finds it any more, so that what on_exit sends to itself or spawns cannot come back to it. */
    uint32_t next_generation = actor->link.to.generation + 1;
    atomic_store_relaxed(&actor->generation, next_generation ? next_generation : 1);
    struct msg *undelivered = keep_own(worker, actor, mailbox_close(&actor->mailbox));
    actor->state = ACTOR_ENDED;
    counter_add(&worker->counters.ended, 1);
    if (reason != OK && !worker->is_ending)
        counter_add(&worker->counters.crashes, 1);

    struct actor_context context = {
        .worker = worker, .self = actor->link.to, .state = actor->private_state, .now_ns = worker->now_ns};
    if (actor->type->on_exit)
        actor->type->on_exit(&context, reason);

    if (worker->is_ending || actor_id_is_none(actor->supervisor)) {
        if (crash_msg)
            msg_drop(worker, crash_msg);
        msg_drop_chain(worker, undelivered);
    } else {
        tell_supervisor(worker, actor, reason, crash_msg, undelivered);
    }
    if (!actor->is_on_lingering && !worker->is_ending)
        slab_release(worker, actor);
}

/* ---- running ---------------------------------------------------------------------------------------------------------- */

/* Looks at the clock every few messages, more seldom the faster they are. Returns: whether it looked. */
static bool look_at_clock(struct worker *worker)
{
    if (--worker->clock_left > 0)
        return false;
    uint64_t now_ns = clock_mono_ns();
    uint64_t elapsed_ns = now_ns - worker->clock_ns;
    if (elapsed_ns > QUANTUM_NS)
        worker->clock_step = 1;
    else if (elapsed_ns < CLOCK_STEP_NS && worker->clock_step < CLOCK_STEP_MAX)
        worker->clock_step *= 2;
    else if (elapsed_ns > 2 * CLOCK_STEP_NS && worker->clock_step > 1)
        worker->clock_step /= 2;
    worker->clock_left = worker->clock_step;
    worker->clock_ns = now_ns;
    return true;
}

/* One message through the handler. Returns: whether the actor still lives. */
static bool handle(struct worker *worker, struct actor *actor, struct actor_context *context, struct msg *msg,
                   uint64_t *tick)
{
    if (msg->to.generation != actor->link.to.generation) { /* I3: to the one who had the slot before */
        msg_drop(worker, msg);
        return true;
    }
    if (msg->kind == MSG_STOP) {
        enum err reason = ((struct msg_stop *)(void *)msg)->reason;
        msg_destroy(worker, &msg);
        actor_end(worker, actor, reason, NULL);
        return false;
    }
    enum err code = actor->type->on_message(context, &msg);
    uint64_t tick_after = watchdog_ticks(worker->runtime);
    if (tick_after != *tick) {
        if (code == OK && tick_after - *tick > worker->runtime->handler_ticks_max)
            code = ERR_BUDGET;
        *tick = tick_after;
    }
    if (code != OK) {
        actor_end(worker, actor, code, msg);
        return false;
    }
    if (msg)
        msg_destroy(worker, &msg);
    if (actor->is_stopping) {
        actor_end(worker, actor, OK, NULL);
        return false;
    }
    return true;
}

/* Handles what was there when the run began, a quantum of it at most. The quantum is time, not a number of messages: with 64
 * of 15 ns each, a hundred senders to one receiver left it so far behind that most of their runs were refusals (measured,
 * docs/RUNTIME.md). Returns: whether the actor still lives; if not, its slot
 * may already be on its way home, and is not ours to look at. */
static bool run_messages(struct worker *worker, struct actor *actor, uint32_t *ret_handled)
{
    struct actor_context context = {
        .worker = worker, .self = actor->link.to, .state = actor->private_state, .now_ns = worker->now_ns};
    uint64_t began_ns = worker->clock_ns;
    uint64_t tick = watchdog_ticks(worker->runtime);
    /* What it sends itself comes after this one, and waits for the next run: nobody keeps the worker for himself. */
    const struct msg *last = actor->mailbox.normal.first ? actor->mailbox.normal.last : NULL;
    bool is_alive = true;
    uint32_t handled = 0;
    struct msg *msg;
    while (is_alive && (msg = mailbox_pop(&actor->mailbox, actor->is_suspended))) {
        bool is_last = msg == last; /* before the handler: it may send the block on */
        handled++;
        is_alive = handle(worker, actor, &context, msg, &tick);
        bool is_over_time = look_at_clock(worker) && worker->clock_ns - began_ns > QUANTUM_NS;
        if (is_last || is_over_time || handled == worker->turn_messages_max)
            break;
    }
    *ret_handled = handled;
    return is_alive;
}

static void linger(struct worker *worker, struct actor *actor)
{
    actor->state = ACTOR_LINGERING;
    if (actor->is_on_lingering)
        return;
    actor->is_on_lingering = true;
    actor->lingering_next = worker->lingering;
    worker->lingering = actor;
}

/* One run of an actor. Returns: messages handled. */
static uint32_t run(struct worker *worker, struct actor *actor)
{
    ASSERT_SLOW(actor->state == ACTOR_QUEUED);
    actor->state = ACTOR_RUNNING;
    worker->running = actor;
    atomic_store_relaxed(&worker->running_type, actor->type);
    counter_add(&worker->progress, 1);

    uint32_t handled;
    mailbox_take(&actor->mailbox);
    bool is_alive = run_messages(worker, actor, &handled);
    flush_outgoing(worker);
    if (is_alive) {
        if (mailbox_is_runnable(&actor->mailbox, actor->is_suspended))
            make_runnable(worker, actor);
        else
            linger(worker, actor);
    }
    return handled;
}

void actor_run_queued(struct worker *worker)
{
    if (worker->run_queue.count == 0)
        return;
    uint64_t began_ns = worker->clock_ns =
        clock_mono_ns(); /* not the turn's: the ring's callbacks have taken their time */
    uint32_t runs = 0, handled = 0;
    struct msg *link;
    while ((link = msg_list_pop(&worker->run_queue.list))) {
        worker->run_queue.count--;
        runs++;
        handled += run(worker, actor_of(link));
        if (runs + handled >= worker->turn_messages_max || worker->clock_ns - began_ns > TURN_NS)
            break;
    }
    worker->running = NULL;
    atomic_store_relaxed(&worker->running_type, NULL);
    counter_add(&worker->counters.runs, runs);
    counter_add(&worker->counters.messages, handled);
    if (worker->clock_ns > began_ns) /* a short turn may not have looked again */
        worker->message_ns = (worker->clock_ns - began_ns) / (runs + handled);
}

static void park(struct worker *worker, struct actor *actor)
{
    actor->state = ACTOR_PARKED;
    while (!mailbox_try_park(&actor->mailbox)) {
        mailbox_take(&actor->mailbox);
        if (mailbox_is_runnable(&actor->mailbox, actor->is_suspended)) {
            actor_make_runnable(worker, actor);
            return;
        }
    }
}

void actor_sweep_lingering(struct worker *worker)
{
    struct actor *actor = worker->lingering;
    worker->lingering = NULL;
    for (struct actor *next; actor; actor = next) {
        next = actor->lingering_next;
        actor->is_on_lingering = false;
        if (actor->state == ACTOR_ENDED)
            slab_release(worker, actor);
        else if (actor->state == ACTOR_LINGERING)
            park(worker, actor);
    }
}

/* ---- from inside a handler -------------------------------------------------------------------------------------------- */

static struct actor *running(struct actor_context *context)
{
    struct actor *actor = context->worker->running;
    ASSERT(actor && actor_id_is_equal(actor->link.to, context->self));
    return actor;
}

void actor_stop(struct actor_context *context)
{
    running(context)->is_stopping = true;
}

void actor_suspend(struct actor_context *context)
{
    running(context)->is_suspended = true;
}

void actor_resume(struct actor_context *context)
{
    running(context)->is_suspended = false;
}

void actor_pin(struct actor_context *context)
{
    struct actor *actor = running(context);
    ASSERT(actor->pin_count < UINT16_MAX);
    actor->pin_count++;
}

void actor_unpin(struct actor_context *context)
{
    struct actor *actor = running(context);
    ASSERT(actor->pin_count > 0);
    actor->pin_count--;
}
