/* SPDX-License-Identifier: Apache-2.0 */
/* hash: SipHash-2-4 with 128 bits of output (Aumasson and Bernstein 2012): keyed, so that nobody outside can choose inputs that
 * meet in one bucket or one shard. Used for conversation keys (random key a process) and message ids (fixed key, since those
 * hashes are in snapshots). Pure; any thread. */
#ifndef CIRANDA_ACTORS_HASH_H
#define CIRANDA_ACTORS_HASH_H

#include <stdint.h>

#include "runtime/slice.h"

struct hash128 {
    uint64_t low, high;
};

struct hash128 hash_bytes(struct slice bytes, struct hash128 key);

static inline bool hash128_is_equal(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
