/* SPDX-License-Identifier: Apache-2.0 */
/* Not recursive: the containers that are open stand in an array as deep as the reader lets JSON be. */
#include "net/json_pack.h"

#include <stdlib.h>

#include "runtime/assert.h"

enum { NUMBER_BYTES_MAX = 400 }; /* more digits than a finite double can have before its point */

struct level {
    struct json_value container;
    struct json_iterator iterator;
};

static bool next(struct level *level, struct slice *ret_raw_key, struct json_value *ret_value)
{
    return level->container.type == JSON_OBJECT
               ? json_next_member(level->container, &level->iterator, ret_raw_key, ret_value)
               : json_next_element(level->container, &level->iterator, ret_value);
}

static size_t count_of(struct json_value container)
{
    struct level level = {.container = container};
    struct slice key;
    struct json_value value;
    size_t count = 0;
    while (next(&level, &key, &value))
        count++;
    return count;
}

/* Unescaped where it will stand, but for the head, whose size depends on what comes out. */
static void pack_string(struct buffer *out, msgpack_packer *packer, struct json_value string)
{
    enum { HEAD_BYTES_MAX = 5 };
    char *room = buffer_reserve(out, string.raw.size + HEAD_BYTES_MAX);
    struct slice text;
    if (!room || json_string(string, room + HEAD_BYTES_MAX, string.raw.size, &text) != OK)
        return;
    msgpack_pack_str(packer, text.size);
    memmove(out->data + out->size, text.data, text.size);
    out->size += text.size;
}

static void pack_number(msgpack_packer *packer, struct json_value number)
{
    char digits[NUMBER_BYTES_MAX + 1];
    int64_t integer;
    if (json_integer(number, &integer) == OK) {
        msgpack_pack_int64(packer, integer);
        return;
    }
    size_t size = number.raw.size < NUMBER_BYTES_MAX ? number.raw.size : NUMBER_BYTES_MAX;
    memcpy(digits, number.raw.data, size);
    digits[size] = '\0';
    msgpack_pack_double(packer, strtod(digits, NULL));
}

void json_pack(struct buffer *out, struct json_value root)
{
    struct level levels[JSON_DEPTH_MAX + 1];
    struct json_value value = root;
    struct slice raw_key;
    size_t depth = 0;
    msgpack_packer packer;
    pack_init(&packer, out);
    for (;;) {
        switch (value.type) {
        case JSON_NULL: msgpack_pack_nil(&packer); break;
        case JSON_BOOL: json_is_true(value) ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer); break;
        case JSON_NUMBER: pack_number(&packer, value); break;
        case JSON_STRING: pack_string(out, &packer, value); break;
        case JSON_ARRAY: msgpack_pack_array(&packer, count_of(value)); break;
        case JSON_OBJECT: msgpack_pack_map(&packer, count_of(value)); break;
        }
        if (value.type == JSON_ARRAY || value.type == JSON_OBJECT) {
            ASSERT(depth <= JSON_DEPTH_MAX);
            levels[depth++] = (struct level){.container = value};
        }
        while (depth > 0 && !next(&levels[depth - 1], &raw_key, &value))
            depth--;
        if (depth == 0)
            return;
        /* The raw key stands between quotes: as a string value it is one byte wider on each side. */
        if (levels[depth - 1].container.type == JSON_OBJECT)
            pack_string(out, &packer, (struct json_value){JSON_STRING, slice_of(raw_key.data - 1, raw_key.size + 2)});
    }
}
