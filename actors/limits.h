/* SPDX-License-Identifier: Apache-2.0 */
/* limits: how many messages a customer or a tenant may say in a time, for the whole process.
 *
 * Each subject is a GCRA (generic cell rate algorithm, ITU-T I.371): one number, the time at which it would be back to nothing,
 * which one compare-and-swap moves. The numbers lie in a fixed table that all workers share without a lock, found by a keyed
 * hash: nothing to allocate and nothing to forget, whatever ids clients invent. A second row, as in a count-min sketch, was
 * tried and dropped: two numbers cannot be moved at once, and racing workers then let through more than the limit.
 *
 * Invariants
 *  L1  A subject may say `messages` at once, and then one every per_ns / messages, however many workers ask.
 *  L2  Others can only make it be refused earlier, and only by meeting it in its cell, one of a million.
 *  L3  A refusal changes nothing.
 */
#ifndef CIRANDA_ACTORS_LIMITS_H
#define CIRANDA_ACTORS_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

struct limits;

struct limit {
    uint32_t messages; /* 0: no limit */
    uint64_t per_ns;
};

enum limit_scope { LIMIT_CUSTOMER, LIMIT_TENANT };

/* Thread: start-up. */
MUST_USE enum err limits_create(struct limits **ret_limits);
void limits_destroy(struct limits *limits); /* accepts NULL */

/* Thread: any. Counts one message of `subject` (of `tenant`; empty for the tenant itself) at `now_ns` (clock_mono_ns).
 * Returns: false when it is one too many; *ret_retry_after_ns then says when it would not be. */
MUST_USE bool limits_take(struct limits *limits, enum limit_scope scope, struct slice tenant, struct slice subject,
                          const struct limit *limit, uint64_t now_ns, uint64_t *ret_retry_after_ns);

#endif
