/* SPDX-License-Identifier: Apache-2.0 */
/* heads: lookup, the two views, and sweeps against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/heads.h"

static struct heads *heads;
static bool is_whole;

static int setup(void **state)
{
    (void)state;
    return heads_create(&heads) == OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    heads_destroy(heads);
    return 0;
}

static struct slice key_of(uint32_t index)
{
    static char key[32];
    snprintf(key, sizeof key, "tenant-%u/%u", index % 3, index * 7919 % 100000);
    return slice_from_text(key);
}

static struct head_entry *add(uint32_t index)
{
    struct head_entry *entry = heads_add(heads, key_of(index), NULL);
    assert_non_null(entry);
    return entry;
}

static void publish(struct head_entry *entry, uint64_t offset, uint64_t version)
{
    struct journal_summary summary = {.status = 1};
    heads_lock(heads);
    heads_publish(heads, entry, offset, version, 1, &summary);
    heads_unlock(heads);
}

static void entries_are_found_while_the_table_grows(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_null(heads_find(heads, key_of(i)));
        publish(add(i), i + 1, i + 1);
    }
    assert_int_equal(heads_dirty_count(heads), COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct record_head head;
        heads_lock(heads);
        assert_true(heads_peek(heads, key_of(i), &head));
        heads_unlock(heads);
        assert_int_equal(head.offset, i + 1);
    }
    assert_null(heads_find(heads, slice_from_text("tenant-9/1")));
}

static void a_row_of_the_table_is_the_first_view(void **state)
{
    (void)state;
    struct record_head row = {.offset = 5, .version = 6, .record_count = 7}, head;
    assert_non_null(heads_add(heads, slice_from_text("k"), &row));
    assert_int_equal(heads_dirty_count(heads), 0);
    assert_true(heads_peek(heads, slice_from_text("k"), &head));
    assert_int_equal(head.offset, 5);
    assert_int_equal(head.version, 6);
    assert_int_equal(head.record_count, 7);
}

static void a_sweep_gives_all_in_key_order(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    char previous[64] = "";
    for (uint32_t i = 0; i < COUNT; i++)
        publish(add(i), i + 1, 1);
    assert_int_equal(heads_sweep_start(heads, COUNT), OK);
    uint32_t seen = 0;
    while (heads_sweep_is_active(heads)) {
        uint32_t left = heads_sweep_left(heads), batch = left < 37 ? left : 37;
        for (uint32_t i = 0; i < batch; i++) {
            struct record_head head = heads_sweep_peek(heads, i, &is_whole);
            char key[64] = "";
            memcpy(key, head.key.data, head.key.size);
            assert_true(strcmp(key, previous) > 0);
            strcpy(previous, key);
            seen++;
        }
        heads_sweep_advance(heads, batch);
    }
    assert_int_equal(seen, COUNT);
    assert_int_equal(heads_sweep_floor(heads), COUNT);
    assert_int_equal(heads_dirty_count(heads), 0);
}

static void keys_that_are_prefixes_sort_before(void **state)
{
    (void)state;
    static const char *const keys[] = {"ab", "a", "abc", "abcdefghijk", "abcdefghij", "b", "abcdefghijka"};
    for (int i = 0; i < 7; i++)
        publish(heads_add(heads, slice_from_text(keys[i]), NULL), 1, 1);
    assert_int_equal(heads_sweep_start(heads, 1), OK);
    static const char *const sorted[] = {"a", "ab", "abc", "abcdefghij", "abcdefghijk", "abcdefghijka", "b"};
    for (uint32_t i = 0; i < 7; i++)
        assert_true(slice_has_text(heads_sweep_peek(heads, i, &is_whole).key, sorted[i]));
}

static void sweep_all(uint64_t floor, uint32_t expected)
{
    assert_int_equal(heads_sweep_start(heads, floor), OK);
    assert_int_equal(heads_sweep_left(heads), expected);
    heads_sweep_advance(heads, expected);
    assert_false(heads_sweep_is_active(heads));
    assert_int_equal(heads_dirty_count(heads), 0);
}

static void clean_entries_are_freed_and_dirty_ones_stay(void **state)
{
    (void)state;
    struct head_entry *busy = add(1), *idle = add(2);
    publish(busy, 1, 1);
    publish(idle, 2, 1);
    sweep_all(2, 2);
    assert_ptr_equal(heads_find(heads, key_of(1)), busy);
    assert_ptr_equal(heads_find(heads, key_of(2)), idle);
    publish(busy, 3, 2);
    heads_free_clean(heads);
    assert_ptr_equal(heads_find(heads, key_of(1)), busy);
    assert_null(heads_find(heads, key_of(2)));
    sweep_all(3, 1);
    heads_free_clean(heads);
    assert_null(heads_find(heads, key_of(1)));
}

static void an_owner_too_long_for_an_entry_is_said_to_be_missing(void **state)
{
    (void)state;
    struct journal_summary summary = {.status = 7, .owner = "twenty-bytes-of-name"};
    struct head_entry *entry = add(1);
    for (int i = 0; i < 2; i++) { /* and no trace of it is left in the next */
        heads_publish(heads, entry, 1, 1, 1, &summary);
        assert_int_equal(heads_sweep_start(heads, 1), OK);
        struct record_head head = heads_sweep_peek(heads, 0, &is_whole);
        assert_int_equal(is_whole, i == 1);
        assert_int_equal(head.summary.status, 7);
        assert_string_equal(head.summary.owner, i == 1 ? "nineteen-bytes-long" : "");
        heads_sweep_advance(heads, 1);
        strcpy(summary.owner, "nineteen-bytes-long");
    }
}

static void keys_of_every_length_have_room(void **state)
{
    (void)state;
    static char key[JOURNAL_KEY_BYTES_MAX];
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size <= sizeof key; size++) {
            memset(key, (int)size, size);
            struct head_entry *entry = heads_add(heads, slice_of(key, size), NULL);
            assert_non_null(entry);
            publish(entry, size, size);
        }
        for (size_t size = 1; size <= sizeof key; size++) {
            struct record_head head;
            memset(key, (int)size, size);
            assert_true(heads_peek(heads, slice_of(key, size), &head));
            assert_int_equal(head.offset, size);
        }
        sweep_all(1, sizeof key);
        heads_free_clean(heads); /* the next round takes them again */
    }
}

static void what_becomes_dirty_again_is_in_the_next_sweep(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        publish(add(i), i + 1, 1);
    assert_int_equal(heads_sweep_start(heads, 10), OK);
    struct record_head first = heads_sweep_peek(heads, 0, &is_whole);
    char key[64] = "";
    memcpy(key, first.key.data, first.key.size);
    heads_sweep_advance(heads, 1);
    publish(heads_find(heads, slice_from_text(key)), 11, 2);
    heads_sweep_advance(heads, 9);
    assert_int_equal(heads_dirty_count(heads), 1);
    assert_int_equal(heads_sweep_start(heads, 11), OK);
    assert_int_equal(heads_sweep_left(heads), 1);
    assert_true(slice_has_text(heads_sweep_peek(heads, 0, &is_whole).key, key));
}

static void an_emptied_key_reads_as_none(void **state)
{
    (void)state;
    struct head_entry *entry = add(1);
    struct record_head head;
    publish(entry, 1, 1);
    heads_lock(heads);
    heads_publish(heads, entry, 0, 0, 0, NULL);
    heads_unlock(heads);
    assert_true(heads_peek(heads, key_of(1), &head));
    assert_int_equal(head.version, 0);
    assert_int_equal(head.summary.status, 0);
    assert_int_equal(heads_dirty_count(heads), 1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(entries_are_found_while_the_table_grows),
        TEST(a_row_of_the_table_is_the_first_view),
        TEST(a_sweep_gives_all_in_key_order),
        TEST(keys_that_are_prefixes_sort_before),
        TEST(clean_entries_are_freed_and_dirty_ones_stay),
        TEST(an_owner_too_long_for_an_entry_is_said_to_be_missing),
        TEST(keys_of_every_length_have_room),
        TEST(what_becomes_dirty_again_is_in_the_next_sweep),
        TEST(an_emptied_key_reads_as_none),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
