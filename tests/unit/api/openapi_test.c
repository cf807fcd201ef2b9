/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.json against the code: every route and only those, their statuses, the fields of a message; and that the document
 * hangs together. jansson reads it, since it is not ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "actors/api/api_message.h"
#include "actors/api/api_routes.h"

extern const unsigned char api_openapi_json[];
extern const size_t api_openapi_json_size;

static json_t *document;

static int load(void **state)
{
    (void)state;
    json_error_t error;
    document = json_loadb((const char *)api_openapi_json, api_openapi_json_size, JSON_REJECT_DUPLICATES, &error);
    if (!document)
        fprintf(stderr, "openapi.json:%d: %s\n", error.line, error.text);
    return document ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    json_decref(document);
    return 0;
}

static const char *method_key(enum http_method method)
{
    switch (method) {
    case HTTP_GET: return "get";
    case HTTP_HEAD: return "head";
    case HTTP_POST: return "post";
    case HTTP_PUT: return "put";
    case HTTP_DELETE: return "delete";
    case HTTP_OPTIONS: return "options";
    case HTTP_PATCH: return "patch";
    case HTTP_METHOD_COUNT: break;
    }
    return "";
}

/* What "#/components/…" points to; the value itself when it is no reference. */
static json_t *resolve(json_t *value)
{
    const char *reference = json_string_value(json_object_get(value, "$ref"));
    if (!reference)
        return value;
    assert_int_equal(strncmp(reference, "#/", 2), 0);
    json_t *at = document;
    char path[256];
    snprintf(path, sizeof path, "%s", reference + 2);
    char *rest = path;
    for (char *part; at && (part = strsep(&rest, "/"));)
        at = json_object_get(at, part);
    if (!at)
        fail_msg("%s points nowhere", reference);
    return at;
}

static json_t *operation_of(const struct route *route)
{
    json_t *path = json_object_get(json_object_get(document, "paths"), route->pattern);
    return json_object_get(path, method_key(route->method));
}

static void every_route_is_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct route *route = &api_routes[i];
        json_t *operation = operation_of(route);
        if (!operation)
            fail_msg("%s %s is not described", method_key(route->method), route->pattern);
        assert_string_equal(json_string_value(json_object_get(operation, "operationId")), route->name);
    }
}

static void everything_described_is_a_route(void **state)
{
    (void)state;
    const char *pattern, *method;
    json_t *path, *operation;
    json_object_foreach(json_object_get(document, "paths"), pattern, path)
    {
        json_object_foreach(path, method, operation)
        {
            bool is_found = false;
            for (size_t i = 0; i < api_route_count; i++)
                is_found |=
                    strcmp(api_routes[i].pattern, pattern) == 0 && strcmp(method_key(api_routes[i].method), method) == 0;
            if (!is_found)
                fail_msg("%s %s is described, but no route", method, pattern);
        }
    }
}

static void statuses_and_types_are_the_tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct route *route = &api_routes[i];
        json_t *responses = json_object_get(operation_of(route), "responses");
        size_t count = 0;
        for (; count < ROUTE_STATUSES_MAX && route->statuses[count]; count++) {
            char status[8];
            snprintf(status, sizeof status, "%d", route->statuses[count]);
            json_t *response = resolve(json_object_get(responses, status));
            if (!response)
                fail_msg("%s: status %s is not described", route->name, status);
            assert_non_null(json_object_get(response, "description"));
            assert_non_null(json_object_get(json_object_get(response, "headers"), "X-Trace-Id"));
        }
        if (count != json_object_size(responses))
            fail_msg("%s: %zu statuses in the table, %zu described", route->name, count, json_object_size(responses));
        json_t *content = json_object_get(resolve(json_object_get(responses, "200")), "content");
        for (size_t k = 0; k < 2 && route->produces[k]; k++) {
            if (!json_object_get(content, route->produces[k]))
                fail_msg("%s: %s is not described", route->name, route->produces[k]);
        }
    }
}

static void parameters_of_paths_are_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        for (const char *brace = strchr(api_routes[i].pattern, '{'); brace; brace = strchr(brace + 1, '{')) {
            size_t size = strcspn(brace + 1, "}"), index;
            bool is_found = false;
            json_t *parameter;
            json_array_foreach(json_object_get(operation_of(&api_routes[i]), "parameters"), index, parameter)
            {
                const char *name = json_string_value(json_object_get(resolve(parameter), "name"));
                const char *in = json_string_value(json_object_get(resolve(parameter), "in"));
                is_found |= strlen(name) == size && strncmp(name, brace + 1, size) == 0 && strcmp(in, "path") == 0;
            }
            if (!is_found)
                fail_msg("%s: %.*s is not described", api_routes[i].name, (int)size, brace + 1);
        }
    }
}

static void a_messages_fields_are_the_readers(void **state)
{
    (void)state;
    json_t *schema = json_object_get(json_object_get(json_object_get(document, "components"), "schemas"), "Message");
    json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    assert_int_equal(json_object_size(properties), message_field_count);
    size_t required_count = 0;
    for (size_t i = 0; i < message_field_count; i++) {
        const struct message_field *field = &message_fields[i];
        json_t *property = json_object_get(properties, field->name);
        if (!property)
            fail_msg("%s is not described", field->name);
        const char *type = json_string_value(json_object_get(property, "type"));
        assert_string_equal(type, field->size_max ? "string" : "object");
        if (field->size_max)
            assert_int_equal(json_integer_value(json_object_get(property, "maxLength")), field->size_max);
        bool is_required = false;
        for (size_t k = 0; k < json_array_size(required); k++)
            is_required |= strcmp(json_string_value(json_array_get(required, k)), field->name) == 0;
        assert_int_equal(is_required, field->is_required);
        required_count += is_required;
    }
    assert_int_equal(required_count, json_array_size(required));
}

/* Walks everything: each reference has a target, each schema's required names are properties. */
static void check_value(json_t *value)
{
    const char *key;
    json_t *child;
    size_t index;
    (void)resolve(value);
    json_t *required = json_object_get(value, "required"), *properties = json_object_get(value, "properties");
    if (json_is_array(required) && properties) {
        json_array_foreach(required, index, child)
        {
            assert_non_null(json_object_get(properties, json_string_value(child)));
        }
    }
    json_object_foreach(value, key, child)
    {
        check_value(child);
    }
    json_array_foreach(value, index, child)
    {
        check_value(child);
    }
}

static void the_document_hangs_together(void **state)
{
    (void)state;
    assert_int_equal(strncmp(json_string_value(json_object_get(document, "openapi")), "3.1", 3), 0);
    json_t *info = json_object_get(document, "info");
    assert_true(json_is_string(json_object_get(info, "title")) && json_is_string(json_object_get(info, "version")));
    check_value(document);
}

static void routes_are_distinct_and_named_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        assert_true(route_may_answer(&api_routes[i], 200));
        assert_true(route_may_answer(&api_routes[i], 500));
        assert_false(route_may_answer(&api_routes[i], 418));
        for (size_t k = i + 1; k < api_route_count; k++) {
            assert_string_not_equal(api_routes[i].name, api_routes[k].name);
            assert_false(api_routes[i].method == api_routes[k].method &&
                         strcmp(api_routes[i].pattern, api_routes[k].pattern) == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described),
        cmocka_unit_test(everything_described_is_a_route),
        cmocka_unit_test(statuses_and_types_are_the_tables),
        cmocka_unit_test(parameters_of_paths_are_described),
        cmocka_unit_test(a_messages_fields_are_the_readers),
        cmocka_unit_test(the_document_hangs_together),
        cmocka_unit_test(routes_are_distinct_and_named_apart),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
