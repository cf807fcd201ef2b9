/* SPDX-License-Identifier: Apache-2.0 */
/* config_secret: a secret from a file of its own, refused when the file gives it away. */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_SECRET_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_SECRET_H

#include <stddef.h>

#include "actors/config/config_arena.h"

/* Reads the one line of `path` into the arena (which is wiped when freed); a line end is cut off. Returns: ERR_CONFIG with
 * what is wrong and the remedy in `reason` (never a byte of the secret): no regular file, readable or writable by others,
 * empty, over 4 KiB, not printable ASCII (it becomes an HTTP header); ERR_NO_MEMORY. */
MUST_USE enum err config_secret_read(const char *path, struct config_arena *arena, struct slice *ret_secret, char *reason,
                                     size_t reason_size);

#endif
