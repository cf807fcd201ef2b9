/* SPDX-License-Identifier: Apache-2.0 */
/* load_verify: reads conversations back after a run and checks what the answers alone cannot show: versions are dense, every
 * message was received exactly once and in the order said, and each has exactly one reply. */
#ifndef CIRANDA_BENCH_LOAD_VERIFY_H
#define CIRANDA_BENCH_LOAD_VERIFY_H

#include "bench/load_run.h"

/* Checks `conversations` against the server, with async waiting up to 30 s in all for replies that are still to come. Adds to
 * `result`. */
void load_verify(const struct load_options *options, const struct load_conversation *conversations, uint32_t count,
                 struct load_result *result);

#endif
