/* SPDX-License-Identifier: Apache-2.0 */
/* Any frame that the scan lets through, as a message's params: what is accepted is within the limits of a message, and has the
 * same payload hash when it is read again. */
#include "actors/rpc/rpc_params.h"
#include "net/rpc_scan.h"
#include "runtime/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_message(struct slice params, struct buffer *metadata, struct conv_request *ret_message)
{
    struct rpc_params read;
    struct problem problem;
    if (!rpc_params_read(params, RPC_FIELD(RPC_FIELD_COUNT) - 1, metadata, &read, &problem)) {
        ASSERT(problem.error_count > 0 && problem.status >= 400);
        return false;
    }
    return message_input_end(&read.message, ret_message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_scan scan = {0};
    enum rpc_reason reason;
    struct rpc_frame frame;
    struct slice bytes = slice_of((const char *)data, size);
    if (rpc_scan(&scan, 1 << 20, bytes, &reason) != RPC_SCAN_DONE ||
        !rpc_frame_read(slice_of(bytes.data, scan.at), &frame))
        return 0;
    struct buffer metadata;
    struct conv_request first, second;
    buffer_init(&metadata, 1 << 20);
    if (read_message(frame.params, &metadata, &first)) {
        ASSERT(first.text.size > 0 && first.text.size <= CONV_TEXT_BYTES_MAX);
        ASSERT(first.message_id.size <= CONV_MESSAGE_ID_BYTES_MAX && first.metadata.size <= CONV_METADATA_BYTES_MAX);
        ASSERT(read_message(frame.params, &metadata, &second) && first.payload_hash == second.payload_hash);
    }
    buffer_deinit(&metadata);
    return 0;
}
