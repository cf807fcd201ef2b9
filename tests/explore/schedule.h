/* SPDX-License-Identifier: Apache-2.0 */
/* schedule: who runs next, and what a load reads. Threads are fibers of one system thread; before each operation that others
 * may notice a fiber stops and another may go on. A run is thus a row of choices, and exploring is trying other rows.
 *
 * Exhaustive: depth first, with dynamic partial-order reduction (Flanagan and Godefroid, POPL 2005) and sleep sets (Godefroid,
 * 1996): of the orders of operations that do not touch the same place, one is tried. Values of loads are choices as well.
 * PCT (Burckhardt et al., ASPLOS 2010): random priorities with `depth` - 1 random changes; finds a bug of that depth among n
 * threads and k steps with probability 1 / (n * k^(depth-1)) a run. Replay: the row of choices is given.
 *
 * Life: schedule_explore runs a body (which calls schedule_spawn) again and again until the choices are used up.
 */
#ifndef CIRANDA_TESTS_EXPLORE_SCHEDULE_H
#define CIRANDA_TESTS_EXPLORE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCHEDULE_THREADS_MAX = 6, SCHEDULE_TEXT_BYTES = 8192 };

struct schedule_program {
    void (*begin)(void); /* builds the world and spawns the threads */
    void (*end)(void);   /* nobody can go on: checks what must be true then */
};

enum schedule_manner { SCHEDULE_EXHAUSTIVE, SCHEDULE_PCT, SCHEDULE_REPLAY };

struct schedule_options {
    enum schedule_manner manner;
    uint64_t runs_max;   /* exhaustive: more is a failure of its own */
    uint64_t seed;       /* PCT */
    uint32_t depth;      /* PCT */
    const char *choices; /* replay */
    bool is_traced;      /* prints each operation */
};

struct schedule_result {
    bool has_failed;
    bool is_exhausted; /* no choice is left untried */
    uint64_t runs, redundant_runs, steps_max;
    char failure[1024];
    char choices[SCHEDULE_TEXT_BYTES]; /* of the run that failed: for SCHEDULE_REPLAY */
};

void schedule_explore(const struct schedule_program *program, const struct schedule_options *options,
                      struct schedule_result *ret_result);

/* ---- from the program ------------------------------------------------------------------------------------------------- */

/* From begin, or from a thread. Returns: its number. */
uint32_t schedule_spawn(void *(*main)(void *), void *argument);
/* Ends the run: it is a failure. */
_Noreturn void schedule_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define SCHEDULE_CHECK(condition) ((condition) ? (void)0 : schedule_fail("%s:%d: %s", __FILE__, __LINE__, #condition))

/* ---- from the model and the world ------------------------------------------------------------------------------------- */

enum schedule_kind { SCHEDULE_READ, SCHEDULE_WRITE };

/* An operation that others may notice: two of them commute if their places differ or both read. */
struct schedule_op {
    enum schedule_kind kind;
    const void *place;
    const bool *is_enabled; /* NULL: always; else the thread waits until it is true */
};

/* Returns when it is this thread's turn to do it. Outside of threads: at once. */
void schedule_point(const struct schedule_op *op);
/* Returns: one of 0 .. count-1. */
uint32_t schedule_choose(uint32_t count);
bool schedule_is_in_thread(void);
uint32_t schedule_thread(void);
/* True once that thread has ended. */
const bool *schedule_finished_flag(uint32_t thread);
/* What `from` has done so far comes before what `to` does from now on: a join, a barrier. */
void schedule_order(uint32_t from, uint32_t to);
/* A thread-local pointer of the program: each fiber has its own. */
void schedule_keep(void **variable);
bool schedule_is_kept(const void *place);
/* The trace of a replay; nothing otherwise. */
void schedule_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
