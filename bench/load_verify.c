/* SPDX-License-Identifier: Apache-2.0 */
/* load_verify: see load_verify.h. One connection, one conversation after the other, page by page. */
#include "bench/load_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/load_protocol.h"
#include "bench/number_set.h"
#include "bench/wire.h"
#include "net/json.h"

static const uint64_t patience_ns = 30000000000;
static const uint64_t connect_ns_max = 3000000000;

struct reading {
    struct wire wire;
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

static size_t on_bytes(void *context, struct wire_connection *connection, char *bytes, size_t size)
{
    (void)connection;
    struct reading *reading = context;
    struct load_answer answer;
    size_t taken = load_constant.take_answer(bytes, size, &answer);
    if (taken == 0 || taken == SIZE_MAX)
        return taken;
    reading->has_answer = true;
    reading->status = answer.status;
    buffer_clear(&reading->body);
    buffer_append_slice(&reading->body, answer.body);
    return taken;
}

static void on_broken(void *context, struct wire_connection *connection)
{
    (void)connection;
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
    uint64_t give_up_ns = wire_now_ns() + connect_ns_max;
    while (!wire_is_connected(&reading->wire) && wire_now_ns() < give_up_ns)
        wire_poll(&reading->wire, wire_now_ns() + 10000000);
    give_up_ns = wire_now_ns() + patience_ns;
    reading->has_answer = false;
    reading->status = 0;
    if (!wire_is_connected(&reading->wire))
        return;
    wire_send(&reading->wire, &reading->wire.connections[0], slice_of(request, (size_t)size));
    while (!reading->has_answer && wire_now_ns() < give_up_ns)
        wire_poll(&reading->wire, give_up_ns);
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

/* What was acknowledged is there, whatever happened to its neighbours: of the numbers from the last one heard up to `end`, which
 * were not read back, none may be. */
static void expect_no_loss(struct tally *tally, const struct load_speaker *speaker, uint32_t end)
{
    for (uint32_t number = speaker->last_heard + 1; number < end; number++) {
        if (number_set_has(speaker->accepted_numbers, number))
            note(tally, "an acknowledged message is missing", tally->version);
    }
}

/* A message's id is "<speaker>-<number>". */
static void count_message(struct tally *tally, const struct load_conversation *conversation, uint32_t speakers,
                          const char *id)
{
    uint32_t index, number;
    int size = 0;
    tally->received++;
    if (sscanf(id, "%" SCNu32 "-%" SCNu32 "%n", &index, &number, &size) != 2 || id[size] != '\0' || index >= speakers ||
        number > conversation->speakers[index].said) {
        note(tally, "a message that nobody said", tally->version);
        return;
    }
    struct load_speaker *speaker = &conversation->speakers[index];
    if (number <= speaker->last_heard || (number != speaker->last_heard + 1 && !conversation->has_gap))
        note(tally, "messages are not once and in the order said", tally->version);
    expect_no_loss(tally, speaker, number);
    speaker->last_heard = number;
}

static void count_event(struct tally *tally, const struct load_conversation *conversation, uint32_t speakers,
                        struct json_value envelope)
{
    char buffer[128], id[128];
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
        if (!text_of(envelope, "idempotency_key", buffer, sizeof buffer, &key))
            note(tally, "a message without its id", (uint64_t)version);
        snprintf(id, sizeof id, "%.*s", SLICE_PRINT(key));
        count_message(tally, conversation, speakers, id);
    } else if (slice_has_text(type, "agent.response.generated") || slice_has_text(type, "agent.ai.response.generated")) {
        tally->replied++;
    } else if (slice_has_text(type, "turn.failed") || slice_has_text(type, "turn.cancelled") ||
               slice_has_text(type, "message.dead_lettered")) {
        tally->ended++;
    } else if (slice_has_text(type, "routing.handoff.requested")) {
        tally->has_handoff = true;
    }
}

static void count_page(struct reading *reading, struct tally *tally, const struct load_conversation *conversation,
                       uint32_t speakers)
{
    struct json_value root, events, envelope, next;
    struct json_problem problem;
    struct json_iterator iterator = {0};
    tally->has_more = false;
    if (reading->status == 404 && conversation->has_gap && conversation->accepted == 0)
        return; /* all that was said in it was refused */
    if (reading->status != 200 || json_validate(buffer_slice(&reading->body), &root, &problem) != OK ||
        !json_find(root, "events", &events)) {
        snprintf(tally->wrong, sizeof tally->wrong, "events cannot be read: status %d", reading->status);
        return;
    }
    while (json_next_element(events, &iterator, &envelope))
        count_event(tally, conversation, speakers, envelope);
    tally->has_more = json_find(root, "next", &next) && next.type == JSON_NUMBER;
}

static struct tally read_conversation(struct reading *reading, const struct load_conversation *conversation,
                                      uint32_t speakers)
{
    struct tally tally = {.has_more = true};
    for (uint32_t i = 0; i < speakers; i++)
        conversation->speakers[i].last_heard = 0;
    while (tally.has_more && tally.wrong[0] == '\0') {
        uint64_t after = tally.version;
        get_page(reading, conversation->id, after);
        count_page(reading, &tally, conversation, speakers);
        if (tally.has_more && tally.version == after)
            note(&tally, "a page without progress", after);
    }
    for (uint32_t i = 0; i < speakers; i++)
        expect_no_loss(&tally, &conversation->speakers[i], conversation->speakers[i].said + 1);
    return tally;
}

/* Replies that are still to come are waited for until `give_up_ns`. */
static void verify_one(struct reading *reading, const struct load_conversation *conversation, uint32_t speakers,
                       uint64_t give_up_ns, struct load_result *result)
{
    struct tally tally;
    do {
        tally = read_conversation(reading, conversation, speakers);
    } while (tally.wrong[0] == '\0' && tally.replied + tally.ended < tally.received && wire_now_ns() < give_up_ns);

    result->read_back_conversations++;
    result->read_back_events += tally.version;
    if (tally.wrong[0] != '\0')
        load_problem(result, &result->read_back_wrong, "%s: %s", conversation->id, tally.wrong);
    else if (tally.received < conversation->accepted ||
             (tally.received > conversation->accepted && !conversation->has_gap))
        load_problem(result, &result->read_back_wrong, "%s: %" PRIu64 " messages received, %" PRIu64 " accepted",
                     conversation->id, tally.received, conversation->accepted);
    else if (tally.replied + tally.ended != tally.received && !tally.has_handoff)
        load_problem(result, &result->read_back_wrong, "%s: %" PRIu64 " replies to %" PRIu64 " messages",
                     conversation->id, tally.replied + tally.ended, tally.received);
}

void load_verify(const struct load_options *options, struct load_conversation *conversations, uint32_t count,
                 struct load_result *result)
{
    struct reading reading = {0};
    buffer_init(&reading.body, 64 << 20);
    const struct wire_handler handler = {.context = &reading, .on_bytes = on_bytes, .on_broken = on_broken};
    wire_init(&reading.wire, options->http_address, 1, &handler);
    uint64_t give_up_ns = wire_now_ns() + (options->is_async ? patience_ns : 0);
    bool is_reachable = true; /* a server that has gone is found once, not once a conversation */
    for (uint32_t i = 0; i < count && is_reachable; i++) {
        if (conversations[i].id[0] == '\0') /* nobody spoke in it */
            continue;
        verify_one(&reading, &conversations[i], options->speakers, give_up_ns, result);
        is_reachable = reading.status != 0;
    }
    wire_deinit(&reading.wire);
    buffer_deinit(&reading.body);
}
