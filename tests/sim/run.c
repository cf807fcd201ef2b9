/* SPDX-License-Identifier: Apache-2.0 */
/* run: see run.h. The harness's own order: things are stepped until nobody has anything to do, then the clock moves. */
#include "tests/sim/run.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/clock.h"
#include "runtime/ring_sim.h"
#include "runtime/sometimes.h"
#include "storage/disk_sim.h"
#include "tests/sim/customer.h"
#include "tests/sim/operator.h"
#include "tests/sim/plan.h"
#include "tests/sim/story.h"
#include "tests/sim/verify.h"
#include "tests/sim/world.h"

enum {
    STEPS_MAX = 3000000,
    FAULTY_STEPS_MAX = 400000,
    CHECK_ROUNDS = 16,
    STEPS_BEFORE_DARK_MAX = 200,
    CUTS_IN_START = 10,
    CUT_AGAIN_PER_MILLE = 50,
    CRASH_WHEN_FULL_PER_MILLE = 300
};
static const uint64_t CALM_NS_MAX = 3600ull * 1000 * 1000 * 1000, DARK_AFTER_NS_MAX = 10ull * 1000 * 1000;

struct run {
    struct plan plan;
    struct world world;
    struct customer customers[CUSTOMERS_MAX];
    struct observer observers[4];
    struct operator_ operator_;
    struct eraser eraser;
    uint64_t steps, rounds;
    uint32_t crashes_left, full_left;
    uint64_t next_fault_step;
};

const char *const cut_way_names[CUT_WAY_COUNT] = {
    [CUT_LOSES] = "loses", [CUT_TEARS] = "tears", [CUT_TWICE] = "twice", [CUT_KILLS] = "kills"};
static const enum disk_sim_loss cut_loss[CUT_WAY_COUNT] = {[CUT_LOSES] = DISK_SIM_LOSS_ALL,
                                                           [CUT_TEARS] = DISK_SIM_LOSS_DRAWN,
                                                           [CUT_TWICE] = DISK_SIM_LOSS_DRAWN,
                                                           [CUT_KILLS] = DISK_SIM_LOSS_NONE};

static void create_from_seed(struct run *run, uint64_t seed)
{
    plan_draw(&run->plan, seed);
    world_create(&run->world, &run->plan);
    const char *agents[CONVERSATIONS_MAX];
    for (uint32_t i = 0; i < run->plan.conversations; i++)
        agents[i] = sim_chance(run->plan.model_per_mille) ? "bot" : "echo";
    for (uint32_t i = 0; i < run->plan.customers; i++)
        customer_create(&run->customers[i], &run->plan, i, agents[i % run->plan.conversations]);
    for (uint32_t i = 0; i < run->plan.observers; i++)
        observer_create(&run->observers[i], (uint32_t)sim_random_below(run->plan.conversations));
    operator_create(&run->operator_, &run->plan);
    eraser_create(&run->eraser, &run->plan);
    run->crashes_left = run->plan.crashes;
    run->full_left = run->plan.full_disks;
    run->next_fault_step = run->plan.is_drill ? UINT64_MAX : 500 + sim_random_below(5000);
}

static void create_from_story(struct run *run, uint64_t cut, enum cut_way way)
{
    story_plan(&run->plan);
    world_create(&run->world, &run->plan);
    story_cast(&run->plan, run->customers, run->observers);
    operator_create(&run->operator_, &run->plan);
    eraser_create(&run->eraser, &run->plan);
    run->next_fault_step = UINT64_MAX;
    disk_sim_set_loss(run->world.disk, cut_loss[way]);
    disk_sim_schedule(run->world.disk, DISK_SIM_CRASH, cut, cut > 0);
    run->world.cut_again = way == CUT_TWICE ? 1 + cut % CUTS_IN_START : 0;
}

static void crash(struct run *run, bool is_power_cut)
{
    if (run->plan.crashes && sim_chance(CUT_AGAIN_PER_MILLE))
        run->world.cut_again = 1 + sim_random_below(CUTS_IN_START);
    world_crash(&run->world, is_power_cut);
    for (uint32_t i = 0; i < run->plan.customers; i++)
        if (sim_chance(500)) /* the others find out by themselves */
            customer_hang_up(&run->customers[i]);
    world_boot(&run->world);
}

/* Something has left the machine: what is on the disk about it now? Above all when it is a second try, or the disk is busy: then
 * what should have been written first may still be waiting. */
static uint32_t chance_of_crash(const struct world *world)
{
    bool is_busy = world_is_flushing(world);
    if (world->plan->is_drill)
        return world->was_asked > 1 && is_busy ? 700 : 0;
    if (world->was_asked > 1)
        return is_busy ? 700 : 300;
    if (world->was_asked)
        return is_busy ? 150 : 50;
    return world->was_promised ? is_busy ? 20 : 5 : 0;
}

/* At drawn steps: a crash now, a crash within one of the next disk I/Os, or a disk that is full for a while. */
static void maybe_break(struct run *run)
{
    struct world *world = &run->world;
    if (world->full_until_ns && clock_mono_ns() > world->full_until_ns)
        world_set_room(world, 0, 0);
    bool is_good_moment = run->crashes_left && !world->is_calm && sim_chance(chance_of_crash(world));
    world->was_asked = 0;
    world->was_promised = false;
    if (is_good_moment) {
        run->crashes_left--;
        crash(run, !sim_chance(run->plan.kill_per_mille));
        return;
    }
    if (world->is_calm || run->steps < run->next_fault_step)
        return;
    run->next_fault_step = run->steps + 200 + sim_random_below(8000);
    if (run->full_left && sim_chance(500)) {
        run->full_left--;
        uint64_t until_ns = clock_mono_ns() + (1 + sim_random_below(3000)) * 1000000ull;
        world_set_room(world, 1 + sim_random_below(400000), until_ns);
        if (run->crashes_left && sim_chance(CRASH_WHEN_FULL_PER_MILLE)) { /* the start finds it so */
            run->crashes_left--;
            crash(run, false);
        }
    } else if (run->crashes_left) {
        run->crashes_left--;
        if (sim_chance(run->plan.io_crash_per_mille))
            disk_sim_schedule(world->disk, DISK_SIM_CRASH, 1 + sim_random_below(60), 1);
        else
            crash(run, !sim_chance(run->plan.kill_per_mille));
    }
}

static bool step(struct run *run, uint32_t which)
{
    uint32_t parts = world_part_count(&run->world);
    if (which < parts)
        return world_step_part(&run->world, which);
    which -= parts;
    if (which < run->plan.customers)
        return customer_step(&run->customers[which], &run->world);
    which -= run->plan.customers;
    if (which < run->plan.observers)
        return observer_step(&run->observers[which], &run->world);
    if (which == run->plan.observers)
        return operator_step(&run->operator_, &run->world);
    return eraser_step(&run->eraser, &run->world);
}

static uint32_t thing_count(const struct run *run)
{
    return world_part_count(&run->world) + run->plan.customers + run->plan.observers +
           (run->plan.acts || run->plan.erasures ? 2 : 0);
}

static uint64_t clients_next_ns(const struct run *run)
{
    uint64_t next_ns = run->plan.observers ? clock_mono_ns() + 100 * 1000000ull : UINT64_MAX;
    for (uint32_t i = 0; i < run->plan.customers; i++) {
        uint64_t ns = customer_next_ns(&run->customers[i]);
        next_ns = ns < next_ns ? ns : next_ns;
    }
    uint64_t now_ns = clock_mono_ns();
    if (run->operator_.wake_ns > now_ns && run->operator_.wake_ns < next_ns)
        next_ns = run->operator_.wake_ns;
    if (run->eraser.wake_ns > now_ns && run->eraser.wake_ns < next_ns)
        next_ns = run->eraser.wake_ns;
    return next_ns;
}

static bool is_done(const struct run *run)
{
    for (uint32_t i = 0; i < run->plan.customers; i++)
        if (!customer_is_done(&run->customers[i]))
            return false;
    return operator_is_done(&run->operator_, &run->plan) && eraser_is_done(&run->eraser);
}

/* The disk has crashed within an I/O of one of the journal's threads. Until all is dark the others get on, as they do while a disk is
 * busy: what they already hold for true leaves the machine. */
static void crash_within_io(struct run *run)
{
    SOMETIMES(CRASH_IN_IO, true);
    uint64_t dark_ns = clock_mono_ns() + sim_random_below(DARK_AFTER_NS_MAX);
    for (int left = STEPS_BEFORE_DARK_MAX; left > 0 && clock_mono_ns() < dark_ns; left--) {
        uint32_t which = (uint32_t)sim_random_below(thing_count(run));
        bool is_worker = which < run->plan.workers, is_client = which >= world_part_count(&run->world);
        if ((is_worker || is_client) && !step(run, which))
            (void)world_advance(&run->world, dark_ns);
    }
    crash(run, true);
}

/* Steps things in drawn order until nobody has anything to do now, then moves the clock. */
static void round_of_steps(struct run *run)
{
    uint32_t idle = 0;
    while (idle < 2 * thing_count(run)) {
        bool did_something = step(run, (uint32_t)sim_random_below(thing_count(run)));
        idle = did_something ? 0 : idle + 1;
        run->steps++;
        if (world_is_broken(&run->world))
            crash_within_io(run);
        maybe_break(run);
        if (run->steps > STEPS_MAX)
            fail("no rest after %d steps", STEPS_MAX);
    }
    /* Everybody once more, so that what chance passed over does not wait for the clock. */
    bool did_something = false;
    for (uint32_t i = 0; i < thing_count(run); i++)
        did_something |= step(run, i);
    if (!world_is_broken(&run->world) && run->rounds++ % CHECK_ROUNDS == 0)
        world_check(&run->world, !did_something);
    if (world_is_broken(&run->world))
        crash_within_io(run);
    else if (!did_something && !world_advance(&run->world, clients_next_ns(run)) && !is_done(run))
        fail("nothing left to happen, and not everybody has an answer");
}

static void settle(struct run *run, uint64_t for_ns)
{
    for (uint64_t until_ns = clock_mono_ns() + for_ns; clock_mono_ns() < until_ns;)
        round_of_steps(run);
}

static void check_hour(uint64_t since_ns)
{
    if (clock_mono_ns() > since_ns + CALM_NS_MAX)
        fail("not everybody has an answer after an hour");
}

/* Turns that nobody waits for, observers that lag: in pieces, since most runs are at rest at once. */
static void come_to_rest(struct run *run)
{
    for (int piece = 0; piece < 30; piece++) {
        settle(run, 10ull * 1000 * 1000 * 1000);
        if (verify_is_at_rest(&run->world, run->observers))
            break;
    }
}

static void hang_up(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.customers; i++)
        customer_hang_up(&run->customers[i]);
    for (uint32_t i = 0; i < run->plan.observers; i++)
        sim_http_close(&run->observers[i].line);
    sim_http_close(&run->operator_.line);
    sim_http_close(&run->eraser.line);
}

static void verify(struct run *run, int damaged)
{
    verify_all(&run->world, run->customers, run->observers, &run->operator_, damaged);
}

static void restart(struct run *run)
{
    world_crash(&run->world, true);
    world_boot(&run->world);
}

static void end(struct run *run)
{
    world_shut_down(&run->world);
    if (sim_world_descriptor_count() != 0)
        fail("%u descriptors are still open", sim_world_descriptor_count());
    for (uint32_t i = 0; i < run->plan.observers; i++)
        observer_destroy(&run->observers[i]);
}

static void report(const struct run *run, const char *what)
{
    printf("%s ok hash=%016" PRIx64 " steps=%" PRIu64 " lives=%u", what, sim_trace_hash(), run->steps, run->world.lives);
    for (int path = 0; path < SOMETIMES_COUNT; path++)
        if (sometimes_count((enum sometimes)path))
            printf(" %s", sometimes_name((enum sometimes)path));
    printf("\n");
    fflush(stdout);
}

void run_seed(uint64_t seed, bool is_verbose)
{
    static struct run run;
    create_from_seed(&run, seed);
    world_set_verbose(is_verbose);
    if (is_verbose)
        plan_print(&run.plan);
    world_boot(&run.world);
    while (!is_done(&run) && run.steps < FAULTY_STEPS_MAX)
        round_of_steps(&run);
    world_calm(&run.world);
    uint64_t calm_ns = clock_mono_ns();
    while (!is_done(&run)) {
        round_of_steps(&run);
        check_hour(calm_ns);
    }
    come_to_rest(&run);
    verify(&run, -1);

    /* Once more from the disk: what was told must be what is read. */
    hang_up(&run);
    restart(&run); /* writes the log back into the database */
    int damaged = -1;
    if (run.plan.rots) {
        world_crash(&run.world, true);
        damaged = world_rot(&run.world);
        world_boot(&run.world);
    }
    verify(&run, damaged);
    end(&run);
    char what[32];
    snprintf(what, sizeof what, "seed %" PRIu64, seed);
    report(&run, what);
    world_destroy(&run.world);
}

/* The orderly end belongs to the story: a cut may fall into it. What comes behind has no cut any more. */
void run_story(uint64_t cut, enum cut_way way, bool is_verbose)
{
    static struct run run;
    create_from_story(&run, cut, way);
    world_set_verbose(is_verbose);
    world_boot(&run.world);
    uint64_t start_ns = clock_mono_ns();
    while (!is_done(&run)) {
        round_of_steps(&run);
        check_hour(start_ns);
    }
    come_to_rest(&run);
    hang_up(&run);
    world_shut_down(&run.world);
    uint64_t ios = world_io_count(&run.world);
    bool was_cut = world_cut_count(&run.world) > 0;
    if (was_cut != (cut > 0))
        fail("the story has %" PRIu64 " I/Os and no %" PRIu64 ".", ios, cut);
    world_boot(&run.world);
    verify(&run, -1);
    if (cut == 0)
        story_check(&run.world);
    restart(&run);
    verify(&run, -1);
    end(&run);
    char what[64];
    snprintf(what, sizeof what, "cut %" PRIu64 " %s of %" PRIu64, cut, cut ? cut_way_names[way] : "uncut", ios);
    report(&run, what);
    world_destroy(&run.world);
}
