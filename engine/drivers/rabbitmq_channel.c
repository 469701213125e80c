/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's connection comes and goes: connect, channels, what people see of it, and a
 * reconnect with growing pauses (reconnect_backoff_ms up to retry_backoff_max_ms, from the
 * beginning once something was confirmed).
 */
#include "rabbitmq_internal.h"

#include "config_internal.h"
#include "error.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)

void salvo_rabbitmq_state_set(salvo_rabbitmq *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&r->lock);
    vsnprintf(r->state, sizeof r->state, format, arguments);
    pthread_mutex_unlock(&r->lock);
    va_end(arguments);
}

uint64_t salvo_rabbitmq_backoff_ns(const salvo_rabbitmq *r, const char *first, uint32_t attempts)
{
    uint64_t pause = (uint64_t)salvo_config_int(r->env->config, first) * MS;
    uint64_t most = (uint64_t)salvo_config_int(r->env->config, "retry_backoff_max_ms") * MS;
    if (most < pause)
        most = pause;
    pause <<= attempts > 20 ? 20 : attempts;
    if (pause > most)
        pause = most;
    return pause - pause / 4 * (salvo_rabbitmq_now(r) % 64) / 64;
}

void salvo_rabbitmq_lost(salvo_rabbitmq *r)
{
    const salvo_url *url = &r->link.url;
    bool was_up = r->ready;
    uint64_t now = salvo_rabbitmq_now(r);
    r->connecting = r->up = false;
    r->shown = SALVO_RABBITMQ_SHOWN_NONE;
    r->stable_end = 0;
    salvo_rabbitmq_out_lost(r, r->link.down_sent);
    salvo_rabbitmq_topics_forget(r);
    r->connect_ns = now + salvo_rabbitmq_backoff_ns(r, "reconnect_backoff_ms", r->attempts++);
    if (r->link.error != SALVO_ERR_AUTH)
        r->refused_since_ns = 0;
    else if (!r->refused_since_ns)
        r->refused_since_ns = now;
    salvo_rabbitmq_state_set(r, "down: %s", r->link.why);
    if (!r->purged && (was_up || !r->down_logged))
        r->env->log(SALVO_LOG_WARNING, "rabbitmq at %s:%s: %s; connecting again", url->host,
                    url->port, r->link.why);
    r->down_logged = true;
}

static void open_channels(salvo_rabbitmq *r)
{
    amqp_channel_open_t open = {0};
    amqp_confirm_select_t select = {0};
    r->up = true;
    if (!salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_PUBLISHING, AMQP_CHANNEL_OPEN_METHOD,
                                   &open) ||
        !salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_PUBLISHING, AMQP_CONFIRM_SELECT_METHOD,
                                   &select) ||
        !salvo_rabbitmq_put_method(&r->link, SALVO_RABBITMQ_DECLARING, AMQP_CHANNEL_OPEN_METHOD,
                                   &open))
        salvo_rabbitmq_link_fail(&r->link, SALVO_ERR_NOMEM, "no room to open channels");
}

static void show(salvo_rabbitmq *r)
{
    salvo_rabbitmq_shown now = r->link.blocked ? SALVO_RABBITMQ_SHOWN_BLOCKED
                               : r->ready      ? SALVO_RABBITMQ_SHOWN_UP
                                               : SALVO_RABBITMQ_SHOWN_CONNECTING;
    if (now == r->shown)
        return;
    r->shown = now;
    if (now == SALVO_RABBITMQ_SHOWN_BLOCKED) {
        salvo_rabbitmq_state_set(r, "blocked: %s", r->link.blocked_why);
        r->env->log(SALVO_LOG_WARNING, "rabbitmq: the server takes no messages now: %s",
                    r->link.blocked_why);
    } else if (now == SALVO_RABBITMQ_SHOWN_UP) {
        salvo_rabbitmq_state_set(r, "up: %s", salvo_io_backend(r->link.io));
        if (r->down_logged)
            r->env->log(SALVO_LOG_NOTICE, "rabbitmq: connected again");
        r->down_logged = false;
        r->refused_since_ns = 0;
    } else {
        salvo_rabbitmq_state_set(r, "connecting");
    }
}

bool salvo_rabbitmq_channel_step(salvo_rabbitmq *r)
{
    int work = 0;
    if (!r->connecting && !r->purged && salvo_rabbitmq_now(r) >= r->connect_ns) {
        r->connecting = true;
        salvo_rabbitmq_link_connect(&r->link);
    }
    if (!r->connecting)
        return false;
    if (r->link.stage != SALVO_RABBITMQ_DOWN)
        work = salvo_rabbitmq_link_step(&r->link);
    if (r->link.stage == SALVO_RABBITMQ_OPEN && !r->up)
        open_channels(r);
    if (r->link.stage == SALVO_RABBITMQ_OPEN)
        salvo_rabbitmq_topics_step(r);
    if (r->link.stage == SALVO_RABBITMQ_DOWN) {
        salvo_rabbitmq_lost(r);
        return true;
    }
    /* The text of a login that fails again and again stays until it succeeds. */
    if (r->link.stage == SALVO_RABBITMQ_OPEN)
        show(r);
    return work > 0;
}
