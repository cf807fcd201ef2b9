/* SPDX-License-Identifier: Apache-2.0 */
/* gap_eraser: which bytes it takes, that it takes no others, and that with it nothing erased is left in any file. */
#include <sqlite3.h>

#include "storage/gap_eraser.h"
#include "tests/unit/storage/journal_kit.h"

/* ---- one page --------------------------------------------------------------------------------------------------------- */

static bool find(uint8_t type, uint32_t cells, uint32_t content, uint32_t *ret_begin, uint32_t *ret_end)
{
    uint8_t page[GAP_ERASER_PAGE_BYTES] = {
        type, 0, 0, (uint8_t)(cells >> 8), (uint8_t)cells, (uint8_t)(content >> 8), (uint8_t)content};
    return gap_eraser_find(page, ret_begin, ret_end);
}

static void the_gap_is_between_pointers_and_cells(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint32_t cells, content, begin;
    } pages[] = {{2, 10, 3000, 32}, {5, 10, 3000, 32},     {10, 10, 3000, 28},  {13, 10, 3000, 28},
                 {13, 0, 4096, 8},  {13, 500, 1008, 1008}, {2, 600, 1212, 1212}};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        uint32_t begin, end;
        assert_true(find(pages[i].type, pages[i].cells, pages[i].content, &begin, &end));
        assert_int_equal(begin, pages[i].begin);
        assert_int_equal(end, pages[i].content);
    }
}

static void what_is_no_sane_page_of_a_tree_has_no_gap(void **state)
{
    (void)state;
    uint32_t begin, end;
    for (uint32_t type = 0; type < 256; type++)
        assert_int_equal(find((uint8_t)type, 10, 3000, &begin, &end), type == 2 || type == 5 || type == 10 || type == 13);
    assert_false(find(13, 10, 4097, &begin, &end)); /* cells begin behind the page */
    assert_false(find(13, 10, 27, &begin, &end));   /* or among the pointers */
    assert_false(find(13, 0xffff, 4096, &begin, &end));
    assert_false(find(13, 10, 0, &begin, &end)); /* 65536, of pages larger than ours */
}

/* ---- one file --------------------------------------------------------------------------------------------------------- */

static uint64_t splitmix(void *context)
{
    uint64_t z = *(uint64_t *)context += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void must(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

/* Rows of all sizes at random keys come, change their size and go; chains of overflow pages come of it, and a free list. The
 * bytes are what a page of a tree begins with, over and over. */
static void work(sqlite3 *db)
{
    static uint8_t bytes[60000];
    static const uint8_t lure[] = {13, 0, 0, 0, 1, 8, 0, 0, 5, 5};
    uint64_t random = 1;
    sqlite3_stmt *put, *erase;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = lure[i % sizeof lure];
    must(db, "PRAGMA synchronous=NORMAL; PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;"
             "PRAGMA secure_delete=ON; CREATE TABLE rows(key INTEGER PRIMARY KEY, data BLOB);"
             "CREATE TABLE leaves(key BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID");
    for (uint32_t round = 0; round < 100; round++) {
        const char *table = round % 2 ? "rows" : "leaves";
        char sql[100];
        snprintf(sql, sizeof sql, "REPLACE INTO %s VALUES(?1, ?2)", table);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &put, NULL), SQLITE_OK);
        snprintf(sql, sizeof sql, "DELETE FROM %s WHERE key = ?1", table);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &erase, NULL), SQLITE_OK);
        must(db, "BEGIN");
        for (uint32_t i = 0; i < 500; i++) {
            bool is_gone = splitmix(&random) % 3 == 0, is_long = splitmix(&random) % 20 == 0;
            sqlite3_stmt *stmt = is_gone ? erase : put;
            sqlite3_bind_int64(stmt, 1, (sqlite3_int64)(splitmix(&random) % 6000));
            if (!is_gone)
                sqlite3_bind_blob(stmt, 2, bytes, (int)(splitmix(&random) % (is_long ? sizeof bytes : 600)),
                                  SQLITE_STATIC);
            assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
            sqlite3_reset(stmt);
        }
        must(db, "COMMIT");
        sqlite3_finalize(put);
        sqlite3_finalize(erase);
        if (round % 7 == 0)
            must(db, "PRAGMA wal_checkpoint(PASSIVE)");
    }
    must(db, "PRAGMA wal_checkpoint(TRUNCATE)");
}

static sqlite3 *make_database(const char *name, struct gap_eraser *eraser)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(name, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "gaps"), SQLITE_OK);
    if (eraser)
        assert_int_equal(gap_eraser_attach(eraser, db), SQLITE_OK);
    work(db);
    return db;
}

/* What SQLite itself says of each page: 'i'nternal, 'l'eaf, 'o'verflow; 0: of the free list. */
static void list_pages(sqlite3 *db, char *types, uint32_t count)
{
    sqlite3_stmt *stmt;
    memset(types, 0, count);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT pageno, pagetype FROM dbstat", -1, &stmt, NULL), SQLITE_OK);
    while (sqlite3_step(stmt) == SQLITE_ROW)
        types[sqlite3_column_int(stmt, 0) - 1] = (char)sqlite3_column_text(stmt, 1)[0];
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

static void assert_intact(sqlite3 *db)
{
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(stmt, 0), "ok");
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

/* G1: the same work twice, once without it: page by page. */
static void no_byte_outside_the_gaps_differs(void **state)
{
    (void)state;
    enum { PAGES_MAX = 20000 };
    static char types[PAGES_MAX];
    static struct gap_eraser eraser;
    uint64_t random = 1;
    struct disk_sim *disk = disk_sim_create(
        &(struct disk_sim_options){.name = "gaps", .random = splitmix, .random_context = &random, .is_powersafe = true});
    assert_non_null(disk);
    sqlite3 *plain_db = make_database("plain", NULL), *erased_db = make_database("erased", &eraser);
    const uint8_t *plain, *erased;
    size_t plain_size = 0, size = 0;
    assert_true(disk_sim_peek(disk, "plain", &plain, &plain_size));
    assert_true(disk_sim_peek(disk, "erased", &erased, &size));
    assert_int_equal(size, plain_size);
    uint32_t count = (uint32_t)(size / GAP_ERASER_PAGE_BYTES), cleaned = 0, overflows = 0, frees = 0;
    assert_in_range(count, 3000, PAGES_MAX);
    list_pages(erased_db, types, count);
    for (uint32_t i = 0; i < count; i++, plain += GAP_ERASER_PAGE_BYTES, erased += GAP_ERASER_PAGE_BYTES) {
        uint32_t begin = 0, end = 0;
        bool is_tree = types[i] == 'i' || types[i] == 'l';
        overflows += types[i] == 'o';
        frees += types[i] == 0;
        if (i > 0)
            assert_int_equal(gap_eraser_find(erased, &begin, &end), is_tree);
        assert_memory_equal(plain, erased, begin);
        assert_memory_equal(plain + end, erased + end, GAP_ERASER_PAGE_BYTES - end);
        cleaned += memcmp(plain + begin, erased + begin, end - begin) != 0;
        for (; begin < end; begin++)
            assert_int_equal(erased[begin], 0);
    }
    assert_true(cleaned > 100 && overflows > 1000 && frees > 10); /* else this says little */
    assert_intact(erased_db);
    assert_int_equal(sqlite3_close(plain_db), SQLITE_OK);
    assert_int_equal(sqlite3_close(erased_db), SQLITE_OK);
    disk_sim_destroy(disk);
}

/* ---- the journal ------------------------------------------------------------------------------------------------------ */

enum { KEYS = 900, SECRETS = KEYS / 3, ROUNDS = 4 };

struct conversation {
    char key[32], text[10000];
    struct journal_head head;
    struct journal_append append;
    struct journal_save save;
    struct journal_erase erase;
};

static bool is_secret(uint32_t index)
{
    return index % 3 == 0;
}

/* Each piece of it can be told. */
static void fill(char *text, size_t length, const char *word)
{
    for (size_t i = 0; i < length; i++)
        text[i] = word[i % strlen(word)];
    text[length] = 0;
}

/* Keys in no order, the secret ones among the others; lengths that differ from round to round, some of several pages. */
static void write_round(struct kit *kit, struct conversation *all, uint32_t round)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        struct conversation *one = &all[i];
        snprintf(one->key, sizeof one->key, "%08x/%s", i * UINT32_C(2654435769), is_secret(i) ? "SECRET-KEY" : "key");
        fill(one->text, 1 + kit_draw(kit, kit_draw(kit, 10) ? 400 : sizeof one->text - 1),
             is_secret(i) ? "SECRET " : "text ");
        one->append = kit_make_append(one->key, &one->head, round, one->text);
        snprintf(one->append.summary.owner, sizeof one->append.summary.owner, "%s",
                 is_secret(i) ? "SECRET-OWNER" : "bot");
        one->save = (struct journal_save){
            .key = slice_from_text(one->key), .version = round + 1, .data = slice_from_text(one->text)};
        KIT_SUBMIT(kit, &one->append, MSG_JOURNAL_APPEND);
        KIT_SUBMIT(kit, &one->save, MSG_JOURNAL_SAVE);
    }
    kit_settle(kit);
    for (uint32_t i = 0; i < KEYS; i++) {
        assert_int_equal(all[i].append.result, OK);
        assert_int_equal(all[i].save.result, OK);
    }
}

static void erase_secrets(struct kit *kit, struct conversation *all)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        if (!is_secret(i))
            continue;
        all[i].erase = (struct journal_erase){.key = slice_from_text(all[i].key), .head = &all[i].head};
        KIT_SUBMIT(kit, &all[i].erase, MSG_JOURNAL_ERASE);
    }
    kit_settle(kit);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_true(!is_secret(i) || all[i].erase.result == OK);
}

/* The same bytes: their pages are written anew, and nothing moves in them; what the cache kept of a gap is in the WAL now. */
static void save_again(struct kit *kit, struct conversation *all)
{
    for (uint32_t i = 0; i < KEYS; i++)
        if (!is_secret(i))
            KIT_SUBMIT(kit, &all[i].save, MSG_JOURNAL_SAVE);
    kit_settle(kit);
}

static void assert_no_secret(const struct kit *kit)
{
    assert_false(kit_file_has(kit, "journal.db", "SECRET"));
    assert_false(kit_file_has(kit, "journal.db-wal", "SECRET"));
}

static void check_journal_is_intact(const struct kit *kit)
{
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/journal.db", kit->directory);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, kit->options.vfs), SQLITE_OK);
    assert_intact(db);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void erase_among_others(struct kit *kit)
{
    struct conversation *all = calloc(KEYS, sizeof *all);
    struct error error;
    struct journal_load load;
    assert_non_null(all);
    kit->options.tail_records_max = 500; /* sweeps write the heads all the time */
    assert_int_equal(kit_open(kit, &error), OK);
    for (uint32_t round = 0; round < ROUNDS; round++)
        write_round(kit, all, round);
    struct journal_list list = {.status = -1};
    assert_int_equal(kit_list(kit, "", "", 1, &list), OK); /* the table has all heads now */
    journal_release(list.memory);
    assert_true(kit_file_has(kit, "journal.db-wal", "SECRET") || kit_file_has(kit, "journal.db", "SECRET"));
    erase_secrets(kit, all);
    assert_no_secret(kit);
    save_again(kit, all);
    assert_no_secret(kit);
    for (uint32_t i = 0; i < KEYS; i++)
        if (!is_secret(i))
            assert_int_equal(kit_append(kit, all[i].key, &all[i].head, "x"), OK);
    assert_no_secret(kit);
    for (uint32_t i = 0; i < KEYS; i++) {
        assert_int_equal(kit_load(kit, all[i].key, &load), is_secret(i) ? ERR_NOT_FOUND : OK);
        assert_int_equal(load.head.version, is_secret(i) ? 0 : ROUNDS + 1);
        journal_release(load.memory);
    }
    check_journal_is_intact(kit);
    kit_destroy(kit);
    free(all);
}

static void nothing_erased_is_in_any_file_of_a_disk(void **state)
{
    (void)state;
    erase_among_others(kit_create_disk());
}

static void nothing_erased_is_in_any_file_of_the_simulated_disk(void **state)
{
    (void)state;
    erase_among_others(kit_create_sim(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gap_is_between_pointers_and_cells),
        cmocka_unit_test(what_is_no_sane_page_of_a_tree_has_no_gap),
        cmocka_unit_test(no_byte_outside_the_gaps_differs),
        cmocka_unit_test(nothing_erased_is_in_any_file_of_a_disk),
        cmocka_unit_test(nothing_erased_is_in_any_file_of_the_simulated_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
