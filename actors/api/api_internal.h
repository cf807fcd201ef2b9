/* SPDX-License-Identifier: Apache-2.0 */
/* api_internal: what the files of actors/api share: the actor, an open exchange, and the ways to end one.
 *
 * A handler gets a struct api_call, lent for the call. It answers at once, or takes a struct api_request from the pool, sends
 * something that carries the request's token, and answers when that comes back to the request's waiter. Tokens are index plus
 * generation: an answer that comes after the exchange has ended finds nothing and is dropped.
 *
 * Invariants
 *  A1  A request in use has an exchange that is open; whatever ends the exchange releases the request.
 *  A2  A disconnect never cancels a turn: the conversation is told that nobody waits (CONV_ABANDON), and goes on.
 */
#ifndef CIRANDA_ACTORS_API_API_INTERNAL_H
#define CIRANDA_ACTORS_API_API_INTERNAL_H

#include "actors/api/api.h"
#include "actors/api/api_routes.h"
#include "actors/api/event_page.h"
#include "actors/api/problem.h"
#include "actors/api/trace.h"
#include "actors/protocol.h"
#include "actors/services.h"
#include "net/json.h"
#include "runtime/buffer.h"
#include "runtime/metrics.h"
#include "runtime/timer.h"
#include "runtime/worker.h"
#include "storage/journal.h"

#define JSON_CONTENT_TYPE "application/json"
#define SSE_CONTENT_TYPE "text/event-stream"

enum {
    API_WAIT_S_DEFAULT = 30,
    API_WAIT_S_MAX = 300,
    API_OUT_BYTES_MAX = 8 << 20,
    API_COMMENT_S = 15, /* between the comments that keep a quiet stream's connections open */
};

/* Whom an answer goes to. */
struct api_exchange {
    struct http_exchange_id id;
    const struct route *route; /* NULL: none was found */
    struct trace_id trace;
};

/* A request that is being handled. Lent for the call. */
struct api_call {
    struct api_exchange exchange;
    const struct http_request *request;
    struct slice parameters[ROUTE_PARAMETERS_MAX]; /* {id}, {turn_id}: checked */
};

struct api_request;

/* What an open exchange waits for. */
struct api_waiter {
    void (*on_answer)(struct api *api, struct api_request *request, struct msg **msg);
    void (*on_timer)(struct api *api, struct api_request *request);   /* NULL: sets none */
    void (*on_drained)(struct api *api, struct api_request *request); /* a stream's bytes have left; NULL: no matter */
    uint16_t kind_when_gone; /* CONV_ABANDON, CONV_UNSUBSCRIBE; 0: nobody needs to know */
};

struct api_request {
    const struct api_waiter *waiter; /* NULL: free */
    struct api *api;
    struct api_request *next_free;
    uint32_t index, generation;
    struct api_exchange exchange;
    struct timer timer;
    struct msg *kept; /* an answer that is needed later; NULL: none. Freed with the request */
    char conversation[CONV_ID_BYTES_MAX];
    uint32_t conversation_size;
    union {
        struct {
            bool is_accepted;             /* durable, its turn goes on: `kept` is the CONV_ACCEPTED */
            bool is_late;                 /* the client waits for durability only: 202 */
            bool is_streaming, has_ended; /* SSE: head is out; the event that ends a turn is out */
        } message;
        struct {
            uint64_t after; /* the last version the client has */
            struct event_page page;
        } stream;
        struct {
            uint32_t expected, answered;
        } ready;
    } u;
};

enum { API_SLAB_REQUESTS = 256 };

extern const struct slice api_tenant; /* the only one, until there is authentication */

struct api {
    /* fixed after start */
    struct worker *worker;
    struct services *services;
    struct actor_id self;
    struct metric *answers; /* one a route and status class: route * 6 + status / 100; the last row is "none" */
    struct metric late_answers, open_requests;
    /* owner worker only */
    struct http_server *http;   /* who called last: this worker's server */
    struct api_request **slabs; /* pool of requests: slabs never move, since timers are inside */
    uint32_t slab_count, open_count;
    struct api_request *free_requests;
    uint32_t *by_exchange; /* exchange index -> request index + 1 */
    uint32_t by_exchange_count;
    struct buffer out;   /* the answer that is being written */
    struct buffer input; /* unescaped texts of the request that is being read */
};

/* ---- requests (api.c) -------------------------------------------------------------------------------------------------- */

/* Opens a request for the call; from here on its waiter ends the exchange. Returns: NULL when out of memory, and then 503 has
 * been answered. */
struct api_request *api_request_open(struct api *api, const struct api_call *call, const struct api_waiter *waiter,
                                     struct slice conversation);
/* Ends its life, after the exchange has ended. */
void api_request_release(struct api_request *request);
/* The client is gone: tells the conversation, then releases. */
void api_request_abandon(struct api_request *request);
uint64_t api_request_token(const struct api_request *request);
struct slice api_request_conversation(const struct api_request *request);

/* Sends `fill` (kind, and what the kind needs) to the request's conversation; fills in where it goes, who asks and the trace.
 * Returns: false when it could not be sent: the exchange is then answered and the request released. */
bool api_request_send(struct api_request *request, uint16_t kind, const struct conv_request *fill);
/* The same, but what a failure means is the caller's. */
enum err api_request_try_send(struct api_request *request, uint16_t kind, const struct conv_request *fill);

/* ---- answers (api_answer.c); each ends the exchange --------------------------------------------------------------------- */

void api_answer_json(struct api *api, const struct api_exchange *exchange, int status, struct slice body);
void api_answer_json_at(struct api *api, const struct api_exchange *exchange, int status, struct slice body,
                        struct slice location);
void api_answer_text(struct api *api, const struct api_exchange *exchange, const char *content_type, struct slice body);
void api_answer_problem(struct api *api, const struct api_exchange *exchange, const struct problem *problem);
void api_answer_not_allowed(struct api *api, const struct api_exchange *exchange, uint32_t allowed);
/* A problem of that status with a plain text. */
void api_refuse(struct api *api, const struct api_exchange *exchange, int status, const char *detail);
/* The problem that a refusal of a part below means. */
void api_refuse_code(struct api *api, const struct api_exchange *exchange, enum err code, struct slice detail,
                     uint32_t retry_after_s);
/* Begins an event stream; the rest goes through what follows. */
void api_answer_stream(struct api *api, const struct api_exchange *exchange);
/* Sends api->out; or one event, written into api->out. Returns: false when the reader is gone or too slow, or there was no room
 * for the event; the request is then abandoned: its client comes again with the id it has, and misses nothing. */
bool api_stream_out(struct api *api, struct api_request *request);
bool api_stream_event(struct api *api, struct api_request *request, struct slice id, struct slice type,
                      struct slice data);
/* (Re)starts the time to the next comment; the second is the on_timer of whoever streams. */
void api_stream_expect_silence(struct api *api, struct api_request *request);
void api_stream_on_silence(struct api *api, struct api_request *request);
void api_stream_end(struct api *api, struct api_request *request); /* and releases it */

/* Answers 200 (or `status`) with the JSON in api->out; 500 when it did not fit. */
void api_answer_out(struct api *api, const struct api_exchange *exchange, int status);

/* ---- handlers ----------------------------------------------------------------------------------------------------------- */

void api_handle_message(struct api *api, const struct api_call *call); /* api_message.c */
void api_handle_get(struct api *api, const struct api_call *call);     /* api_conversation.c, and so on */
void api_handle_events(struct api *api, const struct api_call *call);
void api_handle_messages(struct api *api, const struct api_call *call);
void api_handle_turn(struct api *api, const struct api_call *call);
void api_handle_handoff(struct api *api, const struct api_call *call);
void api_handle_cancel(struct api *api, const struct api_call *call);
void api_handle_park(struct api *api, const struct api_call *call);
void api_handle_resume(struct api *api, const struct api_call *call);
void api_handle_close(struct api *api, const struct api_call *call);
void api_handle_reopen(struct api *api, const struct api_call *call);
void api_handle_erase(struct api *api, const struct api_call *call);
void api_handle_stream(struct api *api, const struct api_call *call); /* api_stream.c */
void api_handle_list(struct api *api, const struct api_call *call);   /* api_list.c */
void api_handle_live(struct api *api, const struct api_call *call);   /* api_health.c */
void api_handle_ready(struct api *api, const struct api_call *call);
void api_handle_startup(struct api *api, const struct api_call *call);
void api_handle_metrics(struct api *api, const struct api_call *call); /* api_service.c */
void api_handle_openapi(struct api *api, const struct api_call *call);
void api_handle_agents(struct api *api, const struct api_call *call);
void api_handle_agent(struct api *api, const struct api_call *call);
void api_handle_breakers(struct api *api, const struct api_call *call);
void api_handle_dead_letters(struct api *api, const struct api_call *call);

/* The message answer of api.md (api_message.c). */
void api_write_turn(struct buffer *out, struct slice conversation, const struct conv_answer *answer,
                    struct slice trace_id);

#endif
