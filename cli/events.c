/* SPDX-License-Identifier: Apache-2.0 */
/* events: prints a conversation's envelopes, one a line, as they are; with --follow also those to come. Made for pipes: a
 * reader that leaves ends it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/http_client.h"
#include "net/json.h"
#include "net/sse_parser.h"

enum { PAGE_BYTES_MAX = 64 << 20, PATH_BYTES_MAX = 768 };

static const char help[] = "usage: ciranda events ID [OPTIONS]\n"
                           "\n"
                           "  --follow             go on with what happens from now on\n"
                           "  --after V            only what comes after version V\n"
                           "  --server ADDR:PORT   (default 127.0.0.1:7400)\n"
                           "  --help, --version\n";

enum { OPTION_FOLLOW, OPTION_AFTER, OPTION_SERVER, OPTION_HELP, OPTION_VERSION };
static const struct option options[] = {
    {"follow", no_argument, NULL, OPTION_FOLLOW},       {"after", required_argument, NULL, OPTION_AFTER},
    {"server", required_argument, NULL, OPTION_SERVER}, {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},     {0},
};

struct request {
    const char *id, *after, *server;
    bool is_following;
};

static bool print_line(struct slice line)
{
    return fwrite(line.data, 1, line.size, stdout) == line.size && putchar('\n') != EOF && fflush(stdout) == 0;
}

/* ---- pages -------------------------------------------------------------------------------------------------------------- */

static bool gather(void *context, struct slice data)
{
    struct buffer *page = context;
    buffer_append_slice(page, data);
    return !page->is_overflow;
}

/* Prints the envelopes of a page. Returns: OK with *ret_next ("" when it was the last one). */
static enum err print_page(struct slice page, char *ret_next, size_t size, struct error *error)
{
    struct json_value root, events, envelope, next;
    struct json_problem problem;
    if (json_validate(page, &root, &problem) != OK || !json_find(root, "events", &events) ||
        !json_find(root, "next", &next))
        return error_set(error, ERR_PROTOCOL, "the server's answer is no page of events");
    struct json_iterator iterator = {0};
    while (json_next_element(events, &iterator, &envelope)) {
        if (!print_line(envelope.raw))
            return error_set(error, ERR_CANCELLED, "nobody reads");
    }
    snprintf(ret_next, size, "%.*s", next.type == JSON_NUMBER ? (int)next.raw.size : 0, next.raw.data);
    return OK;
}

static enum err print_history(struct http_client *client, const struct request *request, struct error *error)
{
    struct buffer page, path;
    char after[24];
    enum err code = OK;
    snprintf(after, sizeof after, "%s", request->after);
    buffer_init(&page, PAGE_BYTES_MAX);
    buffer_init(&path, PATH_BYTES_MAX);
    while (code == OK && *after) {
        buffer_clear(&page);
        buffer_clear(&path);
        buffer_append_text(&path, "/v1/conversations/");
        http_client_write_segment(&path, request->id);
        buffer_append_text(&path, "/events?limit=1000&after=");
        http_client_write_segment(&path, after);
        buffer_append_byte(&path, '\0');
        if (path.is_overflow) {
            code = error_set(error, ERR_INVALID, "the id is too long");
            break;
        }
        const struct http_call call = {
            .path = path.data, .accept = "application/json", .context = &page, .on_data = gather};
        code = http_client_run(client, &call, error);
        if (code == OK)
            code = print_page(buffer_slice(&page), after, sizeof after, error);
    }
    buffer_deinit(&page);
    buffer_deinit(&path);
    return code;
}

/* ---- stream ------------------------------------------------------------------------------------------------------------- */

struct follower {
    struct sse_parser parser;
    bool is_done;
};

static void on_event(void *context, const struct sse_event *event)
{
    struct follower *follower = context;
    follower->is_done |= !print_line(event->data);
}

static bool feed(void *context, struct slice data)
{
    struct follower *follower = context;
    return sse_parser_feed(&follower->parser, data) == OK && !follower->is_done;
}

static enum err follow(struct http_client *client, const struct request *request, struct error *error)
{
    struct follower follower = {.is_done = false};
    struct buffer path;
    buffer_init(&path, PATH_BYTES_MAX);
    buffer_append_text(&path, "/v1/conversations/");
    http_client_write_segment(&path, request->id);
    buffer_append_text(&path, "/stream?after=");
    http_client_write_segment(&path, request->after);
    buffer_append_byte(&path, '\0');
    if (path.is_overflow) {
        buffer_deinit(&path);
        return error_set(error, ERR_INVALID, "the id is too long");
    }
    sse_parser_init(&follower.parser, 0, &follower, on_event);
    const struct http_call call = {
        .path = path.data, .accept = "text/event-stream", .context = &follower, .on_data = feed};
    enum err code = http_client_run(client, &call, error);
    sse_parser_deinit(&follower.parser);
    buffer_deinit(&path);
    return code;
}

/* ---- the command -------------------------------------------------------------------------------------------------------- */

/* Returns: -1 to go on, else the exit code. */
static int parse(int count, char **arguments, struct request *request)
{
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        switch (option) {
        case OPTION_FOLLOW: request->is_following = true; break;
        case OPTION_AFTER: request->after = optarg; break;
        case OPTION_SERVER: request->server = optarg; break;
        case OPTION_HELP: return command_print_help(help);
        case OPTION_VERSION: return command_print_version();
        default: return command_refuse("events", "unknown or incomplete option");
        }
    }
    if (optind + 1 != count)
        return command_refuse("events", "needs the id of one conversation");
    if (!*request->after || strlen(request->after) > 20)
        return command_refuse("events", "--after takes a version");
    request->id = arguments[optind];
    return -1;
}

int command_events(int count, char **arguments)
{
    struct request request = {.after = "0", .server = "127.0.0.1:7400"};
    struct http_client *client;
    struct error error = {0};
    int leave = parse(count, arguments, &request);
    if (leave >= 0)
        return leave;
    enum err code = http_client_create(request.server, &client, &error);
    if (code == OK) {
        code = request.is_following ? follow(client, &request, &error) : print_history(client, &request, &error);
        http_client_destroy(client);
    }
    if (code == OK || code == ERR_CANCELLED)
        return COMMAND_OK;
    fprintf(stderr, "ciranda events: %s\n", error.text);
    return COMMAND_FAILED;
}
