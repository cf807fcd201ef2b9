/* SPDX-License-Identifier: Apache-2.0 */
/* data_directory: the folder of one store: made when missing, held by one process at a time, of one known format.
 *
 * Life: data_directory_open; the store makes or opens its file; data_directory_seal; data_directory_close.
 * Files of its own: LOCK (an open-file-description lock on it; its text says who has it, for people) and FORMAT (a number).
 * FORMAT is written last: with it the store is complete, so that a missing file is a loss, not a beginning (F8). Without it a
 * creation was cut short, and begins again.
 * Not for the simulation, whose disk has no folders. Thread: start-up.
 */
#ifndef CIRANDA_STORAGE_DATA_DIRECTORY_H
#define CIRANDA_STORAGE_DATA_DIRECTORY_H

#include <stdbool.h>

#include "runtime/error.h"

enum { DATA_DIRECTORY_FORMAT = 2 };

/* Zeroed is not valid; DATA_DIRECTORY_NONE is, and closed. Fields are private. */
struct data_directory {
    int directory_fd, lock_fd;
    bool is_sealed;
};
#define DATA_DIRECTORY_NONE ((struct data_directory){.directory_fd = -1, .lock_fd = -1})

/* `file` is what a sealed directory must hold; NULL: nothing. Returns: ERR_STORAGE_LOCKED (another process, or another open of
 * this one), ERR_STORAGE_FORMAT, ERR_STORAGE_CORRUPT (the file is gone), ERR_STORAGE_FULL, ERR_SYSTEM; cause and remedy. */
MUST_USE enum err data_directory_open(const char *path, const char *file, struct data_directory *ret_directory,
                                      struct error *error);
/* Flushes the names in it and writes FORMAT when it is missing. Returns: ERR_STORAGE_FULL, ERR_SYSTEM. */
MUST_USE enum err data_directory_seal(const struct data_directory *directory, struct error *error);
/* Gives the lock back. Accepts DATA_DIRECTORY_NONE. */
void data_directory_close(struct data_directory *directory);

#endif
