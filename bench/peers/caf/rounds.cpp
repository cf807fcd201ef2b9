// SPDX-License-Identifier: Apache-2.0
// rounds: one token that goes round and round (bench/actors/rounds.c).
#include <vector>

#include "bench.hpp"

using namespace caf;

struct token_state {
    actor next;
};

static behavior token(stateful_actor<token_state> *self, actor main)
{
    return {
        [=](const actor &next) { self->state.next = next; },
        [=](uint64_t left) {
            if (left == 1)
                self->send(main, done_atom::value);
            else
                self->send(self->state.next, left - 1);
        },
    };
}

template <spawn_options Options> static void ring(actor_system &system, size_t size, uint64_t hops)
{
    scoped_actor main{system};
    std::vector<actor> actors;
    for (size_t i = 0; i < size; i++)
        actors.push_back(system.spawn<Options>(token, actor{main}));
    for (size_t i = 0; i < size; i++)
        main->send(actors[i], actors[(i + 1) % size]);
    main->send(actors[0], hops);
    wait_done(main);
}

void ping_pong(actor_system &system, uint64_t messages)
{
    ring<no_spawn_options>(system, 2, messages);
}

void thread_ring(actor_system &system, uint64_t hops)
{
    ring<no_spawn_options>(system, 1000, hops);
}

// The scheduler runs an actor where it likes; only a detached one stays on a thread, its own.
void cross_worker_ping(actor_system &system, uint64_t messages)
{
    ring<detached>(system, 2, messages);
}
