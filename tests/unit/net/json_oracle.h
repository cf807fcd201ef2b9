/* SPDX-License-Identifier: Apache-2.0 */
/* json_oracle: what jansson makes of a text, and the check that our reader makes the same of it. Shared by json_test and
 * json_fuzz, which differ only in where texts come from.
 *
 * jansson.h and net/json.h claim the same names, so each side is a file of its own, and they meet in a description of the
 * document as text.
 */
#ifndef CIRANDA_TESTS_JSON_ORACLE_H
#define CIRANDA_TESTS_JSON_ORACLE_H

#include <stddef.h>

/* Returns: a description of the document, to be freed; NULL when jansson refuses the text. */
char *json_oracle_describe(const char *text, size_t size, size_t *ret_size);

/* Aborts with the text when the two differ. They may differ only by the limits that are ours alone: depth and open keys. */
void json_oracle_check(const char *text, size_t size);

#endif
