/* SPDX-License-Identifier: Apache-2.0 */
/* customer: see customer.h. A customer is the judge of what was promised to it; verify.c holds the promises against the
 * journal. Statuses it must not get are failures of the run where they come. */
#include "tests/sim/customer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/json.h"
#include "runtime/clock.h"
#include "runtime/ring_sim.h"
#include "runtime/sometimes.h"

static const uint64_t MS = 1000000, PATIENCE_MS = 120000;

void customer_set_message(struct customer *customer, uint32_t number, const char *ending)
{
    struct sim_message *message = &customer->messages[number];
    snprintf(message->id, sizeof message->id, "m-%u-%u", customer->index, number);
    snprintf(message->text, sizeof message->text, "say-%u-%u%s", customer->index, number, ending);
}

void customer_create(struct customer *customer, const struct plan *plan, uint32_t index, const char *agent)
{
    *customer = (struct customer){
        .index = index, .conversation = index % plan->conversations, .agent = agent, .count = plan->messages};
    bool takes_over = sim_chance(plan->takeover_per_mille);
    uint32_t takeover_at = takes_over ? (uint32_t)sim_random_below(plan->messages) : UINT32_MAX;
    for (uint32_t i = 0; i < customer->count; i++) {
        struct sim_message *message = &customer->messages[i];
        /* Only the first customer of a conversation calls a person, who then answers. */
        bool may_call = index < plan->conversations && strcmp(customer->agent, "bot") != 0;
        customer_set_message(customer, i, i == takeover_at && may_call ? " humano" : "");
        message->is_async = sim_chance(plan->async_per_mille);
        message->is_reject = sim_chance(plan->reject_per_mille);
        message->wants_copy = sim_chance(plan->copy_per_mille);
        message->wants_forgery = sim_chance(plan->forge_per_mille);
        if (may_call && i > takeover_at && i == takeover_at + 1)
            message->from = "human:ana";
    }
}

static void write_request(struct customer *customer, const struct world *world, struct sim_http *line,
                          struct sim_message *message, const char *text)
{
    char path[96], headers[96];
    snprintf(path, sizeof path, "/v1/conversations/c-%u/messages", customer->conversation);
    snprintf(headers, sizeof headers, "%s", message->is_async ? "Prefer: respond-async\r\n" : "");
    struct buffer body;
    buffer_init(&body, 4096);
    buffer_append_format(&body, "{\"text\":\"%s\",\"message_id\":\"%s\"", text, message->id);
    if (message->from)
        buffer_append_format(&body, ",\"from\":\"%s\"", message->from);
    else
        buffer_append_format(&body, ",\"agent\":\"%s\"", strstr(text, "humano") ? "desk" : customer->agent);
    if (message->is_reject)
        buffer_append_text(&body, ",\"on_busy\":\"reject\"");
    buffer_append_text(&body, "}");
    tell("customer %u: %s says %.*s", customer->index, line == &customer->line ? "line" : "copy",
         SLICE_PRINT(buffer_slice(&body)));
    sim_http_send(line, "POST", path, headers, buffer_slice(&body));
    if (text == message->text) {
        message->said_count++;
        message->said_in_life = message->said_life == world->lives ? message->said_in_life + 1 : 1;
        message->said_life = world->lives;
    }
    buffer_deinit(&body);
}

static void write_look(struct customer *customer, const struct sim_message *message)
{
    char path[160];
    snprintf(path, sizeof path, "/v1/conversations/c-%u/turns/%s", customer->conversation, message->turn_id);
    tell("customer %u: looks at %s", customer->index, message->id);
    sim_http_send(&customer->line, "GET", path, "", (struct slice){0});
}

static void think(struct customer *customer, uint64_t ms)
{
    customer->wake_ns = clock_mono_ns() + ms * MS;
}

static void text_of(struct json_value object, const char *key, char *ret_text, size_t size)
{
    struct json_value value;
    struct slice text;
    char buffer[512];
    ret_text[0] = 0;
    if (json_find(object, key, &value) && value.type == JSON_STRING &&
        json_string(value, buffer, sizeof buffer, &text) == OK)
        snprintf(ret_text, size, "%.*s", SLICE_PRINT(text));
}

static struct json_value parse(struct slice body)
{
    struct json_value root;
    struct json_problem problem;
    if (json_validate(body, &root, &problem) != OK)
        fail("an answer is no JSON: %s: %.*s", problem.reason, SLICE_PRINT(body));
    return root;
}

/* Takes what an answer promises about a message; a second promise must equal the first. */
static void note_answer(struct customer *customer, struct world *world, struct sim_message *message,
                        const struct sim_answer *answer)
{
    struct json_value root = parse(answer->body), reply;
    char status[20], turn_id[40], text[128] = "";
    text_of(root, "status", status, sizeof status);
    text_of(root, "turn_id", turn_id, sizeof turn_id);
    char message_id[sizeof message->id];
    text_of(root, "message_id", message_id, sizeof message_id);
    if (message_id[0] && strcmp(message_id, message->id) != 0)
        fail("customer %u: the answer to %s is that to %s", customer->index, message->id, message_id);
    struct json_value duplicate;
    bool is_copy = json_find(root, "duplicate", &duplicate) && slice_has_text(duplicate.raw, "true");
    SOMETIMES(COPY_AFTER_RESTART, is_copy && message->was_accepted && message->accepted_life < world->lives);
    SOMETIMES(CRASH_AFTER_FLUSH,
              is_copy && !message->was_accepted && message->said_in_life == 1 && message->said_count > 1);
    if (!message->was_accepted)
        message->accepted_life = world->lives;
    world->was_promised = true;
    if (json_find(root, "reply", &reply) && reply.type == JSON_OBJECT)
        text_of(reply, "text", text, sizeof text);
    if (!turn_id[0])
        fail("customer %u: %s: no turn_id in %.*s", customer->index, message->id, SLICE_PRINT(answer->body));
    if (message->turn_id[0] && strcmp(message->turn_id, turn_id) != 0)
        fail("customer %u: %s ran twice: turns %s and %s", customer->index, message->id, message->turn_id, turn_id);
    snprintf(message->turn_id, sizeof message->turn_id, "%s", turn_id);
    message->was_accepted = true;
    if (strcmp(status, "running") == 0 || strcmp(status, "queued") == 0)
        return;
    if (message->is_done && message->status[0] &&
        (strcmp(message->status, status) != 0 || strcmp(message->reply, text) != 0))
        fail("customer %u: %s was answered %s %s and then %s %s", customer->index, message->id, message->status,
             message->reply, status, text);
    message->is_done = true;
    snprintf(message->status, sizeof message->status, "%s", status);
    snprintf(message->reply, sizeof message->reply, "%s", text);
    if (strcmp(status, "completed") == 0 && !message->from && !strstr(text, message->text))
        fail("customer %u: %s said \"%s\" and got the reply \"%s\"", customer->index, message->id, message->text, text);
    if (strcmp(status, "cancelled") == 0 && !world->plan->acts)
        fail("customer %u: %s was cancelled by nobody", customer->index, message->id);
}

static void hang_up(struct customer *customer)
{
    if (customer->in_flight)
        tell("customer %u: hangs up with %u unanswered", customer->index, customer->in_flight);
    /* The first may have been refused for now and those behind it not: nobody knows whose refusal was lost. */
    for (uint32_t i = 1; i < customer->in_flight; i++)
        customer->messages[customer->next + i].is_unsure = true;
    sim_http_close(&customer->line);
    customer->in_flight = 0;
    customer->is_polling = false;
}

static void refuse(struct customer *customer, struct sim_message *message)
{
    message->is_refused = message->said_count == 1;
    message->is_unsure = true; /* a copy that comes through stands where it came */
    message->is_done = true;
    customer->next++;
}

static void take_answer(struct customer *customer, struct world *world, const struct sim_answer *answer)
{
    struct sim_message *message = &customer->messages[customer->next];
    customer->in_flight--;
    bool was_polling = customer->is_polling;
    tell("customer %u: %s: %d %.*s", customer->index, message->id, answer->status, SLICE_PRINT(answer->body));
    customer->is_polling = false;
    switch (answer->status) {
    case 200:
    case 202:
        note_answer(customer, world, message, answer);
        if (message->is_done) {
            customer->next++;
            think(customer, sim_random_below(world->plan->think_ms_max + 1));
        } else {
            message->is_async = true; /* look again later */
            for (uint32_t i = 1; i <= customer->in_flight; i++)
                customer->messages[customer->next + i].is_unsure = true;
            think(customer, 50 + sim_random_below(500));
            hang_up(customer);
        }
        return;
    case 404:
        if (was_polling)
            fail("customer %u: turn %s of %s, which was accepted, is unknown", customer->index, message->turn_id,
                 message->id);
        break;
    case 409:
        if (world->plan->acts && memmem(answer->body.data, answer->body.size, "wrong-state", 11)) {
            for (uint32_t i = 1; i <= customer->in_flight; i++)
                customer->messages[customer->next + i].is_unsure = true;
            think(customer, 100 + sim_random_below(1000)); /* parked or closed: the operator opens it again */
            hang_up(customer);
            return;
        }
        /* Refused for good (reject while busy) or not its turn (a person who does not own the conversation). */
        if (!message->is_reject && !message->from)
            fail("customer %u: %s: 409: %.*s", customer->index, message->id, SLICE_PRINT(answer->body));
        if (message->was_accepted)
            fail("customer %u: %s was accepted and then refused: %.*s", customer->index, message->id,
                 SLICE_PRINT(answer->body));
        refuse(customer, message);
        return;
    case 422:
        if (message->from) { /* nobody asked for a person any more */
            refuse(customer, message);
            return;
        }
        break;
    case 429:
    case 503:
    case 507:
        for (uint32_t i = 1; i <= customer->in_flight; i++)
            customer->messages[customer->next + i].is_unsure = true;
        think(customer, 100 + sim_random_below(1000));
        hang_up(customer);
        return;
    default: break;
    }
    fail("customer %u: %s: unexpected %d: %.*s", customer->index, message->id, answer->status, SLICE_PRINT(answer->body));
}

static bool send_next(struct customer *customer, struct world *world)
{
    uint64_t now_ns = clock_mono_ns();
    if (customer->next + customer->in_flight >= customer->count || now_ns < customer->wake_ns || customer->is_polling)
        return false;
    if (customer->in_flight > 0) {
        bool may_type_ahead = customer->in_flight < 3 && sim_chance(world->plan->ahead_per_mille);
        if (!may_type_ahead || customer->messages[customer->next].is_async)
            return false;
    }
    if (!customer->line.tcp && !sim_http_open(&customer->line, world->address)) {
        think(customer, 50);
        return true;
    }
    struct sim_message *message = &customer->messages[customer->next + customer->in_flight];
    if (message->is_async && message->was_accepted) {
        write_look(customer, message);
        customer->is_polling = true;
    } else {
        write_request(customer, world, &customer->line, message, message->text);
        message->was_sent = true;
    }
    customer->in_flight++;
    customer->answer_deadline_ns = now_ns + PATIENCE_MS * MS;
    return true;
}

/* A copy races with the original on another line, or comes after it; a forgery (same id, other text) only after it. */
static bool step_copy(struct customer *customer, struct world *world)
{
    if (!customer->is_copying) {
        uint32_t i = customer->next;
        struct sim_message *message = i < customer->count ? &customer->messages[i] : NULL;
        struct sim_message *former = i > 0 ? &customer->messages[i - 1] : NULL;
        bool forges = former && former->wants_forgery && former->was_accepted;
        if (!forges && !(message && message->wants_copy && customer->in_flight > 0 && !customer->is_polling))
            return false;
        if (!sim_http_open(&customer->copy_line, world->address))
            return false;
        customer->is_copying = true;
        customer->is_forging = forges;
        customer->copied = forges ? i - 1 : i;
        struct sim_message *copied = &customer->messages[customer->copied];
        if (forges)
            copied->wants_forgery = false;
        else
            copied->wants_copy = false;
        write_request(customer, world, &customer->copy_line, copied, forges ? "forged" : copied->text);
        return true;
    }
    struct sim_answer answer;
    struct sim_message *message = &customer->messages[customer->copied];
    switch (sim_http_poll(&customer->copy_line, &answer)) {
    case SIM_HTTP_NOTHING:
    case SIM_HTTP_STREAM: return false;
    case SIM_HTTP_ANSWER:
        tell("customer %u: copy of %s: %d %.*s", customer->index, message->id, answer.status, SLICE_PRINT(answer.body));
        if (customer->is_forging) {
            if (answer.status != 422 && answer.status != 503 && answer.status != 429 && answer.status != 507)
                fail("customer %u: %s with another text: %d: %.*s", customer->index, message->id, answer.status,
                     SLICE_PRINT(answer.body));
        } else if (answer.status == 200 || answer.status == 202) {
            note_answer(customer, world, message, &answer);
        } else if (answer.status == 409 || answer.status == 422) {
            /* The copy came first and was refused for good; the original then is a new try. */
            if (!message->is_reject && !message->from && !world->plan->acts)
                fail("customer %u: copy of %s: %d: %.*s", customer->index, message->id, answer.status,
                     SLICE_PRINT(answer.body));
        }
        break;
    case SIM_HTTP_CLOSED: break;
    }
    sim_http_close(&customer->copy_line);
    customer->is_copying = false;
    return true;
}

bool customer_step(struct customer *customer, struct world *world)
{
    bool did_something = step_copy(customer, world);
    if (customer->line.tcp) {
        struct sim_answer answer;
        if (!world->is_calm && sim_chance(world->plan->leave_per_mille)) {
            sim_http_reset(&customer->line);
            hang_up(customer);
            return true;
        }
        switch (sim_http_poll(&customer->line, &answer)) {
        case SIM_HTTP_ANSWER:
            if (customer->in_flight == 0)
                fail("customer %u: an answer to nothing: %d %.*s", customer->index, answer.status,
                     SLICE_PRINT(answer.body));
            take_answer(customer, world, &answer);
            return true;
        case SIM_HTTP_CLOSED:
            hang_up(customer);
            think(customer, sim_random_below(100));
            return true;
        case SIM_HTTP_NOTHING:
        case SIM_HTTP_STREAM: break;
        }
        if (customer->in_flight && clock_mono_ns() > customer->answer_deadline_ns) {
            fail("customer %u: %s has no answer after %" PRIu64 " s, and the line is open", customer->index,
                 customer->messages[customer->next].id, PATIENCE_MS / 1000); /* V8 */
        }
    }
    return send_next(customer, world) || did_something;
}

bool customer_is_done(const struct customer *customer)
{
    return customer->next == customer->count && !customer->is_copying;
}

uint64_t customer_next_ns(const struct customer *customer)
{
    if (customer->in_flight)
        return customer->answer_deadline_ns + 1;
    return customer->next < customer->count ? customer->wake_ns : UINT64_MAX;
}

void customer_hang_up(struct customer *customer)
{
    hang_up(customer);
    sim_http_close(&customer->copy_line);
    customer->is_copying = false;
}

/* ---- observer --------------------------------------------------------------------------------------------------------------- */

void observer_create(struct observer *observer, uint32_t conversation)
{
    *observer = (struct observer){.conversation = conversation};
    buffer_init(&observer->seen, 16 << 20);
}

void observer_destroy(struct observer *observer)
{
    sim_http_close(&observer->line);
    buffer_deinit(&observer->seen);
}

/* Whole events of the stream, "field: value" lines up to an empty one. */
static void take_events(struct observer *observer)
{
    for (;;) {
        struct slice rest =
            slice_of(observer->line.body.data + observer->consumed, observer->line.body.size - observer->consumed);
        const char *end = rest.size ? memmem(rest.data, rest.size, "\n\n", 2) : NULL;
        if (!end)
            return;
        size_t size = (size_t)(end - rest.data);
        observer->consumed += size + 2;
        char event[16384];
        if (size >= sizeof event)
            fail("observer: an event of %zu bytes", size);
        memcpy(event, rest.data, size);
        event[size] = 0;
        const char *id = strncmp(event, "id: ", 4) == 0 ? event : strstr(event, "\nid: ");
        const char *data = strncmp(event, "data: ", 6) == 0 ? event : strstr(event, "\ndata: ");
        if (!id || !data)
            continue; /* a comment, or an event that is not in the journal */
        uint64_t version = strtoull(strstr(id, "id: ") + 4, NULL, 10);
        if (version != observer->version + 1)
            fail("observer of c-%u: version %" PRIu64 " after %" PRIu64, observer->conversation, version,
                 observer->version);
        observer->version = version;
        const char *json = strstr(data, "data: ") + 6;
        const char *json_end = strchr(json, '\n');
        buffer_append(&observer->seen, json, json_end ? (size_t)(json_end - json) : strlen(json));
        buffer_append_byte(&observer->seen, '\n');
    }
}

bool observer_step(struct observer *observer, struct world *world)
{
    uint64_t now_ns = clock_mono_ns();
    if (!observer->line.tcp) {
        if (now_ns < observer->wake_ns)
            return false;
        observer->wake_ns = now_ns + 200 * MS;
        if (!sim_http_open(&observer->line, world->address))
            return true;
        char path[128];
        snprintf(path, sizeof path, "/v1/conversations/c-%u/stream?after=%" PRIu64, observer->conversation,
                 observer->version);
        observer->consumed = 0;
        sim_http_send(&observer->line, "GET", path, "Accept: text/event-stream\r\n", (struct slice){0});
        return true;
    }
    if (!world->is_calm && sim_chance(world->plan->leave_per_mille)) {
        sim_http_reset(&observer->line);
        return true;
    }
    if (!world->is_calm && sim_chance(world->plan->deaf_per_mille)) {
        observer->wake_ns = now_ns + sim_random_below(2000) * MS;
        return false;
    }
    if (now_ns < observer->wake_ns && observer->line.status)
        return false;
    struct sim_answer answer;
    switch (sim_http_poll(&observer->line, &answer)) {
    case SIM_HTTP_NOTHING: return false;
    case SIM_HTTP_STREAM: take_events(observer); return true;
    case SIM_HTTP_ANSWER: /* refused (no such conversation yet), or the stream came to its end */
        if (answer.status == 200)
            take_events(observer);
        else if (answer.status != 404 && answer.status != 503 && answer.status != 429 && answer.status != 507)
            fail("observer of c-%u: %d %.*s", observer->conversation, answer.status, SLICE_PRINT(answer.body));
        break;
    case SIM_HTTP_CLOSED: take_events(observer); break;
    }
    sim_http_close(&observer->line);
    observer->wake_ns = now_ns + 100 * MS;
    return true;
}
