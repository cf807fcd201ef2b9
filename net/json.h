/* SPDX-License-Identifier: Apache-2.0 */
/* json: a strict pull reader and a writer (RFC 8259), without allocation and without recursion.
 *
 * Why not jansson here: requests and model chunks are the hot path (80,000 chunks/s with 10,000 streaming turns); jansson
 * is the oracle of this reader's tests and fuzz target instead.
 *
 * Reader refuses: depth over 32, duplicate keys in one object ("a" and "\u0061" are the same key), over 1,024 keys in all
 * the objects that are open at one place, lone surrogates, invalid UTF-8, numbers out of double range, a BOM, trailing bytes,
 * control bytes in strings, U+0000. Errors carry a JSON pointer (RFC 6901) and a byte offset.
 */
#ifndef CIRANDA_NET_JSON_H
#define CIRANDA_NET_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

/* jansson, which some programs link too, has functions of the same names: ours must not stand in for them. */
#pragma GCC visibility push(hidden)

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum { JSON_DEPTH_MAX = 32, JSON_OPEN_KEYS_MAX = 1024 };

/* A value somewhere in a text that json_validate has accepted. Lent from that text. */
struct json_value {
    enum json_type type;
    struct slice raw; /* its exact bytes: quotes, brackets included */
};

struct json_problem {
    const char *reason; /* static text */
    size_t offset;
    /* RFC 6901; "" is the whole document. Names what was being read; for a malformed key the object; ends with the last token
     * that fits. */
    char pointer[256];
};

/* Checks the whole text once. Returns: ERR_INVALID with *ret_problem. Limits: linear time, also against many keys; 50 KiB of
 * stack. */
MUST_USE enum err json_validate(struct slice text, struct json_value *ret_root, struct json_problem *ret_problem);

/* Iteration over members or elements: start zeroed; false at the end. Keys are raw (still escaped) without quotes. */
struct json_iterator {
    size_t position;
    bool is_started;
};
bool json_next_member(struct json_value object, struct json_iterator *iterator, struct slice *ret_raw_key,
                      struct json_value *ret_value);
bool json_next_element(struct json_value array, struct json_iterator *iterator, struct json_value *ret_value);
/* First member of that (unescaped) name; false if absent or not an object. */
bool json_find(struct json_value object, const char *key, struct json_value *ret_value);
bool json_key_is(struct slice raw_key, const char *key);

/* Unescaped UTF-8. Without escapes it points into the text and `buffer` is untouched; else written to `buffer` (raw.size
 * always suffices). Returns: ERR_INVALID not a string; ERR_LIMIT buffer too small. */
MUST_USE enum err json_string(struct json_value value, char *buffer, size_t size, struct slice *ret_text);
/* Digits only: neither 1.0 nor 1e3. Returns: ERR_INVALID not such a number, or out of range. */
MUST_USE enum err json_integer(struct json_value value, int64_t *ret_integer);
bool json_is_true(struct json_value value);

/* ---- writer: into a growable buffer (runtime/buffer.h), never fails halfway: the buffer remembers an overflow --------- */
struct buffer;
void json_write_string(struct buffer *out,
                       struct slice utf8); /* quotes, escapes; invalid UTF-8 becomes U+FFFD; <, > and U+2028/9 escaped */
void json_write_integer(struct buffer *out, int64_t value);
void json_write_unsigned(struct buffer *out, uint64_t value);
void json_write_key(struct buffer *out, const char *key, bool *is_first); /* comma when needed, "key": */

#pragma GCC visibility pop

#endif
