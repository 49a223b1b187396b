/* A reason given by SCHEDOP_shutdown_code is the one that counts when the domain then shuts down with another (sched.h). */
/* outcome: reboot */
#include "xenkit.h"

static void code(void)
{
    u32 reason = SHUTDOWN_reboot;
    CHECK_EQ("shutdown_code", hc_sched(SCHEDOP_shutdown_code, &reason), 0);
}

PROBE(TEST(code, 1));
