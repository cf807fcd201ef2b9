/* SPDX-License-Identifier: Apache-2.0 */
/* sim: the whole server in one thread and in virtual time, from a seed: `sim --seed 7`, `sim --from 1 --count 1000`.
 *
 * A run: plan drawn; server booted on an empty simulated disk; customers and observers step in an order drawn by the seed
 * among the server's parts; power cuts, kills, full disks and network faults as planned. Then calm: no more faults, and
 * everything that was asked must be answered within a virtual hour (safety first, liveness second). Then the journal is read
 * back and held against every promise (verify.h), the server is killed once more, read again, and shut down in order.
 *
 * Each seed runs in a child process, so that one that aborts harms no other. A failing seed prints how to replay it. Modelled
 * on FoundationDB's and TigerBeetle's simulators. Limits: docs/SIMULATION.md.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/planted.h"
#include "runtime/ring_sim.h"
#include "runtime/sometimes.h"
#include "storage/disk_sim.h"
#include "tests/sim/customer.h"
#include "tests/sim/operator.h"
#include "tests/sim/plan.h"
#include "tests/sim/verify.h"
#include "tests/sim/world.h"

enum {
    STEPS_MAX = 3000000,
    FAULTY_STEPS_MAX = 400000,
    CHECK_ROUNDS = 16,
    CRASH_AT_CALL_PER_MILLE = 50,
    CRASH_AT_RETRY_PER_MILLE = 300
};
static const uint64_t CALM_NS_MAX = 3600ull * 1000 * 1000 * 1000;

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

static void create(struct run *run, uint64_t seed)
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
    run->next_fault_step = 500 + sim_random_below(5000);
}

static void crash(struct run *run, bool is_power_cut)
{
    world_crash(&run->world, is_power_cut);
    for (uint32_t i = 0; i < run->plan.customers; i++)
        if (sim_chance(500)) /* the others find out by themselves */
            customer_hang_up(&run->customers[i]);
    world_boot(&run->world);
}

/* At drawn steps: a crash now, a crash within one of the next disk I/Os, or a disk that is full for a while. */
static void maybe_break(struct run *run)
{
    struct world *world = &run->world;
    if (world->full_until_ns && clock_mono_ns() > world->full_until_ns)
        world_set_room(world, 0, 0);
    /* An effect has happened: what is on the disk about it now? Above all when it is a second try. */
    uint32_t chance = world->was_asked == 0   ? 0
                      : world->was_asked == 1 ? CRASH_AT_CALL_PER_MILLE
                                              : CRASH_AT_RETRY_PER_MILLE;
    bool is_good_moment = run->crashes_left && !world->is_calm && sim_chance(chance);
    world->was_asked = 0;
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

/* Steps things in drawn order until nobody has anything to do now, then moves the clock. */
static void round_of_steps(struct run *run)
{
    uint32_t idle = 0;
    while (idle < 2 * thing_count(run)) {
        bool did_something = step(run, (uint32_t)sim_random_below(thing_count(run)));
        idle = did_something ? 0 : idle + 1;
        run->steps++;
        if (world_is_broken(&run->world)) {
            SOMETIMES(CRASH_IN_IO, true);
            crash(run, true);
        }
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
        crash(run, true);
    else if (!did_something && !world_advance(&run->world, clients_next_ns(run)) && !is_done(run))
        fail("nothing left to happen, and not everybody has an answer");
}

static void settle(struct run *run, uint64_t for_ns)
{
    for (uint64_t until_ns = clock_mono_ns() + for_ns; clock_mono_ns() < until_ns;)
        round_of_steps(run);
}

static void run_seed(uint64_t seed, bool is_verbose)
{
    static struct run run;
    create(&run, seed);
    world_set_verbose(is_verbose);
    if (is_verbose)
        plan_print(&run.plan);
    world_boot(&run.world);
    while (!is_done(&run) && run.steps < FAULTY_STEPS_MAX)
        round_of_steps(&run);
    world_calm(&run.world);
    uint64_t deadline_ns = clock_mono_ns() + CALM_NS_MAX;
    while (!is_done(&run)) {
        round_of_steps(&run);
        if (clock_mono_ns() > deadline_ns)
            fail("not everybody has an answer after an hour of calm");
    }
    /* Turns that nobody waits for, observers that lag: in pieces, since most runs are at rest at once. */
    for (int piece = 0; piece < 30; piece++) {
        settle(&run, 10ull * 1000 * 1000 * 1000);
        if (verify_is_at_rest(&run.world, run.observers))
            break;
    }
    verify_all(&run.world, run.customers, run.observers, &run.operator_, -1);

    /* Once more from the disk: what was told must be what is read. */
    for (uint32_t i = 0; i < run.plan.customers; i++)
        customer_hang_up(&run.customers[i]);
    for (uint32_t i = 0; i < run.plan.observers; i++)
        sim_http_close(&run.observers[i].line);
    sim_http_close(&run.operator_.line);
    sim_http_close(&run.eraser.line);
    world_crash(&run.world, true);
    world_boot(&run.world); /* writes the log back into the database */
    int damaged = -1;
    if (run.plan.rots) {
        world_crash(&run.world, true);
        damaged = world_rot(&run.world);
        world_boot(&run.world);
    }
    verify_all(&run.world, run.customers, run.observers, &run.operator_, damaged);
    world_shut_down(&run.world);
    if (sim_world_descriptor_count() != 0)
        fail("%u descriptors are still open", sim_world_descriptor_count());
    for (uint32_t i = 0; i < run.plan.observers; i++)
        observer_destroy(&run.observers[i]);
    printf("seed %" PRIu64 " ok hash=%016" PRIx64 " steps=%" PRIu64 " lives=%u", seed, sim_trace_hash(), run.steps,
           run.world.lives);
    for (int what = 0; what < SOMETIMES_COUNT; what++)
        if (sometimes_count((enum sometimes)what))
            printf(" %s", sometimes_name((enum sometimes)what));
    printf("\n");
    fflush(stdout);
    world_destroy(&run.world);
}

static enum planted find_planted(const char *name)
{
    for (int bug = 0; bug < PLANTED_COUNT; bug++)
        if (strcmp(planted_name((enum planted)bug), name) == 0)
            return (enum planted)bug;
    fprintf(stderr, "no planted bug %s; --list-planted lists them\n", name);
    exit(2);
}

static void list_planted(void)
{
    for (int bug = 1; bug < PLANTED_COUNT; bug++)
        printf("%s\t%s\n", planted_name((enum planted)bug), planted_text((enum planted)bug));
}

static void list_sometimes(void)
{
    for (int what = 0; what < SOMETIMES_COUNT; what++)
        printf("%s\n", sometimes_name((enum sometimes)what));
}

int main(int argc, char **argv)
{
    uint64_t from = 1, count = 1, seconds = 60;
    bool is_verbose = false, in_process = false, stops_at_failure = false;
    const char *bug = "NONE";
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--from") == 0)
            from = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--count") == 0)
            count = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--planted") == 0)
            bug = value, i++;
        else if (strcmp(argv[i], "--timeout") == 0)
            seconds = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--verbose") == 0)
            is_verbose = true;
        else if (strcmp(argv[i], "--in-process") == 0)
            in_process = true; /* for a debugger; one seed */
        else if (strcmp(argv[i], "--stop") == 0)
            stops_at_failure = true;
        else if (strcmp(argv[i], "--list-planted") == 0)
            return list_planted(), 0;
        else if (strcmp(argv[i], "--list-sometimes") == 0)
            return list_sometimes(), 0;
        else {
            fprintf(
                stderr,
                "sim --seed N | --from N --count N [--planted NAME] [--timeout S] [--stop] [--verbose] [--in-process]\n");
            return 2;
        }
    }
    planted_choose(find_planted(bug));
    log_set_level(is_verbose ? LOG_INFO : LOG_WARN);
    if (in_process)
        return run_seed(from, true), 0;
    uint64_t failed = 0;
    for (uint64_t seed = from; seed < from + count; seed++) {
        pid_t child = fork();
        if (child == 0) {
            alarm((unsigned)seconds); /* of real time: a livelock inside one step */
            run_seed(seed, is_verbose);
            exit(0); /* not _exit: AddressSanitizer then looks for leaks */
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 2;
        if (status == 0)
            continue;
        failed++;
        fprintf(stderr, "seed %" PRIu64 " failed (%s %d); replay: %s --seed %" PRIu64 " --verbose%s%s\n", seed,
                WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                argv[0], seed, strcmp(bug, "NONE") ? " --planted " : "", strcmp(bug, "NONE") ? bug : "");
        if (stops_at_failure)
            break;
    }
    return failed > 0;
}
