/* SPDX-License-Identifier: Apache-2.0 */
/* load_run: see load_run.h. A conversation ("talk") is in one of four places: in the heap of due times, in the queue of its
 * connection (due, and no room on the wire yet), waiting for its own reply (due, and it does not type ahead), or neither,
 * when its next message follows from a reply.
 */
#include "bench/load_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/load_protocol.h"
#include "bench/number_set.h"
#include "bench/wire.h"
#include "runtime/decimal.h"

enum { TYPING_AHEAD_MAX = 4, TEXT_BYTES_MAX = 32 << 10, NAME_BYTES_MAX = LOAD_NAME_BYTES + 24 };

static const uint64_t second_ns = 1000000000;

struct talk {
    struct talk *next_ready; /* in the queue of its connection */
    uint64_t due_ns;         /* intended time of its next message */
    uint64_t version;        /* of its last reply */
    uint32_t index;          /* in the whole run, over all threads */
    uint32_t round;          /* a talk that has said all begins again as another conversation */
    uint32_t dialogue;
    uint32_t said, answered, accepted, in_flight; /* messages of this round; accepted: not refused */
    struct number_set accepted_numbers;           /* where refusals are allowed: elsewhere they fail the run */
    bool is_waiting;                              /* due, but waits for its reply */
    bool has_gap;
};

struct request {
    struct talk *talk;
    struct request *previous, *next; /* in flight on the same connection, in the order said; free: next */
    uint64_t intended_ns;
    uint32_t round, number; /* message `number` of that round, from 1 */
    uint32_t connection;    /* UINT32_MAX: free */
};

struct queue {
    struct talk *first, **end;   /* due */
    struct request *sent, *last; /* in flight */
    uint32_t in_flight;
};

struct load_run {
    const struct load_options *options;
    struct wire wire;
    struct talk *talks;
    uint32_t talk_count;
    struct talk **heap; /* 1-based, by due_ns */
    uint32_t heap_count;
    struct queue *queues; /* a connection each */
    struct request *requests;
    uint32_t request_count;
    struct request *free_request;
    uint32_t open_requests;
    uint64_t now_ns, began_ns, measure_ns, end_ns, period_ns, random;
    bool is_over;        /* nothing is said any more */
    struct buffer bytes; /* a request */
    char text[TEXT_BYTES_MAX];
    struct load_result result;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

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

/* Returns: text[0, size) with `before` and the number behind it. */
static struct slice append_number(char *text, size_t size, const char *before, uint64_t number)
{
    char room[DECIMAL_DIGITS_MAX];
    struct slice digits = decimal_format(number, room);
    size_t before_size = strlen(before);
    memcpy(text + size, before, before_size);
    memcpy(text + size + before_size, digits.data, digits.size);
    return slice_of(text, size + before_size + digits.size);
}

static uint32_t conversation_of(const struct load_run *run, const struct talk *talk)
{
    return talk->index / run->options->speakers;
}

static uint32_t speaker_of(const struct load_run *run, const struct talk *talk)
{
    return talk->index % run->options->speakers;
}

static struct slice conversation_id(const struct load_run *run, const struct talk *talk, uint32_t round,
                                    char id[NAME_BYTES_MAX])
{
    size_t name_size = strlen(run->options->name);
    memcpy(id, run->options->name, name_size);
    struct slice name = append_number(id, name_size, "-", conversation_of(run, talk));
    return append_number(id, name.size, "-", round);
}

static struct slice message_id(const struct load_run *run, const struct talk *talk, uint32_t number,
                               char id[NAME_BYTES_MAX])
{
    struct slice speaker = append_number(id, 0, "", speaker_of(run, talk));
    return append_number(id, speaker.size, "-", number);
}

/* Valid until the next call. */
static struct slice text_of(struct load_run *run, const struct talk *talk, uint32_t round, uint32_t number)
{
    const struct dialogues *dialogues = run->options->dialogues;
    if (dialogues)
        return dialogues->texts[dialogues->items[talk->dialogue].first_text + number - 1];
    struct slice text = append_number(run->text, 0, "message ", number);
    text = append_number(run->text, text.size, " of talker ", talk->index);
    text = append_number(run->text, text.size, ", round ", round);
    for (; text.size < run->options->text_bytes; text.size++)
        run->text[text.size] = "abcdefghijklmnop"[text.size % 16];
    return text;
}

static void write_message(struct load_run *run, const struct talk *talk, const struct request *request)
{
    char id[NAME_BYTES_MAX], name[NAME_BYTES_MAX];
    const struct load_message message = {
        .tag = (uint32_t)(request - run->requests),
        .conversation_id = conversation_id(run, talk, request->round, id),
        .message_id = message_id(run, talk, request->number, name),
        .text = text_of(run, talk, request->round, request->number),
        .agent = slice_from_text(run->options->agent),
        .is_async = run->options->is_async,
    };
    buffer_clear(&run->bytes);
    run->options->protocol->write_message(&run->bytes, &message);
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

static struct wire_connection *connection_of(struct load_run *run, const struct talk *talk)
{
    return &run->wire.connections[(uint32_t)(talk - run->talks) % run->wire.connection_count];
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
    talk->said = talk->answered = talk->accepted = 0;
    talk->version = 0;
    talk->has_gap = false;
    number_set_clear(&talk->accepted_numbers);
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

static struct request *take_request(struct load_run *run, uint32_t connection)
{
    struct request *request = run->free_request;
    struct queue *queue = &run->queues[connection];
    run->free_request = request->next;
    *request = (struct request){.previous = queue->last, .connection = connection};
    if (queue->last)
        queue->last->next = request;
    else
        queue->sent = request;
    queue->last = request;
    queue->in_flight++;
    run->open_requests++;
    return request;
}

static void release_request(struct load_run *run, struct request *request)
{
    struct queue *queue = &run->queues[request->connection];
    if (request->previous)
        request->previous->next = request->next;
    else
        queue->sent = request->next;
    if (request->next)
        request->next->previous = request->previous;
    else
        queue->last = request->previous;
    queue->in_flight--;
    request->talk->in_flight--;
    request->connection = UINT32_MAX;
    request->next = run->free_request;
    run->free_request = request;
    run->open_requests--;
}

static void say(struct load_run *run, struct talk *talk, struct wire_connection *connection)
{
    if (has_said_all(run, talk))
        begin_round(run, talk);
    bool is_open_loop = run->period_ns > 0;
    struct request *request = take_request(run, connection->index);
    request->talk = talk;
    request->intended_ns = is_open_loop ? talk->due_ns : run->now_ns;
    request->round = talk->round;
    request->number = ++talk->said;
    talk->in_flight++;
    if (run->options->path)
        write_constant(run);
    else
        write_message(run, talk, request);
    wire_send(&run->wire, connection, buffer_slice(&run->bytes));
    run->result.sent++;
    if (is_open_loop) {
        talk->due_ns += run->period_ns;
        heap_push(run, talk);
    }
}

/* As much as a connection takes. */
static void speak_on(struct load_run *run, struct wire_connection *connection)
{
    struct queue *queue = &run->queues[connection->index];
    while (!run->is_over && queue->first && wire_is_up(connection) && queue->in_flight < run->options->pipeline) {
        struct talk *talk = queue->first;
        queue->first = talk->next_ready;
        if (!queue->first)
            queue->end = &queue->first;
        say(run, talk, connection);
    }
}

/* ---- listening ---------------------------------------------------------------------------------------------------------- */

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
static const char *check_reply(struct load_run *run, const struct request *request, const struct load_answer *answer)
{
    char id[NAME_BYTES_MAX], name[NAME_BYTES_MAX];
    struct talk *talk = request->talk;
    if (answer->wrong)
        return answer->wrong;
    if (!slice_is_equal(answer->conversation_id, conversation_id(run, talk, request->round, id)) ||
        !slice_is_equal(answer->message_id, message_id(run, talk, request->number, name)))
        return "the answer is for another message";
    run->result.duplicates += answer->is_duplicate;
    if (run->options->is_async && answer->status == 202)
        return NULL;
    if (answer->status == 200 && run->options->expectation == LOAD_EXPECT_ANY &&
        slice_is_equal(answer->state, SLICE_LITERAL("waiting_human")))
        return NULL; /* handed to a person: the reply is not the server's to give */
    if (answer->status != 200 || !slice_is_equal(answer->state, SLICE_LITERAL("completed")))
        return "no completed turn";
    if (answer->version <= talk->version)
        return "the version did not rise";
    talk->version = answer->version;
    return reply_fits(run, text_of(run, talk, request->round, request->number), answer->text) ? NULL
                                                                                              : "the reply does not fit";
}

static bool is_success(int status)
{
    return status >= 200 && status < 300;
}

static bool is_refusal(int status)
{
    return status == 429 || status == 503;
}

static void check_answer(struct load_run *run, const struct request *request, const struct load_answer *answer)
{
    struct load_result *result = &run->result;
    struct talk *talk = request->talk;
    int status = answer->status, shown = (int)(answer->body.size < 300 ? answer->body.size : 300);
    result->statuses[status > 0 && status < LOAD_STATUS_MAX ? status : 0]++;
    if (!is_success(status)) {
        talk->has_gap = true;
        if (is_refusal(status) && run->options->refusals_ok)
            result->refused++;
        else
            load_problem(result, &result->refused, "status %d: %.*s", status, shown, answer->body.data);
        return;
    }
    talk->accepted++;
    if (run->options->path)
        return;
    if (run->options->refusals_ok && !number_set_add(&talk->accepted_numbers, request->number))
        die("out of memory");
    const char *wrong = check_reply(run, request, answer);
    if (wrong)
        load_problem(result, &result->wrong, "talker %u, message %u: %s: %.*s", talk->index, request->number, wrong,
                     shown, answer->body.data);
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

/* Returns: the request that an answer is for; NULL when nobody asked. */
static struct request *request_of(struct load_run *run, uint32_t connection, uint32_t tag)
{
    if (!run->options->protocol->has_tags)
        return run->queues[connection].sent;
    bool is_open = tag < run->request_count && run->requests[tag].connection == connection;
    return is_open ? &run->requests[tag] : NULL;
}

static void on_answer(struct load_run *run, struct request *request, const struct load_answer *answer)
{
    struct talk *talk = request->talk;
    talk->answered++;
    check_answer(run, request, answer);
    if (request->intended_ns >= run->measure_ns && request->intended_ns < run->end_ns)
        histogram_record(&run->result.latency_ns, run->now_ns - request->intended_ns);
    if (run->now_ns >= run->measure_ns && run->now_ns < run->end_ns) { /* what comes after the end is no throughput */
        run->result.answered++;
        run->result.succeeded += is_success(answer->status);
    }
    release_request(run, request);
    go_on(run, talk);
}

static size_t on_bytes(void *context, struct wire_connection *connection, char *bytes, size_t size)
{
    struct load_run *run = context;
    size_t used = 0;
    run->now_ns = wire_now_ns(); /* once for all that came together */
    while (used < size) {
        struct load_answer answer;
        size_t taken = run->options->protocol->take_answer(bytes + used, size - used, &answer);
        if (taken == 0)
            break;
        struct request *request = taken == SIZE_MAX ? NULL : request_of(run, connection->index, answer.tag);
        if (!request) {
            load_problem(&run->result, &run->result.wrong, "connection %u: bytes that answer nothing", connection->index);
            return SIZE_MAX;
        }
        on_answer(run, request, &answer);
        used += taken;
        if (answer.is_last)
            return SIZE_MAX;
    }
    speak_on(run, connection);
    return used;
}

static void on_broken(void *context, struct wire_connection *connection)
{
    struct load_run *run = context;
    for (struct request *request; (request = run->queues[connection->index].sent);) {
        struct talk *talk = request->talk;
        talk->has_gap = true;
        load_problem(&run->result, &run->result.lost, "the connection broke before the answer of talker %u, message %u",
                     talk->index, request->number);
        release_request(run, request);
        go_on(run, talk);
    }
}

/* ---- the run ------------------------------------------------------------------------------------------------------------- */

static uint32_t share(uint32_t total, uint32_t parts, uint32_t part)
{
    return total / parts + (part < total % parts);
}

struct load_run *load_run_create(const struct load_options *options, uint32_t thread)
{
    struct load_run *run = calloc(1, sizeof *run);
    uint32_t connection_count = share(options->connections, options->threads, thread);
    uint32_t talk_count = share(options->conversations * options->speakers, options->threads, thread);
    uint32_t request_count = connection_count * options->pipeline;
    if (!run)
        die("out of memory");
    run->options = options;
    run->talk_count = talk_count;
    run->request_count = request_count;
    run->random = 0x9e3779b97f4a7c15u + thread;
    run->talks = calloc(talk_count, sizeof *run->talks);
    run->heap = calloc(talk_count + 1, sizeof(struct talk *));
    run->queues = calloc(connection_count, sizeof *run->queues);
    run->requests = calloc(request_count, sizeof *run->requests);
    if (!run->talks || !run->heap || !run->queues || !run->requests)
        die("out of memory");
    buffer_init(&run->bytes, 1 << 20);
    for (uint32_t i = request_count; i-- > 0;) {
        run->requests[i] = (struct request){.next = run->free_request, .connection = UINT32_MAX};
        run->free_request = &run->requests[i];
    }
    for (uint32_t i = 0; i < connection_count; i++)
        run->queues[i].end = &run->queues[i].first;
    for (uint32_t i = 0; i < talk_count; i++) {
        run->talks[i].index = i * options->threads + thread;
        begin_round(run, &run->talks[i]);
    }
    if (options->rate > 0)
        run->period_ns = (uint64_t)((double)options->conversations * options->speakers / options->rate * 1e9);
    const struct wire_handler handler = {.context = run, .on_bytes = on_bytes, .on_broken = on_broken};
    wire_init(&run->wire, options->address, connection_count, &handler);
    return run;
}

void load_run_destroy(struct load_run *run)
{
    wire_deinit(&run->wire);
    buffer_deinit(&run->bytes);
    for (uint32_t i = 0; i < run->talk_count; i++)
        number_set_deinit(&run->talks[i].accepted_numbers);
    free(run->talks);
    free(run->heap);
    free(run->queues);
    free(run->requests);
    free(run);
}

static void connect_all(struct load_run *run)
{
    uint64_t give_up_ns = wire_now_ns() + 10 * second_ns;
    while (!wire_is_connected(&run->wire)) {
        if (wire_now_ns() > give_up_ns)
            die("cannot connect all connections");
        wire_poll(&run->wire, wire_now_ns() + second_ns / 100);
    }
}

static void begin(struct load_run *run)
{
    run->began_ns = run->now_ns = wire_now_ns();
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
        run->now_ns = wire_now_ns();
        run->is_over = run->now_ns >= run->end_ns;
        if (run->is_over && (run->open_requests == 0 || run->now_ns >= drain_end_ns))
            break;
        wake_due(run);
        uint64_t next_ns = run->is_over ? drain_end_ns : run->end_ns;
        if (!run->is_over && run->heap_count > 0 && run->heap[1]->due_ns < next_ns)
            next_ns = run->heap[1]->due_ns;
        wire_poll(&run->wire, next_ns);
        if (run->wire.down_count > 0 || run->wire.broken_count > 0) {
            for (uint32_t i = 0; i < run->wire.connection_count; i++)
                speak_on(run, &run->wire.connections[i]); /* those that stand again */
        }
    }
    run->result.measured_s = (double)(run->end_ns - run->measure_ns) / 1e9;
    run->result.broken_connections = run->wire.broken_count;
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

uint32_t load_run_talker_count(const struct load_run *run)
{
    return run->talk_count;
}

struct load_talker load_run_talker(const struct load_run *run, uint32_t index)
{
    const struct talk *talk = &run->talks[index];
    struct load_talker talker = {.conversation = conversation_of(run, talk), .speaker = speaker_of(run, talk)};
    talker.id[conversation_id(run, talk, talk->round, talker.id).size] = '\0';
    talker.said = talk->said;
    talker.accepted = talk->accepted;
    talker.accepted_numbers = &talk->accepted_numbers;
    talker.has_gap = talk->has_gap || talk->in_flight > 0;
    return talker;
}
