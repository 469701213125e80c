/* SPDX-License-Identifier: Apache-2.0
 *
 * A user's program in C11, built outside of the project: one message through the embedded
 * broker. Guarantees to fail when the headers or the library were not installed right.
 */
#include <salvo/salvo.h>
#include <stdio.h>
#include <string.h>

static int check(const char *what, int err)
{
    if (err != 0)
        fprintf(stderr, "%s: %s (%s)\n", what, salvo_strerror(err), salvo_last_error());
    return err;
}

int main(void)
{
    salvo_config *config;
    salvo *producer;
    salvo_topic topic;
    salvo_close_report report;
    if (check("config", salvo_config_new(&config)) ||
        check("broker", salvo_config_set(config, "message_broker", "memory")) ||
        check("open", salvo_open(config, NULL, &producer)) ||
        check("topic", salvo_topic_open(producer, "greetings", NULL, &topic)) ||
        check("send", salvo_send_fire_and_forget(producer, topic, NULL, 0, "hello", 5)) ||
        check("flush", salvo_flush(producer, 10000)) ||
        check("close", salvo_close(producer, 10000, &report)))
        return 1;
    salvo_config_free(config);
    if (strcmp(salvo_version(), SALVO_VERSION) != 0)
        return fprintf(stderr, "headers %s, library %s\n", SALVO_VERSION, salvo_version());
    printf("%llu acknowledged\n", (unsigned long long)report.ledger.acknowledged);
    return report.ledger.acknowledged == 1 ? 0 : 1;
}
