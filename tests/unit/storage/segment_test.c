/* SPDX-License-Identifier: Apache-2.0 */
/* segment: records come back in order, erased ones keep their place, and bytes that are no segment are never read beyond. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/segment.h"

static struct buffer segment;

static int setup(void **state)
{
    (void)state;
    buffer_init(&segment, 2 * JOURNAL_RECORD_BYTES_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buffer_deinit(&segment);
    return 0;
}

static struct record make_record(uint64_t offset, struct slice data)
{
    struct record record = {.offset = offset,
                            .key = SLICE_LITERAL("tenant/one"),
                            .number = (uint32_t)offset,
                            .first_version = 300 * offset,
                            .event_count = 3,
                            .summary = SLICE_LITERAL("summary"),
                            .back = SLICE_LITERAL("back"),
                            .data = data};
    record.crc = record_crc(&record);
    return record;
}

static void append(uint64_t offset, struct slice data)
{
    struct record record = make_record(offset, data);
    segment_append(&segment, &record);
}

static void assert_record(const struct record *record, uint64_t offset, struct slice data)
{
    struct record expected = make_record(offset, data);
    assert_int_equal(record->offset, offset);
    assert_int_equal(record->number, expected.number);
    assert_int_equal(record->first_version, expected.first_version);
    assert_int_equal(record->event_count, expected.event_count);
    assert_true(slice_is_equal(record->key, expected.key));
    assert_true(slice_is_equal(record->summary, expected.summary));
    assert_true(slice_is_equal(record->back, expected.back));
    assert_true(slice_is_equal(record->data, data));
    assert_int_equal(record->crc, record_crc(record));
}

static void the_bytes_are_the_documented_ones(void **state)
{
    (void)state;
    struct record record = {.number = 200,
                            .first_version = 5,
                            .event_count = 1,
                            .key = SLICE_LITERAL("k"),
                            .summary = SLICE_LITERAL("su"),
                            .back = SLICE_LITERAL(""),
                            .data = SLICE_LITERAL("data"),
                            .crc = 0x04030201};
    segment_append(&segment, &record);
    static const uint8_t expected[] = {18, 1, 2, 3, 4, 0xc8, 0x01, 5, 1, 1, 2, 0, 'k', 's', 'u', 'd', 'a', 't', 'a'};
    assert_int_equal(segment.size, sizeof expected);
    assert_memory_equal(segment.data, expected, sizeof expected);
}

static void records_come_back_in_order(void **state)
{
    (void)state;
    static char large[JOURNAL_RECORD_BYTES_MAX];
    const struct slice datas[] = {SLICE_LITERAL("one"), SLICE_LITERAL(""), slice_of(large, sizeof large)};
    for (uint64_t i = 0; i < 3; i++)
        append(41 + i, datas[i]);
    struct segment_walk walk = segment_begin(41, buffer_slice(&segment));
    struct record record;
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(segment_next(&walk, &record), OK);
        assert_record(&record, 41 + i, datas[i]);
    }
    assert_int_equal(segment_next(&walk, &record), ERR_NOT_FOUND);
    assert_int_equal(walk.offset, 43);
}

static void a_page_is_filled_and_not_overrun(void **state)
{
    (void)state;
    static char large[JOURNAL_RECORD_BYTES_MAX];
    struct record record = make_record(1, slice_of(large, sizeof large));
    assert_true(segment_has_room(0, &record));
    assert_false(segment_has_room(1, &record));
    record = make_record(1, slice_of(large, 300));
    while (segment_has_room(segment.size, &record))
        segment_append(&segment, &record);
    assert_in_range(segment.size, SEGMENT_BYTES_MAX - 450, SEGMENT_BYTES_MAX);
}

static void an_erased_record_keeps_its_place(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 3; i++)
        append(i, SLICE_LITERAL("SECRET"));
    struct record record;
    for (uint64_t erased = 1; erased <= 3; erased++) {
        assert_true(segment_is_alive(buffer_slice(&segment)));
        struct segment_walk walk = segment_begin(1, buffer_slice(&segment));
        for (uint64_t i = 1; i <= 3; i++) {
            assert_int_equal(segment_next(&walk, &record), OK);
            assert_int_equal(record.offset, i);
            assert_int_equal(record.number > 0, i >= erased);
            if (i == erased)
                segment_erase(&walk);
            else if (i > erased)
                assert_record(&record, i, SLICE_LITERAL("SECRET"));
        }
    }
    assert_false(segment_is_alive(buffer_slice(&segment)));
    assert_null(memmem(segment.data, segment.size, "SECRET", 6));
}

static void a_rest_that_cannot_be_read_is_erased_whole(void **state)
{
    (void)state;
    append(1, SLICE_LITERAL("fine"));
    size_t first_size = segment.size;
    append(2, SLICE_LITERAL("SECRET"));
    segment.data[first_size] = 127; /* its size */
    struct segment_walk walk = segment_begin(1, buffer_slice(&segment));
    struct record record;
    assert_int_equal(segment_next(&walk, &record), OK);
    assert_int_equal(segment_next(&walk, &record), ERR_STORAGE_CORRUPT);
    assert_int_equal(walk.offset, 2);
    assert_int_equal(segment_next(&walk, &record), ERR_NOT_FOUND);
    segment_erase(&walk);
    assert_null(memmem(segment.data, segment.size, "SECRET", 6));
    walk = segment_begin(1, buffer_slice(&segment));
    assert_int_equal(segment_next(&walk, &record), OK);
    assert_record(&record, 1, SLICE_LITERAL("fine"));
    assert_int_equal(segment_next(&walk, &record), ERR_NOT_FOUND);
}

/* Under AddressSanitizer in a block of its exact size. */
static void no_flipped_byte_leads_astray(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 4; i++)
        append(i, SLICE_LITERAL("data"));
    uint8_t *copy = malloc(segment.size);
    for (size_t at = 0; at < segment.size; at++) {
        for (int value = 0; value < 256; value++) {
            memcpy(copy, segment.data, segment.size);
            copy[at] = (uint8_t)value;
            struct segment_walk walk = segment_begin(1, slice_of((const char *)copy, segment.size));
            struct record record;
            uint32_t whole = 0;
            enum err err;
            while ((err = segment_next(&walk, &record)) == OK)
                whole += record.number > 0 && record.crc == record_crc(&record) && record.offset == walk.offset;
            assert_true(whole <= 4);
            assert_true(whole < 4 || copy[at] == (uint8_t)segment.data[at]);
        }
    }
    free(copy);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_bytes_are_the_documented_ones),          TEST(records_come_back_in_order),
        TEST(a_page_is_filled_and_not_overrun),           TEST(an_erased_record_keeps_its_place),
        TEST(a_rest_that_cannot_be_read_is_erased_whole), TEST(no_flipped_byte_leads_astray),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
