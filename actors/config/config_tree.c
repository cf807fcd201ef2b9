/* SPDX-License-Identifier: Apache-2.0 */
/* config_tree: libyaml's events into nodes with marks, then variables and flags laid over them.
 *
 * Events and not libyaml's document API: the events show anchors, aliases and tags before anything is built, and a duplicate
 * key where it stands. The stack of open lists and maps is an array, so that depth is bounded by its size.
 */
#include "actors/config/config_tree.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#define VARIABLE_PREFIX "CIRANDA__"

struct parse {
    struct config_arena *arena;
    const char *source;
    struct error *error;
    struct config_node *root;
    struct config_node *open[CONFIG_DEPTH_MAX];
    uint32_t depth;
    uint32_t node_count;
    bool has_key; /* a key of the innermost map awaits its value */
    struct slice key;
    struct config_place key_place;
};

enum err config_place_fail(struct error *error, const struct config_place *place, const char *path, const char *format,
                           ...)
{
    char text[sizeof error->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char where[64] = "";
    if (place->line)
        snprintf(where, sizeof where, ":%u:%u", place->line, place->column);
    return error_set(error, ERR_CONFIG, "%s%s: %s%s%s", place->source, where, path, *path ? ": " : "", text);
}

struct config_node *config_node_find(const struct config_node *map, const char *key)
{
    for (struct config_node *child = map->children; child; child = child->next) {
        if (slice_has_text(child->key, key))
            return child;
    }
    return NULL;
}

void config_node_append(struct config_node *parent, struct config_node *child)
{
    child->next = NULL;
    if (parent->last_child)
        parent->last_child->next = child;
    else
        parent->children = child;
    parent->last_child = child;
    parent->child_count++;
}

/* ---- YAML ------------------------------------------------------------------------------------------------------------- */

static struct config_place place_of(const struct parse *parse, yaml_mark_t mark)
{
    return (struct config_place){parse->source, (uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

static enum err take_key(struct parse *parse, const yaml_event_t *event, struct config_place place)
{
    struct slice text = slice_of((const char *)event->data.scalar.value, event->data.scalar.length);
    const struct config_node *map = parse->open[parse->depth - 1];
    if (text.size == 0 || text.size > 128 || memchr(text.data, '\0', text.size))
        return config_place_fail(parse->error, &place, "", "a key must be 1 to 128 bytes of text");
    for (const struct config_node *sibling = map->children; sibling; sibling = sibling->next) {
        if (slice_is_equal(sibling->key, text))
            return config_place_fail(parse->error, &place, "", "duplicate key \"%.*s\" (first in line %u)",
                                     SLICE_PRINT(text), sibling->key_place.line);
    }
    if (map->child_count >= CONFIG_MEMBERS_MAX)
        return config_place_fail(parse->error, &place, "", "over %d keys in one mapping", CONFIG_MEMBERS_MAX);
    parse->has_key = true;
    parse->key_place = place;
    return config_arena_copy(parse->arena, text, &parse->key);
}

static enum err add_node(struct parse *parse, enum config_node_kind kind, struct config_place place,
                         struct config_node **ret_node)
{
    if (++parse->node_count > CONFIG_NODES_MAX)
        return config_place_fail(parse->error, &place, "", "over %d values", CONFIG_NODES_MAX);
    struct config_node *node = config_arena_take(parse->arena, 1, sizeof *node);
    if (!node)
        return error_set(parse->error, ERR_NO_MEMORY, "no memory for the configuration");
    node->kind = kind;
    node->place = place;
    if (parse->depth == 0) {
        parse->root = node;
    } else {
        struct config_node *parent = parse->open[parse->depth - 1];
        if (parent->kind == CONFIG_MAP) {
            node->key = parse->key;
            node->key_place = parse->key_place;
            parse->has_key = false;
        }
        config_node_append(parent, node);
    }
    *ret_node = node;
    return OK;
}

static enum err open_node(struct parse *parse, enum config_node_kind kind, struct config_place place)
{
    if (parse->depth == CONFIG_DEPTH_MAX)
        return config_place_fail(parse->error, &place, "", "deeper than %d levels", CONFIG_DEPTH_MAX);
    struct config_node *node;
    enum err code = add_node(parse, kind, place, &node);
    if (code == OK)
        parse->open[parse->depth++] = node;
    return code;
}

static enum err add_scalar(struct parse *parse, const yaml_event_t *event, struct config_place place)
{
    struct config_node *node;
    enum err code = add_node(parse, CONFIG_SCALAR, place, &node);
    if (code != OK)
        return code;
    node->style = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? CONFIG_PLAIN : CONFIG_QUOTED;
    struct slice text = slice_of((const char *)event->data.scalar.value, event->data.scalar.length);
    return config_arena_copy(parse->arena, text, &node->text);
}

static enum err take_event(struct parse *parse, const yaml_event_t *event)
{
    struct config_place place = place_of(parse, event->start_mark);
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor || tag || event->type == YAML_ALIAS_EVENT)
        return config_place_fail(parse->error, &place, "", "anchors, aliases and tags are not allowed");

    bool is_key = parse->depth && parse->open[parse->depth - 1]->kind == CONFIG_MAP && !parse->has_key;
    switch (event->type) {
    case YAML_SCALAR_EVENT: return is_key ? take_key(parse, event, place) : add_scalar(parse, event, place);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        if (is_key)
            return config_place_fail(parse->error, &place, "", "a key must be text, not a list or a mapping");
        return open_node(parse, event->type == YAML_MAPPING_START_EVENT ? CONFIG_MAP : CONFIG_LIST, place);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: parse->depth--; return OK;
    case YAML_DOCUMENT_START_EVENT:
        if (parse->root)
            return config_place_fail(parse->error, &place, "", "more than one YAML document");
        return OK;
    case YAML_ALIAS_EVENT: /* refused above */
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT: return OK;
    }
    return OK;
}

/* Where the text stops being YAML; for a list or mapping that never ends, where the innermost one began: the end of the file,
 * which is where libyaml notices, helps nobody. */
static enum err fail_parser(struct parse *parse, const yaml_parser_t *parser)
{
    const char *problem = parser->problem ? parser->problem : "out of memory";
    struct config_place place = place_of(parse, parser->problem_mark);
    if (parser->eof && parse->depth) {
        struct config_place open = parse->open[parse->depth - 1]->place;
        return config_place_fail(parse->error, &open, "",
                                 "not YAML: what begins here does not end as it should: %s in line %u", problem,
                                 place.line);
    }
    return config_place_fail(parse->error, &place, "", "not YAML: %s", problem);
}

enum err config_tree_parse(struct config_arena *arena, const char *source, struct slice text,
                           struct config_node **ret_root, struct error *error)
{
    struct parse parse = {.arena = arena, .source = source, .error = error};
    struct config_place start = {source, 1, 1};
    if (text.size > CONFIG_FILE_BYTES_MAX)
        return config_place_fail(error, &start, "", "larger than %d bytes", CONFIG_FILE_BYTES_MAX);
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return error_set(error, ERR_NO_MEMORY, "no memory for the YAML parser");
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.size ? text.data : ""), text.size);

    enum err code = OK;
    for (bool is_done = false; code == OK && !is_done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            code = fail_parser(&parse, &parser);
            break;
        }
        code = take_event(&parse, &event);
        is_done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (code != OK)
        return code == ERR_CONFIG ? code : error_set(error, code, "no memory for the configuration");

    if (!parse.root) { /* an empty file, or comments only */
        code = open_node(&parse, CONFIG_MAP, start);
        if (code != OK)
            return code;
    }
    if (parse.root->kind != CONFIG_MAP)
        return config_place_fail(error, &parse.root->place, "", "the configuration must be a mapping");
    *ret_root = parse.root;
    return OK;
}

/* ---- variables and flags ---------------------------------------------------------------------------------------------- */

/* One segment of a variable against a key: case does not count, and "-" may be written "_", since shells allow no "-". */
static bool segment_is_key(struct slice segment, struct slice key)
{
    if (segment.size != key.size)
        return false;
    for (size_t i = 0; i < key.size; i++) {
        char byte = key.data[i] == '-' ? '_' : key.data[i];
        if (tolower((unsigned char)segment.data[i]) != tolower((unsigned char)byte))
            return false;
    }
    return true;
}

static struct config_node *find_segment(struct config_node *map, struct slice segment)
{
    for (struct config_node *child = map->children; child; child = child->next) {
        if (segment_is_key(segment, child->key))
            return child;
    }
    return NULL;
}

static enum err add_member(struct config_arena *arena, struct config_node *map, struct slice segment,
                           struct config_place place, struct config_node **ret_node, struct error *error)
{
    struct config_node *node = config_arena_take(arena, 1, sizeof *node);
    char *key = config_arena_take(arena, segment.size + 1, 1);
    if (!node || !key)
        return error_set(error, ERR_NO_MEMORY, "no memory for the configuration");
    for (size_t i = 0; i < segment.size; i++)
        key[i] = (char)tolower((unsigned char)segment.data[i]);
    node->kind = CONFIG_MAP;
    node->key = slice_of(key, segment.size);
    node->place = node->key_place = place;
    config_node_append(map, node);
    *ret_node = node;
    return OK;
}

/* `path` is SECTION__KEY; walks and makes maps down to the last segment, which becomes the scalar. */
static enum err overlay(struct config_arena *arena, struct config_node *root, struct slice path, const char *source,
                        const char *value, struct error *error)
{
    struct config_place place = {.source = source};
    struct config_node *node = root;
    for (uint32_t depth = 0; path.data; depth++) {
        const char *separator = path.size ? memmem(path.data, path.size, "__", 2) : NULL;
        struct slice segment = slice_of(path.data, separator ? (size_t)(separator - path.data) : path.size);
        path = separator ? slice_of(separator + 2, path.size - segment.size - 2) : (struct slice){0};
        if (segment.size == 0 || depth == CONFIG_DEPTH_MAX)
            return config_place_fail(error, &place, "", "not of the form " VARIABLE_PREFIX "SECTION__KEY");
        if (node->kind != CONFIG_MAP)
            return config_place_fail(error, &place, "", "\"%.*s\" is not in a mapping", SLICE_PRINT(segment));
        struct config_node *child = find_segment(node, segment);
        if (!child) {
            enum err code = add_member(arena, node, segment, place, &child, error);
            if (code != OK)
                return code;
        }
        node = child;
    }
    node->kind = CONFIG_SCALAR;
    node->style = CONFIG_RAW;
    node->place = place;
    node->children = node->last_child = NULL;
    node->child_count = 0;
    node->text = slice_from_text(value);
    return OK;
}

enum err config_tree_overlay_environment(struct config_arena *arena, struct config_node *root, char *const *environment,
                                         struct error *error)
{
    const size_t prefix_size = sizeof VARIABLE_PREFIX - 1;
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        if (!equals || strncmp(*environment, VARIABLE_PREFIX, prefix_size) != 0)
            continue;
        struct slice name, value;
        if (config_arena_copy(arena, slice_of(*environment, (size_t)(equals - *environment)), &name) != OK ||
            config_arena_copy(arena, slice_from_text(equals + 1), &value) != OK)
            return error_set(error, ERR_NO_MEMORY, "no memory for the configuration");
        struct slice path = slice_of(name.data + prefix_size, name.size - prefix_size);
        enum err code = overlay(arena, root, path, name.data, value.data, error);
        if (code != OK)
            return code;
    }
    return OK;
}

enum err config_tree_overlay(struct config_arena *arena, struct config_node *root, const char *section, const char *key,
                             const char *source, const char *value, struct error *error)
{
    char path[64];
    int size = snprintf(path, sizeof path, "%s__%s", section, key);
    return overlay(arena, root, slice_of(path, (size_t)size), source, value, error);
}
