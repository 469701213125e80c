/* SPDX-License-Identifier: Apache-2.0
 *
 * Config: salvo_config as it is, its errors included. The layers that Python adds (.env, Settings,
 * configure) are set in their order by salvo/messaging/settings.py.
 */
#include "engine.h"

static PyObject *fail(config_object *self, int err)
{
    return engine_raise(engine_state_of((PyObject *)self), err, salvo_config_error(self->config));
}

static PyObject *config_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args;
    (void)keywords;
    config_object *self = (config_object *)type->tp_alloc(type, 0);
    if (self != NULL && salvo_config_new(&self->config) != 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void config_free(config_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    salvo_config_free(self->config);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *load_file(config_object *self, PyObject *args)
{
    const char *path = NULL;
    if (!PyArg_ParseTuple(args, "|z", &path))
        return NULL;
    int err = salvo_config_load_file(self->config, path);
    return err != 0 ? fail(self, err) : Py_NewRef(Py_None);
}

static PyObject *load_env(config_object *self, PyObject *none)
{
    (void)none;
    int err = salvo_config_load_env(self->config);
    return err != 0 ? fail(self, err) : Py_NewRef(Py_None);
}

static PyObject *set(config_object *self, PyObject *args)
{
    const char *key, *value, *source;
    if (!PyArg_ParseTuple(args, "sss", &key, &value, &source))
        return NULL;
    int err = salvo_config_set_from(self->config, key, value, source);
    return err != 0 ? fail(self, err) : Py_NewRef(Py_None);
}

static PyObject *get(config_object *self, PyObject *key)
{
    const char *name = PyUnicode_AsUTF8(key);
    if (name == NULL)
        return NULL;
    const char *value = salvo_config_get(self->config, name);
    return value != NULL ? PyUnicode_DecodeUTF8(value, (Py_ssize_t)strlen(value),
                                                "surrogateescape")
                         : Py_NewRef(Py_None);
}

static int visit(const salvo_config_entry *entry, void *context)
{
    PyObject *row = Py_BuildValue("(sssssss)", entry->key, entry->value, entry->default_value,
                                  entry->type, entry->unit, entry->source, entry->help);
    int failed = row == NULL || PyList_Append(context, row) != 0;
    Py_XDECREF(row);
    return failed;
}

static PyObject *entries(config_object *self, PyObject *none)
{
    (void)none;
    PyObject *rows = PyList_New(0);
    if (rows != NULL && salvo_config_each(self->config, visit, rows) != 0)
        Py_CLEAR(rows);
    return rows;
}

static PyMethodDef methods[] = {
    {"load_file", (PyCFunction)(void (*)(void))load_file, METH_VARARGS,
     "load_file(path=None): a TOML file's [messaging]; None: ./core.toml if it exists."},
    {"load_env", (PyCFunction)load_env, METH_NOARGS, "Known keys of the environment."},
    {"set", (PyCFunction)(void (*)(void))set, METH_VARARGS, "set(key, value, source)"},
    {"get", (PyCFunction)get, METH_O, "Effective value as text, or None. Secrets are shown."},
    {"entries", (PyCFunction)entries, METH_NOARGS,
     "All keys: (key, value, default, type, unit, source, help). Secrets are masked."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, config_new},
                              {Py_tp_dealloc, config_free},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "A configuration of the engine."},
                              {0, NULL}};

PyType_Spec engine_config_spec = {.name = "salvo._engine.Config",
                                  .basicsize = sizeof(config_object),
                                  .flags = Py_TPFLAGS_DEFAULT,
                                  .slots = slots};
