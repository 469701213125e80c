/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo plan --page`: a plan as one HTML page, by the page of `salvo report` (it loads nothing,
 * and its tables hold without JavaScript). Guarantees: the same plan, the same bytes.
 */
#include "plan.h"

#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000.0
#define MIB 1048576.0

typedef struct planned {
    const salvo_plan_case *c;
    const salvo_plan_found *f;
} planned;

static void put_bytes(FILE *to, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    for (; bytes >= 1024 && i < 4; i++)
        bytes /= 1024;
    salvo_report_number(to, bytes);
    fprintf(to, " %s", units[i]);
}

static void begin_row(FILE *to, const char *name)
{
    fprintf(to, "<tr><th scope=\"row\">%s</th><td>", name);
}

static void end_row(FILE *to, const char *note)
{
    fprintf(to, "</td><td>%s</td></tr>\n", note);
}

static void count_row(FILE *to, const char *name, double value, const char *note)
{
    begin_row(to, name);
    salvo_report_number(to, value);
    end_row(to, note);
}

static void bytes_row(FILE *to, const char *name, double value, const char *note)
{
    begin_row(to, name);
    put_bytes(to, value);
    end_row(to, note);
}

static void time_row(FILE *to, const char *name, uint64_t ns, const char *note)
{
    begin_row(to, name);
    if (ns == UINT64_MAX)
        fputs("never", to);
    else
        salvo_report_time(to, (double)ns);
    end_row(to, note);
}

static void permille_row(FILE *to, const char *name, uint64_t permille, const char *note)
{
    begin_row(to, name);
    fprintf(to, "%.1f %%", (double)permille / 10);
    end_row(to, note);
}

static void begin_section(FILE *to, const char *id, const char *title)
{
    fprintf(to, "<section id=\"%s\"><h2>%s</h2>\n", id, title);
}

static void chart(FILE *to, const char *name, const char *caption)
{
    fprintf(to, "<figure class=\"chart\" data-chart=\"%s\"><figcaption>%s</figcaption>"
            "<div class=\"plot\"><canvas role=\"img\" aria-label=\"%s\"></canvas></div></figure>\n",
            name, caption, caption);
}

static const char table_begin[] = "<div class=\"scroll\"><table class=\"plain plan\"><tbody>\n";
static const char table_end[] = "</tbody></table></div>\n";

/* ---- The parts ---- */

static void put_wanted(FILE *to, const planned *p)
{
    fputs("<p>For ", to);
    salvo_report_number(to, (double)salvo_cli_plan_rate(p->c, 1000));
    fputs(" messages a second of ", to);
    put_bytes(to, (double)p->c->mean_bytes);
    fputs(" through <bdi>", to);
    salvo_report_text(to, p->c->model.name);
    fputs("</bdi>: p99 within ", to);
    salvo_report_time(to, (double)p->c->p99_ns);
    if (p->c->outage_ns != 0) {
        fputs(", an outage of ", to);
        salvo_report_time(to, (double)p->c->outage_ns);
        char kind[64];
        fputs(salvo_cli_plan_outage_text(p->c, kind), to);
        fputs(" survived without a refusal, recovery within ", to);
        salvo_report_time(to, (double)p->c->recovery_ns);
    }
    fputs("; all of it with 30 % more messages than that.</p>\n", to);
    char notes[PLAN_NOTES][PLAN_TEXT];
    salvo_plan_basis basis = salvo_cli_plan_basis(p->c, p->f);
    size_t count = salvo_cli_plan_notes(p->c, &basis, notes);
    for (size_t i = 0; i < count; i++) {
        fputs("<p class=\"alarm\">", to);
        salvo_report_text(to, notes[i]);
        fputs("</p>\n", to);
    }
}

static void put_settings(FILE *to, const planned *p)
{
    const salvo_plan_choice *s = &p->f->choice;
    const salvo_plan_result *r = &p->f->as_told;
    begin_section(to, "settings", "Settings");
    fputs(table_begin, to);
    bool linger = p->c->fixed.linger_us != UINT64_MAX, buffer = p->c->fixed.buffer_bytes != 0;
    bytes_row(to, "buffer_bytes", (double)s->buffer_bytes,
              buffer ? "as told" : "what five seeds survive");
    bytes_row(to, "ring_bytes", (double)(r->ring_bytes / r->rings / s->flushers),
              "the engine's own choice");
    count_row(to, "linger_us", (double)s->linger_us,
              linger ? "as told" : "the largest within p99: fewest requests");
    bytes_row(to, "batch_bytes", (double)s->batch_bytes, "");
    count_row(to, "flushers", s->flushers, "");
    count_row(to, "partitions", s->partitions, "of each topic");
    count_row(to, "connections", (double)s->flushers * p->c->model.broker.brokers, "");
    count_row(to, "delivery_timeout_ms", (double)s->delivery_timeout_ms, "");
    bytes_row(to, "memory in all", (double)r->memory_bytes, "with the engine's tables");
    fputs(table_end, to);
    char *text = salvo_cli_plan_toml(p->c, p->f);
    fputs("<details><summary>core.toml</summary><pre><code>", to);
    for (const char *line = text, *end; *line != '\0'; line = end + 1) { /* escaped line by line */
        end = strchr(line, '\n');
        char piece[1024];
        snprintf(piece, sizeof piece, "%.*s", (int)(end - line), line);
        salvo_report_text(to, piece);
        fputc('\n', to);
    }
    fputs("</code></pre></details></section>\n", to);
    free(text);
}

static void put_expected(FILE *to, const planned *p)
{
    const salvo_plan_result *r = &p->f->as_told;
    char title[96];
    snprintf(title, sizeof title, "Expected over %.0f s", (double)p->f->as_told_ns / SECOND);
    begin_section(to, "expected", title);
    fputs("<div class=\"charts\">", to);
    chart(to, "hour", "p99 of each 10 seconds, and the target");
    chart(to, "memory", "Memory: how large, and the most in use in an outage");
    fputs("</div>", to);
    fputs(table_begin, to);
    time_row(to, "p50", r->p50_ns, "");
    time_row(to, "p99", r->p99_ns, "");
    time_row(to, "p99, worst 10 s", r->worst_p99_ns, "");
    time_row(to, "p99 with 30 % more", p->f->p99_high_ns, "the worst of five seeds");
    count_row(to, "requests a second", (double)r->requests * SECOND / (double)p->f->as_told_ns,
              "");
    permille_row(to, "flusher", r->flusher_busy_permille, "of a core");
    permille_row(to, "all cores", r->cores_busy_permille, "");
    count_row(to, "refused or late",
              (double)(r->ledger.offered - r->ledger.accepted + r->blocked), "messages");
    fputs(table_end, to);
    fputs("</section>\n", to);
}

static void cliff_row(FILE *to, const char *name, uint64_t permille)
{
    begin_row(to, name);
    if (permille == 0)
        fputs("above 16", to);
    else
        fprintf(to, "%.2f", (double)permille / 1000);
    end_row(to, "times the rate");
}

static void put_edges(FILE *to, const salvo_plan_found *f)
{
    char text[PLAN_TEXT];
    fputs("<p>At the rate itself, each setting alone, the others as they are:</p>\n", to);
    fputs(table_begin, to);
    for (size_t i = 0; i < f->edge_count; i++) {
        salvo_cli_plan_edge_text(&f->edges[i], text);
        begin_row(to, salvo_cli_plan_setting_name(f->edges[i].setting));
        salvo_report_text(to, text);
        end_row(to, "");
    }
    fputs(table_end, to);
}

static void put_cliffs(FILE *to, const planned *p)
{
    begin_section(to, "cliffs", "How far from each cliff");
    fputs("<div class=\"charts\">", to);
    chart(to, "cliffs", "Times the rate at which it breaks");
    fputs("</div>", to);
    fputs(table_begin, to);
    cliff_row(to, "p99, throughput", p->f->cliff_permille[0]);
    if (p->c->outage_ns != 0)
        cliff_row(to, "room, recovery", p->f->cliff_permille[1]);
    begin_row(to, "breaks first");
    fputs(salvo_cli_plan_limit_name(p->f->first), to);
    end_row(to, "as the rate grows");
    fputs(table_end, to);
    put_edges(to, p->f);
    fputs("</section>\n", to);
}

static void put_outage(FILE *to, const planned *p)
{
    const salvo_plan_result *r = &p->f->outage;
    if (p->c->outage_ns == 0)
        return;
    begin_section(to, "outage", "The outage, with 30 % more messages");
    fputs("<div class=\"charts\">", to);
    chart(to, "waiting", "Messages that wait, from 1 s before the outage on");
    fputs("</div>", to);
    fputs(table_begin, to);
    time_row(to, "recovery", r->recovery_ns, "from its end until nothing more waits than before");
    bytes_row(to, "room in use", (double)r->arena_peak_bytes, "at most");
    bytes_row(to, "room", (double)r->arena_bytes, "");
    count_row(to, "refused", (double)(r->ledger.offered - r->ledger.accepted), "messages");
    time_row(to, "oldest message", r->oldest_ns, "when it was settled");
    fputs(table_end, to);
    fputs("</section>\n", to);
}

static void put_body(FILE *to, const void *context)
{
    const planned *p = context;
    put_wanted(to, p);
    put_settings(to, p);
    put_expected(to, p);
    put_outage(to, p);
    put_cliffs(to, p);
}

/* ---- The charts' data ---- */

typedef uint64_t window_value(const salvo_plan_window *w);

static uint64_t p99_of(const salvo_plan_window *w)
{
    return w->p99_ns;
}

static uint64_t pending_of(const salvo_plan_window *w)
{
    return w->pending;
}

static json_t *points(const salvo_plan_result *r, window_value *of)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->window_count; i++) {
        const salvo_plan_window *w = &r->windows[i];
        uint64_t value = of(w);
        double at_s = (double)(w->from_ns + w->for_ns - r->windows[0].from_ns) / SECOND;
        if (value != UINT64_MAX)
            json_array_append_new(list, json_pack("[fI]", at_s, (json_int_t)value));
    }
    return list;
}

static json_t *memory_part(const char *name, uint64_t size, uint64_t peak)
{
    return json_pack("[sff]", name, (double)size / MIB, (double)peak / MIB);
}

static json_t *memory_of(const salvo_plan_result *r)
{
    return json_pack("[ooo]", memory_part("rings", r->ring_bytes, r->ring_peak_bytes),
                     memory_part("arena", r->arena_bytes, r->arena_peak_bytes),
                     memory_part("library", r->library_bytes, r->library_peak_bytes));
}

static json_t *cliffs_of(const planned *p)
{
    static const char *const names[] = {"p99, throughput", "room, recovery"};
    json_t *list = json_array();
    for (int i = 0; i < (p->c->outage_ns != 0 ? 2 : 1); i++) {
        uint64_t permille = p->f->cliff_permille[i];
        json_array_append_new(list, json_pack("[sf]", names[i],
                                              permille != 0 ? (double)permille / 1000 : 16.0));
    }
    return list;
}

char *salvo_cli_plan_page(const salvo_plan_case *c, const salvo_plan_found *f)
{
    const planned p = {c, f};
    const salvo_plan_result *fullest = c->outage_ns != 0 ? &f->outage : &f->as_told;
    size_t size;
    salvo_page_parts parts = {
        .title = "A plan for Salvo",
        .nav = "<a href=\"#settings\">Settings</a> <a href=\"#expected\">Expected</a> "
               "<a href=\"#cliffs\">Cliffs</a>",
        .body = put_body, .context = &p,
        .data = json_pack("{s[] s{so so sI so so}}", "runs", "plan", "p99",
                          points(&f->as_told, p99_of), "waiting", points(&f->outage, pending_of),
                          "target_ns", (json_int_t)c->p99_ns, "memory", memory_of(fullest),
                          "cliffs", cliffs_of(&p))};
    return salvo_page_html(&parts, &size);
}
