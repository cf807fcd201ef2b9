/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: one row of cells a worker and one shared row, all static; a row is touched only by who counts in it.
 *
 * A counter or gauge owns one cell of each row, a histogram one a bucket and one for its sum. Rows start on cache lines of
 * their own; untouched pages cost no memory. A worker's update is a relaxed load and store (no lock prefix), another thread's
 * an atomic add in the shared row. A reader adds up the rows and may see an observation's bucket before its sum: scrapes are
 * seconds apart and nobody divides the two by hand.
 * Callers: every part counts; the /metrics route and `ciranda top` read.
 */
#include "runtime/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/worker.h"

enum {
    METRICS_MAX = 1024,
    CELLS_MAX = 8192, /* 1,024 metrics, of which up to 265 histograms */
    WORKERS_MAX = 64, /* worker.h */
    SHARED_ROW = WORKERS_MAX,
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const struct {
    uint64_t ns;
    const char *le;
} buckets[] = {
    {1000, "1e-06"},    {2000, "2e-06"},     {5000, "5e-06"},     {10000, "1e-05"},    {20000, "2e-05"},
    {50000, "5e-05"},   {100000, "0.0001"},  {200000, "0.0002"},  {500000, "0.0005"},  {1000000, "0.001"},
    {2000000, "0.002"}, {5000000, "0.005"},  {10000000, "0.01"},  {20000000, "0.02"},  {50000000, "0.05"},
    {100000000, "0.1"}, {200000000, "0.2"},  {500000000, "0.5"},  {1000000000, "1"},   {2000000000, "2"},
    {5000000000, "5"},  {10000000000, "10"}, {20000000000, "20"}, {50000000000, "50"}, {100000000000, "100"},
};
enum {
    BUCKET_COUNT = sizeof buckets / sizeof buckets[0],
    BUCKET_INFINITE = BUCKET_COUNT, /* what is above the last */
    HISTOGRAM_SUM,
    HISTOGRAM_CELLS,
};

struct registration {
    enum metric_kind kind;
    uint32_t first_cell;
    uint32_t next_of_name; /* chain of one name's label sets, in order of registration; 0 ends it */
    bool is_first_of_name;
    char *name, *help, *labels; /* labels "" for none */
};

static struct {
    pthread_mutex_t lock; /* registration only: workers' on_start may run side by side */
    uint32_t count;       /* index 0 is the ignored metric */
    uint32_t cell_count;
    struct registration table[METRICS_MAX];
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .count = 1};

static struct row {
    _Alignas(64) _Atomic uint64_t cells[CELLS_MAX];
} rows[WORKERS_MAX + 1];

/* ---- registration ------------------------------------------------------------------------------------------------------ */

static char *copy_text(const char *text)
{
    char *copy = strdup(text ? text : "");
    ASSERT(copy != NULL);
    return copy;
}

static uint32_t find_or_add(enum metric_kind kind, const char *name, const char *help, const char *labels)
{
    uint32_t last_of_name = 0;
    for (uint32_t i = 1; i < registry.count; i++) {
        if (strcmp(registry.table[i].name, name) != 0)
            continue;
        ASSERT(registry.table[i].kind == kind);
        if (strcmp(registry.table[i].labels, labels ? labels : "") == 0)
            return i;
        last_of_name = i;
    }
    uint32_t cells = kind == METRIC_HISTOGRAM ? HISTOGRAM_CELLS : 1;
    ASSERT(registry.count < METRICS_MAX);
    ASSERT(registry.cell_count + cells <= CELLS_MAX);
    uint32_t index = registry.count++;
    registry.table[index] = (struct registration){
        .kind = kind,
        .first_cell = registry.cell_count,
        .is_first_of_name = last_of_name == 0,
        .name = copy_text(name),
        .help = copy_text(help),
        .labels = copy_text(labels),
    };
    registry.cell_count += cells;
    if (last_of_name)
        registry.table[last_of_name].next_of_name = index;
    return index;
}

static struct metric register_metric(enum metric_kind kind, const char *name, const char *help, const char *labels)
{
    pthread_mutex_lock(&registry.lock);
    struct metric metric = {find_or_add(kind, name, help, labels)};
    pthread_mutex_unlock(&registry.lock);
    return metric;
}

struct metric metrics_register_counter(const char *name, const char *help, const char *labels)
{
    return register_metric(METRIC_COUNTER, name, help, labels);
}

struct metric metrics_register_gauge(const char *name, const char *help, const char *labels)
{
    return register_metric(METRIC_GAUGE, name, help, labels);
}

struct metric metrics_register_histogram(const char *name, const char *help, const char *labels)
{
    return register_metric(METRIC_HISTOGRAM, name, help, labels);
}

/* ---- counting ------------------------------------------------------------------------------------------------------------ */

static uint32_t current_row(void)
{
    const struct worker *worker = worker_current();
    return worker ? worker_index(worker) : SHARED_ROW;
}

static void add_to_cell(uint32_t row, uint32_t cell, uint64_t amount)
{
    _Atomic uint64_t *place = &rows[row].cells[cell];
    if (row == SHARED_ROW)
        atomic_fetch_add_explicit(place, amount, memory_order_relaxed);
    else
        atomic_store_explicit(place, atomic_load_explicit(place, memory_order_relaxed) + amount, memory_order_relaxed);
}

void metrics_add(struct metric metric, uint64_t amount)
{
    if (metric.index == 0)
        return;
    ASSERT_SLOW(registry.table[metric.index].kind != METRIC_HISTOGRAM);
    add_to_cell(current_row(), registry.table[metric.index].first_cell, amount);
}

void metrics_set(struct metric metric, int64_t value)
{
    if (metric.index == 0)
        return;
    ASSERT_SLOW(registry.table[metric.index].kind == METRIC_GAUGE);
    atomic_store_explicit(&rows[current_row()].cells[registry.table[metric.index].first_cell], (uint64_t)value,
                          memory_order_relaxed);
}

static uint32_t bucket_of(uint64_t ns)
{
    uint32_t low = 0, high = BUCKET_COUNT; /* the answer is the first bucket whose bound is not below ns */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (buckets[middle].ns < ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void metrics_observe_ns(struct metric metric, uint64_t ns)
{
    if (metric.index == 0)
        return;
    ASSERT_SLOW(registry.table[metric.index].kind == METRIC_HISTOGRAM);
    uint32_t row = current_row(), first_cell = registry.table[metric.index].first_cell;
    add_to_cell(row, first_cell + bucket_of(ns), 1);
    add_to_cell(row, first_cell + HISTOGRAM_SUM, ns);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static uint64_t sum_of_cell(uint32_t cell)
{
    uint64_t sum = 0;
    for (uint32_t row = 0; row <= SHARED_ROW; row++)
        sum += atomic_load_explicit(&rows[row].cells[cell], memory_order_relaxed);
    return sum;
}

uint64_t metrics_read(struct metric metric)
{
    const struct registration *registration = &registry.table[metric.index];
    if (metric.index == 0)
        return 0;
    if (registration->kind != METRIC_HISTOGRAM)
        return sum_of_cell(registration->first_cell);
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket <= BUCKET_INFINITE; bucket++)
        count += sum_of_cell(registration->first_cell + bucket);
    return count;
}

static void write_seconds(struct buffer *out, uint64_t ns)
{
    buffer_append_format(out, "%llu.%09llu", (unsigned long long)(ns / 1000000000),
                         (unsigned long long)(ns % 1000000000));
}

static void write_histogram(struct buffer *out, const struct registration *metric)
{
    const char *comma = metric->labels[0] ? "," : "";
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket <= BUCKET_INFINITE; bucket++) {
        count += sum_of_cell(metric->first_cell + bucket);
        buffer_append_format(out, "ciranda_%s_bucket{%s%sle=\"%s\"} %llu\n", metric->name, metric->labels, comma,
                             bucket == BUCKET_INFINITE ? "+Inf" : buckets[bucket].le, (unsigned long long)count);
    }
    const char *open = metric->labels[0] ? "{" : "", *close = metric->labels[0] ? "}" : "";
    buffer_append_format(out, "ciranda_%s_sum%s%s%s ", metric->name, open, metric->labels, close);
    write_seconds(out, sum_of_cell(metric->first_cell + HISTOGRAM_SUM));
    buffer_append_format(out, "\nciranda_%s_count%s%s%s %llu\n", metric->name, open, metric->labels, close,
                         (unsigned long long)count);
}

static void write_metric(struct buffer *out, const struct registration *metric)
{
    const char *open = metric->labels[0] ? "{" : "", *close = metric->labels[0] ? "}" : "";
    uint64_t value = metric->kind == METRIC_HISTOGRAM ? 0 : sum_of_cell(metric->first_cell);
    switch (metric->kind) {
    case METRIC_COUNTER:
        buffer_append_format(out, "ciranda_%s%s%s%s %llu\n", metric->name, open, metric->labels, close,
                             (unsigned long long)value);
        break;
    case METRIC_GAUGE:
        buffer_append_format(out, "ciranda_%s%s%s%s %lld\n", metric->name, open, metric->labels, close, (long long)value);
        break;
    case METRIC_HISTOGRAM: write_histogram(out, metric); break;
    }
}

void metrics_write_text(struct buffer *out)
{
    static const char *const kind_names[] = {"counter", "gauge", "histogram"};
    pthread_mutex_lock(&registry.lock);
    for (uint32_t first = 1; first < registry.count; first++) {
        const struct registration *metric = &registry.table[first];
        if (!metric->is_first_of_name)
            continue;
        buffer_append_format(out, "# HELP ciranda_%s %s\n# TYPE ciranda_%s %s\n", metric->name, metric->help,
                             metric->name, kind_names[metric->kind]);
        for (uint32_t i = first; i != 0; i = registry.table[i].next_of_name)
            write_metric(out, &registry.table[i]);
    }
    pthread_mutex_unlock(&registry.lock);
}

void metrics_reset(void)
{
    for (uint32_t row = 0; row <= SHARED_ROW; row++)
        for (uint32_t cell = 0; cell < registry.cell_count; cell++)
            atomic_store_explicit(&rows[row].cells[cell], 0, memory_order_relaxed);
}

/* ---- the process --------------------------------------------------------------------------------------------------------- */

static uint64_t resident_bytes(void)
{
    unsigned long long total_pages = 0, resident_pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &total_pages, &resident_pages) != 2)
        resident_pages = 0;
    fclose(file);
    return resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Linux 6.2 and later give the count as the directory's size. Counting the entries would hold the worker that serves the page
 * for milliseconds at ten thousand connections: older kernels show 0. */
static uint64_t open_descriptor_count(void)
{
    struct stat info;
    return stat("/proc/self/fd", &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

static uint64_t timeval_ns(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

void metrics_write_process(struct buffer *out, uint64_t start_ns)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    buffer_append_format(out,
                         "# HELP process_resident_memory_bytes Resident memory.\n"
                         "# TYPE process_resident_memory_bytes gauge\n"
                         "process_resident_memory_bytes %llu\n"
                         "# HELP process_open_fds Open descriptors.\n"
                         "# TYPE process_open_fds gauge\n"
                         "process_open_fds %llu\n"
                         "# HELP process_cpu_seconds_total User and system time.\n"
                         "# TYPE process_cpu_seconds_total counter\n"
                         "process_cpu_seconds_total ",
                         (unsigned long long)resident_bytes(), (unsigned long long)open_descriptor_count());
    write_seconds(out, timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime));
    buffer_append_text(out, "\n# HELP ciranda_uptime_seconds Time since the start.\n"
                            "# TYPE ciranda_uptime_seconds gauge\n"
                            "ciranda_uptime_seconds ");
    write_seconds(out, clock_mono_ns() - start_ns);
    buffer_append_text(out, "\n");
}
