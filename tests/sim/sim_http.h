/* SPDX-License-Identifier: Apache-2.0 */
/* sim_http: a small HTTP/1.1 client over the simulated network, independent of net/: requests go out in order, answers are
 * taken in order. An event stream is read as it comes. */
#ifndef CIRANDA_TESTS_SIM_SIM_HTTP_H
#define CIRANDA_TESTS_SIM_SIM_HTTP_H

#include <stdbool.h>

#include "runtime/buffer.h"
#include "runtime/slice.h"

struct sim_client;

struct sim_http {
    struct sim_client *tcp; /* NULL: not connected */
    struct buffer out, in;
    struct buffer body; /* of the answer being read; an event stream gathers here */
    int status;         /* of that answer; 0: its head has not come */
    long length_left;   /* -1: chunked */
    bool is_chunked, is_stream;
};

struct sim_answer {
    int status;
    struct slice body; /* valid until the next poll */
};

/* Returns: false when nobody listens. */
bool sim_http_open(struct sim_http *http, const char *address);
void sim_http_close(struct sim_http *http); /* accepts a closed one */
void sim_http_reset(struct sim_http *http); /* as close, but the peer sees a reset */
void sim_http_send(struct sim_http *http, const char *method, const char *path, const char *headers, struct slice body);
enum sim_http_event { SIM_HTTP_NOTHING, SIM_HTTP_ANSWER, SIM_HTTP_STREAM, SIM_HTTP_CLOSED };
/* SIM_HTTP_STREAM: more of an event stream is in http->body. Aborts the run on an answer that is no HTTP. */
enum sim_http_event sim_http_poll(struct sim_http *http, struct sim_answer *ret_answer);

#endif
