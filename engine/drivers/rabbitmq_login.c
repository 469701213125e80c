/* SPDX-License-Identifier: Apache-2.0
 *
 * The login: protocol header -> start -> start-ok -> tune -> tune-ok, open -> open-ok. Each frame
 * that comes is either the one that is due or the end of the connection. PLAIN with the address's
 * user (guest where it names none), EXTERNAL where it names none and we have a certificate.
 */
#include "rabbitmq_login.h"

#include "config_internal.h"
#include "error.h"
#include <salvo/version.h>
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define CHANNELS 2 /* publishing, declaring */

int salvo_rabbitmq_login_url(salvo_rabbitmq_link *link, const char *text, char *error,
                             size_t error_size)
{
    salvo_url *url = &link->url;
    int err = salvo_url_parse(text, url, error, error_size);
    if (err != 0)
        return err;
    const char *wrong = NULL;
    bool tls = strcmp(url->scheme, "amqps") == 0;
    if (!tls && strcmp(url->scheme, "amqp") != 0)
        wrong = "the scheme must be amqp or amqps";
    else if (url->host[0] == '\0')
        wrong = "the host is missing";
    else if (url->query[0] != '\0')
        wrong = "it takes no query; options are keys of their own (rabbitmq_*, tls_*)";
    else if (strlen(url->path) > 255)
        wrong = "the vhost is longer than 255 bytes";
    if (wrong) {
        snprintf(error, error_size, "rabbitmq_url: %s: amqp://user:password@host:5672/vhost",
                 wrong);
        return SALVO_ERR_CONFIG;
    }
    if (url->port[0] == '\0')
        snprintf(url->port, sizeof url->port, "%s", tls ? "5671" : "5672");
    if (!url->has_path || url->path[0] == '\0') /* "amqp://host" and "amqp://host/" alike */
        snprintf(url->path, sizeof url->path, "/");
    return 0;
}

static const char *file_of(const salvo_rabbitmq_link *link, const char *key)
{
    const char *path = salvo_config_get(link->config, key);
    return path != NULL && path[0] != '\0' ? path : NULL;
}

static bool uses_certificate(const salvo_rabbitmq_link *link)
{
    return !link->url.has_user && strcmp(link->url.scheme, "amqps") == 0 &&
           file_of(link, "tls_certfile") != NULL;
}

void salvo_rabbitmq_link_connect(salvo_rabbitmq_link *link)
{
    static const char greeting[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    char error[SALVO_RABBITMQ_TEXT_BYTES] = "";
    salvo_io_target target = {
        .host = link->url.host,
        .port = link->url.port,
        .tls = strcmp(link->url.scheme, "amqps") == 0,
        .tls_cafile = file_of(link, "tls_cafile"),
        .tls_certfile = file_of(link, "tls_certfile"),
        .tls_keyfile = file_of(link, "tls_keyfile"),
        .connect_timeout_ms = link->timeout_ms,
        .out_bytes = link->out_bytes,
        .in_bytes = SALVO_RABBITMQ_IN_BYTES,
    };
    int err = salvo_io_connect(link->io, &target, &link->conn, error, sizeof error);
    if (err != 0) {
        link->conn = NULL;
        salvo_rabbitmq_link_fail(link, err, "%s", error);
        return;
    }
    uint64_t now = link->now_ns(link->clock);
    link->login_until_ns = now + link->timeout_ms * MS;
    link->received_ns = link->sent_ns = now;
    link->put_before = 0;
    link->frame_max = SALVO_RABBITMQ_FRAME_MIN;
    link->stage = SALVO_RABBITMQ_CONNECTING;
    (void)salvo_io_put(link->conn, greeting, sizeof greeting); /* the first bytes: there is room */
}

static bool has_word(amqp_bytes_t list, const char *word)
{
    const char *at = list.bytes, *end = at + list.len;
    size_t length = strlen(word);
    while (at < end) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        const char *stop = space ? space : end;
        if ((size_t)(stop - at) == length && memcmp(at, word, length) == 0)
            return true;
        at = stop + 1;
    }
    return false;
}

static amqp_table_entry_t text_entry(const char *name, const char *value)
{
    return (amqp_table_entry_t){
        .key = salvo_rabbitmq_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = salvo_rabbitmq_bytes(value)}};
}

static bool put_start_ok(salvo_rabbitmq_link *link, const char *mechanism, amqp_bytes_t response)
{
    static const char *const can[] = {"publisher_confirms", "connection.blocked",
                                      "authentication_failure_close", "consumer_cancel_notify",
                                      "basic.nack"};
    amqp_table_entry_t capabilities[sizeof can / sizeof *can];
    for (size_t i = 0; i < sizeof can / sizeof *can; i++)
        capabilities[i] = (amqp_table_entry_t){
            .key = salvo_rabbitmq_bytes(can[i]),
            .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    amqp_table_entry_t entries[] = {
        text_entry("product", "Salvo"), text_entry("version", SALVO_VERSION),
        text_entry("platform", "C"),
        {.key = salvo_rabbitmq_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = (int)(sizeof can / sizeof *can),
                                   .entries = capabilities}}}};
    amqp_connection_start_ok_t ok = {
        .client_properties = {.num_entries = (int)(sizeof entries / sizeof *entries),
                              .entries = entries},
        .mechanism = salvo_rabbitmq_bytes(mechanism),
        .response = response,
        .locale = salvo_rabbitmq_bytes("en_US")};
    return salvo_rabbitmq_put_method(link, 0, AMQP_CONNECTION_START_OK_METHOD, &ok);
}

static void on_start(salvo_rabbitmq_link *link, const amqp_connection_start_t *start)
{
    char plain[sizeof link->url.user + sizeof link->url.password + 2], offered[128];
    bool certificate = uses_certificate(link), guest = !link->url.has_user;
    const char *mechanism = certificate ? "EXTERNAL" : "PLAIN";
    if (start->version_major != 0 || start->version_minor != 9) {
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE, "the server speaks AMQP %u-%u, not "
                                 "0-9-1", start->version_major, start->version_minor);
        return;
    }
    if (!has_word(start->mechanisms, mechanism)) {
        salvo_rabbitmq_link_fail(link, SALVO_ERR_AUTH, "the server offers no login by %s, only %s",
                                 mechanism,
                                 salvo_rabbitmq_text(offered, sizeof offered, start->mechanisms));
        return;
    }
    size_t n = 0;
    if (!certificate) { /* NUL user NUL password */
        const char *user = guest ? "guest" : link->url.user;
        const char *password = guest ? "guest" : link->url.password;
        plain[n++] = '\0';
        n = (size_t)((char *)mempcpy(plain + n, user, strlen(user) + 1) - plain);
        n = (size_t)((char *)mempcpy(plain + n, password, strlen(password)) - plain);
    }
    bool put = put_start_ok(link, mechanism, (amqp_bytes_t){.len = n, .bytes = plain});
    explicit_bzero(plain, sizeof plain);
    if (put)
        link->stage = SALVO_RABBITMQ_STARTED;
    else
        salvo_rabbitmq_link_fail(link, SALVO_ERR_NOMEM, "no room for the login");
}

static void on_tune(salvo_rabbitmq_link *link, const amqp_connection_tune_t *tune)
{
    uint32_t frame_max = tune->frame_max;
    if (frame_max == 0 || frame_max > SALVO_RABBITMQ_FRAME_MAX)
        frame_max = SALVO_RABBITMQ_FRAME_MAX;
    if (frame_max < SALVO_RABBITMQ_FRAME_MIN ||
        (tune->channel_max != 0 && tune->channel_max < CHANNELS)) {
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE, "the server allows frames of %u "
                                 "bytes and %u channels: too few", frame_max, tune->channel_max);
        return;
    }
    link->frame_max = frame_max;
    amqp_connection_tune_ok_t ok = {.channel_max = CHANNELS,
                                    .frame_max = frame_max,
                                    .heartbeat = (uint16_t)link->heartbeat_s};
    amqp_connection_open_t open = {.virtual_host = salvo_rabbitmq_bytes(link->url.path)};
    if (salvo_rabbitmq_put_method(link, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok) &&
        salvo_rabbitmq_put_method(link, 0, AMQP_CONNECTION_OPEN_METHOD, &open))
        link->stage = SALVO_RABBITMQ_TUNED;
    else
        salvo_rabbitmq_link_fail(link, SALVO_ERR_NOMEM, "no room for the login");
}

void salvo_rabbitmq_login_frame(salvo_rabbitmq_link *link, const salvo_rabbitmq_frame *frame)
{
    amqp_method_number_t id = frame->type == AMQP_FRAME_METHOD ? frame->method.id : 0;
    if (link->stage == SALVO_RABBITMQ_CONNECTING && id == AMQP_CONNECTION_START_METHOD)
        on_start(link, frame->method.decoded);
    else if (link->stage == SALVO_RABBITMQ_STARTED && id == AMQP_CONNECTION_TUNE_METHOD)
        on_tune(link, frame->method.decoded);
    else if (link->stage == SALVO_RABBITMQ_TUNED && id == AMQP_CONNECTION_OPEN_OK_METHOD)
        link->stage = SALVO_RABBITMQ_OPEN;
    else
        salvo_rabbitmq_link_fail(link, SALVO_ERR_UNREACHABLE,
                                 "the server broke the order of the login (method 0x%08x)", id);
}
