/* SPDX-License-Identifier: Apache-2.0
 *
 * Consumer: open, poll, acknowledge, commit, close. Guarantees: a poll never waits, not for another
 * thread's commit either (it gives nothing then); whatever waits releases the GIL; close waits for
 * the calls that run without the GIL, and is idempotent; in a forked child nothing of the parent's
 * consumer is touched.
 */
#include "consume.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLOSE_MS = 500, POLL_MAX = 1 << 20, ACKS = 512, LAGS = 64 };

static engine_state *state_of(consumer_object *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

static PyObject *fail(consumer_object *self, int err)
{
    return engine_raise(state_of(self), err, NULL);
}

static salvo_consumer *refuse(consumer_object *self)
{
    bool is_ours = self->pid == getpid();
    engine_raise(state_of(self), is_ours ? SALVO_ERR_CLOSED : SALVO_ERR_FORKED,
                 is_ours ? "the consumer is closed"
                         : "the consumer belongs to the parent of this process: open one here");
    return NULL;
}

/* The handle for calls that any thread may make, or NULL with an exception set. In a forked child
 * it is the parent's: the engine refuses each call with it. */
static salvo_consumer *handle_of(consumer_object *self)
{
    return self->handle != NULL && !self->closing ? self->handle : refuse(self);
}

static void pause_a_moment(void)
{
    struct timespec moment = {0, 1000000};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&moment, NULL);
    Py_END_ALLOW_THREADS
}

salvo_consumer *engine_consumer_take(consumer_object *self)
{
    salvo_consumer *handle = handle_of(self);
    while (handle != NULL && self->taken) {
        if (self->pid != getpid()) /* it was taken by a thread that is not here */
            return refuse(self);
        pause_a_moment();
        handle = PyErr_CheckSignals() == 0 ? handle_of(self) : NULL;
    }
    self->taken |= handle != NULL;
    return handle;
}

void engine_consumer_give(consumer_object *self)
{
    self->taken = false;
}

/* --- open --- */

typedef struct opening {
    PyObject *config, *producer, *topics; /* topics: a tuple */
    const char *group, *member;
    unsigned max_in_hand;
    int transactional;
    uint32_t manual_commit;
    double open_timeout;
} opening;

static bool parse_opening(engine_state *state, PyObject *args, PyObject *keywords, opening *o)
{
    static char *names[] = {"config",      "producer",      "group",         "topics", "member",
                            "max_in_hand", "transactional", "manual_commit", "open_timeout", NULL};
    PyObject *topics, *manual = Py_None;
    *o = (opening){.open_timeout = 10.0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!OsO|$zIpOd", names, state->config_type,
                                     &o->config, &o->producer, &o->group, &topics, &o->member,
                                     &o->max_in_hand, &o->transactional, &manual,
                                     &o->open_timeout))
        return false;
    int asked = manual != Py_None ? PyObject_IsTrue(manual) : -1;
    if (asked < 0 && PyErr_Occurred())
        return false;
    o->manual_commit = manual == Py_None ? 0 : asked != 0 ? 1 : 2;
    if (o->producer != Py_None && !PyObject_TypeCheck(o->producer, state->producer_type)) {
        PyErr_SetString(PyExc_TypeError, "producer: a Producer or None");
        return false;
    }
    if (PyUnicode_Check(topics)) {
        PyErr_SetString(PyExc_TypeError, "topics: a list of names, not a str");
        return false;
    }
    o->topics = PySequence_Tuple(topics);
    return o->topics != NULL;
}

/* The topics' names, as long as the tuple lives; NULL with an exception set. */
static const char **names_of(engine_state *state, PyObject *topics)
{
    Py_ssize_t count = PyTuple_GET_SIZE(topics), size;
    const char **names = PyMem_Calloc((size_t)count + 1, sizeof *names);
    if (names == NULL)
        return (const char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *topic = PyTuple_GET_ITEM(topics, i);
        names[i] = PyUnicode_Check(topic) ? PyUnicode_AsUTF8AndSize(topic, &size) : NULL;
        if (names[i] != NULL && strlen(names[i]) == (size_t)size)
            continue;
        PyErr_Clear();
        engine_raise(state, SALVO_ERR_INVALID,
                     "a topic's name is 1 to 249 of A-Z, a-z, 0-9, '.', '_' and '-'");
        PyMem_Free(names);
        return NULL;
    }
    return names;
}

static int open_handle(consumer_object *self, const opening *o, const char **names)
{
    salvo_consumer_options options = {.size = sizeof options};
    options.group = o->group;
    options.topics = names;
    options.topic_count = (size_t)PyTuple_GET_SIZE(o->topics);
    options.member = o->member;
    options.max_in_hand = o->max_in_hand;
    options.transactional = (uint32_t)o->transactional;
    options.manual_commit = o->manual_commit;
    options.open_timeout_ms = o->open_timeout > 0 && o->open_timeout < 1e6
                                  ? (uint32_t)(o->open_timeout * 1000.0) + 1u
                                  : 0;
    producer_object *of = o->producer != Py_None ? (producer_object *)o->producer : NULL;
    salvo *producer = of != NULL ? engine_handle(of) : NULL;
    salvo_config *config = ((config_object *)o->config)->config;
    int err;
    if (of != NULL && producer == NULL)
        return -1000;
    if (of != NULL)
        of->users++;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_consumer_open(config, producer, &options, &self->handle);
    Py_END_ALLOW_THREADS
    if (of != NULL)
        of->users--;
    return err;
}

static bool open_descriptor(consumer_object *self)
{
    int fd = salvo_consumer_fd(self->handle);
    if (fd < 0) {
        fail(self, fd);
        return false;
    }
    self->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (self->fd < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return self->fd >= 0;
}

/* Consumer(config, producer or None, group, topics, *, member, max_in_hand, transactional,
 * manual_commit (None: as configured), open_timeout) */
static PyObject *consumer_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    opening o;
    PyObject *module = PyType_GetModuleByDef(type, &engine_module);
    engine_state *state = module != NULL ? PyModule_GetState(module) : NULL;
    if (state == NULL || !parse_opening(state, args, keywords, &o))
        return NULL;
    const char **names = names_of(state, o.topics);
    consumer_object *self =
        names != NULL ? (consumer_object *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->pid = getpid();
        self->fd = -1;
        self->producer = Py_NewRef(o.producer);
        self->names = PySequence_List(o.topics);
        int err = self->names != NULL ? open_handle(self, &o, names) : -1000;
        if (err != 0 && err != -1000)
            fail(self, err);
        if (err != 0 || !open_descriptor(self))
            Py_CLEAR(self);
    }
    PyMem_Free(names);
    Py_DECREF(o.topics);
    return (PyObject *)self;
}

/* --- reading --- */

/* A new reference to the topic's name: one object for all messages of it. */
static PyObject *name_of(consumer_object *self, const char *topic)
{
    Py_ssize_t count = PyList_GET_SIZE(self->names);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t at = self->latest + i < count ? self->latest + i : self->latest + i - count;
        PyObject *name = PyList_GET_ITEM(self->names, at);
        const char *text = PyUnicode_AsUTF8(name);
        if (text != NULL && strcmp(text, topic) == 0) {
            self->latest = at;
            return Py_NewRef(name);
        }
    }
    PyObject *name = PyUnicode_DecodeUTF8(topic, (Py_ssize_t)strlen(topic), "replace");
    if (name != NULL && count < TOPIC_NAMES_MAX && PyList_Append(self->names, name) != 0)
        Py_CLEAR(name);
    return name;
}

static PyObject *list_of(consumer_object *self, const salvo_delivered *given, size_t count)
{
    engine_state *state = state_of(self);
    PyObject *messages = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; messages != NULL && i < count; i++) {
        PyObject *topic = name_of(self, given[i].record.topic);
        PyObject *message =
            topic != NULL ? engine_message_of(state->message_type, topic, &given[i]) : NULL;
        if (message == NULL)
            Py_CLEAR(messages);
        else
            PyList_SET_ITEM(messages, (Py_ssize_t)i, message);
    }
    return messages;
}

/* poll(max): never waits. max 0: only the consumer's own work. */
static PyObject *poll_messages(consumer_object *self, PyObject *arg)
{
    const salvo_delivered *given = NULL;
    size_t count = 0;
    Py_ssize_t max = PyLong_AsSsize_t(arg);
    if (max == -1 && PyErr_Occurred())
        return NULL;
    if (max < 0 || max > POLL_MAX)
        return PyErr_Format(PyExc_ValueError, "poll(%zd): 0 to %d", max, (int)POLL_MAX);
    salvo_consumer *handle = handle_of(self);
    if (handle == NULL || self->taken)
        return handle != NULL ? PyList_New(0) : NULL;
    self->taken = true;
    int err;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_consumer_poll(handle, 0, &given, (size_t)max, &count);
    Py_END_ALLOW_THREADS
    /* Still taken: nobody polls or closes before the bytes are copied. */
    PyObject *messages = NULL;
    if (err == 0 || err == SALVO_ERR_TIMEOUT)
        messages = list_of(self, given, err == 0 ? count : 0);
    else
        fail(self, err);
    engine_consumer_give(self);
    return messages;
}

static PyObject *fileno_of(consumer_object *self, PyObject *none)
{
    (void)none;
    return handle_of(self) != NULL ? PyLong_FromLong(self->fd) : NULL;
}

/* --- settling --- */

static bool id_of(consumer_object *self, PyObject *message, uint64_t *id)
{
    if (!Py_IS_TYPE(message, state_of(self)->message_type)) {
        PyErr_Format(PyExc_TypeError, "a Message is needed, not a %.100s",
                     Py_TYPE(message)->tp_name);
        return false;
    }
    *id = ((message_object *)message)->id;
    return true;
}

/* All ids are looked at before the first chunk is settled. */
static int64_t ack_all(consumer_object *self, salvo_consumer *handle, PyObject *messages)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(messages);
    PyObject **items = PySequence_Fast_ITEMS(messages);
    uint64_t ids[ACKS];
    int64_t settled = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!id_of(self, items[i], &ids[0]))
            return -1000;
    for (Py_ssize_t done = 0; done < count; done += ACKS) {
        Py_ssize_t some = count - done < ACKS ? count - done : ACKS;
        for (Py_ssize_t i = 0; i < some; i++)
            ids[i] = ((message_object *)items[done + i])->id;
        int64_t here = salvo_consumer_ack(handle, ids, (size_t)some);
        if (here < 0)
            return here;
        settled += here;
    }
    return settled;
}

/* ack(messages): a sequence of them, or one. */
static PyObject *ack(consumer_object *self, PyObject *given)
{
    salvo_consumer *handle = handle_of(self);
    int64_t settled;
    if (handle == NULL)
        return NULL;
    if (Py_IS_TYPE(given, state_of(self)->message_type)) {
        settled = salvo_consumer_ack(handle, &((message_object *)given)->id, 1);
    } else {
        PyObject *messages = PySequence_Fast(given, "ack: a Message, or a list of them");
        /* Again: making a list of it may have run anything. */
        handle = messages != NULL ? handle_of(self) : NULL;
        settled = handle != NULL ? ack_all(self, handle, messages) : -1000;
        Py_XDECREF(messages);
    }
    if (settled == -1000)
        return NULL;
    return settled >= 0 ? PyLong_FromLongLong(settled) : fail(self, (int)settled);
}

static PyObject *held(consumer_object *self, PyObject *message)
{
    uint64_t id;
    salvo_consumer *handle = handle_of(self);
    if (handle == NULL || !id_of(self, message, &id))
        return NULL;
    int yes = salvo_consumer_is_held(handle, id);
    return yes >= 0 ? PyBool_FromLong(yes) : fail(self, yes);
}

/* all_held(messages): whether held() is true for each. */
static PyObject *all_held(consumer_object *self, PyObject *given)
{
    PyObject *messages = PySequence_Fast(given, "all_held: a list of Message");
    salvo_consumer *handle = messages != NULL ? handle_of(self) : NULL;
    uint64_t id;
    int yes = handle != NULL ? 1 : -1000;
    for (Py_ssize_t i = 0; yes == 1 && i < PySequence_Fast_GET_SIZE(messages); i++)
        yes = id_of(self, PySequence_Fast_GET_ITEM(messages, i), &id)
                  ? salvo_consumer_is_held(handle, id)
                  : -1000;
    Py_XDECREF(messages);
    if (yes >= 0)
        return PyBool_FromLong(yes);
    return yes != -1000 ? fail(self, yes) : NULL;
}

static bool parse_ms(PyObject *arg, uint64_t *ms)
{
    double seconds = PyFloat_AsDouble(arg);
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    *ms = seconds > 0 ? seconds < 1e8 ? (uint64_t)(seconds * 1000.0) : (uint64_t)1e11 : 0;
    return true;
}

static PyObject *commit(consumer_object *self, PyObject *arg)
{
    uint64_t timeout_ms;
    salvo_consumer *handle = parse_ms(arg, &timeout_ms) ? engine_consumer_take(self) : NULL;
    int err;
    if (handle == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_consumer_commit(handle, timeout_ms);
    Py_END_ALLOW_THREADS
    PyObject *result = err == 0 ? Py_NewRef(Py_None) : fail(self, err);
    engine_consumer_give(self);
    return result;
}

static PyObject *seek(consumer_object *self, PyObject *args)
{
    const char *topic;
    int partition, err;
    long long offset;
    if (!PyArg_ParseTuple(args, "siL", &topic, &partition, &offset))
        return NULL;
    salvo_consumer *handle = engine_consumer_take(self);
    if (handle == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_consumer_seek(handle, topic, partition, offset);
    Py_END_ALLOW_THREADS
    PyObject *result = err == 0 ? Py_NewRef(Py_None) : fail(self, err);
    engine_consumer_give(self);
    return result;
}

static PyObject *rewind_all(consumer_object *self, PyObject *none)
{
    (void)none;
    salvo_consumer *handle = engine_consumer_take(self);
    int err;
    if (handle == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    err = salvo_consumer_rewind(handle);
    Py_END_ALLOW_THREADS
    PyObject *result = err == 0 ? Py_NewRef(Py_None) : fail(self, err);
    engine_consumer_give(self);
    return result;
}

static PyObject *set_paused(consumer_object *self, PyObject *args, bool paused)
{
    const char *topic;
    int partition = SALVO_PARTITION_ALL, err;
    salvo_consumer *handle = handle_of(self);
    if (handle == NULL || !PyArg_ParseTuple(args, "s|i", &topic, &partition))
        return NULL;
    self->users++;
    Py_BEGIN_ALLOW_THREADS
    err = paused ? salvo_consumer_pause(handle, topic, partition)
                 : salvo_consumer_resume(handle, topic, partition);
    Py_END_ALLOW_THREADS
    PyObject *result = err == 0 ? Py_NewRef(Py_None) : fail(self, err);
    self->users--;
    return result;
}

static PyObject *pause_topic(consumer_object *self, PyObject *args)
{
    return set_paused(self, args, true);
}

static PyObject *resume_topic(consumer_object *self, PyObject *args)
{
    return set_paused(self, args, false);
}

/* --- looking --- */

static PyObject *of_lags(const salvo_lag *lags, int64_t count)
{
    PyObject *rows = PyList_New(0);
    for (int64_t i = 0; rows != NULL && i < count; i++) {
        PyObject *row = Py_BuildValue("(siLLL)", lags[i].topic, (int)lags[i].partition,
                                      (long long)lags[i].committed, (long long)lags[i].end,
                                      (long long)lags[i].lag);
        if (row == NULL || PyList_Append(rows, row) != 0)
            Py_CLEAR(rows);
        Py_XDECREF(row);
    }
    return rows;
}

/* lag(seconds): (topic, partition, committed, end, lag) of each partition of this member. */
static PyObject *lag(consumer_object *self, PyObject *arg)
{
    uint64_t timeout_ms;
    int64_t count = LAGS, room;
    PyObject *rows = NULL;
    salvo_consumer *handle = parse_ms(arg, &timeout_ms) ? handle_of(self) : NULL;
    if (handle == NULL)
        return NULL;
    self->users++;
    do {
        room = count;
        salvo_lag *lags = PyMem_Calloc((size_t)room, sizeof *lags);
        if (lags == NULL) {
            PyErr_NoMemory();
            break;
        }
        Py_BEGIN_ALLOW_THREADS
        count = salvo_consumer_lag(handle, lags, (size_t)room, timeout_ms);
        Py_END_ALLOW_THREADS
        if (count >= 0 && count <= room)
            rows = of_lags(lags, count);
        else if (count < 0)
            fail(self, (int)count);
        PyMem_Free(lags);
    } while (count > room);
    self->users--;
    return rows;
}

static PyObject *stats(consumer_object *self, PyObject *none)
{
    salvo_consumer_stats s = {.size = sizeof s};
    salvo_consumer *handle = handle_of(self);
    (void)none;
    if (handle == NULL)
        return NULL;
    int err = salvo_consumer_get_stats(handle, &s);
    if (err != 0)
        return fail(self, err);
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsIss}", "received", s.received, "acknowledged",
                         s.acknowledged, "lost", s.lost, "in_hand", s.in_hand, "redelivered",
                         s.redelivered, "rebalances", s.rebalances, "commits", s.commits,
                         "commit_failures", s.commit_failures, "assigned", s.assigned,
                         "broker_state", s.broker_state);
}

/* --- close --- */

/* close(seconds): commit what is acknowledged, give the rest back, leave the group. */
static PyObject *close_consumer(consumer_object *self, PyObject *arg)
{
    uint64_t timeout_ms;
    int err;
    if (!parse_ms(arg, &timeout_ms))
        return NULL;
    if (self->pid != getpid())
        self->handle = NULL;
    while (self->closing && self->handle != NULL)
        pause_a_moment(); /* another thread closes it */
    if (self->handle == NULL)
        Py_RETURN_NONE;
    self->closing = true;
    while (self->taken || self->users != 0)
        pause_a_moment();
    Py_BEGIN_ALLOW_THREADS
    err = salvo_consumer_close(self->handle, timeout_ms);
    Py_END_ALLOW_THREADS
    self->handle = NULL;
    return err == 0 ? Py_NewRef(Py_None) : fail(self, err);
}

static PyObject *is_closed(consumer_object *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->handle == NULL || self->closing || self->pid != getpid());
}

static PyObject *is_busy(consumer_object *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->taken);
}

static void consumer_free(consumer_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->handle != NULL && self->pid == getpid()) {
        salvo_consumer *handle = self->handle;
        int ignored;
        Py_BEGIN_ALLOW_THREADS
        ignored = salvo_consumer_close(handle, CLOSE_MS);
        Py_END_ALLOW_THREADS
        (void)ignored; /* whoever cares calls close() */
    }
    if (self->fd >= 0)
        close(self->fd);
    Py_XDECREF(self->producer);
    Py_XDECREF(self->names);
    type->tp_free(self);
    Py_DECREF(type);
}

static int consumer_traverse(consumer_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->producer);
    return 0;
}

#define PLAIN(function) ((PyCFunction)(void (*)(void))(function))
static PyMethodDef methods[] = {
    {"poll", PLAIN(poll_messages), METH_O, "poll(max) -> list of Message; never waits"},
    {"fileno", PLAIN(fileno_of), METH_NOARGS, "Readable while poll() may give something."},
    {"ack", PLAIN(ack), METH_O, "ack(messages) -> how many were still ours to settle"},
    {"held", PLAIN(held), METH_O, "held(message) -> whether it is unsettled and still ours"},
    {"all_held", PLAIN(all_held), METH_O, "all_held(messages) -> whether each is held"},
    {"commit", PLAIN(commit), METH_O, "commit(seconds): waits for the broker"},
    {"seek", PLAIN(seek), METH_VARARGS, "seek(topic, partition, offset)"},
    {"rewind", PLAIN(rewind_all), METH_NOARGS, "Read on from what is committed."},
    {"pause", PLAIN(pause_topic), METH_VARARGS, "pause(topic, partition=-1)"},
    {"resume", PLAIN(resume_topic), METH_VARARGS, "resume(topic, partition=-1)"},
    {"lag", PLAIN(lag), METH_O,
     "lag(seconds) -> list of (topic, partition, committed, end, lag)"},
    {"stats", PLAIN(stats), METH_NOARGS, "salvo_consumer_stats as a dict."},
    {"close", PLAIN(close_consumer), METH_O, "close(seconds): commit, give back, leave"},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef getters[] = {
    {"busy", (getter)is_busy, NULL, "Whether another thread has it: polls give nothing.", NULL},
    {"closed", (getter)is_closed, NULL, "Whether it is, or belongs to a parent.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {{Py_tp_new, consumer_new},
                              {Py_tp_dealloc, consumer_free},
                              {Py_tp_traverse, consumer_traverse},
                              {Py_tp_methods, methods},
                              {Py_tp_getset, getters},
                              {Py_tp_doc, "A member of a group that reads topics."},
                              {0, NULL}};

/* Not a base type: state_of() asks the type itself. */
PyType_Spec engine_consumer_spec = {.name = "salvo._engine.Consumer",
                                    .basicsize = sizeof(consumer_object),
                                    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                                    .slots = slots};
