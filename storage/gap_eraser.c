/* SPDX-License-Identifier: Apache-2.0 */
/* gap_eraser: see gap_eraser.h. One scan of the gap a page written; a copy of the page only when there was something in it. */
#include "storage/gap_eraser.h"

#include <stddef.h>
#include <string.h>

#include "runtime/assert.h"

enum { INTERIOR_INDEX = 2, INTERIOR_TABLE = 5, LEAF_INDEX = 10, LEAF_TABLE = 13 };
_Static_assert(GAP_ERASER_PAGES_MAX >> 24 < INTERIOR_INDEX, "a page number begins like no page of a B-tree");

static uint32_t read_u16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

bool gap_eraser_find(const uint8_t page[GAP_ERASER_PAGE_BYTES], uint32_t *ret_begin, uint32_t *ret_end)
{
    bool is_interior = page[0] == INTERIOR_INDEX || page[0] == INTERIOR_TABLE;
    if (!is_interior && page[0] != LEAF_INDEX && page[0] != LEAF_TABLE)
        return false;
    uint32_t header_bytes = is_interior ? 12 : 8;
    uint32_t begin = header_bytes + 2 * read_u16(page + 3), end = read_u16(page + 5);
    if (begin > end || end > GAP_ERASER_PAGE_BYTES) /* damaged: not ours to make worse */
        return false;
    *ret_begin = begin;
    *ret_end = end;
    return true;
}

static bool is_zero(const uint8_t *bytes, uint32_t count)
{
    return count == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0);
}

static int write_erased(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset)
{
    struct gap_eraser *eraser = container_of(file->pMethods, struct gap_eraser, methods);
    uint32_t begin, end;
    bool is_page = count == GAP_ERASER_PAGE_BYTES && offset > 0;
    if (!is_page || !gap_eraser_find(bytes, &begin, &end) || is_zero((const uint8_t *)bytes + begin, end - begin))
        return eraser->write(file, bytes, count, offset);
    memcpy(eraser->page, bytes, sizeof eraser->page);
    memset(eraser->page + begin, 0, end - begin);
    return eraser->write(file, eraser->page, count, offset);
}

int gap_eraser_attach(struct gap_eraser *eraser, sqlite3 *db)
{
    sqlite3_file *file;
    int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (rc != SQLITE_OK)
        return rc;
    eraser->methods = *file->pMethods;
    eraser->write = eraser->methods.xWrite;
    eraser->methods.xWrite = write_erased;
    if (eraser->methods.iVersion > 3) /* our copy holds no more methods than version 3 has */
        eraser->methods.iVersion = 3;
    file->pMethods = &eraser->methods;
    return SQLITE_OK;
}
