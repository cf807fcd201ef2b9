/* SPDX-License-Identifier: Apache-2.0 */
/* pack: MessagePack on our types: msgpack-c's packer writing into a struct buffer, and a reader that trusts nothing.
 *
 * The reader is a cursor with a sticky failure: reads after the first bad one give zero values, and the caller asks once at the
 * end. It allocates nothing and recurses nowhere; a count is checked against the bytes that are left (an element takes at
 * least one), so that a lying length costs no memory and no time. Callers: event, conversation_state, rpc.
 *
 * Why not msgpack_unpack: it builds a tree of objects in a zone for what is read once, front to back. */
#ifndef CIRANDA_NET_PACK_H
#define CIRANDA_NET_PACK_H

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/slice.h"

void pack_init(msgpack_packer *packer, struct buffer *out);
void pack_text(msgpack_packer *packer, struct slice text);
void pack_bytes(msgpack_packer *packer, const void *bytes, size_t size);

/* The first bytes of a value: its type, and its number or how much follows. */
enum pack_type {
    PACK_MORE,    /* its head does not end here */
    PACK_INVALID, /* 0xC1, which no value begins with */
    PACK_NIL,
    PACK_BOOL,
    PACK_NUMBER, /* 0 or above, whichever way it is written */
    PACK_NEGATIVE,
    PACK_FLOAT,
    PACK_TEXT,
    PACK_BYTES,
    PACK_ARRAY,
    PACK_MAP,
    PACK_EXT
};

struct pack_head {
    enum pack_type type;
    uint8_t size;   /* of the head */
    uint64_t value; /* of a bool or number (negative: its two's complement); TEXT, BYTES, EXT: bytes that follow; ARRAY:
                       elements; MAP: pairs */
};
struct pack_head pack_head_of(const uint8_t *at, size_t size);

struct pack_reader {
    const uint8_t *at, *end;
    bool is_failed;
};

struct pack_reader pack_reader_of(struct slice data);
bool pack_reader_is_done(const struct pack_reader *reader); /* everything read, nothing failed */
enum pack_type
pack_peek(const struct pack_reader *reader); /* of the next value; PACK_MORE at the end or after a failure */
uint64_t pack_read_number(struct pack_reader *reader);
bool pack_read_bool(struct pack_reader *reader);
struct slice pack_read_text(struct pack_reader *reader);                 /* borrowed from the data */
const uint8_t *pack_read_bytes(struct pack_reader *reader, size_t size); /* bin of exactly that size, else NULL */
uint32_t pack_read_array(struct pack_reader *reader);                    /* count of its elements */
uint32_t pack_read_map(struct pack_reader *reader);                      /* count of its pairs */
void pack_skip(struct pack_reader *reader);                              /* one value of any type, nested ones included */

#endif
