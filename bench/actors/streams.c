/* SPDX-License-Identifier: Apache-2.0 */
/* streams: messages that flow one way, from actors that send as fast as they can. What is timed is the way of a message to
 * an actor that is behind.
 *
 *   counting               one sender, one counter; at the end the sender asks for the sum
 *   fork_join_throughput   one sender, 60 receivers in turn; each does a little arithmetic with a message and stops at its last
 *   fan_in_2, fan_in_100   many senders, one receiver
 *
 * A handler never blocks and a mailbox has a cap (here 1,000,000; the peers' have none): a sender sends 32 messages a turn, or
 * one to each receiver, and then sends itself on; it tries again a little later when the mailbox was full.
 */
#include <math.h>

#include "bench/actors/bench.h"

enum {
    COUNTING_MESSAGES = 10000000,
    FORK_ACTORS = 60,
    FORK_MESSAGES_EACH = 100000,
    FAN_IN_MESSAGES = 10000000,
    FAN_IN_SENDERS_MAX = 100,
    BURST = 32,
    MAILBOX_COUNT_MAX = 1000000,
    RETRY_NS = 1000000,
};

static struct actor_id sink;
static uint64_t received, expected;

static enum err on_stream(struct actor_context *context, struct msg **msg)
{
    struct work *go = work_of(*msg);
    for (int i = 0; i < BURST && go->left > 0; i++, go->left--) {
        if (!bench_try_send(context->worker, sink, MSG_WORK, 1)) {
            actor_send_after(context->worker, context->self, msg, RETRY_NS);
            return OK;
        }
    }
    if (go->left > 0)
        bench_pass(context->worker, context->self, msg);
    return OK;
}
static const struct actor_type stream_type = {"stream", on_stream, NULL, 0, false};

/* ---- fan_in ----------------------------------------------------------------------------------------------------------- */

static enum err on_fan_in_receive(struct actor_context *context, struct msg **msg)
{
    uint64_t *count = context->state;
    *count += work_of(*msg)->left;
    if (*count == expected)
        bench_finish(context->worker);
    return OK;
}
static const struct actor_type fan_in_type = {"fan_in", on_fan_in_receive, NULL, MAILBOX_COUNT_MAX, false};

static void start_fan_in(struct worker *worker, uint32_t sender_count)
{
    received = 0;
    expected = FAN_IN_MESSAGES;
    sink = bench_spawn_actor(worker, &fan_in_type, &received);
    for (uint32_t i = 0; i < sender_count; i++) {
        struct actor_id sender = bench_spawn_actor(worker, &stream_type, NULL);
        bench_send(worker, sender, MSG_GO, FAN_IN_MESSAGES / sender_count);
    }
}
static void start_fan_in_2(struct worker *worker)
{
    start_fan_in(worker, 2);
}
static void start_fan_in_100(struct worker *worker)
{
    start_fan_in(worker, 100);
}
_Static_assert(FAN_IN_MESSAGES % 2 == 0 && FAN_IN_MESSAGES % 100 == 0, "every sender sends the same number");

/* ---- counting --------------------------------------------------------------------------------------------------------- */

static enum err on_count(struct actor_context *context, struct msg **msg)
{
    uint64_t *count = context->state;
    struct work *work = work_of(*msg);
    if (work->msg.kind == MSG_WORK) {
        *count += work->left;
        return OK;
    }
    work->left = *count; /* asked for the sum */
    bench_pass(context->worker, work->from, msg);
    return OK;
}
static const struct actor_type counter_type = {"counter", on_count, NULL, MAILBOX_COUNT_MAX, false};

static enum err on_producer(struct actor_context *context, struct msg **msg)
{
    struct work *work = work_of(*msg);
    if (work->msg.kind == MSG_DONE) {
        if (work->left != COUNTING_MESSAGES)
            return ERR_INVALID;
        bench_finish(context->worker);
        return OK;
    }
    enum err code = on_stream(context, msg);
    if (code != OK || !*msg)
        return code;
    work->msg.kind = MSG_DONE; /* all sent: the same block asks for the sum, and brings it */
    work->from = context->self;
    bench_pass(context->worker, sink, msg);
    return OK;
}
static const struct actor_type producer_type = {"producer", on_producer, NULL, 0, false};

static void start_counting(struct worker *worker)
{
    received = 0;
    sink = bench_spawn_actor(worker, &counter_type, &received);
    bench_send(worker, bench_spawn_actor(worker, &producer_type, NULL), MSG_GO, COUNTING_MESSAGES);
}

/* ---- fork_join_throughput --------------------------------------------------------------------------------------------- */

static struct actor_id joiners[FORK_ACTORS];
static uint64_t joiner_left[FORK_ACTORS];

static enum err on_joiner(struct actor_context *context, struct msg **msg)
{
    uint64_t *left = context->state;
    double sine = sin((double)work_of(*msg)->left);
    if (sine * sine > 1.0)
        return ERR_INVALID;
    if (--*left > 0)
        return OK;
    bench_pass(context->worker, sink, msg);
    actor_stop(context);
    return OK;
}
static const struct actor_type joiner_type = {"joiner", on_joiner, NULL, MAILBOX_COUNT_MAX, false};

static enum err on_forker(struct actor_context *context, struct msg **msg)
{
    struct work *go = work_of(*msg);
    for (uint32_t i = 0; i < FORK_ACTORS; i++)
        bench_send(context->worker, joiners[i], MSG_WORK, go->left);
    if (--go->left > 0)
        bench_pass(context->worker, context->self, msg);
    return OK;
}
static const struct actor_type forker_type = {"forker", on_forker, NULL, 0, false};

static void start_fork_join_throughput(struct worker *worker)
{
    received = 0;
    expected = FORK_ACTORS; /* each passes its last message, which says 1, on to the sink */
    sink = bench_spawn_actor(worker, &fan_in_type, &received);
    for (uint32_t i = 0; i < FORK_ACTORS; i++) {
        joiner_left[i] = FORK_MESSAGES_EACH;
        joiners[i] = bench_spawn_actor(worker, &joiner_type, &joiner_left[i]);
    }
    bench_send(worker, bench_spawn_actor(worker, &forker_type, NULL), MSG_GO, FORK_MESSAGES_EACH);
}

const struct bench bench_counting = {"counting", "msg/s", COUNTING_MESSAGES, 0, start_counting, NULL};
const struct bench bench_fan_in_2 = {"fan_in_2", "msg/s", FAN_IN_MESSAGES, 0, start_fan_in_2, NULL};
const struct bench bench_fan_in_100 = {"fan_in_100", "msg/s", FAN_IN_MESSAGES, 0, start_fan_in_100, NULL};
const struct bench bench_fork_join_throughput = {
    "fork_join_throughput", "msg/s", (uint64_t)FORK_ACTORS *FORK_MESSAGES_EACH, 0, start_fork_join_throughput, NULL};
