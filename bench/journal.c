/* SPDX-License-Identifier: Apache-2.0 */
/* bench/journal: durable appends a second at several group sizes, beside a bare pwrite + fdatasync of the same bytes.
 *
 *   journal [directory [seconds_per_row]]       one JSON line a group size on stdout
 *
 * 300-byte records, random key of 100,000, every commit flushed. One thread steps worker, writer and reader in turn, so that a
 * group has exactly the stated size and the processor time is that of the whole way: message, commit, answer. `ratio` is
 * against the bare loop in the same run; `cpu_us` is user and system time an append, the flush's own included.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/worker.h"
#include "storage/journal.h"

enum { KEYS = 100000, RECORD_BYTES = 300, GROUP_MAX = 4096 };

struct bench {
    struct runtime *runtime;
    struct worker *worker;
    struct journal *journal;
    struct actor_id actor;
    struct journal_head *heads;
    char (*keys)[24];
    uint8_t *pending; /* appends of the key in the group at work */
    uint64_t random;
    uint64_t answered, refused;
    char data[RECORD_BYTES];
};

struct group_task {
    struct worker_task task;
    struct bench *bench;
    uint32_t count;
    bool is_done;
};

static uint32_t draw(struct bench *bench, uint32_t bound)
{
    bench->random = bench->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(bench->random >> 33) % bound;
}

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct bench *bench = context->state;
    const struct journal_append *append = container_of(*msg, struct journal_append, msg);
    bench->pending[append->head - bench->heads] = 0;
    bench->refused += append->result != OK;
    bench->answered++;
    return OK;
}

static const struct actor_type bench_type = {.name = "bench", .on_message = on_message, .is_pinned = true};

static void run_spawn(struct worker *worker, struct worker_task *task)
{
    struct group_task *spawn = container_of(task, struct group_task, task);
    struct bench *bench = spawn->bench;
    ASSERT(actor_spawn(worker, &bench_type, bench, &(struct actor_options){0}, &bench->actor) == OK);
    spawn->is_done = true;
}

static void submit_one(struct worker *worker, struct bench *bench)
{
    uint32_t key = draw(bench, KEYS);
    struct journal_append *append =
        MSG_CREATE(worker, struct journal_append, MSG_JOURNAL_APPEND, MSG_URGENT | MSG_CONTROL);
    ASSERT(append);
    append->msg.to = bench->actor;
    append->key = slice_from_text(bench->keys[key]);
    append->head = &bench->heads[key];
    append->expected_version = bench->heads[key].version + bench->pending[key]++;
    append->event_count = 1;
    append->summary =
        (struct journal_summary){.status = 1, .messages = 1, .created_ms = 1, .updated_ms = 2, .owner = "bot"};
    append->data = slice_of(bench->data, RECORD_BYTES);
    journal_submit_append(bench->journal, append);
}

static void run_group(struct worker *worker, struct worker_task *task)
{
    struct group_task *group = container_of(task, struct group_task, task);
    for (uint32_t i = 0; i < group->count; i++)
        submit_one(worker, group->bench);
    group->is_done = true;
}

static void run_task(struct bench *bench, void (*run)(struct worker *worker, struct worker_task *task), uint32_t count)
{
    struct group_task group = {.task.run = run, .bench = bench, .count = count};
    worker_post(bench->worker, &group.task);
    while (!group.is_done)
        (void)worker_step(bench->worker);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Appends a second of one pwrite and one fdatasync for each `group` records. */
static double run_bare(const char *directory, uint32_t group, double seconds)
{
    static char bytes[GROUP_MAX * RECORD_BYTES];
    char path[4096];
    snprintf(path, sizeof path, "%s/bare", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ASSERT(fd >= 0);
    uint64_t began_ns = clock_mono_ns(), count = 0;
    off_t at = 0;
    do {
        ssize_t size = (ssize_t)(group * RECORD_BYTES);
        ASSERT(pwrite(fd, bytes, (size_t)size, at) == size && fdatasync(fd) == 0);
        at += size;
        count += group;
    } while ((double)(clock_mono_ns() - began_ns) < seconds * 1e9);
    double rate = (double)count * 1e9 / (double)(clock_mono_ns() - began_ns);
    close(fd);
    unlink(path);
    return rate;
}

static void run_row(struct bench *bench, const char *directory, uint32_t group, double seconds)
{
    double bare = run_bare(directory, group, seconds / 2);
    struct journal_stats before, after;
    journal_get_stats(bench->journal, &before);
    uint64_t began_ns = clock_mono_ns(), groups = 0, slowest_ns = 0;
    double began_cpu = cpu_seconds();
    do {
        uint64_t group_ns = clock_mono_ns(), target = bench->answered + group;
        run_task(bench, run_group, group);
        while (bench->answered < target) {
            (void)journal_write_step(bench->journal);
            (void)worker_step(bench->worker);
        }
        group_ns = clock_mono_ns() - group_ns;
        slowest_ns = group_ns > slowest_ns ? group_ns : slowest_ns;
        groups++;
    } while ((double)(clock_mono_ns() - began_ns) < seconds * 1e9);
    double elapsed = (double)(clock_mono_ns() - began_ns) / 1e9, cpu = cpu_seconds() - began_cpu;
    double count = (double)groups * group, rate = count / elapsed;
    journal_get_stats(bench->journal, &after);
    ASSERT(bench->refused == 0 && after.appends - before.appends == groups * group);
    printf(
        "{\"bench\":\"journal\",\"group\":%u,\"appends_per_s\":%.0f,\"bare_per_s\":%.0f,\"ratio\":%.2f,\"cpu_us\":%.2f,"
        "\"commit_us\":%.0f,\"slowest_group_ms\":%.1f,\"flushes_per_group\":%.2f}\n",
        group, rate, bare, rate / bare, cpu * 1e6 / count,
        (double)(after.commit_ns_total - before.commit_ns_total) / 1e3 / (double)(after.flushes - before.flushes),
        (double)slowest_ns / 1e6, (double)(after.flushes - before.flushes) / (double)groups);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : "bench-journal";
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 3;
    struct error error = {0};
    struct bench bench = {.random = 1};
    bench.heads = calloc(KEYS, sizeof *bench.heads);
    bench.keys = calloc(KEYS, sizeof *bench.keys);
    bench.pending = calloc(KEYS, sizeof *bench.pending);
    ASSERT(bench.heads && bench.keys && bench.pending);
    memset(bench.data, 'd', sizeof bench.data);
    for (uint32_t i = 0; i < KEYS; i++)
        snprintf(bench.keys[i], sizeof bench.keys[i], "bench/%08x", i * UINT32_C(2654435761));
    log_set_level(LOG_WARN);
    struct runtime_options runtime_options = {.worker_count = 1};
    struct journal_options journal_options = {.directory = directory};
    if (runtime_create(&runtime_options, &bench.runtime, &error) != OK)
        goto failed;
    bench.worker = runtime_worker(bench.runtime, 0);
    if (worker_start(bench.worker, &error) != OK ||
        journal_open(&journal_options, bench.runtime, &bench.journal, &error) != OK)
        goto failed;
    run_task(&bench, run_spawn, 0);
    /* A directory that was used before has heads of its own; the bench wants to begin at nothing. */
    struct journal_stats stats;
    journal_get_stats(bench.journal, &stats);
    if (stats.last_offset != 0) {
        fprintf(stderr, "%s is not empty\n", directory);
        return 1;
    }
    const uint32_t groups[] = {1, 10, 64, 1000};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        run_row(&bench, directory, groups[i], seconds);
    journal_close(bench.journal);
    runtime_destroy(bench.runtime);
    free(bench.heads);
    free(bench.keys);
    free(bench.pending);
    return 0;
failed:
    fprintf(stderr, "%s\n", error.text);
    return 1;
}
