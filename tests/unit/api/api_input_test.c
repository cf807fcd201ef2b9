/* SPDX-License-Identifier: Apache-2.0 */
/* Headers, queries and bodies as clients send them, and trace ids: what is honoured, what is refused, what is replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "actors/api/api_input.h"
#include "actors/api/api_message.h"
#include "actors/api/trace.h"
#include "runtime/buffer.h"

static struct http_request with_header(struct http_header *header, const char *name, const char *value)
{
    *header = (struct http_header){slice_from_text(name), slice_from_text(value)};
    return (struct http_request){.headers = header, .header_count = 1};
}

/* ---- Accept, Content-Type ----------------------------------------------------------------------------------------------- */

static void accept_is_read_by_its_ranges_and_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        bool takes_json, asks_for_stream;
    } cases[] = {
        {"application/json", true, false},
        {"*/*", true, false},
        {"application/*", true, false},
        {"text/event-stream", false, true},
        {"text/event-stream, application/json;q=0.5", true, true},
        {"TEXT/Event-Stream", false, true},
        {"text/*", false, false},
        {"text/html, image/png", false, false},
        {"application/json;q=0, */*", false, false},
        {"application/json; q=0.000", false, false},
        {"text/event-stream;q=0, */*", true, false},
        {"text/event-stream;q=0.0001", false, true},
        {"", false, false},
        {", ,", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_header header;
        struct http_request request = with_header(&header, "Accept", cases[i].accept);
        bool is_absent = cases[i].accept[strspn(cases[i].accept, ", ")] == '\0'; /* an empty list wants nothing special */
        assert_int_equal(input_accepts(&request, "application/json"), cases[i].takes_json || is_absent);
        assert_int_equal(input_asks_for(&request, "text/event-stream"), cases[i].asks_for_stream);
    }
    const struct http_request none = {0};
    assert_true(input_accepts(&none, "application/json"));
    assert_false(input_asks_for(&none, "text/event-stream"));
}

static void accept_in_several_lines_is_one_list(void **state)
{
    (void)state;
    const struct http_header headers[] = {{SLICE_LITERAL("Accept"), SLICE_LITERAL("text/html")},
                                          {SLICE_LITERAL("Host"), SLICE_LITERAL("application/json")},
                                          {SLICE_LITERAL("accept"), SLICE_LITERAL("application/json")}};
    const struct http_request request = {.headers = headers, .header_count = 3};
    assert_true(input_accepts(&request, "application/json"));
    const struct http_request without = {.headers = headers, .header_count = 2};
    assert_false(input_accepts(&without, "application/json"));
}

static void only_json_in_utf8_is_json(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        bool is_json;
    } cases[] = {
        {"application/json", true},
        {"Application/JSON ; charset=UTF-8", true},
        {"application/json;charset=\"utf-8\"", true},
        {"application/json; charset=latin1", false},
        {"text/plain", false},
        {"application/jsonp", false},
        {"", false},
        {"application/x-www-form-urlencoded", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_header header;
        struct http_request request = with_header(&header, "Content-Type", cases[i].type);
        assert_int_equal(input_is_json(&request), cases[i].is_json);
    }
}

/* ---- Prefer, If-Match, query -------------------------------------------------------------------------------------------- */

static void prefer_is_read_and_its_garbage_refused(void **state)
{
    (void)state;
    static const struct {
        const char *prefer;
        bool is_good, is_async, has_wait;
        uint64_t wait_s;
    } cases[] = {
        {"wait=10", true, false, true, 10},
        {"respond-async", true, true, false, 0},
        {"respond-async, wait=5", true, true, true, 5},
        {"Wait=\"7\"", true, false, true, 7},
        {"wait=3; note=x, wait=9", true, false, true, 3},
        {"handling=lenient", true, false, false, 0},
        {"wait=0", true, false, true, 0},
        {"wait=", false, false, false, 0},
        {"wait", false, false, false, 0},
        {"wait=ten", false, false, false, 0},
        {"wait=-1", false, false, false, 0},
        {"wait=1.5", false, false, false, 0},
        {"wait=99999999999999999999", false, false, false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_header header;
        struct http_request request = with_header(&header, "Prefer", cases[i].prefer);
        struct input_prefer prefer = {0};
        assert_int_equal(input_prefer(&request, &prefer), cases[i].is_good);
        if (!cases[i].is_good)
            continue;
        assert_int_equal(prefer.respond_async, cases[i].is_async);
        assert_int_equal(prefer.has_wait, cases[i].has_wait);
        assert_int_equal(prefer.wait_s, cases[i].wait_s);
    }
}

static void if_match_takes_a_version_with_or_without_quotes(void **state)
{
    (void)state;
    struct http_header header;
    bool has = false;
    uint64_t version = 0;
    struct http_request request = with_header(&header, "If-Match", "4");
    assert_true(input_if_match(&request, &has, &version) && has && version == 4);
    request = with_header(&header, "If-Match", "\"17\"");
    assert_true(input_if_match(&request, &has, &version) && has && version == 17);
    static const char *const refused[] = {"*", "W/\"4\"", "\"\"", "", "4, 5", "-1", "18446744073709551616"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        request = with_header(&header, "If-Match", refused[i]);
        assert_false(input_if_match(&request, &has, &version));
    }
    assert_true(input_if_match(&(struct http_request){0}, &has, &version) && !has);
}

static void numbers_in_the_query_are_whole_and_in_range(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        int status; /* 0: taken */
        uint64_t number;
    } cases[] = {
        {"", 0, 7},
        {"limit=5", 0, 5},
        {"x=1&limit=1000", 0, 1000},
        {"limit=1001", 422, 0},
        {"limit=", 400, 0},
        {"limit=-1", 400, 0},
        {"limit=1.5", 400, 0},
        {"limit=abc", 400, 0},
        {"limit=%31", 0, 1},
        {"limit=1&limit=2", 400, 0},
        {"limit=99999999999999999999999999999999999999", 400, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct http_request request = {.query = slice_from_text(cases[i].query)};
        struct problem problem = {0};
        uint64_t number = 0;
        bool is_taken = input_query_number(&request, "limit", 7, 1000, &number, &problem);
        assert_int_equal(is_taken, cases[i].status == 0);
        if (is_taken)
            assert_int_equal(number, cases[i].number);
        else
            assert_int_equal(problem.status, cases[i].status);
    }
}

static void ids_are_of_safe_characters(void **state)
{
    (void)state;
    assert_true(input_is_id(SLICE_LITERAL("aZ0._~:-"), 128));
    static const char *const refused[] = {"", "a b", "a/b", "a%20", "é", "a\n", "\"", "a@b"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(input_is_id(slice_from_text(refused[i]), 128));
    assert_false(input_is_id(slice_of("a\0b", 3), 128));
    assert_false(input_is_id(SLICE_LITERAL("abcde"), 4));
}

/* ---- trace ids ---------------------------------------------------------------------------------------------------------- */

static bool is_new(struct slice trace)
{
    return trace.size == 32 && strspn(trace.data, "0123456789abcdef") >= 32;
}

static void a_well_formed_trace_id_is_honoured_and_another_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *taken; /* NULL: a new one */
    } cases[] = {
        {"X-Trace-Id", "abc-123", "abc-123"},
        {"X-Trace-Id", "", NULL},
        {"X-Trace-Id", "a b", NULL},
        {"X-Trace-Id", "a\"b", NULL},
        {"X-Trace-Id", "0123456789012345678901234567890123456789012345678901234567890123",
         "0123456789012345678901234567890123456789012345678901234567890123"},
        {"X-Trace-Id", "01234567890123456789012345678901234567890123456789012345678901234", NULL},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"},
        {"traceparent", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
         "4bf92f3577b34da6a3ce929d0e0e4736"},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", NULL},
        {"traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", NULL},
        {"traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", NULL},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", NULL},
        {"traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", NULL},
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", NULL},
        {"traceparent", "00", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_header header;
        struct http_request request = with_header(&header, cases[i].name, cases[i].value);
        struct trace_id trace = trace_id_of_request(&request);
        if (cases[i].taken)
            assert_true(slice_has_text(trace_id_slice(&trace), cases[i].taken));
        else
            assert_true(is_new(trace_id_slice(&trace)));
    }
    struct trace_id first = trace_id_create(), second = trace_id_create();
    assert_false(slice_is_equal(trace_id_slice(&first), trace_id_slice(&second)));
}

/* ---- the message's body ------------------------------------------------------------------------------------------------- */

struct read {
    bool is_taken;
    struct conv_request message;
    struct problem problem;
    struct buffer room, metadata;
};

static void read_body(struct read *read, const char *body)
{
    memset(read, 0, sizeof *read);
    buffer_init(&read->room, 1 << 20);
    buffer_init(&read->metadata, 1 << 20);
    const struct http_request request = {.body = slice_from_text(body)};
    read->is_taken = message_read(&request, &read->room, &read->metadata, &read->message, &read->problem);
}

static void read_deinit(struct read *read)
{
    buffer_deinit(&read->room);
    buffer_deinit(&read->metadata);
}

static uint64_t hash_of(const char *body)
{
    struct read read;
    read_body(&read, body);
    assert_true(read.is_taken);
    read_deinit(&read);
    return read.message.payload_hash;
}

static void texts_are_unescaped_side_by_side(void **state)
{
    (void)state;
    struct read read;
    read_body(&read, "{\"text\":\"a\\u00e9\\n\\\"\",\"customer_id\":\"c\\u002d1\",\"channel\":\"web\",\"metadata\":{ "
                     "\"k\\n\" : \"\\u0041\" }}");
    assert_true(read.is_taken);
    assert_true(slice_has_text(read.message.text, "aé\n\""));
    assert_true(slice_has_text(read.message.customer_id, "c-1"));
    assert_true(slice_has_text(read.message.channel, "web"));
    assert_true(slice_has_text(read.message.metadata, "{\"k\\n\":\"A\"}"));
    read_deinit(&read);
}

static void the_payload_hash_sees_what_was_said_and_nothing_else(void **state)
{
    (void)state;
    uint64_t hash = hash_of("{\"text\":\"a\",\"customer_id\":\"b\"}");
    assert_int_equal(hash, hash_of("{\"customer_id\":\"b\",\"text\":\"\\u0061\"}"));
    assert_int_equal(hash, hash_of("{\"text\":\"a\",\"customer_id\":\"b\",\"message_id\":\"m\",\"on_busy\":\"reject\"}"));
    assert_int_not_equal(hash, hash_of("{\"text\":\"a\",\"channel\":\"b\"}"));
    assert_int_not_equal(hash, hash_of("{\"text\":\"ab\"}"));
    assert_int_not_equal(hash, hash_of("{\"text\":\"a\",\"customer_id\":\"b\",\"agent\":\"x\"}"));
    assert_int_not_equal(hash, hash_of("{\"text\":\"a\",\"customer_id\":\"b\",\"from\":\"human:x\"}"));
    assert_int_not_equal(hash, hash_of("{\"text\":\"a\",\"customer_id\":\"b\",\"metadata\":{}}"));
}

static void each_bad_member_has_its_pointer(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int status;
        const char *pointer;
    } cases[] = {
        {"", 400, ""},
        {"[]", 400, ""},
        {"{\"text\":\"a\"", 400, "/text"}, /* what was being read */
        {"{}", 400, "/text"},
        {"{\"text\":1}", 400, "/text"},
        {"{\"text\":null}", 400, "/text"},
        {"{\"text\":\"\"}", 422, "/text"},
        {"{\"text\":\"a\",\"colour\":1}", 400, "/colour"},
        {"{\"text\":\"a\",\"a/b~c\":1}", 400, "/a~1b~0c"},
        {"{\"text\":\"a\",\"t\\u0065xt\":\"b\"}", 400, "/text"},
        {"{\"text\":\"a\",\"message_id\":\"\"}", 422, "/message_id"},
        {"{\"text\":\"a\",\"message_id\":\"a\\nb\"}", 422, "/message_id"},
        {"{\"text\":\"a\",\"channel\":\"\\u007f\"}", 422, "/channel"},
        {"{\"text\":\"a\",\"metadata\":[]}", 400, "/metadata"},
        {"{\"text\":\"a\",\"metadata\":{\"k\":1}}", 400, "/metadata/k"},
        {"{\"text\":\"a\",\"metadata\":{\"k\":{}}}", 400, "/metadata/k"},
        {"{\"text\":\"a\",\"on_busy\":\"merge\"}", 422, "/on_busy"},
        {"{\"text\":\"a\",\"on_busy\":\"interrupt\"}", 422, "/on_busy"},
        {"{\"text\":\"a\",\"on_busy\":\"rollback\"}", 422, "/on_busy"},
        {"{\"text\":\"a\",\"on_busy\":\"panic\"}", 422, "/on_busy"},
        {"{\"text\":\"a\",\"from\":\"agent:x\"}", 422, "/from"},
        {"{\"text\":\"a\",\"from\":\"human:\"}", 422, "/from"},
        {"{\"text\":\"a\",\"from\":\"human:a b\"}", 422, "/from"},
        /* something malformed weighs more than something out of range, in either order */
        {"{\"text\":\"\",\"colour\":1}", 400, "/text"},
        {"{\"colour\":1,\"text\":\"\"}", 400, "/text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct read read;
        read_body(&read, cases[i].body);
        assert_false(read.is_taken);
        assert_int_equal(read.problem.status, cases[i].status);
        bool is_named = false;
        for (uint32_t k = 0; k < read.problem.error_count; k++)
            is_named |= strcmp(read.problem.errors[k].pointer, cases[i].pointer) == 0;
        if (!is_named)
            fail_msg("no error at \"%s\" for %s", cases[i].pointer, cases[i].body);
        read_deinit(&read);
    }
}

static void lengths_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t size_max;
    } fields[] = {{"text", 32768}, {"message_id", 128}, {"customer_id", 128}, {"channel", 64}, {"agent", 63}};
    static char value[32769 + 1], body[40000];
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        for (size_t size = fields[i].size_max; size <= fields[i].size_max + 1; size++) {
            struct read read;
            memset(value, 'x', size);
            value[size] = '\0';
            bool is_text = i == 0;
            snprintf(body, sizeof body, is_text ? "{\"%s\":\"%s\"}" : "{\"text\":\"a\",\"%s\":\"%s\"}", fields[i].name,
                     value);
            read_body(&read, body);
            assert_int_equal(read.is_taken, size <= fields[i].size_max);
            if (!read.is_taken)
                assert_int_equal(read.problem.status, 422);
            read_deinit(&read);
        }
    }
    struct read read;
    memset(value, 'x', 4096 - 8); /* {"k":"…"} */
    value[4096 - 8] = '\0';
    snprintf(body, sizeof body, "{\"text\":\"a\",\"metadata\":{\"k\":\"%s\"}}", value);
    read_body(&read, body);
    assert_true(read.is_taken);
    read_deinit(&read);
    snprintf(body, sizeof body, "{\"text\":\"a\",\"metadata\":{\"k\":\"%sx\"}}", value);
    read_body(&read, body);
    assert_false(read.is_taken);
    assert_int_equal(read.problem.status, 422);
    read_deinit(&read);
}

static void many_errors_are_listed_up_to_a_bound(void **state)
{
    (void)state;
    struct read read;
    read_body(&read, "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1}");
    assert_false(read.is_taken);
    assert_int_equal(read.problem.error_count, PROBLEM_ERRORS_MAX);
    read_deinit(&read);
}

static void a_key_longer_than_a_pointer_is_cut(void **state)
{
    (void)state;
    static char body[4000];
    char key[3000];
    memset(key, '/', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    snprintf(body, sizeof body, "{\"text\":\"a\",\"%.200s\":1}", key);
    struct read read;
    read_body(&read, body);
    assert_int_equal(read.problem.status, 400);
    assert_true(strlen(read.problem.errors[0].pointer) < PROBLEM_POINTER_BYTES);
    read_deinit(&read);
    snprintf(body, sizeof body, "{\"text\":\"a\",\"\\u0041%s\":1}", key); /* unescaped it does not fit at all */
    read_body(&read, body);
    assert_string_equal(read.problem.errors[0].pointer, "/?");
    read_deinit(&read);
}

/* ---- problems ----------------------------------------------------------------------------------------------------------- */

static void every_code_has_a_status_and_every_status_a_title(void **state)
{
    (void)state;
    for (int code = OK + 1; code < ERR_COUNT; code++) {
        struct problem problem = problem_of((enum err)code, (struct slice){0}, 0);
        assert_true(problem.status >= 400 && problem.status < 600);
        assert_string_not_equal(problem_status_title(problem.status), "Error");
        if (problem.status == 429 || (problem.status == 503 && err_may_retry((enum err)code)))
            assert_true(problem.retry_after_s > 0);
    }
}

static void a_problem_is_written_as_rfc_9457_wants_it(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, 4096);
    struct problem problem = problem_of(ERR_STALE, SLICE_LITERAL("not \"4\""), 0);
    problem_add_error(&problem, 409, "/a", "no <%s>", "x");
    problem_write(&out, &problem, SLICE_LITERAL("t-1"));
    buffer_append_byte(&out, '\0');
    assert_string_equal(out.data, "{\"type\":\"urn:ciranda:problem:stale-version\",\"title\":\"Conflict\",\"status\":409,"
                                  "\"detail\":\"not \\\"4\\\"\",\"trace_id\":\"t-1\",\"errors\":[{\"pointer\":\"/a\","
                                  "\"detail\":\"no \\u003cx\\u003e\"}]}");
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accept_is_read_by_its_ranges_and_refusals),
        cmocka_unit_test(accept_in_several_lines_is_one_list),
        cmocka_unit_test(only_json_in_utf8_is_json),
        cmocka_unit_test(prefer_is_read_and_its_garbage_refused),
        cmocka_unit_test(if_match_takes_a_version_with_or_without_quotes),
        cmocka_unit_test(numbers_in_the_query_are_whole_and_in_range),
        cmocka_unit_test(ids_are_of_safe_characters),
        cmocka_unit_test(a_well_formed_trace_id_is_honoured_and_another_replaced),
        cmocka_unit_test(texts_are_unescaped_side_by_side),
        cmocka_unit_test(the_payload_hash_sees_what_was_said_and_nothing_else),
        cmocka_unit_test(each_bad_member_has_its_pointer),
        cmocka_unit_test(lengths_are_exact),
        cmocka_unit_test(many_errors_are_listed_up_to_a_bound),
        cmocka_unit_test(a_key_longer_than_a_pointer_is_cut),
        cmocka_unit_test(every_code_has_a_status_and_every_status_a_title),
        cmocka_unit_test(a_problem_is_written_as_rfc_9457_wants_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
