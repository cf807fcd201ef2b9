/* SPDX-License-Identifier: Apache-2.0 */
/* The C client against a peer that is played byte by byte: answers out of order and in pieces, limits, lies and ends. The peer is
 * the other end of a loopback connection in this very thread: what it says is there before the client looks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/client/ciranda.h"

static struct ciranda_client *client;
static int peer, longest_wait_ms;

/* How long the client was ready to wait, whatever it then took. */
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    if (timeout_ms > longest_wait_ms)
        longest_wait_ms = timeout_ms;
    return __real_poll(fds, count, timeout_ms);
}

static void start(const struct ciranda_options *options)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof place;
    char port[16], error[256] = "";
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&place, sizeof place), 0);
    int receive_bytes = 65536; /* of the peer; fixed, or its window would grow while it does not read */
    assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&place, &size), 0);
    snprintf(port, sizeof port, "%u", ntohs(place.sin_port));
    enum ciranda_result result = ciranda_connect("127.0.0.1", port, options, &client, error, sizeof error);
    if (result != CIRANDA_OK)
        fail_msg("%s", error);
    peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    close(listener);
}

static int stop(void **state)
{
    (void)state;
    ciranda_close(client);
    client = NULL;
    close(peer);
    return 0;
}

static void say_bytes(const char *bytes, size_t size)
{
    assert_int_equal(send(peer, bytes, size, 0), size);
}
#define SAY(literal) say_bytes((literal), sizeof(literal) - 1)

static uint32_t ping(void)
{
    uint32_t call = 0;
    assert_int_equal(ciranda_start_ping(client, &call), CIRANDA_OK);
    return call;
}

static void what_is_started_leaves_as_frames(void **state)
{
    (void)state;
    start(NULL);
    const struct ciranda_message message = {.conversation_id = "c", .text = "hi", .wait_ms = 0};
    uint32_t call;
    char bytes[256];
    static const char expected[] = "\x94\x00\x01\xa4ping\x91\x80"
                                   "\x94\x00\x02\xacmessage.send\x91\x83\xaf"
                                   "conversation_id\xa1"
                                   "c\xa4text\xa2hi\xa7wait_ms\x00";
    ping();
    assert_int_equal(ciranda_start_message(client, &message, &call), CIRANDA_OK);
    assert_int_equal(ciranda_flush(client), CIRANDA_OK);
    assert_int_equal(recv(peer, bytes, sizeof bytes, 0), sizeof expected - 1);
    assert_memory_equal(bytes, expected, sizeof expected - 1);
}

static void answers_are_found_whatever_their_order(void **state)
{
    (void)state;
    start(NULL);
    struct ciranda_frame frame;
    struct ciranda_value value;
    int64_t number;
    char text[16];
    uint32_t first = ping(), second = ping(), third = ping();
    SAY("\x93\x02\xa5"
        "event\x91\x81\xa1n\xd1\xff\x00" /* a notification: n is -256 */
        "\x94\x01\x03\xc0\x01"
        "\x94\x01\x01\xc0\x82\xa1"
        "a\xa3"
        "abc\xa1"
        "b\xcd\x01\x00"
        "\x94\x01\x02\x81\xa4"
        "code\xa4"
        "busy\xc0");
    assert_int_equal(ciranda_receive_call(client, first, -1, &frame), CIRANDA_OK);
    assert_string_equal(ciranda_copy_text(frame.result, "a", text, sizeof text), "abc");
    assert_int_equal(ciranda_find(frame.result, "b", &value), CIRANDA_OK);
    assert_int_equal(ciranda_number(value, &number), CIRANDA_OK);
    assert_int_equal(number, 256);
    assert_int_equal(ciranda_find(frame.result, "c", &value), CIRANDA_NOT_FOUND);
    assert_int_equal(ciranda_receive_call(client, second, -1, &frame), CIRANDA_OK);
    assert_true(frame.is_error);
    assert_string_equal(ciranda_copy_text(frame.error, "code", text, 4), "bus"); /* cut, with its NUL */
    assert_int_equal(ciranda_receive(client, -1, &frame), CIRANDA_OK);
    assert_true(frame.is_notification);
    assert_int_equal(ciranda_find(frame.params, "n", &value), CIRANDA_OK);
    assert_int_equal(ciranda_number(value, &number), CIRANDA_OK);
    assert_int_equal(number, -256);
    assert_int_equal(ciranda_receive(client, -1, &frame), CIRANDA_OK);
    assert_int_equal(frame.call, third);
    assert_int_equal(ciranda_calls_open(client), 0);
    assert_int_equal(ciranda_receive(client, 0, &frame), CIRANDA_TIMEOUT);
}

static void an_answer_in_pieces_is_waited_for(void **state)
{
    (void)state;
    start(NULL);
    struct ciranda_frame frame;
    static const char answer[] = "\x94\x01\x01\xc0\x81\xa1"
                                 "a\xda\x00\x05"
                                 "hello";
    ping();
    for (size_t i = 0; i < sizeof answer - 2; i++) {
        say_bytes(answer + i, 1);
        assert_int_equal(ciranda_receive(client, 1, &frame), CIRANDA_TIMEOUT);
    }
    say_bytes(answer + sizeof answer - 2, 1);
    char text[16];
    assert_int_equal(ciranda_receive(client, -1, &frame), CIRANDA_OK);
    assert_string_equal(ciranda_copy_text(frame.result, "a", text, sizeof text), "hello");
}

static void calls_and_texts_over_the_limit_are_refused_here(void **state)
{
    (void)state;
    static char text[(1 << 20) + 2];
    start(&(struct ciranda_options){.calls_max = 2});
    uint32_t call;
    memset(text, 'x', sizeof text - 1);
    const struct ciranda_message long_one = {.conversation_id = "c", .text = text, .wait_ms = -1};
    assert_int_equal(ciranda_start_message(client, &long_one, &call), CIRANDA_LIMIT);
    assert_int_equal(ciranda_start_message(client, &(struct ciranda_message){.text = "x"}, &call), CIRANDA_INVALID);
    ping();
    ping();
    assert_int_equal(ciranda_start_ping(client, &call), CIRANDA_LIMIT);
    struct ciranda_frame frame;
    SAY("\x94\x01\x01\xc0\xc0");
    assert_int_equal(ciranda_receive(client, -1, &frame), CIRANDA_OK);
    assert_int_equal(ciranda_start_ping(client, &call), CIRANDA_OK);
}

static void what_is_no_answer_is_a_protocol_error(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"HTTP/1.1 400", 12},
        {"\x94\xc1", 2},
        {"\xdd\xff\xff\xff\xff", 5},
        {"\x94\x01\x01\xc0\xdb\x7f\xff\xff\xff", 9},
        {"\x94\x01\x01\xc0\xdf\xff\xff\xff\xff", 9},
        {"\x94\x07\x01\xc0\xc0", 5},
        {"\x93\x02\xa1"
         "e\xc0",
         5}, /* params that are no array */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ciranda_frame frame;
        start(NULL);
        say_bytes(cases[i].bytes, cases[i].size);
        assert_int_equal(ciranda_receive(client, 1000, &frame), CIRANDA_PROTOCOL);
        assert_true(strlen(ciranda_error_text(client)) > 0);
        stop(NULL);
    }
    start(NULL);
}

static void the_last_words_come_before_the_end(void **state)
{
    (void)state;
    start(NULL);
    struct ciranda_frame frame;
    char text[32];
    SAY("\x94\x01\xc0\x81\xa4"
        "code\xad"
        "frame_timeout\xc0");
    shutdown(peer, SHUT_WR);
    assert_int_equal(ciranda_receive(client, 1000, &frame), CIRANDA_OK);
    assert_int_equal(frame.call, 0);
    assert_true(frame.is_error);
    assert_string_equal(ciranda_copy_text(frame.error, "code", text, sizeof text), "frame_timeout");
    assert_int_equal(ciranda_receive(client, 1000, &frame), CIRANDA_CLOSED);
}

static void a_value_of_another_type_is_said_to_be(void **state)
{
    (void)state;
    start(NULL);
    struct ciranda_frame frame;
    struct ciranda_value value;
    const char *text;
    size_t size;
    int64_t number;
    int boolean;
    ping();
    SAY("\x94\x01\x01\xc0\x93\xc3\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xc7\x01\x05x");
    assert_int_equal(ciranda_receive(client, 1000, &frame), CIRANDA_OK);
    assert_int_equal(ciranda_find(frame.result, "a", &value), CIRANDA_INVALID);
    assert_int_equal(ciranda_text(frame.result, &text, &size), CIRANDA_INVALID);
    assert_int_equal(ciranda_element(frame.result, 0, &value), CIRANDA_OK);
    assert_int_equal(ciranda_boolean(value, &boolean), CIRANDA_OK);
    assert_int_equal(boolean, 1);
    assert_int_equal(ciranda_number(value, &number), CIRANDA_INVALID);
    assert_int_equal(ciranda_element(frame.result, 2, &value), CIRANDA_OK); /* behind a float: an ext */
    assert_int_equal(value.end - value.at, 4);
    assert_int_equal(ciranda_element(frame.result, 3, &value), CIRANDA_NOT_FOUND);
}

/* A server that reads nothing: until the sockets' buffers are full, and the client, with more to send, is told `end`. */
static void fill_the_socket(enum ciranda_result end)
{
    static char text[1 << 19];
    uint32_t call;
    memset(text, 'x', sizeof text - 1);
    const struct ciranda_message message = {.conversation_id = "c", .text = text, .wait_ms = -1};
    for (int ends = 0; ends < 5;) { /* the buffers may grow after the first */
        enum ciranda_result result = ciranda_start_message(client, &message, &call);
        ends = result == end ? ends + 1 : 0;
        assert_true(result == CIRANDA_OK || result == end);
    }
    longest_wait_ms = 0;
}

static void what_is_held_is_handed_out_though_nothing_can_be_sent(void **state)
{
    (void)state;
    start(&(struct ciranda_options){.timeout_ms = 20});
    struct ciranda_frame frame;
    SAY("\x94\x01\x01\xc0\x01\x94\x01\x02\xc0\x02");
    fill_the_socket(CIRANDA_TIMEOUT);
    assert_int_equal(ciranda_receive_call(client, 2, 0, &frame), CIRANDA_OK);
    assert_int_equal(frame.call, 2);
    assert_int_equal(ciranda_receive(client, 0, &frame), CIRANDA_OK);
    assert_int_equal(frame.call, 1);
    assert_int_equal(ciranda_receive(client, 0, &frame), CIRANDA_TIMEOUT);
    assert_int_equal(longest_wait_ms, 0); /* of its own timeout, not that of a send */
}

static void a_client_that_holds_its_limit_goes_on(void **state)
{
    (void)state;
    start(&(struct ciranda_options){.timeout_ms = 20, .answer_bytes_max = 4096, .held_bytes_max = 1000});
    enum { FRAMES = 30000 };
    static const char heartbeat[] = "\x93\x02\xa1h\x91\x80";
    static char bytes[FRAMES * (sizeof heartbeat - 1)];
    struct ciranda_frame frame;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = heartbeat[i % (sizeof heartbeat - 1)];
    say_bytes(bytes, sizeof bytes);
    fill_the_socket(CIRANDA_LIMIT);
    for (int i = 0; i < FRAMES; i++)
        assert_int_equal(ciranda_receive(client, 0, &frame), CIRANDA_OK);
    assert_int_equal(ciranda_receive(client, 0, &frame), CIRANDA_TIMEOUT);
}

static void nobody_there_is_told_in_plain_words(void **state)
{
    (void)state;
    char error[256] = "";
    struct ciranda_client *none = NULL;
    assert_int_equal(ciranda_connect("127.0.0.1", "1", NULL, &none, error, sizeof error), CIRANDA_SYSTEM);
    assert_non_null(strstr(error, "connect to 127.0.0.1 port 1"));
    assert_null(none);
    assert_int_equal(ciranda_connect("127.0.0.1", "1", NULL, &none, NULL, 0), CIRANDA_SYSTEM);
    ciranda_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_started_leaves_as_frames, stop),
        cmocka_unit_test_teardown(answers_are_found_whatever_their_order, stop),
        cmocka_unit_test_teardown(an_answer_in_pieces_is_waited_for, stop),
        cmocka_unit_test_teardown(calls_and_texts_over_the_limit_are_refused_here, stop),
        cmocka_unit_test_teardown(what_is_no_answer_is_a_protocol_error, stop),
        cmocka_unit_test_teardown(the_last_words_come_before_the_end, stop),
        cmocka_unit_test_teardown(a_value_of_another_type_is_said_to_be, stop),
        cmocka_unit_test_teardown(what_is_held_is_handed_out_though_nothing_can_be_sent, stop),
        cmocka_unit_test_teardown(a_client_that_holds_its_limit_goes_on, stop),
        cmocka_unit_test(nobody_there_is_told_in_plain_words),
    };
    return cmocka_run_group_tests_name("rpc_client", tests, NULL, NULL);
}
