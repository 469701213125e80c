/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a piece of a benchmark in a process of its own, so that its CPU time and its memory are
 * nobody else's. Guarantees: the child ends before or with its parent; a child that fails ends
 * the benchmark.
 */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include <stddef.h>

/* work(argument, result) in a child; *result (size bytes, at most 4096) comes back. */
void bench_in_child(void (*work)(const void *argument, void *result), const void *argument,
                    void *result, size_t size);

#endif
