/* SPDX-License-Identifier: Apache-2.0 */
/* record: see record.h. The CRC is ISA-L's (the processor's crc32 instruction, three streams at once): 300 bytes cost 30 ns. */
#include "storage/record.h"

#include <isa-l/crc.h>

#include "runtime/assert.h"
#include "storage/chain.h"

static uint32_t crc_bytes(uint32_t crc, const void *data, size_t size)
{
    /* ISA-L's prototype lacks a const and counts in int; no row is near 2 GiB. */
    return size == 0 ? crc : crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, crc);
}

/* Numbers first, eight bytes each with the low byte first whatever the machine, in one run: a call costs more than its bytes. */
struct crc_numbers {
    uint8_t bytes[8 * 8];
    size_t size;
};

static void add_number(struct crc_numbers *numbers, uint64_t number)
{
    for (int i = 0; i < 8; i++)
        numbers->bytes[numbers->size++] = (uint8_t)(number >> (8 * i));
}

static uint32_t crc_slice(uint32_t crc, struct slice slice)
{
    return crc_bytes(crc, slice.data, slice.size);
}

uint32_t record_crc(const struct record *record)
{
    struct crc_numbers numbers = {.size = 0};
    add_number(&numbers, record->offset);
    add_number(&numbers, record->number);
    add_number(&numbers, record->first_version);
    add_number(&numbers, record->event_count);
    add_number(&numbers, record->key.size);
    add_number(&numbers, record->summary.size);
    add_number(&numbers, record->back.size);
    add_number(&numbers, record->data.size);
    uint32_t crc = crc_bytes(UINT32_MAX, numbers.bytes, numbers.size);
    crc = crc_slice(crc, record->key);
    crc = crc_slice(crc, record->summary);
    crc = crc_slice(crc, record->back);
    return ~crc_slice(crc, record->data);
}

uint32_t record_head_crc(const struct record_head *head)
{
    uint8_t summary[SUMMARY_BYTES_MAX];
    size_t summary_size = summary_encode(&head->summary, summary);
    struct crc_numbers numbers = {.size = 0};
    add_number(&numbers, head->offset);
    add_number(&numbers, head->version);
    add_number(&numbers, head->record_count);
    add_number(&numbers, head->key.size);
    add_number(&numbers, summary_size);
    uint32_t crc = crc_bytes(UINT32_MAX, numbers.bytes, numbers.size);
    crc = crc_slice(crc, head->key);
    return ~crc_bytes(crc, summary, summary_size);
}

uint32_t record_snapshot_crc(const struct record_snapshot *snapshot)
{
    struct crc_numbers numbers = {.size = 0};
    add_number(&numbers, snapshot->version);
    add_number(&numbers, snapshot->key.size);
    add_number(&numbers, snapshot->data.size);
    uint32_t crc = crc_bytes(UINT32_MAX, numbers.bytes, numbers.size);
    crc = crc_slice(crc, snapshot->key);
    return ~crc_slice(crc, snapshot->data);
}

size_t summary_encode(const struct journal_summary *summary, uint8_t *ret_bytes)
{
    size_t owner_size = strnlen(summary->owner, JOURNAL_OWNER_BYTES_MAX);
    size_t size = 0;
    ret_bytes[size++] = summary->status;
    ret_bytes[size++] = summary->is_open;
    size += varint_encode(summary->messages, ret_bytes + size);
    size += varint_encode(summary->created_ms, ret_bytes + size);
    size += varint_encode(summary->updated_ms, ret_bytes + size);
    memcpy(ret_bytes + size, summary->owner, owner_size);
    return size + owner_size;
}

bool summary_decode(struct slice bytes, struct journal_summary *ret_summary)
{
    const uint8_t *at = (const uint8_t *)bytes.data, *end = at + bytes.size;
    uint64_t messages;
    if (bytes.size < 2 || at[1] > 1)
        return false;
    struct journal_summary summary = {.status = at[0], .is_open = at[1]};
    at += 2;
    if (!varint_decode(&at, end, &messages) || messages > UINT32_MAX || !varint_decode(&at, end, &summary.created_ms) ||
        !varint_decode(&at, end, &summary.updated_ms) || end - at > JOURNAL_OWNER_BYTES_MAX)
        return false;
    summary.messages = (uint32_t)messages;
    memcpy(summary.owner, at, (size_t)(end - at));
    *ret_summary = summary;
    return true;
}

size_t record_head_encode(const struct record_head *head, uint8_t *ret_bytes)
{
    size_t size = 0;
    for (; size < sizeof head->crc; size++)
        ret_bytes[size] = (uint8_t)(head->crc >> (8 * size));
    size += varint_encode(head->offset, ret_bytes + size);
    size += varint_encode(head->version, ret_bytes + size);
    size += varint_encode(head->record_count, ret_bytes + size);
    return size + summary_encode(&head->summary, ret_bytes + size);
}

struct record_head record_head_decode(struct slice key, struct slice bytes)
{
    struct record_head head = {.key = key}, damaged = {.key = key};
    damaged.crc = ~record_head_crc(&damaged);
    const uint8_t *at = (const uint8_t *)bytes.data, *end = at + bytes.size;
    uint64_t record_count;
    if (bytes.size < sizeof head.crc)
        return damaged;
    for (size_t i = 0; i < sizeof head.crc; i++)
        head.crc |= (uint32_t)*at++ << (8 * i);
    if (!varint_decode(&at, end, &head.offset) || !varint_decode(&at, end, &head.version) ||
        !varint_decode(&at, end, &record_count) || record_count > CHAIN_RECORDS_MAX ||
        !summary_decode(slice_of((const char *)at, (size_t)(end - at)), &head.summary))
        return damaged;
    head.record_count = (uint32_t)record_count;
    return head;
}
