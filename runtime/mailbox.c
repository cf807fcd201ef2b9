/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox: see mailbox.h. What leaves the inbox comes newest first: it is reversed once and split by urgency on the way. */
#include "runtime/mailbox.h"

void mailbox_open(struct mailbox *mailbox, uint32_t count_max)
{
    mailbox->urgent = mailbox->normal = (struct msg_list){0};
    atomic_store_relaxed(&mailbox->private_count, 0);
    atomic_store_relaxed(&mailbox->count_max, count_max);
    inbox_open(&mailbox->inbox);
}

enum inbox_push mailbox_push(struct mailbox *mailbox, struct msg *newest, struct msg *oldest, uint32_t counted)
{
    /* Counted before the push: the receiver may take, and so subtract, at once. */
    if (counted)
        atomic_add_relaxed(&mailbox->inbox_count, counted);
    enum inbox_push result = inbox_push(&mailbox->inbox, newest, oldest);
    if (result == INBOX_REFUSED && counted)
        atomic_sub_relaxed(&mailbox->inbox_count, counted);
    return result;
}

/* Returns: how many of the chain are counted. */
static uint32_t split(struct mailbox *mailbox, struct msg *newest)
{
    uint32_t counted = 0;
    for (struct msg *msg = msg_chain_reverse(newest), *next; msg; msg = next) {
        next = msg->next;
        counted += msg_is_counted(msg);
        msg_list_append(msg->flags & MSG_URGENT ? &mailbox->urgent : &mailbox->normal, msg);
    }
    return counted;
}

void mailbox_take_some(struct mailbox *mailbox)
{
    struct msg *newest = inbox_take(&mailbox->inbox);
    if (!newest)
        return;
    uint32_t counted = split(mailbox, newest);
    if (counted) {
        counter_add(&mailbox->private_count, counted);
        atomic_sub_relaxed(&mailbox->inbox_count, counted);
    }
}

struct msg *mailbox_close(struct mailbox *mailbox)
{
    uint32_t counted = split(mailbox, inbox_close(&mailbox->inbox));
    if (counted)
        atomic_sub_relaxed(&mailbox->inbox_count, counted);
    atomic_store_relaxed(&mailbox->private_count, 0);
    struct msg_list undelivered = mailbox->urgent;
    if (mailbox->normal.first)
        msg_list_append_chain(&undelivered, mailbox->normal.first, mailbox->normal.last);
    mailbox->urgent = mailbox->normal = (struct msg_list){0};
    return undelivered.first;
}
