/* SPDX-License-Identifier: Apache-2.0 */
/* assert: the crash report of a broken invariant.
 *
 * It must work when the heap is what broke: one stack buffer, one write, no lock, no allocation; hence addresses as
 * module+offset (for addr2line) instead of symbol names. The logger's queue is not flushed: its thread may hold what broke.
 * Callers: the ASSERT macros.
 */
#include "runtime/assert.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { REPORT_BYTES = 4096, STACK_DEPTH = 32 };

struct report {
    char text[REPORT_BYTES];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void report_add(struct report *report, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(report->text + report->size, sizeof report->text - report->size, format, arguments);
    va_end(arguments);
    if (length > 0 && (size_t)length < sizeof report->text - report->size)
        report->size += (size_t)length; /* an item that does not fit is left out whole: the line stays JSON */
}

/* Expressions are C source: quotes and backslashes occur, control bytes do not. */
static void report_add_quoted(struct report *report, const char *text)
{
    report_add(report, "\"");
    for (; *text && report->size < REPORT_BYTES / 2; text++)
        report_add(report, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    report_add(report, "\"");
}

_Noreturn void assert_failed(const char *expression, const char *file, int line, const char *function)
{
    struct report report;
    report.size = 0;
    report_add(&report, "{\"level\":\"error\",\"event\":\"assert_failed\",\"expression\":");
    report_add_quoted(&report, expression);
    report_add(&report, ",\"place\":\"%s:%d\",\"function\":\"%s\",\"stack\":[", file, line, function);
    void *frames[STACK_DEPTH];
    int depth = backtrace(frames, STACK_DEPTH);
    for (int i = 0; i < depth && report.size < REPORT_BYTES - 256; i++) {
        Dl_info info;
        if (dladdr(frames[i], &info) && info.dli_fname)
            report_add(&report, "%s\"%s+0x%tx\"", i ? "," : "", info.dli_fname,
                       (char *)frames[i] - (char *)info.dli_fbase);
        else
            report_add(&report, "%s\"%p\"", i ? "," : "", frames[i]);
    }
    report_add(&report, "]}\n");
    if (write(STDERR_FILENO, report.text, report.size) < 0)
        abort(); /* nobody listens; the core says the rest */
    abort();
}
