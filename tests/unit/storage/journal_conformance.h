/* SPDX-License-Identifier: Apache-2.0 */
/* journal_conformance: what every backend must do, one program a backend: each has a main that says how its kit is made. */
#ifndef CIRANDA_TESTS_JOURNAL_CONFORMANCE_H
#define CIRANDA_TESTS_JOURNAL_CONFORMANCE_H

#include "tests/unit/storage/journal_kit.h"

int journal_conformance_run(const char *name, struct kit *(*make)(void));

#endif
