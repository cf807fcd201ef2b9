/* SPDX-License-Identifier: Apache-2.0 */
/* plan: what one seed will do. Drawn first (swarm testing: a seed first draws which faults exist at all, then how often;
 * Groce et al. 2012), so that a run is a function of its seed and nothing else. */
#ifndef CIRANDA_TESTS_SIM_PLAN_H
#define CIRANDA_TESTS_SIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/ring_sim.h"

enum { CUSTOMERS_MAX = 8, MESSAGES_MAX = 16, CONVERSATIONS_MAX = 5 };

struct plan {
    uint64_t seed;
    uint32_t workers;
    uint32_t conversations;
    uint32_t customers;          /* customer i speaks in conversation i % conversations */
    uint32_t messages;           /* of each customer */
    uint32_t model_per_mille;    /* conversation: its agent is a model */
    uint32_t copy_per_mille;     /* message: a racing copy on another connection */
    uint32_t forge_per_mille;    /* message: afterwards the same id with another text, to be refused */
    uint32_t ahead_per_mille;    /* message: sent before the reply to the one before it */
    uint32_t async_per_mille;    /* message: Prefer: respond-async, then polled */
    uint32_t reject_per_mille;   /* message: on_busy reject */
    uint32_t leave_per_mille;    /* client step: it resets its connection */
    uint32_t deaf_per_mille;     /* client step: it stops reading for a while */
    uint32_t takeover_per_mille; /* conversation: at some message the customer asks for a human, who then speaks */
    uint32_t provider_fault_per_mille;
    uint32_t observers;          /* event streams that must see every event once and in order */
    uint32_t crashes;            /* power cuts and kills at random steps */
    bool is_drill;               /* of effects: calls that fail, a slow disk, and all crashes right after a second try */
    uint32_t io_crash_per_mille; /* crash: inside a disk I/O instead of between steps */
    uint32_t kill_per_mille;     /* crash: of the process only, the disk keeps what it was given */
    uint32_t full_disks;         /* times the disk is full for a while */
    uint32_t rots;               /* restarts before which a bit of a record flips */
    uint32_t hold_per_mille; /* step of a worker or journal thread that did something: it gets no processor for a while */
    uint32_t hold_ms_max;
    uint32_t flush_ms_max;    /* a group's flush takes up to so long; 0: no time */
    uint32_t stuck_per_mille; /* group: its flush takes up to stuck_ms_max: the disk hangs (F12) */
    uint32_t stuck_ms_max;
    uint32_t outage_ms; /* for so long the provider answers nothing but 503; 0: never */
    uint32_t acts;      /* of the operator: cancel, handoff, park, close and back */
    uint32_t erasures;  /* of a conversation of its own */
    uint32_t think_ms_max;
    /* configuration of the server */
    uint32_t idle_ms, dedup_messages, history_messages, queued_turns, mailbox_messages, retry_attempts, breaker_failures;
    uint32_t pipeline;
    uint32_t records_waiting; /* above it no message is admitted; 0: the server's own bound, which no run reaches */
    struct sim_options network;
};

void plan_draw(struct plan *ret_plan, uint64_t seed);
void plan_print(const struct plan *plan);

#endif
