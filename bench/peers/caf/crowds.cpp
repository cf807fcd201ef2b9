// SPDX-License-Identifier: Apache-2.0
// crowds: many actors that all talk at once (bench/actors/crowds.c).
#include <vector>

#include "bench.hpp"

using namespace caf;

using ping_atom = atom_constant<atom("ping")>;
using pong_atom = atom_constant<atom("pong")>;
using meet_atom = atom_constant<atom("meet")>;
using change_atom = atom_constant<atom("change")>;

// ---- big

struct talker_state {
    std::vector<actor> all;
    uint32_t random = 0;
    uint64_t left = 0;
};

static behavior talker(stateful_actor<talker_state> *self, uint32_t random, uint64_t pings, actor main)
{
    self->state.random = random;
    self->state.left = pings;
    auto ping = [=] {
        auto &state = self->state;
        state.random = next_random(state.random);
        self->send(state.all[state.random % state.all.size()], ping_atom::value);
    };
    return {
        [=](const std::vector<actor> &all) {
            self->state.all = all;
            ping();
        },
        [=](ping_atom) { return pong_atom::value; },
        [=](pong_atom) {
            if (--self->state.left == 0)
                self->send(main, done_atom::value);
            else
                ping();
        },
    };
}

void big(actor_system &system, uint64_t messages)
{
    constexpr uint32_t actor_count = 120;
    scoped_actor main{system};
    std::vector<actor> all;
    for (uint32_t i = 0; i < actor_count; i++)
        all.push_back(system.spawn(talker, i, messages / 2 / actor_count, actor{main}));
    for (const auto &one : all)
        main->send(one, all);
    wait_done(main, actor_count);
}

// ---- chameneos

enum color : uint8_t { blue, red, yellow };

static uint8_t complement(uint8_t mine, uint8_t other)
{
    return mine == other ? mine : static_cast<uint8_t>(blue + red + yellow - mine - other);
}

struct mall_state {
    actor waiting;
    uint64_t left = 0;
};

static behavior mall(stateful_actor<mall_state> *self, uint64_t meetings, actor main)
{
    self->state.left = meetings;
    return {
        [=](meet_atom meet, uint8_t color, const actor &creature) {
            auto &state = self->state;
            if (state.left == 0)
                return;
            if (!state.waiting) {
                state.waiting = creature;
                return;
            }
            self->send(state.waiting, meet, color, creature);
            state.waiting = nullptr;
            if (--state.left == 0)
                self->send(main, done_atom::value);
        },
    };
}

struct creature_state {
    uint8_t color = blue;
};

static behavior creature(stateful_actor<creature_state> *self, uint8_t color, actor mall)
{
    auto meet = [=](uint8_t new_color) {
        self->state.color = new_color;
        self->send(mall, meet_atom::value, new_color, actor{self});
    };
    meet(color);
    return {
        [=](meet_atom, uint8_t other_color, const actor &other) {
            uint8_t new_color = complement(self->state.color, other_color);
            self->send(other, change_atom::value, new_color);
            meet(new_color);
        },
        [=](change_atom, uint8_t new_color) { meet(new_color); },
    };
}

void chameneos(actor_system &system, uint64_t meetings)
{
    scoped_actor main{system};
    auto where = system.spawn(mall, meetings, actor{main});
    for (int i = 0; i < 100; i++)
        system.spawn(creature, static_cast<uint8_t>(i % 3), where);
    wait_done(main);
}
