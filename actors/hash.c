/* SPDX-License-Identifier: Apache-2.0 */
/* Two rounds a word of input, four at the end, as the paper recommends; the 128-bit variant marks the state with 0xee and, for
 * the second half, 0xdd. */
#include "actors/hash.h"

struct state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void run_rounds(struct state *s, int count)
{
    while (count-- > 0) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 = rotate(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 = rotate(s->v2, 32);
    }
}

/* Little-endian, at most eight bytes. */
static uint64_t read_word(const char *at, size_t size)
{
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++)
        word |= (uint64_t)(unsigned char)at[i] << (8 * i);
    return word;
}

static void absorb(struct state *s, uint64_t word)
{
    s->v3 ^= word;
    run_rounds(s, 2);
    s->v0 ^= word;
}

struct hash128 hash_bytes(struct slice bytes, struct hash128 key)
{
    struct state s = {key.low ^ 0x736f6d6570736575u, key.high ^ 0x646f72616e646f6du ^ 0xee, key.low ^ 0x6c7967656e657261u,
                      key.high ^ 0x7465646279746573u};
    size_t whole = bytes.size & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8)
        absorb(&s, read_word(bytes.data + i, 8));
    absorb(&s, read_word(bytes.data + whole, bytes.size - whole) | (uint64_t)bytes.size << 56);
    s.v2 ^= 0xee;
    run_rounds(&s, 4);
    struct hash128 hash = {.low = s.v0 ^ s.v1 ^ s.v2 ^ s.v3};
    s.v1 ^= 0xdd;
    run_rounds(&s, 4);
    hash.high = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    return hash;
}
