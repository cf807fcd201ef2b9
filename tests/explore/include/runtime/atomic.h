/* SPDX-License-Identifier: Apache-2.0 */
/* atomic, for the schedule explorer: stands in the place of runtime/atomic.h (the include path says so, tests/explore's
 * CMakeLists.txt) under the product's unchanged sources. Each operation is a call into the memory model (tests/explore/model.h)
 * that names its site: function, operation, operand and order, which is what the table of mutations lists.
 *
 * ATOMIC leaves the type plain, so that an access that bypasses these operations is seen by the instrumentation of plain
 * accesses (hooks.c) and reported. */
#ifndef CIRANDA_RUNTIME_ATOMIC_H
#define CIRANDA_RUNTIME_ATOMIC_H

#include <stdatomic.h>

#include "tests/explore/model.h"

#define ATOMIC(type) __typeof__(type)

/* One a place in the source. The linker gathers pointers to them, executed or not: the list of all sites. */
#define EXPLORE_SITE(operation_, place_, orders_)                                                                        \
    __extension__({                                                                                                      \
        static struct model_site site = {.function = __func__,                                                           \
                                         .operation = operation_,                                                        \
                                         .place = place_,                                                                \
                                         .file = __FILE__,                                                               \
                                         .line = __LINE__,                                                               \
                                         .orders = (orders_)};                                                           \
        static struct model_site *const entry __attribute__((section("model_sites"), used)) = &site;                     \
        &site;                                                                                                           \
    })
#define EXPLORE_VALUE_OF(p, bits)                                                                                        \
    __extension__({                                                                                                      \
        __typeof__(*(p)) explored = (__typeof__(*(p)))(bits);                                                            \
        explored;                                                                                                        \
    })

#define EXPLORE_LOAD(p, operation, orders)                                                                               \
    EXPLORE_VALUE_OF(p, model_load(EXPLORE_SITE(operation, #p, orders), (p), sizeof *(p)))
#define EXPLORE_STORE(p, value, operation, orders)                                                                       \
    model_store(EXPLORE_SITE(operation, #p, orders), (p), sizeof *(p), (uint64_t)(value))
#define EXPLORE_UPDATE(p, how, value, operation, orders)                                                                 \
    EXPLORE_VALUE_OF(p, model_update(EXPLORE_SITE(operation, #p, orders), (p), sizeof *(p), how, (uint64_t)(value)))
#define EXPLORE_CAS(p, expected, desired, is_weak, operation, orders)                                                    \
    model_cas(EXPLORE_SITE(operation, #p, orders), (p), sizeof *(p), (expected), (uint64_t)(desired), is_weak)

#define atomic_load_relaxed(p) EXPLORE_LOAD(p, "load_relaxed", 0)
#define atomic_load_acquire(p) EXPLORE_LOAD(p, "load_acquire", MODEL_ACQUIRE)
#define atomic_store_relaxed(p, value) EXPLORE_STORE(p, value, "store_relaxed", 0)
#define atomic_store_release(p, value) EXPLORE_STORE(p, value, "store_release", MODEL_RELEASE)

#define atomic_exchange_relaxed(p, value) EXPLORE_UPDATE(p, MODEL_EXCHANGE, value, "exchange_relaxed", 0)
#define atomic_exchange_acquire(p, value) EXPLORE_UPDATE(p, MODEL_EXCHANGE, value, "exchange_acquire", MODEL_ACQUIRE)
#define atomic_add_relaxed(p, value) EXPLORE_UPDATE(p, MODEL_ADD, value, "add_relaxed", 0)
#define atomic_add_release(p, value) EXPLORE_UPDATE(p, MODEL_ADD, value, "add_release", MODEL_RELEASE)
#define atomic_add_acq_rel(p, value) EXPLORE_UPDATE(p, MODEL_ADD, value, "add_acq_rel", MODEL_ACQUIRE | MODEL_RELEASE)
#define atomic_sub_relaxed(p, value) EXPLORE_UPDATE(p, MODEL_SUB, value, "sub_relaxed", 0)
#define atomic_or_relaxed(p, value) EXPLORE_UPDATE(p, MODEL_OR, value, "or_relaxed", 0)
#define atomic_and_relaxed(p, value) EXPLORE_UPDATE(p, MODEL_AND, value, "and_relaxed", 0)

#define atomic_cas_relaxed(p, expected, desired) EXPLORE_CAS(p, expected, desired, false, "cas_relaxed", 0)
#define atomic_cas_release(p, expected, desired) EXPLORE_CAS(p, expected, desired, false, "cas_release", MODEL_RELEASE)
#define atomic_cas_weak_release(p, expected, desired)                                                                    \
    EXPLORE_CAS(p, expected, desired, true, "cas_weak_release", MODEL_RELEASE)
#define atomic_cas_weak_acq_rel(p, expected, desired)                                                                    \
    EXPLORE_CAS(p, expected, desired, true, "cas_weak_acq_rel", MODEL_ACQUIRE | MODEL_RELEASE)

/* Statistics of one writer: kept in the model, but no reason to try another schedule. */
#define counter_add(p, amount) model_count((p), sizeof *(p), (uint64_t)(amount))

static inline void cpu_pause(void) {}

#endif
