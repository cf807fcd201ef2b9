/* SPDX-License-Identifier: Apache-2.0 */
/* config_schema: walks a tree of nodes along one table of keys, types, defaults and ranges, and fills a struct config.
 *
 * The tables in config_schema.c are the only list of keys: what is not in them is refused, and what is missing gets the
 * default that stands there, read by the same code as a value from the file.
 */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_SCHEMA_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_SCHEMA_H

#include "actors/config/config.h"
#include "actors/config/config_arena.h"
#include "actors/config/config_tree.h"
#include "runtime/error.h"

/* Fills *config, whose texts then lie in `arena`. Reads the secret files it names. Returns: ERR_CONFIG with place, path and
 * cause; ERR_NO_MEMORY. */
MUST_USE enum err config_schema_read(const struct config_node *root, struct config_arena *arena, struct config *config,
                                     struct error *error);

#endif
