/* SPDX-License-Identifier: Apache-2.0
 *
 * Avro and the Confluent Schema Registry: JSON text to Avro's binary form and back, the ids of
 * schemas, and the five bytes that come before a value. It needs no producer and no broker.
 *
 * JSON is plain JSON: in a union a value stands for itself where null is its only other branch;
 * with more branches it is written {"BRANCH": value}, and read either way. Logical types appear as
 * the types below them. Bytes are text whose characters are U+0000 to U+00FF. A member that the
 * schema does not have is an error, one that is missing gets the schema's default.
 *
 * Threads: a schema never changes and may be used by many at one time; a registry serves one call
 * after the other and its calls wait for the network. A NULL fault is allowed everywhere.
 */
#ifndef SALVO_SCHEMA_H
#define SALVO_SCHEMA_H

#include <salvo/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct salvo_schema salvo_schema;
typedef struct salvo_registry salvo_registry;

/* Why a call failed, in one line. Never a secret. */
typedef struct salvo_schema_fault {
    char text[512];
} salvo_schema_fault;

/* Bytes that grow: begin with zeros, reuse from call to call (set len to 0), free at the end. */
typedef struct salvo_schema_bytes {
    unsigned char *data;
    size_t len, size;
} salvo_schema_bytes;

SALVO_API void salvo_schema_bytes_free(salvo_schema_bytes *bytes);

/* --- schemas --- */

/* SALVO_ERR_INVALID: it is no Avro schema. */
SALVO_API int salvo_schema_parse(const char *json, size_t len, salvo_schema **schema,
                                 salvo_schema_fault *fault) SALVO_MUST_USE;
SALVO_API void salvo_schema_free(salvo_schema *schema);

/* The text it was made from, and the full name of its type ("" for a type without a name). */
SALVO_API const char *salvo_schema_text(const salvo_schema *schema);
SALVO_API const char *salvo_schema_name(const salvo_schema *schema);

/* Appends a JSON value in Avro's binary form. SALVO_ERR_INVALID: it does not fit; the fault names
 * the field. `out` is as before then. */
SALVO_API int salvo_schema_encode(const salvo_schema *schema, const char *json, size_t len,
                                  salvo_schema_bytes *out,
                                  salvo_schema_fault *fault) SALVO_MUST_USE;

/* Appends a value as JSON text, without a zero at the end. All `len` bytes must be one value. */
SALVO_API int salvo_schema_decode(const salvo_schema *schema, const void *data, size_t len,
                                  salvo_schema_bytes *out,
                                  salvo_schema_fault *fault) SALVO_MUST_USE;

/* --- Confluent's wire format --- */

enum { SALVO_SCHEMA_HEADER_BYTES = 5 };

/* Appends the header: a zero byte and the id, most significant byte first. */
SALVO_API int salvo_schema_put_id(salvo_schema_bytes *out, int32_t id) SALVO_MUST_USE;

/* The id that a message begins with; -1: it has no such header. */
SALVO_API int32_t salvo_schema_id_of(const void *data, size_t len);

/* --- the registry --- */

typedef struct salvo_registry_options {
    size_t size;                      /* of this struct */
    const char *url;                  /* http(s)://[USER:PASSWORD@]HOST:PORT, several by commas */
    const char *user, *password;      /* NULL: those of the URL, if any */
    const char *ca_file;              /* NULL: the system's authorities */
    const char *cert_file, *key_file; /* NULL: no client certificate */
    uint32_t timeout_ms;              /* of one request to one address; 0: 10000 */
} salvo_registry_options;

/* Asks nobody yet. */
SALVO_API int salvo_registry_open(const salvo_registry_options *options, salvo_registry **registry,
                                  salvo_schema_fault *fault) SALVO_MUST_USE;
SALVO_API void salvo_registry_close(salvo_registry *registry);

/* The id of a schema under a subject; what was learnt once is asked no more.
 * `add`: registers it where it is new. SALVO_ERR_REJECTED: it is not there, or the subject's rules
 * forbid it (the fault has the registry's reasons); SALVO_ERR_UNREACHABLE: no address answered;
 * SALVO_ERR_AUTH: the credentials were refused. */
SALVO_API int salvo_registry_id(salvo_registry *registry, const char *subject,
                                const salvo_schema *schema, bool add, int32_t *id,
                                salvo_schema_fault *fault) SALVO_MUST_USE;

/* The schema of an id; it belongs to the registry and lives as long as that. Schemas that refer to
 * others, and those of other kinds than Avro, are SALVO_ERR_UNSUPPORTED. */
SALVO_API int salvo_registry_schema(salvo_registry *registry, int32_t id,
                                    const salvo_schema **schema,
                                    salvo_schema_fault *fault) SALVO_MUST_USE;

/* Whether the subject's rules allow the schema beside its newest version; with `false` the fault
 * says why not. A subject that is not there allows everything. */
SALVO_API int salvo_registry_compatible(salvo_registry *registry, const char *subject,
                                        const salvo_schema *schema, bool *compatible,
                                        salvo_schema_fault *fault) SALVO_MUST_USE;

/* The subject of a topic's values by strategy: "topic" (TOPIC-value), "record" (the schema's full
 * name) or "topic_record" (TOPIC-NAME). SALVO_ERR_INVALID: no such strategy, no name, no room. */
SALVO_API int salvo_registry_subject(const char *strategy, const char *topic,
                                     const salvo_schema *schema, char *subject, size_t size,
                                     salvo_schema_fault *fault) SALVO_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
