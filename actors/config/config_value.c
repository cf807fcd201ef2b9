/* SPDX-License-Identifier: Apache-2.0 */
/* config_value: see the header. Bounds are checked before arithmetic, so that no text of digits overflows. */
#include "actors/config/config_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

bool config_value_unsigned(struct slice text, uint64_t *ret_number)
{
    if (text.size == 0 || (text.size > 1 && text.data[0] == '0'))
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text.data[i] - '0'), &number))
            return false;
    }
    *ret_number = number;
    return true;
}

bool config_value_decimal(struct slice text, double *ret_number)
{
    char digits[32];
    size_t points = 0;
    if (text.size == 0 || text.size >= sizeof digits || text.data[0] == '.' || text.data[text.size - 1] == '.')
        return false;
    for (size_t i = 0; i < text.size; i++) {
        points += text.data[i] == '.';
        if ((text.data[i] < '0' || text.data[i] > '9') && text.data[i] != '.')
            return false;
    }
    if (points > 1)
        return false;
    memcpy(digits, text.data, text.size);
    digits[text.size] = '\0';
    *ret_number = strtod(digits, NULL);
    return true;
}

struct unit {
    const char *suffix; /* longer ones before their own endings */
    uint64_t factor;
};

static bool number_with_unit(struct slice text, const struct unit *units, size_t unit_count, uint64_t *ret_number)
{
    for (size_t i = 0; i < unit_count; i++) {
        size_t suffix_size = strlen(units[i].suffix);
        if (text.size <= suffix_size || memcmp(text.data + text.size - suffix_size, units[i].suffix, suffix_size) != 0)
            continue;
        uint64_t number, product;
        if (!config_value_unsigned(slice_of(text.data, text.size - suffix_size), &number) ||
            __builtin_mul_overflow(number, units[i].factor, &product))
            return false;
        *ret_number = product;
        return true;
    }
    return false;
}

bool config_value_duration(struct slice text, uint64_t *ret_ns)
{
    static const struct unit units[] = {
        {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000}};
    return number_with_unit(text, units, sizeof units / sizeof units[0], ret_ns);
}

bool config_value_bytes(struct slice text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}};
    return number_with_unit(text, units, sizeof units / sizeof units[0], ret_bytes);
}

bool config_value_is_utf8(struct slice text)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    for (size_t i = 0; i < text.size;) {
        static const uint32_t first_code[] = {0, 0x80, 0x800, 0x10000}; /* that needs 1, 2, 3 more bytes */
        size_t more = bytes[i] < 0x80       ? 0
                      : bytes[i] >> 5 == 6  ? 1
                      : bytes[i] >> 4 == 14 ? 2
                      : bytes[i] >> 3 == 30 ? 3
                                            : 4;
        if (more == 4 || text.size - i <= more)
            return false;
        uint32_t code = more == 0 ? bytes[i] : bytes[i] & (0x3fu >> more);
        for (size_t k = 1; k <= more; k++) {
            if (bytes[i + k] >> 6 != 2)
                return false;
            code = code << 6 | (bytes[i + k] & 0x3fu);
        }
        if (code < first_code[more] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
            return false;
        i += more + 1;
    }
    return true;
}

bool config_value_is_word(struct slice text, size_t size_max)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!isalnum((unsigned char)text.data[i]) && !memchr("._-", text.data[i], 3))
            return false;
    }
    return text.size > 0 && text.size <= size_max;
}

bool config_value_is_address(struct slice text)
{
    char host[64];
    const char *colon = text.size ? memrchr(text.data, ':', text.size) : NULL;
    if (!colon || (size_t)(colon - text.data) >= sizeof host)
        return false;
    size_t host_size = (size_t)(colon - text.data);
    uint64_t port;
    if (!config_value_unsigned(slice_of(colon + 1, text.size - host_size - 1), &port) || port > 65535)
        return false;
    unsigned char binary[16];
    if (host_size > 2 && text.data[0] == '[' && colon[-1] == ']') {
        memcpy(host, text.data + 1, host_size - 2);
        host[host_size - 2] = '\0';
        return inet_pton(AF_INET6, host, binary) == 1;
    }
    memcpy(host, text.data, host_size);
    host[host_size] = '\0';
    return inet_pton(AF_INET, host, binary) == 1;
}

bool config_value_looks_typed(struct slice text)
{
    static const char *const words[] = {"", "~", "null", "true", "false", ".inf", ".nan"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (text.size == strlen(words[i]) && strncasecmp(text.data, words[i], text.size) == 0)
            return true;
    }
    /* A number: what strtod takes whole, in any of YAML's spellings of one. */
    char digits[64];
    if (text.size >= sizeof digits || (!isdigit((unsigned char)text.data[0]) && !memchr("+-.", text.data[0], 3)))
        return false;
    memcpy(digits, text.data, text.size);
    digits[text.size] = '\0';
    char *end;
    strtod(digits, &end);
    return *end == '\0';
}
