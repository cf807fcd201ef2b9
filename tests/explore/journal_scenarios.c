/* SPDX-License-Identifier: Apache-2.0 */
/* Threads without a ring: the journal's, which sleep in their request lane, and any that sleeps on an event count alone. */
#include <string.h>

#include "runtime/msg_list.h"
#include "storage/request_lane.h"
#include "tests/explore/scenario.h"
#include "tests/explore/world.h"

enum { SENDERS = 2, REQUESTS_MAX = 2 };

struct request {
    struct msg msg;
    uint32_t sender, value;
};

static struct {
    struct request_lane lane;
    struct event_count event;
    ATOMIC(bool) is_stopping;
    struct request requests[SENDERS][REQUESTS_MAX];
    uint32_t refused[SENDERS]; /* the sender's */
    uint32_t reason;           /* written before is_stopping */
    /* the server's */
    struct msg_list queue;
    uint32_t expected[SENDERS];
    uint32_t served;
    bool has_ended;
} s;

static void begin(uint32_t stale)
{
    world_reset(&(struct model_bounds){.stale = stale});
    memset(&s, 0, sizeof s);
}

static struct msg *request(uint32_t sender, uint32_t value)
{
    s.requests[sender][value] = (struct request){.sender = sender, .value = value};
    return &s.requests[sender][value].msg;
}

static void serve_queue(void)
{
    for (struct msg *msg; (msg = msg_list_pop(&s.queue)); s.served++) {
        struct request *request = (struct request *)(void *)msg;
        SCHEDULE_CHECK(request->value == s.expected[request->sender]++);
        request->value = 99;
    }
}

/* ---- the lane: as the journal's threads run -------------------------------------------------------------------------------- */

static void *serve(void *unused)
{
    (void)unused;
    for (;;) {
        if (request_lane_take(&s.lane, &s.queue)) {
            serve_queue();
            continue;
        }
        if (atomic_load_acquire(&s.is_stopping))
            break;
        request_lane_wait(&s.lane, &s.is_stopping);
    }
    SCHEDULE_CHECK(s.reason == 7);
    (void)request_lane_close(&s.lane, &s.queue);
    serve_queue();
    s.has_ended = true;
    return NULL;
}

static void send(uint32_t sender, uint32_t value)
{
    s.refused[sender] += !request_lane_push(&s.lane, request(sender, value));
}

static void *send_one(void *sender)
{
    send((uint32_t)(uintptr_t)sender, 0);
    return NULL;
}

static void *stop(void *unused)
{
    (void)unused;
    s.reason = 7;
    atomic_store_release(&s.is_stopping, true);
    request_lane_wake(&s.lane);
    return NULL;
}

static void begin_lane(void)
{
    begin(0);
    schedule_spawn(serve, NULL);
    schedule_spawn(send_one, (void *)0);
    schedule_spawn(send_one, (void *)1);
}

static void end_lane(void)
{
    SCHEDULE_CHECK(s.served == 2 && !s.has_ended);
}

static void begin_stop(void)
{
    begin(1);
    schedule_spawn(serve, NULL);
    schedule_spawn(send_one, (void *)0);
    schedule_spawn(stop, NULL);
}

static void end_stop(void)
{
    SCHEDULE_CHECK(s.has_ended);
    SCHEDULE_CHECK(s.served + s.refused[0] + s.refused[1] == 1);
}

/* ---- the event count alone, over an inbox that is never parked ---------------------------------------------------------------- */

static void *serve_inbox(void *unused)
{
    (void)unused;
    while (s.served < 2) {
        uint32_t seen = event_count_prepare(&s.event);
        if (request_lane_append(inbox_take(&s.lane.inbox), &s.queue))
            serve_queue();
        else
            (void)event_count_wait(&s.event, seen, UINT64_MAX);
    }
    s.has_ended = true;
    return NULL;
}

static void *push_and_notify(void *sender_)
{
    uint32_t sender = (uint32_t)(uintptr_t)sender_;
    struct msg *msg = request(sender, 0);
    (void)inbox_push(&s.lane.inbox, msg, msg);
    event_count_notify(&s.event);
    return NULL;
}

static void begin_event_count(void)
{
    begin(0);
    schedule_spawn(serve_inbox, NULL);
    schedule_spawn(push_and_notify, (void *)0);
    schedule_spawn(push_and_notify, (void *)1);
}

static void end_event_count(void)
{
    SCHEDULE_CHECK(s.has_ended);
}

/* What is waited for is plain, published by the notify alone: two waiters, one of which may have set WAITING for both. */
static void *wait_for_reason(void *unused)
{
    (void)unused;
    uint32_t seen = event_count_prepare(&s.event);
    if (seen == 0)
        (void)event_count_wait(&s.event, 0, UINT64_MAX);
    SCHEDULE_CHECK(s.reason == 7);
    return NULL;
}

static void *set_reason(void *unused)
{
    (void)unused;
    s.reason = 7;
    event_count_notify(&s.event);
    return NULL;
}

static void begin_notify(void)
{
    begin(1);
    schedule_spawn(wait_for_reason, NULL);
    schedule_spawn(wait_for_reason, NULL);
    schedule_spawn(set_reason, NULL);
}

static void end_notify(void)
{
    SCHEDULE_CHECK(*schedule_finished_flag(0) && *schedule_finished_flag(1));
}

const struct scenario journal_scenarios[] = {
    {"lane_two_senders", {begin_lane, end_lane}, false},
    {"lane_stop", {begin_stop, end_stop}, false},
    {"event_count_queue", {begin_event_count, end_event_count}, false},
    {"event_count_publishes", {begin_notify, end_notify}, false},
};
const size_t journal_scenario_count = sizeof journal_scenarios / sizeof journal_scenarios[0];
