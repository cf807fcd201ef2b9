/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that reads goes to the journal and no further than the committed version: pages, the answer of a turn that has ended,
 * and what a subscriber has missed. A page is one block that travels to the journal and back until it is full.
 *
 * Subscribers: one who has everything up to the last commit gets events as they are committed; one who is behind (new, or its
 * mailbox was full) reads pages until it has caught up. Nothing is kept for it in memory, so a slow one costs disk reads. */
#include "actors/conversation_internal.h"

#include <stdlib.h>

#include "net/json.h"
#include "runtime/assert.h"
#include "runtime/planted.h"
#include "runtime/sometimes.h"

enum {
    PAGE_ITEMS_DEFAULT = 100,
    PAGE_ITEMS_MAX = 1000,
    PAGE_BYTES_MAX = 4 << 20, /* a page ends early rather than grow beyond */
    PAGE_BUFFER_BYTES_MAX = 16 << 20,
    CATCH_UP_EVENTS = 256,
    PAGES_IN_FLIGHT_MAX = 256,
};
#define RETRY_NS (20 * UINT64_C(1000000))    /* its mailbox was full */
#define READ_RETRY_NS (UINT64_C(1000000000)) /* the journal could not be read */

enum page_kind { PAGE_EVENTS, PAGE_MESSAGES, PAGE_TURN, PAGE_CATCH_UP };

struct page {
    struct journal_read read; /* first: the block that travels */
    struct actor_id owner;
    enum page_kind kind;
    struct conv_request *request; /* who gets it; NULL: CATCH_UP */
    struct actor_id reply_to;     /* CATCH_UP: which subscriber */
    uint64_t reply_token;
    uint32_t item_count, item_count_max;
    uint64_t last_version; /* the last event looked at */
    bool is_full;
    struct buffer out;
    /* TURN */
    uint8_t turn_id[UUID_BYTES];
    struct turn_report report;
    uint32_t message_id_size;
    char message_id[CONV_MESSAGE_ID_BYTES_MAX];
    /* While a piece is read. */
    struct conversation *conversation;
    struct actor_context *context;
    char key[JOURNAL_KEY_BYTES_MAX];
};

static struct conv_request *as_request(struct msg *msg)
{
    return (struct conv_request *)(void *)msg;
}

static struct page *as_page(struct msg *msg)
{
    return (struct page *)(void *)msg;
}

/* ---- the page's way ---------------------------------------------------------------------------------------------------- */

static void on_page_dropped(struct worker *worker, struct journal_read *read)
{
    struct page *page = as_page(&read->msg);
    if (page->request)
        msg_drop(worker, &page->request->msg);
    buffer_deinit(&page->out);
}

static struct page *page_create(struct conversation *c, struct actor_context *context, enum page_kind kind,
                                uint64_t after_version, uint64_t until_version)
{
    struct page *page = MSG_CREATE(context->worker, struct page, MSG_JOURNAL_READ, MSG_URGENT | MSG_CONTROL);
    if (!page)
        return NULL;
    struct msg header = page->read.msg;
    *page = (struct page){.owner = context->self, .kind = kind, .last_version = after_version};
    page->read.msg = header;
    page->read.on_drop = on_page_dropped;
    memcpy(page->key, c->seat->key, c->seat->key_size); /* its own: the seat may be gone before the journal is done */
    page->read.key = slice_of(page->key, c->seat->key_size);
    page->read.after_version = after_version;
    page->read.until_version = until_version;
    buffer_init(&page->out, PAGE_BUFFER_BYTES_MAX);
    return page;
}

static void page_submit(struct conversation *c, struct actor_context *context, struct page *page)
{
    page->read.msg.to = c->directory;
    page->read.msg.next = NULL;
    page->read.after_version = page->last_version;
    page->read.memory = NULL;
    page->read.records = NULL;
    page->read.record_count = 0;
    c->reads_in_flight++;
    journal_submit_read(conversation_services(context)->journal, &page->read);
}

struct conv_request *conversation_read_destroy(struct worker *worker, struct msg **msg)
{
    struct page *page = as_page(*msg);
    struct conv_request *request = page->request;
    journal_release(page->read.memory);
    buffer_deinit(&page->out);
    msg_destroy(worker, msg);
    return request;
}

struct conv_request *conversation_read_forward(struct worker *worker, struct msg **msg)
{
    if (actor_send(worker, as_page(*msg)->owner, msg) == OK)
        return NULL;
    return conversation_read_destroy(worker, msg);
}

/* ---- what is done with each event -------------------------------------------------------------------------------------- */

void conversation_write_envelope(const struct conversation *c, const struct event *event, struct buffer *out)
{
    const struct event_envelope envelope = {
        .tenant = c->tenant, .conversation = c->id, .customer_id = c->state.customer_id};
    event_write_json(out, event, &envelope);
}

static void write_message(const struct event *event, struct buffer *out)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "version", &is_first);
    json_write_unsigned(out, event->version);
    json_write_key(out, "from", &is_first);
    const char *from = event->type == EVENT_INBOX_MESSAGE_RECEIVED     ? "customer"
                       : event->type == EVENT_AGENT_HUMAN_MESSAGE_SENT ? "human"
                                                                       : "agent";
    json_write_string(out, slice_from_text(from));
    json_write_key(out, "text", &is_first);
    json_write_string(out, event->text);
    json_write_key(out, "at", &is_first);
    event_write_time(out, event->time_ms);
    struct slice speaker = event->type == EVENT_AGENT_HUMAN_MESSAGE_SENT ? event->from : event->agent;
    if (speaker.size && event->type != EVENT_INBOX_MESSAGE_RECEIVED) {
        json_write_key(out, "agent", &is_first);
        json_write_string(out, speaker);
    }
    json_write_key(out, "turn_id", &is_first);
    json_write_string(out, event->turn_id);
    buffer_append_byte(out, '}');
}

struct slice conversation_envelope(const struct conversation *c, struct actor_context *context, const struct event *event)
{
    struct buffer *json = &conversation_scratch(context)->json;
    buffer_clear(json);
    conversation_write_envelope(c, event, json);
    return json->is_overflow ? (struct slice){0} : buffer_slice(json);
}

bool conversation_send_event(struct actor_context *context, struct actor_id to, uint64_t reply_token,
                             const struct event *event, struct slice envelope)
{
    if (envelope.size == 0)
        return false;
    struct conv_answer *answer =
        conv_answer_create(context->worker, CONV_EVENT,
                           &(struct conv_answer){.reply_token = reply_token,
                                                 .version = event->version,
                                                 .agent = slice_from_text(event_type_name(event->type)),
                                                 .body = envelope});
    struct msg *msg = answer ? &answer->msg : NULL;
    if (msg && actor_send(context->worker, to, &msg) == OK)
        return true;
    msg_destroy(context->worker, &msg);
    return false;
}

static struct subscriber *find_subscriber(const struct conversation *c, struct actor_id reply_to, uint64_t reply_token)
{
    struct subscriber *subscriber = c->subscribers;
    while (subscriber && !(subscriber->reply_token == reply_token && actor_id_is_equal(subscriber->reply_to, reply_to)))
        subscriber = subscriber->next;
    return subscriber;
}

static void send_to_subscriber(struct actor_context *context, struct subscriber *subscriber, const struct event *event,
                               struct slice envelope)
{
    if (conversation_send_event(context, subscriber->reply_to, subscriber->reply_token, event, envelope))
        subscriber->sent_version = event->version;
    else
        subscriber->retry_ns = context->now_ns + RETRY_NS;
}

static void catch_up(struct page *page, const struct event *event)
{
    struct subscriber *subscriber = find_subscriber(page->conversation, page->reply_to, page->reply_token);
    if (subscriber && !subscriber->retry_ns)
        send_to_subscriber(page->context, subscriber, event,
                           conversation_envelope(page->conversation, page->context, event));
    page->is_full = !subscriber || subscriber->retry_ns;
}

static void report_turn(struct page *page, const struct event *event)
{
    uint8_t turn_id[UUID_BYTES];
    if (!uuid_parse(event->turn_id, turn_id) || memcmp(turn_id, page->turn_id, UUID_BYTES) != 0)
        return;
    if (event->message_id.size && event->message_id.size <= sizeof page->message_id) {
        memcpy(page->message_id, event->message_id.data, event->message_id.size);
        page->message_id_size = (uint32_t)event->message_id.size;
    }
    turn_report_add(&page->report, event);
    struct conv_request *request = page->request;
    if (request->msg.kind == CONV_MESSAGE && request->subscribe)
        (void)conversation_send_event(page->context, request->reply_to, request->reply_token, event,
                                      conversation_envelope(page->conversation, page->context, event));
    if (!page->report.is_finished)
        return;
    /* Answered here, while the record that holds the text is at hand. */
    page->is_full = true;
    request->message_id = slice_of(page->message_id, page->message_id_size);
    memcpy(request->turn_key, page->turn_id, UUID_BYTES);
    struct actor_id to = request->reply_to;
    struct msg *msg = &request->msg;
    struct conv_answer *answer =
        turn_report_answer(page->context, &page->report, CONV_FINISHED, request, request->is_copy);
    if (answer)
        msg_destroy(page->context->worker, &msg);
    else
        answer = conv_request_into_refusal(request, ERR_NO_MEMORY, 1, "no memory for the answer; ask again");
    page->request = NULL;
    conversation_send_now(page->context, to, answer);
}

static void add_item(struct page *page, const struct event *event)
{
    if (page->kind == PAGE_MESSAGES && !event_type_is_said(event->type))
        return;
    if (page->item_count > 0)
        buffer_append_byte(&page->out, ',');
    if (page->kind == PAGE_EVENTS)
        conversation_write_envelope(page->conversation, event, &page->out);
    else
        write_message(event, &page->out);
    page->item_count++;
    page->is_full = page->item_count == page->item_count_max || page->out.size >= PAGE_BYTES_MAX;
}

static enum err on_event(void *user, const struct event *event)
{
    struct page *page = user;
    if (page->is_full || event->version <= page->last_version || event->version > page->read.until_version)
        return OK; /* a record may begin before the page, or end behind it */
    switch (page->kind) {
    case PAGE_EVENTS:
    case PAGE_MESSAGES: add_item(page, event); break;
    case PAGE_TURN: report_turn(page, event); break;
    case PAGE_CATCH_UP: catch_up(page, event); break;
    }
    page->last_version = event->version;
    return OK;
}

/* ---- the page comes back ----------------------------------------------------------------------------------------------- */

static void finish_list(struct page *page, struct conversation *c, struct actor_context *context)
{
    if (page->last_version < page->read.until_version)
        buffer_append_format(&page->out, "],\"next\":%llu}", (unsigned long long)page->last_version);
    else
        buffer_append_text(&page->out, "],\"next\":null}");
    struct msg *msg = &page->request->msg;
    page->request = NULL;
    if (page->out.is_overflow)
        conversation_refuse(c, context, &msg, ERR_NO_MEMORY, 1, "no memory for the page");
    else
        conversation_answer_body(c, context, &msg, buffer_slice(&page->out));
}

static void finish_page(struct page *page, struct conversation *c, struct actor_context *context, enum err code)
{
    struct subscriber *subscriber = NULL;
    struct msg *msg = page->request ? &page->request->msg : NULL;
    switch (page->kind) {
    case PAGE_EVENTS:
    case PAGE_MESSAGES:
        if (code == OK) {
            finish_list(page, c, context);
            return;
        }
        break;
    case PAGE_TURN: code = code == OK ? ERR_NOT_FOUND : code; break; /* else it was answered on the way */
    case PAGE_CATCH_UP:
        subscriber = find_subscriber(c, page->reply_to, page->reply_token);
        if (subscriber) {
            subscriber->is_reading = false;
            if (PLANTED(STALE_CURSOR))
                subscriber->sent_version = c->committed_version;
            if (code != OK)
                subscriber->retry_ns = context->now_ns + READ_RETRY_NS;
        }
        conversation_check_subscribers(c, context);
        return;
    }
    page->request = NULL;
    if (msg)
        conversation_refuse(c, context, &msg, code, err_may_retry(code),
                            code == ERR_NOT_FOUND ? "no such turn" : "the journal cannot be read");
}

void conversation_on_read(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    struct page *page = as_page(*msg);
    ASSERT(c->reads_in_flight > 0);
    c->reads_in_flight--;
    page->conversation = c;
    page->context = context;
    uint64_t before = page->last_version;
    enum err code = page->read.result;
    for (uint32_t i = 0; i < page->read.record_count && code == OK; i++)
        code = event_record_decode(page->read.records[i].data, page->read.records[i].first_version, on_event, page);
    bool is_done = page->is_full || page->last_version >= page->read.until_version || page->last_version == before;
    if (code == OK && !is_done && c->phase == PHASE_READY) {
        journal_release(page->read.memory);
        page_submit(c, context, page);
        *msg = NULL;
        return;
    }
    if (page->kind != PAGE_TURN || page->request)
        finish_page(page, c, context, code);
    struct conv_request *left = conversation_read_destroy(context->worker, msg);
    ASSERT(!left);
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

static void read_list(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    const struct conv_request *request = as_request(*msg);
    bool is_events = (*msg)->kind == CONV_EVENTS;
    struct page *page =
        page_create(c, context, is_events ? PAGE_EVENTS : PAGE_MESSAGES, request->after, c->committed_version);
    if (!page) {
        conversation_refuse(c, context, msg, ERR_NO_MEMORY, 1, "no memory for the page");
        return;
    }
    uint32_t limit = request->limit ? request->limit : PAGE_ITEMS_DEFAULT;
    page->item_count_max = limit < PAGE_ITEMS_MAX ? limit : PAGE_ITEMS_MAX;
    page->read.event_count_max = page->item_count_max * (is_events ? 1 : 3); /* about one event in three is said */
    page->request = as_request(*msg);
    *msg = NULL;
    buffer_append_text(&page->out, is_events ? "{\"events\":[" : "{\"messages\":[");
    if (request->after < c->committed_version) {
        page_submit(c, context, page);
        return;
    }
    page->read.until_version = page->last_version;
    finish_list(page, c, context);
    struct msg *done = &page->read.msg;
    (void)conversation_read_destroy(context->worker, &done);
}

void conversation_read_turn(struct conversation *c, struct actor_context *context, struct msg **msg,
                            const uint8_t turn_id[UUID_BYTES], uint64_t after_version, uint64_t until_version)
{
    struct page *page = page_create(c, context, PAGE_TURN, after_version, until_version);
    if (!page) {
        conversation_refuse(c, context, msg, ERR_NO_MEMORY, 1, "no memory to read the answer; ask again");
        return;
    }
    memcpy(page->turn_id, turn_id, UUID_BYTES);
    uint64_t events = until_version - after_version;
    page->read.event_count_max = (uint32_t)(events < PAGE_ITEMS_MAX ? events : PAGE_ITEMS_MAX);
    page->request = as_request(*msg);
    *msg = NULL;
    page_submit(c, context, page);
}

static void read_turn_by_id(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    struct conv_request *request = as_request(*msg);
    uint8_t turn_id[UUID_BYTES];
    if (!uuid_parse(request->turn_id, turn_id)) {
        conversation_refuse(c, context, msg, ERR_NOT_FOUND, 0, "no such turn");
        return;
    }
    const struct dedup_entry *entry = dedup_find_turn(&c->state.dedup, turn_id);
    if (!entry) { /* older than the window: looked for from the beginning */
        conversation_read_turn(c, context, msg, turn_id, 0, c->committed_version);
        return;
    }
    if (entry->finished_version && entry->finished_version <= c->committed_version) {
        conversation_read_turn(c, context, msg, turn_id, entry->received_version - 1, entry->finished_version);
        return;
    }
    bool is_first = c->state.turns && memcmp(c->state.turns->id, turn_id, UUID_BYTES) == 0;
    const struct turn_report report = {.version = entry->received_version,
                                       .status = is_first || entry->finished_version ? TURN_RUNNING : TURN_QUEUED};
    memcpy(request->turn_key, turn_id, UUID_BYTES);
    for (const struct conversation_turn *turn = c->state.turns; turn; turn = turn->next)
        if (memcmp(turn->id, turn_id, UUID_BYTES) == 0)
            request->message_id = turn->message_id;
    struct conv_answer *answer = turn_report_answer(context, &report, CONV_FINISHED, request, false);
    if (!answer) {
        conversation_refuse(c, context, msg, ERR_NO_MEMORY, 1, "no memory for the answer");
        return;
    }
    conversation_send(c, context, request->reply_to, answer);
}

void conversation_read_request(struct conversation *c, struct actor_context *context, struct msg **msg)
{
    const struct conv_request *request = as_request(*msg);
    if ((*msg)->kind == CONV_UNSUBSCRIBE) {
        for (struct subscriber **link = &c->subscribers; *link; link = &(*link)->next) {
            struct subscriber *subscriber = *link;
            if (subscriber->reply_token != request->target_token ||
                !actor_id_is_equal(subscriber->reply_to, request->reply_to))
                continue;
            *link = subscriber->next;
            c->subscriber_count--;
            free(subscriber);
            return;
        }
        return;
    }
    if (c->state.version == 0)
        conversation_refuse(c, context, msg, ERR_NOT_FOUND, 0, "no such conversation");
    else if (c->reads_in_flight >= PAGES_IN_FLIGHT_MAX)
        conversation_refuse(c, context, msg, ERR_LIMIT, 1, "too many readers of this conversation");
    else if ((*msg)->kind == CONV_TURN)
        read_turn_by_id(c, context, msg);
    else if ((*msg)->kind != CONV_SUBSCRIBE)
        read_list(c, context, msg);
    else if (conversation_services(context)->is_draining) /* CONV_DRAIN may have been there: nobody would end it */
        conversation_refuse(c, context, msg, ERR_SHUTDOWN, 1, "the server is shutting down");
    else if (c->subscriber_count >= SUBSCRIBERS_MAX)
        conversation_refuse(c, context, msg, ERR_LIMIT, 1, "too many subscribers of this conversation");
    else {
        struct subscriber *subscriber = calloc(1, sizeof *subscriber);
        if (!subscriber) {
            conversation_refuse(c, context, msg, ERR_NO_MEMORY, 1, "no memory for a subscriber");
            return;
        }
        subscriber->reply_to = request->reply_to;
        subscriber->reply_token = request->reply_token;
        subscriber->sent_version = request->after < c->committed_version ? request->after : c->committed_version;
        subscriber->next = c->subscribers;
        c->subscribers = subscriber;
        c->subscriber_count++;
        conversation_check_subscribers(c, context);
    }
}

/* ---- subscribers ------------------------------------------------------------------------------------------------------- */

void conversation_publish(struct conversation *c, struct actor_context *context, const struct event *event)
{
    struct slice envelope = {0};
    for (struct subscriber *subscriber = c->subscribers; subscriber; subscriber = subscriber->next) {
        if (subscriber->is_reading || subscriber->retry_ns || subscriber->sent_version + 1 != event->version)
            continue;
        if (!envelope.size)
            envelope = conversation_envelope(c, context, event);
        send_to_subscriber(context, subscriber, event, envelope);
    }
}

void conversation_check_subscribers(struct conversation *c, struct actor_context *context)
{
    for (struct subscriber *subscriber = c->subscribers; subscriber; subscriber = subscriber->next) {
        bool is_due = !subscriber->retry_ns || context->now_ns >= subscriber->retry_ns;
        if (subscriber->is_reading || !is_due)
            continue;
        subscriber->retry_ns = 0;
        if (subscriber->sent_version == c->committed_version)
            continue;
        struct page *page = page_create(c, context, PAGE_CATCH_UP, subscriber->sent_version, c->committed_version);
        if (!page) {
            subscriber->retry_ns = context->now_ns + RETRY_NS;
            continue;
        }
        SOMETIMES(SUBSCRIBER_BEHIND, true);
        page->reply_to = subscriber->reply_to;
        page->reply_token = subscriber->reply_token;
        page->read.event_count_max = CATCH_UP_EVENTS;
        subscriber->is_reading = true;
        page_submit(c, context, page);
    }
}

uint64_t conversation_subscribers_due_ns(const struct conversation *c)
{
    uint64_t due = 0;
    for (const struct subscriber *subscriber = c->subscribers; subscriber; subscriber = subscriber->next)
        if (subscriber->retry_ns && (!due || subscriber->retry_ns < due))
            due = subscriber->retry_ns;
    return due;
}

void conversation_end_subscribers(struct conversation *c, struct actor_context *context)
{
    while (c->subscribers) {
        struct subscriber *subscriber = c->subscribers;
        c->subscribers = subscriber->next;
        struct conv_answer *answer =
            conv_answer_create(context->worker, CONV_END, &(struct conv_answer){.reply_token = subscriber->reply_token});
        if (answer)
            conversation_send_now(context, subscriber->reply_to, answer);
        free(subscriber);
    }
    c->subscriber_count = 0;
}
