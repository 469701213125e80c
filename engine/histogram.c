/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-linear histograms in HdrHistogram's layout: bucket 0 counts 0 .. 2047 one by one; each
 * further bucket covers twice the range of the one before with the upper 1024 of its 2048 steps,
 * so that a value is known to 1 part in 1024. Guarantees: no count is lost or torn; count,
 * percentiles and mean come from the same counts but, while the writer runs, not of one instant;
 * min and max are exact, and no percentile is above max.
 *
 * All accesses are relaxed: there is one writer, so load + store is an increment, and a reader
 * draws no conclusion from one word about another (each total is summed from the counts it uses).
 */
#include "histogram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SUB_BUCKET_BITS 11u
#define SUB_BUCKETS (1u << SUB_BUCKET_BITS)
#define HALF_BITS (SUB_BUCKET_BITS - 1u)
#define HALF (1u << HALF_BITS)
#define HIGHEST_NS UINT64_C(3600000000000)
#define BUCKETS 32u /* the fewest with SUB_BUCKETS << (BUCKETS - 1) > HIGHEST_NS */
#define COUNTS ((BUCKETS + 1u) * HALF)
#define TICKS_PER_HALF_DISTANCE 5.0

_Static_assert(((uint64_t)SUB_BUCKETS << (BUCKETS - 1)) > HIGHEST_NS, "too few buckets");
_Static_assert(((uint64_t)SUB_BUCKETS << (BUCKETS - 2)) <= HIGHEST_NS, "too many buckets");

typedef _Atomic uint64_t word;

struct salvo_histogram {
    _Alignas(64) word sum; /* modulo 2^64; see mean_of */
    word min;              /* UINT64_MAX: nothing recorded */
    word max;
    word counts[COUNTS];
};

static uint64_t get(const word *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static void set(word *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_relaxed);
}

static uint32_t index_of(uint64_t value)
{
    uint32_t bucket = 63u - HALF_BITS - (uint32_t)__builtin_clzll(value | (SUB_BUCKETS - 1));

    return (bucket << HALF_BITS) + (uint32_t)(value >> bucket);
}

/* The smallest value that is counted at index. */
static uint64_t lowest_at(uint32_t index, uint32_t *shift)
{
    uint32_t bucket = index < SUB_BUCKETS ? 0 : (index >> HALF_BITS) - 1;

    *shift = bucket;
    return (uint64_t)(index - (bucket << HALF_BITS)) << bucket;
}

static uint64_t highest_at(uint32_t index)
{
    uint32_t shift;
    uint64_t low = lowest_at(index, &shift);

    return low + (UINT64_C(1) << shift) - 1;
}

static double median_at(uint32_t index)
{
    uint32_t shift;
    uint64_t low = lowest_at(index, &shift);

    return (double)(low + (UINT64_C(1) << shift >> 1));
}

size_t salvo_histogram_bytes(void)
{
    return sizeof(salvo_histogram);
}

salvo_histogram *salvo_histogram_new(void)
{
    salvo_histogram *h = aligned_alloc(_Alignof(salvo_histogram), sizeof *h);

    if (h == NULL)
        return NULL;
    memset(h, 0, sizeof *h); /* touches all pages now, so that no record() has to */
    set(&h->min, UINT64_MAX);
    return h;
}

void salvo_histogram_free(salvo_histogram *h)
{
    free(h);
}

void salvo_histogram_record_n(salvo_histogram *h, uint64_t ns, uint64_t n)
{
    if (n == 0)
        return;
    if (ns > HIGHEST_NS)
        ns = HIGHEST_NS;
    word *count = &h->counts[index_of(ns)];
    set(count, get(count) + n);
    set(&h->sum, get(&h->sum) + ns * n);
    if (ns < get(&h->min))
        set(&h->min, ns);
    if (ns > get(&h->max))
        set(&h->max, ns);
}

void salvo_histogram_record(salvo_histogram *h, uint64_t ns)
{
    salvo_histogram_record_n(h, ns, 1);
}

void salvo_histogram_add(salvo_histogram *into, const salvo_histogram *from)
{
    for (uint32_t i = 0; i < COUNTS; i++) {
        uint64_t n = get(&from->counts[i]);
        if (n != 0)
            set(&into->counts[i], get(&into->counts[i]) + n);
    }
    set(&into->sum, get(&into->sum) + get(&from->sum));
    if (get(&from->min) < get(&into->min))
        set(&into->min, get(&from->min));
    if (get(&from->max) > get(&into->max))
        set(&into->max, get(&from->max));
}

static uint64_t total_of(const salvo_histogram *h)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < COUNTS; i++)
        total += get(&h->counts[i]);
    return total;
}

/* How many of total lie at or below the percentile, as HdrHistogram rounds it: at least one. */
static uint64_t rank_of(double percentile, uint64_t total)
{
    if (!(percentile > 0.0))
        return 1;
    if (percentile >= 100.0)
        return total;
    uint64_t rank = (uint64_t)(percentile / 100.0 * (double)total + 0.5);
    return rank == 0 ? 1 : rank > total ? total : rank;
}

static uint64_t not_above_max(const salvo_histogram *h, uint64_t value)
{
    uint64_t max = get(&h->max);

    return value > max ? max : value;
}

/* The index where the running count reaches rank, going on from *index and *seen (the count
 * below *index). Counts only grow, so a rank taken from an earlier total is always reached. */
static uint32_t seek(const salvo_histogram *h, uint64_t rank, uint32_t *index, uint64_t *seen)
{
    while (*index < COUNTS - 1) {
        uint64_t upto = *seen + get(&h->counts[*index]);
        if (upto >= rank)
            break;
        *seen = upto;
        ++*index;
    }
    return *index;
}

/* The exact mean from the sum, unless the sum has wrapped (five million messages a second that
 * wait a second each take an hour): then the mean of the buckets' middles. */
static double mean_of(const salvo_histogram *h, uint64_t total)
{
    double sum = 0;

    if (total == 0)
        return 0;
    for (uint32_t i = 0; i < COUNTS; i++)
        sum += (double)get(&h->counts[i]) * median_at(i);
    return (sum < 0x1p63 ? (double)get(&h->sum) : sum) / (double)total;
}

uint64_t salvo_histogram_at(const salvo_histogram *h, double percentile)
{
    uint64_t total = total_of(h), seen = 0;
    uint32_t index = 0;

    if (total == 0)
        return 0;
    return not_above_max(h, highest_at(seek(h, rank_of(percentile, total), &index, &seen)));
}

void salvo_histogram_summary(const salvo_histogram *h, salvo_latency *out)
{
    static const double percentiles[] = {50.0, 90.0, 99.0, 99.9, 99.99};
    uint64_t *values[] = {&out->p50, &out->p90, &out->p99, &out->p999, &out->p9999};
    uint64_t seen = 0;
    uint32_t index = 0;

    memset(out, 0, sizeof *out);
    out->count = total_of(h);
    if (out->count == 0)
        return;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        uint64_t rank = rank_of(percentiles[i], out->count);
        *values[i] = not_above_max(h, highest_at(seek(h, rank, &index, &seen)));
    }
    /* A count may be seen before its min: the writer stores it first. */
    uint64_t min = get(&h->min);
    out->max = get(&h->max);
    out->min = min > out->max ? out->max : min;
    out->mean = (uint64_t)(mean_of(h, out->count) + 0.5);
}

static double deviation_of(const salvo_histogram *h, uint64_t total, double mean)
{
    double squares = 0;

    for (uint32_t i = 0; i < COUNTS; i++) {
        double distance = median_at(i) - mean;
        squares += (double)get(&h->counts[i]) * distance * distance;
    }
    return total == 0 ? 0 : sqrt(squares / (double)total);
}

/* Percentiles at five steps for each halving of the distance to 100 %, until all is counted. */
static void write_lines(const salvo_histogram *h, uint64_t total, FILE *stream, double unit_ns)
{
    uint32_t index = 0;
    uint64_t seen = 0, upto = 0;
    double percentile = 0, halved = 2;

    while (upto < total) {
        while (upto = seen + get(&h->counts[index]),
               upto == 0 || 100.0 * (double)upto / (double)total < percentile) {
            seen = upto;
            index++;
        }
        fprintf(stream, "%12.3f %2.12f %10llu %14.2f\n",
                (double)not_above_max(h, highest_at(index)) / unit_ns, percentile / 100.0,
                (unsigned long long)upto, 100.0 / (100.0 - percentile));
        while (100.0 / (100.0 - percentile) >= halved)
            halved *= 2;
        percentile += 100.0 / (TICKS_PER_HALF_DISTANCE * halved);
    }
    fprintf(stream, "%12.3f %2.12f %10llu\n", (double)get(&h->max) / unit_ns, 1.0,
            (unsigned long long)total);
}

int salvo_histogram_write_percentiles(const salvo_histogram *h, FILE *stream, double unit_ns)
{
    salvo_histogram *still = salvo_histogram_new(); /* a copy: the lines must agree */

    if (still == NULL)
        return SALVO_ERR_NOMEM;
    salvo_histogram_add(still, h);
    uint64_t total = total_of(still);
    double mean = mean_of(still, total);
    fprintf(stream, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
            "1/(1-Percentile)");
    write_lines(still, total, stream, unit_ns);
    fprintf(stream, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / unit_ns,
            deviation_of(still, total, mean) / unit_ns);
    fprintf(stream, "#[Max     = %12.3f, Total count    = %12llu]\n",
            (double)get(&still->max) / unit_ns, (unsigned long long)total);
    fprintf(stream, "#[Buckets = %12u, SubBuckets     = %12u]\n", BUCKETS, SUB_BUCKETS);
    salvo_histogram_free(still);
    return fflush(stream) != 0 || ferror(stream) ? SALVO_ERR_IO : SALVO_OK;
}
