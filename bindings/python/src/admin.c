/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics at the broker and the lag of groups, as plain tuples and dicts. Guarantees: the GIL is
 * released while the broker is asked; the producer that is given is not freed meanwhile. Each call
 * blocks up to `timeout` seconds: in an executor, where there is an event loop.
 */
#include "engine.h"

#include <salvo/consumer.h>
#include <salvo/topics.h>

enum { FIRST_TOPICS = 256, FIRST_LAGS = 64, DIFFERENCES_BYTES = 1024 };

typedef struct broker { /* of one call */
    engine_state *state;
    const salvo_config *config;
    producer_object *producer;
    salvo *handle;
    uint32_t timeout_ms;
} broker;

/* False with an exception set. */
static bool take_broker(PyObject *module, PyObject *config, PyObject *producer, double timeout,
                        broker *out)
{
    engine_state *state = PyModule_GetState(module);
    *out = (broker){.state = state};
    if (config != Py_None && !PyObject_TypeCheck(config, state->config_type)) {
        PyErr_SetString(PyExc_TypeError, "config: a Config or None");
        return false;
    }
    if (producer != Py_None && !PyObject_TypeCheck(producer, state->producer_type)) {
        PyErr_SetString(PyExc_TypeError, "producer: a Producer or None");
        return false;
    }
    if (!(timeout > 0 && timeout <= 86400)) {
        PyErr_SetString(PyExc_ValueError, "timeout: more than 0 and at most 86400 seconds");
        return false;
    }
    out->timeout_ms = timeout < 0.001 ? 1 : (uint32_t)(timeout * 1000);
    if (config != Py_None)
        out->config = ((config_object *)config)->config;
    if (producer == Py_None)
        return true;
    out->producer = (producer_object *)producer;
    out->handle = engine_handle(out->producer);
    return out->handle != NULL;
}

static void enter(const broker *b)
{
    if (b->producer != NULL)
        b->producer->users++;
}

static void leave(const broker *b)
{
    if (b->producer != NULL)
        b->producer->users--;
}

/* As the engine's errors do; a topic that is not there is a LookupError here. */
static PyObject *fail(const broker *b, int64_t err)
{
    if (err != SALVO_ERR_UNKNOWN_TOPIC)
        return engine_raise(b->state, (int)err, NULL);
    PyObject *errors = PyImport_ImportModule("salvo.messaging.errors");
    PyObject *type = errors != NULL ? PyObject_GetAttrString(errors, "UnknownTopic") : NULL;
    PyObject *words = PyUnicode_DecodeUTF8(salvo_last_error(),
                                           (Py_ssize_t)strlen(salvo_last_error()), "replace");
    if (type != NULL && words != NULL)
        PyErr_SetObject(type, words);
    Py_XDECREF(words);
    Py_XDECREF(type);
    Py_XDECREF(errors);
    return NULL;
}

static PyObject *of_text(const char *text)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

/* --- create, ensure, delete ------------------------------------------------------------------ */

/* (config, producer, name, partitions, replication, retention_ms, cleanup, timeout) */
static bool take_spec(PyObject *module, PyObject *args, broker *b, salvo_topic_spec *spec)
{
    PyObject *config, *producer, *retention;
    double timeout;
    *spec = (salvo_topic_spec){.size = sizeof *spec};
    if (!PyArg_ParseTuple(args, "OOsiiOzd", &config, &producer, &spec->name, &spec->partitions,
                          &spec->replication_factor, &retention, &spec->cleanup_policy,
                          &timeout) ||
        !take_broker(module, config, producer, timeout, b))
        return false;
    if (retention != Py_None) {
        spec->retention_ms = PyLong_AsLongLong(retention);
        if (spec->retention_ms == -1 && PyErr_Occurred())
            return false;
    }
    return true;
}

PyObject *engine_topics_create(PyObject *module, PyObject *args)
{
    broker b;
    salvo_topic_spec spec;
    int err;
    if (!take_spec(module, args, &b, &spec))
        return NULL;
    enter(&b);
    Py_BEGIN_ALLOW_THREADS
    err = salvo_topic_create(b.config, b.handle, &spec, b.timeout_ms);
    Py_END_ALLOW_THREADS
    leave(&b);
    return err == 0 ? Py_NewRef(Py_None) : fail(&b, err);
}

PyObject *engine_topics_ensure(PyObject *module, PyObject *args)
{
    broker b;
    salvo_topic_spec spec;
    char differences[DIFFERENCES_BYTES];
    int how;
    if (!take_spec(module, args, &b, &spec))
        return NULL;
    enter(&b);
    Py_BEGIN_ALLOW_THREADS
    how = salvo_topic_ensure(b.config, b.handle, &spec, differences, sizeof differences,
                             b.timeout_ms);
    Py_END_ALLOW_THREADS
    leave(&b);
    return how >= 0 ? Py_BuildValue("(iN)", how, of_text(differences)) : fail(&b, how);
}

static bool of_memory(const broker *b)
{
    salvo_stats stats = {.size = sizeof stats};
    return b->handle != NULL && salvo_get_stats(b->handle, &stats) == 0 &&
           strcmp(stats.driver, "memory") == 0;
}

PyObject *engine_topics_delete(PyObject *module, PyObject *args)
{
    broker b;
    PyObject *config, *producer;
    const char *name;
    double timeout;
    int err;
    if (!PyArg_ParseTuple(args, "OOsd", &config, &producer, &name, &timeout) ||
        !take_broker(module, config, producer, timeout, &b))
        return NULL;
    if (of_memory(&b))
        return engine_raise(b.state, SALVO_ERR_UNSUPPORTED,
                            "the topics of the memory broker end with their producer: stop it");
    Py_BEGIN_ALLOW_THREADS
    err = salvo_topic_delete(b.config, name, b.timeout_ms);
    Py_END_ALLOW_THREADS
    return err == 0 ? Py_NewRef(Py_None) : fail(&b, err);
}

/* --- list, describe -------------------------------------------------------------------------- */

/* What the broker does not tell, or has not, is None; a retention of -1 is forever. */
static PyObject *number(int64_t value, bool known)
{
    return known ? PyLong_FromLongLong(value) : Py_NewRef(Py_None);
}

static PyObject *of_topic(const salvo_topic_info *t)
{
    bool compacts = t->cleanup_policy[0] != '\0';
    return Py_BuildValue(
        "{sNsNsNsNsNsNsN}", "name", of_text(t->name), "partitions",
        number(t->partitions, t->partitions >= 0), "replication_factor",
        number(t->replication_factor, t->replication_factor >= 0), "retention_ms",
        number(t->retention_ms, t->retention_ms != SALVO_RETENTION_DEFAULT), "messages",
        number(t->messages, t->messages >= 0), "cleanup_policy",
        compacts ? of_text(t->cleanup_policy) : Py_NewRef(Py_None), "internal",
        PyBool_FromLong(t->internal != 0));
}

/* All of them, however many there are by now: *count, or an error, and the rows (by malloc). */
static salvo_topic_info *list_all(const broker *b, int64_t *count)
{
    salvo_topic_info *rows = NULL;
    size_t room = FIRST_TOPICS;
    for (;;) {
        salvo_topic_info *more = realloc(rows, room * sizeof *rows);
        *count = SALVO_ERR_NOMEM;
        if (more == NULL)
            return rows;
        rows = more;
        *count = salvo_topic_list(b->config, b->handle, rows, room, b->timeout_ms);
        if (*count <= (int64_t)room)
            return rows;
        room = (size_t)*count + FIRST_TOPICS;
    }
}

PyObject *engine_topics_list(PyObject *module, PyObject *args)
{
    broker b;
    PyObject *config, *producer;
    double timeout;
    int64_t count;
    salvo_topic_info *rows;
    if (!PyArg_ParseTuple(args, "OOd", &config, &producer, &timeout) ||
        !take_broker(module, config, producer, timeout, &b))
        return NULL;
    enter(&b);
    Py_BEGIN_ALLOW_THREADS
    rows = list_all(&b, &count);
    Py_END_ALLOW_THREADS
    leave(&b);
    PyObject *list = count >= 0 ? PyList_New((Py_ssize_t)count) : fail(&b, count);
    for (int64_t i = 0; list != NULL && i < count; i++) {
        PyObject *row = of_topic(&rows[i]);
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    free(rows);
    return list;
}

PyObject *engine_topics_describe(PyObject *module, PyObject *args)
{
    broker b;
    PyObject *config, *producer;
    const char *name;
    double timeout;
    salvo_topic_info info;
    int err;
    if (!PyArg_ParseTuple(args, "OOsd", &config, &producer, &name, &timeout) ||
        !take_broker(module, config, producer, timeout, &b))
        return NULL;
    enter(&b);
    Py_BEGIN_ALLOW_THREADS
    err = salvo_topic_describe(b.config, b.handle, name, &info, b.timeout_ms);
    Py_END_ALLOW_THREADS
    leave(&b);
    return err == 0 ? of_topic(&info) : fail(&b, err);
}

/* --- lag ------------------------------------------------------------------------------------- */

static PyObject *of_lag(const salvo_lag *l)
{
    return Py_BuildValue("(NiLLL)", of_text(l->topic), (int)l->partition,
                         (long long)l->committed, (long long)l->end, (long long)l->lag);
}

static salvo_lag *all_lags(const broker *b, const char *group, const char *topic, int64_t *count)
{
    salvo_lag *rows = NULL;
    size_t room = FIRST_LAGS;
    for (;;) {
        salvo_lag *more = realloc(rows, room * sizeof *rows);
        *count = SALVO_ERR_NOMEM;
        if (more == NULL)
            return rows;
        rows = more;
        *count = salvo_group_lag(b->config, b->handle, group, topic, rows, room, b->timeout_ms);
        if (*count <= (int64_t)room)
            return rows;
        room = (size_t)*count;
    }
}

PyObject *engine_group_lag(PyObject *module, PyObject *args)
{
    broker b;
    PyObject *config, *producer;
    const char *group, *topic;
    double timeout;
    int64_t count;
    salvo_lag *rows;
    if (!PyArg_ParseTuple(args, "OOssd", &config, &producer, &group, &topic, &timeout) ||
        !take_broker(module, config, producer, timeout, &b))
        return NULL;
    enter(&b);
    Py_BEGIN_ALLOW_THREADS
    rows = all_lags(&b, group, topic, &count);
    Py_END_ALLOW_THREADS
    leave(&b);
    PyObject *list = count >= 0 ? PyList_New((Py_ssize_t)count) : fail(&b, count);
    for (int64_t i = 0; list != NULL && i < count; i++) {
        PyObject *row = of_lag(&rows[i]);
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    free(rows);
    return list;
}
