/* SPDX-License-Identifier: Apache-2.0 */
/* http_client: one easy handle, reused so that its connection is. */
#include "cli/http_client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/json.h"

enum { REFUSAL_BYTES_MAX = 64 << 10 };

struct http_client {
    CURL *curl;
    char origin[128]; /* "http://127.0.0.1:7400" */
};

/* The call that is running. */
struct transfer {
    struct http_client *client;
    const struct http_call *call;
    struct buffer refusal;
    bool is_stopped;
};

enum err http_client_create(const char *server_address, struct http_client **ret_client, struct error *error)
{
    struct http_client *client = calloc(1, sizeof *client);
    if (!client || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(client->curl = curl_easy_init())) {
        http_client_destroy(client);
        return error_set(error, ERR_NO_MEMORY, "no memory for the HTTP client");
    }
    int size = snprintf(client->origin, sizeof client->origin, "http://%s", server_address);
    if (size < 0 || (size_t)size >= sizeof client->origin) {
        http_client_destroy(client);
        return error_set(error, ERR_INVALID, "the server's address is too long");
    }
    *ret_client = client;
    return OK;
}

void http_client_destroy(struct http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    free(client);
}

void http_client_write_segment(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || (*text != '\0' && memchr("._~:-", *text, 5)))
            buffer_append_byte(out, *text);
        else
            buffer_append_format(out, "%%%02X", (unsigned char)*text);
    }
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    long status = 0;
    curl_easy_getinfo(transfer->client->curl, CURLINFO_RESPONSE_CODE, &status);
    struct slice piece = slice_of(data, size * count);
    if (status < 200 || status > 299) {
        buffer_append_slice(&transfer->refusal, piece);
        return piece.size;
    }
    if (transfer->call->on_data(transfer->call->context, piece))
        return piece.size;
    transfer->is_stopped = true;
    return 0; /* libcurl's way to be told to stop */
}

/* The detail of a problem document, or its title, or what came when it is none. */
static enum err fail_with_problem(const struct transfer *transfer, long status, struct error *error)
{
    struct json_value problem, value;
    struct json_problem json_problem;
    struct slice text = buffer_slice(&transfer->refusal);
    char buffer[400];
    bool is_problem = json_validate(text, &problem, &json_problem) == OK &&
                      (json_find(problem, "detail", &value) || json_find(problem, "title", &value));
    if (is_problem && json_string(value, buffer, sizeof buffer, &text) != OK)
        text = value.raw; /* too long: as it came */
    return error_set(error, status == 404 ? ERR_NOT_FOUND : ERR_INVALID, "the server answers %ld: %.*s", status,
                     (int)(text.size < 400 ? text.size : 400), text.size ? text.data : "");
}

static enum err judge(const struct transfer *transfer, CURLcode result, struct error *error)
{
    long status = 0;
    curl_easy_getinfo(transfer->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->is_stopped)
        return error_set(error, ERR_CANCELLED, "stopped");
    if (result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST || result == CURLE_URL_MALFORMAT)
        return error_set(error, ERR_CONNECT, "cannot reach %s: is the server running? (%s)", transfer->client->origin,
                         curl_easy_strerror(result));
    if (result != CURLE_OK)
        return error_set(error, ERR_PEER_CLOSED, "%s: %s", transfer->client->origin, curl_easy_strerror(result));
    return status >= 200 && status <= 299 ? OK : fail_with_problem(transfer, status, error);
}

enum err http_client_run(struct http_client *client, const struct http_call *call, struct error *error)
{
    char url[1024], accept[128];
    snprintf(url, sizeof url, "%s%s", client->origin, call->path);
    snprintf(accept, sizeof accept, "Accept: %s", call->accept);
    struct curl_slist *headers = curl_slist_append(NULL, accept);
    if (call->body.size)
        headers = curl_slist_append(headers, "Content-Type: application/json");
    struct transfer transfer = {.client = client, .call = call};
    buffer_init(&transfer.refusal, REFUSAL_BYTES_MAX);

    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    if (call->body.size) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.size);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body.data);
    }
    enum err code = judge(&transfer, curl_easy_perform(curl), error);
    curl_slist_free_all(headers);
    buffer_deinit(&transfer.refusal);
    return code;
}
