/* SPDX-License-Identifier: Apache-2.0 */
/* http_target: the characters of a request target. Percent-escapes are decoded exactly once, here; what the path decodes to
 * can neither leave its folder ("..", "%2e%2e", backslash) nor hide a separator ("%2f") nor break a line ("%0d%0a"). */
#ifndef CIRANDA_NET_HTTP_TARGET_H
#define CIRANDA_NET_HTTP_TARGET_H

#include <stdbool.h>

#include "net/http1.h"
#include "runtime/slice.h"

/* Checks an absolute path ("/…", without query). Returns: HTTP1_ACCEPTED, or why not; whether it has escapes. */
enum http1_reason http_path_check(struct slice raw, bool *ret_has_escape);

/* Decodes a path that was accepted. Returns: the size written, at most raw.size. */
size_t http_path_decode(struct slice raw, char *ret_path);

enum http1_reason http_query_check(struct slice raw);

/* "example.org", "127.0.0.1:7400", "[::1]:80": one host, non-empty, no user, port of 1 to 5 digits. */
bool http_authority_is_valid(struct slice authority);

#endif
