/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts of errors, the last error of a thread, and the log hook.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "error.h"
#include <errno.h>
#include <pthread.h>
#include <salvo/salvo.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void every_code_has_a_text_of_its_own(void **state)
{
    (void)state;
    for (int a = SALVO_ERR_END; a <= 0; a++) {
        assert_string_not_equal(salvo_strerror(a), "unknown error code");
        for (int b = SALVO_ERR_END; b < a; b++)
            assert_string_not_equal(salvo_strerror(a), salvo_strerror(b));
    }
    assert_string_equal(salvo_strerror(1), "unknown error code");
    assert_string_equal(salvo_strerror(SALVO_ERR_END - 1), "unknown error code");
}

static void *other_thread(void *argument)
{
    (void)argument;
    assert_string_equal(salvo_last_error(), "");
    salvo_error_set("theirs");
    return NULL;
}

static void last_error_belongs_to_its_thread(void **state)
{
    (void)state;
    pthread_t thread;
    salvo_error_set("topic %d", 7);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(salvo_last_error(), "topic 7");
    salvo_error_set("open: %s", salvo_last_error()); /* its own text as an argument */
    assert_string_equal(salvo_last_error(), "open: topic 7");
    char longer[2 * SALVO_ERROR_BYTES];
    memset(longer, 'x', sizeof longer);
    salvo_error_set("%.*s", (int)sizeof longer, longer);
    assert_int_equal(strlen(salvo_last_error()), SALVO_ERROR_BYTES - 1);
    salvo_error_clear();
    assert_string_equal(salvo_last_error(), "");
}

static char seen[128];
static void remember(void *context, int level, const char *text)
{
    errno = EBADF; /* must not reach the caller */
    snprintf(seen, sizeof seen, "%s%d %s", (const char *)context, level, text);
}

static void hook_gets_one_line(void **state)
{
    (void)state;
    char context[] = "c";
    salvo_set_log(remember, context);
    errno = EINTR;
    salvo_log(SALVO_LOG_DEBUG, "a\nb\x1b[1m %d\r\n", 3);
    assert_int_equal(errno, EINTR);
    assert_string_equal(seen, "c7 a b [1m 3");
    salvo_set_log(NULL, NULL);
}

static void without_a_hook_warnings_go_to_stderr(void **state)
{
    (void)state;
    char text[128] = "";
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    salvo_log(SALVO_LOG_NOTICE, "not this");
    salvo_log(SALVO_LOG_WARNING, "this %s", "one");
    fflush(stderr);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_string_equal(text, "salvo: this one\n");
}

static void versions_agree(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", SALVO_VERSION_MAJOR, SALVO_VERSION_MINOR,
             SALVO_VERSION_PATCH);
    assert_string_equal(salvo_version(), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_text_of_its_own),
        cmocka_unit_test(last_error_belongs_to_its_thread),
        cmocka_unit_test(hook_gets_one_line),
        cmocka_unit_test(without_a_hook_warnings_go_to_stderr),
        cmocka_unit_test(versions_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
