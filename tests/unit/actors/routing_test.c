/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/config/config.h"
#include "actors/protocol.h"
#include "actors/routing.h"

enum { ECHO, TRIAGE, MODEL, PING, PONG, MUTE, AGENTS };

static struct slice words[] = {{"preco", 5}, {"bom dia", 7}, {"humano", 6}, {"vendas", 6}};
static struct rule rules[] = {
    {&words[0], 2, {.kind = ACTION_REPLY, .text = {"first", 5}}},
    {&words[0], 1, {.kind = ACTION_REPLY, .text = {"never", 5}}},
    {&words[2], 1, {.kind = ACTION_HANDOFF, .text = {"human:ana", 9}, .agent = -1}},
    {&words[3], 1, {.kind = ACTION_HANDOFF, .text = {"agent:echo", 10}, .agent = ECHO}},
};
static struct action fallbacks[] = {{.kind = ACTION_AGENT, .agent = TRIAGE},
                                    {.kind = ACTION_REPLY, .text = {"sorry", 5}}};
static struct agent_config agents[AGENTS] = {
    [ECHO] = {.name = {"echo", 4}, .kind = AGENT_ECHO},
    [TRIAGE] = {.name = {"triage", 6},
                .kind = AGENT_RULES,
                .rules = rules,
                .rule_count = 4,
                .otherwise = {.kind = ACTION_AGENT, .agent = MODEL}},
    [MODEL] = {.name = {"model", 5}, .kind = AGENT_LLM, .fallbacks = fallbacks, .fallback_count = 2},
    [PING] = {.name = {"ping", 4}, .kind = AGENT_RULES, .otherwise = {.kind = ACTION_AGENT, .agent = PONG}},
    [PONG] = {.name = {"pong", 4},
              .kind = AGENT_RULES,
              .otherwise = {.kind = ACTION_HANDOFF, .text = {"agent:ping", 10}, .agent = PING}},
    [MUTE] = {.name = {"mute", 4}, .kind = AGENT_RULES},
};
static struct config config = {.agents = agents, .agent_count = AGENTS, .default_agent = TRIAGE};

static struct route ask(const char *owner, const char *requested, const char *text)
{
    config.conversation.routing_hops = 8;
    const struct route_question question = {slice_from_text(owner), slice_from_text(requested), slice_from_text(text)};
    return route_message(&config, &question);
}

static void the_first_rule_that_matches_wins(void **state)
{
    (void)state;
    struct route route = ask("", "", "Bom  DIA, qual o preço?");
    assert_int_equal(route.kind, ROUTE_REPLY);
    assert_int_equal(route.agent, TRIAGE);
    assert_true(slice_has_text(route.text, "first"));
}

static void otherwise_lets_another_speak_without_owning(void **state)
{
    (void)state;
    struct route route = ask("agent:triage", "", "something else");
    assert_int_equal(route.kind, ROUTE_MODEL);
    assert_int_equal(route.agent, MODEL);
    assert_int_equal(route.handoff_count, 0);
}

static void handoffs_change_the_owner(void **state)
{
    (void)state;
    struct route route = ask("agent:triage", "", "vendas");
    assert_int_equal(route.kind, ROUTE_REPLY);
    assert_int_equal(route.agent, ECHO);
    assert_int_equal(route.handoff_count, 1);
    assert_int_equal(route.handoffs[0], ECHO);
    route = ask("agent:triage", "", "um humano!");
    assert_int_equal(route.kind, ROUTE_HANDOFF);
    assert_true(slice_has_text(route.text, "human:ana"));
}

static void the_agent_asked_for_comes_first_but_not_before_people(void **state)
{
    (void)state;
    assert_int_equal(ask("agent:triage", "echo", "preco").agent, ECHO);
    assert_int_equal(ask("human:ana", "echo", "preco").kind, ROUTE_HUMAN);
    assert_int_equal(ask("queue:x", "", "preco").kind, ROUTE_HUMAN);
}

static void an_owner_that_is_gone_gives_the_default(void **state)
{
    (void)state;
    assert_int_equal(ask("agent:removed", "", "preco").agent, TRIAGE);
}

static void circles_end(void **state)
{
    (void)state;
    struct route route = ask("agent:ping", "", "x");
    assert_int_equal(route.kind, ROUTE_NOBODY);
    assert_int_equal(route.code, ERR_LIMIT);
    config.conversation.routing_hops = 64; /* then the room for handoffs ends it */
    const struct route_question question = {.owner = SLICE_LITERAL("agent:ping"), .text = SLICE_LITERAL("x")};
    assert_int_equal(route_message(&config, &question).code, ERR_LIMIT);
}

static void no_rule_and_no_otherwise_is_nobody(void **state)
{
    (void)state;
    struct route route = ask("agent:mute", "", "x");
    assert_int_equal(route.kind, ROUTE_NOBODY);
    assert_int_equal(route.code, ERR_NOT_FOUND);
}

static void fallbacks_come_in_order_and_end(void **state)
{
    (void)state;
    config.conversation.routing_hops = 8;
    const struct route_question question = {.owner = SLICE_LITERAL("agent:model"), .text = SLICE_LITERAL("preco")};
    struct route route = route_fallback(&config, MODEL, 1, &question);
    assert_int_equal(route.kind, ROUTE_REPLY); /* triage has a rule for it */
    assert_true(slice_has_text(route.text, "first"));
    route = route_fallback(&config, MODEL, 2, &question);
    assert_true(slice_has_text(route.text, "sorry"));
    assert_int_equal(route.agent, MODEL);
    route = route_fallback(&config, MODEL, 3, &question);
    assert_int_equal(route.kind, ROUTE_NOBODY);
    assert_int_equal(route.code, ERR_NOT_FOUND);
}

static void the_longest_text_is_routed(void **state)
{
    (void)state;
    char *text = malloc(CONV_TEXT_BYTES_MAX + 1);
    assert_non_null(text);
    memset(text, 'x', CONV_TEXT_BYTES_MAX);
    memcpy(text + CONV_TEXT_BYTES_MAX - 6, " preco", 7);
    assert_int_equal(ask("", "", text).kind, ROUTE_REPLY);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_wins),
        cmocka_unit_test(otherwise_lets_another_speak_without_owning),
        cmocka_unit_test(handoffs_change_the_owner),
        cmocka_unit_test(the_agent_asked_for_comes_first_but_not_before_people),
        cmocka_unit_test(an_owner_that_is_gone_gives_the_default),
        cmocka_unit_test(circles_end),
        cmocka_unit_test(no_rule_and_no_otherwise_is_nobody),
        cmocka_unit_test(fallbacks_come_in_order_and_end),
        cmocka_unit_test(the_longest_text_is_routed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
