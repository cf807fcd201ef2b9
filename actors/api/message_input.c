/* SPDX-License-Identifier: Apache-2.0 */
/* message_input: unknown fields are the readers' to refuse (400), so that a misspelt one is not silently without effect; the
 * rest is here. Strings that are names, not speech, hold no control characters. */
#include "actors/api/message_input.h"

#include <stdio.h>

#include "actors/api/api_input.h"
#include "actors/config/config.h"
#include "actors/hash.h"
#include "actors/limits.h"
#include "actors/services.h"
#include "net/json.h"

enum { NAME_BYTES_MAX = 63, CUSTOMER_ID_BYTES_MAX = 128, CHANNEL_BYTES_MAX = 64, FROM_BYTES_MAX = 69 };

const struct message_field message_fields[] = {
    [MESSAGE_TEXT] = {"text", CONV_TEXT_BYTES_MAX, true},
    [MESSAGE_ID] = {"message_id", CONV_MESSAGE_ID_BYTES_MAX, false},
    [MESSAGE_CUSTOMER_ID] = {"customer_id", CUSTOMER_ID_BYTES_MAX, false},
    [MESSAGE_CHANNEL] = {"channel", CHANNEL_BYTES_MAX, false},
    [MESSAGE_AGENT] = {"agent", NAME_BYTES_MAX, false},
    [MESSAGE_FROM] = {"from", FROM_BYTES_MAX, false},
    [MESSAGE_ON_BUSY] = {"on_busy", 16, false},
    [MESSAGE_METADATA] = {"metadata", 0, false},
};
const size_t message_field_count = sizeof message_fields / sizeof message_fields[0];
_Static_assert(sizeof message_fields / sizeof message_fields[0] == MESSAGE_FIELD_COUNT, "one row a field");

void message_input_begin(struct message_input *input, struct buffer *metadata, struct problem *problem)
{
    buffer_clear(metadata);
    *input = (struct message_input){.metadata = metadata, .problem = problem};
}

/* ---- texts ------------------------------------------------------------------------------------------------------------- */

static bool has_control_byte(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return true;
    }
    return false;
}

static void add_error(struct message_input *input, enum message_field_index field, int status, const char *what)
{
    char pointer[32];
    snprintf(pointer, sizeof pointer, "/%s", message_fields[field].name);
    problem_add_error(input->problem, status, pointer, "%s", what);
}

void message_input_text(struct message_input *input, enum message_field_index field, struct slice text)
{
    char range[64];
    input->has_text |= field == MESSAGE_TEXT;
    if (text.size == 0 || text.size > message_fields[field].size_max) {
        snprintf(range, sizeof range, "must be 1 to %u bytes of UTF-8", message_fields[field].size_max);
        add_error(input, field, 422, range);
    } else if (field != MESSAGE_TEXT && has_control_byte(text)) {
        add_error(input, field, 422, "must not hold control characters");
    } else {
        input->values[field] = text;
    }
}

void message_input_no_text(struct message_input *input, enum message_field_index field)
{
    input->has_text |= field == MESSAGE_TEXT;
    add_error(input, field, 400, field == MESSAGE_METADATA ? "must be an object of strings" : "must be a string");
}

/* ---- metadata ---------------------------------------------------------------------------------------------------------- */

void message_input_metadata_begin(struct message_input *input)
{
    buffer_append_byte(input->metadata, '{');
}

void message_input_metadata_member(struct message_input *input, struct slice key, struct slice value)
{
    if (input->metadata->size > 1)
        buffer_append_byte(input->metadata, ',');
    json_write_string(input->metadata, key);
    buffer_append_byte(input->metadata, ':');
    json_write_string(input->metadata, value);
}

void message_input_metadata_end(struct message_input *input)
{
    buffer_append_byte(input->metadata, '}');
    if (input->metadata->is_overflow || input->metadata->size > CONV_METADATA_BYTES_MAX)
        problem_add_error(input->problem, 422, "/metadata", "must be at most %d bytes as JSON", CONV_METADATA_BYTES_MAX);
    else
        input->values[MESSAGE_METADATA] = buffer_slice(input->metadata);
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static enum conv_on_busy read_on_busy(struct message_input *input)
{
    static const char *const later[] = {"merge", "interrupt", "rollback"};
    struct slice word = input->values[MESSAGE_ON_BUSY];
    if (!word.data)
        return CONV_ON_BUSY_DEFAULT;
    if (slice_has_text(word, "enqueue"))
        return CONV_ON_BUSY_ENQUEUE;
    if (slice_has_text(word, "reject"))
        return CONV_ON_BUSY_REJECT;
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (slice_has_text(word, later[i])) {
            problem_add_error(input->problem, 422, "/on_busy", "%s is not supported yet: use enqueue or reject",
                              later[i]);
            return CONV_ON_BUSY_DEFAULT;
        }
    }
    problem_add_error(input->problem, 422, "/on_busy", "must be one of enqueue, merge, interrupt, rollback, reject");
    return CONV_ON_BUSY_DEFAULT;
}

static void check_from(struct message_input *input)
{
    struct slice from = input->values[MESSAGE_FROM];
    const size_t prefix_size = sizeof "human:" - 1;
    if (!from.data)
        return;
    bool is_human = from.size > prefix_size && memcmp(from.data, "human:", prefix_size) == 0 &&
                    input_is_id(slice_of(from.data + prefix_size, from.size - prefix_size), NAME_BYTES_MAX);
    if (!is_human)
        problem_add_error(input->problem, 422, "/from",
                          "must be human:NAME, NAME being 1 to 63 of A-Z a-z 0-9 . _ ~ : -");
}

/* Over everything said but the id and how long to wait for it: each value is hashed under the hash of those before, so that
 * no two ways to cut the same bytes into values meet. */
static uint64_t hash_payload(const struct message_input *input)
{
    static const enum message_field_index hashed[] = {MESSAGE_TEXT,  MESSAGE_CUSTOMER_ID, MESSAGE_CHANNEL,
                                                      MESSAGE_AGENT, MESSAGE_FROM,        MESSAGE_METADATA};
    struct hash128 hash = {0x636972616e646131, 0x7061796c6f616431}; /* fixed: the hash is in journals */
    for (size_t i = 0; i < sizeof hashed / sizeof hashed[0]; i++)
        hash = hash_bytes(input->values[hashed[i]], hash);
    return hash.low;
}

bool message_input_end(struct message_input *input, struct conv_request *ret_message)
{
    if (!input->has_text)
        problem_add_error(input->problem, 400, "/text", "is required");
    check_from(input);
    enum conv_on_busy on_busy = read_on_busy(input);
    if (input->problem->error_count)
        return false;
    *ret_message = (struct conv_request){
        .text = input->values[MESSAGE_TEXT],
        .message_id = input->values[MESSAGE_ID],
        .customer_id = input->values[MESSAGE_CUSTOMER_ID],
        .channel = input->values[MESSAGE_CHANNEL],
        .metadata = input->values[MESSAGE_METADATA],
        .agent = input->values[MESSAGE_AGENT],
        .from = input->values[MESSAGE_FROM],
        .payload_hash = hash_payload(input),
        .on_busy = on_busy,
    };
    return true;
}

/* ---- limits ------------------------------------------------------------------------------------------------------------ */

bool message_is_within_limits(const struct services *services, struct slice tenant, struct slice conversation,
                              struct slice customer_id, uint64_t now_ns, const char **ret_whose,
                              uint64_t *ret_retry_after_ns)
{
    const struct config *config = services->config;
    const struct slice customer = customer_id.size ? customer_id : conversation;
    *ret_whose = "the customer's limit of messages is used up";
    if (!limits_take(services->limits, LIMIT_CUSTOMER, tenant, customer, &config->limits.customer, now_ns,
                     ret_retry_after_ns))
        return false;
    *ret_whose = "the tenant's limit of messages is used up";
    return limits_take(services->limits, LIMIT_TENANT, tenant, (struct slice){0}, &config->limits.tenant, now_ns,
                       ret_retry_after_ns);
}
