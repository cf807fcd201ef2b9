/* SPDX-License-Identifier: Apache-2.0 */
/* planted: which bug is on. See planted.h; the places are found by `grep -rn 'PLANTED(' runtime net storage actors`. */
#include "runtime/planted.h"

#include <stddef.h>

static enum planted chosen = PLANTED_NONE;

void planted_choose(enum planted bug)
{
    chosen = bug;
}

bool planted_is(enum planted bug)
{
    return chosen == bug;
}

static const struct {
    const char *name, *text;
} rows[PLANTED_COUNT] = {
    [PLANTED_NONE] = {"NONE", "no bug"},
#undef PLANTED
#define PLANTED(name_, text_) [PLANTED_##name_] = {#name_, text_},
#include "runtime/planted.def"
#undef PLANTED
};

const char *planted_name(enum planted bug)
{
    return rows[bug].name;
}
const char *planted_text(enum planted bug)
{
    return rows[bug].text;
}
