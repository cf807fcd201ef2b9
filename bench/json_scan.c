/* SPDX-License-Identifier: Apache-2.0 */
/* json_scan: see json_scan.h. A nested value ends where its brackets balance, strings passed over as one. */
#include "bench/json_scan.h"

#include "net/json.h"

static void skip_space(struct json_scan *scan)
{
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
        scan->at++;
}

static bool skip_byte(struct json_scan *scan, char byte)
{
    skip_space(scan);
    if (scan->at == scan->end || *scan->at != byte)
        return false;
    scan->at++;
    return true;
}

/* From its first quote to behind its last. */
static bool skip_string(struct json_scan *scan)
{
    for (scan->at++; scan->at < scan->end; scan->at++) {
        if (*scan->at == '\\') {
            scan->at++;
        } else if (*scan->at == '"') {
            scan->at++;
            return true;
        }
    }
    return false;
}

static bool skip_brackets(struct json_scan *scan)
{
    uint32_t depth = 0;
    while (scan->at < scan->end) {
        char byte = *scan->at;
        if (byte == '"') {
            if (!skip_string(scan))
                return false;
            continue;
        }
        scan->at++;
        if (byte == '{' || byte == '[')
            depth++;
        else if ((byte == '}' || byte == ']') && --depth == 0)
            return true;
    }
    return false;
}

static bool skip_value(struct json_scan *scan)
{
    if (scan->at == scan->end)
        return false;
    if (*scan->at == '"')
        return skip_string(scan);
    if (*scan->at == '{' || *scan->at == '[')
        return skip_brackets(scan);
    const char *begin = scan->at;
    while (scan->at < scan->end && *scan->at != ',' && *scan->at != '}' && *scan->at != ']' && *scan->at > ' ')
        scan->at++;
    return scan->at > begin;
}

bool json_scan_begin(struct json_scan *scan, struct slice object)
{
    *scan = (struct json_scan){.at = object.data, .end = object.data + object.size};
    return object.size > 0 && skip_byte(scan, '{');
}

bool json_scan_next(struct json_scan *scan, struct slice *ret_key, struct slice *ret_value)
{
    (void)skip_byte(scan, ',');
    skip_space(scan);
    if (scan->at == scan->end || *scan->at != '"')
        return false;
    const char *key = scan->at + 1;
    if (!skip_string(scan))
        return false;
    *ret_key = slice_of(key, (size_t)(scan->at - 1 - key));
    if (!skip_byte(scan, ':'))
        return false;
    skip_space(scan);
    const char *value = scan->at;
    if (!skip_value(scan))
        return false;
    *ret_value = slice_of(value, (size_t)(scan->at - value));
    return true;
}

bool json_scan_text(struct slice value, char *buffer, size_t size, struct slice *ret_text)
{
    if (value.size < 2 || value.data[0] != '"')
        return false;
    *ret_text = slice_of(value.data + 1, value.size - 2);
    if (!memchr(value.data, '\\', value.size))
        return true;
    struct json_value root;
    struct json_problem problem;
    return json_validate(value, &root, &problem) == OK && json_string(root, buffer, size, ret_text) == OK;
}
