/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: looks at what a start needs and what speed depends on, and says in plain words what is wrong and how to mend it.
 * Leaves nothing behind: its one test file is unlinked before it is written. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/command.h"
#include "runtime/clock.h"
#include "runtime/ring.h"

enum { FLUSHES = 32, BLOCK_BYTES = 4096 };

static const char help[] = "usage: ciranda doctor [OPTIONS]\n"
                           "\n"
                           "  --data DIR   the journal's folder whose disk is measured (default ./data)\n"
                           "  --help, --version\n"
                           "\n"
                           "Exits 1 when something would prevent a start.\n";

enum { OPTION_DATA, OPTION_HELP, OPTION_VERSION };
static const struct option options[] = {
    {"data", required_argument, NULL, OPTION_DATA},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {0},
};

/* ---- findings ----------------------------------------------------------------------------------------------------------- */

enum verdict { VERDICT_OK, VERDICT_SLOW, VERDICT_BAD };

static bool has_bad; /* one finding prevents a start */

static void tell(enum verdict verdict, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void tell(enum verdict verdict, const char *what, const char *format, ...)
{
    static const char *const marks[] = {"ok  ", "warn", "BAD "};
    va_list arguments;
    va_start(arguments, format);
    printf("%s  %-12s ", marks[verdict], what);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
    has_bad |= verdict == VERDICT_BAD;
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

static void check_ring(void)
{
    struct ring_probe probe;
    ring_get_probe(&probe);
    tell(VERDICT_OK, "kernel", "%s", probe.kernel);
    if (!probe.is_available) {
        tell(VERDICT_BAD, "io_uring", "not available: %s", probe.reason);
        return;
    }
    if (!probe.has_multishot_recv || !probe.has_multishot_accept || !probe.has_buffer_ring)
        tell(VERDICT_BAD, "io_uring",
             "this kernel lacks multishot receive or buffer rings: Linux 6.1 or later is needed");
    else if (!probe.has_defer_taskrun)
        tell(VERDICT_SLOW, "io_uring", "works, without deferred task work (Linux 6.1): expect more interrupts");
    else
        tell(VERDICT_OK, "io_uring", "available, with all that is used");
}

static void check_memlock(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return;
    if (limit.rlim_max == RLIM_INFINITY)
        tell(VERDICT_OK, "memlock", "unlimited");
    else if (limit.rlim_max < 8u << 20)
        tell(VERDICT_SLOW, "memlock", "%lu KiB: rings of many workers may not fit; raise ulimit -l (or LimitMEMLOCK)",
             (unsigned long)(limit.rlim_max >> 10));
    else
        tell(VERDICT_OK, "memlock", "%lu MiB", (unsigned long)(limit.rlim_max >> 20));
}

static void check_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    unsigned long most = (unsigned long)limit.rlim_max; /* the server raises its limit to this */
    if (most < 64)
        tell(VERDICT_BAD, "descriptors", "at most %lu: raise ulimit -n (or LimitNOFILE) to 20000 or more", most);
    else if (most < 10000)
        tell(VERDICT_SLOW, "descriptors", "at most %lu, one a connection: raise ulimit -n (or LimitNOFILE)", most);
    else
        tell(VERDICT_OK, "descriptors", "at most %lu", most);
}

static void check_backlog(void)
{
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
    unsigned long backlog = 0;
    if (!file || fscanf(file, "%lu", &backlog) != 1)
        tell(VERDICT_SLOW, "somaxconn", "cannot be read");
    else if (backlog < 1024)
        tell(VERDICT_SLOW, "somaxconn", "%lu: bursts of connections are refused; sysctl net.core.somaxconn=4096",
             backlog);
    else
        tell(VERDICT_OK, "somaxconn", "%lu", backlog);
    if (file)
        fclose(file);
}

static void check_time(void)
{
    const uint64_t year_2024_ms = UINT64_C(1704067200000);
    uint64_t wall_ms = clock_wall_ms(), first_ns = clock_mono_ns(), ticks = 0;
    for (int i = 0; i < 1000; i++)
        ticks += clock_mono_ns() > first_ns;
    if (wall_ms < year_2024_ms)
        tell(VERDICT_SLOW, "time", "the clock stands before 2024: ids and timestamps will be wrong; set it (NTP)");
    else if (ticks == 0)
        tell(VERDICT_BAD, "time", "the monotonic clock does not advance");
    else
        tell(VERDICT_OK, "time", "the clocks run");
}

/* ---- the disk ----------------------------------------------------------------------------------------------------------- */

/* The folder itself, or the nearest one above it that exists: the server would make the rest. */
static void existing_folder(const char *path, char *ret_folder, size_t size)
{
    struct stat info;
    snprintf(ret_folder, size, "%s", path);
    while (stat(ret_folder, &info) != 0 && errno == ENOENT) {
        char copy[4096];
        snprintf(copy, sizeof copy, "%s", ret_folder);
        snprintf(ret_folder, size, "%s", dirname(copy));
    }
}

static int compare_times(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Appends and flushes as the journal does. Returns: false with errno. */
static bool measure_flushes(int fd, uint64_t times_ns[FLUSHES])
{
    static const char block[BLOCK_BYTES];
    for (int i = 0; i < FLUSHES; i++) {
        uint64_t start_ns = clock_mono_ns();
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block || fdatasync(fd) != 0)
            return false;
        times_ns[i] = clock_mono_ns() - start_ns;
    }
    return true;
}

static void check_flush(const char *folder)
{
    char path[4200];
    uint64_t times_ns[FLUSHES];
    snprintf(path, sizeof path, "%s/.ciranda-doctor-XXXXXX", folder);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        tell(VERDICT_BAD, "data", "%s: %s; choose a folder that this user can write (--data)", folder, strerror(errno));
        return;
    }
    unlink(path);
    bool is_measured = measure_flushes(fd, times_ns);
    int flush_errno = errno;
    close(fd);
    if (!is_measured) {
        tell(VERDICT_BAD, "disk flush", "%s: %s", folder, strerror(flush_errno));
        return;
    }
    qsort(times_ns, FLUSHES, sizeof times_ns[0], compare_times);
    double median_ms = (double)times_ns[FLUSHES / 2] / 1e6, worst_ms = (double)times_ns[FLUSHES - 1] / 1e6;
    if (median_ms > 20)
        tell(VERDICT_SLOW, "disk flush",
             "median %.2f ms, worst %.2f ms: every answer waits for one; a faster disk helps most", median_ms, worst_ms);
    else
        tell(VERDICT_OK, "disk flush", "median %.2f ms, worst %.2f ms in %s", median_ms, worst_ms, folder);
}

static void check_data(const char *path)
{
    char folder[4096];
    struct stat info;
    struct statvfs space;
    existing_folder(path, folder, sizeof folder);
    if (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode)) {
        tell(VERDICT_BAD, "data", "%s is not a folder", folder);
        return;
    }
    check_flush(folder);
    if (statvfs(folder, &space) != 0)
        return;
    uint64_t free_mib = (uint64_t)space.f_bavail * space.f_frsize >> 20;
    if (free_mib < 64)
        tell(VERDICT_SLOW, "disk space", "%lu MiB free: the journal will soon refuse messages", free_mib);
    else
        tell(VERDICT_OK, "disk space", "%lu MiB free", free_mib);
}

/* ---- the command -------------------------------------------------------------------------------------------------------- */

int command_doctor(int count, char **arguments)
{
    const char *data = "./data";
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        switch (option) {
        case OPTION_DATA: data = optarg; break;
        case OPTION_HELP: return command_print_help(help);
        case OPTION_VERSION: return command_print_version();
        default: return command_refuse("doctor", "unknown or incomplete option");
        }
    }
    if (optind != count)
        return command_refuse("doctor", "takes options only");
    check_ring();
    check_memlock();
    check_descriptors();
    check_backlog();
    check_data(data);
    check_time();
    puts(has_bad ? "\nThe server would not start: see BAD above." : "\nThe server can run here.");
    return has_bad ? COMMAND_FAILED : COMMAND_OK;
}
