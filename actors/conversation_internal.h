/* SPDX-License-Identifier: Apache-2.0 */
/* conversation_internal: what the files of the conversation actor share.
 *   conversation.c        the actor: messages in, phases, timer, end
 *   conversation_step.c   one step: events -> record -> state -> journal; and what leaves once it is on disk
 *   conversation_turn.c   a message's turn: accept, route, model calls, retries, fallbacks
 *   conversation_act.c    what is done to a conversation: cancel, handoff, park, resume, close, reopen, erase
 *   conversation_read.c   pages, stored answers, subscribers
 */
#ifndef CIRANDA_ACTORS_CONVERSATION_INTERNAL_H
#define CIRANDA_ACTORS_CONVERSATION_INTERNAL_H

#include "actors/config/config.h"
#include "actors/conversation.h"
#include "actors/conversation_state.h"
#include "actors/directory_internal.h"
#include "actors/llm/llm.h"
#include "actors/protocol.h"
#include "actors/services.h"
#include "runtime/metrics.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

enum {
    RECORDS_IN_FLIGHT_MAX = 8192,
    RECORDS_FOR_ACTS = 1024, /* of them: messages leave so many to acts */
    WAITERS_MAX = 16384,
    SUBSCRIBERS_MAX = 1024,
    STEP_EVENTS_MAX = 48,   /* handoffs of one route, two events each, and what stands around them */
    STEP_TEXT_BYTES = 4096, /* two owners a handoff, and an effect key */
    SNAPSHOT_EVENTS_MIN = 512,
    INTERRUPTIONS_MAX = 10, /* restarts that one turn may live through before it counts as their cause */
    MODEL_TEXT_BYTES_MAX = 512 * 1024,
};

/* READY    -> ERASING | FAILED
 * ERASING  -> FAILED
 * The actor ends from FAILED when its last append has come back, from ERASING when the erase has, from READY by passivation. */
enum conversation_phase {
    PHASE_READY,
    PHASE_ERASING, /* suspended; awaits its appends, then the erase */
    PHASE_FAILED,  /* suspended; an append failed: awaits the answers of the others */
    PHASE_COUNT
};

/* NONE -> STARTING -> CALLING -> PAUSING -> STARTING ...; CALLING -> ENDING; any -> NONE. A turn that is answered within one
 * step never leaves NONE. */
enum run_phase {
    RUN_NONE,
    RUN_STARTING, /* the intent is on its way to the disk */
    RUN_CALLING,  /* awaits MODEL_DONE */
    RUN_PAUSING,  /* awaits the end of the backoff */
    RUN_ENDING,   /* cancelled or timed out: awaits the MODEL_DONE of the cancelled call, RUN_ENDING_NS at most */
    RUN_COUNT
};

/* The turn that a model is working on: the first of state.turns. */
struct conversation_run {
    enum run_phase phase;
    enum { RUN_ENDS_BY_ITSELF, RUN_IS_CANCELLED, RUN_IS_LATE } ending;
    struct config *config; /* the one it began with */
    int agent;
    uint64_t token; /* of the attempt; a MODEL_DONE with another one is stale */
    uint64_t epoch;
    uint64_t deadline_ns, pause_ns, ending_ns;
    struct msg *cancels; /* CONV_CANCEL requests that wait for the end of the call */
};

struct subscriber {
    struct subscriber *next;
    struct actor_id reply_to;
    uint64_t reply_token;
    uint64_t sent_version;
    uint64_t retry_ns; /* its mailbox was full: read again then; 0: no */
    bool is_reading;   /* a page is on its way from the journal */
};

struct conversation {
    /* Fixed after creation. */
    struct conversation_seat *seat;
    struct actor_id directory, self;
    struct slice tenant, id;
    uint32_t crash_max;

    struct conversation_state state;
    uint64_t committed_version;
    enum conversation_phase phase;
    enum err failure; /* PHASE_FAILED: why */
    bool is_pinned;
    uint32_t appends_in_flight, reads_in_flight;
    struct conversation_run run;
    uint64_t last_token;

    struct msg *waiters, **waiters_end; /* conv_request: those of one turn stand together, turns in the order received */
    uint32_t waiter_count;
    struct msg *gate, **gate_end; /* conv_answer: by gate_version */
    struct subscriber *subscribers;
    uint32_t subscriber_count;

    struct journal_save *snapshot; /* waits for its version to be committed */
    uint64_t snapshot_version, bytes_since_snapshot, snapshot_bytes;
    struct conv_request *erase; /* PHASE_ERASING: who asked for it */
    bool is_erase_in_flight, is_erase_paused;
    bool is_erase_half_done; /* the key is gone, its bytes are not: now it must end */

    struct timer timer;
    uint64_t timer_ns;                       /* 0: idle */
    const struct conv_request *last_request; /* compared, never followed: who is to blame for a crash */
    uint32_t shown_running, shown_queued;    /* what this one has added to the directory's numbers */
};

/* ---- conversation.c ------------------------------------------------------------------------------------------------- */
void conversation_set_phase(struct conversation *conversation, enum conversation_phase phase);
void conversation_set_run_phase(struct conversation *conversation, enum run_phase phase);
struct services *conversation_services(const struct actor_context *context);
struct conversation_scratch *conversation_scratch(const struct actor_context *context);
/* Neither parked nor closed: its turns go on. */
bool conversation_may_work(const struct conversation *conversation);

/* ---- conversation_step.c ---------------------------------------------------------------------------------------------- */
/* Events under construction; they become one record. */
struct step {
    struct conversation *conversation;
    struct actor_context *context;
    uint64_t time_ms;
    struct slice trace_id;
    struct slice turn_id; /* of the events added next; "" for none */
    char turn_text[UUID_TEXT_BYTES];
    char owner[JOURNAL_OWNER_BYTES_MAX + 1]; /* as the events so far leave it */
    uint64_t epoch;
    uint32_t count, text_size;
    char text[STEP_TEXT_BYTES]; /* what events name and nobody else keeps */
    struct event events[STEP_EVENTS_MAX];
};

void step_begin(struct step *step, struct conversation *conversation, struct actor_context *context);
void step_set_turn(struct step *step, const uint8_t turn_id[UUID_BYTES]);
/* The new event, filled but for its payload. What its slices name must live until step_commit. */
struct event *step_add(struct step *step, enum event_type type);
struct slice step_copy(struct step *step, struct slice text);
void step_add_handoff(struct step *step, struct slice to, struct slice reason, struct slice context);
/* Encodes, applies, submits. Returns: ERR_NO_MEMORY, ERR_LIMIT (record too big): nothing happened; ERR_CRASHED: the state is
 * broken, the handler must return it. */
MUST_USE enum err step_commit(struct step *step);
/* What a record causes outside: to be called once it is on disk, and never before. */
MUST_USE enum err conversation_deliver(struct conversation *conversation, struct actor_context *context,
                                       struct slice record, uint64_t first_version);
MUST_USE enum err conversation_on_append(struct conversation *conversation, struct actor_context *context,
                                         struct journal_append *append);

/* A block that holds the present state; NULL: no memory. */
struct journal_save *conversation_make_snapshot(struct conversation *conversation, struct actor_context *context);
void conversation_drop_snapshot(struct conversation *conversation, struct actor_context *context);

/* Lets an answer out once everything so far is on disk. Owns: takes it. */
void conversation_send(struct conversation *conversation, struct actor_context *context, struct actor_id to,
                       struct conv_answer *answer);
/* The same for what is known to be on disk: at once. */
void conversation_send_now(struct actor_context *context, struct actor_id to, struct conv_answer *answer);
/* Refusals and bodies answer a request through the gate and use up its block. Null *request. */
void conversation_refuse(struct conversation *conversation, struct actor_context *context, struct msg **request,
                         enum err code, uint32_t retry_after_s, const char *detail);
/* Past the gate, which is what is stuck: too much waits for the disk. Nulls *request. */
void conversation_refuse_overload(struct actor_context *context, struct msg **request);
void conversation_answer_body(struct conversation *conversation, struct actor_context *context, struct msg **request,
                              struct slice body);
void conversation_answer_self(struct conversation *conversation, struct actor_context *context, struct msg **request);
void conversation_refuse_cancels(struct conversation *conversation, struct actor_context *context, enum err code);
void conversation_fail(struct conversation *conversation, struct actor_context *context, enum err code);

/* What is known of a turn from its events so far. */
struct turn_report {
    bool is_received, is_finished, has_reply, has_usage;
    enum turn_status status;
    enum err code;
    uint64_t version, duration_ms, retry_after_ms, input_tokens, output_tokens;
    struct slice text, agent, finish_reason, detail; /* lent from the record */
};
void turn_report_add(struct turn_report *report, const struct event *event);
/* The answer of `kind` to a waiter; NULL: no memory. */
struct conv_answer *turn_report_answer(struct actor_context *context, const struct turn_report *report, uint16_t kind,
                                       const struct conv_request *request, bool is_duplicate);

/* ---- conversation_turn.c ---------------------------------------------------------------------------------------------- */
MUST_USE enum err conversation_accept(struct conversation *conversation, struct actor_context *context,
                                      struct msg **request);
MUST_USE enum err conversation_take_dead(struct conversation *conversation, struct actor_context *context,
                                         struct msg **request);
/* Works on the first turn, and the next, until one waits for a model or there is none. */
MUST_USE enum err conversation_advance(struct conversation *conversation, struct actor_context *context);
/* The intent of the running turn is on disk. */
MUST_USE enum err conversation_start_call(struct conversation *conversation, struct actor_context *context);
MUST_USE enum err conversation_on_model_done(struct conversation *conversation, struct actor_context *context,
                                             const struct model_done *done);
void conversation_on_model_delta(struct conversation *conversation, struct actor_context *context,
                                 const struct model_delta *delta);
/* Time has passed: backoff over, turn too long, cancelled call without answer. */
MUST_USE enum err conversation_check_run(struct conversation *conversation, struct actor_context *context);
void conversation_cancel_call(struct conversation *conversation, struct actor_context *context);
void conversation_end_run(struct conversation *conversation);
/* A step of the first turn; the end of its open attempt, `done` NULL when nothing came back of it. */
void conversation_begin_turn_step(struct step *step, struct conversation *conversation, struct actor_context *context);
void conversation_add_attempt_failed(struct step *step, enum err code, const struct model_done *done);
void conversation_add_waiter(struct conversation *conversation, struct msg **request, const uint8_t turn_id[UUID_BYTES]);
/* First waiter of that turn, as a link to change; *link NULL: none. */
struct msg **conversation_find_waiter(struct conversation *conversation, const uint8_t turn_id[UUID_BYTES]);
struct conv_request *conversation_remove_waiter(struct conversation *conversation, struct msg **link);

/* ---- conversation_act.c ----------------------------------------------------------------------------------------------- */
MUST_USE enum err conversation_act(struct conversation *conversation, struct actor_context *context,
                                   struct msg **request);
MUST_USE enum err conversation_finish_cancel(struct conversation *conversation, struct actor_context *context,
                                             struct slice partial_text);
void conversation_answer_cancels(struct conversation *conversation, struct actor_context *context);
void conversation_try_erase(struct conversation *conversation, struct actor_context *context);
void conversation_on_erased(struct conversation *conversation, struct actor_context *context,
                            const struct journal_erase *erase);

/* ---- conversation_read.c ---------------------------------------------------------------------------------------------- */
/* CONV_EVENTS, CONV_MESSAGES, CONV_TURN, CONV_SUBSCRIBE, CONV_UNSUBSCRIBE. */
void conversation_read_request(struct conversation *conversation, struct actor_context *context, struct msg **request);
/* A copy of a finished message, or CONV_TURN of a finished turn: its answer, from the journal. */
void conversation_read_turn(struct conversation *conversation, struct actor_context *context, struct msg **request,
                            const uint8_t turn_id[UUID_BYTES], uint64_t after_version, uint64_t until_version);
void conversation_on_read(struct conversation *conversation, struct actor_context *context, struct msg **read);
/* An event was committed: to those subscribers who have all before it. */
void conversation_publish(struct conversation *conversation, struct actor_context *context, const struct event *event);
void conversation_write_envelope(const struct conversation *conversation, const struct event *event, struct buffer *out);
/* The same in scratch memory, for conversation_send_event: written once, however many it goes to. Returns: "" without memory. */
struct slice conversation_envelope(const struct conversation *conversation, struct actor_context *context,
                                   const struct event *event);
/* Returns: false when there was no memory, or no room in the mailbox. */
bool conversation_send_event(struct actor_context *context, struct actor_id to, uint64_t reply_token,
                             const struct event *event, struct slice envelope);
/* Those who are behind and may read on. */
void conversation_check_subscribers(struct conversation *conversation, struct actor_context *context);
uint64_t conversation_subscribers_due_ns(const struct conversation *conversation);
void conversation_end_subscribers(struct conversation *conversation, struct actor_context *context);

/* ---- metrics ------------------------------------------------------------------------------------------------------------ */
struct conversation_metrics {
    struct metric accepted, duplicates, turns[TURN_IS_CANCELLED + 1], refused[ERR_COUNT], turn_seconds, records,
        snapshots, model_attempts;
};
extern struct conversation_metrics conversation_metrics; /* fixed after start */

#endif
