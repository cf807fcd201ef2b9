/* SPDX-License-Identifier: Apache-2.0 */
/* json_oracle: our reader's side, and the comparison. */
#include <stdio.h>
#include <stdlib.h>

#include "json_oracle.h"
#include "net/json.h"

static void describe_string(FILE *out, struct json_value value)
{
    char *buffer = malloc(value.raw.size);
    struct slice text;
    if (!buffer || json_string(value, buffer, value.raw.size, &text) != OK)
        abort();
    fprintf(out, "s%zu:", text.size);
    fwrite(text.data, 1, text.size, out);
    free(buffer);
}

static void describe_number(FILE *out, struct json_value value)
{
    char *text = strndup(value.raw.data, value.raw.size);
    if (!text)
        abort();
    fprintf(out, "n%.17g;", strtod(text, NULL));
    free(text);
}

static void describe(FILE *out, struct json_value value)
{
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value inner;
    switch (value.type) {
    case JSON_OBJECT:
        fputc('{', out);
        while (json_next_member(value, &iterator, &raw_key, &inner)) {
            describe_string(
                out, (struct json_value){.type = JSON_STRING, .raw = slice_of(raw_key.data - 1, raw_key.size + 2)});
            describe(out, inner);
        }
        fputc('}', out);
        return;
    case JSON_ARRAY:
        fputc('[', out);
        while (json_next_element(value, &iterator, &inner))
            describe(out, inner);
        fputc(']', out);
        return;
    case JSON_STRING: describe_string(out, value); return;
    case JSON_NUMBER: describe_number(out, value); return;
    case JSON_BOOL: fputc(json_is_true(value) ? 't' : 'f', out); return;
    case JSON_NULL: fputc('0', out); return;
    }
}

static char *describe_ours(struct slice text, size_t *ret_size, struct json_problem *ret_problem)
{
    struct json_value root;
    if (json_validate(text, &root, ret_problem) != OK)
        return NULL;
    char *description = NULL;
    FILE *out = open_memstream(&description, ret_size);
    if (!out)
        abort();
    describe(out, root);
    fclose(out);
    return description;
}

static _Noreturn void differ(struct slice text, const char *what)
{
    fprintf(stderr, "json differs from jansson: %s: %.*s\n", what, SLICE_PRINT(text));
    abort();
}

void json_oracle_check(const char *data, size_t size)
{
    struct slice text = slice_of(data, size);
    struct json_problem problem;
    size_t our_size = 0, their_size = 0;
    char *ours = describe_ours(text, &our_size, &problem);
    bool has_nul = size > 0 && memchr(data, '\0', size); /* the end of the text to jansson, an error to us */
    char *theirs = has_nul ? NULL : json_oracle_describe(data, size, &their_size);
    if (ours && !theirs)
        differ(text, "accepted here only");
    bool is_our_limit = !ours && (strcmp(problem.reason, "nested too deeply") == 0 ||
                                  strcmp(problem.reason, "too many members in the objects open here") == 0);
    if (!ours && theirs && !is_our_limit)
        differ(text, problem.reason);
    if (!ours && problem.offset > size)
        differ(text, "problem beyond the end");
    if (ours && theirs && !slice_is_equal(slice_of(ours, our_size), slice_of(theirs, their_size)))
        differ(text, "another document");
    free(ours);
    free(theirs);
}
