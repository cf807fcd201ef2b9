/* SPDX-License-Identifier: Apache-2.0 */
/* decimal: numbers as text without a format to interpret: the load generator writes four into every message, and twice those of
 * the texts that it compares. */
#ifndef CIRANDA_BENCH_DECIMAL_H
#define CIRANDA_BENCH_DECIMAL_H

#include <stdint.h>
#include <string.h>

enum { DECIMAL_BYTES_MAX = 20 };

/* Returns: behind the last digit; at most DECIMAL_BYTES_MAX are written. */
static inline char *decimal_write(char *at, uint64_t number)
{
    char digits[DECIMAL_BYTES_MAX];
    char *first = digits + sizeof digits;
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    size_t size = (size_t)(digits + sizeof digits - first);
    memcpy(at, first, size);
    return at + size;
}

#endif
