/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the extension share. Guarantees: every object here is used with the GIL held;
 * it is released only inside open, flush, close and the waits, each of which counts itself in
 * `users`, so that close never frees a producer under a running call.
 */
#ifndef SALVO_PYTHON_ENGINE_H
#define SALVO_PYTHON_ENGINE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <salvo/salvo.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct engine_state {
    PyTypeObject *config_type, *producer_type, *batch_type, *delivery_type, *sending_type;
    PyTypeObject *consumer_type, *message_type;
    struct text_block *spare_blocks; /* of lines.c, for the next batch */
    unsigned spare_block_count;
    PyObject *make_error; /* (code, text) -> exception, from salvo.messaging.errors */
    PyObject *messaging_error;
    PyObject *bad_message; /* (message, error) -> exception, from there */
    PyObject *decode_json; /* of salvo.messaging.encoding, once it is imported */
    PyObject *encode_into, *pool;          /* of salvo.messaging.encoding, once it is imported */
    PyObject *current_name, *forget_name;  /* of a facade */
    PyObject *resolve_name;
} engine_state;

typedef struct config_object {
    PyObject_HEAD
    salvo_config *config;
} config_object;

enum { DELIVERY_PENDING = 1 }; /* a status that no engine error has */

/* One message whose outcome somebody may ask for. While it is under way its producer's list holds
 * a reference; `waiters` is NULL until somebody awaits it. */
typedef struct producer_object producer_object;
typedef struct delivery_object {
    PyObject_HEAD
    struct delivery_object *previous, *next;
    producer_object *producer; /* borrowed, while it is under way; then NULL */
    PyObject *topic;           /* str */
    PyObject *waiters; /* list, or NULL */
    int64_t offset, timestamp_ms;
    uint64_t latency_ns;
    int32_t partition, status;
} delivery_object;

typedef struct text_block text_block;

/* Values that are ready to be sent. `owners`, `blocks` and `key_owners` keep alive what `values`
 * and `keys` point at. */
typedef struct batch_object {
    PyObject_HEAD
    PyObject *owners, *key_owners;
    text_block *blocks;
    salvo_bytes *values, *keys; /* keys: NULL, or one per value */
    salvo_bytes one_key;        /* data NULL: none */
    Py_buffer *buffers;
    size_t buffer_count, count, sent;
    size_t largest_bytes, largest_index;
} batch_object;

struct producer_object {
    PyObject_HEAD
    salvo *handle; /* NULL: closed, or another process's */
    pid_t pid;
    PyObject *topics; /* list of names by id */
    PyObject *ids;    /* dict of ids by name */
    unsigned unyielded; /* messages accepted for sendings since one of them yielded */
    PyObject *delivery_class;
    delivery_object *under_way;
    size_t max_message_bytes;
    unsigned users; /* calls that run without the GIL */
    bool closing;
};

extern struct PyModuleDef engine_module;
extern PyType_Spec engine_config_spec, engine_producer_spec, engine_batch_spec,
    engine_delivery_spec, engine_sending_spec, engine_avro_spec;

engine_state *engine_state_of(PyObject *object);

/* Raise what `code` stands for, with text (NULL: the engine's own words). Returns NULL. */
PyObject *engine_raise(engine_state *state, int code, const char *text);

/* The bytes of a bytes, bytearray, str or buffer; *buffer must be released if it has an obj.
 * Returns false with a TypeError set. */
bool engine_view(PyObject *object, salvo_bytes *view, Py_buffer *buffer);

/* The producer's handle, or NULL with ProducerClosed or ForkedError set. */
salvo *engine_handle(producer_object *producer);

delivery_object *engine_delivery_new(producer_object *producer, salvo_topic topic);
void engine_delivery_link(producer_object *producer, delivery_object *delivery);
/* Take it off the list, with its outcome; gives the list's reference to the caller. */
void engine_delivery_settle(producer_object *producer, delivery_object *delivery,
                            const salvo_report *report);

/* Take all reports that wait. -1 with an exception set when a waiter could not be told. */
int engine_collect(producer_object *producer);

/* batch.c and lines.c. Room for `count` values; NULL with an exception set. */
batch_object *engine_batch_alloc(PyObject *type, size_t count);
PyObject *engine_batch_lines(PyObject *type, PyObject *args);
void engine_blocks_give(engine_state *state, text_block *blocks);
void engine_blocks_free(text_block *blocks);

static inline void engine_batch_measure(batch_object *batch, size_t index)
{
    size_t bytes = batch->values[index].len + batch->one_key.len;
    bytes += batch->keys != NULL ? batch->keys[index].len : 0;
    if (bytes <= batch->largest_bytes)
        return;
    batch->largest_bytes = bytes;
    batch->largest_index = index;
}

PyObject *engine_send(producer_object *self, PyObject *const *args, Py_ssize_t count);
PyObject *engine_send_value(producer_object *self, PyObject *const *args, Py_ssize_t count);
PyObject *engine_send_json(producer_object *self, PyObject *const *args, Py_ssize_t count);
PyObject *engine_sending(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *engine_send_batch(producer_object *self, PyObject *const *args, Py_ssize_t count);
PyObject *engine_stats(producer_object *self, PyObject *none);
PyObject *engine_ledger(producer_object *self, PyObject *topic);
PyObject *engine_all_bytes(PyObject *module, PyObject *items);
PyObject *engine_read(PyObject *module, PyObject *args);

/* admin.c */
PyObject *engine_topics_create(PyObject *module, PyObject *args);
PyObject *engine_topics_list(PyObject *module, PyObject *args);
PyObject *engine_topics_describe(PyObject *module, PyObject *args);
PyObject *engine_topics_ensure(PyObject *module, PyObject *args);
PyObject *engine_topics_delete(PyObject *module, PyObject *args);
PyObject *engine_group_lag(PyObject *module, PyObject *args);

#endif
