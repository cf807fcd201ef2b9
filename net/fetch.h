/* SPDX-License-Identifier: Apache-2.0 */
/* fetch: outbound HTTP requests of one worker, streamed. Implementations, chosen by the linker: fetch_curl.c (libcurl's multi
 * socket interface polled on the ring) and fetch_sim.c (a scripted provider in the simulation).
 *
 * The process must ignore SIGPIPE: TLS writes to its sockets without MSG_NOSIGNAL.
 *
 * Never follows redirects, ignores proxies of the environment, verifies TLS, http and https only. Retry and breaker are the
 * caller's (runtime/breaker.h): this is one attempt.
 *
 * Invariants: F1 on_done is called exactly once a started fetch, never from inside fetch_start or fetch_cancel. F2 after
 * fetch_cancel no on_data comes, and the socket is really closed before on_done (ERR_CANCELLED). F3 at most
 * response_bytes_max are delivered, then ERR_LIMIT.
 */
#ifndef CIRANDA_NET_FETCH_H
#define CIRANDA_NET_FETCH_H

#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

struct worker;
struct fetch_client;

struct fetch_id {
    uint32_t index, generation;
};

struct fetch_result {
    enum err code; /* OK: a complete response of any status; else ERR_CONNECT, ERR_TIMEOUT, ERR_TLS, ERR_PROTOCOL,
                               ERR_PEER_CLOSED (cut in the middle), ERR_LIMIT, ERR_CANCELLED, ERR_NO_MEMORY */
    int status;    /* 0 when none arrived */
    uint64_t retry_after_ms; /* Retry-After in either form, capped at one hour; 0: none or unusable */
    uint64_t received_bytes;
    char detail[160]; /* for a person: what libcurl said */
};

struct fetch_request {
    const char *method;         /* "GET", "POST" */
    const char *url;            /* copied */
    const char *const *headers; /* "Name: value", NULL-terminated, copied */
    struct slice body;          /* copied */
    /* 0: 10 s (TLS included), 60 s (from there to the first byte of the body), 60 s (between pieces of it), 300 s. */
    uint64_t connect_ns_max, first_byte_ns_max, idle_ns_max, total_ns_max;
    uint64_t response_bytes_max; /* 0: 8 MiB */
    void *context;
    /* A piece of the body, lent for the call; `status` is known from the first one on. May be NULL. */
    void (*on_data)(void *context, struct fetch_id id, int status, struct slice data);
    void (*on_done)(void *context, struct fetch_id id, const struct fetch_result *result);
};

struct fetch_options {
    uint32_t in_flight_max;        /* 0: 16384; above: ERR_LIMIT from fetch_start */
    const char *ca_file;           /* NULL: the system's */
    uint32_t idle_connections_max; /* kept open for reuse; 0: 256 */
};

/* Thread: worker's, all of them. */
MUST_USE enum err fetch_client_create(struct worker *worker, const struct fetch_options *options,
                                      struct fetch_client **ret_client, struct error *error);
/* Cancels all; no callback comes any more. Not from inside a callback of the ring: it steps the ring until its polls have
 * ended. Accepts NULL. */
void fetch_client_destroy(struct fetch_client *client);
/* Returns: ERR_LIMIT, ERR_INVALID (not an http(s) URL), ERR_NO_MEMORY; no callback then. */
MUST_USE enum err fetch_start(struct fetch_client *client, const struct fetch_request *request, struct fetch_id *ret_id,
                              struct error *error);
void fetch_cancel(struct fetch_client *client, struct fetch_id id); /* stale ids are harmless */
uint32_t fetch_in_flight(const struct fetch_client *client);

#endif
