/* SPDX-License-Identifier: Apache-2.0 */
/* config_schema: tables of fields, each with the function that reads it, and the walk along them.
 *
 * Reading order is the order of the tables, not of the file: names of providers and agents are known before anything refers
 * to them, so that a reference is resolved where it stands and its error has the right line.
 */
#include "actors/config/config_schema.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/config/config_secret.h"
#include "actors/config/config_value.h"
#include "actors/fold.h"
#include "runtime/assert.h"

enum {
    NAME_BYTES_MAX = 63,    /* agents, providers: part of "agent:<name>", which an owner holds (79 bytes) */
    TEXT_BYTES_MAX = 32768, /* what one message may hold */
    ALTERNATIVES_MAX = 256, /* rules of an agent, phrases of a rule */
};

struct reader {
    struct config *config;
    struct config_arena *arena;
    struct error *error;
    char path[256]; /* of the value being read: "agents.triage.rules[1].reply"; cut when longer */
    size_t path_size;
};

struct field;
typedef enum err read_fn(struct reader *reader, const struct config_node *node, const struct field *field,
                         void *ret_value);

struct field {
    const char *key;
    read_fn *read;
    size_t offset;              /* of the value in the struct that the table is for */
    const char *default_text;   /* read when the key is missing; NULL: the value stays as it is */
    uint64_t min, max;          /* numbers, durations, sizes; bytes of a text; elements of a list */
    const char *choices;        /* read_choice: words with a space between */
    const struct field *fields; /* read_section: its table; ends with a zeroed field */
    bool is_required;
};

/* ---- places and failures ---------------------------------------------------------------------------------------------- */

static size_t enter(struct reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Extends the path; returns what leave() needs to take it back. */
static size_t enter(struct reader *reader, const char *format, ...)
{
    size_t before = reader->path_size;
    va_list arguments;
    va_start(arguments, format);
    int added = vsnprintf(reader->path + before, sizeof reader->path - before, format, arguments);
    va_end(arguments);
    size_t after = before + (added > 0 ? (size_t)added : 0);
    reader->path_size = after < sizeof reader->path ? after : sizeof reader->path - 1;
    return before;
}

static size_t enter_key(struct reader *reader, struct slice key)
{
    return enter(reader, "%s%.*s", reader->path_size ? "." : "", SLICE_PRINT(key));
}

static void leave(struct reader *reader, size_t before)
{
    reader->path_size = before;
    reader->path[before] = '\0';
}

#define FAIL(reader, node, ...) config_place_fail((reader)->error, &(node)->place, (reader)->path, __VA_ARGS__)

static enum err fail_memory(struct reader *reader)
{
    return error_set(reader->error, ERR_NO_MEMORY, "no memory for the configuration");
}

/* ---- the walk --------------------------------------------------------------------------------------------------------- */

static void list_keys(const struct field *fields, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (const struct field *field = fields; field->key && used < size; field++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", field == fields ? "" : ", ", field->key);
}

static enum err check_keys(struct reader *reader, const struct config_node *map, const struct field *fields)
{
    for (const struct config_node *child = map->children; child; child = child->next) {
        const struct field *field = fields;
        while (field->key && !slice_has_text(child->key, field->key))
            field++;
        if (field->key)
            continue;
        char known[256];
        list_keys(fields, known, sizeof known);
        enter_key(reader, child->key);
        return config_place_fail(reader->error, &child->key_place, reader->path, "unknown key; allowed here: %s", known);
    }
    return OK;
}

static enum err read_field(struct reader *reader, const struct config_node *map, const struct field *field, void *record)
{
    const struct config_node *node = config_node_find(map, field->key);
    size_t before = enter_key(reader, slice_from_text(field->key));
    enum err code = OK;
    void *value = (char *)record + field->offset;
    if (node) {
        code = field->read(reader, node, field, value);
    } else if (field->is_required) {
        code = FAIL(reader, map, "missing");
    } else if (field->fields) {
        struct config_node empty = {.kind = CONFIG_MAP, .place = map->place};
        code = field->read(reader, &empty, field, value);
    } else if (field->default_text) {
        struct config_node standard = {.kind = CONFIG_SCALAR,
                                       .style = CONFIG_RAW,
                                       .place = {.source = "built-in default"},
                                       .text = slice_from_text(field->default_text)};
        code = field->read(reader, &standard, field, value);
    }
    if (code == OK)
        leave(reader, before);
    return code;
}

/* Fills `record` from a map along a table. The path stays at the culprit when it fails. */
static enum err read_fields(struct reader *reader, const struct config_node *node, const struct field *fields,
                            void *record)
{
    if (node->kind != CONFIG_MAP)
        return FAIL(reader, node, "must be a mapping");
    enum err code = check_keys(reader, node, fields);
    for (const struct field *field = fields; field->key && code == OK; field++)
        code = read_field(reader, node, field, record);
    return code;
}

static enum err read_section(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    return read_fields(reader, node, field->fields, ret_value);
}

/* ---- scalars ---------------------------------------------------------------------------------------------------------- */

/* The text of a number, duration or size: any scalar but a quoted number. */
static enum err take_scalar(struct reader *reader, const struct config_node *node, const char *what,
                            struct slice *ret_text)
{
    if (node->kind != CONFIG_SCALAR)
        return FAIL(reader, node, "must be %s", what);
    *ret_text = node->text;
    return OK;
}

static enum err read_number(struct reader *reader, const struct config_node *node, const struct field *field,
                            uint64_t *ret_number)
{
    struct slice text;
    enum err code = take_scalar(reader, node, "a whole number", &text);
    if (code != OK)
        return code;
    uint64_t number;
    if (node->style == CONFIG_QUOTED || !config_value_unsigned(text, &number))
        return FAIL(reader, node, "must be a whole number");
    if (number < field->min || number > field->max)
        return FAIL(reader, node, "must be from %lu to %lu", field->min, field->max);
    *ret_number = number;
    return OK;
}

static enum err read_u32(struct reader *reader, const struct config_node *node, const struct field *field,
                         void *ret_value)
{
    ASSERT(field->max <= UINT32_MAX);
    uint64_t number;
    enum err code = read_number(reader, node, field, &number);
    if (code == OK)
        *(uint32_t *)ret_value = (uint32_t)number;
    return code;
}

/* A decimal; `max` is the largest allowed, 0 the smallest. */
static enum err read_decimal(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    struct slice text;
    enum err code = take_scalar(reader, node, "a number", &text);
    if (code != OK)
        return code;
    double number;
    if (node->style == CONFIG_QUOTED || !config_value_decimal(text, &number) || number > (double)field->max)
        return FAIL(reader, node, "must be a number from 0 to %lu, such as 0.5", field->max);
    *(double *)ret_value = number;
    return OK;
}

static enum err parse_duration(struct reader *reader, const struct config_node *node, struct slice text,
                               const struct field *field, uint64_t *ret_ns)
{
    uint64_t ns;
    if (!config_value_duration(text, &ns))
        return FAIL(reader, node, "must be a duration such as 500ms, 30s, 5m or 1h");
    if (ns < field->min || ns > field->max)
        return FAIL(reader, node, "must be from %lums to %lus", field->min / 1000000, field->max / 1000000000);
    *ret_ns = ns;
    return OK;
}

static enum err read_duration(struct reader *reader, const struct config_node *node, const struct field *field,
                              void *ret_value)
{
    struct slice text;
    enum err code = take_scalar(reader, node, "a duration such as 500ms, 30s, 5m or 1h", &text);
    return code == OK ? parse_duration(reader, node, text, field, ret_value) : code;
}

/* "500ms..8s" into a struct retry_config. */
static enum err read_backoff(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    struct retry_config *retry = ret_value;
    struct slice text;
    enum err code = take_scalar(reader, node, "a range such as 500ms..8s", &text);
    if (code != OK)
        return code;
    const char *dots = text.size ? memmem(text.data, text.size, "..", 2) : NULL;
    if (!dots)
        return FAIL(reader, node, "must be a range such as 500ms..8s");
    size_t left_size = (size_t)(dots - text.data);
    uint64_t min, max;
    code = parse_duration(reader, node, slice_of(text.data, left_size), field, &min);
    if (code == OK)
        code = parse_duration(reader, node, slice_of(dots + 2, text.size - left_size - 2), field, &max);
    if (code != OK)
        return code;
    if (min > max)
        return FAIL(reader, node, "must begin with the shorter duration");
    retry->backoff_min_ns = min;
    retry->backoff_max_ns = max;
    return OK;
}

static enum err read_bytes(struct reader *reader, const struct config_node *node, const struct field *field,
                           void *ret_value)
{
    struct slice text;
    enum err code = take_scalar(reader, node, "a size such as 64KiB or 1GiB", &text);
    if (code != OK)
        return code;
    uint64_t bytes;
    if (!config_value_bytes(text, &bytes))
        return FAIL(reader, node, "must be a size such as 64KiB or 1GiB");
    if (bytes < field->min || bytes > field->max)
        return FAIL(reader, node, "must be from %lu to %lu bytes", field->min, field->max);
    *(uint64_t *)ret_value = bytes;
    return OK;
}

static enum err read_bytes_u32(struct reader *reader, const struct config_node *node, const struct field *field,
                               void *ret_value)
{
    ASSERT(field->max <= UINT32_MAX);
    uint64_t bytes;
    enum err code = read_bytes(reader, node, field, &bytes);
    if (code == OK)
        *(uint32_t *)ret_value = (uint32_t)bytes;
    return code;
}

/* Text of min to max bytes without control bytes; lines may end in it when the field allows more than a name. */
static enum err take_text(struct reader *reader, const struct config_node *node, uint64_t min, uint64_t max,
                          struct slice *ret_text)
{
    if (node->kind != CONFIG_SCALAR)
        return FAIL(reader, node, "must be text");
    if (node->style == CONFIG_PLAIN && config_value_looks_typed(node->text))
        return FAIL(reader, node, "must be text: put it in quotes");
    if (node->text.size < min || node->text.size > max)
        return FAIL(reader, node, "must be %lu to %lu bytes of text", min, max);
    if (!config_value_is_utf8(node->text))
        return FAIL(reader, node, "is not UTF-8");
    for (size_t i = 0; i < node->text.size; i++) {
        unsigned char byte = (unsigned char)node->text.data[i];
        bool is_layout = max == TEXT_BYTES_MAX && (byte == '\n' || byte == '\t');
        if ((byte < 0x20 && !is_layout) || byte == 0x7f)
            return FAIL(reader, node, "holds a control character");
    }
    *ret_text = node->text;
    return OK;
}

static enum err keep_text(struct reader *reader, struct slice text, struct slice *ret_text)
{
    return config_arena_copy(reader->arena, text, ret_text) == OK ? OK : fail_memory(reader);
}

static enum err read_text(struct reader *reader, const struct config_node *node, const struct field *field,
                          void *ret_value)
{
    struct slice text;
    enum err code = take_text(reader, node, field->min, field->max, &text);
    return code == OK ? keep_text(reader, text, ret_value) : code;
}

static enum err read_choice(struct reader *reader, const struct config_node *node, const struct field *field,
                            void *ret_value)
{
    struct slice text;
    enum err code = take_text(reader, node, 1, NAME_BYTES_MAX, &text);
    if (code != OK)
        return code;
    for (const char *word = field->choices; *word;) {
        size_t size = strcspn(word, " ");
        if (slice_is_equal(text, slice_of(word, size)))
            return keep_text(reader, text, ret_value);
        word += size + (word[size] == ' ');
    }
    return FAIL(reader, node, "must be one of: %s", field->choices);
}

/* Numeric address and port; empty switches the listener off where `min` is 0. */
static enum err read_address(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    struct slice text;
    enum err code = take_text(reader, node, field->min, field->max, &text);
    if (code != OK)
        return code;
    if (text.size && !config_value_is_address(text))
        return FAIL(reader, node, "must be a numeric address and port such as 127.0.0.1:7400 or [::1]:7400");
    return keep_text(reader, text, ret_value);
}

/* ---- references and actions ------------------------------------------------------------------------------------------- */

static enum err find_agent(struct reader *reader, const struct config_node *node, struct slice name, int *ret_index)
{
    int index = config_find_agent(reader->config, name);
    if (index < 0)
        return FAIL(reader, node, "no agent \"%.*s\" in agents", SLICE_PRINT(name));
    *ret_index = index;
    return OK;
}

static enum err read_agent(struct reader *reader, const struct config_node *node, const struct field *field,
                           void *ret_value)
{
    (void)field;
    struct slice name;
    enum err code = take_text(reader, node, 1, NAME_BYTES_MAX, &name);
    return code == OK ? find_agent(reader, node, name, ret_value) : code;
}

static enum err read_provider(struct reader *reader, const struct config_node *node, const struct field *field,
                              void *ret_value)
{
    (void)field;
    struct slice name;
    enum err code = take_text(reader, node, 1, NAME_BYTES_MAX, &name);
    if (code != OK)
        return code;
    for (uint32_t i = 0; i < reader->config->provider_count; i++) {
        if (slice_is_equal(reader->config->providers[i].name, name)) {
            *(int *)ret_value = (int)i;
            return OK;
        }
    }
    return FAIL(reader, node, "no provider \"%.*s\" in providers", SLICE_PRINT(name));
}

static enum err begin_action(struct reader *reader, const struct config_node *node, struct action *action,
                             enum action_kind kind)
{
    if (action->kind != ACTION_NONE)
        return FAIL(reader, node, "only one of reply, handoff and agent");
    action->kind = kind;
    action->agent = -1;
    return OK;
}

static enum err read_reply(struct reader *reader, const struct config_node *node, const struct field *field,
                           void *ret_value)
{
    struct action *action = ret_value;
    enum err code = begin_action(reader, node, action, ACTION_REPLY);
    return code == OK ? read_text(reader, node, field, &action->text) : code;
}

static enum err read_handoff(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    static const char *const kinds[] = {"queue:", "human:", "agent:"};
    struct action *action = ret_value;
    enum err code = begin_action(reader, node, action, ACTION_HANDOFF);
    if (code == OK)
        code = read_text(reader, node, field, &action->text);
    if (code != OK)
        return code;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t prefix_size = strlen(kinds[i]);
        if (action->text.size <= prefix_size || memcmp(action->text.data, kinds[i], prefix_size) != 0)
            continue;
        struct slice name = slice_of(action->text.data + prefix_size, action->text.size - prefix_size);
        if (!config_value_is_word(name, NAME_BYTES_MAX))
            break;
        return kinds[i][0] == 'a' ? find_agent(reader, node, name, &action->agent) : OK;
    }
    return FAIL(reader, node, "must be queue:NAME, human:NAME or agent:NAME");
}

static enum err read_action_agent(struct reader *reader, const struct config_node *node, const struct field *field,
                                  void *ret_value)
{
    struct action *action = ret_value;
    enum err code = begin_action(reader, node, action, ACTION_AGENT);
    if (code == OK)
        code = read_agent(reader, node, field, &action->agent);
    if (code == OK)
        action->text = reader->config->agents[action->agent].name;
    return code;
}

static enum err read_action(struct reader *reader, const struct config_node *node, const struct field *field,
                            void *ret_value)
{
    (void)field;
    static const struct field fields[] = {{"reply", read_reply, .min = 1, .max = TEXT_BYTES_MAX},
                                          {"handoff", read_handoff, .min = 1, .max = NAME_BYTES_MAX + 6},
                                          {"agent", read_action_agent, .offset = 0},
                                          {0}};
    struct action *action = ret_value;
    enum err code = read_fields(reader, node, fields, action);
    if (code == OK && action->kind == ACTION_NONE)
        return FAIL(reader, node, "needs one of reply, handoff and agent");
    return code;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------ */

/* Reads each element of a list of 1 to ALTERNATIVES_MAX into an array of its own. */
static enum err read_list(struct reader *reader, const struct config_node *node, size_t item_size, read_fn *read_item,
                          void **ret_items, uint32_t *ret_count)
{
    if (node->kind != CONFIG_LIST)
        return FAIL(reader, node, "must be a list");
    if (node->child_count == 0 || node->child_count > ALTERNATIVES_MAX)
        return FAIL(reader, node, "must have 1 to %d elements", ALTERNATIVES_MAX);
    char *items = config_arena_take(reader->arena, node->child_count, item_size);
    if (!items)
        return fail_memory(reader);
    uint32_t index = 0;
    for (const struct config_node *child = node->children; child; child = child->next, index++) {
        size_t before = enter(reader, "[%u]", index);
        enum err code = read_item(reader, child, NULL, items + index * item_size);
        if (code != OK)
            return code;
        leave(reader, before);
    }
    *ret_items = items;
    *ret_count = index;
    return OK;
}

/* A phrase, folded as messages will be (fold.h). */
static enum err read_phrase(struct reader *reader, const struct config_node *node, const struct field *field,
                            void *ret_value)
{
    (void)field;
    enum { PHRASE_BYTES_MAX = 256 };
    struct slice text;
    enum err code = take_text(reader, node, 1, PHRASE_BYTES_MAX, &text);
    if (code != OK)
        return code;
    char folded[PHRASE_BYTES_MAX];
    size_t size;
    if (fold_text(text, folded, sizeof folded, &size) != OK)
        return FAIL(reader, node, "cannot be folded");
    bool has_word = false;
    for (size_t i = 0; i < size; i++)
        has_word |= folded[i] != ' ';
    if (!has_word)
        return FAIL(reader, node, "has no letter or digit, so it would never match");
    return keep_text(reader, slice_of(folded, size), ret_value);
}

static enum err read_match(struct reader *reader, const struct config_node *node, const struct field *field,
                           void *ret_value)
{
    (void)field;
    struct rule *rule = ret_value;
    void *phrases;
    enum err code = read_list(reader, node, sizeof *rule->match, read_phrase, &phrases, &rule->match_count);
    if (code == OK)
        rule->match = phrases;
    return code;
}

static enum err read_rule(struct reader *reader, const struct config_node *node, const struct field *field,
                          void *ret_value)
{
    (void)field;
    enum { ACTION = offsetof(struct rule, action) };
    static const struct field fields[] = {{"match", read_match, .is_required = true},
                                          {"reply", read_reply, ACTION, .min = 1, .max = TEXT_BYTES_MAX},
                                          {"handoff", read_handoff, ACTION, .min = 1, .max = NAME_BYTES_MAX + 6},
                                          {"agent", read_action_agent, .offset = ACTION},
                                          {0}};
    struct rule *rule = ret_value;
    enum err code = read_fields(reader, node, fields, rule);
    if (code == OK && rule->action.kind == ACTION_NONE)
        return FAIL(reader, node, "needs one of reply, handoff and agent");
    return code;
}

static enum err read_rules(struct reader *reader, const struct config_node *node, const struct field *field,
                           void *ret_value)
{
    (void)field;
    struct agent_config *agent = ret_value;
    void *rules;
    enum err code = read_list(reader, node, sizeof *agent->rules, read_rule, &rules, &agent->rule_count);
    if (code == OK)
        agent->rules = rules;
    return code;
}

static enum err read_fallbacks(struct reader *reader, const struct config_node *node, const struct field *field,
                               void *ret_value)
{
    (void)field;
    struct agent_config *agent = ret_value;
    void *actions;
    enum err code = read_list(reader, node, sizeof *agent->fallbacks, read_action, &actions, &agent->fallback_count);
    if (code == OK)
        agent->fallbacks = actions;
    return code;
}

/* ---- providers -------------------------------------------------------------------------------------------------------- */

#define MS UINT64_C(1000000)
#define SECONDS UINT64_C(1000000000)

/* There is one type yet; naming it keeps the files valid when there are more. */
static enum err read_type(struct reader *reader, const struct config_node *node, const struct field *field,
                          void *ret_value)
{
    (void)ret_value;
    struct slice word;
    return read_choice(reader, node, field, &word);
}

static enum err read_base_url(struct reader *reader, const struct config_node *node, const struct field *field,
                              void *ret_value)
{
    struct slice url;
    enum err code = take_text(reader, node, field->min, field->max, &url);
    if (code != OK)
        return code;
    size_t scheme_size = url.size > 8 && memcmp(url.data, "https://", 8) == 0  ? 8
                         : url.size > 7 && memcmp(url.data, "http://", 7) == 0 ? 7
                                                                               : 0;
    bool has_host = scheme_size && url.data[scheme_size] != '/' && url.data[scheme_size] != ':';
    for (size_t i = 0; i < url.size; i++) {
        if (memchr(" @\\?#\"<>", url.data[i], 8))
            has_host = false;
    }
    if (!has_host)
        return FAIL(reader, node, "must be http://HOST[:PORT][/PATH] or https://…, without user, query or fragment");
    while (url.data[url.size - 1] == '/')
        url.size--;
    return keep_text(reader, url, ret_value);
}

static enum err read_api_key_file(struct reader *reader, const struct config_node *node, const struct field *field,
                                  void *ret_value)
{
    struct slice path;
    enum err code = read_text(reader, node, field, &path);
    if (code != OK)
        return code;
    char reason[256];
    code = config_secret_read(path.data, reader->arena, ret_value, reason, sizeof reason);
    if (code == ERR_NO_MEMORY)
        return fail_memory(reader);
    return code == OK ? OK : FAIL(reader, node, "%s: %s", path.data, reason);
}

/* Only from a variable: a key in a file that is passed around is a key that leaks. */
static enum err read_api_key(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    if (node->kind == CONFIG_SCALAR && node->style != CONFIG_RAW)
        return FAIL(reader, node, "secrets do not belong into the configuration: use api_key_file or a variable");
    return read_text(reader, node, field, ret_value);
}

static const struct field breaker_fields[] = {
    {"failures", read_u32, offsetof(struct breaker_config, failures), "5", .min = 1, .max = 1000},
    {"error_rate", read_decimal, offsetof(struct breaker_config, error_rate), "0.5", .max = 1},
    {"window", read_u32, offsetof(struct breaker_config, window), "20", .min = 1, .max = 1000},
    {"open_for", read_duration, offsetof(struct breaker_config, open_for_ns), "30s", .min = MS, .max = 3600 * SECONDS},
    {"successes", read_u32, offsetof(struct breaker_config, successes), "2", .min = 1, .max = 1000},
    {0}};

static const struct field retry_fields[] = {
    {"attempts", read_u32, offsetof(struct retry_config, attempts), "3", .min = 1, .max = 20},
    {"backoff", read_backoff, 0, "500ms..8s", .min = MS, .max = 3600 * SECONDS},
    {0}};

static const struct field provider_fields[] = {
    {"type", read_type, .choices = "openai", .is_required = true},
    {"base_url", read_base_url, offsetof(struct provider_config, base_url), .min = 1, .max = 1024, .is_required = true},
    {"api_key_file", read_api_key_file, offsetof(struct provider_config, api_key), .min = 1, .max = 4096},
    {"api_key", read_api_key, offsetof(struct provider_config, api_key), .min = 1, .max = 4096},
    {"timeout", read_duration, offsetof(struct provider_config, total_ns_max), "120s", .min = MS, .max = 3600 * SECONDS},
    {"connect_timeout", read_duration, offsetof(struct provider_config, connect_ns_max), "10s", .min = MS,
     .max = 3600 * SECONDS},
    {"first_byte_timeout", read_duration, offsetof(struct provider_config, first_byte_ns_max), "60s", .min = MS,
     .max = 3600 * SECONDS},
    {"idle_timeout", read_duration, offsetof(struct provider_config, idle_ns_max), "30s", .min = MS,
     .max = 3600 * SECONDS},
    {"in_flight_max", read_u32, offsetof(struct provider_config, in_flight_max), "16384", .min = 1, .max = 65536},
    {"breaker", read_section, offsetof(struct provider_config, breaker), .fields = breaker_fields},
    {"retry", read_section, offsetof(struct provider_config, retry), .fields = retry_fields},
    {0}};

/* A part of the call cannot take longer than the whole: a short `timeout` alone is enough. */
static void cut_to_total(struct provider_config *provider)
{
    uint64_t *parts[] = {&provider->connect_ns_max, &provider->first_byte_ns_max, &provider->idle_ns_max};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (*parts[i] > provider->total_ns_max)
            *parts[i] = provider->total_ns_max;
    }
}

static enum err check_name(struct reader *reader, const struct config_node *node)
{
    if (config_value_is_word(node->key, NAME_BYTES_MAX))
        return OK;
    return config_place_fail(reader->error, &node->key_place, reader->path, "a name is 1 to %d of A-Z a-z 0-9 . _ -",
                             NAME_BYTES_MAX);
}

static enum err read_providers(struct reader *reader, const struct config_node *node, const struct field *field,
                               void *ret_value)
{
    (void)field;
    (void)ret_value;
    if (node->kind != CONFIG_MAP)
        return FAIL(reader, node, "must be a mapping");
    struct config *config = reader->config;
    config->providers = config_arena_take(reader->arena, node->child_count, sizeof *config->providers);
    if (!config->providers)
        return fail_memory(reader);
    for (const struct config_node *child = node->children; child; child = child->next) {
        struct provider_config *provider = &config->providers[config->provider_count++];
        size_t before = enter_key(reader, child->key);
        enum err code = check_name(reader, child);
        if (code == OK)
            code = keep_text(reader, child->key, &provider->name);
        if (code == OK)
            code = read_fields(reader, child, provider_fields, provider);
        if (code != OK)
            return code;
        cut_to_total(provider);
        leave(reader, before);
    }
    return OK;
}

/* ---- agents ----------------------------------------------------------------------------------------------------------- */

static enum err read_on_busy(struct reader *reader, const struct config_node *node, const struct field *field,
                             void *ret_value)
{
    struct slice word;
    enum err code = read_choice(reader, node, field, &word);
    if (code == OK)
        *(bool *)ret_value = slice_has_text(word, "reject");
    return code;
}

static enum err read_kind(struct reader *reader, const struct config_node *node, const struct field *field,
                          void *ret_value)
{
    struct slice word;
    enum err code = read_choice(reader, node, field, &word);
    if (code == OK)
        *(enum agent_kind *)ret_value = slice_has_text(word, "echo")    ? AGENT_ECHO
                                        : slice_has_text(word, "rules") ? AGENT_RULES
                                                                        : AGENT_LLM;
    return code;
}

#define KINDS "echo rules llm"
#define ON_BUSY "enqueue reject"

static const struct field echo_fields[] = {
    {"kind", read_kind, offsetof(struct agent_config, kind), .choices = KINDS, .is_required = true},
    {"on_busy", read_on_busy, offsetof(struct agent_config, reject_when_busy), "enqueue", .choices = ON_BUSY},
    {0}};

static const struct field rules_fields[] = {
    {"kind", read_kind, offsetof(struct agent_config, kind), .choices = KINDS, .is_required = true},
    {"on_busy", read_on_busy, offsetof(struct agent_config, reject_when_busy), "enqueue", .choices = ON_BUSY},
    {"rules", read_rules, .is_required = true},
    {"otherwise", read_action, offsetof(struct agent_config, otherwise), .is_required = true},
    {0}};

static const struct field llm_fields[] = {
    {"kind", read_kind, offsetof(struct agent_config, kind), .choices = KINDS, .is_required = true},
    {"on_busy", read_on_busy, offsetof(struct agent_config, reject_when_busy), "enqueue", .choices = ON_BUSY},
    {"provider", read_provider, offsetof(struct agent_config, provider), .is_required = true},
    {"model", read_text, offsetof(struct agent_config, model), .min = 1, .max = 128, .is_required = true},
    {"instructions", read_text, offsetof(struct agent_config, instructions), "", .max = TEXT_BYTES_MAX},
    {"temperature", read_decimal, offsetof(struct agent_config, temperature), .max = 2},
    {"max_tokens", read_u32, offsetof(struct agent_config, max_tokens), .min = 1, .max = 1000000},
    {"history_messages", read_u32, offsetof(struct agent_config, history_messages), "40", .min = 1, .max = 1000},
    {"fallback", read_fallbacks, .offset = 0},
    {0}};

static const struct field *agent_fields(enum agent_kind kind)
{
    switch (kind) {
    case AGENT_ECHO: return echo_fields;
    case AGENT_RULES: return rules_fields;
    case AGENT_LLM: return llm_fields;
    }
    return echo_fields;
}

/* Names and kinds first: rules and fallbacks refer to agents that may stand further down. */
static enum err read_agent_names(struct reader *reader, const struct config_node *node)
{
    const struct field *kind = &echo_fields[0]; /* the same in every table */
    struct config *config = reader->config;
    for (const struct config_node *child = node->children; child; child = child->next) {
        struct agent_config *agent = &config->agents[config->agent_count++];
        agent->provider = -1;
        agent->temperature = -1;
        size_t before = enter_key(reader, child->key);
        enum err code = check_name(reader, child);
        if (code == OK)
            code = keep_text(reader, child->key, &agent->name);
        if (code == OK)
            code = child->kind == CONFIG_MAP ? read_field(reader, child, kind, agent)
                                             : FAIL(reader, child, "must be a mapping");
        if (code != OK)
            return code;
        leave(reader, before);
    }
    return OK;
}

/* `otherwise: {agent: x}` hands every unmatched message on, so a circle of them never answers anybody. */
static enum err check_circles(struct reader *reader, const struct config_node *node)
{
    const struct config *config = reader->config;
    uint32_t index = 0;
    for (const struct config_node *child = node->children; child; child = child->next, index++) {
        const struct agent_config *agent = &config->agents[index];
        for (uint32_t hop = 0; agent->otherwise.kind == ACTION_AGENT; hop++) {
            if (hop == config->agent_count) {
                enter(reader, ".%.*s.otherwise", SLICE_PRINT(child->key));
                return FAIL(reader, config_node_find(child, "otherwise"), "leads round in a circle of agents");
            }
            agent = &config->agents[agent->otherwise.agent];
        }
    }
    return OK;
}

static enum err read_agents(struct reader *reader, const struct config_node *node, const struct field *field,
                            void *ret_value)
{
    (void)field;
    (void)ret_value;
    if (node->kind != CONFIG_MAP || node->child_count == 0)
        return FAIL(reader, node, "must be a mapping with at least one agent");
    struct config *config = reader->config;
    config->agents = config_arena_take(reader->arena, node->child_count, sizeof *config->agents);
    if (!config->agents)
        return fail_memory(reader);
    enum err code = read_agent_names(reader, node);
    uint32_t index = 0;
    for (const struct config_node *child = node->children; child && code == OK; child = child->next, index++) {
        size_t before = enter_key(reader, child->key);
        code = read_fields(reader, child, agent_fields(config->agents[index].kind), &config->agents[index]);
        if (code == OK)
            leave(reader, before);
    }
    return code == OK ? check_circles(reader, node) : code;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

/* Offsets of the sections' fields are in struct config itself, since its sections are structs without a name. */
#define AT(member) offsetof(struct config, member)

static const struct field server_fields[] = {
    {"http_listen", read_address, AT(server.http_listen), "127.0.0.1:7400", .min = 1, .max = 64},
    {"rpc_listen", read_address, AT(server.rpc_listen), "127.0.0.1:7401", .max = 64},
    {"data", read_text, AT(server.data), "./data", .min = 1, .max = 1024},
    {"workers", read_u32, AT(server.workers), "0", .max = 64},
    {"memory", read_bytes, AT(server.memory_bytes_max), "1GiB", .min = 1 << 20, .max = UINT64_C(1) << 40},
    {"drain", read_duration, AT(server.drain_ns_max), "10s", .max = 3600 * SECONDS},
    {0}};

static const struct field log_fields[] = {
    {"level", read_choice, AT(log.level), "info", .choices = "debug info warn error"}, {0}};

static const struct field conversation_fields[] = {
    {"mailbox_messages", read_u32, AT(conversation.mailbox_messages), "4096", .min = 1, .max = 1 << 20},
    {"queued_turns", read_u32, AT(conversation.queued_turns), "1024", .max = 1 << 16},
    /* The two windows at their largest still fit into a snapshot (JOURNAL_SNAPSHOT_BYTES_MAX): 4 MiB, and 64 bytes a message. */
    {"history_messages", read_u32, AT(conversation.history_messages), "200", .min = 1, .max = 100000},
    {"history_bytes", read_bytes_u32, AT(conversation.history_bytes), "256KiB", .min = 1024, .max = 4 << 20},
    {"dedup_messages", read_u32, AT(conversation.dedup_messages), "1024", .min = 1, .max = 1 << 17},
    {"crash_max", read_u32, AT(conversation.crash_max), "3", .min = 1, .max = 100},
    {"idle", read_duration, AT(conversation.idle_ns), "60s", .min = MS, .max = 30 * 86400 * SECONDS},
    {"turn_timeout", read_duration, AT(conversation.turn_ns_max), "300s", .min = MS, .max = 86400 * SECONDS},
    {"routing_hops", read_u32, AT(conversation.routing_hops), "8", .min = 1, .max = 64},
    {0}};

static const struct field http_fields[] = {
    {"connections", read_u32, AT(http.connections), "8192", .min = 1, .max = 1 << 20},
    {"body_bytes", read_bytes_u32, AT(http.body_bytes), "256KiB", .min = 1024, .max = 16 << 20},
    {"head_bytes", read_bytes_u32, AT(http.head_bytes), "16KiB", .min = 1024, .max = 1 << 20},
    {"pipeline", read_u32, AT(http.pipeline), "32", .min = 1, .max = 1024},
    {"head_timeout", read_duration, AT(http.head_ns), "10s", .min = MS, .max = 3600 * SECONDS},
    {"idle_timeout", read_duration, AT(http.idle_ns), "75s", .min = MS, .max = 86400 * SECONDS},
    {0}};

static const struct field rpc_fields[] = {
    {"connections", read_u32, AT(rpc.connections), "8192", .min = 1, .max = 1 << 20},
    {"frame_bytes", read_bytes_u32, AT(rpc.frame_bytes), "1MiB", .min = 1024, .max = 16 << 20},
    {"pipeline", read_u32, AT(rpc.pipeline), "1024", .min = 1, .max = 1 << 16},
    {"send_bytes", read_bytes_u32, AT(rpc.send_bytes), "256KiB", .min = 64 << 10, .max = 16 << 20},
    {"frame_timeout", read_duration, AT(rpc.frame_ns), "10s", .min = MS, .max = 3600 * SECONDS},
    {"idle_timeout", read_duration, AT(rpc.idle_ns), "300s", .min = MS, .max = 86400 * SECONDS},
    {0}};

static const struct field limit_fields[] = {
    {"messages", read_u32, offsetof(struct limit, messages), "0", .max = 1000000},
    {"per", read_duration, offsetof(struct limit, per_ns), "1m", .min = MS, .max = 86400 * SECONDS},
    {0}};

static const struct field limits_fields[] = {{"customer", read_section, AT(limits.customer), .fields = limit_fields},
                                             {"tenant", read_section, AT(limits.tenant), .fields = limit_fields},
                                             {0}};

static const struct field routing_fields[] = {{"default", read_agent, AT(default_agent), .is_required = true}, {0}};

static const struct field root_fields[] = {{"server", read_section, .fields = server_fields},
                                           {"log", read_section, .fields = log_fields},
                                           {"conversation", read_section, .fields = conversation_fields},
                                           {"http", read_section, .fields = http_fields},
                                           {"rpc", read_section, .fields = rpc_fields},
                                           {"limits", read_section, .fields = limits_fields},
                                           {"providers", read_providers, .offset = 0},
                                           {"agents", read_agents, .is_required = true},
                                           {"routing", read_section, .fields = routing_fields},
                                           {0}};

enum err config_schema_read(const struct config_node *root, struct config_arena *arena, struct config *config,
                            struct error *error)
{
    struct reader reader = {.config = config, .arena = arena, .error = error};
    return read_fields(&reader, root, root_fields, config);
}
