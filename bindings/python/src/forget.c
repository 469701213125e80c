/* SPDX-License-Identifier: Apache-2.0
 *
 * Sending: what send_fire_and_forget() returns. A coroutine as asyncio sees one (await, send,
 * throw, close), without a frame. Guarantees: like a coroutine it does nothing before its first
 * step, runs once, and warns if it is never awaited; a message that is accepted at once costs no
 * Python code; whatever else happens (no engine yet, no room, JSON that takes the slow way) goes
 * on in the facade's coroutine _forget(), and nothing was sent before it began.
 */
#include "engine.h"

enum { YIELD_EVERY = 256 }; /* sends between two turns of the event loop */

typedef enum sending_step { NEW, RUNNING, YIELDED, INNER, DONE } sending_step;

typedef struct sending_object {
    PyObject_HEAD
    PyObject *facade, *topic, *message, *key; /* until it is done or has an inner one */
    PyObject *inner;                          /* the coroutine that does the rest */
    sending_step step;
} sending_object;

static void forget_arguments(sending_object *self)
{
    Py_CLEAR(self->facade);
    Py_CLEAR(self->topic);
    Py_CLEAR(self->message);
    Py_CLEAR(self->key);
}

/* sending(facade, topic, message, key) */
PyObject *engine_sending(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    engine_state *state = PyModule_GetState(module);
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "sending(facade, topic, message, key)");
        return NULL;
    }
    /* Tracked only once it has an inner one: through that a task can come back to it. */
    sending_object *self = PyObject_GC_New(sending_object, state->sending_type);
    if (self == NULL)
        return NULL;
    self->facade = Py_NewRef(args[0]);
    self->topic = Py_NewRef(args[1]);
    self->message = Py_NewRef(args[2]);
    self->key = Py_NewRef(args[3]);
    self->inner = NULL;
    self->step = NEW;
    return (PyObject *)self;
}

static void warn(void)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (PyErr_WarnEx(PyExc_RuntimeWarning,
                     "coroutine 'Producer.send_fire_and_forget' was never awaited", 1) != 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, trace);
}

static void sending_free(sending_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->step == NEW)
        warn();
    forget_arguments(self);
    Py_CLEAR(self->inner);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static int sending_traverse(sending_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->inner);
    return 0;
}

static int sending_clear(sending_object *self)
{
    Py_CLEAR(self->inner);
    if (self->step == INNER)
        self->step = DONE;
    return 0;
}

/* The engine that the facade uses now, borrowed from *owner; NULL without an exception: none. */
static producer_object *producer_of(engine_state *state, sending_object *self, PyObject **owner)
{
    *owner = PyObject_GetAttr(self->facade, state->current_name);
    bool is_one = *owner != NULL && PyObject_TypeCheck(*owner, state->producer_type);
    return is_one ? (producer_object *)*owner : NULL;
}

/* Py_True: sent. Py_False: no room. Py_None: this is not for here. NULL: an exception is set. All
 * borrowed. */
static PyObject *send_now(engine_state *state, sending_object *self, producer_object *producer)
{
    bool plain = PyUnicode_CheckExact(self->topic) && PyDict_CheckExact(self->message) &&
                 (self->key == Py_None || PyUnicode_CheckExact(self->key) ||
                  PyBytes_CheckExact(self->key));
    PyObject *id = plain && state->encode_into != NULL
                       ? PyDict_GetItemWithError(producer->ids, self->topic) : NULL;
    if (id == NULL)
        return PyErr_Occurred() ? NULL : Py_None;
    PyObject *const args[] = {id, self->message, self->key, state->encode_into, state->pool};
    PyObject *sent = engine_send_json(producer, args, 5);
    Py_XDECREF(sent); /* True and False live on */
    if (sent != NULL)
        return sent;
    if (PyErr_ExceptionMatches(state->messaging_error) || !PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyErr_Clear(); /* JSON's slower ways, or an error that names the place */
    return Py_None;
}

/* The first step. */
static PySendResult begin(engine_state *state, sending_object *self, PyObject **result)
{
    PyObject *owner;
    producer_object *producer = producer_of(state, self, &owner);
    self->step = RUNNING; /* encoding may run anything */
    PyObject *sent = NULL;
    if (owner != NULL)
        sent = producer != NULL ? send_now(state, self, producer) : Py_None;
    bool turn = sent == Py_True && ++producer->unyielded >= YIELD_EVERY;
    if (turn)
        producer->unyielded = 0;
    Py_XDECREF(owner);
    self->step = turn ? YIELDED : DONE;
    if (sent == Py_True || sent == NULL) {
        forget_arguments(self);
        *result = sent != NULL ? Py_NewRef(Py_None) : NULL;
        if (sent == NULL)
            return PYGEN_ERROR;
        return turn ? PYGEN_NEXT : PYGEN_RETURN;
    }
    PyObject *refused = sent == Py_False ? Py_True : Py_False;
    self->inner = PyObject_CallMethodObjArgs(self->facade, state->forget_name, self->topic,
                                             self->message, self->key, refused, NULL);
    forget_arguments(self);
    *result = NULL;
    if (self->inner == NULL)
        return PYGEN_ERROR;
    self->step = INNER;
    PyObject_GC_Track(self);
    return PYGEN_NEXT;
}

static PySendResult send_inner(sending_object *self, PyObject *value, PyObject **result)
{
    PyObject *inner = Py_NewRef(self->inner);
    PySendResult how = PyIter_Send(inner, value, result);
    if (how != PYGEN_NEXT) {
        self->step = DONE;
        Py_CLEAR(self->inner);
    }
    Py_DECREF(inner);
    return how;
}

static PySendResult sending_send(sending_object *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    switch (self->step) {
    case NEW: {
        engine_state *state = engine_state_of((PyObject *)self);
        if (value != NULL && value != Py_None)
            PyErr_SetString(PyExc_TypeError,
                            "can't send non-None value to a just-started coroutine");
        if (state == NULL || (value != NULL && value != Py_None))
            return PYGEN_ERROR;
        PySendResult how = begin(state, self, result);
        return self->step == INNER ? send_inner(self, Py_None, result) : how;
    }
    case YIELDED:
        self->step = DONE;
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    case INNER:
        return send_inner(self, value != NULL ? value : Py_None, result);
    case RUNNING:
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    default:
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
}

static PyObject *sending_next(sending_object *self)
{
    PyObject *result;
    if (sending_send(self, Py_None, &result) == PYGEN_NEXT)
        return result;
    Py_XDECREF(result); /* None; without an exception the end says the same */
    return NULL;
}

static PyObject *send_method(sending_object *self, PyObject *value)
{
    PyObject *result;
    PySendResult how = sending_send(self, value, &result);
    if (how == PYGEN_NEXT)
        return result;
    Py_XDECREF(result);
    if (how == PYGEN_RETURN)
        PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

static void raise_given(PyObject *type, PyObject *value, PyObject *trace)
{
    if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    } else if (PyExceptionClass_Check(type)) {
        PyErr_Restore(Py_NewRef(type), Py_XNewRef(value == Py_None ? NULL : value),
                      Py_XNewRef(trace == Py_None ? NULL : trace));
    } else {
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances deriving from "
                                         "BaseException");
    }
}

static PyObject *throw_method(sending_object *self, PyObject *args)
{
    PyObject *type, *value = NULL, *trace = NULL;
    if (!PyArg_ParseTuple(args, "O|OO", &type, &value, &trace))
        return NULL;
    if (self->step == INNER) {
        PyObject *inner = Py_NewRef(self->inner);
        PyObject *method = PyObject_GetAttrString(inner, "throw");
        PyObject *result = method != NULL ? PyObject_CallObject(method, args) : NULL;
        Py_XDECREF(method);
        if (result == NULL) {
            self->step = DONE;
            Py_CLEAR(self->inner);
        }
        Py_DECREF(inner);
        return result;
    }
    if (self->step == RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    self->step = DONE;
    forget_arguments(self);
    raise_given(type, value, trace);
    return NULL;
}

static PyObject *close_method(sending_object *self, PyObject *none)
{
    (void)none;
    if (self->step == RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    PyObject *inner = self->inner;
    self->inner = NULL;
    self->step = DONE;
    forget_arguments(self);
    PyObject *closed = inner != NULL ? PyObject_CallMethod(inner, "close", NULL)
                                     : Py_NewRef(Py_None);
    Py_XDECREF(inner);
    return closed;
}

static PyObject *get_name(sending_object *self, void *name)
{
    (void)self;
    return PyUnicode_FromString(name);
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)send_method, METH_O, "As a coroutine's."},
    {"throw", (PyCFunction)throw_method, METH_VARARGS, "As a coroutine's."},
    {"close", (PyCFunction)close_method, METH_NOARGS, "As a coroutine's."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef getters[] = { /* for what asyncio prints */
    {"__name__", (getter)get_name, NULL, NULL, "send_fire_and_forget"},
    {"__qualname__", (getter)get_name, NULL, NULL, "Producer.send_fire_and_forget"},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {{Py_tp_dealloc, sending_free},
                              {Py_tp_traverse, sending_traverse},
                              {Py_tp_clear, sending_clear},
                              {Py_tp_iter, PyObject_SelfIter},
                              {Py_tp_iternext, sending_next},
                              {Py_am_await, PyObject_SelfIter},
                              {Py_am_send, sending_send},
                              {Py_tp_methods, methods},
                              {Py_tp_getset, getters},
                              {Py_tp_doc, "A message that is sent when it is awaited."},
                              {0, NULL}};

PyType_Spec engine_sending_spec = {.name = "salvo._engine.Sending",
                                   .basicsize = sizeof(sending_object),
                                   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                            Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                   .slots = slots};
