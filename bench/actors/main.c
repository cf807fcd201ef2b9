/* SPDX-License-Identifier: Apache-2.0 */
/* actors: what the runtime alone can do, row by row; nothing here touches a disk or a socket (tier T0).
 * `actors [--json] [--only ROW,...] [--rounds N] [--workers N] [--spin US]` (--spin: before a worker sleeps; default none)
 *
 * A row's result is the median of its rounds; with more than one, lowest and highest are printed too. Rounds of one row follow
 * each other: who compares with peers interleaves the programs (bench/peers have the same rows and options).
 *
 * Rows spawn their actors on worker 0, but for cross_worker_ping; that the other workers get some of them is the runtime's
 * business (donation), as it is Erlang's and CAF's in their versions of the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/actors/bench.h"
#include "runtime/assert.h"
#include "runtime/clock.h"

static const struct bench *const benches[] = {
    &bench_ping_pong,         &bench_counting,    &bench_fork_join_throughput,
    &bench_fork_join_create,  &bench_thread_ring, &bench_big,
    &bench_chameneos,         &bench_fan_in_2,    &bench_fan_in_100,
    &bench_cross_worker_ping, &bench_spawn,       &bench_idle_actor_bytes,
};
enum { BENCH_COUNT = sizeof benches / sizeof benches[0], ROUNDS_MAX = 99 };

static uint64_t began_ns, ended_ns;

/* ---- for the rows ----------------------------------------------------------------------------------------------------- */

_Noreturn static void die(const char *what, const char *text)
{
    fprintf(stderr, "actors: %s: %s\n", what, text);
    exit(1);
}

void bench_finish(struct worker *worker)
{
    ended_ns = clock_mono_ns();
    runtime_stop(worker_runtime(worker));
}

struct actor_id bench_spawn_actor(struct worker *worker, const struct actor_type *type, void *state)
{
    struct actor_id id;
    enum err code = actor_spawn(worker, type, state, NULL, &id);
    if (code != OK)
        die(type->name, err_text(code));
    return id;
}

void bench_pass(struct worker *worker, struct actor_id to, struct msg **msg)
{
    enum err code = actor_send(worker, to, msg);
    if (code != OK)
        die("send", err_text(code));
}

static struct msg *create(struct worker *worker, uint16_t kind, uint64_t left)
{
    struct work *work = MSG_CREATE(worker, struct work, kind, 0);
    if (!work)
        die("send", err_text(ERR_NO_MEMORY));
    work->left = left;
    return &work->msg;
}

void bench_send(struct worker *worker, struct actor_id to, uint16_t kind, uint64_t left)
{
    struct msg *msg = create(worker, kind, left);
    bench_pass(worker, to, &msg);
}

bool bench_try_send(struct worker *worker, struct actor_id to, uint16_t kind, uint64_t left)
{
    struct msg *msg = create(worker, kind, left);
    enum err code = actor_send(worker, to, &msg);
    if (code == ERR_MAILBOX_FULL)
        msg_destroy(worker, &msg);
    else if (code != OK)
        die("send", err_text(code));
    return code == OK;
}

/* ---- runs ------------------------------------------------------------------------------------------------------------- */

struct options {
    bool is_json;
    bool is_wanted[BENCH_COUNT];
    uint32_t rounds;
    uint32_t worker_count; /* 0: one a processor */
    uint32_t spin_us;
};

struct start_task {
    struct worker_task task;
    const struct bench *bench;
};

static void start(struct worker *worker, struct worker_task *task)
{
    const struct bench *bench = container_of(task, struct start_task, task)->bench;
    began_ns = clock_mono_ns(); /* before the first message: a row that crosses workers is on its way at once */
    bench->start(worker);
}

static double run(const struct bench *bench, const struct options *options)
{
    uint32_t worker_count = options->worker_count;
    if (bench->worker_count_min > 1 && worker_count < bench->worker_count_min)
        worker_count = bench->worker_count_min;
    struct runtime_options runtime_options = {.worker_count = worker_count, .spin_us = options->spin_us};
    struct start_task start_task = {.task.run = start, .bench = bench};
    struct runtime *runtime;
    struct error error = {0};
    if (runtime_create(&runtime_options, &runtime, &error) != OK || runtime_start(runtime, &error) != OK)
        die(bench->name, error.text);
    worker_post(runtime_worker(runtime, 0), &start_task.task);
    runtime_join(runtime);
    runtime_destroy(runtime);
    return bench->value ? bench->value() : (double)bench->count * 1e9 / (double)(ended_ns - began_ns);
}

/* Each run is a process of its own: memory that one has made resident would be the next one's head start, and hide what the
 * idle actors take. */
static double run_apart(const struct bench *bench, const struct options *options)
{
    int ends[2];
    pid_t child = pipe(ends) == 0 ? fork() : -1;
    double value;
    if (child == 0) {
        value = run(bench, options);
        _exit(write(ends[1], &value, sizeof value) == sizeof value ? 0 : 1);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0 ||
        read(ends[0], &value, sizeof value) != sizeof value)
        die(bench->name, "its process failed");
    close(ends[0]);
    close(ends[1]);
    return value;
}

/* ---- options and output ----------------------------------------------------------------------------------------------- */

static void usage(void)
{
    fprintf(stderr, "usage: actors [--json] [--only ROW,...] [--rounds N] [--workers N] [--spin US]\nrows:");
    for (size_t i = 0; i < BENCH_COUNT; i++)
        fprintf(stderr, " %s", benches[i]->name);
    fprintf(stderr, "\n");
    exit(2);
}

static void want(struct options *options, const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < BENCH_COUNT; i++) {
        if (strlen(benches[i]->name) == name_bytes && memcmp(benches[i]->name, name, name_bytes) == 0) {
            options->is_wanted[i] = true;
            return;
        }
    }
    usage();
}

static void want_list(struct options *options, const char *names)
{
    memset(options->is_wanted, false, sizeof options->is_wanted);
    for (size_t bytes;; names += bytes + 1) {
        bytes = strcspn(names, ",");
        want(options, names, bytes);
        if (!names[bytes])
            return;
    }
}

static uint32_t number(const char *text, uint32_t max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || value < 1 || value > max)
        usage();
    return (uint32_t)value;
}

static struct options parse_options(int argc, char **argv)
{
    struct options options = {.rounds = 1};
    memset(options.is_wanted, true, sizeof options.is_wanted);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            options.is_json = true;
        else if (i + 1 == argc)
            usage();
        else if (strcmp(argv[i], "--only") == 0)
            want_list(&options, argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0)
            options.rounds = number(argv[++i], ROUNDS_MAX);
        else if (strcmp(argv[i], "--workers") == 0)
            options.worker_count = number(argv[++i], 64);
        else if (strcmp(argv[i], "--spin") == 0)
            options.spin_us = number(argv[++i], 1000000);
        else
            usage();
    }
    return options;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const struct bench *bench, const struct options *options, double values[])
{
    uint32_t rounds = options->rounds;
    qsort(values, rounds, sizeof values[0], compare);
    double median = (values[(rounds - 1) / 2] + values[rounds / 2]) / 2;
    if (!options->is_json) {
        printf("%-22s %12.0f %-10s", bench->name, median, bench->unit);
        if (rounds > 1)
            printf(" (%.0f to %.0f in %u rounds)", values[0], values[rounds - 1], rounds);
        printf("\n");
    } else {
        printf("{\"bench\":\"%s\",\"rate\":%.0f,\"unit\":\"%s\"", bench->name, median, bench->unit);
        if (rounds > 1)
            printf(",\"lowest\":%.0f,\"highest\":%.0f,\"rounds\":%u", values[0], values[rounds - 1], rounds);
        printf("}\n");
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv);
    for (size_t i = 0; i < BENCH_COUNT; i++) {
        const struct bench *bench = benches[i];
        if (!options.is_wanted[i])
            continue;
        double values[ROUNDS_MAX];
        for (uint32_t round = 0; round < options.rounds; round++)
            values[round] = run_apart(bench, &options);
        print(bench, &options, values);
    }
    return 0;
}
