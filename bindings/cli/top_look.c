/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking at producers for `salvo top`: what is there, and what changed since the last look. Rates
 * are over the time between the producer's own copies, so that they do not depend on when we look.
 */
#include "cli.h"
#include "top.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SILENT_MS = 3000 };

static uint64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

double salvo_top_rate(const top_source *source, uint64_t now, uint64_t before)
{
    return source->seconds > 0 && now > before ? (double)(now - before) / source->seconds : 0;
}

uint64_t salvo_top_refused(const salvo_ledger *l)
{
    return l->refused_full + l->refused_dropped + l->refused_timeout + l->refused_too_large +
           l->refused_invalid;
}

const char *salvo_top_state(const top_source *source, uint64_t *since_ms)
{
    uint64_t last_ms = source->now.known ? source->now.at_ms : source->info.started_at_ms;
    uint64_t now_ms = unix_ms();
    *since_ms = last_ms;
    if (!source->listed)
        return "closed";
    if (!source->info.alive)
        return "dead";
    if (now_ms > last_ms + SILENT_MS)
        return "not answering";
    *since_ms = source->info.started_at_ms;
    return "alive";
}

static bool take_look(top_source *s, top_look *look)
{
    const char *name;
    look->stats = (salvo_stats){.size = sizeof look->stats};
    look->topic_count = 0;
    look->known = salvo_watch_update(s->watch) == 0 &&
                  salvo_watch_get_stats(s->watch, &look->stats) == 0;
    (void)!salvo_watch_get_info(s->watch, &s->info);
    look->at_ms = s->info.updated_at_ms;
    if (!look->known)
        return false;
    salvo_ledger ledger;
    while (salvo_watch_get_topic(s->watch, (salvo_topic)look->topic_count, &name, &ledger) == 0) {
        size_t size = (look->topic_count + 1) * sizeof look->topics[0];
        look->topics = salvo_cli_realloc(look->topics, size);
        top_topic *topic = &look->topics[look->topic_count++];
        snprintf(topic->name, sizeof topic->name, "%s", name);
        topic->ledger = ledger;
    }
    return true;
}

/* The stages since the last look, from counts that only grow. */
static void take_stages(top_source *s)
{
    for (int i = 0; i < SALVO_STAGES; i++) {
        salvo_histogram *now = salvo_histogram_new(2), *added = salvo_histogram_new(2);
        if (now == NULL || added == NULL ||
            salvo_watch_get_stage(s->watch, (salvo_stage)i, now) != 0) {
            salvo_histogram_free(now);
            salvo_histogram_free(added);
            continue;
        }
        if (s->mark[i] == NULL) {
            s->mark[i] = salvo_histogram_new(2);
            if (s->mark[i] != NULL)
                salvo_histogram_add(s->mark[i], now);
        } else {
            salvo_histogram_since(added, now, s->mark[i]);
        }
        salvo_histogram_summary(added, &s->interval[i]);
        salvo_histogram_free(added);
        salvo_histogram_free(s->start[i]);
        s->start[i] = now;
    }
}

static void remember_rate(top_source *s)
{
    if (s->history_count == TOP_HISTORY) {
        memmove(s->history, s->history + 1, (TOP_HISTORY - 1) * sizeof s->history[0]);
        s->history_count--;
    }
    s->history[s->history_count++] = salvo_top_rate(s, s->now.stats.total.acknowledged,
                                                    s->before.stats.total.acknowledged);
}

static void look_at(top_source *s)
{
    top_look old = s->before;
    bool first = !s->now.known;
    s->before = s->now;
    s->now = old; /* its room is used again */
    if (!take_look(s, &s->now)) {
        s->seconds = 0;
        return;
    }
    take_stages(s);
    s->seconds = first || s->now.at_ms <= s->before.at_ms
                     ? 0 : (double)(s->now.at_ms - s->before.at_ms) / 1000.0;
    if (!first)
        remember_rate(s);
}

static bool is_wanted(const top_view *view, const salvo_watch_info *info)
{
    char pid[24];
    snprintf(pid, sizeof pid, "%lld", (long long)info->pid);
    return view->who == NULL || strcmp(view->who, pid) == 0 ||
           strcmp(view->who, info->program) == 0 || strcmp(view->who, info->client_id) == 0;
}

static top_source *find(const top_view *view, const salvo_watch_info *info)
{
    for (size_t i = 0; i < view->count; i++) /* a path may be used again, by another start */
        if (strcmp(view->sources[i]->info.path, info->path) == 0 &&
            view->sources[i]->info.started_at_ms == info->started_at_ms)
            return view->sources[i];
    return NULL;
}

static void add(top_view *view, const salvo_watch_info *info)
{
    salvo_watch *watch;
    if (view->count == TOP_PRODUCERS_MAX || salvo_watch_open(info->path, &watch) != 0)
        return; /* it ended meanwhile */
    top_source *s = salvo_cli_alloc(sizeof *s);
    s->watch = watch;
    s->info = *info;
    s->listed = true;
    view->sources[view->count++] = s;
}

static int living_first(const void *a, const void *b)
{
    const top_source *x = *(top_source *const *)a, *y = *(top_source *const *)b;
    if (x->info.alive != y->info.alive)
        return x->info.alive ? -1 : 1;
    if (x->info.started_at_ms != y->info.started_at_ms)
        return x->info.started_at_ms < y->info.started_at_ms ? -1 : 1;
    return strcmp(x->info.path, y->info.path);
}

int salvo_top_look(top_view *view)
{
    static salvo_watch_info infos[TOP_PRODUCERS_MAX];
    int found = salvo_watch_list(view->directory, infos, TOP_PRODUCERS_MAX);
    if (found < 0) {
        salvo_cli_say("%s", salvo_last_error());
        return found;
    }
    for (size_t i = 0; i < view->count; i++)
        view->sources[i]->listed = false;
    for (int i = 0; i < found && i < TOP_PRODUCERS_MAX; i++) {
        top_source *s = find(view, &infos[i]);
        if (s != NULL)
            s->listed = true;
        else if (is_wanted(view, &infos[i]))
            add(view, &infos[i]);
    }
    for (size_t i = 0; i < view->count; i++)
        look_at(view->sources[i]);
    qsort(view->sources, view->count, sizeof view->sources[0], living_first);
    return (int)view->count;
}

void salvo_top_free(top_view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        top_source *s = view->sources[i];
        for (int stage = 0; stage < SALVO_STAGES; stage++) {
            salvo_histogram_free(s->start[stage]);
            salvo_histogram_free(s->mark[stage]);
        }
        salvo_watch_close(s->watch);
        free(s->now.topics);
        free(s->before.topics);
        free(s);
    }
    view->count = 0;
}

static uint64_t offered_lately(const top_source *s, size_t topic)
{
    uint64_t before = topic < s->before.topic_count ? s->before.topics[topic].ledger.offered : 0;
    uint64_t now = s->now.topics[topic].ledger.offered;
    return s->before.known && now > before ? now - before : 0;
}

static bool is_busier(const top_source *s, size_t a, size_t b)
{
    uint64_t x = offered_lately(s, a), y = offered_lately(s, b);
    return x != y ? x > y : s->now.topics[a].ledger.offered > s->now.topics[b].ledger.offered;
}

size_t salvo_top_busiest(const top_source *s, size_t *topics, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < s->now.topic_count; i++) {
        size_t at = count < max ? count++ : max;
        while (at > 0 && is_busier(s, i, topics[at - 1])) {
            if (at < max)
                topics[at] = topics[at - 1];
            at--;
        }
        if (at < max)
            topics[at] = i;
    }
    return count;
}
