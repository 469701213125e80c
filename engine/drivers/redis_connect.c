/* SPDX-License-Identifier: Apache-2.0
 *
 * Connecting and logging in; see redis_connect.h. The whole login goes out at once and its replies
 * are awaited in order.
 */
#include "redis_connect.h"

#include "clock.h"
#include "config_internal.h"
#include "error.h"
#include "redis_format.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum { STEP_AUTH = 'a', STEP_SELECT = 's', STEP_NAME = 'n', STEP_FUNCTION = 'f', STEP_PING = 'p' };

const char *salvo_redis_link_place(const salvo_redis_link *l, char *text, size_t size)
{
    if (l->target.unix_path)
        snprintf(text, size, "%s", l->target.unix_path);
    else
        snprintf(text, size, "%s:%s", l->target.host, l->target.port);
    return text;
}

static void set_text(salvo_redis_link *l)
{
    char text[sizeof l->text];
    if (l->state == SALVO_REDIS_UP)
        snprintf(text, sizeof text, "up: %s", salvo_io_backend(l->io));
    else if (l->why[0])
        snprintf(text, sizeof text, "down: %.80s", l->why);
    else
        snprintf(text, sizeof text, "connecting");
    pthread_mutex_lock(&l->mutex);
    memcpy(l->text, text, sizeof l->text);
    pthread_mutex_unlock(&l->mutex);
}

void salvo_redis_link_text(salvo_redis_link *l, char *text, size_t size)
{
    pthread_mutex_lock(&l->mutex);
    snprintf(text, size, "%s", l->text);
    pthread_mutex_unlock(&l->mutex);
}

static int bad_url(char *error, size_t error_size, const char *why)
{
    snprintf(error, error_size, "redis_url: %s; allowed: redis://[user:password@]host[:6379][/db], "
             "rediss:// for TLS, unix:///path/to/socket[?db=n]", why);
    return SALVO_ERR_CONFIG;
}

static bool parse_db(const char *text, uint32_t *db)
{
    char *end = NULL;
    if (text[0] == '\0')
        return true;
    unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    *db = (uint32_t)n;
    return end && *end == '\0' && n < 1u << 20;
}

static int take_url(salvo_redis_link *l, const char *text, char *error, size_t error_size)
{
    int err = salvo_url_parse(text, &l->url, error, error_size);
    if (err)
        return err;
    salvo_url *u = &l->url;
    const char *db = u->path;
    if (strcmp(u->scheme, "unix") == 0) {
        l->target.unix_path = u->path;
        db = strncmp(u->query, "db=", 3) == 0 ? u->query + 3 : "";
    } else if (strcmp(u->scheme, "redis") == 0 || strcmp(u->scheme, "rediss") == 0) {
        l->target.host = u->host;
        l->target.port = u->port[0] ? u->port : "6379";
        l->target.tls = u->scheme[5] == 's';
    } else {
        return bad_url(error, error_size, "its scheme is none of redis, rediss, unix");
    }
    if (!parse_db(db, &l->db))
        return bad_url(error, error_size, "its database is not a number");
    if (u->has_user && u->user[0] && !u->has_password)
        return bad_url(error, error_size, "a user without a password");
    return 0;
}

static int take_files(salvo_redis_link *l, const salvo_config *config)
{
    static const char *const keys[3] = {"tls_cafile", "tls_certfile", "tls_keyfile"};
    for (int i = 0; i < 3; i++) {
        const char *path = salvo_config_get(config, keys[i]);
        if (path && *path && !(l->files[i] = strdup(path)))
            return SALVO_ERR_NOMEM;
    }
    l->target.tls_cafile = l->files[0];
    l->target.tls_certfile = l->files[1];
    l->target.tls_keyfile = l->files[2];
    return 0;
}

int salvo_redis_link_open(salvo_redis_link *l, const salvo_redis_link_options *o, char *error,
                          size_t error_size)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->mutex, NULL);
    snprintf(l->text, sizeof l->text, "connecting");
    l->now_ns = o->now_ns;
    l->clock = o->clock;
    l->function = o->function;
    l->connect_ms = (uint32_t)salvo_config_int(o->config, "connect_timeout_ms");
    l->backoff_ns = (uint64_t)salvo_config_int(o->config, "reconnect_backoff_ms") * MS;
    l->backoff_max_ns = (uint64_t)salvo_config_int(o->config, "retry_backoff_max_ms") * MS;
    l->target.connect_timeout_ms = l->connect_ms;
    l->target.out_bytes = o->out_bytes;
    l->target.in_bytes = o->in_bytes;
    int err = take_url(l, salvo_config_get(o->config, "redis_url"), error, error_size);
    if (err)
        return err;
    snprintf(error, error_size, "redis driver: no memory for a connection");
    if (take_files(l, o->config) || salvo_redis_parser_open(&l->parser))
        return SALVO_ERR_NOMEM;
    salvo_io_options io = {.backend = salvo_config_get(o->config, "io_backend"),
                           .now_ns = o->now_ns, .clock = o->clock,
                           .wake = o->wake, .flusher = o->flusher};
    return salvo_io_open(&io, &l->io, error, error_size);
}

void salvo_redis_link_close(salvo_redis_link *l)
{
    if (l->io)
        salvo_io_close(l->io);
    l->io = NULL;
    l->conn = NULL;
    salvo_redis_parser_close(&l->parser);
    for (int i = 0; i < 3; i++)
        free(l->files[i]);
    explicit_bzero(&l->url, sizeof l->url);
    pthread_mutex_destroy(&l->mutex);
}

static void say(salvo_redis_link *l, const char *why)
{
    char place[320];
    if (!why || !*why)
        why = "the connection ended";
    bool same = strncmp(l->why, why, sizeof l->why - 1) == 0;
    if (why != l->why)
        snprintf(l->why, sizeof l->why, "%s", why);
    bool named = strstr(l->why, salvo_redis_link_place(l, place, sizeof place)) != NULL;
    if (!same || l->failures == 0)
        salvo_log(SALVO_LOG_WARNING, "redis: %s%s%s; trying again", named ? "" : place,
                  named ? "" : ": ", l->why);
}

void salvo_redis_link_drop(salvo_redis_link *l, const char *why)
{
    uint32_t shift = l->failures > 20 ? 20 : l->failures;
    uint64_t pause_ns = l->backoff_ns << shift;
    uint64_t most_ns = l->backoff_max_ns > l->backoff_ns ? l->backoff_max_ns : l->backoff_ns;
    if (why != l->why)
        l->refusal = 0;
    say(l, why ? why : l->conn ? salvo_io_conn_error(l->conn) : NULL);
    if (l->conn)
        salvo_io_disconnect(l->conn);
    l->conn = NULL;
    l->failures++;
    l->next_ns = l->now_ns(l->clock) + (pause_ns < most_ns ? pause_ns : most_ns);
    l->state = SALVO_REDIS_IDLE;
    l->lost = false;
    set_text(l);
}

void salvo_redis_link_works(salvo_redis_link *l)
{
    l->failures = 0;
}

static void begin(salvo_redis_link *l)
{
    char error[256] = "";
    if (l->now_ns(l->clock) < l->next_ns)
        return;
    if (salvo_redis_parser_reset(&l->parser) ||
        salvo_io_connect(l->io, &l->target, &l->conn, error, sizeof error)) {
        salvo_redis_link_drop(l, error[0] ? error : "no memory for a connection");
        return;
    }
    l->deadline_ns = l->now_ns(l->clock) + l->connect_ms * MS;
    l->state = SALVO_REDIS_CONNECTING;
}

static char *put_words(char *at, char step, salvo_redis_link *l, size_t count,
                       const char *const *words)
{
    at = salvo_redis_put_count(at, count);
    for (size_t i = 0; i < count; i++)
        at = salvo_redis_put_bulk(at, words[i], strlen(words[i]));
    l->steps[l->step_count++] = step;
    return at;
}

static bool send_login(salvo_redis_link *l)
{
    char text[4096], db[16], *at = text;
    const salvo_url *u = &l->url;
    l->step_count = l->step_at = 0;
    if (u->has_password && u->user[0])
        at = put_words(at, STEP_AUTH, l, 3, (const char *[]){"AUTH", u->user, u->password});
    else if (u->has_password)
        at = put_words(at, STEP_AUTH, l, 2, (const char *[]){"AUTH", u->password});
    snprintf(db, sizeof db, "%u", l->db);
    if (l->db > 0)
        at = put_words(at, STEP_SELECT, l, 2, (const char *[]){"SELECT", db});
    at = put_words(at, STEP_NAME, l, 3, (const char *[]){"CLIENT", "SETNAME", "salvo"});
    bool room = true;
    if (l->function) {
        room = salvo_io_put(l->conn, text, (size_t)(at - text));
        at = put_words(text, STEP_FUNCTION, l, 3,
                       (const char *[]){"FUNCTION", "LOAD", l->function});
    }
    at = put_words(at, STEP_PING, l, 1, (const char *[]){"PING"});
    room = room && salvo_io_put(l->conn, text, (size_t)(at - text));
    explicit_bzero(text, sizeof text);
    return room;
}

static int refuse(salvo_redis_link *l, int32_t status, const char *format, const char *text)
{
    l->refusal = status;
    snprintf(l->why, sizeof l->why, format, text);
    return 1;
}

/* 0: go on; 1: the login failed because of l->why. */
static int judge_step(salvo_redis_link *l, char step, const char *error)
{
    int32_t status = salvo_redis_judge(error).status;
    if (step == STEP_NAME || (step == STEP_PING && strncmp(error, "NOPERM ", 7) == 0))
        return 0;
    if (step == STEP_FUNCTION && strstr(error, "already exists"))
        return 0;
    if (status == SALVO_ERR_TRANSIENT) {
        snprintf(l->why, sizeof l->why, "%.200s", error);
        return 1;
    }
    if (step == STEP_FUNCTION && status != SALVO_ERR_AUTH)
        return refuse(l, SALVO_ERR_REJECTED,
                      "redis_exactly_once needs Redis 7 or later with functions: %.150s", error);
    if (step == STEP_SELECT && status != SALVO_ERR_AUTH)
        return refuse(l, SALVO_ERR_REJECTED, "the database of redis_url: %.150s", error);
    if (step == STEP_AUTH || status == SALVO_ERR_AUTH)
        return refuse(l, SALVO_ERR_AUTH, "user or password of redis_url refused: %.150s", error);
    return refuse(l, SALVO_ERR_REJECTED, "the login was refused: %.150s", error);
}

static int on_login(void *context, const salvo_redis_reply *reply)
{
    salvo_redis_link *l = context;
    if (l->step_at == l->step_count) {
        snprintf(l->why, sizeof l->why, "a reply came that nobody asked for");
        return 1;
    }
    char step = l->steps[l->step_at++];
    return reply->whole.type == REDIS_REPLY_ERROR ? judge_step(l, step, reply->text) : 0;
}

static bool log_in(salvo_redis_link *l)
{
    const void *bytes;
    size_t n = salvo_io_input(l->conn, &bytes);
    int err = n > 0 ? salvo_redis_parser_run(&l->parser, bytes, n, on_login, l) : 0;
    if (err == SALVO_ERR_INVALID) {
        salvo_redis_link_drop(l, l->parser.error);
        return false;
    }
    if (err) {
        salvo_redis_link_drop(l, l->why);
        return false;
    }
    salvo_io_consume(l->conn, n);
    if (l->step_at < l->step_count)
        return false;
    if (l->failures > 0)
        salvo_log(SALVO_LOG_NOTICE, "redis: connected again");
    l->state = SALVO_REDIS_UP;
    l->refusal = 0;
    l->ever_up = true;
    l->why[0] = '\0';
    set_text(l);
    return true;
}

bool salvo_redis_link_step(salvo_redis_link *l)
{
    salvo_io_step(l->io);
    if (l->state == SALVO_REDIS_IDLE) {
        begin(l);
        return false;
    }
    bool down = salvo_io_conn_state(l->conn) == SALVO_IO_DOWN;
    if (l->state == SALVO_REDIS_UP) {
        l->lost = down;
        return false;
    }
    if (l->state == SALVO_REDIS_CONNECTING && salvo_io_conn_state(l->conn) == SALVO_IO_UP) {
        l->state = SALVO_REDIS_LOGIN;
        if (!send_login(l))
            salvo_redis_link_drop(l, "no room for the login");
        else
            salvo_io_step(l->io);
        return false;
    }
    if (l->state == SALVO_REDIS_LOGIN && log_in(l))
        return true;
    if (l->state == SALVO_REDIS_IDLE)
        return false;
    if (down)
        salvo_redis_link_drop(l, NULL);
    else if (l->now_ns(l->clock) > l->deadline_ns)
        salvo_redis_link_drop(l, l->state == SALVO_REDIS_LOGIN
                                     ? "the server did not answer the login in time"
                                     : "connecting took too long");
    return false;
}

int salvo_redis_link_wait(salvo_redis_link *l, uint64_t timeout_ms, char *error,
                          size_t error_size)
{
    enum { SLICE_MS = 20 };
    char place[320];
    uint64_t start_ns = salvo_clock_monotonic_ns();
    while (l->state != SALVO_REDIS_UP && l->refusal == 0) {
        uint64_t spent_ms = (salvo_clock_monotonic_ns() - start_ns) / MS;
        if (spent_ms >= timeout_ms)
            break;
        uint64_t left_ms = timeout_ms - spent_ms;
        salvo_io_wait(l->io, left_ms < SLICE_MS ? left_ms : SLICE_MS);
        salvo_redis_link_step(l);
    }
    if (l->state == SALVO_REDIS_UP)
        return 0;
    snprintf(error, error_size, "redis: %s%s%s", salvo_redis_link_place(l, place, sizeof place),
             l->refusal ? ": " : " is not to be reached: ",
             l->why[0] ? l->why : "no answer within the time given");
    return l->refusal ? l->refusal : SALVO_ERR_UNREACHABLE;
}
