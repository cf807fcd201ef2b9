/* SPDX-License-Identifier: Apache-2.0 */
/* The RPC server in the simulated world: order, bounds, deadlines, streams, drain, faults. Rows D3, D6, D7 of the bad-input
 * catalogue, and invariants P1-P7. Time is virtual: nothing here sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/pack.h"
#include "net/rpc_scan.h"
#include "net/rpc_server.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/ring_sim.h"
#include "runtime/worker.h"
#include "tests/unit/net/stepped_world.h"
#include "tests/unit/actors/golden.h"

enum { WORKERS_MAX = 2, KEPT_MAX = 4096 };
#define SECOND UINT64_C(1000000000)
#define NIL SLICE_LITERAL("\xc0")

/* ---- the world: a runtime of one or two workers, each with a server, stepped here ---------------------------------------- */
static struct {
    uint32_t worker_count;
    struct rpc_server *servers[WORKERS_MAX];
    struct rpc_server_options options;
    char address[64];
    /* what the handler saw: of "later" and "stream" */
    struct rpc_call_id kept[KEPT_MAX];
    struct rpc_server *kept_server[KEPT_MAX];
    enum err stream_result;
    uint32_t kept_count, gone_count, request_count, drained_count;
} world;

/* "now" is answered with its params, "later" and "large" by the test, "stream" becomes one if it may. */
static void on_request(void *context, struct rpc_server *server, struct rpc_call_id call,
                       const struct rpc_request *request)
{
    (void)context;
    world.request_count++;
    if (slice_has_text(request->method, "now")) {
        assert_int_equal(rpc_respond(server, call, request->params), OK);
        return;
    }
    assert_true(world.kept_count < KEPT_MAX);
    world.kept[world.kept_count] = call;
    world.kept_server[world.kept_count++] = server;
    rpc_call_set_user(server, call, &world.kept[world.kept_count - 1]);
    if (slice_has_text(request->method, "large"))
        rpc_call_set_large(server, call);
    if (slice_has_text(request->method, "stream"))
        world.stream_result = rpc_stream_start(server, call, NIL);
}

static void on_gone(void *context, struct rpc_server *server, void *user)
{
    (void)context;
    const struct rpc_call_id *call = user;
    world.gone_count++;
    assert_int_equal(rpc_respond(server, *call, NIL), ERR_NOT_FOUND); /* stale already, and harmless */
}

static void on_drained(void *context, struct rpc_server *server, void *user)
{
    (void)context, (void)server, (void)user;
    world.drained_count++;
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    return rpc_server_create(worker, &world.options, &world.servers[worker_index(worker)], error);
}

static void on_stop(struct worker *worker, void *user)
{
    (void)user;
    rpc_server_destroy(world.servers[worker_index(worker)]);
}

static void listen_here(struct worker *worker, void *argument)
{
    (void)worker, (void)argument;
    struct error error;
    assert_int_equal(rpc_server_listen(world.servers[0], "127.0.0.1:0", world.servers, world.worker_count, &error), OK);
    rpc_server_address(world.servers[0], world.address, sizeof world.address);
}

static void drain_here(struct worker *worker, void *argument)
{
    (void)argument;
    rpc_server_drain(world.servers[worker_index(worker)]);
}

static void start(uint64_t seed, const struct sim_options *sim, uint32_t worker_count, struct rpc_server_options options)
{
    memset(&world, 0, sizeof world);
    options.handler = (struct rpc_handler){.on_request = on_request, .on_gone = on_gone, .on_drained = on_drained};
    world.options = options;
    world.worker_count = worker_count;
    struct runtime_options runtime_options = {
        .worker_count = worker_count, .on_start = on_start, .on_stop = on_stop, .ring = {.buffer_count = 64}};
    stepped_world_start(seed, sim, &runtime_options);
    stepped_run(0, listen_here, NULL);
    assert_true(world.address[0] != 0);
}

static void start_plain(void)
{
    start(1, NULL, 1, (struct rpc_server_options){0});
}

static int stop(void **state)
{
    (void)state;
    return stepped_world_stop(); /* with whatever is still open: nothing may leak */
}

static struct rpc_server_stats stats_of(uint32_t index)
{
    struct rpc_server_stats stats;
    rpc_server_get_stats(world.servers[index], &stats);
    return stats;
}

/* ---- clients -------------------------------------------------------------------------------------------------------------- */
static struct sim_client *connect_client(void)
{
    struct sim_client *client = sim_connect(world.address);
    assert_non_null(client);
    stepped_settle();
    return client;
}

static void say(struct sim_client *client, struct slice bytes)
{
    assert_int_equal(sim_client_send(client, bytes.data, bytes.size), bytes.size);
    stepped_settle();
}

/* [0, msgid, method, []] */
static struct slice request(uint32_t msgid, const char *method)
{
    static char bytes[64];
    int size = snprintf(bytes + 7, sizeof bytes - 7, "%c%s%c", (char)(0xa0 | strlen(method)), method, (char)0x90);
    memcpy(bytes, "\x94\x00\xce", 3);
    for (uint32_t i = 0; i < 4; i++)
        bytes[3 + i] = (char)(msgid >> (24 - 8 * i));
    return slice_of(bytes, 7 + (size_t)size);
}

static void ask(struct sim_client *client, uint32_t msgid, const char *method)
{
    say(client, request(msgid, method));
}

/* All that is there. */
static struct slice hear(struct sim_client *client)
{
    static char bytes[1 << 21];
    size_t size = 0, got;
    stepped_settle();
    while ((got = sim_client_receive(client, bytes + size, sizeof bytes - size)) > 0) {
        size += got;
        stepped_settle();
    }
    return slice_of(bytes, size);
}

/* The msgids of the answers that are there; -1 for nil, -2 for a notification. */
static uint32_t hear_ids(struct sim_client *client, int64_t *ret_ids, uint32_t max)
{
    struct slice bytes = hear(client);
    struct pack_reader reader = pack_reader_of(bytes);
    uint32_t count = 0;
    while (!pack_reader_is_done(&reader)) {
        uint32_t parts = pack_read_array(&reader);
        uint64_t type = pack_read_number(&reader);
        bool is_nil = pack_peek(&reader) == PACK_NIL;
        assert_true(count < max);
        if (type == 2 || is_nil) {
            ret_ids[count++] = type == 2 ? -2 : -1;
            pack_skip(&reader);
        } else {
            ret_ids[count++] = (int64_t)pack_read_number(&reader);
        }
        for (uint32_t i = 2; i < parts; i++)
            pack_skip(&reader);
        assert_false(reader.is_failed);
    }
    return count;
}

static void answer_here(struct worker *worker, void *argument)
{
    (void)worker;
    const uint32_t *number = argument;
    (void)rpc_respond(world.kept_server[*number], world.kept[*number], NIL);
}

static void answer_later(uint32_t number)
{
    stepped_run(0, answer_here, &number);
}

static void refuse_here(struct worker *worker, void *argument)
{
    (void)worker;
    const uint32_t *number = argument;
    const struct rpc_error error = {"limited", SLICE_LITERAL("too many"), 1500};
    assert_int_equal(rpc_refuse(world.kept_server[*number], world.kept[*number], &error), OK);
}

struct part {
    uint32_t number;
    size_t size;
    enum err result;
};

/* One value of `size` bytes and its head. */
static void pack_filling(struct buffer *text, size_t size)
{
    msgpack_packer packer;
    buffer_init(text, (1 << 20) + 16);
    pack_init(&packer, text);
    msgpack_pack_bin(&packer, size);
    memset(buffer_reserve(text, size + 1), 'n', size);
    text->size += size;
}

static void answer_large_here(struct worker *worker, void *argument)
{
    (void)worker;
    struct part *part = argument;
    struct buffer text;
    pack_filling(&text, part->size);
    part->result = rpc_respond(world.kept_server[part->number], world.kept[part->number], buffer_slice(&text));
    buffer_deinit(&text);
}

static enum err answer_large(uint32_t number)
{
    struct part part = {.number = number, .size = 1 << 20};
    stepped_run(0, answer_large_here, &part);
    return part.result;
}

static void notify_here(struct worker *worker, void *argument)
{
    (void)worker;
    struct part *part = argument;
    struct buffer text;
    pack_filling(&text, part->size);
    part->result =
        rpc_stream_notify(world.kept_server[part->number], world.kept[part->number], "event", buffer_slice(&text));
    buffer_deinit(&text);
}

static enum err notify(uint32_t number, size_t size)
{
    struct part part = {.number = number, .size = size};
    stepped_run(0, notify_here, &part);
    return part.result;
}

static void read_unsent(struct worker *worker, void *argument)
{
    (void)worker;
    size_t *number = argument;
    *number = rpc_stream_unsent(world.kept_server[*number], world.kept[*number]);
}

static size_t unsent_of(size_t number)
{
    stepped_run(0, read_unsent, &number);
    return number;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------------- */
static void answers_leave_in_the_order_they_are_given(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[8];
    for (uint32_t i = 0; i < 3; i++)
        ask(client, i, "later");
    ask(client, 3, "now");
    assert_int_equal(hear_ids(client, ids, 8), 1);
    assert_int_equal(ids[0], 3);
    answer_later(2);
    answer_later(0);
    assert_int_equal(hear_ids(client, ids, 8), 2);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 0);
    assert_int_equal(stats_of(0).calls, 1);
}

static void read_submitted(struct worker *worker, void *argument)
{
    struct ring_stats stats;
    ring_get_stats(worker_ring(worker), &stats);
    *(uint64_t *)argument = stats.submitted;
}

static void what_gathers_in_a_turn_leaves_in_one_send(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    char bytes[1024];
    size_t size = 0;
    for (uint32_t i = 0; i < 20; i++) {
        struct slice frame = request(i, "now");
        memcpy(bytes + size, frame.data, frame.size);
        size += frame.size;
    }
    uint64_t before, after;
    int64_t ids[32];
    stepped_run(0, read_submitted, &before);
    say(client, slice_of(bytes, size));
    stepped_run(0, read_submitted, &after);
    assert_int_equal(hear_ids(client, ids, 32), 20);
    assert_int_equal(after - before, 1);
}

static void frames_in_single_bytes_are_the_same_frames(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[4];
    for (uint32_t id = 0; id < 3; id++) {
        struct slice frame = request(id, "now");
        for (size_t i = 0; i < frame.size; i++)
            say(client, slice_of(frame.data + i, 1));
    }
    assert_int_equal(hear_ids(client, ids, 4), 3);
}

/* P2, and D7's first half. */
static void calls_over_the_bound_wait_until_others_are_answered(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct rpc_server_options){.calls_max = 4});
    struct sim_client *client = connect_client();
    int64_t ids[16];
    for (uint32_t i = 0; i < 12; i++)
        ask(client, i, "later");
    assert_int_equal(world.request_count, 4);
    stepped_advance(20 * SECOND); /* whole frames that wait for room are nobody's delay */
    answer_later(0);
    answer_later(1);
    assert_int_equal(world.request_count, 6);
    for (uint32_t i = 2; i < 12; i++)
        answer_later(i);
    assert_int_equal(hear_ids(client, ids, 16), 12);
    assert_int_equal(stats_of(0).calls, 0);
}

/* D7's second half: a flood that nobody reads ends in the sockets' buffers and a bounded rest. */
static void nothing_is_read_while_answers_wait_for_their_reader(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct rpc_server_options){.send_bytes_max = 65536});
    struct sim_client *client = connect_client();
    uint64_t sent = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        struct slice frame = request(i, "now");
        if (sim_client_send(client, frame.data, frame.size) < frame.size)
            break;
        sent++;
        if (i % 64 == 0)
            stepped_settle();
    }
    stepped_settle();
    assert_true(sent < 100000);
    assert_true(world.request_count < sent);
}

static void large_answers_are_made_a_few_at_a_time(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[32];
    for (uint32_t i = 0; i < 20; i++)
        ask(client, i, "large");
    ask(client, 20, "now");
    assert_int_equal(world.request_count, RPC_LARGE_CALLS_MAX);
    answer_later(3);
    assert_int_equal(world.request_count, RPC_LARGE_CALLS_MAX + 1);
    for (uint32_t i = 0; i < 20; i++)
        answer_later(i);
    assert_int_equal(hear_ids(client, ids, 32), 21);
}

/* P6: a thousand small calls with large answers. */
static void an_answer_too_many_is_refused_and_the_connection_kept(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    enum { CALLS = 100 };
    for (uint32_t i = 0; i < CALLS; i++)
        ask(client, i, "later");
    uint32_t answered = 0;
    size_t size = 0, got;
    while (answer_large(answered) == OK)
        assert_true(++answered < CALLS);
    assert_true(answered >= RPC_UNSENT_BYTES_MAX >> 20);
    assert_int_equal(stats_of(0).calls, CALLS - answered); /* open as before */
    for (uint32_t i = answered; i < CALLS; i++)
        stepped_run(0, refuse_here, &i);
    do {
        got = hear(client).size;
        size += got;
    } while (got > 0);
    assert_true(size > (size_t)answered << 20);
    assert_int_equal(stats_of(0).connections, 1);
    assert_int_equal(stats_of(0).calls, 0);
}

static void a_notification_holds_a_place_and_gets_no_answer(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct rpc_server_options){.calls_max = 1});
    struct sim_client *client = connect_client();
    int64_t ids[4];
    say(client, SLICE_LITERAL("\x93\x02\xa5later\x90\x93\x02\xa3now\x90"));
    ask(client, 5, "now");
    assert_int_equal(world.request_count, 1);
    assert_int_equal(stats_of(0).calls, 1);
    answer_later(0);
    assert_int_equal(world.request_count, 3);
    assert_int_equal(stats_of(0).notifications, 2);
    assert_int_equal(stats_of(0).calls, 0);
    assert_int_equal(hear_ids(client, ids, 4), 1);
    assert_int_equal(ids[0], 5);
}

static void connections_go_to_the_worker_with_the_fewest(void **state)
{
    (void)state;
    start(1, NULL, 2, (struct rpc_server_options){0});
    for (uint32_t i = 0; i < 6; i++)
        ask(connect_client(), i, "now");
    assert_int_equal(stats_of(0).connections, 3);
    assert_int_equal(stats_of(1).connections, 3);
}

/* ---- ends ----------------------------------------------------------------------------------------------------------------- */
static void what_is_no_frame_is_refused_once_and_what_is_open_answered(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[8];
    ask(client, 5, "later");
    say(client, SLICE_LITERAL("\x94\xc1\x90"));
    ask(client, 6, "now"); /* not read any more */
    assert_int_equal(hear_ids(client, ids, 8), 1);
    assert_int_equal(ids[0], -1);
    assert_false(sim_client_is_closed_by_peer(client));
    answer_later(0);
    assert_int_equal(hear_ids(client, ids, 8), 1);
    assert_int_equal(ids[0], 5);
    assert_true(sim_client_is_closed_by_peer(client));
}

static void d6_the_first_frame_has_ten_seconds(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *silent = connect_client();
    stepped_advance(9 * SECOND);
    assert_false(sim_client_is_closed_by_peer(silent));
    stepped_advance(2 * SECOND);
    int64_t ids[2];
    assert_int_equal(hear_ids(silent, ids, 2), 1);
    assert_int_equal(ids[0], -1);
    assert_true(sim_client_is_closed_by_peer(silent));
}

static void d3_a_frame_has_ten_seconds_from_its_first_byte(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[2];
    ask(client, 1, "now");
    assert_int_equal(hear_ids(client, ids, 2), 1);
    stepped_advance(60 * SECOND); /* idle is no frame */
    struct slice frame = request(2, "now");
    for (size_t i = 0; i < 5; i++) {
        say(client, slice_of(frame.data + i, 1));
        stepped_advance(2 * SECOND - SECOND / 100);
    }
    assert_int_equal(hear(client).size, 0);
    stepped_advance(SECOND);
    assert_int_equal(hear_ids(client, ids, 2), 1);
    assert_int_equal(ids[0], -1);
    assert_true(sim_client_is_closed_by_peer(client));
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[2];
    ask(client, 1, "now");
    assert_int_equal(hear_ids(client, ids, 2), 1);
    stepped_advance(299 * SECOND);
    assert_false(sim_client_is_closed_by_peer(client));
    stepped_advance(2 * SECOND);
    assert_int_equal(hear(client).size, 0);
    assert_true(sim_client_is_closed_by_peer(client));
}

static void half_closed_clients_get_their_answers(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[4];
    ask(client, 1, "stream");
    ask(client, 2, "later");
    sim_client_shutdown_write(client);
    stepped_settle();
    assert_int_equal(world.gone_count, 1); /* the stream */
    answer_later(1);
    assert_int_equal(hear_ids(client, ids, 4), 2);
    assert_int_equal(ids[1], 2);
    assert_true(sim_client_is_closed_by_peer(client));
}

static void a_reset_tells_of_every_call_and_stream(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    ask(client, 1, "stream");
    ask(client, 2, "later");
    ask(client, 3, "later");
    sim_client_reset(client);
    stepped_settle();
    assert_int_equal(world.gone_count, 3);
    assert_int_equal(stats_of(0).calls + stats_of(0).streams + stats_of(0).connections, 0);
}

static void a_drain_answers_what_is_open_and_takes_no_more(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *idle = connect_client(), *busy = connect_client();
    int64_t ids[4];
    ask(busy, 1, "later");
    stepped_run(0, drain_here, NULL);
    assert_true(sim_client_is_closed_by_peer(idle));
    assert_null(sim_connect(world.address));
    ask(busy, 2, "now");
    assert_false(rpc_server_is_idle(world.servers[0]));
    answer_later(0);
    assert_int_equal(hear_ids(busy, ids, 4), 1);
    assert_int_equal(ids[0], 1);
    assert_true(sim_client_is_closed_by_peer(busy));
    assert_true(rpc_server_is_idle(world.servers[0]));
}

static void end_stream_here(struct worker *worker, void *argument)
{
    (void)worker, (void)argument;
    assert_int_equal(rpc_stream_end(world.servers[0], world.kept[0], "end", NIL), OK);
}

static void a_drain_waits_for_the_end_of_streams(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[4];
    ask(client, 1, "stream");
    assert_int_equal(hear_ids(client, ids, 4), 1);
    stepped_run(0, drain_here, NULL);
    assert_false(rpc_server_is_idle(world.servers[0]));
    stepped_run(0, end_stream_here, NULL);
    assert_int_equal(hear_ids(client, ids, 4), 1);
    assert_int_equal(ids[0], -2);
    assert_true(sim_client_is_closed_by_peer(client));
    assert_true(rpc_server_is_idle(world.servers[0]));
}

/* ---- streams -------------------------------------------------------------------------------------------------------------- */
static void a_stream_notifies_until_it_is_ended(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[8];
    ask(client, 9, "stream");
    assert_int_equal(notify(0, 100), OK);
    assert_int_equal(notify(0, 100), OK);
    assert_int_equal(hear_ids(client, ids, 8), 3);
    assert_int_equal(ids[0], 9);
    assert_int_equal(ids[2], -2);
    assert_true(world.drained_count > 0);
    assert_int_equal(rpc_stream_find(world.servers[0], world.kept[0], 9).generation, world.kept[0].generation);
    assert_int_equal(rpc_stream_find(world.servers[0], world.kept[0], 8).generation, 0);
}

/* P7 */
static void quiet_streams_hear_a_heartbeat(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    int64_t ids[64];
    ask(client, 9, "stream");
    (void)hear(client);
    stepped_advance(14 * SECOND);
    assert_int_equal(hear(client).size, 0);
    assert_int_equal(notify(0, 1), OK);
    (void)hear(client);
    stepped_advance(14 * SECOND);
    assert_int_equal(hear(client).size, 0); /* it counts from the last word */
    stepped_advance(600 * SECOND);          /* and no idle limit ends it */
    assert_int_equal(hear_ids(client, ids, 64), 40);
    assert_false(sim_client_is_closed_by_peer(client));
}

/* P4: but the largest event passes alone. */
static void a_stream_waits_for_a_slow_reader_and_goes_on(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct rpc_server_options){.send_bytes_max = 65536});
    struct sim_client *client = connect_client();
    int64_t ids[64];
    ask(client, 9, "stream");
    (void)hear(client);
    assert_int_equal(notify(0, 300000), OK);
    assert_int_equal(hear(client).size, 300000 + 5 + 9);
    uint32_t sent = 0;
    while (notify(0, 30000) == OK)
        assert_true(++sent < 60);
    stepped_advance(10 * SECOND);
    assert_int_equal(world.gone_count, 0);
    assert_int_equal(stats_of(0).streams, 1);
    uint32_t drained = world.drained_count;
    assert_int_equal(hear_ids(client, ids, 64), sent);
    assert_true(world.drained_count > drained);
    assert_int_equal(notify(0, 30000), OK);
}

static void a_reader_that_takes_nothing_at_all_is_closed(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct rpc_server_options){.send_bytes_max = 65536});
    struct sim_client *client = connect_client();
    ask(client, 9, "stream");
    while (notify(0, 30000) == OK)
        continue;
    stepped_advance(299 * SECOND);
    assert_int_equal(stats_of(0).connections, 1);
    stepped_advance(2 * SECOND);
    assert_int_equal(world.gone_count, 1);
    assert_int_equal(stats_of(0).connections, 0);
}

/* Who pipelines always has something unsent: a history must not wait for the moment when there is nothing. */
static void a_stream_hears_of_room_before_all_has_left(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    char bytes[8192];
    ask(client, 9, "stream");
    (void)hear(client);
    assert_int_equal(notify(0, 300000), OK);
    stepped_settle();
    uint32_t drained = world.drained_count;
    while (world.drained_count == drained) {
        assert_true(sim_client_receive(client, bytes, sizeof bytes) > 0);
        stepped_settle();
    }
    size_t unsent = unsent_of(0);
    assert_true(unsent > 0 && unsent <= 65536);
}

static void streams_are_bounded_a_connection(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct rpc_server_options){.streams_max = 2});
    struct sim_client *client = connect_client();
    int64_t ids[4];
    ask(client, 1, "stream");
    ask(client, 2, "stream");
    assert_int_equal(world.stream_result, OK);
    ask(client, 3, "stream");
    assert_int_equal(world.stream_result, ERR_LIMIT);
    assert_int_equal(stats_of(0).streams, 2);
    assert_int_equal(stats_of(0).calls, 1); /* as open as before */
    answer_later(2);
    assert_int_equal(hear_ids(client, ids, 4), 3);
    assert_int_equal(rpc_stream_find(world.servers[0], world.kept[0], 2).index, world.kept[1].index);
    ask(connect_client(), 3, "stream");
    assert_int_equal(world.stream_result, OK); /* another connection's */
}

static void a_msgid_names_one_stream(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    ask(client, 1, "stream");
    ask(client, 1, "stream");
    assert_int_equal(world.stream_result, ERR_EXISTS);
    assert_int_equal(stats_of(0).streams, 1);
    assert_int_equal(stats_of(0).calls, 1);
}

/* ---- bytes, faults -------------------------------------------------------------------------------------------------------- */
/* A result, an error, a stream's answer, a notification, a heartbeat, a refusal: what other people's parsers read. */
static void the_bytes_are_the_golden_ones(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    ask(client, 1, "now");
    ask(client, 2, "later");
    stepped_run(0, refuse_here, &(uint32_t){0});
    ask(client, 3, "stream");
    assert_int_equal(notify(1, 4), OK);
    stepped_advance(15 * SECOND);
    say(client, SLICE_LITERAL("\x94\xc1"));
    golden_check("rpc-1.hex", hear(client));
}

/* Segments, delays, resets, full buffers: every request that was answered was answered once, and nothing leaks. */
static void faults_lose_and_double_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        const struct sim_options sim = {.latency_ns_max = 2000000,
                                        .segment_bytes_max = 1 + (uint32_t)(seed % 40),
                                        .stall_per_mille = 50,
                                        .stall_ns_max = 50000000,
                                        .reset_per_mille = seed % 3 == 0 ? 2 : 0,
                                        .socket_buffer_bytes = 512,
                                        .reorder_per_mille = 300,
                                        .delay_per_mille = 200,
                                        .delay_ns_max = 1000000,
                                        .transient_per_mille = 20,
                                        .multishot_end_per_mille = 50,
                                        .short_send_per_mille = 300,
                                        .no_buffer_per_mille = 50};
        start(seed, &sim, 2, (struct rpc_server_options){.calls_max = 8, .send_bytes_max = 1024});
        enum { CALLS = 200 };
        struct sim_client *client = sim_connect(world.address);
        assert_non_null(client);
        uint8_t answers[CALLS] = {0};
        struct buffer in;
        buffer_init(&in, 1 << 20);
        uint32_t asked = 0, heard = 0;
        size_t frame_sent = 0;
        for (int step = 0; step < 20000 && heard < CALLS && !sim_client_is_reset(client); step++) {
            struct slice frame = request(asked, "now");
            if (asked < CALLS)
                frame_sent += sim_client_send(client, frame.data + frame_sent, frame.size - frame_sent);
            if (asked < CALLS && frame_sent == frame.size) {
                asked++;
                frame_sent = 0;
            }
            stepped_advance(SECOND / 1000);
            char bytes[256];
            size_t got = sim_client_receive(client, bytes, sizeof bytes);
            buffer_append(&in, bytes, got);
            for (;;) {
                enum { ANSWER_BYTES_MIN = 5 };
                struct pack_reader reader = pack_reader_of(buffer_slice(&in));
                struct rpc_scan scan = {0};
                enum rpc_reason reason;
                if (in.size < ANSWER_BYTES_MIN || rpc_scan(&scan, 4096, buffer_slice(&in), &reason) != RPC_SCAN_DONE)
                    break;
                pack_read_array(&reader);
                assert_int_equal(pack_read_number(&reader), 1);
                uint64_t id = pack_read_number(&reader);
                assert_true(id < CALLS && answers[id] == 0);
                answers[id] = 1;
                heard++;
                buffer_remove_front(&in, scan.at);
            }
        }
        if (!sim_client_is_reset(client))
            assert_int_equal(heard, CALLS);
        buffer_deinit(&in);
        assert_int_equal(stop(NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(answers_leave_in_the_order_they_are_given, stop),
        cmocka_unit_test_teardown(what_gathers_in_a_turn_leaves_in_one_send, stop),
        cmocka_unit_test_teardown(frames_in_single_bytes_are_the_same_frames, stop),
        cmocka_unit_test_teardown(calls_over_the_bound_wait_until_others_are_answered, stop),
        cmocka_unit_test_teardown(nothing_is_read_while_answers_wait_for_their_reader, stop),
        cmocka_unit_test_teardown(large_answers_are_made_a_few_at_a_time, stop),
        cmocka_unit_test_teardown(an_answer_too_many_is_refused_and_the_connection_kept, stop),
        cmocka_unit_test_teardown(a_notification_holds_a_place_and_gets_no_answer, stop),
        cmocka_unit_test_teardown(connections_go_to_the_worker_with_the_fewest, stop),
        cmocka_unit_test_teardown(what_is_no_frame_is_refused_once_and_what_is_open_answered, stop),
        cmocka_unit_test_teardown(d6_the_first_frame_has_ten_seconds, stop),
        cmocka_unit_test_teardown(d3_a_frame_has_ten_seconds_from_its_first_byte, stop),
        cmocka_unit_test_teardown(an_idle_connection_is_closed_without_a_word, stop),
        cmocka_unit_test_teardown(half_closed_clients_get_their_answers, stop),
        cmocka_unit_test_teardown(a_reset_tells_of_every_call_and_stream, stop),
        cmocka_unit_test_teardown(a_drain_answers_what_is_open_and_takes_no_more, stop),
        cmocka_unit_test_teardown(a_drain_waits_for_the_end_of_streams, stop),
        cmocka_unit_test_teardown(a_stream_notifies_until_it_is_ended, stop),
        cmocka_unit_test_teardown(quiet_streams_hear_a_heartbeat, stop),
        cmocka_unit_test_teardown(a_stream_waits_for_a_slow_reader_and_goes_on, stop),
        cmocka_unit_test_teardown(a_reader_that_takes_nothing_at_all_is_closed, stop),
        cmocka_unit_test_teardown(a_stream_hears_of_room_before_all_has_left, stop),
        cmocka_unit_test_teardown(streams_are_bounded_a_connection, stop),
        cmocka_unit_test_teardown(a_msgid_names_one_stream, stop),
        cmocka_unit_test_teardown(the_bytes_are_the_golden_ones, stop),
        cmocka_unit_test_teardown(faults_lose_and_double_nothing, stop),
    };
    return cmocka_run_group_tests_name("rpc_server", tests, NULL, NULL);
}
