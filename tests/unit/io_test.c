/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/io on loopback, one table of cases for both backends: how connecting ends, both streams
 * under tiny buffers, stable pieces, bounds, TLS that verifies, and what is known after a failure.
 * Cases of io_uring are skipped where the kernel forbids it.
 */
#include "io_fixture.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <salvo/err.h>
#include <sys/stat.h>

static void expect_input(salvo_io *io, salvo_io_conn *conn, const char *text)
{
    const void *bytes;
    while (salvo_io_input(conn, &bytes) < strlen(text) &&
           salvo_io_conn_state(conn) == SALVO_IO_UP)
        salvo_io_wait(io, 1000);
    assert_int_equal(salvo_io_input(conn, &bytes), strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
    salvo_io_consume(conn, strlen(text));
}

static bool readable(const salvo_io *io, int timeout_ms)
{
    int raw[4], n = salvo_io_descriptors(io, raw, 4);
    struct pollfd fds[4];
    assert_true(n > 0 && n <= 4);
    for (int i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = raw[i], .events = POLLIN};
    return poll(fds, (nfds_t)n, timeout_ms) > 0;
}

/* --- connecting ---------------------------------------------------------------------------- */

static void echo_small(salvo_io *io, peer *p, const salvo_io_target *target)
{
    uint8_t bytes[3] = {pattern(0), pattern(1), pattern(2)};
    char text[4] = {(char)bytes[0], (char)bytes[1], (char)bytes[2], 0};
    salvo_io_conn *conn = io_connect(io, target);
    assert_true(salvo_io_put(conn, bytes, 3)); /* before it is UP */
    assert_int_equal(salvo_io_bytes_put(conn), 3);
    io_settle(io, conn);
    assert_string_equal(salvo_io_conn_error(conn), "");
    expect_input(io, conn, text);
    assert_int_equal(salvo_io_bytes_sent(conn), 3);
    salvo_io_disconnect(conn);
    peer_end(p);
    assert_int_equal(atomic_load(&p->received), 3);
}

static void connects_and_echoes(void **state)
{
    peer p = {.deed = PEER_ECHO};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    echo_small(io_of(state), &p, &target);
}

static void connects_to_a_path(void **state)
{
    char path[96];
    snprintf(path, sizeof path, "/tmp/salvo-io-%d.socket", (int)getpid());
    peer p = {.deed = PEER_ECHO, .unix_path = path};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    echo_small(io_of(state), &p, &target);
    unlink(path);
}

static void refused_is_down(void **state)
{
    peer p = {.deed = PEER_ECHO};
    peer_listen(&p, 1);
    close(p.listener); /* a port that nobody listens on */
    salvo_io_target target = io_target(&p);
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "Connection refused");
    assert_non_null(strstr(salvo_io_conn_error(conn), p.port));
    assert_false(salvo_io_put(conn, "x", 1));
    assert_int_equal(salvo_io_bytes_sent(conn), 0);
    salvo_io_disconnect(conn);
}

static void a_deadline_ends_connecting(void **state)
{
    enum { FILLERS = 4 };
    int fillers[FILLERS];
    peer p = {.deed = PEER_ECHO};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    peer_listen(&p, 0); /* the kernel drops who comes once the queue is full */
    address.sin_port = htons((uint16_t)atoi(p.port));
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)&address, sizeof address);
    }
    usleep(50000);
    salvo_io_target target = io_target(&p);
    target.connect_timeout_ms = 200;
    uint64_t from = io_now(NULL);
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "connecting took longer than 200 ms");
    assert_true(io_now(NULL) - from >= UINT64_C(200000000));
    salvo_io_disconnect(conn);
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(p.listener);
}

static void a_silent_handshake_meets_the_deadline(void **state)
{
    peer p = {.deed = PEER_SILENT};
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.tls = true;
    target.connect_timeout_ms = 100;
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "the TLS handshake took longer than 100 ms");
    salvo_io_disconnect(conn);
    peer_end(&p);
}

/* --- names: getaddrinfo is ours ------------------------------------------------------------ */

static atomic_int lookups;
static atomic_bool hold_lookups;
static const char *first_port, *second_port;

static int my_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                          struct addrinfo **found)
{
    if (strcmp(host, "two.addresses") == 0) { /* one that refuses, one that listens */
        int err = getaddrinfo("127.0.0.1", first_port, hints, found);
        return err ? err : getaddrinfo("127.0.0.1", second_port, hints, &(*found)->ai_next);
    }
    if (strcmp(host, "nobody.knows") == 0)
        return EAI_NONAME;
    if (strcmp(host, "slow.name") == 0 && hints->ai_flags == 0) {
        atomic_fetch_add(&lookups, 1);
        while (atomic_load(&hold_lookups))
            usleep(1000);
        host = "127.0.0.1";
    }
    return getaddrinfo(host, port, hints, found);
}

static salvo_io_sys_table my_sys;

static void with_my_names(void)
{
    my_sys = salvo_io_system;
    my_sys.getaddrinfo = my_getaddrinfo;
    salvo_io_sys = &my_sys;
    atomic_store(&lookups, 0);
}

static void tries_addresses_in_turn(void **state)
{
    peer closed = {.deed = PEER_ECHO}, p = {.deed = PEER_ECHO};
    peer_listen(&closed, 1);
    close(closed.listener);
    peer_start(&p);
    with_my_names();
    first_port = closed.port;
    second_port = p.port;
    salvo_io_target target = io_target(&p);
    target.host = "two.addresses";
    echo_small(io_of(state), &p, &target);
    salvo_io_sys = &salvo_io_system;
}

static void an_unknown_name_is_down(void **state)
{
    salvo_io_target target = {.host = "nobody.knows", .port = "1", .connect_timeout_ms = 10000,
                              .out_bytes = 4096, .in_bytes = 4096};
    with_my_names();
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "cannot resolve 'nobody.knows'");
    salvo_io_disconnect(conn);
    salvo_io_sys = &salvo_io_system;
}

/* A look-up that hangs: the deadline holds, and the next connection takes it over. */
static void a_slow_name_blocks_nobody(void **state)
{
    peer p = {.deed = PEER_ECHO};
    peer_start(&p);
    with_my_names();
    salvo_io_target target = io_target(&p);
    target.host = "slow.name";
    target.connect_timeout_ms = 50;
    atomic_store(&hold_lookups, true);
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    io_expect_down(io_of(state), conn, "resolving its name took longer");
    salvo_io_disconnect(conn);
    target.connect_timeout_ms = 10000;
    conn = io_connect(io_of(state), &target);
    salvo_io_step(io_of(state));
    assert_int_equal(salvo_io_conn_state(conn), SALVO_IO_CONNECTING);
    assert_false(readable(io_of(state), 0));
    int wakes = atomic_load(&io_wakes);
    atomic_store(&hold_lookups, false);
    assert_true(readable(io_of(state), 10000)); /* whoever sleeps is told */
    assert_int_equal(io_settle(io_of(state), conn), SALVO_IO_UP);
    assert_int_equal(atomic_load(&lookups), 1);
    assert_int_equal(atomic_load(&io_wakes), wakes + 1);
    salvo_io_disconnect(conn);
    peer_end(&p);
    salvo_io_sys = &salvo_io_system;
}

static void refuses_bad_targets(void **state)
{
    char error[512];
    salvo_io_conn *conn;
    salvo_io_target good_target = {.host = "127.0.0.1", .port = "1", .connect_timeout_ms = 1,
                                   .out_bytes = 4096, .in_bytes = 4096};
    salvo_io_target t = good_target;
    t.host = "";
    assert_int_equal(salvo_io_connect(io_of(state), &t, &conn, error, sizeof error),
                     SALVO_ERR_INVALID);
    t = good_target;
    t.tls = true;
    t.tls_cafile = "/nowhere/ca.pem";
    assert_int_equal(salvo_io_connect(io_of(state), &t, &conn, error, sizeof error),
                     SALVO_ERR_INVALID);
    assert_non_null(strstr(error, "/nowhere/ca.pem"));
    assert_non_null(strstr(error, "No such file"));
    t = good_target;
    t.tls = true;
    t.tls_certfile = "/nowhere/cert.pem";
    assert_int_equal(salvo_io_connect(io_of(state), &t, &conn, error, sizeof error),
                     SALVO_ERR_INVALID);
    t = good_target;
    t.out_bytes = (size_t)1 << 31;
    assert_int_equal(salvo_io_connect(io_of(state), &t, &conn, error, sizeof error),
                     SALVO_ERR_INVALID);
    assert_null(conn);
}

/* --- streams ------------------------------------------------------------------------------- */

/* Puts the pattern from *at in pieces of all sizes, in all three ways; `whole` holds all of it. */
static void put_some(salvo_io_conn *conn, const uint8_t *whole, uint64_t *at, uint64_t end)
{
    for (unsigned turn = 0; *at < end; turn++) {
        size_t n = 1 + (size_t)(*at * 2654435761u % 3000);
        n = n < end - *at ? n : (size_t)(end - *at);
        bool done;
        if (turn % 3 == 0) {
            done = salvo_io_put(conn, whole + *at, n);
        } else if (turn % 3 == 1) {
            done = salvo_io_put_stable(conn, whole + *at, n);
        } else {
            uint8_t *space = salvo_io_reserve(conn, n + 1);
            done = space != NULL;
            if (done) {
                memcpy(space, whole + *at, n);
                salvo_io_commit(conn, n);
            }
        }
        if (!done)
            return;
        *at += n;
    }
}

static void echo_big(salvo_io *io, peer *p, salvo_io_target target, uint64_t total)
{
    uint8_t *whole = malloc(total);
    uint64_t put = 0, got = 0;
    for (uint64_t i = 0; i < total; i++)
        whole[i] = pattern(i);
    peer_start(p);
    target.port = p->port;
    target.out_bytes = 8192;
    target.in_bytes = 4096;
    salvo_io_conn *conn = io_up(io, &target);
    while (got < total && salvo_io_conn_state(conn) == SALVO_IO_UP) {
        const void *bytes;
        put_some(conn, whole, &put, total);
        assert_true(salvo_io_bytes_put(conn) - salvo_io_bytes_sent(conn) <= 8192);
        salvo_io_wait(io, 1000);
        size_t n = salvo_io_input(conn, &bytes);
        assert_true(n <= 4096);
        n = n > 100 && got % 3 == 0 ? n - 50 : n; /* some stays */
        assert_memory_equal(bytes, whole + got, n);
        salvo_io_consume(conn, n);
        got += n;
    }
    assert_int_equal(got, total);
    assert_int_equal(salvo_io_bytes_sent(conn), total);
    while (salvo_io_step(io) > 0) { /* a send that is done may not have said so yet */
    }
    assert_int_equal(salvo_io_bytes_released(conn), total);
    salvo_io_disconnect(conn);
    peer_end(p);
    free(whole);
}

static void echoes_much_through_little(void **state)
{
    peer p = {.deed = PEER_ECHO, .small = 2048};
    echo_big(io_of(state), &p, io_target(&p), 3000000);
}

static void stable_pieces_are_let_go(void **state)
{
    enum { BYTES = 1 << 24 }; /* more than a socket's buffers grow to */
    uint8_t *stable = malloc(BYTES);
    peer p = {.deed = PEER_SINK, .small = 4096};
    for (size_t i = 0; i < BYTES; i++)
        stable[i] = pattern(i);
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.out_bytes = BYTES;
    salvo_io_conn *conn = io_up(io_of(state), &target);
    assert_true(salvo_io_put_stable(conn, stable, BYTES));
    assert_int_equal(salvo_io_room(conn), 0);
    while (salvo_io_wait(io_of(state), 50) > 0) {
    }
    uint64_t sent = salvo_io_bytes_sent(conn); /* the peer reads nothing: far from all went */
    uint64_t released = salvo_io_bytes_released(conn);
    assert_true(released < BYTES && released <= sent);
    assert_int_equal(salvo_io_room(conn), released);
    salvo_io_disconnect(conn);
    memset(stable, 0xee, BYTES); /* the peer would see it */
    atomic_store(&p.go, true);
    for (int i = 0; i < 50; i++)
        salvo_io_wait(io_of(state), 1);
    peer_end(&p);
    assert_true(atomic_load(&p.received) < BYTES);
    assert_true(atomic_load(&p.received) <= sent && atomic_load(&p.received) >= released);
    free(stable);
}

static void input_is_bounded(void **state)
{
    salvo_io *io = io_of(state);
    peer p = {.deed = PEER_SOURCE, .bytes = 1 << 20};
    const void *bytes;
    uint64_t got = 0;
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.in_bytes = 8192;
    salvo_io_conn *conn = io_up(io, &target);
    while (salvo_io_input(conn, &bytes) < 8192)
        salvo_io_wait(io, 100);
    while (salvo_io_step(io) > 0) {
    }
    assert_int_equal(salvo_io_input(conn, &bytes), 8192);
    assert_false(readable(io, 20)); /* nothing to do until there is room */
    while (got < p.bytes) {
        size_t n = salvo_io_input(conn, &bytes);
        assert_true(n <= 8192);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(((const uint8_t *)bytes)[i], pattern(got + i));
        got += n;
        salvo_io_consume(conn, n);
        while (got < p.bytes && salvo_io_input(conn, &bytes) == 0) {
            assert_true(readable(io, 10000));
            salvo_io_step(io);
        }
    }
    assert_false(readable(io, 0));
    assert_int_equal(salvo_io_step(io), 0);
    salvo_io_disconnect(conn);
    peer_end(&p);
}

static void output_is_bounded(void **state)
{
    peer p = {.deed = PEER_SINK, .small = 4096};
    uint8_t piece[300];
    memset(piece, 0, sizeof piece);
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.out_bytes = 16384;
    salvo_io_conn *conn = io_connect(io_of(state), &target);
    size_t put = 0;
    while (salvo_io_put_stable(conn, piece, sizeof piece))
        put += sizeof piece;
    assert_int_equal(put, 16384 / sizeof piece * sizeof piece);
    assert_int_equal(salvo_io_room(conn), 16384 - put);
    assert_null(salvo_io_reserve(conn, 16384 - put + 1));
    assert_non_null(salvo_io_reserve(conn, 16384 - put));
    assert_true(salvo_io_put(conn, piece, 16384 - put));
    assert_false(salvo_io_put(conn, piece, 1));
    assert_int_equal(salvo_io_bytes_sent(conn), 0); /* nothing went before it is UP */
    salvo_io_disconnect(conn);
    atomic_store(&p.go, true);
    pthread_join(p.thread, NULL);
    close(p.listener);
}

/* Copies only, and never an empty queue, so that they run round the buffer as one piece; nothing
 * comes in, so that only room in the socket can wake us. */
static void room_in_the_socket_is_told(void **state)
{
    enum { BYTES = 8 << 20 };
    salvo_io *io = io_of(state);
    peer p = {.deed = PEER_SINK, .small = 4096};
    uint64_t put = 0;
    uint8_t piece[700];
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    target.out_bytes = 8192;
    salvo_io_conn *conn = io_up(io, &target);
    while (salvo_io_bytes_released(conn) < BYTES) {
        while (put < BYTES && salvo_io_room(conn) >= sizeof piece) {
            size_t n = BYTES - put < sizeof piece ? (size_t)(BYTES - put) : sizeof piece;
            for (size_t i = 0; i < n; i++)
                piece[i] = pattern(put + i);
            assert_true(salvo_io_put(conn, piece, n));
            put += n;
        }
        if (salvo_io_step(io) == 0) {
            atomic_store(&p.go, true);
            if (salvo_io_bytes_released(conn) < BYTES)
                assert_true(readable(io, 10000));
        }
    }
    salvo_io_disconnect(conn);
    peer_end(&p);
    assert_int_equal(atomic_load(&p.received), BYTES);
}

static void idle_costs_no_wake_up(void **state)
{
    peer p = {.deed = PEER_ECHO};
    uint8_t byte = pattern(0);
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    salvo_io_conn *conn = io_up(io_of(state), &target);
    while (salvo_io_step(io_of(state)) > 0) {
    }
    assert_false(readable(io_of(state), 20));
    assert_true(salvo_io_put(conn, &byte, 1));
    assert_true(salvo_io_step(io_of(state)) > 0); /* it went out at once */
    const void *bytes; /* and comes back, if not already in that step */
    while (salvo_io_input(conn, &bytes) == 0) {
        assert_true(readable(io_of(state), 10000));
        salvo_io_step(io_of(state));
    }
    assert_int_equal(salvo_io_input(conn, &bytes), 1);
    salvo_io_disconnect(conn);
    peer_end(&p);
}

/* --- failures ------------------------------------------------------------------------------ */

static void last_words_are_read(void **state)
{
    enum { BYTES = 1 << 20 };
    uint8_t *whole = malloc(BYTES);
    peer p = {.deed = PEER_SHOUT, .bytes = 1000};
    const void *bytes;
    uint64_t at = 0;
    for (uint64_t i = 0; i < BYTES; i++)
        whole[i] = pattern(i);
    peer_start(&p);
    salvo_io_target target = io_target(&p);
    salvo_io_conn *conn = io_up(io_of(state), &target);
    assert_true(salvo_io_put(conn, whole, 2000)); /* the peer closes with half of it unread */
    at = 2000;
    salvo_io_step(io_of(state));
    usleep(50000); /* the next send fails at once, its words not read yet */
    while (salvo_io_conn_state(conn) == SALVO_IO_UP) { /* into a closed connection */
        put_some(conn, whole, &at, BYTES);
        salvo_io_wait(io_of(state), 100);
    }
    assert_int_equal(salvo_io_input(conn, &bytes), 10);
    assert_memory_equal(bytes, "-ERR bye\r\n", 10);
    assert_string_not_equal(salvo_io_conn_error(conn), "");
    assert_true(salvo_io_bytes_sent(conn) >= 1000);
    assert_true(salvo_io_bytes_sent(conn) <= salvo_io_bytes_put(conn));
    salvo_io_disconnect(conn);
    peer_end(&p);
    free(whole);
}

/* Opened, connected and armed by one thread, used by another, as a flusher's handle is. */
typedef struct mover {
    salvo_io *io;
    salvo_io_target target;
    salvo_io_conn *conn;
} mover;

static void *connect_and_leave(void *context)
{
    mover *m = context;
    m->conn = io_up(m->io, &m->target);
    while (salvo_io_wait(m->io, 20) > 0) {
    }
    return NULL;
}

static void moves_between_threads(void **state)
{
    peer p = {.deed = PEER_ECHO};
    pthread_t thread;
    uint8_t byte = pattern(0);
    peer_start(&p);
    mover m = {.io = io_of(state), .target = io_target(&p)};
    assert_int_equal(pthread_create(&thread, NULL, connect_and_leave, &m), 0);
    pthread_join(thread, NULL);
    assert_true(salvo_io_put(m.conn, &byte, 1));
    expect_input(m.io, m.conn, (const char[]){(char)byte, 0});
    assert_int_equal(salvo_io_conn_state(m.conn), SALVO_IO_UP);
    salvo_io_disconnect(m.conn);
    peer_end(&p);
}

#define CASE(name) {#name, name}

int main(void)
{
    static const io_case cases[] = {
        CASE(connects_and_echoes), CASE(connects_to_a_path), CASE(refused_is_down),
        CASE(a_deadline_ends_connecting), CASE(a_silent_handshake_meets_the_deadline),
        CASE(tries_addresses_in_turn), CASE(an_unknown_name_is_down),
        CASE(a_slow_name_blocks_nobody), CASE(refuses_bad_targets),
        CASE(echoes_much_through_little), CASE(stable_pieces_are_let_go),
        CASE(input_is_bounded), CASE(output_is_bounded), CASE(idle_costs_no_wake_up),
        CASE(room_in_the_socket_is_told),
        CASE(last_words_are_read), CASE(moves_between_threads),
    };
    return io_run_cases("io", cases, sizeof cases / sizeof cases[0]);
}
