/* SPDX-License-Identifier: Apache-2.0 */
/* One function an event type, chosen by one switch; then the snapshot, written and read in one order. */
#include "actors/conversation_state.h"

#include <stdlib.h>

#include "net/pack.h"
#include "net/json.h"
#include "runtime/assert.h"
#include "runtime/planted.h"

void conversation_state_init(struct conversation_state *state, const struct conversation_limits *limits)
{
    *state = (struct conversation_state){.limits = *limits};
    state->turns_end = &state->turns;
    dedup_init(&state->dedup, limits->dedup_messages);
}

void conversation_state_deinit(struct conversation_state *state)
{
    while (state->turns) {
        struct conversation_turn *turn = state->turns;
        state->turns = turn->next;
        free(turn);
    }
    free((void *)(uintptr_t)state->customer_id.data);
    free((void *)(uintptr_t)state->channel.data);
    history_deinit(&state->history);
    dedup_deinit(&state->dedup);
    *state = (struct conversation_state){0};
}

/* ---- small parts ------------------------------------------------------------------------------------------------------- */

const char *conversation_status_name(enum conversation_status status)
{
    switch (status) {
    case CONVERSATION_ACTIVE: return "active";
    case CONVERSATION_WAITING_HUMAN: return "waiting_human";
    case CONVERSATION_PARKED: return "parked";
    case CONVERSATION_CLOSED: return "closed";
    }
    return "";
}

bool conversation_owner_is_agent(struct slice owner)
{
    return owner.size > 6 && memcmp(owner.data, "agent:", 6) == 0;
}

struct slice conversation_state_owner(const struct conversation_state *state)
{
    return slice_from_text(state->owner);
}

struct slice agent_name_slice(const struct agent_name *name)
{
    return slice_of(name->text, name->size);
}

static bool agent_name_set(struct agent_name *name, struct slice text)
{
    if (text.size > sizeof name->text)
        return false;
    name->size = (uint8_t)text.size;
    if (text.size)
        memcpy(name->text, text.data, text.size);
    return true;
}

static bool owner_set(struct conversation_state *state, struct slice owner)
{
    if (owner.size == 0 || owner.size > JOURNAL_OWNER_BYTES_MAX || memchr(owner.data, 0, owner.size))
        return false;
    memcpy(state->owner, owner.data, owner.size);
    state->owner[owner.size] = 0;
    return true;
}

static enum conversation_status status_by_owner(const struct conversation_state *state)
{
    return conversation_owner_is_agent(conversation_state_owner(state)) ? CONVERSATION_ACTIVE
                                                                        : CONVERSATION_WAITING_HUMAN;
}

/* Replaces an owned text; an empty one changes nothing. */
static enum err text_set(struct slice *owned, struct slice text)
{
    if (text.size == 0 || slice_is_equal(*owned, text))
        return OK;
    char *copy = malloc(text.size);
    if (!copy)
        return ERR_NO_MEMORY;
    memcpy(copy, text.data, text.size);
    free((void *)(uintptr_t)owned->data);
    *owned = slice_of(copy, text.size);
    return OK;
}

static enum err remember(struct conversation_state *state, enum speaker speaker, struct slice text)
{
    return history_push(&state->history, speaker, text, state->limits.history_messages, state->limits.history_bytes);
}

static struct slice place(char **at, struct slice text)
{
    char *begin = *at;
    if (text.size)
        memcpy(begin, text.data, text.size);
    *at += text.size;
    return slice_of(begin, text.size);
}

static struct conversation_turn *turn_create(struct slice message_id, struct slice trace_id, struct slice requested_agent,
                                             struct slice text)
{
    struct conversation_turn *turn =
        malloc(sizeof *turn + message_id.size + trace_id.size + requested_agent.size + text.size);
    if (!turn)
        return NULL;
    *turn = (struct conversation_turn){0};
    char *at = (char *)(turn + 1);
    turn->message_id = place(&at, message_id);
    turn->trace_id = place(&at, trace_id);
    turn->requested_agent = place(&at, requested_agent);
    turn->text = place(&at, text);
    return turn;
}

static void turn_append(struct conversation_state *state, struct conversation_turn *turn)
{
    struct conversation_turn **link =
        PLANTED(QUEUE_OUT_OF_ORDER) && state->turns ? &state->turns->next : state->turns_end;
    turn->next = *link;
    *link = turn;
    if (!turn->next)
        state->turns_end = &turn->next;
    state->turn_count++;
}

/* ---- the fold ---------------------------------------------------------------------------------------------------------- */

static enum err note_message(struct conversation_state *state, const struct event *event, struct dedup_entry *ret_entry)
{
    *ret_entry = (struct dedup_entry){.message = dedup_message_hash(event->message_id),
                                      .payload_hash = event->payload_hash,
                                      .received_version = event->version};
    if (event->message_id.size == 0 || !uuid_parse(event->turn_id, ret_entry->turn_id))
        return ERR_STORAGE_CORRUPT;
    state->messages++;
    return dedup_add(&state->dedup, ret_entry);
}

static enum err apply_received(struct conversation_state *state, const struct event *event)
{
    struct dedup_entry entry;
    enum err code = note_message(state, event, &entry);
    if (code == OK)
        code = text_set(&state->customer_id, event->customer_id);
    if (code == OK)
        code = text_set(&state->channel, event->channel);
    if (code != OK)
        return code;
    if (state->owner[0] == 0) {
        if (!owner_set(state, event->owner))
            return ERR_STORAGE_CORRUPT;
        state->epoch = 1;
    }
    struct conversation_turn *turn = turn_create(event->message_id, event->trace_id, event->agent, event->text);
    if (!turn)
        return ERR_NO_MEMORY;
    memcpy(turn->id, entry.turn_id, UUID_BYTES);
    turn->received_version = event->version;
    turn->received_ms = event->time_ms;
    turn_append(state, turn);
    return state->turns == turn ? remember(state, SPEAKER_CUSTOMER, turn->text) : OK;
}

static enum err apply_human_message(struct conversation_state *state, const struct event *event)
{
    struct dedup_entry entry;
    enum err code = note_message(state, event, &entry);
    return code == OK ? remember(state, SPEAKER_HUMAN, event->text) : code;
}

static enum err apply_response(struct conversation_state *state, const struct event *event)
{
    state->messages++;
    state->input_tokens += event->input_tokens;
    state->output_tokens += event->output_tokens;
    if (state->turns)
        state->turns->is_intent_open = false;
    return remember(state, SPEAKER_AGENT, event->text);
}

/* The first turn, if it is the event's: effects happen for no other (S2). */
static struct conversation_turn *first_turn(const struct conversation_state *state, const struct event *event)
{
    uint8_t id[UUID_BYTES];
    bool is_it = state->turns && uuid_parse(event->turn_id, id) && memcmp(id, state->turns->id, UUID_BYTES) == 0;
    return is_it ? state->turns : NULL;
}

static enum err apply_started(struct conversation_state *state, const struct event *event)
{
    struct conversation_turn *turn = first_turn(state, event);
    if (!turn || turn->is_intent_open || event->agent.size == 0)
        return ERR_STORAGE_CORRUPT;
    if (!slice_is_equal(agent_name_slice(&turn->agent), event->agent) || turn->fallback != event->fallback)
        turn->failures = 0;
    if (!agent_name_set(&turn->agent, event->agent))
        return ERR_STORAGE_CORRUPT;
    if (turn->primary.size == 0 && !agent_name_set(&turn->primary, event->from.size ? event->from : event->agent))
        return ERR_STORAGE_CORRUPT;
    turn->fallback = (uint32_t)event->fallback;
    turn->attempts++;
    turn->is_intent_open = true;
    return OK;
}

static enum err apply_attempt_failed(struct conversation_state *state, const struct event *event)
{
    struct conversation_turn *turn = first_turn(state, event);
    if (!turn || !turn->is_intent_open)
        return ERR_STORAGE_CORRUPT;
    turn->is_intent_open = false;
    if (slice_has_text(event->error, "interrupted"))
        turn->interruptions++;
    else
        turn->failures++;
    return OK;
}

static enum err apply_owner(struct conversation_state *state, const struct event *event)
{
    if (event->epoch != state->epoch + 1 || !owner_set(state, event->owner))
        return ERR_STORAGE_CORRUPT;
    state->epoch = event->epoch;
    if (state->turns) { /* whoever worked on it speaks no more; the turn goes on with the new owner */
        state->turns->agent.size = state->turns->primary.size = 0;
        state->turns->fallback = 0;
    }
    if (state->status == CONVERSATION_ACTIVE || state->status == CONVERSATION_WAITING_HUMAN)
        state->status = status_by_owner(state);
    return OK;
}

static enum err apply_turn_end(struct conversation_state *state, const struct event *event)
{
    uint8_t id[UUID_BYTES];
    if (!uuid_parse(event->turn_id, id))
        return ERR_STORAGE_CORRUPT;
    struct dedup_entry *entry = dedup_find_turn(&state->dedup, id);
    if (entry)
        entry->finished_version = event->version;
    state->turns_ended++;

    struct conversation_turn **link = &state->turns;
    while (*link && memcmp((*link)->id, id, UUID_BYTES) != 0)
        link = &(*link)->next;
    struct conversation_turn *turn = *link;
    if (!turn) /* a human's message: it never waited */
        return OK;
    bool was_first = turn == state->turns;
    *link = turn->next;
    if (!*link)
        state->turns_end = link;
    state->turn_count--;
    free(turn);

    enum err code = OK;
    if (was_first && event->type == EVENT_TURN_CANCELLED && event->text.size)
        code = remember(state, SPEAKER_AGENT, event->text); /* the part that the customer has seen */
    if (code == OK && was_first && state->turns)
        code = remember(state, SPEAKER_CUSTOMER, state->turns->text);
    return code;
}

enum err conversation_state_apply(struct conversation_state *state, const struct event *event)
{
    if (event->version != state->version + 1)
        return ERR_STORAGE_CORRUPT;
    state->version = event->version;
    state->updated_ms = event->time_ms;
    if (event->version == 1)
        state->created_ms = event->time_ms;

    switch (event->type) {
    case EVENT_INBOX_MESSAGE_RECEIVED: return apply_received(state, event);
    case EVENT_AGENT_HUMAN_MESSAGE_SENT: return apply_human_message(state, event);
    case EVENT_AGENT_RESPONSE_GENERATED:
    case EVENT_AGENT_AI_RESPONSE_GENERATED: return apply_response(state, event);
    case EVENT_AGENT_AI_REQUEST_STARTED: return apply_started(state, event);
    case EVENT_AGENT_AI_REQUEST_FAILED: return apply_attempt_failed(state, event);
    case EVENT_ROUTING_HANDOFF_REQUESTED: return OK;
    case EVENT_ROUTING_HANDOFF_COMPLETED: return apply_owner(state, event);
    case EVENT_TURN_COMPLETED:
    case EVENT_TURN_FAILED:
    case EVENT_TURN_CANCELLED: return apply_turn_end(state, event);
    case EVENT_MESSAGE_DEAD_LETTERED: state->dead_letters++; return OK;
    case EVENT_CONVERSATION_PARKED: state->status = CONVERSATION_PARKED; return OK;
    case EVENT_CONVERSATION_CLOSED: state->status = CONVERSATION_CLOSED; return OK;
    case EVENT_CONVERSATION_RESUMED:
    case EVENT_CONVERSATION_REOPENED: state->status = status_by_owner(state); return OK;
    case EVENT_NONE:
    case EVENT_TYPE_COUNT: break;
    }
    return ERR_STORAGE_CORRUPT;
}

/* ---- the snapshot ------------------------------------------------------------------------------------------------------ */

enum { SNAPSHOT_FORMAT = 1, HISTORY_PARTS = 2, DEDUP_PARTS = 6, TURN_PARTS = 14 };

static void encode_history(const struct history *history, msgpack_packer *packer)
{
    msgpack_pack_array(packer, history->count);
    struct history_entry entry;
    for (uint32_t position = 0; history_next(history, &position, &entry);) {
        msgpack_pack_array(packer, HISTORY_PARTS);
        msgpack_pack_uint32(packer, entry.speaker);
        pack_text(packer, entry.text);
    }
}

static enum err decode_history(struct conversation_state *state, struct pack_reader *reader)
{
    for (uint32_t left = pack_read_array(reader); left > 0; left--) {
        bool is_entry = pack_read_array(reader) == HISTORY_PARTS;
        uint64_t speaker = pack_read_number(reader);
        struct slice text = pack_read_text(reader);
        if (!is_entry || reader->is_failed || speaker > SPEAKER_HUMAN)
            return ERR_STORAGE_CORRUPT;
        enum err code = remember(state, (enum speaker)speaker, text);
        if (code != OK)
            return code;
    }
    return OK;
}

static void encode_dedup(const struct dedup *dedup, msgpack_packer *packer)
{
    msgpack_pack_array(packer, dedup->count);
    for (uint32_t i = 0; i < dedup->count; i++) {
        const struct dedup_entry *entry = dedup_at(dedup, i);
        msgpack_pack_array(packer, DEDUP_PARTS);
        msgpack_pack_uint64(packer, entry->message.low);
        msgpack_pack_uint64(packer, entry->message.high);
        msgpack_pack_uint64(packer, entry->payload_hash);
        pack_bytes(packer, entry->turn_id, UUID_BYTES);
        msgpack_pack_uint64(packer, entry->received_version);
        msgpack_pack_uint64(packer, entry->finished_version);
    }
}

static enum err decode_dedup(struct conversation_state *state, struct pack_reader *reader)
{
    for (uint32_t left = pack_read_array(reader); left > 0; left--) {
        struct dedup_entry entry = {0};
        bool is_entry = pack_read_array(reader) == DEDUP_PARTS;
        entry.message.low = pack_read_number(reader);
        entry.message.high = pack_read_number(reader);
        entry.payload_hash = pack_read_number(reader);
        const uint8_t *turn_id = pack_read_bytes(reader, UUID_BYTES);
        entry.received_version = pack_read_number(reader);
        entry.finished_version = pack_read_number(reader);
        if (!is_entry || reader->is_failed)
            return ERR_STORAGE_CORRUPT;
        memcpy(entry.turn_id, turn_id, UUID_BYTES);
        enum err code = dedup_add(&state->dedup, &entry);
        if (code != OK)
            return code;
    }
    return OK;
}

static void encode_turns(const struct conversation_state *state, msgpack_packer *packer)
{
    msgpack_pack_array(packer, state->turn_count);
    for (const struct conversation_turn *turn = state->turns; turn; turn = turn->next) {
        msgpack_pack_array(packer, TURN_PARTS);
        pack_bytes(packer, turn->id, UUID_BYTES);
        msgpack_pack_uint64(packer, turn->received_version);
        msgpack_pack_uint64(packer, turn->received_ms);
        turn->is_intent_open ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
        msgpack_pack_uint32(packer, turn->attempts);
        msgpack_pack_uint32(packer, turn->failures);
        msgpack_pack_uint32(packer, turn->interruptions);
        msgpack_pack_uint32(packer, turn->fallback);
        pack_text(packer, agent_name_slice(&turn->primary));
        pack_text(packer, agent_name_slice(&turn->agent));
        pack_text(packer, turn->message_id);
        pack_text(packer, turn->trace_id);
        pack_text(packer, turn->requested_agent);
        pack_text(packer, turn->text);
    }
}

static enum err decode_turns(struct conversation_state *state, struct pack_reader *reader)
{
    for (uint32_t left = pack_read_array(reader); left > 0; left--) {
        struct conversation_turn read = {0};
        bool is_turn = pack_read_array(reader) == TURN_PARTS;
        const uint8_t *id = pack_read_bytes(reader, UUID_BYTES);
        read.received_version = pack_read_number(reader);
        read.received_ms = pack_read_number(reader);
        read.is_intent_open = pack_read_bool(reader);
        read.attempts = (uint32_t)pack_read_number(reader);
        read.failures = (uint32_t)pack_read_number(reader);
        read.interruptions = (uint32_t)pack_read_number(reader);
        read.fallback = (uint32_t)pack_read_number(reader);
        bool has_names = agent_name_set(&read.primary, pack_read_text(reader));
        has_names = agent_name_set(&read.agent, pack_read_text(reader)) && has_names;
        read.message_id = pack_read_text(reader);
        read.trace_id = pack_read_text(reader);
        read.requested_agent = pack_read_text(reader);
        read.text = pack_read_text(reader);
        if (!is_turn || !has_names || reader->is_failed)
            return ERR_STORAGE_CORRUPT;
        memcpy(read.id, id, UUID_BYTES);
        struct conversation_turn *turn = turn_create(read.message_id, read.trace_id, read.requested_agent, read.text);
        if (!turn)
            return ERR_NO_MEMORY;
        read.message_id = turn->message_id;
        read.trace_id = turn->trace_id;
        read.requested_agent = turn->requested_agent;
        read.text = turn->text;
        *turn = read;
        turn_append(state, turn);
    }
    return OK;
}

void conversation_state_encode(const struct conversation_state *state, struct buffer *out)
{
    buffer_append_byte(out, SNAPSHOT_FORMAT);
    msgpack_packer packer;
    pack_init(&packer, out);
    msgpack_pack_uint64(&packer, state->version);
    msgpack_pack_uint64(&packer, state->epoch);
    msgpack_pack_uint64(&packer, state->created_ms);
    msgpack_pack_uint64(&packer, state->updated_ms);
    msgpack_pack_uint32(&packer, state->status);
    msgpack_pack_uint32(&packer, state->messages);
    msgpack_pack_uint32(&packer, state->turns_ended);
    msgpack_pack_uint32(&packer, state->dead_letters);
    msgpack_pack_uint64(&packer, state->input_tokens);
    msgpack_pack_uint64(&packer, state->output_tokens);
    pack_text(&packer, conversation_state_owner(state));
    pack_text(&packer, state->customer_id);
    pack_text(&packer, state->channel);
    encode_history(&state->history, &packer);
    encode_dedup(&state->dedup, &packer);
    encode_turns(state, &packer);
}

enum err conversation_state_decode(struct conversation_state *state, struct slice data)
{
    ASSERT(state->version == 0);
    if (data.size == 0)
        return ERR_STORAGE_CORRUPT;
    if (data.data[0] != SNAPSHOT_FORMAT)
        return ERR_STORAGE_FORMAT;
    struct pack_reader reader = pack_reader_of(slice_of(data.data + 1, data.size - 1));
    state->version = pack_read_number(&reader);
    state->epoch = pack_read_number(&reader);
    state->created_ms = pack_read_number(&reader);
    state->updated_ms = pack_read_number(&reader);
    uint64_t status = pack_read_number(&reader);
    state->messages = (uint32_t)pack_read_number(&reader);
    state->turns_ended = (uint32_t)pack_read_number(&reader);
    state->dead_letters = (uint32_t)pack_read_number(&reader);
    state->input_tokens = pack_read_number(&reader);
    state->output_tokens = pack_read_number(&reader);
    struct slice owner = pack_read_text(&reader);
    struct slice customer_id = pack_read_text(&reader), channel = pack_read_text(&reader);
    if (reader.is_failed || status > CONVERSATION_CLOSED || !owner_set(state, owner))
        return ERR_STORAGE_CORRUPT;
    state->status = (enum conversation_status)status;
    enum err code = text_set(&state->customer_id, customer_id);
    if (code == OK)
        code = text_set(&state->channel, channel);
    if (code == OK)
        code = decode_history(state, &reader);
    if (code == OK)
        code = decode_dedup(state, &reader);
    if (code == OK)
        code = decode_turns(state, &reader);
    return code == OK && !pack_reader_is_done(&reader) ? ERR_STORAGE_CORRUPT : code;
}

/* ---- what others see --------------------------------------------------------------------------------------------------- */

void conversation_state_summarize(const struct conversation_state *state, struct journal_summary *ret_summary)
{
    *ret_summary = (struct journal_summary){.status = (uint8_t)state->status,
                                            .is_open = state->turns != NULL,
                                            .messages = state->messages,
                                            .created_ms = state->created_ms,
                                            .updated_ms = state->updated_ms};
    memcpy(ret_summary->owner, state->owner, sizeof ret_summary->owner);
}

static void write_text_or_null(struct buffer *out, struct slice text)
{
    if (text.size)
        json_write_string(out, text);
    else
        buffer_append_text(out, "null");
}

void conversation_state_write_json(const struct conversation_state *state, struct slice id, struct buffer *out)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "id", &is_first);
    json_write_string(out, id);
    json_write_key(out, "status", &is_first);
    json_write_string(out, slice_from_text(conversation_status_name(state->status)));
    json_write_key(out, "owner", &is_first);
    json_write_string(out, conversation_state_owner(state));
    json_write_key(out, "epoch", &is_first);
    json_write_unsigned(out, state->epoch);
    json_write_key(out, "version", &is_first);
    json_write_unsigned(out, state->version);
    json_write_key(out, "created_at", &is_first);
    event_write_time(out, state->created_ms);
    json_write_key(out, "updated_at", &is_first);
    event_write_time(out, state->updated_ms);
    json_write_key(out, "messages", &is_first);
    json_write_unsigned(out, state->messages);
    json_write_key(out, "turns_waiting", &is_first);
    json_write_unsigned(out, state->turn_count > 0 ? state->turn_count - 1 : 0);
    char turn_id[UUID_TEXT_BYTES];
    if (state->turns)
        uuid_format(state->turns->id, turn_id);
    json_write_key(out, "turn_id", &is_first);
    write_text_or_null(out, slice_of(turn_id, state->turns ? sizeof turn_id : 0));
    json_write_key(out, "customer_id", &is_first);
    write_text_or_null(out, state->customer_id);
    json_write_key(out, "channel", &is_first);
    write_text_or_null(out, state->channel);
    json_write_key(out, "input_tokens", &is_first);
    json_write_unsigned(out, state->input_tokens);
    json_write_key(out, "output_tokens", &is_first);
    json_write_unsigned(out, state->output_tokens);
    json_write_key(out, "dead_letters", &is_first);
    json_write_unsigned(out, state->dead_letters);
    buffer_append_byte(out, '}');
}
