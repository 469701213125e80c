/* SPDX-License-Identifier: Apache-2.0
 *
 * Delivery: the outcome of one message, when it is known. Guarantees: its producer holds it while
 * it is under way, so nobody else needs to; it is settled once; nothing beyond the object itself
 * is allocated for one that nobody awaits.
 */
#include "engine.h"

#include <stddef.h>
#include <structmember.h>

delivery_object *engine_delivery_new(producer_object *producer, salvo_topic topic)
{
    PyTypeObject *type = (PyTypeObject *)producer->delivery_class;
    PyObject *name = PyList_GetItem(producer->topics, (Py_ssize_t)topic); /* borrowed */
    delivery_object *delivery = name != NULL ? (delivery_object *)type->tp_alloc(type, 0) : NULL;
    if (delivery == NULL)
        return NULL;
    delivery->topic = Py_NewRef(name);
    delivery->status = DELIVERY_PENDING;
    delivery->offset = -1;
    delivery->partition = -1;
    return delivery;
}

void engine_delivery_link(producer_object *producer, delivery_object *delivery)
{
    delivery->producer = producer;
    delivery->next = producer->under_way;
    if (delivery->next != NULL)
        delivery->next->previous = delivery;
    producer->under_way = (delivery_object *)Py_NewRef(delivery);
}

void engine_delivery_settle(producer_object *producer, delivery_object *delivery,
                            const salvo_report *report)
{
    if (delivery->previous != NULL)
        delivery->previous->next = delivery->next;
    else
        producer->under_way = delivery->next;
    if (delivery->next != NULL)
        delivery->next->previous = delivery->previous;
    delivery->previous = delivery->next = NULL;
    delivery->producer = NULL;
    delivery->status = report->status;
    delivery->partition = report->partition;
    delivery->offset = report->offset;
    delivery->timestamp_ms = report->timestamp_ms;
    delivery->latency_ns = report->latency_ns;
}

static void delivery_free(delivery_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->topic);
    Py_XDECREF(self->waiters);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *is_done(delivery_object *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->status != DELIVERY_PENDING);
}

static PyObject *get_producer(delivery_object *self, void *closure)
{
    (void)closure;
    return Py_NewRef(self->producer != NULL ? (PyObject *)self->producer : Py_None);
}

/* False: it is settled already. The list is made before the look at the status, because making it
 * may run the garbage collector and so another thread; nothing between look and append can. */
static PyObject *add_waiter(delivery_object *self, PyObject *waiter)
{
    PyObject *list = self->waiters == NULL ? PyList_New(0) : NULL;
    if (self->waiters == NULL && list == NULL)
        return NULL;
    if (self->waiters == NULL)
        self->waiters = Py_XNewRef(list);
    Py_XDECREF(list);
    if (self->status != DELIVERY_PENDING)
        Py_RETURN_FALSE;
    if (PyList_Append(self->waiters, waiter) != 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *take_waiters(delivery_object *self, PyObject *none)
{
    (void)none;
    PyObject *waiters = self->waiters;
    self->waiters = NULL;
    return waiters != NULL ? waiters : PyList_New(0);
}

static PyMemberDef members[] = {
    {"topic", T_OBJECT, offsetof(delivery_object, topic), READONLY, "name of the topic"},
    {"partition", T_INT, offsetof(delivery_object, partition), READONLY, "-1: not known"},
    {"offset", T_LONGLONG, offsetof(delivery_object, offset), READONLY, "-1: not known"},
    {"timestamp", T_LONGLONG, offsetof(delivery_object, timestamp_ms), READONLY,
     "milliseconds since 1970: as given, else when it was accepted"},
    {"latency_ns", T_ULONGLONG, offsetof(delivery_object, latency_ns), READONLY,
     "nanoseconds from the call to the outcome"},
    {"status", T_INT, offsetof(delivery_object, status), READONLY,
     "1: pending, 0: acknowledged, else an error's number"},
    {"waiters", T_OBJECT, offsetof(delivery_object, waiters), READONLY,
     "list of the objects kept, or None"},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef getters[] = {
    {"done", (getter)is_done, NULL, "Whether the outcome is known.", NULL},
    {"producer", (getter)get_producer, NULL, "Its producer while it is pending.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef methods[] = {
    {"add_waiter", (PyCFunction)add_waiter, METH_O,
     "Keep an object for whoever settles; False: settled."},
    {"take_waiters", (PyCFunction)take_waiters, METH_NOARGS, "The objects kept, once."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_dealloc, delivery_free},
                              {Py_tp_members, members},
                              {Py_tp_getset, getters},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "The outcome of one message."},
                              {0, NULL}};

PyType_Spec engine_delivery_spec = {.name = "salvo._engine.Delivery",
                                    .basicsize = sizeof(delivery_object),
                                    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                                             Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                    .slots = slots};
