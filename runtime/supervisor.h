/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor: an actor that starts, watches, restarts and stops other actors, by the rules of Erlang/OTP's supervisor.
 *
 * Not for millions of children whose state must be rebuilt first: those have an owner of their own that uses
 * restart_intensity.h (the directory of conversations). A supervisor lives on one worker; its children are born there.
 *
 * Life: supervisor_start spawns it; it starts its children in order and then tells its own supervisor MSG_CHILD_STARTED; calls
 * (supervisor_call) add, remove and list children; MSG_SHUTDOWN ends it, as more than `intensity_count` restarts within
 * `period_ns` do. It always ends with ERR_SHUTDOWN, after its children, in reverse start order.
 *
 * OTP in our words: `normal` is OK, `shutdown` is ERR_SHUTDOWN, any other code is a crash. Where OTP blocks in a receive, this
 * supervisor is in an operation: what arrives meanwhile waits and is taken in the order of arrival, but for the exit of a
 * child that the operation itself stops, which is taken at once (OTP's selective receive).
 *
 * Invariants
 *  S1  Children start in list order and one at a time; stopping a range goes through it backwards, one at a time, the children
 *      of simple_one_for_one excepted, which are all told at once.
 *  S2  Each child's end is taken exactly once: as a failure, or as part of the operation that stopped it.
 *  S3  Every restart counts for the intensity, an attempt that fails to start included.
 *  S4  No handler waits: a child that hangs in its start or its stop costs a timer, and is then killed.
 */
#ifndef CIRANDA_RUNTIME_SUPERVISOR_H
#define CIRANDA_RUNTIME_SUPERVISOR_H

#include <stdint.h>

#include "runtime/actor.h"
#include "runtime/error.h"
#include "runtime/msg.h"

enum supervisor_strategy {
    SUPERVISOR_ONE_FOR_ONE,        /* only the failed child is restarted */
    SUPERVISOR_REST_FOR_ONE,       /* and those started after it */
    SUPERVISOR_ONE_FOR_ALL,        /* all */
    SUPERVISOR_SIMPLE_ONE_FOR_ONE, /* dynamic children of one kind: children[0] is their template, none is started with it */
};

enum supervisor_restart {
    SUPERVISOR_PERMANENT, /* restarted however it ended */
    SUPERVISOR_TRANSIENT, /* restarted unless it ended with OK or ERR_SHUTDOWN */
    SUPERVISOR_TEMPORARY, /* never; forgotten once it ended */
};

enum supervisor_child_type { SUPERVISOR_CHILD_WORKER, SUPERVISOR_CHILD_SUPERVISOR };

enum { SUPERVISOR_ID_BYTES_MAX = 48 };

#define SUPERVISOR_BRUTAL_KILL UINT64_C(0)
#define SUPERVISOR_INFINITY UINT64_MAX

struct supervisor_child_spec {
    char id[SUPERVISOR_ID_BYTES_MAX]; /* unique in its supervisor; NUL-terminated; unused in a template */
    /* Must hand `options` to actor_spawn as they are. A start that fails leaves no actor behind. */
    enum err (*start)(struct worker *worker, void *argument, const struct actor_options *options,
                      struct actor_id *ret_id);
    void *argument; /* lent for as long as the child is known */
    enum supervisor_restart restart;
    enum supervisor_child_type type; /* only for the counts */
    /* 0: it is up when `start` returns. Else it must call supervisor_acknowledge within this time, or it is killed and has
     * failed to start. Supervisors always acknowledge. */
    uint64_t start_ns_max;
    /* SUPERVISOR_BRUTAL_KILL: killed at once. Else it gets MSG_SHUTDOWN, must call actor_stop when it has put its things in
     * order, and is killed after this time. Supervisors should have SUPERVISOR_INFINITY, as in OTP. */
    uint64_t shutdown_ns;
};

struct supervisor_spec {
    enum supervisor_strategy strategy;
    uint32_t intensity_count; /* at most RESTART_COUNT_MAX; OTP's default: 1 */
    uint64_t period_ns;       /* OTP's default: 5 s */
    const struct supervisor_child_spec *children;
    uint32_t child_count;
};

enum {
    MSG_SHUTDOWN = MSG_KIND_RUNTIME + 0x20, /* to a child: end in good order, by actor_stop; urgent and control */
    MSG_CHILD_STARTED,                      /* to a supervisor, by supervisor_acknowledge; others may ignore it */
    MSG_SUPERVISOR_CALL,
    MSG_SUPERVISOR_ANSWER,
    MSG_SUPERVISOR_PRIVATE_FIRST, /* its messages to itself */
    MSG_SUPERVISOR_PRIVATE_LAST = MSG_SUPERVISOR_PRIVATE_FIRST + 2,
};

/* A start function itself, so that supervisors nest: `spec` is a const struct supervisor_spec *, lent until it has ended and
 * for each restart. Thread: worker's. Returns: ERR_INVALID (a child without id or start, a template missing), ERR_EXISTS (two
 * children of one id), ERR_LIMIT (intensity), ERR_NO_MEMORY. That a child failed to start is told by its MSG_EXIT instead of
 * MSG_CHILD_STARTED. */
MUST_USE enum err supervisor_start(struct worker *worker, void *spec, const struct actor_options *options,
                                   struct actor_id *ret_id);

struct msg_child_started {
    struct msg msg;
    struct actor_id actor;
};
/* From a child that has a start_ns_max, once it is up. Returns: ERR_NO_MEMORY (better to crash then, and be tried again); OK
 * also when the supervisor is gone: its kill is on its way. */
MUST_USE enum err supervisor_acknowledge(struct worker *worker, struct actor_id supervisor, struct actor_id self);

/* ---- calls ------------------------------------------------------------------------------------------------------------ */
enum supervisor_verb {
    /* `child` is the spec; of a template's supervisor only child.argument counts. OK: `actor`. ERR_EXISTS: the id is known,
     * `actor` says who runs, if any; else what `start` said (ERR_TIMEOUT: not acknowledged), and the child is not known. */
    SUPERVISOR_START_CHILD,
    /* By child.id (template: by `actor`). Stops it; its spec stays known unless it is temporary or of a template.
     * ERR_NOT_FOUND, ERR_INVALID (named by the wrong one of the two). */
    SUPERVISOR_TERMINATE_CHILD,
    /* Starts one that is down. ERR_NOT_FOUND; ERR_CONFLICT: it runs or is about to; else what `start` said. */
    SUPERVISOR_RESTART_CHILD,
    /* Forgets the spec of one that is down. ERR_NOT_FOUND; ERR_CONFLICT: it runs or is about to. */
    SUPERVISOR_DELETE_CHILD,
    SUPERVISOR_COUNT_CHILDREN,
    SUPERVISOR_WHICH_CHILDREN,
};

enum supervisor_child_state { SUPERVISOR_CHILD_IS_DOWN, SUPERVISOR_CHILD_IS_UP, SUPERVISOR_CHILD_IS_RESTARTING };

struct supervisor_child_info {
    char id[SUPERVISOR_ID_BYTES_MAX];
    struct actor_id actor; /* {0,0} unless up */
    enum supervisor_child_type type;
    enum supervisor_child_state state;
};

/* Made by supervisor_call_create, sent with actor_send; the same block comes back to `reply_to` as MSG_SUPERVISOR_ANSWER,
 * once; ERR_SHUTDOWN: it is ending. No answer comes from one that ends before the call's turn: who must know sets a time. */
struct supervisor_call {
    struct msg msg;
    enum supervisor_verb verb;
    struct actor_id reply_to;
    uint64_t token;
    struct supervisor_child_spec child;
    struct actor_id actor;
    /* the answer */
    enum err code;
    uint32_t spec_count, active_count, supervisor_count, worker_count; /* COUNT and WHICH */
    uint32_t info_count, info_count_max; /* WHICH: in start order, as many as there is room */
    struct supervisor_child_info infos[];
};

/* NULL: over the memory cap. `info_count_max` is 0 but for SUPERVISOR_WHICH_CHILDREN. */
struct supervisor_call *supervisor_call_create(struct worker *worker, enum supervisor_verb verb, uint32_t info_count_max);

#endif
