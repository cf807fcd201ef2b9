/* SPDX-License-Identifier: Apache-2.0 */
/* problem: two tables (status -> title, code -> status) and one writer. Callers: every route, and http_server for what it
 * refuses itself. */
#include "actors/api/problem.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "net/json.h"

static const struct {
    int status;
    const char *title;
} titles[] = {
    {400, "Bad Request"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

static const struct {
    enum err code;
    int status;
    const char *kind;
    uint32_t retry_after_s;
} refusals[] = {
    {ERR_NOT_FOUND, 404, "not-found", 0},
    {ERR_CONFLICT, 422, "payload-mismatch", 0},
    {ERR_INVALID, 422, "invalid-value", 0},
    {ERR_BUSY, 409, "busy", 0},
    {ERR_STALE, 409, "stale-version", 0},
    {ERR_EXISTS, 409, "wrong-state", 0},
    {ERR_CANCELLED, 409, "cancelled", 0},
    {ERR_MAILBOX_FULL, 429, "queue-full", 1},
    {ERR_LIMIT, 429, "limit", 1},
    {ERR_BREAKER_OPEN, 503, "agent-unavailable", 1},
    {ERR_SHUTDOWN, 503, "draining", 1},
    {ERR_ACTOR_GONE, 503, "draining", 1},
    {ERR_NO_MEMORY, 503, "overload", 1},
    {ERR_OVERLOAD, 503, "overload", 1},
    {ERR_TIMEOUT, 503, "overload", 1},
    {ERR_CRASHED, 503, "crashed", 1},
    {ERR_STORAGE_FULL, 507, "storage-full", 10},
    {ERR_STORAGE_BUSY, 503, "storage-busy", 1},
    {ERR_STORAGE_FAILED, 503, "storage-failed", 10},
    {ERR_STORAGE_CORRUPT, 503, "storage-corrupt", 0},
    {ERR_STORAGE_FORMAT, 503, "storage-format", 0},
};

const char *problem_status_title(int status)
{
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++) {
        if (titles[i].status == status)
            return titles[i].title;
    }
    return "Error";
}

struct problem problem_of(enum err code, struct slice detail, uint32_t retry_after_s)
{
    struct problem problem = {.status = 500, .detail = detail, .retry_after_s = retry_after_s};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (refusals[i].code != code)
            continue;
        problem.status = refusals[i].status;
        problem.kind = refusals[i].kind;
        if (retry_after_s == 0)
            problem.retry_after_s = refusals[i].retry_after_s;
    }
    if (detail.size == 0)
        problem.detail = slice_from_text(err_text(code));
    return problem;
}

void problem_add_error(struct problem *problem, int status, const char *pointer, const char *format, ...)
{
    if (problem->status != 400)
        problem->status = status;
    if (problem->error_count == PROBLEM_ERRORS_MAX)
        return;
    struct problem_error *error = &problem->errors[problem->error_count++];
    snprintf(error->pointer, sizeof error->pointer, "%s", pointer);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->detail, sizeof error->detail, format, arguments);
    va_end(arguments);
}

static void write_text_member(struct buffer *out, const char *key, struct slice text, bool *is_first)
{
    if (text.size == 0)
        return;
    json_write_key(out, key, is_first);
    json_write_string(out, text);
}

static void write_errors(struct buffer *out, const struct problem *problem)
{
    buffer_append_byte(out, '[');
    for (uint32_t i = 0; i < problem->error_count; i++) {
        bool is_first = true;
        buffer_append_text(out, i ? ",{" : "{");
        json_write_key(out, "pointer", &is_first);
        json_write_string(out, slice_from_text(problem->errors[i].pointer));
        json_write_key(out, "detail", &is_first);
        json_write_string(out, slice_from_text(problem->errors[i].detail));
        buffer_append_byte(out, '}');
    }
    buffer_append_byte(out, ']');
}

void problem_write(struct buffer *out, const struct problem *problem, struct slice trace_id)
{
    char type[96];
    snprintf(type, sizeof type, "%s%s", problem->kind ? "urn:ciranda:problem:" : "about:blank",
             problem->kind ? problem->kind : "");
    bool is_first = true;
    buffer_append_byte(out, '{');
    write_text_member(out, "type", slice_from_text(type), &is_first);
    write_text_member(out, "title", slice_from_text(problem_status_title(problem->status)), &is_first);
    json_write_key(out, "status", &is_first);
    json_write_unsigned(out, (uint64_t)problem->status);
    write_text_member(out, "detail", problem->detail, &is_first);
    write_text_member(out, "trace_id", trace_id, &is_first);
    if (problem->error_count) {
        json_write_key(out, "errors", &is_first);
        write_errors(out, problem);
    }
    buffer_append_byte(out, '}');
}
