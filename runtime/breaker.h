/* SPDX-License-Identifier: Apache-2.0 */
/* breaker: decides whether a call to something outside may be made now, from how the last calls ended.
 *
 * A pure state machine: time is passed in, nothing is locked or allocated, one actor owns it. It makes no call and sets no
 * timer: leases expire at the next acquire, release or breaker_expire. Not for retries (retry.h).
 *
 * Life: breaker_init; breaker_acquire before each call, breaker_release exactly once after it with the verdict.
 *
 *            failures in a row, or error rate                 open_ns passed (at the next acquire)
 *   CLOSED ------------------------------------> OPEN ---------------------------------> HALF_OPEN
 *      ^                                          ^      a probe failed, or its lease ran out |  |
 *      |                                          +-------------------------------------------+  |
 *      +----------------------------- success_count probes succeeded ---------------------------+
 *
 * Ideas: the breaker is Nygard's (Release It!, 2007); the count-based window is resilience4j's; that a probe is a lease with
 * a deadline, and that neutral outcomes give the permit back, answers the stuck half-open breakers of resilience4j #935,
 * #903 and OmniRoute #13836 (a probe that never reported kept one half-open for six days).
 *
 * Invariants
 *  B1  At most probe_count_max leases are out while half-open; none in any other state.
 *  B2  A permit of an earlier round (before the last change of state) changes nothing when it comes back.
 *  B3  No state but CLOSED outlasts its deadline: OPEN ends at open_until_ns, each lease at its own, both at the next touch.
 *  B4  window_failures is the number of failure bits among the last window_size verdicts.
 */
#ifndef CIRANDA_RUNTIME_BREAKER_H
#define CIRANDA_RUNTIME_BREAKER_H

#include <stdint.h>

#include "runtime/error.h"

enum breaker_state {
    BREAKER_CLOSED,    /* calls pass; their verdicts fill the window */
    BREAKER_OPEN,      /* calls are refused until open_until_ns */
    BREAKER_HALF_OPEN, /* as many calls pass as there are leases; their verdicts decide */
    BREAKER_STATE_COUNT
};

enum breaker_verdict {
    BREAKER_SUCCESS,
    BREAKER_FAILURE,
    BREAKER_NEUTRAL, /* says nothing about the other side: cancelled, never sent, refused by our own limits */
};

enum { BREAKER_WINDOW_MAX = 1024, BREAKER_PROBES_MAX = 16 };

struct breaker_options {
    uint32_t failure_count_max; /* in a row; 0: not looked at */
    uint32_t error_per_mille;   /* of the window; 0: not looked at */
    uint32_t window_size;       /* last verdicts the rate looks at; 0: 100; at most BREAKER_WINDOW_MAX */
    uint32_t window_count_min;  /* verdicts before the rate counts; 0: 10, but at most window_size */
    uint64_t open_ns;           /* 0: 30 s */
    uint32_t probe_count_max;   /* half-open: leases out at once; 0: 1; at most BREAKER_PROBES_MAX */
    uint64_t probe_ns_max;      /* a lease's time; 0: 60 s */
    uint32_t success_count;     /* good probes that close it; 0: 1 */
    /* Called inside the call that changed the state, after the change; must not call the breaker. May be NULL. */
    void (*on_transition)(void *context, enum breaker_state from, enum breaker_state to, const char *reason);
    void *context;
};

/* Lent to one call. Fields are private. */
struct breaker_permit {
    uint64_t round;
    uint64_t lease; /* 0: given while closed */
};

/* Fields are private. */
struct breaker {
    struct breaker_options options;
    enum breaker_state state;
    uint64_t round; /* rises with each change of state */
    uint64_t since_ns, open_until_ns;
    uint32_t failures_in_row, successes;
    uint32_t window_next, window_count, window_failures;
    uint64_t opened_count, refused_count, expired_count;
    uint64_t lease_last;
    struct breaker_lease {
        uint64_t id; /* 0: free */
        uint64_t deadline_ns;
    } leases[BREAKER_PROBES_MAX];
    uint32_t lease_count;
    uint64_t window[BREAKER_WINDOW_MAX / 64]; /* one bit a verdict: 1 failure */
};

/* Thread: the owner's, all of them. Closed, with an empty window. Zeroed options take the defaults above. */
void breaker_init(struct breaker *breaker, const struct breaker_options *options, uint64_t now_ns);

/* New options, and closed again with an empty window; permits that are out become stale. A change is told by on_transition
 * of the new options. */
void breaker_reset(struct breaker *breaker, const struct breaker_options *options, uint64_t now_ns);

/* Returns: OK with *ret_permit; ERR_BREAKER_OPEN with *ret_retry_after_ns, when it is worth asking again. */
MUST_USE enum err breaker_acquire(struct breaker *breaker, uint64_t now_ns, struct breaker_permit *ret_permit,
                                  uint64_t *ret_retry_after_ns);

/* Gives a permit back. Stale and expired ones are ignored (B2). */
void breaker_release(struct breaker *breaker, struct breaker_permit permit, enum breaker_verdict verdict,
                     uint64_t now_ns);

/* Lets leases run out: each counts as a failure. acquire and release do it by themselves. */
void breaker_expire(struct breaker *breaker, uint64_t now_ns);

/* What people and metrics are shown; a copy, old as soon as it is made. */
struct breaker_snapshot {
    enum breaker_state state;
    uint32_t failures_in_row, window_count, window_failures, probe_count, successes;
    uint64_t since_ns, open_until_ns; /* open_until_ns: 0 unless open */
    uint64_t opened_count, refused_count, expired_count;
};
void breaker_get_snapshot(const struct breaker *breaker, struct breaker_snapshot *ret_snapshot);

const char *breaker_state_name(enum breaker_state state); /* "closed", "open", "half_open" */

#endif
