/* SPDX-License-Identifier: Apache-2.0 */
/* A walk from agent to agent until one has an answer. The text is folded once, when the first rules agent is met: an echo or a
 * model needs none of it. */
#include "actors/routing.h"

#include "actors/config/config.h"
#include "actors/conversation_state.h"
#include "actors/fold.h"
#include "actors/protocol.h"
#include "runtime/assert.h"

struct walk {
    const struct config *config;
    const struct route_question *question;
    struct route route;
    bool is_folded;
    size_t folded_size;
    char folded[CONV_TEXT_BYTES_MAX];
};

static struct slice folded_text(struct walk *walk)
{
    if (!walk->is_folded && fold_text(walk->question->text, walk->folded, sizeof walk->folded, &walk->folded_size) != OK)
        walk->folded_size = 0; /* longer than the protocol lets in: matches nothing */
    walk->is_folded = true;
    return slice_of(walk->folded, walk->folded_size);
}

static const struct action *match_rules(struct walk *walk, const struct agent_config *agent)
{
    for (uint32_t r = 0; r < agent->rule_count; r++)
        for (uint32_t m = 0; m < agent->rules[r].match_count; m++)
            if (fold_has_phrase(folded_text(walk), agent->rules[r].match[m]))
                return &agent->rules[r].action;
    return &agent->otherwise;
}

static void stop(struct walk *walk, enum route_kind kind, struct slice text, enum err code)
{
    walk->route.kind = kind;
    walk->route.text = text;
    walk->route.code = code;
}

/* Returns: whether the walk goes on, at route.agent. */
static bool take_action(struct walk *walk, const struct action *action)
{
    switch (action->kind) {
    case ACTION_REPLY: stop(walk, ROUTE_REPLY, action->text, OK); return false;
    case ACTION_AGENT: walk->route.agent = action->agent; return true;
    case ACTION_HANDOFF:
        if (!conversation_owner_is_agent(action->text)) {
            stop(walk, ROUTE_HANDOFF, action->text, OK);
            return false;
        }
        if (walk->route.handoff_count == ROUTE_HANDOFFS_MAX) {
            stop(walk, ROUTE_NOBODY, (struct slice){0}, ERR_LIMIT);
            return false;
        }
        walk->route.agent = action->agent;
        walk->route.handoffs[walk->route.handoff_count++] = action->agent;
        return true;
    case ACTION_NONE: break;
    }
    stop(walk, ROUTE_NOBODY, (struct slice){0}, ERR_NOT_FOUND);
    return false;
}

/* Returns: whether the walk goes on. */
static bool ask_agent(struct walk *walk)
{
    const struct agent_config *agent = &walk->config->agents[walk->route.agent];
    switch (agent->kind) {
    case AGENT_ECHO: stop(walk, ROUTE_REPLY, walk->question->text, OK); return false;
    case AGENT_LLM: stop(walk, ROUTE_MODEL, (struct slice){0}, OK); return false;
    case AGENT_RULES: break;
    }
    return take_action(walk, match_rules(walk, agent));
}

static void run(struct walk *walk)
{
    for (uint32_t hops = 0; ask_agent(walk); hops++) {
        if (hops == walk->config->conversation.routing_hops) {
            stop(walk, ROUTE_NOBODY, (struct slice){0}, ERR_LIMIT);
            return;
        }
    }
}

int route_first_agent(const struct config *config, const struct route_question *question)
{
    struct slice name = question->requested_agent;
    if (name.size == 0 && conversation_owner_is_agent(question->owner))
        name = slice_of(question->owner.data + 6, question->owner.size - 6);
    int agent = name.size ? config_find_agent(config, name) : -1;
    return agent >= 0 ? agent : config->default_agent; /* a reload may have taken an agent away */
}

struct route route_message(const struct config *config, const struct route_question *question)
{
    struct walk walk;
    walk.config = config;
    walk.question = question;
    walk.is_folded = false;
    walk.route = (struct route){.agent = route_first_agent(config, question)};
    if (question->owner.size && !conversation_owner_is_agent(question->owner))
        stop(&walk, ROUTE_HUMAN, (struct slice){0}, OK);
    else
        run(&walk);
    return walk.route;
}

struct route route_fallback(const struct config *config, int agent, uint32_t n, const struct route_question *question)
{
    ASSERT(n > 0);
    struct walk walk;
    walk.config = config;
    walk.question = question;
    walk.is_folded = false;
    walk.route = (struct route){.agent = agent};
    const struct agent_config *primary = &config->agents[agent];
    if (n > primary->fallback_count)
        stop(&walk, ROUTE_NOBODY, (struct slice){0}, ERR_NOT_FOUND);
    else if (take_action(&walk, &primary->fallbacks[n - 1]))
        run(&walk);
    return walk.route;
}
