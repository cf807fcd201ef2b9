/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a configuration: what the bundled one holds, what each level may change, and that every mistake is refused with
 * its place (row J1 of the fault catalogue). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/config/config.h"
#include "actors/config/config_internal.h"

static char *const no_environment[] = {NULL};
static const struct config_flags no_flags;

static struct config *load(const char *text)
{
    struct config *config = NULL;
    struct error error = {0};
    enum err code = config_parse("test.yaml", slice_from_text(text), no_environment, &no_flags, &config, &error);
    if (code != OK)
        fail_msg("refused: %s", error.text);
    return config;
}

/* The text must be refused, and the error must begin with `start` and hold `words`. */
static void refuse_with(const char *text, char *const *environment, const char *start, const char *words)
{
    struct config *config = (struct config *)-1;
    struct error error = {0};
    enum err code = config_parse("test.yaml", slice_from_text(text), environment, &no_flags, &config, &error);
    if (code != ERR_CONFIG || strncmp(error.text, start, strlen(start)) != 0 || !strstr(error.text, words))
        fail_msg("code %d, \"%s\" instead of \"%s … %s\" for:\n%s", code, error.text, start, words, text);
    assert_ptr_equal(config, (struct config *)-1); /* outputs are untouched on failure */
}

static void refuse(const char *text, const char *start, const char *words)
{
    refuse_with(text, no_environment, start, words);
}

static bool is(struct slice slice, const char *text)
{
    return slice_has_text(slice, text);
}

/* ---- what is taken ---------------------------------------------------------------------------------------------------- */

static void nothing_given_runs_with_echo_and_triage(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct error error = {0};
    assert_int_equal(config_load(&no_flags, &config, &error), OK);
    assert_true(is(config->server.http_listen, "127.0.0.1:7400"));
    assert_true(is(config->server.rpc_listen, "127.0.0.1:7401"));
    assert_true(is(config->server.data, "./data"));
    int echo = config_find_agent(config, slice_from_text("echo"));
    int triage = config_find_agent(config, slice_from_text("triage"));
    assert_true(echo >= 0 && triage >= 0);
    assert_int_equal(config->agents[echo].kind, AGENT_ECHO);
    assert_int_equal(config->agents[triage].kind, AGENT_RULES);
    assert_true(config->agents[triage].rule_count > 5);
    assert_int_equal(config->default_agent, triage);
    assert_int_equal(config->provider_count, 0);
    assert_int_equal(config_find_agent(config, slice_from_text("nobody")), -1);
    config_unref(config);
}

static void an_empty_file_is_the_bundled_configuration(void **state)
{
    (void)state;
    struct config *config = load("# nothing\n");
    assert_int_equal(config->agent_count, 2);
    assert_true(is(config->agents[config->default_agent].name, "triage"));
    assert_int_equal(config->conversation.crash_max, 3);
    assert_int_equal(config->http.body_bytes, 262144);
    config_unref(config);
}

static void one_agent_needs_no_routing(void **state)
{
    (void)state;
    struct config *config = load("agents: {only: {kind: echo, on_busy: reject}}");
    assert_int_equal(config->default_agent, 0);
    assert_true(config->agents[0].reject_when_busy);
    config_unref(config);
}

static void the_contracts_example_is_taken(void **state)
{
    (void)state;
    char path[] = "/tmp/ciranda-secret-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(dprintf(fd, "sk-test\n"), 8);
    close(fd);
    char text[2048];
    snprintf(
        text, sizeof text,
        "agents:\n"
        "  echo:   {kind: echo}\n"
        "  triage:\n"
        "    kind: rules\n"
        "    rules:\n"
        "      - {match: [PREÇO, preco, price], reply: \"…\"}\n"
        "      - {match: [humano, atendente, human], handoff: \"queue:atendimento\"}\n"
        "      - {match: [vendas], handoff: \"agent:assistant\"}\n"
        "    otherwise: {agent: assistant}\n"
        "  assistant:\n"
        "    kind: llm\n"
        "    provider: main\n"
        "    model: gpt-4o-mini\n"
        "    instructions: \"a\\nb\"\n"
        "    temperature: 0.2\n"
        "    fallback: [{agent: echo}, {reply: \"sorry\"}]\n"
        "providers:\n"
        "  main: {type: openai, base_url: \"http://127.0.0.1:9999/v1/\", api_key_file: \"%s\", timeout: 30s,\n"
        "         breaker: {failures: 5, error_rate: 0.5, open_for: 30s, successes: 2}, retry: {attempts: 3, backoff: "
        "500ms..8s}}\n"
        "routing:\n"
        "  default: triage\n",
        path);
    struct config *config = load(text);
    unlink(path);
    const struct agent_config *triage = &config->agents[config->default_agent];
    assert_true(is(triage->rules[0].match[0], "preco"));
    assert_true(is(triage->rules[1].action.text, "queue:atendimento"));
    assert_int_equal(triage->rules[2].action.kind, ACTION_HANDOFF);
    assert_int_equal(triage->rules[2].action.agent, 2);
    assert_int_equal(triage->otherwise.kind, ACTION_AGENT);
    assert_int_equal(triage->otherwise.agent, 2);
    const struct agent_config *assistant = &config->agents[2];
    assert_int_equal(assistant->kind, AGENT_LLM);
    assert_int_equal(assistant->provider, 0);
    assert_int_equal(assistant->fallback_count, 2);
    assert_int_equal(assistant->fallbacks[1].kind, ACTION_REPLY);
    assert_int_equal(assistant->history_messages, 40);
    assert_int_equal(assistant->max_tokens, 0);
    const struct provider_config *provider = &config->providers[0];
    assert_true(is(provider->base_url, "http://127.0.0.1:9999/v1"));
    assert_true(is(provider->api_key, "sk-test"));
    assert_int_equal(provider->total_ns_max, UINT64_C(30000000000));
    assert_int_equal(provider->first_byte_ns_max, UINT64_C(30000000000)); /* cut to the whole */
    assert_int_equal(provider->retry.backoff_max_ns, UINT64_C(8000000000));
    assert_int_equal(provider->breaker.failures, 5);
    config_unref(config);
}

static void a_reference_keeps_the_object(void **state)
{
    (void)state;
    struct config *config = load("");
    struct config *second = config_ref(config);
    config_unref(config);
    assert_int_equal(second->agent_count, 2);
    config_unref(second);
    config_unref(NULL);
}

/* ---- levels ----------------------------------------------------------------------------------------------------------- */

static void variables_win_over_the_file_and_flags_over_variables(void **state)
{
    (void)state;
    char *const environment[] = {"HOME=/root",
                                 "CIRANDA_NO_INSTALL=1",
                                 "CIRANDA__SERVER__HTTP_LISTEN=0.0.0.0:80",
                                 "CIRANDA__SERVER__DATA=/from/variable",
                                 "CIRANDA__CONVERSATION__IDLE=7s",
                                 "CIRANDA__PROVIDERS__MAIN_1__API_KEY=sk-variable",
                                 "CIRANDA__SERVER__RPC_LISTEN=",
                                 NULL};
    const struct config_flags flags = {.data = "/from/flag", .workers = 3};
    const char *text = "server: {http_listen: \"127.0.0.1:1\", workers: 1, data: /from/file}\n"
                       "providers: {main-1: {type: openai, base_url: \"https://example.org\"}}\n";
    struct config *config = NULL;
    struct error error = {0};
    assert_int_equal(config_parse("test.yaml", slice_from_text(text), environment, &flags, &config, &error), OK);
    assert_true(is(config->server.http_listen, "0.0.0.0:80"));
    assert_true(is(config->server.rpc_listen, ""));
    assert_true(is(config->server.data, "/from/flag"));
    assert_int_equal(config->server.workers, 3);
    assert_int_equal(config->conversation.idle_ns, UINT64_C(7000000000));
    assert_true(is(config->providers[0].api_key, "sk-variable"));
    config_unref(config);
}

static void variables_are_checked_like_the_file(void **state)
{
    (void)state;
    static const struct {
        const char *variable, *start, *words;
    } cases[] = {
        {"CIRANDA__SERVER__WORKERS=many", "CIRANDA__SERVER__WORKERS: server.workers: ", "whole number"},
        {"CIRANDA__SERVER__COLOUR=red", "CIRANDA__SERVER__COLOUR: server.colour: ", "unknown key"},
        {"CIRANDA__SERVER=x", "CIRANDA__SERVER: server: ", "mapping"},
        {"CIRANDA__AGENTS__TRIAGE__RULES=x", "CIRANDA__AGENTS__TRIAGE__RULES: agents.triage.rules: ", "list"},
        {"CIRANDA__AGENTS__TRIAGE__KIND__X=y", "CIRANDA__AGENTS__TRIAGE__KIND__X: ", "not in a mapping"},
        {"CIRANDA__=x", "CIRANDA__: ", "CIRANDA__SECTION__KEY"},
        {"CIRANDA__SERVER____X=x", "CIRANDA__SERVER____X: ", "CIRANDA__SECTION__KEY"},
        {"CIRANDA__SERVER__DATA=\xff", "CIRANDA__SERVER__DATA: server.data: ", "UTF-8"},
        {"CIRANDA__SERVER__DATA=", "CIRANDA__SERVER__DATA: server.data: ", "1 to"},
        {"CIRANDA__ROUTING__DEFAULT=nobody", "CIRANDA__ROUTING__DEFAULT: routing.default: ", "nobody"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char variable[128];
        snprintf(variable, sizeof variable, "%s", cases[i].variable);
        char *const environment[] = {variable, NULL};
        refuse_with("", environment, cases[i].start, cases[i].words);
    }
}

static void flags_are_named_in_their_errors(void **state)
{
    (void)state;
    const struct config_flags flags = {.http_listen = "nonsense"};
    struct config *config = NULL;
    struct error error = {0};
    assert_int_equal(config_load(&flags, &config, &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "--listen: server.http_listen: "));
}

/* ---- what is refused -------------------------------------------------------------------------------------------------- */

#define RULES(rules) "agents:\n  t:\n    kind: rules\n    otherwise: {reply: x}\n    rules:\n" rules
#define PROVIDER(fields) "providers:\n  p: {type: openai, base_url: \"http://h\", " fields "}\n"

static void mistakes_are_refused_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *start, *words;
    } cases[] = {
        /* keys */
        {"colour: red\n", "test.yaml:1:1: colour: ", "unknown key; allowed here: server"},
        {"server:\n  workers: 1\n  speed: 2\n", "test.yaml:3:3: server.speed: ", "unknown key"},
        {"server:\n  workers: 1\n  workers: 2\n", "test.yaml:3:3: ", "duplicate key \"workers\" (first in line 2)"},
        {"agents:\n  e: {kind: echo, rules: []}\n", "test.yaml:2:19: agents.e.rules: ", "unknown key"},
        {"? [a]\n: b\n", "test.yaml:1:3: ", "a key must be text"},
        {"\"\": b\n", "test.yaml:1:1: ", "a key must be"},
        /* types */
        {"server: 1\n", "test.yaml:1:9: server: ", "must be a mapping"},
        {"server:\n", "test.yaml:1:8: server: ", "must be a mapping"},
        {"- a\n", "test.yaml:1:1: ", "must be a mapping"},
        {"server: {workers: many}\n", "test.yaml:1:19: server.workers: ", "whole number"},
        {"server: {workers: \"1\"}\n", "test.yaml:1:19: server.workers: ", "whole number"},
        {"server: {workers: [1]}\n", "test.yaml:1:19: server.workers: ", "whole number"},
        {"server: {workers: 65}\n", "test.yaml:1:19: server.workers: ", "0 to 64"},
        {"server: {workers: -1}\n", "test.yaml:1:19: server.workers: ", "whole number"},
        {"server: {data: 7}\n", "test.yaml:1:16: server.data: ", "quotes"},
        {"server: {data: {a: b}}\n", "test.yaml:1:16: server.data: ", "must be text"},
        {"server: {data: \"a\\0b\"}\n", "test.yaml:1:16: server.data: ", "control character"},
        {"server: {http_listen: localhost}\n", "test.yaml:1:23: server.http_listen: ", "numeric address"},
        {"server: {memory: lots}\n", "test.yaml:1:18: server.memory: ", "size"},
        {"server: {memory: 1KiB}\n", "test.yaml:1:18: server.memory: ", "bytes"},
        {"log: {level: loud}\n", "test.yaml:1:14: log.level: ", "one of: debug info warn error"},
        {"conversation: {idle: 30}\n", "test.yaml:1:22: conversation.idle: ", "duration"},
        {"conversation: {idle: 0s}\n", "test.yaml:1:22: conversation.idle: ", "from 1ms"},
        {"conversation: {idle: [1s]}\n", "test.yaml:1:22: conversation.idle: ", "duration"},
        /* agents */
        {"agents: {}\n", "test.yaml:1:9: agents: ", "at least one agent"},
        {"agents: [a]\n", "test.yaml:1:9: agents: ", "mapping"},
        {"agents: {e: echo}\n", "test.yaml:1:13: agents.e: ", "mapping"},
        {"agents: {e: {}}\n", "test.yaml:1:13: agents.e.kind: ", "missing"},
        {"agents: {e: {kind: magic}}\n", "test.yaml:1:20: agents.e.kind: ", "one of: echo rules llm"},
        {"agents: {e: {kind: echo, on_busy: merge}}\n", "test.yaml:1:35: agents.e.on_busy: ", "one of: enqueue reject"},
        {"agents: {\"a b\": {kind: echo}}\n", "test.yaml:1:10: agents.a b: ", "a name is"},
        {"agents: {e: {kind: rules, otherwise: {reply: x}}}\n", "test.yaml:1:13: agents.e.rules: ", "missing"},
        {"agents: {e: {kind: rules, rules: [{match: [a], reply: x}]}}\n",
         "test.yaml:1:13: agents.e.otherwise: ", "missing"},
        {"agents: {e: {kind: llm, model: m}}\n", "test.yaml:1:13: agents.e.provider: ", "missing"},
        {"agents: {e: {kind: llm, model: m, provider: p}}\n", "test.yaml:1:45: agents.e.provider: ", "no provider \"p\""},
        {"agents: {a: {kind: echo}, b: {kind: echo}}\n", "test.yaml:1:1: routing.default: ", "missing"},
        {"agents: {a: {kind: echo}}\nrouting: {default: b}\n", "test.yaml:2:20: routing.default: ", "no agent \"b\""},
        /* rules */
        {RULES("      []\n"), "test.yaml:6:7: agents.t.rules: ", "1 to"},
        {RULES("      - {match: [a], reply: x}\n      - {match: [b], reply: 7}\n"),
         "test.yaml:7:29: agents.t.rules[1].reply: ", "quotes"},
        {RULES("      - {match: [a], reply: \"\"}\n"), "test.yaml:6:29: agents.t.rules[0].reply: ", "1 to"},
        {RULES("      - {match: [a]}\n"), "test.yaml:6:9: agents.t.rules[0]: ", "needs one of"},
        {RULES("      - {match: [a], reply: x, handoff: \"queue:q\"}\n"),
         "test.yaml:6:41: agents.t.rules[0].handoff: ", "only one"},
        {RULES("      - {reply: x}\n"), "test.yaml:6:9: agents.t.rules[0].match: ", "missing"},
        {RULES("      - {match: a, reply: x}\n"), "test.yaml:6:17: agents.t.rules[0].match: ", "list"},
        {RULES("      - {match: [], reply: x}\n"), "test.yaml:6:17: agents.t.rules[0].match: ", "1 to"},
        {RULES("      - {match: [a, \"  \"], reply: x}\n"),
         "test.yaml:6:21: agents.t.rules[0].match[1]: ", "never match"},
        {RULES("      - {match: [a], handoff: vendas}\n"), "test.yaml:6:31: agents.t.rules[0].handoff: ", "queue:NAME"},
        {RULES("      - {match: [a], handoff: \"queue:\"}\n"),
         "test.yaml:6:31: agents.t.rules[0].handoff: ", "queue:NAME"},
        {RULES("      - {match: [a], handoff: \"agent:gone\"}\n"),
         "test.yaml:6:31: agents.t.rules[0].handoff: ", "no agent"},
        {RULES("      - {match: [a], agent: gone}\n"), "test.yaml:6:29: agents.t.rules[0].agent: ", "no agent \"gone\""},
        {"agents:\n  a: {kind: rules, rules: [{match: [x], reply: y}], otherwise: {agent: b}}\n"
         "  b: {kind: rules, rules: [{match: [x], reply: y}], otherwise: {agent: a}}\n",
         "test.yaml:2:64: agents.a.otherwise: ", "circle"},
        /* providers */
        {"providers: {p: {base_url: \"http://h\"}}\n", "test.yaml:1:16: providers.p.type: ", "missing"},
        {"providers: {p: {type: magic}}\n", "test.yaml:1:23: providers.p.type: ", "one of: openai"},
        {"providers: {p: {type: openai, base_url: \"ftp://h\"}}\n", "test.yaml:1:41: providers.p.base_url: ", "http://"},
        {"providers: {p: {type: openai, base_url: \"http://u@h\"}}\n", "test.yaml:1:41: providers.p.base_url: ", "user"},
        {"providers: {p: {type: openai, base_url: \"http:///v1\"}}\n", "test.yaml:1:41: providers.p.base_url: ", "HOST"},
        {PROVIDER("timeout: 30"), "test.yaml:2:52: providers.p.timeout: ", "duration"},
        {PROVIDER("retry: {backoff: 500ms}"), "test.yaml:2:60: providers.p.retry.backoff: ", "range"},
        {PROVIDER("retry: {backoff: 8s..1s}"), "test.yaml:2:60: providers.p.retry.backoff: ", "shorter"},
        {PROVIDER("retry: {backoff: 1..8s}"), "test.yaml:2:60: providers.p.retry.backoff: ", "duration"},
        {PROVIDER("breaker: {error_rate: 2}"), "test.yaml:2:65: providers.p.breaker.error_rate: ", "0 to 1"},
        {PROVIDER("api_key: sk-in-a-file"), "test.yaml:2:52: providers.p.api_key: ", "api_key_file"},
        {PROVIDER("api_key_file: /nowhere/at/all"), "test.yaml:2:57: providers.p.api_key_file: ", "No such file"},
        {PROVIDER("api_key_file: /tmp"), "test.yaml:2:57: providers.p.api_key_file: ", "regular file"},
        /* YAML itself */
        {"agents: [\n", "test.yaml:1:9: ", "not YAML"},
        {"a: b: c\n", "test.yaml:1:5: ", "not YAML"},
        {"a: \xff\n", "test.yaml:1:1: ", "not YAML"},
        {"--- {}\n--- {}\n", "test.yaml:2:1: ", "more than one"},
        {"server: &x {workers: 1}\n", "test.yaml:1:9: ", "anchors"},
        {"server: *x\n", "test.yaml:1:9: ", "anchors"},
        {"server: !!map {workers: 1}\n", "test.yaml:1:9: ", "tags"},
        {"a: [[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]\n", "test.yaml:1:19: ", "deeper"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(cases[i].text, cases[i].start, cases[i].words);
}

static void a_secret_others_may_read_is_refused_and_not_shown(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        const char *content, *words;
    } cases[] = {{0644, "sk-very-secret", "read or changed by others"},
                 {0604, "sk-very-secret", "read or changed by others"},
                 {0620, "sk-very-secret", "read or changed by others"},
                 {0600, "", "is empty"},
                 {0600, "\n", "is empty"},
                 {0600, "sk-very-secret\r\nX-Other: header", "one line"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[] = "/tmp/ciranda-secret-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_true(dprintf(fd, "%s", cases[i].content) >= 0);
        assert_int_equal(fchmod(fd, cases[i].mode), 0);
        close(fd);
        char text[256];
        snprintf(text, sizeof text, PROVIDER("api_key_file: %s"), path);
        struct config *config = NULL;
        struct error error = {0};
        assert_int_equal(config_parse("test.yaml", slice_from_text(text), no_environment, &no_flags, &config, &error),
                         ERR_CONFIG);
        unlink(path);
        assert_non_null(strstr(error.text, cases[i].words));
        assert_null(strstr(error.text, "sk-very-secret"));
    }
}

static void a_secret_is_not_shown_when_a_variable_is_wrong(void **state)
{
    (void)state;
    char variable[] = "CIRANDA__PROVIDERS__P__API_KEY=sk-very-\nsecret";
    char *const environment[] = {variable, NULL};
    const char *text = "providers: {p: {type: openai, base_url: \"http://h\"}}";
    struct config *config = NULL;
    struct error error = {0};
    assert_int_equal(config_parse("test.yaml", slice_from_text(text), environment, &no_flags, &config, &error),
                     ERR_CONFIG);
    assert_null(strstr(error.text, "sk-very"));
}

static void huge_files_are_refused_in_bounded_time(void **state)
{
    (void)state;
    static char text[(1 << 20) + 2];
    memset(text, ' ', sizeof text - 1);
    refuse(text, "test.yaml:1:1: ", "larger than");

    /* 65,536 elements: one too many with the list and its map. */
    size_t used = (size_t)snprintf(text, sizeof text, "a: [");
    for (int i = 0; i < 65536; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "b,%s", i % 64 ? "" : "\n");
    snprintf(text + used, sizeof text - used, "]");
    refuse(text, "test.yaml:", "over 65536 values");

    used = 0;
    for (int i = 0; i < 1025; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "k%d: v\n", i);
    refuse(text, "test.yaml:1025:1: ", "over 1024 keys");
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    const struct config_flags flags = {.file = "/nowhere/ciranda.yaml"};
    struct config *config = NULL;
    struct error error = {0};
    assert_int_equal(config_load(&flags, &config, &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "/nowhere/ciranda.yaml"));
    const struct config_flags folder = {.file = "/tmp"};
    assert_int_equal(config_load(&folder, &config, &error), ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_runs_with_echo_and_triage),
        cmocka_unit_test(an_empty_file_is_the_bundled_configuration),
        cmocka_unit_test(one_agent_needs_no_routing),
        cmocka_unit_test(the_contracts_example_is_taken),
        cmocka_unit_test(a_reference_keeps_the_object),
        cmocka_unit_test(variables_win_over_the_file_and_flags_over_variables),
        cmocka_unit_test(variables_are_checked_like_the_file),
        cmocka_unit_test(flags_are_named_in_their_errors),
        cmocka_unit_test(mistakes_are_refused_with_their_place),
        cmocka_unit_test(a_secret_others_may_read_is_refused_and_not_shown),
        cmocka_unit_test(a_secret_is_not_shown_when_a_variable_is_wrong),
        cmocka_unit_test(huge_files_are_refused_in_bounded_time),
        cmocka_unit_test(a_missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
