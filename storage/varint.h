/* SPDX-License-Identifier: Apache-2.0 */
/* varint: unsigned LEB128, seven bits a byte, low bits first. For the small numbers inside the journal's own blobs (chain.c,
 * record.c). Decoding is strict: a value of more than 64 bits or a cut one is refused, so that a blob has one reading. */
#ifndef CIRANDA_STORAGE_VARINT_H
#define CIRANDA_STORAGE_VARINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VARINT_BYTES_MAX = 10 };

/* Returns: bytes written, at most VARINT_BYTES_MAX. */
static inline size_t varint_encode(uint64_t value, uint8_t *ret_bytes)
{
    size_t size = 0;
    while (value >= 0x80) {
        ret_bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    ret_bytes[size++] = (uint8_t)value;
    return size;
}

/* Moves *bytes behind the value. Returns: false, and nothing moved, when it is cut or over 64 bits. */
static inline bool varint_decode(const uint8_t **bytes, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    const uint8_t *at = *bytes;
    for (unsigned shift = 0; shift < 64 && at < end; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *bytes = at;
            *ret_value = value;
            return true;
        }
    }
    return false;
}

#endif
