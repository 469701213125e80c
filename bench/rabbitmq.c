/* SPDX-License-Identifier: Apache-2.0
 *
 * Until a real RabbitMQ confirmed: Salvo against rabbitmq-c's amqp_basic_publish with confirms at
 * the same window, persistent messages to a durable queue, one thread.
 *
 * Guarantees: interleaved rounds, medians; each measurement in a process and on a queue of its
 * own; the clock runs from the first send until the last confirm; CPU is the client process's, all
 * threads, user and system; all messages were confirmed, or the benchmark fails. The server's CPU
 * is shown beside each rate, and a third contestant shows the server's own limit: bytes that were
 * encoded before the clock started, written in blocks of many messages within the same window by
 * a client that does nothing else. With SALVO_BENCH_RABBITMQ=amqp://... that server is used, else
 * a throw-away one that ends with this process.
 */
#include "child.h"
#include "contestant.h"
#include "harness.h"
#include "server.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_VALUE = 65536, FLUSH_MS = 120000, CHANNEL = 1 };
typedef enum { OURS, THEIRS, LIMIT, KINDS } kind;
static const char *const names[KINDS] = {"salvo", "rabbitmq-c", "bytes ready-made"};

typedef struct job {
    kind kind;
    size_t messages;
} job;

typedef struct outcome {
    double per_second, cpu_ns; /* cpu_ns: a message */
    double server_cores;       /* CPU time of the server by wall time; 0: not known */
} outcome;

static double rounds_wanted = 7, messages_wanted = 200e3, window = 2048, bytes = 100,
              linger_ms = 5, only_kind = -1;
static bool quick, json_wanted;
static const char *set_text;
static char queue[64];
static bench_server server;
static const char *address;

/* --- rabbitmq-c ---------------------------------------------------------------------------- */

typedef struct theirs {
    amqp_connection_state_t connection;
    uint64_t published, confirmed;
} theirs;

static void check(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        bench_die("rabbitmq-c: %s failed: %s", what,
                  reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                      ? amqp_error_string2(reply.library_error)
                      : "the server refused");
}

static void theirs_open(theirs *t)
{
    struct amqp_connection_info info;
    char url[sizeof server.address];
    *t = (theirs){.connection = amqp_new_connection()};
    snprintf(url, sizeof url, "%s", address);
    if (amqp_parse_url(url, &info))
        bench_die("rabbitmq-c cannot read the address");
    const char *vhost = info.vhost && info.vhost[0] ? info.vhost : "/";
    amqp_socket_t *socket = amqp_tcp_socket_new(t->connection);
    if (!socket || amqp_socket_open(socket, info.host, info.port))
        bench_die("rabbitmq-c: no connection");
    check(amqp_login(t->connection, vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN,
                     info.user, info.password), "login");
    amqp_channel_open(t->connection, CHANNEL);
    check(amqp_get_rpc_reply(t->connection), "channel.open");
}

static void theirs_close(theirs *t)
{
    amqp_connection_close(t->connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(t->connection);
}

static void wait_for_confirm(theirs *t)
{
    amqp_frame_t frame;
    amqp_maybe_release_buffers(t->connection);
    if (amqp_simple_wait_frame(t->connection, &frame))
        bench_die("rabbitmq-c: the connection broke");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
        bench_die("rabbitmq-c: not an ack");
    const amqp_basic_ack_t *ack = frame.payload.method.decoded;
    t->confirmed = ack->multiple ? ack->delivery_tag : t->confirmed + 1;
}

static void theirs_send(theirs *t, amqp_bytes_t value)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    while (t->published - t->confirmed >= (uint64_t)window)
        wait_for_confirm(t);
    if (amqp_basic_publish(t->connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue), 1,
                           0, &properties, value))
        bench_die("rabbitmq-c: a publish failed");
    t->published++;
}

static void delete_queue(void)
{
    theirs t;
    theirs_open(&t);
    amqp_queue_delete(t.connection, CHANNEL, amqp_cstring_bytes(queue), 0, 0);
    theirs_close(&t);
}

/* --- measuring ----------------------------------------------------------------------------- */

typedef struct watch {
    uint64_t cpu_ns, wall_ns;
    double server_s;
} watch;

static watch watch_start(void)
{
    return (watch){bench_process_cpu_ns(), bench_now_ns(), bench_server_cpu_s(&server)};
}

static void watch_stop(const watch *w, size_t messages, outcome *o)
{
    double wall_s = (double)(bench_now_ns() - w->wall_ns) / 1e9;
    o->cpu_ns = (double)(bench_process_cpu_ns() - w->cpu_ns) / (double)messages;
    o->per_second = (double)messages / wall_s;
    o->server_cores = (bench_server_cpu_s(&server) - w->server_s) / wall_s;
}

static void measure_ours(size_t messages, outcome *o)
{
    char set[512];
    static char value[MAX_VALUE];
    salvo_topic topic;
    salvo_close_report report;
    snprintf(set, sizeof set, "rabbitmq_url=%s,rabbitmq_window=%.0f%s%s", address, window,
             set_text ? "," : "", set_text ? set_text : "");
    salvo *producer = bench_salvo_open("rabbitmq", NULL, linger_ms, set);
    if (salvo_topic_open(producer, queue, NULL, &topic) ||
        salvo_send(producer, topic, &(salvo_message){.value = value, .value_len = 1}) ||
        salvo_flush(producer, FLUSH_MS) || salvo_thread_attach(producer))
        bench_die("salvo: %s", salvo_last_error());
    watch w = watch_start();
    for (size_t i = 0; i < messages; i++) {
        memcpy(value, &i, sizeof i);
        if (salvo_send_fire_and_forget(producer, topic, NULL, 0, value, (size_t)bytes))
            bench_die("salvo: a message was refused");
    }
    if (salvo_flush(producer, FLUSH_MS))
        bench_die("salvo: not everything was confirmed in %d s", FLUSH_MS / 1000);
    watch_stop(&w, messages, o);
    if (salvo_close(producer, FLUSH_MS, &report) || report.ledger.acknowledged != messages + 1)
        bench_die("salvo: %" PRIu64 " of %zu messages were confirmed", report.ledger.acknowledged,
                  messages + 1);
}

static void theirs_prepare(theirs *t)
{
    theirs_open(t);
    amqp_queue_declare(t->connection, CHANNEL, amqp_cstring_bytes(queue), 0, 1, 0, 0,
                       amqp_empty_table);
    check(amqp_get_rpc_reply(t->connection), "queue.declare");
    amqp_confirm_select(t->connection, CHANNEL);
    check(amqp_get_rpc_reply(t->connection), "confirm.select");
}

static void measure_theirs(size_t messages, outcome *o)
{
    static char value[MAX_VALUE];
    theirs t;
    theirs_prepare(&t);
    amqp_bytes_t span = {.len = (size_t)bytes, .bytes = value};
    watch w = watch_start();
    for (size_t i = 0; i < messages; i++) {
        memcpy(value, &i, sizeof i);
        theirs_send(&t, span);
    }
    while (t.confirmed < t.published)
        wait_for_confirm(&t);
    watch_stop(&w, messages, o);
    theirs_close(&t);
}

/* --- the server's limit -------------------------------------------------------------------- */

enum { BLOCK = 256, FRAME_ROOM = 1024 };

static uint8_t *put_be(uint8_t *at, uint64_t value, int width)
{
    while (width-- > 0)
        *at++ = (uint8_t)(value >> (8 * width));
    return at;
}

/* type, channel, length of what follows (written later by frame_end), ... end */
static uint8_t *frame_begin(uint8_t *at, uint8_t type)
{
    *at = type;
    put_be(at + 1, CHANNEL, 2);
    return at + 7;
}

static uint8_t *frame_end(uint8_t *begin, uint8_t *end)
{
    put_be(begin + 3, (uint64_t)(end - begin) - 7, 4);
    *end = AMQP_FRAME_END;
    return end + 1;
}

/* One message as rabbitmq-c would write it. */
static size_t encode_message(uint8_t *to)
{
    amqp_basic_publish_t publish = {.routing_key = amqp_cstring_bytes(queue), .mandatory = 1};
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = 2};
    uint8_t *frame = to, *at = put_be(frame_begin(frame, AMQP_FRAME_METHOD),
                                      AMQP_BASIC_PUBLISH_METHOD, 4);
    at += amqp_encode_method(AMQP_BASIC_PUBLISH_METHOD, &publish,
                             (amqp_bytes_t){.len = FRAME_ROOM / 2, .bytes = at});
    frame = frame_end(frame, at);
    at = put_be(frame_begin(frame, AMQP_FRAME_HEADER), (uint64_t)AMQP_BASIC_CLASS << 16, 4);
    at = put_be(at, (uint64_t)bytes, 8);
    at += amqp_encode_properties(AMQP_BASIC_CLASS, &properties,
                                 (amqp_bytes_t){.len = FRAME_ROOM / 4, .bytes = at});
    frame = frame_end(frame, at);
    at = frame_begin(frame, AMQP_FRAME_BODY);
    memset(at, 'x', (size_t)bytes);
    return (size_t)(frame_end(frame, at + (size_t)bytes) - to);
}

static void write_all(int fd, const uint8_t *from, size_t n)
{
    while (n > 0) {
        ssize_t taken = send(fd, from, n, MSG_NOSIGNAL);
        if (taken < 0) /* rabbitmq-c's sockets do not block */
            (void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1000);
        from += taken > 0 ? taken : 0;
        n -= taken > 0 ? (size_t)taken : 0;
    }
}

static void measure_limit(size_t messages, outcome *o)
{
    theirs t;
    theirs_prepare(&t);
    uint8_t *block = malloc(BLOCK * (FRAME_ROOM + (size_t)bytes));
    if (!block)
        bench_die("no memory");
    size_t one = encode_message(block);
    for (size_t i = 1; i < BLOCK; i++)
        memcpy(block + i * one, block, one);
    watch w = watch_start();
    while (t.confirmed < messages) {
        uint64_t room = (uint64_t)window - (t.published - t.confirmed);
        uint64_t left = messages - t.published, n = room < BLOCK ? room : BLOCK;
        n = n < left ? n : left;
        if (n == 0 || (n < BLOCK && n < left && (uint64_t)window > BLOCK)) {
            wait_for_confirm(&t);
            continue;
        }
        write_all(amqp_get_sockfd(t.connection), block, n * one);
        t.published += n;
    }
    watch_stop(&w, messages, o);
    theirs_close(&t);
    free(block);
}

static void measure(const void *argument, void *result)
{
    const job *j = argument;
    if (j->kind == OURS)
        measure_ours(j->messages, result);
    else if (j->kind == THEIRS)
        measure_theirs(j->messages, result);
    else
        measure_limit(j->messages, result);
    delete_queue();
}

typedef struct figures {
    bench_rounds rate, cpu, server;
} figures;
static figures all[KINDS];

static void run_round(int round, bool count)
{
    for (int turn = 0; turn < KINDS; turn++) {
        job j = {.kind = (kind)((round + turn) % KINDS),
                 .messages = (size_t)(count ? messages_wanted : messages_wanted / 4)};
        outcome o;
        if (only_kind >= 0 && j.kind != (kind)only_kind)
            continue;
        snprintf(queue, sizeof queue, "salvo-bench-%d-%d-%d", (int)getpid(), round, turn);
        bench_in_child(measure, &j, &o, sizeof o);
        if (!count)
            continue;
        bench_round_add(&all[j.kind].rate, o.per_second);
        bench_round_add(&all[j.kind].cpu, o.cpu_ns);
        bench_round_add(&all[j.kind].server, o.server_cores);
    }
}

static void print_result(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    printf("\n%.0f B, window %.0f, until confirmed, medians of %.0f rounds (least..most); "
           "lost: 0\n", bytes, window, rounds_wanted);
    printf("client            messages/s                 client CPU ns/message  server's cores "
           "of %ld\n", cores);
    for (int k = 0; k < KINDS; k++)
        printf("%-16s %8.0f (%.0f..%.0f)    %6.0f (%.0f..%.0f)    %.2f\n", names[k],
               bench_median(&all[k].rate), bench_least(&all[k].rate), bench_most(&all[k].rate),
               bench_median(&all[k].cpu), bench_least(&all[k].cpu), bench_most(&all[k].cpu),
               bench_median(&all[k].server));
    for (int k = 0; k < KINDS; k++)
        bench_bar(names[k], bench_median(&all[k].rate), 1e3, 1e6, "msg/s");
    double rate = bench_median(&all[OURS].rate) / bench_median(&all[THEIRS].rate);
    double cpu = bench_median(&all[OURS].cpu) / bench_median(&all[THEIRS].cpu);
    double server_cores = bench_median(&all[OURS].server);
    double limit = bench_median(&all[OURS].rate) / bench_median(&all[LIMIT].rate);
    printf("rate %.2f times rabbitmq-c's and %.2f times what the server takes of ready-made bytes; "
           "client CPU %.2f times\n", rate, limit, cpu);
    bench_json json = {.used = 0};
    bench_json_number(&json, "rate_ratio", rate);
    bench_json_number(&json, "cpu_ratio", cpu);
    bench_json_number(&json, "limit_ratio", limit);
    bench_json_number(&json, "rate_limit", bench_median(&all[LIMIT].rate));
    bench_json_number(&json, "rate", bench_median(&all[OURS].rate));
    bench_json_number(&json, "rate_rabbitmq_c", bench_median(&all[THEIRS].rate));
    bench_json_number(&json, "cpu_ns", bench_median(&all[OURS].cpu));
    bench_json_number(&json, "cpu_ns_rabbitmq_c", bench_median(&all[THEIRS].cpu));
    bench_json_number(&json, "server_cores", server_cores);
    bench_json_number(&json, "server_cores_rabbitmq_c", bench_median(&all[THEIRS].server));
    bench_json_number(&json, "machine_cores", (double)cores);
    bench_json_number(&json, "rounds", rounds_wanted);
    if (json_wanted)
        bench_json_print(&json);
}

int main(int argc, char **argv)
{
    const bench_option options[] = {
        {"quick", .flag = &quick, .help = "fewer messages, 3 rounds, for development"},
        {"json", .flag = &json_wanted, .help = "one JSON object as the last line"},
        {"rounds", .number = &rounds_wanted, .least = 1, .most = 50, .help = "rounds"},
        {"messages", .number = &messages_wanted, .least = 1e4, .most = 1e7, .help = "a round"},
        {"window", .number = &window, .least = 1, .most = 65535, .help = "unconfirmed, of both"},
        {"bytes", .number = &bytes, .least = 8, .most = MAX_VALUE, .help = "of a message"},
        {"linger-ms", .number = &linger_ms, .least = 0, .most = 1000, .help = "of Salvo"},
        {"only", .number = &only_kind, .least = 0, .most = KINDS - 1,
         .help = "one alone, for a profile: 0 salvo, 1 rabbitmq-c, 2 ready-made bytes"},
        {"set", .text = &set_text, .help = "key=value,... of Salvo's configuration"},
    };
    bench_options(argc, argv, "Rate and client CPU until a real RabbitMQ confirmed.", options,
                  sizeof options / sizeof options[0]);
    if (quick) {
        rounds_wanted = 3;
        messages_wanted = 6e4;
    }
    bench_time_init();
    address = bench_server_start(&server, "rabbitmq", "SALVO_BENCH_RABBITMQ", "");
    run_round(0, false); /* the server's JIT compiler and allocators warm up */
    for (int round = 0; round < (int)rounds_wanted; round++) {
        fprintf(stderr, "round %d of %.0f\n", round + 1, rounds_wanted);
        run_round(round, true);
    }
    print_result();
    return 0;
}
