/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_request: what fetch.h says of a request, the same for both of its implementations. For them alone. */
#ifndef CIRANDA_NET_FETCH_REQUEST_H
#define CIRANDA_NET_FETCH_REQUEST_H

#include "net/fetch.h"

/* Checks method and headers (the URL is the caller's to check), and puts the defaults where the request has zeroes. Returns:
 * ERR_INVALID. Thread: any. */
MUST_USE enum err fetch_request_complete(const struct fetch_request *request, struct fetch_request *ret_complete,
                                         struct error *error);

/* Its bounds and callbacks, for as long as it runs; what it lends (method, URL, headers, body) is left out. Thread: any. */
struct fetch_request fetch_request_keep(const struct fetch_request *request);

#endif
