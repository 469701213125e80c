/* SPDX-License-Identifier: Apache-2.0
 *
 * Which clock a producer uses, and how its ticks become nanoseconds. The TSC is taken only where
 * the kernel itself runs on it (clocksource "tsc": invariant and synchronised between cores).
 */
#include "clock.h"

#include <stdio.h>
#include <string.h>

enum { CALIBRATION_NS = 5 * 1000 * 1000, TICK_SHIFT = 32 };

static bool kernel_trusts_tsc(void)
{
#if defined(__x86_64__)
    char name[16] = "";
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (f == NULL)
        return false;
    bool tsc = fgets(name, sizeof name, f) != NULL && strncmp(name, "tsc", 3) == 0;
    fclose(f);
    return tsc;
#else
    return false;
#endif
}

/* A pair (ns, tick) read close together: the tightest of a few tries. */
static void read_pair(const salvo_clock *clock, uint64_t *ns, uint64_t *tick)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t before = salvo_clock_stamp(clock);
        uint64_t now_ns = salvo_clock_monotonic_ns();
        uint64_t after = salvo_clock_stamp(clock);
        if (after - before < best) {
            best = after - before;
            *ns = now_ns;
            *tick = before + (after - before) / 2;
        }
    }
}

static void calibrate(salvo_clock *clock)
{
    uint64_t ns0, tick0, ns1, tick1;
    struct timespec pause = {0, CALIBRATION_NS};
    read_pair(clock, &ns0, &tick0);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    read_pair(clock, &ns1, &tick1);
    clock->shift = TICK_SHIFT;
    clock->mult = (uint64_t)(((unsigned __int128)(ns1 - ns0) << TICK_SHIFT) / (tick1 - tick0));
}

void salvo_clock_init(salvo_clock *clock, salvo_clock_kind kind)
{
    struct timespec wall;
    if (kind == SALVO_CLOCK_TSC && !kernel_trusts_tsc())
        kind = SALVO_CLOCK_MONOTONIC;
    clock->kind = kind;
    clock->mult = 1;
    clock->shift = 0;
    if (kind == SALVO_CLOCK_TSC)
        calibrate(clock);
    clock_gettime(CLOCK_REALTIME, &wall);
    clock->wall_base_ms = (uint64_t)wall.tv_sec * 1000u + (uint64_t)wall.tv_nsec / 1000000u;
    clock->wall_tick = salvo_clock_stamp(clock);
}

uint64_t salvo_clock_ticks(const salvo_clock *clock, uint64_t ns)
{
    return (uint64_t)(((unsigned __int128)ns << clock->shift) / clock->mult);
}

int64_t salvo_clock_wall_ms(const salvo_clock *clock, uint64_t tick)
{
    if (tick < clock->wall_tick)
        return (int64_t)(clock->wall_base_ms -
                         salvo_clock_ns(clock, clock->wall_tick - tick) / 1000000u);
    return (int64_t)(clock->wall_base_ms +
                     salvo_clock_ns(clock, tick - clock->wall_tick) / 1000000u);
}
