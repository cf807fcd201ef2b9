/* SPDX-License-Identifier: Apache-2.0 */
/* record_fuzz: bytes as a record, then as a snapshot. What decodes is applied, encoded and read again: the second encoding of a
 * record equals the first, and a snapshot that was accepted is written back to one that is accepted with the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "actors/conversation_state.h"
#include "actors/event.h"
#include "runtime/assert.h"

enum { EVENTS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct collector {
    struct event events[EVENTS_MAX];
    uint32_t count;
    struct conversation_state state;
    bool is_broken;
};

static const struct conversation_limits limits = {.history_messages = 8, .history_bytes = 1024, .dedup_messages = 8};

static enum err collect(void *context, const struct event *event)
{
    struct collector *collector = context;
    if (collector->count == EVENTS_MAX)
        return ERR_LIMIT;
    collector->events[collector->count++] = *event;
    if (!collector->is_broken)
        collector->is_broken = conversation_state_apply(&collector->state, event) != OK;
    return OK;
}

static void check_record(struct slice bytes)
{
    struct collector collector = {0}, again = {0};
    conversation_state_init(&collector.state, &limits);
    conversation_state_init(&again.state, &limits);
    struct buffer first, second, json;
    buffer_init(&first, 8 << 20);
    buffer_init(&second, 8 << 20);
    buffer_init(&json, 8 << 20);
    if (event_record_decode(bytes, 1, collect, &collector) == OK) {
        event_record_encode(&first, collector.events, collector.count);
        ASSERT(event_record_decode(buffer_slice(&first), 1, collect, &again) == OK);
        event_record_encode(&second, again.events, again.count);
        ASSERT(slice_is_equal(buffer_slice(&first), buffer_slice(&second)));
        for (uint32_t i = 0; i < collector.count; i++)
            event_write_json(&json, &collector.events[i], &(struct event_envelope){.tenant = SLICE_LITERAL("t")});
    }
    conversation_state_deinit(&collector.state);
    conversation_state_deinit(&again.state);
    buffer_deinit(&first);
    buffer_deinit(&second);
    buffer_deinit(&json);
}

static void check_snapshot(struct slice bytes)
{
    struct conversation_state state, again;
    conversation_state_init(&state, &limits);
    conversation_state_init(&again, &limits);
    struct buffer first, second;
    buffer_init(&first, 8 << 20);
    buffer_init(&second, 8 << 20);
    if (conversation_state_decode(&state, bytes) == OK) {
        conversation_state_encode(&state, &first);
        ASSERT(conversation_state_decode(&again, buffer_slice(&first)) == OK);
        conversation_state_encode(&again, &second);
        ASSERT(slice_is_equal(buffer_slice(&first), buffer_slice(&second)));
    }
    conversation_state_deinit(&state);
    conversation_state_deinit(&again);
    buffer_deinit(&first);
    buffer_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = slice_of((const char *)data, size);
    check_record(bytes);
    check_snapshot(bytes);
    return 0;
}
