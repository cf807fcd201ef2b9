/* SPDX-License-Identifier: Apache-2.0 */
/* The frame was scanned (net/rpc_scan.h): every value in it is whole, so that reading can only meet the wrong type. */
#include "actors/rpc/rpc_params.h"

#include <stdio.h>

#include "net/pack.h"
#include "net/utf8.h"

enum field_kind { KIND_TEXT, KIND_NUMBER, KIND_METADATA };

#define TEXT_FIELD(name_)                                                                                                \
    {                                                                                                                    \
        SLICE_INIT(name_), KIND_TEXT                                                                                     \
    }
#define NUMBER_FIELD(name_)                                                                                              \
    {                                                                                                                    \
        SLICE_INIT(name_), KIND_NUMBER                                                                                   \
    }
#define SLICE_INIT(text)                                                                                                 \
    {                                                                                                                    \
        .data = (text), .size = sizeof(text) - 1                                                                         \
    }
static const struct {
    struct slice name;
    enum field_kind kind;
} fields[RPC_FIELD_COUNT] = {
    [MESSAGE_TEXT] = TEXT_FIELD("text"),
    [MESSAGE_ID] = TEXT_FIELD("message_id"),
    [MESSAGE_CUSTOMER_ID] = TEXT_FIELD("customer_id"),
    [MESSAGE_CHANNEL] = TEXT_FIELD("channel"),
    [MESSAGE_AGENT] = TEXT_FIELD("agent"),
    [MESSAGE_FROM] = TEXT_FIELD("from"),
    [MESSAGE_ON_BUSY] = TEXT_FIELD("on_busy"),
    [MESSAGE_METADATA] = {SLICE_INIT("metadata"), KIND_METADATA},
    [RPC_CONVERSATION_ID] = TEXT_FIELD("conversation_id"),
    [RPC_TRACE_ID] = TEXT_FIELD("trace_id"),
    [RPC_TRACEPARENT] = TEXT_FIELD("traceparent"),
    [RPC_WAIT_MS] = NUMBER_FIELD("wait_ms"),
    [RPC_IF_MATCH] = NUMBER_FIELD("if_match"),
    [RPC_AFTER] = NUMBER_FIELD("after"),
    [RPC_LIMIT] = NUMBER_FIELD("limit"),
    [RPC_SUBSCRIPTION] = NUMBER_FIELD("subscription"),
};

const char *rpc_field_name(uint32_t field)
{
    return fields[field].name.data;
}

/* Eight bytes of 0x01 to 0x7F? Taking one from each reaches a top bit only from 0; a wrong no costs a closer look. */
static bool are_plain(const char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return ((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) == 0;
}

static bool is_clean_text(struct slice text)
{
    for (size_t i = 0; i < text.size;) {
        if (text.size - i >= sizeof(uint64_t) && are_plain(text.data + i)) {
            i += sizeof(uint64_t);
            continue;
        }
        size_t size = utf8_sequence_size(text.data + i, text.size - i);
        if (size == 0 || text.data[i] == '\0')
            return false;
        i += size;
    }
    return true;
}

static uint32_t find_field(struct slice key)
{
    uint32_t field = 0;
    while (field < RPC_FIELD_COUNT && !slice_is_equal(fields[field].name, key))
        field++;
    return field;
}

/* What reading needs at hand. */
struct params_reader {
    struct pack_reader pack;
    struct rpc_params *params;
    struct problem *problem;
};

/* Next value as a text. Returns: false when it is another type, or no clean text; it is passed over, `what` says which. */
static bool read_text(struct params_reader *reader, struct slice *ret_text, const char **ret_what)
{
    *ret_what = "must be a string";
    if (pack_peek(&reader->pack) != PACK_TEXT) {
        pack_skip(&reader->pack);
        return false;
    }
    *ret_text = pack_read_text(&reader->pack);
    *ret_what = "must be UTF-8 without U+0000";
    return is_clean_text(*ret_text);
}

/* The pointer is written here and not before: nearly all fields are right. A key too long to be one of ours is not repeated. */
static void refuse_field(struct params_reader *reader, struct slice key, const char *what)
{
    char pointer[PROBLEM_POINTER_BYTES];
    snprintf(pointer, sizeof pointer, "/%.*s", key.size < 64 ? (int)key.size : 1, key.size < 64 ? key.data : "?");
    problem_add_error(reader->problem, 400, pointer, "%s", what);
}

static void read_text_field(struct params_reader *reader, uint32_t field)
{
    struct slice text;
    const char *what;
    if (!read_text(reader, &text, &what)) {
        if (field == MESSAGE_TEXT)
            reader->params->message.has_text = true; /* one mistake is told once */
        refuse_field(reader, fields[field].name, what);
        return;
    }
    switch (field) {
    case RPC_CONVERSATION_ID: reader->params->conversation_id = text; break;
    case RPC_TRACE_ID: reader->params->trace_id = text; break;
    case RPC_TRACEPARENT: reader->params->traceparent = text; break;
    default: message_input_text(&reader->params->message, (enum message_field_index)field, text);
    }
}

static void read_number_field(struct params_reader *reader, uint32_t field)
{
    if (pack_peek(&reader->pack) != PACK_NUMBER) {
        pack_skip(&reader->pack);
        refuse_field(reader, fields[field].name, "must be a whole number, not negative");
        return;
    }
    uint64_t number = pack_read_number(&reader->pack);
    if (number > INT64_MAX) {
        refuse_field(reader, fields[field].name, "must be at most 2^63-1");
        return;
    }
    switch (field) {
    case RPC_WAIT_MS: reader->params->wait_ms = number; break;
    case RPC_IF_MATCH: reader->params->if_match = number; break;
    case RPC_AFTER: reader->params->after = number; break;
    case RPC_LIMIT: reader->params->limit = number; break;
    case RPC_SUBSCRIPTION: reader->params->subscription = number; break;
    }
}

/* Was the key among the `count` pairs of texts from `start` on? Quadratic, over
 * METADATA_PAIRS_MAX pairs at most. */
static bool is_key_among(const uint8_t *start, const uint8_t *end, uint32_t count, struct slice key)
{
    struct pack_reader before = {.at = start, .end = end};
    for (uint32_t i = 0; i < count; i++) {
        if (slice_is_equal(pack_read_text(&before), key))
            return true;
        pack_read_text(&before); /* the value */
    }
    return false;
}

/* A key too long to be read at a glance is not repeated. */
static void refuse_doubled_key(struct params_reader *reader, struct slice key)
{
    if (key.size < 64)
        problem_add_error(reader->problem, 400, "/metadata", "the key %.*s is there twice", SLICE_PRINT(key));
    else
        problem_add_error(reader->problem, 400, "/metadata", "a key is there twice");
}

/* Ends at the first mistake: what stands before a key is then always texts, so that comparing it costs no more than their
 * heads, whatever else the frame holds. Returns: false when it did. */
static bool read_metadata_members(struct params_reader *reader, uint32_t count)
{
    const uint8_t *start = reader->pack.at;
    for (uint32_t i = 0; i < count; i++) {
        struct slice key, value;
        const char *what;
        if (!read_text(reader, &key, &what)) {
            problem_add_error(reader->problem, 400, "/metadata", "a key %s", what);
            return false;
        }
        if (is_key_among(start, reader->pack.end, i, key)) {
            refuse_doubled_key(reader, key);
            return false;
        }
        if (!read_text(reader, &value, &what)) {
            problem_add_error(reader->problem, 400, "/metadata", "a value %s", what);
            return false;
        }
        message_input_metadata_member(&reader->params->message, key, value);
    }
    return true;
}

static void read_metadata(struct params_reader *reader)
{
    /* A pair takes six bytes of JSON at least, and MessagePack's longest heads are not twice as long as JSON's marks: what is
     * over either bound cannot fit, and is refused before any key is compared. */
    enum { METADATA_PAIRS_MAX = CONV_METADATA_BYTES_MAX / 6, METADATA_PACKED_BYTES_MAX = 2 * CONV_METADATA_BYTES_MAX };
    struct message_input *message = &reader->params->message;
    struct pack_reader behind = reader->pack;
    pack_skip(&behind);
    if (pack_peek(&reader->pack) != PACK_MAP) {
        reader->pack = behind;
        message_input_no_text(message, MESSAGE_METADATA);
        return;
    }
    bool is_long = behind.at - reader->pack.at > METADATA_PACKED_BYTES_MAX;
    uint32_t count = pack_read_map(&reader->pack);
    message_input_metadata_begin(message);
    if (is_long || count > METADATA_PAIRS_MAX)
        problem_add_error(reader->problem, 422, "/metadata", "must be at most %d bytes as JSON", CONV_METADATA_BYTES_MAX);
    else if (read_metadata_members(reader, count))
        message_input_metadata_end(message);
    reader->pack = behind;
}

static void read_pair(struct params_reader *reader, uint32_t known)
{
    struct slice key;
    const char *what;
    if (!read_text(reader, &key, &what)) {
        problem_add_error(reader->problem, 400, "", "a key %s", what);
        pack_skip(&reader->pack);
        return;
    }
    uint32_t field = find_field(key);
    if (field == RPC_FIELD_COUNT || !(known & RPC_FIELD(field))) {
        refuse_field(reader, key, "unknown field");
        pack_skip(&reader->pack);
        return;
    }
    if (reader->params->present & RPC_FIELD(field)) {
        refuse_field(reader, key, "is there twice");
        pack_skip(&reader->pack);
        return;
    }
    reader->params->present |= RPC_FIELD(field);
    switch (fields[field].kind) {
    case KIND_TEXT: read_text_field(reader, field); break;
    case KIND_NUMBER: read_number_field(reader, field); break;
    case KIND_METADATA: read_metadata(reader); break;
    }
}

bool rpc_params_read(struct slice params, uint32_t known, struct buffer *metadata, struct rpc_params *ret_params,
                     struct problem *problem)
{
    problem->status = 0; /* set by the first error; the texts of the errors are not worth clearing */
    problem->kind = NULL;
    problem->detail = (struct slice){0};
    problem->retry_after_s = 0;
    problem->error_count = 0;
    *ret_params = (struct rpc_params){0};
    message_input_begin(&ret_params->message, metadata, problem);
    struct params_reader reader = {.pack = pack_reader_of(params), .params = ret_params, .problem = problem};
    uint32_t count = pack_peek(&reader.pack) == PACK_ARRAY ? pack_read_array(&reader.pack) : UINT32_MAX;
    if (count > 1 || (count == 1 && pack_peek(&reader.pack) != PACK_MAP)) {
        problem_add_error(problem, 400, "", "params must be an array of one map");
        return false;
    }
    for (uint32_t pairs = count ? pack_read_map(&reader.pack) : 0; pairs > 0; pairs--)
        read_pair(&reader, known);
    return problem->error_count == 0;
}
