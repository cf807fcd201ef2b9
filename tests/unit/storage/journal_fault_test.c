/* SPDX-License-Identifier: Apache-2.0 */
/* journal under faults: the same small workload again and again, each time with the next I/O cut, failing or refused, until no
 * I/O is left. After each: what was acknowledged is there, once and in order; what was refused is not; what was neither may be
 * either, whole (G1, G2, G4, F1 to F6). The same for SQLite's n-th allocation (F15). */
#include <sqlite3.h>

#include "tests/unit/storage/journal_kit.h"

enum { KEYS = 6, ROUNDS = 25, ENTRIES_MAX = 400, RUNS_MAX = 3000 };

enum fate { FATE_ACKED, FATE_REFUSED, FATE_UNKNOWN };

struct entry {
    uint32_t id;
    enum fate fate;
};

/* What the outside knows of one key. */
struct model_key {
    char key[16];
    struct journal_head head;
    struct entry entries[ENTRIES_MAX];
    uint32_t entry_count;
    bool may_be_erased;
};

struct model {
    struct model_key keys[KEYS];
    uint32_t next_id;
    bool has_failed; /* an answer said so: nothing may be acknowledged after it */
    uint32_t fulls;
};

static struct model model;

static void model_reset(void)
{
    memset(&model, 0, sizeof model);
    for (int i = 0; i < KEYS; i++)
        snprintf(model.keys[i].key, sizeof model.keys[i].key, "t/%d", i);
}

static uint32_t draw(uint64_t *state, uint32_t bound)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % bound;
}

static enum fate fate_of(enum err result)
{
    switch ((int)result) {
    case OK:
        assert_false(model.has_failed); /* G8 */
        return FATE_ACKED;
    case ERR_STORAGE_FULL: model.fulls++; return FATE_REFUSED;
    case ERR_NO_MEMORY:
    case ERR_STALE: return FATE_REFUSED;
    case ERR_SHUTDOWN: return FATE_UNKNOWN;
    case ERR_STORAGE_FAILED: model.has_failed = true; return FATE_UNKNOWN;
    }
    fail_msg("an append was answered %s", err_name(result));
    return FATE_REFUSED;
}

static size_t make_data(uint32_t id, char *ret_data)
{
    size_t size = 20 + id * 37 % 700 + (id % 29 == 0 ? 6000 : 0);
    memset(ret_data, 'a' + (char)(id % 26), size);
    snprintf(ret_data, 16, "%010u", id);
    return size;
}

/* A group of appends, some of one key, now and then a snapshot among them. */
static void round_of_appends(struct kit *kit, uint64_t *random)
{
    enum { GROUP_MAX = 8 };
    static char data[GROUP_MAX][8192];
    struct journal_append appends[GROUP_MAX];
    struct journal_save save;
    int keys[GROUP_MAX];
    uint32_t count = 1 + draw(random, GROUP_MAX), pending[KEYS] = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct model_key *key = &model.keys[keys[i] = (int)draw(random, KEYS)];
        uint32_t id = model.next_id++;
        size_t size = make_data(id, data[i]);
        appends[i] = kit_make_append(key->key, &key->head, key->head.version + pending[keys[i]]++, "");
        appends[i].data = slice_of(data[i], size);
        assert_true(key->entry_count < ENTRIES_MAX);
        key->entries[key->entry_count++] = (struct entry){.id = id};
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    struct model_key *saved = &model.keys[draw(random, KEYS)];
    bool has_save = draw(random, 4) == 0 && saved->head.version > 0;
    if (has_save) {
        save = (struct journal_save){
            .key = slice_from_text(saved->key), .version = saved->head.version, .data = slice_from_text("state")};
        KIT_SUBMIT(kit, &save, MSG_JOURNAL_SAVE);
    }
    kit_settle(kit);
    uint32_t taken[KEYS] = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct model_key *key = &model.keys[keys[i]];
        key->entries[key->entry_count - pending[keys[i]] + taken[keys[i]]++].fate = fate_of(appends[i].result);
    }
}

static uint64_t acked_count(const struct model_key *key)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < key->entry_count; i++)
        count += key->entries[i].fate == FATE_ACKED;
    return count;
}

static void erase_one(struct kit *kit, uint64_t *random)
{
    struct model_key *key = &model.keys[draw(random, KEYS)];
    enum err result = kit_erase(kit, key->key, &key->head);
    if (result == OK || result == ERR_BUSY) {
        assert_false(model.has_failed);
        key->entry_count = 0;
    } else {
        key->may_be_erased = true; /* the transaction may have happened; the flush that proves it failed */
        model.has_failed |= result == ERR_STORAGE_FAILED;
    }
}

static void list_all(struct kit *kit)
{
    struct journal_list list = {.status = -1};
    enum err result = kit_list(kit, "t/", "", 100, &list);
    if (result == OK)
        journal_release(list.memory);
    else
        assert_true(result == ERR_STORAGE_FULL || result == ERR_STORAGE_FAILED || result == ERR_NO_MEMORY);
}

static void workload(struct kit *kit, bool has_erasure)
{
    uint64_t random = 42;
    for (int round = 0; round < ROUNDS && !disk_sim_is_crashed(kit->disk); round++) {
        round_of_appends(kit, &random);
        for (int i = 0; i < KEYS && !model.has_failed; i++) /* a lent head comes back where it belongs */
            if (!model.keys[i].may_be_erased)
                assert_int_equal(model.keys[i].head.version, acked_count(&model.keys[i]));
        if (draw(&random, 6) == 0)
            list_all(kit);
        if (has_erasure && draw(&random, 8) == 0)
            erase_one(kit, &random);
    }
}

/* The records of a key against what is known of it. */
static void check_key(struct kit *kit, struct model_key *key)
{
    static char expected[8192];
    struct journal_load load;
    struct journal_read read;
    enum err result = kit_load(kit, key->key, &load);
    if (result == ERR_NOT_FOUND) {
        assert_true(acked_count(key) == 0 || key->may_be_erased);
        key->head = (struct journal_head){0};
        key->entry_count = 0;
        return;
    }
    assert_int_equal(result, OK);
    assert_true(load.snapshot_version <= load.head.version);
    journal_release(load.memory);
    assert_int_equal(kit_read(kit, key->key, 0, 0, UINT32_MAX, &read), OK);
    assert_int_equal(read.record_count, load.head.version);
    uint32_t at = 0, kept = 0;
    for (uint32_t i = 0; i < read.record_count; i++) {
        const struct journal_record *record = &read.records[i];
        assert_int_equal(record->first_version, i + 1);
        uint32_t id = (uint32_t)strtoul(record->data.data, NULL, 10);
        while (at < key->entry_count && key->entries[at].id != id)
            assert_int_not_equal(key->entries[at++].fate, FATE_ACKED); /* lost */
        assert_true(at < key->entry_count);                            /* else a phantom, a repeat or out of order */
        assert_int_not_equal(key->entries[at].fate, FATE_REFUSED);
        assert_int_equal(record->data.size, make_data(id, expected));
        assert_memory_equal(record->data.data, expected, record->data.size);
        key->entries[kept++] = (struct entry){.id = id, .fate = FATE_ACKED};
        at++;
    }
    while (at < key->entry_count)
        assert_int_not_equal(key->entries[at++].fate, FATE_ACKED); /* lost at the end */
    key->entry_count = kept;
    key->head = load.head;
    journal_release(read.memory);
}

static void check_all(struct kit *kit)
{
    for (int i = 0; i < KEYS; i++) {
        check_key(kit, &model.keys[i]);
        model.keys[i].may_be_erased = false;
    }
    model.has_failed = false;
}

static void open_or_fail(struct kit *kit)
{
    struct error error = {0};
    if (kit_open(kit, &error) != OK)
        fail_msg("open: %s", error.text);
}

/* Power off and on; one time in two the first start is cut as well. */
static void recover(struct kit *kit, uint32_t run)
{
    struct error error;
    kit_crash(kit);
    if (run % 2) {
        disk_sim_schedule(kit->disk, DISK_SIM_CRASH, 1 + run / 2 % 12, 1);
        if (kit_open(kit, &error) == OK)
            kit_crash(kit);
        else
            disk_sim_restart(kit->disk);
    }
    open_or_fail(kit);
}

static struct kit *make(uint32_t seed)
{
    struct kit *kit = kit_create_sim(seed);
    kit->options.tail_records_max = 16;
    model_reset();
    return kit;
}

/* Every run: one fault at I/O `n` from the very creation of the file; then power off; then everything must be right, and the
 * journal must work. Returns: whether the fault was met, i.e. there may be more I/Os. */
static bool run(enum disk_sim_fault fault, uint32_t n, uint64_t count, bool has_erasure)
{
    struct kit *kit = make(n);
    struct error error;
    struct disk_sim_stats stats;
    disk_sim_schedule(kit->disk, fault, n, count);
    enum err opened = kit_open(kit, &error);
    if (opened == OK)
        workload(kit, has_erasure);
    disk_sim_get_stats(kit->disk, &stats);
    bool was_met = stats.faults > 0;
    if (opened == OK) {
        assert_int_equal(kit->failed_calls, kit_stats(kit).is_failed);
        if (fault == DISK_SIM_FULL || fault == DISK_SIM_SHORT_WRITE)
            assert_false(kit_stats(kit).is_failed);
        else if (!disk_sim_is_crashed(kit->disk))
            check_all(kit); /* a failed journal still serves what it acknowledged */
        recover(kit, n);
    } else {
        assert_true(was_met);
        disk_sim_restart(kit->disk);
        open_or_fail(kit);
    }
    check_all(kit);
    workload(kit, false);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(model.keys[i].head.version, model.keys[i].entry_count);
    check_all(kit);
    kit_destroy(kit);
    return was_met;
}

static void run_all(enum disk_sim_fault fault, uint64_t count, bool has_erasure, uint32_t runs_min)
{
    uint32_t n = 1;
    while (n < RUNS_MAX && run(fault, n, count, has_erasure))
        n++;
    if (n < runs_min || n == RUNS_MAX)
        fail_msg("%u runs; expected %u to %u", n, runs_min, RUNS_MAX);
}

static void power_cut_at_every_io(void **state)
{
    (void)state;
    run_all(DISK_SIM_CRASH, 1, false, 100);
}

static void power_cut_at_every_io_with_erasures(void **state)
{
    (void)state;
    run_all(DISK_SIM_CRASH, 1, true, 100);
}

static void failed_write_at_every_io(void **state)
{
    (void)state;
    run_all(DISK_SIM_WRITE_ERROR, 1, false, 100);
}

static void failed_flush_at_every_io(void **state)
{
    (void)state;
    run_all(DISK_SIM_SYNC_ERROR, 1, false, 50);
}

static void full_once_at_every_io(void **state)
{
    (void)state;
    run_all(DISK_SIM_FULL, 1, true, 100);
}

static void full_for_a_while_at_every_io(void **state)
{
    (void)state;
    run_all(DISK_SIM_FULL, 7, false, 100);
}

static void short_write_at_every_io(void **state)
{
    (void)state;
    run_all(DISK_SIM_SHORT_WRITE, 1, false, 100);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

static sqlite3_mem_methods memory_methods;
static uint64_t allocation_count, allocation_failing; /* 0: none */

static bool allocation_fails(void)
{
    return ++allocation_count == allocation_failing;
}

static void *fail_malloc(int size)
{
    return allocation_fails() ? NULL : memory_methods.xMalloc(size);
}

static void *fail_realloc(void *memory, int size)
{
    return allocation_fails() ? NULL : memory_methods.xRealloc(memory, size);
}

/* Before SQLite is used for the first time. */
static void instrument_memory(void)
{
    sqlite3_mem_methods failing;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory_methods) != SQLITE_OK)
        abort();
    failing = memory_methods;
    failing.xMalloc = fail_malloc;
    failing.xRealloc = fail_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) != SQLITE_OK)
        abort();
}

static bool run_without_memory(uint64_t n)
{
    struct kit *kit = make((uint32_t)n);
    struct error error;
    allocation_count = 0;
    allocation_failing = n;
    enum err opened = kit_open(kit, &error);
    if (opened == OK)
        workload(kit, true);
    bool was_met = allocation_count >= n;
    allocation_failing = 0;
    if (opened == OK) {
        assert_int_equal(kit->failed_calls, kit_stats(kit).is_failed);
        recover(kit, (uint32_t)n);
    } else {
        assert_true(was_met);
        open_or_fail(kit);
    }
    check_all(kit);
    workload(kit, false);
    check_all(kit);
    kit_destroy(kit);
    return was_met;
}

static void every_allocation_of_the_engine_may_fail(void **state)
{
    (void)state;
    uint64_t n = 1;
    while (run_without_memory(n))
        n += 1 + n / 100; /* each of the first hundred, then a hundredth further */
    assert_true(n > 300);
}

/* ---- named cases ------------------------------------------------------------------------------------------------------ */

static void a_full_disk_refuses_the_group_and_recovers_alone(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct journal_head head = {0};
    kit->options.tail_records_max = 100000; /* the head stays in memory */
    open_or_fail(kit);
    assert_int_equal(kit_append(kit, "a", &head, "one"), OK);
    disk_sim_set_bytes_max(kit->disk, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kit_append(kit, "a", &head, "two"), ERR_STORAGE_FULL);
        assert_int_equal(head.version, 1);
        assert_true(kit_stats(kit).is_full);
    }
    struct journal_load load; /* reads go on */
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, 1);
    journal_release(load.memory);
    struct journal_list list = {.status = -1}; /* the head cannot be written */
    assert_int_equal(kit_list(kit, "", "", 1, &list), ERR_STORAGE_FULL);
    disk_sim_set_bytes_max(kit->disk, 0);
    assert_int_equal(kit_append(kit, "a", &head, "two"), OK);
    assert_false(kit_stats(kit).is_full);
    assert_int_equal(kit_list(kit, "", "", 1, &list), OK);
    journal_release(list.memory);
    assert_int_equal(kit->failed_calls, 0);
    kit_destroy(kit);
}

/* Full says that nothing happened; once the key is unknown it must not be said. */
static void an_erasure_on_a_full_disk_happened_or_did_not(void **state)
{
    (void)state;
    uint32_t refused = 0, half_done = 0;
    char text[9000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (uint32_t pages = 1; pages < 60; pages++) {
        struct kit *kit = make(pages);
        struct journal_head head = {0};
        struct journal_load load;
        open_or_fail(kit);
        for (int i = 0; i < 5; i++)
            assert_int_equal(kit_append(kit, "a", &head, text), OK);
        disk_sim_set_bytes_max(kit->disk, (uint64_t)pages * 4096);
        enum err result = kit_erase(kit, "a", &head);
        assert_true(result == OK || result == ERR_BUSY || result == ERR_STORAGE_FULL);
        refused += result == ERR_STORAGE_FULL;
        half_done += result == ERR_BUSY;
        assert_int_equal(kit_load(kit, "a", &load), result == ERR_STORAGE_FULL ? OK : ERR_NOT_FOUND);
        if (result == ERR_STORAGE_FULL)
            journal_release(load.memory);
        disk_sim_set_bytes_max(kit->disk, 0);
        assert_int_equal(kit_erase(kit, "a", &head), OK);
        kit_destroy(kit);
    }
    assert_true(refused > 0);
    assert_true(half_done > 0);
}

static void nothing_is_acknowledged_after_a_failed_flush(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct journal_head head = {0}, before;
    struct disk_sim_stats stats, later;
    open_or_fail(kit);
    assert_int_equal(kit_append(kit, "a", &head, "one"), OK);
    before = head;
    disk_sim_schedule(kit->disk, DISK_SIM_SYNC_ERROR, 1, 1); /* once, then success */
    assert_int_equal(kit_append(kit, "a", &head, "two"), ERR_STORAGE_FAILED);
    assert_memory_equal(&head, &before, offsetof(struct journal_head, back));
    assert_int_equal(kit->failed_calls, 1);
    assert_true(strlen(kit->failed_text) > 0);
    disk_sim_get_stats(kit->disk, &stats);
    struct journal_list list = {.status = -1};
    assert_int_equal(kit_append(kit, "a", &head, "two"), ERR_STORAGE_FAILED);
    assert_int_equal(kit_append(kit, "b", &(struct journal_head){0}, "x"), ERR_STORAGE_FAILED);
    assert_int_equal(kit_save(kit, "a", 1, "state"), ERR_STORAGE_FAILED);
    assert_int_equal(kit_erase(kit, "a", NULL), ERR_STORAGE_FAILED);
    assert_int_equal(kit_list(kit, "", "", 1, &list), ERR_STORAGE_FAILED);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, 1);
    journal_release(load.memory);
    assert_int_equal(kit->failed_calls, 1);
    journal_close(kit->journal);
    kit->journal = NULL;
    disk_sim_get_stats(kit->disk, &later);
    assert_int_equal(later.writes, stats.writes); /* not one more byte */
    assert_int_equal(later.syncs, stats.syncs);
    kit_destroy(kit);
}

static void one_flush_a_group_neither_more_nor_less(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    static struct journal_head heads[100];
    static struct journal_append appends[100];
    memset(heads, 0, sizeof heads);
    kit->options.tail_records_max = 100000;
    open_or_fail(kit);
    assert_int_equal(kit_append(kit, "first", &(struct journal_head){0}, "x"), OK); /* the WAL's header has its own */
    struct disk_sim_stats before, after;
    assert_true(disk_sim_get_file_stats(kit->disk, "sim/journal.db-wal", &before));
    for (uint32_t group = 0; group < 20; group++) {
        for (uint32_t i = 0; i < 100; i++) {
            static char keys[100][8];
            snprintf(keys[i], sizeof keys[i], "k%u", i);
            appends[i] = kit_make_append(keys[i], &heads[i], group, "x");
            KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
        }
        kit_settle(kit);
    }
    assert_true(disk_sim_get_file_stats(kit->disk, "sim/journal.db-wal", &after));
    assert_int_equal(after.syncs - before.syncs, 20);
    assert_int_equal(kit_stats(kit).flushes, 21);
    assert_int_equal(kit_stats(kit).groups, 21);
    kit_destroy(kit);
}

/* Bit flips all over the file, one at a time: no byte of a record, snapshot or head is believed that was not written. */
static void no_flipped_bit_is_served(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct error error;
    open_or_fail(kit);
    workload(kit, false);
    struct journal_list list = {.status = -1};
    assert_int_equal(kit_list(kit, "", "", 100, &list), OK);
    journal_release(list.memory);
    kit_reopen(kit); /* everything is in the main file */
    const uint8_t *bytes;
    size_t size;
    assert_true(disk_sim_peek(kit->disk, "sim/journal.db", &bytes, &size));
    static char expected[8192];
    uint32_t detected = 0;
    uint64_t random = 5;
    for (int flip = 0; flip < 1500; flip++) {
        uint64_t bit = (uint64_t)draw(&random, (uint32_t)size) * 8 + draw(&random, 8);
        journal_close(kit->journal);
        kit->journal = NULL;
        disk_sim_flip_bit(kit->disk, "sim/journal.db", bit);
        if (kit_open(kit, &error) != OK) {
            detected++;
        } else {
            for (int i = 0; i < KEYS; i++) {
                struct model_key *key = &model.keys[i];
                struct journal_read read;
                enum err result = kit_read(kit, key->key, 0, 0, UINT32_MAX, &read);
                assert_true(result == OK || result == ERR_STORAGE_CORRUPT || result == ERR_NOT_FOUND);
                detected += result != OK;
                if (result != OK)
                    continue;
                assert_int_equal(read.record_count, key->entry_count);
                for (uint32_t j = 0; j < read.record_count; j++) {
                    assert_int_equal(read.records[j].data.size, make_data(key->entries[j].id, expected));
                    assert_memory_equal(read.records[j].data.data, expected, read.records[j].data.size);
                }
                journal_release(read.memory);
            }
            journal_abandon(kit->journal);
            kit->journal = NULL;
            while (worker_step(kit->worker))
                ;
        }
        disk_sim_flip_bit(kit->disk, "sim/journal.db", bit);
        open_or_fail(kit);
    }
    assert_true(detected > 500);
    kit_destroy(kit);
}

/* Finds a text in the main file and flips a bit of it. */
static void damage(struct kit *kit, const char *text)
{
    const uint8_t *bytes;
    size_t size;
    assert_true(disk_sim_peek(kit->disk, "sim/journal.db", &bytes, &size));
    const uint8_t *found = memmem(bytes, size, text, strlen(text));
    assert_non_null(found);
    disk_sim_flip_bit(kit->disk, "sim/journal.db", (uint64_t)(found - bytes) * 8);
}

static void damage_stops_one_key_and_no_other(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct journal_head head = {0}, other = {0};
    struct journal_load load;
    struct journal_read read;
    struct journal_scan scan;
    open_or_fail(kit);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kit_append(kit, "hurt", &head, i == 1 ? "THE-MIDDLE" : "fine"), OK);
        assert_int_equal(kit_append(kit, "well", &other, "fine"), OK);
    }
    journal_close(kit->journal);
    kit->journal = NULL;
    damage(kit, "THE-MIDDLE");
    open_or_fail(kit);
    assert_int_equal(kit_load(kit, "hurt", &load), ERR_STORAGE_CORRUPT);
    assert_null(load.memory);
    assert_int_equal(kit_read(kit, "hurt", 0, 0, 10, &read), ERR_STORAGE_CORRUPT);
    assert_int_equal(kit_read(kit, "hurt", 2, 0, 10, &read), OK); /* what lies after it is whole */
    assert_int_equal(read.record_count, 1);
    journal_release(read.memory);
    assert_int_equal(kit_load(kit, "well", &load), OK);
    assert_int_equal(load.record_count, 3);
    journal_release(load.memory);
    assert_int_equal(kit_stats(kit).corrupt, 2);
    /* The bus stops at it, says where, and goes on when told so. */
    assert_int_equal(kit_scan(kit, 0, 100, &scan), ERR_STORAGE_CORRUPT);
    assert_int_equal(scan.item_count, 2);
    assert_int_equal(scan.after_offset, 3);
    journal_release(scan.memory);
    assert_int_equal(kit_scan(kit, scan.after_offset, 100, &scan), OK);
    assert_int_equal(scan.item_count, 3);
    journal_release(scan.memory);
    /* Erasure finds what the chain cannot. */
    assert_int_equal(kit_erase(kit, "hurt", NULL), OK);
    assert_int_equal(kit_scan(kit, 0, 100, &scan), OK);
    assert_int_equal(scan.item_count, 3);
    journal_release(scan.memory);
    kit_destroy(kit);
}

static void a_damaged_snapshot_is_as_good_as_none(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct journal_head head = {0};
    struct journal_load load;
    open_or_fail(kit);
    for (int i = 0; i < 3; i++)
        assert_int_equal(kit_append(kit, "a", &head, "x"), OK);
    assert_int_equal(kit_save(kit, "a", 2, "THE-STATE"), OK);
    journal_close(kit->journal);
    kit->journal = NULL;
    damage(kit, "THE-STATE");
    open_or_fail(kit);
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.snapshot_version, 0);
    assert_int_equal(load.snapshot.size, 0);
    assert_int_equal(load.record_count, 3);
    journal_release(load.memory);
    kit_destroy(kit);
}

static void a_damaged_head_refuses_the_append(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct journal_head head = {0};
    struct journal_load load;
    open_or_fail(kit);
    struct journal_append append = kit_make_append("a", &head, 0, "x");
    strcpy(append.summary.owner, "THE-OWNER");
    assert_int_equal(kit_append_request(kit, &append), OK);
    journal_close(kit->journal);
    kit->journal = NULL;
    /* Once in the record's summary, once in the row of the head: both. */
    const uint8_t *bytes;
    size_t size;
    assert_true(disk_sim_peek(kit->disk, "sim/journal.db", &bytes, &size));
    for (size_t at = 0; at + 9 < size; at++)
        if (memcmp(bytes + at, "THE-OWNER", 9) == 0)
            disk_sim_flip_bit(kit->disk, "sim/journal.db", at * 8);
    open_or_fail(kit);
    assert_int_equal(kit_load(kit, "a", &load), ERR_STORAGE_CORRUPT);
    assert_int_equal(kit_append(kit, "a", &head, "y"), ERR_STORAGE_CORRUPT);
    struct journal_list list = {.status = -1};
    assert_int_equal(kit_append(kit, "b", &(struct journal_head){0}, "y"), OK);
    assert_int_equal(kit_list(kit, "", "", 10, &list), OK);
    assert_int_equal(list.item_count, 1);
    journal_release(list.memory);
    kit_destroy(kit);
}

/* A text stands in the record's summary and in the row of the head. Damaged in the first, the record is not believed; in the
 * second, the records tell where the key ends, and the next append heals the row. */
static void a_damaged_head_is_rebuilt_from_the_records(void **state)
{
    (void)state;
    uint32_t rebuilt = 0, refused = 0;
    for (size_t skip = 0; skip < 2; skip++) {
        struct kit *kit = make(1);
        struct journal_head head = {0}, other = {0};
        struct journal_load load;
        open_or_fail(kit);
        assert_int_equal(kit_append(kit, "a", &head, "x"), OK);
        struct journal_append append = kit_make_append("a", &head, 1, "y");
        strcpy(append.summary.owner, "THE-OWNER");
        assert_int_equal(kit_append_request(kit, &append), OK);
        for (int i = 0; i < 50; i++)
            assert_int_equal(kit_append(kit, "b", &other, "z"), OK);
        journal_close(kit->journal);
        kit->journal = NULL;
        const uint8_t *bytes;
        size_t size;
        assert_true(disk_sim_peek(kit->disk, "sim/journal.db", &bytes, &size));
        const uint8_t *found = memmem(bytes, size, "THE-OWNER", 9);
        if (skip)
            found = memmem(found + 1, size - (size_t)(found + 1 - bytes), "THE-OWNER", 9);
        assert_non_null(found);
        disk_sim_flip_bit(kit->disk, "sim/journal.db", (uint64_t)(found - bytes) * 8);
        open_or_fail(kit);
        enum err result = kit_load(kit, "a", &load);
        if (result == ERR_STORAGE_CORRUPT) {
            refused++;
            kit_destroy(kit);
            continue;
        }
        assert_int_equal(result, OK);
        assert_int_equal(load.head.version, 2);
        assert_int_equal(load.record_count, 2);
        assert_string_equal(load.summary.owner, "THE-OWNER");
        journal_release(load.memory);
        assert_int_equal(kit_append(kit, "a", &load.head, "on"), OK);
        kit_reopen(kit);
        assert_int_equal(kit_load(kit, "a", &load), OK);
        assert_int_equal(load.record_count, 3);
        journal_release(load.memory);
        assert_int_equal(kit_stats(kit).corrupt, 0);
        rebuilt++;
        kit_destroy(kit);
    }
    assert_int_equal(rebuilt, 1);
    assert_int_equal(refused, 1);
}

static void a_failed_read_fails_its_request_alone(void **state)
{
    (void)state;
    struct kit *kit = make(1);
    struct journal_head head = {0};
    struct journal_load load;
    open_or_fail(kit);
    static char data[20000];
    memset(data, 'x', sizeof data - 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(kit_append(kit, "a", &head, data), OK);
    kit_reopen(kit); /* nothing is cached */
    disk_sim_schedule(kit->disk, DISK_SIM_READ_ERROR, 1, 1);
    assert_int_equal(kit_load(kit, "a", &load), ERR_STORAGE_FAILED);
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, 5);
    journal_release(load.memory);
    assert_int_equal(kit->failed_calls, 0);
    assert_int_equal(kit_append(kit, "a", &head, "on"), OK);
    kit_destroy(kit);
}

int main(void)
{
    instrument_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cut_at_every_io),
        cmocka_unit_test(power_cut_at_every_io_with_erasures),
        cmocka_unit_test(failed_write_at_every_io),
        cmocka_unit_test(failed_flush_at_every_io),
        cmocka_unit_test(full_once_at_every_io),
        cmocka_unit_test(full_for_a_while_at_every_io),
        cmocka_unit_test(short_write_at_every_io),
        cmocka_unit_test(every_allocation_of_the_engine_may_fail),
        cmocka_unit_test(a_full_disk_refuses_the_group_and_recovers_alone),
        cmocka_unit_test(an_erasure_on_a_full_disk_happened_or_did_not),
        cmocka_unit_test(nothing_is_acknowledged_after_a_failed_flush),
        cmocka_unit_test(one_flush_a_group_neither_more_nor_less),
        cmocka_unit_test(no_flipped_bit_is_served),
        cmocka_unit_test(damage_stops_one_key_and_no_other),
        cmocka_unit_test(a_damaged_snapshot_is_as_good_as_none),
        cmocka_unit_test(a_damaged_head_refuses_the_append),
        cmocka_unit_test(a_damaged_head_is_rebuilt_from_the_records),
        cmocka_unit_test(a_failed_read_fails_its_request_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
