/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_params: the one map of a call's params, read along one table of fields. Strict: keys are texts, none twice, none that the
 * method does not know; texts are UTF-8 without U+0000; numbers are whole, not negative, at most 2^63-1. Ext values, floats and
 * whatever else is not the field's type are refused as such. The fields of a message go to message_input. Pure. */
#ifndef CIRANDA_ACTORS_RPC_RPC_PARAMS_H
#define CIRANDA_ACTORS_RPC_RPC_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/api/message_input.h"

/* The fields of a message come first, by their message_field_index. */
enum rpc_field {
    RPC_CONVERSATION_ID = MESSAGE_FIELD_COUNT,
    RPC_TRACE_ID,
    RPC_TRACEPARENT,
    RPC_WAIT_MS,
    RPC_IF_MATCH,
    RPC_AFTER,
    RPC_LIMIT,
    RPC_SUBSCRIPTION,
    RPC_FIELD_COUNT
};
#define RPC_FIELD(field) (1u << (field))
enum { RPC_MESSAGE_FIELDS = RPC_FIELD(MESSAGE_FIELD_COUNT) - 1 };

const char *rpc_field_name(uint32_t field);

struct rpc_params {
    uint32_t present; /* RPC_FIELD(...) each */
    struct slice conversation_id, trace_id, traceparent;
    uint64_t wait_ms, if_match, after, limit, subscription;
    struct message_input message;
};

/* `params` is one value: an array of one map (or of nothing, as an empty map). `known`: the fields of the method. `metadata`
 * holds what a message's metadata becomes. Returns: false with *problem filled, all errors found; slices are lent from the
 * params. A message is yet to be ended (message_input_end), also to get the rest of its errors. */
bool rpc_params_read(struct slice params, uint32_t known, struct buffer *metadata, struct rpc_params *ret_params,
                     struct problem *problem);

#endif
