/* SPDX-License-Identifier: Apache-2.0 */
/* wake: what it costs one thread to wake another one that sleeps in its ring; to choose how ring_wake does it.
 *
 *   wake_eventfd   write to an eventfd that the sleeper's ring polls (multishot): what runtime/ring_uring.c does
 *   wake_msg_ring  IORING_OP_MSG_RING from the waker's own ring, sent with an enter of its own
 *   wake_msg_ring_with_wait  the same, but the message leaves with the enter by which the waker goes to sleep: the best case,
 *                  possible when the waker has nothing more to do, and only for wakers that have a ring
 *   wake_futex     event_count (a futex word): not for a thread that waits for I/O, a lower bound
 *
 * Two threads wake each other in turn, so a wake's whole way is timed. Prints a JSON line each: wakes a second, and processor
 * time a wake of both sides, which other load disturbs less.
 */
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/atomic.h"
#include "runtime/clock.h"
#include "runtime/event_count.h"

enum { WAKES = 200000, SIDES = 2, USER_DATA_WAKE = 1 };

struct side {
    struct io_uring ring;
    int wake_fd;
    struct event_count event;
    ATOMIC(uint32_t) ready; /* futex: release / acquire, the token */
    struct side *other;
    const struct mechanism *mechanism;
    bool is_first;
};

struct mechanism {
    const char *name;
    void (*arm)(struct side *side);
    void (*wake_other)(struct side *side);
    void (*wait)(struct side *side);
};

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "wake: %s: error %d\n", what, -result);
    exit(1);
}

/* Waits for a wake; completions of what this side has sent are passed over. */
static void wait_in_ring(struct side *side)
{
    for (;;) {
        must(io_uring_submit_and_wait(&side->ring, 1), "wait");
        struct io_uring_cqe *cqe;
        unsigned head, count = 0, wakes = 0;
        io_uring_for_each_cqe(&side->ring, head, cqe)
        {
            must(cqe->res, "completion");
            count++;
            wakes += cqe->user_data == USER_DATA_WAKE;
        }
        io_uring_cq_advance(&side->ring, count);
        if (wakes > 0)
            return;
    }
}

static void poll_eventfd(struct side *side)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&side->ring);
    io_uring_prep_poll_multishot(sqe, side->wake_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, USER_DATA_WAKE);
    must(io_uring_submit(&side->ring), "poll");
}

static void write_eventfd(struct side *side)
{
    uint64_t one = 1;
    must((int)write(side->other->wake_fd, &one, sizeof one), "write");
}

static void prepare_msg_ring(struct side *side)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&side->ring);
    io_uring_prep_msg_ring(sqe, side->other->ring.ring_fd, 0, USER_DATA_WAKE, 0);
    io_uring_sqe_set_data64(sqe, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static void submit_msg_ring(struct side *side)
{
    prepare_msg_ring(side);
    must(io_uring_submit(&side->ring), "msg_ring");
}

static void notify_event(struct side *side)
{
    atomic_store_release(&side->other->ready, 1);
    event_count_notify(&side->other->event);
}

static void wait_for_event(struct side *side)
{
    for (;;) {
        uint32_t seen = event_count_prepare(&side->event);
        if (atomic_load_acquire(&side->ready))
            break;
        (void)event_count_wait(&side->event, seen, UINT64_MAX);
    }
    atomic_store_relaxed(&side->ready, 0);
}

static const struct mechanism mechanisms[] = {
    {"wake_eventfd", poll_eventfd, write_eventfd, wait_in_ring},
    {"wake_msg_ring", NULL, submit_msg_ring, wait_in_ring},
    {"wake_msg_ring_with_wait", NULL, prepare_msg_ring, wait_in_ring},
    {"wake_futex", NULL, notify_event, wait_for_event},
};

static pthread_barrier_t both_ready;

static void *side_main(void *argument)
{
    struct side *side = argument;
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG};
    must(io_uring_queue_init_params(64, &side->ring, &params), "set up a ring");
    if (side->mechanism->arm)
        side->mechanism->arm(side);
    (void)pthread_barrier_wait(&both_ready);
    for (uint32_t i = 0; i < WAKES / SIDES; i++) {
        if (side->is_first)
            side->mechanism->wake_other(side);
        side->mechanism->wait(side);
        if (!side->is_first)
            side->mechanism->wake_other(side);
    }
    must(io_uring_submit(&side->ring), "last wake");
    (void)pthread_barrier_wait(&both_ready);
    io_uring_queue_exit(&side->ring);
    return NULL;
}

static uint64_t process_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

static void run(const struct mechanism *mechanism)
{
    struct side sides[SIDES] = {{.other = &sides[1], .is_first = true}, {.other = &sides[0]}};
    pthread_t threads[SIDES];
    pthread_barrier_init(&both_ready, NULL, SIDES);
    uint64_t began_ns = clock_mono_ns(), used_ns = process_ns();
    for (int i = 0; i < SIDES; i++) {
        sides[i].mechanism = mechanism;
        sides[i].wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    for (int i = 0; i < SIDES; i++)
        must(-pthread_create(&threads[i], NULL, side_main, &sides[i]), "start a thread");
    for (int i = 0; i < SIDES; i++) {
        pthread_join(threads[i], NULL);
        close(sides[i].wake_fd);
    }
    used_ns = process_ns() - used_ns;
    printf("{\"bench\":\"%s\",\"rate\":%.0f,\"unit\":\"wakes/s\",\"processor_ns\":%.0f}\n", mechanism->name,
           WAKES * 1e9 / (double)(clock_mono_ns() - began_ns), (double)used_ns / WAKES);
    fflush(stdout);
    pthread_barrier_destroy(&both_ready);
}

int main(void)
{
    for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++)
        run(&mechanisms[i]);
    return 0;
}
