/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `salvo bench` share. One run: sender threads play the load in open loop,
 * flusher threads report outcomes, readers read back; each of them writes into a slot of its own,
 * and the main thread looks at all slots once a second.
 */
#ifndef SALVO_CLI_BENCH_H
#define SALVO_CLI_BENCH_H

#include "cli.h"
#include "load_pace.h"
#include "load_source.h"

#include <jansson.h>
#include <pthread.h>
#include <salvo/reader.h>
#include <stdatomic.h>
#include <stdio.h>

#define BENCH_THREADS_MOST 256
#define BENCH_TOPICS_MOST 256
#define BENCH_SLOTS_MOST 1024 /* senders, readers, threads that report */
#define BENCH_BOUNDS_MOST 16

typedef enum salvo_bench_column {
    BENCH_CALL,
    BENCH_ACCEPTED,
    BENCH_ACKNOWLEDGED,
    BENCH_CONSUMED,
    BENCH_SHOWN, /* the columns of a result end here */
    BENCH_LATENESS = BENCH_SHOWN,
    BENCH_COLUMNS
} salvo_bench_column;

extern const char *const salvo_bench_columns[BENCH_COLUMNS];

/* "acknowledged.p99<1ms": a percentile of a column against a time. */
typedef struct salvo_bench_bound {
    const char *text;
    char column[16], percentile[16];
    bool above; /* '>' */
    uint64_t ns;
} salvo_bench_bound;

/* False after a printed error. */
bool salvo_bench_bound_parse(salvo_bench_bound *bound, const char *option, const char *text);
/* Is the bound's condition true of the result? *ns: what was measured; a column that was not
 * measured counts as infinite. */
bool salvo_bench_bound_holds(const salvo_bench_bound *bound, const json_t *result, uint64_t *ns);
const char *salvo_bench_time(uint64_t ns, char *text); /* 16 bytes; "never" for infinite ones */

typedef struct salvo_bench_options {
    salvo_cli_settings settings;
    salvo_load load;
    const char *name, *out, *hdr, *schedule, *write_schedule, *existing, *scenario,
        *trace;
    const char *rate, *arrivals, *size, *payload, *keys, *warmup, *duration;
    uint64_t threads, topics, seed, drain_s, spin_us;
    uint64_t partitions; /* of topics of its own; 0: as the broker makes them */
    bool spin_given, drain_given, consume, quiet, seed_given, payload_given;
    double scale;    /* of the trace's rate */
    double start_at; /* Unix time in s; 0: at once */
    salvo_bench_bound fail_if[BENCH_BOUNDS_MOST], until;
    size_t fail_count;
    bool until_given;
    char **owned; /* words of the scenario file */
    size_t owned_count;
} salvo_bench_options;

/* CLI_OK, CLI_USAGE, or -1: help was printed. */
int salvo_bench_parse(int argc, char **argv, salvo_bench_options *o);
void salvo_bench_options_free(salvo_bench_options *o);
extern const char salvo_bench_help[];

/* A writer's own place. Counts are of the measured part; one writer, any reader. */
typedef struct salvo_bench_slot {
    _Alignas(64) salvo_histogram *columns[BENCH_COLUMNS]; /* NULL: it writes none */
    _Atomic uint64_t offered, accepted, refused, bytes, stamped, acknowledged, failed, consumed;
    _Atomic uint64_t last_accepted_ns, last_acknowledged_ns;
} salvo_bench_slot;

static inline void salvo_bench_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

struct salvo_bench_run;

typedef struct salvo_bench_sender {
    _Alignas(64) struct salvo_bench_run *run;
    unsigned index;
    pthread_t thread;
    salvo_bench_slot *slot;
    salvo_pace pace;
    unsigned char *block;
    bool damaged; /* the schedule file is */
    uint64_t unsent_from, ended_ns; /* the first message that it did not send; when it ended */
    uint64_t never_sent; /* messages that were due */
    _Atomic uint64_t cpu_ns;
} salvo_bench_sender;

typedef struct salvo_bench_reader {
    struct salvo_bench_run *run;
    pthread_t thread;
    salvo_reader *reader;
    salvo_bench_slot *slot;
    _Atomic uint64_t cpu_ns;
} salvo_bench_reader;

/* A second of the measured part. */
typedef struct salvo_bench_slice {
    uint64_t offered, accepted, acknowledged, refused, failed, p50_ns, p99_ns;
} salvo_bench_slice;

typedef struct salvo_bench_run {
    const salvo_bench_options *options;
    salvo_config *config;
    salvo *producer;
    salvo_topic topics[BENCH_TOPICS_MOST];
    char topic_names[BENCH_TOPICS_MOST][256];
    uint64_t id; /* tells the slots of one run from another's */
    uint64_t mark; /* by chance: tells its messages from those of other processes */
    uint64_t start_ns, start_unix_ns, warmup_ns, duration_ns;
    uint64_t end_ns; /* when all was known */
    atomic_bool stop, stop_readers;
    pthread_barrier_t ready, go;
    salvo_bench_sender *senders;
    salvo_bench_reader *readers;
    _Atomic(salvo_bench_slot *) slots[BENCH_SLOTS_MOST]; /* NULL: not ready yet */
    atomic_uint slot_count;
    atomic_int partition_most; /* seen in reports */
    salvo_host host;
    bool host_runs;

    /* The main thread's. */
    salvo_histogram *before[BENCH_COLUMNS], *stages[SALVO_STAGES];
    salvo_bench_slice *slices, sum;
    size_t slice_count;
    FILE *log;
    salvo_ledger ledger; /* at the end */
    char clock[16], driver[16];
    double steal_percent;
    uint64_t cpu_begin_ns, cpu_ns, own_begin_ns, own_ns; /* process; what the generator used */
    bool overdue; /* the drain time was over before all was sent */
    bool interrupted;
} salvo_bench_run;

/* bench_send.c, bench_read.c: the threads */
/* A slot that records the columns of the mask (1 << column); ends the program without memory. */
salvo_bench_slot *salvo_bench_slot_new(salvo_bench_run *run, unsigned mask);
salvo_bench_slot *salvo_bench_slot_at(salvo_bench_run *run, unsigned index); /* or NULL */
void *salvo_bench_send(void *sender);
/* Once all have ended before they had sent all: what was due counts as refused. */
void salvo_bench_count_unsent(salvo_bench_run *run);
void salvo_bench_report(void *run, const salvo_report *reports, size_t count);
bool salvo_bench_read_start(salvo_bench_run *run);
void salvo_bench_read_end(salvo_bench_run *run); /* waits for what is on its way */

/* bench_watch.c: the measured part, second by second; the sums at the end. */
void salvo_bench_watch(salvo_bench_run *run);
void salvo_bench_settle(salvo_bench_run *run); /* flush, last slice, close */

/* bench_result.c */
json_t *salvo_bench_load_json(const salvo_bench_options *o, int partitions);
json_t *salvo_bench_result(salvo_bench_run *run);

/* One run with the configuration and the load as they are; *result is new. Topics are the run's
 * own and stay. CLI_OK, CLI_FAILED or CLI_INTERRUPTED after a printed error. */
int salvo_bench_once(const salvo_bench_options *o, salvo_config *config, json_t **result);
/* bench_topics.c: names are cut at size; topics of --existing stay. */
void salvo_bench_topic_name(const salvo_bench_options *o, size_t index, char *name, size_t size);
void salvo_bench_topic_made(size_t index); /* or perhaps made: it is to be removed */
/* Of --partitions. False after a printed error. */
bool salvo_bench_make_topics(const salvo_bench_options *o, salvo_config *config);
void salvo_bench_remove_topics(const salvo_bench_options *o, salvo_config *config);

int salvo_bench_until(salvo_bench_options *o, salvo_config *config, json_t **result);
int salvo_bench_compare(int argc, char **argv);
int salvo_bench_merge(int argc, char **argv);
/* bench_alike.c: of one load at one time, and not the same. False after a printed error. */
bool salvo_bench_alike(const json_t *a, const json_t *b, const char *a_path, const char *b_path);

/* A table and a picture of a result. */
void salvo_bench_show(FILE *to, const json_t *result);

#endif
