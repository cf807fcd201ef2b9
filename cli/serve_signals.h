/* SPDX-License-Identifier: Apache-2.0 */
/* serve_signals: the signals of a server, taken by one thread that waits for nothing else. No handler runs anywhere: the
 * signals are blocked in every thread, so that code between them need not be async-signal-safe.
 *
 *   SIGTERM, SIGINT   drain; a second one leaves at once, which loses nothing that was acknowledged
 *   SIGHUP            reload: a configuration that does not load is refused, logged and counted, and the old one stays
 *   SIGPIPE           ignored: a peer that is gone is an error of its socket
 *
 * Life: serve_signals_block before the first thread; serve_signals_start; serve_signals_stop before the server is destroyed.
 */
#ifndef CIRANDA_CLI_SERVE_SIGNALS_H
#define CIRANDA_CLI_SERVE_SIGNALS_H

#include <pthread.h>

#include "actors/config/config.h"
#include "runtime/error.h"
#include "runtime/metrics.h"

struct server;

struct serve_signals {
    struct server *server;
    const struct config_flags *flags; /* what a reload loads again */
    struct metric reloads, reload_errors;
    pthread_t thread;
};

void serve_signals_block(void);
MUST_USE enum err serve_signals_start(struct serve_signals *signals, struct server *server,
                                      const struct config_flags *flags, struct error *error);
void serve_signals_stop(struct serve_signals *signals);

#endif
