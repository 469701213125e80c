/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics by HTTP, through libmicrohttpd: one thread, 16 connections, 10 s for each. It answers
 * GET and HEAD of /metrics, reads nothing of a request but its path and Accept, and listens on
 * the loopback unless told otherwise.
 *
 * A forked child has the listening socket too, and would keep the port for as long as it lives.
 * So the sockets are in one table, and a handler of pthread_atfork() closes them in the child.
 */
#include "metrics.h"

#include "error.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECTIONS = 16, PATIENCE_S = 10, SERVERS_MAX = 64 };

struct salvo_metrics_server {
    struct MHD_Daemon *daemon;
    salvo *producer; /* NULL: those of the directory */
    char directory[256];
    char address[INET6_ADDRSTRLEN + 16];
    int fd; /* listening */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;
static int table[SERVERS_MAX]; /* fd + 1; 0: free */

static void before_fork(void)
{
    pthread_mutex_lock(&table_lock);
}

static void in_parent(void)
{
    pthread_mutex_unlock(&table_lock);
}

static void in_child(void)
{
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (table[i] != 0)
            close(table[i] - 1);
        table[i] = 0;
    }
    pthread_mutex_unlock(&table_lock);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, in_parent, in_child);
}

/* No fork until unlock: what is in the table and what is open would not be the same in the child,
 * which would keep the port, or close what is not a server's. */
static void lock_table(void)
{
    pthread_once(&table_once, watch_forks);
    pthread_mutex_lock(&table_lock);
}

/* Replace `from` by `to`. A table that is full stays as it is: a child may keep the port. */
static void change_table(int from, int to)
{
    for (int i = 0; i < SERVERS_MAX; i++)
        if (table[i] == from) {
            table[i] = to;
            return;
        }
}

static int write_text(salvo_metrics_server *server, salvo_metrics_format format, FILE *to)
{
    salvo_metrics_source s;
    if (server->producer == NULL)
        return salvo_metrics_write_all(server->directory, format, to);
    int err = salvo_metrics_take(server->producer, &s);
    if (err == 0) {
        err = salvo_metrics_render(&s, 1, format, to);
        salvo_metrics_release(&s);
    }
    return err;
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, char *text,
                             size_t size, enum MHD_ResponseMemoryMode mode, const char *type)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, mode);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        ok &= MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (ok == MHD_YES)
        ok = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return ok;
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *text)
{
    char line[128];
    int n = snprintf(line, sizeof line, "%s\n", text);
    return reply(connection, status, line, (size_t)n, MHD_RESPMEM_MUST_COPY,
                 "text/plain; charset=utf-8");
}

static enum MHD_Result send_metrics(salvo_metrics_server *server,
                                    struct MHD_Connection *connection)
{
    const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_ACCEPT);
    bool open = accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    int err = to != NULL ? write_text(server, open ? SALVO_METRICS_OPENMETRICS
                                                   : SALVO_METRICS_PROMETHEUS, to)
                         : SALVO_ERR_NOMEM;
    if (to != NULL && fclose(to) != 0)
        err = SALVO_ERR_NOMEM;
    if (err != 0) {
        free(text);
        return say(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, salvo_strerror(err));
    }
    return reply(connection, MHD_HTTP_OK, text, size, MHD_RESPMEM_MUST_FREE,
                 open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                      : "text/plain; version=0.0.4; charset=utf-8");
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *body,
                              size_t *body_bytes, void **state)
{
    static int seen;
    (void)version;
    (void)body;
    if (*state == NULL) { /* the head is there, the body is not */
        *state = &seen;
        return MHD_YES;
    }
    if (*body_bytes != 0) {
        *body_bytes = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
    if (strcmp(url, "/metrics") == 0)
        return send_metrics(context, connection);
    return say(connection, MHD_HTTP_NOT_FOUND, "the metrics are at /metrics");
}

/* "9464", ":9464", "host:9464", "[::1]:9464" to host and port. */
static bool split(const char *listen, char *host, size_t host_size, char *port, size_t port_size)
{
    const char *colon = strrchr(listen, ':');
    const char *number = colon != NULL ? colon + 1 : listen;
    size_t length = colon != NULL ? (size_t)(colon - listen) : 0;
    size_t digits = strspn(number, "0123456789");
    if (length > 1 && listen[0] == '[' && listen[length - 1] == ']') {
        listen++;
        length -= 2;
    } else if (memchr(listen, ':', length) != NULL) {
        return false;
    }
    if (digits == 0 || digits >= port_size || number[digits] != '\0' || atoi(number) > 65535 ||
        length >= host_size)
        return false;
    memcpy(port, number, digits + 1);
    memcpy(host, listen, length);
    host[length] = '\0';
    if (length == 0 || strcmp(host, "localhost") == 0)
        snprintf(host, host_size, "127.0.0.1");
    return true;
}

/* A listening socket, or -1 with errno. */
static int listen_on(const struct addrinfo *at)
{
    int one = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, CONNECTIONS) == 0)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

static void name_address(salvo_metrics_server *server)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    char host[INET6_ADDRSTRLEN] = "?", port[8] = "?";
    if (getsockname(server->fd, (struct sockaddr *)&at, &size) == 0)
        (void)getnameinfo((struct sockaddr *)&at, size, host, sizeof host, port, sizeof port,
                          NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(server->address, sizeof server->address,
             at.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int open_socket(salvo_metrics_server *server, const char *text)
{
    char host[INET6_ADDRSTRLEN + 16], port[8];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (!split(text, host, sizeof host, port, sizeof port) ||
        getaddrinfo(host, port, &hints, &found) != 0) {
        salvo_error_set("metrics: \"%s\" is not PORT, ADDRESS:PORT or [ADDRESS]:PORT, with an "
                        "address in numbers and a port from 0 to 65535", text);
        return SALVO_ERR_CONFIG;
    }
    server->fd = listen_on(found);
    freeaddrinfo(found);
    if (server->fd >= 0)
        return 0;
    salvo_error_set("metrics: cannot listen on %s: %s%s", text, strerror(errno),
                    errno == EADDRINUSE ? "; choose another port, or 0 for any" : "");
    return SALVO_ERR_CONFIG;
}

/* Signals are the application's, not our thread's. */
static int start(salvo_metrics_server *server)
{
    sigset_t all, before;
    struct stat ours, now;
    bool known = fstat(server->fd, &ours) == 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->daemon = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, answer, server,
        MHD_OPTION_LISTEN_SOCKET, server->fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)PATIENCE_S, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (server->daemon != NULL)
        return 0;
    /* Where its thread is what failed, libmicrohttpd closed the socket; the number may be another
     * thread's by now. */
    if (known && fstat(server->fd, &now) == 0 && now.st_ino == ours.st_ino &&
        now.st_dev == ours.st_dev)
        close(server->fd);
    salvo_error_set("metrics: the server's thread could not be started");
    return SALVO_ERR_NOMEM;
}

int salvo_metrics_serve_one(const char *listen, salvo *producer, const char *directory,
                            salvo_metrics_server **out)
{
    salvo_error_clear();
    if (listen == NULL || out == NULL)
        return SALVO_ERR_INVALID;
    *out = NULL;
    salvo_metrics_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return SALVO_ERR_NOMEM;
    server->producer = producer;
    snprintf(server->directory, sizeof server->directory, "%s", directory ? directory : "");
    lock_table();
    int err = open_socket(server, listen);
    if (err == 0) {
        name_address(server);
        err = start(server);
    }
    if (err == 0)
        change_table(0, server->fd + 1);
    pthread_mutex_unlock(&table_lock);
    if (err != 0)
        free(server);
    else
        *out = server;
    return err;
}

int salvo_metrics_serve(const char *listen, const char *directory, salvo_metrics_server **out)
{
    return salvo_metrics_serve_one(listen, NULL, directory, out);
}

const char *salvo_metrics_address(const salvo_metrics_server *server)
{
    return server->address;
}

void salvo_metrics_stop(salvo_metrics_server *server)
{
    if (server == NULL)
        return;
    int fd = MHD_quiesce_daemon(server->daemon); /* ours now: closed together with its entry */
    MHD_stop_daemon(server->daemon);
    lock_table();
    change_table(server->fd + 1, 0);
    if (fd >= 0)
        close(fd);
    pthread_mutex_unlock(&table_lock);
    free(server);
}
