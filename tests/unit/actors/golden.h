/* SPDX-License-Identifier: Apache-2.0 */
/* golden: bytes of a format, kept as hex in tests/golden, 32 bytes a line. A build that writes other bytes has changed a format
 * that journals out there have: then the format's number rises and the old file stays. CIRANDA_GOLDEN_WRITE=1 writes what
 * is missing. */
#ifndef CIRANDA_TESTS_ACTORS_GOLDEN_H
#define CIRANDA_TESTS_ACTORS_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>

#include "runtime/buffer.h"

static inline FILE *golden_open(const char *name, const char *mode)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    FILE *file = fopen(path, mode);
    if (!file)
        fail_msg("cannot open %s", path);
    return file;
}

static inline void golden_read(const char *name, struct buffer *out)
{
    FILE *file = golden_open(name, "r");
    unsigned byte;
    while (fscanf(file, "%2x", &byte) == 1)
        buffer_append_byte(out, (char)byte);
    fclose(file);
}

static inline void golden_check(const char *name, struct slice bytes)
{
    if (getenv("CIRANDA_GOLDEN_WRITE")) {
        FILE *file = golden_open(name, "wx");
        for (size_t i = 0; i < bytes.size; i++)
            fprintf(file, "%02x%s", (unsigned char)bytes.data[i], i % 32 == 31 || i + 1 == bytes.size ? "\n" : "");
        fclose(file);
    }
    struct buffer golden;
    buffer_init(&golden, 1 << 20);
    golden_read(name, &golden);
    assert_int_equal(golden.size, bytes.size);
    assert_memory_equal(golden.data, bytes.data, bytes.size);
    buffer_deinit(&golden);
}

#endif
