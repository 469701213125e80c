/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies of a Redis server kept whole, for consumers: a flat list of nodes in the order they
 * came (an array, then what it holds), texts in one piece of memory. hiredis' reader takes the
 * bytes apart. Guarantees: memory grows only as bytes arrive; beyond `most` bytes nothing is kept
 * and `cut` says so, what was kept before stays whole; a text above SALVO_REDIS_TEXT_MOST, nesting
 * or bytes that are no reply end the source, which then says why. Knows no socket.
 */
#ifndef SALVO_REDIS_TREE_H
#define SALVO_REDIS_TREE_H

#include "redis_record.h"
#include "redis_reply.h"

#define SALVO_REDIS_TEXT_MOST ((size_t)256 << 20)

typedef struct salvo_redis_node {
    int32_t type;   /* REDIS_REPLY_... */
    uint32_t count; /* of an array its elements, of a text its bytes */
    int64_t value;  /* an integer, or where a text begins */
} salvo_redis_node;

typedef struct salvo_redis_tree {
    salvo_redis_node *nodes;
    char *texts;
    size_t node_count, node_room, used, room;
    size_t most;
    bool cut, no_memory;
} salvo_redis_tree;

void salvo_redis_tree_free(salvo_redis_tree *tree);
void salvo_redis_tree_clear(salvo_redis_tree *tree);
static inline salvo_redis_text salvo_redis_tree_text(const salvo_redis_tree *tree,
                                                     const salvo_redis_node *node)
{
    return (salvo_redis_text){tree->texts + node->value, node->count};
}

/* Walk it: the next node, NULL behind the last. */
typedef struct salvo_redis_walk {
    const salvo_redis_tree *tree;
    size_t at;
} salvo_redis_walk;
static inline const salvo_redis_node *salvo_redis_walk_next(salvo_redis_walk *walk)
{
    return walk->at < walk->tree->node_count ? &walk->tree->nodes[walk->at++] : NULL;
}
/* The next node where it is a text, or an array (a nil counts as an empty one). False: it is not,
 * or there is none. */
bool salvo_redis_walk_text(salvo_redis_walk *walk, salvo_redis_text *text);
bool salvo_redis_walk_array(salvo_redis_walk *walk, uint32_t *count);
bool salvo_redis_walk_number(salvo_redis_walk *walk, int64_t *number);

typedef struct salvo_redis_source {
    redisReader *reader;
    salvo_redis_tree *into; /* the reply that is being read; set it before the first */
    char error[192];
} salvo_redis_source;

/* For a new connection: nothing of the old one is left. 0 or SALVO_ERR_NOMEM. */
int salvo_redis_source_open(salvo_redis_source *source);
void salvo_redis_source_close(salvo_redis_source *source);

/* Parse what arrived. on_reply is called when `into` is complete; it may put another one there,
 * else the tree is cleared behind it; what it returns that is not 0 stops the source and is
 * returned. Else 0, or SALVO_ERR_INVALID with the source's error. */
int salvo_redis_source_feed(salvo_redis_source *source, const void *bytes, size_t n,
                            int (*on_reply)(void *context, salvo_redis_tree *tree), void *context);

/* An error reply's text on one line, printable; "" when the reply is none. */
const char *salvo_redis_tree_error(const salvo_redis_tree *tree, char *text, size_t size);

#endif
