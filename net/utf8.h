/* SPDX-License-Identifier: Apache-2.0 */
/* utf8: strict decoding of one UTF-8 sequence and encoding of one code point (RFC 3629).
 *
 * Strict: no overlong form, no surrogate, nothing above U+10FFFF. Shared by the JSON reader and writer, which must agree on
 * what a character is; a header of inline functions because both call it once a character.
 */
#ifndef CIRANDA_NET_UTF8_H
#define CIRANDA_NET_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum { UTF8_SEQUENCE_MAX = 4 };

/* Returns: bytes of the sequence at `bytes` (1 to 4), 0 when the first `size` bytes do not begin with a whole, valid one. */
static inline size_t utf8_sequence_size(const char *bytes, size_t size)
{
    const unsigned char *b = (const unsigned char *)bytes;
    if (size == 0)
        return 0;
    if (b[0] < 0x80)
        return 1;
    /* The table of Unicode 3.9: only the second byte's range depends on the first. */
    unsigned char low = 0x80, high = 0xbf;
    size_t length;
    if (b[0] >= 0xc2 && b[0] <= 0xdf) {
        length = 2;
    } else if (b[0] >= 0xe0 && b[0] <= 0xef) {
        length = 3;
        if (b[0] == 0xe0)
            low = 0xa0; /* else overlong */
        if (b[0] == 0xed)
            high = 0x9f; /* else a surrogate */
    } else if (b[0] >= 0xf0 && b[0] <= 0xf4) {
        length = 4;
        if (b[0] == 0xf0)
            low = 0x90; /* else overlong */
        if (b[0] == 0xf4)
            high = 0x8f; /* else above U+10FFFF */
    } else {
        return 0;
    }
    if (size < length || b[1] < low || b[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if (b[i] < 0x80 || b[i] > 0xbf)
            return 0;
    }
    return length;
}

/* `code_point` is a Unicode scalar value. Returns: bytes written to `ret_bytes` (1 to 4). */
static inline size_t utf8_encode(uint32_t code_point, char ret_bytes[UTF8_SEQUENCE_MAX])
{
    if (code_point < 0x80) {
        ret_bytes[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        ret_bytes[0] = (char)(0xc0 | code_point >> 6);
        ret_bytes[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        ret_bytes[0] = (char)(0xe0 | code_point >> 12);
        ret_bytes[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        ret_bytes[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    ret_bytes[0] = (char)(0xf0 | code_point >> 18);
    ret_bytes[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    ret_bytes[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    ret_bytes[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}

#endif
