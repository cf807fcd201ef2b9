/* SPDX-License-Identifier: Apache-2.0 */
/* msg: the block that travels between actors. A message belongs to its sender, then to the mailbox, then to the receiver's
 * turn: one owner at every instant. Who takes it takes `struct msg **` and nulls it.
 *
 * Life: msg_create on a worker; fill the struct that embeds it; actor_send takes it; the receiver reads it; the runtime frees
 * it after the handler unless the handler took it (set *msg to NULL) to keep, answer or forward it.
 *
 * Not for sharing: a message is never read by two actors. A reply usually re-uses the request's block.
 */
#ifndef CIRANDA_RUNTIME_MSG_H
#define CIRANDA_RUNTIME_MSG_H

#include <stdint.h>

#include "runtime/error.h"

struct worker;

/* An actor's address: never a pointer across threads. {0,0} is nobody. */
struct actor_id {
    uint32_t slot;       /* birth worker (8 bits) and index in its slab (24 bits) */
    uint32_t generation; /* rises each time the slot is used again */
};

static inline bool actor_id_is_equal(struct actor_id a, struct actor_id b)
{
    return a.slot == b.slot && a.generation == b.generation;
}
static inline bool actor_id_is_none(struct actor_id id)
{
    return id.slot == 0 && id.generation == 0;
}

enum {
    MSG_URGENT = 1 << 0,  /* runs before normal messages and also while the actor is suspended */
    MSG_CONTROL = 1 << 1, /* never refused by a full mailbox (journal answers, timers, exits, takeovers) */
};

/* Kinds are one number space: each part owns a range, so that a stray message is recognised. */
enum {
    MSG_KIND_RUNTIME = 0x0000, /* exit, start, timer: see actor.h, supervisor.h */
    MSG_KIND_NET = 0x1000,
    MSG_KIND_STORAGE = 0x2000,
    MSG_KIND_ACTORS = 0x3000,
    MSG_KIND_TEST = 0xF000,
};

struct msg {
    struct msg *next; /* mailbox, lane or pool list: exactly one of them at a time */
    struct actor_id to;
    uint32_t size; /* of the whole block, this header included */
    uint16_t kind;
    uint8_t flags;
    uint8_t home; /* index of the worker whose pool it goes back to */
};

/* What a new block has zeroed of it: every struct that embeds a msg fits; texts behind it are the caller's to write. */
enum { MSG_CLEARED_BYTES = 1024 };

/* Thread: that worker's. Owns: the caller gets the block, header filled, the rest zeroed up to MSG_CLEARED_BYTES. Returns:
 * NULL when over the memory cap: refuse the work (ERR_NO_MEMORY) rather than wait. */
MUST_USE struct msg *msg_create(struct worker *worker, uint16_t kind, uint8_t flags, uint32_t size);
#define MSG_CREATE(worker, type, kind, flags)                                                                            \
    ((type *)(void *)msg_create((worker), (kind), (flags),                                                               \
                                (uint32_t)sizeof(type) + 0 * sizeof(char[sizeof(type) <= MSG_CLEARED_BYTES ? 1 : -1])))

/* Thread: any worker's (`worker` is the current one); blocks of other homes go back in batches. Nulls *msg. Accepts NULL
 * inside. */
void msg_destroy(struct worker *worker, struct msg **msg);

/* As msg_destroy, for a message that reaches nobody: counted as a dead letter, with all that an exit notice still carries, and
 * shown to runtime_options.on_drop before.
 * The second takes a whole chain (msg.next). */
void msg_drop(struct worker *worker, struct msg *msg);
void msg_drop_chain(struct worker *worker, struct msg *chain);

#endif
