/* SPDX-License-Identifier: Apache-2.0
 *
 * The names of a run's topics, and their removal. All runs of one process use the same topics, so
 * that a search for a rate leaves no trail of them.
 */
#include "bench.h"

#include <unistd.h>

#define REMOVE_MS 10000u

void salvo_bench_topic_name(const salvo_bench_options *o, size_t index, char *name, size_t size)
{
    static unsigned long long stamp;
    if (stamp == 0)
        stamp = salvo_load_unix_ns() / 1000000;
    if (o->existing && o->topics == 1)
        snprintf(name, size, "%s", o->existing);
    else if (o->existing)
        snprintf(name, size, "%s-%zu", o->existing, index);
    else
        snprintf(name, size, "salvo-bench-%llu-%d-%zu", stamp, (int)getpid(), index);
}

void salvo_bench_remove_topics(const salvo_bench_options *o, salvo_config *config)
{
    for (size_t i = 0; !o->existing && i < o->topics; i++) {
        char name[256];
        salvo_bench_topic_name(o, i, name, sizeof name);
        if (salvo_topic_delete(config, name, REMOVE_MS) == 0)
            continue;
        salvo_cli_say("bench: topic %s could not be removed: %s", name, salvo_last_error());
        return; /* the others would not fare better, and each attempt takes its time */
    }
}
