/* SPDX-License-Identifier: Apache-2.0 */
/* json_test: guards the JSON reader and writer: what is refused, where the pointer leads, agreement with jansson on generated
 * and mutated texts (row B7 of the bad-input catalogue at the reader's level). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "json_oracle.h"
#include "net/json.h"
#include "net/utf8.h"
#include "runtime/buffer.h"

#define TEXT(literal) slice_of((literal), sizeof(literal) - 1)

static struct json_value accept(struct slice text)
{
    struct json_value root;
    struct json_problem problem;
    if (json_validate(text, &root, &problem) != OK)
        fail_msg("refused: %s at %zu: %.*s", problem.reason, problem.offset, SLICE_PRINT(text));
    json_oracle_check(text.data, text.size);
    return root;
}

static void refuse(struct slice text, const char *reason, size_t offset, const char *pointer)
{
    struct json_value root;
    struct json_problem problem;
    assert_int_equal(json_validate(text, &root, &problem), ERR_INVALID);
    assert_string_equal(problem.reason, reason);
    assert_int_equal(problem.offset, offset);
    assert_string_equal(problem.pointer, pointer);
    json_oracle_check(text.data, text.size);
}

static void values_of_every_type_are_accepted(void **state)
{
    (void)state;
    assert_int_equal(accept(TEXT("null")).type, JSON_NULL);
    assert_int_equal(accept(TEXT(" true ")).type, JSON_BOOL);
    assert_int_equal(accept(TEXT("-0.5e-3")).type, JSON_NUMBER);
    assert_int_equal(accept(TEXT("\"\\u00e9\\ud83d\\ude00\\b\\f\\n\\r\\t\\/\\\\\\\"\"")).type, JSON_STRING);
    assert_int_equal(accept(TEXT("[ ]")).type, JSON_ARRAY);
    assert_int_equal(accept(TEXT("{ \"\" : { } , \"a\" : [ 1 , [ ] ] }")).type, JSON_OBJECT);
    assert_int_equal(accept(TEXT("[1e308, -1.7976931348623157e308, 1e-400, 0e999999999999999999999]")).type, JSON_ARRAY);
    assert_int_equal(accept(TEXT("\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\x7f\"")).type, JSON_STRING);
}

static void broken_texts_are_refused_with_place_and_reason(void **state)
{
    (void)state;
    refuse(TEXT(""), "expected a value", 0, "");
    refuse(TEXT(" \n"), "expected a value", 2, "");
    refuse(TEXT("\xef\xbb\xbf{}"), "byte order mark", 0, "");
    refuse(TEXT("{} x"), "bytes after the document", 3, "");
    refuse(slice_of("1\0", 2), "bytes after the document", 1, "");
    refuse(TEXT("tru"), "unknown literal", 0, "");
    refuse(TEXT("{\"a\":nul}"), "unknown literal", 5, "/a");
    refuse(TEXT("[1,]"), "expected a value", 3, "/1");
    refuse(TEXT("[1 2]"), "expected ',' or ']'", 3, "/0");
    refuse(TEXT("[1}"), "expected ',' or ']'", 2, "/0");
    refuse(TEXT("{\"a\":1,}"), "expected a key", 7, "");
    refuse(TEXT("{\"a\" 1}"), "expected ':'", 5, "/a");
    refuse(TEXT("{a:1}"), "expected a key", 1, "");
    refuse(TEXT("{\"x\":[0,{\"y\":}]}"), "expected a value", 13, "/x/1/y");
    refuse(TEXT("[\"abc"), "unterminated string", 1, "/0");
    refuse(TEXT("[\"a\nb\"]"), "control byte in a string", 3, "/0");
    refuse(TEXT("\"\\x\""), "unknown escape", 1, "");
    refuse(TEXT("\"\\"), "unknown escape", 1, "");
    refuse(TEXT("\"\\u12g4\""), "\\u needs four hexadecimal digits", 1, "");
    refuse(TEXT("\"\\u12"), "\\u needs four hexadecimal digits", 1, "");
    refuse(TEXT("'a'"), "expected a value", 0, "");
    refuse(TEXT("NaN"), "expected a value", 0, "");
}

static void numbers_outside_the_grammar_or_range_are_refused(void **state)
{
    (void)state;
    refuse(TEXT("[01]"), "leading zero in a number", 1, "/0");
    refuse(TEXT("-"), "expected a digit", 0, "");
    refuse(TEXT("+1"), "expected a value", 0, "");
    refuse(TEXT(".5"), "expected a value", 0, "");
    refuse(TEXT("1."), "expected a digit after the point", 2, "");
    refuse(TEXT("1e+"), "expected a digit in the exponent", 3, "");
    refuse(TEXT("{\"n\":1e999}"), "number out of range", 5, "/n");
    refuse(TEXT("1.7976931348623159e308"), "number out of range", 0, "");
    refuse(TEXT("0.00001e314"), "number out of range", 0, "");
    refuse(TEXT("1e99999999999999999999999"), "number out of range", 0, "");
    char digits[400];
    memset(digits, '9', sizeof digits);
    refuse(slice_of(digits, sizeof digits), "number out of range", 0, "");
    assert_int_equal(accept(slice_of(digits, 308)).type, JSON_NUMBER);
}

static void text_that_is_not_unicode_is_refused(void **state)
{
    (void)state;
    refuse(TEXT("{\"t\":\"\\ud800\"}"), "lone surrogate", 6, "/t");
    refuse(TEXT("\"\\ud800\\u0041\""), "lone surrogate", 1, "");
    refuse(TEXT("\"\\udc00\""), "lone surrogate", 1, "");
    refuse(TEXT("\"\\ud800\\ud800\""), "lone surrogate", 1, "");
    refuse(TEXT("\"\\u0000\""), "U+0000 is not allowed", 1, "");
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc3",
                                      "\xe0\x9f\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[16];
        int size = snprintf(text, sizeof text, "\"a%s\"", bad[i]);
        refuse(slice_of(text, (size_t)size), "invalid UTF-8", 2, "");
    }
}

static void depth_is_limited_without_recursion(void **state)
{
    (void)state;
    char text[2001];
    memset(text, '[', 1000);
    memset(text + 1000, ']', 1000);
    accept(slice_of(text + 1000 - JSON_DEPTH_MAX, 2 * JSON_DEPTH_MAX));
    struct json_value root;
    struct json_problem problem;
    assert_int_equal(json_validate(slice_of(text, 2000), &root, &problem), ERR_INVALID);
    assert_string_equal(problem.reason, "nested too deeply");
    assert_int_equal(problem.offset, JSON_DEPTH_MAX);
}

static void duplicate_keys_are_refused_in_any_spelling(void **state)
{
    (void)state;
    refuse(TEXT("{\"a\":1,\"b\":2,\"a\":3}"), "duplicate key", 13, "/a");
    refuse(TEXT("{\"x\":{\"a\":1,\"\\u0061\":2}}"), "duplicate key", 12, "/x/a");
    refuse(TEXT("{\"\\u00e9\":1,\"\xc3\xa9\":2}"), "duplicate key", 12, "/\xc3\xa9");
    refuse(TEXT("{\"\\u00e9/\":1,\"\\u00E9\\/\":2}"), "duplicate key", 13, "/\xc3\xa9~1");
    refuse(TEXT("{\"\":1,\"\":2}"), "duplicate key", 6, "/");
    /* The same key in another object is none: inside, beside, and after the inner one has closed. */
    accept(TEXT("{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]},\"b\":{\"a\":1}}"));
    refuse(TEXT("{\"a\":{\"a\":1},\"a\":2}"), "duplicate key", 13, "/a");
}

/* `count` members named by number, the last one given again when `is_doubled`. */
static struct slice many_members(char *buffer, size_t size, unsigned count, bool is_doubled)
{
    size_t used = 0;
    for (unsigned i = 0; i < count; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%c\"k%u\":%u", i ? ',' : '{', i, i);
    if (is_doubled)
        used += (size_t)snprintf(buffer + used, size - used, ",\"k%u\":0", count - 1);
    used += (size_t)snprintf(buffer + used, size - used, "}");
    return slice_of(buffer, used);
}

static void many_members_are_held_apart_up_to_the_cap(void **state)
{
    (void)state;
    static char buffer[64 << 10];
    accept(many_members(buffer, sizeof buffer, JSON_OPEN_KEYS_MAX, false));
    struct json_value root;
    struct json_problem problem;
    struct slice doubled = many_members(buffer, sizeof buffer, JSON_OPEN_KEYS_MAX - 1, true);
    assert_int_equal(json_validate(doubled, &root, &problem), ERR_INVALID);
    assert_string_equal(problem.reason, "duplicate key");
    struct slice over = many_members(buffer, sizeof buffer, JSON_OPEN_KEYS_MAX + 1, false);
    assert_int_equal(json_validate(over, &root, &problem), ERR_INVALID);
    assert_string_equal(problem.reason, "too many members in the objects open here");
}

static void closed_objects_give_their_keys_back(void **state)
{
    (void)state;
    struct buffer text;
    buffer_init(&text, 1 << 20);
    buffer_append_byte(&text, '[');
    for (int i = 0; i < 3 * JSON_OPEN_KEYS_MAX; i++)
        buffer_append_format(&text, "%s{\"a\":{\"b\":%d},\"c\":0}", i ? "," : "", i);
    buffer_append_byte(&text, ']');
    accept(buffer_slice(&text));
    buffer_deinit(&text);
}

static void a_long_pointer_ends_with_a_whole_token(void **state)
{
    (void)state;
    char key[201];
    memset(key, 'k', 200);
    key[200] = '\0';
    char text[512];
    int size = snprintf(text, sizeof text, "{\"%s\":{\"%s\":[x]}}", key, key);
    struct json_value root;
    struct json_problem problem;
    assert_int_equal(json_validate(slice_of(text, (size_t)size), &root, &problem), ERR_INVALID);
    assert_int_equal(strlen(problem.pointer), 201);
    assert_int_equal(problem.offset, size - 4);
}

static void members_are_found_by_their_meaning(void **state)
{
    (void)state;
    struct json_value root = accept(TEXT("{\"n\":-42,\"t\\u0065xt\":\"a\\nb\",\"plain\":\"abc\",\"yes\":true,"
                                         "\"list\":[1,{\"x\":[]},\"]\"],\"no\":false}"));
    struct json_value value;
    struct slice text;
    char buffer[8];
    assert_true(json_find(root, "text", &value));
    assert_int_equal(json_string(value, buffer, sizeof buffer, &text), OK);
    assert_true(slice_has_text(text, "a\nb"));
    assert_ptr_equal(text.data, buffer);
    assert_int_equal(json_string(value, buffer, 2, &text), ERR_LIMIT);
    assert_true(json_find(root, "plain", &value));
    assert_int_equal(json_string(value, NULL, 0, &text), OK); /* lent from the document */
    assert_true(slice_has_text(text, "abc"));
    assert_true(json_find(root, "n", &value));
    assert_int_equal(json_string(value, buffer, sizeof buffer, &text), ERR_INVALID);
    assert_false(json_find(root, "tex", &value));
    assert_false(json_find(root, "texts", &value));
    assert_true(json_find(root, "yes", &value) && json_is_true(value));
    assert_true(json_find(root, "no", &value) && !json_is_true(value));
    assert_false(json_find(value, "x", &value)); /* not an object */

    assert_true(json_find(root, "list", &value));
    struct json_iterator iterator = {0};
    struct json_value element;
    int count = 0;
    while (json_next_element(value, &iterator, &element))
        count++;
    assert_int_equal(count, 3);
    assert_false(json_next_element(value, &iterator, &element)); /* the end stays the end */
}

static void integers_are_exact_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_integer;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"\"1\"", false, 0},
        {"true", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = 77;
        enum err err = json_integer(accept(slice_from_text(cases[i].text)), &value);
        assert_int_equal(err, cases[i].is_integer ? OK : ERR_INVALID);
        assert_true(value == (cases[i].is_integer ? cases[i].value : 77));
    }
}

/* ---- generated -------------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % limit);
}

static void generate(struct buffer *out, unsigned depth)
{
    static const char *const scalars[] = {"null",        "true",         "false", "0",
                                          "-1.5",        "1e5",          "\"\"",  "\"\\n\"",
                                          "\"\\u00e9\"", "\"\xc3\xa9\"", "1e308", "\"\\ud83d\\ude00\""};
    static const char *const keys[] = {"\"a\"", "\"b\"", "\"\\u0061\"", "\"\"", "\"cc\"", "\"\xc3\xa9\"", "\"\\u00e9\""};
    uint32_t kind = depth > 5 ? 0 : random_below(4);
    if (kind < 2) {
        buffer_append_text(out, scalars[random_below(12)]);
        return;
    }
    bool is_object = kind == 3;
    uint32_t count = random_below(5);
    buffer_append_byte(out, is_object ? '{' : '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        if (is_object && random_below(3)) {
            buffer_append_format(out, "\"k%u\"", i);
        } else if (is_object) {
            buffer_append_text(out, keys[random_below(7)]);
        }
        if (is_object)
            buffer_append_byte(out, ':');
        generate(out, depth + 1);
    }
    buffer_append_byte(out, is_object ? '}' : ']');
}

static void generated_and_mutated_texts_agree_with_jansson(void **state)
{
    (void)state;
    random_state = 20261120;
    struct buffer text;
    buffer_init(&text, 1 << 20);
    for (int round = 0; round < 20000; round++) {
        buffer_clear(&text);
        generate(&text, 0);
        json_oracle_check(text.data, text.size);
        static const char replacements[] = "{}[]\",:\\u0e+-. \n\xc3\x80";
        for (int i = 0; i < 3; i++) {
            text.data[random_below((uint32_t)text.size)] = replacements[random_below(sizeof replacements)];
            json_oracle_check(text.data, text.size);
        }
        json_oracle_check(text.data, random_below((uint32_t)text.size + 1));
    }
    buffer_deinit(&text);
}

/* ---- writer ----------------------------------------------------------------------------------------------------------- */

static void written_strings_read_back_whatever_they_hold(void **state)
{
    (void)state;
    random_state = 7;
    struct buffer out;
    buffer_init(&out, 1 << 16);
    for (int round = 0; round < 20000; round++) {
        char bytes[40], expected[3 * sizeof bytes];
        size_t size = random_below(sizeof bytes), expected_size = 0;
        for (size_t i = 0; i < size; i++)
            bytes[i] = random_below(2) ? (char)(1 + random_below(255)) : "\xe2\x80\xa8\xc3\xa9<>\""[random_below(8)];
        for (size_t i = 0; i < size;) {
            size_t step = utf8_sequence_size(bytes + i, size - i);
            memcpy(expected + expected_size, step ? bytes + i : "\xef\xbf\xbd", step ? step : 3);
            expected_size += step ? step : 3;
            i += step ? step : 1;
        }
        buffer_clear(&out);
        json_write_string(&out, slice_of(bytes, size));
        assert_null(memchr(out.data, '<', out.size));
        assert_null(memchr(out.data, '>', out.size));
        assert_null(memmem(out.data, out.size, "\xe2\x80\xa8", 3));
        char buffer[1024];
        struct slice text;
        assert_int_equal(json_string(accept(buffer_slice(&out)), buffer, sizeof buffer, &text), OK);
        assert_true(slice_is_equal(text, slice_of(expected, expected_size)));
    }
    buffer_deinit(&out);
}

static void written_members_have_their_commas_and_numbers_their_digits(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, 4096);
    bool is_first = true;
    buffer_append_byte(&out, '{');
    json_write_key(&out, "min", &is_first);
    json_write_integer(&out, INT64_MIN);
    json_write_key(&out, "max", &is_first);
    json_write_unsigned(&out, UINT64_MAX);
    json_write_key(&out, "s", &is_first);
    json_write_string(&out, TEXT("\x01\t\"\\\x7f<\xe2\x80\xa9\xff"));
    json_write_key(&out, "none", &is_first);
    json_write_string(&out, (struct slice){0});
    buffer_append_byte(&out, '}');
    assert_true(slice_has_text(buffer_slice(&out), "{\"min\":-9223372036854775808,\"max\":18446744073709551615,"
                                                   "\"s\":\"\\u0001\\t\\\"\\\\\x7f\\u003c\\u2029\xef\xbf\xbd\","
                                                   "\"none\":\"\"}"));
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_type_are_accepted),
        cmocka_unit_test(broken_texts_are_refused_with_place_and_reason),
        cmocka_unit_test(numbers_outside_the_grammar_or_range_are_refused),
        cmocka_unit_test(text_that_is_not_unicode_is_refused),
        cmocka_unit_test(depth_is_limited_without_recursion),
        cmocka_unit_test(duplicate_keys_are_refused_in_any_spelling),
        cmocka_unit_test(many_members_are_held_apart_up_to_the_cap),
        cmocka_unit_test(closed_objects_give_their_keys_back),
        cmocka_unit_test(a_long_pointer_ends_with_a_whole_token),
        cmocka_unit_test(members_are_found_by_their_meaning),
        cmocka_unit_test(integers_are_exact_or_refused),
        cmocka_unit_test(generated_and_mutated_texts_agree_with_jansson),
        cmocka_unit_test(written_strings_read_back_whatever_they_hold),
        cmocka_unit_test(written_members_have_their_commas_and_numbers_their_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
