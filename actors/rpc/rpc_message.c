/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_message: message.send. It is answered with the reply, or, when `wait_ms` has run out, as soon as the message is durable:
 *
 *   sent --- CONV_FINISHED ------------------------------------------> the reply
 *    |  \--- CONV_REFUSED -------------------------------------------> an error
 *    \------ CONV_ACCEPTED, kept --- CONV_FINISHED ------------------> the reply
 *                               \--- the wait ran out, CONV_REFUSED -> a receipt: status running or queued
 *   sent, the wait ran out (late) --- CONV_ACCEPTED -----------------> a receipt
 *
 * A notification waits for durability only, so that what it has in flight is bounded like any call's. A client that leaves
 * cancels nothing (rpc_internal.h M2). */
#include "actors/rpc/rpc_internal.h"
#include "net/pack.h"
#include "runtime/assert.h"

enum { WAIT_MS_DEFAULT = 30000, WAIT_MS_MAX = 300000 };
static const uint64_t millisecond_ns = 1000000;

/* ---- the answer -------------------------------------------------------------------------------------------------------- */

static void write_text(msgpack_packer *packer, struct slice key, struct slice text)
{
    pack_text(packer, key);
    pack_text(packer, text);
}

static void write_number(msgpack_packer *packer, struct slice key, uint64_t number)
{
    pack_text(packer, key);
    msgpack_pack_uint64(packer, number);
}

static void write_reply(msgpack_packer *packer, const struct conv_answer *answer)
{
    pack_text(packer, SLICE_LITERAL("reply"));
    msgpack_pack_map(packer, 2);
    write_text(packer, SLICE_LITERAL("text"), answer->text);
    write_text(packer, SLICE_LITERAL("agent"), answer->agent);
}

static void write_usage(msgpack_packer *packer, const struct conv_answer *answer)
{
    pack_text(packer, SLICE_LITERAL("usage"));
    msgpack_pack_map(packer, 2);
    write_number(packer, SLICE_LITERAL("input_tokens"), answer->input_tokens);
    write_number(packer, SLICE_LITERAL("output_tokens"), answer->output_tokens);
}

static void write_failure(msgpack_packer *packer, const struct conv_answer *answer)
{
    pack_text(packer, SLICE_LITERAL("error"));
    msgpack_pack_map(packer, 2);
    write_text(packer, SLICE_LITERAL("code"), slice_from_text(err_name(answer->code)));
    write_text(packer, SLICE_LITERAL("detail"),
               answer->detail.size ? answer->detail : slice_from_text(err_text(answer->code)));
}

/* The fields of the HTTP answer (api_write_turn), in its order. */
static void write_turn(struct rpc_pending *pending, const struct conv_answer *answer)
{
    enum { FIELDS_ALWAYS = 8 };
    struct buffer *out = &pending->rpc->out;
    msgpack_packer packer;
    bool is_failed = answer->status == TURN_FAILED, has_finish_reason = answer->finish_reason.size > 0;
    buffer_clear(out);
    pack_init(&packer, out);
    msgpack_pack_map(&packer,
                     FIELDS_ALWAYS + (size_t)answer->has_reply + answer->has_usage + has_finish_reason + is_failed);
    write_text(&packer, SLICE_LITERAL("conversation_id"), rpc_pending_conversation(pending));
    write_text(&packer, SLICE_LITERAL("message_id"), answer->message_id);
    write_text(&packer, SLICE_LITERAL("turn_id"), answer->turn_id);
    write_number(&packer, SLICE_LITERAL("version"), answer->version);
    pack_text(&packer, SLICE_LITERAL("duplicate"));
    answer->is_duplicate ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer);
    write_text(&packer, SLICE_LITERAL("status"), slice_from_text(turn_status_name(answer->status)));
    if (answer->has_reply)
        write_reply(&packer, answer);
    if (answer->has_usage)
        write_usage(&packer, answer);
    if (has_finish_reason)
        write_text(&packer, SLICE_LITERAL("finish_reason"), answer->finish_reason);
    if (is_failed)
        write_failure(&packer, answer);
    write_text(&packer, SLICE_LITERAL("trace_id"), trace_id_slice(&pending->trace));
    write_number(&packer, SLICE_LITERAL("duration_ms"), answer->duration_ms);
}

static void answer_turn(struct rpc_pending *pending, const struct conv_answer *answer)
{
    write_turn(pending, answer);
    rpc_pending_answer_out(pending);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------------- */

static void on_accepted(struct rpc_pending *pending, struct msg **msg)
{
    if (pending->u.message.is_late) {
        answer_turn(pending, container_of(*msg, struct conv_answer, msg));
        return;
    }
    msg_destroy(pending->rpc->worker, &pending->kept); /* a second one, after a crash, is the newer */
    pending->kept = *msg;
    *msg = NULL;
}

static void on_answer(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg)
{
    (void)rpc;
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    const struct msg *accepted = pending->kept; /* durable, its turn goes on */
    switch ((*msg)->kind) {
    case CONV_ACCEPTED: on_accepted(pending, msg); return;
    case CONV_FINISHED: answer_turn(pending, answer); return;
    case CONV_REFUSED:
        /* Durable is durable: what failed after it is taken up again. Only an erasure takes it back. */
        if (accepted && answer->code != ERR_NOT_FOUND)
            answer_turn(pending, container_of(accepted, const struct conv_answer, msg));
        else
            rpc_pending_refuse(pending, answer);
        return;
    default: return; /* events and deltas were not asked for */
    }
}

static void on_timer(struct rpc *rpc, struct rpc_pending *pending)
{
    (void)rpc;
    if (pending->kept)
        answer_turn(pending, container_of(pending->kept, struct conv_answer, msg));
    else
        pending->u.message.is_late = true;
}

static const struct rpc_waiter message_waiter = {
    .on_answer = on_answer, .on_timer = on_timer, .kind_when_gone = CONV_ABANDON};

/* ---- the method -------------------------------------------------------------------------------------------------------- */

static bool is_within_limits(struct rpc *rpc, const struct rpc_asked *asked, const struct conv_request *message)
{
    const char *whose;
    uint64_t retry_after_ns = 0;
    if (message_is_within_limits(rpc->services, rpc_tenant, asked->params->conversation_id, message->customer_id,
                                 worker_now_ns(rpc->worker), &whose, &retry_after_ns))
        return true;
    rpc_answer_error(rpc, asked->call, rpc_code_of(ERR_LIMIT), slice_from_text(whose),
                     retry_after_ns / millisecond_ns + 1);
    return false;
}

void rpc_handle_message(struct rpc *rpc, const struct rpc_asked *asked)
{
    struct rpc_params *params = asked->params;
    struct conv_request message;
    if (params->wait_ms > WAIT_MS_MAX)
        problem_add_error(asked->problem, 422, "/wait_ms", "must be at most %d", WAIT_MS_MAX);
    if (!message_input_end(&params->message, &message)) {
        rpc_answer_problem(rpc, asked->call, asked->problem);
        return;
    }
    if (!is_within_limits(rpc, asked, &message))
        return;
    message.received_ns = asked->request->received_ns;
    message.has_if_match = (params->present & RPC_FIELD(RPC_IF_MATCH)) != 0;
    message.if_match = params->if_match;
    struct rpc_pending *pending = rpc_pending_open(rpc, asked, &message_waiter);
    if (!pending)
        return;
    uint64_t wait_ms = asked->request->is_notification            ? 0
                       : params->present & RPC_FIELD(RPC_WAIT_MS) ? params->wait_ms
                                                                  : WAIT_MS_DEFAULT;
    pending->u.message.is_late = wait_ms == 0;
    if (wait_ms)
        timer_start(rpc->worker, &pending->timer, message.received_ns + wait_ms * millisecond_ns);
    rpc_pending_ask(pending, CONV_MESSAGE, &message);
}
