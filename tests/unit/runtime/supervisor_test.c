/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor: what the random trees of supervisor_model_test.c leave out: specs that are refused, dynamic children of one
 * template, counts, hanging children by the clock, and ends from outside. Real actors on a stepped worker, virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/restart_intensity.h"
#include "runtime/ring_sim.h"
#include "runtime/supervisor.h"
#include "runtime/worker.h"

#define MS UINT64_C(1000000)
#define S (1000 * MS)

enum { END_NOW = MSG_KIND_TEST + 1, CHILDREN_MAX = 16 };

struct end_now {
    struct msg msg;
    enum err reason;
};

/* A child as the test sees it; its start's argument and its actor's state. */
static struct child {
    struct actor_id actor;
    bool is_stubborn, fails_to_start;
    uint32_t starts, ends;
    enum err last_reason;
    uint64_t ended_ns;
} children[CHILDREN_MAX];

static struct {
    struct actor_id self;
    uint32_t started_count, exit_count, answer_count;
    enum err exit_reason, answer_code;
    struct actor_id answer_actor;
    uint32_t spec_count, active_count, supervisor_count, worker_count, info_count;
} owner;

static struct runtime *runtime;
static struct worker *worker;
static struct actor_id supervisor;

static enum err child_on_message(struct actor_context *context, struct msg **msg)
{
    const struct child *const child = context->state;
    if ((*msg)->kind == MSG_SHUTDOWN && !child->is_stubborn)
        actor_stop(context);
    if ((*msg)->kind == END_NOW)
        return container_of(*msg, struct end_now, msg)->reason;
    return OK;
}

static void child_on_exit(struct actor_context *context, enum err reason)
{
    struct child *const child = context->state;
    child->ends++;
    child->last_reason = reason;
    child->ended_ns = clock_mono_ns();
}

static const struct actor_type child_type = {
    .name = "child", .on_message = child_on_message, .on_exit = child_on_exit, .is_pinned = true};

static enum err start_child(struct worker *on, void *argument, const struct actor_options *options,
                            struct actor_id *ret_id)
{
    struct child *const child = argument;
    if (child->fails_to_start)
        return ERR_CONNECT;
    const enum err err = actor_spawn(on, &child_type, child, options, ret_id);
    child->starts += err == OK;
    child->actor = *ret_id;
    return err;
}

static enum err owner_on_message(struct actor_context *context, struct msg **msg)
{
    (void)context;
    if ((*msg)->kind == MSG_CHILD_STARTED)
        owner.started_count++;
    if ((*msg)->kind == MSG_EXIT) {
        owner.exit_count++;
        owner.exit_reason = container_of(*msg, struct msg_exit, msg)->reason;
    }
    if ((*msg)->kind == MSG_SUPERVISOR_ANSWER) {
        const struct supervisor_call *const call = container_of(*msg, struct supervisor_call, msg);
        owner.answer_count++;
        owner.answer_code = call->code;
        owner.answer_actor = call->actor;
        owner.spec_count = call->spec_count;
        owner.active_count = call->active_count;
        owner.supervisor_count = call->supervisor_count;
        owner.worker_count = call->worker_count;
        owner.info_count = call->info_count;
    }
    return OK;
}

static const struct actor_type owner_type = {.name = "owner", .on_message = owner_on_message, .is_pinned = true};

static void run(void)
{
    while (worker_step(worker)) {}
}

static void pass(uint64_t ns)
{
    const uint64_t until_ns = clock_mono_ns() + ns;
    for (run(); clock_mono_ns() < until_ns; run())
        sim_clock_advance_to(clock_mono_ns() + MS);
}

static int set_up(void **unused)
{
    (void)unused;
    struct error error = {0};
    log_set_level((enum log_level)(LOG_ERROR + 1));
    memset(children, 0, sizeof children);
    memset(&owner, 0, sizeof owner);
    sim_world_reset(1, NULL);
    const struct runtime_options options = {.worker_count = 1, .memory_bytes_max = 1 << 26};
    assert_int_equal(runtime_create(&options, &runtime, &error), OK);
    worker = runtime_worker(runtime, 0);
    assert_int_equal(worker_start(worker, &error), OK);
    assert_int_equal(actor_spawn(worker, &owner_type, NULL, NULL, &owner.self), OK);
    run();
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    runtime_destroy(runtime);
    sim_world_destroy();
    return 0;
}

static struct supervisor_child_spec spec_of(const char *id, struct child *child)
{
    struct supervisor_child_spec spec = {.start = start_child, .argument = child, .shutdown_ns = SUPERVISOR_INFINITY};
    snprintf(spec.id, sizeof spec.id, "%s", id);
    return spec;
}

static enum err start(const struct supervisor_spec *spec)
{
    const struct actor_options options = {.supervisor = owner.self};
    const enum err err = supervisor_start(worker, (void *)(uintptr_t)spec, &options, &supervisor);
    run();
    return err;
}

static void send_end(struct actor_id to, enum err reason)
{
    struct end_now *const end = MSG_CREATE(worker, struct end_now, END_NOW, 0);
    end->reason = reason;
    struct msg *msg = &end->msg;
    assert_int_equal(actor_send(worker, to, &msg), OK);
}

static void send_shutdown(void)
{
    struct msg *msg = msg_create(worker, MSG_SHUTDOWN, MSG_URGENT | MSG_CONTROL, sizeof *msg);
    assert_int_equal(actor_send(worker, supervisor, &msg), OK);
}

static void send_call(enum supervisor_verb verb, const struct supervisor_child_spec *child, struct actor_id actor)
{
    struct supervisor_call *const call = supervisor_call_create(worker, verb, 4);
    call->reply_to = owner.self;
    call->actor = actor;
    if (child)
        call->child = *child;
    struct msg *msg = &call->msg;
    assert_int_equal(actor_send(worker, supervisor, &msg), OK);
}

static enum err ask(enum supervisor_verb verb, const struct supervisor_child_spec *child, struct actor_id actor)
{
    const uint32_t count = owner.answer_count;
    send_call(verb, child, actor);
    run();
    assert_int_equal(owner.answer_count, count + 1);
    return owner.answer_code;
}

static void specs_that_cannot_work_are_refused(void **unused)
{
    (void)unused;
    struct supervisor_child_spec two[2] = {spec_of("a", &children[0]), spec_of("a", &children[1])};
    struct supervisor_spec spec = {.children = two, .child_count = 2};
    assert_int_equal(start(&spec), ERR_EXISTS);
    two[1].id[0] = '\0';
    assert_int_equal(start(&spec), ERR_INVALID);
    memset(two[1].id, 'x', sizeof two[1].id); /* no end */
    assert_int_equal(start(&spec), ERR_INVALID);
    two[1] = spec_of("b", &children[1]);
    two[1].start = NULL;
    assert_int_equal(start(&spec), ERR_INVALID);
    spec.intensity_count = RESTART_COUNT_MAX + 1;
    assert_int_equal(start(&spec), ERR_LIMIT);
    spec = (struct supervisor_spec){.strategy = SUPERVISOR_SIMPLE_ONE_FOR_ONE, .children = two, .child_count = 2};
    assert_int_equal(start(&spec), ERR_INVALID); /* one template */
    assert_int_equal(owner.exit_count, 0);
    assert_int_equal(children[0].starts, 0);
}

static void no_children_is_fine(void **unused)
{
    (void)unused;
    const struct supervisor_spec spec = {0};
    assert_int_equal(start(&spec), OK);
    assert_int_equal(owner.started_count, 1);
    send_shutdown();
    run();
    assert_int_equal(owner.exit_reason, ERR_SHUTDOWN);
}

static void a_child_that_fails_at_boot_stops_those_before_it_and_the_supervisor(void **unused)
{
    (void)unused;
    const struct supervisor_child_spec three[3] = {spec_of("a", &children[0]), spec_of("b", &children[1]),
                                                   spec_of("c", &children[2])};
    const struct supervisor_spec spec = {.children = three, .child_count = 3, .intensity_count = 5, .period_ns = S};
    children[2].fails_to_start = true;
    assert_int_equal(start(&spec), OK);
    assert_int_equal(owner.started_count, 0);
    assert_int_equal(owner.exit_count, 1);
    assert_int_equal(owner.exit_reason, ERR_SHUTDOWN);
    assert_int_equal(children[0].ends, 1);
    assert_int_equal(children[1].ends, 1);
    assert_true(children[1].ended_ns <= children[0].ended_ns);
}

static void a_child_that_hangs_in_its_start_is_killed_at_its_time(void **unused)
{
    (void)unused;
    struct supervisor_child_spec one = spec_of("a", &children[0]);
    one.start_ns_max = 2 * S; /* and start_child never acknowledges */
    const struct supervisor_spec spec = {.children = &one, .child_count = 1};
    assert_int_equal(start(&spec), OK);
    const uint64_t began_ns = clock_mono_ns();
    pass(1990 * MS);
    assert_int_equal(children[0].ends, 0);
    pass(20 * MS);
    assert_int_equal(children[0].last_reason, ERR_TIMEOUT);
    assert_in_range(children[0].ended_ns - began_ns, 2 * S, 2 * S + 5 * MS);
    assert_int_equal(owner.exit_reason, ERR_SHUTDOWN);
    assert_int_equal(owner.started_count, 0);
}

static void a_call_during_a_slow_stop_waits_its_turn(void **unused)
{
    (void)unused;
    struct supervisor_child_spec two[2] = {spec_of("a", &children[0]), spec_of("b", &children[1])};
    two[1].shutdown_ns = 3 * S;
    children[1].is_stubborn = true;
    const struct supervisor_spec spec = {.children = two, .child_count = 2};
    assert_int_equal(start(&spec), OK);
    send_call(SUPERVISOR_TERMINATE_CHILD, &two[1], (struct actor_id){0});
    send_call(SUPERVISOR_COUNT_CHILDREN, NULL, (struct actor_id){0});
    pass(2900 * MS);
    assert_int_equal(owner.answer_count, 0);
    pass(200 * MS);
    assert_int_equal(owner.answer_count, 2);
    assert_int_equal(children[1].last_reason, ERR_TIMEOUT);
    assert_int_equal(owner.spec_count, 2);
    assert_int_equal(owner.active_count, 1);
    assert_int_equal(owner.worker_count, 2);
    assert_int_equal(owner.supervisor_count, 0);
}

static void start_template(struct supervisor_spec *spec, struct supervisor_child_spec *template)
{
    *template = spec_of("", NULL);
    *spec = (struct supervisor_spec){.strategy = SUPERVISOR_SIMPLE_ONE_FOR_ONE,
                                     .intensity_count = 2,
                                     .period_ns = 5 * S,
                                     .children = template,
                                     .child_count = 1};
    assert_int_equal(start(spec), OK);
    for (int i = 0; i < 4; i++) {
        const struct supervisor_child_spec argument = {.argument = &children[i]};
        assert_int_equal(ask(SUPERVISOR_START_CHILD, &argument, (struct actor_id){0}), OK);
        assert_true(actor_id_is_equal(owner.answer_actor, children[i].actor));
    }
}

static void dynamic_children_are_counted_restarted_and_forgotten(void **unused)
{
    (void)unused;
    struct supervisor_spec spec;
    struct supervisor_child_spec template;
    start_template(&spec, &template);
    assert_int_equal(ask(SUPERVISOR_WHICH_CHILDREN, NULL, (struct actor_id){0}), OK);
    assert_int_equal(owner.spec_count, 1);
    assert_int_equal(owner.active_count, 4);
    assert_int_equal(owner.info_count, 4);
    send_end(children[1].actor, ERR_PROTOCOL);
    run();
    assert_int_equal(children[1].starts, 2); /* only it */
    assert_int_equal(children[0].starts, 1);

    const struct supervisor_child_spec named = spec_of("x", NULL);
    assert_int_equal(ask(SUPERVISOR_TERMINATE_CHILD, &named, (struct actor_id){0}), ERR_INVALID);
    assert_int_equal(ask(SUPERVISOR_RESTART_CHILD, &named, (struct actor_id){0}), ERR_INVALID);
    assert_int_equal(ask(SUPERVISOR_DELETE_CHILD, &named, (struct actor_id){0}), ERR_INVALID);
    const struct actor_id gone = children[2].actor;
    assert_int_equal(ask(SUPERVISOR_TERMINATE_CHILD, NULL, gone), OK);
    assert_int_equal(children[2].ends, 1);
    assert_int_equal(ask(SUPERVISOR_TERMINATE_CHILD, NULL, gone), ERR_NOT_FOUND);
    assert_int_equal(ask(SUPERVISOR_COUNT_CHILDREN, NULL, (struct actor_id){0}), OK);
    assert_int_equal(owner.active_count, 3);

    children[0].fails_to_start = true; /* its restart is tried until the intensity is spent */
    send_end(children[0].actor, ERR_PROTOCOL);
    run();
    assert_int_equal(owner.exit_count, 1);
    assert_int_equal(owner.exit_reason, ERR_SHUTDOWN);
    assert_int_equal(children[1].ends, 2);
    assert_int_equal(children[3].ends, 1);
}

static void dynamic_children_are_told_to_stop_all_at_once(void **unused)
{
    (void)unused;
    struct supervisor_spec spec;
    struct supervisor_child_spec template;
    children[0].is_stubborn = children[3].is_stubborn = true;
    start_template(&spec, &template);
    send_shutdown();
    pass(10 * S);
    assert_int_equal(children[1].ends, 1); /* those on both sides of it do not stop */
    assert_int_equal(children[2].ends, 1);
    assert_int_equal(owner.exit_count, 0);
    actor_kill(worker, children[3].actor, ERR_CANCELLED);
    run();
    assert_int_equal(owner.exit_count, 0);
    actor_kill(worker, children[0].actor, ERR_CANCELLED);
    run();
    assert_int_equal(owner.exit_count, 1);
}

static void stubborn_dynamic_children_are_killed_after_one_time_not_one_each(void **unused)
{
    (void)unused;
    struct supervisor_child_spec template = spec_of("", NULL);
    template.shutdown_ns = 2 * S;
    const struct supervisor_spec spec = {
        .strategy = SUPERVISOR_SIMPLE_ONE_FOR_ONE, .children = &template, .child_count = 1};
    assert_int_equal(start(&spec), OK);
    for (int i = 0; i < 8; i++) {
        const struct supervisor_child_spec argument = {.argument = &children[i]};
        children[i].is_stubborn = true;
        assert_int_equal(ask(SUPERVISOR_START_CHILD, &argument, (struct actor_id){0}), OK);
    }
    send_shutdown();
    pass(1990 * MS);
    assert_int_equal(owner.exit_count, 0);
    pass(20 * MS);
    assert_int_equal(owner.exit_count, 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(children[i].last_reason, ERR_TIMEOUT);
}

/* R8. The last of three does not want to stop; while the supervisor waits for it, the first crashes and stays dead. */
static void a_crash_during_an_ordered_shutdown_keeps_the_order(void **unused)
{
    (void)unused;
    struct supervisor_child_spec three[3] = {spec_of("a", &children[0]), spec_of("b", &children[1]),
                                             spec_of("c", &children[2])};
    three[2].shutdown_ns = 2 * S;
    children[2].is_stubborn = true;
    const struct supervisor_spec spec = {.children = three, .child_count = 3, .intensity_count = 5, .period_ns = S};
    assert_int_equal(start(&spec), OK);
    send_shutdown();
    pass(S);
    send_end(children[0].actor, ERR_CRASHED);
    pass(990 * MS);
    assert_int_equal(children[0].last_reason, ERR_CRASHED);
    assert_int_equal(children[1].ends, 0); /* not before the one that was started after it */
    pass(20 * MS);
    assert_int_equal(children[2].last_reason, ERR_TIMEOUT);
    assert_int_equal(children[1].last_reason, OK);
    assert_true(children[2].ended_ns <= children[1].ended_ns);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(children[i].starts, 1);
        assert_int_equal(children[i].ends, 1);
    }
    assert_int_equal(owner.exit_count, 1);
    assert_int_equal(owner.exit_reason, ERR_SHUTDOWN);
}

static void a_killed_supervisor_takes_its_children_along(void **unused)
{
    (void)unused;
    const struct supervisor_child_spec leaf = spec_of("leaf", &children[1]);
    struct supervisor_spec inner = {.children = &leaf, .child_count = 1};
    struct supervisor_child_spec two[2] = {spec_of("a", &children[0]),
                                           {.id = "inner",
                                            .start = supervisor_start,
                                            .argument = &inner,
                                            .start_ns_max = SUPERVISOR_INFINITY,
                                            .shutdown_ns = SUPERVISOR_INFINITY,
                                            .type = SUPERVISOR_CHILD_SUPERVISOR}};
    const struct supervisor_spec spec = {.children = two, .child_count = 2};
    assert_int_equal(start(&spec), OK);
    assert_int_equal(owner.started_count, 1);
    actor_kill(worker, supervisor, ERR_CANCELLED);
    run();
    assert_int_equal(owner.exit_reason, ERR_CANCELLED);
    assert_int_equal(children[0].ends, 1);
    assert_int_equal(children[1].ends, 1);
}

static void calls_that_wait_when_it_ends_are_told_so(void **unused)
{
    (void)unused;
    struct supervisor_child_spec one = spec_of("a", &children[0]);
    one.shutdown_ns = S;
    children[0].is_stubborn = true;
    const struct supervisor_spec spec = {.children = &one, .child_count = 1};
    assert_int_equal(start(&spec), OK);
    send_shutdown();
    run();
    send_call(SUPERVISOR_COUNT_CHILDREN, NULL, (struct actor_id){0});
    pass(1100 * MS);
    assert_int_equal(owner.exit_count, 1);
    assert_int_equal(owner.answer_count, 1);
    assert_int_equal(owner.answer_code, ERR_SHUTDOWN);
}

static void a_runtime_that_ends_frees_the_tree(void **unused)
{
    (void)unused;
    struct supervisor_child_spec one = spec_of("a", &children[0]);
    one.shutdown_ns = S;
    children[0].is_stubborn = true;
    const struct supervisor_spec spec = {.children = &one, .child_count = 1};
    assert_int_equal(start(&spec), OK);
    send_call(SUPERVISOR_TERMINATE_CHILD, &one, (struct actor_id){0});
    send_call(SUPERVISOR_COUNT_CHILDREN, NULL, (struct actor_id){0});
    run(); /* in the middle of an operation, with a call waiting: tear_down ends it, and the sanitizer counts */
    assert_int_equal(children[0].ends, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(specs_that_cannot_work_are_refused),
        TEST(no_children_is_fine),
        TEST(a_child_that_fails_at_boot_stops_those_before_it_and_the_supervisor),
        TEST(a_child_that_hangs_in_its_start_is_killed_at_its_time),
        TEST(a_call_during_a_slow_stop_waits_its_turn),
        TEST(dynamic_children_are_counted_restarted_and_forgotten),
        TEST(dynamic_children_are_told_to_stop_all_at_once),
        TEST(stubborn_dynamic_children_are_killed_after_one_time_not_one_each),
        TEST(a_crash_during_an_ordered_shutdown_keeps_the_order),
        TEST(a_killed_supervisor_takes_its_children_along),
        TEST(calls_that_wait_when_it_ends_are_told_so),
        TEST(a_runtime_that_ends_frees_the_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
