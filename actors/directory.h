/* SPDX-License-Identifier: Apache-2.0 */
/* directory: one pinned actor a worker; owner of a shard of the index key -> conversation, and supervisor of its actors.
 *
 * It is the only sender of requests to a conversation, so that passivation needs no lock: it sends "passivate", holds what
 * comes meanwhile, and either gets the head back (asleep: a later request wakes it by one journal_load) or "busy".
 *
 * Invariants: D1 at most one live actor a key. D2 requests of one sender to one key keep their order through wake,
 * passivation and crash. D3 a sleeping conversation costs at most 64 bytes here. D4 the message that crashed a conversation
 * `crash_max` times becomes a dead letter and is answered; what stood behind it is delivered in order after the restart.
 */
#ifndef CIRANDA_ACTORS_DIRECTORY_H
#define CIRANDA_ACTORS_DIRECTORY_H

#include <stdint.h>

#include "actors/protocol.h"
#include "runtime/error.h"

struct worker;
struct services;

MUST_USE enum err directory_start(struct worker *worker, struct services *services, struct error *error);

/* Fills request->hash from tenant and conversation and sends it to the directory of its shard. Owns: takes *request on OK.
 * Returns: ERR_MAILBOX_FULL, ERR_ACTOR_GONE (shutting down). Thread: any worker's. */
MUST_USE enum err directory_send(struct worker *worker, struct services *services, struct conv_request **request);

/* A request block with room for its texts: the slices of `fill` are copied behind the struct. NULL: over the memory cap. */
struct conv_request *conv_request_create(struct worker *worker, uint16_t kind, const struct conv_request *fill);
struct conv_answer *conv_answer_create(struct worker *worker, uint16_t kind, const struct conv_answer *fill);

struct directory_stats {
    uint64_t known, awake, wakes, passivations, crashes, dead_letters, turns_running, turns_queued;
};
void directory_get_stats(const struct services *services, struct directory_stats *ret_stats); /* Thread: its worker's */

#endif
