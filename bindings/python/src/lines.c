/* SPDX-License-Identifier: Apache-2.0
 *
 * A list as lines of text: encoded in runs, each of which is copied off and split while it is in
 * the cache, so that the next one finds its memory warm. Guarantees: the texts lie in blocks that
 * do not move, kept for the next batch up to SPARE_BLOCKS of them; the split is exact, because
 * JSON itself holds no newline and the lines are counted against the items.
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

enum { RUN = 1024, BLOCK_BYTES = 1 << 20, SPARE_BLOCKS = 16 };

struct text_block {
    struct text_block *next;
    size_t used;
    char text[BLOCK_BYTES - 2 * sizeof(size_t)];
};

void engine_blocks_free(text_block *blocks)
{
    while (blocks != NULL) {
        text_block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

void engine_blocks_give(engine_state *state, text_block *blocks)
{
    while (blocks != NULL && state != NULL && state->spare_block_count < SPARE_BLOCKS) {
        text_block *next = blocks->next;
        blocks->next = state->spare_blocks;
        state->spare_blocks = blocks;
        state->spare_block_count++;
        blocks = next;
    }
    engine_blocks_free(blocks);
}

static text_block *take_block(engine_state *state)
{
    text_block *block = state->spare_blocks;
    if (block != NULL) {
        state->spare_blocks = block->next;
        state->spare_block_count--;
    } else {
        block = malloc(sizeof *block);
    }
    if (block != NULL) {
        block->next = NULL;
        block->used = 0;
    }
    return block;
}

/* Where the text stays: its own object if it is large, else a copy in a block. */
static const char *keep(engine_state *state, batch_object *batch, PyObject *text)
{
    size_t size = (size_t)PyBytes_GET_SIZE(text);
    text_block *block = batch->blocks;
    if (size > sizeof block->text / 4)
        return PyList_Append(batch->owners, text) == 0 ? PyBytes_AS_STRING(text) : NULL;
    if (block == NULL || sizeof block->text - block->used < size) {
        block = take_block(state);
        if (block == NULL)
            return (const char *)PyErr_NoMemory();
        block->next = batch->blocks;
        batch->blocks = block;
    }
    char *at = block->text + block->used;
    memcpy(at, PyBytes_AS_STRING(text), size);
    block->used += size;
    return at;
}

/* false: it holds more lines than there is room for, or its last one has no end. */
static bool split(batch_object *batch, const char *at, size_t size, size_t limit)
{
    const char *end = at + size;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL || batch->count == limit)
            return false;
        batch->values[batch->count] = (salvo_bytes){at, (size_t)(newline - at)};
        engine_batch_measure(batch, batch->count++);
        at = newline + 1;
    }
    return true;
}

static bool all_dicts(PyObject *run)
{
    bool all = true;
    for (Py_ssize_t i = 0; all && i < PyList_GET_SIZE(run); i++)
        all = PyDict_CheckExact(PyList_GET_ITEM(run, i));
    return all;
}

/* One run of the list, a copy: encoding may change the list. false: see lines(), or an exception
 * is set. */
static bool add_run(engine_state *state, batch_object *batch, PyObject *encode, PyObject *items,
                    Py_ssize_t from, Py_ssize_t count, bool dicts)
{
    PyObject *run = PyList_GetSlice(items, from, from + RUN);
    bool fit = run != NULL && (!dicts || all_dicts(run));
    size_t items_in_run = run != NULL ? (size_t)PyList_GET_SIZE(run) : 0;
    PyObject *text = fit ? PyObject_CallOneArg(encode, run) : NULL;
    Py_XDECREF(run);
    if (text == NULL || !PyBytes_CheckExact(text)) {
        if (text != NULL)
            PyErr_SetString(PyExc_TypeError, "encode_lines must return bytes");
        Py_XDECREF(text);
        return false;
    }
    const char *at = keep(state, batch, text);
    size_t before = batch->count;
    bool sound = at != NULL && split(batch, at, (size_t)PyBytes_GET_SIZE(text), (size_t)count);
    Py_DECREF(text);
    return sound && batch->count == before + items_in_run;
}

/* lines(encode_lines, items, only_dicts): None when there are not exactly as many lines as items,
 * which means that an item holds a newline of its own or that the list was changed meanwhile; and
 * when only dicts are wanted (no subclasses) and another thing is found. */
PyObject *engine_batch_lines(PyObject *type, PyObject *args)
{
    PyObject *encode, *items;
    int dicts;
    if (!PyArg_ParseTuple(args, "OO!p", &encode, &PyList_Type, &items, &dicts))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(items);
    batch_object *batch = engine_batch_alloc(type, (size_t)count);
    if (batch == NULL)
        return NULL;
    engine_state *state = engine_state_of((PyObject *)batch);
    batch->owners = PyList_New(0);
    bool sound = state != NULL && batch->owners != NULL;
    for (Py_ssize_t from = 0; sound && from < count; from += RUN)
        sound = add_run(state, batch, encode, items, from, count, dicts != 0);
    if (sound && batch->count == (size_t)count && PyList_GET_SIZE(items) == count)
        return (PyObject *)batch;
    Py_DECREF(batch);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}
