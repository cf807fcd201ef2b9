/* SPDX-License-Identifier: Apache-2.0 */
/* A push first drops from the front, then moves what is left to the start of the block if the new entry does not fit behind it,
 * then doubles the block if need be: each byte is moved at most a constant number of times on average. */
#include "actors/history.h"

#include <stdlib.h>

enum { HEAD_BYTES = 5, CAPACITY_MIN = 256 }; /* four bytes of size, one of speaker */

static uint32_t entry_bytes(const char *entry)
{
    uint32_t size;
    memcpy(&size, entry, sizeof size);
    return size + HEAD_BYTES;
}

void history_deinit(struct history *history)
{
    free(history->memory);
    *history = (struct history){0};
}

static void drop_oldest(struct history *history)
{
    history->begin += entry_bytes(history->memory + history->begin);
    history->count--;
    if (history->count == 0)
        history->begin = history->end = 0;
}

static enum err make_room(struct history *history, uint32_t bytes)
{
    uint32_t used = history->end - history->begin;
    if (bytes <= history->capacity - history->end)
        return OK;
    if (used + bytes > history->capacity || history->begin < history->capacity / 2) {
        uint64_t capacity = history->capacity ? history->capacity : CAPACITY_MIN;
        while (capacity < (uint64_t)used + bytes)
            capacity *= 2;
        if (capacity == history->capacity)
            capacity *= 2; /* it fits, but only by moving much for little */
        char *memory = capacity <= UINT32_MAX ? malloc(capacity) : NULL;
        if (!memory)
            return ERR_NO_MEMORY;
        if (used)
            memcpy(memory, history->memory + history->begin, used);
        free(history->memory);
        history->memory = memory;
        history->capacity = (uint32_t)capacity;
    } else {
        memmove(history->memory, history->memory + history->begin, used);
    }
    history->begin = 0;
    history->end = used;
    return OK;
}

enum err history_push(struct history *history, enum speaker speaker, struct slice text, uint32_t count_max,
                      uint32_t bytes_max)
{
    if (text.size > UINT32_MAX / 4)
        return ERR_NO_MEMORY;
    uint32_t size = (uint32_t)text.size, bytes = size + HEAD_BYTES;
    while (history->count > 0 &&
           (history->count >= count_max || (uint64_t)history->end - history->begin + bytes > bytes_max))
        drop_oldest(history);
    enum err code = make_room(history, bytes);
    if (code != OK)
        return code;
    char *entry = history->memory + history->end;
    memcpy(entry, &size, sizeof size);
    entry[sizeof size] = (char)speaker;
    if (size)
        memcpy(entry + HEAD_BYTES, text.data, size);
    history->end += bytes;
    history->count++;
    return OK;
}

bool history_next(const struct history *history, uint32_t *position, struct history_entry *ret_entry)
{
    uint32_t at = history->begin + *position;
    if (at >= history->end)
        return false;
    const char *entry = history->memory + at;
    ret_entry->speaker = (enum speaker)entry[HEAD_BYTES - 1];
    ret_entry->text = slice_of(entry + HEAD_BYTES, entry_bytes(entry) - HEAD_BYTES);
    *position += entry_bytes(entry);
    return true;
}
