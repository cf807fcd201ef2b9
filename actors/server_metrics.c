/* SPDX-License-Identifier: Apache-2.0 */
/* server_metrics: one table a source, each row a metric and the field it shows. All are gauges in the registry's sense (a
 * worker sets its own cell, the page shows the sum), also where the number only grows: the part is the counter. */
#include "actors/server_metrics.h"

#include <stddef.h>
#include <stdint.h>

#include "actors/directory.h"
#include "actors/services.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "runtime/metrics.h"
#include "runtime/ring.h"
#include "runtime/worker.h"
#include "storage/journal.h"

struct row {
    const char *name, *help;
    size_t offset;
    size_t size; /* of the field: 4 or 8 */
    struct metric metric;
};

#define ROW(type, field, name_, help_)                                                                                   \
    {                                                                                                                    \
        .name = (name_), .help = (help_), .offset = offsetof(type, field), .size = sizeof(((type *)0)->field)            \
    }

static struct row ring_rows[] = {
    ROW(struct ring_stats, enters, "ring_enters", "io_uring_enter calls"),
    ROW(struct ring_stats, submitted, "ring_submitted", "operations submitted"),
    ROW(struct ring_stats, completed, "ring_completed", "completions reaped"),
    ROW(struct ring_stats, late_completions, "ring_late_completions", "completions of operations that had ended"),
    ROW(struct ring_stats, buffer_shortages, "ring_buffer_shortages", "receives that found no buffer"),
    ROW(struct ring_stats, overflows, "ring_overflows", "completion queue overflows"),
    ROW(struct ring_stats, waiting_starts, "ring_waiting_starts", "times that the submission queue was full"),
};

static struct row worker_rows[] = {
    ROW(struct worker_stats, turns, "worker_turns", "turns of the worker loops"),
    ROW(struct worker_stats, runs, "actor_runs", "times an actor was given its turn"),
    ROW(struct worker_stats, messages, "actor_messages", "messages handled by actors"),
    ROW(struct worker_stats, spawned, "actors_spawned", "actors spawned"),
    ROW(struct worker_stats, ended, "actors_ended", "actors ended"),
    ROW(struct worker_stats, crashes, "actor_crashes", "actors that ended with a failure"),
    ROW(struct worker_stats, activations, "actor_activations", "parked actors made runnable by another worker"),
    ROW(struct worker_stats, wakes, "worker_wakes", "wakes sent to sleeping workers"),
    ROW(struct worker_stats, sleeps, "worker_sleeps", "times a worker blocked in its ring"),
    ROW(struct worker_stats, donations, "actor_donations", "actors handed to an idle worker"),
    ROW(struct worker_stats, dead_letters, "actor_undeliverable", "messages that reached nobody"),
    ROW(struct worker_stats, refusals, "mailbox_refusals", "sends to a full mailbox"),
    ROW(struct worker_stats, pool_misses, "pool_misses", "calls of malloc by the pools: chunks and large blocks"),
    ROW(struct worker_stats, blocks_acquired, "pool_blocks_acquired", "message blocks taken from the pools"),
    ROW(struct worker_stats, blocks_released, "pool_blocks_released", "message blocks given back"),
    ROW(struct worker_stats, foreign_frees, "pool_foreign_frees", "message blocks carried home to another worker"),
};

static struct row http_rows[] = {
    ROW(struct http_server_stats, accepted, "http_accepted", "connections accepted"),
    ROW(struct http_server_stats, requests, "http_requests", "complete requests"),
    ROW(struct http_server_stats, connections, "http_connections", "connections open"),
    ROW(struct http_server_stats, exchanges, "http_exchanges", "requests not yet answered"),
};

static struct row directory_rows[] = {
    ROW(struct directory_stats, known, "conversations_known", "conversations in the index of this process"),
    ROW(struct directory_stats, awake, "conversations_awake", "conversations in memory"),
    ROW(struct directory_stats, wakes, "conversation_wakes", "conversations loaded from the journal"),
    ROW(struct directory_stats, passivations, "conversation_passivations", "conversations that left memory"),
    ROW(struct directory_stats, crashes, "conversation_crashes", "conversation actors that crashed"),
    ROW(struct directory_stats, dead_letters, "dead_letters", "messages given up"),
    ROW(struct directory_stats, turns_running, "turns_running", "turns that wait for a model"),
    ROW(struct directory_stats, turns_queued, "turns_queued", "turns that wait for their conversation"),
};

static struct row journal_rows[] = {
    ROW(struct journal_stats, appends, "journal_appends", "records committed"),
    ROW(struct journal_stats, groups, "journal_groups", "commit groups"),
    ROW(struct journal_stats, flushes, "journal_flushes", "flushes of the write-ahead log"),
    ROW(struct journal_stats, heads, "journal_heads", "rows of heads written"),
    ROW(struct journal_stats, bytes, "journal_bytes", "record bytes committed"),
    ROW(struct journal_stats, full, "journal_full", "appends refused for want of space"),
    ROW(struct journal_stats, loads, "journal_loads", "conversations read for a wake"),
    ROW(struct journal_stats, reads, "journal_reads", "pages read"),
    ROW(struct journal_stats, corrupt, "journal_corrupt", "records that failed their checksum"),
    ROW(struct journal_stats, queued, "journal_queued", "requests waiting for the writer"),
    ROW(struct journal_stats, group_last, "journal_group_last", "records in the last group"),
    ROW(struct journal_stats, commit_ns_total, "journal_commit_ns", "time spent in commits"),
    ROW(struct journal_stats, flush_ns_last, "journal_commit_ns_last", "duration of the last commit"),
    ROW(struct journal_stats, flush_ns_max, "journal_commit_ns_max", "longest commit"),
};

struct memory {
    uint64_t used_bytes, peak_bytes;
};
static struct row memory_rows[] = {
    ROW(struct memory, used_bytes, "message_memory_bytes", "bytes of message pools and accounted blocks"),
    ROW(struct memory, peak_bytes, "message_memory_peak_bytes", "their peak"),
};

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

static void register_rows(struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        rows[i].metric = metrics_register_gauge(rows[i].name, rows[i].help, NULL);
}

static void publish_rows(const struct row *rows, size_t count, const void *stats)
{
    for (size_t i = 0; i < count; i++) {
        const void *field = (const char *)stats + rows[i].offset;
        uint64_t value = rows[i].size == sizeof(uint64_t) ? *(const uint64_t *)field : *(const uint32_t *)field;
        metrics_set(rows[i].metric, (int64_t)value);
    }
}

void server_metrics_register(void)
{
    register_rows(ring_rows, COUNT(ring_rows));
    register_rows(worker_rows, COUNT(worker_rows));
    register_rows(http_rows, COUNT(http_rows));
    register_rows(directory_rows, COUNT(directory_rows));
    register_rows(journal_rows, COUNT(journal_rows));
    register_rows(memory_rows, COUNT(memory_rows));
}

void server_metrics_publish(const struct services *services)
{
    struct ring_stats ring;
    ring_get_stats(worker_ring(services->worker), &ring);
    publish_rows(ring_rows, COUNT(ring_rows), &ring);
    struct worker_stats worker;
    worker_get_stats(services->worker, &worker);
    publish_rows(worker_rows, COUNT(worker_rows), &worker);
    struct http_server_stats http;
    http_server_get_stats(services->http, &http);
    publish_rows(http_rows, COUNT(http_rows), &http);
    struct directory_stats directory;
    directory_get_stats(services, &directory);
    publish_rows(directory_rows, COUNT(directory_rows), &directory);
    if (worker_index(services->worker) != 0)
        return;
    struct journal_stats journal;
    journal_get_stats(services->journal, &journal);
    publish_rows(journal_rows, COUNT(journal_rows), &journal);
    struct memory memory;
    runtime_get_memory(worker_runtime(services->worker), &memory.used_bytes, &memory.peak_bytes);
    publish_rows(memory_rows, COUNT(memory_rows), &memory);
}
