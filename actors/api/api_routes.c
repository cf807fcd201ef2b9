/* SPDX-License-Identifier: Apache-2.0 */
/* api_routes: the table, and the walk along it. Linear on purpose: 28 short patterns that differ early cost less than a
 * hash of the path would, and the hot route stands first. */
#include "actors/api/api_routes.h"

#include "actors/api/api_internal.h"

#define JSON                                                                                                             \
    {                                                                                                                    \
        JSON_CONTENT_TYPE                                                                                                \
    }
/* What any route about one conversation may answer besides its own: bad id, no such one, cannot now. */
#define COMMON_STATUSES 400, 404, 406, 429, 503, 507, 500

const struct route api_routes[] = {
    {HTTP_POST,
     "/v1/conversations/{id}/messages",
     "send_message",
     api_handle_message,
     "Says something; creates the conversation if need be",
     {JSON_CONTENT_TYPE, SSE_CONTENT_TYPE},
     {200, 202, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_GET,
     "/v1/conversations/{id}/messages",
     "list_messages",
     api_handle_messages,
     "What was said, oldest first",
     JSON,
     {200, 422, COMMON_STATUSES}},
    {HTTP_GET,
     "/v1/conversations/{id}",
     "get_conversation",
     api_handle_get,
     "The conversation as it is now",
     JSON,
     {200, 422, COMMON_STATUSES}},
    {HTTP_GET,
     "/v1/conversations/{id}/events",
     "list_events",
     api_handle_events,
     "Its events, oldest first",
     JSON,
     {200, 422, COMMON_STATUSES}},
    {HTTP_GET,
     "/v1/conversations/{id}/stream",
     "stream_events",
     api_handle_stream,
     "Its events as they happen",
     {SSE_CONTENT_TYPE},
     {200, 422, COMMON_STATUSES}},
    {HTTP_GET,
     "/v1/conversations/{id}/turns/{turn_id}",
     "get_turn",
     api_handle_turn,
     "How a turn stands",
     JSON,
     {200, 422, COMMON_STATUSES}},
    {HTTP_GET,
     "/v1/conversations",
     "list_conversations",
     api_handle_list,
     "Conversations, a page",
     JSON,
     {200, 400, 406, 422, 503, 507, 500}},
    {HTTP_POST,
     "/v1/conversations/{id}/handoff",
     "hand_off",
     api_handle_handoff,
     "Gives the word to another speaker",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_POST,
     "/v1/conversations/{id}/cancel",
     "cancel_turn",
     api_handle_cancel,
     "Stops the running turn",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_POST,
     "/v1/conversations/{id}/park",
     "park_conversation",
     api_handle_park,
     "Takes messages but starts no turn",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_POST,
     "/v1/conversations/{id}/resume",
     "resume_conversation",
     api_handle_resume,
     "Ends the parking",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_POST,
     "/v1/conversations/{id}/close",
     "close_conversation",
     api_handle_close,
     "Takes no messages any more",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_POST,
     "/v1/conversations/{id}/reopen",
     "reopen_conversation",
     api_handle_reopen,
     "Takes messages again",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_DELETE,
     "/v1/conversations/{id}",
     "erase_conversation",
     api_handle_erase,
     "Erases all that it holds",
     JSON,
     {200, 409, 415, 422, COMMON_STATUSES}},
    {HTTP_GET, "/v1/agents", "list_agents", api_handle_agents, "The agents of the configuration", JSON, {200, 406, 500}},
    {HTTP_GET, "/v1/agents/{id}", "get_agent", api_handle_agent, "One agent", JSON, {200, 400, 404, 406, 500}},
    {HTTP_GET,
     "/v1/breakers",
     "list_breakers",
     api_handle_breakers,
     "Circuit breakers of the providers",
     JSON,
     {200, 406, 500}},
    {HTTP_GET,
     "/v1/dead-letters",
     "list_dead_letters",
     api_handle_dead_letters,
     "Messages that could not be processed",
     JSON,
     {200, 400, 406, 422, 503, 500}},
    {HTTP_GET, "/livez", "get_live", api_handle_live, "Does the process run?", JSON, {200, 406, 503, 500}},
    {HTTP_GET, "/readyz", "get_ready", api_handle_ready, "Does it take work?", JSON, {200, 406, 503, 500}},
    {HTTP_GET, "/startupz", "get_startup", api_handle_startup, "Has it started?", JSON, {200, 406, 503, 500}},
    {HTTP_GET, "/health/live", "get_live_alias", api_handle_live, "As /livez", JSON, {200, 406, 503, 500}},
    {HTTP_GET, "/health/ready", "get_ready_alias", api_handle_ready, "As /readyz", JSON, {200, 406, 503, 500}},
    {HTTP_GET, "/health/startup", "get_startup_alias", api_handle_startup, "As /startupz", JSON, {200, 406, 503, 500}},
    {HTTP_GET, "/metrics", "get_metrics", api_handle_metrics, "Prometheus text", {"text/plain"}, {200, 406, 500}},
    {HTTP_GET, "/openapi.json", "get_openapi", api_handle_openapi, "This description", JSON, {200, 406, 500}},
};
const size_t api_route_count = sizeof api_routes / sizeof api_routes[0];

/* A parameter takes one whole segment. */
static bool pattern_matches(const char *pattern, struct slice path, struct slice ret_parameters[ROUTE_PARAMETERS_MAX])
{
    size_t at = 0, parameter_count = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (at == path.size || path.data[at] != *pattern)
                return false;
            at++;
            pattern++;
            continue;
        }
        size_t start = at;
        while (at < path.size && path.data[at] != '/')
            at++;
        if (at == start)
            return false;
        ret_parameters[parameter_count++] = slice_of(path.data + start, at - start);
        pattern = strchr(pattern, '}') + 1;
    }
    return at == path.size;
}

/* A HEAD of a stream would have no end. */
static bool answers_head(const struct route *route)
{
    return route->method == HTTP_GET && strcmp(route->produces[0], SSE_CONTENT_TYPE) != 0;
}

const struct route *route_find(enum http_method method, struct slice path,
                               struct slice ret_parameters[ROUTE_PARAMETERS_MAX], uint32_t *ret_allowed)
{
    uint32_t allowed = 0;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct route *route = &api_routes[i];
        if (!pattern_matches(route->pattern, path, ret_parameters))
            continue;
        if (route->method == method || (method == HTTP_HEAD && answers_head(route)))
            return route;
        allowed |= 1u << route->method;
        if (answers_head(route))
            allowed |= 1u << HTTP_HEAD;
    }
    *ret_allowed = allowed;
    return NULL;
}

bool route_may_answer(const struct route *route, int status)
{
    for (size_t i = 0; i < ROUTE_STATUSES_MAX && route->statuses[i]; i++) {
        if (route->statuses[i] == status)
            return true;
    }
    return false;
}
