/* SPDX-License-Identifier: Apache-2.0 */
/* scripted_fetch: see scripted_fetch.h. Linked instead of net_curl and net_sim. */
#include "scripted_fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

struct scripted_call scripted[SCRIPTED_MAX];
uint32_t scripted_count;
enum err scripted_start_error;

void scripted_reset(void)
{
    memset(scripted, 0, sizeof scripted);
    scripted_count = 0;
    scripted_start_error = OK;
}

enum err fetch_start(struct fetch_client *client, const struct fetch_request *request, struct fetch_id *ret_id,
                     struct error *error)
{
    (void)client;
    (void)error;
    if (scripted_start_error != OK)
        return scripted_start_error;
    assert_true(scripted_count < SCRIPTED_MAX);
    struct scripted_call *const call = &scripted[scripted_count];
    size_t size = 0;
    call->request = *request;
    snprintf(call->url, sizeof call->url, "%s", request->url);
    for (const char *const *header = request->headers; *header; header++)
        size += (size_t)snprintf(call->headers + size, sizeof call->headers - size, "%s\n", *header);
    snprintf(call->body, sizeof call->body, "%.*s", SLICE_PRINT(request->body));
    *ret_id = (struct fetch_id){.index = scripted_count++, .generation = 1};
    return OK;
}

void fetch_cancel(struct fetch_client *client, struct fetch_id id)
{
    (void)client;
    assert_true(id.index < scripted_count);
    scripted[id.index].is_cancelled = true;
}

void scripted_say(uint32_t index, int status, const char *text)
{
    struct scripted_call *const call = &scripted[index];
    assert_true(index < scripted_count && !call->is_done && !call->is_cancelled);
    call->request.on_data(call->request.context, (struct fetch_id){index, 1}, status, slice_from_text(text));
}

void scripted_end(uint32_t index, struct fetch_result result)
{
    struct scripted_call *const call = &scripted[index];
    assert_true(index < scripted_count && !call->is_done);
    call->is_done = true;
    call->request.on_done(call->request.context, (struct fetch_id){index, 1}, &result);
}

void scripted_finish_cancelled(void)
{
    for (uint32_t i = 0; i < scripted_count; i++)
        if (scripted[i].is_cancelled && !scripted[i].is_done)
            scripted_end(i, (struct fetch_result){.code = ERR_CANCELLED, .status = 200});
}
