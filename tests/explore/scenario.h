/* SPDX-License-Identifier: Apache-2.0 */
/* scenario: small programs over the product's lock-free parts, and what must be true when nobody can go on. Small enough that
 * all their schedules can be tried, but for those that say PCT. */
#ifndef CIRANDA_TESTS_EXPLORE_SCENARIO_H
#define CIRANDA_TESTS_EXPLORE_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/explore/schedule.h"

struct scenario {
    const char *name;
    struct schedule_program program;
    bool is_large; /* too large for all schedules: PCT */
};

extern const struct scenario mailbox_scenarios[], worker_scenarios[], journal_scenarios[];
extern const size_t mailbox_scenario_count, worker_scenario_count, journal_scenario_count;

/* Programs about the explorer itself. */
struct litmus {
    const char *name;
    struct schedule_program program;
    uint32_t outcomes; /* what must come out: a bit for each outcome */
    bool is_race;      /* must be found to race instead */
};
extern const struct litmus litmus_programs[];
extern const size_t litmus_count;
/* Returns: the outcomes since the last call. */
uint32_t litmus_take_outcomes(void);

#endif
