/* SPDX-License-Identifier: Apache-2.0 */
/* conversation: one conversation as an actor: takes its messages strictly in turn, journals every step, and lets nothing out
 * before what caused it is on disk. docs/CONVERSATION.md has the drawing and the edge cases.
 *
 * Made by the directory from a journal_load; the only sender of requests is the directory. Ends by itself with OK: after
 * CONV_PASSIVATE, after an erase, and after a failed append (the next life is rebuilt from the journal). Any other end is a
 * crash.
 *
 * Invariants
 *  C1  Nothing leaves before the version it was derived from is committed (the output gate).
 *  C2  The state runs ahead of the disk by at most RECORDS_IN_FLIGHT_MAX records of messages and acts, and the few of the turn that
 *      runs, each of whose attempts waits for its intent; outputs never do.
 *  C3  At most one turn runs. It is the first of state.turns.
 *  C4  An attempt at a model starts after its intent was flushed and ends with exactly one result event.
 *  C5  What a running turn says is dropped when the epoch is no longer that of its beginning.
 *  C6  A waiter is answered exactly once, or given back to the directory when the conversation crashes.
 */
#ifndef CIRANDA_ACTORS_CONVERSATION_H
#define CIRANDA_ACTORS_CONVERSATION_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/hash.h"
#include "runtime/actor.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "storage/journal.h"

struct config;
struct conversation;
struct conv_request;
struct worker;

/* Between directory and conversation. */
enum {
    CONV_START = MSG_KIND_ACTORS + 0x20, /* the first message of a life: go on with what is open */
    CONV_PASSIVATE,                      /* struct conversation_note: end if nothing is going on; else it comes back as */
    CONV_STILL_BUSY,                     /* ... */
    CONV_DEAD_MESSAGE,                   /* a CONV_MESSAGE that crashed too many lives: struct conv_request */
    CONV_DRAIN,                          /* the server ends: subscribers get CONV_END */
    CONV_TICK,                           /* conversation -> itself: something is due */
};

/* The directory finds its entry again by hash and actor: the answer may come after the end of its sender. */
struct conversation_note {
    struct msg msg;
    struct hash128 hash;
    struct actor_id conversation;
};

/* What the journal is lent while appends are in flight. It belongs to the directory, so that it outlives a crash. */
struct conversation_seat {
    struct journal_head head;
    struct hash128 hash; /* of the key */
    uint32_t key_size;
    bool wakes_again; /* left by a life that ended for want of the journal: a turn may be open */
    char key[JOURNAL_KEY_BYTES_MAX];
};

/* Buffers of a worker that every conversation uses within one handler call. */
struct conversation_scratch {
    struct buffer record; /* JOURNAL_RECORD_BYTES_MAX */
    struct buffer json;
};

extern const struct actor_type conversation_type;

/* Folds what was loaded (result OK or ERR_NOT_FOUND). Owns: lends `seat` until the actor has ended and, after a crash, its
 * appends have come back. Returns: ERR_STORAGE_CORRUPT, ERR_STORAGE_FORMAT, ERR_NO_MEMORY. */
MUST_USE enum err conversation_create(const struct config *config, struct conversation_seat *seat,
                                      struct actor_id directory, const struct journal_load *load,
                                      struct conversation **ret_conversation);
void conversation_destroy(struct conversation *conversation); /* one that was never spawned */
bool conversation_has_open_turn(const struct conversation *conversation);

/* A journal_read of a conversation comes back to the directory, since its maker may be gone by then. Passes it on. Owns: takes
 * *read. Returns: the request that waited for a conversation that is gone, to be delivered again, or NULL. */
struct conv_request *conversation_read_forward(struct worker *worker, struct msg **read);
/* Frees it. Returns: as above. */
struct conv_request *conversation_read_destroy(struct worker *worker, struct msg **read);

/* Thread: start-up; once a process. */
void conversation_metrics_register(void);

#endif
