/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a frame: the scan neither reads nor decides otherwise when they come in pieces; what it finds whole is one value
 * that ends where it says, within the limits, and can be taken apart. Small limits, so that they are met. */
#include "net/pack.h"
#include "net/rpc_scan.h"
#include "runtime/assert.h"

enum { FRAME_BYTES_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct verdict {
    enum rpc_scan_result result;
    enum rpc_reason reason;
    uint32_t size;
};

/* As the bytes would come in pieces: all up to `first`, then `step` more each time. */
static struct verdict scan_in_pieces(const char *bytes, size_t size, size_t first, size_t step)
{
    struct rpc_scan scan = {0};
    struct verdict verdict = {.result = RPC_SCAN_MORE};
    for (size_t there = first < size ? first : size; verdict.result == RPC_SCAN_MORE; there += step) {
        verdict.result = rpc_scan(&scan, FRAME_BYTES_MAX, slice_of(bytes, there < size ? there : size), &verdict.reason);
        if (there >= size)
            break;
    }
    verdict.size = scan.at;
    if (verdict.result != RPC_SCAN_REFUSED)
        verdict.reason = RPC_REASON_NONE;
    return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct verdict whole = scan_in_pieces(bytes, size, size, 1);
    const size_t firsts[] = {0, size / 2, 3}, steps[] = {1, size, 7};
    for (int i = 0; i < 3; i++) {
        struct verdict pieces = scan_in_pieces(bytes, size, firsts[i], steps[i] ? steps[i] : 1);
        ASSERT(pieces.result == whole.result && pieces.reason == whole.reason && pieces.size == whole.size);
    }
    ASSERT(whole.result != RPC_SCAN_MORE || size < FRAME_BYTES_MAX);
    if (whole.result != RPC_SCAN_DONE)
        return 0;
    ASSERT(whole.size > 0 && whole.size <= size && whole.size <= FRAME_BYTES_MAX);
    struct pack_reader reader = pack_reader_of(slice_of(bytes, whole.size));
    pack_skip(&reader);
    ASSERT(pack_reader_is_done(&reader)); /* another reader finds the same end */
    struct rpc_frame frame;
    if (rpc_frame_read(slice_of(bytes, whole.size), &frame)) {
        reader = pack_reader_of(frame.params);
        pack_skip(&reader);
        ASSERT(pack_reader_is_done(&reader));
    }
    return 0;
}
