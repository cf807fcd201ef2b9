/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_answer: the ways to end a call, and the one table of error codes. What is worth trying again, and when, is the same over
 * HTTP and RPC: problem_of says it. */
#include <stdio.h>

#include "actors/rpc/rpc_internal.h"
#include "runtime/assert.h"

static const struct {
    enum err code;
    const char *name;
} codes[] = {
    {ERR_NOT_FOUND, "not_found"},
    {ERR_CONFLICT, "conflict"},
    {ERR_INVALID, "invalid"},
    {ERR_BUSY, "busy"},
    {ERR_STALE, "stale"},
    {ERR_EXISTS, "wrong_state"},
    {ERR_CANCELLED, "cancelled"},
    {ERR_MAILBOX_FULL, "queue_full"},
    {ERR_LIMIT, "limited"},
    {ERR_BREAKER_OPEN, "agent_unavailable"},
    {ERR_SHUTDOWN, "draining"},
    {ERR_ACTOR_GONE, "draining"},
    {ERR_NO_MEMORY, "overloaded"},
    {ERR_OVERLOAD, "overloaded"},
    {ERR_TIMEOUT, "overloaded"},
    {ERR_CRASHED, "crashed"},
    {ERR_STORAGE_FULL, "storage_full"},
    {ERR_STORAGE_FAILED, "storage_failed"},
    {ERR_STORAGE_LOCKED, "storage_failed"},
    {ERR_STORAGE_BUSY, "storage_failed"},
    {ERR_STORAGE_CORRUPT, "corrupt"},
    {ERR_STORAGE_FORMAT, "corrupt"},
};
/* Of no error of ours: what was asked cannot be. */
static const char *const other_codes[] = {"bad_request", "unknown_method", "internal"};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
_Static_assert(COUNT(codes) + COUNT(other_codes) <= RPC_CODES_MAX, "one metric a code");

static const char *code_at(size_t index)
{
    return index < COUNT(codes) ? codes[index].name : other_codes[index - COUNT(codes)];
}

const char *rpc_code_of(enum err code)
{
    for (size_t i = 0; i < COUNT(codes); i++) {
        if (codes[i].code == code)
            return codes[i].name;
    }
    return "internal";
}

void rpc_answers_register(struct rpc *rpc)
{
    char labels[64];
    for (size_t i = 0; i < rpc_method_count; i++) {
        snprintf(labels, sizeof labels, "method=\"%s\"", rpc_methods[i].name);
        rpc->calls[i] = metrics_register_counter("rpc_calls_total", "Requests and notifications by method.", labels);
    }
    for (size_t i = 0; i < COUNT(codes) + COUNT(other_codes); i++) {
        snprintf(labels, sizeof labels, "code=\"%s\"", code_at(i));
        rpc->errors[i] = metrics_register_counter("rpc_errors_total", "Errors answered, by code.", labels);
    }
}

static void count_error(struct rpc *rpc, const char *code)
{
    size_t i = 0;
    while (strcmp(code_at(i), code) != 0) {
        i++;
        ASSERT(i < COUNT(codes) + COUNT(other_codes));
    }
    metrics_add(rpc->errors[i], 1);
}

void rpc_answer_error(struct rpc *rpc, struct rpc_call_id call, const char *code, struct slice message,
                      uint64_t retry_after_ms)
{
    count_error(rpc, code);
    const struct rpc_error error = {.code = code, .message = message, .retry_after_ms = retry_after_ms};
    (void)rpc_refuse(rpc->server, call, &error); /* gone meanwhile: nobody is left to tell */
}

void rpc_answer_out(struct rpc *rpc, struct rpc_call_id call)
{
    if (rpc->out.is_overflow)
        rpc_answer_error(rpc, call, "internal", SLICE_LITERAL("the answer is larger than the server may send"), 0);
    else if (rpc_respond(rpc->server, call, buffer_slice(&rpc->out)) == ERR_LIMIT)
        rpc_answer_code(rpc, call, ERR_OVERLOAD, SLICE_LITERAL("too many answers of this connection wait to be read"), 0);
}

void rpc_answer_problem(struct rpc *rpc, struct rpc_call_id call, const struct problem *problem)
{
    buffer_clear(&rpc->out);
    for (uint32_t i = 0; i < problem->error_count; i++) {
        const struct problem_error *error = &problem->errors[i];
        buffer_append_format(&rpc->out, "%s%s%s%s", i ? "; " : "", error->pointer, error->pointer[0] ? " " : "",
                             error->detail);
    }
    struct slice message = problem->error_count ? buffer_slice(&rpc->out) : problem->detail;
    rpc_answer_error(rpc, call, problem->status == 400 ? "bad_request" : "invalid", message, 0);
}

void rpc_answer_code(struct rpc *rpc, struct rpc_call_id call, enum err code, struct slice detail, uint32_t retry_after_s)
{
    const struct problem problem = problem_of(code, detail, retry_after_s);
    rpc_answer_error(rpc, call, rpc_code_of(code), problem.detail, (uint64_t)problem.retry_after_s * 1000);
}

void rpc_pending_answer_out(struct rpc_pending *pending)
{
    rpc_answer_out(pending->rpc, pending->call);
    rpc_pending_release(pending);
}

void rpc_pending_refuse(struct rpc_pending *pending, const struct conv_answer *answer)
{
    rpc_answer_code(pending->rpc, pending->call, answer->code, answer->detail, answer->retry_after_s);
    rpc_pending_release(pending);
}
