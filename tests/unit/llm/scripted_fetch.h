/* SPDX-License-Identifier: Apache-2.0 */
/* scripted_fetch: net/fetch.h played by the test: it sees what was asked, and says what is answered, when. Keeps F1 and F2:
 * nothing is called back from inside fetch_start or fetch_cancel, nothing but ERR_CANCELLED comes after a cancel. */
#ifndef CIRANDA_TESTS_SCRIPTED_FETCH_H
#define CIRANDA_TESTS_SCRIPTED_FETCH_H

#include "net/fetch.h"

enum { SCRIPTED_MAX = 256 };

struct scripted_call {
    struct fetch_request request; /* only numbers, context and callbacks are valid */
    char url[256], headers[8192], body[4096];
    bool is_cancelled, is_done;
};

extern struct scripted_call scripted[SCRIPTED_MAX];
extern uint32_t scripted_count;       /* started so far */
extern enum err scripted_start_error; /* what fetch_start says; OK: it starts */

void scripted_reset(void);
void scripted_say(uint32_t index, int status, const char *text);
void scripted_end(uint32_t index, struct fetch_result result);
void scripted_finish_cancelled(void); /* on_done of those that were cancelled */

#endif
