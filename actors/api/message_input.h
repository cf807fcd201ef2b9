/* SPDX-License-Identifier: Apache-2.0 */
/* message_input: what a client may say in a message, whichever protocol carries it: one table of fields (openapi.json is held
 * against it), their limits, the hash that tells a copy from another message, and how many messages may be said. HTTP and RPC
 * read their own notation and bring the values here, so that neither lets through what the other refuses.
 *
 * Life: message_input_begin; message_input_text and the metadata's members as they are met, in any order; message_input_end.
 * Pure; any thread. Callers: api_message_read, rpc_params. */
#ifndef CIRANDA_ACTORS_API_MESSAGE_INPUT_H
#define CIRANDA_ACTORS_API_MESSAGE_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actors/api/problem.h"
#include "actors/protocol.h"
#include "runtime/buffer.h"

struct services;

/* In the order of the table. */
enum message_field_index {
    MESSAGE_TEXT,
    MESSAGE_ID,
    MESSAGE_CUSTOMER_ID,
    MESSAGE_CHANNEL,
    MESSAGE_AGENT,
    MESSAGE_FROM,
    MESSAGE_ON_BUSY,
    MESSAGE_METADATA,
    MESSAGE_FIELD_COUNT
};

struct message_field {
    const char *name;
    uint32_t size_max; /* bytes; 0: no string */
    bool is_required;
};
extern const struct message_field message_fields[];
extern const size_t message_field_count;

struct message_input {
    struct buffer
        *metadata; /* written anew as compact JSON: journal and subscribers get our spelling, not the client's */
    struct problem *problem;
    bool has_text;                            /* the field was there, valid or not */
    struct slice values[MESSAGE_FIELD_COUNT]; /* {NULL, 0}: absent */
};

/* Clears `metadata`; errors are added to `problem`. */
void message_input_begin(struct message_input *input, struct buffer *metadata, struct problem *problem);
/* A field that is a string; `text` is valid UTF-8 without U+0000 and lives as long as the message. */
void message_input_text(struct message_input *input, enum message_field_index field, struct slice text);
/* The field is there, but no string. */
void message_input_no_text(struct message_input *input, enum message_field_index field);
void message_input_metadata_begin(struct message_input *input);
void message_input_metadata_member(struct message_input *input, struct slice key, struct slice value);
void message_input_metadata_end(struct message_input *input);
/* Checks what concerns the whole and fills what the client says of *ret_message: texts, on_busy, payload_hash. Returns: false
 * when the problem has errors: 400 for what no client may send, 422 for a value out of range; all found, not only the first. */
bool message_input_end(struct message_input *input, struct conv_request *ret_message);

/* Counts the message against the limits of its customer (who gives no name is known by the conversation) and of the tenant, the
 * customer first, so that what it is refused does not count against its tenant. Returns: false when it is one too many, with
 * whose limit it was and when to try again. Thread: any worker's. */
bool message_is_within_limits(const struct services *services, struct slice tenant, struct slice conversation,
                              struct slice customer_id, uint64_t now_ns, const char **ret_whose,
                              uint64_t *ret_retry_after_ns);

#endif
