/* SPDX-License-Identifier: Apache-2.0 */
/* bench of net/fetch: N streams at once from one worker against a model server (fake_model), each begun again when it ends;
 * prints pieces a second, the processor time of a piece, and the memory of a stream.
 *
 *   fake_model --listen 127.0.0.1:9999 --tokens 20 --stream-ms 2000 &
 *   fetch --url http://127.0.0.1:9999/v1/chat/completions --streams 10000 --seconds 10
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "net/fetch.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

static const char body[] = "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"oi\"}]}";

static struct {
    const char *url;
    uint32_t streams;
    uint64_t seconds;
    struct fetch_client *client;
    struct timer ramp;
    _Atomic uint32_t started; /* these are read by the main thread; a number that is a little old does no harm */
    _Atomic uint64_t pieces, ended, failed;
} bench = {.url = "http://127.0.0.1:9999/v1/chat/completions", .streams = 10000, .seconds = 10};

static void start_one(void);

static void on_data(void *context, struct fetch_id id, int status, struct slice data)
{
    (void)context, (void)id, (void)status, (void)data;
    bench.pieces++;
}

static void on_done(void *context, struct fetch_id id, const struct fetch_result *result)
{
    (void)context, (void)id;
    bench.ended++;
    if (result->code != OK && bench.failed++ == 0)
        fprintf(stderr, "first failure: %s: %s\n", err_name(result->code), result->detail);
    start_one();
}

static void start_one(void)
{
    static const char *const headers[] = {"Content-Type: application/json", "Authorization: Bearer x", NULL};
    struct fetch_request request = {.method = "POST",
                                    .url = bench.url,
                                    .headers = headers,
                                    .body = {.data = body, .size = sizeof body - 1},
                                    .on_data = on_data,
                                    .on_done = on_done};
    struct fetch_id id;
    struct error error = {0};
    if (fetch_start(bench.client, &request, &id, &error) != OK) {
        fprintf(stderr, "fetch_start: %s\n", error.text);
        exit(1);
    }
}

/* A few at a time, so that the server's backlog is not the first thing measured. */
static void start_some(struct worker *worker, struct timer *timer)
{
    for (int i = 0; i < 100 && bench.started < bench.streams; i++, bench.started++)
        start_one();
    if (bench.started < bench.streams)
        timer_start(worker, timer, worker_now_ns(worker) + 10000000);
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    struct fetch_options options = {.in_flight_max = bench.streams};
    bench.ramp.on_fire = start_some;
    timer_start(worker, &bench.ramp, 0);
    return fetch_client_create(worker, &options, &bench.client, error);
}

static void on_stop(struct worker *worker, void *user)
{
    (void)worker, (void)user;
    fetch_client_destroy(bench.client);
}

static uint64_t resident_bytes(void)
{
    unsigned long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t processor_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000 +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"url", required_argument, NULL, 'u'},
                                          {"streams", required_argument, NULL, 'n'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {0}};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'u': bench.url = optarg; break;
        case 'n': bench.streams = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 's': bench.seconds = strtoull(optarg, NULL, 10); break;
        default: return 2;
        }
    }
    raise_descriptor_limit();
    struct runtime *runtime;
    struct error error = {0};
    struct runtime_options options = {.worker_count = 1, .on_start = on_start, .on_stop = on_stop};
    if (runtime_create(&options, &runtime, &error) != OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    uint64_t resident_before = resident_bytes();
    if (runtime_start(runtime, &error) != OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    while (bench.started < bench.streams)
        usleep(1000);
    sleep(5);

    uint64_t pieces = bench.pieces, ended = bench.ended, used_ns = processor_ns();
    sleep((unsigned)bench.seconds);
    pieces = bench.pieces - pieces;
    ended = bench.ended - ended;
    used_ns = processor_ns() - used_ns;
    printf("%u streams: %" PRIu64 " pieces/s, %" PRIu64 " streams ended/s, %.0f %% of a core, %.2f us a piece, "
           "%" PRIu64 " KiB a stream, %" PRIu64 " failed\n",
           bench.streams, pieces / bench.seconds, ended / bench.seconds,
           (double)used_ns / (double)(bench.seconds * 10000000), (double)used_ns / 1000 / (double)(pieces ? pieces : 1),
           (resident_bytes() - resident_before) / 1024 / bench.streams, (uint64_t)bench.failed);
    runtime_destroy(runtime);
    return bench.failed > 0;
}
