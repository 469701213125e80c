/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-linear histograms in HdrHistogram's layout, here with 3 digits: bucket 0 counts 0 .. 2047
 * one by one; each further bucket covers twice the range of the one before with the upper 1024 of
 * its 2048 steps, so that a value is known to 1 part in 1024 (2 digits: 256 steps, 1 in 128).
 * Guarantees: no count is lost or torn; count, percentiles and mean come from the same counts
 * but, while the writer runs, not of one instant; min and max are exact, and no percentile is
 * above max.
 *
 * All accesses are relaxed: there is one writer, so load + store is an increment, and a reader
 * draws no conclusion from one word about another (each total is summed from the counts it uses).
 */
#include "histogram.h"

#include "hdr.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HIGHEST_NS UINT64_C(3600000000000) /* below 2^42, not below 2^41 */
#define RANGE_BITS 42u
#define TICKS_PER_HALF_DISTANCE 5.0

_Static_assert(HIGHEST_NS < UINT64_C(1) << RANGE_BITS, "too few buckets");
_Static_assert(HIGHEST_NS >= UINT64_C(1) << (RANGE_BITS - 1), "too many buckets");

typedef _Atomic uint64_t word;

struct salvo_histogram {
    _Alignas(64) word sum; /* modulo 2^64; see mean_of */
    word min;              /* UINT64_MAX: nothing recorded */
    word max;
    uint32_t half_bits;    /* a bucket has 2 to the half_bits steps of its own: 7 or 10 */
    uint32_t length;       /* of counts */
    word counts[];
};

static uint64_t get(const word *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static void set(word *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_relaxed);
}

/* HdrHistogram's sub-buckets for 2 and 3 digits are 256 and 2048; half of them here. */
static uint32_t half_bits_of(unsigned digits)
{
    return digits == 2 ? 7 : digits == 3 ? 10 : 0;
}

static uint32_t length_of(uint32_t half_bits)
{
    return (RANGE_BITS - half_bits + 1) << half_bits;
}

static uint32_t index_of(const salvo_histogram *h, uint64_t value)
{
    uint64_t first = (UINT64_C(2) << h->half_bits) - 1;
    uint32_t bucket = 63u - h->half_bits - (uint32_t)__builtin_clzll(value | first);

    return (bucket << h->half_bits) + (uint32_t)(value >> bucket);
}

/* The smallest value that is counted at index. */
static uint64_t lowest_at(const salvo_histogram *h, uint32_t index, uint32_t *shift)
{
    uint32_t bucket = index < 2u << h->half_bits ? 0 : (index >> h->half_bits) - 1;

    *shift = bucket;
    return (uint64_t)(index - (bucket << h->half_bits)) << bucket;
}

static uint64_t highest_at(const salvo_histogram *h, uint32_t index)
{
    uint32_t shift;
    uint64_t low = lowest_at(h, index, &shift);

    return low + (UINT64_C(1) << shift) - 1;
}

static uint64_t median_at(const salvo_histogram *h, uint32_t index)
{
    uint32_t shift;
    uint64_t low = lowest_at(h, index, &shift);

    return low + (UINT64_C(1) << shift >> 1);
}

static size_t bytes_of(uint32_t half_bits)
{
    size_t bytes = sizeof(salvo_histogram) + length_of(half_bits) * sizeof(word);
    return (bytes + 63u) & ~(size_t)63u;
}

size_t salvo_histogram_bytes(unsigned digits)
{
    return half_bits_of(digits) == 0 ? 0 : bytes_of(half_bits_of(digits));
}

salvo_histogram *salvo_histogram_place(void *memory, unsigned digits)
{
    salvo_histogram *h = memory;

    memset(h, 0, salvo_histogram_bytes(digits));
    h->half_bits = half_bits_of(digits);
    h->length = length_of(h->half_bits);
    set(&h->min, UINT64_MAX);
    return h;
}

salvo_histogram *salvo_histogram_new(unsigned digits)
{
    size_t bytes = salvo_histogram_bytes(digits);
    void *memory = bytes == 0 ? NULL : aligned_alloc(64, bytes);

    return memory == NULL ? NULL : salvo_histogram_place(memory, digits);
}

void salvo_histogram_free(salvo_histogram *h)
{
    free(h);
}

void salvo_histogram_record(salvo_histogram *h, uint64_t ns, uint64_t n)
{
    if (n == 0)
        return;
    if (ns > HIGHEST_NS)
        ns = HIGHEST_NS;
    word *count = &h->counts[index_of(h, ns)];
    set(count, get(count) + n);
    set(&h->sum, get(&h->sum) + ns * n);
    if (ns < get(&h->min))
        set(&h->min, ns);
    if (ns > get(&h->max))
        set(&h->max, ns);
}

/* from's counts lie as into's do, or at least where from's own shape says. */
static void add_counts(salvo_histogram *into, const salvo_histogram *from, uint32_t length,
                       bool same)
{
    for (uint32_t i = 0; i < length; i++) {
        uint64_t n = get(&from->counts[i]);
        if (n == 0)
            continue;
        word *count = &into->counts[same ? i : index_of(into, median_at(from, i))];
        set(count, get(count) + n);
    }
    set(&into->sum, get(&into->sum) + get(&from->sum));
    if (get(&from->min) < get(&into->min))
        set(&into->min, get(&from->min));
    if (get(&from->max) > get(&into->max))
        set(&into->max, get(&from->max));
}

void salvo_histogram_add(salvo_histogram *into, const salvo_histogram *from)
{
    add_counts(into, from, from->length, into->half_bits == from->half_bits);
}

bool salvo_histogram_add_foreign(salvo_histogram *into, const void *memory, size_t bytes)
{
    if (bytes < bytes_of(into->half_bits))
        return false;
    add_counts(into, memory, into->length, true);
    return true;
}

/* Least and largest of what is new are known as their buckets' bounds. */
void salvo_histogram_since(salvo_histogram *into, const salvo_histogram *now,
                           salvo_histogram *before)
{
    if (into->half_bits != now->half_bits || before->half_bits != now->half_bits)
        return;
    for (uint32_t i = 0; i < now->length; i++) {
        uint32_t shift;
        uint64_t count = get(&now->counts[i]), n = count - get(&before->counts[i]);
        if (n == 0)
            continue;
        uint64_t low = lowest_at(now, i, &shift), high = highest_at(now, i);
        set(&before->counts[i], count);
        set(&into->counts[i], get(&into->counts[i]) + n);
        high = high > get(&now->max) ? get(&now->max) : high;
        low = low < get(&now->min) ? get(&now->min) : low;
        set(&into->min, low < get(&into->min) ? low : get(&into->min));
        set(&into->max, high > get(&into->max) ? high : get(&into->max));
    }
    uint64_t sum = get(&now->sum);
    set(&into->sum, get(&into->sum) + sum - get(&before->sum));
    set(&before->sum, sum);
    set(&before->min, get(&now->min));
    set(&before->max, get(&now->max));
}

static uint64_t total_of(const salvo_histogram *h)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < h->length; i++)
        total += get(&h->counts[i]);
    return total;
}

uint64_t salvo_histogram_count(const salvo_histogram *h)
{
    return total_of(h);
}

uint64_t salvo_histogram_upto(const salvo_histogram *h, uint64_t ns)
{
    uint64_t total = 0;
    uint32_t last = index_of(h, ns > HIGHEST_NS ? HIGHEST_NS : ns);

    for (uint32_t i = 0; i <= last; i++)
        total += get(&h->counts[i]);
    return total;
}

uint64_t salvo_histogram_sum(const salvo_histogram *h)
{
    return get(&h->sum);
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
    while (*index < h->length - 1) {
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
    for (uint32_t i = 0; i < h->length; i++)
        sum += (double)get(&h->counts[i]) * (double)median_at(h, i);
    return (sum < 0x1p63 ? (double)get(&h->sum) : sum) / (double)total;
}

uint64_t salvo_histogram_at(const salvo_histogram *h, double percentile)
{
    uint64_t total = total_of(h), seen = 0;
    uint32_t index = 0;

    if (total == 0)
        return 0;
    return not_above_max(h, highest_at(h, seek(h, rank_of(percentile, total), &index, &seen)));
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
        *values[i] = not_above_max(h, highest_at(h, seek(h, rank, &index, &seen)));
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

    for (uint32_t i = 0; i < h->length; i++) {
        double distance = (double)median_at(h, i) - mean;
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
                (double)not_above_max(h, highest_at(h, index)) / unit_ns, percentile / 100.0,
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
    unsigned digits = h->half_bits == half_bits_of(2) ? 2 : 3;
    salvo_histogram *still = salvo_histogram_new(digits); /* a copy: the lines must agree */

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
    fprintf(stream, "#[Buckets = %12u, SubBuckets     = %12u]\n",
            RANGE_BITS - still->half_bits, 2u << still->half_bits);
    salvo_histogram_free(still);
    return fflush(stream) != 0 || ferror(stream) ? SALVO_ERR_IO : SALVO_OK;
}

int salvo_histogram_encode(const salvo_histogram *h, char **text)
{
    uint64_t *counts = malloc(h->length * sizeof *counts);

    *text = NULL;
    if (counts == NULL)
        return SALVO_ERR_NOMEM;
    for (uint32_t i = 0; i < h->length; i++)
        counts[i] = get(&h->counts[i]);
    salvo_hdr form = {.digits = h->half_bits == half_bits_of(2) ? 2 : 3,
                      .highest = HIGHEST_NS, .counts = counts, .length = h->length};
    int err = salvo_hdr_encode(&form, text);
    free(counts);
    return err;
}

/* The text has the counts alone: the sum, least and largest are those of the buckets. */
static int take_counts(salvo_histogram *h, const salvo_hdr *form)
{
    for (uint32_t i = 0; i < form->length; i++) {
        if (form->counts[i] == 0)
            continue;
        if (i >= h->length)
            return SALVO_ERR_INVALID; /* longer than an hour */
        salvo_histogram_record(h, median_at(h, i), form->counts[i]);
        if (highest_at(h, i) > get(&h->max))
            set(&h->max, highest_at(h, i));
    }
    return 0;
}

int salvo_histogram_decode(const char *text, salvo_histogram **out)
{
    salvo_hdr form;
    int err = salvo_hdr_decode(text, &form);

    *out = NULL;
    if (err != 0)
        return err;
    salvo_histogram *h = salvo_histogram_new(form.digits);
    err = h != NULL                      ? take_counts(h, &form)
          : half_bits_of(form.digits) == 0 ? SALVO_ERR_INVALID
                                           : SALVO_ERR_NOMEM;
    free(form.counts);
    if (err == 0)
        *out = h;
    else
        salvo_histogram_free(h);
    return err;
}
