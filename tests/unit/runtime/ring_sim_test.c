/* SPDX-License-Identifier: Apache-2.0 */
/* ring_sim: the simulation's own promises: the same seed gives the same world, each fault really happens, the server's
 * mistakes are found; and under all faults together an echo server loses, repeats and swaps no byte. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/ring.h"
#include "runtime/ring_sim.h"
#include "runtime/ring_slots.h"

enum { CLIENTS = 8, BYTES_EACH = 3000, STEPS_MAX = 400000 };

/* ---- an echo server ------------------------------------------------------------------------------------------------------ */

struct echo {
    struct ring *ring;
    struct ring_op recv, send;
    int fd; /* 0: idle */
    char bytes[BYTES_EACH];
    size_t got, sent;
    struct iovec vectors[2];
    bool is_ending;
};

struct server {
    struct ring *ring;
    int listener;
    char address[64];
    struct ring_op accept;
    uint32_t emfile_count;
    struct echo echoes[CLIENTS];
};

static void echo_end_if_over(struct echo *echo)
{
    if (!echo->is_ending || ring_op_is_active(&echo->recv) || ring_op_is_active(&echo->send))
        return;
    ring_close(echo->fd);
    echo->fd = 0;
}

static void echo_send(struct echo *echo)
{
    if (ring_op_is_active(&echo->send) || echo->sent == echo->got || echo->is_ending)
        return;
    size_t size = echo->got - echo->sent, half = (size + 1) / 2;
    echo->vectors[0] = (struct iovec){echo->bytes + echo->sent, half};
    echo->vectors[1] = (struct iovec){echo->bytes + echo->sent + half, size - half};
    ring_start_send(echo->ring, &echo->send, echo->fd, echo->vectors, 2);
}

static void on_echo_sent(struct ring_op *op, const struct ring_completion *completion)
{
    struct echo *echo = container_of(op, struct echo, send);
    if (completion->result < 0) {
        echo->is_ending = true;
        ring_cancel(echo->ring, &echo->recv);
    } else {
        echo->sent += (size_t)completion->result;
        echo_send(echo);
    }
    echo_end_if_over(echo);
}

static void on_echo_received(struct ring_op *op, const struct ring_completion *completion)
{
    struct echo *echo = container_of(op, struct echo, recv);
    if (completion->has_buffer) {
        assert_true(echo->got + (size_t)completion->result <= BYTES_EACH);
        memcpy(echo->bytes + echo->got, completion->data, (size_t)completion->result);
        echo->got += (size_t)completion->result;
        ring_buffer_return(echo->ring, completion->buffer_id);
        echo_send(echo);
    }
    if (!completion->more) {
        echo->is_ending = true;
        ring_cancel(echo->ring, &echo->send);
    }
    echo_end_if_over(echo);
}

static void on_accepted(struct ring_op *op, const struct ring_completion *completion)
{
    struct server *server = container_of(op, struct server, accept);
    if (completion->result == -EMFILE || completion->result == -ECANCELED) {
        assert_false(completion->more);
        server->emfile_count += completion->result == -EMFILE;
        return;
    }
    assert_true(completion->result >= 0 && completion->more);
    struct echo *echo = server->echoes;
    while (echo->fd != 0)
        echo++;
    assert_true(echo < server->echoes + CLIENTS);
    *echo = (struct echo){.ring = server->ring,
                          .fd = completion->result,
                          .recv.on_complete = on_echo_received,
                          .send.on_complete = on_echo_sent};
    ring_start_recv(server->ring, &echo->recv, echo->fd);
}

static void server_set_up(struct server *server)
{
    *server = (struct server){.accept.on_complete = on_accepted};
    struct ring_options options = {.sq_entries = 4, .cq_entries = 8, .buffer_count = 4, .buffer_bytes = 32};
    struct error error;
    assert_int_equal(ring_create(&options, &server->ring, &error), OK);
    assert_int_equal(ring_listen("127.0.0.1:0", &server->listener, &error), OK);
    assert_int_equal(ring_local_address(server->listener, server->address, sizeof server->address), OK);
    ring_start_accept(server->ring, &server->accept, server->listener);
}

static void step(struct server *server)
{
    if (!ring_op_is_active(&server->accept))
        ring_start_accept(server->ring, &server->accept, server->listener);
    if (ring_step(server->ring, 0) == 0) {
        /* Without faults a pass that did nothing says that nothing is to be done now. */
        uint64_t next_ns = sim_world_next_event_ns();
        if (next_ns != UINT64_MAX)
            sim_clock_advance_to(next_ns);
    }
}

static void server_tear_down(struct server *server)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct echo *echo = &server->echoes[i];
        ring_cancel(server->ring, &echo->recv);
        ring_cancel(server->ring, &echo->send);
        echo->is_ending = true;
    }
    ring_cancel(server->ring, &server->accept);
    bool is_active = true;
    for (int i = 0; is_active && i < STEPS_MAX; i++) {
        ring_step(server->ring, 0);
        is_active = ring_op_is_active(&server->accept);
        for (int j = 0; j < CLIENTS; j++)
            is_active |= server->echoes[j].fd != 0;
    }
    assert_false(is_active);
    ring_close(server->listener);
    assert_int_equal(sim_world_descriptor_count(), 0);
    ring_destroy(server->ring);
}

static struct sim_options all_faults(void)
{
    return (struct sim_options){
        .latency_ns_min = 1000,
        .latency_ns_max = 500000,
        .segment_bytes_max = 50,
        .stall_per_mille = 10,
        .stall_ns_max = 50000000,
        .socket_buffer_bytes = 200,
        .reorder_per_mille = 500,
        .delay_per_mille = 100,
        .delay_ns_max = 2000000,
        .transient_per_mille = 100,
        .multishot_end_per_mille = 200,
        .short_send_per_mille = 200,
        .no_buffer_per_mille = 100,
        .idle_no_buffer_per_mille = 500,
        .emfile_per_mille = 100,
        .cancel_race_per_mille = 500,
        .cancel_lost_per_mille = 300,
        .late_per_mille = 300,
        .busy_per_mille = 100,
    };
}

/* Returns: the trace's hash. With resets a client may end early, but what it got is a prefix of what it sent. */
static uint64_t run_echo(uint64_t seed, const struct sim_options *options, struct ring_stats *ret_stats,
                         uint32_t *ret_emfile_count)
{
    sim_world_reset(seed, options);
    struct server server;
    server_set_up(&server);
    struct {
        struct sim_client *handle;
        char bytes[BYTES_EACH], back[BYTES_EACH];
        size_t sent, got;
        bool is_done;
    } clients[CLIENTS] = {0};
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].handle = sim_connect(server.address);
        assert_non_null(clients[i].handle);
        clock_random_bytes(clients[i].bytes, BYTES_EACH);
    }
    int left = CLIENTS;
    for (int i = 0; left > 0 && i < STEPS_MAX; i++) {
        size_t index = (size_t)sim_random_below(CLIENTS);
        if (!clients[index].is_done) {
            size_t wanted = BYTES_EACH - clients[index].sent;
            wanted = wanted < 100 ? wanted : 100;
            clients[index].sent +=
                sim_client_send(clients[index].handle, clients[index].bytes + clients[index].sent, wanted);
            clients[index].got += sim_client_receive(clients[index].handle, clients[index].back + clients[index].got,
                                                     BYTES_EACH - clients[index].got);
            assert_memory_equal(clients[index].back, clients[index].bytes, clients[index].got);
            bool is_broken = sim_client_is_closed_by_peer(clients[index].handle);
            assert_true(!is_broken || options->reset_per_mille > 0);
            if (clients[index].got == BYTES_EACH || is_broken) {
                sim_client_close(clients[index].handle);
                clients[index].is_done = true;
                left--;
            }
        }
        step(&server);
    }
    assert_int_equal(left, 0);
    ring_get_stats(server.ring, ret_stats);
    *ret_emfile_count = server.emfile_count;
    server_tear_down(&server);
    uint64_t hash = sim_trace_hash();
    sim_world_destroy();
    return hash;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------------- */

static void perfect_network_has_no_faults(void **state)
{
    (void)state;
    struct sim_options none = {0};
    struct ring_stats stats;
    uint32_t emfile_count;
    (void)run_echo(1, &none, &stats, &emfile_count);
    assert_int_equal(stats.late_completions, 0);
    assert_int_equal(emfile_count, 0);
}

static void echo_survives_all_faults_and_each_happens(void **state)
{
    (void)state;
    struct sim_options options = all_faults();
    struct ring_stats sum = {0};
    uint32_t emfile_sum = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct ring_stats stats;
        uint32_t emfile_count;
        (void)run_echo(seed, &options, &stats, &emfile_count);
        sum.late_completions += stats.late_completions;
        sum.buffer_shortages += stats.buffer_shortages;
        sum.waiting_starts += stats.waiting_starts;
        sum.overflows += stats.overflows;
        emfile_sum += emfile_count;
    }
    assert_true(sum.late_completions > 0);
    assert_true(sum.buffer_shortages > 0);
    assert_true(sum.waiting_starts > 0);
    assert_true(sum.overflows > 0);
    assert_true(emfile_sum > 0);
}

static void echo_under_resets_leaks_no_descriptor(void **state)
{
    (void)state;
    struct sim_options options = all_faults();
    options.reset_per_mille = 20;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct ring_stats stats;
        uint32_t emfile_count;
        (void)run_echo(seed, &options, &stats, &emfile_count); /* server_tear_down counts */
    }
}

static void same_seed_same_world_and_other_seed_another(void **state)
{
    (void)state;
    struct sim_options options = all_faults();
    struct ring_stats stats;
    uint32_t emfile_count;
    uint64_t first = run_echo(7, &options, &stats, &emfile_count);
    assert_true(run_echo(8, &options, &stats, &emfile_count) != first);
    assert_true(run_echo(7, &options, &stats, &emfile_count) == first);
}

static void time_moves_only_by_hand(void **state)
{
    (void)state;
    sim_world_reset(1, NULL);
    uint64_t mono_ns = clock_mono_ns(), wall_ms = clock_wall_ms();
    assert_int_equal(clock_mono_ns(), mono_ns);
    sim_clock_advance_to(mono_ns + 5000000);
    assert_int_equal(clock_wall_ms(), wall_ms + 5);
    sim_clock_advance_to(mono_ns);
    assert_int_equal(clock_mono_ns(), mono_ns + 5000000);
    sim_clock_jump_wall(-3600000);
    assert_int_equal(clock_wall_ms(), wall_ms + 5 - 3600000);
    assert_int_equal(clock_mono_ns(), mono_ns + 5000000);
}

static void nobody_listening_refuses(void **state)
{
    (void)state;
    sim_world_reset(1, NULL);
    assert_null(sim_connect("127.0.0.1:1"));
    int fd;
    assert_int_equal(ring_listen("0.0.0.0:81", &fd, NULL), OK);
    struct sim_client *client = sim_connect("127.0.0.1:81");
    assert_non_null(client);
    assert_non_null(sim_connect("10.0.0.1:81"));
    ring_close(fd);
    assert_true(sim_client_is_reset(client)); /* was never accepted */
    sim_client_close(client);
    sim_world_destroy();
}

static void death_of_the_server_reaches_its_clients(void **state)
{
    (void)state;
    sim_world_reset(1, NULL);
    struct server server;
    server_set_up(&server);
    struct sim_client *client = sim_connect(server.address);
    step(&server);
    assert_int_equal(sim_world_descriptor_count(), 2);
    ring_destroy(server.ring);
    sim_world_kill_server();
    assert_int_equal(sim_world_descriptor_count(), 0);
    assert_true(sim_client_is_closed_by_peer(client));
    sim_world_destroy();
}

static void assert_aborts(void (*run)(struct server *server))
{
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        sim_world_reset(1, NULL);
        struct server server;
        server_set_up(&server);
        (void)sim_connect(server.address);
        step(&server);
        run(&server);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void close_under_an_operation(struct server *server)
{
    step(server);
    ring_close(server->echoes[0].fd);
}

static void close_twice(struct server *server)
{
    int fd;
    assert_int_equal(ring_listen("127.0.0.1:0", &fd, NULL), OK);
    ring_close(fd);
    ring_close(fd);
    (void)server;
}

static void return_unlent_buffer(struct server *server)
{
    ring_buffer_return(server->ring, 0);
}

static void start_twice(struct server *server)
{
    ring_start_accept(server->ring, &server->accept, server->listener);
}

static void mistakes_of_the_server_are_found(void **state)
{
    (void)state;
    assert_aborts(close_under_an_operation);
    assert_aborts(close_twice);
    assert_aborts(return_unlent_buffer);
    assert_aborts(start_twice);
}

static void slot_used_again_is_another_generation(void **state)
{
    (void)state;
    struct ring_slots slots = {0};
    struct ring_op a = {0}, b = {0};
    uint32_t index = ring_slots_acquire(&slots, &a);
    assert_true(index > 0);
    uint64_t first = ring_slots_user_data(&slots, index, 3);
    assert_ptr_equal(ring_slots_find(&slots, first), &a);
    assert_int_equal(ring_slots_kind(first), 3);
    ring_slots_release(&slots, index);
    assert_null(ring_slots_find(&slots, first));
    assert_int_equal(ring_slots_acquire(&slots, &b), index);
    assert_null(ring_slots_find(&slots, first));
    assert_ptr_equal(ring_slots_find(&slots, ring_slots_user_data(&slots, index, 3)), &b);
    assert_null(ring_slots_find(&slots, 0));
    assert_null(ring_slots_find(&slots, UINT64_MAX));
    ring_slots_deinit(&slots);
}

static void slots_grow_without_moving_and_end_at_the_limit(void **state)
{
    (void)state;
    struct ring_slots slots = {0};
    struct ring_op op = {0};
    (void)ring_slots_acquire(&slots, &op);
    struct ring_slot *first = ring_slots_at(&slots, 1);
    uint32_t count = 1;
    while (ring_slots_acquire(&slots, &op) != 0)
        count++;
    assert_int_equal(count, RING_SLOTS_MAX - 1);
    assert_ptr_equal(ring_slots_at(&slots, 1), first);
    ring_slots_release(&slots, 12345);
    assert_int_equal(ring_slots_acquire(&slots, &op), 12345);
    ring_slots_deinit(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perfect_network_has_no_faults),
        cmocka_unit_test(echo_survives_all_faults_and_each_happens),
        cmocka_unit_test(echo_under_resets_leaks_no_descriptor),
        cmocka_unit_test(same_seed_same_world_and_other_seed_another),
        cmocka_unit_test(time_moves_only_by_hand),
        cmocka_unit_test(nobody_listening_refuses),
        cmocka_unit_test(death_of_the_server_reaches_its_clients),
        cmocka_unit_test(mistakes_of_the_server_are_found),
        cmocka_unit_test(slot_used_again_is_another_generation),
        cmocka_unit_test(slots_grow_without_moving_and_end_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
