/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/fold.h"

static const char *fold(const char *text)
{
    static char folded[256];
    size_t size;
    assert_int_equal(fold_text(slice_from_text(text), folded, sizeof folded - 1, &size), OK);
    folded[size] = 0;
    return folded;
}

static bool has(const char *text, const char *phrase)
{
    char folded_phrase[256];
    snprintf(folded_phrase, sizeof folded_phrase, "%s", fold(phrase));
    return fold_has_phrase(slice_from_text(fold(text)), slice_from_text(folded_phrase));
}

static void case_and_accents_vanish(void **state)
{
    (void)state;
    assert_string_equal(fold("Ação, PREÇO e Coração"), "acao, preco e coracao");
    assert_string_equal(fold("ÀÁÂÃÄÅ àáâãäå ÇÑ ñç ŠŽ Łódź"), "aaaaaa aaaaaa cn nc sz lodz");
    assert_string_equal(fold("Straße, STRAẞE, Œuvre, Æon, ĳ"), "strasse, strasse, oeuvre, aeon, ij");
    assert_string_equal(fold("Tiếng Việt Ẁ ẽ"), "tieng viet w e");
    assert_string_equal(fold("1º andar, 2ª via"), "1o andar, 2a via");
}

static void composed_and_decomposed_meet(void **state)
{
    (void)state;
    assert_string_equal(fold("prec\xCC\xA7o a\xCC\x83o e\xCC\x81"), "preco ao e");
    assert_string_equal(fold("pre\xC2\xAD"
                             "co"),
                        "preco"); /* soft hyphen */
}

static void blanks_become_one(void **state)
{
    (void)state;
    assert_string_equal(fold("  bom \t\r\n\xC2\xA0  dia\xE2\x80\x83 "), "bom dia");
    assert_string_equal(fold(" \xCC\x81 "), "");
}

static void other_scripts_and_broken_bytes_pass(void **state)
{
    (void)state;
    assert_string_equal(fold("Привет 你好 👍"), "Привет 你好 👍");
    assert_string_equal(fold("a\xFF\xC3(\x80\xED\xA0\x80"), "a\xFF\xC3(\x80\xED\xA0\x80");
}

static void phrases_match_at_word_borders(void **state)
{
    (void)state;
    assert_true(has("Qual o PREÇO?", "preço"));
    assert_true(has("preço", "preço"));
    assert_true(has("preços, e o preço", "preço")); /* not the first, but the second */
    assert_false(has("preços", "preço"));
    assert_false(has("apreço", "preço"));
    assert_true(has("um  bom\ndia!", "bom dia"));
    assert_false(has("um bom dialogo", "bom dia"));
    assert_true(has("humano👍", "humano"));
    assert_true(has("“humano”…", "humano"));
    assert_false(has("humanoñ", "humano"));
    assert_false(has("humanoя", "humano")); /* a letter of another script is a letter */
    assert_true(has("isso 👍 sim", "👍"));
    assert_true(has("isso👍sim", "👍"));
    assert_true(has("c++ e java", "c++"));
    assert_true(has("c++11", "c++")); /* its end is no letter: no border is asked for */
    assert_false(has("xc++", "c++"));
    assert_false(has("qualquer", ""));
    assert_false(has("", "preço"));
    assert_true(has("a a a b", "a b"));
}

static void a_small_buffer_is_refused(void **state)
{
    (void)state;
    char buffer[3];
    size_t size = 99;
    assert_int_equal(fold_text(SLICE_LITERAL("abcd"), buffer, sizeof buffer, &size), ERR_LIMIT);
    assert_int_equal(size, 99);
    assert_int_equal(fold_text(slice_of(NULL, 0), buffer, 0, &size), OK);
    assert_int_equal(size, 0);
}

/* F1 and F2 over random texts: letters, accents, marks, blanks, emoji. */
static void folding_is_idempotent_and_never_longer(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (uint32_t round = 0; round < 20000; round++) {
        char text[64];
        size_t size = 0;
        while (size < sizeof text - 4) {
            random = random * UINT64_C(6364136223846793005) + 1;
            static const uint32_t ranges[][2] = {{0x20, 0x7E},     {0xA0, 0x17F},    {0x300, 0x36F},
                                                 {0x1E00, 0x1EFF}, {0x2000, 0x206F}, {0x1F600, 0x1F64F}};
            const uint32_t *range = ranges[(random >> 33) % 6];
            uint32_t code = range[0] + (uint32_t)((random >> 40) % (range[1] - range[0] + 1));
            if (code < 0x80) {
                text[size++] = (char)code;
            } else if (code < 0x800) {
                text[size++] = (char)(0xC0 | code >> 6);
                text[size++] = (char)(0x80 | (code & 63));
            } else {
                if (code >= 0x10000) {
                    text[size++] = (char)(0xF0 | code >> 18);
                    text[size++] = (char)(0x80 | (code >> 12 & 63));
                } else {
                    text[size++] = (char)(0xE0 | code >> 12);
                }
                text[size++] = (char)(0x80 | (code >> 6 & 63));
                text[size++] = (char)(0x80 | (code & 63));
            }
        }
        char once[64], twice[64];
        size_t once_size, twice_size;
        assert_int_equal(fold_text(slice_of(text, size), once, size, &once_size), OK);
        assert_true(once_size <= size);
        assert_int_equal(fold_text(slice_of(once, once_size), twice, sizeof twice, &twice_size), OK);
        assert_int_equal(once_size, twice_size);
        assert_memory_equal(once, twice, once_size);
        assert_true(once_size == 0 || fold_has_phrase(slice_of(once, once_size), slice_of(once, once_size)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_and_accents_vanish),
        cmocka_unit_test(composed_and_decomposed_meet),
        cmocka_unit_test(blanks_become_one),
        cmocka_unit_test(other_scripts_and_broken_bytes_pass),
        cmocka_unit_test(phrases_match_at_word_borders),
        cmocka_unit_test(a_small_buffer_is_refused),
        cmocka_unit_test(folding_is_idempotent_and_never_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
