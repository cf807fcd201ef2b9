/* SPDX-License-Identifier: Apache-2.0 */
/* log: lines composed on the caller's stack, copied under a short lock into the present one of two buffers, and written by
 * the logger thread, which swaps the buffers and writes at its own pace.
 *
 * A worker never waits for the sink: when the present buffer is full its line is dropped and counted, and the logger says so
 * once it has caught up. A lock, not a lock-free queue: it is held for one memcpy of at most 4 KiB or for a swap, and lines
 * are rare (per-message facts are counters).
 *
 * A line has at most PIPE_BUF bytes and goes out with one write after a poll for room: lines of several processes on one pipe
 * do not mix, and a reader that stopped reading cannot hold the logger past log_stop's second.
 * Callers: every part.
 */
#include "runtime/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/worker.h"

enum {
    LINE_BYTES_MAX = PIPE_BUF,
    VALUE_BYTES_MAX = 1024, /* escaped */
    QUEUE_BYTES = 256 * 1024,
    POLL_MS = 100,
    STOP_POLLS_MAX = 10, /* log_stop gives a blocked sink one second */
};

/* The mark goes where a field no longer fits, so room for it and for the end of the line is kept free. */
#define LINE_CUT ",\"cut\":true"
#define LINE_END "}\n"
enum { LINE_RESERVE = sizeof LINE_CUT + sizeof LINE_END };

struct line {
    char text[LINE_BYTES_MAX];
    size_t size;
};

struct queue {
    char bytes[QUEUE_BYTES];
    size_t size;
};

static struct {
    _Atomic int level;           /* relaxed: a line more or less while it changes is no matter */
    _Atomic uint64_t drop_count; /* relaxed: a counter */
    _Atomic bool is_running;     /* relaxed: the lock orders what it guards; a stale read only chooses the direct way */
    log_sink_fn *sink;           /* fixed while other threads log */
    void *sink_context;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t has_lines;
    /* under `lock` */
    bool is_stopping;
    struct queue *filling;
    /* the logger's own */
    struct queue *writing;
    uint64_t reported_drop_count;
    struct queue queues[2];
} logger = {
    .level = LOG_INFO,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .has_lines = PTHREAD_COND_INITIALIZER,
};

/* ---- composing a line ------------------------------------------------------------------------------------------------- */

static bool line_add(struct line *line, const char *bytes, size_t size)
{
    if (size > sizeof line->text - LINE_RESERVE - line->size)
        return false;
    memcpy(line->text + line->size, bytes, size);
    line->size += size;
    return true;
}

static bool line_add_text(struct line *line, const char *text)
{
    return line_add(line, text, strlen(text));
}

/* One UTF-8 character (RFC 3629: shortest form, no surrogates, at most U+10FFFF). Returns: its bytes; 0 when invalid. */
static size_t utf8_decode(const unsigned char *bytes, size_t size, uint32_t *ret_code)
{
    unsigned char first = bytes[0];
    size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (length == 0 || length > size)
        return 0;
    uint32_t code = length == 1 ? first : first & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (bytes[i] & 0x3F);
    }
    static const uint32_t code_min[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < code_min[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *ret_code = code;
    return length;
}

/* Whether a terminal, a line splitter or JSON could take the character for more than text: C0 (ESC, CR, LF), DEL, C1 (CSI),
 * U+2028 and U+2029. */
static bool is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code <= 0x9F) || code == 0x2028 || code == 0x2029;
}

static bool line_add_quoted(struct line *line, struct slice text)
{
    char quoted[VALUE_BYTES_MAX + 8];
    size_t used = 0;
    quoted[used++] = '"';
    const unsigned char *bytes = (const unsigned char *)text.data;
    for (size_t at = 0; at < text.size;) {
        char piece[8];
        uint32_t code = 0;
        size_t length = utf8_decode(bytes + at, text.size - at, &code);
        size_t piece_size = length;
        if (length == 0)
            piece_size = (size_t)snprintf(piece, sizeof piece, "\\ufffd");
        else if (code == '"' || code == '\\')
            piece_size = (size_t)snprintf(piece, sizeof piece, "\\%c", (char)code);
        else if (is_unsafe(code))
            piece_size = (size_t)snprintf(piece, sizeof piece, "\\u%04x", (unsigned)code);
        else
            memcpy(piece, bytes + at, length);
        if (used + piece_size > VALUE_BYTES_MAX) {
            memcpy(quoted + used, "…", sizeof "…" - 1);
            used += sizeof "…" - 1;
            break;
        }
        memcpy(quoted + used, piece, piece_size);
        used += piece_size;
        at += length ? length : 1;
    }
    quoted[used++] = '"';
    return line_add(line, quoted, used);
}

static bool line_add_field(struct line *line, const struct log_field *field)
{
    char text[96];
    snprintf(text, sizeof text, ",\"%s\":", field->key);
    if (!line_add_text(line, text))
        return false;
    switch (field->type) {
    case LOG_FIELD_TEXT: return line_add_quoted(line, field->text);
    case LOG_FIELD_INT: snprintf(text, sizeof text, "%lld", (long long)field->number); return line_add_text(line, text);
    case LOG_FIELD_UINT:
        snprintf(text, sizeof text, "%llu", (unsigned long long)field->number);
        return line_add_text(line, text);
    case LOG_FIELD_ERR: return line_add_quoted(line, slice_from_text(err_name((enum err)field->number)));
    }
    return false;
}

static void line_begin(struct line *line, enum log_level level, const char *event)
{
    static const char *const level_names[] = {"debug", "info", "warn", "error"};
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm date;
    gmtime_r(&seconds, &date);
    char text[160];
    snprintf(text, sizeof text, "{\"ts\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03uZ\",\"level\":\"%s\",\"event\":\"%.64s\"",
             date.tm_year + 1900, date.tm_mon + 1, date.tm_mday, date.tm_hour, date.tm_min, date.tm_sec,
             (unsigned)(now_ms % 1000), level_names[level], event);
    line->size = 0;
    line_add_text(line, text);
    struct worker *worker = worker_current();
    if (worker) {
        snprintf(text, sizeof text, ",\"worker\":%u", (unsigned)worker_index(worker));
        line_add_text(line, text);
    }
}

static void line_end(struct line *line, bool is_cut)
{
    const char *end = is_cut ? LINE_CUT LINE_END : LINE_END;
    memcpy(line->text + line->size, end, strlen(end));
    line->size += strlen(end);
    ASSERT(line->size <= sizeof line->text);
}

/* ---- where it goes ------------------------------------------------------------------------------------------------------ */

static void write_direct(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            atomic_fetch_add_explicit(&logger.drop_count, 1, memory_order_relaxed);
            return;
        }
        bytes += written;
        size -= (size_t)written;
    }
}

/* Returns: false when the logger is not running (any more). */
static bool queue_line(const struct line *line)
{
    pthread_mutex_lock(&logger.lock);
    bool is_queued = atomic_load_explicit(&logger.is_running, memory_order_relaxed) && !logger.is_stopping;
    if (is_queued) {
        struct queue *queue = logger.filling;
        if (line->size > sizeof queue->bytes - queue->size) {
            atomic_fetch_add_explicit(&logger.drop_count, 1, memory_order_relaxed);
        } else {
            if (queue->size == 0)
                pthread_cond_signal(&logger.has_lines);
            memcpy(queue->bytes + queue->size, line->text, line->size);
            queue->size += line->size;
        }
    }
    pthread_mutex_unlock(&logger.lock);
    return is_queued;
}

static void emit_line(const struct line *line)
{
    if (logger.sink) {
        logger.sink(logger.sink_context, slice_of(line->text, line->size));
        return;
    }
    if (atomic_load_explicit(&logger.is_running, memory_order_relaxed) && queue_line(line))
        return;
    write_direct(line->text, line->size);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
    struct line line;
    line_begin(&line, level, event);
    bool is_cut = false;
    for (size_t i = 0; i < field_count && !is_cut; i++) {
        size_t size_before = line.size;
        if (!line_add_field(&line, &fields[i])) {
            line.size = size_before;
            is_cut = true;
        }
    }
    line_end(&line, is_cut);
    emit_line(&line);
}

/* ---- the logger thread -------------------------------------------------------------------------------------------------- */

static bool is_stopping(void)
{
    pthread_mutex_lock(&logger.lock);
    bool result = logger.is_stopping;
    pthread_mutex_unlock(&logger.lock);
    return result;
}

/* Waits for room in the sink. Returns: false when there was none for a second after log_stop, and at once from then on: a stop
 * has one second, not each line that is left. */
static bool wait_for_room(unsigned *stop_polls)
{
    while (*stop_polls < STOP_POLLS_MAX) {
        struct pollfd sink = {.fd = STDERR_FILENO, .events = POLLOUT};
        int result = poll(&sink, 1, POLL_MS);
        if (result > 0 || (result < 0 && errno != EINTR))
            return true; /* also when it is broken: the write will say so */
        *stop_polls += is_stopping();
    }
    return false;
}

static void write_queue(struct queue *queue, unsigned *stop_polls)
{
    for (size_t at = 0; at < queue->size;) {
        const char *line = queue->bytes + at;
        const char *end = memchr(line, '\n', queue->size - at);
        ASSERT(end != NULL);
        size_t size = (size_t)(end - line) + 1;
        at += size;
        if (wait_for_room(stop_polls))
            write_direct(line, size);
        else
            atomic_fetch_add_explicit(&logger.drop_count, 1, memory_order_relaxed);
    }
    queue->size = 0;
}

static void report_drops(void)
{
    uint64_t drop_count = log_dropped_count();
    if (drop_count == logger.reported_drop_count)
        return;
    struct line line;
    struct log_field field = LOG_UINT("count", drop_count - logger.reported_drop_count);
    logger.reported_drop_count = drop_count;
    line_begin(&line, LOG_WARN, "log_lines_dropped");
    line_end(&line, !line_add_field(&line, &field));
    write_direct(line.text, line.size);
}

static void *run_logger(void *unused)
{
    (void)unused;
    unsigned stop_polls = 0;
    for (bool is_last = false; !is_last;) {
        pthread_mutex_lock(&logger.lock);
        while (logger.filling->size == 0 && !logger.is_stopping)
            pthread_cond_wait(&logger.has_lines, &logger.lock);
        is_last = logger.is_stopping; /* nothing is queued after that was set */
        struct queue *full = logger.filling;
        logger.filling = logger.writing;
        logger.writing = full;
        pthread_mutex_unlock(&logger.lock);
        write_queue(full, &stop_polls);
        if (stop_polls < STOP_POLLS_MAX)
            report_drops();
    }
    return NULL;
}

enum err log_start(struct error *error)
{
    ASSERT(!atomic_load_explicit(&logger.is_running, memory_order_relaxed));
    logger.is_stopping = false;
    logger.filling = &logger.queues[0];
    logger.writing = &logger.queues[1];
    logger.reported_drop_count = log_dropped_count();
    /* Signals belong to the threads that expect them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&logger.thread, NULL, run_logger, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0)
        return error_set_errno(error, ERR_SYSTEM, result, "start the logger thread");
    atomic_store_explicit(&logger.is_running, true, memory_order_relaxed);
    return OK;
}

void log_stop(void)
{
    if (!atomic_load_explicit(&logger.is_running, memory_order_relaxed))
        return;
    pthread_mutex_lock(&logger.lock);
    logger.is_stopping = true;
    pthread_cond_signal(&logger.has_lines);
    pthread_mutex_unlock(&logger.lock);
    pthread_join(logger.thread, NULL);
    atomic_store_explicit(&logger.is_running, false, memory_order_relaxed);
}

/* ---- settings ------------------------------------------------------------------------------------------------------------ */

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&logger.level, memory_order_relaxed);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&logger.level, (int)level, memory_order_relaxed);
}

void log_set_sink(log_sink_fn *sink, void *context)
{
    logger.sink = sink;
    logger.sink_context = context;
}

uint64_t log_dropped_count(void)
{
    return atomic_load_explicit(&logger.drop_count, memory_order_relaxed);
}
