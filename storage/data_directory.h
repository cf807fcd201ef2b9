/* SPDX-License-Identifier: Apache-2.0 */
/* data_directory: the folder of one store: made when missing, held by one process at a time, of one known format.
 *
 * Life: data_directory_open; then whatever files; data_directory_sync once they are created; data_directory_close.
 * Files of its own: LOCK (an open-file-description lock on it; its text says who has it, for people) and FORMAT (a number).
 * Not for the simulation, whose disk has no folders. Thread: start-up.
 */
#ifndef CIRANDA_STORAGE_DATA_DIRECTORY_H
#define CIRANDA_STORAGE_DATA_DIRECTORY_H

#include "runtime/error.h"

enum { DATA_DIRECTORY_FORMAT = 1 };

/* Zeroed is not valid; DATA_DIRECTORY_NONE is, and closed. Fields are private. */
struct data_directory {
    int directory_fd, lock_fd;
};
#define DATA_DIRECTORY_NONE ((struct data_directory){.directory_fd = -1, .lock_fd = -1})

/* Returns: ERR_STORAGE_LOCKED (another process, or another open of this one), ERR_STORAGE_FORMAT, ERR_STORAGE_FULL,
 * ERR_SYSTEM, each with cause and remedy. */
MUST_USE enum err data_directory_open(const char *path, struct data_directory *ret_directory, struct error *error);
/* The names in it are on disk, not only the bytes of the files: a crash after it finds them. */
MUST_USE enum err data_directory_sync(const struct data_directory *directory, struct error *error);
/* Gives the lock back. Accepts DATA_DIRECTORY_NONE. */
void data_directory_close(struct data_directory *directory);

#endif
