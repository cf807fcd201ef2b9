/* SPDX-License-Identifier: Apache-2.0 */
/* bench/journal: durable appends a second at several group sizes, beside a raw loop of pwrite + fdatasync of the same bytes.
 *
 *   journal [--directory D] [--keys N] [--groups 1,8,64,1000] [--seconds S] [--rounds R] [--json] [--marks]
 *
 * Records of 300 bytes, each to a random key of 100,000 that all have records already. The journal does all that it does in a
 * server: its own two threads, flushed commits, checksums, chains, sweeps of the heads, checkpoints. Before the first round
 * comes a whole tail of records (journal_options.tail_records_max), so that sweeps are in their steady state; they come in
 * bursts, half a million records apart, so that a row of small groups or few seconds may have none: heads written and flushes
 * are told with each. An actor keeps two groups in flight, one being committed and one gathering, as load does;
 * group_count_max bounds the group. The raw loop overwrites a file that has its size already, which is the least that a disk
 * can be asked for. Rounds of both take turns; a rate is the median over the rounds, a ratio the median of each round's.
 *
 * With --marks each measured phase is framed by two lines on stderr, so that who traces system calls knows which of them belong to
 * the flushes told of its row (bench/rows/journal.py).
 *
 * Processor time is the whole process's, user and system: message, commit, flush, answer. */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/worker.h"
#include "storage/journal.h"

enum {
    RECORD_BYTES = 300,
    GROUP_MAX = 4096,
    GROUPS_MAX = 8,
    ROUNDS_MAX = 32,
    KEYS_DEFAULT = 100000,
    TAIL_RECORDS = 1000000, /* journal_options.tail_records_max by default */
    RAW_FILE_BYTES = 64 << 20,
};

struct options {
    const char *directory;
    uint32_t keys, groups[GROUPS_MAX], group_count, rounds;
    double seconds;
    bool is_json, has_marks;
};

struct bench {
    struct options options;
    struct runtime *runtime;
    struct journal *journal;
    struct actor_id actor;
    struct journal_head *heads;
    char (*keys)[24];
    uint8_t *pending; /* appends in flight, a key */
    uint64_t random;
    char data[RECORD_BYTES];
    /* the round at work; the worker's */
    uint32_t window, in_flight, next_key; /* next_key < keys: the keys in turn, each its first record */
    uint64_t deadline_ns, count_max, submitted, answered;
    sem_t is_done;
};

struct task {
    struct worker_task task;
    struct bench *bench;
};

struct row {
    double rates[ROUNDS_MAX], raw_rates[ROUNDS_MAX], ratios[ROUNDS_MAX];
    double cpu_s, commit_s, elapsed_s;
    uint64_t records, flushes, heads;
};

/* ---- the actor that appends --------------------------------------------------------------------------------------------- */

static uint32_t draw_key(struct bench *bench)
{
    if (bench->next_key < bench->options.keys)
        return bench->next_key++;
    bench->random = bench->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(bench->random >> 33) % bench->options.keys;
}

static void submit_one(struct worker *worker, struct bench *bench)
{
    uint32_t key = draw_key(bench);
    while (bench->pending[key]) /* its lent head is the journal's now */
        key = draw_key(bench);
    struct journal_append *append =
        MSG_CREATE(worker, struct journal_append, MSG_JOURNAL_APPEND, MSG_URGENT | MSG_CONTROL);
    ASSERT(append);
    append->msg.to = bench->actor;
    append->key = slice_from_text(bench->keys[key]);
    append->head = &bench->heads[key];
    append->expected_version = bench->heads[key].version;
    append->event_count = 1;
    append->summary =
        (struct journal_summary){.status = 1, .messages = 1, .created_ms = 1763600000000, .updated_ms = 1763600000001};
    memcpy(append->summary.owner, "bot", 4);
    append->data = slice_of(bench->data, RECORD_BYTES);
    bench->pending[key] = 1;
    bench->in_flight++;
    bench->submitted++;
    journal_submit_append(bench->journal, append);
}

static bool wants_more(const struct bench *bench)
{
    return bench->submitted < bench->count_max && clock_mono_ns() < bench->deadline_ns;
}

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct bench *bench = context->state;
    const struct journal_append *append = container_of(*msg, struct journal_append, msg);
    ASSERT(append->result == OK);
    bench->pending[append->head - bench->heads] = 0;
    bench->answered++;
    bench->in_flight--;
    if (wants_more(bench))
        submit_one(context->worker, bench);
    else if (bench->in_flight == 0)
        sem_post(&bench->is_done);
    return OK;
}

static const struct actor_type bench_type = {.name = "bench", .on_message = on_message, .is_pinned = true};

static void run_spawn(struct worker *worker, struct worker_task *task)
{
    struct bench *bench = container_of(task, struct task, task)->bench;
    ASSERT(actor_spawn(worker, &bench_type, bench, &(struct actor_options){0}, &bench->actor) == OK);
    sem_post(&bench->is_done);
}

static void run_round(struct worker *worker, struct worker_task *task)
{
    struct bench *bench = container_of(task, struct task, task)->bench;
    for (uint32_t i = 0; i < bench->window; i++)
        submit_one(worker, bench);
}

static void run_on_worker(struct bench *bench, void (*run)(struct worker *worker, struct worker_task *task))
{
    struct task task = {.task.run = run, .bench = bench};
    worker_post(runtime_worker(bench->runtime, 0), &task.task);
    while (sem_wait(&bench->is_done) != 0)
        ;
}

/* ---- rounds ------------------------------------------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double seconds_since(uint64_t began_ns)
{
    return (double)(clock_mono_ns() - began_ns) / 1e9;
}

static void open_journal(struct bench *bench, uint32_t group)
{
    struct journal_options options = {.directory = bench->options.directory, .group_count_max = group};
    struct error error = {0};
    if (journal_open(&options, bench->runtime, &bench->journal, &error) != OK ||
        journal_start(bench->journal, &error) != OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

static void append_for(struct bench *bench, uint32_t group, double seconds, uint64_t count_max)
{
    bench->window = 2 * group;
    bench->deadline_ns = clock_mono_ns() + (uint64_t)(seconds * 1e9);
    bench->count_max = count_max;
    bench->submitted = bench->answered = 0;
    run_on_worker(bench, run_round);
}

/* Records a second of one pwrite and one fdatasync for each `group` records. */
static double run_raw(const struct bench *bench, uint32_t group, double seconds)
{
    static char bytes[GROUP_MAX * RECORD_BYTES];
    char path[4096];
    snprintf(path, sizeof path, "%s.raw", bench->options.directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ASSERT(fd >= 0);
    for (off_t at = 0; at < RAW_FILE_BYTES; at += (off_t)sizeof bytes)
        ASSERT(pwrite(fd, bytes, sizeof bytes, at) == (ssize_t)sizeof bytes);
    ASSERT(fsync(fd) == 0);
    uint64_t count = 0, began_ns = clock_mono_ns();
    ssize_t size = (ssize_t)(group * RECORD_BYTES);
    off_t at = 0;
    do {
        ASSERT(pwrite(fd, bytes, (size_t)size, at) == size && fdatasync(fd) == 0);
        at = at + 2 * size < RAW_FILE_BYTES ? at + size : 0;
        count += group;
    } while (seconds_since(began_ns) < seconds);
    double rate = (double)count / seconds_since(began_ns);
    close(fd);
    unlink(path);
    return rate;
}

static void mark(const struct bench *bench, const char *what, uint32_t group)
{
    if (bench->options.has_marks)
        fprintf(stderr, "%s group %u\n", what, group);
}

static void run_row(struct bench *bench, uint32_t group, uint32_t round, struct row *row)
{
    struct journal_stats before, after;
    double raw_rate = run_raw(bench, group, bench->options.seconds / 2);
    open_journal(bench, group);
    append_for(bench, group, 0.1, UINT64_MAX); /* what an opened journal finds out once */
    mark(bench, "measuring", group);
    journal_get_stats(bench->journal, &before);
    double began_cpu = cpu_seconds();
    uint64_t began_ns = clock_mono_ns();
    append_for(bench, group, bench->options.seconds, UINT64_MAX);
    double elapsed_s = seconds_since(began_ns);
    journal_get_stats(bench->journal, &after);
    mark(bench, "measured", group);
    ASSERT(after.appends - before.appends == bench->answered);
    row->cpu_s += cpu_seconds() - began_cpu;
    row->elapsed_s += elapsed_s;
    row->commit_s += (double)(after.commit_ns_total - before.commit_ns_total) / 1e9;
    row->records += bench->answered;
    row->flushes += after.flushes - before.flushes;
    row->heads += after.heads - before.heads;
    row->rates[round] = (double)bench->answered / elapsed_s;
    row->raw_rates[round] = raw_rate;
    row->ratios[round] = row->rates[round] / raw_rate;
    journal_abandon(bench->journal); /* the next start has a tail again, as after a crash */
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void print_row(const struct options *options, uint32_t group, struct row *row)
{
    double records = (double)row->records, rate = median(row->rates, options->rounds),
           raw_rate = median(row->raw_rates, options->rounds), ratio = median(row->ratios, options->rounds);
    const char *format =
        options->is_json
            ? "{\"bench\":\"journal_append_%u\",\"rate\":%.0f,\"unit\":\"records/s\",\"raw_rate\":%.0f,\"ratio\":%.3f,"
              "\"ratio_min\":%.3f,\"ratio_max\":%.3f,\"flushes\":%" PRIu64 ",\"records_per_flush\":%.1f,"
              "\"commit_us\":%.0f,\"cpu_us_per_record\":%.2f,\"heads_per_record\":%.3f,\"keys\":%u,\"tier\":\"durable\"}"
              "\n"
            : "group %4u: %8.0f records/s, raw %8.0f, ratio %.3f (%.3f to %.3f), %" PRIu64
              " flushes of %.1f, %.0f us a commit, %.2f us cpu and %.3f heads a record, %u keys\n";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of the two above */
    printf(format, group, rate, raw_rate, ratio, row->ratios[0], row->ratios[options->rounds - 1], row->flushes,
           records / (double)row->flushes, row->commit_s * 1e6 / (double)row->flushes, row->cpu_s * 1e6 / records,
           (double)row->heads / records, options->keys);
#pragma GCC diagnostic pop
    fflush(stdout);
}

/* ---- start -------------------------------------------------------------------------------------------------------------- */

static bool parse_groups(char *text, struct options *options)
{
    options->group_count = 0;
    for (char *rest = NULL, *one = strtok_r(text, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        unsigned long group = strtoul(one, NULL, 10);
        if (group == 0 || group > GROUP_MAX || options->group_count == GROUPS_MAX)
            return false;
        options->groups[options->group_count++] = (uint32_t)group;
    }
    return options->group_count > 0;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {{"directory", 1, NULL, 'd'}, {"keys", 1, NULL, 'k'},   {"groups", 1, NULL, 'g'},
                                          {"seconds", 1, NULL, 's'},   {"rounds", 1, NULL, 'r'}, {"json", 0, NULL, 'j'},
                                          {"marks", 0, NULL, 'm'},     {NULL, 0, NULL, 0}};
    *options = (struct options){.directory = "bench-journal",
                                .keys = KEYS_DEFAULT,
                                .groups = {1, 8, 64, 1000},
                                .group_count = 4,
                                .rounds = 3,
                                .seconds = 4};
    for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (name) {
        case 'd': options->directory = optarg; break;
        case 'k': options->keys = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'g':
            if (!parse_groups(optarg, options))
                return false;
            break;
        case 's': options->seconds = strtod(optarg, NULL); break;
        case 'r': options->rounds = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'j': options->is_json = true; break;
        case 'm': options->has_marks = true; break;
        default: return false;
        }
    }
    return options->keys >= 4 * GROUP_MAX && options->rounds >= 1 && options->rounds <= ROUNDS_MAX &&
           options->seconds > 0;
}

static void fill(struct bench *bench)
{
    open_journal(bench, GROUP_MAX);
    /* A directory that was used before has heads that this process knows nothing of. */
    struct journal_stats stats;
    journal_get_stats(bench->journal, &stats);
    if (stats.last_offset != 0) {
        fprintf(stderr, "%s is not empty\n", bench->options.directory);
        exit(1);
    }
    run_on_worker(bench, run_spawn);
    append_for(bench, GROUP_MAX, 1e6, bench->options.keys + TAIL_RECORDS);
    journal_abandon(bench->journal);
}

int main(int argc, char **argv)
{
    struct bench bench = {.random = 1};
    if (!parse_options(argc, argv, &bench.options)) {
        fprintf(stderr,
                "usage: journal [--directory D] [--keys N >= %d] [--groups 1,8,64,1000] [--seconds S] [--rounds R] "
                "[--json] [--marks]\n",
                4 * GROUP_MAX);
        return 2;
    }
    uint32_t keys = bench.options.keys;
    bench.heads = calloc(keys, sizeof *bench.heads);
    bench.keys = calloc(keys, sizeof *bench.keys);
    bench.pending = calloc(keys, sizeof *bench.pending);
    ASSERT(bench.heads && bench.keys && bench.pending && sem_init(&bench.is_done, 0, 0) == 0);
    memset(bench.data, 'd', sizeof bench.data);
    for (uint32_t i = 0; i < keys; i++)
        snprintf(bench.keys[i], sizeof bench.keys[i], "bench/%08x", i * UINT32_C(2654435761));
    log_set_level(LOG_WARN);
    struct runtime_options runtime_options = {.worker_count = 1};
    struct error error = {0};
    if (runtime_create(&runtime_options, &bench.runtime, &error) != OK || runtime_start(bench.runtime, &error) != OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    fill(&bench);
    static struct row rows[GROUPS_MAX];
    for (uint32_t round = 0; round < bench.options.rounds; round++)
        for (uint32_t i = 0; i < bench.options.group_count; i++)
            run_row(&bench, bench.options.groups[i], round, &rows[i]);
    for (uint32_t i = 0; i < bench.options.group_count; i++)
        print_row(&bench.options, bench.options.groups[i], &rows[i]);
    runtime_stop(bench.runtime);
    runtime_join(bench.runtime);
    runtime_destroy(bench.runtime);
    free(bench.heads);
    free(bench.keys);
    free(bench.pending);
    return 0;
}
