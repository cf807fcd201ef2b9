/* SPDX-License-Identifier: Apache-2.0 */
/* load_run: one thread of the load generator: talkers that speak over a set of connections, checked while measured.
 *
 * Closed loop (rate 0): a connection has `pipeline` requests in flight, always, and its talkers take turns; one says its next
 * message when it has the reply; latency counts from the sending. Open loop: every talker has a schedule, so that all together
 * say `rate` messages a second, whatever the server does; latency counts from the intended time, so that a stalled server is not
 * spared the messages that it delayed (coordinated omission).
 *
 * A conversation has one talker or, to make it hot, many. Every talker stays on one connection, so that the order of its messages
 * is given even when it types ahead.
 */
#ifndef CIRANDA_BENCH_LOAD_RUN_H
#define CIRANDA_BENCH_LOAD_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/dialogues.h"
#include "bench/histogram.h"

enum load_expectation {
    LOAD_EXPECT_ECHO,     /* the reply is the message */
    LOAD_EXPECT_CONTAINS, /* contains it (fake_model) */
    LOAD_EXPECT_ANY,      /* is not empty */
};

struct load_protocol;
struct number_set;

enum { LOAD_NAME_BYTES = 40 };

struct load_options {
    const struct load_protocol *protocol;
    const char *address;
    const char *http_address;    /* where conversations are read back; NULL: they are not */
    const char *name;            /* makes the conversations of this run unique; shorter than LOAD_NAME_BYTES */
    const char *path, *body;     /* path: the same request again and again, instead of conversations */
    struct dialogues *dialogues; /* NULL: generated texts */
    const char *agent;           /* NULL: the server's routing */
    uint32_t threads, connections, conversations, speakers, pipeline, text_bytes; /* speakers: of each conversation */
    uint32_t typing_ahead_per_mille, read_back;
    double rate, seconds, warmup_s, think_ms, drain_s;
    enum load_expectation expectation;
    bool is_async, refusals_ok, is_json;
};

enum { LOAD_STATUS_MAX = 600 };

struct load_result {
    struct histogram latency_ns;
    uint64_t sent, answered, succeeded; /* the latter two came within the measured time, and of all that was said */
    uint64_t statuses[LOAD_STATUS_MAX];
    uint64_t wrong, duplicates, lost, unanswered, refused;
    uint64_t broken_connections;
    uint64_t read_back_conversations, read_back_events, read_back_wrong;
    double measured_s, cpu_s;
    char first_problem[512]; /* for a person */
};

/* A talker as it stands at the end, for reading back. */
struct load_talker {
    uint32_t conversation, speaker;            /* the speaker'th of that conversation of the run */
    char id[LOAD_NAME_BYTES + 24];             /* of the conversation */
    uint32_t said, accepted;                   /* messages, each with the id "<speaker>-<number>", from 1 on */
    bool has_gap;                              /* some were refused, or their fate is unknown */
    const struct number_set *accepted_numbers; /* where refusals are allowed; lent, until the run is destroyed */
};

struct load_run;

/* `thread` of options->threads. */
struct load_run *load_run_create(const struct load_options *options, uint32_t thread);
void load_run_destroy(struct load_run *run);
/* Blocks until the end. */
void load_run_play(struct load_run *run);
struct load_result *load_run_result(struct load_run *run);
uint32_t load_run_talker_count(const struct load_run *run);
struct load_talker load_run_talker(const struct load_run *run, uint32_t index);

/* Notes a failed check; the first one is kept as text. */
void load_problem(struct load_result *result, uint64_t *counter, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
