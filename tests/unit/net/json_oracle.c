/* SPDX-License-Identifier: Apache-2.0 */
/* json_oracle: jansson's side. */
#include "json_oracle.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void describe_string(FILE *out, const char *text, size_t size)
{
    fprintf(out, "s%zu:", size);
    fwrite(text, 1, size, out);
}

static void describe(FILE *out, json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: {
        const char *key;
        size_t key_size;
        json_t *member;
        fputc('{', out);
        json_object_keylen_foreach(value, key, key_size, member)
        {
            describe_string(out, key, key_size);
            describe(out, member);
        }
        fputc('}', out);
        return;
    }
    case JSON_ARRAY: {
        fputc('[', out);
        for (size_t i = 0; i < json_array_size(value); i++)
            describe(out, json_array_get(value, i));
        fputc(']', out);
        return;
    }
    case JSON_STRING: describe_string(out, json_string_value(value), json_string_length(value)); return;
    case JSON_INTEGER:
    case JSON_REAL: fprintf(out, "n%.17g;", json_number_value(value)); return;
    case JSON_TRUE: fputc('t', out); return;
    case JSON_FALSE: fputc('f', out); return;
    case JSON_NULL: fputc('0', out); return;
    }
}

char *json_oracle_describe(const char *text, size_t size, size_t *ret_size)
{
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    if (!root)
        return NULL;
    char *description = NULL;
    FILE *out = open_memstream(&description, ret_size);
    if (!out)
        abort();
    describe(out, root);
    fclose(out);
    json_decref(root);
    return description;
}
