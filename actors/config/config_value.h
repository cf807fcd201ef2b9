/* SPDX-License-Identifier: Apache-2.0 */
/* config_value: scalars of a configuration as text -> number, duration, size. Pure functions without state or texts: the
 * caller knows the place and says what is wrong.
 *
 * Strict on purpose: no sign, no leading zero (010 is 8 to some YAML readers), no blank, no unit left out.
 */
#ifndef CIRANDA_ACTORS_CONFIG_CONFIG_VALUE_H
#define CIRANDA_ACTORS_CONFIG_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/slice.h"

/* Outputs untouched on false. */
bool config_value_unsigned(struct slice text, uint64_t *ret_number);
bool config_value_decimal(struct slice text, double *ret_number); /* "0.5", "1" */
bool config_value_duration(struct slice text, uint64_t *ret_ns);  /* "250us", "500ms", "30s", "5m", "1h" */
bool config_value_bytes(struct slice text, uint64_t *ret_bytes);  /* "4096", "64KiB", "512MiB", "1GiB" */
bool config_value_is_utf8(struct slice text);                     /* shortest forms, no surrogates */
bool config_value_is_word(struct slice text, size_t size_max);    /* A-Z a-z 0-9 . _ -, at least one */
/* "127.0.0.1:7400", "[::1]:0": numeric only, as the ring takes it. */
bool config_value_is_address(struct slice text);
/* Would YAML read it, unquoted, as something other than text: a number, a truth value, null? */
bool config_value_looks_typed(struct slice text);

#endif
