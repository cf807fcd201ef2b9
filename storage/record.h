/* SPDX-License-Identifier: Apache-2.0 */
/* record: one row of the journal and one row of the heads, as every backend stores them, with their checksums.
 *
 * A CRC-32C (Castagnoli) covers every column of a row, and the length of each variable one, so that bytes cannot move from
 * one column to the next unseen. The backend stores what it is given and gives back what it stored; the verdict is the journal's.
 * Layouts: docs/FORMAT.md. Pure: no I/O, no allocation. Callers: journal_writer.c, journal_reader.c, backends (the structs).
 */
#ifndef CIRANDA_STORAGE_RECORD_H
#define CIRANDA_STORAGE_RECORD_H

#include "storage/journal.h"
#include "storage/varint.h"

enum {
    SUMMARY_BYTES_MAX = 2 + 3 * VARINT_BYTES_MAX + JOURNAL_OWNER_BYTES_MAX,
    RECORD_HEAD_BYTES_MAX = 4 + 3 * VARINT_BYTES_MAX + SUMMARY_BYTES_MAX,
};

/* A row of the journal. Slices are borrowed. */
struct record {
    uint64_t offset;
    struct slice key;
    uint32_t number; /* of this record among the key's, from 1 */
    uint64_t first_version;
    uint32_t event_count;
    struct slice summary; /* summary_encode: a start brings the heads up to date from it */
    struct slice back;    /* chain_encode */
    struct slice data;
    uint32_t crc;
};

/* A row of the heads: a key's last record. */
struct record_head {
    struct slice key;
    uint64_t offset, version;
    uint32_t record_count;
    struct journal_summary summary;
    uint32_t crc;
};

struct record_snapshot {
    struct slice key;
    uint64_t version;
    struct slice data;
    uint32_t crc;
};

uint32_t record_crc(const struct record *record);
uint32_t record_head_crc(const struct record_head *head);
uint32_t record_snapshot_crc(const struct record_snapshot *snapshot);

static inline uint64_t record_last_version(const struct record *record)
{
    return record->first_version + record->event_count - 1;
}

/* A head without its key, its checksum first. Returns: bytes written, at most RECORD_HEAD_BYTES_MAX. */
size_t record_head_encode(const struct record_head *head, uint8_t *ret_bytes);
/* `key` is that of the row. Bytes that are no head give one whose checksum does not hold. */
struct record_head record_head_decode(struct slice key, struct slice bytes);

/* Returns: bytes written, at most SUMMARY_BYTES_MAX. */
size_t summary_encode(const struct journal_summary *summary, uint8_t *ret_bytes);
/* Returns: false, nothing written, when the bytes are none. */
bool summary_decode(struct slice bytes, struct journal_summary *ret_summary);

#endif
