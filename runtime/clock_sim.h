/* SPDX-License-Identifier: Apache-2.0 */
/* clock_sim: the part of the virtual clock that only the world may touch; the rest is in ring_sim.h and clock.h. */
#ifndef CIRANDA_RUNTIME_CLOCK_SIM_H
#define CIRANDA_RUNTIME_CLOCK_SIM_H

#include <stdint.h>

/* Back to the start of time, with new generators and an empty trace. */
void sim_clock_reset(uint64_t seed);

#endif
