/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of the protocol: a struct with its texts behind it. The texts of a kind are listed once, by offset. */
#include "actors/protocol.h"

#include <stddef.h>
#include <string.h>

#include "runtime/actor.h"
#include "runtime/assert.h"

#define REQUEST(field) offsetof(struct conv_request, field)
#define ANSWER(field) offsetof(struct conv_answer, field)

static const size_t request_texts[] = {
    REQUEST(tenant),      REQUEST(conversation), REQUEST(trace_id), REQUEST(text),    REQUEST(message_id),
    REQUEST(customer_id), REQUEST(channel),      REQUEST(metadata), REQUEST(agent),   REQUEST(from),
    REQUEST(turn_id),     REQUEST(reason),       REQUEST(to),       REQUEST(context),
};

static const size_t answer_texts[] = {
    ANSWER(message_id), ANSWER(turn_id), ANSWER(text), ANSWER(agent), ANSWER(finish_reason), ANSWER(body), ANSWER(detail),
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

const char *turn_status_name(enum turn_status status)
{
    switch (status) {
    case TURN_QUEUED: return "queued";
    case TURN_RUNNING: return "running";
    case TURN_COMPLETED: return "completed";
    case TURN_WAITING_HUMAN: return "waiting_human";
    case TURN_FAILED: return "failed";
    case TURN_IS_CANCELLED: return "cancelled";
    }
    return "failed";
}

static struct slice *text_at(void *block, size_t offset)
{
    return (struct slice *)(void *)((char *)block + offset);
}

/* Copies `fill` (struct of `size` bytes) into a new block and its texts behind it. */
static struct msg *create_block(struct worker *worker, uint16_t kind, uint8_t flags, const void *fill, size_t size,
                                const size_t *texts, size_t text_count)
{
    size_t bytes = size;
    for (size_t i = 0; i < text_count; i++)
        bytes += ((const struct slice *)(const void *)((const char *)fill + texts[i]))->size;
    struct msg *msg = bytes <= UINT32_MAX ? msg_create(worker, kind, flags, (uint32_t)bytes) : NULL;
    if (!msg)
        return NULL;
    struct msg header = *msg;
    memcpy(msg, fill, size);
    *msg = header;
    char *at = (char *)msg + size;
    for (size_t i = 0; i < text_count; i++) {
        struct slice *text = text_at(msg, texts[i]);
        if (text->size)
            memcpy(at, text->data, text->size);
        text->data = at;
        at += text->size;
    }
    return msg;
}

/* What says what to leave off, or that nobody waits any more, is let in wherever there is memory: it shortens the queues. */
static uint8_t request_flags(uint16_t kind)
{
    return kind >= CONV_UNSUBSCRIBE && kind <= CONV_HANDOFF ? MSG_CONTROL : 0;
}

_Static_assert(CONV_UNSUBSCRIBE < CONV_ABANDON && CONV_ABANDON < CONV_CANCEL && CONV_CANCEL < CONV_HANDOFF,
               "acts and farewells stand together");

struct conv_request *conv_request_create(struct worker *worker, uint16_t kind, const struct conv_request *fill)
{
    return (struct conv_request *)(void *)create_block(worker, kind, request_flags(kind), fill, sizeof *fill,
                                                       request_texts, COUNT(request_texts));
}

struct conv_answer *conv_answer_create(struct worker *worker, uint16_t kind, const struct conv_answer *fill)
{
    /* Events and deltas may be refused by a full mailbox: a subscriber reads again from the journal. Nothing else may. */
    uint8_t flags = kind == CONV_EVENT || kind == CONV_DELTA ? 0 : MSG_CONTROL;
    return (struct conv_answer *)(void *)create_block(worker, kind, flags, fill, sizeof *fill, answer_texts,
                                                      COUNT(answer_texts));
}

_Static_assert(sizeof(struct conv_answer) <= sizeof(struct conv_request), "a request's block must hold its refusal");

struct conv_answer *conv_request_into_refusal(struct conv_request *request, enum err code, uint32_t retry_after_s,
                                              const char *detail)
{
    struct msg header = request->msg;
    header.kind = CONV_REFUSED;
    header.flags = MSG_CONTROL;
    header.to = request->reply_to;
    header.next = NULL;
    uint64_t reply_token = request->reply_token;
    struct conv_answer *answer = (struct conv_answer *)(void *)request;
    *answer = (struct conv_answer){.msg = header,
                                   .reply_token = reply_token,
                                   .code = code,
                                   .retry_after_s = retry_after_s,
                                   .detail = slice_from_text(detail)};
    return answer;
}

void conv_request_refuse(struct worker *worker, struct conv_request **request, enum err code, uint32_t retry_after_s,
                         const char *detail)
{
    struct msg *msg = &conv_request_into_refusal(*request, code, retry_after_s, detail)->msg;
    *request = NULL;
    if (actor_send(worker, msg->to, &msg) != OK)
        msg_destroy(worker, &msg); /* nobody waits for it any more */
}
