/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo consume --group`: a member of a consumer group. Guarantees: a record is acknowledged only
 * after it was written and flushed, so what a crash, a full disk or a closed pipe swallows is given
 * again; a signal ends it between two batches, with all that was printed committed; of a member
 * that stops early (--count) not one record more is taken from the group.
 */
#include "consume.h"

#include <salvo/consumer.h>
#include <stdio.h>

#define BATCH 500u
#define CLOSE_MS 10000u
#define JOIN_NS UINT64_C(10000000000) /* --timeout counts from here if nothing was assigned */

typedef struct member {
    const consume_options *o;
    salvo_consumer *consumer;
    uint64_t count;
    uint64_t began_ns, idle_since_ns; /* 0: not idle */
} member;

static bool has_share(const member *m)
{
    salvo_consumer_stats stats = {.size = sizeof stats};
    if (m->count > 0 || salvo_cli_now_ns() - m->began_ns >= JOIN_NS)
        return true;
    return salvo_consumer_get_stats(m->consumer, &stats) == 0 && stats.assigned > 0;
}

/* Nothing came: has it been so for --timeout? Joining a group takes seconds, which do not count. */
static bool idle_for_long(member *m)
{
    if (!m->o->timeout_ms || !has_share(m))
        return false;
    uint64_t now_ns = salvo_cli_now_ns();
    if (m->idle_since_ns == 0)
        m->idle_since_ns = now_ns;
    return now_ns - m->idle_since_ns >= m->o->timeout_ms * 1000000;
}

static int print(member *m, const salvo_delivered *messages, size_t count)
{
    uint64_t ids[BATCH];
    for (size_t i = 0; i < count; i++) {
        ids[i] = messages[i].id;
        int status = salvo_consume_print(m->o, &messages[i].record);
        if (status != CLI_OK)
            return status;
    }
    if (fflush(stdout) != 0)
        return salvo_consume_write_failed();
    int64_t settled = salvo_consumer_ack(m->consumer, ids, count);
    m->count += count;
    m->idle_since_ns = 0;
    return settled < 0 ? salvo_consume_read_failed((int)settled, m->count) : CLI_OK;
}

static int copy_messages(member *m)
{
    while (m->o->count == 0 || m->count < m->o->count) {
        const salvo_delivered *messages;
        size_t count, max = BATCH;
        if (salvo_cli_signals() > 0)
            return CLI_INTERRUPTED;
        if (m->o->count && m->o->count - m->count < max)
            max = (size_t)(m->o->count - m->count);
        int err = salvo_consumer_poll(m->consumer, CONSUME_SLICE_MS, &messages, max, &count);
        if (err == SALVO_ERR_TIMEOUT) {
            if (idle_for_long(m))
                return salvo_consume_timed_out(m->o, m->count);
            continue;
        }
        int status = err ? salvo_consume_read_failed(err, m->count) : print(m, messages, count);
        if (status != CLI_OK)
            return status;
    }
    return CLI_OK;
}

static int tell(int err)
{
    const char *text = salvo_last_error();
    salvo_cli_say("%s", *text ? text : salvo_strerror(err));
    return salvo_cli_signals() > 0 ? CLI_INTERRUPTED : CLI_FAILED;
}

int salvo_consume_group(const consume_options *o, const salvo_config *config)
{
    member m = {.o = o, .began_ns = salvo_cli_now_ns()};
    const salvo_consumer_options options = {
        .size = sizeof options,
        .group = o->group,
        .member = o->member,
        .topics = &o->topic,
        .topic_count = 1,
        .max_in_hand = BATCH,
        .manual_commit = 2, /* what was printed is settled, whatever the configuration says */
    };
    int err = salvo_consumer_open(config, NULL, &options, &m.consumer);
    if (err)
        return tell(err);
    int status = copy_messages(&m);
    err = salvo_consumer_close(m.consumer, CLOSE_MS);
    if (err) {
        int told = tell(err);
        status = status == CLI_OK ? told : status;
    }
    return status;
}
