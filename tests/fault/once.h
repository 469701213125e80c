/* SPDX-License-Identifier: Apache-2.0
 *
 * Something that fails once: the n-th allocation of the process, or the n-th call of one entry of
 * the sockets' table of system calls. One plan at a time, armed and disarmed by the test's thread.
 */
#ifndef SALVO_FAULT_ONCE_H
#define SALVO_FAULT_ONCE_H

#include <stdint.h>

/* heap.c: replaces malloc and its kin for the whole process, libraries too. n 0: none fails. */
void fault_heap_arm(uint64_t n);
/* How many allocations there were since, and how many of their blocks are still there. */
void fault_heap_disarm(uint64_t *count, uint64_t *alive);

/* syscalls.c */
extern const int fault_call_count;
const char *fault_call_name(int call);
void fault_call_arm(int call, uint64_t n);
uint64_t fault_call_disarm(void); /* how often it was called */

#endif
