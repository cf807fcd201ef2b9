/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_curl: outbound HTTP (fetch.h) with libcurl's multi socket interface on the worker's ring. One easy handle a fetch, one
 * multi handle for each 256 places ("stripe"); the sockets are fetch_sockets_internal.h.
 *
 * Why stripes: libcurl walks all connections to a host, busy ones too, to find an idle one for a request. With 10,000 streams
 * to one provider that walk took most of the time: 16 us of processor a piece of a stream in one multi handle, 3 us with
 * stripes, and 17 KiB a stream (bench/fetch with bench/fake_model, 20 tokens in 2 s, on a busy machine of 2 cores). Places
 * are taken from the front, so that small loads live in the first stripe and use its connections again.
 *
 * libcurl runs only in drive(), called for a socket that is ready and for libcurl's own timer, never from one of its
 * callbacks. What callers ask for while it runs (from on_data) waits in the list `postponed`; what has ended waits in the list
 * `ended` until settle(), which only the ring and the timers call: so on_done never comes from inside fetch_start or
 * fetch_cancel (F1), and finds everything consistent.
 *
 * One fetch is one attempt. libcurl repeats a request by itself when a reused connection dies before it gave a byte; the
 * provider may have seen the first, so the second is stopped before it is sent (on_request_sent) and ends as ERR_PEER_CLOSED.
 *
 * Time is read from the clock, not from the worker: libcurl's delays count from the moment at which it asks for them.
 *
 * HTTP/1.1 only, on TLS too: F2 wants a socket that can be closed, and a stuck stream must not hold others. The price is a
 * connection a request in flight.
 */
#include "net/fetch.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "net/fetch_request.h"
#include "net/fetch_sockets_internal.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

enum {
    HEAD_BYTES_MAX = 64 << 10, /* of a response, trailers included: libcurl keeps all of it */
    READ_BYTES = 4 << 10,      /* libcurl allocates it for each transfer */
    UPLOAD_BYTES = 16 << 10,   /* its least; allocated only with TLS */
    RETRY_AFTER_S_MAX = 3600,
    STRIPE_FETCHES = 256,
};

static const uint64_t second_ns = 1000000000;

/* Life of a fetch:
 *
 *   FREE -> POSTPONED -> RUNNING -> STOPPING -> ENDED -> FREE
 *    \____________________^  \___________________^
 *            \______________________^
 */
enum fetch_state {
    FETCH_FREE,      /* in client->free */
    FETCH_POSTPONED, /* started while libcurl ran: in client->postponed */
    FETCH_RUNNING,   /* libcurl has it */
    FETCH_STOPPING,  /* we end it: in client->postponed while libcurl runs, then waits for its sockets to be closed */
    FETCH_ENDED,     /* waits for on_done: in client->ended */
};

/* What it is waiting for, which decides the deadline. */
enum fetch_phase { FETCH_CONNECTING, FETCH_AWAITING, FETCH_READING };

struct fetch {
    struct fetch_client *client;
    struct fetch *next; /* free, postponed or ended */
    struct timer deadline;
    CURL *easy;
    struct curl_slist *headers;
    uint32_t index, generation;
    enum fetch_state state;
    enum fetch_phase phase;
    uint32_t sockets_closing;
    uint64_t started_ns, phase_ns; /* phase_ns: its beginning, or the last piece of the body */
    struct fetch_request request;  /* its bounds and callbacks: fetch_request_keep */
    uint64_t received_bytes, head_bytes;
    uint64_t retry_after_ms;
    enum err code; /* code and status: from STOPPING on */
    int status;
    char detail[CURL_ERROR_SIZE]; /* libcurl writes here while RUNNING */
};

struct fetch_list {
    struct fetch *first, **end;
};

struct stripe {
    struct fetch_client *client;
    CURLM *multi;            /* NULL until it is needed */
    struct timer curl_timer; /* libcurl's one */
    uint32_t in_flight;      /* started, and libcurl has not let go of them */
};

struct fetch_client {
    struct worker *worker;
    char *ca_file;
    struct fetch_sockets sockets;
    struct timer settle_timer; /* due at once: settle() was made necessary by a call of ours */
    struct stripe *stripes;
    uint32_t stripe_count, stripes_open;
    struct stripe *driven; /* may have finished fetches; NULL: none has */
    struct fetch *fetches;
    uint32_t in_flight_max, in_flight, idle_connections_max;
    struct fetch *free;
    struct fetch_list postponed, ended;
    bool is_telling, is_destroyed;
};

static void list_init(struct fetch_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_push(struct fetch_list *list, struct fetch *fetch)
{
    fetch->next = NULL;
    *list->end = fetch;
    list->end = &fetch->next;
}

static struct fetch *list_pop(struct fetch_list *list)
{
    struct fetch *fetch = list->first;
    if (fetch) {
        list->first = fetch->next;
        if (!list->first)
            list->end = &list->first;
    }
    return fetch;
}

static void set_state(struct fetch *fetch, enum fetch_state state)
{
    static const uint8_t successors[] = {
        [FETCH_FREE] = 1 << FETCH_POSTPONED | 1 << FETCH_RUNNING,
        [FETCH_POSTPONED] = 1 << FETCH_RUNNING | 1 << FETCH_STOPPING,
        [FETCH_RUNNING] = 1 << FETCH_STOPPING | 1 << FETCH_ENDED,
        [FETCH_STOPPING] = 1 << FETCH_ENDED,
        [FETCH_ENDED] = 1 << FETCH_FREE,
    };
    ASSERT(successors[fetch->state] & 1 << state);
    fetch->state = state;
}

static struct stripe *stripe_of(const struct fetch *fetch)
{
    return &fetch->client->stripes[fetch->index / STRIPE_FETCHES];
}

static struct fetch_id id_of(const struct fetch *fetch)
{
    return (struct fetch_id){.index = fetch->index, .generation = fetch->generation};
}

/* ---- ending ----------------------------------------------------------------------------------------------------------- */

/* A deadline in the past: in this turn or the next, where one of "now" would wait for the end of its tick. */
static const uint64_t at_once_ns = 0;

static void settle_soon(struct fetch_client *client)
{
    timer_start(client->worker, &client->settle_timer, at_once_ns);
}

/* libcurl has forgotten the fetch and its sockets are closed. */
static void end(struct fetch *fetch)
{
    timer_cancel(fetch->client->worker, &fetch->deadline);
    set_state(fetch, FETCH_ENDED);
    list_push(&fetch->client->ended, fetch);
    settle_soon(fetch->client);
}

static int response_status(const struct fetch *fetch)
{
    long status = 0;
    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

/* Makes libcurl forget the fetch. When it is in the middle, that closes its socket, and the fetch is told when it is closed. */
static void let_go(struct fetch *fetch)
{
    struct fetch_client *client = fetch->client;
    ASSERT(!client->sockets.is_held);
    client->sockets.owner = fetch->state == FETCH_STOPPING ? fetch : NULL;
    client->sockets.is_held = true;
    curl_multi_remove_handle(stripe_of(fetch)->multi, fetch->easy);
    client->sockets.is_held = false;
    client->sockets.owner = NULL;
    stripe_of(fetch)->in_flight--;
    curl_easy_cleanup(fetch->easy);
    curl_slist_free_all(fetch->headers);
    fetch->easy = NULL;
    fetch->headers = NULL;
}

static void on_socket_released(void *context, void *owner)
{
    (void)context;
    struct fetch *fetch = owner;
    fetch->sockets_closing++;
}

static void on_socket_closed(void *context, void *owner)
{
    (void)context;
    struct fetch *fetch = owner;
    ASSERT(fetch->state == FETCH_STOPPING);
    if (--fetch->sockets_closing == 0)
        end(fetch);
}

/* STOPPING, and libcurl is not running. */
static void finish_stop(struct fetch *fetch)
{
    fetch->status = response_status(fetch);
    fetch->sockets_closing++; /* ours, so that it is not zero before all are known */
    let_go(fetch);
    fetch_sockets_sweep(&fetch->client->sockets);
    if (--fetch->sockets_closing == 0)
        end(fetch);
}

/* Ends a fetch for a reason of ours: at once, or, inside one of libcurl's callbacks, when it has returned. */
static void stop(struct fetch *fetch, enum err code, const char *detail)
{
    struct fetch_client *client = fetch->client;
    bool was_postponed = fetch->state == FETCH_POSTPONED;
    set_state(fetch, FETCH_STOPPING);
    timer_cancel(client->worker, &fetch->deadline);
    curl_easy_setopt(fetch->easy, CURLOPT_ERRORBUFFER, NULL); /* `detail` is ours from now on */
    fetch->code = code;
    snprintf(fetch->detail, sizeof fetch->detail, "%s", detail);
    if (was_postponed)
        return; /* is pending already */
    if (client->sockets.is_held)
        list_push(&client->postponed, fetch);
    else
        finish_stop(fetch);
}

static enum err code_of(CURLcode code)
{
    switch ((int)code) {
    case CURLE_OK: return OK;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED: return ERR_CONNECT;
    case CURLE_OPERATION_TIMEDOUT: return ERR_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_ENGINE_INITFAILED: return ERR_TLS;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING: return ERR_PEER_CLOSED;
    case CURLE_OUT_OF_MEMORY: return ERR_NO_MEMORY;
    default: return ERR_PROTOCOL; /* a foreign enum: what is left is a peer that does not speak HTTP */
    }
}

/* ---- deadlines -------------------------------------------------------------------------------------------------------- */

static uint64_t phase_ns_max(const struct fetch *fetch)
{
    switch (fetch->phase) {
    case FETCH_CONNECTING: return fetch->request.connect_ns_max;
    case FETCH_AWAITING: return fetch->request.first_byte_ns_max;
    case FETCH_READING: break;
    }
    return fetch->request.idle_ns_max;
}

static uint64_t next_deadline_ns(const struct fetch *fetch)
{
    uint64_t total = fetch->started_ns + fetch->request.total_ns_max;
    uint64_t phase = fetch->phase_ns + phase_ns_max(fetch);
    return total < phase ? total : phase;
}

/* The timer is not moved for each piece of the body: it looks when it fires whether it is still due. */
static void on_deadline(struct worker *worker, struct timer *timer)
{
    static const char *const phases[] = {
        [FETCH_CONNECTING] = "connect", [FETCH_AWAITING] = "first byte", [FETCH_READING] = "idle"};
    struct fetch *fetch = container_of(timer, struct fetch, deadline);
    uint64_t now_ns = clock_mono_ns();
    if (now_ns < next_deadline_ns(fetch)) {
        timer_start(worker, timer, next_deadline_ns(fetch));
        return;
    }
    bool is_total = now_ns >= fetch->started_ns + fetch->request.total_ns_max;
    char detail[64];
    snprintf(detail, sizeof detail, "%s timeout after %" PRIu64 " ms", is_total ? "total" : phases[fetch->phase],
             (is_total ? fetch->request.total_ns_max : phase_ns_max(fetch)) / 1000000);
    stop(fetch, ERR_TIMEOUT, detail);
}

static void enter_phase(struct fetch *fetch, enum fetch_phase phase)
{
    fetch->phase = phase;
    fetch->phase_ns = clock_mono_ns();
    timer_start(fetch->client->worker, &fetch->deadline, next_deadline_ns(fetch));
}

/* ---- libcurl's callbacks of a transfer: they run inside drive() ------------------------------------------------------- */
/* What comes for a fetch that is STOPPING is swallowed: an error would make libcurl close the socket on its own account. */

/* Connected (TLS included), the request is about to be sent. */
static int on_request_sent(void *context, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    (void)remote_ip, (void)local_ip, (void)remote_port, (void)local_port;
    struct fetch *fetch = context;
    if (fetch->state == FETCH_RUNNING && fetch->phase != FETCH_CONNECTING)
        stop(fetch, ERR_PEER_CLOSED, "the reused connection died before it gave an answer");
    if (fetch->state != FETCH_RUNNING)
        return CURL_PREREQFUNC_ABORT;
    enter_phase(fetch, FETCH_AWAITING);
    return CURL_PREREQFUNC_OK;
}

/* Seconds, or a date; both forms of RFC 9110. What is neither, or not ahead of us, is no advice. */
static uint64_t parse_retry_after(const char *value, size_t size)
{
    char text[64];
    if (size >= sizeof text)
        return 0;
    memcpy(text, value, size);
    text[size] = '\0';
    int64_t seconds = 0;
    if (size > 0 && strspn(text, "0123456789") == size) {
        unsigned long long written = strtoull(text, NULL, 10); /* saturates */
        seconds = written < RETRY_AFTER_S_MAX ? (int64_t)written : RETRY_AFTER_S_MAX;
    } else if (strspn(text, "+-") == 0) { /* "-5" would pass as a time zone */
        time_t date = curl_getdate(text, NULL);
        seconds = date < 0 ? 0 : (int64_t)date - (int64_t)(clock_wall_ms() / 1000);
    }
    if (seconds <= 0)
        return 0;
    return (uint64_t)(seconds < RETRY_AFTER_S_MAX ? seconds : RETRY_AFTER_S_MAX) * 1000;
}

static size_t on_header(char *line, size_t unit, size_t size, void *context)
{
    (void)unit; /* always 1 */
    static const char name[] = "retry-after:";
    struct fetch *fetch = context;
    if (fetch->state != FETCH_RUNNING)
        return size;
    fetch->head_bytes += size;
    if (fetch->head_bytes > HEAD_BYTES_MAX) {
        stop(fetch, ERR_LIMIT, "response head too large");
        return size;
    }
    size_t name_size = sizeof name - 1;
    if (size <= name_size || strncasecmp(line, name, name_size) != 0)
        return size;
    const char *value = line + name_size, *value_end = line + size;
    while (value < value_end && strchr(" \t", *value))
        value++;
    while (value < value_end && strchr(" \t\r\n", value_end[-1]))
        value_end--;
    fetch->retry_after_ms = parse_retry_after(value, (size_t)(value_end - value));
    return size;
}

static size_t on_body(char *data, size_t unit, size_t size, void *context)
{
    (void)unit; /* always 1 */
    struct fetch *fetch = context;
    if (fetch->state != FETCH_RUNNING)
        return size;
    if (fetch->phase == FETCH_READING)
        fetch->phase_ns = clock_mono_ns();
    else
        enter_phase(fetch, FETCH_READING);
    uint64_t room = fetch->request.response_bytes_max - fetch->received_bytes;
    size_t taken = size < room ? size : (size_t)room;
    fetch->received_bytes += taken;
    if (taken > 0 && fetch->request.on_data)
        fetch->request.on_data(fetch->request.context, id_of(fetch), response_status(fetch), slice_of(data, taken));
    if (taken < size && fetch->state == FETCH_RUNNING)
        stop(fetch, ERR_LIMIT, "response body too large");
    return size;
}

static curl_socket_t on_socket_open(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    struct fetch_client *client = context;
    int fd = fetch_sockets_open(&client->sockets, address->family, address->socktype, address->protocol);
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int on_socket_close(void *context, curl_socket_t fd)
{
    struct fetch_client *client = context;
    fetch_sockets_close(&client->sockets, fd);
    return 0;
}

/* ---- libcurl's callbacks of the multi handle -------------------------------------------------------------------------- */

static int on_socket_wish(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    (void)socket_context;
    struct stripe *stripe = context;
    struct fetch *fetch = NULL; /* stays so for libcurl's own handles */
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&fetch);
    bool is_connected = fetch && fetch->phase != FETCH_CONNECTING;
    uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= POLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= POLLOUT;
    fetch_sockets_watch(&stripe->client->sockets, fd, events, is_connected, stripe);
    return 0;
}

static int on_timer_wish(CURLM *multi, long timeout_ms, void *context)
{
    (void)multi;
    struct stripe *stripe = context;
    struct worker *worker = stripe->client->worker;
    if (timeout_ms < 0)
        timer_cancel(worker, &stripe->curl_timer);
    else if (timeout_ms == 0)
        timer_start(worker, &stripe->curl_timer, at_once_ns);
    else
        timer_start(worker, &stripe->curl_timer, clock_mono_ns() + (uint64_t)timeout_ms * 1000000);
    return 0;
}

/* ---- running libcurl -------------------------------------------------------------------------------------------------- */

static void drive(struct stripe *stripe, curl_socket_t fd, int curl_events)
{
    struct fetch_client *client = stripe->client;
    int running;
    ASSERT(!client->sockets.is_held);
    client->sockets.is_held = true;
    CURLMcode code = curl_multi_socket_action(stripe->multi, fd, curl_events, &running);
    client->sockets.is_held = false;
    client->driven = stripe;
    ASSERT(code == CURLM_OK || code == CURLM_OUT_OF_MEMORY); /* the latter fails the transfer concerned */
}

static bool open_stripe(struct stripe *stripe)
{
    if (stripe->multi)
        return true;
    CURLM *multi = curl_multi_init();
    if (!multi)
        return false;
    bool is_set = curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket_wish) == CURLM_OK &&
                  curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, stripe) == CURLM_OK &&
                  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer_wish) == CURLM_OK &&
                  curl_multi_setopt(multi, CURLMOPT_TIMERDATA, stripe) == CURLM_OK &&
                  curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) == CURLM_OK;
    if (!is_set) {
        curl_multi_cleanup(multi);
        return false;
    }
    stripe->multi = multi;
    stripe->client->stripes_open++;
    return true;
}

/* libcurl's limit counts the connections in use too; so it moves with them, and the idle ones keep their share. */
static void limit_connections(struct stripe *stripe)
{
    const struct fetch_client *client = stripe->client;
    long idle = (long)(client->idle_connections_max / client->stripes_open);
    CURLMcode code = curl_multi_setopt(stripe->multi, CURLMOPT_MAXCONNECTS, (long)stripe->in_flight + idle + 1);
    ASSERT(code == CURLM_OK);
}

static void add_to_curl(struct fetch *fetch)
{
    struct stripe *stripe = stripe_of(fetch);
    set_state(fetch, FETCH_RUNNING);
    enter_phase(fetch, FETCH_CONNECTING);
    limit_connections(stripe);
    CURLMcode code = curl_multi_add_handle(stripe->multi, fetch->easy);
    if (code != CURLM_OK)
        stop(fetch, ERR_NO_MEMORY, curl_multi_strerror(code));
}

static void take_postponed(struct fetch_client *client)
{
    for (struct fetch *fetch; (fetch = list_pop(&client->postponed));) {
        if (fetch->state == FETCH_POSTPONED)
            add_to_curl(fetch);
        else
            finish_stop(fetch);
    }
}

static void take_finished(struct stripe *stripe)
{
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(stripe->multi, &left));) {
        ASSERT(message->msg == CURLMSG_DONE);
        CURLcode result = message->data.result; /* gone with the handle */
        struct fetch *fetch = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
        ASSERT(fetch->state == FETCH_RUNNING);
        fetch->code = code_of(result);
        fetch->status = response_status(fetch);
        if (result != CURLE_OK && fetch->detail[0] == '\0')
            snprintf(fetch->detail, sizeof fetch->detail, "%s", curl_easy_strerror(result));
        let_go(fetch);
        end(fetch);
    }
}

static void tell_ended(struct fetch_client *client)
{
    for (struct fetch *fetch; (fetch = list_pop(&client->ended));) {
        struct fetch_id id = id_of(fetch);
        struct fetch_result result = {
            .code = fetch->code,
            .status = fetch->status,
            .retry_after_ms = fetch->retry_after_ms,
            .received_bytes = fetch->received_bytes,
        };
        snprintf(result.detail, sizeof result.detail, "%.*s", (int)sizeof result.detail - 1, fetch->detail);
        void *context = fetch->request.context;
        void (*on_done)(void *, struct fetch_id, const struct fetch_result *) = fetch->request.on_done;
        set_state(fetch, FETCH_FREE);
        fetch->generation++; /* before the call: from inside it the id is stale, and the place may be used again */
        fetch->next = client->free;
        client->free = fetch;
        client->in_flight--;
        if (!client->is_destroyed)
            on_done(context, id, &result);
    }
}

/* Libcurl has returned: does what was postponed, closes what it let go of, tells who has ended. Called by the ring and by
 * timers only. */
static void settle(struct fetch_client *client)
{
    take_postponed(client);
    struct stripe *driven = client->driven;
    client->driven = NULL;
    if (driven) {
        take_finished(driven);
        limit_connections(driven);
    }
    fetch_sockets_sweep(&client->sockets);
    client->is_telling = true;
    tell_ended(client);
    client->is_telling = false;
    timer_cancel(client->worker, &client->settle_timer);
}

static void on_socket_ready(void *context, void *user, int fd, uint32_t events)
{
    (void)context;
    /* CURL_CSELECT_ERR alone would end the transfer without asking the socket why; so errors and hang-ups are passed as
     * readiness, and recv or send says what it is. */
    int curl_events = 0;
    if (events & (POLLIN | POLLHUP | POLLERR))
        curl_events |= CURL_CSELECT_IN;
    if (events & (POLLOUT | POLLERR))
        curl_events |= CURL_CSELECT_OUT;
    drive(user, fd, curl_events);
}

static void on_socket_handled(void *context)
{
    struct fetch_client *client = context;
    if (!client->is_destroyed)
        settle(client);
}

static void on_curl_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct stripe *stripe = container_of(timer, struct stripe, curl_timer);
    drive(stripe, CURL_SOCKET_TIMEOUT, 0);
    settle(stripe->client);
}

static void on_settle_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    settle(container_of(timer, struct fetch_client, settle_timer));
}

/* ---- starting --------------------------------------------------------------------------------------------------------- */

static bool is_http_url(const char *text)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    bool is_http = url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                   curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                   (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    curl_url_cleanup(url);
    return is_http;
}

static bool copy_headers(struct fetch *fetch, const char *const *headers)
{
    /* libcurl would ask for "100 Continue" above 1 MiB, and wait a second for those who never answer it. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; list && headers && headers[i]; i++) {
        struct curl_slist *longer = curl_slist_append(list, headers[i]);
        if (!longer)
            curl_slist_free_all(list);
        list = longer;
    }
    fetch->headers = list;
    return list != NULL;
}

/* Returns: whether libcurl took every option; it refuses one only for want of memory. */
static bool set_options(struct fetch *fetch, const struct fetch_request *request)
{
    struct fetch_client *client = fetch->client;
    CURL *easy = fetch->easy;
    int failures = 0;
#define SET(option, value) (failures += curl_easy_setopt(easy, (option), (value)) != CURLE_OK)
    SET(CURLOPT_PRIVATE, fetch);
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* also against the variables of the environment */
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a cancelled name lookup is left to its thread instead of waited for */
    SET(CURLOPT_BUFFERSIZE, (long)READ_BYTES);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_ERRORBUFFER, fetch->detail);
    SET(CURLOPT_HTTPHEADER, fetch->headers);
    if (client->ca_file)
        SET(CURLOPT_CAINFO, client->ca_file);

    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket_open);
    SET(CURLOPT_OPENSOCKETDATA, client);
    SET(CURLOPT_CLOSESOCKETFUNCTION, on_socket_close);
    SET(CURLOPT_CLOSESOCKETDATA, client);
    SET(CURLOPT_PREREQFUNCTION, on_request_sent);
    SET(CURLOPT_PREREQDATA, fetch);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, fetch);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, fetch);

    bool is_post = strcmp(request->method, "POST") == 0;
    if (is_post || request->body.size > 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        SET(CURLOPT_COPYPOSTFIELDS, request->body.size > 0 ? request->body.data : "");
    }
    if (strcmp(request->method, "HEAD") == 0)
        SET(CURLOPT_NOBODY, 1L);
    else if (!is_post)
        SET(CURLOPT_CUSTOMREQUEST, request->method);
#undef SET
    return failures == 0;
}

enum err fetch_start(struct fetch_client *client, const struct fetch_request *asked, struct fetch_id *ret_id,
                     struct error *error)
{
    ASSERT_ON_WORKER(client->worker);
    ASSERT(asked->on_done);
    struct fetch_request request;
    if (!is_http_url(asked->url))
        return error_set(error, ERR_INVALID, "not an http or https URL: %.200s", asked->url);
    enum err err = fetch_request_complete(asked, &request, error);
    if (err)
        return err;
    struct fetch *fetch = client->free;
    if (!fetch)
        return error_set(error, ERR_LIMIT, "%u requests in flight", client->in_flight);
    struct fetch *next_free = fetch->next;
    *fetch = (struct fetch){
        .client = client,
        .deadline = {.on_fire = on_deadline},
        .index = fetch->index,
        .generation = fetch->generation,
        .started_ns = clock_mono_ns(),
        .request = fetch_request_keep(&request),
    };
    fetch->easy = open_stripe(stripe_of(fetch)) ? curl_easy_init() : NULL;
    if (!fetch->easy || !copy_headers(fetch, request.headers) || !set_options(fetch, &request)) {
        curl_easy_cleanup(fetch->easy);
        curl_slist_free_all(fetch->headers);
        fetch->next = next_free;
        return error_set(error, ERR_NO_MEMORY, "libcurl has no memory for a request");
    }
    client->free = next_free;
    client->in_flight++;
    stripe_of(fetch)->in_flight++;
    if (client->sockets.is_held) {
        set_state(fetch, FETCH_POSTPONED);
        list_push(&client->postponed, fetch);
    } else {
        add_to_curl(fetch);
    }
    *ret_id = id_of(fetch);
    return OK;
}

void fetch_cancel(struct fetch_client *client, struct fetch_id id)
{
    ASSERT_ON_WORKER(client->worker);
    if (id.index >= client->in_flight_max)
        return;
    struct fetch *fetch = &client->fetches[id.index];
    bool is_open = fetch->state == FETCH_POSTPONED || fetch->state == FETCH_RUNNING;
    if (fetch->generation == id.generation && is_open)
        stop(fetch, ERR_CANCELLED, "cancelled");
}

uint32_t fetch_in_flight(const struct fetch_client *client)
{
    return client->in_flight;
}

/* ---- the client ------------------------------------------------------------------------------------------------------- */

enum err fetch_client_create(struct worker *worker, const struct fetch_options *options, struct fetch_client **ret_client,
                             struct error *error)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return error_set(error, ERR_SYSTEM, "libcurl does not start");
    struct fetch_client *client = calloc(1, sizeof *client);
    if (!client)
        goto no_client;
    client->worker = worker;
    client->in_flight_max = options->in_flight_max ? options->in_flight_max : 16384;
    client->idle_connections_max = options->idle_connections_max ? options->idle_connections_max : 256;
    client->settle_timer.on_fire = on_settle_timer;
    list_init(&client->postponed);
    list_init(&client->ended);
    const struct fetch_sockets_handler handler = {
        .context = client,
        .on_ready = on_socket_ready,
        .on_released = on_socket_released,
        .on_closed = on_socket_closed,
        .on_handled = on_socket_handled,
    };
    fetch_sockets_init(&client->sockets, worker_ring(worker), &handler);
    client->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
    client->fetches = calloc(client->in_flight_max, sizeof *client->fetches); /* pages are touched as they are used */
    client->stripe_count = (client->in_flight_max + STRIPE_FETCHES - 1) / STRIPE_FETCHES;
    client->stripes = calloc(client->stripe_count, sizeof *client->stripes);
    if ((options->ca_file && !client->ca_file) || !client->fetches || !client->stripes)
        goto free_client;
    for (uint32_t i = 0; i < client->stripe_count; i++)
        client->stripes[i] = (struct stripe){.client = client, .curl_timer = {.on_fire = on_curl_timer}};
    for (uint32_t i = client->in_flight_max; i-- > 0;) {
        client->fetches[i].client = client;
        client->fetches[i].index = i;
        client->fetches[i].generation = 1; /* a zeroed id names nothing */
        client->fetches[i].next = client->free;
        client->free = &client->fetches[i];
    }
    *ret_client = client;
    return OK;

free_client:
    free(client->stripes);
    free(client->fetches);
    free(client->ca_file);
    free(client);
no_client:
    curl_global_cleanup();
    return error_set(error, ERR_NO_MEMORY, "no memory for %u requests in flight", options->in_flight_max);
}

void fetch_client_destroy(struct fetch_client *client)
{
    if (!client)
        return;
    ASSERT_ON_WORKER(client->worker);
    ASSERT(!client->sockets.is_held && !client->is_telling);
    client->is_destroyed = true;
    for (uint32_t i = 0; i < client->in_flight_max; i++)
        fetch_cancel(client, (struct fetch_id){.index = i, .generation = client->fetches[i].generation});
    take_postponed(client);
    client->sockets.is_held = true;
    for (uint32_t i = 0; i < client->stripe_count; i++) {
        curl_multi_cleanup(client->stripes[i].multi); /* closes the idle connections; accepts NULL */
        timer_cancel(client->worker, &client->stripes[i].curl_timer);
    }
    client->sockets.is_held = false;
    fetch_sockets_sweep(&client->sockets);
    timer_cancel(client->worker, &client->settle_timer);
    while (client->sockets.count > 0)
        ring_step(worker_ring(client->worker), clock_mono_ns() + second_ns);
    tell_ended(client);
    ASSERT(client->in_flight == 0);
    timer_cancel(client->worker, &client->settle_timer);
    fetch_sockets_deinit(&client->sockets);
    free(client->stripes);
    free(client->fetches);
    free(client->ca_file);
    free(client);
    curl_global_cleanup();
}
