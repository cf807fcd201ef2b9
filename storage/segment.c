/* SPDX-License-Identifier: Apache-2.0 */
/* segment: see segment.h. A record is its size and then: the checksum, the numbers, the sizes of three slices, all four slices. */
#include "storage/segment.h"

#include <string.h>

#include "runtime/assert.h"
#include "storage/chain.h"

enum { CRC_BYTES = 4, HEADER_BYTES_MAX = CRC_BYTES + 6 * VARINT_BYTES_MAX };

static size_t encode_header(const struct record *record, uint8_t *ret_bytes)
{
    for (int i = 0; i < CRC_BYTES; i++)
        ret_bytes[i] = (uint8_t)(record->crc >> (8 * i));
    size_t size = CRC_BYTES;
    size += varint_encode(record->number, ret_bytes + size);
    size += varint_encode(record->first_version, ret_bytes + size);
    size += varint_encode(record->event_count, ret_bytes + size);
    size += varint_encode(record->key.size, ret_bytes + size);
    size += varint_encode(record->summary.size, ret_bytes + size);
    return size + varint_encode(record->back.size, ret_bytes + size);
}

static size_t slices_size(const struct record *record)
{
    return record->key.size + record->summary.size + record->back.size + record->data.size;
}

bool segment_has_room(size_t segment_size, const struct record *record)
{
    /* By the largest header there is: a page ends some bytes early, and no record is measured twice. */
    return segment_size == 0 ||
           segment_size + VARINT_BYTES_MAX + HEADER_BYTES_MAX + slices_size(record) <= SEGMENT_BYTES_MAX;
}

void segment_append(struct buffer *segment, const struct record *record)
{
    ASSERT(record->number > 0);
    uint8_t header[HEADER_BYTES_MAX], size[VARINT_BYTES_MAX];
    size_t header_size = encode_header(record, header);
    buffer_append(segment, size, varint_encode(header_size + slices_size(record), size));
    buffer_append(segment, header, header_size);
    buffer_append_slice(segment, record->key);
    buffer_append_slice(segment, record->summary);
    buffer_append_slice(segment, record->back);
    buffer_append_slice(segment, record->data);
}

static bool take_number(const uint8_t **at, const uint8_t *end, uint64_t number_max, uint64_t *ret_number)
{
    return varint_decode(at, end, ret_number) && *ret_number <= number_max;
}

static bool take_slice(const uint8_t **at, const uint8_t *end, uint64_t size, struct slice *ret_slice)
{
    if (size > (uint64_t)(end - *at))
        return false;
    *ret_slice = slice_of((const char *)*at, (size_t)size);
    *at += size;
    return true;
}

static bool decode(const uint8_t *at, const uint8_t *end, struct record *ret_record)
{
    uint64_t number, event_count, key_size, summary_size, back_size;
    struct record record = {0};
    if (end - at < CRC_BYTES)
        return false;
    for (int i = 0; i < CRC_BYTES; i++)
        record.crc |= (uint32_t)*at++ << (8 * i);
    if (!take_number(&at, end, UINT32_MAX, &number))
        return false;
    if (number == 0) { /* erased; as damage it would have kept its checksum */
        *ret_record = (struct record){0};
        return record.crc == 0;
    }
    if (!take_number(&at, end, INT64_MAX, &record.first_version) || !take_number(&at, end, UINT32_MAX, &event_count) ||
        !take_number(&at, end, JOURNAL_KEY_BYTES_MAX, &key_size) ||
        !take_number(&at, end, SUMMARY_BYTES_MAX, &summary_size) || !take_number(&at, end, CHAIN_BYTES_MAX, &back_size) ||
        !take_slice(&at, end, key_size, &record.key) || !take_slice(&at, end, summary_size, &record.summary) ||
        !take_slice(&at, end, back_size, &record.back))
        return false;
    record.data = slice_of((const char *)at, (size_t)(end - at));
    record.number = (uint32_t)number;
    record.event_count = (uint32_t)event_count;
    *ret_record = record;
    return true;
}

static bool is_zeroes(const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at == 0)
        at++;
    return at == end;
}

enum err segment_next(struct segment_walk *walk, struct record *ret_record)
{
    if (is_zeroes(walk->at, walk->end)) /* a rest that was unreadable and then erased, or nothing */
        return ERR_NOT_FOUND;
    const uint8_t *at = walk->at;
    uint64_t size;
    walk->offset++;
    walk->record = at;
    walk->at = walk->end;
    if (!varint_decode(&at, walk->end, &size) || size > (uint64_t)(walk->end - at) || !decode(at, at + size, ret_record))
        return ERR_STORAGE_CORRUPT;
    ret_record->offset = walk->offset;
    walk->record = at;
    walk->at = at + size;
    return OK;
}

void segment_erase(const struct segment_walk *walk)
{
    memset((void *)(uintptr_t)walk->record, 0, (size_t)(walk->at - walk->record));
}

bool segment_is_alive(struct slice segment)
{
    struct segment_walk walk = segment_begin(1, segment);
    struct record record;
    enum err err;
    while ((err = segment_next(&walk, &record)) == OK)
        if (record.number > 0)
            return true;
    return err == ERR_STORAGE_CORRUPT;
}
