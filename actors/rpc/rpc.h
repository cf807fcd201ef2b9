/* SPDX-License-Identifier: Apache-2.0 */
/* rpc: the methods of MessagePack-RPC (docs/RPC.md). One pinned actor a worker: checks params, sends to conversations, turns
 * their answers into frames. The same questions as the HTTP routes ask, judged by the same code (actors/api/message_input.h).
 * The methods are one table (rpc.c). */
#ifndef CIRANDA_ACTORS_RPC_RPC_H
#define CIRANDA_ACTORS_RPC_RPC_H

#include "net/rpc_server.h"
#include "runtime/error.h"

struct rpc;
struct services;
struct worker;

/* Thread: worker's. `services` is filled but for rpc_server; rpc_server_create then gets *ret_handler. */
MUST_USE enum err rpc_start(struct worker *worker, struct services *services, struct rpc **ret_rpc,
                            struct rpc_handler *ret_handler, struct error *error);
void rpc_destroy(struct rpc *rpc); /* accepts NULL */

#endif
