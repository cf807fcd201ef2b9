/* SPDX-License-Identifier: Apache-2.0 */
/* ring_uring: what only the real kernel can show: sleeping and being woken, deadlines, and refusals a person understands. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/clock.h"
#include "runtime/ring.h"

enum { WAKES = 20000 };

static const struct ring_options small = {.sq_entries = 8, .cq_entries = 32, .buffer_count = 4, .buffer_bytes = 64};

static struct ring *create_ring(void)
{
    struct ring *ring;
    struct error error;
    assert_int_equal(ring_create(&small, &ring, &error), OK);
    return ring;
}

struct ping {
    struct ring *ring;
    _Atomic uint32_t asked, seen;
};

static void *wake_again_and_again(void *context)
{
    struct ping *ping = context;
    for (uint32_t i = 1; i <= WAKES; i++) {
        ping->asked = i;
        ring_wake(ping->ring);
        while (ping->seen != i)
            sched_yield();
    }
    return NULL;
}

/* The sleeper has no deadline: one lost wake and the test hangs. */
static void no_wake_is_lost(void **state)
{
    (void)state;
    struct ping ping = {.ring = create_ring()};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_again_and_again, &ping), 0);
    while (ping.seen != WAKES) {
        if (ping.asked == ping.seen)
            ring_step(ping.ring, UINT64_MAX);
        ping.seen = ping.asked;
    }
    pthread_join(thread, NULL);
    ring_destroy(ping.ring);
}

static void wake_before_the_step_ends_it_at_once(void **state)
{
    (void)state;
    struct ring *ring = create_ring();
    ring_step(ring, 0);
    ring_wake(ring);
    ring_wake(ring);
    assert_int_equal(ring_step(ring, UINT64_MAX), 0);
    ring_wake(ring);
    assert_int_equal(ring_step(ring, UINT64_MAX), 0);
    ring_destroy(ring);
}

static void deadline_ends_a_step_not_early(void **state)
{
    (void)state;
    struct ring *ring = create_ring();
    uint64_t deadline_ns = clock_mono_ns() + 3000000;
    assert_int_equal(ring_step(ring, deadline_ns), 0);
    assert_true(clock_mono_ns() >= deadline_ns);
    assert_int_equal(ring_step(ring, 1), 0); /* long past */
    ring_destroy(ring);
}

enum { POLLS = 300 };

static struct ring_op polls[POLLS];
static uint32_t poll_ends[POLLS];

static void on_poll(struct ring_op *op, const struct ring_completion *completion)
{
    assert_int_equal(completion->result, POLLIN);
    assert_false(completion->more);
    poll_ends[op - polls]++;
}

/* R1. One byte completes three hundred operations at once on a queue of eight: the kernel keeps what does not fit aside. */
static void a_completion_queue_that_overflows_loses_no_operation(void **state)
{
    (void)state;
    struct ring_options options = small;
    options.sq_entries = 4;
    options.cq_entries = 8;
    struct ring *ring;
    struct error error;
    assert_int_equal(ring_create(&options, &ring, &error), OK);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    for (uint32_t i = 0; i < POLLS; i++) {
        polls[i].on_complete = on_poll;
        ring_start_poll(ring, &polls[i], pair[0], POLLIN);
    }
    struct ring_stats stats;
    do { /* until the kernel has all of them */
        (void)ring_step(ring, 0);
        ring_get_stats(ring, &stats);
    } while (stats.submitted < POLLS);
    assert_int_equal(stats.completed, 0);
    assert_int_equal(send(pair[1], "x", 1, MSG_NOSIGNAL), 1);
    for (uint32_t ended = 0; ended < POLLS;)
        ended += ring_step(ring, UINT64_MAX); /* hangs when one is lost */
    ring_get_stats(ring, &stats);
    assert_true(stats.overflows > 0);
    for (uint32_t i = 0; i < POLLS; i++) {
        assert_int_equal(poll_ends[i], 1);
        assert_false(ring_op_is_active(&polls[i]));
    }
    close(pair[0]);
    close(pair[1]);
    ring_destroy(ring);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

/* R1: io_uring_enter comes back with EINTR; what is armed stays so, and the deadline holds. */
static void signals_interrupt_a_wait_and_lose_no_operation(void **state)
{
    (void)state;
    struct ring *ring = create_ring();
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    poll_ends[0] = 0;
    polls[0] = (struct ring_op){.on_complete = on_poll};
    ring_start_poll(ring, &polls[0], pair[0], POLLIN);
    struct sigaction action = {.sa_handler = on_alarm}, before;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    const struct itimerval each_ms = {.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000}, never = {0};
    assert_int_equal(setitimer(ITIMER_REAL, &each_ms, NULL), 0);
    while (alarms < 20)
        assert_int_equal(ring_step(ring, clock_mono_ns() + 20000000), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_int_equal(send(pair[1], "x", 1, MSG_NOSIGNAL), 1);
    while (poll_ends[0] == 0)
        (void)ring_step(ring, UINT64_MAX);
    assert_int_equal(poll_ends[0], 1);
    close(pair[0]);
    close(pair[1]);
    ring_destroy(ring);
}

static void want_of_descriptors_is_explained(void **state)
{
    (void)state;
    struct rlimit before, none = {0};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct ring *ring = NULL;
    struct error error = {0};
    enum err code = ring_create(&small, &ring, &error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(code, ERR_SYSTEM);
    assert_null(ring);
    assert_non_null(strstr(error.text, "descriptors"));
    assert_non_null(strstr(error.text, "ulimit -n"));
}

static void bad_buffer_counts_are_refused(void **state)
{
    (void)state;
    struct ring *ring = NULL;
    struct error error;
    struct ring_options options = small;
    options.buffer_count = 3;
    assert_int_equal(ring_create(&options, &ring, &error), ERR_INVALID);
    options.buffer_count = 65536;
    assert_int_equal(ring_create(&options, &ring, &error), ERR_INVALID);
    assert_null(ring);
    ring_destroy(NULL);
}

static void probe_tries_what_a_ring_needs(void **state)
{
    (void)state;
    struct ring_probe probe;
    ring_get_probe(&probe);
    assert_true(probe.is_available);
    assert_true(probe.has_defer_taskrun && probe.has_buffer_ring);
    assert_true(probe.has_multishot_recv && probe.has_multishot_accept);
    assert_memory_equal(probe.kernel, "Linux ", 6);
    assert_string_equal(probe.reason, "");
}

static void random_bytes_differ_and_fill_odd_sizes(void **state)
{
    (void)state;
    uint8_t first[300] = {0}, second[300] = {0};
    for (size_t size = 16; size < sizeof first; size += 17) {
        clock_random_bytes(first, size);
        clock_random_bytes(second, size);
        assert_memory_not_equal(first, second, size);
        assert_int_equal(first[sizeof first - 1], 0);
    }
    assert_true(clock_random_u64() != clock_random_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_is_lost),
        cmocka_unit_test(wake_before_the_step_ends_it_at_once),
        cmocka_unit_test(deadline_ends_a_step_not_early),
        cmocka_unit_test(a_completion_queue_that_overflows_loses_no_operation),
        cmocka_unit_test(signals_interrupt_a_wait_and_lose_no_operation),
        cmocka_unit_test(want_of_descriptors_is_explained),
        cmocka_unit_test(bad_buffer_counts_are_refused),
        cmocka_unit_test(probe_tries_what_a_ring_needs),
        cmocka_unit_test(random_bytes_differ_and_fill_odd_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
