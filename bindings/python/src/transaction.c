/* SPDX-License-Identifier: Apache-2.0
 *
 * Transaction: what is sent, and the input it was made from, settled in one step. Guarantees: every
 * call that waits releases the GIL; a commit holds the consumer for itself from the first
 * acknowledgement to the broker's answer, so that no message changes hands in between; one of two
 * calls at the same time is refused; in a forked child nothing of the parent's is touched.
 */
#include "consume.h"

#include <salvo/transaction.h>
#include <string.h>
#include <unistd.h>

enum { CLOSE_MS = 500, HEADERS_MAX = 64 };

typedef struct transaction_object {
    PyObject_HEAD
    salvo_transaction *handle; /* NULL: closed */
    pid_t pid;
    bool busy;
} transaction_object;

static engine_state *state_of(transaction_object *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

static uint32_t ms_of(double seconds)
{
    return seconds > 0 ? seconds < 4e6 ? (uint32_t)(seconds * 1000.0) : UINT32_MAX : 0;
}

/* The handle, for this call alone, or NULL with an exception set. */
static salvo_transaction *take(transaction_object *self)
{
    if (self->pid != getpid() || self->handle == NULL) {
        bool is_ours = self->pid == getpid();
        engine_raise(state_of(self), is_ours ? SALVO_ERR_CLOSED : SALVO_ERR_FORKED,
                     is_ours ? "the transaction is closed"
                             : "the transaction belongs to the parent of this process");
        return NULL;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another thread uses the transaction");
        return NULL;
    }
    self->busy = true;
    return self->handle;
}

static PyObject *give(transaction_object *self, int err)
{
    self->busy = false;
    return err == 0 ? Py_NewRef(Py_None) : engine_raise(state_of(self), err, NULL);
}

/* Transaction(config, id, seconds) */
static PyObject *transaction_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    engine_state *state = PyType_GetModuleState(type);
    PyObject *config;
    const char *id;
    double seconds = 30.0;
    int err;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O!s|d", state->config_type, &config, &id, &seconds))
        return NULL;
    transaction_object *self = (transaction_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->pid = getpid();
    salvo_transaction *handle = NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_transaction_open(((config_object *)config)->config, id, ms_of(seconds), &handle);
    Py_END_ALLOW_THREADS
    self->handle = err == 0 ? handle : NULL;
    if (err == 0)
        return (PyObject *)self;
    engine_raise(state, err, NULL);
    Py_DECREF(self);
    return NULL;
}

static PyObject *begin(transaction_object *self, PyObject *none)
{
    (void)none;
    salvo_transaction *handle = take(self);
    int err;
    if (handle == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_transaction_begin(handle);
    Py_END_ALLOW_THREADS
    return give(self, err);
}

/* --- send --- */

/* Bytes or None; they live as long as their owner. */
static bool bytes_of(PyObject *object, const void **data, size_t *len)
{
    bool is_none = object == Py_None;
    if (!is_none && !PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "bytes or None, not %.100s", Py_TYPE(object)->tp_name);
        return false;
    }
    *data = is_none ? NULL : PyBytes_AS_STRING(object);
    *len = is_none ? 0 : (size_t)PyBytes_GET_SIZE(object);
    return true;
}

static bool headers_of(PyObject *pairs, salvo_header *headers, salvo_message *message)
{
    if (!PyTuple_Check(pairs) || PyTuple_GET_SIZE(pairs) > HEADERS_MAX) {
        PyErr_Format(PyExc_ValueError, "headers: a tuple of at most %d pairs", HEADERS_MAX);
        return false;
    }
    message->headers = headers;
    message->header_count = (size_t)PyTuple_GET_SIZE(pairs);
    for (size_t i = 0; i < message->header_count; i++) {
        PyObject *name, *value;
        Py_ssize_t name_len;
        const void *data;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(pairs, (Py_ssize_t)i), "UO", &name, &value) ||
            !bytes_of(value, &data, &headers[i].value_len))
            return false;
        headers[i].value = data;
        headers[i].name = PyUnicode_AsUTF8AndSize(name, &name_len);
        headers[i].name_len = (size_t)name_len;
        if (headers[i].name == NULL)
            return false;
    }
    return true;
}

/* send(topic, value, key, headers, seconds): queues one message; waits while there is no room. */
static PyObject *send_one(transaction_object *self, PyObject *args)
{
    salvo_header headers[HEADERS_MAX];
    salvo_message message = {0};
    PyObject *value, *key, *pairs;
    const char *topic;
    double seconds;
    int err;
    if (!PyArg_ParseTuple(args, "sOOOd", &topic, &value, &key, &pairs, &seconds) ||
        !bytes_of(value, &message.value, &message.value_len) ||
        !bytes_of(key, &message.key, &message.key_len) ||
        !headers_of(pairs, headers, &message))
        return NULL;
    salvo_transaction *handle = take(self);
    if (handle == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS /* `args` keeps alive what the message points at */
    err = salvo_transaction_send(handle, topic, &message, ms_of(seconds));
    Py_END_ALLOW_THREADS
    return give(self, err);
}

/* --- commit and abort --- */

/* The ids of a list of messages, for PyMem_Free; NULL with an exception set. */
static uint64_t *ids_of(engine_state *state, PyObject *messages)
{
    size_t count = (size_t)PyList_GET_SIZE(messages);
    uint64_t *ids = PyMem_Calloc(count + 1, sizeof *ids);
    if (ids == NULL)
        return (uint64_t *)PyErr_NoMemory();
    for (size_t i = 0; i < count; i++) {
        PyObject *message = PyList_GET_ITEM(messages, (Py_ssize_t)i);
        if (!Py_IS_TYPE(message, state->message_type)) {
            PyErr_SetString(PyExc_TypeError, "commit: a list of messages is needed");
            PyMem_Free(ids);
            return NULL;
        }
        ids[i] = ((message_object *)message)->id;
    }
    return ids;
}

/* 0; TRANSIENT: some of the messages are not this member's any more. */
static int commit_with(salvo_transaction *handle, salvo_consumer *consumer, const uint64_t *ids,
                       size_t count, uint32_t timeout_ms, bool *moved)
{
    int64_t settled = consumer != NULL ? salvo_consumer_ack(consumer, ids, count) : 0;
    *moved = settled >= 0 && (size_t)settled != count;
    if (settled < 0)
        return (int)settled;
    return *moved ? SALVO_ERR_TRANSIENT : salvo_transaction_commit(handle, consumer, timeout_ms);
}

/* commit(consumer, messages, seconds): with these messages of it settled, all of them or none.
 * consumer None: with no input. */
static PyObject *commit(transaction_object *self, PyObject *args)
{
    engine_state *state = state_of(self);
    PyObject *from, *messages;
    double seconds;
    bool moved = false;
    if (!PyArg_ParseTuple(args, "OO!d", &from, &PyList_Type, &messages, &seconds))
        return NULL;
    if (from != Py_None && !Py_IS_TYPE(from, state->consumer_type)) {
        PyErr_SetString(PyExc_TypeError, "commit: a Consumer or None");
        return NULL;
    }
    size_t count = (size_t)PyList_GET_SIZE(messages);
    uint64_t *ids = ids_of(state, messages);
    salvo_transaction *handle = ids != NULL ? take(self) : NULL;
    bool has_input = handle != NULL && from != Py_None;
    salvo_consumer *consumer = has_input ? engine_consumer_take((consumer_object *)from) : NULL;
    if (handle == NULL || (has_input && consumer == NULL)) {
        PyMem_Free(ids);
        self->busy = handle != NULL ? false : self->busy;
        return NULL;
    }
    int err;
    Py_BEGIN_ALLOW_THREADS
    err = commit_with(handle, consumer, ids, count, ms_of(seconds), &moved);
    Py_END_ALLOW_THREADS
    PyMem_Free(ids);
    if (has_input)
        engine_consumer_give((consumer_object *)from);
    self->busy = false;
    if (err != 0)
        engine_raise(state, err,
                     moved ? "some of the input went to another member of the group" : NULL);
    return err == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *abort_it(transaction_object *self, PyObject *arg)
{
    double seconds = PyFloat_AsDouble(arg);
    salvo_transaction *handle = PyErr_Occurred() == NULL ? take(self) : NULL;
    int err;
    if (handle == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_transaction_abort(handle, ms_of(seconds));
    Py_END_ALLOW_THREADS
    return give(self, err);
}

/* close(seconds): an open transaction is aborted. Closed already: nothing. */
static PyObject *close_it(transaction_object *self, PyObject *arg)
{
    double seconds = PyFloat_AsDouble(arg);
    if (PyErr_Occurred())
        return NULL;
    if (self->pid != getpid() || self->handle == NULL)
        Py_RETURN_NONE;
    salvo_transaction *handle = take(self);
    if (handle == NULL)
        return NULL;
    self->handle = NULL;
    Py_BEGIN_ALLOW_THREADS
    salvo_transaction_close(handle, ms_of(seconds));
    Py_END_ALLOW_THREADS
    return give(self, 0);
}

static void transaction_free(transaction_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->handle != NULL && self->pid == getpid()) {
        salvo_transaction *handle = self->handle;
        Py_BEGIN_ALLOW_THREADS
        salvo_transaction_close(handle, CLOSE_MS);
        Py_END_ALLOW_THREADS
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static int transaction_traverse(transaction_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

#define PLAIN(function) ((PyCFunction)(void (*)(void))(function))
static PyMethodDef methods[] = {
    {"begin", PLAIN(begin), METH_NOARGS, "Begin a transaction."},
    {"send", PLAIN(send_one), METH_VARARGS, "send(topic, value, key, headers, seconds)"},
    {"commit", PLAIN(commit), METH_VARARGS,
     "commit(consumer, messages, seconds): what was sent, and these messages of it as settled."},
    {"abort", PLAIN(abort_it), METH_O, "abort(seconds): nothing of it is ever seen."},
    {"close", PLAIN(close_it), METH_O, "close(seconds): what is open is aborted."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, transaction_new},
                              {Py_tp_dealloc, transaction_free},
                              {Py_tp_traverse, transaction_traverse},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "A transactional producer of its own."},
                              {0, NULL}};

/* Not a base type: state_of() asks the type itself. */
PyType_Spec engine_transaction_spec = {.name = "salvo._engine.Transaction",
                                       .basicsize = sizeof(transaction_object),
                                       .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                                       .slots = slots};
