/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/actors/world.h"

#include "actors/conversation_key.h"
#include "net/json.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/ring_sim.h"

/* ---- the model's side: stands in for actors/llm --------------------------------------------------------------------- */

static struct actor_id gateway_id;
static bool is_breaker_open[2];

struct actor_id llm_gateway(const struct services *services)
{
    (void)services;
    return gateway_id;
}

bool providers_is_open(const struct providers *providers, struct slice provider, uint64_t *ret_retry_after_ms)
{
    (void)providers;
    bool is_open = is_breaker_open[slice_has_text(provider, "spare")];
    if (is_open)
        *ret_retry_after_ms = 2500;
    return is_open;
}

void world_set_breaker(int provider, bool is_open)
{
    is_breaker_open[provider] = is_open;
}

static enum err on_gateway_message(struct actor_context *context, struct msg **msg)
{
    struct world *world = context->state;
    if ((*msg)->kind == MODEL_CANCEL) {
        const struct model_cancel *cancel = (const struct model_cancel *)(const void *)*msg;
        for (uint32_t i = 0; i < world->call_count; i++)
            if (world->calls[i].token == cancel->token && actor_id_is_equal(world->calls[i].reply_to, cancel->reply_to))
                world->calls[i].is_cancelled = true;
        return OK;
    }
    assert_int_equal((*msg)->kind, MODEL_CALL);
    struct model_call *call = (struct model_call *)(void *)*msg;
    struct call *kept = &world->calls[world->call_count++];
    *kept = (struct call){
        .reply_to = call->reply_to, .token = call->token, .agent = call->agent, .wants_deltas = call->wants_deltas};
    snprintf(kept->effect_key, sizeof kept->effect_key, "%.*s", SLICE_PRINT(call->effect_key));
    size_t used = 0;
    for (uint32_t i = 0; i < call->message_count; i++)
        used += (size_t)snprintf(kept->messages + used, sizeof kept->messages - used, "%s%c:%.*s", i ? "|" : "",
                                 "sua"[call->messages[i].role], SLICE_PRINT(call->messages[i].text));
    config_unref(call->config);
    call->config = NULL;
    return OK;
}

static const struct actor_type gateway_type = {.name = "gateway", .on_message = on_gateway_message, .is_pinned = true};

void world_model_done(struct world *world, uint32_t call, const struct model_done *fill)
{
    assert_true(call < world->call_count);
    struct call *kept = &world->calls[call];
    assert_false(kept->is_done);
    kept->is_done = true;
    size_t size = sizeof *fill + fill->text.size + fill->detail.size + fill->finish_reason.size;
    struct model_done *done =
        (struct model_done *)(void *)msg_create(world->worker, MODEL_DONE, MSG_CONTROL, (uint32_t)size);
    assert_non_null(done);
    struct msg header = done->msg;
    *done = *fill;
    done->msg = header;
    done->token = kept->token;
    char *at = (char *)(done + 1);
    struct slice *texts[] = {&done->text, &done->detail, &done->finish_reason};
    for (size_t i = 0; i < 3; i++) {
        if (texts[i]->size)
            memcpy(at, texts[i]->data, texts[i]->size);
        texts[i]->data = at;
        at += texts[i]->size;
    }
    struct msg *msg = &done->msg;
    if (actor_send(world->worker, kept->reply_to, &msg) != OK)
        msg_destroy(world->worker, &msg);
}

void world_model_says(struct world *world, uint32_t call, const char *text)
{
    world_model_done(world, call,
                     &(struct model_done){.code = OK,
                                          .was_sent = true,
                                          .http_status = 200,
                                          .text = slice_from_text(text),
                                          .finish_reason = SLICE_LITERAL("stop"),
                                          .input_tokens = 7,
                                          .output_tokens = 3,
                                          .duration_ms = 12});
}

void world_model_delta(struct world *world, uint32_t call, const char *text)
{
    struct model_delta *delta = (struct model_delta *)(void *)msg_create(world->worker, MODEL_DELTA, MSG_CONTROL,
                                                                         (uint32_t)(sizeof *delta + strlen(text)));
    assert_non_null(delta);
    memcpy(delta + 1, text, strlen(text));
    delta->token = world->calls[call].token;
    delta->text = slice_of((const char *)(delta + 1), strlen(text));
    struct msg *msg = &delta->msg;
    if (actor_send(world->worker, world->calls[call].reply_to, &msg) != OK)
        msg_destroy(world->worker, &msg);
}

/* ---- the front -------------------------------------------------------------------------------------------------------- */

#define KEEP(field) snprintf(reply->field, sizeof reply->field, "%.*s", SLICE_PRINT(answer->field))

static enum err on_front_message(struct actor_context *context, struct msg **msg)
{
    struct world *world = context->state;
    const struct conv_answer *answer = (const struct conv_answer *)(const void *)*msg;
    if (world->reply_count == world->reply_capacity) {
        world->reply_capacity = world->reply_capacity ? world->reply_capacity * 2 : 64;
        world->replies = realloc(world->replies, world->reply_capacity * sizeof *world->replies);
        assert_non_null(world->replies);
    }
    struct reply *reply = &world->replies[world->reply_count++];
    *reply = (struct reply){.kind = (*msg)->kind,
                            .token = answer->reply_token,
                            .version = answer->version,
                            .status = answer->status,
                            .is_duplicate = answer->is_duplicate,
                            .has_reply = answer->has_reply,
                            .code = answer->code,
                            .retry_after_s = answer->retry_after_s};
    KEEP(message_id);
    KEEP(turn_id);
    KEEP(agent);
    KEEP(text);
    KEEP(detail);
    reply->body = strndup(answer->body.size ? answer->body.data : "", answer->body.size);
    assert_non_null(reply->body);
    return OK;
}

static const struct actor_type front_type = {
    .name = "front", .on_message = on_front_message, .is_pinned = true, .mailbox_count_max = 1 << 20};

const struct reply *world_reply(const struct world *world, uint64_t token, uint32_t n)
{
    for (uint32_t i = 0; i < world->reply_count; i++)
        if (world->replies[i].token == token && n-- == 0)
            return &world->replies[i];
    return NULL;
}

uint32_t world_reply_count(const struct world *world, uint64_t token)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->reply_count; i++)
        count += world->replies[i].token == token;
    return count;
}

const struct reply *world_last(const struct world *world, uint64_t token)
{
    uint32_t count = world_reply_count(world, token);
    return count ? world_reply(world, token, count - 1) : NULL;
}

uint64_t world_request(struct world *world, uint16_t kind, const struct conv_request *fill)
{
    struct conv_request filled = *fill;
    filled.tenant = SLICE_LITERAL("default");
    filled.reply_to = world->front;
    filled.reply_token = ++world->last_token;
    filled.received_ns = clock_mono_ns();
    if (kind == CONV_MESSAGE && !filled.payload_hash)
        filled.payload_hash = hash_bytes(fill->text, (struct hash128){0, 0}).low | 1;
    struct conv_request *request = conv_request_create(world->worker, kind, &filled);
    assert_non_null(request);
    assert_int_equal(directory_send(world->worker, &world->services, &request), OK);
    return filled.reply_token;
}

uint64_t world_say(struct world *world, const char *conversation, const char *message_id, const char *text)
{
    return world_request(world, CONV_MESSAGE,
                         &(struct conv_request){.conversation = slice_from_text(conversation),
                                                .message_id = slice_from_text(message_id),
                                                .text = slice_from_text(text),
                                                .trace_id = SLICE_LITERAL("trace-1")});
}

const char *world_get(struct world *world, const char *conversation)
{
    uint64_t token =
        world_request(world, CONV_GET, &(struct conv_request){.conversation = slice_from_text(conversation)});
    world_settle(world);
    const struct reply *reply = world_last(world, token);
    assert_non_null(reply);
    return reply->kind == CONV_FINISHED ? reply->body : "";
}

const char *world_events(struct world *world, const char *conversation)
{
    uint64_t token = world_request(world, CONV_EVENTS,
                                   &(struct conv_request){.conversation = slice_from_text(conversation), .limit = 1000});
    world_settle(world);
    const struct reply *reply = world_last(world, token);
    assert_non_null(reply);
    if (reply->kind != CONV_FINISHED)
        return "";
    static char names[65536];
    size_t used = 0;
    names[0] = 0;
    for (const char *at = reply->body; (at = strstr(at, "{\"event\":\"")); at++) {
        at += 10;
        used += (size_t)snprintf(names + used, sizeof names - used, "%.*s\n", (int)(strchr(at, '"') - at), at);
        assert_true(used < sizeof names);
    }
    return names;
}

/* ---- the world -------------------------------------------------------------------------------------------------------- */

static struct slice folded_phrases[] = {{"preco", 5}, {"humano", 6}, {"vendas", 6}};

static void fill_config(struct config *config)
{
    static struct rule rules[] = {
        {.match = &folded_phrases[0], .match_count = 1, .action = {.kind = ACTION_REPLY, .text = {"R$ 10", 5}}},
        {.match = &folded_phrases[1],
         .match_count = 1,
         .action = {.kind = ACTION_HANDOFF, .text = {"queue:atendimento", 17}, .agent = -1}},
        {.match = &folded_phrases[2],
         .match_count = 1,
         .action = {.kind = ACTION_HANDOFF, .text = {"agent:echo", 10}, .agent = AGENT_INDEX_ECHO}},
    };
    static struct action fallbacks[] = {{.kind = ACTION_AGENT, .agent = AGENT_INDEX_BACKUP},
                                        {.kind = ACTION_REPLY, .text = {"sorry", 5}}};
    static struct agent_config agents[AGENT_INDEX_COUNT] = {
        [AGENT_INDEX_ECHO] = {.name = {"echo", 4}, .kind = AGENT_ECHO},
        [AGENT_INDEX_TRIAGE] = {.name = {"triage", 6},
                                .kind = AGENT_RULES,
                                .rules = rules,
                                .rule_count = 3,
                                .otherwise = {.kind = ACTION_AGENT, .agent = AGENT_INDEX_ECHO}},
        [AGENT_INDEX_ASSISTANT] = {.name = {"assistant", 9},
                                   .kind = AGENT_LLM,
                                   .provider = 0,
                                   .model = {"m-1", 3},
                                   .instructions = {"be kind", 7},
                                   .fallbacks = fallbacks,
                                   .fallback_count = 2},
        [AGENT_INDEX_BACKUP] = {.name = {"backup", 6}, .kind = AGENT_LLM, .provider = 1, .model = {"m-2", 3}},
        [AGENT_INDEX_LONELY] = {.name = {"lonely", 6}, .kind = AGENT_LLM, .provider = 0, .model = {"m-1", 3}},
    };
    static struct provider_config providers[] = {
        {.name = {"main", 4}, .retry = {.attempts = 2, .backoff_min_ns = 100000000, .backoff_max_ns = 1000000000}},
        {.name = {"spare", 5}, .retry = {.attempts = 1}},
    };
    *config = (struct config){.references = 1,
                              .agents = agents,
                              .agent_count = AGENT_INDEX_COUNT,
                              .providers = providers,
                              .provider_count = 2,
                              .default_agent = AGENT_INDEX_TRIAGE};
    config->conversation.mailbox_messages = 4096;
    config->conversation.queued_turns = 64;
    config->conversation.history_messages = 50;
    config->conversation.history_bytes = 65536;
    config->conversation.dedup_messages = 256;
    config->conversation.crash_max = 3;
    config->conversation.idle_ns = 60 * UINT64_C(1000000000);
    config->conversation.turn_ns_max = 300 * UINT64_C(1000000000);
    config->conversation.routing_hops = 8;
}

static uint64_t draw(void *context)
{
    struct world *world = context;
    world->random = world->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return world->random >> 11;
}

static void on_journal_failed(void *context, const struct error *error)
{
    (void)context;
    (void)error;
}

static void start(struct world *world)
{
    struct error error = {0};
    assert_int_equal(runtime_create(&(struct runtime_options){.worker_count = 1}, &world->runtime, &error), OK);
    world->worker = runtime_worker(world->runtime, 0);
    assert_int_equal(worker_start(world->worker, &error), OK);
    const struct journal_options options = {
        .directory = "/journal", .backend = "sqlite", .vfs = "world-disk", .on_failed = on_journal_failed};
    if (journal_open(&options, world->runtime, &world->journal, &error) != OK)
        fail_msg("%s", error.text);
    world->services = (struct services){
        .journal = world->journal, .worker = world->worker, .config = &world->config, .directories = &world->directory};
    worker_set_user(world->worker, &world->services);
    assert_int_equal(dead_letters_start(world->worker, &world->services, &world->services.dead_letters, &error), OK);
    assert_int_equal(directory_start(world->worker, &world->services, &world->directory, &error), OK);
    assert_int_equal(actor_spawn(world->worker, &front_type, world, &(struct actor_options){0}, &world->front), OK);
    assert_int_equal(actor_spawn(world->worker, &gateway_type, world, &(struct actor_options){0}, &world->gateway), OK);
    gateway_id = world->gateway;
    directory_resume_open(world->worker, &world->services);
    world_settle(world);
}

struct world *world_create(void)
{
    sim_world_reset(7, NULL);
    log_set_level(LOG_ERROR + 1);
    is_breaker_open[0] = is_breaker_open[1] = false;
    world_poison("", 0);
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    fill_config(&world->config);
    world->disk = disk_sim_create(
        &(struct disk_sim_options){.name = "world-disk", .random = draw, .random_context = world, .is_powersafe = true});
    assert_non_null(world->disk);
    start(world);
    return world;
}

static void stop(struct world *world)
{
    runtime_destroy(world->runtime);
    directory_destroy(world->services.directory);
    world->call_count = 0;
}

void world_destroy(struct world *world)
{
    journal_close(world->journal);
    stop(world);
    disk_sim_destroy(world->disk);
    for (uint32_t i = 0; i < world->reply_count; i++)
        free(world->replies[i].body);
    free(world->replies);
    assert_int_equal(world->config.references, 1); /* every turn gave its configuration back */
    free(world);
    sim_world_destroy();
}

void world_crash(struct world *world)
{
    disk_sim_crash(world->disk);
    journal_abandon(world->journal);
    stop(world);
    disk_sim_restart(world->disk);
    start(world);
}

void world_run(struct world *world)
{
    while (worker_step(world->worker)) {}
}

void world_settle(struct world *world)
{
    for (bool is_moving = true; is_moving;) {
        is_moving = worker_step(world->worker);
        is_moving |= journal_write_step(world->journal);
        is_moving |= journal_read_step(world->journal);
    }
}

void world_wait(struct world *world, uint64_t ms)
{
    uint64_t until = clock_mono_ns() + ms * 1000000;
    for (;;) { /* from timer to timer, so that each finds the time it asked for */
        world_settle(world);
        uint64_t next = worker_next_deadline_ns(world->worker);
        if (next >= until)
            break;
        sim_clock_advance_to(next);
    }
    sim_clock_advance_to(until);
    world_settle(world);
}

/* ---- for cmocka ---------------------------------------------------------------------------------------------------------- */

int world_set_up(void **state)
{
    *state = world_create();
    return 0;
}

int world_set_up_with_model(void **state)
{
    struct world *world = world_create();
    world->config.default_agent = AGENT_INDEX_ASSISTANT;
    *state = world;
    return 0;
}

int world_tear_down(void **state)
{
    world_destroy(*state);
    return 0;
}

void world_assert_finished(const struct reply *reply, enum turn_status status, const char *text)
{
    assert_non_null(reply);
    if (reply->kind == CONV_REFUSED)
        fail_msg("refused: %s: %s", err_name(reply->code), reply->detail);
    assert_int_equal(reply->kind, CONV_FINISHED);
    assert_int_equal(reply->status, status);
    assert_string_equal(reply->text, text);
}
