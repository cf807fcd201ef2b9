/* SPDX-License-Identifier: Apache-2.0 */
/* operator: see operator.h. Every act may be said again until it is answered: each leaves the same state twice said as once. */
#include "tests/sim/operator.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "net/json.h"
#include "runtime/clock.h"
#include "runtime/ring_sim.h"

static const uint64_t MS = 1000000;

static bool is_for_now(int status)
{
    return status == 429 || status == 503 || status == 507;
}

static bool connect_line(struct sim_http *line, const struct world *world, uint64_t *ret_wake_ns)
{
    if (line->tcp || sim_http_open(line, world->address))
        return true;
    *ret_wake_ns = clock_mono_ns() + 50 * MS;
    return false;
}

/* ---- operator ----------------------------------------------------------------------------------------------------------- */

enum act { ACT_CANCEL, ACT_TO_QUEUE, ACT_TO_HUMAN, ACT_TO_AGENT, ACT_PARK, ACT_RESUME, ACT_CLOSE, ACT_REOPEN, ACT_COUNT };

static const struct {
    const char *verb, *body;
} acts[ACT_COUNT] = {
    [ACT_CANCEL] = {"cancel", "{\"reason\":\"stop\"}"},
    [ACT_TO_QUEUE] = {"handoff", "{\"to\":\"queue:desk\"}"},
    [ACT_TO_HUMAN] = {"handoff", "{\"to\":\"human:rui\",\"reason\":\"asked\"}"},
    [ACT_TO_AGENT] = {"handoff", "{\"to\":\"agent:desk\"}"},
    [ACT_PARK] = {"park", "{}"},
    [ACT_RESUME] = {"resume", "{}"},
    [ACT_CLOSE] = {"close", "{}"},
    [ACT_REOPEN] = {"reopen", "{}"},
};

void operator_create(struct operator_ *operator_, const struct plan *plan)
{
    *operator_ = (struct operator_){.acts_left = plan->acts, .act = ACT_COUNT};
}

/* In the end every conversation is reopened, then resumed. */
static bool choose(struct operator_ *operator_, const struct world *world)
{
    if (operator_->act != ACT_COUNT)
        return true; /* the last one was not answered */
    if (operator_->acts_left > 0 && !world->is_calm) {
        operator_->acts_left--;
        operator_->conversation = (uint32_t)sim_random_below(world->plan->conversations);
        operator_->act = (uint32_t)sim_random_below(ACT_COUNT);
        return true;
    }
    if (operator_is_done(operator_, world->plan))
        return false;
    operator_->acts_left = 0;
    operator_->conversation = operator_->opening / 2;
    operator_->act = operator_->opening++ % 2 ? ACT_RESUME : ACT_REOPEN;
    return true;
}

static uint64_t number(const struct sim_answer *answer, const char *key)
{
    struct json_value root, value;
    struct json_problem problem;
    int64_t found;
    if (json_validate(answer->body, &root, &problem) != OK || !json_find(root, key, &value) ||
        json_integer(value, &found) != OK || found < 0)
        fail("operator: no %s in %.*s", key, SLICE_PRINT(answer->body));
    return (uint64_t)found;
}

static void take_answer(struct operator_ *operator_, const struct sim_answer *answer)
{
    uint32_t conversation = operator_->conversation;
    tell("operator: %s of c-%u: %d %.*s", acts[operator_->act].verb, conversation, answer->status,
         SLICE_PRINT(answer->body));
    if (is_for_now(answer->status))
        return;
    if (answer->status == 200) {
        uint64_t version = number(answer, "version"), epoch = number(answer, "epoch");
        if (version < operator_->version[conversation] || epoch < operator_->epoch[conversation])
            fail("c-%u went back to version %" PRIu64 ", epoch %" PRIu64, conversation, version, epoch); /* V9 */
        operator_->version[conversation] = version;
        operator_->epoch[conversation] = epoch;
    } else if (answer->status != 404 && answer->status != 409) { /* not there yet; closed */
        fail("operator: %s of c-%u: %d %.*s", acts[operator_->act].verb, conversation, answer->status,
             SLICE_PRINT(answer->body));
    }
    operator_->act = ACT_COUNT;
}

bool operator_step(struct operator_ *operator_, struct world *world)
{
    uint64_t now_ns = clock_mono_ns();
    struct sim_answer answer;
    if (operator_->is_waiting) {
        switch (sim_http_poll(&operator_->line, &answer)) {
        case SIM_HTTP_NOTHING:
        case SIM_HTTP_STREAM: return false;
        case SIM_HTTP_ANSWER: take_answer(operator_, &answer); break;
        case SIM_HTTP_CLOSED: sim_http_close(&operator_->line); break;
        }
        operator_->is_waiting = false;
        operator_->wake_ns = now_ns + sim_random_below(world->is_calm ? 100 : 1500) * MS;
        return true;
    }
    if (now_ns < operator_->wake_ns || !connect_line(&operator_->line, world, &operator_->wake_ns) ||
        !choose(operator_, world))
        return false;
    char path[96];
    snprintf(path, sizeof path, "/v1/conversations/c-%u/%s", operator_->conversation, acts[operator_->act].verb);
    sim_http_send(&operator_->line, "POST", path, "", slice_from_text(acts[operator_->act].body));
    operator_->is_waiting = true;
    return true;
}

bool operator_is_done(const struct operator_ *operator_, const struct plan *plan)
{
    bool is_open = plan->acts == 0 || operator_->opening == 2 * plan->conversations;
    return is_open && operator_->act == ACT_COUNT && !operator_->is_waiting;
}

/* ---- eraser ------------------------------------------------------------------------------------------------------------- */

static const char ERASER_PATH[] = "/v1/conversations/e-0";

void eraser_create(struct eraser *eraser, const struct plan *plan)
{
    *eraser = (struct eraser){.rounds_left = plan->erasures, .phase = plan->erasures ? ERASER_SAYS : ERASER_IS_DONE};
    eraser->count = plan->erasures ? 1 + (uint32_t)sim_random_below(5) : 0;
}

static void send_request(struct eraser *eraser)
{
    char path[96], body[128];
    switch (eraser->phase) {
    case ERASER_SAYS:
        snprintf(path, sizeof path, "%s/messages", ERASER_PATH);
        snprintf(body, sizeof body, "{\"text\":\"era-%u-%u.\",\"message_id\":\"e-%u-%u\",\"agent\":\"echo\"}",
                 eraser->round, eraser->said, eraser->round, eraser->said);
        sim_http_send(&eraser->line, "POST", path, "", slice_from_text(body));
        return;
    case ERASER_LOOKS:
    case ERASER_LOOKS_AGAIN:
        snprintf(path, sizeof path, "%s/events?limit=1000", ERASER_PATH);
        sim_http_send(&eraser->line, "GET", path, "", (struct slice){0});
        return;
    case ERASER_ERASES: sim_http_send(&eraser->line, "DELETE", ERASER_PATH, "", (struct slice){0}); return;
    case ERASER_IS_DONE: return;
    }
}

static bool has_text(struct slice body, uint32_t round, uint32_t number)
{
    char text[32];
    snprintf(text, sizeof text, "\"era-%u-%u.\"", round, number);
    return body.size && memmem(body.data, body.size, text, strlen(text)) != NULL;
}

static bool has_round(struct slice body, uint32_t round)
{
    char text[32];
    snprintf(text, sizeof text, "era-%u-", round);
    return body.size && memmem(body.data, body.size, text, strlen(text)) != NULL;
}

static void look(const struct eraser *eraser, const struct sim_answer *answer)
{
    if (answer->status != 200)
        fail("eraser: what it said is gone: %d %.*s", answer->status, SLICE_PRINT(answer->body));
    for (uint32_t i = 0; i < eraser->said; i++)
        if (!has_text(answer->body, eraser->round, i))
            fail("eraser: era-%u-%u was answered, and is lost", eraser->round, i);
    for (uint32_t round = 0; round < eraser->round; round++)
        if (has_round(answer->body, round))
            fail("eraser: round %u was erased, and is told in round %u", round, eraser->round); /* V10 */
    if (!memmem(answer->body.data, answer->body.size, "\"version\":1,", 12))
        fail("eraser: no version 1 in round %u: %.*s", eraser->round, SLICE_PRINT(answer->body));
}

static void check_erased(const struct eraser *eraser, const struct world *world)
{
    char text[32];
    snprintf(text, sizeof text, "era-%u-", eraser->round);
    if (world_has_bytes(world, text))
        fail("eraser: bytes of round %u are still on the disk", eraser->round); /* V10 */
}

static void next_round(struct eraser *eraser)
{
    eraser->round++;
    eraser->said = 0;
    eraser->count = 1 + (uint32_t)sim_random_below(5);
    eraser->phase = --eraser->rounds_left ? ERASER_SAYS : ERASER_IS_DONE;
}

static void note_answer(struct eraser *eraser, const struct world *world, const struct sim_answer *answer)
{
    tell("eraser: phase %d, round %u: %d %.*s", (int)eraser->phase, eraser->round, answer->status,
         SLICE_PRINT(answer->body));
    if (is_for_now(answer->status))
        return;
    switch (eraser->phase) {
    case ERASER_SAYS:
        if (answer->status != 200)
            fail("eraser: %d %.*s", answer->status, SLICE_PRINT(answer->body));
        if (++eraser->said == eraser->count)
            eraser->phase = ERASER_LOOKS;
        return;
    case ERASER_LOOKS:
        look(eraser, answer);
        eraser->phase = eraser->was_repeated ? ERASER_IS_DONE : ERASER_ERASES;
        return;
    case ERASER_ERASES:
        if (answer->status != 200)
            fail("eraser: %d %.*s", answer->status, SLICE_PRINT(answer->body));
        check_erased(eraser, world);
        eraser->phase = ERASER_LOOKS_AGAIN;
        return;
    case ERASER_LOOKS_AGAIN:
        if (answer->status != 404)
            fail("eraser: after the erasure: %d %.*s", answer->status, SLICE_PRINT(answer->body));
        next_round(eraser);
        return;
    case ERASER_IS_DONE: return;
    }
}

bool eraser_step(struct eraser *eraser, struct world *world)
{
    uint64_t now_ns = clock_mono_ns();
    struct sim_answer answer;
    if (eraser->is_waiting) {
        switch (sim_http_poll(&eraser->line, &answer)) {
        case SIM_HTTP_NOTHING:
        case SIM_HTTP_STREAM: return false;
        case SIM_HTTP_ANSWER: note_answer(eraser, world, &answer); break;
        case SIM_HTTP_CLOSED:
            sim_http_close(&eraser->line);
            eraser->was_repeated |= eraser->phase == ERASER_SAYS;
            if (eraser->phase == ERASER_ERASES)
                eraser->phase = ERASER_IS_DONE;
            break;
        }
        eraser->is_waiting = false;
        eraser->wake_ns = now_ns + sim_random_below(200) * MS;
        return true;
    }
    if (eraser->phase == ERASER_IS_DONE || now_ns < eraser->wake_ns ||
        !connect_line(&eraser->line, world, &eraser->wake_ns))
        return false;
    send_request(eraser);
    eraser->is_waiting = true;
    return true;
}

bool eraser_is_done(const struct eraser *eraser)
{
    return eraser->phase == ERASER_IS_DONE;
}
