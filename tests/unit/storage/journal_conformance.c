/* SPDX-License-Identifier: Apache-2.0 */
/* journal_conformance: the seventeen cases of Pekko's JournalSpec in our terms (marked P1 to P17), then what it does not ask. */
#include "tests/unit/storage/journal_conformance.h"

#include "storage/journal_internal.h"

static struct kit *(*make_kit)(void);

static int setup(void **state)
{
    struct error error = {0};
    struct kit *kit = make_kit();
    kit->options.tail_records_max = 64; /* small, so that heads are swept while tests run */
    if (kit_open(kit, &error) != OK)
        fail_msg("%s", error.text);
    *state = kit;
    return 0;
}

static int teardown(void **state)
{
    kit_destroy(*state);
    return 0;
}

/* Five records a-1 .. a-5 of one event each, as JournalSpec has them. */
static struct journal_head write_five(struct kit *kit)
{
    struct journal_head head = {0};
    static const char *const texts[] = {"a-1", "a-2", "a-3", "a-4", "a-5"};
    for (int i = 0; i < 5; i++)
        assert_int_equal(kit_append(kit, "a", &head, texts[i]), OK);
    assert_int_equal(head.version, 5);
    return head;
}

static void assert_page(struct kit *kit, uint64_t after, uint64_t until, uint32_t count_max, uint64_t first,
                        uint32_t count)
{
    struct journal_read read;
    assert_int_equal(kit_read(kit, "a", after, until, count_max, &read), OK);
    assert_int_equal(read.record_count, count);
    for (uint32_t i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof text, "a-%u", (unsigned)(first + i));
        assert_int_equal(read.records[i].first_version, first + i);
        kit_assert_slice(read.records[i].data, text);
    }
    journal_release(read.memory);
}

/* ---- JournalSpec ------------------------------------------------------------------------------------------------------ */

static void p1_all_records_are_replayed(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, 5);
    kit_assert_slice(load.records[0].data, "a-1");
    kit_assert_slice(load.records[4].data, "a-5");
    assert_int_equal(load.head.version, 5);
    assert_memory_equal(&load.head, &head, offsetof(struct journal_head, back) + head.back_count * sizeof head.back[0]);
    journal_release(load.memory);
}

static void p2_to_p10_replay_keeps_its_bounds(void **state)
{
    struct kit *kit = *state;
    (void)write_five(kit);
    assert_page(kit, 2, 0, UINT32_MAX, 3, 3); /* P2 lower */
    assert_page(kit, 0, 2, UINT32_MAX, 1, 2); /* P3 upper */
    assert_page(kit, 0, 0, 2, 1, 2);          /* P4 count */
    assert_page(kit, 1, 3, UINT32_MAX, 2, 2); /* P5 lower and upper */
    assert_page(kit, 1, 5, 2, 2, 2);          /* P6 all three */
    assert_page(kit, 1, 2, UINT32_MAX, 2, 1); /* P7 lower equals upper */
    assert_page(kit, 3, 0, 1, 4, 1);          /* P8 a single one */
    assert_page(kit, 1, 0, 0, 0, 0);          /* P9 none */
    assert_page(kit, 3, 2, UINT32_MAX, 0, 0); /* P10 lower beyond upper */
    assert_page(kit, 5, 0, 9, 0, 0);
    assert_page(kit, UINT64_MAX, 0, 9, 0, 0);
}

static void p11_an_unknown_key_has_nothing(void **state)
{
    struct kit *kit = *state;
    struct journal_load load;
    struct journal_read read;
    (void)write_five(kit);
    assert_int_equal(kit_load(kit, "b", &load), ERR_NOT_FOUND);
    assert_null(load.memory);
    assert_int_equal(kit_read(kit, "b", 0, 0, 10, &read), ERR_NOT_FOUND);
}

static void p12_erased_records_are_not_replayed(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit);
    struct journal_load load;
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    assert_int_equal(head.version, 0);
    assert_int_equal(head.back_count, 0);
    assert_int_equal(kit_load(kit, "a", &load), ERR_NOT_FOUND);
    kit_reopen(kit);
    assert_int_equal(kit_load(kit, "a", &load), ERR_NOT_FOUND);
}

static void p13_p14_offsets_rise_over_erasure_and_restart(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit);
    uint64_t last = head.offset;
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    kit_reopen(kit);
    assert_int_equal(kit_append(kit, "a", &head, "again"), OK);
    assert_int_equal(head.version, 1);
    assert_true(head.offset > last);
    last = head.offset;
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    kit_crash(kit);
    struct error error;
    assert_int_equal(kit_open(kit, &error), OK);
    assert_int_equal(kit_append(kit, "a", &head, "and again"), OK);
    assert_true(head.offset > last);
}

static void p15_what_cannot_be_stored_is_refused_alone(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0}, other = {0};
    static char big[JOURNAL_RECORD_BYTES_MAX + 1], long_key[JOURNAL_KEY_BYTES_MAX + 1];
    memset(long_key, 'k', sizeof long_key);
    struct journal_append good[2] = {kit_make_append("a", &head, 0, "one"), kit_make_append("a", &head, 1, "two")};
    struct journal_append bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = kit_make_append("b", &other, 0, "x");
    bad[0].event_count = 0;
    bad[1].key = slice_of("", 0);
    bad[2].key = slice_of(long_key, sizeof long_key);
    bad[3].data = slice_of(big, sizeof big);
    bad[4].expected_version = 7;
    bad[5].summary.updated_ms = UINT64_MAX;
    const enum err expected[] = {ERR_INVALID, ERR_INVALID, ERR_LIMIT, ERR_LIMIT, ERR_STALE, ERR_INVALID};
    KIT_SUBMIT(kit, &good[0], MSG_JOURNAL_APPEND);
    for (int i = 0; i < 6; i++)
        KIT_SUBMIT(kit, &bad[i], MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &good[1], MSG_JOURNAL_APPEND);
    kit_settle(kit);
    assert_int_equal(good[0].result, OK);
    assert_int_equal(good[1].result, OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(bad[i].result, expected[i]);
    assert_int_equal(kit_stats(kit).groups, 1);
    assert_int_equal(other.version, 0);
    /* The largest of each is taken. */
    struct journal_append largest = kit_make_append("", &other, 0, "");
    largest.key = slice_of(long_key, JOURNAL_KEY_BYTES_MAX);
    largest.data = slice_of(big, JOURNAL_RECORD_BYTES_MAX);
    assert_int_equal(kit_append_request(kit, &largest), OK);
    /* A group of refused ones costs no flush. */
    uint64_t flushes = kit_stats(kit).flushes;
    assert_int_equal(kit_append_request(kit, &bad[4]), ERR_STALE);
    assert_int_equal(kit_stats(kit).flushes, flushes);
}

static void p16_bytes_come_back_as_they_were(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    static char bytes[70000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 % 256);
    const size_t sizes[] = {0, 1, 300, 4096, sizeof bytes};
    for (int i = 0; i < 5; i++) {
        struct journal_append append = kit_make_append("k\0x\xff", &head, head.version, "");
        append.key = slice_of("k\0x\xff", 4);
        append.data = slice_of(bytes, sizes[i]);
        assert_int_equal(kit_append_request(kit, &append), OK);
    }
    struct journal_load load = {.key = slice_of("k\0x\xff", 4)};
    KIT_SUBMIT(kit, &load, MSG_JOURNAL_LOAD);
    kit_settle(kit);
    assert_int_equal(load.result, OK);
    assert_int_equal(load.record_count, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(load.records[i].data.size, sizes[i]);
        assert_int_equal(memcmp(load.records[i].data.data, bytes, sizes[i]), 0);
    }
    journal_release(load.memory);
}

static void p17_the_summary_comes_back(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct journal_append append = kit_make_append("a", &head, 0, "x");
    append.summary = (struct journal_summary){
        .status = 200, .is_open = true, .messages = UINT32_MAX, .created_ms = 1, .updated_ms = INT64_MAX};
    memset(append.summary.owner, 'o', JOURNAL_OWNER_BYTES_MAX);
    assert_int_equal(kit_append_request(kit, &append), OK);
    for (int i = 0; i < 2; i++) {
        struct journal_load load;
        assert_int_equal(kit_load(kit, "a", &load), OK);
        assert_memory_equal(&load.summary, &append.summary, sizeof append.summary);
        journal_release(load.memory);
        struct journal_list list = {.status = 200, .only_open = true, .owner = slice_from_text(append.summary.owner)};
        assert_int_equal(kit_list(kit, "", "", 10, &list), OK);
        assert_int_equal(list.item_count, 1);
        assert_memory_equal(&list.items[0].summary, &append.summary, sizeof append.summary);
        journal_release(list.memory);
        kit_reopen(kit);
    }
}

/* ---- appends ---------------------------------------------------------------------------------------------------------- */

static void appends_of_one_key_chain_within_a_group(void **state)
{
    struct kit *kit = *state;
    enum { COUNT = 1000 };
    static struct journal_append appends[COUNT];
    struct journal_head head = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        appends[i] = kit_make_append("a", &head, 2 * i, "x");
        appends[i].event_count = 2;
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    uint32_t before = kit->answered;
    kit_settle(kit);
    assert_int_equal(kit_stats(kit).groups, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(appends[i].result, OK);
        assert_ptr_equal(kit->order[before + i], &appends[i]); /* J3 */
    }
    assert_int_equal(head.version, 2 * COUNT);
    assert_int_equal(head.record_count, COUNT);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(load.records[i].first_version, 2 * i + 1);
    journal_release(load.memory);
}

static void many_keys_interleave_in_a_group(void **state)
{
    struct kit *kit = *state;
    enum { KEYS = 10000 };
    static struct journal_append appends[KEYS];
    static struct journal_head heads[KEYS];
    static char keys[KEYS][16];
    memset(heads, 0, sizeof heads);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            snprintf(keys[i], sizeof keys[i], "t/%u", i);
            appends[i] = kit_make_append(keys[i], &heads[i], (uint64_t)round, keys[i]);
            KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
        }
        kit_settle(kit);
        for (uint32_t i = 0; i < KEYS; i++)
            assert_int_equal(appends[i].result, OK);
    }
    assert_int_equal(kit_stats(kit).groups, 2 * 3); /* of 4,096 at most */
    kit_reopen(kit);
    for (uint32_t i = 0; i < KEYS; i += 97) {
        struct journal_load load;
        assert_int_equal(kit_load(kit, keys[i], &load), OK);
        assert_int_equal(load.record_count, 2);
        kit_assert_slice(load.records[1].data, keys[i]);
        journal_release(load.memory);
    }
}

static void of_two_writers_with_one_belief_one_wins(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit), rival = head, late = head;
    struct journal_append appends[2] = {kit_make_append("a", &head, 5, "mine"),
                                        kit_make_append("a", &rival, 5, "theirs")};
    KIT_SUBMIT(kit, &appends[0], MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &appends[1], MSG_JOURNAL_APPEND);
    kit_settle(kit);
    assert_int_equal(appends[0].result, OK);
    assert_int_equal(appends[1].result, ERR_STALE);
    assert_int_equal(rival.version, 5);
    assert_int_equal(kit_append(kit, "a", &late, "late"), ERR_STALE);
    /* Also against the table, when memory holds nothing of the key. */
    kit_reopen(kit);
    assert_int_equal(kit_append(kit, "a", &late, "late"), ERR_STALE);
    struct journal_head zero = {0};
    assert_int_equal(kit_append(kit, "a", &zero, "from nothing"), ERR_STALE);
    assert_int_equal(kit_append(kit, "a", &head, "a-7"), OK);
    assert_page(kit, 6, 0, 9, 7, 1);
}

static void a_head_of_a_former_life_is_stale(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0}, former;
    assert_int_equal(kit_append(kit, "a", &head, "first life"), OK);
    former = head;
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    assert_int_equal(kit_append(kit, "a", &former, "ghost"), ERR_STALE);
    assert_int_equal(kit_append(kit, "a", &head, "second life"), OK);
    assert_int_equal(former.version, head.version);
    assert_int_equal(kit_append(kit, "a", &former, "ghost"), ERR_STALE);
    assert_int_equal(kit_append(kit, "a", &head, "on"), OK);
}

static void versions_reach_2_to_the_63(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct journal_append append;
    struct journal_read read;
    for (int i = 0; i < 3; i++) { /* across 2^32 */
        append = kit_make_append("a", &head, head.version, "x");
        append.event_count = UINT32_MAX - 1;
        assert_int_equal(kit_append_request(kit, &append), OK);
    }
    assert_int_equal(kit_read(kit, "a", (uint64_t)UINT32_MAX + 5, 0, 1, &read), OK);
    assert_int_equal(read.record_count, 1);
    assert_int_equal(read.records[0].first_version, (uint64_t)UINT32_MAX);
    journal_release(read.memory);
    /* Nobody appends so long; the border is refused before it is reached. */
    head.version = INT64_MAX - 1;
    append = kit_make_append("a", &head, head.version, "x");
    append.event_count = 2;
    assert_int_equal(kit_append_request(kit, &append), ERR_LIMIT);
    append.event_count = 1;
    assert_int_equal(kit_append_request(kit, &append), ERR_STALE);
}

static void keys_that_join_to_the_same_text_are_apart(void **state)
{
    struct kit *kit = *state;
    struct journal_head one = {0}, two = {0};
    struct journal_append append = kit_make_append("", &one, 0, "one");
    append.key = slice_of("a\0bc", 4);
    assert_int_equal(kit_append_request(kit, &append), OK);
    append = kit_make_append("", &two, 0, "two");
    append.key = slice_of("ab\0c", 4);
    assert_int_equal(kit_append_request(kit, &append), OK);
    assert_int_equal(one.version, 1);
    assert_int_equal(two.version, 1);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "abc", &load), ERR_NOT_FOUND);
    assert_int_equal(kit_load(kit, "a", &load), ERR_NOT_FOUND);
}

/* ---- reads ------------------------------------------------------------------------------------------------------------ */

static void a_read_sees_what_was_answered_before(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    for (uint32_t i = 1; i <= 300; i++) { /* sweeps come and go on the way */
        assert_int_equal(kit_append(kit, "a", &head, "x"), OK);
        struct journal_load load;
        assert_int_equal(kit_load(kit, "a", &load), OK);
        assert_int_equal(load.head.version, i);
        assert_int_equal(load.record_count, i);
        journal_release(load.memory);
        struct journal_list list = {.status = -1};
        assert_int_equal(kit_list(kit, "a", "", 10, &list), OK);
        assert_int_equal(list.items[0].version, i);
        journal_release(list.memory);
    }
    assert_true(kit_stats(kit).heads_offset > 0);
}

static void pages_of_a_long_conversation_join_without_gap(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    static struct journal_append appends[2000];
    for (uint32_t i = 0; i < 2000; i++) {
        appends[i] = kit_make_append("a", &head, 3 * i, "x");
        appends[i].event_count = 3;
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    kit_settle(kit);
    const uint32_t sizes[] = {1, 2, 3, 7, 100, 5999};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t after = sizes[i] < 7 ? 5000 : 0;
        while (after < head.version) {
            struct journal_read read;
            assert_int_equal(kit_read(kit, "a", after, 0, sizes[i], &read), OK);
            assert_true(read.record_count >= 1);
            assert_true(read.records[0].first_version <= after + 1);
            for (uint32_t j = 0; j < read.record_count; j++) {
                assert_true(j == 0 || read.records[j].first_version == after + 1);
                after = read.records[j].first_version + read.records[j].event_count - 1;
            }
            journal_release(read.memory);
        }
        assert_int_equal(after, 6000);
    }
}

static void a_page_ends_at_its_bytes(void **state)
{
    struct kit *kit = *state;
    static char data[700000];
    struct journal_head head = {0};
    for (int i = 0; i < 30; i++) {
        struct journal_append append = kit_make_append("a", &head, head.version, "");
        memset(data, 'a' + i, sizeof data);
        append.data = slice_of(data, sizeof data);
        assert_int_equal(kit_append_request(kit, &append), OK);
    }
    uint64_t after = 0;
    while (after < 30) {
        struct journal_read read;
        assert_int_equal(kit_read(kit, "a", after, 0, 1000, &read), OK);
        assert_int_equal(read.records[0].first_version, after + 1);
        assert_true(read.record_count >= 1 && read.record_count <= 5);
        for (uint32_t i = 0; i < read.record_count; i++) {
            after++;
            assert_int_equal(read.records[i].data.size, sizeof data);
            assert_int_equal(read.records[i].data.data[0], 'a' + (char)after - 1);
            assert_int_equal(read.records[i].data.data[sizeof data - 1], 'a' + (char)after - 1);
        }
        journal_release(read.memory);
    }
    struct journal_load load; /* a load has no such end */
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, 30);
    journal_release(load.memory);
    struct journal_scan scan;
    assert_int_equal(kit_scan(kit, 0, 1000, &scan), OK);
    assert_true(scan.item_count >= 5 && scan.item_count <= 7);
    journal_release(scan.memory);
}

static void an_answer_outlives_what_comes_after_it(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    kit_reopen(kit);
    kit_assert_slice(load.records[2].data, "a-3");
    journal_release(load.memory);
    journal_release(NULL);
}

/* ---- snapshots -------------------------------------------------------------------------------------------------------- */

static void a_load_starts_from_the_newest_snapshot(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit);
    struct journal_load load;
    assert_int_equal(kit_save(kit, "a", 3, "state at 3"), OK);
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.snapshot_version, 3);
    kit_assert_slice(load.snapshot, "state at 3");
    assert_int_equal(load.record_count, 2);
    assert_int_equal(load.records[0].first_version, 4);
    journal_release(load.memory);
    assert_int_equal(kit_save(kit, "a", 5, "state at 5"), OK);
    kit_reopen(kit);
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.snapshot_version, 5);
    assert_int_equal(load.record_count, 0);
    kit_assert_slice(load.snapshot, "state at 5");
    journal_release(load.memory);
    assert_int_equal(kit_append(kit, "a", &load.head, "a-6"), OK); /* the head is whole without records */
    assert_int_equal(head.version, 5);
    assert_page(kit, 4, 0, 9, 5, 2);
}

static void a_snapshot_ahead_of_the_journal_is_refused(void **state)
{
    struct kit *kit = *state;
    (void)write_five(kit);
    assert_int_equal(kit_save(kit, "a", 6, "from the future"), ERR_STALE);
    assert_int_equal(kit_save(kit, "b", 1, "of nobody"), ERR_NOT_FOUND);
    assert_int_equal(kit_save(kit, "a", 0, "of no version"), ERR_INVALID);
    assert_int_equal(kit_save(kit, "", 1, "of no key"), ERR_INVALID);
    static char big[JOURNAL_SNAPSHOT_BYTES_MAX + 1];
    struct journal_save save = {.key = slice_from_text("a"), .version = 1, .data = slice_of(big, sizeof big)};
    KIT_SUBMIT(kit, &save, MSG_JOURNAL_SAVE);
    kit_settle(kit);
    assert_int_equal(save.result, ERR_LIMIT);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.snapshot_version, 0);
    assert_int_equal(load.record_count, 5);
    journal_release(load.memory);
}

static void a_snapshot_shares_the_group_of_its_records(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct journal_append append = kit_make_append("a", &head, 0, "x");
    struct journal_save save = {.key = slice_from_text("a"), .version = 1, .data = slice_from_text("state")};
    KIT_SUBMIT(kit, &append, MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &save, MSG_JOURNAL_SAVE);
    kit_settle(kit);
    assert_int_equal(append.result, OK);
    assert_int_equal(save.result, OK);
    assert_int_equal(kit_stats(kit).flushes, 1);
}

/* ---- erasure ---------------------------------------------------------------------------------------------------------- */

static void erased_bytes_are_in_no_file(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0}, other = {0};
    static char large[20000];
    memset(large, 'z', sizeof large);
    memcpy(large + 10000, "LARGE-SECRET", 12);
    for (int i = 0; i < 100; i++) {
        struct journal_append append = kit_make_append("SECRET-KEY", &head, head.version, "SECRET-BYTES");
        strcpy(append.summary.owner, "SECRET-OWNER");
        if (i % 10 == 0)
            append.data = slice_of(large, sizeof large);
        assert_int_equal(kit_append_request(kit, &append), OK);
        assert_int_equal(kit_append(kit, "other", &other, "public"), OK);
    }
    assert_int_equal(kit_save(kit, "SECRET-KEY", 50, "SECRET-STATE"), OK);
    struct journal_list list = {.status = -1};
    assert_int_equal(kit_list(kit, "", "", 10, &list), OK); /* the table has them now */
    journal_release(list.memory);
    assert_true(kit_file_has(kit, "journal.db", "SECRET") || kit_file_has(kit, "journal.db-wal", "SECRET"));
    assert_int_equal(kit_erase(kit, "SECRET-KEY", &head), OK);
    assert_false(kit_file_has(kit, "journal.db", "SECRET"));
    assert_false(kit_file_has(kit, "journal.db-wal", "SECRET"));
    struct journal_load load;
    assert_int_equal(kit_load(kit, "other", &load), OK);
    assert_int_equal(load.record_count, 100);
    journal_release(load.memory);
    assert_int_equal(kit_erase(kit, "SECRET-KEY", NULL), OK); /* again, and of nothing */
}

/* A listing that looks at thousands of heads goes in slices; what is asked meanwhile does not wait for its end. */
static void a_long_listing_holds_up_no_load(void **state)
{
    enum { COUNT = 6000 };
    struct kit *kit = *state;
    static struct journal_head heads[COUNT];
    static struct journal_append appends[COUNT];
    static char keys[COUNT][8];
    memset(heads, 0, sizeof heads);
    for (int i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "k%05d", i);
        appends[i] = kit_make_append(keys[i], &heads[i], 0, "x");
        appends[i].summary.is_open = i == 10 || i == COUNT - 1;
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    kit_settle(kit);
    struct journal_list list = {.status = -1, .only_open = true, .item_count_max = 10};
    struct journal_load load = {.key = slice_from_text("k00000")};
    KIT_SUBMIT(kit, &list, MSG_JOURNAL_LIST);
    while (worker_step(kit->worker) || journal_write_step(kit->journal))
        ;
    assert_true(journal_read_step(kit->journal));
    KIT_SUBMIT(kit, &load, MSG_JOURNAL_LOAD);
    kit_settle(kit);
    assert_int_equal(load.result, OK);
    assert_int_equal(list.result, OK);
    assert_ptr_equal(kit->order[kit->answered - 1], &list);
    assert_ptr_equal(kit->order[kit->answered - 2], &load);
    assert_int_equal(list.item_count, 2);
    assert_false(list.has_more);
    kit_assert_slice(list.items[0].key, "k00010");
    kit_assert_slice(list.items[1].key, "k05999");
    journal_release(list.memory);
    journal_release(load.memory);
}

static void append_many(struct kit *kit, const char *key, struct journal_head *head, int count, const char *data)
{
    static struct journal_append appends[1000];
    for (int i = 0; i < count; i++) {
        appends[i] = kit_make_append(key, head, head->version + (uint64_t)i, data);
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    kit_settle(kit);
    assert_int_equal(head->version, count);
}

/* One step of the reader; its answers arrive. */
static void read_once(struct kit *kit)
{
    (void)journal_read_step(kit->journal);
    while (worker_step(kit->worker))
        ;
}

/* Many who read long histories at once: a load goes before all of them, and they get on under a stream of loads. */
static void pages_and_loads_do_not_hold_each_other_up(void **state)
{
    enum { PAGES = 40, LOADS = 5 };
    struct kit *kit = *state;
    struct journal_head head = {0}, other = {0};
    static struct journal_read reads[PAGES];
    static struct journal_load first[LOADS], later[PAGES];
    static char text[100001];
    memset(text, 'x', sizeof text - 1);
    append_many(kit, "long", &head, 10, text);
    assert_int_equal(kit_append(kit, "other", &other, "x"), OK);
    uint32_t answered = kit->answered;
    for (int i = 0; i < PAGES; i++) {
        reads[i] = (struct journal_read){.key = SLICE_LITERAL("long"), .event_count_max = 1000};
        KIT_SUBMIT(kit, &reads[i], MSG_JOURNAL_READ);
    }
    for (int i = 0; i < LOADS; i++) {
        first[i] = (struct journal_load){.key = SLICE_LITERAL("other")};
        KIT_SUBMIT(kit, &first[i], MSG_JOURNAL_LOAD);
    }
    read_once(kit);
    for (int i = 0; i < LOADS; i++) {
        assert_ptr_equal(kit->order[answered + (uint32_t)i], &first[i]);
        journal_release(first[i].memory);
    }
    assert_int_equal(kit->answered, answered + LOADS + 1);
    for (int i = 1; i < PAGES; i++) {
        later[i] = (struct journal_load){.key = SLICE_LITERAL("other")};
        KIT_SUBMIT(kit, &later[i], MSG_JOURNAL_LOAD);
        read_once(kit);
        assert_ptr_equal(kit->order[kit->answered - 2], &later[i]);
        assert_ptr_equal(kit->order[kit->answered - 1], &reads[i]);
        journal_release(later[i].memory);
    }
    for (int i = 0; i < PAGES; i++) {
        assert_int_equal(reads[i].result, OK);
        assert_int_equal(reads[i].record_count, 10);
        journal_release(reads[i].memory);
    }
}

/* A group in each step, as under load: the lane is never empty when the writer looks. */
static void a_long_erasure_ends_under_steady_load(void **state)
{
    enum { STEPS_MAX = 20 };
    struct kit *kit = *state;
    struct journal_head head = {0}, other = {0};
    static struct journal_append appends[STEPS_MAX];
    append_many(kit, "long", &head, 1000, "SECRET-RECORD");
    struct journal_erase erase = {.key = slice_from_text("long"), .head = &head};
    KIT_SUBMIT(kit, &erase, MSG_JOURNAL_ERASE);
    int steps = 0;
    while (!kit_is_answered(&erase.msg)) {
        assert_true(steps < STEPS_MAX);
        appends[steps] = kit_make_append("other", &other, (uint64_t)steps, "x");
        KIT_SUBMIT(kit, &appends[steps], MSG_JOURNAL_APPEND);
        (void)journal_write_step(kit->journal);
        while (worker_step(kit->worker))
            ;
        steps++;
    }
    assert_int_equal(erase.result, OK);
    kit_settle(kit);
    assert_false(kit_file_has(kit, "journal.db", "SECRET"));
}

/* While a long conversation is erased, others are served, and its key may begin anew. */
static void a_long_erasure_holds_up_nobody(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0}, other = {0};
    struct journal_load load;
    append_many(kit, "long", &head, 1000, "SECRET-RECORD");
    struct journal_erase erase = {.key = slice_from_text("long"), .head = &head};
    struct journal_append append = kit_make_append("other", &other, 0, "x"),
                          anew = kit_make_append("long", &head, 0, "new");
    KIT_SUBMIT(kit, &erase, MSG_JOURNAL_ERASE);
    KIT_SUBMIT(kit, &append, MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &anew, MSG_JOURNAL_APPEND);
    kit_settle(kit);
    assert_int_equal(erase.result, OK);
    assert_int_equal(append.result, OK);
    assert_int_equal(anew.result, OK);
    assert_ptr_equal(kit->order[kit->answered - 1], &erase);
    assert_int_equal(kit_load(kit, "long", &load), OK);
    assert_int_equal(load.record_count, 1);
    kit_assert_slice(load.records[0].data, "new");
    journal_release(load.memory);
    kit_reopen(kit);
    assert_int_equal(kit_load(kit, "long", &load), OK);
    assert_int_equal(load.record_count, 1);
    journal_release(load.memory);
    assert_false(kit_file_has(kit, "journal.db", "SECRET"));
}

/* Cut short at each of its steps, it is as if it had been done: the key is unknown, and the next start erases what is left. */
static void an_erasure_cut_short_is_gone_on_with(void **state)
{
    struct kit *kit = *state;
    struct journal_load load;
    for (int steps = 1; steps <= 4; steps++) {
        struct journal_head head = {0};
        append_many(kit, "long", &head, 1000, "SECRET-RECORD");
        struct journal_erase erase = {.key = slice_from_text("long"), .head = &head};
        KIT_SUBMIT(kit, &erase, MSG_JOURNAL_ERASE);
        while (worker_step(kit->worker))
            ;
        for (int i = 0; i < steps; i++)
            assert_true(journal_write_step(kit->journal));
        kit_crash(kit);
        assert_int_equal(kit_open(kit, &(struct error){0}), OK);
        assert_int_equal(kit_load(kit, "long", &load), ERR_NOT_FOUND);
        kit_settle(kit);
        struct journal_scan scan;
        assert_int_equal(kit_scan(kit, 0, 10, &scan), OK);
        assert_int_equal(scan.item_count, 0);
        journal_release(scan.memory);
        assert_false(kit_file_has(kit, "journal.db", "SECRET"));
        assert_false(kit_file_has(kit, "journal.db-wal", "SECRET"));
    }
}

static void an_erasure_keeps_its_place_in_the_queue(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0}, other = {0};
    struct journal_append before = kit_make_append("a", &head, 0, "old"), apart = kit_make_append("b", &other, 0, "b");
    struct journal_erase erase = {.key = slice_from_text("a"), .head = &head};
    struct journal_append after = kit_make_append("a", &head, 0, "new");
    KIT_SUBMIT(kit, &before, MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &apart, MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &erase, MSG_JOURNAL_ERASE);
    KIT_SUBMIT(kit, &after, MSG_JOURNAL_APPEND);
    kit_settle(kit);
    assert_int_equal(before.result, OK);
    assert_int_equal(apart.result, OK);
    assert_int_equal(erase.result, OK);
    assert_int_equal(after.result, OK);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, 1);
    kit_assert_slice(load.records[0].data, "new");
    journal_release(load.memory);
}

static void a_snapshot_does_not_outlive_an_erasure(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = write_five(kit);
    assert_int_equal(kit_save(kit, "a", 2, "former life"), OK);
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    assert_int_equal(kit_save(kit, "a", 2, "former life"), ERR_NOT_FOUND);
    for (int i = 0; i < 3; i++)
        assert_int_equal(kit_append(kit, "a", &head, "x"), OK);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.snapshot_version, 0);
    assert_int_equal(load.record_count, 3);
    journal_release(load.memory);
}

/* ---- listings and the bus --------------------------------------------------------------------------------------------- */

static void write_listed(struct kit *kit)
{
    static struct journal_head heads[40];
    memset(heads, 0, sizeof heads);
    for (uint32_t i = 0; i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "%s/%02u", i % 2 ? "acme" : "zeta", i);
        struct journal_append append = kit_make_append(key, &heads[i], 0, "x");
        append.summary.status = (uint8_t)(i % 3);
        append.summary.is_open = i % 5 == 0;
        snprintf(append.summary.owner, sizeof append.summary.owner, "agent-%u", i % 4);
        assert_int_equal(kit_append_request(kit, &append), OK);
    }
}

static uint32_t count_listed(struct kit *kit, struct journal_list list, const char *prefix)
{
    uint32_t count = 0;
    char after[JOURNAL_KEY_BYTES_MAX + 1] = "";
    do {
        struct journal_list page = list;
        assert_int_equal(kit_list(kit, prefix, after, 3, &page), OK);
        for (uint32_t i = 0; i < page.item_count; i++) {
            char key[JOURNAL_KEY_BYTES_MAX + 1] = "";
            memcpy(key, page.items[i].key.data, page.items[i].key.size);
            assert_true(strcmp(key, after) > 0);
            assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
            strcpy(after, key);
            count++;
        }
        journal_release(page.memory);
        list.has_more = page.has_more;
    } while (list.has_more);
    return count;
}

static void listings_filter_and_page(void **state)
{
    struct kit *kit = *state;
    write_listed(kit);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1}, ""), 40);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1}, "acme/"), 20);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1}, "acme/0"), 5);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = 1}, ""), 13);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1, .only_open = true}, ""), 8);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1, .owner = SLICE_LITERAL("agent-3")}, ""), 10);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1, .owner = SLICE_LITERAL("agent-3")}, "zeta"),
                     0);
    assert_int_equal(count_listed(kit, (struct journal_list){.status = -1}, "acme0"), 0);
    struct journal_list list = {.status = -1};
    assert_int_equal(kit_list(kit, "\xff\xff", "", 10, &list), OK);
    assert_int_equal(list.item_count, 0);
    journal_release(list.memory);
    /* A cursor before the prefix begins with the prefix. */
    list = (struct journal_list){.status = -1};
    assert_int_equal(kit_list(kit, "zeta/", "acme/01", 100, &list), OK);
    assert_int_equal(list.item_count, 20);
    assert_false(list.has_more);
    journal_release(list.memory);
}

static void the_bus_has_every_record_in_order(void **state)
{
    struct kit *kit = *state;
    write_listed(kit);
    struct journal_head head = {0};
    struct journal_append append = kit_make_append("acme/multi", &head, 0, "three");
    append.event_count = 3;
    assert_int_equal(kit_append_request(kit, &append), OK);
    uint64_t after = 0;
    uint32_t count = 0;
    for (;;) {
        struct journal_scan scan;
        assert_int_equal(kit_scan(kit, after, 7, &scan), OK);
        if (scan.item_count == 0) {
            journal_release(scan.memory);
            break;
        }
        for (uint32_t i = 0; i < scan.item_count; i++, count++) {
            assert_true(scan.items[i].offset > after);
            after = scan.items[i].offset;
            assert_true(scan.items[i].key.size > 0);
        }
        if (count == 41) {
            assert_int_equal(scan.items[scan.item_count - 1].event_count, 3);
            kit_assert_slice(scan.items[scan.item_count - 1].key, "acme/multi");
            kit_assert_slice(scan.items[scan.item_count - 1].data, "three");
        }
        journal_release(scan.memory);
    }
    assert_int_equal(count, 41);
    assert_int_equal(after, kit_stats(kit).last_offset);
}

/* ---- life ------------------------------------------------------------------------------------------------------------- */

static void close_commits_what_is_queued(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct journal_append appends[3];
    for (uint32_t i = 0; i < 3; i++) {
        appends[i] = kit_make_append("a", &head, i, i == 0 ? "a-1" : i == 1 ? "a-2" : "a-3");
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    struct journal_list list = {.status = -1, .item_count_max = 5};
    KIT_SUBMIT(kit, &list, MSG_JOURNAL_LIST);
    struct journal_load load = {.key = SLICE_LITERAL("a")};
    KIT_SUBMIT(kit, &load, MSG_JOURNAL_LOAD);
    kit_reopen(kit);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(appends[i].result, OK);
    assert_int_equal(list.result, OK);
    assert_int_equal(list.item_count, 1);
    journal_release(list.memory);
    assert_int_equal(load.result, OK);
    journal_release(load.memory);
    assert_page(kit, 0, 0, 9, 1, 3);
}

static void an_abandoned_journal_answers_shutdown(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct journal_append append = kit_make_append("a", &head, 0, "x");
    struct journal_load load = {.key = SLICE_LITERAL("a")};
    struct journal_list list = {.status = -1, .item_count_max = 1};
    KIT_SUBMIT(kit, &append, MSG_JOURNAL_APPEND);
    KIT_SUBMIT(kit, &load, MSG_JOURNAL_LOAD);
    KIT_SUBMIT(kit, &list, MSG_JOURNAL_LIST);
    kit_crash(kit);
    assert_int_equal(append.result, ERR_SHUTDOWN);
    assert_int_equal(load.result, ERR_SHUTDOWN);
    assert_int_equal(list.result, ERR_SHUTDOWN);
    assert_int_equal(head.version, 0);
    struct error error;
    assert_int_equal(kit_open(kit, &error), OK);
    assert_int_equal(kit_load(kit, "a", &load), ERR_NOT_FOUND);
}

static void a_crash_after_the_answer_loses_nothing(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct error error;
    for (uint32_t i = 0; i < 200; i++) {
        char data[16];
        snprintf(data, sizeof data, "a-%u", i + 1);
        assert_int_equal(kit_append(kit, "a", &head, data), OK);
        if (i % 23 == 0) {
            kit_crash(kit);
            assert_int_equal(kit_open(kit, &error), OK);
        }
    }
    assert_page(kit, 0, 0, UINT32_MAX, 1, 200);
}

/* Only a submit that races with the shutdown meets this. */
static void what_comes_after_the_end_is_refused_and_does_not_count(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    struct journal_append append = kit_make_append("a", &head, 0, "x");
    writer_refuse_all(kit->journal, ERR_SHUTDOWN); /* the lane is closed */
    KIT_SUBMIT(kit, &append, MSG_JOURNAL_APPEND);
    while (worker_step(kit->worker))
        ;
    assert_int_equal(append.result, ERR_SHUTDOWN);
    assert_int_equal(journal_appends_waiting(kit->journal), 0);
    kit_crash(kit);
}

int journal_conformance_run(const char *name, struct kit *(*make)(void))
{
    make_kit = make;
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(p1_all_records_are_replayed),
        TEST(p2_to_p10_replay_keeps_its_bounds),
        TEST(p11_an_unknown_key_has_nothing),
        TEST(p12_erased_records_are_not_replayed),
        TEST(p13_p14_offsets_rise_over_erasure_and_restart),
        TEST(p15_what_cannot_be_stored_is_refused_alone),
        TEST(p16_bytes_come_back_as_they_were),
        TEST(p17_the_summary_comes_back),
        TEST(appends_of_one_key_chain_within_a_group),
        TEST(many_keys_interleave_in_a_group),
        TEST(of_two_writers_with_one_belief_one_wins),
        TEST(a_head_of_a_former_life_is_stale),
        TEST(versions_reach_2_to_the_63),
        TEST(keys_that_join_to_the_same_text_are_apart),
        TEST(a_read_sees_what_was_answered_before),
        TEST(pages_of_a_long_conversation_join_without_gap),
        TEST(a_page_ends_at_its_bytes),
        TEST(an_answer_outlives_what_comes_after_it),
        TEST(a_load_starts_from_the_newest_snapshot),
        TEST(a_snapshot_ahead_of_the_journal_is_refused),
        TEST(a_snapshot_shares_the_group_of_its_records),
        TEST(erased_bytes_are_in_no_file),
        TEST(a_long_listing_holds_up_no_load),
        TEST(pages_and_loads_do_not_hold_each_other_up),
        TEST(a_long_erasure_ends_under_steady_load),
        TEST(a_long_erasure_holds_up_nobody),
        TEST(an_erasure_cut_short_is_gone_on_with),
        TEST(an_erasure_keeps_its_place_in_the_queue),
        TEST(a_snapshot_does_not_outlive_an_erasure),
        TEST(listings_filter_and_page),
        TEST(the_bus_has_every_record_in_order),
        TEST(close_commits_what_is_queued),
        TEST(an_abandoned_journal_answers_shutdown),
        TEST(a_crash_after_the_answer_loses_nothing),
        TEST(what_comes_after_the_end_is_refused_and_does_not_count),
    };
#undef TEST
    return _cmocka_run_group_tests(name, tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
