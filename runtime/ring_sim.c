/* SPDX-License-Identifier: Apache-2.0 */
/* ring_sim: the simulated kernel beneath a ring (ring_kernel.h), and the world that holds all of them.
 *
 * An enter takes the queued submissions in order, then gives each operation that has one a chance to get on with its socket
 * (sim_network.h); what it gets becomes completions, which wait to be reaped. Where io_uring may choose, the seed does: the
 * order among ready operations, when a multishot ends, who wins between a cancel and its target, when buffers look used up,
 * whether a last completion comes a second time after its slot has gone to somebody else.
 *
 * Fidelity is held by ring_conformance_test.c, which runs against this and against io_uring. Callers: ring.c.
 */
#include "runtime/ring_sim.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/clock_sim.h"
#include "runtime/ring_kernel.h"
#include "runtime/ring_slots.h"
#include "runtime/sim_network.h"

enum { RINGS_MAX = 64, SHOTS_MAX = 32 /* completions of one multishot in one pass, as the kernel's */ };

struct submission {
    uint64_t user_data;
    uint64_t cancel_target; /* of a cancel by user_data */
    enum ring_op_kind kind;
    int fd; /* of a cancel: -1 unless it goes by descriptor */
    bool is_poll_first;
    uint32_t poll_events;
    const struct iovec *vectors;
    uint32_t vector_count;
    size_t sent_bytes;      /* MSG_WAITALL: so far */
    uint64_t not_before_ns; /* its completion is held up until then */
    bool is_held_up;        /* was, once: not again */
    bool is_over;
};

struct late_event {
    uint64_t due_ns;
    struct ring_event event;
};

/* A growing array; what grows here is bounded by the test. */
struct array {
    void *items;
    size_t count, capacity;
};

struct ring_kernel {
    struct ring_stats *stats;
    uint32_t sq_entries, cq_entries;
    struct array queued; /* struct submission: prepared, at most sq_entries */
    struct array armed;  /* struct submission */
    struct array events; /* struct ring_event: to be reaped; beyond cq_entries: the kernel's overflow list */
    struct array late;   /* struct late_event */
    uint32_t buffer_count, buffer_bytes;
    char *buffers;
    uint16_t *free_buffers; /* FIFO, as in a buffer ring */
    uint32_t free_first, free_count;
};

static struct {
    struct sim_options options;
    struct ring_kernel *kernels[RINGS_MAX];
} world;

static void *array_add(struct array *array, const void *item, size_t size)
{
    if (array->count == array->capacity) {
        array->capacity = array->capacity ? array->capacity * 2 : 64;
        array->items = realloc(array->items, array->capacity * size);
        ASSERT(array->items != NULL);
    }
    void *place = (char *)array->items + array->count++ * size;
    memcpy(place, item, size);
    return place;
}

static void array_remove_front(struct array *array, size_t count, size_t size)
{
    if (count == 0)
        return;
    array->count -= count;
    memmove(array->items, (char *)array->items + count * size, array->count * size);
}

static struct submission *submission_at(const struct array *array, size_t index)
{
    return (struct submission *)array->items + index;
}

/* ---- the world ------------------------------------------------------------------------------------------------------------- */

const struct sim_options *sim_world_options(void)
{
    return &world.options;
}

void sim_world_set_options(const struct sim_options *options)
{
    world.options = options ? *options : (struct sim_options){0};
}

static void assert_no_rings(void)
{
    for (int i = 0; i < RINGS_MAX; i++)
        ASSERT(world.kernels[i] == NULL);
}

void sim_world_reset(uint64_t seed, const struct sim_options *options)
{
    assert_no_rings();
    sim_network_reset();
    sim_clock_reset(seed);
    sim_world_set_options(options);
}

void sim_world_destroy(void)
{
    sim_world_reset(0, NULL);
}

void sim_world_kill_server(void)
{
    assert_no_rings();
    sim_network_kill_server();
}

static uint64_t earlier_future(uint64_t best_ns, uint64_t candidate_ns)
{
    return candidate_ns > clock_mono_ns() && candidate_ns < best_ns ? candidate_ns : best_ns;
}

uint64_t sim_world_next_event_ns(void)
{
    uint64_t best_ns = sim_network_next_event_ns();
    for (int i = 0; i < RINGS_MAX; i++) {
        const struct ring_kernel *kernel = world.kernels[i];
        if (!kernel)
            continue;
        for (size_t j = 0; j < kernel->armed.count; j++)
            best_ns = earlier_future(best_ns, submission_at(&kernel->armed, j)->not_before_ns);
        for (size_t j = 0; j < kernel->late.count; j++)
            best_ns = earlier_future(best_ns, ((struct late_event *)kernel->late.items)[j].due_ns);
    }
    return best_ns;
}

static bool has_operation_on(const struct array *array, int fd)
{
    for (size_t i = 0; i < array->count; i++)
        if (submission_at(array, i)->fd == fd && submission_at(array, i)->kind != RING_OP_CANCEL)
            return true;
    return false;
}

bool sim_kernel_has_operation_on(int fd)
{
    for (int i = 0; i < RINGS_MAX; i++) {
        const struct ring_kernel *kernel = world.kernels[i];
        if (kernel && (has_operation_on(&kernel->queued, fd) || has_operation_on(&kernel->armed, fd)))
            return true;
    }
    return false;
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------- */

enum err ring_kernel_create(const struct ring_options *options, struct ring_stats *stats, struct ring_kernel **ret_kernel,
                            struct error *error)
{
    int place = 0;
    while (place < RINGS_MAX && world.kernels[place])
        place++;
    if (place == RINGS_MAX)
        return error_set(error, ERR_LIMIT, "ring: the simulated world has at most %d", RINGS_MAX);
    struct ring_kernel *kernel = calloc(1, sizeof *kernel);
    ASSERT(kernel != NULL);
    kernel->stats = stats;
    kernel->sq_entries = options->sq_entries;
    kernel->cq_entries = options->cq_entries;
    kernel->buffer_count = options->buffer_count;
    kernel->buffer_bytes = options->buffer_bytes;
    kernel->buffers = calloc(options->buffer_count, options->buffer_bytes);
    kernel->free_buffers = calloc(options->buffer_count, sizeof *kernel->free_buffers);
    ASSERT(kernel->buffers != NULL && kernel->free_buffers != NULL);
    for (uint32_t id = 0; id < options->buffer_count; id++)
        ring_kernel_provide_buffer(kernel, (uint16_t)id);
    world.kernels[place] = kernel;
    *ret_kernel = kernel;
    return OK;
}

void ring_kernel_destroy(struct ring_kernel *kernel)
{
    for (int i = 0; i < RINGS_MAX; i++)
        if (world.kernels[i] == kernel)
            world.kernels[i] = NULL;
    free(kernel->queued.items);
    free(kernel->armed.items);
    free(kernel->events.items);
    free(kernel->late.items);
    free(kernel->buffers);
    free(kernel->free_buffers);
    free(kernel);
}

/* ---- buffers -------------------------------------------------------------------------------------------------------------------- */

char *ring_kernel_buffer(struct ring_kernel *kernel, uint16_t buffer_id)
{
    return kernel->buffers + (size_t)buffer_id * kernel->buffer_bytes;
}

void ring_kernel_provide_buffer(struct ring_kernel *kernel, uint16_t buffer_id)
{
    ASSERT(kernel->free_count < kernel->buffer_count);
    memset(ring_kernel_buffer(kernel, buffer_id), 0xDB, kernel->buffer_bytes); /* who still reads it shall see nonsense */
    kernel->free_buffers[(kernel->free_first + kernel->free_count++) % kernel->buffer_count] = buffer_id;
}

static uint16_t peek_buffer(const struct ring_kernel *kernel)
{
    return kernel->free_buffers[kernel->free_first];
}

static void take_buffer(struct ring_kernel *kernel)
{
    kernel->free_first = (kernel->free_first + 1) % kernel->buffer_count;
    kernel->free_count--;
}

/* ---- submissions ----------------------------------------------------------------------------------------------------------------- */

static bool queue_submission(struct ring_kernel *kernel, struct submission submission)
{
    if (kernel->queued.count >= kernel->sq_entries)
        return false;
    array_add(&kernel->queued, &submission, sizeof submission);
    kernel->stats->submitted++;
    return true;
}

bool ring_kernel_prepare(struct ring_kernel *kernel, const struct ring_op *op, uint64_t user_data)
{
    struct submission submission = {
        .user_data = user_data, .kind = (enum ring_op_kind)op->kind, .fd = op->fd, .is_poll_first = op->is_poll_first};
    if (op->kind == RING_OP_SEND) {
        submission.vectors = op->u.send.vectors;
        submission.vector_count = op->u.send.vector_count;
    } else if (op->kind == RING_OP_POLL) {
        submission.poll_events = op->u.poll.events;
    }
    return queue_submission(kernel, submission);
}

bool ring_kernel_prepare_cancel(struct ring_kernel *kernel, uint64_t target, uint64_t user_data)
{
    return queue_submission(
        kernel, (struct submission){.user_data = user_data, .kind = RING_OP_CANCEL, .cancel_target = target, .fd = -1});
}

bool ring_kernel_prepare_cancel_fd(struct ring_kernel *kernel, int fd, uint64_t user_data)
{
    return queue_submission(kernel, (struct submission){.user_data = user_data, .kind = RING_OP_CANCEL, .fd = fd});
}

/* ---- completions ------------------------------------------------------------------------------------------------------------------ */

static void post(struct ring_kernel *kernel, const struct submission *submission, struct ring_event event)
{
    event.user_data = submission->user_data;
    array_add(&kernel->events, &event, sizeof event);
    kernel->stats->overflows += kernel->events.count > kernel->cq_entries;
    sim_trace_u64((uint64_t)submission->kind << 32 | (uint32_t)submission->fd);
    sim_trace_u64((uint64_t)event.more << 32 | (uint32_t)event.result);
}

/* The last completion. A late copy of it may follow when the slot is long somebody else's; it must bring nothing that
 * would be lost with it, but for a buffer, which the ring has to give back. */
static void post_last(struct ring_kernel *kernel, struct submission *submission, int32_t result)
{
    ASSERT(!submission->is_over);
    submission->is_over = true;
    post(kernel, submission, (struct ring_event){.result = result});
    if (!sim_chance(world.options.late_per_mille))
        return;
    struct late_event late = {
        .due_ns = clock_mono_ns() + sim_random_below(world.options.delay_ns_max + 1),
        .event = {.user_data = submission->user_data, .result = -ECANCELED},
    };
    array_add(&kernel->late, &late, sizeof late);
}

/* A completion of a multishot that got something. The kernel ends it when the queue overflows, or for its own reasons. */
static void post_shot(struct ring_kernel *kernel, struct submission *submission, struct ring_event event)
{
    bool is_full = kernel->events.count >= kernel->cq_entries;
    event.more = !is_full && !sim_chance(world.options.multishot_end_per_mille);
    submission->is_over = !event.more;
    post(kernel, submission, event);
}

static void post_late(struct ring_kernel *kernel)
{
    struct late_event *late = kernel->late.items;
    size_t kept = 0;
    for (size_t i = 0; i < kernel->late.count; i++) {
        if (late[i].due_ns > clock_mono_ns()) {
            late[kept++] = late[i];
            continue;
        }
        struct ring_event event = late[i].event;
        if (ring_slots_kind(event.user_data) == RING_OP_RECV && kernel->free_count > 0) {
            event = (struct ring_event){
                .user_data = event.user_data, .result = 1, .has_buffer = true, .buffer_id = peek_buffer(kernel)};
            take_buffer(kernel);
        }
        array_add(&kernel->events, &event, sizeof event);
    }
    kernel->late.count = kept;
}

/* ---- operations getting on -------------------------------------------------------------------------------------------------------- */

static void run_accept(struct ring_kernel *kernel, struct submission *submission)
{
    for (int shot = 0; shot < SHOTS_MAX && !submission->is_over; shot++) {
        int32_t result = sim_socket_accept(submission->fd);
        if (result == -EAGAIN)
            return;
        if (result < 0)
            post_last(kernel, submission, result);
        else
            post_shot(kernel, submission, (struct ring_event){.result = result});
    }
}

static void run_recv(struct ring_kernel *kernel, struct submission *submission)
{
    for (int shot = 0; shot < SHOTS_MAX && !submission->is_over; shot++) {
        bool has_buffer = kernel->free_count > 0;
        char *place = has_buffer ? ring_kernel_buffer(kernel, peek_buffer(kernel)) : NULL;
        bool is_readable = (sim_socket_poll(submission->fd, POLLIN) & (POLLIN | POLLERR | POLLNVAL)) != 0;
        if (is_readable && (!has_buffer || sim_chance(world.options.no_buffer_per_mille))) {
            post_last(kernel, submission, -ENOBUFS);
            return;
        }
        int32_t result = sim_socket_read(submission->fd, place, has_buffer ? kernel->buffer_bytes : 0);
        if (!is_readable && result >= 0)
            return; /* asked for nothing, got nothing */
        if (result == -EAGAIN)
            return;
        if (result <= 0) {
            post_last(kernel, submission, result);
            return;
        }
        struct ring_event event = {.result = result, .has_buffer = true, .buffer_id = peek_buffer(kernel)};
        take_buffer(kernel);
        post_shot(kernel, submission, event);
    }
}

/* The vector that the next byte comes from. Returns: NULL when all is sent. */
static const char *next_bytes(const struct submission *submission, size_t *ret_size)
{
    size_t skip = submission->sent_bytes;
    for (uint32_t i = 0; i < submission->vector_count; i++) {
        if (skip < submission->vectors[i].iov_len) {
            *ret_size = submission->vectors[i].iov_len - skip;
            return (const char *)submission->vectors[i].iov_base + skip;
        }
        skip -= submission->vectors[i].iov_len;
    }
    return NULL;
}

static void run_send(struct ring_kernel *kernel, struct submission *submission)
{
    size_t size = 0;
    const char *bytes = next_bytes(submission, &size);
    bool is_short = sim_chance(world.options.short_send_per_mille);
    if (is_short && bytes)
        size = 1 + (size_t)sim_random_below(size);
    for (; bytes; bytes = next_bytes(submission, &size)) {
        int32_t result = sim_socket_write(submission->fd, bytes, size);
        if (result == -EAGAIN)
            return;
        if (result < 0) {
            post_last(kernel, submission, submission->sent_bytes > 0 ? (int32_t)submission->sent_bytes : result);
            return;
        }
        submission->sent_bytes += (size_t)result;
        if (is_short)
            break;
    }
    post_last(kernel, submission, (int32_t)submission->sent_bytes);
}

static void run_poll(struct ring_kernel *kernel, struct submission *submission)
{
    int32_t mask = sim_socket_poll(submission->fd, submission->poll_events);
    if (mask & POLLNVAL)
        post_last(kernel, submission, -EBADF);
    else if (mask != 0)
        post_last(kernel, submission, mask);
}

static bool is_ready(const struct submission *submission)
{
    uint32_t wanted = submission->kind == RING_OP_SEND   ? POLLOUT
                      : submission->kind == RING_OP_POLL ? submission->poll_events
                                                         : POLLIN;
    return sim_socket_poll(submission->fd, wanted) != 0;
}

static int32_t draw_transient_error(enum ring_op_kind kind)
{
    static const int32_t errors[] = {-EINTR, -EAGAIN, -ECONNABORTED};
    return errors[sim_random_below(kind == RING_OP_ACCEPT ? 3 : 2)];
}

static void run_operation(struct ring_kernel *kernel, struct submission *submission)
{
    if (submission->is_over || submission->not_before_ns > clock_mono_ns())
        return;
    const struct sim_options *options = &world.options;
    if (is_ready(submission)) {
        if (!submission->is_held_up && sim_chance(options->delay_per_mille)) {
            submission->is_held_up = true;
            submission->not_before_ns = clock_mono_ns() + sim_random_below(options->delay_ns_max + 1);
            return;
        }
        submission->is_held_up = false;
        if (submission->sent_bytes == 0 && sim_chance(options->transient_per_mille)) {
            post_last(kernel, submission, draw_transient_error(submission->kind));
            return;
        }
        if (submission->kind == RING_OP_ACCEPT && sim_chance(options->emfile_per_mille)) {
            post_last(kernel, submission, -EMFILE);
            return;
        }
    }
    switch (submission->kind) {
    case RING_OP_ACCEPT: run_accept(kernel, submission); break;
    case RING_OP_RECV: run_recv(kernel, submission); break;
    case RING_OP_SEND: run_send(kernel, submission); break;
    case RING_OP_POLL: run_poll(kernel, submission); break;
    case RING_OP_CANCEL: ASSERT(false); break;
    }
}

static void sweep_armed(struct ring_kernel *kernel)
{
    size_t kept = 0;
    for (size_t i = 0; i < kernel->armed.count; i++)
        if (!submission_at(&kernel->armed, i)->is_over)
            *submission_at(&kernel->armed, kept++) = *submission_at(&kernel->armed, i);
    kernel->armed.count = kept;
}

static void shuffle_armed(struct ring_kernel *kernel)
{
    for (size_t left = kernel->armed.count; left > 1; left--) {
        struct submission *a = submission_at(&kernel->armed, left - 1);
        struct submission *b = submission_at(&kernel->armed, (size_t)sim_random_below(left));
        struct submission swapped = *a;
        *a = *b;
        *b = swapped;
    }
}

static void run_armed(struct ring_kernel *kernel)
{
    if (sim_chance(world.options.reorder_per_mille))
        shuffle_armed(kernel);
    for (size_t i = 0; i < kernel->armed.count; i++)
        run_operation(kernel, submission_at(&kernel->armed, i));
    sweep_armed(kernel);
}

/* ---- entering ------------------------------------------------------------------------------------------------------------------------ */

/* What a cancelled operation ends with: a send that got somewhere says how far. */
static void end_cancelled(struct ring_kernel *kernel, struct submission *target)
{
    if (sim_chance(world.options.cancel_race_per_mille))
        run_operation(kernel, target);
    if (!target->is_over)
        post_last(kernel, target, target->sent_bytes > 0 ? (int32_t)target->sent_bytes : -ECANCELED);
}

static void run_cancel(struct ring_kernel *kernel, const struct submission *cancel)
{
    bool is_by_fd = cancel->fd >= 0;
    bool is_answer_first = sim_chance(world.options.cancel_race_per_mille);
    bool is_lost = !is_by_fd && sim_chance(world.options.cancel_lost_per_mille);
    int32_t found = 0;
    for (size_t i = 0; i < kernel->armed.count && !is_lost; i++) {
        struct submission *target = submission_at(&kernel->armed, i);
        if (is_by_fd ? target->fd != cancel->fd : target->user_data != cancel->cancel_target)
            continue;
        if (target->is_over)
            continue;
        if (found++ == 0 && is_answer_first)
            post(kernel, cancel, (struct ring_event){.result = 0});
        end_cancelled(kernel, target);
    }
    if (found == 0)
        post(kernel, cancel, (struct ring_event){.result = is_by_fd ? 0 : -ENOENT});
    else if (!is_answer_first)
        post(kernel, cancel, (struct ring_event){.result = is_by_fd ? found : 0});
}

/* Up to Linux 6.8 a receive armed without buffers fails at once, also on an idle socket, unless it polls first. */
static bool fails_when_armed(const struct ring_kernel *kernel, const struct submission *submission)
{
    return submission->kind == RING_OP_RECV && kernel->free_count == 0 && !submission->is_poll_first &&
           sim_chance(world.options.idle_no_buffer_per_mille);
}

static void take_queued(struct ring_kernel *kernel)
{
    for (size_t i = 0; i < kernel->queued.count; i++) {
        struct submission *submission = submission_at(&kernel->queued, i);
        if (submission->kind == RING_OP_CANCEL) {
            run_cancel(kernel, submission);
            continue;
        }
        struct submission *armed = array_add(&kernel->armed, submission, sizeof *submission);
        if (fails_when_armed(kernel, armed))
            post_last(kernel, armed, -ENOBUFS);
    }
    kernel->queued.count = 0;
    sweep_armed(kernel);
}

bool ring_kernel_enter(struct ring_kernel *kernel, uint64_t deadline_ns)
{
    (void)deadline_ns; /* W1 */
    size_t events_before = kernel->events.count;
    bool is_idle = kernel->queued.count == 0;
    if (!is_idle && sim_chance(world.options.busy_per_mille)) {
        kernel->stats->enters++;
        return false;
    }
    take_queued(kernel);
    run_armed(kernel);
    post_late(kernel);
    kernel->stats->enters += !is_idle || kernel->events.count > events_before;
    return true;
}

uint32_t ring_kernel_reap(struct ring_kernel *kernel, struct ring_event *ret_events, uint32_t event_count_max)
{
    size_t count = kernel->events.count < event_count_max ? kernel->events.count : event_count_max;
    if (count > 0)
        memcpy(ret_events, kernel->events.items, count * sizeof *ret_events);
    array_remove_front(&kernel->events, count, sizeof *ret_events);
    return (uint32_t)count;
}

void ring_kernel_wake(struct ring_kernel *kernel)
{
    (void)kernel; /* nothing ever sleeps */
}

void ring_get_probe(struct ring_probe *ret_probe)
{
    *ret_probe = (struct ring_probe){
        .is_available = true,
        .kernel = "simulation",
        .has_defer_taskrun = true,
        .has_multishot_recv = true,
        .has_multishot_accept = true,
        .has_buffer_ring = true,
    };
}
