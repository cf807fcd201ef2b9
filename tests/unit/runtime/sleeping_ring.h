/* SPDX-License-Identifier: Apache-2.0 */
/* sleeping_ring: see sleeping_ring.c. */
#ifndef CIRANDA_TESTS_SLEEPING_RING_H
#define CIRANDA_TESTS_SLEEPING_RING_H

#include <stdint.h>

/* Steps and wakes give the processor away up to `yields_mask` times (a power of two minus one), at random; 0: never. */
void sleeping_ring_set_delay(uint32_t yields_mask);

#endif
