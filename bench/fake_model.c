/* SPDX-License-Identifier: Apache-2.0 */
/* fake_model: a provider of language models that knows one sentence, for load tests: OpenAI-compatible POST
 * /v1/chat/completions on one thread and one epoll, with 12,000 streams at once on a heap of deadlines.
 *
 * Independent on purpose: it shares no code with the server that it measures, so that a mistake in one does not hide in the
 * other. Its reply is "eco: " and the last user message, spread over the tokens (then filler), so that a checker can match
 * replies to messages. Not a general HTTP server: it reads Content-Length bodies and ignores what it need not know.
 *
 *   fake_model --listen 127.0.0.1:0 --first-token-ms 300 --tokens 20 --stream-ms 2000
 *   {"event":"listening","http":"127.0.0.1:40123"}
 *
 * GET /stats tells what it has seen. Callers: bench/ scripts, tests/blackbox.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_BYTES_MAX = 16 << 10,
    BODY_BYTES_MAX = 4 << 20,
    EVENTS_MAX = 512,
};

struct bytes {
    char *data;
    size_t size, capacity;
};

enum phase {
    PHASE_READING,   /* a request is awaited, or half there */
    PHASE_WAITING,   /* until the first token, or the whole answer, is due */
    PHASE_STREAMING, /* the next token is due */
    PHASE_STALLED,   /* says nothing more until the client leaves */
};

struct connection {
    int fd;
    enum phase phase;
    size_t heap_index; /* 0: no deadline; else its place in the heap */
    uint64_t due_ns;
    uint64_t began_ns;    /* of the answer: its tokens are due relative to this */
    struct bytes in, out; /* out: what the socket did not take */
    size_t request_bytes; /* of the request being answered, at the front of `in` */
    struct bytes text;    /* the reply, still escaped as JSON wants it */
    size_t text_position;
    uint32_t unit_count, token_next, cut_at;
    bool is_stream, is_close, wants_out;
};

static struct {
    const char *listen;
    uint64_t first_token_ns, stream_ns, seed;
    uint32_t tokens, error_per_mille, status, cut_per_mille;
    bool is_stall;
} options = {.listen = "127.0.0.1:0", .tokens = 8, .stream_ns = 100000000, .first_token_ns = 50000000, .seed = 1};

static struct {
    int epoll, listener;
    bool is_accepting;
    uint64_t now_ns;
    struct connection **heap; /* 1-based: [1] is due first */
    size_t heap_count, heap_capacity;
    uint64_t requests, completed, refused, cut, gone;
    uint32_t open, streams, streams_peak;
} server;

/* ---- small things ----------------------------------------------------------------------------------------------------- */

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* xorshift64*: the same run for the same seed and order of requests. */
static uint32_t random_per_mille(void)
{
    options.seed ^= options.seed >> 12;
    options.seed ^= options.seed << 25;
    options.seed ^= options.seed >> 27;
    return (uint32_t)((options.seed * UINT64_C(2685821657736338717) >> 33) % 1000);
}

static void append(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->capacity) {
        size_t capacity = bytes->capacity ? bytes->capacity : 512;
        while (capacity < bytes->size + size)
            capacity *= 2;
        char *const grown = realloc(bytes->data, capacity);
        if (grown == NULL)
            die("memory");
        bytes->data = grown;
        bytes->capacity = capacity;
    }
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void remove_front(struct bytes *bytes, size_t size)
{
    if (size < bytes->size)
        memmove(bytes->data, bytes->data + size, bytes->size - size);
    bytes->size -= size;
}

/* ---- deadlines: a binary heap ----------------------------------------------------------------------------------------- */

static void heap_put(size_t index, struct connection *connection)
{
    server.heap[index] = connection;
    connection->heap_index = index;
}

static void heap_sift(size_t index, struct connection *connection)
{
    while (index > 1 && server.heap[index / 2]->due_ns > connection->due_ns) {
        heap_put(index, server.heap[index / 2]);
        index /= 2;
    }
    for (size_t child; (child = 2 * index) <= server.heap_count; index = child) {
        if (child < server.heap_count && server.heap[child + 1]->due_ns < server.heap[child]->due_ns)
            child++;
        if (server.heap[child]->due_ns >= connection->due_ns)
            break;
        heap_put(index, server.heap[child]);
    }
    heap_put(index, connection);
}

static void set_due(struct connection *connection, uint64_t due_ns)
{
    connection->due_ns = due_ns;
    if (connection->heap_index == 0) {
        if (server.heap_count + 1 >= server.heap_capacity) {
            server.heap_capacity = server.heap_capacity ? 2 * server.heap_capacity : 1024;
            server.heap = realloc(server.heap, server.heap_capacity * sizeof(struct connection *));
            if (server.heap == NULL)
                die("memory");
        }
        connection->heap_index = ++server.heap_count;
    }
    heap_sift(connection->heap_index, connection);
}

static void clear_due(struct connection *connection)
{
    const size_t index = connection->heap_index;
    if (index == 0)
        return;
    connection->heap_index = 0;
    struct connection *const last = server.heap[server.heap_count--];
    if (last != connection)
        heap_sift(index, last);
}

/* ---- connections ------------------------------------------------------------------------------------------------------ */

static void watch(struct connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (connection->wants_out ? EPOLLOUT : 0),
                                .data.ptr = connection};
    if (epoll_ctl(server.epoll, operation, connection->fd, &event) != 0)
        die("epoll_ctl");
}

static void watch_listener(bool is_accepting)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (server.is_accepting == is_accepting)
        return;
    if (epoll_ctl(server.epoll, is_accepting ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, server.listener, &event) != 0)
        die("epoll_ctl");
    server.is_accepting = is_accepting;
}

static void connection_close(struct connection *connection)
{
    clear_due(connection);
    if (connection->phase != PHASE_READING) {
        server.gone++;
        server.streams--;
    }
    close(connection->fd);
    free(connection->in.data);
    free(connection->out.data);
    free(connection->text.data);
    free(connection);
    server.open--;
    watch_listener(true);
}

/* Returns: false when the connection is gone. */
static bool flush(struct connection *connection)
{
    while (connection->out.size > 0) {
        const ssize_t size = send(connection->fd, connection->out.data, connection->out.size, MSG_NOSIGNAL);
        if (size < 0 && errno == EAGAIN)
            break;
        if (size < 0)
            return false;
        remove_front(&connection->out, (size_t)size);
    }
    const bool wants_out = connection->out.size > 0;
    if (wants_out != connection->wants_out) {
        connection->wants_out = wants_out;
        watch(connection, EPOLL_CTL_MOD);
    }
    return true;
}

/* ---- what is answered ------------------------------------------------------------------------------------------------- */

static const char *reason_of(uint32_t status)
{
    switch (status) {
    case 200: return "OK";
    case 404: return "Not Found";
    case 429: return "Too Many Requests";
    case 503: return "Service Unavailable";
    default: return "Status";
    }
}

static void write_document(struct connection *connection, uint32_t status, const char *headers, const char *body,
                           size_t size)
{
    char head[256];
    const int head_size =
        snprintf(head, sizeof head, "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n",
                 status, reason_of(status), headers, size);
    append(&connection->out, head, (size_t)head_size);
    append(&connection->out, body, size);
}

static void write_error(struct connection *connection, uint32_t status)
{
    char body[160];
    const int size = snprintf(
        body, sizeof body, "{\"error\":{\"message\":\"fake error %u\",\"type\":\"fake\",\"code\":%u}}", status, status);
    const bool is_busy = status == 429 || status == 503 || status == 529;
    write_document(connection, status, is_busy ? "Retry-After: 1\r\n" : "", body, (size_t)size);
}

static void write_event(struct connection *connection, const char *data, size_t size)
{
    char head[32];
    const int head_size = snprintf(head, sizeof head, "%zx\r\ndata: ", size + 8);
    append(&connection->out, head, (size_t)head_size);
    append(&connection->out, data, size);
    append(&connection->out, "\n\n\r\n", 4);
}

/* One unit of escaped JSON text: an escape (a surrogate pair is one), or a UTF-8 sequence. Never more than `size`. */
static size_t unit_bytes(const char *text, size_t size)
{
    size_t bytes = 1;
    if (text[0] == '\\' && size >= 2) {
        bytes = text[1] == 'u' ? 6 : 2;
        if (size >= 12 && text[1] == 'u' && strncasecmp(text + 2, "d8", 2) >= 0 && strncasecmp(text + 2, "dc", 2) < 0)
            bytes = 12;
    } else if (((unsigned char)text[0] & 0xC0) == 0xC0) {
        while (bytes < size && ((unsigned char)text[bytes] & 0xC0) == 0x80)
            bytes++;
    }
    return bytes < size ? bytes : size;
}

static uint32_t count_units(const struct bytes *text)
{
    uint32_t count = 0;
    for (size_t at = 0; at < text->size; count++)
        at += unit_bytes(text->data + at, text->size - at);
    return count;
}

/* Token `token_next`: its share of the text, or filler once every unit has been said. */
static void write_token(struct connection *connection)
{
    static const char head[] =
        "{\"id\":\"chatcmpl-fake\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"fake\","
        "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
    static const char tail[] = "\"},\"finish_reason\":null}]}";
    const uint64_t i = connection->token_next++, units = connection->unit_count;
    const uint64_t spread = options.tokens < units ? options.tokens : units;
    const char *const begin = connection->text.data + connection->text_position;
    size_t size = 0;
    if (i < spread)
        for (uint64_t n = (i + 1) * units / spread - i * units / spread; n > 0; n--)
            size += unit_bytes(begin + size, connection->text.size - connection->text_position - size);
    connection->text_position += size;

    static struct bytes chunk;
    chunk.size = 0;
    append(&chunk, head, sizeof head - 1);
    append(&chunk, i < spread ? begin : " la", i < spread ? size : 3);
    append(&chunk, tail, sizeof tail - 1);
    write_event(connection, chunk.data, chunk.size);
}

static void write_stream_end(struct connection *connection)
{
    static const char finish[] =
        "{\"id\":\"chatcmpl-fake\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"fake\","
        "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}";
    char usage[256];
    const int size =
        snprintf(usage, sizeof usage,
                 "{\"id\":\"chatcmpl-fake\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"fake\","
                 "\"choices\":[],\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%u,\"total_tokens\":%zu}}",
                 connection->request_bytes / 4, options.tokens, connection->request_bytes / 4 + options.tokens);
    write_event(connection, finish, sizeof finish - 1);
    write_event(connection, usage, (size_t)size);
    write_event(connection, "[DONE]", 6);
    append(&connection->out, "0\r\n\r\n", 5);
}

static void write_completion(struct connection *connection)
{
    static const char head[] =
        "{\"id\":\"chatcmpl-fake\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"fake\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    char tail[192];
    struct bytes body = {0};
    const int tail_size = snprintf(
        tail, sizeof tail, "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%u}}",
        connection->request_bytes / 4, options.tokens);
    append(&body, head, sizeof head - 1);
    append(&body, connection->text.data, connection->text.size);
    append(&body, tail, (size_t)tail_size);
    write_document(connection, 200, "", body.data, body.size);
    free(body.data);
}

static void write_stats(struct connection *connection)
{
    char body[320];
    const int size = snprintf(body, sizeof body,
                              "{\"requests\":%llu,\"completed\":%llu,\"refused\":%llu,\"cut\":%llu,\"gone\":%llu,"
                              "\"connections\":%u,\"streams\":%u,\"streams_peak\":%u}",
                              (unsigned long long)server.requests, (unsigned long long)server.completed,
                              (unsigned long long)server.refused, (unsigned long long)server.cut,
                              (unsigned long long)server.gone, server.open, server.streams, server.streams_peak);
    write_document(connection, 200, "", body, (size_t)size);
}

/* ---- reading a request ------------------------------------------------------------------------------------------------ */

struct span {
    const char *data;
    size_t size;
};

static bool span_is(struct span span, const char *text)
{
    return span.size == strlen(text) && memcmp(span.data, text, span.size) == 0;
}

/* What the answer depends on: `stream` of the root, and the content of the last object of `messages` whose role is user. A
 * walk over strings and brackets; the request of a client that sends no JSON gets an answer all the same. */
static void read_prompt(struct span body, bool *ret_is_stream, struct span *ret_text)
{
    struct span key[4] = {{0}}, role = {0}, content = {0};
    size_t depth = 0; /* of brackets of both kinds: root 1, messages 2, a message 3 */
    *ret_is_stream = false;
    *ret_text = (struct span){"", 0};
    for (size_t i = 0; i < body.size; i++) {
        const char c = body.data[i];
        if (c == '{' || c == '[') {
            depth++;
            if (depth == 3)
                role = content = (struct span){0};
        } else if (c == '}' || c == ']') {
            if (depth == 3 && span_is(key[1], "messages") && span_is(role, "user") && content.data)
                *ret_text = content;
            depth -= depth > 0;
        } else if (c == 't' && depth == 1 && span_is(key[1], "stream")) {
            *ret_is_stream = true;
        } else if (c == '"') {
            const size_t begin = ++i;
            while (i < body.size && body.data[i] != '"')
                i += body.data[i] == '\\' ? 2 : 1;
            if (i >= body.size)
                return;
            const struct span string = {body.data + begin, i - begin};
            size_t next = i + 1;
            while (next < body.size && strchr(" \t\r\n", body.data[next]))
                next++;
            if (next < body.size && body.data[next] == ':') {
                if (depth < 4)
                    key[depth] = string;
            } else if (depth == 3 && span_is(key[3], "role")) {
                role = string;
            } else if (depth == 3 && span_is(key[3], "content")) {
                content = string;
            }
        }
    }
}

static void begin_answer(struct connection *connection, struct span body)
{
    struct span text;
    read_prompt(body, &connection->is_stream, &text);
    connection->text.size = connection->text_position = 0;
    append(&connection->text, "eco: ", 5);
    append(&connection->text, text.data, text.size);
    connection->unit_count = count_units(&connection->text);
    connection->token_next = 0;
    connection->cut_at = random_per_mille() < options.cut_per_mille ? options.tokens / 2 + 1 : UINT32_MAX;
    connection->began_ns = server.now_ns;
    connection->phase = PHASE_WAITING;
    server.streams++;
    if (server.streams > server.streams_peak)
        server.streams_peak = server.streams;
    set_due(connection, server.now_ns + options.first_token_ns + (connection->is_stream ? 0 : options.stream_ns));
}

/* Value of a header in [head, end), or {NULL,0}. */
static struct span find_header(const char *head, const char *end, const char *name)
{
    const size_t name_size = strlen(name);
    for (const char *line = memchr(head, '\n', (size_t)(end - head)); line && ++line < end;
         line = memchr(line, '\n', (size_t)(end - line))) {
        if ((size_t)(end - line) <= name_size || strncasecmp(line, name, name_size) != 0 || line[name_size] != ':')
            continue;
        const char *value = line + name_size + 1;
        while (value < end && *value == ' ')
            value++;
        const char *stop = value;
        while (stop < end && *stop != '\r' && *stop != '\n')
            stop++;
        return (struct span){value, (size_t)(stop - value)};
    }
    return (struct span){0};
}

static void end_request(struct connection *connection)
{
    remove_front(&connection->in, connection->request_bytes);
    connection->request_bytes = 0;
    connection->phase = PHASE_READING;
}

static void answer_request(struct connection *connection, struct span head, struct span body)
{
    const bool is_post = head.size > 5 && memcmp(head.data, "POST ", 5) == 0;
    const bool is_chat = is_post && memmem(head.data, head.size, "/chat/completions ", 18) != NULL;
    if (is_chat)
        server.requests++;
    const uint32_t error_status = options.status ? options.status : 503;
    const bool is_refused =
        options.error_per_mille ? random_per_mille() < options.error_per_mille : options.status && options.status != 200;
    if (is_chat && !is_refused) {
        begin_answer(connection, body);
        return;
    }
    if (is_chat) {
        server.refused++;
        write_error(connection, error_status);
    } else if (memmem(head.data, head.size, "/stats ", 7)) {
        write_stats(connection);
    } else {
        write_error(connection, 404);
    }
    end_request(connection);
}

/* Answers the requests that are whole, one after the other. Returns: false when the connection is to be closed. */
static bool read_requests(struct connection *connection)
{
    while (connection->phase == PHASE_READING && connection->in.size > 0) {
        const char *const data = connection->in.data;
        const char *const blank = memmem(data, connection->in.size, "\r\n\r\n", 4);
        if (blank == NULL)
            return connection->in.size < HEAD_BYTES_MAX;
        const struct span head = {data, (size_t)(blank - data) + 2};
        const struct span length = find_header(head.data, head.data + head.size, "Content-Length");
        const struct span close_header = find_header(head.data, head.data + head.size, "Connection");
        const size_t body_size = length.data ? strtoul(length.data, NULL, 10) : 0;
        if (body_size > BODY_BYTES_MAX)
            return false;
        const size_t whole = head.size + 2 + body_size;
        if (connection->in.size < whole)
            return true;
        connection->request_bytes = whole;
        connection->is_close = close_header.size == 5 && strncasecmp(close_header.data, "close", 5) == 0;
        answer_request(connection, head, (struct span){data + head.size + 2, body_size});
    }
    return true;
}

/* ---- turns ------------------------------------------------------------------------------------------------------------ */

/* Sends what has gathered, and goes on with the next request when an answer is over. */
static void go_on(struct connection *connection)
{
    bool is_alive = read_requests(connection) && flush(connection);
    if (is_alive && connection->is_close && connection->phase == PHASE_READING && connection->out.size == 0 &&
        connection->in.size == 0)
        is_alive = false;
    if (!is_alive)
        connection_close(connection);
}

static void end_answer(struct connection *connection)
{
    server.completed++;
    server.streams--;
    end_request(connection);
    go_on(connection);
}

static uint64_t token_due_ns(const struct connection *connection)
{
    const uint64_t gaps = options.tokens > 1 ? options.tokens - 1 : 1;
    return connection->began_ns + options.first_token_ns + options.stream_ns * connection->token_next / gaps;
}

static void on_due(struct connection *connection)
{
    clear_due(connection);
    if (!connection->is_stream) {
        write_completion(connection);
        end_answer(connection);
        return;
    }
    if (connection->phase == PHASE_WAITING) {
        static const char head[] =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        append(&connection->out, head, sizeof head - 1);
        connection->phase = PHASE_STREAMING;
    }
    do /* what is late is said in one go */
        write_token(connection);
    while (connection->token_next < options.tokens && connection->token_next < connection->cut_at && !options.is_stall &&
           token_due_ns(connection) <= server.now_ns);

    if (connection->token_next >= connection->cut_at) {
        server.cut++;
        server.streams--;
        connection->phase = PHASE_READING; /* it is we who leave */
        flush(connection);
        connection_close(connection);
    } else if (options.is_stall) {
        connection->phase = PHASE_STALLED;
        if (!flush(connection))
            connection_close(connection);
    } else if (connection->token_next >= options.tokens) {
        write_stream_end(connection);
        end_answer(connection);
    } else {
        set_due(connection, token_due_ns(connection));
        if (!flush(connection))
            connection_close(connection);
    }
}

static void on_ready(struct connection *connection, uint32_t events)
{
    static char piece[64 << 10];
    if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) { /* a half-closed client has stopped listening, too */
        connection_close(connection);
        return;
    }
    if (events & EPOLLIN) {
        const ssize_t size = recv(connection->fd, piece, sizeof piece, 0);
        if (size == 0 || (size < 0 && errno != EAGAIN) ||
            connection->in.size + (size_t)(size > 0 ? size : 0) > HEAD_BYTES_MAX + BODY_BYTES_MAX) {
            connection_close(connection);
            return;
        }
        if (size > 0)
            append(&connection->in, piece, (size_t)size);
    }
    go_on(connection);
}

static void accept_all(void)
{
    for (;;) {
        const int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
            watch_listener(false); /* until one leaves */
            return;
        }
        if (fd < 0)
            return;
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *const connection = calloc(1, sizeof *connection);
        if (connection == NULL)
            die("memory");
        connection->fd = fd;
        server.open++;
        watch(connection, EPOLL_CTL_ADD);
    }
}

/* ---- start ------------------------------------------------------------------------------------------------------------ */

static void open_listener(void)
{
    char host[64];
    const char *const colon = strrchr(options.listen, ':');
    if (colon == NULL || (size_t)(colon - options.listen) >= sizeof host) {
        fprintf(stderr, "--listen wants ADDRESS:PORT\n");
        exit(2);
    }
    memcpy(host, options.listen, (size_t)(colon - options.listen));
    host[colon - options.listen] = '\0';
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "--listen wants an IPv4 address\n");
        exit(2);
    }
    const int on = 1;
    socklen_t size = sizeof address;
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server.listener < 0 || setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(server.listener, (struct sockaddr *)&address, size) != 0 || listen(server.listener, 4096) != 0 ||
        getsockname(server.listener, (struct sockaddr *)&address, &size) != 0)
        die(options.listen);
    printf("{\"event\":\"listening\",\"http\":\"%s:%u\"}\n", host, ntohs(address.sin_port));
    fflush(stdout);
}

static uint64_t number(const char *name, const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || value > max || *text == '-') {
        fprintf(stderr, "--%s wants a number up to %llu\n", name, (unsigned long long)max);
        exit(2);
    }
    return value;
}

static void read_options(int argc, char **argv)
{
    static const struct option table[] = {
        {"listen", required_argument, NULL, 'l'},     {"first-token-ms", required_argument, NULL, 'f'},
        {"tokens", required_argument, NULL, 't'},     {"stream-ms", required_argument, NULL, 's'},
        {"error-rate", required_argument, NULL, 'e'}, {"status", required_argument, NULL, 'S'},
        {"cut", required_argument, NULL, 'c'},        {"stall", no_argument, NULL, 'x'},
        {"seed", required_argument, NULL, 'r'},       {0},
    };
    for (int c, at; (c = getopt_long(argc, argv, "", table, &at)) != -1;)
        switch (c) {
        case 'l': options.listen = optarg; break;
        case 'f': options.first_token_ns = number("first-token-ms", optarg, 86400000) * 1000000; break;
        case 't': options.tokens = (uint32_t)number("tokens", optarg, 1000000); break;
        case 's': options.stream_ns = number("stream-ms", optarg, 86400000) * 1000000; break;
        case 'e': options.error_per_mille = (uint32_t)number("error-rate", optarg, 1000); break;
        case 'S': options.status = (uint32_t)number("status", optarg, 599); break;
        case 'c': options.cut_per_mille = (uint32_t)number("cut", optarg, 1000); break;
        case 'x': options.is_stall = true; break;
        case 'r': options.seed = number("seed", optarg, UINT64_MAX); break;
        default:
            fprintf(stderr,
                    "usage: fake_model [--listen ADDRESS:PORT] [--first-token-ms N] [--tokens N] [--stream-ms N]\n"
                    "                  [--status N [--error-rate PER_MILLE]] [--cut PER_MILLE] [--stall] [--seed N]\n");
            exit(2);
        }
    if (options.tokens == 0)
        options.tokens = 1;
    if (options.seed == 0)
        options.seed = 1; /* xorshift stays at 0 */
}

static int wait_ms(void)
{
    if (server.heap_count == 0)
        return -1;
    const uint64_t due_ns = server.heap[1]->due_ns, now_ns = clock_ns();
    return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / 1000000) + 1;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    read_options(argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server.epoll < 0)
        die("epoll_create1");
    open_listener();
    watch_listener(true);

    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        const int count = epoll_wait(server.epoll, events, EVENTS_MAX, wait_ms());
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        server.now_ns = clock_ns();
        for (int i = 0; i < count; i++) /* one descriptor comes up once a wait: nothing closed here is met again */
            if (events[i].data.ptr == NULL)
                accept_all();
            else
                on_ready(events[i].data.ptr, events[i].events);
        while (server.heap_count > 0 && server.heap[1]->due_ns <= server.now_ns)
            on_due(server.heap[1]);
    }
}
