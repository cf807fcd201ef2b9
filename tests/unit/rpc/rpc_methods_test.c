/* SPDX-License-Identifier: Apache-2.0 */
/* The methods of RPC: what they ask of conversations, when they answer, clients that leave, answers that come late. Frames go
 * through the real server on the simulated network; conversations are played. Time is virtual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/admission.h"
#include "actors/api/api_message.h"
#include "actors/config/config.h"
#include "actors/directory.h"
#include "actors/rpc/rpc_internal.h"
#include "net/pack.h"
#include "net/rpc_scan.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/ring_sim.h"

enum { SENT_MAX = 64 };
#define SAID "conversation_id", "c-17", "text", "hello", "message_id", "m-1"

static struct services services;
static struct runtime *runtime;
static struct worker *worker;
static struct rpc *rpc;
static struct rpc_server *server;
static struct sim_client *client;
static char address[64];
static struct conv_request *sent[SENT_MAX];
static uint32_t sent_count;
static int next_msgid;
static enum err directory_code, admission_code;

/* The played directory: linked before the real one. */
enum err directory_send(struct worker *from, struct services *of, struct conv_request **request)
{
    ASSERT(from == worker && of == &services);
    if (directory_code != OK)
        return directory_code;
    ASSERT(sent_count < SENT_MAX);
    sent[sent_count++] = *request;
    *request = NULL;
    return OK;
}

/* The played admission. */
enum err admission_check(const struct services *of)
{
    ASSERT(of == &services);
    return admission_code;
}

static const struct conv_request *last_sent(void)
{
    assert_true(sent_count > 0);
    return sent[sent_count - 1];
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

static void settle(void)
{
    while (worker_step(worker) || sim_world_next_event_ns() <= clock_mono_ns())
        continue;
}

static void pass_ms(uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms; passed += 10) {
        sim_clock_advance_to(clock_mono_ns() + UINT64_C(10000000));
        settle();
    }
}

static enum err on_start(struct worker *on, void *user, struct error *error)
{
    (void)user;
    struct rpc_server_options options = {0};
    worker_set_user(on, &services);
    if (rpc_start(on, &services, &rpc, &options.handler, error) != OK ||
        rpc_server_create(on, &options, &server, error) != OK)
        return ERR_NO_MEMORY;
    enum err code = rpc_server_listen(server, "127.0.0.1:0", &server, 1, error);
    rpc_server_address(server, address, sizeof address);
    return code;
}

static void on_stop(struct worker *on, void *user)
{
    (void)user;
    for (uint32_t i = 0; i < sent_count; i++) {
        struct msg *msg = &sent[i]->msg;
        msg_destroy(on, &msg);
    }
    rpc_server_destroy(server);
    rpc_destroy(rpc);
}

static int start(void **state)
{
    (void)state;
    static const struct config_flags no_flags;
    struct error error = {0};
    sim_world_reset(1, NULL);
    sent_count = 0;
    next_msgid = 7;
    directory_code = admission_code = OK;
    struct runtime_options options = {.worker_count = 1, .on_start = on_start, .on_stop = on_stop};
    if (runtime_create(&options, &runtime, &error) != OK)
        return -1;
    worker = runtime_worker(runtime, 0);
    services = (struct services){.worker = worker};
    if (config_load(&no_flags, &services.config, &error) != OK || worker_start(worker, &error) != OK)
        return -1;
    client = sim_connect(address);
    return client ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    runtime_destroy(runtime);
    config_unref(services.config);
    int leaked = (int)sim_world_descriptor_count();
    sim_world_destroy();
    return leaked;
}

/* ---- frames -------------------------------------------------------------------------------------------------------------- */

/* Params as key, value, ..., NULL: a value that begins with '#' is a number. Sends request next_msgid, or a notification. */
static void ask_with(const char *method, bool is_notification, va_list fields)
{
    struct buffer params, frame;
    msgpack_packer packer;
    uint32_t pairs = 0;
    buffer_init(&params, 65536);
    buffer_init(&frame, 65536);
    pack_init(&packer, &params);
    for (const char *key; (key = va_arg(fields, const char *)); pairs++) {
        const char *value = va_arg(fields, const char *);
        pack_text(&packer, slice_from_text(key));
        if (value[0] == '#')
            msgpack_pack_uint64(&packer, strtoull(value + 1, NULL, 10));
        else
            pack_text(&packer, slice_from_text(value));
    }
    pack_init(&packer, &frame);
    msgpack_pack_array(&packer, is_notification ? 3 : 4);
    msgpack_pack_int(&packer, is_notification ? 2 : 0);
    if (!is_notification)
        msgpack_pack_int(&packer, next_msgid);
    pack_text(&packer, slice_from_text(method));
    msgpack_pack_array(&packer, 1);
    msgpack_pack_map(&packer, pairs);
    buffer_append_slice(&frame, buffer_slice(&params));
    assert_int_equal(sim_client_send(client, frame.data, frame.size), frame.size);
    settle();
    buffer_deinit(&params);
    buffer_deinit(&frame);
}

static void ask(const char *method, ...)
{
    va_list fields;
    va_start(fields, method);
    ask_with(method, false, fields);
    va_end(fields);
}

static void notify(const char *method, ...)
{
    va_list fields;
    va_start(fields, method);
    ask_with(method, true, fields);
    va_end(fields);
}

/* One value as text: {a:1,b:[x,nil]}. */
static void show(struct pack_reader *reader, struct buffer *out)
{
    uint32_t count;
    switch (pack_peek(reader)) {
    case PACK_NUMBER: buffer_append_format(out, "%lu", pack_read_number(reader)); return;
    case PACK_BOOL: buffer_append_text(out, pack_read_bool(reader) ? "true" : "false"); return;
    case PACK_TEXT: buffer_append_slice(out, pack_read_text(reader)); return;
    case PACK_NIL:
        pack_skip(reader);
        buffer_append_text(out, "nil");
        return;
    case PACK_ARRAY:
        count = pack_read_array(reader);
        buffer_append_byte(out, '[');
        for (uint32_t i = 0; i < count; i++) {
            buffer_append_text(out, i ? "," : "");
            show(reader, out);
        }
        buffer_append_byte(out, ']');
        return;
    case PACK_MAP:
        count = pack_read_map(reader);
        buffer_append_byte(out, '{');
        for (uint32_t i = 0; i < count; i++) {
            buffer_append_text(out, i ? "," : "");
            show(reader, out);
            buffer_append_byte(out, ':');
            show(reader, out);
        }
        buffer_append_byte(out, '}');
        return;
    default: fail_msg("a value of no expected type");
    }
}

/* All frames that have come, as text. */
static const char *heard(void)
{
    static char text[65536];
    char bytes[65536];
    settle();
    struct pack_reader reader = pack_reader_of(slice_of(bytes, sim_client_receive(client, bytes, sizeof bytes)));
    struct buffer out;
    buffer_init(&out, sizeof text);
    while (!pack_reader_is_done(&reader)) {
        show(&reader, &out);
        assert_false(reader.is_failed);
    }
    snprintf(text, sizeof text, "%.*s", SLICE_PRINT(buffer_slice(&out)));
    buffer_deinit(&out);
    return text;
}

static void assert_heard(const char *expected)
{
    assert_string_equal(heard(), expected);
}

/* ---- conversations ------------------------------------------------------------------------------------------------------- */

struct reply {
    struct worker_task task;
    const struct conv_request *to;
    uint16_t kind;
    struct conv_answer fill;
};

static void run_reply(struct worker *on, struct worker_task *task)
{
    struct reply *reply = container_of(task, struct reply, task);
    reply->fill.reply_token = reply->to->reply_token;
    struct conv_answer *answer = conv_answer_create(on, reply->kind, &reply->fill);
    ASSERT(answer);
    struct msg *msg = &answer->msg;
    ASSERT(actor_send(on, reply->to->reply_to, &msg) == OK);
}

static void reply(const struct conv_request *to, uint16_t kind, struct conv_answer fill)
{
    struct reply what = {.task.run = run_reply, .to = to, .kind = kind, .fill = fill};
    worker_post(worker, &what.task);
    settle();
}

static const struct conv_answer completed = {
    .version = 4,
    .status = TURN_COMPLETED,
    .has_reply = true,
    .message_id = {.data = "m-1", .size = 3},
    .turn_id = {.data = "t-1", .size = 3},
    .text = {.data = "hi", .size = 2},
    .agent = {.data = "echo", .size = 4},
    .duration_ms = 3,
};

static struct conv_answer running(void)
{
    struct conv_answer answer = completed;
    answer.status = TURN_RUNNING;
    answer.has_reply = false;
    return answer;
}

#define COMPLETED                                                                                                        \
    "[1,7,nil,{conversation_id:c-17,message_id:m-1,turn_id:t-1,version:4,duplicate:false,status:completed,"              \
    "reply:{text:hi,agent:echo},trace_id:trace-9,duration_ms:3}]"
#define RECEIPT                                                                                                          \
    "[1,7,nil,{conversation_id:c-17,message_id:m-1,turn_id:t-1,version:4,duplicate:false,status:running,"                \
    "trace_id:trace-9,duration_ms:3}]"

/* ---- message.send -------------------------------------------------------------------------------------------------------- */

static void a_message_is_what_http_would_make_of_it(void **state)
{
    (void)state;
    const struct http_request http = {
        .body = SLICE_LITERAL("{\"text\":\"hello\",\"message_id\":\"m-1\",\"customer_id\":\"k\",\"channel\":\"web\"}")};
    struct buffer room, metadata;
    struct conv_request over_http;
    struct problem problem;
    buffer_init(&room, 65536);
    buffer_init(&metadata, 65536);
    assert_true(message_read(&http, &room, &metadata, &over_http, &problem));

    ask("message.send", SAID, "customer_id", "k", "channel", "web", "on_busy", "reject", "if_match", "#3", "trace_id",
        "trace-9", NULL);
    const struct conv_request *over_rpc = last_sent();
    assert_int_equal(over_rpc->msg.kind, CONV_MESSAGE);
    assert_int_equal(over_rpc->payload_hash, over_http.payload_hash);
    assert_true(slice_has_text(over_rpc->tenant, "default"));
    assert_true(slice_has_text(over_rpc->conversation, "c-17"));
    assert_true(slice_is_equal(over_rpc->text, over_http.text));
    assert_true(slice_is_equal(over_rpc->message_id, over_http.message_id));
    assert_true(slice_has_text(over_rpc->trace_id, "trace-9"));
    assert_int_equal(over_rpc->on_busy, CONV_ON_BUSY_REJECT);
    assert_true(over_rpc->has_if_match && over_rpc->if_match == 3);
    assert_heard("");
    reply(over_rpc, CONV_FINISHED, completed);
    assert_heard(COMPLETED);
    buffer_deinit(&room);
    buffer_deinit(&metadata);
}

static void the_fields_of_a_message_are_those_of_http(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MESSAGE_FIELD_COUNT; i++)
        assert_string_equal(rpc_field_name(i), message_fields[i].name);
}

static void wait_0_is_answered_once_durable_and_not_before(void **state)
{
    (void)state;
    ask("message.send", SAID, "wait_ms", "#0", "trace_id", "trace-9", NULL);
    pass_ms(1000);
    assert_heard("");
    reply(last_sent(), CONV_ACCEPTED, running());
    assert_heard(RECEIPT);
    reply(last_sent(), CONV_FINISHED, completed); /* late: nobody's */
    assert_heard("");
}

static void a_wait_that_runs_out_is_answered_with_a_receipt(void **state)
{
    (void)state;
    ask("message.send", SAID, "wait_ms", "#500", "trace_id", "trace-9", NULL);
    reply(last_sent(), CONV_ACCEPTED, running());
    pass_ms(450);
    assert_heard("");
    pass_ms(100);
    assert_heard(RECEIPT);
}

static void what_is_durable_is_never_refused_unless_erased(void **state)
{
    (void)state;
    ask("message.send", SAID, "trace_id", "trace-9", NULL);
    reply(last_sent(), CONV_ACCEPTED, running());
    reply(last_sent(), CONV_REFUSED, (struct conv_answer){.code = ERR_STORAGE_FULL});
    assert_heard(RECEIPT);
    ask("message.send", SAID, NULL);
    reply(last_sent(), CONV_ACCEPTED, running());
    reply(last_sent(), CONV_REFUSED, (struct conv_answer){.code = ERR_NOT_FOUND, .detail = SLICE_LITERAL("erased")});
    assert_heard("[1,7,{code:not_found,message:erased},nil]");
}

static void a_failed_turn_is_an_answer(void **state)
{
    (void)state;
    struct conv_answer failed = running();
    failed.status = TURN_FAILED;
    failed.code = ERR_BREAKER_OPEN;
    ask("message.send", SAID, "trace_id", "t", NULL);
    reply(last_sent(), CONV_FINISHED, failed);
    assert_non_null(strstr(heard(), "status:failed,error:{code:ERR_BREAKER_OPEN,detail:the circuit breaker is open}"));
}

/* M2 */
static void a_client_that_leaves_abandons_and_cancels_nothing(void **state)
{
    (void)state;
    ask("message.send", SAID, NULL);
    uint64_t token = last_sent()->reply_token;
    sim_client_reset(client);
    settle();
    assert_int_equal(sent_count, 2);
    assert_int_equal(last_sent()->msg.kind, CONV_ABANDON);
    assert_int_equal(last_sent()->target_token, token);
    reply(sent[0], CONV_FINISHED, completed); /* finds nobody, and hurts nobody */
}

static void a_notification_is_sent_and_ends_when_durable(void **state)
{
    (void)state;
    struct rpc_server_stats stats;
    notify("message.send", SAID, NULL);
    notify("ping", NULL);
    assert_int_equal(sent_count, 1);
    reply(last_sent(), CONV_ACCEPTED, running());
    assert_heard("");
    rpc_server_get_stats(server, &stats);
    assert_int_equal(stats.calls, 0);
}

static void a_directory_that_takes_no_more_is_an_overload(void **state)
{
    (void)state;
    directory_code = ERR_MAILBOX_FULL;
    ask("message.send", SAID, NULL);
    assert_non_null(strstr(heard(), "code:overloaded"));
    directory_code = ERR_ACTOR_GONE;
    ask("message.send", SAID, NULL);
    assert_non_null(strstr(heard(), "code:draining"));
    directory_code = OK;
    admission_code = ERR_SHUTDOWN;
    ask("message.send", SAID, NULL);
    assert_heard("[1,7,{code:draining,message:shutting down,retry_after_ms:1000},nil]");
}

static void whatever_http_has_a_status_for_has_a_code(void **state)
{
    (void)state;
#define ERR(name, text, may_retry)                                                                                       \
    if (name != OK && problem_of(name, (struct slice){0}, 0).status != 500)                                              \
        assert_string_not_equal(rpc_code_of(name), "internal");
#include "runtime/error.def"
#undef ERR
}

static void a_ping_says_which_server_it_is(void **state)
{
    (void)state;
    ask("ping", "trace_id", "trace-9", NULL);
    assert_heard("[1,7,nil,{version:" CIRANDA_VERSION ",trace_id:trace-9}]");
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static void reading_passes_the_answer_on(void **state)
{
    (void)state;
    ask("conversation.get", "conversation_id", "c-17", NULL);
    assert_int_equal(last_sent()->msg.kind, CONV_GET);
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"id\":\"c-17\",\"owner\":null}")});
    assert_heard("[1,7,nil,{id:c-17,owner:nil}]");
    ask("events.read", "conversation_id", "c-17", "after", "#5", "limit", "#9", NULL);
    assert_int_equal(last_sent()->msg.kind, CONV_EVENTS);
    assert_int_equal(last_sent()->after, 5);
    assert_int_equal(last_sent()->limit, 9);
    reply(last_sent(), CONV_REFUSED, (struct conv_answer){.code = ERR_STORAGE_CORRUPT});
    assert_non_null(strstr(heard(), "code:corrupt"));
}

#define EVENT(version) "{\"event\":\"e" version "\",\"version\":" version "}"

static void a_subscription_looks_reads_and_lives(void **state)
{
    (void)state;
    ask("events.subscribe", "conversation_id", "c-17", "after", "#1", NULL);
    assert_int_equal(last_sent()->msg.kind, CONV_GET);
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"version\":4}")});
    assert_heard("[1,7,nil,{subscription:7,conversation_id:c-17,after:1,version:4}]");
    assert_int_equal(last_sent()->msg.kind, CONV_EVENTS);
    assert_int_equal(last_sent()->after, 1);
    reply(last_sent(), CONV_FINISHED,
          (struct conv_answer){.body = SLICE_LITERAL("{\"events\":[" EVENT("2") "," EVENT("3") "],\"next\":3}")});
    assert_heard(
        "[2,event,[{subscription:7,event:{event:e2,version:2}}]][2,event,[{subscription:7,event:{event:e3,version:3}}]]");
    assert_int_equal(last_sent()->after, 3); /* the next page */
    reply(last_sent(), CONV_FINISHED,
          (struct conv_answer){.body = SLICE_LITERAL("{\"events\":[" EVENT("4") "],\"next\":null}")});
    assert_heard("[2,event,[{subscription:7,event:{event:e4,version:4}}]]");
    assert_int_equal(last_sent()->msg.kind, CONV_SUBSCRIBE);
    assert_int_equal(last_sent()->after, 4);
    const struct conv_request *live = last_sent();
    reply(live, CONV_EVENT, (struct conv_answer){.version = 5, .body = SLICE_LITERAL(EVENT("5"))});
    assert_heard("[2,event,[{subscription:7,event:{event:e5,version:5}}]]");
    reply(live, CONV_END, (struct conv_answer){0});
    assert_heard("[2,end,[{subscription:7,code:ended}]]");
    reply(live, CONV_EVENT, (struct conv_answer){.version = 6, .body = SLICE_LITERAL(EVENT("6"))}); /* late */
    assert_heard("");
}

/* To a subscription that lives after version 4. Returns: its CONV_SUBSCRIBE. */
static const struct conv_request *subscribe_live(void)
{
    ask("events.subscribe", "conversation_id", "c-17", "after", "#4", NULL);
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"version\":4}")});
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"events\":[],\"next\":null}")});
    assert_int_equal(last_sent()->msg.kind, CONV_SUBSCRIBE);
    (void)heard();
    return last_sent();
}

/* Answers of calls that are not read yet: `count` of 100,000 bytes. */
static void leave_unread(uint32_t count)
{
    static char body[100000];
    snprintf(body, sizeof body, "{\"a\":\"%0*d\"}", (int)sizeof body - 10, 0);
    for (uint32_t i = 0; i < count; i++) {
        ask("conversation.get", "conversation_id", "c-17", NULL);
        reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = slice_from_text(body)});
    }
}

/* Returns: how often `text` was in it. */
static uint32_t read_all(const char *text)
{
    struct buffer all;
    uint32_t count = 0;
    buffer_init(&all, 64 << 20);
    for (size_t got = 1; got > 0; all.size += got) {
        enum { PIECE = 65536 };
        settle();
        got = sim_client_receive(client, buffer_reserve(&all, PIECE), PIECE);
    }
    for (const char *at = all.data; (at = memmem(at, all.size - (size_t)(at - all.data), text, strlen(text))); at++)
        count++;
    buffer_deinit(&all);
    return count;
}

/* More pages than may wait unread: those too many are refused in plain words, and the connection is kept. */
static void an_answer_that_finds_no_room_is_an_overload(void **state)
{
    (void)state;
    static char body[5 << 20];
    snprintf(body, sizeof body, "{\"a\":\"%0*d\"}", (int)sizeof body - 10, 0);
    for (uint32_t i = 0; i < 10; i++)
        ask("events.read", "conversation_id", "c-17", NULL);
    assert_int_equal(sent_count, RPC_LARGE_CALLS_MAX);
    for (uint32_t i = 0; i < RPC_LARGE_CALLS_MAX; i++)
        reply(sent[i], CONV_FINISHED, (struct conv_answer){.body = slice_from_text(body)});
    assert_int_equal(sent_count, RPC_LARGE_CALLS_MAX);
    assert_int_equal(read_all("overloaded"), 1);
    assert_int_equal(sent_count, 10); /* the rest was taken when there was room */
}

/* A reader with much of whatever kind on its way: its events wait in the journal. */
static void a_subscription_waits_for_room_in_the_journal(void **state)
{
    (void)state;
    struct rpc_server_stats stats;
    const struct conv_request *live = subscribe_live();
    uint64_t token = live->reply_token;
    leave_unread(4);
    uint32_t before = sent_count;
    reply(live, CONV_EVENT, (struct conv_answer){.version = 5, .body = SLICE_LITERAL(EVENT("5"))});
    assert_int_equal(sent_count, before + 1);
    assert_int_equal(last_sent()->msg.kind, CONV_UNSUBSCRIBE);
    assert_int_equal(last_sent()->target_token, token);
    reply(live, CONV_EVENT, (struct conv_answer){.version = 6, .body = SLICE_LITERAL(EVENT("6"))});
    rpc_server_get_stats(server, &stats);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(stats.streams, 1);
    (void)read_all("event");
    assert_int_equal(sent_count, before + 2);
    assert_int_equal(last_sent()->msg.kind, CONV_EVENTS);
    assert_int_equal(last_sent()->after, 4);
    reply(last_sent(), CONV_FINISHED,
          (struct conv_answer){.body = SLICE_LITERAL("{\"events\":[" EVENT("5") "," EVENT("6") "],\"next\":null}")});
    assert_heard(
        "[2,event,[{subscription:7,event:{event:e5,version:5}}]][2,event,[{subscription:7,event:{event:e6,version:6}}]]");
    assert_int_equal(last_sent()->msg.kind, CONV_SUBSCRIBE);
    assert_int_equal(last_sent()->after, 6);
}

/* What is still under way from a subscription that was left is neither doubled nor leaves a gap. */
static void only_the_next_event_is_sent(void **state)
{
    (void)state;
    const struct conv_request *live = subscribe_live();
    uint32_t before = sent_count;
    reply(live, CONV_EVENT, (struct conv_answer){.version = 4, .body = SLICE_LITERAL(EVENT("4"))});
    assert_heard("");
    assert_int_equal(sent_count, before);
    reply(live, CONV_EVENT, (struct conv_answer){.version = 6, .body = SLICE_LITERAL(EVENT("6"))});
    assert_heard("");
    assert_int_equal(sent_count, before + 2);
    assert_int_equal(sent[before]->msg.kind, CONV_UNSUBSCRIBE);
    assert_int_equal(last_sent()->msg.kind, CONV_EVENTS);
    assert_int_equal(last_sent()->after, 4);
}

static void unsubscribing_tells_the_conversation(void **state)
{
    (void)state;
    ask("events.subscribe", "conversation_id", "c-17", NULL);
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"version\":0}")});
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"events\":[],\"next\":null}")});
    assert_int_equal(last_sent()->msg.kind, CONV_SUBSCRIBE);
    uint64_t token = last_sent()->reply_token;
    (void)heard();
    ask("events.unsubscribe", "subscription", "#7", NULL);
    assert_heard("[1,7,nil,{subscription:7,after:0}]");
    assert_int_equal(last_sent()->msg.kind, CONV_UNSUBSCRIBE);
    assert_int_equal(last_sent()->target_token, token);
    ask("events.unsubscribe", "subscription", "#7", NULL);
    assert_non_null(strstr(heard(), "code:not_found"));
}

static void unsubscribing_names_a_subscription(void **state)
{
    (void)state;
    next_msgid = 0;
    (void)subscribe_live();
    uint32_t before = sent_count;
    next_msgid = 1;
    ask("events.unsubscribe", NULL);
    assert_heard("[1,1,{code:bad_request,message:/subscription is required},nil]");
    assert_int_equal(sent_count, before);
    ask("events.unsubscribe", "subscription", "#0", NULL);
    assert_heard("[1,1,nil,{subscription:0,after:4}]");
}

/* The msgid names the stream until it ends. */
static void a_msgid_names_one_subscription(void **state)
{
    (void)state;
    (void)subscribe_live();
    ask("events.subscribe", "conversation_id", "c-18", NULL);
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"version\":0}")});
    assert_heard("[1,7,{code:wrong_state,message:a subscription of this connection has this msgid},nil]");
    ask("events.unsubscribe", "subscription", "#7", NULL);
    assert_heard("[1,7,nil,{subscription:7,after:4}]");
    (void)subscribe_live();
}

static void what_cannot_be_subscribed_to_is_refused(void **state)
{
    (void)state;
    ask("events.subscribe", "conversation_id", "c-17", "after", "#5", NULL);
    reply(last_sent(), CONV_FINISHED, (struct conv_answer){.body = SLICE_LITERAL("{\"version\":4}")});
    assert_non_null(strstr(heard(), "code:bad_request"));
    ask("events.subscribe", "conversation_id", "c-17", NULL);
    reply(last_sent(), CONV_REFUSED, (struct conv_answer){.code = ERR_NOT_FOUND});
    assert_non_null(strstr(heard(), "code:not_found"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_is_what_http_would_make_of_it, start, stop),
        cmocka_unit_test(the_fields_of_a_message_are_those_of_http),
        cmocka_unit_test_setup_teardown(wait_0_is_answered_once_durable_and_not_before, start, stop),
        cmocka_unit_test_setup_teardown(a_wait_that_runs_out_is_answered_with_a_receipt, start, stop),
        cmocka_unit_test_setup_teardown(what_is_durable_is_never_refused_unless_erased, start, stop),
        cmocka_unit_test_setup_teardown(a_failed_turn_is_an_answer, start, stop),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_abandons_and_cancels_nothing, start, stop),
        cmocka_unit_test_setup_teardown(a_notification_is_sent_and_ends_when_durable, start, stop),
        cmocka_unit_test_setup_teardown(a_directory_that_takes_no_more_is_an_overload, start, stop),
        cmocka_unit_test(whatever_http_has_a_status_for_has_a_code),
        cmocka_unit_test_setup_teardown(a_ping_says_which_server_it_is, start, stop),
        cmocka_unit_test_setup_teardown(reading_passes_the_answer_on, start, stop),
        cmocka_unit_test_setup_teardown(a_subscription_looks_reads_and_lives, start, stop),
        cmocka_unit_test_setup_teardown(a_subscription_waits_for_room_in_the_journal, start, stop),
        cmocka_unit_test_setup_teardown(only_the_next_event_is_sent, start, stop),
        cmocka_unit_test_setup_teardown(an_answer_that_finds_no_room_is_an_overload, start, stop),
        cmocka_unit_test_setup_teardown(unsubscribing_tells_the_conversation, start, stop),
        cmocka_unit_test_setup_teardown(unsubscribing_names_a_subscription, start, stop),
        cmocka_unit_test_setup_teardown(a_msgid_names_one_subscription, start, stop),
        cmocka_unit_test_setup_teardown(what_cannot_be_subscribed_to_is_refused, start, stop),
    };
    return cmocka_run_group_tests_name("rpc_methods", tests, NULL, NULL);
}
