/* SPDX-License-Identifier: Apache-2.0
 *
 * AvroEncoder: a schema as a flat array of nodes, built once (salvo/messaging/avro.py resolves
 * names and knows the schema language). Guarantees: what it is built from is checked, every index
 * too; it never changes after set_default, so encoding needs no lock but the GIL; a message that
 * cannot be encoded raises failed(path, reason) and leaves nothing behind.
 */
#include "avro.h"

#include <string.h>

static void encoder_free(avro_encoder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t i = 0; self->nodes != NULL && i < self->node_count; i++)
        Py_XDECREF(self->nodes[i].names);
    for (Py_ssize_t i = 0; self->fields != NULL && i < self->field_count; i++) {
        Py_XDECREF(self->fields[i].name);
        Py_XDECREF(self->fields[i].fallback);
    }
    PyMem_Free(self->nodes);
    PyMem_Free(self->fields);
    Py_XDECREF(self->adapt);
    Py_XDECREF(self->failed);
    Py_XDECREF(self->model_type);
    Py_XDECREF(self->uuid_type);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool refuse(const char *what, Py_ssize_t index)
{
    PyErr_Format(PyExc_ValueError, "AvroEncoder: %s %zd is wrong", what, index);
    return false;
}

/* Whether the positions in `names` are 0 to count - 1, or (-1) simply numbers. */
static bool good_names(PyObject *names, Py_ssize_t count)
{
    Py_ssize_t position = 0;
    PyObject *key, *value;
    while (PyDict_Next(names, &position, &key, &value)) {
        Py_ssize_t at = PyLong_Check(value) ? PyLong_AsSsize_t(value) : -1;
        if (!PyUnicode_Check(key) || at < 0 || (count >= 0 && at >= count))
            return PyErr_Clear(), false;
    }
    return true;
}

static bool good_node(const avro_encoder *self, const avro_node *node)
{
    switch (node->kind) {
    case AVRO_FIXED: return node->a >= 0;
    case AVRO_ENUM: return node->names != NULL && good_names(node->names, -1);
    case AVRO_ARRAY:
    case AVRO_MAP: return node->a >= 0 && node->a < self->node_count;
    case AVRO_UNION:
        if (node->names == NULL || !good_names(node->names, node->b) || node->c >= node->b)
            return false;
        break;
    case AVRO_RECORD: break;
    case AVRO_DECIMAL: return node->a >= 0;
    default: return true;
    }
    if (node->a < 0 || node->b < 0 || node->a > self->field_count - node->b)
        return false;
    for (Py_ssize_t i = node->a; i < node->a + node->b; i++)
        if ((self->fields[i].name == NULL) != (node->kind == AVRO_UNION))
            return false;
    return true;
}

static bool fill_nodes(avro_encoder *self, PyObject *rows)
{
    self->node_count = PyList_GET_SIZE(rows);
    self->nodes = PyMem_Calloc((size_t)self->node_count + 1, sizeof *self->nodes);
    if (self->nodes == NULL)
        return PyErr_NoMemory() != NULL;
    for (Py_ssize_t i = 0; i < self->node_count; i++) {
        avro_node *node = &self->nodes[i];
        PyObject *names;
        int kind;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(rows, i), "innnO", &kind, &node->a, &node->b,
                              &node->c, &names))
            return false;
        if (kind < 0 || kind >= AVRO_KINDS || (names != Py_None && !PyDict_CheckExact(names)))
            return refuse("node", i);
        node->kind = (avro_kind)kind;
        node->names = names != Py_None ? Py_NewRef(names) : NULL;
    }
    return true;
}

static bool fill_fields(avro_encoder *self, PyObject *rows)
{
    self->field_count = PyList_GET_SIZE(rows);
    self->fields = PyMem_Calloc((size_t)self->field_count + 1, sizeof *self->fields);
    if (self->fields == NULL)
        return PyErr_NoMemory() != NULL;
    for (Py_ssize_t i = 0; i < self->field_count; i++) {
        avro_field *field = &self->fields[i];
        PyObject *name;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(rows, i), "On", &name, &field->node))
            return false;
        if (field->node < 0 || field->node >= self->node_count ||
            (name != Py_None && !PyUnicode_CheckExact(name)))
            return refuse("field", i);
        if (name != Py_None) {
            field->name = Py_NewRef(name);
            PyUnicode_InternInPlace(&field->name);
        }
    }
    return true;
}

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *nodes, *fields, *adapt, *failed, *model_type, *uuid_type;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O!O!OOO!O!", &PyList_Type, &nodes, &PyList_Type, &fields, &adapt,
                          &failed, &PyType_Type, &model_type, &PyType_Type, &uuid_type) ||
        !engine_avro_time_ready())
        return NULL;
    avro_encoder *self = (avro_encoder *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->adapt = Py_NewRef(adapt);
    self->failed = Py_NewRef(failed);
    self->model_type = (PyTypeObject *)Py_NewRef(model_type);
    self->uuid_type = (PyTypeObject *)Py_NewRef(uuid_type);
    bool good = fill_nodes(self, nodes) && fill_fields(self, fields);
    for (Py_ssize_t i = 0; good && i < self->node_count; i++)
        good = good_node(self, &self->nodes[i]) || refuse("node", i);
    if (good)
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

/* set_default(field, bytes): before the encoder is used by anybody else. */
static PyObject *set_default(avro_encoder *self, PyObject *args)
{
    Py_ssize_t index;
    PyObject *bytes;
    if (!PyArg_ParseTuple(args, "nS", &index, &bytes))
        return NULL;
    if (index < 0 || index >= self->field_count)
        return refuse("field", index), NULL;
    Py_XSETREF(self->fields[index].fallback, Py_NewRef(bytes));
    Py_RETURN_NONE;
}

static PyObject *encode(avro_encoder *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t node = 0;
    if (count < 1 || count > 3 || (count > 1 && !PyBytes_CheckExact(args[1]))) {
        PyErr_SetString(PyExc_TypeError, "encode(value, prefix=b'', node=0)");
        return NULL;
    }
    if (count > 2)
        node = PyLong_AsSsize_t(args[2]);
    if (node < 0 || node >= self->node_count)
        return PyErr_Occurred() ? NULL : (refuse("node", node), NULL);
    avro_out out = {.at = out.own, .begin = out.own, .end = out.own + sizeof out.own};
    avro_run run = {.encoder = self, .out = &out};
    avro_path root = {.index = -1};
    bool put = (count < 2 || engine_avro_put_raw(&out, PyBytes_AS_STRING(args[1]),
                                                 (size_t)PyBytes_GET_SIZE(args[1]))) &&
               engine_avro_put(&run, node, args[0], &root);
    PyObject *made = put ? PyBytes_FromStringAndSize(out.begin, out.at - out.begin) : NULL;
    if (out.begin != out.own)
        PyMem_Free(out.begin);
    return made;
}

static PyMethodDef methods[] = {
    {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL,
     "encode(value, prefix=b'', node=0) -> bytes: the prefix and the value in Avro's binary form."},
    {"set_default", (PyCFunction)set_default, METH_VARARGS,
     "set_default(field, bytes): what stands for a field that is missing."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, encoder_free},
    {Py_tp_new, encoder_new},
    {Py_tp_methods, methods},
    {Py_tp_doc, "AvroEncoder(nodes, fields, adapt, failed, model_type, uuid_type)"},
    {0, NULL}};

PyType_Spec engine_avro_spec = {.name = "salvo._engine.AvroEncoder",
                                .basicsize = sizeof(avro_encoder),
                                .flags = Py_TPFLAGS_DEFAULT,
                                .slots = slots};
