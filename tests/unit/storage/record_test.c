/* SPDX-License-Identifier: Apache-2.0 */
/* record: the checksum is CRC-32C, covers every bit of a row, and keeps columns apart; the summary has one reading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/record.h"

/* CRC-32C bit by bit, as its definition has it. */
static uint32_t crc_by_definition(const uint8_t *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static size_t put_number(uint8_t *bytes, uint64_t number)
{
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    return 8;
}

static size_t put_bytes(uint8_t *bytes, struct slice slice)
{
    memcpy(bytes, slice.data, slice.size);
    return slice.size;
}

static struct record make_record(void)
{
    return (struct record){.offset = 77,
                           .key = SLICE_LITERAL("tenant/one"),
                           .number = 8,
                           .first_version = 21,
                           .event_count = 3,
                           .summary = SLICE_LITERAL("summary"),
                           .back = SLICE_LITERAL("back"),
                           .data = SLICE_LITERAL("data")};
}

static void the_checksum_is_crc32c_of_the_documented_bytes(void **state)
{
    (void)state;
    assert_int_equal(crc_by_definition((const uint8_t *)"123456789", 9), UINT32_C(0xe3069283)); /* RFC 3720 */
    struct record record = make_record();
    uint8_t bytes[256];
    size_t size = put_number(bytes, record.offset);
    size += put_number(bytes + size, record.number);
    size += put_number(bytes + size, record.first_version);
    size += put_number(bytes + size, record.event_count);
    const struct slice slices[] = {record.key, record.summary, record.back, record.data};
    for (int i = 0; i < 4; i++)
        size += put_number(bytes + size, slices[i].size);
    for (int i = 0; i < 4; i++)
        size += put_bytes(bytes + size, slices[i]);
    assert_int_equal(record_crc(&record), crc_by_definition(bytes, size));
}

static void every_bit_of_a_record_counts(void **state)
{
    (void)state;
    struct record record = make_record();
    uint32_t crc = record_crc(&record);
    for (int bit = 0; bit < 64; bit++) {
        struct record changed = record;
        changed.offset ^= UINT64_C(1) << bit;
        assert_int_not_equal(record_crc(&changed), crc);
        changed = record;
        changed.first_version ^= UINT64_C(1) << bit;
        assert_int_not_equal(record_crc(&changed), crc);
        changed = record;
        changed.number ^= (uint32_t)(UINT64_C(1) << bit % 32);
        assert_int_not_equal(record_crc(&changed), crc);
        changed = record;
        changed.event_count ^= (uint32_t)(UINT64_C(1) << bit % 32);
        assert_int_not_equal(record_crc(&changed), crc);
    }
    struct slice *slices[] = {&record.key, &record.summary, &record.back, &record.data};
    for (int i = 0; i < 4; i++) {
        struct slice original = *slices[i];
        for (size_t bit = 0; bit < original.size * 8; bit++) {
            char copy[32];
            memcpy(copy, original.data, original.size);
            copy[bit / 8] ^= (char)(1 << bit % 8);
            *slices[i] = slice_of(copy, original.size);
            assert_int_not_equal(record_crc(&record), crc);
        }
        *slices[i] = original;
    }
}

static void bytes_cannot_move_between_columns(void **state)
{
    (void)state;
    struct record one = make_record(), two = one;
    one.summary = SLICE_LITERAL("ab");
    one.back = SLICE_LITERAL("c");
    two.summary = SLICE_LITERAL("a");
    two.back = SLICE_LITERAL("bc");
    assert_int_not_equal(record_crc(&one), record_crc(&two));
}

static void heads_and_snapshots_have_theirs(void **state)
{
    (void)state;
    struct record_head head = {.key = SLICE_LITERAL("k"), .offset = 1, .version = 2, .record_count = 3}, other = head;
    strcpy(other.summary.owner, "x");
    assert_int_not_equal(record_head_crc(&head), record_head_crc(&other));
    other = head;
    other.summary.is_open = true;
    assert_int_not_equal(record_head_crc(&head), record_head_crc(&other));
    other = head;
    other.key = SLICE_LITERAL("l");
    assert_int_not_equal(record_head_crc(&head), record_head_crc(&other));
    struct record_snapshot snapshot = {.key = SLICE_LITERAL("k"), .version = 1, .data = SLICE_LITERAL("d")},
                           later = snapshot;
    later.version = 2;
    assert_int_not_equal(record_snapshot_crc(&snapshot), record_snapshot_crc(&later));
}

static void summaries_come_back(void **state)
{
    (void)state;
    struct journal_summary summary = {.status = 255, .is_open = true, .messages = UINT32_MAX, .created_ms = UINT64_MAX},
                           back;
    memset(summary.owner, 'o', JOURNAL_OWNER_BYTES_MAX);
    uint8_t bytes[SUMMARY_BYTES_MAX];
    size_t size = summary_encode(&summary, bytes);
    assert_true(size <= sizeof bytes);
    assert_true(summary_decode(slice_of((const char *)bytes, size), &back));
    assert_memory_equal(&back, &summary, sizeof back);
}

static void heads_come_back(void **state)
{
    (void)state;
    struct record_head head = {.key = SLICE_LITERAL("k"),
                               .offset = 300,
                               .version = UINT64_C(1) << 40,
                               .record_count = 7,
                               .summary = {.status = 3, .is_open = true, .messages = 9, .owner = "bot"}};
    head.crc = record_head_crc(&head);
    uint8_t bytes[RECORD_HEAD_BYTES_MAX];
    size_t size = record_head_encode(&head, bytes);
    struct record_head back = record_head_decode(head.key, slice_of((const char *)bytes, size));
    assert_int_equal(back.crc, record_head_crc(&back));
    assert_int_equal(back.crc, head.crc);
    assert_int_equal(back.offset, head.offset);
    assert_int_equal(back.version, head.version);
    assert_int_equal(back.record_count, head.record_count);
    assert_memory_equal(&back.summary, &head.summary, sizeof head.summary);
    /* Cut or changed anywhere, its checksum does not hold. */
    for (size_t cut = 0; cut < size; cut++) {
        back = record_head_decode(head.key, slice_of((const char *)bytes, cut));
        assert_int_not_equal(back.crc, record_head_crc(&back));
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        back = record_head_decode(head.key, slice_of((const char *)bytes, size));
        assert_int_not_equal(back.crc, record_head_crc(&back));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void foreign_summaries_are_refused(void **state)
{
    (void)state;
    struct journal_summary summary;
    char long_owner[5 + JOURNAL_OWNER_BYTES_MAX + 1] = {0};
    assert_false(summary_decode(slice_of("", 0), &summary));
    assert_false(summary_decode(slice_of("\0", 1), &summary));
    assert_false(summary_decode(slice_of("\0\0\0\0", 4), &summary));
    assert_false(summary_decode(slice_of("\0\2\0\0\0", 5), &summary));
    assert_false(summary_decode(slice_of("\0\0\xff\xff\xff\xff\x7f\0\0", 9), &summary)); /* over 32 bits of messages */
    assert_false(summary_decode(slice_of(long_owner, sizeof long_owner), &summary));
    assert_true(summary_decode(slice_of("\0\0\0\0\0", 5), &summary));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_crc32c_of_the_documented_bytes),
        cmocka_unit_test(every_bit_of_a_record_counts),
        cmocka_unit_test(bytes_cannot_move_between_columns),
        cmocka_unit_test(heads_and_snapshots_have_theirs),
        cmocka_unit_test(summaries_come_back),
        cmocka_unit_test(heads_come_back),
        cmocka_unit_test(foreign_summaries_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
