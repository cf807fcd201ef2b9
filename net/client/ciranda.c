/* SPDX-License-Identifier: Apache-2.0 */
/* One non-blocking socket, one buffer each way. A frame ends where nothing more is owed: each head takes one value off the debt
 * and adds its elements to it, so the scan needs no stack and goes on where it stopped. Answers stay in the receive buffer and
 * are lent from it; one that is taken out of turn is moved into a buffer of its own.
 *
 * It stands outside the seam (runtime/ring.h) since it runs in other people's programs. */
#include "net/client/ciranda.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLUSH_BYTES = 32768, RECEIVE_BYTES = 65536, REQUEST_BYTES_MAX = 1 << 20 };

struct bytes {
    unsigned char *data;
    size_t size, capacity;
};

struct ciranda_client {
    struct ciranda_options options;
    int fd;
    uint32_t next_call, calls_open;
    struct bytes out;
    struct bytes in;
    size_t in_taken;    /* from here on it is not yet given out */
    struct bytes taken; /* the answer that was taken out of turn */
    size_t scan_at;     /* the frames from in_taken to here are whole */
    size_t frame_at;    /* how far the scan of the next one is */
    uint64_t frame_owed;
    int has_peer_closed;
    char error[256];
};

const char *ciranda_result_text(enum ciranda_result result)
{
    switch (result) {
    case CIRANDA_OK: return "ok";
    case CIRANDA_TIMEOUT: return "timed out";
    case CIRANDA_LIMIT: return "over a limit of the client";
    case CIRANDA_INVALID: return "invalid argument, or a value of another type";
    case CIRANDA_NOT_FOUND: return "no such field";
    case CIRANDA_NO_MEMORY: return "out of memory";
    case CIRANDA_CLOSED: return "the server closed the connection";
    case CIRANDA_SYSTEM: return "a system call failed";
    case CIRANDA_PROTOCOL: return "the server sent something else than MessagePack-RPC, or too much of it";
    }
    return "unknown";
}

static enum ciranda_result fail(struct ciranda_client *client, enum ciranda_result result, const char *what)
{
    if (result == CIRANDA_SYSTEM)
        snprintf(client->error, sizeof client->error, "%s: %s", what, strerror(errno));
    else
        snprintf(client->error, sizeof client->error, "%s: %s", what, ciranda_result_text(result));
    return result;
}

const char *ciranda_error_text(const struct ciranda_client *client)
{
    return client->error;
}

uint32_t ciranda_calls_open(const struct ciranda_client *client)
{
    return client->calls_open;
}

/* ---- bytes --------------------------------------------------------------------------------------------------------------- */

static int reserve(struct bytes *bytes, size_t size)
{
    if (size <= bytes->capacity - bytes->size)
        return 1;
    size_t capacity = bytes->capacity ? bytes->capacity : 4096;
    while (capacity - bytes->size < size)
        capacity *= 2;
    unsigned char *data = realloc(bytes->data, capacity);
    if (!data)
        return 0;
    bytes->data = data;
    bytes->capacity = capacity;
    return 1;
}

static void remove_front(struct bytes *bytes, size_t size)
{
    if (size > 0 && size < bytes->size)
        memmove(bytes->data, bytes->data + size, bytes->size - size);
    bytes->size -= size;
}

/* ---- time ---------------------------------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t deadline_after(const struct ciranda_client *client, int timeout_ms)
{
    return now_ms() + (timeout_ms < 0 ? client->options.timeout_ms : timeout_ms);
}

/* Returns: 1 when one of `events` is there, 0 when the deadline has passed, -1 with errno. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        int64_t left = deadline_ms - now_ms();
        struct pollfd poller = {.fd = fd, .events = events};
        int count = poll(&poller, 1, left > 0 ? (int)left : 0);
        if (count > 0)
            return poller.revents;
        if (count == 0 && left <= 0)
            return 0;
        if (count < 0 && errno != EINTR)
            return -1;
    }
}

/* ---- connecting ---------------------------------------------------------------------------------------------------------- */

static int connect_to(const struct addrinfo *address, int64_t deadline_ms)
{
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->ai_protocol);
    if (fd < 0)
        return -1;
    int one = 1, failure = 0;
    socklen_t size = sizeof failure;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* only slower without */
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    if (errno == EINPROGRESS) {
        int ready = wait_for(fd, POLLOUT, deadline_ms);
        if (ready > 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 && failure == 0)
            return fd;
        errno = ready == 0 ? ETIMEDOUT : failure ? failure : errno;
    }
    failure = errno;
    close(fd);
    errno = failure;
    return -1;
}

static int connect_to_any(const char *host, const char *port, int64_t deadline_ms, char *error, size_t error_size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *addresses = NULL;
    int code = getaddrinfo(host, port, &hints, &addresses), fd = -1;
    if (code != 0) {
        snprintf(error, error_size, "look up %s port %s: %s", host, port, gai_strerror(code));
        return -1;
    }
    for (const struct addrinfo *address = addresses; address && fd < 0; address = address->ai_next)
        fd = connect_to(address, deadline_ms);
    if (fd < 0)
        snprintf(error, error_size, "connect to %s port %s: %s", host, port, strerror(errno));
    freeaddrinfo(addresses);
    return fd;
}

static void set_defaults(struct ciranda_options *options)
{
    if (options->connect_timeout_ms == 0)
        options->connect_timeout_ms = 5000;
    if (options->timeout_ms == 0)
        options->timeout_ms = 30000;
    if (options->calls_max == 0)
        options->calls_max = 1024;
    if (options->answer_bytes_max == 0)
        options->answer_bytes_max = (size_t)16 << 20;
    if (options->held_bytes_max == 0)
        options->held_bytes_max = (size_t)64 << 20;
    if (options->held_bytes_max < options->answer_bytes_max)
        options->held_bytes_max = options->answer_bytes_max; /* or a whole frame would never be there */
}

enum ciranda_result ciranda_connect(const char *host, const char *port, const struct ciranda_options *options,
                                    struct ciranda_client **ret_client, char *ret_error, size_t error_size)
{
    char unused[1];
    char *error = ret_error && error_size ? ret_error : unused;
    size_t size = ret_error && error_size ? error_size : sizeof unused;
    struct ciranda_client *client = calloc(1, sizeof *client);
    if (!client) {
        snprintf(error, size, "connect: %s", ciranda_result_text(CIRANDA_NO_MEMORY));
        return CIRANDA_NO_MEMORY;
    }
    if (options)
        client->options = *options;
    set_defaults(&client->options);
    client->next_call = 1;
    client->frame_owed = 1;
    client->fd = connect_to_any(host, port, now_ms() + client->options.connect_timeout_ms, error, size);
    if (client->fd < 0) {
        free(client);
        return CIRANDA_SYSTEM;
    }
    *ret_client = client;
    return CIRANDA_OK;
}

void ciranda_close(struct ciranda_client *client)
{
    if (!client)
        return;
    close(client->fd);
    free(client->out.data);
    free(client->in.data);
    free(client->taken.data);
    free(client);
}

/* ---- MessagePack, written ------------------------------------------------------------------------------------------------ */

/* Room was made by the caller. */
static void put(struct bytes *out, const void *data, size_t size)
{
    memcpy(out->data + out->size, data, size);
    out->size += size;
}

static void put_head(struct bytes *out, unsigned char type, uint64_t value, int bytes)
{
    unsigned char head[9] = {type};
    for (int i = 0; i < bytes; i++)
        head[1 + i] = (unsigned char)(value >> 8 * (bytes - 1 - i));
    put(out, head, 1 + (size_t)bytes);
}

static void put_text(struct bytes *out, const char *text)
{
    size_t size = strlen(text);
    if (size < 32)
        put_head(out, (unsigned char)(0xA0 | size), 0, 0);
    else if (size <= 0xFFFF)
        put_head(out, 0xDA, size, 2);
    else
        put_head(out, 0xDB, size, 4);
    put(out, text, size);
}

static void put_number(struct bytes *out, uint64_t number)
{
    if (number < 128)
        put_head(out, (unsigned char)number, 0, 0);
    else if (number <= UINT32_MAX)
        put_head(out, 0xCE, number, 4);
    else
        put_head(out, 0xCF, number, 8);
}

/* A field of params: a text, or with text NULL a number. */
struct field {
    const char *key, *text;
    int64_t number; /* below 0: the field is left out */
};

static int is_present(const struct field *field)
{
    return field->text || field->number >= 0;
}

static size_t size_at_most(const struct field *fields, size_t count)
{
    enum { HEADS = 10, FRAME = 64 };
    size_t size = FRAME;
    for (size_t i = 0; i < count; i++) {
        size_t text_size = fields[i].text ? strlen(fields[i].text) : 0;
        if (text_size > REQUEST_BYTES_MAX)
            return SIZE_MAX;
        size += strlen(fields[i].key) + text_size + 2 * HEADS;
    }
    return size;
}

/* [0, call, method, [{fields}]] */
static enum ciranda_result start_call(struct ciranda_client *client, const char *method, const struct field *fields,
                                      size_t count, uint32_t *ret_call)
{
    size_t size = size_at_most(fields, count);
    if (client->calls_open >= client->options.calls_max || size > REQUEST_BYTES_MAX)
        return fail(client, CIRANDA_LIMIT, method);
    if (client->out.size > FLUSH_BYTES) {
        enum ciranda_result result = ciranda_flush(client);
        if (result != CIRANDA_OK)
            return result;
    }
    if (!reserve(&client->out, size))
        return fail(client, CIRANDA_NO_MEMORY, method);
    unsigned char pairs = 0;
    for (size_t i = 0; i < count; i++)
        pairs = (unsigned char)(pairs + is_present(&fields[i]));
    put(&client->out, "\x94\x00", 2);
    put_number(&client->out, client->next_call);
    put_text(&client->out, method);
    put_head(&client->out, 0x91, 0, 0);
    put_head(&client->out, (unsigned char)(0x80 | pairs), 0, 0);
    for (size_t i = 0; i < count; i++) {
        if (!is_present(&fields[i]))
            continue;
        put_text(&client->out, fields[i].key);
        if (fields[i].text)
            put_text(&client->out, fields[i].text);
        else
            put_number(&client->out, (uint64_t)fields[i].number);
    }
    *ret_call = client->next_call;
    client->next_call = client->next_call == UINT32_MAX ? 1 : client->next_call + 1;
    client->calls_open++;
    return CIRANDA_OK;
}

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum ciranda_result ciranda_start_ping(struct ciranda_client *client, uint32_t *ret_call)
{
    return start_call(client, "ping", NULL, 0, ret_call);
}

enum ciranda_result ciranda_start_message(struct ciranda_client *client, const struct ciranda_message *message,
                                          uint32_t *ret_call)
{
    if (!message->conversation_id || !message->text)
        return fail(client, CIRANDA_INVALID, "a message needs conversation_id and text");
    const struct field fields[] = {
        {"conversation_id", message->conversation_id, -1},
        {"text", message->text, -1},
        {"message_id", message->message_id, -1},
        {"customer_id", message->customer_id, -1},
        {"channel", message->channel, -1},
        {"agent", message->agent, -1},
        {"from", message->from, -1},
        {"on_busy", message->on_busy, -1},
        {"trace_id", message->trace_id, -1},
        {"wait_ms", NULL, message->wait_ms},
    };
    return start_call(client, "message.send", fields, COUNT(fields), ret_call);
}

enum ciranda_result ciranda_start_conversation(struct ciranda_client *client, const char *conversation_id,
                                               uint32_t *ret_call)
{
    const struct field fields[] = {{"conversation_id", conversation_id, -1}};
    return start_call(client, "conversation.get", fields, COUNT(fields), ret_call);
}

enum ciranda_result ciranda_start_events(struct ciranda_client *client, const char *conversation_id, uint64_t after,
                                         uint32_t limit, uint32_t *ret_call)
{
    const struct field fields[] = {
        {"conversation_id", conversation_id, -1}, {"after", NULL, (int64_t)after}, {"limit", NULL, limit}};
    return start_call(client, "events.read", fields, COUNT(fields), ret_call);
}

enum ciranda_result ciranda_start_subscribe(struct ciranda_client *client, const char *conversation_id, uint64_t after,
                                            uint32_t *ret_call)
{
    const struct field fields[] = {{"conversation_id", conversation_id, -1}, {"after", NULL, (int64_t)after}};
    return start_call(client, "events.subscribe", fields, COUNT(fields), ret_call);
}

enum ciranda_result ciranda_start_unsubscribe(struct ciranda_client *client, uint32_t subscription, uint32_t *ret_call)
{
    const struct field fields[] = {{"subscription", NULL, subscription}};
    return start_call(client, "events.unsubscribe", fields, COUNT(fields), ret_call);
}

/* ---- the socket ---------------------------------------------------------------------------------------------------------- */

/* Takes what is there. */
static enum ciranda_result receive_some(struct ciranda_client *client)
{
    if (client->in.size - client->in_taken > client->options.held_bytes_max)
        return fail(client, CIRANDA_LIMIT, "answers that nobody asked for fill held_bytes_max");
    if (!reserve(&client->in, RECEIVE_BYTES))
        return fail(client, CIRANDA_NO_MEMORY, "receive");
    ssize_t size = recv(client->fd, client->in.data + client->in.size, RECEIVE_BYTES, 0);
    if (size > 0)
        client->in.size += (size_t)size;
    else if (size == 0 || errno == ECONNRESET)
        client->has_peer_closed = 1;
    else if (errno != EAGAIN && errno != EINTR)
        return fail(client, CIRANDA_SYSTEM, "receive");
    return CIRANDA_OK;
}

/* Sends what the socket takes now. */
static enum ciranda_result send_some(struct ciranda_client *client)
{
    size_t sent = 0;
    while (sent < client->out.size) {
        ssize_t size = send(client->fd, client->out.data + sent, client->out.size - sent, MSG_NOSIGNAL);
        if (size > 0)
            sent += (size_t)size;
        else if (errno == EAGAIN)
            break;
        else if (errno == EPIPE || errno == ECONNRESET)
            return fail(client, CIRANDA_CLOSED, "send");
        else if (errno != EINTR)
            return fail(client, CIRANDA_SYSTEM, "send");
    }
    remove_front(&client->out, sent);
    return CIRANDA_OK;
}

/* Waits until the socket has something or takes something, and does both: whoever waits for the one must not hold up the other.
 * Receives first: what the server said before it closed is still there. */
static enum ciranda_result exchange_some(struct ciranda_client *client, int64_t deadline_ms, const char *what)
{
    int events = (client->has_peer_closed ? 0 : POLLIN) | (client->out.size > 0 ? POLLOUT : 0);
    int ready = wait_for(client->fd, (short)events, deadline_ms);
    if (ready <= 0)
        return fail(client, ready == 0 ? CIRANDA_TIMEOUT : CIRANDA_SYSTEM, what);
    enum ciranda_result result = ready & ~POLLOUT && !client->has_peer_closed ? receive_some(client) : CIRANDA_OK;
    return result == CIRANDA_OK ? send_some(client) : result;
}

enum ciranda_result ciranda_flush(struct ciranda_client *client)
{
    int64_t deadline_ms = deadline_after(client, -1);
    enum ciranda_result result = send_some(client);
    while (result == CIRANDA_OK && client->out.size > 0)
        result = exchange_some(client, deadline_ms, "send");
    return result;
}

/* ---- MessagePack, read --------------------------------------------------------------------------------------------------- */

enum kind { MORE, NIL, BOOLEAN, NUMBER, OTHER, TEXT, ARRAY, MAP, WRONG };

/* The first bytes of a value: what it is, its number or count, and how many bytes of its own follow. */
struct head {
    enum kind kind;
    size_t size;
    uint64_t value, body;
};

/* What begins with each byte from 0xC0 to 0xDF; `length` bytes of number follow the type byte. */
static const struct {
    unsigned char kind, length, body; /* body: bytes behind the head; 255: as many as the number says */
} types[32] = {
    {NIL, 0, 0},     {WRONG, 0, 0},   {BOOLEAN, 0, 0}, {BOOLEAN, 0, 0}, /* nil, never used, false, true */
    {OTHER, 1, 255}, {OTHER, 2, 255}, {OTHER, 4, 255},                  /* bin */
    {OTHER, 1, 255}, {OTHER, 2, 255}, {OTHER, 4, 255},                  /* ext: and a type byte */
    {OTHER, 4, 0},   {OTHER, 8, 0},                                     /* float */
    {NUMBER, 1, 0},  {NUMBER, 2, 0},  {NUMBER, 4, 0},  {NUMBER, 8, 0},  /* unsigned */
    {NUMBER, 1, 0},  {NUMBER, 2, 0},  {NUMBER, 4, 0},  {NUMBER, 8, 0},  /* signed */
    {OTHER, 0, 2},   {OTHER, 0, 3},   {OTHER, 0, 5},   {OTHER, 0, 9},   /* fixext 1, 2, 4, 8 */
    {OTHER, 0, 17},  {TEXT, 1, 255},  {TEXT, 2, 255},  {TEXT, 4, 255},  /* fixext 16, str */
    {ARRAY, 2, 0},   {ARRAY, 4, 0},   {MAP, 2, 0},     {MAP, 4, 0},
};
enum {
    FIRST_TYPE = 0xC0,
    EXT_FIRST = 0xC7,
    EXT_LAST = 0xC9,
    SIGNED_FIRST = 0xD0,
    SIGNED_LAST = 0xD3,
    BODY_BY_NUMBER = 255
};

static struct head head_of(const unsigned char *at, size_t size)
{
    struct head head = {MORE, 1, 0, 0};
    if (size == 0)
        return head;
    unsigned char byte = at[0];
    if (byte <= 0x7F || byte >= 0xE0)
        return (struct head){NUMBER, 1, (uint64_t)(int64_t)(signed char)byte, 0};
    if (byte <= 0x8F)
        return (struct head){MAP, 1, byte & 0x0Fu, 0};
    if (byte <= 0x9F)
        return (struct head){ARRAY, 1, byte & 0x0Fu, 0};
    if (byte <= 0xBF)
        return (struct head){TEXT, 1, byte & 0x1Fu, byte & 0x1Fu};
    size_t length = types[byte - FIRST_TYPE].length;
    if (size < 1 + length)
        return head;
    for (size_t i = 1; i <= length; i++)
        head.value = head.value << 8 | at[i];
    if (byte >= SIGNED_FIRST && byte <= SIGNED_LAST && head.value >> (8 * length - 1))
        head.value |= length < 8 ? ~UINT64_C(0) << 8 * length : 0;
    head.kind = (enum kind)types[byte - FIRST_TYPE].kind;
    head.size = 1 + length;
    head.body = types[byte - FIRST_TYPE].body;
    if (head.body == BODY_BY_NUMBER)
        head.body = head.value + (byte >= EXT_FIRST && byte <= EXT_LAST);
    if (head.kind == BOOLEAN)
        head.value = byte & 1u;
    return head;
}

static uint64_t elements_of(const struct head *head)
{
    return head->kind == MAP ? 2 * head->value : head->kind == ARRAY ? head->value : 0;
}

/* Values of a frame that was scanned are whole. Returns: behind the value. */
static const unsigned char *behind(const unsigned char *at, const unsigned char *end)
{
    for (uint64_t owed = 1; owed > 0 && at < end; owed--) {
        struct head head = head_of(at, (size_t)(end - at));
        at += head.size + head.body;
        owed += elements_of(&head);
    }
    return at;
}

enum ciranda_result ciranda_element(struct ciranda_value array, uint32_t index, struct ciranda_value *ret_value)
{
    struct head head = head_of(array.at, (size_t)(array.end - array.at));
    if (head.kind != ARRAY)
        return CIRANDA_INVALID;
    if (index >= head.value)
        return CIRANDA_NOT_FOUND;
    const unsigned char *at = array.at + head.size;
    while (index-- > 0)
        at = behind(at, array.end);
    *ret_value = (struct ciranda_value){at, behind(at, array.end)};
    return CIRANDA_OK;
}

enum ciranda_result ciranda_text(struct ciranda_value value, const char **ret_text, size_t *ret_size)
{
    struct head head = head_of(value.at, (size_t)(value.end - value.at));
    if (head.kind != TEXT)
        return CIRANDA_INVALID;
    *ret_text = (const char *)value.at + head.size;
    *ret_size = (size_t)head.body;
    return CIRANDA_OK;
}

enum ciranda_result ciranda_find(struct ciranda_value map, const char *key, struct ciranda_value *ret_value)
{
    struct head head = head_of(map.at, (size_t)(map.end - map.at));
    if (head.kind != MAP)
        return CIRANDA_INVALID;
    const unsigned char *at = map.at + head.size;
    for (uint64_t i = 0; i < head.value; i++) {
        const char *text;
        size_t size;
        const unsigned char *value = behind(at, map.end);
        int is_it = ciranda_text((struct ciranda_value){at, value}, &text, &size) == CIRANDA_OK && size == strlen(key) &&
                    memcmp(text, key, size) == 0;
        at = behind(value, map.end);
        if (is_it) {
            *ret_value = (struct ciranda_value){value, at};
            return CIRANDA_OK;
        }
    }
    return CIRANDA_NOT_FOUND;
}

enum ciranda_result ciranda_number(struct ciranda_value value, int64_t *ret_number)
{
    struct head head = head_of(value.at, (size_t)(value.end - value.at));
    if (head.kind != NUMBER)
        return CIRANDA_INVALID;
    *ret_number = (int64_t)head.value;
    return CIRANDA_OK;
}

enum ciranda_result ciranda_boolean(struct ciranda_value value, int *ret_boolean)
{
    struct head head = head_of(value.at, (size_t)(value.end - value.at));
    if (head.kind != BOOLEAN)
        return CIRANDA_INVALID;
    *ret_boolean = (int)head.value;
    return CIRANDA_OK;
}

char *ciranda_copy_text(struct ciranda_value map, const char *key, char *buffer, size_t size)
{
    struct ciranda_value value;
    const char *text = "";
    size_t text_size = 0;
    if (ciranda_find(map, key, &value) == CIRANDA_OK)
        (void)ciranda_text(value, &text, &text_size); /* no text: "" */
    if (text_size >= size)
        text_size = size - 1;
    memcpy(buffer, text, text_size);
    buffer[text_size] = '\0';
    return buffer;
}

/* ---- receiving ----------------------------------------------------------------------------------------------------------- */

/* Goes on with the scan of the frame at scan_at. Returns: CIRANDA_OK: it is whole, and scan_at behind it. */
static enum ciranda_result scan_frame(struct ciranda_client *client)
{
    while (client->frame_owed > 0) {
        size_t at = client->scan_at + client->frame_at;
        struct head head = head_of(client->in.data + at, client->in.size - at);
        if (head.kind == MORE)
            return CIRANDA_TIMEOUT;
        uint64_t used = head.size + head.body, elements = elements_of(&head);
        int is_frame = client->frame_at > 0 || (head.kind == ARRAY && (head.value == 3 || head.value == 4));
        if (head.kind == WRONG || !is_frame ||
            client->frame_at + client->frame_owed + used + elements > client->options.answer_bytes_max + 1)
            return fail(client, CIRANDA_PROTOCOL, "receive");
        if (used > client->in.size - at)
            return CIRANDA_TIMEOUT;
        client->frame_at += (size_t)used;
        client->frame_owed += elements - 1;
    }
    client->scan_at += client->frame_at;
    client->frame_at = 0;
    client->frame_owed = 1;
    return CIRANDA_OK;
}

/* [1, call, error, result] or [2, method, [params]] */
static enum ciranda_result read_frame(struct ciranda_client *client, struct ciranda_value bytes,
                                      struct ciranda_frame *ret_frame)
{
    struct ciranda_frame frame = {0};
    struct ciranda_value part, params;
    int64_t type = -1, call = 0;
    if (ciranda_element(bytes, 0, &part) != CIRANDA_OK || ciranda_number(part, &type) != CIRANDA_OK)
        return fail(client, CIRANDA_PROTOCOL, "receive");
    if (type == 2) {
        frame.is_notification = 1;
        if (ciranda_element(bytes, 1, &frame.method) != CIRANDA_OK || ciranda_element(bytes, 2, &params) != CIRANDA_OK ||
            ciranda_element(params, 0, &frame.params) != CIRANDA_OK)
            return fail(client, CIRANDA_PROTOCOL, "receive");
    } else {
        if (type != 1 || ciranda_element(bytes, 1, &part) != CIRANDA_OK ||
            ciranda_element(bytes, 2, &frame.error) != CIRANDA_OK ||
            ciranda_element(bytes, 3, &frame.result) != CIRANDA_OK)
            return fail(client, CIRANDA_PROTOCOL, "receive");
        if (ciranda_number(part, &call) == CIRANDA_OK) /* nil: about no call */
            frame.call = (uint32_t)call;
        frame.is_error = head_of(frame.error.at, (size_t)(frame.error.end - frame.error.at)).kind != NIL;
    }
    *ret_frame = frame;
    return CIRANDA_OK;
}

static enum ciranda_result wait_for_bytes(struct ciranda_client *client, int64_t deadline_ms)
{
    if (client->has_peer_closed)
        return fail(client, CIRANDA_CLOSED, "receive");
    enum ciranda_result result = exchange_some(client, deadline_ms, "receive");
    return result == CIRANDA_CLOSED ? CIRANDA_OK : result; /* of the sending half: the other has its last words */
}

/* Finds the next whole frame from *at on, waiting for it if need be; *at is then behind it. */
static enum ciranda_result next_frame(struct ciranda_client *client, size_t *at, int64_t deadline_ms,
                                      struct ciranda_frame *ret_frame)
{
    while (*at == client->scan_at) {
        enum ciranda_result result = scan_frame(client);
        if (result == CIRANDA_TIMEOUT)
            result = wait_for_bytes(client, deadline_ms);
        if (result != CIRANDA_OK)
            return result;
    }
    const unsigned char *begin = client->in.data + *at, *end = behind(begin, client->in.data + client->scan_at);
    *at = (size_t)(end - client->in.data);
    return read_frame(client, (struct ciranda_value){begin, end}, ret_frame);
}

/* What was given out is no longer lent; what is unsent leaves as far as it can without waiting. */
static enum ciranda_result begin_receive(struct ciranda_client *client)
{
    if (client->in_taken == client->in.size || client->in_taken > RECEIVE_BYTES) {
        remove_front(&client->in, client->in_taken);
        client->scan_at -= client->in_taken;
        client->in_taken = 0;
    }
    enum ciranda_result result = send_some(client);
    return result == CIRANDA_CLOSED ? CIRANDA_OK : result; /* what came before the close is still there */
}

enum ciranda_result ciranda_receive(struct ciranda_client *client, int timeout_ms, struct ciranda_frame *ret_frame)
{
    enum ciranda_result result = begin_receive(client);
    if (result == CIRANDA_OK)
        result = next_frame(client, &client->in_taken, deadline_after(client, timeout_ms), ret_frame);
    if (result == CIRANDA_OK && !ret_frame->is_notification && ret_frame->call != 0)
        client->calls_open--;
    return result;
}

/* Moves the frame that ends at `end` out of the receive buffer. */
static enum ciranda_result take_out(struct ciranda_client *client, size_t begin, size_t end,
                                    struct ciranda_frame *ret_frame)
{
    size_t size = end - begin;
    client->taken.size = 0;
    if (!reserve(&client->taken, size))
        return fail(client, CIRANDA_NO_MEMORY, "receive");
    put(&client->taken, client->in.data + begin, size);
    memmove(client->in.data + begin, client->in.data + end, client->in.size - end);
    client->in.size -= size;
    client->scan_at -= size;
    client->calls_open--;
    return read_frame(client, (struct ciranda_value){client->taken.data, client->taken.data + size}, ret_frame);
}

enum ciranda_result ciranda_receive_call(struct ciranda_client *client, uint32_t call, int timeout_ms,
                                         struct ciranda_frame *ret_frame)
{
    int64_t deadline_ms = deadline_after(client, timeout_ms);
    enum ciranda_result result = begin_receive(client);
    size_t at = client->in_taken;
    while (result == CIRANDA_OK) {
        size_t begin = at;
        result = next_frame(client, &at, deadline_ms, ret_frame);
        if (result != CIRANDA_OK)
            return result;
        if (!ret_frame->is_notification && ret_frame->call == call)
            return take_out(client, begin, at, ret_frame);
    }
    return result;
}
