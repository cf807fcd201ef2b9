/* SPDX-License-Identifier: Apache-2.0 */
/* retry: how long to wait before the next attempt, and whether there is one. Pure: the random number is passed in, the
 * caller keeps the count and the clock. Whether an error is worth another attempt is err_may_retry's answer.
 *
 * The ceiling doubles with each attempt from backoff_ns_min to backoff_ns_max; jitter picks below it, since callers that
 * failed together must not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
 * A Retry-After of the other side is a floor under that, itself capped: nobody outside may park us for a day.
 */
#ifndef CIRANDA_RUNTIME_RETRY_H
#define CIRANDA_RUNTIME_RETRY_H

#include <stdbool.h>
#include <stdint.h>

enum retry_jitter {
    RETRY_JITTER_FULL,  /* anywhere in [0, ceiling]: the least load in Brooker's measurements */
    RETRY_JITTER_EQUAL, /* in [ceiling/2, ceiling]: never at once */
};

struct retry_policy {
    uint32_t attempt_count_max; /* the first one included; 0 counts as 1 */
    uint64_t backoff_ns_min, backoff_ns_max;
    enum retry_jitter jitter;
    uint64_t retry_after_ns_max; /* cap of what the other side may ask for; 0: one hour */
};

/* `attempt_count` attempts have been made, at least one. `retry_after_ns`: 0 when the other side said nothing. `random`: 64
 * fresh random bits. Returns: false when the budget is spent, *ret_delay_ns then untouched. Thread: any. */
bool retry_next(const struct retry_policy *policy, uint32_t attempt_count, uint64_t retry_after_ns, uint64_t random,
                uint64_t *ret_delay_ns);

#endif
