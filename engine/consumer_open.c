/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing a consumer. Guarantees: on failure *out is NULL, nothing is left behind and
 * salvo_last_error() says why; the options' texts and the configuration are copied; close ends a
 * poll that waits, waits for the calls that are under way, and leaves a handle that answers
 * SALVO_ERR_CLOSED.
 */
#include "choose.h"
#include "config_internal.h"
#include "consumer_internal.h"
#include "error.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define OPEN_TIMEOUT_MS 10000u
#define IN_HAND_POLLS 10u     /* max_in_hand: so many times kafka_max_poll_records */
#define IN_HAND_MOST (1u << 24)
#define NAME_BYTES_MAX 249u
#define TOPICS_MAX 4096u

/* --- options ----------------------------------------------------------------------------------*/

static int refuse(const char *format, const char *text)
{
    salvo_error_set(format, text);
    return SALVO_ERR_INVALID;
}

static bool good_name(const char *name)
{
    return name && *name && strlen(name) <= NAME_BYTES_MAX;
}

static int check_topics(const salvo_consumer_options *o)
{
    if (!o->topics || o->topic_count == 0 || o->topic_count > TOPICS_MAX)
        return refuse("salvo_consumer_open: %s", !o->topics || o->topic_count == 0
                                                     ? "no topic was given"
                                                     : "more than 4096 topics were given");
    for (size_t i = 0; i < o->topic_count; i++)
        if (!good_name(o->topics[i]))
            return refuse("salvo_consumer_open: a topic%s has not 1 to 249 bytes",
                          o->topics[i] ? "" : " is NULL: it");
    return 0;
}

static int take_options(const salvo_consumer_options *given, salvo_consumer_options *out)
{
    if (!given)
        return refuse("salvo_consumer_open: %s", "options are NULL: a group and topics are needed");
    if (given->size < sizeof given->size) {
        salvo_error_set("salvo_consumer_options.size is %zu: set it to "
                        "sizeof(salvo_consumer_options)", given->size);
        return SALVO_ERR_INVALID;
    }
    *out = (salvo_consumer_options){0};
    memcpy(out, given, given->size < sizeof *out ? given->size : sizeof *out);
    out->size = sizeof *out;
    if (!good_name(out->group))
        return refuse("salvo_consumer_open: %s", out->group ? "the group has not 1 to 249 bytes"
                                                            : "no group was given");
    if (out->member && !good_name(out->member))
        return refuse("salvo_consumer_open: %s", "the member's name has not 1 to 249 bytes");
    if (out->manual_commit > 2)
        return refuse("salvo_consumer_open: %s", "manual_commit is 0, 1 or 2");
    if (out->max_in_hand > IN_HAND_MOST)
        return refuse("salvo_consumer_open: %s", "max_in_hand is over 16777216");
    return check_topics(out);
}

/* What was left to us. */
static void fill_in(const salvo_config *config, salvo_consumer_options *o)
{
    uint64_t in_hand = IN_HAND_POLLS * (uint64_t)salvo_config_int(config, "kafka_max_poll_records");
    if (o->max_in_hand == 0)
        o->max_in_hand = in_hand < IN_HAND_MOST ? (uint32_t)in_hand : IN_HAND_MOST;
    if (o->open_timeout_ms == 0)
        o->open_timeout_ms = OPEN_TIMEOUT_MS;
    if (o->manual_commit == 0)
        o->manual_commit = !salvo_config_bool(config, "kafka_enable_auto_commit");
    else
        o->manual_commit = o->manual_commit == 1;
    o->transactional = o->transactional != 0;
}

static bool is_in(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* All that the options point to, in one allocation, which begins with the topics; each once. */
static bool copy_texts(salvo_consumer_options *o)
{
    size_t bytes = o->topic_count * sizeof(char *) + strlen(o->group) + 1;
    bytes += o->member ? strlen(o->member) + 1 : 0;
    for (size_t i = 0; i < o->topic_count; i++)
        bytes += strlen(o->topics[i]) + 1;
    const char **topics = malloc(bytes);
    if (!topics)
        return false;
    char *at = (char *)(topics + o->topic_count);
    size_t count = 0;
    for (size_t i = 0; i < o->topic_count; i++)
        if (!is_in(topics, count, o->topics[i])) {
            topics[count++] = strcpy(at, o->topics[i]);
            at += strlen(at) + 1;
        }
    o->group = strcpy(at, o->group);
    at += strlen(at) + 1;
    if (o->member)
        o->member = strcpy(at, o->member);
    o->topics = topics;
    o->topic_count = count;
    return true;
}

/* --- opening ----------------------------------------------------------------------------------*/

static size_t handle_bytes(void)
{
    return (sizeof(salvo_consumer) + 4095u) & ~(size_t)4095u;
}

static salvo_consumer *new_handle(void)
{
    void *page = mmap(NULL, handle_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    salvo_consumer *c = page;
    bool wiped = madvise(page, handle_bytes(), MADV_WIPEONFORK) == 0;
    if (wiped && pthread_mutex_init(&c->gate, NULL) == 0) {
        if (pthread_cond_init(&c->changed, NULL) == 0)
            return c;
        pthread_mutex_destroy(&c->gate);
    }
    munmap(page, handle_bytes());
    return NULL;
}

static void revoked(void *consumer, uint32_t claim)
{
    salvo_consumer *c = consumer;
    salvo_hand_revoke(&c->hand, claim);
    salvo_event_signal(&c->room);
}

static void count(void *consumer, int what, int64_t change)
{
    salvo_consumer *c = consumer;
    if (what >= 0 && what < SALVO_CONSUMER_COUNTS) /* relaxed: a figure of its own */
        atomic_fetch_add_explicit(&c->counts[what], change, memory_order_relaxed);
}

static void free_contents(salvo_consumer *c)
{
    if (c->hand.slots)
        salvo_hand_free(&c->hand);
    free(c->given);
    free(c->delivered);
    free((void *)(uintptr_t)c->options.topics);
    salvo_config_free(c->config);
    c->given = NULL;
    c->delivered = NULL;
    c->config = NULL;
}

/* Before the driver: what it is told. */
static int prepare(salvo_consumer *c, const salvo_choice *choice,
                   const salvo_consumer_options *options)
{
    c->driver = choice->driver;
    c->ops = choice->driver->consumer;
    c->options = *options;
    c->options.topics = NULL;
    int err = salvo_config_clone(choice->config, &c->config);
    if (!err) {
        salvo_consumer_options all = *options;
        fill_in(c->config, &all);
        err = copy_texts(&all) ? 0 : SALVO_ERR_NOMEM;
        if (!err)
            c->options = all;
    }
    if (!err)
        err = salvo_hand_init(&c->hand, c->options.max_in_hand);
    if (err)
        return err;
    c->most_at_once = (uint32_t)salvo_config_int(c->config, "kafka_max_poll_records");
    c->env = (salvo_consumer_env){.config = c->config,
                                  .shared = choice->shared,
                                  .options = &c->options,
                                  .log = salvo_log,
                                  .revoked = revoked,
                                  .count = count,
                                  .consumer = c};
    return 0;
}

static int open_with(const salvo_choice *choice, const salvo_consumer_options *options,
                     salvo_consumer **out)
{
    char text[SALVO_ERROR_BYTES] = "";
    salvo_consumer *c = new_handle();
    int err = c ? prepare(c, choice, options) : SALVO_ERR_NOMEM;
    if (err)
        snprintf(text, sizeof text, "no memory for a consumer");
    else
        err = c->ops->open(&c->env, &c->handle, text, sizeof text);
    if (err) {
        if (c) { /* nobody has seen it */
            free_contents(c);
            munmap(c, handle_bytes());
        }
        return salvo_consumer_failed(err, text);
    }
    /* Release: who sees it open (acquire in salvo_consumer_check) sees all of it. */
    atomic_store_explicit(&c->live, SALVO_CONSUMER_OPEN, memory_order_release);
    *out = c;
    return 0;
}

static int check_driver(const salvo_driver_ops *driver, const salvo_consumer_options *options)
{
    if (!driver->consumer) {
        salvo_error_set("the %s driver keeps nothing that could be consumed", driver->name);
        return SALVO_ERR_UNSUPPORTED;
    }
    if (options->transactional && !driver->transaction) {
        salvo_error_set("%s has no transactions: a transactional consumer needs kafka",
                        driver->name);
        return SALVO_ERR_UNSUPPORTED;
    }
    return 0;
}

int salvo_consumer_open(const salvo_config *config, salvo *producer,
                        const salvo_consumer_options *options, salvo_consumer **out)
{
    salvo_consumer_options all;
    salvo_choice choice;
    salvo_error_clear();
    if (!out)
        return refuse("salvo_consumer_open: %s", "out is NULL");
    *out = NULL;
    int err = take_options(options, &all);
    if (!err)
        err = salvo_choose(config, producer, &choice);
    if (err)
        return err;
    err = check_driver(choice.driver, &all);
    if (!err)
        err = open_with(&choice, &all, out);
    salvo_choice_end(&choice);
    return err;
}

/* --- closing ----------------------------------------------------------------------------------*/

/* From now on calls are refused; those under way end. */
static bool begin_close(salvo_consumer *c)
{
    pthread_mutex_lock(&c->gate);
    bool open = atomic_load_explicit(&c->live, memory_order_relaxed) == SALVO_CONSUMER_OPEN;
    if (open) /* sequentially consistent: see salvo_consumer_wake() */
        atomic_store_explicit(&c->live, SALVO_CONSUMER_CLOSED, memory_order_seq_cst);
    pthread_mutex_unlock(&c->gate);
    if (!open)
        return false;
    salvo_event_signal(&c->room);
    c->ops->wake(c->handle);
    pthread_mutex_lock(&c->gate);
    while (c->callers > 0)
        pthread_cond_wait(&c->changed, &c->gate);
    pthread_mutex_unlock(&c->gate);
    /* A signal handler has no lock to tell us by; a wake takes microseconds. */
    while (atomic_load_explicit(&c->wakers, memory_order_seq_cst) != 0)
        sched_yield();
    return true;
}

int salvo_consumer_close(salvo_consumer *consumer, uint64_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    salvo_error_clear();
    int err = salvo_consumer_check(consumer, "salvo_consumer_close");
    if (err)
        return err;
    if (!begin_close(consumer))
        return salvo_consumer_check(consumer, "salvo_consumer_close");
    salvo_consumer_pass_acks(consumer);
    err = consumer->ops->close(consumer->handle, timeout_ms, text, sizeof text);
    free_contents(consumer);
    return err ? salvo_consumer_failed(err, text) : 0;
}
