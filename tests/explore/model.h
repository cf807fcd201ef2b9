/* SPDX-License-Identifier: Apache-2.0 */
/* model: the memory that the explored threads share, by the rules of C11 as far as the product uses them: relaxed, acquire and
 * release on loads, stores and read-modify-writes; no fences, no seq_cst, no consume. And every plain access of instrumented
 * code, which is checked for data races.
 *
 * Not for what a load may read from a store that comes later in the run (load buffering), nor for stores of one location that
 * the hardware orders otherwise than the run did: the modification order is the order of the run. The schedules supply the
 * other orders.
 *
 * How: threads have vector clocks. A store that releases carries its thread's clock, a read-modify-write carries on that of the
 * store it replaces (release sequence), a load that acquires joins the clock of the store it reads. A load may read any store
 * that no later one hides: one that happened before the load, or that somebody read before it (coherence). Which of them is a
 * choice that the schedule makes. A compare-and-swap reads the last store, as on all hardware; that it may fail on an older one
 * brings nothing that the load before it cannot bring. Two accesses that conflict, one of them plain, race unless one happened before the other.
 */
#ifndef CIRANDA_TESTS_EXPLORE_MODEL_H
#define CIRANDA_TESTS_EXPLORE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/explore/schedule.h"

enum { MODEL_ACQUIRE = 1, MODEL_RELEASE = 2 };

/* An atomic operation in the source; its key is "function operation(place)". */
struct model_site {
    const char *function, *operation, *place, *file;
    int line;
    uint8_t orders;  /* a compare-and-swap that fails is relaxed */
    uint8_t dropped; /* by the mutation that is being tried */
};
/* All of them, gathered by the linker. */
extern struct model_site *__start_model_sites[], *__stop_model_sites[];

enum model_update { MODEL_EXCHANGE, MODEL_ADD, MODEL_SUB, MODEL_OR, MODEL_AND };

uint64_t model_load(struct model_site *site, const void *place, size_t size);
void model_store(struct model_site *site, void *place, size_t size, uint64_t value);
/* Returns: the value before. */
uint64_t model_update(struct model_site *site, void *place, size_t size, enum model_update how, uint64_t value);
/* `expected` has the type of *place. */
bool model_cas(struct model_site *site, void *place, size_t size, void *expected, uint64_t desired, bool is_weak);
void model_count(void *place, size_t size, uint64_t amount);

/* What hooks.c reports. `caller`: where in the program. */
void model_plain_access(const void *place, size_t size, bool is_write, const void *caller);

/* Order without an access. Of a spawn and a join: `to` from now on sees what `from` has done so far. */
void model_order(uint32_t from, uint32_t to);
/* Of a lock or a barrier: who acquires sees what those who released before had done. Zeroed is valid. */
struct model_order {
    uint32_t time[SCHEDULE_THREADS_MAX];
};
void model_order_release(struct model_order *order);
void model_order_acquire(const struct model_order *order);

/* What may happen at most so often in a run. Each is a factor in the number of runs. */
struct model_bounds {
    uint32_t stale;    /* loads that read another store than the last */
    uint32_t spurious; /* weak compare-and-swaps that fail for no reason */
};

/* Forgets all; between runs. */
void model_reset(const struct model_bounds *bounds);

#endif
