/* SPDX-License-Identifier: Apache-2.0 */
/* ring: the life of an operation, above whichever kernel the linker chose (ring_kernel.h).
 *
 *            start              prepared                  last completion
 *   IDLE ----------> WAITING -------------> ARMED ----------------------------> IDLE (callback, more = false)
 *                      ^  |                 |  |  cancel                          ^
 *        buffers home  |  | cancel          |  +-------> CANCEL_WAITING           |
 *              STARVED-+  v                 |              | prepared             |
 *                 ^  +-> ENDED ------------ | ------------ | ---------------------+
 *                 |       (by the ring)     |              v
 *                 +-------------------------+         CANCELLING ---- as ARMED, but never armed again
 *                   receive without buffers
 *
 * A multishot operation that the kernel ends for its own reasons (no MORE flag, EINTR, no buffers) goes back to WAITING or
 * STARVED and its owner sees nothing of it. WAITING, CANCEL_WAITING, STARVED and ENDED each have a list; an operation is in
 * the list of its state and in no other. Only ring_wait talks to the kernel: starting and cancelling are list work.
 *
 * Starvation: as long as buffers are free, starved receives are armed again, at most one a free buffer and step; a step does
 * not block while there are both. So neither does one buffer wake a thousand receives in vain, nor does a receive stay
 * behind because the one armed for "its" buffer had nothing to read.
 * Limits: at most RING_STEP_EVENTS completions a step; no allocation but the slot table's growth.
 * Callers: the worker's loop, net/.
 */
#include "runtime/ring.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/ring_kernel.h"
#include "runtime/ring_slots.h"
#include "runtime/sometimes.h"

enum { RING_STEP_EVENTS = 256 };

enum ring_op_state {
    RING_OP_IDLE,           /* the owner's */
    RING_OP_WAITING,        /* in `waiting`, for room in the submission queue */
    RING_OP_ARMED,          /* the kernel's */
    RING_OP_CANCEL_WAITING, /* the kernel's; in `cancels`: its cancel waits for room */
    RING_OP_CANCELLING,     /* the kernel's; its cancel too */
    RING_OP_STARVED,        /* in `starved`, for a buffer to come home */
    RING_OP_ENDED,          /* in `ended`: completes with `result` at the next dispatch */
};

struct op_list {
    struct ring_op *first, *last;
};

struct ring {
    struct ring_kernel *kernel;
    struct ring_slots slots;
    struct op_list waiting, cancels, starved, ended;
    uint32_t buffer_count, buffers_free; /* free: with the kernel, as far as the reaped completions tell */
    bool *is_buffer_lent;                /* a buffer each */
    struct ring_stats stats;
    uint32_t event_count; /* taken and not dispatched yet */
    struct ring_event events[RING_STEP_EVENTS];
};

/* ---- lists ----------------------------------------------------------------------------------------------------------------- */

static void list_append(struct op_list *list, struct ring_op *op)
{
    op->next = NULL;
    op->previous = list->last;
    if (list->last)
        list->last->next = op;
    else
        list->first = op;
    list->last = op;
}

static void list_remove(struct op_list *list, struct ring_op *op)
{
    if (op->previous)
        op->previous->next = op->next;
    else
        list->first = op->next;
    if (op->next)
        op->next->previous = op->previous;
    else
        list->last = op->previous;
    op->next = op->previous = NULL;
}

static struct op_list *list_of_state(struct ring *ring, uint8_t state)
{
    switch ((enum ring_op_state)state) {
    case RING_OP_WAITING: return &ring->waiting;
    case RING_OP_CANCEL_WAITING: return &ring->cancels;
    case RING_OP_STARVED: return &ring->starved;
    case RING_OP_ENDED: return &ring->ended;
    case RING_OP_IDLE:
    case RING_OP_ARMED:
    case RING_OP_CANCELLING: return NULL;
    }
    return NULL;
}

/* The one place where a state changes: the lists follow it. */
static void op_set_state(struct ring *ring, struct ring_op *op, enum ring_op_state state)
{
    static const uint8_t successors[] = {
        [RING_OP_IDLE] = 1 << RING_OP_WAITING,
        [RING_OP_WAITING] = 1 << RING_OP_ARMED | 1 << RING_OP_ENDED,
        [RING_OP_ARMED] = 1 << RING_OP_CANCEL_WAITING | 1 << RING_OP_WAITING | 1 << RING_OP_STARVED | 1 << RING_OP_IDLE,
        [RING_OP_CANCEL_WAITING] = 1 << RING_OP_CANCELLING | 1 << RING_OP_ENDED | 1 << RING_OP_IDLE,
        [RING_OP_CANCELLING] = 1 << RING_OP_CANCEL_WAITING | 1 << RING_OP_ENDED | 1 << RING_OP_IDLE,
        [RING_OP_STARVED] = 1 << RING_OP_WAITING | 1 << RING_OP_ENDED,
        [RING_OP_ENDED] = 1 << RING_OP_IDLE,
    };
    ASSERT(successors[op->state] & 1 << state);
    struct op_list *from = list_of_state(ring, op->state), *to = list_of_state(ring, (uint8_t)state);
    if (from)
        list_remove(from, op);
    op->state = (uint8_t)state;
    if (to)
        list_append(to, op);
}

static void op_end(struct ring *ring, struct ring_op *op, int32_t result)
{
    op->result = result;
    op_set_state(ring, op, RING_OP_ENDED);
}

/* ---- life -------------------------------------------------------------------------------------------------------------------- */

enum err ring_create(const struct ring_options *options, struct ring **ret_ring, struct error *error)
{
    struct ring_options sized = *options;
    sized.sq_entries = sized.sq_entries ? sized.sq_entries : 512;
    sized.cq_entries = sized.cq_entries ? sized.cq_entries : 4096;
    sized.buffer_count = sized.buffer_count ? sized.buffer_count : 1024;
    sized.buffer_bytes = sized.buffer_bytes ? sized.buffer_bytes : 4096;
    bool is_power_of_two = (sized.buffer_count & (sized.buffer_count - 1)) == 0;
    if (!is_power_of_two || sized.buffer_count > 32768)
        return error_set(error, ERR_INVALID, "ring: %u receive buffers: must be a power of two, at most 32768",
                         sized.buffer_count);

    struct ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return error_set(error, ERR_NO_MEMORY, "ring: out of memory");
    enum err code;
    ring->is_buffer_lent = calloc(sized.buffer_count, sizeof *ring->is_buffer_lent);
    if (!ring->is_buffer_lent) {
        code = error_set(error, ERR_NO_MEMORY, "ring: out of memory for %u buffers", sized.buffer_count);
        goto free_ring;
    }
    code = ring_kernel_create(&sized, &ring->stats, &ring->kernel, error);
    if (code != OK)
        goto free_lent;
    ring->buffer_count = ring->buffers_free = sized.buffer_count;
    *ret_ring = ring;
    return OK;

free_lent:
    free(ring->is_buffer_lent);
free_ring:
    free(ring);
    return code;
}

void ring_destroy(struct ring *ring)
{
    if (!ring)
        return;
    ring_kernel_destroy(ring->kernel);
    ring_slots_deinit(&ring->slots);
    free(ring->is_buffer_lent);
    free(ring);
}

/* ---- starting and cancelling ------------------------------------------------------------------------------------------------- */

static void op_start(struct ring *ring, struct ring_op *op, enum ring_op_kind kind, int fd)
{
    ASSERT(op->on_complete != NULL);
    ASSERT(op->state == RING_OP_IDLE); /* I1; before a field is touched: the kernel may have it */
    op->kind = (uint8_t)kind;
    op->fd = fd;
    op->is_poll_first = false;
    op->is_cancel_by_fd = false;
    op_set_state(ring, op, RING_OP_WAITING);
}

void ring_start_accept(struct ring *ring, struct ring_op *op, int fd)
{
    op_start(ring, op, RING_OP_ACCEPT, fd);
}

void ring_start_recv(struct ring *ring, struct ring_op *op, int fd)
{
    op_start(ring, op, RING_OP_RECV, fd);
}

void ring_start_send(struct ring *ring, struct ring_op *op, int fd, const struct iovec *vectors, uint32_t vector_count)
{
    ASSERT(vector_count > 0);
    op_start(ring, op, RING_OP_SEND, fd);
    op->u.send.vectors = vectors;
    op->u.send.vector_count = vector_count;
}

void ring_start_poll(struct ring *ring, struct ring_op *op, int fd, uint32_t events)
{
    op_start(ring, op, RING_OP_POLL, fd);
    op->u.poll.events = events;
}

void ring_cancel(struct ring *ring, struct ring_op *op)
{
    switch ((enum ring_op_state)op->state) {
    case RING_OP_WAITING:
    case RING_OP_STARVED: op_end(ring, op, -ECANCELED); break;
    case RING_OP_ARMED: op_set_state(ring, op, RING_OP_CANCEL_WAITING); break;
    case RING_OP_IDLE:
    case RING_OP_CANCEL_WAITING:
    case RING_OP_CANCELLING:
    case RING_OP_ENDED: break;
    }
}

bool ring_op_is_active(const struct ring_op *op)
{
    return op->state != RING_OP_IDLE;
}

void ring_buffer_return(struct ring *ring, uint16_t buffer_id)
{
    ASSERT(buffer_id < ring->buffer_count);
    ASSERT(ring->is_buffer_lent[buffer_id]); /* I5: once */
    ring->is_buffer_lent[buffer_id] = false;
    ring->buffers_free++;
    ring_kernel_provide_buffer(ring->kernel, buffer_id);
}

/* ---- towards the kernel -------------------------------------------------------------------------------------------------------- */

static void rearm_starved(struct ring *ring)
{
    for (uint32_t left = ring->buffers_free; left > 0 && ring->starved.first; left--) {
        ring->starved.first->is_poll_first = true;
        op_set_state(ring, ring->starved.first, RING_OP_WAITING);
    }
}

static bool prepare_cancel(struct ring *ring, struct ring_op *op)
{
    uint64_t user_data = ring_slots_user_data(&ring->slots, op->slot, RING_OP_CANCEL);
    bool is_prepared =
        op->is_cancel_by_fd
            ? ring_kernel_prepare_cancel_fd(ring->kernel, op->fd, user_data)
            : ring_kernel_prepare_cancel(ring->kernel, ring_slots_user_data(&ring->slots, op->slot, op->kind), user_data);
    if (is_prepared)
        op_set_state(ring, op, RING_OP_CANCELLING);
    return is_prepared;
}

static bool prepare_start(struct ring *ring, struct ring_op *op)
{
    uint32_t slot = ring_slots_acquire(&ring->slots, op);
    if (slot == 0) {
        op_end(ring, op, -ENOMEM);
        return true;
    }
    if (!ring_kernel_prepare(ring->kernel, op, ring_slots_user_data(&ring->slots, slot, op->kind))) {
        ring_slots_release(&ring->slots, slot);
        return false;
    }
    op->slot = slot;
    op_set_state(ring, op, RING_OP_ARMED);
    return true;
}

/* Returns: whether all found room. */
static bool prepare_all(struct ring *ring)
{
    while (ring->cancels.first)
        if (!prepare_cancel(ring, ring->cancels.first))
            return false;
    while (ring->waiting.first)
        if (!prepare_start(ring, ring->waiting.first))
            return false;
    return true;
}

static void submit_all(struct ring *ring)
{
    while (!prepare_all(ring)) {
        ring->stats.waiting_starts++;
        if (!ring_kernel_enter(ring->kernel, 0))
            return;
    }
}

/* ---- from the kernel ------------------------------------------------------------------------------------------------------------- */

static void take_buffer(struct ring *ring, uint16_t buffer_id)
{
    ASSERT(buffer_id < ring->buffer_count);
    ASSERT(!ring->is_buffer_lent[buffer_id]);
    ring->is_buffer_lent[buffer_id] = true;
    ring->buffers_free--;
}

/* A completion of a submission that is over (I3). What it brings must not leak. */
static void drop_late(struct ring *ring, const struct ring_event *event)
{
    ring->stats.late_completions++;
    if (event->has_buffer) {
        take_buffer(ring, event->buffer_id);
        ring_buffer_return(ring, event->buffer_id);
    }
    if (ring_slots_kind(event->user_data) == RING_OP_ACCEPT && event->result >= 0)
        ring_close(event->result);
}

/* ENOENT for a live operation happens (multishot receive, Linux 6.11): the second attempt goes by descriptor. Other
 * operations on it may be hit too; see is_worth_again. */
static void on_cancel_answer(struct ring *ring, const struct ring_event *event)
{
    struct ring_op *target = ring_slots_find(&ring->slots, event->user_data);
    if (!target || target->state != RING_OP_CANCELLING || event->result != -ENOENT || target->is_cancel_by_fd)
        return;
    target->is_cancel_by_fd = true;
    op_set_state(ring, target, RING_OP_CANCEL_WAITING);
}

/* Whether a multishot operation got something: bytes, or a descriptor. */
static bool has_brought(enum ring_op_kind kind, int32_t result)
{
    return (kind == RING_OP_RECV && result > 0) || (kind == RING_OP_ACCEPT && result >= 0);
}

/* Whether a submission ended for a reason that is not the owner's business. */
static bool is_worth_again(enum ring_op_kind kind, int32_t result)
{
    if (has_brought(kind, result))
        return true;
    switch (-result) {
    case EINTR:
    case EAGAIN: return true;
    case ENOBUFS: return kind == RING_OP_RECV;
    case ECANCELED: return kind != RING_OP_ACCEPT; /* not asked for: hit by another's cancel by descriptor */
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET: return kind == RING_OP_ACCEPT; /* accept(2): errors of the connection, not of the listener */
    }
    return false;
}

/* A submission is over: is the operation, too? If not, `more` stays true and its owner hears of data only. */
static void op_settle(struct ring *ring, struct ring_op *op, struct ring_completion *completion)
{
    enum ring_op_kind kind = (enum ring_op_kind)op->kind;
    bool is_cancelled = op->state != RING_OP_ARMED;
    ring_slots_release(&ring->slots, op->slot);
    op->slot = 0;
    if (!is_worth_again(kind, completion->result)) {
        completion->more = false;
        op_set_state(ring, op, RING_OP_IDLE);
    } else if (is_cancelled && has_brought(kind, completion->result)) {
        op_end(ring, op, -ECANCELED); /* what came first, the end after it */
    } else if (is_cancelled) {
        completion->more = false;
        completion->result = -ECANCELED;
        op_set_state(ring, op, RING_OP_IDLE);
    } else if (completion->result == -ENOBUFS) {
        ring->stats.buffer_shortages++;
        SOMETIMES(RECEIVE_STARVED, true);
        op_set_state(ring, op, RING_OP_STARVED);
    } else {
        op->is_poll_first = false;
        op_set_state(ring, op, RING_OP_WAITING);
    }
}

static void lend_buffer(struct ring *ring, const struct ring_event *event, struct ring_completion *completion)
{
    take_buffer(ring, event->buffer_id);
    if (event->result <= 0) {
        ring_buffer_return(ring, event->buffer_id);
        return;
    }
    completion->has_buffer = true;
    completion->buffer_id = event->buffer_id;
    completion->data = ring_kernel_buffer(ring->kernel, event->buffer_id);
}

/* Returns: whether a callback ran. */
static bool dispatch_event(struct ring *ring, const struct ring_event *event)
{
    if (ring_slots_kind(event->user_data) == RING_OP_CANCEL) {
        on_cancel_answer(ring, event);
        return false;
    }
    struct ring_op *op = ring_slots_find(&ring->slots, event->user_data);
    if (!op) {
        SOMETIMES(LATE_COMPLETION, true);
        drop_late(ring, event);
        return false;
    }
    struct ring_completion completion = {.result = event->result, .more = true};
    if (event->has_buffer)
        lend_buffer(ring, event, &completion);
    if (!event->more)
        op_settle(ring, op, &completion);
    if (completion.more && !has_brought((enum ring_op_kind)op->kind, event->result))
        return false;
    ring->stats.completed++;
    op->on_complete(op, &completion);
    return true;
}

static uint32_t dispatch_ended(struct ring *ring, uint32_t count_max)
{
    uint32_t count = 0;
    for (; count < count_max && ring->ended.first; count++) {
        struct ring_op *op = ring->ended.first;
        struct ring_completion completion = {.result = op->result};
        op_set_state(ring, op, RING_OP_IDLE);
        ring->stats.completed++;
        op->on_complete(op, &completion);
    }
    return count;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------------------------- */

bool ring_wait(struct ring *ring, uint64_t deadline_ns)
{
    ASSERT(ring->event_count == 0); /* else this is a callback, or one was forgotten */
    rearm_starved(ring);
    submit_all(ring);
    bool has_more = ring->ended.first || ring->waiting.first || ring->cancels.first ||
                    (ring->starved.first && ring->buffers_free > 0);
    ring_kernel_enter(ring->kernel, has_more ? 0 : deadline_ns);
    ring->event_count = ring_kernel_reap(ring->kernel, ring->events, RING_STEP_EVENTS);
    return ring->event_count > 0 || ring->ended.first;
}

uint32_t ring_dispatch(struct ring *ring)
{
    uint32_t callback_count = 0;
    for (uint32_t i = 0; i < ring->event_count; i++)
        callback_count += dispatch_event(ring, &ring->events[i]);
    ring->event_count = 0;
    return callback_count + dispatch_ended(ring, RING_STEP_EVENTS);
}

void ring_wake(struct ring *ring)
{
    ring_kernel_wake(ring->kernel);
}

void ring_get_stats(const struct ring *ring, struct ring_stats *ret_stats)
{
    *ret_stats = ring->stats;
}
