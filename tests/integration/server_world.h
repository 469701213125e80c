/* SPDX-License-Identifier: Apache-2.0
 *
 * The real Redis and RabbitMQ of the integration tests. Guarantees: the shared server is the one
 * that SALVO_TEST_REDIS or SALVO_TEST_RABBITMQ names (its URL), and a test never harms it; a
 * server that a test stops, kills or configures is an instance of that process (script/broker),
 * which ends with it.
 */
#ifndef SALVO_SERVER_WORLD_H
#define SALVO_SERVER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The URL of the shared server of "redis" or "rabbitmq". */
static inline const char *server_shared(const char *kind)
{
    const char *name = strcmp(kind, "redis") == 0 ? "SALVO_TEST_REDIS" : "SALVO_TEST_RABBITMQ";
    const char *url = getenv(name);
    if (url == NULL || *url == '\0')
        fail_msg("%s is not set: start a server with `script/broker %s start` and give its "
                 "address, or run script/test", name, kind);
    return url;
}

/* `script/broker KIND WHAT ...` for an instance of this process; what: start, kill, restart, stop,
 * status. `more`: further options, or "". url (may be NULL) gets the address that it prints. */
static inline void server_own(const char *kind, const char *what, const char *more, char *url,
                              size_t url_size)
{
    char command[2048], line[512] = "", owner[32] = "";
    if (strcmp(what, "start") == 0)
        snprintf(owner, sizeof owner, "--owner %d", (int)getpid());
    snprintf(command, sizeof command, "%s/script/broker %s %s --name world-%d %s %s 2>&1",
             SALVO_SOURCE_DIR, kind, what, (int)getpid(), owner, more);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *said = strncmp(line, "address ", 8) == 0 ? line + 8 : line;
        if (url != NULL && (strncmp(said, "redis://", 8) == 0 || strncmp(said, "amqp://", 7) == 0))
            snprintf(url, url_size, "%.*s", (int)url_size - 1, said);
    }
    if (pclose(pipe) != 0)
        fail_msg("script/broker %s %s: %s", kind, what, line);
}

/* The server's process, for SIGSTOP and the like. */
static inline pid_t server_pid(const char *kind)
{
    char command[1024];
    int pid = 0;
    snprintf(command, sizeof command, "%s/script/broker %s status --name world-%d",
             SALVO_SOURCE_DIR, kind, (int)getpid());
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    int read = fscanf(pipe, "address %*s pid %d", &pid);
    (void)pclose(pipe);
    if (read != 1 || pid <= 0)
        fail_msg("script/broker %s status: no process id", kind);
    return (pid_t)pid;
}

#endif
