/* SPDX-License-Identifier: Apache-2.0 */
/* model: see model.h. The history of each atomic location is kept for the whole run: its stores in modification order, and who
 * accessed which of them when. Memory itself always holds the last store.
 *
 * Each byte of memory that is touched has a cell: who wrote it last, when each thread read it, and which atomic location it
 * is part of. Cells lie in pages found by address; a run's number in the cell says whether it is of this run, so that
 * forgetting costs nothing.
 */
#include "tests/explore/model.h"

#include <string.h>
#include <sys/mman.h>

#include "runtime/assert.h"

enum {
    THREADS = SCHEDULE_THREADS_MAX,
    LOCATIONS_MAX = 512,
    STORES_MAX = 256,
    ACCESSES_MAX = 1024,
    READABLE_MAX = 6, /* of the stores that a load may read, the newest are tried */
    PAGE_BITS = 12,
    PAGES_MAX = 4096, /* a power of two */
};

struct store {
    uint64_t value;
    struct model_order released; /* what an acquire of it joins */
};

struct access {
    uint32_t thread, time;
    uint32_t store; /* read or made */
    bool is_write;
};

struct location {
    const void *place;
    size_t size;
    uint32_t store_count, access_count;
    struct store stores[STORES_MAX];
    struct access accesses[ACCESSES_MAX];
};

struct cell {
    uint32_t run;
    uint16_t location; /* index + 1; 0: plain so far */
    uint16_t writer;   /* thread */
    uint32_t write_time;
    uint32_t read_time[THREADS];
};

struct page {
    uintptr_t number;
    struct cell *cells;
};

static struct model_order clocks[THREADS]; /* of each thread; its own time is that of its next operation */
static struct location locations[LOCATIONS_MAX];
static uint32_t location_count;
static struct page pages[PAGES_MAX];
static uint32_t run = 1;
static struct model_bounds left;

void model_reset(const struct model_bounds *bounds)
{
    left = *bounds;
    run++;
    location_count = 0;
    memset(clocks, 0, sizeof clocks);
    for (uint32_t thread = 0; thread < THREADS; thread++)
        clocks[thread].time[thread] = 1;
}

/* ---- order -------------------------------------------------------------------------------------------------------------- */

static void join(struct model_order *clock, const struct model_order *other)
{
    for (uint32_t thread = 0; thread < THREADS; thread++) {
        if (clock->time[thread] < other->time[thread])
            clock->time[thread] = other->time[thread];
    }
}

/* Whether what `thread` did at `time` happened before what the current thread does now. */
static bool is_before(uint32_t thread, uint32_t time)
{
    return time <= clocks[schedule_thread()].time[thread]; /* 0, never, is before all */
}

void model_order(uint32_t from, uint32_t to)
{
    join(&clocks[to], &clocks[from]);
    clocks[from].time[from]++; /* what it does later is not seen */
    schedule_order(from, to);
}

void model_order_release(struct model_order *order)
{
    const uint32_t self = schedule_thread();
    join(order, &clocks[self]);
    clocks[self].time[self]++;
}

void model_order_acquire(const struct model_order *order)
{
    join(&clocks[schedule_thread()], order);
}

/* ---- cells -------------------------------------------------------------------------------------------------------------- */

static struct cell *page_cells(uintptr_t number)
{
    uint32_t slot = (uint32_t)(number * 0x9E3779B1u) % PAGES_MAX;
    while (pages[slot].cells && pages[slot].number != number)
        slot = (slot + 1) % PAGES_MAX;
    if (!pages[slot].cells) {
        /* Not from malloc, which is the world's. */
        void *cells =
            mmap(NULL, sizeof(struct cell) << PAGE_BITS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT(cells != MAP_FAILED);
        pages[slot] = (struct page){.number = number, .cells = cells};
    }
    return pages[slot].cells;
}

static inline struct cell *cell_of(const void *place)
{
    static uintptr_t last_number;
    static struct cell *last_cells;
    uintptr_t number = (uintptr_t)place >> PAGE_BITS;
    if (!last_cells || last_number != number) {
        last_cells = page_cells(number);
        last_number = number;
    }
    struct cell *cell = &last_cells[(uintptr_t)place & ((1u << PAGE_BITS) - 1)];
    if (cell->run != run)
        *cell = (struct cell){.run = run};
    return cell;
}

/* ---- plain accesses ------------------------------------------------------------------------------------------------------ */

static const char *name_of(bool is_write)
{
    return is_write ? "write" : "read";
}

_Noreturn static void fail_race(const void *place, bool is_write, uint32_t thread, bool was_write, const void *caller)
{
    schedule_fail("data race: plain %s by thread %c of %p (at %p) is not ordered after the %s by thread %c",
                  name_of(is_write), 'a' + (int)schedule_thread(), place, caller, name_of(was_write), 'a' + (int)thread);
}

/* As is_before for each, but for a loop that runs for each byte of the program. */
static void check_cell(const void *place, const struct cell *cell, const struct model_order *clock, bool is_write,
                       const void *caller)
{
    if (cell->write_time > clock->time[cell->writer])
        fail_race(place, is_write, cell->writer, true, caller);
    for (uint32_t thread = 0; is_write && thread < THREADS; thread++) {
        if (cell->read_time[thread] > clock->time[thread])
            fail_race(place, true, thread, false, caller);
    }
}

void model_plain_access(const void *place, size_t size, bool is_write, const void *caller)
{
    if (!schedule_is_in_thread() || schedule_is_kept(place))
        return;
    const uint32_t self = schedule_thread();
    const struct model_order *clock = &clocks[self];
    for (size_t i = 0; i < size; i++) {
        const char *byte = (const char *)place + i;
        struct cell *cell = cell_of(byte);
        if (cell->location)
            schedule_fail("plain %s of the atomic at %p (at %p)", name_of(is_write), (const void *)byte, caller);
        check_cell(byte, cell, clock, is_write, caller);
        if (is_write) {
            cell->writer = (uint16_t)self;
            cell->write_time = clock->time[self];
        } else {
            cell->read_time[self] = clock->time[self];
        }
    }
}

/* ---- locations ------------------------------------------------------------------------------------------------------------ */

static uint64_t read_memory(const void *place, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, place, size); /* little endian */
    return value;
}

static struct location *add_location(const void *place, size_t size)
{
    if (location_count == LOCATIONS_MAX)
        schedule_fail("more than %d atomic locations", LOCATIONS_MAX);
    struct location *location = &locations[location_count++];
    location->place = place;
    location->size = size;
    location->store_count = 1;
    location->access_count = 0;
    location->stores[0] = (struct store){.value = read_memory(place, size)};
    for (size_t i = 0; i < size; i++)
        cell_of((const char *)place + i)->location = (uint16_t)location_count;
    return location;
}

/* An atomic access of it begins: it must be ordered after the plain ones that made the place. */
static struct location *enter_location(const void *place, size_t size, bool is_write, const struct model_site *site)
{
    for (size_t i = 0; i < size; i++) {
        const struct cell *cell = cell_of((const char *)place + i);
        if (!is_before(cell->writer, cell->write_time))
            schedule_fail("data race: %s %s(%s) by thread %c is not ordered after the plain write by thread %c",
                          site->function, site->operation, site->place, 'a' + (int)schedule_thread(), 'a' + cell->writer);
        for (uint32_t thread = 0; is_write && thread < THREADS; thread++) {
            if (!is_before(thread, cell->read_time[thread]))
                schedule_fail("data race: %s %s(%s) by thread %c is not ordered after the plain read by thread %c",
                              site->function, site->operation, site->place, 'a' + (int)schedule_thread(),
                              'a' + (int)thread);
        }
    }
    uint16_t index = cell_of(place)->location;
    struct location *location = index ? &locations[index - 1] : add_location(place, size);
    if (location->place != place || location->size != size)
        schedule_fail("%s: %s of another size than before", site->function, site->place);
    return location;
}

static void note_access(struct location *location, uint32_t store, bool is_write)
{
    if (location->access_count == ACCESSES_MAX)
        schedule_fail("more than %d accesses of one location", ACCESSES_MAX);
    const uint32_t self = schedule_thread();
    location->accesses[location->access_count++] =
        (struct access){.thread = self, .time = clocks[self].time[self], .store = store, .is_write = is_write};
}

/* The oldest store that the current thread may still read: no access that happened before names a later one. */
static uint32_t oldest_readable(const struct location *location)
{
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < location->access_count; i++) {
        const struct access *access = &location->accesses[i];
        if (access->store > oldest && is_before(access->thread, access->time))
            oldest = access->store;
    }
    return oldest;
}

static void read_store(struct location *location, uint32_t index, uint8_t orders)
{
    note_access(location, index, false);
    if (orders & MODEL_ACQUIRE)
        join(&clocks[schedule_thread()], &location->stores[index].released);
}

static void add_store(struct location *location, uint64_t value, uint8_t orders, bool is_update)
{
    if (location->store_count == STORES_MAX)
        schedule_fail("more than %d stores to one location", STORES_MAX);
    const uint32_t self = schedule_thread();
    struct store *store = &location->stores[location->store_count];
    *store = (struct store){.value = value};
    if (is_update) /* the release sequence goes on */
        store->released = store[-1].released;
    if (orders & MODEL_RELEASE)
        join(&store->released, &clocks[self]);
    note_access(location, location->store_count++, true);
    clocks[self].time[self]++;
    memcpy((void *)(uintptr_t)location->place, &value, location->size);
}

/* ---- operations ------------------------------------------------------------------------------------------------------------ */

static void stop_at(const void *place, enum schedule_kind kind)
{
    schedule_point(&(struct schedule_op){.kind = kind, .place = place});
}

static uint8_t orders_of(const struct model_site *site)
{
    return site->orders & (uint8_t)~site->dropped;
}

static void trace(const struct model_site *site, uint64_t value, const char *outcome)
{
    schedule_trace("%s:%d %s %s(%s) = %#llx%s", site->file, site->line, site->function, site->operation, site->place,
                   (unsigned long long)value, outcome);
}

uint64_t model_load(struct model_site *site, const void *place, size_t size)
{
    if (!schedule_is_in_thread())
        return read_memory(place, size);
    stop_at(place, SCHEDULE_READ);
    struct location *location = enter_location(place, size, false, site);
    const uint32_t newest = location->store_count - 1, oldest = oldest_readable(location);
    const uint32_t count = newest - oldest + 1 < READABLE_MAX ? newest - oldest + 1 : READABLE_MAX;
    const uint32_t chosen = newest - (left.stale > 0 ? schedule_choose(count) : 0);
    left.stale -= chosen < newest;
    read_store(location, chosen, orders_of(site));
    trace(site, location->stores[chosen].value, chosen == newest ? "" : " (stale)");
    return location->stores[chosen].value;
}

void model_store(struct model_site *site, void *place, size_t size, uint64_t value)
{
    if (!schedule_is_in_thread()) {
        memcpy(place, &value, size);
        return;
    }
    stop_at(place, SCHEDULE_WRITE);
    struct location *location = enter_location(place, size, true, site);
    add_store(location, value, orders_of(site), false);
    trace(site, value, "");
}

static uint64_t updated(uint64_t before, enum model_update how, uint64_t value)
{
    switch (how) {
    case MODEL_EXCHANGE: return value;
    case MODEL_ADD: return before + value;
    case MODEL_SUB: return before - value;
    case MODEL_OR: return before | value;
    case MODEL_AND: return before & value;
    }
    return 0;
}

static uint64_t cut(uint64_t value, size_t size)
{
    return size < 8 ? value & ((1ull << (8 * size)) - 1) : value;
}

uint64_t model_update(struct model_site *site, void *place, size_t size, enum model_update how, uint64_t value)
{
    if (!schedule_is_in_thread()) {
        uint64_t before = read_memory(place, size), after = updated(before, how, value);
        memcpy(place, &after, size);
        return before;
    }
    stop_at(place, SCHEDULE_WRITE);
    struct location *location = enter_location(place, size, true, site);
    const uint32_t newest = location->store_count - 1;
    const uint64_t before = location->stores[newest].value, after = cut(updated(before, how, value), size);
    read_store(location, newest, orders_of(site));
    add_store(location, after, orders_of(site), true);
    trace(site, before, "");
    return before;
}

bool model_cas(struct model_site *site, void *place, size_t size, void *expected, uint64_t desired, bool is_weak)
{
    uint64_t wanted = read_memory(expected, size);
    if (!schedule_is_in_thread()) {
        uint64_t before = read_memory(place, size);
        memcpy(before == wanted ? place : expected, before == wanted ? &desired : &before, size);
        return before == wanted;
    }
    stop_at(place, SCHEDULE_WRITE);
    struct location *location = enter_location(place, size, true, site);
    const uint32_t newest = location->store_count - 1;
    const uint64_t before = location->stores[newest].value;
    const bool is_spurious = before == wanted && is_weak && left.spurious > 0 && schedule_choose(2) == 1;
    if (before == wanted && !is_spurious) {
        read_store(location, newest, orders_of(site));
        add_store(location, cut(desired, size), orders_of(site), true);
        trace(site, before, " (swapped)");
        return true;
    }
    left.spurious -= is_spurious;
    read_store(location, newest, 0);
    memcpy(expected, &before, size);
    trace(site, before, is_spurious ? " (not swapped for no reason)" : " (not swapped)");
    return false;
}

void model_count(void *place, size_t size, uint64_t amount)
{
    uint64_t value = cut(read_memory(place, size) + amount, size);
    if (!schedule_is_in_thread()) {
        memcpy(place, &value, size);
        return;
    }
    static const struct model_site site = {.function = "counter_add", .operation = "count", .place = "a counter"};
    add_store(enter_location(place, size, true, &site), value, 0, false);
}
