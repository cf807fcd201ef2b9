/* SPDX-License-Identifier: Apache-2.0 */
/* A step is decided on the present state, encoded, applied and handed to the journal, all in one handler call; the next step may
 * follow at once. What it causes outside leaves when the journal has answered: the committed record itself is read again, and
 * its events go to subscribers, waiters and the model. So what is said is what is on disk (C1), by construction. */
#include "actors/conversation_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/dead_letters.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/planted.h"

/* ---- building ---------------------------------------------------------------------------------------------------------- */

void step_begin(struct step *step, struct conversation *conversation, struct actor_context *context)
{
    step->conversation = conversation;
    step->context = context;
    step->time_ms = clock_wall_ms();
    step->trace_id = step->turn_id = (struct slice){0};
    memcpy(step->owner, conversation->state.owner, sizeof step->owner);
    step->epoch = conversation->state.epoch;
    step->count = step->text_size = 0;
}

void step_set_turn(struct step *step, const uint8_t turn_id[UUID_BYTES])
{
    uuid_format(turn_id, step->turn_text);
    step->turn_id = slice_of(step->turn_text, sizeof step->turn_text);
}

struct event *step_add(struct step *step, enum event_type type)
{
    ASSERT(step->count < STEP_EVENTS_MAX);
    struct event *event = &step->events[step->count];
    *event = (struct event){.type = type,
                            .version = step->conversation->state.version + 1 + step->count,
                            .time_ms = step->time_ms,
                            .trace_id = step->trace_id,
                            .turn_id = step->turn_id};
    if (step->count == 0)
        uuid_create(step->time_ms, event->event_id);
    else
        uuid_next(event[-1].event_id, event->event_id);
    step->count++;
    return event;
}

struct slice step_copy(struct step *step, struct slice text)
{
    ASSERT(text.size <= sizeof step->text - step->text_size);
    char *copy = step->text + step->text_size;
    if (text.size)
        memcpy(copy, text.data, text.size);
    step->text_size += (uint32_t)text.size;
    return slice_of(copy, text.size);
}

void step_add_handoff(struct step *step, struct slice to, struct slice reason, struct slice context)
{
    ASSERT(to.size > 0 && to.size <= JOURNAL_OWNER_BYTES_MAX);
    struct event *requested = step_add(step, EVENT_ROUTING_HANDOFF_REQUESTED);
    requested->from = step_copy(step, slice_from_text(step->owner));
    requested->to = to;
    requested->reason = reason;
    requested->context = context;
    struct event *completed = step_add(step, EVENT_ROUTING_HANDOFF_COMPLETED);
    completed->owner = to;
    completed->epoch = ++step->epoch;
    memcpy(step->owner, to.data, to.size);
    step->owner[to.size] = 0;
}

struct journal_save *conversation_make_snapshot(struct conversation *c, struct actor_context *context)
{
    struct buffer *data = &conversation_scratch(context)->json; /* of the two scratch buffers the one with room */
    buffer_clear(data);
    conversation_state_encode(&c->state, data);
    /* Counted whether it comes to be or not: a long queue of long messages may be too large for one, and the next try costs as
     * much as this one did. */
    c->snapshot_bytes = data->size;
    c->bytes_since_snapshot = 0;
    if (data->is_overflow || data->size > JOURNAL_SNAPSHOT_BYTES_MAX)
        return NULL;
    uint32_t key_size = c->seat->key_size;
    struct journal_save *save = (struct journal_save *)(void *)msg_create(
        context->worker, MSG_JOURNAL_SAVE, MSG_CONTROL, (uint32_t)(sizeof *save + key_size + data->size));
    if (!save)
        return NULL;
    char *at = (char *)(save + 1); /* a copy of the key too: nobody waits for the answer, which goes to nobody */
    memcpy(at, c->seat->key, key_size);
    memcpy(at + key_size, data->data, data->size);
    save->key = slice_of(at, key_size);
    save->data = slice_of(at + key_size, data->size);
    save->version = c->state.version;
    c->snapshot_version = save->version;
    metrics_add(conversation_metrics.snapshots, 1);
    return save;
}

/* A replay reads at most about twice the bytes of a snapshot; writing snapshots costs at most half of what records cost. */
static bool is_snapshot_due(const struct conversation *c)
{
    return !c->snapshot && c->state.version - c->snapshot_version >= SNAPSHOT_EVENTS_MIN &&
           c->bytes_since_snapshot >= 2 * c->snapshot_bytes;
}

enum err step_commit(struct step *step)
{
    struct conversation *c = step->conversation;
    ASSERT(c->phase == PHASE_READY && step->count > 0);
    struct buffer *record = &conversation_scratch(step->context)->record;
    buffer_clear(record);
    event_record_encode(record, step->events, step->count);
    if (record->is_overflow)
        return ERR_LIMIT;
    struct journal_append *append = (struct journal_append *)(void *)msg_create(
        step->context->worker, MSG_JOURNAL_APPEND, MSG_URGENT | MSG_CONTROL, (uint32_t)(sizeof *append + record->size));
    if (!append)
        return ERR_NO_MEMORY;

    append->msg.to = step->context->self;
    append->key = slice_of(c->seat->key, c->seat->key_size);
    append->head = &c->seat->head;
    append->expected_version = c->state.version;
    append->event_count = step->count;
    memcpy(append + 1, record->data, record->size);
    append->data = slice_of((const char *)(append + 1), record->size);
    for (uint32_t i = 0; i < step->count; i++) {
        enum err code = conversation_state_apply(&c->state, &step->events[i]);
        if (code != OK) {
            struct msg *msg = &append->msg;
            msg_destroy(step->context->worker, &msg);
            LOG(LOG_ERROR, "conversation_step_broken", LOG_SLICE("conversation", c->id), LOG_ERR(code),
                LOG_TEXT("type", event_type_name(step->events[i].type)));
            return ERR_CRASHED;
        }
    }
    conversation_state_summarize(&c->state, &append->summary);
    c->appends_in_flight++;
    c->bytes_since_snapshot += record->size;
    metrics_add(conversation_metrics.records, 1);
    journal_submit_append(conversation_services(step->context)->journal, append);
    if (is_snapshot_due(c))
        c->snapshot = conversation_make_snapshot(c, step->context);
    return OK;
}

void conversation_drop_snapshot(struct conversation *c, struct actor_context *context)
{
    struct msg *msg = c->snapshot ? &c->snapshot->msg : NULL;
    c->snapshot = NULL;
    msg_destroy(context->worker, &msg);
}

/* ---- the gate ---------------------------------------------------------------------------------------------------------- */

static void send_now(struct actor_context *context, struct msg *msg)
{
    if (actor_send(context->worker, msg->to, &msg) != OK)
        msg_destroy(context->worker, &msg); /* the front is gone; so is its client */
}

void conversation_send_now(struct actor_context *context, struct actor_id to, struct conv_answer *answer)
{
    answer->msg.to = to;
    send_now(context, &answer->msg);
}

void conversation_send(struct conversation *c, struct actor_context *context, struct actor_id to,
                       struct conv_answer *answer)
{
    answer->msg.to = to;
    answer->msg.next = NULL;
    if (c->state.version == c->committed_version) {
        send_now(context, &answer->msg);
        return;
    }
    answer->gate_version = c->state.version;
    *c->gate_end = &answer->msg;
    c->gate_end = &answer->msg.next;
}

/* Lets out what waited for no more than the committed version. */
static void open_gate(struct conversation *c, struct actor_context *context)
{
    while (c->gate) {
        struct msg *msg = c->gate;
        if (((struct conv_answer *)(void *)msg)->gate_version > c->committed_version)
            return;
        c->gate = msg->next;
        if (!c->gate)
            c->gate_end = &c->gate;
        msg->next = NULL;
        send_now(context, msg);
    }
}

void conversation_refuse(struct conversation *c, struct actor_context *context, struct msg **request, enum err code,
                         uint32_t retry_after_s, const char *detail)
{
    struct conv_request *refused = (struct conv_request *)(void *)*request;
    *request = NULL;
    metrics_add(conversation_metrics.refused[code], 1);
    struct conv_answer *answer = conv_request_into_refusal(refused, code, retry_after_s, detail);
    conversation_send(c, context, answer->msg.to, answer);
}

void conversation_refuse_overload(struct actor_context *context, struct msg **request)
{
    struct conv_request *refused = (struct conv_request *)(void *)*request;
    *request = NULL;
    metrics_add(conversation_metrics.refused[ERR_LIMIT], 1);
    conv_request_refuse(context->worker, &refused, ERR_LIMIT, 1, "too much of this conversation waits for the disk");
}

void conversation_answer_body(struct conversation *c, struct actor_context *context, struct msg **request,
                              struct slice body)
{
    const struct conv_request *answered = (const struct conv_request *)(const void *)*request;
    struct conv_answer *answer = conv_answer_create(
        context->worker, CONV_FINISHED,
        &(struct conv_answer){.reply_token = answered->reply_token, .version = c->state.version, .body = body});
    if (!answer) {
        conversation_refuse(c, context, request, ERR_NO_MEMORY, 1, "no memory for the answer");
        return;
    }
    conversation_send(c, context, answered->reply_to, answer);
    msg_destroy(context->worker, request);
}

void conversation_answer_self(struct conversation *c, struct actor_context *context, struct msg **request)
{
    struct buffer *json = &conversation_scratch(context)->json;
    buffer_clear(json);
    conversation_state_write_json(&c->state, c->id, json);
    if (json->is_overflow)
        conversation_refuse(c, context, request, ERR_NO_MEMORY, 1, "no memory for the answer");
    else
        conversation_answer_body(c, context, request, buffer_slice(json));
}

/* ---- a turn's answer from its events ------------------------------------------------------------------------------- */

static enum err code_by_name(struct slice name)
{
    for (int code = OK; code < ERR_COUNT; code++)
        if (slice_has_text(name, err_name((enum err)code)))
            return (enum err)code;
    return ERR_CRASHED;
}

void turn_report_add(struct turn_report *report, const struct event *event)
{
    switch (event->type) {
    case EVENT_INBOX_MESSAGE_RECEIVED:
    case EVENT_AGENT_HUMAN_MESSAGE_SENT:
        report->is_received = true;
        report->version = event->version;
        return;
    case EVENT_AGENT_RESPONSE_GENERATED:
    case EVENT_AGENT_AI_RESPONSE_GENERATED:
        report->has_reply = true;
        report->text = event->text;
        report->agent = event->agent;
        report->finish_reason = event->finish_reason;
        report->input_tokens = event->input_tokens;
        report->output_tokens = event->output_tokens;
        report->has_usage = event->type == EVENT_AGENT_AI_RESPONSE_GENERATED;
        return;
    case EVENT_TURN_COMPLETED:
        report->status = slice_has_text(event->status, "waiting_human") ? TURN_WAITING_HUMAN : TURN_COMPLETED;
        break;
    case EVENT_TURN_FAILED:
        report->status = TURN_FAILED;
        report->code = code_by_name(event->error);
        report->detail = event->reason;
        report->retry_after_ms = event->retry_after_ms;
        break;
    case EVENT_TURN_CANCELLED:
        report->status = TURN_IS_CANCELLED;
        report->has_reply = event->text.size > 0;
        report->text = event->text;
        report->agent = event->agent;
        report->detail = event->reason;
        break;
    case EVENT_AGENT_AI_REQUEST_STARTED:
    case EVENT_AGENT_AI_REQUEST_FAILED:
    case EVENT_ROUTING_HANDOFF_REQUESTED:
    case EVENT_ROUTING_HANDOFF_COMPLETED:
    case EVENT_MESSAGE_DEAD_LETTERED:
    case EVENT_CONVERSATION_PARKED:
    case EVENT_CONVERSATION_RESUMED:
    case EVENT_CONVERSATION_CLOSED:
    case EVENT_CONVERSATION_REOPENED:
    case EVENT_NONE:
    case EVENT_TYPE_COUNT: return;
    }
    report->is_finished = true;
    report->version = event->version;
    report->duration_ms = event->duration_ms;
}

struct conv_answer *turn_report_answer(struct actor_context *context, const struct turn_report *report, uint16_t kind,
                                       const struct conv_request *request, bool is_duplicate)
{
    char turn_id[UUID_TEXT_BYTES];
    uuid_format(request->turn_key, turn_id);
    return conv_answer_create(context->worker, kind,
                              &(struct conv_answer){.reply_token = request->reply_token,
                                                    .version = report->version,
                                                    .status = report->status,
                                                    .is_duplicate = is_duplicate,
                                                    .has_reply = report->has_reply,
                                                    .has_usage = report->has_usage,
                                                    .message_id = request->message_id,
                                                    .turn_id = slice_of(turn_id, sizeof turn_id),
                                                    .text = report->text,
                                                    .agent = report->agent,
                                                    .finish_reason = report->finish_reason,
                                                    .input_tokens = report->input_tokens,
                                                    .output_tokens = report->output_tokens,
                                                    .duration_ms = report->duration_ms,
                                                    .code = report->code,
                                                    .retry_after_s = (uint32_t)((report->retry_after_ms + 999) / 1000),
                                                    .detail = report->detail});
}

/* ---- what a committed record causes ------------------------------------------------------------------------------------ */

struct delivery {
    struct conversation *conversation;
    struct actor_context *context;
    struct turn_report report; /* of the turn of the last event that had one */
    uint8_t turn_id[UUID_BYTES];
    bool has_turn;
};

/* The record received that turn and did not end it: those who wait learn that it is durable. */
static void send_accepted(struct delivery *delivery)
{
    struct conversation *c = delivery->conversation;
    if (!delivery->has_turn || !delivery->report.is_received || delivery->report.is_finished)
        return;
    delivery->report.status =
        c->state.turns && memcmp(c->state.turns->id, delivery->turn_id, UUID_BYTES) == 0 ? TURN_RUNNING : TURN_QUEUED;
    for (struct msg *msg = *conversation_find_waiter(c, delivery->turn_id); msg; msg = msg->next) {
        struct conv_request *waiter = (struct conv_request *)(void *)msg;
        if (memcmp(waiter->turn_key, delivery->turn_id, UUID_BYTES) != 0)
            return;
        struct conv_answer *answer = waiter->was_accepted ? NULL
                                                          : turn_report_answer(delivery->context, &delivery->report,
                                                                               CONV_ACCEPTED, waiter, waiter->is_copy);
        if (!answer)
            continue; /* it still gets its CONV_FINISHED */
        waiter->was_accepted = true;
        conversation_send_now(delivery->context, waiter->reply_to, answer);
    }
}

static void finish_waiter(struct delivery *delivery, struct conv_request *waiter)
{
    struct actor_context *context = delivery->context;
    struct actor_id to = waiter->reply_to;
    struct msg *msg = &waiter->msg;
    struct conv_answer *answer = turn_report_answer(context, &delivery->report, CONV_FINISHED, waiter, waiter->is_copy);
    if (answer)
        msg_destroy(context->worker, &msg);
    else /* the turn is done and kept: a copy of the message will get its answer */
        answer = conv_request_into_refusal(waiter, ERR_NO_MEMORY, 1, "no memory for the answer; ask again");
    conversation_send_now(context, to, answer);
}

static void deliver_to_waiters(struct delivery *delivery, const struct event *event)
{
    struct conversation *c = delivery->conversation;
    struct msg **link = conversation_find_waiter(c, delivery->turn_id);
    while (*link) {
        struct conv_request *waiter = (struct conv_request *)(void *)*link;
        if (memcmp(waiter->turn_key, delivery->turn_id, UUID_BYTES) != 0)
            return;
        if (waiter->subscribe) /* where there is no room: the end of the turn still comes, and has all of it */
            (void)conversation_send_event(delivery->context, waiter->reply_to, waiter->reply_token, event,
                                          conversation_envelope(c, delivery->context, event));
        if (delivery->report.is_finished)
            finish_waiter(delivery, conversation_remove_waiter(c, link));
        else
            link = &(*link)->next;
    }
}

static void send_dead_letter(struct delivery *delivery, const struct event *event)
{
    struct conversation *c = delivery->conversation;
    if (PLANTED(DEAD_LETTER_UNLISTED))
        return;
    dead_letters_send(delivery->context->worker, conversation_services(delivery->context),
                      &(struct dead_letter){.tenant = c->tenant,
                                            .conversation = c->id,
                                            .message_id = event->message_id,
                                            .turn_id = event->turn_id,
                                            .reason = event->reason,
                                            .trace_id = event->trace_id,
                                            .attempt = event->attempt,
                                            .version = event->version});
}

static void count_end(const struct turn_report *report)
{
    metrics_add(conversation_metrics.turns[report->status], 1);
    metrics_observe_ns(conversation_metrics.turn_seconds, report->duration_ms * 1000000);
}

static enum err deliver_event(void *user, const struct event *event)
{
    struct delivery *delivery = user;
    struct conversation *c = delivery->conversation;
    if (c->subscribers)
        conversation_publish(c, delivery->context, event);
    uint8_t turn_id[UUID_BYTES] = {0};
    if (uuid_parse(event->turn_id, turn_id)) {
        if (!delivery->has_turn || memcmp(turn_id, delivery->turn_id, UUID_BYTES) != 0) {
            send_accepted(delivery);
            memcpy(delivery->turn_id, turn_id, UUID_BYTES);
            delivery->has_turn = true;
            delivery->report = (struct turn_report){0};
        }
        turn_report_add(&delivery->report, event);
        if (c->waiters)
            deliver_to_waiters(delivery, event);
        if (delivery->report.is_finished && event->version == delivery->report.version)
            count_end(&delivery->report);
    }
    if (event->type == EVENT_MESSAGE_DEAD_LETTERED)
        send_dead_letter(delivery, event);
    if (event->type == EVENT_AGENT_AI_REQUEST_STARTED && c->run.phase == RUN_STARTING && c->state.turns &&
        c->state.turns->attempts == event->attempt && memcmp(c->state.turns->id, turn_id, UUID_BYTES) == 0)
        return conversation_start_call(c, delivery->context);
    return OK;
}

enum err conversation_deliver(struct conversation *c, struct actor_context *context, struct slice record,
                              uint64_t first_version)
{
    struct delivery delivery = {.conversation = c, .context = context};
    enum err code = event_record_decode(record, first_version, deliver_event, &delivery);
    if (code == OK)
        send_accepted(&delivery);
    return code;
}

enum err conversation_on_append(struct conversation *c, struct actor_context *context, struct journal_append *append)
{
    ASSERT(c->appends_in_flight > 0);
    c->appends_in_flight--;
    if (append->result == ERR_STALE || append->result == ERR_INVALID || append->result == ERR_LIMIT) {
        if (c->phase == PHASE_FAILED)
            return OK; /* it stood behind the one that failed */
        LOG(LOG_ERROR, "conversation_append_refused", LOG_SLICE("conversation", c->id), LOG_ERR(append->result),
            LOG_UINT("version", append->expected_version));
        return append->result;
    }
    if (append->result != OK) {
        conversation_fail(c, context, append->result);
        return OK;
    }
    if (c->phase == PHASE_FAILED)
        return OK; /* everybody was told that it may have failed; the next life will see it */
    ASSERT(append->expected_version == c->committed_version);
    c->committed_version += append->event_count;
    enum err code = conversation_deliver(c, context, append->data, append->expected_version + 1);
    if (code != OK)
        return code;
    open_gate(c, context);
    if (c->snapshot && c->snapshot->version <= c->committed_version) {
        journal_submit_save(conversation_services(context)->journal, c->snapshot);
        c->snapshot = NULL;
    }
    return OK;
}

/* ---- when an append failed ------------------------------------------------------------------------------------------ */

void conversation_refuse_cancels(struct conversation *c, struct actor_context *context, enum err code)
{
    while (c->run.cancels) {
        struct conv_request *request = (struct conv_request *)(void *)c->run.cancels;
        c->run.cancels = request->msg.next;
        conv_request_refuse(context->worker, &request, code, 1, "the conversation failed; ask again");
    }
}

void conversation_fail(struct conversation *c, struct actor_context *context, enum err code)
{
    if (c->phase == PHASE_FAILED)
        return;
    conversation_set_phase(c, PHASE_FAILED);
    c->failure = code;
    actor_suspend(context);
    conversation_cancel_call(c, context);
    conversation_end_run(c);
    conversation_refuse_cancels(c, context, code);
    uint32_t retry_after_s = err_may_retry(code) ? 1 : 0;
    while (c->waiters) {
        struct conv_request *waiter = conversation_remove_waiter(c, &c->waiters);
        if (PLANTED(WAITER_FORGOTTEN)) {
            struct msg *msg = &waiter->msg;
            msg_destroy(context->worker, &msg);
            continue;
        }
        conv_request_refuse(context->worker, &waiter, code, retry_after_s, "the journal could not take the message");
    }
    if (c->erase)
        conv_request_refuse(context->worker, &c->erase, code, retry_after_s, "the journal could not erase");
    while (c->gate) {
        struct conv_answer *answer = (struct conv_answer *)(void *)c->gate;
        c->gate = answer->msg.next;
        answer->msg.next = NULL;
        answer->msg.kind = CONV_REFUSED;
        answer->code = code;
        answer->retry_after_s = retry_after_s;
        answer->detail = slice_from_text("the journal could not take what this answer tells of");
        send_now(context, &answer->msg);
    }
    c->gate_end = &c->gate;
    conversation_end_subscribers(c, context);
    conversation_drop_snapshot(c, context);
}
