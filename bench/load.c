/* SPDX-License-Identifier: Apache-2.0 */
/* load: the load generator. Speaks HTTP, with or without event streams, or MessagePack-RPC to a running server, measures, and
 * checks while it measures: a run whose replies are wrong, lost or doubled exits with 1, whatever its speed.
 *
 *   load --http 127.0.0.1:7400 --connections 64 --seconds 10                       closed loop, echo agent
 *   load --http 127.0.0.1:7400 --dialogues FILE.jsonl.gz --open 10000 --rate 10000 --connections 1000 --expect any
 *   load --rpc 127.0.0.1:7401 --http 127.0.0.1:7400 --connections 4 --pipeline 256 --conversations 4096
 *   load --http 127.0.0.1:8080 --path / --connections 64                           any server, the same way
 *
 * Uses nothing of the server but the JSON reader and writer where speed does not matter, so that the judge is not the judged.
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/load_protocol.h"
#include "bench/load_run.h"
#include "bench/load_verify.h"
#include "bench/wire.h"

enum { THREADS_MAX = 2, PIPELINE_MAX = 4096 };

static const char usage[] =
    "usage: load --http IPv4:PORT | --rpc IPv4:PORT [--http IPv4:PORT] [options]\n"
    "  --rpc A                MessagePack-RPC; conversations are read back over --http when it is given, too\n"
    "  --sse                  over HTTP, the answer is the turn as an event stream\n"
    "  --connections C        TCP connections (64)\n"
    "  --conversations K      conversations that speak at the same time (C); with --dialogues: --open N\n"
    "  --speakers N           talkers in each conversation (1); many make it hot\n"
    "  --rate N               open loop: N messages a second in all (closed loop: as fast as replies come)\n"
    "  --seconds S            measured time (10)      --warmup S     before it, not measured (0)\n"
    "  --think-ms T           closed loop: pause before the next message (0)\n"
    "  --pipeline P           requests in flight a connection, at most 4096 (1; open loop 16)\n"
    "  --dialogues FILE.gz    say what the customers of these dialogues say\n"
    "  --typing-ahead PM      open loop: so many per mille do not wait for the reply (0)\n"
    "  --expect echo|contains|any   what a reply must be (echo)\n"
    "  --agent NAME           asks for that agent    --text-bytes N   of a generated message (64)\n"
    "  --async                202 as soon as it is durable; replies are checked by reading back\n"
    "  --read-back N          conversations to read back and check at the end (100)\n"
    "  --refusals-ok          429 and 503 are counted, and do not fail the run\n"
    "  --name NAME            conversations are NAME-<number>-<round> (a name made up for the run)\n"
    "  --drain S              wait for outstanding answers at the end (35)\n"
    "  --path P [--body B]    constant GET, or POST of B, instead of conversations; no check but the status\n"
    "  --threads T            1 or 2 (1)             --json           one line of JSON\n";

static _Noreturn void die_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most))
        die_usage();
    return value;
}

static uint32_t count(const char *text, uint32_t least, uint32_t most)
{
    return (uint32_t)number(text, least, most);
}

static enum load_expectation expectation(const char *text)
{
    if (strcmp(text, "echo") == 0)
        return LOAD_EXPECT_ECHO;
    if (strcmp(text, "contains") == 0)
        return LOAD_EXPECT_CONTAINS;
    if (strcmp(text, "any") == 0)
        return LOAD_EXPECT_ANY;
    die_usage();
}

/* What follows from what was given. */
static void settle_options(struct load_options *options)
{
    if (options->address)
        options->protocol = &load_rpc;
    else
        options->address = options->http_address;
    if (options->path)
        options->protocol = &load_constant;
    if (options->pipeline == 0)
        options->pipeline = options->rate > 0 ? 16 : 1;
    if (options->conversations == 0)
        options->conversations = options->connections * (options->path ? options->pipeline : 1);
    uint64_t talkers = (uint64_t)options->conversations * options->speakers;
    if (options->connections > talkers)
        options->connections = (uint32_t)talkers;
    if (options->threads > options->connections)
        options->threads = options->connections;
}

static void parse_options(int argc, char **argv, struct load_options *options, struct dialogues *dialogues)
{
    enum {
        HTTP = 1,
        RPC,
        SSE,
        CONNECTIONS,
        CONVERSATIONS,
        SPEAKERS,
        RATE,
        SECONDS,
        WARMUP,
        THINK,
        PIPELINE,
        DIALOGUES,
        TYPING_AHEAD,
        EXPECT,
        AGENT,
        TEXT_BYTES,
        ASYNC,
        READ_BACK,
        REFUSALS_OK,
        DRAIN,
        NAME,
        PATH,
        BODY,
        THREADS,
        JSON
    };
    static const struct option names[] = {
        {"http", required_argument, NULL, HTTP},
        {"rpc", required_argument, NULL, RPC},
        {"sse", no_argument, NULL, SSE},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"conversations", required_argument, NULL, CONVERSATIONS},
        {"open", required_argument, NULL, CONVERSATIONS},
        {"speakers", required_argument, NULL, SPEAKERS},
        {"rate", required_argument, NULL, RATE},
        {"seconds", required_argument, NULL, SECONDS},
        {"warmup", required_argument, NULL, WARMUP},
        {"think-ms", required_argument, NULL, THINK},
        {"pipeline", required_argument, NULL, PIPELINE},
        {"dialogues", required_argument, NULL, DIALOGUES},
        {"typing-ahead", required_argument, NULL, TYPING_AHEAD},
        {"expect", required_argument, NULL, EXPECT},
        {"agent", required_argument, NULL, AGENT},
        {"text-bytes", required_argument, NULL, TEXT_BYTES},
        {"async", no_argument, NULL, ASYNC},
        {"read-back", required_argument, NULL, READ_BACK},
        {"refusals-ok", no_argument, NULL, REFUSALS_OK},
        {"drain", required_argument, NULL, DRAIN},
        {"name", required_argument, NULL, NAME},
        {"path", required_argument, NULL, PATH},
        {"body", required_argument, NULL, BODY},
        {"threads", required_argument, NULL, THREADS},
        {"json", no_argument, NULL, JSON},
        {0},
    };
    *options = (struct load_options){.protocol = &load_http,
                                     .threads = 1,
                                     .connections = 64,
                                     .speakers = 1,
                                     .seconds = 10,
                                     .drain_s = 35,
                                     .read_back = 100,
                                     .text_bytes = 64};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case HTTP: options->http_address = optarg; break;
        case RPC: options->address = optarg; break;
        case SSE: options->protocol = &load_sse; break;
        case CONNECTIONS: options->connections = count(optarg, 1, 60000); break;
        case CONVERSATIONS: options->conversations = count(optarg, 1, 10000000); break;
        case SPEAKERS: options->speakers = count(optarg, 1, 100000); break;
        case RATE: options->rate = number(optarg, 0.001, 1e8); break;
        case SECONDS: options->seconds = number(optarg, 0.01, 1e6); break;
        case WARMUP: options->warmup_s = number(optarg, 0, 1e6); break;
        case THINK: options->think_ms = number(optarg, 0, 1e7); break;
        case PIPELINE: options->pipeline = count(optarg, 1, PIPELINE_MAX); break;
        case DIALOGUES:
            dialogues_load(dialogues, optarg);
            options->dialogues = dialogues;
            break;
        case TYPING_AHEAD: options->typing_ahead_per_mille = count(optarg, 0, 1000); break;
        case EXPECT: options->expectation = expectation(optarg); break;
        case AGENT: options->agent = optarg; break;
        case TEXT_BYTES: options->text_bytes = count(optarg, 1, 32000); break;
        case ASYNC: options->is_async = true; break;
        case READ_BACK: options->read_back = count(optarg, 0, 10000000); break;
        case REFUSALS_OK: options->refusals_ok = true; break;
        case DRAIN: options->drain_s = number(optarg, 0, 1e6); break;
        case NAME:
            if (strlen(optarg) >= LOAD_NAME_BYTES)
                die_usage();
            options->name = optarg;
            break;
        case PATH: options->path = optarg; break;
        case BODY: options->body = optarg; break;
        case THREADS: options->threads = count(optarg, 1, THREADS_MAX); break;
        case JSON: options->is_json = true; break;
        default: die_usage();
        }
    }
    settle_options(options);
    if (!options->address || optind != argc || (options->speakers > 1 && (options->dialogues || options->path)))
        die_usage();
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void *play(void *run)
{
    load_run_play(run);
    return NULL;
}

static void add_result(struct load_result *to, const struct load_result *from)
{
    histogram_add(&to->latency_ns, &from->latency_ns);
    to->sent += from->sent;
    to->answered += from->answered;
    to->succeeded += from->succeeded;
    for (int i = 0; i < LOAD_STATUS_MAX; i++)
        to->statuses[i] += from->statuses[i];
    to->wrong += from->wrong;
    to->duplicates += from->duplicates;
    to->lost += from->lost;
    to->unanswered += from->unanswered;
    to->refused += from->refused;
    to->broken_connections += from->broken_connections;
    to->measured_s = from->measured_s;
    if (to->first_problem[0] == '\0')
        memcpy(to->first_problem, from->first_problem, sizeof to->first_problem);
}

/* All talkers of the conversations of the sample, wherever they run. */
static void gather(const struct load_options *options, struct load_run **runs, struct load_conversation *conversations,
                   uint32_t sample)
{
    uint64_t total = options->conversations;
    for (uint32_t i = 0; i < options->threads; i++) {
        for (uint32_t j = 0; j < load_run_talker_count(runs[i]); j++) {
            struct load_talker talker = load_run_talker(runs[i], j);
            uint64_t at = (talker.conversation * (uint64_t)sample + total - 1) / total; /* spread over all */
            if (at >= sample || at * total / sample != talker.conversation)
                continue;
            if (talker.said > 0)
                memcpy(conversations[at].id, talker.id, sizeof talker.id);
            conversations[at].accepted += talker.accepted;
            conversations[at].has_gap |= talker.has_gap;
            conversations[at].speakers[talker.speaker] =
                (struct load_speaker){.accepted_numbers = talker.accepted_numbers, .said = talker.said};
        }
    }
}

static void read_back(const struct load_options *options, struct load_run **runs, struct load_result *result)
{
    uint32_t sample = options->read_back < options->conversations ? options->read_back : options->conversations;
    struct load_conversation *conversations = calloc(sample, sizeof *conversations);
    struct load_speaker *speakers = calloc((size_t)sample * options->speakers, sizeof *speakers);
    if (conversations && speakers) {
        for (uint32_t i = 0; i < sample; i++)
            conversations[i].speakers = speakers + (size_t)i * options->speakers;
        gather(options, runs, conversations, sample);
        load_verify(options, conversations, sample, result);
    }
    free(speakers);
    free(conversations);
}

static bool is_failed(const struct load_options *options, const struct load_result *result)
{
    return result->wrong || result->duplicates || result->lost || result->unanswered || result->read_back_wrong ||
           result->latency_ns.total == 0 || (result->refused && !options->refusals_ok);
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* Of this process: what the generator took from the cores that it shares with the server. */
static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* [percentile, ms] for a curve. */
static void print_curve(const struct histogram *latency)
{
    static const uint32_t curve[] = {1000, 2500, 5000, 7500, 9000, 9500, 9750, 9900, 9950, 9990, 9999};
    printf("\"curve\":[");
    for (size_t i = 0; i < sizeof curve / sizeof curve[0]; i++)
        printf("%s[%g,%.3f]", i ? "," : "", curve[i] / 100.0, ms(histogram_percentile(latency, curve[i])));
    printf("],");
}

static void print_json(const struct load_options *options, const struct load_result *result)
{
    const struct histogram *latency = &result->latency_ns;
    printf("{\"protocol\":\"%s\",\"loop\":\"%s\",\"rate\":%.1f,\"answered\":%" PRIu64 ",\"sent\":%" PRIu64
           ",\"succeeded\":%" PRIu64
           ",\"seconds\":%.3f,\"connections\":%u,\"conversations\":%u,\"pipeline\":%u,\"p50_ms\":%.3f,\"p95_ms\":%.3f,"
           "\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,\"generator_cpu_s\":%.2f,",
           options->protocol->name, options->rate > 0 ? "open" : "closed", (double)result->answered / result->measured_s,
           result->answered, result->sent, result->succeeded, result->measured_s, options->connections,
           options->conversations, options->pipeline, ms(histogram_percentile(latency, 5000)),
           ms(histogram_percentile(latency, 9500)), ms(histogram_percentile(latency, 9900)),
           ms(histogram_percentile(latency, 9990)), ms(latency->max), result->cpu_s);
    print_curve(latency);
    printf("\"statuses\":{");
    const char *comma = "";
    for (int i = 0; i < LOAD_STATUS_MAX; i++) {
        if (result->statuses[i]) {
            printf("%s\"%d\":%" PRIu64, comma, i, result->statuses[i]);
            comma = ",";
        }
    }
    printf("},\"wrong\":%" PRIu64 ",\"duplicates\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"unanswered\":%" PRIu64
           ",\"refused\":%" PRIu64 ",\"broken_connections\":%" PRIu64 ",\"read_back\":%" PRIu64
           ",\"read_back_events\":%" PRIu64 ",\"read_back_wrong\":%" PRIu64 ",\"ok\":%s}\n",
           result->wrong, result->duplicates, result->lost, result->unanswered, result->refused,
           result->broken_connections, result->read_back_conversations, result->read_back_events, result->read_back_wrong,
           is_failed(options, result) ? "false" : "true");
}

static void print_text(const struct load_options *options, const struct load_result *result)
{
    const struct histogram *latency = &result->latency_ns;
    printf("%.0f answers/s (%" PRIu64 " in %.1f s), %u connections, %u conversations, %s\n",
           (double)result->answered / result->measured_s, result->answered, result->measured_s, options->connections,
           options->conversations, options->rate > 0 ? "open loop, latency from the intended time" : "closed loop");
    printf("latency ms: p50 %.3f  p95 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n", ms(histogram_percentile(latency, 5000)),
           ms(histogram_percentile(latency, 9500)), ms(histogram_percentile(latency, 9900)),
           ms(histogram_percentile(latency, 9990)), ms(latency->max));
    printf("statuses:");
    for (int i = 0; i < LOAD_STATUS_MAX; i++) {
        if (result->statuses[i])
            printf(" %d x %" PRIu64, i, result->statuses[i]);
    }
    printf("\nwrong %" PRIu64 ", duplicates %" PRIu64 ", lost %" PRIu64 ", unanswered %" PRIu64 ", refused %" PRIu64 "\n",
           result->wrong, result->duplicates, result->lost, result->unanswered, result->refused);
    if (result->read_back_conversations > 0)
        printf("read back: %" PRIu64 " conversations, %" PRIu64 " events, %" PRIu64 " wrong\n",
               result->read_back_conversations, result->read_back_events, result->read_back_wrong);
}

int main(int argc, char **argv)
{
    static struct dialogues dialogues;
    static struct load_result result;
    struct load_options options;
    struct load_run *runs[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    char made_up[LOAD_NAME_BYTES];
    parse_options(argc, argv, &options, &dialogues);
    raise_descriptor_limit();
    if (!options.name) {
        snprintf(made_up, sizeof made_up, "load-%" PRIx64 "-%d", wire_now_ns() / 1000, (int)getpid());
        options.name = made_up;
    }

    for (uint32_t i = 0; i < options.threads; i++)
        runs[i] = load_run_create(&options, i);
    for (uint32_t i = 1; i < options.threads; i++) {
        if (pthread_create(&threads[i], NULL, play, runs[i]) != 0) {
            fputs("load: cannot start a thread\n", stderr);
            return 2;
        }
    }
    load_run_play(runs[0]);
    add_result(&result, load_run_result(runs[0]));
    for (uint32_t i = 1; i < options.threads; i++) {
        (void)pthread_join(threads[i], NULL);
        add_result(&result, load_run_result(runs[i]));
    }
    result.cpu_s = cpu_seconds();
    if (!options.path && options.http_address && options.read_back > 0)
        read_back(&options, runs, &result);
    for (uint32_t i = 0; i < options.threads; i++)
        load_run_destroy(runs[i]);

    if (options.is_json)
        print_json(&options, &result);
    else
        print_text(&options, &result);
    if (result.first_problem[0] != '\0')
        fprintf(stderr, "first problem: %s\n", result.first_problem);
    return is_failed(&options, &result) ? 1 : 0;
}
