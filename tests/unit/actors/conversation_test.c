/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of docs/CONVERSATION.md that need no model: records and the gate, idempotence, order, handoff, acts, reading. */
#include "tests/unit/actors/world.h"

static void assert_refused(const struct reply *reply, enum err code)
{
    assert_non_null(reply);
    assert_int_equal(reply->kind, CONV_REFUSED);
    assert_string_equal(err_name(reply->code), err_name(code));
    assert_true(reply->detail[0] != 0);
}

/* ---- rule 1: one record, one flush, then the answer ------------------------------------------------------------------ */

static void an_answer_leaves_after_its_record_is_on_disk(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "m-0", "wake up");
    world_settle(world);
    assert_non_null(world_last(world, first));

    uint64_t token = world_say(world, "c", "m-1", "hello");
    world_run(world);
    assert_null(world_last(world, token)); /* the disk stood still */
    struct journal_stats before, after;
    journal_get_stats(world->journal, &before);
    world_settle(world);
    journal_get_stats(world->journal, &after);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "hello");
    assert_int_equal(world_reply_count(world, token), 1);
    assert_int_equal(after.appends - before.appends, 1);
}

static void a_turn_of_a_rule_is_three_facts_in_order(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "m-1", "Qual o PREÇO?");
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "R$ 10");
    assert_string_equal(world_last(world, token)->agent, "triage");
    assert_string_equal(world_last(world, token)->message_id, "m-1");
    assert_int_equal(world_last(world, token)->version, 3);
    assert_string_equal(world_events(world, "c"), "inbox.message.received\nagent.response.generated\nturn.completed\n");
}

static void many_records_are_in_flight_and_answers_keep_their_order(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "", "wake up");
    world_settle(world);
    uint32_t before = world->reply_count;
    uint64_t tokens[1000];
    for (uint32_t i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "n%u", i);
        tokens[i] = world_say(world, "c", "", text);
    }
    world_run(world);
    assert_int_equal(world->reply_count, before);
    world_settle(world);
    for (uint32_t i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "n%u", i);
        world_assert_finished(world_last(world, tokens[i]), TURN_COMPLETED, text);
        assert_int_equal(world->replies[before + i].token, tokens[i]);
        assert_int_equal(world->replies[before + i].version, 3 * (i + 2));
    }
    struct journal_stats stats;
    journal_get_stats(world->journal, &stats);
    assert_int_equal(stats.appends, 1001);
    assert_true(stats.groups < 10); /* the state ran ahead of the disk */
}

static void acts_get_through_when_too_many_messages_wait_for_the_disk(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "", "wake up");
    world_settle(world);
    for (uint32_t i = 0; i < RECORDS_IN_FLIGHT_MAX - RECORDS_FOR_ACTS; i++) {
        world_say(world, "c", "", "again");
        if (i % 100 == 0)
            world_run(world);
    }
    uint64_t message = world_say(world, "c", "", "one too many");
    world_run(world);
    assert_refused(world_last(world, message), ERR_LIMIT);

    uint64_t last = 0;
    for (uint32_t i = 0; i <= RECORDS_FOR_ACTS; i++) {
        last = WORLD_REQUEST(world, i % 2 ? CONV_RESUME : CONV_PARK);
        if (i == 0)
            message = last;
        if (i % 100 == 0)
            world_run(world);
    }
    world_run(world);
    assert_null(world_last(world, message)); /* taken, and waits like all else */
    assert_refused(world_last(world, last), ERR_LIMIT);
    world_settle(world);
    assert_int_equal(world_last(world, message)->kind, CONV_FINISHED);
}

static void a_waking_conversation_holds_so_many_messages_and_every_act(void **state)
{
    struct world *world = *state;
    world->config.conversation.mailbox_messages = 2;
    uint64_t kept = world_say(world, "c", "", "one");
    world_say(world, "c", "", "two");
    uint64_t refused = world_say(world, "c", "", "three");
    uint64_t act = WORLD_REQUEST(world, CONV_PARK);
    world_run(world); /* the reader stands still */
    assert_refused(world_last(world, refused), ERR_MAILBOX_FULL);
    assert_null(world_last(world, act));
    world_settle(world);
    world_assert_finished(world_last(world, kept), TURN_COMPLETED, "one");
    assert_int_equal(world_last(world, act)->kind, CONV_FINISHED);
}

/* ---- rule 2: idempotent -------------------------------------------------------------------------------------------------- */

static void sixty_four_racing_copies_are_one_turn_and_equal_answers(void **state)
{
    struct world *world = *state;
    uint64_t tokens[64];
    for (uint32_t i = 0; i < 64; i++) {
        tokens[i] = world_say(world, "c", "m-1", "once");
        if (i == 20)
            world_run(world);
        if (i == 40)
            world_settle(world);
    }
    world_settle(world);
    const struct reply *first = world_last(world, tokens[0]);
    assert_false(first->is_duplicate);
    for (uint32_t i = 0; i < 64; i++) {
        const struct reply *reply = world_last(world, tokens[i]);
        world_assert_finished(reply, TURN_COMPLETED, "once");
        assert_int_equal(reply->is_duplicate, i > 0);
        assert_int_equal(reply->version, first->version);
        assert_string_equal(reply->turn_id, first->turn_id);
        assert_string_equal(reply->agent, first->agent);
        assert_string_equal(reply->message_id, "m-1");
        assert_int_equal(world_reply_count(world, tokens[i]), 1);
    }
    assert_string_equal(world_events(world, "c"), "inbox.message.received\nagent.response.generated\nturn.completed\n");
}

static void the_same_id_with_another_payload_is_refused(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "once");
    world_settle(world);
    uint64_t token = world_say(world, "c", "m-1", "another");
    world_settle(world);
    assert_refused(world_last(world, token), ERR_CONFLICT);
}

static void a_copy_after_passivation_still_gets_the_stored_answer(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "m-1", "once");
    world_settle(world);
    world_wait(world, 120000);
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.known, 0); /* asleep */
    assert_int_equal(stats.passivations, 1);
    uint64_t copy = world_say(world, "c", "m-1", "once");
    world_settle(world);
    world_assert_finished(world_last(world, copy), TURN_COMPLETED, "once");
    assert_true(world_last(world, copy)->is_duplicate);
    assert_string_equal(world_last(world, copy)->turn_id, world_last(world, first)->turn_id);
}

static void a_copy_beyond_the_window_is_a_new_message(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "m-1", "once");
    for (uint32_t i = 0; i < world->config.conversation.dedup_messages; i++)
        world_say(world, "c", "", "filler");
    world_settle(world);
    uint64_t copy = world_say(world, "c", "m-1", "once");
    world_settle(world);
    assert_false(world_last(world, copy)->is_duplicate);
    assert_string_not_equal(world_last(world, copy)->turn_id, world_last(world, first)->turn_id);
}

static void a_repeated_request_is_answered_though_its_version_has_passed(void **state)
{
    struct world *world = *state;
    uint64_t first = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .message_id = SLICE_LITERAL("m-1"),
                                   .has_if_match = true, .if_match = 0);
    world_settle(world);
    uint64_t again = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .message_id = SLICE_LITERAL("m-1"),
                                   .has_if_match = true, .if_match = 0);
    uint64_t other = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .message_id = SLICE_LITERAL("m-2"),
                                   .has_if_match = true, .if_match = 0);
    world_settle(world);
    world_assert_finished(world_last(world, first), TURN_COMPLETED, "x");
    world_assert_finished(world_last(world, again), TURN_COMPLETED, "x");
    assert_refused(world_last(world, other), ERR_STALE);
}

/* ---- rule 5: one speaker --------------------------------------------------------------------------------------------- */

static uint64_t say_as(struct world *world, const char *from, const char *text)
{
    return WORLD_REQUEST(world, CONV_MESSAGE, .from = slice_from_text(from), .text = slice_from_text(text));
}

static void after_a_handoff_only_people_speak(void **state)
{
    struct world *world = *state;
    uint64_t asked = world_say(world, "c", "m-1", "quero falar com um humano");
    uint64_t more = world_say(world, "c", "m-2", "qual o preco?");
    world_settle(world);
    world_assert_finished(world_last(world, asked), TURN_WAITING_HUMAN, "");
    assert_false(world_last(world, asked)->has_reply);
    world_assert_finished(world_last(world, more), TURN_WAITING_HUMAN, "");
    assert_non_null(
        strstr(world_get(world, "c"), "\"status\":\"waiting_human\",\"owner\":\"queue:atendimento\",\"epoch\":2"));

    uint64_t claim = say_as(world, "human:ana", "oi, sou a Ana");
    world_settle(world);
    world_assert_finished(world_last(world, claim), TURN_COMPLETED, "");
    assert_non_null(strstr(world_get(world, "c"), "\"owner\":\"human:ana\",\"epoch\":3"));
    uint64_t other = say_as(world, "human:bia", "eu também");
    uint64_t robot = say_as(world, "robot:x", "bip");
    world_settle(world);
    assert_refused(world_last(world, other), ERR_INVALID);
    assert_refused(world_last(world, robot), ERR_INVALID);

    uint64_t back = WORLD_REQUEST(world, CONV_HANDOFF, .to = SLICE_LITERAL("agent:echo"));
    uint64_t echoed = world_say(world, "c", "m-3", "de volta");
    world_settle(world);
    assert_int_equal(world_last(world, back)->kind, CONV_FINISHED);
    assert_non_null(strstr(world_last(world, back)->body, "\"owner\":\"agent:echo\",\"epoch\":4"));
    world_assert_finished(world_last(world, echoed), TURN_COMPLETED, "de volta");
    assert_string_equal(world_last(world, echoed)->agent, "echo");
}

static void a_person_cannot_speak_for_an_agent(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "oi");
    world_settle(world);
    uint64_t token = say_as(world, "human:ana", "oi");
    world_settle(world);
    assert_refused(world_last(world, token), ERR_INVALID);
}

static void a_rule_hands_over_to_another_agent_for_good(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "m-1", "vendas, por favor");
    uint64_t second = world_say(world, "c", "m-2", "qual o preco");
    world_settle(world);
    world_assert_finished(world_last(world, first), TURN_COMPLETED, "vendas, por favor");
    world_assert_finished(world_last(world, second), TURN_COMPLETED, "qual o preco"); /* echo owns it now: no rule */
    assert_string_equal(world_events(world, "c"), "inbox.message.received\nrouting.handoff.requested\n"
                                                  "routing.handoff.completed\nagent.response.generated\nturn.completed\n"
                                                  "inbox.message.received\nagent.response.generated\nturn.completed\n");
}

static void an_unknown_agent_or_owner_is_refused(void **state)
{
    struct world *world = *state;
    uint64_t message = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .agent = SLICE_LITERAL("nobody"));
    world_say(world, "c", "m-1", "x");
    uint64_t handoff = WORLD_REQUEST(world, CONV_HANDOFF, .to = SLICE_LITERAL("agent:nobody"));
    uint64_t nameless = WORLD_REQUEST(world, CONV_HANDOFF, .to = SLICE_LITERAL("queue:"));
    world_settle(world);
    assert_refused(world_last(world, message), ERR_INVALID);
    assert_refused(world_last(world, handoff), ERR_INVALID);
    assert_refused(world_last(world, nameless), ERR_INVALID);
}

/* ---- acts ---------------------------------------------------------------------------------------------------------------- */

static void closed_and_parked_take_no_messages_until_opened(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "x");
    uint64_t parked = WORLD_REQUEST(world, CONV_PARK, .reason = SLICE_LITERAL("lunch"));
    uint64_t refused = world_say(world, "c", "m-2", "x");
    uint64_t resumed = WORLD_REQUEST(world, CONV_RESUME);
    uint64_t closed = WORLD_REQUEST(world, CONV_CLOSE);
    uint64_t refused_too = world_say(world, "c", "m-3", "x");
    uint64_t cannot_park = WORLD_REQUEST(world, CONV_PARK);
    uint64_t reopened = WORLD_REQUEST(world, CONV_REOPEN);
    uint64_t taken = world_say(world, "c", "m-4", "x");
    world_settle(world);
    assert_non_null(strstr(world_last(world, parked)->body, "\"status\":\"parked\""));
    assert_refused(world_last(world, refused), ERR_EXISTS);
    assert_non_null(strstr(world_last(world, resumed)->body, "\"status\":\"active\""));
    assert_non_null(strstr(world_last(world, closed)->body, "\"status\":\"closed\""));
    assert_refused(world_last(world, refused_too), ERR_EXISTS);
    assert_refused(world_last(world, cannot_park), ERR_EXISTS);
    assert_non_null(strstr(world_last(world, reopened)->body, "\"status\":\"active\""));
    world_assert_finished(world_last(world, taken), TURN_COMPLETED, "x");
}

static void erasing_leaves_nothing_and_the_name_is_free(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "my secret");
    uint64_t stream = WORLD_REQUEST(world, CONV_SUBSCRIBE);
    world_settle(world);
    uint64_t erased = WORLD_REQUEST(world, CONV_ERASE);
    uint64_t anew = world_say(world, "c", "m-1", "again");
    world_settle(world);
    assert_string_equal(world_last(world, erased)->body, "{\"erased\":true}");
    assert_int_equal(world_last(world, stream)->kind, CONV_END);
    world_assert_finished(world_last(world, anew), TURN_COMPLETED, "again");
    assert_false(world_last(world, anew)->is_duplicate);
    assert_int_equal(world_last(world, anew)->version, 3);
    uint64_t again = WORLD_REQUEST(world, CONV_ERASE);
    world_settle(world);
    assert_int_equal(world_last(world, again)->kind, CONV_FINISHED);
    assert_string_equal(world_get(world, "c"), "");
}

static void what_does_not_exist_is_not_made_by_asking(void **state)
{
    struct world *world = *state;
    static const uint16_t kinds[] = {CONV_GET,  CONV_EVENTS, CONV_MESSAGES, CONV_TURN,   CONV_SUBSCRIBE, CONV_CANCEL,
                                     CONV_PARK, CONV_RESUME, CONV_CLOSE,    CONV_REOPEN, CONV_ERASE,     CONV_HANDOFF};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t token = WORLD_REQUEST(world, kinds[i], .to = SLICE_LITERAL("queue:x"));
        world_settle(world);
        assert_refused(world_last(world, token), ERR_NOT_FOUND);
        assert_int_equal(world_reply_count(world, token), 1);
    }
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.known, 0);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static void pages_are_dense_and_end_with_null(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 5; i++)
        world_say(world, "c", "", "x");
    world_settle(world);
    uint64_t after = 0;
    uint32_t seen = 0;
    for (bool has_more = true; has_more;) {
        uint64_t token = WORLD_REQUEST(world, CONV_EVENTS, .after = after, .limit = 4);
        world_settle(world);
        const char *body = world_last(world, token)->body;
        for (const char *at = body; (at = strstr(at, "\"version\":")); at++)
            assert_int_equal(strtoull(at + 10, NULL, 10), ++seen);
        const char *next = strstr(body, "],\"next\":");
        assert_non_null(next);
        has_more = strncmp(next + 9, "null}", 5) != 0;
        if (has_more)
            after = strtoull(next + 9, NULL, 10);
        assert_true(!has_more || after == seen);
    }
    assert_int_equal(seen, 15);
    uint64_t messages = WORLD_REQUEST(world, CONV_MESSAGES, .limit = 1000);
    world_settle(world);
    uint32_t said = 0;
    for (const char *at = world_last(world, messages)->body; (at = strstr(at, "{\"version\":")); at++)
        said++;
    assert_int_equal(said, 10);
}

static void a_turn_is_found_by_its_id_also_when_it_is_old(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "m-1", "once");
    for (uint32_t i = 0; i < world->config.conversation.dedup_messages; i++)
        world_say(world, "c", "", "filler");
    world_settle(world);
    const char *turn_id = strdup(world_last(world, first)->turn_id);
    uint64_t found = WORLD_REQUEST(world, CONV_TURN, .turn_id = slice_from_text(turn_id));
    uint64_t unknown = WORLD_REQUEST(world, CONV_TURN, .turn_id = SLICE_LITERAL("01920000-0000-7000-8000-000000000000"));
    uint64_t broken = WORLD_REQUEST(world, CONV_TURN, .turn_id = SLICE_LITERAL("x"));
    world_settle(world);
    free((void *)(uintptr_t)turn_id);
    world_assert_finished(world_last(world, found), TURN_COMPLETED, "once");
    assert_string_equal(world_last(world, found)->message_id, "m-1");
    assert_refused(world_last(world, unknown), ERR_NOT_FOUND);
    assert_refused(world_last(world, broken), ERR_NOT_FOUND);
}

static void assert_dense_from(const struct world *world, uint64_t token, uint64_t first, uint64_t last)
{
    uint32_t count = 0;
    for (const struct reply *reply; (reply = world_reply(world, token, count)); count++) {
        assert_int_equal(reply->kind, CONV_EVENT);
        assert_int_equal(reply->version, first + count);
        char expected[128];
        snprintf(expected, sizeof expected, "{\"event\":\"%s\"", reply->agent);
        assert_memory_equal(reply->body, expected, strlen(expected));
    }
    assert_int_equal(count, last - first + 1);
}

static void subscribers_miss_nothing_and_get_nothing_twice(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 300; i++)
        world_say(world, "c", "", "before");
    world_settle(world);
    uint64_t all = WORLD_REQUEST(world, CONV_SUBSCRIBE);
    uint64_t late = WORLD_REQUEST(world, CONV_SUBSCRIBE, .after = 850);
    uint64_t live = WORLD_REQUEST(world, CONV_SUBSCRIBE, .after = 900);
    uint64_t gone = WORLD_REQUEST(world, CONV_SUBSCRIBE, .after = 900);
    world_run(world); /* pages asked for, not read yet */
    for (uint32_t i = 0; i < 100; i++)
        world_say(world, "c", "", "meanwhile");
    for (uint32_t i = 0; i < 20; i++) { /* commits and pages in turn */
        world_run(world);
        (void)journal_write_step(world->journal);
        world_run(world);
        (void)journal_read_step(world->journal);
        world_say(world, "c", "", "and on");
    }
    WORLD_REQUEST(world, CONV_UNSUBSCRIBE, .target_token = gone);
    world_settle(world);
    uint64_t last = 3 * (300 + 100 + 20);
    assert_dense_from(world, all, 1, last);
    assert_dense_from(world, late, 851, last);
    assert_dense_from(world, live, 901, last);
    uint32_t before = world_reply_count(world, gone);
    world_say(world, "c", "", "after");
    world_settle(world);
    assert_int_equal(world_reply_count(world, gone), before);
    assert_dense_from(world, all, 1, last + 3);
}

static void a_turn_with_its_events_tells_them_before_it_ends(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 2; i++) { /* the second one is a copy: the same events again, from the journal */
        uint64_t token = WORLD_REQUEST(world, CONV_MESSAGE, .message_id = SLICE_LITERAL("m-1"),
                                       .text = SLICE_LITERAL("x"), .subscribe = true);
        world_settle(world);
        assert_int_equal(world_reply_count(world, token), 4);
        for (uint32_t n = 0; n < 3; n++) {
            assert_int_equal(world_reply(world, token, n)->kind, CONV_EVENT);
            assert_int_equal(world_reply(world, token, n)->version, n + 1);
        }
        world_assert_finished(world_reply(world, token, 3), TURN_COMPLETED, "x");
    }
}

/* ---- limits and failures --------------------------------------------------------------------------------------------- */

static void a_full_disk_refuses_what_was_not_written_and_heals(void **state)
{
    struct world *world = *state;
    uint64_t kept = world_say(world, "c", "m-1", "kept");
    world_settle(world);
    disk_sim_schedule(world->disk, DISK_SIM_FULL, 1, 1000000);
    uint64_t first = world_say(world, "c", "m-2", "lost");
    uint64_t second = world_say(world, "c", "m-3", "lost too");
    uint64_t read = WORLD_REQUEST(world, CONV_GET);
    world_settle(world);
    world_assert_finished(world_last(world, kept), TURN_COMPLETED, "kept");
    assert_refused(world_last(world, first), ERR_STORAGE_FULL);
    assert_refused(world_last(world, second), ERR_STORAGE_FULL);
    assert_refused(world_last(world, read), ERR_STORAGE_FULL); /* it would have told of what is not there */
    disk_sim_schedule(world->disk, DISK_SIM_FULL, 1, 0);
    uint64_t again = world_say(world, "c", "m-2", "lost");
    world_settle(world);
    world_assert_finished(world_last(world, again), TURN_COMPLETED, "lost");
    assert_false(world_last(world, again)->is_duplicate);
    assert_int_equal(world_last(world, again)->version, 6);
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.crashes, 0);
}

static void nothing_is_acknowledged_after_a_failed_flush(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "kept");
    world_settle(world);
    disk_sim_schedule(world->disk, DISK_SIM_SYNC_ERROR, 1, 1);
    uint64_t first = world_say(world, "c", "m-2", "x");
    world_settle(world);
    uint64_t second = world_say(world, "c", "m-3", "x");
    world_settle(world);
    assert_refused(world_last(world, first), ERR_STORAGE_FAILED);
    assert_refused(world_last(world, second), ERR_STORAGE_FAILED);
}

static void an_abandoned_waiter_gets_nothing_and_its_turn_goes_on(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-0", "wake");
    world_settle(world);
    uint64_t token = world_say(world, "c", "m-1", "x");
    world_run(world);
    WORLD_REQUEST(world, CONV_ABANDON, .target_token = token);
    world_settle(world);
    assert_int_equal(world_reply_count(world, token), 0);
    uint64_t copy = world_say(world, "c", "m-1", "x");
    world_settle(world);
    assert_true(world_last(world, copy)->is_duplicate);
}

static void a_draining_server_takes_no_messages_and_no_subscribers(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "x");
    uint64_t stream = WORLD_REQUEST(world, CONV_SUBSCRIBE);
    world_settle(world);
    world->services.is_draining = true;
    directory_drain(world->worker, &world->services);
    uint64_t token = world_say(world, "c", "m-2", "x");
    uint64_t late = WORLD_REQUEST(world, CONV_SUBSCRIBE); /* behind the end of the others: nobody would end it */
    world_settle(world);
    assert_refused(world_last(world, token), ERR_SHUTDOWN);
    assert_refused(world_last(world, late), ERR_SHUTDOWN);
    assert_int_equal(world_last(world, stream)->kind, CONV_END);
    assert_string_not_equal(world_get(world, "c"), "");
}

/* ---- rule 7 and 9 -------------------------------------------------------------------------------------------------------- */

static void a_message_that_crashes_its_conversation_becomes_a_dead_letter(void **state)
{
    struct world *world = *state;
    uint64_t sound = world_say(world, "c", "m-0", "fine");
    world_settle(world);
    world_poison("poison", 3);
    uint64_t before = world_say(world, "c", "m-1", "before");
    uint64_t poison = world_say(world, "c", "m-2", "poison");
    uint64_t behind[10];
    for (uint32_t i = 0; i < 10; i++) {
        char text[16];
        snprintf(text, sizeof text, "behind %u", i);
        behind[i] = world_say(world, "c", "", text);
    }
    world_settle(world);
    world_assert_finished(world_last(world, sound), TURN_COMPLETED, "fine");
    world_assert_finished(world_last(world, before), TURN_COMPLETED, "before");
    const struct reply *dead = world_last(world, poison);
    assert_int_equal(dead->kind, CONV_FINISHED);
    assert_int_equal(dead->status, TURN_FAILED);
    assert_int_equal(dead->code, ERR_CRASHED);
    uint64_t version = dead->version;
    for (uint32_t i = 0; i < 10; i++) { /* in order, after it */
        char text[16];
        snprintf(text, sizeof text, "behind %u", i);
        world_assert_finished(world_last(world, behind[i]), TURN_COMPLETED, text);
        assert_true(world_last(world, behind[i])->version > version);
        version = world_last(world, behind[i])->version;
        assert_int_equal(world_reply_count(world, behind[i]), 1);
    }
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.crashes, 3);
    assert_int_equal(stats.dead_letters, 1);

    struct dead_letters_read *read = dead_letters_read_create(
        world->worker,
        &(struct dead_letters_read){.reply_to = world->front, .reply_token = 999999, .tenant = SLICE_LITERAL("default")});
    struct msg *msg = &read->msg;
    assert_int_equal(actor_send(world->worker, world->services.dead_letters, &msg), OK);
    world_settle(world);
    const char *body = world_last(world, 999999)->body;
    assert_non_null(strstr(body, "\"conversation_id\":\"c\",\"message_id\":\"m-2\""));
    assert_non_null(strstr(body, "\"reason\":\"ERR_CRASHED\",\"attempts\":3"));
    assert_null(strstr(body, "poison\""));
    assert_non_null(strstr(body, "],\"next\":null}"));
}

/* It is not put into the customer's mouth. */
static void a_persons_message_that_crashes_its_conversation_stays_that_persons(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "", "hello");
    WORLD_REQUEST(world, CONV_HANDOFF, .to = SLICE_LITERAL("human:ana"));
    world_settle(world);
    world_poison("poison", 3);
    uint64_t dead =
        WORLD_REQUEST(world, CONV_MESSAGE, .from = SLICE_LITERAL("human:ana"), .text = SLICE_LITERAL("poison"));
    world_settle(world);
    assert_int_equal(world_last(world, dead)->status, TURN_FAILED);
    uint64_t page = WORLD_REQUEST(world, CONV_MESSAGES);
    world_settle(world);
    assert_non_null(strstr(world_last(world, page)->body, "\"from\":\"human\",\"text\":\"poison\""));
    assert_null(strstr(world_last(world, page)->body, "\"from\":\"customer\",\"text\":\"poison\""));
}

static void a_conversation_that_fails_again_and_again_is_in_quarantine(void **state)
{
    struct world *world = *state;
    world_poison("poison", 1000);
    uint64_t poison = world_say(world, "c", "m-1", "poison");
    uint64_t other = world_say(world, "d", "m-1", "fine");
    world_settle(world);
    assert_refused(world_last(world, poison), ERR_CRASHED);
    world_assert_finished(world_last(world, other), TURN_COMPLETED, "fine");
    uint64_t shut_out = world_say(world, "c", "m-2", "fine");
    world_settle(world);
    assert_refused(world_last(world, shut_out), ERR_CRASHED);
    assert_true(world_last(world, shut_out)->retry_after_s > 0);
    world_wait(world, 31000);
    uint64_t later = world_say(world, "c", "m-3", "fine");
    world_settle(world);
    world_assert_finished(world_last(world, later), TURN_COMPLETED, "fine");
}

static void messages_during_passivation_are_held_and_answered_in_order(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "", "x");
    world_settle(world);
    world->config.conversation.idle_ns = 1;
    struct directory_stats stats = {0};
    uint64_t version = 3;
    for (uint32_t round = 0; round < 50; round++) {
        uint64_t tokens[3];
        for (uint32_t i = 0; i < 3; i++) { /* at every moment of falling asleep and waking */
            tokens[i] = world_say(world, "c", "", "x");
            for (uint32_t step = 0; step < (round * 7 + i * 3) % 11; step++) {
                (void)worker_step(world->worker);
                (void)journal_read_step(world->journal);
            }
        }
        world_wait(world, 300);
        for (uint32_t i = 0; i < 3; i++) {
            world_assert_finished(world_last(world, tokens[i]), TURN_COMPLETED, "x");
            assert_int_equal(world_last(world, tokens[i])->version, version += 3);
        }
    }
    directory_get_stats(&world->services, &stats);
    assert_true(stats.passivations >= 40);
}

static void a_sleeping_conversation_costs_nothing_in_the_index(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "c-%u", i);
        world_say(world, name, "", "x");
    }
    world_settle(world);
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.awake, 500);
    world_wait(world, 120000);
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.known, 0);
    assert_int_equal(stats.awake, 0);
    for (uint32_t i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "c-%u", i);
        assert_non_null(strstr(world_get(world, name), "\"version\":3"));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_leaves_after_its_record_is_on_disk),
        TEST(a_turn_of_a_rule_is_three_facts_in_order),
        TEST(many_records_are_in_flight_and_answers_keep_their_order),
        TEST(a_waking_conversation_holds_so_many_messages_and_every_act),
        TEST(acts_get_through_when_too_many_messages_wait_for_the_disk),
        TEST(sixty_four_racing_copies_are_one_turn_and_equal_answers),
        TEST(the_same_id_with_another_payload_is_refused),
        TEST(a_copy_after_passivation_still_gets_the_stored_answer),
        TEST(a_copy_beyond_the_window_is_a_new_message),
        TEST(a_repeated_request_is_answered_though_its_version_has_passed),
        TEST(after_a_handoff_only_people_speak),
        TEST(a_person_cannot_speak_for_an_agent),
        TEST(a_rule_hands_over_to_another_agent_for_good),
        TEST(an_unknown_agent_or_owner_is_refused),
        TEST(closed_and_parked_take_no_messages_until_opened),
        TEST(erasing_leaves_nothing_and_the_name_is_free),
        TEST(what_does_not_exist_is_not_made_by_asking),
        TEST(pages_are_dense_and_end_with_null),
        TEST(a_turn_is_found_by_its_id_also_when_it_is_old),
        TEST(subscribers_miss_nothing_and_get_nothing_twice),
        TEST(a_turn_with_its_events_tells_them_before_it_ends),
        TEST(a_full_disk_refuses_what_was_not_written_and_heals),
        TEST(nothing_is_acknowledged_after_a_failed_flush),
        TEST(an_abandoned_waiter_gets_nothing_and_its_turn_goes_on),
        TEST(a_draining_server_takes_no_messages_and_no_subscribers),
        TEST(a_message_that_crashes_its_conversation_becomes_a_dead_letter),
        TEST(a_persons_message_that_crashes_its_conversation_stays_that_persons),
        TEST(a_conversation_that_fails_again_and_again_is_in_quarantine),
        TEST(messages_during_passivation_are_held_and_answered_in_order),
        TEST(a_sleeping_conversation_costs_nothing_in_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
