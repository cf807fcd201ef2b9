/* SPDX-License-Identifier: Apache-2.0 */
/* error: the table is complete, and a text keeps its front whatever is put before or after it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/error.h"

static void every_code_has_name_and_text(void **state)
{
    (void)state;
    for (int code = 0; code < ERR_COUNT; code++) {
        assert_true(strlen(err_name((enum err)code)) > 0);
        assert_true(strlen(err_text((enum err)code)) > 0);
    }
    assert_string_equal(err_name(ERR_MAILBOX_FULL), "ERR_MAILBOX_FULL");
    assert_true(err_may_retry(ERR_MAILBOX_FULL));
    assert_false(err_may_retry(ERR_INVALID));
}

static void layers_prefix_what_they_were_doing(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(error_set_errno(&error, ERR_SYSTEM, ENOMEM, "map %d MiB", 8), ERR_SYSTEM);
    assert_string_equal(error.text, "map 8 MiB: Cannot allocate memory");
    assert_int_equal(error.os_errno, ENOMEM);
    assert_non_null(strstr(error.file, "error_test.c"));
    assert_true(error.line > 0);
    assert_int_equal(error_prefix(&error, "start worker %d", 3), ERR_SYSTEM);
    assert_string_equal(error.text, "start worker 3: map 8 MiB: Cannot allocate memory");
}

static void setting_again_forgets_the_former(void **state)
{
    (void)state;
    struct error error;
    (void)error_set_errno(&error, ERR_SYSTEM, EIO, "first");
    assert_int_equal(error_set(&error, ERR_LIMIT, "second"), ERR_LIMIT);
    assert_string_equal(error.text, "second");
    assert_int_equal(error.os_errno, 0);
}

static void nobody_listening_costs_nothing(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ERR_LIMIT, "unheard"), ERR_LIMIT);
    assert_int_equal(error_prefix(NULL, "unheard"), ERR_SYSTEM);
}

static void long_text_is_cut_with_a_mark(void **state)
{
    (void)state;
    struct error error;
    char text[2 * sizeof error.text];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    (void)error_set(&error, ERR_INVALID, "%s", text);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    assert_string_equal(error.text + sizeof error.text - 4, "...");
    (void)error_prefix(&error, "front");
    assert_memory_equal(error.text, "front: xxx", 10);
    assert_string_equal(error.text + sizeof error.text - 4, "...");
    /* Exactly full is not cut; the errno's text then is. */
    text[sizeof error.text - 1] = '\0';
    (void)error_set(&error, ERR_INVALID, "%s", text);
    assert_string_equal(error.text, text);
    (void)error_set_errno(&error, ERR_INVALID, EIO, "%s", text);
    assert_string_equal(error.text + sizeof error.text - 4, "...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_name_and_text),     cmocka_unit_test(layers_prefix_what_they_were_doing),
        cmocka_unit_test(setting_again_forgets_the_former), cmocka_unit_test(nobody_listening_costs_nothing),
        cmocka_unit_test(long_text_is_cut_with_a_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
