/* SPDX-License-Identifier: Apache-2.0 */
/* config_arena: memory of one configuration, freed as a whole.
 *
 * Not for the hot path: blocks come from malloc, and nothing is given back before the end. All of it is wiped when it is
 * destroyed, since secrets lie in it.
 *
 * Life: config_arena_create; config_arena_take as often as needed; config_arena_destroy.
 */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_ARENA_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_ARENA_H

#include <stddef.h>

#include "runtime/error.h"
#include "runtime/slice.h"

struct config_arena;

/* Returns: NULL when out of memory. */
MUST_USE struct config_arena *config_arena_create(void);
void config_arena_destroy(struct config_arena *arena); /* accepts NULL */

/* Zeroed and aligned for any type. Returns: NULL when out of memory or count * size overflows. */
MUST_USE void *config_arena_take(struct config_arena *arena, size_t count, size_t size);

/* A copy with a NUL behind it, which the slice does not count. Returns: ERR_NO_MEMORY. */
MUST_USE enum err config_arena_copy(struct config_arena *arena, struct slice text, struct slice *ret_copy);

#endif
