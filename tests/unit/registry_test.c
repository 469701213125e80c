/* SPDX-License-Identifier: Apache-2.0
 *
 * The Schema Registry's client against the registry of tests/registry: ids and schemas, what is
 * remembered when it is gone, conflicts in its own words, credentials, several addresses, and
 * answers of something else. Skipped without python3.
 */
#include <salvo/schema.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct server {
    pid_t pid;
    char url[128];
} server;

static salvo_schema *parsed(const char *json)
{
    salvo_schema *schema = NULL;
    assert_int_equal(salvo_schema_parse(json, strlen(json), &schema, NULL), 0);
    return schema;
}

static void start(server *s, const char *user, const char *password)
{
    int out[2];
    assert_int_equal(pipe(out), 0);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        const char *script = SALVO_SOURCE_DIR "/tests/registry/server.py";
        if (user)
            execlp("python3", "python3", "-B", script, "--user", user, "--password", password,
                   (char *)NULL);
        else
            execlp("python3", "python3", "-B", script, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *lines = fdopen(out[0], "r");
    char *line = fgets(s->url, sizeof s->url, lines);
    fclose(lines);
    if (!line) {
        waitpid(s->pid, NULL, 0);
        skip();
    }
    s->url[strcspn(s->url, "\n")] = '\0';
}

static void stop(server *s)
{
    kill(s->pid, SIGTERM);
    assert_int_equal(waitpid(s->pid, NULL, 0), s->pid);
}

static salvo_registry *opened(const char *url, const char *user, const char *password)
{
    salvo_registry *registry;
    salvo_schema_fault fault = {""};
    salvo_registry_options options = {.size = sizeof options, .url = url, .user = user,
                                      .password = password, .timeout_ms = 3000};
    if (salvo_registry_open(&options, &registry, &fault) != 0)
        fail_msg("%s", fault.text);
    return registry;
}

static const char one[] = "{\"type\":\"record\",\"name\":\"R\",\"namespace\":\"n\",\"fields\":[]}";
static const char two[] = "{\"type\":\"record\",\"name\":\"R\",\"namespace\":\"n\",\"fields\":"
                          "[{\"name\":\"a\",\"type\":\"long\"}]}";

static void test_what_was_learnt_stays(void **state)
{
    (void)state;
    server s;
    start(&s, NULL, NULL);
    salvo_registry *registry = opened(s.url, NULL, NULL);
    salvo_schema *schema = parsed(one);
    salvo_schema_fault fault = {""};
    const salvo_schema *found;
    int32_t id = 0, other = 0;
    assert_int_equal(salvo_registry_id(registry, "a/b", schema, false, &id, &fault),
                     SALVO_ERR_REJECTED);
    assert_non_null(strstr(fault.text, "is not registered"));
    assert_int_equal(salvo_registry_id(registry, "a/b", schema, true, &id, &fault), 0);
    assert_true(id > 0);
    assert_int_equal(salvo_registry_schema(registry, id, &found, &fault), 0);
    assert_string_equal(salvo_schema_name(found), "n.R");
    assert_int_equal(salvo_registry_schema(registry, 999, &found, &fault), SALVO_ERR_REJECTED);
    stop(&s);
    assert_int_equal(salvo_registry_id(registry, "a/b", schema, true, &other, &fault), 0);
    assert_int_equal(other, id);
    assert_int_equal(salvo_registry_schema(registry, id, &found, &fault), 0);
    assert_int_equal(salvo_registry_id(registry, "new", schema, true, &other, &fault),
                     SALVO_ERR_UNREACHABLE);
    assert_non_null(strstr(fault.text, "no Schema Registry answered: http://127.0.0.1"));
    salvo_schema_free(schema);
    salvo_registry_close(registry);
}

static void test_conflicts_are_told(void **state)
{
    (void)state;
    server s;
    start(&s, NULL, NULL);
    salvo_registry *registry = opened(s.url, NULL, NULL);
    salvo_schema *schema = parsed(one), *later = parsed(two);
    salvo_schema_fault fault = {""};
    bool yes = false;
    int32_t id;
    assert_int_equal(salvo_registry_compatible(registry, "t", later, &yes, &fault), 0);
    assert_true(yes); /* nothing is there yet */
    assert_int_equal(salvo_registry_id(registry, "t", schema, true, &id, &fault), 0);
    assert_int_equal(salvo_registry_compatible(registry, "t", later, &yes, &fault), 0);
    assert_false(yes);
    assert_int_equal(salvo_registry_id(registry, "t", later, true, &id, &fault),
                     SALVO_ERR_REJECTED);
    assert_non_null(strstr(fault.text, "not compatible"));
    assert_non_null(strstr(fault.text, "READER_FIELD_MISSING_DEFAULT_VALUE"));
    salvo_schema_free(schema);
    salvo_schema_free(later);
    salvo_registry_close(registry);
    stop(&s);
}

static void test_credentials(void **state)
{
    (void)state;
    server s;
    char url[256];
    int32_t id;
    start(&s, "me", "pa:ss@/word");
    salvo_schema *schema = parsed("\"long\"");
    salvo_schema_fault fault = {""};
    salvo_registry *wrong = opened(s.url, "me", "hunter2");
    assert_int_equal(salvo_registry_id(wrong, "t", schema, true, &id, &fault), SALVO_ERR_AUTH);
    assert_null(strstr(fault.text, "hunter2"));
    salvo_registry_close(wrong);
    salvo_registry *right = opened(s.url, "me", "pa:ss@/word");
    assert_int_equal(salvo_registry_id(right, "t", schema, true, &id, &fault), 0);
    salvo_registry_close(right);
    /* In the address, and after one where nobody is. */
    snprintf(url, sizeof url, "http://x:y@127.0.0.1:1, http://me:pa%%3Ass%%40%%2Fword@%s",
             s.url + strlen("http://"));
    salvo_registry *in_url = opened(url, NULL, NULL);
    assert_int_equal(salvo_registry_id(in_url, "t", schema, true, &id, &fault), 0);
    stop(&s);
    assert_int_equal(salvo_registry_id(in_url, "u", schema, true, &id, &fault),
                     SALVO_ERR_UNREACHABLE);
    assert_null(strstr(fault.text, "word"));
    salvo_registry_close(in_url);
    salvo_schema_free(schema);
}

static void test_addresses_that_are_none(void **state)
{
    static const char *const bad[] = {"", " , ", "localhost", "ftp://h", "http://", "file:///etc"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        salvo_registry *registry;
        salvo_schema_fault fault = {""};
        salvo_registry_options options = {.size = sizeof options, .url = bad[i]};
        if (salvo_registry_open(&options, &registry, &fault) != SALVO_ERR_INVALID)
            fail_msg("`%s` is taken", bad[i]);
        assert_null(registry);
        assert_string_not_equal(fault.text, "");
    }
}

static void test_subjects(void **state)
{
    (void)state;
    char subject[16];
    salvo_schema *schema = parsed(one), *plain = parsed("\"long\"");
    salvo_schema_fault fault = {""};
    assert_int_equal(salvo_registry_subject("topic", "t", plain, subject, sizeof subject, NULL), 0);
    assert_string_equal(subject, "t-value");
    assert_int_equal(salvo_registry_subject("record", "t", schema, subject, sizeof subject, NULL),
                     0);
    assert_string_equal(subject, "n.R");
    assert_int_equal(salvo_registry_subject("topic_record", "t", schema, subject, sizeof subject,
                                            NULL), 0);
    assert_string_equal(subject, "t-n.R");
    assert_int_equal(salvo_registry_subject("record", "t", plain, subject, sizeof subject, &fault),
                     SALVO_ERR_INVALID);
    assert_int_equal(salvo_registry_subject("topics", "t", schema, subject, sizeof subject, &fault),
                     SALVO_ERR_INVALID);
    assert_int_equal(salvo_registry_subject("topic", "a-long-topic", schema, subject,
                                            sizeof subject, &fault), SALVO_ERR_INVALID);
    salvo_schema_free(schema);
    salvo_schema_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_learnt_stays),
        cmocka_unit_test(test_conflicts_are_told),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_addresses_that_are_none),
        cmocka_unit_test(test_subjects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
