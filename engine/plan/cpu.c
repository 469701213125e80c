/* SPDX-License-Identifier: Apache-2.0
 *
 * The cores. A task is a thread of the engine, the client library, the application or a broker on
 * this host; it does one thing after the other. n tasks that run share k cores evenly, as a
 * scheduler in slices lets them: each has k of n.
 *
 * Guarantee: the cores never do more than they can. When a piece of work will be done is told when
 * it is given, from what runs then; where more comes meanwhile it was told too early, and what
 * follows of the same task begins that much later.
 */
#include "world.h"

#include <stdlib.h>

static uint32_t task_count(const plan_world *w)
{
    return plan_task_sender(w, w->traffic.threads);
}

int salvo_plan_cpu_open(plan_world *w)
{
    w->cpu.cores = w->host.cores;
    w->cpu.at_ns = w->now_ns;
    w->cpu.left_ns = calloc(task_count(w), sizeof *w->cpu.left_ns);
    w->cpu.running = calloc(task_count(w), sizeof *w->cpu.running);
    return w->cpu.left_ns == NULL || w->cpu.running == NULL ? SALVO_ERR_NOMEM : 0;
}

void salvo_plan_cpu_close(plan_world *w)
{
    free(w->cpu.left_ns);
    free(w->cpu.running);
}

static uint64_t least_left(const plan_cpu *cpu)
{
    uint64_t least = cpu->left_ns[cpu->running[0]];
    for (uint32_t i = 1; i < cpu->running_count; i++)
        if (cpu->left_ns[cpu->running[i]] < least)
            least = cpu->left_ns[cpu->running[i]];
    return least;
}

/* All that run have done so much more; those that are done leave the list. */
static void do_work(plan_cpu *cpu, uint64_t done_ns)
{
    for (uint32_t i = 0; i < cpu->running_count;) {
        uint64_t *left_ns = &cpu->left_ns[cpu->running[i]];
        *left_ns -= *left_ns < done_ns ? *left_ns : done_ns;
        if (*left_ns == 0)
            cpu->running[i] = cpu->running[--cpu->running_count];
        else
            i++;
    }
}

/* Until now; from one task's end to the next the same share for each. Shares are whole
 * nanoseconds: the rest of the time is worked off with the next ones. */
static void advance(plan_cpu *cpu, uint64_t now_ns)
{
    while (cpu->running_count != 0) {
        uint64_t n = cpu->running_count, k = n < cpu->cores ? n : cpu->cores;
        uint64_t most_ns = (now_ns - cpu->at_ns) * k / n, each_ns = least_left(cpu);
        bool one_ends = each_ns <= most_ns;
        if (!one_ends)
            each_ns = most_ns;
        cpu->at_ns += (each_ns * n + k - 1) / k;
        do_work(cpu, each_ns);
        if (!one_ends)
            return;
    }
    cpu->at_ns = now_ns;
}

/* When the task is done, every other one has done as much as it or all it had. */
static uint64_t end_of(const plan_cpu *cpu, uint32_t task)
{
    uint64_t own_ns = cpu->left_ns[task], sum_ns = 0;
    for (uint32_t i = 0; i < cpu->running_count; i++) {
        uint64_t left_ns = cpu->left_ns[cpu->running[i]];
        sum_ns += left_ns < own_ns ? left_ns : own_ns;
    }
    uint64_t shared_ns = sum_ns / cpu->cores;
    return cpu->at_ns + (shared_ns > own_ns ? shared_ns : own_ns);
}

uint64_t salvo_plan_cpu_take(plan_world *w, uint32_t task, uint64_t cost_ns)
{
    plan_cpu *cpu = &w->cpu;
    if (cost_ns == 0)
        return w->now_ns;
    advance(cpu, w->now_ns);
    if (cpu->left_ns[task] == 0)
        cpu->running[cpu->running_count++] = task;
    cpu->left_ns[task] += cost_ns;
    cpu->busy_ns += cost_ns;
    uint64_t begin_ns = end_of(cpu, task) - cost_ns;
    return begin_ns > w->now_ns ? begin_ns : w->now_ns;
}
