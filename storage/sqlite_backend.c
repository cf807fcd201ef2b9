/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_backend: the journal in one SQLite file in WAL mode. Schema and pragmas: docs/FORMAT.md, docs/STORAGE.md.
 *
 * Two connections. The write side's is the only one that writes and the only one that checkpoints: SQLite before 3.51.3 can
 * damage a database when one connection resets the WAL while another checkpoints, and a commit must never be delayed by a
 * checkpoint that a reader happened to start. The read side's is opened read-only, which makes SQLite itself refuse both.
 *
 * A commit is one write of the touched pages to the WAL and one flush of it (synchronous=FULL, or more). Automatic checkpoints are off;
 * `maintain` runs them, after the answers of a group have left.
 *
 * Callers: journal.c by backend_type.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "storage/backend.h"
#include "storage/gap_eraser.h"
#include "storage/segment.h"

enum {
    FORMAT = 2,                  /* PRAGMA user_version */
    APPLICATION_ID = 0x43697244, /* "CirD" */
    PAGE_BYTES = GAP_ERASER_PAGE_BYTES,
    /* A checkpoint is due at this many pages of WAL, and when there is time at the smaller number: the first bounds the
     * pause (some 15 ms on the machine of docs/STORAGE.md), the second keeps the pause away from busy times. */
    WAL_FRAMES_DUE = (8 << 20) / PAGE_BYTES,
    WAL_FRAMES_IDLE = (1 << 20) / PAGE_BYTES,
    /* When readers always hold some of it, a WAL this long waits for them to let go. */
    WAL_FRAMES_MAX = (64 << 20) / PAGE_BYTES,
    /* How long a checkpoint waits for readers that hold old pages: longer than the reader's thread usually does, but every
     * commit waits as long. */
    CHECKPOINT_BUSY_MS_MAX = 20,
    BUSY_MS_MAX = 5000,
    ROW_BYTES_MAX = JOURNAL_RECORD_BYTES_MAX + (1 << 16), /* of the largest record with all that stands beside it */
};

#define SQL_SCHEMA                                                                                                       \
    "CREATE TABLE journal(offset INTEGER PRIMARY KEY, records BLOB NOT NULL);"                                           \
    "CREATE TABLE heads(key BLOB PRIMARY KEY, head BLOB NOT NULL) WITHOUT ROWID;"                                        \
    "CREATE TABLE snapshots("                                                                                            \
    "key BLOB PRIMARY KEY, version INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;"           \
    "CREATE TABLE erasures(key BLOB PRIMARY KEY, upto INTEGER NOT NULL, next INTEGER NOT NULL) WITHOUT ROWID;"           \
    "CREATE TABLE marks(mark INTEGER PRIMARY KEY, offset INTEGER NOT NULL);"

/* The row of a record is the last that begins at or before it. */
#define SQL_ROW_OF "SELECT offset, records FROM journal WHERE offset <= ?1 ORDER BY offset DESC LIMIT 1"

/* One list, so that the enum, the text and the side of a statement cannot drift apart. */
#define WRITE_STATEMENTS(X)                                                                                              \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                          \
    X(COMMIT, "COMMIT")                                                                                                  \
    X(ROLLBACK, "ROLLBACK")                                                                                              \
    X(PUT_ROW, "INSERT INTO journal(offset, records) VALUES(?1, ?2)")                                                    \
    X(PUT_HEAD, "REPLACE INTO heads(key, head) VALUES(?1, ?2)")                                                          \
    X(PUT_SNAPSHOT, "REPLACE INTO snapshots(key, version, crc, data) VALUES(?1, ?2, ?3, ?4)")                            \
    X(PUT_MARK, "REPLACE INTO marks(mark, offset) VALUES(?1, ?2)")                                                       \
    X(FIND_HEAD, "SELECT key, head FROM heads WHERE key = ?1")                                                           \
    X(FIND_ROW, SQL_ROW_OF)                                                                                              \
    X(FIND_ROW_FROM, "SELECT offset, records FROM journal WHERE offset >= ?1 ORDER BY offset LIMIT 1")                   \
    X(UPDATE_ROW, "UPDATE journal SET records = ?2 WHERE offset = ?1")                                                   \
    X(ERASE_ROW, "DELETE FROM journal WHERE offset = ?1")                                                                \
    X(ERASE_HEAD, "DELETE FROM heads WHERE key = ?1")                                                                    \
    X(ERASE_SNAPSHOT, "DELETE FROM snapshots WHERE key = ?1")                                                            \
    X(PUT_ERASURE, "REPLACE INTO erasures(key, upto, next) VALUES(?1, ?2, ?3)")                                          \
    X(DROP_ERASURE, "DELETE FROM erasures WHERE key = ?1")                                                               \
    X(FIND_ERASURE, "SELECT key, upto, next FROM erasures WHERE key = ?1")                                               \
    X(FIRST_ERASURE, "SELECT key, upto, next FROM erasures LIMIT 1")

#define READ_STATEMENTS(X)                                                                                               \
    X(READ_BEGIN, "BEGIN")                                                                                               \
    X(READ_END, "COMMIT")                                                                                                \
    X(READ_MARK, "SELECT offset FROM marks WHERE mark = ?1")                                                             \
    X(READ_ROW, SQL_ROW_OF)                                                                                              \
    X(READ_HEAD, "SELECT key, head FROM heads WHERE key = ?1")                                                           \
    X(READ_SNAPSHOT, "SELECT key, version, crc, data FROM snapshots WHERE key = ?1")                                     \
    /* From the row on that has offset ?1, if any has. */                                                                \
    X(SCAN, "SELECT offset, records FROM journal "                                                                       \
            "WHERE offset >= coalesce((SELECT max(offset) FROM journal WHERE offset <= ?1), 0) ORDER BY offset")         \
    /* ?1 lower bound, itself included when ?2; ?3 upper bound, itself not */                                            \
    X(LIST, "SELECT key, head FROM heads WHERE key >= ?1 AND (?2 OR key > ?1) AND key < ?3 ORDER BY key")

enum statement {
#define X(name, text) STATEMENT_##name,
    WRITE_STATEMENTS(X) STATEMENT_WRITE_COUNT,
    STATEMENT_READ_FIRST = STATEMENT_WRITE_COUNT - 1, /* so that the next one follows the last of the write side */
    READ_STATEMENTS(X) STATEMENT_COUNT
#undef X
};

static const char *const statement_texts[] = {
#define X(name, text) [STATEMENT_##name] = text,
    WRITE_STATEMENTS(X) READ_STATEMENTS(X)
#undef X
};
_Static_assert(sizeof statement_texts / sizeof statement_texts[0] == STATEMENT_COUNT, "one text a statement");

struct backend {
    sqlite3 *writer, *reader;
    struct gap_eraser gaps; /* of the writer's file */
    sqlite3_stmt *statements[STATEMENT_COUNT];
    struct buffer segment;   /* records of the transaction that are not in the table yet */
    uint64_t segment_offset; /* of its first */
    uint32_t segment_count;
    struct buffer copy;       /* of a row that is erased from */
    struct segment_walk scan; /* of the row that STATEMENT_SCAN stands on */
    uint64_t scan_after;
    int wal_frames;      /* pages in the WAL after the last commit */
    int wal_frames_seen; /* of them, there when a checkpoint was last tried */
    bool is_failed;      /* a write or flush failed: no checkpoint any more, not even on close */
};

/* F13: each code on its own, none by accident. `rc` is an extended code. */
static enum err error_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return OK;
    case SQLITE_FULL: return ERR_STORAGE_FULL;
    case SQLITE_NOMEM: return ERR_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERR_STORAGE_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERR_STORAGE_CORRUPT;
    case SQLITE_IOERR:
        /* Of the I/O errors only this one says that nothing was tried on the disk. */
        return rc == SQLITE_IOERR_NOMEM ? ERR_NO_MEMORY : ERR_STORAGE_FAILED;
    }
    return ERR_STORAGE_FAILED;
}

static enum err note(struct backend *backend, enum err err)
{
    if (err == ERR_STORAGE_FAILED)
        backend->is_failed = true;
    return err;
}

/* Runs a statement that returns no rows, and unbinds nothing: each caller binds all of its own. */
static enum err run(struct backend *backend, enum statement which)
{
    sqlite3_stmt *stmt = backend->statements[which];
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    return note(backend, error_of(rc));
}

static void bind_u64(sqlite3_stmt *stmt, int index, uint64_t value)
{
    ASSERT(value <= INT64_MAX); /* SQLite's integers are signed; the journal refuses versions beyond */
    (void)sqlite3_bind_int64(stmt, index, (sqlite3_int64)value);
}

static void bind_slice(sqlite3_stmt *stmt, int index, struct slice slice)
{
    /* A NULL pointer would bind NULL rather than no bytes. */
    (void)sqlite3_bind_blob64(stmt, index, slice.size ? slice.data : "", slice.size, SQLITE_STATIC);
}

static struct slice column_slice(sqlite3_stmt *stmt, int index)
{
    const char *data = sqlite3_column_blob(stmt, index);
    return slice_of(data, (size_t)sqlite3_column_bytes(stmt, index));
}

static uint64_t column_u64(sqlite3_stmt *stmt, int index)
{
    return (uint64_t)sqlite3_column_int64(stmt, index);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------- */

static struct record_head column_head(sqlite3_stmt *stmt)
{
    return record_head_decode(column_slice(stmt, 0), column_slice(stmt, 1));
}

/* The walk over the records of the row that `stmt` stands on. */
static struct segment_walk column_segment(sqlite3_stmt *stmt)
{
    return segment_begin(column_u64(stmt, 0), column_slice(stmt, 1));
}

/* Steps a cursor. Returns: OK with a row, ERR_NOT_FOUND at the end (then it is reset). */
static enum err next_row(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return OK;
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE ? ERR_NOT_FOUND : error_of(rc);
}

/* ---- open and close --------------------------------------------------------------------------------------------------- */

static enum err open_error(sqlite3 *db, int rc, const char *what, struct error *error)
{
    enum err err = error_of(rc);
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(error, err, "%s: %s; restore journal.db from a backup", what, sqlite3_errmsg(db));
    case SQLITE_FULL: return error_set(error, err, "%s: no space left; free some and start again", what);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return error_set_errno(error, ERR_SYSTEM, sqlite3_system_errno(db), "%s: %s; check owner and mode of the files",
                               what, sqlite3_errmsg(db));
    }
    return error_set_errno(error, err == ERR_STORAGE_FAILED ? ERR_SYSTEM : err, sqlite3_system_errno(db), "%s: %s", what,
                           sqlite3_errmsg(db));
}

static enum err execute(sqlite3 *db, const char *sql, struct error *error)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : open_error(db, rc, sql, error);
}

static enum err pragma_number(sqlite3 *db, const char *sql, sqlite3_int64 *ret_number, struct error *error)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW) {
        enum err err = open_error(db, rc, sql, error);
        sqlite3_finalize(stmt);
        return err;
    }
    *ret_number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return OK;
}

/* An empty file becomes a journal, ours is let pass, everything else is refused untouched. */
static enum err check_format(sqlite3 *db, struct error *error)
{
    sqlite3_int64 id, version, table_count;
    enum err err;
    if ((err = pragma_number(db, "PRAGMA application_id", &id, error)) != OK ||
        (err = pragma_number(db, "PRAGMA user_version", &version, error)) != OK ||
        (err = pragma_number(db, "SELECT count(*) FROM sqlite_schema", &table_count, error)) != OK)
        return err;
    if (id == 0 && version == 0 && table_count == 0)
        return OK;
    if (id != APPLICATION_ID)
        return error_set(error, ERR_STORAGE_FORMAT, "journal.db is a database of another program");
    if (version != FORMAT)
        return error_set(error, ERR_STORAGE_FORMAT, "journal.db has format %lld, this build reads %d; use a %s build",
                         (long long)version, FORMAT, version > FORMAT ? "newer" : "matching");
    return OK;
}

static enum err create_schema(sqlite3 *db, struct error *error)
{
    sqlite3_int64 version;
    enum err err = pragma_number(db, "PRAGMA user_version", &version, error);
    if (err != OK || version == FORMAT)
        return err;
    char sql[2048];
    snprintf(sql, sizeof sql, "BEGIN IMMEDIATE;%s PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT;", SQL_SCHEMA,
             APPLICATION_ID, FORMAT);
    return execute(db, sql, error);
}

/* gap_eraser G1. SQLite sets no bound below the pages there are. */
static enum err bound_pages(sqlite3 *db, struct error *error)
{
    char sql[64];
    sqlite3_int64 pages_max;
    snprintf(sql, sizeof sql, "PRAGMA max_page_count=%d", GAP_ERASER_PAGES_MAX);
    enum err err = pragma_number(db, sql, &pages_max, error);
    if (err == OK && pages_max > GAP_ERASER_PAGES_MAX)
        return error_set(error, ERR_STORAGE_FORMAT, "journal.db has %lld pages, this build takes %d",
                         (long long)pages_max, GAP_ERASER_PAGES_MAX);
    return err;
}

/* Called by SQLite after each commit. */
static int on_commit(void *context, sqlite3 *db, const char *name, int frame_count)
{
    (void)db;
    (void)name;
    struct backend *backend = context;
    if (frame_count < backend->wal_frames) /* it was all written back, and began anew */
        backend->wal_frames_seen = 0;
    backend->wal_frames = frame_count;
    return SQLITE_OK;
}

static enum err open_writer(struct backend *backend, const char *path, const char *vfs, struct error *error)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &backend->writer, flags, vfs);
    if (rc != SQLITE_OK)
        return open_error(backend->writer, rc, path, error);
    sqlite3 *db = backend->writer;
    sqlite3_busy_timeout(db, BUSY_MS_MAX);
    if ((rc = gap_eraser_attach(&backend->gaps, db)) != SQLITE_OK)
        return open_error(db, rc, path, error);
    enum err err = check_format(db, error);
    if (err != OK)
        return err;
    char pragmas[512];
    /* synchronous EXTRA is FULL, and flushes the folder when a rollback journal was deleted. There is one such journal, that of
     * the switch to WAL: come back after a power cut it would roll everything since back to the empty file (found by
     * disk_sim). mmap off: an I/O error would be a SIGBUS instead of a code. secure_delete: erased means overwritten. */
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA synchronous=EXTRA; PRAGMA page_size=%d; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;"
             "PRAGMA secure_delete=ON; PRAGMA mmap_size=0; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY;"
             "PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF; PRAGMA journal_size_limit=%d;",
             PAGE_BYTES, 4 * WAL_FRAMES_DUE * PAGE_BYTES);
    if ((err = execute(db, pragmas, error)) != OK || (err = bound_pages(db, error)) != OK ||
        (err = create_schema(db, error)) != OK)
        return err;
    (void)sqlite3_wal_hook(db, on_commit, backend);
    /* What the WAL holds goes into the file before anything is built upon it. A predecessor may have stopped at a failed
     * flush: the kernel then counts those pages as clean, later flushes of the WAL would succeed without them, and a power
     * cut would tear a hole beneath new commits (Rebello et al., ATC'20). The checkpoint writes the pages anew. */
    rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return rc == SQLITE_OK ? OK : open_error(db, rc, "write the log of the last run back", error);
}

static enum err open_reader(struct backend *backend, const char *path, const char *vfs, struct error *error)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &backend->reader, flags, vfs);
    if (rc != SQLITE_OK)
        return open_error(backend->reader, rc, path, error);
    sqlite3_busy_timeout(backend->reader, BUSY_MS_MAX);
    (void)sqlite3_db_config(backend->reader, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return execute(backend->reader,
                   "PRAGMA mmap_size=0; PRAGMA cache_size=-8192; PRAGMA cell_size_check=ON; PRAGMA query_only=ON;",
                   error);
}

static enum err prepare_statements(struct backend *backend, struct error *error)
{
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        sqlite3 *db = i < STATEMENT_WRITE_COUNT ? backend->writer : backend->reader;
        int rc = sqlite3_prepare_v3(db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &backend->statements[i], NULL);
        if (rc != SQLITE_OK)
            return open_error(db, rc, statement_texts[i], error);
    }
    return OK;
}

static void sqlite_close(struct backend *backend, bool is_clean)
{
    if (!backend)
        return;
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(backend->statements[i]);
    sqlite3_close(backend->reader);
    /* The last connection to close checkpoints and removes the WAL. */
    if (backend->writer && (!is_clean || backend->is_failed))
        (void)sqlite3_db_config(backend->writer, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(backend->writer);
    buffer_deinit(&backend->segment);
    buffer_deinit(&backend->copy);
    free(backend);
}

static enum err sqlite_open(const struct backend_options *options, struct backend **ret_backend, struct error *error)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/journal.db", options->directory) >= (int)sizeof path)
        return error_set(error, ERR_INVALID, "directory name too long");
    struct backend *backend = calloc(1, sizeof *backend);
    if (!backend)
        return error_set(error, ERR_NO_MEMORY, "out of memory");
    buffer_init(&backend->segment, ROW_BYTES_MAX);
    buffer_init(&backend->copy, ROW_BYTES_MAX);
    enum err err;
    if ((err = open_writer(backend, path, options->vfs, error)) != OK ||
        (err = open_reader(backend, path, options->vfs, error)) != OK ||
        (err = prepare_statements(backend, error)) != OK) {
        sqlite_close(backend, false);
        return err;
    }
    *ret_backend = backend;
    return OK;
}

/* ---- write side ------------------------------------------------------------------------------------------------------- */

static enum err sqlite_begin(struct backend *backend)
{
    ASSERT(!backend->is_failed);
    return run(backend, STATEMENT_BEGIN);
}

/* An unfinished SELECT would keep its state of the database alive beyond the transaction. */
static void reset_finds(struct backend *backend)
{
    sqlite3_reset(backend->statements[STATEMENT_FIND_HEAD]);
    sqlite3_reset(backend->statements[STATEMENT_FIND_ROW]);
    sqlite3_reset(backend->statements[STATEMENT_FIND_ROW_FROM]);
    sqlite3_reset(backend->statements[STATEMENT_FIND_ERASURE]);
    sqlite3_reset(backend->statements[STATEMENT_FIRST_ERASURE]);
}

static void clear_segment(struct backend *backend)
{
    buffer_clear(&backend->segment);
    backend->segment_count = 0;
}

static enum err put_row(struct backend *backend, enum statement which, uint64_t offset, struct slice records)
{
    sqlite3_stmt *stmt = backend->statements[which];
    bind_u64(stmt, 1, offset);
    bind_slice(stmt, 2, records);
    return run(backend, which);
}

static enum err write_segment(struct backend *backend)
{
    if (backend->segment_count == 0)
        return OK;
    enum err err = backend->segment.is_overflow
                       ? ERR_NO_MEMORY
                       : put_row(backend, STATEMENT_PUT_ROW, backend->segment_offset, buffer_slice(&backend->segment));
    clear_segment(backend);
    return err;
}

static enum err sqlite_commit(struct backend *backend)
{
    ASSERT(!backend->is_failed); /* J4: no commit after the first failed one */
    reset_finds(backend);
    enum err err = write_segment(backend);
    if (err != OK)
        return err;
    err = run(backend, STATEMENT_COMMIT);
    /* FULL comes from a write, before the page that makes the commit valid is whole; out of memory may come after that page
     * was flushed, when SQLite extends its index of the WAL: rolled back here, there again after a crash. */
    return err == ERR_NO_MEMORY ? note(backend, ERR_STORAGE_FAILED) : err;
}

static void sqlite_rollback(struct backend *backend)
{
    reset_finds(backend);
    clear_segment(backend);
    /* SQLite rolls back by itself on some errors. In WAL mode a rollback only forgets: it cannot fail on the disk. */
    if (!sqlite3_get_autocommit(backend->writer)) {
        sqlite3_stmt *stmt = backend->statements[STATEMENT_ROLLBACK];
        (void)sqlite3_step(stmt);
        (void)sqlite3_reset(stmt);
    }
}

static enum err sqlite_append(struct backend *backend, const struct record *record)
{
    enum err err = OK;
    if (!segment_has_room(backend->segment.size, record) && (err = write_segment(backend)) != OK)
        return err;
    if (backend->segment_count == 0)
        backend->segment_offset = record->offset;
    ASSERT(record->offset == backend->segment_offset + backend->segment_count);
    backend->segment_count++;
    segment_append(&backend->segment, record);
    return OK;
}

static enum err sqlite_put_head(struct backend *backend, const struct record_head *head)
{
    uint8_t bytes[RECORD_HEAD_BYTES_MAX];
    sqlite3_stmt *stmt = backend->statements[STATEMENT_PUT_HEAD];
    bind_slice(stmt, 1, head->key);
    bind_slice(stmt, 2, slice_of((const char *)bytes, record_head_encode(head, bytes)));
    return run(backend, STATEMENT_PUT_HEAD);
}

static enum err sqlite_put_snapshot(struct backend *backend, const struct record_snapshot *snapshot)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_PUT_SNAPSHOT];
    bind_slice(stmt, 1, snapshot->key);
    bind_u64(stmt, 2, snapshot->version);
    bind_u64(stmt, 3, snapshot->crc);
    bind_slice(stmt, 4, snapshot->data);
    return run(backend, STATEMENT_PUT_SNAPSHOT);
}

static enum err sqlite_put_mark(struct backend *backend, enum backend_mark mark, uint64_t offset)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_PUT_MARK];
    bind_u64(stmt, 1, mark);
    bind_u64(stmt, 2, offset);
    return run(backend, STATEMENT_PUT_MARK);
}

/* ---- rows by key or offset, on either side ----------------------------------------------------------------------------- */

/* The statement is left on its row, so that slices into it live until it is used again. */
static enum err seek_head(struct backend *backend, enum statement which, struct slice key, struct record_head *ret_head)
{
    sqlite3_stmt *stmt = backend->statements[which];
    sqlite3_reset(stmt);
    bind_slice(stmt, 1, key);
    enum err err = next_row(stmt);
    if (err == OK)
        *ret_head = column_head(stmt);
    return err;
}

static enum err seek_row(struct backend *backend, enum statement which, uint64_t offset)
{
    if (offset > INT64_MAX) /* out of a damaged record */
        return ERR_NOT_FOUND;
    sqlite3_stmt *stmt = backend->statements[which];
    sqlite3_reset(stmt);
    bind_u64(stmt, 1, offset);
    return next_row(stmt);
}

/* The record at `offset` of a segment. What cannot be read or was erased is not found. */
static enum err walk_to(struct segment_walk *walk, uint64_t offset, struct record *ret_record)
{
    do {
        if (segment_next(walk, ret_record) != OK)
            return ERR_NOT_FOUND;
    } while (walk->offset < offset);
    return ret_record->number > 0 ? OK : ERR_NOT_FOUND;
}

static enum err seek_record(struct backend *backend, enum statement which, uint64_t offset, struct record *ret_record)
{
    enum err err = seek_row(backend, which, offset);
    if (err != OK)
        return err;
    struct segment_walk walk = column_segment(backend->statements[which]);
    return walk_to(&walk, offset, ret_record);
}

/* Returns: OK; ERR_NOT_FOUND with *ret_is_damaged, or without: on to the row before. */
static enum err find_last_in(struct segment_walk walk, struct slice key, struct record *ret_record, bool *ret_is_damaged)
{
    struct record record;
    enum err err, found = ERR_NOT_FOUND;
    *ret_is_damaged = false;
    while ((err = segment_next(&walk, &record)) == OK) {
        if (record.number > 0 && record.crc != record_crc(&record)) {
            *ret_is_damaged = true; /* what stands before it in the row does not count */
            found = ERR_NOT_FOUND;
        } else if (record.number > 0 && slice_is_equal(record.key, key)) {
            *ret_record = record;
            found = OK;
        }
    }
    *ret_is_damaged |= err == ERR_STORAGE_CORRUPT;
    return err == ERR_STORAGE_CORRUPT ? ERR_NOT_FOUND : found;
}

static enum err seek_last_of(struct backend *backend, enum statement which, struct slice key, struct record *ret_record)
{
    enum err err;
    bool is_damaged = false;
    for (uint64_t offset = INT64_MAX; !is_damaged && (err = seek_row(backend, which, offset)) == OK;) {
        struct segment_walk walk = column_segment(backend->statements[which]);
        offset = walk.offset; /* one before the row's */
        if ((err = find_last_in(walk, key, ret_record, &is_damaged)) == OK)
            return OK;
    }
    return is_damaged ? ERR_NOT_FOUND : err;
}

static enum err sqlite_find_last_of(struct backend *backend, struct slice key, struct record *ret_record)
{
    return seek_last_of(backend, STATEMENT_FIND_ROW, key, ret_record);
}

static enum err sqlite_find_head(struct backend *backend, struct slice key, struct record_head *ret_head)
{
    return seek_head(backend, STATEMENT_FIND_HEAD, key, ret_head);
}

static enum err sqlite_find_record(struct backend *backend, uint64_t offset, struct record *ret_record)
{
    return seek_record(backend, STATEMENT_FIND_ROW, offset, ret_record);
}

/* ---- erasure and write-back -------------------------------------------------------------------------------------------- */

/* A row that can be written to: a copy, walked. */
static enum err copy_row(struct backend *backend, enum statement which, uint64_t offset, uint64_t *ret_row_offset)
{
    enum err err = seek_row(backend, which, offset);
    if (err != OK)
        return err;
    sqlite3_stmt *stmt = backend->statements[which];
    *ret_row_offset = column_u64(stmt, 0);
    buffer_clear(&backend->copy);
    buffer_append_slice(&backend->copy, column_slice(stmt, 1));
    sqlite3_reset(stmt);
    return backend->copy.is_overflow ? ERR_NO_MEMORY : OK;
}

static enum err put_copy(struct backend *backend, uint64_t row_offset)
{
    struct slice records = buffer_slice(&backend->copy);
    if (segment_is_alive(records))
        return put_row(backend, STATEMENT_UPDATE_ROW, row_offset, records);
    bind_u64(backend->statements[STATEMENT_ERASE_ROW], 1, row_offset);
    return run(backend, STATEMENT_ERASE_ROW);
}

static enum err sqlite_erase_record(struct backend *backend, uint64_t offset)
{
    uint64_t row_offset;
    struct record record;
    enum err err = copy_row(backend, STATEMENT_FIND_ROW, offset, &row_offset);
    if (err != OK)
        return err == ERR_NOT_FOUND ? OK : err;
    struct segment_walk walk = segment_begin(row_offset, buffer_slice(&backend->copy));
    if (walk_to(&walk, offset, &record) != OK)
        return OK;
    segment_erase(&walk);
    return put_copy(backend, row_offset);
}

/* Of the row in `copy`. What cannot be read and has the key's bytes in it goes too. Returns: whether there were any. */
static bool erase_in_copy(struct backend *backend, uint64_t row_offset, struct slice key, uint64_t upto)
{
    struct segment_walk walk = segment_begin(row_offset, buffer_slice(&backend->copy));
    struct record record;
    enum err err;
    bool has_any = false;
    while ((err = segment_next(&walk, &record)) == OK) {
        if (record.number == 0 || record.offset > upto || !slice_is_equal(record.key, key))
            continue;
        segment_erase(&walk);
        has_any = true;
    }
    if (err == ERR_STORAGE_CORRUPT && memmem(walk.record, (size_t)(walk.at - walk.record), key.data, key.size)) {
        segment_erase(&walk);
        has_any = true;
    }
    return has_any;
}

static enum err erase_by_key(struct backend *backend, enum statement which, struct slice key)
{
    bind_slice(backend->statements[which], 1, key);
    return run(backend, which);
}

static enum err sqlite_erase_records_of(struct backend *backend, struct slice key, uint64_t upto)
{
    enum err err = OK;
    uint64_t row_offset;
    for (uint64_t from = 0; from <= upto; from = row_offset + 1) {
        if ((err = copy_row(backend, STATEMENT_FIND_ROW_FROM, from, &row_offset)) != OK)
            break;
        if (erase_in_copy(backend, row_offset, key, upto) && (err = put_copy(backend, row_offset)) != OK)
            break;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err sqlite_erase_head(struct backend *backend, struct slice key)
{
    enum err err = erase_by_key(backend, STATEMENT_ERASE_HEAD, key);
    return err == OK ? erase_by_key(backend, STATEMENT_ERASE_SNAPSHOT, key) : err;
}

static enum err sqlite_put_erasure(struct backend *backend, const struct backend_erasure *erasure)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_PUT_ERASURE];
    bind_slice(stmt, 1, erasure->key);
    bind_u64(stmt, 2, erasure->upto);
    bind_u64(stmt, 3, erasure->next);
    return run(backend, STATEMENT_PUT_ERASURE);
}

static enum err sqlite_drop_erasure(struct backend *backend, struct slice key)
{
    return erase_by_key(backend, STATEMENT_DROP_ERASURE, key);
}

/* The statement is on its row. */
static enum err column_erasure(sqlite3_stmt *stmt, struct backend_erasure *ret_erasure)
{
    enum err err = next_row(stmt);
    if (err == OK)
        *ret_erasure = (struct backend_erasure){
            .key = column_slice(stmt, 0), .upto = column_u64(stmt, 1), .next = column_u64(stmt, 2)};
    return err;
}

static enum err sqlite_find_erasure(struct backend *backend, struct slice key, struct backend_erasure *ret_erasure)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_FIND_ERASURE];
    sqlite3_reset(stmt);
    bind_slice(stmt, 1, key);
    return column_erasure(stmt, ret_erasure);
}

static enum err sqlite_first_erasure(struct backend *backend, struct backend_erasure *ret_erasure)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_FIRST_ERASURE];
    sqlite3_reset(stmt);
    return column_erasure(stmt, ret_erasure);
}

static enum err checkpoint(struct backend *backend, int mode)
{
    ASSERT(!backend->is_failed && sqlite3_get_autocommit(backend->writer));
    sqlite3_busy_timeout(backend->writer, CHECKPOINT_BUSY_MS_MAX);
    int rc = sqlite3_wal_checkpoint_v2(backend->writer, NULL, mode, NULL, NULL);
    sqlite3_busy_timeout(backend->writer, BUSY_MS_MAX);
    backend->wal_frames_seen = backend->wal_frames;
    return note(backend, error_of(rc));
}

static enum err sqlite_maintain(struct backend *backend, bool is_idle, bool *ret_did)
{
    *ret_did = backend->wal_frames - backend->wal_frames_seen >= (is_idle ? WAL_FRAMES_IDLE : WAL_FRAMES_DUE);
    if (!*ret_did)
        return OK;
    /* PASSIVE takes what no reader needs and waits for nobody. */
    int mode = backend->wal_frames > WAL_FRAMES_MAX ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;
    enum err err = checkpoint(backend, mode);
    return err == ERR_STORAGE_BUSY ? OK : err; /* the next time comes */
}

static enum err sqlite_scrub(struct backend *backend)
{
    /* The cache keeps what the gaps of the file have lost, and would write it to the WAL with the next change of a page. */
    (void)sqlite3_db_release_memory(backend->writer);
    return checkpoint(backend, SQLITE_CHECKPOINT_TRUNCATE);
}

static const char *sqlite_last_error(struct backend *backend)
{
    return sqlite3_errmsg(backend->writer);
}

/* ---- read side -------------------------------------------------------------------------------------------------------- */

/* A failed read is no failed write: it must not stop the write side, so that it does not go through `run`. */
static enum err read_run(struct backend *backend, enum statement which)
{
    sqlite3_stmt *stmt = backend->statements[which];
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    return error_of(rc);
}

static enum err sqlite_read_begin(struct backend *backend)
{
    return read_run(backend, STATEMENT_READ_BEGIN);
}

static void sqlite_read_end(struct backend *backend)
{
    for (int i = STATEMENT_WRITE_COUNT; i < STATEMENT_COUNT; i++)
        sqlite3_reset(backend->statements[i]);
    (void)read_run(backend, STATEMENT_READ_END);
}

static enum err sqlite_read_mark(struct backend *backend, enum backend_mark mark, uint64_t *ret_offset)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_READ_MARK];
    sqlite3_reset(stmt);
    bind_u64(stmt, 1, mark);
    enum err err = next_row(stmt);
    if (err == OK)
        *ret_offset = column_u64(stmt, 0);
    return err;
}

static enum err sqlite_read_record(struct backend *backend, uint64_t offset, struct record *ret_record)
{
    return seek_record(backend, STATEMENT_READ_ROW, offset, ret_record);
}

static enum err sqlite_read_last_of(struct backend *backend, struct slice key, struct record *ret_record)
{
    return seek_last_of(backend, STATEMENT_READ_ROW, key, ret_record);
}

static enum err sqlite_read_last(struct backend *backend, uint64_t *ret_offset)
{
    enum err err = seek_row(backend, STATEMENT_READ_ROW, INT64_MAX);
    if (err != OK)
        return err;
    struct segment_walk walk = column_segment(backend->statements[STATEMENT_READ_ROW]);
    struct record record;
    while ((err = segment_next(&walk, &record)) == OK)
        ;
    /* How many there were in what cannot be read: not more than it has bytes. */
    *ret_offset = walk.offset + (err == ERR_STORAGE_CORRUPT ? (uint64_t)(walk.at - walk.record) : 0);
    return OK;
}

static enum err sqlite_read_head(struct backend *backend, struct slice key, struct record_head *ret_head)
{
    return seek_head(backend, STATEMENT_READ_HEAD, key, ret_head);
}

static enum err sqlite_read_snapshot(struct backend *backend, struct slice key, struct record_snapshot *ret_snapshot)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_READ_SNAPSHOT];
    sqlite3_reset(stmt);
    bind_slice(stmt, 1, key);
    enum err err = next_row(stmt);
    if (err == OK)
        *ret_snapshot = (struct record_snapshot){.key = column_slice(stmt, 0),
                                                 .version = column_u64(stmt, 1),
                                                 .crc = (uint32_t)column_u64(stmt, 2),
                                                 .data = column_slice(stmt, 3)};
    return err;
}

static enum err sqlite_scan_start(struct backend *backend, uint64_t after_offset)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_SCAN];
    sqlite3_reset(stmt);
    backend->scan_after = after_offset > INT64_MAX - 1 ? INT64_MAX - 1 : after_offset;
    backend->scan = segment_begin(1, slice_of("", 0));
    bind_u64(stmt, 1, backend->scan_after + 1);
    return OK;
}

static enum err sqlite_scan_next(struct backend *backend, struct record *ret_record)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_SCAN];
    for (;;) {
        enum err err = segment_next(&backend->scan, ret_record);
        if (err == ERR_NOT_FOUND) {
            if ((err = next_row(stmt)) != OK)
                return err;
            backend->scan = column_segment(stmt);
            continue;
        }
        if (backend->scan.offset <= backend->scan_after)
            continue;
        if (err == ERR_STORAGE_CORRUPT) {
            *ret_record = (struct record){.offset = backend->scan.offset};
            ret_record->crc = ~record_crc(ret_record);
            return OK;
        }
        if (ret_record->number > 0)
            return OK;
    }
}

static int compare_slices(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static enum err sqlite_list_start(struct backend *backend, struct slice prefix, struct slice after_key)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_LIST];
    sqlite3_reset(stmt);
    bool is_within = after_key.size > 0 && compare_slices(after_key, prefix) >= 0;
    struct slice lower = is_within ? after_key : prefix;
    /* The first key behind the prefix: its last byte that is not 0xff, plus one; without any, longer than every key. */
    char upper[JOURNAL_KEY_BYTES_MAX + 1];
    size_t upper_size = prefix.size;
    if (upper_size > JOURNAL_KEY_BYTES_MAX)
        return ERR_INVALID;
    if (upper_size)
        memcpy(upper, prefix.data, upper_size);
    while (upper_size > 0 && upper[upper_size - 1] == (char)0xff)
        upper_size--;
    if (upper_size > 0) {
        upper[upper_size - 1]++;
    } else {
        upper_size = sizeof upper;
        memset(upper, 0xff, sizeof upper);
    }
    bool is_bound =
        sqlite3_bind_blob64(stmt, 1, lower.size ? lower.data : "", lower.size, SQLITE_TRANSIENT) == SQLITE_OK &&
        sqlite3_bind_int(stmt, 2, !is_within) == SQLITE_OK &&
        sqlite3_bind_blob64(stmt, 3, upper, upper_size, SQLITE_TRANSIENT) == SQLITE_OK;
    return is_bound ? OK : ERR_NO_MEMORY;
}

static enum err sqlite_list_next(struct backend *backend, struct record_head *ret_head)
{
    sqlite3_stmt *stmt = backend->statements[STATEMENT_LIST];
    enum err err = next_row(stmt);
    if (err == OK)
        *ret_head = column_head(stmt);
    return err;
}

const struct backend_type sqlite_backend_type = {
    .name = "sqlite",
    .file = "journal.db",
    .open = sqlite_open,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .append = sqlite_append,
    .put_head = sqlite_put_head,
    .put_snapshot = sqlite_put_snapshot,
    .put_mark = sqlite_put_mark,
    .find_head = sqlite_find_head,
    .find_record = sqlite_find_record,
    .find_last_of = sqlite_find_last_of,
    .erase_record = sqlite_erase_record,
    .erase_records_of = sqlite_erase_records_of,
    .erase_head = sqlite_erase_head,
    .put_erasure = sqlite_put_erasure,
    .drop_erasure = sqlite_drop_erasure,
    .find_erasure = sqlite_find_erasure,
    .first_erasure = sqlite_first_erasure,
    .maintain = sqlite_maintain,
    .scrub = sqlite_scrub,
    .last_error = sqlite_last_error,
    .read_begin = sqlite_read_begin,
    .read_end = sqlite_read_end,
    .read_mark = sqlite_read_mark,
    .read_record = sqlite_read_record,
    .read_last = sqlite_read_last,
    .read_last_of = sqlite_read_last_of,
    .read_head = sqlite_read_head,
    .read_snapshot = sqlite_read_snapshot,
    .scan_start = sqlite_scan_start,
    .scan_next = sqlite_scan_next,
    .list_start = sqlite_list_start,
    .list_next = sqlite_list_next,
};
