/* SPDX-License-Identifier: Apache-2.0
 *
 * wait.h on ck_ec: the operating system's part that ck wants from its user.
 */
#include "wait.h"

#include "clock.h"

#include <ck_ec.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(salvo_event) == sizeof(struct ck_ec32), "salvo_event holds a ck_ec32");

static int get_time(const struct ck_ec_ops *ops, struct timespec *out)
{
    (void)ops;
    return clock_gettime(CLOCK_MONOTONIC, out);
}

static void wait32(const struct ck_ec_wait_state *state, const uint32_t *address,
                   uint32_t expected, const struct timespec *deadline)
{
    (void)state;
    syscall(SYS_futex, address, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, deadline, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

static void wake32(const struct ck_ec_ops *ops, const uint32_t *address)
{
    (void)ops;
    syscall(SYS_futex, address, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

static const struct ck_ec_ops operations = {
    .gettime = get_time, .wait32 = wait32, .wake32 = wake32};
static const struct ck_ec_mode mode = {.ops = &operations, .single_producer = false};

static struct ck_ec32 *ec_of(salvo_event *event)
{
    return (struct ck_ec32 *)(void *)event;
}

uint32_t salvo_event_read(const salvo_event *event)
{
    return ck_ec32_value((const struct ck_ec32 *)(const void *)event);
}

bool salvo_event_wait(salvo_event *event, uint32_t seen, uint64_t deadline_ns)
{
    struct timespec deadline = {(time_t)(deadline_ns / 1000000000u),
                                (long)(deadline_ns % 1000000000u)};
    if (deadline_ns == UINT64_MAX)
        return ck_ec32_wait(ec_of(event), &mode, seen, NULL) == 0;
    return ck_ec32_wait(ec_of(event), &mode, seen, &deadline) == 0;
}

void salvo_event_signal(salvo_event *event)
{
    ck_ec32_inc(ec_of(event), &mode);
}
