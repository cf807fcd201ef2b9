/* SPDX-License-Identifier: Apache-2.0 */
/* api_routes: the one table of routes. Dispatch walks it, metrics are named from it, openapi.json is held against it by a
 * test, and an answer with a status that its route does not list is a bug (ASSERT_SLOW in api_answer.c). */
#ifndef CIRANDA_ACTORS_API_API_ROUTES_H
#define CIRANDA_ACTORS_API_API_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/http_server.h"
#include "runtime/slice.h"

struct api;
struct api_call;

enum { ROUTE_STATUSES_MAX = 12, ROUTE_PARAMETERS_MAX = 2 };

struct route {
    enum http_method method;
    const char *pattern; /* "/v1/conversations/{id}/messages" */
    const char *name;    /* operationId, and the label of its metrics: [a-z_]+ */
    void (*handle)(struct api *api, const struct api_call *call);
    const char *doc;
    const char *produces[2];               /* content types of a good answer; SSE second where it is a choice */
    uint16_t statuses[ROUTE_STATUSES_MAX]; /* all a handler may answer; ends with 0 */
};

extern const struct route api_routes[];
extern const size_t api_route_count;

/* The route of a method and path, NULL when there is none; HEAD finds GET's. `ret_parameters` gets what stands for the braces,
 * lent from `path`. With NULL, *ret_allowed is a mask (1 << method) of those that the path has: 0 means an unknown path. */
const struct route *route_find(enum http_method method, struct slice path,
                               struct slice ret_parameters[ROUTE_PARAMETERS_MAX], uint32_t *ret_allowed);

bool route_may_answer(const struct route *route, int status);

#endif
