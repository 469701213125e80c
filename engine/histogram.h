/* SPDX-License-Identifier: Apache-2.0
 *
 * Histograms inside the engine: as in the public header, in memory of the caller's.
 */
#ifndef SALVO_HISTOGRAM_H
#define SALVO_HISTOGRAM_H

#include <salvo/histogram.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes of one, a multiple of 64; 0: digits are neither 2 nor 3. */
size_t salvo_histogram_bytes(unsigned digits);

/* Make an empty one of memory aligned to 64; touches all of it, so that no record() has to. */
salvo_histogram *salvo_histogram_place(void *memory, unsigned digits);

/* Add what lies in memory that another process writes; only `into`'s own shape is trusted. False:
 * the memory is too small for one of this shape. */
bool salvo_histogram_add_foreign(salvo_histogram *into, const void *memory, size_t bytes);
#endif
