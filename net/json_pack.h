/* SPDX-License-Identifier: Apache-2.0 */
/* json_pack: a JSON value written as MessagePack, for answers that exist as JSON: member by member, in their order.
 *
 * Numbers without fraction and exponent that fit 64 bits become integers, others doubles. Each container is counted before it is
 * written, so that it gets the shortest head: two passes over what it holds, at each level. Pure. Callers: actors/rpc. */
#ifndef CIRANDA_NET_JSON_PACK_H
#define CIRANDA_NET_JSON_PACK_H

#include "net/json.h"
#include "net/pack.h"

/* Appends one value that json_validate accepted. The buffer remembers an overflow. */
void json_pack(struct buffer *out, struct json_value value);

#endif
