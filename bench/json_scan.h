/* SPDX-License-Identifier: Apache-2.0 */
/* json_scan: the members of a JSON object, one after the other, in one pass over its bytes and without checking what it passes
 * over: for the load generator, which pays for every answer out of the cores it shares with the server.
 *
 * Not a validator: it finds where values end and no more; what matters of a value is compared by who asked for it.
 */
#ifndef CIRANDA_BENCH_JSON_SCAN_H
#define CIRANDA_BENCH_JSON_SCAN_H

#include <stdbool.h>

#include "runtime/slice.h"

struct json_scan {
    const char *at, *end;
};

/* Begins behind the brace of an object. Returns: false when `object` is none. */
bool json_scan_begin(struct json_scan *scan, struct slice object);
/* Returns: false at the end, or where the bytes are no member. Key without quotes and still escaped; the value as it stands. */
bool json_scan_next(struct json_scan *scan, struct slice *ret_key, struct slice *ret_value);
/* A string's bytes without its quotes, escapes undone into `buffer` when there are any. Returns: false when it is no string or
 * longer than `size`. */
bool json_scan_text(struct slice value, char *buffer, size_t size, struct slice *ret_text);

#endif
