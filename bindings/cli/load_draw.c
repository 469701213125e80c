/* SPDX-License-Identifier: Apache-2.0
 *
 * Sizes and keys by chance. Zipf is drawn by rejection-inversion (Hoermann and Derflinger, 1996):
 * constant time and no table, for any exponent above 0 and any number of keys.
 */
#include "load_draw.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MOST 100000u

uint64_t salvo_load_stream(uint64_t seed, uint64_t stream)
{
    uint64_t z = seed + (stream + 1) * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return z == 0 ? 1 : z;
}

bool salvo_load_number(const char *text, const char **end, double *out)
{
    char *stop;
    if (!(text[0] >= '0' && text[0] <= '9') && text[0] != '.')
        return false;
    double value = strtod(text, &stop);
    if (stop == text || !isfinite(value))
        return false;
    double unit = *stop == 'k' ? 1e3 : *stop == 'M' ? 1e6 : *stop == 'G' ? 1e9 : 0;
    *out = unit > 0 ? value * unit : value;
    *end = unit > 0 ? stop + 1 : stop;
    return true;
}

/* --- sizes ----------------------------------------------------------------------------------- */

static bool add_size(salvo_load_sizes *s, double size, double weight)
{
    if (!(size >= 0 && size <= SALVO_LOAD_SIZE_MOST) || !(weight > 0) || s->count >= LIST_MOST)
        return false;
    if ((s->count & (s->count - 1)) == 0) { /* a power of two: it is full */
        size_t room = s->count ? 2 * s->count : 1;
        uint32_t *values = realloc(s->values, room * sizeof *values);
        if (values)
            s->values = values;
        double *upto = values ? realloc(s->upto, room * sizeof *upto) : NULL;
        if (!upto)
            return false;
        s->upto = upto;
    }
    s->values[s->count] = (uint32_t)size;
    s->upto[s->count] = (s->count ? s->upto[s->count - 1] : 0) + weight;
    s->count++;
    return true;
}

static bool take_list(salvo_load_sizes *s, const char *text)
{
    s->kind = SALVO_LOAD_SIZE_LIST;
    for (;;) {
        double size, weight;
        if (!salvo_load_number(text, &text, &size) || *text != ':' ||
            !salvo_load_number(text + 1, &text, &weight) || !add_size(s, size, weight))
            return false;
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            return false;
    }
}

static bool take_file(salvo_load_sizes *s, const char *path, char *error, size_t error_size)
{
    char line[128];
    size_t number = 0;
    FILE *file = fopen(path, "re");
    s->kind = SALVO_LOAD_SIZE_LIST;
    if (!file) {
        snprintf(error, error_size, "cannot read %s: %s", path, strerror(errno));
        return false;
    }
    bool good = true;
    while (good && fgets(line, sizeof line, file)) {
        double size, weight = 1;
        const char *at = line + strspn(line, " \t");
        number++;
        if (*at == '#' || *at == '\n' || *at == '\0')
            continue;
        good = salvo_load_number(at, &at, &size);
        at += strspn(at, " \t,");
        if (good && *at != '\n' && *at != '\0')
            good = salvo_load_number(at, &at, &weight) && at[strspn(at, " \t\r\n")] == '\0';
        good = good && add_size(s, size, weight);
    }
    good = good && !ferror(file);
    fclose(file);
    if (good && s->count > 0)
        return true;
    snprintf(error, error_size, "%s:%zu: not `size` or `size weight` (sizes 0 to %u bytes, "
             "weights above 0, at most %u lines)", path, number, SALVO_LOAD_SIZE_MOST, LIST_MOST);
    return false;
}

static bool take_pair(salvo_load_sizes *s, const char *text, const char *name,
                      salvo_load_size_kind kind, bool two)
{
    size_t length = strlen(name);
    if (strncmp(text, name, length) != 0 || !salvo_load_number(text + length, &text, &s->low))
        return false;
    s->kind = kind;
    if (two && (*text != ':' || !salvo_load_number(text + 1, &text, &s->high)))
        return false;
    return *text == '\0' && s->low > 0 && s->low <= SALVO_LOAD_SIZE_MOST;
}

static bool take_range(salvo_load_sizes *s, const char *text)
{
    s->kind = SALVO_LOAD_SIZE_RANGE;
    if (!salvo_load_number(text, &text, &s->low))
        return false;
    s->high = s->low;
    if (*text == '-' && !salvo_load_number(text + 1, &text, &s->high))
        return false;
    return *text == '\0' && s->low <= s->high && s->high <= SALVO_LOAD_SIZE_MOST;
}

bool salvo_load_sizes_parse(salvo_load_sizes *s, const char *text, char *error,
                            size_t error_size)
{
    *s = (salvo_load_sizes){0};
    if (strncmp(text, "file:", 5) == 0)
        return take_file(s, text + 5, error, error_size);
    if (take_pair(s, text, "exp:", SALVO_LOAD_SIZE_EXP, false) ||
        take_pair(s, text, "normal:", SALVO_LOAD_SIZE_NORMAL, true) ||
        take_pair(s, text, "lognormal:", SALVO_LOAD_SIZE_LOGNORMAL, true) || take_range(s, text) ||
        take_list(s, text))
        return true;
    salvo_load_sizes_free(s);
    snprintf(error, error_size, "`%s` is no size: allowed are 100, 50-500, 100:9,1000:1 "
             "(size:weight), exp:MEAN, normal:MEAN:DEVIATION, lognormal:MEDIAN:SIGMA and file:PATH,"
             " 0 to %u bytes", text, SALVO_LOAD_SIZE_MOST);
    return false;
}

void salvo_load_sizes_free(salvo_load_sizes *s)
{
    free(s->values);
    free(s->upto);
    *s = (salvo_load_sizes){0};
}

static uint32_t clamp(double size)
{
    return size <= 0 ? 0 : size >= SALVO_LOAD_SIZE_MOST ? SALVO_LOAD_SIZE_MOST
                                                        : (uint32_t)(size + 0.5);
}

static double normal(uint64_t *random)
{
    double radius = sqrt(-2 * log(salvo_load_unit(random)));
    return radius * cos(6.283185307179586 * salvo_load_unit(random));
}

static uint32_t draw_listed(const salvo_load_sizes *s, uint64_t *random)
{
    double at = salvo_load_unit(random) * s->upto[s->count - 1];
    size_t low = 0, high = s->count - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->upto[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return s->values[low];
}

uint32_t salvo_load_sizes_draw(const salvo_load_sizes *s, uint64_t *random)
{
    switch (s->kind) {
    case SALVO_LOAD_SIZE_LIST: return draw_listed(s, random);
    case SALVO_LOAD_SIZE_EXP: return clamp(-log(salvo_load_unit(random)) * s->low);
    case SALVO_LOAD_SIZE_NORMAL: return clamp(s->low + normal(random) * s->high);
    case SALVO_LOAD_SIZE_LOGNORMAL: return clamp(s->low * exp(normal(random) * s->high));
    default: break;
    }
    uint64_t steps = (uint64_t)(s->high - s->low) + 1;
    return (uint32_t)s->low + (steps > 1 ? (uint32_t)(salvo_load_random(random) % steps) : 0);
}

/* --- keys ------------------------------------------------------------------------------------ */

/* Zipf's density x to the -s, its integral and the inverse of that, all good at s = 1 too. */
static double density(double s, double x)
{
    return exp(-s * log(x));
}

static double integral(double s, double x)
{
    double l = log(x), t = (1 - s) * l;
    return fabs(t) > 1e-8 ? expm1(t) / t * l : (1 + t / 2) * l;
}

static double inverse(double s, double y)
{
    double t = y * (1 - s);
    t = t < -1 ? -1 : t;
    return exp((fabs(t) > 1e-8 ? log1p(t) / t : 1 - t / 2) * y);
}

bool salvo_load_keys_parse(salvo_load_keys *k, const char *text, char *error,
                           size_t error_size)
{
    const char *at = text;
    double count = 0;
    *k = (salvo_load_keys){0};
    bool good = salvo_load_number(text, &at, &count) && count <= UINT32_MAX;
    if (good && strncmp(at, ":zipf", 5) == 0) {
        k->exponent = 1;
        at += 5;
        if (*at == ':')
            good = salvo_load_number(at + 1, &at, &k->exponent) && k->exponent > 0 &&
                   k->exponent <= 10;
    }
    if (!good || *at != '\0') {
        snprintf(error, error_size, "`%s` is no number of keys: allowed are 0 (messages without "
                 "a key), 1000, 1000:zipf and 1000:zipf:1.2 (exponent above 0, at most 10)", text);
        return false;
    }
    k->count = (uint32_t)count;
    k->first = integral(k->exponent, 1.5) - 1;
    k->last = integral(k->exponent, k->count + 0.5);
    k->cut = 2 - inverse(k->exponent, integral(k->exponent, 2.5) - density(k->exponent, 2));
    return true;
}

uint32_t salvo_load_keys_draw(const salvo_load_keys *k, uint64_t *random)
{
    if (k->count == 0)
        return 0;
    if (!(k->exponent > 0))
        return 1 + (uint32_t)(salvo_load_random(random) % k->count);
    for (;;) {
        double u = k->last + salvo_load_unit(random) * (k->first - k->last);
        double x = inverse(k->exponent, u), rank = floor(x + 0.5);
        rank = rank < 1 ? 1 : rank > k->count ? k->count : rank;
        if (rank - x <= k->cut || u >= integral(k->exponent, rank + 0.5) -
                                           density(k->exponent, rank))
            return (uint32_t)rank;
    }
}
