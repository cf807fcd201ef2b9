// SPDX-License-Identifier: Apache-2.0
// streams: messages that flow one way (bench/actors/streams.c). A sender sends 32 messages a turn, or one to each receiver,
// and then itself on: with all of them at once it would fill the memory before a receiver runs.
#include <algorithm>
#include <cmath>
#include <vector>

#include "bench.hpp"

using namespace caf;

static constexpr uint64_t burst = 32;

struct count_state {
    uint64_t count = 0;
};

static behavior sender(event_based_actor *self, actor to)
{
    return {
        [=](go_atom, uint64_t left) {
            for (uint64_t i = std::min(left, burst); i > 0; i--)
                self->send(to, uint64_t{1});
            if (left > burst)
                self->send(self, go_atom::value, left - burst);
        },
    };
}

// ---- fan_in

static behavior receiver(stateful_actor<count_state> *self, uint64_t expected, actor main)
{
    return {
        [=](uint64_t n) {
            if ((self->state.count += n) == expected)
                self->send(main, done_atom::value);
        },
    };
}

static void fan_in(actor_system &system, uint64_t sender_count, uint64_t messages)
{
    scoped_actor main{system};
    auto to = system.spawn(receiver, messages, actor{main});
    for (uint64_t i = 0; i < sender_count; i++)
        main->send(system.spawn(sender, to), go_atom::value, messages / sender_count);
    wait_done(main);
}

void fan_in_2(actor_system &system, uint64_t messages)
{
    fan_in(system, 2, messages);
}

void fan_in_100(actor_system &system, uint64_t messages)
{
    fan_in(system, 100, messages);
}

// ---- counting

static behavior counter(stateful_actor<count_state> *self)
{
    return {
        [=](uint64_t n) { self->state.count += n; },
        [=](done_atom) { return self->state.count; },
    };
}

static behavior producer(event_based_actor *self, actor to, uint64_t messages, actor main)
{
    return {
        [=](go_atom, uint64_t left) {
            for (uint64_t i = std::min(left, burst); i > 0; i--)
                self->send(to, uint64_t{1});
            if (left > burst)
                self->send(self, go_atom::value, left - burst);
            else
                self->send(to, done_atom::value);
        },
        [=](uint64_t sum) {
            if (sum == messages)
                self->send(main, done_atom::value);
        },
    };
}

void counting(actor_system &system, uint64_t messages)
{
    scoped_actor main{system};
    auto to = system.spawn(counter);
    main->send(system.spawn(producer, to, messages, actor{main}), go_atom::value, messages);
    wait_done(main);
}

// ---- fork_join_throughput

static behavior joiner(stateful_actor<count_state> *self, uint64_t expected, actor main)
{
    return {
        [=](uint64_t n) {
            double sine = std::sin(static_cast<double>(n));
            if (sine * sine > 1.0)
                self->quit(sec::runtime_error);
            if (++self->state.count < expected)
                return;
            self->send(main, done_atom::value);
            self->quit();
        },
    };
}

static behavior forker(event_based_actor *self, std::vector<actor> joiners)
{
    return {
        [=](go_atom, uint64_t left) {
            for (const auto &joiner : joiners)
                self->send(joiner, left);
            if (left > 1)
                self->send(self, go_atom::value, left - 1);
        },
    };
}

void fork_join_throughput(actor_system &system, uint64_t messages)
{
    constexpr uint64_t actor_count = 60;
    scoped_actor main{system};
    std::vector<actor> joiners;
    for (uint64_t i = 0; i < actor_count; i++)
        joiners.push_back(system.spawn(joiner, messages / actor_count, actor{main}));
    main->send(system.spawn(forker, joiners), go_atom::value, messages / actor_count);
    wait_done(main, actor_count);
}
