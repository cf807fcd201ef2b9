// SPDX-License-Identifier: Apache-2.0
// births: actors that come and go, or stay and do nothing (bench/actors/births.c).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <unistd.h>
#include <vector>

#include "bench.hpp"

using namespace caf;

static std::atomic<uint64_t> children_left;

static void leave(event_based_actor *self, const actor &main)
{
    self->quit();
    if (--children_left == 0)
        self->send(main, done_atom::value);
}

static behavior child(event_based_actor *self, actor main)
{
    return {
        [=](uint64_t) { leave(self, main); },
    };
}

static behavior computing_child(event_based_actor *self, actor main)
{
    return {
        [=](uint64_t n) {
            double sine = std::sin(static_cast<double>(n));
            if (sine * sine <= 1.0)
                leave(self, main);
        },
    };
}

static behavior parent(event_based_actor *self, actor main)
{
    return {
        [=](go_atom, uint64_t left) {
            uint64_t now = std::min<uint64_t>(left, 64);
            for (uint64_t i = 0; i < now; i++)
                self->send(self->spawn(child, main), left);
            if (left > now)
                self->send(self, go_atom::value, left - now);
        },
    };
}

static behavior forker(event_based_actor *self, actor main)
{
    return {
        [=](go_atom, uint64_t count) {
            for (uint64_t i = count; i > 0; i--)
                self->send(self->spawn(computing_child, main), i);
        },
    };
}

void spawn_each(actor_system &system, uint64_t actors)
{
    children_left = actors;
    scoped_actor main{system};
    main->send(system.spawn(parent, actor{main}), go_atom::value, actors);
    wait_done(main);
}

void fork_join_create(actor_system &system, uint64_t actors)
{
    children_left = actors;
    scoped_actor main{system};
    main->send(system.spawn(forker, actor{main}), go_atom::value, actors);
    wait_done(main);
}

static double resident_bytes()
{
    double total = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> total >> resident;
    return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

static behavior idle(event_based_actor *)
{
    return {
        [](done_atom) {},
    };
}

// The handles are part of the price: an actor that nobody refers to ends.
double idle_actor_bytes(actor_system &system, uint64_t actors)
{
    std::vector<actor> handles;
    double before = resident_bytes();
    handles.reserve(actors);
    for (uint64_t i = 0; i < actors; i++)
        handles.push_back(system.spawn(idle));
    return (resident_bytes() - before) / static_cast<double>(actors);
}
