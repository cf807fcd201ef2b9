/* SPDX-License-Identifier: Apache-2.0 */
/* heads: see heads.h. A chained hash of entries that never move, from slabs. The hash is keyed with random numbers, since
 * clients choose conversation ids. Bound: an entry a key that was appended to since the last sweep began, some 200,000
 * (HEADS_DUE and half of it, in journal_writer.c); 160 bytes each with a key of the usual length. */
#include "storage/heads.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/clock.h"

enum { SLAB_ENTRIES = 256, BUCKETS_MIN = 1024, CLASS_COUNT = 3 };

/* Room for keys in an entry, by size class; a UUID with a short tenant fits the first. */
static const uint32_t class_key_bytes[CLASS_COUNT] = {48, 104, JOURNAL_KEY_BYTES_MAX};

struct slab {
    struct slab *next;
    _Alignas(struct head_entry) char entries[];
};

struct sweep_item {
    uint64_t
        rank; /* the key's eight bytes behind what all keys of the sweep have in common: decides nearly every comparison */
    struct head_entry *entry;
};

struct heads {
    pthread_mutex_t lock;
    uint64_t seed[2];
    struct head_entry **buckets;
    uint32_t bucket_count; /* power of two */
    uint32_t entry_count;
    /* writer only */
    uint32_t dirty_count;
    struct head_entry *free_lists[CLASS_COUNT];
    struct slab *slabs;
    struct sweep_item *sweep;
    uint32_t sweep_count, sweep_position, sweep_capacity;
    uint64_t sweep_floor;
    bool is_sweeping;
};

static uint64_t hash_mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A folded multiplication for each eight bytes (the manner of wyhash), keyed. */
static uint64_t hash_key(const struct heads *heads, struct slice key)
{
    uint64_t hash = heads->seed[0] ^ key.size;
    for (size_t at = 0; at < key.size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, key.data + at, key.size - at < 8 ? key.size - at : 8);
        hash = hash_mix(hash ^ word, heads->seed[1]);
    }
    return hash_mix(hash, heads->seed[1] ^ UINT64_C(0x9e3779b97f4a7c15));
}

enum err heads_create(struct heads **ret_heads)
{
    struct heads *heads = calloc(1, sizeof *heads);
    if (!heads)
        return ERR_NO_MEMORY;
    heads->buckets = calloc(BUCKETS_MIN, sizeof *heads->buckets);
    if (!heads->buckets) {
        free(heads);
        return ERR_NO_MEMORY;
    }
    heads->bucket_count = BUCKETS_MIN;
    heads->seed[0] = clock_random_u64();
    heads->seed[1] = clock_random_u64() | 1;
    pthread_mutex_init(&heads->lock, NULL);
    *ret_heads = heads;
    return OK;
}

void heads_destroy(struct heads *heads)
{
    if (!heads)
        return;
    while (heads->slabs) {
        struct slab *slab = heads->slabs;
        heads->slabs = slab->next;
        free(slab);
    }
    pthread_mutex_destroy(&heads->lock);
    free(heads->sweep);
    free(heads->buckets);
    free(heads);
}

static struct head_entry **bucket_of(const struct heads *heads, uint64_t hash)
{
    return &heads->buckets[hash & (heads->bucket_count - 1)];
}

static struct head_entry *find(const struct heads *heads, struct slice key)
{
    uint64_t hash = hash_key(heads, key);
    struct head_entry *entry = *bucket_of(heads, hash);
    while (entry && (entry->hash != hash || entry->key_size != key.size || memcmp(entry->key, key.data, key.size) != 0))
        entry = entry->next;
    return entry;
}

struct head_entry *heads_find(struct heads *heads, struct slice key)
{
    return find(heads, key); /* no lock: only this thread changes anything (H2) */
}

void heads_prefetch_bucket(const struct heads *heads, struct slice key)
{
    __builtin_prefetch(bucket_of(heads, hash_key(heads, key)));
}

void heads_prefetch_entry(const struct heads *heads, struct slice key)
{
    const struct head_entry *entry = *bucket_of(heads, hash_key(heads, key));
    if (!entry)
        return;
    __builtin_prefetch(entry);
    __builtin_prefetch(entry->key);
}

static struct record_head view_of(const struct head_entry *entry)
{
    struct record_head head = {.key = slice_of(entry->key, entry->key_size),
                               .offset = entry->offset,
                               .version = entry->version,
                               .record_count = entry->record_count,
                               .summary = {.status = entry->status,
                                           .is_open = entry->is_open,
                                           .messages = entry->messages,
                                           .created_ms = entry->created_ms,
                                           .updated_ms = entry->updated_ms}};
    memcpy(head.summary.owner, entry->owner, sizeof entry->owner);
    return head;
}

static void set_view(struct head_entry *entry, uint64_t offset, uint64_t version, uint32_t record_count,
                     const struct journal_summary *summary)
{
    size_t owner_size = strnlen(summary->owner, sizeof summary->owner);
    entry->offset = offset;
    entry->version = version;
    entry->record_count = record_count;
    entry->status = summary->status;
    entry->is_open = summary->is_open;
    entry->messages = summary->messages;
    entry->created_ms = summary->created_ms;
    entry->updated_ms = summary->updated_ms;
    entry->is_owner_left_out = owner_size > HEAD_OWNER_BYTES_MAX;
    memset(entry->owner, 0, sizeof entry->owner);
    if (!entry->is_owner_left_out)
        memcpy(entry->owner, summary->owner, owner_size);
}

bool heads_peek(struct heads *heads, struct slice key, struct record_head *ret_head)
{
    const struct head_entry *entry = find(heads, key);
    if (!entry)
        return false;
    *ret_head = view_of(entry);
    return true;
}

/* Twice the buckets when there is an entry for each. Failing is harmless: the chains get longer. */
static void grow(struct heads *heads)
{
    uint32_t count = heads->bucket_count * 2;
    struct head_entry **buckets = calloc(count, sizeof *buckets), **old = heads->buckets;
    if (!buckets)
        return;
    heads_lock(heads);
    for (uint32_t i = 0; i < heads->bucket_count; i++) {
        for (struct head_entry *entry = old[i], *next; entry; entry = next) {
            next = entry->next;
            entry->next = buckets[entry->hash & (count - 1)];
            buckets[entry->hash & (count - 1)] = entry;
        }
    }
    heads->buckets = buckets;
    heads->bucket_count = count;
    heads_unlock(heads);
    free(old);
}

static uint32_t class_of(size_t key_size)
{
    uint32_t size_class = 0;
    while (key_size > class_key_bytes[size_class])
        size_class++;
    return size_class;
}

static bool add_slab(struct heads *heads, uint32_t size_class)
{
    size_t entry_size = sizeof(struct head_entry) + class_key_bytes[size_class];
    entry_size += -entry_size % _Alignof(struct head_entry);
    struct slab *slab = malloc(sizeof *slab + SLAB_ENTRIES * entry_size);
    if (!slab)
        return false;
    slab->next = heads->slabs;
    heads->slabs = slab;
    for (uint32_t i = 0; i < SLAB_ENTRIES; i++) {
        struct head_entry *entry = (struct head_entry *)(void *)(slab->entries + i * entry_size);
        entry->next = heads->free_lists[size_class];
        heads->free_lists[size_class] = entry;
    }
    return true;
}

static struct head_entry *take_free(struct heads *heads, uint32_t size_class)
{
    if (!heads->free_lists[size_class] && !add_slab(heads, size_class))
        return NULL;
    struct head_entry *entry = heads->free_lists[size_class];
    heads->free_lists[size_class] = entry->next;
    return entry;
}

static void put_free(struct heads *heads, struct head_entry *entry)
{
    uint32_t size_class = class_of(entry->key_size);
    entry->next = heads->free_lists[size_class];
    heads->free_lists[size_class] = entry;
}

struct head_entry *heads_add(struct heads *heads, struct slice key, const struct record_head *row)
{
    ASSERT(key.size > 0 && key.size <= JOURNAL_KEY_BYTES_MAX);
    ASSERT_SLOW(!find(heads, key));
    struct head_entry *entry = take_free(heads, class_of(key.size));
    if (!entry)
        return NULL;
    if (heads->entry_count >= heads->bucket_count)
        grow(heads);
    *entry = (struct head_entry){.hash = hash_key(heads, key), .key_size = (uint8_t)key.size};
    memcpy(entry->key, key.data, key.size);
    if (row)
        set_view(entry, row->offset, row->version, row->record_count, &row->summary);
    struct head_entry **bucket = bucket_of(heads, entry->hash);
    heads_lock(heads);
    entry->next = *bucket;
    *bucket = entry;
    heads_unlock(heads);
    heads->entry_count++;
    return entry;
}

void heads_lock(struct heads *heads)
{
    pthread_mutex_lock(&heads->lock);
}

void heads_unlock(struct heads *heads)
{
    pthread_mutex_unlock(&heads->lock);
}

void heads_publish(struct heads *heads, struct head_entry *entry, uint64_t offset, uint64_t version,
                   uint32_t record_count, const struct journal_summary *summary)
{
    set_view(entry, offset, version, record_count, summary ? summary : &(struct journal_summary){0});
    heads->dirty_count += !entry->is_dirty;
    entry->is_dirty = true;
}

uint32_t heads_dirty_count(const struct heads *heads)
{
    return heads->dirty_count;
}

uint32_t heads_count(const struct heads *heads)
{
    return heads->entry_count;
}

/* ---- the sweep -------------------------------------------------------------------------------------------------------- */

static struct slice entry_key(const struct head_entry *entry)
{
    return slice_of(entry->key, entry->key_size);
}

static int compare_items(const void *left, const void *right)
{
    const struct sweep_item *a = left, *b = right;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    struct slice x = entry_key(a->entry), y = entry_key(b->entry);
    int order = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    return order ? order : (x.size > y.size) - (x.size < y.size);
}

static size_t common_prefix(struct slice a, struct slice b, size_t size_max)
{
    size_t size = 0;
    while (size < size_max && size < a.size && size < b.size && a.data[size] == b.data[size])
        size++;
    return size;
}

static uint64_t rank_of(struct slice key, size_t skip)
{
    uint64_t rank = 0;
    for (size_t i = skip; i < skip + 8; i++)
        rank = rank << 8 | (i < key.size ? (uint8_t)key.data[i] : 0);
    return rank;
}

void heads_free_clean(struct heads *heads)
{
    ASSERT(!heads->is_sweeping);
    heads_lock(heads);
    for (uint32_t i = 0; i < heads->bucket_count; i++) {
        struct head_entry **link = &heads->buckets[i];
        while (*link) {
            struct head_entry *entry = *link;
            if (entry->is_dirty) {
                link = &entry->next;
                continue;
            }
            *link = entry->next;
            put_free(heads, entry);
            heads->entry_count--;
        }
    }
    heads_unlock(heads);
    ASSERT(heads->entry_count == heads->dirty_count);
}

static bool reserve_sweep(struct heads *heads, uint32_t count)
{
    if (count <= heads->sweep_capacity)
        return true;
    uint32_t capacity = count + count / 2;
    struct sweep_item *items = realloc(heads->sweep, capacity * sizeof *items);
    if (!items)
        return false;
    heads->sweep = items;
    heads->sweep_capacity = capacity;
    return true;
}

enum err heads_sweep_start(struct heads *heads, uint64_t floor)
{
    ASSERT(!heads->is_sweeping);
    if (!reserve_sweep(heads, heads->dirty_count))
        return ERR_NO_MEMORY;
    uint32_t count = 0;
    size_t shared = JOURNAL_KEY_BYTES_MAX;
    for (uint32_t i = 0; i < heads->bucket_count; i++) {
        for (struct head_entry *entry = heads->buckets[i]; entry; entry = entry->next) {
            if (!entry->is_dirty)
                continue;
            heads->sweep[count++].entry = entry;
            shared = common_prefix(entry_key(heads->sweep[0].entry), entry_key(entry), shared);
        }
    }
    ASSERT(count == heads->dirty_count);
    for (uint32_t i = 0; i < count; i++)
        heads->sweep[i].rank = rank_of(entry_key(heads->sweep[i].entry), shared);
    if (count > 1)
        qsort(heads->sweep, count, sizeof *heads->sweep, compare_items);
    heads->sweep_count = count;
    heads->sweep_position = 0;
    heads->sweep_floor = floor;
    heads->is_sweeping = true;
    return OK;
}

bool heads_sweep_is_active(const struct heads *heads)
{
    return heads->is_sweeping;
}

uint64_t heads_sweep_floor(const struct heads *heads)
{
    return heads->sweep_floor;
}

uint32_t heads_sweep_left(const struct heads *heads)
{
    return heads->sweep_count - heads->sweep_position;
}

struct record_head heads_sweep_peek(const struct heads *heads, uint32_t index, bool *ret_is_whole)
{
    ASSERT(index < heads_sweep_left(heads));
    const struct head_entry *entry = heads->sweep[heads->sweep_position + index].entry;
    *ret_is_whole = !entry->is_owner_left_out;
    return view_of(entry);
}

void heads_sweep_advance(struct heads *heads, uint32_t count)
{
    ASSERT(heads->is_sweeping && count <= heads_sweep_left(heads));
    for (uint32_t i = 0; i < count; i++) {
        struct head_entry *entry = heads->sweep[heads->sweep_position++].entry;
        ASSERT(entry->is_dirty);
        entry->is_dirty = false;
        heads->dirty_count--;
    }
    heads->is_sweeping = heads->sweep_position < heads->sweep_count;
}
