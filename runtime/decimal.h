/* SPDX-License-Identifier: Apache-2.0 */
/* decimal: an unsigned number as digits, for heads, versions and JSON. Each answer writes some ten numbers, and snprintf, which
 * must look at a format each time, was 1.5 % of a request. */
#ifndef CIRANDA_RUNTIME_DECIMAL_H
#define CIRANDA_RUNTIME_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/slice.h"

enum { DECIMAL_DIGITS_MAX = 20 }; /* of 2^64 - 1 */

/* Thread: any. Returns: the digits, which lie at the end of `room`; at least one, no leading zero, no NUL. */
static inline struct slice decimal_format(uint64_t number, char room[DECIMAL_DIGITS_MAX])
{
    size_t begin = DECIMAL_DIGITS_MAX;
    do {
        room[--begin] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return slice_of(room + begin, DECIMAL_DIGITS_MAX - begin);
}

#endif
