/* SPDX-License-Identifier: Apache-2.0
 *
 * What consume.c and message.c share, and what a call of another file needs that must have a
 * consumer for itself. Guarantees: as engine.h; whoever has taken a consumer's handle is alone
 * with it, without the GIL too, and close waits until it is given back.
 */
#ifndef SALVO_PYTHON_CONSUME_H
#define SALVO_PYTHON_CONSUME_H

#include "engine.h"

#include <salvo/consumer.h>

/* One message, as it was read. Immutable; holds nothing that could lead back to it. */
typedef struct message_object {
    PyObject_HEAD
    PyObject *topic;      /* str */
    PyObject *key, *value; /* bytes or None */
    PyObject *headers;    /* NULL: none; else bytes: packed, see message.c */
    uint64_t id;
    int64_t offset, timestamp_ms;
    int32_t partition;
    uint32_t deliveries;
} message_object;

enum { TOPIC_NAMES_MAX = 256 };

typedef struct consumer_object {
    PyObject_HEAD
    salvo_consumer *handle; /* NULL: closed */
    pid_t pid;
    int fd;             /* a duplicate, open as long as this object */
    PyObject *producer; /* None, or whose broker is read */
    PyObject *names;    /* list of str: topics met so far */
    Py_ssize_t latest;  /* the one met last */
    unsigned users;     /* calls that run without the GIL and need not be alone */
    bool taken, closing;
} consumer_object;

extern PyType_Spec engine_consumer_spec, engine_message_spec, engine_transaction_spec;

/* The handle, alone with it until it is given back; waits, without the GIL, while another thread
 * has it. NULL with ProducerClosed or Forked set. */
salvo_consumer *engine_consumer_take(consumer_object *self);
void engine_consumer_give(consumer_object *self);

/* A Message of what a poll gave; its topic is a new reference that it takes over. */
PyObject *engine_message_of(PyTypeObject *type, PyObject *topic, const salvo_delivered *given);

/* json_all(messages) -> list of what they hold */
PyObject *engine_json_all(PyObject *module, PyObject *messages);

#endif
