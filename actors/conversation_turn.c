/* SPDX-License-Identifier: Apache-2.0 */
/* A message's turn, in the order it happens: checks -> received -> route -> either an answer in the same record, or the intent to
 * ask a model; then attempts, pauses, fallbacks, and one end. Everything decided is an event before it is an act. */
#include "actors/conversation_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/routing.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/planted.h"
#include "runtime/retry.h"
#include "runtime/sometimes.h"

enum { HISTORY_MESSAGES_DEFAULT = 40, DETAIL_BYTES_MAX = 512 };
#define RUN_ENDING_NS (10 * UINT64_C(1000000000))

static struct conv_request *as_request(struct msg *msg)
{
    return (struct conv_request *)(void *)msg;
}

/* ---- waiters ----------------------------------------------------------------------------------------------------------- */

struct msg **conversation_find_waiter(struct conversation *c, const uint8_t turn_id[UUID_BYTES])
{
    struct msg **link = &c->waiters;
    while (*link && memcmp(as_request(*link)->turn_key, turn_id, UUID_BYTES) != 0)
        link = &(*link)->next;
    return link;
}

/* Behind the last waiter of its turn, so that those of one turn stand together. */
void conversation_add_waiter(struct conversation *c, struct msg **request, const uint8_t turn_id[UUID_BYTES])
{
    struct msg *msg = *request;
    *request = NULL;
    memcpy(as_request(msg)->turn_key, turn_id, UUID_BYTES);
    struct msg **link =
        as_request(msg)->is_copy || as_request(msg)->is_returned ? conversation_find_waiter(c, turn_id) : c->waiters_end;
    while (*link && memcmp(as_request(*link)->turn_key, turn_id, UUID_BYTES) == 0)
        link = &(*link)->next;
    msg->next = *link;
    *link = msg;
    if (!msg->next)
        c->waiters_end = &msg->next;
    c->waiter_count++;
}

struct conv_request *conversation_remove_waiter(struct conversation *c, struct msg **link)
{
    struct msg *msg = *link;
    *link = msg->next;
    if (!*link)
        c->waiters_end = link;
    msg->next = NULL;
    c->waiter_count--;
    return as_request(msg);
}

/* ---- planning: which events a turn's next step has ---------------------------------------------------------------------- */

/* What the planning needs of a message, whether it has just come or waited. */
struct turn_facts {
    struct slice message_id, requested_agent, text;
    uint64_t received_ms, attempts;
    struct slice primary; /* whose fallbacks are being tried; "" when none */
};

static struct turn_facts facts_of(const struct conversation_turn *turn)
{
    return (struct turn_facts){.message_id = turn->message_id,
                               .requested_agent = turn->requested_agent,
                               .text = turn->text,
                               .received_ms = turn->received_ms,
                               .attempts = turn->attempts,
                               .primary = agent_name_slice(&turn->primary)};
}

enum plan {
    PLAN_ENDS,         /* the turn's last event is in the step */
    PLAN_CALLS,        /* the step ends with the intent of an attempt */
    PLAN_PAUSES,       /* the next attempt comes after a backoff */
    PLAN_BREAKER_OPEN, /* the step has nothing of it: no route is usable now */
};

struct planned {
    enum plan plan;
    int agent;               /* CALLS, PAUSES */
    uint64_t delay_ns;       /* PAUSES */
    uint64_t retry_after_ms; /* BREAKER_OPEN */
};

static uint64_t duration_ms(const struct step *step, const struct turn_facts *facts)
{
    return step->time_ms > facts->received_ms ? step->time_ms - facts->received_ms : 0; /* the wall clock may jump */
}

static void add_completed(struct step *step, const struct turn_facts *facts, const char *status)
{
    struct event *completed = step_add(step, EVENT_TURN_COMPLETED);
    completed->status = slice_from_text(status);
    completed->duration_ms = duration_ms(step, facts);
}

static void add_failed(struct step *step, const struct turn_facts *facts, enum err code, uint64_t retry_after_ms)
{
    struct event *dead = step_add(step, EVENT_MESSAGE_DEAD_LETTERED);
    dead->message_id = facts->message_id;
    dead->reason = slice_from_text(err_name(code));
    dead->attempt = facts->attempts;
    struct event *failed = step_add(step, EVENT_TURN_FAILED);
    failed->error = slice_from_text(err_name(code));
    failed->reason = slice_from_text(err_text(code));
    failed->retry_after_ms = retry_after_ms;
    failed->duration_ms = duration_ms(step, facts);
}

/* The intent of one attempt. The key is the same for all attempts at one answer, so that a provider that honours it may tell
 * them from new ones. */
static void add_started(struct step *step, const struct config *config, int agent, const struct turn_facts *facts,
                        uint32_t fallback)
{
    const struct agent_config *asked = &config->agents[agent];
    struct event *started = step_add(step, EVENT_AGENT_AI_REQUEST_STARTED);
    started->agent = asked->name;
    started->provider = config->providers[asked->provider].name;
    started->model = asked->model;
    started->attempt = facts->attempts + 1;
    started->fallback = fallback;
    if (fallback)
        started->from = facts->primary;
    char key[UUID_TEXT_BYTES + 12];
    int size = snprintf(key, sizeof key, "%.*s-%u", SLICE_PRINT(step->turn_id), fallback);
    started->effect_key = step_copy(step, slice_of(key, (size_t)size));
}

static void add_agent_handoff(struct step *step, const struct config *config, int agent)
{
    char owner[JOURNAL_OWNER_BYTES_MAX + 1];
    int size = snprintf(owner, sizeof owner, "agent:%.*s", SLICE_PRINT(config->agents[agent].name));
    ASSERT(size > 0 && size < (int)sizeof owner);
    step_add_handoff(step, step_copy(step, slice_of(owner, (size_t)size)), SLICE_LITERAL("rule"), (struct slice){0});
}

static bool is_open(const struct step *step, const struct config *config, int agent, uint64_t *ret_retry_after_ms)
{
    return providers_is_open(conversation_services(step->context)->providers,
                             config->providers[config->agents[agent].provider].name, ret_retry_after_ms);
}

static struct planned take_route(struct step *step, const struct config *config, const struct turn_facts *facts,
                                 const struct route *route, uint32_t fallback)
{
    for (uint32_t i = 0; i < route->handoff_count; i++)
        add_agent_handoff(step, config, route->handoffs[i]);
    switch (route->kind) {
    case ROUTE_REPLY: {
        struct event *response = step_add(step, EVENT_AGENT_RESPONSE_GENERATED);
        response->agent = config->agents[route->agent].name;
        response->text = route->text;
        add_completed(step, facts, "completed");
        break;
    }
    case ROUTE_HANDOFF:
        step_add_handoff(step, route->text, SLICE_LITERAL("rule"), (struct slice){0});
        add_completed(step, facts, "waiting_human");
        break;
    case ROUTE_HUMAN: add_completed(step, facts, "waiting_human"); break;
    case ROUTE_NOBODY: add_failed(step, facts, route->code, 0); break;
    case ROUTE_MODEL:
        add_started(step, config, route->agent, facts, fallback);
        return (struct planned){.plan = PLAN_CALLS, .agent = route->agent};
    }
    return (struct planned){.plan = PLAN_ENDS};
}

/* The first fallback of `primary` from the n-th on that can be used now. */
static struct planned plan_fallback(struct step *step, const struct config *config, const struct turn_facts *facts,
                                    int primary, uint32_t n)
{
    struct turn_facts with_primary = *facts;
    with_primary.primary = config->agents[primary].name;
    const struct route_question question = {.owner = slice_from_text(step->owner), .text = facts->text};
    for (;; n++) {
        uint64_t retry_after_ms;
        struct route route = route_fallback(config, primary, n, &question);
        if (route.kind == ROUTE_NOBODY && route.code == ERR_NOT_FOUND)
            return (struct planned){.plan = PLAN_BREAKER_OPEN};
        if (route.kind == ROUTE_NOBODY ||
            (route.kind == ROUTE_MODEL && is_open(step, config, route.agent, &retry_after_ms)))
            continue;
        return take_route(step, config, &with_primary, &route, n);
    }
}

static struct planned plan_message(struct step *step, const struct config *config, const struct turn_facts *facts)
{
    const struct route_question question = {
        .owner = slice_from_text(step->owner), .requested_agent = facts->requested_agent, .text = facts->text};
    struct route route = route_message(config, &question);
    uint64_t retry_after_ms = 0;
    if (route.kind != ROUTE_MODEL || !is_open(step, config, route.agent, &retry_after_ms))
        return take_route(step, config, facts, &route, 0);
    struct planned planned = plan_fallback(step, config, facts, route.agent, 1);
    planned.retry_after_ms = retry_after_ms;
    return planned;
}

/* An attempt of the first turn has failed with `code`, or was cut off by a restart: the same agent again, or a fallback, or the
 * end. `failures` counts this one. */
static struct planned plan_after_failure(struct step *step, const struct config *config, const struct turn_facts *facts,
                                         int agent, uint32_t fallback, uint32_t failures, enum err code,
                                         uint64_t retry_after_ms, uint64_t time_left_ns)
{
    const struct retry_config *retry = &config->providers[config->agents[agent].provider].retry;
    const struct retry_policy policy = {.attempt_count_max = retry->attempts,
                                        .backoff_ns_min = retry->backoff_min_ns,
                                        .backoff_ns_max = retry->backoff_max_ns,
                                        .jitter = RETRY_JITTER_FULL};
    uint64_t delay_ns = 0;
    /* An open breaker outlasts any backoff; what else may heal is worth another attempt if the turn lives that long. */
    bool may_retry =
        failures == 0 || (err_may_retry(code) && code != ERR_BREAKER_OPEN &&
                          retry_next(&policy, failures, retry_after_ms * 1000000, clock_random_u64(), &delay_ns));
    if (may_retry && delay_ns < time_left_ns) {
        if (delay_ns > 0)
            return (struct planned){.plan = PLAN_PAUSES, .agent = agent, .delay_ns = delay_ns};
        add_started(step, config, agent, facts, fallback);
        return (struct planned){.plan = PLAN_CALLS, .agent = agent};
    }
    int primary = facts->primary.size ? config_find_agent(config, facts->primary) : agent;
    struct planned planned = {.plan = PLAN_BREAKER_OPEN};
    if (primary >= 0)
        planned = plan_fallback(step, config, facts, primary, fallback + 1);
    if (planned.plan == PLAN_BREAKER_OPEN) {
        add_failed(step, facts, code, retry_after_ms);
        planned.plan = PLAN_ENDS;
    }
    return planned;
}

/* ---- the run: the turn that a model works on --------------------------------------------------------------------------- */

void conversation_end_run(struct conversation *c)
{
    if (c->run.phase == RUN_NONE)
        return;
    conversation_set_run_phase(c, RUN_NONE);
    config_unref(c->run.config);
    struct msg *cancels = c->run.cancels; /* still to be answered */
    c->run = (struct conversation_run){.cancels = cancels};
}

/* After the commit of a step that was planned so. */
static void follow_plan(struct conversation *c, struct actor_context *context, struct config *config,
                        const struct planned *planned)
{
    switch (planned->plan) {
    case PLAN_ENDS:
    case PLAN_BREAKER_OPEN: conversation_end_run(c); return;
    case PLAN_CALLS:
    case PLAN_PAUSES: break;
    }
    if (c->run.phase == RUN_NONE) {
        c->run.config = config_ref(config);
        c->run.deadline_ns = context->now_ns + config->conversation.turn_ns_max;
        c->run.ending = RUN_ENDS_BY_ITSELF;
        conversation_set_run_phase(c, RUN_STARTING);
    } else {
        conversation_set_run_phase(c, planned->plan == PLAN_CALLS ? RUN_STARTING : RUN_PAUSING);
    }
    c->run.agent = planned->agent;
    c->run.epoch = c->state.epoch;
    c->run.token = ++c->last_token;
    c->run.pause_ns = context->now_ns + planned->delay_ns;
}

static uint64_t time_left_ns(const struct conversation *c, const struct actor_context *context)
{
    return c->run.deadline_ns > context->now_ns ? c->run.deadline_ns - context->now_ns : 0;
}

void conversation_begin_turn_step(struct step *step, struct conversation *c, struct actor_context *context)
{
    ASSERT(c->state.turns);
    step_begin(step, c, context);
    step_set_turn(step, c->state.turns->id);
    step->trace_id = c->state.turns->trace_id;
}

/* At most MODEL_TEXT_BYTES_MAX, cut between characters. */
static struct slice bounded_text(struct slice text)
{
    if (text.size <= MODEL_TEXT_BYTES_MAX)
        return text;
    size_t size = MODEL_TEXT_BYTES_MAX;
    while (size > 0 && ((unsigned char)text.data[size] & 0xC0) == 0x80)
        size--;
    return slice_of(text.data, size);
}

void conversation_add_attempt_failed(struct step *step, enum err code, const struct model_done *done)
{
    const struct conversation_turn *turn = step->conversation->state.turns;
    ASSERT(turn->is_intent_open);
    struct event *failed = step_add(step, EVENT_AGENT_AI_REQUEST_FAILED);
    failed->agent = agent_name_slice(&turn->agent);
    failed->attempt = turn->attempts;
    failed->error = slice_from_text(err_name(code));
    if (!done)
        return;
    failed->reason =
        slice_of(done->detail.data, done->detail.size < DETAIL_BYTES_MAX ? done->detail.size : DETAIL_BYTES_MAX);
    failed->text = bounded_text(done->text); /* what customers have seen of it */
    failed->http_status = done->http_status > 0 ? (uint64_t)done->http_status : 0;
    failed->retry_after_ms = done->retry_after_ms;
    failed->duration_ms = done->duration_ms;
}

/* ---- going on with what is open ------------------------------------------------------------------------------------------ */

/* A former life left the turn with an attempt under way, or in a pause. */
static struct planned plan_resumed(struct step *step, const struct config *config, struct turn_facts *facts)
{
    const struct conversation_turn *turn = step->conversation->state.turns;
    int agent = config_find_agent(config, agent_name_slice(&turn->agent));
    uint32_t interruptions = turn->interruptions;
    SOMETIMES(ATTEMPT_RESUMED, turn->is_intent_open);
    SOMETIMES(QUEUED_TURN_RESUMED, turn->next != NULL);
    if (turn->is_intent_open) {
        struct event *interrupted = step_add(step, EVENT_AGENT_AI_REQUEST_FAILED);
        interrupted->agent = agent_name_slice(&turn->agent);
        interrupted->attempt = turn->attempts;
        interrupted->error = SLICE_LITERAL("interrupted");
        interruptions++;
    }
    if (interruptions >= INTERRUPTIONS_MAX) {
        add_failed(step, facts, ERR_CRASHED, 0);
        return (struct planned){.plan = PLAN_ENDS};
    }
    if (agent < 0 || config->agents[agent].kind != AGENT_LLM)
        return plan_message(step, config, facts); /* a reload took the agent away */
    /* An interruption is no failure of the provider, so the budget of attempts is as it was. */
    if (turn->is_intent_open || turn->failures == 0)
        return plan_after_failure(step, config, facts, agent, turn->fallback, 0, OK, 0, UINT64_MAX);
    return plan_after_failure(step, config, facts, agent, turn->fallback, turn->failures, ERR_TIMEOUT, 0, UINT64_MAX);
}

static bool is_turn_due(const struct conversation *c)
{
    return c->phase == PHASE_READY && c->run.phase == RUN_NONE && c->state.turns && conversation_may_work(c);
}

enum err conversation_advance(struct conversation *c, struct actor_context *context)
{
    while (is_turn_due(c)) {
        struct step step;
        conversation_begin_turn_step(&step, c, context);
        struct config *config = conversation_services(context)->config;
        struct turn_facts facts = facts_of(c->state.turns);
        bool is_resumed = c->state.turns->agent.size > 0;
        struct planned planned = is_resumed ? plan_resumed(&step, config, &facts) : plan_message(&step, config, &facts);
        if (planned.plan == PLAN_BREAKER_OPEN) {
            add_failed(&step, &facts, ERR_BREAKER_OPEN, planned.retry_after_ms);
            planned.plan = PLAN_ENDS;
        }
        if (planned.plan == PLAN_PAUSES) { /* its backoff passed with the former life */
            add_started(&step, config, planned.agent, &facts, c->state.turns->fallback);
            planned.plan = PLAN_CALLS;
        }
        enum err code = step_commit(&step);
        if (code != OK)
            return code;
        follow_plan(c, context, config, &planned);
    }
    return OK;
}

/* ---- accepting ----------------------------------------------------------------------------------------------------------- */

/* The same message again: its answer if there is one, else it waits for it. */
static enum err accept_copy(struct conversation *c, struct actor_context *context, struct msg **request,
                            const struct dedup_entry *entry)
{
    struct conv_request *copy = as_request(*request);
    if (entry->payload_hash != copy->payload_hash && !PLANTED(DEDUP_IGNORES_PAYLOAD)) {
        conversation_refuse(c, context, request, ERR_CONFLICT, 0, "this message_id came with another payload");
        return OK;
    }
    copy->is_copy |= !copy->is_returned;
    metrics_add(conversation_metrics.duplicates, copy->is_copy);
    if (entry->finished_version && entry->finished_version <= c->committed_version) {
        conversation_read_turn(c, context, request, entry->turn_id, entry->received_version - 1, entry->finished_version);
        return OK;
    }
    if (c->waiter_count >= WAITERS_MAX) {
        conversation_refuse(c, context, request, ERR_LIMIT, 1, "too many wait for answers of this conversation");
        return OK;
    }
    if (!copy->was_accepted && !entry->finished_version && entry->received_version <= c->committed_version) {
        memcpy(copy->turn_key, entry->turn_id, UUID_BYTES);
        bool is_running = memcmp(c->state.turns->id, entry->turn_id, UUID_BYTES) == 0;
        const struct turn_report report = {.version = entry->received_version,
                                           .status = is_running ? TURN_RUNNING : TURN_QUEUED};
        struct conv_answer *answer = turn_report_answer(context, &report, CONV_ACCEPTED, copy, copy->is_copy);
        if (answer)
            conversation_send(c, context, copy->reply_to, answer);
        copy->was_accepted = answer != NULL;
    }
    conversation_add_waiter(c, request, entry->turn_id);
    return OK;
}

struct refusal {
    enum err code;
    uint32_t retry_after_s;
    const char *detail;
};

static bool has_prefix(struct slice text, const char *prefix)
{
    size_t size = strlen(prefix);
    return text.size > size && memcmp(text.data, prefix, size) == 0;
}

static struct refusal check_message(const struct conversation *c, const struct config *config,
                                    const struct conv_request *request)
{
    if (request->has_if_match && request->if_match != c->state.version)
        return (struct refusal){ERR_STALE, 0, "the conversation has another version"};
    if (c->state.status == CONVERSATION_CLOSED)
        return (struct refusal){ERR_EXISTS, 0, "the conversation is closed"};
    if (c->state.status == CONVERSATION_PARKED)
        return (struct refusal){ERR_EXISTS, 0, "the conversation is parked"};
    if (request->from.size && !slice_has_text(request->from, "customer") && !has_prefix(request->from, "human:"))
        return (struct refusal){ERR_INVALID, 0, "from must be customer or human:<name>"};
    if (request->from.size > JOURNAL_OWNER_BYTES_MAX)
        return (struct refusal){ERR_INVALID, 0, "from is too long"};
    if (request->agent.size && config_find_agent(config, request->agent) < 0)
        return (struct refusal){ERR_INVALID, 0, "no such agent"};
    return (struct refusal){.code = OK};
}

static struct refusal check_busy(const struct conversation *c, const struct config *config,
                                 const struct conv_request *request)
{
    if (c->state.turn_count == 0)
        return (struct refusal){.code = OK};
    const struct route_question question = {.owner = conversation_state_owner(&c->state),
                                            .requested_agent = request->agent};
    bool is_rejected = request->on_busy == CONV_ON_BUSY_REJECT ||
                       (request->on_busy == CONV_ON_BUSY_DEFAULT &&
                        config->agents[route_first_agent(config, &question)].reject_when_busy);
    if (is_rejected)
        return (struct refusal){ERR_BUSY, 1, "a turn is running"};
    if (c->state.turn_count > config->conversation.queued_turns && !PLANTED(QUEUE_WITHOUT_BOUND))
        return (struct refusal){ERR_LIMIT, 1, "too many messages of this conversation wait for their turn"};
    return (struct refusal){.code = OK};
}

static void add_received(struct step *step, const struct config *config, const struct conv_request *request)
{
    struct event *received = step_add(step, EVENT_INBOX_MESSAGE_RECEIVED);
    received->message_id = request->message_id;
    received->payload_hash = request->payload_hash;
    received->from = SLICE_LITERAL("customer");
    received->text = request->text;
    received->customer_id = request->customer_id;
    received->channel = request->channel;
    received->metadata = request->metadata;
    received->agent = request->agent;
    if (step->owner[0])
        return;
    /* The first message of all says who owns the conversation from the start. */
    int size =
        snprintf(step->owner, sizeof step->owner, "agent:%.*s", SLICE_PRINT(config->agents[config->default_agent].name));
    received->owner = step_copy(step, slice_of(step->owner, (size_t)size));
    step->epoch = 1;
}

static void add_human_message(struct step *step, const struct conv_request *request)
{
    struct event *sent = step_add(step, EVENT_AGENT_HUMAN_MESSAGE_SENT);
    sent->message_id = request->message_id;
    sent->payload_hash = request->payload_hash;
    sent->from = request->from;
    sent->text = request->text;
}

/* A person may speak who owns the conversation, or who takes it out of a queue by speaking. */
static struct refusal plan_human(struct step *step, const struct conv_request *request)
{
    struct slice owner = slice_from_text(step->owner);
    if (!slice_is_equal(owner, request->from)) {
        if (!has_prefix(owner, "queue:"))
            return (struct refusal){ERR_INVALID, 0, "the conversation belongs to somebody else"};
        step_add_handoff(step, request->from, SLICE_LITERAL("claimed"), (struct slice){0});
    }
    add_human_message(step, request);
    step_add(step, EVENT_TURN_COMPLETED)->status = SLICE_LITERAL("completed");
    return (struct refusal){.code = OK};
}

static void make_message_id(struct conv_request *request, uint64_t time_ms)
{
    uint8_t id[UUID_BYTES];
    uuid_create(time_ms, id);
    uuid_format(id, request->made_message_id);
    request->message_id = slice_of(request->made_message_id, sizeof request->made_message_id);
}

enum err conversation_accept(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    struct conv_request *request = as_request(*msg);
    if (request->message_id.size) {
        const struct dedup_entry *entry = dedup_find(&c->state.dedup, dedup_message_hash(request->message_id));
        if (entry) /* before If-Match: a repeated request gets the answer of the first, whatever has happened since */
            return accept_copy(c, context, msg, entry);
    }
    if (c->appends_in_flight >= RECORDS_IN_FLIGHT_MAX - RECORDS_FOR_ACTS || c->waiter_count >= WAITERS_MAX) {
        conversation_refuse_overload(context, msg);
        return OK;
    }
    struct config *config = conversation_services(context)->config;
    struct refusal refusal = check_message(c, config, request);
    bool is_human = has_prefix(request->from, "human:");
    if (refusal.code == OK && !is_human)
        refusal = check_busy(c, config, request);
    if (refusal.code != OK) {
        conversation_refuse(c, context, msg, refusal.code, refusal.retry_after_s, refusal.detail);
        return OK;
    }

    struct step step;
    step_begin(&step, c, context);
    step.trace_id = request->trace_id;
    if (request->message_id.size == 0)
        make_message_id(request, step.time_ms);
    uint8_t turn_id[UUID_BYTES];
    uuid_create(step.time_ms, turn_id);
    step_set_turn(&step, turn_id);
    struct planned planned = {.plan = PLAN_ENDS};
    if (is_human) {
        refusal = plan_human(&step, request);
    } else {
        add_received(&step, config, request);
        const struct turn_facts facts = {.message_id = request->message_id,
                                         .requested_agent = request->agent,
                                         .text = request->text,
                                         .received_ms = step.time_ms};
        if (c->state.turn_count == 0)
            planned = plan_message(&step, config, &facts);
        if (planned.plan == PLAN_BREAKER_OPEN)
            refusal = (struct refusal){ERR_BREAKER_OPEN, (uint32_t)(planned.retry_after_ms / 1000 + 1),
                                       "every route to an agent is broken just now"};
    }
    if (refusal.code == OK)
        refusal = (struct refusal){step_commit(&step), 1, "no room for the message's record"};
    if (refusal.code == ERR_CRASHED)
        return ERR_CRASHED;
    if (refusal.code != OK) {
        conversation_refuse(c, context, msg, refusal.code, refusal.retry_after_s, refusal.detail);
        return OK;
    }
    metrics_add(conversation_metrics.accepted, 1);
    conversation_add_waiter(c, msg, turn_id);
    if (planned.plan == PLAN_CALLS)
        follow_plan(c, context, config, &planned);
    if (PLANTED(GATE_OPENS_EARLY))
        return conversation_deliver(c, context, buffer_slice(&conversation_scratch(context)->record),
                                    step.events[0].version);
    return OK;
}

/* Its handling crashed the conversation too often: it ends here, told to whoever waits and to the list of dead letters. */
enum err conversation_take_dead(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    struct conv_request *request = as_request(*msg);
    const struct config *config = conversation_services(context)->config;
    const struct dedup_entry *entry =
        request->message_id.size ? dedup_find(&c->state.dedup, dedup_message_hash(request->message_id)) : NULL;
    if (entry && entry->finished_version)
        return accept_copy(c, context, msg, entry);

    struct step step;
    step_begin(&step, c, context);
    step.trace_id = request->trace_id;
    if (request->message_id.size == 0)
        make_message_id(request, step.time_ms);
    uint8_t turn_id[UUID_BYTES];
    if (entry)
        memcpy(turn_id, entry->turn_id, UUID_BYTES);
    else
        uuid_create(step.time_ms, turn_id);
    step_set_turn(&step, turn_id);
    if (!entry && has_prefix(request->from, "human:"))
        add_human_message(&step, request);
    else if (!entry)
        add_received(&step, config, request);
    bool is_running = c->run.phase != RUN_NONE && memcmp(c->state.turns->id, turn_id, UUID_BYTES) == 0;
    if (is_running && c->state.turns->is_intent_open)
        conversation_add_attempt_failed(&step, ERR_CANCELLED, NULL);
    add_failed(&step,
               &(struct turn_facts){
                   .message_id = request->message_id, .received_ms = step.time_ms, .attempts = request->crashes},
               ERR_CRASHED, 0);
    enum err code = step_commit(&step);
    if (code != OK)
        return code;
    if (is_running) {
        conversation_cancel_call(c, context);
        conversation_end_run(c);
        conversation_answer_cancels(c, context);
    }
    conversation_add_waiter(c, msg, turn_id);
    return conversation_advance(c, context);
}

/* ---- the call ---------------------------------------------------------------------------------------------------------- */

/* What the model is told: instructions, then the last of the dialogue, ending with the message of this turn (S3). */
static struct model_call *make_call(struct conversation *c, struct actor_context *context)
{
    const struct agent_config *agent = &c->run.config->agents[c->run.agent];
    uint32_t count_max = agent->history_messages ? agent->history_messages : HISTORY_MESSAGES_DEFAULT;
    uint32_t skipped = c->state.history.count > count_max ? c->state.history.count - count_max : 0;
    struct model_message *messages = malloc((c->state.history.count - skipped + 1) * sizeof *messages);
    if (!messages)
        return NULL;
    uint32_t count = 0;
    if (agent->instructions.size)
        messages[count++] = (struct model_message){MODEL_ROLE_SYSTEM, agent->instructions};
    struct history_entry entry;
    for (uint32_t position = 0; history_next(&c->state.history, &position, &entry);) {
        if (skipped > 0)
            skipped--;
        else
            messages[count++] = (struct model_message){
                entry.speaker == SPEAKER_CUSTOMER ? MODEL_ROLE_USER : MODEL_ROLE_ASSISTANT, entry.text};
    }
    bool wants_deltas = false;
    for (struct msg *msg = *conversation_find_waiter(c, c->state.turns->id); msg && !wants_deltas; msg = msg->next)
        wants_deltas =
            as_request(msg)->subscribe && memcmp(as_request(msg)->turn_key, c->state.turns->id, UUID_BYTES) == 0;
    char key[UUID_TEXT_BYTES + 12];
    char turn_id[UUID_TEXT_BYTES];
    uuid_format(c->state.turns->id, turn_id);
    int key_size = snprintf(key, sizeof key, "%.*s-%u", (int)sizeof turn_id, turn_id, c->state.turns->fallback);
    struct model_call *call =
        model_call_create(context->worker, &(struct model_call){.reply_to = context->self,
                                                                .token = c->run.token,
                                                                .config = c->run.config,
                                                                .agent = c->run.agent,
                                                                .effect_key = slice_of(key, (size_t)key_size),
                                                                .trace_id = c->state.turns->trace_id,
                                                                .wants_deltas = wants_deltas,
                                                                .deadline_ns = c->run.deadline_ns,
                                                                .messages = messages,
                                                                .message_count = count});
    free(messages);
    return call;
}

enum err conversation_start_call(struct conversation *c, struct actor_context *context)
{
    conversation_set_run_phase(c, RUN_CALLING);
    metrics_add(conversation_metrics.model_attempts, 1);
    struct model_call *call = make_call(c, context);
    struct msg *msg = call ? &call->msg : NULL;
    enum err code = call ? actor_send(context->worker, llm_gateway(conversation_services(context)), &msg) : ERR_NO_MEMORY;
    if (code == OK)
        return OK;
    if (call)
        model_call_destroy(context->worker, &call);
    return conversation_on_model_done(
        c, context,
        &(struct model_done){
            .token = c->run.token, .code = ERR_BUSY, .detail = SLICE_LITERAL("the model gateway takes no more calls")});
}

void conversation_cancel_call(struct conversation *c, struct actor_context *context)
{
    if (c->run.phase != RUN_CALLING)
        return;
    struct model_cancel *cancel = MSG_CREATE(context->worker, struct model_cancel, MODEL_CANCEL, MSG_CONTROL);
    if (!cancel)
        return; /* its answer will be stale */
    cancel->reply_to = context->self;
    cancel->token = c->run.token;
    struct msg *msg = &cancel->msg;
    if (actor_send(context->worker, llm_gateway(conversation_services(context)), &msg) != OK)
        msg_destroy(context->worker, &msg);
}

void conversation_on_model_delta(struct conversation *c, struct actor_context *context, const struct model_delta *delta)
{
    if (c->run.phase != RUN_CALLING || delta->token != c->run.token || c->run.epoch != c->state.epoch)
        return;
    for (struct msg *at = *conversation_find_waiter(c, c->state.turns->id); at; at = at->next) {
        struct conv_request *waiter = as_request(at);
        if (memcmp(waiter->turn_key, c->state.turns->id, UUID_BYTES) != 0)
            return;
        struct conv_answer *answer =
            waiter->subscribe
                ? conv_answer_create(context->worker, CONV_DELTA,
                                     &(struct conv_answer){.reply_token = waiter->reply_token, .text = delta->text})
                : NULL;
        struct msg *msg = answer ? &answer->msg : NULL;
        if (msg && actor_send(context->worker, waiter->reply_to, &msg) != OK)
            msg_destroy(context->worker, &msg); /* the whole text comes at the end in any case */
    }
}

static void add_answered(struct step *step, const struct config *config, int agent, const struct turn_facts *facts,
                         const struct model_done *done)
{
    struct event *response = step_add(step, EVENT_AGENT_AI_RESPONSE_GENERATED);
    response->agent = config->agents[agent].name;
    response->provider = config->providers[config->agents[agent].provider].name;
    response->model = config->agents[agent].model;
    response->attempt = facts->attempts;
    response->text = bounded_text(done->text);
    response->finish_reason = response->text.size < done->text.size ? SLICE_LITERAL("length") : done->finish_reason;
    response->input_tokens = done->input_tokens;
    response->output_tokens = done->output_tokens;
    response->duration_ms = done->duration_ms;
    add_completed(step, facts, "completed");
}

enum err conversation_on_model_done(struct conversation *c, struct actor_context *context, const struct model_done *done)
{
    bool is_awaited = c->run.phase == RUN_CALLING || c->run.phase == RUN_ENDING;
    if (c->phase != PHASE_READY || !is_awaited || done->token != c->run.token)
        return OK; /* of an attempt that was given up */
    if (c->run.ending == RUN_IS_CANCELLED)
        return conversation_finish_cancel(c, context, bounded_text(done->text));
    ASSERT(c->run.epoch == c->state.epoch ||
           PLANTED(FORMER_SPEAKER_GOES_ON)); /* a change of owner ends the run in the same step (C5) */

    struct step step;
    conversation_begin_turn_step(&step, c, context);
    const struct conversation_turn *turn = c->state.turns;
    const struct turn_facts facts = facts_of(turn);
    struct config *config = c->run.config;
    struct planned planned = {.plan = PLAN_ENDS};
    if (done->code == OK) {
        add_answered(&step, config, c->run.agent, &facts, done);
    } else {
        bool is_late = c->run.ending == RUN_IS_LATE;
        enum err code = is_late ? ERR_TIMEOUT : done->code;
        conversation_add_attempt_failed(&step, code, done);
        if (is_late)
            add_failed(&step, &facts, ERR_TIMEOUT, 0);
        else
            planned = plan_after_failure(&step, config, &facts, c->run.agent, turn->fallback, turn->failures + 1, code,
                                         done->retry_after_ms, time_left_ns(c, context));
    }
    enum err code = step_commit(&step);
    if (code != OK)
        return code;
    follow_plan(c, context, config, &planned);
    return conversation_advance(c, context);
}

/* ---- time -------------------------------------------------------------------------------------------------------------- */

static enum err attempt_again(struct conversation *c, struct actor_context *context)
{
    struct step step;
    conversation_begin_turn_step(&step, c, context);
    const struct turn_facts facts = facts_of(c->state.turns);
    add_started(&step, c->run.config, c->run.agent, &facts, c->state.turns->fallback);
    enum err code = step_commit(&step);
    if (code == OK)
        follow_plan(c, context, c->run.config, &(struct planned){.plan = PLAN_CALLS, .agent = c->run.agent});
    return code == OK && PLANTED(ATTEMPT_NOT_JOURNALLED) ? conversation_start_call(c, context) : code;
}

/* The turn is too long and no call is open that would have to end first. */
static enum err end_late(struct conversation *c, struct actor_context *context)
{
    struct step step;
    conversation_begin_turn_step(&step, c, context);
    const struct turn_facts facts = facts_of(c->state.turns);
    if (c->state.turns->is_intent_open)
        conversation_add_attempt_failed(&step, ERR_TIMEOUT, NULL);
    add_failed(&step, &facts, ERR_TIMEOUT, 0);
    enum err code = step_commit(&step);
    if (code != OK)
        return code;
    conversation_end_run(c);
    return conversation_advance(c, context);
}

enum err conversation_check_run(struct conversation *c, struct actor_context *context)
{
    uint64_t now = context->now_ns;
    switch (c->run.phase) {
    case RUN_NONE:
    case RUN_COUNT: return OK;
    case RUN_STARTING: return now >= c->run.deadline_ns ? end_late(c, context) : OK;
    case RUN_PAUSING:
        if (now >= c->run.deadline_ns)
            return end_late(c, context);
        return now >= c->run.pause_ns ? attempt_again(c, context) : OK;
    case RUN_CALLING:
        if (now < c->run.deadline_ns)
            return OK;
        conversation_cancel_call(c, context);
        c->run.ending = RUN_IS_LATE;
        c->run.ending_ns = now + RUN_ENDING_NS;
        conversation_set_run_phase(c, RUN_ENDING);
        return OK;
    case RUN_ENDING:
        if (now < c->run.ending_ns)
            return OK;
        if (c->run.ending == RUN_IS_CANCELLED)
            return conversation_finish_cancel(c, context, (struct slice){0});
        return end_late(c, context);
    }
    return OK;
}
