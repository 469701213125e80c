/* SPDX-License-Identifier: Apache-2.0
 *
 * The broker of readers, consumers and topic calls: see the header.
 */
#include "choose.h"

#include "config_internal.h"
#include "error.h"
#include "producer.h"

/* What `salvo config` shows: defaults, ./core.toml, environment. */
static int load_config(salvo_config **out)
{
    int err = salvo_config_new(out);
    if (err) {
        salvo_error_set("no memory for a configuration");
        return err;
    }
    err = salvo_config_load_file(*out, NULL);
    if (!err)
        err = salvo_config_load_env(*out);
    if (err) {
        salvo_error_set("%s", salvo_config_error(*out));
        salvo_config_free(*out);
        *out = NULL;
    }
    return err;
}

static int take_producer(salvo *producer, bool configured, salvo_choice *out)
{
    int err = salvo_producer_check(producer);
    if (err) {
        salvo_error_set("the producer that was given: %s", salvo_strerror(err));
        return err;
    }
    const salvo_driver_ops *its = salvo_producer_driver(producer);
    if (configured && its != out->driver) {
        salvo_error_set("message_broker is %s, but the producer's is %s: leave one of them out",
                        out->driver->name, its->name);
        return SALVO_ERR_INVALID;
    }
    out->driver = its;
    out->shared = salvo_producer_shared(producer);
    if (!configured)
        out->config = salvo_producer_config(producer);
    return 0;
}

static int take_driver(salvo_choice *out)
{
    const char *why = NULL;
    const char *name = salvo_config_broker(out->config, &why);
    out->driver = name ? salvo_driver_find(name) : NULL;
    if (out->driver)
        return 0;
    salvo_error_set("%s%s", name ? "this build has no driver named " : "",
                    name ? name : why ? why : "message_broker is not set");
    return SALVO_ERR_CONFIG;
}

int salvo_choose(const salvo_config *config, salvo *producer, salvo_choice *out)
{
    *out = (salvo_choice){.config = config};
    int err = 0;
    if (!config && !producer) {
        err = load_config(&out->owned);
        out->config = out->owned;
    }
    if (!err && out->config)
        err = take_driver(out);
    if (!err && producer)
        err = take_producer(producer, config != NULL, out);
    if (err)
        salvo_choice_end(out);
    return err;
}

void salvo_choice_end(salvo_choice *choice)
{
    salvo_config_free(choice->owned);
    choice->owned = NULL;
}
