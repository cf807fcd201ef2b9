/* SPDX-License-Identifier: Apache-2.0 */
/* verify: the rules, one function each:
 *   V1 versions are dense from 1, whatever the page size
 *   V2 every message that was accepted is there once; a refused one never; any other at most once
 *   V3 the messages of one customer stand in the order said, but for those sent behind one that was refused for now
 *   V4 each message ends in one turn end, its reply is the one that was answered, turns end in the order of their messages
 *   V5 what an observer saw is, byte for byte, what the journal says
 *   V6 the epoch never falls, no agent speaks while a queue or a person owns the conversation, none that is shut takes a message
 *   V7 the provider saw no attempt at a message that the journal does not know (world.c: nor two at once through an open breaker)
 *   V8 customer.c: an open line has its answer in time
 *   V9 version and epoch that an operator was told hold
 *   V10 operator.c: what was erased is nowhere
 *   V11 no more turns wait in a conversation than its queue may hold
 *   V12 what the list of dead letters names is dead in its conversation, once; without a crash or a full disk it names all
 */
#include "tests/sim/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/json.h"
#include "runtime/ring_sim.h"
#include "runtime/sometimes.h"

enum { PAGES_MAX = 10000, STEPS_MAX = 200000, ENDS_MAX = 1024 };

struct story {
    struct buffer lines; /* envelopes as they came, one a line */
    uint64_t last_version;
};

/* Returns: the status; 0: the disk crashed meanwhile. */
static int ask(struct world *world, const char *path, struct buffer *ret_body)
{
    struct sim_http http = {0};
    if (!sim_http_open(&http, world->address))
        fail("nobody listens at the end");
    sim_http_send(&http, "GET", path, "", (struct slice){0});
    for (uint32_t steps = 0; steps < STEPS_MAX; steps++) {
        struct sim_answer answer;
        enum sim_http_event event = sim_http_poll(&http, &answer);
        if (event == SIM_HTTP_ANSWER) {
            buffer_clear(ret_body);
            buffer_append_slice(ret_body, answer.body);
            int status = answer.status;
            sim_http_close(&http);
            return status;
        }
        if (event == SIM_HTTP_CLOSED)
            fail("%s: closed without an answer", path);
        if (world_is_broken(world)) {
            sim_http_close(&http);
            return 0;
        }
        bool did_something = false;
        for (uint32_t part = 0; part < world_part_count(world); part++)
            did_something |= world_step_part(world, part);
        if (!did_something && !world_advance(world, UINT64_MAX))
            fail("%s: no answer, and nothing left to happen", path);
    }
    fail("%s: no answer", path);
}

static struct json_value member(struct json_value object, const char *key)
{
    struct json_value value;
    if (!json_find(object, key, &value))
        fail("no %s in %.*s", key, SLICE_PRINT(object.raw));
    return value;
}

static uint64_t number(struct json_value object, const char *key)
{
    int64_t value;
    if (json_integer(member(object, key), &value) != OK || value < 0)
        fail("%s is no number in %.*s", key, SLICE_PRINT(object.raw));
    return (uint64_t)value;
}

static const char *text(struct json_value object, const char *key, char *buffer, size_t size)
{
    struct slice value;
    struct json_value found;
    char raw[8192];
    buffer[0] = 0;
    if (json_find(object, key, &found) && found.type == JSON_STRING && json_string(found, raw, sizeof raw, &value) == OK)
        snprintf(buffer, size, "%.*s", SLICE_PRINT(value));
    return buffer;
}

/* V1. Returns: false when the conversation is refused as damaged. */
static bool read_story(struct world *world, uint32_t conversation, bool may_be_damaged, struct story *story)
{
    uint64_t after = 0;
    struct buffer body;
    buffer_init(&body, 16 << 20);
    for (uint32_t page = 0; page < PAGES_MAX; page++) {
        char path[128];
        uint64_t limit = page % 3 == 0 ? 1 : 1 + sim_random_below(50);
        snprintf(path, sizeof path, "/v1/conversations/c-%u/events?after=%" PRIu64 "&limit=%" PRIu64, conversation, after,
                 limit);
        int status = ask(world, path, &body);
        if (status == 404 && after == 0)
            break; /* nobody ever got through to it */
        if (status == 503 && may_be_damaged) {
            buffer_deinit(&body);
            return false;
        }
        if (status != 200)
            fail("%s: %d %.*s", path, status, SLICE_PRINT(buffer_slice(&body)));
        struct json_value root, event, next;
        struct json_problem problem;
        if (json_validate(buffer_slice(&body), &root, &problem) != OK)
            fail("%s: %s", path, problem.reason);
        struct json_iterator iterator = {0};
        while (json_next_element(member(root, "events"), &iterator, &event)) {
            uint64_t version = number(event, "version");
            if (version != story->last_version + 1)
                fail("c-%u: version %" PRIu64 " after %" PRIu64, conversation, version, story->last_version);
            story->last_version = version;
            buffer_append_slice(&story->lines, event.raw);
            buffer_append_byte(&story->lines, '\n');
        }
        next = member(root, "next");
        if (next.type == JSON_NULL)
            break;
        int64_t value;
        if (json_integer(next, &value) != OK || (uint64_t)value != story->last_version)
            fail("c-%u: next %.*s after version %" PRIu64, conversation, SLICE_PRINT(next.raw), story->last_version);
        after = (uint64_t)value;
    }
    buffer_deinit(&body);
    return true;
}

struct told {
    uint32_t received[CUSTOMERS_MAX][MESSAGES_MAX]; /* times */
    int last[CUSTOMERS_MAX];                        /* number of the last message */
    char turns[ENDS_MAX][40];                       /* in the order of their messages */
    char replies[ENDS_MAX][128];
    uint32_t customer[ENDS_MAX], message[ENDS_MAX];
    char status[ENDS_MAX][20];
    uint32_t turn_count, end_count;
    uint32_t attempts[ENDS_MAX]; /* at a model's answer */
    uint32_t queued_max;
    uint64_t epoch;
    bool is_with_people, is_shut; /* shut: parked or closed */
};

static uint32_t turn_index(const struct told *told, const char *turn_id, struct slice line)
{
    for (uint32_t i = 0; i < told->turn_count; i++)
        if (strcmp(told->turns[i], turn_id) == 0)
            return i;
    fail("an event of a turn that was never asked for: %.*s", SLICE_PRINT(line));
}

static void note_received(struct told *told, struct json_value payload, struct slice line, struct customer *customers)
{
    char id[64], said[256];
    unsigned customer, message;
    if (sscanf(text(payload, "message_id", id, sizeof id), "m-%u-%u", &customer, &message) != 2 ||
        customer >= CUSTOMERS_MAX || message >= MESSAGES_MAX)
        fail("a message nobody said: %.*s", SLICE_PRINT(line));
    struct sim_message *promised = &customers[customer].messages[message];
    if (told->is_shut)
        fail("a parked or closed conversation took a message: %.*s", SLICE_PRINT(line)); /* V6 */
    if (strcmp(text(payload, "text", said, sizeof said), promised->text) != 0)
        fail("%s has the text \"%s\" instead of \"%s\"", id, said, promised->text);
    if (told->received[customer][message]++)
        fail("%s is there twice", id); /* V2 */
    if (promised->is_refused)
        fail("%s was refused, and is there", id); /* V2 */
    if (!promised->is_unsure && (int)message < told->last[customer])
        fail("customer %u: message %u stands after message %d", customer, message, told->last[customer]); /* V3 */
    if (!promised->is_unsure)
        told->last[customer] = (int)message;
    if (!promised->from && told->turn_count > told->end_count + told->queued_max)
        fail("%u turns were open, and %s was taken", told->turn_count - told->end_count, id); /* V11 */
    uint32_t i = told->turn_count++;
    if (i >= ENDS_MAX)
        fail("too many turns");
    text(payload, "turn_id", told->turns[i], sizeof told->turns[i]);
    told->customer[i] = customer;
    told->message[i] = message;
}

static void note_end(struct told *told, struct json_value payload, struct slice line, const char *status)
{
    char turn_id[40];
    uint32_t i = turn_index(told, text(payload, "turn_id", turn_id, sizeof turn_id), line);
    if (told->status[i][0])
        fail("turn %s ended twice: %.*s", turn_id, SLICE_PRINT(line));
    if (i != told->end_count)
        fail("turn %s ended out of its turn: %.*s", turn_id, SLICE_PRINT(line)); /* V4 */
    told->end_count++;
    text(payload, "status", told->status[i], sizeof told->status[i]);
    if (strcmp(status, "cancelled") == 0) /* with what had been spoken */
        text(payload, "text", told->replies[i], sizeof told->replies[i]);
    if (!told->status[i][0])
        snprintf(told->status[i], sizeof told->status[i], "%s", status);
}

static void note_reply(struct told *told, struct json_value payload, struct slice line)
{
    char turn_id[40];
    uint32_t i = turn_index(told, text(payload, "turn_id", turn_id, sizeof turn_id), line);
    if (told->replies[i][0])
        fail("turn %s has two replies: %.*s", turn_id, SLICE_PRINT(line));
    if (told->is_with_people)
        fail("an agent speaks while people own the conversation: %.*s", SLICE_PRINT(line)); /* V6 */
    text(payload, "text", told->replies[i], sizeof told->replies[i]);
}

static void note_owner(struct told *told, struct json_value payload, struct slice line)
{
    char owner[128];
    text(payload, "owner", owner, sizeof owner);
    uint64_t epoch = number(payload, "epoch");
    if (epoch <= told->epoch && told->epoch)
        fail("the epoch fell or stood: %.*s", SLICE_PRINT(line)); /* V6 */
    told->epoch = epoch;
    told->is_with_people = strncmp(owner, "queue:", 6) == 0 || strncmp(owner, "human:", 6) == 0;
}

static void note_attempt(struct told *told, struct json_value payload, struct slice line)
{
    char turn_id[40];
    told->attempts[turn_index(told, text(payload, "turn_id", turn_id, sizeof turn_id), line)]++;
}

/* Times that a message was given up. */
struct dead {
    uint32_t told[CUSTOMERS_MAX][MESSAGES_MAX], listed[CUSTOMERS_MAX][MESSAGES_MAX];
};

static void note_dead(uint32_t counts[CUSTOMERS_MAX][MESSAGES_MAX], struct json_value letter)
{
    char id[64];
    unsigned customer, message;
    if (sscanf(text(letter, "message_id", id, sizeof id), "m-%u-%u", &customer, &message) != 2 ||
        customer >= CUSTOMERS_MAX || message >= MESSAGES_MAX)
        fail("a dead letter that nobody wrote: %.*s", SLICE_PRINT(letter.raw));
    counts[customer][message]++;
}

static void check_dead_letters(struct world *world, struct dead *dead)
{
    struct buffer body;
    struct json_value root, letter;
    struct json_problem problem;
    struct json_iterator iterator = {0};
    buffer_init(&body, 16 << 20);
    int status = ask(world, "/v1/dead-letters?limit=1000", &body);
    if (status != 200 || json_validate(buffer_slice(&body), &root, &problem) != OK)
        fail("the list of dead letters: %d %.*s", status, SLICE_PRINT(buffer_slice(&body)));
    while (json_next_element(member(root, "dead_letters"), &iterator, &letter))
        note_dead(dead->listed, letter);
    bool is_complete = world->lives == 1 && world->plan->full_disks == 0;
    for (uint32_t c = 0; c < CUSTOMERS_MAX; c++)
        for (uint32_t m = 0; m < MESSAGES_MAX; m++)
            if (dead->listed[c][m] > dead->told[c][m] || (is_complete && dead->listed[c][m] < dead->told[c][m]))
                fail("m-%u-%u is dead %u times, and %u times on the list", c, m, dead->told[c][m],
                     dead->listed[c][m]); /* V12 */
    buffer_deinit(&body);
}

static void read_events(const struct world *world, struct story *story, struct told *told, struct dead *dead,
                        struct customer *customers)
{
    for (size_t at = 0; at < story->lines.size;) {
        const char *end = memchr(story->lines.data + at, '\n', story->lines.size - at);
        struct slice line = slice_of(story->lines.data + at, (size_t)(end - story->lines.data) - at);
        tell("journal: %.*s", SLICE_PRINT(line));
        at += line.size + 1;
        struct json_value root;
        struct json_problem problem;
        char kind[64];
        if (json_validate(line, &root, &problem) != OK)
            fail("an envelope is no JSON: %.*s", SLICE_PRINT(line));
        struct json_value payload = member(root, "payload");
        text(root, "event", kind, sizeof kind);
        if (strcmp(kind, "inbox.message.received") == 0 || strcmp(kind, "agent.human.message.sent") == 0)
            note_received(told, payload, line, customers);
        else if (strcmp(kind, "agent.response.generated") == 0 || strcmp(kind, "agent.ai.response.generated") == 0)
            note_reply(told, payload, line);
        else if (strcmp(kind, "routing.handoff.completed") == 0)
            note_owner(told, payload, line);
        else if (strcmp(kind, "turn.completed") == 0)
            note_end(told, payload, line, "completed");
        else if (strcmp(kind, "message.dead_lettered") == 0)
            note_dead(dead->told, payload);
        else if (strcmp(kind, "turn.failed") == 0)
            note_end(told, payload, line, "failed");
        else if (strcmp(kind, "turn.cancelled") == 0 && !world->plan->acts)
            fail("a turn was cancelled by nobody: %.*s", SLICE_PRINT(line));
        else if (strcmp(kind, "turn.cancelled") == 0)
            note_end(told, payload, line, "cancelled");
        else if (strcmp(kind, "agent.ai.request.started") == 0)
            note_attempt(told, payload, line);
        else if (strcmp(kind, "conversation.parked") == 0 || strcmp(kind, "conversation.closed") == 0)
            told->is_shut = true;
        else if (strcmp(kind, "conversation.resumed") == 0 || strcmp(kind, "conversation.reopened") == 0)
            told->is_shut = false;
    }
}

static void check_promises(const struct world *world, const struct told *told, const struct customer *customers,
                           uint32_t conversation)
{
    if (told->end_count != told->turn_count)
        fail("c-%u: %u turns, %u ends", conversation, told->turn_count, told->end_count); /* V4 */
    for (uint32_t c = 0; c < world->plan->customers; c++) {
        const struct customer *customer = &customers[c];
        for (uint32_t m = 0; customer->conversation == conversation && m < customer->count; m++) {
            if (world->arrivals[c][m] && !told->received[c][m])
                fail("the provider saw %s, the journal does not know it", customer->messages[m].id); /* V7 */
            if (customer->messages[m].was_accepted && !told->received[c][m])
                fail("%s was accepted, and is lost", customer->messages[m].id); /* V2 */
        }
    }
    for (uint32_t i = 0; i < told->turn_count; i++) {
        const struct sim_message *promised = &customers[told->customer[i]].messages[told->message[i]];
        if (promised->turn_id[0] && strcmp(promised->turn_id, told->turns[i]) != 0)
            fail("%s: turn %s was promised, %s ran", promised->id, promised->turn_id, told->turns[i]);
        uint32_t seen = world->arrivals[told->customer[i]][told->message[i]];
        if (seen > told->attempts[i])
            fail("the provider saw %u attempts at %s, the journal knows %u", seen, promised->id,
                 told->attempts[i]); /* V7 */
        if (promised->is_done && promised->status[0] && !promised->from && strcmp(promised->reply, told->replies[i]) != 0)
            fail("%s was answered \"%s\", the journal says \"%s\"", promised->id, promised->reply,
                 told->replies[i]); /* V4 */
        if (promised->is_done && promised->status[0] && strcmp(promised->status, told->status[i]) != 0)
            fail("%s was answered %s, the journal says %s", promised->id, promised->status, told->status[i]);
    }
}

static void check_observers(const struct world *world, const struct observer *observers, uint32_t conversation,
                            const struct story *story)
{
    for (uint32_t i = 0; i < world->plan->observers; i++) {
        const struct observer *observer = &observers[i];
        if (observer->conversation != conversation)
            continue;
        if (observer->seen.size > story->lines.size ||
            (observer->seen.size && memcmp(observer->seen.data, story->lines.data, observer->seen.size) != 0))
            fail("observer %u of c-%u saw something else than the journal says", i, conversation); /* V5 */
        if (observer->version != story->last_version)
            fail("observer %u of c-%u stopped at %" PRIu64 " of %" PRIu64, i, conversation, observer->version,
                 story->last_version);
    }
}

bool verify_is_at_rest(struct world *world, const struct observer *observers)
{
    bool is_at_rest = true;
    struct buffer body;
    buffer_init(&body, 1 << 20);
    for (uint32_t c = 0; c < world->plan->conversations; c++) {
        char path[64];
        snprintf(path, sizeof path, "/v1/conversations/c-%u", c);
        int status = ask(world, path, &body);
        is_at_rest &= status != 0;
        if (status != 200)
            continue;
        struct json_value root;
        struct json_problem problem;
        if (json_validate(buffer_slice(&body), &root, &problem) != OK)
            fail("%s: %s", path, problem.reason);
        uint64_t version = number(root, "version");
        is_at_rest &= member(root, "turn_id").type == JSON_NULL;
        for (uint32_t i = 0; i < world->plan->observers; i++)
            is_at_rest &= observers[i].conversation != c || observers[i].version == version;
    }
    buffer_deinit(&body);
    return is_at_rest;
}

void verify_all(struct world *world, struct customer *customers, struct observer *observers,
                const struct operator_ *operator_, int damaged)
{
    static struct dead dead;
    dead = (struct dead){0};
    for (uint32_t c = 0; c < world->plan->conversations; c++) {
        struct story story = {0};
        static struct told told;
        told = (struct told){.queued_max = world->plan->queued_turns};
        for (uint32_t i = 0; i < CUSTOMERS_MAX; i++)
            told.last[i] = -1;
        buffer_init(&story.lines, 32 << 20);
        if (read_story(world, c, (int)c == damaged, &story)) {
            read_events(world, &story, &told, &dead, customers);
            check_promises(world, &told, customers, c);
            check_observers(world, observers, c, &story);
            if (operator_->version[c] > story.last_version || operator_->epoch[c] > (told.epoch ? told.epoch : 1))
                fail("c-%u: version %" PRIu64 ", epoch %" PRIu64 " were promised, it is at %" PRIu64 ", %" PRIu64, c,
                     operator_->version[c], operator_->epoch[c], story.last_version, told.epoch); /* V9 */
        } else {
            SOMETIMES(DAMAGE_REFUSED, true);
        }
        sim_trace(story.lines.data, story.lines.size);
        buffer_deinit(&story.lines);
    }
    if (damaged < 0)
        check_dead_letters(world, &dead);
}

bool verify_has_event(struct world *world, const char *kind)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"event\":\"%s\"", kind);
    bool is_there = false;
    for (uint32_t c = 0; c < world->plan->conversations && !is_there; c++) {
        struct story story = {0};
        buffer_init(&story.lines, 32 << 20);
        is_there = read_story(world, c, false, &story) && story.lines.size &&
                   memmem(story.lines.data, story.lines.size, wanted, strlen(wanted));
        buffer_deinit(&story.lines);
    }
    return is_there;
}
