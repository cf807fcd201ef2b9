/* SPDX-License-Identifier: Apache-2.0 */
/* admission: the door closes while records wait for the disk, and opens by itself, whatever became of them. */
#include "actors/admission.h"

#include "tests/unit/actors/world.h"

enum { WAITING_MAX = 3 };

static int set_up(void **state)
{
    struct world *world = world_create();
    world->services.records_waiting_max = WAITING_MAX;
    *state = world;
    world_say(world, "c", "", "wake up");
    world_settle(world);
    return 0;
}

/* Returns: the token of the last message. */
static uint64_t fill(struct world *world)
{
    uint64_t token = 0;
    for (int i = 0; i < WAITING_MAX; i++) {
        assert_int_equal(admission_check(&world->services), OK);
        token = world_say(world, "c", "", "again");
        world_run(world);
    }
    return token;
}

static void it_closes_while_the_disk_stands_still_and_opens_when_it_moves(void **state)
{
    struct world *world = *state;
    fill(world);
    assert_int_equal(admission_check(&world->services), ERR_OVERLOAD);
    world_settle(world);
    assert_int_equal(admission_check(&world->services), OK);
    assert_int_equal(journal_appends_waiting(world->journal), 0);
}

static void what_a_full_disk_refused_waits_no_more(void **state)
{
    struct world *world = *state;
    disk_sim_schedule(world->disk, DISK_SIM_FULL, 1, UINT64_MAX);
    uint64_t refused = fill(world);
    assert_int_equal(admission_check(&world->services), ERR_OVERLOAD);
    world_settle(world);
    assert_int_equal(world_last(world, refused)->kind, CONV_REFUSED);
    assert_int_equal(world_last(world, refused)->code, ERR_STORAGE_FULL);
    assert_int_equal(admission_check(&world->services), OK);
    assert_int_equal(journal_appends_waiting(world->journal), 0);
}

static void a_draining_server_is_no_overloaded_one(void **state)
{
    struct world *world = *state;
    fill(world);
    world->services.is_draining = true;
    assert_int_equal(admission_check(&world->services), ERR_SHUTDOWN);
    world_settle(world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_closes_while_the_disk_stands_still_and_opens_when_it_moves),
        TEST(what_a_full_disk_refused_waits_no_more),
        TEST(a_draining_server_is_no_overloaded_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
