/* SPDX-License-Identifier: Apache-2.0 */
/* The mailbox alone: its owner and the threads that push. The owner sleeps on an event that the push that unparks sets, as a
 * worker sleeps until LANE_ACTIVATE. */
#include <string.h>

#include "runtime/mailbox.h"
#include "tests/explore/scenario.h"
#include "tests/explore/world.h"

enum { SENDERS = 3, NOTES_MAX = 4 };

struct note {
    struct msg msg;
    uint32_t sender, value;
};

static struct {
    struct mailbox mailbox;
    struct world_event activation;
    struct note notes[SENDERS][NOTES_MAX];
    bool is_counted; /* else control messages, which spare the schedules of the count */
    /* the sender's */
    uint32_t refused[SENDERS], activations[SENDERS];
    /* the owner's; written before it opens, read by the pusher that unparks: as actor.home is */
    uint32_t life;
    /* the owner's */
    uint32_t expected[SENDERS];
    uint32_t received, undelivered, parks;
} s;

static void begin_with(const struct model_bounds *bounds)
{
    world_reset(bounds);
    memset(&s, 0, sizeof s);
    mailbox_open(&s.mailbox, 16);
    s.parks = 1;
}

static void begin(void)
{
    begin_with(&(struct model_bounds){.stale = 1});
}

static uint32_t sum(const uint32_t *counts)
{
    return counts[0] + counts[1] + counts[2];
}

/* ---- what threads do ------------------------------------------------------------------------------------------------------ */

static struct msg *note(uint32_t sender, uint32_t value)
{
    struct note *note = &s.notes[sender][value];
    *note = (struct note){.sender = sender, .value = value};
    note->msg.flags = s.is_counted ? 0 : MSG_CONTROL;
    return &note->msg;
}

static void push_chain(uint32_t sender, struct msg *newest, struct msg *oldest, uint32_t counted)
{
    switch (mailbox_push(&s.mailbox, newest, oldest, counted)) {
    case INBOX_PUSHED: break;
    case INBOX_UNPARKED:
        s.activations[sender]++;
        SCHEDULE_CHECK(s.life < 3);
        world_event_set(&s.activation);
        break;
    case INBOX_REFUSED: s.refused[sender] += newest == oldest ? 1 : 2; break;
    }
}

static void push(uint32_t sender, uint32_t value)
{
    struct msg *msg = note(sender, value);
    push_chain(sender, msg, msg, msg_is_counted(msg));
}

static void *push_one(void *sender)
{
    push((uint32_t)(uintptr_t)sender, 0);
    return NULL;
}

static void *push_two(void *sender)
{
    push((uint32_t)(uintptr_t)sender, 0);
    push((uint32_t)(uintptr_t)sender, 1);
    return NULL;
}

static void *push_a_chain(void *sender_)
{
    uint32_t sender = (uint32_t)(uintptr_t)sender_;
    struct msg *oldest = note(sender, 0), *newest = note(sender, 1);
    newest->next = oldest;
    push_chain(sender, newest, oldest, s.is_counted ? 2 : 0);
    return NULL;
}

static void receive(struct msg *msg)
{
    struct note *note = (struct note *)(void *)msg;
    SCHEDULE_CHECK(note->value == s.expected[note->sender]++);
    note->value = 99; /* the owner may write into what it received */
    s.received++;
}

static void receive_all(void)
{
    mailbox_take(&s.mailbox);
    for (struct msg *msg; (msg = mailbox_pop(&s.mailbox, false));)
        receive(msg);
}

static void sleep_and_receive(void)
{
    for (;;) {
        world_event_wait(&s.activation);
        do
            receive_all();
        while (!mailbox_try_park(&s.mailbox));
        s.parks++;
    }
}

static void *own(void *unused)
{
    (void)unused;
    sleep_and_receive();
    return NULL;
}

/* ---- nothing is lost, nobody is woken twice --------------------------------------------------------------------------------- */

static void end_parked(uint32_t sent)
{
    SCHEDULE_CHECK(s.received == sent);
    SCHEDULE_CHECK(s.parks == sum(s.activations) + 1);
    SCHEDULE_CHECK(inbox_is_parked(&s.mailbox.inbox));
    SCHEDULE_CHECK(mailbox_room(&s.mailbox) == 16);
}

static void begin_two_senders(void)
{
    begin();
    schedule_spawn(own, NULL);
    schedule_spawn(push_two, (void *)0);
    schedule_spawn(push_one, (void *)1);
}

static void end_three(void)
{
    end_parked(3);
}

static void begin_chains(void)
{
    begin();
    schedule_spawn(own, NULL);
    schedule_spawn(push_a_chain, (void *)0);
    schedule_spawn(push_two, (void *)1);
}

/* More schedules than a test can try: above a million, with all loads fresh. */
static void begin_two_by_two(void)
{
    begin_with(&(struct model_bounds){.stale = 4, .spurious = 2});
    schedule_spawn(own, NULL);
    schedule_spawn(push_two, (void *)0);
    schedule_spawn(push_two, (void *)1);
}

static void end_four(void)
{
    end_parked(4);
}

static void begin_spurious(void)
{
    begin_with(&(struct model_bounds){.spurious = 2});
    schedule_spawn(own, NULL);
    schedule_spawn(push_one, (void *)0);
    schedule_spawn(push_a_chain, (void *)1);
}

/* ---- the count that the cap is compared with (B2) ---------------------------------------------------------------------------- */

static void *own_and_count(void *unused)
{
    (void)unused;
    for (;;) {
        world_event_wait(&s.activation);
        do {
            mailbox_take(&s.mailbox);
            for (struct msg *msg; (msg = mailbox_pop(&s.mailbox, false)); receive(msg))
                SCHEDULE_CHECK(mailbox_room(&s.mailbox) >=
                               13); /* three at most; a count below zero would leave no room */
        } while (!mailbox_try_park(&s.mailbox));
        s.parks++;
    }
}

static void begin_count(void)
{
    begin_with(&(struct model_bounds){.stale = 1});
    s.is_counted = true;
    schedule_spawn(own_and_count, NULL);
    schedule_spawn(push_a_chain, (void *)0);
    schedule_spawn(push_one, (void *)1);
}

/* ---- the owner's own messages ----------------------------------------------------------------------------------------------- */

static void append_own(uint32_t value)
{
    if (mailbox_append(&s.mailbox, note(2, value))) {
        s.parks--; /* unparked by itself: it is awake, and nobody will tell it so */
        do
            receive_all();
        while (!mailbox_try_park(&s.mailbox));
        s.parks++;
    }
}

static void *append_and_own(void *unused)
{
    (void)unused;
    append_own(0);
    sleep_and_receive();
    return NULL;
}

static void begin_append(void)
{
    begin();
    schedule_spawn(append_and_own, NULL);
    schedule_spawn(push_one, (void *)0);
    schedule_spawn(push_one, (void *)1);
}

/* ---- the end of an owner, and the next one ------------------------------------------------------------------------------------ */

static void close_mailbox(void)
{
    for (struct msg *msg = mailbox_close(&s.mailbox), *next; msg; msg = next) {
        next = msg->next;
        ((struct note *)(void *)msg)->value = 99;
        s.undelivered++;
    }
}

static void *take_and_close(void *unused)
{
    (void)unused;
    receive_all();
    close_mailbox();
    return NULL;
}

static void begin_close(void)
{
    begin();
    schedule_spawn(take_and_close, NULL);
    schedule_spawn(push_two, (void *)0);
    schedule_spawn(push_a_chain, (void *)1);
}

static void end_close(void)
{
    SCHEDULE_CHECK(s.received + s.undelivered + sum(s.refused) == 4);
    SCHEDULE_CHECK(inbox_is_closed(&s.mailbox.inbox));
    SCHEDULE_CHECK(mailbox_room(&s.mailbox) == 16);
}

/* As the slot of an actor serves the next one. What is pushed now was sent to the former. */
static void serve_next_life(void)
{
    mailbox_open(&s.mailbox, 16);
    for (;;) {
        world_event_wait(&s.activation);
        do {
            mailbox_take(&s.mailbox);
            for (struct msg *msg; (msg = mailbox_pop(&s.mailbox, false)); s.received++)
                ((struct note *)(void *)msg)->value = 99;
        } while (!mailbox_try_park(&s.mailbox));
    }
}

static void *close_and_open(void *unused)
{
    (void)unused;
    close_mailbox();
    s.life = 2;
    serve_next_life();
    return NULL;
}

static void *wait_close_and_open(void *unused)
{
    (void)unused;
    world_event_wait(&s.activation); /* a parked one is ended in its own turn, for which somebody must have called */
    close_mailbox();
    serve_next_life();
    return NULL;
}

static void begin_open(void)
{
    begin();
    schedule_spawn(wait_close_and_open, NULL);
    schedule_spawn(push_two, (void *)0);
    schedule_spawn(push_one, (void *)1);
}

static void begin_fresh(void)
{
    begin();
    mailbox_close(&s.mailbox);
    schedule_spawn(close_and_open, NULL);
    schedule_spawn(push_two, (void *)0);
}

static void end_open(uint32_t sent)
{
    SCHEDULE_CHECK(s.received + s.undelivered + sum(s.refused) == sent);
    SCHEDULE_CHECK(inbox_is_parked(&s.mailbox.inbox));
    SCHEDULE_CHECK(mailbox_room(&s.mailbox) == 16);
}

static void end_open_three(void)
{
    end_open(3);
}

static void end_open_two(void)
{
    end_open(2);
}

const struct scenario mailbox_scenarios[] = {
    {"mailbox_two_senders", {begin_two_senders, end_three}, false},
    {"mailbox_chain_and_singles", {begin_chains, end_four}, false},
    {"mailbox_two_by_two", {begin_two_by_two, end_four}, true},
    {"mailbox_spurious_failures", {begin_spurious, end_three}, false},
    {"mailbox_count", {begin_count, end_three}, false},
    {"mailbox_append_among_pushes", {begin_append, end_three}, false},
    {"mailbox_push_against_close", {begin_close, end_close}, false},
    {"mailbox_close_and_open_again", {begin_open, end_open_three}, false},
    {"mailbox_open_publishes_the_owner", {begin_fresh, end_open_two}, false},
};
const size_t mailbox_scenario_count = sizeof mailbox_scenarios / sizeof mailbox_scenarios[0];
