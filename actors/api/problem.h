/* SPDX-License-Identifier: Apache-2.0 */
/* problem: an error as a client sees it: application/problem+json (RFC 9457), with trace_id and, for a bad request, errors[]
 * of JSON pointers. One writer for all of them, so that no route has a form of its own. Pure; any thread. */
#ifndef CIRANDA_ACTORS_API_PROBLEM_H
#define CIRANDA_ACTORS_API_PROBLEM_H

#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/slice.h"

#define PROBLEM_CONTENT_TYPE "application/problem+json"

enum { PROBLEM_ERRORS_MAX = 8, PROBLEM_POINTER_BYTES = 256 };

struct problem_error {
    char pointer[PROBLEM_POINTER_BYTES]; /* RFC 6901; "" is the whole body */
    char detail[160];
};

struct problem {
    int status;
    const char *kind;       /* "urn:ciranda:problem:<kind>"; NULL: about:blank, the status says it all */
    struct slice detail;    /* empty: left out */
    uint32_t retry_after_s; /* 0: none; the header is the caller's */
    struct problem_error errors[PROBLEM_ERRORS_MAX];
    uint32_t error_count;
};

void problem_write(struct buffer *out, const struct problem *problem, struct slice trace_id);

/* What a refusal by a conversation, the directory or the journal means over HTTP; never fails: an unforeseen code is 500. */
struct problem problem_of(enum err code, struct slice detail, uint32_t retry_after_s);

/* Adds one error; those over PROBLEM_ERRORS_MAX are not listed. The status becomes 400 when the first or any later error
 * makes it so: a value that is well-formed but out of range is 422 only as long as nothing worse was found. Without a detail
 * the problem gets one. */
void problem_add_error(struct problem *problem, int status, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "Not Found". Returns: a static text; "Error" for a status that nobody uses. */
const char *problem_status_title(int status);

#endif
