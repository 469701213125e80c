/* SPDX-License-Identifier: Apache-2.0
 *
 * XADD in Redis' protocol, by template: what is constant for a topic is laid out once, a message
 * costs its lengths and its bytes. Guarantees: nothing is written beyond salvo_redis_bound(); the
 * value is the last field, so that a large one can follow without a copy. Knows no socket.
 *
 * Fields of an entry, in this order (docs/redis.md): `key`, `timestamp`, `h:<name>` or `n:<name>`
 * (a null) per header, `content-encoding`, and `value`, or `null` where the value is null.
 */
#ifndef SALVO_REDIS_FORMAT_H
#define SALVO_REDIS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct salvo_redis_template {
    char *text;        /* all before the length of the value of an entry with no other field */
    uint32_t text_len;
    uint32_t head_at, head_len; /* the constant head in it, behind the number of arguments */
    uint32_t args;     /* arguments in the head */
    bool nested;       /* arguments of a function's call, not a command: "$3\r\nN\r\n" */
} salvo_redis_template;

/* One message; value NULL: a null value, key NULL: none. */
typedef struct salvo_redis_item {
    const void *value, *key, *headers; /* headers packed as in driver.h */
    size_t value_len, key_len;
    uint32_t headers_bytes;
    int header_count;
    int64_t timestamp_ms; /* 0: none */
    const char *encoding; /* NULL: as it is */
} salvo_redis_item;

typedef struct salvo_redis_wish {
    const char *stream;
    uint64_t maxlen; /* 0: none */
    bool nomkstream;
    bool nested; /* the head leaves out XADD and the stream: the function knows them */
} salvo_redis_wish;

int salvo_redis_template_init(salvo_redis_template *t, const salvo_redis_wish *wish);
void salvo_redis_template_free(salvo_redis_template *t);

/* How many headers are packed there; -1: they are not well formed. */
int salvo_redis_header_count(const void *headers, uint32_t bytes);

/* Room that the item needs without its value's bytes. */
size_t salvo_redis_bound(const salvo_redis_template *t, const salvo_redis_item *item);

/* Write the item; with `apart` all but the value's bytes and the two that end them. Returns the
 * end of what was written; *args gets how many arguments a nested one adds. */
char *salvo_redis_format(char *at, const salvo_redis_template *t, const salvo_redis_item *item,
                         bool apart, uint32_t *args);

/* Pieces of it, for other commands: "*n\r\n", "$len\r\n<text>\r\n", and a number as such. */
char *salvo_redis_put_count(char *at, uint64_t n);
char *salvo_redis_put_bulk(char *at, const void *bytes, size_t n);
char *salvo_redis_put_number(char *at, uint64_t n);

#endif
