/* SPDX-License-Identifier: Apache-2.0 */
/* journal_kit: a journal, a stepped runtime with one worker and an actor that takes the answers, for tests that read as a list
 * of calls. Everything runs on the test's thread: kit_settle steps writer, reader and worker until nothing moves.
 *
 * A request is a struct in the test's memory. kit_submit copies it into a message; the answer is copied back, and `kind` of
 * its msg is set again, which says that it came.
 */
#ifndef CIRANDA_TESTS_JOURNAL_KIT_H
#define CIRANDA_TESTS_JOURNAL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/assert.h"
#include "runtime/worker.h"
#include "storage/chain.h"
#include "storage/disk_sim.h"
#include "storage/journal.h"

enum { KIT_ORDER_MAX = 32768 };

struct kit {
    struct runtime *runtime;
    struct worker *worker;
    struct actor_id actor;
    struct journal *journal;
    struct journal_options options;
    uint64_t random; /* state of the disk's numbers */
    struct disk_sim *disk;
    bool has_threads; /* set it before kit_open: journal_start, and only the worker is stepped */
    uint32_t failed_calls;
    char failed_text[512];
    uint32_t answered, submitted;
    const void *order[KIT_ORDER_MAX]; /* requests in the order of their answers */
    char directory[64];
    bool keeps_directory;
};

/* In a directory that is kept. */
struct kit *kit_create_at(const char *directory);
/* On the simulated disk, powersafe, or in a new directory under /tmp. The journal is not open yet. */
struct kit *kit_create_sim(uint64_t seed);
struct kit *kit_create_disk(void);
/* Closes what is open; removes the directory. */
void kit_destroy(struct kit *kit);

enum err kit_open(struct kit *kit, struct error *error);
void kit_reopen(struct kit *kit); /* close and open; both must succeed */
void kit_crash(struct kit *kit);  /* abandon; on the simulated disk also power off and on */

uint64_t kit_draw(struct kit *kit, uint64_t bound);

/* `request` is any struct journal_x with msg.kind and its fields set. */
void kit_submit(struct kit *kit, struct msg *request, uint32_t size);
#define KIT_SUBMIT(kit, request, a_kind)                                                                                 \
    ((request)->msg.kind = (a_kind), kit_submit((kit), &(request)->msg, (uint32_t)sizeof *(request)))
bool kit_is_answered(const struct msg *request);
void kit_settle(struct kit *kit);

/* Submit and settle. */
enum err kit_append(struct kit *kit, const char *key, struct journal_head *head, const char *data);
enum err kit_append_request(struct kit *kit, struct journal_append *append);
enum err kit_load(struct kit *kit, const char *key, struct journal_load *ret_load);
enum err kit_read(struct kit *kit, const char *key, uint64_t after, uint64_t until, uint32_t count,
                  struct journal_read *ret_read);
enum err kit_save(struct kit *kit, const char *key, uint64_t version, const char *data);
enum err kit_erase(struct kit *kit, const char *key, struct journal_head *head);
enum err kit_list(struct kit *kit, const char *prefix, const char *after, uint32_t count, struct journal_list *ret_list);
enum err kit_scan(struct kit *kit, uint64_t after, uint32_t count, struct journal_scan *ret_scan);

struct journal_append kit_make_append(const char *key, struct journal_head *head, uint64_t expected, const char *data);
struct journal_stats kit_stats(const struct kit *kit);
void kit_assert_slice(struct slice slice, const char *text);
bool kit_file_has(const struct kit *kit, const char *name, const char *text);

#endif
