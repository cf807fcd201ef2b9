/* SPDX-License-Identifier: Apache-2.0 */
/* breaker: see breaker.h. Reads top-down: the table of legal changes, the window, the leases, then the three calls.
 *
 * The window is a ring of bits, as resilience4j's RingBitSet was: a verdict costs one bit, and the failures among them are
 * counted as bits enter and leave, never by a scan. 128 bytes hold the largest window.
 */
#include "runtime/breaker.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/assert.h"
#include "runtime/planted.h"
#include "runtime/sometimes.h"

#define SECOND_NS UINT64_C(1000000000)

static const bool legal[BREAKER_STATE_COUNT][BREAKER_STATE_COUNT] = {
    [BREAKER_CLOSED] = {[BREAKER_OPEN] = true},
    [BREAKER_OPEN] = {[BREAKER_HALF_OPEN] = true},
    [BREAKER_HALF_OPEN] = {[BREAKER_OPEN] = true, [BREAKER_CLOSED] = true},
};

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[BREAKER_STATE_COUNT] = {"closed", "open", "half_open"};
    return names[state];
}

/* ---- state ------------------------------------------------------------------------------------------------------------ */

/* What every state begins with: no lease is out, and the permits that are become stale. */
static void begin_round(struct breaker *breaker, uint64_t now_ns)
{
    breaker->round++;
    breaker->since_ns = now_ns;
    breaker->open_until_ns = 0;
    breaker->successes = 0;
    breaker->failures_in_row = 0;
    breaker->window_next = breaker->window_count = breaker->window_failures = 0;
    memset(breaker->window, 0, sizeof breaker->window);
    breaker->lease_count = 0;
    memset(breaker->leases, 0, sizeof breaker->leases);
}

static void breaker_set_state(struct breaker *breaker, enum breaker_state to, uint64_t now_ns, const char *reason)
{
    const enum breaker_state from = breaker->state;
    ASSERT(legal[from][to]);
    breaker->state = to;
    begin_round(breaker, now_ns);
    if (to == BREAKER_OPEN) {
        const bool is_past_end = breaker->options.open_ns > UINT64_MAX - now_ns;
        breaker->open_until_ns = is_past_end ? UINT64_MAX : now_ns + breaker->options.open_ns;
        breaker->opened_count++;
    }
    if (breaker->options.on_transition)
        breaker->options.on_transition(breaker->options.context, from, to, reason);
}

static struct breaker_options with_defaults(const struct breaker_options *options)
{
    struct breaker_options o = *options;
    ASSERT(o.window_size <= BREAKER_WINDOW_MAX);
    ASSERT(o.probe_count_max <= BREAKER_PROBES_MAX);
    if (o.window_size == 0)
        o.window_size = 100;
    if (o.window_count_min == 0)
        o.window_count_min = 10;
    if (o.window_count_min > o.window_size)
        o.window_count_min = o.window_size;
    if (o.open_ns == 0)
        o.open_ns = 30 * SECOND_NS;
    if (o.probe_count_max == 0)
        o.probe_count_max = 1;
    if (o.probe_ns_max == 0)
        o.probe_ns_max = 60 * SECOND_NS;
    if (o.success_count == 0)
        o.success_count = 1;
    return o;
}

void breaker_init(struct breaker *breaker, const struct breaker_options *options, uint64_t now_ns)
{
    *breaker = (struct breaker){.options = with_defaults(options), .state = BREAKER_CLOSED};
    begin_round(breaker, now_ns);
}

void breaker_reset(struct breaker *breaker, const struct breaker_options *options, uint64_t now_ns)
{
    const enum breaker_state from = breaker->state;
    breaker->options = with_defaults(options);
    breaker->state = BREAKER_CLOSED; /* by order, not by an edge of the table */
    begin_round(breaker, now_ns);
    if (from != BREAKER_CLOSED && breaker->options.on_transition)
        breaker->options.on_transition(breaker->options.context, from, BREAKER_CLOSED, "reset");
}

/* ---- closed: the window ----------------------------------------------------------------------------------------------- */

static void window_add(struct breaker *breaker, bool is_failure)
{
    uint64_t *const word = &breaker->window[breaker->window_next / 64];
    const uint64_t bit = UINT64_C(1) << (breaker->window_next % 64);

    if (breaker->window_count < breaker->options.window_size)
        breaker->window_count++;
    else if (*word & bit)
        breaker->window_failures--; /* the oldest verdict leaves */
    if (is_failure) {
        *word |= bit;
        breaker->window_failures++;
    } else {
        *word &= ~bit;
    }
    breaker->window_next = (breaker->window_next + 1) % breaker->options.window_size;
    ASSERT(breaker->window_failures <= breaker->window_count);
}

static bool is_error_rate_reached(const struct breaker *breaker)
{
    return breaker->options.error_per_mille != 0 && breaker->window_count >= breaker->options.window_count_min &&
           (uint64_t)breaker->window_failures * 1000 >=
               (uint64_t)breaker->options.error_per_mille * breaker->window_count;
}

static void count_closed(struct breaker *breaker, bool is_failure, uint64_t now_ns)
{
    window_add(breaker, is_failure);
    breaker->failures_in_row = is_failure ? breaker->failures_in_row + 1 : 0;
    /* A success can only lower both measures, but it can be the verdict that fills the window's minimum. */
    if (breaker->options.failure_count_max != 0 && breaker->failures_in_row >= breaker->options.failure_count_max)
        breaker_set_state(breaker, BREAKER_OPEN, now_ns, "failures_in_row");
    else if (is_error_rate_reached(breaker))
        breaker_set_state(breaker, BREAKER_OPEN, now_ns, "error_rate");
}

/* ---- half-open: the leases -------------------------------------------------------------------------------------------- */

static struct breaker_lease *lease_find(struct breaker *breaker, uint64_t id)
{
    for (uint32_t i = 0; i < breaker->options.probe_count_max; i++)
        if (breaker->leases[i].id == id)
            return &breaker->leases[i];
    return NULL;
}

static uint64_t lease_take(struct breaker *breaker, uint64_t now_ns)
{
    struct breaker_lease *const lease = lease_find(breaker, 0);
    ASSERT(lease != NULL);
    const bool is_past_end = breaker->options.probe_ns_max > UINT64_MAX - now_ns;
    lease->deadline_ns = is_past_end ? UINT64_MAX : now_ns + breaker->options.probe_ns_max;
    lease->id = ++breaker->lease_last;
    breaker->lease_count++;
    return lease->id;
}

void breaker_expire(struct breaker *breaker, uint64_t now_ns)
{
    uint64_t expired_count = 0;
    for (uint32_t i = 0; i < breaker->options.probe_count_max; i++)
        expired_count += breaker->leases[i].id != 0 && breaker->leases[i].deadline_ns <= now_ns;
    if (expired_count == 0)
        return;
    ASSERT(breaker->state == BREAKER_HALF_OPEN);
    breaker->expired_count += expired_count;
    breaker_set_state(breaker, BREAKER_OPEN, now_ns, "probe_expired");
}

static uint64_t lease_deadline_next(const struct breaker *breaker)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < breaker->options.probe_count_max; i++)
        if (breaker->leases[i].id != 0 && breaker->leases[i].deadline_ns < next)
            next = breaker->leases[i].deadline_ns;
    return next;
}

static void count_probe(struct breaker *breaker, enum breaker_verdict verdict, uint64_t now_ns)
{
    switch (verdict) {
    case BREAKER_NEUTRAL: return;
    case BREAKER_FAILURE:
        SOMETIMES(PROBE_FAILED, true);
        breaker_set_state(breaker, BREAKER_OPEN, now_ns, "probe_failed");
        return;
    case BREAKER_SUCCESS:
        if (++breaker->successes >= breaker->options.success_count)
            breaker_set_state(breaker, BREAKER_CLOSED, now_ns, "probes_succeeded");
        return;
    }
}

/* ---- the calls -------------------------------------------------------------------------------------------------------- */

enum err breaker_acquire(struct breaker *breaker, uint64_t now_ns, struct breaker_permit *ret_permit,
                         uint64_t *ret_retry_after_ns)
{
    breaker_expire(breaker, now_ns);
    if (breaker->state == BREAKER_OPEN && now_ns >= breaker->open_until_ns)
        breaker_set_state(breaker, BREAKER_HALF_OPEN, now_ns, "open_time_over");

    switch (breaker->state) {
    case BREAKER_CLOSED: *ret_permit = (struct breaker_permit){.round = breaker->round}; return OK;
    case BREAKER_HALF_OPEN:
        if (breaker->lease_count < breaker->options.probe_count_max) {
            *ret_permit = (struct breaker_permit){.round = breaker->round, .lease = lease_take(breaker, now_ns)};
            return OK;
        }
        if (PLANTED(HALF_OPEN_LETS_ALL_THROUGH)) {
            *ret_permit = (struct breaker_permit){.round = breaker->round};
            return OK;
        }
        *ret_retry_after_ns = lease_deadline_next(breaker) - now_ns;
        break;
    case BREAKER_OPEN: *ret_retry_after_ns = breaker->open_until_ns - now_ns; break;
    case BREAKER_STATE_COUNT: ASSERT(false);
    }
    breaker->refused_count++;
    return ERR_BREAKER_OPEN;
}

void breaker_release(struct breaker *breaker, struct breaker_permit permit, enum breaker_verdict verdict, uint64_t now_ns)
{
    breaker_expire(breaker, now_ns); /* first: a lease given back too late has failed, whatever its verdict */
    if (permit.round != breaker->round)
        return;

    if (breaker->state == BREAKER_CLOSED) {
        ASSERT(permit.lease == 0);
        if (verdict != BREAKER_NEUTRAL)
            count_closed(breaker, verdict == BREAKER_FAILURE, now_ns);
        return;
    }
    /* Open gives no permits, so one of this round is a probe's; a second release of it finds no lease. */
    struct breaker_lease *const lease = permit.lease != 0 ? lease_find(breaker, permit.lease) : NULL;
    if (lease == NULL)
        return;
    *lease = (struct breaker_lease){0};
    breaker->lease_count--;
    count_probe(breaker, verdict, now_ns);
}

void breaker_get_snapshot(const struct breaker *breaker, struct breaker_snapshot *ret_snapshot)
{
    *ret_snapshot = (struct breaker_snapshot){
        .state = breaker->state,
        .failures_in_row = breaker->failures_in_row,
        .window_count = breaker->window_count,
        .window_failures = breaker->window_failures,
        .probe_count = breaker->lease_count,
        .successes = breaker->successes,
        .since_ns = breaker->since_ns,
        .open_until_ns = breaker->open_until_ns,
        .opened_count = breaker->opened_count,
        .refused_count = breaker->refused_count,
        .expired_count = breaker->expired_count,
    };
}
