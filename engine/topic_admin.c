/* SPDX-License-Identifier: Apache-2.0
 *
 * Topics at the broker: the public calls, checked, then handed to the driver that the
 * configuration names, over a connection of its own, on the calling thread. Guarantees: a wish
 * that the broker cannot fulfil is refused before anything is asked of it; what is there is never
 * changed; on failure salvo_last_error() says what, where and what next.
 */
#include "choose.h"
#include "clock.h"
#include "driver_consumer.h"
#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000u
#define MS UINT64_C(1000000)
#define NAME_MAX_BYTES 249
#define PARTITIONS_MAX 100000

typedef struct admin { /* one public call */
    salvo_choice choice;
    const salvo_driver_topic_ops *ops;
    uint64_t end_ns;
    char text[SALVO_ERROR_BYTES];
} admin;

static int begin(admin *a, const salvo_config *config, salvo *producer, uint32_t timeout_ms)
{
    a->text[0] = '\0';
    a->end_ns = salvo_clock_monotonic_ns() + (timeout_ms ? timeout_ms : TIMEOUT_MS) * MS;
    int err = salvo_choose(config, producer, &a->choice);
    if (err)
        return err;
    a->ops = a->choice.driver->topics;
    if (a->ops)
        return 0;
    salvo_error_set("the %s driver has no topics that could be managed", a->choice.driver->name);
    salvo_choice_end(&a->choice);
    return SALVO_ERR_UNSUPPORTED;
}

static uint32_t left_ms(const admin *a)
{
    uint64_t now = salvo_clock_monotonic_ns();
    return now < a->end_ns ? (uint32_t)((a->end_ns - now + MS - 1) / MS) : 1;
}

/* The result of the call: a count, or an error that is told. */
static int64_t end(admin *a, int64_t result)
{
    if (result < 0)
        salvo_error_set("%s", a->text[0] ? a->text : salvo_strerror((int)result));
    salvo_choice_end(&a->choice);
    return result;
}

static int check_name(const char *call, const char *what, const char *name)
{
    if (name && *name && strlen(name) <= NAME_MAX_BYTES)
        return 0;
    salvo_error_set("%s: the %s has not 1 to %d characters", call, what, NAME_MAX_BYTES);
    return SALVO_ERR_INVALID;
}

/* --- what is wanted -------------------------------------------------------------------------- */

/* As salvo_topic_open() asks for it: a topic that nobody could send to is of no use. */
static int check_letters(const char *call, const char *name)
{
    size_t good = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    if (name[good] == '\0')
        return 0;
    salvo_error_set("%s: topic '%s': allowed are letters, digits, '.', '_' and '-'", call, name);
    return SALVO_ERR_INVALID;
}

static int check_values(const char *call, const salvo_topic_spec *s)
{
    const char *policy = s->cleanup_policy;
    const char *wrong = NULL;
    if (s->partitions < 0 || s->partitions > PARTITIONS_MAX)
        wrong = "partitions: allowed are 1 to 100000 (0: the default, 1)";
    else if (s->replication_factor < 0 || s->replication_factor > INT16_MAX)
        wrong = "replication_factor: allowed are 1 to 32767 (0: the default, 1)";
    else if (s->retention_ms < SALVO_RETENTION_FOREVER &&
             s->retention_ms != SALVO_RETENTION_DEFAULT)
        wrong = "retention_ms: allowed are 1 and more, -1 (forever), or 0 (the broker's default)";
    else if (policy && strcmp(policy, "delete") != 0 && strcmp(policy, "compact") != 0 &&
             strcmp(policy, "compact,delete") != 0 && strcmp(policy, "delete,compact") != 0)
        wrong = "cleanup_policy: allowed are delete, compact and compact,delete";
    if (!wrong)
        return 0;
    salvo_error_set("%s: topic '%s': %s", call, s->name, wrong);
    return SALVO_ERR_INVALID;
}

static int take_spec(const char *call, const salvo_topic_spec *given, salvo_topic_spec *out)
{
    *out = (salvo_topic_spec){.size = sizeof *out};
    if (!given || given->size < sizeof given->size) {
        salvo_error_set("%s: %s", call, given ? "spec->size is 0: set it to "
                        "sizeof(salvo_topic_spec)" : "spec is NULL");
        return SALVO_ERR_INVALID;
    }
    memcpy(out, given, given->size < sizeof *out ? given->size : sizeof *out);
    out->size = sizeof *out;
    if (out->retention_ms == 0)
        out->retention_ms = SALVO_RETENTION_DEFAULT;
    int err = check_name(call, "topic", out->name);
    if (!err)
        err = check_letters(call, out->name);
    return err ? err : check_values(call, out);
}

/* What this broker's topics cannot be given is refused, not left out. */
static int check_can(admin *a, const salvo_topic_spec *s)
{
    const char *broker = a->choice.driver->name, *what = NULL;
    uint32_t can = a->ops->can;
    if (s->partitions > 1 && !(can & SALVO_TOPIC_CAN_PARTITIONS))
        what = "has one partition: set partitions to 1";
    else if (s->replication_factor > 1 && !(can & SALVO_TOPIC_CAN_REPLICAS))
        what = "has no replication factor: set replication_factor to 1";
    else if (s->retention_ms != SALVO_RETENTION_DEFAULT && !(can & SALVO_TOPIC_CAN_RETENTION))
        what = "has no retention time: leave retention_ms out";
    else if (s->cleanup_policy && strcmp(s->cleanup_policy, "delete") != 0 &&
             !(can & SALVO_TOPIC_CAN_COMPACT))
        what = "is not compacted: set cleanup_policy to delete";
    if (!what)
        return 0;
    snprintf(a->text, sizeof a->text, "%s: topic '%s': a topic of this broker %s", broker, s->name,
             what);
    return SALVO_ERR_UNSUPPORTED;
}

/* --- create, list, describe ------------------------------------------------------------------ */

static int create(admin *a, const salvo_topic_spec *wanted)
{
    salvo_topic_spec complete = *wanted;
    if (!complete.partitions)
        complete.partitions = 1;
    if (!complete.replication_factor)
        complete.replication_factor = 1;
    return a->ops->create(a->choice.config, a->choice.shared, &complete, left_ms(a), a->text,
                          sizeof a->text);
}

static int describe(admin *a, const char *name, salvo_topic_info *info)
{
    *info = (salvo_topic_info){0};
    return a->ops->describe(a->choice.config, a->choice.shared, name, info, left_ms(a), a->text,
                            sizeof a->text);
}

int salvo_topic_create(const salvo_config *config, salvo *producer, const salvo_topic_spec *spec,
                       uint32_t timeout_ms)
{
    admin a;
    salvo_topic_spec wanted;
    salvo_error_clear();
    int err = take_spec("salvo_topic_create", spec, &wanted);
    if (!err)
        err = begin(&a, config, producer, timeout_ms);
    if (err)
        return err;
    err = check_can(&a, &wanted);
    return (int)end(&a, err ? err : create(&a, &wanted));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const salvo_topic_info *)a)->name, ((const salvo_topic_info *)b)->name);
}

int64_t salvo_topic_list(const salvo_config *config, salvo *producer, salvo_topic_info *topics,
                         size_t max, uint32_t timeout_ms)
{
    admin a;
    salvo_topic_info *all = NULL;
    salvo_error_clear();
    if (!topics && max > 0) {
        salvo_error_set("salvo_topic_list: topics is NULL, but max is %zu", max);
        return SALVO_ERR_INVALID;
    }
    int err = begin(&a, config, producer, timeout_ms);
    if (err)
        return err;
    int64_t count = SALVO_ERR_UNSUPPORTED;
    if (a.ops->list)
        count = a.ops->list(a.choice.config, a.choice.shared, &all, left_ms(&a), a.text,
                            sizeof a.text);
    else
        snprintf(a.text, sizeof a.text, "%s: this broker's protocol cannot list its queues; "
                 "`rabbitmqctl list_queues` does, and describe looks at one by its name",
                 a.choice.driver->name);
    if (count > 0) {
        qsort(all, (size_t)count, sizeof *all, by_name);
        size_t shown = (size_t)count < max ? (size_t)count : max;
        if (shown > 0)
            memcpy(topics, all, shown * sizeof *all);
    }
    free(all);
    return end(&a, count);
}

int salvo_topic_describe(const salvo_config *config, salvo *producer, const char *name,
                         salvo_topic_info *info, uint32_t timeout_ms)
{
    admin a;
    salvo_error_clear();
    int err = check_name("salvo_topic_describe", "topic", name);
    if (!err && !info) {
        salvo_error_set("salvo_topic_describe: info is NULL");
        err = SALVO_ERR_INVALID;
    }
    if (!err)
        err = begin(&a, config, producer, timeout_ms);
    return err ? err : (int)end(&a, describe(&a, name, info));
}

/* --- ensure ---------------------------------------------------------------------------------- */

typedef struct differences {
    char *text;
    size_t size, used;
    int count;
} differences;

static void differ(differences *d, const char *what, const char *is, const char *wanted)
{
    d->count++;
    if (d->used >= d->size)
        return;
    int n = snprintf(d->text + d->used, d->size - d->used, "%s%s: %s, wanted %s",
                     d->used ? "\n" : "", what, is, wanted);
    d->used += n > 0 ? (size_t)n : 0;
}

static void differ_number(differences *d, const char *what, int64_t is, int64_t wanted)
{
    char left[32], right[32];
    snprintf(left, sizeof left, "%lld", (long long)is);
    snprintf(right, sizeof right, "%lld", (long long)wanted);
    differ(d, what, left, right);
}

static const char *retention_text(char text[32], int64_t ms)
{
    if (ms == SALVO_RETENTION_DEFAULT)
        return "not told by the broker";
    if (ms == SALVO_RETENTION_FOREVER)
        return "forever";
    snprintf(text, 32, "%lld", (long long)ms);
    return text;
}

/* "delete,compact" and "compact,delete" are one policy. */
static bool same_policy(const char *a, const char *b)
{
    bool compact = strstr(a, "compact") != NULL, delete = strstr(a, "delete") != NULL;
    return compact == (strstr(b, "compact") != NULL) && delete == (strstr(b, "delete") != NULL);
}

/* Where the broker has no such thing (-1, "") the wish is one that check_can() let pass: 1, or
 * no compaction. Then there is no difference. */
static void compare(differences *d, const salvo_topic_info *is, const salvo_topic_spec *wanted)
{
    char left[32], right[32];
    if (wanted->partitions && is->partitions >= 0 && is->partitions != wanted->partitions)
        differ_number(d, "partitions", is->partitions, wanted->partitions);
    if (wanted->replication_factor && is->replication_factor >= 0 &&
        is->replication_factor != wanted->replication_factor)
        differ_number(d, "replication_factor", is->replication_factor,
                      wanted->replication_factor);
    if (wanted->retention_ms != SALVO_RETENTION_DEFAULT && is->retention_ms != wanted->retention_ms)
        differ(d, "retention_ms", retention_text(left, is->retention_ms),
               retention_text(right, wanted->retention_ms));
    if (wanted->cleanup_policy && is->cleanup_policy[0] &&
        !same_policy(is->cleanup_policy, wanted->cleanup_policy))
        differ(d, "cleanup_policy", is->cleanup_policy, wanted->cleanup_policy);
}

/* Somebody else may create it between our look and our creation: then we look again. */
static int ensure(admin *a, const salvo_topic_spec *wanted, differences *d)
{
    salvo_topic_info is;
    int err = describe(a, wanted->name, &is);
    if (err == SALVO_ERR_UNKNOWN_TOPIC) {
        char refused[SALVO_ERROR_BYTES];
        err = create(a, wanted);
        if (!err)
            return 1;
        if (err != SALVO_ERR_REJECTED)
            return err;
        memcpy(refused, a->text, sizeof refused);
        if (describe(a, wanted->name, &is)) { /* it was refused for another reason */
            memcpy(a->text, refused, sizeof refused);
            return err;
        }
        err = 0;
    }
    if (err)
        return err;
    compare(d, &is, wanted);
    return d->count ? 2 : 0;
}

int salvo_topic_ensure(const salvo_config *config, salvo *producer, const salvo_topic_spec *spec,
                       char *text, size_t text_size, uint32_t timeout_ms)
{
    admin a;
    salvo_topic_spec wanted;
    differences d = {.text = text, .size = text ? text_size : 0};
    salvo_error_clear();
    if (d.size > 0)
        text[0] = '\0';
    int err = take_spec("salvo_topic_ensure", spec, &wanted);
    if (!err)
        err = begin(&a, config, producer, timeout_ms);
    if (err)
        return err;
    err = check_can(&a, &wanted);
    return (int)end(&a, err ? err : ensure(&a, &wanted, &d));
}

/* --- delete, and the lag of a group ---------------------------------------------------------- */

int salvo_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    salvo_choice choice;
    salvo_error_clear();
    if (!config) {
        salvo_error_set("salvo_topic_delete: config is NULL");
        return SALVO_ERR_INVALID;
    }
    int err = check_name("salvo_topic_delete", "topic", topic);
    if (!err)
        err = salvo_choose(config, NULL, &choice);
    if (err)
        return err;
    if (choice.driver->topic_delete) /* else its topics end with their producer */
        err = choice.driver->topic_delete(config, topic, timeout_ms ? timeout_ms : TIMEOUT_MS,
                                          text, sizeof text);
    if (err)
        salvo_error_set("%s", text[0] ? text : salvo_strerror(err));
    salvo_choice_end(&choice);
    return err;
}

int64_t salvo_group_lag(const salvo_config *config, salvo *producer, const char *group,
                        const char *topic, salvo_lag *lags, size_t max, uint32_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    salvo_choice choice;
    salvo_error_clear();
    int64_t result = check_name("salvo_group_lag", "group", group);
    if (!result)
        result = check_name("salvo_group_lag", "topic", topic);
    if (!result && !lags && max > 0) {
        salvo_error_set("salvo_group_lag: lags is NULL, but max is %zu", max);
        result = SALVO_ERR_INVALID;
    }
    if (!result)
        result = salvo_choose(config, producer, &choice);
    if (result)
        return result;
    const salvo_driver_consumer_ops *ops = choice.driver->consumer;
    result = SALVO_ERR_UNSUPPORTED;
    if (ops && ops->group_lag)
        result = ops->group_lag(choice.config, choice.shared, group, topic, lags, max,
                                timeout_ms ? timeout_ms : TIMEOUT_MS, text, sizeof text);
    else
        snprintf(text, sizeof text, "the %s driver knows no groups", choice.driver->name);
    if (result < 0)
        salvo_error_set("%s", text[0] ? text : salvo_strerror((int)result));
    salvo_choice_end(&choice);
    return result;
}
