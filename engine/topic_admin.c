/* SPDX-License-Identifier: Apache-2.0
 *
 * Removing topics, for tools that made some: handed to the driver that the configuration names,
 * over a connection of its own, on the calling thread.
 */
#include "config_internal.h"
#include "driver.h"
#include "error.h"

#include <string.h>

#define TIMEOUT_MS 10000u

int salvo_topic_delete(const salvo_config *config, const char *topic, uint32_t timeout_ms)
{
    char text[SALVO_ERROR_BYTES] = "";
    const char *why = NULL;
    salvo_error_clear();
    if (!config || !topic || !*topic || strlen(topic) > 249) {
        salvo_error_set("salvo_topic_delete: %s", config ? "the topic has not 1 to 249 characters"
                                                         : "config is NULL");
        return SALVO_ERR_INVALID;
    }
    const char *name = salvo_config_broker(config, &why);
    const salvo_driver_ops *driver = name ? salvo_driver_find(name) : NULL;
    if (!driver) {
        salvo_error_set("%s%s", name ? "this build has no driver named " : "",
                        name ? name : why ? why : "message_broker is not set");
        return SALVO_ERR_CONFIG;
    }
    if (!driver->topic_delete)
        return 0; /* its topics end with their producer */
    int err = driver->topic_delete(config, topic, timeout_ms ? timeout_ms : TIMEOUT_MS, text,
                                   sizeof text);
    if (err)
        salvo_error_set("%s", text[0] ? text : salvo_strerror(err));
    return err;
}
