/* SPDX-License-Identifier: Apache-2.0 */
/* planted: bugs on purpose, to show that the simulation would find them. In every other build PLANTED(X) is the constant
 * false and its branch is gone. `if (PLANTED(ACK_BEFORE_FLUSH))` stands where the bug would be made. */
#ifndef CIRANDA_RUNTIME_PLANTED_H
#define CIRANDA_RUNTIME_PLANTED_H

#include <stdbool.h>

enum planted {
    PLANTED_NONE,
#define PLANTED(name, text) PLANTED_##name,
#include "runtime/planted.def"
#undef PLANTED
    PLANTED_COUNT
};

/* Thread: any; set once before anything runs. */
void planted_choose(enum planted bug);
bool planted_is(enum planted bug);
const char *planted_name(enum planted bug);
const char *planted_text(enum planted bug);

#ifdef CIRANDA_PLANTED_BUGS
#define PLANTED(name) planted_is(PLANTED_##name)
#else
#define PLANTED(name) false
#endif

#endif
