/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/storage/journal_conformance.h"

static struct kit *make(void)
{
    return kit_create_sim(1);
}

int main(void)
{
    return journal_conformance_run("sqlite on a simulated disk", make);
}
