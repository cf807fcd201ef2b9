/* SPDX-License-Identifier: Apache-2.0 */
/* segment: the records of a commit, as many as fit a page of the engine, in one blob. A row of the engine's table costs the
 * same whether it holds one record or ten, some 1.2 us, and that was half of an append (docs/STORAGE.md).
 *
 * The records of a segment have consecutive offsets from that of its row. One is found by walking from the first: a size leads
 * to the next. An erased record keeps its place and its size and is otherwise zeroes. Layout: docs/FORMAT.md.
 *
 * A damaged size makes the rest of its segment unreadable; which record is damaged otherwise tells its checksum.
 *
 * Pure: no I/O. Callers: backends.
 */
#ifndef CIRANDA_STORAGE_SEGMENT_H
#define CIRANDA_STORAGE_SEGMENT_H

#include "runtime/buffer.h"
#include "runtime/error.h"
#include "storage/record.h"

/* What a leaf of 4,096 bytes holds beside SQLite's own (35 of the page, 5 of the row). A larger record has one for itself. */
enum { SEGMENT_BYTES_MAX = 4050 };

/* Whether `record` shall go into a segment that holds `segment_size` bytes. An empty one takes every record. */
bool segment_has_room(size_t segment_size, const struct record *record);
/* Owns: borrows. Out of memory: segment->is_overflow. */
void segment_append(struct buffer *segment, const struct record *record);

/* A walk over the records of a segment. Fields are private but `offset`: of the record that segment_next last gave or choked on. */
struct segment_walk {
    uint64_t offset;
    const uint8_t *record, *at, *end;
};

static inline struct segment_walk segment_begin(uint64_t offset, struct slice segment)
{
    const uint8_t *at = (const uint8_t *)segment.data;
    return (struct segment_walk){.offset = offset - 1, .at = at, .end = at + segment.size};
}

/* Slices point into the segment. An erased record has number 0, its checksum is 0, and all else is empty.
 * Returns: ERR_NOT_FOUND at the end; ERR_STORAGE_CORRUPT when what follows is no record. */
MUST_USE enum err segment_next(struct segment_walk *walk, struct record *ret_record);
/* Erases the record that segment_next gave last, or the whole rest that it choked on. The walk must be over writable bytes. */
void segment_erase(const struct segment_walk *walk);
/* Whether there is a record left, or something that is none. */
bool segment_is_alive(struct slice segment);

#endif
