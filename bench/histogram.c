/* SPDX-License-Identifier: Apache-2.0 */
/* histogram: see histogram.h. A value's bucket is the position of its highest bit above the sub-buckets' 11; shifted down by
 * that, it is its sub-bucket. Buckets above the first use only sub-buckets 1,024 to 2,047, which are laid out one after the
 * other.
 */
#include "bench/histogram.h"

enum { HALF = HISTOGRAM_SUB_BUCKETS / 2, SUB_BUCKET_BITS = 11 };
_Static_assert(1 << SUB_BUCKET_BITS == HISTOGRAM_SUB_BUCKETS, "a sub-bucket is found by shifting");

static uint32_t index_of(uint64_t value)
{
    uint32_t highest_bit = 63u - (uint32_t)__builtin_clzll(value | 1);
    uint32_t bucket = highest_bit < SUB_BUCKET_BITS ? 0 : highest_bit - (SUB_BUCKET_BITS - 1);
    if (bucket >= HISTOGRAM_BUCKETS)
        return HISTOGRAM_COUNTS - 1;
    return bucket * HALF + (uint32_t)(value >> bucket);
}

/* The largest value that is counted there. */
static uint64_t end_of(uint32_t index)
{
    uint32_t bucket = index < HISTOGRAM_SUB_BUCKETS ? 0 : index / HALF - 1;
    uint64_t sub_bucket = index - bucket * HALF;
    return ((sub_bucket + 1) << bucket) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->counts[index_of(value)]++;
    histogram->total++;
    histogram->sum += value;
    if (value > histogram->max)
        histogram->max = value;
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_COUNTS; i++)
        to->counts[i] += from->counts[i];
    to->total += from->total;
    to->sum += from->sum;
    if (from->max > to->max)
        to->max = from->max;
}

uint64_t histogram_percentile(const struct histogram *histogram, uint32_t per_ten_thousand)
{
    uint64_t wanted = (histogram->total * per_ten_thousand + 9999) / 10000, seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_COUNTS && wanted > 0; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted)
            return end_of(i) < histogram->max ? end_of(i) : histogram->max;
    }
    return 0;
}
