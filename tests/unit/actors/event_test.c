/* SPDX-License-Identifier: Apache-2.0 */
/* The record's bytes and the envelope; and the small parts that they stand on: hash, uuid, pack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/event.h"
#include "actors/hash.h"
#include "actors/uuid.h"
#include "net/json.h"
#include "net/pack.h"
#include "runtime/clock.h"
#include "tests/unit/actors/golden.h"

/* One event of each type, every field set in the first. */
static uint32_t make_events(struct event events[EVENT_TYPE_COUNT])
{
    for (int type = 1; type < EVENT_TYPE_COUNT; type++) {
        struct event *event = &events[type - 1];
        *event = (struct event){.type = (enum event_type)type,
                                .version = (uint64_t)(40 + type),
                                .time_ms = 1790000000123 + (uint64_t)type,
                                .trace_id = SLICE_LITERAL("4bf92f3577b34da6a3ce929d0e0e4736"),
                                .turn_id = SLICE_LITERAL("01920000-0000-7000-8000-0000000000aa")};
        for (int i = 0; i < UUID_BYTES; i++)
            event->event_id[i] = (uint8_t)(type * 16 + i);
        if (type % 3 == 0)
            uuid_next(events[type - 2].event_id, event->event_id);
    }
    struct event *full = &events[0];
    uint64_t number = 1;
#define FILL_TEXT(name) full->name = SLICE_LITERAL(#name " ção");
#define FILL_NUMBER(name) full->name = number *= 37;
#define FILL_JSON(name) full->name = SLICE_LITERAL("{ \"k\" : \"a b\\\" c\",\n\t\"n\" : [1, 2] }");
#define FIELD(name, kind) FILL_##kind(name)
#include "actors/event_field.def"
#undef FIELD
    return EVENT_TYPE_COUNT - 1;
}

struct check {
    const struct event *events;
    uint32_t count;
};

static void assert_same_text(struct slice a, struct slice b)
{
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
}

static enum err check_event(void *context, const struct event *event)
{
    struct check *check = context;
    const struct event *expected = &check->events[check->count++];
    assert_int_equal(event->type, expected->type);
    assert_int_equal(event->version, expected->version);
    assert_int_equal(event->time_ms, expected->time_ms);
    assert_memory_equal(event->event_id, expected->event_id, UUID_BYTES);
    assert_same_text(event->trace_id, expected->trace_id);
#define SAME_TEXT(name) assert_same_text(event->name, expected->name);
#define SAME_NUMBER(name) assert_int_equal(event->name, expected->name);
#define SAME_JSON(name) SAME_TEXT(name)
#define FIELD(name, kind) SAME_##kind(name)
#include "actors/event_field.def"
#undef FIELD
    return OK;
}

static enum err ignore_event(void *context, const struct event *event)
{
    (void)context;
    (void)event;
    return OK;
}

static struct buffer encode(const struct event *events, uint32_t count)
{
    struct buffer record;
    buffer_init(&record, 1 << 20);
    event_record_encode(&record, events, count);
    assert_false(record.is_overflow);
    return record;
}

static void a_record_reads_back_as_it_was_written(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    uint32_t count = make_events(events);
    struct buffer record = encode(events, count);
    struct check check = {.events = events};
    assert_int_equal(event_record_decode(buffer_slice(&record), 41, check_event, &check), OK);
    assert_int_equal(check.count, count);
    buffer_deinit(&record);
}

static void the_format_is_the_golden_one(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    uint32_t count = make_events(events);
    struct buffer record = encode(events, count);
    golden_check("record-2.hex", buffer_slice(&record));
    buffer_deinit(&record);
}

static void what_events_share_is_written_once_and_what_changes_between_them_is_kept(void **state)
{
    (void)state;
    struct event events[4];
    for (int i = 0; i < 4; i++)
        events[i] = (struct event){.type = EVENT_CONVERSATION_RESUMED, .version = (uint64_t)(1 + i)};
    events[1].time_ms = events[2].time_ms = 5;
    events[1].trace_id = events[2].trace_id = SLICE_LITERAL("trace");
    uuid_create(1790000000123, events[0].event_id);
    uuid_next(events[0].event_id, events[1].event_id);
    uuid_create(1790000000123, events[2].event_id);
    uuid_next(events[2].event_id, events[3].event_id);
    events[1].turn_id = events[2].turn_id = SLICE_LITERAL("turn"); /* the last one has none again */
    struct buffer record = encode(events, 4);
    struct check check = {.events = events};
    assert_int_equal(event_record_decode(buffer_slice(&record), 1, check_event, &check), OK);
    assert_int_equal(check.count, 4);
    assert_null(memmem(record.data, record.size, events[1].event_id, UUID_BYTES));
    char *first = memmem(record.data, record.size, "trace", 5);
    assert_non_null(first);
    assert_null(memmem(first + 1, record.size - (size_t)(first + 1 - record.data), "trace", 5));
    buffer_deinit(&record);
}

static void a_record_of_another_format_is_named_as_such(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    struct buffer record = encode(events, make_events(events));
    for (int format = 0; format < 256; format++) {
        record.data[0] = (char)format;
        assert_int_equal(event_record_decode(buffer_slice(&record), 1, ignore_event, NULL),
                         format == 2 ? OK : ERR_STORAGE_FORMAT);
    }
    buffer_deinit(&record);
}

static void every_truncation_and_trailing_byte_is_refused(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    struct buffer record = encode(events, make_events(events));
    for (size_t size = 0; size < record.size; size++) {
        char *cut = malloc(size ? size : 1); /* so that reading beyond is seen */
        assert_non_null(cut);
        memcpy(cut, record.data, size);
        assert_int_equal(event_record_decode(slice_of(cut, size), 1, ignore_event, NULL), ERR_STORAGE_CORRUPT);
        free(cut);
    }
    buffer_append_byte(&record, 0);
    assert_int_equal(event_record_decode(buffer_slice(&record), 1, ignore_event, NULL), ERR_STORAGE_CORRUPT);
    buffer_deinit(&record);
}

static void every_flipped_bit_is_survived(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    struct buffer record = encode(events, make_events(events));
    for (size_t bit = 0; bit < record.size * 8; bit++) {
        record.data[bit / 8] = (char)(record.data[bit / 8] ^ (1 << bit % 8));
        enum err code = event_record_decode(buffer_slice(&record), 1, ignore_event, NULL);
        assert_true(code == OK || code == ERR_STORAGE_CORRUPT || code == ERR_STORAGE_FORMAT);
        record.data[bit / 8] = (char)(record.data[bit / 8] ^ (1 << bit % 8));
    }
    buffer_deinit(&record);
}

static void what_a_newer_build_wrote_is_named_so(void **state)
{
    (void)state;
    /* [[type 99, id, {}]] */
    static const char unknown_type[] = "\2\x91\x93\x63\xC4\x10"
                                       "0123456789abcdef"
                                       "\x80";
    assert_int_equal(event_record_decode(slice_of(unknown_type, sizeof unknown_type - 1), 1, ignore_event, NULL),
                     ERR_STORAGE_FORMAT);
    /* an unknown field, with a nested value, is passed over; 7 is text */
    static const char unknown_field[] = "\2\x91\x93\1\xC4\x10"
                                        "0123456789abcdef"
                                        "\x82"
                                        "\x7F\x92\xC0\x81\xA1x\xCB\0\0\0\0\0\0\0\0"
                                        "\7\xA2hi";
    struct event expected = {.type = EVENT_INBOX_MESSAGE_RECEIVED, .version = 1, .text = SLICE_LITERAL("hi")};
    memcpy(expected.event_id, "0123456789abcdef", UUID_BYTES);
    struct check check = {.events = &expected};
    assert_int_equal(event_record_decode(slice_of(unknown_field, sizeof unknown_field - 1), 1, check_event, &check), OK);
    assert_int_equal(check.count, 1);
}

static void lying_lengths_cost_nothing(void **state)
{
    (void)state;
    static const struct slice lies[] = {
        {"\2\xDD\xFF\xFF\xFF\xFF", 6},           /* 2^32 events */
        {"\2\x91\xDD\xFF\xFF\xFF\xFF", 7},       /* 2^32 parts */
        {"\2\x91\x93\1\xC6\xFF\xFF\xFF\xFF", 9}, /* an id of 4 GiB */
        {"\2\x91\x93\1\xC4\x10"
         "0123456789abcdef\xDF\xFF\xFF\xFF\xFF",
         27},
        {"\2\x91\x93\1\xC4\x10"
         "0123456789abcdef\x81\1\xDB\xFF\xFF\xFF\xFF",
         29},
        {"\2\x91\x93\1\xC4\x10"
         "0123456789abcdef\x81\x7F\xDD\xFF\xFF\xFF\xFF",
         29},
        {"\2\x90", 2}, /* no event at all */
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        assert_int_equal(event_record_decode(lies[i], 1, ignore_event, NULL), ERR_STORAGE_CORRUPT);
    char deep[4096]; /* nesting is a debt, not a stack */
    memset(deep, '\x91', sizeof deep);
    memcpy(deep,
           "\2\x91\x93\1\xC4\x10"
           "0123456789abcdef\x81\x7F",
           24);
    assert_int_equal(event_record_decode(slice_of(deep, sizeof deep), 1, ignore_event, NULL), ERR_STORAGE_CORRUPT);
}

static enum err stop_at_second(void *context, const struct event *event)
{
    (void)context;
    return event->version == 2 ? ERR_BUSY : OK;
}

static void the_readers_refusal_ends_the_reading(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    struct buffer record = encode(events, make_events(events));
    assert_int_equal(event_record_decode(buffer_slice(&record), 1, stop_at_second, NULL), ERR_BUSY);
    buffer_deinit(&record);
}

static void envelopes_are_json_on_one_line(void **state)
{
    (void)state;
    struct event events[EVENT_TYPE_COUNT];
    make_events(events);
    struct buffer json;
    buffer_init(&json, 1 << 16);
    const struct event_envelope envelope = {.tenant = SLICE_LITERAL("default"), .conversation = SLICE_LITERAL("c-1")};
    events[0].text = SLICE_LITERAL("line\r\nbreak \xE2\x80\xA8 \x1B[0m \"quote\"");
    event_write_json(&json, &events[0], &envelope);
    assert_false(json.is_overflow);
    assert_null(memchr(json.data, '\n', json.size));
    assert_null(memmem(json.data, json.size, "payload_hash", 12));
    struct json_value root, value;
    struct json_problem problem;
    assert_int_equal(json_validate(buffer_slice(&json), &root, &problem), OK);
    static const char *const keys[] = {"event",       "event_id",        "trace_id",  "tenant_id", "conversation_id",
                                       "customer_id", "idempotency_key", "timestamp", "version",   "payload"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_true(json_find(root, keys[i], &value));
    assert_true(json_find(root, "customer_id", &value) && value.type == JSON_NULL);
    assert_true(json_find(root, "idempotency_key", &value));
    assert_true(slice_has_text(value.raw, "\"message_id ção\""));
    assert_true(json_find(root, "timestamp", &value));
    assert_true(slice_has_text(value.raw, "\"2026-09-21T14:13:20.124Z\""));
    assert_true(json_find(root, "payload", &value) && json_find(value, "metadata", &value));
    assert_true(slice_has_text(value.raw, "{\"k\":\"a b\\\" c\",\"n\":[1,2]}"));
    buffer_deinit(&json);
}

static void times_are_right_around_leap_days(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{0, "\"1970-01-01T00:00:00.000Z\""},
                 {951782400000, "\"2000-02-29T00:00:00.000Z\""},
                 {951868799999, "\"2000-02-29T23:59:59.999Z\""},
                 {4107542400000, "\"2100-03-01T00:00:00.000Z\""},
                 {4107542399000, "\"2100-02-28T23:59:59.000Z\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out;
        buffer_init(&out, 64);
        event_write_time(&out, cases[i].ms);
        assert_true(slice_has_text(buffer_slice(&out), cases[i].text));
        buffer_deinit(&out);
    }
}

static void siphash_gives_the_published_vectors(void **state)
{
    (void)state;
    /* SipHash-2-4-128 of 0, 1, 2 bytes 00 01 ..., key 00..0f: the reference implementation's first vectors. */
    const struct hash128 key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    static const struct hash128 expected[] = {{0xe6a825ba047f81a3, 0x930255c71472f66d},
                                              {0x44af996bd8c187da, 0x45fc229b11597634},
                                              {0xc75da4a48d227781, 0xe4ff0af6de8ba3fc}};
    for (size_t size = 0; size < 3; size++)
        assert_true(hash128_is_equal(hash_bytes(slice_of("\0\1\2", size), key), expected[size]));
    assert_false(
        hash128_is_equal(hash_bytes(SLICE_LITERAL("12345678"), key), hash_bytes(SLICE_LITERAL("12345678\0"), key)));
}

static void uuids_are_version_7_and_read_back(void **state)
{
    (void)state;
    uint8_t uuid[UUID_BYTES], read[UUID_BYTES];
    char text[UUID_TEXT_BYTES];
    uuid_create(0x0123456789AB, uuid);
    uuid_format(uuid, text);
    assert_memory_equal(text, "01234567-89ab-7", 15);
    assert_true(strchr("89ab", text[19]) != NULL);
    assert_true(uuid_parse(slice_of(text, sizeof text), read));
    assert_memory_equal(uuid, read, UUID_BYTES);
    uint8_t last[UUID_BYTES], rolled[UUID_BYTES], other[UUID_BYTES];
    memset(last, 0xFF, sizeof last);
    last[8] = 0xBF;
    uuid_next(last, rolled); /* the tail rolls over into itself, version and variant stay */
    for (int i = 0; i < UUID_BYTES; i++)
        assert_int_equal(rolled[i], i < 8 ? 0xFF : i == 8 ? 0x80 : 0);
    uuid_next(rolled, other);
    assert_int_equal(other[15], 1);
    uuid_create(0x0123456789AB, other);
    assert_memory_not_equal(uuid, other, UUID_BYTES);
    assert_false(uuid_parse(slice_of(text, 35), read));
    assert_false(uuid_parse(SLICE_LITERAL("0123456789abcdef0123456789abcdef0123"), read));
    assert_false(uuid_parse(SLICE_LITERAL("0192000g-0000-7000-8000-000000000000"), read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_reads_back_as_it_was_written),
        cmocka_unit_test(the_format_is_the_golden_one),
        cmocka_unit_test(what_events_share_is_written_once_and_what_changes_between_them_is_kept),
        cmocka_unit_test(a_record_of_another_format_is_named_as_such),
        cmocka_unit_test(every_truncation_and_trailing_byte_is_refused),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(what_a_newer_build_wrote_is_named_so),
        cmocka_unit_test(lying_lengths_cost_nothing),
        cmocka_unit_test(the_readers_refusal_ends_the_reading),
        cmocka_unit_test(envelopes_are_json_on_one_line),
        cmocka_unit_test(times_are_right_around_leap_days),
        cmocka_unit_test(siphash_gives_the_published_vectors),
        cmocka_unit_test(uuids_are_version_7_and_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
