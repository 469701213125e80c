/* SPDX-License-Identifier: Apache-2.0
 *
 * Message: what was read. Guarantees: immutable; key and value are made once, headers when they
 * are asked for; json() decodes anew each time, so that who handles a message a second time does
 * not see what the first one did to it.
 */
#include "consume.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* Headers are kept packed in one bytes object: for each its two lengths, name and value. */
typedef struct packed_header {
    uint32_t name_len, value_len; /* value_len UINT32_MAX: null */
} packed_header;

static bool packed_size(const salvo_record *record, size_t *size)
{
    *size = 0;
    for (size_t i = 0; i < record->header_count; i++) {
        const salvo_header *header = &record->headers[i];
        if (header->name_len >= UINT32_MAX || header->value_len >= UINT32_MAX)
            return false;
        *size += sizeof(packed_header) + header->name_len + header->value_len;
    }
    return *size <= PY_SSIZE_T_MAX / 2;
}

static char *put(char *at, const void *bytes, size_t len)
{
    if (len != 0)
        memcpy(at, bytes, len);
    return at + len;
}

static PyObject *pack_headers(const salvo_record *record)
{
    size_t size;
    if (!packed_size(record, &size)) {
        PyErr_SetString(PyExc_OverflowError, "a message's headers are over 4 GB");
        return NULL;
    }
    PyObject *packed = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    char *at = packed != NULL ? PyBytes_AS_STRING(packed) : NULL;
    for (size_t i = 0; at != NULL && i < record->header_count; i++) {
        const salvo_header *header = &record->headers[i];
        bool is_null = header->value == NULL;
        packed_header lengths = {(uint32_t)header->name_len,
                                 is_null ? UINT32_MAX : (uint32_t)header->value_len};
        at = put(at, &lengths, sizeof lengths);
        at = put(at, header->name, header->name_len);
        at = put(at, header->value, is_null ? 0 : header->value_len);
    }
    return packed;
}

static PyObject *bytes_or_none(const void *data, size_t len)
{
    if (data == NULL)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
}

static message_object *message_alloc(PyTypeObject *type, PyObject *topic)
{
    message_object *self = PyObject_New(message_object, type);
    if (self == NULL) {
        Py_DECREF(topic);
        return NULL;
    }
    self->topic = topic;
    self->key = self->value = self->headers = NULL;
    return self;
}

PyObject *engine_message_of(PyTypeObject *type, PyObject *topic, const salvo_delivered *given)
{
    const salvo_record *record = &given->record;
    message_object *self = message_alloc(type, topic);
    if (self == NULL)
        return NULL;
    self->id = given->id;
    self->offset = record->offset;
    self->timestamp_ms = record->timestamp_ms;
    self->partition = record->partition;
    self->deliveries = given->deliveries;
    self->key = bytes_or_none(record->key, record->key_len);
    self->value = bytes_or_none(record->value, record->value_len);
    if (record->header_count != 0)
        self->headers = pack_headers(record);
    if (self->key == NULL || self->value == NULL ||
        (record->header_count != 0 && self->headers == NULL))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void message_free(message_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->topic);
    Py_XDECREF(self->key);
    Py_XDECREF(self->value);
    Py_XDECREF(self->headers);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Adds the header at *at to the dict, and moves on. A name that is no UTF-8 is shown as such. */
static bool unpack(PyObject *headers, const char **at)
{
    packed_header lengths;
    memcpy(&lengths, *at, sizeof lengths);
    const char *name = *at + sizeof lengths, *value = name + lengths.name_len;
    bool is_null = lengths.value_len == UINT32_MAX;
    PyObject *key = PyUnicode_DecodeUTF8(name, (Py_ssize_t)lengths.name_len, "replace");
    PyObject *held = bytes_or_none(is_null ? NULL : value, lengths.value_len);
    bool added = key != NULL && held != NULL && PyDict_SetItem(headers, key, held) == 0;
    Py_XDECREF(key);
    Py_XDECREF(held);
    *at = value + (is_null ? 0 : lengths.value_len);
    return added;
}

static PyObject *get_headers(message_object *self, void *closure)
{
    (void)closure;
    PyObject *headers = PyDict_New();
    if (headers == NULL || self->headers == NULL)
        return headers;
    const char *at = PyBytes_AS_STRING(self->headers);
    const char *end = at + PyBytes_GET_SIZE(self->headers);
    while (at < end)
        if (!unpack(headers, &at)) {
            Py_DECREF(headers);
            return NULL;
        }
    return headers;
}

/* bad_message(message, error) raises what the outside is to see. */
static PyObject *refuse(engine_state *state, message_object *self)
{
    PyObject *type, *error, *trace;
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError))
        return NULL; /* Ctrl-C, for one */
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    PyObject *raised = PyObject_CallFunctionObjArgs(state->bad_message, (PyObject *)self, error,
                                                    NULL);
    if (raised != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
    Py_XDECREF(raised);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    return NULL;
}

static PyObject *decode(engine_state *state, message_object *self)
{
    if (self->value == Py_None)
        return Py_NewRef(Py_None);
    if (state == NULL || state->decode_json == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "import salvo.messaging first: it brings the decoder");
        return NULL;
    }
    PyObject *decoded = PyObject_CallOneArg(state->decode_json, self->value);
    return decoded != NULL ? decoded : refuse(state, self);
}

static PyObject *json(message_object *self, PyObject *none)
{
    (void)none;
    return decode(PyType_GetModuleState(Py_TYPE(self)), self);
}

/* json_all(messages): each one's json(), in one call. */
PyObject *engine_json_all(PyObject *module, PyObject *given)
{
    engine_state *state = PyModule_GetState(module);
    PyObject *messages = PySequence_Tuple(given); /* decoding may run anything: it stays as it is */
    Py_ssize_t count = messages != NULL ? PyTuple_GET_SIZE(messages) : 0;
    PyObject *all = messages != NULL ? PyList_New(count) : NULL;
    for (Py_ssize_t i = 0; all != NULL && i < count; i++) {
        PyObject *message = PyTuple_GET_ITEM(messages, i), *one = NULL;
        if (Py_IS_TYPE(message, state->message_type))
            one = decode(state, (message_object *)message);
        else
            PyErr_SetString(PyExc_TypeError, "json_all: a list of Message");
        if (one == NULL)
            Py_CLEAR(all);
        else
            PyList_SET_ITEM(all, i, one);
    }
    Py_XDECREF(messages);
    return all;
}

/* The headers that a test gives, packed. NULL: none, or an exception is set. */
static PyObject *pack_dict(PyObject *given)
{
    enum { MOST = 64 };
    salvo_header headers[MOST];
    salvo_record record = {.headers = headers};
    PyObject *name, *value;
    Py_ssize_t at = 0, name_len;
    while (PyDict_Next(given, &at, &name, &value)) {
        if (record.header_count == MOST || !PyUnicode_Check(name) ||
            !(value == Py_None || PyBytes_Check(value))) {
            PyErr_SetString(PyExc_TypeError, "headers: at most 64, of str to bytes or None");
            return NULL;
        }
        salvo_header *header = &headers[record.header_count++];
        header->name = PyUnicode_AsUTF8AndSize(name, &name_len);
        if (header->name == NULL)
            return NULL;
        header->name_len = (size_t)name_len;
        header->value = value != Py_None ? PyBytes_AS_STRING(value) : NULL;
        header->value_len = value != Py_None ? (size_t)PyBytes_GET_SIZE(value) : 0;
    }
    return record.header_count != 0 ? pack_headers(&record) : NULL;
}

static bool is_bytes_or_none(PyObject *object)
{
    return object == Py_None || PyBytes_CheckExact(object);
}

static PyObject *message_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"topic", "partition",  "offset",  "timestamp",  "key",
                            "value", "headers", "id", "deliveries", NULL};
    PyObject *topic, *key = Py_None, *value = Py_None, *headers = Py_None;
    int partition = 0;
    long long offset = 0, timestamp_ms = 0;
    unsigned long long id = 0;
    unsigned deliveries = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "U|iLLOOOKI", names, &topic, &partition,
                                     &offset, &timestamp_ms, &key, &value, &headers, &id,
                                     &deliveries))
        return NULL;
    if (!is_bytes_or_none(key) || !is_bytes_or_none(value) ||
        (headers != Py_None && !PyDict_CheckExact(headers))) {
        PyErr_SetString(PyExc_TypeError, "key and value: bytes or None; headers: dict or None");
        return NULL;
    }
    PyObject *packed = headers != Py_None ? pack_dict(headers) : NULL;
    if (PyErr_Occurred())
        return NULL;
    message_object *self = message_alloc(type, Py_NewRef(topic));
    if (self == NULL) {
        Py_XDECREF(packed);
        return NULL;
    }
    self->key = Py_NewRef(key);
    self->value = Py_NewRef(value);
    self->headers = packed;
    self->id = id;
    self->offset = offset;
    self->timestamp_ms = timestamp_ms;
    self->partition = partition;
    self->deliveries = deliveries;
    return (PyObject *)self;
}

static PyObject *message_repr(message_object *self)
{
    return PyUnicode_FromFormat("<Message of %R, partition %d, offset %lld>", self->topic,
                                (int)self->partition, (long long)self->offset);
}

static PyMethodDef methods[] = {
    {"json", (PyCFunction)json, METH_NOARGS,
     "The value, decoded anew at each call; a null value is None. BadMessage: it is no JSON."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef members[] = {
    {"topic", T_OBJECT_EX, offsetof(message_object, topic), READONLY, "where it was read"},
    {"partition", T_INT, offsetof(message_object, partition), READONLY, "0 where there are none"},
    {"offset", T_LONGLONG, offsetof(message_object, offset), READONLY, "in its partition"},
    {"timestamp", T_LONGLONG, offsetof(message_object, timestamp_ms), READONLY,
     "milliseconds since 1970"},
    {"key", T_OBJECT_EX, offsetof(message_object, key), READONLY, "bytes or None"},
    {"value", T_OBJECT_EX, offsetof(message_object, value), READONLY, "bytes or None"},
    {"id", T_ULONGLONG, offsetof(message_object, id), READONLY, "its name to ack() and held()"},
    {"deliveries", T_UINT, offsetof(message_object, deliveries), READONLY,
     "how often it was given to anybody; 0: unknown"},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef getters[] = {
    {"headers", (getter)get_headers, NULL, "A new dict of str to bytes or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, message_new},   {Py_tp_dealloc, message_free},
                              {Py_tp_repr, message_repr}, {Py_tp_methods, methods},
                              {Py_tp_members, members},   {Py_tp_getset, getters},
                              {Py_tp_doc, "One message, as it was read."},
                              {0, NULL}};

/* Not a base type: message_free() gives back what message_alloc() took, no more. */
PyType_Spec engine_message_spec = {.name = "salvo._engine.Message",
                                   .basicsize = sizeof(message_object),
                                   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                                   .slots = slots};
