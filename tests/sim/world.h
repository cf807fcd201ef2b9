/* SPDX-License-Identifier: Apache-2.0 */
/* world: the server under test with its simulated machine: one process after another on the same disk. */
#ifndef CIRANDA_TESTS_SIM_WORLD_H
#define CIRANDA_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/plan.h"

enum { WORLD_PARTS_MAX = 8, WORLD_CALLS_MAX = 64 };

struct disk_sim;
struct server;

struct world {
    const struct plan *plan;
    struct server *server; /* NULL: down */
    struct disk_sim *disk;
    char address[64];
    char config_path[64];                    /* the only thing on the machine's disk */
    uint64_t full_until_ns;                  /* the disk has no room; 0: it has */
    uint64_t cut_again;                      /* the start after a crash is cut within this I/O; 0: no. Once */
    bool is_calm;                            /* no more faults: the second half of a run */
    uint32_t lives;                          /* servers started so far */
    uint64_t held_until_ns[WORLD_PARTS_MAX]; /* it gets no processor until then */
    /* The provider's own memory. */
    uint32_t arrivals[CUSTOMERS_MAX][MESSAGES_MAX]; /* calls for this message: V7 */
    uint32_t was_asked; /* since the harness looked last: how often for that message. A good moment for a crash */
    bool was_promised;  /* since then: has a client been told that its message is durable? */
    uint64_t outage_from_ns, outage_until_ns;
    uint64_t call_ends_ns[WORLD_CALLS_MAX]; /* of the calls under way, during an outage: V7 */
    uint32_t call_count, failures_in_row;
    uint64_t tripped_ns; /* the breaker must have opened by then; 0: not yet */
};

/* Aborts the run, saying why: `fail("customer %u: ...")`. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* With --verbose: one line of what happens, with the virtual time. */
void world_set_verbose(bool is_verbose);
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

void world_create(struct world *world, const struct plan *plan);
/* A new process on what the disk holds. */
void world_boot(struct world *world);
/* The process is gone: by a power cut (the disk loses what was not flushed) or a kill (it loses nothing). */
void world_crash(struct world *world, bool is_power_cut);
/* The disk crashed within an I/O: the process must go too. */
bool world_is_broken(const struct world *world);
uint64_t world_io_count(const struct world *world);  /* of the disk, since it was made */
uint64_t world_cut_count(const struct world *world); /* crashes of the disk */
/* One part takes a step. Returns: did it do anything? */
bool world_step_part(struct world *world, uint32_t part);
bool world_is_flushing(const struct world *world); /* the writer is busy with its last group: what comes now waits */
uint32_t world_part_count(const struct world *world);
/* The server's own invariants. At rest: no part has anything to do. */
void world_check(const struct world *world, bool is_at_rest);
/* To the next time at which the server or the network has something to do, or `other_ns`, whatever is first. Returns: false
 * when there is no such time. */
bool world_advance(struct world *world, uint64_t other_ns);
/* 0, 0: as much as is asked for. */
void world_set_room(struct world *world, uint64_t bytes_max, uint64_t until_ns);
void world_calm(struct world *world);
/* Are these bytes still in the database or its log? The disk's own view, as of now. */
bool world_has_bytes(const struct world *world, const char *text);
/* Flips a bit in the bytes of a message in the database; the server must be down. Not in SQLite's write-ahead log: there a damaged
 * frame looks like one that was torn by the power cut, and the log ends before it (docs/SIMULATION.md). Returns: the conversation
 * it damaged, -1 for none. */
int world_rot(struct world *world);
/* Orderly end: drained, nothing open, nothing left; or, if the disk crashes meanwhile, as world_crash. */
void world_shut_down(struct world *world);
void world_destroy(struct world *world);

#endif
