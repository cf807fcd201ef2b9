/* SPDX-License-Identifier: Apache-2.0 */
/* run: one run of the whole server, from boot to orderly end. Two kinds.
 *
 * A *seed* draws everything: what exists, who speaks, which faults come and when (plan.h). Server booted on an empty simulated
 * disk; customers and observers step in an order drawn by the seed among the server's parts; power cuts, kills, full disks and
 * network faults as planned. Then calm: no more faults, and everything that was asked must be answered within a virtual hour
 * (safety first, liveness second). Then the journal is read back and held against every promise (verify.h), the server is
 * killed once more, read again, and shut down in order.
 *
 * The *story* (story.h) is always the same and meets one fault at most: its n-th disk I/O is cut. Who runs it once for every n
 * has met every state that a crash can leave.
 *
 * A broken promise ends the process (fail). Prints a line when all is well. Once a process.
 */
#ifndef CIRANDA_TESTS_SIM_RUN_H
#define CIRANDA_TESTS_SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>

/* What happens within the I/O that is cut. */
enum cut_way {
    CUT_LOSES, /* the power goes; nothing of what was not flushed is left */
    CUT_TEARS, /* the power goes; a drawn part of it is left */
    CUT_TWICE, /* the same, and once more while the next start recovers */
    CUT_KILLS, /* the process dies; the kernel keeps all that it was given */
    CUT_WAY_COUNT
};
extern const char *const cut_way_names[CUT_WAY_COUNT];

void run_seed(uint64_t seed, bool is_verbose);
/* `cut` counts I/Os from 1; 0: none is cut, and the line says how many there are. */
void run_story(uint64_t cut, enum cut_way way, bool is_verbose);

#endif
