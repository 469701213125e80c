/* SPDX-License-Identifier: Apache-2.0
 *
 * The settlement window of one claim (a partition as it was assigned once): what was given and in
 * which order it may be committed, however the acknowledgements come.
 *
 * Offsets are given ascending, gaps allowed (compaction, transaction markers). They are settled in
 * any order, each once.
 *
 *   offsets[head .. head + count)  ascending; a settled one is stored as its complement (< 0)
 *   the first of them is never settled: settling it removes it and all settled ones behind it
 *   position() = the first of them, or, when there is none, `next`
 *   next       = one past the last that was given or passed over
 *   unsettled <= count <= most
 *
 * So everything below position() is settled or was never given: it may be committed, and nothing
 * above. One thread. The ring grows by doubling up to `most`; settling never allocates.
 */
#ifndef SALVO_WINDOW_H
#define SALVO_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define SALVO_WINDOW_MOST (1u << 20) /* where a driver has no better bound: 8 MiB */

typedef struct salvo_window {
    int64_t *offsets; /* a ring; room is a power of two, or 0 */
    int64_t next;
    uint32_t room, most, head, count, unsettled;
} salvo_window;

/* Empty; position: where reading begins (-1: not known yet, position() says so too). */
void salvo_window_init(salvo_window *window, int64_t position, uint32_t most);
void salvo_window_free(salvo_window *window);

/* How many more may be given before something is settled. */
uint32_t salvo_window_room(const salvo_window *window);

/* offset was given; it must be above all before. false: the window is full, or no memory: the
 * message must not be given. */
bool salvo_window_give(salvo_window *window, int64_t offset);

/* Nothing below offset will be given any more (what is left there is no message). */
void salvo_window_pass(salvo_window *window, int64_t offset);

/* true: it was given and unsettled until now. */
bool salvo_window_settle(salvo_window *window, int64_t offset);

/* What may be committed: the lowest that is not settled, or one past all. */
int64_t salvo_window_position(const salvo_window *window);

#endif
