/* SPDX-License-Identifier: Apache-2.0
 *
 * The real Kafka that the benchmarks speak to. Guarantees: with SALVO_BENCH_KAFKA set, that one,
 * never started nor stopped here; else a throw-away one that ends with this process, however the
 * process ends (script/broker watches it). Topics are made for one run, with bounded retention.
 */
#ifndef BENCH_BROKER_H
#define BENCH_BROKER_H

/* Its address; starts it at the first call. Ends the process with one line if it cannot. */
const char *bench_broker(void);

/* A topic of the bench's own; the name is unique to this process and call. */
void bench_topic_create(const char *address, int partitions, char *name, unsigned long size);
void bench_topic_delete(const char *address, const char *name);

#endif
