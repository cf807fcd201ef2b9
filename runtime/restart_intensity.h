/* SPDX-License-Identifier: Apache-2.0 */
/* restart_intensity: may this owner of children restart one more? OTP's rule: MORE THAN `count_max` restarts within
 * `period_ns` is too many, and the owner gives up instead of restarting.
 *
 * Pure; for supervisors and for other owners of children (the directory of conversations). It need remember no more than the
 * last count_max times: the next restart is one too many exactly when the oldest of them still lies within the period.
 */
#ifndef CIRANDA_RUNTIME_RESTART_INTENSITY_H
#define CIRANDA_RUNTIME_RESTART_INTENSITY_H

#include <stdbool.h>
#include <stdint.h>

enum { RESTART_COUNT_MAX = 32 };

/* Fields are private. */
struct restart_intensity {
    uint64_t period_ns;
    uint32_t count_max, count, next;
    uint64_t times_ns[RESTART_COUNT_MAX]; /* a ring of the last count_max restarts */
};

/* count_max 0: no restart at all. At most RESTART_COUNT_MAX. */
void restart_intensity_init(struct restart_intensity *intensity, uint32_t count_max, uint64_t period_ns);

/* Counts one restart at `now_ns`, which never goes back. Returns: false when it is one too many. A restart exactly
 * `period_ns` ago still counts, as in OTP. */
bool restart_intensity_allow(struct restart_intensity *intensity, uint64_t now_ns);

#endif
