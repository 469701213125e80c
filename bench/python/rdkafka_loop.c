/* SPDX-License-Identifier: Apache-2.0
 *
 * rdkafka_loop ADDRESS TOPIC COUNT: bench.py's contestant in C, rd_kafka_produce in a loop, with
 * the settings of the others. Guarantees: the same 82-byte events, made before the clock starts; a
 * burst as large to warm up; all was acknowledged, nothing refused, or it fails. Prints one line
 * of JSON as contestant.py does.
 */
#include "harness.h"
#include "peer_rdkafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENT_BYTES = 82, FLUSH_MS = 120000 };

static void make_events(char *events, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        char text[128];
        int size = snprintf(text, sizeof text,
                            "{\"id\":%" PRIu64 ",\"user\":\"user-%04" PRIu64
                            "\",\"action\":\"click\",\"page\":\"/p/%03" PRIu64
                            "\",\"ts\":%" PRIu64 "}",
                            1000000 + i, i % 1000, i % 100, 1700000000 + i);
        if (size != EVENT_BYTES)
            bench_die("event %" PRIu64 " has %d bytes, not %d", i, size, EVENT_BYTES);
        memcpy(events + i * EVENT_BYTES, text, EVENT_BYTES);
    }
}

static void burst(peer *p, char *events, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (peer_send(p, NULL, 0, events + i * EVENT_BYTES, EVENT_BYTES))
            bench_die("message %" PRIu64 " was refused", i);
}

static void flush(peer *p)
{
    if (peer_flush(p, FLUSH_MS))
        bench_die("not everything was acknowledged in %d s", FLUSH_MS / 1000);
}

int main(int argc, char **argv)
{
    uint64_t count = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    if (count == 0 || count > 10000000) {
        fprintf(stderr, "usage: rdkafka_loop ADDRESS TOPIC COUNT (1 to 10000000)\n");
        return 2;
    }
    char *events = malloc(count * EVENT_BYTES);
    if (events == NULL)
        bench_die("no memory for %" PRIu64 " events", count);
    make_events(events, count);
    bench_time_init();
    peer p;
    peer_options options = {.linger_ms = 5};
    peer_open(&p, argv[1], argv[2], &options);
    burst(&p, events, count);
    flush(&p);
    uint64_t cpu_ns = bench_process_cpu_ns(), began_ns = bench_now_ns();
    burst(&p, events, count);
    uint64_t accepted_ns = bench_now_ns();
    flush(&p);
    uint64_t acknowledged_ns = bench_now_ns();
    cpu_ns = bench_process_cpu_ns() - cpu_ns;
    peer_close(&p);
    uint64_t acknowledged = atomic_load(&p.acknowledged), failed = atomic_load(&p.failed);
    if (acknowledged != 2 * count || failed != 0)
        bench_die("%" PRIu64 " acknowledged, %" PRIu64 " failed of %" PRIu64, acknowledged, failed,
                  2 * count);
    printf("{\"accepted_per_s\": %.0f, \"acknowledged_per_s\": %.0f, \"cpu_us\": %.4f, "
           "\"refused\": 0}\n",
           (double)count * 1e9 / (double)(accepted_ns - began_ns),
           (double)count * 1e9 / (double)(acknowledged_ns - began_ns),
           (double)cpu_ns / 1e3 / (double)count);
    free(events);
    return 0;
}
