/* SPDX-License-Identifier: Apache-2.0 */
/* actor: private state, a mailbox and a handler that runs one message at a time.
 *
 * Life: actor_spawn on a worker; messages reach on_message in turn; it ends when the handler calls actor_stop (normal) or
 * returns a failure (a crash); on_exit frees the state; its supervisor gets a MSG_EXIT.
 *
 * Invariants
 *  I1  on_message and on_exit of one actor never run at the same time, nor on two workers at once.
 *  I2  Messages of one sender arrive in the order sent, urgent ones apart, across migrations too.
 *  I3  An address whose generation is not the slot's present one reaches nobody; its messages are dead letters: sending
 *      fails, or, when the race is lost after the check, the receiver's worker drops and counts them.
 *  I4  An actor is on at most one run queue, exactly when it has something to run and is not already running.
 *  I5  A handler never blocks. One that runs longer than the budget is a crash (ERR_BUDGET) once it returns; one that never
 *      returns stops the process by the watchdog, since C cannot take a thread back.
 */
#ifndef CIRANDA_RUNTIME_ACTOR_H
#define CIRANDA_RUNTIME_ACTOR_H

#include <stdint.h>

#include "runtime/error.h"
#include "runtime/msg.h"

struct worker;

/* Lent to a handler for one call. */
struct actor_context {
    struct worker *worker; /* the one that runs this turn; another one after a migration */
    struct actor_id self;
    void *state;
    uint64_t now_ns; /* read once a loop turn */
};

struct actor_type {
    const char *name; /* for logs and metrics: [a-z0-9_]+ */
    /* Returns: OK, or the reason of the crash. Owns: *msg; set it to NULL to keep it. */
    enum err (*on_message)(struct actor_context *context, struct msg **msg);
    /* Frees the state. `reason` is OK for a normal stop. Also called at runtime_destroy. May be NULL. */
    void (*on_exit)(struct actor_context *context, enum err reason);
    uint32_t mailbox_count_max; /* 0: the runtime's default (4096); control messages are not counted against it */
    bool is_pinned; /* never donated: needed when its state is known to a ring, a timer or other worker-bound part */
};

/* Sent, urgent and control, to the supervisor when an actor ends. */
enum { MSG_EXIT = MSG_KIND_RUNTIME + 1 };
struct msg_exit {
    struct msg msg;
    struct actor_id actor;
    const struct actor_type *type;
    void *child_key;         /* what actor_spawn was given, so that the supervisor finds its child */
    enum err reason;         /* OK: normal */
    struct msg *crash_msg;   /* the message whose handling crashed it; owned by the receiver; NULL otherwise, and when the
                                handler had taken it */
    struct msg *undelivered; /* FIFO list (msg.next) of what was still in its mailbox; owned by the receiver */
};

struct actor_options {
    struct actor_id supervisor; /* {0,0}: nobody is told */
    void *child_key;
};

/* Thread: worker's. Owns: takes `state` on OK (on_exit gives it back). Returns: ERR_NO_MEMORY / ERR_LIMIT (slots) /
 * ERR_SHUTDOWN (the worker is ending its actors). */
MUST_USE enum err actor_spawn(struct worker *worker, const struct actor_type *type, void *state,
                              const struct actor_options *options, struct actor_id *ret_id);

/* Thread: worker's, `worker` being the current one; the receiver may live anywhere. Owns: takes *msg and nulls it on OK, else
 * the caller keeps it. Returns: ERR_ACTOR_GONE, ERR_MAILBOX_FULL. Same worker: no atomic read-modify-write unless the
 * receiver was parked. */
MUST_USE enum err actor_send(struct worker *worker, struct actor_id to, struct msg **msg);

/* As actor_send, `delay_ns` from now, by the current worker's timer wheel; cannot be taken back: the receiver drops what is
 * stale by a token of its own. Owns: always takes *msg. */
void actor_send_after(struct worker *worker, struct actor_id to, struct msg **msg, uint64_t delay_ns);

/* Asks an actor to end: an urgent MSG_STOP goes to it, which the runtime handles (not on_message). */
void actor_kill(struct worker *worker, struct actor_id id, enum err reason);

/* ---- from inside a handler -------------------------------------------------------------------------------------------- */
/* This is the last message; after it on_exit runs with OK. */
void actor_stop(struct actor_context *context);
/* Until resumed only urgent messages run; normal ones wait in order. */
void actor_suspend(struct actor_context *context);
void actor_resume(struct actor_context *context);
/* Not to be donated while pinned (counted): e.g. while a journal append is in flight. */
void actor_pin(struct actor_context *context);
void actor_unpin(struct actor_context *context);

#endif
