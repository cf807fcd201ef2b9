/* SPDX-License-Identifier: Apache-2.0 */
/* api_world: the fakes are the functions themselves, defined here and so linked before the libraries' own. Everything that
 * the API runs, runs inside worker_step, as it would in a server. */
#include "tests/unit/api/api_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/config/config.h"
#include "actors/dead_letters.h"
#include "actors/directory.h"
#include "actors/llm/llm.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/ring_sim.h"
#include "runtime/worker.h"

enum { EXCHANGES_MAX = 2048, SENT_MAX = 8192 };

struct services world_services;
struct journal_stats world_journal_stats;
uint32_t world_appends_waiting;
enum err world_directory_code;
bool world_reader_is_slow;
struct world_dead_letters world_dead_letters;

static struct runtime *runtime;
static struct worker *worker;
static struct api *api;
static struct http_handler handler;
static struct world_answer answers[EXCHANGES_MAX];
static uint32_t exchange_count;
static struct conv_request *sent[SENT_MAX];
static uint32_t sent_count;
static struct journal_list *list;

/* ---- running something on the worker ------------------------------------------------------------------------------------ */

struct job {
    struct worker_task task;
    void (*run)(void *context);
    void *context;
};

static void run_job(struct worker *on, struct worker_task *task)
{
    (void)on;
    struct job *job = container_of(task, struct job, task);
    job->run(job->context);
}

static void settle(void)
{
    bool is_busy = true;
    while (is_busy) {
        is_busy = false;
        for (uint32_t i = 0; i < runtime_worker_count(runtime); i++)
            is_busy |= worker_step(runtime_worker(runtime, i));
    }
}

static void run_on_worker(void (*run)(void *context), void *context)
{
    struct job job = {.task.run = run_job, .run = run, .context = context};
    worker_post(worker, &job.task);
    settle();
}

void world_pass_ms(uint64_t ms)
{
    /* In steps, so that timers that start others are due in order. */
    for (uint64_t passed = 0; passed < ms; passed += 100) {
        sim_clock_advance_to(clock_mono_ns() + (ms - passed < 100 ? ms - passed : 100) * UINT64_C(1000000));
        settle();
    }
}

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static void start_api(void *context)
{
    (void)context;
    struct error error = {0};
    worker_set_user(worker, &world_services);
    if (api_start(worker, &world_services, &api, &handler, &error) != OK)
        abort();
}

int world_start(void **state)
{
    (void)state;
    static const struct config_flags no_flags;
    struct error error = {0};
    sim_world_reset(1, NULL);
    struct runtime_options options = {.worker_count = 2};
    if (runtime_create(&options, &runtime, &error) != OK)
        return -1;
    for (uint32_t i = 0; i < 2; i++) {
        if (worker_start(runtime_worker(runtime, i), &error) != OK)
            return -1;
    }
    worker = runtime_worker(runtime, 0);
    world_services = (struct services){.worker = worker};
    if (config_load(&no_flags, &world_services.config, &error) != OK)
        return -1;
    world_journal_stats = (struct journal_stats){0};
    world_appends_waiting = 0;
    world_directory_code = OK;
    world_reader_is_slow = false;
    world_dead_letters = (struct world_dead_letters){0};
    run_on_worker(start_api, NULL);
    world_services.dead_letters = (struct actor_id){1, 77}; /* nobody, until a test says otherwise */
    return 0;
}

static void free_sent(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < sent_count; i++) {
        struct msg *msg = &sent[i]->msg;
        msg_destroy(worker, &msg);
    }
    if (list) {
        struct msg *msg = &list->msg;
        msg_destroy(worker, &msg);
    }
    api_destroy(api);
}

int world_stop(void **state)
{
    (void)state;
    run_on_worker(free_sent, NULL);
    sent_count = 0;
    list = NULL;
    for (uint32_t i = 0; i < exchange_count; i++)
        buffer_deinit(&answers[i].body);
    memset(answers, 0, sizeof answers);
    exchange_count = 0;
    config_unref(world_services.config);
    runtime_destroy(runtime);
    sim_world_destroy();
    return 0;
}

/* ---- HTTP: requests ----------------------------------------------------------------------------------------------------- */

struct question {
    const char *method, *target, *headers, *body;
    uint32_t exchange;
};

static enum http_method method_of(const char *text)
{
    for (int method = 0; method < HTTP_METHOD_COUNT; method++) {
        if (strcmp(http_method_text((enum http_method)method), text) == 0)
            return (enum http_method)method;
    }
    abort();
}

static uint32_t split_headers(const char *text, struct http_header *ret_headers)
{
    uint32_t count = 0;
    while (text && *text) {
        size_t line = strcspn(text, "\n"), name = strcspn(text, ":");
        ret_headers[count++] =
            (struct http_header){slice_of(text, name), slice_of(text + name + 2, line > name + 2 ? line - name - 2 : 0)};
        text += line + (text[line] == '\n');
    }
    return count;
}

static void ask(void *context)
{
    struct question *question = context;
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t path_size = strcspn(question->target, "?");
    struct http_request request = {
        .method = method_of(question->method),
        .path = slice_of(question->target, path_size),
        .query = slice_from_text(question->target[path_size] ? question->target + path_size + 1 : ""),
        .body = slice_from_text(question->body ? question->body : ""),
        .headers = headers,
        .header_count = split_headers(question->headers, headers),
        .received_ns = worker_now_ns(worker),
    };
    handler.on_request(handler.context, (struct http_server *)&answers, (struct http_exchange_id){question->exchange, 5},
                       &request);
}

uint32_t world_request(const char *method, const char *target, const char *headers, const char *body)
{
    ASSERT(exchange_count < EXCHANGES_MAX);
    struct question question = {method, target, headers, body, exchange_count};
    buffer_init(&answers[exchange_count].body, 64 << 20);
    exchange_count++;
    run_on_worker(ask, &question);
    return question.exchange;
}

uint32_t world_post(const char *target, const char *body)
{
    return world_request("POST", target, "Content-Type: application/json\n", body);
}

static void leave(void *context)
{
    struct http_exchange_id *id = context;
    answers[id->index].is_gone = true;
    handler.on_gone(handler.context, (struct http_server *)&answers, *id);
}

void world_client_leaves(uint32_t exchange)
{
    struct http_exchange_id id = {exchange, 5};
    run_on_worker(leave, &id);
}

static void drain(void *context)
{
    struct http_exchange_id *id = context;
    answers[id->index].unsent_bytes = 0;
    handler.on_drained(handler.context, (struct http_server *)&answers, *id);
}

void world_stream_drains(uint32_t exchange)
{
    struct http_exchange_id id = {exchange, 5};
    run_on_worker(drain, &id);
}

/* ---- HTTP: answers ------------------------------------------------------------------------------------------------------ */

struct world_answer *world_answer(uint32_t exchange)
{
    return &answers[exchange];
}

const char *world_body(uint32_t exchange)
{
    struct buffer *body = &answers[exchange].body;
    if (!buffer_reserve(body, 1))
        abort();
    body->data[body->size] = '\0';
    return body->data;
}

bool world_has_header(uint32_t exchange, const char *line)
{
    return strstr(answers[exchange].headers, line) != NULL;
}

static struct world_answer *open_answer(struct http_exchange_id exchange)
{
    ASSERT(exchange.generation == 5 && exchange.index < exchange_count);
    struct world_answer *answer = &answers[exchange.index];
    return answer->is_gone || answer->is_ended ? NULL : answer;
}

static void take_head(struct world_answer *answer, const struct http_response *response)
{
    ASSERT(answer->status == 0);
    answer->status = response->status;
    snprintf(answer->content_type, sizeof answer->content_type, "%s", response->content_type);
    size_t used = 0;
    for (uint32_t i = 0; i < response->header_count; i++)
        used += (size_t)snprintf(answer->headers + used, sizeof answer->headers - used, "%.*s: %.*s\n",
                                 SLICE_PRINT(response->headers[i].name), SLICE_PRINT(response->headers[i].value));
}

enum err http_respond(struct http_server *server, struct http_exchange_id exchange, const struct http_response *response)
{
    (void)server;
    struct world_answer *answer = open_answer(exchange);
    if (!answer)
        return ERR_NOT_FOUND;
    take_head(answer, response);
    buffer_append_slice(&answer->body, response->body);
    answer->is_ended = true;
    return OK;
}

enum err http_stream_start(struct http_server *server, struct http_exchange_id exchange, const struct http_response *head)
{
    (void)server;
    struct world_answer *answer = open_answer(exchange);
    if (!answer)
        return ERR_NOT_FOUND;
    take_head(answer, head);
    answer->is_stream = true;
    return OK;
}

enum err http_stream_write(struct http_server *server, struct http_exchange_id exchange, struct slice data)
{
    (void)server;
    struct world_answer *answer = open_answer(exchange);
    if (!answer)
        return ERR_NOT_FOUND;
    if (world_reader_is_slow)
        return ERR_LIMIT;
    buffer_append_slice(&answer->body, data);
    answer->unsent_bytes += data.size;
    return OK;
}

size_t http_stream_unsent(struct http_server *server, struct http_exchange_id exchange)
{
    (void)server;
    return answers[exchange.index].unsent_bytes;
}

enum err http_stream_end(struct http_server *server, struct http_exchange_id exchange)
{
    (void)server;
    struct world_answer *answer = open_answer(exchange);
    if (!answer)
        return ERR_NOT_FOUND;
    answer->is_ended = true;
    return OK;
}

/* ---- conversations ------------------------------------------------------------------------------------------------------ */

enum err directory_send(struct worker *from, struct services *services, struct conv_request **request)
{
    ASSERT(from == worker && services == &world_services);
    if (world_directory_code != OK)
        return world_directory_code;
    ASSERT(sent_count < SENT_MAX);
    sent[sent_count++] = *request;
    *request = NULL;
    return OK;
}

uint32_t world_sent_count(void)
{
    return sent_count;
}

struct conv_request *world_sent(uint32_t index)
{
    ASSERT(index < sent_count);
    return sent[index];
}

struct conv_request *world_last_sent(void)
{
    return world_sent(sent_count - 1);
}

struct reply {
    struct actor_id to;
    uint16_t kind;
    struct conv_answer fill;
};

static void reply(void *context)
{
    struct reply *what = context;
    struct conv_answer *answer = conv_answer_create(worker, what->kind, &what->fill);
    ASSERT(answer);
    struct msg *msg = &answer->msg;
    ASSERT(actor_send(worker, what->to, &msg) == OK);
}

void world_reply(const struct conv_request *request, uint16_t kind, const struct conv_answer *fill)
{
    struct reply what = {.to = request->reply_to, .kind = kind, .fill = *fill};
    what.fill.reply_token = request->reply_token;
    run_on_worker(reply, &what);
}

void world_finish_body(const struct conv_request *request, const char *body)
{
    world_reply(request, CONV_FINISHED, &(struct conv_answer){.body = slice_from_text(body)});
}

void world_refuse(const struct conv_request *request, enum err code)
{
    world_reply(request, CONV_REFUSED, &(struct conv_answer){.code = code});
}

/* ---- journal, dead letters, providers ----------------------------------------------------------------------------------- */

void journal_submit_list(struct journal *journal, struct journal_list *submitted)
{
    (void)journal;
    ASSERT(!list);
    list = submitted;
}

struct journal_list *world_list(void)
{
    return list;
}

static void send_list(void *context)
{
    (void)context;
    struct msg *msg = &list->msg;
    list = NULL;
    ASSERT(actor_send(worker, msg->to, &msg) == OK);
}

void world_answer_list(enum err result, struct journal_list_item *items, uint32_t count, bool has_more)
{
    list->result = result;
    list->items = items;
    list->item_count = count;
    list->has_more = has_more;
    list->memory = malloc(1); /* the sanitizer finds whoever forgets to release it */
    run_on_worker(send_list, NULL);
}

void journal_release(void *memory)
{
    free(memory);
}

uint32_t journal_appends_waiting(const struct journal *journal)
{
    (void)journal;
    return world_appends_waiting;
}

void journal_get_stats(const struct journal *journal, struct journal_stats *ret_stats)
{
    (void)journal;
    *ret_stats = world_journal_stats;
}

struct dead_letters_read *dead_letters_read_create(struct worker *on, const struct dead_letters_read *fill)
{
    (void)on;
    world_dead_letters = (struct world_dead_letters){true, fill->reply_to, fill->reply_token, fill->after, fill->limit};
    return NULL; /* as if there were no memory: what was asked is all a test looks at */
}

void providers_write_json(const struct providers *providers, struct buffer *out)
{
    (void)providers;
    buffer_append_text(out, "{\"breakers\":[]}");
}
