/* SPDX-License-Identifier: Apache-2.0
 *
 * Batch: values made ready in one go, so that sending them touches no Python object. Guarantees:
 * what it points at lives as long as it does; it is built whole or not at all, so a bad item is
 * found before anything is sent; it remembers how far it was sent.
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

batch_object *engine_batch_alloc(PyObject *type, size_t count)
{
    PyTypeObject *of = (PyTypeObject *)type;
    batch_object *batch = (batch_object *)of->tp_alloc(of, 0);
    if (batch == NULL)
        return NULL;
    if (count <= PY_SSIZE_T_MAX / sizeof *batch->values)
        batch->values = malloc((count != 0 ? count : 1) * sizeof *batch->values);
    if (batch->values == NULL) {
        Py_DECREF(batch);
        PyErr_NoMemory();
        return NULL;
    }
    return batch;
}

static void batch_free(batch_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t i = 0; i < self->buffer_count; i++)
        PyBuffer_Release(&self->buffers[i]);
    free(self->buffers);
    free(self->values);
    free(self->keys);
    engine_blocks_give(engine_state_of((PyObject *)self), self->blocks);
    Py_XDECREF(self->owners);
    Py_XDECREF(self->key_owners);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool add_value(batch_object *batch, PyObject *item)
{
    salvo_bytes *value = &batch->values[batch->count];
    if (item == Py_None) {
        *value = (salvo_bytes){NULL, 0};
    } else if (PyBytes_CheckExact(item)) {
        *value = (salvo_bytes){PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item)};
    } else {
        if (batch->buffers == NULL)
            batch->buffers = calloc((size_t)PyTuple_GET_SIZE(batch->owners),
                                    sizeof *batch->buffers);
        if (batch->buffers == NULL)
            return PyErr_NoMemory() != NULL;
        Py_buffer *buffer = &batch->buffers[batch->buffer_count];
        if (!engine_view(item, value, buffer))
            return false;
        batch->buffer_count += buffer->obj != NULL;
    }
    engine_batch_measure(batch, batch->count++);
    return true;
}

/* values(items): bytes, str, buffers, None (a null value). */
static PyObject *batch_values(PyObject *type, PyObject *items)
{
    PyObject *owners = PySequence_Tuple(items);
    batch_object *batch =
        owners != NULL ? engine_batch_alloc(type, (size_t)PyTuple_GET_SIZE(owners)) : NULL;
    if (batch == NULL) {
        Py_XDECREF(owners);
        return NULL;
    }
    batch->owners = owners;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(owners); i++)
        if (!add_value(batch, PyTuple_GET_ITEM(owners, i))) {
            Py_DECREF(batch);
            return NULL;
        }
    return (PyObject *)batch;
}

static bool add_keys(batch_object *batch, PyObject *keys)
{
    if (PyBytes_CheckExact(keys)) {
        batch->key_owners = Py_NewRef(keys);
        batch->one_key =
            (salvo_bytes){PyBytes_AS_STRING(keys), (size_t)PyBytes_GET_SIZE(keys)};
        return true;
    }
    batch->key_owners = PySequence_Tuple(keys);
    if (batch->key_owners == NULL)
        return false;
    if ((size_t)PyTuple_GET_SIZE(batch->key_owners) != batch->count) {
        PyErr_SetString(PyExc_ValueError, "one key per value is needed");
        return false;
    }
    batch->keys = calloc(batch->count != 0 ? batch->count : 1, sizeof *batch->keys);
    if (batch->keys == NULL)
        return PyErr_NoMemory() != NULL;
    for (size_t i = 0; i < batch->count; i++) {
        PyObject *key = PyTuple_GET_ITEM(batch->key_owners, (Py_ssize_t)i);
        if (key == Py_None)
            continue;
        if (!PyBytes_CheckExact(key)) {
            PyErr_SetString(PyExc_TypeError, "keys are bytes or None here");
            return false;
        }
        batch->keys[i] = (salvo_bytes){PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)};
    }
    return true;
}

/* set_keys(bytes for all, or a list of bytes and None): once, before the first send. */
static PyObject *set_keys(batch_object *self, PyObject *keys)
{
    if (self->key_owners != NULL) {
        PyErr_SetString(PyExc_ValueError, "the batch has keys already");
        return NULL;
    }
    if (!add_keys(self, keys))
        return NULL;
    self->largest_bytes = 0;
    for (size_t i = 0; i < self->count; i++)
        engine_batch_measure(self, i);
    Py_RETURN_NONE;
}

/* all_bytes(list): exactly bytes, no subclass; False for an empty list. */
PyObject *engine_all_bytes(PyObject *module, PyObject *items)
{
    (void)module;
    bool all = PyList_CheckExact(items) && PyList_GET_SIZE(items) != 0;
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(items); i++)
        all = PyBytes_CheckExact(PyList_GET_ITEM(items, i));
    return PyBool_FromLong(all);
}

static Py_ssize_t batch_length(batch_object *self)
{
    return (Py_ssize_t)self->count;
}

static PyObject *get_sent(batch_object *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(self->sent);
}

static PyMethodDef methods[] = {
    {"lines", engine_batch_lines, METH_VARARGS | METH_CLASS,
     "lines(encode_lines, items, only_dicts) -> Batch or None"},
    {"values", batch_values, METH_O | METH_CLASS, "values(items) -> Batch"},
    {"set_keys", (PyCFunction)set_keys, METH_O, "One key for all, or a list of keys."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef getters[] = {{"sent", (getter)get_sent, NULL, "How many were accepted.", NULL},
                                {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {{Py_tp_dealloc, batch_free},
                              {Py_tp_methods, methods},
                              {Py_tp_getset, getters},
                              {Py_sq_length, batch_length},
                              {Py_tp_doc, "Values that are ready to be sent."},
                              {0, NULL}};

PyType_Spec engine_batch_spec = {.name = "salvo._engine.Batch",
                                 .basicsize = sizeof(batch_object),
                                 .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 .slots = slots};
