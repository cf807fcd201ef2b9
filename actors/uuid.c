/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of RFC 9562, 5.7: unix_ts_ms (48), version 7 (4), rand_a (12), variant 10 (2), rand_b (62); big-endian. All of
 * rand_a and rand_b is random: a counter would give an order that nobody may rely on anyway. */
#include "actors/uuid.h"

#include "runtime/clock.h"

void uuid_create(uint64_t wall_ms, uint8_t ret_uuid[UUID_BYTES])
{
    for (int i = 0; i < 6; i++)
        ret_uuid[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    clock_random_bytes(ret_uuid + 6, UUID_BYTES - 6);
    ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0F) | 0x70);
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

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool uuid_parse(struct slice text, uint8_t ret_uuid[UUID_BYTES])
{
    if (text.size != UUID_TEXT_BYTES)
        return false;
    const char *at = text.data;
    for (int i = 0; i < UUID_BYTES; i++) {
        if (has_hyphen_before(i) && *at++ != '-')
            return false;
        int high = digit_value(at[0]), low = digit_value(at[1]);
        if (high < 0 || low < 0)
            return false;
        ret_uuid[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return true;
}
