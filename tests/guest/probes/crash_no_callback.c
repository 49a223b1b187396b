/* An event for a domain that took its callback back ends it as a crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    struct callback_register reg = { CALLBACKTYPE_event, 0, 0, 0 };
    s64 port = bind_ipi(0);
    CHECK_EQ("callback_removed", hc_callback(CALLBACKOP_register, &reg), 0);
    events_enable();
    evtchn_send((u32)port);
    shutdown(SHUTDOWN_poweroff);
}

PROBE(TEST(crash, 1));
