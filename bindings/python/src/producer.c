/* SPDX-License-Identifier: Apache-2.0
 *
 * Producer: open, topics, reports, flush, close. Guarantees: a wait releases the GIL and honours
 * Ctrl-C within a slice; close waits for the calls that run without the GIL, and settles what is
 * left as dropped; in a forked child nothing of the parent's producer is touched.
 */
#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <structmember.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_MS = 50, WAIT_SLICE_MS = 20, REPORTS = 1024, CLOSE_MS = 500 };

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static engine_state *state_of(producer_object *self)
{
    return engine_state_of((PyObject *)self);
}

salvo *engine_handle(producer_object *producer)
{
    if (producer->handle != NULL && !producer->closing)
        return producer->handle;
    engine_raise(state_of(producer),
                 producer->pid == getpid() ? SALVO_ERR_CLOSED : SALVO_ERR_FORKED, NULL);
    return NULL;
}

static int open_handle(producer_object *self, config_object *config, uint32_t timeout_ms)
{
    salvo_options options = {.size = sizeof options};
    options.open_timeout_ms = timeout_ms;
    options.require_broker = timeout_ms != 0;
    int err;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_open(config->config, &options, &self->handle);
    Py_END_ALLOW_THREADS
    return err;
}

/* Producer(config, delivery_class, require_broker_ms=0). Its Python subclass has resolve(list),
 * which tells the waiters of settled deliveries. */
static PyObject *producer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *config, *delivery_class;
    unsigned timeout_ms = 0;
    (void)keywords;
    PyObject *module = PyType_GetModuleByDef(type, &engine_module);
    engine_state *state = module != NULL ? PyModule_GetState(module) : NULL;
    if (state == NULL || !PyArg_ParseTuple(args, "O!O!|I", state->config_type, &config,
                                           &PyType_Type, &delivery_class, &timeout_ms))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)delivery_class, state->delivery_type)) {
        PyErr_SetString(PyExc_TypeError, "the delivery class must be a Delivery");
        return NULL;
    }
    producer_object *self = (producer_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->pid = getpid();
    self->delivery_class = Py_NewRef(delivery_class);
    self->topics = PyList_New(0);
    self->ids = PyDict_New();
    const char *limit = salvo_config_get(((config_object *)config)->config, "max_message_bytes");
    self->max_message_bytes = limit != NULL ? strtoul(limit, NULL, 10) : 1000000;
    bool room = self->topics != NULL && self->ids != NULL;
    int err = room ? open_handle(self, (config_object *)config, timeout_ms) : 0;
    if (err != 0)
        engine_raise(state, err, NULL);
    if (err != 0 || !room)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* Give up what is under way: `status` says why. Waiters are not told here. */
static void give_up(producer_object *self, int status)
{
    while (self->under_way != NULL) {
        delivery_object *delivery = self->under_way;
        salvo_report report = {.status = status, .offset = -1, .partition = -1};
        engine_delivery_settle(self, delivery, &report);
        Py_DECREF(delivery);
    }
}

static void producer_free(producer_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* First, while no other thread can run: a delivery must not lead it to a producer that dies. */
    give_up(self, self->handle != NULL ? SALVO_ERR_MAYBE : SALVO_ERR_DROPPED);
    if (self->handle != NULL && self->pid == getpid()) {
        salvo *handle = self->handle;
        int ignored;
        Py_BEGIN_ALLOW_THREADS
        ignored = salvo_close(handle, CLOSE_MS, NULL);
        Py_END_ALLOW_THREADS
        (void)ignored; /* whoever cares calls close() */
    }
    Py_XDECREF(self->topics);
    Py_XDECREF(self->ids);
    Py_XDECREF(self->delivery_class);
    type->tp_free(self);
    Py_DECREF(type);
}

static int producer_traverse(producer_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->delivery_class);
    return 0;
}

static PyObject *open_topic(producer_object *self, PyObject *args)
{
    PyObject *text;
    Py_ssize_t size;
    unsigned policy = 0;
    salvo_topic topic;
    salvo *handle = engine_handle(self);
    if (handle == NULL || !PyArg_ParseTuple(args, "U|I", &text, &policy))
        return NULL;
    const char *name = PyUnicode_AsUTF8AndSize(text, &size);
    if (name == NULL || strlen(name) != (size_t)size) { /* a lone surrogate, a zero */
        PyErr_Clear();
        return engine_raise(state_of(self), SALVO_ERR_INVALID,
                            "a topic's name is 1 to 249 of A-Z, a-z, 0-9, '.', '_' and '-'");
    }
    salvo_topic_options options = {.size = sizeof options};
    options.full_policy = (salvo_policy)policy;
    int err = salvo_topic_open(handle, name, &options, &topic);
    if (err != 0)
        return engine_raise(state_of(self), err, NULL);
    while (PyList_GET_SIZE(self->topics) <= (Py_ssize_t)topic)
        if (PyList_Append(self->topics, text) != 0)
            return NULL;
    PyObject *id = PyLong_FromUnsignedLong(topic);
    if (id != NULL && PyDict_SetItem(self->ids, text, id) != 0)
        Py_CLEAR(id);
    return id;
}

static int tell(producer_object *self, PyObject *waited_for)
{
    /* A name made anew for each call would fill the interpreter's cache of methods. */
    PyObject *name = state_of(self)->resolve_name;
    PyObject *told = PyObject_CallMethodOneArg((PyObject *)self, name, waited_for);
    Py_XDECREF(told);
    return told != NULL ? 0 : -1;
}

/* Settle `count` deliveries; those with waiters join waited_for. Nothing in here lets another
 * thread run: close() there would free what the reports point at. */
static int settle(producer_object *self, const salvo_report *reports, int count,
                  PyObject *waited_for)
{
    int failed = 0;
    for (int i = 0; i < count; i++) {
        delivery_object *delivery = (delivery_object *)(uintptr_t)reports[i].opaque;
        engine_delivery_settle(self, delivery, &reports[i]);
        if (delivery->waiters != NULL && PyList_Append(waited_for, (PyObject *)delivery) != 0)
            failed = -1;
        Py_DECREF(delivery);
    }
    return failed;
}

int engine_collect(producer_object *self)
{
    salvo_report reports[REPORTS];
    PyObject *waited_for = PyList_New(0); /* before the first report: it may collect garbage */
    int count = REPORTS, failed = waited_for == NULL ? -1 : 0;
    while (count == REPORTS && self->handle != NULL && failed == 0) {
        count = salvo_poll_reports(self->handle, reports, REPORTS);
        failed = settle(self, reports, count, waited_for);
    }
    if (failed == 0 && PyList_GET_SIZE(waited_for) != 0)
        failed = tell(self, waited_for);
    Py_XDECREF(waited_for);
    return failed;
}

static PyObject *collect(producer_object *self, PyObject *none)
{
    (void)none;
    if (engine_handle(self) == NULL || engine_collect(self) != 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *report_fd(producer_object *self, PyObject *none)
{
    (void)none;
    salvo *handle = engine_handle(self);
    if (handle == NULL)
        return NULL;
    int fd = salvo_report_fd(handle);
    if (fd < 0)
        return engine_raise(state_of(self), fd, NULL);
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* here, where no other thread can close it first */
    return fd >= 0 ? PyLong_FromLong(fd) : PyErr_SetFromErrno(PyExc_OSError);
}

/* Cut lingers short: a round of flush that nobody waits for. */
static PyObject *kick(producer_object *self, PyObject *none)
{
    (void)none;
    salvo *handle = engine_handle(self);
    if (handle == NULL)
        return NULL;
    int ignored = salvo_flush(handle, 0);
    (void)ignored; /* TIMEOUT, of course */
    Py_RETURN_NONE;
}

static int flush_slice(producer_object *self, uint64_t slice_ms)
{
    salvo *handle = self->handle;
    int err;
    self->users++;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_flush(handle, slice_ms);
    Py_END_ALLOW_THREADS
    self->users--;
    return err;
}

/* flush_once(ms): one wait, without looking at signals. For the thread that flushes for others. */
static PyObject *flush_once(producer_object *self, PyObject *arg)
{
    unsigned long timeout_ms = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred() || engine_handle(self) == NULL)
        return NULL;
    int err = flush_slice(self, timeout_ms);
    if (err != 0 && err != SALVO_ERR_TIMEOUT)
        return engine_raise(state_of(self), err, NULL);
    return PyBool_FromLong(err == 0);
}

/* 0, TIMEOUT, or -1000 with an exception set. */
static int flush_until(producer_object *self, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now = now_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
        int err = flush_slice(self, left < SLICE_MS ? left : SLICE_MS);
        if (PyErr_CheckSignals() != 0 || (self->handle != NULL && engine_collect(self) != 0))
            return -1000;
        if (err != SALVO_ERR_TIMEOUT || left <= SLICE_MS)
            return err;
        if (self->handle == NULL || self->closing)
            return SALVO_ERR_CLOSED;
    }
}

static bool parse_timeout(PyObject *arg, uint64_t *deadline_ms)
{
    double seconds = PyFloat_AsDouble(arg);
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    double ms = seconds > 0 ? seconds * 1000.0 : 0;
    *deadline_ms = now_ms() + (ms < 1e15 ? (uint64_t)ms : (uint64_t)1e15);
    return true;
}

static PyObject *flush(producer_object *self, PyObject *arg)
{
    uint64_t deadline_ms;
    if (engine_handle(self) == NULL || !parse_timeout(arg, &deadline_ms))
        return NULL;
    int err = flush_until(self, deadline_ms);
    if (err == -1000)
        return NULL;
    if (err != 0 && err != SALVO_ERR_TIMEOUT)
        return engine_raise(state_of(self), err, NULL);
    return PyBool_FromLong(err == 0);
}

/* wait(delivery, seconds): True once it is settled, False when the time has passed. */
static PyObject *wait_for(producer_object *self, PyObject *args)
{
    PyObject *object, *seconds;
    uint64_t deadline_ms;
    engine_state *state = state_of(self);
    if (state == NULL ||
        !PyArg_ParseTuple(args, "O!O", state->delivery_type, &object, &seconds) ||
        !parse_timeout(seconds, &deadline_ms))
        return NULL;
    delivery_object *delivery = (delivery_object *)object;
    while (delivery->status == DELIVERY_PENDING) {
        salvo *handle = engine_handle(self);
        uint64_t now = now_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
        if (handle == NULL)
            return NULL;
        struct pollfd fd = {.fd = salvo_report_fd(handle), .events = POLLIN};
        self->users++;
        Py_BEGIN_ALLOW_THREADS
        poll(&fd, 1, left < WAIT_SLICE_MS ? (int)left : WAIT_SLICE_MS);
        Py_END_ALLOW_THREADS
        self->users--;
        if (PyErr_CheckSignals() != 0 || (self->handle != NULL && engine_collect(self) != 0))
            return NULL;
        if (left == 0)
            break;
    }
    return PyBool_FromLong(delivery->status != DELIVERY_PENDING);
}

static void await_users(producer_object *self)
{
    while (self->users != 0) {
        struct timespec pause = {0, 1000000};
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
    }
}

/* How many messages the broker has, or may have. */
static uint64_t arrivals(salvo *handle)
{
    salvo_ledger ledger = {0};
    return salvo_get_ledger(handle, SALVO_ALL_TOPICS, &ledger) == 0
               ? ledger.acknowledged + ledger.maybe_delivered
               : 0;
}

/* close(seconds) -> how many were not delivered. Ctrl-C while it flushes leaves it open. */
static PyObject *close_producer(producer_object *self, PyObject *arg)
{
    uint64_t deadline_ms;
    salvo_close_report report = {0};
    if (!parse_timeout(arg, &deadline_ms) || engine_handle(self) == NULL)
        return NULL;
    uint64_t arrived = arrivals(self->handle);
    if (flush_until(self, deadline_ms) == -1000)
        return NULL;
    salvo *handle = engine_handle(self); /* another thread may have closed it meanwhile */
    if (handle == NULL)
        return NULL;
    self->closing = true;
    await_users(self);
    uint64_t now = now_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
    left = left < CLOSE_MS ? left : CLOSE_MS;
    int err = flush_slice(self, left); /* what other threads have sent since the flush */
    bool told = engine_collect(self) == 0;
    PyObject *type = NULL, *value = NULL, *trace = NULL; /* Ctrl-C: it closes all the same */
    PyErr_Fetch(&type, &value, &trace);
    self->handle = NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_close(handle, err == 0 ? left : 0, &report);
    Py_END_ALLOW_THREADS
    PyObject *waited_for = PyList_New(0);
    for (delivery_object *d = self->under_way; waited_for != NULL && d != NULL; d = d->next)
        if (d->waiters != NULL && PyList_Append(waited_for, (PyObject *)d) != 0)
            Py_CLEAR(waited_for);
    /* What arrived while the engine closed is reported to nobody: dropped is only what surely did
     * not. */
    uint64_t arrived_since = report.ledger.acknowledged + report.ledger.maybe_delivered - arrived;
    give_up(self, err == 0 || arrived_since != 0 ? SALVO_ERR_MAYBE : SALVO_ERR_DROPPED);
    bool told_rest = waited_for != NULL && tell(self, waited_for) == 0;
    Py_XDECREF(waited_for);
    if (!told)
        PyErr_Restore(type, value, trace);
    if (!told || !told_rest)
        return NULL;
    return PyLong_FromUnsignedLongLong(report.undelivered);
}

/* abandon(): in a forked child, forget the parent's producer without touching it. */
static PyObject *abandon(producer_object *self, PyObject *none)
{
    (void)none;
    if (self->pid != getpid()) {
        self->handle = NULL;
        give_up(self, SALVO_ERR_FORKED);
    }
    Py_RETURN_NONE;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))
static PyMethodDef methods[] = {
    {"open_topic", FAST(open_topic), METH_VARARGS, "open_topic(name, policy=0) -> id"},
    {"send", FAST(engine_send), METH_FASTCALL,
     "send(topic, value, key, headers, partition, timestamp_ms, report) -> bool or Delivery; "
     "False or None: no room"},
    {"send_value", FAST(engine_send_value), METH_FASTCALL,
     "send_value(topic, value, key=None) -> bool; False: no room"},
    {"send_json", FAST(engine_send_json), METH_FASTCALL,
     "send_json(topic, message, key, encode_into, pool) -> bool; False: no room"},
    {"send_batch", FAST(engine_send_batch), METH_FASTCALL,
     "send_batch(topic, batch, deliveries=None) -> how many this call accepted"},
    {"collect", FAST(collect), METH_NOARGS, "Settle what the waiting reports tell."},
    {"report_fd", FAST(report_fd), METH_NOARGS,
     "A duplicate, for the caller to close, of what is readable while reports wait."},
    {"kick", FAST(kick), METH_NOARGS, "Cut lingers short; waits for nothing."},
    {"flush", FAST(flush), METH_O, "flush(seconds) -> whether all is settled"},
    {"flush_once", FAST(flush_once), METH_O, "flush_once(ms) -> whether all is settled"},
    {"wait", FAST(wait_for), METH_VARARGS, "wait(delivery, seconds) -> whether it is settled"},
    {"close", FAST(close_producer), METH_O, "close(seconds) -> how many were not delivered"},
    {"abandon", FAST(abandon), METH_NOARGS, "Forget the parent's producer in a child."},
    {"stats", FAST(engine_stats), METH_NOARGS, "salvo_stats as a dict."},
    {"ledger", FAST(engine_ledger), METH_O, "ledger(topic id or None) -> dict"},
    {NULL, NULL, 0, NULL}};

static PyMemberDef members[] = {
    {"max_message_bytes", T_PYSSIZET, offsetof(producer_object, max_message_bytes), READONLY,
     "bytes of key, value and headers together"},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, producer_new},
                              {Py_tp_dealloc, producer_free},
                              {Py_tp_traverse, producer_traverse},
                              {Py_tp_methods, methods},
                              {Py_tp_members, members},
                              {Py_tp_doc, "A producer of the engine."},
                              {0, NULL}};

PyType_Spec engine_producer_spec = {.name = "salvo._engine.Producer",
                                    .basicsize = sizeof(producer_object),
                                    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                             Py_TPFLAGS_BASETYPE,
                                    .slots = slots};
