/* SPDX-License-Identifier: Apache-2.0
 *
 * Ready batches to the driver and outcomes back.
 *
 * Guarantees: batches of a partition are submitted in the order of their closing, within the
 * driver's credit; what comes back to be retried goes to its old place in that order. Unless the
 * driver retries by itself, a partition has one batch out at a time, so a retry overtakes nothing.
 * Where a driver asks for bursts, what does not fit into one waits here until it came back: what
 * waits gathers in batches, and a deadline is still exact.
 * TTL and delivery deadline are exact before submit; after it only the driver's word counts.
 */
#include "flusher.h"

#include "error.h"
#include "probes.h"

enum { HURRY_NS = 1000 * 1000 }; /* lingers up to this long */
enum { POLL_MAX = 64, EXPIRY_EVERY_NS = 10 * 1000 * 1000, REOPEN_AFTER_NS = 1000 * 1000 * 1000 };

/* Back into the partition's queue, by sequence. */
static void requeue(salvo_flusher *f, salvo_part *part, salvo_batch *b)
{
    salvo_batch *after = part->ready.first, *before = NULL;
    while (after != NULL && after->sequence < b->sequence) {
        before = after;
        after = after->next;
    }
    b->state = SALVO_BATCH_READY;
    b->previous = before;
    b->next = after;
    *(before != NULL ? &before->next : &part->ready.first) = b;
    *(after != NULL ? &after->previous : &part->ready.last) = b;
    salvo_flusher_part_active(f, part);
}

static salvo_batch *pop(salvo_part *part)
{
    salvo_batch *b = part->ready.first;
    part->ready.first = b->next;
    if (b->next != NULL)
        b->next->previous = NULL;
    else
        part->ready.last = NULL;
    b->next = b->previous = NULL;
    return b;
}

/* Exponential from retry_backoff to its maximum, minus up to a quarter so that many do not come
 * at once (the low bits of the time are random enough for that). */
static uint64_t backoff_ns(const salvo_flusher *f, uint32_t attempts)
{
    const salvo_settings *s = &f->producer->settings;
    uint32_t shift = attempts > 20 ? 20 : attempts;
    uint64_t wait_ns = s->retry_backoff_ns << shift;
    if (wait_ns > s->retry_backoff_max_ns)
        wait_ns = s->retry_backoff_max_ns;
    return wait_ns - (wait_ns / 4) * (f->now_tick % 64) / 64;
}

static void out_changed(salvo_flusher *f, salvo_part *part, int batches, int64_t messages)
{
    part->out += (uint32_t)batches;
    f->out_batches += (uint32_t)batches;
    salvo_count(&f->counters.in_flight_batches, (uint64_t)(int64_t)batches);
    salvo_count(&f->counters.in_flight_messages, (uint64_t)messages);
}

/* What expired since the last look at all batches is not submitted. True: nothing is left of it. */
static bool first_is_expired(salvo_flusher *f, salvo_part *part)
{
    salvo_batch *b = part->ready.first;
    if (b->expires_ns > f->now_ns)
        return false;
    salvo_flusher_settle_expired(f, b);
    if (b->driver.count != 0)
        return false;
    pop(part);
    salvo_flusher_free_batch(f, b);
    return true;
}

static uint64_t burst_cost(const salvo_driver_burst *limit, const salvo_batch *b)
{
    return b->driver.bytes + (uint64_t)b->driver.count * limit->message_bytes;
}

bool salvo_burst_fits(const salvo_driver_burst *limit, const salvo_part *part,
                      const salvo_batch *b, uint64_t round)
{
    if (limit->bytes == 0 || part->out == 0)
        return true;
    return part->burst_round == round &&
           part->burst_bytes + burst_cost(limit, b) <= limit->bytes &&
           part->burst_messages + b->driver.count <= limit->messages;
}

void salvo_burst_count(const salvo_driver_burst *limit, salvo_part *part, const salvo_batch *b,
                       uint64_t round)
{
    if (part->out == 0)
        part->burst_bytes = part->burst_messages = 0;
    part->burst_round = round;
    part->burst_bytes += burst_cost(limit, b);
    part->burst_messages += b->driver.count;
}

/* The first ready batch of a partition. False: no credit, or the driver wants no more now. */
static bool submit_first(salvo_flusher *f, salvo_part *part, salvo_driver_credit *credit)
{
    salvo_batch *b = part->ready.first;
    if (first_is_expired(f, part))
        return true;
    if (credit->batches == 0 || b->driver.count > credit->messages ||
        b->driver.bytes > credit->bytes || f->out_batches >= f->env.max_batches)
        return false;
    b->state = SALVO_BATCH_OUT;
    b->submitted_ns = f->now_ns;
    int err = f->producer->driver->submit(f->handle, &b->driver, salvo_batch_token(b));
    salvo_probe_submit(f->producer->topics.entries[part->topic].name, b->driver.partition,
                       b->driver.count, b->driver.bytes, err);
    if (err == SALVO_ERR_TRANSIENT || err == SALVO_ERR_FATAL) {
        b->state = SALVO_BATCH_READY;
        b->not_before_ns = f->now_ns + backoff_ns(f, b->attempts++);
        salvo_count(&f->counters.broker_errors, 1);
        salvo_flusher_wake_by(f, b->not_before_ns);
        return true; /* others may go on; this partition waits */
    }
    pop(part);
    if (err != 0) {
        salvo_flusher_settle_all(f, b, err);
        salvo_flusher_free_batch(f, b);
        return true;
    }
    credit->batches--;
    credit->messages -= b->driver.count;
    credit->bytes -= b->driver.bytes;
    if (b->attempts++ != 0)
        salvo_count(&f->counters.retries, 1);
    salvo_burst_count(&f->producer->burst, part, b, f->round);
    f->hurries |= f->producer->topics.entries[part->topic].linger_ns <= HURRY_NS;
    out_changed(f, part, 1, b->driver.count);
    return true;
}

static bool part_may_submit(salvo_flusher *f, const salvo_part *part)
{
    uint32_t window = f->producer->capabilities & SALVO_CAP_OWN_RETRIES ? UINT32_MAX : 1;
    const salvo_batch *b = part->ready.first;
    if (b == NULL || part->out >= window)
        return false;
    if (!salvo_burst_fits(&f->producer->burst, part, b, f->round)) {
        f->hurries = true;
        return false;
    }
    if (b->not_before_ns > f->now_ns) {
        salvo_flusher_wake_by(f, b->not_before_ns);
        return false;
    }
    return true;
}

/* A burst is complete, so the library need not wait for more. Its wake-ups cost CPU: they are for
 * those who let nothing linger, and for a backlog, which waits for this burst's outcome. */
static void hurry(salvo_flusher *f)
{
    if (f->producer->burst.bytes != 0 && f->hurries)
        f->producer->driver->flush(f->handle);
}

static int submit_all(salvo_flusher *f)
{
    salvo_driver_credit credit = {0};
    int done = 0;
    if (f->active == NULL || f->handle_dead)
        return 0;
    f->hurries = false;
    f->producer->driver->credit(f->handle, &credit);
    salvo_part *part = f->active, *last = part->previous;
    for (bool more = true; more;) {
        salvo_part *next = part->next;
        more = part != last;
        while (part_may_submit(f, part)) {
            if (!submit_first(f, part, &credit)) {
                f->active = part; /* begin here next time: nobody starves */
                return done;
            }
            done++;
        }
        salvo_flusher_part_idle(f, part);
        part = next;
    }
    return done;
}

int salvo_flusher_submit(salvo_flusher *f)
{
    int done = submit_all(f);
    if (done != 0)
        hurry(f);
    return done;
}

static void take_back(salvo_flusher *f, const salvo_driver_outcome *outcome)
{
    salvo_batch *b = salvo_batch_of(&f->pool, outcome->token);
    if (b == NULL) {
        salvo_log(SALVO_LOG_ERROR, "driver %s returned a token that is not out: ignored",
                  f->producer->driver->name);
        return;
    }
    salvo_part *part = &f->topics[b->driver.topic].parts[b->driver.partition];
    out_changed(f, part, -1, -(int64_t)b->driver.count);
    salvo_flusher_settle(f, b, outcome->ranges, outcome->range_count);
    if (b->driver.count == 0) {
        salvo_flusher_free_batch(f, b);
        return;
    }
    if (f->giving_up) {
        salvo_flusher_settle_all(f, b, SALVO_ERR_DROPPED);
        salvo_flusher_free_batch(f, b);
        return;
    }
    salvo_count(&f->counters.broker_errors, 1);
    b->not_before_ns = f->now_ns + backoff_ns(f, b->attempts - 1);
    requeue(f, part, b);
}

static void reopen(salvo_flusher *f)
{
    char error[256] = "";
    salvo *p = f->producer;
    if (f->now_ns < f->reopen_at_ns) {
        salvo_flusher_wake_by(f, f->reopen_at_ns);
        return;
    }
    if (f->handle != NULL)
        p->driver->close(f->handle);
    f->handle = NULL;
    if (p->driver->open(&f->env, &f->handle, error, sizeof error) != 0) {
        salvo_log(SALVO_LOG_WARNING, "driver %s: opening again failed: %s", p->driver->name, error);
        f->handle = NULL;
        f->reopen_at_ns = f->now_ns + REOPEN_AFTER_NS;
        return;
    }
    f->handle_dead = false;
    salvo_count(&f->counters.reopens, 1);
    uint32_t count = atomic_load_explicit(&p->topics.count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        if (f->topics[i].known)
            (void)p->driver->topic(f->handle, i, p->topics.entries[i].name,
                                   &p->topics.entries[i].driver);
}

int salvo_flusher_poll(salvo_flusher *f)
{
    salvo_driver_outcome outcomes[POLL_MAX];
    int total = 0, n;
    if (f->handle_dead) {
        reopen(f);
        return 0;
    }
    do {
        n = f->producer->driver->poll(f->handle, outcomes, POLL_MAX);
        for (int i = 0; i < n; i++)
            take_back(f, &outcomes[i]);
        if (n == SALVO_ERR_FATAL) {
            salvo_log(SALVO_LOG_WARNING, "driver %s: fatal error, opening again",
                      f->producer->driver->name);
            f->handle_dead = true; /* the first time opened again at once, then with pauses */
            f->reopen_at_ns = f->reopens_in_row == 0
                                  ? 0 : f->now_ns + backoff_ns(f, f->reopens_in_row);
            f->reopens_in_row++;
        }
        total += n > 0 ? n : 0;
    } while (n == POLL_MAX);
    return total;
}

void salvo_flusher_fail_held(salvo_flusher *f, uint32_t topic, int status)
{
    salvo_batch_list *held = &f->topics[topic].held;
    for (salvo_batch *b = held->first, *next; b != NULL; b = next) {
        next = b->next;
        salvo_flusher_settle_all(f, b, status);
        salvo_flusher_free_batch(f, b);
    }
    held->first = held->last = NULL;
}

static void expire_list(salvo_flusher *f, salvo_batch_list *list)
{
    for (salvo_batch *b = list->first, *next; b != NULL; b = next) {
        next = b->next;
        if (b->expires_ns > f->now_ns)
            continue;
        salvo_flusher_settle_expired(f, b);
        if (b->driver.count != 0)
            continue;
        *(b->previous != NULL ? &b->previous->next : &list->first) = next;
        *(next != NULL ? &next->previous : &list->last) = b->previous;
        salvo_flusher_free_batch(f, b);
    }
}

static void expire_part(salvo_flusher *f, salvo_part *part)
{
    salvo_batch *b = part->open;
    if (b != NULL && b->expires_ns <= f->now_ns) {
        salvo_flusher_settle_expired(f, b);
        if (b->driver.count == 0) {
            part->open = NULL;
            salvo_flusher_free_batch(f, b);
        }
    }
    expire_list(f, &part->ready);
}

/* A topic that was unknown or forbidden may have been made or allowed since: ask again. */
static void forget_error(salvo_flusher *f, uint32_t topic)
{
    int n = f->producer->driver->partitions(f->handle, topic);
    if (n >= 0)
        f->topics[topic].error = 0;
}

void salvo_flusher_expire(salvo_flusher *f)
{
    bool waiting = f->active != NULL;
    if (f->now_ns < f->next_expiry_ns)
        return;
    f->next_expiry_ns = f->now_ns + EXPIRY_EVERY_NS;
    uint32_t count = atomic_load_explicit(&f->producer->topics.count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        if (f->topics[i].error != 0 && !f->handle_dead)
            forget_error(f, i);
        if (f->topics[i].held.first == NULL)
            continue;
        waiting = true;
        expire_list(f, &f->topics[i].held);
        salvo_flusher_know_topic(f, i);
    }
    if (f->active != NULL) {
        salvo_part *part = f->active, *last = part->previous;
        for (;; part = part->next) {
            expire_part(f, part);
            if (part == last)
                break;
        }
    }
    if (waiting)
        salvo_flusher_wake_by(f, f->next_expiry_ns);
}

/* The end: whatever is still here is dropped, and what is out comes back from a purge. */
void salvo_flusher_give_up(salvo_flusher *f)
{
    enum { PURGE_MS = 2000 };
    salvo *p = f->producer;
    f->giving_up = true;
    uint32_t count = atomic_load_explicit(&p->topics.count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        salvo_flusher_fail_held(f, i, SALVO_ERR_DROPPED);
        for (int32_t k = 0; k < f->topics[i].part_count; k++) {
            salvo_part *part = &f->topics[i].parts[k];
            if (part->open != NULL)
                salvo_flusher_close_batch(f, part, &f->counters.closed_by_waiter);
            while (part->ready.first != NULL) {
                salvo_batch *b = pop(part);
                salvo_flusher_settle_all(f, b, SALVO_ERR_DROPPED);
                salvo_flusher_free_batch(f, b);
            }
            salvo_flusher_part_idle(f, part);
        }
    }
    if (f->out_batches != 0 && !f->handle_dead)
        p->driver->purge(f->handle, PURGE_MS);
    while (f->out_batches != 0 && !f->handle_dead && salvo_flusher_poll(f) > 0)
        ;
}
