/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_request: see fetch_request.h. The checks keep a caller's text from becoming a line of the protocol. */
#include "net/fetch_request.h"

#include <string.h>

static const uint64_t second_ns = 1000000000;

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value ? value : fallback;
}

enum err fetch_request_complete(const struct fetch_request *request, struct fetch_request *ret_complete,
                                struct error *error)
{
    if (request->method[0] == '\0' || strspn(request->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(request->method))
        return error_set(error, ERR_INVALID, "not a method: %.40s", request->method);
    for (size_t i = 0; request->headers && request->headers[i]; i++) {
        if (strpbrk(request->headers[i], "\r\n"))
            return error_set(error, ERR_INVALID, "line break in header %zu", i);
    }
    *ret_complete = *request;
    ret_complete->connect_ns_max = or_default(request->connect_ns_max, 10 * second_ns);
    ret_complete->first_byte_ns_max = or_default(request->first_byte_ns_max, 60 * second_ns);
    ret_complete->idle_ns_max = or_default(request->idle_ns_max, 60 * second_ns);
    ret_complete->total_ns_max = or_default(request->total_ns_max, 300 * second_ns);
    ret_complete->response_bytes_max = or_default(request->response_bytes_max, 8 << 20);
    return OK;
}

struct fetch_request fetch_request_keep(const struct fetch_request *request)
{
    struct fetch_request kept = *request;
    kept.method = kept.url = NULL;
    kept.headers = NULL;
    kept.body = (struct slice){0};
    return kept;
}
