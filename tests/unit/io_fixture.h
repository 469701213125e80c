/* SPDX-License-Identifier: Apache-2.0
 *
 * For the tests of engine/io: a peer on loopback in a thread of its own, plain or TLS, that does
 * one thing to one connection, and certificates made on the spot. Guarantees: a peer ends by
 * itself when its connection does; what it received is checked byte by byte against the pattern.
 */
#ifndef IO_FIXTURE_H
#define IO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/io.h"
#include "io/io_sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline uint8_t pattern(uint64_t at)
{
    return (uint8_t)('A' + at * 31 + (at >> 8) * 7 + (at >> 16)); /* begins as text: "A`" */
}

static inline uint64_t io_now(void *unused)
{
    struct timespec t;
    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- certificates -------------------------------------------------------------------------- */

typedef struct cert {
    X509 *x509;
    EVP_PKEY *key;
} cert;

static inline void cert_extension(X509 *x509, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x509, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* by NULL: signs itself, an authority. names: a subjectAltName. Valid from..until s from now. */
static inline cert cert_make(const cert *by, const char *names, long from_s, long until_s)
{
    static long serial = 1;
    cert c = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *name = X509_get_subject_name(c.x509);
    assert_non_null(c.key);
    X509_set_version(c.x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x509), serial++);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)(by ? "peer" : "authority"), -1, -1, 0);
    X509_gmtime_adj(X509_getm_notBefore(c.x509), from_s);
    X509_gmtime_adj(X509_getm_notAfter(c.x509), until_s);
    X509_set_pubkey(c.x509, c.key);
    X509_set_issuer_name(c.x509, X509_get_subject_name(by ? by->x509 : c.x509));
    if (names)
        cert_extension(c.x509, NID_subject_alt_name, names);
    if (!by)
        cert_extension(c.x509, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(c.x509, by ? by->key : c.key, EVP_sha256()) > 0);
    return c;
}

static inline void cert_free(cert *c)
{
    X509_free(c->x509);
    EVP_PKEY_free(c->key);
}

static inline void cert_write(const cert *c, const char *cert_path, const char *key_path)
{
    FILE *f = fopen(cert_path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, c->x509), 1);
    fclose(f);
    if (!key_path)
        return;
    f = fopen(key_path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

/* A folder with the files that clients are given, and who signed what. */
typedef struct certs {
    cert authority, stranger, good, expired, elsewhere, client;
    char folder[64], ca[96], other_ca[96], cert[96], key[96];
} certs;

static inline void certs_make(certs *c)
{
    enum { DAY = 86400 };
    snprintf(c->folder, sizeof c->folder, "/tmp/salvo-io-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    snprintf(c->ca, sizeof c->ca, "%s/ca.pem", c->folder);
    snprintf(c->other_ca, sizeof c->other_ca, "%s/other.pem", c->folder);
    snprintf(c->cert, sizeof c->cert, "%s/cert.pem", c->folder);
    snprintf(c->key, sizeof c->key, "%s/key.pem", c->folder);
    c->authority = cert_make(NULL, NULL, -DAY, DAY);
    c->stranger = cert_make(NULL, NULL, -DAY, DAY);
    c->good = cert_make(&c->authority, "IP:127.0.0.1,DNS:localhost", -DAY, DAY);
    c->expired = cert_make(&c->authority, "IP:127.0.0.1", -2 * DAY, -DAY);
    c->elsewhere = cert_make(&c->authority, "IP:127.0.0.2,DNS:else.where", -DAY, DAY);
    c->client = cert_make(&c->authority, "DNS:client", -DAY, DAY);
    cert_write(&c->authority, c->ca, NULL);
    cert_write(&c->stranger, c->other_ca, NULL);
    cert_write(&c->client, c->cert, c->key);
}

static inline void certs_end(certs *c)
{
    cert *const all[] = {&c->authority, &c->stranger, &c->good, &c->expired, &c->elsewhere,
                         &c->client};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        cert_free(all[i]);
    unlink(c->ca);
    unlink(c->other_ca);
    unlink(c->cert);
    unlink(c->key);
    assert_int_equal(rmdir(c->folder), 0);
}

/* --- the peer ------------------------------------------------------------------------------ */

typedef enum peer_deed {
    PEER_ECHO,    /* until the other side closes */
    PEER_SOURCE,  /* `bytes` of the pattern, then wait for the other side to close */
    PEER_SINK,    /* check the pattern until the other side closes, once `go` is set */
    PEER_SHOUT,   /* take `bytes`, say "-ERR bye\r\n", close with the rest unread */
    PEER_SILENT   /* accept, wait until `go` is set, close */
} peer_deed;

typedef struct peer {
    peer_deed deed;
    uint64_t bytes;
    const cert *certificate, *client_authority; /* NULL: plain; NULL: clients need none */
    int small;      /* not 0: socket buffers of this size */
    const char *unix_path;
    int listener;
    char port[8];
    pthread_t thread;
    atomic_bool go;
    _Atomic uint64_t received;
    atomic_bool wrong; /* a byte that was not the pattern's */
    SSL *ssl;
} peer;

static inline ssize_t peer_read(peer *p, int fd, void *bytes, size_t n)
{
    return p->ssl ? SSL_read(p->ssl, bytes, (int)n) : recv(fd, bytes, n, 0);
}

static inline bool peer_write(peer *p, int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t k = p->ssl ? SSL_write(p->ssl, bytes, (int)n) : send(fd, bytes, n, MSG_NOSIGNAL);
        if (k <= 0)
            return false;
        bytes += k;
        n -= (size_t)k;
    }
    return true;
}

static inline void peer_do(peer *p, int fd)
{
    uint8_t buffer[16384];
    uint64_t at = 0;
    ssize_t n = 1;
    while (p->deed == PEER_SOURCE && at < p->bytes && n > 0) {
        size_t k = p->bytes - at < sizeof buffer ? (size_t)(p->bytes - at) : sizeof buffer;
        for (size_t i = 0; i < k; i++)
            buffer[i] = pattern(at + i);
        n = peer_write(p, fd, buffer, k) ? 1 : 0;
        at += k;
    }
    while (!atomic_load(&p->go) && (p->deed == PEER_SINK || p->deed == PEER_SILENT))
        usleep(500);
    while (p->deed != PEER_SILENT && n > 0) {
        size_t most = p->deed == PEER_SHOUT ? p->bytes : sizeof buffer;
        n = peer_read(p, fd, buffer, most);
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i] != pattern(p->received + (uint64_t)i))
                atomic_store(&p->wrong, true);
        if (n > 0)
            atomic_fetch_add(&p->received, (uint64_t)n);
        if (p->deed == PEER_ECHO && n > 0 && !peer_write(p, fd, buffer, (size_t)n))
            return;
        if (p->deed == PEER_SHOUT && p->received >= p->bytes) {
            peer_write(p, fd, (const uint8_t *)"-ERR bye\r\n", 10);
            return;
        }
    }
}

static inline bool peer_shake_hands(peer *p, int fd)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context, p->certificate->x509);
    SSL_CTX_use_PrivateKey(context, p->certificate->key);
    if (p->client_authority) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), p->client_authority->x509);
    }
    p->ssl = SSL_new(context);
    SSL_CTX_free(context);
    SSL_set_fd(p->ssl, fd);
    return SSL_accept(p->ssl) == 1;
}

static inline void *peer_run(void *context)
{
    peer *p = context;
    int fd = accept(p->listener, NULL, NULL);
    if (fd < 0)
        return NULL;
    if (!p->certificate || peer_shake_hands(p, fd))
        peer_do(p, fd);
    SSL_free(p->ssl);
    p->ssl = NULL;
    ERR_clear_error();
    close(fd);
    return NULL;
}

static inline void peer_listen(peer *p, int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address;
    p->listener = socket(p->unix_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listener >= 0);
    if (p->small) {
        setsockopt(p->listener, SOL_SOCKET, SO_RCVBUF, &p->small, sizeof p->small);
        setsockopt(p->listener, SOL_SOCKET, SO_SNDBUF, &p->small, sizeof p->small);
    }
    if (p->unix_path) {
        snprintf(path.sun_path, sizeof path.sun_path, "%s", p->unix_path);
        assert_int_equal(bind(p->listener, (struct sockaddr *)&path, sizeof path), 0);
    } else {
        assert_int_equal(bind(p->listener, (struct sockaddr *)&address, size), 0);
        assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &size), 0);
        snprintf(p->port, sizeof p->port, "%u", ntohs(address.sin_port));
    }
    assert_int_equal(listen(p->listener, backlog), 0);
}

static inline void peer_start(peer *p)
{
    signal(SIGPIPE, SIG_DFL); /* the module must not raise it; the peer's TLS may: see peer_run */
    peer_listen(p, 16);
    sigset_t pipe_only, before;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before); /* the peer's thread inherits it */
    assert_int_equal(pthread_create(&p->thread, NULL, peer_run, p), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static inline void peer_end(peer *p)
{
    atomic_store(&p->go, true);
    shutdown(p->listener, SHUT_RDWR); /* ends an accept that nobody came to */
    pthread_join(p->thread, NULL);
    close(p->listener);
    assert_false(atomic_load(&p->wrong));
}

/* --- the module's side --------------------------------------------------------------------- */

static atomic_int io_wakes;

static inline void io_count_wake(void *wakes)
{
    atomic_fetch_add((atomic_int *)wakes, 1);
}

static inline salvo_io *io_open(const char *backend)
{
    char error[256] = "";
    salvo_io *io = NULL;
    salvo_io_options options = {.backend = backend, .now_ns = io_now, .wake = io_count_wake,
                                .flusher = &io_wakes};
    int err = salvo_io_open(&options, &io, error, sizeof error);
    if (err)
        fail_msg("%s", error);
    assert_string_equal(salvo_io_backend(io), backend);
    return io;
}

static inline salvo_io_target io_target(const peer *p)
{
    return (salvo_io_target){.host = "127.0.0.1", .port = p->port, .unix_path = p->unix_path,
                             .tls = p->certificate != NULL, .connect_timeout_ms = 10000,
                             .out_bytes = 65536, .in_bytes = 65536};
}

static inline salvo_io_conn *io_connect(salvo_io *io, const salvo_io_target *target)
{
    char error[512] = "";
    salvo_io_conn *conn = NULL;
    if (salvo_io_connect(io, target, &conn, error, sizeof error))
        fail_msg("%s", error);
    return conn;
}

/* Until it is no longer CONNECTING. */
static inline salvo_io_state io_settle(salvo_io *io, salvo_io_conn *conn)
{
    while (salvo_io_conn_state(conn) == SALVO_IO_CONNECTING)
        salvo_io_wait(io, 1000);
    return salvo_io_conn_state(conn);
}

static inline salvo_io_conn *io_up(salvo_io *io, const salvo_io_target *target)
{
    salvo_io_conn *conn = io_connect(io, target);
    if (io_settle(io, conn) != SALVO_IO_UP)
        fail_msg("%s", salvo_io_conn_error(conn));
    return conn;
}

static inline void io_expect_down(salvo_io *io, salvo_io_conn *conn, const char *text)
{
    uint64_t until = io_now(NULL) + UINT64_C(20000000000);
    while (salvo_io_conn_state(conn) != SALVO_IO_DOWN && io_now(NULL) < until)
        salvo_io_wait(io, 100);
    assert_int_equal(salvo_io_conn_state(conn), SALVO_IO_DOWN);
    if (!strstr(salvo_io_conn_error(conn), text))
        fail_msg("'%s' does not say '%s'", salvo_io_conn_error(conn), text);
}

/* --- one table of cases for both backends -------------------------------------------------- */

typedef struct io_fixture {
    const char *backend;
    salvo_io *io;
} io_fixture;

static inline salvo_io *io_of(void **state)
{
    io_fixture *f = *state;
    return f->io;
}

static inline bool io_uring_allowed(void)
{
    char error[256];
    salvo_io *io = NULL;
    salvo_io_options options = {.backend = "io_uring", .now_ns = io_now};
    int err = salvo_io_open(&options, &io, error, sizeof error);
    salvo_io_close(io);
    return err == 0;
}

static inline int io_setup(void **state)
{
    io_fixture *f = *state;
    f->io = io_open(f->backend);
    return 0;
}

static inline int io_teardown(void **state)
{
    io_fixture *f = *state;
    salvo_io_close(f->io);
    f->io = NULL;
    salvo_io_sys = &salvo_io_system;
    return 0;
}

typedef struct io_case {
    const char *name;
    void (*run)(void **state);
} io_case;

static inline int io_run_cases(const char *group, const io_case *cases, size_t count)
{
    enum { MOST = 64 };
    static io_fixture backends[2] = {{"poll", NULL}, {"io_uring", NULL}};
    static char names[2 * MOST][96];
    static struct CMUnitTest tests[2 * MOST];
    size_t n = 0, allowed = 1 + (size_t)io_uring_allowed();
    if (allowed == 1)
        printf("the kernel forbids io_uring: its cases are left out\n");
    for (size_t b = 0; b < allowed; b++)
        for (size_t i = 0; i < count && i < MOST; i++, n++) {
            snprintf(names[n], sizeof names[n], "%s: %s", backends[b].backend, cases[i].name);
            tests[n] = (struct CMUnitTest){names[n], cases[i].run, io_setup, io_teardown,
                                           &backends[b]};
        }
    return _cmocka_run_group_tests(group, tests, n, NULL, NULL);
}

#endif
