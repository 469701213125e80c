/* SPDX-License-Identifier: Apache-2.0
 *
 * A real Redis server of a test's own: on loopback, a free port, a folder of its own, ended by
 * its process id and with the test's process. Include it after cmocka.h; its functions fail the
 * running test, so only the test's own thread may call them.
 */
#ifndef REDIS_SERVER_H
#define REDIS_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct redis_server {
    pid_t pid; /* 0: not running */
    int port;
    char folder[64], url[128];
    const char *const *extra; /* more words of its command line, ended by NULL */
    redisContext *admin;
} redis_server;

static inline uint64_t redis_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline int redis_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static inline void redis_exec(const redis_server *s)
{
    char port[16];
    const char *words[48] = {"redis-server", "--port", port, "--bind", "127.0.0.1", "--dir",
                             s->folder, "--save", "", "--logfile", "log"};
    size_t n = 11;
    snprintf(port, sizeof port, "%d", s->port);
    for (const char *const *w = s->extra; w && *w && n < 47; w++)
        words[n++] = *w;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp("redis-server", (char *const *)(uintptr_t)words);
    _exit(127);
}

/* Up and answering (an error is an answer) when it returns. */
static inline void redis_run(redis_server *s)
{
    uint64_t end = redis_now_ms() + 20000;
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0)
        redis_exec(s);
    for (;;) {
        redisReply *reply = NULL;
        s->admin = redisConnect("127.0.0.1", s->port);
        if (s->admin && !s->admin->err)
            reply = redisCommand(s->admin, "PING");
        bool answered = reply && strncmp(reply->str, "LOADING", 7) != 0;
        if (reply)
            freeReplyObject(reply);
        if (answered)
            return;
        redisFree(s->admin);
        s->admin = NULL;
        if (redis_now_ms() > end || waitpid(s->pid, NULL, WNOHANG) != 0)
            fail_msg("redis-server did not come up; see %s/log", s->folder);
        usleep(20000);
    }
}

static inline redis_server redis_begin(const char *const *extra)
{
    redis_server s = {.extra = extra, .port = redis_free_port()};
    strcpy(s.folder, "/tmp/salvo-redis-XXXXXX");
    assert_non_null(mkdtemp(s.folder));
    snprintf(s.url, sizeof s.url, "redis://127.0.0.1:%d", s.port);
    redis_run(&s);
    return s;
}

static inline void redis_kill(redis_server *s, int with)
{
    if (s->admin)
        redisFree(s->admin);
    s->admin = NULL;
    if (s->pid > 0) {
        kill(s->pid, with);
        waitpid(s->pid, NULL, 0);
    }
    s->pid = 0;
}

static inline void redis_end(redis_server *s)
{
    char command[128];
    redis_kill(s, SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%s'", s->folder);
    assert_int_equal(system(command), 0);
}

/* A command of words separated by single blanks; the reply is the caller's. */
static inline redisReply *redis_do(redis_server *s, const char *command)
{
    char copy[512];
    const char *words[32];
    int n = 0;
    snprintf(copy, sizeof copy, "%s", command);
    for (char *rest = copy, *word; n < 32 && (word = strsep(&rest, " "));)
        words[n++] = word;
    redisReply *reply = redisCommandArgv(s->admin, n, words, NULL);
    if (!reply)
        fail_msg("%s: %s", command, s->admin->errstr);
    return reply;
}

/* For its integer, or -1; an error fails. */
static inline long long redis_ask(redis_server *s, const char *command)
{
    redisReply *reply = redis_do(s, command);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", command, reply->str);
    long long number = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    freeReplyObject(reply);
    return number;
}

#endif
