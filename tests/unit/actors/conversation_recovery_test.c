/* SPDX-License-Identifier: Apache-2.0 */
/* Crashes of process and machine at every step of the way: nothing acknowledged is lost, nothing runs twice, unfinished turns go
 * on by themselves. */
#include "tests/unit/actors/world.h"

static uint32_t count(const char *text, const char *part)
{
    uint32_t found = 0;
    for (const char *at = text; (at = strstr(at, part)); at++)
        found++;
    return found;
}

/* One part of the world does one thing. Returns: whether anything moved. */
static bool step_once(struct world *world, uint32_t *part)
{
    for (uint32_t tried = 0; tried < 3; tried++) {
        *part = (*part + 1) % 3;
        bool has_moved = *part == 0   ? worker_step(world->worker)
                         : *part == 1 ? journal_write_step(world->journal)
                                      : journal_read_step(world->journal);
        if (has_moved)
            return true;
    }
    return false;
}

/* The story: two messages to a model, answered. The machine crashes after `crash_step` steps; then the client, who has no
 * answer, sends both again. Returns: whether the story ended before the crash came. */
static bool tell_story(uint32_t crash_step)
{
    struct world *world = world_create();
    world->config.default_agent = AGENT_INDEX_ASSISTANT;
    uint64_t tokens[2];
    uint32_t part = 0, answered = 0, started_before = 0;
    tokens[0] = world_say(world, "c", "m-1", "one");
    tokens[1] = world_say(world, "c", "m-2", "two");
    bool is_over = false;
    for (uint32_t step = 0; step < crash_step; step++) {
        if (step_once(world, &part))
            continue;
        if (answered == world->call_count) {
            is_over = true;
            break;
        }
        world_model_says(world, answered++, "answer");
    }
    bool was_told[2];
    for (uint32_t i = 0; i < 2; i++) {
        const struct reply *last = world_last(world, tokens[i]);
        was_told[i] = last && last->kind == CONV_FINISHED;
    }
    started_before = world->call_count;
    world_crash(world);

    /* What was accepted goes on by itself. */
    for (uint32_t call = 0; call < world->call_count; call++) {
        world_model_says(world, call, "answer");
        world_settle(world);
    }
    uint64_t again[2] = {world_say(world, "c", "m-1", "one"), world_say(world, "c", "m-2", "two")};
    world_settle(world);
    for (uint32_t call = 0; call < world->call_count; call++) {
        if (!world->calls[call].is_done)
            world_model_says(world, call, "answer");
        world_settle(world);
    }
    for (uint32_t i = 0; i < 2; i++) {
        const struct reply *last = world_last(world, again[i]);
        assert_non_null(last);
        assert_int_equal(last->kind, CONV_FINISHED);
        assert_int_equal(last->status, TURN_COMPLETED);
        assert_string_equal(last->text, "answer");
        assert_true(!was_told[i] || last->is_duplicate);
    }
    const char *events = world_events(world, "c");
    assert_int_equal(count(events, "inbox.message.received\n"), 2);
    assert_int_equal(count(events, "agent.ai.response.generated\n"), 2);
    assert_int_equal(count(events, "turn.completed\n"), 2);
    /* Every attempt that the provider saw was journalled before it was made. */
    assert_true(count(events, "agent.ai.request.started\n") >= started_before);
    world_destroy(world);
    return is_over;
}

static void a_crash_at_any_step_loses_nothing_and_repeats_nothing(void **state)
{
    (void)state;
    uint32_t step = 0;
    while (!tell_story(step))
        step++;
    assert_true(step > 10);
}

static void an_interrupted_attempt_is_named_so_and_made_again(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "x");
    world_say(world, "c", "m-2", "y");
    world_settle(world);
    assert_int_equal(world->call_count, 1);
    char key[64];
    strcpy(key, world->calls[0].effect_key);
    world_crash(world);
    assert_int_equal(world->call_count, 1); /* nobody asked for it */
    assert_string_equal(world->calls[0].effect_key, key);
    assert_string_equal(world_events(world, "c"),
                        "inbox.message.received\nagent.ai.request.started\ninbox.message.received\n"
                        "agent.ai.request.failed\nagent.ai.request.started\n");
    world_model_says(world, 0, "a");
    world_settle(world);
    world_model_says(world, 1, "b");
    world_settle(world);
    assert_non_null(strstr(world_get(world, "c"), "\"messages\":4"));
    struct directory_stats stats;
    directory_get_stats(&world->services, &stats);
    assert_int_equal(stats.turns_running + stats.turns_queued, 0);
}

static void a_turn_that_is_always_interrupted_ends_one_day(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "x");
    world_settle(world);
    for (uint32_t i = 0; i < INTERRUPTIONS_MAX; i++)
        world_crash(world);
    assert_int_equal(world->call_count, 0);
    assert_int_equal(count(world_events(world, "c"), "turn.failed\n"), 1);
    assert_int_equal(count(world_events(world, "c"), "agent.ai.request.started\n"), INTERRUPTIONS_MAX);
}

static void many_open_conversations_are_all_taken_up(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 250; i++) {
        char name[16];
        snprintf(name, sizeof name, "c-%u", i);
        world_say(world, name, "", "x");
    }
    world_settle(world);
    assert_int_equal(world->call_count, 250);
    world_crash(world);
    assert_int_equal(world->call_count, 250);
}

static void a_parked_queue_stays_parked(void **state)
{
    struct world *world = *state;
    world_say(world, "c", "m-1", "x");
    world_say(world, "c", "m-2", "y");
    WORLD_REQUEST(world, CONV_PARK);
    world_settle(world);
    world_model_says(world, 0, "a");
    world_settle(world);
    world_crash(world);
    assert_int_equal(world->call_count, 0);
    WORLD_REQUEST(world, CONV_RESUME);
    world_settle(world);
    assert_int_equal(world->call_count, 1);
}

static void a_snapshot_and_its_tail_are_the_same_conversation(void **state)
{
    struct world *world = *state;
    world->config.default_agent = AGENT_INDEX_ECHO;
    for (uint32_t i = 0; i < 400; i++)
        world_say(world, "c", "", "x");
    world_say(world, "c", "m-last", "y");
    world_settle(world);
    char before[2048];
    snprintf(before, sizeof before, "%s", world_get(world, "c"));
    world_crash(world);
    assert_string_equal(world_get(world, "c"), before);
    uint64_t copy = world_say(world, "c", "m-last", "y");
    world_settle(world);
    assert_true(world_last(world, copy)->is_duplicate);
}

static void a_turn_left_by_a_full_disk_goes_on_by_itself(void **state)
{
    struct world *world = *state;
    uint64_t token = world_say(world, "c", "m-1", "x");
    world_settle(world);
    disk_sim_schedule(world->disk, DISK_SIM_FULL, 1, 1000000);
    world_model_says(world, 0, "lost");
    world_settle(world);
    assert_int_equal(world_last(world, token)->kind, CONV_REFUSED);
    assert_int_equal(world_last(world, token)->code, ERR_STORAGE_FULL);
    world_wait(world, 5000);
    disk_sim_schedule(world->disk, DISK_SIM_FULL, 1, 0);
    world_wait(world, 5000);
    uint32_t last = world->call_count - 1;
    assert_true(last > 0);
    world_model_says(world, last, "found");
    world_settle(world);
    uint64_t copy = world_say(world, "c", "m-1", "x");
    world_settle(world);
    assert_string_equal(world_last(world, copy)->text, "found");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up_with_model, world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_at_any_step_loses_nothing_and_repeats_nothing),
        TEST(an_interrupted_attempt_is_named_so_and_made_again),
        TEST(a_turn_that_is_always_interrupted_ends_one_day),
        TEST(many_open_conversations_are_all_taken_up),
        TEST(a_parked_queue_stays_parked),
        TEST(a_snapshot_and_its_tail_are_the_same_conversation),
        TEST(a_turn_left_by_a_full_disk_goes_on_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
