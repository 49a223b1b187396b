/* SCHEDOP_shutdown with reason reboot. */
/* outcome: reboot */
#include "xenkit.h"

static void reboot(void)
{
    CHECK("about_to_reboot", 1);
    shutdown(SHUTDOWN_reboot);
}

PROBE(TEST(reboot, 1));
