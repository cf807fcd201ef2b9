/* SPDX-License-Identifier: Apache-2.0 */
/* http1_internal: what the head's parser (http1.c) and the chunked body's (http1_chunked.c) share: the line reader, the
 * header field's grammar and the character classes. */
#ifndef CIRANDA_NET_HTTP1_INTERNAL_H
#define CIRANDA_NET_HTTP1_INTERNAL_H

#include "net/http1.h"

enum http1_state {
    HTTP1_STATE_REQUEST_LINE,
    HTTP1_STATE_FIELDS,
    HTTP1_STATE_HEAD_DONE, /* a sized body, if any, follows; or none */
    HTTP1_STATE_CHUNK_SIZE,
    HTTP1_STATE_CHUNK_DATA,
    HTTP1_STATE_CHUNK_END,
    HTTP1_STATE_TRAILERS,
    HTTP1_STATE_BODY_DONE,
    HTTP1_STATE_REFUSED,
};

enum {
    HTTP1_LINE_BYTE = 1 << 0,  /* may stand in a line: no control byte but the tab */
    HTTP1_TOKEN_BYTE = 1 << 1, /* RFC 9110 tchar */
    HTTP1_PATH_BYTE = 1 << 2,  /* raw in a path; '%' apart */
    HTTP1_QUERY_BYTE = 1 << 3, /* raw in a query; '%' apart */
};
extern const uint8_t http1_classes[256];

static inline bool http1_is_class(char byte, uint8_t class)
{
    return (http1_classes[(uint8_t)byte] & class) != 0;
}

static inline char http1_lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte + 32) : byte;
}

/* Returns: -1 when it is no hexadecimal digit. */
static inline int http1_hex_value(char digit)
{
    char lower = http1_lower(digit);
    if (lower >= '0' && lower <= '9')
        return lower - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Non-empty and only tchar. */
bool http1_is_token(struct slice text);
struct slice http1_trim(struct slice text);

/* The line that begins at parser->line, without its CRLF, and the step beyond it; looks at most at `window` bytes of the
 * input. Bytes that no line may hold are refused where they stand, whether the line is complete or not, so that a client
 * that speaks another protocol need not wait for a deadline. */
enum http1_result http1_next_line(struct http1 *parser, const char *input, size_t window, struct slice *ret_line);

/* NAME ":" OWS VALUE OWS. */
enum http1_reason http1_split_field(struct slice line, struct http_header *ret_field);

/* Whether this server gives a meaning to a header of that name: it is then ASCII, and no trailer. */
bool http1_is_used_header(struct slice name);

/* The only way into the refused state, which has no way out. */
enum http1_result http1_refuse(struct http1 *parser, enum http1_reason reason);

#endif
