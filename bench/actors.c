/* SPDX-License-Identifier: Apache-2.0 */
/* actors: what the runtime alone can do. `actors [--json] [--workers N] [NAME...]`; no name: all.
 *
 *   ping_pong         two actors, one message to and fro
 *   fan_in_2, _100    senders that send to one receiver as fast as they can; its mailbox takes 1,000,000, the peers' are unbounded
 *   thread_ring       a token round 1,000 actors
 *   spawn             spawn an actor, send it a message, on which it stops
 *   idle_actor_bytes  resident memory of each of 1,000,000 actors without state
 *
 * Actors are spawned on worker 0; that the others get some is the runtime's business, as it is Erlang's and CAF's in their
 * versions of the same. One run each: a harness repeats, interleaves with its peers, and looks at the spread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/actor.h"
#include "runtime/atomic.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/worker.h"

enum { MSG_WORK = MSG_KIND_TEST, MSG_GO };

enum {
    PING_PONGS = 20000000,
    FAN_IN_MESSAGES = 20000000,
    FAN_IN_BURST = 32,
    FAN_IN_MAILBOX = 1000000,
    FAN_IN_RETRY_NS = 1000000,
    RING_ACTORS = 1000,
    RING_HOPS = 20000000
};
enum { SPAWNS = 5000000, SPAWN_BURST = 64, IDLE_ACTORS = 1000000 };

struct work {
    struct msg msg;
    uint64_t left;
};

static struct runtime *runtime;
static uint64_t began_ns, ended_ns;
static uint32_t sender_count;
static struct actor_id ids[RING_ACTORS + 1];
static double idle_bytes;

static void finish(void)
{
    ended_ns = clock_mono_ns();
    runtime_stop(runtime);
}

_Noreturn static void die(const char *what, const struct error *error)
{
    fprintf(stderr, "%s: %s\n", what, error->text);
    exit(1);
}

static enum err send_work(struct worker *worker, struct actor_id to, uint16_t kind, uint64_t left)
{
    struct work *work = MSG_CREATE(worker, struct work, kind, 0);
    if (!work)
        return ERR_NO_MEMORY;
    work->left = left;
    struct msg *msg = &work->msg;
    enum err code = actor_send(worker, to, &msg);
    if (code != OK)
        msg_destroy(worker, &msg);
    return code;
}

static enum err spawn(struct worker *worker, const struct actor_type *type, void *state, struct actor_id *ret_id)
{
    return actor_spawn(worker, type, state, NULL, ret_id);
}

/* Sends the block on to the actor whose id is the state; the last one stops. Ping-pong and the ring. */
static enum err on_token(struct actor_context *context, struct msg **msg)
{
    struct work *work = (struct work *)(void *)*msg;
    if (--work->left == 0) {
        finish();
        return OK;
    }
    const struct actor_id *next = context->state;
    return actor_send(context->worker, *next, msg);
}
static const struct actor_type token_type = {"token", on_token, NULL, 0, false};

static enum err start_round(struct worker *worker, uint32_t count, uint64_t hops)
{
    for (uint32_t i = 0; i < count; i++) {
        enum err code = spawn(worker, &token_type, &ids[(i + 1) % count], &ids[i]);
        if (code != OK)
            return code;
    }
    return send_work(worker, ids[0], MSG_WORK, hops);
}
static enum err start_ping_pong(struct worker *worker)
{
    return start_round(worker, 2, PING_PONGS);
}
static enum err start_thread_ring(struct worker *worker)
{
    return start_round(worker, RING_ACTORS, RING_HOPS);
}

static enum err on_fan_in_send(struct actor_context *context, struct msg **msg)
{
    struct work *work = (struct work *)(void *)*msg;
    for (int i = 0; i < FAN_IN_BURST && work->left > 0; i++, work->left--) {
        if (send_work(context->worker, ids[0], MSG_WORK, 0) != OK) { /* full: later */
            actor_send_after(context->worker, context->self, msg, FAN_IN_RETRY_NS);
            return OK;
        }
    }
    return work->left > 0 ? actor_send(context->worker, context->self, msg) : OK;
}
static enum err on_fan_in_receive(struct actor_context *context, struct msg **msg)
{
    (void)msg;
    uint64_t *received = context->state;
    if (++*received == FAN_IN_MESSAGES / sender_count * sender_count)
        finish();
    return OK;
}
static const struct actor_type fan_in_sender_type = {"fan_in_sender", on_fan_in_send, NULL, 0, false};
static const struct actor_type fan_in_receiver_type = {"fan_in_receiver", on_fan_in_receive, NULL, FAN_IN_MAILBOX, false};

static enum err start_fan_in(struct worker *worker, uint32_t count)
{
    static uint64_t received;
    received = 0;
    sender_count = count;
    enum err code = spawn(worker, &fan_in_receiver_type, &received, &ids[0]);
    for (uint32_t i = 1; code == OK && i <= count; i++) {
        code = spawn(worker, &fan_in_sender_type, NULL, &ids[i]);
        if (code == OK)
            code = send_work(worker, ids[i], MSG_GO, FAN_IN_MESSAGES / count);
    }
    return code;
}
static enum err start_fan_in_2(struct worker *worker)
{
    return start_fan_in(worker, 2);
}
static enum err start_fan_in_100(struct worker *worker)
{
    return start_fan_in(worker, 100);
}

static ATOMIC(uint64_t) children_left;
static enum err on_child(struct actor_context *context, struct msg **msg)
{
    (void)msg;
    actor_stop(context);
    if (atomic_sub_relaxed(&children_left, 1) == 1)
        finish();
    return OK;
}
static const struct actor_type child_type = {"child", on_child, NULL, 0, false};

static enum err on_parent(struct actor_context *context, struct msg **msg)
{
    struct work *work = (struct work *)(void *)*msg;
    for (int i = 0; i < SPAWN_BURST && work->left > 0; i++, work->left--) {
        struct actor_id child;
        enum err code = spawn(context->worker, &child_type, NULL, &child);
        if (code == OK)
            code = send_work(context->worker, child, MSG_WORK, 0);
        if (code != OK)
            return code;
    }
    return work->left > 0 ? actor_send(context->worker, context->self, msg) : OK;
}
static const struct actor_type parent_type = {"parent", on_parent, NULL, 0, false};

static enum err start_spawn(struct worker *worker)
{
    atomic_store_relaxed(&children_left, SPAWNS);
    enum err code = spawn(worker, &parent_type, NULL, &ids[0]);
    return code == OK ? send_work(worker, ids[0], MSG_GO, SPAWNS) : code;
}

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
static enum err start_idle(struct worker *worker)
{
    uint64_t before = resident_bytes();
    for (uint32_t i = 0; i < IDLE_ACTORS; i++) {
        struct actor_id id;
        enum err code = spawn(worker, &token_type, NULL, &id);
        if (code != OK)
            return code;
    }
    idle_bytes = (double)(resident_bytes() - before) / IDLE_ACTORS;
    return OK;
}

static const struct bench {
    const char *name, *unit;
    uint64_t count; /* 0: not a rate */
    enum err (*start)(struct worker *worker);
} benches[] = {
    {"ping_pong", "msg/s", PING_PONGS, start_ping_pong},
    {"fan_in_2", "msg/s", FAN_IN_MESSAGES, start_fan_in_2},
    {"fan_in_100", "msg/s", FAN_IN_MESSAGES, start_fan_in_100},
    {"thread_ring", "msg/s", RING_HOPS, start_thread_ring},
    {"spawn", "actors/s", SPAWNS, start_spawn},
    {"idle_actor_bytes", "B", 0, start_idle},
};

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    const struct bench *bench = user;
    if (worker_index(worker) != 0)
        return OK;
    enum err code = bench->start(worker);
    if (code != OK)
        return error_set(error, code, "%s: %s", bench->name, err_text(code));
    began_ns = clock_mono_ns();
    return OK;
}

static double run(const struct bench *bench, uint32_t worker_count)
{
    struct runtime_options options = {
        .worker_count = worker_count, .on_start = on_start, .user = (void *)(uintptr_t)bench};
    struct error error = {0};
    if (runtime_create(&options, &runtime, &error) != OK || runtime_start(runtime, &error) != OK)
        die(bench->name, &error);
    if (bench->count == 0)
        runtime_stop(runtime);
    runtime_join(runtime);
    if (getenv("CIRANDA_BENCH_STATS")) {
        for (uint32_t i = 0; i < runtime_worker_count(runtime); i++) {
            struct worker_stats stats;
            worker_get_stats(runtime_worker(runtime, i), &stats);
            fprintf(stderr, "worker %u: turns %llu runs %llu messages %llu donations %llu wakes %llu refusals %llu\n", i,
                    (unsigned long long)stats.turns, (unsigned long long)stats.runs, (unsigned long long)stats.messages,
                    (unsigned long long)stats.donations, (unsigned long long)stats.wakes,
                    (unsigned long long)stats.refusals);
        }
    }
    runtime_destroy(runtime);
    return bench->count ? (double)bench->count * 1e9 / (double)(ended_ns - began_ns) : idle_bytes;
}

static void print(const struct bench *bench, double value, bool is_json)
{
    if (is_json)
        printf("{\"bench\":\"%s\",\"rate\":%.0f,\"unit\":\"%s\"}\n", bench->name, value, bench->unit);
    else
        printf("%-18s %14.0f %s\n", bench->name, value, bench->unit);
    fflush(stdout);
}

static bool is_wanted(const struct bench *bench, char **names, int name_count)
{
    for (int i = 0; i < name_count; i++) {
        if (strcmp(names[i], bench->name) == 0)
            return true;
    }
    return name_count == 0;
}

int main(int argc, char **argv)
{
    bool is_json = false;
    uint32_t worker_count = 0;
    int first_name = 1;
    for (; first_name < argc && strncmp(argv[first_name], "--", 2) == 0; first_name++) {
        if (strcmp(argv[first_name], "--json") == 0) {
            is_json = true;
        } else if (strcmp(argv[first_name], "--workers") == 0 && first_name + 1 < argc) {
            worker_count = (uint32_t)strtoul(argv[++first_name], NULL, 10);
        } else {
            fprintf(stderr, "usage: actors [--json] [--workers N] [NAME...]\n");
            return 2;
        }
    }
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        if (is_wanted(&benches[i], argv + first_name, argc - first_name))
            print(&benches[i], run(&benches[i], worker_count), is_json);
    }
    return 0;
}
