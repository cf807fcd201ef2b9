/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file: refused with a place, or loaded into an object whose references are in range. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/config/config_internal.h"
#include "runtime/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_action(const struct config *config, const struct action *action)
{
    if (action->kind == ACTION_AGENT)
        ASSERT(action->agent >= 0 && (uint32_t)action->agent < config->agent_count);
    if (action->kind != ACTION_NONE)
        ASSERT(action->text.size > 0);
}

static void check_config(const struct config *config)
{
    ASSERT(config->agent_count > 0);
    ASSERT(config->default_agent >= 0 && (uint32_t)config->default_agent < config->agent_count);
    for (uint32_t i = 0; i < config->agent_count; i++) {
        const struct agent_config *agent = &config->agents[i];
        ASSERT(config_find_agent(config, agent->name) == (int)i);
        ASSERT((agent->kind == AGENT_LLM) == (agent->provider >= 0));
        ASSERT(agent->provider < (int)config->provider_count);
        ASSERT((agent->kind == AGENT_RULES) == (agent->rule_count > 0));
        check_action(config, &agent->otherwise);
        for (uint32_t rule = 0; rule < agent->rule_count; rule++) {
            ASSERT(agent->rules[rule].match_count > 0);
            ASSERT(agent->rules[rule].action.kind != ACTION_NONE);
            check_action(config, &agent->rules[rule].action);
        }
        for (uint32_t fallback = 0; fallback < agent->fallback_count; fallback++)
            check_action(config, &agent->fallbacks[fallback]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *const environment[] = {NULL};
    static const struct config_flags flags;
    /* Secret files are the one thing a file can make the loader open: none here, so that no input reads the machine. */
    if (memmem(data, size, "api_key_file", 12))
        return 0;
    struct config *config = NULL;
    struct error error = {0};
    enum err code = config_parse("fuzz.yaml", slice_of((const char *)data, size), environment, &flags, &config, &error);
    if (code == OK)
        check_config(config);
    else
        ASSERT(strncmp(error.text, "fuzz.yaml:", 10) == 0 || strncmp(error.text, "(bundled", 8) == 0);
    config_unref(config);
    return 0;
}
