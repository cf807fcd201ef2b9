/* SPDX-License-Identifier: Apache-2.0 */
/* ring: every I/O operation of a worker, completion by completion. With clock.h this is the seam.
 *
 * ring.c keeps the operations; beneath it one of two kernels, chosen by the linker (ring_kernel.h): ring_uring.c (io_uring)
 * and ring_sim.c (a seeded, single-threaded simulation of it, see ring_sim.h), so that simulation runs the very bookkeeping
 * that production runs. Not for files: the journal does its own I/O on its own thread through SQLite's VFS.
 *
 * Life: ring_create on the thread that will step it; ring_start_x(op); ring_step (or its two halves) until done; ring_destroy.
 *
 * Invariants
 *  I1  An operation (struct ring_op) lies in its caller's memory and belongs to the ring from ring_start_x until the
 *      completion whose `more` is false. Until then neither it nor the bytes it names may be freed or reused.
 *  I2  on_complete never runs inside the call that started or cancelled the operation: completions are drained into a list
 *      first, callbacks run after, from ring_dispatch.
 *  I3  A completion whose slot generation does not match is dropped and counted (late CQE): user_data is index plus
 *      generation, never a pointer.
 *  I4  A start never fails: when the submission queue is full, the operation waits in a list in order.
 *  I5  Buffers lent by a receive are given back with ring_buffer_return, once. A receive that ended for want of buffers
 *      (ENOBUFS) is armed again by the ring when one comes home; its owner sees nothing of it.
 */
#ifndef CIRANDA_RUNTIME_RING_H
#define CIRANDA_RUNTIME_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "runtime/error.h"
#include "runtime/slice.h"

struct ring;
struct ring_op;

struct ring_options {
    uint32_t sq_entries;   /* 0: 512 */
    uint32_t cq_entries;   /* 0: 4096; both count against RLIMIT_MEMLOCK */
    uint32_t buffer_count; /* provided receive buffers; power of two; 0: 1024 */
    uint32_t buffer_bytes; /* each; 0: 4096 */
};

struct ring_completion {
    int32_t result;  /* as io_uring: >= 0 bytes / descriptor / poll mask, < 0 negated errno */
    bool more;       /* the operation is still armed; false exactly once, at its end */
    bool has_buffer; /* a receive with data (then `more` is true): give it back with ring_buffer_return(buffer_id) */
    uint16_t buffer_id;
    const char *data; /* the received bytes, `result` of them, valid until returned */
};

typedef void ring_complete_fn(struct ring_op *op, const struct ring_completion *completion);

/* Embed it; find the owner with container_of. Zeroed is valid and idle. Fields are private but on_complete. */
struct ring_op {
    ring_complete_fn *on_complete;
    struct ring_op *next, *previous; /* the one list of the ring that `state` names */
    uint32_t slot;                   /* of its submission while the kernel has it; else 0 */
    int32_t result;                  /* of an operation that the ring itself ended */
    int fd;
    uint8_t kind;
    uint8_t state;
    bool is_poll_first;   /* armed again for want of buffers: the first attempt would be in vain */
    bool is_cancel_by_fd; /* the cancel by user_data answered ENOENT for a live operation */
    union {
        struct {
            const struct iovec *vectors;
            uint32_t vector_count;
        } send;
        struct {
            uint32_t events;
        } poll;
    } u;
};

/* Thread: the one that will step it (SINGLE_ISSUER). Returns: ERR_RING_UNAVAILABLE with likely cause and remedy in `error`
 * (kernel.io_uring_disabled, seccomp, memlock, descriptors, kernel too old). */
MUST_USE enum err ring_create(const struct ring_options *options, struct ring **ret_ring, struct error *error);
/* Every operation must have ended or the descriptors it names be closed. Accepts NULL. */
void ring_destroy(struct ring *ring);

/* ---- operations; Thread: owner for all; see I1, I2, I4 -------------------------------------------------------------- */
/* Multishot: result is a new non-blocking, close-on-exec descriptor. Re-armed by the ring after a recoverable end; on EMFILE
 * or ENFILE the completion carries the error with more=false and the owner decides when to start again. */
void ring_start_accept(struct ring *ring, struct ring_op *op, int fd);
/* Multishot receive into provided buffers. result 0: the peer finished sending. */
void ring_start_recv(struct ring *ring, struct ring_op *op, int fd);
/* One send of all vectors (MSG_WAITALL | MSG_NOSIGNAL); result may still be short. At most one in flight a socket. */
void ring_start_send(struct ring *ring, struct ring_op *op, int fd, const struct iovec *vectors, uint32_t vector_count);
/* One-shot poll; result is the mask (POLLIN, POLLOUT, ...). */
void ring_start_poll(struct ring *ring, struct ring_op *op, int fd, uint32_t events);
/* Asks that `op` end soon. It still completes (ECANCELED, or whatever won the race); no-op when idle. */
void ring_cancel(struct ring *ring, struct ring_op *op);
bool ring_op_is_active(const struct ring_op *op);
void ring_buffer_return(struct ring *ring, uint16_t buffer_id);

/* ---- sockets (plain calls, so that the simulator can stand in) ------------------------------------------------------- */
/* "127.0.0.1:7400", "[::1]:0". Returns: ERR_INVALID bad address, ERR_SYSTEM (in use, ...) with errno and remedy. */
MUST_USE enum err ring_listen(const char *address, int *ret_fd, struct error *error);
/* The bound address as text, e.g. to print the port that 0 became. `ret_text` gets at most `size` bytes with NUL. */
MUST_USE enum err ring_local_address(int fd, char *ret_text, size_t size);
MUST_USE enum err ring_peer_address(int fd, char *ret_text, size_t size);
/* A descriptor for nothing but to be closed when no other is to be had, by ring_close. Returns: -1 when there is none. */
int ring_open_reserve(void);
/* Half-closes the sending side / both; the gentlest way to end a receive. */
void ring_shutdown_write(int fd);
void ring_shutdown_both(int fd);
/* Closes the descriptor. All operations on it must have ended (cancel first: close does not cancel). */
void ring_close(int fd);

/* ---- the loop --------------------------------------------------------------------------------------------------------- */
/* Submits what is waiting and takes what has completed. Blocks until a completion, a wake or `deadline_ns` (clock_mono_ns; 0:
 * do not block; UINT64_MAX: no deadline). Returns: whether ring_dispatch, which must come before the next wait, has something
 * to do. Apart from it so that the caller can look at the clock between the two. */
bool ring_wait(struct ring *ring, uint64_t deadline_ns);
/* Runs the callbacks of what ring_wait took. Not from inside one. Returns: how many. */
uint32_t ring_dispatch(struct ring *ring);
static inline uint32_t ring_step(struct ring *ring, uint64_t deadline_ns)
{
    (void)ring_wait(ring, deadline_ns);
    return ring_dispatch(ring);
}
/* Thread: any. Makes the present or next blocking ring_wait return. Cheap when called twice. */
void ring_wake(struct ring *ring);

struct ring_stats {
    uint64_t enters, submitted, completed, late_completions, buffer_shortages, overflows, waiting_starts;
};
void ring_get_stats(const struct ring *ring, struct ring_stats *ret_stats);

/* Which features this kernel gives, for `ciranda doctor` and the start log; needs no ring. */
struct ring_probe {
    bool is_available;
    char kernel[64];
    char reason[512]; /* why not, with the remedy, when !is_available */
    bool has_defer_taskrun, has_multishot_recv, has_multishot_accept, has_buffer_ring;
};
void ring_get_probe(struct ring_probe *ret_probe);

#endif
