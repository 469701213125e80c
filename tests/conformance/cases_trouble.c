/* SPDX-License-Identifier: Apache-2.0
 *
 * Cases about a broker that is not there, not found, silent, or does not want us. Times are upper
 * bounds of what must end by itself, with seconds of margin for a busy machine.
 */
#include "conformance.h"
#include "driver.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MARGIN_MS = 6000 };
static const char wrong_password[] = "wr0ng-Pa55word";

static const char *state_of(world *w)
{
    static salvo_stats s;
    s.size = sizeof s;
    assert_int_equal(salvo_get_stats(w->producer, &s), 0);
    return s.broker_state;
}

static void wait_until_down(world *w)
{
    uint64_t end = now_ms() + 15000;
    while (strncmp(state_of(w), "down", 4) != 0 && now_ms() < end)
        usleep(10000);
    if (strncmp(state_of(w), "down", 4) != 0)
        fail_msg("broker_state is \"%s\", but there is no broker", state_of(w));
}

static void plan_absence(world *w, bool from_start, uint32_t for_ms)
{
    if (w->target->hooks && w->target->hooks->plan_absence)
        w->target->hooks->plan_absence(w, from_start, for_ms);
}

static void send_numbers(world *w, uint32_t topic, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        world_must_send(w, topic, i % 3, i, 100);
}

/* --- down at the open ------------------------------------------------------------------------ */

void case_open_while_down(world *w)
{
    enum { COUNT = 1000 };
    plan_absence(w, true, 3000);
    server_kill();
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    send_numbers(w, topic, COUNT);
    wait_until_down(w);
    assert_int_equal(salvo_flush(w->producer, 200), SALVO_ERR_TIMEOUT);
    salvo_ledger l = world_ledger(w);
    assert_int_equal(l.pending, COUNT);
    assert_int_equal(l.pending_counted, COUNT);
    server_restart();
    world_flush(w, 60000);
    assert_int_equal(world_outcomes(w, 0), COUNT);
}

/* What opens with require_broker must fail in time, with a text that says `word`. */
static void refuses_to_open(world *w, int expected, uint32_t timeout_ms, const char *word)
{
    salvo_options options = {.require_broker = 1, .open_timeout_ms = timeout_ms};
    uint64_t begin = now_ms();
    int err = world_try_open(w, &options);
    if (err != expected)
        fail_msg("salvo_open: %s (%s), expected: %s", salvo_strerror(err), salvo_last_error(),
                 salvo_strerror(expected));
    assert_in_range(now_ms() - begin, 0, timeout_ms + MARGIN_MS);
    if (!strstr(salvo_last_error(), word))
        fail_msg("the error does not say %s: %s", word, salvo_last_error());
}

/* A server that takes connections and never says a word. */
static void silence_is_no_broker(const target *t)
{
    char host_port[32];
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof any;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &size), 0);
    snprintf(host_port, sizeof host_port, "127.0.0.1:%d", ntohs(any.sin_port));
    world *w = world_new(t);
    world_address(w, host_port);
    refuses_to_open(w, SALVO_ERR_UNREACHABLE, 700, host_port);
    world_free(w);
    close(fd);
}

void case_require_broker(world *w)
{
    char nobody[32];
    world *inner = world_new(w->target);
    plan_absence(inner, true, 60000);
    snprintf(nobody, sizeof nobody, "127.0.0.1:%d", free_port());
    if (w->target->address_key) {
        world_address(inner, nobody);
        silence_is_no_broker(w->target);
    }
    refuses_to_open(inner, SALVO_ERR_UNREACHABLE, 700, w->target->address_key ? nobody : "down");
    world_free(inner);

    salvo_options options = {.require_broker = 1, .open_timeout_ms = 20000};
    if (world_try_open(w, &options))
        fail_msg("salvo_open: %s", salvo_last_error());
    send_numbers(w, world_topic(w, NULL), 3);
}

/* --- refused, not found ---------------------------------------------------------------------- */

static void no_secret_in(const char *what, const char *text)
{
    if (strstr(text, wrong_password))
        fail_msg("a password in %s: %s", what, text);
}

/* Nothing may be acknowledged, and it must come to an end by the deadline. */
static void sends_in_vain(world *w)
{
    enum { COUNT = 50 };
    world_set(w, "delivery_timeout_ms", "1500");
    world_open(w);
    send_numbers(w, world_topic(w, NULL), COUNT);
    wait_until_down(w);
    no_secret_in("the state", state_of(w));
    world_flush(w, 1500 + MARGIN_MS);
    uint32_t told = world_outcomes(w, SALVO_ERR_AUTH) + world_outcomes(w, SALVO_ERR_EXPIRED);
    if (told != COUNT)
        fail_msg("%u of %d were refused or expired; the first: %s", told, COUNT,
                 salvo_strerror(w->sent[0].report.status));
}

void case_wrong_password(world *w)
{
    salvo_options options = {.require_broker = 1, .open_timeout_ms = 20000};
    w->target->hooks->login(w, "right");
    if (world_try_open(w, &options))
        fail_msg("salvo_open with the right password: %s", salvo_last_error());
    send_numbers(w, world_topic(w, NULL), 3);

    (void)log_take();
    world *inner = world_new(w->target);
    inner->target->hooks->login(inner, wrong_password);
    refuses_to_open(inner, SALVO_ERR_AUTH, 10000, "");
    no_secret_in("the error", salvo_last_error());
    sends_in_vain(inner);
    world_finish(inner);
    world_free(inner);
    no_secret_in("the log", log_take());
}

void case_unknown_host(world *w)
{
    static const char host[] = "no-such-host.invalid";
    world *inner = world_new(w->target);
    world_address(inner, "no-such-host.invalid:4242");
    refuses_to_open(inner, SALVO_ERR_UNREACHABLE, 1500, host);
    world_free(inner);
    world_address(w, "no-such-host.invalid:4242");
    sends_in_vain(w);
    assert_int_equal(world_outcomes(w, SALVO_ERR_EXPIRED), w->count);
}

/* --- gone for longer than the deadline ------------------------------------------------------- */

/* Of the messages from `first` on. */
static uint32_t outcomes_from(const world *w, uint32_t first, int status)
{
    uint32_t n = 0;
    for (uint32_t i = first; i < w->count; i++)
        n += w->sent[i].report.status == status;
    return n;
}

static void send_until_acknowledged(world *w, uint32_t topic)
{
    uint64_t end = now_ms() + 60000;
    do {
        assert_true(now_ms() < end);
        assert_true(world_send_number(w, topic, 9, true, w->count, 10));
        world_flush(w, 30000);
        usleep(20000);
    } while (w->sent[w->count - 1].report.status != 0);
}

/* Each of the last `count` is expired or maybe delivered, and none before its time. */
static void all_given_up(const world *w, const char *what, uint32_t first, uint32_t count)
{
    uint32_t expired = outcomes_from(w, first, SALVO_ERR_EXPIRED);
    uint32_t maybe = outcomes_from(w, first, SALVO_ERR_MAYBE);
    print_message("%s: %u expired, %u maybe delivered\n", what, expired, maybe);
    assert_int_equal(expired + maybe, count);
    for (uint32_t i = first; i < w->count; i++)
        assert_true(w->sent[i].report.latency_ns >= 1900000000u);
}

void case_gone_beyond_the_deadline(world *w)
{
    enum { COUNT = 2000 };
    w->may_duplicate = !w->target->exact;
    plan_absence(w, false, 4000);
    world_set(w, "delivery_timeout_ms", "2000");
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    send_until_acknowledged(w, topic); /* a new topic may take longer than the deadline */
    uint32_t first = w->count;
    usleep((w->target->hooks ? w->target->hooks->topic_settles_ms : 0) * 1000);
    server_kill();
    send_numbers(w, topic, COUNT);
    world_flush(w, 2000 + 2 * MARGIN_MS);
    all_given_up(w, "gone", first, COUNT);
    server_restart();
    send_until_acknowledged(w, topic); /* the producer goes on */
}

/* A server that stands still with messages on their way, and goes on when we have given them up:
 * what was told as expired must not be stored by it then. */
void case_silent_beyond_the_deadline(world *w)
{
    enum { COUNT = 3000 };
    w->may_duplicate = !w->target->exact;
    world_set(w, "delivery_timeout_ms", "2000");
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    send_until_acknowledged(w, topic);
    uint32_t first = w->count;
    server_signal(SIGSTOP);
    send_numbers(w, topic, COUNT);
    int err = salvo_flush(w->producer, 2000 + 2 * MARGIN_MS);
    server_signal(SIGCONT);
    assert_int_equal(err, 0);
    all_given_up(w, "silent", first, COUNT);
    send_until_acknowledged(w, topic);
}

/* --- flush ----------------------------------------------------------------------------------- */

void case_flush_deadlines(world *w)
{
    enum { COUNT = 100 };
    world *inner = world_new(w->target);
    char nobody[32];
    plan_absence(inner, true, 60000);
    snprintf(nobody, sizeof nobody, "127.0.0.1:%d", free_port());
    if (w->target->address_key)
        world_address(inner, nobody);
    world_open(inner);
    assert_int_equal(salvo_flush(inner->producer, MARGIN_MS), 0); /* there is nothing to wait for */
    send_numbers(inner, world_topic(inner, NULL), COUNT);
    uint64_t begin = now_ms();
    assert_int_equal(salvo_flush(inner->producer, 0), SALVO_ERR_TIMEOUT);
    assert_int_equal(salvo_flush(inner->producer, 300), SALVO_ERR_TIMEOUT);
    assert_in_range(now_ms() - begin, 299, 300 + MARGIN_MS);
    assert_int_equal(world_ledger(inner).pending, COUNT);
    begin = now_ms();
    assert_int_equal(world_close(inner, 300), SALVO_ERR_DROPPED);
    assert_in_range(now_ms() - begin, 0, 300 + 3 * MARGIN_MS);
    assert_int_equal(world_outcomes(inner, SALVO_ERR_DROPPED), COUNT);
    world_finish(inner);
    world_free(inner);

    world_set(w, "linger_us", "100000000"); /* a flush cuts it short */
    world_open(w);
    send_numbers(w, world_topic(w, NULL), COUNT);
    world_flush(w, 30000);
    assert_int_equal(world_outcomes(w, 0), COUNT);
}
