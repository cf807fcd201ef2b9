/* SPDX-License-Identifier: Apache-2.0 */
/* load_run: see load_run.h. A conversation ("talk") is in one of four places: in the heap of due times, in the queue of its
 * connection (due, and no room on the wire yet), waiting for its own reply (due, and it does not type ahead), or neither,
 * when its next message follows from a reply.
 */
#include "bench/load_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/http_client.h"
#include "net/json.h"

enum { TYPING_AHEAD_MAX = 4, TEXT_BYTES_MAX = 32 << 10 };

static const uint64_t second_ns = 1000000000;

struct talk {
    struct talk *next_ready; /* in the queue of its connection */
    uint64_t due_ns;         /* intended time of its next message */
    uint64_t version;        /* of its last reply */
    uint32_t index;          /* in the whole run, over all threads */
    uint32_t round;          /* a talk that has said all begins again as another conversation */
    uint32_t dialogue;
    uint32_t said, answered, in_flight; /* messages of this round */
    bool is_waiting;                    /* due, but waits for its reply */
    bool has_gap;
};

struct request {
    struct talk *talk;
    uint64_t intended_ns;
    uint32_t round, number; /* message `number` of that round, from 1 */
    uint32_t next_free;
};

struct queue {
    struct talk *first, **end;
};

struct load_run {
    const struct load_options *options;
    const char *name;
    struct http_client client;
    struct talk *talks;
    uint32_t talk_count;
    struct talk **heap; /* 1-based, by due_ns */
    uint32_t heap_count;
    struct queue *queues; /* a connection each */
    struct request *requests;
    uint32_t free_request; /* UINT32_MAX: none */
    uint32_t open_requests;
    uint64_t now_ns, began_ns, measure_ns, end_ns, period_ns, random;
    bool is_over; /* nothing is said any more */
    struct buffer json, bytes;
    char text[TEXT_BYTES_MAX];
    char reply[TEXT_BYTES_MAX + 1024];
    struct load_result result;
};

void load_problem(struct load_result *result, uint64_t *counter, const char *format, ...)
{
    ++*counter;
    if (result->first_problem[0] != '\0')
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->first_problem, sizeof result->first_problem, format, arguments);
    va_end(arguments);
}

static uint64_t random_below(struct load_run *run, uint64_t limit)
{
    run->random ^= run->random >> 12;
    run->random ^= run->random << 25;
    run->random ^= run->random >> 27;
    return (run->random * 2685821657736338717u >> 16) % limit;
}

/* ---- due times ---------------------------------------------------------------------------------------------------------- */

static void heap_push(struct load_run *run, struct talk *talk)
{
    uint32_t at = ++run->heap_count;
    for (; at > 1 && run->heap[at / 2]->due_ns > talk->due_ns; at /= 2)
        run->heap[at] = run->heap[at / 2];
    run->heap[at] = talk;
}

static struct talk *heap_pop(struct load_run *run)
{
    struct talk *top = run->heap[1], *last = run->heap[run->heap_count--];
    uint32_t at = 1;
    for (uint32_t child; (child = 2 * at) <= run->heap_count; at = child) {
        if (child < run->heap_count && run->heap[child + 1]->due_ns < run->heap[child]->due_ns)
            child++;
        if (run->heap[child]->due_ns >= last->due_ns)
            break;
        run->heap[at] = run->heap[child];
    }
    run->heap[at] = last;
    return top;
}

/* ---- what is said ------------------------------------------------------------------------------------------------------- */

static void write_id(const struct load_run *run, const struct talk *talk, uint32_t round, char *ret_id, size_t size)
{
    snprintf(ret_id, size, "load-%s-%u-%u", run->name, talk->index, round);
}

/* Valid until the next call. */
static struct slice text_of(struct load_run *run, const struct talk *talk, uint32_t round, uint32_t number)
{
    const struct dialogues *dialogues = run->options->dialogues;
    if (dialogues)
        return dialogues->texts[dialogues->items[talk->dialogue].first_text + number - 1];
    int size = snprintf(run->text, sizeof run->text, "message %u of talk %u, round %u ", number, talk->index, round);
    size_t used = (size_t)size, wanted = run->options->text_bytes;
    for (; used < wanted; used++)
        run->text[used] = (char)('a' + used % 26);
    return slice_of(run->text, used);
}

static void write_message(struct load_run *run, const struct talk *talk, uint32_t number)
{
    const struct load_options *options = run->options;
    char id[64];
    write_id(run, talk, talk->round, id, sizeof id);
    bool is_first = true;
    buffer_clear(&run->json);
    buffer_append_byte(&run->json, '{');
    json_write_key(&run->json, "text", &is_first);
    json_write_string(&run->json, text_of(run, talk, talk->round, number));
    buffer_append_format(&run->json, ",\"message_id\":\"m-%u\"", number);
    if (options->agent) {
        json_write_key(&run->json, "agent", &is_first);
        json_write_string(&run->json, slice_from_text(options->agent));
    }
    buffer_append_byte(&run->json, '}');
    buffer_clear(&run->bytes);
    buffer_append_format(&run->bytes,
                         "POST /v1/conversations/%s/messages HTTP/1.1\r\nHost: load\r\n"
                         "Content-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n",
                         id, options->is_async ? "Prefer: respond-async\r\n" : "", run->json.size);
    buffer_append_slice(&run->bytes, buffer_slice(&run->json));
}

static void write_constant(struct load_run *run)
{
    const struct load_options *options = run->options;
    if (run->bytes.size > 0)
        return;
    if (options->body)
        buffer_append_format(
            &run->bytes,
            "POST %s HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
            options->path, strlen(options->body), options->body);
    else
        buffer_append_format(&run->bytes, "GET %s HTTP/1.1\r\nHost: load\r\n\r\n", options->path);
}

/* ---- speaking ----------------------------------------------------------------------------------------------------------- */

static struct http_connection *connection_of(struct load_run *run, const struct talk *talk)
{
    return &run->client.connections[(uint32_t)(talk - run->talks) % run->client.connection_count];
}

static void become_ready(struct load_run *run, struct talk *talk)
{
    struct queue *queue = &run->queues[connection_of(run, talk)->index];
    talk->next_ready = NULL;
    *queue->end = talk;
    queue->end = &talk->next_ready;
}

static bool has_said_all(const struct load_run *run, const struct talk *talk)
{
    const struct dialogues *dialogues = run->options->dialogues;
    return dialogues && talk->said == dialogues->items[talk->dialogue].text_count;
}

static void begin_round(struct load_run *run, struct talk *talk)
{
    talk->round++;
    talk->said = talk->answered = 0;
    talk->version = 0;
    talk->has_gap = false;
    if (run->options->dialogues)
        talk->dialogue = (uint32_t)random_below(run, run->options->dialogues->count);
}

/* Its time has come. */
static void be_due(struct load_run *run, struct talk *talk)
{
    bool types_ahead = !has_said_all(run, talk) && talk->in_flight < TYPING_AHEAD_MAX &&
                       random_below(run, 1000) < run->options->typing_ahead_per_mille;
    talk->is_waiting = talk->in_flight > 0 && !types_ahead;
    if (!talk->is_waiting)
        become_ready(run, talk);
}

static void say(struct load_run *run, struct talk *talk, struct http_connection *connection)
{
    uint32_t tag = run->free_request;
    struct request *request = &run->requests[tag];
    run->free_request = request->next_free;
    run->open_requests++;
    if (has_said_all(run, talk))
        begin_round(run, talk);
    *request =
        (struct request){.talk = talk, .intended_ns = talk->due_ns, .round = talk->round, .number = talk->said + 1};
    if (run->options->path)
        write_constant(run);
    else
        write_message(run, talk, request->number);
    bool was_sent = http_client_send(&run->client, connection, buffer_slice(&run->bytes), tag);
    if (!was_sent)
        abort(); /* speak_on has looked */
    talk->said++;
    talk->in_flight++;
    run->result.sent++;
    if (run->period_ns > 0) {
        talk->due_ns += run->period_ns;
        heap_push(run, talk);
    }
}

/* As much as a connection takes. */
static void speak_on(struct load_run *run, struct http_connection *connection)
{
    struct queue *queue = &run->queues[connection->index];
    while (!run->is_over && queue->first && connection->fd >= 0 && !connection->is_connecting &&
           connection->in_flight < run->options->pipeline) {
        struct talk *talk = queue->first;
        queue->first = talk->next_ready;
        if (!queue->first)
            queue->end = &queue->first;
        say(run, talk, connection);
    }
}

/* ---- listening ---------------------------------------------------------------------------------------------------------- */

static bool text_is(struct json_value object, const char *key, const char *expected)
{
    struct json_value value;
    char buffer[128];
    struct slice text;
    return json_find(object, key, &value) && value.raw.size < sizeof buffer &&
           json_string(value, buffer, sizeof buffer, &text) == OK && slice_has_text(text, expected);
}

static bool reply_fits(struct load_run *run, struct slice said, struct slice reply)
{
    switch (run->options->expectation) {
    case LOAD_EXPECT_ECHO: return slice_is_equal(reply, said);
    case LOAD_EXPECT_CONTAINS: return memmem(reply.data, reply.size, said.data, said.size) != NULL;
    case LOAD_EXPECT_ANY: break;
    }
    return reply.size > 0;
}

/* Returns: what is wrong with the answer, NULL when nothing is. */
static const char *check_reply(struct load_run *run, const struct request *request, int status, struct slice body)
{
    char id[64], message_id[32];
    struct json_value root, value, text;
    struct json_problem problem;
    struct slice reply;
    int64_t version;
    struct talk *talk = request->talk;
    write_id(run, talk, request->round, id, sizeof id);
    snprintf(message_id, sizeof message_id, "m-%u", request->number);
    if (json_validate(body, &root, &problem) != OK)
        return problem.reason;
    if (!text_is(root, "conversation_id", id) || !text_is(root, "message_id", message_id))
        return "the answer is for another message";
    if (json_find(root, "duplicate", &value) && json_is_true(value))
        run->result.duplicates++;
    if (run->options->is_async && status == 202)
        return NULL;
    if (status == 200 && run->options->expectation == LOAD_EXPECT_ANY && text_is(root, "status", "waiting_human"))
        return NULL; /* handed to a person: the reply is not the server's to give */
    if (status != 200 || !text_is(root, "status", "completed"))
        return "no completed turn";
    if (!json_find(root, "version", &value) || json_integer(value, &version) != OK)
        return "no version";
    if ((uint64_t)version <= talk->version)
        return "the version did not rise";
    talk->version = (uint64_t)version;
    if (!json_find(root, "reply", &value) || !json_find(value, "text", &text) ||
        json_string(text, run->reply, sizeof run->reply, &reply) != OK)
        return "no reply";
    return reply_fits(run, text_of(run, talk, request->round, request->number), reply) ? NULL : "the reply does not fit";
}

static bool is_refusal(int status)
{
    return status == 429 || status == 503;
}

static void check_answer(struct load_run *run, const struct request *request, int status, struct slice body)
{
    struct load_result *result = &run->result;
    struct talk *talk = request->talk;
    bool is_success = status >= 200 && status < 300;
    result->statuses[status > 0 && status < LOAD_STATUS_MAX ? status : 0]++;
    if (!is_success) {
        talk->has_gap = true;
        if (is_refusal(status) && run->options->refusals_ok)
            result->refused++;
        else
            load_problem(result, &result->refused, "status %d: %.*s", status, (int)(body.size < 300 ? body.size : 300),
                         body.data);
        return;
    }
    if (run->options->path)
        return;
    const char *wrong = check_reply(run, request, status, body);
    if (wrong)
        load_problem(result, &result->wrong, "talk %u, message %u: %s: %.*s", talk->index, request->number, wrong,
                     (int)(body.size < 300 ? body.size : 300), body.data);
}

/* The talk goes on after an answer, or after there will be none. */
static void go_on(struct load_run *run, struct talk *talk)
{
    if (talk->is_waiting && talk->in_flight == 0) {
        talk->is_waiting = false;
        become_ready(run, talk);
    } else if (run->period_ns == 0) {
        talk->due_ns = run->now_ns + (uint64_t)(run->options->think_ms * 1e6);
        if (run->options->think_ms > 0)
            heap_push(run, talk);
        else
            become_ready(run, talk);
    }
}

static struct request take_request(struct load_run *run, uint32_t tag)
{
    struct request request = run->requests[tag];
    run->requests[tag].next_free = run->free_request;
    run->free_request = tag;
    run->open_requests--;
    request.talk->in_flight--;
    return request;
}

static void on_answer(void *context, struct http_connection *connection, uint32_t tag, int status, struct slice body)
{
    struct load_run *run = context;
    struct request request = take_request(run, tag);
    run->now_ns = http_client_now_ns();
    request.talk->answered++;
    check_answer(run, &request, status, body);
    if (request.intended_ns >= run->measure_ns && request.intended_ns < run->end_ns) {
        histogram_record(&run->result.latency_ns, run->now_ns - request.intended_ns);
        run->result.answered++;
    }
    go_on(run, request.talk);
    speak_on(run, connection);
}

static void on_lost(void *context, struct http_connection *connection, uint32_t tag)
{
    (void)connection;
    struct load_run *run = context;
    struct request request = take_request(run, tag);
    request.talk->has_gap = true;
    load_problem(&run->result, &run->result.lost, "the connection broke before the answer of talk %u, message %u",
                 request.talk->index, request.number);
    go_on(run, request.talk);
}

/* ---- the run ------------------------------------------------------------------------------------------------------------- */

static uint32_t share(uint32_t total, uint32_t parts, uint32_t part)
{
    return total / parts + (part < total % parts);
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

struct load_run *load_run_create(const struct load_options *options, uint32_t thread, const char *name)
{
    struct load_run *run = calloc(1, sizeof *run);
    uint32_t connection_count = share(options->connections, options->threads, thread);
    uint32_t talk_count = share(options->conversations, options->threads, thread);
    uint32_t request_count = connection_count * HTTP_CLIENT_IN_FLIGHT_MAX;
    if (!run)
        die("out of memory");
    run->options = options;
    run->name = name;
    run->talk_count = talk_count;
    run->random = 0x9e3779b97f4a7c15u + thread;
    run->talks = calloc(talk_count, sizeof *run->talks);
    run->heap = calloc(talk_count + 1, sizeof(struct talk *));
    run->queues = calloc(connection_count, sizeof *run->queues);
    run->requests = calloc(request_count, sizeof *run->requests);
    if (!run->talks || !run->heap || !run->queues || !run->requests)
        die("out of memory");
    buffer_init(&run->json, 1 << 20);
    buffer_init(&run->bytes, 1 << 20);
    for (uint32_t i = 0; i < request_count; i++)
        run->requests[i].next_free = i + 1 < request_count ? i + 1 : UINT32_MAX;
    for (uint32_t i = 0; i < connection_count; i++)
        run->queues[i].end = &run->queues[i].first;
    for (uint32_t i = 0; i < talk_count; i++) {
        run->talks[i].index = i * options->threads + thread;
        begin_round(run, &run->talks[i]);
    }
    if (options->rate > 0)
        run->period_ns = (uint64_t)((double)options->conversations / options->rate * 1e9);
    const struct http_client_handler handler = {.context = run, .on_answer = on_answer, .on_lost = on_lost};
    http_client_init(&run->client, options->address, connection_count, &handler);
    return run;
}

void load_run_destroy(struct load_run *run)
{
    http_client_deinit(&run->client);
    buffer_deinit(&run->json);
    buffer_deinit(&run->bytes);
    free(run->talks);
    free(run->heap);
    free(run->queues);
    free(run->requests);
    free(run);
}

static void connect_all(struct load_run *run)
{
    uint64_t give_up_ns = http_client_now_ns() + 10 * second_ns;
    while (!http_client_is_connected(&run->client)) {
        if (http_client_now_ns() > give_up_ns)
            die("cannot connect all connections");
        http_client_poll(&run->client, http_client_now_ns() + second_ns / 100);
    }
}

static void begin(struct load_run *run)
{
    run->began_ns = run->now_ns = http_client_now_ns();
    run->measure_ns = run->began_ns + (uint64_t)(run->options->warmup_s * 1e9);
    run->end_ns = run->measure_ns + (uint64_t)(run->options->seconds * 1e9);
    for (uint32_t i = 0; i < run->talk_count; i++) {
        struct talk *talk = &run->talks[i];
        talk->due_ns = run->began_ns + (run->period_ns ? random_below(run, run->period_ns) : 0);
        heap_push(run, talk);
    }
}

static void wake_due(struct load_run *run)
{
    while (!run->is_over && run->heap_count > 0 && run->heap[1]->due_ns <= run->now_ns) {
        struct talk *talk = heap_pop(run);
        be_due(run, talk);
        speak_on(run, connection_of(run, talk));
    }
}

void load_run_play(struct load_run *run)
{
    connect_all(run);
    begin(run);
    uint64_t drain_end_ns = run->end_ns + (uint64_t)(run->options->drain_s * 1e9);
    for (;;) {
        run->now_ns = http_client_now_ns();
        run->is_over = run->now_ns >= run->end_ns;
        if (run->is_over && (run->open_requests == 0 || run->now_ns >= drain_end_ns))
            break;
        wake_due(run);
        uint64_t next_ns = run->is_over ? drain_end_ns : run->end_ns;
        if (!run->is_over && run->heap_count > 0 && run->heap[1]->due_ns < next_ns)
            next_ns = run->heap[1]->due_ns;
        http_client_poll(&run->client, next_ns);
        if (run->client.down_count > 0 || run->client.broken_count > 0) {
            for (uint32_t i = 0; i < run->client.connection_count; i++)
                speak_on(run, &run->client.connections[i]); /* those that stand again */
        }
    }
    run->result.measured_s = (double)(run->end_ns - run->measure_ns) / 1e9;
    run->result.broken_connections = run->client.broken_count;
    if (run->open_requests > 0) {
        uint64_t first = 0;
        load_problem(&run->result, &first, "%u messages without any answer at the end", run->open_requests);
        run->result.unanswered = run->open_requests;
    }
}

struct load_result *load_run_result(struct load_run *run)
{
    return &run->result;
}

uint32_t load_run_conversation_count(const struct load_run *run)
{
    return run->talk_count;
}

struct load_conversation load_run_conversation(const struct load_run *run, uint32_t index)
{
    const struct talk *talk = &run->talks[index];
    struct load_conversation conversation = {.said = talk->answered, .has_gap = talk->has_gap || talk->in_flight > 0};
    write_id(run, talk, talk->round, conversation.id, sizeof conversation.id);
    return conversation;
}
