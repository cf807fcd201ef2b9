/* SPDX-License-Identifier: Apache-2.0 */
/* api_message: the body of POST …/messages and its headers, read for message_input. */
#ifndef CIRANDA_ACTORS_API_API_MESSAGE_H
#define CIRANDA_ACTORS_API_API_MESSAGE_H

#include <stdbool.h>

#include "actors/api/message_input.h"
#include "actors/api/problem.h"
#include "actors/protocol.h"
#include "net/http_server.h"
#include "runtime/buffer.h"

/* Fills what the client says of *ret_message: texts, on_busy, payload_hash; slices are lent from the body, `room` and
 * `metadata`, both cleared first. Returns: false with *problem filled: 400 for what no client may send, 422 for a value out
 * of range; all errors found, not only the first. */
bool message_read(const struct http_request *request, struct buffer *room, struct buffer *metadata,
                  struct conv_request *ret_message, struct problem *problem);

#endif
