/* SPDX-License-Identifier: Apache-2.0 */
/* A container adds its elements to what is owed at the level below it; a level that is owed nothing any more is left. The limit
 * holds as: understood + owed <= frame_bytes_max, at every head. */
#include "net/rpc_scan.h"

#include "net/pack.h"

enum { REQUEST = 0, NOTIFICATION = 2, REQUEST_PARTS = 4, NOTIFICATION_PARTS = 3 };

static const struct {
    const char *code, *text;
} reasons[RPC_REASON_COUNT] = {
    [RPC_REASON_NONE] = {"none", "none"},
#define RPC_REASON(name, code, text) [RPC_##name] = {code, text},
#include "net/rpc_reason.def"
#undef RPC_REASON
};

const char *rpc_reason_code(enum rpc_reason reason)
{
    return reasons[reason].code;
}

const char *rpc_reason_text(enum rpc_reason reason)
{
    return reasons[reason].text;
}

static bool is_container(const struct pack_head *head)
{
    return head->type == PACK_ARRAY || head->type == PACK_MAP;
}

/* Bytes of the value's own behind its head. */
static uint64_t body_bytes(const struct pack_head *head)
{
    return head->type == PACK_TEXT || head->type == PACK_BYTES || head->type == PACK_EXT ? head->value : 0;
}

static uint64_t element_count(const struct pack_head *head)
{
    return head->type == PACK_MAP ? 2 * head->value : head->type == PACK_ARRAY ? head->value : 0;
}

static enum rpc_reason judge(const struct rpc_scan *scan, const struct pack_head *head, uint64_t room)
{
    if (head->type == PACK_INVALID)
        return RPC_FRAME_INVALID;
    bool is_frame = head->type == PACK_ARRAY && (head->value == REQUEST_PARTS || head->value == NOTIFICATION_PARTS);
    if (scan->at == 0 && !is_frame)
        return RPC_FRAME_UNKNOWN;
    if (head->size + body_bytes(head) + element_count(head) > room)
        return RPC_FRAME_TOO_LARGE;
    if (is_container(head) && scan->depth == RPC_DEPTH_MAX)
        return RPC_FRAME_TOO_DEEP;
    return RPC_REASON_NONE;
}

enum rpc_scan_result rpc_scan(struct rpc_scan *scan, uint32_t frame_bytes_max, struct slice bytes,
                              enum rpc_reason *ret_reason)
{
    if (!scan->is_started)
        *scan = (struct rpc_scan){.is_started = true, .owed_count = 1, .owed = {1}};
    while (scan->owed_count > 0) {
        const uint8_t *at = (const uint8_t *)bytes.data + scan->at;
        struct pack_head head = pack_head_of(at, bytes.size - scan->at);
        if (head.type == PACK_MORE)
            return RPC_SCAN_MORE;
        uint32_t room = frame_bytes_max - scan->at - (scan->owed_count - 1); /* the others take one byte each at least */
        *ret_reason = judge(scan, &head, room);
        if (*ret_reason != RPC_REASON_NONE)
            return RPC_SCAN_REFUSED;
        uint32_t used = (uint32_t)(head.size + body_bytes(&head)), elements = (uint32_t)element_count(&head);
        if (used > bytes.size - scan->at)
            return RPC_SCAN_MORE;
        scan->at += used;
        scan->owed_count += elements - 1;
        scan->owed[scan->depth]--;
        if (is_container(&head))
            scan->owed[++scan->depth] = elements;
        while (scan->depth > 0 && scan->owed[scan->depth] == 0)
            scan->depth--;
    }
    return RPC_SCAN_DONE;
}

bool rpc_frame_read(struct slice bytes, struct rpc_frame *ret_frame)
{
    struct pack_reader reader = pack_reader_of(bytes);
    uint32_t parts = pack_read_array(&reader);
    uint64_t type = pack_read_number(&reader);
    bool is_notification = type == NOTIFICATION && parts == NOTIFICATION_PARTS;
    if (!is_notification && !(type == REQUEST && parts == REQUEST_PARTS))
        return false;
    uint64_t msgid = is_notification ? 0 : pack_read_number(&reader);
    struct slice method = {0};
    if (pack_peek(&reader) == PACK_TEXT)
        method = pack_read_text(&reader);
    else
        pack_skip(&reader);
    if (reader.is_failed || msgid > UINT32_MAX)
        return false;
    *ret_frame = (struct rpc_frame){
        .is_notification = is_notification,
        .msgid = (uint32_t)msgid,
        .method = method,
        .params = slice_of((const char *)reader.at, (size_t)(reader.end - reader.at)),
    };
    return true;
}
