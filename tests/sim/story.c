/* SPDX-License-Identifier: Apache-2.0 */
/* story: the lines of its customers are a table; chance (of a fixed seed) decides only the order in which things are stepped. */
#include "tests/sim/story.h"

#include <stdio.h>

#include "tests/sim/verify.h"

enum { STORY_CUSTOMERS = 4, STORY_CONVERSATIONS = 3, STORY_OBSERVERS = 2 };

/* Customer i speaks in conversation i % STORY_CONVERSATIONS: the first and the last share one. */
static const char *const agents[STORY_CUSTOMERS] = {"bot", "echo", "desk", "bot"};

static const struct {
    uint32_t customer;
    const char *ending; /* of the text: what the provider (world.c) or the rules (humano) hear in it */
    const char *from;
    bool is_async, wants_copy, wants_forgery;
} lines[] = {
    {.customer = 0, .ending = "", .wants_copy = true},
    {.customer = 0, .ending = " later"},
    {.customer = 0, .ending = "", .is_async = true},
    {.customer = 1, .ending = "", .wants_forgery = true},
    {.customer = 1, .ending = "", .wants_copy = true},
    {.customer = 1, .ending = ""},
    {.customer = 2, .ending = ""},
    {.customer = 2, .ending = " humano"},
    {.customer = 2, .ending = "", .from = "human:ana"},
    {.customer = 3, .ending = " never"},
    {.customer = 3, .ending = "", .wants_copy = true},
};

static const char *const must_happen[] = {"inbox.message.received",
                                          "agent.response.generated",
                                          "agent.ai.request.started",
                                          "agent.ai.request.failed",
                                          "agent.ai.response.generated",
                                          "agent.human.message.sent",
                                          "routing.handoff.completed",
                                          "message.dead_lettered",
                                          "turn.completed",
                                          "turn.failed"};

void story_plan(struct plan *plan)
{
    *plan = (struct plan){
        .seed = 1,
        .workers = 2,
        .conversations = STORY_CONVERSATIONS,
        .customers = STORY_CUSTOMERS,
        .observers = STORY_OBSERVERS,
        .ahead_per_mille = 500,
        .flush_ms_max = 60, /* longer than it takes to call a model: what is done too early shows */
        .acts = 4,
        .erasures = 1,
        .think_ms_max = 50,
        .idle_ms = 20,
        .dedup_messages = 64,
        .history_messages = 4,
        .queued_turns = 64,
        .mailbox_messages = 256,
        .retry_attempts = 2,
        .breaker_failures = 8,
        .pipeline = 8,
        .network = {.latency_ns_min = 1000, .latency_ns_max = 1000000},
    };
}

void story_cast(const struct plan *plan, struct customer *customers, struct observer *observers)
{
    for (uint32_t i = 0; i < STORY_CUSTOMERS; i++)
        customer_create(&customers[i], plan, i, agents[i]);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct customer *customer = &customers[lines[i].customer];
        uint32_t number = customer->count++;
        struct sim_message *message = &customer->messages[number];
        customer_set_message(customer, number, lines[i].ending);
        message->from = lines[i].from;
        message->is_async = lines[i].is_async;
        message->wants_copy = lines[i].wants_copy;
        message->wants_forgery = lines[i].wants_forgery;
    }
    for (uint32_t i = 0; i < STORY_OBSERVERS; i++)
        observer_create(&observers[i], i);
}

void story_check(struct world *world)
{
    for (size_t i = 0; i < sizeof must_happen / sizeof *must_happen; i++)
        if (!verify_has_event(world, must_happen[i]))
            fail("the story has no %s: it does not test what it is for", must_happen[i]);
}
