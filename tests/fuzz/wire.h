/* SPDX-License-Identifier: Apache-2.0
 *
 * A driver whose server is the input: io.h and the monotonic clock are played by wire.c, so that
 * every byte that the driver receives is the fuzzer's; wire_driver.c runs it as a flusher does,
 * wire_reader.c its reader, wire_consumer.c its consumer. Guarantees, to a finding: the contract
 * of driver.h (each token once, ranges that cover the batch), spans that were put "stable" stay
 * readable, and input is looked at only where it arrived.
 *
 * Input: pieces, each a byte n and then n bytes that arrive with one step; n = 255 is the end of
 * the connection, 254 means that nothing comes while a second passes.
 */
#ifndef SALVO_FUZZ_WIRE_H
#define SALVO_FUZZ_WIRE_H

#include "driver.h"
#include "fuzz.h"

/* What the peer will say, and when; salvo_wire_left() bytes of it are left. */
void salvo_wire_start(const uint8_t *data, size_t size);
size_t salvo_wire_left(void);
bool salvo_wire_said(const char *text); /* so far, on any connection */
uint64_t salvo_wire_now_ns(void *clock);
void salvo_wire_pass(void); /* 2 ms go by: longer than the pauses between connections */

/* Run the driver against the input. pairs: key, value, ..., NULL. */
void salvo_wire_drive(const salvo_driver_ops *ops, const char *const *pairs, const uint8_t *data,
                      size_t size);

/* Read a topic out of the input. */
void salvo_wire_read(const salvo_driver_ops *ops, const char *const *pairs, const uint8_t *data,
                     size_t size);

/* Consume two topics out of it: take, settle, rewind, pause as the input's first byte says. */
void salvo_wire_consume(const salvo_driver_ops *ops, const char *const *pairs, const uint8_t *data,
                        size_t size);

#endif
