/* SPDX-License-Identifier: Apache-2.0 */
/* Reading params costs in proportion to their bytes, whatever they hold, and says of a mistake what a reader can print. The
 * bytes that are passed over are counted where they are: in pack_skip, wrapped by the linker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "actors/rpc/rpc_params.h"
#include "net/pack.h"
#include "net/utf8.h"

enum { METADATA = RPC_FIELD(MESSAGE_METADATA) };

static size_t skipped_bytes;

void __real_pack_skip(struct pack_reader *reader);
void __wrap_pack_skip(struct pack_reader *reader);
void __wrap_pack_skip(struct pack_reader *reader)
{
    const uint8_t *before = reader->at;
    __real_pack_skip(reader);
    skipped_bytes += (size_t)(reader->at - before);
}

static struct buffer params, metadata;
static struct problem problem;

/* [{"metadata": <what the test packs next>}] */
static void begin(msgpack_packer *packer)
{
    buffer_clear(&params);
    pack_init(packer, &params);
    msgpack_pack_array(packer, 1);
    msgpack_pack_map(packer, 1);
    pack_text(packer, SLICE_LITERAL("metadata"));
}

static void pack_key(msgpack_packer *packer, uint32_t number)
{
    const char key[] = {'k', (char)('a' + number / 26 % 26), (char)('a' + number % 26)};
    pack_text(packer, slice_of(key, sizeof key));
}

static bool read_params(void)
{
    struct rpc_params read;
    skipped_bytes = 0;
    return rpc_params_read(buffer_slice(&params), METADATA, &metadata, &read, &problem);
}

/* A value of any size before many keys: passed over once, not once a key. */
static void passing_over_costs_no_more_than_the_bytes_there_are(void **state)
{
    (void)state;
    enum { PAIRS = 600 };
    static const size_t elements[] = {500, 5000, 500000};
    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++) {
        msgpack_packer packer;
        begin(&packer);
        msgpack_pack_map(&packer, PAIRS);
        for (uint32_t pair = 0; pair < PAIRS; pair++) {
            pack_key(&packer, pair);
            if (pair > 0) {
                pack_text(&packer, SLICE_LITERAL("v"));
                continue;
            }
            msgpack_pack_array(&packer, elements[i]);
            for (size_t element = 0; element < elements[i]; element++)
                msgpack_pack_nil(&packer);
        }
        assert_false(read_params());
        assert_true(problem.error_count > 0);
        assert_true(skipped_bytes <= 2 * params.size);
    }
}

static void reading_goes_on_behind_metadata_that_was_refused(void **state)
{
    (void)state;
    msgpack_packer packer;
    buffer_clear(&params);
    pack_init(&packer, &params);
    msgpack_pack_array(&packer, 1);
    msgpack_pack_map(&packer, 2);
    pack_text(&packer, SLICE_LITERAL("metadata"));
    msgpack_pack_map(&packer, 2);
    msgpack_pack_int(&packer, 1);
    msgpack_pack_array(&packer, 0);
    pack_text(&packer, SLICE_LITERAL("text")); /* within it: no field */
    msgpack_pack_int(&packer, 2);
    pack_text(&packer, SLICE_LITERAL("nonsense"));
    msgpack_pack_map(&packer, 0);
    assert_false(read_params());
    assert_int_equal(problem.error_count, 2);
    assert_string_equal(problem.errors[0].detail, "a key must be a string");
    assert_string_equal(problem.errors[1].pointer, "/nonsense");
}

/* However long a key is, what is said of it is UTF-8. */
static void a_doubled_key_is_repeated_only_when_it_is_short(void **state)
{
    (void)state;
    for (size_t size = 2; size <= 400; size += 2) {
        char key[400];
        for (size_t i = 0; i < size; i += 2)
            memcpy(key + i, "\xc3\xa9", 2);
        msgpack_packer packer;
        begin(&packer);
        msgpack_pack_map(&packer, 2);
        for (int i = 0; i < 2; i++) {
            pack_text(&packer, slice_of(key, size));
            pack_text(&packer, SLICE_LITERAL("v"));
        }
        assert_false(read_params());
        const char *detail = problem.errors[0].detail;
        assert_non_null(strstr(detail, "is there twice"));
        for (size_t at = 0, end = strlen(detail); at < end;) {
            size_t sequence = utf8_sequence_size(detail + at, end - at);
            assert_true(sequence > 0);
            at += sequence;
        }
    }
}

static int set_up(void **state)
{
    (void)state;
    buffer_init(&params, 1 << 20);
    buffer_init(&metadata, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buffer_deinit(&params);
    buffer_deinit(&metadata);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passing_over_costs_no_more_than_the_bytes_there_are),
        cmocka_unit_test(reading_goes_on_behind_metadata_that_was_refused),
        cmocka_unit_test(a_doubled_key_is_repeated_only_when_it_is_short),
    };
    return cmocka_run_group_tests_name("rpc_params", tests, set_up, tear_down);
}
