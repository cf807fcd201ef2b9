/* SPDX-License-Identifier: Apache-2.0 */
/* load_protocol: what the load generator says and hears, in the bytes of each protocol: a message out, an answer in.
 *
 * Readers of their own, and no library of the server's: the judge is not the judged. They take what the contract promises
 * (docs/API.md), once through the bytes, and say what is wrong with the rest.
 */
#ifndef CIRANDA_BENCH_LOAD_PROTOCOL_H
#define CIRANDA_BENCH_LOAD_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/slice.h"

struct buffer;

struct load_message {
    uint32_t tag; /* comes back with the answer where answers have tags */
    struct slice conversation_id, message_id, text;
    struct slice agent; /* empty: the server's routing */
    bool is_async;      /* to be answered as soon as it is durable */
};

/* Slices live until the bytes change. */
struct load_answer {
    uint32_t tag;
    int status; /* HTTP's; an answer of another protocol has that of the HTTP answer which means the same */
    struct slice body;
    /* What a 2xx says; empty where it does not. */
    struct slice conversation_id, message_id, state, text;
    uint64_t version;
    bool is_duplicate;
    const char *wrong; /* what the reader found wrong with it; NULL: nothing */
    bool is_last;      /* the connection ends with it */
};

struct load_protocol {
    const char *name;
    bool has_tags; /* answers name their request; else they come in the order of the requests */
    void (*write_message)(struct buffer *out, const struct load_message *message);
    /* Returns: bytes of the first whole answer; 0 when there is none yet; SIZE_MAX when it is none. Thread: any; an unescaped
     * text is the thread's own and lives until the next call. */
    size_t (*take_answer)(char *bytes, size_t size, struct load_answer *ret_answer);
};

extern const struct load_protocol load_http, load_sse, load_rpc;
/* HTTP whose bodies mean nothing: peers that answer a constant. */
extern const struct load_protocol load_constant;

#endif
