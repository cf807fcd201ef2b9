/* SPDX-License-Identifier: Apache-2.0 */
/* serve: configuration and limits, then the server, then waiting for its end. A start that fails says why on stderr in plain
 * words; from then on stderr is the log, one JSON object a line, and stdout holds the one line that says where it listens. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "actors/config/config.h"
#include "actors/server.h"
#include "cli/command.h"
#include "cli/serve_signals.h"
#include "net/json.h"
#include "runtime/buffer.h"
#include "runtime/log.h"

enum { DESCRIPTORS_MIN = 64, WORKERS_MAX = 64 };

static const char help[] =
    "usage: ciranda serve [OPTIONS]\n"
    "\n"
    "  --config FILE            YAML; without it the bundled configuration: agents echo and triage\n"
    "  --listen ADDR:PORT       HTTP (default 127.0.0.1:7400); port 0 picks a free one\n"
    "  --rpc-listen ADDR:PORT   MessagePack-RPC (default 127.0.0.1:7401); \"\" switches it off\n"
    "  --data DIR               the journal's folder (default ./data), made when missing\n"
    "  --workers N              threads, 1 to 64 (default: one a processor)\n"
    "  --help, --version\n"
    "\n"
    "Every value of the file can be set as CIRANDA__SECTION__KEY. Prints one JSON line on stdout when it is ready.\n"
    "SIGTERM drains and exits 0, twice leaves at once; SIGHUP reloads. Exit codes: 0 ok, 1 failed, 2 usage or\n"
    "configuration.\n";

enum { OPTION_CONFIG, OPTION_LISTEN, OPTION_RPC_LISTEN, OPTION_DATA, OPTION_WORKERS, OPTION_HELP, OPTION_VERSION };
static const struct option options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"rpc-listen", required_argument, NULL, OPTION_RPC_LISTEN},
    {"data", required_argument, NULL, OPTION_DATA},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {0},
};

static bool parse_workers(const char *text, uint32_t *ret_workers)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || number < 1 || number > WORKERS_MAX)
        return false;
    *ret_workers = (uint32_t)number;
    return true;
}

/* Returns: -1 to go on, else the exit code. */
static int parse_flags(int count, char **arguments, struct config_flags *flags)
{
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        switch (option) {
        case OPTION_CONFIG: flags->file = optarg; break;
        case OPTION_LISTEN: flags->http_listen = optarg; break;
        case OPTION_RPC_LISTEN: flags->rpc_listen = optarg; break;
        case OPTION_DATA: flags->data = optarg; break;
        case OPTION_WORKERS:
            if (!parse_workers(optarg, &flags->workers))
                return command_refuse("serve", "--workers takes a number from 1 to 64");
            break;
        case OPTION_HELP: return command_print_help(help);
        case OPTION_VERSION: return command_print_version();
        default: return command_refuse("serve", "unknown or incomplete option");
        }
    }
    return optind == count ? -1 : command_refuse("serve", "takes options only");
}

/* The parameter's type is glibc's: its prototypes take an enum, and its constants are one. */
static void raise_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(resource, &limit); /* what remains too low is told by whoever needs it */
    }
}

static enum err check_descriptors(struct error *error)
{
    struct rlimit limit;
    raise_limit(RLIMIT_NOFILE);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < DESCRIPTORS_MIN)
        return error_set(error, ERR_SYSTEM,
                         "only %lu file descriptors may be open, %d are the least: raise ulimit -n (or LimitNOFILE)",
                         (unsigned long)limit.rlim_cur, DESCRIPTORS_MIN);
    return OK;
}

static int fail(const struct error *error)
{
    log_stop(); /* its lines first */
    fprintf(stderr, "ciranda serve: %s\n", error->text);
    return error->code == ERR_CONFIG ? COMMAND_USAGE : COMMAND_FAILED;
}

static enum log_level level_of(const struct config *config)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN}, {"error", LOG_ERROR}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (slice_has_text(config->log.level, levels[i].name))
            return levels[i].level;
    }
    return LOG_INFO;
}

static void print_listening(const struct server *server)
{
    struct buffer line;
    buffer_init(&line, 512);
    bool is_first = true;
    buffer_append_byte(&line, '{');
    json_write_key(&line, "event", &is_first);
    json_write_string(&line, SLICE_LITERAL("listening"));
    json_write_key(&line, "http", &is_first);
    json_write_string(&line, slice_from_text(server_http_address(server)));
    json_write_key(&line, "rpc", &is_first);
    json_write_string(&line, slice_from_text(server_rpc_address(server)));
    buffer_append_byte(&line, '}');
    printf("%.*s\n", SLICE_PRINT(buffer_slice(&line)));
    fflush(stdout);
    buffer_deinit(&line);
}

/* From a created server to its end. */
static int run(struct server *server, const struct config_flags *flags)
{
    struct error error = {0};
    struct serve_signals signals;
    enum err code = server_start(server, &error);
    if (code != OK)
        return fail(&error);
    code = serve_signals_start(&signals, server, flags, &error);
    if (code != OK)
        return fail(&error);
    print_listening(server);
    code = server_join(server);
    serve_signals_stop(&signals);
    return code == OK ? COMMAND_OK : COMMAND_FAILED; /* the log has said why */
}

int command_serve(int count, char **arguments)
{
    struct config_flags flags = {0};
    struct error error = {0};
    int leave = parse_flags(count, arguments, &flags);
    if (leave >= 0)
        return leave;

    struct config *config;
    if (config_load(&flags, &config, &error) != OK)
        return fail(&error);
    log_set_level(level_of(config));
    serve_signals_block();
    raise_limit(RLIMIT_MEMLOCK); /* rings count against it on old kernels */
    struct server *server = NULL;
    enum err code = check_descriptors(&error);
    if (code == OK)
        code = log_start(&error);
    if (code == OK)
        code = server_create(&(struct server_options){.config = config}, &server, &error);
    config_unref(config);
    int exit_code = code == OK ? run(server, &flags) : fail(&error);
    server_destroy(server);
    log_stop();
    return exit_code;
}
