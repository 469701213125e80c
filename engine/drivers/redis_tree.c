/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies as lists of nodes; see redis_tree.h.
 */
#include "redis_tree.h"

#include <salvo/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEED_BYTES = 16384, DEPTH_MOST = 8, NODES_FIRST = 64, TEXTS_FIRST = 4096 };

static char present; /* hiredis takes NULL for out of memory */

void salvo_redis_tree_free(salvo_redis_tree *tree)
{
    free(tree->nodes);
    free(tree->texts);
    *tree = (salvo_redis_tree){0};
}

void salvo_redis_tree_clear(salvo_redis_tree *tree)
{
    tree->node_count = tree->used = 0;
    tree->cut = tree->no_memory = false;
}

static bool node_room(salvo_redis_tree *tree)
{
    if (tree->node_count < tree->node_room)
        return true;
    size_t more = tree->node_room ? 2 * tree->node_room : NODES_FIRST;
    salvo_redis_node *grown = realloc(tree->nodes, more * sizeof *grown);
    if (grown) {
        tree->nodes = grown;
        tree->node_room = more;
    }
    return grown != NULL;
}

static bool text_room(salvo_redis_tree *tree, size_t n)
{
    size_t need = tree->used + n, more = tree->room ? 2 * tree->room : TEXTS_FIRST;
    if (need <= tree->room)
        return true;
    char *grown = realloc(tree->texts, more > need ? more : need);
    if (grown) {
        tree->texts = grown;
        tree->room = more > need ? more : need;
    }
    return grown != NULL;
}

/* NULL ends the reader: nested deeper than any reply that is asked for. */
static void *keep(const redisReadTask *task, int type, uint32_t count, int64_t value,
                  const char *text)
{
    salvo_redis_tree *tree = ((salvo_redis_source *)task->privdata)->into;
    int depth = 0;
    for (const redisReadTask *up = task->parent; up; up = up->parent)
        depth++;
    if (depth > DEPTH_MOST)
        return NULL;
    size_t kept = tree->used + tree->node_count * sizeof *tree->nodes;
    tree->cut = tree->cut || (tree->node_count > 0 && kept > tree->most);
    if (tree->cut || tree->no_memory)
        return &present;
    tree->no_memory = !node_room(tree) || (text && !text_room(tree, (size_t)count + 1));
    if (tree->no_memory)
        return &present;
    if (text) {
        value = (int64_t)tree->used;
        memcpy(tree->texts + tree->used, text, count);
        tree->texts[tree->used + count] = '\0';
        tree->used += (size_t)count + 1;
    }
    tree->nodes[tree->node_count++] = (salvo_redis_node){type, count, value};
    return &present;
}

static void *on_string(const redisReadTask *task, char *text, size_t length)
{
    return length > SALVO_REDIS_TEXT_MOST ? NULL
                                          : keep(task, task->type, (uint32_t)length, 0, text);
}

static void *on_array(const redisReadTask *task, int elements)
{
    return elements < 0 ? NULL : keep(task, REDIS_REPLY_ARRAY, (uint32_t)elements, 0, NULL);
}

static void *on_integer(const redisReadTask *task, long long number)
{
    return keep(task, REDIS_REPLY_INTEGER, 0, number, NULL);
}

static void *on_nil(const redisReadTask *task)
{
    return keep(task, REDIS_REPLY_NIL, 0, 0, NULL);
}

static void on_free(void *object)
{
    (void)object;
}

void salvo_redis_source_close(salvo_redis_source *source)
{
    if (source->reader)
        redisReaderFree(source->reader);
    source->reader = NULL;
}

int salvo_redis_source_open(salvo_redis_source *source)
{
    static redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, on_free};
    salvo_redis_source_close(source);
    if (source->into)
        salvo_redis_tree_clear(source->into);
    source->reader = redisReaderCreateWithFunctions(&functions);
    if (!source->reader)
        return SALVO_ERR_NOMEM;
    source->reader->privdata = source;
    return 0;
}

static int broken(salvo_redis_source *source, const char *why)
{
    snprintf(source->error, sizeof source->error, "what came is no reply that was asked for: %s",
             why);
    return SALVO_ERR_INVALID;
}

int salvo_redis_source_feed(salvo_redis_source *source, const void *bytes, size_t n,
                            int (*on_reply)(void *context, salvo_redis_tree *tree), void *context)
{
    const char *at = bytes;
    while (n > 0) {
        size_t some = n < FEED_BYTES ? n : FEED_BYTES;
        if (redisReaderFeed(source->reader, at, some) != REDIS_OK)
            return broken(source, source->reader->errstr);
        at += some;
        n -= some;
        for (;;) {
            void *object = NULL;
            salvo_redis_tree *tree = source->into;
            if (redisReaderGetReply(source->reader, &object) != REDIS_OK)
                return broken(source, source->reader->errstr);
            if (!object)
                break;
            int stop = on_reply(context, tree);
            if (stop)
                return stop;
            if (source->into == tree)
                salvo_redis_tree_clear(tree);
        }
        if (source->reader->len - source->reader->pos > SALVO_REDIS_TEXT_MOST)
            return broken(source, "it is too large");
    }
    return 0;
}

bool salvo_redis_walk_text(salvo_redis_walk *walk, salvo_redis_text *text)
{
    const salvo_redis_node *node = salvo_redis_walk_next(walk);
    if (!node || node->type != REDIS_REPLY_STRING)
        return false;
    *text = salvo_redis_tree_text(walk->tree, node);
    return true;
}

bool salvo_redis_walk_array(salvo_redis_walk *walk, uint32_t *count)
{
    const salvo_redis_node *node = salvo_redis_walk_next(walk);
    *count = node && node->type == REDIS_REPLY_ARRAY ? node->count : 0;
    return node && (node->type == REDIS_REPLY_ARRAY || node->type == REDIS_REPLY_NIL);
}

bool salvo_redis_walk_number(salvo_redis_walk *walk, int64_t *number)
{
    const salvo_redis_node *node = salvo_redis_walk_next(walk);
    *number = node ? node->value : 0;
    return node && node->type == REDIS_REPLY_INTEGER;
}

const char *salvo_redis_tree_error(const salvo_redis_tree *tree, char *text, size_t size)
{
    text[0] = '\0';
    if (tree->node_count == 0 || tree->nodes[0].type != REDIS_REPLY_ERROR)
        return text;
    snprintf(text, size, "%s", tree->texts + tree->nodes[0].value);
    for (char *c = text; *c; c++)
        *c = *c >= ' ' && *c < 127 ? *c : '?';
    return text;
}
