/* SPDX-License-Identifier: Apache-2.0 */
/* config_tree: what a person wrote, as a tree of nodes that remember their place, before anything is known about its meaning.
 *
 * The YAML file is its base; variables and flags are laid over it as nodes of their own place, so that one schema walk
 * (config_schema.c) checks every level alike and names where the wrong value came from.
 *
 * Bounds, since a configuration may come from a templating accident: 1 MiB, 65,536 nodes, 16 levels, 1,024 members a map.
 * Refused: aliases, anchors and tags (a configuration has no use for them, and aliases are how a kilobyte becomes a
 * gigabyte), duplicate keys, keys that are no plain text, more than one document.
 */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_TREE_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_TREE_H

#include <stdint.h>

#include "actors/config/config_arena.h"
#include "runtime/error.h"
#include "runtime/slice.h"

enum {
    CONFIG_FILE_BYTES_MAX = 1 << 20,
    CONFIG_NODES_MAX = 65536,
    CONFIG_DEPTH_MAX = 16,
    CONFIG_MEMBERS_MAX = 1024,
};

enum config_node_kind { CONFIG_SCALAR, CONFIG_LIST, CONFIG_MAP };
enum config_node_style {
    CONFIG_PLAIN,  /* YAML without quotes: its look says whether it is a number, a truth value or text */
    CONFIG_QUOTED, /* text, whatever it looks like */
    CONFIG_RAW,    /* from a variable, a flag or a default: the schema says what it is */
};

struct config_place {
    const char *source;    /* file, variable or flag */
    uint32_t line, column; /* from 1; 0: not a file */
};

struct config_node {
    enum config_node_kind kind;
    enum config_node_style style; /* scalars */
    struct config_place place;
    struct slice text; /* scalars */
    struct slice key;  /* members of a map */
    struct config_place key_place;
    struct config_node *children, *last_child, *next;
    uint32_t child_count;
};

/* `source` names the text in errors and is kept as pointer. An empty text is an empty map. Returns: ERR_CONFIG with
 * "source:line:column: what is wrong", ERR_NO_MEMORY. */
MUST_USE enum err config_tree_parse(struct config_arena *arena, const char *source, struct slice text,
                                    struct config_node **ret_root, struct error *error);

/* Lays every CIRANDA__SECTION__KEY of `environment` over the tree. A name is found without regard to case and with "-" for
 * "_"; a new one is taken in lower case. */
MUST_USE enum err config_tree_overlay_environment(struct config_arena *arena, struct config_node *root,
                                                  char *const *environment, struct error *error);

/* Lays one value over root.section.key. `source` and `value` are kept as pointers. */
MUST_USE enum err config_tree_overlay(struct config_arena *arena, struct config_node *root, const char *section,
                                      const char *key, const char *source, const char *value, struct error *error);

struct config_node *config_node_find(const struct config_node *map, const char *key); /* NULL: none */
void config_node_append(struct config_node *parent, struct config_node *child);

/* Fills `error` with "source:line:column: path: text" (path may be ""). Returns: ERR_CONFIG. */
enum err config_place_fail(struct error *error, const struct config_place *place, const char *path, const char *format,
                           ...) __attribute__((format(printf, 4, 5)));

#endif
