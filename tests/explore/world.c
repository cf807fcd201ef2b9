/* SPDX-License-Identifier: Apache-2.0 */
/* world: see world.h. The linker leads the C library's functions here (--wrap, tests/explore/CMakeLists.txt). */
#include "tests/explore/world.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/ring.h"
#include "tests/explore/model.h"
#include "tests/explore/schedule.h"

static void stop_at(const void *place, const bool *is_enabled)
{
    schedule_point(&(struct schedule_op){.kind = SCHEDULE_WRITE, .place = place, .is_enabled = is_enabled});
}

/* ---- events and the ring -------------------------------------------------------------------------------------------------- */

void world_event_set(struct world_event *event)
{
    stop_at(event, NULL);
    event->is_set = true;
    schedule_trace("wake");
}

void world_event_wait(struct world_event *event)
{
    stop_at(event, &event->is_set);
    event->is_set = false;
    schedule_trace("awake");
}

struct ring {
    struct world_event wake;
};

enum err ring_create(const struct ring_options *options, struct ring **ret_ring, struct error *error)
{
    (void)options, (void)error;
    *ret_ring = calloc(1, sizeof **ret_ring);
    return OK;
}

void ring_destroy(struct ring *ring)
{
    free(ring);
}

bool ring_wait(struct ring *ring, uint64_t deadline_ns)
{
    if (deadline_ns != 0)
        world_event_wait(&ring->wake);
    return false;
}

uint32_t ring_dispatch(struct ring *ring)
{
    (void)ring;
    return 0;
}

void ring_wake(struct ring *ring)
{
    world_event_set(&ring->wake);
}

uint64_t clock_mono_ns(void)
{
    return 1000000000;
}

void assert_failed(const char *expression, const char *file, int line, const char *function)
{
    schedule_fail("%s:%d: %s: assertion %s", file, line, function, expression);
}

enum log_level log_get_level(void)
{
    return LOG_ERROR; /* the runtime's own lines are below it */
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
    (void)level, (void)fields, (void)field_count;
    schedule_fail("logged: %s", event);
}

/* ---- futex ---------------------------------------------------------------------------------------------------------------- */

struct waiter {
    const void *word; /* NULL: does not wait */
    bool is_woken;
};
static struct waiter waiters[SCHEDULE_THREADS_MAX];

static long futex_wait(const uint32_t *word, uint32_t expected)
{
    stop_at(word, NULL);
    if (*word != expected) { /* the kernel compares under its lock: the last value */
        errno = EAGAIN;
        return -1;
    }
    struct waiter *waiter = &waiters[schedule_thread()];
    *waiter = (struct waiter){.word = word};
    schedule_trace("futex wait");
    stop_at(waiter, &waiter->is_woken);
    return 0;
}

static long futex_wake(const uint32_t *word)
{
    stop_at(word, NULL);
    for (uint32_t thread = 0; thread < SCHEDULE_THREADS_MAX; thread++) {
        if (waiters[thread].word == word) {
            waiters[thread] = (struct waiter){.is_woken = true};
            schedule_order(schedule_thread(), thread);
        }
    }
    schedule_trace("futex wake");
    return 0;
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    const uint32_t *word = va_arg(arguments, const uint32_t *);
    int operation = va_arg(arguments, int);
    uint32_t value = va_arg(arguments, uint32_t);
    va_end(arguments);
    ASSERT(number == SYS_futex);
    return (operation & FUTEX_CMD_MASK) == FUTEX_WAKE ? futex_wake(word) : futex_wait(word, value);
}

/* ---- threads -------------------------------------------------------------------------------------------------------------- */

int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*main)(void *), void *argument);
int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes, void *(*main)(void *), void *argument)
{
    (void)attributes;
    uint32_t thread = schedule_spawn(main, argument);
    model_order(schedule_thread(), thread);
    *ret_thread = thread;
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret_value);
int __wrap_pthread_join(pthread_t thread, void **ret_value)
{
    (void)ret_value;
    const bool *is_finished = schedule_finished_flag((uint32_t)thread);
    stop_at(is_finished, is_finished);
    model_order((uint32_t)thread, schedule_thread());
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread, (void)name;
    return 0;
}

/* A barrier of the program serves once in a run. */
struct barrier {
    unsigned count, arrived;
    bool is_open;
    struct model_order order;
};
static struct barrier barrier;

int __wrap_pthread_barrier_init(pthread_barrier_t *unused, const pthread_barrierattr_t *attributes, unsigned count);
int __wrap_pthread_barrier_init(pthread_barrier_t *unused, const pthread_barrierattr_t *attributes, unsigned count)
{
    (void)unused, (void)attributes;
    barrier = (struct barrier){.count = count};
    return 0;
}

int __wrap_pthread_barrier_wait(pthread_barrier_t *unused);
int __wrap_pthread_barrier_wait(pthread_barrier_t *unused)
{
    (void)unused;
    stop_at(&barrier, NULL);
    model_order_release(&barrier.order);
    barrier.is_open = ++barrier.arrived == barrier.count;
    stop_at(&barrier.is_open, &barrier.is_open);
    model_order_acquire(&barrier.order);
    return 0;
}

int __wrap_pthread_barrier_destroy(pthread_barrier_t *unused);
int __wrap_pthread_barrier_destroy(pthread_barrier_t *unused)
{
    (void)unused;
    return 0;
}

/* ---- memory --------------------------------------------------------------------------------------------------------------- */

/* Given out upwards and never taken back before the run's end: an address means one thing in a run, and the same in each. */
enum { ARENA_BYTES = 16 << 20 };
static _Alignas(65536) char arena[ARENA_BYTES];
static size_t arena_used;

static void *take(size_t alignment, size_t size)
{
    arena_used = (arena_used + alignment - 1) & ~(alignment - 1);
    ASSERT(arena_used + size <= ARENA_BYTES);
    void *memory = arena + arena_used;
    arena_used += size;
    return memory;
}

void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return take(16, size);
}

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    return memset(take(16, count * size), 0, count * size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return take(alignment, size);
}

void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
    (void)memory;
}

void world_reset(const struct model_bounds *bounds)
{
    arena_used = 0;
    memset(waiters, 0, sizeof waiters);
    model_reset(bounds);
}
