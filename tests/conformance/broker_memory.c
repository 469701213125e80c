/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory broker: no server to kill, so its script acts trouble out.
 */
#include "conformance.h"

static void plan_cuts(world *w)
{
    world_set(w, "memory_script",
              "ok*3;fail:transient;ok*2;partial:7:transient;ok*4;fatal;ok*3;delay:30ms;ok;"
              "fail:transient*3;partial:1:transient*2;ok*5;down:100ms;ok*2;fatal*2;delay:5ms*9;"
              "partial:3:transient");
}

static void plan_absence(world *w, bool from_start, uint32_t for_ms)
{
    char script[64];
    snprintf(script, sizeof script, "%sdown:%ums", from_start ? "" : "ok;", for_ms);
    world_set(w, "memory_script", script);
}

static void refuse_some(world *w)
{
    world_set(w, "memory_script", "partial:7:rejected");
    world_set(w, "memory_partitions", "1");
    world_set(w, "linger_us", "300000"); /* one batch */
    world_open(w);
    uint32_t topic = world_topic(w, NULL);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(world_send_number(w, topic, 0, false, i, 50));
        world_expect_last(w, i < 7 ? 0 : SALVO_ERR_REJECTED);
    }
}

const target_hooks memory_hooks = {
    .plan_cuts = plan_cuts,
    .plan_absence = plan_absence,
    .refuse_some = refuse_some,
};
