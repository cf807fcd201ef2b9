/* SPDX-License-Identifier: Apache-2.0 */
/* clock_system: the kernel's clocks and entropy.
 *
 * clock_gettime goes through the vDSO (about 20 ns); getrandom does not before Linux 6.11, so its bytes are fetched 2,048 at a
 * time into a thread's own reserve, and wiped as they are handed out: what was used as a secret does not stay behind.
 * A forked child would hand out its parent's reserve again: the process does not fork without exec.
 * Callers: every part, through clock.h.
 */
#include "runtime/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "runtime/assert.h"

static struct timespec read_clock(clockid_t id)
{
    struct timespec time;
    int result = clock_gettime(id, &time);
    ASSERT(result == 0);
    return time;
}

uint64_t clock_mono_ns(void)
{
    struct timespec time = read_clock(CLOCK_MONOTONIC);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t clock_wall_ms(void)
{
    struct timespec time = read_clock(CLOCK_REALTIME);
    return (uint64_t)time.tv_sec * 1000u + (uint64_t)time.tv_nsec / 1000000u;
}

/* Waits for the kernel's generator to be seeded (early boot only); after that it cannot fail but by a signal. */
static void fetch_random(uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = getrandom(bytes, size, 0);
        ASSERT(got > 0 || errno == EINTR);
        if (got > 0) {
            bytes += got;
            size -= (size_t)got;
        }
    }
}

void clock_random_bytes(void *ret_bytes, size_t size)
{
    static _Thread_local uint8_t reserve[2048];
    static _Thread_local size_t reserve_left;
    if (size > sizeof reserve) {
        fetch_random(ret_bytes, size);
        return;
    }
    if (size > reserve_left) {
        fetch_random(reserve, sizeof reserve);
        reserve_left = sizeof reserve;
    }
    reserve_left -= size;
    memcpy(ret_bytes, reserve + reserve_left, size);
    memset(reserve + reserve_left, 0, size);
}

uint64_t clock_random_u64(void)
{
    uint64_t number;
    clock_random_bytes(&number, sizeof number);
    return number;
}
