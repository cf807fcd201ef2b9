/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: counters, gauges and histograms with one cell a worker, so that an update is a plain store to an own cache line.
 *
 * Life: metrics_register_x at start (before workers run); metrics_add / metrics_set / metrics_observe from a worker (cell =
 * worker index) or another thread (the extra cell, atomic add); metrics_write_text gathers all cells, Prometheus text
 * format 0.0.4. Label sets are fixed at registration: no tenant, no conversation, nothing a client can choose.
 */
#ifndef CIRANDA_RUNTIME_METRICS_H
#define CIRANDA_RUNTIME_METRICS_H

#include <stdint.h>

struct buffer;

struct metric {
    uint32_t index;
}; /* registered; {0} is valid and ignored */

/* `name` without the prefix ciranda_; `labels` is `route="…",status="…"` or NULL. Same name and labels: the same metric.
 * Thread: start-up. Aborts when the table (1,024) is full: sizes are known at build time. */
struct metric metrics_register_counter(const char *name, const char *help, const char *labels);
struct metric metrics_register_gauge(const char *name, const char *help, const char *labels);
/* Buckets in seconds from 1 us to 100 s, logarithmic (1, 2, 5). */
struct metric metrics_register_histogram(const char *name, const char *help, const char *labels);

/* Thread: any. */
void metrics_add(struct metric metric, uint64_t amount);
void metrics_set(struct metric metric, int64_t value); /* gauge: the sum over the workers' cells is shown */
void metrics_observe_ns(struct metric metric, uint64_t ns);
void metrics_write_text(struct buffer *out);
/* Resident memory, descriptors, processor time and uptime since `start_ns` (clock_mono_ns). Reads /proc: some 100 us. */
void metrics_write_process(struct buffer *out, uint64_t start_ns);
uint64_t metrics_read(struct metric metric); /* sum of cells; tests */
void metrics_reset(void);                    /* simulation: a new server in the same process */

#endif
