/* SPDX-License-Identifier: Apache-2.0 */
/* server_metrics: copies the numbers that parts keep for themselves (ring, worker, HTTP, journal, directory) into the metrics
 * registry, a few times a second, so that no part has to count twice. */
#ifndef CIRANDA_ACTORS_SERVER_METRICS_H
#define CIRANDA_ACTORS_SERVER_METRICS_H

struct services;

/* Thread: start-up, before the workers run. */
void server_metrics_register(void);
/* Thread: the services' worker. Process-wide numbers are published by worker 0. */
void server_metrics_publish(const struct services *services);

#endif
