/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics of a producer from inside: what is served, to whom, where not, and until when; and the
 * text of numbers that are known. tests/cli/metrics_test.sh has other people's readers look at it.
 */
#include "metrics.h"
#include "producer.h"
#include "watch_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>

static salvo *open_listening(const watch_dir *d, const char *listen)
{
    salvo_config *config = watch_config(d->path, "null", "true");
    salvo *p = NULL;
    assert_int_equal(salvo_config_set(config, "metrics_listen", listen), 0);
    assert_int_equal(salvo_config_set(config, "kafka_client_id", "a\"b\\c"), 0);
    int err = salvo_open(config, NULL, &p);
    salvo_config_free(config);
    assert_int_equal(err == 0, p != NULL);
    return p;
}

static int dial(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    char host[32];
    size_t length = (size_t)(strrchr(address, ':') - address);
    memcpy(host, address, length);
    host[length] = '\0';
    inet_pton(AF_INET, host, &at.sin_addr);
    at.sin_port = htons((uint16_t)atoi(address + length + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The whole answer, head and body. */
static const char *ask(const char *address, const char *request)
{
    static char text[1 << 20];
    char all[512];
    size_t have = 0;
    ssize_t n;
    int fd = dial(address);
    assert_true(fd >= 0);
    int length = snprintf(all, sizeof all, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", request);
    assert_int_equal(write(fd, all, (size_t)length), length);
    while ((n = read(fd, text + have, sizeof text - 1 - have)) > 0)
        have += (size_t)n;
    close(fd);
    text[have] = '\0';
    return text;
}

static void expect(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in:\n%.3000s", part, text);
}

static void serves_its_own(void **state)
{
    watch_dir *d = *state;
    salvo *p = open_listening(d, "0");
    const char *address = salvo_metrics_address(p->metrics), *text;
    char labels[200], line[300];

    assert_int_equal(strncmp(address, "127.0.0.1:", 10), 0);
    send_some(p, 400);
    assert_int_equal(salvo_flush(p, 10000), 0);
    snprintf(labels, sizeof labels,
             "{producer=\"%ld-0\",pid=\"%ld\",program=\"metrics_test\","
             "client_id=\"a\\\"b\\\\c\",driver=\"null\"", (long)getpid(), (long)getpid());
    text = ask(address, "GET /metrics HTTP/1.1");
    expect(text, "HTTP/1.1 200");
    expect(text, "Content-Type: text/plain; version=0.0.4");
    snprintf(line, sizeof line, "\nsalvo_messages_acknowledged_total%s,topic=\"orders\"} 300\n",
             labels);
    expect(text, line);
    snprintf(line, sizeof line, "\nsalvo_stage_latency_seconds_count%s,stage=\"total\"} 400\n",
             labels);
    expect(text, line);
    snprintf(line, sizeof line, "\nsalvo_broker_state%s,salvo_broker_state=\"up\"} 1\n", labels);
    expect(text, line);
    assert_null(strstr(text, "# EOF"));
    text = ask(address, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;q=0.5");
    expect(text, "Content-Type: application/openmetrics-text; version=1.0.0");
    expect(text, "# TYPE salvo_messages_acknowledged counter\n");
    assert_string_equal(text + strlen(text) - 7, "\n# EOF\n");
    expect(ask(address, "GET / HTTP/1.1"), "HTTP/1.1 404");
    text = ask(address, "DELETE /metrics HTTP/1.1");
    expect(text, "HTTP/1.1 405");
    expect(text, "Allow: GET, HEAD");
    snprintf(line, sizeof line, "%s", address);
    assert_int_equal(salvo_close(p, 10000, NULL), 0);
    assert_int_equal(dial(line), -1);
}

static void a_bad_or_used_address_fails_the_open(void **state)
{
    static const char *const bad[] = {"x", "localhost", "127.0.0.1", "127.0.0.1:", ":x", "1:2:3",
                                      "[::1:9464", "127.0.0.1:65536", "example.com:80", "-1",
                                      "127.0.0.1:80 ", "999999999999"};
    watch_dir *d = *state;
    salvo *first = open_listening(d, "127.0.0.1:0");

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(open_listening(d, bad[i]));
        expect(salvo_last_error(), "is not PORT, ADDRESS:PORT or [ADDRESS]:PORT");
    }
    assert_null(open_listening(d, salvo_metrics_address(first->metrics)));
    expect(salvo_last_error(), "Address already in use; choose another port");
    assert_null(open_listening(d, "203.0.113.1:0"));
    expect(salvo_last_error(), "cannot listen on 203.0.113.1:0");
    assert_int_equal(salvo_close(first, 1000, NULL), 0);
}

/* A child that outlives the producer keeps neither the port nor a visitor waiting. */
static void a_fork_does_not_keep_the_port(void **state)
{
    watch_dir *d = *state;
    salvo *p = open_listening(d, "0");
    char address[64];
    int gate[2], up[2];
    char byte = 0;

    snprintf(address, sizeof address, "%s", salvo_metrics_address(p->metrics));
    assert_int_equal(pipe(gate), 0);
    assert_int_equal(pipe(up), 0);
    pid_t child = fork();
    if (child == 0) {
        close(gate[1]);
        (void)!write(up[1], &byte, 1);
        _exit((int)read(gate[0], address, 1));
    }
    assert_int_equal(read(up[0], &byte, 1), 1); /* until it runs it holds what it inherited */
    expect(ask(address, "GET /metrics HTTP/1.1"), "HTTP/1.1 200"); /* the parent's goes on */
    assert_int_equal(salvo_close(p, 1000, NULL), 0);
    assert_int_equal(dial(address), -1);
    p = open_listening(d, address);
    assert_non_null(p);
    assert_int_equal(salvo_close(p, 1000, NULL), 0);
    close(gate[1]);
    close(gate[0]);
    close(up[1]);
    close(up[0]);
    waitpid(child, NULL, 0);
}

static void written_without_a_server(void **state)
{
    watch_dir *d = *state;
    salvo *p = open_producer(d, "null", "false");
    FILE *full = fopen("/dev/full", "w");

    assert_null(p->metrics);
    assert_int_equal(salvo_metrics_write(p, SALVO_METRICS_OPENMETRICS, full), SALVO_ERR_IO);
    assert_int_equal(salvo_metrics_write(NULL, SALVO_METRICS_OPENMETRICS, stdout),
                     SALVO_ERR_INVALID);
    fclose(full);
    assert_int_equal(salvo_close(p, 1000, NULL), 0);
}

/* The numbers of one family, by their order. */
static size_t numbers_of(const char *text, const char *begin, uint64_t *values, size_t max)
{
    size_t n = 0;
    for (const char *at = strstr(text, begin); at != NULL && n < max; at = strstr(at + 1, begin))
        values[n++] = strtoull(strstr(at, "} ") + 2, NULL, 10);
    return n;
}

static void buckets_are_cumulative(void **state)
{
    salvo_metrics_source s = {.id = "1-0", .known = true};
    char *text = NULL;
    size_t size = 0;
    uint64_t values[64];
    FILE *to = open_memstream(&text, &size);
    (void)state;

    s.stages[SALVO_STAGE_TOTAL] = salvo_histogram_new(2);
    salvo_histogram_record(s.stages[SALVO_STAGE_TOTAL], 500, 3);
    salvo_histogram_record(s.stages[SALVO_STAGE_TOTAL], 1500000, 20);       /* 1.5 ms */
    salvo_histogram_record(s.stages[SALVO_STAGE_TOTAL], 60000000000, 100);  /* a minute */
    assert_int_equal(salvo_metrics_render(&s, 1, SALVO_METRICS_OPENMETRICS, to), 0);
    fclose(to);
    size_t n = numbers_of(text, "\nsalvo_stage_latency_seconds_bucket{", values, 64);
    assert_int_equal(n, 25);
    for (size_t i = 0; i < n; i++) /* 1us 2us 5us ... 1ms 2ms ... 50s +Inf */
        assert_int_equal(values[i], i < 10 ? 3 : i < 24 ? 23 : 123);
    expect(text, ",stage=\"total\",le=\"0.001\"} 3\n");
    expect(text, ",stage=\"total\",le=\"0.002\"} 23\n");
    expect(text, ",stage=\"total\",le=\"50.0\"} 23\n");
    expect(text, ",stage=\"total\",le=\"+Inf\"} 123\n");
    expect(text, "_count{producer=\"1-0\",pid=\"0\",program=\"\",client_id=\"\",driver=\"\","
                 "stage=\"total\"} 123\n");
    expect(text, "stage=\"total\"} 6000.030001500\n");
    free(text);
    salvo_metrics_release(&s);
}

/* Of a killed producer: the second topic is called like the first, and the counts of a stage are
 * near 2^64. The text is that of a producer with one topic, and its buckets are in order. */
static void damage_does_not_spoil_the_text(void **state)
{
    watch_dir *d = *state;
    producing p = produce(d, "null", 400);
    salvo_stats stats = {.size = sizeof stats};
    salvo_watch_info info;
    salvo_segment_shape shape;
    uint64_t values[64], most[64];
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    salvo_watch_close(attach_to(d, 400, &stats));
    kill_it(&p);
    assert_int_equal(salvo_watch_list(d->path, &info, 1), 1);
    salvo_segment_shape_of(1, 256, &shape);
    int fd = open(info.path, O_WRONLY);
    memset(most, 0xf0, sizeof most);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pwrite(fd, "orders", 7, (off_t)(shape.copy_at[i] +
                                                         sizeof(salvo_segment_copy) +
                                                         sizeof(salvo_segment_topic))), 7);
    for (size_t at = 4096; at < shape.histogram_bytes - sizeof most; at += 4096)
        assert_int_equal(pwrite(fd, most, sizeof most, (off_t)(shape.histograms_at + at)),
                         sizeof most);
    close(fd);
    assert_int_equal(salvo_metrics_write_all(d->path, SALVO_METRICS_OPENMETRICS, to), 0);
    fclose(to);
    assert_int_equal(numbers_of(text, "\nsalvo_messages_accepted_total{", values, 64), 1);
    assert_int_equal(values[0], 300);
    assert_int_equal(numbers_of(text, "\nsalvo_stage_latency_seconds_bucket{", values, 25), 25);
    for (int i = 1; i < 25; i++)
        assert_true(values[i] >= values[i - 1]);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        watch_unit_test(serves_its_own),
        watch_unit_test(a_bad_or_used_address_fails_the_open),
        watch_unit_test(a_fork_does_not_keep_the_port),
        watch_unit_test(written_without_a_server),
        watch_unit_test(damage_does_not_spoil_the_text),
        cmocka_unit_test(buckets_are_cumulative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
