/* SPDX-License-Identifier: Apache-2.0 */
/* callgrind_wait: lets a server run under valgrind: a module to be preloaded (docs/PROFILING.md).
 *
 * Valgrind runs one thread at a time and hands on when a system call may block; of io_uring_enter its release 3.19 does not know
 * that, so that a worker which waits in its ring stops every other thread for good. Here the wait is a poll of the ring's
 * descriptor, which valgrind knows; the ring is entered only without waiting. The count of entries is thereby not the server's.
 */
#include <liburing.h>
#include <poll.h>

static int until(const struct __kernel_timespec *timeout)
{
    return timeout ? (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000) : -1;
}

/* In place of liburing's, for the one way in which runtime/ring_uring.c waits. */
int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **ret_cqe, unsigned wait_count,
                                     struct __kernel_timespec *timeout, sigset_t *signals)
{
    (void)wait_count, (void)signals;
    int submitted = io_uring_submit_and_get_events(ring);
    if (submitted < 0 || io_uring_peek_cqe(ring, ret_cqe) == 0)
        return submitted;
    struct pollfd waiting = {.fd = ring->ring_fd, .events = POLLIN};
    if (poll(&waiting, 1, until(timeout)) == 0)
        return -ETIME;
    (void)io_uring_get_events(ring);
    return submitted;
}
