/* SPDX-License-Identifier: Apache-2.0 */
/* log: one JSON object a line on stderr: {"ts":"…","level":"warn","event":"conn_refused","worker":3,"reason":"accept_cap"}.
 *
 * The layer that decides logs, once; those below return context. Per-message facts are counters (metrics.h), not lines.
 * Values are escaped and cut at 1 KiB with "…" as mark: no input can break a line. A logger thread writes; when the sink is
 * slow, lines are dropped and counted rather than a worker blocked. Before log_start and in simulation lines go out (or into
 * the simulation's log) directly. Disabled levels still compile.
 */
#ifndef CIRANDA_RUNTIME_LOG_H
#define CIRANDA_RUNTIME_LOG_H

#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key; /* literal [a-z_]+ */
    enum { LOG_FIELD_TEXT, LOG_FIELD_INT, LOG_FIELD_UINT, LOG_FIELD_ERR } type;
    struct slice text;
    int64_t number;
};

#define LOG_TEXT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_TEXT, .text = slice_from_text(v)})
#define LOG_SLICE(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_TEXT, .text = (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_INT, .number = (int64_t)(v)})
#define LOG_UINT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_UINT, .number = (int64_t)(uint64_t)(v)})
#define LOG_ERR(code) ((struct log_field){.key = "error", .type = LOG_FIELD_ERR, .number = (int64_t)(code)})

/* Thread: any. LOG(LOG_WARN, "conn_refused", LOG_TEXT("reason", "accept_cap"), LOG_UINT("cap", 4096)); the worker's index is
 * added by itself. `event` is a literal. */
#define LOG(level, event, ...)                                                                                           \
    do {                                                                                                                 \
        if ((level) >= log_get_level()) {                                                                                \
            const struct log_field log_fields_[] = {(struct log_field){0}, ##__VA_ARGS__};                               \
            log_write((level), (event), log_fields_ + 1, sizeof log_fields_ / sizeof log_fields_[0] - 1);                \
        }                                                                                                                \
    } while (0)

enum log_level log_get_level(void);
void log_set_level(enum log_level level);
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count);
MUST_USE enum err log_start(struct error *error); /* the logger thread */
void log_stop(void);                              /* writes out what is queued, within 1 s */
uint64_t log_dropped_count(void);

/* Sends every line (with its newline) to `sink` instead of stderr: the simulation's log, tests. NULL: back to stderr.
 * Thread: none other may log meanwhile. */
typedef void log_sink_fn(void *context, struct slice line);
void log_set_sink(log_sink_fn *sink, void *context);

#endif
