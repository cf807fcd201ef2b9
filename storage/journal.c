/* SPDX-License-Identifier: Apache-2.0 */
/* journal: life, submission and answers; see journal.h. The work is in journal_writer.c and journal_reader.c, the engine behind
 * backend.h. How it all fits together, with numbers: docs/STORAGE.md. */
#include "storage/journal_internal.h"

#include <sched.h>
#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/planted.h"
#include "runtime/worker.h"

enum { GROUP_COUNT_DEFAULT = 4096, TAIL_RECORDS_DEFAULT = 1000000, TAIL_RECORDS_MIN = 16 };

static const struct backend_type *const backends[] = {&sqlite_backend_type};

/* ---- requests and answers --------------------------------------------------------------------------------------------- */

void request_set_result(struct msg *msg, enum err result)
{
    switch (msg->kind) {
    case MSG_JOURNAL_APPEND: container_of(msg, struct journal_append, msg)->result = result; return;
    case MSG_JOURNAL_LOAD: container_of(msg, struct journal_load, msg)->result = result; return;
    case MSG_JOURNAL_READ: container_of(msg, struct journal_read, msg)->result = result; return;
    case MSG_JOURNAL_LIST: container_of(msg, struct journal_list, msg)->result = result; return;
    case MSG_JOURNAL_SAVE: container_of(msg, struct journal_save, msg)->result = result; return;
    case MSG_JOURNAL_ERASE: container_of(msg, struct journal_erase, msg)->result = result; return;
    case MSG_JOURNAL_SCAN: container_of(msg, struct journal_scan, msg)->result = result; return;
    }
    assert_failed("a message of another kind in the journal", __FILE__, __LINE__, __func__);
}

void answers_push(struct answers *answers, struct msg *msg)
{
    /* Home is where the block was made: the worker of the actor that waits for it, pinned while it does (actor.h). */
    ASSERT(msg->home < WORKERS_MAX);
    msg_list_append(&answers->chains[msg->home], msg);
    answers->workers |= UINT64_C(1) << msg->home;
    answers->append_count += msg->kind == MSG_JOURNAL_APPEND;
}

void answers_send(struct journal *journal, struct answers *answers)
{
    if (!(PLANTED(WAITING_COUNT_LEAKS) && atomic_load_relaxed(&journal->is_full)))
        atomic_sub_relaxed(&journal->appends_waiting, answers->append_count);
    answers->append_count = 0;
    while (answers->workers) {
        uint32_t index = (uint32_t)__builtin_ctzll(answers->workers);
        answers->workers &= answers->workers - 1;
        struct msg_list chain = answers->chains[index];
        answers->chains[index] = (struct msg_list){0};
        worker_deliver(runtime_worker(journal->runtime, index), chain.first, chain.last);
    }
}

static void submit(struct journal *journal, struct request_lane *lane, struct msg *msg, uint16_t kind)
{
    ASSERT(msg->kind == kind);
    if (request_lane_push(lane, msg))
        return;
    if (kind == MSG_JOURNAL_APPEND)
        atomic_sub_relaxed(&journal->appends_waiting, 1);
    request_set_result(msg, ERR_SHUTDOWN);
    msg->next = NULL;
    worker_deliver(runtime_worker(journal->runtime, msg->home), msg, msg);
}

void journal_forward_read(struct journal *journal, struct msg *msg)
{
    submit(journal, &journal->read_lane, msg, msg->kind);
}

void journal_submit_append(struct journal *journal, struct journal_append *append)
{
    atomic_add_relaxed(&journal->appends_waiting, 1);
    submit(journal, &journal->write_lane, &append->msg, MSG_JOURNAL_APPEND);
}

void journal_submit_save(struct journal *journal, struct journal_save *save)
{
    submit(journal, &journal->write_lane, &save->msg, MSG_JOURNAL_SAVE);
}

void journal_submit_erase(struct journal *journal, struct journal_erase *erase)
{
    submit(journal, &journal->write_lane, &erase->msg, MSG_JOURNAL_ERASE);
}

/* By way of the writer, which writes the heads first: the table alone answers it then. */
void journal_submit_list(struct journal *journal, struct journal_list *list)
{
    submit(journal, &journal->write_lane, &list->msg, MSG_JOURNAL_LIST);
}

void journal_submit_load(struct journal *journal, struct journal_load *load)
{
    submit(journal, &journal->read_lane, &load->msg, MSG_JOURNAL_LOAD);
}

void journal_submit_read(struct journal *journal, struct journal_read *read)
{
    submit(journal, &journal->read_lane, &read->msg, MSG_JOURNAL_READ);
}

void journal_submit_scan(struct journal *journal, struct journal_scan *scan)
{
    submit(journal, &journal->read_lane, &scan->msg, MSG_JOURNAL_SCAN);
}

void journal_release(void *memory)
{
    free(memory);
}

/* ---- life ------------------------------------------------------------------------------------------------------------- */

static const struct backend_type *find_backend(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

static uint32_t tail_records_of(uint32_t option)
{
    if (option == 0)
        return TAIL_RECORDS_DEFAULT;
    return option < TAIL_RECORDS_MIN ? TAIL_RECORDS_MIN : option;
}

/* In whatever state it is: a destructor accepts what open left unmade. */
static void destroy(struct journal *journal, bool is_clean)
{
    reader_deinit(journal);
    writer_deinit(journal);
    if (journal->backend)
        journal->type->close(journal->backend, is_clean);
    heads_destroy(journal->heads);
    data_directory_close(&journal->directory);
    free(journal);
}

static enum err open_parts(struct journal *journal, const struct journal_options *options, struct error *error)
{
    struct backend_options backend_options = {.directory = options->directory, .vfs = options->vfs};
    enum err err;
    /* The simulation's disk has no folders, no locks and nobody else on it. */
    if (!options->vfs &&
        (err = data_directory_open(options->directory, journal->type->file, &journal->directory, error)) != OK)
        return err;
    if ((err = journal->type->open(&backend_options, &journal->backend, error)) != OK)
        return err;
    if (!options->vfs && (err = data_directory_seal(&journal->directory, error)) != OK)
        return err;
    if (heads_create(&journal->heads) != OK)
        return error_set(error, ERR_NO_MEMORY, "out of memory");
    if ((err = writer_init(journal, error)) != OK)
        return err;
    reader_init(journal);
    return writer_recover(journal, error);
}

enum err journal_open(const struct journal_options *options, struct runtime *runtime, struct journal **ret_journal,
                      struct error *error)
{
    const struct backend_type *type = find_backend(options->backend ? options->backend : "sqlite");
    if (!type)
        return error_set(error, ERR_CONFIG, "no storage backend is called \"%s\"; there is \"sqlite\"", options->backend);
    struct journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        return error_set(error, ERR_NO_MEMORY, "open journal: out of memory");
    journal->type = type;
    journal->runtime = runtime;
    journal->directory = DATA_DIRECTORY_NONE;
    journal->group_count_max = options->group_count_max ? options->group_count_max : GROUP_COUNT_DEFAULT;
    journal->tail_records_max = tail_records_of(options->tail_records_max);
    journal->on_failed = options->on_failed;
    journal->on_failed_context = options->on_failed_context;
    enum err err = open_parts(journal, options, error);
    if (err != OK) {
        destroy(journal, false);
        (void)error_prefix(error, "open journal in %s", options->directory);
        return err;
    }
    *ret_journal = journal;
    return OK;
}

static void *run_writer(void *argument)
{
    struct journal *journal = argument;
    (void)pthread_setname_np(pthread_self(), "journal-write");
    while (!atomic_load_acquire(&journal->is_abandoned)) {
        /* Workers that want this processor are about to submit more: the group is then larger by what they bring, for the same
         * flush. Where nobody wants it, this costs 0.3 us. Measured: docs/RUNTIME-MEASURED.md. */
        (void)sched_yield();
        if (journal_write_step(journal))
            continue;
        if (atomic_load_acquire(&journal->is_writer_stopping))
            break;
        request_lane_wait(&journal->write_lane, &journal->is_writer_stopping);
    }
    return NULL;
}

static void *run_reader(void *argument)
{
    struct journal *journal = argument;
    (void)pthread_setname_np(pthread_self(), "journal-read");
    while (!atomic_load_acquire(&journal->is_abandoned)) {
        if (journal_read_step(journal))
            continue;
        if (atomic_load_acquire(&journal->is_reader_stopping))
            break;
        request_lane_wait(&journal->read_lane, &journal->is_reader_stopping);
    }
    return NULL;
}

static void stop_writer(struct journal *journal)
{
    atomic_store_release(&journal->is_writer_stopping, true);
    request_lane_wake(&journal->write_lane);
    if (journal->has_threads)
        pthread_join(journal->writer_thread, NULL);
}

static void stop_reader(struct journal *journal)
{
    atomic_store_release(&journal->is_reader_stopping, true);
    request_lane_wake(&journal->read_lane);
    if (journal->has_threads)
        pthread_join(journal->reader_thread, NULL);
}

enum err journal_start(struct journal *journal, struct error *error)
{
    ASSERT(!journal->has_threads);
    int os_errno = pthread_create(&journal->writer_thread, NULL, run_writer, journal);
    if (os_errno != 0)
        return error_set_errno(error, ERR_SYSTEM, os_errno, "start journal: create the writer thread: %s",
                               strerror(os_errno));
    os_errno = pthread_create(&journal->reader_thread, NULL, run_reader, journal);
    if (os_errno != 0) {
        atomic_store_release(&journal->is_writer_stopping, true);
        request_lane_wake(&journal->write_lane);
        pthread_join(journal->writer_thread, NULL);
        return error_set_errno(error, ERR_SYSTEM, os_errno, "start journal: create the reader thread: %s",
                               strerror(os_errno));
    }
    journal->has_threads = true;
    return OK;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    stop_writer(journal);
    writer_finish(journal); /* listings that waited go to the reader, which is still there */
    stop_reader(journal);
    while (journal_read_step(journal))
        ;
    reader_refuse_all(journal, ERR_SHUTDOWN);
    destroy(journal, !atomic_load_relaxed(&journal->is_failed));
}

void journal_abandon(struct journal *journal)
{
    if (!journal)
        return;
    atomic_store_release(&journal->is_abandoned, true);
    stop_writer(journal);
    stop_reader(journal);
    writer_refuse_all(journal, ERR_SHUTDOWN);
    reader_refuse_all(journal, ERR_SHUTDOWN);
    destroy(journal, false);
}

uint32_t journal_appends_waiting(const struct journal *journal)
{
    return atomic_load_relaxed(&journal->appends_waiting);
}

void journal_get_stats(const struct journal *journal, struct journal_stats *ret_stats)
{
    const struct journal_counters *counters = &journal->counters;
    *ret_stats = (struct journal_stats){
        .appends = atomic_load_relaxed(&counters->appends),
        .groups = atomic_load_relaxed(&counters->groups),
        .flushes = atomic_load_relaxed(&counters->flushes),
        .heads = atomic_load_relaxed(&counters->heads),
        .bytes = atomic_load_relaxed(&counters->bytes),
        .full = atomic_load_relaxed(&counters->full),
        .stale = atomic_load_relaxed(&counters->stale),
        .loads = atomic_load_relaxed(&counters->loads),
        .reads = atomic_load_relaxed(&counters->reads),
        .corrupt = atomic_load_relaxed(&counters->corrupt_writer) + atomic_load_relaxed(&counters->corrupt_reader),
        .last_offset = atomic_load_relaxed(&counters->last_offset),
        .heads_offset = atomic_load_relaxed(&counters->heads_offset),
        .queued = atomic_load_relaxed(&counters->queued),
        .group_last = atomic_load_relaxed(&counters->group_last),
        .flush_ns_last = atomic_load_relaxed(&counters->flush_ns_last),
        .flush_ns_max = atomic_load_relaxed(&counters->flush_ns_max),
        .commit_ns_total = atomic_load_relaxed(&counters->commit_ns),
        .is_failed = atomic_load_relaxed(&journal->is_failed),
        .is_full = atomic_load_relaxed(&journal->is_full),
    };
}
