/* SPDX-License-Identifier: Apache-2.0 */
/* load_rpc: message.send over MessagePack-RPC, and its answers, which come in any order and name their request by msgid.
 *
 * The few shapes of MessagePack that the protocol needs are written and read here (msgpack.org's specification); a frame that is
 * not whole is read again from its beginning when more has come.
 */
#include <endian.h>

#include "bench/load_protocol.h"
#include "runtime/buffer.h"

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static void pack_text(struct buffer *out, struct slice text)
{
    if (text.size < 32) {
        buffer_append_byte(out, (char)(0xa0 | text.size));
    } else if (text.size < 256) {
        buffer_append_byte(out, (char)0xd9);
        buffer_append_byte(out, (char)text.size);
    } else {
        uint16_t size = htobe16((uint16_t)text.size);
        buffer_append_byte(out, (char)0xda);
        buffer_append(out, &size, sizeof size);
    }
    buffer_append_slice(out, text);
}

static void write_message(struct buffer *out, const struct load_message *message)
{
    uint32_t tag = htobe32(message->tag);
    buffer_append(out, "\x94\x00\xce", 3); /* [0, msgid as uint 32, */
    buffer_append(out, &tag, sizeof tag);
    pack_text(out, SLICE_LITERAL("message.send"));
    int members = 3 + (message->agent.size > 0) + message->is_async;
    buffer_append_byte(out, (char)0x91); /* [params] */
    buffer_append_byte(out, (char)(0x80 | members));
    pack_text(out, SLICE_LITERAL("conversation_id"));
    pack_text(out, message->conversation_id);
    pack_text(out, SLICE_LITERAL("message_id"));
    pack_text(out, message->message_id);
    pack_text(out, SLICE_LITERAL("text"));
    pack_text(out, message->text);
    if (message->agent.size > 0) {
        pack_text(out, SLICE_LITERAL("agent"));
        pack_text(out, message->agent);
    }
    if (message->is_async) {
        pack_text(out, SLICE_LITERAL("wait_ms"));
        buffer_append_byte(out, 0);
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

/* The first of the two that holds stays; what is taken after it is zero. */
struct unpack {
    const uint8_t *at, *end;
    bool is_short; /* the bytes end before the value does */
    bool is_wrong; /* no MessagePack, or not the type asked for */
};

static bool goes_on(const struct unpack *unpack)
{
    return !unpack->is_short && !unpack->is_wrong;
}

static void be_wrong(struct unpack *unpack)
{
    unpack->is_wrong |= !unpack->is_short;
}

static bool has_bytes(struct unpack *unpack, size_t size)
{
    if (goes_on(unpack) && (size_t)(unpack->end - unpack->at) >= size)
        return true;
    unpack->is_short |= !unpack->is_wrong;
    return false;
}

static uint64_t take_big_endian(struct unpack *unpack, size_t size)
{
    uint64_t value = 0;
    if (!has_bytes(unpack, size))
        return 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | *unpack->at++;
    return value;
}

static void skip_bytes(struct unpack *unpack, uint64_t size)
{
    if (has_bytes(unpack, size))
        unpack->at += size;
}

/* One value's head and, when it nests none, its bytes. Returns: how many values follow inside it. */
static uint64_t skip_one(struct unpack *unpack)
{
    if (!has_bytes(unpack, 1))
        return 0;
    uint8_t type = *unpack->at++;
    if (type <= 0x7f || type >= 0xe0 || type == 0xc0 || type == 0xc2 || type == 0xc3)
        return 0;
    if (type <= 0x8f)
        return 2u * (type & 15u);
    if (type <= 0x9f)
        return type & 15u;
    if (type <= 0xbf) {
        skip_bytes(unpack, type & 31u);
        return 0;
    }
    switch (type) {
    case 0xc4: /* bin */
    case 0xc5:
    case 0xc6: skip_bytes(unpack, take_big_endian(unpack, 1u << (type - 0xc4u))); return 0;
    case 0xca: skip_bytes(unpack, 4); return 0; /* floats */
    case 0xcb: skip_bytes(unpack, 8); return 0;
    case 0xcc: /* unsigned */
    case 0xcd:
    case 0xce:
    case 0xcf: skip_bytes(unpack, 1u << (type - 0xccu)); return 0;
    case 0xd0: /* signed */
    case 0xd1:
    case 0xd2:
    case 0xd3: skip_bytes(unpack, 1u << (type - 0xd0u)); return 0;
    case 0xd9: /* str */
    case 0xda:
    case 0xdb: skip_bytes(unpack, take_big_endian(unpack, 1u << (type - 0xd9u))); return 0;
    case 0xdc: return take_big_endian(unpack, 2); /* array, map */
    case 0xdd: return take_big_endian(unpack, 4);
    case 0xde: return 2 * take_big_endian(unpack, 2);
    case 0xdf: return 2 * take_big_endian(unpack, 4);
    default: be_wrong(unpack); return 0; /* extensions: the contract has none */
    }
}

static void skip_value(struct unpack *unpack)
{
    for (uint64_t left = 1; left > 0 && goes_on(unpack); left--)
        left += skip_one(unpack);
}

static uint64_t take_unsigned(struct unpack *unpack)
{
    uint8_t type = (uint8_t)take_big_endian(unpack, 1);
    if (type <= 0x7f)
        return type;
    if (type >= 0xcc && type <= 0xcf)
        return take_big_endian(unpack, 1u << (type - 0xccu));
    be_wrong(unpack);
    return 0;
}

static struct slice take_text(struct unpack *unpack)
{
    uint8_t type = (uint8_t)take_big_endian(unpack, 1);
    uint64_t size = type & 31u;
    if (type >= 0xd9 && type <= 0xdb)
        size = take_big_endian(unpack, 1u << (type - 0xd9u));
    else if ((type & 0xe0) != 0xa0)
        be_wrong(unpack);
    struct slice text = slice_of((const char *)unpack->at, size);
    skip_bytes(unpack, size);
    return goes_on(unpack) ? text : (struct slice){0};
}

static bool take_nil(struct unpack *unpack)
{
    if (!has_bytes(unpack, 1) || *unpack->at != 0xc0)
        return false;
    unpack->at++;
    return true;
}

static uint64_t take_members(struct unpack *unpack)
{
    uint8_t type = (uint8_t)take_big_endian(unpack, 1);
    if ((type & 0xf0) == 0x80)
        return type & 15u;
    if (type == 0xde || type == 0xdf)
        return take_big_endian(unpack, type == 0xde ? 2 : 4);
    be_wrong(unpack);
    return 0;
}

static struct slice take_reply_text(struct unpack *unpack)
{
    struct slice text = {0};
    if (take_nil(unpack))
        return text;
    for (uint64_t i = take_members(unpack); i > 0 && goes_on(unpack); i--) {
        if (slice_is_equal(take_text(unpack), SLICE_LITERAL("text")))
            text = take_text(unpack);
        else
            skip_value(unpack);
    }
    return text;
}

static void take_result(struct unpack *unpack, struct load_answer *answer)
{
    for (uint64_t i = take_members(unpack); i > 0 && goes_on(unpack); i--) {
        struct slice key = take_text(unpack);
        if (slice_is_equal(key, SLICE_LITERAL("conversation_id")))
            answer->conversation_id = take_text(unpack);
        else if (slice_is_equal(key, SLICE_LITERAL("message_id")))
            answer->message_id = take_text(unpack);
        else if (slice_is_equal(key, SLICE_LITERAL("status")))
            answer->state = take_text(unpack);
        else if (slice_is_equal(key, SLICE_LITERAL("version")))
            answer->version = take_unsigned(unpack);
        else if (slice_is_equal(key, SLICE_LITERAL("duplicate")))
            answer->is_duplicate = take_big_endian(unpack, 1) == 0xc3;
        else if (slice_is_equal(key, SLICE_LITERAL("reply")))
            answer->text = take_reply_text(unpack);
        else
            skip_value(unpack);
    }
    bool is_open = slice_has_text(answer->state, "running") || slice_has_text(answer->state, "queued");
    answer->status = is_open ? 202 : 200;
}

/* An error's code as the status of the HTTP answer that means the same (docs/RPC.md); 400 for those that are the client's fault. */
static int status_of(struct slice code)
{
    static const struct {
        const char *code;
        int status;
    } codes[] = {
        {"limited", 429},           {"queue_full", 429},     {"overloaded", 503}, {"draining", 503},
        {"agent_unavailable", 503}, {"storage_failed", 503}, {"crashed", 503},    {"storage_full", 507},
        {"corrupt", 503},           {"internal", 500},
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (slice_has_text(code, codes[i].code))
            return codes[i].status;
    }
    return 400;
}

static void take_error(struct unpack *unpack, struct load_answer *answer)
{
    struct slice code = {0};
    for (uint64_t i = take_members(unpack); i > 0 && goes_on(unpack); i--) {
        if (slice_is_equal(take_text(unpack), SLICE_LITERAL("code")))
            code = take_text(unpack);
        else
            skip_value(unpack);
    }
    answer->status = status_of(code);
}

static size_t take_answer(char *bytes, size_t size, struct load_answer *ret_answer)
{
    struct load_answer answer = {0};
    struct unpack unpack = {.at = (const uint8_t *)bytes, .end = (const uint8_t *)bytes + size};
    uint64_t frame = take_big_endian(&unpack, 1), kind = take_big_endian(&unpack, 1);
    if (goes_on(&unpack) && (frame != 0x94 || kind != 1))
        return SIZE_MAX;
    answer.tag = (uint32_t)take_unsigned(&unpack);
    const uint8_t *body = unpack.at;
    if (take_nil(&unpack)) {
        take_result(&unpack, &answer);
    } else if (goes_on(&unpack)) {
        take_error(&unpack, &answer);
        skip_value(&unpack);
    }
    if (unpack.is_short) /* first: where bytes end, the readers see a zero, which is mostly wrong, too */
        return 0;
    if (unpack.is_wrong)
        return SIZE_MAX;
    size_t taken = (size_t)(unpack.at - (const uint8_t *)bytes);
    answer.body = slice_of((const char *)body, (size_t)(unpack.at - body));
    *ret_answer = answer;
    return taken;
}

const struct load_protocol load_rpc = {"rpc", true, write_message, take_answer};
