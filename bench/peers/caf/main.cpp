// SPDX-License-Identifier: Apache-2.0
// The rows of bench/actors in CAF: `actors ROW` runs one and prints its JSON line. The amounts of work are those of
// bench/actors/*.c. One scheduler thread a processor, as the others have; everything else as CAF sets it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "bench.hpp"

struct row {
    const char *name, *unit;
    uint64_t amount;
    std::function<double(caf::actor_system &, uint64_t)> run;
    // CAF's default steals. Stealing walks the whole queue of the worker it steals from (double_ended_queue::take_tail), so
    // that a worker with a million new actors takes minutes: those rows run with its other policy, one shared queue.
    const char *policy = "stealing";
};

static std::function<double(caf::actor_system &, uint64_t)> rate(void (*work)(caf::actor_system &, uint64_t))
{
    return [work](caf::actor_system &system, uint64_t amount) {
        auto began = std::chrono::steady_clock::now();
        work(system, amount);
        std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - began;
        return static_cast<double>(amount) / elapsed.count();
    };
}

static const row rows[] = {
    {"ping_pong", "msg/s", 10000000, rate(ping_pong)},
    {"counting", "msg/s", 10000000, rate(counting)},
    {"fork_join_throughput", "msg/s", 60 * 100000, rate(fork_join_throughput)},
    {"fork_join_create", "actors/s", 1000000, rate(fork_join_create), "sharing"},
    {"thread_ring", "msg/s", 10000000, rate(thread_ring)},
    {"big", "msg/s", 2 * 120 * 50000, rate(big)},
    {"chameneos", "meetings/s", 2000000, rate(chameneos)},
    {"fan_in_2", "msg/s", 10000000, rate(fan_in_2)},
    {"fan_in_100", "msg/s", 10000000, rate(fan_in_100)},
    {"cross_worker_ping", "msg/s", 1000000, rate(cross_worker_ping)},
    {"spawn", "actors/s", 2000000, rate(spawn_each), "sharing"},
    {"idle_actor_bytes", "B", 1000000, idle_actor_bytes},
};

int main(int argc, char **argv)
{
    std::string name = argc == 2 ? argv[1] : "";
    for (const auto &row : rows) {
        if (name != row.name)
            continue;
        caf::actor_system_config config;
        config.set("scheduler.policy", caf::atom_from_string(row.policy));
        config.set("scheduler.max-threads", std::max(1u, std::thread::hardware_concurrency()));
        caf::actor_system system{config};
        double value = row.run(system, row.amount);
        std::printf("{\"bench\":\"%s\",\"rate\":%.0f,\"unit\":\"%s\"}\n", row.name, value, row.unit);
        std::fflush(stdout);
        std::_Exit(0); // actors that hold each other (a ring) would keep the system waiting
    }
    std::fprintf(stderr, "usage: actors ROW, of:");
    for (const auto &row : rows)
        std::fprintf(stderr, " %s", row.name);
    std::fprintf(stderr, "\n");
    return 2;
}
