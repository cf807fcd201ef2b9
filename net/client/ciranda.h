/* SPDX-License-Identifier: Apache-2.0 */
/* ciranda: a C client of a Ciranda server over MessagePack-RPC (docs/RPC.md). For programs that talk to a server; not for the
 * server itself, of which it includes nothing. C99 and C++; no globals, no threads, no signals.
 *
 * Life: ciranda_connect; then either a question at a time (ciranda_start_x and ciranda_receive_call), or many in flight
 * (ciranda_start_x again and again, ciranda_receive for whatever comes next); ciranda_close.
 *
 *   ciranda_start_message(client, &message, &call);     what is started leaves in few sends: with the next receive or flush
 *   ciranda_receive_call(client, call, -1, &frame);     its answer; what else comes is kept for ciranda_receive
 *   ciranda_find(frame.result, "status", &value);       fields of the answer
 *
 * Thread: a client is used by one thread at a time. Blocking: ciranda_connect, _flush, _receive and _receive_call wait at most
 * their timeout; ciranda_start_x waits only when much is unsent, at most options.timeout_ms. While it sends it also receives,
 * so that a server which waits for its reader and a client which waits for the server cannot wait for each other.
 * After CIRANDA_TIMEOUT and CIRANDA_LIMIT a client goes on; after CIRANDA_CLOSED, _SYSTEM and _PROTOCOL it is only good for
 * ciranda_close. */
#ifndef CIRANDA_NET_CLIENT_CIRANDA_H
#define CIRANDA_NET_CLIENT_CIRANDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ciranda_client;

enum ciranda_result {
    CIRANDA_OK,
    CIRANDA_TIMEOUT,   /* nothing came, or left, in time */
    CIRANDA_LIMIT,     /* calls_max are in flight: receive first; or a text is longer than a frame may be */
    CIRANDA_INVALID,   /* an argument, or a value of another type */
    CIRANDA_NOT_FOUND, /* no such field */
    CIRANDA_NO_MEMORY,
    CIRANDA_CLOSED,  /* the server closed the connection */
    CIRANDA_SYSTEM,  /* a system call failed: ciranda_error_text says which */
    CIRANDA_PROTOCOL /* what came is no MessagePack-RPC, or larger than answer_bytes_max */
};
const char *ciranda_result_text(enum ciranda_result result); /* static */

struct ciranda_options {
    int connect_timeout_ms;  /* 0: 5,000 */
    int timeout_ms;          /* of a send; 0: 30,000 */
    uint32_t calls_max;      /* in flight; 0: 1,024, as many as the server takes */
    size_t answer_bytes_max; /* of one frame; 0: 16 MiB */
    size_t held_bytes_max;   /* received and not yet asked for, at least answer_bytes_max; 0: 64 MiB */
};

/* `host` is a name or an address, `port` a number or service. `options` may be NULL. Owns: *ret_client is the caller's. On a
 * failure `ret_error` (may be NULL) gets a line of at most `error_size` bytes. */
enum ciranda_result ciranda_connect(const char *host, const char *port, const struct ciranda_options *options,
                                    struct ciranda_client **ret_client, char *ret_error, size_t error_size);
void ciranda_close(struct ciranda_client *client);                   /* accepts NULL; what is unsent is lost */
const char *ciranda_error_text(const struct ciranda_client *client); /* of the last failure; lent until the next call */
uint32_t ciranda_calls_open(const struct ciranda_client *client);

/* ---- asking: each starts a call and gives its number --------------------------------------------------------------------- */

/* NULL: left out. `wait_ms`: how long to wait for the reply; 0: answer when the message is durable; -1: the server's default. */
struct ciranda_message {
    const char *conversation_id, *text; /* required */
    const char *message_id;             /* the same again is the same message: set it to try again safely */
    const char *customer_id, *channel, *agent, *from, *on_busy, *trace_id;
    int64_t wait_ms;
};
enum ciranda_result ciranda_start_ping(struct ciranda_client *client, uint32_t *ret_call);
enum ciranda_result ciranda_start_message(struct ciranda_client *client, const struct ciranda_message *message,
                                          uint32_t *ret_call);
enum ciranda_result ciranda_start_conversation(struct ciranda_client *client, const char *conversation_id,
                                               uint32_t *ret_call);
/* `limit` 1 to 1,000. */
enum ciranda_result ciranda_start_events(struct ciranda_client *client, const char *conversation_id, uint64_t after,
                                         uint32_t limit, uint32_t *ret_call);
/* Answered once; then the events after `after` come as notifications `event` whose `subscription` is the call's number. */
enum ciranda_result ciranda_start_subscribe(struct ciranda_client *client, const char *conversation_id, uint64_t after,
                                            uint32_t *ret_call);
enum ciranda_result ciranda_start_unsubscribe(struct ciranda_client *client, uint32_t subscription, uint32_t *ret_call);
enum ciranda_result ciranda_flush(struct ciranda_client *client);

/* ---- answers ------------------------------------------------------------------------------------------------------------- */

/* A value of an answer, lent from the client until its next call. Fields are private. */
struct ciranda_value {
    const unsigned char *at, *end;
};

struct ciranda_frame {
    int is_notification;
    uint32_t call;               /* of an answer; of a notification 0 */
    int is_error;                /* `error` is {code, message, retry_after_ms?} */
    struct ciranda_value error;  /* of an answer */
    struct ciranda_value result; /* of an answer without error */
    struct ciranda_value method; /* of a notification: event, end, heartbeat */
    struct ciranda_value params; /* its map */
};

/* The next answer or notification. `timeout_ms` -1: options.timeout_ms; 0: only what is there. What is held is handed out at
 * once, whether or not all could be sent. An error of the server's that belongs to no call (call 0, is_error) comes before
 * CIRANDA_CLOSED. */
enum ciranda_result ciranda_receive(struct ciranda_client *client, int timeout_ms, struct ciranda_frame *ret_frame);
/* The answer to `call`; what else comes is kept. Returns: CIRANDA_LIMIT: held_bytes_max are kept; ciranda_receive makes room. */
enum ciranda_result ciranda_receive_call(struct ciranda_client *client, uint32_t call, int timeout_ms,
                                         struct ciranda_frame *ret_frame);

/* Returns: CIRANDA_INVALID: not a map, a text, ...; CIRANDA_NOT_FOUND. */
enum ciranda_result ciranda_find(struct ciranda_value map, const char *key, struct ciranda_value *ret_value);
enum ciranda_result ciranda_element(struct ciranda_value array, uint32_t index, struct ciranda_value *ret_value);
enum ciranda_result ciranda_text(struct ciranda_value value, const char **ret_text, size_t *ret_size); /* no NUL */
enum ciranda_result ciranda_number(struct ciranda_value value, int64_t *ret_number);
enum ciranda_result ciranda_boolean(struct ciranda_value value, int *ret_boolean);
/* Copies the text at `key` with NUL, cut to `size`; "" when there is none. Returns: `buffer`. */
char *ciranda_copy_text(struct ciranda_value map, const char *key, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
