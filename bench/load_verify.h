/* SPDX-License-Identifier: Apache-2.0 */
/* load_verify: reads conversations back over HTTP after a run and checks what the answers alone cannot show: versions are dense,
 * every message was received exactly once and in the order that its talker said it, none that was acknowledged is missing, though
 * its neighbours were refused, and each has exactly one reply. */
#ifndef CIRANDA_BENCH_LOAD_VERIFY_H
#define CIRANDA_BENCH_LOAD_VERIFY_H

#include "bench/load_run.h"

/* A talker of a conversation, and how far reading back has come with it. */
struct load_speaker {
    const struct number_set *accepted_numbers; /* see load_talker */
    uint32_t said, last_heard;                 /* numbers of its last messages, said and read back */
};

/* A conversation as it stands at the end. */
struct load_conversation {
    char id[LOAD_NAME_BYTES + 24];
    uint64_t accepted; /* messages of all its talkers */
    struct load_speaker *speakers;
    bool has_gap; /* some were refused, or their fate is unknown */
};

/* Checks `conversations` against the server, with async waiting up to 30 s in all for replies that are still to come. Adds to
 * `result`. */
void load_verify(const struct load_options *options, struct load_conversation *conversations, uint32_t count,
                 struct load_result *result);

#endif
