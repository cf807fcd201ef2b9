/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor_model: random trees of real supervisors, compared step by step with an executable specification of OTP's rules.
 *
 * The specification (functions spec_...) is written from Erlang's published Supervisor Behaviour (System Documentation, OTP
 * Design Principles) and the reference page of supervisor(3), synchronously and without our operations, states or messages:
 * stopping and starting a child are function calls. Both sides write what happens to children into a trace, S started,
 * F failed to start, X ended with a reason; traces, who is alive, and what calls answer must be equal after each step.
 *
 * A step acts on one supervisor: some of its children end at once, a call is made, starts are rigged to fail, hang or die,
 * time passes. So only one supervisor and its ancestors act at a time, and the order of events is fixed by the rules alone.
 * Virtual times are multiples of 100 ms and periods lie between them, so that a timer's tick decides nothing.
 *
 *   SUPERVISOR_MODEL_STEPS=1000000 SUPERVISOR_MODEL_SEED=7 build/debug/tests/unit/runtime/supervisor_model_test
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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
#define GRID (100 * MS)

enum {
    NODES_MAX = 96,
    CHILDREN_MAX = 12,
    TRACE_MAX = 4096,
    EVENTS_MAX = 256,
    TEST_END = MSG_KIND_TEST + 1,
};

enum failure { FAIL_AT_ONCE, FAIL_BY_HANGING, FAIL_BY_DYING };
enum pid { PID_UNDEFINED, PID_UP, PID_RESTARTING };

/* One entry of the tree: what both sides know, what the real side saw, what the specification thinks. */
static struct node {
    struct supervisor_child_spec child; /* argument: this node */
    bool is_supervisor, is_stubborn;
    enum failure failure;
    struct supervisor_spec spec; /* of a supervisor; children of the configuration */
    struct supervisor_child_spec specs[CHILDREN_MAX];
    int parent;

    struct {
        bool is_alive;
        struct actor_id actor;
        uint32_t failures_left;
    } real;

    struct {
        enum pid pid;
        uint32_t failures_left;
        int children[CHILDREN_MAX]; /* present ones, in start order */
        uint32_t child_count;
        uint64_t restarts[RESTART_COUNT_MAX + 1]; /* newest first, as OTP's list */
        uint32_t restart_count;
    } model;
} nodes[NODES_MAX];
static int node_count;

static uint64_t seed, steps_done;
static struct runtime *runtime;
static struct worker *worker;

static uint32_t chance(uint32_t below)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * UINT64_C(2685821657736338717)) >> 33) % below;
}

/* ---- the traces ------------------------------------------------------------------------------------------------------- */

struct trace {
    uint32_t count;
    struct entry {
        char what;
        int node;
        enum err reason;
    } entries[TRACE_MAX];
};
static struct trace real_trace, model_trace;

static void note(struct trace *trace, char what, int node, enum err reason)
{
    assert_true(trace->count < TRACE_MAX);
    trace->entries[trace->count++] = (struct entry){what, node, reason};
}

static void print_trace(const char *name, const struct trace *trace)
{
    fprintf(stderr, "%s:", name);
    for (uint32_t i = 0; i < trace->count; i++)
        fprintf(stderr, " %c%d", trace->entries[i].what, trace->entries[i].node);
    fprintf(stderr, "\n");
}

/* ---- the specification ------------------------------------------------------------------------------------------------ */

static uint64_t model_now_ns;

/* The mailbox of the one supervisor that acts. */
static struct event {
    enum { EVENT_EXIT, EVENT_RETRY, EVENT_CALL } kind;
    int node;
    enum err reason;
    enum supervisor_verb verb;
} events[EVENTS_MAX];
static uint32_t event_count;
static enum err call_answer;

static void spec_receive(struct event event)
{
    assert_true(event_count < EVENTS_MAX);
    events[event_count++] = event;
}

static bool spec_take_exit(int node)
{
    for (uint32_t i = 0; i < event_count; i++)
        if (events[i].kind == EVENT_EXIT && events[i].node == node) {
            memmove(&events[i], &events[i + 1], (--event_count - i) * sizeof events[0]);
            return true;
        }
    return false;
}

static void spec_remove(struct node *supervisor, int child)
{
    for (uint32_t i = 0; i < supervisor->model.child_count; i++)
        if (supervisor->model.children[i] == child) {
            memmove(&supervisor->model.children[i], &supervisor->model.children[i + 1],
                    (--supervisor->model.child_count - i) * sizeof(int));
            return;
        }
    fail();
}

static bool spec_start(int child);

/* supervisor:do_terminate. */
static void spec_terminate(int child)
{
    struct node *const node = &nodes[child];
    if (node->model.pid == PID_UP && !spec_take_exit(child)) {
        const bool is_killed = node->child.shutdown_ns == SUPERVISOR_BRUTAL_KILL;
        if (node->is_supervisor) {
            for (uint32_t i = node->model.child_count; i-- > 0;)
                if (is_killed && nodes[node->model.children[i]].model.pid == PID_UP) {
                    nodes[node->model.children[i]].model.pid = PID_UNDEFINED; /* dies with it, by its link */
                    note(&model_trace, 'X', node->model.children[i], ERR_SHUTDOWN);
                } else {
                    spec_terminate(node->model.children[i]);
                }
        } else if (is_killed) {
            note(&model_trace, 'X', child, ERR_SHUTDOWN);
        } else if (node->is_stubborn) {
            model_now_ns += node->child.shutdown_ns;
            note(&model_trace, 'X', child, ERR_TIMEOUT);
        } else {
            note(&model_trace, 'X', child, OK);
        }
    }
    node->model.pid = PID_UNDEFINED;
}

/* supervisor:terminate_children: in reverse start order, temporary ones are then forgotten. From the last down to `from`. */
static void spec_terminate_children(struct node *supervisor, uint32_t from)
{
    for (uint32_t i = supervisor->model.child_count; i-- > from;) {
        const int child = supervisor->model.children[i];
        spec_terminate(child);
        if (nodes[child].child.restart == SUPERVISOR_TEMPORARY)
            spec_remove(supervisor, child);
    }
}

/* supervisor:start_children, from index `from`. Returns: -1, or the child that failed. */
static int spec_start_children(struct node *supervisor, uint32_t from)
{
    for (uint32_t i = from; i < supervisor->model.child_count; i++)
        if (!spec_start(supervisor->model.children[i]))
            return supervisor->model.children[i];
    return -1;
}

static bool spec_start_worker(int child)
{
    struct node *const node = &nodes[child];
    const bool is_failing = node->model.failures_left > 0;
    node->model.failures_left -= is_failing;
    if (is_failing && node->failure == FAIL_AT_ONCE) {
        note(&model_trace, 'F', child, OK);
        return false;
    }
    note(&model_trace, 'S', child, OK);
    if (is_failing && node->failure == FAIL_BY_HANGING) {
        model_now_ns += node->child.start_ns_max;
        note(&model_trace, 'X', child, ERR_TIMEOUT);
    } else if (is_failing) {
        note(&model_trace, 'X', child, ERR_CRASHED);
    }
    return !is_failing;
}

/* supervisor:init: all children in order; when one fails, those before it are stopped in reverse. */
static bool spec_start_supervisor(int child)
{
    struct node *const node = &nodes[child];
    note(&model_trace, 'S', child, OK);
    node->model.restart_count = 0;
    node->model.child_count = node->spec.child_count;
    for (uint32_t i = 0; i < node->spec.child_count; i++) {
        node->model.children[i] = (int)((struct node *)node->specs[i].argument - nodes);
        nodes[node->model.children[i]].model.pid = PID_UNDEFINED;
    }
    if (spec_start_children(node, 0) < 0)
        return true;
    spec_terminate_children(node, 0);
    return false;
}

static bool spec_start(int child)
{
    const bool is_up = nodes[child].is_supervisor ? spec_start_supervisor(child) : spec_start_worker(child);
    nodes[child].model.pid = is_up ? PID_UP : PID_UNDEFINED;
    return is_up;
}

/* supervisor:add_restart: more than `intensity` in the period is too many. */
static bool spec_add_restart(struct node *supervisor)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < supervisor->model.restart_count; i++)
        if (supervisor->model.restarts[i] + supervisor->spec.period_ns >= model_now_ns)
            supervisor->model.restarts[kept++] = supervisor->model.restarts[i];
    supervisor->model.restarts[kept++] = model_now_ns;
    supervisor->model.restart_count = kept;
    return kept <= supervisor->spec.intensity_count;
}

static uint32_t spec_index_of(const struct node *supervisor, int child)
{
    uint32_t i = 0;
    while (supervisor->model.children[i] != child)
        i++;
    return i;
}

/* supervisor:restart. Returns: false when the supervisor must give up. */
static bool spec_restart(struct node *supervisor, int child)
{
    nodes[child].model.pid = PID_UNDEFINED;
    if (!spec_add_restart(supervisor))
        return false;
    int failed = -1;
    if (supervisor->spec.strategy == SUPERVISOR_ONE_FOR_ONE) {
        failed = spec_start(child) ? -1 : child;
    } else {
        const uint32_t from = supervisor->spec.strategy == SUPERVISOR_ONE_FOR_ALL ? 0 : spec_index_of(supervisor, child);
        spec_terminate_children(supervisor, from);
        failed = spec_start_children(supervisor, from);
    }
    if (failed >= 0) {
        nodes[failed].model.pid = PID_RESTARTING;
        spec_receive((struct event){.kind = EVENT_RETRY, .node = failed});
    }
    return true;
}

/* supervisor:handle_info({'EXIT', ...}). */
static bool spec_exit(struct node *supervisor, int child, enum err reason)
{
    const enum supervisor_restart restart = nodes[child].child.restart;
    nodes[child].model.pid = PID_UNDEFINED;
    if (restart == SUPERVISOR_PERMANENT || (restart == SUPERVISOR_TRANSIENT && reason != OK && reason != ERR_SHUTDOWN))
        return spec_restart(supervisor, child);
    if (restart == SUPERVISOR_TEMPORARY)
        spec_remove(supervisor, child);
    return true;
}

static bool spec_is_known(const struct node *supervisor, int child)
{
    for (uint32_t i = 0; i < supervisor->model.child_count; i++)
        if (supervisor->model.children[i] == child)
            return true;
    return false;
}

/* supervisor:handle_call. */
static enum err spec_call(struct node *supervisor, enum supervisor_verb verb, int child)
{
    const bool is_known = spec_is_known(supervisor, child);
    if (verb == SUPERVISOR_START_CHILD) {
        if (is_known)
            return ERR_EXISTS;
        supervisor->model.children[supervisor->model.child_count++] = child;
        const enum failure failure = nodes[child].failure;
        if (spec_start(child))
            return OK;
        spec_remove(supervisor, child);
        return failure == FAIL_AT_ONCE ? ERR_CONNECT : failure == FAIL_BY_HANGING ? ERR_TIMEOUT : ERR_CRASHED;
    }
    if (!is_known)
        return ERR_NOT_FOUND;
    if (verb == SUPERVISOR_TERMINATE_CHILD) {
        spec_terminate(child);
        if (nodes[child].child.restart == SUPERVISOR_TEMPORARY)
            spec_remove(supervisor, child);
        return OK;
    }
    if (nodes[child].model.pid != PID_UNDEFINED)
        return ERR_CONFLICT;
    if (verb == SUPERVISOR_DELETE_CHILD) {
        spec_remove(supervisor, child);
        return OK;
    }
    if (spec_start(child))
        return OK;
    if (nodes[child].is_supervisor)
        return ERR_SHUTDOWN;
    const enum failure failure = nodes[child].failure;
    return failure == FAIL_AT_ONCE ? ERR_CONNECT : failure == FAIL_BY_HANGING ? ERR_TIMEOUT : ERR_CRASHED;
}

/* The loop of gen_server, and what follows upward when a supervisor gives up. */
static void spec_settle(int index)
{
    while (event_count > 0) {
        const struct event event = events[0];
        struct node *const supervisor = &nodes[index];
        bool goes_on = true;
        memmove(&events[0], &events[1], --event_count * sizeof events[0]);
        switch (event.kind) {
        case EVENT_EXIT: goes_on = spec_exit(supervisor, event.node, event.reason); break;
        case EVENT_RETRY:
            if (spec_is_known(supervisor, event.node) && nodes[event.node].model.pid == PID_RESTARTING)
                goes_on = spec_restart(supervisor, event.node);
            break;
        case EVENT_CALL: call_answer = spec_call(supervisor, event.verb, event.node); break;
        }
        if (goes_on)
            continue;
        spec_terminate_children(supervisor, 0);
        event_count = 0;
        supervisor->model.pid = PID_UNDEFINED;
        if (supervisor->parent < 0)
            return;
        spec_receive((struct event){.kind = EVENT_EXIT, .node = index, .reason = ERR_SHUTDOWN});
        index = supervisor->parent;
    }
}

/* ---- the real side ---------------------------------------------------------------------------------------------------- */

struct test_end {
    struct msg msg;
    enum err reason;
};

static enum err child_on_message(struct actor_context *context, struct msg **msg)
{
    const struct node *const node = context->state;
    if ((*msg)->kind == MSG_SHUTDOWN && !node->is_stubborn)
        actor_stop(context);
    if ((*msg)->kind != TEST_END)
        return OK;
    const enum err reason = container_of(*msg, struct test_end, msg)->reason;
    if (reason == OK)
        actor_stop(context);
    return reason;
}

static void child_on_exit(struct actor_context *context, enum err reason)
{
    struct node *const node = context->state;
    node->real.is_alive = false;
    note(&real_trace, 'X', (int)(node - nodes), reason);
}

static const struct actor_type child_type = {
    .name = "child", .on_message = child_on_message, .on_exit = child_on_exit, .is_pinned = true};

static enum err start_worker(struct worker *on, void *argument, const struct actor_options *options,
                             struct actor_id *ret_id)
{
    struct node *const node = argument;
    const bool is_failing = node->real.failures_left > 0;
    node->real.failures_left -= is_failing;
    if (is_failing && node->failure == FAIL_AT_ONCE) {
        note(&real_trace, 'F', (int)(node - nodes), OK);
        return ERR_CONNECT;
    }
    assert_false(node->real.is_alive); /* never two of one child */
    assert_int_equal(actor_spawn(on, &child_type, node, options, ret_id), OK);
    note(&real_trace, 'S', (int)(node - nodes), OK);
    node->real.is_alive = true;
    node->real.actor = *ret_id;
    if (is_failing && node->failure == FAIL_BY_DYING)
        actor_kill(on, *ret_id, ERR_CRASHED);
    else if (!is_failing && node->child.start_ns_max != 0)
        assert_int_equal(supervisor_acknowledge(on, options->supervisor, *ret_id), OK);
    return OK;
}

static enum err start_supervisor(struct worker *on, void *argument, const struct actor_options *options,
                                 struct actor_id *ret_id)
{
    struct node *const node = argument;
    note(&real_trace, 'S', (int)(node - nodes), OK);
    const enum err err = supervisor_start(on, &node->spec, options, ret_id);
    node->real.actor = *ret_id;
    return err;
}

/* The root's supervisor, and who asks: remembers what came. */
static struct {
    struct actor_id self;
    bool is_started, is_ended, is_answered;
    enum err answer;
    struct supervisor_call *which; /* the last answer of that verb; owned */
    struct actor_id forward_to;    /* where it sends calls that come to itself */
} owner;

static enum err owner_on_message(struct actor_context *context, struct msg **msg)
{
    (void)context;
    switch ((*msg)->kind) {
    case MSG_CHILD_STARTED: owner.is_started = true; break;
    case MSG_EXIT:
        owner.is_ended = true;
        assert_int_equal(container_of(*msg, struct msg_exit, msg)->reason, ERR_SHUTDOWN);
        break;
    case MSG_SUPERVISOR_CALL: assert_int_equal(actor_send(worker, owner.forward_to, msg), OK); break;
    case MSG_SUPERVISOR_ANSWER: {
        struct supervisor_call *const call = container_of(*msg, struct supervisor_call, msg);
        assert_false(owner.is_answered);
        owner.is_answered = true;
        owner.answer = call->code;
        if (call->verb == SUPERVISOR_WHICH_CHILDREN) {
            owner.which = call;
            *msg = NULL;
        }
        break;
    }
    default: fail();
    }
    return OK;
}

static const struct actor_type owner_type = {.name = "owner", .on_message = owner_on_message, .is_pinned = true};

static void run_until_idle(void)
{
    while (worker_step(worker)) {}
}

/* To the model's time, and on to the next point of the grid, so that the lateness of timers never adds up. */
static void run_to_model_time(void)
{
    model_now_ns += GRID;
    for (run_until_idle(); clock_mono_ns() < model_now_ns; run_until_idle()) {
        const uint64_t now_ns = clock_mono_ns(), due_ns = worker_next_deadline_ns(worker);
        const uint64_t next_ns = due_ns > now_ns ? due_ns : now_ns + MS; /* due, and waiting for its tick */
        sim_clock_advance_to(next_ns < model_now_ns ? next_ns : model_now_ns);
    }
}

static void send(struct actor_id to, struct msg *msg)
{
    assert_non_null(msg);
    assert_int_equal(actor_send(worker, to, &msg), OK);
}

/* `to`: the supervisor, or the owner, which forwards it, so that it arrives after what is under way already. */
static void send_call(int supervisor, struct actor_id to, enum supervisor_verb verb, int child)
{
    struct supervisor_call *const call = supervisor_call_create(
        worker, verb, verb == SUPERVISOR_WHICH_CHILDREN ? nodes[supervisor].model.child_count + 1 : 0);
    assert_non_null(call);
    call->reply_to = owner.self;
    if (child >= 0)
        call->child = nodes[child].child;
    owner.is_answered = false;
    owner.forward_to = nodes[supervisor].real.actor;
    send(to, &call->msg);
}

/* ---- trees ------------------------------------------------------------------------------------------------------------ */

static int make_node(int parent, int levels_left)
{
    const int index = node_count++;
    struct node *const node = &nodes[index];
    *node = (struct node){.parent = parent, .is_supervisor = parent < 0 || (levels_left > 0 && chance(3) == 0)};
    snprintf(node->child.id, sizeof node->child.id, "n%d", index);
    node->child.argument = node;
    node->child.restart = (enum supervisor_restart)(chance(5) < 3 ? SUPERVISOR_PERMANENT : chance(3));
    node->child.type = node->is_supervisor ? SUPERVISOR_CHILD_SUPERVISOR : SUPERVISOR_CHILD_WORKER;
    node->child.start = node->is_supervisor ? start_supervisor : start_worker;
    if (!node->is_supervisor) {
        node->is_stubborn = chance(6) == 0;
        node->child.shutdown_ns = chance(4) == 0      ? SUPERVISOR_BRUTAL_KILL
                                  : node->is_stubborn ? (1 + chance(5)) * GRID
                                                      : SUPERVISOR_INFINITY;
        node->failure = (enum failure)chance(3);
        node->child.start_ns_max = node->failure == FAIL_AT_ONCE ? 0 : (1 + chance(3)) * GRID;
        return index;
    }
    node->spec.strategy = (enum supervisor_strategy)chance(3);
    node->spec.intensity_count = chance(5);
    node->spec.period_ns = chance(40) * GRID + GRID / 2;
    node->spec.children = node->specs;
    const uint32_t wanted = parent < 0 ? 3 + chance(5) : chance(6);
    bool is_leaf = true;
    while (node->spec.child_count < wanted && node_count < NODES_MAX / 2) {
        const int child = make_node(index, levels_left - 1);
        is_leaf = is_leaf && !nodes[child].is_supervisor;
        node->specs[node->spec.child_count++] = nodes[child].child;
    }
    node->child.start_ns_max = SUPERVISOR_INFINITY;
    node->child.shutdown_ns = parent >= 0 && is_leaf && chance(4) == 0 ? SUPERVISOR_BRUTAL_KILL : SUPERVISOR_INFINITY;
    return index;
}

static void compare(void);

static void plant_tree(void)
{
    node_count = 0;
    real_trace.count = model_trace.count = event_count = 0;
    owner.is_started = owner.is_ended = false;
    make_node(-1, 3);
    const bool is_up = spec_start(0);
    const struct actor_options options = {.supervisor = owner.self};
    struct actor_id id;
    assert_int_equal(start_supervisor(worker, &nodes[0], &options, &id), OK);
    run_to_model_time();
    assert_true(is_up && owner.is_started && !owner.is_ended);
    compare();
}

/* ---- comparing -------------------------------------------------------------------------------------------------------- */

static void compare_children(int supervisor)
{
    static const enum supervisor_child_state states[] = {
        [PID_UNDEFINED] = SUPERVISOR_CHILD_IS_DOWN,
        [PID_UP] = SUPERVISOR_CHILD_IS_UP,
        [PID_RESTARTING] = SUPERVISOR_CHILD_IS_RESTARTING,
    };
    const struct node *const node = &nodes[supervisor];
    uint32_t active = 0;
    send_call(supervisor, node->real.actor, SUPERVISOR_WHICH_CHILDREN, -1);
    run_until_idle();
    assert_true(owner.is_answered);
    assert_int_equal(owner.which->info_count, node->model.child_count);
    assert_int_equal(owner.which->spec_count, node->model.child_count);
    for (uint32_t i = 0; i < node->model.child_count; i++) {
        const struct node *const child = &nodes[node->model.children[i]];
        const struct supervisor_child_info *const info = &owner.which->infos[i];
        assert_string_equal(info->id, child->child.id);
        assert_int_equal(info->type, child->child.type);
        assert_int_equal(info->state, states[child->model.pid]);
        assert_true(child->model.pid != PID_UP || actor_id_is_equal(info->actor, child->real.actor));
        active += child->model.pid == PID_UP;
    }
    assert_int_equal(owner.which->active_count, active);
    struct msg *msg = &owner.which->msg;
    msg_destroy(worker, &msg);
    owner.is_answered = false;
}

/* Is a node reachable: is every supervisor above it up, and does it know the next? */
static bool is_in_tree(int index)
{
    for (; nodes[index].parent >= 0; index = nodes[index].parent)
        if (nodes[index].model.pid != PID_UP || !spec_is_known(&nodes[nodes[index].parent], index))
            return false;
    return nodes[index].model.pid == PID_UP;
}

static void compare(void)
{
    bool is_equal = real_trace.count == model_trace.count;
    for (uint32_t i = 0; is_equal && i < real_trace.count; i++)
        is_equal = real_trace.entries[i].what == model_trace.entries[i].what &&
                   real_trace.entries[i].node == model_trace.entries[i].node &&
                   real_trace.entries[i].reason == model_trace.entries[i].reason;
    if (!is_equal) {
        fprintf(stderr, "step %llu\n", (unsigned long long)steps_done);
        print_trace("real", &real_trace);
        print_trace("spec", &model_trace);
    }
    assert_true(is_equal);
    for (int i = 0; i < node_count; i++) {
        if (!nodes[i].is_supervisor)
            assert_int_equal(nodes[i].real.is_alive, nodes[i].model.pid == PID_UP && is_in_tree(i));
        else if (steps_done % 8 == 0 && is_in_tree(i))
            compare_children(i);
    }
    real_trace.count = model_trace.count = 0;
}

/* ---- steps ------------------------------------------------------------------------------------------------------------ */

static int pick_supervisor(void)
{
    for (;;) {
        const int index = (int)chance((uint32_t)node_count);
        if (nodes[index].is_supervisor && is_in_tree(index))
            return index;
    }
}

static void end_children(int supervisor)
{
    static const enum err reasons[] = {OK, ERR_SHUTDOWN, ERR_CRASHED, ERR_PROTOCOL, ERR_BUSY};
    const struct node *const node = &nodes[supervisor];
    for (uint32_t i = 0; i < node->model.child_count; i++) {
        const int child = node->model.children[i];
        if (nodes[child].is_supervisor || nodes[child].model.pid != PID_UP || chance(3) != 0)
            continue;
        const enum err reason = reasons[chance(5)];
        struct test_end *const end = MSG_CREATE(worker, struct test_end, TEST_END, MSG_URGENT);
        end->reason = reason;
        send(nodes[child].real.actor, &end->msg);
        note(&model_trace, 'X', child, reason);
        spec_receive((struct event){.kind = EVENT_EXIT, .node = child, .reason = reason});
    }
}

static int pick_child(int supervisor, enum supervisor_verb verb)
{
    const struct node *const node = &nodes[supervisor];
    if (verb == SUPERVISOR_START_CHILD && node->model.child_count < CHILDREN_MAX && node_count < NODES_MAX &&
        chance(4) != 0)
        return make_node(supervisor, 0);
    return node->model.child_count == 0 ? -1 : node->model.children[chance(node->model.child_count)];
}

static void rig_starts(int supervisor)
{
    const struct node *const node = &nodes[supervisor];
    for (uint32_t i = 0; i < node->model.child_count; i++) {
        struct node *const child = &nodes[node->model.children[i]];
        if (!child->is_supervisor && chance(4) == 0)
            child->real.failures_left = child->model.failures_left = 1 + chance(3);
    }
}

static void heal_starts(void)
{
    for (int i = 0; i < node_count; i++) {
        assert_int_equal(nodes[i].real.failures_left, nodes[i].model.failures_left);
        nodes[i].real.failures_left = nodes[i].model.failures_left = 0;
    }
}

/* The ends of children are sent first, so that all of them have ended when the supervisor runs. A call sent to it directly
 * stands in front of their exits; one that the owner forwards stands behind them, and in front of any retry they lead to. */
static bool call(int supervisor)
{
    const enum supervisor_verb verb = (enum supervisor_verb)chance(4); /* START, TERMINATE, RESTART, DELETE */
    const int child = pick_child(supervisor, verb);
    if (child < 0)
        return false;
    const struct event event = {.kind = EVENT_CALL, .verb = verb, .node = child};
    if (chance(2) == 0) {
        send_call(supervisor, owner.self, verb, child);
        spec_receive(event);
    } else {
        send_call(supervisor, nodes[supervisor].real.actor, verb, child);
        memmove(&events[1], &events[0], event_count++ * sizeof events[0]);
        events[0] = event;
    }
    return true;
}

static void step(void)
{
    const int supervisor = pick_supervisor();
    const uint32_t what = chance(10);
    if (chance(3) == 0)
        rig_starts(supervisor);
    if (what < 7)
        end_children(supervisor);
    call_answer = ERR_SHUTDOWN; /* what a call gets when the supervisor gives up before its turn */
    const bool has_called = what > 4 && call(supervisor);
    spec_settle(supervisor);
    run_to_model_time();
    assert_int_equal(owner.is_answered, has_called);
    if (has_called)
        assert_int_equal(owner.answer, call_answer);
    owner.is_answered = false;
    steps_done++;
    compare();
    heal_starts();
    if (chance(2) == 0) {
        model_now_ns += chance(30) * GRID;
        run_to_model_time();
    }
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *const text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void supervisors_do_what_otp_does(void **unused)
{
    (void)unused;
    const uint64_t step_count = number_of("SUPERVISOR_MODEL_STEPS", 100000);
    seed = number_of("SUPERVISOR_MODEL_SEED", 20261120);
    printf("supervisor_model: SUPERVISOR_MODEL_STEPS=%llu SUPERVISOR_MODEL_SEED=%llu\n", (unsigned long long)step_count,
           (unsigned long long)seed);
    seed = seed * 2 + 1; /* never 0 */
    log_set_level((enum log_level)(LOG_ERROR + 1));
    sim_world_reset(seed, NULL);
    const struct runtime_options options = {.worker_count = 1, .memory_bytes_max = 1 << 28};
    struct error error = {0};
    assert_int_equal(runtime_create(&options, &runtime, &error), OK);
    worker = runtime_worker(runtime, 0);
    assert_int_equal(worker_start(worker, &error), OK);
    assert_int_equal(actor_spawn(worker, &owner_type, NULL, NULL, &owner.self), OK);
    model_now_ns = (clock_mono_ns() / GRID + 1) * GRID;
    run_to_model_time();

    uint64_t trees = 0, gave_up = 0;
    while (steps_done < step_count) {
        trees++;
        plant_tree();
        for (int i = 0; i < 200 && !owner.is_ended && steps_done < step_count; i++)
            step();
        gave_up += owner.is_ended;
        assert_int_equal(owner.is_ended, nodes[0].model.pid != PID_UP);
        if (!owner.is_ended) { /* ordered shutdown of the whole tree */
            spec_terminate(0);
            send(nodes[0].real.actor, msg_create(worker, MSG_SHUTDOWN, MSG_URGENT | MSG_CONTROL, sizeof(struct msg)));
            run_to_model_time();
            compare();
            assert_true(owner.is_ended);
        }
    }
    printf("supervisor_model: %llu trees, %llu roots gave up\n", (unsigned long long)trees, (unsigned long long)gave_up);
    runtime_destroy(runtime);
    sim_world_destroy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(supervisors_do_what_otp_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
