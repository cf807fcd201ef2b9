/* SPDX-License-Identifier: Apache-2.0 */
/* api_world: the API of one or two workers with everything around it played by the test: the HTTP server below it (what it
 * answers is kept), the directory and its conversations (what it sends is kept, and the test answers), the journal's listing.
 *
 * Life: world_start (a cmocka setup); world_request; look at world_answer, world_sent; world_reply; world_stop.
 */
#ifndef CIRANDA_TESTS_UNIT_API_API_WORLD_H
#define CIRANDA_TESTS_UNIT_API_API_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/api/api.h"
#include "actors/protocol.h"
#include "actors/services.h"
#include "runtime/buffer.h"
#include "storage/journal.h"

/* What the client of one exchange has. */
struct world_answer {
    int status; /* 0: nothing yet */
    char content_type[64];
    char headers[512]; /* "Name: value\n" each */
    struct buffer body;
    bool is_stream, is_ended, is_gone;
    size_t unsent_bytes; /* what http_stream_unsent says */
};

extern struct services world_services;
extern struct journal_stats world_journal_stats;
extern uint32_t world_appends_waiting; /* journal_appends_waiting */
extern enum err world_directory_code;  /* what directory_send answers; it takes the request only when OK */
extern bool world_reader_is_slow;      /* http_stream_write refuses */

int world_start(void **state);
int world_stop(void **state);

/* `headers` is "Name: value\n" lines or NULL; `body` may be NULL. Returns: the exchange's index. */
uint32_t world_request(const char *method, const char *target, const char *headers, const char *body);
/* A message with a JSON body. */
uint32_t world_post(const char *target, const char *body);
struct world_answer *world_answer(uint32_t exchange);
/* The body as text; valid until the next call. */
const char *world_body(uint32_t exchange);
bool world_has_header(uint32_t exchange, const char *line);

void world_client_leaves(uint32_t exchange);
void world_stream_drains(uint32_t exchange);
void world_pass_ms(uint64_t ms);

/* What the API has sent to conversations, oldest first. */
uint32_t world_sent_count(void);
struct conv_request *world_sent(uint32_t index);
struct conv_request *world_last_sent(void);
/* An answer to it, as its conversation would give it. */
void world_reply(const struct conv_request *request, uint16_t kind, const struct conv_answer *fill);
void world_finish_body(const struct conv_request *request, const char *body);
void world_refuse(const struct conv_request *request, enum err code);

/* The listing that waits for its answer, and the answer. NULL: none. */
struct journal_list *world_list(void);
void world_answer_list(enum err result, struct journal_list_item *items, uint32_t count, bool has_more);

/* The last question to the dead letters; {0} when there was none. */
struct world_dead_letters {
    bool is_asked;
    struct actor_id reply_to;
    uint64_t reply_token, after;
    uint32_t limit;
};
extern struct world_dead_letters world_dead_letters;

#endif
