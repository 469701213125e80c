/* SPDX-License-Identifier: Apache-2.0
 *
 * One contract, every driver: what a target (a column of the table) says of itself, what a case (a
 * row) is, and the world in which a case runs: one producer, everything that was sent, everything
 * that was reported.
 *
 * Guarantees: a case only sends and disturbs; the books are kept here. At the end of every case
 * the ledger must balance with numbers counted by ourselves, each accepted message must have come
 * back once, and the broker must hold, byte for byte, exactly what the outcomes say: all that was
 * acknowledged, nothing that failed for sure, nothing that nobody sent.
 * The functions fail the running test unless they say otherwise: call them from its own thread;
 * world_send() may be called by any.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <salvo/reader.h>
#include <salvo/salvo.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct world world;

/* What only this broker can be made to do. NULL: not offered. */
typedef struct target_hooks {
    /* More arguments for `script/broker X start`, each " --option 'value'". */
    void (*start_arguments)(char *text, size_t size);
    /* Before the open, of a broker that is no server: act out that connections break, or that it
     * is away for so long (from the start, or after one batch). */
    void (*plan_cuts)(world *w);
    void (*plan_absence)(world *w, bool from_start, uint32_t for_ms);
    /* How long after it was made a topic survives a SIGKILL of the server for sure. */
    uint32_t topic_settles_ms;
    /* Ask for a login with a password of ours; the server's is "right". */
    void (*login)(world *w, const char *password);
    /* Open, and send one batch of which some messages are refused for good; say which with
     * world_expect(). */
    void (*refuse_some)(world *w);
    /* Make the server's own limit lower than ours, before the open, and put it back. Returns the
     * size of a message between the two. */
    size_t (*lower_limit)(world *w);
    void (*restore_limit)(world *w);
    /* Bytes of payload that the broker itself keeps of a topic with one message. */
    size_t (*stored_bytes)(world *w, const char *topic);
} target_hooks;

typedef struct target { /* a line of the table in table.c */
    const char *name;           /* the column's */
    const char *driver;         /* message_broker, and the word after script/broker */
    const char *address_key;    /* the setting that takes its address; NULL: it is no server */
    const char *address_format; /* what the setting looks like, around host:port */
    bool exact;                 /* no duplicates, whatever happens to the connection */
    bool slow;                  /* by its nature: a tenth of the messages will do */
    const char *const *settings; /* key, value, ..., NULL */
    const target_hooks *hooks;
} target;

typedef struct conformance_case {
    const char *name;
    uint32_t capabilities; /* SALVO_CAP_*, CAP_CONSUME: without them it is not offered */
    size_t hook;           /* offset in target_hooks; NULL there: not offered. NO_HOOK: none */
    bool network;          /* only where there is a server */
    void (*run)(world *w);
} conformance_case;
#define NO_HOOK SIZE_MAX
#define CAP_CONSUME (1u << 31) /* ours: the driver's table has consuming */

enum { SENT_MAX = 1 << 17, TOPICS_MAX = 64, ANY_STATUS = 1 };

typedef struct sent { /* what world_send() did, and what became of it */
    salvo_message message; /* with a copy of all that it points to */
    uint32_t topic;        /* of the world */
    uint32_t lane;         /* messages of one lane are ordered within their partition */
    int accepted;          /* what salvo_send() said */
    int expected;          /* the status that must come; ANY_STATUS */
    int64_t sent_ms;
    uint32_t next_alike;   /* while reading: the next of the same hash, plus 1 */
    uint32_t seen;         /* how often it was read back */
    int64_t seen_offset;
    _Atomic uint32_t reports;
    salvo_report report; /* the last one */
} sent;

struct world {
    const target *target;
    uint32_t capabilities;
    salvo_config *config;      /* the producer's */
    salvo_config *good_config; /* the reader's: as the target says, nothing else */
    salvo *producer;
    bool opened, may_reorder, may_duplicate;
    bool consumed; /* settled by a group: a queue holds it no more */
    uint32_t topic_count;
    char topic_names[TOPICS_MAX][96];
    salvo_topic topics[TOPICS_MAX];
    salvo_reader *readers[TOPICS_MAX]; /* where they must be opened before the close */
    sent *sent; /* SENT_MAX */
    _Atomic uint32_t count;
    _Atomic uint32_t invented; /* reports about nothing that was sent */
    salvo_ledger ledger;       /* at the close */
    uint32_t duplicates;
};

/* --- world.c --------------------------------------------------------------------------------- */

world *world_new(const target *t);
void world_free(world *w); /* never fails */
void world_set(world *w, const char *key, const char *value);
void world_address(world *w, const char *host_port); /* of the producer */
int world_try_open(world *w, const salvo_options *options);
void world_open(world *w);
uint32_t world_topic(world *w, const salvo_topic_options *options); /* a name never used before */
/* `server_name` NULL: a fresh one. */
uint32_t world_topic_named(world *w, const char *name, const salvo_topic_options *options);
const char *world_fresh_name(char name[96]);

/* Sends with a report; false when it was not accepted. Any thread. */
bool world_send(world *w, uint32_t topic, uint32_t lane, const salvo_message *message);
/* A value "<number> ..." of len bytes, with the lane's number as key (KEYED) or without. */
bool world_send_number(world *w, uint32_t topic, uint32_t lane, bool keyed, uint32_t number,
                       size_t len);
/* The same with a key; one that is not accepted fails the test. */
void world_must_send(world *w, uint32_t topic, uint32_t lane, uint32_t number, size_t len);
void world_expect_last(world *w, int status);

void world_flush(world *w, uint64_t timeout_ms);
/* The number of messages that came back with this status. */
uint32_t world_outcomes(const world *w, int status);
salvo_ledger world_ledger(world *w); /* live; both equations hold */
int world_close(world *w, uint64_t timeout_ms);
/* What every case ends with: close, books, read back. */
void world_finish(world *w);

uint32_t world_many(const world *w, uint32_t count); /* fewer where the target is slow */
uint64_t now_ms(void);
int64_t wall_ms(void);

/* --- readback.c ------------------------------------------------------------------------------ */

void world_open_readers(world *w); /* before the close, of a broker that is in this process */
void world_read_back(world *w);

/* The same books for what consumers are given: all of it, at the end. */
void world_reading_begin(world *w);
void world_reading_take(world *w, uint32_t topic, const salvo_record *record);
void world_reading_end(world *w);

/* --- server.c -------------------------------------------------------------------------------- */

void server_start(const target *t);
void server_stop(void);
void server_ensure(void); /* a case that failed may have left it down */
void server_kill(void);
void server_restart(void);
void server_signal(int number); /* SIGSTOP, SIGCONT */
const char *server_address(void); /* host:port; "" without a server */
int server_port(void);
int server_cut(void); /* breaks this process' connections to it; how many */
int free_port(void);

/* Everything that was logged since the last call; never fails. */
const char *log_take(void);
void log_capture(void);

/* --- cases_*.c, broker_*.c ------------------------------------------------------------------- */

extern const target_hooks memory_hooks, kafka_hooks, redis_hooks, rabbitmq_hooks;

void case_every_message_once(world *w);
void case_order_of_keys(world *w);
void case_order_with_two_flushers(world *w);
void case_order_across_broken_connections(world *w);
void case_many_topics(world *w);
void case_close_in_flight(world *w);
void case_keys(world *w);
void case_headers(world *w);
void case_timestamps(world *w);
void case_values(world *w);
void case_large_values(world *w);
void case_compression(world *w);
void case_too_large(world *w);
void case_too_large_for_the_broker(world *w);
void case_part_of_a_batch(world *w);
void case_open_while_down(world *w);
void case_require_broker(world *w);
void case_wrong_password(world *w);
void case_unknown_host(world *w);
void case_gone_beyond_the_deadline(world *w);
void case_silent_beyond_the_deadline(world *w);
void case_flush_deadlines(world *w);
void case_topics_made(world *w);
void case_topics_ensured(world *w);
void case_topics_filled_and_removed(world *w);
void case_lag_of_a_group(world *w);
void case_reading_once(world *w);
void case_reading_unsettled_comes_again(world *w);
void case_reading_out_of_order(world *w);
void case_reading_two_members(world *w);
void case_reading_bounded_hand(world *w);
void case_reading_pause(world *w);
void case_reading_seek(world *w);
void case_reading_rewind(world *w);
void case_reading_lag(world *w);
void case_reading_before_the_first(world *w);
void case_reading_two_groups(world *w);
void case_reading_wake(world *w);
void case_reading_keys(world *w);
void case_reading_headers(world *w);
void case_reading_timestamps(world *w);
void case_reading_values(world *w);
void case_reading_across_breaks(world *w);
void case_reading_server_bounces(world *w);
void reading_clean(void); /* members that a failed case left open; never fails */

#endif
