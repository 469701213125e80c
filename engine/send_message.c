/* SPDX-License-Identifier: Apache-2.0
 *
 * salvo_send and salvo_send_wait: the whole message, with headers, partition, time, TTL, report.
 * As free of locks, system calls and allocation as the short form (send.c), and a little longer.
 */
#include "send.h"

#include "report.h"

enum { HEADERS_MAX = 64, HEADER_NAME_MAX = 255 };

static int measure_headers(const salvo_message *m, size_t max, uint32_t *bytes)
{
    size_t sum = 0;
    if (m->header_count > HEADERS_MAX || (m->header_count != 0 && m->headers == NULL))
        return SALVO_ERR_INVALID;
    for (size_t i = 0; i < m->header_count; i++) {
        const salvo_header *h = &m->headers[i];
        if (h->name == NULL || h->name_len == 0 || h->name_len > HEADER_NAME_MAX ||
            (h->value == NULL && h->value_len != 0))
            return SALVO_ERR_INVALID;
        if (h->value_len > max)
            return SALVO_ERR_TOO_LARGE;
        sum += 2 * sizeof(uint32_t) + h->name_len + h->value_len;
    }
    if (sum > max)
        return SALVO_ERR_TOO_LARGE;
    *bytes = (uint32_t)sum;
    return 0;
}

static unsigned char *write_headers(unsigned char *at, const salvo_message *m)
{
    for (size_t i = 0; i < m->header_count; i++) {
        const salvo_header *h = &m->headers[i];
        uint32_t lens[2] = {(uint32_t)h->name_len,
                            h->value != NULL ? (uint32_t)h->value_len : SALVO_NULL_LEN};
        memcpy(at, lens, sizeof lens);
        memcpy(at + sizeof lens, h->name, h->name_len);
        at += sizeof lens + h->name_len;
        if (h->value_len != 0)
            memcpy(at, h->value, h->value_len);
        at += h->value_len;
    }
    return at;
}

/* Lengths, flags and headers checked; counts the refusal. */
static int measure(const salvo *p, salvo_letter *l, const salvo_message *m, uint32_t *headers)
{
    size_t max = p->settings.max_message_bytes;
    int err = measure_headers(m, max, headers);
    if ((m->key == NULL && m->key_len != 0) || (m->value == NULL && m->value_len != 0) ||
        m->partition_plus1 < 0 || m->timestamp_ms < 0)
        err = SALVO_ERR_INVALID;
    else if (err == 0 && (m->key_len > max || m->value_len > max ||
                          m->key_len + m->value_len + *headers > max))
        err = SALVO_ERR_TOO_LARGE;
    if (err == SALVO_ERR_TOO_LARGE)
        return salvo_send_too_large(p, l->entry);
    if (err != 0)
        return salvo_send_refuse(l->entry, SALVO_REFUSED_INVALID, err);
    l->length = (uint32_t)(salvo_record_prefix(l->flags) + m->key_len + m->value_len) + *headers;
    return 0;
}

static void write_record(const salvo_letter *l, const salvo_message *m, uint32_t headers,
                         const salvo_record_extra *extra)
{
    unsigned char *at = salvo_ring_payload(l->ring, l->claim.position);
    salvo_record_head head = {
        .value_len = m->value != NULL ? (uint32_t)m->value_len : SALVO_NULL_LEN,
        .key_len = m->key != NULL ? (uint32_t)m->key_len : SALVO_NULL_LEN,
        .headers_len = headers,
        .partition = m->partition_plus1 - 1,
    };
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    if ((l->flags & SALVO_RECORD_EXTRA) != 0) {
        memcpy(at, extra, sizeof *extra);
        at += sizeof *extra;
    }
    if (m->key_len != 0)
        memcpy(at, m->key, m->key_len);
    at = write_headers(at + m->key_len, m);
    if (m->value_len != 0)
        memcpy(at, m->value, m->value_len);
}

static int send_message(salvo *p, salvo_letter *l, const salvo_message *m,
                        const salvo_record_extra *extra)
{
    uint32_t headers = 0;
    int err = measure(p, l, m, &headers);
    if (err != 0)
        return err;
    bool report = (l->flags & SALVO_RECORD_REPORT) != 0;
    if (report && !salvo_reports_reserve(p->reports))
        return salvo_send_refuse(l->entry, SALVO_REFUSED_INVALID, SALVO_ERR_LIMIT);
    err = salvo_send_claim(p, l, m->key, m->key_len, m->partition_plus1 - 1);
    if (err != 0) {
        if (report)
            salvo_reports_unreserve(p->reports);
        return err;
    }
    write_record(l, m, headers, extra);
    salvo_send_commit(p, l);
    return 0;
}

int salvo_send(salvo *producer, salvo_topic topic, const salvo_message *message)
{
    salvo_letter l = {0};
    int err = salvo_send_address(producer, topic, &l);
    if (err != 0)
        return err;
    if (message == NULL)
        return salvo_send_refuse(l.entry, SALVO_REFUSED_INVALID, SALVO_ERR_INVALID);
    salvo_record_extra extra = {.timestamp_ms = message->timestamp_ms,
                                .opaque = message->opaque,
                                .ttl_ms = message->ttl_ms};
    if (message->report != 0)
        l.flags |= SALVO_RECORD_REPORT | SALVO_RECORD_EXTRA;
    if (message->timestamp_ms != 0 || message->ttl_ms != 0)
        l.flags |= SALVO_RECORD_EXTRA;
    bool sampled;
    salvo_sample_begin(l.thread, &sampled);
    err = send_message(producer, &l, message, &extra);
    if (sampled && err == 0)
        salvo_sample_end(producer, l.thread, l.stamp);
    return err;
}

int salvo_send_wait(salvo *producer, salvo_topic topic, const salvo_message *message,
                    uint64_t timeout_ms, salvo_report *report)
{
    salvo_letter l = {0};
    int err = salvo_send_address(producer, topic, &l);
    if (err != 0)
        return err;
    if (message == NULL)
        return salvo_send_refuse(l.entry, SALVO_REFUSED_INVALID, SALVO_ERR_INVALID);
    if (salvo_in_callback)
        return SALVO_ERR_REENTRANT;
    uint64_t now_ns = salvo_clock_monotonic_ns();
    uint64_t deadline_ns = timeout_ms > (UINT64_MAX - now_ns) / 1000000u
                               ? UINT64_MAX
                               : now_ns + timeout_ms * 1000000u;
    salvo_record_extra extra = {.timestamp_ms = message->timestamp_ms,
                                .opaque = message->opaque,
                                .ttl_ms = message->ttl_ms,
                                .waiter = l.thread->slot,
                                .waiter_turn = salvo_waiter_begin(l.thread)};
    l.flags = SALVO_RECORD_EXTRA | SALVO_RECORD_WAITER;
    err = send_message(producer, &l, message, &extra);
    if (err != 0) {
        salvo_waiter_cancel(l.thread, extra.waiter_turn);
        return err;
    }
    salvo_flusher_kick(l.flusher); /* whoever waits cuts the flusher's sleep short */
    return salvo_waiter_wait(l.thread, extra.waiter_turn, deadline_ns, report);
}

int salvo_poll_reports(salvo *producer, salvo_report *reports, size_t max)
{
    int err = salvo_producer_check(producer);
    if (err != 0 || (reports == NULL && max != 0))
        return err != 0 ? err : SALVO_ERR_INVALID;
    return salvo_reports_poll(producer->reports, reports, max > INT32_MAX ? INT32_MAX : max);
}

int salvo_report_fd(salvo *producer)
{
    int err = salvo_producer_check(producer);
    return err != 0 ? err : salvo_reports_fd(producer->reports);
}
