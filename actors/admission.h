/* SPDX-License-Identifier: Apache-2.0 */
/* admission: whether one more message is taken in now, or refused at once: the one place that decides, asked by every front before
 * it has read a byte of the message, so that a refusal costs as little as it can.
 *
 * What is counted is what an overload really piles up: records that wait for the disk, of the whole process. The writer commits
 * up to 4,096 of them a flush, so a bound in records is a bound in flushes, however long one takes: no clock, no estimate, no
 * window to tune. When the disk hangs for half a minute the bound is reached, and all beyond it hears 503 in the time of a request;
 * when the disk is back the next group opens the door again. Queueing by delay (CoDel, Nichols and Jacobson 2012) was considered:
 * it needs samples, and a disk that hangs gives none.
 *
 * The queue before that one, of a shard's directory, is bounded by its mailbox. Acts (cancel, handoff, ...) and service routes are
 * not asked about here: messages that say what to leave off shorten the queue. A conversation keeps places for acts behind the
 * ones of messages, and refuses an act only when those are taken too; an erasure never (conversation_act.c).
 */
#ifndef CIRANDA_ACTORS_ADMISSION_H
#define CIRANDA_ACTORS_ADMISSION_H

#include "runtime/error.h"

struct services;

enum {
    ADMISSION_RECORDS_WAITING_MAX = 16384, /* the group being flushed and three more */
    ADMISSION_REQUESTS_WAITING_MAX = 8192, /* of a shard: some 0.2 s of work, behind which acts wait too */
};

void admission_metrics_register(void);

/* May a message enter? Returns: ERR_SHUTDOWN, ERR_OVERLOAD. Thread: the services' worker. */
MUST_USE enum err admission_check(const struct services *services);

#endif
