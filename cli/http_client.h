/* SPDX-License-Identifier: Apache-2.0 */
/* http_client: requests of the command line to a running server, one after the other, over libcurl's easy interface. Not for
 * the server itself, which has net/fetch.h. Proxies of the environment are ignored: the server is near. */
#ifndef CIRANDA_CLI_HTTP_CLIENT_H
#define CIRANDA_CLI_HTTP_CLIENT_H

#include <stdbool.h>

#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/slice.h"

struct http_client;

MUST_USE enum err http_client_create(const char *server_address, struct http_client **ret_client, struct error *error);
void http_client_destroy(struct http_client *client); /* accepts NULL */

/* GET `path`, or POST it with a JSON body; `accept` names the type wanted. A good answer (2xx) of that type goes to on_data
 * piece by piece, anything else into `error` as the problem's detail. Returns: ERR_CONNECT, ERR_PEER_CLOSED, ERR_NOT_FOUND
 * (404), ERR_INVALID (another refusal), ERR_CANCELLED (on_data said no). */
struct http_call {
    const char *path;
    const char *accept;
    struct slice body; /* empty: GET */
    void *context;
    bool (*on_data)(void *context, struct slice data);
};
MUST_USE enum err http_client_run(struct http_client *client, const struct http_call *call, struct error *error);

/* A path segment: "a b" -> "a%20b". */
void http_client_write_segment(struct buffer *out, const char *text);

#endif
