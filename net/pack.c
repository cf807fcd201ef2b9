/* SPDX-License-Identifier: Apache-2.0 */
/* One function reads a value's head (type, and number or length); the typed reads accept exactly one type each. Skipping counts
 * the values still owed instead of recursing: a container adds its elements to the debt. */
#include "net/pack.h"

static int write_to_buffer(void *data, const char *bytes, size_t size)
{
    buffer_append(data, bytes, size);
    return 0; /* the buffer remembers an overflow */
}

void pack_init(msgpack_packer *packer, struct buffer *out)
{
    msgpack_packer_init(packer, out, write_to_buffer);
}

void pack_text(msgpack_packer *packer, struct slice text)
{
    char fixstr[32];
    if (text.size >= sizeof fixstr) {
        msgpack_pack_str(packer, text.size);
        msgpack_pack_str_body(packer, text.data, text.size);
        return;
    }
    /* Head and body in one write: nearly all texts of an event are as short, and two writes cost twice. */
    fixstr[0] = (char)(0xA0 | text.size);
    if (text.size)
        memcpy(fixstr + 1, text.data, text.size);
    write_to_buffer(packer->data, fixstr, text.size + 1);
}

void pack_bytes(msgpack_packer *packer, const void *bytes, size_t size)
{
    msgpack_pack_bin(packer, size);
    msgpack_pack_bin_body(packer, bytes, size);
}

/* ---- heads ------------------------------------------------------------------------------------------------------------- */

enum { EXT_TYPE_BYTES = 1 }; /* counted to what follows the head */

/* Behind the type byte stands a big-endian number of 1, 2, 4 or 8 bytes. */
static struct pack_head sized(enum pack_type type, size_t number_bytes, const uint8_t *at, size_t size)
{
    if (size < 1 + number_bytes)
        return (struct pack_head){.type = PACK_MORE};
    uint64_t value = 0;
    for (size_t i = 1; i <= number_bytes; i++)
        value = value << 8 | at[i];
    return (struct pack_head){type, (uint8_t)(1 + number_bytes), value};
}

static struct pack_head signed_number(size_t number_bytes, const uint8_t *at, size_t size)
{
    struct pack_head head = sized(PACK_NUMBER, number_bytes, at, size);
    uint64_t sign = UINT64_C(1) << (8 * number_bytes - 1);
    if (head.type == PACK_NUMBER && head.value & sign) {
        head.type = PACK_NEGATIVE;
        head.value |= ~(sign - 1);
    }
    return head;
}

static struct pack_head ext(size_t number_bytes, const uint8_t *at, size_t size)
{
    struct pack_head head = sized(PACK_EXT, number_bytes, at, size);
    head.value += EXT_TYPE_BYTES;
    return head;
}

struct pack_head pack_head_of(const uint8_t *at, size_t size)
{
    if (size == 0)
        return (struct pack_head){.type = PACK_MORE};
    uint8_t byte = at[0];
    if (byte <= 0x7F)
        return (struct pack_head){PACK_NUMBER, 1, byte};
    if (byte >= 0xE0)
        return (struct pack_head){PACK_NEGATIVE, 1, (uint64_t)(int64_t)(int8_t)byte};
    if (byte <= 0x8F)
        return (struct pack_head){PACK_MAP, 1, byte & 0x0Fu};
    if (byte <= 0x9F)
        return (struct pack_head){PACK_ARRAY, 1, byte & 0x0Fu};
    if (byte <= 0xBF)
        return (struct pack_head){PACK_TEXT, 1, byte & 0x1Fu};
    switch (byte) {
    case 0xC0: return (struct pack_head){PACK_NIL, 1, 0};
    case 0xC2:
    case 0xC3: return (struct pack_head){PACK_BOOL, 1, byte & 1u};
    case 0xC4: return sized(PACK_BYTES, 1, at, size);
    case 0xC5: return sized(PACK_BYTES, 2, at, size);
    case 0xC6: return sized(PACK_BYTES, 4, at, size);
    case 0xC7: return ext(1, at, size);
    case 0xC8: return ext(2, at, size);
    case 0xC9: return ext(4, at, size);
    case 0xCA: return sized(PACK_FLOAT, 4, at, size);
    case 0xCB: return sized(PACK_FLOAT, 8, at, size);
    case 0xCC: return sized(PACK_NUMBER, 1, at, size);
    case 0xCD: return sized(PACK_NUMBER, 2, at, size);
    case 0xCE: return sized(PACK_NUMBER, 4, at, size);
    case 0xCF: return sized(PACK_NUMBER, 8, at, size);
    case 0xD0: return signed_number(1, at, size);
    case 0xD1: return signed_number(2, at, size);
    case 0xD2: return signed_number(4, at, size);
    case 0xD3: return signed_number(8, at, size);
    case 0xD4:
    case 0xD5:
    case 0xD6:
    case 0xD7:
    case 0xD8: return (struct pack_head){PACK_EXT, 1, EXT_TYPE_BYTES + (UINT64_C(1) << (byte - 0xD4))};
    case 0xD9: return sized(PACK_TEXT, 1, at, size);
    case 0xDA: return sized(PACK_TEXT, 2, at, size);
    case 0xDB: return sized(PACK_TEXT, 4, at, size);
    case 0xDC: return sized(PACK_ARRAY, 2, at, size);
    case 0xDD: return sized(PACK_ARRAY, 4, at, size);
    case 0xDE: return sized(PACK_MAP, 2, at, size);
    case 0xDF: return sized(PACK_MAP, 4, at, size);
    }
    return (struct pack_head){.type = PACK_INVALID};
}

/* ---- the reader -------------------------------------------------------------------------------------------------------- */

struct pack_reader pack_reader_of(struct slice data)
{
    const uint8_t *at = (const uint8_t *)data.data;
    return (struct pack_reader){.at = at, .end = data.size ? at + data.size : at};
}

bool pack_reader_is_done(const struct pack_reader *reader)
{
    return !reader->is_failed && reader->at == reader->end;
}

static size_t left(const struct pack_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

static void fail(struct pack_reader *reader)
{
    reader->is_failed = true;
    reader->at = reader->end;
}

enum pack_type pack_peek(const struct pack_reader *reader)
{
    return pack_head_of(reader->at, left(reader)).type;
}

static struct pack_head read_head(struct pack_reader *reader)
{
    struct pack_head head = pack_head_of(reader->at, left(reader));
    if (head.type == PACK_MORE || head.type == PACK_INVALID)
        fail(reader);
    else
        reader->at += head.size;
    return head;
}

static uint64_t read_typed(struct pack_reader *reader, enum pack_type type)
{
    struct pack_head head = read_head(reader);
    if (head.type != type)
        fail(reader);
    return reader->is_failed ? 0 : head.value;
}

uint64_t pack_read_number(struct pack_reader *reader)
{
    return read_typed(reader, PACK_NUMBER);
}

bool pack_read_bool(struct pack_reader *reader)
{
    return read_typed(reader, PACK_BOOL) != 0;
}

static const uint8_t *take(struct pack_reader *reader, uint64_t size)
{
    if (reader->is_failed || size > left(reader)) {
        fail(reader);
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    reader->at += size;
    return bytes;
}

struct slice pack_read_text(struct pack_reader *reader)
{
    uint64_t size = read_typed(reader, PACK_TEXT);
    const uint8_t *bytes = take(reader, size);
    return bytes ? slice_of((const char *)bytes, size) : slice_of(NULL, 0);
}

const uint8_t *pack_read_bytes(struct pack_reader *reader, size_t size)
{
    if (read_typed(reader, PACK_BYTES) != size)
        fail(reader);
    return take(reader, size);
}

static uint32_t read_count(struct pack_reader *reader, enum pack_type type, uint32_t bytes_each_min)
{
    uint64_t count = read_typed(reader, type);
    if (count * bytes_each_min > left(reader))
        fail(reader);
    return reader->is_failed ? 0 : (uint32_t)count;
}

uint32_t pack_read_array(struct pack_reader *reader)
{
    return read_count(reader, PACK_ARRAY, 1);
}

uint32_t pack_read_map(struct pack_reader *reader)
{
    return read_count(reader, PACK_MAP, 2);
}

void pack_skip(struct pack_reader *reader)
{
    uint64_t owed = 1;
    while (owed > 0 && !reader->is_failed) {
        owed--;
        struct pack_head head = read_head(reader);
        switch (head.type) {
        case PACK_MORE:
        case PACK_INVALID:
        case PACK_NIL:
        case PACK_BOOL:
        case PACK_NUMBER:
        case PACK_NEGATIVE:
        case PACK_FLOAT: break;
        case PACK_TEXT:
        case PACK_BYTES:
        case PACK_EXT: take(reader, head.value); break;
        case PACK_MAP: head.value *= 2; /* fall through */
        case PACK_ARRAY:
            owed += head.value;
            if (owed > left(reader))
                fail(reader);
            break;
        }
    }
}
