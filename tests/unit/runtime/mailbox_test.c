/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox and inbox: each transition of the word, order, the split by urgency, the cap, the end. One thread: what needs
 * several is in runtime_threads_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/mailbox.h"

static struct msg messages[64];

static struct mailbox *fresh(uint32_t count_max)
{
    static struct mailbox mailbox;
    memset(&mailbox, 0, sizeof mailbox);
    mailbox_open(&mailbox, count_max);
    return &mailbox;
}

static struct msg *message(uint16_t kind, uint8_t flags)
{
    struct msg *msg = &messages[kind];
    *msg = (struct msg){.kind = kind, .flags = flags};
    return msg;
}

static enum inbox_push push_one(struct mailbox *mailbox, struct msg *msg)
{
    return mailbox_push(mailbox, msg, msg, msg_is_counted(msg));
}

static void append(struct mailbox *mailbox, struct msg *msg)
{
    bool was_parked = inbox_is_parked(&mailbox->inbox);
    assert_int_equal(mailbox_append(mailbox, msg), was_parked);
}

static void assert_pops(struct mailbox *mailbox, const int *kinds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct msg *msg = mailbox_pop(mailbox, false);
        assert_non_null(msg);
        assert_int_equal(msg->kind, kinds[i]);
    }
    assert_null(mailbox_pop(mailbox, false));
}
#define ASSERT_POPS(mailbox, ...)                                                                                        \
    assert_pops((mailbox), (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static uint32_t count_of(const struct mailbox *mailbox)
{
    return atomic_load_relaxed(&mailbox->inbox_count) + atomic_load_relaxed(&mailbox->private_count);
}

static void only_the_push_that_unparks_is_told_so(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    assert_int_equal(push_one(mailbox, message(1, 0)), INBOX_UNPARKED);
    assert_int_equal(push_one(mailbox, message(2, 0)), INBOX_PUSHED);
    mailbox_take(mailbox);
    assert_int_equal(push_one(mailbox, message(3, 0)), INBOX_PUSHED); /* empty, not parked: the owner still looks */
    mailbox_take(mailbox);
    ASSERT_POPS(mailbox, 1, 2, 3);
}

static void park_fails_when_something_came(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    assert_true(inbox_is_parked(&mailbox->inbox));
    assert_int_equal(push_one(mailbox, message(1, 0)), INBOX_UNPARKED);
    assert_false(mailbox_try_park(mailbox));
    mailbox_take(mailbox);
    assert_true(mailbox_try_park(mailbox));
    assert_false(mailbox_try_park(mailbox)); /* parked already: not twice, or two pushes would activate */
    assert_int_equal(push_one(mailbox, message(2, 0)), INBOX_UNPARKED);
}

static void urgent_messages_overtake_normal_ones_and_keep_their_own_order(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    (void)push_one(mailbox, message(1, 0));
    (void)push_one(mailbox, message(2, MSG_URGENT));
    (void)push_one(mailbox, message(3, 0));
    (void)push_one(mailbox, message(4, MSG_URGENT));
    mailbox_take(mailbox);
    assert_int_equal(mailbox_pop(mailbox, true)->kind, 2);
    (void)push_one(mailbox, message(5, MSG_URGENT));
    mailbox_take(mailbox);
    assert_int_equal(mailbox_pop(mailbox, true)->kind, 4);
    assert_int_equal(mailbox_pop(mailbox, true)->kind, 5);
    assert_false(mailbox_is_runnable(mailbox, true));
    assert_true(mailbox_is_runnable(mailbox, false));
    assert_null(mailbox_pop(mailbox, true)); /* suspended: normal ones wait */
    ASSERT_POPS(mailbox, 1, 3);
}

static void an_append_goes_behind_what_the_inbox_holds(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    assert_true(mailbox_append(mailbox, message(1, 0))); /* was parked: the caller queues the actor */
    (void)push_one(mailbox, message(2, 0));
    (void)push_one(mailbox, message(3, 0));
    assert_false(mailbox_append(mailbox, message(4, 0)));
    ASSERT_POPS(mailbox, 1, 2, 3, 4);
}

static void an_append_after_a_foreign_unpark_leaves_the_activation_to_the_pusher(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    assert_int_equal(push_one(mailbox, message(1, 0)), INBOX_UNPARKED);
    assert_false(mailbox_append(mailbox, message(2, 0)));
    ASSERT_POPS(mailbox, 1, 2);
}

static void a_chain_comes_out_in_the_order_it_was_sent(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    (void)push_one(mailbox, message(1, 0));
    struct msg *oldest = message(2, 0), *middle = message(3, MSG_CONTROL), *newest = message(4, 0);
    newest->next = middle;
    middle->next = oldest;
    assert_int_equal(mailbox_push(mailbox, newest, oldest, 2), INBOX_PUSHED);
    assert_int_equal(count_of(mailbox), 3);
    mailbox_take(mailbox);
    ASSERT_POPS(mailbox, 1, 2, 3, 4);
    assert_int_equal(count_of(mailbox), 0);
}

static void the_cap_counts_both_lists_but_no_control_message(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(3);
    (void)push_one(mailbox, message(1, 0));
    (void)push_one(mailbox, message(2, MSG_CONTROL));
    append(mailbox, message(3, 0));
    append(mailbox, message(4, MSG_CONTROL | MSG_URGENT));
    assert_int_equal(mailbox_room(mailbox), 1);
    (void)push_one(mailbox, message(5, 0));
    assert_int_equal(mailbox_room(mailbox), 0);
    assert_int_equal(mailbox_pop(mailbox, false)->kind, 4);
    assert_int_equal(mailbox_room(mailbox), 0);
    assert_int_equal(mailbox_pop(mailbox, false)->kind, 1);
    assert_int_equal(mailbox_room(mailbox), 1);
}

static void close_refuses_pushes_and_gives_back_all_that_was_undelivered(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    append(mailbox, message(1, 0));
    append(mailbox, message(2, MSG_URGENT));
    (void)push_one(mailbox, message(3, 0));
    (void)push_one(mailbox, message(4, MSG_URGENT));
    struct msg *undelivered = mailbox_close(mailbox);
    const int expected[] = {2, 4, 1, 3};
    for (size_t i = 0; i < 4; i++, undelivered = undelivered->next)
        assert_int_equal(undelivered->kind, expected[i]);
    assert_null(undelivered);
    assert_int_equal(count_of(mailbox), 0);

    struct msg *late = message(5, 0);
    assert_int_equal(push_one(mailbox, late), INBOX_REFUSED);
    assert_int_equal(count_of(mailbox), 0);
    assert_null(mailbox_close(mailbox));
}

static void a_mailbox_opened_again_keeps_the_count_of_a_late_pusher(void **state)
{
    (void)state;
    struct mailbox *mailbox = fresh(10);
    (void)mailbox_close(mailbox);
    atomic_add_relaxed(&mailbox->inbox_count, 1); /* a pusher between its two steps */
    mailbox_open(mailbox, 5);
    atomic_sub_relaxed(&mailbox->inbox_count, 1); /* refused before the open, it takes its count back */
    assert_int_equal(count_of(mailbox), 0);
    assert_int_equal(mailbox_room(mailbox), 5);
    assert_int_equal(push_one(mailbox, message(1, 0)), INBOX_UNPARKED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_push_that_unparks_is_told_so),
        cmocka_unit_test(park_fails_when_something_came),
        cmocka_unit_test(urgent_messages_overtake_normal_ones_and_keep_their_own_order),
        cmocka_unit_test(an_append_goes_behind_what_the_inbox_holds),
        cmocka_unit_test(an_append_after_a_foreign_unpark_leaves_the_activation_to_the_pusher),
        cmocka_unit_test(a_chain_comes_out_in_the_order_it_was_sent),
        cmocka_unit_test(the_cap_counts_both_lists_but_no_control_message),
        cmocka_unit_test(close_refuses_pushes_and_gives_back_all_that_was_undelivered),
        cmocka_unit_test(a_mailbox_opened_again_keeps_the_count_of_a_late_pusher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
