/* SPDX-License-Identifier: Apache-2.0 */
/* api_input: what a client said in headers, query and body, read strictly: a header that asks for something (Prefer, If-Match)
 * and is malformed is refused rather than passed over. Pure but for api->input, the room for unescaped texts. */
#ifndef CIRANDA_ACTORS_API_API_INPUT_H
#define CIRANDA_ACTORS_API_API_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/api/problem.h"
#include "net/http_server.h"
#include "net/json.h"

struct buffer;

enum { INPUT_PAGE_DEFAULT = 100, INPUT_PAGE_MAX = 1000 };

bool input_number(struct slice text, uint64_t *ret_number); /* digits only, fits in 64 bits */
bool input_is_id(struct slice text, size_t size_max);       /* 1 to size_max of A-Z a-z 0-9 . _ ~ : - */

/* Is one of the types in Accept, or a range that holds it? True without the header. */
bool input_accepts(const struct http_request *request, const char *content_type);
/* Does Accept name it, not only by a range? */
bool input_asks_for(const struct http_request *request, const char *content_type);
bool input_is_json(const struct http_request *request); /* Content-Type */

/* RFC 7240. Returns: false when wait is no number; unknown preferences are passed over. */
struct input_prefer {
    bool respond_async, has_wait;
    uint64_t wait_s;
};
bool input_prefer(const struct http_request *request, struct input_prefer *ret_prefer);

/* `4` or `"4"`. Returns: false when there is an If-Match that is neither; without the header *ret_has is false. */
bool input_if_match(const struct http_request *request, bool *ret_has, uint64_t *ret_version);

/* Reads `name` of the query, `standard` when absent. Returns: false with *problem filled: 400 no number, 422 over max. */
bool input_query_number(const struct http_request *request, const char *name, uint64_t standard, uint64_t max,
                        uint64_t *ret_number, struct problem *problem);

/* `after` (default 0) and `limit` (1 to 1,000, default 100) of a page. */
bool input_query_page(const struct http_request *request, uint64_t *ret_after, uint64_t *ret_limit,
                      struct problem *problem);

/* The body as a JSON object. Returns: false with *problem filled (400). */
bool input_object(const struct http_request *request, struct json_value *ret_object, struct problem *problem);

/* Room for every unescaped text of the body at once, so that none moves while others are read. Returns: false: no memory. */
bool input_make_room(struct buffer *room, const struct http_request *request);
/* A string's text, lent from the body or, unescaped, from the room. */
struct slice input_text(struct buffer *room, struct json_value string);

/* "/parent/key" as JSON pointer, the raw key unescaped and escaped anew. */
void input_pointer(char *out, size_t size, const char *parent, struct slice raw_key);

#endif
