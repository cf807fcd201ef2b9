/* SPDX-License-Identifier: Apache-2.0 */
/* restart_intensity: see restart_intensity.h. Constant time, no allocation. */
#include "runtime/restart_intensity.h"

#include "runtime/assert.h"

void restart_intensity_init(struct restart_intensity *intensity, uint32_t count_max, uint64_t period_ns)
{
    ASSERT(count_max <= RESTART_COUNT_MAX);
    *intensity = (struct restart_intensity){.count_max = count_max, .period_ns = period_ns};
}

bool restart_intensity_allow(struct restart_intensity *intensity, uint64_t now_ns)
{
    if (intensity->count_max == 0)
        return false;
    /* When the ring is full, its next place holds the oldest time, count_max restarts ago. */
    uint64_t *const place = &intensity->times_ns[intensity->next];
    const bool is_full = intensity->count == intensity->count_max;
    if (is_full && now_ns - *place <= intensity->period_ns)
        return false;
    *place = now_ns;
    intensity->next = (intensity->next + 1) % intensity->count_max;
    if (!is_full)
        intensity->count++;
    return true;
}
