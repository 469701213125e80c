/* SPDX-License-Identifier: Apache-2.0
 *
 * salvo._engine: the C engine as Python objects, the thinnest layer that is safe. What people call
 * is salvo.messaging. Guarantees: it loads only into the main interpreter of a CPython with a GIL
 * and says so otherwise.
 */
#include "consume.h"

#include <salvo/version.h>
#include <string.h>

#ifdef Py_GIL_DISABLED
#error "salvo does not support free-threaded CPython yet: build it with a CPython that has the GIL"
#endif
#if PY_VERSION_HEX < 0x030b0000
#error "salvo needs CPython 3.11 or later"
#endif

engine_state *engine_state_of(PyObject *object)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(object), &engine_module);
    return module != NULL ? PyModule_GetState(module) : NULL;
}

PyObject *engine_raise(engine_state *state, int code, const char *text)
{
    if (state == NULL)
        return NULL;
    if (text == NULL || *text == '\0')
        text = salvo_last_error();
    if (*text == '\0')
        text = salvo_strerror(code);
    /* The engine cuts long texts at a byte, which may be inside a character. */
    PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    PyObject *error =
        words != NULL ? PyObject_CallFunction(state->make_error, "iO", code, words) : NULL;
    Py_XDECREF(words);
    if (error == NULL)
        return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

bool engine_view(PyObject *object, salvo_bytes *view, Py_buffer *buffer)
{
    buffer->obj = NULL;
    if (PyBytes_CheckExact(object)) {
        *view = (salvo_bytes){PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object)};
        return true;
    }
    if (PyUnicode_Check(object)) {
        Py_ssize_t size;
        view->data = PyUnicode_AsUTF8AndSize(object, &size);
        view->len = (size_t)size;
        return view->data != NULL;
    }
    if (PyObject_GetBuffer(object, buffer, PyBUF_SIMPLE) != 0)
        return false;
    *view = (salvo_bytes){buffer->buf != NULL ? buffer->buf : "", (size_t)buffer->len};
    return true;
}

static bool refuse_interpreter(void)
{
    if (PyInterpreterState_Get() == PyInterpreterState_Main())
        return false;
    PyErr_SetString(PyExc_ImportError,
                    "salvo does not support sub-interpreters yet: import it in the main "
                    "interpreter, or use a process per worker");
    return true;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, type) != 0)
        Py_CLEAR(type);
    return type;
}

static int fill(PyObject *module)
{
    engine_state *state = PyModule_GetState(module);
    if (refuse_interpreter())
        return -1;
    PyObject *errors = PyImport_ImportModule("salvo.messaging.errors");
    if (errors == NULL)
        return -1;
    state->make_error = PyObject_GetAttrString(errors, "error_of_code");
    state->messaging_error = PyObject_GetAttrString(errors, "MessagingError");
    state->bad_message = PyObject_GetAttrString(errors, "bad_message");
    Py_DECREF(errors);
    state->current_name = PyUnicode_InternFromString("_current");
    state->forget_name = PyUnicode_InternFromString("_forget");
    state->resolve_name = PyUnicode_InternFromString("resolve");
    if (state->make_error == NULL || state->messaging_error == NULL ||
        state->bad_message == NULL ||
        state->current_name == NULL || state->forget_name == NULL ||
        state->resolve_name == NULL)
        return -1;
    state->config_type = add_type(module, &engine_config_spec);
    state->delivery_type = add_type(module, &engine_delivery_spec);
    state->batch_type = add_type(module, &engine_batch_spec);
    state->producer_type = add_type(module, &engine_producer_spec);
    state->sending_type = add_type(module, &engine_sending_spec);
    state->consumer_type = add_type(module, &engine_consumer_spec);
    state->message_type = add_type(module, &engine_message_spec);
    if (state->config_type == NULL || state->delivery_type == NULL || state->batch_type == NULL ||
        state->producer_type == NULL || state->sending_type == NULL ||
        state->consumer_type == NULL || state->message_type == NULL)
        return -1;
    PyTypeObject *avro_type = add_type(module, &engine_avro_spec);
    Py_XDECREF(avro_type); /* the module's own reference is enough */
    if (avro_type == NULL)
        return -1;
    PyTypeObject *transaction_type = add_type(module, &engine_transaction_spec);
    Py_XDECREF(transaction_type);
    if (transaction_type == NULL)
        return -1;
    return PyModule_AddStringConstant(module, "version", salvo_version());
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    engine_state *state = PyModule_GetState(module);
    Py_VISIT(state->config_type);
    Py_VISIT(state->producer_type);
    Py_VISIT(state->batch_type);
    Py_VISIT(state->delivery_type);
    Py_VISIT(state->sending_type);
    Py_VISIT(state->consumer_type);
    Py_VISIT(state->message_type);
    Py_VISIT(state->make_error);
    Py_VISIT(state->messaging_error);
    Py_VISIT(state->bad_message);
    Py_VISIT(state->decode_json);
    Py_VISIT(state->encode_into);
    Py_VISIT(state->pool);
    return 0;
}

static int clear(PyObject *module)
{
    engine_state *state = PyModule_GetState(module);
    Py_CLEAR(state->config_type);
    Py_CLEAR(state->producer_type);
    Py_CLEAR(state->batch_type);
    Py_CLEAR(state->delivery_type);
    Py_CLEAR(state->sending_type);
    Py_CLEAR(state->consumer_type);
    Py_CLEAR(state->message_type);
    Py_CLEAR(state->make_error);
    Py_CLEAR(state->messaging_error);
    Py_CLEAR(state->bad_message);
    Py_CLEAR(state->decode_json);
    Py_CLEAR(state->encode_into);
    Py_CLEAR(state->pool);
    Py_CLEAR(state->current_name);
    Py_CLEAR(state->forget_name);
    Py_CLEAR(state->resolve_name);
    return 0;
}

/* use_encoder(encode_into, pool): what sendings encode with. */
static PyObject *use_encoder(PyObject *module, PyObject *args)
{
    engine_state *state = PyModule_GetState(module);
    PyObject *encode_into, *pool;
    if (!PyArg_ParseTuple(args, "OO!", &encode_into, &PyList_Type, &pool))
        return NULL;
    Py_XSETREF(state->encode_into, Py_NewRef(encode_into));
    Py_XSETREF(state->pool, Py_NewRef(pool));
    Py_RETURN_NONE;
}

/* use_decoder(decode): what Message.json() decodes with. */
static PyObject *use_decoder(PyObject *module, PyObject *decode)
{
    engine_state *state = PyModule_GetState(module);
    Py_XSETREF(state->decode_json, Py_NewRef(decode));
    Py_RETURN_NONE;
}

static void module_free(void *module)
{
    engine_state *state = PyModule_GetState(module);
    if (state == NULL)
        return;
    clear(module);
    engine_blocks_free(state->spare_blocks);
    state->spare_blocks = NULL;
}

static PyMethodDef functions[] = {
    {"read", engine_read, METH_VARARGS,
     "read(config, producer, topic, timeout_ms) -> list of (partition, offset, timestamp_ms, key, "
     "value, headers): what the topic holds now."},
    {"use_encoder", use_encoder, METH_VARARGS,
     "use_encoder(encode_into, pool): msgspec's, and a list of bytearrays, for sendings."},
    {"use_decoder", use_decoder, METH_O, "use_decoder(decode): msgspec's, for messages."},
    {"json_all", engine_json_all, METH_O, "json_all(messages) -> each one's json()"},
    {"sending", (PyCFunction)(void (*)(void))engine_sending, METH_FASTCALL,
     "sending(facade, topic, message, key) -> an awaitable that sends, and waits for nothing."},
    {"all_bytes", engine_all_bytes, METH_O, "all_bytes(list) -> whether each is exactly bytes."},
    {"topics_create", engine_topics_create, METH_VARARGS,
     "topics_create(config, producer, name, partitions, replication, retention_ms, cleanup, "
     "timeout)"},
    {"topics_list", engine_topics_list, METH_VARARGS,
     "topics_list(config, producer, timeout) -> list of dicts, sorted by name."},
    {"topics_describe", engine_topics_describe, METH_VARARGS,
     "topics_describe(config, producer, name, timeout) -> dict."},
    {"topics_ensure", engine_topics_ensure, METH_VARARGS,
     "topics_ensure(config, producer, name, partitions, replication, retention_ms, cleanup, "
     "timeout) -> (1 created, 0 as wanted, 2 different; the differences, a line each)."},
    {"topics_delete", engine_topics_delete, METH_VARARGS,
     "topics_delete(config, producer, name, timeout): gone, or was not there."},
    {"group_lag", engine_group_lag, METH_VARARGS,
     "group_lag(config, producer, group, topic, timeout) -> list of (topic, partition, committed, "
     "end, lag), by partition; -1 is unknown."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill},
#if PY_VERSION_HEX >= 0x030c0000
    /* So that `fill` is reached in every interpreter and can refuse in words of its own. */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL}};

struct PyModuleDef engine_module = {.m_base = PyModuleDef_HEAD_INIT,
                                    .m_name = "salvo._engine",
                                    .m_doc = "Salvo's C engine; use salvo.messaging.",
                                    .m_size = sizeof(engine_state),
                                    .m_methods = functions,
                                    .m_slots = slots,
                                    .m_traverse = traverse,
                                    .m_clear = clear,
                                    .m_free = module_free};

PyMODINIT_FUNC PyInit__engine(void); /* what the interpreter looks up */
PyMODINIT_FUNC PyInit__engine(void)
{
    return PyModuleDef_Init(&engine_module);
}
