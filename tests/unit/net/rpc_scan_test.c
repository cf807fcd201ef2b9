/* SPDX-License-Identifier: Apache-2.0 */
/* The scan of frames: rows D1-D3 of the bad-input catalogue at their limits, and that bytes which come one by one cost what they
 * cost at once. Heads of MessagePack, and JSON written as MessagePack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/json_pack.h"
#include "net/pack.h"
#include "net/rpc_scan.h"

enum { MIB = 1 << 20 };
#define PING "\x94\x00\x07\xa4ping\x91\x80"
#define BYTES(literal) slice_of((literal), sizeof(literal) - 1)

static enum rpc_scan_result scan_all(struct slice bytes, uint32_t *ret_size, enum rpc_reason *ret_reason)
{
    struct rpc_scan scan = {0};
    enum rpc_scan_result result = rpc_scan(&scan, MIB, bytes, ret_reason);
    *ret_size = scan.at;
    return result;
}

static void assert_refused(struct slice bytes, enum rpc_reason expected)
{
    uint32_t size;
    enum rpc_reason reason = RPC_REASON_NONE;
    assert_int_equal(scan_all(bytes, &size, &reason), RPC_SCAN_REFUSED);
    assert_int_equal(reason, expected);
}

static void a_frame_ends_where_its_array_ends(void **state)
{
    (void)state;
    uint32_t size;
    enum rpc_reason reason;
    assert_int_equal(scan_all(BYTES(PING PING), &size, &reason), RPC_SCAN_DONE);
    assert_int_equal(size, sizeof PING - 1);
    for (size_t cut = 0; cut < sizeof PING - 1; cut++)
        assert_int_equal(scan_all(slice_of(PING, cut), &size, &reason), RPC_SCAN_MORE);
}

static void d1_a_lying_head_is_refused_at_the_head(void **state)
{
    (void)state;
    assert_refused(BYTES("\x94\x00\x07\xa4ping\x91\xdd\xff\x00\x00\x00"), RPC_FRAME_TOO_LARGE);
    assert_refused(BYTES("\x94\x00\x07\xa4ping\x91\xdf\x00\x08\x00\x00"), RPC_FRAME_TOO_LARGE);
    assert_refused(BYTES("\x94\x00\x07\xa4ping\x91\xdb\x00\x10\x00\x00"), RPC_FRAME_TOO_LARGE);
    assert_refused(BYTES("\x94\x00\x07\xdb\x7f\xff\xff\xff"), RPC_FRAME_TOO_LARGE);
    assert_refused(BYTES("\xdd\xff\x00\x00\x00"), RPC_FRAME_UNKNOWN);
    assert_refused(BYTES("\x94\xc1"), RPC_FRAME_INVALID);
    assert_refused(BYTES("\x90"), RPC_FRAME_UNKNOWN);
    assert_refused(BYTES("\x92"), RPC_FRAME_UNKNOWN);
    assert_refused(BYTES("G"), RPC_FRAME_UNKNOWN);
}

/* [0, 7, "ping", [str32 of so many]]: a frame of exactly the limit passes, and no more. */
static void d3_a_frame_may_be_one_mebibyte(void **state)
{
    (void)state;
    static const char head[] = "\x94\x00\x07\xa4ping\x91\xdb";
    enum { HEAD_BYTES = sizeof head - 1 + 4 };
    char *bytes = malloc(MIB + 1);
    assert_non_null(bytes);
    for (uint32_t over = 0; over <= 1; over++) {
        uint32_t text = MIB - HEAD_BYTES + over, size;
        enum rpc_reason reason;
        memset(bytes, 'x', MIB + 1);
        memcpy(bytes, head, sizeof head - 1);
        for (size_t i = 0; i < 4; i++)
            bytes[sizeof head - 1 + i] = (char)(text >> (24 - 8 * i));
        if (over) {
            assert_refused(slice_of(bytes, HEAD_BYTES), RPC_FRAME_TOO_LARGE); /* before the text has come */
        } else {
            assert_int_equal(scan_all(slice_of(bytes, MIB), &size, &reason), RPC_SCAN_DONE);
            assert_int_equal(size, MIB);
        }
    }
    free(bytes);
}

static void d2_32_levels_pass_and_33_do_not(void **state)
{
    (void)state;
    char bytes[64] = "\x94\x00\x07\xa4ping";
    const size_t head = 8;
    uint32_t size;
    enum rpc_reason reason;
    memset(bytes + head, '\x91', 31); /* the frame itself is the first level */
    bytes[head + 31] = '\x05';
    assert_int_equal(scan_all(slice_of(bytes, head + 32), &size, &reason), RPC_SCAN_DONE);
    bytes[head + 31] = '\x90';
    assert_refused(slice_of(bytes, head + 32), RPC_FRAME_TOO_DEEP);
}

/* A million small values, come byte by byte: quadratic work would take hours. */
static void bytes_that_come_one_by_one_cost_what_they_cost_at_once(void **state)
{
    (void)state;
    char *bytes = calloc(1, MIB);
    assert_non_null(bytes);
    static const char head[] = "\x94\x00\x07\xa4ping\xdd\x00\x0f\xff\xf3"; /* so many zeros as fit */
    memcpy(bytes, head, sizeof head - 1);
    struct rpc_scan scan = {0};
    enum rpc_reason reason;
    for (size_t there = 1; there < MIB; there++)
        assert_int_equal(rpc_scan(&scan, MIB, slice_of(bytes, there), &reason), RPC_SCAN_MORE);
    assert_int_equal(rpc_scan(&scan, MIB, slice_of(bytes, MIB), &reason), RPC_SCAN_DONE);
    assert_int_equal(scan.at, MIB);
    free(bytes);
}

static void frames_are_taken_apart(void **state)
{
    (void)state;
    struct rpc_frame frame;
    assert_true(rpc_frame_read(BYTES(PING), &frame));
    assert_false(frame.is_notification);
    assert_int_equal(frame.msgid, 7);
    assert_true(slice_has_text(frame.method, "ping"));
    assert_true(slice_is_equal(frame.params, BYTES("\x91\x80")));
    assert_true(rpc_frame_read(BYTES("\x93\x02\xa4ping\x91\x80"), &frame));
    assert_true(frame.is_notification);
    assert_true(rpc_frame_read(BYTES("\x94\x00\xd3\x00\x00\x00\x00\xff\xff\xff\xff\x05\xc0"), &frame));
    assert_int_equal(frame.msgid, UINT32_MAX); /* an int64, but a number of 32 bits */
    assert_null(frame.method.data);
    assert_false(rpc_frame_read(BYTES("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1x\x90"), &frame));
    assert_false(rpc_frame_read(BYTES("\x94\x00\xd0\xff\xa1x\x90"), &frame));
    assert_false(rpc_frame_read(BYTES("\x94\x01\x07\xc0\xc0"), &frame));
    assert_false(rpc_frame_read(BYTES("\x93\x00\x07\xa1x"), &frame));
}

static void a_head_is_what_its_first_byte_says(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        struct pack_head head;
    } cases[] = {
        {"\x7f\0\0\0\0\0\0\0", {PACK_NUMBER, 1, 127}},
        {"\xe0\0\0\0\0\0\0\0", {PACK_NEGATIVE, 1, (uint64_t)-32}},
        {"\xd0\x05\0\0\0\0\0\0", {PACK_NUMBER, 2, 5}},
        {"\xd0\x80\0\0\0\0\0\0", {PACK_NEGATIVE, 2, (uint64_t)-128}},
        {"\xd2\x80\0\0\0\0\0\0", {PACK_NEGATIVE, 5, (uint64_t)INT32_MIN}},
        {"\x8f\0\0\0\0\0\0\0", {PACK_MAP, 1, 15}},
        {"\x9f\0\0\0\0\0\0\0", {PACK_ARRAY, 1, 15}},
        {"\xbf\0\0\0\0\0\0\0", {PACK_TEXT, 1, 31}},
        {"\xc0\0\0\0\0\0\0\0", {PACK_NIL, 1, 0}},
        {"\xc3\0\0\0\0\0\0\0", {PACK_BOOL, 1, 1}},
        {"\xc5\1\2\0\0\0\0\0", {PACK_BYTES, 3, 258}},
        {"\xc7\4\0\0\0\0\0\0", {PACK_EXT, 2, 5}},
        {"\xd4\0\0\0\0\0\0\0", {PACK_EXT, 1, 2}},
        {"\xd8\0\0\0\0\0\0\0", {PACK_EXT, 1, 17}},
        {"\xca\0\0\0\0\0\0\0", {PACK_FLOAT, 5, 0}},
        {"\xdc\1\0\0\0\0\0\0", {PACK_ARRAY, 3, 256}},
        {"\xdf\0\0\0\1\0\0\0", {PACK_MAP, 5, 1}},
        {"\xcf\0\0\0\0\0\0\0", {PACK_MORE, 0, 0}}, /* nine bytes, of which eight are there */
        {"\xc1\0\0\0\0\0\0\0", {PACK_INVALID, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pack_head head = pack_head_of((const uint8_t *)cases[i].bytes, 8);
        assert_int_equal(head.type, cases[i].head.type);
        assert_int_equal(head.size, cases[i].head.size);
        assert_int_equal(head.value, cases[i].head.value);
    }
}

static void json_is_written_as_messagepack(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        struct slice packed;
    } cases[] = {
        {"null", SLICE_LITERAL("\xc0")},
        {"[true,false,-1,300,1.5]", SLICE_LITERAL("\x95\xc3\xc2\xff\xcd\x01\x2c\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00")},
        {"{\"a\":{\"b\":[[],{}]},\"c\\u0041\":\"\\n\\u00e9\"}", SLICE_LITERAL("\x82\xa1"
                                                                              "a\x81\xa1"
                                                                              "b\x92\x90\x80\xa2"
                                                                              "cA\xa3\n\xc3\xa9")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_value value;
        struct json_problem problem;
        struct buffer out;
        buffer_init(&out, 1024);
        assert_int_equal(json_validate(slice_from_text(cases[i].json), &value, &problem), OK);
        json_pack(&out, value);
        assert_true(slice_is_equal(buffer_slice(&out), cases[i].packed));
        buffer_deinit(&out);
    }
}

static void json_of_32_levels_is_written(void **state)
{
    (void)state;
    char json[2 * JSON_DEPTH_MAX], packed[JSON_DEPTH_MAX];
    memset(json, '[', JSON_DEPTH_MAX);
    memset(json + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    memset(packed, '\x91', JSON_DEPTH_MAX);
    packed[JSON_DEPTH_MAX - 1] = '\x90';
    struct json_value value;
    struct json_problem problem;
    struct buffer out;
    buffer_init(&out, 1024);
    assert_int_equal(json_validate(slice_of(json, sizeof json), &value, &problem), OK);
    json_pack(&out, value);
    assert_true(slice_is_equal(buffer_slice(&out), slice_of(packed, sizeof packed)));
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_ends_where_its_array_ends),
        cmocka_unit_test(d1_a_lying_head_is_refused_at_the_head),
        cmocka_unit_test(d2_32_levels_pass_and_33_do_not),
        cmocka_unit_test(d3_a_frame_may_be_one_mebibyte),
        cmocka_unit_test(bytes_that_come_one_by_one_cost_what_they_cost_at_once),
        cmocka_unit_test(frames_are_taken_apart),
        cmocka_unit_test(a_head_is_what_its_first_byte_says),
        cmocka_unit_test(json_is_written_as_messagepack),
        cmocka_unit_test(json_of_32_levels_is_written),
    };
    return cmocka_run_group_tests_name("rpc_scan", tests, NULL, NULL);
}
