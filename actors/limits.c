/* SPDX-License-Identifier: Apache-2.0 */
/* limits: see limits.h. A cell is the theoretical arrival time of its subjects, in nanoseconds. */
#include "actors/limits.h"

#include <stdlib.h>
#include <string.h>

#include "actors/hash.h"
#include "runtime/atomic.h"
#include "runtime/clock.h"

enum { CELLS = 1 << 20, KEY_BYTES_MAX = 512 }; /* 8 MiB, of which only what is used is ever backed by memory */

struct limits {
    struct hash128 seed; /* so that nobody can choose ids that share a victim's cells */
    ATOMIC(uint64_t) cells[CELLS];
};

enum err limits_create(struct limits **ret_limits)
{
    struct limits *limits = calloc(1, sizeof *limits);
    if (!limits)
        return ERR_NO_MEMORY;
    clock_random_bytes(&limits->seed, sizeof limits->seed);
    *ret_limits = limits;
    return OK;
}

void limits_destroy(struct limits *limits)
{
    free(limits);
}

/* Scope, tenant, zero byte, subject: what is too long is cut, since every id has its own, smaller maximum. */
static struct hash128 hash_of(const struct limits *limits, enum limit_scope scope, struct slice tenant,
                              struct slice subject)
{
    char key[KEY_BYTES_MAX];
    size_t size = 0;
    key[size++] = (char)scope;
    size_t tenant_size = tenant.size < KEY_BYTES_MAX / 2 ? tenant.size : KEY_BYTES_MAX / 2;
    if (tenant_size > 0)
        memcpy(key + size, tenant.data, tenant_size);
    size += tenant_size;
    key[size++] = 0;
    size_t subject_size = subject.size < sizeof key - size ? subject.size : sizeof key - size;
    if (subject_size > 0)
        memcpy(key + size, subject.data, subject_size);
    return hash_bytes(slice_of(key, size + subject_size), limits->seed);
}

bool limits_take(struct limits *limits, enum limit_scope scope, struct slice tenant, struct slice subject,
                 const struct limit *limit, uint64_t now_ns, uint64_t *ret_retry_after_ns)
{
    if (limit->messages == 0)
        return true;
    const uint64_t interval_ns = limit->per_ns / limit->messages;
    ATOMIC(uint64_t) *cell = &limits->cells[hash_of(limits, scope, tenant, subject).low % CELLS];
    uint64_t seen_ns = atomic_load_relaxed(cell); /* a number on its own: nothing is published with it */
    for (;;) {
        const uint64_t from_ns = seen_ns > now_ns ? seen_ns : now_ns;
        if (from_ns - now_ns + interval_ns > limit->per_ns) {
            *ret_retry_after_ns = from_ns - now_ns + interval_ns - limit->per_ns;
            return false;
        }
        if (atomic_cas_relaxed(cell, &seen_ns, from_ns + interval_ns))
            return true;
    }
}
