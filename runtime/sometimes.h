/* SPDX-License-Identifier: Apache-2.0 */
/* sometimes: the opposite of an assertion: what must have happened in some run, else the simulation does not reach what it claims
 * to test. SOMETIMES(NAME, condition) counts; in builds without planted bugs it is nothing and evaluates nothing. */
#ifndef CIRANDA_RUNTIME_SOMETIMES_H
#define CIRANDA_RUNTIME_SOMETIMES_H

#include <stdint.h>

enum sometimes {
#define SOMETIMES_ROW(name, text) SOMETIMES_##name,
#include "runtime/sometimes.def"
#undef SOMETIMES_ROW
    SOMETIMES_COUNT
};

/* Thread: any. */
void sometimes_note(enum sometimes what);
uint64_t sometimes_count(enum sometimes what);
const char *sometimes_name(enum sometimes what);

#ifdef CIRANDA_PLANTED_BUGS
#define SOMETIMES(name, condition) ((condition) ? sometimes_note(SOMETIMES_##name) : (void)0)
#else
#define SOMETIMES(name, condition) ((void)sizeof(condition))
#endif

#endif
