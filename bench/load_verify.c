/* SPDX-License-Identifier: Apache-2.0 */
/* load_verify: see load_verify.h. One connection, one conversation after the other, page by page. */
#include "bench/load_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/http_client.h"
#include "net/json.h"

static const uint64_t patience_ns = 30000000000;
static const uint64_t connect_ns_max = 3000000000;

struct reading {
    struct http_client client;
    bool has_answer;
    int status; /* 0: the connection broke */
    struct buffer body;
};

/* What the events of a conversation come to. */
struct tally {
    uint64_t version, received, replied, ended;
    bool has_more, has_handoff; /* a person owes the replies from a handoff on */
    char wrong[128];            /* "": nothing */
};

static void on_answer(void *context, struct http_connection *connection, uint32_t tag, int status, struct slice body)
{
    (void)connection, (void)tag;
    struct reading *reading = context;
    reading->has_answer = true;
    reading->status = status;
    buffer_clear(&reading->body);
    buffer_append_slice(&reading->body, body);
}

static void on_lost(void *context, struct http_connection *connection, uint32_t tag)
{
    (void)connection, (void)tag;
    struct reading *reading = context;
    reading->has_answer = true;
    reading->status = 0;
}

static void get_page(struct reading *reading, const char *id, uint64_t after)
{
    char request[256];
    int size = snprintf(request, sizeof request,
                        "GET /v1/conversations/%s/events?after=%" PRIu64 "&limit=1000 HTTP/1.1\r\nHost: load\r\n\r\n", id,
                        after);
    uint64_t give_up_ns = http_client_now_ns() + connect_ns_max;
    struct http_connection *connection = &reading->client.connections[0];
    while (!http_client_is_connected(&reading->client) && http_client_now_ns() < give_up_ns)
        http_client_poll(&reading->client, http_client_now_ns() + 10000000);
    give_up_ns = http_client_now_ns() + patience_ns;
    reading->has_answer = false;
    reading->status = 0;
    if (!http_client_send(&reading->client, connection, slice_of(request, (size_t)size), 0))
        return;
    while (!reading->has_answer && http_client_now_ns() < give_up_ns)
        http_client_poll(&reading->client, give_up_ns);
}

static bool text_of(struct json_value object, const char *key, char *buffer, size_t size, struct slice *ret_text)
{
    struct json_value value;
    return json_find(object, key, &value) && value.raw.size < size && json_string(value, buffer, size, ret_text) == OK;
}

static void note(struct tally *tally, const char *what, uint64_t version)
{
    if (tally->wrong[0] == '\0')
        snprintf(tally->wrong, sizeof tally->wrong, "%s at version %" PRIu64, what, version);
}

static void count_event(struct tally *tally, struct json_value envelope, bool has_gap)
{
    char buffer[128];
    struct slice type, key;
    struct json_value value;
    int64_t version = 0;
    if (!json_find(envelope, "version", &value) || json_integer(value, &version) != OK ||
        !text_of(envelope, "event", buffer, sizeof buffer, &type)) {
        note(tally, "no envelope", tally->version);
        return;
    }
    if ((uint64_t)version != ++tally->version)
        note(tally, "versions are not dense", (uint64_t)version);
    if (slice_has_text(type, "inbox.message.received")) {
        tally->received++;
        char expected[32];
        snprintf(expected, sizeof expected, "m-%" PRIu64, tally->received);
        if (!text_of(envelope, "idempotency_key", buffer, sizeof buffer, &key))
            note(tally, "a message without its id", (uint64_t)version);
        else if (!has_gap && !slice_has_text(key, expected))
            note(tally, "messages are not in the order said", (uint64_t)version);
    } else if (slice_has_text(type, "agent.response.generated") || slice_has_text(type, "agent.ai.response.generated")) {
        tally->replied++;
    } else if (slice_has_text(type, "turn.failed") || slice_has_text(type, "turn.cancelled") ||
               slice_has_text(type, "message.dead_lettered")) {
        tally->ended++;
    } else if (slice_has_text(type, "routing.handoff.requested")) {
        tally->has_handoff = true;
    }
}

static void count_page(struct reading *reading, struct tally *tally, bool has_gap)
{
    struct json_value root, events, envelope, next;
    struct json_problem problem;
    struct json_iterator iterator = {0};
    tally->has_more = false;
    if (reading->status != 200 || json_validate(buffer_slice(&reading->body), &root, &problem) != OK ||
        !json_find(root, "events", &events)) {
        snprintf(tally->wrong, sizeof tally->wrong, "events cannot be read: status %d", reading->status);
        return;
    }
    while (json_next_element(events, &iterator, &envelope))
        count_event(tally, envelope, has_gap);
    tally->has_more = json_find(root, "next", &next) && next.type == JSON_NUMBER;
}

static struct tally read_conversation(struct reading *reading, const struct load_conversation *conversation)
{
    struct tally tally = {.has_more = true};
    while (tally.has_more && tally.wrong[0] == '\0') {
        uint64_t after = tally.version;
        get_page(reading, conversation->id, after);
        count_page(reading, &tally, conversation->has_gap);
        if (tally.has_more && tally.version == after)
            note(&tally, "a page without progress", after);
    }
    return tally;
}

/* Replies that are still to come are waited for until `give_up_ns`. */
static void verify_one(struct reading *reading, const struct load_conversation *conversation, uint64_t give_up_ns,
                       struct load_result *result)
{
    struct tally tally;
    do {
        tally = read_conversation(reading, conversation);
    } while (tally.wrong[0] == '\0' && tally.replied + tally.ended < tally.received && http_client_now_ns() < give_up_ns);

    result->read_back_conversations++;
    result->read_back_events += tally.version;
    if (tally.wrong[0] != '\0')
        load_problem(result, &result->read_back_wrong, "%s: %s", conversation->id, tally.wrong);
    else if (!conversation->has_gap && tally.received != conversation->said)
        load_problem(result, &result->read_back_wrong, "%s: %" PRIu64 " messages received, %u said", conversation->id,
                     tally.received, conversation->said);
    else if (tally.replied + tally.ended != tally.received && !tally.has_handoff)
        load_problem(result, &result->read_back_wrong, "%s: %" PRIu64 " replies to %" PRIu64 " messages",
                     conversation->id, tally.replied + tally.ended, tally.received);
}

void load_verify(const struct load_options *options, const struct load_conversation *conversations, uint32_t count,
                 struct load_result *result)
{
    struct reading reading = {0};
    buffer_init(&reading.body, 64 << 20);
    const struct http_client_handler handler = {.context = &reading, .on_answer = on_answer, .on_lost = on_lost};
    http_client_init(&reading.client, options->address, 1, &handler);
    uint64_t give_up_ns = http_client_now_ns() + (options->is_async ? patience_ns : 0);
    bool is_reachable = true; /* a server that has gone is found once, not once a conversation */
    for (uint32_t i = 0; i < count && is_reachable; i++) {
        if (conversations[i].said == 0)
            continue;
        verify_one(&reading, &conversations[i], give_up_ns, result);
        is_reachable = reading.status != 0;
    }
    http_client_deinit(&reading.client);
    buffer_deinit(&reading.body);
}
