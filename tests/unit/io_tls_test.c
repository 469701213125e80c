/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/io with TLS, for both backends: what is verified and how a refusal reads, that nothing
 * of ours goes out before, both streams through records, and input that waits in records.
 */
#include "io_fixture.h"

#include <poll.h>
#include <salvo/err.h>

static certs files;

static void expect_refused(void **state, const cert *certificate, const char *ca, const char *host,
                           const char *text)
{
    peer p = {.deed = PEER_SINK, .certificate = certificate};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.host = host;
    target.tls_cafile = ca;
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    assert_true(salvo_io_put(conn, "secret", 6));
    io_expect_down(io_of(state), conn, text);
    assert_int_equal(salvo_io_bytes_sent(conn), 0); /* not a byte of ours */
    salvo_io_disconnect(conn);
    peer_end(&p);
    assert_int_equal(atomic_load(&p.received), 0);
}

static void refuses_a_stranger(void **state)
{
    expect_refused(state, &files.good, files.other_ca, "127.0.0.1",
                   "the certificate of 127.0.0.1 is not signed by a trusted authority");
    expect_refused(state, &files.good, NULL, "127.0.0.1", "is not signed by a trusted authority");
}

static void refuses_another_name(void **state)
{
    expect_refused(state, &files.elsewhere, files.ca, "127.0.0.1", "does not name that host");
    expect_refused(state, &files.elsewhere, files.ca, "localhost",
                   "the certificate of localhost does not name that host");
}

static void refuses_an_expired_one(void **state)
{
    expect_refused(state, &files.expired, files.ca, "127.0.0.1",
                   "the certificate of 127.0.0.1 is expired");
}

static void a_plain_server_is_told(void **state)
{
    peer p = {.deed = PEER_SHOUT, .bytes = 100};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls = true;
    target.tls_cafile = files.ca;
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "does it speak TLS on this port?");
    salvo_io_disconnect(conn);
    atomic_store(&p.wrong, false); /* a ClientHello is not the pattern */
    pthread_join(p.thread, NULL);
    close(p.listener);
}

static void echo(void **state, peer *p, salvo_io_target target, uint64_t total)
{
    salvo_io *io = io_of(state);
    uint8_t *whole = malloc(total);
    uint64_t put = 0, got = 0;
    for (uint64_t i = 0; i < total; i++)
        whole[i] = pattern(i);
    salvo_io_conn *conn = io_connect(io, &target);
    while (got < total && salvo_io_conn_state(conn) != SALVO_IO_DOWN) {
        const void *bytes;
        size_t piece = 1 + (size_t)(put * 2654435761u % 40000);
        while (put < total) {
            size_t n = piece < total - put ? piece : (size_t)(total - put);
            bool done = put % 2 ? salvo_io_put(conn, whole + put, n)
                                : salvo_io_put_stable(conn, whole + put, n);
            if (!done)
                break;
            put += n;
        }
        salvo_io_wait(io, 1000);
        size_t n = salvo_io_input(conn, &bytes);
        assert_memory_equal(bytes, whole + got, n);
        salvo_io_consume(conn, n);
        got += n;
    }
    assert_string_equal(salvo_io_conn_error(conn), "");
    assert_int_equal(got, total);
    assert_int_equal(salvo_io_bytes_sent(conn), total);
    salvo_io_disconnect(conn);
    peer_end(p);
    free(whole);
}

static void echoes_by_address(void **state)
{
    peer p = {.deed = PEER_ECHO, .certificate = &files.good, .small = 4096};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls_cafile = files.ca;
    target.in_bytes = 4096; /* less than a record */
    echo(state, &p, target, 2000000);
}

static void echoes_by_name(void **state)
{
    peer p = {.deed = PEER_ECHO, .certificate = &files.good};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.host = "localhost";
    target.tls_cafile = files.ca;
    echo(state, &p, target, 1000);
}

static void shows_its_own_certificate(void **state)
{
    peer p = {.deed = PEER_ECHO, .certificate = &files.good, .client_authority = &files.authority};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls_cafile = files.ca;
    target.tls_certfile = files.cert;
    target.tls_keyfile = files.key;
    echo(state, &p, target, 1000);
}

static void without_its_own_it_is_down(void **state)
{
    peer p = {.deed = PEER_ECHO, .certificate = &files.good, .client_authority = &files.authority};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls_cafile = files.ca;
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "certificate required");
    salvo_io_disconnect(conn);
    peer_end(&p);
}

static void a_wrong_key_is_refused(void **state)
{
    char error[512] = "";
    salvo_io_conn *conn;
    salvo_io_target target = {.host = "127.0.0.1", .port = "1", .tls = true,
                              .tls_cafile = files.ca, .tls_certfile = files.ca,
                              .tls_keyfile = files.key, .connect_timeout_ms = 1,
                              .out_bytes = 4096, .in_bytes = 4096};
    assert_int_equal(salvo_io_connect(io_of(state), &target, &conn, error, sizeof error),
                     SALVO_ERR_INVALID);
    assert_non_null(strstr(error, "tls_keyfile"));
    assert_non_null(strstr(error, files.key));
}

/* A file that is replaced counts from the next connection on. */
static void reads_changed_files_anew(void **state)
{
    peer p = {.deed = PEER_ECHO, .certificate = &files.good};
    char path[96];
    snprintf(path, sizeof path, "%s/changing.pem", files.folder);
    cert_write(&files.stranger, path, NULL);
    expect_refused(state, &files.good, path, "127.0.0.1", "is not signed by a trusted authority");
    unlink(path);
    cert_write(&files.authority, path, NULL);
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls_cafile = path;
    echo(state, &p, target, 10);
    unlink(path);
}

static bool readable(const salvo_io *io, int timeout_ms)
{
    int raw[4], n = salvo_io_descriptors(io, raw, 4);
    struct pollfd fds[4];
    for (int i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = raw[i], .events = POLLIN};
    return poll(fds, (nfds_t)n, timeout_ms) > 0;
}

/* What was decrypted half: no socket tells, so the descriptors must. */
static void records_that_wait_are_told(void **state)
{
    salvo_io *io = io_of(state);
    peer p = {.deed = PEER_SOURCE, .bytes = 200000, .certificate = &files.good};
    const void *bytes;
    uint64_t got = 0;
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls_cafile = files.ca;
    target.in_bytes = 4096;
    salvo_io_conn *conn = io_up(io, &target);
    while (got < p.bytes) {
        while (salvo_io_input(conn, &bytes) == 0) {
            assert_true(readable(io, 10000));
            salvo_io_step(io);
        }
        size_t n = salvo_io_input(conn, &bytes);
        assert_true(n <= 4096);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(((const uint8_t *)bytes)[i], pattern(got + i));
        got += n;
        if (n == 4096) {
            while (salvo_io_step(io) > 0) {
            }
            assert_false(readable(io, 0)); /* full: nothing to do */
        }
        salvo_io_consume(conn, n);
    }
    salvo_io_disconnect(conn);
    peer_end(&p);
}

#define CASE(name) {#name, name}

int main(void)
{
    static const io_case cases[] = {
        CASE(refuses_a_stranger), CASE(refuses_another_name), CASE(refuses_an_expired_one),
        CASE(a_plain_server_is_told), CASE(echoes_by_address), CASE(echoes_by_name),
        CASE(shows_its_own_certificate), CASE(without_its_own_it_is_down),
        CASE(a_wrong_key_is_refused), CASE(reads_changed_files_anew),
        CASE(records_that_wait_are_told),
    };
    certs_make(&files);
    int failed = io_run_cases("io_tls", cases, sizeof cases / sizeof cases[0]);
    certs_end(&files);
    return failed;
}
