/* SPDX-License-Identifier: Apache-2.0 */
/* chat: a conversation in a terminal. Each line of stdin is one message; the reply is printed as it comes. Without an id it
 * makes one, and says it, so that the conversation can be taken up again. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/http_client.h"
#include "net/json.h"
#include "net/sse_parser.h"
#include "runtime/clock.h"

enum { BODY_BYTES_MAX = 256 << 10, PATH_BYTES_MAX = 768 };

static const char help[] = "usage: ciranda chat [ID] [OPTIONS]\n"
                           "\n"
                           "  --server ADDR:PORT   (default 127.0.0.1:7400)\n"
                           "  --agent NAME         asks for an agent instead of routing\n"
                           "  --help, --version\n"
                           "\n"
                           "Reads one message a line from stdin until its end; Ctrl-D leaves.\n";

enum { OPTION_SERVER, OPTION_AGENT, OPTION_HELP, OPTION_VERSION };
static const struct option options[] = {
    {"server", required_argument, NULL, OPTION_SERVER},
    {"agent", required_argument, NULL, OPTION_AGENT},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {0},
};

struct chat {
    const char *id, *server, *agent;
    char made_id[32];
    struct http_client *client;
    struct buffer path, body;
};

/* One reply as it comes. */
struct reply {
    struct sse_parser parser;
    bool has_deltas; /* what was streamed is not printed once more when it is complete */
};

/* ---- the reply ---------------------------------------------------------------------------------------------------------- */

/* Prints the string `key` of an object, without what could drive the terminal. */
static void print_text(struct json_value object, const char *key)
{
    struct json_value value;
    struct slice text;
    if (!json_find(object, key, &value) || value.type != JSON_STRING)
        return;
    char *room = malloc(value.raw.size);
    if (room && json_string(value, room, value.raw.size, &text) == OK) {
        for (size_t i = 0; i < text.size; i++) {
            unsigned char byte = (unsigned char)text.data[i];
            putchar((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f ? '?' : byte);
        }
    }
    free(room);
    fflush(stdout);
}

/* Why there is no answer: the event's error, the stored answer's, or the detail of a problem. */
static void print_failure(struct json_value root, struct json_value payload)
{
    struct json_value error;
    fputs("[no answer: ", stdout);
    if (!json_find(payload, "error", &error))
        print_text(root, "detail");
    else if (error.type == JSON_OBJECT)
        print_text(error, "detail");
    else
        print_text(payload, "error");
    puts("]");
}

static void on_event(void *context, const struct sse_event *event)
{
    struct reply *reply = context;
    struct json_value root, payload;
    struct json_problem problem;
    if (json_validate(event->data, &root, &problem) != OK)
        return;
    if (!json_find(root, "payload", &payload))
        payload = root; /* deltas, and answers that are no event of the journal */
    if (slice_has_text(event->type, "turn.delta")) {
        reply->has_deltas = true;
        print_text(root, "text");
    } else if (slice_has_text(event->type, "agent.response.generated") ||
               slice_has_text(event->type, "agent.ai.response.generated")) {
        if (!reply->has_deltas)
            print_text(payload, "text");
        putchar('\n');
        reply->has_deltas = false;
    } else if (slice_has_text(event->type, "routing.handoff.completed")) {
        fputs("[now with ", stdout);
        print_text(payload, "owner");
        puts("]");
    } else if (slice_has_text(event->type, "turn.failed")) {
        print_failure(root, payload);
    }
}

static bool feed(void *context, struct slice data)
{
    struct reply *reply = context;
    return sse_parser_feed(&reply->parser, data) == OK;
}

/* ---- the message -------------------------------------------------------------------------------------------------------- */

static bool write_message(struct chat *chat, struct slice text)
{
    bool is_first = true;
    buffer_clear(&chat->body);
    buffer_append_byte(&chat->body, '{');
    json_write_key(&chat->body, "text", &is_first);
    json_write_string(&chat->body, text);
    json_write_key(&chat->body, "channel", &is_first);
    json_write_string(&chat->body, SLICE_LITERAL("terminal"));
    if (chat->agent) {
        json_write_key(&chat->body, "agent", &is_first);
        json_write_string(&chat->body, slice_from_text(chat->agent));
    }
    buffer_append_byte(&chat->body, '}');
    return !chat->body.is_overflow;
}

static enum err say(struct chat *chat, struct slice text, struct error *error)
{
    struct reply reply = {.has_deltas = false};
    if (!write_message(chat, text))
        return error_set(error, ERR_LIMIT, "the message is too long");
    sse_parser_init(&reply.parser, 0, &reply, on_event);
    const struct http_call call = {.path = chat->path.data,
                                   .accept = "text/event-stream",
                                   .body = buffer_slice(&chat->body),
                                   .context = &reply,
                                   .on_data = feed};
    enum err code = http_client_run(chat->client, &call, error);
    sse_parser_deinit(&reply.parser);
    return code;
}

/* Until the end of stdin; a message that is refused is told, and the chat goes on.
 * Returns: whether the last message was answered. */
static bool converse(struct chat *chat)
{
    struct error error = {0};
    char *line = NULL;
    size_t capacity = 0;
    bool is_terminal = isatty(STDIN_FILENO);
    enum err code = OK;
    for (;;) {
        if (is_terminal) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        ssize_t size = getline(&line, &capacity, stdin);
        if (size < 0)
            break;
        struct slice text = slice_of(line, (size_t)size);
        while (text.size && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == '\r'))
            text.size--;
        if (text.size == 0)
            continue;
        code = say(chat, text, &error);
        if (code != OK)
            fprintf(stderr, "ciranda chat: %s\n", error.text);
        if (code == ERR_CONNECT || code == ERR_PEER_CLOSED)
            break;
    }
    free(line);
    return code == OK;
}

/* ---- the command -------------------------------------------------------------------------------------------------------- */

/* Returns: -1 to go on, else the exit code. */
static int parse(int count, char **arguments, struct chat *chat)
{
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        switch (option) {
        case OPTION_SERVER: chat->server = optarg; break;
        case OPTION_AGENT: chat->agent = optarg; break;
        case OPTION_HELP: return command_print_help(help);
        case OPTION_VERSION: return command_print_version();
        default: return command_refuse("chat", "unknown or incomplete option");
        }
    }
    if (count - optind > 1)
        return command_refuse("chat", "takes one conversation's id");
    if (optind < count) {
        chat->id = arguments[optind];
    } else {
        snprintf(chat->made_id, sizeof chat->made_id, "chat-%016lx", clock_random_u64());
        chat->id = chat->made_id;
    }
    return -1;
}

int command_chat(int count, char **arguments)
{
    struct chat chat = {.server = "127.0.0.1:7400"};
    struct error error = {0};
    int leave = parse(count, arguments, &chat);
    if (leave >= 0)
        return leave;
    buffer_init(&chat.path, PATH_BYTES_MAX);
    buffer_init(&chat.body, BODY_BYTES_MAX);
    buffer_append_text(&chat.path, "/v1/conversations/");
    http_client_write_segment(&chat.path, chat.id);
    buffer_append_text(&chat.path, "/messages");
    buffer_append_byte(&chat.path, '\0');
    bool is_answered = false;
    enum err code = chat.path.is_overflow ? error_set(&error, ERR_INVALID, "the id is too long")
                                          : http_client_create(chat.server, &chat.client, &error);
    if (code == OK) {
        printf("[conversation %s]\n", chat.id);
        is_answered = converse(&chat);
    } else {
        fprintf(stderr, "ciranda chat: %s\n", error.text);
    }
    http_client_destroy(chat.client);
    buffer_deinit(&chat.path);
    buffer_deinit(&chat.body);
    return is_answered ? COMMAND_OK : COMMAND_FAILED;
}
