/* SPDX-License-Identifier: Apache-2.0 */
/* clock: time and randomness. With ring.h this is the seam: the only place where the outside world's time and entropy enter.
 * Implementations, chosen by the linker: clock_system.c, and clock_sim.c (virtual time, seeded numbers). */
#ifndef CIRANDA_RUNTIME_CLOCK_H
#define CIRANDA_RUNTIME_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Thread: any. Unit: nanoseconds; never goes back; unrelated to the date. */
uint64_t clock_mono_ns(void);

/* Thread: any. Unit: milliseconds since 1970, UTC. May jump: only for what people read and for UUIDv7. */
uint64_t clock_wall_ms(void);

/* Thread: any. Fills with unpredictable bytes (getrandom, buffered a thread), seeded ones in simulation. Never fails. */
void clock_random_bytes(void *ret_bytes, size_t size);
uint64_t clock_random_u64(void);

#endif
