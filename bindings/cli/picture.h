/* SPDX-License-Identifier: Apache-2.0
 *
 * Small pictures of a producer's ledger and latency for people, as text. They fit the given
 * width, and use block characters only where the locale is UTF-8. Public headers only, so that
 * examples may draw them too.
 */
#ifndef SALVO_CLI_PICTURE_H
#define SALVO_CLI_PICTURE_H

#include <salvo/stats.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct salvo_picture {
    FILE *to;
    unsigned width; /* columns */
    bool utf8;
} salvo_picture;

/* For a stream: its terminal's width (80 where it is none) and the locale of the environment. */
salvo_picture salvo_picture_for(FILE *to);

/* 1234567 as "1,234,567". text: at least 28 bytes; returned. */
const char *salvo_picture_count(uint64_t value, char *text);

/* 1234 ns as "1.23 us". text: at least 16 bytes; returned. */
const char *salvo_picture_time(uint64_t ns, char *text);

/* A row per stage, a column per percentile; then bars of the stages that have values. */
void salvo_picture_latency(const salvo_picture *picture,
                           const salvo_latency stages[SALVO_STAGES]);

/* Both equations of the ledger with a bar of the outcomes, and whether they hold. */
void salvo_picture_ledger(const salvo_picture *picture, const salvo_ledger *ledger);

/* A row of a distribution: a label, how many of total, and a bar where `most` is the longest. */
void salvo_picture_share(const salvo_picture *picture, const char *label, uint64_t count,
                         uint64_t total, uint64_t most);

/* The equations themselves. */
bool salvo_picture_balanced(const salvo_ledger *ledger);

#endif
