/* SPDX-License-Identifier: Apache-2.0 */
/* api_message_read: validates a message's body and headers against one table of fields.
 *
 * Unknown fields are refused (400), so that a misspelt one is not silently without effect. Strings that are names, not speech,
 * hold no control characters. Metadata is written anew in compact form: what goes into the journal and out to subscribers is
 * our JSON, not the client's spelling of it.
 */
#include "actors/api/api_message.h"

#include <stdio.h>

#include "actors/api/api_input.h"
#include "actors/hash.h"
#include "net/json.h"

enum { NAME_BYTES_MAX = 63, CUSTOMER_ID_BYTES_MAX = 128, CHANNEL_BYTES_MAX = 64, FROM_BYTES_MAX = 69 };

/* The order is that of the enum below. */
const struct message_field message_fields[] = {
    {"text", CONV_TEXT_BYTES_MAX, true},
    {"message_id", CONV_MESSAGE_ID_BYTES_MAX, false},
    {"customer_id", CUSTOMER_ID_BYTES_MAX, false},
    {"channel", CHANNEL_BYTES_MAX, false},
    {"agent", NAME_BYTES_MAX, false},
    {"from", FROM_BYTES_MAX, false},
    {"on_busy", 16, false},
    {"metadata", 0, false},
};
const size_t message_field_count = sizeof message_fields / sizeof message_fields[0];
enum { TEXT, MESSAGE_ID, CUSTOMER_ID, CHANNEL, AGENT, FROM, ON_BUSY, METADATA, FIELD_COUNT };
_Static_assert(sizeof message_fields / sizeof message_fields[0] == FIELD_COUNT, "one row a field");

/* What reading a body needs at hand. */
struct message_reader {
    struct buffer *room, *metadata;
    struct problem *problem;
    struct slice values[FIELD_COUNT]; /* {NULL, 0}: absent */
};

static bool has_control_byte(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return true;
    }
    return false;
}

static void read_string(struct message_reader *reader, size_t field, struct json_value value)
{
    char pointer[32];
    snprintf(pointer, sizeof pointer, "/%s", message_fields[field].name);
    if (value.type != JSON_STRING) {
        problem_add_error(reader->problem, 400, pointer, "must be a string");
        return;
    }
    struct slice text = input_text(reader->room, value);
    if (text.size == 0 || text.size > message_fields[field].size_max)
        problem_add_error(reader->problem, 422, pointer, "must be 1 to %u bytes of UTF-8",
                          message_fields[field].size_max);
    else if (field != TEXT && has_control_byte(text))
        problem_add_error(reader->problem, 422, pointer, "must not hold control characters");
    else
        reader->values[field] = text;
}

static void read_metadata_member(struct message_reader *reader, struct slice raw_key, struct json_value value,
                                 bool is_first)
{
    if (value.type != JSON_STRING) {
        char pointer[PROBLEM_POINTER_BYTES];
        input_pointer(pointer, sizeof pointer, "/metadata", raw_key);
        problem_add_error(reader->problem, 400, pointer, "must be a string");
        return;
    }
    /* The raw key stands between quotes in the body: as a string value it is one byte wider on each side. */
    const struct json_value key = {JSON_STRING, slice_of(raw_key.data - 1, raw_key.size + 2)};
    if (!is_first)
        buffer_append_byte(reader->metadata, ',');
    json_write_string(reader->metadata, input_text(reader->room, key));
    buffer_append_byte(reader->metadata, ':');
    json_write_string(reader->metadata, input_text(reader->room, value));
}

static void read_metadata(struct message_reader *reader, struct json_value value)
{
    if (value.type != JSON_OBJECT) {
        problem_add_error(reader->problem, 400, "/metadata", "must be an object of strings");
        return;
    }
    buffer_append_byte(reader->metadata, '{');
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value member;
    for (bool is_first = true; json_next_member(value, &iterator, &raw_key, &member); is_first = false)
        read_metadata_member(reader, raw_key, member, is_first);
    buffer_append_byte(reader->metadata, '}');
    if (reader->metadata->is_overflow || reader->metadata->size > CONV_METADATA_BYTES_MAX)
        problem_add_error(reader->problem, 422, "/metadata", "must be at most %d bytes as JSON", CONV_METADATA_BYTES_MAX);
    else
        reader->values[METADATA] = buffer_slice(reader->metadata);
}

static void read_member(struct message_reader *reader, struct slice raw_key, struct json_value value)
{
    for (size_t field = 0; field < FIELD_COUNT; field++) {
        if (!json_key_is(raw_key, message_fields[field].name))
            continue;
        if (field == METADATA)
            read_metadata(reader, value);
        else
            read_string(reader, field, value);
        return;
    }
    char pointer[PROBLEM_POINTER_BYTES];
    input_pointer(pointer, sizeof pointer, "", raw_key);
    problem_add_error(reader->problem, 400, pointer, "unknown field");
}

static enum conv_on_busy read_on_busy(struct message_reader *reader)
{
    static const char *const later[] = {"merge", "interrupt", "rollback"};
    struct slice word = reader->values[ON_BUSY];
    if (!word.data)
        return CONV_ON_BUSY_DEFAULT;
    if (slice_has_text(word, "enqueue"))
        return CONV_ON_BUSY_ENQUEUE;
    if (slice_has_text(word, "reject"))
        return CONV_ON_BUSY_REJECT;
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (slice_has_text(word, later[i])) {
            problem_add_error(reader->problem, 422, "/on_busy", "%s is not supported yet: use enqueue or reject",
                              later[i]);
            return CONV_ON_BUSY_DEFAULT;
        }
    }
    problem_add_error(reader->problem, 422, "/on_busy", "must be one of enqueue, merge, interrupt, rollback, reject");
    return CONV_ON_BUSY_DEFAULT;
}

/* The body's message_id, else the Idempotency-Key; two that differ contradict each other. */
static void read_idempotency_key(struct message_reader *reader, const struct http_request *request)
{
    struct slice key = http_request_header(request, "Idempotency-Key");
    if (!key.data)
        return;
    if (key.size >= 2 && key.data[0] == '"' &&
        key.data[key.size - 1] == '"') /* a structured field, as the draft has it */
        key = slice_of(key.data + 1, key.size - 2);
    for (size_t i = 0; i < key.size; i++) {
        if (key.data[i] < 0x20 || key.data[i] > 0x7e) {
            problem_add_error(reader->problem, 400, "", "Idempotency-Key must be printable ASCII");
            return;
        }
    }
    if (key.size == 0 || key.size > CONV_MESSAGE_ID_BYTES_MAX)
        problem_add_error(reader->problem, 422, "", "Idempotency-Key must be 1 to %d bytes", CONV_MESSAGE_ID_BYTES_MAX);
    else if (reader->values[MESSAGE_ID].data && !slice_is_equal(reader->values[MESSAGE_ID], key))
        problem_add_error(reader->problem, 400, "/message_id", "differs from the Idempotency-Key header");
    else
        reader->values[MESSAGE_ID] = key;
}

static void check_from(struct message_reader *reader)
{
    struct slice from = reader->values[FROM];
    const size_t prefix_size = sizeof "human:" - 1;
    if (!from.data)
        return;
    bool is_human = from.size > prefix_size && memcmp(from.data, "human:", prefix_size) == 0 &&
                    input_is_id(slice_of(from.data + prefix_size, from.size - prefix_size), NAME_BYTES_MAX);
    if (!is_human)
        problem_add_error(reader->problem, 422, "/from",
                          "must be human:NAME, NAME being 1 to 63 of A-Z a-z 0-9 . _ ~ : -");
}

/* Over everything said but the id and how long to wait for it: each value is hashed under the hash of those before, so that
 * no two ways to cut the same bytes into values meet. */
static uint64_t hash_payload(const struct message_reader *reader)
{
    static const size_t hashed[] = {TEXT, CUSTOMER_ID, CHANNEL, AGENT, FROM, METADATA};
    struct hash128 hash = {0x636972616e646131, 0x7061796c6f616431}; /* fixed: the hash is in journals */
    for (size_t i = 0; i < sizeof hashed / sizeof hashed[0]; i++)
        hash = hash_bytes(reader->values[hashed[i]], hash);
    return hash.low;
}

bool message_read(const struct http_request *request, struct buffer *room, struct buffer *metadata,
                  struct conv_request *ret_message, struct problem *problem)
{
    struct json_value body;
    if (!input_object(request, &body, problem))
        return false;
    if (!input_make_room(room, request)) {
        *problem = problem_of(ERR_NO_MEMORY, (struct slice){0}, 0);
        return false;
    }
    problem->status = 0; /* set by the first error */
    buffer_clear(metadata);
    struct message_reader reader = {.room = room, .metadata = metadata, .problem = problem};
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value value, text;
    while (json_next_member(body, &iterator, &raw_key, &value))
        read_member(&reader, raw_key, value);
    if (!json_find(body, "text", &text))
        problem_add_error(problem, 400, "/text", "is required");
    read_idempotency_key(&reader, request);
    check_from(&reader);
    enum conv_on_busy on_busy = read_on_busy(&reader);
    if (problem->error_count)
        return false;

    *ret_message = (struct conv_request){
        .text = reader.values[TEXT],
        .message_id = reader.values[MESSAGE_ID],
        .customer_id = reader.values[CUSTOMER_ID],
        .channel = reader.values[CHANNEL],
        .metadata = reader.values[METADATA],
        .agent = reader.values[AGENT],
        .from = reader.values[FROM],
        .payload_hash = hash_payload(&reader),
        .on_busy = on_busy,
    };
    return true;
}
