/* SPDX-License-Identifier: Apache-2.0 */
/* api_message_read: a message as HTTP carries it, a JSON body and headers, brought to message_input. */
#include "actors/api/api_input.h"
#include "actors/api/api_message.h"
#include "net/json.h"

/* What reading a body needs at hand. */
struct message_reader {
    struct message_input input;
    struct buffer *room;
};

static void read_metadata_member(struct message_reader *reader, struct slice raw_key, struct json_value value)
{
    if (value.type != JSON_STRING) {
        char pointer[PROBLEM_POINTER_BYTES];
        input_pointer(pointer, sizeof pointer, "/metadata", raw_key);
        problem_add_error(reader->input.problem, 400, pointer, "must be a string");
        return;
    }
    /* The raw key stands between quotes in the body: as a string value it is one byte wider on each side. */
    const struct json_value key = {JSON_STRING, slice_of(raw_key.data - 1, raw_key.size + 2)};
    struct slice key_text = input_text(reader->room, key);
    message_input_metadata_member(&reader->input, key_text, input_text(reader->room, value));
}

static void read_metadata(struct message_reader *reader, struct json_value value)
{
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value member;
    message_input_metadata_begin(&reader->input);
    while (json_next_member(value, &iterator, &raw_key, &member))
        read_metadata_member(reader, raw_key, member);
    message_input_metadata_end(&reader->input);
}

static void read_member(struct message_reader *reader, struct slice raw_key, struct json_value value)
{
    for (enum message_field_index field = 0; field < MESSAGE_FIELD_COUNT; field++) {
        if (!json_key_is(raw_key, message_fields[field].name))
            continue;
        if (value.type != (field == MESSAGE_METADATA ? JSON_OBJECT : JSON_STRING))
            message_input_no_text(&reader->input, field);
        else if (field == MESSAGE_METADATA)
            read_metadata(reader, value);
        else
            message_input_text(&reader->input, field, input_text(reader->room, value));
        return;
    }
    char pointer[PROBLEM_POINTER_BYTES];
    input_pointer(pointer, sizeof pointer, "", raw_key);
    problem_add_error(reader->input.problem, 400, pointer, "unknown field");
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
            problem_add_error(reader->input.problem, 400, "", "Idempotency-Key must be printable ASCII");
            return;
        }
    }
    if (key.size == 0 || key.size > CONV_MESSAGE_ID_BYTES_MAX)
        problem_add_error(reader->input.problem, 422, "", "Idempotency-Key must be 1 to %d bytes",
                          CONV_MESSAGE_ID_BYTES_MAX);
    else if (reader->input.values[MESSAGE_ID].data && !slice_is_equal(reader->input.values[MESSAGE_ID], key))
        problem_add_error(reader->input.problem, 400, "/message_id", "differs from the Idempotency-Key header");
    else
        reader->input.values[MESSAGE_ID] = key;
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
    struct message_reader reader = {.room = room};
    message_input_begin(&reader.input, metadata, problem);
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value value;
    while (json_next_member(body, &iterator, &raw_key, &value))
        read_member(&reader, raw_key, value);
    read_idempotency_key(&reader, request);
    return message_input_end(&reader.input, ret_message);
}
