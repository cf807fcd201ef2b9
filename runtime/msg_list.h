/* SPDX-License-Identifier: Apache-2.0 */
/* msg_list: a FIFO of messages linked by msg.next. Zeroed is empty. Thread: its owner's; nothing here is atomic. */
#ifndef CIRANDA_RUNTIME_MSG_LIST_H
#define CIRANDA_RUNTIME_MSG_LIST_H

#include <stddef.h>

#include "runtime/msg.h"

struct msg_list {
    struct msg *first;
    struct msg *last; /* undefined while first is NULL */
};

static inline void msg_list_append(struct msg_list *list, struct msg *msg)
{
    msg->next = NULL;
    if (list->first)
        list->last->next = msg;
    else
        list->first = msg;
    list->last = msg;
}

/* `first` to `last` are linked already, and last->next is NULL. */
static inline void msg_list_append_chain(struct msg_list *list, struct msg *first, struct msg *last)
{
    if (list->first)
        list->last->next = first;
    else
        list->first = first;
    list->last = last;
}

static inline struct msg *msg_list_pop(struct msg_list *list)
{
    struct msg *msg = list->first;
    if (msg)
        list->first = msg->next;
    return msg;
}

/* Returns: the chain in the other direction. */
static inline struct msg *msg_chain_reverse(struct msg *chain)
{
    struct msg *reversed = NULL;
    while (chain) {
        struct msg *next = chain->next;
        chain->next = reversed;
        reversed = chain;
        chain = next;
    }
    return reversed;
}

#endif
