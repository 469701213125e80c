/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS between the streams and the wire, by OpenSSL over two memory BIOs: it never sees a socket.
 *
 * Guarantees: the chain, the name (or the address, where the target is a number) and the dates
 * are verified, and nothing that was put is encrypted before; TLS 1.2 or later, no renegotiation,
 * no compression; OpenSSL never asks a terminal for a password; what is held in records is
 * bounded (RECORDS_BYTES out, about twice ARRIVED_BYTES in). Records are filled from many
 * segments, up to 16 KiB each. What is in the kernel's hands lies in `records` and does not move.
 */
#include "io_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <salvo/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    RECORD_BYTES = 16384, /* of plain text: the most that TLS allows */
    RECORD_OVERHEAD = 256,
    RECORDS_BYTES = 8 * (RECORD_BYTES + RECORD_OVERHEAD),
    ARRIVED_BYTES = 2 * (RECORD_BYTES + RECORD_OVERHEAD),
    FILES = 3
};

typedef struct file_stamp { /* what tells one version of a file from the next */
    time_t changed_s;
    long changed_ns;
    off_t bytes;
    ino_t inode;
} file_stamp;

struct salvo_io_tls_context {
    SSL_CTX *ssl;
    char *names[FILES];
    file_stamp stamps[FILES];
};

struct salvo_io_tls {
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    size_t begin, end; /* of the unsent records */
    uint8_t records[RECORDS_BYTES];
    uint8_t arrived[ARRIVED_BYTES];
    uint8_t plain[RECORD_BYTES]; /* where one record is put together */
};

/* --- contexts ------------------------------------------------------------------------------ */

static const char *reason(char *text, size_t size)
{
    unsigned long code = ERR_peek_error();
    const char *said = code == 0 ? NULL : ERR_reason_error_string(code);
    if (code != 0 && ERR_SYSTEM_ERROR(code))
        return salvo_io_errno_text((int)ERR_GET_REASON(code), text, size);
    return said != NULL ? said : "OpenSSL gives no reason";
}

static int no_password(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static void files_of(const salvo_io_target *target, const char **names)
{
    names[0] = target->tls_cafile;
    names[1] = target->tls_certfile;
    names[2] = target->tls_keyfile;
}

static file_stamp stamp_of(const char *name)
{
    struct stat status;
    file_stamp stamp = {.bytes = -1};
    if (name != NULL && stat(name, &status) == 0)
        stamp = (file_stamp){status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_size,
                             status.st_ino};
    return stamp;
}

static bool same_files(const struct salvo_io_tls_context *context, const char *const *names)
{
    for (int i = 0; i < FILES; i++) {
        file_stamp now = stamp_of(names[i]);
        const file_stamp *then = &context->stamps[i];
        if ((names[i] == NULL) != (context->names[i] == NULL) ||
            (names[i] != NULL && strcmp(names[i], context->names[i]) != 0) ||
            now.changed_s != then->changed_s || now.changed_ns != then->changed_ns ||
            now.bytes != then->bytes || now.inode != then->inode)
            return false;
    }
    return true;
}

void salvo_io_tls_context_release(struct salvo_io_tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    for (int i = 0; i < FILES; i++)
        free(context->names[i]);
    free(context);
}

/* 0 or INVALID. */
static int load_files(SSL_CTX *ssl, const char *const *names, char *error, size_t error_size)
{
    const char *key = "tls_cafile", *name = names[0] != NULL ? names[0] : "the system's";
    char text[96];
    int good = names[0] != NULL ? SSL_CTX_load_verify_file(ssl, names[0])
                                : SSL_CTX_set_default_verify_paths(ssl);
    if (good == 1 && names[1] != NULL) {
        key = "tls_certfile";
        name = names[1];
        good = SSL_CTX_use_certificate_chain_file(ssl, name);
    }
    if (good == 1 && names[2] != NULL) {
        key = "tls_keyfile";
        name = names[2];
        good = SSL_CTX_use_PrivateKey_file(ssl, name, SSL_FILETYPE_PEM);
        good = good == 1 ? SSL_CTX_check_private_key(ssl) : good;
    }
    if (good == 1)
        return 0;
    snprintf(error, error_size, "%s '%s' cannot be used: %s; it must be a readable PEM file%s",
             key, name, reason(text, sizeof text),
             key[4] == 'k' ? " without a password, of the key that belongs to tls_certfile" : "");
    return SALVO_ERR_INVALID;
}

static SSL_CTX *make_ssl_context(void)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_client_method());
    if (ssl == NULL || SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    return ssl;
}

static int make_context(salvo_io *io, const char *const *names, char *error, size_t error_size)
{
    struct salvo_io_tls_context *context = salvo_io_sys->alloc(1, sizeof *context);
    int err = SALVO_ERR_NOMEM;
    ERR_clear_error();
    if (context != NULL)
        context->ssl = make_ssl_context();
    if (context == NULL || context->ssl == NULL)
        goto failed;
    for (int i = 0; i < FILES; i++) {
        context->stamps[i] = stamp_of(names[i]);
        if (names[i] == NULL)
            continue;
        context->names[i] = salvo_io_sys->alloc(1, strlen(names[i]) + 1);
        if (context->names[i] == NULL)
            goto failed;
        memcpy(context->names[i], names[i], strlen(names[i]));
    }
    err = load_files(context->ssl, names, error, error_size);
    if (err != 0)
        goto failed;
    salvo_io_tls_context_release(io->tls);
    io->tls = context;
    return 0;
failed:
    if (err == SALVO_ERR_NOMEM)
        snprintf(error, error_size, "no memory for TLS");
    salvo_io_tls_context_release(context);
    return err;
}

/* --- one connection ------------------------------------------------------------------------ */

static bool expect_peer(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(wanted, host) == 1)
        return true; /* an address: it is not sent as a server name */
    ERR_clear_error();
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

int salvo_io_tls_open(salvo_io_conn *conn, char *error, size_t error_size)
{
    const char *names[FILES];
    files_of(&conn->target, names);
    if (conn->io->tls == NULL || !same_files(conn->io->tls, names)) {
        int err = make_context(conn->io, names, error, error_size);
        if (err != 0)
            return err;
    }
    salvo_io_tls *tls = conn->tls = salvo_io_sys->alloc(1, sizeof *tls);
    if (tls != NULL)
        tls->ssl = SSL_new(conn->io->tls->ssl);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (tls == NULL || tls->ssl == NULL || in == NULL || out == NULL ||
        !expect_peer(tls->ssl, conn->target.host)) {
        BIO_free(in);
        BIO_free(out);
        snprintf(error, error_size, "no memory for TLS with %s", conn->where);
        return SALVO_ERR_NOMEM;
    }
    BIO_set_mem_eof_return(in, -1); /* empty is "not yet", never the end */
    SSL_set_bio(tls->ssl, in, out);
    tls->in = in;
    tls->out = out;
    SSL_set_connect_state(tls->ssl);
    return 0;
}

void salvo_io_tls_close(salvo_io_conn *conn)
{
    if (conn->tls == NULL)
        return;
    SSL_free(conn->tls->ssl);
    OPENSSL_cleanse(conn->tls->plain, sizeof conn->tls->plain); /* passwords went through it */
    free(conn->tls);
    conn->tls = NULL;
}

/* What OpenSSL still wants to say, without waiting: an alert on the way out. */
static void send_last_words(salvo_io_conn *conn)
{
    salvo_io_tls *tls = conn->tls;
    if (conn->fd < 0 || conn->flying_bytes > 0 || tls->begin < tls->end)
        return; /* it would cut a record in two */
    int n = BIO_read(tls->out, tls->records, sizeof tls->records);
    struct iovec span = {tls->records, n > 0 ? (size_t)n : 0};
    struct msghdr message = {.msg_iov = &span, .msg_iovlen = 1};
    if (n > 0)
        salvo_io_sys->sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void salvo_io_tls_farewell(salvo_io_conn *conn)
{
    ERR_clear_error();
    SSL_shutdown(conn->tls->ssl);
    send_last_words(conn);
}

static const char *verdict(long result)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "is expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "is not valid yet; is this machine's clock right?";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "does not name that host; connect by a name that it has";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return "is not signed by a trusted authority; set tls_cafile to its authority's";
    default:
        return NULL;
    }
}

static void handshake_failed(salvo_io_conn *conn)
{
    char text[96];
    long result = SSL_get_verify_result(conn->tls->ssl);
    const char *said = result != X509_V_OK ? verdict(result) : NULL;
    if (result == X509_V_OK)
        salvo_io_down(conn, "TLS handshake with %s failed: %s; does it speak TLS on this port?",
                      conn->where, reason(text, sizeof text));
    else
        salvo_io_down(conn, "the certificate of %s %s", conn->target.host,
                      said != NULL ? said : X509_verify_cert_error_string(result));
    send_last_words(conn);
}

/* After a call that returned no success. */
static void look_at_error(salvo_io_conn *conn, int returned)
{
    char text[96];
    int kind = SSL_get_error(conn->tls->ssl, returned);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        return;
    if (conn->phase == SALVO_IO_PHASE_HANDSHAKE)
        handshake_failed(conn);
    else if (kind == SSL_ERROR_ZERO_RETURN)
        salvo_io_down(conn, "%s closed the connection", conn->where);
    else
        salvo_io_down(conn, "TLS with %s failed: %s", conn->where, reason(text, sizeof text));
}

static void shake_hands(salvo_io_conn *conn)
{
    SSL *ssl = conn->tls->ssl;
    int done = SSL_do_handshake(ssl);
    if (done != 1)
        look_at_error(conn, done);
    else if (SSL_get_verify_result(ssl) != X509_V_OK || SSL_get0_peer_certificate(ssl) == NULL)
        handshake_failed(conn); /* cannot be: OpenSSL ends a handshake that does not verify */
    else
        salvo_io_up(conn);
}

void salvo_io_tls_pump(salvo_io_conn *conn)
{
    salvo_io_tls *tls = conn->tls;
    ERR_clear_error();
    if (conn->phase == SALVO_IO_PHASE_HANDSHAKE)
        shake_hands(conn);
    while (conn->phase == SALVO_IO_PHASE_UP) {
        size_t space, got = 0;
        void *at = salvo_io_in_space(&conn->in, &space);
        conn->unread_records =
            space == 0 && (BIO_pending(tls->in) > 0 || SSL_pending(tls->ssl) > 0);
        if (space == 0)
            return;
        int good = SSL_read_ex(tls->ssl, at, space, &got);
        if (good != 1) {
            look_at_error(conn, good);
            return;
        }
        conn->in.arrived += got;
        conn->io->events++;
    }
}

void *salvo_io_tls_space(salvo_io_conn *conn, size_t *n)
{
    *n = conn->unread_records ? 0 : sizeof conn->tls->arrived;
    return conn->tls->arrived;
}

void salvo_io_tls_received(salvo_io_conn *conn, size_t n)
{
    salvo_io_tls *tls = conn->tls;
    if (BIO_write(tls->in, tls->arrived, (int)n) != (int)n)
        salvo_io_down(conn, "no memory for what %s sent", conn->where);
    else
        salvo_io_tls_pump(conn);
}

/* One record from the queue's beginning: whole from a long segment, else gathered. */
static bool encrypt_record(salvo_io_conn *conn)
{
    salvo_io_tls *tls = conn->tls;
    struct iovec spans[SALVO_IO_SPANS];
    size_t n = 0, written = 0;
    int count = salvo_io_out_spans(&conn->out, spans, SALVO_IO_SPANS);
    const void *from = tls->plain;
    if (count == 0)
        return false;
    if (count == 1 || spans[0].iov_len >= RECORD_BYTES) {
        from = spans[0].iov_base;
        n = spans[0].iov_len < RECORD_BYTES ? spans[0].iov_len : RECORD_BYTES;
    } else {
        for (int i = 0; i < count && n < RECORD_BYTES; i++) {
            size_t part = spans[i].iov_len;
            part = part < RECORD_BYTES - n ? part : RECORD_BYTES - n;
            memcpy(tls->plain + n, spans[i].iov_base, part);
            n += part;
        }
    }
    int good = SSL_write_ex(tls->ssl, from, n, &written);
    if (good != 1) {
        look_at_error(conn, good);
        return false;
    }
    salvo_io_out_take(&conn->out, written);
    conn->io->events++;
    return true;
}

int salvo_io_tls_spans(salvo_io_conn *conn, struct iovec *spans)
{
    salvo_io_tls *tls = conn->tls;
    if (tls->begin == tls->end) {
        ERR_clear_error();
        while (conn->phase == SALVO_IO_PHASE_UP &&
               BIO_pending(tls->out) + RECORD_BYTES + RECORD_OVERHEAD <= RECORDS_BYTES &&
               encrypt_record(conn)) {
        }
        int n = BIO_read(tls->out, tls->records, sizeof tls->records);
        tls->begin = 0;
        tls->end = n > 0 ? (size_t)n : 0;
    }
    spans[0] = (struct iovec){tls->records + tls->begin, tls->end - tls->begin};
    return tls->begin < tls->end && salvo_io_wire_live(conn) ? 1 : 0;
}

void salvo_io_tls_sent(salvo_io_conn *conn, size_t n)
{
    conn->tls->begin += n;
}
