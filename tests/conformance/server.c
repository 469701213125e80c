/* SPDX-License-Identifier: Apache-2.0
 *
 * The real server of a target, through script/broker. Guarantees: one instance per run, of a name
 * of its own, that ends with this process whatever happens; kill and restart keep its data and its
 * address. server_cut() breaks connections where they are easiest to find: in this process.
 */
#include "conformance.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static const target *current;
static char address[64];
static bool is_up, is_stopped;
static pid_t pid; /* 0: ask for it */

/* script/broker; the address that it prints is kept. */
static void broker(const char *what, const char *arguments)
{
    char command[2048], line[512], last[512] = "";
    snprintf(command, sizeof command, "%s/script/broker %s %s --name conformance-%d %s 2>&1",
             SALVO_SOURCE_DIR, current->driver, what, (int)getpid(), arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, "127.0.0.1:");
        unsigned port;
        if (strcmp(what, "start") == 0 && at && sscanf(at, "127.0.0.1:%5u", &port) == 1)
            snprintf(address, sizeof address, "127.0.0.1:%u", port);
        if (getenv("SALVO_TEST_VERBOSE"))
            fprintf(stderr, "%s\n", line);
        memcpy(last, line, sizeof last);
    }
    if (pclose(pipe))
        fail_msg("script/broker %s %s: %s", current->driver, what, last);
}

void server_start(const target *t)
{
    char arguments[1536], more[1400] = "";
    current = t;
    address[0] = '\0';
    is_up = true;
    is_stopped = false;
    pid = 0;
    if (!t->address_key)
        return;
    if (t->hooks && t->hooks->start_arguments)
        t->hooks->start_arguments(more, sizeof more);
    snprintf(arguments, sizeof arguments, "--owner %d %s", (int)getpid(), more);
    broker("start", arguments);
    assert_string_not_equal(address, "");
}

void server_stop(void)
{
    if (current->address_key)
        broker("stop", "");
}

void server_kill(void)
{
    if (!current->address_key)
        return;
    broker("kill", "");
    is_up = false;
    pid = 0;
}

void server_restart(void)
{
    if (!current->address_key)
        return;
    broker("restart", "");
    is_up = true;
}

void server_ensure(void)
{
    if (is_stopped)
        server_signal(SIGCONT);
    if (!is_up)
        server_restart();
}

static pid_t server_pid(void)
{
    char command[512], line[512];
    if (pid)
        return pid;
    snprintf(command, sizeof command, "%s/script/broker %s status --name conformance-%d",
             SALVO_SOURCE_DIR, current->driver, (int)getpid());
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe))
        if (strncmp(line, "pid ", 4) == 0)
            pid = atoi(line + 4);
    assert_int_equal(pclose(pipe), 0);
    assert_true(pid > 1);
    return pid;
}

void server_signal(int number)
{
    if (!current->address_key)
        return;
    assert_int_equal(kill(server_pid(), number), 0);
    is_stopped = number == SIGSTOP;
    if (is_stopped)
        usleep(100000); /* until the last of its threads stands still */
}

const char *server_address(void)
{
    return address;
}

int server_port(void)
{
    return address[0] ? atoi(strchr(address, ':') + 1) : 0;
}

static bool is_to_server(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) || peer.ss_family != AF_INET)
        return false;
    struct sockaddr_in in;
    memcpy(&in, &peer, sizeof in);
    return ntohs(in.sin_port) == server_port();
}

int server_cut(void)
{
    int cut = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && is_to_server(fd))
            cut += shutdown(fd, SHUT_RDWR) == 0;
    }
    closedir(folder);
    return cut;
}

int free_port(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof any;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &size), 0);
    close(fd);
    return ntohs(any.sin_port);
}

/* --- the log --------------------------------------------------------------------------------- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1 << 16], log_taken[1 << 16];
static size_t log_used;

static void keep(void *context, int level, const char *text)
{
    (void)context;
    if (getenv("SALVO_TEST_VERBOSE"))
        fprintf(stderr, "[%d] %s\n", level, text);
    pthread_mutex_lock(&log_lock);
    int n = snprintf(log_text + log_used, sizeof log_text - log_used, "%s\n", text);
    log_used += (size_t)n < sizeof log_text - log_used ? (size_t)n : 0;
    log_text[log_used] = '\0';
    pthread_mutex_unlock(&log_lock);
}

void log_capture(void)
{
    salvo_set_log(keep, NULL);
}

const char *log_take(void)
{
    pthread_mutex_lock(&log_lock);
    memcpy(log_taken, log_text, log_used + 1);
    log_used = 0;
    log_text[0] = '\0';
    pthread_mutex_unlock(&log_lock);
    return log_taken;
}
