/* SPDX-License-Identifier: Apache-2.0 */
/* clock_sim: virtual clocks, seeded chance and the trace hash.
 *
 * Two generators (xoshiro256**): one for the world's decisions, one for what the server calls random, so that a change in how
 * many ids the server draws does not reshuffle the faults. Monotonic time never moves by itself; wall time is an offset to it
 * and may jump. Callers: every part through clock.h; ring_sim.c; tests.
 */
#include <string.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/clock_sim.h"
#include "runtime/ring_sim.h"

struct generator {
    uint64_t state[4];
};

enum { START_NS = 1000000000 };         /* not 0: zero means "never" in many a field */
#define START_WALL_MS 1767225600000u    /* 2026-01-01 */
#define HASH_START 0xCBF29CE484222325u  /* FNV-1a */
#define HASH_FACTOR 0x00000100000001B3u /* FNV-1a */

static struct {
    uint64_t mono_ns;
    int64_t wall_offset_ms; /* wall = mono + offset */
    struct generator world, server;
    uint64_t trace_hash;
} clock_sim = {
    .mono_ns = START_NS,
    .wall_offset_ms = START_WALL_MS,
    .world.state = {1, 2, 3, 4},
    .server.state = {5, 6, 7, 8},
    .trace_hash = HASH_START,
};

/* splitmix64: spreads a seed over the generator's state, which must not be all zero. */
static void generator_seed(struct generator *generator, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9E3779B97F4A7C15u;
        uint64_t mixed = seed;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
        generator->state[i] = mixed ^ (mixed >> 31);
    }
}

static uint64_t rotate_left(uint64_t number, int bits)
{
    return number << bits | number >> (64 - bits);
}

static uint64_t generator_next(struct generator *generator)
{
    uint64_t *state = generator->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

void sim_clock_reset(uint64_t seed)
{
    clock_sim.mono_ns = START_NS;
    clock_sim.wall_offset_ms = START_WALL_MS;
    clock_sim.trace_hash = HASH_START;
    generator_seed(&clock_sim.world, seed);
    generator_seed(&clock_sim.server, ~seed);
}

/* ---- clock.h ---------------------------------------------------------------------------------------------------------------- */

uint64_t clock_mono_ns(void)
{
    return clock_sim.mono_ns;
}

uint64_t clock_wall_ms(void)
{
    return clock_sim.mono_ns / 1000000 + (uint64_t)clock_sim.wall_offset_ms;
}

uint64_t clock_random_u64(void)
{
    return generator_next(&clock_sim.server);
}

void clock_random_bytes(void *ret_bytes, size_t size)
{
    uint8_t *bytes = ret_bytes;
    while (size > 0) {
        uint64_t number = clock_random_u64();
        size_t piece = size < sizeof number ? size : sizeof number;
        memcpy(bytes, &number, piece);
        bytes += piece;
        size -= piece;
    }
}

/* ---- ring_sim.h ------------------------------------------------------------------------------------------------------------- */

void sim_clock_advance_to(uint64_t mono_ns)
{
    if (mono_ns > clock_sim.mono_ns)
        clock_sim.mono_ns = mono_ns;
}

void sim_clock_jump_wall(int64_t ms)
{
    clock_sim.wall_offset_ms += ms;
}

uint64_t sim_random_u64(void)
{
    return generator_next(&clock_sim.world);
}

uint64_t sim_random_below(uint64_t bound)
{
    ASSERT(bound > 0);
    return sim_random_u64() % bound; /* biased by less than bound / 2^64: chance, not secrets */
}

bool sim_chance(uint32_t per_mille)
{
    return per_mille > 0 && sim_random_below(1000) < per_mille;
}

void sim_trace(const void *bytes, size_t size)
{
    const uint8_t *byte = bytes;
    for (size_t i = 0; i < size; i++)
        clock_sim.trace_hash = (clock_sim.trace_hash ^ byte[i]) * HASH_FACTOR;
}

void sim_trace_u64(uint64_t number)
{
    sim_trace(&number, sizeof number);
}

uint64_t sim_trace_hash(void)
{
    return clock_sim.trace_hash;
}
