/* SCHEDOP_shutdown with reason crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    CHECK("about_to_crash", 1);
    shutdown(SHUTDOWN_crash);
}

PROBE(TEST(crash, 1));
