/* SPDX-License-Identifier: Apache-2.0 */
/* pool: blocks do not overlap, warm work takes nothing from the system, bursts are given back, the cap holds. What crosses
 * workers is in actor_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/pool.h"

static struct account account;
static struct pool pool;

static int setup(void **state)
{
    (void)state;
    account = (struct account){.bytes_max = 8 * 1024 * 1024};
    pool_init(&pool, &account);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pool_deinit(&pool);
    return atomic_load_relaxed(&account.used_bytes) == 0 ? 0 : -1;
}

static void blocks_of_every_size_are_aligned_and_apart(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static char *blocks[COUNT];
    static uint32_t sizes[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        sizes[i] = 1 + (i * 37) % 4000;
        blocks[i] = pool_acquire(&pool, sizes[i], ACCOUNT_CAPPED);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % POOL_UNIT_BYTES, 0);
        memset(blocks[i], (int)(i % 251), sizes[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        for (uint32_t j = 0; j < sizes[i]; j++)
            assert_int_equal((unsigned char)blocks[i][j], i % 251);
        pool_release(&pool, blocks[i], sizes[i]);
    }
}

static void class_borders_hold_their_size(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= POOL_BLOCK_BYTES_MAX + 1; size++) {
        char *block = pool_acquire(&pool, size, ACCOUNT_CAPPED);
        assert_non_null(block);
        block[0] = block[size - 1] = 1; /* AddressSanitizer looks here */
        pool_release(&pool, block, size);
    }
}

static void a_warm_pool_takes_nothing_from_the_system(void **state)
{
    (void)state;
    void *blocks[300];
    for (int round = 0; round < 100; round++) {
        uint64_t misses_before = atomic_load_relaxed(&pool.misses);
        for (int i = 0; i < 300; i++)
            blocks[i] = pool_acquire(&pool, 200, ACCOUNT_CAPPED);
        for (int i = 0; i < 300; i++)
            pool_release(&pool, blocks[i], 200);
        if (round > 0)
            assert_int_equal(atomic_load_relaxed(&pool.misses), misses_before);
    }
}

static void a_burst_of_one_size_does_not_starve_another(void **state)
{
    (void)state;
    enum { COUNT = 140000 };
    static void *blocks[COUNT];
    size_t count = 0;
    while ((blocks[count] = pool_acquire(&pool, 64, ACCOUNT_CAPPED)))
        count++;
    assert_true(count > 50000);
    assert_null(pool_acquire(&pool, 8192, ACCOUNT_CAPPED));
    for (size_t i = 0; i < count; i++)
        pool_release(&pool, blocks[i], 64);
    assert_true(atomic_load_relaxed(&account.used_bytes) <= (POOL_SPARES_MAX + 1) * POOL_CHUNK_BYTES);
    for (int i = 0; i < 800; i++)
        assert_non_null(blocks[i] = pool_acquire(&pool, 8192, ACCOUNT_CAPPED));
    for (int i = 0; i < 800; i++)
        pool_release(&pool, blocks[i], 8192);
}

static void large_blocks_count_against_the_same_cap(void **state)
{
    (void)state;
    void *large = pool_acquire(&pool, 7 * 1024 * 1024, ACCOUNT_CAPPED);
    assert_non_null(large);
    assert_null(pool_acquire(&pool, 2 * 1024 * 1024, ACCOUNT_CAPPED));
    void *ending = pool_acquire(&pool, 2 * 1024 * 1024, ACCOUNT_UNCAPPED);
    assert_non_null(ending);
    assert_null(pool_acquire(&pool, 64, ACCOUNT_CAPPED));
    pool_release(&pool, large, 7 * 1024 * 1024);
    void *small = pool_acquire(&pool, 64, ACCOUNT_CAPPED);
    assert_non_null(small);
    assert_true(atomic_load_relaxed(&account.peak_bytes) >= 9 * 1024 * 1024);
    pool_release(&pool, small, 64);
    pool_release(&pool, ending, 2 * 1024 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_of_every_size_are_aligned_and_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(class_borders_hold_their_size, setup, teardown),
        cmocka_unit_test_setup_teardown(a_warm_pool_takes_nothing_from_the_system, setup, teardown),
        cmocka_unit_test_setup_teardown(a_burst_of_one_size_does_not_starve_another, setup, teardown),
        cmocka_unit_test_setup_teardown(large_blocks_count_against_the_same_cap, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
