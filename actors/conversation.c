/* SPDX-License-Identifier: Apache-2.0 */
/* The actor: which message goes to which part, and what is brought up to date after every one of them (settle): pin, timer, the
 * numbers shown, and the end of a phase that waits for its last append. */
#include "actors/conversation_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/conversation_key.h"
#include "runtime/assert.h"
#include "runtime/log.h"
#include "runtime/planted.h"
#include "runtime/sometimes.h"

struct conversation_metrics conversation_metrics;

/* ---- phases ------------------------------------------------------------------------------------------------------------ */

static const bool phase_successors[PHASE_COUNT][PHASE_COUNT] = {
    [PHASE_READY] = {[PHASE_ERASING] = true, [PHASE_FAILED] = true},
    [PHASE_ERASING] = {[PHASE_FAILED] = true},
};

void conversation_set_phase(struct conversation *c, enum conversation_phase phase)
{
    ASSERT(phase_successors[c->phase][phase]);
    c->phase = phase;
}

static const bool run_successors[RUN_COUNT][RUN_COUNT] = {
    [RUN_NONE] = {[RUN_STARTING] = true},
    [RUN_STARTING] = {[RUN_CALLING] = true, [RUN_NONE] = true},
    [RUN_CALLING] = {[RUN_STARTING] = true, [RUN_PAUSING] = true, [RUN_ENDING] = true, [RUN_NONE] = true},
    [RUN_PAUSING] = {[RUN_STARTING] = true, [RUN_NONE] = true},
    [RUN_ENDING] = {[RUN_NONE] = true},
};

void conversation_set_run_phase(struct conversation *c, enum run_phase phase)
{
    ASSERT(run_successors[c->run.phase][phase]);
    c->run.phase = phase;
}

struct services *conversation_services(const struct actor_context *context)
{
    return worker_user(context->worker); /* of the worker that runs this turn: never kept */
}

struct conversation_scratch *conversation_scratch(const struct actor_context *context)
{
    return directory_scratch(conversation_services(context)->directory);
}

bool conversation_may_work(const struct conversation *c)
{
    return c->state.status == CONVERSATION_ACTIVE || c->state.status == CONVERSATION_WAITING_HUMAN;
}

/* ---- timer ------------------------------------------------------------------------------------------------------------- */

static void on_timer(struct worker *worker, struct timer *timer)
{
    struct conversation *c = container_of(timer, struct conversation, timer);
    c->timer_ns = 0;
    struct msg *tick = msg_create(worker, CONV_TICK, MSG_URGENT | MSG_CONTROL, sizeof *tick);
    if (tick && actor_send(worker, c->self, &tick) == OK)
        return;
    if (tick)
        msg_destroy(worker, &tick);
    c->timer_ns = worker_now_ns(worker) + 10 * 1000 * 1000; /* no memory just now */
    timer_start(worker, timer, c->timer_ns);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a && (a < b || !b) ? a : b;
}

/* 0: nothing is due. */
static uint64_t next_due_ns(const struct conversation *c)
{
    uint64_t due = conversation_subscribers_due_ns(c);
    switch (c->run.phase) {
    case RUN_NONE: break;
    case RUN_PAUSING: due = earlier(due, c->run.pause_ns); /* fall through */
    case RUN_STARTING:
    case RUN_CALLING: due = earlier(due, c->run.deadline_ns); break;
    case RUN_ENDING: due = earlier(due, c->run.ending_ns); break;
    case RUN_COUNT: break;
    }
    return due;
}

/* ---- after every message ----------------------------------------------------------------------------------------------- */

static void show_numbers(struct conversation *c, struct actor_context *context)
{
    struct directory_stats *stats = directory_live_stats(conversation_services(context)->directory);
    uint32_t running = c->run.phase != RUN_NONE, queued = c->state.turn_count - (running && c->state.turn_count ? 1 : 0);
    if (!conversation_may_work(c)) /* held until somebody resumes it: the end of the server does not wait for that */
        queued = 0;
    stats->turns_running += running - (uint64_t)c->shown_running; /* modular: only the sum over the workers counts */
    stats->turns_queued += queued - (uint64_t)c->shown_queued;
    c->shown_running = running;
    c->shown_queued = queued;
}

static void settle(struct conversation *c, struct actor_context *context)
{
    if (c->phase == PHASE_ERASING)
        conversation_try_erase(c, context);
    if (c->phase == PHASE_FAILED && c->appends_in_flight == 0) {
        c->seat->wakes_again = true; /* the state ran ahead: it does not tell what the journal holds */
        actor_stop(context);
    }
    uint64_t due = c->phase == PHASE_READY ? next_due_ns(c) : 0;
    /* The journal writes into the seat and answers here; the model's gateway and the timer are this worker's. */
    bool is_pinned =
        c->appends_in_flight || c->reads_in_flight || c->run.phase != RUN_NONE || due || c->phase != PHASE_READY;
    if (is_pinned && !c->is_pinned)
        actor_pin(context);
    if (due != c->timer_ns) {
        if (due)
            timer_start(context->worker, &c->timer, due);
        else
            timer_cancel(context->worker, &c->timer);
        c->timer_ns = due;
    }
    if (!is_pinned && c->is_pinned)
        actor_unpin(context);
    c->is_pinned = is_pinned;
    show_numbers(c, context);
}

/* ---- passivation ------------------------------------------------------------------------------------------------------- */

static bool is_idle(const struct conversation *c)
{
    return c->phase == PHASE_READY && !c->appends_in_flight && !c->reads_in_flight && c->run.phase == RUN_NONE &&
           !c->waiters && !c->subscribers && !c->gate && !(conversation_may_work(c) && c->state.turns);
}

static void passivate(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    if (!is_idle(c) && !PLANTED(PASSIVATION_WHILE_RUNNING)) {
        (*msg)->kind = CONV_STILL_BUSY;
        if (actor_send(context->worker, c->directory, msg) != OK)
            msg_destroy(context->worker, msg);
        return;
    }
    struct journal_save *save = c->state.version != c->snapshot_version ? conversation_make_snapshot(c, context) : NULL;
    if (save)
        journal_submit_save(conversation_services(context)->journal, save);
    actor_stop(context);
}

/* ---- messages ---------------------------------------------------------------------------------------------------------- */

static struct conv_request *as_request(struct msg *msg)
{
    return (struct conv_request *)(void *)msg;
}

/* The waiter is gone; its turn goes on. */
static void abandon(struct conversation *c, struct actor_context *context, const struct conv_request *request)
{
    for (struct msg **link = &c->waiters; *link; link = &(*link)->next) {
        struct conv_request *waiter = as_request(*link);
        if (waiter->reply_token != request->target_token || !actor_id_is_equal(waiter->reply_to, request->reply_to))
            continue;
        struct msg *msg = &conversation_remove_waiter(c, link)->msg;
        msg_destroy(context->worker, &msg);
        return;
    }
}

static enum err on_tick(struct conversation *c, struct actor_context *context)
{
    c->is_erase_paused = false;
    if (c->phase != PHASE_READY)
        return OK;
    conversation_check_subscribers(c, context);
    return conversation_check_run(c, context);
}

static enum err take(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    switch ((*msg)->kind) {
    case CONV_MESSAGE: return conversation_accept(c, context, msg);
    case CONV_DEAD_MESSAGE: return conversation_take_dead(c, context, msg);
    case CONV_GET:
        if (c->state.version == 0)
            conversation_refuse(c, context, msg, ERR_NOT_FOUND, 0, "no such conversation");
        else
            conversation_answer_self(c, context, msg);
        return OK;
    case CONV_EVENTS:
    case CONV_MESSAGES:
    case CONV_TURN:
    case CONV_SUBSCRIBE:
    case CONV_UNSUBSCRIBE: conversation_read_request(c, context, msg); return OK;
    case CONV_ABANDON: abandon(c, context, as_request(*msg)); return OK;
    case CONV_CANCEL:
    case CONV_PARK:
    case CONV_RESUME:
    case CONV_CLOSE:
    case CONV_REOPEN:
    case CONV_ERASE:
    case CONV_HANDOFF: return conversation_act(c, context, msg);
    case MSG_JOURNAL_APPEND: return conversation_on_append(c, context, (struct journal_append *)(void *)*msg);
    case MSG_JOURNAL_READ: conversation_on_read(c, context, msg); return OK;
    case MSG_JOURNAL_ERASE: conversation_on_erased(c, context, (struct journal_erase *)(void *)*msg); return OK;
    case MODEL_DONE: return conversation_on_model_done(c, context, (struct model_done *)(void *)*msg);
    case MODEL_DELTA: conversation_on_model_delta(c, context, (struct model_delta *)(void *)*msg); return OK;
    case CONV_START: return PLANTED(OPEN_TURN_NOT_RESUMED) ? OK : conversation_advance(c, context);
    case CONV_TICK: return on_tick(c, context);
    case CONV_DRAIN: conversation_end_subscribers(c, context); return OK;
    case CONV_PASSIVATE: passivate(c, context, msg); return OK;
    default: LOG(LOG_WARN, "conversation_stray_message", LOG_UINT("kind", (*msg)->kind)); return OK;
    }
}

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct conversation *c = context->state;
    c->self = context->self;
    c->last_request = as_request(*msg);
    enum err code = take(c, context, msg);
    if (code == OK)
        settle(c, context);
    return code;
}

/* ---- the end ----------------------------------------------------------------------------------------------------------- */

/* Nobody who waits may hang because we crash: messages go back to the directory, which delivers them to the next life, where
 * dedup tells whether they were taken; the rest learns that it failed. */
static void give_back(struct conversation *c, struct actor_context *context)
{
    while (c->waiters) {
        struct conv_request *waiter = conversation_remove_waiter(c, &c->waiters);
        waiter->is_returned = true;
        waiter->crashes = (uint8_t)(waiter->crashes + (waiter == c->last_request));
        struct msg *msg = &waiter->msg;
        msg->kind = CONV_MESSAGE;
        if (actor_send(context->worker, c->directory, &msg) != OK) /* full: it must not hang for that (C6) */
            conv_request_refuse(context->worker, &waiter, ERR_CRASHED, 1, "the conversation failed; ask again");
    }
    conversation_refuse_cancels(c, context, ERR_CRASHED);
    if (c->erase)
        conv_request_refuse(context->worker, &c->erase, ERR_CRASHED, 1, "the conversation failed; ask again");
    while (c->gate) {
        struct msg *msg = c->gate;
        struct conv_answer *answer = (struct conv_answer *)(void *)msg;
        c->gate = msg->next;
        msg->kind = CONV_REFUSED;
        answer->code = ERR_CRASHED;
        answer->retry_after_s = 1;
        answer->detail = SLICE_LITERAL("the conversation failed; ask again");
        if (actor_send(context->worker, msg->to, &msg) != OK)
            msg_destroy(context->worker, &msg);
    }
}

static void on_end(struct actor_context *context, enum err reason)
{
    struct conversation *c = context->state;
    struct services *services = conversation_services(context);
    bool is_orderly_world = services && services->directory; /* not in the middle of the runtime's own end */
    if (c->timer_ns)
        timer_cancel(context->worker, &c->timer);
    if (is_orderly_world)
        conversation_cancel_call(c, context);
    give_back(c, context);
    conversation_end_subscribers(c, context);
    conversation_drop_snapshot(c, context);
    conversation_end_run(c);
    if (is_orderly_world) {
        c->state.turn_count = 0;
        show_numbers(c, context);
    }
    if (reason != OK && reason != ERR_SHUTDOWN)
        LOG(LOG_ERROR, "conversation_crashed", LOG_SLICE("conversation", c->id), LOG_ERR(reason),
            LOG_UINT("version", c->state.version));
    conversation_destroy(c);
}

const struct actor_type conversation_type = {.name = "conversation", .on_message = on_message, .on_exit = on_end};

/* ---- the beginning ----------------------------------------------------------------------------------------------------- */

static enum err apply_event(void *user, const struct event *event)
{
    return conversation_state_apply(user, event);
}

static enum err fold(struct conversation *c, const struct journal_load *load)
{
    if (load->snapshot_version) {
        enum err code = conversation_state_decode(&c->state, load->snapshot);
        if (code == OK && c->state.version != load->snapshot_version)
            code = ERR_STORAGE_CORRUPT;
        if (code != OK)
            return code;
        c->snapshot_version = load->snapshot_version;
        SOMETIMES(SNAPSHOT_AT_WAKE, true);
        SOMETIMES(TAIL_BEHIND_SNAPSHOT, load->record_count > 0);
        c->snapshot_bytes = load->snapshot.size;
    }
    for (uint32_t i = 0; i < load->record_count; i++) {
        const struct journal_record *record = &load->records[i];
        enum err code = event_record_decode(record->data, record->first_version, apply_event, &c->state);
        if (code != OK)
            return code;
        c->bytes_since_snapshot += record->data.size;
    }
    if (PLANTED(DEDUP_OUTSIDE_RECORD))
        dedup_deinit(&c->state.dedup);
    return c->state.version == load->head.version ? OK : ERR_STORAGE_CORRUPT;
}

enum err conversation_create(const struct config *config, struct conversation_seat *seat, struct actor_id directory,
                             const struct journal_load *load, struct conversation **ret_conversation)
{
    struct conversation *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NO_MEMORY;
    c->seat = seat;
    c->directory = directory;
    c->waiters_end = &c->waiters;
    c->gate_end = &c->gate;
    c->timer.on_fire = on_timer;
    /* The window must hold every message whose turn has not ended, else a copy of a queued one would run twice. */
    uint32_t dedup_min = config->conversation.queued_turns + 2;
    uint32_t dedup = config->conversation.dedup_messages;
    conversation_state_init(&c->state,
                            &(struct conversation_limits){.history_messages = config->conversation.history_messages,
                                                          .history_bytes = config->conversation.history_bytes,
                                                          .dedup_messages = dedup > dedup_min ? dedup : dedup_min});
    enum err code = OK;
    if (!conversation_key_split(slice_of(seat->key, seat->key_size), &c->tenant, &c->id))
        code = ERR_STORAGE_CORRUPT;
    if (code == OK && load->result == OK)
        code = fold(c, load);
    if (code != OK) {
        conversation_destroy(c);
        return code;
    }
    seat->head = load->result == OK ? load->head : (struct journal_head){0};
    seat->wakes_again = false;
    c->committed_version = c->state.version;
    *ret_conversation = c;
    return OK;
}

void conversation_destroy(struct conversation *c)
{
    conversation_state_deinit(&c->state);
    free(c);
}

bool conversation_has_open_turn(const struct conversation *c)
{
    return c->state.turns != NULL;
}

void conversation_metrics_register(void)
{
    struct conversation_metrics *m = &conversation_metrics;
    m->accepted = metrics_register_counter("messages_accepted_total", "Messages taken into a conversation.", NULL);
    m->duplicates = metrics_register_counter("messages_duplicate_total", "Copies of messages already taken.", NULL);
    static const char *const statuses[] = {
        [TURN_COMPLETED] = "status=\"completed\"",
        [TURN_WAITING_HUMAN] = "status=\"waiting_human\"",
        [TURN_FAILED] = "status=\"failed\"",
        [TURN_IS_CANCELLED] = "status=\"cancelled\"",
    };
    for (int status = TURN_COMPLETED; status <= TURN_IS_CANCELLED; status++)
        m->turns[status] = metrics_register_counter("turns_total", "Turns ended, by how.", statuses[status]);
    static const enum err refusals[] = {ERR_INVALID,      ERR_CONFLICT,     ERR_BUSY,           ERR_STALE,
                                        ERR_LIMIT,        ERR_EXISTS,       ERR_NOT_FOUND,      ERR_BREAKER_OPEN,
                                        ERR_NO_MEMORY,    ERR_CRASHED,      ERR_MAILBOX_FULL,   ERR_SHUTDOWN,
                                        ERR_STORAGE_FULL, ERR_STORAGE_BUSY, ERR_STORAGE_FAILED, ERR_STORAGE_CORRUPT};
    static char labels[ERR_COUNT][48];
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        enum err code = refusals[i];
        snprintf(labels[code], sizeof labels[code], "code=\"%s\"", err_name(code));
        m->refused[code] = metrics_register_counter("requests_refused_total", "Requests refused, by why.", labels[code]);
    }
    m->turn_seconds = metrics_register_histogram("turn_seconds", "From a message to the end of its turn.", NULL);
    m->records = metrics_register_counter("conversation_records_total", "Records handed to the journal.", NULL);
    m->snapshots = metrics_register_counter("conversation_snapshots_total", "Snapshots handed to the journal.", NULL);
    m->model_attempts = metrics_register_counter("model_attempts_total", "Attempts at a model's answer.", NULL);
}
