/* SPDX-License-Identifier: Apache-2.0
 *
 * Exactly once, where the broker can (Kafka): messages sent and input settled in one step. What a
 * transaction sent is seen by readers with isolation `read_committed` only after its commit, and
 * then together with the offsets of its input.
 *
 * The order: open, then per batch begin, send ..., salvo_consumer_ack() of the input, commit; on a
 * failure abort, salvo_consumer_rewind(), and the same batch again. One thread at a time.
 */
#ifndef SALVO_TRANSACTION_H
#define SALVO_TRANSACTION_H

#include <salvo/consumer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_transaction salvo_transaction;

/* A producer of its own. id: the transactional id; a later open of the same id fences this one.
 * Blocks up to timeout_ms (0: 30 s). SALVO_ERR_UNSUPPORTED where the driver has none. */
SALVO_API SALVO_MUST_USE int salvo_transaction_open(const salvo_config *config, const char *id,
                                                    uint32_t timeout_ms,
                                                    salvo_transaction **out);
SALVO_API SALVO_MUST_USE int salvo_transaction_begin(salvo_transaction *transaction);

/* Queue one message (copied). Waits while the queue is full, up to timeout_ms. */
SALVO_API SALVO_MUST_USE int salvo_transaction_send(salvo_transaction *transaction,
                                                    const char *topic,
                                                    const salvo_message *message,
                                                    uint64_t timeout_ms);

/* Commit what was sent, with what `consumer` (opened as transactional; may be NULL) has
 * acknowledged. 0; SALVO_ERR_TRANSIENT or SALVO_ERR_REJECTED: abort and do the batch again, or not;
 * SALVO_ERR_FATAL: fenced or beyond repair, close it. Never half done. */
SALVO_API SALVO_MUST_USE int salvo_transaction_commit(salvo_transaction *transaction,
                                                      salvo_consumer *consumer,
                                                      uint32_t timeout_ms);
SALVO_API SALVO_MUST_USE int salvo_transaction_abort(salvo_transaction *transaction,
                                                     uint32_t timeout_ms);

/* An open transaction is aborted. */
SALVO_API void salvo_transaction_close(salvo_transaction *transaction, uint32_t timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
