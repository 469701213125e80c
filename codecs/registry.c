/* SPDX-License-Identifier: Apache-2.0
 *
 * The Schema Registry's client: what its answers mean, and what is remembered of them. Guarantees:
 * an id that was learnt stays right without the registry; answers are checked before they are
 * used; at most CACHE_MAX schemas are kept, because callers hold pointers to them.
 */
#include "registry.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_MAX = 65536, NO_SUBJECT = 40401, NO_VERSION = 40402, NO_SCHEMA = 40403 };

typedef struct known {
    int32_t id;
    salvo_schema *schema;
} known;

struct salvo_registry {
    pthread_mutex_t mutex;
    salvo_http *http;
    json_t *ids; /* "subject\nschema": id */
    known *schemas;
    size_t count;
};

static int fail(salvo_schema_fault *fault, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(salvo_schema_fault *fault, int err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (fault != NULL)
        vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    return err;
}

int salvo_registry_open(const salvo_registry_options *options, salvo_registry **out,
                        salvo_schema_fault *fault)
{
    *out = NULL;
    if (options->size != sizeof *options)
        return fail(fault, SALVO_ERR_INVALID, "salvo_registry_options.size is not that of the "
                    "struct");
    salvo_registry *registry = calloc(1, sizeof *registry);
    if (registry == NULL)
        return SALVO_ERR_NOMEM;
    int err = salvo_http_open(options, &registry->http, fault);
    registry->ids = json_object();
    if (err == 0 && (registry->ids == NULL || pthread_mutex_init(&registry->mutex, NULL) != 0))
        err = SALVO_ERR_NOMEM;
    if (err == 0) {
        *out = registry;
        return 0;
    }
    salvo_http_close(registry->http);
    json_decref(registry->ids);
    free(registry);
    return err;
}

void salvo_registry_close(salvo_registry *registry)
{
    if (registry == NULL)
        return;
    for (size_t i = 0; i < registry->count; i++)
        salvo_schema_free(registry->schemas[i].schema);
    free(registry->schemas);
    salvo_http_close(registry->http);
    json_decref(registry->ids);
    pthread_mutex_destroy(&registry->mutex);
    free(registry);
}

/* --- answers --- */

static long long code_of(const salvo_http_answer *answer)
{
    return json_integer_value(json_object_get(answer->json, "error_code"));
}

static int judge(const salvo_http_answer *answer, const char *what, salvo_schema_fault *fault)
{
    const char *words = json_string_value(json_object_get(answer->json, "message"));
    if (answer->status >= 200 && answer->status < 300) {
        if (answer->json != NULL)
            return 0;
        return fail(fault, SALVO_ERR_REJECTED, "%.150s: this is no Schema Registry: its answer is "
                    "no JSON", what);
    }
    if (answer->status == 401 || answer->status == 403)
        return fail(fault, SALVO_ERR_AUTH, "%.150s: the Schema Registry refuses the credentials "
                    "(status %ld); see kafka_schema_registry_user", what, answer->status);
    return fail(fault, SALVO_ERR_REJECTED, "%.150s: %.300s (status %ld)", what,
                words != NULL ? words : "the Schema Registry refused", answer->status);
}

/* POST of a schema to "PATH/<subject>REST". The caller frees answer->json. */
static int post(salvo_registry *registry, const char *path, const char *subject, const char *rest,
                const salvo_schema *schema, salvo_http_answer *answer, salvo_schema_fault *fault)
{
    char *escaped = salvo_http_escape(registry->http, subject), *full = NULL;
    json_t *body = json_pack("{s:s}", "schema", salvo_schema_text(schema));
    int err = SALVO_ERR_NOMEM;
    if (escaped != NULL && body != NULL && asprintf(&full, "%s/%s%s", path, escaped, rest) >= 0)
        err = salvo_http_ask(registry->http, full, body, answer, fault);
    free(escaped);
    free(full);
    json_decref(body);
    return err;
}

/* --- compatibility --- */

static void join_messages(const json_t *messages, salvo_schema_fault *fault)
{
    size_t i, used = 0;
    json_t *message;
    if (fault == NULL)
        return;
    snprintf(fault->text, sizeof fault->text, "the registry gave no reason");
    json_array_foreach(messages, i, message) {
        const char *text = json_string_value(message);
        if (text == NULL || used >= sizeof fault->text - 1)
            continue;
        int n = snprintf(fault->text + used, sizeof fault->text - used, "%s%s",
                         used != 0 ? "; " : "", text);
        used += n > 0 ? (size_t)n : 0;
    }
}

static int compatible(salvo_registry *registry, const char *subject, const salvo_schema *schema,
                      bool *yes, salvo_schema_fault *fault)
{
    salvo_http_answer answer = {0, NULL};
    *yes = true;
    int err = post(registry, "/compatibility/subjects", subject, "/versions/latest?verbose=true",
                   schema, &answer, fault);
    if (err == 0 && code_of(&answer) != NO_SUBJECT && code_of(&answer) != NO_VERSION)
        err = judge(&answer, subject, fault);
    if (err == 0 && answer.status == 200) {
        *yes = json_is_true(json_object_get(answer.json, "is_compatible"));
        if (!*yes)
            join_messages(json_object_get(answer.json, "messages"), fault);
    }
    json_decref(answer.json);
    return err;
}

int salvo_registry_compatible(salvo_registry *registry, const char *subject,
                              const salvo_schema *schema, bool *yes, salvo_schema_fault *fault)
{
    pthread_mutex_lock(&registry->mutex);
    int err = compatible(registry, subject, schema, yes, fault);
    pthread_mutex_unlock(&registry->mutex);
    return err;
}

/* --- ids --- */

static int conflict(salvo_registry *registry, const char *subject, const salvo_schema *schema,
                    const salvo_http_answer *answer, salvo_schema_fault *fault)
{
    salvo_schema_fault why = {""};
    bool yes = true;
    if (compatible(registry, subject, schema, &yes, &why) != 0 || yes)
        return judge(answer, subject, fault);
    return fail(fault, SALVO_ERR_REJECTED, "subject `%.100s`: the schema is not compatible with "
                "the one that is registered: %.350s", subject, why.text);
}

static int ask_id(salvo_registry *registry, const char *subject, const salvo_schema *schema,
                  bool add, int32_t *id, salvo_schema_fault *fault)
{
    salvo_http_answer answer = {0, NULL};
    int err = post(registry, "/subjects", subject, add ? "/versions" : "", schema, &answer, fault);
    if (err == 0 && answer.status == 409)
        err = conflict(registry, subject, schema, &answer, fault);
    else if (err == 0 && (code_of(&answer) == NO_SUBJECT || code_of(&answer) == NO_SCHEMA))
        err = fail(fault, SALVO_ERR_REJECTED, "subject `%.200s`: the schema is not registered "
                   "there; register it, or set kafka_schema_auto_register=true", subject);
    else if (err == 0)
        err = judge(&answer, subject, fault);
    if (err == 0) {
        const json_t *found = json_object_get(answer.json, "id");
        json_int_t number = json_integer_value(found);
        if (json_is_integer(found) && number >= 0 && number <= INT32_MAX)
            *id = (int32_t)number;
        else
            err = fail(fault, SALVO_ERR_REJECTED, "subject `%.200s`: the Schema Registry's answer "
                       "has no id", subject);
    }
    json_decref(answer.json);
    return err;
}

int salvo_registry_id(salvo_registry *registry, const char *subject, const salvo_schema *schema,
                      bool add, int32_t *id, salvo_schema_fault *fault)
{
    char *mark = NULL;
    int err = 0;
    if (asprintf(&mark, "%s\n%s", subject, salvo_schema_text(schema)) < 0)
        return SALVO_ERR_NOMEM;
    pthread_mutex_lock(&registry->mutex);
    const json_t *learnt = json_object_get(registry->ids, mark);
    if (learnt != NULL) {
        *id = (int32_t)json_integer_value(learnt);
    } else {
        err = ask_id(registry, subject, schema, add, id, fault);
        if (err == 0 && json_object_size(registry->ids) < CACHE_MAX)
            json_object_set_new(registry->ids, mark, json_integer(*id));
    }
    pthread_mutex_unlock(&registry->mutex);
    free(mark);
    return err;
}

/* --- schemas --- */

static int parse(const json_t *json, int32_t id, salvo_schema **schema, salvo_schema_fault *fault)
{
    salvo_schema_fault why = {""};
    const json_t *text = json_object_get(json, "schema");
    const char *kind = json_string_value(json_object_get(json, "schemaType"));
    if (kind != NULL && strcmp(kind, "AVRO") != 0)
        return fail(fault, SALVO_ERR_UNSUPPORTED, "schema %d: it is of kind %.40s; only AVRO can "
                    "be read", id, kind);
    if (json_array_size(json_object_get(json, "references")) != 0)
        return fail(fault, SALVO_ERR_UNSUPPORTED, "schema %d: it refers to other subjects, which "
                    "is not supported; register it with the types written out", id);
    if (!json_is_string(text))
        return fail(fault, SALVO_ERR_REJECTED, "schema %d: the Schema Registry's answer holds no "
                    "schema", id);
    int err = salvo_schema_parse(json_string_value(text), json_string_length(text), schema, &why);
    return err == 0 ? 0 : fail(fault, SALVO_ERR_REJECTED, "schema %d: %.400s", id, why.text);
}

static int fetch(salvo_registry *registry, int32_t id, salvo_schema **schema,
                 salvo_schema_fault *fault)
{
    char path[48], what[32];
    salvo_http_answer answer = {0, NULL};
    snprintf(path, sizeof path, "/schemas/ids/%d", id);
    snprintf(what, sizeof what, "schema %d", id);
    if (registry->count == CACHE_MAX)
        return fail(fault, SALVO_ERR_LIMIT, "more than %d schemas", CACHE_MAX);
    known *moved = realloc(registry->schemas, (registry->count + 1) * sizeof *moved);
    if (moved == NULL)
        return SALVO_ERR_NOMEM;
    registry->schemas = moved;
    int err = salvo_http_ask(registry->http, path, NULL, &answer, fault);
    if (err == 0)
        err = judge(&answer, what, fault);
    if (err == 0)
        err = parse(answer.json, id, schema, fault);
    json_decref(answer.json);
    if (err == 0)
        registry->schemas[registry->count++] = (known){id, *schema};
    return err;
}

int salvo_registry_schema(salvo_registry *registry, int32_t id, const salvo_schema **out,
                          salvo_schema_fault *fault)
{
    salvo_schema *found = NULL;
    int err = 0;
    pthread_mutex_lock(&registry->mutex);
    for (size_t i = 0; i < registry->count && found == NULL; i++)
        if (registry->schemas[i].id == id)
            found = registry->schemas[i].schema;
    if (found == NULL)
        err = fetch(registry, id, &found, fault);
    pthread_mutex_unlock(&registry->mutex);
    *out = found;
    return err;
}

int salvo_registry_subject(const char *strategy, const char *topic, const salvo_schema *schema,
                           char *subject, size_t size, salvo_schema_fault *fault)
{
    const char *name = salvo_schema_name(schema);
    int n;
    if (strcmp(strategy, "topic") == 0)
        n = snprintf(subject, size, "%s-value", topic);
    else if (strcmp(strategy, "record") != 0 && strcmp(strategy, "topic_record") != 0)
        return fail(fault, SALVO_ERR_INVALID, "subject strategy `%.40s`: allowed are topic, "
                    "record, topic_record", strategy);
    else if (*name == '\0')
        return fail(fault, SALVO_ERR_INVALID, "subject strategy %s needs a schema with a name: a "
                    "record, an enum or a fixed", strategy);
    else
        n = *strategy == 'r' ? snprintf(subject, size, "%s", name)
                             : snprintf(subject, size, "%s-%s", topic, name);
    if (n < 0 || (size_t)n >= size)
        return fail(fault, SALVO_ERR_INVALID, "the subject has more than %zu bytes", size - 1);
    return 0;
}
