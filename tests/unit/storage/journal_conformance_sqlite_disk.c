/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/storage/journal_conformance.h"

int main(void)
{
    return journal_conformance_run("sqlite on a real disk", kit_create_disk);
}
