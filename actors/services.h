/* SPDX-License-Identifier: Apache-2.0 */
/* services: what one worker's product parts share: worker_user(worker) points to it. Made by server.c, owner worker only but
 * for the process-wide pointers, which are fixed after start. */
#ifndef CIRANDA_ACTORS_SERVICES_H
#define CIRANDA_ACTORS_SERVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/msg.h"

struct api;
struct config;
struct directory;
struct fetch_client;
struct http_server;
struct journal;
struct limits;
struct providers;
struct rpc;
struct rpc_server;
struct server;
struct worker;

struct services {
    /* process-wide, fixed after start */
    struct server *server;
    struct journal *journal;
    struct limits *limits;
    struct providers *providers;        /* llm/provider.h: breakers and permits */
    const struct actor_id *directories; /* one a worker */
    struct actor_id dead_letters;
    uint32_t records_waiting_max; /* admission.h; 0: the usual */
    /* this worker's */
    struct worker *worker;
    struct config *config; /* the present one; a turn that began keeps a reference to its own */
    struct fetch_client *fetch;
    struct directory *directory;
    struct http_server *http;
    struct api *api;
    struct rpc_server *rpc_server;
    struct rpc *rpc;
    bool is_draining;
};

#endif
