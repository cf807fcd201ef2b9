/* SPDX-License-Identifier: Apache-2.0 */
/* sometimes: one counter a row of sometimes.def; see sometimes.h. */
#include "runtime/sometimes.h"

#include "runtime/atomic.h"

static ATOMIC(uint64_t) counts[SOMETIMES_COUNT]; /* relaxed: read when everything is over */

void sometimes_note(enum sometimes what)
{
    atomic_add_relaxed(&counts[what], 1);
}

uint64_t sometimes_count(enum sometimes what)
{
    return atomic_load_relaxed(&counts[what]);
}

const char *sometimes_name(enum sometimes what)
{
    static const char *const names[] = {
#define SOMETIMES_ROW(name, text) [SOMETIMES_##name] = #name,
#include "runtime/sometimes.def"
#undef SOMETIMES_ROW
    };
    return names[what];
}
