/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration: layers, values, errors that help, secrets that stay hidden, the choice of
 * the broker, failed allocations, random bytes as a file, and docs/configuration.md, which must
 * equal the table (`config_test --markdown` prints it).
 */
#include "config_internal.h"
#include "config_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_FAIL_MALLOC 0
#else
#define CAN_FAIL_MALLOC 1
#endif

/* Allocations left until one fails; negative: none does. */
static long fail_after = -1;

#if CAN_FAIL_MALLOC
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
void *malloc(size_t);
void *calloc(size_t, size_t);
void *realloc(void *, size_t);

static bool fails(void)
{
    return fail_after >= 0 && fail_after-- == 0;
}
void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}
void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}
void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}
#endif

static salvo_config *make(void)
{
    salvo_config *config = NULL;
    assert_int_equal(salvo_config_new(&config), 0);
    return config;
}

static void set(salvo_config *config, const char *key, const char *value)
{
    if (salvo_config_set(config, key, value) != 0)
        fail_msg("%s", salvo_config_error(config));
}

static int load(salvo_config *config, const char *text)
{
    return salvo_config_load_text(config, text, strlen(text), "core.toml");
}

static void refuse(const char *key, const char *value, const char *word)
{
    salvo_config *config = make();
    assert_int_equal(salvo_config_set(config, key, value), SALVO_ERR_CONFIG);
    if (strstr(salvo_config_error(config), word) == NULL)
        fail_msg("no \"%s\" in: %s", word, salvo_config_error(config));
    assert_null(strchr(salvo_config_error(config), '\n'));
    salvo_config_free(config);
}

static void assert_value(const salvo_config *config, const char *key, const char *value)
{
    const char *got = salvo_config_get(config, key);
    if (value == NULL)
        assert_null(got);
    else if (got == NULL || strcmp(got, value) != 0)
        fail_msg("%s is %s, not %s", key, got != NULL ? got : "unset", value);
}

static void defaults_are_valid_and_as_documented(void **state)
{
    (void)state;
    salvo_config *config = make();
    char canonical[SALVO_KEY_VALUE_MAX];
    int64_t number;
    for (size_t i = 0; i < salvo_key_count; i++) {
        const salvo_key *key = &salvo_keys[i];
        assert_true(salvo_key_parse(key, key->initial, canonical, &number));
        assert_string_equal(canonical, key->initial);
        assert_int_equal(salvo_key_find(key->name), i);
    }
    assert_int_equal(salvo_config_validate(config), 0);
    static const char *const printed[][2] = {
        {"kafka_enabled", "true"}, {"kafka_backend", "aiokafka"},
        {"kafka_bootstrap_servers", "localhost:9092"}, {"kafka_client_id", "core-framework"},
        {"kafka_acks", "all"}, {"kafka_linger_ms", "0"}, {"kafka_max_batch_size", "16384"},
        {"kafka_request_timeout_ms", "30000"}, {"kafka_retry_backoff_ms", "100"},
        {"kafka_sasl_mechanism", NULL}, {"kafka_schema_registry_url", NULL},
        {"kafka_auto_offset_reset", "earliest"}, {"kafka_max_poll_records", "500"},
        {"redis_url", "redis://localhost:6379/0"}, {"default_topic", "events"},
        {"send_timeout_ms", "60000"}, {"full_policy", "block"}, {"linger_us", "0"},
        {"batch_bytes", "524288"}, {"retry_backoff_ms", "100"}, {"message_broker", "kafka"}};
    for (size_t i = 0; i < sizeof printed / sizeof printed[0]; i++)
        assert_value(config, printed[i][0], printed[i][1]);
    salvo_config_free(config);
}

static void layers_win_in_any_order(void **state)
{
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1},
                                    {2, 1, 0}};
    setenv("KAFKA_ACKS", "1", 1);
    setenv("MAX_TOPICS", "22", 1);
    for (size_t i = 0; i < 6; i++) {
        salvo_config *config = make();
        for (size_t j = 0; j < 3; j++) {
            if (orders[i][j] == 0)
                assert_int_equal(load(config, "[messaging]\nkafka_acks=0\nmax_topics=11\n"
                                              "max_threads=7\nrdkafka.a.b='file'\n"), 0);
            else if (orders[i][j] == 1)
                assert_int_equal(salvo_config_load_env(config), 0);
            else {
                set(config, "kafka_acks", "ALL");
                set(config, "rdkafka.a.b", "code");
            }
        }
        assert_value(config, "kafka_acks", "all");
        assert_int_equal(salvo_config_int(config, "max_topics"), 22);
        assert_int_equal(salvo_config_int(config, "max_threads"), 7);
        assert_value(config, "rdkafka.a.b", "code");
        salvo_config_free(config);
    }
    unsetenv("KAFKA_ACKS");
    unsetenv("MAX_TOPICS");
}

static void environment_takes_known_names_only(void **state)
{
    (void)state;
    salvo_config *config = make();
    setenv("REDIS_PORT", "tcp://10.0.0.1:6379", 1);
    setenv("BOOTSTRAP_SERVERS", "elsewhere:1", 1);
    setenv("KAFKA_LINGER_MS", "", 1);
    assert_int_equal(salvo_config_load_env(config), 0);
    assert_value(config, "kafka_bootstrap_servers", "localhost:9092");
    assert_true(salvo_config_source_is_default(config, "linger_us"));
    setenv("KAFKA_LINGER_MS", "5x", 1);
    setenv("FLUSHERS", "4", 1);
    assert_int_equal(salvo_config_load_env(config), SALVO_ERR_CONFIG);
    assert_non_null(strstr(salvo_config_error(config), "environment KAFKA_LINGER_MS"));
    assert_int_equal(salvo_config_int(config, "flushers"), 1); /* all or nothing */
    unsetenv("REDIS_PORT");
    unsetenv("BOOTSTRAP_SERVERS");
    unsetenv("KAFKA_LINGER_MS");
    unsetenv("FLUSHERS");
    salvo_config_free(config);
}

static void values_are_checked(void **state)
{
    (void)state;
    salvo_config *config = make();
    set(config, "buffer_bytes", "8 MiB");
    assert_int_equal(salvo_config_int(config, "buffer_bytes"), 8 << 20);
    set(config, "kafka_max_batch_size", "32kB");
    assert_value(config, "kafka_max_batch_size", "32000");
    set(config, "kafka_fire_and_forget", "True");
    assert_true(salvo_config_bool(config, "kafka_fire_and_forget"));
    set(config, "kafka_acks", "-1");
    assert_value(config, "kafka_acks", "all");
    set(config, "ring_bytes", "64KiB");
    set(config, "ring_bytes", "0");
    set(config, "broker", "memory");
    assert_true(salvo_config_is(config, "message_broker", "memory"));
    assert_int_equal(salvo_config_int(config, "message_broker"), 3);
    set(config, "default_group", "g");
    set(config, "default_group", "");
    assert_value(config, "default_group", NULL);
    salvo_config_free(config);
    static const char *const bad[][2] = {
        {"flushers", "0"}, {"flushers", "65"}, {"flushers", "-1"}, {"flushers", " 1"},
        {"flushers", "1.0"}, {"flushers", "99999999999999999999999"}, {"flushers", ""},
        {"buffer_bytes", "4194303"}, {"buffer_bytes", "64M"}, {"buffer_bytes", "9999999999GiB"},
        {"ring_bytes", "100000"}, {"ring_bytes", "32KiB"}, {"kafka_enabled", "maybe"},
        {"full_policy", "drop"}, {"full_policy", "block|fail"}, {"default_topic", ""}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuse(bad[i][0], bad[i][1], "allowed: ");
    assert_int_equal(salvo_config_set(NULL, "a", "b"), SALVO_ERR_INVALID);
    assert_int_equal(salvo_config_new(NULL), SALVO_ERR_INVALID);
    assert_null(salvo_config_get(NULL, "source"));
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    refuse("kafka_ack", "1", "nearest: kafka_acks");
    refuse("KAFKA_ACKS", "1", "nearest: kafka_acks");
    refuse("brokr", "kafka", "nearest: broker");
    refuse("linger.ms", "5", "rdkafka.linger.ms");
    refuse("database_url_of_the_shop", "x", "salvo config");
    refuse("a\nb", "c\nd", "a?b = \"c?d\"");
    refuse("rdkafka.", "x", "rdkafka.<property>");
    refuse("rdkafka.a b", "x", "rdkafka.<property>");
}

static int find_secret(const salvo_config_entry *entry, void *context)
{
    return strstr(entry->value, context) != NULL;
}

static void secrets_stay_hidden(void **state)
{
    (void)state;
    static const char *const set_ones[][2] = {
        {"kafka_sasl_password", "hunter2"}, {"redis_url", "redis://me:hunter2@h:1/0"},
        {"rabbitmq_url", "amqp://me:/x@hunter2@h/"}, {"rdkafka.sasl.password", "hunter2"},
        {"rdkafka.ssl.key.pem", "hunter2"}, {"rdkafka.sasl.oauthbearer.config", "hunter2"},
        {"rdkafka.x.url", "http://hunter2@h/"},
        {"kafka_schema_registry_url", "http://h/?password=hunter2"}};
    salvo_config *config = make();
    char word[] = "hunter2";
    for (size_t i = 0; i < sizeof set_ones / sizeof set_ones[0]; i++) {
        set(config, set_ones[i][0], set_ones[i][1]);
        assert_value(config, set_ones[i][0], set_ones[i][1]);
        assert_int_equal(salvo_config_each(config, find_secret, word), 0);
    }
    char visible[] = "redis://me:****@h:1/0";
    assert_int_equal(salvo_config_each(config, find_secret, visible), 1);
    static const char *const texts[] = {
        "[messaging]\nkafka_sasl_pasword = 'hunter2'\n", "[messaging]\nredis_urll='u:hunter2@h'\n",
        "[messaging]\nx_token = 'hunter2'\n", "[messaging]\nrdkafka.sasl.password = 'hunter2'\nx=1",
        "[messaging]\nkafka_sasl_password = hunter2\n",
        "[messaging]\nkafka_sasl_pasword = 1hunter2",
        "[messaging]\nkafka_sasl_pasword = 98765432109876543210\n"}; /* quoted by toml++ */
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(load(config, texts[i]), SALVO_ERR_CONFIG);
        if (strstr(salvo_config_error(config), word) != NULL ||
            strstr(salvo_config_error(config), "98765") != NULL)
            fail_msg("%s", salvo_config_error(config));
    }
    salvo_config_free(config);
}

static void toml_is_read_and_located(void **state)
{
    (void)state;
    salvo_config *config = make();
    assert_int_equal(load(config, "top = 1\n[database]\nurl = 'x'\n[messaging]\n"
                                  "kafka_enabled = false\nmessage_broker = \"memory\"\n"
                                  "buffer_bytes = '16MiB'\n\"rdkafka.linger.ms\" = 0.5\n"
                                  "modules = ['a.b', \"c\"]\nsource = []\n"
                                  "[messaging.rdkafka]\nbatch.size = 1\nsocket.x = true\n"), 0);
    assert_value(config, "rdkafka.linger.ms", "0.5");
    assert_value(config, "rdkafka.batch.size", "1");
    assert_value(config, "rdkafka.socket.x", "true");
    assert_value(config, "buffer_bytes", "16777216");
    assert_value(config, "modules", "a.b,c");
    assert_value(config, "source", NULL);
    assert_int_equal(salvo_config_validate(config), 0);
    static const char *const bad[][2] = {
        {"[messaging]\nflushers = 2\nmax_topics = 0\n", "core.toml:3"},
        {"[messaging]\nflushers = 2\nkafka_ack = 1\n", "core.toml:3"},
        {"[messaging]\nflushers = 2\nsource = [1]\n", "(core.toml:3): an array"},
        {"[messaging]\nflushers = 2\nmodules = ['a', 'b,c']\n", "(core.toml:3): an array"},
        {"[messaging]\nflushers = 2\n[messaging.kafka]\nacks=1\n", "kafka.acks"},
        {"[messaging]\nflushers = 2\nsource = \"a\\u0000b\"\n", "zero byte"},
        {"[messaging]\nflushers = 2\n\nsource = = 1\n", "core.toml:4: malformed TOML"},
        {"messaging = 1\n", "must be a table"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(load(config, bad[i][0]), SALVO_ERR_CONFIG);
        if (strstr(salvo_config_error(config), bad[i][1]) == NULL)
            fail_msg("no \"%s\" in: %s", bad[i][1], salvo_config_error(config));
        assert_int_equal(salvo_config_int(config, "flushers"), 1); /* all or nothing */
    }
    assert_int_equal(load(config, "[messaging.rdkafka]\n"), 0);
    assert_int_equal(load(config, ""), 0);
    salvo_config_free(config);
}

static void files_are_not_trusted(void **state)
{
    (void)state;
    char folder[] = "/tmp/salvo-config-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/core.toml", folder);
    salvo_config *config = make();
    assert_int_equal(salvo_config_load_file(config, path), SALVO_ERR_IO);
    assert_non_null(strstr(salvo_config_error(config), path));
    assert_int_equal(salvo_config_load_file(config, folder), SALVO_ERR_CONFIG);
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(salvo_config_load_file(config, NULL), 0); /* there is none */
    FILE *file = fopen("core.toml", "w");
    assert_non_null(file);
    fputs("[messaging]\nflushers = 3\n", file);
    fflush(file);
    assert_int_equal(salvo_config_load_file(config, NULL), 0);
    assert_int_equal(salvo_config_int(config, "flushers"), 3);
    for (int i = 0; i < 1024 * 1024; i++)
        fputc('\n', file);
    fclose(file);
    assert_int_equal(salvo_config_load_file(config, NULL), SALVO_ERR_CONFIG);
    assert_non_null(strstr(salvo_config_error(config), "too large"));
    unlink("core.toml");
    assert_int_equal(chdir(here), 0);
    rmdir(folder);
    salvo_config_free(config);
}

static void broker_is_chosen_by_rule(void **state)
{
    (void)state;
    static const struct {
        const char *set[6], *broker, *address, *value;
    } cases[] = {
        {{NULL}, "kafka", "kafka_bootstrap_servers", "localhost:9092"},
        {{"redis_url", "redis://r"}, "redis", "redis_url", "redis://r"},
        {{"redis_url", "redis://r", "rabbitmq_url", "amqp://q"}, NULL, "redis_url", "redis://r"},
        {{"redis_url", "redis://r", "kafka_bootstrap_servers", "k"}, "kafka", "redis_url",
         "redis://r"},
        {{"redis_url", "redis://r", "kafka_enabled", "false"}, "redis", "redis_url", "redis://r"},
        {{"message_broker", "null", "redis_url", "redis://r"}, "null", "redis_url", "redis://r"},
        {{"bootstrap_servers", "b:1"}, "kafka", "kafka_bootstrap_servers", "b:1"},
        {{"bootstrap_servers", "redis://b"}, "redis", "redis_url", "redis://b"},
        {{"broker", "rabbitmq", "bootstrap_servers", "amqp://b"}, "rabbitmq", "rabbitmq_url",
         "amqp://b"},
        {{"bootstrap_servers", "b:1", "kafka_bootstrap_servers", "own:1"}, "kafka",
         "kafka_bootstrap_servers", "own:1"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        salvo_config *config = make();
        for (size_t j = 0; j < 6 && cases[i].set[j] != NULL; j += 2)
            set(config, cases[i].set[j], cases[i].set[j + 1]);
        const char *why = NULL, *broker = salvo_config_broker(config, &why);
        assert_non_null(why);
        if (cases[i].broker == NULL) {
            assert_null(broker);
            assert_int_equal(salvo_config_validate(config), SALVO_ERR_CONFIG);
            assert_non_null(strstr(salvo_config_error(config), "rabbitmq_url"));
        } else {
            assert_non_null(broker);
            assert_string_equal(broker, cases[i].broker);
            assert_value(config, "message_broker", broker);
        }
        assert_value(config, cases[i].address, cases[i].value);
        salvo_config_free(config);
    }
}

static void keys_are_checked_together(void **state)
{
    (void)state;
    static const char *const bad[][7] = {
        {"kafka_enabled = false", "kafka_enabled", "false", NULL},
        {"quarter of buffer_bytes", "max_message_bytes", "32MiB", NULL},
        {"half of buffer_bytes", "ring_bytes", "16MiB", "flushers", "4", NULL},
        {"shorter than", "linger_us", "5000000", "delivery_timeout_ms", "5000", NULL},
        {"retry_backoff_max_ms", "retry_backoff_ms", "50", "retry_backoff_max_ms", "10", NULL},
        {"allowed: all", "kafka_enable_idempotence", "true", "kafka_acks", "1", NULL},
        {"needs kafka_sasl_mechanism", "kafka_security_protocol", "sasl_ssl", NULL},
        {"needs kafka_sasl_username", "kafka_security_protocol", "SASL_SSL",
         "kafka_sasl_mechanism", "PLAIN", NULL},
        {"at most memory_bytes", "message_broker", "memory", "memory_bytes", "64KiB", NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        salvo_config *config = make();
        for (size_t j = 1; bad[i][j] != NULL; j += 2)
            set(config, bad[i][j], bad[i][j + 1]);
        assert_int_equal(salvo_config_validate(config), SALVO_ERR_CONFIG);
        if (strstr(salvo_config_error(config), bad[i][0]) == NULL)
            fail_msg("no \"%s\" in: %s", bad[i][0], salvo_config_error(config));
        salvo_config_free(config);
    }
}

static void values_follow_others(void **state)
{
    (void)state;
    salvo_config *config = make();
    set(config, "kafka_linger_ms", "5");
    assert_int_equal(salvo_config_int(config, "linger_us"), 5000);
    assert_false(salvo_config_source_is_default(config, "linger_us"));
    set(config, "linger_us", "0");
    assert_int_equal(salvo_config_int(config, "linger_us"), 0);
    set(config, "kafka_max_batch_size", "1MiB");
    assert_int_equal(salvo_config_int(config, "batch_bytes"), 1 << 20);
    set(config, "kafka_retry_backoff_ms", "5000");
    assert_int_equal(salvo_config_int(config, "retry_backoff_ms"), 5000);
    assert_int_equal(salvo_config_int(config, "retry_backoff_max_ms"), 5000);
    set(config, "kafka_acks", "1");
    assert_false(salvo_config_bool(config, "kafka_enable_idempotence"));
    assert_int_equal(salvo_config_validate(config), 0);
    salvo_config_free(config);
}

static int count_property(const char *property, const char *value, const char *source,
                          void *context)
{
    assert_string_equal(property, "a.b");
    assert_string_equal(value, "2");
    assert_string_equal(source, "--set");
    ++*(int *)context;
    return 0;
}

static void copies_share_nothing(void **state)
{
    (void)state;
    salvo_config *config = make(), *copy = NULL;
    set(config, "rdkafka.a.b", "1");
    assert_int_equal(salvo_config_set_from(config, "rdkafka.a.b", "2", "--set"), 0);
    set(config, "bootstrap_servers", "b:1");
    assert_int_equal(salvo_config_clone(config, &copy), 0);
    set(config, "bootstrap_servers", "c:1");
    salvo_config_free(config);
    int count = 0;
    assert_int_equal(salvo_config_each_rdkafka(copy, count_property, &count), 0);
    assert_int_equal(count, 1);
    assert_value(copy, "kafka_bootstrap_servers", "b:1");
    salvo_config_free(copy);
}

static int change(salvo_config *config)
{
    char name[] = "rdkafka.p0";
    int err = salvo_config_set(config, "kafka_client_id", "new");
    for (char i = '0'; i <= '9' && err == 0; i++) {
        name[9] = i;
        err = salvo_config_set(config, name, "v");
    }
    return err != 0 ? err : salvo_config_load_env(config);
}

static void allocation_failures_are_survived(void **state)
{
    (void)state;
    if (!CAN_FAIL_MALLOC)
        skip();
    setenv("SOURCE", "shop", 1);
    long last = 0;
    for (long n = 0; n < 1000 && last == 0; n++) {
        salvo_config *config = NULL;
        fail_after = n;
        int err = salvo_config_new(&config);
        if (err == 0)
            err = change(config);
        bool failed = fail_after < 0;
        fail_after = -1;
        assert_int_equal(err, failed ? SALVO_ERR_NOMEM : 0);
        if (config != NULL) {
            assert_int_equal(change(config), 0); /* still usable */
            assert_value(config, "source", "shop");
            assert_value(config, "rdkafka.p9", "v");
        }
        salvo_config_free(config);
        last = failed ? 0 : n;
    }
    assert_true(last > 20); /* the loop reached the end, after many failures */
    unsetenv("SOURCE");
}

/* Random edits of a good file: any outcome but a crash, a hang or a half-applied file. */
static void random_files_do_no_harm(void **state)
{
    (void)state;
    static const char seed[] = "[messaging]\nkafka_acks = \"all\"\nflushers = 2\n"
                               "rdkafka.a.b = 1.5\n[messaging.rdkafka]\n\"c.d\" = true\n";
    static const char bytes[] = "[]{}\"'=.#\n\\ux0_\xff\xc3 1e9,";
    uint32_t random = 12345;
    for (int i = 0; i < 3000; i++) {
        char text[sizeof seed];
        memcpy(text, seed, sizeof seed);
        for (int j = 0; j < 1 + i % 4; j++) {
            random = random * 1664525u + 1013904223u;
            text[(random >> 8) % (sizeof seed - 1)] = bytes[(random >> 24) % (sizeof bytes - 1)];
        }
        salvo_config *config = make();
        int err = salvo_config_load_text(config, text, sizeof seed - 1, "f");
        assert_true(err == 0 || err == SALVO_ERR_CONFIG);
        if (err != 0) {
            assert_true(*salvo_config_error(config) != '\0');
            assert_int_equal(salvo_config_int(config, "flushers"), 1);
        }
        salvo_config_free(config);
    }
    char deep[20000];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "messaging.x=", 12);
    salvo_config *config = make();
    assert_int_equal(salvo_config_load_text(config, deep, sizeof deep, "f"), SALVO_ERR_CONFIG);
    assert_int_equal(load(config, "[=]"), SALVO_ERR_CONFIG); /* met by an assertion of toml++ */
    assert_int_equal(load(config, "\xc3\xa9 = 1"), SALVO_ERR_CONFIG); /* and by its "unreachable" */
    salvo_config_free(config);
}

static int print_row(const salvo_config_entry *entry, void *context)
{
    char initial[64] = "";
    if (*entry->default_value != '\0')
        snprintf(initial, sizeof initial, "`%s`", entry->default_value);
    fprintf(context, "| `%s` | %s%s%s | %s | %s | %s |\n", entry->key, entry->type,
            *entry->unit != '\0' ? ", " : "", entry->unit, initial, entry->allowed, entry->help);
    return 0;
}

static void print_page(FILE *stream)
{
    salvo_config *config = make();
    fputs("<!-- SPDX-License-Identifier: Apache-2.0\n"
          "     Printed by `config_test --markdown` from the table in engine/config_table.c; a\n"
          "     test compares the two. Change the table, not this page. -->\n"
          "# Configuration\n\n"
          "Layers, later wins: defaults, the `[messaging]` table of `core.toml`, the environment\n"
          "(key in upper case), code. In `core.toml` and code an unknown key or a bad value is an\n"
          "error; unknown names in the environment are ignored, and so are empty values there.\n"
          "Python has two layers more: a `Settings` class below `core.toml`, and `.env` below the\n"
          "environment; [python.md](python.md) shows them.\n"
          "`broker` is another name of `message_broker` in `core.toml` and code. An empty text\n"
          "unsets a key that has no default. Sizes take `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`.\n"
          "`rdkafka.<property>` passes any property on to librdkafka, in `core.toml` as\n"
          "`\"rdkafka.linger.ms\" = 5` or in a table `[messaging.rdkafka]`. `salvo config` prints\n"
          "each effective value and where it came from; secrets are never shown.\n\n"
          "| key | type, unit | default | allowed | meaning |\n|---|---|---|---|---|\n",
          stream);
    (void)salvo_config_each(config, print_row, stream);
    salvo_config_free(config);
}

static void the_page_equals_the_table(void **state)
{
    (void)state;
    char *page = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&page, &size);
    assert_non_null(stream);
    print_page(stream);
    fclose(stream);
    FILE *file = fopen(SALVO_SOURCE_DIR "/docs/configuration.md", "r");
    assert_non_null(file);
    char *have = calloc(1, size + 2);
    assert_non_null(have);
    size_t got = fread(have, 1, size + 1, file);
    fclose(file);
    if (got != size || strcmp(page, have) != 0)
        fail_msg("docs/configuration.md is out of date: config_test --markdown prints it");
    free(have);
    free(page);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--markdown") == 0) {
        print_page(stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_valid_and_as_documented),
        cmocka_unit_test(layers_win_in_any_order),
        cmocka_unit_test(environment_takes_known_names_only),
        cmocka_unit_test(values_are_checked),
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(secrets_stay_hidden),
        cmocka_unit_test(toml_is_read_and_located),
        cmocka_unit_test(files_are_not_trusted),
        cmocka_unit_test(broker_is_chosen_by_rule),
        cmocka_unit_test(keys_are_checked_together),
        cmocka_unit_test(values_follow_others),
        cmocka_unit_test(copies_share_nothing),
        cmocka_unit_test(allocation_failures_are_survived),
        cmocka_unit_test(random_files_do_no_harm),
        cmocka_unit_test(the_page_equals_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
