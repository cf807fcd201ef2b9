/* SPDX-License-Identifier: Apache-2.0 */
/* The request parser against rows A1-A15, B4, B5, B8 of the bad-input catalogue, one line a variant; every line is also fed
 * a byte at a time and split at every place (P1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>

#include "tests/unit/net/http1_run.h"

static const struct http1_limits limits = {.head_bytes_max = 16384, .target_bytes_max = 8192, .body_bytes_max = 4096};

#define H "Host: x\r\n"
#define POST "POST /p HTTP/1.1\r\n" H
#define GET "GET /p HTTP/1.1\r\n" H
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define NEXT "GET /next HTTP/1.1\r\nHost: y\r\n\r\n"

struct variant {
    const char *row;
    struct slice bytes;
    enum http1_reason reason; /* HTTP1_ACCEPTED: taken, and then `body` is its body */
    const char *body;
};
#define REFUSED(row, bytes, reason)                                                                                      \
    {                                                                                                                    \
        row, {bytes, sizeof(bytes) - 1}, HTTP1_##reason, NULL                                                            \
    }
#define TAKEN(row, bytes, body)                                                                                          \
    {                                                                                                                    \
        row, {bytes, sizeof(bytes) - 1}, HTTP1_ACCEPTED, body                                                            \
    }

static const struct variant variants[] = {
    TAKEN("plain", GET "\r\n", ""),
    TAKEN("sized body", POST "Content-Length: 5\r\n\r\nhello", "hello"),
    TAKEN("empty body", POST "Content-Length: 0\r\n\r\n", ""),
    TAKEN("chunked body", CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
    TAKEN("chunked empty", CHUNKED "0\r\n\r\n", ""),
    TAKEN("chunk size with leading zeroes", CHUNKED "00000005\r\nhello\r\n0\r\n\r\n", "hello"),
    TAKEN("chunk extensions", CHUNKED "5;a;b=c;d=\"e \\\" f\"\r\nhello\r\n0;z\r\n\r\n", "hello"),
    TAKEN("coding in capitals", POST "Transfer-Encoding:  CHUNKED \r\n\r\n1\r\nx\r\n0\r\n\r\n", "x"),
    TAKEN("trailers are dropped", CHUNKED "1\r\nx\r\n0\r\nX-Sum: 1\r\nEtag: \"a\"\r\n\r\n", "x"),
    TAKEN("HTTP/1.0 without Host", "GET /p HTTP/1.0\r\n\r\n", ""),
    TAKEN("absolute target", "GET http://X/p HTTP/1.1\r\n" H "\r\n", ""),
    TAKEN("one blank line before", "\r\n" GET "\r\n", ""),
    TAKEN("GET with Content-Length 0", GET "Content-Length: 0\r\n\r\n", ""),
    TAKEN("value over 0x7f in a header nobody uses", GET "X-City: caf\xc3\xa9\r\n\r\n", ""),
    TAKEN("empty value", GET "X-A:\r\n\r\n", ""),
    TAKEN("expect 100", POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "x"),

    REFUSED("A1", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", LENGTH_AND_CODING),
    REFUSED("A1", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", LENGTH_AND_CODING),
    REFUSED("A1", POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", LENGTH_AND_CODING),
    REFUSED("A2", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", FIELD_TWICE),
    REFUSED("A2", POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", FIELD_TWICE),
    REFUSED("A2", POST "Content-Length: 5, 5\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: \r\n\r\n", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: +5\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: -48\r\n\r\n", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 0x5\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 1_0\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 5 5\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 1Z\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 010\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 00000000000000000001\r\n\r\nh", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 18446744073709551621\r\n\r\nhello", LENGTH_SYNTAX),
    REFUSED("A3", POST "Content-Length: 9999999999999999999\r\n\r\n", BODY_TOO_LARGE),
    REFUSED("A3", POST "Content-Length: 4294967301\r\n\r\nhello", BODY_TOO_LARGE),
    REFUSED("A3", POST "Content-Length: 4097\r\n\r\n", BODY_TOO_LARGE),
    REFUSED("A4", POST "Transfer-Encoding: ,chunked\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: chunked,\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: chunked, gzip\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", FIELD_TWICE),
    REFUSED("A4", POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", CODING_UNKNOWN),
    REFUSED("A4", POST "Transfer-Encoding: xchunked\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: identity\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding:\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: chunked;q=1\r\n\r\n", CODING_SYNTAX),
    REFUSED("A4", POST "Transfer-Encoding: \vchunked\r\n\r\n", CONTROL_BYTE),
    REFUSED("A4", POST "Transfer-Encoding: chunked\f\r\n\r\n", CONTROL_BYTE),
    REFUSED("A4",
            POST "Transfer-Encoding: \x85"
                 "chunked\r\n\r\n",
            FIELD_VALUE),
    REFUSED("A4", POST "Transfer-Encoding:\tchunked\r\n\r\n", FIELD_VALUE),
    REFUSED("A3", POST "Content-Length: 5\t\r\n\r\nhello", FIELD_VALUE),
    TAKEN("tabs around a value nobody uses", GET "X-A:\tb\t\r\n\r\n", ""),
    REFUSED("A4", POST "Transfer-Encoding: chunked\xa0\r\n\r\n", FIELD_VALUE),
    REFUSED("A4", "POST /p HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING_IN_HTTP_1_0),
    REFUSED("A4", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", CODING_UNKNOWN),
    REFUSED("A4", POST "Transfer-Encoding: deflate\r\n\r\n", CODING_UNKNOWN),
    REFUSED("A5", CHUNKED "\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "+5\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "-5\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "0x5\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "0_2e\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED " 5\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "5 \r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "5 ;a\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "5\t\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED ";a\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "000000005\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "100000005\r\nhello\r\n", CHUNK_SIZE),
    REFUSED("A5", CHUNKED "ffffffff\r\nhello\r\n", BODY_TOO_LARGE),
    REFUSED("A5", CHUNKED "5\r\nhello\r\nffc\r\n", BODY_TOO_LARGE),
    REFUSED("A6", CHUNKED "5\nhello\r\n0\r\n\r\n", BARE_LF),
    REFUSED("A6", CHUNKED "5\rXhello\r\n0\r\n\r\n", BARE_CR),
    REFUSED("A6", CHUNKED "5\r\nhello\n0\r\n\r\n", CHUNK_END),
    REFUSED("A6", CHUNKED "5\r\nhello\rX0\r\n\r\n", CHUNK_END),
    REFUSED("A6", CHUNKED "4\r\nhello\r\n0\r\n\r\n", CHUNK_END),
    REFUSED("A6", CHUNKED "5\r\nhello0\r\n\r\n", CHUNK_END),
    REFUSED("A6", CHUNKED "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n", FIELD_NAME),
    REFUSED("A6", CHUNKED "5\r\nhello\r\n0\r\n\n", BARE_LF),
    REFUSED("A6", CHUNKED "5\r\nhello\r\n0\r\n\rX", BARE_CR),
    REFUSED("A6", CHUNKED "5;a\nb\r\nhello\r\n", BARE_LF),
    REFUSED("A6", CHUNKED "5;a\rb\r\nhello\r\n", BARE_CR),
    REFUSED("A6",
            CHUNKED "5;a\x01"
                    "b\r\nhello\r\n",
            CONTROL_BYTE),
    REFUSED("A6", CHUNKED "5;\r\nhello\r\n", CHUNK_EXTENSION),
    REFUSED("A6", CHUNKED "5;a=\r\nhello\r\n", CHUNK_EXTENSION),
    REFUSED("A6", CHUNKED "5;a=\"b\r\nhello\r\n", CHUNK_EXTENSION),
    REFUSED("A6", CHUNKED "5; a=b\r\nhello\r\n", CHUNK_EXTENSION),
    REFUSED("A7", CHUNKED "0\r\nContent-Length: 5\r\n\r\n", TRAILER_FORBIDDEN),
    REFUSED("A7", CHUNKED "0\r\ntransfer-encoding: chunked\r\n\r\n", TRAILER_FORBIDDEN),
    REFUSED("A7", CHUNKED "0\r\nHost: y\r\n\r\n", TRAILER_FORBIDDEN),
    REFUSED("A7", CHUNKED "0\r\nAuthorization: Bearer x\r\n\r\n", TRAILER_FORBIDDEN),
    REFUSED("A7", CHUNKED "0\r\nContent-Type: text/html\r\n\r\n", TRAILER_FORBIDDEN),
    REFUSED("A7",
            CHUNKED "0\r\na:1\r\na:2\r\na:3\r\na:4\r\na:5\r\na:6\r\na:7\r\na:8\r\na:9\r\na:a\r\na:b\r\na:c\r\na:d\r\n"
                    "a:e\r\na:f\r\na:g\r\na:h\r\n\r\n",
            TRAILERS_TOO_MANY),
    REFUSED("A8", "GET /p HTTP/1.1\nHost: x\n\n", BARE_LF),
    REFUSED("A8", "GET /p HTTP/1.1\r\nHost: x\n\r\n", BARE_LF),
    REFUSED("A8", "GET /p HTTP/1.1\rHost: x\r\r", BARE_CR),
    REFUSED("A8", GET "\rX", BARE_CR),
    REFUSED("A8", GET "A: b\r\r\n\r\n", BARE_CR),
    REFUSED("A8", GET "A: b\r\n c\r\n\r\n", FIELD_FOLDED),
    REFUSED("A8", GET "A: b\r\n\tc\r\n\r\n", FIELD_FOLDED),
    REFUSED("A8", GET "A: b\r\n \r\n\r\n", FIELD_FOLDED),
    REFUSED("A8", "\r\n\r\n" GET "\r\n", BLANK_LINE),
    REFUSED("A8", "\n" GET "\r\n", BARE_LF),
    REFUSED("A8", " \r\n" GET "\r\n", REQUEST_LINE),
    REFUSED("A9", "GET /p HTTP/1.1\r\nHost : x\r\n\r\n", FIELD_NAME),
    REFUSED("A9", POST "Content-Length\t: 5\r\n\r\n", FIELD_NAME),
    REFUSED("A9", GET "nocolon\r\n\r\n", FIELD_NAME),
    REFUSED("A9", GET ": b\r\n\r\n", FIELD_NAME),
    REFUSED("A9", "GET /p HTTP/1.1\r\n Host: x\r\n\r\n", FIELD_FOLDED),
    REFUSED("A9", GET "A\x01: b\r\n\r\n", CONTROL_BYTE),
    REFUSED("A9", GET "A(: b\r\n\r\n", FIELD_NAME),
    REFUSED("A9", GET "\x80: b\r\n\r\n", FIELD_NAME),
    REFUSED("A9", GET "Content_Length: 5\r\n\r\n", FIELD_UNDERSCORE),
    REFUSED("A10", GET "A: b\0c\r\n\r\n", CONTROL_BYTE),
    REFUSED("A10", GET "A: b\rc\r\n\r\n", BARE_CR),
    REFUSED("A10",
            GET "A: b\x07"
                "c\r\n\r\n",
            CONTROL_BYTE),
    REFUSED("A10", GET "A: b\x7f\r\n\r\n", CONTROL_BYTE),
    REFUSED("A10", GET "X-Trace-Id: caf\xe9\r\n\r\n", FIELD_VALUE),
    REFUSED("A11", "GET /p HTTP/1.1\r\n\r\n", HOST_MISSING),
    REFUSED("A11", GET "Host: x\r\n\r\n", FIELD_TWICE),
    REFUSED("A11", GET "Host: y\r\n\r\n", FIELD_TWICE),
    REFUSED("A11", "GET /p HTTP/1.1\r\nHost: a, b\r\n\r\n", HOST_SYNTAX),
    REFUSED("A11", "GET /p HTTP/1.1\r\nHost:\r\n\r\n", HOST_SYNTAX),
    REFUSED("A11", "GET /p HTTP/1.1\r\nHost: u@x\r\n\r\n", HOST_SYNTAX),
    REFUSED("A11", "GET /p HTTP/1.1\r\nHost: x:80:80\r\n\r\n", HOST_SYNTAX),
    REFUSED("A11", "GET /p HTTP/1.1\r\nHost: x/y\r\n\r\n", HOST_SYNTAX),
    REFUSED("A11", "GET /p HTTP/1.1\r\nHost: [::1\r\n\r\n", HOST_SYNTAX),
    REFUSED("A11", "GET http://y/p HTTP/1.1\r\n" H "\r\n", HOST_MISMATCH),
    REFUSED("A11", "GET http://x:80/p HTTP/1.1\r\n" H "\r\n", HOST_MISMATCH),
    REFUSED("A12", "GET /p HTTP/1.32\r\n" H "\r\n", VERSION_SYNTAX),
    REFUSED("A12", "GET /p HTTP/4294967295.255\r\n" H "\r\n", VERSION_SYNTAX),
    REFUSED("A12", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_UNKNOWN),
    REFUSED("A12", "GET /p HTTP/1.2\r\n" H "\r\n", VERSION_UNKNOWN),
    REFUSED("A12", "GET /p HTTP/0.9\r\n" H "\r\n", VERSION_UNKNOWN),
    REFUSED("A12", "GET /p\r\n\r\n", REQUEST_LINE),
    REFUSED("A12", "GET /p \r\n\r\n", VERSION_SYNTAX),
    REFUSED("A12", "GET /p http/1.1\r\n\r\n", VERSION_SYNTAX),
    REFUSED("A12", "GET /p HTTP/1.1 x\r\n\r\n", VERSION_SYNTAX),
    REFUSED("A12", "GET /p HTTP/1.1 \r\n\r\n", VERSION_SYNTAX),
    REFUSED("A12", "\x16\x03\x01\x02", CONTROL_BYTE),
    REFUSED("A13", "BREW /p HTTP/1.1\r\n" H "\r\n", METHOD_UNKNOWN),
    REFUSED("A13", "get /p HTTP/1.1\r\n" H "\r\n", METHOD_UNKNOWN),
    REFUSED("A13", "CONNECT x:80 HTTP/1.1\r\n" H "\r\n", METHOD_UNKNOWN),
    REFUSED("A13", "GE(T /p HTTP/1.1\r\n" H "\r\n", METHOD_SYNTAX),
    REFUSED("A13", " GET /p HTTP/1.1\r\n" H "\r\n", METHOD_SYNTAX),
    REFUSED("A13", "GET\t/p HTTP/1.1\r\n" H "\r\n", REQUEST_LINE),
    REFUSED("A14", "GET /a\0b HTTP/1.1\r\n" H "\r\n", CONTROL_BYTE),
    REFUSED("A14", "GET /a%00b HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /a?b=%00 HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /a%0d%0ab HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /%c0%af HTTP/1.1\r\n" H "\r\n", TARGET_UTF8),
    REFUSED("A14", "GET /%e0%80%af HTTP/1.1\r\n" H "\r\n", TARGET_UTF8),
    REFUSED("A14", "GET /%ed%a0%80 HTTP/1.1\r\n" H "\r\n", TARGET_UTF8),
    REFUSED("A14", "GET /%f4%90%80%80 HTTP/1.1\r\n" H "\r\n", TARGET_UTF8),
    REFUSED("A14", "GET /%c3 HTTP/1.1\r\n" H "\r\n", TARGET_UTF8),
    REFUSED("A14", "GET /a/../b HTTP/1.1\r\n" H "\r\n", TARGET_SEGMENT),
    REFUSED("A14", "GET /a/%2e%2E/b HTTP/1.1\r\n" H "\r\n", TARGET_SEGMENT),
    REFUSED("A14", "GET /a/. HTTP/1.1\r\n" H "\r\n", TARGET_SEGMENT),
    REFUSED("A14", "GET /.. HTTP/1.1\r\n" H "\r\n", TARGET_SEGMENT),
    REFUSED("A14", "GET /a%2fb HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /a%252fb HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /a%5Cb HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /a\\b HTTP/1.1\r\n" H "\r\n", TARGET_BYTE),
    REFUSED("A14", "GET /a\x80 HTTP/1.1\r\n" H "\r\n", TARGET_BYTE),
    REFUSED("A14", "GET /a#b HTTP/1.1\r\n" H "\r\n", TARGET_BYTE),
    REFUSED("A14", "GET /%zz HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET /%4 HTTP/1.1\r\n" H "\r\n", TARGET_ESCAPE),
    REFUSED("A14", "GET p HTTP/1.1\r\n" H "\r\n", TARGET_FORM),
    REFUSED("A14", "GET * HTTP/1.1\r\n" H "\r\n", TARGET_FORM),
    REFUSED("A14", "OPTIONS * HTTP/1.1\r\n" H "\r\n", TARGET_FORM),
    REFUSED("A14", "GET ftp://x/p HTTP/1.1\r\n" H "\r\n", TARGET_FORM),
    REFUSED("A14", "GET http:///p HTTP/1.1\r\n" H "\r\n", TARGET_FORM),
    REFUSED("A14", "GET http://u@x/p HTTP/1.1\r\n" H "\r\n", TARGET_FORM),
    REFUSED("A15", GET "Content-Length: 1\r\n\r\nx", BODY_FORBIDDEN),
    REFUSED("A15", GET "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BODY_FORBIDDEN),
    REFUSED("A15", "HEAD /p HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx", BODY_FORBIDDEN),
    REFUSED("A15", "DELETE /p HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx", BODY_FORBIDDEN),
    REFUSED("A15", POST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", EXPECT_UNKNOWN),
    REFUSED("A15", POST "Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n", BODY_TOO_LARGE),
    REFUSED("B8", POST "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", BODY_ENCODED),
    REFUSED("connection", GET "Connection: close x\r\n\r\n", CONNECTION_SYNTAX),
    REFUSED("single", GET "Idempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n", FIELD_TWICE),
};

static void check_variant(const struct variant *variant, struct slice bytes, size_t first, size_t piece)
{
    struct http1_run run;
    http1_run(&run, &limits, bytes.data, bytes.size, first, piece);
    enum http1_result expected = variant->reason == HTTP1_ACCEPTED ? HTTP1_DONE : HTTP1_REFUSED;
    if (run.result != expected || run.reason != variant->reason)
        fail_msg("%s: \"%.*s\" split at %zu by %zu: %s", variant->row, SLICE_PRINT(variant->bytes), first, piece,
                 run.result == HTTP1_MORE ? "waits for more" : http1_reason_label(run.reason));
    if (variant->reason == HTTP1_ACCEPTED) {
        assert_int_equal(run.consumed, variant->bytes.size);
        size_t size = strlen(variant->body);
        assert_true(run.text.size >= size);
        assert_memory_equal(run.text.data + run.text.size - size, variant->body, size);
    }
    buffer_deinit(&run.text);
}

/* P1, and that nothing behind a refused byte or behind the request changes the outcome. */
static void each_variant_has_its_answer_however_it_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const struct variant *variant = &variants[i];
        size_t size = variant->bytes.size;
        check_variant(variant, variant->bytes, size, size);
        check_variant(variant, variant->bytes, 0, 1);
        for (size_t first = 1; first < size; first++)
            check_variant(variant, variant->bytes, first, size);
        char *followed = malloc(size + sizeof NEXT);
        assert_non_null(followed);
        memcpy(followed, variant->bytes.data, size);
        memcpy(followed + size, NEXT, sizeof NEXT);
        check_variant(variant, slice_of(followed, size + sizeof NEXT - 1), size + sizeof NEXT, 1);
        check_variant(variant, slice_of(followed, size + sizeof NEXT - 1), 0, 7);
        free(followed);
    }
}

static void every_status_is_an_error_and_every_reason_is_tried(void **state)
{
    (void)state;
    bool is_tried[HTTP1_REASON_COUNT] = {
        [HTTP1_ACCEPTED] = true,
        /* by tests of their own below, the last two by the server's */
        [HTTP1_TARGET_TOO_LONG] = true,
        [HTTP1_HEAD_TOO_LARGE] = true,
        [HTTP1_FIELDS_TOO_MANY] = true,
        [HTTP1_HEAD_TIMEOUT] = true,
        [HTTP1_BODY_TIMEOUT] = true,
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        is_tried[variants[i].reason] = true;
    for (unsigned reason = 1; reason < HTTP1_REASON_COUNT; reason++) {
        if (!is_tried[reason])
            fail_msg("no variant is refused with %s", http1_reason_label(reason));
        int status = http1_reason_status(reason);
        assert_true(status >= 400 && status <= 505);
        assert_true(strlen(http1_reason_text(reason)) > 0);
    }
}

static void refuses(const char *bytes, size_t size, enum http1_reason reason)
{
    for (int i = 0; i < 3; i++) {
        struct http1_run run;
        http1_run(&run, &limits, bytes, size, 0, i == 0 ? size : i == 1 ? 1 : 1000);
        assert_int_equal(run.result, HTTP1_REFUSED);
        assert_string_equal(http1_reason_label(run.reason), http1_reason_label(reason));
        buffer_deinit(&run.text);
    }
}

static char *filled(const char *before, size_t count, const char *after, size_t *ret_size)
{
    *ret_size = strlen(before) + count + strlen(after);
    char *text = malloc(*ret_size + 1);
    assert_non_null(text);
    memcpy(text, before, strlen(before));
    memset(text + strlen(before), 'a', count);
    memcpy(text + strlen(before) + count, after, strlen(after) + 1);
    return text;
}

static void a_target_is_bounded(void **state)
{
    (void)state;
    const struct {
        size_t count;
        const char *after;
        enum http1_reason reason;
    } cases[] = {
        {8191, " HTTP/1.1\r\n" H "\r\n", HTTP1_ACCEPTED}, /* with its slash 8192 */
        {8192, " HTTP/1.1\r\n" H "\r\n", HTTP1_TARGET_TOO_LONG},
        {9000, " HTTP/1.1\r\n" H "\r\n", HTTP1_TARGET_TOO_LONG},
        {90000, "", HTTP1_TARGET_TOO_LONG},
        {9000, "\x01", HTTP1_TARGET_TOO_LONG}, /* what lies beyond the limit is not looked at */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size;
        char *text = filled("GET /", cases[i].count, cases[i].after, &size);
        if (cases[i].reason == HTTP1_ACCEPTED) {
            struct http1_run run;
            http1_run(&run, &limits, text, size, 0, 1);
            assert_int_equal(run.result, HTTP1_DONE);
            buffer_deinit(&run.text);
        } else {
            refuses(text, size, cases[i].reason);
        }
        free(text);
    }
}

static void a_head_is_bounded(void **state)
{
    (void)state;
    size_t size, around = strlen(GET "A: ") + strlen("\r\n\r\n");
    char *text = filled(GET "A: ", 16384 - around, "\r\n\r\n", &size);
    struct http1_run run;
    http1_run(&run, &limits, text, size, 0, 1);
    assert_int_equal(run.result, HTTP1_DONE);
    buffer_deinit(&run.text);
    free(text);
    text = filled(GET "A: ", 16384 - around + 1, "\r\n\r\n", &size);
    refuses(text, size, HTTP1_HEAD_TOO_LARGE);
    free(text);
    text = filled(GET "A: ", 100000, "", &size);
    refuses(text, size, HTTP1_HEAD_TOO_LARGE);
    free(text);
}

static void a_head_has_at_most_a_hundred_fields(void **state)
{
    (void)state;
    for (int fields = 99; fields <= 101; fields++) {
        struct buffer text;
        buffer_init(&text, 10000);
        buffer_append_text(&text, GET);
        for (int i = 1; i < fields; i++)
            buffer_append_format(&text, "A%d: b\r\n", i);
        buffer_append_text(&text, "\r\n");
        if (fields <= 100) {
            struct http1_run run;
            http1_run(&run, &limits, text.data, text.size, 0, 1);
            assert_int_equal(run.result, HTTP1_DONE);
            buffer_deinit(&run.text);
        } else {
            refuses(text.data, text.size, HTTP1_FIELDS_TOO_MANY);
        }
        buffer_deinit(&text);
    }
}

static void a_chunk_extension_is_bounded(void **state)
{
    (void)state;
    size_t size;
    char *text = filled(CHUNKED "5;", 255, "\r\nhello\r\n0\r\n\r\n", &size);
    struct http1_run run;
    http1_run(&run, &limits, text, size, 0, 1);
    assert_int_equal(run.result, HTTP1_DONE);
    buffer_deinit(&run.text);
    free(text);
    text = filled(CHUNKED "5;", 256, "\r\nhello\r\n0\r\n\r\n", &size);
    refuses(text, size, HTTP1_CHUNK_EXTENSION);
    free(text);
    text = filled(CHUNKED "5;", 100000, "", &size);
    refuses(text, size, HTTP1_CHUNK_EXTENSION);
    free(text);
}

static void trailers_are_bounded_in_bytes(void **state)
{
    (void)state;
    size_t size;
    char *text = filled(CHUNKED "0\r\nA: ", 20000, "\r\n\r\n", &size);
    refuses(text, size, HTTP1_TRAILERS_TOO_MANY);
    free(text);
}

/* The framing of a chunked body is taken out as it comes: what is kept never outgrows head, body and one line. */
static void tiny_chunks_with_long_extensions_are_not_kept(void **state)
{
    (void)state;
    struct buffer text;
    buffer_init(&text, 1 << 20);
    buffer_append_text(&text, CHUNKED);
    for (int i = 0; i < 2000; i++)
        buffer_append_text(&text, "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b\r\nx\r\n");
    buffer_append_text(&text, "0\r\n\r\n");
    struct http1_run run;
    http1_run(&run, &limits, text.data, text.size, 0, 100);
    assert_int_equal(run.result, HTTP1_DONE);
    assert_true(run.input_size_peak < strlen(CHUNKED) + 2000 + 300 + 100);
    buffer_deinit(&run.text);
    buffer_deinit(&text);
}

static void the_request_is_seen_as_sent(void **state)
{
    (void)state;
    const char text[] = "POST /v1/a%20b%C3%A7/%41?x=1&y=%2B+z&x2=3 HTTP/1.1\r\nHost: [::1]:80\r\nACCEPT:  a/b  \r\n"
                        "Content-Length: 2\r\n\r\nhi" NEXT;
    struct http1 parser;
    http1_init(&parser);
    assert_int_equal(http1_parse_head(&parser, &limits, text, sizeof text - 1), HTTP1_DONE);
    assert_int_equal(http1_size(&parser), sizeof text - sizeof NEXT);
    struct http_header headers[HTTP_HEADERS_MAX];
    char path[8192], value[32];
    struct http_request request;
    http1_get_request(&parser, text, headers, path, &request);
    assert_int_equal(request.method, HTTP_POST);
    assert_true(slice_has_text(request.path, "/v1/a b\xc3\xa7/A")); /* decoded once */
    assert_true(slice_has_text(request.query, "x=1&y=%2B+z&x2=3"));
    assert_true(slice_has_text(request.body, "hi"));
    assert_true(slice_has_text(http_request_header(&request, "accept"), "a/b"));
    assert_null(http_request_header(&request, "accep").data);
    assert_null(http_request_header(&request, "accept2").data);
    struct slice found;
    assert_int_equal(http_request_query(&request, "y", value, sizeof value, &found), OK);
    assert_true(slice_has_text(found, "+ z"));
    assert_int_equal(http_request_query(&request, "x", value, sizeof value, &found), OK);
    assert_true(slice_has_text(found, "1"));
    assert_int_equal(http_request_query(&request, "z", value, sizeof value, &found), ERR_NOT_FOUND);
    assert_int_equal(http_request_query(&request, "y", value, 2, &found), ERR_INVALID);
}

static void query_values_are_single_and_well_formed(void **state)
{
    (void)state;
    const struct {
        const char *query;
        enum err result;
        const char *value;
    } cases[] = {
        {"", ERR_NOT_FOUND, ""},
        {"a", OK, ""},
        {"a=", OK, ""},
        {"a=b&a=b", ERR_INVALID, ""},
        {"&&a=b&", OK, "b"},
        {"ab=1&a=2", OK, "2"},
        {"a=%4", ERR_INVALID, ""},
        {"a=%zz", ERR_INVALID, ""},
        {"a=%00", ERR_INVALID, ""},
        {"a=%ff", ERR_INVALID, ""},
        {"a=b=c", OK, "b=c"},
        {"a=%2541", OK, "%41"},
        {"a=%", ERR_INVALID, ""},
        {"b=a=c", ERR_NOT_FOUND, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_request request = {.query = slice_from_text(cases[i].query)};
        char buffer[16];
        struct slice value;
        assert_int_equal(http_request_query(&request, "a", buffer, sizeof buffer, &value), cases[i].result);
        if (cases[i].result == OK)
            assert_true(slice_has_text(value, cases[i].value));
    }
}

static void keep_alive_follows_version_and_connection(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool is_keep_alive;
    } cases[] = {
        {GET "\r\n", true},
        {GET "Connection: close\r\n\r\n", false},
        {GET "Connection: keep-alive, Close\r\n\r\n", false},
        {GET "Connection: upgrade\r\nConnection: close\r\n\r\n", false},
        {GET "Connection: foo,,bar\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http1_run run;
        http1_run(&run, &limits, cases[i].text, strlen(cases[i].text), 0, 1);
        assert_int_equal(run.result, HTTP1_DONE);
        assert_int_equal(run.is_keep_alive, cases[i].is_keep_alive);
        buffer_deinit(&run.text);
    }
}

static void continue_is_wanted_only_with_a_body_and_by_http_1_1(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool expects_continue;
    } cases[] = {
        {POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", true},
        {POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", false},
        {POST "Expect: 100-continue\r\n\r\n", false},
        {"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http1_run run;
        http1_run(&run, &limits, cases[i].text, strlen(cases[i].text), 0, 1);
        assert_int_equal(run.result, HTTP1_DONE);
        assert_int_equal(run.expects_continue, cases[i].expects_continue);
        buffer_deinit(&run.text);
    }
}

/* B5 and P2: bytes that come one by one are not scanned again. The work is counted, not timed: with a window that never
 * moves back, the parser's scan offset only grows. */
static void a_head_in_single_bytes_is_scanned_once(void **state)
{
    (void)state;
    size_t size;
    char *text = filled(GET "A: ", 16000, "\r\n\r\n", &size);
    struct http1 parser;
    http1_init(&parser);
    enum http1_result result = HTTP1_MORE;
    for (size_t there = 1; there <= size && result == HTTP1_MORE; there++) {
        uint32_t before = parser.scan;
        result = http1_parse_head(&parser, &limits, text, there);
        assert_true(parser.scan >= before);
        assert_true(there - parser.scan <= 1); /* nothing but a lone CR is left to look at again */
    }
    assert_int_equal(result, HTTP1_DONE);
    free(text);
}

/* ---- B5: what doubles, costs twice ---------------------------------------------------------------------------------------- */

/* A head of `count` tiny fields; with a query of `count` tiny parameters; a body of `count` chunks of one byte. */
static void write_fields(struct buffer *text, uint32_t count)
{
    buffer_append_text(text, GET);
    for (uint32_t i = 1; i < count; i++)
        buffer_append_format(text, "A%u:b\r\n", i);
    buffer_append_text(text, "\r\n");
}

static void write_parameters(struct buffer *text, uint32_t count)
{
    buffer_append_text(text, "GET /p?");
    for (uint32_t i = 0; i < count; i++)
        buffer_append_text(text, "a&");
    buffer_append_text(text, " HTTP/1.1\r\n" H "\r\n");
}

static void write_chunks(struct buffer *text, uint32_t count)
{
    buffer_append_text(text, CHUNKED);
    for (uint32_t i = 0; i < count; i++)
        buffer_append_text(text, "1\r\nx\r\n");
    buffer_append_text(text, "0\r\n\r\n");
}

/* The least processor time of many runs: what disturbs a run only adds. */
static uint64_t cost_ns(void (*write)(struct buffer *text, uint32_t count), uint32_t count)
{
    static const struct http1_limits wide = {
        .head_bytes_max = 65535, .target_bytes_max = 65535, .body_bytes_max = 1 << 20};
    struct buffer text;
    buffer_init(&text, 1 << 20);
    write(&text, count);
    uint64_t least_ns = UINT64_MAX;
    for (int run = 0; run < 60; run++) {
        struct http1 parser;
        size_t size = text.size, request_size;
        char *input = malloc(size);
        assert_non_null(input);
        memcpy(input, text.data, size);
        struct timespec began, ended;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
        http1_init(&parser);
        assert_int_equal(http1_run_step(&parser, &wide, input, &size, &request_size), HTTP1_DONE);
        struct http_header headers[HTTP_HEADERS_MAX];
        static char path[65536];
        struct http_request request;
        struct slice value;
        http1_get_request(&parser, input, headers, path, &request);
        assert_int_equal(http_request_query(&request, "limit", path, sizeof path, &value), ERR_NOT_FOUND);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended);
        int64_t ns = (ended.tv_sec - began.tv_sec) * 1000000000 + ended.tv_nsec - began.tv_nsec;
        least_ns = (uint64_t)ns < least_ns ? (uint64_t)ns : least_ns;
        free(input);
    }
    buffer_deinit(&text);
    return least_ns;
}

static void fields_parameters_and_chunks_cost_in_proportion(void **state)
{
    (void)state;
    const struct {
        void (*write)(struct buffer *text, uint32_t count);
        uint32_t count;
    } cases[] = {{write_fields, 50}, {write_parameters, 10000}, {write_chunks, 20000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t once = 0, twice = 0;
        int tries = 0;
        do { /* a busy machine may spoil a comparison, not each of ten */
            assert_true(tries++ < 10);
            once = cost_ns(cases[i].write, cases[i].count);
            twice = cost_ns(cases[i].write, 2 * cases[i].count);
        } while (twice * 10 >= once * 22);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_variant_has_its_answer_however_it_is_split),
        cmocka_unit_test(every_status_is_an_error_and_every_reason_is_tried),
        cmocka_unit_test(a_target_is_bounded),
        cmocka_unit_test(a_head_is_bounded),
        cmocka_unit_test(a_head_has_at_most_a_hundred_fields),
        cmocka_unit_test(a_chunk_extension_is_bounded),
        cmocka_unit_test(trailers_are_bounded_in_bytes),
        cmocka_unit_test(tiny_chunks_with_long_extensions_are_not_kept),
        cmocka_unit_test(the_request_is_seen_as_sent),
        cmocka_unit_test(query_values_are_single_and_well_formed),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(continue_is_wanted_only_with_a_body_and_by_http_1_1),
        cmocka_unit_test(a_head_in_single_bytes_is_scanned_once),
        cmocka_unit_test(fields_parameters_and_chunks_cost_in_proportion),
    };
    return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
