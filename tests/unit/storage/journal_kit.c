/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/storage/journal_kit.h"

#include <ftw.h>
#include <sched.h>
#include <unistd.h>

#include "runtime/log.h"

/* ---- answers ---------------------------------------------------------------------------------------------------------- */

struct job {
    struct worker_task task;
    struct kit *kit;
    struct msg *request;
    uint32_t size;
    uint16_t kind;
};

/* The caller's `context` is ours here: it finds the request again. */
static void **context_of(struct msg *msg)
{
    switch (msg->kind) {
    case MSG_JOURNAL_APPEND: return &container_of(msg, struct journal_append, msg)->context;
    case MSG_JOURNAL_LOAD: return &container_of(msg, struct journal_load, msg)->context;
    case MSG_JOURNAL_READ: return &container_of(msg, struct journal_read, msg)->context;
    case MSG_JOURNAL_LIST: return &container_of(msg, struct journal_list, msg)->context;
    case MSG_JOURNAL_SAVE: return &container_of(msg, struct journal_save, msg)->context;
    case MSG_JOURNAL_ERASE: return &container_of(msg, struct journal_erase, msg)->context;
    case MSG_JOURNAL_SCAN: return &container_of(msg, struct journal_scan, msg)->context;
    }
    abort();
}

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct kit *kit = context->state;
    struct msg *request = *context_of(*msg);
    uint32_t body = (*msg)->size - (uint32_t)sizeof(struct msg);
    memcpy(request + 1, *msg + 1, body);
    request->kind = (*msg)->kind;
    if (kit->answered < KIT_ORDER_MAX)
        kit->order[kit->answered] = request;
    kit->answered++;
    return OK;
}

static const struct actor_type actor_type = {.name = "kit", .on_message = on_message, .is_pinned = true};

static void run_job(struct worker *worker, struct worker_task *task)
{
    struct job *job = container_of(task, struct job, task);
    struct msg *msg = msg_create(worker, job->kind, MSG_URGENT | MSG_CONTROL, job->size);
    assert_non_null(msg);
    memcpy(msg + 1, job->request + 1, job->size - sizeof *msg);
    msg->to = job->kit->actor;
    *context_of(msg) = job->request;
    job->request->kind = 0;
    struct journal *journal = job->kit->journal;
    switch (job->kind) {
    case MSG_JOURNAL_APPEND: journal_submit_append(journal, container_of(msg, struct journal_append, msg)); break;
    case MSG_JOURNAL_LOAD: journal_submit_load(journal, container_of(msg, struct journal_load, msg)); break;
    case MSG_JOURNAL_READ: journal_submit_read(journal, container_of(msg, struct journal_read, msg)); break;
    case MSG_JOURNAL_LIST: journal_submit_list(journal, container_of(msg, struct journal_list, msg)); break;
    case MSG_JOURNAL_SAVE: journal_submit_save(journal, container_of(msg, struct journal_save, msg)); break;
    case MSG_JOURNAL_ERASE: journal_submit_erase(journal, container_of(msg, struct journal_erase, msg)); break;
    case MSG_JOURNAL_SCAN: journal_submit_scan(journal, container_of(msg, struct journal_scan, msg)); break;
    }
}

void kit_submit(struct kit *kit, struct msg *request, uint32_t size)
{
    struct job job = {.task.run = run_job, .kit = kit, .request = request, .size = size, .kind = request->kind};
    worker_post(kit->worker, &job.task);
    while (request->kind != 0)
        (void)worker_step(kit->worker);
    kit->submitted++;
}

bool kit_is_answered(const struct msg *request)
{
    return request->kind != 0;
}

void kit_settle(struct kit *kit)
{
    while (kit->has_threads && kit->answered < kit->submitted)
        if (!worker_step(kit->worker))
            sched_yield();
    if (kit->has_threads)
        return;
    for (int i = 0; i < 100000; i++) {
        bool did = journal_write_step(kit->journal);
        did |= journal_read_step(kit->journal);
        did |= worker_step(kit->worker);
        if (!did && kit->answered == kit->submitted)
            return;
    }
    fail_msg("requests without answer: %u of %u", kit->submitted - kit->answered, kit->submitted);
}

/* ---- life ------------------------------------------------------------------------------------------------------------- */

static uint64_t random_of(void *context)
{
    struct kit *kit = context;
    uint64_t z = kit->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t kit_draw(struct kit *kit, uint64_t bound)
{
    return random_of(kit) % bound;
}

static void on_failed(void *context, const struct error *error)
{
    struct kit *kit = context;
    kit->failed_calls++;
    snprintf(kit->failed_text, sizeof kit->failed_text, "%s", error->text);
}

static void on_exit_(struct actor_context *context, enum err reason)
{
    (void)context;
    (void)reason;
}

struct spawn {
    struct worker_task task;
    struct kit *kit;
};

static void run_spawn(struct worker *worker, struct worker_task *task)
{
    struct kit *kit = container_of(task, struct spawn, task)->kit;
    static struct actor_type type;
    type = actor_type;
    type.on_exit = on_exit_;
    assert_int_equal(actor_spawn(worker, &type, kit, &(struct actor_options){0}, &kit->actor), OK);
}

static struct kit *create(void)
{
    log_set_level(LOG_ERROR + 1);
    struct kit *kit = calloc(1, sizeof *kit);
    assert_non_null(kit);
    struct error error = {0};
    struct runtime_options options = {.worker_count = 1,
                                      .ring = {.sq_entries = 16, .cq_entries = 32, .buffer_count = 16}};
    assert_int_equal(runtime_create(&options, &kit->runtime, &error), OK);
    kit->worker = runtime_worker(kit->runtime, 0);
    assert_int_equal(worker_start(kit->worker, &error), OK);
    struct spawn spawn = {.task.run = run_spawn, .kit = kit};
    worker_post(kit->worker, &spawn.task);
    while (actor_id_is_none(kit->actor))
        (void)worker_step(kit->worker);
    kit->options = (struct journal_options){
        .directory = kit->directory, .backend = "sqlite", .on_failed = on_failed, .on_failed_context = kit};
    return kit;
}

struct kit *kit_create_sim(uint64_t seed)
{
    struct kit *kit = create();
    kit->random = seed;
    snprintf(kit->directory, sizeof kit->directory, "sim");
    kit->options.vfs = "kit";
    kit->disk = disk_sim_create(
        &(struct disk_sim_options){.name = "kit", .random = random_of, .random_context = kit, .is_powersafe = true});
    assert_non_null(kit->disk);
    return kit;
}

struct kit *kit_create_at(const char *directory)
{
    struct kit *kit = create();
    snprintf(kit->directory, sizeof kit->directory, "%s", directory);
    kit->keeps_directory = true;
    return kit;
}

struct kit *kit_create_disk(void)
{
    struct kit *kit = create();
    snprintf(kit->directory, sizeof kit->directory, "/tmp/ciranda-journal-XXXXXX");
    assert_non_null(mkdtemp(kit->directory));
    return kit;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    (void)stat;
    (void)type;
    (void)walk;
    return remove(path);
}

void kit_destroy(struct kit *kit)
{
    journal_close(kit->journal);
    runtime_destroy(kit->runtime);
    disk_sim_destroy(kit->disk);
    if (!kit->disk && !kit->keeps_directory)
        (void)nftw(kit->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(kit);
}

enum err kit_open(struct kit *kit, struct error *error)
{
    enum err err = journal_open(&kit->options, kit->runtime, &kit->journal, error);
    return err == OK && kit->has_threads ? journal_start(kit->journal, error) : err;
}

static void drain(struct kit *kit)
{
    while (worker_step(kit->worker))
        ;
    assert_int_equal(kit->answered, kit->submitted);
}

void kit_reopen(struct kit *kit)
{
    struct error error = {0};
    journal_close(kit->journal);
    kit->journal = NULL;
    drain(kit);
    if (kit_open(kit, &error) != OK)
        fail_msg("%s", error.text);
}

void kit_crash(struct kit *kit)
{
    if (kit->disk)
        disk_sim_crash(kit->disk);
    journal_abandon(kit->journal);
    kit->journal = NULL;
    drain(kit);
    if (kit->disk)
        disk_sim_restart(kit->disk);
}

/* ---- requests --------------------------------------------------------------------------------------------------------- */

struct journal_append kit_make_append(const char *key, struct journal_head *head, uint64_t expected, const char *data)
{
    return (struct journal_append){.key = slice_from_text(key),
                                   .head = head,
                                   .expected_version = expected,
                                   .event_count = 1,
                                   .summary = {.status = 1, .messages = 1, .owner = "bot"},
                                   .data = slice_from_text(data)};
}

enum err kit_append_request(struct kit *kit, struct journal_append *append)
{
    KIT_SUBMIT(kit, append, MSG_JOURNAL_APPEND);
    kit_settle(kit);
    return append->result;
}

enum err kit_append(struct kit *kit, const char *key, struct journal_head *head, const char *data)
{
    struct journal_append append = kit_make_append(key, head, head->version, data);
    return kit_append_request(kit, &append);
}

enum err kit_load(struct kit *kit, const char *key, struct journal_load *ret_load)
{
    *ret_load = (struct journal_load){.key = slice_from_text(key)};
    KIT_SUBMIT(kit, ret_load, MSG_JOURNAL_LOAD);
    kit_settle(kit);
    return ret_load->result;
}

enum err kit_read(struct kit *kit, const char *key, uint64_t after, uint64_t until, uint32_t count,
                  struct journal_read *ret_read)
{
    *ret_read = (struct journal_read){
        .key = slice_from_text(key), .after_version = after, .until_version = until, .event_count_max = count};
    KIT_SUBMIT(kit, ret_read, MSG_JOURNAL_READ);
    kit_settle(kit);
    return ret_read->result;
}

enum err kit_save(struct kit *kit, const char *key, uint64_t version, const char *data)
{
    struct journal_save save = {.key = slice_from_text(key), .version = version, .data = slice_from_text(data)};
    KIT_SUBMIT(kit, &save, MSG_JOURNAL_SAVE);
    kit_settle(kit);
    return save.result;
}

enum err kit_erase(struct kit *kit, const char *key, struct journal_head *head)
{
    struct journal_erase erase = {.key = slice_from_text(key), .head = head};
    KIT_SUBMIT(kit, &erase, MSG_JOURNAL_ERASE);
    kit_settle(kit);
    return erase.result;
}

enum err kit_list(struct kit *kit, const char *prefix, const char *after, uint32_t count, struct journal_list *ret_list)
{
    ret_list->prefix = slice_from_text(prefix);
    ret_list->after_key = slice_from_text(after);
    ret_list->item_count_max = count;
    KIT_SUBMIT(kit, ret_list, MSG_JOURNAL_LIST);
    kit_settle(kit);
    return ret_list->result;
}

enum err kit_scan(struct kit *kit, uint64_t after, uint32_t count, struct journal_scan *ret_scan)
{
    *ret_scan = (struct journal_scan){.after_offset = after, .item_count_max = count};
    KIT_SUBMIT(kit, ret_scan, MSG_JOURNAL_SCAN);
    kit_settle(kit);
    return ret_scan->result;
}

struct journal_stats kit_stats(const struct kit *kit)
{
    struct journal_stats stats;
    journal_get_stats(kit->journal, &stats);
    return stats;
}

void kit_assert_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    if (slice.size)
        assert_memory_equal(slice.data, text, slice.size);
}

static bool bytes_have(const void *bytes, size_t size, const char *text)
{
    return size > 0 && memmem(bytes, size, text, strlen(text)) != NULL;
}

bool kit_file_has(const struct kit *kit, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", kit->directory, name);
    if (kit->disk) {
        const uint8_t *bytes;
        size_t size;
        return disk_sim_peek(kit->disk, path, &bytes, &size) && bytes_have(bytes, size, text);
    }
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    static char bytes[16 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    return bytes_have(bytes, size, text);
}
