/* SPDX-License-Identifier: Apache-2.0 */
/* limits: how many messages a customer or a tenant may say in a time, for the whole process.
 *
 * Each subject is a GCRA (generic cell rate algorithm, ITU-T I.371): one number, the time at which it would be back to nothing.
 * The numbers lie in a fixed table that all workers share without a lock, as a count-min sketch with conservative update
 * (Cormode and Muthukrishnan 2005): a subject has one cell in each row, and is refused only when all of them say so. So there
 * is nothing to allocate and nothing to forget, whatever ids clients invent.
 *
 * Invariants
 *  L1  A subject alone may say `messages` at once, and never more than that within any `per_ns`.
 *  L2  Others can only make it be refused earlier, and only by sharing its cell in every row.
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
