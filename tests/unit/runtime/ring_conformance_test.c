/* SPDX-License-Identifier: Apache-2.0 */
/* ring_conformance: what ring.h promises, as small programs that run against both kernels (ring_world.h): a promise that the
 * simulation keeps and io_uring does not, or the other way round, fails here before a product test believes it.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/assert.h"
#include "runtime/ring.h"
#include "tests/unit/runtime/ring_world.h"

enum { STEPS_MAX = 2000, RECORDS_MAX = 512, BYTES_MAX = 1 << 20 };

/* An operation that writes down what it hears. */
struct probe {
    struct ring_op op;
    struct ring *ring;
    bool keeps_buffers;
    uint32_t count, final_count;
    struct ring_completion last;
    int accepted_fds[64];
    uint32_t accepted_count;
    uint16_t kept[RECORDS_MAX];
    uint32_t kept_count;
    char *bytes;
    size_t byte_count;
    bool is_calling_ring; /* inside a start or cancel: no callback may come now (I2) */
};

static void on_probe(struct ring_op *op, const struct ring_completion *completion)
{
    struct probe *probe = container_of(op, struct probe, op);
    assert_false(probe->is_calling_ring);
    assert_int_equal(probe->final_count, 0); /* nothing after the end */
    probe->count++;
    probe->last = *completion;
    if (!completion->more) {
        probe->final_count++;
        assert_false(completion->has_buffer);
        assert_false(ring_op_is_active(op));
    }
    if (completion->has_buffer) {
        assert_true(probe->byte_count + (size_t)completion->result <= BYTES_MAX);
        memcpy(probe->bytes + probe->byte_count, completion->data, (size_t)completion->result);
        probe->byte_count += (size_t)completion->result;
        if (probe->keeps_buffers)
            probe->kept[probe->kept_count++] = completion->buffer_id;
        else
            ring_buffer_return(probe->ring, completion->buffer_id);
    }
}

static void on_accept_probe(struct ring_op *op, const struct ring_completion *completion)
{
    struct probe *probe = container_of(op, struct probe, op);
    on_probe(op, completion);
    if (completion->result >= 0) {
        assert_true(completion->more);
        probe->accepted_fds[probe->accepted_count++] = completion->result;
    }
}

static struct probe *probe_create(struct ring *ring)
{
    struct probe *probe = calloc(1, sizeof *probe);
    assert_non_null(probe);
    probe->op.on_complete = on_probe;
    probe->ring = ring;
    probe->bytes = malloc(BYTES_MAX);
    assert_non_null(probe->bytes);
    return probe;
}

static void probe_destroy(struct probe *probe)
{
    assert_false(ring_op_is_active(&probe->op));
    free(probe->bytes);
    free(probe);
}

static void probe_restart(struct probe *probe)
{
    probe->final_count = 0;
}

#define STEP_UNTIL(ring, condition)                                                                                      \
    do {                                                                                                                 \
        for (int step_ = 0; !(condition); step_++) {                                                                     \
            if (step_ >= STEPS_MAX)                                                                                      \
                fail_msg("after %d steps still not: %s", step_, #condition);                                             \
            world_step(ring);                                                                                            \
        }                                                                                                                \
    } while (0)

static void cancel_and_wait(struct probe *probe)
{
    probe->is_calling_ring = true;
    ring_cancel(probe->ring, &probe->op);
    probe->is_calling_ring = false;
    STEP_UNTIL(probe->ring, !ring_op_is_active(&probe->op));
}

/* A ring with a listener, one client and its accepted side. */
struct pair {
    struct ring *ring;
    int listener;
    char address[64];
    struct probe *accept;
    struct world_client *client;
    int fd;
    struct probe *recv, *send;
};

static struct world_client *connect_one(struct pair *pair, int *ret_fd)
{
    uint32_t before = pair->accept->accepted_count;
    struct world_client *client = world_connect(pair->address);
    assert_non_null(client);
    STEP_UNTIL(pair->ring, pair->accept->accepted_count > before);
    *ret_fd = pair->accept->accepted_fds[before];
    return client;
}

static void pair_set_up(struct pair *pair, struct ring_options options)
{
    world_set_up();
    *pair = (struct pair){0};
    struct error error;
    assert_int_equal(ring_create(&options, &pair->ring, &error), OK);
    assert_int_equal(ring_listen("127.0.0.1:0", &pair->listener, &error), OK);
    assert_int_equal(ring_local_address(pair->listener, pair->address, sizeof pair->address), OK);
    pair->accept = probe_create(pair->ring);
    pair->accept->op.on_complete = on_accept_probe;
    ring_start_accept(pair->ring, &pair->accept->op, pair->listener);
    pair->client = connect_one(pair, &pair->fd);
    pair->recv = probe_create(pair->ring);
    pair->send = probe_create(pair->ring);
}

static void pair_tear_down(struct pair *pair)
{
    cancel_and_wait(pair->recv);
    cancel_and_wait(pair->send);
    cancel_and_wait(pair->accept);
    probe_destroy(pair->recv);
    probe_destroy(pair->send);
    probe_destroy(pair->accept);
    if (pair->fd >= 0)
        ring_close(pair->fd);
    ring_close(pair->listener);
    if (pair->client)
        world_close(pair->client);
    ring_destroy(pair->ring);
    world_tear_down();
}

static const struct ring_options defaults = {.sq_entries = 64, .cq_entries = 256, .buffer_count = 16, .buffer_bytes = 64};

static void fill(char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + i * 31 % 26);
}

static void received_bytes_arrive_in_order(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    char bytes[5000];
    fill(bytes, sizeof bytes);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    assert_int_equal(world_send(pair.client, bytes, sizeof bytes), sizeof bytes);
    STEP_UNTIL(pair.ring, pair.recv->byte_count == sizeof bytes);
    assert_memory_equal(pair.recv->bytes, bytes, sizeof bytes);
    assert_true(pair.recv->last.more);
    pair_tear_down(&pair);
}

static void vectored_send_is_one_stream(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    char head[] = "head ", middle[] = "middle ", tail[] = "tail";
    struct iovec vectors[] = {{head, 5}, {middle, 7}, {tail, 4}};
    ring_start_send(pair.ring, &pair.send->op, pair.fd, vectors, 3);
    STEP_UNTIL(pair.ring, !ring_op_is_active(&pair.send->op));
    assert_int_equal(pair.send->last.result, 16);
    char bytes[32];
    size_t got = 0;
    STEP_UNTIL(pair.ring, (got += world_receive(pair.client, bytes + got, sizeof bytes - got)) == 16);
    assert_memory_equal(bytes, "head middle tail", 16);
    pair_tear_down(&pair);
}

static void send_waits_for_a_reader_and_loses_nothing(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    size_t size = world_bulk_bytes(), sent = 0, got = 0;
    char *bytes = malloc(size), *back = malloc(size);
    assert_non_null(bytes);
    assert_non_null(back);
    fill(bytes, size);
    struct iovec vector = {bytes, size};
    ring_start_send(pair.ring, &pair.send->op, pair.fd, &vector, 1);
    for (int i = 0; i < 20; i++)
        ring_step(pair.ring, 0);
    assert_true(ring_op_is_active(&pair.send->op) || pair.send->last.result < (int32_t)size);
    while (got < size) {
        if (!ring_op_is_active(&pair.send->op) && sent < size) {
            assert_true(pair.send->last.result > 0);
            sent += (size_t)pair.send->last.result;
            vector = (struct iovec){bytes + sent, size - sent};
            probe_restart(pair.send);
            if (sent < size)
                ring_start_send(pair.ring, &pair.send->op, pair.fd, &vector, 1);
        }
        world_step(pair.ring);
        got += world_receive(pair.client, back + got, size - got);
    }
    assert_memory_equal(bytes, back, size);
    free(bytes);
    free(back);
    pair_tear_down(&pair);
}

static void half_close_of_the_peer_is_a_zero_and_sending_goes_on(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    world_send(pair.client, "last words", 10);
    world_shutdown_write(pair.client);
    STEP_UNTIL(pair.ring, pair.recv->final_count == 1);
    assert_int_equal(pair.recv->last.result, 0);
    assert_int_equal(pair.recv->byte_count, 10);
    struct iovec vector = {(char[]){"answer"}, 6};
    ring_start_send(pair.ring, &pair.send->op, pair.fd, &vector, 1);
    STEP_UNTIL(pair.ring, pair.send->final_count == 1);
    assert_int_equal(pair.send->last.result, 6);
    char bytes[8];
    size_t got = 0;
    STEP_UNTIL(pair.ring, (got += world_receive(pair.client, bytes, sizeof bytes)) == 6);
    pair_tear_down(&pair);
}

static void own_half_close_reaches_the_peer(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    ring_shutdown_write(pair.fd);
    char byte;
    STEP_UNTIL(pair.ring, (world_receive(pair.client, &byte, 1), world_is_closed_by_peer(pair.client)));
    assert_int_equal(world_send(pair.client, "still heard", 11), 11);
    STEP_UNTIL(pair.ring, pair.recv->byte_count == 11);
    pair_tear_down(&pair);
}

static void reset_ends_a_receive_with_its_error(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    world_step(pair.ring);
    world_reset(pair.client);
    pair.client = NULL;
    STEP_UNTIL(pair.ring, pair.recv->final_count == 1);
    assert_int_equal(pair.recv->last.result, -ECONNRESET);
    pair_tear_down(&pair);
}

static void shutdown_both_ends_a_receive(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    world_step(pair.ring);
    ring_shutdown_both(pair.fd);
    STEP_UNTIL(pair.ring, pair.recv->final_count == 1);
    assert_int_equal(pair.recv->last.result, 0);
    pair_tear_down(&pair);
}

static void send_to_a_closed_peer_fails_without_a_signal(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    world_reset(pair.client);
    pair.client = NULL;
    struct iovec vector = {(char[]){"x"}, 1};
    for (int i = 0; i < STEPS_MAX; i++) {
        probe_restart(pair.send);
        ring_start_send(pair.ring, &pair.send->op, pair.fd, &vector, 1);
        STEP_UNTIL(pair.ring, pair.send->final_count == 1);
        if (pair.send->last.result < 0)
            break;
    }
    assert_true(pair.send->last.result == -EPIPE || pair.send->last.result == -ECONNRESET);
    pair_tear_down(&pair);
}

static void accept_stays_armed_for_many_connections(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    enum { MANY = 40 };
    struct world_client *clients[MANY];
    for (int i = 0; i < MANY; i++)
        clients[i] = world_connect(pair.address);
    STEP_UNTIL(pair.ring, pair.accept->accepted_count == MANY + 1);
    assert_int_equal(pair.accept->final_count, 0);
    for (int i = 0; i < MANY; i++) {
        char text[64];
        assert_int_equal(ring_peer_address(pair.accept->accepted_fds[i + 1], text, sizeof text), OK);
        assert_memory_equal(text, "127.0.0.1:", 10);
        world_close(clients[i]);
        ring_close(pair.accept->accepted_fds[i + 1]);
    }
    pair_tear_down(&pair);
}

static void cancelled_receive_completes_once_with_ecanceled(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    world_step(pair.ring);
    cancel_and_wait(pair.recv);
    assert_int_equal(pair.recv->count, 1);
    assert_int_equal(pair.recv->last.result, -ECANCELED);
    pair_tear_down(&pair);
}

static void operation_cancelled_before_it_was_submitted_still_completes(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    cancel_and_wait(pair.recv);
    assert_int_equal(pair.recv->count, 1);
    assert_int_equal(pair.recv->last.result, -ECANCELED);
    pair_tear_down(&pair);
}

static void cancel_of_an_idle_operation_does_nothing(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_cancel(pair.ring, &pair.recv->op);
    world_step(pair.ring);
    assert_int_equal(pair.recv->count, 0);
    pair_tear_down(&pair);
}

static void cancel_racing_with_data_loses_no_byte(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    for (int round = 0; round < 200; round++) {
        size_t before = pair.recv->byte_count;
        probe_restart(pair.recv);
        ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
        if (round % 2)
            ring_step(pair.ring, 0);
        world_send(pair.client, "0123456789", 10);
        if (round % 3)
            ring_step(pair.ring, 0);
        cancel_and_wait(pair.recv);
        assert_true(pair.recv->last.result == -ECANCELED);
        /* What the cancelled receive did not take, the next one does. */
        probe_restart(pair.recv);
        ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
        STEP_UNTIL(pair.ring, pair.recv->byte_count == before + 10);
        cancel_and_wait(pair.recv);
    }
    pair_tear_down(&pair);
}

static int restarts_left;

static void on_restarting(struct ring_op *op, const struct ring_completion *completion)
{
    struct probe *probe = container_of(op, struct probe, op);
    on_probe(op, completion);
    probe_restart(probe);
    if (restarts_left-- > 0)
        ring_start_poll(probe->ring, op, op->fd, POLLOUT);
}

static void operation_may_start_again_inside_its_last_callback(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    pair.send->op.on_complete = on_restarting;
    restarts_left = 300;
    ring_start_poll(pair.ring, &pair.send->op, pair.fd, POLLOUT);
    STEP_UNTIL(pair.ring, !ring_op_is_active(&pair.send->op));
    assert_int_equal(pair.send->count, 301);
    pair_tear_down(&pair);
}

static void poll_tells_readable_and_writable(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_poll(pair.ring, &pair.recv->op, pair.fd, POLLIN);
    ring_start_poll(pair.ring, &pair.send->op, pair.fd, POLLOUT);
    STEP_UNTIL(pair.ring, pair.send->final_count == 1);
    assert_true(pair.send->last.result & POLLOUT);
    assert_int_equal(pair.recv->count, 0);
    world_send(pair.client, "x", 1);
    STEP_UNTIL(pair.ring, pair.recv->final_count == 1);
    assert_true(pair.recv->last.result & POLLIN);
    pair_tear_down(&pair);
}

static void poll_can_be_cancelled(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_poll(pair.ring, &pair.recv->op, pair.fd, POLLIN);
    world_step(pair.ring);
    cancel_and_wait(pair.recv);
    assert_int_equal(pair.recv->last.result, -ECANCELED);
    pair_tear_down(&pair);
}

static void receive_without_buffers_goes_on_when_one_comes_home(void **state)
{
    (void)state;
    struct pair pair;
    struct ring_options options = defaults;
    options.buffer_count = 2;
    pair_set_up(&pair, options);
    pair.recv->keeps_buffers = true;
    char bytes[64 * 9];
    fill(bytes, sizeof bytes);
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    assert_int_equal(world_send(pair.client, bytes, sizeof bytes), sizeof bytes);
    struct ring_stats stats;
    STEP_UNTIL(pair.ring, (ring_get_stats(pair.ring, &stats), stats.buffer_shortages > 0));
    assert_int_equal(pair.recv->kept_count, 2);
    assert_true(ring_op_is_active(&pair.recv->op));
    for (int i = 0; i < 20; i++)
        ring_step(pair.ring, 0);
    assert_int_equal(pair.recv->kept_count, 2); /* its owner sees nothing of it */
    for (uint32_t i = 0; pair.recv->byte_count < sizeof bytes; i++) {
        STEP_UNTIL(pair.ring, pair.recv->kept_count > i);
        ring_buffer_return(pair.ring, pair.recv->kept[i]);
        STEP_UNTIL(pair.ring, pair.recv->kept_count > i + 1 || pair.recv->byte_count == sizeof bytes);
    }
    assert_memory_equal(pair.recv->bytes, bytes, sizeof bytes);
    pair_tear_down(&pair);
}

static void starved_receive_can_be_cancelled(void **state)
{
    (void)state;
    struct pair pair;
    struct ring_options options = defaults;
    options.buffer_count = 1;
    pair_set_up(&pair, options);
    pair.recv->keeps_buffers = true;
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    char bytes[64 * 3];
    fill(bytes, sizeof bytes);
    world_send(pair.client, bytes, sizeof bytes);
    struct ring_stats stats;
    STEP_UNTIL(pair.ring, (ring_get_stats(pair.ring, &stats), stats.buffer_shortages > 0));
    cancel_and_wait(pair.recv);
    assert_int_equal(pair.recv->last.result, -ECANCELED);
    ring_buffer_return(pair.ring, pair.recv->kept[0]);
    world_step(pair.ring);
    assert_int_equal(pair.recv->final_count, 1);
    pair_tear_down(&pair);
}

/* Many receives share one buffer, most have nothing to read: none may be forgotten behind the idle ones. */
static void no_receive_stays_starved_behind_idle_ones(void **state)
{
    (void)state;
    struct pair pair;
    struct ring_options options = defaults;
    options.buffer_count = 1;
    pair_set_up(&pair, options);
    enum { MANY = 12 };
    struct world_client *clients[MANY];
    struct probe *receives[MANY];
    int fds[MANY];
    for (int i = 0; i < MANY; i++) {
        clients[i] = connect_one(&pair, &fds[i]);
        receives[i] = probe_create(pair.ring);
    }
    pair.recv->keeps_buffers = true;
    ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
    world_send(pair.client, "holds the only buffer", 21);
    STEP_UNTIL(pair.ring, pair.recv->kept_count == 1);
    for (int i = 0; i < MANY; i++) {
        ring_start_recv(pair.ring, &receives[i]->op, fds[i]);
        world_send(clients[i], "x", 1);
    }
    struct ring_stats stats;
    STEP_UNTIL(pair.ring, (ring_get_stats(pair.ring, &stats), stats.buffer_shortages >= MANY));
    pair.recv->keeps_buffers = false;
    ring_buffer_return(pair.ring, pair.recv->kept[0]);
    for (int i = MANY - 1; i >= 0; i--)
        STEP_UNTIL(pair.ring, receives[i]->byte_count == 1);
    for (int i = 0; i < MANY; i++) {
        cancel_and_wait(receives[i]);
        probe_destroy(receives[i]);
        ring_close(fds[i]);
        world_close(clients[i]);
    }
    pair_tear_down(&pair);
}

static void hundreds_of_starts_pass_through_a_queue_of_four(void **state)
{
    (void)state;
    struct pair pair;
    struct ring_options options = defaults;
    options.sq_entries = 4;
    options.cq_entries = 8;
    pair_set_up(&pair, options);
    enum { MANY = 500 };
    static struct probe *polls[MANY];
    for (int i = 0; i < MANY; i++) {
        polls[i] = probe_create(pair.ring);
        ring_start_poll(pair.ring, &polls[i]->op, pair.fd, i % 5 ? POLLOUT : POLLIN);
    }
    for (int i = 0; i < MANY; i++)
        if (i % 5)
            STEP_UNTIL(pair.ring, polls[i]->final_count == 1);
    struct ring_stats stats;
    ring_get_stats(pair.ring, &stats);
    assert_true(stats.waiting_starts > 0);
    for (int i = 0; i < MANY; i += 5) {
        assert_int_equal(polls[i]->count, 0);
        ring_cancel(pair.ring, &polls[i]->op);
    }
    for (int i = 0; i < MANY; i++) {
        STEP_UNTIL(pair.ring, polls[i]->final_count == 1);
        assert_int_equal(polls[i]->last.result, i % 5 ? POLLOUT : -ECANCELED);
        probe_destroy(polls[i]);
    }
    pair_tear_down(&pair);
}

/* The descriptor's number is given again at once; the new connection must not hear of the old one's end. */
static void descriptor_used_again_after_cancel_hears_only_its_own(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    for (int round = 0; round < 100; round++) {
        probe_restart(pair.recv);
        pair.recv->byte_count = 0;
        ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
        world_send(pair.client, "old", 3);
        if (round % 2)
            ring_step(pair.ring, 0);
        cancel_and_wait(pair.recv);
        int old_fd = pair.fd;
        ring_close(pair.fd);
        world_close(pair.client);
        pair.accept->accepted_count = 0;
        pair.client = connect_one(&pair, &pair.fd);
        assert_int_equal(pair.fd, old_fd);
        probe_restart(pair.recv);
        pair.recv->byte_count = 0;
        ring_start_recv(pair.ring, &pair.recv->op, pair.fd);
        world_send(pair.client, "new", 3);
        STEP_UNTIL(pair.ring, pair.recv->byte_count > 0);
        assert_memory_equal(pair.recv->bytes, "new", pair.recv->byte_count);
        cancel_and_wait(pair.recv);
    }
    pair_tear_down(&pair);
}

static void operation_on_a_bad_descriptor_fails_and_ends(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    ring_start_recv(pair.ring, &pair.recv->op, 1 << 28);
    STEP_UNTIL(pair.ring, pair.recv->final_count == 1);
    assert_int_equal(pair.recv->last.result, -EBADF);
    probe_restart(pair.recv);
    pair.recv->op.on_complete = on_accept_probe;
    ring_start_accept(pair.ring, &pair.recv->op, pair.fd); /* a connection does not accept */
    STEP_UNTIL(pair.ring, pair.recv->final_count == 1);
    assert_int_equal(pair.recv->last.result, -EINVAL);
    pair_tear_down(&pair);
}

static void two_listeners_on_one_address_are_refused(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    int fd = -7;
    struct error error = {0};
    assert_int_equal(ring_listen(pair.address, &fd, &error), ERR_SYSTEM);
    assert_int_equal(error.os_errno, EADDRINUSE);
    assert_non_null(strstr(error.text, pair.address));
    assert_non_null(strstr(error.text, "another port"));
    assert_int_equal(fd, -7);
    assert_int_equal(ring_listen("localhost:1", &fd, &error), ERR_INVALID);
    pair_tear_down(&pair);
}

static void step_without_work_does_not_block_nor_enter(void **state)
{
    (void)state;
    struct pair pair;
    pair_set_up(&pair, defaults);
    for (int i = 0; i < 10; i++)
        world_step(pair.ring); /* until all is quiet */
    struct ring_stats before, after;
    ring_get_stats(pair.ring, &before);
    for (int i = 0; i < 100; i++)
        assert_int_equal(ring_step(pair.ring, 0), 0);
    ring_get_stats(pair.ring, &after);
    assert_int_equal(after.enters, before.enters);
    pair_tear_down(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(received_bytes_arrive_in_order),
        cmocka_unit_test(vectored_send_is_one_stream),
        cmocka_unit_test(send_waits_for_a_reader_and_loses_nothing),
        cmocka_unit_test(half_close_of_the_peer_is_a_zero_and_sending_goes_on),
        cmocka_unit_test(own_half_close_reaches_the_peer),
        cmocka_unit_test(reset_ends_a_receive_with_its_error),
        cmocka_unit_test(shutdown_both_ends_a_receive),
        cmocka_unit_test(send_to_a_closed_peer_fails_without_a_signal),
        cmocka_unit_test(accept_stays_armed_for_many_connections),
        cmocka_unit_test(cancelled_receive_completes_once_with_ecanceled),
        cmocka_unit_test(operation_cancelled_before_it_was_submitted_still_completes),
        cmocka_unit_test(cancel_of_an_idle_operation_does_nothing),
        cmocka_unit_test(cancel_racing_with_data_loses_no_byte),
        cmocka_unit_test(operation_may_start_again_inside_its_last_callback),
        cmocka_unit_test(poll_tells_readable_and_writable),
        cmocka_unit_test(poll_can_be_cancelled),
        cmocka_unit_test(receive_without_buffers_goes_on_when_one_comes_home),
        cmocka_unit_test(starved_receive_can_be_cancelled),
        cmocka_unit_test(no_receive_stays_starved_behind_idle_ones),
        cmocka_unit_test(hundreds_of_starts_pass_through_a_queue_of_four),
        cmocka_unit_test(descriptor_used_again_after_cancel_hears_only_its_own),
        cmocka_unit_test(operation_on_a_bad_descriptor_fails_and_ends),
        cmocka_unit_test(two_listeners_on_one_address_are_refused),
        cmocka_unit_test(step_without_work_does_not_block_nor_enter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
