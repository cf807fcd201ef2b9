/* SPDX-License-Identifier: Apache-2.0 */
/* ring_uring: io_uring as the kernel beneath a ring (ring_kernel.h), and the probe of what this system allows.
 *
 * One ring a worker, completions only when the worker asks for them (DEFER_TASKRUN), provided buffers for every receive, an
 * eventfd under a multishot poll for wakes from other threads. Floor: Linux 6.1, liburing 2.3.
 *
 * Since Linux 6.13 one enter runs at most some 40 deferred completions; the TASKRUN flag then stays set, and the next turn enters
 * again. Reap enters only when it would come back with nothing: what came meanwhile is taken by the enter that submits.
 * Known limit: a sleeping worker counts as iowait (liburing 2.3 cannot set IORING_ENTER_NO_IOWAIT).
 * Callers: ring.c; ring_get_probe: `ciranda doctor`.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/ring.h"
#include "runtime/ring_kernel.h"

enum {
    SETUP_FLAGS = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                  IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
    NEEDED_FEATURES = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG,
    BUFFER_GROUP = 0,
    USER_DATA_WAKE = 0,
    REAP_ROUNDS_MAX = 8, /* enters of one reap: bounds a step when nothing but wakes comes, as fast as they are taken */
};

struct ring_kernel {
    struct io_uring uring;
    struct ring_stats *stats;
    /* One an SQE: what a vectored send names besides the vectors. The kernel reads it while it takes the SQE
     * (SUBMIT_STABLE), so it is free again when the SQE is. */
    struct msghdr *headers;

    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    uint32_t buffer_count, buffer_bytes;

    int wake_fd;
    bool is_wake_armed;
    /* Set by who writes to wake_fd, cleared when the completion is reaped: a second wake costs no system call. acq_rel on
     * both sides: who finds it set knows that the worker, when it clears it, sees what was queued before. Without that the
     * worker might look at its queues too early and sleep on work. */
    _Alignas(64) atomic_bool is_wake_pending;
};

/* ---- creation ------------------------------------------------------------------------------------------------------------ */

static size_t round_to_page(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

/* What the kernel charges against RLIMIT_MEMLOCK: SQEs, the queues and the ring of buffer descriptions. */
static size_t memlock_bytes(const struct ring_options *options)
{
    return round_to_page(options->sq_entries * sizeof(struct io_uring_sqe)) +
           round_to_page(options->sq_entries * sizeof(uint32_t) + options->cq_entries * sizeof(struct io_uring_cqe) +
                         512) +
           round_to_page(options->buffer_count * sizeof(struct io_uring_buf));
}

static void describe_failure(int os_errno, const struct ring_options *options, char *ret_text, size_t size)
{
    struct rlimit limit = {0};
    struct utsname system = {0};
    switch (os_errno) {
    case EPERM:
    case EACCES:
        snprintf(ret_text, size,
                 "io_uring is forbidden here: set sysctl kernel.io_uring_disabled=0, or run the container with a seccomp "
                 "profile that allows io_uring_setup, io_uring_enter and io_uring_register (Docker 25+ and containerd "
                 "block them by default)");
        return;
    case ENOSYS:
    case EINVAL:
    case EOPNOTSUPP:
        uname(&system);
        snprintf(ret_text, size,
                 "this kernel (%s) has no io_uring or lacks a part of it: Linux 6.1 or newer is needed (gVisor and some "
                 "hosted sandboxes have none)",
                 system.release);
        return;
    case ENOMEM:
        getrlimit(RLIMIT_MEMLOCK, &limit);
        snprintf(ret_text, size,
                 "no memory to lock: a ring needs %zu KiB, the limit for all rings of this user is %llu KiB: raise "
                 "LimitMEMLOCK or ulimit -l, or use fewer workers or smaller queues",
                 memlock_bytes(options) / 1024, (unsigned long long)limit.rlim_cur / 1024);
        return;
    case EMFILE:
    case ENFILE:
        getrlimit(RLIMIT_NOFILE, &limit);
        snprintf(ret_text, size, "out of descriptors (limit %llu): raise LimitNOFILE or ulimit -n",
                 (unsigned long long)limit.rlim_cur);
        return;
    default: snprintf(ret_text, size, "unexpected failure"); return;
    }
}

static enum err fail(struct error *error, int os_errno, const struct ring_options *options, const char *step)
{
    char text[384];
    describe_failure(os_errno, options, text, sizeof text);
    enum err code = os_errno == EMFILE || os_errno == ENFILE ? ERR_SYSTEM : ERR_RING_UNAVAILABLE;
    return error_set_errno(error, code, os_errno, "%s: %s", step, text);
}

static size_t buffer_ring_bytes(const struct ring_kernel *kernel)
{
    return kernel->buffer_count * sizeof(struct io_uring_buf);
}

static size_t buffers_bytes(const struct ring_kernel *kernel)
{
    return (size_t)kernel->buffer_count * kernel->buffer_bytes;
}

/* Returns: 0, or the errno. */
static int map_buffers(struct ring_kernel *kernel, const struct ring_options *options)
{
    kernel->buffer_count = options->buffer_count;
    kernel->buffer_bytes = options->buffer_bytes;
    int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *ring = mmap(NULL, buffer_ring_bytes(kernel), protection, flags, -1, 0);
    if (ring == MAP_FAILED)
        return ENOMEM;
    kernel->buffer_ring = ring;
    void *buffers = mmap(NULL, buffers_bytes(kernel), protection, flags, -1, 0);
    if (buffers == MAP_FAILED)
        return ENOMEM;
    kernel->buffers = buffers;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)kernel->buffer_ring,
        .ring_entries = kernel->buffer_count,
        .bgid = BUFFER_GROUP,
    };
    int result = io_uring_register_buf_ring(&kernel->uring, &registration, 0);
    if (result != 0)
        return -result;
    io_uring_buf_ring_init(kernel->buffer_ring);
    for (uint32_t id = 0; id < kernel->buffer_count; id++)
        ring_kernel_provide_buffer(kernel, (uint16_t)id);
    return 0;
}

enum err ring_kernel_create(const struct ring_options *options, struct ring_stats *stats, struct ring_kernel **ret_kernel,
                            struct error *error)
{
    struct ring_kernel *kernel = aligned_alloc(64, (sizeof *kernel + 63) / 64 * 64);
    if (!kernel)
        return error_set(error, ERR_NO_MEMORY, "ring: out of memory");
    memset(kernel, 0, sizeof *kernel);
    kernel->stats = stats;
    kernel->uring.ring_fd = -1;
    kernel->wake_fd = -1;

    enum err code;
    struct io_uring_params params = {.flags = SETUP_FLAGS, .cq_entries = options->cq_entries};
    int result = io_uring_queue_init_params(options->sq_entries, &kernel->uring, &params);
    if (result != 0) {
        kernel->uring.ring_fd = -1;
        code = fail(error, -result, options, "set up the ring");
        goto destroy;
    }
    if ((params.features & NEEDED_FEATURES) != NEEDED_FEATURES) {
        code = fail(error, EINVAL, options, "set up the ring");
        goto destroy;
    }
    kernel->headers = calloc(kernel->uring.sq.ring_entries, sizeof *kernel->headers);
    if (!kernel->headers) {
        code = error_set(error, ERR_NO_MEMORY, "ring: out of memory");
        goto destroy;
    }
    result = map_buffers(kernel, options);
    if (result != 0) {
        code = fail(error, result, options, "register the receive buffers");
        goto destroy;
    }
    kernel->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (kernel->wake_fd < 0) {
        code = fail(error, errno, options, "create the wake descriptor");
        goto destroy;
    }
    *ret_kernel = kernel;
    return OK;

destroy:
    ring_kernel_destroy(kernel);
    return code;
}

/* Also of a kernel that is half made. The ring goes before what it writes into. */
void ring_kernel_destroy(struct ring_kernel *kernel)
{
    if (kernel->uring.ring_fd >= 0)
        io_uring_queue_exit(&kernel->uring);
    if (kernel->wake_fd >= 0)
        close(kernel->wake_fd);
    if (kernel->buffers)
        munmap(kernel->buffers, buffers_bytes(kernel));
    if (kernel->buffer_ring)
        munmap(kernel->buffer_ring, buffer_ring_bytes(kernel));
    free(kernel->headers);
    free(kernel);
}

/* ---- buffers ---------------------------------------------------------------------------------------------------------------- */

char *ring_kernel_buffer(struct ring_kernel *kernel, uint16_t buffer_id)
{
    return kernel->buffers + (size_t)buffer_id * kernel->buffer_bytes;
}

void ring_kernel_provide_buffer(struct ring_kernel *kernel, uint16_t buffer_id)
{
    io_uring_buf_ring_add(kernel->buffer_ring, ring_kernel_buffer(kernel, buffer_id), kernel->buffer_bytes, buffer_id,
                          io_uring_buf_ring_mask(kernel->buffer_count), 0);
    io_uring_buf_ring_advance(kernel->buffer_ring, 1);
}

/* ---- submissions ------------------------------------------------------------------------------------------------------------ */

static void prepare_recv(struct io_uring_sqe *sqe, const struct ring_op *op)
{
    io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    if (op->is_poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

static void prepare_send(struct ring_kernel *kernel, struct io_uring_sqe *sqe, const struct ring_op *op)
{
    const unsigned flags = MSG_WAITALL | MSG_NOSIGNAL;
    const struct iovec *vectors = op->u.send.vectors;
    if (op->u.send.vector_count == 1) {
        io_uring_prep_send(sqe, op->fd, vectors[0].iov_base, vectors[0].iov_len, (int)flags);
        return;
    }
    struct msghdr *header = &kernel->headers[sqe - kernel->uring.sq.sqes];
    *header = (struct msghdr){.msg_iov = (struct iovec *)vectors, .msg_iovlen = op->u.send.vector_count};
    io_uring_prep_sendmsg(sqe, op->fd, header, flags);
}

static struct io_uring_sqe *next_sqe(struct ring_kernel *kernel)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&kernel->uring);
    kernel->stats->submitted += sqe != NULL;
    return sqe;
}

bool ring_kernel_prepare(struct ring_kernel *kernel, const struct ring_op *op, uint64_t user_data)
{
    struct io_uring_sqe *sqe = next_sqe(kernel);
    if (!sqe)
        return false;
    switch ((enum ring_op_kind)op->kind) {
    case RING_OP_ACCEPT: io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); break;
    case RING_OP_RECV: prepare_recv(sqe, op); break;
    case RING_OP_SEND: prepare_send(kernel, sqe, op); break;
    case RING_OP_POLL: io_uring_prep_poll_add(sqe, op->fd, op->u.poll.events); break;
    case RING_OP_CANCEL: ASSERT(false); break;
    }
    io_uring_sqe_set_data64(sqe, user_data);
    return true;
}

bool ring_kernel_prepare_cancel(struct ring_kernel *kernel, uint64_t target, uint64_t user_data)
{
    struct io_uring_sqe *sqe = next_sqe(kernel);
    if (!sqe)
        return false;
    io_uring_prep_cancel64(sqe, target, 0);
    io_uring_sqe_set_data64(sqe, user_data);
    return true;
}

bool ring_kernel_prepare_cancel_fd(struct ring_kernel *kernel, int fd, uint64_t user_data)
{
    struct io_uring_sqe *sqe = next_sqe(kernel);
    if (!sqe)
        return false;
    io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data64(sqe, user_data);
    return true;
}

/* Returns: whether a wake can end a wait. */
static bool arm_wake(struct ring_kernel *kernel)
{
    if (kernel->is_wake_armed)
        return true;
    struct io_uring_sqe *sqe = next_sqe(kernel);
    if (!sqe)
        return false;
    io_uring_prep_poll_multishot(sqe, kernel->wake_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, USER_DATA_WAKE);
    kernel->is_wake_armed = true;
    return true;
}

/* ---- entering -------------------------------------------------------------------------------------------------------------- */

static bool has_flag(const struct ring_kernel *kernel, unsigned flags)
{
    return (IO_URING_READ_ONCE(*kernel->uring.sq.kflags) & flags) != 0;
}

/* EINTR, ETIME: as good as a wake. EAGAIN: the kernel is short of memory; EBUSY: the completion queue is full: reap, then come
 * again. EBADR: completions were lost; their operations would never end, and nothing built on them could be trusted. */
static void check_enter(struct ring_kernel *kernel, int result)
{
    kernel->stats->enters++;
    switch (-result) {
    case EINTR:
    case ETIME:
    case EAGAIN:
    case EBUSY: return;
    case EBADR: LOG(LOG_ERROR, "ring_completions_lost", LOG_TEXT("cause", "the kernel was out of memory")); break;
    }
    ASSERT(result >= 0);
}

static int wait_for_completion(struct ring_kernel *kernel, uint64_t deadline_ns)
{
    struct io_uring_cqe *cqe;
    if (deadline_ns == UINT64_MAX)
        return io_uring_submit_and_wait_timeout(&kernel->uring, &cqe, 1, NULL, NULL);
    uint64_t now_ns = clock_mono_ns();
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(left_ns / 1000000000u),
                                        .tv_nsec = (int64_t)(left_ns % 1000000000u)};
    return io_uring_submit_and_wait_timeout(&kernel->uring, &cqe, 1, &timeout, NULL);
}

bool ring_kernel_enter(struct ring_kernel *kernel, uint64_t deadline_ns)
{
    bool may_wait = arm_wake(kernel) && deadline_ns != 0 && io_uring_cq_ready(&kernel->uring) == 0;
    bool has_work = io_uring_sq_ready(&kernel->uring) > 0 || has_flag(kernel, IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    kernel->stats->overflows += has_flag(kernel, IORING_SQ_CQ_OVERFLOW);
    if (may_wait)
        check_enter(kernel, wait_for_completion(kernel, deadline_ns));
    else if (has_work)
        check_enter(kernel, io_uring_submit_and_get_events(&kernel->uring));
    return io_uring_sq_ready(&kernel->uring) == 0;
}

static void on_wake(struct ring_kernel *kernel, const struct io_uring_cqe *cqe)
{
    /* The count in the eventfd is left alone: the poll tells of each write, not of a level. */
    atomic_exchange_explicit(&kernel->is_wake_pending, false, memory_order_acq_rel);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        kernel->is_wake_armed = false;
}

static uint32_t take_completions(struct ring_kernel *kernel, struct ring_event *ret_events, uint32_t event_count_max)
{
    struct io_uring_cqe *cqe;
    unsigned head, taken = 0;
    uint32_t count = 0;
    io_uring_for_each_cqe(&kernel->uring, head, cqe)
    {
        if (count == event_count_max)
            break;
        taken++;
        if (cqe->user_data == USER_DATA_WAKE) {
            on_wake(kernel, cqe);
            continue;
        }
        ret_events[count++] = (struct ring_event){
            .user_data = cqe->user_data,
            .result = cqe->res,
            .more = (cqe->flags & IORING_CQE_F_MORE) != 0,
            .has_buffer = (cqe->flags & IORING_CQE_F_BUFFER) != 0,
            .buffer_id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT),
        };
    }
    io_uring_cq_advance(&kernel->uring, taken);
    return count;
}

uint32_t ring_kernel_reap(struct ring_kernel *kernel, struct ring_event *ret_events, uint32_t event_count_max)
{
    uint32_t count = take_completions(kernel, ret_events, event_count_max);
    for (int round = 0; round < REAP_ROUNDS_MAX && count == 0; round++) {
        if (!has_flag(kernel, IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))
            break;
        check_enter(kernel, io_uring_get_events(&kernel->uring));
        count += take_completions(kernel, ret_events + count, event_count_max - count);
    }
    return count;
}

void ring_kernel_wake(struct ring_kernel *kernel)
{
    if (atomic_exchange_explicit(&kernel->is_wake_pending, true, memory_order_acq_rel))
        return;
    uint64_t one = 1;
    ssize_t written = write(kernel->wake_fd, &one, sizeof one);
    ASSERT(written == sizeof one || errno == EAGAIN); /* EAGAIN: 2^64 wakes; the poll has been told often enough */
}

/* ---- probe ------------------------------------------------------------------------------------------------------------------ */

enum { PROBE_NS_MAX = 1000000000 };

struct probe_op {
    struct ring *ring;
    struct ring_op op;
    bool has_worked;
};

static void on_probe_complete(struct ring_op *op, const struct ring_completion *completion)
{
    struct probe_op *probe = container_of(op, struct probe_op, op);
    if (completion->has_buffer)
        ring_buffer_return(probe->ring, completion->buffer_id);
    else if (completion->result >= 0 && completion->more)
        ring_close(completion->result);
    probe->has_worked |= completion->result >= 0 && completion->more;
}

static bool probe_wait(struct probe_op *probe)
{
    uint64_t deadline_ns = clock_mono_ns() + PROBE_NS_MAX;
    while (!probe->has_worked && ring_op_is_active(&probe->op) && clock_mono_ns() < deadline_ns)
        ring_step(probe->ring, deadline_ns);
    ring_cancel(probe->ring, &probe->op);
    while (ring_op_is_active(&probe->op))
        ring_step(probe->ring, UINT64_MAX);
    return probe->has_worked;
}

static bool probe_recv(struct ring *ring)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    struct probe_op probe = {.ring = ring, .op.on_complete = on_probe_complete};
    ring_start_recv(ring, &probe.op, pair[0]);
    bool has_worked = send(pair[1], "x", 1, MSG_NOSIGNAL) == 1 && probe_wait(&probe);
    close(pair[0]);
    close(pair[1]);
    return has_worked;
}

static bool probe_accept(struct ring *ring)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address;
    bool has_worked = false;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* A bare family binds to a name of the kernel's choice outside the file system. */
    if (listener >= 0 && client >= 0 &&
        bind(listener, (const struct sockaddr *)&address, sizeof address.sun_family) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
        connect(client, (const struct sockaddr *)&address, size) == 0) {
        struct probe_op probe = {.ring = ring, .op.on_complete = on_probe_complete};
        ring_start_accept(ring, &probe.op, listener);
        has_worked = probe_wait(&probe);
    }
    if (client >= 0)
        close(client);
    if (listener >= 0)
        close(listener);
    return has_worked;
}

void ring_get_probe(struct ring_probe *ret_probe)
{
    struct ring_probe probe = {0};
    struct utsname system = {0};
    uname(&system);
    snprintf(probe.kernel, sizeof probe.kernel, "%.32s %.30s", system.sysname, system.release);

    struct io_uring uring;
    struct io_uring_params params = {.flags = SETUP_FLAGS, .cq_entries = 32};
    if (io_uring_queue_init_params(8, &uring, &params) == 0) {
        probe.has_defer_taskrun = true;
        io_uring_queue_exit(&uring);
    }
    struct ring *ring;
    struct error error = {0};
    struct ring_options options = {.sq_entries = 8, .cq_entries = 32, .buffer_count = 2, .buffer_bytes = 64};
    if (ring_create(&options, &ring, &error) == OK) {
        probe.has_buffer_ring = true;
        probe.has_multishot_recv = probe_recv(ring);
        probe.has_multishot_accept = probe_accept(ring);
        probe.is_available = probe.has_multishot_recv && probe.has_multishot_accept;
        ring_destroy(ring);
        if (!probe.is_available)
            snprintf(probe.reason, sizeof probe.reason, "multishot receive or accept does not work: Linux 6.1 is needed");
    } else {
        snprintf(probe.reason, sizeof probe.reason, "%.511s", error.text);
    }
    *ret_probe = probe;
}
