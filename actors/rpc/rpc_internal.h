/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_internal: what the files of actors/rpc share: the actor, a call that waits, and the ways to end one.
 *
 * A method gets a struct rpc_asked, lent for the call. It answers at once, or takes a struct rpc_pending from the pool, sends
 * something that carries the call's id as its token, and answers when that comes back to the pending call's waiter. The server
 * keeps the pending call with its own (rpc_call_user): an answer that comes after the call has ended finds nothing, and is
 * dropped.
 *
 *   rpc.c           the actor: methods, pool, life
 *   rpc_answer.c    results and errors
 *   rpc_message.c   message.send
 *   rpc_events.c    conversation.get, events.read, events.subscribe, events.unsubscribe
 *   rpc_params.c    the params
 *
 * Invariants
 *  M1  A pending call in use has a call or stream of the server's; whatever ends that releases it.
 *  M2  A disconnect never cancels a turn: the conversation is told that nobody waits (CONV_ABANDON), and goes on.
 */
#ifndef CIRANDA_ACTORS_RPC_RPC_INTERNAL_H
#define CIRANDA_ACTORS_RPC_RPC_INTERNAL_H

#include "actors/api/event_page.h"
#include "actors/api/problem.h"
#include "actors/api/trace.h"
#include "actors/protocol.h"
#include "actors/rpc/rpc.h"
#include "actors/rpc/rpc_params.h"
#include "actors/services.h"
#include "runtime/buffer.h"
#include "runtime/metrics.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

struct rpc_asked;

struct rpc_method {
    const char *name;
    void (*handle)(struct rpc *rpc, const struct rpc_asked *asked);
    uint32_t fields;         /* RPC_FIELD(...): what its params may hold */
    bool needs_conversation; /* conversation_id, a valid one */
    bool is_large;           /* its answer may be a page of history */
    bool is_message; /* passes admission before it is read; taken as a notification, too, which no other method is */
};
extern const struct rpc_method rpc_methods[];
extern const size_t rpc_method_count;

/* A call that is being handled. Lent for the call of the method. */
struct rpc_asked {
    struct rpc_call_id call;
    const struct rpc_method *method;
    const struct rpc_request *request;
    struct rpc_params *params;
    struct problem *problem; /* without errors so far */
    struct trace_id trace;
};

struct rpc_pending;

/* What an open call waits for. */
struct rpc_waiter {
    void (*on_answer)(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg);
    void (*on_timer)(struct rpc *rpc, struct rpc_pending *pending);   /* NULL: sets none */
    void (*on_drained)(struct rpc *rpc, struct rpc_pending *pending); /* a stream has room again; NULL: no matter */
    uint16_t kind_when_gone; /* CONV_ABANDON, CONV_UNSUBSCRIBE; 0: nobody needs to know */
};

struct rpc_pending {
    const struct rpc_waiter *waiter; /* NULL: free */
    struct rpc *rpc;
    struct rpc_pending *next_free;
    struct rpc_call_id call;
    const struct rpc_method *method;
    struct trace_id trace;
    struct timer timer;
    struct msg *kept; /* an answer that is needed later; NULL: none. Freed with it */
    char conversation[CONV_ID_BYTES_MAX];
    uint32_t conversation_size;
    union {
        struct {
            bool is_late; /* the client waits for durability only */
        } message;
        struct {
            uint64_t after; /* the last version the client has */
            uint32_t msgid; /* its name among the connection's streams */
            struct event_page page;
        } stream;
    } u;
};

enum { RPC_SLAB_PENDING = 256, RPC_OUT_BYTES_MAX = 16 << 20, RPC_METHODS_MAX = 8, RPC_CODES_MAX = 32 };

struct rpc {
    /* fixed after start */
    struct worker *worker;
    struct services *services;
    struct actor_id self;
    struct metric calls[RPC_METHODS_MAX], errors[RPC_CODES_MAX]; /* by method; by code */
    struct metric ignored_notifications, late_answers;
    /* owner worker only */
    struct rpc_server *server;  /* who called last: this worker's */
    struct rpc_pending **slabs; /* pool: slabs never move, since timers are inside */
    uint32_t slab_count;
    struct rpc_pending *free_pending;
    struct buffer out;      /* the result that is being written */
    struct buffer metadata; /* of the message that is being read */
};

extern const struct slice rpc_tenant; /* the only one, until there is authentication */

/* ---- pending calls (rpc.c) --------------------------------------------------------------------------------------------- */
/* From here on its waiter ends the call. Returns: NULL when out of memory, and then the call has been refused. */
struct rpc_pending *rpc_pending_open(struct rpc *rpc, const struct rpc_asked *asked, const struct rpc_waiter *waiter);
/* Ends its life, after the call has ended. */
void rpc_pending_release(struct rpc_pending *pending);
/* Tells the conversation that nobody waits any more, if it needs to know. */
void rpc_pending_leave(struct rpc_pending *pending);
/* The same, then releases. */
void rpc_pending_abandon(struct rpc_pending *pending);
struct slice rpc_pending_conversation(const struct rpc_pending *pending);
/* Sends `fill` (what the kind needs) to the pending call's conversation; fills in where it goes, who asks and the trace. */
enum err rpc_pending_send(struct rpc_pending *pending, uint16_t kind, const struct conv_request *fill);
/* The same; on a failure the call is refused and released. */
void rpc_pending_ask(struct rpc_pending *pending, uint16_t kind, const struct conv_request *fill);

/* ---- answers (rpc_answer.c) -------------------------------------------------------------------------------------------- */
void rpc_answers_register(struct rpc *rpc);
/* The code of docs/RPC.md for an error of ours. */
const char *rpc_code_of(enum err code);
/* Each ends the call. */
void rpc_answer_out(struct rpc *rpc, struct rpc_call_id call); /* rpc->out is the result */
void rpc_answer_error(struct rpc *rpc, struct rpc_call_id call, const char *code, struct slice message,
                      uint64_t retry_after_ms);
void rpc_answer_problem(struct rpc *rpc, struct rpc_call_id call, const struct problem *problem);
void rpc_answer_code(struct rpc *rpc, struct rpc_call_id call, enum err code, struct slice detail,
                     uint32_t retry_after_s);
/* The same of a pending call, which is then released. */
void rpc_pending_answer_out(struct rpc_pending *pending);
void rpc_pending_refuse(struct rpc_pending *pending, const struct conv_answer *answer);

/* ---- methods ----------------------------------------------------------------------------------------------------------- */
void rpc_handle_message(struct rpc *rpc, const struct rpc_asked *asked); /* rpc_message.c */
void rpc_handle_get(struct rpc *rpc, const struct rpc_asked *asked);     /* rpc_events.c */
void rpc_handle_events(struct rpc *rpc, const struct rpc_asked *asked);
void rpc_handle_subscribe(struct rpc *rpc, const struct rpc_asked *asked);
void rpc_handle_unsubscribe(struct rpc *rpc, const struct rpc_asked *asked);

#endif
