/* SPDX-License-Identifier: Apache-2.0 */
/* conversation_key: the journal's key of a conversation: tenant, a zero byte, conversation id; and its hash, which says on which
 * worker's shard it lives. The hash is keyed by a number of the process, so that no client can crowd one shard. */
#ifndef CIRANDA_ACTORS_CONVERSATION_KEY_H
#define CIRANDA_ACTORS_CONVERSATION_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/hash.h"
#include "actors/protocol.h"
#include "runtime/slice.h"
#include "storage/journal.h"

_Static_assert(CONV_TENANT_BYTES_MAX + 1 + CONV_ID_BYTES_MAX <= JOURNAL_KEY_BYTES_MAX, "every key fits the journal");

/* Thread: start-up, before any worker runs. Without it the key is zero. */
void conversation_key_set_seed(struct hash128 seed);
/* Returns: the size; 0 when a part is empty or too long. */
uint32_t conversation_key_write(struct slice tenant, struct slice conversation, char ret_key[JOURNAL_KEY_BYTES_MAX]);
/* Returns: false when it is no conversation's key. The slices point into `key`. */
bool conversation_key_split(struct slice key, struct slice *ret_tenant, struct slice *ret_conversation);
struct hash128 conversation_key_hash(struct slice key);

#endif
