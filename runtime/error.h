/* SPDX-License-Identifier: Apache-2.0 */
/* error: result codes, and the text a person needs when something fails.
 *
 * Not for bugs (assert.h) and not for the hot path's texts: a hot function returns the code alone. A function whose failure
 * a person must understand takes `struct error *` last; the lowest layer fills it, each layer above prefixes what it was
 * doing: "start worker 3: map ring: 8 MiB over memlock limit" (the manner of dqlite's ErrMsgWrapf). */
#ifndef CIRANDA_RUNTIME_ERROR_H
#define CIRANDA_RUNTIME_ERROR_H

#include <stdbool.h>

enum err {
#define ERR(name, text, may_retry) name,
#include "runtime/error.def"
#undef ERR
    ERR_COUNT
};

#define MUST_USE __attribute__((warn_unused_result))

struct error {
    enum err code;
    int os_errno;     /* 0 when no system call was involved */
    const char *file; /* where it was first set */
    int line;
    char text[512]; /* truncated with "..." when longer */
};

/* Thread: any. Returns: a static text / name ("ERR_TIMEOUT") / whether the same call may succeed later. */
const char *err_text(enum err code);
const char *err_name(enum err code);
bool err_may_retry(enum err code);

/* Fills `error` (may be NULL) and returns `code`, so that a failing function ends with `return error_set(...)`. */
#define error_set(error, code, ...) error_set_at((error), (code), 0, __FILE__, __LINE__, __VA_ARGS__)
#define error_set_errno(error, code, os_errno, ...)                                                                      \
    error_set_at((error), (code), (os_errno), __FILE__, __LINE__, __VA_ARGS__)
enum err error_set_at(struct error *error, enum err code, int os_errno, const char *file, int line, const char *format,
                      ...) __attribute__((format(printf, 6, 7)));

/* Puts "<format>: " before the text. Returns: error->code (or ERR_SYSTEM when error is NULL). */
enum err error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
