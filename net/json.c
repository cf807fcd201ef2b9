/* SPDX-License-Identifier: Apache-2.0 */
/* json: the reader (json.h). json_validate walks the whole text once, with a frame an open container instead of recursion;
 * everything else walks text that it has accepted, and therefore checks nothing again.
 *
 * Duplicate keys: one hash set holds the keys of all containers that are open at the moment. It lies on the stack, and since
 * containers close in the reverse order of their opening, its entries leave in the reverse order of their insertion, so that
 * linear probing needs no tombstones. Its price is a cap: 1,024 keys in all open objects together, then a refusal.
 */
#include "net/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/utf8.h"
#include "runtime/assert.h"

enum { KEY_SLOTS = 2 * JSON_OPEN_KEYS_MAX };
_Static_assert((KEY_SLOTS & (KEY_SLOTS - 1)) == 0, "a slot is found by masking the hash");

/* A key of an object that is open. Two keys belong to the same object exactly when their depths are equal. */
struct open_key {
    struct slice raw; /* still escaped, without quotes */
    uint64_t hash;
    uint32_t depth;
    uint32_t slot;
};

struct frame {
    bool is_object;
    uint32_t keys_before; /* open keys when it was opened */
    size_t index;         /* arrays: of the present element */
    struct slice raw_key; /* objects: of the present member; data is NULL before the first one */
};

struct reader {
    const char *data;
    size_t size, position;
    struct frame frames[JSON_DEPTH_MAX];
    uint32_t depth;
    uint32_t key_count;
    uint16_t slots[KEY_SLOTS]; /* 0: free, else index into `keys` plus one */
    struct open_key keys[JSON_OPEN_KEYS_MAX];
    struct json_problem *problem;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* ---- unescaping: valid escapes only ----------------------------------------------------------------------------------- */

static uint32_t read_hex4(const char *digits)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 4 | (uint32_t)hex_value(digits[i]);
    return value;
}

/* Decodes the escape at `raw` (a backslash). Returns: bytes of the escape; *ret_size bytes of UTF-8 in `ret_bytes`. */
static size_t unescape(const char *raw, char ret_bytes[UTF8_SEQUENCE_MAX], size_t *ret_size)
{
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    if (raw[1] != 'u') {
        const char *letter = strchr(letters, raw[1]);
        ret_bytes[0] = letter ? meanings[letter - letters] : raw[1];
        *ret_size = 1;
        return 2;
    }
    uint32_t code_point = read_hex4(raw + 2);
    bool is_pair = code_point >= 0xd800 && code_point <= 0xdbff;
    if (is_pair)
        code_point = 0x10000 + ((code_point - 0xd800) << 10) + (read_hex4(raw + 8) - 0xdc00);
    *ret_size = utf8_encode(code_point, ret_bytes);
    return is_pair ? 12 : 6;
}

/* The unescaped bytes of a raw string, a character at a time. */
struct unescaper {
    struct slice raw;
    size_t position;
    char bytes[UTF8_SEQUENCE_MAX];
};

/* Returns: false at the end; else *ret_piece, valid until the next call. */
static bool unescaper_next(struct unescaper *unescaper, struct slice *ret_piece)
{
    if (unescaper->position == unescaper->raw.size)
        return false;
    const char *at = unescaper->raw.data + unescaper->position;
    if (*at != '\\') {
        *ret_piece = slice_of(at, 1);
        unescaper->position++;
        return true;
    }
    size_t size;
    unescaper->position += unescape(at, unescaper->bytes, &size);
    *ret_piece = slice_of(unescaper->bytes, size);
    return true;
}

static bool has_escape(struct slice raw)
{
    return raw.size > 0 && memchr(raw.data, '\\', raw.size) != NULL;
}

/* Does the raw string mean exactly `plain` (already unescaped)? */
static bool raw_means(struct slice raw, struct slice plain)
{
    struct unescaper unescaper = {.raw = raw};
    struct slice piece;
    while (unescaper_next(&unescaper, &piece)) {
        if (piece.size > plain.size || memcmp(piece.data, plain.data, piece.size) != 0)
            return false;
        plain = slice_of(plain.data + piece.size, plain.size - piece.size);
    }
    return plain.size == 0;
}

static bool raw_keys_are_equal(struct slice a, struct slice b)
{
    if (!has_escape(a))
        return has_escape(b) ? raw_means(b, a) : slice_is_equal(a, b);
    if (!has_escape(b))
        return raw_means(a, b);
    /* Pieces are whole escapes or single bytes, and "é" may be either: compare byte by byte. */
    struct unescaper left = {.raw = a}, right = {.raw = b};
    struct slice piece_a = {0}, piece_b = {0};
    for (;;) {
        bool has_a = piece_a.size > 0 || unescaper_next(&left, &piece_a);
        bool has_b = piece_b.size > 0 || unescaper_next(&right, &piece_b);
        if (!has_a || !has_b)
            return has_a == has_b;
        if (*piece_a.data != *piece_b.data)
            return false;
        piece_a = slice_of(piece_a.data + 1, piece_a.size - 1);
        piece_b = slice_of(piece_b.data + 1, piece_b.size - 1);
    }
}

/* ---- problems --------------------------------------------------------------------------------------------------------- */

/* Appends a reference token; one that does not fit whole is left out, so that no character is cut. */
static bool pointer_append(char *pointer, size_t *size, struct slice raw_key)
{
    char token[sizeof((struct json_problem *)0)->pointer];
    size_t token_size = 0;
    token[token_size++] = '/';
    struct unescaper unescaper = {.raw = raw_key};
    struct slice piece;
    while (unescaper_next(&unescaper, &piece)) {
        if (token_size + piece.size + 2 > sizeof token)
            return false;
        if (*piece.data == '~' || *piece.data == '/') {
            token[token_size++] = '~';
            token[token_size++] = *piece.data == '~' ? '0' : '1';
        } else {
            memcpy(token + token_size, piece.data, piece.size);
            token_size += piece.size;
        }
    }
    if (*size + token_size >= sizeof token)
        return false;
    memcpy(pointer + *size, token, token_size);
    *size += token_size;
    pointer[*size] = '\0';
    return true;
}

/* Always ERR_INVALID. The pointer names the value that was being read; for a bad key, the object. */
static enum err fail(struct reader *reader, size_t offset, const char *reason)
{
    struct json_problem *problem = reader->problem;
    problem->reason = reason;
    problem->offset = offset;
    problem->pointer[0] = '\0';
    size_t size = 0;
    for (uint32_t i = 0; i < reader->depth; i++) {
        const struct frame *frame = &reader->frames[i];
        char digits[24];
        struct slice token = frame->raw_key;
        if (!frame->is_object)
            token = slice_of(digits, (size_t)snprintf(digits, sizeof digits, "%zu", frame->index));
        else if (!token.data)
            break;
        if (!pointer_append(problem->pointer, &size, token))
            break;
    }
    return ERR_INVALID;
}

/* ---- duplicate keys --------------------------------------------------------------------------------------------------- */

/* FNV-1a over the unescaped bytes. It begins with the text's address, which no client knows, so that keys cannot be chosen to
 * collide; only the place in the table depends on it, never a result. */
static uint64_t hash_key(const struct reader *reader, struct slice raw)
{
    uint64_t hash = 0xcbf29ce484222325u ^ (uintptr_t)reader->data ^ (uint64_t)reader->depth << 48;
    struct unescaper unescaper = {.raw = raw};
    struct slice piece;
    while (unescaper_next(&unescaper, &piece)) {
        for (size_t i = 0; i < piece.size; i++)
            hash = (hash ^ (unsigned char)piece.data[i]) * 0x100000001b3u;
    }
    return hash ^ hash >> 29;
}

static enum err remember_key(struct reader *reader, size_t offset, struct slice raw)
{
    if (reader->key_count == JSON_OPEN_KEYS_MAX)
        return fail(reader, offset, "too many members in the objects open here");
    uint64_t hash = hash_key(reader, raw);
    uint32_t slot = (uint32_t)(hash & (KEY_SLOTS - 1));
    for (; reader->slots[slot] != 0; slot = (slot + 1) & (KEY_SLOTS - 1)) {
        const struct open_key *other = &reader->keys[reader->slots[slot] - 1];
        if (other->hash == hash && other->depth == reader->depth && raw_keys_are_equal(other->raw, raw))
            return fail(reader, offset, "duplicate key");
    }
    reader->keys[reader->key_count] = (struct open_key){.raw = raw, .hash = hash, .depth = reader->depth, .slot = slot};
    reader->slots[slot] = (uint16_t)++reader->key_count;
    return OK;
}

static void forget_keys(struct reader *reader, uint32_t keys_before)
{
    while (reader->key_count > keys_before)
        reader->slots[reader->keys[--reader->key_count].slot] = 0;
}

/* ---- validation ------------------------------------------------------------------------------------------------------- */

static void skip_blanks(struct reader *reader)
{
    while (reader->position < reader->size && is_blank(reader->data[reader->position]))
        reader->position++;
}

/* The byte at the position; NUL at the end, which is no JSON byte outside a string either. */
static char peek(const struct reader *reader)
{
    return reader->position < reader->size ? reader->data[reader->position] : '\0';
}

static bool has_hex4(const struct reader *reader, size_t position)
{
    if (reader->size - position < 4)
        return false;
    for (size_t i = 0; i < 4; i++) {
        if (hex_value(reader->data[position + i]) < 0)
            return false;
    }
    return true;
}

/* At a backslash. */
static enum err check_escape(struct reader *reader)
{
    size_t at = reader->position;
    char letter = at + 1 < reader->size ? reader->data[at + 1] : '\0';
    if (letter != 'u') {
        if (letter == '\0' || !strchr("\"\\/bfnrt", letter))
            return fail(reader, at, "unknown escape");
        reader->position += 2;
        return OK;
    }
    if (!has_hex4(reader, at + 2))
        return fail(reader, at, "\\u needs four hexadecimal digits");
    uint32_t unit = read_hex4(reader->data + at + 2);
    if (unit == 0)
        return fail(reader, at, "U+0000 is not allowed");
    reader->position += 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return OK;
    bool has_low = unit <= 0xdbff && reader->size - at >= 12 && reader->data[at + 6] == '\\' &&
                   reader->data[at + 7] == 'u' && has_hex4(reader, at + 8);
    uint32_t low = has_low ? read_hex4(reader->data + at + 8) : 0;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(reader, at, "lone surrogate");
    reader->position += 6;
    return OK;
}

/* At the opening quote. */
static enum err read_string(struct reader *reader, struct slice *ret_raw)
{
    size_t start = ++reader->position;
    while (reader->position < reader->size) {
        unsigned char c = (unsigned char)reader->data[reader->position];
        if (c == '"') {
            *ret_raw = slice_of(reader->data + start, reader->position - start);
            reader->position++;
            return OK;
        }
        if (c < 0x20)
            return fail(reader, reader->position, "control byte in a string");
        if (c == '\\') {
            enum err err = check_escape(reader);
            if (err)
                return err;
        } else if (c < 0x80) {
            reader->position++;
        } else {
            size_t size = utf8_sequence_size(reader->data + reader->position, reader->size - reader->position);
            if (size == 0)
                return fail(reader, reader->position, "invalid UTF-8");
            reader->position += size;
        }
    }
    return fail(reader, start - 1, "unterminated string");
}

/* `raw` is a number by grammar. Rewrites it as 0.DDDDe+EE with the first 40 digits that count, whose exponent decides at once
 * except at the very border, where strtod does. */
static bool fits_double(struct slice raw)
{
    char text[64] = "0.";
    size_t digit_count = 0;
    long long exponent = 0;
    bool is_after_point = false;
    size_t i = raw.data[0] == '-';
    for (; i < raw.size && raw.data[i] != 'e' && raw.data[i] != 'E'; i++) {
        if (raw.data[i] == '.') {
            is_after_point = true;
            continue;
        }
        if (digit_count == 0 && raw.data[i] == '0') {
            exponent -= is_after_point;
            continue;
        }
        if (digit_count < 40)
            text[2 + digit_count++] = raw.data[i];
        exponent += !is_after_point;
    }
    if (digit_count == 0)
        return true; /* zero, whatever its exponent */
    if (i < raw.size) {
        i++;
        bool is_negative = raw.data[i] == '-';
        i += raw.data[i] == '-' || raw.data[i] == '+';
        long long written = 0;
        for (; i < raw.size; i++)
            written = written > 1000000000000 ? written : written * 10 + (raw.data[i] - '0');
        exponent += is_negative ? -written : written;
    }
    if (exponent != 309) /* 0.1e309 = 1e308 < DBL_MAX < 1e309 */
        return exponent < 309;
    snprintf(text + 2 + digit_count, sizeof text - 2 - digit_count, "e309");
    return strtod(text, NULL) != HUGE_VAL;
}

static size_t skip_digits(struct reader *reader)
{
    size_t start = reader->position;
    while (is_digit(peek(reader)))
        reader->position++;
    return reader->position - start;
}

static enum err check_number(struct reader *reader)
{
    size_t start = reader->position;
    if (peek(reader) == '-')
        reader->position++;
    bool is_zero_first = peek(reader) == '0';
    size_t integer_digits = skip_digits(reader);
    if (integer_digits == 0)
        return fail(reader, start, "expected a digit");
    if (is_zero_first && integer_digits > 1)
        return fail(reader, start, "leading zero in a number");
    if (peek(reader) == '.') {
        reader->position++;
        if (skip_digits(reader) == 0)
            return fail(reader, reader->position, "expected a digit after the point");
    }
    bool has_exponent = peek(reader) == 'e' || peek(reader) == 'E';
    if (has_exponent) {
        reader->position++;
        if (peek(reader) == '+' || peek(reader) == '-')
            reader->position++;
        if (skip_digits(reader) == 0)
            return fail(reader, reader->position, "expected a digit in the exponent");
    }
    if ((has_exponent || integer_digits > 300) && !fits_double(slice_of(reader->data + start, reader->position - start)))
        return fail(reader, start, "number out of range");
    return OK;
}

static enum err check_literal(struct reader *reader, const char *literal)
{
    size_t size = strlen(literal);
    if (reader->size - reader->position < size || memcmp(reader->data + reader->position, literal, size) != 0)
        return fail(reader, reader->position, "unknown literal");
    reader->position += size;
    return OK;
}

static enum err check_scalar(struct reader *reader)
{
    struct slice raw;
    switch (peek(reader)) {
    case '"': return read_string(reader, &raw);
    case 't': return check_literal(reader, "true");
    case 'f': return check_literal(reader, "false");
    case 'n': return check_literal(reader, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return check_number(reader);
    default: return fail(reader, reader->position, "expected a value");
    }
}

/* Up to the value: key and colon. */
static enum err read_key(struct reader *reader)
{
    struct frame *frame = &reader->frames[reader->depth - 1];
    frame->raw_key = (struct slice){0};
    skip_blanks(reader);
    if (peek(reader) != '"')
        return fail(reader, reader->position, "expected a key");
    size_t offset = reader->position;
    struct slice raw;
    enum err err = read_string(reader, &raw);
    if (err)
        return err;
    frame->raw_key = raw;
    err = remember_key(reader, offset, raw);
    if (err)
        return err;
    skip_blanks(reader);
    if (peek(reader) != ':')
        return fail(reader, reader->position, "expected ':'");
    reader->position++;
    return OK;
}

/* At a bracket. *ret_is_empty: it was closed at once, and no value follows. */
static enum err open_container(struct reader *reader, bool *ret_is_empty)
{
    if (reader->depth == JSON_DEPTH_MAX)
        return fail(reader, reader->position, "nested too deeply");
    bool is_object = peek(reader) == '{';
    reader->position++;
    skip_blanks(reader);
    *ret_is_empty = peek(reader) == (is_object ? '}' : ']');
    if (*ret_is_empty) {
        reader->position++;
        return OK;
    }
    reader->frames[reader->depth++] = (struct frame){.is_object = is_object, .keys_before = reader->key_count};
    return is_object ? read_key(reader) : OK;
}

/* After a value: closes what ends here, up to the next value. *ret_is_end: the root is complete. */
static enum err go_on(struct reader *reader, bool *ret_is_end)
{
    *ret_is_end = false;
    while (reader->depth > 0) {
        struct frame *frame = &reader->frames[reader->depth - 1];
        skip_blanks(reader);
        if (peek(reader) == ',') {
            reader->position++;
            frame->index++;
            return frame->is_object ? read_key(reader) : OK;
        }
        if (peek(reader) != (frame->is_object ? '}' : ']'))
            return fail(reader, reader->position, frame->is_object ? "expected ',' or '}'" : "expected ',' or ']'");
        reader->position++;
        forget_keys(reader, frame->keys_before);
        reader->depth--;
    }
    *ret_is_end = true;
    return OK;
}

static enum err check_values(struct reader *reader)
{
    for (bool is_end = false; !is_end;) {
        skip_blanks(reader);
        char c = peek(reader);
        bool has_value_inside = false;
        enum err err;
        if (c == '{' || c == '[') {
            bool is_empty = false;
            err = open_container(reader, &is_empty);
            has_value_inside = !is_empty;
        } else {
            err = check_scalar(reader);
        }
        if (!err && !has_value_inside)
            err = go_on(reader, &is_end);
        if (err)
            return err;
    }
    return OK;
}

static enum json_type type_of(char first)
{
    switch (first) {
    case '{': return JSON_OBJECT;
    case '[': return JSON_ARRAY;
    case '"': return JSON_STRING;
    case 't':
    case 'f': return JSON_BOOL;
    case 'n': return JSON_NULL;
    default: return JSON_NUMBER;
    }
}

enum err json_validate(struct slice text, struct json_value *ret_root, struct json_problem *ret_problem)
{
    struct reader reader;
    reader.data = text.data;
    reader.size = text.size;
    reader.position = 0;
    reader.depth = 0;
    reader.key_count = 0;
    reader.problem = ret_problem;
    memset(reader.slots, 0, sizeof reader.slots); /* frames and keys are written before they are read */

    if (text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
        return fail(&reader, 0, "byte order mark");
    skip_blanks(&reader);
    size_t start = reader.position;
    enum err err = check_values(&reader);
    if (err)
        return err;
    struct slice raw = slice_of(text.data + start, reader.position - start);
    skip_blanks(&reader);
    if (reader.position != reader.size)
        return fail(&reader, reader.position, "bytes after the document");
    *ret_root = (struct json_value){.type = type_of(raw.data[0]), .raw = raw};
    return OK;
}

/* ---- walking accepted text -------------------------------------------------------------------------------------------- */

/* From the opening quote to behind the closing one. */
static size_t skip_string(struct slice text, size_t position)
{
    for (position++; text.data[position] != '"'; position++) {
        if (text.data[position] == '\\')
            position++;
    }
    return position + 1;
}

static size_t skip_value(struct slice text, size_t position)
{
    uint32_t depth = 0;
    do {
        switch (text.data[position]) {
        case '"': position = skip_string(text, position); break;
        case '{':
        case '[':
            depth++;
            position++;
            break;
        case '}':
        case ']':
            depth--;
            position++;
            break;
        case ',':
        case ':': position++; break;
        default: /* a number, a literal or blanks, up to what may follow one */
            while (position < text.size && !strchr(",:]}[{\"", text.data[position]) &&
                   (depth > 0 || !is_blank(text.data[position])))
                position++;
        }
    } while (depth > 0);
    return position;
}

static size_t skip_text_blanks(struct slice text, size_t position)
{
    while (is_blank(text.data[position]))
        position++;
    return position;
}

/* Behind the opening bracket or the comma. Returns: false at the closing bracket. */
static bool next_position(struct slice text, struct json_iterator *iterator)
{
    size_t position = iterator->position;
    if (!iterator->is_started) {
        iterator->is_started = true;
        position = 0; /* the opening bracket */
    } else if (position == 0) {
        return false; /* asked again after the end */
    } else {
        position = skip_text_blanks(text, position);
        if (text.data[position] != ',') {
            iterator->position = 0;
            return false;
        }
    }
    position = skip_text_blanks(text, position + 1);
    iterator->position = text.data[position] == '}' || text.data[position] == ']' ? 0 : position;
    return iterator->position != 0;
}

static struct json_value take_value(struct slice text, struct json_iterator *iterator)
{
    size_t start = iterator->position;
    iterator->position = skip_value(text, start);
    return (struct json_value){.type = type_of(text.data[start]),
                               .raw = slice_of(text.data + start, iterator->position - start)};
}

bool json_next_member(struct json_value object, struct json_iterator *iterator, struct slice *ret_raw_key,
                      struct json_value *ret_value)
{
    if (object.type != JSON_OBJECT || !next_position(object.raw, iterator))
        return false;
    size_t start = iterator->position;
    size_t end = skip_string(object.raw, start);
    *ret_raw_key = slice_of(object.raw.data + start + 1, end - start - 2);
    size_t colon = skip_text_blanks(object.raw, end);
    iterator->position = skip_text_blanks(object.raw, colon + 1);
    *ret_value = take_value(object.raw, iterator);
    return true;
}

bool json_next_element(struct json_value array, struct json_iterator *iterator, struct json_value *ret_value)
{
    if (array.type != JSON_ARRAY || !next_position(array.raw, iterator))
        return false;
    *ret_value = take_value(array.raw, iterator);
    return true;
}

bool json_key_is(struct slice raw_key, const char *key)
{
    struct slice plain = slice_from_text(key);
    return has_escape(raw_key) ? raw_means(raw_key, plain) : slice_is_equal(raw_key, plain);
}

bool json_find(struct json_value object, const char *key, struct json_value *ret_value)
{
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value value;
    while (json_next_member(object, &iterator, &raw_key, &value)) {
        if (json_key_is(raw_key, key)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

enum err json_string(struct json_value value, char *buffer, size_t size, struct slice *ret_text)
{
    if (value.type != JSON_STRING)
        return ERR_INVALID;
    struct slice raw = slice_of(value.raw.data + 1, value.raw.size - 2);
    if (!has_escape(raw)) {
        *ret_text = raw;
        return OK;
    }
    size_t used = 0;
    for (size_t position = 0; position < raw.size;) {
        const char *at = raw.data + position;
        const char *escape = memchr(at, '\\', raw.size - position);
        size_t plain_size = escape ? (size_t)(escape - at) : raw.size - position;
        if (plain_size > size - used)
            return ERR_LIMIT;
        if (plain_size > 0)
            memcpy(buffer + used, at, plain_size);
        used += plain_size;
        position += plain_size;
        if (!escape)
            break;
        char bytes[UTF8_SEQUENCE_MAX];
        size_t bytes_size;
        position += unescape(escape, bytes, &bytes_size);
        if (bytes_size > size - used)
            return ERR_LIMIT;
        memcpy(buffer + used, bytes, bytes_size);
        used += bytes_size;
    }
    *ret_text = slice_of(buffer, used);
    return OK;
}

enum err json_integer(struct json_value value, int64_t *ret_integer)
{
    if (value.type != JSON_NUMBER)
        return ERR_INVALID;
    struct slice raw = value.raw;
    bool is_negative = raw.data[0] == '-';
    uint64_t limit = is_negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    uint64_t magnitude = 0;
    for (size_t i = is_negative; i < raw.size; i++) {
        if (!is_digit(raw.data[i]))
            return ERR_INVALID;
        uint64_t digit = (uint64_t)(raw.data[i] - '0');
        if (magnitude > (limit - digit) / 10)
            return ERR_INVALID;
        magnitude = magnitude * 10 + digit;
    }
    *ret_integer = (int64_t)(is_negative ? 0 - magnitude : magnitude);
    return OK;
}

bool json_is_true(struct json_value value)
{
    return value.type == JSON_BOOL && value.raw.data[0] == 't';
}
