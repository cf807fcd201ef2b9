/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of RFC 9562, 5.7: unix_ts_ms (48), version 7 (4), rand_a (12), variant 10 (2), rand_b (62); big-endian. All of
 * rand_a and rand_b is random: a counter would give an order that nobody may rely on anyway. */
#include "actors/uuid.h"

#include <endian.h>

#include "runtime/clock.h"

#define VARIANT_MASK (UINT64_C(3) << 62)

void uuid_create(uint64_t wall_ms, uint8_t ret_uuid[UUID_BYTES])
{
    for (int i = 0; i < 6; i++)
        ret_uuid[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    clock_random_bytes(ret_uuid + 6, UUID_BYTES - 6);
    ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0F) | 0x70);
    ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3F) | 0x80);
}

void uuid_next(const uint8_t uuid[UUID_BYTES], uint8_t ret_uuid[UUID_BYTES])
{
    uint64_t tail;
    memcpy(ret_uuid, uuid, UUID_BYTES);
    memcpy(&tail, uuid + 8, sizeof tail);
    tail = htobe64((be64toh(tail) & ~VARIANT_MASK) + 1);
    memcpy(ret_uuid + 8, &tail, sizeof tail);
    ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3F) | 0x80);
}

static bool has_hyphen_before(int byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const uint8_t uuid[UUID_BYTES], char ret_text[UUID_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < UUID_BYTES; i++) {
        if (has_hyphen_before(i))
            *ret_text++ = '-';
        *ret_text++ = digits[uuid[i] >> 4];
        *ret_text++ = digits[uuid[i] & 15];
    }
}

/* 16 and more: no digit. A table, for every event of a turn names the turn in text: branches cost 2 % of a request. */
enum { NO_DIGIT = 16 };
static uint8_t digit_value(char digit)
{
    static const uint8_t values_plus_one[256] = {
        ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
        ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
        ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
    };
    return (uint8_t)(values_plus_one[(unsigned char)digit] - 1);
}

bool uuid_parse(struct slice text, uint8_t ret_uuid[UUID_BYTES])
{
    if (text.size != UUID_TEXT_BYTES)
        return false;
    const char *at = text.data;
    for (int i = 0; i < UUID_BYTES; i++) {
        if (has_hyphen_before(i) && *at++ != '-')
            return false;
        uint8_t high = digit_value(at[0]), low = digit_value(at[1]);
        if ((high | low) >= NO_DIGIT)
            return false;
        ret_uuid[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return true;
}
