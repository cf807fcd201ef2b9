/* SPDX-License-Identifier: Apache-2.0 */
/* world: boots, crashes and ends the server; plays the model provider. See world.h. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/config/config.h"
#include "actors/server.h"
#include "net/fetch_sim.h"
#include "net/json.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/ring_sim.h"
#include "runtime/sometimes.h"
#include "storage/disk_sim.h"

enum { SHUT_DOWN_STEPS_MAX = 2000000 };
static const uint64_t MS = 1000000;
static const char VFS_NAME[] = "sim";
/* On the simulated disk; the same for every process, so that a run is a function of its seed. */
static const char DIRECTORY[] = "/sim";
static uint64_t current_seed;

void fail(const char *format, ...)
{
    fflush(stdout);
    fprintf(stderr, "seed %" PRIu64 " FAILED: ", current_seed);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    fflush(stderr);
    _exit(1);
}

static bool is_telling;

void world_set_verbose(bool is_verbose)
{
    is_telling = is_verbose;
}

void tell(const char *format, ...)
{
    if (!is_telling)
        return;
    printf("%10.3f ms ", (double)clock_mono_ns() / 1e6);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

/* ---- the model provider --------------------------------------------------------------------------------------------------- */

/* V7: while the provider is down, an open breaker lets one call through at a time. The provider counts what it has answered; from
 * when the breaker must be open, with a margin for calls that had their permit before, it wants to see one call at most. */
static void note_outage_call(struct world *world, uint64_t ends_ns)
{
    static const uint64_t margin_ns = 1500 * 1000 * 1000ull;
    uint64_t now_ns = clock_mono_ns();
    uint32_t left = 0;
    for (uint32_t i = 0; i < world->call_count; i++) {
        if (world->call_ends_ns[i] > now_ns)
            world->call_ends_ns[left++] = world->call_ends_ns[i];
        else if (++world->failures_in_row == world->plan->breaker_failures)
            world->tripped_ns = now_ns;
    }
    world->call_count = left;
    if (world->tripped_ns && now_ns > world->tripped_ns + margin_ns && world->call_count > 0)
        fail("the provider is down, its breaker open, and two calls come at once");
    if (world->call_count < WORLD_CALLS_MAX && now_ns > world->outage_from_ns + margin_ns)
        world->call_ends_ns[world->call_count++] = ends_ns;
}

static void forget_outage_calls(struct world *world)
{
    world->call_count = world->failures_in_row = 0;
    world->tripped_ns = 0;
    if (world->outage_from_ns && clock_mono_ns() > world->outage_from_ns)
        world->outage_from_ns = clock_mono_ns();
}

static bool is_down(const struct world *world)
{
    uint64_t now_ns = clock_mono_ns();
    return !world->is_calm && now_ns >= world->outage_from_ns && now_ns < world->outage_until_ns;
}

/* The text of the last user message of a chat request. */
static struct slice last_user_text(struct slice body, char *buffer, size_t size)
{
    struct json_value root, messages, message, value;
    struct json_problem problem;
    struct slice text = {0};
    if (json_validate(body, &root, &problem) != OK)
        fail("the provider got bad JSON: %s at %zu", problem.reason, problem.offset);
    if (!json_find(root, "messages", &messages))
        fail("the provider got no messages");
    struct json_iterator iterator = {0};
    while (json_next_element(messages, &iterator, &message)) {
        struct slice role;
        char role_text[32];
        if (!json_find(message, "role", &value) || json_string(value, role_text, sizeof role_text, &role) != OK)
            fail("a message without role");
        if (!slice_has_text(role, "user"))
            continue;
        if (!json_find(message, "content", &value) || json_string(value, buffer, size, &text) != OK)
            fail("a message without content");
    }
    return text;
}

static void write_piece(struct fetch_sim_script *script, const char *json_text, uint64_t delay_ns)
{
    size_t before = script->body.size;
    buffer_append_format(&script->body, "data: %s\n\n", json_text);
    script->pieces[script->piece_count++] =
        (struct fetch_sim_piece){.delay_ns = delay_ns, .size = (uint32_t)(script->body.size - before)};
}

static void write_stream(struct fetch_sim_script *script, struct slice text, uint64_t random)
{
    uint64_t delay_ns = random % 200 * 1000000ull;
    const char *parts[2] = {"eco: ", NULL};
    char copy[256];
    snprintf(copy, sizeof copy, "%.*s", SLICE_PRINT(text));
    parts[1] = copy;
    for (int i = 0; i < 2; i++) {
        struct buffer line;
        buffer_init(&line, 4096);
        buffer_append_text(&line, "{\"choices\":[{\"index\":0,\"delta\":{\"content\":");
        json_write_string(&line, slice_from_text(parts[i]));
        buffer_append_text(&line, "},\"finish_reason\":null}]}");
        buffer_append_byte(&line, 0);
        write_piece(script, line.data, delay_ns);
        buffer_deinit(&line);
    }
    write_piece(script, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}", delay_ns / 4);
    write_piece(script, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}", 0);
    write_piece(script, "[DONE]", 0);
}

static void provide(void *context, const struct fetch_sim_call *call, struct fetch_sim_script *script)
{
    struct world *world = context;
    char buffer[4096];
    struct slice text = last_user_text(call->body, buffer, sizeof buffer);
    sim_trace(text.data, text.size);
    uint64_t random = call->random;
    unsigned customer, message;
    char said[64];
    snprintf(said, sizeof said, "%.*s", SLICE_PRINT(text));
    if (sscanf(said, "say-%u-%u", &customer, &message) != 2 || customer >= CUSTOMERS_MAX || message >= MESSAGES_MAX)
        fail("the provider is asked what nobody said: %s", said);
    world->arrivals[customer][message]++;
    world->was_asked = world->arrivals[customer][message];
    tell("provider: is asked %s, %u. time, after I/O %" PRIu64 "%s", said, world->arrivals[customer][message],
         world_io_count(world), world_is_flushing(world) ? ", in a flush" : "");
    if (is_down(world)) {
        uint64_t delay_ns = (300 + random % 1200) * 1000000;
        note_outage_call(world, clock_mono_ns() + delay_ns);
        script->status = 503;
        script->end_delay_ns = delay_ns;
        return;
    }
    bool is_faulty = !world->is_calm && random % 1000 < world->plan->provider_fault_per_mille;
    bool is_unwanted = strstr(said, " never") || (strstr(said, " later") && world->was_asked == 1); /* story.c */
    script->status = 200;
    write_stream(script, text, random >> 16);
    if (!is_faulty && !is_unwanted)
        return;
    switch (is_unwanted ? 2 : (random >> 32) % 6) {
    case 0: script->is_refused = true; break;
    case 1:
        script->status = 503;
        script->retry_after_ms = (random >> 40) % 3000;
        break;
    case 2: script->status = 429; break;
    case 3:
        script->code = ERR_PEER_CLOSED;
        script->body.size /= 3; /* cut within the second piece */
        script->piece_count = (random >> 40) % 2 && script->pieces[0].size <= script->body.size ? 1 : 0;
        break;
    case 4:
        script->is_stalled = true;
        script->piece_count = 1;
        break;
    case 5:
        script->body.size = 0;
        script->piece_count = 0;
        buffer_append_text(&script->body, "data: {\"choices\": [oops\n\n");
        break;
    }
    if (script->status != 200) {
        buffer_clear(&script->body);
        script->piece_count = 0;
        buffer_append_text(&script->body, "{\"error\":{\"message\":\"not now\",\"type\":\"server_error\"}}");
    }
}

/* ---- the log ---------------------------------------------------------------------------------------------------------------- */

/* What the server says only when it has found a mistake of its own. */
static const char *const alarms[] = {
    "messages_leaked",           "conversation_crashed",       "conversation_append_refused",
    "conversation_step_broken",  "conversation_stray_message", "directory_stray_message",
    "conversation_in_quarantine"};

static void take_log_line(void *context, struct slice line)
{
    (void)context;
    if (is_telling)
        printf("%.*s", SLICE_PRINT(line));
    for (size_t i = 0; i < sizeof alarms / sizeof *alarms; i++)
        if (memmem(line.data, line.size, alarms[i], strlen(alarms[i])))
            fail("the server's log has an alarm: %.*s", SLICE_PRINT(line));
}

/* ---- life ------------------------------------------------------------------------------------------------------------------ */

static uint64_t draw_for_disk(void *context)
{
    (void)context;
    return sim_random_u64();
}

void world_create(struct world *world, const struct plan *plan)
{
    current_seed = plan->seed;
    *world = (struct world){.plan = plan};
    snprintf(world->config_path, sizeof world->config_path, "/dev/shm/ciranda-sim-%d.yaml", (int)getpid());
    log_set_sink(take_log_line, NULL);
    sim_world_reset(plan->seed, &plan->network);
    const struct disk_sim_options options = {
        .name = VFS_NAME, .random = draw_for_disk, .is_powersafe = plan->seed % 2 == 0};
    world->disk = disk_sim_create(&options);
    if (!world->disk)
        fail("no simulated disk");
    fetch_sim_set_provider(provide, world);
    if (plan->outage_ms) {
        world->outage_from_ns = clock_mono_ns() + sim_random_below(10000) * 1000000;
        world->outage_until_ns = world->outage_from_ns + plan->outage_ms * 1000000ull;
    }
}

static void write_config(const struct world *world)
{
    const struct plan *plan = world->plan;
    FILE *file = fopen(world->config_path, "w");
    if (!file)
        fail("cannot write %s", world->config_path);
    fprintf(
        file,
        "server: {http_listen: '127.0.0.1:7400', rpc_listen: '', data: '%s', workers: %u, memory: 64MiB, drain: 20s}\n"
        "log: {level: error}\n"
        "conversation: {idle: %ums, dedup_messages: %u, history_messages: %u, queued_turns: %u, mailbox_messages: %u, "
        "turn_timeout: 120s}\n"
        "http: {pipeline: %u}\n"
        "agents:\n"
        "  echo: {kind: echo}\n"
        "  desk: {kind: rules, rules: [{match: [humano], handoff: 'queue:desk'}], otherwise: {agent: echo}}\n"
        "  bot: {kind: llm, provider: main, model: m}\n"
        "providers:\n"
        "  main: {type: openai, base_url: 'http://model/v1', timeout: 20s, idle_timeout: 5s, first_byte_timeout: 5s,\n"
        "    breaker: {failures: %u, open_for: 2s, successes: 1}, retry: {attempts: %u, backoff: 10ms..500ms}}\n"
        "routing: {default: desk}\n",
        DIRECTORY, plan->workers, plan->idle_ms, plan->dedup_messages, plan->history_messages, plan->queued_turns,
        plan->mailbox_messages, plan->pipeline, plan->breaker_failures, plan->retry_attempts);
    if (fclose(file) != 0)
        fail("cannot write %s", world->config_path);
}

void world_boot(struct world *world)
{
    ASSERT(!world->server && world->plan->workers + 2 <= WORLD_PARTS_MAX);
    write_config(world);
    struct error error = {0};
    struct config *config;
    const struct config_flags flags = {.file = world->config_path};
    if (config_load(&flags, &config, &error) != OK)
        fail("configuration: %s", error.text);
    const struct server_options options = {
        .config = config, .journal_vfs = VFS_NAME, .records_waiting_max = world->plan->records_waiting};
    enum err code = server_create(&options, &world->server, &error);
    if (code == OK)
        code = server_start_stepped(world->server, &error);
    config_unref(config);
    if (code != OK && world_is_broken(world)) {
        SOMETIMES(CRASH_IN_RECOVERY, true);
        world_crash(world, true); /* cut again while it recovered */
        world_boot(world);
        return;
    }
    if (code == ERR_STORAGE_FULL && world->full_until_ns) {
        SOMETIMES(START_WITHOUT_ROOM, true);
        world_crash(world, false); /* a start that has no room says so; somebody makes some and starts again */
        world_set_room(world, 0, 0);
        world_boot(world);
        return;
    }
    if (code != OK)
        fail("start %u: %s", world->lives + 1, error.text);
    snprintf(world->address, sizeof world->address, "%s", server_http_address(world->server));
    world->lives++;
    sim_trace_u64(world->lives);
    tell("server: life %u", world->lives);
}

void world_crash(struct world *world, bool is_power_cut)
{
    tell("server: %s at I/O %" PRIu64, is_power_cut ? "power cut" : "killed", world_io_count(world));
    server_abandon(world->server);
    world->server = NULL;
    forget_outage_calls(world);
    memset(world->held_until_ns, 0, sizeof world->held_until_ns);
    metrics_reset();
    sim_world_kill_server();
    if (is_power_cut && !disk_sim_is_crashed(world->disk))
        disk_sim_crash(world->disk);
    if (disk_sim_is_crashed(world->disk))
        disk_sim_restart(world->disk);
    disk_sim_set_loss(world->disk, DISK_SIM_LOSS_DRAWN);
    if (world->cut_again)
        disk_sim_schedule(world->disk, DISK_SIM_CRASH, world->cut_again, 1);
    world->cut_again = 0;
}

void world_set_room(struct world *world, uint64_t bytes_max, uint64_t until_ns)
{
    tell(bytes_max ? "disk: full until %.3f ms" : "disk: has room", (double)until_ns / 1e6);
    disk_sim_set_bytes_max(world->disk, bytes_max);
    world->full_until_ns = until_ns;
}

bool world_is_broken(const struct world *world)
{
    return disk_sim_is_crashed(world->disk);
}

uint64_t world_io_count(const struct world *world)
{
    struct disk_sim_stats stats;
    disk_sim_get_stats(world->disk, &stats);
    return stats.ios;
}

uint64_t world_cut_count(const struct world *world)
{
    struct disk_sim_stats stats;
    disk_sim_get_stats(world->disk, &stats);
    return stats.crashes;
}

bool world_is_flushing(const struct world *world)
{
    return world->held_until_ns[world->plan->workers] > clock_mono_ns();
}

uint32_t world_part_count(const struct world *world)
{
    return world->server ? server_part_count(world->server) : 0;
}

bool world_step_part(struct world *world, uint32_t part)
{
    uint64_t now_ns = clock_mono_ns();
    if (now_ns < world->held_until_ns[part])
        return false;
    bool did_something = server_step_part(world->server, part);
    if (!did_something || world->is_calm)
        return did_something;
    bool is_writer = part == world->plan->workers;
    uint64_t hold_ns_max = is_writer ? world->plan->flush_ms_max * MS : 0;
    if (is_writer && sim_chance(world->plan->stuck_per_mille))
        hold_ns_max = world->plan->stuck_ms_max * MS;
    else if (sim_chance(world->plan->hold_per_mille))
        hold_ns_max = world->plan->hold_ms_max * MS;
    if (hold_ns_max)
        world->held_until_ns[part] = now_ns + sim_random_below(hold_ns_max);
    return did_something;
}

void world_check(const struct world *world, bool is_at_rest)
{
    for (uint32_t part = 0; part < world_part_count(world); part++)
        is_at_rest &= world->held_until_ns[part] <= clock_mono_ns();
    server_check(world->server, is_at_rest);
}

bool world_advance(struct world *world, uint64_t other_ns)
{
    uint64_t next_ns = sim_world_next_event_ns();
    next_ns = other_ns < next_ns ? other_ns : next_ns;
    for (uint32_t part = 0; part < world_part_count(world); part++) {
        uint64_t part_ns = server_part_deadline_ns(world->server, part), held_ns = world->held_until_ns[part];
        if (held_ns > clock_mono_ns()) /* what it has to do is not known to the clock: it may be a message */
            part_ns = held_ns;
        next_ns = part_ns < next_ns ? part_ns : next_ns;
    }
    if (next_ns == UINT64_MAX)
        return false;
    uint64_t now_ns = clock_mono_ns();
    sim_clock_advance_to(next_ns > now_ns ? next_ns : now_ns + 1000);
    return true;
}

void world_calm(struct world *world)
{
    tell("calm");
    world->is_calm = true;
    memset(world->held_until_ns, 0, sizeof world->held_until_ns);
    const struct sim_options perfect = {.latency_ns_min = 1000, .latency_ns_max = 1000000};
    sim_world_set_options(&perfect);
    world_set_room(world, 0, 0);
    for (int fault = 0; fault < DISK_SIM_FAULT_COUNT; fault++)
        disk_sim_schedule(world->disk, (enum disk_sim_fault)fault, 1, 0);
}

bool world_has_bytes(const struct world *world, const char *text)
{
    static const char *const names[] = {"journal.db", "journal.db-wal"};
    for (int i = 0; i < 2; i++) {
        char path[64];
        const uint8_t *bytes;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", DIRECTORY, names[i]);
        if (disk_sim_peek(world->disk, path, &bytes, &size) && size && memmem(bytes, size, text, strlen(text)))
            return true;
    }
    return false;
}

int world_rot(struct world *world)
{
    char path[64];
    snprintf(path, sizeof path, "%s/journal.db", DIRECTORY);
    const uint8_t *bytes;
    size_t size;
    if (!disk_sim_peek(world->disk, path, &bytes, &size) || size == 0)
        return -1;
    size_t start = sim_random_below(size);
    /* Texts of messages look like "say-<customer>-<number>": see customer.c. */
    const uint8_t *found = memmem(bytes + start, size - start, "say-", 4);
    if (!found || (size_t)(found - bytes) + 6 > size)
        return -1;
    int customer = found[4] - '0';
    if (customer < 0 || customer >= (int)world->plan->customers)
        return -1;
    disk_sim_flip_bit(world->disk, path, (uint64_t)(found - bytes) * 8 + sim_random_below(24));
    tell("disk: a bit of customer %d's conversation flips", customer);
    return customer % (int)world->plan->conversations;
}

void world_shut_down(struct world *world)
{
    server_drain(world->server);
    for (uint32_t steps = 0; server_http_address(world->server)[0]; steps++) {
        bool did_something = false;
        for (uint32_t part = 0; part < world_part_count(world); part++)
            did_something |= world_step_part(world, part);
        if (world_is_broken(world) || (!did_something && server_is_drained(world->server)))
            break;
        if (!did_something && !world_advance(world, UINT64_MAX))
            break;
        if (steps > SHUT_DOWN_STEPS_MAX)
            fail("the server does not come to rest");
    }
    if (world_is_broken(world)) {
        world_crash(world, true);
        return;
    }
    if (!server_is_drained(world->server))
        fail("the server did not drain");
    server_destroy(world->server);
    world->server = NULL;
    sim_world_kill_server();
    if (world_is_broken(world))
        disk_sim_restart(world->disk);
}

void world_destroy(struct world *world)
{
    disk_sim_destroy(world->disk);
    sim_world_destroy();
    (void)remove(world->config_path);
    log_set_sink(NULL, NULL);
}
