/* SPDX-License-Identifier: Apache-2.0 */
/* json_fuzz: the JSON reader against jansson on any bytes, and the writer on the same bytes as a string: what it writes must
 * be read back by both. */
#include <stdint.h>
#include <stdlib.h>

#include "net/json.h"
#include "runtime/buffer.h"
#include "tests/unit/net/json_oracle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_oracle_check((const char *)data, size);

    struct buffer out;
    buffer_init(&out, 16 << 20);
    json_write_string(&out, slice_of((const char *)data, size));
    struct json_value root;
    struct json_problem problem;
    bool has_nul = size > 0 && memchr(data, '\0', size); /* written as \u0000, which the reader refuses on purpose */
    if (!out.is_overflow && (json_validate(buffer_slice(&out), &root, &problem) == OK) == has_nul)
        abort();
    json_oracle_check(out.data, out.size);
    buffer_deinit(&out);
    return 0;
}
