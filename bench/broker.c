/* SPDX-License-Identifier: Apache-2.0
 *
 * Starts and ends a real Kafka through script/broker; see broker.h for the guarantees.
 */
#include "broker.h"
#include "harness.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRIPT SALVO_SOURCE_DIR "/script/broker"

static pid_t owner; /* who started the broker: forked children must not end it */
static char instance[32];
static char address[64];

/* Runs script/broker; its standard output goes to out_fd. */
static int run_script(char *const arguments[], int out_fd)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out_fd, STDOUT_FILENO);
        execv(SCRIPT, arguments);
        _exit(127);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void stop_broker(void)
{
    if (getpid() != owner)
        return;
    char script[] = SCRIPT, kafka[] = "kafka", stop[] = "stop", name[] = "--name";
    char *arguments[] = {script, kafka, stop, name, instance, NULL};
    (void)run_script(arguments, STDERR_FILENO);
}

static void start_broker(void)
{
    char pid[24], script[] = SCRIPT, kafka[] = "kafka", start[] = "start", name[] = "--name",
         own[] = "--owner", set[] = "--set", retention[] = "log.retention.bytes=536870912",
         segment[] = "log.segment.bytes=67108864",
         interval[] = "log.retention.check.interval.ms=5000",
         delay[] = "log.segment.delete.delay.ms=1000";
    owner = getpid();
    snprintf(instance, sizeof instance, "bench-%d", (int)owner);
    snprintf(pid, sizeof pid, "%d", (int)owner);
    char *arguments[] = {script, kafka,     start, name,    instance, own,      pid, set,
                         retention, set, segment, set, interval, set, delay, NULL};
    int fds[2];
    if (pipe(fds))
        bench_die("no pipe");
    int status = run_script(arguments, fds[1]);
    close(fds[1]);
    ssize_t n = status ? 0 : read(fds[0], address, sizeof address - 1);
    close(fds[0]);
    if (n <= 0)
        bench_die("script/broker could not start Kafka (exit status %d); see its words above, or "
                  "set SALVO_BENCH_KAFKA=host:port to use one that runs", status);
    address[strcspn(address, "\n")] = '\0';
    atexit(stop_broker);
}

const char *bench_broker(void)
{
    const char *given = getenv("SALVO_BENCH_KAFKA");
    if (given && *given)
        return given;
    if (!address[0])
        start_broker();
    return address;
}

static rd_kafka_t *admin_open(const char *at)
{
    char text[256] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", at, text, sizeof text))
        bench_die("Kafka address '%s': %s", at, text);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!rk)
        bench_die("librdkafka: %s", text);
    return rk;
}

static void admin_result(rd_kafka_queue_t *queue, const char *what, const char *at)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 30000);
    if (!event)
        bench_die("%s: no answer from Kafka at %s in 30 s; is it up?", what, at);
    if (rd_kafka_event_error(event))
        bench_die("%s at %s: %s", what, at, rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
}

void bench_topic_create(const char *at, int partitions, char *name, unsigned long size)
{
    static unsigned serial;
    char text[256] = "";
    snprintf(name, size, "salvo-bench-%d-%u", (int)getpid(), serial++);
    rd_kafka_t *rk = admin_open(at);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, text, sizeof text);
    if (!topic)
        bench_die("topic %s: %s", name, text);
    rd_kafka_NewTopic_set_config(topic, "retention.bytes", "536870912");
    rd_kafka_NewTopic_set_config(topic, "segment.bytes", "67108864");
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    admin_result(queue, "creating a topic", at);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

void bench_topic_delete(const char *at, const char *name)
{
    rd_kafka_t *rk = admin_open(at);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
    rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
    admin_result(queue, "deleting a topic", at);
    rd_kafka_DeleteTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}
