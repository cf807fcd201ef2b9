/* SPDX-License-Identifier: Apache-2.0 */
/* serve_signals: sigwait in a loop. A storm of one signal is one signal: the kernel keeps at most one of a kind pending. */
#include "cli/serve_signals.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "actors/server.h"
#include "cli/command.h"
#include "runtime/log.h"

static const int stop_signal = SIGUSR1; /* ours: serve_signals_stop */

static sigset_t signal_set(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaddset(&set, signals[i]);
    return set;
}

void serve_signals_block(void)
{
    sigset_t set = signal_set();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void reload(struct serve_signals *signals)
{
    struct config *config;
    struct error error = {0};
    if (config_load(signals->flags, &config, &error) != OK) {
        metrics_add(signals->reload_errors, 1);
        LOG(LOG_ERROR, "reload_refused", LOG_TEXT("detail", error.text));
        return;
    }
    server_reload(signals->server, config);
    config_unref(config);
    metrics_add(signals->reloads, 1);
    LOG(LOG_INFO, "reloaded");
}

static void *wait_for_signals(void *context)
{
    struct serve_signals *signals = context;
    sigset_t set = signal_set();
    bool is_draining = false;
    for (;;) {
        int number;
        if (sigwait(&set, &number) != 0)
            continue;
        if (number == stop_signal)
            return NULL;
        if (number == SIGHUP) {
            reload(signals);
            continue;
        }
        if (is_draining) {
            LOG(LOG_WARN, "leaving_at_once", LOG_TEXT("signal", strsignal(number)));
            log_stop();
            _exit(COMMAND_FAILED); /* not drained; the journal holds whatever was acknowledged */
        }
        is_draining = true;
        LOG(LOG_INFO, "draining", LOG_TEXT("signal", strsignal(number)));
        server_drain(signals->server);
    }
}

enum err serve_signals_start(struct serve_signals *signals, struct server *server, const struct config_flags *flags,
                             struct error *error)
{
    signals->server = server;
    signals->flags = flags;
    signals->reloads = metrics_register_counter("config_reloads_total", "Configurations taken by a reload", NULL);
    signals->reload_errors =
        metrics_register_counter("config_reload_errors_total", "Reloads refused; the old configuration stayed", NULL);
    int code = pthread_create(&signals->thread, NULL, wait_for_signals, signals);
    return code == 0 ? OK : error_set_errno(error, ERR_SYSTEM, code, "start the signal thread");
}

void serve_signals_stop(struct serve_signals *signals)
{
    pthread_kill(signals->thread, stop_signal);
    pthread_join(signals->thread, NULL);
}
