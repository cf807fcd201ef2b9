/* SPDX-License-Identifier: Apache-2.0 */
/* api: the HTTP routes. One pinned actor a worker: checks requests, sends them to conversations, turns answers into HTTP.
 * The routes are one table (api_routes.c); openapi.json is held against it by a test. */
#ifndef CIRANDA_ACTORS_API_API_H
#define CIRANDA_ACTORS_API_API_H

#include "net/http_server.h"
#include "runtime/error.h"

struct api;
struct services;
struct worker;

/* Thread: worker's. `services` is filled but for http; http_server_create then gets *ret_handler. */
MUST_USE enum err api_start(struct worker *worker, struct services *services, struct api **ret_api,
                            struct http_handler *ret_handler, struct error *error);
void api_destroy(struct api *api); /* accepts NULL */

#endif
