/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading back, for the column `consumed`: a thread a topic. A message is this run's when it has
 * the run's mark, and counts when the intended time in its first 8 bytes lies in the measured part.
 * One of less than 16 bytes has no room for the mark: the time alone decides.
 */
#include "bench.h"
#include "load_payload.h"

#include <stdlib.h>

#define SLICE_MS 50u
#define PATIENCE_NS 5000000000u /* without anything new, before the rest counts as lost */

static void note(salvo_bench_reader *r, const salvo_record *record)
{
    salvo_bench_run *run = r->run;
    const unsigned char *value = record->value;
    if (record->value_len < SALVO_PAYLOAD_TIME_BYTES || !value)
        return;
    if (record->value_len >= SALVO_PAYLOAD_MARKED_BYTES &&
        salvo_payload_stamp_of(value + SALVO_PAYLOAD_TIME_BYTES) != run->mark)
        return;
    uint64_t intended = salvo_payload_stamp_of(value) - run->start_unix_ns;
    if (intended < run->warmup_ns || intended >= run->warmup_ns + run->duration_ns)
        return;
    uint64_t now = salvo_load_now_ns() - run->start_ns;
    salvo_bench_count(&r->slot->consumed, 1);
    salvo_histogram_record(r->slot->columns[BENCH_CONSUMED], now > intended ? now - intended : 0,
                           1);
}

static void *read_back(void *context)
{
    salvo_bench_reader *r = context;
    salvo_record record;
    while (!atomic_load_explicit(&r->run->stop_readers, memory_order_relaxed)) {
        int err = salvo_reader_next(r->reader, SLICE_MS, &record);
        if (err == 0)
            note(r, &record);
        else if (err != SALVO_ERR_TIMEOUT && err != SALVO_ERR_INTERRUPTED) {
            salvo_cli_say("bench: reading back: %s", salvo_last_error());
            break;
        }
    }
    atomic_store_explicit(&r->cpu_ns, salvo_load_thread_cpu_ns(), memory_order_relaxed);
    return NULL;
}

bool salvo_bench_read_start(salvo_bench_run *run)
{
    if (!run->options->consume)
        return true;
    size_t count = run->options->topics;
    run->readers = salvo_cli_alloc(count * sizeof *run->readers);
    for (size_t i = 0; i < count; i++) {
        salvo_bench_reader *r = &run->readers[i];
        salvo_reader_options options = {.size = sizeof options, .from_end = 1};
        r->run = run;
        r->slot = salvo_bench_slot_new(run, 1u << BENCH_CONSUMED);
        int err = salvo_reader_open(run->config, run->producer, run->topic_names[i], &options,
                                    &r->reader);
        if (err != 0)
            salvo_cli_say("bench: --consume: %s", salvo_last_error());
        if (err == 0 && pthread_create(&r->thread, NULL, read_back, r) != 0) {
            salvo_reader_close(r->reader);
            r->reader = NULL;
        }
        if (!r->reader)
            return false;
    }
    return true;
}

static uint64_t consumed(salvo_bench_run *run)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < run->options->topics; i++)
        sum += atomic_load_explicit(&run->readers[i].slot->consumed, memory_order_relaxed);
    return sum;
}

void salvo_bench_read_end(salvo_bench_run *run)
{
    if (!run->readers)
        return;
    uint64_t last = consumed(run), wanted = 0, since = salvo_load_now_ns();
    for (unsigned i = 0; i < BENCH_SLOTS_MOST; i++) {
        salvo_bench_slot *slot = salvo_bench_slot_at(run, i);
        wanted += slot ? atomic_load_explicit(&slot->acknowledged, memory_order_relaxed) : 0;
    }
    while (last < wanted && salvo_load_now_ns() - since < PATIENCE_NS && !run->interrupted) {
        run->interrupted = salvo_cli_signals() > 0;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        uint64_t now = consumed(run);
        since = now > last ? salvo_load_now_ns() : since;
        last = now;
    }
    atomic_store_explicit(&run->stop_readers, true, memory_order_relaxed);
    for (size_t i = 0; i < run->options->topics; i++) {
        if (!run->readers[i].reader)
            continue;
        pthread_join(run->readers[i].thread, NULL);
        salvo_reader_close(run->readers[i].reader);
        run->readers[i].reader = NULL;
    }
}
