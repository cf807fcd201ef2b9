/* SPDX-License-Identifier: Apache-2.0 */
/* worker_internal: the structs of worker, runtime and actor, for the files that make them work:
 *
 *   runtime.c   create, start, stop, join, destroy           slab.c      slots of actors, found by id from any thread
 *   worker.c    one worker's loop, sleep and end             msg.c       message blocks, and their way home
 *   actor.c     spawn, send, run, end                        donation.c  actors for idle workers
 *   lane.c      what other threads want of a worker          watchdog.c  ticks; aborts when a worker is stuck
 */
#ifndef CIRANDA_RUNTIME_WORKER_INTERNAL_H
#define CIRANDA_RUNTIME_WORKER_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/actor.h"
#include "runtime/assert.h"
#include "runtime/atomic.h"
#include "runtime/event_count.h"
#include "runtime/inbox.h"
#include "runtime/mailbox.h"
#include "runtime/msg.h"
#include "runtime/msg_list.h"
#include "runtime/pool.h"
#include "runtime/ring.h"
#include "runtime/timer_wheel.h"
#include "runtime/worker.h"

enum { WORKERS_MAX = 64, CACHE_LINE_BYTES = 64 };

/* Kinds that the runtime keeps to itself. From LANE_FIRST on they never reach a mailbox: each is a message to a worker. */
enum {
    MSG_STOP = MSG_KIND_RUNTIME + 2, /* actor_kill; handled instead of on_message */

    LANE_FIRST = MSG_KIND_RUNTIME + 0x0F00,
    LANE_ACTIVATE = LANE_FIRST, /* actor.link: it has messages, or has just moved here: make it runnable */
    LANE_SLOT,                  /* actor.link: a dead actor's slot comes back to its slab */
    LANE_BLOCK,                 /* a dead message's block comes back to its pool */
    LANE_TASK,                  /* worker_task.link */
    LANE_STOP,                  /* worker.stop_link: leave the loop */
    LANE_LAST = LANE_STOP,
};

struct msg_stop {
    struct msg msg;
    enum err reason;
};

/* ---- actor ------------------------------------------------------------------------------------------------------------ */

/*            spawn                 a message, or LANE_ACTIVATE              popped
 *   FREE ------------> PARKED -------------------------------> QUEUED -------------> RUNNING
 *     ^                   ^                                       ^ ^                   | | |
 *     |                   | swept: nothing came                   | +--- more to run ---+ | |
 *     |                   |                   a message           |                       | |
 *     |                   +----------- LINGERING -----------------+      ran dry          | |
 *     |                                    ^----------------------------------------------+ |
 *     +----- swept ----- ENDED <------------------ stop, crash, kill -----------------------+
 *
 * Owned by the home worker. Donation: QUEUED -> PARKED on the old home, LANE_ACTIVATE to the new one. */
enum actor_state {
    ACTOR_FREE,    /* by slab: slot unused, inbox closed; on slab.free, or on its way there */
    ACTOR_PARKED,  /* by spawn, sweep, donation: inbox parked, or an activation is in its home's lane; on no list */
    ACTOR_QUEUED,  /* by actor_make_runnable: on worker.run_queue */
    ACTOR_RUNNING, /* by actor_run: is worker.running */
    ACTOR_LINGERING, /* by actor_run: dry, inbox not parked: a local sender needs no atomic operation; on worker.lingering */
    ACTOR_ENDED,     /* by actor_end: dead, but still on worker.lingering, whose sweep frees it */
};

struct actor {
    /* fixed from spawn to end; others read generation (it rises at the end) and home (changes when donated) */
    ATOMIC(uint32_t)
    generation;           /* relaxed: a stale reader pushes to a closed or reused inbox, and the check at the turn
                                    (actor.h I3) drops the message */
    ATOMIC(uint8_t) home; /* release at donation, acquire at send: who sees itself as home owns the private part */
    uint8_t state : 3;    /* enum actor_state */
    bool is_suspended : 1;
    bool is_stopping : 1;
    bool
        is_on_lingering : 1; /* outlives LINGERING: a lingering actor that became runnable stays on the list until swept */
    uint16_t pin_count;
    const struct actor_type *type;
    void *private_state;
    struct actor_id supervisor;
    void *child_key;
    /* the mailbox's shared part ends the first cache line; its private lists begin the second */
    struct mailbox mailbox;
    struct msg link; /* run queue, a lane, or slab.free; link.to is its own id */
    struct actor *lingering_next;
};
_Static_assert(sizeof(struct actor) == 128, "an idle actor costs two cache lines");
_Static_assert(offsetof(struct actor, mailbox.urgent) == CACHE_LINE_BYTES,
               "senders of other threads stay on the first line");

/* ---- slab ------------------------------------------------------------------------------------------------------------- */

enum { SLAB_INDEX_BITS = 24, SLAB_CHUNK_BITS = 10, SLAB_CHUNK_ACTORS = 1 << SLAB_CHUNK_BITS };
enum { SLAB_CHUNKS_MAX = 1 << (SLAB_INDEX_BITS - SLAB_CHUNK_BITS) };

/* Slots of the actors born on one worker. Type-stable: a chunk once made stays until runtime_destroy, so that any thread may
 * look at a slot at any time, whoever lives in it. */
struct slab {
    /* written once each, by the worker; read by any thread: release / acquire, so that a chunk is seen zeroed */
    ATOMIC(struct actor *) * chunks;
    /* owner */
    struct msg *free; /* actor.link */
    uint32_t virgin;  /* first index never used */
};

MUST_USE enum err slab_init(struct slab *slab);
void slab_deinit(struct slab *slab, struct account *account);
/* Thread: its worker's. Returns: ERR_LIMIT (2^24 slots), ERR_NO_MEMORY. The slot's link.to holds its new id. */
MUST_USE enum err slab_acquire(struct worker *worker, struct actor **ret_actor);
/* Thread: any worker's; brings it home. */
void slab_release(struct worker *worker, struct actor *actor);
/* Thread: its worker's; a slot that came home through the lane. */
void slab_take_back(struct slab *slab, struct actor *actor);

/* ---- worker ----------------------------------------------------------------------------------------------------------- */

struct run_queue {
    struct msg_list list; /* actor.link */
    uint32_t count;
};

/* What the running actor has sent to one actor of another worker: pushed as a whole, by one compare-and-swap, when it sends
 * to somebody else, and at the end of its run at the latest, so always before it can be donated (actor.h I2). Whether the
 * receiver lives and has room is looked at when the chain begins: asked for each message, the line that its other senders
 * and its home write would travel for each. */
struct outgoing {
    struct actor *actor; /* NULL: none */
    struct actor_id to;
    struct msg *newest, *oldest;
    uint32_t counted;  /* of them not control */
    uint32_t room_for; /* counted ones that the receiver's mailbox had room for */
};

/* Dead blocks of one other worker, on their way home. */
struct foreign_blocks {
    struct msg *newest, *oldest;
    uint32_t count;
};
enum { FOREIGN_BATCH = 32 };

/* Each is written by the worker alone, read by any thread: relaxed, statistics. */
struct worker_counters {
    ATOMIC(uint64_t)
    turns, runs, messages, spawned, ended, crashes, activations, wakes, sleeps, donations, foreign_frees, dead_letters,
        refusals;
};

struct delayed_send; /* actor.c */

struct worker {
    /* fixed after start */
    struct runtime *runtime;
    struct ring *ring;
    uint32_t index;
    uint32_t turn_messages_max; /* of a turn, and so of an actor's run */
    bool is_started;            /* on_start was OK */
    bool is_ending;             /* its actors are ended or about to be: no spawn */
    pthread_t thread;
    enum err start_code; /* written before runtime.started is raised */
    struct error start_error;

    /* owner */
    void *user;
    uint64_t now_ns;
    bool is_stopping;
    struct run_queue run_queue;
    struct actor *lingering; /* actor.lingering_next */
    struct actor *running;
    struct outgoing outgoing;
    uint64_t wakes_due;     /* bit i: worker i was unparked by us and not woken yet: lane_wake_due */
    uint64_t message_ns;    /* what a message took, on average, in the last turn that was long enough to tell */
    uint32_t backlog_turns; /* in a row that ended with a backlog: donation.c */
    uint64_t clock_ns;      /* of the last look while running actors; see look_at_clock in actor.c */
    uint32_t clock_step;    /* messages between two looks */
    uint32_t clock_left;    /* messages until the next look */
    struct timer_wheel wheel;
    struct delayed_send *delayed; /* messages that wait for their time */
    struct pool pool;
    struct slab slab;
    struct foreign_blocks foreign[WORKERS_MAX];
    struct worker_counters counters;

    /* shared */
    _Alignas(CACHE_LINE_BYTES) struct inbox lane;
    struct msg stop_link; /* pushed once, by the first runtime_stop */
    /* For the watchdog; relaxed: it looks again and again. */
    ATOMIC(uint64_t) progress;                      /* changes with each run and each turn */
    ATOMIC(const struct actor_type *) running_type; /* NULL: not in a handler */
    ATOMIC(bool) is_done;                           /* left the loop for good */
};

enum runtime_gate { GATE_SHUT, GATE_OPEN };

struct runtime {
    struct runtime_options options; /* defaults filled in */
    struct account account;
    struct worker *workers[WORKERS_MAX];
    ATOMIC(struct actor *) * slab_chunks[WORKERS_MAX]; /* worker.slab.chunks: saves each send a hop */
    uint32_t worker_count;
    uint32_t thread_count; /* threads that run; 0: stepped, or joined */
    bool is_threaded;      /* runtime_start was called */

    /* start: workers count up `started`, then wait for the gate, so that none runs before each on_start has answered */
    ATOMIC(uint32_t) started; /* release by the worker, acquire by runtime_start: start_code and start_error */
    ATOMIC(int) gate;
    struct event_count gate_event; /* `started` or `gate` changed */
    /* end: threads meet once after the loop, so that nobody runs an actor while others end theirs */
    pthread_barrier_t all_left;
    ATOMIC(bool) is_stopping; /* relaxed exchange: the first runtime_stop alone pushes the stop links */

    /* donation.c: bit i: worker i has nothing to do and asks for actors; set by i, cleared by i or by the one that gives, who
     * sets it again when all its actors are pinned (i may be awake by then: it is then given some all the same) */
    _Alignas(CACHE_LINE_BYTES) ATOMIC(uint64_t) idle_workers;

    /* watchdog.c */
    _Alignas(CACHE_LINE_BYTES) ATOMIC(uint64_t) ticks; /* relaxed: a clock that stands still when the process does */
    uint64_t tick_ns;
    uint64_t handler_ticks_max;
    uint64_t watchdog_ticks_max;
    pthread_t watchdog;
    bool has_watchdog;
    ATOMIC(bool) watchdog_is_stopping;
    struct event_count watchdog_event;
};

/* The worker whose loop runs on this thread. */
extern _Thread_local struct worker *worker_current_;

/* In a stepped runtime the stepping thread also may use a worker between steps, when none is current. */
static inline bool worker_is_current(const struct worker *worker)
{
    return worker_current_ == worker || (!worker_current_ && !worker->runtime->is_threaded);
}
/* Ends the process by assert_failed, so that the compiler keeps nothing for afterwards. */
_Noreturn void worker_is_not_current(const struct worker *worker, const char *function);
#define ASSERT_CURRENT(worker) (worker_is_current(worker) ? (void)0 : worker_is_not_current((worker), __func__))

/* slab.c */
/* Thread: any. Returns: the slot, whoever lives there; NULL when there never was one. */
static inline struct actor *slab_find(const struct runtime *runtime, uint32_t slot)
{
    uint32_t birth = slot >> SLAB_INDEX_BITS;
    uint32_t index = slot & ((1u << SLAB_INDEX_BITS) - 1);
    if (birth >= runtime->worker_count)
        return NULL;
    struct actor *chunk = atomic_load_acquire(&runtime->slab_chunks[birth][index >> SLAB_CHUNK_BITS]);
    return chunk ? &chunk[index % SLAB_CHUNK_ACTORS] : NULL;
}

/* runtime.c */
/* The first half of runtime_destroy: stops, ends all actors, empties all lanes; what is left is memory. Idempotent. */
void runtime_end(struct runtime *runtime);
uint64_t runtime_blocks_alive(const struct runtime *runtime); /* advisory while workers run */

/* worker.c */
enum err worker_create(struct runtime *runtime, uint32_t index, struct worker **ret_worker);
void worker_destroy(struct worker *worker);
void worker_run(struct worker *worker); /* the loop of a thread, until it is told to stop */
/* Ends the actors that live here, then on_stop. Thread: the worker's; all workers have left their loops. */
void worker_finish(struct worker *worker);

/* actor.c */
void actor_make_runnable(struct worker *worker, struct actor *actor);
void actor_run_queued(struct worker *worker); /* until the queue is empty or the turn's time or messages are used up */
void actor_sweep_lingering(struct worker *worker);
void actor_end(struct worker *worker, struct actor *actor, enum err reason, struct msg *crash_msg);
void actor_deliver(struct worker *worker, struct msg *msg); /* owns: takes it */
void actor_drop_delayed(struct worker *worker);

/* lane.c */
void lane_push(struct worker *from, struct worker *to, struct msg *newest,
               struct msg *oldest);        /* from: NULL, no worker */
void lane_wake_due(struct worker *worker); /* before it sleeps, and once what came has been dealt out */
bool lane_drain(struct worker *worker);    /* did something come? */
bool lane_discard(struct worker *worker);  /* at the end: frees what is in it */

/* msg.c */
struct msg *msg_create_for_end(struct worker *worker, uint16_t kind, uint32_t size); /* uncapped, urgent, control */
void msg_take_home(struct worker *worker, struct msg *msg);                          /* a block that came by the lane */
void msg_flush_foreign(struct worker *worker);

/* donation.c */
void donation_ask(struct worker *worker);
void donation_withdraw(struct worker *worker);
void donation_give(struct worker *worker);
/* Of an actor just taken off the run queue; from here on it is the receiver's. */
void donation_move(struct worker *worker, struct actor *actor, struct worker *receiver);

/* watchdog.c */
void watchdog_init(struct runtime *runtime);
MUST_USE enum err watchdog_start(struct runtime *runtime, struct error *error);
void watchdog_stop(struct runtime *runtime);
/* Ticks of tick_ns since some time in the past. */
uint64_t watchdog_stepped_ticks(const struct runtime *runtime);
static inline uint64_t watchdog_ticks(const struct runtime *runtime)
{
    return runtime->is_threaded ? atomic_load_relaxed(&runtime->ticks) : watchdog_stepped_ticks(runtime);
}

#endif
