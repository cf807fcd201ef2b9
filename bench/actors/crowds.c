/* SPDX-License-Identifier: Apache-2.0 */
/* crowds: many actors that all talk at once, one message to and fro each.
 *
 *   big        120 actors; each pings one of the others, drawn anew each time, and waits for its pong
 *   chameneos  100 creatures meet in pairs in a mall, which introduces each second one to the one that waits: four messages a
 *              meeting, two of them to the mall
 */
#include "bench/actors/bench.h"

enum { BIG_ACTORS = 120, BIG_PINGS_EACH = 50000, CREATURES = 100, MEETINGS = 2000000 };
enum { MSG_PING = MSG_DONE + 1, MSG_PONG, MSG_MEET, MSG_CHANGE };

/* ---- big -------------------------------------------------------------------------------------------------------------- */

struct talker {
    struct actor_id id;
    uint32_t left;
    uint32_t random;
};
static struct talker talkers[BIG_ACTORS];
static uint32_t talkers_left;
static struct actor_id talkers_end;

/* The block of the answer is the next question's. */
static void ping(struct actor_context *context, struct talker *talker, struct msg **msg)
{
    (*msg)->kind = MSG_PING;
    work_of(*msg)->from = context->self;
    bench_pass(context->worker, talkers[bench_random(&talker->random) % BIG_ACTORS].id, msg);
}

static enum err on_talk(struct actor_context *context, struct msg **msg)
{
    struct talker *talker = context->state;
    switch ((*msg)->kind) {
    case MSG_PING:
        (*msg)->kind = MSG_PONG;
        bench_pass(context->worker, work_of(*msg)->from, msg);
        return OK;
    case MSG_PONG:
        if (--talker->left == 0)
            bench_pass(context->worker, talkers_end, msg);
        else
            ping(context, talker, msg);
        return OK;
    case MSG_GO: ping(context, talker, msg); return OK;
    default: return ERR_INVALID;
    }
}
static const struct actor_type talker_type = {"talker", on_talk, NULL, 0, false};

static enum err on_talker_end(struct actor_context *context, struct msg **msg)
{
    (void)msg;
    if (--talkers_left == 0)
        bench_finish(context->worker);
    return OK;
}
static const struct actor_type talker_end_type = {"talker_end", on_talker_end, NULL, 0, false};

static void start_big(struct worker *worker)
{
    talkers_left = BIG_ACTORS;
    talkers_end = bench_spawn_actor(worker, &talker_end_type, NULL);
    for (uint32_t i = 0; i < BIG_ACTORS; i++) {
        talkers[i] = (struct talker){.left = BIG_PINGS_EACH, .random = i};
        talkers[i].id = bench_spawn_actor(worker, &talker_type, &talkers[i]);
    }
    for (uint32_t i = 0; i < BIG_ACTORS; i++)
        bench_send(worker, talkers[i].id, MSG_GO, 0);
}

/* ---- chameneos -------------------------------------------------------------------------------------------------------- */

enum color { BLUE, RED, YELLOW };

struct creature {
    enum color color;
};
static struct creature creatures[CREATURES];
static struct mall {
    struct actor_id id;
    struct msg *waiting; /* the message of the creature that waits for another */
    uint64_t left;
} mall;

/* Who meets its like stays as it is; others both take the third colour. */
static enum color complement(enum color mine, enum color other)
{
    return mine == other ? mine : (enum color)(BLUE + RED + YELLOW - mine - other);
}

static void meet(struct actor_context *context, const struct creature *creature, struct msg **msg)
{
    struct work *work = work_of(*msg);
    work->msg.kind = MSG_MEET;
    work->left = creature->color;
    work->from = context->self;
    bench_pass(context->worker, mall.id, msg);
}

/* The second of a pair is introduced to the first, who answers it with the new colour and both go to the mall again. The
 * first's own message has stayed with the mall and is freed there. */
static enum err on_creature(struct actor_context *context, struct msg **msg)
{
    struct creature *creature = context->state;
    struct work *work = work_of(*msg);
    switch (work->msg.kind) {
    case MSG_MEET:
        creature->color = complement(creature->color, (enum color)work->left);
        bench_send(context->worker, work->from, MSG_CHANGE, creature->color);
        break;
    case MSG_CHANGE: creature->color = (enum color)work->left; break;
    case MSG_GO: break;
    default: return ERR_INVALID;
    }
    meet(context, creature, msg);
    return OK;
}
static const struct actor_type creature_type = {"creature", on_creature, NULL, 0, false};

static enum err on_mall(struct actor_context *context, struct msg **msg)
{
    if (mall.left == 0) /* closed */
        return OK;
    if (!mall.waiting) {
        mall.waiting = *msg;
        *msg = NULL;
        return OK;
    }
    struct actor_id first = work_of(mall.waiting)->from;
    msg_destroy(context->worker, &mall.waiting);
    bench_pass(context->worker, first, msg);
    if (--mall.left == 0)
        bench_finish(context->worker);
    return OK;
}
static const struct actor_type mall_type = {"mall", on_mall, NULL, 0, false};

static void start_chameneos(struct worker *worker)
{
    mall.left = MEETINGS;
    mall.id = bench_spawn_actor(worker, &mall_type, NULL);
    for (uint32_t i = 0; i < CREATURES; i++) {
        creatures[i].color = (enum color)(i % 3);
        bench_send(worker, bench_spawn_actor(worker, &creature_type, &creatures[i]), MSG_GO, 0);
    }
}

const struct bench bench_big = {"big", "msg/s", 2ull * BIG_ACTORS *BIG_PINGS_EACH, 0, start_big, NULL};
const struct bench bench_chameneos = {"chameneos", "meetings/s", MEETINGS, 0, start_chameneos, NULL};
