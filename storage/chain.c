/* SPDX-License-Identifier: Apache-2.0 */
/* chain: see chain.h. The path lies oldest first, so that a push is binary counting on a stack: the record n+1 takes the place
 * of as many elements at the top as n has trailing one bits, just as n+1 has that many trailing zeros. */
#include "storage/chain.h"

#include "runtime/assert.h"

void chain_push(struct journal_head *head, uint64_t offset, uint32_t event_count)
{
    ASSERT(head->record_count < CHAIN_RECORDS_MAX);
    ASSERT(head->back_count == (uint32_t)__builtin_popcount(head->record_count));
    ASSERT(offset > head->offset);
    head->back_count -= (uint32_t)__builtin_ctz(~head->record_count);
    head->record_count++;
    head->version += event_count;
    head->offset = offset;
    head->back[head->back_count++] = (struct journal_back){.offset = offset, .last_version = head->version};
}

size_t chain_encode(const struct journal_head *head, uint64_t offset, uint8_t *ret_bytes)
{
    struct journal_back previous = {.offset = offset, .last_version = head->version};
    size_t size = 0;
    for (uint32_t i = head->back_count; i > 0; i--) {
        const struct journal_back *back = &head->back[i - 1];
        size += varint_encode(previous.offset - back->offset, ret_bytes + size);
        size += varint_encode(previous.last_version - back->last_version, ret_bytes + size);
        previous = *back;
    }
    return size;
}

bool chain_decode(struct slice bytes, uint32_t number, uint64_t offset, uint64_t first_version,
                  struct journal_head *ret_head)
{
    if (number == 0 || number > CHAIN_RECORDS_MAX || first_version == 0)
        return false;
    struct journal_head head = {
        .version = first_version - 1, .record_count = number - 1, .back_count = (uint32_t)__builtin_popcount(number - 1)};
    const uint8_t *at = (const uint8_t *)bytes.data, *end = at + bytes.size;
    struct journal_back previous = {.offset = offset, .last_version = head.version};
    for (uint32_t i = head.back_count; i > 0; i--) {
        uint64_t offset_step, version_step;
        if (!varint_decode(&at, end, &offset_step) || !varint_decode(&at, end, &version_step))
            return false;
        /* Offsets fall strictly; versions too, but that the newest element ends right before this record (J2). */
        bool is_newest = i == head.back_count;
        if (offset_step == 0 || offset_step >= previous.offset || (version_step == 0) != is_newest ||
            version_step >= previous.last_version)
            return false;
        previous.offset -= offset_step;
        previous.last_version -= version_step;
        head.back[i - 1] = previous;
    }
    if (at != end || (head.back_count == 0) != (first_version == 1))
        return false;
    head.offset = head.back_count ? head.back[head.back_count - 1].offset : 0;
    *ret_head = head;
    return true;
}

const struct journal_back *chain_find(const struct journal_head *head, uint64_t version)
{
    for (uint32_t i = 0; i < head->back_count; i++)
        if (head->back[i].last_version >= version)
            return &head->back[i];
    return NULL;
}
