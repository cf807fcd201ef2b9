/* SPDX-License-Identifier: Apache-2.0 */
/* explore: runs the scenarios in every order and with every value that the memory model allows; then takes from each acquire
 * and release of the sources their effect, one at a time, and demands that a scenario notices.
 *
 *   explore litmus                         whether the explorer itself finds what C11 allows, and no more
 *   explore scenarios [SCENARIO]           every schedule of the small ones
 *   explore pct [RUNS [SEED]]              random priorities for the large ones
 *   explore mutations TABLE                each line of the table must be caught, and each site be in it
 *   explore try SITE                       which scenarios catch that mutation: for a new line of the table
 *   explore replay SCENARIO CHOICES [SITE] one run, each operation printed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/worker_internal.h"
#include "tests/explore/model.h"
#include "tests/explore/scenario.h"

enum { RUNS_MAX = 500000, PCT_RUNS = 10000, PCT_DEPTH = 3, SITE_BYTES = 256 };

/* ---- scenarios ------------------------------------------------------------------------------------------------------------ */

struct scenario_list {
    const struct scenario *first;
    const size_t *count;
};
static const struct scenario_list lists[] = {
    {mailbox_scenarios, &mailbox_scenario_count},
    {worker_scenarios, &worker_scenario_count},
    {journal_scenarios, &journal_scenario_count},
};
enum { LIST_COUNT = sizeof lists / sizeof lists[0] };

/* Returns: the scenario of that number; NULL behind the last. */
static const struct scenario *scenario_at(size_t index)
{
    for (size_t i = 0; i < LIST_COUNT; i++) {
        if (index < *lists[i].count)
            return &lists[i].first[index];
        index -= *lists[i].count;
    }
    return NULL;
}

static const struct scenario *find_scenario(const char *name)
{
    for (size_t i = 0; scenario_at(i); i++) {
        if (strcmp(scenario_at(i)->name, name) == 0)
            return scenario_at(i);
    }
    return NULL;
}

static void explore_all(const struct scenario *scenario, struct schedule_result *ret_result)
{
    struct schedule_options options = {.manner = SCHEDULE_EXHAUSTIVE, .runs_max = RUNS_MAX};
    schedule_explore(&scenario->program, &options, ret_result);
}

static void explore_some(const struct scenario *scenario, uint64_t runs, uint64_t seed,
                         struct schedule_result *ret_result)
{
    struct schedule_options options = {.manner = SCHEDULE_PCT, .runs_max = runs, .seed = seed, .depth = PCT_DEPTH};
    schedule_explore(&scenario->program, &options, ret_result);
}

static bool report(const struct scenario *scenario, const struct schedule_result *result)
{
    printf("%-44s %9llu runs (%llu cut short), %llu steps at most%s\n", scenario->name, (unsigned long long)result->runs,
           (unsigned long long)result->redundant_runs, (unsigned long long)result->steps_max,
           result->is_exhausted ? ", all" : "");
    if (result->has_failed)
        printf("FAILED: %s\n  explore replay %s %s\n", result->failure, scenario->name, result->choices);
    return !result->has_failed;
}

static int run_scenarios(const char *name)
{
    int failures = 0;
    for (size_t i = 0; scenario_at(i); i++) {
        const struct scenario *scenario = scenario_at(i);
        if (scenario->is_large || (name && strcmp(scenario->name, name) != 0))
            continue;
        static struct schedule_result result;
        explore_all(scenario, &result);
        failures += !report(scenario, &result);
        if (!result.has_failed && !result.is_exhausted) {
            printf("FAILED: more than %d runs\n", RUNS_MAX);
            failures++;
        }
    }
    return failures;
}

static int run_pct(uint64_t runs, uint64_t seed)
{
    int failures = 0;
    for (size_t i = 0; scenario_at(i); i++) {
        static struct schedule_result result;
        if (!scenario_at(i)->is_large)
            continue;
        explore_some(scenario_at(i), runs, seed, &result);
        failures += !report(scenario_at(i), &result);
    }
    return failures;
}

static bool run_one_litmus(const struct litmus *litmus)
{
    static struct schedule_result result;
    struct schedule_options options = {.manner = SCHEDULE_EXHAUSTIVE, .runs_max = RUNS_MAX};
    schedule_explore(&litmus->program, &options, &result);
    const uint32_t seen = litmus_take_outcomes();
    const bool is_as_expected =
        litmus->is_race ? result.has_failed : !result.has_failed && result.is_exhausted && seen == litmus->outcomes;
    printf("%-44s %9llu runs, outcomes %#06x%s\n", litmus->name, (unsigned long long)result.runs, seen,
           litmus->is_race && is_as_expected ? ", races" : "");
    if (!is_as_expected)
        printf("FAILED: expected %#06x %s\n", litmus->outcomes, result.failure);
    return is_as_expected;
}

static int run_litmus(void)
{
    int failures = 0;
    for (size_t i = 0; i < litmus_count; i++)
        failures += !run_one_litmus(&litmus_programs[i]);
    return failures;
}

/* ---- mutations ------------------------------------------------------------------------------------------------------------ */

/* One of the halves of an operation's order. */
struct half {
    const char *name;
    uint8_t order;
};
static const struct half halves[] = {{"acquire", MODEL_ACQUIRE}, {"release", MODEL_RELEASE}};
enum { HALF_COUNT = sizeof halves / sizeof halves[0] };

/* "inbox_take exchange_acquire(&inbox->word) acquire" */
static void write_mutation(const struct model_site *site, const struct half *half, char *ret_text)
{
    snprintf(ret_text, SITE_BYTES, "%s %s(%s) %s", site->function, site->operation, site->place, half->name);
}

/* An inline function has a site in each source that includes it: all are one mutation. Returns: how many. */
static int apply_mutation(const char *text)
{
    int count = 0;
    for (struct model_site **entry = __start_model_sites; entry < __stop_model_sites; entry++) {
        struct model_site *site = *entry;
        site->dropped = 0;
        for (size_t i = 0; text && i < HALF_COUNT; i++) {
            char own_text[SITE_BYTES];
            write_mutation(site, &halves[i], own_text);
            if (!(site->orders & halves[i].order) || strcmp(own_text, text) != 0)
                continue;
            site->dropped = halves[i].order;
            count++;
        }
    }
    return count;
}

static void explore_mutated(const struct scenario *scenario, struct schedule_result *ret_result)
{
    if (scenario->is_large)
        explore_some(scenario, PCT_RUNS, 1, ret_result);
    else
        explore_all(scenario, ret_result);
}

/* "SITE | SCENARIO" Returns: whether the scenario catches it. */
static bool is_caught(char *line, char **ret_mutation)
{
    static struct schedule_result result;
    char *bar = strstr(line, " | ");
    *ret_mutation = line;
    if (!bar) {
        printf("FAILED: no scenario: %s\n", line);
        return false;
    }
    *bar = 0;
    const struct scenario *scenario = find_scenario(bar + 3);
    if (!scenario || apply_mutation(line) == 0) {
        printf("FAILED: no such %s: %s\n", scenario ? "site" : "scenario", scenario ? line : bar + 3);
        return false;
    }
    explore_mutated(scenario, &result);
    (void)apply_mutation(NULL);
    printf("%-74s %s after %llu runs\n", line, result.has_failed ? "caught" : "NOT CAUGHT",
           (unsigned long long)result.runs);
    return result.has_failed;
}

enum { MUTATIONS_MAX = 256 };

static int count_missing(char listed[][SITE_BYTES], size_t listed_count)
{
    int missing = 0;
    for (struct model_site **entry = __start_model_sites; entry < __stop_model_sites; entry++) {
        for (size_t i = 0; i < HALF_COUNT; i++) {
            if (!((*entry)->orders & halves[i].order) || strstr((*entry)->file, "litmus.c"))
                continue;
            char text[SITE_BYTES];
            write_mutation(*entry, &halves[i], text);
            size_t at = 0;
            while (at < listed_count && strcmp(listed[at], text) != 0)
                at++;
            if (at < listed_count)
                continue;
            printf("FAILED: %s:%d is not in the table: %s\n", (*entry)->file, (*entry)->line, text);
            missing++;
            if (listed_count < MUTATIONS_MAX)
                memcpy(listed[listed_count++], text, SITE_BYTES); /* told once */
        }
    }
    return missing;
}

static int run_mutations(const char *path)
{
    static char listed[MUTATIONS_MAX][SITE_BYTES];
    size_t listed_count = 0;
    int failures = 0;
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return 1;
    }
    for (char line[SITE_BYTES]; fgets(line, sizeof line, file);) {
        line[strcspn(line, "\n")] = 0;
        if (!line[0] || line[0] == '#')
            continue;
        char *mutation;
        failures += !is_caught(line, &mutation);
        if (listed_count < MUTATIONS_MAX)
            snprintf(listed[listed_count++], SITE_BYTES, "%s", mutation);
    }
    fclose(file);
    return failures + count_missing(listed, listed_count);
}

static int try_mutation(const char *mutation)
{
    if (apply_mutation(mutation) == 0) {
        printf("no such site: %s\n", mutation);
        return 1;
    }
    for (size_t i = 0; scenario_at(i); i++) {
        static struct schedule_result result;
        explore_mutated(scenario_at(i), &result);
        if (result.has_failed)
            (void)report(scenario_at(i), &result);
    }
    return 0;
}

static int replay(const char *name, const char *choices, const char *mutation)
{
    static struct schedule_result result;
    const struct scenario *scenario = find_scenario(name);
    if (!scenario || (mutation && apply_mutation(mutation) == 0)) {
        printf("no such %s\n", scenario ? "site" : "scenario");
        return 1;
    }
    struct schedule_options options = {.manner = SCHEDULE_REPLAY, .choices = choices, .is_traced = true};
    schedule_explore(&scenario->program, &options, &result);
    return !report(scenario, &result);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    schedule_keep((void **)&worker_current_);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(what, "litmus") == 0)
        return run_litmus() > 0;
    if (strcmp(what, "scenarios") == 0)
        return run_scenarios(argc > 2 ? argv[2] : NULL) > 0;
    if (strcmp(what, "pct") == 0)
        return run_pct(argc > 2 ? strtoull(argv[2], NULL, 10) : PCT_RUNS, argc > 3 ? strtoull(argv[3], NULL, 10) : 1) > 0;
    if (strcmp(what, "mutations") == 0 && argc == 3)
        return run_mutations(argv[2]) > 0;
    if (strcmp(what, "try") == 0 && argc == 3)
        return try_mutation(argv[2]);
    if (strcmp(what, "replay") == 0 && argc >= 4)
        return replay(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    fprintf(stderr,
            "usage: explore litmus | scenarios [SCENARIO] | pct [RUNS [SEED]] | mutations TABLE | try SITE | replay "
            "SCENARIO CHOICES [SITE]\n");
    return 2;
}
