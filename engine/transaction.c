/* SPDX-License-Identifier: Apache-2.0
 *
 * Transactions: the public calls, checked and handed to the driver that the configuration names.
 * Guarantees: the order begin, send, commit or abort is kept (a wrong call is an error and changes
 * nothing); after a commit that failed only an abort or a close is taken, so that nothing is half
 * done; the consumer's acknowledgements of before the commit are in it, and no poll runs beside it;
 * a child of fork() gets SALVO_ERR_FORKED and leaves the parent's transaction alone.
 */
#include "choose.h"
#include "config_internal.h"
#include "consumer_internal.h"
#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 30000u
#define ID_BYTES_MAX 249
#define TOPIC_BYTES_MAX 249
enum { HEADERS_MAX = 64, HEADER_NAME_MAX = 255 };

enum { IDLE, BEGUN, FAILED, FATAL };

struct salvo_transaction {
    const salvo_driver_transaction_ops *ops;
    const salvo_driver_ops *driver;
    void *handle;
    pid_t owner;
    int state;
    uint64_t max_message_bytes;
};

/* text: "" for the code's own. */
static int failed(int err, const char *text)
{
    salvo_error_set("%s", *text ? text : salvo_strerror(err));
    return err;
}

static uint32_t or_default(uint32_t timeout_ms)
{
    return timeout_ms ? timeout_ms : TIMEOUT_MS;
}

static int check(const salvo_transaction *t, const char *call)
{
    salvo_error_clear();
    if (!t) {
        salvo_error_set("%s: transaction is NULL", call);
        return SALVO_ERR_INVALID;
    }
    if (t->owner == getpid())
        return 0;
    salvo_error_set("%s: the transaction belongs to the parent process: open one of your own",
                    call);
    return SALVO_ERR_FORKED;
}

/* The call is right in this state only. */
static int check_state(const salvo_transaction *t, const char *call, int wanted)
{
    int err = check(t, call);
    if (err || t->state == wanted)
        return err;
    if (t->state == FATAL) {
        salvo_error_set("%s: this transaction is beyond repair: close it and open it again", call);
        return SALVO_ERR_FATAL;
    }
    salvo_error_set("%s: %s", call,
                    t->state == FAILED ? "its commit has failed: abort it first"
                    : wanted == IDLE   ? "it has begun already: commit or abort it first"
                                       : "it has not begun: salvo_transaction_begin() first");
    return SALVO_ERR_INVALID;
}

/* --- open and close ---------------------------------------------------------------------------*/

static int open_with(const salvo_choice *choice, const char *id, uint32_t timeout_ms,
                     salvo_transaction **out)
{
    char text[SALVO_ERROR_BYTES] = "";
    if (!choice->driver->transaction) {
        salvo_error_set("%s has no transactions; exactly once needs message_broker = kafka",
                        choice->driver->name);
        return SALVO_ERR_UNSUPPORTED;
    }
    salvo_transaction *t = calloc(1, sizeof *t);
    if (!t)
        return failed(SALVO_ERR_NOMEM, "no memory for a transaction");
    t->driver = choice->driver;
    t->ops = choice->driver->transaction;
    t->owner = getpid();
    t->max_message_bytes = (uint64_t)salvo_config_int(choice->config, "max_message_bytes");
    int err = t->ops->open(choice->config, id, or_default(timeout_ms), &t->handle, text,
                           sizeof text);
    if (err) {
        free(t);
        return failed(err, text);
    }
    *out = t;
    return 0;
}

int salvo_transaction_open(const salvo_config *config, const char *id, uint32_t timeout_ms,
                           salvo_transaction **out)
{
    salvo_error_clear();
    if (out)
        *out = NULL;
    if (!out || !id || !*id || strlen(id) > ID_BYTES_MAX) {
        salvo_error_set("salvo_transaction_open: %s", !out ? "out is NULL"
                        : id ? "the id must have 1 to 249 bytes" : "id is NULL");
        return SALVO_ERR_INVALID;
    }
    salvo_choice choice;
    int err = salvo_choose(config, NULL, &choice);
    if (err)
        return err;
    err = open_with(&choice, id, timeout_ms, out);
    salvo_choice_end(&choice);
    return err;
}

void salvo_transaction_close(salvo_transaction *transaction, uint32_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    if (!transaction || check(transaction, "salvo_transaction_close"))
        return; /* the parent's handle: its threads are not here */
    if (transaction->state == BEGUN || transaction->state == FAILED)
        if (transaction->ops->abort(transaction->handle, or_default(timeout_ms), text,
                                    sizeof text))
            salvo_log(SALVO_LOG_WARNING, "%s; the broker ends it", text);
    transaction->ops->close(transaction->handle, or_default(timeout_ms));
    free(transaction);
}

/* --- begin and send ---------------------------------------------------------------------------*/

int salvo_transaction_begin(salvo_transaction *transaction)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = check_state(transaction, "salvo_transaction_begin", IDLE);
    if (err)
        return err;
    err = transaction->ops->begin(transaction->handle, text, sizeof text);
    transaction->state = !err ? BEGUN : err == SALVO_ERR_FATAL ? FATAL : IDLE;
    return err ? failed(err, text) : 0;
}

static bool headers_sound(const salvo_message *m, uint64_t *bytes)
{
    if (m->header_count > HEADERS_MAX || (m->header_count != 0 && !m->headers))
        return false;
    for (size_t i = 0; i < m->header_count; i++) {
        const salvo_header *h = &m->headers[i];
        if (!h->name || h->name_len == 0 || h->name_len > HEADER_NAME_MAX ||
            (!h->value && h->value_len != 0))
            return false;
        *bytes += h->value_len < SIZE_MAX / 128 ? h->name_len + h->value_len : SIZE_MAX / 128;
    }
    return true;
}

/* As salvo_send() does. */
static int check_message(const salvo_transaction *t, const char *topic, const salvo_message *m)
{
    uint64_t bytes = 0;
    const char *wrong = !topic || !*topic ? "no topic was given"
                        : strlen(topic) > TOPIC_BYTES_MAX ? "the topic has over 249 bytes"
                        : !m ? "message is NULL"
                        : (!m->key && m->key_len) || (!m->value && m->value_len)
                            ? "a key or value of NULL has a length"
                        : m->partition_plus1 < 0 || m->timestamp_ms < 0
                            ? "a negative partition or time"
                        : !headers_sound(m, &bytes)
                            ? "headers: at most 64, names of 1 to 255 bytes" : NULL;
    if (wrong) {
        salvo_error_set("salvo_transaction_send: %s", wrong);
        return SALVO_ERR_INVALID;
    }
    if (m->key_len <= t->max_message_bytes && m->value_len <= t->max_message_bytes &&
        bytes + m->key_len + m->value_len <= t->max_message_bytes)
        return 0;
    salvo_error_set("salvo_transaction_send: a message to topic '%s' has more than "
                    "max_message_bytes = %llu bytes", topic,
                    (unsigned long long)t->max_message_bytes);
    return SALVO_ERR_TOO_LARGE;
}

int salvo_transaction_send(salvo_transaction *transaction, const char *topic,
                           const salvo_message *message, uint64_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = check_state(transaction, "salvo_transaction_send", BEGUN);
    if (!err)
        err = check_message(transaction, topic, message);
    if (err)
        return err;
    err = transaction->ops->send(transaction->handle, topic, message, timeout_ms, text,
                                 sizeof text);
    if (err == SALVO_ERR_FATAL)
        transaction->state = FATAL;
    return err ? failed(err, text) : 0;
}

/* --- commit and abort -------------------------------------------------------------------------*/

/* The consumer is one that this transaction can settle. */
static int check_consumer(const salvo_transaction *t, const salvo_consumer *consumer)
{
    int err = salvo_consumer_check(consumer, "salvo_transaction_commit");
    if (err)
        return err;
    if (consumer->driver != t->driver) {
        salvo_error_set("salvo_transaction_commit: the consumer reads %s, the transaction writes "
                        "%s: both must be one broker", consumer->driver->name, t->driver->name);
        return SALVO_ERR_INVALID;
    }
    if (consumer->options.transactional)
        return 0;
    salvo_error_set("salvo_transaction_commit: open the consumer with options.transactional = 1: "
                    "else it commits its offsets itself");
    return SALVO_ERR_INVALID;
}

static int commit_with(salvo_transaction *t, salvo_consumer *consumer, uint32_t timeout_ms,
                       char *text, size_t size)
{
    const salvo_driver_ops *driver;
    void *handle = NULL;
    if (consumer) {
        int err = salvo_consumer_enter(consumer, &driver, &handle);
        if (err) {
            snprintf(text, size, "%s", salvo_last_error());
            return err;
        }
    }
    int err = t->ops->commit(t->handle, handle, timeout_ms, text, size);
    if (consumer)
        salvo_consumer_leave(consumer);
    return err;
}

int salvo_transaction_commit(salvo_transaction *transaction, salvo_consumer *consumer,
                             uint32_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = check_state(transaction, "salvo_transaction_commit", BEGUN);
    if (!err && consumer)
        err = check_consumer(transaction, consumer);
    if (err)
        return err;
    err = commit_with(transaction, consumer, or_default(timeout_ms), text, sizeof text);
    transaction->state = !err ? IDLE : err == SALVO_ERR_FATAL ? FATAL : FAILED;
    return err ? failed(err, text) : 0;
}

int salvo_transaction_abort(salvo_transaction *transaction, uint32_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    int err = check(transaction, "salvo_transaction_abort");
    if (err || transaction->state == IDLE)
        return err; /* nothing to abort */
    if (transaction->state == FATAL)
        return check_state(transaction, "salvo_transaction_abort", BEGUN);
    err = transaction->ops->abort(transaction->handle, or_default(timeout_ms), text, sizeof text);
    transaction->state = !err ? IDLE : err == SALVO_ERR_FATAL ? FATAL : FAILED;
    return err ? failed(err, text) : 0;
}
