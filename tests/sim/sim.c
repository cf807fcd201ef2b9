/* SPDX-License-Identifier: Apache-2.0 */
/* sim: the whole server in one thread and in virtual time (run.h), from the command line:
 *
 *   sim --seed 7               one seed;  sim --from 1 --count 1000: many
 *   sim --story                the story, uncut: says how many I/Os it has
 *   sim --cut 17 --way tears   the story, cut there; without --way in every way; --count 10: cuts 17 to 26
 *
 * Each run is a child process, so that one that aborts harms no other; a failing one prints how to replay it. Modelled on
 * FoundationDB's and TigerBeetle's simulators. Limits: docs/SIMULATION.md.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/planted.h"
#include "runtime/sometimes.h"
#include "tests/sim/run.h"

static const char usage[] =
    "sim --seed N | --from N --count N | --story | --cut N [--count N] [--way loses|tears|twice|kills]\n"
    "    [--planted NAME] [--timeout S] [--stop] [--verbose] [--in-process]\n"
    "sim --list-planted | --list-sometimes\n";

struct options {
    bool is_story;
    uint64_t from, count, seconds; /* `from` is a seed, or the story's cut */
    int way;                       /* -1: each */
    const char *bug;
    bool is_verbose, is_in_process, stops_at_failure;
};

static enum planted find_planted(const char *name)
{
    for (int bug = 0; bug < PLANTED_COUNT; bug++)
        if (strcmp(planted_name((enum planted)bug), name) == 0)
            return (enum planted)bug;
    fprintf(stderr, "no planted bug %s; --list-planted lists them\n", name);
    exit(2);
}

static int find_way(const char *name)
{
    for (int way = 0; way < CUT_WAY_COUNT; way++)
        if (strcmp(cut_way_names[way], name) == 0)
            return way;
    fputs(usage, stderr);
    exit(2);
}

static void list_planted(void)
{
    for (int bug = 1; bug < PLANTED_COUNT; bug++)
        printf("%s\t%s\n", planted_name((enum planted)bug), planted_text((enum planted)bug));
}

static void list_sometimes(void)
{
    for (int what = 0; what < SOMETIMES_COUNT; what++)
        printf("%s\n", sometimes_name((enum sometimes)what));
}

static void run_one(const struct options *options, uint64_t number, int way)
{
    if (options->is_story)
        run_story(number, (enum cut_way)way, options->is_verbose);
    else
        run_seed(number, options->is_verbose);
}

static void print_replay(const struct options *options, const char *program, uint64_t number, int way, int status)
{
    bool is_signal = WIFSIGNALED(status);
    char what[64];
    if (!options->is_story)
        snprintf(what, sizeof what, "--seed %" PRIu64, number);
    else if (number == 0)
        snprintf(what, sizeof what, "--story");
    else
        snprintf(what, sizeof what, "--cut %" PRIu64 " --way %s", number, cut_way_names[way]);
    bool is_planted = strcmp(options->bug, "NONE") != 0;
    fprintf(stderr, "%s failed (%s %d); replay: %s %s --verbose%s%s\n", what + 2, is_signal ? "signal" : "exit",
            is_signal ? WTERMSIG(status) : WEXITSTATUS(status), program, what, is_planted ? " --planted " : "",
            is_planted ? options->bug : "");
}

/* Returns: whether it passed. */
static bool run_in_child(const struct options *options, const char *program, uint64_t number, int way)
{
    pid_t child = fork();
    if (child == 0) {
        alarm((unsigned)options->seconds); /* of real time: a livelock inside one step */
        run_one(options, number, way);
        exit(0); /* not _exit: AddressSanitizer then looks for leaks */
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("sim");
        exit(2);
    }
    if (status != 0)
        print_replay(options, program, number, way, status);
    return status == 0;
}

static void read_arguments(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--seed") == 0 || strcmp(argv[i], "--from") == 0)
            options->from = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--cut") == 0)
            options->from = strtoull(value, NULL, 10), options->is_story = true, i++;
        else if (strcmp(argv[i], "--count") == 0)
            options->count = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--way") == 0)
            options->way = find_way(value), i++;
        else if (strcmp(argv[i], "--planted") == 0)
            options->bug = value, i++;
        else if (strcmp(argv[i], "--timeout") == 0)
            options->seconds = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--story") == 0)
            options->is_story = true, options->from = 0;
        else if (strcmp(argv[i], "--verbose") == 0)
            options->is_verbose = true;
        else if (strcmp(argv[i], "--in-process") == 0)
            options->is_in_process = true; /* for a debugger: one run */
        else if (strcmp(argv[i], "--stop") == 0)
            options->stops_at_failure = true;
        else if (strcmp(argv[i], "--list-planted") == 0)
            list_planted(), exit(0);
        else if (strcmp(argv[i], "--list-sometimes") == 0)
            list_sometimes(), exit(0);
        else
            fputs(usage, stderr), exit(2);
    }
}

int main(int argc, char **argv)
{
    struct options options = {.from = 1, .count = 1, .seconds = 60, .way = -1, .bug = "NONE"};
    read_arguments(argc, argv, &options);
    planted_choose(find_planted(options.bug));
    log_set_level(options.is_verbose || options.is_in_process ? LOG_INFO : LOG_WARN);
    bool is_cut = options.is_story && options.from > 0;
    int first_way = options.way < 0 ? 0 : options.way,
        last_way = is_cut && options.way < 0 ? CUT_WAY_COUNT - 1 : first_way;
    if (options.is_in_process) {
        options.is_verbose = true;
        run_one(&options, options.from, first_way);
        return 0;
    }
    bool has_failed = false;
    for (uint64_t number = options.from; number < options.from + options.count; number++)
        for (int way = first_way; way <= last_way; way++) {
            has_failed |= !run_in_child(&options, argv[0], number, way);
            if (has_failed && options.stops_at_failure)
                return 1;
        }
    return has_failed;
}
