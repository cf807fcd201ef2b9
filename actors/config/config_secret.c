/* SPDX-License-Identifier: Apache-2.0 */
/* config_secret: opened first and judged by its descriptor, so that the file judged is the file read. Opened without
 * blocking, since a FIFO in its place would hold the start for ever. */
#include "actors/config/config_secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECRET_BYTES_MAX = 4096 };

static enum err refuse(char *reason, size_t reason_size, const char *text)
{
    snprintf(reason, reason_size, "%s", text);
    return ERR_CONFIG;
}

static enum err take_line(struct slice text, struct config_arena *arena, struct slice *ret_secret, char *reason,
                          size_t reason_size)
{
    while (text.size && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == '\r'))
        text.size--;
    if (text.size == 0)
        return refuse(reason, reason_size, "is empty");
    if (text.size > SECRET_BYTES_MAX)
        return refuse(reason, reason_size, "is over 4096 bytes");
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < 0x21 || text.data[i] > 0x7e)
            return refuse(reason, reason_size, "must hold one line of printable ASCII without blanks");
    }
    return config_arena_copy(arena, text, ret_secret);
}

/* Of an open file; closes nothing. */
static enum err read_secret(FILE *file, struct config_arena *arena, struct slice *ret_secret, char *reason,
                            size_t reason_size)
{
    struct stat info;
    if (fstat(fileno(file), &info) != 0)
        return refuse(reason, reason_size, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return refuse(reason, reason_size, "is not a regular file");
    if (info.st_mode & (S_IRWXO | S_IWGRP))
        return refuse(reason, reason_size, "can be read or changed by others: chmod 600 it, and replace the secret");
    setbuf(file, NULL);               /* no copy in a buffer that nobody wipes */
    char bytes[SECRET_BYTES_MAX + 3]; /* + a line end, + 1 to notice what is too long */
    size_t size = fread(bytes, 1, sizeof bytes, file);
    enum err code = ferror(file) ? refuse(reason, reason_size, strerror(errno))
                                 : take_line(slice_of(bytes, size), arena, ret_secret, reason, reason_size);
    explicit_bzero(bytes, sizeof bytes);
    return code;
}

enum err config_secret_read(const char *path, struct config_arena *arena, struct slice *ret_secret, char *reason,
                            size_t reason_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return refuse(reason, reason_size, strerror(errno));
    FILE *file = fdopen(fd, "r");
    if (!file) {
        close(fd);
        return refuse(reason, reason_size, "could not be read");
    }
    enum err code = read_secret(file, arena, ret_secret, reason, reason_size);
    fclose(file);
    return code;
}
