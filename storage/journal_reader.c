/* SPDX-License-Identifier: Apache-2.0 */
/* journal_reader: loads, pages, listings and the bus, on the read side of the backend, so that none waits for a flush.
 *
 * A step is one read transaction. It serves the loads that wait, since a conversation stands still until it is awake; then some
 * pages and a slice of a listing, so that these get on however many loads there are, and the next loads wait for no more than that.
 *
 * What a step may see is fixed by an order: first the heads of all its requests are looked up under the lock of heads.h, then the
 * transaction begins. Whatever the map showed was committed before; whatever it did not show was in the table before: either way
 * the transaction, younger than both, has it (J5).
 *
 * Every row is checked before it is used (J6): its CRC, its key, and that it is the record its successor names. A miss stops
 * this key's request with ERR_STORAGE_CORRUPT and nothing else.
 *
 * An answer is gathered in two growing buffers of the reader's, rows and bytes, then copied into one block for the receiver. A
 * listing with a rare filter looks at every head there is: that is why it goes in slices.
 */
#include "storage/journal_internal.h"

#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/log.h"
#include "runtime/planted.h"

enum {
    BYTES_KEPT_MAX = 8 << 20,  /* of a buffer between answers */
    LIST_ITEMS_MAX = 1000,     /* journal.h */
    LIST_HEADS_MAX = 4096,     /* looked at a step: some 2 ms, which loads wait for */
    PAGES_BYTES_MAX = 1 << 18, /* a step stops at the page that reaches them, which loads wait for too */
    SCAN_ITEMS_MAX = 10000,
};

#define COUNTER(journal, name) (&(journal)->counters.name)

/* A head as the map showed it before the transaction began. */
struct peeked {
    bool has_head;
    struct record_head head;
};

static enum err corrupt(struct journal *journal, struct slice key, uint64_t offset, const char *what)
{
    counter_add(COUNTER(journal, corrupt_reader), 1);
    LOG(LOG_ERROR, "record_corrupt", LOG_SLICE("key", key), LOG_UINT("offset", offset), LOG_TEXT("reason", what));
    return ERR_STORAGE_CORRUPT;
}

/* ---- one record ------------------------------------------------------------------------------------------------------- */

/* The record at a place, checked; and the head as it was before it. Slices live until the next call. */
static enum err read_checked(struct journal *journal, struct slice key, struct journal_back place,
                             struct record *ret_record, struct journal_head *ret_before)
{
    enum err err = journal->type->read_record(journal->backend, place.offset, ret_record);
    if (err == ERR_NOT_FOUND)
        return corrupt(journal, key, place.offset, "missing");
    if (err == ERR_STORAGE_CORRUPT)
        return corrupt(journal, key, place.offset, "page");
    if (err != OK)
        return err;
    if (ret_record->crc != record_crc(ret_record) && !PLANTED(CHECKSUM_NOT_CHECKED))
        return corrupt(journal, key, place.offset, "checksum");
    if (!slice_is_equal(ret_record->key, key) || record_last_version(ret_record) != place.last_version ||
        !chain_decode(ret_record->back, ret_record->number, place.offset, ret_record->first_version, ret_before))
        return corrupt(journal, key, place.offset, "not the one expected");
    return OK;
}

/* Where the key ends: from the map or from the table; by looking for it when the table's row is damaged. */
static enum err find_last(struct journal *journal, struct slice key, const struct peeked *peeked,
                          struct journal_back *ret_place)
{
    struct record_head head = peeked->head;
    struct record record;
    enum err err = peeked->has_head ? OK : journal->type->read_head(journal->backend, key, &head);
    if (err != OK)
        return err == ERR_STORAGE_CORRUPT ? corrupt(journal, key, 0, "page of heads") : err;
    if (!peeked->has_head && head.crc != record_head_crc(&head)) {
        (void)corrupt(journal, key, 0, "checksum of head");
        if ((err = journal->type->read_last_of(journal->backend, key, &record)) != OK)
            return err == ERR_NOT_FOUND ? ERR_STORAGE_CORRUPT : err;
        head.offset = record.offset;
        head.version = record_last_version(&record);
    }
    *ret_place = (struct journal_back){.offset = head.offset, .last_version = head.version};
    return head.version == 0 ? ERR_NOT_FOUND : OK;
}

/* ---- gathering -------------------------------------------------------------------------------------------------------- */

static void clear_buffer(struct buffer *buffer)
{
    buffer_clear(buffer);
    if (buffer->capacity > BYTES_KEPT_MAX) {
        size_t size_max = buffer->size_max;
        buffer_deinit(buffer);
        buffer_init(buffer, size_max);
    }
}

static void clear_gathered(struct gathered *gathered)
{
    clear_buffer(&gathered->rows);
    clear_buffer(&gathered->bytes);
}

/* Records are gathered newest first, as the chain goes. Their `data` holds a position in `bytes` until it lies in the answer. */
static enum err gather_record(struct gathered *gathered, const struct record *record)
{
    struct journal_record row = {.offset = record->offset,
                                 .first_version = record->first_version,
                                 .event_count = record->event_count,
                                 .data = slice_of((const char *)(uintptr_t)gathered->bytes.size, record->data.size)};
    buffer_append(&gathered->rows, &row, sizeof row);
    buffer_append_slice(&gathered->bytes, record->data);
    return gathered->rows.is_overflow || gathered->bytes.is_overflow ? ERR_NO_MEMORY : OK;
}

/* How many of the newest rows do not fit into a page; the oldest always does. */
static uint32_t rows_over(const struct gathered *gathered, uint64_t last_version_max)
{
    const struct journal_record *rows = (const struct journal_record *)(const void *)gathered->rows.data;
    uint32_t count = (uint32_t)(gathered->rows.size / sizeof *rows), kept = 1;
    size_t bytes = rows[count - 1].data.size;
    while (kept < count) {
        const struct journal_record *row = &rows[count - 1 - kept];
        bytes += row->data.size;
        if (bytes > READ_BYTES_MAX || row->first_version + row->event_count - 1 > last_version_max)
            break;
        kept++;
    }
    return count - kept;
}

/* The newest records of a page, gathered first, are those that its size leaves out. */
static void shed_newest(struct gathered *gathered)
{
    struct journal_record *rows = (struct journal_record *)(void *)gathered->rows.data;
    uint32_t count = (uint32_t)(gathered->rows.size / sizeof *rows), shed = rows_over(gathered, UINT64_MAX);
    uintptr_t bytes = (uintptr_t)rows[shed].data.data;
    for (uint32_t i = shed; i < count; i++)
        rows[i].data.data = (const char *)((uintptr_t)rows[i].data.data - bytes);
    buffer_remove_front(&gathered->rows, shed * sizeof *rows);
    buffer_remove_front(&gathered->bytes, bytes);
}

/* From `record`, already read, back to the one that covers `after_version` + 1. With more than `bytes_max` the newest go. */
static enum err gather_back(struct journal *journal, struct slice key, struct record *record, struct journal_head *before,
                            uint64_t after_version, size_t bytes_max)
{
    struct gathered *gathered = &journal->reader.gathered;
    for (;;) {
        enum err err = gather_record(gathered, record);
        if (err != OK || record->first_version <= after_version + 1)
            return err;
        if (gathered->bytes.size > bytes_max)
            shed_newest(gathered);
        uint32_t number = record->number;
        if ((err = read_checked(journal, key, before->back[before->back_count - 1], record, before)) != OK)
            return err;
        if (record->number != number - 1)
            return corrupt(journal, key, record->offset, "not the one before");
    }
}

/* One block: the gathered records in order, their bytes, and `extra` behind them. `row_skip` newest ones are left out.
 * Returns: NULL when out of memory. */
static void *pack_records(const struct gathered *gathered, uint32_t row_skip, struct slice extra,
                          struct journal_record **ret_records, uint32_t *ret_count, struct slice *ret_extra)
{
    const struct journal_record *rows = (const struct journal_record *)(const void *)gathered->rows.data;
    uint32_t count = (uint32_t)(gathered->rows.size / sizeof *rows) - row_skip;
    size_t size = count * sizeof *rows + extra.size;
    for (uint32_t i = 0; i < count; i++)
        size += rows[row_skip + i].data.size;
    char *memory = malloc(size ? size : 1);
    if (!memory)
        return NULL;
    struct journal_record *records = (struct journal_record *)(void *)memory;
    char *at = memory + count * sizeof *records;
    for (uint32_t i = 0; i < count; i++) {
        records[i] = rows[row_skip + count - 1 - i];
        memcpy(at, gathered->bytes.data + (uintptr_t)records[i].data.data, records[i].data.size);
        records[i].data.data = at;
        at += records[i].data.size;
    }
    if (extra.size)
        memcpy(at, extra.data, extra.size);
    *ret_records = records;
    *ret_count = count;
    *ret_extra = slice_of(at, extra.size);
    return memory;
}

/* ---- load ------------------------------------------------------------------------------------------------------------- */

/* The newest snapshot that can be trusted. One that is damaged, or of a version that the journal does not have, is as good as
 * none: the records tell it all (F16). */
static enum err find_snapshot(struct journal *journal, struct slice key, uint64_t version,
                              struct record_snapshot *ret_snapshot)
{
    struct record_snapshot snapshot;
    *ret_snapshot = (struct record_snapshot){0};
    enum err err = journal->type->read_snapshot(journal->backend, key, &snapshot);
    if (err == ERR_NOT_FOUND)
        return OK;
    if (err != OK && err != ERR_STORAGE_CORRUPT)
        return err;
    if (err == ERR_STORAGE_CORRUPT || snapshot.crc != record_snapshot_crc(&snapshot) || snapshot.version > version) {
        LOG(LOG_WARN, "snapshot_ignored", LOG_SLICE("key", key));
        return OK;
    }
    *ret_snapshot = snapshot;
    return OK;
}

static enum err serve_load(struct journal *journal, struct journal_load *load, const struct peeked *peeked)
{
    struct journal_back place;
    struct record record;
    struct journal_head before;
    struct record_snapshot snapshot;
    enum err err = find_last(journal, load->key, peeked, &place);
    if (err == OK)
        err = read_checked(journal, load->key, place, &record, &before);
    if (err == OK && !summary_decode(record.summary, &load->summary))
        err = corrupt(journal, load->key, place.offset, "summary");
    if (err == OK)
        err = find_snapshot(journal, load->key, place.last_version, &snapshot);
    if (err != OK)
        return err;
    load->head = before;
    chain_push(&load->head, record.offset, record.event_count);
    if (snapshot.version < place.last_version && !(PLANTED(TAIL_AFTER_SNAPSHOT_LOST) && snapshot.version > 0) &&
        (err = gather_back(journal, load->key, &record, &before, snapshot.version, SIZE_MAX)) != OK)
        return err;
    load->memory =
        pack_records(&journal->reader.gathered, 0, snapshot.data, &load->records, &load->record_count, &load->snapshot);
    load->snapshot_version = snapshot.version;
    return load->memory ? OK : ERR_NO_MEMORY;
}

/* ---- read ------------------------------------------------------------------------------------------------------------- */

/* The record that covers `version`, by the chain; `record` and `before` are the last one's and become that one's. */
static enum err search(struct journal *journal, struct slice key, uint64_t version, struct record *record,
                       struct journal_head *before)
{
    while (record->first_version > version) {
        const struct journal_back *place = chain_find(before, version);
        ASSERT(place); /* chain_decode saw to it that the path ends right before the record */
        enum err err = read_checked(journal, key, *place, record, before);
        if (err != OK)
            return err;
    }
    return OK;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum err serve_read(struct journal *journal, struct journal_read *read, const struct peeked *peeked)
{
    struct journal_back place;
    struct record record;
    struct journal_head before;
    enum err err = find_last(journal, read->key, peeked, &place);
    if (err != OK)
        return err;
    uint64_t count_max = read->event_count_max;
    uint64_t until = min_u64(read->until_version ? read->until_version : UINT64_MAX, place.last_version);
    if (read->after_version >= until || count_max == 0)
        return OK;
    uint64_t page_until = min_u64(until - read->after_version, count_max) + read->after_version;
    if ((err = read_checked(journal, read->key, place, &record, &before)) != OK ||
        (err = search(journal, read->key, page_until, &record, &before)) != OK ||
        (err = gather_back(journal, read->key, &record, &before, read->after_version, 2 * READ_BYTES_MAX)) != OK)
        return err;
    struct slice none;
    uint64_t last_version_max =
        count_max < UINT64_MAX - read->after_version ? read->after_version + count_max : UINT64_MAX;
    read->memory = pack_records(&journal->reader.gathered, rows_over(&journal->reader.gathered, last_version_max),
                                slice_of(NULL, 0), &read->records, &read->record_count, &none);
    return read->memory ? OK : ERR_NO_MEMORY;
}

/* ---- list and scan ---------------------------------------------------------------------------------------------------- */

static uint32_t items_of(uint32_t wanted, uint32_t most)
{
    return wanted == 0 ? 1 : wanted > most ? most : wanted;
}

/* One block of the gathered rows and bytes. Returns: NULL when out of memory, now or while they were gathered. */
static char *pack(const struct gathered *gathered)
{
    bool is_whole = !gathered->rows.is_overflow && !gathered->bytes.is_overflow;
    char *memory = is_whole ? malloc(gathered->rows.size + gathered->bytes.size + 1) : NULL;
    if (memory && gathered->rows.size)
        memcpy(memory, gathered->rows.data, gathered->rows.size);
    if (memory && gathered->bytes.size)
        memcpy(memory + gathered->rows.size, gathered->bytes.data, gathered->bytes.size);
    return memory;
}

/* A position in `bytes` until the answer is packed. */
static struct slice gather_slice(struct gathered *gathered, struct slice slice)
{
    struct slice position = slice_of((const char *)(uintptr_t)gathered->bytes.size, slice.size);
    buffer_append_slice(&gathered->bytes, slice);
    return position;
}

static struct slice packed_slice(const struct gathered *gathered, const char *memory, struct slice position)
{
    return slice_of(memory + gathered->rows.size + (uintptr_t)position.data, position.size);
}

static bool is_wanted(const struct journal_list *list, const struct journal_summary *summary)
{
    return (list->status < 0 || list->status == summary->status) && (!list->only_open || summary->is_open) &&
           (list->owner.size == 0 || slice_is_equal(list->owner, slice_from_text(summary->owner)));
}

/* The next heads of a listing, LIST_HEADS_MAX at most. Returns: OK, there may be more; ERR_NOT_FOUND, it is through, or full
 * with list->has_more. */
static enum err walk_list(struct journal *journal, struct journal_list *list)
{
    struct reader *reader = &journal->reader;
    struct gathered *gathered = &reader->listed;
    uint32_t count_max = items_of(list->item_count_max, LIST_ITEMS_MAX);
    struct slice after_key = reader->listed_upto.size ? reader->listed_upto : list->after_key;
    struct record_head head;
    enum err err = journal->type->list_start(journal->backend, list->prefix, after_key);
    for (uint32_t i = 0; i < LIST_HEADS_MAX && err == OK; i++) {
        if ((err = journal->type->list_next(journal->backend, &head)) != OK)
            return err;
        if (head.crc != record_head_crc(&head)) {
            (void)corrupt(journal, head.key, head.offset, "checksum of head"); /* one key's damage hides no other */
        } else if (is_wanted(list, &head.summary)) {
            list->has_more = list->item_count == count_max;
            if (list->has_more)
                return ERR_NOT_FOUND;
            struct journal_list_item item = {
                .key = gather_slice(gathered, head.key), .version = head.version, .summary = head.summary};
            buffer_append(&gathered->rows, &item, sizeof item);
            list->item_count++;
        }
    }
    if (err != OK)
        return err;
    if (head.key.size > sizeof reader->listed_key) /* no such key was ever let in */
        return ERR_STORAGE_CORRUPT;
    memcpy(reader->listed_key, head.key.data, head.key.size);
    reader->listed_upto = slice_of(reader->listed_key, head.key.size);
    return OK;
}

static enum err finish_list(const struct gathered *gathered, struct journal_list *list)
{
    char *memory = pack(gathered);
    if (!memory)
        return ERR_NO_MEMORY;
    list->memory = memory;
    list->items = (struct journal_list_item *)(void *)memory;
    for (uint32_t i = 0; i < list->item_count; i++)
        list->items[i].key = packed_slice(gathered, memory, list->items[i].key);
    return OK;
}

/* Within a transaction: a slice of the first listing. */
static void serve_list(struct journal *journal)
{
    struct reader *reader = &journal->reader;
    if (!reader->lists.first)
        return;
    struct journal_list *list = container_of(reader->lists.first, struct journal_list, msg);
    if (reader->listed_upto.size == 0) {
        list->item_count = 0;
        list->has_more = false;
    }
    enum err err = walk_list(journal, list);
    if (err == OK)
        return;
    list->result = err == ERR_NOT_FOUND ? finish_list(&reader->listed, list) : err;
    if (list->result != OK)
        list->item_count = 0;
    clear_gathered(&reader->listed);
    reader->listed_upto = (struct slice){0};
    answers_push(&reader->answers, msg_list_pop(&reader->lists));
}

static enum err serve_scan(struct journal *journal, struct journal_scan *scan)
{
    struct gathered *gathered = &journal->reader.gathered;
    uint32_t count = 0, count_max = items_of(scan->item_count_max, SCAN_ITEMS_MAX);
    uint64_t damaged_offset = 0;
    struct record record;
    enum err err = journal->type->scan_start(journal->backend, scan->after_offset);
    while (err == OK && count < count_max && gathered->bytes.size < READ_BYTES_MAX &&
           (err = journal->type->scan_next(journal->backend, &record)) == OK) {
        if (record.crc != record_crc(&record)) {
            err = corrupt(journal, record.key, record.offset, "checksum");
            damaged_offset = record.offset;
            break;
        }
        struct journal_scan_item item = {.offset = record.offset,
                                         .key = gather_slice(gathered, record.key),
                                         .first_version = record.first_version,
                                         .event_count = record.event_count,
                                         .data = gather_slice(gathered, record.data)};
        buffer_append(&gathered->rows, &item, sizeof item);
        count++;
    }
    if (err != OK && err != ERR_NOT_FOUND && damaged_offset == 0)
        return err;
    char *memory = pack(gathered);
    if (!memory)
        return ERR_NO_MEMORY;
    scan->memory = memory;
    scan->items = (struct journal_scan_item *)(void *)memory;
    scan->item_count = count;
    for (uint32_t i = 0; i < count; i++) {
        scan->items[i].key = packed_slice(gathered, memory, scan->items[i].key);
        scan->items[i].data = packed_slice(gathered, memory, scan->items[i].data);
    }
    if (damaged_offset)
        scan->after_offset = damaged_offset;
    return damaged_offset ? ERR_STORAGE_CORRUPT : OK;
}

/* ---- the step --------------------------------------------------------------------------------------------------------- */

static struct slice key_of(const struct msg *msg)
{
    if (msg->kind == MSG_JOURNAL_LOAD)
        return container_of(msg, const struct journal_load, msg)->key;
    return msg->kind == MSG_JOURNAL_READ ? container_of(msg, const struct journal_read, msg)->key : slice_of(NULL, 0);
}

/* The heads of the first READ_BATCH_MAX requests, which stay in the list. Returns: how many. */
static uint32_t peek_heads(const struct journal *journal, const struct msg_list *list, struct peeked *batch)
{
    uint32_t count = 0;
    for (const struct msg *msg = list->first; msg && count < READ_BATCH_MAX; msg = msg->next, count++) {
        struct slice key = key_of(msg);
        batch[count].has_head =
            key.size > 0 && key.size <= JOURNAL_KEY_BYTES_MAX && heads_peek(journal->heads, key, &batch[count].head);
    }
    return count;
}

static enum err serve(struct journal *journal, struct msg *msg, const struct peeked *peeked)
{
    switch (msg->kind) {
    case MSG_JOURNAL_LOAD:
        counter_add(COUNTER(journal, loads), 1);
        return serve_load(journal, container_of(msg, struct journal_load, msg), peeked);
    case MSG_JOURNAL_READ:
        counter_add(COUNTER(journal, reads), 1);
        return serve_read(journal, container_of(msg, struct journal_read, msg), peeked);
    case MSG_JOURNAL_SCAN: return serve_scan(journal, container_of(msg, struct journal_scan, msg));
    }
    assert_failed("a message of another kind in the reader's lane", __FILE__, __LINE__, __func__);
}

/* The first `count` of a list, up to the one that reaches `bytes_max`. `begin`: whether there is a transaction. */
static void serve_some(struct journal *journal, struct msg_list *list, const struct peeked *batch, uint32_t count,
                       size_t bytes_max, enum err begin)
{
    struct reader *reader = &journal->reader;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count && bytes < bytes_max; i++) {
        struct msg *msg = msg_list_pop(list);
        request_set_result(msg, begin == OK ? serve(journal, msg, &batch[i]) : begin);
        bytes += reader->gathered.bytes.size;
        clear_gathered(&reader->gathered);
        answers_push(&reader->answers, msg);
    }
    answers_send(journal, &reader->answers); /* now: loads do not wait for the pages after them */
}

static void refuse(struct reader *reader, struct msg_list *list, enum err result)
{
    for (struct msg *msg; (msg = msg_list_pop(list));) {
        request_set_result(msg, result);
        answers_push(&reader->answers, msg);
    }
}

static void refuse_lists(struct reader *reader, enum err result)
{
    refuse(reader, &reader->lists, result);
    clear_gathered(&reader->listed);
    reader->listed_upto = (struct slice){0};
}

/* To the list that each is served from. */
static void sort(struct reader *reader, struct msg_list arrived)
{
    for (struct msg *msg; (msg = msg_list_pop(&arrived));) {
        if (msg->kind == MSG_JOURNAL_LOAD)
            msg_list_append(&reader->loads, msg);
        else if (msg->kind == MSG_JOURNAL_LIST)
            msg_list_append(&reader->lists, msg);
        else
            msg_list_append(&reader->pages, msg);
    }
}

bool journal_read_step(struct journal *journal)
{
    struct reader *reader = &journal->reader;
    struct msg_list arrived = {0};
    struct peeked loads[READ_BATCH_MAX], pages[READ_BATCH_MAX];
    (void)request_lane_take(&journal->read_lane, &arrived);
    sort(reader, arrived);
    if (!reader->loads.first && !reader->pages.first && !reader->lists.first)
        return false;
    heads_lock(journal->heads);
    uint32_t load_count = peek_heads(journal, &reader->loads, loads);
    uint32_t page_count = peek_heads(journal, &reader->pages, pages);
    heads_unlock(journal->heads);
    enum err begin = journal->type->read_begin(journal->backend);
    serve_some(journal, &reader->loads, loads, load_count, SIZE_MAX, begin);
    serve_some(journal, &reader->pages, pages, page_count, PAGES_BYTES_MAX, begin);
    if (begin == OK)
        serve_list(journal);
    else
        refuse_lists(reader, begin);
    journal->type->read_end(journal->backend);
    answers_send(journal, &reader->answers);
    return true;
}

/* ---- start and end ---------------------------------------------------------------------------------------------------- */

static void init_gathered(struct gathered *gathered)
{
    buffer_init(&gathered->rows, (size_t)1 << 30);
    buffer_init(&gathered->bytes, (size_t)1 << 30);
}

static void deinit_gathered(struct gathered *gathered)
{
    buffer_deinit(&gathered->rows);
    buffer_deinit(&gathered->bytes);
}

void reader_init(struct journal *journal)
{
    init_gathered(&journal->reader.gathered);
    init_gathered(&journal->reader.listed);
}

void reader_refuse_all(struct journal *journal, enum err result)
{
    struct reader *reader = &journal->reader;
    struct msg_list arrived = {0};
    (void)request_lane_close(&journal->read_lane, &arrived);
    sort(reader, arrived);
    refuse(reader, &reader->loads, result);
    refuse(reader, &reader->pages, result);
    refuse_lists(reader, result);
    answers_send(journal, &reader->answers);
}

void reader_deinit(struct journal *journal)
{
    deinit_gathered(&journal->reader.gathered);
    deinit_gathered(&journal->reader.listed);
}
