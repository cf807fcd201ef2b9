/* SPDX-License-Identifier: Apache-2.0 */
/* gap_eraser: keeps from a SQLite database file the copies that secure_delete does not reach.
 *
 * A B-tree page grows from both ends: pointers to its cells from the front, the cells from the back; between them is a gap.
 * secure_delete zeroes what is deleted: cells, freed pages, defragmented space. But when SQLite spreads cells anew over
 * neighbouring pages (a balance; rebuildPage in its btree.c) it leaves in the gap of each page what stood there, copies of cells
 * that now live elsewhere. Once such a cell is deleted its copy stays, for as long as the page does not fill up.
 *
 * So the pages that are written to the file get their gap zeroed on the way. SQLite gives no meaning to it, and those who read
 * the file find the same database. Frames of the WAL are checksummed and stay as they are: they reach the file by a checkpoint,
 * through here, and a TRUNCATE checkpoint leaves none. SQLite's cache of a page keeps the gap, too, which would bring it into
 * the WAL with the page's next change: who erased lets go of the cache (sqlite3_db_release_memory).
 *
 * Invariants: G1 no other byte of the file changes. B-tree pages are known by their first byte, 2, 5, 10 or 13; all other pages
 * begin with a page number, most significant byte first (overflow pages, trunks of the free list), or with zeroes (leaves of the
 * free list, by secure_delete; there are no pointer maps without auto_vacuum). The owner therefore keeps the database at
 * GAP_ERASER_PAGES_MAX pages or less: no page number begins with one of the four. G2 page 1 stays as it is: it holds the
 * schema and nothing of anybody's, and begins with a header of its own.
 *
 * It takes the place of the methods of one open file, not of a whole VFS: one method differs, all others are those of the VFS
 * beneath, whatever it is. Callers: sqlite_backend.c. File format: sqlite.org/fileformat2.html, section 1.6.
 */
#ifndef CIRANDA_STORAGE_GAP_ERASER_H
#define CIRANDA_STORAGE_GAP_ERASER_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

enum {
    GAP_ERASER_PAGE_BYTES = 4096,
    GAP_ERASER_PAGES_MAX = (2 << 24) - 1, /* 128 GiB */
};

/* Fields are private. */
struct gap_eraser {
    sqlite3_io_methods methods; /* the file's, with another xWrite */
    int (*write)(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset); /* the VFS's */
    uint8_t page[GAP_ERASER_PAGE_BYTES];
};

/* To the main file of a connection that has just been opened and has written nothing yet; its pages have GAP_ERASER_PAGE_BYTES.
 * Thread: start-up; the writes come on the connection's. Owns: `eraser` must outlive the connection. Returns: SQLite's code. */
MUST_USE int gap_eraser_attach(struct gap_eraser *eraser, sqlite3 *db);

/* The gap of a page, *ret_begin up to before *ret_end. Returns: false when the page is none of a B-tree, or not a sane one. */
MUST_USE bool gap_eraser_find(const uint8_t page[GAP_ERASER_PAGE_BYTES], uint32_t *ret_begin, uint32_t *ret_end);

#endif
