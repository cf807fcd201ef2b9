/* SPDX-License-Identifier: Apache-2.0 */
/* disk_faults: a library to preload (LD_PRELOAD) that makes one call of the store fail, when a test asks for it.
 *
 * The test writes "CALL ERRNO ENDING" into the file that $CIRANDA_DISK_FAULTS names: the next CALL (pwrite, or fsync, which
 * stands for fdatasync too) on a file whose name ends with ENDING fails with ERRNO, once, and the file is gone. What a failing
 * disk does after a first error is not modelled here but in storage/disk_sim.c: this shows what a client sees of one.
 *
 * Only SQLite calls these functions in the server. Caller: tests/blackbox/faults_test.py. */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Also 0 when it is not this call's turn; else the errno to fail with. */
static int take_fault(const char *call, int fd)
{
    const char *order = getenv("CIRANDA_DISK_FAULTS");
    FILE *file = order ? fopen(order, "re") : NULL;
    if (!file)
        return 0;
    char name[16], ending[64], link[64], path[4096];
    int fault = 0;
    bool is_read = fscanf(file, "%15s %d %63s", name, &fault, ending) == 3;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (!is_read || size < 0 || strcmp(name, call) != 0)
        return 0;
    path[size] = '\0';
    size_t ending_size = strlen(ending);
    if ((size_t)size < ending_size || strcmp(path + size - ending_size, ending) != 0)
        return 0;
    unlink(order);
    return fault;
}

typedef int sync_fn(int fd);
typedef ssize_t pwrite_fn(int fd, const void *bytes, size_t size, off64_t offset);

static int sync_or_fail(const char *real, int fd)
{
    int fault = take_fault("fsync", fd);
    if (fault) {
        errno = fault;
        return -1;
    }
    return ((sync_fn *)dlsym(RTLD_NEXT, real))(fd);
}

int fsync(int fd)
{
    return sync_or_fail("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_or_fail("fdatasync", fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    int fault = take_fault("pwrite", fd);
    if (fault) {
        errno = fault;
        return -1;
    }
    return ((pwrite_fn *)dlsym(RTLD_NEXT, "pwrite64"))(fd, bytes, size, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return pwrite64(fd, bytes, size, offset);
}
