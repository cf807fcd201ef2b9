/* SPDX-License-Identifier: Apache-2.0 */
/* retry: see retry.h. Every step saturates: no configuration, however odd, makes a delay wrap round to a short one. */
#include "runtime/retry.h"

#include "runtime/assert.h"

#define HOUR_NS (UINT64_C(3600) * 1000000000)

/* backoff_ns_min * 2^(attempt_count-1), at most backoff_ns_max. */
static uint64_t backoff_ceiling(const struct retry_policy *policy, uint32_t attempt_count)
{
    uint64_t ceiling = policy->backoff_ns_min;
    for (uint32_t i = 1; i < attempt_count && ceiling < policy->backoff_ns_max && ceiling != 0; i++)
        ceiling = ceiling > UINT64_MAX / 2 ? UINT64_MAX : ceiling * 2;
    return ceiling < policy->backoff_ns_max ? ceiling : policy->backoff_ns_max;
}

/* In [0, ceiling]. The modulo's bias is at most ceiling / 2^64. */
static uint64_t pick_up_to(uint64_t ceiling, uint64_t random)
{
    return ceiling == UINT64_MAX ? random : random % (ceiling + 1);
}

static uint64_t backoff_pick(const struct retry_policy *policy, uint64_t ceiling, uint64_t random)
{
    switch (policy->jitter) {
    case RETRY_JITTER_FULL: return pick_up_to(ceiling, random);
    case RETRY_JITTER_EQUAL: return ceiling / 2 + pick_up_to(ceiling - ceiling / 2, random);
    }
    ASSERT(false);
    return 0;
}

bool retry_next(const struct retry_policy *policy, uint32_t attempt_count, uint64_t retry_after_ns, uint64_t random,
                uint64_t *ret_delay_ns)
{
    ASSERT(attempt_count > 0);
    if (attempt_count >= policy->attempt_count_max)
        return false;

    const uint64_t floor_max = policy->retry_after_ns_max ? policy->retry_after_ns_max : HOUR_NS;
    const uint64_t floor = retry_after_ns < floor_max ? retry_after_ns : floor_max;
    const uint64_t backoff = backoff_pick(policy, backoff_ceiling(policy, attempt_count), random);
    /* On top of the floor, not instead of it: all whom the provider told the same moment would else meet there. */
    *ret_delay_ns = backoff > UINT64_MAX - floor ? UINT64_MAX : floor + backoff;
    return true;
}
