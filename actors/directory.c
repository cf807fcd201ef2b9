/* SPDX-License-Identifier: Apache-2.0 */
/* The index holds only conversations that are somewhere between waking and ended; who sleeps is known to the journal alone, and a
 * request for it begins with a load. So a shard's memory follows what is in use, not what exists.
 *
 *            request, or open turn at start
 *   (asleep) ---------------------------> WAITING -> LOADING -> AWAKE -> PASSIVATING -> (asleep)
 *                                           ^  ^        |          |  <----- busy ----'      |
 *                        end of quarantine  |  |        |          crash                     held requests: WAITING
 *                              BROKEN ------'  '------ FENCING <---'
 *                                 ^-- too many -----------'
 *   DUE: ended by itself because the journal refused (the disk was full): woken again after a while, or by a request.
 *
 * Fencing: a crashed conversation may have appends on their way, which use its seat. An append that must be refused (no version
 * is UINT64_MAX) follows them through the journal's one lane; when it comes back, they have (J3), and the next load sees
 * what became of them. */
#include "actors/directory.h"

#include <stdlib.h>

#include "actors/admission.h"
#include "actors/config/config.h"
#include "actors/conversation_key.h"
#include "actors/directory_internal.h"
#include "actors/protocol.h"
#include "actors/services.h"
#include "runtime/assert.h"
#include "runtime/log.h"
#include "runtime/planted.h"
#include "runtime/restart_intensity.h"
#include "runtime/sometimes.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

enum {
    WAKES_IN_FLIGHT_MAX = 256,
    AWAKE_MAX = 100000, /* a shard; above it the longest idle are put to sleep before their time */
    SWEEP_BATCH_MAX = 256,
    RESUME_PAGE = 1000,
    CRASHES_MAX = 10, /* within CRASH_PERIOD_NS; one more and the conversation is in quarantine */
    SLOTS_MIN = 1024,
};
#define SECOND_NS UINT64_C(1000000000)
#define CRASH_PERIOD_NS (60 * SECOND_NS)
#define QUARANTINE_NS (30 * SECOND_NS)
#define DUE_NS SECOND_NS
#define SWEEP_NS (SECOND_NS / 4)

enum entry_phase {
    ENTRY_WAITING,     /* for its turn to be loaded; on the waiting list */
    ENTRY_LOADING,     /* awaits MSG_JOURNAL_LOAD */
    ENTRY_AWAKE,       /* on the idle list, by last request */
    ENTRY_PASSIVATING, /* awaits CONV_STILL_BUSY or MSG_EXIT */
    ENTRY_FENCING,     /* crashed; awaits the refused append; on the timed list in case it could not be sent */
    ENTRY_BROKEN,      /* in quarantine until due_ns; on the timed list */
    ENTRY_DUE,         /* to be woken at due_ns; on the timed list */
    ENTRY_PHASE_COUNT
};

static const bool successors[ENTRY_PHASE_COUNT][ENTRY_PHASE_COUNT] = {
    [ENTRY_WAITING] = {[ENTRY_LOADING] = true},
    [ENTRY_LOADING] = {[ENTRY_AWAKE] = true},
    [ENTRY_AWAKE] = {[ENTRY_PASSIVATING] = true, [ENTRY_FENCING] = true, [ENTRY_WAITING] = true, [ENTRY_DUE] = true},
    [ENTRY_PASSIVATING] = {[ENTRY_AWAKE] = true, [ENTRY_FENCING] = true, [ENTRY_WAITING] = true, [ENTRY_DUE] = true},
    [ENTRY_FENCING] = {[ENTRY_WAITING] = true, [ENTRY_BROKEN] = true},
    [ENTRY_BROKEN] = {[ENTRY_WAITING] = true},
    [ENTRY_DUE] = {[ENTRY_WAITING] = true},
};

struct entry {
    struct entry *next, *previous; /* on the list of its phase, if any */
    enum entry_phase phase;
    uint32_t held_count;
    struct actor_id actor;
    struct msg *held, **held_end; /* conv_request, in order, while there is no actor to give them to */
    uint64_t active_ns, due_ns;
    struct restart_intensity *intensity; /* NULL: never crashed */
    struct conversation_seat seat;
};

struct entry_list {
    struct entry *first, *last;
    uint32_t count;
};

struct directory {
    struct worker *worker;
    struct services *services;
    struct actor_id self;
    struct timer sweep;
    struct entry **slots; /* open addressing, linear probes */
    uint32_t slot_count, entry_count;
    struct entry_list waiting, idle, timed;
    uint32_t loads_in_flight;
    uint32_t held_count;         /* of all entries */
    struct journal_list *resume; /* the page to ask for once the last one's conversations are awake */
    char resume_after[JOURNAL_KEY_BYTES_MAX];
    struct directory_stats stats;
    struct conversation_scratch scratch;
};

struct conversation_scratch *directory_scratch(struct directory *directory)
{
    return &directory->scratch;
}

struct directory_stats *directory_live_stats(struct directory *directory)
{
    return &directory->stats;
}

static struct conv_request *as_request(struct msg *msg)
{
    return (struct conv_request *)(void *)msg;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------- */

static struct entry_list *list_of(struct directory *d, enum entry_phase phase)
{
    switch (phase) {
    case ENTRY_WAITING: return &d->waiting;
    case ENTRY_AWAKE: return &d->idle;
    case ENTRY_FENCING:
    case ENTRY_BROKEN:
    case ENTRY_DUE: return &d->timed;
    case ENTRY_LOADING:
    case ENTRY_PASSIVATING:
    case ENTRY_PHASE_COUNT: break;
    }
    return NULL;
}

static void list_append(struct entry_list *list, struct entry *entry)
{
    entry->next = NULL;
    entry->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = entry;
    list->last = entry;
    list->count++;
}

static void list_remove(struct entry_list *list, struct entry *entry)
{
    *(entry->previous ? &entry->previous->next : &list->first) = entry->next;
    *(entry->next ? &entry->next->previous : &list->last) = entry->previous;
    list->count--;
}

static void set_phase(struct directory *d, struct entry *entry, enum entry_phase phase)
{
    ASSERT(successors[entry->phase][phase]);
    struct entry_list *from = list_of(d, entry->phase), *to = list_of(d, phase);
    if (from)
        list_remove(from, entry);
    entry->phase = phase;
    if (to)
        list_append(to, entry);
}

/* ---- the index --------------------------------------------------------------------------------------------------------- */

static struct slice key_of(const struct entry *entry)
{
    return slice_of(entry->seat.key, entry->seat.key_size);
}

static uint32_t slot_of(const struct directory *d, struct hash128 hash)
{
    return (uint32_t)hash.high & (d->slot_count - 1); /* `low` chose the shard */
}

static struct entry *find(const struct directory *d, struct hash128 hash, struct slice key)
{
    for (uint32_t i = slot_of(d, hash); d->slots[i]; i = (i + 1) & (d->slot_count - 1))
        if (hash128_is_equal(d->slots[i]->seat.hash, hash) && (!key.data || slice_is_equal(key_of(d->slots[i]), key)))
            return d->slots[i];
    return NULL;
}

static void place(struct directory *d, struct entry *entry)
{
    uint32_t i = slot_of(d, entry->seat.hash);
    while (d->slots[i])
        i = (i + 1) & (d->slot_count - 1);
    d->slots[i] = entry;
}

static bool make_room(struct directory *d)
{
    if (d->entry_count * 2 < d->slot_count)
        return true;
    struct entry **old = d->slots, **slots = calloc((size_t)d->slot_count * 2, sizeof *slots);
    if (!slots)
        return false;
    uint32_t old_count = d->slot_count;
    d->slots = slots;
    d->slot_count *= 2;
    for (uint32_t i = 0; i < old_count; i++)
        if (old[i])
            place(d, old[i]);
    free(old);
    return true;
}

static struct entry *entry_create(struct directory *d, struct hash128 hash, struct slice key)
{
    struct entry *entry = make_room(d) ? calloc(1, sizeof *entry) : NULL;
    if (!entry)
        return NULL;
    entry->held_end = &entry->held;
    entry->seat.hash = hash;
    entry->seat.key_size = (uint32_t)key.size;
    memcpy(entry->seat.key, key.data, key.size);
    entry->phase = ENTRY_WAITING;
    list_append(&d->waiting, entry);
    place(d, entry);
    d->entry_count++;
    return entry;
}

static void entry_free(struct entry *entry)
{
    free(entry->intensity);
    free(entry);
}

/* Takes it out of the index; later ones of its run of probes move up (backward shift). */
static void forget(struct directory *d, struct entry *entry)
{
    ASSERT(!entry->held);
    struct entry_list *list = list_of(d, entry->phase);
    if (list)
        list_remove(list, entry);
    uint32_t mask = d->slot_count - 1, hole = slot_of(d, entry->seat.hash);
    while (d->slots[hole] != entry)
        hole = (hole + 1) & mask;
    for (uint32_t i = (hole + 1) & mask; d->slots[i]; i = (i + 1) & mask) {
        uint32_t home = slot_of(d, d->slots[i]->seat.hash);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            d->slots[hole] = d->slots[i];
            hole = i;
        }
    }
    d->slots[hole] = NULL;
    d->entry_count--;
    entry_free(entry);
}

/* ---- held requests ----------------------------------------------------------------------------------------------------- */

static bool wants_answer(const struct msg *msg)
{
    return msg->kind != CONV_ABANDON && msg->kind != CONV_UNSUBSCRIBE;
}

/* It comes back from a conversation that ended: no cap turns it away now. */
static bool was_let_in(struct msg *msg)
{
    return as_request(msg)->is_admitted || as_request(msg)->is_returned;
}

static void refuse(struct directory *d, struct msg **msg, enum err code, uint32_t retry_after_s, const char *detail)
{
    if (!wants_answer(*msg)) {
        msg_destroy(d->worker, msg);
        return;
    }
    struct conv_request *request = as_request(*msg);
    *msg = NULL;
    conv_request_refuse(d->worker, &request, code, retry_after_s, detail);
}

static void hold(struct directory *d, struct entry *entry, struct msg **msg)
{
    const struct config *config = d->services->config;
    bool is_bounded = !((*msg)->flags & MSG_CONTROL) && !was_let_in(*msg);
    if (is_bounded && entry->held_count >= config->conversation.mailbox_messages) {
        refuse(d, msg, ERR_MAILBOX_FULL, 1, "too many requests wait for this conversation");
        return;
    }
    if (is_bounded && d->held_count >= ADMISSION_REQUESTS_WAITING_MAX) {
        refuse(d, msg, ERR_OVERLOAD, 1, "too many requests wait for conversations that are waking");
        return;
    }
    (*msg)->next = NULL;
    *entry->held_end = *msg;
    entry->held_end = &(*msg)->next;
    entry->held_count++;
    d->held_count++;
    *msg = NULL;
}

static struct msg *pop_held(struct directory *d, struct entry *entry)
{
    struct msg *msg = entry->held;
    entry->held = msg->next;
    if (!entry->held)
        entry->held_end = &entry->held;
    entry->held_count--;
    d->held_count--;
    msg->next = NULL;
    return msg;
}

static void refuse_held(struct directory *d, struct entry *entry, enum err code, uint32_t retry_after_s,
                        const char *detail)
{
    while (entry->held) {
        struct msg *msg = pop_held(d, entry);
        refuse(d, &msg, code, retry_after_s, detail);
    }
}

/* Gives one request to the actor. Returns: false when the actor has just ended; the caller keeps the request. */
static bool deliver(struct directory *d, struct entry *entry, struct msg **msg)
{
    const struct config *config = d->services->config;
    if (as_request(*msg)->crashes >= config->conversation.crash_max) {
        if ((*msg)->kind != CONV_MESSAGE && (*msg)->kind != CONV_DEAD_MESSAGE) {
            refuse(d, msg, ERR_CRASHED, 0, "the conversation failed each time it handled this request");
            return true;
        }
        (*msg)->kind = CONV_DEAD_MESSAGE;
    }
    switch (actor_send(d->worker, entry->actor, msg)) {
    case OK: return true;
    case ERR_MAILBOX_FULL: refuse(d, msg, ERR_MAILBOX_FULL, 1, "the conversation's mailbox is full"); return true;
    default: return false; /* its MSG_EXIT is on the way */
    }
}

static void deliver_held(struct directory *d, struct entry *entry)
{
    while (entry->held) {
        struct msg *msg = pop_held(d, entry);
        if (deliver(d, entry, &msg))
            continue;
        msg->next = entry->held; /* first again; nothing was sent behind it */
        entry->held = msg;
        if (!msg->next)
            entry->held_end = &msg->next;
        entry->held_count++;
        d->held_count++;
        return;
    }
}

/* ---- waking ------------------------------------------------------------------------------------------------------------ */

static void submit_resume_page(struct directory *d)
{
    struct journal_list *list = d->resume;
    d->resume = NULL;
    journal_submit_list(d->services->journal, list);
}

static void start_loads(struct directory *d)
{
    while (d->waiting.first && d->loads_in_flight < WAKES_IN_FLIGHT_MAX) {
        struct entry *entry = d->waiting.first;
        struct journal_load *load =
            MSG_CREATE(d->worker, struct journal_load, MSG_JOURNAL_LOAD, MSG_URGENT | MSG_CONTROL);
        if (!load) {
            refuse_held(d, entry, ERR_NO_MEMORY, 1, "no memory to wake the conversation");
            forget(d, entry);
            continue;
        }
        *load = (struct journal_load){.msg = load->msg}; /* larger than what comes zeroed */
        set_phase(d, entry, ENTRY_LOADING);
        load->msg.to = d->self;
        load->key = key_of(entry);
        load->context = entry;
        d->loads_in_flight++;
        d->stats.wakes++;
        journal_submit_load(d->services->journal, load);
    }
    if (d->resume && !d->waiting.first)
        submit_resume_page(d);
}

/* What asks for a conversation that does not exist is refused, up to the message that makes it. Returns: is there one? */
static bool has_first_message(struct directory *d, struct entry *entry)
{
    while (entry->held && entry->held->kind != CONV_MESSAGE && entry->held->kind != CONV_DEAD_MESSAGE) {
        struct msg *msg = pop_held(d, entry);
        refuse(d, &msg, ERR_NOT_FOUND, 0, "no such conversation");
    }
    return entry->held != NULL;
}

static enum err spawn(struct directory *d, struct entry *entry, const struct journal_load *load, bool *ret_has_open_turn)
{
    struct conversation *conversation;
    enum err code = conversation_create(d->services->config, &entry->seat, d->self, load, &conversation);
    if (code != OK)
        return code;
    *ret_has_open_turn = conversation_has_open_turn(conversation);
    const struct actor_options options = {.supervisor = d->self, .child_key = entry};
    code = actor_spawn(d->worker, &conversation_type, conversation, &options, &entry->actor);
    if (code != OK) {
        conversation_destroy(conversation);
        return code;
    }
    entry->active_ns = worker_now_ns(d->worker);
    set_phase(d, entry, ENTRY_AWAKE);
    d->stats.awake++;
    return OK;
}

static void on_load(struct directory *d, struct msg **msg)
{
    struct journal_load *load = (struct journal_load *)(void *)*msg;
    struct entry *entry = load->context;
    d->loads_in_flight--;
    bool has_open_turn = false;
    enum err code = load->result;
    if (code == ERR_NOT_FOUND && has_first_message(d, entry))
        code = OK;
    if (code == OK)
        code = spawn(d, entry, load, &has_open_turn);
    journal_release(load->memory);
    if (code == OK) {
        if (has_open_turn) { /* in the same block: this must not fail for want of memory */
            (*msg)->kind = CONV_START;
            if (actor_send(d->worker, entry->actor, msg) != OK)
                msg_destroy(d->worker, msg);
        }
        deliver_held(d, entry);
    } else {
        if (code != ERR_NOT_FOUND)
            LOG(LOG_ERROR, "conversation_wake_failed", LOG_SLICE("key", key_of(entry)), LOG_ERR(code));
        refuse_held(d, entry, code, err_may_retry(code), "the conversation could not be woken");
        forget(d, entry);
    }
    start_loads(d);
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

static void on_request(struct directory *d, struct msg **msg)
{
    struct conv_request *request = as_request(*msg);
    const struct hash128 hash = {request->hash[0], request->hash[1]};
    char key[JOURNAL_KEY_BYTES_MAX];
    uint32_t key_size = conversation_key_write(request->tenant, request->conversation, key);
    ASSERT(key_size > 0); /* directory_send has looked */
    struct entry *entry = find(d, hash, slice_of(key, key_size));
    if (d->services->is_draining && !was_let_in(*msg) && (*msg)->kind == CONV_MESSAGE) {
        refuse(d, msg, ERR_SHUTDOWN, 1, "the server is shutting down");
        return;
    }
    if (!entry && !wants_answer(*msg))
        return;
    if (!entry)
        entry = entry_create(d, hash, slice_of(key, key_size));
    if (!entry) {
        refuse(d, msg, ERR_NO_MEMORY, 1, "no memory for the conversation");
        return;
    }
    switch (entry->phase) {
    case ENTRY_AWAKE:
        entry->active_ns = worker_now_ns(d->worker);
        list_remove(&d->idle, entry);
        list_append(&d->idle, entry);
        if (entry->held || !deliver(d, entry, msg))
            hold(d, entry, msg);
        return;
    case ENTRY_BROKEN:
        if (was_let_in(*msg))
            hold(d, entry, msg);
        else
            refuse(d, msg, ERR_CRASHED, (uint32_t)(QUARANTINE_NS / SECOND_NS), "the conversation fails again and again");
        return;
    case ENTRY_PASSIVATING:
        SOMETIMES(REQUEST_DURING_PASSIVATION, wants_answer(*msg));
        if (PLANTED(PASSIVATION_DROPS_HELD))
            return;
        hold(d, entry, msg);
        return;
    case ENTRY_DUE: set_phase(d, entry, ENTRY_WAITING); /* fall through */
    case ENTRY_WAITING:
    case ENTRY_LOADING:
    case ENTRY_FENCING:
    case ENTRY_PHASE_COUNT: hold(d, entry, msg); break;
    }
    start_loads(d);
}

/* ---- the end of a conversation ------------------------------------------------------------------------------------- */

static bool is_conv_request(uint16_t kind)
{
    return (kind >= CONV_MESSAGE && kind <= CONV_HANDOFF) || kind == CONV_DEAD_MESSAGE;
}

/* A message that reached nobody: a request is delivered again, the rest was for the life that ended. */
static struct msg *salvage(struct directory *d, struct msg *msg)
{
    if (is_conv_request(msg->kind))
        return msg;
    if (msg->kind == MSG_JOURNAL_READ) {
        struct conv_request *request = conversation_read_destroy(d->worker, &msg);
        return request ? &request->msg : NULL;
    }
    msg_destroy(d->worker, &msg);
    return NULL;
}

/* What the actor had comes before what came since. */
static void hold_first(struct entry *entry, struct msg *crash_msg, struct msg *undelivered, struct directory *d)
{
    struct msg *first = NULL, **end = &first;
    for (struct msg *next, *msg = crash_msg ? crash_msg : undelivered; msg; msg = next) {
        next = msg == crash_msg ? undelivered : msg->next;
        struct msg *kept = salvage(d, msg);
        if (!kept)
            continue;
        as_request(kept)->is_admitted = true;
        kept->next = NULL;
        *end = kept;
        end = &kept->next;
        entry->held_count++;
        d->held_count++;
    }
    *end = entry->held;
    if (!entry->held)
        entry->held_end = end;
    entry->held = first;
    if (!first)
        entry->held_end = &entry->held;
}

static void fence(struct directory *d, struct entry *entry)
{
    struct journal_append *append = (struct journal_append *)(void *)msg_create(d->worker, MSG_JOURNAL_APPEND,
                                                                                MSG_URGENT | MSG_CONTROL, sizeof *append);
    entry->due_ns = append ? UINT64_MAX : 0; /* no memory: the sweep tries again */
    if (!append)
        return;
    append->msg.to = d->self;
    append->key = key_of(entry);
    append->head = &entry->seat.head;
    append->expected_version = UINT64_MAX;
    append->event_count = 1;
    append->data = SLICE_LITERAL("fence");
    append->context = entry;
    journal_submit_append(d->services->journal, append);
}

static bool may_restart(struct directory *d, struct entry *entry)
{
    if (!entry->intensity) {
        entry->intensity = malloc(sizeof *entry->intensity);
        if (!entry->intensity)
            return false;
        restart_intensity_init(entry->intensity, CRASHES_MAX, CRASH_PERIOD_NS);
    }
    return restart_intensity_allow(entry->intensity, worker_now_ns(d->worker));
}

static void on_exit_of_child(struct directory *d, struct msg_exit *notice)
{
    struct entry *entry = notice->child_key;
    ASSERT(actor_id_is_equal(entry->actor, notice->actor));
    entry->actor = (struct actor_id){0};
    d->stats.awake--;
    if (notice->crash_msg && is_conv_request(notice->crash_msg->kind))
        as_request(notice->crash_msg)->crashes++;
    hold_first(entry, notice->crash_msg, notice->undelivered, d);
    notice->crash_msg = notice->undelivered = NULL;

    if (notice->reason != OK) {
        d->stats.crashes++;
        set_phase(d, entry, ENTRY_FENCING);
        fence(d, entry);
        return;
    }
    d->stats.passivations += entry->phase == ENTRY_PASSIVATING;
    if (entry->held) {
        set_phase(d, entry, ENTRY_WAITING);
    } else if (entry->seat.wakes_again) {
        entry->due_ns = worker_now_ns(d->worker) + DUE_NS;
        set_phase(d, entry, ENTRY_DUE);
    } else {
        forget(d, entry);
    }
    start_loads(d);
}

static void on_fenced(struct directory *d, const struct journal_append *append)
{
    struct entry *entry = append->context;
    if (may_restart(d, entry)) {
        set_phase(d, entry, ENTRY_WAITING);
        start_loads(d);
        return;
    }
    LOG(LOG_ERROR, "conversation_in_quarantine", LOG_SLICE("key", key_of(entry)),
        LOG_UINT("seconds", QUARANTINE_NS / SECOND_NS));
    entry->due_ns = worker_now_ns(d->worker) + QUARANTINE_NS;
    set_phase(d, entry, ENTRY_BROKEN);
    refuse_held(d, entry, ERR_CRASHED, (uint32_t)(QUARANTINE_NS / SECOND_NS), "the conversation fails again and again");
}

/* ---- passivation and what is due --------------------------------------------------------------------------------------- */

static void ask_to_sleep(struct directory *d, struct entry *entry)
{
    struct conversation_note *note = MSG_CREATE(d->worker, struct conversation_note, CONV_PASSIVATE, MSG_CONTROL);
    if (!note)
        return; /* the next sweep asks again */
    note->hash = entry->seat.hash;
    note->conversation = entry->actor;
    set_phase(d, entry, ENTRY_PASSIVATING);
    struct msg *msg = &note->msg;
    if (actor_send(d->worker, entry->actor, &msg) != OK)
        msg_destroy(d->worker, &msg); /* its MSG_EXIT is on the way */
}

static void on_still_busy(struct directory *d, const struct conversation_note *note)
{
    struct entry *entry = find(d, note->hash, (struct slice){0});
    if (!entry || entry->phase != ENTRY_PASSIVATING || !actor_id_is_equal(entry->actor, note->conversation))
        return;
    entry->active_ns = worker_now_ns(d->worker);
    set_phase(d, entry, ENTRY_AWAKE);
    deliver_held(d, entry);
}

static void on_sweep(struct worker *worker, struct timer *timer)
{
    struct directory *d = container_of(timer, struct directory, sweep);
    uint64_t now = worker_now_ns(worker), idle_ns = d->services->config->conversation.idle_ns;
    for (uint32_t i = 0; i < SWEEP_BATCH_MAX && d->idle.first; i++) {
        struct entry *entry = d->idle.first;
        if (d->idle.count <= AWAKE_MAX && now < entry->active_ns + idle_ns)
            break;
        ask_to_sleep(d, entry);
        if (entry == d->idle.first)
            break;
    }
    for (struct entry *next, *entry = d->timed.first; entry; entry = next) {
        next = entry->next;
        if (now < entry->due_ns)
            continue;
        if (entry->phase == ENTRY_FENCING)
            fence(d, entry);
        else
            set_phase(d, entry, ENTRY_WAITING);
    }
    start_loads(d);
    bool is_behind = d->idle.first && now >= d->idle.first->active_ns + idle_ns;
    timer_start(worker, timer, now + (is_behind || idle_ns < SWEEP_NS ? SWEEP_NS / 25 : SWEEP_NS));
}

/* ---- open conversations after a start ----------------------------------------------------------------------------- */

static uint32_t shard_of(struct worker *worker, struct hash128 hash)
{
    return (uint32_t)(hash.low % runtime_worker_count(worker_runtime(worker)));
}

void directory_resume_open(struct worker *worker, struct services *services)
{
    struct directory *d = services->directory;
    struct journal_list *list = MSG_CREATE(worker, struct journal_list, MSG_JOURNAL_LIST, MSG_URGENT | MSG_CONTROL);
    if (!list) {
        LOG(LOG_ERROR, "resume_failed", LOG_ERR(ERR_NO_MEMORY));
        return;
    }
    list->msg.to = d->self;
    list->status = -1;
    list->only_open = true;
    list->item_count_max = RESUME_PAGE;
    journal_submit_list(services->journal, list);
}

static void on_list(struct directory *d, struct msg **msg)
{
    struct journal_list *list = (struct journal_list *)(void *)*msg;
    for (uint32_t i = 0; list->result == OK && i < list->item_count; i++) {
        struct slice key = list->items[i].key, tenant, conversation;
        if (!conversation_key_split(key, &tenant, &conversation))
            continue;
        struct hash128 hash = conversation_key_hash(key);
        if (shard_of(d->worker, hash) == worker_index(d->worker) && !find(d, hash, key))
            (void)entry_create(d, hash, key); /* no memory: it wakes with its next request */
    }
    if (list->result != OK)
        LOG(LOG_ERROR, "resume_failed", LOG_ERR(list->result));
    if (list->result == OK && list->has_more && list->item_count > 0) {
        struct slice last = list->items[list->item_count - 1].key;
        memcpy(d->resume_after, last.data, last.size);
        list->after_key = slice_of(d->resume_after, last.size);
        d->resume = list;
        *msg = NULL;
    }
    journal_release(list->memory);
    list->memory = NULL;
    start_loads(d);
}

/* ---- the actor --------------------------------------------------------------------------------------------------------- */

static void on_read(struct directory *d, struct msg **msg)
{
    struct conv_request *request = conversation_read_forward(d->worker, msg);
    if (!request)
        return;
    request->is_admitted = true;
    struct msg *again = &request->msg;
    on_request(d, &again);
    if (again)
        msg_destroy(d->worker, &again);
}

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct directory *d = context->state;
    switch ((*msg)->kind) {
    case MSG_EXIT: on_exit_of_child(d, (struct msg_exit *)(void *)*msg); break;
    case MSG_JOURNAL_LOAD: on_load(d, msg); break;
    case MSG_JOURNAL_READ: on_read(d, msg); break;
    case MSG_JOURNAL_APPEND: on_fenced(d, (const struct journal_append *)(const void *)*msg); break;
    case MSG_JOURNAL_LIST: on_list(d, msg); break;
    case CONV_STILL_BUSY: on_still_busy(d, (const struct conversation_note *)(const void *)*msg); break;
    default:
        if (is_conv_request((*msg)->kind))
            on_request(d, msg);
        else
            LOG(LOG_WARN, "directory_stray_message", LOG_UINT("kind", (*msg)->kind));
    }
    return OK;
}

/* The memory stays: conversations that end after us use the scratch, and the journal the seats. */
static void on_end(struct actor_context *context, enum err reason)
{
    (void)reason;
    struct directory *d = context->state;
    timer_cancel(context->worker, &d->sweep);
    struct msg *list = d->resume ? &d->resume->msg : NULL;
    d->resume = NULL;
    msg_destroy(context->worker, &list);
    for (uint32_t i = 0; i < d->slot_count; i++)
        if (d->slots[i])
            refuse_held(d, d->slots[i], ERR_SHUTDOWN, 1, "the server is shutting down");
    ASSERT(d->held_count == 0);
}

static const struct actor_type directory_type = {.name = "directory",
                                                 .on_message = on_message,
                                                 .on_exit = on_end,
                                                 .mailbox_count_max = ADMISSION_REQUESTS_WAITING_MAX,
                                                 .is_pinned = true};

enum err directory_start(struct worker *worker, struct services *services, struct actor_id *ret_id, struct error *error)
{
    struct directory *d = calloc(1, sizeof *d);
    struct entry **slots = calloc(SLOTS_MIN, sizeof *slots);
    if (!d || !slots) {
        free(d);
        free(slots);
        return error_set(error, ERR_NO_MEMORY, "start the directory of worker %u: no memory", worker_index(worker));
    }
    d->worker = worker;
    d->services = services;
    d->slots = slots;
    d->slot_count = SLOTS_MIN;
    d->sweep.on_fire = on_sweep;
    buffer_init(&d->scratch.record, JOURNAL_RECORD_BYTES_MAX);
    buffer_init(&d->scratch.json, 2 * JOURNAL_SNAPSHOT_BYTES_MAX);
    enum err code = actor_spawn(worker, &directory_type, d, &(struct actor_options){0}, &d->self);
    if (code != OK) {
        directory_destroy(d);
        return error_set(error, code, "start the directory of worker %u: %s", worker_index(worker), err_text(code));
    }
    services->directory = d;
    *ret_id = d->self;
    timer_start(worker, &d->sweep, worker_now_ns(worker) + SWEEP_NS);
    return OK;
}

void directory_destroy(struct directory *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->slot_count; i++)
        if (d->slots[i])
            entry_free(d->slots[i]);
    free(d->slots);
    buffer_deinit(&d->scratch.record);
    buffer_deinit(&d->scratch.json);
    free(d);
}

void directory_drain(struct worker *worker, struct services *services)
{
    struct directory *d = services->directory;
    for (uint32_t i = 0; i < d->slot_count; i++) {
        if (!d->slots[i] || actor_id_is_none(d->slots[i]->actor))
            continue;
        struct msg *msg = msg_create(worker, CONV_DRAIN, MSG_CONTROL, sizeof *msg);
        if (msg && actor_send(worker, d->slots[i]->actor, &msg) != OK)
            msg_destroy(worker, &msg);
    }
}

enum err directory_send(struct worker *worker, struct services *services, struct conv_request **request)
{
    struct conv_request *sent = *request;
    char key[JOURNAL_KEY_BYTES_MAX];
    uint32_t key_size = conversation_key_write(sent->tenant, sent->conversation, key);
    if (key_size == 0)
        return ERR_INVALID;
    struct hash128 hash = conversation_key_hash(slice_of(key, key_size));
    sent->hash[0] = hash.low;
    sent->hash[1] = hash.high;
    struct msg *msg = &sent->msg;
    enum err code = actor_send(worker, services->directories[shard_of(worker, hash)], &msg);
    if (code == OK)
        *request = NULL;
    return code;
}

void directory_get_stats(const struct services *services, struct directory_stats *ret_stats)
{
    *ret_stats = services->directory->stats;
    ret_stats->known = services->directory->entry_count;
}
