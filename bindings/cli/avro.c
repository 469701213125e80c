/* SPDX-License-Identifier: Apache-2.0
 *
 * The schema and the registry of --avro. Guarantees: the schema is known to the registry before
 * the first line is read.
 */
#include "avro.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SCHEMA_BYTES_MAX (1 << 20)
#define SUBJECT_BYTES 1024

static int tell(int err, const char *file, const salvo_schema_fault *fault)
{
    salvo_cli_say("%s%s%s", file ? file : "", file ? ": " : "",
                  fault->text[0] ? fault->text : salvo_strerror(err));
    return err == SALVO_ERR_INVALID ? CLI_USAGE : CLI_FAILED;
}

int salvo_cli_avro_read(salvo_cli_avro *avro, const salvo_config *config)
{
    salvo_schema_fault fault = {""};
    salvo_registry_options options = {
        .size = sizeof options,
        .url = salvo_config_get(config, "kafka_schema_registry_url"),
        .user = salvo_config_get(config, "kafka_schema_registry_user"),
        .password = salvo_config_get(config, "kafka_schema_registry_password"),
        .ca_file = salvo_config_get(config, "kafka_schema_registry_cafile"),
        .cert_file = salvo_config_get(config, "kafka_schema_registry_certfile"),
        .key_file = salvo_config_get(config, "kafka_schema_registry_keyfile"),
        .timeout_ms = (uint32_t)salvo_cli_config_number(
            config, "kafka_schema_registry_timeout_ms", 0)};
    int err = salvo_registry_open(&options, &avro->registry, &fault);
    return err == 0 ? CLI_OK : tell(err, NULL, &fault);
}

/* The whole file; NULL after a printed error. */
static char *read_file(const char *path, size_t *len)
{
    struct stat about;
    FILE *file = fopen(path, "re");
    char *text = NULL;
    if (file && fstat(fileno(file), &about) == 0 && !S_ISREG(about.st_mode)) {
        fclose(file);
        salvo_cli_say("%s: is no file", path);
        return NULL;
    }
    if (file) {
        text = salvo_cli_alloc(SCHEMA_BYTES_MAX + 1);
        *len = fread(text, 1, SCHEMA_BYTES_MAX + 1, file);
    }
    bool bad = !file || ferror(file);
    if (bad)
        salvo_cli_say("%s: cannot read: %s", path, strerror(errno));
    else if (*len > SCHEMA_BYTES_MAX)
        salvo_cli_say("%s: has more than %d bytes", path, SCHEMA_BYTES_MAX);
    if (file)
        fclose(file);
    if (!bad && *len <= SCHEMA_BYTES_MAX)
        return text;
    free(text);
    return NULL;
}

int salvo_cli_avro_write(salvo_cli_avro *avro, const salvo_config *config, const char *path,
                         const char *topic)
{
    char subject[SUBJECT_BYTES];
    salvo_schema_fault fault = {""};
    size_t len;
    char *text = read_file(path, &len);
    if (!text)
        return CLI_USAGE;
    int err = salvo_schema_parse(text, len, &avro->schema, &fault);
    free(text);
    if (err != 0)
        return tell(err, path, &fault);
    int status = salvo_cli_avro_read(avro, config);
    if (status != CLI_OK)
        return status;
    const char *strategy = salvo_config_get(config, "kafka_subject_strategy");
    const char *add = salvo_config_get(config, "kafka_schema_auto_register");
    err = salvo_registry_subject(strategy ? strategy : "topic", topic, avro->schema, subject,
                                 sizeof subject, &fault);
    if (err == 0)
        err = salvo_registry_id(avro->registry, subject, avro->schema,
                                !add || strcmp(add, "true") == 0, &avro->id, &fault);
    return err == 0 ? CLI_OK : tell(err, NULL, &fault);
}

void salvo_cli_avro_close(salvo_cli_avro *avro)
{
    salvo_schema_free(avro->schema);
    salvo_registry_close(avro->registry);
    salvo_schema_bytes_free(&avro->room);
    *avro = (salvo_cli_avro){0};
}
