/* SPDX-License-Identifier: Apache-2.0
 *
 * What metrics are made of: one producer's numbers from inside, or those of others by watching.
 */
#include "metrics.h"

#include "flusher.h"

#include <stdlib.h>
#include <string.h>

enum { PRODUCERS_MAX = 256 };

void salvo_metrics_release(salvo_metrics_source *s)
{
    for (int i = 0; i < SALVO_STAGES; i++)
        salvo_histogram_free(s->stages[i]);
    free(s->topics);
    *s = (salvo_metrics_source){0};
}

/* "/dev/shm/salvo-0/123-0.salvo": "123-0". */
static void take_id(salvo_metrics_source *s)
{
    const char *name = strrchr(s->info.path, '/');
    snprintf(s->id, sizeof s->id, "%.63s", name != NULL ? name + 1 : s->info.path);
    size_t length = strlen(s->id);
    if (length > 6 && strcmp(s->id + length - 6, ".salvo") == 0)
        s->id[length - 6] = '\0';
    if (s->id[0] == '\0')
        snprintf(s->id, sizeof s->id, "%lld", (long long)s->info.pid);
}

static bool have_stages(salvo_metrics_source *s)
{
    for (int i = 0; i < SALVO_STAGES; i++) {
        s->stages[i] = salvo_histogram_new(SALVO_SEGMENT_DIGITS);
        if (s->stages[i] == NULL)
            return false;
    }
    return true;
}

/* Room for one more topic; NULL: no memory. */
static salvo_metrics_topic *next_topic(salvo_metrics_source *s)
{
    void *more = realloc(s->topics, (s->topic_count + 1) * sizeof s->topics[0]);
    if (more == NULL)
        return NULL;
    s->topics = more;
    return &s->topics[s->topic_count++];
}

static int take_own_topics(salvo *p, salvo_metrics_source *s)
{
    /* Acquire: as salvo_ledger_read(); a name is complete before it is counted. */
    uint32_t count = atomic_load_explicit(&p->topics.count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        salvo_metrics_topic *t = next_topic(s);
        if (t == NULL)
            return SALVO_ERR_NOMEM;
        snprintf(t->name, sizeof t->name, "%s", p->topics.entries[i].name);
        (void)salvo_ledger_read(p, i, &t->ledger);
    }
    return 0;
}

int salvo_metrics_take(salvo *p, salvo_metrics_source *s)
{
    *s = (salvo_metrics_source){.known = true};
    salvo_segment_info(&p->segment, &s->info);
    take_id(s);
    salvo_stats_fill(p, &s->stats);
    int err = have_stages(s) ? take_own_topics(p, s) : SALVO_ERR_NOMEM;
    for (int i = 0; err == 0 && i < SALVO_STAGES; i++)
        for (uint32_t f = 0; f < p->settings.flushers; f++)
            salvo_histogram_add(s->stages[i], p->flushers[f].stages[i]);
    if (err != 0)
        salvo_metrics_release(s);
    return err;
}

/* A damaged file's names: one that is empty or there already would spoil the text for all. */
static bool is_new(const salvo_metrics_source *s, const char *name)
{
    for (size_t i = 0; i < s->topic_count; i++)
        if (strcmp(s->topics[i].name, name) == 0)
            return false;
    return name[0] != '\0';
}

static int take_topics(salvo_watch *w, salvo_metrics_source *s)
{
    const char *name;
    salvo_ledger ledger;
    salvo_metrics_topic skipped;
    for (salvo_topic i = 0; salvo_watch_get_topic(w, i, &name, &ledger) == 0; i++) {
        salvo_metrics_topic *t = is_new(s, name) ? next_topic(s) : &skipped;
        if (t == NULL)
            return SALVO_ERR_NOMEM;
        snprintf(t->name, sizeof t->name, "%s", name);
        t->ledger = ledger;
    }
    return 0;
}

/* One that told nothing yet, or went away meanwhile, is shown without numbers. */
static int take_other(const salvo_watch_info *info, salvo_metrics_source *s)
{
    salvo_watch *w;
    int err;
    *s = (salvo_metrics_source){.info = *info, .stats = {.size = sizeof s->stats}};
    take_id(s);
    if (salvo_watch_open(info->path, &w) != 0)
        return 0;
    s->known = salvo_watch_update(w) == 0 && salvo_watch_get_stats(w, &s->stats) == 0;
    err = salvo_watch_get_info(w, &s->info);
    if (s->known && err == 0)
        err = have_stages(s) ? take_topics(w, s) : SALVO_ERR_NOMEM;
    for (int i = 0; s->known && err == 0 && i < SALVO_STAGES; i++)
        if (salvo_watch_get_stage(w, (salvo_stage)i, s->stages[i]) != 0) {
            salvo_histogram_free(s->stages[i]);
            s->stages[i] = NULL;
        }
    salvo_watch_close(w);
    return err;
}

static int write_found(const salvo_watch_info *infos, size_t count, salvo_metrics_format format,
                       FILE *stream)
{
    salvo_metrics_source *all = calloc(count + 1, sizeof *all);
    int err = all != NULL ? 0 : SALVO_ERR_NOMEM;
    for (size_t i = 0; err == 0 && i < count; i++)
        err = take_other(&infos[i], &all[i]);
    if (err == 0)
        err = salvo_metrics_render(all, count, format, stream);
    for (size_t i = 0; all != NULL && i < count; i++)
        salvo_metrics_release(&all[i]);
    free(all);
    return err;
}

int salvo_metrics_write_all(const char *directory, salvo_metrics_format format, FILE *stream)
{
    if (stream == NULL)
        return SALVO_ERR_INVALID;
    salvo_watch_info *infos = calloc(PRODUCERS_MAX, sizeof *infos);
    if (infos == NULL)
        return SALVO_ERR_NOMEM;
    int found = salvo_watch_list(directory, infos, PRODUCERS_MAX);
    int err = found < 0 ? found
                        : write_found(infos, found < PRODUCERS_MAX ? (size_t)found
                                                                   : PRODUCERS_MAX,
                                      format, stream);
    free(infos);
    return err;
}

int salvo_metrics_write(salvo *producer, salvo_metrics_format format, FILE *stream)
{
    salvo_metrics_source s;
    int err = salvo_producer_check(producer);
    if (err != 0 || stream == NULL)
        return err != 0 ? err : SALVO_ERR_INVALID;
    err = salvo_metrics_take(producer, &s);
    if (err != 0)
        return err;
    err = salvo_metrics_render(&s, 1, format, stream);
    salvo_metrics_release(&s);
    return err;
}
