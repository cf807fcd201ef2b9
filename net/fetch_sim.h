/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sim: the other side of fetch.h in a simulation: a provider that is a function of the test, in virtual time.
 *
 * A request arrives after a short random way, unless it was cancelled before; only then the provider is asked what it does
 * with it, and only then it counts as seen. Its script plays by the worker's timers; the deadlines, the byte limit and the
 * promises F1 to F3 are those of the real thing. Random choices come from clock_random_u64, which the simulation seeds.
 *
 * Life: fetch_sim_set_provider before the first fetch; then fetch.h. One simulation a process at a time.
 */
#ifndef CIRANDA_NET_FETCH_SIM_H
#define CIRANDA_NET_FETCH_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "net/fetch.h"
#include "runtime/buffer.h"

enum { FETCH_SIM_PIECES_MAX = 256 };

/* A request as the provider sees it. Lent for the call. */
struct fetch_sim_call {
    const char *method, *url;
    const char *const *headers; /* NULL-terminated; never NULL itself */
    struct slice body;
    uint64_t number; /* of requests that arrived, this one included */
    uint64_t random;
};

struct fetch_sim_piece {
    uint64_t delay_ns; /* after the former piece, or the arrival */
    uint32_t size;     /* bytes of the body that come together */
};

/* What the provider does. It comes zeroed, `body` ready for appending; what the pieces leave over of the body comes as one
 * more piece without delay. */
struct fetch_sim_script {
    int status;
    uint64_t retry_after_ms;
    struct buffer body;
    struct fetch_sim_piece pieces[FETCH_SIM_PIECES_MAX];
    uint32_t piece_count;
    uint64_t end_delay_ns; /* after the last piece */
    bool is_refused;       /* never arrived after all: ERR_CONNECT at once, not counted as seen */
    bool is_stalled;       /* never ends: the deadlines of the request decide */
    enum err code;         /* how it ends: OK complete; ERR_PEER_CLOSED cut; ERR_TLS, ERR_PROTOCOL, ... */
};

typedef void fetch_sim_provider(void *context, const struct fetch_sim_call *call, struct fetch_sim_script *ret_script);

/* Also sets the counter back to 0. Without a provider (NULL) every request is refused. */
void fetch_sim_set_provider(fetch_sim_provider *provider, void *context);
/* Requests the provider has seen: what the journalled attempts are compared with. */
uint64_t fetch_sim_seen_count(void);

#endif
