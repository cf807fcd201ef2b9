/* SPDX-License-Identifier: Apache-2.0 */
/* The C client from one end to the other: `rpc_example HOST PORT` says a hundred things in ten conversations at once, then one
 * more, and listens to it happen. Quoted in docs/RPC.md, run by tests/blackbox/rpc_test.py.
 *
 *   cc example.c $(pkg-config --cflags --libs ciranda_client) */
#include <stdio.h>
#include <stdlib.h>

#include "net/client/ciranda.h" /* <ciranda.h> where it is installed */

enum { MESSAGES = 100, CONVERSATIONS = 10 };

static void check(struct ciranda_client *client, enum ciranda_result result)
{
    if (result == CIRANDA_OK)
        return;
    fprintf(stderr, "%s\n", ciranda_error_text(client));
    exit(1);
}

static void check_answer(const struct ciranda_frame *frame)
{
    char code[32], message[256];
    if (!frame->is_error)
        return;
    fprintf(stderr, "%s: %s\n", ciranda_copy_text(frame->error, "code", code, sizeof code),
            ciranda_copy_text(frame->error, "message", message, sizeof message));
    exit(1);
}

/* Many in flight: they are journalled together, and their answers come in any order. */
static void say_many(struct ciranda_client *client)
{
    for (int i = 0; i < MESSAGES; i++) {
        char conversation[32], id[32];
        uint32_t call;
        snprintf(conversation, sizeof conversation, "example-%d", i % CONVERSATIONS);
        snprintf(id, sizeof id, "m-%d", i);
        const struct ciranda_message message = {.conversation_id = conversation,
                                                .text = "hello",
                                                .message_id = id, /* so that a second run says nothing twice */
                                                .agent = "echo",
                                                .wait_ms = -1};
        check(client, ciranda_start_message(client, &message, &call));
    }
    for (int i = 0; i < MESSAGES; i++) {
        struct ciranda_frame frame;
        check(client, ciranda_receive(client, -1, &frame));
        check_answer(&frame);
    }
    printf("%d messages answered\n", MESSAGES);
}

/* One at a time: the next answer is the one that was asked for. */
static void say_one(struct ciranda_client *client)
{
    char reply[64];
    uint32_t call;
    struct ciranda_frame frame;
    struct ciranda_value value;
    const struct ciranda_message message = {
        .conversation_id = "example-0", .text = "and you?", .message_id = "last", .agent = "echo", .wait_ms = -1};
    check(client, ciranda_start_message(client, &message, &call));
    check(client, ciranda_receive_call(client, call, -1, &frame));
    check_answer(&frame);
    check(client, ciranda_find(frame.result, "reply", &value));
    printf("reply: %s\n", ciranda_copy_text(value, "text", reply, sizeof reply));
}

/* Everything that happened in a conversation, from its first event on. */
static void follow(struct ciranda_client *client)
{
    uint32_t subscription;
    int64_t version, last = 0;
    struct ciranda_frame frame;
    struct ciranda_value value;
    check(client, ciranda_start_subscribe(client, "example-0", 0, &subscription));
    check(client, ciranda_receive_call(client, subscription, -1, &frame));
    check_answer(&frame);
    check(client, ciranda_find(frame.result, "version", &value));
    check(client, ciranda_number(value, &version));
    while (last < version) {
        char type[64];
        check(client, ciranda_receive(client, -1, &frame));
        if (!frame.is_notification || ciranda_find(frame.params, "event", &value) != CIRANDA_OK)
            continue;
        ciranda_copy_text(value, "event", type, sizeof type);
        check(client, ciranda_find(value, "version", &value));
        check(client, ciranda_number(value, &last));
        if (last == version)
            printf("event %lld: %s\n", (long long)last, type);
    }
}

int main(int argc, char **argv)
{
    struct ciranda_client *client;
    char error[256];
    if (argc != 3) {
        fprintf(stderr, "usage: rpc_example HOST PORT\n");
        return 2;
    }
    if (ciranda_connect(argv[1], argv[2], NULL, &client, error, sizeof error) != CIRANDA_OK) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    say_many(client);
    say_one(client);
    follow(client);
    ciranda_close(client);
    return 0;
}
