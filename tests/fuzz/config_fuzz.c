/* SPDX-License-Identifier: Apache-2.0
 *
 * A configuration file of arbitrary bytes. Whatever it holds: a refusal has a text of one line
 * and changes nothing, what was taken can be listed, and no listing shows a secret.
 */
#include "config_internal.h"
#include "fuzz.h"

static const char mark[] = "s3cret-mark";

static int look(const salvo_config_entry *entry, void *context)
{
    (void)context;
    fuzz_check(entry->key && entry->value && entry->source && entry->help, "an entry has it all");
    bool secret = strcmp(entry->key, "kafka_sasl_password") == 0;
    fuzz_check(!secret || !entry->value[0] || strcmp(entry->value, "****") == 0,
               "a password is masked");
    fuzz_check(!strstr(entry->value, mark), "a listing shows no password that was set");
    fuzz_touch(entry->value, strlen(entry->value));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    salvo_config *config;
    if (memmem(data, size, mark, sizeof mark - 1) != NULL)
        return 0; /* a key of that name may well be shown */
    if (salvo_config_new(&config) != 0)
        return 0;
    fuzz_check(salvo_config_set(config, "kafka_sasl_password", mark) == 0, "a password is taken");
    int err = salvo_config_load_text(config, (const char *)data, size, "fuzz.toml");
    const char *text = salvo_config_error(config);
    fuzz_check(err <= 0, "an error is negative");
    fuzz_check(err == 0 || (*text && !strchr(text, '\n')), "a refusal has a text of one line");
    fuzz_check(strcmp(salvo_config_get(config, "kafka_sasl_password"), mark) == 0,
               "a file does not override code");
    (void)salvo_config_each(config, look, NULL);
    if (err == 0)
        (void)salvo_config_validate(config);
    fuzz_check(!strstr(salvo_config_error(config), mark), "no error shows a password");
    salvo_config_free(config);
    return 0;
}
