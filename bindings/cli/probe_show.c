/* SPDX-License-Identifier: Apache-2.0
 *
 * A broker model for people: what was found, each shape of request against the fit, and the ramp
 * as a picture.
 */
#include "load_pace.h"
#include "picture.h"
#include "probe.h"

#include <math.h>
#include <stdio.h>

static const char *time_of(double ns, char text[16])
{
    return salvo_picture_time(ns > 0 ? (uint64_t)llround(ns) : 0, text);
}

static double pace_at(const salvo_probing *p, double percentile)
{
    int64_t *paces = salvo_cli_alloc(p->noise.pace_count * sizeof *paces);
    for (size_t i = 0; i < p->noise.pace_count; i++)
        paces[i] = p->noise.pace_permille[i];
    salvo_fit_quantiles(paces, p->noise.pace_count, NULL, 0);
    double pace = salvo_fit_percentile(paces, p->noise.pace_count, percentile) / 1000;
    free(paces);
    return pace;
}

static void show_rests(const salvo_probing *p, FILE *to)
{
    char longest[16], observed[16];
    int64_t most = 0;
    for (size_t i = 0; i < p->noise.pause_count; i++)
        most = p->noise.pauses_ns[i] > most ? p->noise.pauses_ns[i] : most;
    fprintf(to, "stalls        %zu in %s\n", p->stall_count,
            time_of((double)p->observed_ns, observed));
    fprintf(to, "pauses        %zu under load", p->noise.pause_count);
    if (p->noise.pause_count != 0)
        fprintf(to, ", up to %s", time_of((double)most, longest));
    fputc('\n', to);
}

static void show_work(const salvo_probing *p, FILE *to)
{
    char rate[28];
    if (p->load.rate <= 0)
        return;
    salvo_picture_count((uint64_t)p->load.rate, rate);
    fprintf(to, "at work       a message costs %.1f times as much to send at %s messages/s, "
            "flusher %.1f, library %.1f", p->load.send, rate, p->load.flusher, p->load.library);
    if (p->on_host)
        fprintf(to, ", broker %.1f", p->load.broker);
    fputs(" (in the figures above)\n", to);
}

static void show_found(const salvo_probing *p, FILE *to)
{
    char a[28], b[16], c[16];
    fprintf(to, "%s, %u partition%s\n\n", p->name, p->partitions, p->partitions == 1 ? "" : "s");
    fprintf(to, "a request     %s + %s a KiB + %s a record\n", time_of(p->service.base_ns, a),
            time_of(p->service.per_byte_ns * 1024, b), time_of(p->service.per_record_ns, c));
    fprintf(to, "residuals     p50 %s, p99 %s%s\n",
            time_of((double)p->residual[PROBE_TABLE / 2], a),
            p->residual[PROBE_TABLE * 99 / 100] > 0 ? "+" : "",
            time_of((double)p->residual[PROBE_TABLE * 99 / 100], b));
    if (p->noise.pace_count != 0)
        fprintf(to, "pace          p5 %.2f, p95 %.2f, most %.2f of the middle, in %zu slices of %d "
                "ms\n", pace_at(p, 5), pace_at(p, 95), pace_at(p, 100), p->noise.pace_count,
                NOISE_SLICE_NS / 1000000);
    fprintf(to, "in flight     %u on a connection%s, %u served at a time (the sweep is met within "
            "%.0f %%)\n", p->window.window, p->window.window_seen ? "" : " or more",
            p->window.servers, p->window.error * 100);
    show_rests(p, to);
    fprintf(to, "this side     flusher %s a batch + %s a record, submit %s + %s, library %s + %s\n",
            time_of(p->flusher.base_ns, a), time_of(p->flusher.per_record_ns, b),
            time_of(p->thread.base_ns, (char[16]){0}),
            time_of(p->thread.per_record_ns, (char[16]){0}),
            time_of(p->library.base_ns, c), time_of(p->library.per_record_ns, (char[16]){0}));
    if (p->on_host)
        fprintf(to, "broker here   %s of this host's cores a request + %s a record\n",
                time_of(p->host.base_ns, a), time_of(p->host.per_record_ns, b));
    show_work(p, to);
    if (p->steal_percent >= 0.05)
        fprintf(to, "stolen        %.1f %% of the processors by the host above this one%s\n",
                p->steal_percent, p->steal_percent >= SALVO_STEAL_TOLD
                                      ? ": measure again in a calmer hour" : "");
    if (p->failed != 0)
        fprintf(to, "failed        %llu requests (%s)\n", (unsigned long long)p->failed,
                salvo_strerror(p->failed_status));
}

static void show_shapes(const salvo_probing *p, FILE *to)
{
    char a[28], b[16], c[16];
    fprintf(to, "\n%8s %9s %9s %10s %10s %6s\n", "records", "bytes", "requests", "measured",
            "model", "off");
    for (size_t i = 0; i < p->shape_count; i++) {
        const salvo_probe_shape *s = &p->shapes[i];
        fprintf(to, "%8u %9s %9zu %10s %10s %+5.0f%%\n", s->records,
                salvo_picture_count((uint64_t)s->records * s->value_bytes, a), s->count,
                time_of(s->median_ns, b), time_of(s->model_ns, c),
                (s->model_ns / s->median_ns - 1) * 100);
    }
    fprintf(to, "off by %.0f %% (median), %.0f %% (p90), %.0f %% (most); requests outside of these "
            "sizes are extrapolated\n", p->errors[0], p->errors[1], p->errors[2]);
}

static void show_sweep(const salvo_probing *p, FILE *to)
{
    char a[28], b[28], c[28];
    fprintf(to, "\n%9s %9s %12s %12s %6s\n", "in flight", "bytes", "requests/s", "model", "off");
    for (size_t i = 0; i < p->flow_count; i++) {
        const salvo_fit_flow *f = &p->flows[i];
        fprintf(to, "%9u %9s %12s %12s %+5.0f%%\n", f->in_flight,
                salvo_picture_count((uint64_t)f->bytes, a),
                salvo_picture_count((uint64_t)f->per_s, b),
                salvo_picture_count((uint64_t)p->flow_model[i], c),
                (p->flow_model[i] / f->per_s - 1) * 100);
    }
}

static void show_ramp(const salvo_probing *p, FILE *to)
{
    salvo_picture picture = salvo_picture_for(to);
    char count[28], a[16], b[16], label[96];
    uint64_t most = 0;
    for (size_t i = 0; i < p->step_count; i++)
        most = p->steps[i].p99_ns > most ? p->steps[i].p99_ns : most;
    fprintf(to, "\n%12s %9s %9s   p99, logarithmic\n", "messages/s", "p50", "p99");
    for (size_t i = 0; i < p->step_count; i++) {
        const salvo_probe_step *s = &p->steps[i];
        double all = log((double)most / 10000), share = log((double)s->p99_ns / 10000) / all;
        int columns = most > 10000 && share > 0 ? (int)(share * (picture.width - 45.0)) : 0;
        snprintf(label, sizeof label, "%12s %9s %9s %c ",
                 salvo_picture_count((uint64_t)s->offered_per_s, count),
                 time_of((double)s->p50_ns, a), time_of((double)s->p99_ns, b), s->kept ? ' ' : '!');
        fputs(label, to);
        for (int k = 0; k < columns; k++)
            fputs(picture.utf8 ? "█" : "#", to);
        fputc('\n', to);
    }
}

void salvo_probing_show(const salvo_probing *p, FILE *to)
{
    char count[28], requests[28];
    show_found(p, to);
    show_shapes(p, to);
    show_sweep(p, to);
    show_ramp(p, to);
    fprintf(to, "\nlimit %s%s messages/s of %u bytes, %s requests/s%s\n",
            p->limit_met ? "" : "at least ",
            salvo_picture_count((uint64_t)p->limit.acknowledged_per_s, count), p->value_bytes,
            salvo_picture_count((uint64_t)p->limit.requests_per_s, requests),
            p->limit_met ? " (beyond it p99 triples or not all is acknowledged)" : "");
}
