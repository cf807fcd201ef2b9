/* SPDX-License-Identifier: Apache-2.0 */
/* journal with its two threads: order and visibility while everything runs at once, the end while requests are on their way,
 * and processes killed in the middle (F1). Meant for ThreadSanitizer too. */
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/clock.h"
#include "tests/unit/storage/journal_kit.h"

static int setup(void **state)
{
    struct error error = {0};
    struct kit *kit = kit_create_disk();
    kit->has_threads = true;
    kit->options.tail_records_max = 2000;
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

static void loads_see_answered_appends_while_groups_and_sweeps_run(void **state)
{
    struct kit *kit = *state;
    enum { KEYS = 300, ROUNDS = 40 };
    static struct journal_append appends[KEYS];
    static struct journal_load loads[KEYS];
    static struct journal_head heads[KEYS];
    static char keys[KEYS][16];
    memset(heads, 0, sizeof heads);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            snprintf(keys[i], sizeof keys[i], "k/%u", i);
            appends[i] = kit_make_append(keys[i], &heads[i], round, "x");
            KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
        }
        /* The load of the first key leaves as soon as its append is answered, while the rest is on its way. */
        uint32_t loaded = 0;
        while (loaded < KEYS) {
            if (!worker_step(kit->worker))
                sched_yield();
            for (; loaded < KEYS && kit_is_answered(&appends[loaded].msg); loaded++) {
                assert_int_equal(appends[loaded].result, OK);
                loads[loaded] = (struct journal_load){.key = slice_from_text(keys[loaded])};
                KIT_SUBMIT(kit, &loads[loaded], MSG_JOURNAL_LOAD);
            }
        }
        struct journal_list list = {.status = -1};
        assert_int_equal(kit_list(kit, "k/", "", 1000, &list), OK);
        assert_int_equal(list.item_count, KEYS);
        for (uint32_t i = 0; i < KEYS; i++)
            assert_int_equal(list.items[i].version, round + 1);
        journal_release(list.memory);
        for (uint32_t i = 0; i < KEYS; i++) {
            assert_int_equal(loads[i].result, OK);
            assert_int_equal(loads[i].head.version, round + 1);
            assert_int_equal(loads[i].record_count, round + 1);
            journal_release(loads[i].memory);
        }
    }
    assert_true(kit_stats(kit).heads_offset > 0);
}

static void closing_answers_everything(void **state)
{
    struct kit *kit = *state;
    enum { COUNT = 500 };
    static struct journal_append appends[COUNT];
    static struct journal_load loads[COUNT];
    struct journal_head head = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        appends[i] = kit_make_append("a", &head, i, "x");
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
        loads[i] = (struct journal_load){.key = SLICE_LITERAL("a")};
        KIT_SUBMIT(kit, &loads[i], MSG_JOURNAL_LOAD);
    }
    kit_reopen(kit); /* asserts that every request came back */
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(appends[i].result, OK);
        assert_true(loads[i].result == OK || loads[i].result == ERR_NOT_FOUND);
        journal_release(loads[i].memory);
    }
    struct journal_load load;
    assert_int_equal(kit_load(kit, "a", &load), OK);
    assert_int_equal(load.record_count, COUNT);
    journal_release(load.memory);
}

static void an_abandoned_journal_gives_every_request_back(void **state)
{
    struct kit *kit = *state;
    static struct journal_append appends[200];
    struct journal_head head = {0};
    struct error error;
    for (uint32_t i = 0; i < 200; i++) {
        appends[i] = kit_make_append("a", &head, i, "x");
        KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
    }
    kit_crash(kit);
    uint32_t acked = 0;
    for (uint32_t i = 0; i < 200; i++) {
        assert_true(appends[i].result == OK || appends[i].result == ERR_SHUTDOWN);
        acked += appends[i].result == OK;
    }
    assert_int_equal(kit_open(kit, &error), OK);
    struct journal_load load;
    enum err result = kit_load(kit, "a", &load);
    assert_true(result == OK ? load.record_count == acked : acked == 0);
    journal_release(load.memory);
}

/* Somebody's shell holds old pages: the erasure is to be asked for again, and nobody else waits for that reader. */
static void an_erasure_has_little_patience_with_readers(void **state)
{
    struct kit *kit = *state;
    struct journal_head head = {0};
    assert_int_equal(kit_append(kit, "a", &head, "secret"), OK);
    char path[128];
    snprintf(path, sizeof path, "%s/journal.db", kit->directory);
    sqlite3 *shell;
    assert_int_equal(sqlite3_open_v2(path, &shell, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(shell, "BEGIN; SELECT count(*) FROM journal", NULL, NULL, NULL), SQLITE_OK);
    uint64_t begin_ns = clock_mono_ns();
    assert_int_equal(kit_erase(kit, "a", &head), ERR_BUSY);
    assert_true(clock_mono_ns() - begin_ns < UINT64_C(2000000000)); /* BUSY_MS_MAX would be five seconds */
    assert_int_equal(sqlite3_close(shell), SQLITE_OK);
    assert_int_equal(kit_erase(kit, "a", &head), OK);
    assert_false(kit_file_has(kit, "journal.db", "secret"));
}

/* The child appends to ten keys and says how far each is acknowledged, until it is killed. */
static void child_run(const char *directory, int fd)
{
    struct kit *kit = kit_create_at(directory);
    struct error error;
    struct journal_head heads[10] = {0};
    kit->has_threads = true;
    kit->options.tail_records_max = 50;
    if (kit_open(kit, &error) != OK)
        _exit(1);
    for (uint32_t i = 0; i < 10; i++) {
        char key[8];
        struct journal_load load;
        snprintf(key, sizeof key, "k%u", i);
        if (kit_load(kit, key, &load) == OK)
            heads[i] = load.head;
        journal_release(load.memory);
    }
    for (;;) {
        struct journal_append appends[10];
        char keys[10][8];
        uint64_t acked[10];
        for (uint32_t i = 0; i < 10; i++) {
            snprintf(keys[i], sizeof keys[i], "k%u", i);
            appends[i] = kit_make_append(keys[i], &heads[i], heads[i].version, "x");
            KIT_SUBMIT(kit, &appends[i], MSG_JOURNAL_APPEND);
        }
        kit_settle(kit);
        for (uint32_t i = 0; i < 10; i++) {
            if (appends[i].result != OK)
                _exit(2);
            acked[i] = heads[i].version;
        }
        if (write(fd, acked, sizeof acked) != sizeof acked)
            _exit(3);
    }
}

static void a_killed_process_loses_nothing_acknowledged(void **state)
{
    struct kit *kit = *state;
    struct error error = {0};
    uint64_t acked[10] = {0};
    journal_close(kit->journal);
    kit->journal = NULL;
    for (uint32_t cycle = 0; cycle < 15; cycle++) {
        int fds[2], status;
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0) {
            close(fds[0]);
            child_run(kit->directory, fds[1]);
        }
        close(fds[1]);
        uint64_t line[10];
        for (uint32_t rounds = 0; read(fds[0], line, sizeof line) == sizeof line; rounds++) {
            memcpy(acked, line, sizeof acked);
            if (rounds == cycle * 7)
                kill(child, SIGKILL);
        }
        close(fds[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (kit_open(kit, &error) != OK)
            fail_msg("%s", error.text);
        for (uint32_t i = 0; i < 10; i++) {
            char key[8];
            struct journal_load load;
            snprintf(key, sizeof key, "k%u", i);
            assert_int_equal(kit_load(kit, key, &load), OK);
            assert_true(load.head.version >= acked[i] && load.head.version <= acked[i] + 1);
            assert_int_equal(load.record_count, load.head.version);
            journal_release(load.memory);
        }
        journal_close(kit->journal);
        kit->journal = NULL;
    }
    assert_true(acked[0] > 100);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(loads_see_answered_appends_while_groups_and_sweeps_run),
        TEST(closing_answers_everything),
        TEST(an_abandoned_journal_gives_every_request_back),
        TEST(an_erasure_has_little_patience_with_readers),
        TEST(a_killed_process_loses_nothing_acknowledged),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
