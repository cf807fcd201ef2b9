// SPDX-License-Identifier: Apache-2.0
// bench: what the rows share. Each is a function that runs one row of bench/actors for its amount of work, on a fresh actor
// system, and returns when the work is done; the idle one returns bytes.
#pragma once

#include <cstdint>

#include <caf/all.hpp>

using work_atom = caf::atom_constant<caf::atom("work")>;
using go_atom = caf::atom_constant<caf::atom("go")>;
using done_atom = caf::atom_constant<caf::atom("done")>;

// rounds.cpp
void ping_pong(caf::actor_system &system, uint64_t messages);
void thread_ring(caf::actor_system &system, uint64_t hops);
void cross_worker_ping(caf::actor_system &system, uint64_t messages);
// streams.cpp
void counting(caf::actor_system &system, uint64_t messages);
void fork_join_throughput(caf::actor_system &system, uint64_t messages);
void fan_in_2(caf::actor_system &system, uint64_t messages);
void fan_in_100(caf::actor_system &system, uint64_t messages);
// births.cpp
void spawn_each(caf::actor_system &system, uint64_t actors);
void fork_join_create(caf::actor_system &system, uint64_t actors);
double idle_actor_bytes(caf::actor_system &system, uint64_t actors);
// crowds.cpp
void big(caf::actor_system &system, uint64_t messages);
void chameneos(caf::actor_system &system, uint64_t meetings);

// Blocks until `count` actors have told `main` that they are done.
inline void wait_done(caf::scoped_actor &main, uint64_t count = 1)
{
    for (uint64_t i = 0; i < count; i++)
        main->receive([](done_atom) {});
}

// Savina's generator: the same choices in every peer.
inline uint32_t next_random(uint32_t random)
{
    return (random * 1309 + 13849) & 65535;
}
