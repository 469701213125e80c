/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of the salvo command from JSON to Avro and back. Guarantees: a value that does not fit,
 * or that cannot be read, is told with the reason.
 */
#include "avro.h"

#include <stdio.h>

static bool finished(salvo_cli_avro *avro, int err, const salvo_schema_fault *fault,
                     salvo_bytes *value, char *error, size_t size)
{
    if (err != 0)
        snprintf(error, size, "%s", fault->text[0] ? fault->text : salvo_strerror(err));
    else
        *value = (salvo_bytes){avro->room.data, avro->room.len};
    return err == 0;
}

bool salvo_cli_avro_encode(salvo_cli_avro *avro, salvo_bytes *value, char *error, size_t size)
{
    salvo_schema_fault fault = {""};
    avro->room.len = 0;
    int err = salvo_schema_put_id(&avro->room, avro->id);
    if (err == 0)
        err = salvo_schema_encode(avro->schema, value->data, value->len, &avro->room, &fault);
    return finished(avro, err, &fault, value, error, size);
}

bool salvo_cli_avro_decode(salvo_cli_avro *avro, salvo_bytes *value, char *error, size_t size)
{
    const salvo_schema *schema = NULL;
    salvo_schema_fault fault = {"the value is not in Confluent's wire format (a zero byte and a "
                                "schema's id come first); without --avro it is printed as it is"};
    int32_t id = salvo_schema_id_of(value->data, value->len);
    avro->room.len = 0;
    int err = id < 0 ? SALVO_ERR_INVALID : 0;
    if (err == 0)
        err = salvo_registry_schema(avro->registry, id, &schema, &fault);
    if (err == 0)
        err = salvo_schema_decode(schema,
                                  (const char *)value->data + SALVO_SCHEMA_HEADER_BYTES,
                                  value->len - SALVO_SCHEMA_HEADER_BYTES, &avro->room, &fault);
    return finished(avro, err, &fault, value, error, size);
}
