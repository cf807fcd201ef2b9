/* SPDX-License-Identifier: Apache-2.0 */
/* hooks: the calls that a compiler puts before each plain access under -fsanitize=thread, answered by the model instead of by
 * ThreadSanitizer's library. So the product's sources need no annotation for the explorer to see a race on any of their fields.
 *
 * memset and memcpy are not instrumented: the sources are compiled with other names for them, which are here. */
#include <stddef.h>
#include <string.h>

#include "tests/explore/model.h"

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

#define HOOK(name, size, is_write)                                                                                       \
    void name(void *place);                                                                                              \
    void name(void *place)                                                                                               \
    {                                                                                                                    \
        model_plain_access(place, size, is_write, CALLER);                                                               \
    }
#define HOOKS(size)                                                                                                      \
    HOOK(__tsan_read##size, size, false)                                                                                 \
    HOOK(__tsan_write##size, size, true)                                                                                 \
    HOOK(__tsan_unaligned_read##size, size, false)                                                                       \
    HOOK(__tsan_unaligned_write##size, size, true)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

#define RANGE_HOOK(name, is_write)                                                                                       \
    void name(void *place, size_t size);                                                                                 \
    void name(void *place, size_t size)                                                                                  \
    {                                                                                                                    \
        model_plain_access(place, size, is_write, CALLER);                                                               \
    }
RANGE_HOOK(__tsan_read_range, false)
RANGE_HOOK(__tsan_write_range, true)

void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *caller);
void __tsan_func_entry(void *caller)
{
    (void)caller;
}
void __tsan_func_exit(void *unused); /* as gcc declares it; both compilers pass nothing */
void __tsan_func_exit(void *unused)
{
    (void)unused;
}

/* The sources' own calls: memset is hooks_memset there (-D). */
void *hooks_memset(void *place, int byte, size_t size);
void *hooks_memset(void *place, int byte, size_t size)
{
    model_plain_access(place, size, true, CALLER);
    return memset(place, byte, size);
}

void *hooks_memcpy(void *to, const void *from, size_t size);
void *hooks_memcpy(void *to, const void *from, size_t size)
{
    model_plain_access(from, size, false, CALLER);
    model_plain_access(to, size, true, CALLER);
    return memcpy(to, from, size);
}
