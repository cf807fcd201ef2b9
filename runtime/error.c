/* SPDX-License-Identifier: Apache-2.0 */
/* error: the texts of the code table, and the composing of an error's text.
 *
 * A text is built once, on the cold path, in the caller's memory: no allocation, so that "out of memory" can be reported like
 * anything else. What does not fit ends in "...": the front matters most to a reader, since it says what was being done.
 * Callers: every part.
 */
#include "runtime/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/assert.h"

static const struct {
    const char *name, *text;
    bool may_retry;
} error_table[] = {
#define ERR(name, text, may_retry) {#name, text, may_retry},
#include "runtime/error.def"
#undef ERR
};
_Static_assert(sizeof error_table / sizeof error_table[0] == ERR_COUNT, "one row a code");

const char *err_text(enum err code)
{
    ASSERT((unsigned)code < ERR_COUNT);
    return error_table[code].text;
}

const char *err_name(enum err code)
{
    ASSERT((unsigned)code < ERR_COUNT);
    return error_table[code].name;
}

bool err_may_retry(enum err code)
{
    ASSERT((unsigned)code < ERR_COUNT);
    return error_table[code].may_retry;
}

static void mark_truncated(char *text, size_t size)
{
    memcpy(text + size - sizeof "...", "...", sizeof "...");
}

enum err error_set_at(struct error *error, enum err code, int os_errno, const char *file, int line, const char *format,
                      ...)
{
    if (!error)
        return code;
    *error = (struct error){.code = code, .os_errno = os_errno, .file = file, .line = line};
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (os_errno != 0 && used < sizeof error->text) {
        const char *reason = strerrordesc_np(os_errno);
        length = snprintf(error->text + used, sizeof error->text - used, ": %s", reason ? reason : "unknown errno");
        used += (size_t)length;
    }
    if (used >= sizeof error->text)
        mark_truncated(error->text, sizeof error->text);
    return code;
}

enum err error_prefix(struct error *error, const char *format, ...)
{
    if (!error)
        return ERR_SYSTEM;
    char text[sizeof error->text];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, ": %s", error->text);
    if (used >= sizeof text)
        mark_truncated(text, sizeof text);
    memcpy(error->text, text, sizeof text);
    return error->code;
}
