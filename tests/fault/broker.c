/* SPDX-License-Identifier: Apache-2.0
 *
 * The real server of a run, by script/broker, as an instance of this process that ends with it.
 * Guarantees: killed is SIGKILL to the server itself; a restart comes back on the same data and
 * ports; a failure ends the test with the script's words.
 */
#include "fault.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* script/broker DRIVER what --name ...; lines that begin with `prefix` leave their rest in out. */
static void script(const char *driver, const char *what, const char *options, const char *prefix,
                   char *out, size_t size)
{
    char command[1024], line[512] = "";
    snprintf(command, sizeof command, "%s/script/broker %s %s --name fault-%d %s 2>&1",
             SALVO_SOURCE_DIR, driver, what, (int)getpid(), options);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (out != NULL && strncmp(line, prefix, strlen(prefix)) == 0)
            snprintf(out, size, "%s", line + strlen(prefix));
    }
    if (pclose(pipe) != 0)
        fail_msg("%s: %s", command, line);
}

/* Below the range of outgoing connections, so that none of those can sit on it. */
static uint16_t free_port(void)
{
    for (int i = 0; i < 1000; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        uint16_t port = (uint16_t)(12000 + (fault_now_ns() / 1000 + (uint64_t)i * 7919) % 20000);
        a.sin_port = htons(port);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        bool free_now = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
        close(fd);
        if (free_now)
            return port;
    }
    fail_msg("no free port on 127.0.0.1");
    return 0;
}

/* Kafka tells its clients where to go on: a second listener sends those of the proxy back to it. */
static void kafka_options(fault_broker *b, uint16_t proxy_port, char *text, size_t size)
{
    uint16_t inner = free_port(), control = free_port();
    b->port = free_port();
    b->proxied_port = inner;
    snprintf(text, size,
             "--owner %d --port %u --auto-create off "
             "--set listeners=PLAINTEXT://127.0.0.1:%u,PROXIED://127.0.0.1:%u,"
             "CONTROLLER://127.0.0.1:%u "
             "--set advertised.listeners=PLAINTEXT://127.0.0.1:%u,PROXIED://127.0.0.1:%u "
             "--set controller.quorum.voters=1@127.0.0.1:%u "
             "--set listener.security.protocol.map="
             "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT "
             "--set log.segment.bytes=16777216 --set log.segment.delete.delay.ms=1000",
             (int)getpid(), b->port, b->port, inner, control, b->port, proxy_port, control);
}

static void learn_pid(fault_broker *b)
{
    char pid[32] = "";
    script(b->driver, "status", "", "pid ", pid, sizeof pid);
    b->pid = atoi(pid);
    assert_true(b->pid > 1);
}

static const char *address_begins(const char *driver)
{
    return strcmp(driver, "redis") == 0      ? "redis://127.0.0.1:"
           : strcmp(driver, "rabbitmq") == 0 ? "amqp://guest:guest@127.0.0.1:"
                                             : "127.0.0.1:";
}

void fault_broker_start(fault_broker *b, const char *driver, uint16_t proxy_port)
{
    char options[1024], port[32] = "";
    *b = (fault_broker){.driver = driver};
    if (strcmp(driver, "kafka") == 0)
        kafka_options(b, proxy_port, options, sizeof options);
    else
        snprintf(options, sizeof options, "--owner %d%s", (int)getpid(),
                 strcmp(driver, "redis") == 0
                     ? " --set appendonly=yes --set appendfsync=always"
                     : "");
    script(driver, "start", options, address_begins(driver), port, sizeof port);
    b->port = (uint16_t)atoi(port);
    assert_true(b->port > 0);
    if (b->proxied_port == 0)
        b->proxied_port = b->port;
    learn_pid(b);
}

void fault_broker_kill(fault_broker *b) { script(b->driver, "kill", "", "", NULL, 0); }

void fault_broker_restart(fault_broker *b)
{
    script(b->driver, "restart", "", "", NULL, 0);
    learn_pid(b);
}

void fault_broker_signal(const fault_broker *b, int signal)
{
    assert_int_equal(kill(b->pid, signal), 0);
}

void fault_broker_stop(fault_broker *b) { script(b->driver, "stop", "", "", NULL, 0); }
