/* SPDX-License-Identifier: Apache-2.0 */
/* data_directory and journal_open on a real disk: one process at a time, known formats only, no space, no rights (F5, F9, F10). */
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/data_directory.h"
#include "tests/unit/storage/journal_kit.h"

static int setup(void **state)
{
    *state = kit_create_disk();
    return 0;
}

static int teardown(void **state)
{
    kit_destroy(*state);
    return 0;
}

static const char *path_of(const struct kit *kit, const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", kit->directory, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_directory_is_made_private_and_reopened(void **state)
{
    struct kit *kit = *state;
    struct data_directory directory;
    struct error error = {0};
    char path[256];
    snprintf(path, sizeof path, "%s/made", kit->directory);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(data_directory_open(path, NULL, &directory, &error), OK);
        assert_int_equal(data_directory_seal(&directory, &error), OK);
        data_directory_close(&directory);
        data_directory_close(&directory);
    }
    struct stat stat_;
    assert_int_equal(stat(path, &stat_), 0);
    assert_int_equal(stat_.st_mode & 0777, 0700);
}

static void a_second_open_in_the_process_is_refused(void **state)
{
    struct kit *kit = *state;
    struct data_directory first, second;
    struct error error = {0};
    assert_int_equal(data_directory_open(kit->directory, NULL, &first, &error), OK);
    assert_int_equal(data_directory_open(kit->directory, NULL, &second, &error), ERR_STORAGE_LOCKED);
    assert_non_null(strstr(error.text, "process"));
    data_directory_close(&first);
    assert_int_equal(data_directory_open(kit->directory, NULL, &second, &error), OK);
    data_directory_close(&second);
}

static void a_second_process_is_refused_and_the_first_unharmed(void **state)
{
    struct kit *kit = *state;
    struct error error = {0};
    struct journal_head head = {0};
    assert_int_equal(kit_open(kit, &error), OK);
    assert_int_equal(kit_append(kit, "a", &head, "one"), OK);
    pid_t child = fork();
    if (child == 0) {
        struct journal *journal;
        _exit(journal_open(&kit->options, kit->runtime, &journal, &error) == ERR_STORAGE_LOCKED ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(kit_append(kit, "a", &head, "two"), OK);
    kit_reopen(kit);
}

static void refused(struct kit *kit, enum err expected, const char *remedy)
{
    struct error error = {0};
    assert_int_equal(kit_open(kit, &error), expected);
    assert_null(kit->journal);
    if (!strstr(error.text, remedy))
        fail_msg("\"%s\" does not say \"%s\"", error.text, remedy);
}

static void another_format_is_refused_untouched(void **state)
{
    struct kit *kit = *state;
    struct error error = {0};
    assert_int_equal(kit_open(kit, &error), OK);
    kit_reopen(kit);
    journal_close(kit->journal);
    kit->journal = NULL;
    write_file(path_of(kit, "FORMAT"), "3\n");
    refused(kit, ERR_STORAGE_FORMAT, "newer build");
    write_file(path_of(kit, "FORMAT"), "nonsense");
    refused(kit, ERR_STORAGE_FORMAT, "no number");
    write_file(path_of(kit, "FORMAT"), "");
    refused(kit, ERR_STORAGE_FORMAT, "no number");
    write_file(path_of(kit, "FORMAT"), "2\n");
    assert_int_equal(kit_open(kit, &error), OK);
}

static void a_creation_cut_short_begins_again_and_a_lost_file_is_told(void **state)
{
    struct kit *kit = *state;
    struct error error = {0};
    struct journal_head head = {0};
    assert_int_equal(kit_open(kit, &error), OK);
    assert_int_equal(kit_append(kit, "a", &head, "x"), OK);
    journal_close(kit->journal);
    kit->journal = NULL;
    assert_int_equal(unlink(path_of(kit, "FORMAT")), 0); /* cut before the seal: the file is there and whole */
    assert_int_equal(kit_open(kit, &error), OK);
    assert_int_equal(kit_append(kit, "a", &head, "y"), OK);
    journal_close(kit->journal);
    kit->journal = NULL;
    assert_int_equal(access(path_of(kit, "FORMAT"), F_OK), 0);
    assert_int_equal(unlink(path_of(kit, "journal.db")), 0);
    refused(kit, ERR_STORAGE_CORRUPT, "lost its journal.db");
    assert_int_equal(unlink(path_of(kit, "FORMAT")), 0);
    assert_int_equal(kit_open(kit, &error), OK);
}

static void execute(struct kit *kit, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path_of(kit, "journal.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void a_database_of_another_format_is_refused(void **state)
{
    struct kit *kit = *state;
    struct error error = {0};
    assert_int_equal(kit_open(kit, &error), OK);
    journal_close(kit->journal);
    kit->journal = NULL;
    execute(kit, "PRAGMA user_version=3");
    refused(kit, ERR_STORAGE_FORMAT, "newer build");
    execute(kit, "PRAGMA user_version=2; PRAGMA application_id=7");
    refused(kit, ERR_STORAGE_FORMAT, "another program");
    write_file(path_of(kit, "journal.db"),
               "this is no database at all, but it is long enough to be looked at ..............");
    refused(kit, ERR_STORAGE_CORRUPT, "backup");
}

static void an_unknown_backend_is_refused(void **state)
{
    struct kit *kit = *state;
    kit->options.backend = "papyrus";
    refused(kit, ERR_CONFIG, "papyrus");
}

static void a_place_that_is_no_directory_is_refused(void **state)
{
    struct kit *kit = *state;
    write_file(path_of(kit, "file"), "x");
    char path[256];
    snprintf(path, sizeof path, "%s/file", kit->directory);
    kit->options.directory = path;
    refused(kit, ERR_SYSTEM, "directory");
    kit->options.directory = "/nonexistent/deep/down";
    refused(kit, ERR_SYSTEM, "/nonexistent/deep/down");
    kit->options.directory = kit->directory;
}

static void fill(const char *path)
{
    static const char zeroes[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeroes, sizeof zeroes) > 0)
        ;
    close(fd);
}

/* F5 on a file system of 1 MiB; needs root to mount it. */
static void a_full_disk_refuses_writes_serves_reads_and_recovers(void **state)
{
    struct kit *kit = *state;
    struct error error = {0};
    char mounted[256], ballast[300];
    snprintf(mounted, sizeof mounted, "%s/small", kit->directory);
    snprintf(ballast, sizeof ballast, "%s/ballast", mounted);
    assert_int_equal(mkdir(mounted, 0700), 0);
    if (mount("none", mounted, "tmpfs", 0, "size=1m") != 0)
        skip();
    kit->options.directory = mounted;
    assert_int_equal(kit_open(kit, &error), OK);
    struct journal_head head = {0};
    static char data[4000];
    memset(data, 'd', sizeof data - 1);
    enum err result = OK;
    while (result == OK && head.version < 1000)
        result = kit_append(kit, "a", &head, data);
    assert_int_equal(result, ERR_STORAGE_FULL);
    uint64_t version = head.version;
    assert_true(version > 10);
    assert_true(kit_stats(kit).is_full);
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, version);
    journal_release(load.memory);
    assert_int_equal(mount("none", mounted, "tmpfs", MS_REMOUNT, "size=4m"), 0); /* space comes back */
    assert_int_equal(kit_append(kit, "a", &head, data), OK);
    assert_false(kit_stats(kit).is_full);
    assert_int_equal(kit->failed_calls, 0);
    kit_reopen(kit);
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, version + 1);
    journal_release(load.memory);
    journal_close(kit->journal);
    kit->journal = NULL;
    /* And at the very creation. */
    char fresh[300];
    snprintf(fresh, sizeof fresh, "%s/fresh", mounted);
    fill(ballast);
    kit->options.directory = fresh;
    assert_int_equal(kit_open(kit, &error), ERR_STORAGE_FULL);
    assert_int_equal(unlink(ballast), 0);
    assert_int_equal(kit_open(kit, &error), OK);
    journal_close(kit->journal);
    kit->journal = NULL;
    kit->options.directory = kit->directory;
    assert_int_equal(umount2(mounted, MNT_DETACH), 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_directory_is_made_private_and_reopened),
        TEST(a_second_open_in_the_process_is_refused),
        TEST(a_second_process_is_refused_and_the_first_unharmed),
        TEST(another_format_is_refused_untouched),
        TEST(a_creation_cut_short_begins_again_and_a_lost_file_is_told),
        TEST(a_database_of_another_format_is_refused),
        TEST(an_unknown_backend_is_refused),
        TEST(a_place_that_is_no_directory_is_refused),
        TEST(a_full_disk_refuses_writes_serves_reads_and_recovers),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
