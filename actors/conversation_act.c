/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a conversation, as events like all else. An act that finds things as it wants them answers OK and writes
 * nothing; one that cannot be from the present state is ERR_EXISTS. The answer is the conversation as it then is. */
#include "actors/conversation_internal.h"

#include "actors/config/config.h"
#include "runtime/assert.h"
#include "runtime/log.h"
#include "runtime/planted.h"

#define RUN_ENDING_NS (10 * UINT64_C(1000000000))
#define ERASE_RETRY_NS (50 * UINT64_C(1000000))

static struct conv_request *as_request(struct msg *msg)
{
    return (struct conv_request *)(void *)msg;
}

/* Commits the step of an act. Returns: ERR_CRASHED for the handler; else *ret_is_done says whether it was done, and if not the
 * request has been refused. */
static enum err commit_act(struct step *step, struct msg **msg, bool *ret_is_done)
{
    enum err code = step_commit(step);
    *ret_is_done = code == OK;
    if (code == OK || code == ERR_CRASHED)
        return code;
    conversation_refuse(step->conversation, step->context, msg, code, 1, "no room for the record");
    return OK;
}

/* ---- cancel ------------------------------------------------------------------------------------------------------------ */

void conversation_answer_cancels(struct conversation *c, struct actor_context *context)
{
    while (c->run.cancels) {
        struct msg *msg = c->run.cancels;
        c->run.cancels = msg->next;
        msg->next = NULL;
        conversation_answer_self(c, context, &msg);
    }
}

static struct conversation_turn *find_turn(const struct conversation *c, struct slice turn_id)
{
    uint8_t id[UUID_BYTES];
    if (turn_id.size == 0)
        return c->state.turns;
    if (!uuid_parse(turn_id, id))
        return NULL;
    struct conversation_turn *turn = c->state.turns;
    while (turn && memcmp(turn->id, id, UUID_BYTES) != 0)
        turn = turn->next;
    return turn;
}

static void add_cancelled(struct step *step, const struct conversation_turn *turn, struct slice reason, struct slice text)
{
    step_set_turn(step, turn->id);
    step->trace_id = turn->trace_id;
    if (turn == step->conversation->state.turns && turn->is_intent_open)
        conversation_add_attempt_failed(step, ERR_CANCELLED, NULL);
    struct event *cancelled = step_add(step, EVENT_TURN_CANCELLED);
    cancelled->reason = reason;
    cancelled->text = text;
    cancelled->agent = agent_name_slice(&turn->agent);
}

/* The model's call has ended because it was asked to. */
enum err conversation_finish_cancel(struct conversation *c, struct actor_context *context, struct slice partial_text)
{
    struct step step;
    conversation_begin_turn_step(&step, c, context);
    ASSERT(c->run.cancels);
    add_cancelled(&step, c->state.turns, as_request(c->run.cancels)->reason, partial_text);
    enum err code = step_commit(&step);
    if (code != OK)
        return code;
    conversation_end_run(c);
    conversation_answer_cancels(c, context);
    return conversation_advance(c, context);
}

static enum err cancel(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    const struct conversation_turn *turn = find_turn(c, as_request(*msg)->turn_id);
    if (!turn) { /* it has ended already, or nothing runs */
        conversation_answer_self(c, context, msg);
        return OK;
    }
    bool is_first = turn == c->state.turns;
    if (is_first && (c->run.phase == RUN_CALLING || c->run.phase == RUN_ENDING)) {
        if (c->run.phase == RUN_CALLING) {
            conversation_cancel_call(c, context);
            conversation_set_run_phase(c, RUN_ENDING);
            c->run.ending_ns = context->now_ns + RUN_ENDING_NS;
        }
        c->run.ending = RUN_IS_CANCELLED;
        (*msg)->next = c->run.cancels;
        c->run.cancels = *msg;
        *msg = NULL;
        return OK;
    }
    struct step step;
    step_begin(&step, c, context);
    add_cancelled(&step, turn, as_request(*msg)->reason, (struct slice){0});
    bool is_done;
    enum err code = commit_act(&step, msg, &is_done);
    if (!is_done)
        return code;
    if (is_first)
        conversation_end_run(c);
    conversation_answer_self(c, context, msg);
    return conversation_advance(c, context);
}

/* ---- handoff ----------------------------------------------------------------------------------------------------------- */

static bool is_owner(const struct config *config, struct slice to)
{
    if (to.size > JOURNAL_OWNER_BYTES_MAX)
        return false;
    if (conversation_owner_is_agent(to))
        return config_find_agent(config, slice_of(to.data + 6, to.size - 6)) >= 0;
    return to.size > 6 && (memcmp(to.data, "queue:", 6) == 0 || memcmp(to.data, "human:", 6) == 0);
}

/* Whoever speaks now is cut off in the same record; the turn that ran goes on with the new owner. */
static enum err hand_off(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    const struct conv_request *request = as_request(*msg);
    if (!is_owner(conversation_services(context)->config, request->to)) {
        conversation_refuse(c, context, msg, ERR_INVALID, 0, "to must be agent:<known>, queue:<name> or human:<name>");
        return OK;
    }
    if (slice_is_equal(request->to, conversation_state_owner(&c->state))) {
        conversation_answer_self(c, context, msg);
        return OK;
    }
    struct step step;
    step_begin(&step, c, context);
    if (c->state.turns && c->state.turns->is_intent_open) {
        step_set_turn(&step, c->state.turns->id);
        conversation_add_attempt_failed(&step, ERR_CANCELLED, NULL);
        step.turn_id = (struct slice){0};
    }
    step.trace_id = request->trace_id;
    step_add_handoff(&step, request->to, request->reason, request->context);
    bool is_done;
    enum err code = commit_act(&step, msg, &is_done);
    if (!is_done)
        return code;
    if (!PLANTED(FORMER_SPEAKER_GOES_ON)) {
        conversation_cancel_call(c, context);
        conversation_end_run(c);
    }
    conversation_answer_cancels(c, context);
    conversation_answer_self(c, context, msg);
    return conversation_advance(c, context);
}

/* ---- park, resume, close, reopen --------------------------------------------------------------------------------------- */

static enum err write_status(struct conversation *c, struct actor_context *context, struct msg **msg,
                             enum event_type type)
{
    struct step step;
    step_begin(&step, c, context);
    step.trace_id = as_request(*msg)->trace_id;
    struct event *event = step_add(&step, type);
    event->reason = as_request(*msg)->reason;
    bool is_done;
    enum err code = commit_act(&step, msg, &is_done);
    if (!is_done)
        return code;
    conversation_answer_self(c, context, msg);
    return conversation_advance(c, context);
}

/* Every open turn ends first, as many a record as a step holds. */
static enum err close_conversation(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    while (c->state.turns) {
        struct step step;
        step_begin(&step, c, context);
        for (const struct conversation_turn *turn = c->state.turns; turn && step.count + 2 <= STEP_EVENTS_MAX;
             turn = turn->next) {
            add_cancelled(&step, turn, SLICE_LITERAL("closed"), (struct slice){0});
            /* Each event names its own turn; the step's text for it is used again by the next. */
            for (uint32_t i = 0; i < step.count; i++)
                if (step.events[i].turn_id.data == step.turn_text)
                    step.events[i].turn_id = step_copy(&step, step.turn_id);
        }
        bool is_done;
        enum err code = commit_act(&step, msg, &is_done);
        if (!is_done)
            return code;
        conversation_cancel_call(c, context);
        conversation_end_run(c);
        conversation_answer_cancels(c, context);
    }
    return write_status(c, context, msg, EVENT_CONVERSATION_CLOSED);
}

static enum err change_status(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    bool is_closed = c->state.status == CONVERSATION_CLOSED, is_parked = c->state.status == CONVERSATION_PARKED;
    switch ((*msg)->kind) {
    case CONV_PARK:
        if (!is_closed && !is_parked)
            return write_status(c, context, msg, EVENT_CONVERSATION_PARKED);
        break;
    case CONV_RESUME:
        if (is_parked)
            return write_status(c, context, msg, EVENT_CONVERSATION_RESUMED);
        break;
    case CONV_CLOSE:
        if (!is_closed)
            return close_conversation(c, context, msg);
        break;
    case CONV_REOPEN:
        if (is_closed)
            return write_status(c, context, msg, EVENT_CONVERSATION_REOPENED);
        break;
    }
    if (is_closed && ((*msg)->kind == CONV_PARK || (*msg)->kind == CONV_RESUME))
        conversation_refuse(c, context, msg, ERR_EXISTS, 0, "the conversation is closed");
    else
        conversation_answer_self(c, context, msg);
    return OK;
}

/* ---- erase ------------------------------------------------------------------------------------------------------------- */

static void begin_erase(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    conversation_set_phase(c, PHASE_ERASING);
    actor_suspend(context); /* what comes now is for the next conversation of this name */
    c->erase = as_request(*msg);
    *msg = NULL;
    conversation_cancel_call(c, context);
    conversation_end_run(c);
    conversation_drop_snapshot(c, context);
}

void conversation_try_erase(struct conversation *c, struct actor_context *context)
{
    if (!c->erase || c->appends_in_flight || c->is_erase_in_flight || c->is_erase_paused)
        return;
    struct journal_erase *erase =
        MSG_CREATE(context->worker, struct journal_erase, MSG_JOURNAL_ERASE, MSG_URGENT | MSG_CONTROL);
    if (!erase) {
        conversation_fail(c, context, ERR_NO_MEMORY);
        return;
    }
    c->is_erase_in_flight = true;
    erase->msg.to = context->self;
    erase->key = slice_of(c->seat->key, c->seat->key_size);
    erase->head = &c->seat->head;
    journal_submit_erase(conversation_services(context)->journal, erase);
}

void conversation_on_erased(struct conversation *c, struct actor_context *context, const struct journal_erase *erase)
{
    c->is_erase_in_flight = false;
    if (c->phase != PHASE_ERASING)
        return;
    c->is_erase_half_done |= erase->result == ERR_BUSY;
    if (erase->result == ERR_BUSY ||
        (c->is_erase_half_done &&
         (erase->result == ERR_STORAGE_FULL || erase->result == ERR_STORAGE_BUSY))) { /* settle asks again */
        struct msg *tick = msg_create(context->worker, CONV_TICK, MSG_URGENT | MSG_CONTROL, sizeof *tick);
        c->is_erase_paused = tick != NULL;
        if (tick)
            actor_send_after(context->worker, context->self, &tick, ERASE_RETRY_NS);
        return;
    }
    if (erase->result != OK) {
        conversation_fail(c, context, erase->result);
        return;
    }
    const struct conversation_limits limits = c->state.limits;
    conversation_state_deinit(&c->state);
    conversation_state_init(&c->state, &limits);
    c->committed_version = 0;
    conversation_end_subscribers(c, context);
    conversation_refuse_cancels(c, context, ERR_NOT_FOUND);
    while (c->waiters) {
        struct conv_request *waiter = conversation_remove_waiter(c, &c->waiters);
        conv_request_refuse(context->worker, &waiter, ERR_NOT_FOUND, 0, "the conversation was erased");
    }
    struct msg *msg = &c->erase->msg;
    c->erase = NULL;
    conversation_answer_body(c, context, &msg, SLICE_LITERAL("{\"erased\":true}"));
    actor_stop(context);
}

/* ---- all --------------------------------------------------------------------------------------------------------------- */

enum err conversation_act(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    const struct conv_request *request = as_request(*msg);
    if (c->state.version == 0) {
        conversation_refuse(c, context, msg, ERR_NOT_FOUND, 0, "no such conversation");
        return OK;
    }
    if (request->has_if_match && request->if_match != c->state.version) {
        conversation_refuse(c, context, msg, ERR_STALE, 0, "the conversation has another version");
        return OK;
    }
    if (c->appends_in_flight >= RECORDS_IN_FLIGHT_MAX && (*msg)->kind != CONV_ERASE) {
        conversation_refuse_overload(context, msg);
        return OK;
    }
    switch ((*msg)->kind) {
    case CONV_CANCEL: return cancel(c, context, msg);
    case CONV_ERASE: begin_erase(c, context, msg); return OK;
    case CONV_HANDOFF:
        if (c->state.status != CONVERSATION_CLOSED)
            return hand_off(c, context, msg);
        conversation_refuse(c, context, msg, ERR_EXISTS, 0, "the conversation is closed");
        return OK;
    default: return change_status(c, context, msg);
    }
}
