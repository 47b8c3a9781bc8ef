/* Latency histograms with logarithmic buckets: 32 to each power of two, so a bucket is at most 3 % wide.
 *
 * The same layout is computed by fusemux/bench/histogram.py, which turns buckets into percentiles.
 */
#ifndef FUSEMUX_HISTOGRAM_H
#define FUSEMUX_HISTOGRAM_H

#include <stdint.h>

#define SUB_BITS 5
#define BUCKETS 1248 /* up to 2^42 ns, more than an hour; whatever is longer counts in the last */

struct histogram {
    uint64_t count;
    uint64_t errors;
    uint64_t total_ns;
    uint64_t max_ns;
    uint32_t buckets[BUCKETS];
};

static inline unsigned bucket_of(uint64_t ns) {
    if (ns < (1u << SUB_BITS))
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    unsigned bucket = (shift << SUB_BITS) + (unsigned)(ns >> shift);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static inline void record(struct histogram *h, uint64_t ns) {
    h->count++;
    h->total_ns += ns;
    if (ns > h->max_ns)
        h->max_ns = ns;
    h->buckets[bucket_of(ns)]++;
}

static inline void merge(struct histogram *into, const struct histogram *from) {
    into->count += from->count;
    into->errors += from->errors;
    into->total_ns += from->total_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (unsigned i = 0; i < BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

#endif
