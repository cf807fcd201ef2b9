/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a request: the parser neither reads nor writes where it must not, and P1 holds: all at once, a byte at a time
 * and in two odd splits give the same answer. Small limits, so that they are met. */
#include "net/http1.h"
#include "runtime/assert.h"
#include "tests/unit/net/http1_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http1_limits limits = {.head_bytes_max = 1024, .target_bytes_max = 256, .body_bytes_max = 512};
    if (size == 0)
        return 0;
    const char *bytes = (const char *)data;
    const size_t firsts[] = {size, 1, size / 2, 3}, pieces[] = {size, 1, size, 7};
    struct http1_run runs[4];
    for (int i = 0; i < 4; i++)
        http1_run(&runs[i], &limits, bytes, size, firsts[i], pieces[i]);
    for (int i = 1; i < 4; i++)
        ASSERT(http1_run_is_equal(&runs[0], &runs[i]));
    ASSERT(runs[0].result != HTTP1_DONE || (runs[0].consumed > 0 && runs[0].consumed <= size));
    ASSERT((runs[0].result == HTTP1_REFUSED) == (runs[0].reason != HTTP1_ACCEPTED));
    for (int i = 0; i < 4; i++)
        buffer_deinit(&runs[i].text);
    return 0;
}
