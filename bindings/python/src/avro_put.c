/* SPDX-License-Identifier: Apache-2.0
 *
 * A message as Avro binary. Guarantees: every value is checked against its type and range before
 * its bytes are written; what does not fit is told with the path of the field; recursion stops at
 * DEPTH_MAX levels; a list or dict that other code changes meanwhile is an error, never a message
 * whose counts are wrong.
 */
#include "avro.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { DEPTH_MAX = 400 };

static bool grow(avro_out *out, size_t more)
{
    size_t used = (size_t)(out->at - out->begin), size = (size_t)(out->end - out->begin);
    if (more > PY_SSIZE_T_MAX / 2 - used)
        return PyErr_NoMemory() != NULL;
    size = 2 * size > used + more ? 2 * size : used + more;
    char *moved = PyMem_Realloc(out->begin != out->own ? out->begin : NULL, size);
    if (moved == NULL)
        return PyErr_NoMemory() != NULL;
    if (out->begin == out->own)
        memcpy(moved, out->own, used);
    out->begin = moved;
    out->at = moved + used;
    out->end = moved + size;
    return true;
}

static inline bool room(avro_out *out, size_t bytes)
{
    return (size_t)(out->end - out->at) >= bytes || grow(out, bytes);
}

static inline bool put_long(avro_out *out, int64_t number)
{
    if (!room(out, 10))
        return false;
    uint64_t rest = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    char *at = out->at;
    while (rest > 127) {
        *at++ = (char)(rest | 128);
        rest >>= 7;
    }
    *at++ = (char)rest;
    out->at = at;
    return true;
}

static inline bool put_raw(avro_out *out, const void *data, size_t bytes)
{
    if (!room(out, bytes))
        return false;
    memcpy(out->at, data, bytes);
    out->at += bytes;
    return true;
}

static inline bool put_block(avro_out *out, const void *data, size_t bytes)
{
    return put_long(out, (int64_t)bytes) && put_raw(out, data, bytes);
}

bool engine_avro_put_long(avro_out *out, int64_t number)
{
    return put_long(out, number);
}

bool engine_avro_put_raw(avro_out *out, const void *data, size_t bytes)
{
    return put_raw(out, data, bytes);
}

static PyObject *path_text(const avro_path *at)
{
    PyObject *parts = PyList_New(0);
    for (; parts != NULL && at != NULL; at = at->up) {
        if (at->name == NULL && at->index < 0)
            continue;
        PyObject *part = at->name != NULL ? PyObject_Str(at->name)
                                          : PyUnicode_FromFormat("%zd", at->index);
        if (part == NULL || PyList_Append(parts, part) != 0)
            Py_CLEAR(parts);
        Py_XDECREF(part);
    }
    if (parts == NULL || PyList_Reverse(parts) != 0) {
        Py_XDECREF(parts);
        return NULL;
    }
    PyObject *dot = PyUnicode_FromString(PyList_GET_SIZE(parts) != 0 ? "." : "$");
    PyObject *text = dot == NULL ? NULL
                     : PyList_GET_SIZE(parts) != 0 ? PyUnicode_Join(dot, parts) : Py_NewRef(dot);
    Py_XDECREF(dot);
    Py_DECREF(parts);
    return text;
}

/* The words of the exception that is set, which is cleared; NULL: it must go on as it is. */
static PyObject *words_of_error(void)
{
    if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_ArithmeticError))
        return NULL;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    PyObject *words = PyObject_Str(error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    return words;
}

bool engine_avro_fail(const avro_run *run, const avro_path *at, const char *format, ...)
{
    PyObject *reason;
    if (run->checking != 0 && format != NULL)
        return false; /* nobody will read why */
    if (format == NULL) {
        if (PyErr_ExceptionMatches(run->encoder->failed))
            return false; /* it has its path already */
        reason = words_of_error();
    } else {
        va_list arguments;
        va_start(arguments, format);
        reason = PyUnicode_FromFormatV(format, arguments);
        va_end(arguments);
    }
    if (reason == NULL)
        return false;
    PyObject *path = path_text(at);
    if (path != NULL && PyUnicode_GET_LENGTH(path) == 0) /* a key without a character */
        Py_SETREF(path, PyUnicode_FromString("$"));
    PyObject *error = path != NULL ? PyObject_CallFunctionObjArgs(run->encoder->failed, path,
                                                                  reason, NULL)
                                   : NULL;
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    Py_XDECREF(path);
    Py_DECREF(reason);
    return false;
}

bool engine_avro_wrong(const avro_run *run, const avro_path *at, const char *wanted,
                       PyObject *value)
{
    return engine_avro_fail(run, at, "%s is needed, not %.100s", wanted, Py_TYPE(value)->tp_name);
}

/* A whole number; bool is none. 1: done, 0: another type, -1: an exception is set. */
static int number_of(PyObject *value, int64_t *number)
{
    int overflow = 0;
    if (!PyLong_CheckExact(value)) {
        if (PyBool_Check(value) || PyFloat_Check(value) || !PyIndex_Check(value))
            return 0;
        PyObject *index = PyNumber_Index(value);
        if (index == NULL)
            return -1;
        *number = PyLong_AsLongLongAndOverflow(index, &overflow);
        Py_DECREF(index);
    } else {
        *number = PyLong_AsLongLongAndOverflow(value, &overflow);
    }
    if (overflow != 0)
        PyErr_SetString(PyExc_OverflowError, "the number has more than 64 bits");
    return overflow == 0 ? 1 : -1;
}

static bool put_number(avro_run *run, avro_kind kind, PyObject *value, const avro_path *at)
{
    int64_t number;
    int is = number_of(value, &number);
    if (is < 0)
        return engine_avro_fail(run, at, NULL);
    if (is == 0)
        return engine_avro_wrong(run, at, "an int", value);
    bool is_int = kind == AVRO_INT || kind == AVRO_DATE || kind == AVRO_TIME_MILLIS;
    if (is_int && (number < INT32_MIN || number > INT32_MAX))
        return engine_avro_fail(run, at, "%lld has more than the 32 bits of Avro's int",
                         (long long)number);
    return put_long(run->out, number);
}

static bool put_real(avro_run *run, avro_kind kind, PyObject *value, const avro_path *at)
{
    double number;
    if (PyFloat_Check(value)) {
        number = PyFloat_AS_DOUBLE(value);
    } else if (PyBool_Check(value) || PyUnicode_Check(value)) {
        return engine_avro_wrong(run, at, "a float", value);
    } else {
        number = PyFloat_AsDouble(value);
        if (number == -1.0 && PyErr_Occurred())
            return engine_avro_fail(run, at, NULL);
    }
    if (kind == AVRO_DOUBLE)
        return put_raw(run->out, &number, sizeof number);
    float narrow = (float)number;
    if (isinf(narrow) && !isinf(number))
        return engine_avro_fail(run, at, "the number has more than the 32 bits of Avro's float");
    return put_raw(run->out, &narrow, sizeof narrow);
}

static bool put_text(avro_run *run, PyObject *value, const avro_path *at)
{
    if (!PyUnicode_Check(value))
        return engine_avro_wrong(run, at, "a str", value);
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == NULL)
        return engine_avro_fail(run, at, NULL);
    return put_block(run->out, text, (size_t)size);
}

/* bytes, or a fixed of `size` bytes. */
static bool put_bytes(avro_run *run, PyObject *value, Py_ssize_t size, const avro_path *at)
{
    Py_buffer buffer;
    if (PyUnicode_Check(value) || !PyObject_CheckBuffer(value))
        return engine_avro_wrong(run, at, "bytes", value);
    if (PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE) != 0)
        return engine_avro_fail(run, at, NULL);
    bool fits = size < 0 || buffer.len == size, put = false;
    Py_ssize_t have = buffer.len;
    if (fits)
        put = size < 0 ? put_block(run->out, buffer.buf, (size_t)buffer.len)
                       : put_raw(run->out, buffer.buf, (size_t)buffer.len);
    PyBuffer_Release(&buffer);
    return fits ? put : engine_avro_fail(run, at, "%zd bytes are needed, not %zd", size, have);
}

/* The symbol's position: of its own text, of a Python enum's value, of its name. */
static bool put_symbol(avro_run *run, const avro_node *node, PyObject *value, const avro_path *at)
{
    static const char *const ways[] = {"value", "name"};
    PyObject *found = NULL;
    if (PyUnicode_CheckExact(value)) {
        found = PyDict_GetItemWithError(node->names, value);
    } else {
        for (int i = 0; i < 2 && found == NULL && !PyErr_Occurred(); i++) {
            PyObject *text = PyObject_GetAttrString(value, ways[i]);
            if (text == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
                PyErr_Clear();
            if (text != NULL && PyUnicode_CheckExact(text))
                found = PyDict_GetItemWithError(node->names, text);
            Py_XDECREF(text);
        }
    }
    if (found != NULL)
        return put_long(run->out, PyLong_AsSsize_t(found));
    if (PyErr_Occurred())
        return engine_avro_fail(run, at, NULL);
    return engine_avro_fail(run, at, "%.100R is none of the enum's symbols", value);
}

static bool put_uuid(avro_run *run, PyObject *value, const avro_path *at)
{
    static const char digits[] = "0123456789abcdef";
    if (!PyObject_TypeCheck(value, run->encoder->uuid_type))
        return put_text(run, value, at);
    PyObject *raw = PyObject_GetAttrString(value, "bytes");
    if (raw == NULL || !PyBytes_Check(raw) || PyBytes_GET_SIZE(raw) != 16) {
        Py_XDECREF(raw);
        return PyErr_Occurred() ? engine_avro_fail(run, at, NULL)
                                : engine_avro_wrong(run, at, "a UUID", value);
    }
    char text[36], *to = text;
    for (int i = 0; i < 16; i++) {
        unsigned char byte = (unsigned char)PyBytes_AS_STRING(raw)[i];
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[byte >> 4];
        *to++ = digits[byte & 15];
    }
    Py_DECREF(raw);
    return put_block(run->out, text, sizeof text);
}

/* What C does not take by itself, in terms of what it does. NULL with an exception set. */
static PyObject *adapted(avro_run *run, const avro_node *node, PyObject *value,
                         const avro_path *at)
{
    PyObject *made = PyObject_CallFunction(run->encoder->adapt, "iOnnn", (int)node->kind, value,
                                           node->a, node->b, node->c);
    if (made == NULL)
        engine_avro_fail(run, at, NULL);
    return made;
}

static bool put_time(avro_run *run, const avro_node *node, PyObject *value, const avro_path *at)
{
    int64_t number;
    int is = engine_avro_time(node->kind, value, &number);
    if (is < 0)
        return engine_avro_fail(run, at, NULL);
    if (is > 0)
        return put_long(run->out, number);
    if (!PyUnicode_Check(value))
        return PyLong_Check(value) ? put_number(run, node->kind, value, at)
                                   : engine_avro_wrong(run, at, "a date, time or datetime", value);
    PyObject *made = adapted(run, node, value, at); /* from ISO 8601 */
    if (made == NULL)
        return false;
    is = engine_avro_time(node->kind, made, &number);
    Py_DECREF(made);
    return is > 0 ? put_long(run->out, number) : engine_avro_fail(run, at, "it is no such time");
}

static bool put_decimal(avro_run *run, const avro_node *node, PyObject *value,
                        const avro_path *at)
{
    PyObject *made = adapted(run, node, value, at);
    bool put = made != NULL && put_bytes(run, made, node->a != 0 ? node->a : -1, at);
    Py_XDECREF(made);
    return put;
}

static bool put_json(avro_run *run, const avro_node *node, PyObject *value, const avro_path *at)
{
    PyObject *made = adapted(run, node, value, at);
    bool put = made != NULL && put_bytes(run, made, -1, at);
    Py_XDECREF(made);
    return put;
}

static bool put_items(avro_run *run, Py_ssize_t node, PyObject *row, const avro_path *at)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(row);
    avro_path here = {.up = at, .name = NULL};
    if (count != 0 && !put_long(run->out, count))
        return false;
    for (here.index = 0; here.index < count; here.index++) {
        if (PySequence_Fast_GET_SIZE(row) != count)
            return engine_avro_fail(run, at, "the list changed while it was encoded");
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(row, here.index));
        bool put = engine_avro_put(run, node, item, &here);
        Py_DECREF(item);
        if (!put)
            return false;
    }
    return put_long(run->out, 0);
}

bool engine_avro_is_row(PyObject *value)
{
    return PyList_Check(value) || PyTuple_Check(value) || PyAnySet_Check(value) ||
           (PySequence_Check(value) && !PyUnicode_Check(value) && !PyBytes_Check(value) &&
            !PyByteArray_Check(value) && !PyDict_Check(value) && !PyMemoryView_Check(value));
}

static bool put_array(avro_run *run, const avro_node *node, PyObject *value, const avro_path *at)
{
    if (!engine_avro_is_row(value))
        return engine_avro_wrong(run, at, "a list", value);
    PyObject *row = PySequence_Fast(value, "a list is needed");
    if (row == NULL)
        return engine_avro_fail(run, at, NULL);
    bool put = put_items(run, node->a, row, at);
    Py_DECREF(row);
    return put;
}

static bool put_entries(avro_run *run, Py_ssize_t node, PyObject *dict, const avro_path *at)
{
    Py_ssize_t count = PyDict_GET_SIZE(dict), position = 0, seen = 0;
    avro_path here = {.up = at};
    PyObject *key, *value;
    if (count != 0 && !put_long(run->out, count))
        return false;
    while (PyDict_GET_SIZE(dict) == count && PyDict_Next(dict, &position, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        here.name = key;
        bool put = put_text(run, key, &here) && engine_avro_put(run, node, value, &here);
        Py_DECREF(key);
        Py_DECREF(value);
        if (!put)
            return false;
        seen++;
    }
    if (seen != count || PyDict_GET_SIZE(dict) != count)
        return engine_avro_fail(run, at, "the mapping changed while it was encoded");
    return put_long(run->out, 0);
}

static bool put_map(avro_run *run, const avro_node *node, PyObject *value, const avro_path *at)
{
    if (PyDict_Check(value))
        return put_entries(run, node->a, value, at);
    if (!PyMapping_Check(value) || engine_avro_is_row(value) || PyUnicode_Check(value) ||
        PyObject_CheckBuffer(value))
        return engine_avro_wrong(run, at, "a mapping", value);
    PyObject *dict = PyDict_New();
    bool put = dict != NULL && PyDict_Update(dict, value) == 0;
    put = put ? put_entries(run, node->a, dict, at) : engine_avro_fail(run, at, NULL);
    Py_XDECREF(dict);
    return put;
}

static bool put_nested(avro_run *run, const avro_node *node, PyObject *value, const avro_path *at)
{
    if (run->depth >= DEPTH_MAX)
        return engine_avro_fail(run, at, "it is nested more than %d levels deep, or inside itself",
                         DEPTH_MAX);
    run->depth++;
    bool put = node->kind == AVRO_RECORD  ? engine_avro_put_record(run, node, value, at)
               : node->kind == AVRO_ARRAY ? put_array(run, node, value, at)
               : node->kind == AVRO_MAP   ? put_map(run, node, value, at)
                                          : engine_avro_put_union(run, node, value, at);
    run->depth--;
    return put;
}

bool engine_avro_put(avro_run *run, Py_ssize_t index, PyObject *value, const avro_path *at)
{
    const avro_node *node = &run->encoder->nodes[index];
    switch (node->kind) {
    case AVRO_NULL: return value == Py_None ? true : engine_avro_wrong(run, at, "None", value);
    case AVRO_BOOLEAN:
        if (!PyBool_Check(value))
            return engine_avro_wrong(run, at, "a bool", value);
        return put_raw(run->out, value == Py_True ? "\1" : "\0", 1);
    case AVRO_INT:
    case AVRO_LONG: return put_number(run, node->kind, value, at);
    case AVRO_FLOAT:
    case AVRO_DOUBLE: return put_real(run, node->kind, value, at);
    case AVRO_BYTES: return put_bytes(run, value, -1, at);
    case AVRO_STRING: return put_text(run, value, at);
    case AVRO_FIXED: return put_bytes(run, value, node->a, at);
    case AVRO_ENUM: return put_symbol(run, node, value, at);
    case AVRO_UUID: return put_uuid(run, value, at);
    case AVRO_DECIMAL: return put_decimal(run, node, value, at);
    case AVRO_JSON: return put_json(run, node, value, at);
    case AVRO_ARRAY:
    case AVRO_MAP:
    case AVRO_UNION:
    case AVRO_RECORD: return put_nested(run, node, value, at);
    default: return put_time(run, node, value, at);
    }
}
