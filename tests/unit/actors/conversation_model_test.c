/* SPDX-License-Identifier: Apache-2.0 */
/* Turns that ask a model: intent before call, order, busy policies, retries, fallbacks, breaker, cancel, time limit, handoff. */
#include "tests/unit/actors/world.h"

static void fail_call(struct world *world, uint32_t call, enum err code)
{
    world_model_done(world, call,
                     &(struct model_done){.code = code, .was_sent = true, .detail = SLICE_LITERAL("it broke")});
    world_settle(world);
}

static uint32_t count(const char *text, const char *part)
{
    uint32_t found = 0;
    for (const char *at = text; (at = strstr(at, part)); at++)
        found++;
    return found;
}

/* ---- rule 6: intent, call, result ------------------------------------------------------------------------------------ */

static void a_call_starts_after_its_intent_is_on_disk(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-0", "hi");
    world_settle(world);
    world_model_says(world, 0, "hello");
    world_settle(world);

    uint64_t token = world_say(world, "c", "m-1", "how are you?");
    world_run(world);
    assert_int_equal(world->call_count, 1);
    assert_null(world_last(world, token));
    world_settle(world);
    assert_int_equal(world->call_count, 2);
    assert_string_equal(world->calls[1].messages, "s:be kind|u:hi|a:hello|u:how are you?");
    assert_int_equal(world_last(world, token)->kind, CONV_ACCEPTED);
    assert_int_equal(world_last(world, token)->status, TURN_RUNNING);

    world_model_says(world, 1, "well");
    world_run(world);
    assert_int_equal(world_reply_count(world, token), 1); /* the answer is not on disk yet */
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "well");
    assert_string_equal(world_last(world, token)->agent, "assistant");
    assert_int_equal(world_reply_count(world, token), 2);
    assert_int_equal(count(world_events(world, "c"), "agent.ai.request.started\n"), 2);
}

static void messages_that_come_during_a_turn_are_queued_and_answered_in_order(void **state)
{
    struct world *world = *state;
    uint64_t tokens[4];
    static const char *const texts[] = {"one", "two", "three", "four"};
    for (uint32_t i = 0; i < 4; i++)
        tokens[i] = world_say(world, "c", "", texts[i]);
    world_settle(world);
    assert_int_equal(world->call_count, 1);
    assert_int_equal(world_last(world, tokens[0])->status, TURN_RUNNING);
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(world_last(world, tokens[i])->kind, CONV_ACCEPTED);
        assert_int_equal(world_last(world, tokens[i])->status, TURN_QUEUED);
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(world->call_count, i + 1); /* one at a time */
        char answer[16];
        snprintf(answer, sizeof answer, "r-%s", texts[i]);
        world_model_says(world, i, answer);
        world_settle(world);
        world_assert_finished(world_last(world, tokens[i]), TURN_COMPLETED, answer);
    }
    assert_string_equal(world->calls[3].messages,
                        "s:be kind|u:one|a:r-one|u:two|a:r-two|u:three|a:r-three|u:four"); /* reads as a dialogue */
}

static void a_long_turn_holds_nobody_else_up(void **state)
{
    struct world *world = *state;
    uint64_t slow = world_say(world, "c", "", "slow");
    world_wait(world, 290000);
    uint64_t other = world_request(world, CONV_MESSAGE,
                                   &(struct conv_request){.conversation = SLICE_LITERAL("d"),
                                                          .agent = SLICE_LITERAL("echo"),
                                                          .text = SLICE_LITERAL("quick")});
    world_settle(world);
    world_assert_finished(world_last(world, other), TURN_COMPLETED, "quick");
    assert_int_equal(world->call_count, 1);
    world_model_says(world, 0, "done");
    world_settle(world);
    world_assert_finished(world_last(world, slow), TURN_COMPLETED, "done");
}

/* ---- rule 4: busy ----------------------------------------------------------------------------------------------------- */

static void busy_refuses_only_who_asked_for_it(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "", "one");
    world_settle(world);
    uint64_t rejected = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("two"), .on_busy = CONV_ON_BUSY_REJECT);
    uint64_t queued = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("three"), .on_busy = CONV_ON_BUSY_ENQUEUE);
    world_settle(world);
    assert_int_equal(world_last(world, rejected)->kind, CONV_REFUSED);
    assert_int_equal(world_last(world, rejected)->code, ERR_BUSY);
    assert_int_equal(world_last(world, queued)->status, TURN_QUEUED);
    assert_int_equal(count(world_events(world, "c"), "inbox.message.received\n"), 2);
}

static void the_queue_has_a_cap(void **state)
{
    struct world *world = *state;
    world->config.conversation.queued_turns = 2;
    uint64_t tokens[4];
    for (uint32_t i = 0; i < 4; i++)
        tokens[i] = world_say(world, "c", "", "x");
    world_settle(world);
    assert_int_equal(world_last(world, tokens[2])->status, TURN_QUEUED);
    assert_int_equal(world_last(world, tokens[3])->code, ERR_LIMIT);
}

static void copies_of_a_running_message_wait_for_its_answer(void **state)
{
    struct world *world = *state;
    uint64_t tokens[5];
    tokens[0] = world_say(world, "c", "m-1", "x");
    tokens[1] = world_say(world, "c", "m-1", "x");
    world_settle(world);
    tokens[2] = world_say(world, "c", "m-1", "x");
    world_settle(world);
    world_model_says(world, 0, "y");
    tokens[3] = world_say(world, "c", "m-1", "x"); /* decided, not on disk */
    world_run(world);
    world_settle(world);
    tokens[4] = world_say(world, "c", "m-1", "x");
    world_settle(world);
    for (uint32_t i = 0; i < 5; i++) {
        world_assert_finished(world_last(world, tokens[i]), TURN_COMPLETED, "y");
        assert_int_equal(world_last(world, tokens[i])->is_duplicate, i > 0);
    }
    assert_int_equal(world->call_count, 1);
}

/* ---- failures ----------------------------------------------------------------------------------------------------------- */

static void each_attempt_is_journalled_before_it_starts(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "", "x");
    world_settle(world);
    fail_call(world, 0, ERR_TIMEOUT);
    world_wait(world, 2000); /* the backoff */
    assert_int_equal(world->call_count, 2);
    assert_string_equal(world->calls[0].effect_key, world->calls[1].effect_key); /* one answer, one key */
    assert_string_equal(world_events(world, "c"), "inbox.message.received\nagent.ai.request.started\n"
                                                  "agent.ai.request.failed\nagent.ai.request.started\n");
    world_model_says(world, 1, "at last");
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "at last");
}

static void what_cannot_heal_goes_to_the_fallbacks_in_order(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "", "x");
    world_settle(world);
    fail_call(world, 0, ERR_INVALID); /* no second attempt */
    assert_int_equal(world->call_count, 2);
    assert_int_equal(world->calls[1].agent, AGENT_INDEX_BACKUP);
    assert_string_not_equal(world->calls[0].effect_key, world->calls[1].effect_key);
    fail_call(world, 1, ERR_CONNECT); /* its budget is one attempt */
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "sorry");
    assert_string_equal(world_last(world, token)->agent, "assistant");
}

static void without_fallback_the_turn_fails_and_is_a_dead_letter(void **state)
{
    struct world *world = *state;
    uint64_t token = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .agent = SLICE_LITERAL("lonely"));
    uint64_t next = world_say(world, "c", "", "next");
    world_settle(world);
    fail_call(world, 0, ERR_TIMEOUT);
    world_wait(world, 2000);
    world_model_done(world, 1, &(struct model_done){.code = ERR_BUSY, .http_status = 503, .retry_after_ms = 4000});
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_FAILED, "");
    assert_int_equal(world_last(world, token)->code, ERR_BUSY);
    assert_int_equal(world_last(world, token)->retry_after_s, 4);
    assert_int_equal(count(world_events(world, "c"), "message.dead_lettered\n"), 1);
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.dead_letters, 1);
    world_model_says(world, 2, "goes on");
    world_settle(world);
    world_assert_finished(world_last(world, next), TURN_COMPLETED, "goes on");
}

static void an_open_breaker_refuses_before_anything_is_written(void **state)
{
    struct world *world = *state;
    world_set_breaker(0, true);
    uint64_t token = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .agent = SLICE_LITERAL("lonely"));
    world_settle(world);
    assert_int_equal(world_last(world, token)->kind, CONV_REFUSED);
    assert_int_equal(world_last(world, token)->code, ERR_BREAKER_OPEN);
    assert_int_equal(world_last(world, token)->retry_after_s, 3);
    assert_string_equal(world_get(world, "c"), "");

    uint64_t spare = world_say(world, "c", "", "x"); /* the assistant has a fallback with another provider */
    world_settle(world);
    assert_int_equal(world->calls[0].agent, AGENT_INDEX_BACKUP);
    fail_call(world, 0, ERR_INVALID);
    world_assert_finished(world_last(world, spare), TURN_COMPLETED, "sorry"); /* and then the assistant's next one */
    world_set_breaker(1, true);
    uint64_t text = world_say(world, "c", "", "x");
    world_settle(world);
    world_assert_finished(world_last(world, text), TURN_COMPLETED, "sorry");
    assert_int_equal(world->call_count, 1);
}

static void a_turn_that_is_too_long_is_cancelled_and_fails(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "", "x");
    world_settle(world);
    world_wait(world, 301000);
    assert_true(world->calls[0].is_cancelled);
    assert_int_equal(world_reply_count(world, token), 1);
    world_model_done(world, 0,
                     &(struct model_done){.code = ERR_CANCELLED, .was_sent = true, .text = SLICE_LITERAL("hal")});
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_FAILED, "");
    assert_int_equal(world_last(world, token)->code, ERR_TIMEOUT);

    uint64_t silent = world_say(world, "c", "", "y"); /* and when the gateway never answers */
    world_settle(world);
    world_wait(world, 312000);
    world_assert_finished(world_last(world, silent), TURN_FAILED, "");
}

/* ---- cancel, handoff, close, park ----------------------------------------------------------------------------------- */

static void cancelling_keeps_what_was_said_and_the_queue_goes_on(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "", "x");
    uint64_t next = world_say(world, "c", "", "next");
    world_settle(world);
    uint64_t cancel = WORLD_REQUEST(world, CONV_CANCEL, .reason = SLICE_LITERAL("changed my mind"));
    world_settle(world);
    assert_true(world->calls[0].is_cancelled);
    assert_null(world_last(world, cancel));
    world_model_done(world, 0,
                     &(struct model_done){.code = ERR_CANCELLED, .was_sent = true, .text = SLICE_LITERAL("Once up")});
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_IS_CANCELLED, "Once up");
    assert_string_equal(world_last(world, token)->detail, "changed my mind");
    assert_int_equal(world_last(world, cancel)->kind, CONV_FINISHED);
    assert_string_equal(world->calls[1].messages, "s:be kind|u:x|a:Once up|u:next");
    world_model_says(world, 1, "ok");
    world_settle(world);
    world_assert_finished(world_last(world, next), TURN_COMPLETED, "ok");
    assert_string_equal(world_events(world, "c"),
                        "inbox.message.received\nagent.ai.request.started\ninbox.message.received\n"
                        "agent.ai.request.failed\nturn.cancelled\nagent.ai.request.started\n"
                        "agent.ai.response.generated\nturn.completed\n");
}

static void cancelling_before_the_call_never_makes_it(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "", "wake");
    world_settle(world);
    world_model_says(world, 0, "up");
    world_settle(world);
    uint64_t token = world_say(world, "c", "", "x");
    world_run(world); /* the intent is on its way to the disk */
    uint64_t cancel = WORLD_REQUEST(world, CONV_CANCEL);
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_IS_CANCELLED, "");
    assert_int_equal(world_last(world, cancel)->kind, CONV_FINISHED);
    assert_int_equal(world->call_count, 1);
}

static void cancelling_a_waiting_turn_takes_it_out_of_the_queue(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "", "one");
    uint64_t second = world_say(world, "c", "", "two");
    world_settle(world);
    char turn_id[TURN_ID_BYTES + 1];
    strcpy(turn_id, world_last(world, second)->turn_id);
    uint64_t cancel = WORLD_REQUEST(world, CONV_CANCEL, .turn_id = slice_from_text(turn_id));
    world_settle(world);
    world_assert_finished(world_last(world, second), TURN_IS_CANCELLED, "");
    assert_int_equal(world_last(world, cancel)->kind, CONV_FINISHED);
    world_model_says(world, 0, "y");
    world_settle(world);
    world_assert_finished(world_last(world, first), TURN_COMPLETED, "y");
    assert_int_equal(world->call_count, 1);
}

static void after_a_takeover_nothing_of_the_former_speaker_leaves(void **state)
{
    struct world *world = *state;
    uint64_t token = WORLD_REQUEST(world, CONV_MESSAGE, .text = SLICE_LITERAL("x"), .subscribe = true);
    world_settle(world);
    assert_true(world->calls[0].wants_deltas);
    world_model_delta(world, 0, "Onc");
    world_settle(world);
    assert_int_equal(world_last(world, token)->kind, CONV_DELTA);
    assert_string_equal(world_last(world, token)->text, "Onc");

    uint64_t takeover = WORLD_REQUEST(world, CONV_HANDOFF, .to = SLICE_LITERAL("human:ana"));
    world_run(world);
    world_model_delta(world, 0, "e up");
    world_model_says(world, 0, "Once upon a time");
    world_settle(world);
    assert_non_null(strstr(world_last(world, takeover)->body, "\"owner\":\"human:ana\",\"epoch\":2"));
    assert_true(world->calls[0].is_cancelled);
    world_assert_finished(world_last(world, token), TURN_WAITING_HUMAN, "");
    assert_int_equal(count(world_events(world, "c"), "agent.ai.response.generated"), 0);
    uint32_t deltas = 0;
    for (uint32_t i = 0; i < world->reply_count; i++)
        deltas += world->replies[i].kind == CONV_DELTA;
    assert_int_equal(deltas, 1);
}

static void a_turn_goes_on_with_the_agent_that_took_over(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "", "x");
    world_settle(world);
    WORLD_REQUEST(world, CONV_HANDOFF, .to = SLICE_LITERAL("agent:backup"));
    world_settle(world);
    assert_int_equal(world->calls[1].agent, AGENT_INDEX_BACKUP);
    world_model_says(world, 1, "mine now");
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "mine now");
    assert_string_equal(world_last(world, token)->agent, "backup");
}

static void closing_ends_every_open_turn(void **state)
{
    struct world *world = *state;
    uint64_t tokens[40];
    for (uint32_t i = 0; i < 40; i++)
        tokens[i] = world_say(world, "c", "", "x");
    world_settle(world);
    uint64_t closed = WORLD_REQUEST(world, CONV_CLOSE);
    world_settle(world);
    assert_non_null(strstr(world_last(world, closed)->body, "\"status\":\"closed\""));
    for (uint32_t i = 0; i < 40; i++)
        world_assert_finished(world_last(world, tokens[i]), TURN_IS_CANCELLED, "");
    assert_true(world->calls[0].is_cancelled);
    world_model_says(world, 0, "too late");
    world_settle(world);
    assert_int_equal(count(world_events(world, "c"), "agent.ai.response.generated"), 0);
}

static void parking_lets_the_running_turn_end_and_holds_the_queue(void **state)
{
    struct world *world = *state;
    uint64_t first = world_say(world, "c", "", "one");
    uint64_t second = world_say(world, "c", "", "two");
    WORLD_REQUEST(world, CONV_PARK);
    world_settle(world);
    world_model_says(world, 0, "y");
    world_settle(world);
    world_assert_finished(world_last(world, first), TURN_COMPLETED, "y");
    assert_int_equal(world_last(world, second)->status, TURN_QUEUED);
    assert_int_equal(world->call_count, 1);
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.turns_queued, 0); /* else the server's end would wait for who is to resume it */
    WORLD_REQUEST(world, CONV_RESUME);
    world_settle(world);
    assert_int_equal(world->call_count, 2);
}

static void a_running_turn_can_be_asked_about(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "m-1", "x");
    world_settle(world);
    char turn_id[TURN_ID_BYTES + 1];
    strcpy(turn_id, world_last(world, token)->turn_id);
    uint64_t asked = WORLD_REQUEST(world, CONV_TURN, .turn_id = slice_from_text(turn_id));
    world_settle(world);
    world_assert_finished(world_last(world, asked), TURN_RUNNING, "");
    assert_string_equal(world_last(world, asked)->message_id, "m-1");
    world_model_says(world, 0, "y");
    asked = WORLD_REQUEST(world, CONV_TURN, .turn_id = slice_from_text(turn_id));
    world_settle(world);
    asked = WORLD_REQUEST(world, CONV_TURN, .turn_id = slice_from_text(turn_id));
    world_settle(world);
    world_assert_finished(world_last(world, asked), TURN_COMPLETED, "y");
}

static void a_conversation_with_a_running_turn_does_not_fall_asleep(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "", "x");
    world_wait(world, 200000);
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.awake, 1);
    assert_int_equal(stats.turns_running, 1);
    world_model_says(world, 0, "y");
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "y");
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.turns_running, 0);
}

static void a_crash_while_a_turn_runs_is_taken_up_again(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "m-1", "x");
    world_settle(world);
    world_poison("poison", 1);
    uint64_t poison = world_say(world, "c", "m-2", "y");
    world_settle(world);
    world_model_says(world, 0, "poison"); /* applying the answer fails: the conversation crashes with it */
    world_settle(world);
    assert_int_equal(world->call_count, 2); /* interrupted, started again */
    world_model_says(world, 1, "fine");
    world_settle(world);
    world_assert_finished(world_last(world, token), TURN_COMPLETED, "fine");
    assert_false(world_last(world, token)->is_duplicate);
    assert_int_equal(world_reply_count(world, token), 2); /* accepted once, finished once */
    world_model_says(world, 2, "too");
    world_settle(world);
    world_assert_finished(world_last(world, poison), TURN_COMPLETED, "too");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up_with_model, world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_starts_after_its_intent_is_on_disk),
        TEST(messages_that_come_during_a_turn_are_queued_and_answered_in_order),
        TEST(a_long_turn_holds_nobody_else_up),
        TEST(busy_refuses_only_who_asked_for_it),
        TEST(the_queue_has_a_cap),
        TEST(copies_of_a_running_message_wait_for_its_answer),
        TEST(each_attempt_is_journalled_before_it_starts),
        TEST(what_cannot_heal_goes_to_the_fallbacks_in_order),
        TEST(without_fallback_the_turn_fails_and_is_a_dead_letter),
        TEST(an_open_breaker_refuses_before_anything_is_written),
        TEST(a_turn_that_is_too_long_is_cancelled_and_fails),
        TEST(cancelling_keeps_what_was_said_and_the_queue_goes_on),
        TEST(cancelling_before_the_call_never_makes_it),
        TEST(cancelling_a_waiting_turn_takes_it_out_of_the_queue),
        TEST(after_a_takeover_nothing_of_the_former_speaker_leaves),
        TEST(a_turn_goes_on_with_the_agent_that_took_over),
        TEST(closing_ends_every_open_turn),
        TEST(parking_lets_the_running_turn_end_and_holds_the_queue),
        TEST(a_running_turn_can_be_asked_about),
        TEST(a_conversation_with_a_running_turn_does_not_fall_asleep),
        TEST(a_crash_while_a_turn_runs_is_taken_up_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
