/* SPDX-License-Identifier: Apache-2.0
 *
 * What the peers of script/bench peers that are written in C share: the schedule, the pace, the
 * measurement and the summary (docs/peers.md, docs/formats.md). A peer is one file that fills in a
 * play_client and calls play_main().
 */
#ifndef SALVO_BENCH_PLAY_H
#define SALVO_BENCH_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct play play;

typedef struct play_message {
    uint64_t at_ns; /* what play_settled() wants back */
    const void *value;
    size_t value_len;
    const char *key; /* NULL: none */
    size_t key_len;
} play_message;

typedef struct play_client {
    const char *name;
    const char *(*version)(void);

    /* Connect and send one message until it is acknowledged: what a first one costs is not what is
     * measured. Returns the client's state; a failure ends the process by play_die(). */
    void *(*open)(play *p);

    /* Hand one message over; false: refused, because the client's buffer is full. A client
     * without a buffer waits instead. */
    bool (*send)(void *state, const play_message *message);

    /* For a client that reads its answers on the sending thread: write what is left to write, and
     * take answers until the time (CLOCK_MONOTONIC; past: what is there). NULL: it has a thread. */
    void (*serve)(void *state, uint64_t until_ns);

    /* Wait for all outcomes, at most so long; then release. */
    void (*drain)(void *state, unsigned timeout_ms);
    void (*close)(void *state);
} play_client;

int play_main(int argc, char **argv, const play_client *client);

/* An outcome, each accepted message once; from one thread. */
void play_settled(play *p, uint64_t at_ns, bool acknowledged);

/* A setting of the command line. All that was given must be asked for in open(), else the peer
 * refuses to run: no setting is ignored. */
const char *play_text(play *p, const char *key);
uint64_t play_number(play *p, const char *key);

/* The intended times of messages without an outcome, for clients that are answered in order. */
typedef struct play_queue {
    uint64_t *at_ns;
    uint64_t taken, put;
    uint64_t room;
} play_queue;

void play_queue_init(play_queue *queue, uint64_t room);

uint64_t play_now_ns(void);
_Noreturn void play_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
