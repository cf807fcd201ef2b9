/* SPDX-License-Identifier: Apache-2.0 */
/* One box a tenant, opened when it is first written to: load (for the head), then one append at a time. Head and key travel in the
 * block of the append, so that nothing of the actor is lent to the journal. A snapshot of one byte now and then keeps the
 * load short, however long the list is. */
#include "actors/dead_letters.h"

#include <stdlib.h>

#include "actors/directory_internal.h"
#include "actors/event.h"
#include "actors/protocol.h"
#include "actors/services.h"
#include "actors/uuid.h"
#include "net/json.h"
#include "runtime/actor.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/worker.h"
#include "storage/journal.h"

enum { QUEUED_MAX = 10000, SNAPSHOT_LETTERS = 256, PAGE_DEFAULT = 100, PAGE_MAX = 1000, PAGE_BYTES_MAX = 8 << 20 };

static const char key_suffix[] = "\0\1dead-letters"; /* no conversation id begins with a control byte */

struct add {
    struct msg msg;
    struct dead_letter letter; /* texts behind */
};

struct box {
    struct box *next;
    enum { BOX_CLOSED, BOX_LOADING, BOX_READY, BOX_WRITING } phase;
    struct journal_head head;
    uint32_t queued, letters_since_snapshot;
    struct msg *first, **end; /* of struct add */
    uint32_t key_size;
    char key[JOURNAL_KEY_BYTES_MAX];
};

struct dead_letters {
    struct worker *worker;
    struct services *services;
    struct actor_id self;
    struct box *boxes;
    struct buffer scratch;
};

struct letter_append {
    struct journal_append append;
    struct journal_head head;
    char key[JOURNAL_KEY_BYTES_MAX];
};

struct letter_load {
    struct journal_load load;
    char key[JOURNAL_KEY_BYTES_MAX];
};

struct letter_page {
    struct journal_read read;
    struct dead_letters_read *request;
    uint32_t count, limit;
    uint64_t last_version;
    struct buffer *out;
    char key[JOURNAL_KEY_BYTES_MAX];
};

static uint32_t write_key(struct slice tenant, char key[JOURNAL_KEY_BYTES_MAX])
{
    ASSERT(tenant.size > 0 && tenant.size <= CONV_TENANT_BYTES_MAX);
    memcpy(key, tenant.data, tenant.size);
    memcpy(key + tenant.size, key_suffix, sizeof key_suffix - 1);
    return (uint32_t)(tenant.size + sizeof key_suffix - 1);
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */

static void lose(struct dead_letters *d, struct msg **msg, enum err code)
{
    const struct dead_letter *letter = &((struct add *)(void *)*msg)->letter;
    LOG(LOG_ERROR, "dead_letter_not_listed", LOG_ERR(code), LOG_SLICE("conversation", letter->conversation),
        LOG_SLICE("message", letter->message_id));
    msg_destroy(d->worker, msg);
}

static struct msg *pop(struct box *box)
{
    struct msg *msg = box->first;
    box->first = msg->next;
    if (!box->first)
        box->end = &box->first;
    box->queued--;
    msg->next = NULL;
    return msg;
}

static void load(struct dead_letters *d, struct box *box)
{
    struct letter_load *load = MSG_CREATE(d->worker, struct letter_load, MSG_JOURNAL_LOAD, MSG_URGENT | MSG_CONTROL);
    if (!load)
        return;                                                /* the next letter tries again */
    load->load = (struct journal_load){.msg = load->load.msg}; /* larger than what comes zeroed */
    memcpy(load->key, box->key, box->key_size);
    load->load.key = slice_of(load->key, box->key_size);
    load->load.msg.to = d->self;
    load->load.context = box;
    box->phase = BOX_LOADING;
    journal_submit_load(d->services->journal, &load->load);
}

static void write_first(struct dead_letters *d, struct box *box)
{
    const struct dead_letter *letter = &((struct add *)(void *)box->first)->letter;
    struct event event = {.type = EVENT_MESSAGE_DEAD_LETTERED,
                          .version = box->head.version + 1,
                          .time_ms = clock_wall_ms(),
                          .trace_id = letter->trace_id,
                          .conversation = letter->conversation,
                          .message_id = letter->message_id,
                          .turn_id = letter->turn_id,
                          .reason = letter->reason,
                          .attempt = letter->attempt};
    uuid_create(event.time_ms, event.event_id);
    buffer_clear(&d->scratch);
    event_record_encode(&d->scratch, &event, 1);
    struct letter_append *write =
        d->scratch.is_overflow
            ? NULL
            : (struct letter_append *)(void *)msg_create(d->worker, MSG_JOURNAL_APPEND, MSG_URGENT | MSG_CONTROL,
                                                         (uint32_t)(sizeof *write + d->scratch.size));
    if (!write)
        return; /* the next letter tries again */
    memcpy(write + 1, d->scratch.data, d->scratch.size);
    memcpy(write->key, box->key, box->key_size);
    write->head = box->head;
    struct journal_append *append = &write->append;
    append->msg.to = d->self;
    append->key = slice_of(write->key, box->key_size);
    append->head = &write->head;
    append->expected_version = box->head.version;
    append->event_count = 1;
    append->summary = (struct journal_summary){.created_ms = event.time_ms, .updated_ms = event.time_ms};
    append->data = slice_of((const char *)(write + 1), d->scratch.size);
    append->context = box;
    box->phase = BOX_WRITING;
    journal_submit_append(d->services->journal, append);
}

static void go_on(struct dead_letters *d, struct box *box)
{
    if (!box->first)
        return;
    if (box->phase == BOX_CLOSED)
        load(d, box);
    else if (box->phase == BOX_READY)
        write_first(d, box);
}

static struct box *find_box(struct dead_letters *d, struct slice tenant)
{
    char key[JOURNAL_KEY_BYTES_MAX];
    uint32_t key_size = write_key(tenant, key);
    for (struct box *box = d->boxes; box; box = box->next)
        if (slice_is_equal(slice_of(box->key, box->key_size), slice_of(key, key_size)))
            return box;
    struct box *box = calloc(1, sizeof *box);
    if (!box)
        return NULL;
    memcpy(box->key, key, key_size);
    box->key_size = key_size;
    box->end = &box->first;
    box->next = d->boxes;
    d->boxes = box;
    return box;
}

static void on_add(struct dead_letters *d, struct msg **msg)
{
    struct box *box = find_box(d, ((struct add *)(void *)*msg)->letter.tenant);
    if (!box || box->queued >= QUEUED_MAX) {
        lose(d, msg, box ? ERR_LIMIT : ERR_NO_MEMORY);
        return;
    }
    (*msg)->next = NULL;
    *box->end = *msg;
    box->end = &(*msg)->next;
    box->queued++;
    *msg = NULL;
    go_on(d, box);
}

static void close_box(struct dead_letters *d, struct box *box, enum err code)
{
    box->phase = BOX_CLOSED; /* the next letter opens it anew */
    while (box->first) {
        struct msg *msg = pop(box);
        lose(d, &msg, code);
    }
}

static void on_load(struct dead_letters *d, const struct journal_load *load)
{
    struct box *box = load->context;
    enum err code = load->result;
    if (code == OK || code == ERR_NOT_FOUND) {
        box->head = load->head;
        if (code == ERR_NOT_FOUND)
            box->head = (struct journal_head){0};
        box->phase = BOX_READY;
    }
    journal_release(load->memory);
    if (box->phase == BOX_READY)
        go_on(d, box);
    else
        close_box(d, box, code);
}

static void save_snapshot(struct dead_letters *d, struct box *box)
{
    struct journal_save *save = (struct journal_save *)(void *)msg_create(d->worker, MSG_JOURNAL_SAVE, MSG_CONTROL,
                                                                          (uint32_t)(sizeof *save + box->key_size));
    if (!save)
        return;
    memcpy(save + 1, box->key, box->key_size);
    save->key = slice_of((const char *)(save + 1), box->key_size);
    save->version = box->head.version;
    save->data = SLICE_LITERAL("\1");
    box->letters_since_snapshot = 0;
    journal_submit_save(d->services->journal, save);
}

static void on_append(struct dead_letters *d, struct journal_append *append)
{
    struct box *box = append->context;
    if (append->result != OK) {
        close_box(d, box, append->result);
        return;
    }
    box->head = ((struct letter_append *)(void *)append)->head;
    box->phase = BOX_READY;
    struct msg *msg = pop(box);
    msg_destroy(d->worker, &msg);
    if (++box->letters_since_snapshot >= SNAPSHOT_LETTERS)
        save_snapshot(d, box);
    go_on(d, box);
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

static void refuse(struct dead_letters *d, struct dead_letters_read *request, enum err code)
{
    struct conv_answer *answer =
        conv_answer_create(d->worker, CONV_REFUSED,
                           &(struct conv_answer){.reply_token = request->reply_token,
                                                 .code = code,
                                                 .retry_after_s = err_may_retry(code),
                                                 .detail = SLICE_LITERAL("the dead letters cannot be read")});
    struct msg *msg = answer ? &answer->msg : NULL;
    if (msg && actor_send(d->worker, request->reply_to, &msg) != OK)
        msg_destroy(d->worker, &msg);
}

static void on_page_dropped(struct worker *worker, struct journal_read *read)
{
    struct msg *request = &((struct letter_page *)(void *)read)->request->msg;
    msg_drop(worker, request);
}

static void on_read_request(struct dead_letters *d, struct msg **msg)
{
    struct dead_letters_read *request = (struct dead_letters_read *)(void *)*msg;
    struct letter_page *page = MSG_CREATE(d->worker, struct letter_page, MSG_JOURNAL_READ, MSG_URGENT | MSG_CONTROL);
    if (!page) {
        refuse(d, request, ERR_NO_MEMORY);
        return;
    }
    uint32_t limit = request->limit ? request->limit : PAGE_DEFAULT;
    page->request = request;
    page->limit = limit < PAGE_MAX ? limit : PAGE_MAX;
    page->count = 0;
    page->last_version = request->after;
    page->read.msg.to = d->self;
    page->read.on_drop = on_page_dropped;
    page->read.key = slice_of(page->key, write_key(request->tenant, page->key));
    page->read.after_version = request->after;
    page->read.event_count_max = page->limit + 1; /* one more, to know whether there is a next page */
    *msg = NULL;
    journal_submit_read(d->services->journal, &page->read);
}

static enum err write_letter(void *user, const struct event *event)
{
    struct letter_page *page = user;
    if (event->version <= page->request->after || page->count > page->limit)
        return OK;
    if (page->count++ == page->limit)
        return OK; /* there is one more */
    page->last_version = event->version;
    struct buffer *out = page->out;
    if (page->count > 1)
        buffer_append_byte(out, ',');
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "version", &is_first);
    json_write_unsigned(out, event->version);
    json_write_key(out, "at", &is_first);
    event_write_time(out, event->time_ms);
    json_write_key(out, "conversation_id", &is_first);
    json_write_string(out, event->conversation);
    json_write_key(out, "message_id", &is_first);
    json_write_string(out, event->message_id);
    json_write_key(out, "turn_id", &is_first);
    json_write_string(out, event->turn_id);
    json_write_key(out, "reason", &is_first);
    json_write_string(out, event->reason);
    json_write_key(out, "attempts", &is_first);
    json_write_unsigned(out, event->attempt);
    json_write_key(out, "trace_id", &is_first);
    json_write_string(out, event->trace_id);
    buffer_append_byte(out, '}');
    return OK;
}

static void on_read(struct dead_letters *d, struct journal_read *read)
{
    struct letter_page *page = (struct letter_page *)(void *)read;
    struct dead_letters_read *request = page->request;
    struct buffer *out = page->out = &d->scratch;
    buffer_clear(out);
    buffer_append_text(out, "{\"dead_letters\":[");
    enum err code = read->result == ERR_NOT_FOUND ? OK : read->result; /* no list yet: an empty one */
    for (uint32_t i = 0; code == OK && i < read->record_count; i++)
        code = event_record_decode(read->records[i].data, read->records[i].first_version, write_letter, page);
    if (page->count > page->limit)
        buffer_append_format(out, "],\"next\":%llu}", (unsigned long long)page->last_version);
    else
        buffer_append_text(out, "],\"next\":null}");
    struct conv_answer *answer =
        code == OK && !out->is_overflow
            ? conv_answer_create(d->worker, CONV_FINISHED,
                                 &(struct conv_answer){.reply_token = request->reply_token, .body = buffer_slice(out)})
            : NULL;
    struct msg *msg = answer ? &answer->msg : NULL;
    if (!answer)
        refuse(d, request, code == OK ? ERR_NO_MEMORY : code);
    else if (actor_send(d->worker, request->reply_to, &msg) != OK)
        msg_destroy(d->worker, &msg);
    journal_release(read->memory);
    msg = &request->msg;
    msg_destroy(d->worker, &msg);
}

/* ---- the actor --------------------------------------------------------------------------------------------------------- */

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct dead_letters *d = context->state;
    switch ((*msg)->kind) {
    case DEAD_LETTERS_ADD: on_add(d, msg); break;
    case DEAD_LETTERS_READ: on_read_request(d, msg); break;
    case MSG_JOURNAL_LOAD: on_load(d, (const struct journal_load *)(const void *)*msg); break;
    case MSG_JOURNAL_APPEND: on_append(d, (struct journal_append *)(void *)*msg); break;
    case MSG_JOURNAL_READ: on_read(d, (struct journal_read *)(void *)*msg); break;
    default: LOG(LOG_WARN, "dead_letters_stray_message", LOG_UINT("kind", (*msg)->kind));
    }
    return OK;
}

static void on_end(struct actor_context *context, enum err reason)
{
    (void)reason;
    struct dead_letters *d = context->state;
    while (d->boxes) {
        struct box *box = d->boxes;
        d->boxes = box->next;
        while (box->first) {
            struct msg *msg = pop(box);
            msg_destroy(context->worker, &msg);
        }
        free(box);
    }
    buffer_deinit(&d->scratch);
    free(d);
}

static const struct actor_type dead_letters_type = {
    .name = "dead_letters", .on_message = on_message, .on_exit = on_end, .is_pinned = true};

enum err dead_letters_start(struct worker *worker, struct services *services, struct actor_id *ret_id,
                            struct error *error)
{
    struct dead_letters *d = calloc(1, sizeof *d);
    if (!d)
        return error_set(error, ERR_NO_MEMORY, "start the list of dead letters: no memory");
    d->worker = worker;
    d->services = services;
    buffer_init(&d->scratch, PAGE_BYTES_MAX);
    enum err code = actor_spawn(worker, &dead_letters_type, d, &(struct actor_options){0}, &d->self);
    if (code != OK) {
        free(d);
        return error_set(error, code, "start the list of dead letters: %s", err_text(code));
    }
    *ret_id = d->self;
    return OK;
}

static struct slice place(char **at, struct slice text)
{
    char *begin = *at;
    if (text.size)
        memcpy(begin, text.data, text.size);
    *at += text.size;
    return slice_of(begin, text.size);
}

void dead_letters_send(struct worker *worker, struct services *services, const struct dead_letter *letter)
{
    directory_live_stats(services->directory)->dead_letters++;
    LOG(LOG_WARN, "dead_letter", LOG_SLICE("conversation", letter->conversation),
        LOG_SLICE("message", letter->message_id), LOG_SLICE("reason", letter->reason));
    size_t bytes = letter->tenant.size + letter->conversation.size + letter->message_id.size + letter->turn_id.size +
                   letter->reason.size + letter->trace_id.size;
    struct add *add =
        (struct add *)(void *)msg_create(worker, DEAD_LETTERS_ADD, MSG_CONTROL, (uint32_t)(sizeof *add + bytes));
    if (!add)
        return;
    char *at = (char *)(add + 1);
    add->letter = *letter;
    add->letter.tenant = place(&at, letter->tenant);
    add->letter.conversation = place(&at, letter->conversation);
    add->letter.message_id = place(&at, letter->message_id);
    add->letter.turn_id = place(&at, letter->turn_id);
    add->letter.reason = place(&at, letter->reason);
    add->letter.trace_id = place(&at, letter->trace_id);
    struct msg *msg = &add->msg;
    if (actor_send(worker, services->dead_letters, &msg) != OK)
        msg_destroy(worker, &msg);
}

struct dead_letters_read *dead_letters_read_create(struct worker *worker, const struct dead_letters_read *fill)
{
    struct dead_letters_read *read = (struct dead_letters_read *)(void *)msg_create(
        worker, DEAD_LETTERS_READ, 0, (uint32_t)(sizeof *read + fill->tenant.size));
    if (!read)
        return NULL;
    struct msg header = read->msg;
    *read = *fill;
    read->msg = header;
    char *at = (char *)(read + 1);
    read->tenant = place(&at, fill->tenant);
    return read;
}
