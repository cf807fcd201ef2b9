/* SPDX-License-Identifier: Apache-2.0 */
/* disk_sim: see disk_sim.h.
 *
 * Three layers: images (bytes and the list of unflushed changes), files by name with their sessions (locks and shared memory of
 * those who have it open; gone with the power), and the SQLite methods on top. Every method goes through `enter_io` or looks at
 * `is_dead` first: there is no other way to the images.
 */
#include "storage/disk_sim.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR_BYTES = 512, SHM_SLOTS = SQLITE_SHM_NLOCK };

struct image {
    uint8_t *bytes; /* zeroed behind `size` */
    size_t size, capacity;
};

/* A write (data) or a change of the size (no data; offset is the new size). */
struct change {
    struct change *next;
    bool is_size;
    uint64_t offset;
    size_t size;
    uint8_t data[];
};

/* What those who have a file open share; it does not survive the power. */
struct session {
    uint32_t reference_count;
    uint32_t shared_count; /* locks at SHARED or above */
    struct handle *reserved, *pending;
    void **regions;
    int region_count;
    uint32_t shm_shared[SHM_SLOTS];
    struct handle *shm_exclusive[SHM_SLOTS];
};

struct sim_file {
    struct sim_file *next;
    char *name;
    bool exists;         /* to those who look now */
    bool exists_durably; /* after a crash */
    struct image cached, durable;
    struct change *first, **end; /* unflushed, in order */
    struct session *session;
    struct disk_sim_stats stats;
};

struct schedule {
    uint64_t at, count;
};

struct disk_sim {
    sqlite3_vfs vfs;
    uint64_t (*random)(void *context);
    void *random_context;
    uint64_t bytes_max;
    enum disk_sim_loss loss;
    bool is_powersafe, is_crashed;
    uint64_t generation; /* rises with each restart: older handles are dead */
    struct sim_file *files;
    struct schedule schedules[DISK_SIM_FAULT_COUNT];
    struct disk_sim_stats stats;
};

/* SQLite's file object. */
struct handle {
    sqlite3_file base;
    struct disk_sim *disk;
    struct sim_file *file;
    struct session *session;
    uint64_t generation;
    int lock;
    uint16_t shm_shared, shm_exclusive; /* bit a slot */
    bool delete_on_close;
};

static uint64_t draw(struct disk_sim *disk, uint64_t bound)
{
    return disk->random(disk->random_context) % bound;
}

/* ---- images ----------------------------------------------------------------------------------------------------------- */

static bool image_reserve(struct image *image, size_t size)
{
    if (size <= image->capacity)
        return true;
    size_t capacity = image->capacity ? image->capacity : 4096;
    while (capacity < size)
        capacity *= 2;
    uint8_t *bytes = realloc(image->bytes, capacity);
    if (!bytes)
        return false;
    memset(bytes + image->capacity, 0, capacity - image->capacity);
    image->bytes = bytes;
    image->capacity = capacity;
    return true;
}

/* Leaves the size alone: it is an item of its own. */
static bool image_put(struct image *image, uint64_t offset, const void *data, size_t size)
{
    if (!image_reserve(image, offset + size))
        return false;
    memcpy(image->bytes + offset, data, size);
    return true;
}

static bool image_resize(struct image *image, uint64_t size)
{
    if (!image_reserve(image, size))
        return false;
    if (size < image->size)
        memset(image->bytes + size, 0, image->size - size);
    image->size = size;
    return true;
}

static void image_clear(struct image *image)
{
    free(image->bytes);
    *image = (struct image){0};
}

static bool image_copy(struct image *to, const struct image *from)
{
    image_clear(to);
    if (!image_reserve(to, from->size))
        return false;
    if (from->size)
        memcpy(to->bytes, from->bytes, from->size);
    to->size = from->size;
    return true;
}

/* ---- unflushed changes ------------------------------------------------------------------------------------------------ */

static bool push_change(struct sim_file *file, bool is_size, uint64_t offset, const void *data, size_t size)
{
    struct change *change = malloc(sizeof *change + size);
    if (!change)
        return false;
    *change = (struct change){.is_size = is_size, .offset = offset, .size = size};
    if (size)
        memcpy(change->data, data, size);
    *file->end = change;
    file->end = &change->next;
    return true;
}

static void forget_changes(struct sim_file *file)
{
    while (file->first) {
        struct change *change = file->first;
        file->first = change->next;
        free(change);
    }
    file->end = &file->first;
}

/* The sizes stay, as the file system's own journal keeps them; the pages count as clean and are never written. */
static void lose_writes(struct sim_file *file)
{
    struct change **link = &file->first;
    while (*link) {
        struct change *change = *link;
        if (change->is_size) {
            link = &change->next;
        } else {
            *link = change->next;
            free(change);
        }
    }
    file->end = link;
}

static bool flush(struct sim_file *file)
{
    for (struct change *change = file->first; change; change = change->next) {
        bool ok = change->is_size ? image_resize(&file->durable, change->offset)
                                  : image_put(&file->durable, change->offset, change->data, change->size);
        if (!ok)
            return false;
    }
    forget_changes(file);
    file->exists_durably = true;
    return true;
}

/* ---- the power cut ---------------------------------------------------------------------------------------------------- */

enum fate { FATE_NONE, FATE_ALL, FATE_MIXED, FATE_COUNT };

static void damage(struct disk_sim *disk, struct image *image, uint64_t begin, uint64_t end, bool is_garbage)
{
    if (!disk->is_powersafe) {
        begin -= begin % SECTOR_BYTES;
        end += (SECTOR_BYTES - end % SECTOR_BYTES) % SECTOR_BYTES;
    }
    if (!image_reserve(image, end))
        return;
    for (uint64_t i = begin; i < end; i++)
        image->bytes[i] = is_garbage ? (uint8_t)draw(disk, 256) : 0;
}

/* A part of one sector that a write covers: of twenty, nine arrive, eight do not, two are zeroes, one is garbage. */
static void survive_piece(struct disk_sim *disk, struct image *image, const struct change *change, uint64_t begin,
                          uint64_t end)
{
    uint64_t fate = draw(disk, 20);
    if (fate < 9)
        (void)image_put(image, begin, change->data + (begin - change->offset), end - begin);
    else if (fate >= 17)
        damage(disk, image, begin, end, fate == 19);
}

static void survive_change(struct disk_sim *disk, struct image *image, const struct change *change, enum fate fate)
{
    if (fate == FATE_NONE)
        return;
    if (change->is_size) {
        if (fate == FATE_ALL || draw(disk, 5) > 0)
            (void)image_resize(image, change->offset);
        return;
    }
    if (fate == FATE_ALL) {
        (void)image_put(image, change->offset, change->data, change->size);
        return;
    }
    uint64_t end = change->offset + change->size;
    for (uint64_t begin = change->offset; begin < end;) {
        uint64_t border = begin - begin % SECTOR_BYTES + SECTOR_BYTES;
        uint64_t piece_end = border < end ? border : end;
        survive_piece(disk, image, change, begin, piece_end);
        begin = piece_end;
    }
}

static enum fate fate_of(struct disk_sim *disk)
{
    switch (disk->loss) {
    case DISK_SIM_LOSS_ALL: return FATE_NONE;
    case DISK_SIM_LOSS_NONE: return FATE_ALL;
    case DISK_SIM_LOSS_DRAWN:
    case DISK_SIM_LOSS_COUNT: break;
    }
    return (enum fate)draw(disk, FATE_COUNT);
}

/* Whether a name that came or went without a flush of its folder did so durably. */
static bool survives_name(struct disk_sim *disk)
{
    return disk->loss == DISK_SIM_LOSS_DRAWN ? draw(disk, 2) == 0 : disk->loss == DISK_SIM_LOSS_NONE;
}

static void survive_file(struct disk_sim *disk, struct sim_file *file)
{
    enum fate fate = fate_of(disk);
    if (file->exists != file->exists_durably && survives_name(disk))
        file->exists_durably = file->exists;
    if (file->exists)
        for (struct change *change = file->first; change; change = change->next)
            survive_change(disk, &file->durable, change, fate);
    forget_changes(file);
    /* Bytes behind the end are none. */
    if (file->durable.capacity > file->durable.size)
        memset(file->durable.bytes + file->durable.size, 0, file->durable.capacity - file->durable.size);
    file->exists = file->exists_durably;
    if (!file->exists)
        image_clear(&file->durable);
    (void)image_copy(&file->cached, &file->durable);
}

void disk_sim_crash(struct disk_sim *disk)
{
    if (disk->is_crashed)
        return;
    disk->is_crashed = true;
    disk->stats.crashes++;
}

bool disk_sim_is_crashed(const struct disk_sim *disk)
{
    return disk->is_crashed;
}

void disk_sim_restart(struct disk_sim *disk)
{
    disk_sim_crash(disk);
    for (struct sim_file *file = disk->files; file; file = file->next) {
        survive_file(disk, file);
        file->session = NULL; /* freed by the last of its handles */
    }
    memset(disk->schedules, 0, sizeof disk->schedules);
    disk->generation++;
    disk->is_crashed = false;
}

/* ---- faults ----------------------------------------------------------------------------------------------------------- */

void disk_sim_schedule(struct disk_sim *disk, enum disk_sim_fault fault, uint64_t n, uint64_t count)
{
    uint64_t now = fault == DISK_SIM_READ_ERROR ? disk->stats.reads : disk->stats.ios;
    disk->schedules[fault] = (struct schedule){.at = now + n, .count = count};
}

void disk_sim_set_loss(struct disk_sim *disk, enum disk_sim_loss loss)
{
    disk->loss = loss;
}

void disk_sim_set_bytes_max(struct disk_sim *disk, uint64_t bytes_max)
{
    disk->bytes_max = bytes_max;
}

/* Whether the present I/O (or read) meets the fault. */
static bool meets(struct disk_sim *disk, enum disk_sim_fault fault)
{
    struct schedule *schedule = &disk->schedules[fault];
    uint64_t now = fault == DISK_SIM_READ_ERROR ? disk->stats.reads : disk->stats.ios;
    if (schedule->count == 0 || now < schedule->at)
        return false;
    schedule->count--;
    disk->stats.faults++;
    return true;
}

static bool is_dead(const struct handle *handle)
{
    return handle->disk->is_crashed || handle->generation != handle->disk->generation;
}

/* Counts an I/O. Returns: whether the power goes off within it. */
static bool enter_io(struct disk_sim *disk)
{
    disk->stats.ios++;
    return meets(disk, DISK_SIM_CRASH);
}

/* ---- files and sessions ----------------------------------------------------------------------------------------------- */

static struct sim_file *find_file(const struct disk_sim *disk, const char *name)
{
    struct sim_file *file = disk->files;
    while (file && strcmp(file->name, name) != 0)
        file = file->next;
    return file;
}

static struct sim_file *make_file(struct disk_sim *disk, const char *name)
{
    struct sim_file *file = calloc(1, sizeof *file);
    char *copy = file ? strdup(name) : NULL;
    if (!copy) {
        free(file);
        return NULL;
    }
    file->name = copy;
    file->end = &file->first;
    file->next = disk->files;
    disk->files = file;
    return file;
}

static void destroy_file(struct sim_file *file)
{
    forget_changes(file);
    image_clear(&file->cached);
    image_clear(&file->durable);
    free(file->name);
    free(file);
}

static void unref_session(struct session *session)
{
    if (--session->reference_count > 0)
        return;
    for (int i = 0; i < session->region_count; i++)
        free(session->regions[i]);
    free(session->regions);
    free(session);
}

static void delete_file(struct sim_file *file, bool is_durable)
{
    file->exists = false;
    forget_changes(file);
    image_clear(&file->cached);
    if (is_durable) {
        file->exists_durably = false;
        image_clear(&file->durable);
    }
}

static uint64_t bytes_used(const struct disk_sim *disk)
{
    uint64_t bytes = 0;
    for (struct sim_file *file = disk->files; file; file = file->next)
        bytes += file->exists ? file->cached.size : 0;
    return bytes;
}

/* ---- sqlite3_io_methods ------------------------------------------------------------------------------------------------ */

static struct handle *handle_of(sqlite3_file *base)
{
    return (struct handle *)(void *)base;
}

static int sim_unlock(sqlite3_file *base, int level);
static int sim_shm_unmap(sqlite3_file *base, int delete_it);

static int sim_close(sqlite3_file *base)
{
    struct handle *handle = handle_of(base);
    (void)sim_shm_unmap(base, 0);
    (void)sim_unlock(base, SQLITE_LOCK_NONE);
    if (handle->session->reference_count == 1 && handle->file->session == handle->session)
        handle->file->session = NULL;
    unref_session(handle->session);
    if (handle->delete_on_close && !is_dead(handle))
        delete_file(handle->file, true);
    return SQLITE_OK;
}

static int sim_read(sqlite3_file *base, void *bytes, int count, sqlite3_int64 offset)
{
    struct handle *handle = handle_of(base);
    if (is_dead(handle))
        return SQLITE_IOERR_READ;
    handle->disk->stats.reads++;
    handle->file->stats.reads++;
    if (meets(handle->disk, DISK_SIM_READ_ERROR))
        return SQLITE_IOERR_READ;
    const struct image *image = &handle->file->cached;
    size_t size = (size_t)count, at = (size_t)offset;
    size_t have = at >= image->size ? 0 : image->size - at < size ? image->size - at : size;
    if (have)
        memcpy(bytes, image->bytes + at, have);
    memset((char *)bytes + have, 0, size - have);
    return have == size ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

/* Into the cached image and the list. */
static int put(struct sim_file *file, const void *bytes, size_t size, uint64_t offset)
{
    if (!image_put(&file->cached, offset, bytes, size) || !push_change(file, false, offset, bytes, size))
        return SQLITE_IOERR_NOMEM;
    if (offset + size > file->cached.size) {
        file->cached.size = offset + size;
        if (!push_change(file, true, offset + size, NULL, 0))
            return SQLITE_IOERR_NOMEM;
    }
    return SQLITE_OK;
}

static int sim_write(sqlite3_file *base, const void *bytes, int count, sqlite3_int64 offset)
{
    struct handle *handle = handle_of(base);
    struct disk_sim *disk = handle->disk;
    struct sim_file *file = handle->file;
    size_t size = (size_t)count;
    uint64_t at = (uint64_t)offset, end = at + size;
    if (is_dead(handle))
        return SQLITE_IOERR_WRITE;
    bool is_crash = enter_io(disk);
    disk->stats.writes++;
    file->stats.writes++;
    if (meets(disk, DISK_SIM_WRITE_ERROR))
        return SQLITE_IOERR_WRITE;
    uint64_t grown = end > file->cached.size ? end - file->cached.size : 0;
    if (meets(disk, DISK_SIM_FULL) || (disk->bytes_max && grown && bytes_used(disk) + grown > disk->bytes_max))
        return SQLITE_FULL;
    bool is_short = meets(disk, DISK_SIM_SHORT_WRITE);
    int rc = put(file, bytes, is_short ? size / 2 : size, at);
    if (is_crash) {
        disk_sim_crash(disk);
        return SQLITE_IOERR_WRITE;
    }
    return rc == SQLITE_OK && is_short ? SQLITE_FULL : rc;
}

static int sim_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct handle *handle = handle_of(base);
    if (is_dead(handle))
        return SQLITE_IOERR_TRUNCATE;
    bool is_crash = enter_io(handle->disk);
    handle->disk->stats.truncations++;
    handle->file->stats.truncations++;
    if (meets(handle->disk, DISK_SIM_WRITE_ERROR))
        return SQLITE_IOERR_TRUNCATE;
    if (!image_resize(&handle->file->cached, (uint64_t)size) || !push_change(handle->file, true, (uint64_t)size, NULL, 0))
        return SQLITE_IOERR_NOMEM;
    if (!is_crash)
        return SQLITE_OK;
    disk_sim_crash(handle->disk);
    return SQLITE_IOERR_TRUNCATE;
}

static int sim_sync(sqlite3_file *base, int flags)
{
    (void)flags;
    struct handle *handle = handle_of(base);
    struct disk_sim *disk = handle->disk;
    if (is_dead(handle))
        return SQLITE_IOERR_FSYNC;
    bool is_crash = enter_io(disk);
    disk->stats.syncs++;
    handle->file->stats.syncs++;
    if (meets(disk, DISK_SIM_SYNC_ERROR)) {
        lose_writes(handle->file);
        return SQLITE_IOERR_FSYNC;
    }
    if (is_crash) {
        /* The flush may have been done, and only its answer be lost. */
        if (disk->loss == DISK_SIM_LOSS_DRAWN && draw(disk, 2) == 0)
            (void)flush(handle->file);
        disk_sim_crash(disk);
        return SQLITE_IOERR_FSYNC;
    }
    return flush(handle->file) ? SQLITE_OK : SQLITE_IOERR_NOMEM;
}

static int sim_file_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
    struct handle *handle = handle_of(base);
    if (is_dead(handle))
        return SQLITE_IOERR_FSTAT;
    *ret_size = (sqlite3_int64)handle->file->cached.size;
    return SQLITE_OK;
}

static int sim_lock(sqlite3_file *base, int level)
{
    struct handle *handle = handle_of(base);
    struct session *session = handle->session;
    if (is_dead(handle))
        return SQLITE_IOERR_LOCK;
    if (handle->lock >= level)
        return SQLITE_OK;
    if (handle->lock == SQLITE_LOCK_NONE) {
        if (session->pending)
            return SQLITE_BUSY;
        session->shared_count++;
        handle->lock = SQLITE_LOCK_SHARED;
    }
    if (level >= SQLITE_LOCK_RESERVED) {
        if (session->reserved && session->reserved != handle)
            return SQLITE_BUSY;
        session->reserved = handle;
        if (handle->lock < SQLITE_LOCK_RESERVED)
            handle->lock = SQLITE_LOCK_RESERVED;
    }
    if (level == SQLITE_LOCK_EXCLUSIVE) {
        session->pending = handle; /* nobody new comes in; an earlier holder would hold `reserved` too */
        handle->lock = SQLITE_LOCK_PENDING;
        if (session->shared_count > 1)
            return SQLITE_BUSY;
        handle->lock = SQLITE_LOCK_EXCLUSIVE;
    }
    return SQLITE_OK;
}

static int sim_unlock(sqlite3_file *base, int level)
{
    struct handle *handle = handle_of(base);
    struct session *session = handle->session;
    if (handle->lock <= level)
        return SQLITE_OK;
    if (session->reserved == handle)
        session->reserved = NULL;
    if (session->pending == handle)
        session->pending = NULL;
    if (level == SQLITE_LOCK_NONE)
        session->shared_count--;
    handle->lock = level;
    return SQLITE_OK;
}

static int sim_check_reserved(sqlite3_file *base, int *ret_is_reserved)
{
    struct handle *handle = handle_of(base);
    if (is_dead(handle))
        return SQLITE_IOERR_CHECKRESERVEDLOCK;
    *ret_is_reserved = handle->session->reserved != NULL;
    return SQLITE_OK;
}

static int sim_file_control(sqlite3_file *base, int operation, void *argument)
{
    (void)base;
    (void)operation;
    (void)argument;
    return SQLITE_NOTFOUND;
}

static int sim_sector_size(sqlite3_file *base)
{
    (void)base;
    return SECTOR_BYTES;
}

static int sim_device_characteristics(sqlite3_file *base)
{
    return handle_of(base)->disk->is_powersafe ? SQLITE_IOCAP_POWERSAFE_OVERWRITE : 0;
}

static int sim_shm_map(sqlite3_file *base, int region, int region_size, int extend, void volatile **ret_region)
{
    struct handle *handle = handle_of(base);
    struct session *session = handle->session;
    *ret_region = NULL;
    if (is_dead(handle))
        return SQLITE_IOERR_SHMMAP;
    if (region >= session->region_count) {
        if (!extend)
            return SQLITE_OK;
        void **regions = realloc(session->regions, (size_t)(region + 1) * sizeof *regions);
        if (!regions)
            return SQLITE_IOERR_NOMEM;
        session->regions = regions;
        while (session->region_count <= region) {
            regions[session->region_count] = calloc(1, (size_t)region_size);
            if (!regions[session->region_count])
                return SQLITE_IOERR_NOMEM;
            session->region_count++;
        }
    }
    *ret_region = session->regions[region];
    return SQLITE_OK;
}

static int shm_release(struct handle *handle, int slot)
{
    uint16_t bit = (uint16_t)(1u << slot);
    if (handle->shm_exclusive & bit)
        handle->session->shm_exclusive[slot] = NULL;
    if (handle->shm_shared & bit)
        handle->session->shm_shared[slot]--;
    handle->shm_exclusive &= (uint16_t)~bit;
    handle->shm_shared &= (uint16_t)~bit;
    return SQLITE_OK;
}

static bool shm_may_take(const struct handle *handle, int slot, bool is_exclusive)
{
    const struct session *session = handle->session;
    uint32_t own = handle->shm_shared >> slot & 1;
    if (session->shm_exclusive[slot] && session->shm_exclusive[slot] != handle)
        return false;
    return !is_exclusive || session->shm_shared[slot] == own;
}

static void shm_take(struct handle *handle, int slot, bool is_exclusive)
{
    uint16_t bit = (uint16_t)(1u << slot);
    if (is_exclusive) {
        handle->session->shm_exclusive[slot] = handle;
        handle->shm_exclusive |= bit;
    } else if (!(handle->shm_shared & bit)) {
        handle->session->shm_shared[slot]++;
        handle->shm_shared |= bit;
    }
}

static int sim_shm_lock(sqlite3_file *base, int first, int count, int flags)
{
    struct handle *handle = handle_of(base);
    bool is_exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
    if (flags & SQLITE_SHM_UNLOCK) {
        for (int slot = first; slot < first + count; slot++)
            (void)shm_release(handle, slot);
        return SQLITE_OK;
    }
    if (is_dead(handle))
        return SQLITE_IOERR_SHMLOCK;
    for (int slot = first; slot < first + count; slot++)
        if (!shm_may_take(handle, slot, is_exclusive))
            return SQLITE_BUSY;
    for (int slot = first; slot < first + count; slot++)
        shm_take(handle, slot, is_exclusive);
    return SQLITE_OK;
}

static void sim_shm_barrier(sqlite3_file *base)
{
    (void)base; /* one thread */
}

/* The regions live as long as the session: another connection may map them, and SQLite rebuilds them when the last closes. */
static int sim_shm_unmap(sqlite3_file *base, int delete_it)
{
    (void)delete_it;
    for (int slot = 0; slot < SHM_SLOTS; slot++)
        (void)shm_release(handle_of(base), slot);
    return SQLITE_OK;
}

static const sqlite3_io_methods sim_methods = {
    .iVersion = 2,
    .xClose = sim_close,
    .xRead = sim_read,
    .xWrite = sim_write,
    .xTruncate = sim_truncate,
    .xSync = sim_sync,
    .xFileSize = sim_file_size,
    .xLock = sim_lock,
    .xUnlock = sim_unlock,
    .xCheckReservedLock = sim_check_reserved,
    .xFileControl = sim_file_control,
    .xSectorSize = sim_sector_size,
    .xDeviceCharacteristics = sim_device_characteristics,
    .xShmMap = sim_shm_map,
    .xShmLock = sim_shm_lock,
    .xShmBarrier = sim_shm_barrier,
    .xShmUnmap = sim_shm_unmap,
};

/* ---- sqlite3_vfs ------------------------------------------------------------------------------------------------------ */

static struct disk_sim *disk_of(sqlite3_vfs *vfs)
{
    return vfs->pAppData;
}

static int sim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags)
{
    struct disk_sim *disk = disk_of(vfs);
    struct handle *handle = handle_of(base);
    *handle = (struct handle){.disk = disk, .generation = disk->generation};
    if (disk->is_crashed)
        return SQLITE_CANTOPEN;
    struct sim_file *file = find_file(disk, name ? name : "");
    if (!(file && file->exists) && !(flags & SQLITE_OPEN_CREATE))
        return SQLITE_CANTOPEN;
    if (!file && !(file = make_file(disk, name ? name : "")))
        return SQLITE_NOMEM;
    if (!file->exists) {
        /* The file that was deleted before under this name comes back no more. */
        file->exists_durably = false;
        image_clear(&file->durable);
        file->exists = true;
        file->stats = (struct disk_sim_stats){0};
    }
    if (!file->session && !(file->session = calloc(1, sizeof *file->session)))
        return SQLITE_NOMEM;
    file->session->reference_count++;
    handle->file = file;
    handle->session = file->session;
    handle->delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    base->pMethods = &sim_methods;
    if (ret_flags)
        *ret_flags = flags;
    return SQLITE_OK;
}

static int sim_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    struct disk_sim *disk = disk_of(vfs);
    if (disk->is_crashed)
        return SQLITE_IOERR_DELETE;
    struct sim_file *file = find_file(disk, name);
    if (!file || !file->exists)
        return SQLITE_IOERR_DELETE_NOENT;
    bool is_crash = enter_io(disk);
    disk->stats.deletions++;
    if (meets(disk, DISK_SIM_WRITE_ERROR))
        return SQLITE_IOERR_DELETE;
    delete_file(file, sync_directory && !is_crash);
    if (!is_crash)
        return SQLITE_OK;
    disk_sim_crash(disk);
    return SQLITE_IOERR_DELETE;
}

static int sim_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret_exists)
{
    (void)flags;
    struct disk_sim *disk = disk_of(vfs);
    if (disk->is_crashed)
        return SQLITE_IOERR_ACCESS;
    struct sim_file *file = find_file(disk, name);
    *ret_exists = file && file->exists && (flags != SQLITE_ACCESS_EXISTS || file->cached.size > 0);
    return SQLITE_OK;
}

static int sim_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *ret_path)
{
    (void)vfs;
    size_t length = strlen(name);
    if (length >= (size_t)size)
        return SQLITE_CANTOPEN;
    memcpy(ret_path, name, length + 1);
    return SQLITE_OK;
}

static int sim_randomness(sqlite3_vfs *vfs, int count, char *ret_bytes)
{
    for (int i = 0; i < count; i++)
        ret_bytes[i] = (char)draw(disk_of(vfs), 256);
    return count;
}

static int sim_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return microseconds; /* one thread: nobody could end what we wait for */
}

static int sim_current_time(sqlite3_vfs *vfs, double *ret_days)
{
    (void)vfs;
    *ret_days = 2460000.5; /* nothing in the journal asks SQLite for the time */
    return SQLITE_OK;
}

struct disk_sim *disk_sim_create(const struct disk_sim_options *options)
{
    struct disk_sim *disk = calloc(1, sizeof *disk);
    if (!disk)
        return NULL;
    disk->random = options->random;
    disk->random_context = options->random_context;
    disk->bytes_max = options->bytes_max;
    disk->is_powersafe = options->is_powersafe;
    disk->vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct handle),
        .mxPathname = 512,
        .zName = options->name,
        .pAppData = disk,
        .xOpen = sim_open,
        .xDelete = sim_delete,
        .xAccess = sim_access,
        .xFullPathname = sim_full_pathname,
        .xRandomness = sim_randomness,
        .xSleep = sim_sleep,
        .xCurrentTime = sim_current_time,
    };
    if (sqlite3_vfs_register(&disk->vfs, 0) != SQLITE_OK) {
        free(disk);
        return NULL;
    }
    return disk;
}

void disk_sim_destroy(struct disk_sim *disk)
{
    if (!disk)
        return;
    (void)sqlite3_vfs_unregister(&disk->vfs);
    while (disk->files) {
        struct sim_file *file = disk->files;
        disk->files = file->next;
        destroy_file(file);
    }
    free(disk);
}

/* ---- looking at it ----------------------------------------------------------------------------------------------------- */

void disk_sim_get_stats(const struct disk_sim *disk, struct disk_sim_stats *ret_stats)
{
    *ret_stats = disk->stats;
}

bool disk_sim_get_file_stats(const struct disk_sim *disk, const char *name, struct disk_sim_stats *ret_stats)
{
    const struct sim_file *file = find_file(disk, name);
    if (!file || !file->exists)
        return false;
    *ret_stats = file->stats;
    return true;
}

bool disk_sim_peek(const struct disk_sim *disk, const char *name, const uint8_t **ret_bytes, size_t *ret_size)
{
    const struct sim_file *file = find_file(disk, name);
    if (!file || !file->exists)
        return false;
    *ret_bytes = file->cached.bytes;
    *ret_size = file->cached.size;
    return true;
}

void disk_sim_flip_bit(struct disk_sim *disk, const char *name, uint64_t bit)
{
    struct sim_file *file = find_file(disk, name);
    if (!file || !file->exists)
        return;
    uint8_t mask = (uint8_t)(1u << (bit % 8));
    if (bit / 8 < file->cached.size)
        file->cached.bytes[bit / 8] ^= mask;
    if (bit / 8 < file->durable.size)
        file->durable.bytes[bit / 8] ^= mask;
}
