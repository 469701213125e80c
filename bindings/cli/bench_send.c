/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads that send and those that learn of outcomes. Open loop: a message is due at its
 * intended time whatever happened to those before it, and its latency counts from then; so a
 * system that stalls cannot slow the questions down and look fast (coordinated omission).
 */
#include "bench.h"
#include "load_payload.h"

#include <stdlib.h>
#include <string.h>

#define RELAXED memory_order_relaxed

salvo_bench_slot *salvo_bench_slot_new(salvo_bench_run *run, unsigned mask)
{
    unsigned index = atomic_fetch_add_explicit(&run->slot_count, 1, RELAXED);
    salvo_bench_slot *slot = index < BENCH_SLOTS_MOST ? aligned_alloc(64, sizeof *slot) : NULL;
    bool good = slot != NULL;
    if (good)
        memset(slot, 0, sizeof *slot);
    for (int c = 0; c < BENCH_COLUMNS && good; c++) {
        if (!(mask >> c & 1))
            continue;
        slot->columns[c] = salvo_histogram_new(3);
        good = slot->columns[c] != NULL;
    }
    if (!good) {
        salvo_cli_say("bench: no memory");
        exit(CLI_FAILED);
    }
    /* Release: pairs with the acquire in salvo_bench_slot_at(). */
    atomic_store_explicit(&run->slots[index], slot, memory_order_release);
    return slot;
}

salvo_bench_slot *salvo_bench_slot_at(salvo_bench_run *run, unsigned index)
{
    return atomic_load_explicit(&run->slots[index], memory_order_acquire);
}

static size_t key_text(uint32_t key, char *text)
{
    char digits[12];
    size_t count = 0;
    for (; key > 0; key /= 10)
        digits[count++] = (char)('0' + key % 10);
    for (size_t i = 0; i < count; i++)
        text[i] = digits[count - 1 - i];
    return count;
}

static void note(salvo_bench_slot *slot, const salvo_load_message *m, int err, uint64_t call_ns,
                 uint64_t latency_ns, uint64_t now_ns)
{
    salvo_bench_count(&slot->offered, 1);
    salvo_histogram_record(slot->columns[BENCH_CALL], call_ns, 1);
    if (m->value_bytes >= SALVO_PAYLOAD_TIME_BYTES)
        salvo_bench_count(&slot->stamped, 1);
    if (err != 0) {
        salvo_bench_count(&slot->refused, 1);
        return;
    }
    salvo_bench_count(&slot->accepted, 1);
    salvo_bench_count(&slot->bytes, m->value_bytes);
    salvo_histogram_record(slot->columns[BENCH_ACCEPTED], latency_ns, 1);
    atomic_store_explicit(&slot->last_accepted_ns, now_ns, RELAXED);
}

static uint64_t topic_of(const salvo_bench_run *run, const salvo_load_message *m, uint64_t index)
{
    return (m->topic == SALVO_LOAD_IN_TURN ? index : m->topic) % run->options->topics;
}

/* The mark is for who reads: without --consume the payload stays as it is. */
static void stamp(const salvo_bench_run *run, unsigned char *value, const salvo_load_message *m)
{
    salvo_payload_stamp(value, run->start_unix_ns + m->at_ns);
    if (run->options->consume && m->value_bytes >= SALVO_PAYLOAD_MARKED_BYTES)
        salvo_payload_stamp(value + SALVO_PAYLOAD_TIME_BYTES, run->mark);
}

/* All is made ready before the due time, so that only the call follows it. */
static bool send_one(salvo_bench_sender *s, const salvo_load_message *m, uint64_t index)
{
    salvo_bench_run *run = s->run;
    unsigned char saved[SALVO_PAYLOAD_MARKED_BYTES];
    unsigned char *value = salvo_payload_at(s->block, index, m->value_bytes);
    size_t kept = m->value_bytes < sizeof saved ? m->value_bytes : sizeof saved;
    bool stamped = m->value_bytes >= SALVO_PAYLOAD_TIME_BYTES;
    bool measured = m->at_ns >= run->warmup_ns;
    char key[12];
    salvo_message message = {.value = value, .value_len = m->value_bytes, .opaque = m->at_ns,
                             .key = m->key ? key : NULL, .key_len = key_text(m->key, key),
                             .report = 1};
    if (stamped) { /* the block must stay as it is for those whose values overlap */
        memcpy(saved, value, kept);
        stamp(run, value, m);
    }
    uint64_t begin = salvo_pace_wait(&s->pace, m->at_ns, measured);
    if (begin == 0)
        return false;
    int err = salvo_send(run->producer, run->topics[topic_of(run, m, index)], &message);
    uint64_t end = salvo_pace_called(&s->pace, begin);
    if (stamped)
        memcpy(value, saved, kept);
    if (measured)
        note(s->slot, m, err, end - begin, end - run->start_ns - m->at_ns, end);
    return true;
}

/* The first message that was not sent stands in `unsent_from`. */
static void play(salvo_bench_sender *s)
{
    salvo_load_source source = salvo_load_begin(&s->run->options->load);
    salvo_load_message m;
    uint64_t index;
    unsigned threads = (unsigned)s->run->options->threads;
    s->unsent_from = UINT64_MAX;
    while (salvo_load_next(&source, &m, &index))
        if (index % threads == s->index && !send_one(s, &m, index)) {
            s->unsent_from = index;
            break;
        }
    s->damaged = source.damaged;
    s->ended_ns = salvo_load_now_ns();
}

/* Was due, and never sent: infinitely late. Whose fault that is, its lateness tells. */
static uint64_t never_sent(salvo_bench_sender *s, const salvo_load_message *m)
{
    uint64_t due_ns = s->run->start_ns + m->at_ns;
    uint64_t ideal_ns = s->pace.free_ns > due_ns ? s->pace.free_ns : due_ns;
    uint64_t late_ns = s->ended_ns > ideal_ns ? s->ended_ns - ideal_ns : 0;
    salvo_histogram_record(s->pace.lateness, late_ns, 1);
    salvo_bench_count(&s->slot->offered, 1);
    salvo_bench_count(&s->slot->refused, 1);
    if (m->value_bytes >= SALVO_PAYLOAD_TIME_BYTES)
        salvo_bench_count(&s->slot->stamped, 1);
    s->never_sent++;
    return late_ns;
}

void salvo_bench_count_unsent(salvo_bench_run *run)
{
    enum { LOOK_EVERY = 1 << 16, GENERATOR_NS = 100000000 };
    salvo_load_source source = salvo_load_begin(&run->options->load);
    salvo_load_message m;
    uint64_t index, count = 0, late_ns = 0, one_ns;
    while (salvo_load_next(&source, &m, &index)) {
        salvo_bench_sender *s = &run->senders[index % run->options->threads];
        run->interrupted = index % LOOK_EVERY == 0 && salvo_cli_signals() > 0;
        if (run->interrupted)
            return;
        if (index < s->unsent_from || m.at_ns < run->warmup_ns)
            continue;
        one_ns = never_sent(s, &m);
        late_ns = one_ns > late_ns ? one_ns : late_ns;
        count++;
    }
    if (count != 0)
        salvo_cli_say("bench: %llu messages were due and not sent %llu s after the load's end, "
                      "because %s; they count as refused", (unsigned long long)count,
                      (unsigned long long)run->options->drain_s,
                      late_ns > GENERATOR_NS ? "the generator cannot make so many"
                                             : "sends before them were blocked");
}

void *salvo_bench_send(void *context)
{
    salvo_bench_sender *s = context;
    int err = salvo_thread_attach(s->run->producer);
    if (err != 0)
        salvo_cli_say("bench: a thread has no place: %s; see max_threads", salvo_strerror(err));
    salvo_pace_attach();
    pthread_barrier_wait(&s->run->ready);
    pthread_barrier_wait(&s->run->go);
    s->pace.start_ns = s->run->start_ns;
    play(s);
    atomic_store_explicit(&s->cpu_ns, salvo_load_thread_cpu_ns(), RELAXED);
    return NULL;
}

/* --- outcomes -------------------------------------------------------------------------------- */

/* Reports come on flusher threads, at the close on the closing one: a slot each. */
static salvo_bench_slot *slot_of_thread(salvo_bench_run *run)
{
    static _Thread_local salvo_bench_slot *slot;
    static _Thread_local uint64_t owner;
    if (owner != run->id) {
        slot = salvo_bench_slot_new(run, 1u << BENCH_ACKNOWLEDGED);
        owner = run->id;
    }
    return slot;
}

static void see_partition(salvo_bench_run *run, int partition)
{
    int most = atomic_load_explicit(&run->partition_most, RELAXED);
    while (partition > most &&
           !atomic_compare_exchange_weak_explicit(&run->partition_most, &most, partition, RELAXED,
                                                  RELAXED))
        ;
}

void salvo_bench_report(void *context, const salvo_report *reports, size_t count)
{
    salvo_bench_run *run = context;
    salvo_bench_slot *slot = slot_of_thread(run);
    uint64_t now = salvo_load_now_ns();
    for (size_t i = 0; i < count; i++) {
        see_partition(run, reports[i].partition);
        if (reports[i].opaque < run->warmup_ns)
            continue;
        if (reports[i].status != 0) {
            salvo_bench_count(&slot->failed, 1);
            continue;
        }
        salvo_histogram_record(slot->columns[BENCH_ACKNOWLEDGED],
                               now - run->start_ns - reports[i].opaque, 1);
        salvo_bench_count(&slot->acknowledged, 1);
        atomic_store_explicit(&slot->last_acknowledged_ns, now, RELAXED);
    }
}
