/* SPDX-License-Identifier: Apache-2.0 */
/* world: the server under test with its simulated machine: one process after another on the same disk. */
#ifndef CIRANDA_TESTS_SIM_WORLD_H
#define CIRANDA_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/plan.h"

struct disk_sim;
struct server;

struct world {
    const struct plan *plan;
    struct server *server; /* NULL: down */
    struct disk_sim *disk;
    char address[64];
    char directory[128];
    bool is_calm;   /* no more faults: the second half of a run */
    uint32_t lives; /* servers started so far */
    uint64_t crashes, full_refusals;
};

/* Aborts the run, saying why: `fail("customer %u: ...")`. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void world_create(struct world *world, const struct plan *plan);
/* A new process on what the disk holds. */
void world_boot(struct world *world);
/* The process is gone: by a power cut (the disk loses what was not flushed) or a kill (it loses nothing). */
void world_crash(struct world *world, bool is_power_cut);
/* The disk crashed within an I/O: the process must go too. */
bool world_is_broken(const struct world *world);
/* One part takes a step. Returns: did it do anything? */
bool world_step_part(struct world *world, uint32_t part);
uint32_t world_part_count(const struct world *world);
/* To the next time at which the server or the network has something to do, or `other_ns`, whatever is first. Returns: false
 * when there is no such time. */
bool world_advance(struct world *world, uint64_t other_ns);
void world_calm(struct world *world);
/* Flips a bit in the bytes of a message that is on the disk. Returns: the conversation it damaged, -1 for none. */
int world_rot(struct world *world);
/* Orderly end: drained, nothing open, nothing left. */
void world_shut_down(struct world *world);
void world_destroy(struct world *world);

#endif
