/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_scan: is a whole MessagePack-RPC frame there, and within the limits? Asked before anything is made of it.
 *
 * MessagePack has no length in front: a frame ends where its outermost array does. The scan walks heads, allocates nothing,
 * recurses nowhere and goes on where it stopped, so that a frame which comes byte by byte costs as much as one that comes
 * whole. What a head says is believed only as far as the frame's limit lets it be true: every value still owed takes a byte at
 * least, so a lying count or length is refused at its head. (msgpack-c 4.0 asks for 96 GB at the five bytes dd ff ff ff ff:
 * its issues 985 and 1013.)
 *
 * Life: zero it; rpc_scan with all bytes from the frame's first, again and again as they grow, until it is not MORE; zero it.
 * Pure; any thread. Callers: rpc_server. */
#ifndef CIRANDA_NET_RPC_SCAN_H
#define CIRANDA_NET_RPC_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/slice.h"

enum { RPC_DEPTH_MAX = 32 };

enum rpc_reason {
    RPC_REASON_NONE,
#define RPC_REASON(name, code, text) RPC_##name,
#include "net/rpc_reason.def"
#undef RPC_REASON
    RPC_REASON_COUNT
};
const char *rpc_reason_code(enum rpc_reason reason);
const char *rpc_reason_text(enum rpc_reason reason);

/* Fields are private but `at`: once the scan is DONE, the size of the frame. */
struct rpc_scan {
    uint32_t at; /* bytes that are understood */
    uint32_t depth;
    uint32_t owed_count;              /* values still to come, over all levels */
    uint32_t owed[RPC_DEPTH_MAX + 1]; /* values still to come a level; [0]: the frame itself */
    bool is_started;
};

enum rpc_scan_result { RPC_SCAN_MORE, RPC_SCAN_DONE, RPC_SCAN_REFUSED };

/* Returns: REFUSED with *ret_reason: the bytes can never become a frame. Limits: linear in the bytes, over all calls. */
enum rpc_scan_result rpc_scan(struct rpc_scan *scan, uint32_t frame_bytes_max, struct slice bytes,
                              enum rpc_reason *ret_reason);

struct rpc_frame {
    bool is_notification;
    uint32_t msgid;      /* of a request */
    struct slice method; /* {NULL, 0}: no text */
    struct slice params; /* one value */
};

/* Takes a frame apart that rpc_scan found whole. Returns: false when it is no request and no notification. */
bool rpc_frame_read(struct slice frame, struct rpc_frame *ret_frame);

#endif
