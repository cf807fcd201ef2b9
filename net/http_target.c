/* SPDX-License-Identifier: Apache-2.0 */
/* Checks before decoding, in one pass over the raw bytes, and needs no memory for it; decoding then cannot fail. */
#include "net/http_target.h"

#include "net/http1_internal.h"
#include "runtime/assert.h"

/* The byte of the escape at raw.data[at] == '%', or -1. */
static int escaped_byte(struct slice raw, size_t at)
{
    if (raw.size - at < 3)
        return -1;
    int high = http1_hex_value(raw.data[at + 1]), low = http1_hex_value(raw.data[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* RFC 3629, byte by byte: how many continuation bytes are due, and the range of the next (overlong forms, surrogates and
 * what lies beyond U+10FFFF are told by the second byte). */
struct utf8 {
    uint8_t left, low, high;
};

static bool utf8_step(struct utf8 *utf8, uint8_t byte)
{
    if (utf8->left > 0) {
        if (byte < utf8->low || byte > utf8->high)
            return false;
        *utf8 = (struct utf8){.left = (uint8_t)(utf8->left - 1), .low = 0x80, .high = 0xbf};
        return true;
    }
    *utf8 = (struct utf8){.left = 0, .low = 0x80, .high = 0xbf};
    if (byte < 0x80)
        return true;
    if (byte < 0xc2 || byte > 0xf4)
        return false;
    utf8->left = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    if (byte == 0xe0)
        utf8->low = 0xa0;
    if (byte == 0xed)
        utf8->high = 0x9f;
    if (byte == 0xf0)
        utf8->low = 0x90;
    if (byte == 0xf4)
        utf8->high = 0x8f;
    return true;
}

static enum http1_reason check(struct slice raw, uint8_t class, bool *ret_has_escape)
{
    struct utf8 utf8 = {0};
    for (size_t at = 0; at < raw.size; at++) {
        uint8_t byte = (uint8_t)raw.data[at];
        if (byte == '%') {
            int escaped = escaped_byte(raw, at);
            if (escaped < 0x20 || escaped == 0x7f)
                return HTTP1_TARGET_ESCAPE;
            /* No separator in disguise; and no '%', so that who decodes the path again finds nothing to decode. */
            if (class == HTTP1_PATH_BYTE && (escaped == '/' || escaped == '\\' || escaped == '%'))
                return HTTP1_TARGET_ESCAPE;
            byte = (uint8_t)escaped;
            at += 2;
            *ret_has_escape = true;
        } else if (!http1_is_class((char)byte, class)) {
            return HTTP1_TARGET_BYTE;
        }
        if (!utf8_step(&utf8, byte))
            return HTTP1_TARGET_UTF8;
    }
    return utf8.left > 0 ? HTTP1_TARGET_UTF8 : HTTP1_ACCEPTED;
}

/* Whether the path, already checked, has a segment that decodes to "." or "..". */
static bool has_dot_segment(struct slice raw)
{
    size_t size = 0, dots = 0;
    for (size_t at = 0; at < raw.size; at++) {
        int byte = raw.data[at];
        if (byte == '/') {
            if (size > 0 && size == dots && dots <= 2)
                return true;
            size = dots = 0;
            continue;
        }
        if (byte == '%') {
            byte = escaped_byte(raw, at);
            at += 2;
        }
        size++;
        dots += byte == '.';
    }
    return size > 0 && size == dots && dots <= 2;
}

enum http1_reason http_path_check(struct slice raw, bool *ret_has_escape)
{
    ASSERT(raw.size > 0 && raw.data[0] == '/');
    *ret_has_escape = false;
    enum http1_reason reason = check(raw, HTTP1_PATH_BYTE, ret_has_escape);
    return reason == HTTP1_ACCEPTED && has_dot_segment(raw) ? HTTP1_TARGET_SEGMENT : reason;
}

enum http1_reason http_query_check(struct slice raw)
{
    bool has_escape = false;
    return check(raw, HTTP1_QUERY_BYTE, &has_escape);
}

size_t http_path_decode(struct slice raw, char *ret_path)
{
    size_t size = 0;
    for (size_t at = 0; at < raw.size; at++) {
        char byte = raw.data[at];
        if (byte == '%') {
            byte = (char)escaped_byte(raw, at);
            at += 2;
        }
        ret_path[size++] = byte;
    }
    return size;
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_alphanumeric(char byte)
{
    return is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

bool http_authority_is_valid(struct slice authority)
{
    size_t at = 0;
    if (authority.size > 0 && authority.data[0] == '[') {
        at = 1;
        while (at < authority.size &&
               (http1_hex_value(authority.data[at]) >= 0 || authority.data[at] == ':' || authority.data[at] == '.'))
            at++;
        if (at < 3 || at == authority.size || authority.data[at] != ']')
            return false;
        at++;
    } else {
        while (at < authority.size &&
               (is_alphanumeric(authority.data[at]) || authority.data[at] == '-' || authority.data[at] == '.' ||
                authority.data[at] == '_' || authority.data[at] == '~'))
            at++;
        if (at == 0)
            return false;
    }
    if (at == authority.size)
        return true;
    if (authority.data[at] != ':')
        return false;
    size_t digits = authority.size - at - 1;
    if (digits < 1 || digits > 5)
        return false;
    for (at++; at < authority.size; at++)
        if (!is_digit(authority.data[at]))
            return false;
    return true;
}

/* ---- what handlers ask ------------------------------------------------------------------------------------------------- */
bool http_text_is_equal(struct slice text, const char *other)
{
    for (size_t i = 0; i < text.size; i++) {
        char a = text.data[i], b = other[i];
        if (b == 0 || http1_lower(a) != http1_lower(b))
            return false;
    }
    return other[text.size] == 0;
}

struct slice http_request_header(const struct http_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->header_count; i++)
        if (http_text_is_equal(request->headers[i].name, name))
            return request->headers[i].value;
    return (struct slice){0};
}

/* application/x-www-form-urlencoded. Returns: false when it does not fit or has a bad escape. */
static bool decode_query_part(struct slice raw, char *buffer, size_t size, size_t *ret_size)
{
    struct utf8 utf8 = {0};
    size_t used = 0;
    for (size_t at = 0; at < raw.size; at++) {
        int byte = (uint8_t)raw.data[at];
        if (byte == '+') {
            byte = ' ';
        } else if (byte == '%') {
            byte = escaped_byte(raw, at);
            at += 2;
        }
        if (byte <= 0 || used == size || !utf8_step(&utf8, (uint8_t)byte))
            return false;
        buffer[used++] = (char)byte;
    }
    *ret_size = used;
    return utf8.left == 0;
}

enum err http_request_query(const struct http_request *request, const char *name, char *buffer, size_t size,
                            struct slice *ret_value)
{
    size_t name_size = strlen(name);
    struct slice rest = request->query, found = {0};
    while (rest.size > 0) {
        const char *end = memchr(rest.data, '&', rest.size);
        struct slice pair = slice_of(rest.data, end ? (size_t)(end - rest.data) : rest.size);
        rest = end ? slice_of(end + 1, rest.size - pair.size - 1) : (struct slice){0};
        if (pair.size < name_size || memcmp(pair.data, name, name_size) != 0)
            continue;
        if (pair.size > name_size && pair.data[name_size] != '=')
            continue;
        if (found.data)
            return ERR_INVALID;
        size_t skip = pair.size > name_size ? name_size + 1 : name_size;
        found = slice_of(pair.data + skip, pair.size - skip);
    }
    if (!found.data)
        return ERR_NOT_FOUND;
    size_t value_size;
    if (!decode_query_part(found, buffer, size, &value_size))
        return ERR_INVALID;
    *ret_value = slice_of(buffer, value_size);
    return OK;
}
