/* SPDX-License-Identifier: Apache-2.0
 *
 * The flat encoder of Avro: what avro.c builds once from a schema, avro_put.c runs per message,
 * avro_time.c helps with. A schema is an array of nodes that name each other by index, so that
 * recursive types need no pointers and no reference cycles.
 */
#ifndef SALVO_PYTHON_AVRO_H
#define SALVO_PYTHON_AVRO_H

#include "engine.h"

/* The numbers are avro.py's too. */
typedef enum avro_kind {
    AVRO_NULL, AVRO_BOOLEAN, AVRO_INT, AVRO_LONG, AVRO_FLOAT, AVRO_DOUBLE, AVRO_BYTES,
    AVRO_STRING, AVRO_FIXED, AVRO_ENUM, AVRO_ARRAY, AVRO_MAP, AVRO_UNION, AVRO_RECORD,
    /* logical types */
    AVRO_DECIMAL, AVRO_UUID, AVRO_DATE, AVRO_TIME_MILLIS, AVRO_TIME_MICROS,
    AVRO_TIMESTAMP_MILLIS, AVRO_TIMESTAMP_MICROS, AVRO_LOCAL_MILLIS, AVRO_LOCAL_MICROS,
    AVRO_JSON, /* a string that holds JSON text */
    AVRO_KINDS
} avro_kind;

/* What a, b and c mean:
 *   FIXED         size
 *   ARRAY, MAP    node of the items
 *   UNION         first field, count, which branch is null (-1: none)
 *   RECORD        first field, count
 *   DECIMAL       size of the fixed (0: bytes), precision, scale
 * names: ENUM, symbol -> position; UNION, name of the branch -> position. */
typedef struct avro_node {
    avro_kind kind;
    Py_ssize_t a, b, c;
    PyObject *names;
} avro_node;

typedef struct avro_field {
    PyObject *name;     /* NULL: a branch of a union */
    PyObject *fallback; /* the default, encoded: bytes; NULL: there is none */
    Py_ssize_t node;
} avro_field;

typedef struct avro_encoder {
    PyObject_HEAD
    avro_node *nodes;
    avro_field *fields;
    Py_ssize_t node_count, field_count;
    PyObject *adapt;  /* (kind, value, a, b, c) -> something this node takes; may raise */
    PyObject *failed; /* (path, reason) -> exception */
    PyTypeObject *model_type, *uuid_type;
} avro_encoder;

/* Bytes that grow; the first few lie on the stack. */
typedef struct avro_out {
    char *at, *end, *begin;
    char own[512];
} avro_out;

/* Where in the message: frames lie on the stack, innermost first. */
typedef struct avro_path {
    const struct avro_path *up;
    PyObject *name;   /* of a field or a map's entry, borrowed; NULL: an index */
    Py_ssize_t index; /* -1 without a name: nothing to show */
} avro_path;

typedef struct avro_run {
    const avro_encoder *encoder;
    avro_out *out;
    int depth;
    int checking; /* a union looks for its branch: what is written is taken back */
} avro_run;

/* Appends a value; false with an exception set. */
bool engine_avro_put(avro_run *run, Py_ssize_t node, PyObject *value, const avro_path *at);

/* Raises encoder->failed(path, reason); returns false. An exception that is set already gives the
 * reason where `format` is NULL. */
bool engine_avro_fail(const avro_run *run, const avro_path *at, const char *format, ...);

/* "<wanted> is needed, not <type of value>"; returns false. */
bool engine_avro_wrong(const avro_run *run, const avro_path *at, const char *wanted,
                       PyObject *value);

bool engine_avro_put_long(avro_out *out, int64_t number);
bool engine_avro_put_raw(avro_out *out, const void *data, size_t bytes);
/* Whether it is a row of items: a list, tuple, set or other sequence, but no text and no bytes. */
bool engine_avro_is_row(PyObject *value);
bool engine_avro_put_record(avro_run *run, const avro_node *node, PyObject *value,
                            const avro_path *at);
bool engine_avro_put_union(avro_run *run, const avro_node *node, PyObject *value,
                           const avro_path *at);

/* avro_time.c: the number of a date, time or datetime. 1: done, 0: it is none of them, -1: an
 * exception is set. */
int engine_avro_time(avro_kind kind, PyObject *value, int64_t *number);
bool engine_avro_time_ready(void); /* once; false with an exception set */

#endif
