/* SPDX-License-Identifier: Apache-2.0 */
/* ring_kernel: what lies beneath a ring: submissions in, completions out. Two implementations, chosen by the linker:
 * ring_uring.c (io_uring) and ring_sim.c (the simulated kernel). Only ring.c calls it; everybody else calls ring.h.
 *
 * Life: ring_kernel_create on the owner's thread; then again and again: prepare what there is room for, enter, reap.
 *
 * K1  What was prepared goes to the kernel in order at the next enter that takes it. What an operation names must stay until
 *     its last completion; the array of vectors too.
 * K2  Each submission has completions with its user_data: any number with `more`, then exactly one without. Cancels have
 *     one. user_data 0 is the kernel side's own.
 * K3  Completions that do not fit are kept, not lost.
 */
#ifndef CIRANDA_RUNTIME_RING_KERNEL_H
#define CIRANDA_RUNTIME_RING_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/ring.h"

struct ring_kernel;

enum ring_op_kind {
    RING_OP_ACCEPT,
    RING_OP_RECV,
    RING_OP_SEND,
    RING_OP_POLL,
    RING_OP_CANCEL, /* not an operation of its own: the kind in a cancel's user_data */
};

struct ring_event {
    uint64_t user_data;
    int32_t result;
    bool more;
    bool has_buffer;
    uint16_t buffer_id;
};

/* `options` without zeroes. `stats`: enters, submitted and overflows are counted there; lent for life. */
MUST_USE enum err ring_kernel_create(const struct ring_options *options, struct ring_stats *stats,
                                     struct ring_kernel **ret_kernel, struct error *error);
void ring_kernel_destroy(struct ring_kernel *kernel);

/* Returns: false when the submission queue is full; nothing was prepared then. */
bool ring_kernel_prepare(struct ring_kernel *kernel, const struct ring_op *op, uint64_t user_data);
/* By the target's user_data, or everything on its descriptor. */
bool ring_kernel_prepare_cancel(struct ring_kernel *kernel, uint64_t target, uint64_t user_data);
bool ring_kernel_prepare_cancel_fd(struct ring_kernel *kernel, int fd, uint64_t user_data);

/* Submits what is prepared and waits until there is a completion or a wake, at most until `deadline_ns` (0: not at all).
 * Needs no system call when there is nothing to do. Returns: whether the kernel took all; false: reap, then come again. */
bool ring_kernel_enter(struct ring_kernel *kernel, uint64_t deadline_ns);
/* Takes at most `event_count_max` completions, in order. Returns: how many. */
uint32_t ring_kernel_reap(struct ring_kernel *kernel, struct ring_event *ret_events, uint32_t event_count_max);

char *ring_kernel_buffer(struct ring_kernel *kernel, uint16_t buffer_id);
void ring_kernel_provide_buffer(struct ring_kernel *kernel, uint16_t buffer_id);

/* Thread: any. */
void ring_kernel_wake(struct ring_kernel *kernel);

#endif
