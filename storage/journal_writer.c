/* SPDX-License-Identifier: Apache-2.0 */
/* journal_writer: groups of appends and snapshots, sweeps of the heads, recovery. With journal_erasure.c the only code that
 * writes.
 *
 * A step takes all that has come and commits it as one transaction: while the disk flushes, the next group gathers, so that the
 * group is as large as the load makes it and nobody waits for a timer. Each request is judged on its own before it enters the
 * transaction (F11); once the transaction fails, all in it fail together, their lent heads are put back, and what readers see
 * has never moved (heads.h H3).
 *
 * A failed write or flush is the end (J4): fsync on Linux forgets the pages that it failed to write, so that a second one
 * proves nothing. Full is not: the pages were refused before anything was promised.
 *
 * Limits: a group has at most group_count_max requests and about GROUP_BYTES_MAX bytes.
 */
#include "storage/journal_internal.h"

#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/planted.h"
#include "runtime/sometimes.h"

enum {
    GROUP_BYTES_MAX = 8 << 20,
    /* A sweep is due also with this many bytes of records behind the last one's floor, since a start reads them, and with this
     * many heads in memory, since they cost some 20 MB. Half as much of either may come on top while it runs. */
    TAIL_BYTES_DUE = 256 << 20,
    HEADS_DUE = 1 << 17,
    SWEEP_HEADS_MIN = 64,    /* heads a transaction while a sweep is under way: costs 0.1 ms beside a flush of some 0.3 */
    SWEEP_HEADS_IDLE = 1024, /* when nobody waits for it */
};

#define COUNTER(journal, name) (&(journal)->counters.name)

uint64_t writer_last_offset(const struct journal *journal)
{
    return atomic_load_relaxed(COUNTER(journal, last_offset));
}

static uint64_t tail_records(const struct journal *journal)
{
    return writer_last_offset(journal) - atomic_load_relaxed(COUNTER(journal, heads_offset));
}

/* J4. Nothing is written after it; what waits and what comes is refused by journal_write_step. */
static void fail(struct journal *journal, const char *doing, enum err err)
{
    struct error error = {0};
    (void)error_set(&error, err == ERR_STORAGE_CORRUPT ? err : ERR_STORAGE_FAILED, "journal: %s: %s", doing,
                    journal->type->last_error(journal->backend));
    journal->type->rollback(journal->backend);
    atomic_store_relaxed(&journal->is_failed, true);
    LOG(LOG_ERROR, "journal_failed", LOG_ERR(error.code), LOG_TEXT("doing", doing), LOG_TEXT("reason", error.text),
        LOG_TEXT("remedy", "check the disk and its free space, then start again; nothing acknowledged is lost"));
    if (journal->on_failed)
        journal->on_failed(journal->on_failed_context, &error);
}

enum err writer_give_up(struct journal *journal, const char *doing, enum err err)
{
    if (err == ERR_STORAGE_FAILED || err == ERR_STORAGE_CORRUPT) {
        fail(journal, doing, err);
        return ERR_STORAGE_FAILED;
    }
    journal->type->rollback(journal->backend);
    if (err == ERR_STORAGE_FULL) {
        counter_add(COUNTER(journal, full), 1);
        if (!atomic_load_relaxed(&journal->is_full))
            LOG(LOG_ERROR, "journal_full", LOG_TEXT("doing", doing),
                LOG_TEXT("remedy", "free space on the data directory's disk"));
        atomic_store_relaxed(&journal->is_full, true);
    } else {
        LOG(LOG_WARN, "journal_refused", LOG_TEXT("doing", doing), LOG_ERR(err));
    }
    return err;
}

enum err writer_commit(struct journal *journal)
{
    uint64_t begin_ns = clock_mono_ns();
    enum err err = journal->type->commit(journal->backend);
    uint64_t flush_ns = clock_mono_ns() - begin_ns;
    if (err != OK)
        return err;
    counter_add(COUNTER(journal, flushes), 1);
    counter_add(COUNTER(journal, commit_ns), flush_ns);
    atomic_store_relaxed(COUNTER(journal, flush_ns_last), flush_ns);
    if (flush_ns > atomic_load_relaxed(COUNTER(journal, flush_ns_max)))
        atomic_store_relaxed(COUNTER(journal, flush_ns_max), flush_ns);
    if (atomic_load_relaxed(&journal->is_full)) {
        atomic_store_relaxed(&journal->is_full, false);
        journal->writer.has_erasures = true; /* a step may have been refused */
        LOG(LOG_INFO, "journal_not_full");
    }
    return OK;
}

/* ---- heads and sweeps ------------------------------------------------------------------------------------------------- */

/* Within a transaction: the head of a key whose row is damaged, from its last record. Returns: ERR_NOT_FOUND when that is not
 * beyond doubt. */
static enum err rebuild_head(struct journal *journal, struct slice key, struct record_head *ret_head)
{
    struct record record;
    counter_add(COUNTER(journal, corrupt_writer), 1);
    enum err err = journal->type->find_last_of(journal->backend, key, &record);
    LOG(LOG_ERROR, "head_corrupt", LOG_SLICE("key", key), LOG_TEXT("rebuilt", err == OK ? "yes" : "no"));
    if (err != OK)
        return err;
    *ret_head = (struct record_head){
        .key = key, .offset = record.offset, .version = record_last_version(&record), .record_count = record.number};
    (void)summary_decode(record.summary, &ret_head->summary);
    return OK;
}

enum err writer_enter_head(struct journal *journal, struct slice key, struct head_entry **ret_entry,
                           enum err *ret_refusal)
{
    *ret_refusal = OK;
    *ret_entry = heads_find(journal->heads, key);
    if (*ret_entry)
        return OK;
    struct record_head row;
    enum err err = journal->type->find_head(journal->backend, key, &row);
    bool has_row = err == OK, is_damaged = has_row && row.crc != record_head_crc(&row);
    if (is_damaged && (err = rebuild_head(journal, key, &row)) == ERR_NOT_FOUND) {
        *ret_refusal = ERR_STORAGE_CORRUPT;
        return OK;
    }
    if (err != OK && err != ERR_NOT_FOUND)
        return err;
    *ret_entry = heads_add(journal->heads, key, has_row ? &row : NULL);
    if (!*ret_entry)
        return ERR_NO_MEMORY;
    if (is_damaged) { /* dirty, so that the next sweep heals the row */
        heads_lock(journal->heads);
        heads_publish(journal->heads, *ret_entry, row.offset, row.version, row.record_count, &row.summary);
        heads_unlock(journal->heads);
    }
    return OK;
}

/* Sweeps ride on the groups' transactions. Nothing is gained by writing heads while there is time: later they are fewer a
 * record, and what a start has to scan only grows with the records of groups. */
static bool sweep_is_due(const struct journal *journal)
{
    return journal->writer.lists.first || tail_records(journal) >= journal->tail_records_max / 2 ||
           journal->writer.tail_bytes >= TAIL_BYTES_DUE || heads_count(journal->heads) >= HEADS_DUE;
}

/* Between transactions. Without memory there is no sweep for now: it is due again with the next group. */
static void begin_sweep_when_due(struct journal *journal)
{
    if (journal->writer.has_swept) {
        heads_free_clean(journal->heads);
        journal->writer.has_swept = false;
    }
    if (heads_sweep_is_active(journal->heads) || !sweep_is_due(journal))
        return;
    if (heads_sweep_start(journal->heads, writer_last_offset(journal)) != OK)
        LOG(LOG_WARN, "journal_sweep_postponed", LOG_ERR(ERR_NO_MEMORY));
    else
        journal->writer.tail_bytes = 0;
}

/* Within a transaction: the summary of a head from its record. One that is damaged is told when the record is read. */
static enum err read_summary(struct journal *journal, struct record_head *head)
{
    struct record record;
    enum err err = journal->type->find_record(journal->backend, head->offset, &record);
    if (err == OK)
        (void)summary_decode(record.summary, &head->summary);
    return err == ERR_NOT_FOUND ? OK : err;
}

/* Within a transaction: the next `count_max` heads of a sweep, and the mark with the last of them. */
static enum err sweep_write(struct journal *journal, uint32_t count_max, uint32_t *ret_count)
{
    struct heads *heads = journal->heads;
    uint32_t left = heads_sweep_left(heads), count = left < count_max ? left : count_max;
    enum err err = OK;
    for (uint32_t i = 0; i < count; i++) {
        bool is_whole;
        struct record_head head = heads_sweep_peek(heads, i, &is_whole);
        if (head.version == 0) /* erased: its row is gone already */
            continue;
        if (!is_whole && (err = read_summary(journal, &head)) != OK)
            return err;
        head.crc = record_head_crc(&head);
        if ((err = journal->type->put_head(journal->backend, &head)) != OK)
            return err;
    }
    if (count == left)
        err = journal->type->put_mark(journal->backend, BACKEND_MARK_HEADS, heads_sweep_floor(heads));
    *ret_count = count;
    return err;
}

static void sweep_written(struct journal *journal, uint32_t count)
{
    heads_sweep_advance(journal->heads, count);
    counter_add(COUNTER(journal, heads), count);
    if (heads_sweep_is_active(journal->heads))
        return;
    atomic_store_relaxed(COUNTER(journal, heads_offset), heads_sweep_floor(journal->heads));
    journal->writer.has_swept = true;
}

/* Listings go on to the reader once the table shows every append that was answered when they came. */
static void release_lists(struct journal *journal)
{
    struct writer *writer = &journal->writer;
    if (heads_dirty_count(journal->heads) > 0 &&
        atomic_load_relaxed(COUNTER(journal, heads_offset)) < writer->lists_floor)
        return;
    for (struct msg *msg; (msg = msg_list_pop(&writer->lists));)
        journal_forward_read(journal, msg);
}

static void refuse_lists(struct journal *journal, enum err result)
{
    for (struct msg *msg; (msg = msg_list_pop(&journal->writer.lists));) {
        request_set_result(msg, result);
        answers_push(&journal->writer.answers, msg);
    }
}

/* The next heads in a transaction of their own: nobody else has one to share. Returns: whether it got on. */
static bool sweep_alone(struct journal *journal)
{
    uint32_t count = 0;
    enum err err = journal->type->begin(journal->backend);
    if (err == OK)
        err = sweep_write(journal, SWEEP_HEADS_IDLE, &count);
    if (err == OK)
        err = writer_commit(journal);
    if (err != OK) {
        refuse_lists(journal, writer_give_up(journal, "write the heads", err));
        return false;
    }
    sweep_written(journal, count);
    return true;
}

/* Nobody appends, somebody wants a listing. Returns: whether it did something. */
static bool serve_lists(struct journal *journal)
{
    if (!journal->writer.lists.first)
        return false;
    begin_sweep_when_due(journal);
    if (!heads_sweep_is_active(journal->heads))
        refuse_lists(journal, ERR_NO_MEMORY);
    else if (sweep_alone(journal))
        release_lists(journal);
    return true;
}

/* ---- the group -------------------------------------------------------------------------------------------------------- */

/* The verdict that needs no look at the store. */
static enum err check_append(const struct journal_append *append)
{
    const struct journal_summary *summary = &append->summary;
    if (append->key.size == 0 || append->event_count == 0 || summary->created_ms > INT64_MAX ||
        summary->updated_ms > INT64_MAX)
        return ERR_INVALID;
    if (append->key.size > JOURNAL_KEY_BYTES_MAX || append->data.size > JOURNAL_RECORD_BYTES_MAX ||
        append->head->record_count >= CHAIN_RECORDS_MAX ||
        append->head->version > (uint64_t)INT64_MAX - append->event_count)
        return ERR_LIMIT;
    return append->expected_version == append->head->version ? OK : ERR_STALE;
}

static enum err check_save(const struct journal_save *save)
{
    if (save->key.size == 0 || save->version == 0)
        return ERR_INVALID;
    return save->key.size > JOURNAL_KEY_BYTES_MAX || save->data.size > JOURNAL_SNAPSHOT_BYTES_MAX ? ERR_LIMIT : OK;
}

/* Where the key ends for the request at hand: behind what the group already holds of it. */
static void view_of(const struct journal *journal, const struct head_entry *entry, uint64_t *ret_offset,
                    uint64_t *ret_version)
{
    bool is_pending = entry->group == journal->writer.group;
    *ret_offset = is_pending ? entry->pending_offset : entry->offset;
    *ret_version = is_pending ? entry->pending_version : entry->version;
}

static void set_pending(const struct journal *journal, struct head_entry *entry, uint64_t offset, uint64_t version)
{
    entry->group = journal->writer.group;
    entry->pending_offset = offset;
    entry->pending_version = version;
}

static void save_undo(struct group_item *item, const struct journal_head *head)
{
    /* The path alone, not its room: three or four places of twenty-eight. */
    memcpy(&item->before, head, offsetof(struct journal_head, back) + head->back_count * sizeof head->back[0]);
}

/* Applies one append to the open transaction. Returns: OK with *ret_refusal (OK: applied), or the transaction's failure. */
static enum err apply_append(struct journal *journal, struct group_item *item, uint64_t offset, enum err *ret_refusal)
{
    struct journal_append *append = container_of(item->msg, struct journal_append, msg);
    struct journal_head *head = append->head;
    enum err err = writer_enter_head(journal, append->key, &item->entry, ret_refusal);
    if (err != OK || *ret_refusal != OK)
        return err;
    /* The lent head is the owner's belief. Two owners may hold one each; the journal's own view lets one win (G5). The offset
     * is compared too: after an erasure another life of the key may have come to the same version. */
    uint64_t present_offset, present_version;
    view_of(journal, item->entry, &present_offset, &present_version);
    if (head->version != present_version || head->offset != present_offset) {
        *ret_refusal = ERR_STALE;
        return OK;
    }
    uint8_t summary[SUMMARY_BYTES_MAX], back[CHAIN_BYTES_MAX];
    size_t summary_size = summary_encode(&append->summary, summary), back_size = chain_encode(head, offset, back);
    struct record record = {
        .offset = offset,
        .key = append->key,
        .number = head->record_count + 1,
        .first_version = head->version + 1,
        .event_count = append->event_count,
        .summary = slice_of((const char *)summary, summary_size),
        .back = slice_of((const char *)back, back_size),
        .data = append->data,
    };
    record.crc = record_crc(&record);
    if ((err = journal->type->append(journal->backend, &record)) != OK)
        return err;
    save_undo(item, head);
    chain_push(head, offset, append->event_count);
    if (PLANTED(BACK_CHAIN_SKIPS) && head->record_count % 8 == 7)
        head->back[head->back_count - 1] = head->back[head->back_count - 2];
    set_pending(journal, item->entry, offset, head->version);
    append->offset = offset;
    return OK;
}

static enum err apply_save(struct journal *journal, struct group_item *item, enum err *ret_refusal)
{
    struct journal_save *save = container_of(item->msg, struct journal_save, msg);
    enum err err = writer_enter_head(journal, save->key, &item->entry, ret_refusal);
    if (err != OK || *ret_refusal != OK)
        return err;
    uint64_t offset, version;
    view_of(journal, item->entry, &offset, &version);
    /* A snapshot of a key without records would come to life with the key's next first record. */
    if (save->version > version) {
        *ret_refusal = version == 0 ? ERR_NOT_FOUND : ERR_STALE;
        return OK;
    }
    struct record_snapshot snapshot = {.key = save->key, .version = save->version, .data = save->data};
    snapshot.crc = record_snapshot_crc(&snapshot);
    return journal->type->put_snapshot(journal->backend, &snapshot);
}

/* Takes the next group from the queue: up to an erasure, which is a transaction of its own. Listings are set aside. */
static uint32_t gather(struct journal *journal)
{
    struct writer *writer = &journal->writer;
    uint32_t count = 0;
    size_t bytes = 0;
    while (writer->queue.first && count < journal->group_count_max && bytes < GROUP_BYTES_MAX) {
        uint16_t kind = writer->queue.first->kind;
        if (kind == MSG_JOURNAL_ERASE)
            break;
        struct msg *msg = msg_list_pop(&writer->queue);
        counter_add(COUNTER(journal, queued), (uint32_t)-1);
        if (kind == MSG_JOURNAL_LIST) {
            msg_list_append(&writer->lists, msg);
            writer->lists_floor = writer_last_offset(journal);
            continue;
        }
        bytes += kind == MSG_JOURNAL_APPEND ? container_of(msg, struct journal_append, msg)->data.size
                                            : container_of(msg, struct journal_save, msg)->data.size;
        struct group_item *item = &writer->items[count++];
        item->msg = msg;
        item->is_refused = false;
        item->is_applied = false;
    }
    return count;
}

static struct slice key_of(const struct msg *msg)
{
    return msg->kind == MSG_JOURNAL_APPEND ? container_of(msg, const struct journal_append, msg)->key
                                           : container_of(msg, const struct journal_save, msg)->key;
}

/* While one request of a group is served, memory for those behind it is on its way: keys are random. */
static void look_ahead(const struct journal *journal, uint32_t position, uint32_t count)
{
    enum { LENT = 24, BUCKET = 16, ENTRY = 8 };
    const struct group_item *items = journal->writer.items;
    if (position + LENT < count && items[position + LENT].msg->kind == MSG_JOURNAL_APPEND) {
        const struct journal_append *append = container_of(items[position + LENT].msg, const struct journal_append, msg);
        __builtin_prefetch(append->key.data);
        __builtin_prefetch(append->head, 1);
        __builtin_prefetch(append->data.data);
    }
    if (position + BUCKET < count)
        heads_prefetch_bucket(journal->heads, key_of(items[position + BUCKET].msg));
    if (position + ENTRY < count)
        heads_prefetch_entry(journal->heads, key_of(items[position + ENTRY].msg));
}

/* Judges and applies each request. Those refused have their result. Returns: why the transaction cannot be committed. */
static enum err apply_group(struct journal *journal, uint32_t count, uint32_t *ret_applied, uint32_t *ret_appended)
{
    struct writer *writer = &journal->writer;
    uint32_t applied = 0, appended = 0;
    bool has_begun = false;
    enum err err = OK;
    for (uint32_t i = 0; i < count && err == OK; i++) {
        struct group_item *item = &writer->items[i];
        bool is_append = item->msg->kind == MSG_JOURNAL_APPEND;
        look_ahead(journal, i, count);
        enum err refusal = is_append ? check_append(container_of(item->msg, struct journal_append, msg))
                                     : check_save(container_of(item->msg, struct journal_save, msg));
        if (refusal == OK && !has_begun) {
            err = journal->type->begin(journal->backend);
            has_begun = err == OK;
        }
        if (refusal == OK && err == OK)
            err = is_append ? apply_append(journal, item, writer_last_offset(journal) + appended + 1, &refusal)
                            : apply_save(journal, item, &refusal);
        item->is_refused = refusal != OK;
        item->is_applied = err == OK && !item->is_refused;
        applied += item->is_applied;
        appended += item->is_applied && is_append;
        if (item->is_refused)
            request_set_result(item->msg, refusal);
        counter_add(COUNTER(journal, stale), refusal == ERR_STALE);
    }
    if (err == OK && has_begun && applied == 0)
        journal->type->rollback(journal->backend); /* nothing to write: no flush */
    *ret_applied = applied;
    *ret_appended = appended;
    return err;
}

/* The lent heads go back to where they were, the last first: one head may have been lent many times. */
static void undo_heads(struct journal *journal, uint32_t count)
{
    for (uint32_t i = count; i > 0; i--) {
        struct group_item *item = &journal->writer.items[i - 1];
        if (!item->is_applied || item->msg->kind != MSG_JOURNAL_APPEND)
            continue;
        struct journal_append *append = container_of(item->msg, struct journal_append, msg);
        memcpy(append->head, &item->before,
               offsetof(struct journal_head, back) + item->before.back_count * sizeof item->before.back[0]);
        append->offset = 0;
    }
}

/* What was committed becomes what readers see. */
static void publish_heads(struct journal *journal, uint32_t count)
{
    uint64_t bytes = 0;
    heads_lock(journal->heads);
    for (uint32_t i = 0; i < count; i++) {
        struct group_item *item = &journal->writer.items[i];
        if (!item->is_applied || item->msg->kind != MSG_JOURNAL_APPEND)
            continue;
        struct journal_append *append = container_of(item->msg, struct journal_append, msg);
        heads_publish(journal->heads, item->entry, append->offset, append->expected_version + append->event_count,
                      item->before.record_count + 1, &append->summary);
        bytes += append->data.size;
    }
    heads_unlock(journal->heads);
    journal->writer.tail_bytes += bytes;
    counter_add(COUNTER(journal, bytes), bytes);
}

static void answer_group(struct journal *journal, uint32_t count, enum err result)
{
    for (uint32_t i = 0; i < count; i++) {
        struct group_item *item = &journal->writer.items[i];
        if (!item->is_refused)
            request_set_result(item->msg, result);
        answers_push(&journal->writer.answers, item->msg);
    }
}

/* How many heads a group of `appended` records takes along. Twice as many: a sweep of what half a tail has dirtied is through
 * after a quarter of one more. */
static uint32_t sweep_share(const struct journal *journal, uint32_t appended)
{
    uint32_t floor = journal->writer.lists.first ? SWEEP_HEADS_IDLE : SWEEP_HEADS_MIN;
    return 2 * appended > floor ? 2 * appended : floor;
}

static void commit_group(struct journal *journal)
{
    journal->writer.group++;
    uint32_t count = gather(journal), applied = 0, appended = 0, swept = 0;
    begin_sweep_when_due(journal);
    enum err err = apply_group(journal, count, &applied, &appended);
    bool has_sweep = err == OK && applied > 0 && heads_sweep_is_active(journal->heads);
    if (has_sweep)
        err = sweep_write(journal, sweep_share(journal, appended), &swept);
    if (err == OK && applied > 0)
        err = writer_commit(journal);
    if (err != OK) {
        bool is_lie = PLANTED(ACK_BEFORE_FLUSH) || (PLANTED(FULL_TAKEN_FOR_SUCCESS) && err == ERR_STORAGE_FULL);
        SOMETIMES(GROUP_REFUSED, err == ERR_STORAGE_FULL);
        if (PLANTED(HEAD_KEPT_AFTER_FULL) && err == ERR_STORAGE_FULL)
            publish_heads(journal, count);
        else if (!is_lie)
            undo_heads(journal, count);
        err = writer_give_up(journal, "commit a group", err);
        answer_group(journal, count, is_lie ? OK : err);
        return;
    }
    if (applied > 0) {
        if (has_sweep)
            sweep_written(journal, swept);
        publish_heads(journal, count);
        atomic_store_relaxed(COUNTER(journal, last_offset), writer_last_offset(journal) + appended);
        counter_add(COUNTER(journal, appends), appended);
        counter_add(COUNTER(journal, groups), 1);
        atomic_store_relaxed(COUNTER(journal, group_last), applied);
        SOMETIMES(GROUP_OF_MANY, appended > 1);
    }
    release_lists(journal);
    answer_group(journal, count, OK);
}

/* ---- the step --------------------------------------------------------------------------------------------------------- */

static void refuse_queue(struct journal *journal, enum err result)
{
    for (struct msg *msg; (msg = msg_list_pop(&journal->writer.queue));) {
        request_set_result(msg, result);
        answers_push(&journal->writer.answers, msg);
    }
    erasure_answer(journal, (struct slice){0}, result);
    atomic_store_relaxed(COUNTER(journal, queued), 0);
    refuse_lists(journal, result);
}

/* Returns: whether it did something. */
static bool maintain(struct journal *journal, bool is_idle)
{
    bool did = false;
    enum err err = journal->type->maintain(journal->backend, is_idle, &did);
    if (err != OK)
        (void)writer_give_up(journal, "write back the log", err);
    return did && err == OK;
}

bool journal_write_step(struct journal *journal)
{
    struct writer *writer = &journal->writer;
    counter_add(COUNTER(journal, queued), request_lane_take(&journal->write_lane, &writer->queue));
    bool is_failed = atomic_load_relaxed(&journal->is_failed);
    bool did = true, has_requests = writer->queue.first != NULL;
    if (is_failed && !writer->queue.first && !writer->lists.first && !writer->erasures.first)
        did = false;
    else if (is_failed)
        refuse_queue(journal, ERR_STORAGE_FAILED);
    else if (!writer->queue.first)
        did = serve_lists(journal) || erasure_step(journal) || maintain(journal, true);
    else if (writer->queue.first->kind == MSG_JOURNAL_ERASE)
        erasure_begin(journal);
    else
        commit_group(journal);
    answers_send(journal, &writer->answers);
    /* After the answers have left. */
    if (did && !atomic_load_relaxed(&journal->is_failed)) {
        if (has_requests) /* one after each group: under load there is no other time for it */
            (void)erasure_step(journal);
        (void)maintain(journal, false);
    }
    return did;
}

/* ---- start and end ---------------------------------------------------------------------------------------------------- */

enum err writer_init(struct journal *journal, struct error *error)
{
    /* 500 bytes an item, of which a group touches the first hundred. */
    journal->writer.items = calloc(journal->group_count_max, sizeof *journal->writer.items);
    return journal->writer.items
               ? OK
               : error_set(error, ERR_NO_MEMORY, "a group of %u: out of memory", journal->group_count_max);
}

void writer_deinit(struct journal *journal)
{
    free(journal->writer.items);
}

/* One record of the tail. */
static enum err recover_record(struct journal *journal, const struct record *record)
{
    struct journal_summary summary = {0};
    if (record->key.size == 0 || record->key.size > JOURNAL_KEY_BYTES_MAX) {
        counter_add(COUNTER(journal, corrupt_writer), 1);
        LOG(LOG_ERROR, "record_corrupt", LOG_UINT("offset", record->offset));
        return OK;
    }
    bool is_erased = false;
    enum err err = erasure_covers(journal, record, &is_erased);
    if (err != OK || is_erased)
        return err;
    /* That the record exists counts here: its conversation answers as damaged. One whose key is what was damaged leaves its
     * conversation at the record before, which only this line tells (docs/STORAGE.md, Damage). */
    if (record->crc != record_crc(record)) {
        counter_add(COUNTER(journal, corrupt_writer), 1);
        LOG(LOG_ERROR, "record_corrupt", LOG_UINT("offset", record->offset), LOG_SLICE("key", record->key));
    }
    (void)summary_decode(record->summary, &summary);
    struct head_entry *entry = heads_find(journal->heads, record->key);
    if (!entry && !(entry = heads_add(journal->heads, record->key, NULL)))
        return ERR_NO_MEMORY;
    heads_publish(journal->heads, entry, record->offset, record_last_version(record), record->number, &summary);
    return OK;
}

static enum err recover_tail(struct journal *journal, uint64_t *ret_record_count)
{
    const struct backend_type *type = journal->type;
    uint64_t heads_offset = 0, used_offset = 0, newest_offset = 0;
    enum err err = type->read_mark(journal->backend, BACKEND_MARK_HEADS, &heads_offset);
    if (err == OK || err == ERR_NOT_FOUND)
        err = type->read_mark(journal->backend, BACKEND_MARK_OFFSET, &used_offset);
    if (err == OK || err == ERR_NOT_FOUND)
        err = type->read_last(journal->backend, &newest_offset);
    if (err == OK)
        err = type->scan_start(journal->backend, heads_offset);
    struct record record;
    while (err == OK && (err = type->scan_next(journal->backend, &record)) == OK) {
        err = recover_record(journal, &record);
        journal->writer.tail_bytes += record.data.size;
        (*ret_record_count)++;
    }
    used_offset = used_offset > heads_offset ? used_offset : heads_offset;
    atomic_store_relaxed(COUNTER(journal, heads_offset), heads_offset);
    atomic_store_relaxed(COUNTER(journal, last_offset), newest_offset > used_offset ? newest_offset : used_offset);
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err writer_recover(struct journal *journal, struct error *error)
{
    uint64_t begin_ns = clock_mono_ns(), record_count = 0;
    enum err err = erasure_recover(journal);
    if (err == OK)
        err = journal->type->read_begin(journal->backend);
    if (err == OK) {
        err = recover_tail(journal, &record_count);
        journal->type->read_end(journal->backend);
    }
    journal->type->rollback(journal->backend); /* ends what was looked at for erasures */
    if (err != OK)
        return error_set(error, err == ERR_STORAGE_FAILED ? ERR_SYSTEM : err, "scan the tail of the journal: %s",
                         err_text(err));
    LOG(LOG_INFO, "journal_open", LOG_UINT("last_offset", writer_last_offset(journal)),
        LOG_UINT("tail_records", record_count), LOG_UINT("scan_us", (clock_mono_ns() - begin_ns) / 1000));
    return OK;
}

void writer_refuse_all(struct journal *journal, enum err result)
{
    (void)request_lane_close(&journal->write_lane, &journal->writer.queue);
    refuse_queue(journal, result);
    answers_send(journal, &journal->writer.answers);
}

/* So that the next start has nothing to scan. What fails is scanned. */
static void write_all_heads(struct journal *journal)
{
    struct heads *heads = journal->heads;
    bool got_on = !atomic_load_relaxed(&journal->is_failed);
    while (got_on && (heads_sweep_is_active(heads) || heads_dirty_count(heads) > 0)) {
        if (!heads_sweep_is_active(heads) && heads_sweep_start(heads, writer_last_offset(journal)) != OK)
            return;
        got_on = sweep_alone(journal);
    }
}

void writer_finish(struct journal *journal)
{
    while (journal_write_step(journal))
        ;
    write_all_heads(journal);
    writer_refuse_all(journal, ERR_SHUTDOWN);
}
