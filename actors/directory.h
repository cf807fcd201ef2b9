/* SPDX-License-Identifier: Apache-2.0 */
/* directory: one pinned actor a worker; owner of a shard of the index key -> conversation, and supervisor of its actors.
 *
 * It is the only sender of requests to a conversation, so that passivation needs no lock: it sends "passivate", holds what
 * comes meanwhile, and either gets the head back (asleep: a later request wakes it by one journal_load) or "busy".
 *
 * Invariants: D1 at most one live actor a key. D2 requests of one sender to one key keep their order through wake,
 * passivation and crash. D3 a sleeping conversation costs nothing here: the
 * journal is its index. D4 the message that crashed a conversation
 * `crash_max` times becomes a dead letter and is answered; what stood behind it is delivered in order after the restart.
 */
#ifndef CIRANDA_ACTORS_DIRECTORY_H
#define CIRANDA_ACTORS_DIRECTORY_H

#include <stdint.h>

#include "actors/protocol.h"
#include "runtime/error.h"

struct services;
struct worker;

struct directory;

/* Thread: worker's. Sets services->directory. Register conversation_metrics_register() once before. */
MUST_USE enum err directory_start(struct worker *worker, struct services *services, struct actor_id *ret_id,
                                  struct error *error);
/* Wakes the conversations of this shard whose turns a crash or stop left unfinished, WAKES_IN_FLIGHT_MAX at a time. */
void directory_resume_open(struct worker *worker, struct services *services);
/* The server ends: subscribers get CONV_END; new messages and subscribers are refused by services->is_draining. Thread:
 * worker's. */
void directory_drain(struct worker *worker, struct services *services);
/* Frees what the journal may still have been lent when the actors ended: after journal_close, before `services` goes. Accepts
 * NULL. */
void directory_destroy(struct directory *directory);

/* Fills request->hash from tenant and conversation and sends it to the directory of its shard. Owns: takes *request on OK.
 * Returns: ERR_MAILBOX_FULL, ERR_ACTOR_GONE (shutting down). Thread: any worker's. */
MUST_USE enum err directory_send(struct worker *worker, struct services *services, struct conv_request **request);

struct directory_stats {
    uint64_t known /* in the index: awake, waking, restarting or in quarantine */, awake, wakes, passivations, crashes,
        dead_letters, turns_running, turns_queued;
};
void directory_get_stats(const struct services *services, struct directory_stats *ret_stats); /* Thread: its worker's */

#endif
