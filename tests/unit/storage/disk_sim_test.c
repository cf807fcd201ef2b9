/* SPDX-License-Identifier: Apache-2.0 */
/* disk_sim: what survives and what does not, and SQLite itself upon it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "storage/disk_sim.h"

static uint64_t random_state;

static uint64_t random_of(void *context)
{
    uint64_t z = *(uint64_t *)context += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static struct disk_sim *make(uint64_t seed)
{
    random_state = seed;
    struct disk_sim *disk = disk_sim_create(&(struct disk_sim_options){
        .name = "test", .random = random_of, .random_context = &random_state, .is_powersafe = true});
    assert_non_null(disk);
    return disk;
}

struct open_file {
    sqlite3_file *file;
    uint64_t room[64];
};

static void open_file(struct open_file *open, const char *name)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("test");
    assert_true(vfs->szOsFile <= (int)sizeof open->room);
    open->file = (sqlite3_file *)(void *)open->room;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MAIN_DB;
    assert_int_equal(vfs->xOpen(vfs, name, open->file, flags, NULL), SQLITE_OK);
}

static int put(struct open_file *open, const void *bytes, int size, int64_t offset)
{
    return open->file->pMethods->xWrite(open->file, bytes, size, offset);
}

static int sync_file(struct open_file *open)
{
    return open->file->pMethods->xSync(open->file, SQLITE_SYNC_NORMAL);
}

static void close_file(struct open_file *open)
{
    assert_int_equal(open->file->pMethods->xClose(open->file), SQLITE_OK);
}

static void flushed_bytes_survive_always_and_others_sometimes(void **state)
{
    (void)state;
    static char flushed[8192], later[8192];
    memset(flushed, 'f', sizeof flushed);
    memset(later, 'l', sizeof later);
    uint32_t whole = 0, none = 0, torn = 0, longer = 0, zeroed = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct disk_sim *disk = make(seed);
        struct open_file open;
        const uint8_t *bytes;
        size_t size;
        open_file(&open, "a");
        assert_int_equal(put(&open, flushed, sizeof flushed, 0), SQLITE_OK);
        assert_int_equal(sync_file(&open), SQLITE_OK);
        assert_int_equal(put(&open, later, sizeof later, 4096), SQLITE_OK);
        assert_true(disk_sim_peek(disk, "a", &bytes, &size) && size == 12288);
        disk_sim_crash(disk);
        assert_int_equal(put(&open, later, 1, 0), SQLITE_IOERR_WRITE);
        disk_sim_restart(disk);
        assert_int_equal(put(&open, later, 1, 0), SQLITE_IOERR_WRITE); /* that handle is dead for good */
        close_file(&open);
        assert_true(disk_sim_peek(disk, "a", &bytes, &size));
        assert_true(size == 8192 || size == 12288);
        assert_memory_equal(bytes, flushed, 4096);
        uint32_t kept = 0, lost = 0;
        for (size_t sector = 4096; sector < size; sector += 512) {
            kept += memcmp(bytes + sector, later, 512) == 0;
            lost += memcmp(bytes + sector, flushed, 512) == 0;
            zeroed += bytes[sector] == 0 && sector < 8192;
        }
        longer += size == 12288;
        whole += kept == 16;
        none += size == 8192 && lost == 8;
        torn += kept > 0 && lost > 0;
        disk_sim_destroy(disk);
    }
    assert_true(whole > 20 && none > 20 && torn > 20 && longer > 20 && zeroed > 20);
}

static void a_failed_flush_loses_the_bytes_for_good(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct disk_sim *disk = make(seed);
        struct open_file open;
        const uint8_t *bytes;
        size_t size;
        open_file(&open, "a");
        assert_int_equal(put(&open, "old", 3, 0), SQLITE_OK);
        assert_int_equal(sync_file(&open), SQLITE_OK);
        assert_int_equal(put(&open, "new", 3, 0), SQLITE_OK);
        disk_sim_schedule(disk, DISK_SIM_SYNC_ERROR, 1, 1);
        assert_int_equal(sync_file(&open), SQLITE_IOERR_FSYNC);
        assert_int_equal(sync_file(&open), SQLITE_OK); /* and proves nothing */
        assert_true(disk_sim_peek(disk, "a", &bytes, &size));
        assert_memory_equal(bytes, "new", 3);
        close_file(&open);
        disk_sim_crash(disk);
        disk_sim_restart(disk);
        assert_true(disk_sim_peek(disk, "a", &bytes, &size));
        assert_memory_equal(bytes, "old", 3);
        disk_sim_destroy(disk);
    }
}

static void faults_come_when_scheduled(void **state)
{
    (void)state;
    struct disk_sim *disk = make(1);
    struct open_file open;
    char bytes[16];
    struct disk_sim_stats stats;
    open_file(&open, "a");
    disk_sim_schedule(disk, DISK_SIM_WRITE_ERROR, 2, 2);
    assert_int_equal(put(&open, "1", 1, 0), SQLITE_OK);
    assert_int_equal(put(&open, "2", 1, 0), SQLITE_IOERR_WRITE);
    assert_int_equal(sync_file(&open), SQLITE_OK);
    assert_int_equal(put(&open, "3", 1, 0), SQLITE_IOERR_WRITE);
    assert_int_equal(put(&open, "4", 1, 0), SQLITE_OK);
    disk_sim_schedule(disk, DISK_SIM_FULL, 1, 1);
    assert_int_equal(put(&open, "5", 1, 0), SQLITE_FULL);
    disk_sim_schedule(disk, DISK_SIM_SHORT_WRITE, 1, 1);
    assert_int_equal(put(&open, "6789", 4, 0), SQLITE_FULL);
    disk_sim_schedule(disk, DISK_SIM_READ_ERROR, 1, 1);
    assert_int_equal(open.file->pMethods->xRead(open.file, bytes, 2, 0), SQLITE_IOERR_READ);
    assert_int_equal(open.file->pMethods->xRead(open.file, bytes, 4, 0), SQLITE_IOERR_SHORT_READ);
    assert_memory_equal(bytes, "67\0\0", 4);
    disk_sim_get_stats(disk, &stats);
    assert_int_equal(stats.faults, 5);
    assert_int_equal(stats.writes, 6);
    assert_int_equal(stats.ios, 7);
    close_file(&open);
    disk_sim_destroy(disk);
}

static void space_ends_and_comes_back(void **state)
{
    (void)state;
    struct disk_sim *disk = make(1);
    struct open_file open;
    static char bytes[1000];
    open_file(&open, "a");
    disk_sim_set_bytes_max(disk, 1500);
    assert_int_equal(put(&open, bytes, 1000, 0), SQLITE_OK);
    assert_int_equal(put(&open, bytes, 1000, 1000), SQLITE_FULL);
    assert_int_equal(put(&open, bytes, 1000, 0), SQLITE_OK); /* overwriting takes none */
    disk_sim_set_bytes_max(disk, 0);
    assert_int_equal(put(&open, bytes, 1000, 1000), SQLITE_OK);
    close_file(&open);
    disk_sim_destroy(disk);
}

static void new_names_and_deletions_are_uncertain_until_flushed(void **state)
{
    (void)state;
    uint32_t born = 0, back = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct disk_sim *disk = make(seed);
        sqlite3_vfs *vfs = sqlite3_vfs_find("test");
        struct open_file open;
        const uint8_t *bytes;
        size_t size;
        static const char *const names[] = {"unflushed", "deleted", "deleted-durably"};
        for (int i = 0; i < 3; i++) {
            open_file(&open, names[i]);
            assert_int_equal(put(&open, "x", 1, 0), SQLITE_OK);
            if (i > 0)
                assert_int_equal(sync_file(&open), SQLITE_OK);
            close_file(&open);
        }
        assert_int_equal(vfs->xDelete(vfs, "deleted", 0), SQLITE_OK);
        assert_int_equal(vfs->xDelete(vfs, "deleted-durably", 1), SQLITE_OK);
        assert_int_equal(vfs->xDelete(vfs, "never", 1), SQLITE_IOERR_DELETE_NOENT);
        assert_false(disk_sim_peek(disk, "deleted", &bytes, &size));
        disk_sim_restart(disk);
        born += disk_sim_peek(disk, "unflushed", &bytes, &size);
        back += disk_sim_peek(disk, "deleted", &bytes, &size);
        assert_false(disk_sim_peek(disk, "deleted-durably", &bytes, &size));
        disk_sim_destroy(disk);
    }
    assert_true(born > 20 && born < 80 && back > 20 && back < 80);
}

static void the_same_seed_is_the_same_disk(void **state)
{
    (void)state;
    static uint8_t first[20000];
    size_t first_size = 0;
    for (int run = 0; run < 2; run++) {
        struct disk_sim *disk = make(99);
        struct open_file open;
        const uint8_t *bytes;
        size_t size;
        open_file(&open, "a");
        assert_int_equal(sync_file(&open), SQLITE_OK);
        for (int i = 0; i < 20; i++) {
            char data[1000];
            memset(data, 'a' + i, sizeof data);
            assert_int_equal(put(&open, data, sizeof data, i * 937), SQLITE_OK);
        }
        close_file(&open);
        disk_sim_restart(disk);
        assert_true(disk_sim_peek(disk, "a", &bytes, &size));
        assert_true(size <= sizeof first);
        if (run == 0 && size)
            memcpy(first, bytes, size);
        if (run == 0)
            first_size = size;
        assert_int_equal(size, first_size);
        if (size)
            assert_memory_equal(bytes, first, size);
        disk_sim_destroy(disk);
    }
}

static void flipped_bits_are_seen_and_stay(void **state)
{
    (void)state;
    struct disk_sim *disk = make(1);
    struct open_file open;
    const uint8_t *bytes;
    size_t size;
    open_file(&open, "a");
    assert_int_equal(put(&open, "@@", 2, 0), SQLITE_OK);
    assert_int_equal(sync_file(&open), SQLITE_OK);
    disk_sim_flip_bit(disk, "a", 8);
    disk_sim_flip_bit(disk, "a", 1000); /* beyond the end */
    disk_sim_flip_bit(disk, "none", 0);
    close_file(&open);
    disk_sim_restart(disk);
    assert_true(disk_sim_peek(disk, "a", &bytes, &size));
    assert_int_equal(size, 2);
    assert_memory_equal(bytes, "@A", 2);
    disk_sim_destroy(disk);
}

/* ---- SQLite upon it --------------------------------------------------------------------------------------------------- */

static void must(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}

static int count_rows(sqlite3 *db)
{
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM t", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int count = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return count;
}

static sqlite3 *open_db(int flags)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2("db", &db, flags, "test"), SQLITE_OK);
    return db;
}

static void sqlite_keeps_what_it_committed_in_every_mode(void **state)
{
    (void)state;
    static const char *const modes[] = {"DELETE", "TRUNCATE", "PERSIST", "WAL"};
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct disk_sim *disk = make(seed);
        sqlite3 *db = open_db(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
        char sql[128];
        snprintf(sql, sizeof sql, "PRAGMA synchronous=EXTRA; PRAGMA journal_mode=%s", modes[seed % 4]);
        must(db, sql);
        must(db, "CREATE TABLE t(x)");
        int rows = 0;
        disk_sim_schedule(disk, DISK_SIM_CRASH, 1 + seed * 3, 1);
        while (sqlite3_exec(db, "INSERT INTO t VALUES(randomblob(3000))", NULL, NULL, NULL) == SQLITE_OK)
            rows++;
        assert_true(disk_sim_is_crashed(disk));
        sqlite3_close(db);
        disk_sim_restart(disk);
        db = open_db(SQLITE_OPEN_READWRITE);
        int count = count_rows(db);
        assert_true(count == rows || count == rows + 1);
        must(db, "PRAGMA integrity_check");
        sqlite3_close(db);
        disk_sim_destroy(disk);
    }
}

static void two_connections_share_locks_and_the_wal_index(void **state)
{
    (void)state;
    struct disk_sim *disk = make(1);
    sqlite3 *writer = open_db(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    must(writer, "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sqlite3 *reader = open_db(SQLITE_OPEN_READONLY), *rival = open_db(SQLITE_OPEN_READWRITE);
    must(reader, "BEGIN");
    assert_int_equal(count_rows(reader), 1);
    must(writer, "BEGIN IMMEDIATE; INSERT INTO t VALUES(2)");
    assert_int_equal(sqlite3_exec(rival, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_BUSY);
    must(writer, "COMMIT");
    assert_int_equal(count_rows(reader), 1); /* its own moment */
    assert_int_equal(sqlite3_wal_checkpoint_v2(writer, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL), SQLITE_BUSY);
    must(reader, "COMMIT");
    assert_int_equal(count_rows(reader), 2);
    assert_int_equal(sqlite3_wal_checkpoint_v2(writer, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL), SQLITE_OK);
    must(rival, "INSERT INTO t VALUES(3)");
    assert_int_equal(count_rows(writer), 3);
    sqlite3_close(rival);
    sqlite3_close(reader);
    sqlite3_close(writer);
    disk_sim_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flushed_bytes_survive_always_and_others_sometimes),
        cmocka_unit_test(a_failed_flush_loses_the_bytes_for_good),
        cmocka_unit_test(faults_come_when_scheduled),
        cmocka_unit_test(space_ends_and_comes_back),
        cmocka_unit_test(new_names_and_deletions_are_uncertain_until_flushed),
        cmocka_unit_test(the_same_seed_is_the_same_disk),
        cmocka_unit_test(flipped_bits_are_seen_and_stay),
        cmocka_unit_test(sqlite_keeps_what_it_committed_in_every_mode),
        cmocka_unit_test(two_connections_share_locks_and_the_wal_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
