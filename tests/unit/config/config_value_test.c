/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars of a configuration: what is taken, and above all what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/config/config_value.h"

#define S(text) slice_from_text(text)

static void numbers_have_one_spelling(void **state)
{
    (void)state;
    uint64_t number = 7;
    assert_true(config_value_unsigned(S("0"), &number) && number == 0);
    assert_true(config_value_unsigned(S("18446744073709551615"), &number) && number == UINT64_MAX);
    static const char *const refused[] = {"",    " 1",   "1 ",  "+1",    "-1",
                                          "010", "0x10", "1e3", "1_000", "18446744073709551616"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        number = 7;
        assert_false(config_value_unsigned(S(refused[i]), &number));
        assert_int_equal(number, 7);
    }
}

static void durations_need_a_unit_and_do_not_overflow(void **state)
{
    (void)state;
    uint64_t ns = 0;
    assert_true(config_value_duration(S("250us"), &ns) && ns == 250000);
    assert_true(config_value_duration(S("500ms"), &ns) && ns == 500000000);
    assert_true(config_value_duration(S("30s"), &ns) && ns == UINT64_C(30000000000));
    assert_true(config_value_duration(S("2m"), &ns) && ns == UINT64_C(120000000000));
    assert_true(config_value_duration(S("1h"), &ns) && ns == UINT64_C(3600000000000));
    static const char *const refused[] = {"",   "30", "s", "ms", "30 s", "1.5s", "-1s", "3d", "30S", "99999999999999h",
                                          "1ns"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(config_value_duration(S(refused[i]), &ns));
}

static void sizes_are_binary(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    assert_true(config_value_bytes(S("4096"), &bytes) && bytes == 4096);
    assert_true(config_value_bytes(S("64KiB"), &bytes) && bytes == 65536);
    assert_true(config_value_bytes(S("2GiB"), &bytes) && bytes == UINT64_C(2) << 30);
    static const char *const refused[] = {"", "KiB", "64KB", "64k", "-1", "99999999999999GiB"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(config_value_bytes(S(refused[i]), &bytes));
}

static void decimals_have_no_exponent_and_no_sign(void **state)
{
    (void)state;
    double number = 0;
    assert_true(config_value_decimal(S("0.5"), &number) && number > 0.49 && number < 0.51);
    assert_true(config_value_decimal(S("1"), &number) && number > 0.99);
    static const char *const refused[] = {"",    ".5",  "1.", "1.2.3",
                                          "1e3", "nan", "-1", "0.00000000000000000000000000000000001"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(config_value_decimal(S(refused[i]), &number));
}

static void addresses_are_numeric(void **state)
{
    (void)state;
    static const char *const taken[] = {"127.0.0.1:7400", "0.0.0.0:0", "[::1]:65535", "[::]:0"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        assert_true(config_value_is_address(S(taken[i])));
    static const char *const refused[] = {
        "",           ":",
        ":80",        "localhost:80",
        "127.0.0.1",  "127.0.0.1:",
        "127.1:80",   "1.2.3.4:65536",
        "::1:80",     "[::1]",
        "[]:80",      "[::1:80",
        "1.2.3.4:-1", "1.2.3.4:080",
        "[::1]x:80",  "0123456789012345678901234567890123456789012345678901234567890123456789:1"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(config_value_is_address(S(refused[i])));
    assert_false(config_value_is_address((struct slice){0}));
}

static void utf8_is_shortest_and_scalar(void **state)
{
    (void)state;
    assert_true(config_value_is_utf8(S("aé€😀")));
    assert_true(config_value_is_utf8((struct slice){0}));
    static const char *const refused[] = {
        "\x80", "\xc3",     "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
        "\xff", "a\xe2\x82"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_false(config_value_is_utf8(S(refused[i])));
}

static void what_yaml_would_not_read_as_text_is_seen(void **state)
{
    (void)state;
    static const char *const typed[] = {"", "~", "null", "True", "false", "1", "-1", "1.5", "1e3", "0x1f", ".5", ".inf"};
    for (size_t i = 0; i < sizeof typed / sizeof typed[0]; i++)
        assert_true(config_value_looks_typed(S(typed[i])));
    static const char *const text[] = {"no", "yes", "30s", "127.0.0.1:7400", "-", "gpt-4o", "nullable", "1 a", "inf"};
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        assert_false(config_value_looks_typed(S(text[i])));
}

static void words_hold_no_blank_and_no_nul(void **state)
{
    (void)state;
    assert_true(config_value_is_word(S("queue-1.a_B"), 63));
    assert_false(config_value_is_word(S(""), 63));
    assert_false(config_value_is_word(S("a b"), 63));
    assert_false(config_value_is_word(S("é"), 63));
    assert_false(config_value_is_word(slice_of("a\0b", 3), 63));
    assert_false(config_value_is_word(S("abcd"), 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_one_spelling),
        cmocka_unit_test(durations_need_a_unit_and_do_not_overflow),
        cmocka_unit_test(sizes_are_binary),
        cmocka_unit_test(decimals_have_no_exponent_and_no_sign),
        cmocka_unit_test(addresses_are_numeric),
        cmocka_unit_test(utf8_is_shortest_and_scalar),
        cmocka_unit_test(what_yaml_would_not_read_as_text_is_seen),
        cmocka_unit_test(words_hold_no_blank_and_no_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
