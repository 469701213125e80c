/* SPDX-License-Identifier: Apache-2.0
 *
 * What the cases about consuming share: members that are closed whatever happens, and books of what
 * they were given. Numbers are those of world_send_number().
 */
#ifndef CONFORMANCE_READING_H
#define CONFORMANCE_READING_H

#include "conformance.h"
#include "driver_consumer.h"

enum { TAKEN_MAX = 1 << 14 };

typedef struct taken { /* one message, copied */
    uint64_t id;
    uint32_t lane, number;
    int32_t partition;
    uint32_t deliveries;
    int64_t offset;
} taken;

typedef struct book {
    taken all[TAKEN_MAX];
    size_t count;
} book;

/* Join with the target's own settings. changes: what else the options say, or NULL. */
salvo_consumer *reading_join(world *w, const char *group, const char *topic,
                             const salvo_consumer_options *changes);
void reading_leave(salvo_consumer *c);

/* Adds what comes, until `wanted` came or quiet_ms passed without a message: how many came. */
size_t reading_take(salvo_consumer *c, book *b, size_t wanted, uint64_t quiet_ms);
/* Exactly so many, and nothing more. */
void reading_expect(salvo_consumer *c, book *b, size_t wanted);
void reading_expect_nothing(salvo_consumer *c);

/* Acknowledge entries [first, first + count): all must have been in hand. */
void reading_ack(salvo_consumer *c, const book *b, size_t first, size_t count);
/* How often a number was taken. */
uint32_t reading_times(const book *b, uint32_t number);
/* Each of numbers [first, first + count) as often as at least to at most. */
void reading_check_times(const book *b, uint32_t first, uint32_t count, uint32_t at_least,
                         uint32_t at_most);

salvo_consumer_stats reading_stats(salvo_consumer *c);
int64_t reading_lag(salvo_consumer *c); /* of all its partitions */
bool reading_has_offsets(const world *w);

#endif
