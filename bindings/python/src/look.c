/* SPDX-License-Identifier: Apache-2.0
 *
 * What a producer knows of itself, and what a topic holds, as Python objects.
 */
#include "engine.h"

#include <salvo/reader.h>

enum { SLICE_MS = 50 };

static PyObject *of_ledger(const salvo_ledger *l)
{
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsKsKsKsKsKsK}", "offered", l->offered, "accepted", l->accepted,
        "refused_full", l->refused_full, "refused_dropped", l->refused_dropped, "refused_timeout",
        l->refused_timeout, "refused_too_large", l->refused_too_large, "refused_invalid",
        l->refused_invalid, "acknowledged", l->acknowledged, "failed", l->failed,
        "maybe_delivered", l->maybe_delivered, "expired", l->expired, "dropped", l->dropped,
        "pending", l->pending, "pending_counted", l->pending_counted);
}

static PyObject *of_latency(const salvo_latency *l)
{
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsK}", "count", l->count, "min", l->min, "mean", l->mean,
                         "p50", l->p50, "p90", l->p90, "p99", l->p99, "p99.9", l->p999, "p99.99",
                         l->p9999, "max", l->max);
}

PyObject *engine_ledger(producer_object *self, PyObject *topic)
{
    salvo *handle = engine_handle(self);
    salvo_topic id = SALVO_ALL_TOPICS;
    salvo_ledger ledger;
    if (handle == NULL)
        return NULL;
    if (topic != Py_None) {
        id = (salvo_topic)PyLong_AsUnsignedLong(topic);
        if (PyErr_Occurred())
            return NULL;
    }
    int err = salvo_get_ledger(handle, id, &ledger);
    return err == 0 ? of_ledger(&ledger)
                    : engine_raise(engine_state_of((PyObject *)self), err, NULL);
}

PyObject *engine_stats(producer_object *self, PyObject *none)
{
    salvo *handle = engine_handle(self);
    salvo_stats s = {.size = sizeof s};
    (void)none;
    if (handle == NULL)
        return NULL;
    int err = salvo_get_stats(handle, &s);
    if (err != 0)
        return engine_raise(engine_state_of((PyObject *)self), err, NULL);
    PyObject *stages = PyDict_New();
    static const char *const names[SALVO_STAGES] = {"enqueue", "queue", "broker", "total"};
    for (int i = 0; stages != NULL && i < SALVO_STAGES; i++) {
        PyObject *latency = of_latency(&s.stage[i]);
        if (latency == NULL || PyDict_SetItemString(stages, names[i], latency) != 0)
            Py_CLEAR(stages);
        Py_XDECREF(latency);
    }
    if (stages == NULL)
        return NULL;
    return Py_BuildValue(
        "{sNsNsKsKsKsKsKsKsKsKsKsKsKsKsKsIsIsIsIsKsssssz}", "ledger", of_ledger(&s.total),
        "latency_ns", stages, "memory_bytes", s.memory_bytes, "ring_bytes", s.ring_bytes,
        "ring_used_bytes", s.ring_used_bytes, "arena_bytes", s.arena_bytes, "arena_used_bytes",
        s.arena_used_bytes, "in_flight_messages", s.in_flight_messages, "in_flight_batches",
        s.in_flight_batches, "batches", s.batches, "retries", s.retries, "reopens", s.reopens,
        "broker_errors", s.broker_errors, "stalled_claims", s.stalled_claims, "stalled_since_ns",
        s.stalled_since_ns, "rings", s.rings, "flushers", s.flushers, "topics", s.topics,
        "threads", s.threads, "reports_waiting", s.reports_waiting, "driver", s.driver, "clock",
        s.clock, "broker_state", s.broker_state);
}

static PyObject *of_headers(const salvo_record *record)
{
    PyObject *headers = PyTuple_New((Py_ssize_t)record->header_count);
    for (size_t i = 0; headers != NULL && i < record->header_count; i++) {
        const salvo_header *h = &record->headers[i];
        PyObject *pair = Py_BuildValue("(s#y#)", h->name, (Py_ssize_t)h->name_len,
                                       (const char *)h->value, (Py_ssize_t)h->value_len);
        if (pair == NULL)
            Py_CLEAR(headers);
        else
            PyTuple_SET_ITEM(headers, (Py_ssize_t)i, pair);
    }
    return headers;
}

static PyObject *of_record(const salvo_record *record)
{
    PyObject *headers = of_headers(record);
    if (headers == NULL)
        return NULL;
    return Py_BuildValue("(iLLy#y#N)", record->partition, (long long)record->offset,
                         (long long)record->timestamp_ms, (const char *)record->key,
                         (Py_ssize_t)record->key_len, (const char *)record->value,
                         (Py_ssize_t)record->value_len, headers);
}

static int read_some(salvo_reader *reader, uint64_t timeout_ms, Py_ssize_t most,
                     PyObject *records)
{
    uint64_t left_ms = timeout_ms; /* for the next record, in slices: Ctrl-C ends it */
    while (PyList_GET_SIZE(records) < most) {
        salvo_record record;
        uint64_t slice_ms = left_ms < SLICE_MS ? left_ms : SLICE_MS;
        int err;
        Py_BEGIN_ALLOW_THREADS
        err = salvo_reader_next(reader, slice_ms, &record);
        Py_END_ALLOW_THREADS
        left_ms -= slice_ms;
        if (err == SALVO_ERR_TIMEOUT && left_ms != 0 && PyErr_CheckSignals() == 0)
            continue;
        if (err != 0)
            return err == SALVO_ERR_END ? 0 : err;
        left_ms = timeout_ms;
        PyObject *one = of_record(&record);
        int failed = one == NULL || PyList_Append(records, one) != 0;
        Py_XDECREF(one);
        if (failed || PyErr_CheckSignals() != 0)
            return SALVO_ERR_INTERRUPTED;
    }
    return 0;
}

/* What the topic holds now, from its first message on; 0: all, else at most so many. */
PyObject *engine_read(PyObject *module, PyObject *args)
{
    engine_state *state = PyModule_GetState(module);
    PyObject *config, *producer;
    const char *topic;
    unsigned long long timeout_ms;
    Py_ssize_t most = 0;
    if (!PyArg_ParseTuple(args, "O!OsK|n", state->config_type, &config, &producer, &topic,
                          &timeout_ms, &most))
        return NULL;
    if (producer != Py_None && !PyObject_TypeCheck(producer, state->producer_type))
        return PyErr_Format(PyExc_TypeError, "producer: a Producer or None");
    producer_object *of = producer != Py_None ? (producer_object *)producer : NULL;
    salvo *handle = of != NULL ? engine_handle(of) : NULL;
    if (of != NULL && handle == NULL)
        return NULL;
    salvo_reader_options options = {.size = sizeof options, .stop_at_end = 1};
    options.open_timeout_ms = (uint32_t)timeout_ms;
    salvo_reader *reader;
    int err;
    if (of != NULL)
        of->users++;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_reader_open(((config_object *)config)->config, handle, topic, &options, &reader);
    Py_END_ALLOW_THREADS
    PyObject *records = err == 0 ? PyList_New(0) : NULL;
    if (records != NULL)
        err = read_some(reader, timeout_ms, most > 0 ? most : PY_SSIZE_T_MAX, records);
    if (err == 0 || records != NULL) {
        Py_BEGIN_ALLOW_THREADS
        salvo_reader_close(reader);
        Py_END_ALLOW_THREADS
    }
    if (of != NULL)
        of->users--;
    if (err == 0)
        return records;
    Py_XDECREF(records);
    return PyErr_Occurred() ? NULL : engine_raise(state, err, NULL);
}
