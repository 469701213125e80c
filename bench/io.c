/* SPDX-License-Identifier: Apache-2.0
 *
 * The two backends of the sockets, io_uring against poll, on loopback: sends of 64 KiB of which
 * each comes back whole (echo) or is answered by 64 bytes (answer, what a broker does), one small
 * message there and back at a time (ping), and a step that finds nothing to do (idle).
 *
 * Guarantees: the same calls of engine/io for both, on one thread, waiting only by its
 * descriptors; CPU is that thread's alone, the peer is a thread of its own that knows no backend;
 * every byte that comes back is counted, the first of each echo compared; rounds are interleaved,
 * figures are medians.
 */
#include "harness.h"
#include "io/io.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 64, PING_BYTES = 100, OUT_BYTES = 1 << 20 };

typedef enum workload { W_ECHO, W_ANSWER, W_PING, W_IDLE, WORKLOADS } workload;
static const char *const workload_names[WORKLOADS] = {"echo", "answer", "ping", "idle"};
typedef enum backend { B_POLL, B_URING, BACKENDS } backend;
static const char *const backend_names[BACKENDS] = {"poll", "io_uring"};

static double rounds_wanted = 9, sends_wanted = 20e3, send_bytes = 65536, window = 8;
static bool quick, json_wanted;
static uint8_t *payload;

static uint64_t now_ns(void *unused)
{
    (void)unused;
    return bench_now_ns();
}

/* --- the peer ------------------------------------------------------------------------------ */

typedef struct peer {
    workload what;
    size_t bytes; /* of one send */
    int listener;
    char port[8];
    pthread_t thread;
} peer;

static void send_whole(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        bytes += k;
        n -= (size_t)k;
    }
}

static void *serve(void *context)
{
    peer *p = context;
    size_t room = 1 << 18, taken = 0;
    int one = 1, fd = accept(p->listener, NULL, NULL);
    uint8_t *buffer = malloc(room);
    ssize_t n;
    if (fd < 0 || buffer == NULL)
        bench_die("the peer cannot serve");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while ((n = recv(fd, buffer, room, 0)) > 0) {
        if (p->what != W_ANSWER) {
            send_whole(fd, buffer, (size_t)n);
            continue;
        }
        taken += (size_t)n;
        for (; taken >= p->bytes; taken -= p->bytes)
            send_whole(fd, buffer, ANSWER_BYTES);
    }
    free(buffer);
    close(fd);
    return NULL;
}

static void peer_start(peer *p)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || bind(p->listener, (struct sockaddr *)&address, size) != 0 ||
        getsockname(p->listener, (struct sockaddr *)&address, &size) != 0 ||
        listen(p->listener, 1) != 0 || pthread_create(&p->thread, NULL, serve, p) != 0)
        bench_die("no listening socket on loopback");
    snprintf(p->port, sizeof p->port, "%u", ntohs(address.sin_port));
}

/* --- one measurement ----------------------------------------------------------------------- */

typedef struct figures {
    double cpu_ns, wall_ns, bytes; /* a send; of all of them */
} figures;

static void alive(const salvo_io_conn *conn)
{
    if (salvo_io_conn_state(conn) == SALVO_IO_DOWN)
        bench_die("the connection is down: %s", salvo_io_conn_error(conn));
}

/* `sends` of `bytes`, at most `out` of them unanswered; an answer is `answer` bytes. */
static void converse(salvo_io *io, salvo_io_conn *conn, uint64_t sends, size_t bytes,
                     size_t answer, uint64_t out)
{
    uint64_t put = 0, got = 0;
    while (got < sends * answer) {
        const void *input;
        while (put < sends && put < got / answer + out &&
               salvo_io_put_stable(conn, payload, bytes))
            put++;
        salvo_io_wait(io, 1000);
        size_t n = salvo_io_input(conn, &input);
        if (n > 0 && *(const uint8_t *)input != payload[0])
            bench_die("what came back is not what was sent");
        salvo_io_consume(conn, n);
        got += n;
        alive(conn);
    }
}

static figures timed(salvo_io *io, salvo_io_conn *conn, workload what)
{
    uint64_t sends = (uint64_t)sends_wanted;
    size_t bytes = what == W_PING ? PING_BYTES : (size_t)send_bytes;
    size_t answer = what == W_ANSWER ? ANSWER_BYTES : bytes;
    uint64_t out = what == W_PING ? 1 : (uint64_t)window;
    if (what == W_IDLE)
        sends *= 10;
    else
        converse(io, conn, sends / 20 + 1, bytes, answer, out); /* warms up */
    uint64_t cpu = bench_thread_cpu_ns(), wall = bench_now_ns();
    if (what == W_IDLE)
        for (uint64_t i = 0; i < sends; i++)
            salvo_io_step(io);
    else
        converse(io, conn, sends, bytes, answer, out);
    cpu = bench_thread_cpu_ns() - cpu;
    wall = bench_now_ns() - wall;
    return (figures){(double)cpu / (double)sends, (double)wall / (double)sends,
                     (double)(sends * bytes)};
}

static figures measure(backend b, workload what)
{
    char error[256] = "";
    salvo_io *io;
    salvo_io_conn *conn;
    peer p = {.what = what, .bytes = (size_t)send_bytes};
    salvo_io_options options = {.backend = backend_names[b], .now_ns = now_ns};
    if (salvo_io_open(&options, &io, error, sizeof error) != 0)
        bench_die("%s", error);
    peer_start(&p);
    salvo_io_target target = {.host = "127.0.0.1", .port = p.port, .connect_timeout_ms = 5000,
                              .out_bytes = OUT_BYTES, .in_bytes = OUT_BYTES};
    if (salvo_io_connect(io, &target, &conn, error, sizeof error) != 0)
        bench_die("%s", error);
    while (salvo_io_conn_state(conn) != SALVO_IO_UP) {
        salvo_io_wait(io, 1000);
        alive(conn);
    }
    figures f = timed(io, conn, what);
    salvo_io_close(io);
    pthread_join(p.thread, NULL);
    close(p.listener);
    return f;
}

/* --- report -------------------------------------------------------------------------------- */

typedef struct results {
    bench_rounds cpu_ns[BACKENDS][WORKLOADS], wall_ns[BACKENDS][WORKLOADS];
} results;

static void print(const results *r)
{
    bench_json json = {.used = 0};
    printf("\nmedians of %.0f rounds; sends of %.0f B, %.0f unanswered at most\n", rounds_wanted,
           send_bytes, window);
    printf("  %-8s %-9s %12s %22s %14s\n", "", "", "MB/s out", "CPU ns a send", "wall ns");
    for (int w = 0; w < WORKLOADS; w++)
        for (int b = 0; b < BACKENDS; b++) {
            const bench_rounds *cpu = &r->cpu_ns[b][w], *wall = &r->wall_ns[b][w];
            double mb = w < W_PING ? send_bytes / bench_median(wall) * 1e3 : 0;
            char name[64];
            printf("  %-8s %-9s %12.0f %8.0f (%.0f..%.0f) %14.0f\n", workload_names[w],
                   backend_names[b], mb, bench_median(cpu), bench_least(cpu), bench_most(cpu),
                   bench_median(wall));
            snprintf(name, sizeof name, "%s_%s_cpu_ns", workload_names[w], backend_names[b]);
            bench_json_number(&json, name, bench_median(cpu));
            snprintf(name, sizeof name, "%s_%s_wall_ns", workload_names[w], backend_names[b]);
            bench_json_number(&json, name, bench_median(wall));
        }
    for (int w = 0; w < WORKLOADS; w++) {
        char name[64];
        double cpu = bench_median(&r->cpu_ns[B_POLL][w]) / bench_median(&r->cpu_ns[B_URING][w]);
        double rate = bench_median(&r->wall_ns[B_POLL][w]) /
                      bench_median(&r->wall_ns[B_URING][w]);
        printf("  %-8s io_uring against poll: %.2f times the rate, poll costs %.2f times its "
               "CPU\n", workload_names[w], rate, cpu);
        snprintf(name, sizeof name, "%s_rate_ratio", workload_names[w]);
        bench_json_number(&json, name, rate);
        snprintf(name, sizeof name, "%s_cpu_ratio", workload_names[w]);
        bench_json_number(&json, name, cpu);
    }
    if (json_wanted)
        bench_json_print(&json);
}

int main(int argc, char **argv)
{
    static results r;
    const bench_option options[] = {
        {"quick", .flag = &quick, .help = "fewer sends, 3 rounds, for development"},
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 50, .help = "rounds"},
        {"sends", .number = &sends_wanted, .least = 100, .most = 1e8, .help = "of a round"},
        {"bytes", .number = &send_bytes, .least = 256, .most = OUT_BYTES, .help = "of a send"},
        {"window", .number = &window, .least = 1, .most = 4096,
         .help = "sends that are unanswered at most"},
    };
    bench_options(argc, argv, "The sockets' backends, io_uring against poll, on loopback.",
                  options, sizeof options / sizeof options[0]);
    if (quick) {
        rounds_wanted = 3;
        sends_wanted = 4e3;
    }
    bench_time_init();
    payload = malloc((size_t)OUT_BYTES);
    if (payload == NULL)
        bench_die("no memory");
    memset(payload, 'x', (size_t)OUT_BYTES);
    for (int round = 0; round < (int)rounds_wanted; round++)
        for (int turn = 0; turn < WORKLOADS * BACKENDS; turn++) {
            int at = (round + turn) % (WORKLOADS * BACKENDS);
            figures f = measure((backend)(at % BACKENDS), (workload)(at / BACKENDS));
            bench_round_add(&r.cpu_ns[at % BACKENDS][at / BACKENDS], f.cpu_ns);
            bench_round_add(&r.wall_ns[at % BACKENDS][at / BACKENDS], f.wall_ns);
        }
    print(&r);
    return 0;
}
