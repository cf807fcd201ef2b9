/* SPDX-License-Identifier: Apache-2.0 */
/* server: the whole of Ciranda in one object, for the command line, for tests and for the simulation.
 *
 * Life: server_create opens the journal and makes the workers; server_start runs them (or, in a simulation, server_step is
 * called again and again); server_drain asks for the orderly end; server_join waits for it; server_destroy.
 */
#ifndef CIRANDA_ACTORS_SERVER_H
#define CIRANDA_ACTORS_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

struct config;
struct server;

struct server_options {
    struct config *config;             /* a reference is taken */
    const char *journal_vfs;           /* NULL; the simulation's SQLite VFS */
    uint64_t message_memory_bytes_max; /* 0: from the configuration */
    uint32_t records_waiting_max;      /* 0: admission.h's; the simulation takes few */
};

MUST_USE enum err server_create(const struct server_options *options, struct server **ret_server, struct error *error);
MUST_USE enum err server_start(struct server *server, struct error *error);
/* After start: the bound addresses ("" when there is no such listener). */
const char *server_http_address(const struct server *server);
const char *server_rpc_address(const struct server *server);
/* Thread: any. Stop accepting, finish or leave resumable what runs, flush, leave: within server.drain at most. */
void server_drain(struct server *server);
/* Thread: any. Takes a reference; running turns keep the old one. */
void server_reload(struct server *server, struct config *config);
/* Blocks until drained or failed. Returns: OK, or ERR_STORAGE_FAILED when the journal stopped the process. */
MUST_USE enum err server_join(struct server *server);
void server_destroy(struct server *server); /* in any state; accepts NULL */

/* Simulation: start without threads, then turns of one part at a time. */
MUST_USE enum err server_start_stepped(struct server *server, struct error *error);
uint32_t server_part_count(const struct server *server);     /* workers, then journal writer, then reader */
bool server_step_part(struct server *server, uint32_t part); /* did it do something? */
uint64_t server_part_deadline_ns(const struct server *server, uint32_t part); /* UINT64_MAX: none */
void server_check(const struct server *server, bool is_at_rest);              /* runtime_check */
bool server_is_drained(const struct server *server); /* the workers were told to leave: server_destroy is next */
/* As a crash: nothing is flushed, nothing finished. */
void server_abandon(struct server *server);

#endif
