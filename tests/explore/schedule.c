/* SPDX-License-Identifier: Apache-2.0 */
/* schedule: see schedule.h. A run is a row of nodes, each a choice; the next run repeats the row up to the last node that has
 * another choice. When a fiber reaches an operation, it decides itself who goes on, and switches only if that is another.
 *
 * The reduction: for each thread's next operation, the last earlier step that touches the same place and is not ordered before
 * it could have come after it; so at that step's node the thread must be tried as well (note_conflicts). A thread that was
 * tried at a node sleeps in the node's later branches until somebody touches its operation's place: what it would do there is
 * what it did.
 */
#include "tests/explore/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

enum { STACK_BYTES = 256 * 1024, NODES_MAX = 8192, STEPS_MAX = 4096, NOBODY = SCHEDULE_THREADS_MAX };

struct fiber {
    ucontext_t context;
    void *(*main)(void *);
    void *argument;
    void *kept;                          /* of schedule_keep's variable, while another runs */
    struct schedule_op op;               /* where it stands */
    uint32_t seen[SCHEDULE_THREADS_MAX]; /* of each thread, the last step that is ordered before what comes */
    uint32_t priority;                   /* PCT */
    bool is_finished;
};

struct node {
    bool is_value;
    uint8_t chosen;
    uint8_t count; /* of values */
    /* sets of threads */
    uint8_t enabled, backtrack, done, sleep;
    struct schedule_op op; /* of the chosen thread, in this run */
};

struct step {
    uint32_t thread, node;
    enum schedule_kind kind;
    const void *place;
    uint32_t seen[SCHEDULE_THREADS_MAX];
};

enum outcome { RUNNING, AT_REST, REDUNDANT, FAILED };

static _Alignas(64) char stacks[SCHEDULE_THREADS_MAX][STACK_BYTES];
static struct fiber fibers[SCHEDULE_THREADS_MAX];
static uint32_t fiber_count;
static uint32_t current = NOBODY;
static ucontext_t outside;   /* the explorer itself */
static jmp_buf outside_jump; /* a failure there */
static void **kept_variable;

static struct node nodes[NODES_MAX];
static uint32_t node_count;              /* of the row */
static uint32_t node_next;               /* in this run */
static struct step steps[STEPS_MAX + 1]; /* from 1 */
static uint32_t step_count;
static enum outcome outcome;

static const struct schedule_options *options;
static struct schedule_result *result;
static uint64_t random_state;
static uint32_t change_steps[16], change_count;

/* ---- choices ------------------------------------------------------------------------------------------------------------ */

static uint64_t random_next(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static struct node *add_node(bool is_value)
{
    if (node_count == NODES_MAX)
        schedule_fail("more than %d choices: the program does not end", NODES_MAX);
    nodes[node_count] = (struct node){.is_value = is_value};
    node_next = node_count + 1;
    return &nodes[node_count++];
}

/* Returns: the character of the row that is to be replayed, -1 at its end. */
static int replayed_choice(void)
{
    return node_next < strlen(options->choices) ? options->choices[node_next] : -1;
}

static uint8_t choose_new_value(uint32_t count)
{
    switch (options->manner) {
    case SCHEDULE_EXHAUSTIVE: return 0;
    case SCHEDULE_PCT: return random_next() % 2 ? 0 : (uint8_t)(random_next() % count);
    case SCHEDULE_REPLAY: break;
    }
    int choice = replayed_choice();
    if (choice != -1 && (choice < '0' || choice >= '0' + (int)count))
        schedule_fail("the row of choices is of another program: a value is chosen here");
    return choice == -1 ? 0 : (uint8_t)(choice - '0');
}

uint32_t schedule_choose(uint32_t count)
{
    if (count == 1 || current == NOBODY)
        return 0;
    if (node_next < node_count) {
        if (!nodes[node_next].is_value || nodes[node_next].count != count)
            schedule_fail("the program is not the same in each run: a value of %u", count);
        return nodes[node_next++].chosen;
    }
    uint8_t chosen = choose_new_value(count);
    struct node *node = add_node(true);
    node->count = (uint8_t)count;
    node->chosen = chosen;
    return chosen;
}

/* ---- the reduction ------------------------------------------------------------------------------------------------------ */

static bool is_dependent(const struct schedule_op *a, enum schedule_kind kind, const void *place)
{
    return a->place == place && (a->kind == SCHEDULE_WRITE || kind == SCHEDULE_WRITE);
}

static void note_conflict(uint32_t thread)
{
    const struct fiber *fiber = &fibers[thread];
    for (uint32_t i = step_count; i > 0; i--) {
        const struct step *step = &steps[i];
        if (!is_dependent(&fiber->op, step->kind, step->place))
            continue;
        if (i > fiber->seen[step->thread]) {
            struct node *node = &nodes[step->node];
            node->backtrack |= node->enabled & 1u << thread ? (uint8_t)(1u << thread) : node->enabled;
            return;
        }
        if (step->kind == SCHEDULE_WRITE)
            return; /* whatever touched the place before is ordered before this write */
    }
}

static void note_conflicts(void)
{
    for (uint32_t thread = 0; thread < fiber_count; thread++) {
        if (!fibers[thread].is_finished)
            note_conflict(thread);
    }
}

/* Returns: the threads that need not be tried here. */
static uint8_t inherit_sleep(void)
{
    const struct node *parent = NULL;
    for (uint32_t i = node_next; i > 0 && !parent; i--)
        parent = nodes[i - 1].is_value ? NULL : &nodes[i - 1];
    if (!parent)
        return 0;
    uint8_t sleep = 0, tried = (uint8_t)((parent->sleep | parent->done) & ~(1u << parent->chosen));
    for (uint32_t thread = 0; thread < fiber_count; thread++) {
        if (tried & 1u << thread && !fibers[thread].is_finished &&
            !is_dependent(&fibers[thread].op, parent->op.kind, parent->op.place))
            sleep |= (uint8_t)(1u << thread);
    }
    return sleep;
}

static void join_seen(uint32_t *seen, const uint32_t *other_seen)
{
    for (uint32_t thread = 0; thread < SCHEDULE_THREADS_MAX; thread++) {
        if (seen[thread] < other_seen[thread])
            seen[thread] = other_seen[thread];
    }
}

void schedule_order(uint32_t from, uint32_t to)
{
    join_seen(fibers[to].seen, fibers[from].seen);
}

/* The thread's operation becomes a step of the run. */
static void take_step(uint32_t thread, uint32_t node)
{
    struct fiber *fiber = &fibers[thread];
    if (step_count == STEPS_MAX)
        schedule_fail("more than %d steps: the program does not end", STEPS_MAX);
    struct step *step = &steps[++step_count];
    *step = (struct step){.thread = thread, .node = node, .kind = fiber->op.kind, .place = fiber->op.place};
    fiber->seen[thread] = step_count;
    for (uint32_t i = step_count - 1; i > 0; i--) {
        if (!is_dependent(&fiber->op, steps[i].kind, steps[i].place))
            continue;
        join_seen(fiber->seen, steps[i].seen);
        if (steps[i].kind == SCHEDULE_WRITE)
            break;
    }
    memcpy(step->seen, fiber->seen, sizeof step->seen);
}

/* ---- whose turn it is ---------------------------------------------------------------------------------------------------- */

static uint8_t enabled_threads(void)
{
    uint8_t enabled = 0;
    for (uint32_t thread = 0; thread < fiber_count; thread++) {
        const struct fiber *fiber = &fibers[thread];
        if (!fiber->is_finished && (!fiber->op.is_enabled || *fiber->op.is_enabled))
            enabled |= (uint8_t)(1u << thread);
    }
    return enabled;
}

static uint32_t choose_by_priority(uint8_t enabled)
{
    uint32_t best = NOBODY;
    for (uint32_t thread = 0; thread < fiber_count; thread++) {
        if (enabled & 1u << thread && (best == NOBODY || fibers[thread].priority > fibers[best].priority))
            best = thread;
    }
    for (uint32_t i = 0; i < change_count; i++) {
        if (change_steps[i] == step_count)
            fibers[best].priority = i; /* below all that began */
    }
    return best;
}

static uint32_t choose_new_thread(uint8_t candidates)
{
    switch (options->manner) {
    case SCHEDULE_EXHAUSTIVE:
        return current != NOBODY && candidates & 1u << current ? current : (uint32_t)__builtin_ctz(candidates);
    case SCHEDULE_PCT: return choose_by_priority(candidates);
    case SCHEDULE_REPLAY: break;
    }
    int choice = replayed_choice();
    uint32_t thread = choice == -1 ? (uint32_t)__builtin_ctz(candidates) : (uint32_t)(choice - 'a');
    if (thread >= fiber_count || !(candidates & 1u << thread))
        schedule_fail("the row of choices is of another program: a thread is chosen here");
    return thread;
}

/* Returns: who goes on; NOBODY: the run is over, and `outcome` says how. */
static uint32_t decide(void)
{
    const bool is_new = node_next == node_count;
    const uint8_t enabled = enabled_threads();
    if (is_new && options->manner == SCHEDULE_EXHAUSTIVE)
        note_conflicts();
    if (!enabled) {
        outcome = AT_REST;
        return NOBODY;
    }
    struct node *node = &nodes[node_next];
    if (is_new) {
        uint8_t sleep = inherit_sleep();
        if (!(enabled & ~sleep)) {
            outcome = REDUNDANT;
            return NOBODY;
        }
        uint32_t chosen = choose_new_thread((uint8_t)(enabled & ~sleep));
        node = add_node(false);
        node->chosen = (uint8_t)chosen;
        node->enabled = enabled;
        node->sleep = sleep;
        node->backtrack = (uint8_t)(1u << chosen);
    } else {
        if (node->is_value || node->enabled != enabled)
            schedule_fail("the program is not the same in each run: threads %#x can go on", enabled);
        node_next++;
    }
    node->op = fibers[node->chosen].op;
    take_step(node->chosen, (uint32_t)(node - nodes));
    return node->chosen;
}

/* Returns: whether there is another row. */
static bool next_row(void)
{
    for (; node_count > 0; node_count--) {
        struct node *node = &nodes[node_count - 1];
        if (node->is_value) {
            if (++node->chosen < node->count)
                return true;
            continue;
        }
        node->done |= (uint8_t)(1u << node->chosen);
        uint8_t left = (uint8_t)(node->backtrack & ~node->done & ~node->sleep);
        if (left) {
            node->chosen = (uint8_t)__builtin_ctz(left);
            return true;
        }
    }
    return false;
}

/* ---- fibers ------------------------------------------------------------------------------------------------------------- */

static void keep_variable(uint32_t thread)
{
    if (kept_variable && thread != NOBODY)
        fibers[thread].kept = *kept_variable;
}

static void restore_variable(uint32_t thread)
{
    if (kept_variable)
        *kept_variable = thread == NOBODY ? NULL : fibers[thread].kept;
}

static void switch_to(uint32_t thread)
{
    uint32_t before = current;
    if (thread == before)
        return;
    keep_variable(before);
    current = thread;
    restore_variable(thread);
    swapcontext(before == NOBODY ? &outside : &fibers[before].context,
                thread == NOBODY ? &outside : &fibers[thread].context);
}

static void fiber_main(void)
{
    struct fiber *fiber = &fibers[current];
    (void)fiber->main(fiber->argument);
    fiber->is_finished = true;
    switch_to(decide());
}

uint32_t schedule_spawn(void *(*main)(void *), void *argument)
{
    if (fiber_count == SCHEDULE_THREADS_MAX)
        schedule_fail("more than %d threads", SCHEDULE_THREADS_MAX);
    uint32_t thread = fiber_count++;
    struct fiber *fiber = &fibers[thread];
    *fiber = (struct fiber){.main = main, .argument = argument};
    fiber->op = (struct schedule_op){.kind = SCHEDULE_READ, .place = fiber}; /* its start: it touches nothing of others */
    fiber->priority = (uint32_t)(random_next() >> 33) + 16;
    if (current != NOBODY)
        memcpy(fiber->seen, fibers[current].seen, sizeof fiber->seen);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = stacks[thread];
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, fiber_main, 0);

    return thread;
}

void schedule_point(const struct schedule_op *op)
{
    if (current == NOBODY)
        return;
    fibers[current].op = *op;
    switch_to(decide());
}

/* ---- runs --------------------------------------------------------------------------------------------------------------- */

static void write_choices(void)
{
    uint32_t count = node_next < sizeof result->choices - 1 ? node_next : sizeof result->choices - 1;
    for (uint32_t i = 0; i < count; i++)
        result->choices[i] = (char)((nodes[i].is_value ? '0' : 'a') + nodes[i].chosen);
    result->choices[count] = 0;
}

void schedule_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->failure, sizeof result->failure, format, arguments);
    va_end(arguments);
    outcome = FAILED;
    write_choices();
    if (current != NOBODY)
        switch_to(NOBODY);
    longjmp(outside_jump, 1);
}

static void begin_run(void)
{
    fiber_count = step_count = node_next = 0;
    current = NOBODY;
    outcome = RUNNING;
    if (options->manner == SCHEDULE_EXHAUSTIVE)
        return;
    node_count = 0;
    random_state = options->seed + result->runs * 0xD1B54A32D192ED03u;
    change_count = options->depth > 1 ? options->depth - 1 : 0;
    for (uint32_t i = 0; i < change_count; i++)
        change_steps[i] = (uint32_t)(random_next() % (result->steps_max ? result->steps_max : 50)) + 1;
}

static void run_once(const struct schedule_program *program)
{
    begin_run();
    if (setjmp(outside_jump))
        return;
    program->begin();
    switch_to(decide());
    if (outcome == AT_REST)
        program->end();
}

static bool has_next(void)
{
    if (outcome == FAILED || options->manner == SCHEDULE_REPLAY)
        return false;
    if (options->manner == SCHEDULE_EXHAUSTIVE && !next_row()) {
        result->is_exhausted = true;
        return false;
    }
    return result->runs < options->runs_max;
}

void schedule_explore(const struct schedule_program *program, const struct schedule_options *options_,
                      struct schedule_result *ret_result)
{
    options = options_;
    result = ret_result;
    *result = (struct schedule_result){0};
    node_count = 0;
    do {
        run_once(program);
        result->runs++;
        result->redundant_runs += outcome == REDUNDANT;
        if (result->steps_max < step_count)
            result->steps_max = step_count;
    } while (has_next());
    result->has_failed = outcome == FAILED;
}

bool schedule_is_in_thread(void)
{
    return current != NOBODY;
}

uint32_t schedule_thread(void)
{
    return current;
}

const bool *schedule_finished_flag(uint32_t thread)
{
    return &fibers[thread].is_finished;
}

void schedule_keep(void **variable)
{
    kept_variable = variable;
}

bool schedule_is_kept(const void *place)
{
    return place == (const void *)kept_variable;
}

void schedule_trace(const char *format, ...)
{
    if (!options->is_traced)
        return;
    printf("%4u %c  ", (unsigned)step_count, current == NOBODY ? '-' : (char)('a' + (int)current));
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}
