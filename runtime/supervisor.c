/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor: see supervisor.h. Written along OTP's supervisor.erl, whose blocking receives become operations.
 *
 * One operation runs at a time: it stops a range of children backwards, then starts a range forwards; either range may be
 * empty or one child. Which child is awaited follows from the children's states alone (STARTING, STOPPING, KILLED), so that a
 * message is either awaited, and moves the operation on, or waits in `waiting` until the operation is over.
 *
 *   message -> awaited? -> child changes state -> operation_run -> ... -> operation_finish -> next waiting message
 *
 * Failure modes by design: no memory for MSG_SHUTDOWN means kill at once; none for a retry or for a deadline's message means
 * giving up as if the intensity were exceeded, or killing at once. Nothing ever waits for memory.
 */
#include "runtime/supervisor.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/assert.h"
#include "runtime/log.h"
#include "runtime/restart_intensity.h"
#include "runtime/worker_internal.h" /* msg_drop */

enum {
    MSG_BOOT = MSG_SUPERVISOR_PRIVATE_FIRST, /* the first one: start the children */
    MSG_RETRY,                               /* a child that failed to restart: once more */
    MSG_DEADLINE,                            /* what the operation awaits has taken too long */
};
_Static_assert((int)MSG_DEADLINE == (int)MSG_SUPERVISOR_PRIVATE_LAST, "the header reserves the range");

struct msg_retry {
    struct msg msg;
    uint64_t serial; /* of the child; never its pointer: it may be forgotten meanwhile */
};

struct msg_deadline {
    struct msg msg;
    uint64_t token;
};

/* DOWN -> STARTING -> UP -> STOPPING -> KILLED -> DOWN is the long way round; RESTARTING is DOWN with a MSG_RETRY on its way. */
enum child_state {
    CHILD_DOWN,       /* no actor */
    CHILD_STARTING,   /* spawned; its acknowledgement is awaited */
    CHILD_UP,         /* running, or ended with its MSG_EXIT not yet taken */
    CHILD_STOPPING,   /* was told to; its exit is awaited */
    CHILD_KILLED,     /* was killed; its exit is awaited */
    CHILD_RESTARTING, /* no actor: it failed to restart and will be tried again */
    CHILD_STATE_COUNT
};

static const bool child_legal[CHILD_STATE_COUNT][CHILD_STATE_COUNT] = {
    [CHILD_DOWN] = {[CHILD_STARTING] = true, [CHILD_UP] = true, [CHILD_RESTARTING] = true},
    [CHILD_STARTING] = {[CHILD_UP] = true, [CHILD_KILLED] = true, [CHILD_DOWN] = true},
    [CHILD_UP] = {[CHILD_STOPPING] = true, [CHILD_KILLED] = true, [CHILD_DOWN] = true},
    [CHILD_STOPPING] = {[CHILD_KILLED] = true, [CHILD_DOWN] = true},
    [CHILD_KILLED] = {[CHILD_DOWN] = true},
    [CHILD_RESTARTING] = {[CHILD_DOWN] = true},
};

struct child {
    struct child *next, *previous; /* the supervisor's list, in start order */
    struct supervisor_child_spec spec;
    uint64_t serial;
    struct actor_id actor; /* {0,0} when DOWN or RESTARTING */
    enum child_state state;
};

enum operation_kind {
    OPERATION_NONE,
    OPERATION_BOOT,      /* start all */
    OPERATION_RECOVER,   /* `subject` failed: stop and start what the strategy says */
    OPERATION_ADD,       /* START_CHILD of `call` */
    OPERATION_REVIVE,    /* RESTART_CHILD of `call` */
    OPERATION_TERMINATE, /* TERMINATE_CHILD of `call` */
    OPERATION_END,       /* stop all, then end */
};

struct operation {
    enum operation_kind kind;
    struct child *subject;        /* the child it is about; NULL for BOOT and END */
    bool is_single;               /* touches `subject` only, else a range up to the list's end */
    bool is_starting;             /* the second half has begun */
    bool is_start_failed;         /* with `code` */
    enum err code;                /* the start's failure */
    struct child *next;           /* to be stopped or started next; NULL: this half is through */
    uint32_t awaited_count;       /* children in STARTING, STOPPING or KILLED */
    uint64_t deadline_token;      /* of the deadline that counts; 0: none */
    struct supervisor_call *call; /* to be answered at its end; owned */
};

struct supervisor {
    struct worker *worker;
    struct actor_id self, parent;
    enum supervisor_strategy strategy;
    struct supervisor_child_spec template; /* simple_one_for_one only */
    struct restart_intensity intensity;
    struct child *first, *last;
    uint64_t serial_last, token_last;
    struct operation operation;
    struct msg *waiting_first, *waiting_last; /* FIFO by msg.next; owned */
    bool is_ended;
};

/* ---- children: the list and the states -------------------------------------------------------------------------------- */

static bool is_simple(const struct supervisor *supervisor)
{
    return supervisor->strategy == SUPERVISOR_SIMPLE_ONE_FOR_ONE;
}

static bool is_awaited_state(enum child_state state)
{
    return state == CHILD_STARTING || state == CHILD_STOPPING || state == CHILD_KILLED;
}

static void child_set_state(struct supervisor *supervisor, struct child *child, enum child_state to)
{
    struct operation *const operation = &supervisor->operation;
    ASSERT(child_legal[child->state][to]);
    operation->awaited_count -= is_awaited_state(child->state);
    operation->awaited_count += is_awaited_state(to);
    child->state = to;
    if (to == CHILD_DOWN)
        child->actor = (struct actor_id){0};
    ASSERT(operation->kind != OPERATION_NONE || operation->awaited_count == 0);
    ASSERT_SLOW((to == CHILD_DOWN || to == CHILD_RESTARTING) == actor_id_is_none(child->actor));
}

static struct child *child_append(struct supervisor *supervisor, const struct supervisor_child_spec *spec)
{
    struct child *const child = malloc(sizeof *child);
    if (child == NULL)
        return NULL;
    *child = (struct child){.spec = *spec, .serial = ++supervisor->serial_last, .previous = supervisor->last};
    if (supervisor->last)
        supervisor->last->next = child;
    else
        supervisor->first = child;
    supervisor->last = child;
    return child;
}

static void child_forget(struct supervisor *supervisor, struct child *child)
{
    ASSERT(actor_id_is_none(child->actor)); /* else its MSG_EXIT would name freed memory */
    if (child->previous)
        child->previous->next = child->next;
    else
        supervisor->first = child->next;
    if (child->next)
        child->next->previous = child->previous;
    else
        supervisor->last = child->previous;
    free(child);
}

static struct child *child_find_id(const struct supervisor *supervisor, const char *id)
{
    for (struct child *child = supervisor->first; child; child = child->next)
        if (strcmp(child->spec.id, id) == 0)
            return child;
    return NULL;
}

static struct child *child_find_serial(const struct supervisor *supervisor, uint64_t serial)
{
    for (struct child *child = supervisor->first; child; child = child->next)
        if (child->serial == serial)
            return child;
    return NULL;
}

static struct child *child_find_actor(const struct supervisor *supervisor, struct actor_id actor)
{
    for (struct child *child = supervisor->first; child; child = child->next)
        if (!actor_id_is_none(actor) && actor_id_is_equal(child->actor, actor))
            return child;
    return NULL;
}

/* What OTP does with a child that is down and was not meant to come back. */
static void child_retire(struct supervisor *supervisor, struct child *child)
{
    if (child->spec.restart == SUPERVISOR_TEMPORARY || is_simple(supervisor))
        child_forget(supervisor, child);
}

/* ---- messages --------------------------------------------------------------------------------------------------------- */

/* Drops the exit and what it carries, as dead letters: a supervisor does not know what a child's messages mean. Returns how
 * many they were. */
static uint32_t exit_destroy(struct worker *worker, struct msg_exit *exit)
{
    uint32_t lost_count = exit->crash_msg != NULL;
    for (const struct msg *lost = exit->undelivered; lost; lost = lost->next)
        lost_count++;
    if (exit->crash_msg)
        msg_drop(worker, exit->crash_msg);
    msg_drop_chain(worker, exit->undelivered);
    struct msg *msg = &exit->msg;
    msg_destroy(worker, &msg);
    return lost_count;
}

static void waiting_push(struct supervisor *supervisor, struct msg *msg)
{
    msg->next = NULL;
    if (supervisor->waiting_last)
        supervisor->waiting_last->next = msg;
    else
        supervisor->waiting_first = msg;
    supervisor->waiting_last = msg;
}

static struct msg *waiting_pop(struct supervisor *supervisor)
{
    struct msg *const msg = supervisor->waiting_first;
    if (msg) {
        supervisor->waiting_first = msg->next;
        if (msg->next == NULL)
            supervisor->waiting_last = NULL;
        msg->next = NULL;
    }
    return msg;
}

/* Takes the exit of `child` out of the waiting messages, wherever it stands. NULL: it has not come. */
static struct msg_exit *waiting_take_exit(struct supervisor *supervisor, const struct child *child)
{
    struct msg *previous = NULL;
    for (struct msg *msg = supervisor->waiting_first; msg; previous = msg, msg = msg->next) {
        struct msg_exit *const exit = msg->kind == MSG_EXIT ? container_of(msg, struct msg_exit, msg) : NULL;
        if (exit == NULL || !actor_id_is_equal(exit->actor, child->actor))
            continue;
        if (previous)
            previous->next = msg->next;
        else
            supervisor->waiting_first = msg->next;
        if (supervisor->waiting_last == msg)
            supervisor->waiting_last = previous;
        msg->next = NULL;
        return exit;
    }
    return NULL;
}

static void answer(struct supervisor *supervisor, struct supervisor_call *call, enum err code)
{
    call->code = code;
    call->msg.kind = MSG_SUPERVISOR_ANSWER;
    call->msg.flags = MSG_CONTROL;
    struct msg *msg = &call->msg;
    if (actor_send(supervisor->worker, call->reply_to, &msg) != OK)
        msg_destroy(supervisor->worker, &msg); /* who asked is gone */
}

/* ---- the operation ---------------------------------------------------------------------------------------------------- */

/* The deadline of what is awaited now; the one before counts no more. Returns: false when there is no memory for it. */
static bool set_deadline(struct supervisor *supervisor, uint64_t delay_ns)
{
    supervisor->operation.deadline_token = 0;
    if (delay_ns == SUPERVISOR_INFINITY)
        return true;
    struct msg_deadline *const deadline =
        MSG_CREATE(supervisor->worker, struct msg_deadline, MSG_DEADLINE, MSG_URGENT | MSG_CONTROL);
    if (deadline == NULL)
        return false;
    deadline->token = supervisor->operation.deadline_token = ++supervisor->token_last;
    struct msg *msg = &deadline->msg;
    actor_send_after(supervisor->worker, supervisor->self, &msg, delay_ns);
    return true;
}

static void child_kill(struct supervisor *supervisor, struct child *child, enum err reason)
{
    child_set_state(supervisor, child, CHILD_KILLED);
    actor_kill(supervisor->worker, child->actor, reason);
}

/* Begins to stop a child. It is down at once when it was not running, or when its exit has come already (S2). */
static void child_stop(struct supervisor *supervisor, struct child *child)
{
    if (child->state == CHILD_RESTARTING)
        child_set_state(supervisor, child, CHILD_DOWN);
    if (child->state == CHILD_DOWN)
        return;
    ASSERT(child->state == CHILD_UP);

    struct msg_exit *const exit = waiting_take_exit(supervisor, child);
    if (exit) {
        exit_destroy(supervisor->worker, exit);
        child_set_state(supervisor, child, CHILD_DOWN);
        return;
    }
    if (child->spec.shutdown_ns != SUPERVISOR_BRUTAL_KILL) {
        struct msg *shutdown = msg_create(supervisor->worker, MSG_SHUTDOWN, MSG_URGENT | MSG_CONTROL, sizeof *shutdown);
        if (shutdown && actor_send(supervisor->worker, child->actor, &shutdown) == OK) {
            child_set_state(supervisor, child, CHILD_STOPPING);
            return;
        }
        msg_destroy(supervisor->worker, &shutdown);
    }
    child_kill(supervisor, child, ERR_SHUTDOWN); /* harmless to one that is gone: its exit is then on its way */
}

/* Returns: OK also when the child is up only once it has acknowledged. */
static enum err child_start(struct supervisor *supervisor, struct child *child)
{
    if (child->state == CHILD_RESTARTING)
        child_set_state(supervisor, child, CHILD_DOWN);
    ASSERT(child->state == CHILD_DOWN);

    const struct actor_options options = {.supervisor = supervisor->self, .child_key = child};
    struct actor_id actor = {0};
    const enum err err = child->spec.start(supervisor->worker, child->spec.argument, &options, &actor);
    if (err != OK)
        return err;
    ASSERT(!actor_id_is_none(actor));
    child->actor = actor;
    if (child->spec.start_ns_max == 0) {
        child_set_state(supervisor, child, CHILD_UP);
        return OK;
    }
    child_set_state(supervisor, child, CHILD_STARTING);
    if (!set_deadline(supervisor, child->spec.start_ns_max))
        child_kill(supervisor, child, ERR_NO_MEMORY);
    return OK;
}

static void operation_begin(struct supervisor *supervisor, struct operation operation)
{
    ASSERT(supervisor->operation.kind == OPERATION_NONE);
    ASSERT(operation.kind != OPERATION_NONE);
    supervisor->operation = operation;
}

/* Stops all children, last first, then the supervisor itself. */
static void begin_end(struct supervisor *supervisor)
{
    operation_begin(supervisor, (struct operation){.kind = OPERATION_END, .next = supervisor->last});
}

/* The next child of the first half, and the one after it. */
static void operation_stop_next(struct supervisor *supervisor)
{
    struct operation *const operation = &supervisor->operation;
    struct child *const child = operation->next;
    const bool is_lowest = child == operation->subject && supervisor->strategy != SUPERVISOR_ONE_FOR_ALL;
    operation->next = is_lowest || operation->is_single ? NULL : child->previous;

    child_stop(supervisor, child);
    if (child->state == CHILD_STOPPING && !set_deadline(supervisor, child->spec.shutdown_ns))
        child_kill(supervisor, child, ERR_SHUTDOWN);
    if (child->state == CHILD_DOWN && operation->kind != OPERATION_TERMINATE)
        child_retire(supervisor, child);
}

/* All at once (S1), with one deadline: they have one template. */
static void operation_stop_simple(struct supervisor *supervisor)
{
    struct operation *const operation = &supervisor->operation;
    operation->next = NULL;
    for (struct child *child = supervisor->last, *previous; child; child = previous) {
        previous = child->previous;
        child_stop(supervisor, child);
        if (child->state == CHILD_DOWN)
            child_forget(supervisor, child);
    }
    if (operation->awaited_count == 0 || set_deadline(supervisor, supervisor->template.shutdown_ns))
        return;
    for (struct child *child = supervisor->first; child; child = child->next)
        if (child->state == CHILD_STOPPING)
            child_kill(supervisor, child, ERR_SHUTDOWN);
}

/* The second half: the range to start. */
static void operation_turn(struct supervisor *supervisor)
{
    struct operation *const operation = &supervisor->operation;
    operation->is_starting = true;
    switch (operation->kind) {
    case OPERATION_RECOVER:
        operation->next = supervisor->strategy == SUPERVISOR_ONE_FOR_ALL ? supervisor->first : operation->subject;
        return;
    case OPERATION_TERMINATE:
    case OPERATION_END: operation->next = NULL; return;
    case OPERATION_NONE:
    case OPERATION_BOOT:
    case OPERATION_ADD:
    case OPERATION_REVIVE: ASSERT(false); /* begin with their second half */
    }
}

/* Remembers that `child` did not start; nothing after it is started. */
static void operation_fail_start(struct supervisor *supervisor, struct child *child, enum err code)
{
    struct operation *const operation = &supervisor->operation;
    ASSERT(child->state == CHILD_DOWN);
    LOG(LOG_WARN, "child_start_failed", LOG_TEXT("child", child->spec.id), LOG_ERR(code));
    operation->is_start_failed = true;
    operation->code = code;
    operation->subject = child;
    operation->next = NULL;
}

static void operation_start_next(struct supervisor *supervisor)
{
    struct operation *const operation = &supervisor->operation;
    struct child *const child = operation->next;
    operation->next = operation->is_single ? NULL : child->next;

    const enum err err = child_start(supervisor, child);
    if (err != OK)
        operation_fail_start(supervisor, child, err);
}

/* A restart that failed leaves the child RESTARTING and comes back as a message, as OTP does, so that calls and exits get
 * their turn in between; each attempt counts for the intensity. */
static void retry_later(struct supervisor *supervisor, struct child *child)
{
    struct msg_retry *const retry = MSG_CREATE(supervisor->worker, struct msg_retry, MSG_RETRY, MSG_URGENT | MSG_CONTROL);
    if (retry) {
        retry->serial = child->serial;
        struct msg *msg = &retry->msg;
        if (actor_send(supervisor->worker, supervisor->self, &msg) == OK) {
            child_set_state(supervisor, child, CHILD_RESTARTING);
            return;
        }
        msg_destroy(supervisor->worker, &msg);
    }
    LOG(LOG_ERROR, "supervisor_gave_up", LOG_TEXT("child", child->spec.id), LOG_ERR(ERR_NO_MEMORY));
    begin_end(supervisor);
}

/* What is left over once this supervisor does nothing any more. Owns: `msg`. */
static void refuse(struct supervisor *supervisor, struct msg *msg)
{
    if (msg->kind == MSG_SUPERVISOR_CALL)
        answer(supervisor, container_of(msg, struct supervisor_call, msg), ERR_SHUTDOWN);
    else if (msg->kind == MSG_EXIT)
        exit_destroy(supervisor->worker, container_of(msg, struct msg_exit, msg));
    else
        msg_destroy(supervisor->worker, &msg);
}

static void supervisor_end(struct supervisor *supervisor)
{
    supervisor->is_ended = true;
    for (struct msg *msg; (msg = waiting_pop(supervisor)) != NULL;)
        refuse(supervisor, msg);
    actor_kill(supervisor->worker, supervisor->self, ERR_SHUTDOWN);
}

static void boot_finish(struct supervisor *supervisor, bool is_start_failed)
{
    /* Without the acknowledgement the parent would wait for ever, or kill us: end instead. */
    if (is_start_failed ||
        (!actor_id_is_none(supervisor->parent) &&
         supervisor_acknowledge(supervisor->worker, supervisor->parent, supervisor->self) == ERR_NO_MEMORY))
        begin_end(supervisor);
}

static void operation_finish(struct supervisor *supervisor)
{
    const struct operation done = supervisor->operation;
    ASSERT(done.awaited_count == 0);
    supervisor->operation = (struct operation){0};

    switch (done.kind) {
    case OPERATION_BOOT: boot_finish(supervisor, done.is_start_failed); return;
    case OPERATION_RECOVER:
        if (done.is_start_failed)
            retry_later(supervisor, done.subject);
        return;
    case OPERATION_ADD:
        if (done.is_start_failed)
            child_forget(supervisor, done.subject);
        else
            done.call->actor = done.subject->actor;
        answer(supervisor, done.call, done.code);
        return;
    case OPERATION_REVIVE:
        done.call->actor = done.subject->actor;
        answer(supervisor, done.call, done.code);
        return;
    case OPERATION_TERMINATE:
        child_retire(supervisor, done.subject);
        answer(supervisor, done.call, OK);
        return;
    case OPERATION_END: supervisor_end(supervisor); return;
    case OPERATION_NONE: ASSERT(false);
    }
}

/* Goes on until something must be awaited, or the operation, and the one that may follow from it, is over. */
static void operation_run(struct supervisor *supervisor)
{
    struct operation *const operation = &supervisor->operation;
    while (!supervisor->is_ended && operation->kind != OPERATION_NONE && operation->awaited_count == 0) {
        if (operation->next && operation->is_starting)
            operation_start_next(supervisor);
        else if (operation->next && is_simple(supervisor) && operation->kind == OPERATION_END)
            operation_stop_simple(supervisor);
        else if (operation->next)
            operation_stop_next(supervisor);
        else if (!operation->is_starting)
            operation_turn(supervisor);
        else
            operation_finish(supervisor);
    }
}

/* ---- what an operation awaits ----------------------------------------------------------------------------------------- */

static void on_awaited_exit(struct supervisor *supervisor, struct child *child, struct msg_exit *exit)
{
    struct operation *const operation = &supervisor->operation;
    const bool was_killed = child->state == CHILD_KILLED;
    const enum err reason = exit->reason;
    exit_destroy(supervisor->worker, exit);
    child_set_state(supervisor, child, CHILD_DOWN);
    if (operation->is_starting)
        operation_fail_start(supervisor, child, was_killed ? ERR_TIMEOUT : reason == OK ? ERR_CRASHED : reason);
    else if (operation->kind != OPERATION_TERMINATE)
        child_retire(supervisor, child);
}

static void on_deadline(struct supervisor *supervisor)
{
    for (struct child *child = supervisor->first; child; child = child->next)
        if (child->state == CHILD_STARTING || child->state == CHILD_STOPPING) {
            LOG(LOG_WARN, child->state == CHILD_STARTING ? "child_start_timeout" : "child_stop_timeout",
                LOG_TEXT("child", child->spec.id));
            child_kill(supervisor, child, ERR_TIMEOUT);
        }
}

/* Takes *msg when the operation awaits it. */
static bool take_awaited(struct supervisor *supervisor, struct msg **msg)
{
    switch ((*msg)->kind) {
    case MSG_EXIT: {
        struct msg_exit *const exit = container_of(*msg, struct msg_exit, msg);
        struct child *const child = exit->child_key;
        if (!is_awaited_state(child->state))
            return false;
        ASSERT(actor_id_is_equal(child->actor, exit->actor));
        *msg = NULL;
        on_awaited_exit(supervisor, child, exit);
        return true;
    }
    case MSG_CHILD_STARTED: {
        const struct msg_child_started *const started = container_of(*msg, struct msg_child_started, msg);
        struct child *const child = child_find_actor(supervisor, started->actor);
        if (child && child->state == CHILD_STARTING)
            child_set_state(supervisor, child, CHILD_UP);
        return true; /* else it came after its deadline, or nobody asked for it */
    }
    case MSG_DEADLINE:
        if (container_of(*msg, struct msg_deadline, msg)->token == supervisor->operation.deadline_token)
            on_deadline(supervisor);
        return true; /* else it is stale */
    }
    return false;
}

/* ---- what begins an operation ----------------------------------------------------------------------------------------- */

/* OTP's restart/2: counts it, and does what the strategy says. `child` is down. */
static void recover(struct supervisor *supervisor, struct child *child, uint64_t now_ns)
{
    if (!restart_intensity_allow(&supervisor->intensity, now_ns)) {
        LOG(LOG_ERROR, "supervisor_gave_up", LOG_TEXT("child", child->spec.id),
            LOG_UINT("intensity", supervisor->intensity.count_max));
        begin_end(supervisor);
        return;
    }
    struct operation operation = {.kind = OPERATION_RECOVER, .subject = child};
    switch (supervisor->strategy) {
    case SUPERVISOR_ONE_FOR_ONE:
    case SUPERVISOR_SIMPLE_ONE_FOR_ONE:
        operation.is_single = operation.is_starting = true;
        operation.next = child;
        break;
    case SUPERVISOR_REST_FOR_ONE:
    case SUPERVISOR_ONE_FOR_ALL: operation.next = supervisor->last; break;
    }
    operation_begin(supervisor, operation);
}

static void on_exit_of_child(struct supervisor *supervisor, struct msg_exit *exit, uint64_t now_ns)
{
    struct child *const child = exit->child_key;
    const enum err reason = exit->reason;
    ASSERT(child->state == CHILD_UP);
    ASSERT(actor_id_is_equal(child->actor, exit->actor));

    const uint32_t lost_count = exit_destroy(supervisor->worker, exit);
    child_set_state(supervisor, child, CHILD_DOWN);
    const bool is_orderly = reason == OK || reason == ERR_SHUTDOWN;
    if (!is_orderly || child->spec.restart == SUPERVISOR_PERMANENT)
        LOG(LOG_WARN, "child_ended", LOG_TEXT("child", child->spec.id), LOG_ERR(reason), LOG_UINT("lost", lost_count));

    if (child->spec.restart == SUPERVISOR_PERMANENT || (child->spec.restart == SUPERVISOR_TRANSIENT && !is_orderly))
        recover(supervisor, child, now_ns);
    else
        child_retire(supervisor, child);
}

static void on_retry(struct supervisor *supervisor, uint64_t serial, uint64_t now_ns)
{
    struct child *const child = child_find_serial(supervisor, serial);
    if (child == NULL || child->state != CHILD_RESTARTING)
        return; /* stopped, forgotten or started by something else meanwhile */
    child_set_state(supervisor, child, CHILD_DOWN);
    recover(supervisor, child, now_ns);
}

static bool is_spec_valid(const struct supervisor_child_spec *spec, bool is_template)
{
    return spec->start != NULL && (is_template || spec->id[0] != '\0') && memchr(spec->id, '\0', sizeof spec->id) != NULL;
}

static void on_start_child(struct supervisor *supervisor, struct supervisor_call *call)
{
    struct supervisor_child_spec spec = is_simple(supervisor) ? supervisor->template : call->child;
    spec.argument = call->child.argument;
    if (!is_spec_valid(&spec, is_simple(supervisor))) {
        answer(supervisor, call, ERR_INVALID);
        return;
    }
    const struct child *const known = is_simple(supervisor) ? NULL : child_find_id(supervisor, spec.id);
    if (known) {
        call->actor = known->actor;
        answer(supervisor, call, ERR_EXISTS);
        return;
    }
    struct child *const child = child_append(supervisor, &spec);
    if (child == NULL) {
        answer(supervisor, call, ERR_NO_MEMORY);
        return;
    }
    operation_begin(supervisor, (struct operation){.kind = OPERATION_ADD,
                                                   .subject = child,
                                                   .is_single = true,
                                                   .is_starting = true,
                                                   .next = child,
                                                   .call = call});
}

static void on_terminate_child(struct supervisor *supervisor, struct supervisor_call *call)
{
    const bool is_named_by_actor = call->child.id[0] == '\0';
    if (is_named_by_actor != is_simple(supervisor)) {
        answer(supervisor, call, ERR_INVALID);
        return;
    }
    struct child *const child =
        is_named_by_actor ? child_find_actor(supervisor, call->actor) : child_find_id(supervisor, call->child.id);
    if (child == NULL) {
        answer(supervisor, call, ERR_NOT_FOUND);
        return;
    }
    operation_begin(supervisor,
                    (struct operation){
                        .kind = OPERATION_TERMINATE, .subject = child, .is_single = true, .next = child, .call = call});
}

/* RESTART_CHILD and DELETE_CHILD: both are about one that is down. */
static void on_call_of_down_child(struct supervisor *supervisor, struct supervisor_call *call)
{
    if (is_simple(supervisor)) {
        answer(supervisor, call, ERR_INVALID);
        return;
    }
    struct child *const child = child_find_id(supervisor, call->child.id);
    if (child == NULL || child->state != CHILD_DOWN) {
        answer(supervisor, call, child == NULL ? ERR_NOT_FOUND : ERR_CONFLICT);
        return;
    }
    if (call->verb == SUPERVISOR_DELETE_CHILD) {
        child_forget(supervisor, child);
        answer(supervisor, call, OK);
        return;
    }
    operation_begin(supervisor, (struct operation){.kind = OPERATION_REVIVE,
                                                   .subject = child,
                                                   .is_single = true,
                                                   .is_starting = true,
                                                   .next = child,
                                                   .call = call});
}

static void on_count_or_which(struct supervisor *supervisor, struct supervisor_call *call)
{
    const bool is_which = call->verb == SUPERVISOR_WHICH_CHILDREN;
    for (const struct child *child = supervisor->first; child; child = child->next) {
        const bool is_up = child->state == CHILD_UP;
        call->spec_count++;
        call->active_count += is_up;
        call->supervisor_count += child->spec.type == SUPERVISOR_CHILD_SUPERVISOR;
        call->worker_count += child->spec.type == SUPERVISOR_CHILD_WORKER;
        if (!is_which || call->info_count == call->info_count_max)
            continue;
        struct supervisor_child_info *const info = &call->infos[call->info_count++];
        *info = (struct supervisor_child_info){.actor = child->actor, .type = child->spec.type};
        memcpy(info->id, child->spec.id, sizeof info->id);
        info->state = is_up                              ? SUPERVISOR_CHILD_IS_UP
                      : child->state == CHILD_RESTARTING ? SUPERVISOR_CHILD_IS_RESTARTING
                                                         : SUPERVISOR_CHILD_IS_DOWN;
    }
    if (is_simple(supervisor))
        call->spec_count = 1;
    answer(supervisor, call, OK);
}

static void on_call(struct supervisor *supervisor, struct supervisor_call *call)
{
    if (memchr(call->child.id, '\0', sizeof call->child.id) == NULL) {
        answer(supervisor, call, ERR_INVALID);
        return;
    }
    switch (call->verb) {
    case SUPERVISOR_START_CHILD: on_start_child(supervisor, call); return;
    case SUPERVISOR_TERMINATE_CHILD: on_terminate_child(supervisor, call); return;
    case SUPERVISOR_RESTART_CHILD:
    case SUPERVISOR_DELETE_CHILD: on_call_of_down_child(supervisor, call); return;
    case SUPERVISOR_COUNT_CHILDREN:
    case SUPERVISOR_WHICH_CHILDREN: on_count_or_which(supervisor, call); return;
    }
    answer(supervisor, call, ERR_INVALID);
}

static void on_boot(struct supervisor *supervisor)
{
    operation_begin(supervisor, (struct operation){.kind = OPERATION_BOOT,
                                                   .is_starting = true,
                                                   .next = is_simple(supervisor) ? NULL : supervisor->first});
}

/* A message in its turn, no operation being under way. Owns: `msg`. */
static void begin(struct supervisor *supervisor, struct msg *msg, uint64_t now_ns)
{
    switch (msg->kind) {
    case MSG_EXIT: on_exit_of_child(supervisor, container_of(msg, struct msg_exit, msg), now_ns); return;
    case MSG_SUPERVISOR_CALL: on_call(supervisor, container_of(msg, struct supervisor_call, msg)); return;
    case MSG_RETRY: on_retry(supervisor, container_of(msg, struct msg_retry, msg)->serial, now_ns); break;
    case MSG_BOOT: on_boot(supervisor); break;
    case MSG_SHUTDOWN: begin_end(supervisor); break;
    default:
        LOG(LOG_WARN, "supervisor_stray_message", LOG_UINT("kind", msg->kind));
        break; /* kinds are no enum of ours */
    }
    msg_destroy(supervisor->worker, &msg);
}

/* ---- the actor -------------------------------------------------------------------------------------------------------- */

static enum err supervisor_on_message(struct actor_context *context, struct msg **msg)
{
    struct supervisor *const supervisor = context->state;
    ASSERT(supervisor->worker == context->worker);
    if (supervisor->is_ended) { /* our own MSG_STOP is on its way */
        refuse(supervisor, *msg);
        *msg = NULL;
        return OK;
    }
    if (!take_awaited(supervisor, msg)) {
        waiting_push(supervisor, *msg);
        *msg = NULL;
    }
    operation_run(supervisor);
    for (struct msg *next; supervisor->operation.kind == OPERATION_NONE && (next = waiting_pop(supervisor)) != NULL;) {
        begin(supervisor, next, context->now_ns);
        operation_run(supervisor);
    }
    return OK;
}

static void supervisor_free(struct supervisor *supervisor)
{
    for (struct child *child = supervisor->first, *next; child; child = next) {
        next = child->next;
        free(child);
    }
    free(supervisor);
}

/* After an orderly end no child is left. Killed, it takes its children along, as links do in Erlang; nobody waits for them,
 * and their MSG_EXITs reach nobody. */
static void supervisor_on_exit(struct actor_context *context, enum err reason)
{
    (void)reason;
    struct supervisor *const supervisor = context->state;
    for (struct child *child = supervisor->last; child; child = child->previous)
        if (!actor_id_is_none(child->actor))
            actor_kill(context->worker, child->actor, ERR_SHUTDOWN);
    for (struct msg *msg; (msg = waiting_pop(supervisor)) != NULL;)
        if (msg->kind == MSG_EXIT)
            exit_destroy(context->worker, container_of(msg, struct msg_exit, msg));
        else
            msg_destroy(context->worker, &msg);
    if (supervisor->operation.call) {
        struct msg *msg = &supervisor->operation.call->msg;
        msg_destroy(context->worker, &msg);
    }
    supervisor_free(supervisor);
}

static const struct actor_type supervisor_type = {
    .name = "supervisor",
    .on_message = supervisor_on_message,
    .on_exit = supervisor_on_exit,
    .is_pinned = true, /* its children are born where it lives */
};

/* ---- the outside ------------------------------------------------------------------------------------------------------ */

static enum err add_children(struct supervisor *supervisor, const struct supervisor_spec *spec)
{
    for (uint32_t i = 0; i < spec->child_count; i++) {
        if (!is_spec_valid(&spec->children[i], false))
            return ERR_INVALID;
        if (child_find_id(supervisor, spec->children[i].id))
            return ERR_EXISTS;
        if (child_append(supervisor, &spec->children[i]) == NULL)
            return ERR_NO_MEMORY;
    }
    return OK;
}

static enum err set_template(struct supervisor *supervisor, const struct supervisor_spec *spec)
{
    if (spec->child_count != 1 || !is_spec_valid(&spec->children[0], true))
        return ERR_INVALID;
    supervisor->template = spec->children[0];
    return OK;
}

enum err supervisor_start(struct worker *worker, void *argument, const struct actor_options *options,
                          struct actor_id *ret_id)
{
    const struct supervisor_spec *const spec = argument;
    if (spec->intensity_count > RESTART_COUNT_MAX)
        return ERR_LIMIT;
    struct supervisor *const supervisor = malloc(sizeof *supervisor);
    if (supervisor == NULL)
        return ERR_NO_MEMORY;
    *supervisor = (struct supervisor){.worker = worker, .strategy = spec->strategy};
    if (options)
        supervisor->parent = options->supervisor;
    restart_intensity_init(&supervisor->intensity, spec->intensity_count, spec->period_ns);

    struct msg *boot = NULL;
    enum err err = is_simple(supervisor) ? set_template(supervisor, spec) : add_children(supervisor, spec);
    if (err != OK)
        goto free_supervisor;
    err = ERR_NO_MEMORY;
    boot = msg_create(worker, MSG_BOOT, MSG_URGENT | MSG_CONTROL, sizeof *boot);
    if (boot == NULL)
        goto free_supervisor;
    err = actor_spawn(worker, &supervisor_type, supervisor, options, &supervisor->self);
    if (err != OK)
        goto destroy_boot;

    *ret_id = supervisor->self;
    err = actor_send(worker, supervisor->self, &boot);
    ASSERT(err == OK); /* it was born in this call, and control messages are never refused */
    return OK;

destroy_boot:
    msg_destroy(worker, &boot);
free_supervisor:
    supervisor_free(supervisor);
    return err;
}

enum err supervisor_acknowledge(struct worker *worker, struct actor_id supervisor, struct actor_id self)
{
    struct msg_child_started *const started =
        MSG_CREATE(worker, struct msg_child_started, MSG_CHILD_STARTED, MSG_URGENT | MSG_CONTROL);
    if (started == NULL)
        return ERR_NO_MEMORY;
    started->actor = self;
    struct msg *msg = &started->msg;
    if (actor_send(worker, supervisor, &msg) != OK)
        msg_destroy(worker, &msg); /* it is gone, and its kill is on its way to us */
    return OK;
}

struct supervisor_call *supervisor_call_create(struct worker *worker, enum supervisor_verb verb, uint32_t info_count_max)
{
    const size_t size = sizeof(struct supervisor_call) + info_count_max * sizeof(struct supervisor_child_info);
    if (size > UINT32_MAX)
        return NULL;
    struct msg *const msg = msg_create(worker, MSG_SUPERVISOR_CALL, MSG_URGENT, (uint32_t)size);
    if (msg == NULL)
        return NULL;
    struct supervisor_call *const call = container_of(msg, struct supervisor_call, msg);
    call->verb = verb;
    call->info_count_max = info_count_max;
    return call;
}
