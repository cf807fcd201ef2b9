/* SPDX-License-Identifier: Apache-2.0 */
/* ring_sim: the simulated world beneath ring.h and clock.h: virtual time, seeded chance, TCP between the server under test and
 * clients that a test plays. Linked instead of the system's side (library runtime_sim), never beside it.
 *
 * Not a model of performance, and nothing about the kernel's own bugs. Deterministic: the same seed and the same calls give
 * the same world, byte for byte; sim_trace_hash proves it.
 *
 * Life: sim_world_reset(seed, options); the server's rings, stepped by the test; the clients; sim_clock_advance_to the next
 * event when nothing is left to do now; rings destroyed; sim_world_destroy, or the next reset.
 *
 * W1  ring_wait never blocks: it does what is due at the present virtual time.
 * W2  Time moves only by sim_clock_advance_to. Nothing that was sent is lost but by a reset.
 * W3  Every fault comes from an option; zeroed options are a perfect network without delay.
 * W4  The server's mistakes are found, not forgiven: closing a descriptor under an operation, using one that is closed, or
 *     returning a buffer twice is an assertion.
 * Thread: one for all of it.
 */
#ifndef CIRANDA_RUNTIME_RING_SIM_H
#define CIRANDA_RUNTIME_RING_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Chances in per mille of the occasion that the comment names. */
struct sim_options {
    uint64_t latency_ns_min, latency_ns_max; /* of a segment, one way */
    uint32_t segment_bytes_max;              /* a write is cut into segments of 1 to so many bytes; 0: not cut */
    uint32_t stall_per_mille;                /* segment: late by up to stall_ns_max, and what follows it too */
    uint64_t stall_ns_max;
    uint32_t reset_per_mille;     /* segment: instead of it both sides see a reset */
    uint32_t socket_buffer_bytes; /* of a direction, unread and under way; 0: 65536 */

    uint32_t reorder_per_mille; /* pass over the ready operations: in another order than they were started */
    uint32_t delay_per_mille;   /* ready operation: completes later by up to delay_ns_max */
    uint64_t delay_ns_max;
    uint32_t transient_per_mille;      /* ready operation: EINTR, EAGAIN or (accept) ECONNABORTED */
    uint32_t multishot_end_per_mille;  /* multishot completion: the kernel ends it */
    uint32_t short_send_per_mille;     /* send: completes with a part */
    uint32_t no_buffer_per_mille;      /* ready receive: ENOBUFS although there are buffers */
    uint32_t idle_no_buffer_per_mille; /* idle receive armed without POLL_FIRST while there are none: ENOBUFS at once */
    uint32_t emfile_per_mille;         /* ready accept: EMFILE */
    uint32_t descriptor_count_max;     /* EMFILE above it; 0: no limit */
    uint32_t cancel_race_per_mille;    /* cancel: what is ready completes first */
    uint32_t cancel_lost_per_mille;    /* cancel by user_data: ENOENT for a live operation */
    uint32_t late_per_mille;           /* end of an operation: a second last completion comes up to delay_ns_max later */
    uint32_t busy_per_mille;           /* enter: EBUSY, nothing taken */
};

/* ---- the world ---------------------------------------------------------------------------------------------------------- */
/* Forgets everything. Every ring must be destroyed before. NULL: zeroed options. */
void sim_world_reset(uint64_t seed, const struct sim_options *options);
void sim_world_destroy(void);
/* From here on, e.g. to heal the network for the second half of a run. */
void sim_world_set_options(const struct sim_options *options);
/* Closes every descriptor, as the end of the process does. Every ring must be destroyed before; clients live on. */
void sim_world_kill_server(void);
/* The next time after now at which the network has something for anybody; UINT64_MAX: never. */
uint64_t sim_world_next_event_ns(void);
uint32_t sim_world_descriptor_count(void); /* open ones; leaks are found with it */

/* ---- time, chance, trace ------------------------------------------------------------------------------------------------ */
void sim_clock_advance_to(uint64_t mono_ns); /* the past: no-op */
void sim_clock_jump_wall(int64_t ms);
uint64_t sim_random_u64(void);
uint64_t sim_random_below(uint64_t bound); /* [0, bound), bound > 0 */
bool sim_chance(uint32_t per_mille);       /* 0 draws no number: a fault that is off changes nothing else */
void sim_trace(const void *bytes, size_t size);
void sim_trace_u64(uint64_t number);
uint64_t sim_trace_hash(void);

/* ---- clients -------------------------------------------------------------------------------------------------------------- */
struct sim_client;
/* Returns: NULL when nobody listens there. The client may send at once. Owns: until sim_client_close or _reset; a new world
 * frees what is left. */
struct sim_client *sim_connect(const char *address);
/* Returns: bytes taken, short when the socket buffer is full, 0 also after a reset or half-close. */
size_t sim_client_send(struct sim_client *client, const void *bytes, size_t size);
/* Returns: bytes that have arrived, 0 for none. A client that does not call it has stopped reading: the server's sends stall. */
size_t sim_client_receive(struct sim_client *client, void *ret_bytes, size_t size);
bool sim_client_is_closed_by_peer(const struct sim_client *client); /* and all before it was received */
bool sim_client_is_reset(const struct sim_client *client);
void sim_client_shutdown_write(struct sim_client *client);
void sim_client_reset(struct sim_client *client);
void sim_client_close(struct sim_client *client);

#endif
