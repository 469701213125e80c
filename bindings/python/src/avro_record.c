/* SPDX-License-Identifier: Apache-2.0
 *
 * Records and unions. A record comes from a dict, from another mapping, or from an object with its
 * fields (a pydantic model's are read from its __dict__); fields that are missing get the schema's
 * default. Guarantees: a union takes the branch that fastavro would: what (name, value) names, null
 * for None, the only other branch, else the first that fits, and of records the one that finds
 * most of its fields. Looking for it costs no more than writing all branches once a level.
 */
#include "avro.h"

typedef enum avro_source { FROM_DICT, FROM_MAPPING, FROM_OBJECT, FROM_NOTHING } avro_source;

static avro_source source_of(PyObject *value)
{
    if (PyDict_Check(value))
        return FROM_DICT;
    if (value == Py_None || PyLong_Check(value) || PyFloat_Check(value) ||
        PyUnicode_Check(value) || PyObject_CheckBuffer(value) || engine_avro_is_row(value))
        return FROM_NOTHING;
    return PyMapping_Check(value) ? FROM_MAPPING : FROM_OBJECT;
}

/* A field's value as a new reference. NULL without an exception: it is missing. */
static PyObject *field_of(avro_source source, PyObject *from, PyObject *name)
{
    PyObject *found;
    if (source == FROM_DICT)
        return Py_XNewRef(PyDict_GetItemWithError(from, name));
    found = source == FROM_MAPPING ? PyObject_GetItem(from, name) : PyObject_GetAttr(from, name);
    if (found == NULL && PyErr_ExceptionMatches(source == FROM_MAPPING ? PyExc_KeyError
                                                                       : PyExc_AttributeError))
        PyErr_Clear();
    return found;
}

static bool put_fields(avro_run *run, const avro_node *node, avro_source source, PyObject *from,
                       const avro_path *at)
{
    const avro_field *field = run->encoder->fields + node->a, *end = field + node->b;
    avro_path here = {.up = at, .index = -1};
    for (; field < end; field++) {
        here.name = field->name;
        PyObject *value = field_of(source, from, field->name);
        if (value != NULL) {
            bool put = engine_avro_put(run, field->node, value, &here);
            Py_DECREF(value);
            if (!put)
                return false;
        } else if (PyErr_Occurred()) {
            return engine_avro_fail(run, &here, NULL);
        } else if (field->fallback == NULL) {
            return engine_avro_fail(run, &here, "it is missing, and the schema has no default for "
                                                "it");
        } else if (!engine_avro_put_raw(run->out, PyBytes_AS_STRING(field->fallback),
                                        (size_t)PyBytes_GET_SIZE(field->fallback))) {
            return false;
        }
    }
    return true;
}

bool engine_avro_put_record(avro_run *run, const avro_node *node, PyObject *value,
                            const avro_path *at)
{
    if (!PyDict_Check(value) && PyObject_TypeCheck(value, run->encoder->model_type)) {
        PyObject *dict = PyObject_GenericGetDict(value, NULL);
        bool put = dict != NULL ? put_fields(run, node, FROM_DICT, dict, at)
                                : engine_avro_fail(run, at, NULL);
        Py_XDECREF(dict);
        return put;
    }
    avro_source source = source_of(value);
    if (source == FROM_NOTHING)
        return engine_avro_wrong(run, at, "a mapping or an object with the record's fields", value);
    return put_fields(run, node, source, value, at);
}

/* --- unions --- */

static bool fits(avro_run *run, Py_ssize_t index, PyObject *value, Py_ssize_t *matched);

/* How many of a record's fields a value has; -1: it does not fit. */
static Py_ssize_t fields_that_fit(avro_run *run, const avro_node *node, PyObject *value)
{
    PyObject *from = Py_NewRef(value);
    avro_source source = source_of(value);
    if (source == FROM_OBJECT && PyObject_TypeCheck(value, run->encoder->model_type)) {
        Py_SETREF(from, PyObject_GenericGetDict(value, NULL));
        source = FROM_DICT;
    }
    Py_ssize_t count = from != NULL && source != FROM_NOTHING ? 0 : -1;
    for (Py_ssize_t i = node->a; count >= 0 && i < node->a + node->b; i++) {
        const avro_field *field = &run->encoder->fields[i];
        PyObject *part = field_of(source, from, field->name);
        if (part != NULL)
            count = fits(run, field->node, part, NULL) ? count + 1 : -1;
        else if (PyErr_Occurred() || field->fallback == NULL)
            count = -1;
        Py_XDECREF(part);
    }
    Py_XDECREF(from);
    PyErr_Clear();
    return count;
}

/* Whether a value could be written, found out by writing it: what was written is taken back. */
static bool fits(avro_run *run, Py_ssize_t index, PyObject *value, Py_ssize_t *matched)
{
    const avro_node *node = &run->encoder->nodes[index];
    ptrdiff_t before = run->out->at - run->out->begin;
    if (matched != NULL)
        *matched = -1;
    if (node->kind == AVRO_RECORD && matched != NULL) {
        *matched = fields_that_fit(run, node, value);
        return *matched >= 0;
    }
    avro_path here = {.up = NULL, .index = -1};
    run->checking++;
    bool put = engine_avro_put(run, index, value, &here);
    run->checking--;
    run->out->at = run->out->begin + before;
    PyErr_Clear();
    return put;
}

/* The branch of (name, value), which says so itself; -1: it is no such thing. */
static Py_ssize_t named_branch(const avro_node *node, PyObject *value)
{
    if (!PyTuple_CheckExact(value) || PyTuple_GET_SIZE(value) != 2 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(value, 0)))
        return -1;
    PyObject *found = PyDict_GetItemWithError(node->names, PyTuple_GET_ITEM(value, 0));
    return found != NULL ? PyLong_AsSsize_t(found) : -1;
}

/* The first branch that fits; of records the one with the most of its fields there; double rather
 * than float, which would cut a number. */
static Py_ssize_t best_branch(avro_run *run, const avro_node *node, PyObject *value)
{
    Py_ssize_t best = -1, most = -1, narrow = -1, matched;
    for (Py_ssize_t i = 0; i < node->b; i++) {
        Py_ssize_t branch = run->encoder->fields[node->a + i].node;
        avro_kind kind = run->encoder->nodes[branch].kind;
        if (i == node->c || (narrow >= 0 && kind != AVRO_DOUBLE) ||
            !fits(run, branch, value, &matched))
            continue;
        if (run->checking != 0)
            return i; /* a check needs to know no more */
        if (kind == AVRO_FLOAT) {
            narrow = i;
        } else if (kind != AVRO_RECORD) {
            return best < 0 ? i : best;
        } else if (matched > most) {
            best = i;
            most = matched;
        }
    }
    return best < 0 ? narrow : best;
}

bool engine_avro_put_union(avro_run *run, const avro_node *node, PyObject *value,
                           const avro_path *at)
{
    Py_ssize_t branch;
    bool searched = false;
    if (value == Py_None && node->c >= 0)
        return engine_avro_put_long(run->out, node->c);
    branch = named_branch(node, value);
    if (branch >= 0) {
        value = PyTuple_GET_ITEM(value, 1);
    } else if (node->b == 2 && node->c >= 0) {
        branch = 1 - node->c; /* the only one: if it does not fit, it says why best */
    } else {
        branch = best_branch(run, node, value);
        searched = true;
    }
    if (branch < 0)
        return engine_avro_fail(run, at, "a %.100s fits no branch of the union",
                                Py_TYPE(value)->tp_name);
    if (run->checking != 0 && searched)
        return true; /* it has been tried just now */
    return engine_avro_put_long(run->out, branch) &&
           engine_avro_put(run, run->encoder->fields[node->a + branch].node, value, at);
}
