/* SPDX-License-Identifier: Apache-2.0 */
/* The fold: snapshot + tail equals the whole history, on random histories; what cannot follow is refused; windows hold their
 * bounds. Histories are drawn from what a conversation may write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/conversation_state.h"
#include "tests/unit/actors/golden.h"

static const struct conversation_limits limits = {.history_messages = 20, .history_bytes = 4096, .dedup_messages = 32};

/* A history in the making: the state, and the random choices that lead to the next event. */
struct author {
    uint64_t random;
    struct conversation_state state;
    uint64_t turn_number;
    char turn_id[UUID_TEXT_BYTES], message_id[32], text[512], owner[32];
};

static uint64_t draw(struct author *author, uint64_t bound)
{
    author->random = author->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (author->random >> 33) % bound;
}

static void name_turn(struct author *author, const uint8_t id[UUID_BYTES])
{
    uuid_format(id, author->turn_id);
}

static void new_turn(struct author *author)
{
    uint8_t id[UUID_BYTES] = {0};
    author->turn_number++;
    memcpy(id, &author->turn_number, sizeof author->turn_number);
    name_turn(author, id);
    snprintf(author->message_id, sizeof author->message_id, "m-%llu", (unsigned long long)author->turn_number);
}

static struct slice some_text(struct author *author)
{
    size_t size = draw(author, sizeof author->text);
    memset(author->text, (int)('a' + draw(author, 26)), size);
    return slice_of(author->text, size);
}

/* Chooses an event that may come next. */
static struct event next_event(struct author *author)
{
    struct conversation_state *state = &author->state;
    struct event event = {.version = state->version + 1, .time_ms = 1790000000000 + state->version * 7};
    const struct conversation_turn *turn = state->turns;
    uint64_t choice = draw(author, 12);
    if (state->version == 0 || choice < 3 || (!turn && choice < 8)) {
        new_turn(author);
        event.type = choice == 1 && state->version ? EVENT_AGENT_HUMAN_MESSAGE_SENT : EVENT_INBOX_MESSAGE_RECEIVED;
        event.turn_id = slice_of(author->turn_id, UUID_TEXT_BYTES);
        event.message_id = slice_from_text(author->message_id);
        event.payload_hash = draw(author, 1000) + 1;
        event.text = some_text(author);
        event.customer_id = draw(author, 2) ? SLICE_LITERAL("customer-1") : (struct slice){0};
        event.trace_id = SLICE_LITERAL("trace");
        event.agent = draw(author, 4) ? (struct slice){0} : SLICE_LITERAL("asked");
        if (state->version == 0)
            event.owner = SLICE_LITERAL("agent:triage");
        return event;
    }
    if (!turn || choice == 11) {
        static const enum event_type others[] = {EVENT_CONVERSATION_PARKED,       EVENT_CONVERSATION_RESUMED,
                                                 EVENT_CONVERSATION_CLOSED,       EVENT_CONVERSATION_REOPENED,
                                                 EVENT_ROUTING_HANDOFF_REQUESTED, EVENT_MESSAGE_DEAD_LETTERED,
                                                 EVENT_ROUTING_HANDOFF_COMPLETED};
        event.type = others[draw(author, 7)];
        snprintf(author->owner, sizeof author->owner, "%s:%llu", draw(author, 2) ? "agent" : "queue",
                 (unsigned long long)draw(author, 5));
        event.owner = slice_from_text(author->owner);
        event.epoch = state->epoch + 1;
        return event;
    }
    name_turn(author, turn->id);
    event.turn_id = slice_of(author->turn_id, UUID_TEXT_BYTES);
    event.attempt = turn->attempts + 1;
    if (choice < 6 && !turn->is_intent_open) {
        event.type = EVENT_AGENT_AI_REQUEST_STARTED;
        event.agent = draw(author, 3) ? SLICE_LITERAL("assistant") : SLICE_LITERAL("backup");
        event.fallback = draw(author, 2);
        event.from = event.fallback ? SLICE_LITERAL("assistant") : (struct slice){0};
    } else if (choice < 7 && turn->is_intent_open) {
        event.type = EVENT_AGENT_AI_REQUEST_FAILED;
        event.error = draw(author, 2) ? SLICE_LITERAL("interrupted") : SLICE_LITERAL("ERR_TIMEOUT");
    } else if (choice < 9) {
        event.type = draw(author, 2) ? EVENT_AGENT_AI_RESPONSE_GENERATED : EVENT_AGENT_RESPONSE_GENERATED;
        event.text = some_text(author);
        event.input_tokens = draw(author, 100);
        event.output_tokens = draw(author, 100);
    } else {
        static const enum event_type ends[] = {EVENT_TURN_COMPLETED, EVENT_TURN_FAILED, EVENT_TURN_CANCELLED};
        event.type = ends[draw(author, 3)];
        if (event.type == EVENT_TURN_CANCELLED && draw(author, 2))
            event.text = some_text(author);
        if (draw(author, 3) == 0 && turn->next) { /* not only the first may be cancelled */
            name_turn(author, turn->next->id);
            event.type = EVENT_TURN_CANCELLED;
        }
    }
    return event;
}

static struct buffer encode(const struct conversation_state *state)
{
    struct buffer data;
    buffer_init(&data, 1 << 20);
    conversation_state_encode(state, &data);
    assert_false(data.is_overflow);
    return data;
}

static void assert_same(const struct conversation_state *a, const struct conversation_state *b)
{
    struct buffer one = encode(a), two = encode(b);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    buffer_deinit(&one);
    buffer_deinit(&two);
}

static void check_invariants(const struct conversation_state *state)
{
    uint32_t turns = 0;
    for (const struct conversation_turn *turn = state->turns; turn; turn = turn->next) {
        turns++;
        assert_true(turn == state->turns || (!turn->is_intent_open && turn->attempts == 0)); /* S2 */
        assert_true(!turn->next || turn->received_version < turn->next->received_version);
    }
    assert_int_equal(turns, state->turn_count);
    assert_true(state->history.count <= limits.history_messages);
    assert_true(state->dedup.count <= limits.dedup_messages);
    if (state->turns) {
        const struct dedup_entry *entry = dedup_find_turn(&state->dedup, state->turns->id);
        assert_true(!entry || entry->finished_version == 0);
    }
}

/* A random history is folded live; at random points it is encoded, decoded into a second state, and both go on. */
static void snapshot_and_tail_equal_the_whole_history(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct author author = {.random = seed};
        struct conversation_state replayed;
        conversation_state_init(&author.state, &limits);
        conversation_state_init(&replayed, &limits);
        for (uint32_t step = 0; step < 300; step++) {
            struct event event = next_event(&author);
            assert_int_equal(conversation_state_apply(&author.state, &event), OK);
            assert_int_equal(conversation_state_apply(&replayed, &event), OK);
            check_invariants(&author.state);
            if (draw(&author, 20) > 0)
                continue;
            assert_same(&author.state, &replayed);
            struct buffer snapshot = encode(&replayed);
            conversation_state_deinit(&replayed);
            conversation_state_init(&replayed, &limits);
            assert_int_equal(conversation_state_decode(&replayed, buffer_slice(&snapshot)), OK);
            buffer_deinit(&snapshot);
            assert_same(&author.state, &replayed);
        }
        assert_same(&author.state, &replayed);
        conversation_state_deinit(&author.state);
        conversation_state_deinit(&replayed);
    }
}

static struct buffer some_snapshot(void)
{
    struct author author = {.random = 4};
    conversation_state_init(&author.state, &limits);
    while (author.state.version < 40 || !author.state.turns || !author.state.turns->next) {
        struct event event = next_event(&author);
        assert_int_equal(conversation_state_apply(&author.state, &event), OK);
    }
    struct buffer data = encode(&author.state);
    conversation_state_deinit(&author.state);
    return data;
}

static void the_snapshot_format_is_the_golden_one(void **state)
{
    (void)state;
    struct buffer data = some_snapshot();
    golden_check("snapshot-1.hex", buffer_slice(&data));
    buffer_deinit(&data);
}

static enum err decode(struct slice data)
{
    struct conversation_state read;
    conversation_state_init(&read, &limits);
    enum err code = conversation_state_decode(&read, data);
    conversation_state_deinit(&read);
    return code;
}

static void damaged_snapshots_are_refused_or_survived(void **state)
{
    (void)state;
    struct buffer data = some_snapshot();
    assert_int_equal(decode(buffer_slice(&data)), OK);
    for (size_t size = 0; size < data.size; size++) {
        char *cut = malloc(size ? size : 1);
        assert_non_null(cut);
        memcpy(cut, data.data, size);
        assert_int_equal(decode(slice_of(cut, size)), ERR_STORAGE_CORRUPT);
        free(cut);
    }
    for (size_t bit = 0; bit < data.size * 8; bit += 3) {
        data.data[bit / 8] = (char)(data.data[bit / 8] ^ (1 << bit % 8));
        (void)decode(buffer_slice(&data));
        data.data[bit / 8] = (char)(data.data[bit / 8] ^ (1 << bit % 8));
    }
    data.data[0] = 2;
    assert_int_equal(decode(buffer_slice(&data)), ERR_STORAGE_FORMAT);
    buffer_deinit(&data);
}

static void smaller_windows_trim_an_old_snapshot(void **state)
{
    (void)state;
    struct buffer data = some_snapshot();
    struct conversation_state read;
    conversation_state_init(
        &read, &(struct conversation_limits){.history_messages = 3, .history_bytes = 600, .dedup_messages = 2});
    assert_int_equal(conversation_state_decode(&read, buffer_slice(&data)), OK);
    assert_true(read.history.count <= 3);
    assert_int_equal(read.dedup.count, 2);
    conversation_state_deinit(&read);
    buffer_deinit(&data);
}

/* ---- what cannot follow ------------------------------------------------------------------------------------------------ */

static const struct slice turn_a = {"01920000-0000-7000-8000-0000000000aa", 36};
static const struct slice turn_b = {"01920000-0000-7000-8000-0000000000bb", 36};

static struct event received(uint64_t version, struct slice turn_id)
{
    return (struct event){.type = EVENT_INBOX_MESSAGE_RECEIVED,
                          .version = version,
                          .message_id = SLICE_LITERAL("m"),
                          .turn_id = turn_id,
                          .owner = SLICE_LITERAL("agent:x"),
                          .text = SLICE_LITERAL("hi")};
}

static void impossible_events_are_refused(void **state)
{
    (void)state;
    struct event first = received(1, turn_a), second = received(2, turn_b);
    struct event bad_id = received(3, SLICE_LITERAL("x"));
    const struct event impossible[] = {
        {.type = EVENT_TURN_COMPLETED, .version = 2, .turn_id = turn_a},             /* repeated version */
        {.type = EVENT_TURN_COMPLETED, .version = 4, .turn_id = turn_a},             /* a gap */
        {.type = EVENT_NONE, .version = 3},                                          /* no event */
        {.type = EVENT_TURN_COMPLETED, .version = 3, .turn_id = SLICE_LITERAL("x")}, /* broken id */
        {.type = EVENT_AGENT_AI_REQUEST_STARTED,
         .version = 3,
         .turn_id = turn_b,
         .agent = {"a", 1}},                                                       /* not the first turn */
        {.type = EVENT_AGENT_AI_REQUEST_STARTED, .version = 3, .turn_id = turn_a}, /* by nobody */
        {.type = EVENT_AGENT_AI_REQUEST_FAILED, .version = 3, .turn_id = turn_a, .error = {"e", 1}},  /* never started */
        {.type = EVENT_ROUTING_HANDOFF_COMPLETED, .version = 3, .owner = {"queue:x", 7}, .epoch = 9}, /* epoch jumps */
        {.type = EVENT_ROUTING_HANDOFF_COMPLETED, .version = 3, .epoch = 2},                          /* to nobody */
        bad_id,
    };
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        struct conversation_state fresh;
        conversation_state_init(&fresh, &limits);
        assert_int_equal(conversation_state_apply(&fresh, &first), OK);
        assert_int_equal(conversation_state_apply(&fresh, &second), OK);
        assert_int_equal(conversation_state_apply(&fresh, &impossible[i]), ERR_STORAGE_CORRUPT);
        conversation_state_deinit(&fresh);
    }
}

static void the_dedup_window_forgets_the_oldest_first(void **state)
{
    (void)state;
    for (uint32_t window = 1; window < 40; window += 3) {
        struct dedup dedup;
        dedup_init(&dedup, window);
        for (uint64_t i = 0; i < 200; i++) {
            char id[16];
            snprintf(id, sizeof id, "m-%llu", (unsigned long long)i);
            struct dedup_entry entry = {.message = dedup_message_hash(slice_from_text(id)), .received_version = i + 1};
            memcpy(entry.turn_id, &i, sizeof i);
            assert_int_equal(dedup_add(&dedup, &entry), OK);
            for (uint64_t k = 0; k <= i; k++) {
                snprintf(id, sizeof id, "m-%llu", (unsigned long long)k);
                const struct dedup_entry *found = dedup_find(&dedup, dedup_message_hash(slice_from_text(id)));
                assert_int_equal(found != NULL, i - k < window);
                assert_true(!found || found->received_version == k + 1);
                uint8_t turn_id[UUID_BYTES] = {0};
                memcpy(turn_id, &k, sizeof k);
                assert_int_equal(dedup_find_turn(&dedup, turn_id) != NULL, i - k < window);
            }
        }
        assert_int_equal(dedup.count, window);
        dedup_deinit(&dedup);
    }
}

static void the_history_keeps_the_newest_within_its_bounds(void **state)
{
    (void)state;
    struct history history = {0};
    uint64_t random = 9;
    char text[300];
    for (uint32_t i = 0; i < 5000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        size_t size = (random >> 40) % sizeof text;
        memset(text, (int)('a' + i % 26), size);
        assert_int_equal(history_push(&history, SPEAKER_AGENT, slice_of(text, size), 10, 1000), OK);
        struct history_entry entry = {0};
        uint32_t count = 0;
        size_t bytes = 0;
        for (uint32_t position = 0; history_next(&history, &position, &entry); count++)
            bytes += entry.text.size;
        assert_int_equal(count, history.count);
        assert_true(count >= 1 && count <= 10 && (bytes <= 1000 || count == 1));
        assert_int_equal(entry.text.size, size); /* the newest is the last */
        assert_memory_equal(entry.text.data, text, size);
        assert_true(history.capacity <= 8192);
    }
    history_deinit(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_and_tail_equal_the_whole_history),
        cmocka_unit_test(the_snapshot_format_is_the_golden_one),
        cmocka_unit_test(damaged_snapshots_are_refused_or_survived),
        cmocka_unit_test(smaller_windows_trim_an_old_snapshot),
        cmocka_unit_test(impossible_events_are_refused),
        cmocka_unit_test(the_dedup_window_forgets_the_oldest_first),
        cmocka_unit_test(the_history_keeps_the_newest_within_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
