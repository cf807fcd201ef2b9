/* SPDX-License-Identifier: Apache-2.0 */
/* One function reads a value's head (type, and number or length); the typed reads accept exactly one type each. Skipping counts
 * the values still owed instead of recursing: a container adds its elements to the debt. */
#include "actors/pack.h"

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

enum pack_type {
    PACK_NONE,
    PACK_NIL,
    PACK_BOOL,
    PACK_NUMBER,
    PACK_OTHER_NUMBER,
    PACK_TEXT,
    PACK_BYTES,
    PACK_ARRAY,
    PACK_MAP
};

struct head {
    enum pack_type type;
    uint64_t value; /* the number, or how many bytes, elements or pairs follow */
};

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

static struct head fail(struct pack_reader *reader)
{
    reader->is_failed = true;
    reader->at = reader->end;
    return (struct head){PACK_NONE, 0};
}

/* A big-endian number of 1, 2, 4 or 8 bytes behind the type byte. */
static struct head read_sized(struct pack_reader *reader, enum pack_type type, size_t size)
{
    if (left(reader) < size)
        return fail(reader);
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | *reader->at++;
    return (struct head){type, value};
}

static struct head read_head(struct pack_reader *reader)
{
    if (left(reader) == 0)
        return fail(reader);
    uint8_t byte = *reader->at++;
    if (byte <= 0x7F)
        return (struct head){PACK_NUMBER, byte};
    if (byte >= 0xE0)
        return (struct head){PACK_OTHER_NUMBER, 0}; /* negative */
    if (byte <= 0x8F)
        return (struct head){PACK_MAP, byte & 0x0Fu};
    if (byte <= 0x9F)
        return (struct head){PACK_ARRAY, byte & 0x0Fu};
    if (byte <= 0xBF)
        return (struct head){PACK_TEXT, byte & 0x1Fu};
    switch (byte) {
    case 0xC0: return (struct head){PACK_NIL, 0};
    case 0xC2:
    case 0xC3: return (struct head){PACK_BOOL, byte & 1u};
    case 0xC4: return read_sized(reader, PACK_BYTES, 1);
    case 0xC5: return read_sized(reader, PACK_BYTES, 2);
    case 0xC6: return read_sized(reader, PACK_BYTES, 4);
    case 0xCC: return read_sized(reader, PACK_NUMBER, 1);
    case 0xCD: return read_sized(reader, PACK_NUMBER, 2);
    case 0xCE: return read_sized(reader, PACK_NUMBER, 4);
    case 0xCF: return read_sized(reader, PACK_NUMBER, 8);
    case 0xCA: /* float 32 and 64, int 8 .. 64: never written by us, skipped when a newer build adds such a field */
    case 0xD2: return read_sized(reader, PACK_OTHER_NUMBER, 4);
    case 0xCB:
    case 0xD3: return read_sized(reader, PACK_OTHER_NUMBER, 8);
    case 0xD0: return read_sized(reader, PACK_OTHER_NUMBER, 1);
    case 0xD1: return read_sized(reader, PACK_OTHER_NUMBER, 2);
    case 0xD9: return read_sized(reader, PACK_TEXT, 1);
    case 0xDA: return read_sized(reader, PACK_TEXT, 2);
    case 0xDB: return read_sized(reader, PACK_TEXT, 4);
    case 0xDC: return read_sized(reader, PACK_ARRAY, 2);
    case 0xDD: return read_sized(reader, PACK_ARRAY, 4);
    case 0xDE: return read_sized(reader, PACK_MAP, 2);
    case 0xDF: return read_sized(reader, PACK_MAP, 4);
    }
    return fail(reader); /* ext types and 0xC1 */
}

static uint64_t read_typed(struct pack_reader *reader, enum pack_type type)
{
    struct head head = read_head(reader);
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
        struct head head = read_head(reader);
        switch (head.type) {
        case PACK_NONE:
        case PACK_NIL:
        case PACK_BOOL:
        case PACK_NUMBER:
        case PACK_OTHER_NUMBER: break;
        case PACK_TEXT:
        case PACK_BYTES: take(reader, head.value); break;
        case PACK_MAP: head.value *= 2; /* fall through */
        case PACK_ARRAY:
            owed += head.value;
            if (owed > left(reader))
                fail(reader);
            break;
        }
    }
}
