/* SPDX-License-Identifier: Apache-2.0 */
/* config: the validated, immutable configuration; one object, swapped whole on reload.
 *
 * Life: config_load -> config_ref / config_unref (counted, any thread). A failed load changes nothing and says file, line,
 * column and key. Levels: built-in defaults < YAML file < CIRANDA__SECTION__KEY variables < flags.
 * Secrets (api_key_file, api_key from a variable) are never printed: "***".
 */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/limits.h"
#include "runtime/error.h"
#include "runtime/slice.h"

enum agent_kind { AGENT_ECHO, AGENT_RULES, AGENT_LLM };

/* What a rule or an `otherwise` or a `fallback` does: exactly one of them. */
enum action_kind { ACTION_NONE, ACTION_REPLY, ACTION_HANDOFF, ACTION_AGENT };
struct action {
    enum action_kind kind;
    struct slice text; /* reply; "queue:x" / "agent:x" / "human:x"; agent name */
    int agent;         /* ACTION_AGENT and handoff to agent: index, resolved at load */
};

struct rule {
    struct slice *match; /* folded already (fold.h): lower case, no accents; a phrase matches at word borders */
    uint32_t match_count;
    struct action action;
};

struct agent_config {
    struct slice name;
    enum agent_kind kind;
    bool reject_when_busy; /* on_busy: reject; default enqueue */
    /* rules */
    struct rule *rules;
    uint32_t rule_count;
    struct action otherwise;
    /* llm */
    int provider; /* index */
    struct slice model, instructions;
    double temperature;        /* < 0: not sent */
    uint32_t max_tokens;       /* 0: not sent */
    uint32_t history_messages; /* 0: 40 */
    struct action *fallbacks;  /* tried in order when the call failed for good */
    uint32_t fallback_count;
};

struct breaker_config {
    uint32_t failures, successes, window;
    double error_rate;
    uint64_t open_for_ns;
};
struct retry_config {
    uint32_t attempts;
    uint64_t backoff_min_ns, backoff_max_ns;
};

struct provider_config {
    struct slice name;
    struct slice base_url; /* without trailing slash */
    struct slice api_key;  /* "" when none; never printed */
    uint64_t connect_ns_max, first_byte_ns_max, idle_ns_max, total_ns_max;
    uint32_t in_flight_max;
    struct breaker_config breaker;
    struct retry_config retry;
};

struct config {
    uint64_t references; /* atomic, private */
    struct {
        struct slice http_listen, rpc_listen, data;
        uint32_t workers;
        uint64_t memory_bytes_max, drain_ns_max;
    } server;
    struct {
        struct slice level;
    } log;
    struct {
        uint32_t mailbox_messages, queued_turns, history_messages, history_bytes, dedup_messages, crash_max;
        uint64_t idle_ns;      /* until passivation */
        uint64_t turn_ns_max;  /* a turn that lasts longer fails */
        uint32_t routing_hops; /* agent -> agent in one turn */
    } conversation;
    struct {
        uint32_t connections, body_bytes, head_bytes, pipeline;
        uint64_t head_ns, idle_ns;
    } http;
    struct {
        uint32_t connections, frame_bytes, pipeline, send_bytes;
        uint64_t frame_ns, idle_ns;
    } rpc;
    struct {
        struct limit customer, tenant; /* messages said, for the whole process */
    } limits;
    struct agent_config *agents;
    uint32_t agent_count;
    struct provider_config *providers;
    uint32_t provider_count;
    int default_agent; /* routing.default */
    void *memory;      /* private: arena that holds everything above */
};

/* Flags as the command line gave them; NULL or 0: not given. */
struct config_flags {
    const char *file, *http_listen, *rpc_listen, *data;
    uint32_t workers;
};

/* Thread: any (reads files: start-up, or the reload's own thread). file NULL: the bundled default configuration. Returns:
 * ERR_CONFIG with "file:line:column: key: what is wrong", ERR_SYSTEM. */
MUST_USE enum err config_load(const struct config_flags *flags, struct config **ret_config, struct error *error);
struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* accepts NULL */
/* Index of an agent by name; -1. */
int config_find_agent(const struct config *config, struct slice name);

#endif
