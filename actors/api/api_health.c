/* SPDX-License-Identifier: Apache-2.0 */
/* api_health: the probes. Each check looks at the thing it names:
 *
 *   workers  a question to one shard of every worker goes through its directory and the journal's reader and comes back
 *   journal  no write or flush has failed; a full disk is told, but reads go on
 *   server   not draining
 *
 * Live and startup ask nothing of others: an answer at all means that this worker's loop turns, and the listener opens only
 * once every part stands. What holds a worker for good is the watchdog's (worker.h).
 */
#include <stdio.h>

#include "actors/api/api_internal.h"
#include "actors/conversation_key.h"
#include "net/json.h"
#include "runtime/assert.h"

enum { READY_WAIT_MS = 2000, READY_SHARDS_MAX = 64 };

struct check {
    const char *name;
    bool is_well;
    char detail[96];
};

static void answer_checks(struct api *api, const struct api_exchange *exchange, const struct check *checks, size_t count)
{
    bool is_well = true, is_first = true;
    for (size_t i = 0; i < count; i++)
        is_well &= checks[i].is_well;
    buffer_clear(&api->out);
    buffer_append_text(&api->out, is_well ? "{\"status\":\"ok\",\"checks\":{" : "{\"status\":\"fail\",\"checks\":{");
    for (size_t i = 0; i < count; i++) {
        json_write_key(&api->out, checks[i].name, &is_first);
        buffer_append_text(&api->out,
                           checks[i].is_well ? "{\"status\":\"ok\",\"detail\":" : "{\"status\":\"fail\",\"detail\":");
        json_write_string(&api->out, slice_from_text(checks[i].detail));
        buffer_append_byte(&api->out, '}');
    }
    buffer_append_text(&api->out, "}}");
    api_answer_out(api, exchange, is_well ? 200 : 503);
}

static struct check check_journal(const struct api *api)
{
    struct journal_stats stats;
    struct check check = {.name = "journal"};
    journal_get_stats(api->services->journal, &stats);
    check.is_well = !stats.is_failed;
    snprintf(check.detail, sizeof check.detail, "%s",
             stats.is_failed ? "a write failed: nothing more is accepted"
             : stats.is_full ? "the disk is full: messages are refused, reads are served"
                             : "writes and flushes succeed");
    return check;
}

static struct check check_loop(void)
{
    return (struct check){.name = "worker", .is_well = true, .detail = "this worker answers"};
}

/* ---- ready -------------------------------------------------------------------------------------------------------------- */

static void answer_ready(struct api *api, struct api_request *request)
{
    struct check checks[] = {check_journal(api), {.name = "workers"}, {.name = "server"}};
    uint32_t answered = request->u.ready.answered, expected = request->u.ready.expected;
    checks[1].is_well = answered == expected;
    snprintf(checks[1].detail, sizeof checks[1].detail, "%u of %u answered", answered, expected);
    checks[2].is_well = !api->services->is_draining;
    snprintf(checks[2].detail, sizeof checks[2].detail, "%s", api->services->is_draining ? "draining" : "takes work");
    answer_checks(api, &request->exchange, checks, sizeof checks / sizeof checks[0]);
    api_request_release(request);
}

static void on_shard_answer(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    /* There is no such conversation, and that is the answer; any other refusal says that the shard is not well. */
    if ((*msg)->kind == CONV_REFUSED && answer->code != ERR_NOT_FOUND)
        return;
    if (++request->u.ready.answered == request->u.ready.expected)
        answer_ready(api, request);
}

static const struct api_waiter ready_waiter = {.on_answer = on_shard_answer, .on_timer = answer_ready};

/* Asks for a conversation of every shard. Ids are tried until one falls into the shard: a few each. */
static void ask_shards(struct api_request *request, uint32_t shard_count)
{
    bool is_asked[READY_SHARDS_MAX] = {false};
    uint32_t missing = shard_count;
    for (uint32_t attempt = 0; missing > 0 && attempt < 100 * shard_count; attempt++) {
        char key[JOURNAL_KEY_BYTES_MAX];
        request->conversation_size =
            (uint32_t)snprintf(request->conversation, sizeof request->conversation, "~readyz-%u", attempt);
        uint32_t key_size = conversation_key_write(api_tenant, api_request_conversation(request), key);
        uint32_t shard = (uint32_t)(conversation_key_hash(slice_of(key, key_size)).low % shard_count);
        if (is_asked[shard])
            continue;
        is_asked[shard] = true;
        missing--;
        (void)api_request_try_send(request, CONV_GET, &(struct conv_request){0}); /* unsent: it will be found missing */
    }
}

void api_handle_ready(struct api *api, const struct api_call *call)
{
    struct api_request *request = api_request_open(api, call, &ready_waiter, (struct slice){0});
    if (!request)
        return;
    uint32_t shard_count = runtime_worker_count(worker_runtime(api->worker));
    ASSERT(shard_count <= READY_SHARDS_MAX);
    request->u.ready.expected = shard_count;
    timer_start(api->worker, &request->timer, worker_now_ns(api->worker) + READY_WAIT_MS * UINT64_C(1000000));
    ask_shards(request, shard_count);
}

/* ---- live, startup ------------------------------------------------------------------------------------------------------ */

void api_handle_live(struct api *api, const struct api_call *call)
{
    const struct check checks[] = {check_loop()};
    answer_checks(api, &call->exchange, checks, 1);
}

void api_handle_startup(struct api *api, const struct api_call *call)
{
    const struct check checks[] = {check_loop(), check_journal(api)};
    answer_checks(api, &call->exchange, checks, 2);
}
