/* SPDX-License-Identifier: Apache-2.0 */
/* data_directory: see data_directory.h. The lock is an open-file-description lock (F_OFD_SETLK): it goes with the descriptor,
 * thus with the process however that ends, a second open in the same process is refused too, and no close of another
 * descriptor drops it, as it would a plain fcntl lock. FORMAT is written beside and renamed, so that it is whole or absent. */
#include "storage/data_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err system_error(struct error *error, const char *what, const char *path)
{
    int os_errno = errno;
    if (os_errno == ENOSPC || os_errno == EDQUOT)
        return error_set_errno(error, ERR_STORAGE_FULL, os_errno, "%s %s: no space left", what, path);
    return error_set_errno(error, ERR_SYSTEM, os_errno, "%s %s: %s", what, path, strerror(os_errno));
}

static enum err sync_fd(int fd, const char *path, struct error *error)
{
    return fsync(fd) == 0 ? OK : system_error(error, "flush", path);
}

/* The name of a new folder lives in its parent. */
static enum err sync_parent(const char *path, struct error *error)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return error_set(error, ERR_INVALID, "directory name too long");
    const char *parent = dirname(copy);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return system_error(error, "open", parent);
    enum err err = sync_fd(fd, parent, error);
    close(fd);
    return err;
}

static enum err make_directory(const char *path, int *ret_fd, struct error *error)
{
    if (mkdir(path, 0700) == 0) {
        enum err err = sync_parent(path, error);
        if (err != OK)
            return err;
    } else if (errno != EEXIST) {
        return system_error(error, "create directory", path);
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return system_error(error, "open directory", path);
    *ret_fd = fd;
    return OK;
}

/* Leaves nothing half read: a file of ours is a few bytes. Returns: its size, or -1 with errno. */
static ssize_t read_small(int fd, char *ret_text, size_t size)
{
    ssize_t count = pread(fd, ret_text, size - 1, 0);
    if (count >= 0)
        ret_text[count] = 0;
    return count;
}

static enum err take_lock(int directory_fd, const char *path, int *ret_fd, struct error *error)
{
    int fd = openat(directory_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return system_error(error, "open LOCK in", path);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    enum err err = OK;
    char text[64] = "";
    if (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            (void)read_small(fd, text, sizeof text);
            text[strcspn(text, "\n")] = 0;
            err = error_set(error, ERR_STORAGE_LOCKED, "%s is in use (%s); stop that process or use another directory",
                            path, text[0] ? text : "by an unknown process");
        } else {
            err = system_error(error, "lock", path);
        }
        close(fd);
        return err;
    }
    /* For people only; nobody decides by it, so that a failure is none. */
    int size = snprintf(text, sizeof text, "process %ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) < 0)
        text[0] = 0;
    *ret_fd = fd;
    return OK;
}

static enum err write_format(int directory_fd, struct error *error)
{
    int fd = openat(directory_fd, "FORMAT.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return system_error(error, "create", "FORMAT");
    char text[32];
    int size = snprintf(text, sizeof text, "%d\n", DATA_DIRECTORY_FORMAT);
    enum err err = OK;
    ssize_t written = pwrite(fd, text, (size_t)size, 0);
    if (written != size) {
        errno = written < 0 ? errno : ENOSPC;
        err = system_error(error, "write", "FORMAT");
    } else {
        err = sync_fd(fd, "FORMAT", error);
    }
    close(fd);
    if (err == OK && renameat(directory_fd, "FORMAT.new", directory_fd, "FORMAT") != 0)
        err = system_error(error, "rename", "FORMAT");
    return err;
}

static enum err check_number(const char *path, const char *text, struct error *error)
{
    char *end;
    errno = 0;
    long format = strtol(text, &end, 10);
    if (errno != 0 || end == text || (*end != '\n' && *end != 0))
        return error_set(error, ERR_STORAGE_FORMAT, "%s: FORMAT holds no number; restore it from its backup", path);
    if (format != DATA_DIRECTORY_FORMAT)
        return error_set(error, ERR_STORAGE_FORMAT, "%s has format %ld, this build reads %d; use a %s build", path,
                         format, DATA_DIRECTORY_FORMAT, format > DATA_DIRECTORY_FORMAT ? "newer" : "matching");
    return OK;
}

static enum err check_format(struct data_directory *directory, const char *path, const char *file, struct error *error)
{
    int fd = openat(directory->directory_fd, "FORMAT", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return OK; /* not sealed yet */
    if (fd < 0)
        return system_error(error, "open FORMAT in", path);
    char text[32];
    ssize_t size = read_small(fd, text, sizeof text);
    enum err err = size < 0 ? system_error(error, "read FORMAT in", path) : check_number(path, text, error);
    close(fd);
    directory->is_sealed = true;
    if (err == OK && file && faccessat(directory->directory_fd, file, F_OK, 0) != 0)
        return error_set(error, ERR_STORAGE_CORRUPT,
                         "%s has lost its %s; restore it from a backup, or use an empty directory", path, file);
    return err;
}

enum err data_directory_open(const char *path, const char *file, struct data_directory *ret_directory,
                             struct error *error)
{
    struct data_directory directory = DATA_DIRECTORY_NONE;
    enum err err = make_directory(path, &directory.directory_fd, error);
    if (err == OK)
        err = take_lock(directory.directory_fd, path, &directory.lock_fd, error);
    if (err == OK)
        err = check_format(&directory, path, file, error);
    if (err != OK) {
        data_directory_close(&directory);
        return err;
    }
    *ret_directory = directory;
    return OK;
}

enum err data_directory_seal(const struct data_directory *directory, struct error *error)
{
    /* The other names are on disk before FORMAT is, and FORMAT before anything is promised. */
    enum err err = sync_fd(directory->directory_fd, "data directory", error);
    if (err != OK || directory->is_sealed)
        return err;
    err = write_format(directory->directory_fd, error);
    return err == OK ? sync_fd(directory->directory_fd, "data directory", error) : err;
}

void data_directory_close(struct data_directory *directory)
{
    if (directory->lock_fd >= 0)
        close(directory->lock_fd);
    if (directory->directory_fd >= 0)
        close(directory->directory_fd);
    *directory = DATA_DIRECTORY_NONE;
}
