/* SPDX-License-Identifier: Apache-2.0 */
/* ring_world_sim: see ring_world.h. The whole suite also runs under faults: the environment variable RING_WORLD_SEED chooses
 * a seed and, when it is not 0, a set of those faults that ring.h promises to hide.
 */
#include "tests/unit/runtime/ring_world.h"

#include <stdlib.h>

#include "runtime/clock.h"
#include "runtime/ring.h"
#include "runtime/ring_sim.h"

/* A client handle is the simulation's own. */
static struct sim_client *as_sim(struct world_client *client)
{
    return (struct sim_client *)client;
}

void world_set_up(void)
{
    const char *text = getenv("RING_WORLD_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 0;
    struct sim_options options = {0};
    sim_world_reset(seed, NULL);
    if (seed != 0)
        options = (struct sim_options){
            .latency_ns_min = sim_random_below(2) * 1000,
            .latency_ns_max = sim_random_below(1000000),
            .segment_bytes_max = (uint32_t)sim_random_below(64),
            .stall_per_mille = (uint32_t)sim_random_below(20),
            .stall_ns_max = 1000000,
            .reorder_per_mille = (uint32_t)sim_random_below(1000),
            .delay_per_mille = (uint32_t)sim_random_below(300),
            .delay_ns_max = 1000000,
            .transient_per_mille = (uint32_t)sim_random_below(200),
            .multishot_end_per_mille = (uint32_t)sim_random_below(300),
            .cancel_race_per_mille = (uint32_t)sim_random_below(1000),
            .cancel_lost_per_mille = (uint32_t)sim_random_below(500),
            .late_per_mille = (uint32_t)sim_random_below(500),
            .busy_per_mille = (uint32_t)sim_random_below(200),
        };
    sim_world_set_options(&options);
}

void world_tear_down(void)
{
    sim_world_destroy();
}

size_t world_bulk_bytes(void)
{
    return 256 << 10;
}

uint32_t world_step(struct ring *ring)
{
    uint32_t count = ring_step(ring, 0);
    if (count == 0 && sim_world_next_event_ns() != UINT64_MAX)
        sim_clock_advance_to(sim_world_next_event_ns());
    return count;
}

struct world_client *world_connect(const char *address)
{
    return (struct world_client *)sim_connect(address);
}

size_t world_send(struct world_client *client, const void *bytes, size_t size)
{
    return sim_client_send(as_sim(client), bytes, size);
}

size_t world_receive(struct world_client *client, void *ret_bytes, size_t size)
{
    size_t used = 0;
    for (size_t got = 1; got > 0 && used < size; used += got)
        got = sim_client_receive(as_sim(client), (char *)ret_bytes + used, size - used);
    return used;
}

bool world_is_closed_by_peer(struct world_client *client)
{
    return sim_client_is_closed_by_peer(as_sim(client));
}

void world_shutdown_write(struct world_client *client)
{
    sim_client_shutdown_write(as_sim(client));
}

void world_reset(struct world_client *client)
{
    sim_client_reset(as_sim(client));
}

void world_close(struct world_client *client)
{
    sim_client_close(as_sim(client));
}
