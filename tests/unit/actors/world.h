/* SPDX-License-Identifier: Apache-2.0 */
/* world: conversations on a stepped runtime with one worker, over the real journal on a simulated disk; the test plays the front
 * (it collects the answers) and the model's gateway (it collects the calls, and answers when it likes).
 *
 * Nothing moves but by world_settle (everything, until nothing moves), world_run (the worker alone: the disk stands still) and
 * world_wait (virtual time passes, then settle).
 */
#ifndef CIRANDA_TESTS_ACTORS_WORLD_H
#define CIRANDA_TESTS_ACTORS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "actors/config/config.h"
#include "actors/conversation_internal.h"
#include "actors/dead_letters.h"
#include "actors/directory.h"
#include "actors/llm/llm.h"
#include "actors/protocol.h"
#include "actors/services.h"
#include "runtime/worker.h"
#include "storage/disk_sim.h"
#include "storage/journal.h"

enum {
    AGENT_INDEX_ECHO,
    AGENT_INDEX_TRIAGE,
    AGENT_INDEX_ASSISTANT,
    AGENT_INDEX_BACKUP,
    AGENT_INDEX_LONELY,
    AGENT_INDEX_COUNT
};

struct reply {
    uint16_t kind;
    uint64_t token, version;
    enum turn_status status;
    bool is_duplicate, has_reply;
    enum err code;
    uint32_t retry_after_s;
    char message_id[CONV_MESSAGE_ID_BYTES_MAX + 1], turn_id[TURN_ID_BYTES + 1], agent[96], text[512], detail[256];
    char *body; /* owned by the world */
};

struct call {
    struct actor_id reply_to;
    uint64_t token;
    int agent;
    bool is_cancelled, is_done, wants_deltas;
    char effect_key[64], messages[2048]; /* "u:hello|a:hi|u:more" */
};

struct world {
    struct config config;
    struct runtime *runtime;
    struct worker *worker;
    struct services services;
    struct actor_id directory, front, gateway;
    struct journal *journal;
    struct disk_sim *disk;
    uint64_t random, last_token;
    struct reply *replies;
    uint32_t reply_count, reply_capacity;
    struct call calls[256];
    uint32_t call_count;
};

struct world *world_create(void);
void world_destroy(struct world *world);
/* As a crash of process and machine: nothing is flushed; then everything starts again, open turns too. */
void world_crash(struct world *world);

/* For cmocka: *state is the world; with a model: the default agent asks one. */
int world_set_up(void **state);
int world_set_up_with_model(void **state);
int world_tear_down(void **state);

void world_settle(struct world *world);
void world_run(struct world *world);
void world_wait(struct world *world, uint64_t ms);

/* Return the token that the answers carry. */
uint64_t world_request(struct world *world, uint16_t kind, const struct conv_request *fill);
uint64_t world_say(struct world *world, const char *conversation, const char *message_id, const char *text);
#define WORLD_REQUEST(world, kind, ...)                                                                                  \
    world_request((world), (kind), &(struct conv_request){.conversation = SLICE_LITERAL("c"), __VA_ARGS__})

/* The n-th answer (from 0) with that token; NULL: none yet. */
const struct reply *world_reply(const struct world *world, uint64_t token, uint32_t n);
/* Its last one. */
const struct reply *world_last(const struct world *world, uint64_t token);
uint32_t world_reply_count(const struct world *world, uint64_t token);
void world_assert_finished(const struct reply *reply, enum turn_status status, const char *text);
/* The names of the events of conversation c, a line each: asked for now, so it settles. */
const char *world_events(struct world *world, const char *conversation);
/* The body of CONV_GET, or "" when refused. */
const char *world_get(struct world *world, const char *conversation);

void world_model_done(struct world *world, uint32_t call, const struct model_done *fill);
void world_model_says(struct world *world, uint32_t call, const char *text);
void world_model_delta(struct world *world, uint32_t call, const char *text);
void world_set_breaker(int provider, bool is_open);

/* The next `count` pushes of a text that contains `text` to a history fail: the conversation crashes. */
void world_poison(const char *text, uint32_t count);

#endif
