/* SPDX-License-Identifier: Apache-2.0 */
/* histogram: values counted in buckets of constant relative width, after Gil Tene's HdrHistogram: 2,048 linear sub-buckets
 * for each power of two, so that every value below 2^42 is kept to three significant digits (0.1 %), in 512 KiB.
 *
 * Nothing is sampled and nothing is averaged, so that P99.9 is one, and two histograms add up.
 */
#ifndef CIRANDA_BENCH_HISTOGRAM_H
#define CIRANDA_BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BUCKETS = 2048, /* the first bucket has all of them, each further one its upper half */
    HISTOGRAM_BUCKETS = 32,
    HISTOGRAM_COUNTS = (HISTOGRAM_BUCKETS + 1) * (HISTOGRAM_SUB_BUCKETS / 2),
};

/* Zeroed is valid and empty. */
struct histogram {
    uint64_t counts[HISTOGRAM_COUNTS];
    uint64_t total, max, sum;
};

void histogram_record(struct histogram *histogram, uint64_t value); /* beyond the range: counted as the largest */
void histogram_add(struct histogram *to, const struct histogram *from);
/* The smallest recorded value that at least `per_ten_thousand` of all values do not exceed, rounded up to its bucket's
 * end as HdrHistogram does; 0 when empty. 5000: the median. */
uint64_t histogram_percentile(const struct histogram *histogram, uint32_t per_ten_thousand);

#endif
