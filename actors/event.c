/* SPDX-License-Identifier: Apache-2.0 */
/* Both encodings walk one table made from event_field.def, so that a new field is one line there and nothing here. Absent
 * fields (empty, zero) are not written; payload_hash is not for people and stays out of the JSON.
 *
 * In a record a field goes by its number, and time, trace and turn are written once for the run of events that share them,
 * an id only when it does not follow from the one before: a turn of three events takes 260 bytes instead of 630, which the
 * journal checksums, copies and flushes. */
#include "actors/event.h"

#include "actors/uuid.h"
#include "net/json.h"
#include "net/pack.h"
#include "runtime/assert.h"

enum { RECORD_FORMAT = 2, EVENT_PARTS = 2, EVENT_PARTS_WITH_ID = 3 };

enum field_kind { FIELD_KIND_TEXT, FIELD_KIND_NUMBER, FIELD_KIND_JSON };

struct field {
    struct slice name;
    enum field_kind kind;
    size_t offset;
};

/* The index is the number in records. */
static const struct field fields[] = {
#define FIELD(name, kind) {{#name, sizeof #name - 1}, FIELD_KIND_##kind, offsetof(struct event, name)},
    FIELD(time_ms, NUMBER) FIELD(trace_id, TEXT)
#include "actors/event_field.def"
#undef FIELD
};
enum { FIELD_COUNT = sizeof fields / sizeof *fields, PAYLOAD_FIELDS_BEGIN = 2 };

/* Written when it is not what the event before it in the record has, empty before the first. All others are written when they
 * are not empty. */
static bool is_carried(const struct field *field)
{
    return field->offset == offsetof(struct event, time_ms) || field->offset == offsetof(struct event, trace_id) ||
           field->offset == offsetof(struct event, turn_id);
}

static const struct {
    const char *name;
    bool is_said;
} types[EVENT_TYPE_COUNT] = {
    [EVENT_NONE] = {"none", false},
#define EVENT(name, text, is_said) [EVENT_##name] = {text, is_said},
#include "actors/event.def"
#undef EVENT
};

const char *event_type_name(enum event_type type)
{
    ASSERT(type < EVENT_TYPE_COUNT);
    return types[type].name;
}

bool event_type_is_said(enum event_type type)
{
    ASSERT(type < EVENT_TYPE_COUNT);
    return types[type].is_said;
}

static const struct slice *text_of(const struct event *event, const struct field *field)
{
    return (const struct slice *)(const void *)((const char *)event + field->offset);
}

static const uint64_t *number_of(const struct event *event, const struct field *field)
{
    return (const uint64_t *)(const void *)((const char *)event + field->offset);
}

static bool is_present(const struct event *event, const struct field *field)
{
    return field->kind == FIELD_KIND_NUMBER ? *number_of(event, field) != 0 : text_of(event, field)->size != 0;
}

/* ---- the record ------------------------------------------------------------------------------------------------------ */

static bool is_written(const struct event *event, const struct event *before, const struct field *field)
{
    if (!is_carried(field))
        return is_present(event, field);
    return field->kind == FIELD_KIND_NUMBER ? *number_of(event, field) != *number_of(before, field)
                                            : !slice_is_equal(*text_of(event, field), *text_of(before, field));
}

static void write_event(msgpack_packer *packer, const struct event *event, const struct event *before)
{
    ASSERT(event->type > EVENT_NONE && event->type < EVENT_TYPE_COUNT);
    uint8_t written[FIELD_COUNT];
    size_t count = 0;
    for (uint8_t f = 0; f < FIELD_COUNT; f++) {
        written[count] = f;
        count += is_written(event, before, &fields[f]);
    }
    uint8_t next_id[UUID_BYTES];
    uuid_next(before->event_id, next_id);
    bool has_id = memcmp(event->event_id, next_id, UUID_BYTES) != 0;
    msgpack_pack_array(packer, has_id ? EVENT_PARTS_WITH_ID : EVENT_PARTS);
    msgpack_pack_uint32(packer, event->type);
    if (has_id)
        pack_bytes(packer, event->event_id, UUID_BYTES);
    msgpack_pack_map(packer, count);
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[written[i]];
        msgpack_pack_uint8(packer, written[i]);
        if (field->kind == FIELD_KIND_NUMBER)
            msgpack_pack_uint64(packer, *number_of(event, field));
        else
            pack_text(packer, *text_of(event, field));
    }
}

void event_record_encode(struct buffer *out, const struct event *events, uint32_t count)
{
    static const struct event nothing;
    buffer_append_byte(out, RECORD_FORMAT);
    msgpack_packer packer;
    pack_init(&packer, out);
    msgpack_pack_array(&packer, count);
    for (uint32_t i = 0; i < count; i++)
        write_event(&packer, &events[i], i == 0 ? &nothing : &events[i - 1]);
}

/* `event` holds what is carried over from the one before it. */
static enum err read_event(struct pack_reader *reader, struct event *event)
{
    uint32_t parts = pack_read_array(reader);
    if (parts != EVENT_PARTS && parts != EVENT_PARTS_WITH_ID)
        return ERR_STORAGE_CORRUPT;
    uint64_t type = pack_read_number(reader);
    const uint8_t *event_id = parts == EVENT_PARTS_WITH_ID ? pack_read_bytes(reader, UUID_BYTES) : NULL;
    uint32_t pairs = pack_read_map(reader);
    while (pairs-- > 0 && !reader->is_failed) {
        uint64_t number = pack_read_number(reader);
        const struct field *field = number < FIELD_COUNT ? &fields[number] : NULL;
        if (!field)
            pack_skip(reader);
        else if (field->kind == FIELD_KIND_NUMBER)
            *(uint64_t *)(void *)((char *)event + field->offset) = pack_read_number(reader);
        else
            *(struct slice *)(void *)((char *)event + field->offset) = pack_read_text(reader);
    }
    if (reader->is_failed || type == EVENT_NONE)
        return ERR_STORAGE_CORRUPT;
    if (type >= EVENT_TYPE_COUNT)
        return ERR_STORAGE_FORMAT;
    event->type = (enum event_type)type;
    if (event_id)
        memcpy(event->event_id, event_id, UUID_BYTES);
    return OK;
}

enum err event_record_decode(struct slice data, uint64_t first_version,
                             enum err (*on_event)(void *context, const struct event *event), void *context)
{
    if (data.size == 0)
        return ERR_STORAGE_CORRUPT;
    if (data.data[0] != RECORD_FORMAT)
        return ERR_STORAGE_FORMAT;
    struct pack_reader reader = pack_reader_of(slice_of(data.data + 1, data.size - 1));
    uint32_t count = pack_read_array(&reader);
    if (count == 0)
        return ERR_STORAGE_CORRUPT;
    struct event before = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct event event = {.version = first_version + i,
                              .time_ms = before.time_ms,
                              .trace_id = before.trace_id,
                              .turn_id = before.turn_id};
        uuid_next(before.event_id, event.event_id);
        enum err code = read_event(&reader, &event);
        before = event;
        if (code == OK)
            code = on_event(context, &event);
        if (code != OK)
            return code;
    }
    return pack_reader_is_done(&reader) ? OK : ERR_STORAGE_CORRUPT;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------ */

/* Days to civil date: 400-year eras that begin on 1 March, so that the leap day is the last of its year. */
void event_write_time(struct buffer *out, uint64_t wall_ms)
{
    uint64_t days = wall_ms / 86400000 + 719468;
    uint64_t era = days / 146097, day_of_era = days % 146097;
    uint64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t march_month = (5 * day_of_year + 2) / 153;
    unsigned day = (unsigned)(day_of_year - (153 * march_month + 2) / 5 + 1);
    unsigned month = (unsigned)(march_month < 10 ? march_month + 3 : march_month - 9);
    unsigned year = (unsigned)(year_of_era + era * 400 + (month <= 2));
    unsigned ms = (unsigned)(wall_ms % 86400000);
    buffer_append_format(out, "\"%04u-%02u-%02uT%02u:%02u:%02u.%03uZ\"", year, month, day, ms / 3600000, ms / 60000 % 60,
                         ms / 1000 % 60, ms % 1000);
}

/* Validated JSON without the blanks between its tokens: a line break in it would break an SSE frame. */
static void write_compact(struct buffer *out, struct slice json)
{
    bool is_string = false;
    size_t begin = 0;
    for (size_t i = 0; i < json.size; i++) {
        char c = json.data[i];
        if (is_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                is_string = false;
        } else if (c == '"') {
            is_string = true;
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            buffer_append(out, json.data + begin, i - begin);
            begin = i + 1;
        }
    }
    buffer_append(out, json.data + begin, json.size - begin);
}

static void write_text_or_null(struct buffer *out, struct slice text)
{
    if (text.size)
        json_write_string(out, text);
    else
        buffer_append_text(out, "null");
}

static void write_payload(struct buffer *out, const struct event *event)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    for (size_t f = PAYLOAD_FIELDS_BEGIN; f < FIELD_COUNT; f++) {
        const struct field *field = &fields[f];
        if (!is_present(event, field) || field->offset == offsetof(struct event, payload_hash))
            continue;
        json_write_key(out, field->name.data, &is_first);
        switch (field->kind) {
        case FIELD_KIND_TEXT: json_write_string(out, *text_of(event, field)); break;
        case FIELD_KIND_NUMBER: json_write_unsigned(out, *number_of(event, field)); break;
        case FIELD_KIND_JSON: write_compact(out, *text_of(event, field)); break;
        }
    }
    buffer_append_byte(out, '}');
}

void event_write_json(struct buffer *out, const struct event *event, const struct event_envelope *envelope)
{
    char event_id[UUID_TEXT_BYTES];
    uuid_format(event->event_id, event_id);
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "event", &is_first);
    json_write_string(out, slice_from_text(event_type_name(event->type)));
    json_write_key(out, "event_id", &is_first);
    json_write_string(out, slice_of(event_id, sizeof event_id));
    json_write_key(out, "trace_id", &is_first);
    write_text_or_null(out, event->trace_id);
    json_write_key(out, "tenant_id", &is_first);
    json_write_string(out, envelope->tenant);
    json_write_key(out, "conversation_id", &is_first);
    json_write_string(out, envelope->conversation);
    json_write_key(out, "customer_id", &is_first);
    write_text_or_null(out, envelope->customer_id);
    json_write_key(out, "idempotency_key", &is_first);
    write_text_or_null(out, event->message_id);
    json_write_key(out, "timestamp", &is_first);
    event_write_time(out, event->time_ms);
    json_write_key(out, "version", &is_first);
    json_write_unsigned(out, event->version);
    json_write_key(out, "payload", &is_first);
    write_payload(out, event);
    buffer_append_byte(out, '}');
}
