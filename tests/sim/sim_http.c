/* SPDX-License-Identifier: Apache-2.0 */
/* sim_http: see sim_http.h. Reads Content-Length and chunked bodies; anything else the server says is a failed run. */
#include "tests/sim/sim_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/assert.h"
#include "runtime/ring_sim.h"

enum { BYTES_MAX = 64 << 20 };

bool sim_http_open(struct sim_http *http, const char *address)
{
    ASSERT(!http->tcp);
    http->tcp = sim_connect(address);
    if (!http->tcp)
        return false;
    buffer_init(&http->out, BYTES_MAX);
    buffer_init(&http->in, BYTES_MAX);
    buffer_init(&http->body, BYTES_MAX);
    http->status = 0;
    return true;
}

static void forget(struct sim_http *http)
{
    buffer_deinit(&http->out);
    buffer_deinit(&http->in);
    buffer_deinit(&http->body);
    *http = (struct sim_http){0};
}

void sim_http_close(struct sim_http *http)
{
    if (!http->tcp)
        return;
    sim_client_close(http->tcp);
    forget(http);
}

void sim_http_reset(struct sim_http *http)
{
    if (!http->tcp)
        return;
    sim_client_reset(http->tcp);
    forget(http);
}

void sim_http_send(struct sim_http *http, const char *method, const char *path, const char *headers, struct slice body)
{
    buffer_append_format(&http->out, "%s %s HTTP/1.1\r\nHost: sim\r\n%s", method, path, headers);
    if (body.size)
        buffer_append_format(&http->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.size);
    buffer_append_text(&http->out, "\r\n");
    buffer_append_slice(&http->out, body);
}

static void pump(struct sim_http *http)
{
    size_t taken = http->out.size ? sim_client_send(http->tcp, http->out.data, http->out.size) : 0;
    buffer_remove_front(&http->out, taken);
    char bytes[4096];
    for (size_t size; (size = sim_client_receive(http->tcp, bytes, sizeof bytes)) > 0;) {
        sim_trace(bytes, size);
        buffer_append(&http->in, bytes, size);
    }
}

static const char *find(const struct buffer *buffer, const char *text)
{
    return buffer->size ? memmem(buffer->data, buffer->size, text, strlen(text)) : NULL;
}

static bool take_head(struct sim_http *http)
{
    const char *end = find(&http->in, "\r\n\r\n");
    if (!end)
        return false;
    size_t size = (size_t)(end - http->in.data) + 4;
    char head[8192];
    ASSERT(size < sizeof head);
    memcpy(head, http->in.data, size);
    head[size] = 0;
    buffer_remove_front(&http->in, size);
    ASSERT(strncmp(head, "HTTP/1.1 ", 9) == 0);
    http->status = (int)strtol(head + 9, NULL, 10);
    const char *length = strcasestr(head, "\r\ncontent-length:");
    http->is_chunked = strcasestr(head, "\r\ntransfer-encoding: chunked") != NULL;
    http->is_stream = strcasestr(head, "\r\ncontent-type: text/event-stream") != NULL;
    ASSERT(http->is_chunked || length);
    http->length_left = http->is_chunked ? 0 : strtol(length + 17, NULL, 10);
    buffer_clear(&http->body);
    return true;
}

/* Returns: whether the body is complete. */
static bool take_body(struct sim_http *http)
{
    if (!http->is_chunked) {
        if (http->in.size < (size_t)http->length_left)
            return false;
        buffer_append(&http->body, http->in.data, (size_t)http->length_left);
        buffer_remove_front(&http->in, (size_t)http->length_left);
        return true;
    }
    for (;;) {
        const char *end = find(&http->in, "\r\n");
        if (!end)
            return false;
        size_t line = (size_t)(end - http->in.data) + 2;
        size_t size = strtoul(http->in.data, NULL, 16);
        if (http->in.size < line + size + 2)
            return false;
        ASSERT(memcmp(http->in.data + line + size, "\r\n", 2) == 0);
        buffer_append(&http->body, http->in.data + line, size);
        buffer_remove_front(&http->in, line + size + 2);
        if (size == 0)
            return true;
    }
}

enum sim_http_event sim_http_poll(struct sim_http *http, struct sim_answer *ret_answer)
{
    if (!http->tcp)
        return SIM_HTTP_CLOSED;
    pump(http);
    bool is_closed = sim_client_is_closed_by_peer(http->tcp) || sim_client_is_reset(http->tcp);
    if (http->status == 0 && !take_head(http))
        return is_closed ? SIM_HTTP_CLOSED : SIM_HTTP_NOTHING;
    size_t before = http->body.size;
    if (take_body(http)) {
        *ret_answer = (struct sim_answer){.status = http->status, .body = buffer_slice(&http->body)};
        http->status = 0;
        return SIM_HTTP_ANSWER;
    }
    if (http->is_stream && http->body.size > before)
        return SIM_HTTP_STREAM;
    return is_closed ? SIM_HTTP_CLOSED : SIM_HTTP_NOTHING;
}
