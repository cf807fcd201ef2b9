/* SPDX-License-Identifier: Apache-2.0 */
/* journal_erasure: the records of a key are overwritten, in steps, so that a long conversation does not hold up the others.
 *
 * It begins with one transaction: the key is unknown from then on, and a row says what is left to be done. Then come steps of
 * some hundred records, between which groups are served, and at the end the answer. A row that a crash or a refused step leaves
 * is gone on with at the next start, the next erasure, or once a full disk has room again.
 *
 * Limits: where no chain leads to the records, one step looks at all there are.
 * Callers: journal_writer.c, on its thread.
 */
#include "storage/journal_internal.h"

#include "runtime/assert.h"

enum { ERASE_RECORDS_MAX = 256 /* a step: groups wait for one, a few milliseconds */ };

/* Within a transaction. */
static enum err begin_rows(struct journal *journal, struct slice key)
{
    struct backend_erasure erasure = {.key = key, .upto = writer_last_offset(journal), .next = BACKEND_ERASURE_SCAN},
                           earlier;
    struct head_entry *entry;
    enum err refusal, err = writer_enter_head(journal, key, &entry, &refusal);
    if (err != OK)
        return err;
    /* With a damaged head, or records of an earlier life that are still there, no chain leads to all of them. */
    err = journal->type->find_erasure(journal->backend, key, &earlier);
    if (err == ERR_NOT_FOUND) {
        err = OK;
        if (refusal == OK)
            erasure.next = entry->offset;
    }
    if (err == OK)
        err = journal->type->put_erasure(journal->backend, &erasure);
    if (err == OK)
        err = journal->type->erase_head(journal->backend, key);
    /* The last record may be among them: its offset must not be given out again, cursors of the bus have passed it. */
    return err == OK ? journal->type->put_mark(journal->backend, BACKEND_MARK_OFFSET, writer_last_offset(journal)) : err;
}

static enum err begin(struct journal *journal, struct slice key)
{
    if (key.size == 0 || key.size > JOURNAL_KEY_BYTES_MAX)
        return ERR_INVALID;
    journal->writer.group++;
    enum err err = journal->type->begin(journal->backend);
    if (err == OK)
        err = begin_rows(journal, key);
    if (err == OK)
        err = writer_commit(journal);
    if (err != OK)
        return writer_give_up(journal, "erase", err);
    struct head_entry *entry = heads_find(journal->heads, key);
    if (entry) {
        heads_lock(journal->heads);
        heads_publish(journal->heads, entry, 0, 0, 0, NULL);
        heads_unlock(journal->heads);
    }
    return OK;
}

void erasure_begin(struct journal *journal)
{
    struct writer *writer = &journal->writer;
    struct msg *msg = msg_list_pop(&writer->queue);
    counter_add(&journal->counters.queued, (uint32_t)-1);
    struct journal_erase *erase = container_of(msg, struct journal_erase, msg);
    erase->result = begin(journal, erase->key);
    if (erase->result != OK) {
        answers_push(&writer->answers, msg);
        return;
    }
    if (erase->head) /* now: its owner may begin the key's next life before the answer */
        *erase->head = (struct journal_head){0};
    msg_list_append(&writer->erasures, msg);
    writer->has_erasures = true;
}

/* Within a transaction: the next records of the chain. Returns: ERR_NOT_FOUND when it is damaged. */
static enum err erase_chain(struct journal *journal, struct backend_erasure *erasure)
{
    for (uint32_t i = 0; i < ERASE_RECORDS_MAX && erasure->next != 0; i++) {
        struct record record;
        struct journal_head before;
        enum err err = journal->type->find_record(journal->backend, erasure->next, &record);
        if (err != OK)
            return err;
        if (record.crc != record_crc(&record) || !slice_is_equal(record.key, erasure->key) ||
            !chain_decode(record.back, record.number, record.offset, record.first_version, &before))
            return ERR_NOT_FOUND;
        if ((err = journal->type->erase_record(journal->backend, record.offset)) != OK)
            return err;
        erasure->next = before.offset;
    }
    return OK;
}

/* Within a transaction. erasure->next is 0 when it was the last. */
static enum err erase_rows(struct journal *journal, struct backend_erasure *erasure)
{
    enum err err = erasure->next == BACKEND_ERASURE_SCAN ? ERR_NOT_FOUND : erase_chain(journal, erasure);
    if (err == ERR_NOT_FOUND) { /* no way from record to record: look at each there is */
        erasure->next = 0;
        err = journal->type->erase_records_of(journal->backend, erasure->key, erasure->upto);
    }
    if (err != OK)
        return err;
    return erasure->next == 0 ? journal->type->drop_erasure(journal->backend, erasure->key)
                              : journal->type->put_erasure(journal->backend, erasure);
}

void erasure_answer(struct journal *journal, struct slice key, enum err result)
{
    struct msg_list waiting = journal->writer.erasures;
    journal->writer.erasures = (struct msg_list){0};
    for (struct msg *msg; (msg = msg_list_pop(&waiting));) {
        if (key.size > 0 && !slice_is_equal(container_of(msg, struct journal_erase, msg)->key, key)) {
            msg_list_append(&journal->writer.erasures, msg);
            continue;
        }
        request_set_result(msg, result);
        answers_push(&journal->writer.answers, msg);
    }
}

/* Within a transaction: the next step of the first erasure there is; its key is copied to `ret_key`. */
static enum err erase_some(struct journal *journal, char *ret_key, struct backend_erasure *ret_erasure)
{
    enum err err = journal->type->first_erasure(journal->backend, ret_erasure);
    if (err != OK)
        return err;
    if (ret_erasure->key.size > JOURNAL_KEY_BYTES_MAX)
        return ERR_STORAGE_CORRUPT;
    memcpy(ret_key, ret_erasure->key.data, ret_erasure->key.size);
    ret_erasure->key.data = ret_key;
    return erase_rows(journal, ret_erasure);
}

bool erasure_step(struct journal *journal)
{
    struct writer *writer = &journal->writer;
    char key[JOURNAL_KEY_BYTES_MAX];
    struct backend_erasure erasure;
    if (!writer->has_erasures)
        return false;
    enum err err = journal->type->begin(journal->backend);
    if (err == OK)
        err = erase_some(journal, key, &erasure);
    if (err == ERR_NOT_FOUND) {
        journal->type->rollback(journal->backend);
        writer->has_erasures = false;
        return true;
    }
    if (err == OK)
        err = writer_commit(journal);
    if (err == OK && erasure.next != 0)
        return true;
    if (err == OK) {
        err = journal->type->scrub(journal->backend);
        if (err == OK || err == ERR_STORAGE_BUSY) {
            erasure_answer(journal, erasure.key, err == OK ? OK : ERR_BUSY);
            return true;
        }
    }
    /* Their keys are gone all the same, their bytes are not. */
    err = writer_give_up(journal, "erase", err);
    writer->has_erasures = false;
    erasure_answer(journal, (struct slice){0}, err == ERR_STORAGE_FAILED ? err : ERR_BUSY);
    return true;
}

enum err erasure_recover(struct journal *journal)
{
    struct backend_erasure erasure;
    enum err err = journal->type->first_erasure(journal->backend, &erasure);
    journal->writer.has_erasures = err == OK;
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err erasure_covers(struct journal *journal, const struct record *record, bool *ret_is_erased)
{
    struct backend_erasure erasure;
    *ret_is_erased = false;
    if (!journal->writer.has_erasures)
        return OK;
    enum err err = journal->type->find_erasure(journal->backend, record->key, &erasure);
    if (err == OK)
        *ret_is_erased = record->offset <= erasure.upto;
    return err == ERR_NOT_FOUND ? OK : err;
}
