/* SPDX-License-Identifier: Apache-2.0 */
/* uuid: UUIDv7 (RFC 9562), the ids that Ciranda makes: of events and turns, and of messages that came without one.
 *
 * 48 bits of wall-clock milliseconds, 74 random bits, both from the seam (runtime/clock.h), so that a simulation makes the same
 * ids again. Not an order: ids of one millisecond are unordered, and the wall clock may jump; versions are the order. */
#ifndef CIRANDA_ACTORS_UUID_H
#define CIRANDA_ACTORS_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/slice.h"

enum { UUID_BYTES = 16, UUID_TEXT_BYTES = 36 };

void uuid_create(uint64_t wall_ms, uint8_t ret_uuid[UUID_BYTES]);
/* The one that follows it: its random tail plus one (RFC 9562, 6.2, method 2). For ids that are made together, of which one run
 * of random bits and one place in a record are then enough. */
void uuid_next(const uint8_t uuid[UUID_BYTES], uint8_t ret_uuid[UUID_BYTES]);
/* Lower case, with hyphens, no NUL. */
void uuid_format(const uint8_t uuid[UUID_BYTES], char ret_text[UUID_TEXT_BYTES]);
/* Accepts exactly that form, either case. Returns: false, *ret_uuid then undefined. */
bool uuid_parse(struct slice text, uint8_t ret_uuid[UUID_BYTES]);

#endif
