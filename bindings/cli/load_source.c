/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages and their times, kept as a sum of gaps in double precision: after an hour of a million
 * messages a second the sum is off by less than a microsecond.
 */
#include "load_source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool salvo_load_seconds(const char *text, const char **end, double *out)
{
    if (!salvo_load_number(text, end, out))
        return false;
    if (strncmp(*end, "ms", 2) == 0) {
        *out /= 1e3;
        *end += 2;
    } else if (**end == 's') {
        *end += 1;
    } else if (**end == 'm') {
        *out *= 60;
        *end += 1;
    }
    return *out >= 0 && *out <= 1e6;
}

static bool take_steps(salvo_load *load, const char *text)
{
    double most = 0;
    load->step_count = 0;
    for (;;) {
        salvo_load_step *step = &load->steps[load->step_count];
        step->seconds = 1e7;
        if (load->step_count == SALVO_LOAD_STEPS ||
            !salvo_load_number(text, &text, &step->rate) || step->rate > SALVO_LOAD_RATE_MOST)
            return false;
        most = step->rate > most ? step->rate : most;
        if (*text == '\0' && load->step_count == 0) {
            load->step_count = 1;
            return most > 0;
        }
        if (*text != ':' || !salvo_load_seconds(text + 1, &text, &step->seconds) ||
            step->seconds < 1e-3)
            return false;
        load->step_count++;
        if (*text == '\0')
            return most > 0;
        if (*text++ != ',')
            return false;
    }
}

bool salvo_load_take_rate(salvo_load *load, const char *text, char *error, size_t error_size)
{
    load->rate_text = text;
    if (take_steps(load, text))
        return true;
    snprintf(error, error_size, "`%s` is no rate: allowed are 50k (messages a second, at most "
             "100M) and steps such as 10k:5s,50k:5s,0:500ms (at most %d, repeated)", text,
             SALVO_LOAD_STEPS);
    return false;
}

bool salvo_load_take_arrivals(salvo_load *load, const char *text, char *error, size_t error_size)
{
    double burst = 1;
    const char *end = "";
    load->arrivals_text = text;
    load->poisson = strcmp(text, "poisson") == 0;
    bool good = load->poisson || strcmp(text, "constant") == 0;
    if (!good && strncmp(text, "burst:", 6) == 0)
        good = salvo_load_number(text + 6, &end, &burst) && *end == '\0' && burst >= 1 &&
               burst <= 1e6;
    load->burst = (uint32_t)burst;
    if (good)
        return true;
    snprintf(error, error_size, "`%s` is no way to arrive: allowed are constant, poisson and "
             "burst:N (N messages at once, 1 to 1M)", text);
    return false;
}

salvo_load_source salvo_load_begin(const salvo_load *load)
{
    salvo_load_source s = {
        .load = load,
        .end_ns = (uint64_t)((load->warmup_s + load->duration_s) * 1e9),
        .arrival = salvo_load_stream(load->seed, 0),
        .size = salvo_load_stream(load->seed, 1),
        .key = salvo_load_stream(load->seed, 2),
    };
    if (load->step_count > 0)
        s.step_end_ns = (load->warmup_s + load->steps[0].seconds) * 1e9;
    return s;
}

static double gap_ns(salvo_load_source *s, double rate)
{
    return s->load->poisson ? -log(salvo_load_unit(&s->arrival)) * 1e9 / rate
                            : s->load->burst * 1e9 / rate;
}

/* The next due time. A step that ends before it hands on to the next one, from its own begin:
 * exponential gaps have no memory, and regular ones begin anew with a rate of their own. */
static void advance(salvo_load_source *s)
{
    const salvo_load *load = s->load;
    bool first = s->index == 0 && s->burst_left == 0;
    if (s->burst_left > 0) {
        s->burst_left--;
        return;
    }
    s->burst_left = load->burst - 1;
    double rate = load->steps[s->step].rate;
    double next = rate > 0 ? s->at_ns + (first && !load->poisson ? 0 : gap_ns(s, rate)) : 1e300;
    while (next >= s->step_end_ns && s->step_end_ns < (double)s->end_ns) {
        s->step = (s->step + 1) % load->step_count;
        rate = load->steps[s->step].rate;
        s->step_at_ns = s->step_end_ns;
        s->step_end_ns += load->steps[s->step].seconds * 1e9;
        next = rate > 0 ? s->step_at_ns + (load->poisson ? gap_ns(s, rate) : 0) : 1e300;
    }
    s->at_ns = next;
}

static uint64_t little(const unsigned char *bytes, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

static bool next_of_file(salvo_load_source *s, salvo_load_message *m)
{
    if (s->index >= s->load->file_messages)
        return false;
    const unsigned char *record = s->load->file + 4096 + 16 * s->index;
    m->at_ns = little(record, 8);
    m->value_bytes = (uint32_t)little(record + 8, 4);
    m->key = (uint32_t)little(record + 12, 4);
    s->damaged = m->at_ns < s->last_ns || m->value_bytes > SALVO_LOAD_SIZE_MOST;
    return !s->damaged && m->at_ns < s->end_ns;
}

bool salvo_load_next(salvo_load_source *s, salvo_load_message *m, uint64_t *index)
{
    if (s->load->file) {
        if (!next_of_file(s, m))
            return false;
    } else {
        advance(s);
        if (s->at_ns >= (double)s->end_ns)
            return false;
        m->at_ns = (uint64_t)s->at_ns;
        m->value_bytes = salvo_load_sizes_draw(&s->load->sizes, &s->size);
        m->key = salvo_load_keys_draw(&s->load->keys, &s->key);
    }
    m->topic = s->load->file_topics ? s->load->file_topics[s->index] : SALVO_LOAD_IN_TURN;
    s->last_ns = m->at_ns;
    *index = s->index++;
    return true;
}
