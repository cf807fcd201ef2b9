/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request: request line, header fields, and what they say together about the framing of the body.
 *
 * Lines are checked byte by byte as they come and understood when complete; the first fault ends it. What header fields mean
 * is decided in field_x(), one function a header; what they mean together in finish_head(), framing before the rest, in the
 * order of the catalogue of bad input. */
#include "net/http1.h"

#include "net/http1_internal.h"
#include "net/http_target.h"
#include "runtime/assert.h"

static const struct {
    int status;
    const char *label, *text;
} reasons[HTTP1_REASON_COUNT] = {
    [HTTP1_ACCEPTED] = {0, "accepted", "accepted"},
#define HTTP1_REASON(name, label_text, status_code, description)                                                         \
    [HTTP1_##name] = {.status = (status_code), .label = (label_text), .text = (description)},
#include "net/http1_reason.def"
#undef HTTP1_REASON
};

int http1_reason_status(enum http1_reason reason)
{
    return reasons[reason].status;
}

const char *http1_reason_text(enum http1_reason reason)
{
    return reasons[reason].text;
}

const char *http1_reason_label(enum http1_reason reason)
{
    return reasons[reason].label;
}

/* L line, T token, P path, Q query. Ranges do not overlap, so that no entry silently overrides another. */
#define L HTTP1_LINE_BYTE
#define T HTTP1_TOKEN_BYTE
#define P HTTP1_PATH_BYTE
#define Q HTTP1_QUERY_BYTE
const uint8_t http1_classes[256] = {
    ['\t'] = L,
    [' '] = L,
    ['!'] = L | T | P | Q,
    ['"'] = L,
    ['#'] = L | T,
    ['$'] = L | T | P | Q,
    ['%'] = L | T,
    ['&' ... '\''] = L | T | P | Q,
    ['(' ... ')'] = L | P | Q,
    ['*' ... '+'] = L | T | P | Q,
    [','] = L | P | Q,
    ['-' ... '.'] = L | T | P | Q,
    ['/'] = L | P | Q,
    ['0' ... '9'] = L | T | P | Q,
    [':' ... ';'] = L | P | Q,
    ['<'] = L,
    ['='] = L | P | Q,
    ['>'] = L,
    ['?'] = L | Q,
    ['@'] = L | P | Q,
    ['A' ... 'Z'] = L | T | P | Q,
    ['['] = L | P | Q,
    ['\\'] = L | Q,
    [']'] = L | P | Q,
    ['^'] = L | T | Q,
    ['_'] = L | T | P | Q,
    ['`'] = L | T | Q,
    ['a' ... 'z'] = L | T | P | Q,
    ['{'] = L | Q,
    ['|'] = L | T | P | Q,
    ['}'] = L | Q,
    ['~'] = L | T | P | Q,
    [0x80 ... 0xff] = L,
};
#undef L
#undef T
#undef P
#undef Q

/* ---- lines and tokens ------------------------------------------------------------------------------------------------- */
bool http1_is_token(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!http1_is_class(text.data[i], HTTP1_TOKEN_BYTE))
            return false;
    return text.size > 0;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

struct slice http1_trim(struct slice text)
{
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

enum http1_result http1_refuse(struct http1 *parser, enum http1_reason reason)
{
    parser->state = HTTP1_STATE_REFUSED;
    parser->reason = reason;
    return HTTP1_REFUSED;
}

enum http1_result http1_next_line(struct http1 *parser, const char *input, size_t window, struct slice *ret_line)
{
    size_t at = parser->scan;
    while (at < window && http1_is_class(input[at], HTTP1_LINE_BYTE))
        at++;
    parser->scan = (uint32_t)at;
    if (at >= window)
        return HTTP1_MORE;
    if (input[at] != '\r')
        return http1_refuse(parser, input[at] == '\n' ? HTTP1_BARE_LF : HTTP1_CONTROL_BYTE);
    if (at + 1 >= window)
        return HTTP1_MORE;
    if (input[at + 1] != '\n')
        return http1_refuse(parser, HTTP1_BARE_CR);
    *ret_line = slice_of(input + parser->line, at - parser->line);
    parser->line = parser->scan = (uint32_t)at + 2;
    return HTTP1_DONE;
}

enum http1_reason http1_split_field(struct slice line, struct http_header *ret_field)
{
    if (is_blank(line.data[0]))
        return HTTP1_FIELD_FOLDED;
    size_t size = 0;
    while (size < line.size && http1_is_class(line.data[size], HTTP1_TOKEN_BYTE)) {
        if (line.data[size] == '_') /* gateways turn both '_' and '-' into '_': two names become one */
            return HTTP1_FIELD_UNDERSCORE;
        size++;
    }
    if (size == 0 || size == line.size || line.data[size] != ':')
        return HTTP1_FIELD_NAME;
    ret_field->name = slice_of(line.data, size);
    ret_field->value = http1_trim(slice_of(line.data + size + 1, line.size - size - 1));
    return HTTP1_ACCEPTED;
}

/* ---- the headers that mean something here -------------------------------------------------------------------------------- */
enum known_header {
    KNOWN_HOST,
    KNOWN_CONTENT_LENGTH,
    KNOWN_TRANSFER_ENCODING,
    KNOWN_CONNECTION,
    KNOWN_EXPECT,
    KNOWN_CONTENT_ENCODING,
    KNOWN_OTHER, /* this one and those behind it mean something to handlers only */
};

#define SINGLE(text)                                                                                                     \
    {                                                                                                                    \
        .name = (text), .size = sizeof(text) - 1, .is_single = true                                                      \
    }
#define LIST(text)                                                                                                       \
    {                                                                                                                    \
        .name = (text), .size = sizeof(text) - 1, .is_single = false                                                     \
    }
static const struct known {
    const char *name;
    uint8_t size;
    bool is_single;
} known_headers[] = {
    [KNOWN_HOST] = SINGLE("Host"),
    [KNOWN_CONTENT_LENGTH] = SINGLE("Content-Length"),
    [KNOWN_TRANSFER_ENCODING] = SINGLE("Transfer-Encoding"),
    [KNOWN_CONNECTION] = LIST("Connection"),
    [KNOWN_EXPECT] = SINGLE("Expect"),
    [KNOWN_CONTENT_ENCODING] = SINGLE("Content-Encoding"),
    [KNOWN_OTHER] = SINGLE("Content-Type"),
    LIST("Accept"),
    LIST("Prefer"),
    LIST("Trailer"),
    LIST("Upgrade"),
    SINGLE("Authorization"),
    SINGLE("Cookie"),
    SINGLE("Idempotency-Key"),
    SINGLE("If-Match"),
    SINGLE("If-None-Match"),
    SINGLE("Last-Event-ID"),
    SINGLE("Origin"),
    SINGLE("traceparent"),
    SINGLE("X-Api-Key"),
    SINGLE("X-Trace-Id"),
    SINGLE("Sec-WebSocket-Key"),
    SINGLE("Sec-WebSocket-Version"),
};
enum { KNOWN_COUNT = sizeof known_headers / sizeof known_headers[0] };
_Static_assert(KNOWN_COUNT <= 32, "struct http1 keeps a bit for each in 32 bits");

/* Returns: the index in the table, KNOWN_COUNT when it means nothing here. */
static unsigned find_known(struct slice name)
{
    unsigned i = 0;
    while (i < KNOWN_COUNT && !(known_headers[i].size == name.size && http_text_is_equal(name, known_headers[i].name)))
        i++;
    return i;
}

bool http1_is_used_header(struct slice name)
{
    return find_known(name) < KNOWN_COUNT;
}

static struct http1_span span_of(const char *input, struct slice part)
{
    return (struct http1_span){.begin = (uint16_t)(part.data - input), .size = (uint16_t)part.size};
}

static struct slice span_slice(const char *input, struct http1_span span)
{
    return slice_of(input + span.begin, span.size);
}

static enum http1_reason field_content_length(struct http1 *parser, struct slice value)
{
    /* 19 digits always fit 64 bits. A leading zero is octal to some: "010". */
    if (value.size == 0 || value.size > 19 || (value.size > 1 && value.data[0] == '0'))
        return HTTP1_LENGTH_SYNTAX;
    uint64_t length = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return HTTP1_LENGTH_SYNTAX;
        length = length * 10 + (uint64_t)(value.data[i] - '0');
    }
    parser->has_content_length = true;
    parser->claimed_length = length;
    return HTTP1_ACCEPTED;
}

/* Takes the next element off a comma-separated list. Returns: false at its end. */
static bool next_element(struct slice *list, struct slice *ret_element)
{
    if (!list->data)
        return false;
    const char *comma = memchr(list->data, ',', list->size);
    size_t size = comma ? (size_t)(comma - list->data) : list->size;
    *ret_element = http1_trim(slice_of(list->data, size));
    *list = comma ? slice_of(comma + 1, list->size - size - 1) : (struct slice){0};
    return true;
}

static enum http1_reason field_transfer_encoding(struct http1 *parser, struct slice value)
{
    if (http_text_is_equal(value, "chunked")) {
        parser->is_chunked = true;
        return HTTP1_ACCEPTED;
    }
    /* A registered coding, perhaps followed by "chunked", is one that we do not speak; anything else is an attempt at being
     * read differently by two servers. */
    struct slice element;
    unsigned count = 0;
    for (; next_element(&value, &element); count++) {
        bool is_last = !value.data;
        if (is_last && count > 0 && http_text_is_equal(element, "chunked"))
            continue;
        if (!http_text_is_equal(element, "gzip") && !http_text_is_equal(element, "x-gzip") &&
            !http_text_is_equal(element, "deflate") && !http_text_is_equal(element, "compress") &&
            !http_text_is_equal(element, "x-compress"))
            return HTTP1_CODING_SYNTAX;
    }
    return HTTP1_CODING_UNKNOWN;
}

static enum http1_reason field_connection(struct http1 *parser, struct slice value)
{
    struct slice element;
    while (next_element(&value, &element)) {
        if (element.size > 0 && !http1_is_token(element))
            return HTTP1_CONNECTION_SYNTAX;
        parser->wants_close |= http_text_is_equal(element, "close");
        parser->wants_keep_alive |= http_text_is_equal(element, "keep-alive");
    }
    return HTTP1_ACCEPTED;
}

static enum http1_reason understand_field(struct http1 *parser, const char *input, unsigned known, struct slice value)
{
    switch (known) {
    case KNOWN_HOST:
        if (!http_authority_is_valid(value))
            return HTTP1_HOST_SYNTAX;
        parser->host = span_of(input, value);
        return HTTP1_ACCEPTED;
    case KNOWN_CONTENT_LENGTH: return field_content_length(parser, value);
    case KNOWN_TRANSFER_ENCODING: return field_transfer_encoding(parser, value);
    case KNOWN_CONNECTION: return field_connection(parser, value);
    case KNOWN_EXPECT:
        if (http_text_is_equal(value, "100-continue"))
            parser->expects_continue = true;
        else
            parser->has_unknown_expect = true;
        return HTTP1_ACCEPTED;
    case KNOWN_CONTENT_ENCODING:
        parser->has_content_coding = !http_text_is_equal(value, "identity");
        return HTTP1_ACCEPTED;
    }
    return HTTP1_ACCEPTED;
}

static enum http1_reason parse_field(struct http1 *parser, const char *input, struct slice line)
{
    if (parser->field_count == HTTP_HEADERS_MAX)
        return HTTP1_FIELDS_TOO_MANY;
    struct http_header field;
    enum http1_reason reason = http1_split_field(line, &field);
    if (reason != HTTP1_ACCEPTED)
        return reason;
    parser->fields[parser->field_count++] = (struct http1_field){
        .name = (uint16_t)(field.name.data - input),
        .name_size = (uint16_t)field.name.size,
        .value = (uint16_t)(field.value.data - input),
        .value_size = (uint16_t)field.value.size,
    };

    unsigned known = find_known(field.name);
    if (known == KNOWN_COUNT)
        return HTTP1_ACCEPTED;
    uint32_t bit = UINT32_C(1) << known;
    if (known_headers[known].is_single && (parser->seen & bit))
        return HTTP1_FIELD_TWICE;
    parser->seen |= bit;
    for (size_t i = field.name.size; i < line.size; i++)
        if ((uint8_t)line.data[i] > 0x7f || line.data[i] == '\t') /* nginx and h2o do not trim tabs */
            return HTTP1_FIELD_VALUE;
    return understand_field(parser, input, known, field.value);
}

/* ---- request line ------------------------------------------------------------------------------------------------------ */
static const char *const method_texts[HTTP_METHOD_COUNT] = {
    [HTTP_GET] = "GET",       [HTTP_HEAD] = "HEAD",       [HTTP_POST] = "POST",   [HTTP_PUT] = "PUT",
    [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS", [HTTP_PATCH] = "PATCH",
};

const char *http_method_text(enum http_method method)
{
    return method_texts[method];
}

static bool find_method(struct slice text, enum http_method *ret_method)
{
    for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++) {
        if (slice_has_text(text, method_texts[i])) {
            *ret_method = (enum http_method)i;
            return true;
        }
    }
    return false;
}

static enum http1_reason parse_version(struct http1 *parser, struct slice text)
{
    bool is_version = text.size == 8 && memcmp(text.data, "HTTP/", 5) == 0 && text.data[5] >= '0' &&
                      text.data[5] <= '9' && text.data[6] == '.' && text.data[7] >= '0' && text.data[7] <= '9';
    if (!is_version)
        return HTTP1_VERSION_SYNTAX;
    if (text.data[5] != '1' || text.data[7] > '1')
        return HTTP1_VERSION_UNKNOWN;
    parser->is_http_1_0 = text.data[7] == '0';
    return HTTP1_ACCEPTED;
}

/* Origin form "/path?query" or absolute form "http://host/path?query". There is nothing to say about "*". */
static enum http1_reason parse_target(struct http1 *parser, const char *input, struct slice target)
{
    struct slice rest = target;
    if (rest.data[0] != '/') {
        size_t scheme_size = 0;
        if (rest.size > 7 && http_text_is_equal(slice_of(rest.data, 7), "http://"))
            scheme_size = 7;
        else if (rest.size > 8 && http_text_is_equal(slice_of(rest.data, 8), "https://"))
            scheme_size = 8;
        else
            return HTTP1_TARGET_FORM;
        rest = slice_of(rest.data + scheme_size, rest.size - scheme_size);
        size_t size = 0;
        while (size < rest.size && rest.data[size] != '/' && rest.data[size] != '?')
            size++;
        struct slice authority = slice_of(rest.data, size);
        if (!http_authority_is_valid(authority))
            return HTTP1_TARGET_FORM;
        parser->authority = span_of(input, authority);
        rest = slice_of(rest.data + size, rest.size - size);
    }
    const char *mark = memchr(rest.data, '?', rest.size);
    struct slice path = slice_of(rest.data, mark ? (size_t)(mark - rest.data) : rest.size);
    struct slice query = mark ? slice_of(mark + 1, rest.size - path.size - 1) : (struct slice){0};
    parser->path = span_of(input, path);
    if (mark)
        parser->query = span_of(input, query);
    enum http1_reason reason = path.size > 0 ? http_path_check(path, &parser->has_path_escape) : HTTP1_ACCEPTED;
    return reason == HTTP1_ACCEPTED ? http_query_check(query) : reason;
}

static enum http1_reason parse_request_line(struct http1 *parser, const struct http1_limits *limits, const char *input,
                                            struct slice line)
{
    const char *first = memchr(line.data, ' ', line.size);
    if (!first)
        return HTTP1_REQUEST_LINE;
    struct slice method = slice_of(line.data, (size_t)(first - line.data));
    struct slice rest = slice_of(first + 1, line.size - method.size - 1);
    const char *second = memchr(rest.data, ' ', rest.size);
    if (!second || second == rest.data)
        return HTTP1_REQUEST_LINE;
    struct slice target = slice_of(rest.data, (size_t)(second - rest.data));

    if (!http1_is_token(method))
        return HTTP1_METHOD_SYNTAX;
    enum http1_reason reason = parse_version(parser, slice_of(second + 1, rest.size - target.size - 1));
    if (reason != HTTP1_ACCEPTED)
        return reason;
    if (target.size > limits->target_bytes_max)
        return HTTP1_TARGET_TOO_LONG;
    if (!find_method(method, &parser->method))
        return HTTP1_METHOD_UNKNOWN;
    return parse_target(parser, input, target);
}

/* ---- the head as a whole ------------------------------------------------------------------------------------------------- */
static bool method_forbids_body(enum http_method method)
{
    return method == HTTP_GET || method == HTTP_HEAD || method == HTTP_DELETE;
}

static bool is_host_equal(const struct http1 *parser, const char *input)
{
    struct slice host = span_slice(input, parser->host), authority = span_slice(input, parser->authority);
    if (host.size != authority.size)
        return false;
    for (size_t i = 0; i < host.size; i++)
        if (http1_lower(host.data[i]) != http1_lower(authority.data[i]))
            return false;
    return true;
}

static enum http1_result finish_head(struct http1 *parser, const struct http1_limits *limits, const char *input)
{
    bool has_body = parser->is_chunked || parser->claimed_length > 0;
    parser->head_size = parser->line;
    parser->is_keep_alive = !parser->wants_close && (!parser->is_http_1_0 || parser->wants_keep_alive);

    if (parser->host.size == 0 && !parser->is_http_1_0)
        return http1_refuse(parser, HTTP1_HOST_MISSING);
    if (parser->authority.size > 0 && parser->host.size > 0 && !is_host_equal(parser, input))
        return http1_refuse(parser, HTTP1_HOST_MISMATCH);
    if (parser->is_chunked && parser->has_content_length)
        return http1_refuse(parser, HTTP1_LENGTH_AND_CODING);
    if (parser->is_chunked && parser->is_http_1_0)
        return http1_refuse(parser, HTTP1_CODING_IN_HTTP_1_0);
    if (has_body && method_forbids_body(parser->method))
        return http1_refuse(parser, HTTP1_BODY_FORBIDDEN);
    if (parser->claimed_length > limits->body_bytes_max)
        return http1_refuse(parser, HTTP1_BODY_TOO_LARGE);
    if (parser->has_content_coding)
        return http1_refuse(parser, HTTP1_BODY_ENCODED);
    if (parser->has_unknown_expect)
        return http1_refuse(parser, HTTP1_EXPECT_UNKNOWN);
    parser->content_length = (uint32_t)parser->claimed_length;
    parser->expects_continue = parser->expects_continue && has_body && !parser->is_http_1_0;
    parser->state = parser->is_chunked ? HTTP1_STATE_CHUNK_SIZE : HTTP1_STATE_HEAD_DONE;
    return HTTP1_DONE;
}

void http1_init(struct http1 *parser)
{
    /* The field table is most of it, and only its first field_count entries are ever read. */
    memset(parser, 0, offsetof(struct http1, fields));
}

enum http1_result http1_parse_head(struct http1 *parser, const struct http1_limits *limits, const char *input,
                                   size_t size)
{
    /* Method and version need no more than 64 bytes together. The window keeps P1: what lies beyond a limit is never looked
     * at, so a fault there cannot win against the limit when all bytes come at once. */
    size_t line_max = (size_t)limits->target_bytes_max + 64;
    size_t head_window = size < limits->head_bytes_max ? size : limits->head_bytes_max;

    while (parser->state == HTTP1_STATE_REQUEST_LINE || parser->state == HTTP1_STATE_FIELDS) {
        bool is_first = parser->state == HTTP1_STATE_REQUEST_LINE;
        size_t window = is_first && head_window > line_max ? line_max : head_window;
        struct slice line;
        enum http1_result result = http1_next_line(parser, input, window, &line);
        if (result == HTTP1_MORE && is_first && window == line_max)
            return http1_refuse(parser, HTTP1_TARGET_TOO_LONG);
        if (result == HTTP1_MORE && window == limits->head_bytes_max)
            return http1_refuse(parser, HTTP1_HEAD_TOO_LARGE);
        if (result != HTTP1_DONE)
            return result;
        if (line.size == 0) {
            if (!is_first)
                return finish_head(parser, limits, input);
            if (parser->line > 2) /* RFC 9112 2.2: one is forgiven, for clients that end a body with it */
                return http1_refuse(parser, HTTP1_BLANK_LINE);
            continue;
        }
        enum http1_reason reason =
            is_first ? parse_request_line(parser, limits, input, line) : parse_field(parser, input, line);
        if (reason != HTTP1_ACCEPTED)
            return http1_refuse(parser, reason);
        parser->state = HTTP1_STATE_FIELDS;
    }
    return parser->state == HTTP1_STATE_REFUSED ? HTTP1_REFUSED : HTTP1_DONE;
}

void http1_get_request(const struct http1 *parser, const char *input, struct http_header *headers, char *path,
                       struct http_request *ret_request)
{
    struct slice raw_path = parser->path.size > 0 ? span_slice(input, parser->path) : SLICE_LITERAL("/");
    if (parser->has_path_escape)
        raw_path = slice_of(path, http_path_decode(raw_path, path));
    for (uint32_t i = 0; i < parser->field_count; i++) {
        const struct http1_field *field = &parser->fields[i];
        headers[i].name = slice_of(input + field->name, field->name_size);
        headers[i].value = slice_of(input + field->value, field->value_size);
    }
    *ret_request = (struct http_request){
        .method = parser->method,
        .path = raw_path,
        .query = span_slice(input, parser->query),
        .body = slice_of(input + parser->head_size, parser->is_chunked ? parser->body_size : parser->content_length),
        .headers = headers,
        .header_count = parser->field_count,
    };
}
