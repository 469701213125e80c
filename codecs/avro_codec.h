/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the Avro codec share. avro-c knows schemas; the values' way between JSON and
 * bytes is walked here, because avro-c keeps no defaults, reads no JSON values, and trusts the
 * counts in what it reads.
 */
#ifndef SALVO_AVRO_CODEC_H
#define SALVO_AVRO_CODEC_H

#include <avro.h>
#include <jansson.h>
#include <salvo/schema.h>

enum { SALVO_AVRO_DEPTH_MAX = 128 };

struct salvo_schema {
    avro_schema_t avro;
    char *text, *name;
    json_t *defaults; /* full name of a record: {field: default} */
};

/* Where in a value; frames lie on the stack, innermost first. */
typedef struct salvo_avro_path {
    const struct salvo_avro_path *up;
    const char *name; /* NULL: an index */
    size_t index;
} salvo_avro_path;

/* Fills the fault: "PATH: ..." where there is a path. Returns SALVO_ERR_INVALID. */
int salvo_avro_fail(salvo_schema_fault *fault, const salvo_avro_path *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends; false without memory. */
bool salvo_avro_append(salvo_schema_bytes *out, const void *data, size_t len);

/* What a link stands for, else the schema itself. */
avro_schema_t salvo_avro_target(avro_schema_t schema);

/* The full name of a named type, the type's own name otherwise; it may lie in `room`. */
const char *salvo_avro_branch_name(avro_schema_t schema, char *room, size_t size);

/* Which branch of a union is null, and (*other) the only one beside it; -1: there is none. */
long salvo_avro_null_branch(avro_schema_t schema, long *other);

#endif
