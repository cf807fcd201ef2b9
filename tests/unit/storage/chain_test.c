/* SPDX-License-Identifier: Apache-2.0 */
/* chain: against a model that keeps every record in an array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/chain.h"

enum { RECORDS = 5000 };

struct modelled {
    uint64_t offset, first_version, last_version;
    uint8_t back[CHAIN_BYTES_MAX];
    size_t back_size;
};

static struct modelled records[RECORDS + 1];
static struct journal_head last_head;

static uint64_t random_state = 7;
static uint64_t draw(uint64_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % bound;
}

static int build(void **state)
{
    (void)state;
    struct journal_head head = {0};
    for (uint32_t number = 1; number <= RECORDS; number++) {
        uint64_t offset = head.offset + 1 + draw(1000);
        uint32_t event_count = (uint32_t)(1 + draw(draw(10) == 0 ? 100 : 3));
        struct modelled *record = &records[number];
        record->offset = offset;
        record->first_version = head.version + 1;
        record->last_version = head.version + event_count;
        record->back_size = chain_encode(&head, offset, record->back);
        assert_true(record->back_size <= CHAIN_BYTES_MAX);
        chain_push(&head, offset, event_count);
    }
    last_head = head;
    return 0;
}

static struct slice back_of(const struct modelled *record)
{
    return slice_of((const char *)record->back, record->back_size);
}

static struct modelled *record_at(uint64_t offset)
{
    uint32_t low = 1, high = RECORDS;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (records[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    assert_int_equal(records[low].offset, offset);
    return &records[low];
}

static void head_carries_the_path_of_its_last_record(void **state)
{
    (void)state;
    struct journal_head head = {0};
    for (uint32_t number = 1; number <= RECORDS; number++) {
        chain_push(&head, records[number].offset, (uint32_t)(records[number].last_version - head.version));
        uint32_t at = number;
        for (uint32_t i = head.back_count; i > 0; i--) {
            assert_int_equal(head.back[i - 1].offset, records[at].offset);
            assert_int_equal(head.back[i - 1].last_version, records[at].last_version);
            at -= at & -at;
        }
        assert_int_equal(at, 0);
    }
}

static void decode_gives_the_head_before_the_record(void **state)
{
    (void)state;
    struct journal_head expected = {0}, head;
    for (uint32_t number = 1; number <= RECORDS; number++) {
        struct modelled *record = &records[number];
        assert_true(chain_decode(back_of(record), number, record->offset, record->first_version, &head));
        assert_int_equal(head.version, expected.version);
        assert_int_equal(head.offset, expected.offset);
        assert_int_equal(head.record_count, expected.record_count);
        assert_int_equal(head.back_count, expected.back_count);
        assert_memory_equal(head.back, expected.back, expected.back_count * sizeof expected.back[0]);
        chain_push(&expected, record->offset, (uint32_t)(record->last_version - expected.version));
    }
}

static void every_version_is_found_in_logarithmic_reads(void **state)
{
    (void)state;
    uint32_t reads_max = 0;
    for (uint64_t version = 1; version <= last_head.version; version++) {
        struct journal_head head = last_head;
        uint32_t reads = 0;
        for (;;) {
            const struct journal_back *place = chain_find(&head, version);
            assert_non_null(place);
            struct modelled *record = record_at(place->offset);
            reads++;
            if (record->first_version <= version) {
                assert_true(record->last_version >= version);
                break;
            }
            uint32_t number = (uint32_t)(record - records);
            assert_true(chain_decode(back_of(record), number, record->offset, record->first_version, &head));
        }
        reads_max = reads > reads_max ? reads : reads_max;
    }
    assert_true(reads_max <= 14); /* 1 + log2(5000) */
    assert_null(chain_find(&last_head, last_head.version + 1));
}

static void foreign_bytes_are_refused(void **state)
{
    (void)state;
    struct journal_head head = {.version = 99};
    struct modelled *record = &records[8]; /* carries the path of 7: three places */
    struct slice back = back_of(record);
    assert_false(chain_decode(slice_of(back.data, back.size - 1), 8, record->offset, record->first_version, &head));
    assert_false(chain_decode(back, 9, record->offset, record->first_version, &head));
    assert_false(chain_decode(back, 7, record->offset, record->first_version, &head));
    assert_false(chain_decode(back, 0, record->offset, record->first_version, &head));
    assert_false(chain_decode(back, 8, 3, record->first_version, &head));
    assert_false(chain_decode(back, 8, record->offset, 2, &head));
    assert_false(chain_decode(back, 8, record->offset, 0, &head));
    assert_false(chain_decode(slice_of("", 0), 1, 10, 2, &head)); /* a first record begins at version 1 */
    assert_true(head.version == 99);
    assert_true(chain_decode(slice_of("", 0), 1, 10, 1, &head));
    assert_int_equal(head.version, 0);
}

static void random_bytes_never_decode_to_a_path_that_rises(void **state)
{
    (void)state;
    uint32_t accepted = 0;
    for (int i = 0; i < 200000; i++) {
        uint8_t bytes[32];
        size_t size = draw(sizeof bytes);
        for (size_t j = 0; j < size; j++)
            bytes[j] = (uint8_t)(draw(4) ? draw(4) : draw(256));
        struct journal_head head;
        if (!chain_decode(slice_of((const char *)bytes, size), (uint32_t)(1 + draw(64)), 1000, 1 + draw(500), &head))
            continue;
        accepted++;
        for (uint32_t j = 1; j < head.back_count; j++) {
            assert_true(head.back[j - 1].offset < head.back[j].offset);
            assert_true(head.back[j - 1].last_version < head.back[j].last_version);
        }
    }
    assert_true(accepted > 0);
}

static void varints_have_one_reading(void **state)
{
    (void)state;
    const uint64_t values[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        uint8_t bytes[VARINT_BYTES_MAX + 1];
        size_t size = varint_encode(values[i], bytes);
        uint64_t value;
        const uint8_t *at = bytes;
        assert_true(varint_decode(&at, bytes + size, &value));
        assert_true(value == values[i] && at == bytes + size);
        at = bytes;
        assert_false(varint_decode(&at, bytes + size - 1, &value));
    }
    const uint8_t over[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    const uint8_t *at = over;
    uint64_t value;
    assert_false(varint_decode(&at, over + sizeof over, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_carries_the_path_of_its_last_record),
        cmocka_unit_test(decode_gives_the_head_before_the_record),
        cmocka_unit_test(every_version_is_found_in_logarithmic_reads),
        cmocka_unit_test(foreign_bytes_are_refused),
        cmocka_unit_test(random_bytes_never_decode_to_a_path_that_rises),
        cmocka_unit_test(varints_have_one_reading),
    };
    return cmocka_run_group_tests(tests, build, NULL);
}
