/* SPDX-License-Identifier: Apache-2.0 */
/* chain: the back chain of a key's records: any version is found from the head in O(log n) reads, without an index.
 *
 * Records of a key are numbered from 1. The path of n is n, n minus its lowest set bit, and so on until 0: the walk of a
 * prefix sum in a Fenwick tree; it has one element a set bit of n. A head whose last record is n carries the path of n;
 * record n carries the path of n-1, since it was made from the head before it. Each element is a place: offset and last
 * version, so that a search chooses without reading.
 *
 *     record 7 (0111) carries the path of 6 (0110): 4, 6      the head after it the path of 7: 4, 6, 7
 *     record 8 (1000) carries the path of 7:        4, 6, 7   the head after it the path of 8: 8
 *
 * To find a version: take from the path the oldest element that ends at or after it, read that record; if it begins after the
 * version, go on with its own path. An element that covers 2^k records leads to one that covers at most 2^(k-1), so that at
 * most 1 + log2(n) records are read. To walk back: the newest element of record n's path is record n-1.
 *
 * Pure: no I/O, no allocation. Callers: journal_writer.c pushes and encodes, journal_reader.c decodes and searches.
 */
#ifndef CIRANDA_STORAGE_CHAIN_H
#define CIRANDA_STORAGE_CHAIN_H

#include "storage/journal.h"
#include "storage/varint.h"

enum {
    CHAIN_RECORDS_MAX = (1 << JOURNAL_BACK_MAX) - 1,
    CHAIN_BYTES_MAX = 2 * JOURNAL_BACK_MAX * VARINT_BYTES_MAX,
};

/* The head moves on to a record at `offset`, its number being record_count + 1 (at most CHAIN_RECORDS_MAX). O(1). */
void chain_push(struct journal_head *head, uint64_t offset, uint32_t event_count);

/* The path that a record carries which is to follow `head` at `offset`: newest first, as differences.
 * Returns: bytes written, at most CHAIN_BYTES_MAX. */
size_t chain_encode(const struct journal_head *head, uint64_t offset, uint8_t *ret_bytes);

/* The inverse: the head as it was before record `number` at `offset`, which begins at `first_version`.
 * Returns: false, head untouched, when the bytes are not the path of such a record (a record that passed its CRC is). */
bool chain_decode(struct slice bytes, uint32_t number, uint64_t offset, uint64_t first_version,
                  struct journal_head *ret_head);

/* Which record to read next on the way to `version` (1..head->version): the oldest in the path that ends at or after it.
 * Returns: NULL when there is none. */
const struct journal_back *chain_find(const struct journal_head *head, uint64_t version);

#endif
