/* SPDX-License-Identifier: Apache-2.0
 *
 * Sends. Topics are opened without the policy `block`, so none of these calls can wait and the GIL
 * is kept; salvo/messaging repeats a refused one as the topic's policy says. Guarantees: False,
 * None or a short count means that there was no room; anything else that is wrong is raised, and
 * found before the first message of a batch is sent where a look at the batch can tell.
 */
#include "engine.h"

#include <stdio.h>

enum { HEADERS_MAX = 64, POOLED_BYTES_MAX = 64 << 10 };

static PyObject *fail(producer_object *self, int err)
{
    return engine_raise(engine_state_of((PyObject *)self), err, NULL);
}

static bool parse_topic(PyObject *arg, salvo_topic *topic)
{
    unsigned long id = PyLong_AsUnsignedLong(arg);
    *topic = (salvo_topic)id;
    return !(id == (unsigned long)-1 && PyErr_Occurred());
}

/* A value that nobody can change while the GIL is held: a bytearray needs no export. */
static bool view_now(PyObject *object, salvo_bytes *view, Py_buffer *buffer)
{
    buffer->obj = NULL;
    if (PyByteArray_CheckExact(object)) {
        *view = (salvo_bytes){PyByteArray_AS_STRING(object),
                              (size_t)PyByteArray_GET_SIZE(object)};
        return true;
    }
    if (object == Py_None) {
        *view = (salvo_bytes){NULL, 0};
        return true;
    }
    return engine_view(object, view, buffer);
}

PyObject *engine_send_value(producer_object *self, PyObject *const *args, Py_ssize_t count)
{
    salvo_topic topic;
    salvo_bytes value, key = {NULL, 0};
    Py_buffer buffer, key_buffer = {.obj = NULL};
    if (count < 2 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "send_value(topic, value, key=None)");
        return NULL;
    }
    if (!parse_topic(args[0], &topic) || !view_now(args[1], &value, &buffer))
        return NULL;
    if (count == 3 && !view_now(args[2], &key, &key_buffer)) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    salvo *handle = engine_handle(self); /* last: a buffer's exporter may run anything */
    int err = handle != NULL ? salvo_send_fire_and_forget(handle, topic, key.data, key.len,
                                                          value.data, value.len)
                             : 0;
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&key_buffer);
    if (handle == NULL)
        return NULL;
    if (err == 0)
        Py_RETURN_TRUE;
    if (err == SALVO_ERR_FULL)
        Py_RETURN_FALSE;
    return fail(self, err);
}

/* A buffer that nobody else uses until it is appended again. */
static PyObject *take_buffer(PyObject *pool)
{
    Py_ssize_t count = PyList_GET_SIZE(pool);
    if (count == 0)
        return PyByteArray_FromStringAndSize(NULL, 512);
    PyObject *buffer = Py_NewRef(PyList_GET_ITEM(pool, count - 1));
    if (PyList_SetSlice(pool, count - 1, count, NULL) == 0 && PyByteArray_CheckExact(buffer))
        return buffer;
    Py_DECREF(buffer);
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "the pool holds bytearrays only");
    return NULL;
}

static PyObject *send_buffer(producer_object *self, salvo_topic topic, PyObject *buffer,
                             PyObject *key, PyObject *pool)
{
    salvo_bytes key_view;
    Py_buffer key_buffer;
    if (!view_now(key, &key_view, &key_buffer))
        return NULL;
    salvo *handle = engine_handle(self); /* encoding may have run anything, close() too */
    if (handle == NULL) {
        PyBuffer_Release(&key_buffer);
        return NULL;
    }
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    int err = salvo_send_fire_and_forget(handle, topic, key_view.data, key_view.len,
                                         PyByteArray_AS_STRING(buffer), (size_t)size);
    PyBuffer_Release(&key_buffer);
    if (size <= POOLED_BYTES_MAX && PyList_Append(pool, buffer) != 0)
        PyErr_Clear(); /* one buffer less; the message is what counts */
    if (err != 0 && err != SALVO_ERR_FULL)
        return fail(self, err);
    return PyBool_FromLong(err == 0);
}

/* send_json(topic, message, key, encode_into, pool) */
PyObject *engine_send_json(producer_object *self, PyObject *const *args, Py_ssize_t count)
{
    salvo_topic topic;
    if (count != 5 || !PyList_CheckExact(args[4])) {
        PyErr_SetString(PyExc_TypeError, "send_json(topic, message, key, encode_into, pool)");
        return NULL;
    }
    PyObject *buffer = parse_topic(args[0], &topic) ? take_buffer(args[4]) : NULL;
    if (buffer == NULL)
        return NULL;
    PyObject *const call[] = {args[1], buffer};
    PyObject *encoded = PyObject_Vectorcall(args[3], call, 2, NULL);
    PyObject *sent = encoded != NULL ? send_buffer(self, topic, buffer, args[2], args[4]) : NULL;
    Py_XDECREF(encoded);
    Py_DECREF(buffer);
    return sent;
}

/* Headers: a sequence of (str, bytes or None). Their memory lives as long as `owner`. */
static bool parse_headers(PyObject *owner, salvo_header *headers, salvo_message *message)
{
    Py_ssize_t count = PyTuple_GET_SIZE(owner);
    if (count > HEADERS_MAX) {
        PyErr_Format(PyExc_ValueError, "%zd headers; at most %d are allowed", count, HEADERS_MAX);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name, *value;
        Py_ssize_t name_len;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(owner, i), "UO", &name, &value))
            return false;
        headers[i].name = PyUnicode_AsUTF8AndSize(name, &name_len);
        if (headers[i].name == NULL)
            return false;
        headers[i].name_len = (size_t)name_len;
        headers[i].value = value != Py_None ? PyBytes_AsString(value) : NULL;
        headers[i].value_len = value != Py_None ? (size_t)PyBytes_GET_SIZE(value) : 0;
        if (headers[i].value == NULL && value != Py_None)
            return false;
    }
    message->headers = headers;
    message->header_count = (size_t)count;
    return true;
}

static PyObject *send_message(producer_object *self, salvo *handle, salvo_topic topic,
                              salvo_message *message, bool report)
{
    delivery_object *delivery = report ? engine_delivery_new(self, topic) : NULL;
    if (report && delivery == NULL)
        return NULL;
    message->report = report;
    message->opaque = (uint64_t)(uintptr_t)delivery;
    int err = salvo_send(handle, topic, message);
    if (err == 0 && !report)
        Py_RETURN_TRUE;
    if (err == 0) {
        engine_delivery_link(self, delivery);
        return (PyObject *)delivery;
    }
    Py_XDECREF(delivery);
    if (err != SALVO_ERR_FULL && !(report && err == SALVO_ERR_LIMIT))
        return fail(self, err);
    if (report && err == SALVO_ERR_LIMIT && engine_collect(self) != 0)
        return NULL; /* too many reports are on their way: room comes as they are taken */
    return report ? Py_NewRef(Py_None) : Py_NewRef(Py_False);
}

static bool parse_numbers(PyObject *const *args, salvo_message *message, bool *report)
{
    long partition = PyLong_AsLong(args[0]);
    if (partition == -1 && PyErr_Occurred())
        return false;
    if (partition < -1 || partition >= INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "partition %ld: 0 or more, or None", partition);
        return false;
    }
    message->partition_plus1 = (int32_t)partition + 1;
    message->timestamp_ms = PyLong_AsLongLong(args[1]);
    if (message->timestamp_ms == -1 && PyErr_Occurred())
        return false;
    int asked = PyObject_IsTrue(args[2]);
    *report = asked == 1;
    return asked >= 0;
}

/* send(topic, value, key, headers tuple, partition or -1, timestamp_ms or 0, report) */
PyObject *engine_send(producer_object *self, PyObject *const *args, Py_ssize_t count)
{
    salvo_header headers[HEADERS_MAX];
    salvo_message message = {0};
    salvo_topic topic;
    salvo_bytes value, key;
    Py_buffer buffer = {.obj = NULL}, key_buffer = {.obj = NULL};
    bool report;
    if (count != 7 || !PyTuple_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError,
                        "send(topic, value, key, headers, partition, timestamp_ms, report)");
        return NULL;
    }
    PyObject *result = NULL;
    if (parse_topic(args[0], &topic) && view_now(args[1], &value, &buffer) &&
        view_now(args[2], &key, &key_buffer) && parse_headers(args[3], headers, &message) &&
        parse_numbers(args + 4, &message, &report)) {
        message.value = value.data;
        message.value_len = value.len;
        message.key = key.data;
        message.key_len = key.len;
        salvo *handle = engine_handle(self); /* last: a buffer's exporter may run anything */
        result = handle != NULL ? send_message(self, handle, topic, &message, report) : NULL;
    }
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&key_buffer);
    return result;
}

static salvo_bytes key_of(const batch_object *batch, size_t index)
{
    return batch->keys != NULL ? batch->keys[index] : batch->one_key;
}

/* One by one: with keys. Returns how many were accepted, or a negative error if none was. */
static int64_t send_keyed(salvo *handle, salvo_topic topic, batch_object *batch)
{
    int64_t accepted = 0;
    for (size_t i = batch->sent; i < batch->count; i++) {
        salvo_bytes key = key_of(batch, i), value = batch->values[i];
        int err = salvo_send_fire_and_forget(handle, topic, key.data, key.len, value.data,
                                             value.len);
        if (err != 0)
            return accepted != 0 || err == SALVO_ERR_FULL ? accepted : err;
        accepted++;
    }
    return accepted;
}

/* One by one: with a delivery for each. */
static PyObject *send_reported(producer_object *self, salvo *handle, salvo_topic topic,
                               batch_object *batch, PyObject *deliveries)
{
    size_t before = batch->sent;
    while (batch->sent < batch->count) {
        salvo_bytes key = key_of(batch, batch->sent), value = batch->values[batch->sent];
        salvo_message message = {
            .value = value.data, .value_len = value.len, .key = key.data, .key_len = key.len};
        PyObject *delivery = send_message(self, handle, topic, &message, true);
        if (delivery == NULL)
            return NULL;
        if (delivery == Py_None) {
            Py_DECREF(delivery);
            break;
        }
        batch->sent++; /* it is accepted, whatever happens to the list */
        int failed = PyList_Append(deliveries, delivery);
        Py_DECREF(delivery);
        if (failed)
            return NULL;
    }
    return PyLong_FromSize_t(batch->sent - before);
}

static PyObject *refuse_too_large(producer_object *self, const batch_object *batch)
{
    char text[160];
    snprintf(text, sizeof text,
             "item %zu: key and value together have %zu bytes; max_message_bytes is %zu; nothing "
             "was sent",
             batch->largest_index, batch->largest_bytes, self->max_message_bytes);
    return engine_raise(engine_state_of((PyObject *)self), SALVO_ERR_TOO_LARGE, text);
}

PyObject *engine_send_batch(producer_object *self, PyObject *const *args, Py_ssize_t count)
{
    engine_state *state = engine_state_of((PyObject *)self);
    salvo *handle = engine_handle(self);
    salvo_topic topic;
    if (handle == NULL)
        return NULL;
    if (count < 2 || count > 3 || Py_TYPE(args[1]) != state->batch_type ||
        (count == 3 && args[2] != Py_None && !PyList_Check(args[2]))) {
        PyErr_SetString(PyExc_TypeError, "send_batch(topic, batch, deliveries=None)");
        return NULL;
    }
    batch_object *batch = (batch_object *)args[1];
    if (!parse_topic(args[0], &topic))
        return NULL;
    if (batch->sent == 0 && batch->largest_bytes > self->max_message_bytes)
        return refuse_too_large(self, batch);
    if (count == 3 && args[2] != Py_None)
        return send_reported(self, handle, topic, batch, args[2]);
    int64_t accepted =
        batch->key_owners != NULL
            ? send_keyed(handle, topic, batch)
            : salvo_send_batch_fire_and_forget(handle, topic, batch->values + batch->sent,
                                               batch->count - batch->sent);
    if (accepted < 0)
        return fail(self, (int)accepted);
    batch->sent += (size_t)accepted;
    return PyLong_FromLongLong(accepted);
}
